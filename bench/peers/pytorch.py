#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's LSTM on the CPU: usage: OMP_NUM_THREADS=N bench/peers/pytorch.py T B I H forward|train

A training step is forward, backward to the parameters from a fixed gradient of y, and Adam; x takes no gradient. Prints the milliseconds
(median of repetitions of about 20 ms), and the version with the BLAS.
"""
import os
import sys

import torch

from report import report

steps, rows, inputs, hidden = map(int, sys.argv[1:5])
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
lstm = torch.nn.LSTM(inputs, hidden)
adam = torch.optim.Adam(lstm.parameters())
x, gy = torch.rand(steps, rows, inputs) * 2 - 1, torch.randn(steps, rows, hidden) * 0.1
state = (torch.rand(1, rows, hidden) - 0.5, torch.rand(1, rows, hidden) - 0.5)


def forward():
    with torch.no_grad():
        lstm(x, state)


def train():
    adam.zero_grad()
    y, _ = lstm(x, state)
    y.backward(gy)
    adam.step()


def blas():
    """The library that is mapped: Debian's torch takes what the alternatives of libblas.so.3 say."""
    with open("/proc/self/maps") as maps:
        names = {line.split()[-1].rsplit("/", 1)[-1] for line in maps if "blas" in line or "mkl" in line}
    return ", ".join(sorted(names)) or "none"


report(forward if sys.argv[5] == "forward" else train, "PyTorch %s (%s)" % (torch.__version__, blas()))

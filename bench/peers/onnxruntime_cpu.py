#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ONNX Runtime's LSTM on the CPU, forward: usage: OMP_NUM_THREADS=N bench/peers/onnxruntime_cpu.py T B I H FILE.onnx

Prints the milliseconds of a pass (median of repetitions of about 20 ms) and the version.
"""
import os
import sys

import numpy
import onnxruntime

from report import report

steps, rows, inputs, hidden = map(int, sys.argv[1:5])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
session = onnxruntime.InferenceSession(sys.argv[5], options, providers=["CPUExecutionProvider"])
random = numpy.random.default_rng(1)
feeds = {
    "x": random.uniform(-1, 1, (steps, rows, inputs)).astype("float32"),
    "h0": random.uniform(-0.5, 0.5, (1, rows, hidden)).astype("float32"),
    "c0": random.uniform(-0.5, 0.5, (1, rows, hidden)).astype("float32"),
}
report(lambda: session.run(None, feeds), "ONNX Runtime " + onnxruntime.__version__)

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The peer of the reference network's training step: PyTorch's LSTM(1, 50) alone, one window of one step, with Adam, on the CPU.

Prints the median and the least milliseconds of a step with one and with two threads. Run it beside
`vklstm train data/airpassengers.csv --target passengers --json` (seconds by steps), on the same machine in the same minute.
"""
import statistics
import time

import torch


def step_time(threads, steps=300, rounds=9):
    torch.set_num_threads(threads)
    lstm = torch.nn.LSTM(1, 50)
    adam = torch.optim.Adam(lstm.parameters())
    x, gy = torch.randn(1, 1, 1), torch.randn(1, 1, 50)
    state = (torch.randn(1, 1, 50), torch.randn(1, 1, 50))

    def step():
        adam.zero_grad()
        y, _ = lstm(x, state)
        y.backward(gy)
        adam.step()

    for _ in range(steps):
        step()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        times.append((time.perf_counter() - begin) / steps * 1e3)
    return statistics.median(times), min(times)


for threads in (1, 2):
    print("PyTorch %s, %d threads: median %.4f ms, least %.4f ms" % ((torch.__version__, threads) + step_time(threads)))

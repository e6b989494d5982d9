# SPDX-License-Identifier: MIT
"""What the peers in Python share: timing as `vklstm bench` does it."""
import statistics
import time

REPETITION_SECONDS = 0.02
REPEAT = 11
MOST_SECONDS = 3.0


def report(call, name):
    """Prints the median milliseconds of a call, and who it is."""
    for _ in range(3):
        begin = time.perf_counter()
        call()
        once = time.perf_counter() - begin
    count = max(1, min(2000, int(1.2 * REPETITION_SECONDS / max(once, 1e-6))))
    times = []
    while len(times) < REPEAT and (len(times) < 3 or sum(times) < MOST_SECONDS):
        begin = time.perf_counter()
        for _ in range(count):
            call()
        times.append(time.perf_counter() - begin)
    print("%.6g %s" % (statistics.median(times) / count * 1e3, name))

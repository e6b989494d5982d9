#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tables of what bench/compare.sh measured: usage: bench/peers/summary.py RAW

Ratios are those of medians, peer to ours: above 1 we are faster. Behind them the least and the largest ratio of one round.
"""
import collections
import statistics
import sys

times = collections.defaultdict(list)  # (driver, shape, pass, who): one for each round
names = {}
for line in open(sys.argv[1]):
    driver, shape, what, who, milliseconds, name = line.rstrip("\n").split("\t")
    times[driver, shape, what, who].append(float(milliseconds))
    names[who, driver if who == "vklstm" else ""] = name


def shape_text(shape):
    return " ".join(letter + number for letter, number in zip("TBIH", shape.split(",")))


def spread(values, digits=3):
    median = "%.*g" % (digits, statistics.median(values))
    return median if len(values) == 1 else "%s (%.*g to %.*g)" % (median, digits, min(values), digits, max(values))


for what, title in (("forward", "Forward pass, ms"), ("train", "Training step, ms")):
    rows = [key for key in times if key[2] == what and key[3] != "vklstm"]
    alone = [key for key in times if key[2] == what and not any(key[:2] == row[:2] for row in rows)]
    if not rows and not alone:
        continue
    print("%s\n\n| device | shape | vklstm | peer | its time | ratio |\n|---|---|---|---|---|---|" % title)
    for driver, shape, _, who in sorted(rows + alone):
        ours = times[driver, shape, what, "vklstm"]
        text = "| %s | %s | %s |" % (driver, shape_text(shape), spread(ours) if ours else "-")
        theirs = times[driver, shape, what, who]
        if who == "vklstm":
            print(text, "| | |")
            continue
        ratio = "-"
        if ours:
            by_round = [b / a for a, b in zip(ours, theirs)]
            ratio = "**%.2f** (%.2f to %.2f)" % (statistics.median(theirs) / statistics.median(ours), min(by_round), max(by_round))
        print(text, "%s | %s | %s |" % (who, spread(theirs), ratio))
    print()
if any(key[2] == "gemm" for key in times):
    print("Product of 256 x 256 x 256, GFLOP/s\n\n| device | vklstm |\n|---|---|")
    for key in sorted(key for key in times if key[2] == "gemm"):
        print("| %s | %s |" % (key[0], spread([2 * 256**3 / t * 1e-6 for t in times[key]])))
    print()
for (who, driver), name in sorted(names.items()):
    print("%s: %s" % (driver or who, name))

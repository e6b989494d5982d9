#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How time grows with T, N and H: usage: bench/scaling.py [--rounds N] [--device NAME]... [--picture FILE.png] VKLSTM

Times an LSTM at four sizes of each, the others fixed, forward and training, and fits time = c size^e by least squares of the logarithms. Prints a
table in Markdown, with the exponent of the arithmetic beside it; draws the curves with gnuplot. Each time is the least of all repetitions of some
rounds, which go through all sizes in turn: what the machine does beside only adds to it. Devices are selectors of the command [cpu and vulkan:llvmpipe].
"""
import argparse
import json
import math
import os
import subprocess

BASE = {"T": 100, "N": 32, "I": 8, "H": 64}
SIZES = {"T": (50, 100, 200, 400), "N": (16, 32, 64, 128), "H": (32, 64, 128, 256)}
OPTIONS = {"T": "--seq", "N": "--batch", "I": "--input", "H": "--hidden"}
PASSES = ("forward", "train")
TITLES = {"forward": "forward", "train": "training step"}
COLORS = {"forward": "#0072b2", "train": "#d55e00"}


def measure(command, device, shape, what):
    arguments = [command, "bench", "--json", "--device", device, "--pass", what, "--repeat", "9"]
    for letter, size in shape.items():
        arguments += [OPTIONS[letter], str(size)]
    result = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    return result["min_ms"], result["gflops"] * result["median_ms"], result["device"]


def exponent(sizes, values):
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)


def draw(path, devices, times, arithmetic):
    """One row of plots for each device; dotted: the arithmetic, from the curve's first point on."""
    script = ["set terminal pngcairo size 1200,%d font 'sans,11'" % (60 + 330 * len(devices)), "set output '%s'" % path]
    script += ["set multiplot layout %d,3" % len(devices), "set logscale xy", "set grid xtics ytics lt 1 lc rgb '#dddddd'", "set border 3"]
    script += ["set tics nomirror", "set format y '%g'", "set key top left Left reverse samplen 2"]
    for device in devices:
        for letter, sizes in SIZES.items():
            script.append("set title '%s'" % device["name"].replace("'", ""))
            script.append("set xlabel '%s (%s)'" % (letter, ", ".join("%s %d" % i for i in BASE.items() if i[0] != letter)))
            script.append("set ylabel 'ms'")
            script.append("set xtics (%s)" % ", ".join(str(size) for size in sizes))
            script.append("set xrange [%g:%g]" % (sizes[0] / 1.15, sizes[-1] * 1.15))
            curves, data = [], []
            for what in PASSES:
                ours = [times[device["selector"], what, letter, size] for size in sizes]
                work = [arithmetic[what, letter, size] for size in sizes]
                style = "lc rgb '%s' " % COLORS[what]
                curves.append("'-' with linespoints pt 7 ps 0.8 lw 2 %s title '%s'" % (style, TITLES[what]))
                curves.append("'-' with lines dt 3 lw 1.5 %s %s" % (style, "notitle" if what == "train" else "title 'as the arithmetic'"))
                data += ["%g %g" % pair for pair in zip(sizes, ours)] + ["e"]
                data += ["%g %g" % (size, ours[0] * flops / work[0]) for size, flops in zip(sizes, work)] + ["e"]
            script += ["plot " + ", ".join(curves)] + data
    subprocess.run(["gnuplot"], check=True, input="\n".join(script + ["unset multiplot", ""]), text=True)


def main():
    parser = argparse.ArgumentParser(description="How time grows with T, N and H.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", action="append")
    parser.add_argument("--picture")
    parser.add_argument("command")
    given = parser.parse_args()
    selectors = given.device or ["cpu", "vulkan:llvmpipe"]
    command = os.path.realpath(given.command)
    times, arithmetic, names = {}, {}, {}
    for _ in range(given.rounds):
        for letter, sizes in SIZES.items():
            for size in sizes:
                for selector in selectors:
                    for what in PASSES:
                        ms, flops, names[selector] = measure(command, selector, dict(BASE, **{letter: size}), what)
                        key = selector, what, letter, size
                        times[key] = min(ms, times.get(key, ms))
                        arithmetic[what, letter, size] = flops
    print("| device | pass | by | sizes | ms | exponent of time | of arithmetic |\n|---|---|---|---|---|---|---|")
    for selector in selectors:
        for what in PASSES:
            for letter, sizes in SIZES.items():
                ours = [times[selector, what, letter, size] for size in sizes]
                work = [arithmetic[what, letter, size] for size in sizes]
                row = [names[selector], TITLES[what], letter, ", ".join(map(str, sizes))]
                row += [", ".join("%.3g" % ms for ms in ours), "%.2f" % exponent(sizes, ours), "%.2f" % exponent(sizes, work)]
                print("| " + " | ".join(row) + " |")
    if given.picture:
        draw(given.picture, [{"selector": selector, "name": names[selector]} for selector in selectors], times, arithmetic)


if __name__ == "__main__":
    main()

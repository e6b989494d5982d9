#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How the set-up of scripts/demo.sh was chosen: by validation errors alone, never by the test part.

usage: bench/choose_setup.py VKLSTM [DATA.csv]

Trains every set-up of the grid on the part of the airline passengers before the test part (the last third), with validation parts of
24, 36 and 48 months at its end (rolling origins) and five seeds, and ranks the set-ups by the mean of the validation errors. Errors of
the test part are not looked at.
"""
import itertools
import json
import statistics
import subprocess
import sys

VALIDATION = (24 / 96, 36 / 96, 48 / 96)
SEEDS = range(1, 6)
GRID = {
    "--difference": (1, 12),
    "--window": (6, 12, 13, 24),
    "--batch-size": (4, 16),
    "--learning-rate": (0.001, 0.005),
}


def validation_error(command, data, options, split, seed):
    arguments = [command, "train", data, "--target", "passengers", "--log", "--device", "cpu", "--json", "--quiet"]
    arguments += ["--test-split", str(48 / 144), "--validation-split", str(split), "--patience", "20", "--seed", str(seed)]
    done = subprocess.run(arguments + options, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["validation"]["rmse"]


def main():
    command = sys.argv[1]
    data = sys.argv[2] if len(sys.argv) > 2 else "data/airpassengers.csv"
    ranking = []
    for values in itertools.product(*GRID.values()):
        options = [text for pair in zip(GRID, map(str, values)) for text in pair]
        errors = [
            statistics.mean(validation_error(command, data, options, split, seed) for seed in SEEDS) for split in VALIDATION
        ]
        ranking.append((statistics.mean(errors), errors, " ".join(options)))
    for mean, errors, options in sorted(ranking):
        print(f"{mean:6.2f}  ({', '.join(f'{error:.2f}' for error in errors)})  {options}")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# demo.sh : installs what is missing, builds, trains an LSTM on the airline passengers, and puts its errors beside three forecasts
# that need no training: on the device that "auto" takes and on Vulkan, side by side. Results are in out/.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install-dependencies.sh build

build=build/demo
if [ ! -f "$build/build.ninja" ]; then
    echo "Configuring $build"
    mkdir -p "$build"
    meson setup "$build" --buildtype release -Dvulkan=enabled -Dtools=enabled -Dcsv=enabled -Dtests=disabled -Dexamples=disabled \
        >"$build/setup.txt" || { cat "$build/setup.txt"; exit 1; }
fi
echo "Building $build"
ninja -C "$build" --quiet
vklstm=$build/tools/vklstm

mkdir -p out
# One step ahead; the last third of the series is the test part. The set-up is the best of bench/choose_setup.py, which looks at
# validation parts alone and never at the test part. Early stopping finds the number of epochs on a validation part; --refit then
# trains on everything before the test part for as many.
data=data/airpassengers.csv
setup=(--target passengers --log --difference 12 --window 13 --layers lstm:50,dense:1 --batch-size 16 --learning-rate 0.005 --epochs 100
    --validation-split 0.25 --patience 20 --refit --test-split 0.3333 --season 12)

train() { # DEVICE RESULT.json OPTIONS...
    local device=$1 result=$2
    shift 2
    printf '\nTraining with --device %s\n' "$device"
    "$vklstm" train "$data" "${setup[@]}" --device "$device" --json "$@" >"$result"
}
device_of() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["device"])' "$1"
}

# auto takes a GPU, else the CPU backend; vulkan takes a GPU, else lavapipe
results=(out/result.json out/result-vulkan.json)
train auto out/result.json --output out/airpassengers.safetensors --history out/history.csv --plot out/forecast.svg
train vulkan out/result-vulkan.json --plot out/forecast.png
if [ "$(device_of out/result.json)" = "$(device_of out/result-vulkan.json)" ]; then
    train cpu out/result-cpu.json
    results=(out/result.json out/result-cpu.json)
fi
"$vklstm" predict out/airpassengers.safetensors "$data" --steps 12 --output out/forecast.csv

python3 - "${results[@]}" <<'PYTHON'
import json
import sys

results = [json.load(open(path)) for path in sys.argv[1:]]
test = results[0]["test"]


def row(name, values):
    print(f"{name:<30}" + "".join(f"{value:>40}" for value in values).rstrip())


def number(value, form):
    return "-" if value is None else format(value, form)


print("\nErrors on the test part (thousands of passengers, one month ahead)")
row("", [result["device"][:38] for result in results])
for key, name in (("rmse", "LSTM: RMSE"), ("mae", "LSTM: MAE"), ("mape", "LSTM: MAPE, %")):
    row(name, [number(result["test"][key], ".2f") for result in results])
row("seconds of training", [number(result["seconds"], ".1f") for result in results])
for key, name in (
    ("persistence_rmse", "last value: RMSE"),
    ("seasonal_naive_rmse", "a year ago: RMSE"),
    ("seasonal_naive_drift_rmse", "a year ago, with drift: RMSE"),
):
    row(name, [number(test[key], ".2f")])
PYTHON

echo
echo "In out/: result.json and result-vulkan.json (the errors), forecast.svg and forecast.png (the pictures of the first and of the Vulkan"
echo "run), forecast.csv (the next 12 months), history.csv (the loss of each epoch), airpassengers.safetensors (the model)"

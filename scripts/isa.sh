#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# isa.sh [--fetch] [OPTION...] : what compilers make of the kernels that the planner picks for their chips: a row for each kernel, its
# specialization constants and chip, with registers, what is kept in memory, shared memory, occupancy, instructions, static cycles, and what the
# hot loop consists of. No card is needed, and nothing runs on one.
#
# With Debian 12's RADV alone: five chips of AMD. --fetch (root, 600 MB, once) adds the compilers of Mesa 26 for 22 chips of AMD, Intel, NVIDIA and
# Adreno, in build/rigs, where scripts/matrix.sh has them too; what is there is used. Other options are those of tests/rigs/isa.py:
#   --chip TEXT  --kernel TEXT    those alone      --markdown  --check      --foreign DIR    other shaders beside ours
# docs/performance.md says what the columns mean.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/isa rigs=build/rigs
options=()
if [ "${1:-}" = --fetch ]; then
    shift
    tests/rigs/mesa-prefix.sh "$rigs/mesa-26" trixie-backports,trixie
    tests/rigs/shims.sh "$rigs/shims" >"$rigs/shims.txt" 2>&1 || {
        tail -n 5 "$rigs/shims.txt" >&2
        exit 1
    }
fi
if [ -e "$rigs/mesa-26/complete" ] && [ -e "$rigs/shims/complete" ]; then
    options+=(--mesa26 "$rigs/mesa-26" --shims "$rigs/shims")
fi
if [ ! -f "$build/build.ninja" ]; then
    mkdir -p "$build"
    meson setup "$build" -Dtests=enabled -Dvulkan=enabled >"$build/setup.txt" 2>&1 || {
        cat "$build/setup.txt" >&2
        exit 1
    }
fi
ninja -C "$build" --quiet tests/variants tests/statistics | grep -v '^ninja: no work to do' >&2 || [ "${PIPESTATUS[0]}" -eq 0 ]
exec tests/rigs/isa.py "$build" "$build/chips" "${options[@]}" "$@"

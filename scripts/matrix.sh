#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# matrix.sh [PART...] : what scripts/test.sh leaves out, because it takes long and downloads much; by hand or nightly. Parts:
#   rows       the stages swiftshader, validation and sanitizers of scripts/test.sh with every row of their tables
#   faults     every allocation and every Vulkan call of a visit to the library fails in turn, under the system's validation layer
#   lanes      the operator tests on the system's lavapipe with 4, 8 and 16 lanes
#   mesa       the same on the lavapipe of Mesa 25 and of Mesa 26, there with cooperative matrices too
#   compilers  the kernels that the planner picks through the compilers of AMD's, Intel's, NVIDIA's and Adreno's chips, without the chips
# docs/testing.md says what they prove. Everything is made under build/ and used again: build/rigs has about 600 MB.
#
# With CI set in the environment, what cannot be run here counts as a failure. The last line is "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
all_parts=(rows faults lanes mesa compilers)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${all_parts[@]}")
build=$root/build/matrix
rigs=$root/build/rigs
processes=2

passed=0 failed=0
report=()

say() {
    printf '\n== %s\n' "$*"
}
result() { # WHAT RESULT...: a row of the summary
    local what=$1
    shift
    report+=("$(printf '%-26s %s' "$what" "$*")")
}
pass() { # WHAT RESULT...
    passed=$((passed + 1))
    result "$@"
}
fail() { # WHAT RESULT...
    failed=$((failed + 1))
    printf 'FAILED: %s: %s\n' "$1" "${*:2}"
    result "$1" "FAILED: ${*:2}"
}
cannot() { # WHAT REASON...: what this machine cannot run
    if [ -n "${CI:-}" ]; then
        fail "$@" "(in CI, what is skipped has failed)"
    else
        printf 'SKIPPED: %s: %s\n' "$1" "${*:2}"
        result "$1" "skipped: ${*:2}"
    fi
}

# One build serves every Mesa: its programs take the dynamic linker, and with it the libraries, from build/matrix/mesa, a link that
# use_mesa() changes.
build_tests() {
    local options=(-Dtests=enabled -Dtools=enabled -Dexamples=disabled -Dvulkan=enabled "-Dc_link_args=-Wl,--dynamic-linker=$build/mesa/dynamic-linker -Wl,--disable-new-dtags -Wl,-rpath,$build/mesa/libraries")
    if [ "$(cat "$build/options.txt" 2>/dev/null)" != "${options[*]}" ]; then
        rm -rf "$build"
        mkdir -p "$build/system"
        ln -s "$(readelf -l "$(command -v sh)" | sed -n 's/.*program interpreter: \(.*\)\]/\1/p')" "$build/system/dynamic-linker"
        use_mesa "$build/system"
        meson setup "$build" "${options[@]}" >"$build/setup.txt" 2>&1 || {
            cat "$build/setup.txt"
            return 1
        }
        echo "${options[*]}" >"$build/options.txt"
    fi
    use_mesa "$build/system"
    ninja -C "$build" -j "$processes" --quiet | grep -v '^ninja: no work to do' || [ "${PIPESTATUS[0]}" -eq 0 ]
}
use_mesa() { # DIRECTORY: made by mesa-prefix.sh, or that of the system
    ln -sfn "$1" "$build/mesa"
}

run_operator() { # WHAT: the operator tests, in the environment of the caller
    local what=$1 device log status=0 ok bad
    log=$build/$(tr -cs 'A-Za-z0-9\n' - <<<"$what").txt
    device=$("$build/tools/vklstm" info | awk '/llvmpipe/ {here = 1} here && /driver|subgroups/ {print}')
    # nothing would be shown if the lanes were the usual ones, or the driver the system's
    if ! grep -q "$expected" <<<"$device"; then
        fail "$what" "expected $expected, but the device is: $device"
        return
    fi
    meson test -C "$build" --no-rebuild --num-processes 1 --setup lavapipe --suite operator --print-errorlogs >"$log" 2>&1 || status=$?
    grep -E '^ *[0-9]+/[0-9]+ ' "$log" || true
    ok=$(awk '/^Ok: / {print $2}' "$log")
    bad=$(awk '/^(Fail|Timeout|Skipped|Unexpected Pass): / {n += $NF} END {print n + 0}' "$log")
    if [ "$status" -eq 0 ] && [ "$bad" -eq 0 ] && [ "${ok:-0}" -gt 0 ]; then
        pass "$what" "$ok programs, $(sed -n 's/^ *driver *//p' <<<"$device"), $(grep -o 'subgroups of [0-9]*' <<<"$device")"
    else
        sed -n '/^===/,$p' "$log"
        fail "$what" "$bad of $((${ok:-0} + bad)) programs, status $status; $log"
    fi
}

part_rows() {
    local log=$root/build/matrix-rows.txt status=0
    VKL_TEST_ROWS=1 scripts/test.sh swiftshader validation sanitizers >"$log" 2>&1 || status=$?
    grep -E '^ *[0-9]+/[0-9]+ ' "$log" || true
    if [ "$status" -eq 0 ]; then
        pass "every row" "$(tail -n 1 "$log")"
    else
        fail "every row" "$(tail -n 1 "$log"); $log"
    fi
}

part_faults() {
    build_tests || return 1
    local kind device log status
    for kind in "memory cpu" "memory vulkan:llvmpipe" "vulkan vulkan:llvmpipe"; do
        read -r kind device <<<"$kind"
        log=$build/faults-$kind-${device%:*}.txt status=0
        LP_NUM_THREADS=0 VKL_TEST_DEVICE=$device VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
            "$build/tests/faults" "$kind" >"$log" 2>&1 || status=$?
        cat "$log"
        if [ "$status" -eq 0 ]; then
            pass "$kind fails, $device" "$(sed -n "s/.*: \([0-9]*\) failed in turn.*/\1/p" "$log" | awk "{n += \$1} END {print n}") in turn, none crashed"
        else
            fail "$kind fails, $device" "status $status; $log"
        fi
    done
}

part_lanes() {
    build_tests || return 1
    local lanes
    for lanes in 4 8 16; do
        LP_NATIVE_VECTOR_WIDTH=$((32 * lanes)) expected="subgroups of $lanes\>" run_operator "lavapipe, $lanes lanes"
    done
}

mesa_suites() { # VERSION: the Debian suites that it is unpacked from
    case $1 in
    25) echo bookworm-backports,bookworm ;;
    26) echo trixie-backports,trixie ;;
    esac
}

part_mesa() {
    build_tests || return 1
    local version prefix manifest
    for version in 25 26; do
        prefix=$rigs/mesa-$version
        if ! tests/rigs/mesa-prefix.sh "$prefix" "$(mesa_suites "$version")"; then
            cannot "lavapipe, Mesa $version" "it could not be fetched"
            continue
        fi
        use_mesa "$prefix"
        manifest=$(compgen -G "$prefix/usr/share/vulkan/icd.d/lvp_icd.*")
        VK_ICD_FILENAMES=$manifest VK_DRIVER_FILES=$manifest expected="Mesa $version\." run_operator "lavapipe, Mesa $version"
    done
    use_mesa "$build/system"
    if [ -e "$rigs/mesa-26/run" ]; then
        cooperative "$rigs/mesa-26"
    fi
}
cooperative() { # PREFIX: with its compiler, which knows cooperative matrices as its lavapipe does
    local prefix=$1 manifest tool build=$root/build/matrix-cooperative
    mkdir -p "$root/build/compiler"
    for tool in glslc spirv-val; do
        printf '#!/bin/sh\nexec "%s/run" - %s "$@"\n' "$prefix" "$tool" >"$root/build/compiler/$tool"
        chmod +x "$root/build/compiler/$tool"
    done
    PATH=$root/build/compiler:$PATH build_tests || return 1
    if ! grep -q 'Cooperative matrices *: YES' "$build/setup.txt"; then
        cannot "cooperative matrices" "the compiler of $prefix does not know them"
        return
    fi
    use_mesa "$prefix"
    manifest=$(compgen -G "$prefix/usr/share/vulkan/icd.d/lvp_icd.*")
    VK_ICD_FILENAMES=$manifest VK_DRIVER_FILES=$manifest expected="Mesa 26\." run_operator "cooperative matrices"
    use_mesa "$build/system"
}

part_compilers() {
    build_tests || return 1
    ninja -C "$build" -j "$processes" --quiet tests/variants tests/statistics | grep -v '^ninja: no work to do' || [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
    local options=() verdict chip summary log=$build/chips.txt status=0
    rm -rf "$build/chips"
    if tests/rigs/mesa-prefix.sh "$rigs/mesa-25" "$(mesa_suites 25)"; then
        options+=(--mesa25 "$rigs/mesa-25")
    else
        cannot "RADV, Mesa 25" "it could not be fetched"
    fi
    if ! tests/rigs/mesa-prefix.sh "$rigs/mesa-26" "$(mesa_suites 26)"; then
        cannot "compilers of Mesa 26" "it could not be fetched"
    elif ! tests/rigs/shims.sh "$rigs/shims" >"$rigs/shims.txt" 2>&1; then
        tail -n 5 "$rigs/shims.txt"
        cannot "compilers of Mesa 26" "the shims could not be built"
    else
        options+=(--mesa26 "$rigs/mesa-26" --shims "$rigs/shims")
    fi
    tests/rigs/isa.py "$build" "$build/chips" "${options[@]}" --check --selftest --jobs "$processes" >"$log" || status=$?
    while IFS=$'\t' read -r verdict chip summary; do
        case $verdict in
        ok) pass "$chip" "$summary" ;;
        FAILED) fail "$chip" "$summary" ;;
        skipped) cannot "$chip" "$summary" ;;
        *) printf '%s\n' "$verdict" ;; # what is wrong with the chip before it
        esac
    done <"$log"
    [ "$status" -le 1 ] || return 1
}

say dependencies
start=$SECONDS
scripts/install-dependencies.sh test
for part in "${parts[@]}"; do
    if [[ " ${all_parts[*]} " != *" $part "* ]]; then
        echo "matrix.sh: no part \"$part\"; there are: ${all_parts[*]}" >&2
        exit 2
    fi
    say "$part"
    begin=$SECONDS
    # bash ignores set -e inside: what must not fail says so there
    "part_$part" || fail "$part" "could not be run"
    result "" "$part: $((SECONDS - begin)) s"
done

printf '\n'
printf '%s\n' "${report[@]}"
printf 'in %d s\n' $((SECONDS - start))
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# matrix.sh [PART...] : what scripts/test.sh leaves out, because it takes long and downloads much; by hand or nightly. Parts:
#   lanes      the operator tests on the system's lavapipe with 4, 8 and 16 lanes
#   mesa       the same on the lavapipe of Mesa 25 and of Mesa 26
#   compilers  every shader in every form through the compilers of AMD's, Intel's, NVIDIA's and Adreno's chips, without the chips
# docs/testing.md says what they prove. Everything is made under build/ and used again: build/rigs has about 600 MB.
#
# With CI set in the environment, what cannot be run here counts as a failure. The last line is "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
all_parts=(lanes mesa compilers)
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
}

# Forms of those shaders that have several (specialization constant 1); what each means stands in shaders/interface.h.
declare -A forms=([gemm]="0 1 2" [gemm_direct]="0 1 2" [norm]="0 1" [optimizer]="0 1 2 3" [spread]="0 1")
# for devices that are CPUs: never chosen on a chip, and allowed to keep variables in memory there
software_only=gemm_direct

list_variants() { # "SHADER FORM" a line
    local source name form
    for source in shaders/*.comp; do
        name=$(basename "$source" .comp)
        if grep -q 'constant_id = [^0]' "$source" && [ -z "${forms[$name]:-}" ]; then
            echo "matrix.sh: $source has forms, but no row here" >&2
            return 1
        fi
        for form in ${forms[$name]:-0}; do
            echo "$name $form"
        done
    done
}

compile_all() { # FILE COMMAND...: every variant by COMMAND, which runs a program on a chip; a line of FILE for each
    local file=$1 name form output status
    shift
    while read -r name form; do
        status=0
        output=$(MESA_SHADER_CACHE_DISABLE=1 timeout 120 "$@" "$build/statistics" "$build/shaders/$name.spv" 64 "$form" 2>"$file.errors") || status=$?
        [ "$status" -eq 0 ] || output="status $status: $(tail -n 1 "$file.errors")"
        printf '%s/%s\t%s\n' "$name" "$form" "$output"
    done <"$build/variants.txt" >"$file"
    rm -f "$file.errors"
}

chips=() # "COMPILER CHIP", in the order of the table
start_chip() { # COMPILER CHIP COMMAND...
    local compiler=$1 chip=$2
    shift 2
    while [ "$(jobs -rp | wc -l)" -ge "$processes" ]; do
        wait -n || true
    done
    chips+=("$compiler $chip")
    compile_all "$build/chips/${compiler// /-}-$chip.txt" "$@" &
}

# First a summary of a file of compile_all, then a line for each variant that is not as it must be. What an invocation keeps in memory
# is called scratch by RADV and ANV, SLM by NVK, and STP and LDP (stores and loads) by Turnip.
judge() { # FILE
    awk -F '\t' -v software_only="$software_only" '
        $2 !~ /; .*=/ {
            complaints = complaints "\n" $1 " does not compile: " $2
            next
        }
        {
            compiled++
            split($1, shader, "/")
            if (shader[1] == software_only)
                next
            memory = ""
            count = split($2, field, "; ")
            for (i = 1; i <= count; i++) {
                split(field[i], pair, "=")
                number = pair[2] + 0
                if (pair[1] ~ /^(Scratch|Spill|Fill|SLM|STP|LDP)/ && pair[1] !~ / reg$/ && number > 0)
                    memory = memory ", " field[i]
                if (pair[1] ~ /^(VGPRs|Max live registers|Number of GPRs|Registers used)$/ && number > most) {
                    most = number
                    largest = $1
                }
            }
            if (memory != "") {
                bad++
                complaints = complaints "\n" $1 " keeps variables in memory: " substr(memory, 3)
            }
        }
        END {
            printf "%d of %d compiled, %d in memory, most registers %d (%s)%s\n", compiled, NR, bad, most, largest, complaints
        }' "$1"
}

start_shims() { # COMPILER SHIM DRIVER VARIABLE CHIP...: on Mesa 26
    local compiler=$1 library=$rigs/shims/lib$2_noop_drm_shim.so driver=$3 variable=$4 chip
    shift 4
    for chip in "$@"; do
        start_chip "$compiler" "$chip" env "$variable=$chip" PRELOAD="$library" "$rigs/mesa-26/run" "$driver"
    done
}

start_system_radv() { # RADV of Debian 12 needs no device when it is told the chip; a newer system's may not have this
    local manifest chip
    manifest=$(compgen -G '/usr/share/vulkan/icd.d/radeon_icd*.json' | head -n 1) || true
    if [ -z "$manifest" ] || ! "$build/tools/vklstm" info | grep -q 'Mesa 22\.3\.'; then
        echo "This system has no RADV of Mesa 22.3; that of Mesa 25 is used alone."
        return
    fi
    for chip in polaris10 vega10 navi10 navi21 gfx1100; do
        start_chip "RADV 22" $chip env VK_ICD_FILENAMES="$manifest" RADV_FORCE_FAMILY=$chip
    done
}

part_compilers() {
    build_tests || return 1
    cc -std=c11 -O2 -Wall -Wextra -Werror tests/rigs/statistics.c -o "$build/statistics" -lvulkan || return 1
    list_variants >"$build/variants.txt" || return 1
    rm -rf "$build/chips"
    mkdir -p "$build/chips"
    local chip row verdict

    start_system_radv
    if tests/rigs/mesa-prefix.sh "$rigs/mesa-25" "$(mesa_suites 25)"; then
        for chip in navi21 navi31 gfx1201; do
            start_chip "RADV 25" $chip env RADV_FORCE_FAMILY=$chip "$rigs/mesa-25/run" radeon
        done
    else
        cannot "RADV, Mesa 25" "it could not be fetched"
    fi
    if ! tests/rigs/mesa-prefix.sh "$rigs/mesa-26" "$(mesa_suites 26)"; then
        cannot "compilers of Mesa 26" "it could not be fetched"
    elif ! tests/rigs/shims.sh "$rigs/shims" >"$rigs/shims.txt" 2>&1; then
        tail -n 5 "$rigs/shims.txt"
        cannot "compilers of Mesa 26" "the shims could not be built"
    else
        start_shims "RADV 26" amdgpu radeon AMDGPU_GPU_ID polaris10 vega10 navi10 navi21 navi31 gfx1150
        start_shims "ANV 26" intel intel INTEL_STUB_GPU_PLATFORM skl tgl dg2 mtl lnl bmg
        start_shims "NVK 26" nouveau nouveau NOUVEAU_CHIPSET 120 132 140 162 172 192 1b2
        start_shims "Turnip 26" freedreno freedreno FD_GPU_ID 630 660 740
    fi
    wait

    for row in "${chips[@]}"; do
        mapfile -t verdict < <(judge "$build/chips/${row// /-}.txt")
        if [ ${#verdict[@]} -eq 1 ]; then
            pass "$row" "${verdict[0]}"
        else
            printf "FAILED: $row: %s\n" "${verdict[@]:1}"
            failed=$((failed + 1))
            result "$row" "${verdict[0]}: FAILED"
        fi
    done
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

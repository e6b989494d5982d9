#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# compare.sh [OPTION...] VKLSTM : the command VKLSTM beside its peers on this machine, alternately, in several rounds; medians and ratios.
#
#   --rounds N          rounds [5]
#   --set NAME          cpu, vulkan or gemm; may be repeated [all three]
#   --shapes LIST       of T,B,I,H, separated by spaces [those of the set]
#   --torch PYTHON      a Python with PyTorch [/usr/bin/python3: Debian's python3-torch]
#   --onnxruntime PY    a Python with ONNX Runtime [python3]
#   --modules DIR       a folder with node_modules of onnxruntime-node, and of @tensorflow/tfjs, @tensorflow/tfjs-backend-webgpu and webgpu:
#                           npm install --ignore-scripts onnxruntime-node @tensorflow/tfjs @tensorflow/tfjs-backend-webgpu webgpu
#   --mesa PREFIX       a newer Mesa, unpacked, with a program PREFIX/run ICD PROGRAM [ARGUMENT...] that runs others on it
#   --swiftshader JSON  the manifest of SwiftShader
#   --tensorflow        with TensorFlow.js, in the first round alone: it takes seconds a pass
#   --raw FILE          keep the single times, too [none]
#
# cpu:    the CPU backend; training steps and forward beside PyTorch, forward beside ONNX Runtime; peers with one and with two threads.
# vulkan: on each driver that is there, forward beside ONNX Runtime's WebGPU provider, and both passes beside TensorFlow.js. Ours waits for
#         each iteration of the forward pass as the peer does (bench --latency).
# gemm:   the product of 256 x 256 x 256 on each driver, in GFLOP/s.
# No peer computes the gradient of x. Times are milliseconds: in each round a process of its own takes the median of up to eleven repetitions.
# A peer that is not there, or does not run, is named at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

rounds=5 sets=() shapes='' torch=/usr/bin/python3 onnxruntime=python3 modules='' mesa='' swiftshader='' tensorflow='' raw=''
while [ $# -gt 1 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --set) sets+=("$2") ;;
    --shapes) shapes=$2 ;;
    --torch) torch=$2 ;;
    --onnxruntime) onnxruntime=$2 ;;
    --modules) modules=$(cd "$2" && pwd) ;;
    --mesa) mesa=$(cd "$2" && pwd) ;;
    --swiftshader) swiftshader=$2 ;;
    --raw) raw=$2 ;;
    --tensorflow)
        tensorflow=1
        shift
        continue
        ;;
    *) break ;;
    esac
    shift 2
done
if [ $# -ne 1 ] || [[ $1 == -* ]]; then
    sed -n '4,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
[ ${#sets[@]} -gt 0 ] || sets=(cpu vulkan gemm)
vklstm=$(realpath "$1")
node=$(command -v node || true)
[ -z "$node" ] || node=$(realpath "$node")
system=$(ldconfig -p | awk '/libjansson/ {sub("/[^/]*$", "", $NF); if (!n++) print $NF}') # what the prefix's own loader would not find
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ -n "$raw" ] || raw=$work/raw
: >"$raw"
: >"$work/absent"
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work} # Dawn asks for it

absent() {
    grep -qxF "$*" "$work/absent" || echo "$*" >>"$work/absent"
}

# run DRIVER PROGRAM ARGUMENT...: on this driver alone
run() {
    local driver=$1
    shift
    case $driver in
    cpu) timeout 600 "$@" ;;
    lavapipe) VK_LOADER_DRIVERS_SELECT='*lvp*' timeout 600 "$@" ;;
    lavapipe-newer) LD_LIBRARY_PATH=$system timeout 600 "$mesa/run" lvp "$@" ;;
    swiftshader) VK_ICD_FILENAMES=$swiftshader timeout 600 "$@" ;;
    esac
}

# record DRIVER SHAPE PASS WHO COMMAND...: the command's first word is its time, the rest its name
record() {
    local driver=$1 shape=$2 pass=$3 who=$4 out
    shift 4
    if grep -qxF "$driver $who" "$work/broken" 2>/dev/null; then
        return
    fi
    if ! out=$(run "$driver" "$@" 2>"$work/error" | tail -n 1) || [[ ! $out =~ ^[0-9] ]]; then
        echo "$driver $who" >>"$work/broken"
        absent "$who on $driver: $(grep -m 1 -oiE '(error:|no module|failed to).*' "$work/error" | sed 's/.*Failed/Failed/' || echo "does not run")"
        return
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$driver" "$shape" "$pass" "$who" "${out%% *}" "${out#* }" >>"$raw"
    printf '%s %s %s: %s %s\n' "$driver" "$shape" "$pass" "$who" "${out%% *}" >&2
}

options_of() { # SHAPE: as vklstm takes it
    IFS=, read -r steps rows inputs hidden <<<"$1"
    echo "--seq $steps --batch $rows --input $inputs --hidden $hidden"
}

model_of() { # SHAPE: an ONNX file
    local file=$work/$1.onnx
    [ -f "$file" ] || python3 "$here/peers/lstm_onnx.py" ${1//,/ } "$file"
    echo "$file"
}

measure_ours() { # DRIVER SHAPE PASS OPTIONS...
    local driver=$1 shape=$2 pass=$3 device=vulkan
    shift 3
    [ "$driver" != cpu ] || device=cpu
    record "$driver" "$shape" "$pass" vklstm "$vklstm" bench --brief --device $device $(options_of "$shape") --pass "$pass" "$@"
}

round_cpu() {
    local shape threads
    for shape in ${shapes:-1,1,1,50 100,32,8,64 64,32,128,256 50,64,512,512 100,1,128,256}; do
        measure_ours cpu "$shape" forward
        for threads in 1 2; do
            record cpu "$shape" forward "ONNX Runtime, $threads thread$([ $threads -eq 1 ] || echo s)" env OMP_NUM_THREADS=$threads "$onnxruntime" \
                "$here/peers/onnxruntime_cpu.py" ${shape//,/ } "$(model_of "$shape")"
            record cpu "$shape" forward "PyTorch, $threads thread$([ $threads -eq 1 ] || echo s)" env OMP_NUM_THREADS=$threads "$torch" \
                "$here/peers/pytorch.py" ${shape//,/ } forward
        done
        measure_ours cpu "$shape" train
        for threads in 1 2; do
            record cpu "$shape" train "PyTorch, $threads thread$([ $threads -eq 1 ] || echo s)" env OMP_NUM_THREADS=$threads "$torch" \
                "$here/peers/pytorch.py" ${shape//,/ } train
        done
    done
}

drivers() {
    echo lavapipe
    [ -z "$mesa" ] || echo lavapipe-newer
    [ -z "$swiftshader" ] || echo swiftshader
}

round_vulkan() { # ROUND
    local driver shape pass
    for driver in $(drivers); do
        for shape in ${shapes:-1,1,1,50 100,32,8,64 64,32,128,256 100,1,128,256}; do
            measure_ours "$driver" "$shape" forward --latency
            if [ -n "$node" ] && [ -n "$modules" ]; then
                record "$driver" "$shape" forward "ONNX Runtime WebGPU" "$node" "$here/peers/onnxruntime_webgpu.mjs" "$modules" \
                    ${shape//,/ } "$(model_of "$shape")"
            fi
            measure_ours "$driver" "$shape" train
            [ -n "$tensorflow" ] && [ "$1" -eq 1 ] && [ -n "$node" ] && [ -n "$modules" ] || continue
            case $shape in 100,32,8,64 | 64,32,128,256) ;; *) continue ;; esac
            for pass in forward train; do
                record "$driver" "$shape" $pass "TensorFlow.js WebGPU" "$node" "$here/peers/tensorflowjs_webgpu.mjs" "$modules" \
                    ${shape//,/ } $pass
            done
        done
    done
}

round_gemm() {
    local driver
    for driver in cpu $(drivers); do
        local device=vulkan
        [ "$driver" != cpu ] || device=cpu
        record "$driver" 256,256,256 gemm vklstm "$vklstm" bench --brief --device $device --gemm 256,256,256
    done
}

[ -n "$modules" ] || absent "ONNX Runtime WebGPU and TensorFlow.js: no --modules"
[ -n "$mesa" ] || absent "a newer lavapipe: no --mesa"
[ -n "$swiftshader" ] || absent "SwiftShader: no --swiftshader"
for ((round = 1; round <= rounds; round++)); do
    for name in "${sets[@]}"; do
        "round_$name" "$round"
    done
done
python3 "$here/peers/summary.py" "$raw"
[ ! -s "$work/absent" ] || { echo && echo "Not measured:" && sed 's/^/- /' "$work/absent"; }

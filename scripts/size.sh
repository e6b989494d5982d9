#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# size.sh BUILD... : bytes of the library in each build directory, stripped; of the shaders in it; and of what the CPU backend's kernels take.
set -euo pipefail
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
for build in "$@"; do
    echo "$build"
    shared=$(find "$build/lib" -maxdepth 1 -name 'libvklstm.so.*.*' -type f -print -quit)
    if [ -n "$shared" ]; then
        strip -o "$temporary/shared" "$shared"
        printf '  %-44s %9d\n' "shared library, stripped" "$(stat -c %s "$temporary/shared")"
    fi
    if [ -e "$build/lib/libvklstm.a" ]; then
        strip --strip-unneeded -o "$temporary/static.a" "$build/lib/libvklstm.a"
        printf '  %-44s %9d\n' "static library, stripped" "$(stat -c %s "$temporary/static.a")"
        # ARCHIVE's members: text, data and bss of each
        size "$temporary/static.a" | awk '
            NR > 1 { all += $4 }
            $6 ~ /^(elementwise|gemm|gemm_split|kernels|lstm|moves|narrow|point|probe|reduce|sequence|sequence_direct|step|wave|vector_.*|levels)\.c\.o$/ { cpu += $4 }
            END { printf "  %-44s %9d\n  %-44s %9d\n", "code and data in it", all, "  of which kernels of the CPU backend", cpu }'
    fi
    if compgen -G "$build/shaders/*.spv" >/dev/null; then
        printf '  %-44s %9d\n' "  of which SPIR-V ($(find "$build/shaders" -name '*.spv' | wc -l) modules)" \
            "$(find "$build/shaders" -name '*.spv' -printf '%s\n' | awk '{n += $1} END {print n}')"
    fi
done

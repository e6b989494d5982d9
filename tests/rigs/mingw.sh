#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mingw.sh DIR : what a build for Windows needs beside mingw-w64, once: jansson, from the source of the system's package, the Vulkan headers of the
# system, and DIR/machine.ini, a cross file that says where both are, and Wine where that is here. No root is needed.
#     meson setup BUILD --cross-file tests/rigs/mingw-w64.ini --cross-file DIR/machine.ini
set -euo pipefail
mkdir -p "${1:?usage: mingw.sh DIR}"
dir=$(cd "$1" && pwd)
host=x86_64-w64-mingw32

if [ ! -e "$dir/lib/libjansson.a" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "mingw.sh: this system has no apt; put jansson for $host at $dir yourself" >&2
        exit 1
    fi
    temporary=$(mktemp -d)
    trap 'rm -rf "$temporary"' EXIT
    chmod 755 "$temporary"
    # the archive of the system's binary packages, asked for sources, with lists of its own
    apt-get indextargets --format '$(SIGNED_BY)|$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' 'Component: main' |
        grep -vE '[-](security|updates|backports|proposed)|security[.]' | sort -u | sed -n 1p |
        awk -F'|' '{print "deb-src " ($1 ~ /^\// ? "[signed-by=" $1 "] " : "") $2 " " $3 " main"}' >"$temporary/sources.list"
    mkdir -p "$temporary/lists/partial" "$temporary/source"
    options=(-q -o Dir::Etc::SourceList="$temporary/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$temporary/lists"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    apt-get "${options[@]}" update
    (
        cd "$temporary/source"
        apt-get "${options[@]}" source --download-only jansson 2>&1 | { grep -v 'unsandboxed as root' || true; }
        tar xf jansson_*.orig.tar.*
    )
    source=$(find "$temporary/source" -mindepth 1 -maxdepth 1 -type d -print -quit)
    cmake -G Ninja -S "$source" -B "$temporary/build" -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_C_COMPILER=$host-gcc-posix -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_PREFIX="$dir" -DCMAKE_INSTALL_LIBDIR=lib -DJANSSON_BUILD_DOCS=OFF -DJANSSON_WITHOUT_TESTS=ON -DJANSSON_EXAMPLES=OFF
    cmake --build "$temporary/build"
    cmake --install "$temporary/build"
fi

# the headers alone, without those of the C library that lie beside them
include=$(pkg-config --variable=includedir vulkan)
mkdir -p "$dir/vulkan" "$dir/lib/pkgconfig"
for part in vulkan vk_video; do
    [ ! -d "${include:-/usr/include}/$part" ] || ln -sfn "${include:-/usr/include}/$part" "$dir/vulkan/$part"
done
cat >"$dir/lib/pkgconfig/vulkan.pc" <<P
includedir=$dir/vulkan
Name: vulkan
Description: Vulkan headers
Version: $(pkg-config --modversion vulkan)
Cflags: -I\${includedir}
P
{
    echo "[properties]"
    echo "pkg_config_libdir = '$dir/lib/pkgconfig'"
    if wine=$(command -v wine64 || command -v /usr/lib/wine/wine64 || command -v wine); then
        echo "[binaries]"
        echo "exe_wrapper = '$wine'"
    else
        echo "needs_exe_wrapper = true"
    fi
} >"$dir/machine.ini"

#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# install-dependencies.sh [build|test] : installs what is missing for the build (default), or for the build and the tests.
#
# A need is met when its probe succeeds, wherever it came from (a package, a Vulkan SDK). What is missing is installed with apt on
# Debian and Ubuntu, as root or with sudo; on other systems it is listed. Where nothing is missing, neither root nor a network is used.
# A name in parentheses is a need that one can do without: it comes with the others, but alone it is no reason to install anything.
set -euo pipefail

# name | probe | Debian and Ubuntu package
build_needs='
meson|command meson|meson
ninja|command ninja|ninja-build
a C compiler|command cc|gcc
the C library headers|header stdio.h|libc6-dev
pkg-config|command pkg-config|pkg-config
glslc (shaderc)|command glslc|glslc
spirv-val (SPIRV-Tools)|command spirv-val|spirv-tools
Vulkan headers and loader|module vulkan|libvulkan-dev
lavapipe (Mesa Vulkan drivers)|manifest icd.d/lvp_icd|mesa-vulkan-drivers
jansson|module jansson|libjansson-dev
libcsv|header csv.h|libcsv-dev
popt|module popt|libpopt-dev
gnuplot|command gnuplot|gnuplot-nox
'
test_needs='
Criterion|module criterion|libcriterion-dev
Vulkan validation layers|manifest explicit_layer.d/VkLayer_khronos_validation|vulkan-validationlayers
a C++ compiler|command c++|g++
CMake|command cmake|cmake
Doxygen|command doxygen|doxygen
mingw-w64|command x86_64-w64-mingw32-gcc-posix|gcc-mingw-w64-x86-64-posix
(Wine)|file /usr/lib/wine/wine64|wine64
(volk)|header volk.c|libvulkan-volk-dev
(clang-format 14)|command clang-format-14|clang-format-14
(libpng)|module libpng|libpng-dev
(GLFW)|module glfw3|libglfw3-dev
'

probe() { # KIND VALUE
    case $1 in
    command) command -v "$2" >/dev/null ;;
    file) [ -e "$2" ] ;;
    module) command -v pkg-config >/dev/null && pkg-config --exists "$2" ;;
    header) command -v cc >/dev/null && echo "#if !__has_include(<$2>)
#error missing
#endif" | cc -E - >/dev/null 2>&1 ;;
    manifest) compgen -G "/usr/share/vulkan/$2*.json" >/dev/null || compgen -G "/usr/local/share/vulkan/$2*.json" >/dev/null ||
        compgen -G "/etc/vulkan/$2*.json" >/dev/null ;;
    esac
}

find_missing() {
    missing_names=() missing_packages=() optional_packages=()
    local name kind value package
    while IFS='|' read -r name probe package; do
        [ -n "$name" ] || continue
        read -r kind value <<<"$probe"
        if probe "$kind" "$value"; then
            continue
        elif [ "${name:0:1}" = '(' ]; then
            optional_packages+=("$package")
        else
            missing_names+=("$name")
            missing_packages+=("$package")
        fi
    done <<<"$needs"
}

list_missing() {
    printf '  %s\n' "${missing_names[@]}"
}

case ${1:-build} in
build) needs=$build_needs ;;
test) needs=$build_needs$test_needs ;;
*)
    echo "usage: install-dependencies.sh [build|test]" >&2
    exit 2
    ;;
esac

find_missing
[ ${#missing_names[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    {
        echo "install-dependencies.sh: this system has no apt. Install these with its own package manager, then run again:"
        list_missing
    } >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        {
            echo "install-dependencies.sh: these packages are missing, and installing them needs root, but there is no sudo. As root, run:"
            echo "  apt-get update && apt-get install --no-install-recommends ${missing_packages[*]}"
        } >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "Installing: ${missing_packages[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get -q update
for package in "${optional_packages[@]}"; do
    [ -z "$(apt-cache madison "$package")" ] || missing_packages+=("$package")
done
unknown=()
for package in "${missing_packages[@]}"; do
    [ -n "$(apt-cache madison "$package")" ] || unknown+=("$package")
done
if [ ${#unknown[@]} -gt 0 ]; then
    {
        echo "install-dependencies.sh: this release of the system has no package of these names: ${unknown[*]}"
        echo "Ubuntu has some of them in its universe component only, and glslc from 23.04 on; the Vulkan SDK has glslc too."
    } >&2
    exit 1
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing_packages[@]}"

find_missing
if [ ${#missing_names[@]} -gt 0 ]; then
    {
        echo "install-dependencies.sh: still not found after the installation:"
        list_missing
    } >&2
    exit 1
fi

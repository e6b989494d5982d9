#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# mesa-prefix.sh PREFIX SUITE[,SUITE...] : unpacks another Debian suite's Mesa into PREFIX, once, with its loader and every library they
# need, the C library included (about 350 MB). No root, no chroot; nothing is installed, and apt's own sources stay as they are.
# Mesa comes from the first suite: bookworm-backports,bookworm  trixie-backports,trixie  sid
#
# PREFIX/run DRIVER PROGRAM [ARGUMENT...] then runs a program, built here, on it. DRIVER: lvp, radeon, intel, nouveau, freedreno.
# With PRELOAD=FILE in the environment, that library is preloaded. A program of Criterion must be linked for PREFIX/dynamic-linker and
# PREFIX/libraries instead, as scripts/matrix.sh does: it finds no tests where another program has started it.
set -euo pipefail
usage='usage: mesa-prefix.sh PREFIX SUITE[,SUITE...]'
mkdir -p "${1:?$usage}"
prefix=$(cd "$1" && pwd)
suites=${2:?$usage}
[ "$(cat "$prefix/complete" 2>/dev/null)" != "$suites" ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "mesa-prefix.sh: this system has no apt" >&2
    exit 1
fi
# MIRROR (environment): another archive than the one that apt has here
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | sed -n 1p)}
if [ -z "$mirror" ]; then
    echo "mesa-prefix.sh: apt has no Debian archive here; name one in MIRROR" >&2
    exit 1
fi

# An apt with lists of its own, that believes nothing to be installed: what it downloads is complete.
rm -rf "$prefix"
apt=$prefix/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/preferences" "$apt/none"
touch "$apt/status"
cat >"$apt/archive.sources" <<S
Types: deb
URIs: $mirror
Suites: ${suites//,/ }
Components: main
S
cat >"$apt/preferences/first.pref" <<P
Package: *
Pin: release n=${suites%%,*}
Pin-Priority: 990
P
own_apt() {
    apt-get -q -y -o Dir::Etc::SourceList="$apt/archive.sources" -o Dir::Etc::SourceParts="$apt/none" \
        -o Dir::Etc::PreferencesParts="$apt/preferences" -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" -o Dir::Cache::archives="$apt/archives" \
        -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Debug::NoLocking=true "$@" >>"$prefix/apt.log" 2>&1
}
if ! own_apt update || ! own_apt install --download-only mesa-vulkan-drivers libvulkan1; then
    tail -n 5 "$prefix/apt.log" >&2
    exit 1
fi
for package in "$apt"/archives/mesa-vulkan-drivers_*.deb; do
    dpkg-deb --field "$package" Version >"$prefix/version"
done
for package in "$apt"/archives/*.deb; do
    dpkg-deb -x "$package" "$prefix"
done
rm -rf "$apt"
# all libraries in one place, also of a suite that still has a /lib beside /usr/lib
for directory in lib lib64; do
    if [ -d "$prefix/$directory" ]; then
        cp -a "$prefix/$directory/." "$prefix/usr/lib/"
        rm -rf "${prefix:?}/$directory"
    fi
done
for directory in "$prefix"/usr/lib/*-linux-gnu*; do
    ln -s "usr/lib/${directory##*/}" "$prefix/libraries"
done
for linker in "$prefix"/libraries/ld-linux*.so.*; do
    ln -s "libraries/${linker##*/}" "$prefix/dynamic-linker"
done

# These libraries work with their own C library alone, so a program is started by the prefix's own dynamic linker.
cat >"$prefix/run" <<'R'
#!/bin/sh
prefix=$(cd "$(dirname "$0")" && pwd)
driver=$1
shift
for manifest in "$prefix"/usr/share/vulkan/icd.d/"${driver}"_icd.*; do
    export VK_ICD_FILENAMES="$manifest" VK_DRIVER_FILES="$manifest"
done
export VK_LOADER_LAYERS_DISABLE='~implicit~'
exec "$prefix/dynamic-linker" ${PRELOAD:+--preload "$PRELOAD"} --library-path "$prefix/libraries" "$@"
R
chmod +x "$prefix/run"
echo "$suites" >"$prefix/complete"

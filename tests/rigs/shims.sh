#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# shims.sh DIR : builds Mesa's drm-shims into DIR, once: lib{amdgpu,intel,nouveau,freedreno}_noop_drm_shim.so.
#
# Preloaded, a shim pretends to be the kernel's driver of a chip: RADV, ANV, NVK or Turnip then starts without the chip and compiles for it;
# what is submitted is accepted and never run. Debian has them as source alone. Needs root: they are built in a chroot of Debian 13
# (debootstrap), whose Meson is new enough; it takes about 1 GB and three minutes, and is removed again.
set -euo pipefail
mkdir -p "${1:?usage: shims.sh DIR}"
dir=$(cd "$1" && pwd)
[ ! -e "$dir/complete" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "shims.sh: a chroot needs root" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "shims.sh: this system has no apt" >&2
    exit 1
fi
# MIRROR (environment): another archive than the one that apt has here
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | sed -n 1p)}
if [ -z "$mirror" ]; then
    echo "shims.sh: apt has no Debian archive here; name one in MIRROR" >&2
    exit 1
fi

chroot=$dir/chroot
remove_chroot() { # never what may still be mounted in it
    if grep -q " $chroot/" /proc/mounts; then
        echo "shims.sh: something is mounted in $chroot, which stays" >&2
    else
        rm -rf --one-file-system "$chroot"
    fi
}
trap remove_chroot EXIT
remove_chroot
mkdir -p "$chroot" "$dir/debootstrap"
(
    cd "$dir/debootstrap"
    apt-get -q download debootstrap 2>&1 | grep -v "unsandboxed as root" || true
    dpkg-deb -x debootstrap_*.deb .
)
export DEBOOTSTRAP_DIR=$dir/debootstrap/usr/share/debootstrap
"$dir/debootstrap/usr/sbin/debootstrap" --variant=minbase \
    --include=bison,dpkg-dev,flex,g++,gcc,libc6-dev,libdrm-dev,libelf-dev,libexpat1-dev,meson,ninja-build,pkg-config,python3-mako,python3-packaging,python3-yaml,xz-utils,zlib1g-dev \
    trixie "$chroot" "$mirror"
rm -rf "$dir/debootstrap"
echo "deb-src $mirror trixie main" >>"$chroot/etc/apt/sources.list"
cat >"$chroot/root/build" <<'B'
set -eu
export LANG=C.UTF-8
cd /root
apt-get -q update
apt-get -q source --download-only mesa
mkdir mesa
tar xf mesa_*.orig.tar.xz -C mesa --strip-components=1
cd mesa
# The shims of Mesa 25.0 drive the compilers of 26 after two changes. RADV 26 wants a kernel that is newer than the one reported, ...
sed -i 's/version_minor = 49/version_minor = 61/' src/amd/drm-shim/amdgpu_noop_drm_shim.c
# ... and NVK knows Ada (19x) and Blackwell (1bx), which the shim does not name.
chip='device_info.chip_id'
sed -i -e 's/^\( *\)case 0x170:/\1case 0x1b0:\n\1case 0x190:\n\1case 0x170:/' \
    -e "s/= AMPERE_DMA_COPY_A;/= $chip >= 0x1b0 ? 0xcab5 : $chip >= 0x190 ? 0xc7b5 : AMPERE_DMA_COPY_A;/" \
    -e "s/= GA102_3D_CLASS;/= $chip >= 0x1b0 ? 0xce97 : $chip >= 0x190 ? 0xc997 : GA102_3D_CLASS;/" \
    -e "s/= GA102_COMPUTE_CLASS;/= $chip >= 0x1b0 ? 0xcec0 : $chip >= 0x190 ? 0xc9c0 : GA102_COMPUTE_CLASS;/" \
    src/nouveau/drm-shim/nouveau_noop.c
meson setup build --wrap-mode=nodownload -Dbuildtype=release -Dtools=drm-shim,intel -Dvulkan-drivers= \
    -Dgallium-drivers=crocus,nouveau,r600,freedreno -Dplatforms= -Dglx=disabled -Degl=disabled -Dgbm=disabled -Dllvm=disabled \
    -Dgles1=disabled -Dgles2=disabled -Dopengl=false -Dshared-glapi=disabled -Dvideo-codecs= -Dshader-cache=disabled \
    -Dzstd=disabled -Dlibunwind=disabled -Dlmsensors=disabled -Dvalgrind=disabled
ninja -j2 -C build src/amd/drm-shim/libamdgpu_noop_drm_shim.so src/intel/tools/libintel_noop_drm_shim.so \
    src/nouveau/drm-shim/libnouveau_noop_drm_shim.so src/freedreno/drm-shim/libfreedreno_noop_drm_shim.so
B
chroot "$chroot" sh /root/build
cp "$chroot"/root/mesa/build/src/*/*/lib*_noop_drm_shim.so "$dir/"
touch "$dir/complete"

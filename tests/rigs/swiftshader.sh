#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# swiftshader.sh DIR : fetches SwiftShader and a current Khronos validation layer into DIR, once.
#
# Both are in Debian's chromium-common package, which is unpacked and not installed: no root is needed. SwiftShader is the
# strictest Vulkan device there is (workgroups of 256, offsets aligned to 256, no 16-bit and no 64-bit types), and a
# second implementation, unrelated to Mesa. The layer finds hazards between dispatches that Debian 12's own does not.
set -euo pipefail
mkdir -p "${1:?usage: swiftshader.sh DIR}"
dir=$(cd "$1" && pwd)
[ ! -e "$dir/complete" ] || exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "swiftshader.sh: this system has no apt; put a directory with vk_swiftshader_icd.json at $dir yourself" >&2
    exit 1
fi
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
cd "$temporary"
fetch() {
    # root's downloads belong to the user _apt where that user may write here; it may not, and apt warns about it
    apt-get -q download chromium-common 2>&1 | grep -v "unsandboxed as root" || true
    compgen -G 'chromium-common_*.deb' >/dev/null
}
if ! fetch; then
    # no package lists yet, or lists older than the archive
    if [ "$(id -u)" -eq 0 ]; then
        apt-get -q update
    elif command -v sudo >/dev/null; then
        sudo apt-get -q update
    fi
    fetch || {
        echo "swiftshader.sh: apt has no package chromium-common (Debian has it, Ubuntu has not)" >&2
        exit 1
    }
fi
dpkg-deb -x chromium-common_*.deb x
for name in libvk_swiftshader.so vk_swiftshader_icd.json libVkLayer_khronos_validation.so; do
    file=$(find x -name "$name" -print -quit)
    [ -n "$file" ] || {
        echo "swiftshader.sh: the package holds no $name" >&2
        exit 1
    }
    cp "$file" "$dir/"
done
# the package has the layer without a manifest
cat >"$dir/VkLayer_khronos_validation.json" <<'J'
{
  "file_format_version": "1.2.0",
  "layer": {
    "name": "VK_LAYER_KHRONOS_validation",
    "type": "GLOBAL",
    "library_path": "./libVkLayer_khronos_validation.so",
    "api_version": "1.4.0",
    "implementation_version": "1",
    "description": "Khronos validation layer",
    "instance_extensions": [
      {"name": "VK_EXT_debug_utils", "spec_version": "2"},
      {"name": "VK_EXT_validation_features", "spec_version": "2"},
      {"name": "VK_EXT_layer_settings", "spec_version": "2"}
    ]
  }
}
J
touch "$dir/complete"

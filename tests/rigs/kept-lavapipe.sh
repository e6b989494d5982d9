#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# kept-lavapipe.sh DIR : makes DIR/icd.json, a manifest of the system's lavapipe that is never unloaded.
#
# The loader unloads a driver with its last instance. Lavapipe then leaves 128 bytes behind that only its own variables pointed to, and
# LeakSanitizer reports them without the name of a module, which no suppression can match. An empty library that needs the driver
# and is marked nodelete keeps it where it is: then there is no leak to report.
set -euo pipefail
mkdir -p "${1:?usage: kept-lavapipe.sh DIR}"
dir=$(cd "$1" && pwd)
cc -shared -o "$dir/libkept_lavapipe.so" -Wl,-z,nodelete -Wl,--no-as-needed -l:libvulkan_lvp.so
cat >"$dir/icd.json" <<J
{"file_format_version": "1.0.0", "ICD": {"library_path": "$dir/libkept_lavapipe.so", "api_version": "1.3.0"}}
J

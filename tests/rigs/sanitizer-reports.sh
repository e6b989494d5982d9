#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# sanitizer-reports.sh DIR : prints the reports that the sanitizers left in DIR (their log_path), and fails if there is any.
#
# One kind is let by: a leak whose allocation was made from a module that is no longer loaded. That is the Vulkan driver
# (lavapipe leaves 128 bytes behind when the loader unloads it); code of ours is never unloaded.
set -euo pipefail
shopt -s nullglob
bad=0
for file in "${1:?usage: sanitizer-reports.sh DIR}"/*; do
    # every "leak of" block is the driver's, and there is no error of another kind
    if grep -q 'ERROR: LeakSanitizer' "$file" && ! grep -qE 'ERROR: AddressSanitizer|runtime error' "$file" &&
        awk '/leak of/ {leaks++} /^ *#1 / && /<unknown module>/ {drivers++} END {exit !(leaks > 0 && leaks == drivers)}' "$file"; then
        continue
    fi
    cat "$file"
    bad=1
done
exit $bad

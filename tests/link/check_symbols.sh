#!/bin/sh
# SPDX-License-Identifier: MIT
#
# check_symbols.sh NM STATIC SHARED : neither library has a symbol under a name of Vulkan's or volk's, or needs libvulkan, or has a variable
# that a program could change; the shared one exports vkl_ names alone. Each library may be "-".
set -eu
nm=$1
failed=0

# report TEXT LINES
report() {
    if [ -n "$2" ]; then
        printf '%s:\n%s\n' "$1" "$2"
        failed=1
    fi
}

if [ "$2" != - ]; then
    symbols=$("$nm" -A "$2")
    [ -n "$symbols" ] || { echo "$2 has no symbols"; exit 1; }
    report "$2 defines or uses names of Vulkan or volk" "$(printf '%s\n' "$symbols" | grep -E ' (vk[A-Z]|volk)' || :)"
    # constants with pointers in them lie in .data.rel.ro, what a thread has of its own in .tbss; a sanitizer's names begin with two underscores
    report "$2 has global state" \
        "$("$nm" -A -f sysv "$2" | grep -E '\|(\.bss|\.data|\*COM\*)' | grep -vE '\.data\.rel\.ro|:__' || :)"
fi
if [ "$3" != - ]; then
    symbols=$("$nm" -D --defined-only "$3")
    [ -n "$symbols" ] || { echo "$3 exports nothing"; exit 1; }
    report "$3 exports other names than vkl_" "$(printf '%s\n' "$symbols" | grep -vE ' vkl_[a-z0-9_]+$' || :)"
    report "$3 needs names of Vulkan" "$("$nm" -D --undefined-only "$3" | grep -E ' vk[A-Z]' || :)"
fi
exit $failed

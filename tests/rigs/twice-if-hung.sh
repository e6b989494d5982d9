#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# twice-if-hung.sh SECONDS PROGRAM [ARGUMENT...] : runs a test program, and once more if it has not ended after so many seconds.
#
# Criterion forks for each test while threads of its own allocate. The sanitizers' allocator is not made for that: rarely (seen twice in a few
# thousand forks, with gcc 14) a child is born with a lock that nobody will open, before its test has begun. A test that hangs by itself
# hangs twice, and fails by Meson's time limit.
set -u
limit=$1
shift
"$@" &
program=$!
for ((tenths = 0; tenths < limit * 10; tenths++)); do
    if ! kill -0 "$program" 2>/dev/null; then
        wait "$program"
        exit $?
    fi
    sleep 0.1
done
echo "no end after $limit s: once more" >&2
children=$(cat "/proc/$program/task"/*/children)
kill -KILL "$program" $children
wait "$program" 2>/dev/null
exec "$@"

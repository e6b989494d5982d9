#!/bin/sh
# SPDX-License-Identifier: MIT
#
# silent.sh PROGRAM ARGUMENTS... : runs a program, and fails too if a validation layer that the environment has switched on had something to say. For
# programs that have no messenger of their own: the layer then writes to the output.
output=$("$@" 2>&1)
status=$?
printf '%s\n' "$output"
[ $status -eq 0 ] || exit $status
! printf '%s\n' "$output" | grep -q -E 'Validation (Error|Warning|Performance)|VUID-|SYNC-HAZARD|UNASSIGNED-'

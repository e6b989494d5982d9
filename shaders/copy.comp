/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Arena { float arena[]; };
layout(binding = 1) buffer Other0 { float other0[]; };
layout(binding = 2) buffer Other1 { float other1[]; };
layout(binding = 3) buffer Other2 { float other2[]; };
layout(push_constant) uniform Push { VklCopyArgs args; };

/* Which buffer a piece copies to is settled by a branch: indexing an array of buffers is an optional feature of devices. */
#define PIECE(mode, other, at, to)   \
    if (mode == VKL_COPY_LOAD)       \
        arena[to] = other[at];       \
    else if (mode == VKL_COPY_STORE) \
        other[at] = arena[to];       \
    else if (mode == VKL_COPY_ADD)   \
        arena[to] += other[at];      \
    else                             \
        arena[to] = 0.0;

void main()
{
    uint index = linear_index();
    if (index < args.count0) {
        uint at = args.off1 + index, to = args.off0 + args.at0 + index;
        PIECE(args.mode0, other0, at, to)
        return;
    }
    index -= args.count0;
    if (index < args.count1) {
        uint at = args.off2 + index, to = args.off0 + args.at1 + index;
        PIECE(args.mode1, other1, at, to)
        return;
    }
    index -= args.count1;
    if (index < args.count2) {
        uint at = args.off3 + index, to = args.off0 + args.at2 + index;
        PIECE(args.mode2, other2, at, to)
    }
}

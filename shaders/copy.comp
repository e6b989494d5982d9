/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"
#include "when.glsl"

/* Four numbers for each invocation, as one vector where a piece allows it. */
layout(binding = 0) buffer Arena { float arena[]; };
layout(binding = 0) buffer ArenaWide { vec4 arena_wide[]; };
layout(binding = 1) buffer Other0 { float other0[]; };
layout(binding = 1) buffer Other0Wide { vec4 other0_wide[]; };
layout(binding = 2) buffer Other1 { float other1[]; };
layout(binding = 2) buffer Other1Wide { vec4 other1_wide[]; };
layout(binding = 3) buffer Other2 { float other2[]; };
layout(binding = 3) buffer Other2Wide { vec4 other2_wide[]; };
layout(push_constant) uniform Push { VklCopyArgs args; };

#define COPY(mode, arena, to, other, from, zero) \
    WHEN(mode == VKL_COPY_LOAD)                  \
        arena[to] = other[from];                 \
    WHEN(mode == VKL_COPY_STORE)                 \
        other[from] = arena[to];                 \
    WHEN(mode == VKL_COPY_ADD)                   \
        arena[to] += other[from];                \
    WHEN(mode == VKL_COPY_ZERO)                  \
        arena[to] = zero;

/* Which buffer a piece copies to is settled by a branch: indexing an array of buffers is an optional feature of devices. */
#define PIECE(index, count, mode, at, to, other, other_wide)                                       \
    WHEN(index < fours(count) && wide(at, to, count)) {                                            \
        COPY(mode, arena_wide, (to) / 4u + index, other_wide, (at) / 4u + index, vec4(0.0))        \
    }                                                                                              \
    WHEN(index < fours(count) && !wide(at, to, count))                                             \
        for (uint i = index; i < count; i += fours(count)) {                                       \
            COPY(mode, arena, (to) + i, other, (at) + i, 0.0)                                      \
        }

uint fours(uint count)
{
    return (count + 3u) / 4u;
}

bool wide(uint at, uint to, uint count)
{
    return ((at | to | count) & 3u) == 0u;
}

void main()
{
    uint first = linear_index(), second = first - fours(args.count0), third = second - fours(args.count1);
    PIECE(first, args.count0, args.mode0, args.off1, args.off0 + args.at0, other0, other0_wide)
    PIECE(second, args.count1, args.mode1, args.off2, args.off0 + args.at1, other1, other1_wide)
    PIECE(third, args.count2, args.mode2, args.off3, args.off0 + args.at2, other2, other2_wide)
}

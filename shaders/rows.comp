/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(constant_id = 1) const uint form = VKL_ROWS_LOAD;
layout(constant_id = VKL_SPEC_ROWS_WIDE) const uint WIDE = 0;

layout(binding = 0) buffer Arena { uint arena[]; };
layout(binding = 0) buffer ArenaWide { uvec4 arena_wide[]; };
layout(binding = 1) buffer First { uint first[]; };
layout(binding = 1) buffer FirstWide { uvec4 first_wide[]; };
layout(binding = 2) buffer Second { uint second[]; };
layout(binding = 2) buffer SecondWide { uvec4 second_wide[]; };
layout(binding = 3) readonly buffer Guard { uint guard[]; };
layout(push_constant) uniform Push { VklRowsArgs args; };

uint fours(uint count)
{
    return (count + 3u) / 4u;
}

void main()
{
    uint index = linear_index(), fours0 = fours(args.columns0), all = fours0 + fours(args.columns1);
    if (index >= args.rows * all)
        return;
    uint row = index / all, four = index % all;
    bool in_second = four >= fours0;
    uint columns = in_second ? args.columns1 : args.columns0, column = 4u * (in_second ? four - fours0 : four);
    uint at = args.off0 + (in_second ? args.at1 : args.at0) + row * columns + column;
    uint other = (in_second ? args.off2 : args.off1) + row * columns + column;
    uint count = WIDE != 0u ? 4u : min(columns - column, 4u);
    if (form == VKL_ROWS_LOAD) {
        bool anew = args.guarded != 0u && guard[args.off3 + args.first + row] != 0u;
        if (WIDE != 0u) {
            uvec4 value = uvec4(0u);
            if (!anew)
                value = in_second ? second_wide[other >> 2] : first_wide[other >> 2];
            arena_wide[at >> 2] = value;
        } else {
            for (uint i = 0u; i < count; i++) {
                uint value = 0u;
                if (!anew)
                    value = in_second ? second[other + i] : first[other + i];
                arena[at + i] = value;
            }
        }
    } else {
        if (args.guarded != 0u && args.first + row >= guard[args.off3])
            return;
        if (WIDE != 0u) {
            if (in_second)
                second_wide[other >> 2] = arena_wide[at >> 2];
            else
                first_wide[other >> 2] = arena_wide[at >> 2];
        } else {
            for (uint i = 0u; i < count; i++) {
                if (in_second)
                    second[other + i] = arena[at + i];
                else
                    first[other + i] = arena[at + i];
            }
        }
    }
}

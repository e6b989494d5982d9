/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(constant_id = 1) const uint form = VKL_ROWS_LOAD;

layout(binding = 0) buffer Arena { uint arena[]; };
layout(binding = 1) buffer First { uint first[]; };
layout(binding = 2) buffer Second { uint second[]; };
layout(binding = 3) readonly buffer Guard { uint guard[]; };
layout(push_constant) uniform Push { VklRowsArgs args; };

void main()
{
    uint index = linear_index(), columns = args.columns0 + args.columns1;
    if (index >= args.rows * columns)
        return;
    uint row = index / columns, column = index % columns;
    bool in_second = column >= args.columns0;
    uint at = args.off0 + (in_second ? args.at1 + row * args.columns1 + column - args.columns0 : args.at0 + row * args.columns0 + column);
    uint other = in_second ? args.off2 + row * args.columns1 + column - args.columns0 : args.off1 + row * args.columns0 + column;
    if (form == VKL_ROWS_LOAD) {
        bool anew = args.guarded != 0u && guard[args.off3 + args.first + row] != 0u;
        uint value = 0u;
        if (!anew)
            value = in_second ? second[other] : first[other];
        arena[at] = value;
    } else {
        if (args.guarded != 0u && args.first + row >= guard[args.off3])
            return;
        if (in_second)
            second[other] = arena[at];
        else
            first[other] = arena[at];
    }
}

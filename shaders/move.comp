/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

/* Numbers are copied as bits. */
layout(binding = 0) buffer Dst { uint dst[]; };
layout(binding = 1) readonly buffer Src { uint src[]; };
layout(binding = 2) readonly buffer Lengths { uint lengths[]; };
layout(push_constant) uniform Push { VklMoveArgs args; };

void main()
{
    uint index = linear_index();
    if (index >= args.steps * args.rows * args.columns)
        return;
    uint column = index % args.columns, line = index / args.columns;
    uint row = line % args.rows, step = line / args.rows;
    uint to = args.off0 + step * args.dst_step + row * args.dst_row + column;
    uint from = args.off1 + step * args.src_step + row * args.src_row + column;

    if (args.guard != VKL_MOVE_ALL) {
        bool frozen = args.first_step + step >= lengths[args.off2 + args.first_row + row];
        if (frozen != (args.guard == VKL_MOVE_FROZEN)) {
            if (args.guard == VKL_MOVE_LIVE && args.mode == VKL_MOVE_COPY)
                dst[to] = floatBitsToUint(args.value);
            return;
        }
    }
    if (args.mode == VKL_MOVE_ADD)
        dst[to] = floatBitsToUint(uintBitsToFloat(dst[to]) + uintBitsToFloat(src[from]));
    else
        dst[to] = src[from];
}

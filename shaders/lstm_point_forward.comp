/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) buffer Cell { float c[]; };
layout(binding = 2) buffer Out { float h[]; };
layout(binding = 3) readonly buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklPointForwardArgs args; };

#include "point.glsl"

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units, in_row = row * args.h_ld + unit;

    float state = c[args.off1 + args.c_prev + index], y = 0.0;
    if (frozen(row)) {
        if (args.h_prev != VKL_ABSENT)
            y = h[args.off2 + args.h_prev + in_row];
    } else {
        vec4 rec = vec4(0.0);
        if (args.rec != VKL_ABSENT) {
            uint at = args.rec + row * args.rec_ld + unit * args.unit_stride, step = args.rec_gate_stride;
            rec = vec4(side_at(at), side_at(at + step), side_at(at + 2u * step), side_at(at + 3u * step));
        }
        y = lstm_forward(unit_of(row, unit), rec, state);
    }
    h[args.off2 + args.h_next + in_row] = y;
    c[args.off1 + args.c_next + index] = state;
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) readonly buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklPointForwardArgs args; };

#include "point.glsl"

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units, in_row = row * args.h_ld + unit;

    float y;
    if (frozen(row)) {
        y = h[args.off2 + args.h_prev + in_row];
    } else {
        vec4 rec = vec4(0.0);
        if (args.rec != VKL_ABSENT)
            rec.x = side_at(args.rec + row * args.rec_ld + unit * args.unit_stride);
        y = rnn_forward(unit_of(row, unit), rec);
    }
    h[args.off2 + args.h_next + in_row] = y;
}

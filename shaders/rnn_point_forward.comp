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

    if (frozen(row)) {
        h[args.off2 + args.h_next + in_row] = h[args.off2 + args.h_prev + in_row];
        return;
    }

    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride;
    float raw = gates[at], slope;
    if (args.rec != VKL_ABSENT)
        raw += side_at(args.rec + row * args.rec_ld + unit * args.unit_stride);
    h[args.off2 + args.h_next + in_row] = gate_f(raw, slope);
    if ((args.flags & VKL_POINT_KEEP) != 0u)
        gates[at] = raw;
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) buffer ResetHidden { float rh[]; };
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
    bool first = (args.flags & VKL_POINT_FIRST) != 0u, second = (args.flags & VKL_POINT_SECOND) != 0u;
    uint phase = first ? GRU_FIRST : second ? GRU_SECOND : GRU_AFTER;
    uint rh_at = args.off1 + row * args.c_next + unit, h_at = args.off2 + args.h_next + in_row;
    float h_prev = h[args.off2 + (first ? args.c_prev : args.h_prev) + in_row], y = first ? 0.0 : h_prev;

    if (!frozen(row)) {
        vec4 rec = vec4(0.0);
        if (args.rec != VKL_ABSENT) {
            uint at = args.rec + row * args.rec_ld + unit * args.unit_stride;
            rec.x = side_at(at);
            if (!second)
                rec.y = side_at(at + args.rec_gate_stride);
            if (phase == GRU_AFTER)
                rec.z = side_at(at + 2u * args.rec_gate_stride);
        }
        y = gru_forward(unit_of(row, unit), rec, h_prev, phase);
    }
    if (first)
        rh[rh_at] = y;
    else
        h[h_at] = y;
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer Hidden { float h[]; };
layout(binding = 2) readonly buffer Gy { float gy[]; };
layout(binding = 3) buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklPointBackwardArgs args; };

#include "point.glsl"
#include "point_gradient.glsl"

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units, in_row = row * args.dc_in + unit;
    bool is_frozen = frozen(row);
    if ((args.flags & VKL_POINT_SECOND) != 0u) {
        uint in_side = row * args.rec_ld + unit;
        float back = gru_reset_backward(unit_of(row, unit), is_frozen, side_at(args.rec + in_side), h[args.off1 + args.c_prev + in_row]);
        side[args.off3 + args.dc_out + in_side] = floatBitsToUint(back);
        return;
    }
    uint phase = (args.flags & VKL_POINT_FIRST) != 0u ? GRU_FIRST : GRU_AFTER;
    float h_prev = h[args.off1 + args.c_t + in_row];
    put_carry(index, gru_backward(unit_of(row, unit), is_frozen, gradient_of_h(row, unit), h_prev, phase));
}

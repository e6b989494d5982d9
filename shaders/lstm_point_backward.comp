/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) buffer Cell { float c[]; };
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
    uint unit = index % args.units, row = index / args.units;
    float dc = 0.0;
    if (args.dc_in != VKL_ABSENT)
        dc = c[args.off1 + args.dc_in + index];
    float c_prev = c[args.off1 + args.c_prev + index], c_t = c[args.off1 + args.c_t + index];
    float carry = lstm_backward(unit_of(row, unit), frozen(row), gradient_of_h(row, unit), c_prev, c_t, dc);
    c[args.off1 + args.dc_out + index] = dc;
    put_carry(index, carry);
}

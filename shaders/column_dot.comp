/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Out { float result[]; };
layout(binding = 1) readonly buffer A { float a[]; };
layout(binding = 2) readonly buffer B { float b[]; };
layout(push_constant) uniform Push { VklColumnDotArgs args; };

void main()
{
    uint unit = linear_index();
    if (unit >= args.units)
        return;
    uint a_at = args.off1 + unit * args.a_stride, b_at = args.off2 + unit;
    float sum = 0.0;
    for (uint row = 0u; row < args.rows; row++)
        sum += a[a_at + row * args.a_ld] * b[b_at + row * args.b_ld];
    if (args.accumulate != 0u)
        sum += result[args.off0 + unit];
    result[args.off0 + unit] = sum;
}

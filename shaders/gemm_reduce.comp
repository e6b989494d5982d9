/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

layout(binding = 0) readonly buffer Partial { float partial[]; };
layout(binding = 1) buffer C { float c[]; };
layout(binding = 2) readonly buffer Bias { float bias[]; };
layout(push_constant) uniform Push { VklGemmReduceArgs args; };

void main()
{
    uint index = linear_index();
    if (index >= args.m * args.n)
        return;
    uint row = index / args.n, column = index % args.n, at = args.off1 + row * args.ldc + column;
    float sum = 0.0;
    for (uint slice = 0u; slice < args.slices; slice++)
        sum += partial[args.off0 + slice * args.slice_c + index];
    if (args.accumulate != 0u)
        sum = c[at] + sum;
    for (uint r = 0u; r < args.bias_rows; r++)
        sum += bias[args.off2 + r * args.n + column];
    c[at] = activate(args.activation, sum);
}

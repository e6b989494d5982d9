/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

layout(binding = 0) readonly buffer X { float x[]; };
layout(binding = 1) readonly buffer Params { vec4 params[]; };
layout(binding = 2) readonly buffer Before { float before[]; };
layout(binding = 3) readonly buffer CellBefore { float cell_before[]; };
layout(binding = 4) writeonly buffer After { float after[]; };
layout(binding = 5) writeonly buffer CellAfter { float cell_after[]; };
layout(push_constant) uniform Push { VklOnceArgs args; };

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;
    vec4 pre = vec4(0.0), rec = vec4(0.0);
    uint x_at = args.off0 + row * args.x_ld, w_at = (args.off1 + args.w_ih) / 4u + unit;
    for (uint j = 0u; j < args.inputs; j++)
        pre += x[x_at + j] * params[w_at + j * args.units];
    w_at = (args.off1 + args.bias) / 4u + unit;
    for (uint j = 0u; j < args.bias_rows; j++)
        pre += params[w_at + j * args.units];
    uint h_at = args.off2 + row * args.units;
    w_at = (args.off1 + args.w_hh) / 4u + unit;
    for (uint j = 0u; j < args.k; j++)
        rec += before[h_at + j] * params[w_at + j * args.units];
    pre += rec;

    float i = cell_sigmoid(pre.x), f = cell_sigmoid(pre.y), g = cell_tanh(pre.z), o = cell_sigmoid(pre.w);
    float cell = i * g;
    if (args.has_c != 0u)
        cell += f * cell_before[args.off3 + index];
    cell_after[args.off5 + index] = cell;
    after[args.off4 + index] = o * cell_tanh(cell);
}

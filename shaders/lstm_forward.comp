/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { vec4 w_hh[]; };
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklCellForwardArgs args; };

#define BLOCK 4096u /* terms of a sum that are added at once */

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;

    uint gate = args.off0 + index * 4u;
    vec4 pre = vec4(gates[gate], gates[gate + 1u], gates[gate + 2u], gates[gate + 3u]);
    uint h_at = args.off2 + args.h_prev + row * args.h_ld, w_at = args.off1 / 4u + unit;
    for (uint begin = 0u; begin < args.k; begin += BLOCK) {
        uint end = args.k - begin < BLOCK ? args.k : begin + BLOCK;
        vec4 sum = vec4(0.0);
        for (uint j = begin; j < end; j++)
            sum += h[h_at + j] * w_hh[w_at + j * args.units];
        pre += sum;
    }

    float i = cell_sigmoid(pre.x), f = cell_sigmoid(pre.y), g = cell_tanh(pre.z), o = cell_sigmoid(pre.w);
    float cell = f * c[args.off3 + args.c_prev + index] + i * g;
    c[args.off3 + args.c_next + index] = cell;
    h[args.off2 + args.h_next + row * args.h_ld + unit] = o * cell_tanh(cell);
    if (args.keep != 0u) {
        gates[gate] = i;
        gates[gate + 1u] = f;
        gates[gate + 2u] = g;
        gates[gate + 3u] = o;
    }
}

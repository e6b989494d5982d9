/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { vec4 w_hh[]; };
layout(binding = 2) readonly buffer Dy { float dy[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklCellBackwardArgs args; };

#define BLOCK 4096u /* terms of a sum that are added at once */

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;

    float dh = args.has_dy != 0u ? dy[args.off2 + args.dy_t + row * args.dy_ld + unit] : 0.0;
    if (args.k != 0u) {
        uint next = args.off0 + args.gates_next + row * args.k, w_at = args.off1 / 4u + unit * args.units;
        float total = 0.0;
        for (uint begin = 0u; begin < args.units; begin += BLOCK) {
            uint end = args.units - begin < BLOCK ? args.units : begin + BLOCK;
            vec4 sum = vec4(0.0);
            for (uint j = begin; j < end; j++) {
                uint at = next + j * 4u;
                sum += vec4(gates[at], gates[at + 1u], gates[at + 2u], gates[at + 3u]) * w_hh[w_at + j];
            }
            total += (sum.x + sum.z) + (sum.y + sum.w);
        }
        dh += total;
    }

    uint gate = args.off0 + args.gates_t + index * 4u;
    float i = gates[gate], f = gates[gate + 1u], g = gates[gate + 2u], o = gates[gate + 3u];
    float t = cell_tanh(c[args.off3 + args.c_t + index]);
    float c_prev = c[args.off3 + args.c_prev + index];
    float dc = args.has_dc != 0u ? c[args.off3 + args.dc_in + index] : 0.0;
    float d = dc + dh * o * (1.0 - t * t);
    gates[gate] = d * g * (i * (1.0 - i));
    gates[gate + 1u] = d * c_prev * (f * (1.0 - f));
    gates[gate + 2u] = d * i * (1.0 - g * g);
    gates[gate + 3u] = dh * t * (o * (1.0 - o));
    c[args.off3 + args.dc_out + index] = d * f;
}

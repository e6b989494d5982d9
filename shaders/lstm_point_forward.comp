/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) buffer Cell { float c[]; };
layout(binding = 2) buffer Out { float h[]; };
layout(binding = 3) readonly buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklPointForwardArgs args; };

#include "point.glsl"

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units, in_row = row * args.h_ld + unit;

    float c_prev = c[args.off1 + args.c_prev + index];
    if (frozen(row)) {
        float kept = 0.0;
        if (args.h_prev != VKL_ABSENT)
            kept = h[args.off2 + args.h_prev + in_row];
        h[args.off2 + args.h_next + in_row] = kept;
        c[args.off1 + args.c_next + index] = c_prev;
        return;
    }

    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride, stride = args.gate_stride;
    vec4 pre = vec4(gates[at], gates[at + stride], gates[at + 2u * stride], gates[at + 3u * stride]);
    if (args.rec != VKL_ABSENT) {
        uint rec = args.rec + row * args.rec_ld + unit * args.unit_stride, step = args.rec_gate_stride;
        pre += vec4(side_at(rec), side_at(rec + step), side_at(rec + 2u * step), side_at(rec + 3u * step));
    }
    uint peephole = args.peephole + unit;
    if (args.peephole != VKL_ABSENT) {
        pre.x += side_at(peephole) * c_prev;
        pre.y += side_at(peephole + args.units) * c_prev;
    }

    float slope;
    float i = gate_f(pre.x, slope), f = gate_f(pre.y, slope), g = gate_g(pre.z, slope);
    f = (args.flags & VKL_POINT_COUPLED) != 0u ? 1.0 - i : f;
    float cell = clip(cell_of(f, c_prev, i, g), args.cell_clip);
    if (args.peephole != VKL_ABSENT)
        pre.w += side_at(peephole + 2u * args.units) * cell;
    float o = gate_f(pre.w, slope);

    c[args.off1 + args.c_next + index] = cell;
    h[args.off2 + args.h_next + in_row] = o * gate_h(cell, slope);
    if ((args.flags & VKL_POINT_KEEP) != 0u) {
        gates[at] = pre.x;
        gates[at + stride] = pre.y;
        gates[at + 2u * stride] = pre.z;
        gates[at + 3u * stride] = pre.w;
    }
}

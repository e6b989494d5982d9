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
    bool after = !first && !second, keep = (args.flags & VKL_POINT_KEEP) != 0u;
    uint rh_at = args.off1 + row * args.c_next + unit, h_at = args.off2 + args.h_next + in_row;

    if (frozen(row)) {
        if (first)
            rh[rh_at] = 0.0;
        else
            h[h_at] = h[args.off2 + args.h_prev + in_row];
        return;
    }

    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride, stride = args.gate_stride;
    float n_raw = gates[at], r_raw = gates[at + stride], z_raw = gates[at + 2u * stride], q = 0.0;
    if (args.rec != VKL_ABSENT) {
        uint rec = args.rec + row * args.rec_ld + unit * args.unit_stride;
        if (second) {
            n_raw += side_at(rec);
        } else {
            r_raw += side_at(rec);
            z_raw += side_at(rec + args.rec_gate_stride);
        }
        if (after)
            q = side_at(rec + 2u * args.rec_gate_stride);
    }
    if (after && args.peephole != VKL_ABSENT) {
        r_raw += side_at(args.peephole + unit);
        z_raw += side_at(args.peephole + args.units + unit);
        q += side_at(args.peephole + 2u * args.units + unit);
    }

    float slope;
    if (!second) {
        float r = gate_f(r_raw, slope);
        if (first)
            rh[rh_at] = r * h[args.off2 + args.c_prev + in_row];
        else
            n_raw += r * q;
        if (keep) {
            gates[at + stride] = r_raw;
            gates[at + 2u * stride] = z_raw;
        }
    }
    if (!first) {
        float n = gate_g(n_raw, slope), z = gate_f(z_raw, slope);
        h[h_at] = (1.0 - z) * n + z * h[args.off2 + args.h_prev + in_row];
        if (keep)
            gates[at] = n_raw;
        if (keep && after)
            gates[at + 3u * stride] = q;
    }
}

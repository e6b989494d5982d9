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
    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride, stride = args.gate_stride;
    bool first = (args.flags & VKL_POINT_FIRST) != 0u, is_frozen = frozen(row);
    float slope;

    if ((args.flags & VKL_POINT_SECOND) != 0u) {
        float drh = 0.0, d = 0.0;
        if (!is_frozen) {
            drh = side_at(args.rec + row * args.rec_ld + unit);
            float r = gate_f(gates[at + stride], slope);
            d = drh * h[args.off1 + args.c_prev + in_row] * slope;
            drh *= r;
        }
        gates[at + stride] = d;
        side[args.off3 + args.dc_out + row * args.rec_ld + unit] = floatBitsToUint(drh);
        return;
    }

    float dh = gradient_of_h(row, unit), carry = dh;
    vec4 d = vec4(0.0); /* of the arguments of n, r, z, and of W_hn h + b_hn */
    if (!is_frozen) {
        float n = gate_g(gates[at], slope);
        float z_slope, z = gate_f(gates[at + 2u * stride], z_slope);
        d.x = dh * (1.0 - z) * slope;
        d.z = dh * (h[args.off1 + args.c_t + in_row] - n) * z_slope;
        carry = dh * z;
        if (!first) {
            float r_slope, r = gate_f(gates[at + stride], r_slope);
            d.y = d.x * gates[at + 3u * stride] * r_slope;
            d.w = d.x * r;
        }
    }

    gates[at] = d.x;
    gates[at + 2u * stride] = d.z;
    if (!first) {
        gates[at + stride] = d.y;
        gates[at + 3u * stride] = d.w;
    }
    put_carry(index, carry);
}

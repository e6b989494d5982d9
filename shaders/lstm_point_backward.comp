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
    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride, stride = args.gate_stride;

    float dh = gradient_of_h(row, unit);
    float dc = 0.0;
    if (args.dc_in != VKL_ABSENT)
        dc = c[args.off1 + args.dc_in + index];
    vec4 d = vec4(0.0); /* of the pre-activations */
    float carry = dh;
    if (!frozen(row)) {
        bool coupled = (args.flags & VKL_POINT_COUPLED) != 0u;
        float c_prev = c[args.off1 + args.c_prev + index], c_t = c[args.off1 + args.c_t + index];
        float p_i = 0.0, p_f = 0.0, p_o = 0.0;
        if (args.peephole != VKL_ABSENT) {
            p_i = side_at(args.peephole + unit);
            p_f = side_at(args.peephole + args.units + unit);
            p_o = side_at(args.peephole + 2u * args.units + unit);
        }
        float i_slope, f_slope, g_slope, o_slope, h_slope;
        float i = gate_f(gates[at], i_slope), f = gate_f(gates[at + stride], f_slope);
        float g = gate_g(gates[at + 2u * stride], g_slope), o = gate_f(gates[at + 3u * stride], o_slope);
        float t = gate_h(c_t, h_slope);
        f = coupled ? 1.0 - i : f;

        d.w = dh * t * o_slope;
        dc += dh * o * h_slope + d.w * p_o;
        dc *= clip_slope(cell_of(f, c_prev, i, g), args.cell_clip);
        d.x = dc * (coupled ? g - c_prev : g) * i_slope;
        d.y = coupled ? 0.0 : dc * c_prev * f_slope;
        d.z = dc * i * g_slope;
        dc = dc * f + d.x * p_i + d.y * p_f;
        carry = 0.0;
    }

    gates[at] = d.x;
    gates[at + stride] = d.y;
    gates[at + 2u * stride] = d.z;
    gates[at + 3u * stride] = d.w;
    c[args.off1 + args.dc_out + index] = dc;
    put_carry(index, carry);
}

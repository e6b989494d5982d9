/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
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
    uint at = args.off0 + row * args.gates_ld + unit * args.unit_stride;

    float dh = gradient_of_h(row, unit), carry = dh, d = 0.0;
    if (!frozen(row)) {
        float slope;
        gate_f(gates[at], slope);
        d = dh * slope;
        carry = 0.0;
    }
    gates[at] = d;
    put_carry(index, carry);
}

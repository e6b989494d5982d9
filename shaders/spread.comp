/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(constant_id = 1) const uint form = 0;

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) buffer X { float x[]; };
layout(binding = 2) readonly buffer Bias { float bias[]; };
layout(push_constant) uniform Push { VklSpreadArgs args; };

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;
    uint x_at = args.off1 + row * args.x_ld + unit, packed = unit * args.unit_stride;
    uint gate = args.off0 + row * args.gates_ld + packed;

    if (form == 0u) {
        float value = x[x_at];
        for (uint g = 0u; g < args.gates; g++) {
            float sum = value;
            for (uint r = 0u; r < args.bias_rows; r++)
                sum += bias[args.off2 + r * args.gates * args.units + packed + g * args.gate_stride];
            gates[gate + g * args.gate_stride] = sum;
        }
    } else {
        float sum = 0.0;
        for (uint g = 0u; g < args.gates; g++)
            sum += gates[gate + g * args.gate_stride];
        x[x_at] = sum;
    }
}

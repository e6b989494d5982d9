/* SPDX-License-Identifier: MIT
 *
 * What a device can do at best: multiply-adds that wait for nothing, or a copy that does nothing else.
 */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(constant_id = VKL_SPEC_FORM) const uint FORM = VKL_PROBE_ARITHMETIC;

layout(binding = 0) buffer Out { vec4 result[]; };
layout(binding = 1) readonly buffer In { vec4 numbers[]; };
layout(push_constant) uniform Push { VklProbeArgs args; };

void multiply_add(uint index)
{
    vec4 given = numbers[args.off1 / 4u];
    float x = given.x, y = given.y, z = given.z + float(index % 16u);
    /* twelve sums side by side hide the latency of each, and fit into 16 registers */
    float a0 = z, a1 = z + 1.0, a2 = z + 2.0, a3 = z + 3.0, a4 = z + 4.0, a5 = z + 5.0, a6 = z + 6.0, a7 = z + 7.0;
    float a8 = z + 8.0, a9 = z + 9.0, a10 = z + 10.0, a11 = z + 11.0;
    for (uint round = 0u; round < args.rounds; round++) {
#define ROUND                                       \
    a0 = fma(a0, x, y), a1 = fma(a1, x, y);         \
    a2 = fma(a2, x, y), a3 = fma(a3, x, y);         \
    a4 = fma(a4, x, y), a5 = fma(a5, x, y);         \
    a6 = fma(a6, x, y), a7 = fma(a7, x, y);         \
    a8 = fma(a8, x, y), a9 = fma(a9, x, y);         \
    a10 = fma(a10, x, y), a11 = fma(a11, x, y)
        ROUND;
        ROUND;
        ROUND;
        ROUND;
    }
    vec4 sum = vec4(a0, a1, a2, a3) + vec4(a4, a5, a6, a7) + vec4(a8, a9, a10, a11);
    result[args.off0 / 4u + index] = sum;
}

void main()
{
    uint index = linear_index();
    if (index >= args.count)
        return;
    if (FORM == VKL_PROBE_ARITHMETIC)
        multiply_add(index);
    else
        result[args.off0 / 4u + index] = numbers[args.off1 / 4u + index];
}

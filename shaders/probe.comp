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
    /* twelve sums side by side hide the latency of each, and fit into 16 registers; no factor is the same twice, so that nothing can be moved
     * out of the loop, and a sum is added to, since only that form is issued twice at a time on RDNA3 */
    float a0 = z, a1 = z + 1.0, a2 = z + 2.0, a3 = z + 3.0, a4 = z + 4.0, a5 = z + 5.0, a6 = z + 6.0, a7 = z + 7.0;
    float a8 = z + 8.0, a9 = z + 9.0, a10 = z + 10.0, a11 = z + 11.0;
    for (uint round = 0u; round < args.rounds; round++) {
#define ROUND(f)                                    \
    a0 = fma(a1, f, a0), a1 = fma(a2, f, a1);       \
    a2 = fma(a3, f, a2), a3 = fma(a4, f, a3);       \
    a4 = fma(a5, f, a4), a5 = fma(a6, f, a5);       \
    a6 = fma(a7, f, a6), a7 = fma(a8, f, a7);       \
    a8 = fma(a9, f, a8), a9 = fma(a10, f, a9);      \
    a10 = fma(a11, f, a10), a11 = fma(a0, f, a11)
        ROUND(x);
        ROUND(y);
        ROUND(x);
        ROUND(y);
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

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "reduce.glsl"

layout(constant_id = 1) const uint form = 0;

layout(binding = 0) readonly buffer In { float values[]; }; /* form 0: gradients; form 1: partial sums */
layout(binding = 1) buffer Out { uint result[]; };          /* form 0: partial sums; form 1: the step state; floats as bits */
layout(push_constant) uniform Push { VklNormArgs args; };

void main()
{
    uint lanes = gl_WorkGroupSize.x;
    uint group = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    uint begin = 0u, end = args.count;
    if (form == 0u) {
        begin = group * VKL_NORM_CHUNK;
        if (begin >= args.count)
            return;
        end = args.count - begin < VKL_NORM_CHUNK ? args.count : begin + VKL_NORM_CHUNK;
    }

    float total = 0.0;
    for (uint i = begin + gl_LocalInvocationID.x; i < end;) {
        float sum = 0.0;
        for (uint n = 0u; n < REDUCE_BLOCK && i < end; n++, i += lanes) {
            float x = values[args.off0 + i];
            sum += form == 0u ? x * x : x;
        }
        total += sum;
    }
    float sum = workgroup_sum(total);
    if (gl_LocalInvocationID.x != 0u)
        return;

    if (form == 0u) {
        result[args.off1 + args.at + group] = floatBitsToUint(sum);
        return;
    }
    float norm = sqrt(sum);
    float clip = args.max_norm / (norm + 1e-6);
    if (clip > 1.0)
        clip = 1.0;
    if (is_nan(sum))
        norm = clip = sum;
    result[args.off1 + VKL_STATE_NORM] = floatBitsToUint(norm);
    result[args.off1 + VKL_STATE_CLIP] = floatBitsToUint(clip);
}

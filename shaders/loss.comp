/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "reduce.glsl"

layout(binding = 0) readonly buffer Predicted { float predicted[]; };
layout(binding = 1) readonly buffer Target { float target[]; };
layout(binding = 2) buffer Gradient { float gradient[]; };
layout(binding = 3) buffer State { uint state[]; };
layout(push_constant) uniform Push { VklLossArgsGpu args; };

#include "state.glsl"

/* VklLoss of the public headers; the numbers are pinned there. */
#define LOSS_MSE 0
#define LOSS_MAE 1
#define LOSS_HUBER 2

/* The loss of one number and, in slope, its derivative by d = predicted - target. NaN stays NaN in both. */
float loss_of(float d, out float slope)
{
    float sign = d > 0.0 ? 1.0 : d < 0.0 ? -1.0 : d;
    float size = d * sign;
    float loss;
    if (args.kind == LOSS_MSE) {
        slope = 2.0 * d;
        loss = d * d;
    } else if (args.kind == LOSS_MAE) {
        slope = sign;
        loss = size;
    } else {
        bool near = size <= args.delta;
        slope = near ? d : args.delta * sign;
        loss = near ? 0.5 * (d * d) : args.delta * (size - 0.5 * args.delta);
    }
    if (is_nan(d))
        slope = loss = d;
    return loss;
}

void main()
{
    uint lanes = gl_WorkGroupSize.x;
    float total = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < args.count;) {
        float sum = 0.0;
        for (uint n = 0u; n < REDUCE_BLOCK && i < args.count; n++, i += lanes) {
            float slope;
            sum += loss_of(predicted[args.off0 + i] - target[args.off1 + i], slope);
            if (args.has_gradient != 0u)
                gradient[args.off2 + i] = slope * args.scale;
        }
        total += sum;
    }
    float sum = workgroup_sum(total);
    if (gl_LocalInvocationID.x != 0u)
        return;

    if (args.advance == 0u) {
        state[args.off3 + args.at] = floatBitsToUint(sum * args.scale);
        return;
    }
    uint batch = state[args.off3 + VKL_STATE_BATCH];
    state[args.off3 + VKL_STATE_LOSS + batch] = floatBitsToUint(sum);
    state[args.off3 + VKL_STATE_BATCH] = batch + 1u;
    state[args.off3 + VKL_STATE_WINDOW] += args.rows;
    if (args.advance == 2u)
        state_advance(args.off3, args.beta1, args.one_minus_beta1, args.beta2, args.one_minus_beta2);
}

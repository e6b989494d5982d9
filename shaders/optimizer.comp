/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

/* VklOptimizerKind of the public headers, where the formulas stand; the numbers are pinned there. */
#define OPTIMIZER_SGD 0u
#define OPTIMIZER_RMSPROP 1u
#define OPTIMIZER_ADAM 2u
#define OPTIMIZER_ADAMW 3u

layout(constant_id = 1) const uint form = OPTIMIZER_SGD;

layout(binding = 0) buffer Params { float params[]; };
layout(binding = 1) readonly buffer Grads { float grads[]; };
layout(binding = 2) buffer Moments { float moments[]; }; /* m, v of each parameter side by side */
layout(binding = 3) readonly buffer State { uint state[]; };
layout(push_constant) uniform Push { VklOptimizerArgs args; };

float state_float(uint at)
{
    return uintBitsToFloat(state[args.off3 + at]);
}

float clipped_gradient(uint index)
{
    float g = grads[args.off1 + index];
    if (args.use_clip_norm != 0u)
        g *= state_float(VKL_STATE_CLIP);
    if (args.clip_value > 0.0 && !is_nan(g)) {
        if (g > args.clip_value)
            g = args.clip_value;
        if (g < -args.clip_value)
            g = -args.clip_value;
    }
    return g;
}

void main()
{
    uint index = linear_index();
    if (index >= args.count)
        return;
    float lr = state_float(VKL_STATE_LR);
    float p = params[args.off0 + index];
    float g = clipped_gradient(index);
    uint m_at = args.off2 + 2u * index, v_at = m_at + 1u;
    float m = moments[m_at];

    if (form == OPTIMIZER_SGD) {
        g += args.weight_decay * p;
        /* in the first step m is g, whatever the momentum */
        m = args.momentum > 0.0 && state[args.off3 + VKL_STATE_STEP] > 1u ? args.momentum * m + g : g;
        p -= lr * m;
    } else if (form == OPTIMIZER_RMSPROP) {
        g += args.weight_decay * p;
        float v = args.alpha * moments[v_at] + args.one_minus_alpha * (g * g);
        float u = g / (sqrt(v) + args.epsilon);
        m = args.momentum > 0.0 ? args.momentum * m + u : u;
        moments[v_at] = v;
        p -= lr * m;
    } else {
        if (form == OPTIMIZER_ADAMW)
            p *= 1.0 - lr * args.weight_decay;
        else
            g += args.weight_decay * p;
        m = args.beta1 * m + args.one_minus_beta1 * g;
        float v = args.beta2 * moments[v_at] + args.one_minus_beta2 * (g * g);
        moments[v_at] = v;
        float rate1 = lr / state_float(VKL_STATE_BIAS1), root2 = 1.0 / sqrt(state_float(VKL_STATE_BIAS2));
        p -= rate1 * m / (sqrt(v) * root2 + args.epsilon);
    }
    moments[m_at] = m;
    params[args.off0 + index] = p;
}

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

/* Four parameters for each invocation, as one vector where the offsets allow it. */
layout(binding = 0) buffer Params { float params[]; };
layout(binding = 0) buffer ParamsWide { vec4 params_wide[]; };
layout(binding = 1) readonly buffer Grads { float grads[]; };
layout(binding = 1) readonly buffer GradsWide { vec4 grads_wide[]; };
layout(binding = 2) buffer Moments { float moments[]; }; /* m, v of each parameter side by side */
layout(binding = 2) buffer MomentsWide { vec4 moments_wide[]; };
layout(binding = 3) readonly buffer State { uint state[]; };
layout(push_constant) uniform Push { VklOptimizerArgs args; };

float state_float(uint at)
{
    return uintBitsToFloat(state[args.off3 + at]);
}

vec4 clipped_gradient(vec4 g)
{
    if (args.use_clip_norm != 0u)
        g *= state_float(VKL_STATE_CLIP);
    if (args.clip_value > 0.0)
        for (uint i = 0u; i < 4u; i++) {
            if (is_nan(g[i]))
                continue;
            if (g[i] > args.clip_value)
                g[i] = args.clip_value;
            if (g[i] < -args.clip_value)
                g[i] = -args.clip_value;
        }
    return g;
}

void update(inout vec4 p, vec4 g, inout vec4 m, inout vec4 v)
{
    float lr = state_float(VKL_STATE_LR);
    g = clipped_gradient(g);
    if (form == OPTIMIZER_SGD) {
        g += args.weight_decay * p;
        /* in the first step m is g, whatever the momentum */
        m = args.momentum > 0.0 && state[args.off3 + VKL_STATE_STEP] > 1u ? args.momentum * m + g : g;
        p -= lr * m;
    } else if (form == OPTIMIZER_RMSPROP) {
        g += args.weight_decay * p;
        v = args.alpha * v + args.one_minus_alpha * (g * g);
        vec4 u = g / (sqrt(v) + args.epsilon);
        m = args.momentum > 0.0 ? args.momentum * m + u : u;
        p -= lr * m;
    } else {
        if (form == OPTIMIZER_ADAMW)
            p *= 1.0 - lr * args.weight_decay;
        else
            g += args.weight_decay * p;
        m = args.beta1 * m + args.one_minus_beta1 * g;
        v = args.beta2 * v + args.one_minus_beta2 * (g * g);
        float rate1 = lr / state_float(VKL_STATE_BIAS1), root2 = 1.0 / sqrt(state_float(VKL_STATE_BIAS2));
        p -= rate1 * m / (sqrt(v) * root2 + args.epsilon);
    }
}

void main()
{
    uint index = linear_index() * 4u;
    if (index >= args.count)
        return;
    vec4 p, g, m, v;
    if (((args.off0 | args.off1 | args.off2 | args.count) & 3u) == 0u) {
        uint at_p = (args.off0 + index) >> 2, at_m = (args.off2 + 2u * index) >> 2;
        p = params_wide[at_p];
        g = grads_wide[(args.off1 + index) >> 2];
        vec4 low = moments_wide[at_m], high = moments_wide[at_m + 1u];
        m = vec4(low.xz, high.xz);
        v = vec4(low.yw, high.yw);
        update(p, g, m, v);
        params_wide[at_p] = p;
        moments_wide[at_m] = vec4(m.x, v.x, m.y, v.y);
        moments_wide[at_m + 1u] = vec4(m.z, v.z, m.w, v.w);
        return;
    }
    uint count = args.count - index < 4u ? args.count - index : 4u;
    p = g = m = v = vec4(0.0);
    for (uint i = 0u; i < count; i++) {
        p[i] = params[args.off0 + index + i];
        g[i] = grads[args.off1 + index + i];
        m[i] = moments[args.off2 + 2u * (index + i)];
        v[i] = moments[args.off2 + 2u * (index + i) + 1u];
    }
    update(p, g, m, v);
    for (uint i = 0u; i < count; i++) {
        params[args.off0 + index + i] = p[i];
        moments[args.off2 + 2u * (index + i)] = m[i];
        moments[args.off2 + 2u * (index + i) + 1u] = v[i];
    }
}

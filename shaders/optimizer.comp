/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"
#include "when.glsl"

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

float clipped(float g)
{
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
    uint index = linear_index() * 4u;
    /* What is the same for all is loaded before the first branch: software devices then load it once for all lanes. */
    bool first = state[args.off3 + VKL_STATE_STEP] == 1u;
    float lr = state_float(VKL_STATE_LR), clip = state_float(VKL_STATE_CLIP);
    float bias1 = state_float(VKL_STATE_BIAS1), bias2 = state_float(VKL_STATE_BIAS2);
    if (index >= args.count)
        return;

    bool wide = ((args.off0 | args.off1 | args.off2 | args.count) & 3u) == 0u;
    uint singles = wide ? 0u : args.count - index < 4u ? args.count - index : 4u;
    uint p_at = args.off0 + index, g_at = args.off1 + index, m_at = args.off2 + 2u * index;
    vec4 p = vec4(0.0), g = vec4(0.0), m = vec4(0.0), v = vec4(0.0);
    WHEN(wide) {
        p = params_wide[p_at / 4u];
        g = grads_wide[g_at / 4u];
        vec4 low = moments_wide[m_at / 4u], high = moments_wide[m_at / 4u + 1u];
        m = vec4(low.xz, high.xz);
        v = vec4(low.yw, high.yw);
    }
    for (uint i = 0u; i < singles; i++) {
        p[i] = params[p_at + i];
        g[i] = grads[g_at + i];
        m[i] = moments[m_at + 2u * i];
        v[i] = moments[m_at + 2u * i + 1u];
    }

    if (args.use_clip_norm != 0u)
        g *= clip;
    g = vec4(clipped(g.x), clipped(g.y), clipped(g.z), clipped(g.w));
    if (form == OPTIMIZER_SGD) {
        g += args.weight_decay * p;
        /* in the first step m is g, whatever the momentum */
        m = args.momentum > 0.0 && !first ? args.momentum * m + g : g;
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
        p -= lr / bias1 * m / (sqrt(v) * (1.0 / sqrt(bias2)) + args.epsilon);
    }

    WHEN(wide) {
        params_wide[p_at / 4u] = p;
        moments_wide[m_at / 4u] = vec4(m.x, v.x, m.y, v.y);
        moments_wide[m_at / 4u + 1u] = vec4(m.z, v.z, m.w, v.w);
    }
    for (uint i = 0u; i < singles; i++) {
        params[p_at + i] = p[i];
        moments[m_at + 2u * i] = m[i];
        moments[m_at + 2u * i + 1u] = v[i];
    }
}

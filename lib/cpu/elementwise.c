/* SPDX-License-Identifier: MIT
 *
 * Kernels whose items are single elements.
 */
#include <math.h>

#include "activations.h"
#include "kernels.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void VKL_CPU(copy)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklCopyArgs *args = &op->args.COPY;
    const uint32_t count[3] = {args->count0, args->count1, args->count2};
    const uint32_t at[3] = {args->at0, args->at1, args->at2};
    const uint32_t mode[3] = {args->mode0, args->mode1, args->mode2};
    const uint32_t offset[3] = {args->off1, args->off2, args->off3};

    /* Items count through the pieces one after the other: this call's part of a piece is [from, to). */
    for (int piece = 0; piece < 3; piece++) {
        uint64_t from = min_u64(begin, count[piece]), to = min_u64(end, count[piece]);
        begin -= from;
        end -= to;
        if (from == to)
            continue;
        size_t n = (size_t)(to - from);
        float *arena = (float *)ptr[0] + args->off0 + at[piece] + from;
        float *other = (float *)ptr[piece + 1] + offset[piece] + from;
        switch (mode[piece]) {
        case VKL_COPY_LOAD:
            memcpy(arena, other, n * sizeof *arena);
            break;
        case VKL_COPY_STORE:
            memcpy(other, arena, n * sizeof *arena);
            break;
        case VKL_COPY_ADD:
            for (size_t i = 0; i < n; i++)
                arena[i] += other[i];
            break;
        default:
            memset(arena, 0, n * sizeof *arena);
        }
    }
}

void VKL_CPU(copy_store)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    VKL_CPU(copy)(op, ptr, begin, end);
}

void VKL_CPU(gather)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGatherArgs *args = &op->args.GATHER;
    const uint32_t *data = (const uint32_t *)ptr[0] + args->off0;
    const uint32_t *state = (const uint32_t *)ptr[1] + args->off1;
    uint32_t *x = (uint32_t *)ptr[2] + args->off2;
    uint32_t *target = (uint32_t *)ptr[3] + args->off3;
    const uint32_t *order = state + args->order_at + state[VKL_STATE_WINDOW];
    uint64_t features = args->features, rows = args->rows, outputs = args->outputs;
    uint64_t inputs = args->steps * rows * features;

    /* Divisions once, at the first item: they would cost more than the copy. */
    if (begin < inputs) {
        uint64_t f = begin % features, row = begin / features % rows, t = begin / features / rows;
        for (uint64_t item = begin; item < min_u64(end, inputs); item++) {
            x[item] = data[args->series_at + (data[args->starts_at + order[row]] + t) * features + f];
            if (++f == features) {
                f = 0;
                if (++row == rows) {
                    row = 0;
                    t++;
                }
            }
        }
    }
    for (uint64_t item = begin > inputs ? begin : inputs; item < end; item++) {
        uint64_t o = (item - inputs) % outputs, row = (item - inputs) / outputs;
        target[item - inputs] = data[args->targets_at + order[row] * outputs + o];
    }
}

void VKL_CPU(activation_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklActivationArgs *args = &op->args.ACTIVATION_BACKWARD;
    const float *gy = (const float *)ptr[0] + args->off0;
    const float *y = (const float *)ptr[1] + args->off1;
    float *dz = (float *)ptr[2] + args->off2;
    for (uint64_t i = begin; i < end; i++)
        dz[i] = activate_backward(args->activation, gy[i], y[i]);
}

/* What the formulas of include/vklstm/optimizer.h have in common for all parameters of a step. */
typedef struct Step {
    float lr, clip, limit;
    float weight_decay;
    float momentum; /* 0 in SGD's first step, where m is g whatever the momentum */
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float alpha, one_minus_alpha;
    float epsilon;
    float rate1; /* lr / (1 - beta1^t) */
    float root2; /* 1 / sqrt(1 - beta2^t) */
    float decay; /* AdamW: 1 - lr weight_decay */
} Step;

static float clipped(const Step *s, float gradient)
{
    float g = gradient * s->clip;
    g = g > s->limit ? s->limit : g;
    return g < -s->limit ? -s->limit : g;
}

static void sgd(Step s, size_t n, float *restrict p, const float *restrict gradient, float *restrict moments)
{
    for (size_t i = 0; i < n; i++) {
        float g = clipped(&s, gradient[i]) + s.weight_decay * p[i];
        float m = s.momentum > 0.0f ? s.momentum * moments[2 * i] + g : g;
        moments[2 * i] = m;
        p[i] -= s.lr * m;
    }
}

static void rmsprop(Step s, size_t n, float *restrict p, const float *restrict gradient, float *restrict moments)
{
    for (size_t i = 0; i < n; i++) {
        float g = clipped(&s, gradient[i]) + s.weight_decay * p[i];
        float v = s.alpha * moments[2 * i + 1] + s.one_minus_alpha * (g * g);
        float u = g / (sqrtf(v) + s.epsilon);
        float m = s.momentum > 0.0f ? s.momentum * moments[2 * i] + u : u;
        moments[2 * i] = m;
        moments[2 * i + 1] = v;
        p[i] -= s.lr * m;
    }
}

/* Adam has decay = 1, AdamW weight_decay = 0. */
static void adam(Step s, size_t n, float *restrict p, const float *restrict gradient, float *restrict moments)
{
    for (size_t i = 0; i < n; i++) {
        float g = clipped(&s, gradient[i]) + s.weight_decay * p[i];
        float m = s.beta1 * moments[2 * i] + s.one_minus_beta1 * g;
        float v = s.beta2 * moments[2 * i + 1] + s.one_minus_beta2 * (g * g);
        moments[2 * i] = m;
        moments[2 * i + 1] = v;
        p[i] = s.decay * p[i] - s.rate1 * m / (sqrtf(v) * s.root2 + s.epsilon);
    }
}

void VKL_CPU(optimizer)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklOptimizerArgs *args = &op->args.OPTIMIZER;
    float *params = (float *)ptr[0] + args->off0 + begin;
    const float *grads = (const float *)ptr[1] + args->off1 + begin;
    float *moments = (float *)ptr[2] + args->off2 + 2 * begin;
    const uint32_t *state = (const uint32_t *)ptr[3] + args->off3;
    size_t n = (size_t)(end - begin);
    uint32_t kind = op->spec[VKL_SPEC_FORM];

    Step step = {
        .lr = bits_float(state[VKL_STATE_LR]),
        .clip = args->use_clip_norm ? bits_float(state[VKL_STATE_CLIP]) : 1.0f,
        .limit = args->clip_value > 0.0f ? args->clip_value : INFINITY,
        .weight_decay = args->weight_decay,
        .momentum = args->momentum,
        .beta1 = args->beta1,
        .one_minus_beta1 = args->one_minus_beta1,
        .beta2 = args->beta2,
        .one_minus_beta2 = args->one_minus_beta2,
        .alpha = args->alpha,
        .one_minus_alpha = args->one_minus_alpha,
        .epsilon = args->epsilon,
        .decay = 1.0f,
    };
    switch (kind) {
    case VKL_OPTIMIZER_SGD:
        if (state[VKL_STATE_STEP] == 1)
            step.momentum = 0.0f;
        sgd(step, n, params, grads, moments);
        break;
    case VKL_OPTIMIZER_RMSPROP:
        rmsprop(step, n, params, grads, moments);
        break;
    default:
        step.rate1 = step.lr / bits_float(state[VKL_STATE_BIAS1]);
        step.root2 = 1.0f / sqrtf(bits_float(state[VKL_STATE_BIAS2]));
        if (kind == VKL_OPTIMIZER_ADAMW) {
            step.decay = 1.0f - step.lr * args->weight_decay;
            step.weight_decay = 0.0f;
        }
        adam(step, n, params, grads, moments);
    }
}

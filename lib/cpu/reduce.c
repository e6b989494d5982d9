/* SPDX-License-Identifier: MIT
 *
 * Kernels that reduce many numbers to one, and those that advance the step state. Sums run over LANES partial sums, as the
 * invocations of a workgroup have them, which a tree of fixed order then adds.
 */
#include <math.h>

#include "activations.h"
#include "kernels.h"

#define LANES 64
#define BLOCK 4096 /* terms of a lane that are added to its total at once */

static float lanes_sum(float *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static float state_float(const uint32_t *state, uint32_t at)
{
    return bits_float(state[at]);
}

static void state_advance(uint32_t *state, float beta1, float one_minus_beta1, float beta2, float one_minus_beta2)
{
    state[VKL_STATE_STEP] += 1;
    state[VKL_STATE_BIAS1] = float_bits(beta1 * state_float(state, VKL_STATE_BIAS1) + one_minus_beta1);
    state[VKL_STATE_BIAS2] = float_bits(beta2 * state_float(state, VKL_STATE_BIAS2) + one_minus_beta2);
    state[VKL_STATE_CLIP] = float_bits(1.0f);
}

/* The loss of one number and, in *slope, its derivative by d = predicted - target. NaN stays NaN in both. */
static float loss_of(uint32_t kind, float delta, float d, float *slope)
{
    float sign = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d;
    float size = d * sign;
    switch (kind) {
    case VKL_LOSS_MSE:
        *slope = 2.0f * d;
        return d * d;
    case VKL_LOSS_MAE:
        *slope = sign;
        return size;
    default: /* Huber */
        *slope = size <= delta ? d : delta * sign;
        return size <= delta ? 0.5f * (d * d) : delta * (size - 0.5f * delta);
    }
}

void VKL_CPU(loss)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklLossArgsGpu *args = &op->args.LOSS;
    const float *predicted = (const float *)ptr[0] + args->off0;
    const float *target = (const float *)ptr[1] + args->off1;
    float *gradient = (float *)ptr[2] + args->off2;
    uint32_t *out = (uint32_t *)ptr[3] + args->off3;
    if (begin == end)
        return;

    float total[LANES] = {0};
    for (size_t block = 0; block < args->count; block += (size_t)LANES * BLOCK) {
        size_t stop = args->count - block < (size_t)LANES * BLOCK ? args->count : block + (size_t)LANES * BLOCK;
        float lane[LANES] = {0};
        for (size_t i = block; i < stop; i++) {
            float slope;
            lane[i % LANES] += loss_of(args->kind, args->delta, predicted[i] - target[i], &slope);
            if (args->has_gradient)
                gradient[i] = slope * args->scale;
        }
        for (int i = 0; i < LANES; i++)
            total[i] += lane[i];
    }

    float sum = lanes_sum(total);
    if (args->advance == 0) {
        out[args->at] = float_bits(sum * args->scale);
        return;
    }
    out[VKL_STATE_LOSS + out[VKL_STATE_BATCH]] = float_bits(sum);
    out[VKL_STATE_BATCH] += 1;
    out[VKL_STATE_WINDOW] += args->rows;
    if (args->advance == 2)
        state_advance(out, args->beta1, args->one_minus_beta1, args->beta2, args->one_minus_beta2);
}

void VKL_CPU(advance)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklAdvanceArgs *args = &op->args.ADVANCE;
    if (begin == end)
        return;
    state_advance((uint32_t *)ptr[0] + args->off0, args->beta1, args->one_minus_beta1, args->beta2, args->one_minus_beta2);
}

/* Form 0: items are chunks of gradients. */
static void norm_chunks(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklNormArgs *args = &op->args.NORM;
    const float *grads = (const float *)ptr[0] + args->off0;
    float *partial = (float *)ptr[1] + args->off1 + args->at;
    for (uint64_t chunk = begin; chunk < end; chunk++) {
        size_t first = (size_t)chunk * VKL_NORM_CHUNK;
        size_t n = args->count - first < VKL_NORM_CHUNK ? args->count - first : VKL_NORM_CHUNK, i = 0;
        float lane[LANES] = {0};
        for (; i + LANES <= n; i += LANES)
            for (size_t j = 0; j < LANES; j++)
                lane[j] += grads[first + i + j] * grads[first + i + j];
        for (size_t j = 0; i < n; i++, j++)
            lane[j] += grads[first + i] * grads[first + i];
        partial[chunk] = lanes_sum(lane);
    }
}

/* Form 1: the sum of the partial sums, and what it says about this step. */
static void norm_finish(const VklOp *op, void *const *ptr)
{
    const struct VklNormArgs *args = &op->args.NORM;
    const float *partial = (const float *)ptr[0] + args->off0;
    uint32_t *state = (uint32_t *)ptr[1] + args->off1;
    float total[LANES] = {0};
    for (size_t block = 0; block < args->count; block += (size_t)LANES * BLOCK) {
        size_t stop = args->count - block < (size_t)LANES * BLOCK ? args->count : block + (size_t)LANES * BLOCK;
        float lane[LANES] = {0};
        for (size_t i = block; i < stop; i++)
            lane[i % LANES] += partial[i];
        for (int i = 0; i < LANES; i++)
            total[i] += lane[i];
    }
    float norm = sqrtf(lanes_sum(total));
    float clip = args->max_norm / (norm + 1e-6f);
    state[VKL_STATE_NORM] = float_bits(norm);
    state[VKL_STATE_CLIP] = float_bits(clip > 1.0f ? 1.0f : clip);
}

void VKL_CPU(norm)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    if (op->spec[VKL_SPEC_FORM] == 0)
        norm_chunks(op, ptr, begin, end);
    else if (begin != end)
        norm_finish(op, ptr);
}

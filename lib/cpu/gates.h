/* SPDX-License-Identifier: MIT
 *
 * The activations of gates, value and derivative from the raw argument, with its clip: the C twin of shaders/gates.glsl, formula by
 * formula. They work on arrays of values, so that the choice of the kind is outside the loops, which vectorise.
 */
#ifndef VKL_CPU_GATES_H
#define VKL_CPU_GATES_H

#include <stddef.h>

#include "activations.h"
#include "vklstm/rnn.h"

typedef struct Gate {
    uint32_t kind; /* VklGateActivation */
    float alpha, beta;
    float limit; /* of the clip of the argument; 0: off */
} Gate;

/* x clipped to [-limit, limit]; limit 0: x. */
static inline float clip(float x, float limit)
{
    float y = x > limit ? limit : x;
    y = y < -limit ? -limit : y;
    return limit > 0.0f ? y : x;
}

/* Its derivative: 1 on the closed interval, 0 outside. */
static inline float clip_slope(float x, float limit)
{
    return limit > 0.0f && (x > limit || x < -limit) ? 0.0f : 1.0f;
}

/* log(1 + u) for u in [0, 1] as 2 atanh(s), s = u / (2 + u) <= 1/3, by the series of atanh, whose first term left out is below
 * 2^-25 of the sum. */
static inline float log_1_plus(float u)
{
    float s = u / (2.0f + u), q = s * s;
    float series = 1.0f / 13.0f;
    series = series * q + 1.0f / 11.0f;
    series = series * q + 1.0f / 9.0f;
    series = series * q + 1.0f / 7.0f;
    series = series * q + 1.0f / 5.0f;
    series = series * q + 1.0f / 3.0f;
    return 2.0f * (s + s * (q * series));
}

/* Derivatives of the sigmoid and of tanh. y (1 - y) and 1 - y^2 would lose all their digits in saturation, which gates that are not
 * bounded multiply to something that counts. The exponentials are those of the values, for a compiler to find. */
static inline float sigmoid_slope(float x, float y)
{
    float m = -x, scale, part;
    m = m > 87.0f ? 87.0f : m;
    m = m < -87.0f ? -87.0f : m;
    exp_parts(m, &scale, &part);
    return (scale * part + scale) * y * y;
}

static inline float tanh_slope(float x)
{
    float m = bits_float(float_bits(x) & 0x7fffffffu), scale, part;
    m = m > 20.0f ? 20.0f : m;
    exp_parts(2.0f * m, &scale, &part);
    float e = scale * part + scale;
    float r = 2.0f / (e + 1.0f);
    return e * r * r;
}

/* To be called with a constant kind. */
static inline float gate_of(uint32_t kind, float alpha, float beta, float x, float *slope)
{
    float y = x, d = 1.0f;
    switch (kind) {
    case VKL_GATE_SIGMOID:
        y = cell_sigmoid(x);
        d = sigmoid_slope(x, y);
        break;
    case VKL_GATE_TANH:
        y = cell_tanh(x);
        d = tanh_slope(x);
        break;
    case VKL_GATE_SCALED_TANH:
        y = alpha * cell_tanh(beta * x);
        d = alpha * beta * tanh_slope(beta * x);
        break;
    case VKL_GATE_ELU:
    case VKL_GATE_SOFTPLUS: {
        float m = bits_float(float_bits(x) | 0x80000000u), scale, part;
        exp_parts(m < -87.0f ? -87.0f : m, &scale, &part);
        float e = scale * part + scale; /* e^-|x| */
        if (kind == VKL_GATE_ELU) {
            y = x >= 0.0f ? x : alpha * (scale * part + (scale - 1.0f));
            d = x >= 0.0f ? 1.0f : alpha * e;
        } else {
            y = log_1_plus(e) + (x >= 0.0f ? x : 0.0f);
            d = (x >= 0.0f ? 1.0f : e) / (1.0f + e);
        }
        break;
    }
    case VKL_GATE_SOFTSIGN: {
        float bounded = clip(x, 1e30f); /* beyond, the inverse would be flushed to 0 */
        float inverse = 1.0f / (1.0f + bits_float(float_bits(bounded) & 0x7fffffffu));
        y = bounded * inverse;
        d = inverse * inverse;
        break;
    }
    case VKL_GATE_RELU:
        y = x > 0.0f ? x : 0.0f;
        d = x > 0.0f ? 1.0f : 0.0f;
        break;
    case VKL_GATE_HARD_SIGMOID:
        y = alpha * x + beta;
        d = y > 0.0f && y < 1.0f ? alpha : 0.0f;
        y = y > 0.0f ? y : 0.0f;
        y = y < 1.0f ? y : 1.0f;
        break;
    case VKL_GATE_AFFINE:
        y = alpha * x + beta;
        d = alpha;
        break;
    case VKL_GATE_LEAKY_RELU:
        y = x >= 0.0f ? x : alpha * x;
        d = x >= 0.0f ? 1.0f : alpha;
        break;
    case VKL_GATE_THRESHOLDED_RELU:
        y = x > alpha ? x : 0.0f;
        d = x > alpha ? 1.0f : 0.0f;
        break;
    default:
        break;
    }
    /* NaN, also where the formula's value or derivative is a constant */
    *slope = x != x ? x : d;
    return x != x ? x : y;
}

/* value[u] and slope[u] of raw[u], for u < n. The arrays are different ones. */
static inline void gate_values(const Gate *gate, size_t n, const float *restrict raw, float *restrict value,
                               float *restrict slope)
{
    const float alpha = gate->alpha, beta = gate->beta, limit = gate->limit;
#define CASE(constant)                                                          \
    case constant:                                                              \
        for (size_t u = 0; u < n; u++) {                                        \
            float d;                                                            \
            value[u] = gate_of(constant, alpha, beta, clip(raw[u], limit), &d); \
            slope[u] = d * clip_slope(raw[u], limit);                           \
        }                                                                       \
        break;
    switch (gate->kind) {
        CASE(VKL_GATE_SIGMOID)
        CASE(VKL_GATE_TANH)
        CASE(VKL_GATE_RELU)
        CASE(VKL_GATE_HARD_SIGMOID)
        CASE(VKL_GATE_AFFINE)
        CASE(VKL_GATE_LEAKY_RELU)
        CASE(VKL_GATE_THRESHOLDED_RELU)
        CASE(VKL_GATE_SCALED_TANH)
        CASE(VKL_GATE_ELU)
        CASE(VKL_GATE_SOFTSIGN)
        CASE(VKL_GATE_SOFTPLUS)
    }
#undef CASE
}

#endif

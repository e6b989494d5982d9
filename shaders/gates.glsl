/* SPDX-License-Identifier: MIT
 *
 * The activations of gates, value and derivative from the raw argument, with its clip. lib/cpu/gates.h is the same, formula by
 * formula. Comparisons let NaN pass, and a NaN argument makes value and derivative NaN, also where the formula's is a constant.
 */
#include "activations.glsl"
#include "when.glsl"

/* VklGateActivation of include/vklstm/rnn.h; the numbers are pinned there. */
#define GATE_SIGMOID 0u
#define GATE_TANH 1u
#define GATE_RELU 2u
#define GATE_HARD_SIGMOID 3u
#define GATE_AFFINE 4u
#define GATE_LEAKY_RELU 5u
#define GATE_THRESHOLDED_RELU 6u
#define GATE_SCALED_TANH 7u
#define GATE_ELU 8u
#define GATE_SOFTSIGN 9u
#define GATE_SOFTPLUS 10u

float magnitude_of(float x)
{
    return uintBitsToFloat(floatBitsToUint(x) & 0x7fffffffu);
}

/* x clipped to [-limit, limit]; limit 0: x. */
float clip(float x, float limit)
{
    float y = x > limit ? limit : x;
    y = y < -limit ? -limit : y;
    return limit > 0.0 ? y : x;
}

/* Its derivative: 1 on the closed interval, 0 outside. */
float clip_slope(float x, float limit)
{
    return limit > 0.0 && (x > limit || x < -limit) ? 0.0 : 1.0;
}

/* log(1 + u) for u in [0, 1] as 2 atanh(s), s = u / (2 + u) <= 1/3, by the series of atanh, whose first term left out is below
 * 2^-25 of the sum. Drivers' log() promises no relative accuracy near 1. */
float log_1_plus(float u)
{
    float s = u / (2.0 + u), q = s * s;
    float series = 1.0 / 13.0;
    series = series * q + 1.0 / 11.0;
    series = series * q + 1.0 / 9.0;
    series = series * q + 1.0 / 7.0;
    series = series * q + 1.0 / 5.0;
    series = series * q + 1.0 / 3.0;
    return 2.0 * (s + s * (q * series));
}

/* Derivatives of the sigmoid and of tanh. y (1 - y) and 1 - y^2 would lose all their digits in saturation, which gates that are not
 * bounded multiply to something that counts. The exponentials are those of the values, for a compiler to find. */
float sigmoid_slope(float x, float y)
{
    float m = -x, scale, part;
    m = m > 87.0 ? 87.0 : m;
    m = m < -87.0 ? -87.0 : m;
    exp_parts(m, scale, part);
    return (scale * part + scale) * y * y;
}

float tanh_slope(float x)
{
    float m = magnitude_of(x), scale, part;
    m = m > 20.0 ? 20.0 : m;
    exp_parts(2.0 * m, scale, part);
    float e = scale * part + scale;
    float r = 2.0 / (e + 1.0);
    return e * r * r;
}

/* The kinds that need an exponential are apart, so that software devices leave out those that are not there. */
float gate(uint kind, float alpha, float beta, float limit, float raw, out float slope)
{
    float x = clip(raw, limit);
    float y = x, d = 1.0;
    WHEN(kind == GATE_SIGMOID) {
        y = cell_sigmoid(x);
        d = sigmoid_slope(x, y);
    }
    WHEN(kind == GATE_TANH || kind == GATE_SCALED_TANH) {
        bool scaled = kind == GATE_SCALED_TANH;
        float a = scaled ? alpha : 1.0, b = scaled ? beta : 1.0;
        y = a * cell_tanh(b * x);
        d = a * b * tanh_slope(b * x);
    }
    WHEN(kind == GATE_ELU || kind == GATE_SOFTPLUS) {
        float m = -magnitude_of(x), scale, part;
        exp_parts(m < -87.0 ? -87.0 : m, scale, part);
        float e = scale * part + scale; /* e^-|x| */
        bool positive = x >= 0.0;
        if (kind == GATE_ELU) {
            y = positive ? x : alpha * (scale * part + (scale - 1.0));
            d = positive ? 1.0 : alpha * e;
        } else {
            y = log_1_plus(e) + (positive ? x : 0.0);
            d = (positive ? 1.0 : e) / (1.0 + e);
        }
    }
    WHEN(kind == GATE_SOFTSIGN) {
        float bounded = clip(x, 1e30); /* beyond, the inverse would be flushed to 0 */
        float inverse = 1.0 / (1.0 + magnitude_of(bounded));
        y = bounded * inverse;
        d = inverse * inverse;
    }
    if (kind == GATE_RELU) {
        y = x > 0.0 ? x : 0.0;
        d = x > 0.0 ? 1.0 : 0.0;
    } else if (kind == GATE_HARD_SIGMOID) {
        y = alpha * x + beta;
        d = y > 0.0 && y < 1.0 ? alpha : 0.0;
        y = y > 0.0 ? y : 0.0;
        y = y < 1.0 ? y : 1.0;
    } else if (kind == GATE_AFFINE) {
        y = alpha * x + beta;
        d = alpha;
    } else if (kind == GATE_LEAKY_RELU) {
        y = x >= 0.0 ? x : alpha * x;
        d = x >= 0.0 ? 1.0 : alpha;
    } else if (kind == GATE_THRESHOLDED_RELU) {
        y = x > alpha ? x : 0.0;
        d = x > alpha ? 1.0 : 0.0;
    }
    slope = is_nan(x) ? x : d * clip_slope(raw, limit);
    return is_nan(x) ? x : y;
}

/* SPDX-License-Identifier: MIT
 *
 * tanh, the logistic sigmoid and relu: the C twin of shaders/activations.glsl, formula by formula. They are our own because those
 * of graphics drivers give NaN for large arguments, and because libm's do not vectorise. They are accurate to about 2 units in the
 * last place, saturate at any size of x, and give NaN for NaN: every limit is a comparison that is false for NaN.
 */
#ifndef VKL_CPU_ACTIVATIONS_H
#define VKL_CPU_ACTIVATIONS_H

#include <stdint.h>
#include <string.h>

#include "vklstm/layers.h"

static inline uint32_t float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x = scale (1 + part) for |x| <= 87: x = n ln 2 + r with n whole, scale = 2^n, part = e^r - 1 by its Taylor series, whose first
 * term left out is below 2^-25 for |r| <= ln 2 / 2. Keeping the 1 apart is what makes tanh accurate near 0. */
static inline void exp_parts(float x, float *scale, float *part)
{
    /* Adding 1.5 * 2^23 rounds to a whole number, and leaves it in the low bits of the sum. */
    const float round = 12582912.0f;
    float shifted = x * 1.44269504f + round;
    float n = shifted - round;
    /* ln 2 in two pieces: n times the first is exact */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float series = 1.0f / 5040.0f;
    series = series * r + 1.0f / 720.0f;
    series = series * r + 1.0f / 120.0f;
    series = series * r + 1.0f / 24.0f;
    series = series * r + 1.0f / 6.0f;
    series = series * r + 0.5f;
    *part = series * (r * r) + r;
    *scale = bits_float((float_bits(shifted) << 23) + (127u << 23));
}

static inline float cell_tanh(float x)
{
    float magnitude = bits_float(float_bits(x) & 0x7fffffffu);
    magnitude = magnitude > 20.0f ? 20.0f : magnitude;
    float scale, part;
    exp_parts(2.0f * magnitude, &scale, &part);
    float e = scale * part + (scale - 1.0f); /* e^2|x| - 1 */
    float t = e / (e + 2.0f);
    t = bits_float(float_bits(t) | (float_bits(x) & 0x80000000u));
    return x != x ? x : t;
}

static inline float cell_sigmoid(float x)
{
    float y = -x;
    y = y > 87.0f ? 87.0f : y;
    y = y < -87.0f ? -87.0f : y;
    float scale, part;
    exp_parts(y, &scale, &part);
    float s = 1.0f / (1.0f + (scale * part + scale));
    return x != x ? x : s;
}

static inline float activate(uint32_t activation, float x)
{
    switch (activation) {
    case VKL_ACTIVATION_TANH:
        return cell_tanh(x);
    case VKL_ACTIVATION_SIGMOID:
        return cell_sigmoid(x);
    case VKL_ACTIVATION_RELU:
        return x <= 0.0f ? 0.0f : x;
    default:
        return x;
    }
}

/* The derivative of the activation, from its value y, times the gradient of y. */
static inline float activate_backward(uint32_t activation, float gy, float y)
{
    switch (activation) {
    case VKL_ACTIVATION_TANH:
        return gy * (1.0f - y * y);
    case VKL_ACTIVATION_SIGMOID:
        return gy * (y * (1.0f - y));
    case VKL_ACTIVATION_RELU:
        return y > 0.0f ? gy : y <= 0.0f ? 0.0f : y;
    default:
        return gy;
    }
}

#endif

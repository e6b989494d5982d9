/* SPDX-License-Identifier: MIT
 *
 * Between floats and halves, with the bits of shaders/halves.glsl; selects and no branches, which compilers turn into vector code. */
#ifndef VKL_CPU_HALVES_H
#define VKL_CPU_HALVES_H

#include "activations.h"

#define HALF_FIRST_NORMAL 0x38800000u /* 2^-14 as a float */
#define HALF_OVERFLOW 0x477ff000u     /* 65,520, from where on the nearest half is infinite */
#define FLOAT_INFINITY 0x7f800000u

/* The float next to a half's last digit is rounded off by the addition of half its weight; the digits below 2^-24, the smallest half, by
 * the addition of 0.5, whose last place that is. */
static inline uint32_t half_of(uint32_t bits)
{
    uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t normal = (size + 0xfffu + ((size >> 13) & 1u) - 0x38000000u) >> 13;
    uint32_t below = float_bits(bits_float(size) + 0.5f) - 0x3f000000u;
    uint32_t half = size < HALF_FIRST_NORMAL ? below : normal;
    half = size >= HALF_OVERFLOW ? 0x7c00u : half;
    half = size > FLOAT_INFINITY ? 0x7e00u : half;
    return sign | half;
}

static inline uint32_t float_of(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, size = half & 0x7fffu, digits = half & 0x3ffu;
    uint32_t below = float_bits((float)(int32_t)digits * 0x1p-24f);
    uint32_t bits = size < 0x400u ? below : size < 0x7c00u ? (size << 13) + 0x38000000u : FLOAT_INFINITY | digits << 13;
    return sign | bits;
}

#endif

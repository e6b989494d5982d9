/* SPDX-License-Identifier: MIT
 *
 * Vectors of floats as the compiler's flags allow: AVX-512, AVX2 with FMA, SSE2 or NEON. + - * / are operators of gcc and clang; the rest
 * has a name here. Files that include this one are compiled once for each level (meson.build).
 */
#ifndef VKL_CPU_VECTOR_H
#define VKL_CPU_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VKL_CPU_INLINE static inline __attribute__((always_inline))

/* TILE_ROWS x TILE_VECTORS: a block of sums that fits the registers beside its operands. CELL_ROWS: the same with one vector for each of
 * four gates. BACK_ROWS: with two vectors. WIDE: vectors of a single row. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define CELL_ROWS 6
#define BACK_ROWS 8
#define WIDE 16
typedef __m512 Vec;
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define LANES 8
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define CELL_ROWS 3
#define BACK_ROWS 6
#define WIDE 8
typedef __m256 Vec;
#elif defined(__SSE2__)
#include <emmintrin.h>
#define LANES 4
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define CELL_ROWS 2
#define BACK_ROWS 4
#define WIDE 8
typedef __m128 Vec;
#else
#include <arm_neon.h>
#define LANES 4
#define TILE_ROWS 4
#define TILE_VECTORS 4
#define CELL_ROWS 4
#define BACK_ROWS 8
#define WIDE 8
typedef float32x4_t Vec;
#endif

typedef uint32_t VecBits __attribute__((vector_size(4 * LANES)));

VKL_CPU_INLINE Vec v_load(const float *p)
{
#if defined(__AVX512F__)
    return _mm512_loadu_ps(p);
#elif LANES == 8
    return _mm256_loadu_ps(p);
#elif defined(__SSE2__)
    return _mm_loadu_ps(p);
#else
    return vld1q_f32(p);
#endif
}

VKL_CPU_INLINE void v_store(float *p, Vec v)
{
#if defined(__AVX512F__)
    _mm512_storeu_ps(p, v);
#elif LANES == 8
    _mm256_storeu_ps(p, v);
#elif defined(__SSE2__)
    _mm_storeu_ps(p, v);
#else
    vst1q_f32(p, v);
#endif
}

VKL_CPU_INLINE Vec v_all(float x)
{
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#elif LANES == 8
    return _mm256_set1_ps(x);
#elif defined(__SSE2__)
    return _mm_set1_ps(x);
#else
    return vdupq_n_f32(x);
#endif
}

/* a b + c, fused where the machine has it */
VKL_CPU_INLINE Vec v_fma(Vec a, Vec b, Vec c)
{
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif LANES == 8
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__SSE2__)
    return a * b + c;
#else
    return vfmaq_f32(c, a, b);
#endif
}

/* The first n < LANES numbers, 0 behind them; nothing else is read. */
VKL_CPU_INLINE Vec v_load_part(const float *p, size_t n)
{
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#else
    float part[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        part[i] = p[i];
    return v_load(part);
#endif
}

VKL_CPU_INLINE void v_store_part(float *p, size_t n, Vec v)
{
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
#else
    float part[LANES];
    v_store(part, v);
    for (size_t i = 0; i < n; i++)
        p[i] = part[i];
#endif
}

/* `left` of LANES numbers or more: all, some or none. */
VKL_CPU_INLINE Vec v_load_some(const float *p, size_t left)
{
    return left >= LANES ? v_load(p) : v_load_part(p, left);
}

VKL_CPU_INLINE void v_store_some(float *p, size_t left, Vec v)
{
    if (left >= LANES)
        v_store(p, v);
    else
        v_store_part(p, left, v);
}

/* x, at most or at least `limit`; NaN stays */
VKL_CPU_INLINE Vec v_at_most(Vec x, Vec limit)
{
#if defined(__AVX512F__)
    return _mm512_min_ps(limit, x); /* the second operand where either is NaN */
#elif LANES == 8
    return _mm256_min_ps(limit, x);
#elif defined(__SSE2__)
    return _mm_min_ps(limit, x);
#else
    return vminq_f32(limit, x);
#endif
}

VKL_CPU_INLINE Vec v_at_least(Vec x, Vec limit)
{
#if defined(__AVX512F__)
    return _mm512_max_ps(limit, x);
#elif LANES == 8
    return _mm256_max_ps(limit, x);
#elif defined(__SSE2__)
    return _mm_max_ps(limit, x);
#else
    return vmaxq_f32(limit, x);
#endif
}

/* to[c to_row + r] = from[r from_row + c], r and c below 4 */
VKL_CPU_INLINE void v_transpose4(float *to, size_t to_row, const float *from, size_t from_row)
{
#if defined(__SSE2__)
    __m128 r0 = _mm_loadu_ps(from), r1 = _mm_loadu_ps(from + from_row), r2 = _mm_loadu_ps(from + 2 * from_row),
           r3 = _mm_loadu_ps(from + 3 * from_row);
    __m128 lo01 = _mm_unpacklo_ps(r0, r1), hi01 = _mm_unpackhi_ps(r0, r1), lo23 = _mm_unpacklo_ps(r2, r3),
           hi23 = _mm_unpackhi_ps(r2, r3);
    _mm_storeu_ps(to, _mm_movelh_ps(lo01, lo23));
    _mm_storeu_ps(to + to_row, _mm_movehl_ps(lo23, lo01));
    _mm_storeu_ps(to + 2 * to_row, _mm_movelh_ps(hi01, hi23));
    _mm_storeu_ps(to + 3 * to_row, _mm_movehl_ps(hi23, hi01));
#else
    float32x4x2_t a = vtrnq_f32(vld1q_f32(from), vld1q_f32(from + from_row));
    float32x4x2_t b = vtrnq_f32(vld1q_f32(from + 2 * from_row), vld1q_f32(from + 3 * from_row));
    vst1q_f32(to, vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0])));
    vst1q_f32(to + to_row, vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1])));
    vst1q_f32(to + 2 * to_row, vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0])));
    vst1q_f32(to + 3 * to_row, vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1])));
#endif
}

/* Four arrays from groups of four numbers, LANES of each. */
VKL_CPU_INLINE void v_split4(Vec out[4], const Vec in[4])
{
#if defined(__AVX512F__)
    const __m512i even = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    const __m512i odd = _mm512_setr_epi32(2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    Vec a = _mm512_permutex2var_ps(in[0], even, in[1]), b = _mm512_permutex2var_ps(in[2], even, in[3]);
    Vec c = _mm512_permutex2var_ps(in[0], odd, in[1]), d = _mm512_permutex2var_ps(in[2], odd, in[3]);
    out[0] = _mm512_shuffle_f32x4(a, b, 0x44);
    out[1] = _mm512_shuffle_f32x4(a, b, 0xee);
    out[2] = _mm512_shuffle_f32x4(c, d, 0x44);
    out[3] = _mm512_shuffle_f32x4(c, d, 0xee);
#elif LANES == 8
    Vec a = _mm256_permute2f128_ps(in[0], in[2], 0x20), b = _mm256_permute2f128_ps(in[0], in[2], 0x31);
    Vec c = _mm256_permute2f128_ps(in[1], in[3], 0x20), d = _mm256_permute2f128_ps(in[1], in[3], 0x31);
    Vec lo_ab = _mm256_unpacklo_ps(a, b), hi_ab = _mm256_unpackhi_ps(a, b);
    Vec lo_cd = _mm256_unpacklo_ps(c, d), hi_cd = _mm256_unpackhi_ps(c, d);
    out[0] = _mm256_shuffle_ps(lo_ab, lo_cd, 0x44);
    out[1] = _mm256_shuffle_ps(lo_ab, lo_cd, 0xee);
    out[2] = _mm256_shuffle_ps(hi_ab, hi_cd, 0x44);
    out[3] = _mm256_shuffle_ps(hi_ab, hi_cd, 0xee);
#else
    float groups[16], arrays[16];
    for (size_t i = 0; i < 4; i++)
        v_store(groups + 4 * i, in[i]);
    v_transpose4(arrays, 4, groups, 4);
    for (size_t i = 0; i < 4; i++)
        out[i] = v_load(arrays + 4 * i);
#endif
}

/* And back. */
VKL_CPU_INLINE void v_join4(Vec out[4], const Vec in[4])
{
#if defined(__AVX512F__)
    const __m512i low = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    const __m512i high = _mm512_setr_epi32(4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
    Vec a = _mm512_shuffle_f32x4(in[0], in[1], 0x44), b = _mm512_shuffle_f32x4(in[2], in[3], 0x44);
    Vec c = _mm512_shuffle_f32x4(in[0], in[1], 0xee), d = _mm512_shuffle_f32x4(in[2], in[3], 0xee);
    out[0] = _mm512_permutex2var_ps(a, low, b);
    out[1] = _mm512_permutex2var_ps(a, high, b);
    out[2] = _mm512_permutex2var_ps(c, low, d);
    out[3] = _mm512_permutex2var_ps(c, high, d);
#elif LANES == 8
    Vec lo_ab = _mm256_unpacklo_ps(in[0], in[1]), hi_ab = _mm256_unpackhi_ps(in[0], in[1]);
    Vec lo_cd = _mm256_unpacklo_ps(in[2], in[3]), hi_cd = _mm256_unpackhi_ps(in[2], in[3]);
    Vec a = _mm256_shuffle_ps(lo_ab, lo_cd, 0x44), b = _mm256_shuffle_ps(lo_ab, lo_cd, 0xee);
    Vec c = _mm256_shuffle_ps(hi_ab, hi_cd, 0x44), d = _mm256_shuffle_ps(hi_ab, hi_cd, 0xee);
    out[0] = _mm256_permute2f128_ps(a, b, 0x20);
    out[1] = _mm256_permute2f128_ps(c, d, 0x20);
    out[2] = _mm256_permute2f128_ps(a, b, 0x31);
    out[3] = _mm256_permute2f128_ps(c, d, 0x31);
#else
    v_split4(out, in); /* a square: there and back are one */
#endif
}

/* ---- Activations: the formulas of activations.h, in another order ---- */

VKL_CPU_INLINE void v_exp_parts(Vec x, Vec *scale, Vec *part)
{
    const Vec round = v_all(12582912.0f);
    Vec shifted = v_fma(x, v_all(1.44269504f), round);
    Vec n = shifted - round;
    Vec r = v_fma(n, v_all(2.12194440e-4f), v_fma(n, v_all(-0.693359375f), x));
    /* by pairs (Estrin 1960): half the latency of one term after the other */
    Vec square = r * r;
    Vec low = v_fma(v_all(1.0f / 6.0f), r, v_all(0.5f)), middle = v_fma(v_all(1.0f / 120.0f), r, v_all(1.0f / 24.0f));
    Vec high = v_fma(v_all(1.0f / 5040.0f), r, v_all(1.0f / 720.0f));
    *part = v_fma(v_fma(v_fma(high, square, middle), square, low), square, r);
    VecBits bits = (VecBits)shifted << 23;
    *scale = (Vec)(bits + (127u << 23));
}

VKL_CPU_INLINE Vec v_tanh(Vec x)
{
    const VecBits sign = (VecBits)v_all(-0.0f);
    Vec scale, part, magnitude = v_at_most((Vec)((VecBits)x & ~sign), v_all(20.0f));
    v_exp_parts(magnitude + magnitude, &scale, &part);
    Vec e = v_fma(scale, part, scale - v_all(1.0f)); /* e^2|x| - 1 */
    Vec t = e / (e + v_all(2.0f));
    return (Vec)((VecBits)t | ((VecBits)x & sign));
}

VKL_CPU_INLINE Vec v_sigmoid(Vec x)
{
    Vec scale, part, y = v_at_least(v_at_most(-x, v_all(87.0f)), v_all(-87.0f));
    v_exp_parts(y, &scale, &part);
    return v_all(1.0f) / (v_all(1.0f) + v_fma(scale, part, scale));
}

#endif

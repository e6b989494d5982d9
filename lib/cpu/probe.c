/* SPDX-License-Identifier: MIT
 *
 * What this processor can do at best: multiply-adds in the widest registers that it has, or a copy.
 */
#include <string.h>

#include "kernels.h"

#if defined(__GNUC__) && defined(__x86_64__)
#define X86 1
#include <immintrin.h>
#endif

/* The sums of one invocation: four numbers. */
typedef struct Sums {
    float a[VKL_PROBE_SUMS];
} Sums;

/* LANES invocations side by side, as long as there are as many. */
#define LOOP(LANES, VECTOR, LOAD, STORE, SET, MULTIPLY_ADD)                                        \
    for (; i + (LANES) <= end; i += (LANES)) {                                                     \
        float start[LANES];                                                                        \
        for (int lane = 0; lane < (LANES); lane++)                                                 \
            start[lane] = in[2] + (float)((i + (uint64_t)lane) % 16);                              \
        VECTOR a[VKL_PROBE_SUMS], x = SET(in[0]), y = SET(in[1]);                                  \
        for (int k = 0; k < VKL_PROBE_SUMS; k++) {                                                 \
            float begin[LANES];                                                                    \
            for (int lane = 0; lane < (LANES); lane++)                                             \
                begin[lane] = start[lane] + (float)k;                                              \
            a[k] = LOAD(begin);                                                                    \
        }                                                                                          \
        for (uint64_t round = 0; round < (uint64_t)args->rounds * VKL_PROBE_UNROLL; round++)       \
            for (int k = 0; k < VKL_PROBE_SUMS; k++)                                               \
                a[k] = MULTIPLY_ADD(a[(k + 1) % VKL_PROBE_SUMS], round % 2 ? y : x, a[k]);         \
        for (int k = 0; k < VKL_PROBE_SUMS; k++) {                                                 \
            float done[LANES];                                                                     \
            STORE(done, a[k]);                                                                     \
            for (int lane = 0; lane < (LANES); lane++)                                             \
                out[4 * (i + (uint64_t)lane) + (unsigned)k % 4] =                                  \
                    (k < 4 ? 0.0f : out[4 * (i + (uint64_t)lane) + (unsigned)k % 4]) + done[lane]; \
        }                                                                                          \
    }

typedef uint64_t (*Arithmetic)(const struct VklProbeArgs *args, float *out, const float *in, uint64_t i, uint64_t end);

#ifdef X86
__attribute__((target("avx512f"))) static uint64_t avx512(const struct VklProbeArgs *args, float *out, const float *in,
                                                          uint64_t i, uint64_t end)
{
    LOOP(16, __m512, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps)
    return i;
}

__attribute__((target("avx2,fma"))) static uint64_t avx2(const struct VklProbeArgs *args, float *out, const float *in, uint64_t i,
                                                         uint64_t end)
{
    LOOP(8, __m256, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps)
    return i;
}

#define SSE_MULTIPLY_ADD(a, x, y) _mm_add_ps(_mm_mul_ps(a, x), y)
static uint64_t sse2(const struct VklProbeArgs *args, float *out, const float *in, uint64_t i, uint64_t end)
{
    LOOP(4, __m128, _mm_loadu_ps, _mm_storeu_ps, _mm_set1_ps, SSE_MULTIPLY_ADD)
    return i;
}
#endif

/* Where there are no such registers, and for what is left: vectors if the compiler finds them. */
static uint64_t plain(const struct VklProbeArgs *args, float *out, const float *in, uint64_t i, uint64_t end)
{
    for (; i < end; i++) {
        Sums sums;
        float x = in[0], y = in[1], *to = out + 4 * i;
        for (int k = 0; k < VKL_PROBE_SUMS; k++)
            sums.a[k] = in[2] + (float)(i % 16) + (float)k;
        for (uint64_t round = 0; round < (uint64_t)args->rounds * VKL_PROBE_UNROLL; round++)
            for (int k = 0; k < VKL_PROBE_SUMS; k++)
                sums.a[k] += sums.a[(k + 1) % VKL_PROBE_SUMS] * (round % 2 ? y : x);
        for (int k = 0; k < 4; k++)
            to[k] = sums.a[k] + sums.a[k + 4] + sums.a[k + 8];
    }
    return i;
}

static Arithmetic widest(void)
{
#ifdef X86
    if (__builtin_cpu_supports("avx512f"))
        return avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return avx2;
    return sse2;
#else
    return plain;
#endif
}

void VKL_CPU(probe)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklProbeArgs *args = &op->args.PROBE;
    float *out = (float *)ptr[0] + args->off0;
    const float *in = (const float *)ptr[1] + args->off1;
    if (op->spec[VKL_SPEC_FORM] == VKL_PROBE_COPY) {
        memcpy(out + 4 * begin, in + 4 * begin, (size_t)(end - begin) * 4 * sizeof(*out));
        return;
    }
    begin = widest()(args, out, in, begin, end);
    plain(args, out, in, begin, end);
}

/* SPDX-License-Identifier: MIT
 *
 * The two products that all matrix kernels are made of, written so that a compiler turns them into vector code by itself: 32 sums
 * that do not depend on each other, in an array that fits the registers. Every sum has a fixed order, and is cut after VKL_CPU_BLOCK
 * terms, so that rounding errors grow with the number of blocks and not with that of terms.
 */
#ifndef VKL_CPU_PRODUCT_H
#define VKL_CPU_PRODUCT_H

#include <stddef.h>

#define VKL_CPU_BLOCK 4096
#define VKL_CPU_STRIP 32

/* sum[c] = sum over j < k of a[j * step] b[j * ldb + c], for c < columns; to be called with a constant number of columns. */
static inline void strip_product(int columns, float *sum, const float *a, size_t step, const float *b, size_t ldb, size_t k)
{
    float s[VKL_CPU_STRIP];
    for (int c = 0; c < columns; c++)
        s[c] = 0.0f;
    for (size_t j = 0; j < k; j++) {
        float x = a[j * step];
        for (int c = 0; c < columns; c++)
            s[c] += x * b[c];
        b += ldb;
    }
    for (int c = 0; c < columns; c++)
        sum[c] = s[c];
}

/* The same for any number of columns and k <= VKL_CPU_BLOCK. */
static inline void block_product(size_t columns, float *sum, const float *a, size_t step, const float *b, size_t ldb, size_t k)
{
    size_t c = 0;
    for (; c + 32 <= columns; c += 32)
        strip_product(32, sum + c, a, step, b + c, ldb, k);
    for (; c + 8 <= columns; c += 8)
        strip_product(8, sum + c, a, step, b + c, ldb, k);
    for (; c < columns; c++)
        strip_product(1, sum + c, a, step, b + c, ldb, k);
}

/* sum over j < k of a[j] b[j], k <= VKL_CPU_BLOCK. */
static inline float block_dot(const float *a, const float *b, size_t k)
{
    float s[32], rest = 0.0f;
    size_t j = 0;
    for (int c = 0; c < 32; c++)
        s[c] = 0.0f;
    for (; j + 32 <= k; j += 32)
        for (int c = 0; c < 32; c++)
            s[c] += a[j + (size_t)c] * b[j + (size_t)c];
    for (; j + 8 <= k; j += 8)
        for (int c = 0; c < 8; c++)
            s[c] += a[j + (size_t)c] * b[j + (size_t)c];
    for (; j < k; j++)
        rest += a[j] * b[j];
    for (int c = 0; c < 16; c++)
        s[c] += s[c + 16];
    for (int c = 0; c < 8; c++)
        s[c] += s[c + 8];
    for (int c = 0; c < 4; c++)
        s[c] += s[c + 4];
    return ((s[0] + s[2]) + (s[1] + s[3])) + rest;
}

/* The same for any k. */
static inline float dot_product(const float *a, const float *b, size_t k)
{
    float total = 0.0f;
    for (; k > VKL_CPU_BLOCK; k -= VKL_CPU_BLOCK, a += VKL_CPU_BLOCK, b += VKL_CPU_BLOCK)
        total += block_dot(a, b, VKL_CPU_BLOCK);
    return total + block_dot(a, b, k);
}

#endif

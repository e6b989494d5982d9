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

/* sum[r] = sum over j < k of a[j] b[r * ldb + j], for four rows of b at a time: eight partial sums for each, then what is left. */
static inline void dot_block4(float *sum, const float *a, const float *b, size_t ldb, size_t k)
{
    float s[4][8], rest[4] = {0};
    size_t j = 0;
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 8; c++)
            s[r][c] = 0.0f;
    for (; j + 8 <= k; j += 8)
        for (size_t c = 0; c < 8; c++) {
            float x = a[j + c];
            s[0][c] += x * b[j + c];
            s[1][c] += x * b[ldb + j + c];
            s[2][c] += x * b[2 * ldb + j + c];
            s[3][c] += x * b[3 * ldb + j + c];
        }
    for (; j < k; j++)
        for (size_t r = 0; r < 4; r++)
            rest[r] += a[j] * b[r * ldb + j];
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < 4; c++)
            s[r][c] += s[r][c + 4];
        sum[r] = ((s[r][0] + s[r][2]) + (s[r][1] + s[r][3])) + rest[r];
    }
}

/* The same for one row. */
static inline void dot_block1(float *sum, const float *a, const float *b, size_t k)
{
    float s[8] = {0}, rest = 0.0f;
    size_t j = 0;
    for (; j + 8 <= k; j += 8)
        for (size_t c = 0; c < 8; c++)
            s[c] += a[j + c] * b[j + c];
    for (; j < k; j++)
        rest += a[j] * b[j];
    for (int c = 0; c < 4; c++)
        s[c] += s[c + 4];
    *sum = ((s[0] + s[2]) + (s[1] + s[3])) + rest;
}

/* sum[r] += sum over j < k of a[j] b[r * ldb + j], for r < rows. */
static inline void dot_products(size_t rows, float *sum, const float *a, const float *b, size_t ldb, size_t k)
{
    for (size_t begin = 0; begin < k; begin += VKL_CPU_BLOCK) {
        size_t terms = k - begin < VKL_CPU_BLOCK ? k - begin : VKL_CPU_BLOCK, r = 0;
        float part[4];
        for (; r + 4 <= rows; r += 4) {
            dot_block4(part, a + begin, b + r * ldb + begin, ldb, terms);
            for (size_t i = 0; i < 4; i++)
                sum[r + i] += part[i];
        }
        for (; r < rows; r++) {
            dot_block1(part, a + begin, b + r * ldb + begin, terms);
            sum[r] += part[0];
        }
    }
}

#endif

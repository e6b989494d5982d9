/* SPDX-License-Identifier: MIT
 *
 * The product that every vector kernel with a sum over k is made of. B is packed in panels of PANEL columns, A in tiles of a
 * few rows, and a tile's sums stay in registers (Goto and van de Geijn 2008). Every sum is cut after CHUNK terms; within a
 * chunk it is one chain of multiply-adds in the order of k, whatever the tile: a row has the same bits alone and among others.
 */
#ifndef VKL_CPU_VECTOR_PRODUCT_H
#define VKL_CPU_VECTOR_PRODUCT_H

#include "kernels.h"
#include "scratch.h"
#include "vector.h"
#include "vector_items.h"
#include "vklstm/layers.h"

#define PANEL (TILE_VECTORS * LANES)
#define CHUNK 256

/* c[row][column] = base + sum over k of A[row][k] B[k][column] + bias, then the activation. */
typedef struct Product {
    size_t k;
    const float *a;
    size_t lda;
    bool a_columns;      /* A is [k][rows] (TN) in the pieces of VklGemmArgs: */
    size_t first, plain; /* rows below `first` are in a, those below `plain` in second, others are 1 */
    const float *second;
    size_t lda_second;
    const float *b;
    size_t ldb;
    bool b_rows;       /* B is [columns][k] (NT) */
    const float *base; /* or NULL */
    size_t base_ld;
    float *c;
    size_t ldc;
    const float *bias; /* rows `bias_ld` apart, which are added up */
    size_t bias_rows, bias_ld;
    uint32_t activation;
} Product;

/* ---- Packing ---- */

/* to[j to_row + i] = from[i from_row + j], for i < rows and j < columns. What is no multiple of 4 is done by fours that overlap. */
static inline void transpose(float *to, size_t to_row, const float *from, size_t from_row, size_t rows, size_t columns)
{
    if (rows < 4 || columns < 4) {
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                to[j * to_row + i] = from[i * from_row + j];
        return;
    }
    for (size_t i = 0;; i = i + 8 <= rows ? i + 4 : rows - 4) {
        for (size_t j = 0;; j = j + 8 <= columns ? j + 4 : columns - 4) {
            v_transpose4(to + j * to_row + i, to_row, from + i * from_row + j, from_row);
            if (j + 4 >= columns)
                break;
        }
        if (i + 4 >= rows)
            break;
    }
}

/* ---- Sums in registers ---- */

VKL_CPU_INLINE void tile_zero(const int vectors, Vec *acc)
{
#pragma GCC unroll 32
    for (int i = 0; i < vectors; i++)
        acc[i] = v_all(0.0f);
}

/* acc[r][v] += sum over j < k of a[r a_row + j a_step] b[j ldb + v LANES ...]; rows and vectors are constants. */
VKL_CPU_INLINE void tile_sums(const int rows, const int vectors, Vec *acc, const float *a, size_t a_row, size_t a_step,
                              const float *b, size_t ldb, size_t k)
{
    for (size_t j = 0; j < k; j++) {
        Vec bv[WIDE];
#pragma GCC unroll 32
        for (int v = 0; v < vectors; v++)
            bv[v] = v_load(b + v * LANES);
#pragma GCC unroll 32
        for (int r = 0; r < rows; r++) {
            Vec x = v_all(a[(size_t)r * a_row]);
#pragma GCC unroll 32
            for (int v = 0; v < vectors; v++)
                acc[r * vectors + v] = v_fma(x, bv[v], acc[r * vectors + v]);
        }
        a += a_step;
        b += ldb;
    }
}

VKL_CPU_INLINE Vec v_activate(uint32_t activation, Vec x)
{
    switch (activation) {
    case VKL_ACTIVATION_TANH:
        return v_tanh(x);
    case VKL_ACTIVATION_SIGMOID:
        return v_sigmoid(x);
    case VKL_ACTIVATION_RELU:
        return v_at_least(x, v_all(0.0f));
    default:
        return x;
    }
}

/* What becomes of sums. */
typedef struct Finish {
    const float *base; /* at the tile's corner, or NULL */
    size_t base_ld;
    float *c;
    size_t ldc, columns;
    const float *bias; /* at the tile's first column, or NULL */
    uint32_t activation;
} Finish;

VKL_CPU_INLINE void tile_finish(const int rows, const int vectors, const Vec *acc, const Finish *f)
{
#pragma GCC unroll 32
    for (int r = 0; r < rows; r++) {
        const float *base = f->base ? f->base + (size_t)r * f->base_ld : NULL;
        float *c = f->c + (size_t)r * f->ldc;
#pragma GCC unroll 32
        for (int v = 0; v < vectors; v++) {
            Vec sum = acc[r * vectors + v];
            size_t at = (size_t)v * LANES, left = f->columns - at;
            if (f->columns <= at)
                continue;
            if (base)
                sum = (left < LANES ? v_load_part(base + at, left) : v_load(base + at)) + sum;
            if (f->bias)
                sum = sum + v_load(f->bias + at);
            if (f->activation != VKL_ACTIVATION_NONE)
                sum = v_activate(f->activation, sum);
            if (left < LANES)
                v_store_part(c + at, left, sum);
            else
                v_store(c + at, sum);
        }
    }
}

/* ---- Blocks ---- */

/* Where the sums over terms j0 on of rows from `row`, columns from `column` go. */
static inline Finish finish_of(const Product *p, const float *bias, size_t j0, size_t k, size_t row, size_t column,
                               size_t columns)
{
    bool last = j0 + k == p->k;
    Finish f = {.c = p->c + row * p->ldc + column, .ldc = p->ldc, .columns = columns};
    if (j0) {
        f.base = f.c;
        f.base_ld = p->ldc;
    } else if (p->base) {
        f.base = p->base + row * p->base_ld + column;
        f.base_ld = p->base_ld;
    }
    f.bias = last && p->bias_rows ? bias : NULL;
    f.activation = last ? p->activation : VKL_ACTIVATION_NONE;
    return f;
}

/* One row, B as it stands. */
VKL_CPU_INLINE void row_strip(const int vectors, const Product *p, const float *bias, size_t row, size_t column, size_t j0,
                              size_t k)
{
    Vec acc[WIDE];
    Finish f = finish_of(p, bias, j0, k, row, column, (size_t)vectors * LANES);
    tile_zero(vectors, acc);
    tile_sums(1, vectors, acc, p->a + row * p->lda + j0, 0, 1, p->b + j0 * p->ldb + column, p->ldb, k);
    tile_finish(1, vectors, acc, &f);
}

static inline void row_block(const Product *p, const float *bias, size_t row, size_t column, size_t end, size_t j0, size_t k)
{
    size_t first = column;
    for (; end - column >= WIDE * LANES; column += WIDE * LANES)
        row_strip(WIDE, p, bias + (column - first), row, column, j0, k);
    for (; end - column >= 4 * LANES; column += 4 * LANES)
        row_strip(4, p, bias + (column - first), row, column, j0, k);
    for (; end - column >= LANES; column += LANES)
        row_strip(1, p, bias + (column - first), row, column, j0, k);
    if (column < end) {
        Finish f = finish_of(p, bias + (column - first), j0, k, row, column, end - column);
        const float *a = p->a + row * p->lda + j0, *b = p->b + j0 * p->ldb + column;
        Vec acc = v_all(0.0f);
        for (size_t j = 0; j < k; j++)
            acc = v_fma(v_all(a[j]), v_load_part(b + j * p->ldb, end - column), acc);
        tile_finish(1, 1, &acc, &f);
    }
}

#endif

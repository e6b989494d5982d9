/* SPDX-License-Identifier: MIT
 *
 * The product that every vector kernel with a sum over k is made of. B is packed in panels of PANEL columns, A in tiles of a few rows, and a
 * tile's sums stay in registers (Goto and van de Geijn 2008). Every sum is cut after CHUNK terms; within a chunk it is one chain of
 * multiply-adds in the order of k, whatever the tile: a row has the same bits alone and among others.
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

/* Where a block's operands are packed, in a block of scratch. */
#define SCRATCH_A (CHUNK * BLOCK_COLUMNS)
#define SCRATCH_BIAS (SCRATCH_A + CHUNK * 16)
#define SCRATCH_OUT (SCRATCH_BIAS + BLOCK_COLUMNS)
_Static_assert(SCRATCH_OUT + BLOCK_ROWS_MAX * BLOCK_COLUMNS <= VKL_CPU_SCRATCH_FLOATS, "a block of scratch holds it all");

/* ---- Packing ---- */

/* to[j to_row + i] = from[i from_row + j], for i < rows and j < columns */
static inline void transpose(float *to, size_t to_row, const float *from, size_t from_row, size_t rows, size_t columns)
{
    size_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        size_t j = 0;
        for (; j + 4 <= columns; j += 4)
            v_transpose4(to + j * to_row + i, to_row, from + i * from_row + j, from_row);
        for (; j < columns; j++)
            for (size_t r = 0; r < 4; r++)
                to[j * to_row + i + r] = from[(i + r) * from_row + j];
    }
    for (; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            to[j * to_row + i] = from[i * from_row + j];
}

/* n <= width columns of B from `column` on, terms j0 to j0 + k, as [k][width] with zeros behind */
static inline void pack_panel(const Product *p, float *to, size_t width, size_t column, size_t n, size_t j0, size_t k)
{
    if (p->b_rows) {
        if (n < width)
            memset(to, 0, k * width * sizeof *to);
        transpose(to, width, p->b + column * p->ldb + j0, p->ldb, n, k);
        return;
    }
    const float *from = p->b + j0 * p->ldb + column;
    if (n == width) {
        for (size_t j = 0; j < k; j++)
            for (size_t c = 0; c < width; c += LANES)
                v_store(to + j * width + c, v_load(from + j * p->ldb + c));
    } else {
        for (size_t j = 0; j < k; j++) {
            size_t c = 0;
            for (; c + LANES <= n; c += LANES)
                v_store(to + j * width + c, v_load(from + j * p->ldb + c));
            if (c < n) {
                v_store(to + j * width + c, v_load_part(from + j * p->ldb + c, n - c));
                c += LANES;
            }
            for (; c < width; c += LANES)
                v_store(to + j * width + c, v_all(0.0f));
        }
    }
}

/* A piece of [k][rows]: rows row to row + n go to columns `at` on of [k][width]. */
static inline void pack_columns(float *to, size_t width, const float *from, size_t ld, size_t n, size_t k)
{
    for (size_t j = 0; j < k; j++)
        for (size_t r = 0; r < n; r++)
            to[j * width + r] = from[j * ld + r];
}

/* rows of A, terms j0 to j0 + k, as [k][rows] */
static inline void pack_rows(const Product *p, float *to, size_t row, size_t rows, size_t j0, size_t k)
{
    if (!p->a_columns) {
        transpose(to, rows, p->a + row * p->lda + j0, p->lda, rows, k);
        return;
    }
    size_t r = row, end = row + rows;
    size_t stop = end < p->first ? end : p->first;
    if (r < stop) {
        if (stop - r == TILE_ROWS && rows == TILE_ROWS)
            pack_columns(to, TILE_ROWS, p->a + j0 * p->lda + r, p->lda, TILE_ROWS, k);
        else
            pack_columns(to, rows, p->a + j0 * p->lda + r, p->lda, stop - r, k);
        r = stop;
    }
    stop = end < p->plain ? end : p->plain;
    if (r < stop) {
        const float *from = p->second + j0 * p->lda_second + (r - p->first);
        if (stop - r == TILE_ROWS)
            pack_columns(to, TILE_ROWS, from, p->lda_second, TILE_ROWS, k);
        else
            pack_columns(to + (r - row), rows, from, p->lda_second, stop - r, k);
        r = stop;
    }
    for (; r < end; r++)
        for (size_t j = 0; j < k; j++)
            to[j * rows + (r - row)] = 1.0f;
}

/* ---- Sums in registers ---- */

/* acc[r][v] = sum over j < k of a[r a_row + j a_step] b[j ldb + v LANES ...]; rows and vectors are constants. */
VKL_CPU_INLINE void tile_sums(const int rows, const int vectors, Vec *acc, const float *a, size_t a_row, size_t a_step,
                              const float *b, size_t ldb, size_t k)
{
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        acc[i] = v_all(0.0f);
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

/* Out of registers: a tile of any number of rows, in a function of its own for each. */
typedef void (*TileFunction)(const float *a, const float *b, size_t k, const Finish *finish);

#define TILE(rows)                                                                                               \
    static void tile_##rows(const float *a, const float *b, size_t k, const Finish *f)                           \
    {                                                                                                            \
        Vec acc[(rows)*TILE_VECTORS];                                                                            \
        tile_sums(rows, TILE_VECTORS, acc, a, 1, rows, b, PANEL, k);                                             \
        float out[(rows)*PANEL];                                                                                 \
        _Pragma("GCC unroll 32") for (int i = 0; i < (rows)*TILE_VECTORS; i++) v_store(out + i * LANES, acc[i]); \
        tile_put(rows, out, f);                                                                                  \
    }

/* The sums leave the registers once, so that what follows is a loop and not thirty copies of it. */
static void tile_put(size_t rows, const float *out, const Finish *f)
{
    for (size_t r = 0; r < rows; r++) {
        const float *base = f->base ? f->base + r * f->base_ld : NULL;
        float *c = f->c + r * f->ldc;
        for (size_t at = 0; at < f->columns; at += LANES) {
            size_t left = f->columns - at;
            Vec sum = v_load(out + r * PANEL + at);
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

TILE(1)
TILE(2)
TILE(3)
TILE(4)
#if TILE_ROWS > 4
TILE(5)
TILE(6)
#endif
#if TILE_ROWS > 6
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
TILE(13)
TILE(14)
#endif

static const TileFunction tile_functions[TILE_ROWS + 1] = {
    NULL,   tile_1, tile_2, tile_3,  tile_4,
#if TILE_ROWS > 4
    tile_5, tile_6,
#endif
#if TILE_ROWS > 6
    tile_7, tile_8, tile_9, tile_10, tile_11, tile_12, tile_13, tile_14,
#endif
};

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

/* Rows row to row_end, columns `column` to `end`, at most BLOCK_COLUMNS. */
static void product_block(const Product *p, size_t row, size_t row_end, size_t column, size_t end, float *scratch)
{
    float *packed_b = scratch, *packed_a = scratch + SCRATCH_A, *bias = scratch + SCRATCH_BIAS;
    size_t columns = end - column, rows = row_end - row;
    if (p->bias_rows) {
        for (size_t c = 0; c < columns; c++) {
            bias[c] = 0.0f;
            for (size_t r = 0; r < p->bias_rows; r++)
                bias[c] += p->bias[r * p->bias_ld + column + c];
        }
    }
    /* B is read once for each row, or once for packing and, packed, for each tile: */
    bool direct = !p->b_rows && !p->a_columns && rows <= 3;
    size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j0 = 0; j0 == 0 || j0 < p->k; j0 += CHUNK) {
        size_t k = p->k - j0 < CHUNK ? p->k - j0 : CHUNK;
        if (direct) {
            for (size_t r = row; r < row_end; r++)
                row_block(p, bias, r, column, end, j0, k);
            continue;
        }
        for (size_t c = 0; c < columns; c += PANEL)
            pack_panel(p, packed_b + c * k, PANEL, column + c, columns - c < PANEL ? columns - c : PANEL, j0, k);
        for (size_t tile = 0; tile < tiles; tile++) {
            size_t from = row + tile * rows / tiles, n = row + (tile + 1) * rows / tiles - from;
            pack_rows(p, packed_a, from, n, j0, k);
            for (size_t c = 0; c < columns; c += PANEL) {
                Finish f = finish_of(p, bias + c, j0, k, from, column + c, columns - c < PANEL ? columns - c : PANEL);
                tile_functions[n](packed_a, packed_b + c * k, k, &f);
            }
        }
    }
}

/* Items `begin` to `end` of a product of rows x columns, in the order of vector_items.h. */
static inline void product_items(const Product *p, size_t rows, size_t columns, uint64_t begin, uint64_t end, float *scratch)
{
    size_t row_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    while (begin < end) {
        size_t block = (size_t)begin / row_blocks, first = (size_t)begin % row_blocks, n = row_blocks - first;
        if (n > end - begin)
            n = (size_t)(end - begin);
        size_t row_end = (first + n) * BLOCK_ROWS, column = block * BLOCK_COLUMNS;
        product_block(p, first * BLOCK_ROWS, row_end < rows ? row_end : rows, column,
                      columns - column < BLOCK_COLUMNS ? columns : column + BLOCK_COLUMNS, scratch);
        begin += n;
    }
}

#endif

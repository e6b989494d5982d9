/* SPDX-License-Identifier: MIT */
#include "vector_product.h"

/* Where a block's operands are packed, in a block of scratch. */
#define SCRATCH_A (CHUNK * BLOCK_COLUMNS)
#define SCRATCH_BIAS (SCRATCH_A + CHUNK * 16)
#define SCRATCH_END (SCRATCH_BIAS + BLOCK_COLUMNS)
_Static_assert(SCRATCH_END <= VKL_CPU_SCRATCH_FLOATS, "a block of scratch holds it all");

/* ---- Packing ---- */

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

/* Out of registers: a tile of any number of rows, in a function of its own for each. */
typedef void (*TileFunction)(const float *a, const float *b, size_t k, const Finish *finish);

#define TILE(rows)                                                                                               \
    static void tile_##rows(const float *a, const float *b, size_t k, const Finish *f)                           \
    {                                                                                                            \
        Vec acc[(rows)*TILE_VECTORS];                                                                            \
        tile_fetch(rows, f->c, f->ldc);                                                                          \
        tile_zero((rows)*TILE_VECTORS, acc);                                                                     \
        tile_sums(rows, TILE_VECTORS, acc, a, 1, rows, b, PANEL, k);                                             \
        if (f->columns == PANEL && !f->bias && !f->activation) {                                                 \
            tile_add(rows, acc, f->base, f->base_ld, f->c, f->ldc);                                              \
            return;                                                                                              \
        }                                                                                                        \
        float out[(rows)*PANEL];                                                                                 \
        _Pragma("GCC unroll 32") for (int i = 0; i < (rows)*TILE_VECTORS; i++) v_store(out + i * LANES, acc[i]); \
        tile_put(rows, out, f);                                                                                  \
    }

/* Where the sums will go is often in no cache near by: it comes while they are made. */
VKL_CPU_INLINE void tile_fetch(const int rows, const float *c, size_t ldc)
{
#pragma GCC unroll 32
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < PANEL; i += 16)
            __builtin_prefetch(c + (size_t)r * ldc + i, 1);
}

/* A whole tile, with nothing to do but to add it. */
VKL_CPU_INLINE void tile_add(const int rows, const Vec *acc, const float *base, size_t base_ld, float *c, size_t ldc)
{
#pragma GCC unroll 32
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 32
        for (int v = 0; v < TILE_VECTORS; v++) {
            Vec sum = acc[r * TILE_VECTORS + v];
            if (base)
                sum = v_load(base + (size_t)r * base_ld + v * LANES) + sum;
            v_store(c + (size_t)r * ldc + v * LANES, sum);
        }
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

/* How a product is cut for threads: into blocks of rows, all of about the same size, and of `width` columns. */
typedef struct Cut {
    size_t row_blocks, column_blocks, width;
} Cut;

/* Few blocks are cut again until every thread has as many as the others. */
static Cut cut_of(size_t rows, size_t columns, size_t threads)
{
    Cut cut = {(rows + BLOCK_ROWS - 1) / BLOCK_ROWS, (columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS, BLOCK_COLUMNS};
    if (cut.row_blocks * cut.column_blocks >= 4 * threads)
        return cut;
    size_t panels = (columns + PANEL - 1) / PANEL, most_columns = panels > 2 ? panels / 2 : 1;
    size_t most_rows = rows > TILE_ROWS ? rows / TILE_ROWS : 1;
    while (cut.row_blocks * cut.column_blocks < threads && cut.row_blocks < most_rows)
        cut.row_blocks++;
    while (cut.row_blocks * cut.column_blocks % threads && cut.column_blocks < most_columns)
        cut.column_blocks++;
    cut.width = (panels + cut.column_blocks - 1) / cut.column_blocks * PANEL;
    cut.column_blocks = (columns + cut.width - 1) / cut.width;
    return cut;
}

/* Items are blocks, those of the same columns one after the other: they share what is packed. */
static void product_items(const Product *p, size_t rows, size_t columns, size_t threads, uint64_t begin, uint64_t end,
                          float *scratch)
{
    Cut cut = cut_of(rows, columns, threads);
    while (begin < end) {
        size_t block = (size_t)begin / cut.row_blocks, first = (size_t)begin % cut.row_blocks, n = cut.row_blocks - first;
        if (n > end - begin)
            n = (size_t)(end - begin);
        size_t column = block * cut.width;
        product_block(p, rows * first / cut.row_blocks, rows * (first + n) / cut.row_blocks, column,
                      columns - column < cut.width ? columns : column + cut.width, scratch);
        begin += n;
    }
}

/* ---- The kernel ---- */

void VKL_CPU(items)(const VklOp *op, uint32_t threads, uint64_t *count, uint64_t *cost)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    Cut cut;
    switch (op->kernel) {
        VKL_GEMM_LIKE_LABELS
        cut = cut_of(args->m, args->n, threads);
        *count = (uint64_t)cut.row_blocks * cut.column_blocks;
        *cost = (uint64_t)args->m * args->n / (*count ? *count : 1) * args->k;
        break;
    default:
        *count = op->work;
        *cost = op->work_cost;
        return;
    }
}

void VKL_CPU(gemm)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    const float *last = (const float *)ptr[3] + args->off3; /* bias or second A */
    Product p = {
        .k = args->k,
        .a = (const float *)ptr[0] + args->off0,
        .lda = args->lda,
        .a_columns = op->spec[VKL_SPEC_FORM] == VKL_GEMM_TN,
        .first = args->m_first,
        .plain = args->m - args->ones,
        .second = last,
        .lda_second = args->lda_second,
        .b = (const float *)ptr[1] + args->off1,
        .ldb = args->ldb,
        .b_rows = op->spec[VKL_SPEC_FORM] == VKL_GEMM_NT,
        .c = (float *)ptr[2] + args->off2,
        .ldc = args->ldc,
        .bias = last,
        .bias_rows = args->bias_rows,
        .bias_ld = args->n,
        .activation = args->activation,
    };
    size_t index;
    if (args->accumulate) {
        p.base = p.c;
        p.base_ld = p.ldc;
    }
    const VklCpuScratch *device = ptr[VKL_CPU_SCRATCH];
    float *scratch = scratch_take(ptr[VKL_CPU_SCRATCH], &index);
    product_items(&p, args->m, args->n, device->threads, begin, end, scratch);
    scratch_give(ptr[VKL_CPU_SCRATCH], index);
}

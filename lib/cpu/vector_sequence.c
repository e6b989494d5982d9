/* SPDX-License-Identifier: MIT
 *
 * Many time steps of a layer: the recurrent matrix is packed once, in panels of a block of units, and for each step a tile of
 * rows goes over the panels; what the product leaves in registers becomes a cell at once. A sum is one chain over all inputs
 * (cut after MOST of them), whatever the tile, and whether the matrix is packed or, for a few rows, read as it is.
 */
#include "gang.h"
#include "vector_product.h"

#define MOST 4096     /* terms of a sum at once */
#define DIRECT_ROWS 3 /* so few rows, and so few rows in all steps, do not pay for packing */
#define DIRECT_TIMES 32
#define GROUP_UNITS 64 /* that are done at once where nothing is packed */

/* ---- What a cell needs ---- */

typedef struct Cell {
    size_t gates;   /* columns of W_hh for a unit */
    size_t vectors; /* of a forward panel: the gates of LANES units, or RNN two vectors of units */
} Cell;

static Cell cell_of(const VklOp *op)
{
    switch (op->spec[VKL_SPEC_FORM]) {
    case VKL_SEQUENCE_LSTM:
        return (Cell){4, 4};
    case VKL_SEQUENCE_GRU:
        return (Cell){3, 3};
    default:
        return (Cell){1, 2};
    }
}

/* Units of a panel. */
static size_t panel_units(const VklOp *op)
{
    bool forward = op->kernel == VKL_KERNEL_SEQUENCE_FORWARD;
    return forward && cell_of(op).gates > 1 ? LANES : 2 * LANES;
}

typedef struct Sizes {
    size_t units, directions, rows, panels, panel_units, panel_floats;
    bool packed;
} Sizes;

static Sizes sizes_of(const VklOp *op)
{
    bool forward = op->kernel == VKL_KERNEL_SEQUENCE_FORWARD;
    const struct VklSequenceForwardArgs *f = &op->args.SEQUENCE_FORWARD;
    const struct VklSequenceBackwardArgs *b = &op->args.SEQUENCE_BACKWARD;
    Cell cell = cell_of(op);
    Sizes sizes = {.units = forward ? f->units : b->units,
                   .directions = forward ? f->directions : b->directions,
                   .rows = forward ? f->rows : b->rows,
                   .panel_units = panel_units(op)};
    sizes.panels = (sizes.units + sizes.panel_units - 1) / sizes.panel_units;
    sizes.panel_floats = forward ? sizes.units * cell.vectors * LANES : cell.gates * sizes.units * 2 * LANES;
    sizes.packed = forward ? f->rows > DIRECT_ROWS || (uint64_t)f->rows * f->steps > DIRECT_TIMES
                           : b->steps > 1 || (b->flags & VKL_SEQUENCE_NEXT);
    return sizes;
}

void VKL_CPU(packing)(const VklOp *op, VklCpuPacking *packing)
{
    *packing = (VklCpuPacking){0};
    if (op->kernel != VKL_KERNEL_SEQUENCE_FORWARD && op->kernel != VKL_KERNEL_SEQUENCE_BACKWARD)
        return;
    Sizes sizes = sizes_of(op);
    packing->unit_blocks = sizes.panels;
    if (!sizes.packed)
        return;
    packing->items = (uint64_t)sizes.directions * sizes.panels;
    packing->floats = packing->items * sizes.panel_floats;
    packing->cost = 8 * (uint64_t)sizes.panel_floats;
}

/* Items are panels, those of the second direction behind those of the first. */
void VKL_CPU(pack)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklSequenceForwardArgs *forward = &op->args.SEQUENCE_FORWARD;
    const struct VklSequenceBackwardArgs *backward = &op->args.SEQUENCE_BACKWARD;
    Sizes sizes = sizes_of(op);
    size_t H = sizes.units, gates = cell_of(op).gates;
    const float *params = (const float *)ptr[1] + op->args.offset[1];
    for (uint64_t item = begin; item < end; item++) {
        size_t first = (size_t)(item % sizes.panels) * sizes.panel_units;
        size_t n = H - first < sizes.panel_units ? H - first : sizes.panel_units;
        bool second = item >= sizes.panels;
        float *to = (float *)ptr[VKL_CPU_PACKED] + item * sizes.panel_floats;
        if (op->kernel == VKL_KERNEL_SEQUENCE_BACKWARD) {
            if (n < 2 * LANES)
                memset(to, 0, sizes.panel_floats * sizeof(*to));
            const float *w = params + (second ? backward->w_second : backward->w);
            transpose(to, 2 * LANES, w + first * gates * H, gates * H, n, gates * H);
            continue;
        }
        /* the gates of a unit lie side by side (LSTM), or each gate is an array (GRU, RNN) */
        bool together = gates == 4;
        size_t arrays = together ? 1 : gates, columns = together ? 4 * n : n;
        size_t width = sizes.panel_floats / H, array_width = width / arrays;
        const float *w = params + (second ? forward->w_second : forward->w);
        for (size_t j = 0; j < H; j++)
            for (size_t g = 0; g < arrays; g++) {
                const float *from = w + j * gates * H + (together ? 4 * first : g * H + first);
                for (size_t c = 0; c < array_width; c += LANES)
                    v_store(to + j * width + g * array_width + c, c < columns ? v_load_some(from + c, columns - c) : v_all(0.0f));
            }
    }
}

/* ---- Tiles ---- */

/* out[r][vectors LANES] = the sums of `rows` rows over a panel, or, with `more`, what goes on from there */
#define SUMS(name, rows, vectors)                                                                                   \
    static void name##_##rows(float *out, const float *a, size_t lda, const float *b, size_t k, bool more)          \
    {                                                                                                               \
        Vec acc[(rows) * (vectors)];                                                                                \
        if (more) {                                                                                                 \
            _Pragma("GCC unroll 32") for (int i = 0; i < (rows) * (vectors); i++) acc[i] = v_load(out + i * LANES); \
        } else {                                                                                                    \
            tile_zero((rows) * (vectors), acc);                                                                     \
        }                                                                                                           \
        tile_sums(rows, vectors, acc, a, lda, 1, b, (vectors)*LANES, k);                                            \
        _Pragma("GCC unroll 32") for (int i = 0; i < (rows) * (vectors); i++) v_store(out + i * LANES, acc[i]);     \
    }
#define SUMS_TO_2(name, vectors) SUMS(name, 1, vectors) SUMS(name, 2, vectors)
#define SUMS_TO_4(name, vectors) SUMS_TO_2(name, vectors) SUMS(name, 3, vectors) SUMS(name, 4, vectors)
#define SUMS_TO_6(name, vectors) SUMS_TO_4(name, vectors) SUMS(name, 5, vectors) SUMS(name, 6, vectors)
#define SUMS_TO_8(name, vectors) SUMS_TO_6(name, vectors) SUMS(name, 7, vectors) SUMS(name, 8, vectors)

typedef void (*Sums)(float *out, const float *a, size_t lda, const float *b, size_t k, bool more);

#if CELL_ROWS == 6
SUMS_TO_6(four, 4)
SUMS_TO_6(three, 3)
#define CELL_SUMS(name)                                                  \
    {                                                                    \
        NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6 \
    }
#elif CELL_ROWS == 4
SUMS_TO_4(four, 4)
SUMS_TO_4(three, 3)
#define CELL_SUMS(name)                              \
    {                                                \
        NULL, name##_1, name##_2, name##_3, name##_4 \
    }
#elif CELL_ROWS == 3
SUMS_TO_2(four, 4)
SUMS(four, 3, 4)
SUMS_TO_2(three, 3)
SUMS(three, 3, 3)
#define CELL_SUMS(name)                    \
    {                                      \
        NULL, name##_1, name##_2, name##_3 \
    }
#else
SUMS_TO_2(four, 4)
SUMS_TO_2(three, 3)
#define CELL_SUMS(name)          \
    {                            \
        NULL, name##_1, name##_2 \
    }
#endif
#if BACK_ROWS == 8
SUMS_TO_8(two, 2)
static const Sums two_sums[BACK_ROWS + 1] = {NULL, two_1, two_2, two_3, two_4, two_5, two_6, two_7, two_8};
#elif BACK_ROWS == 6
SUMS_TO_6(two, 2)
static const Sums two_sums[BACK_ROWS + 1] = {NULL, two_1, two_2, two_3, two_4, two_5, two_6};
#else
SUMS_TO_4(two, 2)
static const Sums two_sums[BACK_ROWS + 1] = {NULL, two_1, two_2, two_3, two_4};
#endif
static const Sums four_sums[CELL_ROWS + 1] = CELL_SUMS(four), three_sums[CELL_ROWS + 1] = CELL_SUMS(three);

#define GROUP_TILES 6
#define GROUP_FLOATS (GROUP_TILES * (CELL_ROWS * 4 > BACK_ROWS * 2 ? CELL_ROWS * 4 : BACK_ROWS * 2) * LANES)
#define CACHED 6144 /* floats of a panel that stay in the first level of the cache while tiles go over them */

/* out[row][vectors LANES] = the sums of at most GROUP_TILES tiles of rows, of `tile_rows` at most, over a panel. */
static void group_sums(const Sums *sums, size_t tile_rows, size_t vectors, float *out, size_t rows, const float *a, size_t lda,
                       const float *panel, size_t k)
{
    size_t tiles = (rows + tile_rows - 1) / tile_rows, width = vectors * LANES, most = tiles > 1 ? CACHED / width : MOST;
    float further[GROUP_FLOATS];
    for (size_t block = 0; block < k; block += MOST) {
        float *to = block ? further : out;
        size_t end = k - block < MOST ? k : block + MOST;
        for (size_t j = block; j < end; j += most)
            for (size_t tile = 0; tile < tiles; tile++) {
                size_t from = tile * rows / tiles, count = (tile + 1) * rows / tiles - from;
                sums[count](to + from * width, a + from * lda + j, lda, panel + j * width, end - j < most ? end - j : most,
                            j > block);
            }
        for (size_t i = 0; block && i < rows * width; i++)
            out[i] += further[i];
    }
}

static void fetch(const float *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        __builtin_prefetch(from + i);
}

/* The same for one row and `columns` columns of W as it is. */
static void direct_sums(float *out, const float *a, const float *w, size_t ldw, size_t columns, size_t k)
{
    Product p = {.k = k, .a = a, .b = w, .ldb = ldw, .c = out};
    for (size_t j = 0; j < k; j += MOST)
        row_block(&p, NULL, 0, 0, columns, j, k - j < MOST ? k - j : MOST);
}

/* ---- Forward ---- */

/* Positions of one direction, and what of it a call does. */
typedef struct Forward {
    float *gates, *h, *c;
    const float *w, *bias, *panels;
    size_t gates_step, h_step, c_step; /* modulo the size of the address space */
    size_t units, row, row_end, unit, unit_end;
} Forward;

static size_t step_of(uint32_t step, bool second)
{
    ptrdiff_t way = (int32_t)step;
    return (size_t)(second ? -way : way);
}

/* n <= LANES units of a row: sums [4 n], and what is at their place in gates, c and h. */
VKL_CPU_INLINE void lstm_units(const float *sums, float *gates, const float *c_prev, float *c_next, float *h, bool keep, size_t n)
{
    Vec pre[4], gate[4];
    for (size_t i = 0; i < 4; i++) {
        size_t left = 4 * n > i * LANES ? 4 * n - i * LANES : 0;
        pre[i] = v_load_some(gates + i * LANES, left) + v_load_some(sums + i * LANES, left);
    }
    v_split4(gate, pre);
    gate[0] = v_sigmoid(gate[0]);
    gate[1] = v_sigmoid(gate[1]);
    gate[2] = v_tanh(gate[2]);
    gate[3] = v_sigmoid(gate[3]);
    Vec cell = v_fma(gate[1], v_load_some(c_prev, n), gate[0] * gate[2]);
    v_store_some(c_next, n, cell);
    v_store_some(h, n, gate[3] * v_tanh(cell));
    if (keep) {
        v_join4(pre, gate);
        for (size_t i = 0; i < 4; i++)
            v_store_some(gates + i * LANES, 4 * n > i * LANES ? 4 * n - i * LANES : 0, pre[i]);
    }
}

/* sums: r z n, `apart` from each other; gates: n r z q, `units` apart; bias: r z n, `units` apart, or NULL */
VKL_CPU_INLINE void gru_units(const float *sums, size_t apart, float *gates, const float *bias, const float *h_prev, float *h,
                              size_t units, bool keep, size_t n)
{
    Vec rec[3];
    for (size_t g = 0; g < 3; g++) {
        rec[g] = v_load_some(sums + g * apart, n);
        if (bias)
            rec[g] = rec[g] + v_load_some(bias + g * units, n);
    }
    Vec r_raw = v_load_some(gates + units, n) + rec[0], z_raw = v_load_some(gates + 2 * units, n) + rec[1];
    Vec n_raw = v_fma(v_sigmoid(r_raw), rec[2], v_load_some(gates, n)), z = v_sigmoid(z_raw);
    v_store_some(h, n, v_fma(v_all(1.0f) - z, v_tanh(n_raw), z * v_load_some(h_prev, n)));
    if (keep) {
        v_store_some(gates, n, n_raw);
        v_store_some(gates + units, n, r_raw);
        v_store_some(gates + 2 * units, n, z_raw);
        v_store_some(gates + 3 * units, n, rec[2]);
    }
}

VKL_CPU_INLINE void rnn_units(const float *sums, float *gates, float *h, uint32_t activation, bool keep, size_t n)
{
    Vec raw = v_load_some(gates, n) + v_load_some(sums, n);
    v_store_some(h, n, v_activate(activation, raw));
    if (keep)
        v_store_some(gates, n, raw);
}

/* Units `first` to `first` + n of a row at step s, from their sums; of gates that are arrays `apart`. */
static void forward_units(const VklOp *op, const Forward *to, size_t s, size_t row, size_t first, size_t n, const float *sums,
                          size_t apart)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld;
    const float *h_prev = to->h + s * to->h_step + row * args->h_ld;
    float *h = to->h + (s + 1) * to->h_step + row * args->h_ld;
    size_t c_from = s == 0 || args->keep ? s : args->steps, c_to = args->keep ? s + 1 : args->steps;
    for (size_t u = 0; u < n; u += LANES) {
        size_t at = first + u, left = n - u < LANES ? n - u : LANES;
        if (cell == VKL_SEQUENCE_LSTM)
            lstm_units(sums + 4 * u, gates + 4 * at, to->c + c_from * to->c_step + row * to->units + at,
                       to->c + c_to * to->c_step + row * to->units + at, h + at, args->keep, left);
        else if (cell == VKL_SEQUENCE_GRU)
            gru_units(sums + u, apart, gates + at, to->bias ? to->bias + at : NULL, h_prev + at, h + at, to->units, args->keep,
                      left);
        else
            rnn_units(sums + u, gates + at, h + at, cell == VKL_SEQUENCE_RNN_TANH ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_RELU,
                      args->keep, left);
    }
}

/* The same for LANES units of `count` rows of an LSTM: o first stays in sums, so that rows do not wait for the second of two
 * activations. */
static void lstm_block(const struct VklSequenceForwardArgs *args, const Forward *to, size_t s, size_t row, size_t count,
                       size_t first, float *sums)
{
    size_t c_from = s == 0 || args->keep ? s : args->steps, c_to = args->keep ? s + 1 : args->steps, H = to->units;
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld + 4 * first;
    const float *c_prev = to->c + c_from * to->c_step + row * H + first;
    float *c_next = to->c + c_to * to->c_step + row * H + first;
    float *h = to->h + (s + 1) * to->h_step + row * args->h_ld + first;
    for (size_t r = 0; r < count; r++) {
        Vec pre[4], gate[4];
        for (size_t i = 0; i < 4; i++)
            pre[i] = v_load(gates + r * args->gates_ld + i * LANES) + v_load(sums + (4 * r + i) * LANES);
        v_split4(gate, pre);
        gate[0] = v_sigmoid(gate[0]);
        gate[1] = v_sigmoid(gate[1]);
        gate[2] = v_tanh(gate[2]);
        gate[3] = v_sigmoid(gate[3]);
        v_store(sums + 4 * r * LANES, gate[3]);
        v_store(c_next + r * H, v_fma(gate[1], v_load(c_prev + r * H), gate[0] * gate[2]));
        if (args->keep) {
            v_join4(pre, gate);
            for (size_t i = 0; i < 4; i++)
                v_store(gates + r * args->gates_ld + i * LANES, pre[i]);
        }
    }
    for (size_t r = 0; r < count; r++)
        v_store(h + r * args->h_ld, v_load(sums + 4 * r * LANES) * v_tanh(v_load(c_next + r * H)));
}

static void forward_packed(const VklOp *op, const Forward *to, size_t s)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    Cell cell = cell_of(op);
    const Sums *sums = cell.vectors == 4 ? four_sums : cell.vectors == 3 ? three_sums : two_sums;
    size_t width = cell.vectors * LANES, block = cell.gates > 1 ? LANES : 2 * LANES;
    for (size_t first = to->unit; first < to->unit_end; first += block) {
        size_t n = to->unit_end - first < block ? to->unit_end - first : block, count;
        const float *panel = to->panels + first / block * to->units * width;
        for (size_t row = to->row; row < to->row_end; row += count) {
            float out[GROUP_FLOATS];
            count = to->row_end - row < GROUP_TILES * CELL_ROWS ? to->row_end - row : GROUP_TILES * CELL_ROWS;
            if (cell.gates == 4) /* short pieces far apart, which no prefetcher guesses: the product gives them time to come */
                for (size_t r = 0; r < count; r++)
                    fetch(to->gates + s * to->gates_step + (row + r) * args->gates_ld + 4 * first, 4 * n);
            group_sums(sums, CELL_ROWS, cell.vectors, out, count, to->h + s * to->h_step + row * args->h_ld, args->h_ld, panel,
                       to->units);
            if (cell.gates == 4 && n == LANES)
                lstm_block(args, to, s, row, count, first, out);
            else
                for (size_t r = 0; r < count; r++)
                    forward_units(op, to, s, row + r, first, n, out + r * width, LANES);
        }
    }
}

static void forward_direct(const VklOp *op, const Forward *to, size_t s)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    size_t gates = cell_of(op).gates, H = to->units;
    for (size_t first = to->unit; first < to->unit_end; first += GROUP_UNITS) {
        size_t n = to->unit_end - first < GROUP_UNITS ? to->unit_end - first : GROUP_UNITS;
        for (size_t row = to->row; row < to->row_end; row++) {
            const float *h = to->h + s * to->h_step + row * args->h_ld;
            float out[4 * GROUP_UNITS];
            if (gates == 4)
                direct_sums(out, h, to->w + 4 * first, 4 * H, 4 * n, H);
            for (size_t g = 0; gates != 4 && g < gates; g++)
                direct_sums(out + g * GROUP_UNITS, h, to->w + g * H + first, gates * H, n, H);
            forward_units(op, to, s, row, first, n, out, GROUP_UNITS);
        }
    }
}

/* What of an op one call does: rows of a direction, all units or, with a barrier, some. */
typedef struct Share {
    bool second;
    size_t row, row_end, unit, unit_end;
    VklCpuBarrier *barrier;
    uint64_t members; /* that wait for each other */
} Share;

static void forward_share(const VklOp *op, void *const *ptr, const Share *share)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    const float *params = (const float *)ptr[1] + args->off1;
    bool second = share->second;
    uint32_t bias = second ? args->bias_second : args->bias;
    Sizes sizes = sizes_of(op);
    Forward to = {
        .gates = (float *)ptr[0] + args->off0 + (second ? args->gates_second : args->gates_first),
        .h = (float *)ptr[2] + args->off2 + (second ? args->h_second : args->h_before),
        .w = params + (second ? args->w_second : args->w),
        .bias = bias == VKL_ABSENT ? NULL : params + bias,
        .gates_step = step_of(args->gates_step, second),
        .h_step = step_of(args->h_step, second),
        .c_step = step_of(args->c_step, second),
        .units = args->units,
        .row = share->row,
        .row_end = share->row_end,
        .unit = share->unit,
        .unit_end = share->unit_end,
    };
    if (sizes.packed)
        to.panels = (const float *)ptr[VKL_CPU_PACKED] + (second ? sizes.panels * sizes.panel_floats : 0);
    if (op->spec[VKL_SPEC_FORM] == VKL_SEQUENCE_LSTM)
        to.c = (float *)ptr[3] + args->off3 + (second ? args->c_second : args->c_before);
    for (size_t s = 0; s < args->steps; s++) {
        if (sizes.packed)
            forward_packed(op, &to, s);
        else
            forward_direct(op, &to, s);
        if (share->barrier)
            barrier_wait(share->barrier, share->members);
    }
}

/* ---- Backward ---- */

typedef struct Backward {
    float *gates, *state, *carry, *dc_in, *dc_out;
    const float *gy, *panels;
    size_t gates_step, gy_step, state_step;
    size_t units, row, row_end, unit, unit_end;
} Backward;

VKL_CPU_INLINE void lstm_units_back(float *gates, Vec dh, const float *c, const float *c_prev, const float *dc_in, float *dc_out,
                                    size_t n)
{
    const Vec one = v_all(1.0f);
    Vec packed[4], gate[4], d[4];
    for (size_t i = 0; i < 4; i++)
        packed[i] = v_load_some(gates + i * LANES, 4 * n > i * LANES ? 4 * n - i * LANES : 0);
    v_split4(gate, packed);
    Vec i = gate[0], f = gate[1], g = gate[2], o = gate[3], t = v_tanh(v_load_some(c, n)), before = v_load_some(c_prev, n);
    Vec dc = dh * o * (one - t * t);
    if (dc_in)
        dc = v_load_some(dc_in, n) + dc;
    v_store_some(dc_out, n, dc * f);
    d[0] = dc * g * (i * (one - i));
    d[1] = dc * before * (f * (one - f));
    d[2] = dc * i * (one - g * g);
    d[3] = dh * t * (o * (one - o));
    v_join4(packed, d);
    for (size_t k = 0; k < 4; k++)
        v_store_some(gates + k * LANES, 4 * n > k * LANES ? 4 * n - k * LANES : 0, packed[k]);
}

VKL_CPU_INLINE void gru_units_back(float *gates, size_t units, Vec dh, const float *h_prev, float *carry, size_t n)
{
    const Vec one = v_all(1.0f);
    Vec value = v_tanh(v_load_some(gates, n)), r = v_sigmoid(v_load_some(gates + units, n));
    Vec z = v_sigmoid(v_load_some(gates + 2 * units, n)), q = v_load_some(gates + 3 * units, n);
    Vec dn = dh * (one - z) * (one - value * value);
    v_store_some(gates, n, dn);
    v_store_some(gates + units, n, dn * q * (r * (one - r)));
    v_store_some(gates + 2 * units, n, dh * (v_load_some(h_prev, n) - value) * (z * (one - z)));
    v_store_some(gates + 3 * units, n, dn * r);
    v_store_some(carry, n, dh * z);
}

VKL_CPU_INLINE void rnn_units_back(float *gates, uint32_t activation, Vec dh, size_t n)
{
    Vec raw = v_load_some(gates, n);
    if (activation == VKL_ACTIVATION_TANH) {
        Vec y = v_tanh(raw);
        v_store_some(gates, n, dh * (v_all(1.0f) - y * y));
        return;
    }
    float gradient[LANES], value[LANES];
    v_store(gradient, dh);
    v_store(value, raw);
    for (size_t u = 0; u < LANES; u++) /* relu: nothing passes where nothing came out, and NaN stays */
        gradient[u] = value[u] > 0.0f ? gradient[u] : value[u] <= 0.0f ? 0.0f : value[u];
    v_store_some(gates, n, v_load(gradient));
}

/* LANES units or fewer of a row at step s; sums: what came through the recurrent product, or NULL. */
static void backward_units(const VklOp *op, const Backward *to, size_t s, size_t row, size_t at, size_t n, const float *sums)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    size_t H = to->units;
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld;
    float *state = to->state ? to->state + s * to->state_step + row * args->state_ld + at : NULL;
    float *carry = to->carry ? to->carry + row * H + at : NULL;
    bool carried = s ? cell == VKL_SEQUENCE_GRU : args->flags & VKL_SEQUENCE_CARRY;
    Vec dh = to->gy ? v_load_some(to->gy + s * to->gy_step + row * args->gy_ld + at, n) : v_all(0.0f);
    if (carried)
        dh = dh + v_load_some(carry, n);
    if (sums)
        dh = dh + v_load(sums);
    if (cell == VKL_SEQUENCE_LSTM) {
        const float *dc_in = s ? state - to->state_step : to->dc_in ? to->dc_in + row * H + at : NULL;
        lstm_units_back(gates + 4 * at, dh, state, state + to->state_step, dc_in,
                        s + 1 == args->steps ? to->dc_out + row * H + at : state, n);
    } else if (cell == VKL_SEQUENCE_GRU) {
        gru_units_back(gates + at, H, dh, state, carry, n);
    } else {
        rnn_units_back(gates + at, cell == VKL_SEQUENCE_RNN_TANH ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_RELU, dh, n);
    }
}

static void backward_step(const VklOp *op, const Backward *to, size_t s)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    size_t columns = cell_of(op).gates * to->units, block = 2 * LANES;
    bool product = s || args->flags & VKL_SEQUENCE_NEXT;
    const float *next = to->gates + s * to->gates_step - to->gates_step;
    if (op->spec[VKL_SPEC_FORM] == VKL_SEQUENCE_GRU)
        next += to->units;
    for (size_t first = to->unit; first < to->unit_end; first += block) {
        size_t n = to->unit_end - first < block ? to->unit_end - first : block, count;
        for (size_t row = to->row; row < to->row_end; row += count) {
            float out[GROUP_FLOATS];
            count = to->row_end - row < GROUP_TILES * BACK_ROWS ? to->row_end - row : GROUP_TILES * BACK_ROWS;
            if (cell_of(op).gates == 4)
                for (size_t r = 0; r < count; r++)
                    fetch(to->gates + s * to->gates_step + (row + r) * args->gates_ld + 4 * first, 4 * n);
            if (product)
                group_sums(two_sums, BACK_ROWS, 2, out, count, next + row * args->gates_ld, args->gates_ld,
                           to->panels + first / block * columns * block, columns);
            for (size_t r = 0; r < count; r++)
                for (size_t u = 0; u < n; u += LANES)
                    backward_units(op, to, s, row + r, first + u, n - u < LANES ? n - u : LANES,
                                   product ? out + r * block + u : NULL);
        }
    }
}

static float *place(float *base, uint32_t position)
{
    return position == VKL_ABSENT ? NULL : base + position;
}

static void backward_share(const VklOp *op, void *const *ptr, const Share *share)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    bool second = share->second;
    Sizes sizes = sizes_of(op);
    Backward to = {
        .gates = (float *)ptr[0] + args->off0 + (second ? args->gates_second : args->gates_first),
        .gates_step = step_of(args->gates_step, second),
        .gy_step = step_of(args->gy_step, second),
        .state_step = step_of(args->state_step, second),
        .units = args->units,
        .row = share->row,
        .row_end = share->row_end,
        .unit = share->unit,
        .unit_end = share->unit_end,
    };
    if (sizes.packed)
        to.panels = (const float *)ptr[VKL_CPU_PACKED] + (second ? sizes.panels * sizes.panel_floats : 0);
    if (args->gy_ld != VKL_ABSENT)
        to.gy = (const float *)ptr[2] + args->off2 + (second ? args->gy_second : args->gy_first);
    if (cell == VKL_SEQUENCE_LSTM || cell == VKL_SEQUENCE_GRU)
        to.state = (float *)ptr[3] + args->off3 + (second ? args->state_second : args->state_first);
    if (cell == VKL_SEQUENCE_LSTM) {
        float *c = (float *)ptr[3] + args->off3;
        to.dc_in = place(c, second ? args->dc_in_second : args->dc_in);
        to.dc_out = place(c, second ? args->dc_out_second : args->dc_out);
    }
    if (cell == VKL_SEQUENCE_GRU || args->flags & VKL_SEQUENCE_CARRY)
        to.carry = (float *)ptr[4] + args->off4 + (second ? args->carry_second : args->carry);
    for (size_t s = 0; s < args->steps; s++) {
        backward_step(op, &to, s);
        if (share->barrier)
            barrier_wait(share->barrier, share->members);
    }
}

/* ---- Both ---- */

typedef void (*Shared)(const VklOp *op, void *const *ptr, const Share *share);

static void each_row(Shared shared, const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    Sizes sizes = sizes_of(op);
    Share share = {.row = (size_t)begin, .row_end = (size_t)(end < sizes.rows ? end : sizes.rows), .unit_end = sizes.units};
    if (begin < sizes.rows)
        shared(op, ptr, &share);
    if (end > sizes.rows) {
        share.second = true;
        share.row = (size_t)(begin > sizes.rows ? begin - sizes.rows : 0);
        share.row_end = (size_t)(end - sizes.rows);
        shared(op, ptr, &share);
    }
}

/* Exactly one member a call: it waits for the others. */
static void each_member(Shared shared, const VklOp *op, void *const *ptr, VklCpuGang *gang, uint64_t member)
{
    Sizes sizes = sizes_of(op);
    size_t unit_group = (size_t)(member % gang->unit_groups), group = (size_t)(member / gang->unit_groups);
    size_t row_group = group % (size_t)gang->row_groups, groups = (size_t)gang->row_groups, parts = (size_t)gang->unit_groups;
    Share share = {
        .second = group >= groups,
        .row = sizes.rows * row_group / groups,
        .row_end = sizes.rows * (row_group + 1) / groups,
        .unit = sizes.panels * unit_group / parts * sizes.panel_units,
        .unit_end = sizes.panels * (unit_group + 1) / parts * sizes.panel_units,
        .barrier = &gang->barriers[group],
        .members = gang->unit_groups,
    };
    if (share.unit_end > sizes.units)
        share.unit_end = sizes.units;
    shared(op, ptr, &share);
}

void VKL_CPU(sequence_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    if (ptr[VKL_CPU_GANG])
        each_member(forward_share, op, ptr, ptr[VKL_CPU_GANG], begin);
    else
        each_row(forward_share, op, ptr, begin, end);
}

void VKL_CPU(sequence_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    if (ptr[VKL_CPU_GANG])
        each_member(backward_share, op, ptr, ptr[VKL_CPU_GANG], begin);
    else
        each_row(backward_share, op, ptr, begin, end);
}

/* SPDX-License-Identifier: MIT
 *
 * One time step of a cell without its recurrent product: LSTM, GRU (Cho et al. 2014) and RNN (Elman 1990), with any activations,
 * peepholes (Gers and Schmidhuber 2000), clips and frozen rows. Items are rows of the batch. A row is done in blocks of units, on
 * plain arrays, one for each gate: first everything is read, then computed, then written, so that states may stay in their place.
 */
#include "gates.h"
#include "kernels.h"
#ifdef VKL_CPU_LEVEL
#include "vector_gates.h"
#endif

#define UNITS 64

typedef float Block[UNITS];

/* Activations f, g and h of `kinds`, from either argument struct. */
#define GATES(args)                                                                          \
    {                                                                                        \
        {(args)->kinds & 0xff, (args)->alpha0, (args)->beta0, (args)->preact_clip},          \
            {(args)->kinds >> 8 & 0xff, (args)->alpha1, (args)->beta1, (args)->preact_clip}, \
            {(args)->kinds >> 16 & 0xff, (args)->alpha2, (args)->beta2, 0.0f},               \
    }

/* `further` elements from a position on, or NULL where it is VKL_ABSENT. */
static float *place(float *base, uint32_t position, size_t further)
{
    return position == VKL_ABSENT ? NULL : base + position + further;
}

static bool frozen(float *side, uint32_t lengths, uint32_t t, size_t row)
{
    uint32_t length;
    const float *at = place(side, lengths, row);
    if (!at)
        return false;
    memcpy(&length, at, sizeof length); /* uint bits among floats */
    return t >= length;
}

static void load(float *block, size_t n, const float *from, size_t stride)
{
    for (size_t u = 0; u < n; u++)
        block[u] = from[u * stride];
}

static void store(const float *block, size_t n, float *to, size_t stride)
{
    for (size_t u = 0; u < n; u++)
        to[u * stride] = block[u];
}

static void add(float *block, size_t n, const float *from, size_t stride)
{
    for (size_t u = 0; u < n; u++)
        block[u] += from[u * stride];
}

static void add_product(float *block, size_t n, const float *a, const float *b)
{
    for (size_t u = 0; u < n; u++)
        block[u] += a[u] * b[u];
}

static void fill(float *block, size_t n, float value)
{
    for (size_t u = 0; u < n; u++)
        block[u] = value;
}

/* to[u] = from[u], or 0 where there is no `from`; the two may be one. */
static void keep(float *to, const float *from, size_t n)
{
    if (!from)
        fill(to, n, 0.0f);
    else if (to != from)
        memcpy(to, from, n * sizeof *to);
}

/* Values and slopes; slope may be NULL. */
static void values(const Gate *gate, size_t n, const float *raw, float *value, float *slope)
{
    Block unused;
#ifdef VKL_CPU_LEVEL
    if ((gate->kind == VKL_GATE_SIGMOID || gate->kind == VKL_GATE_TANH) && !(gate->limit > 0.0f)) {
        v_gate_values(gate, n, raw, value, slope);
        return;
    }
#endif
    gate_values(gate, n, raw, value, slope ? slope : unused);
}

/* The gates of an LSTM's units, gate_stride and unit_stride apart. */
static void load_gates(Block raw[4], size_t n, const float *packed, size_t gate_stride, size_t unit_stride)
{
#ifdef VKL_CPU_LEVEL
    if (gate_stride == 1 && unit_stride == 4) {
        v_load_gates(raw[0], raw[1], raw[2], raw[3], packed, n);
        return;
    }
#endif
    for (size_t k = 0; k < 4; k++)
        load(raw[k], n, packed + k * gate_stride, unit_stride);
}

static void store_gates(Block raw[4], size_t n, float *packed, size_t gate_stride, size_t unit_stride)
{
#ifdef VKL_CPU_LEVEL
    if (gate_stride == 1 && unit_stride == 4) {
        v_store_gates(packed, n, raw[0], raw[1], raw[2], raw[3]);
        return;
    }
#endif
    for (size_t k = 0; k < 4; k++)
        store(raw[k], n, packed + k * gate_stride, unit_stride);
}

/* ---- Forward ---- */

void VKL_CPU(lstm_point_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointForwardArgs *args = &op->args.LSTM_POINT_FORWARD;
    float *gates = (float *)ptr[0] + args->off0, *c = (float *)ptr[1] + args->off1, *h = (float *)ptr[2] + args->off2;
    float *side = (float *)ptr[3] + args->off3;
    const Gate act[3] = GATES(args);
    size_t units = args->units, stride = args->unit_stride;

    for (size_t row = begin; row < end; row++) {
        float *c_prev = c + args->c_prev + row * units, *c_next = c + args->c_next + row * units;
        float *out = h + args->h_next + row * args->h_ld;
        if (frozen(side, args->lengths, args->t, row)) {
            keep(c_next, c_prev, units);
            keep(out, place(h, args->h_prev, row * args->h_ld), units);
            continue;
        }
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS;
            float *packed = gates + row * args->gates_ld + first * stride;
            const float *p = place(side, args->peephole, first);
            const float *rec = place(side, args->rec, row * args->rec_ld + first * stride);
            Block pre[4], before, i, f, g, o, cell, value;

            load_gates(pre, n, packed, args->gate_stride, stride);
            if (rec) {
                Block product[4];
                load_gates(product, n, rec, args->rec_gate_stride, stride);
                for (size_t k = 0; k < 4; k++)
                    add(pre[k], n, product[k], 1);
            }
            load(before, n, c_prev + first, 1);
            if (p) {
                add_product(pre[0], n, p, before);
                add_product(pre[1], n, p + units, before);
            }
            values(&act[0], n, pre[0], i, NULL);
            values(&act[0], n, pre[1], f, NULL);
            values(&act[1], n, pre[2], g, NULL);
            if (args->flags & VKL_POINT_COUPLED)
                for (size_t u = 0; u < n; u++)
                    f[u] = 1.0f - i[u];
            for (size_t u = 0; u < n; u++)
                cell[u] = clip(f[u] * before[u] + i[u] * g[u], args->cell_clip);
            if (p)
                add_product(pre[3], n, p + 2 * units, cell);
            values(&act[0], n, pre[3], o, NULL);
            values(&act[2], n, cell, value, NULL);

            store(cell, n, c_next + first, 1);
            for (size_t u = 0; u < n; u++)
                out[first + u] = o[u] * value[u];
            if (args->flags & VKL_POINT_KEEP)
                store_gates(pre, n, packed, args->gate_stride, stride);
        }
    }
}

void VKL_CPU(gru_point_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointForwardArgs *args = &op->args.GRU_POINT_FORWARD;
    float *gates = (float *)ptr[0] + args->off0, *rh = (float *)ptr[1] + args->off1, *h = (float *)ptr[2] + args->off2;
    float *side = (float *)ptr[3] + args->off3;
    const Gate act[3] = GATES(args);
    size_t units = args->units, stride = args->unit_stride, gate = args->gate_stride, rec_gate = args->rec_gate_stride;
    bool first_phase = args->flags & VKL_POINT_FIRST, second_phase = args->flags & VKL_POINT_SECOND;
    bool after = !first_phase && !second_phase, kept = args->flags & VKL_POINT_KEEP;

    for (size_t row = begin; row < end; row++) {
        float *h_prev = place(h, args->h_prev, row * args->h_ld), *h_next = place(h, args->h_next, row * args->h_ld);
        if (frozen(side, args->lengths, args->t, row)) {
            if (first_phase)
                fill(rh + row * args->c_next, units, 0.0f);
            else
                keep(h_next, h_prev, units);
            continue;
        }
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS;
            float *packed = gates + row * args->gates_ld + first * stride;
            const float *rec = place(side, args->rec, row * args->rec_ld + first * stride);
            const float *bias = after ? place(side, args->peephole, first) : NULL;
            Block n_raw, r_raw, z_raw, q, n_value, r, z;

            load(n_raw, n, packed, stride);
            load(r_raw, n, packed + gate, stride);
            load(z_raw, n, packed + 2 * gate, stride);
            fill(q, n, 0.0f);
            if (rec) {
                if (second_phase) {
                    add(n_raw, n, rec, stride);
                } else {
                    add(r_raw, n, rec, stride);
                    add(z_raw, n, rec + rec_gate, stride);
                }
                if (after)
                    load(q, n, rec + 2 * rec_gate, stride);
            }
            if (bias) {
                add(r_raw, n, bias, 1);
                add(z_raw, n, bias + units, 1);
                add(q, n, bias + 2 * units, 1);
            }

            if (!second_phase) {
                values(&act[0], n, r_raw, r, NULL);
                if (after)
                    add_product(n_raw, n, r, q);
                else
                    for (size_t u = 0; u < n; u++)
                        rh[row * args->c_next + first + u] = r[u] * h[args->c_prev + row * args->h_ld + first + u];
                if (kept) {
                    store(r_raw, n, packed + gate, stride);
                    store(z_raw, n, packed + 2 * gate, stride);
                }
            }
            if (!first_phase) {
                values(&act[1], n, n_raw, n_value, NULL);
                values(&act[0], n, z_raw, z, NULL);
                for (size_t u = 0; u < n; u++)
                    h_next[first + u] = (1.0f - z[u]) * n_value[u] + z[u] * h_prev[first + u];
                if (kept)
                    store(n_raw, n, packed, stride);
                if (kept && after)
                    store(q, n, packed + 3 * gate, stride);
            }
        }
    }
}

void VKL_CPU(rnn_point_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointForwardArgs *args = &op->args.RNN_POINT_FORWARD;
    float *gates = (float *)ptr[0] + args->off0, *h = (float *)ptr[2] + args->off2;
    float *side = (float *)ptr[3] + args->off3;
    const Gate act[3] = GATES(args);
    size_t units = args->units, stride = args->unit_stride;

    for (size_t row = begin; row < end; row++) {
        float *h_next = h + args->h_next + row * args->h_ld;
        if (frozen(side, args->lengths, args->t, row)) {
            keep(h_next, h + args->h_prev + row * args->h_ld, units);
            continue;
        }
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS;
            float *packed = gates + row * args->gates_ld + first * stride;
            const float *rec = place(side, args->rec, row * args->rec_ld + first * stride);
            Block raw, value;

            load(raw, n, packed, stride);
            if (rec)
                add(raw, n, rec, stride);
            values(&act[0], n, raw, value, NULL);
            store(value, n, h_next + first, 1);
            if (args->flags & VKL_POINT_KEEP)
                store(raw, n, packed, stride);
        }
    }
}

/* ---- Backward ---- */

/* The gradient of h of a block of units: gy + rec + carry, those that there are. */
static void gradient_of_h(const struct VklPointBackwardArgs *args, float *dh, size_t n, const float *gy, float *side, size_t row,
                          size_t first)
{
    const float *rec = place(side, args->rec, row * args->rec_ld + first);
    const float *carry = place(side, args->carry, row * args->units + first);
    fill(dh, n, 0.0f);
    if (args->gy_ld != VKL_ABSENT)
        load(dh, n, gy + row * args->gy_ld + first, 1);
    if (rec)
        add(dh, n, rec, 1);
    if (carry)
        add(dh, n, carry, 1);
}

static void put_carry(const struct VklPointBackwardArgs *args, const float *carry, size_t n, float *side, size_t row,
                      size_t first)
{
    float *to = place(side, args->carry, row * args->units + first);
    if (to)
        store(carry, n, to, 1);
}

/* A block of units of a row that is not frozen, from the raw gates, c before and after, and p, the block's peepholes of i, `units` before
 * those of f, or NULL. Gates become their gradients, dc that of c before. */
static void lstm_cell_backward(const struct VklPointBackwardArgs *args, Block raw[4], size_t n, const float *c_prev,
                               const float *c_t, const float *p, const float *dh, float *dc)
{
    const Gate act[3] = GATES(args);
    bool coupled = args->flags & VKL_POINT_COUPLED;
    Block i, f, g, o, t, i_slope, f_slope, g_slope, o_slope, t_slope;
    Block p_i, p_f, p_o;

    fill(p_i, n, 0.0f);
    fill(p_f, n, 0.0f);
    fill(p_o, n, 0.0f);
    if (p) {
        load(p_i, n, p, 1);
        load(p_f, n, p + args->units, 1);
        load(p_o, n, p + 2 * (size_t)args->units, 1);
    }
    values(&act[0], n, raw[0], i, i_slope);
    values(&act[0], n, raw[1], f, f_slope);
    values(&act[1], n, raw[2], g, g_slope);
    values(&act[0], n, raw[3], o, o_slope);
    values(&act[2], n, c_t, t, t_slope);
    for (size_t u = 0; u < n; u++) {
        float forget = coupled ? 1.0f - i[u] : f[u];
        float d_o = dh[u] * t[u] * o_slope[u];
        float d = dc[u] + (dh[u] * o[u] * t_slope[u] + d_o * p_o[u]);
        d *= clip_slope(forget * c_prev[u] + i[u] * g[u], args->cell_clip);
        float d_i = d * (coupled ? g[u] - c_prev[u] : g[u]) * i_slope[u];
        float d_f = coupled ? 0.0f : d * c_prev[u] * f_slope[u];
        raw[0][u] = d_i;
        raw[1][u] = d_f;
        raw[2][u] = d * i[u] * g_slope[u];
        raw[3][u] = d_o;
        dc[u] = d * forget + d_i * p_i[u] + d_f * p_f[u];
    }
}

void VKL_CPU(lstm_point_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointBackwardArgs *args = &op->args.LSTM_POINT_BACKWARD;
    float *gates = (float *)ptr[0] + args->off0, *c = (float *)ptr[1] + args->off1, *side = (float *)ptr[3] + args->off3;
    const float *gy = (const float *)ptr[2] + args->off2;
    size_t units = args->units, stride = args->unit_stride;

    for (size_t row = begin; row < end; row++) {
        bool is_frozen = frozen(side, args->lengths, args->t, row);
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS, at = row * units + first;
            float *packed = gates + row * args->gates_ld + first * stride;
            Block raw[4], dh, dc;

            gradient_of_h(args, dh, n, gy, side, row, first);
            keep(dc, place(c, args->dc_in, at), n);
            if (is_frozen) {
                for (size_t k = 0; k < 4; k++)
                    fill(raw[k], n, 0.0f);
            } else {
                Block c_prev, c_t;
                load_gates(raw, n, packed, args->gate_stride, stride);
                load(c_prev, n, c + args->c_prev + at, 1);
                load(c_t, n, c + args->c_t + at, 1);
                lstm_cell_backward(args, raw, n, c_prev, c_t, place(side, args->peephole, first), dh, dc);
                fill(dh, n, 0.0f);
            }
            store_gates(raw, n, packed, args->gate_stride, stride);
            store(dc, n, c + args->dc_out + at, 1);
            put_carry(args, dh, n, side, row, first);
        }
    }
}

/* Reset-before, second phase: the gradient of r, and of its operand. */
static void gru_reset_backward(const struct VklPointBackwardArgs *args, const Gate *f, size_t n, float *r_raw, const float *rec,
                               const float *operand, float *out, bool is_frozen)
{
    Block raw, r, slope;
    if (is_frozen) {
        for (size_t u = 0; u < n; u++)
            r_raw[u * args->unit_stride] = out[u] = 0.0f;
        return;
    }
    load(raw, n, r_raw, args->unit_stride);
    values(f, n, raw, r, slope);
    for (size_t u = 0; u < n; u++) {
        float drh = rec[u];
        r_raw[u * args->unit_stride] = drh * operand[u] * slope[u];
        out[u] = drh * r[u];
    }
}

void VKL_CPU(gru_point_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointBackwardArgs *args = &op->args.GRU_POINT_BACKWARD;
    float *gates = (float *)ptr[0] + args->off0, *side = (float *)ptr[3] + args->off3;
    const float *h = (const float *)ptr[1] + args->off1, *gy = (const float *)ptr[2] + args->off2;
    const Gate act[3] = GATES(args);
    size_t units = args->units, stride = args->unit_stride, gate = args->gate_stride;
    bool first_phase = args->flags & VKL_POINT_FIRST, second_phase = args->flags & VKL_POINT_SECOND;

    for (size_t row = begin; row < end; row++) {
        bool is_frozen = frozen(side, args->lengths, args->t, row);
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS;
            float *packed = gates + row * args->gates_ld + first * stride;
            Block raw[4], d[4], dh, n_value, r, z, n_slope, r_slope, z_slope;

            if (second_phase) {
                gru_reset_backward(args, &act[0], n, packed + gate, side + args->rec + row * args->rec_ld + first,
                                   h + args->c_prev + row * args->dc_in + first, side + args->dc_out + row * args->rec_ld + first,
                                   is_frozen);
                continue;
            }
            gradient_of_h(args, dh, n, gy, side, row, first);
            for (size_t k = 0; k < 4; k++)
                fill(d[k], n, 0.0f);
            if (!is_frozen) {
                const float *h_prev = h + args->c_t + row * args->dc_in + first;
                load(raw[0], n, packed, stride);
                load(raw[2], n, packed + 2 * gate, stride);
                values(&act[1], n, raw[0], n_value, n_slope);
                values(&act[0], n, raw[2], z, z_slope);
                for (size_t u = 0; u < n; u++) {
                    d[0][u] = dh[u] * (1.0f - z[u]) * n_slope[u];
                    d[2][u] = dh[u] * (h_prev[u] - n_value[u]) * z_slope[u];
                    dh[u] *= z[u];
                }
                if (!first_phase) {
                    load(raw[1], n, packed + gate, stride);
                    load(raw[3], n, packed + 3 * gate, stride);
                    values(&act[0], n, raw[1], r, r_slope);
                    for (size_t u = 0; u < n; u++) {
                        d[1][u] = d[0][u] * raw[3][u] * r_slope[u];
                        d[3][u] = d[0][u] * r[u];
                    }
                }
            }
            store(d[0], n, packed, stride);
            store(d[2], n, packed + 2 * gate, stride);
            if (!first_phase) {
                store(d[1], n, packed + gate, stride);
                store(d[3], n, packed + 3 * gate, stride);
            }
            put_carry(args, dh, n, side, row, first);
        }
    }
}

void VKL_CPU(rnn_point_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklPointBackwardArgs *args = &op->args.RNN_POINT_BACKWARD;
    float *gates = (float *)ptr[0] + args->off0, *side = (float *)ptr[3] + args->off3;
    const float *gy = (const float *)ptr[2] + args->off2;
    const Gate act[3] = GATES(args);
    size_t units = args->units, stride = args->unit_stride;

    for (size_t row = begin; row < end; row++) {
        bool is_frozen = frozen(side, args->lengths, args->t, row);
        for (size_t first = 0; first < units; first += UNITS) {
            size_t n = units - first < UNITS ? units - first : UNITS;
            float *packed = gates + row * args->gates_ld + first * stride;
            Block raw, dh, d, value, slope;

            gradient_of_h(args, dh, n, gy, side, row, first);
            fill(d, n, 0.0f);
            if (!is_frozen) {
                load(raw, n, packed, stride);
                values(&act[0], n, raw, value, slope);
                for (size_t u = 0; u < n; u++)
                    d[u] = dh[u] * slope[u];
                fill(dh, n, 0.0f);
            }
            store(d, n, packed, stride);
            put_carry(args, dh, n, side, row, first);
        }
    }
}

/* SPDX-License-Identifier: MIT
 *
 * Many time steps of a layer for some rows of the batch, which do not meet. Items are rows, those of the second direction after those of
 * the first. */
#include "activations.h"
#include "kernels.h"
#include "product.h"

#include <string.h>

#define UNITS 64

static void forward_product(float *sum, size_t n, const float *h, const float *w, size_t ld, size_t k)
{
    float part[4 * UNITS];
    for (size_t c = 0; c < n; c++)
        sum[c] = 0.0f;
    for (size_t j = 0; j < k; j += VKL_CPU_BLOCK) {
        block_product(n, part, h + j, 1, w + j * ld, ld, k - j < VKL_CPU_BLOCK ? k - j : VKL_CPU_BLOCK);
        for (size_t c = 0; c < n; c++)
            sum[c] += part[c];
    }
}

/* One direction, as forward sees it. */
typedef struct Forward {
    float *gates, *h, *c;
    const float *w, *bias;
    size_t gates_step, h_step, c_step; /* modulo the size of the address space */
} Forward;

static size_t step_of(uint32_t step, bool second)
{
    ptrdiff_t way = (int32_t)step;
    return (size_t)(second ? -way : way);
}

static void gru_forward(const struct VklSequenceForwardArgs *args, const Forward *to, size_t row, size_t s)
{
    size_t H = args->units;
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld;
    const float *h = to->h + s * to->h_step + row * args->h_ld;
    float *out = to->h + (s + 1) * to->h_step + row * args->h_ld;
    for (size_t first = 0; first < H; first += UNITS) {
        size_t n = H - first < UNITS ? H - first : UNITS;
        float rec[3][UNITS];
        for (size_t g = 0; g < 3; g++) {
            forward_product(rec[g], n, h, to->w + g * H + first, 3 * H, H);
            for (size_t u = 0; to->bias && u < n; u++)
                rec[g][u] += to->bias[g * H + first + u];
        }
        for (size_t u = 0; u < n; u++) {
            float *gate = gates + first + u;
            float r_raw = gate[H] + rec[0][u], z_raw = gate[2 * H] + rec[1][u], q = rec[2][u];
            float n_raw = gate[0] + cell_sigmoid(r_raw) * q, z = cell_sigmoid(z_raw);
            out[first + u] = (1.0f - z) * cell_tanh(n_raw) + z * h[first + u];
            if (args->keep) {
                gate[0] = n_raw;
                gate[H] = r_raw;
                gate[2 * H] = z_raw;
                gate[3 * H] = q;
            }
        }
    }
}

static void rnn_forward(const struct VklSequenceForwardArgs *args, const Forward *to, size_t row, size_t s, uint32_t activation)
{
    size_t H = args->units;
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld;
    const float *h = to->h + s * to->h_step + row * args->h_ld;
    float *out = to->h + (s + 1) * to->h_step + row * args->h_ld;
    for (size_t first = 0; first < H; first += UNITS) {
        size_t n = H - first < UNITS ? H - first : UNITS;
        float raw[UNITS];
        forward_product(raw, n, h, to->w + first, H, H);
        for (size_t u = 0; u < n; u++) {
            raw[u] += gates[first + u];
            out[first + u] = activate(activation, raw[u]);
            if (args->keep)
                gates[first + u] = raw[u];
        }
    }
}

/* The LSTM's steps are those of its step kernel. */
static void lstm_forward(const struct VklSequenceForwardArgs *args, const Forward *to, size_t s, size_t begin, size_t end)
{
    size_t c_next = args->keep || s + 1 == args->steps ? s + 1 : args->steps;
    float *c_at = s == 0 || args->keep ? to->c + s * to->c_step : to->c + args->steps * to->c_step;
    float *h_prev = to->h + s * to->h_step, *h_next = h_prev + to->h_step, *c_to = to->c + c_next * to->c_step;
    float *h = h_prev < h_next ? h_prev : h_next, *c = c_at < c_to ? c_at : c_to;
    VklOp op = {.args.LSTM_FORWARD = {.rows = args->rows,
                                      .units = args->units,
                                      .k = args->units,
                                      .h_prev = (uint32_t)(h_prev - h),
                                      .h_next = (uint32_t)(h_next - h),
                                      .h_ld = args->h_ld,
                                      .c_prev = (uint32_t)(c_at - c),
                                      .c_next = (uint32_t)(c_to - c),
                                      .keep = args->keep}};
    const void *w = to->w;
    void *pointers[4] = {to->gates + s * to->gates_step, NULL, h, c};
    memcpy(&pointers[1], &w, sizeof(w));
    VKL_CPU(lstm_forward)(&op, pointers, begin, end);
}

static void forward_rows(const VklOp *op, void *const *ptr, bool second, size_t begin, size_t end)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    const float *params = (const float *)ptr[1] + args->off1;
    uint32_t bias = second ? args->bias_second : args->bias;
    Forward to = {
        .gates = (float *)ptr[0] + args->off0 + (second ? args->gates_second : args->gates_first),
        .h = (float *)ptr[2] + args->off2 + (second ? args->h_second : args->h_before),
        .w = params + (second ? args->w_second : args->w),
        .bias = bias == VKL_ABSENT ? NULL : params + bias,
        .gates_step = step_of(args->gates_step, second),
        .h_step = step_of(args->h_step, second),
        .c_step = step_of(args->c_step, second),
    };
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    if (cell == VKL_SEQUENCE_LSTM)
        to.c = (float *)ptr[3] + args->off3 + (second ? args->c_second : args->c_before);
    for (size_t s = 0; s < args->steps; s++) {
        if (cell == VKL_SEQUENCE_LSTM)
            lstm_forward(args, &to, s, begin, end);
        for (size_t row = begin; cell != VKL_SEQUENCE_LSTM && row < end; row++)
            if (cell == VKL_SEQUENCE_GRU)
                gru_forward(args, &to, row, s);
            else
                rnn_forward(args, &to, row, s, cell == VKL_SEQUENCE_RNN_TANH ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_RELU);
    }
}

typedef void (*Rows)(const VklOp *op, void *const *ptr, bool second, size_t begin, size_t end);

/* Items of both directions. */
static void each_direction(Rows rows_done, const VklOp *op, void *const *ptr, size_t rows, size_t begin, size_t end)
{
    if (begin < rows)
        rows_done(op, ptr, false, begin, end < rows ? end : rows);
    if (end > rows)
        rows_done(op, ptr, true, begin > rows ? begin - rows : 0, end - rows);
}

void VKL_CPU(sequence_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    each_direction(forward_rows, op, ptr, op->args.SEQUENCE_FORWARD.rows, begin, end);
}

/* ---- Backward ---- */

typedef struct Backward {
    float *gates, *state, *carry, *dc_in, *dc_out;
    const float *gy, *w;
    size_t gates_step, gy_step, state_step;
} Backward;

static void lstm_units(float *gates, size_t n, const float *dh, const float *c, const float *c_prev, const float *dc_in,
                       float *dc_out)
{
    for (size_t u = 0; u < n; u++) {
        float *gate = gates + 4 * u;
        float i = gate[0], f = gate[1], g = gate[2], o = gate[3], t = cell_tanh(c[u]);
        float dc = (dc_in ? dc_in[u] : 0.0f) + dh[u] * o * (1.0f - t * t), before = c_prev[u];
        dc_out[u] = dc * f;
        gate[0] = dc * g * (i * (1.0f - i));
        gate[1] = dc * before * (f * (1.0f - f));
        gate[2] = dc * i * (1.0f - g * g);
        gate[3] = dh[u] * t * (o * (1.0f - o));
    }
}

static void gru_units(float *gates, size_t n, size_t H, const float *dh, const float *h_prev, float *carry)
{
    for (size_t u = 0; u < n; u++) {
        float *gate = gates + u;
        float value = cell_tanh(gate[0]), r = cell_sigmoid(gate[H]), z = cell_sigmoid(gate[2 * H]), q = gate[3 * H];
        float dn = dh[u] * (1.0f - z) * (1.0f - value * value);
        gate[0] = dn;
        gate[H] = dn * q * (r * (1.0f - r));
        gate[2 * H] = dh[u] * (h_prev[u] - value) * (z * (1.0f - z));
        gate[3 * H] = dn * r;
        carry[u] = dh[u] * z;
    }
}

static void backward_step(const VklOp *op, const Backward *to, size_t row, size_t s)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    size_t H = args->units, columns = cell == VKL_SEQUENCE_LSTM ? 4 * H : cell == VKL_SEQUENCE_GRU ? 3 * H : H;
    float *gates = to->gates + s * to->gates_step + row * args->gates_ld;
    const float *next = gates - to->gates_step + (cell == VKL_SEQUENCE_GRU ? H : 0);
    float *state = to->state ? to->state + s * to->state_step + row * args->state_ld : NULL;
    bool last = s + 1 == args->steps, carried = s ? cell == VKL_SEQUENCE_GRU : args->flags & VKL_SEQUENCE_CARRY;
    uint32_t activation = cell == VKL_SEQUENCE_RNN_TANH ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_RELU;

    for (size_t first = 0; first < H; first += UNITS) {
        size_t n = H - first < UNITS ? H - first : UNITS;
        float dh[UNITS], *carry = to->carry ? to->carry + row * H + first : NULL;
        for (size_t u = 0; u < n; u++) {
            dh[u] = to->gy ? to->gy[s * to->gy_step + row * args->gy_ld + first + u] : 0.0f;
            dh[u] += carried ? carry[u] : 0.0f;
        }
        if (s || args->flags & VKL_SEQUENCE_NEXT)
            dot_products(n, dh, next, to->w + first * columns, columns, columns);
        if (cell == VKL_SEQUENCE_LSTM) {
            float *dc_in = s ? state - to->state_step : to->dc_in ? to->dc_in + row * H : NULL;
            lstm_units(gates + 4 * first, n, dh, state + first, state + to->state_step + first, dc_in ? dc_in + first : NULL,
                       (last ? to->dc_out + row * H : state) + first);
        } else if (cell == VKL_SEQUENCE_GRU) {
            gru_units(gates + first, n, H, dh, state + first, carry);
        } else {
            for (size_t u = 0; u < n; u++)
                gates[first + u] = activate_backward(activation, dh[u], activate(activation, gates[first + u]));
        }
    }
}

static void backward_rows(const VklOp *op, void *const *ptr, bool second, size_t begin, size_t end)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    float *state = (float *)ptr[3] + args->off3;
    uint32_t dc_in = second ? args->dc_in_second : args->dc_in, dc_out = second ? args->dc_out_second : args->dc_out;
    uint32_t carry = second ? args->carry_second : args->carry;
    Backward to = {
        .gates = (float *)ptr[0] + args->off0 + (second ? args->gates_second : args->gates_first),
        .gy = args->gy_ld == VKL_ABSENT ? NULL : (const float *)ptr[2] + args->off2 + (second ? args->gy_second : args->gy_first),
        .state = state + (second ? args->state_second : args->state_first),
        .dc_in = dc_in == VKL_ABSENT ? NULL : state + dc_in,
        .dc_out = dc_out == VKL_ABSENT ? NULL : state + dc_out,
        .carry = carry == VKL_ABSENT ? NULL : (float *)ptr[4] + args->off4 + carry,
        .w = (const float *)ptr[1] + args->off1 + (second ? args->w_second : args->w),
        .gates_step = step_of(args->gates_step, second),
        .gy_step = step_of(args->gy_step, second),
        .state_step = step_of(args->state_step, second),
    };
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    if (cell != VKL_SEQUENCE_LSTM && cell != VKL_SEQUENCE_GRU)
        to.state = NULL;
    for (size_t s = 0; s < args->steps; s++)
        for (size_t row = begin; row < end; row++)
            backward_step(op, &to, row, s);
}

void VKL_CPU(sequence_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    each_direction(backward_rows, op, ptr, op->args.SEQUENCE_BACKWARD.rows, begin, end);
}

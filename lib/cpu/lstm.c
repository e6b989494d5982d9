/* SPDX-License-Identifier: MIT
 *
 * One time step of an LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000). Items are rows of the batch.
 * A row is done in blocks of units: first the products of the block, then the cell on plain arrays, one for each gate, which
 * vectorise, and which make it safe that states before and after the step may lie in the same place.
 */
#include "activations.h"
#include "kernels.h"
#include "product.h"

#define UNITS 64

typedef struct Gates {
    float i[UNITS], f[UNITS], g[UNITS], o[UNITS];
} Gates;

static void gates_load(Gates *gates, const float *packed, size_t n)
{
    for (size_t u = 0; u < n; u++) {
        gates->i[u] = packed[4 * u];
        gates->f[u] = packed[4 * u + 1];
        gates->g[u] = packed[4 * u + 2];
        gates->o[u] = packed[4 * u + 3];
    }
}

static void gates_store(const Gates *gates, float *packed, size_t n)
{
    for (size_t u = 0; u < n; u++) {
        packed[4 * u] = gates->i[u];
        packed[4 * u + 1] = gates->f[u];
        packed[4 * u + 2] = gates->g[u];
        packed[4 * u + 3] = gates->o[u];
    }
}

/* pre[4 n] += h W for a block of n units; w is the block's column in row 0 of W_hh [k][units][4]. */
static void recurrent_product(float *pre, size_t n, const float *h, const float *w, size_t units, size_t k)
{
    float sum[4 * UNITS];
    for (size_t j = 0; j < k; j += VKL_CPU_BLOCK) {
        size_t terms = k - j < VKL_CPU_BLOCK ? k - j : VKL_CPU_BLOCK;
        block_product(4 * n, sum, h + j, 1, w + j * 4 * units, 4 * units, terms);
        for (size_t c = 0; c < 4 * n; c++)
            pre[c] += sum[c];
    }
}

void VKL_CPU(lstm_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklCellForwardArgs *args = &op->args.LSTM_FORWARD;
    float *gates = (float *)ptr[0] + args->off0;
    const float *w = (const float *)ptr[1] + args->off1;
    float *h = (float *)ptr[2] + args->off2;
    float *c = (float *)ptr[3] + args->off3;
    size_t units = args->units;

    for (size_t first = 0; first < units; first += UNITS) {
        size_t n = units - first < UNITS ? units - first : UNITS;
        for (size_t row = begin; row < end; row++) {
            size_t at = row * units + first, h_next = args->h_next + row * args->h_ld + first;
            float pre[4 * UNITS], cell[UNITS], out[UNITS];
            Gates gate;

            for (size_t u = 0; u < 4 * n; u++)
                pre[u] = gates[4 * at + u];
            recurrent_product(pre, n, h + args->h_prev + row * args->h_ld, w + 4 * first, units, args->k);
            gates_load(&gate, pre, n);
            for (size_t u = 0; u < n; u++)
                cell[u] = c[args->c_prev + at + u];

            for (size_t u = 0; u < n; u++) {
                gate.i[u] = cell_sigmoid(gate.i[u]);
                gate.f[u] = cell_sigmoid(gate.f[u]);
            }
            for (size_t u = 0; u < n; u++) {
                gate.g[u] = cell_tanh(gate.g[u]);
                gate.o[u] = cell_sigmoid(gate.o[u]);
            }
            for (size_t u = 0; u < n; u++) {
                cell[u] = gate.f[u] * cell[u] + gate.i[u] * gate.g[u];
                out[u] = gate.o[u] * cell_tanh(cell[u]);
            }

            for (size_t u = 0; u < n; u++) {
                c[args->c_next + at + u] = cell[u];
                h[h_next + u] = out[u];
            }
            if (args->keep)
                gates_store(&gate, gates + 4 * at, n);
        }
    }
}

void VKL_CPU(lstm_once)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklOnceArgs *args = &op->args.LSTM_ONCE;
    const float *params = (const float *)ptr[1] + args->off1;
    size_t units = args->units;
    for (size_t row = begin; row < end; row++) {
        const float *x = (const float *)ptr[0] + args->off0 + row * args->x_ld;
        const float *h = args->k ? (const float *)ptr[2] + args->off2 + row * units : NULL;
        const float *c = args->has_c ? (const float *)ptr[3] + args->off3 + row * units : NULL;
        float *h_after = (float *)ptr[4] + args->off4 + row * units, *c_after = (float *)ptr[5] + args->off5 + row * units;
        for (size_t u = 0; u < units; u++) {
            float pre[4] = {0}, rec[4] = {0};
            for (size_t gate = 0; gate < 4; gate++) {
                for (size_t j = 0; j < args->inputs; j++)
                    pre[gate] += x[j] * params[args->w_ih + (j * units + u) * 4 + gate];
                for (size_t j = 0; j < args->bias_rows; j++)
                    pre[gate] += params[args->bias + (j * units + u) * 4 + gate];
                for (size_t j = 0; j < args->k; j++)
                    rec[gate] += h[j] * params[args->w_hh + (j * units + u) * 4 + gate];
                pre[gate] += rec[gate];
            }
            float cell = cell_sigmoid(pre[0]) * cell_tanh(pre[2]);
            if (c)
                cell += cell_sigmoid(pre[1]) * c[u];
            c_after[u] = cell;
            h_after[u] = cell_sigmoid(pre[3]) * cell_tanh(cell);
        }
    }
}

/* What is for CPUs behind Vulkan: no plan for this backend has it. */
void VKL_CPU(lstm_quad_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    VKL_CPU(lstm_forward)(op, ptr, begin, end);
}

void VKL_CPU(lstm_quad_row_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    VKL_CPU(lstm_forward)(op, ptr, begin, end);
}

/* From the activated gates, c before and after the step, and the gradients of h and c: the gradients of the pre-activations in
 * place of the gates, and that of the c before in dc. */
static void cell_backward(Gates *gate, size_t n, const float *c_prev, const float *cell, const float *dh, float *dc)
{
    for (size_t u = 0; u < n; u++) {
        float i = gate->i[u], f = gate->f[u], g = gate->g[u], o = gate->o[u];
        float t = cell_tanh(cell[u]);
        float d = dc[u] + dh[u] * o * (1.0f - t * t);
        dc[u] = d * f;
        gate->i[u] = d * g * (i * (1.0f - i));
        gate->f[u] = d * c_prev[u] * (f * (1.0f - f));
        gate->g[u] = d * i * (1.0f - g * g);
        gate->o[u] = dh[u] * t * (o * (1.0f - o));
    }
}

void VKL_CPU(lstm_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklCellBackwardArgs *args = &op->args.LSTM_BACKWARD;
    float *gates = (float *)ptr[0] + args->off0;
    const float *w = (const float *)ptr[1] + args->off1;
    const float *dy = (const float *)ptr[2] + args->off2;
    float *c = (float *)ptr[3] + args->off3;
    size_t units = args->units, k = args->k;

    for (size_t first = 0; first < units; first += UNITS) {
        size_t n = units - first < UNITS ? units - first : UNITS;
        for (size_t row = begin; row < end; row++) {
            size_t at = row * units + first, dy_at = args->dy_t + row * args->dy_ld + first;
            const float *next = gates + args->gates_next + row * k;
            float dh[UNITS], dc[UNITS], c_prev[UNITS], cell[UNITS];
            Gates gate;

            for (size_t u = 0; u < n; u++) {
                dh[u] = args->has_dy ? dy[dy_at + u] : 0.0f;
                dc[u] = args->has_dc ? c[args->dc_in + at + u] : 0.0f;
                c_prev[u] = c[args->c_prev + at + u];
                cell[u] = c[args->c_t + at + u];
            }
            dot_products(n, dh, next, w + first * 4 * units, 4 * units, k);

            gates_load(&gate, gates + args->gates_t + 4 * at, n);
            cell_backward(&gate, n, c_prev, cell, dh, dc);
            gates_store(&gate, gates + args->gates_t + 4 * at, n);
            for (size_t u = 0; u < n; u++)
                c[args->dc_out + at + u] = dc[u];
        }
    }
}
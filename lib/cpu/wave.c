/* SPDX-License-Identifier: MIT
 *
 * A time step of each of several layers: what a layer has from its neighbour, then its step as step.c does it. Items are rows, those of
 * each layer after those of the one below.
 */
#include <string.h>

#include "gates.h"
#include "kernels.h"
#include "product.h"

#define COLUMNS 64 /* of a block of sums */

/* The step kernel's constants for a cell without options. */
static void set_cell(VklOp *op, uint32_t cell, bool keep)
{
    static const uint32_t forms[] = {VKL_STEP_LSTM_PLAIN, VKL_STEP_GRU, VKL_STEP_RNN, VKL_STEP_RNN};
    static const uint32_t kinds[] = {0, VKL_GATE_SIGMOID | VKL_GATE_TANH << 8, VKL_GATE_TANH, VKL_GATE_RELU};
    op->spec[VKL_SPEC_FORM] = forms[cell];
    op->spec[VKL_SPEC_STEP_KINDS] = kinds[cell];
    op->spec[VKL_SPEC_STEP_FLAGS] = (keep ? VKL_STEP_KEEP : 0) | (cell == VKL_SEQUENCE_LSTM ? VKL_STEP_INTERLEAVED : 0);
}

static size_t gates_of(uint32_t cell)
{
    return cell == VKL_SEQUENCE_LSTM ? 4 : cell == VKL_SEQUENCE_GRU ? 3 : 1;
}

/* The pointers of a step, whose side arena holds nothing but carried gradients. */
static void step_pointers(void *to[VKL_CPU_POINTERS], void *const *ptr, void *side)
{
    memset(to, 0, VKL_CPU_POINTERS * sizeof *to);
    for (int i = 0; i < 4; i++)
        to[i] = ptr[i];
    to[4] = side;
    to[VKL_CPU_SCRATCH] = ptr[VKL_CPU_SCRATCH];
}

void VKL_CPU(wave_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklWaveForwardArgs *args = &op->args.WAVE_FORWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    size_t units = args->units, columns = gates_of(cell) * units;
    const float *params = (const float *)ptr[1] + args->off1;
    VklOp call = {.kernel = VKL_KERNEL_STEP_FORWARD};
    void *pointers[VKL_CPU_POINTERS];
    set_cell(&call, cell, op->spec[VKL_SPEC_WAVE_FLAGS] & VKL_WAVE_KEEP);
    step_pointers(pointers, ptr, ptr[0]);
    while (begin < end) {
        uint32_t z = (uint32_t)(begin / args->rows);
        uint64_t before = (uint64_t)z * args->rows, last = end - before < args->rows ? end - before : args->rows;
        uint32_t w = z ? args->w_second + (z - 1) * args->w_layer : args->w;
        uint32_t gates = args->gates + z * args->gates_wave, h = args->h + z * args->h_wave;
        for (uint64_t row = begin - before; (z || !args->lowest) && row < last; row++) {
            float *to = (float *)ptr[0] + args->off0 + gates + row * args->gates_ld;
            const float *x = (const float *)ptr[3] + args->off3 + (uint32_t)(h + args->below) + row * args->h_ld;
            const float *w_ih = params + (uint32_t)(w + args->inputs), *bias = params + (uint32_t)(w + args->bias);
            for (size_t first = 0; first < columns; first += COLUMNS) {
                size_t n = columns - first < COLUMNS ? columns - first : COLUMNS;
                float sum[COLUMNS] = {0}, part[COLUMNS];
                for (size_t i = 0; i < args->bias_rows; i++)
                    for (size_t c = 0; c < n; c++)
                        sum[c] += bias[i * columns + first + c];
                for (size_t j = 0; j < units; j += VKL_CPU_BLOCK) {
                    block_product(n, part, x + j, 1, w_ih + j * columns + first, columns,
                                  units - j < VKL_CPU_BLOCK ? units - j : VKL_CPU_BLOCK);
                    for (size_t c = 0; c < n; c++)
                        sum[c] += part[c];
                }
                memcpy(to + first, sum, n * sizeof *to);
            }
        }
        call.args.STEP_FORWARD = (struct VklStepForwardArgs){.off0 = args->off0,
                                                             .off1 = args->off1,
                                                             .off2 = args->off2,
                                                             .off3 = args->off3,
                                                             .rows = args->rows,
                                                             .units = args->units,
                                                             .k = args->units,
                                                             .gates = gates,
                                                             .gates_ld = args->gates_ld,
                                                             .h = h,
                                                             .h_step = args->h_step,
                                                             .h_ld = args->h_ld,
                                                             .c = args->c + z * args->c_wave,
                                                             .c_step = args->c_step,
                                                             .w = w,
                                                             .w_ld = (uint32_t)columns,
                                                             .option = args->option != VKL_ABSENT ? w + args->option : VKL_ABSENT,
                                                             .lengths = VKL_ABSENT,
                                                             .mask = VKL_ABSENT};
        VKL_CPU(step_forward)(&call, pointers, begin - before, last);
        begin = before + last;
    }
}

void VKL_CPU(wave_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklWaveBackwardArgs *args = &op->args.WAVE_BACKWARD;
    uint32_t cell = op->spec[VKL_SPEC_FORM], layers = op->groups[2];
    bool lstm = cell == VKL_SEQUENCE_LSTM, gru = cell == VKL_SEQUENCE_GRU;
    size_t units = args->units, columns = gates_of(cell) * units;
    const float *params = (const float *)ptr[1] + args->off1;
    VklOp call = {.kernel = VKL_KERNEL_STEP_BACKWARD};
    void *pointers[VKL_CPU_POINTERS];
    set_cell(&call, cell, false);
    step_pointers(pointers, ptr, ptr[4]);
    while (begin < end) {
        uint32_t z = (uint32_t)(begin / args->rows);
        uint64_t before = (uint64_t)z * args->rows, last = end - before < args->rows ? end - before : args->rows;
        uint32_t w = z ? args->w_second + (z - 1) * args->w_layer : args->w, w_above = args->w_second + z * args->w_layer;
        uint32_t gates = args->gates + z * args->gates_wave, state = args->state + z * args->state_wave;
        uint32_t carry = args->carry + z * args->carry_wave;
        bool first = z == 0 && args->flags & VKL_WAVE_FIRST, top = z + 1 == layers && args->flags & VKL_WAVE_TOP;
        bool carried = gru || (first && args->flags & VKL_WAVE_CARRIED), dc = !first || args->flags & VKL_WAVE_DC;
        for (uint64_t row = begin - before; row < last; row++) {
            float *to = (float *)ptr[4] + args->off4 + carry + row * units;
            const float *x = (const float *)ptr[0] + args->off0 + (uint32_t)(gates + args->above) + row * args->gates_ld;
            if (!carried)
                memset(to, 0, units * sizeof *to);
            for (size_t u = 0; !top && u < units; u += COLUMNS) {
                size_t n = units - u < COLUMNS ? units - u : COLUMNS;
                float sum[COLUMNS] = {0};
                dot_products(n, sum, x, params + (uint32_t)(w_above + args->inputs) + u * columns, columns, columns);
                for (size_t c = 0; c < n; c++)
                    to[u + c] += sum[c];
            }
        }
        call.args.STEP_BACKWARD = (struct VklStepBackwardArgs){.off0 = args->off0,
                                                               .off1 = args->off1,
                                                               .off2 = args->off2,
                                                               .off3 = args->off3,
                                                               .off4 = args->off4,
                                                               .rows = args->rows,
                                                               .units = args->units,
                                                               .k = first ? 0 : (uint32_t)columns,
                                                               .gates = gates,
                                                               .gates_ld = args->gates_ld,
                                                               .next_step = args->next_step,
                                                               .view = args->view,
                                                               .gy = args->gy,
                                                               .gy_ld = top ? args->gy_ld : VKL_ABSENT,
                                                               .c = state,
                                                               .state_step = lstm ? args->state_step : args->state_ld,
                                                               .dc_in = lstm && dc ? state - args->state_step : VKL_ABSENT,
                                                               .dc_out = state,
                                                               .w = w,
                                                               .w_ld = (uint32_t)columns,
                                                               .option = VKL_ABSENT,
                                                               .carry = carry,
                                                               .lengths = VKL_ABSENT,
                                                               .mask = VKL_ABSENT};
        VKL_CPU(step_backward)(&call, pointers, begin - before, last);
        begin = before + last;
    }
}

/* SPDX-License-Identifier: MIT
 *
 * One time step in one call: the recurrent product of a block of units, then the function of point.c or lstm.c for it, on a
 * small arena that holds the product and what a block needs of lengths, peepholes and carried gradients. Items are rows, those
 * of the second part after those of the first.
 */
#include <string.h>

#include "halves.h"
#include "kernels.h"
#include "product.h"
#include "scratch.h"

#define UNITS 64

/* Where things are in the block's own arena. */
enum { REC = 0, OPTION = 4 * UNITS, CARRY = 7 * UNITS, LENGTH = 8 * UNITS, OUT, SIDE = OUT + UNITS };

typedef struct Step {
    uint32_t form, flags;
    bool plain, interleaved, projected;
    size_t masks;
} Step;

static Step step_of(const VklOp *op)
{
    uint32_t flags = op->spec[VKL_SPEC_STEP_FLAGS];
    return (Step){.form = op->spec[VKL_SPEC_FORM],
                  .flags = flags,
                  .plain = op->spec[VKL_SPEC_FORM] == VKL_STEP_LSTM_PLAIN,
                  .interleaved = flags & VKL_STEP_INTERLEAVED,
                  .projected = flags & VKL_STEP_PROJECTED,
                  .masks = flags >> VKL_STEP_MASKS_SHIFT};
}

static float option_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static size_t gates_of(uint32_t form)
{
    switch (form) {
    case VKL_STEP_LSTM_PLAIN:
    case VKL_STEP_LSTM:
        return 4;
    case VKL_STEP_GRU:
        return 3;
    case VKL_STEP_GRU_FIRST:
        return 2;
    default:
        return 1;
    }
}

static uint32_t point_flags(const Step *step)
{
    return (step->flags & VKL_STEP_KEEP ? VKL_POINT_KEEP : 0) | (step->flags & VKL_STEP_COUPLED ? VKL_POINT_COUPLED : 0) |
           (step->form == VKL_STEP_GRU_FIRST    ? VKL_POINT_FIRST
            : step->form == VKL_STEP_GRU_SECOND ? VKL_POINT_SECOND
                                                : 0);
}

/* The options of the constants, for either argument struct. */
#define SET_OPTIONS(args, spec)                                                                                               \
    ((args)->kinds = (spec)[VKL_SPEC_STEP_KINDS], (args)->preact_clip = option_of((spec)[VKL_SPEC_STEP_PREACT_CLIP]),         \
     (args)->cell_clip = option_of((spec)[VKL_SPEC_STEP_CELL_CLIP]), (args)->alpha0 = option_of((spec)[VKL_SPEC_STEP_ALPHA]), \
     (args)->beta0 = option_of((spec)[VKL_SPEC_STEP_ALPHA + 1]), (args)->alpha1 = option_of((spec)[VKL_SPEC_STEP_ALPHA + 2]), \
     (args)->beta1 = option_of((spec)[VKL_SPEC_STEP_ALPHA + 3]), (args)->alpha2 = option_of((spec)[VKL_SPEC_STEP_ALPHA + 4]), \
     (args)->beta2 = option_of((spec)[VKL_SPEC_STEP_ALPHA + 5]))

/* sum[n] = x W, k terms, for n columns */
static void product_of(float *sum, size_t n, const float *x, const float *w, size_t w_ld, size_t k)
{
    float part[4 * UNITS];
    for (size_t c = 0; c < n; c++)
        sum[c] = 0.0f;
    for (size_t j = 0; j < k; j += VKL_CPU_BLOCK) {
        block_product(n, part, x + j, 1, w + j * w_ld, w_ld, k - j < VKL_CPU_BLOCK ? k - j : VKL_CPU_BLOCK);
        for (size_t c = 0; c < n; c++)
            sum[c] += part[c];
    }
}

/* W as halves, which devices choose to read less; here only tests have a use for them. */
static float half_at(const uint32_t *w, size_t at)
{
    return bits_float(float_of(w[at / 2] >> (16 * (at % 2)) & 0xffffu));
}

static void product_of_halves(float *sum, size_t n, const float *x, const uint32_t *w, size_t at, size_t w_ld, size_t k)
{
    for (size_t c = 0; c < n; c++)
        sum[c] = 0.0f;
    for (size_t first = 0; first < k; first += VKL_CPU_BLOCK)
        for (size_t c = 0; c < n; c++) {
            float part = 0.0f;
            for (size_t j = first; j < k && j < first + VKL_CPU_BLOCK; j++)
                part += x[j] * half_at(w, at + j * w_ld + c);
            sum[c] += part;
        }
}

static void dot_products_of_halves(size_t n, float *sum, const float *x, const uint32_t *w, size_t at, size_t w_ld, size_t k)
{
    for (size_t u = 0; u < n; u++)
        for (size_t first = 0; first < k; first += VKL_CPU_BLOCK) {
            float part = 0.0f;
            for (size_t j = first; j < k && j < first + VKL_CPU_BLOCK; j++)
                part += x[j] * half_at(w, at + u * w_ld + j);
            sum[u] += part;
        }
}

static float masked(const float *side, uint32_t mask, size_t rows, size_t units, size_t g, size_t row, size_t column, float value)
{
    float factor = side[mask + (g * rows + row) * units + column];
    return factor == 0.0f ? 0.0f : value * factor;
}

static void load_option(float *own, const float *params, uint32_t option, size_t units, size_t first, size_t n)
{
    for (size_t i = 0; option != VKL_ABSENT && i < 3; i++)
        memcpy(own + OPTION + i * n, params + option + i * units + first, n * sizeof *own);
}

/* A block of n units of a row, whose product is in own[REC]. */
static void point_forward(const VklOp *op, const Step *step, float *gates, float *c, float *c_next, const float *h, float *h_next,
                          float *own, size_t n, uint32_t t, void *scratch)
{
    const struct VklStepForwardArgs *args = &op->args.STEP_FORWARD;
    VklOp point = {.kernel = op->kernel};
    struct VklPointForwardArgs *to = &point.args.LSTM_POINT_FORWARD;
    bool lstm = step->form == VKL_STEP_LSTM, rnn = step->form == VKL_STEP_RNN;
    *to = (struct VklPointForwardArgs){
        .rows = 1,
        .units = (uint32_t)n,
        .gates_ld = args->gates_ld,
        .gate_stride = step->interleaved ? 1 : args->units,
        .unit_stride = step->interleaved ? 4 : 1,
        .h_prev = 0, /* h before and after the step lie in one array, first one, then the other */
        .h_next = UNITS,
        .c_next = UNITS,
        .rec = REC,
        .rec_gate_stride = step->interleaved ? 1 : (uint32_t)n,
        .lengths = args->lengths != VKL_ABSENT ? LENGTH : VKL_ABSENT,
        .t = t,
        .peephole = args->option != VKL_ABSENT ? OPTION : VKL_ABSENT,
        .flags = point_flags(step),
    };
    SET_OPTIONS(to, op->spec);
    float states[2 * UNITS], hidden[2 * UNITS];
    if (lstm)
        memcpy(states, c, n * sizeof *states);
    if (step->projected)
        to->h_prev = VKL_ABSENT;
    else
        memcpy(hidden, h, n * sizeof *hidden);
    if (step->form == VKL_STEP_GRU_FIRST || step->form == VKL_STEP_GRU_SECOND) {
        to->c_prev = 0;
        to->c_next = 0;
    }
    void *ptr[VKL_CPU_POINTERS] = {gates, states, hidden, own};
    ptr[VKL_CPU_SCRATCH] = scratch;
    if (lstm)
        VKL_CPU(lstm_point_forward)(&point, ptr, 0, 1);
    else if (rnn)
        VKL_CPU(rnn_point_forward)(&point, ptr, 0, 1);
    else
        VKL_CPU(gru_point_forward)(&point, ptr, 0, 1);
    if (lstm)
        memcpy(c_next, states + UNITS, n * sizeof *states);
    memcpy(h_next, step->form == VKL_STEP_GRU_FIRST ? states : hidden + UNITS, n * sizeof *hidden);
}

static void plain_forward(const VklOp *op, float *gates, const float *c, float *c_next, float *h_next, const float *rec, size_t n,
                          void *scratch)
{
    VklOp cell = {.kernel = VKL_KERNEL_LSTM_FORWARD};
    float states[2 * UNITS], hidden[UNITS], pre[4 * UNITS];
    bool keep = op->spec[VKL_SPEC_STEP_FLAGS] & VKL_STEP_KEEP;
    for (size_t u = 0; u < 4 * n; u++)
        pre[u] = gates[u] + rec[u];
    memcpy(states, c, n * sizeof *states);
    cell.args.LSTM_FORWARD = (struct VklCellForwardArgs){.rows = 1, .units = (uint32_t)n, .c_next = UNITS, .keep = keep};
    void *ptr[VKL_CPU_POINTERS] = {pre, pre, hidden, states};
    ptr[VKL_CPU_SCRATCH] = scratch;
    VKL_CPU(lstm_forward)(&cell, ptr, 0, 1);
    if (keep)
        memcpy(gates, pre, 4 * n * sizeof *gates);
    memcpy(c_next, states + UNITS, n * sizeof *states);
    memcpy(h_next, hidden, n * sizeof *hidden);
}

void VKL_CPU(step_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklStepForwardArgs *args = &op->args.STEP_FORWARD;
    const Step step = step_of(op);
    const float *params = (const float *)ptr[1] + args->off1;
    float *side = (float *)ptr[4] + args->off4;
    size_t units = args->units, k = args->k, gates_count = gates_of(step.form), unit_stride = step.interleaved ? 4 : 1;
    bool beside = step.form == VKL_STEP_GRU_SECOND || step.form == VKL_STEP_PROJECT;
    bool each_its_own = step.masks > 1 && !beside;

    for (size_t first = 0; first < units; first += UNITS)
        for (size_t item = begin; item < end; item++) {
            bool second = item >= args->rows;
            size_t row = item - (second ? args->rows : 0), n = units - first < UNITS ? units - first : UNITS;
            uint32_t h_step = second ? 0u - args->h_step : args->h_step, c_step = second ? 0u - args->c_step : args->c_step;
            uint32_t h_at = second ? args->h_second : args->h, c_at = second ? args->c_second : args->c, next = h_at + h_step;
            uint32_t t = second ? args->t_second : args->t;
            const float *w = params + args->w + (second ? args->params_second : 0) + first * unit_stride;
            const float *option = params + (second ? args->params_second : 0);
            float *h = (float *)ptr[3] + args->off3, *state = (float *)ptr[2] + args->off2;
            float *to = (float *)ptr[0] + args->off0 + (second ? args->to_second : args->to);
            float *gates = (float *)ptr[0] + args->off0 + (second ? args->gates_second : args->gates) + row * args->gates_ld;
            size_t in_h = row * args->h_ld, in_state = row * units + first;
            size_t copies = args->masked + (second && step.masks > 1 ? (step.masks - 1) * (beside ? units : k) : 0);
            const float *x = beside ? to + row * k : h + h_at + in_h + (step.masks ? copies : 0);
            float own[SIDE];

            if (step.flags & VKL_STEP_HALVES)
                for (size_t g = 0; g < (step.interleaved ? 1 : gates_count); g++)
                    product_of_halves(own + REC + g * n, step.interleaved ? 4 * n : n, x + (each_its_own ? g * k : 0),
                                      (const uint32_t *)(const void *)params,
                                      args->w + (second ? args->params_second : 0) + first * unit_stride + g * units, args->w_ld,
                                      k);
            else if (step.interleaved)
                product_of(own + REC, 4 * n, x, w, args->w_ld, k);
            else
                for (size_t g = 0; g < gates_count; g++)
                    product_of(own + REC + g * n, n, x + (each_its_own ? g * k : 0), w + g * units, args->w_ld, k);
            load_option(own, option, args->option, units, first, n);
            if (args->lengths != VKL_ABSENT)
                memcpy(own + LENGTH, side + args->lengths + row, sizeof *own);

            float *h_prev = h + h_at + in_h + first, *h_next = h + next + in_h + first;
            if (step.form == VKL_STEP_GRU_FIRST && step.masks)
                h_prev += copies + (step.masks - 1) * units;
            if (step.projected || step.form == VKL_STEP_GRU_FIRST)
                h_next = to + in_state;
            if (step.plain) {
                plain_forward(op, gates + 4 * first, state + c_at + in_state, state + (uint32_t)(c_at + c_step) + in_state,
                              h_next, own + REC, n, ptr[VKL_CPU_SCRATCH]);
            } else if (step.form == VKL_STEP_PROJECT) {
                uint32_t length = UINT32_MAX;
                if (args->lengths != VKL_ABSENT)
                    memcpy(&length, own + LENGTH, sizeof length);
                memcpy(h_next, t >= length ? h_prev : own + REC, n * sizeof *h);
            } else {
                point_forward(op, &step, gates + first * unit_stride, state + c_at + in_state,
                              state + (uint32_t)(c_at + c_step) + in_state, h_prev, h_next, own, n, t, ptr[VKL_CPU_SCRATCH]);
            }
            for (size_t g = 0; !step.projected && step.form != VKL_STEP_GRU_FIRST && g < step.masks; g++)
                for (size_t u = 0; u < n; u++)
                    h_next[copies + g * units + u] =
                        masked(side, args->mask, args->rows, units, g + (second ? step.masks : 0), row, first + u, h_next[u]);
        }
}

/* dh[n] = the product of a block of units, under its masks. */
static void product_back(const VklOp *op, const Step *step, float *dh, const float *x, const float *params, size_t w,
                         const float *side, size_t g0, size_t row, size_t first, size_t n)
{
    const struct VklStepBackwardArgs *args = &op->args.STEP_BACKWARD;
    bool under_masks = step->masks && !step->projected && step->form != VKL_STEP_GRU_SECOND;
    size_t groups = !under_masks || step->masks < 2 ? 1 : step->form == VKL_STEP_GRU_FIRST ? 2 : step->masks;
    size_t columns = args->k / groups;
    for (size_t u = 0; u < n; u++)
        dh[u] = 0.0f;
    for (size_t g = 0; g < groups; g++) {
        float sum[UNITS] = {0};
        if (step->flags & VKL_STEP_HALVES)
            dot_products_of_halves(n, sum, x + g * columns, (const uint32_t *)(const void *)params, w + g * columns, args->w_ld,
                                   columns);
        else
            dot_products(n, sum, x + g * columns, params + w + g * columns, args->w_ld, columns);
        for (size_t u = 0; u < n; u++)
            dh[u] += under_masks ? masked(side, args->mask, args->rows, args->units, g0 + g, row, first + u, sum[u]) : sum[u];
    }
}

static void plain_backward(float *gates, const float *dh, const float *c_prev, const float *c_t, float *dc, size_t n,
                           void *scratch)
{
    VklOp cell = {.kernel = VKL_KERNEL_LSTM_BACKWARD};
    float states[3 * UNITS];
    memcpy(states, c_t, n * sizeof *states);
    memcpy(states + UNITS, c_prev, n * sizeof *states);
    memcpy(states + 2 * UNITS, dc, n * sizeof *states);
    cell.args.LSTM_BACKWARD = (struct VklCellBackwardArgs){
        .rows = 1, .units = (uint32_t)n, .has_dy = 1, .c_prev = UNITS, .dc_in = 2 * UNITS, .has_dc = 1, .dc_out = 2 * UNITS};
    void *ptr[VKL_CPU_POINTERS] = {gates, gates, (void *)(uintptr_t)dh, states};
    ptr[VKL_CPU_SCRATCH] = scratch;
    VKL_CPU(lstm_backward)(&cell, ptr, 0, 1);
    memcpy(dc, states + 2 * UNITS, n * sizeof *dc);
}

void VKL_CPU(step_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklStepBackwardArgs *args = &op->args.STEP_BACKWARD;
    const Step step = step_of(op);
    const float *params = (const float *)ptr[1] + args->off1;
    float *side = (float *)ptr[4] + args->off4, *state = (float *)ptr[2] + args->off2;
    const float *gy = (const float *)ptr[3] + args->off3;
    size_t units = args->units, unit_stride = step.interleaved ? 4 : 1;
    bool lstm = step.form <= VKL_STEP_LSTM, reset = step.form == VKL_STEP_GRU_SECOND;

    for (size_t first = 0; first < units; first += UNITS)
        for (size_t item = begin; item < end; item++) {
            bool second = item >= args->rows;
            size_t row = item - (second ? args->rows : 0), n = units - first < UNITS ? units - first : UNITS;
            size_t in_state = row * units + first, masks_before = second ? step.masks : 0;
            uint32_t next = (second ? args->gates_second - args->next_step : args->gates + args->next_step) + args->view;
            uint32_t c_at = second ? args->c_second : args->c,
                     c_prev = second ? c_at - args->state_step : c_at + args->state_step;
            uint32_t dc_in = second ? args->dc_in_second : args->dc_in, dc_out = second ? args->dc_out_second : args->dc_out;
            uint32_t t = second ? args->t_second : args->t;
            float *all_gates = (float *)ptr[0] + args->off0;
            float *gates = all_gates + (second ? args->gates_second : args->gates) + row * args->gates_ld + first * unit_stride;
            const float *gy_row =
                gy + (second ? args->gy_second : args->gy) + row * (args->gy_ld == VKL_ABSENT ? 0 : args->gy_ld);
            size_t w = args->w + (second ? args->params_second : 0) + first * args->w_ld;
            float *carry = args->carry == VKL_ABSENT
                               ? NULL
                               : side + args->carry + (second ? (args->rows * units + 63) / 64 * 64 : 0) + in_state;
            const float *x = step.projected ? gy_row : all_gates + (args->k ? next : 0) + row * args->gates_ld;
            float own[SIDE], dh[UNITS];

            product_back(op, &step, dh, x, params, w, side, masks_before, row, first, n);
            for (size_t u = 0; !reset && u < n; u++) {
                dh[u] += carry ? carry[u] : 0.0f;
                dh[u] += !step.projected && args->gy_ld != VKL_ABSENT ? gy_row[first + u] : 0.0f;
            }
            load_option(own, params + (second ? args->params_second : 0), args->option, units, first, n);
            uint32_t length = UINT32_MAX;
            if (args->lengths != VKL_ABSENT)
                memcpy(&length, side + args->lengths + row, sizeof length);
            memcpy(own + LENGTH, &length, sizeof length);

            float dc[UNITS] = {0};
            if (lstm && dc_in != VKL_ABSENT)
                memcpy(dc, state + dc_in + in_state, n * sizeof *dc);
            if (step.plain) {
                plain_backward(gates, dh, state + c_prev + in_state, state + c_at + in_state, dc, n, ptr[VKL_CPU_SCRATCH]);
                memcpy(state + dc_out + in_state, dc, n * sizeof *dc);
                for (size_t u = 0; carry && u < n; u++)
                    carry[u] = 0.0f;
                continue;
            }
            if (step.form == VKL_STEP_PROJECT) {
                for (size_t u = 0; u < n; u++) {
                    state[c_at + in_state + u] = t >= length ? 0.0f : dh[u];
                    carry[u] = t >= length ? dh[u] : 0.0f;
                }
                continue;
            }

            VklOp point = {.kernel = op->kernel};
            struct VklPointBackwardArgs *to = &point.args.LSTM_POINT_BACKWARD;
            float states[3 * UNITS];
            *to = (struct VklPointBackwardArgs){.rows = 1,
                                                .units = (uint32_t)n,
                                                .gate_stride = step.interleaved ? 1 : args->units,
                                                .unit_stride = (uint32_t)unit_stride,
                                                .gy_ld = reset ? VKL_ABSENT : 0,
                                                .rec = reset ? REC : VKL_ABSENT,
                                                .carry = CARRY,
                                                .lengths = LENGTH,
                                                .t = t,
                                                .peephole = args->option != VKL_ABSENT ? OPTION : VKL_ABSENT,
                                                .flags = point_flags(&step)};
            SET_OPTIONS(to, op->spec);
            memset(own + CARRY, 0, n * sizeof *own);
            void *pointers[VKL_CPU_POINTERS] = {gates, states, dh, own};
            pointers[VKL_CPU_SCRATCH] = ptr[VKL_CPU_SCRATCH];
            if (lstm) {
                memcpy(states, state + c_at + in_state, n * sizeof *states);
                memcpy(states + UNITS, state + c_prev + in_state, n * sizeof *states);
                memcpy(states + 2 * UNITS, dc, n * sizeof *states);
                to->c_prev = UNITS;
                to->dc_in = to->dc_out = 2 * UNITS;
                VKL_CPU(lstm_point_backward)(&point, pointers, 0, 1);
                memcpy(state + dc_out + in_state, states + 2 * UNITS, n * sizeof *states);
            } else if (step.form == VKL_STEP_RNN) {
                VKL_CPU(rnn_point_backward)(&point, pointers, 0, 1);
            } else {
                memcpy(states, state + (reset ? dc_in : c_at) + row * args->state_step + first, n * sizeof *states);
                memcpy(own + REC, dh, n * sizeof *own);
                to->dc_out = OUT;
                VKL_CPU(gru_point_backward)(&point, pointers, 0, 1);
            }
            for (size_t u = 0; reset && u < n; u++)
                carry[u] += step.masks ? masked(side, args->mask, args->rows, units, masks_before + step.masks - 1, row,
                                                first + u, own[OUT + u])
                                       : own[OUT + u];
            if (!reset && carry)
                memcpy(carry, own + CARRY, n * sizeof *carry);
        }
}

/* The gates of one unit: LSTM i f g o; GRU n r z and what r multiplies; RNN one. */
static void agent_gates(const VklOp *op, const float *params, const float *operand, uint32_t terms, bool of_h, size_t unit,
                        float sum[4])
{
    const struct VklAgentsForwardArgs *args = &op->args.AGENTS_FORWARD;
    uint32_t form = op->spec[VKL_SPEC_FORM];
    size_t H = args->units, gates = form == VKL_SEQUENCE_LSTM ? 4 : form == VKL_SEQUENCE_GRU ? 3 : 1;
    for (uint32_t k = 0; k < terms; k++) {
        const float *row = params + k * gates * H;
        float value = operand ? operand[k] : 1.0f;
        if (form == VKL_SEQUENCE_LSTM) {
            for (size_t g = 0; g < 4; g++)
                sum[g] += value * row[4 * unit + g];
        } else if (form == VKL_SEQUENCE_GRU) {
            sum[1] += value * row[(of_h ? 0 : H) + unit];
            sum[2] += value * row[(of_h ? H : 2 * H) + unit];
            sum[of_h ? 3 : 0] += value * row[(of_h ? 2 * H : 0) + unit];
        } else {
            sum[0] += value * row[unit];
        }
    }
}

/* Items are rows; plans for the CPU have other ways. The new h goes through the scratch of the device, since all units need the old one. */
void VKL_CPU(agents_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklAgentsForwardArgs *args = &op->args.AGENTS_FORWARD;
    const float *params = (const float *)ptr[0] + args->off0, *x = (const float *)ptr[1] + args->off1;
    float *h = (float *)ptr[2] + args->off2, *c = (float *)ptr[3] + args->off3;
    const uint32_t *reset = (const uint32_t *)ptr[4] + args->off4, *count = (const uint32_t *)ptr[5] + args->off5;
    uint32_t form = op->spec[VKL_SPEC_FORM];
    size_t H = args->units, index;
    float *scratch = scratch_take(ptr[VKL_CPU_SCRATCH], &index);
    for (size_t row = begin; row < end; row++) {
        bool anew = (args->flags & VKL_AGENTS_RESET) && reset[row];
        if ((args->flags & VKL_AGENTS_COUNT) && args->first + row >= count[0])
            break;
        float *hidden = h + row * H, *old = scratch;
        memcpy(old, hidden, H * sizeof(*old));
        if (anew)
            memset(old, 0, H * sizeof(*old));
        for (size_t u = 0; u < H; u++) {
            float in[4] = {0}, rec[4] = {0}, pre[4];
            agent_gates(op, params + args->w_ih, x + row * args->inputs, args->inputs, false, u, in);
            agent_gates(op, params + args->w_hh, old, (uint32_t)H, true, u, rec);
            if (args->bias_rows)
                agent_gates(op, params + args->b_ih, NULL, args->bias_rows, false, u, in);
            if (form == VKL_SEQUENCE_GRU && args->b_hh != VKL_ABSENT)
                agent_gates(op, params + args->b_hh, NULL, 1, true, u, in);
            for (int g = 0; g < 4; g++)
                pre[g] = in[g] + rec[g];
            if (form == VKL_SEQUENCE_LSTM) {
                float *cell = &c[row * H + u];
                *cell = cell_sigmoid(pre[1]) * (anew ? 0.0f : *cell) + cell_sigmoid(pre[0]) * cell_tanh(pre[2]);
                hidden[u] = cell_sigmoid(pre[3]) * cell_tanh(*cell);
            } else if (form == VKL_SEQUENCE_GRU) {
                float z = cell_sigmoid(pre[2]);
                hidden[u] = (1.0f - z) * cell_tanh(pre[0] + cell_sigmoid(pre[1]) * pre[3]) + z * old[u];
            } else {
                hidden[u] = activate(form == VKL_SEQUENCE_RNN_TANH ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_RELU, pre[0]);
            }
        }
    }
    scratch_give(ptr[VKL_CPU_SCRATCH], index);
}

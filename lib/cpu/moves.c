/* SPDX-License-Identifier: MIT
 *
 * What the complete operator needs besides products and cells: strided copies, dropout, and small sums. Items are lines (one row at
 * one step) of MOVE and DROPOUT, rows of JOIN, SPREAD and ROWS, columns of COLUMN_DOT.
 */
#include <stdbool.h>

#include "../philox.h"
#include "activations.h"
#include "kernels.h"

void VKL_CPU(join)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklJoinArgs *args = &op->args.JOIN;
    float *dh = (float *)ptr[0] + args->off0;
    float *side = (float *)ptr[1] + args->off1;
    const float *gy = (const float *)ptr[2] + args->off2;
    bool has_carry = args->carry != VKL_ABSENT;

    for (size_t row = begin; row < end; row++) {
        size_t at = row * args->units;
        const float *gy_row = args->gy_ld != VKL_ABSENT ? gy + row * args->gy_ld : NULL;
        const float *rec = args->rec != VKL_ABSENT ? side + args->rec + row * args->rec_ld : NULL;
        bool frozen = args->lengths != VKL_ABSENT && args->t >= float_bits(side[args->lengths + row]);
        for (size_t u = 0; u < args->units; u++) {
            float v = gy_row ? gy_row[u] : 0.0f;
            v += rec ? rec[u] : 0.0f;
            if (has_carry) {
                v += side[args->carry + at + u];
                side[args->carry + at + u] = frozen ? v : 0.0f;
            }
            dh[at + u] = frozen ? 0.0f : v;
        }
    }
}

void VKL_CPU(move)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklMoveArgs *args = &op->args.MOVE;
    size_t columns = args->columns;

    for (uint64_t line = begin; line < end; line++) {
        size_t step = (size_t)(line / args->rows), row = (size_t)(line % args->rows);
        float *dst = (float *)ptr[0] + args->off0 + step * args->dst_step + row * args->dst_row;
        const float *src = (const float *)ptr[1] + args->off1 + step * args->src_step + row * args->src_row;
        if (args->guard != VKL_MOVE_ALL) {
            const uint32_t *lengths = (const uint32_t *)ptr[2] + args->off2 + args->first_row;
            bool frozen = args->first_step + step >= lengths[row];
            if (frozen != (args->guard == VKL_MOVE_FROZEN)) {
                if (args->guard == VKL_MOVE_LIVE && args->mode == VKL_MOVE_COPY)
                    for (size_t k = 0; k < columns; k++)
                        dst[k] = args->value;
                continue;
            }
        }
        if (args->mode == VKL_MOVE_ADD)
            for (size_t k = 0; k < columns; k++)
                dst[k] += src[k];
        else
            memmove(dst, src, columns * sizeof(*dst)); /* a copy onto itself is allowed */
    }
}

/* One element. As bits, since what is kept with a scale of 1 is kept as it is, and what is dropped is 0 whatever it was; with a mask, since
 * a branch on a random number is guessed wrong half the time. */
static inline void drop(const struct VklDropoutArgs *args, uint32_t word, float *dst, const float *src)
{
    uint32_t mask = 0u - (uint32_t)(word >= args->threshold && !args->all);
    if (args->mode == VKL_MOVE_ADD) {
        uint32_t before = float_bits(*dst), sum = float_bits(*dst + *src * args->scale);
        *dst = bits_float((sum & mask) | (before & ~mask));
    } else {
        uint32_t scaled = args->scale == 1.0f ? float_bits(*src) : float_bits(*src * args->scale);
        *dst = bits_float(scaled & mask);
    }
}

void VKL_CPU(dropout)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklDropoutArgs *args = &op->args.DROPOUT;
    const uint32_t *state = (const uint32_t *)ptr[2] + args->off2;
    uint32_t offset = args->offset + (args->offset_at != VKL_ABSENT ? state[args->offset_at] : 0);

    for (uint64_t line = begin; line < end; line++) {
        size_t step = (size_t)(line / args->rows), row = (size_t)(line % args->rows);
        float *dst = (float *)ptr[0] + args->off0 + step * args->dst_step + row * args->dst_row;
        const float *src = (const float *)ptr[1] + args->off1 + step * args->src_step + row * args->src_row;
        for (size_t k = 0; k < args->columns;) {
            uint32_t column = args->first_column + (uint32_t)k;
            uint32_t word[4] = {column / 4, args->first_row + (uint32_t)row,
                                args->first_step + (uint32_t)step * args->step_stride, args->stream};
            vkl_philox(word, args->seed0, args->seed1 ^ offset);
            for (uint32_t w = column % 4; w < 4 && k < args->columns; w++, k++)
                drop(args, word[w], dst + k, src + k);
        }
    }
}

void VKL_CPU(spread)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklSpreadArgs *args = &op->args.SPREAD;
    const float *bias = (const float *)ptr[2] + args->off2;

    for (size_t row = begin; row < end; row++) {
        float *gates = (float *)ptr[0] + args->off0 + row * args->gates_ld;
        float *x = (float *)ptr[1] + args->off1 + row * args->x_ld;
        for (size_t u = 0; u < args->units; u++) {
            size_t packed = u * args->unit_stride;
            float total = 0.0f;
            for (size_t g = 0; g < args->gates; g++) {
                size_t at = packed + g * args->gate_stride;
                if (op->spec[VKL_SPEC_FORM] == 0) {
                    float sum = x[u];
                    for (size_t r = 0; r < args->bias_rows; r++)
                        sum += bias[r * args->gates * args->units + at];
                    gates[at] = sum;
                } else {
                    total += gates[at];
                }
            }
            if (op->spec[VKL_SPEC_FORM] != 0)
                x[u] = total;
        }
    }
}

void VKL_CPU(column_dot)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklColumnDotArgs *args = &op->args.COLUMN_DOT;
    float *out = (float *)ptr[0] + args->off0;
    const float *a = (const float *)ptr[1] + args->off1;
    const float *b = (const float *)ptr[2] + args->off2;

    /* A few columns at a time, so that rows are read in order. */
    enum { STRIP = 16 };
    for (size_t first = begin; first < end; first += STRIP) {
        size_t n = end - first < STRIP ? (size_t)(end - first) : STRIP;
        float sum[STRIP] = {0};
        for (size_t row = 0; row < args->rows; row++)
            for (size_t u = 0; u < n; u++)
                sum[u] += a[row * args->a_ld + (first + u) * args->a_stride] * b[row * args->b_ld + first + u];
        for (size_t u = 0; u < n; u++)
            out[first + u] = args->accumulate ? sum[u] + out[first + u] : sum[u];
    }
}

void VKL_CPU(rows)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklRowsArgs *args = &op->args.ROWS;
    const uint32_t columns[2] = {args->columns0, args->columns1}, at[2] = {args->at0, args->at1},
                   off[2] = {args->off1, args->off2};
    const uint32_t *guard = (const uint32_t *)ptr[3] + args->off3;

    for (size_t row = begin; row < end; row++) {
        for (int i = 0; i < 2; i++) {
            float *arena = (float *)ptr[0] + args->off0 + at[i] + row * columns[i];
            float *other = (float *)ptr[1 + i] + off[i] + row * columns[i];
            if (op->spec[VKL_SPEC_FORM] == VKL_ROWS_LOAD && args->guarded && guard[args->first + row])
                memset(arena, 0, columns[i] * sizeof(*arena));
            else if (op->spec[VKL_SPEC_FORM] == VKL_ROWS_LOAD)
                memcpy(arena, other, columns[i] * sizeof(*arena));
            else if (!args->guarded || args->first + row < guard[0])
                memcpy(other, arena, columns[i] * sizeof(*arena));
        }
    }
}

static uint32_t parts(uint32_t all, uint32_t size)
{
    return (all + size - 1) / size;
}

void VKL_CPU(tally)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklTallyArgs *args = &op->args.TALLY;
    uint32_t agents = ((const uint32_t *)ptr[0])[args->off0];
    (void)begin;
    (void)end;
    for (size_t i = 0; i < VKL_TALLY_ENTRIES && args->entry[i].rows; i++) {
        const struct VklTallyEntry *entry = &args->entry[i];
        uint32_t *arguments = (uint32_t *)ptr[1] + args->off1 + i * VKL_TALLY_STRIDE, way = entry->way & 3;
        uint32_t live = agents > entry->first ? agents - entry->first : 0;
        live = live < entry->rows ? live : entry->rows;
        uint32_t groups = parts(parts(live, entry->block) * entry->items, entry->group);
        uint32_t least = groups < entry->other ? groups : entry->other;
        arguments[0] = way == VKL_TALLY_X ? groups : way == VKL_TALLY_Y ? entry->other : least;
        arguments[1] = way == VKL_TALLY_X ? entry->other : way == VKL_TALLY_Y ? groups : parts(groups, least ? least : 1);
        arguments[2] = entry->way >> 2;
        arguments[3] = live;
    }
}

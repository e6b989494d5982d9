/* SPDX-License-Identifier: MIT
 *
 * Many time steps in one op: cut where a binding does not reach them all or a device stops counting. Two directions whose memory one
 * binding does not cover become an op each. */
#include "internal.h"
#include "plan_build.h"

/* Of an op, whatever the device could do at once: a long sequence can then be cut to a budget of time (pace.c), and what a
 * dispatch costs is little beside so many steps. */
#define STEPS_MOST 512

/* `count` elements at `first`, and again at each of `slots` slots on. */
static void cover_walk(Cover *cover, VklArray first, uint64_t slots, uint64_t step, bool down, uint64_t count)
{
    if (!vkl_has(first))
        return;
    if (down)
        first.at -= slots * step;
    cover_add(cover, first, slots * step + count);
}

static VklArray walk(VklArray array, uint64_t slots, uint64_t step, bool down)
{
    if (vkl_has(array))
        array.at = down ? array.at - slots * step : array.at + slots * step;
    return array;
}

static bool goes_down(const VklSequence *sequence, uint64_t d)
{
    return sequence->down != (d == 1);
}

static uint32_t modulo(uint64_t step, bool down)
{
    return down ? 0u - (uint32_t)step : (uint32_t)step;
}

static uint64_t columns_of(const VklSequence *sequence)
{
    uint64_t gates = sequence->cell == VKL_SEQUENCE_LSTM ? 4 : sequence->cell == VKL_SEQUENCE_GRU ? 3 : 1;
    return gates * sequence->units;
}

static uint64_t rows_of(const VklSequence *sequence, uint64_t ld, uint64_t columns)
{
    return span(sequence->rows, ld, columns);
}

/* What each binding covers. */
typedef struct Covers {
    Cover gates, w, h, c, gy, carry;
} Covers;

static Covers cover_all(const VklSequence *sequence, bool backward)
{
    uint64_t units = sequence->units, steps = sequence->steps, block = sequence->rows * units;
    bool gru = sequence->cell == VKL_SEQUENCE_GRU;
    Cover none = {.begin = VKL_NO_ARRAY};
    Covers covers = {none, none, none, none, none, none};
    for (uint64_t d = 0; d < sequence->directions; d++) {
        const VklSequenceSide *side = &sequence->side[d];
        bool down = goes_down(sequence, d);
        uint64_t gates = rows_of(sequence, sequence->gates_ld, gru ? 4 * units : columns_of(sequence));
        cover_walk(&covers.gates, side->gates, steps - 1, sequence->gates_step, down, gates);
        cover_add(&covers.w, side->w, columns_of(sequence) * units);
        if (!backward) {
            cover_add(&covers.w, side->bias, 3 * units);
            cover_walk(&covers.h, side->h, steps, sequence->h_step, down, rows_of(sequence, sequence->h_ld, units));
        } else {
            cover_add(&covers.gates, side->gates_next, gates);
            cover_walk(&covers.gy, side->gy, steps - 1, sequence->gy_step, down, rows_of(sequence, sequence->gy_ld, units));
            if (gru)
                cover_walk(&covers.h, side->h, steps - 1, sequence->h_step, down, rows_of(sequence, sequence->h_ld, units));
            cover_add(&covers.carry, side->carry, block);
            cover_add(&covers.c, side->dc_in, block);
            cover_add(&covers.c, side->dc_out, block);
        }
        cover_walk(&covers.c, side->c, steps, sequence->c_step, down, block);
    }
    return covers;
}

static bool within_windows(const VklPlan *plan, const VklSequence *sequence, bool backward)
{
    Covers covers = cover_all(sequence, backward);
    const Cover *all[] = {&covers.gates, &covers.w, &covers.h, &covers.c, &covers.gy, &covers.carry};
    for (int i = 0; i < 6; i++)
        if (vkl_has(all[i]->begin) && cover_count(all[i]) > vkl_plan_window(plan))
            return false;
    return true;
}

/* From step `first` on. What lies between two parts lies in memory as between two ops of a step each. */
static VklSequence part_of(const VklSequence *whole, bool backward, uint64_t first, uint64_t steps)
{
    VklSequence part = *whole;
    part.steps = steps;
    for (uint64_t d = 0; d < whole->directions; d++) {
        VklSequenceSide *side = &part.side[d];
        bool down = goes_down(whole, d), last = first + steps == whole->steps;
        side->gates = walk(side->gates, first, whole->gates_step, down);
        side->h = walk(side->h, first, whole->h_step, down);
        side->c = walk(side->c, first, whole->c_step, down);
        side->gy = walk(side->gy, first, whole->gy_step, down);
        if (!backward)
            continue;
        if (first) {
            side->gates_next = walk(side->gates, 1, whole->gates_step, !down);
            side->dc_in = walk(side->c, 1, whole->c_step, !down);
            part.carried = whole->cell == VKL_SEQUENCE_GRU;
        }
        if (!last)
            side->dc_out = walk(side->c, steps - 1, whole->c_step, down);
    }
    return part;
}

/* Whether parts of `most` steps fit the windows: the first, and one that has another before it. */
static bool parts_fit(const VklPlan *plan, const VklSequence *sequence, bool backward, uint64_t most)
{
    VklSequence first = part_of(sequence, backward, 0, most), last = part_of(sequence, backward, sequence->steps - most, most);
    return within_windows(plan, &first, backward) && within_windows(plan, &last, backward);
}

bool vkl_plan_sequence_possible(const VklPlan *plan, const VklSequence *sequence, bool backward, bool *pays)
{
    VklSequenceShape shape;
    if (!vkl_tune_sequence(plan->caps, sequence->cell, sequence->rows, sequence->units, backward, &shape, pays))
        return false;
    if (blocks(sequence->rows, shape.group_rows) > plan->caps->workgroups[0])
        return false;
    for (uint64_t d = 0; d < sequence->directions; d++) { /* one step of one direction must fit */
        VklSequence one = *sequence;
        one.side[0] = sequence->side[d];
        one.directions = 1;
        one.down = goes_down(sequence, d);
        if (!parts_fit(plan, &one, backward, 1))
            return false;
    }
    return true;
}

static VklOp *begin(VklPlan *plan, const VklSequence *sequence, const VklSequenceShape *shape)
{
    VklOp *op = vkl_plan_op(plan, shape->kernel);
    if (!op)
        return NULL;
    for (uint32_t i = 0; i < VKL_SPEC_COUNT; i++)
        op->spec[i] = shape->spec[i];
    if (!op->spec[VKL_SPEC_WORKGROUP])
        op->spec[VKL_SPEC_WORKGROUP] = plan->caps->workgroup;
    op->spec[VKL_SPEC_FORM] = sequence->cell;
    op->groups[0] = (uint32_t)blocks(sequence->rows, shape->group_rows);
    op->groups[1] = (uint32_t)sequence->directions;
    op->groups[2] = shape->unit_groups ? (uint32_t)shape->unit_groups : 1;
    vkl_plan_counted(plan, op, VKL_TALLY_X, 0, sequence->rows, shape->group_rows, 1, 1);
    op->work = sequence->rows * sequence->directions;
    op->work_cost = sequence->steps * (sequence->units * columns_of(sequence) + 64 * columns_of(sequence));
    return op;
}

static void bind_cover(VklPlan *plan, VklOp *op, int binding, const Cover *cover, int access)
{
    if (vkl_has(cover->begin))
        vkl_plan_bind(plan, op, binding, cover->begin, cover_count(cover), access);
}

static bool by_four(uint64_t number)
{
    return number % 4 == 0;
}

static uint32_t variant_of(const VklOp *op, bool gates, bool state, uint64_t rows, uint64_t units, uint64_t unit_lanes)
{
    uint32_t lanes = op->spec[VKL_SEQUENCE_DIRECT_SPEC_LANES], group_rows = op->spec[VKL_SEQUENCE_DIRECT_SPEC_ROWS];
    uint64_t terms = group_rows < lanes ? lanes / group_rows : 1; /* of which a turn of the loop has a multiple */
    bool edge = rows % group_rows || units % (unit_lanes * lanes) || units % (4 * terms);
    return (gates ? VKL_SEQUENCE_WIDE_GATES : 0) | (state && by_four(units) ? VKL_SEQUENCE_WIDE_STATE : 0) |
           (edge ? VKL_SEQUENCE_EDGE : 0);
}

static void forward_variant(VklOp *op)
{
    const struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    bool gates = by_four(args->off0 | args->gates_first | args->gates_second | args->gates_step | args->gates_ld);
    bool state = by_four(args->off2 | args->h_before | args->h_second | args->h_step | args->h_ld);
    if (op->kernel == VKL_KERNEL_SEQUENCE_DIRECT_FORWARD)
        op->spec[VKL_SEQUENCE_DIRECT_SPEC_VARIANT] = variant_of(op, gates, state, args->rows, args->units, 1);
}

static void backward_variant(VklOp *op)
{
    const struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    bool gates = by_four(args->off0 | args->gates_first | args->gates_second | args->gates_step | args->gates_ld);
    uint32_t all = args->off3 | args->state_first | args->state_second | args->state_step | args->dc_out | args->dc_out_second;
    if (args->dc_in != VKL_ABSENT)
        all |= args->dc_in | args->dc_in_second;
    if (args->gy_ld != VKL_ABSENT)
        all |= args->off2 | args->gy_first | args->gy_second | args->gy_step | args->gy_ld;
    if (op->kernel == VKL_KERNEL_SEQUENCE_DIRECT_BACKWARD)
        op->spec[VKL_SEQUENCE_DIRECT_SPEC_VARIANT] = variant_of(op, gates, by_four(all), args->rows, args->units, 4);
}

static void forward_op(VklPlan *plan, const VklSequence *sequence, const VklSequenceShape *shape)
{
    VklOp *op = begin(plan, sequence, shape);
    if (!op)
        return;
    Covers covers = cover_all(sequence, false);
    const VklSequenceSide *one = &sequence->side[0], *two = &sequence->side[sequence->directions - 1];
    bool down = sequence->down;
    bind_cover(plan, op, 0, &covers.gates, sequence->keep ? VKL_READ_WRITE : VKL_READ);
    bind_cover(plan, op, 1, &covers.w, VKL_READ);
    bind_cover(plan, op, 2, &covers.h, VKL_READ_WRITE);
    bind_cover(plan, op, 3, &covers.c, VKL_READ_WRITE);
    struct VklSequenceForwardArgs *args = &op->args.SEQUENCE_FORWARD;
    args->rows = (uint32_t)sequence->rows;
    args->units = (uint32_t)sequence->units;
    args->steps = (uint32_t)sequence->steps;
    args->directions = (uint32_t)sequence->directions;
    args->gates_first = within(&covers.gates, one->gates);
    args->gates_step = modulo(sequence->gates_step, down);
    args->gates_ld = (uint32_t)sequence->gates_ld;
    args->h_before = within(&covers.h, one->h);
    args->h_step = modulo(sequence->h_step, down);
    args->h_ld = (uint32_t)sequence->h_ld;
    args->c_before = within(&covers.c, one->c);
    args->c_step = modulo(sequence->c_step, down);
    args->w = within(&covers.w, one->w);
    args->bias = within(&covers.w, one->bias);
    args->keep = sequence->keep;
    args->gates_second = within(&covers.gates, two->gates);
    args->h_second = within(&covers.h, two->h);
    args->c_second = within(&covers.c, two->c);
    args->w_second = within(&covers.w, two->w);
    args->bias_second = within(&covers.w, two->bias);
    forward_variant(op);
    vkl_plan_end(plan, op);
}

static void backward_op(VklPlan *plan, const VklSequence *sequence, const VklSequenceShape *shape)
{
    VklOp *op = begin(plan, sequence, shape);
    if (!op)
        return;
    Covers covers = cover_all(sequence, true);
    const VklSequenceSide *one = &sequence->side[0], *two = &sequence->side[sequence->directions - 1];
    bool down = sequence->down, lstm = sequence->cell == VKL_SEQUENCE_LSTM;
    const Cover *state = lstm ? &covers.c : &covers.h;
    bind_cover(plan, op, 0, &covers.gates, VKL_READ_WRITE);
    bind_cover(plan, op, 1, &covers.w, VKL_READ);
    bind_cover(plan, op, 2, &covers.gy, VKL_READ);
    bind_cover(plan, op, 3, state, lstm ? VKL_READ_WRITE : VKL_READ);
    bind_cover(plan, op, 4, &covers.carry, sequence->cell == VKL_SEQUENCE_GRU ? VKL_READ_WRITE : VKL_READ);
    struct VklSequenceBackwardArgs *args = &op->args.SEQUENCE_BACKWARD;
    args->rows = (uint32_t)sequence->rows;
    args->units = (uint32_t)sequence->units;
    args->steps = (uint32_t)sequence->steps;
    args->directions = (uint32_t)sequence->directions;
    args->gates_first = within(&covers.gates, one->gates);
    args->gates_step = modulo(sequence->gates_step, down);
    args->gates_ld = (uint32_t)sequence->gates_ld;
    args->gy_first = within(&covers.gy, one->gy);
    args->gy_step = modulo(sequence->gy_step, down);
    args->gy_ld = vkl_has(one->gy) ? (uint32_t)sequence->gy_ld : VKL_ABSENT;
    args->state_first = within(state, lstm ? one->c : one->h);
    args->state_step = modulo(lstm ? sequence->c_step : sequence->h_step, down);
    args->state_ld = (uint32_t)(lstm ? sequence->units : sequence->h_ld);
    args->dc_in = within(&covers.c, one->dc_in);
    args->dc_out = within(&covers.c, one->dc_out);
    args->carry = within(&covers.carry, one->carry);
    args->w = within(&covers.w, one->w);
    args->flags = (vkl_has(one->gates_next) ? VKL_SEQUENCE_NEXT : 0) | (sequence->carried ? VKL_SEQUENCE_CARRY : 0);
    args->gates_second = within(&covers.gates, two->gates);
    args->gy_second = within(&covers.gy, two->gy);
    args->state_second = within(state, lstm ? two->c : two->h);
    args->dc_in_second = within(&covers.c, two->dc_in);
    args->dc_out_second = within(&covers.c, two->dc_out);
    args->carry_second = within(&covers.carry, two->carry);
    args->w_second = within(&covers.w, two->w);
    backward_variant(op);
    vkl_plan_end(plan, op);
}

static void emit(VklPlan *plan, const VklSequence *sequence, bool backward)
{
    VklSequenceShape shape;
    bool pays;
    if (plan->status)
        return;
    if (!vkl_tune_sequence(plan->caps, sequence->cell, sequence->rows, sequence->units, backward, &shape, &pays)) {
        vkl_plan_fail(plan, VKL_ERROR_UNSUPPORTED, "the device has no kernel for many time steps of %llu units at once",
                      (unsigned long long)sequence->units);
        return;
    }
    uint64_t most = smaller(sequence->steps, smaller(shape.steps, STEPS_MOST));
    while (most > 1 && !parts_fit(plan, sequence, backward, most)) {
        if (sequence->directions == 2) {
            for (uint64_t d = 0; d < 2; d++) {
                VklSequence one = *sequence;
                one.directions = 1;
                one.down = goes_down(sequence, d);
                one.side[0] = sequence->side[d];
                emit(plan, &one, backward);
            }
            return;
        }
        most = (most + 1) / 2;
    }
    for (uint64_t first = 0; first < sequence->steps; first += most) {
        VklSequence part = part_of(sequence, backward, first, smaller(most, sequence->steps - first));
        if (backward)
            backward_op(plan, &part, &shape);
        else
            forward_op(plan, &part, &shape);
    }
}

void vkl_plan_sequence_forward(VklPlan *plan, const VklSequence *sequence)
{
    emit(plan, sequence, false);
}

void vkl_plan_sequence_backward(VklPlan *plan, const VklSequence *sequence)
{
    emit(plan, sequence, true);
}

/* SPDX-License-Identifier: MIT
 *
 * Ops for as many rows as a number on the device says. Emitters say how their workgroups follow from rows; TALLY computes them from the
 * number, in front of all else, and the dispatches read them where it left them. What an emitter rounds up to blocks of rows
 * lies in memory of the pass. */
#include "internal.h"
#include "plan_build.h"

void vkl_plan_counted(VklPlan *plan, VklOp *op, uint32_t way, uint64_t first, uint64_t rows, uint64_t block, uint64_t items,
                      uint64_t group)
{
    if (plan->counting == VKL_COUNTING_ROWS)
        op->counted =
            (VklCounted){.way = way, .first = plan->first + first, .rows = rows, .block = block, .items = items, .group = group};
}

uint32_t vkl_plan_group_rows(const VklPlan *plan, uint64_t rows, uint32_t wanted)
{
    const uint64_t most = 64; /* of which a workgroup does all, however few are live */
    if (plan->counting != VKL_COUNTING_ROWS || wanted <= most)
        return wanted;
    return (uint32_t)larger(most, blocks(rows, plan->caps->workgroups[1]));
}

static struct VklTallyEntry entry_of(const VklOp *op)
{
    const VklCounted *counted = &op->counted;
    uint32_t deep = counted->way == VKL_TALLY_LINEAR ? 1 : op->groups[2];
    return (struct VklTallyEntry){.first = (uint32_t)counted->first,
                                  .rows = (uint32_t)counted->rows,
                                  .block = (uint32_t)counted->block,
                                  .items = (uint32_t)counted->items,
                                  .group = (uint32_t)counted->group,
                                  .other = counted->way == VKL_TALLY_X ? op->groups[1] : op->groups[0],
                                  .way = counted->way | deep << 2};
}

/* Entries of the counted ops from number `begin` on, of which `taken` are before it. Returns where it stopped. */
static size_t count_op(VklPlan *plan, VklArray count, size_t begin, size_t end)
{
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_TALLY);
    if (!op)
        return end;
    uint32_t entries = 0;
    VklArray arguments = VKL_NO_ARRAY;
    for (; begin < end && entries < VKL_TALLY_ENTRIES; begin++) {
        const VklOp *counted = &plan->ops[begin];
        if (!counted->counted.rows)
            continue;
        if (!entries)
            arguments = vkl_array(VKL_SLOT_WORKSPACE, counted->counted.at);
        op->args.TALLY.entry[entries++] = entry_of(counted);
    }
    vkl_plan_bind(plan, op, 0, count, 1, VKL_READ);
    vkl_plan_bind(plan, op, 1, arguments, (uint64_t)entries * VKL_TALLY_STRIDE, VKL_WRITE);
    op->groups[0] = op->groups[1] = op->groups[2] = 1;
    vkl_plan_end(plan, op);
    return begin;
}

void vkl_plan_count(VklPlan *plan, VklArray count)
{
    size_t ops = plan->count, counted = 0;
    /* Each call of TALLY where no other binding reaches, not even that of another call, whose window begins at a multiple of the device's alignment:
     * what a kernel may write, others must not without a barrier of their own. */
    uint64_t at = blocks(plan->slot_size[VKL_SLOT_WORKSPACE], VKL_WINDOW_GRID) * (VKL_WINDOW_GRID / 4);
    plan->counting = VKL_COUNTING_OFF;
    for (size_t i = 0; i < ops; i++)
        if (plan->ops[i].counted.rows) {
            plan->ops[i].counted.at =
                at + counted / VKL_TALLY_ENTRIES * (VKL_WINDOW_GRID / 4) + counted % VKL_TALLY_ENTRIES * VKL_TALLY_STRIDE;
            counted++;
        }
    size_t calls = blocks(counted, VKL_TALLY_ENTRIES);
    for (size_t i = 0, begin = 0; i < calls && !plan->status; i++)
        begin = count_op(plan, count, begin, ops);
    if (plan->status)
        return;
    for (size_t i = 0; i < calls; i++) { /* to the front */
        VklOp op = plan->ops[plan->count - 1];
        memmove(plan->ops + 1, plan->ops, (plan->count - 1) * sizeof(*plan->ops));
        op.barrier = false;
        plan->ops[0] = op;
    }
    plan->ops[calls].barrier = calls > 0;
}

void vkl_op_limit(VklOp *op, uint64_t live)
{
    VklArgs *args = &op->args;
    uint32_t rows = (uint32_t)live;
    op->work = op->work / op->counted.rows * live;
    switch (op->kernel) {
        VKL_GEMM_LIKE_LABELS
    case VKL_KERNEL_GEMM_SPLIT:
    case VKL_KERNEL_GEMM_COOP:
        args->GEMM.m = rows;
        break;
    case VKL_KERNEL_GEMM_REDUCE:
        args->GEMM_REDUCE.m = rows;
        break;
    case VKL_KERNEL_LSTM_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_ROW_FORWARD:
        args->LSTM_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_LSTM_POINT_FORWARD:
    case VKL_KERNEL_GRU_POINT_FORWARD:
    case VKL_KERNEL_RNN_POINT_FORWARD:
        args->LSTM_POINT_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_SEQUENCE_FORWARD:
    case VKL_KERNEL_SEQUENCE_DIRECT_FORWARD:
        args->SEQUENCE_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_STEP_FORWARD:
        args->STEP_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_WAVE_FORWARD:
        args->WAVE_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_SPREAD:
        args->SPREAD.rows = rows;
        break;
    case VKL_KERNEL_AGENTS_FORWARD:
        args->AGENTS_FORWARD.rows = rows;
        break;
    case VKL_KERNEL_ROWS:
        args->ROWS.rows = rows;
        break;
    default:
        break;
    }
}

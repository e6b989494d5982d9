/* SPDX-License-Identifier: MIT
 *
 * Floats to halves and back, in windows. */
#include "internal.h"
#include "plan_build.h"

/* What of a range lies in [first, first + count), counted from there. */
static uint32_t inside(uint64_t at, uint64_t first, uint64_t count)
{
    return (uint32_t)(at < first ? 0 : smaller(at - first, count));
}

void vkl_plan_narrow(VklPlan *plan, const VklNarrow *narrow)
{
    /* pairs stay together */
    uint64_t most = larger(smaller(vkl_plan_window(plan), UINT64_C(1) << 30) & ~UINT64_C(1), 2);
    for (uint64_t first = 0; first < narrow->count && !plan->status; first += most) {
        uint64_t count = smaller(most, narrow->count - first), pairs = blocks(count, 2);
        bool pack = narrow->form == VKL_NARROW_PACK, unpack = narrow->form == VKL_NARROW_UNPACK;
        VklArgs args = {.NARROW = {.count = (uint32_t)count,
                                   .exact_begin0 = inside(narrow->exact[0][0], first, count),
                                   .exact_end0 = inside(narrow->exact[0][1], first, count),
                                   .exact_begin1 = inside(narrow->exact[1][0], first, count),
                                   .exact_end1 = inside(narrow->exact[1][1], first, count)}};
        VklOperand operands[2] = {{vkl_array_at(narrow->dst, pack ? first / 2 : first), pack ? pairs : count, VKL_WRITE},
                                  {vkl_array_at(narrow->src, unpack ? first / 2 : first), unpack ? pairs : count, VKL_READ}};
        vkl_plan_call(plan, VKL_KERNEL_NARROW, narrow->form, pairs, operands, &args, pairs, 8);
    }
}

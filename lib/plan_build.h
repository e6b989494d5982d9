/* SPDX-License-Identifier: MIT
 *
 * How emitters append an op: vkl_plan_op(), vkl_plan_bind() for each array, arguments, groups, vkl_plan_end().
 */
#ifndef VKL_PLAN_BUILD_H
#define VKL_PLAN_BUILD_H

#include "plan.h"

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Arrays inside the arenas begin at multiples of 256 bytes, the largest alignment that Vulkan lets a device ask for, so that windows of
 * neighbours do not overlap. */
static inline uint64_t aligned(uint64_t floats)
{
    return (floats + 63) & ~UINT64_C(63);
}

static inline uint64_t blocks(uint64_t count, uint64_t size)
{
    return (count + size - 1) / size;
}

/* How many rows of `columns` numbers, `stride` apart, a window holds; at least 1 (a single row too long is refused by the bind). */
static inline uint64_t rows_in(uint64_t window, uint64_t stride, uint64_t columns)
{
    return window > columns && stride ? (window - columns) / stride + 1 : 1;
}

static inline uint64_t span(uint64_t rows, uint64_t stride, uint64_t columns)
{
    return (rows - 1) * stride + columns;
}

/* The part of a slot that covers several arrays of it, for a binding that reaches them all; where each lies in it. */
typedef struct Cover {
    VklArray begin;
    uint64_t end; /* element of the slot */
} Cover;

static inline void cover_add(Cover *cover, VklArray array, uint64_t count)
{
    if (!vkl_has(array))
        return;
    if (!vkl_has(cover->begin)) {
        cover->begin = array;
        cover->end = array.at + count;
        return;
    }
    cover->begin.at = smaller(cover->begin.at, array.at);
    cover->end = larger(cover->end, array.at + count);
}

static inline uint64_t cover_count(const Cover *cover)
{
    return cover->end - cover->begin.at;
}

static inline uint32_t within(const Cover *cover, VklArray array)
{
    return vkl_has(array) ? (uint32_t)(array.at - cover->begin.at) : VKL_ABSENT;
}

/* How many elements a window can hold for sure, whatever the alignment of its beginning. */
uint64_t vkl_plan_window(const VklPlan *plan);

/* NULL when the plan has failed. The op counts only from vkl_plan_end() on. */
VklOp *vkl_plan_op(VklPlan *plan, VklKernel kernel);

/* Binds `count` elements from array.at on and sets args.offset[binding]. Refuses more than a window. */
void vkl_plan_bind(VklPlan *plan, VklOp *op, int binding, VklArray array, uint64_t count, int access);

/* Workgroups for so many invocations in a row. */
void vkl_plan_linear(VklPlan *plan, VklOp *op, uint64_t invocations);

/* While rows are counted: the op is for `rows` rows from number `first` on, `items` for each `block` of them, `group` items in
 * a workgroup; on which axis says `way`. Groups must be set. */
void vkl_plan_counted(VklPlan *plan, VklOp *op, uint32_t way, uint64_t first, uint64_t rows, uint64_t block, uint64_t items,
                      uint64_t group);

/* How many rows a workgroup on y should have, which would have `wanted` if rows were not counted. */
uint32_t vkl_plan_group_rows(const VklPlan *plan, uint64_t rows, uint32_t wanted);

/* From here on ops are of a layer, not of rows; returns what was counted, to go back to. */
static inline VklCounting vkl_plan_whole(VklPlan *plan)
{
    VklCounting counting = plan->counting;
    plan->counting = counting == VKL_COUNTING_OFF ? counting : VKL_COUNTING_WHOLE;
    return counting;
}

/* Derives the barrier and appends. */
void vkl_plan_end(VklPlan *plan, VklOp *op);

#endif

/* SPDX-License-Identifier: MIT
 *
 * How emitters append an op: vkl_plan_op(), vkl_plan_bind() for each array, arguments, groups, vkl_plan_end().
 */
#ifndef VKL_PLAN_BUILD_H
#define VKL_PLAN_BUILD_H

#include "plan.h"

/* How many elements a window can hold for sure, whatever the alignment of its beginning. */
uint64_t vkl_plan_window(const VklPlan *plan);

/* NULL when the plan has failed. The op counts only from vkl_plan_end() on. */
VklOp *vkl_plan_op(VklPlan *plan, VklKernel kernel);

/* Binds `count` elements from array.at on and sets args.offset[binding]. Refuses more than a window. */
void vkl_plan_bind(VklPlan *plan, VklOp *op, int binding, VklArray array, uint64_t count, int access);

/* Workgroups for so many invocations in a row. */
void vkl_plan_linear(VklPlan *plan, VklOp *op, uint64_t invocations);

/* Derives the barrier and appends. */
void vkl_plan_end(VklPlan *plan, VklOp *op);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The dense layer as kernel calls. params: W [I][O], then b [O], padded to a multiple of 4 floats; the bias gradient is one more row of
 * dW's GEMM. */
#ifndef VKL_PLAN_DENSE_H
#define VKL_PLAN_DENSE_H

#include "plan.h"

typedef struct VklDensePass {
    const VklDenseDesc *desc;
    uint64_t rows;
    VklArray params, x, y;
    VklArray gy, dx, dparams; /* backward; dx and dparams may be absent */
    VklArray workspace;       /* vkl_dense_scratch() floats */
    bool accumulate;
    bool padded; /* the padding behind dparams is known to be zero, or added to */
} VklDensePass;

/* Floats of the packed parameters, padding included; of backward's scratch. The description must have been measured. */
uint64_t vkl_dense_floats(const VklDenseDesc *desc);
uint64_t vkl_dense_scratch(const VklDenseDesc *desc, uint64_t rows);
bool vkl_dense_measure(const VklDenseDesc *desc, uint64_t rows); /* false: a size does not fit 63 bits */

void vkl_plan_dense_forward(VklPlan *plan, const VklDensePass *pass);
void vkl_plan_dense_backward(VklPlan *plan, const VklDensePass *pass);

#endif

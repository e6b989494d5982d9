/* SPDX-License-Identifier: MIT */
#include "plan_dense.h"

#include "internal.h"
#include "plan_build.h"

uint64_t vkl_dense_floats(const VklDenseDesc *desc)
{
    return ((desc->input_size + 1) * desc->output_size + 3) & ~UINT64_C(3);
}

uint64_t vkl_dense_scratch(const VklDenseDesc *desc, uint64_t rows)
{
    uint64_t dz = desc->activation == VKL_ACTIVATION_NONE ? 0 : rows * desc->output_size;
    uint64_t partial = vkl_tune_gemm_scratch(desc->input_size + 1, desc->output_size, rows);
    return partial ? aligned(dz) + partial : dz;
}

bool vkl_dense_measure(const VklDenseDesc *desc, uint64_t rows)
{
    uint64_t inputs, size;
    return vkl_add(desc->input_size, 1, &inputs) && vkl_mul(inputs, desc->output_size, &size) && vkl_add(size, 3, &size) &&
           vkl_mul(size, 4, &size) && vkl_mul(rows, desc->output_size, &size) && vkl_mul(size, 4, &size) &&
           vkl_mul(rows, desc->input_size, &size) && vkl_mul(size, 4, &size);
}

void vkl_plan_dense_forward(VklPlan *plan, const VklDensePass *pass)
{
    uint64_t I = pass->desc->input_size, O = pass->desc->output_size;
    vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_NN,
                                   .m = pass->rows,
                                   .n = O,
                                   .k = I,
                                   .a = pass->x,
                                   .b = pass->params,
                                   .c = pass->y,
                                   .lda = I,
                                   .ldb = O,
                                   .ldc = O,
                                   .bias = vkl_array_at(pass->params, I * O),
                                   .bias_rows = 1,
                                   .activation = pass->desc->activation});
}

void vkl_plan_dense_backward(VklPlan *plan, const VklDensePass *pass)
{
    uint64_t I = pass->desc->input_size, O = pass->desc->output_size;
    /* at the end of the workspace, which is not needed but for dz */
    uint64_t partial = vkl_has(pass->workspace) ? vkl_tune_gemm_scratch(I + 1, O, pass->rows) : 0;
    VklArray dz = pass->gy;
    if (pass->desc->activation != VKL_ACTIVATION_NONE) {
        dz = pass->workspace;
        vkl_plan_activation_backward(plan, pass->desc->activation, pass->rows * O, pass->gy, pass->y, dz);
    }
    if (vkl_has(pass->dx))
        vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_NT,
                                       .m = pass->rows,
                                       .n = I,
                                       .k = O,
                                       .a = dz,
                                       .b = pass->params,
                                       .c = pass->dx,
                                       .lda = O,
                                       .ldb = O,
                                       .ldc = I});
    uint64_t padding = vkl_dense_floats(pass->desc) - (I + 1) * O;
    if (vkl_has(pass->dparams) && padding && !pass->padded) /* a norm over the flat buffer reads it */
        vkl_plan_copy(
            plan, &(VklCopyPiece){.mode = VKL_COPY_ZERO, .arena = vkl_array_at(pass->dparams, (I + 1) * O), .count = padding}, 1);
    if (vkl_has(pass->dparams))
        vkl_plan_gemm(plan,
                      &(VklGemm){.form = VKL_GEMM_TN,
                                 .m = I + 1,
                                 .n = O,
                                 .k = pass->rows,
                                 .a = pass->x,
                                 .b = dz,
                                 .c = pass->dparams,
                                 .lda = I,
                                 .ldb = O,
                                 .ldc = O,
                                 .accumulate = pass->accumulate,
                                 .ones = 1,
                                 .scratch = vkl_array_at(pass->workspace, vkl_dense_scratch(pass->desc, pass->rows) - partial),
                                 .scratch_count = partial});
}

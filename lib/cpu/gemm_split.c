/* SPDX-License-Identifier: MIT
 *
 * Products in slices: what GPUs do to have enough to do at a time. Here only tests have a use for it, so it is as plain as can be. */
#include "activations.h"
#include "kernels.h"

static float factor(const VklOp *op, void *const *ptr, size_t row, size_t k)
{
    const struct VklGemmArgs *args = &op->args.GEMM_SPLIT;
    const float *a = (const float *)ptr[0] + args->off0, *second = (const float *)ptr[3] + args->off3;
    if (op->spec[VKL_SPEC_FORM] != VKL_GEMM_TN)
        return a[row * args->lda + k];
    if (row < args->m_first)
        return a[k * args->lda + row];
    return row < args->m - args->ones ? second[k * args->lda_second + row - args->m_first] : 1.0f;
}

/* Items are rows of C. */
void VKL_CPU(gemm_split)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGemmArgs *args = &op->args.GEMM_SPLIT;
    const float *b = (const float *)ptr[1] + args->off1;
    float *c = (float *)ptr[2] + args->off2;
    bool along = op->spec[VKL_SPEC_FORM] == VKL_GEMM_NT;
    for (size_t row = begin; row < end; row++)
        for (size_t slice = 0, first = 0; first < args->k; slice++, first += args->slice_k) {
            float *out = c + slice * args->slice_c + row * args->ldc;
            size_t last = first + args->slice_k < args->k ? first + args->slice_k : args->k;
            for (size_t column = 0; column < args->n; column++) {
                float sum = 0.0f;
                for (size_t k = first; k < last; k++)
                    sum += factor(op, ptr, row, k) * (along ? b[column * args->ldb + k] : b[k * args->ldb + column]);
                out[column] = sum;
            }
        }
}

/* The shape of a device that has matrix instructions, and is not chosen here: GEMM, or GEMM_SPLIT where there are slices. */
void VKL_CPU(gemm_coop)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    if (op->args.GEMM_COOP.slice_k < op->args.GEMM_COOP.k)
        VKL_CPU(gemm_split)(op, ptr, begin, end);
    else
        VKL_CPU(gemm)(op, ptr, begin, end);
}

/* Items are elements of C. */
void VKL_CPU(gemm_reduce)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGemmReduceArgs *args = &op->args.GEMM_REDUCE;
    const float *partial = (const float *)ptr[0] + args->off0, *bias = (const float *)ptr[2] + args->off2;
    float *c = (float *)ptr[1] + args->off1;
    for (size_t i = begin; i < end; i++) {
        size_t column = i % args->n;
        float *out = c + i / args->n * args->ldc + column;
        float sum = 0.0f;
        for (size_t slice = 0; slice < args->slices; slice++)
            sum += partial[slice * args->slice_c + i];
        if (args->accumulate)
            sum = *out + sum;
        for (size_t r = 0; r < args->bias_rows; r++)
            sum += bias[r * args->n + column];
        *out = activate(args->activation, sum);
    }
}

/* SPDX-License-Identifier: MIT */
#include "activations.h"
#include "kernels.h"
#include "product.h"

/* The sums of one row of C, columns `first` to `first + n`. */
static void row_product(const VklOp *op, const float *a, const float *b, size_t row, size_t first, size_t n, float *sum)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    size_t k = args->k, lda = args->lda, ldb = args->ldb;
    static const float one = 1.0f;
    switch (op->spec[VKL_SPEC_FORM]) {
    case VKL_GEMM_NN:
        block_product(n, sum, a + row * lda, 1, b + first, ldb, k);
        break;
    case VKL_GEMM_NT:
        for (size_t c = 0; c < n; c++)
            sum[c] = dot_product(a + row * lda, b + (first + c) * ldb, k);
        break;
    default:
        if (row < args->m - args->ones)
            block_product(n, sum, a + row, lda, b + first, ldb, k);
        else
            block_product(n, sum, &one, 0, b + first, ldb, k);
    }
}

/* A choice that devices make by what they are; here it is all the same. */
void vkl_cpu_gemm_direct(const VklOp *op, void *const ptr[4], uint64_t begin, uint64_t end)
{
    vkl_cpu_gemm(op, ptr, begin, end);
}

/* Items are rows of C. Strips of columns are the outer loop: the strip of B then stays in the cache for all rows. */
void vkl_cpu_gemm(const VklOp *op, void *const ptr[4], uint64_t begin, uint64_t end)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    const float *a = (const float *)ptr[0] + args->off0;
    const float *b = (const float *)ptr[1] + args->off1;
    float *c = (float *)ptr[2] + args->off2;
    const float *bias = (const float *)ptr[3] + args->off3;
    size_t columns = args->n, ldc = args->ldc;

    for (size_t first = 0; first < columns; first += VKL_CPU_STRIP) {
        size_t n = columns - first < VKL_CPU_STRIP ? columns - first : VKL_CPU_STRIP;
        float bias_sum[VKL_CPU_STRIP] = {0};
        for (size_t r = 0; r < args->bias_rows; r++)
            for (size_t i = 0; i < n; i++)
                bias_sum[i] += bias[r * columns + first + i];

        for (size_t row = begin; row < end; row++) {
            float sum[VKL_CPU_STRIP];
            float *out = c + row * ldc + first;
            row_product(op, a, b, row, first, n, sum);
            if (args->accumulate)
                for (size_t i = 0; i < n; i++)
                    sum[i] += out[i];
            for (size_t i = 0; i < n; i++)
                sum[i] += bias_sum[i];
            if (args->activation != VKL_ACTIVATION_NONE)
                for (size_t i = 0; i < n; i++)
                    sum[i] = activate(args->activation, sum[i]);
            for (size_t i = 0; i < n; i++)
                out[i] = sum[i];
        }
    }
}

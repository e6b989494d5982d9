/* SPDX-License-Identifier: MIT */
#include "activations.h"
#include "kernels.h"
#include "product.h"

#define COLUMNS 256 /* of C that are done at a time, at most */

/* The sums of one row of C, columns `first` to `first + n`. */
static void row_product(const VklOp *op, const float *a, const float *second, const float *b, size_t row, size_t first, size_t n,
                        float *sum)
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
            sum[c] = 0.0f;
        dot_products(n, sum, a + row * lda, b + first * ldb, ldb, k);
        break;
    default:
        if (row < args->m_first)
            block_product(n, sum, a + row, lda, b + first, ldb, k);
        else if (row < args->m - args->ones)
            block_product(n, sum, second + (row - args->m_first), args->lda_second, b + first, ldb, k);
        else
            block_product(n, sum, &one, 0, b + first, ldb, k);
    }
}

/* How many columns are done at a time: as many as leave what is read of B in the first level of the cache, whole strips. */
static size_t columns_at_once(const struct VklGemmArgs *args)
{
    size_t fitting = 8192 / (args->k ? args->k : 1) / VKL_CPU_STRIP * VKL_CPU_STRIP;
    return fitting < VKL_CPU_STRIP ? VKL_CPU_STRIP : fitting < COLUMNS ? fitting : COLUMNS;
}

/* Items are rows of C. Columns are the outer loop, so that their part of B is read once for all rows. */
void VKL_CPU(gemm)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    const float *a = (const float *)ptr[0] + args->off0;
    const float *b = (const float *)ptr[1] + args->off1;
    float *c = (float *)ptr[2] + args->off2;
    const float *bias = (const float *)ptr[3] + args->off3; /* or the second A */
    size_t columns = args->n, ldc = args->ldc, step = columns_at_once(args);

    for (size_t first = 0; first < columns; first += step) {
        size_t n = columns - first < step ? columns - first : step;
        float bias_sum[COLUMNS];
        for (size_t i = 0; args->bias_rows && i < n; i++) {
            bias_sum[i] = 0.0f;
            for (size_t r = 0; r < args->bias_rows; r++)
                bias_sum[i] += bias[r * columns + first + i];
        }

        for (size_t row = begin; row < end; row++) {
            float sum[COLUMNS];
            float *out = c + row * ldc + first;
            if (args->accumulate) {
                row_product(op, a, bias, b, row, first, n, sum);
                for (size_t i = 0; i < n; i++)
                    out[i] += sum[i];
            } else {
                row_product(op, a, bias, b, row, first, n, out);
            }
            if (args->bias_rows)
                for (size_t i = 0; i < n; i++)
                    out[i] += bias_sum[i];
            if (args->activation != VKL_ACTIVATION_NONE)
                for (size_t i = 0; i < n; i++)
                    out[i] = activate(args->activation, out[i]);
        }
    }
}

/* SPDX-License-Identifier: MIT */
#include "vector_product.h"

void VKL_CPU(items)(const VklOp *op, uint64_t *count, uint64_t *cost)
{
    uint64_t rows, columns, k;
    switch (op->kernel) {
    case VKL_KERNEL_GEMM:
    case VKL_KERNEL_GEMM_DIRECT:
    case VKL_KERNEL_GEMM_LANES:
        rows = op->args.GEMM.m;
        columns = op->args.GEMM.n;
        k = op->args.GEMM.k;
        break;
    default:
        *count = op->work;
        *cost = op->work_cost;
        return;
    }
    uint64_t row_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS, column_blocks = (columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    *count = row_blocks * column_blocks;
    *cost = (rows < BLOCK_ROWS ? rows : BLOCK_ROWS) * (columns < BLOCK_COLUMNS ? columns : BLOCK_COLUMNS) * k;
}

void VKL_CPU(gemm)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    const float *last = (const float *)ptr[3] + args->off3; /* bias or second A */
    Product p = {
        .k = args->k,
        .a = (const float *)ptr[0] + args->off0,
        .lda = args->lda,
        .a_columns = op->spec[VKL_SPEC_FORM] == VKL_GEMM_TN,
        .first = args->m_first,
        .plain = args->m - args->ones,
        .second = last,
        .lda_second = args->lda_second,
        .b = (const float *)ptr[1] + args->off1,
        .ldb = args->ldb,
        .b_rows = op->spec[VKL_SPEC_FORM] == VKL_GEMM_NT,
        .c = (float *)ptr[2] + args->off2,
        .ldc = args->ldc,
        .bias = last,
        .bias_rows = args->bias_rows,
        .bias_ld = args->n,
        .activation = args->activation,
    };
    size_t index;
    if (args->accumulate) {
        p.base = p.c;
        p.base_ld = p.ldc;
    }
    float *scratch = scratch_take(ptr[VKL_CPU_SCRATCH], &index);
    product_items(&p, args->m, args->n, begin, end, scratch);
    scratch_give(ptr[VKL_CPU_SCRATCH], index);
}

void VKL_CPU(gemm_direct)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    VKL_CPU(gemm)(op, ptr, begin, end);
}

void VKL_CPU(gemm_lanes)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    VKL_CPU(gemm)(op, ptr, begin, end);
}

/* SPDX-License-Identifier: MIT
 *
 * Matrix products: cut into what a binding and a dispatch can reach, in the shape that tune.c chooses. */
#include "internal.h"
#include "plan_build.h"

typedef struct Tile {
    uint64_t m0, m, n0, n, k0, k;
} Tile;

/* What rows t->m0 to t->m0 + t->m of C take from the pieces of A^T. */
typedef struct Pieces {
    uint64_t first, second, second_at;
} Pieces;

static uint64_t first_rows(const VklGemm *gemm)
{
    return gemm->m_first ? gemm->m_first : gemm->m - gemm->ones;
}

static Pieces pieces_of(const VklGemm *gemm, const Tile *t)
{
    uint64_t first = first_rows(gemm), plain = gemm->m - gemm->ones, end = smaller(t->m0 + t->m, plain);
    uint64_t second_begin = larger(t->m0, first);
    Pieces pieces = {.first = t->m0 < first ? smaller(t->m, first - t->m0) : 0};
    if (end > second_begin) {
        pieces.second = end - second_begin;
        pieces.second_at = second_begin - first;
    }
    return pieces;
}

static void gemm_tile(VklPlan *plan, const VklGemm *gemm, const Tile *t)
{
    VklOp *op = vkl_plan_op(plan, plan->caps->arch == VKL_ARCH_SOFTWARE ? VKL_KERNEL_GEMM_DIRECT : VKL_KERNEL_GEMM);
    if (!op)
        return;
    bool first = t->k0 == 0, last = t->k0 + t->k == gemm->k;
    bool accumulate = gemm->accumulate || !first;
    Pieces pieces = {0};

    if (gemm->form == VKL_GEMM_TN) {
        pieces = pieces_of(gemm, t);
        if (pieces.first)
            vkl_plan_bind(plan, op, 0, vkl_array_at(gemm->a, t->k0 * gemm->lda + t->m0), span(t->k, gemm->lda, pieces.first),
                          VKL_READ);
        if (pieces.second)
            vkl_plan_bind(plan, op, 3, vkl_array_at(gemm->a_second, t->k0 * gemm->lda_second + pieces.second_at),
                          span(t->k, gemm->lda_second, pieces.second), VKL_READ);
    } else {
        vkl_plan_bind(plan, op, 0, vkl_array_at(gemm->a, t->m0 * gemm->lda + t->k0), span(t->m, gemm->lda, t->k), VKL_READ);
    }
    if (gemm->form == VKL_GEMM_NT)
        vkl_plan_bind(plan, op, 1, vkl_array_at(gemm->b, t->n0 * gemm->ldb + t->k0), span(t->n, gemm->ldb, t->k), VKL_READ);
    else
        vkl_plan_bind(plan, op, 1, vkl_array_at(gemm->b, t->k0 * gemm->ldb + t->n0), span(t->k, gemm->ldb, t->n), VKL_READ);
    vkl_plan_bind(plan, op, 2, vkl_array_at(gemm->c, t->m0 * gemm->ldc + t->n0), span(t->m, gemm->ldc, t->n),
                  accumulate ? VKL_READ_WRITE : VKL_WRITE);
    uint32_t bias_rows = first ? gemm->bias_rows : 0;
    if (bias_rows)
        vkl_plan_bind(plan, op, 3, vkl_array_at(gemm->bias, t->n0), span(bias_rows, gemm->n, t->n), VKL_READ);

    struct VklGemmArgs *args = &op->args.GEMM;
    args->m = (uint32_t)t->m;
    args->n = (uint32_t)t->n;
    args->k = (uint32_t)t->k;
    args->lda = (uint32_t)gemm->lda;
    args->ldb = (uint32_t)gemm->ldb;
    args->ldc = (uint32_t)gemm->ldc;
    args->accumulate = accumulate;
    args->bias_rows = bias_rows;
    args->m_first = (uint32_t)pieces.first;
    args->ones = (uint32_t)(gemm->form == VKL_GEMM_TN ? t->m - pieces.first - pieces.second : 0);
    args->lda_second = (uint32_t)gemm->lda_second;
    args->activation = last ? (uint32_t)gemm->activation : VKL_ACTIVATION_NONE;
    op->spec[VKL_SPEC_FORM] = gemm->form;
    if (plan->caps->arch == VKL_ARCH_SOFTWARE) {
        vkl_plan_linear(plan, op, blocks(t->m, VKL_GEMM_DIRECT_BLOCK) * blocks(t->n, VKL_GEMM_DIRECT_BLOCK));
    } else {
        op->spec[VKL_SPEC_WORKGROUP] = 64;
        op->groups[0] = (uint32_t)blocks(t->n, VKL_GEMM_TILE);
        op->groups[1] = (uint32_t)blocks(t->m, VKL_GEMM_TILE);
        op->groups[2] = 1;
    }
    op->work = t->m;
    op->work_cost = t->n * t->k;
    vkl_plan_end(plan, op);
}

void vkl_plan_gemm(VklPlan *plan, const VklGemm *gemm)
{
    if (plan->status)
        return;
    uint64_t window = vkl_plan_window(plan);
    Tile step;
    step.n = smaller(gemm->n, (uint64_t)plan->caps->workgroups[0] * VKL_GEMM_TILE);
    step.k = smaller(gemm->k, VKL_GEMM_MAX_K);
    step.m = smaller(gemm->m, (uint64_t)plan->caps->workgroups[1] * VKL_GEMM_TILE);
    if (gemm->form == VKL_GEMM_NT)
        step.n = smaller(step.n, rows_in(window, gemm->ldb, step.k));
    else
        step.k = smaller(step.k, rows_in(window, gemm->ldb, step.n));
    if (gemm->form == VKL_GEMM_TN) {
        if (first_rows(gemm))
            step.k = smaller(step.k, rows_in(window, gemm->lda, first_rows(gemm)));
        if (gemm->m_first)
            step.k = smaller(step.k, rows_in(window, gemm->lda_second, gemm->m - gemm->ones - gemm->m_first));
    } else {
        step.m = smaller(step.m, rows_in(window, gemm->lda, step.k));
    }
    step.m = smaller(step.m, rows_in(window, gemm->ldc, step.n));
    if (step.m < gemm->m && step.m > VKL_GEMM_TILE)
        step.m -= step.m % VKL_GEMM_TILE;
    if (gemm->bias_rows && gemm->m_first) /* one binding serves both */
        vkl_plan_fail(plan, VKL_ERROR_INVALID, "a product with a second left operand has no bias");
    if (gemm->bias_rows && step.n < gemm->n) /* the kernel takes its bias rows n apart */
        vkl_plan_fail(plan, VKL_ERROR_LIMIT, "%llu columns with a bias are more than one dispatch of the device can reach",
                      (unsigned long long)gemm->n);

    for (uint64_t m0 = 0; m0 < gemm->m; m0 += step.m)
        for (uint64_t n0 = 0; n0 < gemm->n; n0 += step.n)
            for (uint64_t k0 = 0; k0 < gemm->k; k0 += step.k)
                gemm_tile(plan, gemm,
                          &(Tile){.m0 = m0,
                                  .m = smaller(step.m, gemm->m - m0),
                                  .n0 = n0,
                                  .n = smaller(step.n, gemm->n - n0),
                                  .k0 = k0,
                                  .k = smaller(step.k, gemm->k - k0)});
}

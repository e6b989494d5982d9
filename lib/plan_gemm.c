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

static bool by_four(uint64_t number)
{
    return number % 4 == 0;
}

/* Whether an operand can be read by four: all that leads to its numbers, and how many lie side by side, are multiples of it. */
static bool wide_a(const VklGemm *gemm, const Tile *t, const Pieces *pieces)
{
    if (gemm->form != VKL_GEMM_TN)
        return by_four(gemm->a.at + t->m0 * gemm->lda + t->k0) && by_four(gemm->lda) && by_four(t->k);
    bool wide = by_four(pieces->first) && by_four(pieces->second);
    if (pieces->first)
        wide = wide && by_four(gemm->a.at + t->k0 * gemm->lda + t->m0) && by_four(gemm->lda);
    if (pieces->second)
        wide = wide && by_four(gemm->a_second.at + t->k0 * gemm->lda_second + pieces->second_at) && by_four(gemm->lda_second);
    return wide;
}

static bool wide_b(const VklGemm *gemm, const Tile *t)
{
    if (gemm->form == VKL_GEMM_NT)
        return by_four(gemm->b.at + t->n0 * gemm->ldb + t->k0) && by_four(gemm->ldb) && by_four(t->k);
    return by_four(gemm->b.at + t->k0 * gemm->ldb + t->n0) && by_four(gemm->ldb) && by_four(t->n);
}

static void settle_sequence(const VklOp *op, const VklArgs *args, uint32_t *variant)
{
    bool forward = op->kernel == VKL_KERNEL_SEQUENCE_DIRECT_FORWARD;
    bool gy = !forward && args->SEQUENCE_BACKWARD.gy_ld != VKL_ABSENT;
    if (!by_four(args->offset[0]))
        *variant &= ~(uint32_t)VKL_SEQUENCE_WIDE_GATES;
    if (!by_four(args->offset[forward ? 2 : 3]) || (gy && !by_four(args->offset[2])))
        *variant &= ~(uint32_t)VKL_SEQUENCE_WIDE_STATE;
}

VklKernel vkl_op_settle(const VklOp *op, const VklArgs *args, uint32_t spec[VKL_SPEC_COUNT])
{
    memcpy(spec, op->spec, sizeof(op->spec));
    if (op->kernel == VKL_KERNEL_SEQUENCE_DIRECT_FORWARD || op->kernel == VKL_KERNEL_SEQUENCE_DIRECT_BACKWARD)
        settle_sequence(op, args, &spec[VKL_SEQUENCE_DIRECT_SPEC_VARIANT]);
    if (op->kernel == VKL_KERNEL_ROWS)
        spec[VKL_SPEC_ROWS_WIDE] &= by_four(args->offset[0] | args->offset[1] | args->offset[2]);
    const struct VklGemmArgs *gemm = &args->GEMM;
    if (op->kernel == VKL_KERNEL_GEMM_QUAD_WIDE && !by_four(gemm->off0 | gemm->off2))
        return VKL_KERNEL_GEMM_QUAD;
    if (op->kernel != VKL_KERNEL_GEMM && op->kernel != VKL_KERNEL_GEMM_SPLIT && op->kernel != VKL_KERNEL_GEMM_LANES)
        return op->kernel;
    uint32_t *variant = &spec[VKL_GEMM_SPEC_VARIANT];
    bool second = *variant & VKL_GEMM_PIECES && gemm->m - gemm->ones > gemm->m_first;
    if (!by_four(gemm->off0) || (second && !by_four(gemm->off3)))
        *variant &= ~(uint32_t)VKL_GEMM_WIDE_A;
    if (!by_four(gemm->off1))
        *variant &= ~(uint32_t)VKL_GEMM_WIDE_B;
    if (!by_four(gemm->off2) || (gemm->bias_rows && !by_four(gemm->off3)))
        *variant &= ~(uint32_t)VKL_GEMM_WIDE_C;
    return op->kernel;
}

/* What a kernel may take for granted of a part of C, but for edges. */
static uint32_t variant_of(const VklGemm *gemm, const VklOp *op, const Tile *t, const Pieces *pieces)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    bool wide_c = by_four(args->off2) && by_four(args->ldc) && by_four(t->n) && (!args->bias_rows || by_four(args->off3));
    return (wide_a(gemm, t, pieces) ? VKL_GEMM_WIDE_A : 0) | (wide_b(gemm, t) ? VKL_GEMM_WIDE_B : 0) |
           (wide_c ? VKL_GEMM_WIDE_C : 0) | (gemm->form == VKL_GEMM_TN && pieces->first < t->m ? VKL_GEMM_PIECES : 0);
}

static void direct_shape(VklPlan *plan, VklOp *op, const VklGemm *gemm, const Tile *t, const Pieces *pieces,
                         const VklDirectShape *shape)
{
    if (shape->kernel == VKL_KERNEL_GEMM_DIRECT) { /* one invocation for each block of C */
        uint64_t across = blocks(t->n, VKL_GEMM_DIRECT_BLOCK);
        vkl_plan_linear(plan, op, blocks(t->m, VKL_GEMM_DIRECT_BLOCK) * across);
        vkl_plan_counted(plan, op, VKL_TALLY_LINEAR, t->m0, t->m, VKL_GEMM_DIRECT_BLOCK, across, plan->caps->workgroup);
        return;
    }
    struct VklGemmArgs *args = &op->args.GEMM;
    uint32_t rows = shape->spec[VKL_GEMM_SPEC_ROWS], columns = shape->spec[VKL_GEMM_SPEC_COLUMNS], form = op->spec[VKL_SPEC_FORM];
    if (shape->kernel != VKL_KERNEL_GEMM_LANES)
        rows = vkl_plan_group_rows(plan, t->m, rows);
    bool edge = t->m % rows || t->n % columns || t->k % 4;
    op->groups[0] = (uint32_t)blocks(t->n, columns);
    op->groups[1] = (uint32_t)blocks(t->m, rows);
    op->groups[2] = 1;
    uint32_t variant = variant_of(gemm, op, t, pieces), wide = VKL_GEMM_WIDE_A | VKL_GEMM_WIDE_C;
    if (shape->kernel != VKL_KERNEL_GEMM_LANES) { /* one pipeline for all sizes */
        op->spec[VKL_SPEC_WORKGROUP] = shape->spec[VKL_SPEC_WORKGROUP];
        if (shape->kernel == VKL_KERNEL_GEMM_QUAD && (variant & wide) == wide)
            op->kernel = VKL_KERNEL_GEMM_QUAD_WIDE;
        args->slice_k = (uint32_t)blocks(t->m, op->groups[1]); /* divided evenly */
        vkl_plan_counted(plan, op, VKL_TALLY_Y, t->m0, t->m, args->slice_k, 1, 1);
        return;
    }
    memcpy(op->spec, shape->spec, sizeof(op->spec));
    op->spec[VKL_SPEC_FORM] = form;
    op->spec[VKL_GEMM_SPEC_VARIANT] = variant | (edge ? VKL_GEMM_EDGE : 0);
    if (args->accumulate)
        op->spec[VKL_GEMM_SPEC_VARIANT] |= VKL_GEMM_ACCUMULATE;
    op->spec[VKL_GEMM_SPEC_ACTIVATION] = args->activation;
    vkl_plan_counted(plan, op, VKL_TALLY_Y, t->m0, t->m, rows, 1, 1);
}

static void tiled_shape(VklPlan *plan, VklOp *op, const VklGemm *gemm, const Tile *t, const Pieces *pieces,
                        const VklGemmShape *shape)
{
    struct VklGemmArgs *args = &op->args.GEMM;
    uint32_t rows = shape->spec[VKL_GEMM_SPEC_ROWS], columns = shape->spec[VKL_GEMM_SPEC_COLUMNS];
    /* the smallest is for what has edges nearly always: one pipeline for all */
    bool edge = rows == VKL_GEMM_TILE_LEAST || t->m % rows || t->n % columns || t->k % shape->spec[VKL_GEMM_SPEC_DEPTH];
    uint32_t form = op->spec[VKL_SPEC_FORM];
    memcpy(op->spec, shape->spec, sizeof(op->spec));
    op->spec[VKL_SPEC_FORM] = form;
    op->spec[VKL_GEMM_SPEC_VARIANT] = variant_of(gemm, op, t, pieces) | (edge ? VKL_GEMM_EDGE : 0);
    args->slice_k = (uint32_t)shape->slice_k;
    args->slice_c = shape->slices > 1 ? (uint32_t)(t->m * t->n) : 0;
    op->groups[0] = (uint32_t)blocks(t->n, columns);
    op->groups[1] = (uint32_t)blocks(t->m, rows);
    op->groups[2] = (uint32_t)shape->slices;
    vkl_plan_counted(plan, op, VKL_TALLY_Y, t->m0, t->m, rows, 1, 1);
}

static void coop_shape(VklPlan *plan, VklOp *op, const Tile *t, const VklGemmShape *shape)
{
    struct VklGemmArgs *args = &op->args.GEMM_COOP;
    uint32_t form = op->spec[VKL_SPEC_FORM];
    memcpy(op->spec, shape->spec, sizeof(op->spec));
    op->spec[VKL_SPEC_FORM] = form;
    args->slice_k = (uint32_t)shape->slice_k;
    args->slice_c = shape->slices > 1 ? (uint32_t)(t->m * t->n) : 0;
    op->groups[0] = (uint32_t)blocks(t->n, VKL_GEMM_COOP_TILE);
    op->groups[1] = (uint32_t)blocks(t->m, VKL_GEMM_COOP_TILE);
    op->groups[2] = (uint32_t)shape->slices;
    vkl_plan_counted(plan, op, VKL_TALLY_Y, t->m0, t->m, VKL_GEMM_COOP_TILE, 1, 1);
}

static void reduce(VklPlan *plan, const VklGemm *gemm, const Tile *t, uint64_t slices, bool first, bool last)
{
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_GEMM_REDUCE);
    if (!op)
        return;
    bool accumulate = gemm->accumulate || !first;
    uint32_t bias_rows = first ? gemm->bias_rows : 0;
    vkl_plan_bind(plan, op, 0, gemm->scratch, slices * t->m * t->n, VKL_READ);
    vkl_plan_bind(plan, op, 1, vkl_array_at(gemm->c, t->m0 * gemm->ldc + t->n0), span(t->m, gemm->ldc, t->n),
                  accumulate ? VKL_READ_WRITE : VKL_WRITE);
    if (bias_rows)
        vkl_plan_bind(plan, op, 2, vkl_array_at(gemm->bias, t->n0), span(bias_rows, gemm->n, t->n), VKL_READ);
    struct VklGemmReduceArgs *args = &op->args.GEMM_REDUCE;
    args->m = (uint32_t)t->m;
    args->n = (uint32_t)t->n;
    args->ldc = (uint32_t)gemm->ldc;
    args->slices = (uint32_t)slices;
    args->slice_c = (uint32_t)(t->m * t->n);
    args->accumulate = accumulate;
    args->bias_rows = bias_rows;
    args->activation = last ? (uint32_t)gemm->activation : VKL_ACTIVATION_NONE;
    vkl_plan_linear(plan, op, t->m * t->n);
    vkl_plan_counted(plan, op, VKL_TALLY_LINEAR, t->m0, t->m, 1, t->n, plan->caps->workgroup);
    op->work = t->m * t->n;
    op->work_cost = slices;
    vkl_plan_end(plan, op);
}

static void gemm_tile(VklPlan *plan, const VklGemm *gemm, const Tile *t, uint64_t scratch)
{
    Pieces pieces = {0};
    if (gemm->form == VKL_GEMM_TN)
        pieces = pieces_of(gemm, t);
    bool direct = plan->caps->arch == VKL_ARCH_SOFTWARE;
    VklGemmShape shape = {.slices = 1, .slice_k = t->k};
    VklDirectShape block = {.kernel = VKL_KERNEL_GEMM_DIRECT};
    bool coop = plan->halves && vkl_tune_gemm_coop(plan->caps, t->m, t->n, t->k, scratch, &shape);
    if (direct)
        block = vkl_tune_direct(plan->caps, gemm->form, t->m, t->n);
    else if (!coop)
        shape = vkl_tune_gemm(plan->caps, t->m, t->n, t->k, scratch, wide_a(gemm, t, &pieces) && wide_b(gemm, t));
    bool split = shape.slices > 1;
    VklOp *op = vkl_plan_op(plan, direct  ? block.kernel
                                  : coop  ? VKL_KERNEL_GEMM_COOP
                                  : split ? VKL_KERNEL_GEMM_SPLIT
                                          : VKL_KERNEL_GEMM);
    if (!op)
        return;
    bool first = t->k0 == 0, last = t->k0 + t->k == gemm->k;
    bool accumulate = !split && (gemm->accumulate || !first);

    if (gemm->form == VKL_GEMM_TN) {
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
    if (split)
        vkl_plan_bind(plan, op, 2, gemm->scratch, shape.slices * t->m * t->n, VKL_WRITE);
    else
        vkl_plan_bind(plan, op, 2, vkl_array_at(gemm->c, t->m0 * gemm->ldc + t->n0), span(t->m, gemm->ldc, t->n),
                      accumulate ? VKL_READ_WRITE : VKL_WRITE);
    uint32_t bias_rows = first && !split ? gemm->bias_rows : 0;
    if (bias_rows)
        vkl_plan_bind(plan, op, 3, vkl_array_at(gemm->bias, t->n0), span(bias_rows, gemm->n, t->n), VKL_READ);

    struct VklGemmArgs *args = &op->args.GEMM;
    args->m = (uint32_t)t->m;
    args->n = (uint32_t)t->n;
    args->k = (uint32_t)t->k;
    args->lda = (uint32_t)gemm->lda;
    args->ldb = (uint32_t)gemm->ldb;
    args->ldc = (uint32_t)(split ? t->n : gemm->ldc);
    args->accumulate = accumulate;
    args->bias_rows = bias_rows;
    args->m_first = (uint32_t)pieces.first;
    args->ones = (uint32_t)(gemm->form == VKL_GEMM_TN ? t->m - pieces.first - pieces.second : 0);
    args->lda_second = (uint32_t)gemm->lda_second;
    args->activation = last && !split ? (uint32_t)gemm->activation : VKL_ACTIVATION_NONE;
    op->spec[VKL_SPEC_FORM] = gemm->form;
    if (direct)
        direct_shape(plan, op, gemm, t, &pieces, &block);
    else if (coop)
        coop_shape(plan, op, t, &shape);
    else
        tiled_shape(plan, op, gemm, t, &pieces, &shape);
    op->work = t->m;
    op->work_cost = t->n * t->k;
    vkl_plan_end(plan, op);
    if (split)
        reduce(plan, gemm, t, shape.slices, first, last);
}

void vkl_plan_gemm(VklPlan *plan, const VklGemm *gemm)
{
    if (plan->status || !gemm->m || !gemm->n || !gemm->k)
        return;
    uint64_t window = vkl_plan_window(plan);
    /* of the smallest tile: no shape needs more workgroups */
    bool lanes = plan->caps->arch == VKL_ARCH_SOFTWARE && plan->caps->lanes;
    uint64_t tile = lanes ? plan->caps->lanes : VKL_GEMM_TILE_LEAST, across = lanes ? 4 * tile : tile;
    if (vkl_tune_quad(plan->caps)) { /* or, beyond what their grid reaches, blocks in a row */
        tile = 8;
        across = VKL_GEMM_TILE_LEAST;
    }
    uint64_t scratch = plan->caps->arch == VKL_ARCH_GPU ? smaller(gemm->scratch_count, window) : 0;
    Tile step;
    step.n = smaller(gemm->n, (uint64_t)plan->caps->workgroups[0] * across);
    step.m = smaller(gemm->m, (uint64_t)plan->caps->workgroups[1] * tile);
    uint64_t slices = larger(smaller(scratch / (step.m * step.n), plan->caps->workgroups[2]), 1);
    step.k = smaller(gemm->k, VKL_GEMM_MAX_K * slices);
    if (lanes)
        step.k = smaller(step.k, vkl_tune_direct_terms(plan->caps, gemm->form, gemm->k));
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
    if (step.m < gemm->m && step.m > tile)
        step.m -= step.m % tile;
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
                                  .k = smaller(step.k, gemm->k - k0)},
                          scratch);
}

/* SPDX-License-Identifier: MIT
 *
 * The kernels that move numbers: MOVE, DROPOUT, JOIN, SPREAD and COLUMN_DOT, each alone, against shaders/interface.h in plain loops. A
 * call runs twice on the device of the environment, and once on the CPU backend with several threads, which must agree: bit for bit where
 * there is no sum of products. Arrays lie between NaN that must stay; what lies in the gaps between rows must stay too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "init.h"
#include "internal.h"
#include "philox.h"
#include "placed.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define ABSENT VKL_ABSENT

/* ---- A call on both backends ---- */

typedef struct Lab {
    VklContext *context, *cpu_context;
    VklDevice *device, *cpu;
    uint32_t workgroups; /* of a dispatch on x; 0: the device's own */
} Lab;

static Lab lab_open(void)
{
    Lab lab = {.context = test_context()};
    lab.device = test_device(lab.context);
    VklContextDesc desc = vkl_context_desc();
    desc.threads = 3;
    cr_assert_eq(vkl_context_create(&desc, &lab.cpu_context), VKL_OK);
    lab.cpu = test_device_cpu(lab.cpu_context);
    return lab;
}

static void lab_close(Lab *lab)
{
    vkl_device_destroy(lab->device);
    vkl_context_destroy(lab->context);
    vkl_device_destroy(lab->cpu);
    vkl_context_destroy(lab->cpu_context);
}

/* What a binding sees; a binding with the same `data` as the first one sees the same array. */
typedef struct Use {
    float *data;
    size_t count; /* 0: not bound */
    int access;
} Use;

typedef struct Call {
    VklKernel kernel;
    uint32_t form;
    uint64_t invocations, work;
    VklArgs args;
    Use uses[4];
    double tolerance; /* between backends; 0: the same bits, but those of a NaN */
} Call;

/* Runs the call on copies; result[i] is the copy of what binding i wrote, else NULL. */
static void run_on(const Lab *lab, VklDevice *device, const Call *call, float *result[4])
{
    static const VklSlot slots[4] = {VKL_SLOT_Y, VKL_SLOT_X, VKL_SLOT_H0, VKL_SLOT_C0};
    VklContext *context = vkl_device_context(device);
    VklOperand operands[4] = {{.array = {.slot = VKL_SLOT_NONE}}};
    VklSlice slices[VKL_SLOT_COUNT] = {{0}};
    Placed placed[4] = {{0}};
    for (int i = 0; i < 4; i++) {
        const Use *use = &call->uses[i];
        bool again = i && use->data == call->uses[0].data;
        if (!use->count)
            continue;
        if (!again) {
            placed[i] = placed_make(device, use->data, use->count, false);
            slices[slots[i]] = placed[i].slice;
        }
        operands[i] = (VklOperand){vkl_array(again ? slots[0] : slots[i], 0), use->count, use->access};
    }
    VklCaps caps = device->caps;
    caps.workgroups[0] = lab->workgroups ? lab->workgroups : caps.workgroups[0];
    VklPlan plan;
    VklStream *stream = NULL;
    vkl_plan_init(&plan, &caps);
    /* a cost at which each item is a part of its own, for any thread */
    vkl_plan_call(&plan, call->kernel, call->form, call->invocations, operands, &call->args, call->work, 1 << 20);
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_exec_record_once(device, stream, &plan, slices, "test", NULL));
    TEST_OK(context, vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
    for (int i = 0; i < 4; i++) {
        result[i] = NULL;
        if (!placed[i].buffer)
            continue;
        float *now = placed_take(device, &placed[i], vkl_kernel_info[call->kernel].name);
        if (call->uses[i].access & VKL_WRITE) {
            result[i] = now;
        } else {
            cr_assert(!memcmp(now, call->uses[i].data, call->uses[i].count * sizeof(float)), "%s wrote binding %d",
                      vkl_kernel_info[call->kernel].name, i);
            free(now);
        }
        vkl_buffer_destroy(placed[i].buffer);
    }
}

static bool same(float a, float b)
{
    return !memcmp(&a, &b, sizeof(a)) || (isnan(a) && isnan(b));
}

static void check_same(const char *what, const float *got, const float *want, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cr_assert(same(got[i], want[i]), "%s: [%zu] of %zu is %.9g and not %.9g", what, i, count, (double)got[i],
                  (double)want[i]);
}

/* Runs the call everywhere, compares, and leaves the device's results in the arrays of the call. */
static void run(const Lab *lab, const Call *call)
{
    const char *name = vkl_kernel_info[call->kernel].name;
    float *first[4], *second[4], *cpu[4];
    run_on(lab, lab->device, call, first);
    run_on(lab, lab->device, call, second);
    run_on(lab, lab->cpu, call, cpu);
    for (int i = 0; i < 4; i++) {
        const Use *use = &call->uses[i];
        if (!first[i])
            continue;
        cr_assert(!memcmp(first[i], second[i], use->count * sizeof(float)), "%s: other bits in the second run", name);
        if (call->tolerance > 0)
            test_compare_f(name, first[i], cpu[i], use->count, call->tolerance);
        else
            check_same(name, first[i], cpu[i], use->count);
        memcpy(use->data, first[i], use->count * sizeof(float));
        free(first[i]);
        free(second[i]);
        free(cpu[i]);
    }
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float *randoms(size_t count, uint32_t seed)
{
    float *made = allocate(count ? count : 1, sizeof(float));
    test_random(made, count, seed, 2);
    return made;
}

static float *copy_of(const float *from, size_t count)
{
    float *made = allocate(count, sizeof(float));
    memcpy(made, from, count * sizeof(float));
    return made;
}

/* NaN with bits of their own, infinities, a negative 0; with `tiny` also a number below the smallest normal one, which devices may
 * turn into 0 where they compute, though not where they copy. */
static void sprinkle(float *x, size_t count, bool tiny)
{
    const uint32_t bits[] = {0x7fc54321, 0x7f800000, 0xff800000, 0x80000000, 0x00000123};
    for (size_t i = 0; i < (tiny ? 5 : 4); i++)
        if (count > 3 * i + 2)
            x[(3 * i + 2) * 7 % count] = from_bits(bits[i]);
}

/* ---- MOVE ---- */

static size_t reach(const struct VklMoveArgs *m, bool src)
{
    return (size_t)(m->steps - 1) * (src ? m->src_step : m->dst_step) + (size_t)(m->rows - 1) * (src ? m->src_row : m->dst_row) +
           m->columns;
}

static void move_want(const struct VklMoveArgs *m, float *dst, const float *src, const uint32_t *lengths)
{
    for (size_t i = 0; i < m->steps; i++)
        for (size_t j = 0; j < m->rows; j++)
            for (size_t k = 0; k < m->columns; k++) {
                float *to = &dst[i * m->dst_step + j * m->dst_row + k];
                const float *from = &src[i * m->src_step + j * m->src_row + k];
                bool frozen = m->guard && m->first_step + i >= lengths[m->first_row + j];
                if (m->guard == VKL_MOVE_FROZEN && !frozen)
                    continue;
                if (m->guard == VKL_MOVE_LIVE && frozen) {
                    if (m->mode == VKL_MOVE_COPY)
                        *to = m->value;
                } else if (m->mode == VKL_MOVE_ADD) {
                    *to += *from;
                } else {
                    memcpy(to, from, sizeof(*to));
                }
            }
}

static const struct VklMoveArgs move_cases[] = {
    {.steps = 1, .rows = 1, .columns = 1, .dst_step = 1, .dst_row = 1, .src_step = 1, .src_row = 1},
    {.steps = 3, .rows = 5, .columns = 7, .dst_step = 35, .dst_row = 7, .src_step = 35, .src_row = 7},
    /* gaps between rows and steps on both sides */
    {.steps = 4, .rows = 3, .columns = 17, .dst_step = 61, .dst_row = 19, .src_step = 100, .src_row = 33},
    /* [T][N] to [N][T] and back */
    {.steps = 6, .rows = 5, .columns = 3, .dst_step = 3, .dst_row = 18, .src_step = 15, .src_row = 3},
    {.steps = 6, .rows = 5, .columns = 3, .dst_step = 15, .dst_row = 3, .src_step = 3, .src_row = 18},
    /* repeated steps, rows, both; one row alone */
    {.steps = 5, .rows = 4, .columns = 65, .dst_step = 4 * 65, .dst_row = 65, .src_step = 0, .src_row = 65},
    {.steps = 5, .rows = 4, .columns = 9, .dst_step = 40, .dst_row = 10, .src_step = 9, .src_row = 0},
    {.steps = 3, .rows = 257, .columns = 1, .dst_step = 257, .dst_row = 1, .src_step = 0, .src_row = 0},
    {.steps = 1, .rows = 1, .columns = 1000, .dst_step = 7, .dst_row = 7, .src_step = 0, .src_row = 0},
    {.steps = 33, .rows = 31, .columns = 13, .dst_step = 31 * 14, .dst_row = 14, .src_step = 31 * 13, .src_row = 13},
    /* rows with lengths: those of [first_row], steps from first_step on */
    {.steps = 7, .rows = 9, .columns = 5, .dst_step = 54, .dst_row = 6, .src_step = 45, .src_row = 5, .value = -3.5f},
    {.steps = 7,
     .rows = 3,
     .columns = 4,
     .dst_step = 4,
     .dst_row = 30,
     .src_step = 12,
     .src_row = 4,
     .first_step = 2,
     .first_row = 5},
    {.steps = 1, .rows = 12, .columns = 3, .dst_step = 0, .dst_row = 4, .src_step = 0, .src_row = 3, .first_step = 6, .value = 1},
    {.steps = 4, .rows = 11, .columns = 33, .dst_step = 400, .dst_row = 34, .src_step = 0, .src_row = 33, .first_row = 1},
};

Test(moves, move_copies_or_adds_with_any_strides_and_guards)
{
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(move_cases) * 12; n++) {
        struct VklMoveArgs move = move_cases[n / 12];
        move.guard = (uint32_t)(n % 3);
        move.mode = (uint32_t)(n / 3 % 2);
        lab.workgroups = n / 6 % 2 ? 2 : 0; /* then the rest lies on y */
        size_t dst_count = reach(&move, false), src_count = reach(&move, true), rows = move.first_row + move.rows;
        uint64_t elements = (uint64_t)move.steps * move.rows * move.columns;
        float *dst = randoms(dst_count, 1), *src = randoms(src_count, 2), *lengths = allocate(rows, sizeof(float));
        for (size_t row = 0; row < rows; row++) /* from 0 to beyond the last step */
            lengths[row] = from_bits((uint32_t)(row * 5 % (move.first_step + move.steps + 3)));
        bool exact = move.mode == VKL_MOVE_COPY;
        sprinkle(src, src_count, exact);
        if (exact)
            move.value = n % 2 ? from_bits(0x7fc00001) : move.value;
        sprinkle(dst + dst_count / 2, dst_count / 2, false);
        float *want = copy_of(dst, dst_count);
        move_want(&move, want, src, (const uint32_t *)(const void *)lengths);
        Call call = {.kernel = VKL_KERNEL_MOVE,
                     .invocations = elements,
                     .work = (uint64_t)move.steps * move.rows,
                     .args = {.MOVE = move},
                     .uses = {{dst, dst_count, exact && !move.guard ? VKL_WRITE : VKL_READ_WRITE},
                              {src, src_count, VKL_READ},
                              {lengths, move.guard ? rows : 0, VKL_READ}}};
        run(&lab, &call);
        char what[64];
        snprintf(what, sizeof(what), "case %zu, mode %u, guard %u", n / 12, move.mode, move.guard);
        check_same(what, dst, want, dst_count);
        if (exact)
            cr_assert(!memcmp(dst, want, dst_count * sizeof(float)), "%s: other bits", what);
        free(dst);
        free(src);
        free(lengths);
        free(want);
    }
    lab_close(&lab);
}

/* ---- DROPOUT ---- */

Test(moves, philox_has_the_published_bits)
{
    /* known answers of Random123, the authors' own code */
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases); n++) {
        uint32_t block[4];
        memcpy(block, cases[n].counter, sizeof(block));
        vkl_philox(block, cases[n].key[0], cases[n].key[1]);
        cr_assert(!memcmp(block, cases[n].want, sizeof(block)), "case %zu: %08x %08x %08x %08x", n, block[0], block[1], block[2],
                  block[3]);
        VklRandom random = vkl_random((uint64_t)cases[n].key[1] << 32 | cases[n].key[0],
                                      (uint64_t)cases[n].counter[3] << 32 | cases[n].counter[2]);
        random.next = ((uint64_t)cases[n].counter[1] << 32 | cases[n].counter[0]) * 4;
        for (int w = 0; w < 4 && cases[n].counter[1] < 1u << 30; w++)
            cr_assert_eq(vkl_random_u32(&random), block[w]);

        /* The kernel keeps a word at a threshold that equals it, and drops it at the next: that pins its bits. Columns count words, so
         * the counter's first number is at most 2^30 - 1 there. */
        for (int w = 0; w < 8 && cases[n].counter[0] < 1u << 30; w++) {
            float dst = 7, src = 5;
            Call call = {.kernel = VKL_KERNEL_DROPOUT,
                         .invocations = 1,
                         .work = 1,
                         .args = {.DROPOUT = {.steps = 1,
                                              .rows = 1,
                                              .columns = 1,
                                              .first_column = cases[n].counter[0] * 4 + (uint32_t)w % 4,
                                              .first_row = cases[n].counter[1],
                                              .first_step = cases[n].counter[2],
                                              .stream = cases[n].counter[3],
                                              .seed0 = cases[n].key[0],
                                              .seed1 = cases[n].key[1],
                                              .offset_at = ABSENT,
                                              .threshold = cases[n].want[w % 4] + (uint32_t)w / 4,
                                              .scale = 2}},
                         .uses = {{&dst, 1, VKL_WRITE}, {&src, 1, VKL_READ}}};
            run(&lab, &call);
            cr_assert_eq(dst, w < 4 ? 10.0f : 0.0f, "case %zu, word %d", n, w);
        }
    }
    lab_close(&lab);
}

static bool kept_at(const struct VklDropoutArgs *d, uint32_t offset, size_t step, size_t row, size_t column)
{
    uint32_t k = d->first_column + (uint32_t)column;
    uint32_t block[4] = {k / 4, d->first_row + (uint32_t)row, d->first_step + (uint32_t)step * d->step_stride, d->stream};
    vkl_philox(block, d->seed0, d->seed1 ^ offset);
    return !d->all && block[k % 4] >= d->threshold;
}

static size_t dropout_reach(const struct VklDropoutArgs *d, bool src)
{
    struct VklMoveArgs move = {.steps = d->steps,
                               .rows = d->rows,
                               .columns = d->columns,
                               .dst_step = d->dst_step,
                               .dst_row = d->dst_row,
                               .src_step = d->src_step,
                               .src_row = d->src_row};
    return reach(&move, src);
}

static void dropout_want(const struct VklDropoutArgs *d, uint32_t offset, float *dst, const float *src)
{
    for (size_t i = 0; i < d->steps; i++)
        for (size_t j = 0; j < d->rows; j++)
            for (size_t k = 0; k < d->columns; k++) {
                float *to = &dst[i * d->dst_step + j * d->dst_row + k];
                float x = src[i * d->src_step + j * d->src_row + k];
                volatile float scaled = x * d->scale; /* volatile: no compiler fuses the sum below */
                if (!kept_at(d, offset, i, j, k))
                    *to = d->mode == VKL_MOVE_ADD ? *to : 0.0f;
                else
                    *to = d->mode == VKL_MOVE_ADD ? *to + scaled : scaled;
            }
}

/* dst and src may be one array. */
static Call dropout_call(const struct VklDropoutArgs *d, float *dst, const float *src, float *state, size_t state_count)
{
    return (Call){.kernel = VKL_KERNEL_DROPOUT,
                  .invocations = (uint64_t)d->steps * d->rows * ((d->first_column % 4 + d->columns + 3) / 4),
                  .work = (uint64_t)d->steps * d->rows,
                  .args = {.DROPOUT = *d},
                  .uses = {{dst, dropout_reach(d, false), d->mode == VKL_MOVE_ADD || dst == src ? VKL_READ_WRITE : VKL_WRITE},
                           {(float *)(uintptr_t)src, dropout_reach(d, true), VKL_READ},
                           {state, state_count, VKL_READ}}};
}

static const struct VklDropoutArgs dropout_cases[] = {
    {.steps = 1, .rows = 1, .columns = 1, .dst_step = 1, .dst_row = 1, .src_step = 1, .src_row = 1},
    {.steps = 5, .rows = 3, .columns = 7, .dst_step = 21, .dst_row = 7, .src_step = 21, .src_row = 7, .step_stride = 1},
    {.steps = 4, .rows = 3, .columns = 17, .dst_step = 61, .dst_row = 19, .src_step = 100, .src_row = 33, .step_stride = 1},
    {.steps = 4,
     .rows = 33,
     .columns = 2,
     .dst_step = 66,
     .dst_row = 2,
     .src_step = 66,
     .src_row = 2,
     .first_column = 3,
     .stream = 9},
    {.steps = 3, .rows = 2, .columns = 65, .dst_step = 130, .dst_row = 65, .src_step = 0, .src_row = 65, .first_column = 6},
    {.steps = 6,
     .rows = 5,
     .columns = 3,
     .dst_step = 3,
     .dst_row = 18,
     .src_step = 15,
     .src_row = 3,
     .step_stride = 3,
     .first_step = 4},
    {.steps = 1, .rows = 4, .columns = 257, .dst_row = 258, .src_row = 257, .first_row = 1000000, .first_column = 1, .seed1 = 77},
    {.steps = 1, .rows = 300, .columns = 5, .dst_row = 5, .src_row = 0, .first_row = 4294967290u, .first_column = 4294967000u},
};

Test(moves, dropout_draws_the_mask_of_the_position)
{
    static const double p[] = {0.5, 0.1, 0.999, 1.0 / 3};
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(dropout_cases) * 8; n++) {
        struct VklDropoutArgs d = dropout_cases[n / 8];
        d.mode = (uint32_t)(n / 4 % 2);
        d.threshold = (uint32_t)(p[n % 4] * 4294967296.0 + 0.5);
        d.scale = (float)(1 / (1 - p[n % 4]));
        d.seed0 = 0x12345678u + (uint32_t)n;
        d.offset = (uint32_t)n * 3;
        d.offset_at = n % 2 ? 2 : ABSENT;
        lab.workgroups = n % 3 ? 2 : 0;
        size_t dst_count = dropout_reach(&d, false), src_count = dropout_reach(&d, true);
        float *dst = randoms(dst_count, 3), *src = randoms(src_count, 4);
        float state[4] = {1, 2, from_bits(4294967295u - (uint32_t)n), 4};
        sprinkle(src, src_count, false);
        float *want = copy_of(dst, dst_count);
        dropout_want(&d, d.offset + (n % 2 ? 4294967295u - (uint32_t)n : 0), want, src);
        Call call = dropout_call(&d, dst, src, state, n % 2 ? LENGTH(state) : 0);
        run(&lab, &call);
        char what[64];
        snprintf(what, sizeof(what), "dropout, case %zu, p %g, mode %u", n / 8, p[n % 4], d.mode);
        check_same(what, dst, want, dst_count);
        free(dst);
        free(src);
        free(want);
    }
    lab_close(&lab);
}

Test(moves, dropout_is_exact_at_both_ends)
{
    struct VklDropoutArgs d = {
        .steps = 3, .rows = 5, .columns = 11, .dst_step = 60, .dst_row = 12, .src_step = 55, .src_row = 11};
    d.step_stride = 1;
    d.offset_at = ABSENT;
    Lab lab = lab_open();
    for (int all = 0; all < 2; all++) {
        size_t dst_count = dropout_reach(&d, false), src_count = dropout_reach(&d, true);
        float *dst = randoms(dst_count, 5), *src = randoms(src_count, 6);
        sprinkle(src, src_count, true);
        float *want = copy_of(dst, dst_count);
        for (size_t line = 0; line < 15; line++)
            for (size_t k = 0; k < d.columns; k++) {
                const float zero = 0, *from = all ? &zero : &src[line * 11 + k];
                memcpy(&want[line / 5 * 60 + line % 5 * 12 + k], from, sizeof(zero));
            }
        d.all = (uint32_t)all;
        d.threshold = 0;
        d.scale = all ? INFINITY : 1; /* 1 / (1 - p) */
        Call call = dropout_call(&d, dst, src, NULL, 0);
        run(&lab, &call);
        cr_assert(!memcmp(dst, want, dst_count * sizeof(float)), "%s", all ? "p = 1 is not all zeros" : "p = 0 changed bits");
        free(dst);
        free(src);
        free(want);
    }
    lab_close(&lab);
}

Test(moves, dropout_of_a_split_job_has_the_same_bits)
{
    enum { T = 6, N = 9, C = 21 };
    struct VklDropoutArgs whole = {
        .steps = T, .rows = N, .columns = C, .dst_step = N * C, .dst_row = C, .src_step = N * C, .src_row = C};
    whole.step_stride = 1;
    whole.offset_at = ABSENT;
    whole.seed0 = 99;
    whole.threshold = 0x60000000;
    whole.scale = 1.6f;
    Lab lab = lab_open();
    float *src = randoms(T * N * C, 7), *at_once = randoms(T * N * C, 8), *part = allocate(T * N * C, sizeof(float));
    Call call = dropout_call(&whole, at_once, src, NULL, 0);
    run(&lab, &call);
    for (uint32_t axis = 0; axis < 3; axis++) /* by steps, rows, columns */
        for (uint32_t cut = 1; cut <= 5; cut += 2) {
            for (uint32_t half = 0; half < 2; half++) {
                struct VklDropoutArgs d = whole;
                uint32_t *size[3] = {&d.steps, &d.rows, &d.columns}, *first[3] = {&d.first_step, &d.first_row, &d.first_column};
                const size_t stride[3] = {N * C, C, 1};
                *size[axis] = half ? *size[axis] - cut : cut;
                *first[axis] = half ? cut : 0;
                size_t at = half * cut * stride[axis];
                call = dropout_call(&d, part + at, src + at, NULL, 0);
                call.uses[0].access = VKL_READ_WRITE; /* the other part stays */
                run(&lab, &call);
            }
            check_same("in two parts", part, at_once, T * N * C);
            memset(part, 0, T * N * C * sizeof(float));
        }
    /* in place, and with an offset that comes from the state */
    memcpy(part, src, T * N * C * sizeof(float));
    call = dropout_call(&whole, part, part, NULL, 0);
    run(&lab, &call);
    check_same("in place", part, at_once, T * N * C);
    float state[2] = {from_bits(4), from_bits(5)};
    whole.offset = 9;
    call = dropout_call(&whole, at_once, src, NULL, 0);
    run(&lab, &call);
    whole.offset = 4;
    whole.offset_at = 1;
    call = dropout_call(&whole, part, src, state, 2);
    run(&lab, &call);
    check_same("offset of the state", part, at_once, T * N * C);
    state[1] = from_bits(6);
    call = dropout_call(&whole, part, src, state, 2);
    run(&lab, &call);
    size_t other = 0;
    for (size_t i = 0; i < T * N * C; i++)
        other += !same(part[i], at_once[i]);
    cr_assert_gt(other, T * N * C / 4, "the offset moved on, and the mask did not");
    free(src);
    free(at_once);
    free(part);
    lab_close(&lab);
}

/* How many are kept, and how many together with their neighbour in each direction, in the next offset and the next stream: within 5
 * standard deviations of what independent draws give. */
Test(moves, dropout_keeps_as_many_as_it_should)
{
    enum { T = 12, N = 40, C = 100, COUNT = T * N * C };
    static const double p[] = {0.02, 0.5, 0.9};
    Lab lab = lab_open();
    float *ones = allocate(COUNT, sizeof(float)), *mask[3];
    for (size_t i = 0; i < COUNT; i++)
        ones[i] = 1;
    for (size_t n = 0; n < LENGTH(p); n++) {
        double keep = 1 - p[n];
        for (uint32_t m = 0; m < 3; m++) {
            struct VklDropoutArgs d = {
                .steps = T, .rows = N, .columns = C, .dst_step = N * C, .dst_row = C, .src_step = N * C, .src_row = C};
            d.step_stride = 1;
            d.seed0 = 2026;
            d.offset = m == 1;
            d.offset_at = ABSENT;
            d.stream = m == 2;
            d.threshold = (uint32_t)(p[n] * 4294967296.0 + 0.5);
            d.scale = 1;
            mask[m] = allocate(COUNT, sizeof(float));
            Call call = dropout_call(&d, mask[m], ones, NULL, 0);
            run(&lab, &call);
            double kept = 0;
            for (size_t i = 0; i < COUNT; i++)
                kept += mask[m][i];
            cr_assert_lt(fabs(kept - COUNT * keep), 5 * sqrt(COUNT * keep * p[n]), "p %g: %g of %d are kept", p[n], kept, COUNT);
        }
        const struct {
            const float *other;
            size_t apart;
        } neighbours[] = {{mask[0], 1}, {mask[0], C}, {mask[0], N * C}, {mask[1], 0}, {mask[2], 0}};
        for (size_t k = 0; k < LENGTH(neighbours); k++) {
            size_t pairs = COUNT - neighbours[k].apart;
            double both = 0, q = keep * keep;
            for (size_t i = 0; i < pairs; i++)
                both += mask[0][i] * neighbours[k].other[i + neighbours[k].apart];
            /* each draw is in two pairs, so neighbouring pairs are not independent */
            double deviation = sqrt((double)pairs * (q * (1 - q) + 2 * q * keep * (1 - keep)));
            cr_assert_lt(fabs(both - (double)pairs * q), 5 * deviation, "p %g, neighbour %zu: %g of %zu pairs", p[n], k, both,
                         pairs);
        }
        for (int m = 0; m < 3; m++)
            free(mask[m]);
    }
    free(ones);
    lab_close(&lab);
}

/* ---- JOIN ---- */

Test(moves, join_gives_live_rows_the_gradient_and_lets_frozen_rows_carry_it)
{
    static const struct {
        uint32_t rows, units, gy_gap, rec_gap;
        bool gy, rec, carry, lengths;
        uint32_t t;
    } cases[] = {
        {.rows = 1, .units = 1, .gy = true, .rec = true, .carry = true},
        {.rows = 3, .units = 7, .gy = true, .carry = true, .gy_gap = 4},
        {.rows = 5, .units = 33, .rec = true, .carry = true, .rec_gap = 3},
        {.rows = 5, .units = 33, .carry = true, .lengths = true, .t = 2},
        {.rows = 9, .units = 65, .gy = true, .rec = true, .carry = true, .gy_gap = 65, .rec_gap = 1, .lengths = true, .t = 4},
        {.rows = 9, .units = 3, .gy = true, .rec = true, .carry = true, .lengths = true, .t = 0},
        {.rows = 9, .units = 3, .gy = true, .rec = true, .carry = true, .lengths = true, .t = 100},
        {.rows = 4, .units = 5, .gy = true, .rec = true, .lengths = true, .t = 1},
        {.rows = 4, .units = 5},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases) * 2; n++) {
        uint32_t rows = cases[n / 2].rows, units = cases[n / 2].units, t = cases[n / 2].t;
        uint32_t gy_ld = units + cases[n / 2].gy_gap, rec_ld = units + cases[n / 2].rec_gap;
        uint32_t rec_at = 2, carry_at = rec_at + rows * rec_ld + 3, lengths_at = carry_at + rows * units + 1;
        size_t count = (size_t)rows * units, side_count = lengths_at + rows + 1, gy_count = (size_t)(rows - 1) * gy_ld + units;
        float *dh = randoms(count, 9), *side = randoms(side_count, 10), *gy = randoms(gy_count, 11);
        if (n % 2) {
            sprinkle(side + rec_at, lengths_at - rec_at, false);
            sprinkle(gy, gy_count, false);
        }
        for (uint32_t row = 0; row < rows; row++)
            side[lengths_at + row] = from_bits(row * 5 % 7);
        float *want_dh = copy_of(dh, count), *want_side = copy_of(side, side_count);
        for (size_t row = 0; row < rows; row++)
            for (size_t u = 0; u < units; u++) {
                bool frozen = cases[n / 2].lengths && t >= row * 5 % 7;
                float v = cases[n / 2].gy ? gy[row * gy_ld + u] : 0;
                v += cases[n / 2].rec ? side[rec_at + row * rec_ld + u] : 0;
                v += cases[n / 2].carry ? side[carry_at + row * units + u] : 0;
                want_dh[row * units + u] = frozen ? 0 : v;
                if (cases[n / 2].carry)
                    want_side[carry_at + row * units + u] = frozen ? v : 0;
            }
        Call call = {
            .kernel = VKL_KERNEL_JOIN,
            .invocations = count,
            .work = rows,
            .args = {.JOIN = {.rows = rows,
                              .units = units,
                              .gy_ld = cases[n / 2].gy ? gy_ld : ABSENT,
                              .rec = cases[n / 2].rec ? rec_at : ABSENT,
                              .rec_ld = rec_ld,
                              .carry = cases[n / 2].carry ? carry_at : ABSENT,
                              .lengths = cases[n / 2].lengths ? lengths_at : ABSENT,
                              .t = t}},
            .uses = {{dh, count, VKL_WRITE}, {side, side_count, VKL_READ_WRITE}, {gy, cases[n / 2].gy ? gy_count : 0, VKL_READ}}};
        run(&lab, &call);
        char what[64];
        snprintf(what, sizeof(what), "join, case %zu", n / 2);
        check_same(what, dh, want_dh, count); /* two additions in a given order: no other result is right */
        check_same(what, side, want_side, side_count);
        free(dh);
        free(side);
        free(gy);
        free(want_dh);
        free(want_side);
    }
    lab_close(&lab);
}

/* ---- SPREAD ---- */

Test(moves, spread_adds_x_to_every_gate_and_gathers_its_gradient)
{
    static const struct VklSpreadArgs cases[] = {
        {.rows = 1, .units = 1, .gates = 1, .gates_ld = 1, .gate_stride = 1, .unit_stride = 1, .x_ld = 1, .bias_rows = 2},
        /* gates side by side, as of LSTM */
        {.rows = 5, .units = 17, .gates = 4, .gates_ld = 68, .gate_stride = 1, .unit_stride = 4, .x_ld = 17, .bias_rows = 2},
        {.rows = 3, .units = 65, .gates = 4, .gates_ld = 300, .gate_stride = 1, .unit_stride = 4, .x_ld = 70, .bias_rows = 0},
        /* in blocks; as of GRU, whose fourth gate is left alone */
        {.rows = 7, .units = 33, .gates = 3, .gates_ld = 4 * 33, .gate_stride = 33, .unit_stride = 1, .x_ld = 33, .bias_rows = 1},
        {.rows = 33, .units = 3, .gates = 3, .gates_ld = 9, .gate_stride = 3, .unit_stride = 1, .x_ld = 5, .bias_rows = 2},
        {.rows = 2, .units = 257, .gates = 1, .gates_ld = 257, .gate_stride = 257, .unit_stride = 1, .x_ld = 257, .bias_rows = 1},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases) * 4; n++) {
        struct VklSpreadArgs s = cases[n / 4];
        uint32_t form = (uint32_t)(n % 2);
        size_t gates_count = (size_t)s.rows * s.gates_ld, x_count = (size_t)s.rows * s.x_ld;
        size_t packed = (size_t)s.gates * s.units, bias_count = s.bias_rows * packed;
        float *gates = randoms(gates_count, 12), *x = randoms(x_count, 13), *bias = randoms(bias_count, 14);
        if (n / 2 % 2) {
            sprinkle(form ? gates : x, form ? gates_count : x_count, false);
            sprinkle(bias, bias_count, false);
        }
        double *want = allocate(form ? x_count : gates_count, sizeof(double));
        for (size_t i = 0; i < (form ? x_count : gates_count); i++)
            want[i] = form ? x[i] : gates[i];
        for (size_t row = 0; row < s.rows; row++)
            for (size_t u = 0; u < s.units; u++) {
                double sum = 0;
                for (size_t g = 0; g < s.gates; g++) {
                    size_t at = u * s.unit_stride + g * s.gate_stride;
                    double value = x[row * s.x_ld + u];
                    for (size_t r = 0; r < s.bias_rows; r++)
                        value += bias[r * packed + at];
                    if (!form)
                        want[row * s.gates_ld + at] = value;
                    sum += gates[row * s.gates_ld + at];
                }
                if (form)
                    want[row * s.x_ld + u] = sum;
            }
        Call call = {.kernel = VKL_KERNEL_SPREAD,
                     .form = form,
                     .invocations = (uint64_t)s.rows * s.units,
                     .work = s.rows,
                     .args = {.SPREAD = s},
                     .uses = {{gates, gates_count, form ? VKL_READ : VKL_READ_WRITE},
                              {x, x_count, form ? VKL_READ_WRITE : VKL_READ},
                              {bias, form ? 0 : bias_count, VKL_READ}}};
        run(&lab, &call);
        char what[64];
        snprintf(what, sizeof(what), "spread, case %zu, form %u", n / 4, form);
        /* three additions, each half a unit in the last place: 3 * 6e-8 */
        test_compare(what, form ? x : gates, want, form ? x_count : gates_count, 2e-7);
        free(gates);
        free(x);
        free(bias);
        free(want);
    }
    lab_close(&lab);
}

/* ---- COLUMN_DOT ---- */

Test(moves, column_dot_sums_products_over_rows)
{
    static const struct VklColumnDotArgs cases[] = {
        {.rows = 1, .units = 1, .a_ld = 1, .a_stride = 1, .b_ld = 1},
        {.rows = 3, .units = 257, .a_ld = 260, .a_stride = 1, .b_ld = 257},
        {.rows = 17, .units = 33, .a_ld = 4 * 33, .a_stride = 4, .b_ld = 40},
        {.rows = 257, .units = 7, .a_ld = 30, .a_stride = 4, .b_ld = 7},
        {.rows = 4096, .units = 3, .a_ld = 3, .a_stride = 1, .b_ld = 5},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases) * 4; n++) {
        struct VklColumnDotArgs d = cases[n / 4];
        d.accumulate = (uint32_t)(n % 2);
        size_t a_count = (size_t)(d.rows - 1) * d.a_ld + (d.units - 1) * d.a_stride + 1;
        size_t b_count = (size_t)(d.rows - 1) * d.b_ld + d.units;
        float *out = randoms(d.units, 15), *a = randoms(a_count, 16), *b = randoms(b_count, 17);
        if (n / 2 % 2) {
            a[(d.rows - 1) * d.a_ld] = NAN;
            b[d.rows / 2 * d.b_ld + d.units - 1] = INFINITY;
        }
        double *want = allocate(d.units, sizeof(double));
        for (size_t u = 0; u < d.units; u++) {
            want[u] = d.accumulate ? out[u] : 0;
            for (size_t row = 0; row < d.rows; row++)
                want[u] += (double)a[row * d.a_ld + u * d.a_stride] * b[row * d.b_ld + u];
        }
        /* half a unit in the last place for each of `rows` additions, which grow as a random walk; three of those for luck */
        double tolerance = 1e-6 + 2e-7 * sqrt(d.rows);
        Call call = {
            .kernel = VKL_KERNEL_COLUMN_DOT,
            .invocations = d.units,
            .work = d.units,
            .args = {.COLUMN_DOT = d},
            .tolerance = tolerance,
            .uses = {{out, d.units, d.accumulate ? VKL_READ_WRITE : VKL_WRITE}, {a, a_count, VKL_READ}, {b, b_count, VKL_READ}}};
        run(&lab, &call);
        char what[64];
        snprintf(what, sizeof(what), "column_dot, case %zu", n / 4);
        test_compare(what, out, want, d.units, tolerance);
        free(out);
        free(a);
        free(b);
        free(want);
    }
    lab_close(&lab);
}

/* ---- ROWS ---- */

Test(moves, rows_are_loaded_and_stored_where_a_guard_says)
{
    static const struct VklRowsArgs cases[] = {
        {.rows = 1, .columns0 = 1},
        {.rows = 5, .columns0 = 17, .columns1 = 3, .at1 = 90, .first = 2},
        {.rows = 33, .columns0 = 8, .columns1 = 12, .at0 = 400, .first = 7},
        {.rows = 65, .columns0 = 64, .at0 = 4},
        {.rows = 17, .columns0 = 5, .columns1 = 65, .at1 = 88},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases) * 8; n++) {
        struct VklRowsArgs rows = cases[n / 8];
        uint32_t form = n % 2;
        rows.guarded = n / 2 % 2;
        lab.workgroups = n / 4 % 2 ? 2 : 0;
        size_t columns[2] = {rows.columns0, rows.columns1}, at[2] = {rows.at0, rows.at1}, counts[2], arena_count = 600 + 65 * 128;
        float *arena = randoms(arena_count, 3), *other[2], *guard = allocate(rows.first + rows.rows, sizeof(float));
        for (int i = 0; i < 2; i++) {
            counts[i] = rows.rows * columns[i];
            other[i] = randoms(counts[i] ? counts[i] : 1, 4 + (uint32_t)i);
            sprinkle(other[i], counts[i], true);
        }
        for (size_t row = 0; row < rows.first + rows.rows; row++)
            guard[row] = from_bits(row % 3 ? 0 : (uint32_t)row + 1);
        if (form == VKL_ROWS_STORE)
            guard[0] = from_bits(rows.first + rows.rows / 2);
        float *want_arena = copy_of(arena, arena_count), *want[2];
        for (int i = 0; i < 2; i++) {
            want[i] = copy_of(other[i], counts[i] ? counts[i] : 1);
            for (size_t row = 0; row < rows.rows && columns[i]; row++) {
                uint32_t bits;
                memcpy(&bits, &guard[form == VKL_ROWS_STORE ? 0 : rows.first + row], sizeof(bits));
                float *in = want_arena + at[i] + row * columns[i], *out = want[i] + row * columns[i];
                if (form == VKL_ROWS_STORE && (!rows.guarded || rows.first + row < bits))
                    memcpy(out, in, columns[i] * sizeof(float));
                if (form == VKL_ROWS_LOAD && rows.guarded && bits)
                    memset(in, 0, columns[i] * sizeof(float));
                else if (form == VKL_ROWS_LOAD)
                    memcpy(in, out, columns[i] * sizeof(float));
            }
        }
        uint64_t fours = (columns[0] + 3) / 4 + (columns[1] + 3) / 4;
        int access = form == VKL_ROWS_LOAD ? VKL_READ : VKL_READ_WRITE;
        Call call = {.kernel = VKL_KERNEL_ROWS,
                     .form = form,
                     .invocations = rows.rows * fours,
                     .work = rows.rows,
                     .args = {.ROWS = rows},
                     .uses = {{arena, arena_count, form == VKL_ROWS_LOAD ? VKL_READ_WRITE : VKL_READ},
                              {other[0], counts[0], access},
                              {other[1], counts[1], access},
                              {guard, rows.guarded ? rows.first + rows.rows : 0, VKL_READ}}};
        run(&lab, &call);
        cr_assert(!memcmp(arena, want_arena, arena_count * sizeof(float)), "case %zu, form %u: arena", n / 8, form);
        for (int i = 0; i < 2; i++) {
            cr_assert(!memcmp(other[i], want[i], counts[i] * sizeof(float)), "case %zu, form %u: array %d", n / 8, form, i);
            free(other[i]);
            free(want[i]);
        }
        free(arena);
        free(want_arena);
        free(guard);
    }
    lab_close(&lab);
}

/* ---- TALLY ---- */

Test(moves, tally_counts_workgroups_for_the_rows_that_there_are)
{
    static const struct VklTallyArgs tally = {
        .entry = {{.rows = 100, .block = 1, .items = 17, .group = 64, .other = 9, .way = VKL_TALLY_LINEAR | 1 << 2},
                  {.first = 30, .rows = 50, .block = 16, .items = 1, .group = 1, .other = 3, .way = VKL_TALLY_Y | 2 << 2},
                  {.first = 30, .rows = 50, .block = 4, .items = 5, .group = 3, .other = 7, .way = VKL_TALLY_X | 1 << 2}}};
    static const struct {
        uint32_t count, want[3][4];
    } cases[] = {
        {0, {{0, 0, 1, 0}, {3, 0, 2, 0}, {0, 7, 1, 0}}},
        {1, {{1, 1, 1, 1}, {3, 0, 2, 0}, {0, 7, 1, 0}}},
        {31, {{9, 1, 1, 31}, {3, 1, 2, 1}, {2, 7, 1, 1}}},
        {47, {{9, 2, 1, 47}, {3, 2, 2, 17}, {9, 7, 1, 17}}},
        {UINT32_MAX, {{9, 3, 1, 100}, {3, 4, 2, 50}, {22, 7, 1, 50}}},
    };
    Lab lab = lab_open();
    for (size_t n = 0; n < LENGTH(cases); n++) {
        float count = from_bits(cases[n].count), *got = randoms(12, 3);
        Call call = {.kernel = VKL_KERNEL_TALLY,
                     .invocations = 1,
                     .work = 1,
                     .args = {.TALLY = tally},
                     .uses = {{&count, 1, VKL_READ}, {got, 12, VKL_READ_WRITE}}};
        run(&lab, &call);
        cr_assert(!memcmp(got, cases[n].want, sizeof(cases[n].want)), "count %u", cases[n].count);
        free(got);
    }
    lab_close(&lab);
}

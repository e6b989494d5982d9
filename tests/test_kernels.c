/* SPDX-License-Identifier: MIT
 *
 * Every kernel alone, on the device of the environment, against the equations of shaders/interface.h in double precision. Sizes are
 * chosen to miss every tile, block and workgroup. Each case runs twice, and must give the same bits; the memory around each array
 * must stay as it was; and arrays begin at odd elements of odd slices, as the plan has to cope with.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

/* ---- A plan under test, and the slots that it works on ---- */

#define GUARD_BITS 0x7fc12345u /* a NaN: reading past an array shows as well as writing past it */
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct Slot {
    uint64_t count; /* 0: not used */
    float *initial, *result, *again;
    VklBuffer *buffer;
} Slot;

typedef struct Rig {
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
    VklCaps caps;
    VklPlan plan;
    bool aligned; /* arrays begin at multiples of 16 bytes, which lets kernels take four numbers at a time */
    size_t row;   /* of the table of products, for test_row() */
    Slot slots[VKL_SLOT_COUNT];
} Rig;

/* Elements of guard before and after an array. W_hh must keep its alignment; others must not need any. */
static uint64_t pad(const Rig *rig, VklSlot slot)
{
    return rig->aligned || slot == VKL_SLOT_PARAMS ? 8 : 7;
}

/* Bytes before the slice. */
static uint64_t slice_offset(const Rig *rig, VklSlot slot)
{
    bool packed = slot == VKL_SLOT_PARAMS || slot == VKL_SLOT_GRADS || slot == VKL_SLOT_RESERVE || slot == VKL_SLOT_WORKSPACE;
    return rig->aligned || packed ? 48 : 20;
}

static uint64_t slot_elements(const Rig *rig, VklSlot slot, uint64_t count)
{
    return slice_offset(rig, slot) / 4 + pad(rig, slot) + count + pad(rig, slot);
}

/* The array itself, in the elements of a slot. */
static float *array_of(const Rig *rig, VklSlot slot, float *elements)
{
    return elements + slice_offset(rig, slot) / 4 + pad(rig, slot);
}

static float *rig_initial(const Rig *rig, VklSlot slot)
{
    return array_of(rig, slot, rig->slots[slot].initial);
}

static void rig_begin_on(Rig *rig, VklContext *context, VklDevice *device)
{
    memset(rig, 0, sizeof(*rig));
    rig->context = context;
    rig->device = device;
    rig->caps = rig->device->caps;
    TEST_OK(context, vkl_stream_create(device, &rig->stream));
    vkl_plan_init(&rig->plan, &rig->caps);
}

static void rig_begin(Rig *rig)
{
    VklContext *context = test_context();
    rig_begin_on(rig, context, test_device(context));
}

/* Forgets the case, keeps the device. */
static void rig_clear(Rig *rig)
{
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++) {
        free(rig->slots[slot].initial);
        free(rig->slots[slot].result);
        free(rig->slots[slot].again);
        vkl_buffer_destroy(rig->slots[slot].buffer);
    }
    memset(rig->slots, 0, sizeof(rig->slots));
    vkl_plan_finish(&rig->plan);
    vkl_plan_init(&rig->plan, &rig->caps);
}

static void rig_end(Rig *rig)
{
    rig_clear(rig);
    vkl_stream_destroy(rig->stream);
    vkl_device_destroy(rig->device);
    vkl_context_destroy(rig->context);
}

/* Plans as for a device whose bindings see no more than `window` elements, and whose dispatches are `workgroups` wide. */
static void rig_narrow(Rig *rig, uint64_t window, uint32_t workgroups)
{
    rig->caps.storage_range = 2 * (uint64_t)rig->caps.storage_alignment + 4 * window;
    rig->caps.workgroups[0] = workgroups;
}

/* Gives a slot `count` elements of random numbers; returns them, to be changed at will before rig_run(). */
static float *rig_slot(Rig *rig, VklSlot id, uint64_t count, float scale)
{
    Slot *slot = &rig->slots[id];
    uint64_t elements = slot_elements(rig, id, count);
    slot->count = count;
    slot->initial = malloc(elements * sizeof(float));
    slot->result = malloc(elements * sizeof(float));
    slot->again = malloc(elements * sizeof(float));
    cr_assert(slot->initial && slot->result && slot->again);
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t bits = GUARD_BITS;
        memcpy(&slot->initial[i], &bits, sizeof(bits));
    }
    test_random(array_of(rig, id, slot->initial), count, 17u + (uint32_t)id, scale);
    TEST_OK(rig->context, vkl_buffer_create(rig->device, VKL_BUFFER_DEVICE, elements * sizeof(float), &slot->buffer));
    return array_of(rig, id, slot->initial);
}

static VklArray rig_array(const Rig *rig, VklSlot slot, uint64_t at)
{
    return vkl_array(slot, pad(rig, slot) + at);
}

static const float *rig_result(Rig *rig, VklSlot slot)
{
    return array_of(rig, slot, rig->slots[slot].result);
}

static void run_once(Rig *rig, VklExec *exec, int times, bool second)
{
    for (int id = 0; id < VKL_SLOT_COUNT; id++)
        if (rig->slots[id].buffer)
            TEST_OK(rig->context, vkl_stream_write(rig->stream, vkl_slice(rig->slots[id].buffer, 0), rig->slots[id].initial,
                                                   vkl_buffer_size(rig->slots[id].buffer)));
    for (int i = 0; i < times; i++)
        TEST_OK(rig->context, vkl_exec_record(exec, rig->stream));
    for (int id = 0; id < VKL_SLOT_COUNT; id++) {
        Slot *slot = &rig->slots[id];
        if (slot->buffer)
            TEST_OK(rig->context, vkl_stream_read(rig->stream, vkl_slice(slot->buffer, 0), second ? slot->again : slot->result,
                                                  vkl_buffer_size(slot->buffer)));
    }
    TEST_OK(rig->context, vkl_stream_wait(rig->stream));
}

/* Runs the plan `times` times in a row, twice from the same beginning. */
static void rig_run(Rig *rig, int times)
{
    VklSlice slices[VKL_SLOT_COUNT] = {{0}};
    bool written[VKL_SLOT_COUNT] = {0};
    VklExec *exec = NULL;
    for (int id = 0; id < VKL_SLOT_COUNT; id++)
        slices[id] = vkl_slice(rig->slots[id].buffer, rig->slots[id].buffer ? slice_offset(rig, (VklSlot)id) : 0);
    for (size_t i = 0; i < rig->plan.count; i++)
        for (int b = 0; b < rig->plan.ops[i].bindings; b++)
            if (rig->plan.ops[i].bind[b].access & VKL_WRITE)
                written[rig->plan.ops[i].bind[b].slot] = true;
    TEST_OK(rig->context, vkl_exec_create(rig->device, &rig->plan, slices, "test", NULL, &exec));
    run_once(rig, exec, times, false);
    run_once(rig, exec, times, true);
    vkl_exec_release(exec);

    for (int id = 0; id < VKL_SLOT_COUNT; id++) {
        Slot *slot = &rig->slots[id];
        if (!slot->buffer)
            continue;
        uint64_t elements = slot_elements(rig, (VklSlot)id, slot->count);
        uint64_t begin = elements - slot->count - pad(rig, (VklSlot)id), end = begin + slot->count;
        cr_assert(!memcmp(slot->result, slot->again, elements * sizeof(float)), "%s: other bits in the second run",
                  vkl_slot_name[id]);
        for (uint64_t i = 0; i < elements; i++) {
            bool mine = written[id] && i >= begin && i < end;
            cr_assert(mine || !memcmp(&slot->result[i], &slot->initial[i], sizeof(float)),
                      "%s: element %lld of %llu was changed; it is not the kernel's", vkl_slot_name[id],
                      (long long)i - (long long)begin, (unsigned long long)slot->count);
        }
    }
}

static double *doubles(uint64_t count)
{
    double *made = calloc(count ? count : 1, sizeof(double));
    cr_assert_not_null(made);
    return made;
}

/* The largest error of a sum of `terms` random terms, relative to the largest sum: half a unit in the last place (2^-24 = 6e-8) for
 * each addition, growing as a random walk; three of those for luck, and a few units for what is done to the sum afterwards. */
static double sum_tolerance(uint64_t terms)
{
    return 1e-6 + 2e-7 * sqrt((double)terms);
}

/* ---- Equations ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double activation_of(VklActivation activation, double x)
{
    switch (activation) {
    case VKL_ACTIVATION_TANH:
        return tanh(x);
    case VKL_ACTIVATION_SIGMOID:
        return sigmoid(x);
    case VKL_ACTIVATION_RELU:
        return x <= 0 ? 0 : x;
    default:
        return x;
    }
}

/* ---- GEMM ---- */

typedef struct GemmCase {
    uint32_t form;
    uint64_t m, n, k;
    bool accumulate;
    uint32_t bias_rows, ones;
    uint64_t second; /* TN: rows of C that take a second A */
    VklActivation activation;
    uint64_t gap; /* leading dimensions exceed rows by so much */
    VklSlot nan;  /* whose element 33 is NaN; PARAMS, which is not used here: none */
    uint64_t scratch;
    uint32_t vendor;        /* whose shapes are taken; 0: the device's */
    uint32_t rows, columns; /* the tile that must be taken by devices that can, as one that few invocations keep busy; 0: any */
} GemmCase;

static void gemm_slots(Rig *rig, const GemmCase *t, VklGemm *gemm)
{
    uint64_t a_rows = t->form == VKL_GEMM_TN ? t->k : t->m,
             a_columns = t->form == VKL_GEMM_TN ? t->m - t->ones - t->second : t->k;
    uint64_t b_rows = t->form == VKL_GEMM_NT ? t->n : t->k, b_columns = t->form == VKL_GEMM_NT ? t->k : t->n;
    *gemm = (VklGemm){
        .form = t->form,
        .m = t->m,
        .n = t->n,
        .k = t->k,
        .a = rig_array(rig, VKL_SLOT_X, 0),
        .b = rig_array(rig, VKL_SLOT_GY, 0),
        .c = rig_array(rig, VKL_SLOT_Y, 0),
        .lda = a_columns + t->gap,
        .ldb = b_columns + t->gap,
        .ldc = t->n + t->gap,
        .accumulate = t->accumulate,
        .bias = rig_array(rig, VKL_SLOT_H0, 0),
        .bias_rows = t->bias_rows,
        .ones = t->ones,
        .a_second = rig_array(rig, VKL_SLOT_C0, 0),
        .m_first = t->second ? a_columns : 0,
        .lda_second = t->second + t->gap,
        .activation = t->activation,
        .scratch = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
        .scratch_count = t->scratch,
    };
    if (t->scratch)
        rig_slot(rig, VKL_SLOT_WORKSPACE, t->scratch, 1);
    rig_slot(rig, VKL_SLOT_C0, t->k * gemm->lda_second + 1, 1);
    rig_slot(rig, VKL_SLOT_X, a_rows * gemm->lda + 1, 1);
    rig_slot(rig, VKL_SLOT_GY, b_rows * gemm->ldb, 1);
    rig_slot(rig, VKL_SLOT_Y, t->m * gemm->ldc, 1);
    rig_slot(rig, VKL_SLOT_H0, (t->bias_rows ? t->bias_rows : 1) * t->n, 1);
}

/* C as it must be, the gaps between its rows included. */
static double *gemm_want(Rig *rig, const VklGemm *g)
{
    const float *a = rig_initial(rig, VKL_SLOT_X);
    const float *b = rig_initial(rig, VKL_SLOT_GY);
    const float *c = rig_initial(rig, VKL_SLOT_Y);
    const float *bias = rig_initial(rig, VKL_SLOT_H0), *second = rig_initial(rig, VKL_SLOT_C0);
    uint64_t plain = g->m - g->ones, m_first = g->m_first ? g->m_first : plain;
    double *want = doubles(g->m * g->ldc);
    for (uint64_t i = 0; i < g->m * g->ldc; i++)
        want[i] = c[i];
    for (uint64_t i = 0; i < g->m; i++)
        for (uint64_t j = 0; j < g->n; j++) {
            double sum = g->accumulate ? c[i * g->ldc + j] : 0;
            for (uint32_t r = 0; r < g->bias_rows; r++)
                sum += bias[r * g->n + j];
            for (uint64_t k = 0; k < g->k; k++) {
                double x = g->form != VKL_GEMM_TN ? a[i * g->lda + k]
                           : i < m_first          ? a[k * g->lda + i]
                           : i < plain            ? second[k * g->lda_second + i - m_first]
                                                  : 1;
                sum += x * (g->form == VKL_GEMM_NT ? b[j * g->ldb + k] : b[k * g->ldb + j]);
            }
            want[i * g->ldc + j] = activation_of(g->activation, sum);
        }
    return want;
}

/* The plan takes the shape that the case is about. */
static void gemm_shape_check(const Rig *rig, const GemmCase *t)
{
    const VklOp *op = &rig->plan.ops[0];
    bool able = rig->caps.workgroup_invocations >= 256 && rig->caps.shared_memory >= 16640;
    if (t->rows && able) {
        cr_assert_eq(op->spec[VKL_GEMM_SPEC_ROWS], t->rows, "a tile of %u rows", op->spec[VKL_GEMM_SPEC_ROWS]);
        cr_assert_eq(op->spec[VKL_GEMM_SPEC_COLUMNS], t->columns, "a tile of %u columns", op->spec[VKL_GEMM_SPEC_COLUMNS]);
    }
    cr_assert_eq(op->kernel, t->scratch ? VKL_KERNEL_GEMM_SPLIT : VKL_KERNEL_GEMM);
}

/* On GEMM_DIRECT or GEMM, whichever the device would take, with aligned or with odd offsets. */
enum { GEMM_ON_GPU, GEMM_BY_LANES, GEMM_BY_BLOCKS, GEMM_WAYS }; /* by blocks: on devices that are CPUs and do not shuffle */

static void gemm_check_way(Rig *rig, const GemmCase *t, int direct, bool aligned, const char *what)
{
    if (!test_row(rig->row++))
        return;
    const VklCaps caps = rig->caps;
    VklGemm gemm;
    rig->caps.arch = direct ? VKL_ARCH_SOFTWARE : VKL_ARCH_GPU;
    if (direct == GEMM_BY_BLOCKS)
        rig->caps.lanes = 0;
    if (t->vendor)
        rig->caps.vendor = t->vendor;
    if (t->rows)
        rig->caps.parallel = 1;
    rig->aligned = aligned;
    gemm_slots(rig, t, &gemm);
    if (t->nan)
        rig_initial(rig, t->nan)[33] = NAN;
    vkl_plan_gemm(&rig->plan, &gemm);
    if (!direct)
        gemm_shape_check(rig, t);
    rig_run(rig, 1);
    double *want = gemm_want(rig, &gemm);
    char name[128];
    snprintf(name, sizeof(name), "%s: form %u, %llu x %llu x %llu, direct %d, aligned %d", what, t->form,
             (unsigned long long)t->m, (unsigned long long)t->n, (unsigned long long)t->k, direct, aligned);
    test_compare(name, rig_result(rig, VKL_SLOT_Y), want, t->m * gemm.ldc, sum_tolerance(t->k));
    free(want);
    rig_clear(rig);
    rig->caps = caps;
    rig->aligned = false;
}

static void gemm_check(Rig *rig, const GemmCase *t, const char *what)
{
    for (int way = 0; way < 2 * GEMM_WAYS; way++)
        gemm_check_way(rig, t, way % GEMM_WAYS, way >= GEMM_WAYS, what);
}

static const uint64_t gemm_sizes[][3] = {
    {1, 1, 1},    {1, 200, 1},  {1, 3, 17},   {3, 17, 65},  {17, 3, 257}, {65, 65, 17},  {257, 1, 3},
    {1, 257, 65}, {33, 31, 16}, {32, 32, 32}, {64, 96, 48}, {20, 36, 44}, {130, 67, 33},
};

Test(kernels, gemm_multiplies_in_every_form_at_sizes_that_miss_the_tiles)
{
    Rig rig;
    rig_begin(&rig);
    for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
        for (size_t s = 0; s < COUNT(gemm_sizes); s++)
            gemm_check(
                &rig,
                &(GemmCase){.form = form, .m = gemm_sizes[s][0], .n = gemm_sizes[s][1], .k = gemm_sizes[s][2], .gap = s % 3},
                "product");
    rig_end(&rig);
}

Test(kernels, gemm_adds_bias_rows_and_activates)
{
    Rig rig;
    rig_begin(&rig);
    for (uint32_t bias_rows = 0; bias_rows <= 2; bias_rows++)
        for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++)
            gemm_check(&rig,
                       &(GemmCase){.form = bias_rows % 2 ? VKL_GEMM_NT : VKL_GEMM_NN,
                                   .m = 5,
                                   .n = 35,
                                   .k = 7,
                                   .bias_rows = bias_rows,
                                   .activation = (VklActivation)activation},
                       "bias and activation");
    rig_end(&rig);
}

Test(kernels, gemm_accumulates_and_sums_columns)
{
    static const uint32_t ones[] = {0, 1, 2, 41};
    Rig rig;
    rig_begin(&rig);
    for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
        gemm_check(&rig, &(GemmCase){.form = form, .m = 33, .n = 9, .k = 21, .accumulate = true, .bias_rows = 1, .gap = 1},
                   "accumulate");
    for (size_t i = 0; i < COUNT(ones); i++)
        for (int accumulate = 0; accumulate <= 1; accumulate++)
            gemm_check(
                &rig,
                &(GemmCase){.form = VKL_GEMM_TN, .m = 41, .n = 37, .k = 19, .ones = ones[i], .accumulate = accumulate, .gap = 2},
                "ones");
    rig_end(&rig);
}

/* Whole tiles, and some that are not; k in steps, and not. */
Test(kernels, gemm_multiplies_in_every_tile)
{
    static const struct {
        uint32_t vendor, rows, columns;
        uint64_t sizes[2][3];
    } cases[] = {
        {VKL_VENDOR_QUALCOMM, 128, 128, {{256, 128, 32}, {250, 251, 35}}},
        {VKL_VENDOR_INTEL, 128, 64, {{128, 64, 48}, {126, 59, 36}}},
        {VKL_VENDOR_QUALCOMM, 64, 64, {{192, 64, 32}, {190, 188, 52}}},
        {VKL_VENDOR_AMD,
         32,
         32,
         {{96, 32, 32}, {92, 31, 40}}}, /* all terms of a step written out, which takes long with larger ones */
    };
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(cases); i++)
        for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
            for (int edge = 0; edge <= 1; edge++) {
                const uint64_t *size = cases[i].sizes[edge];
                gemm_check_way(&rig,
                               &(GemmCase){.form = form,
                                           .m = size[0],
                                           .n = size[1],
                                           .k = size[2],
                                           .ones = form == VKL_GEMM_TN ? 2 * edge : 0,
                                           .second = form == VKL_GEMM_TN && i % 2 ? 24 : 0,
                                           .bias_rows = form == VKL_GEMM_NT ? 2 : 0,
                                           .activation = form == VKL_GEMM_NN ? VKL_ACTIVATION_TANH : VKL_ACTIVATION_NONE,
                                           .vendor = cases[i].vendor,
                                           .rows = cases[i].rows,
                                           .columns = cases[i].columns},
                               false, !edge || (i + form) % 2, "tiles");
            }
    rig_end(&rig);
}

/* Few rows and columns, many terms: more than one dispatch could sum without scratch, too. */
Test(kernels, gemm_sums_in_slices_where_it_has_scratch)
{
    static const struct {
        uint64_t m, n, k, scratch;
    } cases[] = {
        {20, 24, 1000, 20 * 24 * 7}, {19, 23, 531, 19 * 23 * 3 + 5}, {33, 8, 9001, 33 * 8 * 3}, {70, 66, 300, 70 * 66 * 2}};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(cases); i++)
        for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
            for (int accumulate = 0; accumulate <= 1; accumulate++)
                gemm_check(&rig,
                           &(GemmCase){.form = form,
                                       .m = cases[i].m,
                                       .n = cases[i].n,
                                       .k = cases[i].k,
                                       .scratch = cases[i].scratch,
                                       .accumulate = accumulate,
                                       .bias_rows = form == VKL_GEMM_TN ? 0 : 2,
                                       .ones = form == VKL_GEMM_TN ? 2 : 0,
                                       .second = form == VKL_GEMM_TN ? 8 : 0,
                                       .activation = accumulate ? VKL_ACTIVATION_NONE : VKL_ACTIVATION_RELU,
                                       .gap = i % 2},
                           "slices");
    rig_end(&rig);
}

/* dW_ih, dW_hh and the biases in one product; and where rows are cut, in any of the three pieces. */
Test(kernels, gemm_takes_its_left_side_from_two_arrays_and_ones)
{
    static const struct {
        uint64_t m, second;
        uint32_t ones;
    } cases[] = {{4, 1, 2}, {8, 4, 0}, {53, 50, 2}, {70, 33, 2}, {70, 3, 1}};
    Rig rig;
    rig_begin(&rig);
    for (int narrow = 0; narrow <= 1; narrow++) {
        if (narrow)
            rig_narrow(&rig, 900, 2);
        for (size_t i = 0; i < COUNT(cases); i++)
            for (int accumulate = 0; accumulate <= 1; accumulate++)
                gemm_check(&rig,
                           &(GemmCase){.form = VKL_GEMM_TN,
                                       .m = cases[i].m,
                                       .n = 36,
                                       .k = 19,
                                       .ones = cases[i].ones,
                                       .second = cases[i].second,
                                       .accumulate = accumulate,
                                       .gap = i % 2},
                           "two arrays");
    }
    rig_end(&rig);
}

/* 4096 is the longest sum of one dispatch: software devices end a loop silently after 65,535 turns. */
Test(kernels, gemm_sums_as_many_terms_as_one_dispatch_takes_and_more)
{
    static const uint64_t lengths[] = {4095, 4096, 4097, 9001};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
            gemm_check(&rig, &(GemmCase){.form = form, .m = 2, .n = 3, .k = lengths[i], .bias_rows = form != VKL_GEMM_TN},
                       "long sums");
    rig_end(&rig);
}

Test(kernels, gemm_is_split_where_a_binding_does_not_reach)
{
    Rig rig;
    rig_begin(&rig);
    rig_narrow(&rig, 900, 2);
    for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
        for (uint32_t ones = 0; ones <= (form == VKL_GEMM_TN ? 1u : 0u); ones++)
            for (int accumulate = 0; accumulate <= 1; accumulate++)
                gemm_check(&rig,
                           &(GemmCase){.form = form, .m = 67, .n = 71, .k = 45, .ones = ones, .accumulate = accumulate, .gap = 3},
                           "split");
    rig_end(&rig);
}

Test(kernels, gemm_lets_nan_through_and_keeps_it_in_its_row_and_column)
{
    static const VklSlot slots[] = {VKL_SLOT_X, VKL_SLOT_GY, VKL_SLOT_H0};
    Rig rig;
    rig_begin(&rig);
    for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
        for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++)
            for (size_t s = 0; s < COUNT(slots); s++)
                gemm_check(&rig,
                           &(GemmCase){.form = form,
                                       .m = 35,
                                       .n = 40,
                                       .k = 18,
                                       .bias_rows = 2,
                                       .activation = (VklActivation)activation,
                                       .nan = slots[s]},
                           "NaN");
    rig_end(&rig);
}

/* ---- Products with cooperative matrices ---- */

typedef struct CoopCase {
    GemmCase gemm;
    uint64_t scratch;
    bool far_apart; /* each row of A, and in TN each column of B, of a magnitude of its own, beyond those of halves */
} CoopCase;

/* Whether there is something to test. The lavapipe of Mesa 26.1 crashes on them with 16 lanes. A device that is a CPU would
 * not choose them, so it is planned for as a GPU. */
static bool coop_begin(Rig *rig)
{
    rig_begin(rig);
    bool wide = rig->caps.arch == VKL_ARCH_SOFTWARE && rig->caps.subgroup_max > 8;
    rig->caps.arch = VKL_ARCH_GPU;
    return rig->caps.cooperative[0] && !wide;
}

/* From 2^-60 to 2^60. */
static float magnitude(uint64_t line)
{
    return ldexpf(1, (int)(line * 37 % 121) - 60);
}

static void coop_operands(Rig *rig, const CoopCase *t, const VklGemm *gemm)
{
    float *a = rig_initial(rig, VKL_SLOT_X), *b = rig_initial(rig, VKL_SLOT_GY);
    bool along = t->gemm.form == VKL_GEMM_TN;
    uint64_t a_rows = along ? t->gemm.k : t->gemm.m, b_rows = t->gemm.form == VKL_GEMM_NT ? t->gemm.n : t->gemm.k;
    for (uint64_t i = 0; t->far_apart && i < a_rows * gemm->lda; i++)
        a[i] *= magnitude(along ? i % gemm->lda : i / gemm->lda);
    for (uint64_t i = 0; i < b_rows * gemm->ldb; i++)
        if (!along) /* a half: seven digits fewer would do as well */
            b[i] = ldexpf(rintf(ldexpf(b[i], 8)), -8);
        else if (t->far_apart)
            b[i] *= magnitude(i % gemm->ldb + 50);
}

/* A half has 11 digits, so a factor is off by 2^-11 of itself, or by twice that where a device cuts digits off; errors of
 * either sign add up to no more than that of the largest sum. Compared row by row where magnitudes differ, and element by
 * element in TN. */
static void coop_compare(Rig *rig, const CoopCase *t, const VklGemm *gemm, const char *name)
{
    double *want = gemm_want(rig, gemm), tolerance = 0x1p-10 + sum_tolerance(t->gemm.k);
    const float *got = rig_result(rig, VKL_SLOT_Y), *a = rig_initial(rig, VKL_SLOT_X), *b = rig_initial(rig, VKL_SLOT_GY);
    if (!t->far_apart) {
        test_compare(name, got, want, t->gemm.m * gemm->ldc, tolerance);
    } else if (t->gemm.form != VKL_GEMM_TN) {
        for (uint64_t i = 0; i < t->gemm.m; i++)
            test_compare(name, got + i * gemm->ldc, want + i * gemm->ldc, t->gemm.n, tolerance);
    } else {
        for (uint64_t i = 0; i < t->gemm.m; i++)
            for (uint64_t j = 0; j < t->gemm.n; j++) {
                double size = 0;
                for (uint64_t k = 0; k < t->gemm.k; k++)
                    size += fabs((double)a[k * gemm->lda + i] * (double)b[k * gemm->ldb + j]);
                cr_assert(fabs((double)got[i * gemm->ldc + j] - want[i * gemm->ldc + j]) <= tolerance * size,
                          "%s: [%llu][%llu] is %g and not %g", name, (unsigned long long)i, (unsigned long long)j,
                          (double)got[i * gemm->ldc + j], want[i * gemm->ldc + j]);
            }
    }
    free(want);
}

static const CoopCase coop_cases[] = {
    {{.m = 32, .n = 32, .k = 32}, 0, false},
    {{.m = 33, .n = 35, .k = 33, .gap = 1}, 0, false},
    {{.m = 64, .n = 64, .k = 64}, 0, false},
    {{.m = 65, .n = 129, .k = 257, .gap = 3, .accumulate = true}, 0, false},
    {{.m = 130, .n = 67, .k = 100, .bias_rows = 2, .activation = VKL_ACTIVATION_RELU}, 0, false},
    {{.m = 67, .n = 70, .k = 999, .bias_rows = 1, .accumulate = true}, 6 * 67 * 70, false},
    {{.m = 40, .n = 37, .k = 8250, .gap = 1}, 0, false},
    {{.m = 66, .n = 50, .k = 300}, 0, true},
    {{.m = 66, .n = 50, .k = 1001}, 4 * 66 * 50, true},
};

Test(kernels, gemm_coop_multiplies_halves_with_sums_of_float32)
{
    Rig rig;
    bool there = coop_begin(&rig);
    for (size_t n = 0; there && n < COUNT(coop_cases) * 3; n++) {
        CoopCase t = coop_cases[n / 3];
        rig.caps.vendor = n % 2 ? VKL_VENDOR_INTEL : VKL_VENDOR_NVIDIA; /* other shapes */
        VklGemm gemm;
        t.gemm.form = (uint32_t)(n % 3);
        t.gemm.bias_rows = t.gemm.form == VKL_GEMM_TN ? 0 : t.gemm.bias_rows;
        if (t.gemm.form == VKL_GEMM_TN && !t.far_apart) {
            t.gemm.ones = (uint32_t)(n / 3 % 3);
            t.gemm.second = n / 3 % 2 ? 11 : 0;
        }
        gemm_slots(&rig, &t.gemm, &gemm);
        coop_operands(&rig, &t, &gemm);
        if (t.scratch)
            rig_slot(&rig, VKL_SLOT_WORKSPACE, t.scratch, 1);
        gemm.scratch = rig_array(&rig, VKL_SLOT_WORKSPACE, 0);
        gemm.scratch_count = t.scratch;
        rig.plan.halves = true;
        vkl_plan_gemm(&rig.plan, &gemm);
        for (size_t i = 0; i < rig.plan.count; i++)
            cr_assert(rig.plan.ops[i].kernel == VKL_KERNEL_GEMM_COOP || rig.plan.ops[i].kernel == VKL_KERNEL_GEMM_REDUCE,
                      "case %zu: another kernel was chosen", n);
        rig_run(&rig, 1);
        char name[128];
        snprintf(name, sizeof(name), "case %zu, form %u: %llu x %llu x %llu", n / 3, t.gemm.form, (unsigned long long)t.gemm.m,
                 (unsigned long long)t.gemm.n, (unsigned long long)t.gemm.k);
        coop_compare(&rig, &t, &gemm, name);
        rig_clear(&rig);
    }
    rig_end(&rig);
}

Test(kernels, gemm_coop_lets_nan_and_infinities_through_and_nowhere_else)
{
    Rig rig;
    bool there = coop_begin(&rig);
    for (uint32_t form = VKL_GEMM_NN; there && form <= VKL_GEMM_TN; form++) {
        const GemmCase t = {.form = form, .m = 66, .n = 66, .k = 40};
        VklGemm gemm;
        gemm_slots(&rig, &t, &gemm);
        const CoopCase plain = {.gemm = t};
        coop_operands(&rig, &plain, &gemm);
        float *a = rig_initial(&rig, VKL_SLOT_X), *b = rig_initial(&rig, VKL_SLOT_GY);
        a[form == VKL_GEMM_TN ? 3 * gemm.lda + 7 : 7 * gemm.lda + 3] = NAN;
        a[form == VKL_GEMM_TN ? 5 * gemm.lda + 65 : 65 * gemm.lda + 5] = INFINITY;
        b[form == VKL_GEMM_NT ? 9 * gemm.ldb + 2 : 2 * gemm.ldb + 9] = NAN;
        rig.plan.halves = true;
        vkl_plan_gemm(&rig.plan, &gemm);
        rig_run(&rig, 1);
        coop_compare(&rig, &plain, &gemm, "not finite");
        rig_clear(&rig);
    }
    rig_end(&rig);
}

/* ---- Activations, through a GEMM of one column ---- */

static const float awkward[] = {
    0.0f,    -0.0f,   1e-30f,  -1e-30f, 1e-10f, -1e-10f, 1e-4f,  -1e-4f, 0.1f,  -0.1f,  0.17f,   -0.17f,   0.1733f,  0.1734f,
    0.3465f, 0.3466f, 0.3467f, 0.5f,    -0.5f,  1.0f,    -1.0f,  3.0f,   -3.0f, 8.9f,   9.0f,    -9.1f,    10.0f,    -10.0f,
    20.0f,   -20.0f,  44.0f,   45.0f,   -45.0f, 86.0f,   -86.0f, 87.5f,  88.0f, -88.0f, 88.8f,   89.0f,    -89.0f,   90.0f,
    -90.0f,  104.0f,  -104.0f, 128.0f,  1e3f,   -1e3f,   1e4f,   -1e4f,  1e9f,  -1e9f,  3.0e38f, -3.0e38f, INFINITY, -INFINITY,
};

Test(kernels, activations_are_accurate_everywhere_and_saturate)
{
    Rig rig;
    rig_begin(&rig);
    for (int activation = VKL_ACTIVATION_TANH; activation <= VKL_ACTIVATION_RELU; activation++) {
        uint64_t count = 3000;
        float *x = rig_slot(&rig, VKL_SLOT_X, count, 12), *one = rig_slot(&rig, VKL_SLOT_GY, 1, 1);
        rig_slot(&rig, VKL_SLOT_Y, count, 1);
        memcpy(x, awkward, sizeof(awkward));
        one[0] = 1;
        vkl_plan_gemm(&rig.plan, &(VklGemm){.form = VKL_GEMM_NN,
                                            .m = count,
                                            .n = 1,
                                            .k = 1,
                                            .a = rig_array(&rig, VKL_SLOT_X, 0),
                                            .b = rig_array(&rig, VKL_SLOT_GY, 0),
                                            .c = rig_array(&rig, VKL_SLOT_Y, 0),
                                            .lda = 1,
                                            .ldb = 1,
                                            .ldc = 1,
                                            .activation = (VklActivation)activation});
        rig_run(&rig, 1);
        const float *got = rig_result(&rig, VKL_SLOT_Y);
        for (uint64_t i = 0; i < count; i++) {
            double want = activation_of((VklActivation)activation, x[i]);
            /* relative to each value: the formulas are good to 2 units in the last place, division on a GPU to 2.5. Below the
             * smallest normal number nothing is asked. */
            double allowed = 8e-7 * fabs(want) + 2e-38;
            cr_assert(want == got[i] || fabs(got[i] - want) <= allowed, "activation %d of %.9g: %.9g, want %.9g", activation,
                      (double)x[i], (double)got[i], want);
        }
        rig_clear(&rig);
    }
    rig_end(&rig);
}

/* ---- LSTM steps ---- */

typedef struct StepCase {
    uint64_t rows, units;
    bool keep;           /* forward */
    bool in_place;       /* forward: c' in the place of c; backward: dc_out in the place of c */
    bool next, dy, dc;   /* backward: which terms there are */
    uint64_t gap;        /* between rows of h and of dy */
    uint64_t window;     /* 0: the device's own */
    uint32_t workgroups; /* with window */
} StepCase;

/* Slots: gates in RESERVE, W_hh in PARAMS, h before and after in Y, c before and after in WORKSPACE. */
static void forward_slots(Rig *rig, const StepCase *t)
{
    uint64_t n = t->rows * t->units;
    if (t->window)
        rig_narrow(rig, t->window, t->workgroups);
    rig_slot(rig, VKL_SLOT_RESERVE, 4 * n, 2);
    rig_slot(rig, VKL_SLOT_PARAMS, 4 * t->units * t->units, 1 / sqrtf((float)t->units));
    rig_slot(rig, VKL_SLOT_Y, 2 * t->rows * (t->units + t->gap), 1);
    rig_slot(rig, VKL_SLOT_WORKSPACE, 2 * n, 1);
}

static void forward_check(Rig *rig, const StepCase *t, const char *what)
{
    uint64_t n = t->rows * t->units, units = t->units, h_ld = units + t->gap, h_next = t->rows * h_ld;
    uint64_t c_next = t->in_place ? 0 : n;
    vkl_plan_lstm_forward(&rig->plan, &(VklCellForward){.rows = t->rows,
                                                        .units = units,
                                                        .h_ld = h_ld,
                                                        .gates = rig_array(rig, VKL_SLOT_RESERVE, 0),
                                                        .w_hh = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                                        .h_prev = rig_array(rig, VKL_SLOT_Y, 0),
                                                        .h_next = rig_array(rig, VKL_SLOT_Y, h_next),
                                                        .c_prev = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
                                                        .c_next = rig_array(rig, VKL_SLOT_WORKSPACE, c_next),
                                                        .keep = t->keep});
    rig_run(rig, 1);

    const float *gates = rig_initial(rig, VKL_SLOT_RESERVE);
    const float *w = rig_initial(rig, VKL_SLOT_PARAMS);
    const float *h = rig_initial(rig, VKL_SLOT_Y);
    const float *c = rig_initial(rig, VKL_SLOT_WORKSPACE);
    double *want_gates = doubles(4 * n), *want_h = doubles(h_next), *want_c = doubles(n);
    for (uint64_t i = 0; i < h_next; i++)
        want_h[i] = h[h_next + i];
    for (uint64_t row = 0; row < t->rows; row++)
        for (uint64_t unit = 0; unit < units; unit++) {
            uint64_t at = row * units + unit;
            double pre[4];
            for (int gate = 0; gate < 4; gate++) {
                pre[gate] = gates[4 * at + (uint64_t)gate];
                for (uint64_t j = 0; j < units; j++)
                    pre[gate] += (double)h[row * h_ld + j] * w[(j * units + unit) * 4 + (uint64_t)gate];
            }
            double i = sigmoid(pre[0]), f = sigmoid(pre[1]), g = tanh(pre[2]), o = sigmoid(pre[3]);
            want_c[at] = f * c[at] + i * g;
            want_h[row * h_ld + unit] = o * tanh(want_c[at]);
            want_gates[4 * at] = i;
            want_gates[4 * at + 1] = f;
            want_gates[4 * at + 2] = g;
            want_gates[4 * at + 3] = o;
        }
    char name[128];
    snprintf(name, sizeof(name), "%s, %llu rows, %llu units: ", what, (unsigned long long)t->rows, (unsigned long long)units);
    size_t length = strlen(name);
    double tolerance = sum_tolerance(units);
    strcpy(name + length, "h");
    test_compare(name, rig_result(rig, VKL_SLOT_Y) + h_next, want_h, h_next, tolerance);
    strcpy(name + length, "c");
    test_compare(name, rig_result(rig, VKL_SLOT_WORKSPACE) + c_next, want_c, n, tolerance);
    if (t->keep) {
        strcpy(name + length, "gates");
        test_compare(name, rig_result(rig, VKL_SLOT_RESERVE), want_gates, 4 * n, tolerance);
    }
    cr_assert(!memcmp(rig_result(rig, VKL_SLOT_Y), h, h_next * sizeof(float)), "%s: h before the step was changed", what);
    for (uint64_t i = h_next; i < 2 * h_next; i++)
        cr_assert((i % h_ld < units) || !memcmp(rig_result(rig, VKL_SLOT_Y) + i, h + i, sizeof(float)),
                  "%s: what lies between rows of h was changed", what);
    cr_assert(t->in_place || !memcmp(rig_result(rig, VKL_SLOT_WORKSPACE), c, n * sizeof(float)),
              "%s: c before the step was changed", what);
    free(want_gates);
    free(want_h);
    free(want_c);
    rig->caps = rig->device->caps;
    rig_clear(rig);
}

Test(kernels, lstm_forward_steps_at_any_number_of_rows_and_units)
{
    static const StepCase cases[] = {
        {.rows = 1, .units = 1, .keep = true},
        {.rows = 1, .units = 50, .keep = true},
        {.rows = 3, .units = 17, .keep = true},
        {.rows = 17, .units = 3, .keep = true},
        {.rows = 5, .units = 65, .keep = false},
        {.rows = 65, .units = 5, .keep = false, .in_place = true},
        {.rows = 4, .units = 64, .keep = true, .in_place = true},
        {.rows = 2, .units = 257, .keep = true},
        {.rows = 5, .units = 13, .keep = true, .gap = 3},
        /* many workgroups on y; rows in parts; the recurrent product apart (k = 0) */
        {.rows = 9, .units = 65, .keep = true, .window = 65 * 65 * 4, .workgroups = 2},
        {.rows = 37, .units = 9, .keep = true, .window = 350, .workgroups = 3},
        {.rows = 37, .units = 9, .keep = true, .gap = 4, .window = 500, .workgroups = 3},
        {.rows = 5, .units = 33, .keep = true, .window = 700, .workgroups = 1},
        {.rows = 5, .units = 33, .keep = true, .gap = 34, .window = 700, .workgroups = 1},
    };
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(cases); i++) {
        forward_slots(&rig, &cases[i]);
        forward_check(&rig, &cases[i], "forward");
    }
    rig_end(&rig);
}

/* Slots: x in RESERVE, W_ih, W_hh and biases in PARAMS, h before and after in Y, c before and after in WORKSPACE. */
Test(kernels, lstm_once_is_a_time_step_from_its_input)
{
    static const struct {
        uint64_t rows, units, inputs, gap, bias_rows; /* gap: between rows of x */
        bool h, c, in_place;                          /* states before; c after lies where c before does */
    } cases[] = {
        {1, 1, 1, 0, 2, true, true, false},    {1, 50, 1, 0, 2, true, true, true},    {3, 17, 5, 2, 1, true, false, false},
        {65, 3, 17, 1, 0, false, true, false}, {2, 65, 3, 0, 2, false, false, false},
    };
    Rig rig;
    rig_begin(&rig);
    bool six = rig.device->caps.storage_buffers >= 6; /* the floor has four: vkl_tune_once() does not choose it there */
    for (size_t i = 0; six && i < COUNT(cases); i++) {
        uint64_t rows = cases[i].rows, units = cases[i].units, inputs = cases[i].inputs, bias_rows = cases[i].bias_rows;
        uint64_t n = rows * units, x_ld = inputs + cases[i].gap, w_hh = inputs * 4 * units, bias = w_hh + units * 4 * units;
        rig_slot(&rig, VKL_SLOT_RESERVE, rows * x_ld, 1);
        rig_slot(&rig, VKL_SLOT_PARAMS, bias + bias_rows * 4 * units, 1 / sqrtf((float)(units + inputs)));
        rig_slot(&rig, VKL_SLOT_Y, 2 * n, 1);
        rig_slot(&rig, VKL_SLOT_WORKSPACE, 2 * n, 1);
        uint64_t c_next = cases[i].in_place ? 0 : n;
        cr_assert(vkl_plan_lstm_once(&rig.plan,
                                     &(VklCellOnce){.rows = rows,
                                                    .units = units,
                                                    .inputs = inputs,
                                                    .x_ld = x_ld,
                                                    .bias_rows = bias_rows,
                                                    .x = rig_array(&rig, VKL_SLOT_RESERVE, 0),
                                                    .w_ih = rig_array(&rig, VKL_SLOT_PARAMS, 0),
                                                    .w_hh = rig_array(&rig, VKL_SLOT_PARAMS, w_hh),
                                                    .bias = bias_rows ? rig_array(&rig, VKL_SLOT_PARAMS, bias) : VKL_NO_ARRAY,
                                                    .h_prev = cases[i].h ? rig_array(&rig, VKL_SLOT_Y, 0) : VKL_NO_ARRAY,
                                                    .c_prev = cases[i].c ? rig_array(&rig, VKL_SLOT_WORKSPACE, 0) : VKL_NO_ARRAY,
                                                    .h_next = rig_array(&rig, VKL_SLOT_Y, n),
                                                    .c_next = rig_array(&rig, VKL_SLOT_WORKSPACE, c_next)}));
        rig_run(&rig, 1);
        const float *x = rig_initial(&rig, VKL_SLOT_RESERVE), *params = rig_initial(&rig, VKL_SLOT_PARAMS);
        const float *h = rig_initial(&rig, VKL_SLOT_Y), *c = rig_initial(&rig, VKL_SLOT_WORKSPACE);
        double *want_h = doubles(n), *want_c = doubles(n);
        for (uint64_t at = 0; at < n; at++) {
            uint64_t row = at / units, unit = at % units;
            double pre[4] = {0};
            for (uint64_t gate = 0; gate < 4; gate++) {
                for (uint64_t j = 0; j < inputs; j++)
                    pre[gate] += (double)x[row * x_ld + j] * params[(j * units + unit) * 4 + gate];
                for (uint64_t j = 0; j < bias_rows; j++)
                    pre[gate] += params[bias + (j * units + unit) * 4 + gate];
                for (uint64_t j = 0; cases[i].h && j < units; j++)
                    pre[gate] += (double)h[row * units + j] * params[w_hh + (j * units + unit) * 4 + gate];
            }
            want_c[at] = sigmoid(pre[1]) * (cases[i].c ? c[at] : 0) + sigmoid(pre[0]) * tanh(pre[2]);
            want_h[at] = sigmoid(pre[3]) * tanh(want_c[at]);
        }
        char name[64];
        snprintf(name, sizeof(name), "once, case %zu", i);
        test_compare(name, rig_result(&rig, VKL_SLOT_Y) + n, want_h, n, sum_tolerance(units + inputs));
        test_compare(name, rig_result(&rig, VKL_SLOT_WORKSPACE) + c_next, want_c, n, sum_tolerance(units + inputs));
        free(want_h);
        free(want_c);
        rig_clear(&rig);
    }
    rig_end(&rig);
}

Test(kernels, lstm_forward_saturates_at_extreme_gates)
{
    StepCase t = {.rows = 8, .units = 35, .keep = true};
    Rig rig;
    rig_begin(&rig);
    forward_slots(&rig, &t);
    float *gates = rig_initial(&rig, VKL_SLOT_RESERVE);
    for (uint64_t i = 0; i < 4 * t.rows * t.units; i++)
        gates[i] = awkward[i * 7 % COUNT(awkward)];
    forward_check(&rig, &t, "extremes");
    rig_end(&rig);
}

Test(kernels, lstm_forward_lets_nan_through_where_it_belongs)
{
    static const VklSlot slots[] = {VKL_SLOT_RESERVE, VKL_SLOT_PARAMS, VKL_SLOT_Y, VKL_SLOT_WORKSPACE};
    StepCase t = {.rows = 5, .units = 21, .keep = true};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(slots); i++)
        for (uint64_t element = 41; element < 45; element++) { /* each gate, or four units */
            forward_slots(&rig, &t);
            rig_initial(&rig, slots[i])[element] = NAN;
            forward_check(&rig, &t, vkl_slot_name[slots[i]]);
        }
    rig_end(&rig);
}

/* Slots: gates of this step and the next in RESERVE, W_hh in PARAMS, dy in GY, scratch for dh in DX; c, c_prev, dc_in, dc_out in
 * WORKSPACE. */
static void backward_slots(Rig *rig, const StepCase *t)
{
    uint64_t n = t->rows * t->units;
    if (t->window)
        rig_narrow(rig, t->window, t->workgroups);
    float *gates = rig_slot(rig, VKL_SLOT_RESERVE, 8 * n, 1);
    for (uint64_t i = 0; i < 4 * n; i++)
        gates[i] = i % 4 == 2 ? gates[i] : 0.5f + 0.5f * gates[i]; /* activated: g in (-1, 1), the others in (0, 1) */
    rig_slot(rig, VKL_SLOT_PARAMS, 4 * t->units * t->units, 1 / sqrtf((float)t->units));
    rig_slot(rig, VKL_SLOT_GY, t->rows * (t->units + t->gap), 1);
    rig_slot(rig, VKL_SLOT_DX, n, 1);
    rig_slot(rig, VKL_SLOT_WORKSPACE, 4 * n, 1);
}

static void backward_check(Rig *rig, const StepCase *t, const char *what)
{
    uint64_t n = t->rows * t->units, units = t->units;
    uint64_t dc_out = t->in_place ? 0 : 3 * n;
    vkl_plan_lstm_backward(&rig->plan,
                           &(VklCellBackward){.rows = t->rows,
                                              .units = units,
                                              .dy_ld = units + t->gap,
                                              .gates = rig_array(rig, VKL_SLOT_RESERVE, 0),
                                              .gates_next = t->next ? rig_array(rig, VKL_SLOT_RESERVE, 4 * n) : VKL_NO_ARRAY,
                                              .w_hh = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                              .dy = t->dy ? rig_array(rig, VKL_SLOT_GY, 0) : VKL_NO_ARRAY,
                                              .dh = rig_array(rig, VKL_SLOT_DX, 0),
                                              .c = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
                                              .c_prev = rig_array(rig, VKL_SLOT_WORKSPACE, n),
                                              .dc_in = t->dc ? rig_array(rig, VKL_SLOT_WORKSPACE, 2 * n) : VKL_NO_ARRAY,
                                              .dc_out = rig_array(rig, VKL_SLOT_WORKSPACE, dc_out)});
    rig_run(rig, 1);

    const float *gates = rig_initial(rig, VKL_SLOT_RESERVE);
    const float *w = rig_initial(rig, VKL_SLOT_PARAMS);
    const float *dy = rig_initial(rig, VKL_SLOT_GY);
    const float *c = rig_initial(rig, VKL_SLOT_WORKSPACE);
    double *want_gates = doubles(4 * n), *want_dc = doubles(n);
    for (uint64_t row = 0; row < t->rows; row++)
        for (uint64_t unit = 0; unit < units; unit++) {
            uint64_t at = row * units + unit;
            double dh = t->dy ? dy[row * (units + t->gap) + unit] : 0;
            for (uint64_t j = 0; t->next && j < 4 * units; j++)
                dh += (double)gates[4 * n + row * 4 * units + j] * w[unit * 4 * units + j];
            double i = gates[4 * at], f = gates[4 * at + 1], g = gates[4 * at + 2], o = gates[4 * at + 3];
            double tanh_c = tanh(c[at]);
            double dc = (t->dc ? c[2 * n + at] : 0) + dh * o * (1 - tanh_c * tanh_c);
            want_gates[4 * at] = dc * g * i * (1 - i);
            want_gates[4 * at + 1] = dc * c[n + at] * f * (1 - f);
            want_gates[4 * at + 2] = dc * i * (1 - g * g);
            want_gates[4 * at + 3] = dh * tanh_c * o * (1 - o);
            want_dc[at] = dc * f;
        }
    char name[128];
    snprintf(name, sizeof(name), "%s, %llu rows, %llu units: ", what, (unsigned long long)t->rows, (unsigned long long)units);
    size_t length = strlen(name);
    double tolerance = sum_tolerance(4 * units);
    strcpy(name + length, "gates");
    test_compare(name, rig_result(rig, VKL_SLOT_RESERVE), want_gates, 4 * n, tolerance);
    strcpy(name + length, "dc");
    test_compare(name, rig_result(rig, VKL_SLOT_WORKSPACE) + dc_out, want_dc, n, tolerance);
    cr_assert(!memcmp(rig_result(rig, VKL_SLOT_RESERVE) + 4 * n, gates + 4 * n, 4 * n * sizeof(float)),
              "%s: the gates of the next step were changed", what);
    cr_assert(!memcmp(rig_result(rig, VKL_SLOT_WORKSPACE) + n, c + n, 2 * n * sizeof(float)), "%s: c_prev or dc_in was changed",
              what);
    free(want_gates);
    free(want_dc);
    rig->caps = rig->device->caps;
    rig_clear(rig);
}

Test(kernels, lstm_backward_steps_with_and_without_each_term)
{
    static const StepCase cases[] = {
        {.rows = 1, .units = 1, .next = true, .dy = true, .dc = true},
        {.rows = 1, .units = 50, .dy = true},
        {.rows = 1, .units = 50, .next = true, .dc = true},
        {.rows = 3, .units = 17, .next = true, .dy = true, .dc = true, .in_place = true},
        {.rows = 17, .units = 3, .next = true, .dc = true},
        {.rows = 5, .units = 65, .next = true, .dy = true, .dc = true},
        {.rows = 65, .units = 5, .dc = true, .in_place = true},
        {.rows = 2, .units = 257, .next = true, .dy = true, .dc = true},
        {.rows = 5, .units = 13, .next = true, .dy = true, .dc = true, .gap = 3},
        /* many workgroups on y; the recurrent product apart, added to dy or alone */
        {.rows = 9, .units = 65, .next = true, .dy = true, .dc = true, .window = 65 * 65 * 4, .workgroups = 2},
        {.rows = 5, .units = 33, .next = true, .dy = true, .dc = true, .window = 1400, .workgroups = 1},
        {.rows = 5, .units = 33, .next = true, .dc = true, .window = 1400, .workgroups = 1},
        {.rows = 5, .units = 33, .next = true, .dy = true, .dc = true, .gap = 34, .window = 1400, .workgroups = 1},
    };
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(cases); i++) {
        backward_slots(&rig, &cases[i]);
        backward_check(&rig, &cases[i], "backward");
    }
    rig_end(&rig);
}

Test(kernels, lstm_backward_lets_nan_through_and_bears_extreme_states)
{
    static const struct {
        VklSlot slot;
        uint64_t element; /* of 5 x 21: gates, gates of the next step, W_hh, dy, c, c_prev, dc_in */
    } places[] = {
        {VKL_SLOT_RESERVE, 44},         {VKL_SLOT_RESERVE, 45},         {VKL_SLOT_RESERVE, 46}, {VKL_SLOT_RESERVE, 47},
        {VKL_SLOT_RESERVE, 500},        {VKL_SLOT_PARAMS, 77},          {VKL_SLOT_GY, 33},      {VKL_SLOT_WORKSPACE, 33},
        {VKL_SLOT_WORKSPACE, 105 + 33}, {VKL_SLOT_WORKSPACE, 210 + 33},
    };
    StepCase t = {.rows = 5, .units = 21, .next = true, .dy = true, .dc = true};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(places); i++) {
        backward_slots(&rig, &t);
        rig_initial(&rig, places[i].slot)[places[i].element] = NAN;
        backward_check(&rig, &t, "NaN");
    }
    backward_slots(&rig, &t);
    float *c = rig_initial(&rig, VKL_SLOT_WORKSPACE);
    for (uint64_t i = 0; i < t.rows * t.units; i++)
        c[i] = awkward[i * 5 % COUNT(awkward)];
    backward_check(&rig, &t, "extremes");
    rig_end(&rig);
}

/* ---- Copies ---- */

static void copy_check(Rig *rig, const uint64_t counts[5])
{
    static const uint32_t modes[5] = {VKL_COPY_LOAD, VKL_COPY_STORE, VKL_COPY_ADD, VKL_COPY_ZERO, VKL_COPY_LOAD};
    static const VklSlot others[5] = {VKL_SLOT_X, VKL_SLOT_Y, VKL_SLOT_H0, VKL_SLOT_C0, VKL_SLOT_HN};
    VklCopyPiece pieces[5];
    uint64_t at[5], total = 0;
    for (int i = 0; i < 5; i++) {
        at[i] = total;
        total += counts[i] + 4; /* what lies between the pieces must stay */
        rig_slot(rig, others[i], counts[i] + 1, 1);
        pieces[i] = (VklCopyPiece){.mode = modes[i],
                                   .arena = rig_array(rig, VKL_SLOT_WORKSPACE, at[i]),
                                   .other = modes[i] == VKL_COPY_ZERO ? VKL_NO_ARRAY : rig_array(rig, others[i], 0),
                                   .count = counts[i]};
    }
    float *arena = rig_slot(rig, VKL_SLOT_WORKSPACE, total, 1);
    double *want = doubles(total), *stored = doubles(counts[1] + 1);
    for (uint64_t i = 0; i < total; i++)
        want[i] = arena[i];
    for (int p = 0; p < 5; p++) {
        float *other = rig_initial(rig, others[p]);
        if (counts[p] > 2)
            other[2] = NAN;
        for (uint64_t i = 0; i < counts[p]; i++)
            switch (modes[p]) {
            case VKL_COPY_LOAD:
                want[at[p] + i] = other[i];
                break;
            case VKL_COPY_ADD:
                want[at[p] + i] = arena[at[p] + i] + other[i];
                break;
            case VKL_COPY_ZERO:
                want[at[p] + i] = 0;
                break;
            default:
                stored[i] = arena[at[p] + i];
            }
        if (modes[p] == VKL_COPY_STORE)
            stored[counts[p]] = other[counts[p]];
    }
    vkl_plan_copy(&rig->plan, pieces, 5);
    rig_run(rig, 1);
    test_compare("arena", rig_result(rig, VKL_SLOT_WORKSPACE), want, total, 0);
    test_compare("stored", rig_result(rig, VKL_SLOT_Y), stored, counts[1] + 1, 0);
    free(want);
    free(stored);
    rig_clear(rig);
}

Test(kernels, copy_loads_stores_adds_and_zeroes_pieces_of_any_length)
{
    static const uint64_t counts[][5] = {
        {1, 1, 1, 1, 1}, {65, 3, 17, 257, 64}, {3, 0, 65, 0, 1000}, {0, 63, 0, 127, 0}, {8, 64, 16, 256, 4},
    };
    Rig rig;
    rig_begin(&rig);
    for (int aligned = 0; aligned < 2; aligned++) {
        rig.aligned = aligned;
        for (size_t i = 0; i < COUNT(counts); i++)
            copy_check(&rig, counts[i]);
    }
    rig_narrow(&rig, 100, 1);
    rig_clear(&rig);
    for (size_t i = 0; i < COUNT(counts); i++)
        copy_check(&rig, counts[i]);
    rig_end(&rig);
}

/* ---- Gather ---- */

static void put_uint(float *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static uint32_t get_uint(const float *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

Test(kernels, gather_takes_windows_by_index)
{
    static const struct {
        uint64_t steps, rows, features, outputs;
    } cases[] = {{1, 1, 1, 1}, {12, 16, 1, 1}, {5, 3, 2, 3}, {3, 17, 5, 0}, {65, 2, 3, 2}};
    enum { WINDOWS = 40, DONE = 7 };
    Rig rig;
    rig_begin(&rig);
    for (size_t n = 0; n < COUNT(cases); n++) {
        uint64_t T = cases[n].steps, R = cases[n].rows, F = cases[n].features, O = cases[n].outputs;
        uint64_t length = 2 * WINDOWS + T, series_at = 3, starts_at = series_at + length * F;
        uint64_t targets_at = starts_at + WINDOWS, data_count = targets_at + WINDOWS * O, order_at = VKL_STATE_LOSS + 2;
        float *data = rig_slot(&rig, VKL_SLOT_DATA, data_count, 1);
        float *state = rig_slot(&rig, VKL_SLOT_STATE, order_at + WINDOWS, 1);
        rig_slot(&rig, VKL_SLOT_X, T * R * F, 1);
        rig_slot(&rig, VKL_SLOT_TARGET, R * O + 1, 1);
        for (uint32_t w = 0; w < WINDOWS; w++) {
            put_uint(&data[starts_at + w], 2 * w + 1);
            put_uint(&state[order_at + w], (w * 27 + 5) % WINDOWS);
        }
        put_uint(&state[VKL_STATE_WINDOW], DONE);
        put_uint(&data[series_at + 9], 0x7fc00abcu); /* any bits go through */
        vkl_plan_gather(&rig.plan, &(VklGather){.steps = T,
                                                .rows = R,
                                                .features = F,
                                                .outputs = O,
                                                .data = rig_array(&rig, VKL_SLOT_DATA, 0),
                                                .series_at = series_at,
                                                .starts_at = starts_at,
                                                .targets_at = targets_at,
                                                .data_count = data_count,
                                                .state = rig_array(&rig, VKL_SLOT_STATE, 0),
                                                .order_at = order_at,
                                                .order_count = WINDOWS,
                                                .x = rig_array(&rig, VKL_SLOT_X, 0),
                                                .target = O ? rig_array(&rig, VKL_SLOT_TARGET, 0) : VKL_NO_ARRAY});
        rig_run(&rig, 1);
        const float *x = rig_result(&rig, VKL_SLOT_X), *target = rig_result(&rig, VKL_SLOT_TARGET);
        for (uint64_t row = 0; row < R; row++) {
            uint64_t w = ((DONE + row) * 27 + 5) % WINDOWS;
            for (uint64_t i = 0; i < T * F; i++)
                cr_assert_eq(get_uint(&x[(i / F * R + row) * F + i % F]), get_uint(&data[series_at + (2 * w + 1) * F + i]),
                             "case %zu: x of row %llu, element %llu", n, (unsigned long long)row, (unsigned long long)i);
            for (uint64_t o = 0; o < O; o++)
                cr_assert_eq(get_uint(&target[row * O + o]), get_uint(&data[targets_at + w * O + o]), "case %zu: target", n);
        }
        rig_clear(&rig);
    }
    rig_end(&rig);
}

/* ---- Loss ---- */

static double loss_of(VklLoss kind, double delta, double d, double *slope)
{
    double sign = d > 0 ? 1 : d < 0 ? -1 : d;
    switch (kind) {
    case VKL_LOSS_MSE:
        *slope = 2 * d;
        return d * d;
    case VKL_LOSS_MAE:
        *slope = sign;
        return fabs(d);
    default:
        *slope = fabs(d) <= delta ? d : delta * sign;
        return fabs(d) <= delta ? d * d / 2 : delta * (fabs(d) - delta / 2);
    }
}

static void loss_check(Rig *rig, VklLoss kind, uint64_t rows, uint64_t outputs, bool gradient, uint32_t advance, int64_t nan_at)
{
    uint64_t count = rows * outputs, out_count = VKL_STATE_LOSS + 5;
    const double delta = 0.7;
    float *predicted = rig_slot(rig, VKL_SLOT_Y, count, 1), *target = rig_slot(rig, VKL_SLOT_TARGET, count, 1);
    float *state = rig_slot(rig, VKL_SLOT_STATE, out_count, 1);
    VklOptimizerDesc optimizer = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    rig_slot(rig, VKL_SLOT_GY, count, 1);
    target[count / 2] = predicted[count / 2];
    if (nan_at >= 0)
        predicted[nan_at] = NAN;
    if (advance) {
        put_uint(&state[VKL_STATE_BATCH], 3);
        put_uint(&state[VKL_STATE_STEP], 11);
        put_uint(&state[VKL_STATE_WINDOW], 48);
        state[VKL_STATE_BIAS1] = 0.25f;
        state[VKL_STATE_BIAS2] = 0.5f;
    }
    vkl_plan_loss(&rig->plan, &(VklLossOp){.kind = kind,
                                           .delta = delta,
                                           .rows = rows,
                                           .outputs = outputs,
                                           .predicted = rig_array(rig, VKL_SLOT_Y, 0),
                                           .target = rig_array(rig, VKL_SLOT_TARGET, 0),
                                           .gradient = gradient ? rig_array(rig, VKL_SLOT_GY, 0) : VKL_NO_ARRAY,
                                           .out = rig_array(rig, VKL_SLOT_STATE, 0),
                                           .out_count = out_count,
                                           .advance = advance,
                                           .optimizer = &optimizer});
    rig_run(rig, 1);

    double sum = 0, *want = doubles(count);
    for (uint64_t i = 0; i < count; i++) {
        sum += loss_of(kind, (float)delta, (double)predicted[i] - target[i], &want[i]);
        want[i] /= (double)count;
    }
    double loss = advance ? sum : sum / (double)count;
    const float *got = rig_result(rig, VKL_SLOT_STATE);
    /* sums run in 64 lanes: 4 * 2^21 / 64 additions at most in one */
    test_compare("loss", advance ? &got[VKL_STATE_LOSS + 3] : got, &loss, 1, 2e-6);
    if (gradient)
        test_compare("gradient", rig_result(rig, VKL_SLOT_GY), want, count, 1e-6);
    if (advance) {
        cr_assert_eq(get_uint(&got[VKL_STATE_BATCH]), 4);
        cr_assert_eq(get_uint(&got[VKL_STATE_WINDOW]), 48 + rows);
        cr_assert_eq(get_uint(&got[VKL_STATE_STEP]), advance == 2 ? 12 : 11);
        const double state_want[] = {advance == 2 ? 0.9 * 0.25 + 0.1 : 0.25, advance == 2 ? 0.999 * 0.5 + 0.001 : 0.5};
        test_compare("bias corrections", &got[VKL_STATE_BIAS1], state_want, 2, 2e-7);
        for (uint64_t i = VKL_STATE_LOSS; i < out_count; i++)
            cr_assert(i == VKL_STATE_LOSS + 3 || got[i] == state[i], "the loss of another batch was changed");
    }
    free(want);
    rig_clear(rig);
}

Test(kernels, loss_and_gradient_of_every_kind_at_any_count)
{
    static const uint64_t sizes[][2] = {{1, 1}, {3, 1}, {17, 5}, {65, 1}, {257, 3}, {70001, 1}};
    Rig rig;
    rig_begin(&rig);
    for (int kind = VKL_LOSS_MSE; kind <= VKL_LOSS_HUBER; kind++)
        for (size_t s = 0; s < COUNT(sizes); s++) {
            loss_check(&rig, (VklLoss)kind, sizes[s][0], sizes[s][1], true, 0, -1);
            loss_check(&rig, (VklLoss)kind, sizes[s][0], sizes[s][1], s % 2, (uint32_t)(1 + s % 2), -1);
        }
    rig_end(&rig);
}

Test(kernels, loss_takes_as_many_numbers_as_a_plan_allows)
{
    Rig rig;
    rig_begin(&rig);
    loss_check(&rig, VKL_LOSS_MSE, 1 << 21, 1, true, 0, -1);
    rig_end(&rig);
}

Test(kernels, loss_is_nan_where_a_prediction_is)
{
    Rig rig;
    rig_begin(&rig);
    for (int kind = VKL_LOSS_MSE; kind <= VKL_LOSS_HUBER; kind++)
        for (uint32_t advance = 0; advance <= 2; advance++)
            loss_check(&rig, (VklLoss)kind, 29, 3, true, advance, 66);
    rig_end(&rig);
}

/* ---- Optimizers, gradient norm, step state ---- */

typedef struct OptimizerCase {
    VklOptimizerKind kind;
    double momentum, weight_decay, clip_norm, clip_value;
} OptimizerCase;

static const OptimizerCase optimizer_cases[] = {
    {.kind = VKL_OPTIMIZER_SGD},
    {.kind = VKL_OPTIMIZER_SGD, .momentum = 0.9, .weight_decay = 0.01},
    {.kind = VKL_OPTIMIZER_SGD, .momentum = 0.5, .clip_norm = 0.3, .clip_value = 0.01},
    {.kind = VKL_OPTIMIZER_RMSPROP},
    {.kind = VKL_OPTIMIZER_RMSPROP, .momentum = 0.8, .weight_decay = 0.02, .clip_value = 0.3},
    {.kind = VKL_OPTIMIZER_ADAM},
    {.kind = VKL_OPTIMIZER_ADAM, .weight_decay = 0.05, .clip_norm = 0.5},
    {.kind = VKL_OPTIMIZER_ADAMW, .weight_decay = 0.1},
    {.kind = VKL_OPTIMIZER_ADAMW, .weight_decay = 0.01, .clip_norm = 1e6, .clip_value = 0.2},
};

/* One step of the formulas of vklstm/optimizer.h. */
static void optimizer_step(const VklOptimizerDesc *d, int t, uint64_t count, double *p, const float *grads, double *moments)
{
    double norm = 0;
    for (uint64_t i = 0; i < count; i++)
        norm += (double)grads[i] * grads[i];
    norm = sqrt(norm);
    double factor = d->clip_norm / (norm + 1e-6);
    for (uint64_t i = 0; i < count; i++) {
        double g = grads[i], *m = &moments[2 * i], *v = &moments[2 * i + 1];
        if (d->clip_norm > 0)
            g *= factor >= 1 ? 1 : factor;
        if (d->clip_value > 0)
            g = g > d->clip_value ? d->clip_value : g < -d->clip_value ? -d->clip_value : g;
        if (d->kind == VKL_OPTIMIZER_ADAMW)
            p[i] -= d->learning_rate * d->weight_decay * p[i];
        else
            g += d->weight_decay * p[i];
        if (d->kind == VKL_OPTIMIZER_SGD) {
            *m = t == 1 ? g : d->momentum * *m + g;
            p[i] -= d->learning_rate * *m;
        } else if (d->kind == VKL_OPTIMIZER_RMSPROP) {
            *v = d->alpha * *v + (1 - d->alpha) * g * g;
            double u = g / (sqrt(*v) + d->epsilon);
            *m = d->momentum > 0 ? d->momentum * *m + u : u;
            p[i] -= d->learning_rate * *m;
        } else {
            *m = d->beta1 * *m + (1 - d->beta1) * g;
            *v = d->beta2 * *v + (1 - d->beta2) * g * g;
            p[i] -= d->learning_rate * (*m / (1 - pow(d->beta1, t))) / (sqrt(*v / (1 - pow(d->beta2, t))) + d->epsilon);
        }
    }
}

static void optimizer_check(Rig *rig, const OptimizerCase *t, uint64_t count, int steps, int64_t nan_at)
{
    rig->aligned = count % 2 == 0;
    VklOptimizerDesc desc = vkl_optimizer_desc(t->kind);
    desc.learning_rate = 0.05;
    desc.momentum = t->momentum;
    desc.weight_decay = t->weight_decay;
    desc.clip_norm = t->clip_norm;
    desc.clip_value = t->clip_value;
    uint64_t partials = vkl_norm_partials(count);
    float *params = rig_slot(rig, VKL_SLOT_PARAMS, count, 1), *grads = rig_slot(rig, VKL_SLOT_GRADS, count, 0.5f);
    float *moments = rig_slot(rig, VKL_SLOT_MOMENTS, 2 * count, 1), *state = rig_slot(rig, VKL_SLOT_STATE, VKL_STATE_LOSS, 1);
    rig_slot(rig, VKL_SLOT_WORKSPACE, partials, 1);
    if (t->kind != VKL_OPTIMIZER_SGD) /* whose first step does not look at m */
        memset(moments, 0, 2 * count * sizeof(float));
    memset(state, 0, VKL_STATE_LOSS * sizeof(float));
    state[VKL_STATE_LR] = (float)desc.learning_rate;
    grads[count / 3] = 0;
    if (nan_at >= 0)
        grads[nan_at] = NAN;
    vkl_plan_optimize(&rig->plan, &(VklOptimize){.desc = &desc,
                                                 .count = count,
                                                 .params = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                                 .grads = rig_array(rig, VKL_SLOT_GRADS, 0),
                                                 .moments = rig_array(rig, VKL_SLOT_MOMENTS, 0),
                                                 .state = rig_array(rig, VKL_SLOT_STATE, 0),
                                                 .partial = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
                                                 .advance = true});
    rig_run(rig, steps);

    double *p = doubles(count), *m = doubles(2 * count);
    for (uint64_t i = 0; i < count; i++)
        p[i] = params[i];
    for (uint64_t i = 0; i < 2 * count; i++)
        m[i] = moments[i];
    for (int step = 1; step <= steps; step++)
        optimizer_step(&desc, step, count, p, grads, m);
    char name[128];
    snprintf(name, sizeof(name), "kind %d, %llu parameters, clip_norm %g, step %d", (int)t->kind, (unsigned long long)count,
             t->clip_norm, steps);
    /* a few roundings a step, each far below the parameters' size; bias corrections are good to 1e-6 */
    test_compare(name, rig_result(rig, VKL_SLOT_PARAMS), p, count, 2e-6);
    test_compare("moments", rig_result(rig, VKL_SLOT_MOMENTS), m, 2 * count, 3e-6);
    cr_assert_eq(get_uint(&rig_result(rig, VKL_SLOT_STATE)[VKL_STATE_STEP]), (uint32_t)steps);
    free(p);
    free(m);
    rig_clear(rig);
}

Test(kernels, optimizers_follow_their_formulas_over_several_steps)
{
    static const uint64_t counts[] = {1, 3, 68, 257, 4100, 4097};
    Rig rig;
    rig_begin(&rig);
    for (size_t c = 0; c < COUNT(optimizer_cases); c++)
        for (size_t i = 0; i < COUNT(counts); i++)
            optimizer_check(&rig, &optimizer_cases[c], counts[i], 1 + (int)(i + c) % 4, -1);
    rig_end(&rig);
}

Test(kernels, optimizers_work_through_windows_where_a_binding_does_not_reach)
{
    Rig rig;
    rig_begin(&rig);
    rig_narrow(&rig, 5000, 7);
    rig_clear(&rig);
    for (size_t c = 0; c < COUNT(optimizer_cases); c++)
        for (uint64_t count = 13000; count <= 13001; count++)
            optimizer_check(&rig, &optimizer_cases[c], count, 3, -1);
    rig_end(&rig);
}

Test(kernels, optimizers_keep_a_nan_gradient_visible)
{
    Rig rig;
    rig_begin(&rig);
    for (size_t c = 0; c < COUNT(optimizer_cases); c++)
        for (uint64_t count = 332; count <= 333; count++)
            optimizer_check(&rig, &optimizer_cases[c], count, 2, 70);
    rig_end(&rig);
}

Test(kernels, norm_is_that_of_all_gradients)
{
    static const uint64_t counts[] = {1, 4095, 4096, 4097, 1000003};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(counts); i++) {
        VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_SGD);
        desc.clip_norm = 2;
        float *grads = rig_slot(&rig, VKL_SLOT_GRADS, counts[i], 1), *state = rig_slot(&rig, VKL_SLOT_STATE, VKL_STATE_LOSS, 1);
        rig_slot(&rig, VKL_SLOT_PARAMS, counts[i], 1);
        rig_slot(&rig, VKL_SLOT_MOMENTS, 2 * counts[i], 1);
        rig_slot(&rig, VKL_SLOT_WORKSPACE, vkl_norm_partials(counts[i]), 1);
        state[VKL_STATE_LR] = 0;
        vkl_plan_optimize(&rig.plan, &(VklOptimize){.desc = &desc,
                                                    .count = counts[i],
                                                    .params = rig_array(&rig, VKL_SLOT_PARAMS, 0),
                                                    .grads = rig_array(&rig, VKL_SLOT_GRADS, 0),
                                                    .moments = rig_array(&rig, VKL_SLOT_MOMENTS, 0),
                                                    .state = rig_array(&rig, VKL_SLOT_STATE, 0),
                                                    .partial = rig_array(&rig, VKL_SLOT_WORKSPACE, 0)});
        rig_run(&rig, 1);
        double want[2] = {0};
        for (uint64_t j = 0; j < counts[i]; j++)
            want[1] += (double)grads[j] * grads[j];
        want[1] = sqrt(want[1]);
        want[0] = 2 / (want[1] + 1e-6) < 1 ? 2 / (want[1] + 1e-6) : 1;
        const float *got = rig_result(&rig, VKL_SLOT_STATE);
        /* no lane of a sum has more than 64 terms */
        test_compare("norm", &got[VKL_STATE_NORM], &want[1], 1, 1e-6);
        test_compare("clip", &got[VKL_STATE_CLIP], &want[0], 1, 2e-6);
        rig_clear(&rig);
    }
    rig_end(&rig);
}

/* ---- Activation backward ---- */

Test(kernels, activation_backward_is_the_derivative_by_the_value)
{
    static const uint64_t counts[] = {1, 3, 65, 1000};
    Rig rig;
    rig_begin(&rig);
    for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++)
        for (size_t n = 0; n < 2 * COUNT(counts); n++) {
            uint64_t count = counts[n / 2];
            bool in_place = n % 2;
            float *gy = rig_slot(&rig, VKL_SLOT_GY, count, 1), *y = rig_slot(&rig, VKL_SLOT_Y, count, 1);
            VklSlot out = in_place ? VKL_SLOT_GY : VKL_SLOT_DX;
            rig_slot(&rig, VKL_SLOT_DX, count, 1);
            if (count > 50) {
                gy[7] = NAN;
                y[7] = 0.5f;
                y[49] = NAN;
                y[50] = 0;
            }
            vkl_plan_activation_backward(&rig.plan, (VklActivation)activation, count, rig_array(&rig, VKL_SLOT_GY, 0),
                                         rig_array(&rig, VKL_SLOT_Y, 0), rig_array(&rig, out, 0));
            rig_run(&rig, 1);
            double *want = doubles(count);
            for (uint64_t i = 0; i < count; i++) {
                const double slope[] = {1, 1 - (double)y[i] * y[i], y[i] * (1 - (double)y[i]),
                                        y[i] > 0    ? 1
                                        : y[i] <= 0 ? 0
                                                    : (double)NAN};
                want[i] = gy[i] * slope[activation];
            }
            test_compare("gradient", rig_result(&rig, out), want, count, 1e-6);
            free(want);
            rig_clear(&rig);
        }
    rig_end(&rig);
}

/* ---- Threads of the CPU backend ---- */

static void backwards(void *user, uint32_t count, void (*task)(void *data, uint32_t index), void *data)
{
    uint32_t *calls = user;
    *calls += 1;
    while (count > 0)
        task(data, --count);
}

/* A plan with every kernel that is cut into parts, at sizes that are worth it. */
static void plan_everything(Rig *rig)
{
    enum { ROWS = 70, UNITS = 131, COUNT = 100003 };
    uint64_t n = (uint64_t)ROWS * UNITS;
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    desc.clip_norm = 1;
    rig_slot(rig, VKL_SLOT_X, 8 * n, 1);
    rig_slot(rig, VKL_SLOT_GY, 8 * n, 1);
    rig_slot(rig, VKL_SLOT_DX, 8 * n, 1);
    rig_slot(rig, VKL_SLOT_RESERVE, 8 * n, 1);
    rig_slot(rig, VKL_SLOT_Y, 2 * n, 1);
    rig_slot(rig, VKL_SLOT_WORKSPACE, 4 * n, 1);
    rig_slot(rig, VKL_SLOT_PARAMS, COUNT, 1);
    rig_slot(rig, VKL_SLOT_GRADS, COUNT, 1);
    float *moments = rig_slot(rig, VKL_SLOT_MOMENTS, 2 * COUNT + 2 + n, 1); /* and scratch, which is not compared */
    float *state = rig_slot(rig, VKL_SLOT_STATE, VKL_STATE_LOSS, 1);
    memset(moments, 0, 2 * COUNT * sizeof(float));
    memset(state, 0, VKL_STATE_LOSS * sizeof(float));
    state[VKL_STATE_LR] = 0.01f;
    rig_slot(rig, VKL_SLOT_H0, vkl_norm_partials(COUNT), 1);
    for (uint32_t form = VKL_GEMM_NN; form <= VKL_GEMM_TN; form++)
        vkl_plan_gemm(&rig->plan, &(VklGemm){.form = form,
                                             .m = ROWS,
                                             .n = UNITS,
                                             .k = 123,
                                             .a = rig_array(rig, VKL_SLOT_X, 0),
                                             .b = rig_array(rig, VKL_SLOT_GY, 0),
                                             .c = rig_array(rig, VKL_SLOT_DX, form * n),
                                             .lda = 129,
                                             .ldb = UNITS,
                                             .ldc = UNITS,
                                             .activation = VKL_ACTIVATION_TANH});
    vkl_plan_lstm_forward(&rig->plan, &(VklCellForward){.rows = ROWS,
                                                        .units = UNITS,
                                                        .h_ld = UNITS,
                                                        .gates = rig_array(rig, VKL_SLOT_RESERVE, 0),
                                                        .w_hh = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                                        .h_prev = rig_array(rig, VKL_SLOT_Y, 0),
                                                        .h_next = rig_array(rig, VKL_SLOT_Y, n),
                                                        .c_prev = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
                                                        .c_next = rig_array(rig, VKL_SLOT_WORKSPACE, n),
                                                        .keep = true});
    vkl_plan_lstm_backward(&rig->plan, &(VklCellBackward){.rows = ROWS,
                                                          .units = UNITS,
                                                          .dy_ld = UNITS,
                                                          .gates = rig_array(rig, VKL_SLOT_RESERVE, 0),
                                                          .gates_next = rig_array(rig, VKL_SLOT_RESERVE, 4 * n),
                                                          .w_hh = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                                          .dy = rig_array(rig, VKL_SLOT_GY, 0),
                                                          .dh = rig_array(rig, VKL_SLOT_MOMENTS, 2 * COUNT + 2),
                                                          .c = rig_array(rig, VKL_SLOT_WORKSPACE, n),
                                                          .c_prev = rig_array(rig, VKL_SLOT_WORKSPACE, 0),
                                                          .dc_in = rig_array(rig, VKL_SLOT_WORKSPACE, 2 * n),
                                                          .dc_out = rig_array(rig, VKL_SLOT_WORKSPACE, 3 * n)});
    vkl_plan_optimize(&rig->plan, &(VklOptimize){.desc = &desc,
                                                 .count = COUNT,
                                                 .params = rig_array(rig, VKL_SLOT_PARAMS, 0),
                                                 .grads = rig_array(rig, VKL_SLOT_GRADS, 0),
                                                 .moments = rig_array(rig, VKL_SLOT_MOMENTS, 0),
                                                 .state = rig_array(rig, VKL_SLOT_STATE, 0),
                                                 .partial = rig_array(rig, VKL_SLOT_H0, 0),
                                                 .advance = true});
}

static void rig_begin_cpu(Rig *rig, const VklContextDesc *desc)
{
    VklContext *context = NULL;
    cr_assert_eq(vkl_context_create(desc, &context), VKL_OK);
    rig_begin_on(rig, context, test_device_cpu(context));
}

Test(kernels, cpu_gives_the_same_bits_with_any_number_of_threads)
{
    uint32_t calls = 0;
    VklContextDesc descs[4];
    for (size_t i = 0; i < COUNT(descs); i++)
        descs[i] = vkl_context_desc();
    descs[1].threads = 2;
    descs[2].threads = 5;
    descs[3].threads = 3;
    descs[3].parallel = backwards;
    descs[3].parallel_user = &calls;

    Rig one;
    rig_begin_cpu(&one, &descs[0]);
    plan_everything(&one);
    rig_run(&one, 2);
    for (size_t i = 1; i < COUNT(descs); i++) {
        Rig several;
        rig_begin_cpu(&several, &descs[i]);
        plan_everything(&several);
        rig_run(&several, 2);
        cr_assert((several.context->pool != NULL) == (i < 3), "threads %u: threads of our own", descs[i].threads);
        for (int slot = 0; slot < VKL_SLOT_COUNT; slot++)
            cr_assert(!one.slots[slot].count ||
                          !memcmp(one.slots[slot].result, several.slots[slot].result,
                                  slot_elements(&one, (VklSlot)slot, one.slots[slot].count) * sizeof(float)),
                      "%s differs with %u threads", vkl_slot_name[slot], descs[i].threads);
        rig_end(&several);
    }
    cr_assert_gt(calls, 0, "the program's own parallel loop was not used");
    rig_end(&one);
}

typedef struct Nested {
    VklContext *context;
    atomic_uint inner;
} Nested;

static void inner_task(void *data, uint32_t index)
{
    (void)index;
    atomic_fetch_add(&((Nested *)data)->inner, 1);
}

static void outer_task(void *data, uint32_t index)
{
    vkl_parallel(((Nested *)data)->context, 10 + index, inner_task, data);
}

Test(kernels, parallel_loops_may_be_nested_and_run_every_task_once)
{
    VklContextDesc desc = vkl_context_desc();
    desc.threads = 3;
    Nested nested = {0};
    cr_assert_eq(vkl_context_create(&desc, &nested.context), VKL_OK);
    for (int i = 0; i < 200; i++) {
        atomic_store(&nested.inner, 0);
        vkl_parallel(nested.context, 7, outer_task, &nested);
        cr_assert_eq(atomic_load(&nested.inner), 7u * 10 + 21);
    }
    vkl_context_destroy(nested.context);
}

/* ---- Both backends ---- */

/* The same plan on the CPU and on the device of the environment: closer to each other than either is to be to the equations. */
Test(kernels, device_and_cpu_agree)
{
    Rig cpu, device;
    VklContextDesc desc = vkl_context_desc();
    rig_begin_cpu(&cpu, &desc);
    plan_everything(&cpu);
    rig_run(&cpu, 1);
    rig_begin(&device);
    plan_everything(&device);
    rig_run(&device, 1);
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++)
        if (cpu.slots[slot].count && slot != VKL_SLOT_STATE && slot != VKL_SLOT_MOMENTS)
            test_compare_f(vkl_slot_name[slot], rig_result(&device, (VklSlot)slot), rig_result(&cpu, (VklSlot)slot),
                           cpu.slots[slot].count, sum_tolerance(4 * 131));
    rig_end(&cpu);
    rig_end(&device);
}

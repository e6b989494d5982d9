/* SPDX-License-Identifier: MIT
 *
 * VklOptimizer through the public API, on the device of the environment, against steps of torch.optim (golden files) and the
 * double-precision reference. Tolerances: docs/numerics.md, "Budgets".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "harness.h"
#include "placed.h"
#include "reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Of each step; relative to the largest parameter. A parameter is rounded once or twice a step (2^-24 of it), the update has
 * about ten roundings but is smaller than the parameter. */
#define TOLERANCE_PER_STEP 2.4e-7

static VklContext *context;
static VklDevice *device;

static void begin(void)
{
    context = test_context();
    device = test_device(context);
}

static void end(void)
{
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

TestSuite(optimizer, .init = begin, .fini = end);

typedef struct Job {
    VklDevice *device;
    VklOptimizerDesc desc;
    size_t count, step;
    VklOptimizer *optimizer;
    VklStream *stream;
    Placed params, grads;
    double *want, *m, *v; /* the reference's */
} Job;

static Job job_begin(VklDevice *on, const VklOptimizerDesc *desc, size_t count, const float *start)
{
    Job job = {.device = on, .desc = *desc, .count = count};
    TEST_OK(context, vkl_optimizer_create(on, desc, count, &job.optimizer));
    TEST_OK(context, vkl_stream_create(on, &job.stream));
    job.params = placed_make(on, start, count, true);
    job.grads = placed_make(on, NULL, count, true);
    job.want = allocate(count, sizeof(double));
    job.m = allocate(count, sizeof(double));
    job.v = allocate(count, sizeof(double));
    for (size_t k = 0; k < count; k++)
        job.want[k] = start[k];
    return job;
}

static void job_end(Job *job)
{
    vkl_optimizer_destroy(job->optimizer);
    vkl_stream_destroy(job->stream);
    vkl_buffer_destroy(job->params.buffer);
    vkl_buffer_destroy(job->grads.buffer);
    free(job->want);
    free(job->m);
    free(job->v);
}

/* The reference's step, and grads on the device. */
static void job_give(Job *job, const float *grads)
{
    double *wide = allocate(job->count, sizeof(double));
    for (size_t k = 0; k < job->count; k++)
        wide[k] = grads[k];
    ref_optimizer_step(&job->desc, ++job->step, job->count, job->want, wide, job->m, job->v);
    free(wide);
    TEST_OK(context, vkl_stream_write(job->stream, job->grads.slice, grads, job->count * sizeof(float)));
}

static void job_step(Job *job, const float *grads)
{
    job_give(job, grads);
    TEST_OK(context, vkl_optimizer_step(job->optimizer, job->stream, job->params.slice, job->grads.slice));
    TEST_OK(context, vkl_stream_wait(job->stream));
    float *now = placed_take(job->device, &job->grads, "grads");
    cr_assert_eq(memcmp(now, grads, job->count * sizeof(float)), 0, "grads were changed");
    free(now);
}

static void job_check(Job *job, const char *label)
{
    char what[128];
    snprintf(what, sizeof(what), "%s, step %zu", label, job->step);
    float *params = placed_take(job->device, &job->params, what);
    test_compare(what, params, job->want, job->count, TOLERANCE_PER_STEP * (double)job->step);
    free(params);
}

Test(optimizer, steps_are_pytorchs)
{
    for (size_t k = 0; golden_optimizer[k]; k++) {
        Golden *golden = golden_open(golden_optimizer[k]);
        const VklOptimizerDesc desc = golden_optimizer_desc(golden);
        const size_t steps = golden_size(golden, "steps"), count = golden_size(golden, "count");
        const float *grads = golden_tensor(golden, "grads", steps * count),
                    *want = golden_tensor(golden, "params", steps * count);
        Job job = job_begin(device, &desc, count, golden_tensor(golden, "start", count));
        for (size_t step = 0; step < steps; step++) {
            job_step(&job, grads + step * count);
            float *params = placed_take(device, &job.params, golden_optimizer[k]);
            test_compare_f(golden_optimizer[k], params, want + step * count, count, TOLERANCE_PER_STEP * (double)(step + 1));
            free(params);
        }
        job_end(&job);
        golden_close(golden);
    }
}

/* Gradients in [-1, -0.25] and [0.25, 1]: weight decay of 0.05 cannot cancel them, even clipped. Where it does, the first steps of
 * RMSprop and Adam, which divide the gradient by its own size, blow rounding up without bound. */
static void random_grads(float *grads, size_t count, uint32_t seed)
{
    test_random(grads, count, seed, 0.75f);
    for (size_t k = 0; k < count; k++)
        grads[k] += grads[k] < 0 ? -0.25f : 0.25f;
}

/* Every kind, both clips on and off, with momentum where there is one. */
static VklOptimizerDesc variant(int number, size_t count)
{
    VklOptimizerDesc desc = vkl_optimizer_desc((VklOptimizerKind)(number % 4));
    desc.weight_decay = 0.05;
    if (desc.kind == VKL_OPTIMIZER_SGD || desc.kind == VKL_OPTIMIZER_RMSPROP)
        desc.momentum = 0.9;
    if (number & 4)
        desc.clip_norm = 0.25 * sqrt((double)count); /* about a third of the norm */
    if (number & 8)
        desc.clip_value = 0.3;
    return desc;
}

static void check_variants(VklDevice *on, size_t count)
{
    float *start = allocate(count, sizeof(float)), *grads = allocate(count, sizeof(float));
    test_random(start, count, 1, 1);
    for (int number = 0; number < 16; number++) {
        const VklOptimizerDesc desc = variant(number, count);
        char label[64];
        snprintf(label, sizeof(label), "variant %d of %zu parameters", number, count);
        Job job = job_begin(on, &desc, count, start);
        for (uint32_t step = 0; step < 3; step++) {
            random_grads(grads, count, 2 + step);
            job_step(&job, grads);
            job_check(&job, label);
        }
        job_end(&job);
    }
    free(start);
    free(grads);
}

Test(optimizer, steps_are_the_references)
{
    static const size_t counts[] = {4, 68, 4096, 4100, 20000};
    for (size_t k = 0; k < COUNT(counts); k++)
        check_variants(device, counts[k]);
}

/* Parameters, moments and the norm's chunks in several windows each. */
Test(optimizer, small_windows_give_the_same)
{
    VklDevice *narrow = device_within(context, (VklDeviceLimits){.storage_range = 32768});
    check_variants(narrow, 20004);
    vkl_device_destroy(narrow);
}

Test(optimizer, few_workgroups_on_an_axis_give_the_same)
{
    VklDevice *narrow = device_within(context, (VklDeviceLimits){.workgroups = {3, 0, 0}});
    check_variants(narrow, 20004);
    vkl_device_destroy(narrow);
}

/* Adam's correction of the first steps is advanced on the device: it must not drift. */
Test(optimizer, a_thousand_steps_of_adam)
{
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    float start[8], grads[8];
    test_random(start, 8, 1, 1);
    Job job = job_begin(device, &desc, 8, start);
    for (uint32_t step = 0; step < 1000; step++) {
        test_random(grads, 8, step, 1);
        job_give(&job, grads);
        TEST_OK(context, vkl_optimizer_step(job.optimizer, job.stream, job.params.slice, job.grads.slice));
        if (step % 50 == 49)
            TEST_OK(context, vkl_stream_wait(job.stream));
    }
    float *params = placed_take(device, &job.params, "params");
    /* roundings of a thousand steps add up like a random walk: 32 times those of one */
    test_compare("a thousand steps", params, job.want, 8, 32 * TOLERANCE_PER_STEP);
    free(params);
    job_end(&job);
}

Test(optimizer, a_nan_gradient_stays_nan)
{
    float start[68], grads[68];
    test_random(start, COUNT(start), 1, 1);
    for (int number = 0; number < 16; number++) {
        const VklOptimizerDesc desc = variant(number, COUNT(start));
        char label[64];
        snprintf(label, sizeof(label), "variant %d with a NaN", number);
        random_grads(grads, COUNT(grads), 2);
        grads[33] = NAN;
        Job job = job_begin(device, &desc, COUNT(start), start);
        job_step(&job, grads);
        job_check(&job, label);
        job_end(&job);
    }
}

Test(optimizer, a_rate_of_zero_changes_nothing)
{
    float start[68], grads[68];
    test_random(start, COUNT(start), 1, 1);
    random_grads(grads, COUNT(grads), 2);
    for (int number = 0; number < 16; number++) {
        VklOptimizerDesc desc = variant(number, COUNT(start));
        desc.learning_rate = 0;
        Job job = job_begin(device, &desc, COUNT(start), start);
        job_step(&job, grads);
        float *params = placed_take(device, &job.params, "params");
        cr_assert_eq(memcmp(params, start, sizeof(start)), 0, "variant %d", number);
        free(params);
        job_end(&job);
    }
}

Test(optimizer, prepared_steps_have_the_bits_of_direct_ones)
{
    float start[4100], grads[4100];
    test_random(start, COUNT(start), 1, 1);
    random_grads(grads, COUNT(grads), 2);
    for (int number = 0; number < 16; number++) {
        const VklOptimizerDesc desc = variant(number, COUNT(start));
        Job direct = job_begin(device, &desc, COUNT(start), start), prepared = job_begin(device, &desc, COUNT(start), start);
        for (int step = 0; step < 5; step++)
            job_step(&direct, grads);
        VklExec *exec = NULL;
        TEST_OK(context, vkl_optimizer_prepare(prepared.optimizer, prepared.params.slice, prepared.grads.slice, &exec));
        job_give(&prepared, grads);
        TEST_OK(context, vkl_exec_record(exec, prepared.stream));
        TEST_OK(context, vkl_stream_replay(prepared.stream, exec, 4));
        TEST_OK(context, vkl_stream_wait(prepared.stream));
        float *a = placed_take(device, &direct.params, "direct"), *b = placed_take(device, &prepared.params, "prepared");
        cr_assert_eq(memcmp(a, b, sizeof(start)), 0, "variant %d", number);
        free(a);
        free(b);
        vkl_exec_destroy(exec);
        job_end(&direct);
        job_end(&prepared);
    }
}

Test(optimizer, defaults_are_pytorchs)
{
    static const VklOptimizerDesc want[] = {
        {sizeof(VklOptimizerDesc), VKL_OPTIMIZER_SGD, 0.01, 0, 0, 0.9, 0.999, 0.99, 1e-8, 0, 0},
        {sizeof(VklOptimizerDesc), VKL_OPTIMIZER_RMSPROP, 0.01, 0, 0, 0.9, 0.999, 0.99, 1e-8, 0, 0},
        {sizeof(VklOptimizerDesc), VKL_OPTIMIZER_ADAM, 0.001, 0, 0, 0.9, 0.999, 0.99, 1e-8, 0, 0},
        {sizeof(VklOptimizerDesc), VKL_OPTIMIZER_ADAMW, 0.001, 0, 0.01, 0.9, 0.999, 0.99, 1e-8, 0, 0},
    };
    static const char *const names[] = {"sgd", "rmsprop", "adam", "adamw"};
    for (int k = 0; k < 4; k++) {
        VklOptimizerKind kind = (VklOptimizerKind)77;
        cr_assert(vkl_optimizer_kind(names[k], &kind));
        const VklOptimizerDesc desc = vkl_optimizer_desc(kind);
        cr_assert(desc.struct_size == want[k].struct_size && desc.kind == want[k].kind &&
                      desc.learning_rate == want[k].learning_rate && desc.momentum == want[k].momentum &&
                      desc.weight_decay == want[k].weight_decay && desc.beta1 == want[k].beta1 && desc.beta2 == want[k].beta2 &&
                      desc.alpha == want[k].alpha && desc.epsilon == want[k].epsilon && desc.clip_norm == 0 &&
                      desc.clip_value == 0,
                  "%s", names[k]);
    }
    VklOptimizerKind kind = VKL_OPTIMIZER_ADAM;
    cr_assert(!vkl_optimizer_kind("Adam", &kind) && !vkl_optimizer_kind("", &kind) && kind == VKL_OPTIMIZER_ADAM);
}

Test(optimizer, values_out_of_range_are_refused)
{
#define CREATE(kind_, field, value_, count_, word)                                                                 \
    do {                                                                                                           \
        VklOptimizerDesc bad = vkl_optimizer_desc(kind_);                                                          \
        VklOptimizer *made = NULL;                                                                                 \
        bad.field = value_;                                                                                        \
        EXPECT_REFUSAL(#field " = " #value_, vkl_optimizer_create(device, &bad, count_, &made), VKL_ERROR_INVALID, \
                       vkl_context_error(context), word);                                                          \
        cr_assert_null(made);                                                                                      \
    } while (0)
    CREATE(VKL_OPTIMIZER_SGD, struct_size, 0, 4, "struct_size");
    CREATE(VKL_OPTIMIZER_SGD, kind, (VklOptimizerKind)9, 4, "optimizer");
    CREATE(VKL_OPTIMIZER_SGD, learning_rate, -1, 4, "learning_rate");
    CREATE(VKL_OPTIMIZER_SGD, learning_rate, NAN, 4, "learning_rate");
    CREATE(VKL_OPTIMIZER_SGD, learning_rate, INFINITY, 4, "learning_rate");
    CREATE(VKL_OPTIMIZER_SGD, momentum, 1, 4, "momentum");
    CREATE(VKL_OPTIMIZER_SGD, momentum, -0.1, 4, "momentum");
    CREATE(VKL_OPTIMIZER_ADAM, momentum, 0.5, 4, "momentum");
    CREATE(VKL_OPTIMIZER_ADAM, weight_decay, -1, 4, "weight_decay");
    CREATE(VKL_OPTIMIZER_ADAM, beta1, 1, 4, "beta1");
    CREATE(VKL_OPTIMIZER_ADAM, beta2, 1, 4, "beta2");
    CREATE(VKL_OPTIMIZER_ADAM, beta2, NAN, 4, "beta2");
    CREATE(VKL_OPTIMIZER_RMSPROP, alpha, 1, 4, "alpha");
    CREATE(VKL_OPTIMIZER_ADAM, epsilon, 0, 4, "epsilon");
    CREATE(VKL_OPTIMIZER_ADAM, clip_norm, -1, 4, "clip_norm");
    CREATE(VKL_OPTIMIZER_ADAM, clip_value, NAN, 4, "clip_value");
    CREATE(VKL_OPTIMIZER_ADAM, beta1, 0.9, 0, "count");
    CREATE(VKL_OPTIMIZER_ADAM, beta1, 0.9, 6, "count");

    float start[8] = {0};
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    Job job = job_begin(device, &desc, 8, start);
    const VklSlice params = job.params.slice, grads = job.grads.slice, none = {NULL, 0};
    const struct {
        VklSlice params, grads;
        const char *word;
    } calls[] = {
        {none, grads, "params"},
        {params, none, "grads"},
        {vkl_slice(params.buffer, params.offset + 4), grads, "params"},
        {vkl_slice(params.buffer, params.offset + 16), grads, "params"},
        {params, vkl_slice(grads.buffer, grads.offset + 4), "grads"},
        {params, vkl_slice(grads.buffer, grads.offset + 16), "grads"},
    };
    for (size_t k = 0; k < COUNT(calls); k++)
        EXPECT_REFUSAL(calls[k].word, vkl_optimizer_step(job.optimizer, job.stream, calls[k].params, calls[k].grads),
                       VKL_ERROR_INVALID, vkl_optimizer_error(job.optimizer), calls[k].word);
    job_end(&job);
    vkl_optimizer_destroy(NULL);
}

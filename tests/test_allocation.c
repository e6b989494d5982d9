/* SPDX-License-Identifier: MIT
 *
 * Training allocates what it needs before its first epoch ends, and nothing after: the linker puts the functions below in place of the
 * library's calls of malloc() and its kin (--wrap). */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "harness.h"

static atomic_ulong calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_malloc(size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __real_realloc(memory, size);
}

enum { WINDOWS = 100, STEPS = 6, EPOCHS = 6 };

static bool note(void *user, const VklEpoch *epoch)
{
    ((unsigned long *)user)[epoch->epoch] = atomic_load(&calls);
    return true;
}

Test(allocation, training_allocates_nothing_after_its_first_epoch)
{
    static const struct {
        const char *layers;
        bool validate;
    } cases[] = {{"lstm:20,dense:1", false}, {"bigru:9,rnn:5,dropout:0.2,dense:1", true}};
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    float series[WINDOWS + STEPS], targets[WINDOWS];
    uint32_t starts[WINDOWS];
    for (int i = 0; i < WINDOWS + STEPS; i++)
        series[i] = sinf(0.3f * (float)i);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        starts[i] = i;
        targets[i] = series[i + STEPS];
    }
    VklWindows windows = {.struct_size = sizeof(VklWindows),
                          .count = WINDOWS,
                          .steps = STEPS,
                          .features = 1,
                          .outputs = 1,
                          .rows = WINDOWS + STEPS,
                          .series = series,
                          .starts = starts,
                          .targets = targets};
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        VklLayerDesc layers[8];
        uint32_t count = 8;
        unsigned long seen[EPOCHS + 1] = {0};
        VklModel *model;
        VklFitDesc fit = vkl_fit_desc();
        VklFitResult result;
        TEST_OK(context, vkl_layers_parse(context, cases[k].layers, layers, &count));
        TEST_OK(context, vkl_model_create(device, 1, layers, count, 3, &model));
        fit.epochs = EPOCHS;
        fit.batch_size = 7; /* the last batch of an epoch is a smaller one */
        fit.on_epoch = note;
        fit.user = seen;
        unsigned long before = atomic_load(&calls);
        TEST_OK(context, vkl_model_fit(model, &windows, cases[k].validate ? &windows : NULL, &fit, &result));
        cr_assert_gt(seen[1], before, "nothing was counted");
        for (int epoch = 2; epoch <= EPOCHS; epoch++)
            cr_assert_eq(seen[epoch], seen[1], "%s: %lu allocations in epoch %d", cases[k].layers, seen[epoch] - seen[epoch - 1],
                         epoch);
        vkl_model_destroy(model);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

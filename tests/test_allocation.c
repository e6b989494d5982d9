/* SPDX-License-Identifier: MIT
 *
 * Where host memory comes from, and when. That every allocation may fail is for faults.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"
#include "heap.h"
#include "memory.h"

/* ---- Blocks ---- */

Test(allocation, blocks_come_from_the_callbacks_or_from_the_c_library)
{
    Heap heap = {0};
    const VklHostMemory callbacks = heap_memory(&heap), none = {0};
    const VklHostMemory *const sources[] = {NULL, &none, &callbacks};
    for (size_t s = 0; s < sizeof(sources) / sizeof(*sources); s++) {
        unsigned char *block = vkl_allocate(sources[s], 17, 3);
        cr_assert(block && (uintptr_t)block % 16 == 0, "source %zu", s);
        for (size_t i = 0; i < 51; i++)
            cr_assert_eq(block[i], 0, "source %zu: byte %zu is not zero", s, i);
        memset(block, 7, 51);
        block = vkl_reallocate(sources[s], block, 1000, 5);
        cr_assert(block && (uintptr_t)block % 16 == 0, "source %zu", s);
        for (size_t i = 0; i < 51; i++)
            cr_assert_eq(block[i], 7, "source %zu: byte %zu is lost", s, i);
        block[4999] = 1;
        vkl_release(block);

        for (int zero = 0; zero < 2; zero++) {
            float *aligned = vkl_allocate_aligned(sources[s], 65, sizeof(float), zero);
            cr_assert(aligned && (uintptr_t)aligned % VKL_ALIGNMENT == 0, "source %zu", s);
            for (size_t i = 0; i < 65; i++) {
                cr_assert(!zero || aligned[i] == 0);
                aligned[i] = 1;
            }
            vkl_release(aligned);
        }

        char *text = vkl_copy_text(sources[s], "seventeen letters");
        cr_assert_str_eq(text, "seventeen letters");
        vkl_release(text);
        void *nothing = vkl_allocate(sources[s], 0, 8), *grown = vkl_reallocate(sources[s], NULL, 3, 8);
        cr_assert(nothing && grown && nothing != grown);
        vkl_release(nothing);
        vkl_release(grown);
        vkl_release(NULL);
    }
    cr_assert_eq(atomic_load(&heap.live), 0);
    cr_assert_eq(atomic_load(&heap.calls), 7);
    cr_assert_eq(atomic_load(&heap.aligned), 2);
}

Test(allocation, sizes_that_do_not_fit_are_refused_before_anybody_is_asked)
{
    static const struct {
        uint64_t count;
        size_t size;
    } cases[] = {{UINT64_MAX, 1}, {UINT64_MAX / 2, 4}, {SIZE_MAX, 2}, {2, SIZE_MAX}, {PTRDIFF_MAX, 1}};
    Heap heap = {0};
    const VklHostMemory callbacks = heap_memory(&heap);
    const VklHostMemory *const sources[] = {NULL, &callbacks};
    for (size_t s = 0; s < 2; s++)
        for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
            cr_assert_null(vkl_allocate(sources[s], cases[k].count, cases[k].size), "case %zu", k);
            cr_assert_null(vkl_allocate_aligned(sources[s], cases[k].count, cases[k].size, true), "case %zu", k);
            char *old = vkl_copy_text(sources[s], "kept");
            cr_assert_null(vkl_reallocate(sources[s], old, cases[k].count, cases[k].size), "case %zu", k);
            cr_assert_str_eq(old, "kept");
            vkl_release(old);
        }
    cr_assert_eq(atomic_load(&heap.live), 0);
    cr_assert_eq(atomic_load(&heap.largest), 32 + sizeof("kept"), "a header and the text");
}

/* ---- A context ---- */

enum { SENTENCE = 512 };

static void keep_sentence(void *user, VklLogLevel level, const char *message)
{
    if (level == VKL_LOG_ERROR)
        snprintf(user, SENTENCE, "%s", message);
}

Test(allocation, one_callback_alone_is_refused)
{
    Heap heap = {0};
    for (int missing = 0; missing < 2; missing++) {
        char sentence[SENTENCE] = "";
        VklContext *context = NULL;
        VklContextDesc desc = vkl_context_desc();
        desc.log = keep_sentence;
        desc.log_user = sentence;
        desc.memory = heap_memory(&heap);
        if (missing)
            desc.memory.release = NULL;
        else
            desc.memory.allocate = NULL;
        cr_assert_eq(vkl_context_create(&desc, &context), VKL_ERROR_INVALID);
        cr_assert_null(context);
        cr_assert(strstr(sentence, missing ? "memory.release is NULL" : "memory.allocate is NULL"), "%s", sentence);
    }
    cr_assert_eq(atomic_load(&heap.calls), 0);
}

Test(allocation, buffers_of_the_cpu_are_the_callers_memory)
{
    static const uint64_t sizes[] = {4, 12, 68, 260, 1028, UINT64_C(1) << 20};
    Heap heap = {0};
    VklContext *context = test_context_with(heap_memory(&heap));
    VklDevice *device = test_device_cpu(context);
    for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
        VklBuffer *buffer;
        unsigned long bytes = atomic_load(&heap.bytes);
        TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, sizes[k], &buffer));
        const unsigned char *data = vkl_buffer_data(buffer);
        cr_assert_eq((uintptr_t)data % 64, 0, "%p", (const void *)data);
        for (uint64_t i = 0; i < sizes[k]; i++)
            cr_assert_eq(data[i], 0, "byte %llu of %llu", (unsigned long long)i, (unsigned long long)sizes[k]);
        cr_assert_geq(atomic_load(&heap.bytes) - bytes, sizes[k]);
        vkl_buffer_destroy(buffer);
        cr_assert_eq(atomic_load(&heap.bytes), bytes);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    cr_assert_eq(atomic_load(&heap.live), 0, "%lu blocks, %lu bytes", atomic_load(&heap.live), atomic_load(&heap.bytes));
}

/* ---- Training ---- */

enum { WINDOWS = 100, STEPS = 6, EPOCHS = 6 };

typedef struct Seen {
    Heap heap;
    unsigned long calls[EPOCHS + 1]; /* at the end of each epoch */
} Seen;

static bool note(void *user, const VklEpoch *epoch)
{
    Seen *seen = user;
    seen->calls[epoch->epoch] = atomic_load(&seen->heap.calls);
    return true;
}

Test(allocation, training_allocates_nothing_after_its_first_epoch)
{
    static const struct {
        const char *layers;
        bool validate;
    } cases[] = {{"lstm:20,dense:1", false}, {"bigru:9,rnn:5,dropout:0.2,dense:1", true}};
    Seen seen = {0};
    VklContext *context = test_context_with(heap_memory(&seen.heap));
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
        VklModel *model;
        VklFitDesc fit = vkl_fit_desc();
        VklFitResult result;
        TEST_OK(context, vkl_layers_parse(context, cases[k].layers, layers, &count));
        TEST_OK(context, vkl_model_create(device, 1, layers, count, 3, &model));
        fit.epochs = EPOCHS;
        fit.batch_size = 7; /* the last batch of an epoch is a smaller one */
        fit.on_epoch = note;
        fit.user = &seen;
        unsigned long before = atomic_load(&seen.heap.calls);
        TEST_OK(context, vkl_model_fit(model, &windows, cases[k].validate ? &windows : NULL, &fit, &result));
        cr_assert_gt(seen.calls[1], before, "nothing was counted");
        for (int epoch = 2; epoch <= EPOCHS; epoch++)
            cr_assert_eq(seen.calls[epoch], seen.calls[1], "%s: %lu allocations in epoch %d", cases[k].layers,
                         seen.calls[epoch] - seen.calls[epoch - 1], epoch);
        vkl_model_destroy(model);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    cr_assert_eq(atomic_load(&seen.heap.live), 0, "%lu blocks, %lu bytes", atomic_load(&seen.heap.live),
                 atomic_load(&seen.heap.bytes));
}

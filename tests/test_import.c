/* SPDX-License-Identifier: MIT
 *
 * A program with a Vulkan device of its own: imports it, wraps its command buffers and buffers, and keeps using it afterwards.
 *
 * The loader function that the program hands over may be a spy, which counts calls, makes one of them fail, or shows memory that lies
 * apart from the host as on a card: what software devices never do by themselves. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "spy.h"

static unsigned spy_created(void)
{
    return spy_calls("vkCreate") + spy_calls("vkAllocate");
}

/* ---- The guest ---- */

static VklVulkanImport import_of(const App *app)
{
    VklVulkanImport import = spy_import(app);
    import.limits = test_limits();
    return import;
}

static VklDevice *import_device(VklContext *context, const App *app)
{
    VklVulkanImport import = import_of(app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    return device;
}

enum { T = 5, N = 3, I = 2, H = 7, LAYERS = 2 };

typedef struct Lstm {
    VklRnn *rnn;
    VklRnnSizes sizes;
    float *params, x[T * N * I];
} Lstm;

static Lstm lstm_of(VklContext *context, VklDevice *device)
{
    Lstm made = {0};
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    desc.layers = LAYERS;
    TEST_OK(context, vkl_rnn_create(device, &desc, &made.rnn));
    TEST_OK(context, vkl_rnn_sizes(made.rnn, T, N, &made.sizes));
    made.params = malloc(made.sizes.params);
    cr_assert_not_null(made.params);
    TEST_OK(context, vkl_rnn_init(made.rnn, 7, made.params));
    test_random(made.x, T * N * I, 3, 1);
    return made;
}

static void lstm_finish(Lstm *lstm)
{
    vkl_rnn_destroy(lstm->rnn);
    free(lstm->params);
}

/* The same on the CPU backend. */
static void expected(VklContext *context, float y[T * N * H])
{
    VklDevice *device = test_device_cpu(context);
    Lstm lstm = lstm_of(context, device);
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklBuffer *params = test_buffer(device, lstm.params, lstm.sizes.params / 4);
    VklBuffer *x = test_buffer(device, lstm.x, T * N * I), *out = test_buffer(device, NULL, T * N * H);
    VklBuffer *workspace = test_buffer(device, NULL, lstm.sizes.forward_workspace / 4);
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(params, 0);
    forward.x = vkl_slice(x, 0);
    forward.y = vkl_slice(out, 0);
    forward.workspace = vkl_slice(workspace, 0);
    TEST_OK(context, vkl_rnn_forward(lstm.rnn, stream, &forward));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, out, y, T * N * H);
    VklBuffer *buffers[] = {params, x, out, workspace};
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_stream_destroy(stream);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
}

/* Two backends add in another order and have other exponentials: 24 bits of which a few are lost over T steps. */
#define TOLERANCE 1e-5

typedef struct Wrapped {
    AppBuffer own[4];
    VklBuffer *buffers[4];
    VklRnnForward forward;
} Wrapped;

static Wrapped wrap_all(App *app, VklContext *context, VklDevice *device, const Lstm *lstm)
{
    const uint64_t bytes[4] = {lstm->sizes.params, sizeof(lstm->x), T * N * H * sizeof(float), lstm->sizes.forward_workspace};
    Wrapped made;
    for (int i = 0; i < 4; i++) {
        made.own[i] = app_buffer(app, bytes[i]);
        TEST_OK(context, vkl_buffer_wrap_vulkan(device, made.own[i].handle, bytes[i], &made.buffers[i]));
        cr_assert_eq(vkl_buffer_size(made.buffers[i]), bytes[i]);
        cr_assert_null(vkl_buffer_data(made.buffers[i]));
    }
    memcpy(made.own[0].host, lstm->params, lstm->sizes.params);
    memcpy(made.own[1].host, lstm->x, sizeof(lstm->x));
    made.forward = vkl_rnn_forward_args(T, N);
    made.forward.params = vkl_slice(made.buffers[0], 0);
    made.forward.x = vkl_slice(made.buffers[1], 0);
    made.forward.y = vkl_slice(made.buffers[2], 0);
    made.forward.workspace = vkl_slice(made.buffers[3], 0);
    return made;
}

static void wrapped_finish(App *app, Wrapped *wrapped)
{
    for (int i = 0; i < 4; i++) {
        vkl_buffer_destroy(wrapped->buffers[i]);
        app_buffer_destroy(app, &wrapped->own[i]);
    }
}

Test(import, records_into_the_callers_command_buffer)
{
    App app = app_start();
    VklContext *context = test_context();
    float want[T * N * H];
    expected(context, want);
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    AppBuffer copy = app_buffer(&app, sizeof(want));

    VklStream *stream = NULL;
    app_begin(app.commands);
    /* earlier transfers of the caller's are waited for: x is copied in place here, from a copy */
    AppBuffer x = app_buffer(&app, sizeof(lstm.x));
    memcpy(x.host, lstm.x, sizeof(lstm.x));
    memset(wrapped.own[1].host, 0, sizeof(lstm.x));
    VkBufferCopy whole_x = {.size = sizeof(lstm.x)};
    vk.vkCmdCopyBuffer(app.commands, x.handle, wrapped.own[1].handle, 1, &whole_x);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    TEST_OK(context, vkl_rnn_forward(lstm.rnn, stream, &wrapped.forward));
    app_barrier(app.commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT,
                VK_ACCESS_TRANSFER_READ_BIT);
    VkBufferCopy whole = {.size = sizeof(want)};
    vk.vkCmdCopyBuffer(app.commands, wrapped.own[2].handle, copy.handle, 1, &whole);
    cr_assert_eq(spy_calls("vkQueueSubmit"), 0u, "recording submits nothing");
    app_run(&app, app.commands);
    test_compare_f("y", copy.host, want, T * N * H, TOLERANCE);

    vkl_stream_destroy(stream);
    app_buffer_destroy(&app, &x);
    app_buffer_destroy(&app, &copy);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(import, copies_and_fills_in_the_callers_command_buffer)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    AppBuffer own[2] = {app_buffer(&app, 256), app_buffer(&app, 256)};
    VklBuffer *wrapped[2];
    for (int i = 0; i < 2; i++)
        TEST_OK(context, vkl_buffer_wrap_vulkan(device, own[i].handle, 256, &wrapped[i]));
    VklStream *stream = NULL;
    app_begin(app.commands);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(wrapped[0], 0), 3, 256));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(wrapped[0], 4), 5, 8));
    TEST_OK(context, vkl_stream_copy(stream, vkl_slice(wrapped[1], 12), vkl_slice(wrapped[0], 0), 16));
    app_run(&app, app.commands);
    const uint32_t want[] = {0, 0, 0, 3, 5, 5, 3, 0};
    cr_assert(!memcmp(own[1].host, want, sizeof(want)));
    vkl_stream_destroy(stream);
    for (int i = 0; i < 2; i++) {
        vkl_buffer_destroy(wrapped[i]);
        app_buffer_destroy(&app, &own[i]);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(import, works_with_streams_and_buffers_of_the_librarys_own)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    const float want[3] = {1, 2, 3};
    float got[3];
    VklBuffer *buffer = test_buffer(device, want, 3);
    test_read(device, buffer, got, 3);
    cr_assert(!memcmp(got, want, sizeof(want)));

    /* and the caller reads that buffer with commands of its own */
    VkBuffer handle;
    VkDeviceSize offset;
    TEST_OK(context, vkl_buffer_vulkan(buffer, &handle, &offset));
    AppBuffer own = app_buffer(&app, sizeof(want));
    app_begin(app.commands);
    VkBufferCopy region = {.srcOffset = offset, .size = sizeof(want)};
    vk.vkCmdCopyBuffer(app.commands, handle, own.handle, 1, &region);
    app_run(&app, app.commands);
    cr_assert(!memcmp(own.host, want, sizeof(want)));

    app_buffer_destroy(&app, &own);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(import, recording_prepared_work_allocates_nothing)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));
    cr_assert_gt(spy_calls("vkUpdateDescriptorSets"), 0u);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    app_begin(app.commands);
    const unsigned created = spy_created(), updated = spy_calls("vkUpdateDescriptorSets");
    for (int i = 0; i < 100; i++)
        TEST_OK(context, vkl_exec_record(exec, stream));
    cr_assert_eq(spy_created(), created);
    cr_assert_eq(spy_calls("vkUpdateDescriptorSets"), updated);
    cr_assert_eq(spy_calls("vkQueueSubmit"), 0u);
    app_run(&app, app.commands);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

typedef struct Recorder {
    VklDevice *device;
    VklExec *exec;
    VkCommandBuffer commands;
    VklStatus status;
} Recorder;

static void *record(void *data)
{
    Recorder *recorder = data;
    VklStream *stream = NULL;
    recorder->status = vkl_stream_wrap_vulkan(recorder->device, recorder->commands, &stream);
    for (int i = 0; i < 50 && !recorder->status; i++)
        recorder->status = vkl_exec_record(recorder->exec, stream);
    vkl_stream_destroy(stream); /* the caller's own reference keeps the exec alive */
    return NULL;
}

Test(import, two_threads_record_one_exec)
{
    App app = app_start();
    VklContext *context = test_context();
    float want[T * N * H];
    expected(context, want);
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));

    Recorder recorders[2];
    VkCommandPool pools[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        pools[i] = app_pool(&app);
        recorders[i] = (Recorder){.device = device, .exec = exec, .commands = app_commands(&app, pools[i])};
        app_begin(recorders[i].commands);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, record, &recorders[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        TEST_OK(context, recorders[i].status);
        memset(wrapped.own[2].host, 0, sizeof(want));
        app_run(&app, recorders[i].commands);
        test_compare_f("y", wrapped.own[2].host, want, T * N * H, TOLERANCE);
        vk.vkDestroyCommandPool(app.device, pools[i], NULL);
    }
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- Locks, limits, features ---- */

typedef struct Lock {
    uint32_t family, index;
    unsigned locked, unlocked;
} Lock;

static void lock(void *user, uint32_t family, uint32_t index)
{
    Lock *state = user;
    cr_assert_eq(state->locked, state->unlocked, "locked twice");
    cr_assert_eq(family, state->family);
    cr_assert_eq(index, state->index);
    state->locked++;
}

static void unlock(void *user, uint32_t family, uint32_t index)
{
    Lock *state = user;
    (void)family, (void)index;
    state->unlocked++;
    cr_assert_eq(state->locked, state->unlocked);
}

Test(import, locks_the_queue_around_each_use)
{
    App app = app_start();
    Lock state = {.family = app.family};
    VklContext *context = test_context();
    VklVulkanImport import = import_of(&app);
    import.lock_queue = lock;
    import.unlock_queue = unlock;
    import.lock_user = &state;
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    VklBuffer *buffer = NULL;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &buffer));
    TEST_OK(context, vkl_stream_create(device, &stream));
    for (int i = 0; i < 5; i++) {
        TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64));
        TEST_OK(context, vkl_stream_submit(stream, NULL));
    }
    TEST_OK(context, vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    cr_assert_eq(spy_calls("vkQueueSubmit"), state.locked);
    cr_assert_eq(state.locked, state.unlocked);
    cr_assert_geq(state.locked, 5u);
    app_check_usable(&app);
    app_stop(&app);
}

Test(import, keeps_to_lower_limits)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDeviceLimits limits = {.storage_range = 1 << 16, .allocation_size = 1 << 20};
    VklVulkanImport import = import_of(&app);
    import.limits = &limits;
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert_eq(info.limits.storage_range, (uint64_t)1 << 16);
    VklBuffer *buffer = NULL;
    cr_assert_eq(vkl_buffer_create(device, VKL_BUFFER_DEVICE, (1 << 20) + 4, &buffer), VKL_ERROR_LIMIT);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* A device cannot be asked what was enabled: what is not named is off, whatever the driver can do. */
Test(import, takes_features_and_extensions_from_the_caller)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert(!info.features.timeline_semaphore && !info.features.shader_float16 && !info.features.storage_16bit &&
              !info.features.subgroup_size_control && !info.features.cooperative_matrix);
    vkl_device_destroy(device);

    VkPhysicalDeviceVulkan12Features vulkan12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
    };
    VkPhysicalDevice16BitStorageFeatures storage = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .pNext = &vulkan12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &storage};
    const char *extensions[] = {"VK_EXT_something", "VK_KHR_cooperative_matrix"};
    VklVulkanImport import = import_of(&app);
    import.features = &features;
    import.extensions = extensions;
    import.extension_count = 2;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    vkl_device_info(device, &info);
    cr_assert(info.features.timeline_semaphore && !info.features.shader_float16 && info.features.storage_16bit &&
              !info.features.subgroup_size_control && info.features.cooperative_matrix);
    /* the extension alone allows no kernel to use it */
    cr_assert_eq(info.features.cooperative_shape[0], 0);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- Wrong use ---- */

Test(import, wrong_arguments_are_refused)
{
    App app = app_start();
    VklContext *context = test_context();
    const VklVulkanImport good = import_of(&app);
    VklVulkanImport bad[12];
    for (int i = 0; i < 12; i++)
        bad[i] = good;
    const char *extension = NULL;
    bad[0].struct_size = 8;
    bad[1].get_instance_proc_addr = NULL;
    bad[2].instance = VK_NULL_HANDLE;
    bad[3].physical_device = VK_NULL_HANDLE;
    bad[4].device = VK_NULL_HANDLE;
    bad[5].queue = VK_NULL_HANDLE;
    bad[6].lock_queue = lock;
    bad[7].queue_family = 99;
    bad[8].queue_index = 99;
    bad[9].extensions = NULL;
    bad[9].extension_count = 1;
    bad[10].extensions = &extension;
    bad[10].extension_count = 1;
    bad[11].api_version = VK_API_VERSION_1_0;
    static const char *const words[12] = {
        "struct_size",  "get_instance_proc_addr", "instance",          "physical_device", "device",        "queue",
        "unlock_queue", "queue_family is 99",     "queue_index is 99", "extensions",      "extensions[0]", "1.0",
    };
    for (int i = 0; i < 12; i++) {
        VklDevice *device = NULL;
        VklStatus status = vkl_device_import_vulkan(context, &bad[i], &device);
        cr_assert_eq(status, i == 11 ? VKL_ERROR_UNSUPPORTED : VKL_ERROR_INVALID, "case %d: %d", i, (int)status);
        cr_assert_not_null(strstr(vkl_context_error(context), words[i]), "case %d: %s", i, vkl_context_error(context));
        cr_assert_null(device);
    }
    cr_assert_eq(vkl_device_import_vulkan(context, &good, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_import_vulkan(context, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_import_vulkan(NULL, &good, NULL), VKL_ERROR_INVALID);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(import, a_function_that_is_not_given_is_named)
{
    static const char *const missing[] = {"vkGetPhysicalDeviceProperties2", "vkGetDeviceProcAddr", "vkCmdDispatch",
                                          "vkQueueSubmit"};
    App app = app_start();
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++) {
        spy.missing = missing[i];
        VklVulkanImport import = import_of(&app);
        VklDevice *device = NULL;
        cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_UNSUPPORTED);
        cr_assert_not_null(strstr(vkl_context_error(context), missing[i]), "%s", vkl_context_error(context));
    }
    vkl_context_destroy(context);
    app_stop(&app);
}

Test(import, wrapped_streams_only_record)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    VklFence *fence = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    float number = 0;
    cr_assert_eq(vkl_stream_write(stream, wrapped.forward.x, &number, 4), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_read(stream, wrapped.forward.x, &number, 4), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_submit(stream, &fence), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_wait(stream), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_replay(stream, exec, 1), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_profile(stream, true), VKL_ERROR_UNSUPPORTED);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

Test(import, what_cannot_be_wrapped_is_refused)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app), *cpu = test_device_cpu(context);
    AppBuffer own = app_buffer(&app, 64);
    VklBuffer *buffer = NULL, *cpu_buffer = test_buffer(cpu, NULL, 4);
    VklStream *stream = NULL;
    VkBuffer handle;
    VkDeviceSize offset;
    cr_assert_eq(vkl_stream_wrap_vulkan(cpu, app.commands, &stream), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_buffer_wrap_vulkan(cpu, own.handle, 64, &buffer), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_buffer_vulkan(cpu_buffer, &handle, &offset), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_wrap_vulkan(device, VK_NULL_HANDLE, &stream), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_stream_wrap_vulkan(NULL, app.commands, &stream), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, VK_NULL_HANDLE, 64, &buffer), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, own.handle, 0, &buffer), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, own.handle, 62, &buffer), VKL_ERROR_INVALID);
    cr_assert_null(stream);
    cr_assert_null(buffer);
    app_buffer_destroy(&app, &own);
    vkl_buffer_destroy(cpu_buffer);
    vkl_device_destroy(cpu);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- A device unlike the software ones ---- */

Test(spy, device_memory_apart_from_the_host_works_alike)
{
    App app = app_start();
    spy.apart = true;
    spy.real_type = app_visible_type(&app, UINT32_MAX);
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert(info.features.unified_memory, "the heap is one"); /* both types lie in it */
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    enum { WORDS = 3000 };
    uint32_t *words = malloc(WORDS * 4), *got = malloc(WORDS * 4);
    for (uint32_t round = 0; round < 3; round++) {
        VklBuffer *buffer = NULL, *down = NULL;
        TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, WORDS * 4, &buffer));
        TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_READBACK, WORDS * 4, &down));
        TEST_OK(context, vkl_stream_read(stream, vkl_slice(buffer, 0), got, WORDS * 4));
        TEST_OK(context, vkl_stream_wait(stream));
        for (uint32_t i = 0; i < WORDS; i++) {
            cr_assert_eq(got[i], 0u, "round %u, word %u", round, i);
            words[i] = i * 7 + round;
        }
        TEST_OK(context, vkl_stream_write(stream, vkl_slice(buffer, 4), words, WORDS * 4 - 4));
        TEST_OK(context, vkl_stream_copy(stream, vkl_slice(down, 0), vkl_slice(buffer, 4), WORDS * 4 - 4));
        TEST_OK(context, vkl_stream_wait(stream));
        TEST_OK(context, vkl_buffer_invalidate(down, 4, WORDS * 4 - 4));
        cr_assert(!memcmp(vkl_buffer_data(down), words, WORDS * 4 - 4));
        vkl_buffer_destroy(buffer);
        vkl_buffer_destroy(down);
    }
    cr_assert_gt(spy_calls("vkFlushMappedMemoryRanges"), 0u);
    cr_assert_gt(spy_calls("vkInvalidateMappedMemoryRanges"), 0u);
    free(words);
    free(got);
    vkl_stream_destroy(stream);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

/* Everything that a guest does, stopping at the first failure. Whatever fails, all that was made is destroyed. */
static VklStatus visit(const App *app, VklContext *context)
{
    VklVulkanImport import = import_of(app);
    VklDevice *device = NULL;
    VklRnn *rnn = NULL;
    VklStream *stream = NULL;
    VklExec *exec = NULL;
    VklFence *fence = NULL;
    VklBuffer *buffers[5] = {NULL};
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    VklRnnSizes sizes;
    float x[T * N * I] = {1, 2, 3}, y[T * N * H];

    VklStatus status = vkl_device_import_vulkan(context, &import, &device);
    if (!status)
        status = vkl_rnn_create(device, &desc, &rnn);
    if (!status)
        status = vkl_rnn_sizes(rnn, T, N, &sizes);
    const uint64_t bytes[] = {status ? 4 : sizes.params, sizeof(x), sizeof(y), status ? 4 : sizes.forward_workspace, 20};
    for (int i = 0; i < 5 && !status; i++)
        status = vkl_buffer_create(device, i == 4 ? VKL_BUFFER_UPLOAD : VKL_BUFFER_DEVICE, bytes[i], &buffers[i]);
    if (!status)
        status = vkl_stream_create(device, &stream);
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(buffers[0], 0);
    forward.x = vkl_slice(buffers[1], 0);
    forward.y = vkl_slice(buffers[2], 0);
    forward.workspace = vkl_slice(buffers[3], 0);
    for (int round = 0; round < 2 && !status; round++) {
        status = vkl_stream_write(stream, forward.x, x, sizeof(x));
        if (!status)
            status = vkl_rnn_forward(rnn, stream, &forward);
        if (!status)
            status = vkl_stream_submit(stream, round ? NULL : &fence);
        if (!status)
            status = vkl_stream_read(stream, forward.y, y, sizeof(y));
        if (!status)
            status = vkl_stream_wait(stream);
    }
    if (!status)
        status = vkl_rnn_prepare_forward(rnn, &forward, &exec);
    if (!status)
        status = vkl_stream_replay(stream, exec, 300);
    if (!status)
        status = vkl_fence_wait(fence, UINT64_MAX);
    if (!status)
        status = vkl_stream_wait(stream);

    vkl_fence_destroy(fence);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    vkl_rnn_destroy(rnn);
    for (int i = 0; i < 5; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_device_destroy(device);
    return status;
}

/* A buffer that finds no memory is tried again, after destroyed ones are freed, and a block in a smaller size. A wait that fails while
 * something is destroyed has nobody to tell, and is replaced by another. */
static bool is_mended(const char *call, VkResult failure)
{
    static const char *const of_buffers[] = {"vkCreateBuffer", "vkAllocateMemory", "vkMapMemory", "vkBindBufferMemory"};
    for (size_t i = 0; i < sizeof(of_buffers) / sizeof(*of_buffers); i++)
        if (failure == VK_ERROR_OUT_OF_DEVICE_MEMORY && !strcmp(call, of_buffers[i]))
            return true;
    return !strcmp(call, "vkWaitForFences");
}

/* Makes each call in turn fail. Validation reports what is leaked when the program destroys its device, AddressSanitizer the rest. */
static void sweep(bool apart, VkResult failure, VklStatus want, const char *only)
{
    App app = app_start();
    spy.apart = apart;
    spy.real_type = app_visible_type(&app, UINT32_MAX);
    VklContext *context = test_context();
    int call = 1;
    for (;; call++) {
        spy.until_failure = call;
        spy.failure = failure;
        spy.only = only;
        spy.failed = NULL;
        VklStatus status = visit(&app, context);
        if (spy.until_failure)
            break; /* fewer calls than that */
        if (!status) {
            cr_assert(is_mended(spy.failed, failure), "%s, call %d: nobody noticed", spy.failed, call);
            continue;
        }
        cr_assert_eq(status, want, "%s, call %d: status %d (%s)", spy.failed, call, (int)status, vkl_context_error(context));
        cr_assert_not_null(strstr(vkl_context_error(context), spy.failed), "%s, call %d: %s", spy.failed, call,
                           vkl_context_error(context));
    }
    cr_assert_gt(call, 2, "nothing failed");
    spy.until_failure = 0;
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(spy, host_memory_may_be_refused_anywhere)
{
    sweep(false, VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, NULL);
}

Test(spy, host_memory_may_be_refused_anywhere_with_memory_apart)
{
    sweep(true, VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, NULL);
}

Test(spy, device_memory_may_be_refused_anywhere)
{
    sweep(false, VK_ERROR_OUT_OF_DEVICE_MEMORY, VKL_ERROR_DEVICE_MEMORY, NULL);
}

Test(spy, device_may_be_lost_at_a_submit)
{
    sweep(false, VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST, "vkQueueSubmit");
}

Test(spy, device_may_be_lost_at_a_wait)
{
    sweep(false, VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST, "vkWaitForFences");
}

Test(spy, a_lost_device_stays_lost)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklBuffer *buffer = NULL, *second = NULL;
    VklStream *stream = NULL;
    VklFence *fence = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &buffer));
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64));
    TEST_OK(context, vkl_stream_submit(stream, &fence));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 2, 64));
    spy.only = "vkQueueSubmit";
    spy.failure = VK_ERROR_DEVICE_LOST;
    spy.until_failure = 1;
    cr_assert_eq(vkl_stream_submit(stream, NULL), VKL_ERROR_DEVICE_LOST);
    cr_assert_not_null(strstr(vkl_stream_error(stream), "vkQueueSubmit"), "%s", vkl_stream_error(stream));
    const unsigned submitted = spy_calls("vkQueueSubmit");
    cr_assert_eq(vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_stream_submit(stream, NULL), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_stream_wait(stream), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_fence_wait(fence, 0), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &second), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(spy_calls("vkQueueSubmit"), submitted);
    vkl_fence_destroy(fence);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* SPDX-License-Identifier: MIT
 *
 * What happens before a frame, and what in it: pipelines are compiled side by side and once each, with progress, from a cache
 * that was kept; then a frame only records. The program is a guest's host, and the spy sees every call. */
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "harness.h"
#include "heap.h"
#include "internal.h"
#include "spy.h"

enum { THREADS = 4, T = 3, N = 2, I = 5, H = 6 };

/* ---- Threads of the program's own, in place of the library's ---- */

typedef struct Loop {
    uint32_t count;
    atomic_uint next;
    void (*task)(void *data, uint32_t index);
    void *data;
} Loop;

static void *run_loop(void *argument)
{
    Loop *loop = argument;
    for (uint32_t i; (i = atomic_fetch_add(&loop->next, 1)) < loop->count;)
        loop->task(loop->data, i);
    return NULL;
}

static void on_threads(void *user, uint32_t count, void (*task)(void *data, uint32_t index), void *data)
{
    (void)user;
    Loop loop = {.count = count, .task = task, .data = data};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, run_loop, &loop), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Progress ---- */

typedef struct Progress {
    atomic_uint seen[256], calls, total;
} Progress;

static void on_prepared(void *user, uint32_t done, uint32_t total)
{
    Progress *progress = user;
    cr_assert_leq(done, total);
    cr_assert_lt(done, 256u);
    atomic_fetch_add(&progress->seen[done], 1);
    atomic_fetch_add(&progress->calls, 1);
    atomic_store(&progress->total, total);
}

/* ---- A guest ---- */

typedef struct Guest {
    App app;
    VklContext *context;
    VklDevice *device;
} Guest;

static Heap heap; /* of every guest */

static void on_log(void *user, VklLogLevel level, const char *message)
{
    (void)user;
    APP_CHECK(level != VKL_LOG_VALIDATION, "%s", message);
}

static Guest guest_start(bool parallel, Progress *progress)
{
    Guest guest = {.app = app_start()};
    VklContextDesc desc = vkl_context_desc();
    desc.log = on_log;
    desc.debug = true;
    desc.parallel = parallel ? on_threads : NULL;
    desc.prepared = progress ? on_prepared : NULL;
    desc.prepared_user = progress;
    desc.memory = heap_memory(&heap);
    cr_assert_eq(vkl_context_create(&desc, &guest.context), VKL_OK);
    VklVulkanImport import = spy_import(&guest.app);
    import.limits = test_limits();
    TEST_OK(guest.context, vkl_device_import_vulkan(guest.context, &import, &guest.device));
    return guest;
}

static void guest_stop(Guest *guest)
{
    vkl_device_destroy(guest->device);
    vkl_context_destroy(guest->context);
    cr_assert_eq(atomic_load(&heap.live), 0ul, "%lu blocks were not given back", atomic_load(&heap.live));
    app_check_usable(&guest->app);
    app_stop(&guest->app);
}

/* A layer, and the arrays of its passes. */
typedef struct Layer {
    VklRnn *rnn;
    VklRnnSizes sizes;
    VklBuffer *buffers[9];
    VklRnnForward forward;
    VklRnnBackward backward;
} Layer;

static Layer layer_of(Guest *guest, VklCell cell, uint64_t layers)
{
    Layer made = {0};
    VklContext *context = guest->context;
    VklRnnDesc desc = vkl_rnn_desc(cell, I, H);
    desc.layers = layers;
    TEST_OK(context, vkl_rnn_create(guest->device, &desc, &made.rnn));
    TEST_OK(context, vkl_rnn_sizes(made.rnn, T, N, &made.sizes));
    const uint64_t bytes[9] = {made.sizes.params,
                               T * N * I * 4,
                               made.sizes.y,
                               made.sizes.reserve,
                               made.sizes.forward_workspace,
                               made.sizes.y,
                               made.sizes.params,
                               made.sizes.backward_workspace,
                               T * N * I * 4};
    VklSlice slices[9];
    for (int i = 0; i < 9; i++) {
        TEST_OK(context, vkl_buffer_create(guest->device, VKL_BUFFER_DEVICE, bytes[i] ? bytes[i] : 4, &made.buffers[i]));
        slices[i] = vkl_slice(made.buffers[i], 0);
    }
    made.forward = vkl_rnn_forward_args(T, N);
    made.forward.params = slices[0];
    made.forward.x = slices[1];
    made.forward.y = slices[2];
    made.forward.reserve = slices[3];
    made.forward.workspace = slices[4];
    made.backward = vkl_rnn_backward_args(T, N);
    made.backward.params = slices[0];
    made.backward.x = slices[1];
    made.backward.reserve = slices[3];
    made.backward.gy = slices[5];
    made.backward.dparams = slices[6];
    made.backward.workspace = slices[7];
    made.backward.dx = slices[8];
    return made;
}

static void layer_finish(Layer *layer)
{
    vkl_rnn_destroy(layer->rnn);
    for (int i = 0; i < 9; i++)
        vkl_buffer_destroy(layer->buffers[i]);
}

static VklStatus prepare_both(const Layer *layer, VklExec *execs[2])
{
    VklStatus status = vkl_rnn_prepare_forward(layer->rnn, &layer->forward, &execs[0]);
    return status ? status : vkl_rnn_prepare_backward(layer->rnn, &layer->backward, &execs[1]);
}

static void destroy_both(VklExec *execs[2])
{
    for (int i = 0; i < 2; i++) {
        vkl_exec_destroy(execs[i]);
        execs[i] = NULL;
    }
}

/* ---- Compiling ---- */

/* How many threads are inside vkCreateComputePipelines at once. Each waits for a second one, for a while, until two have met. */
static atomic_int compiling, met;

static void meet(const char *name)
{
    if (strcmp(name, "vkCreateComputePipelines"))
        return;
    if (atomic_fetch_add(&compiling, 1) + 1 > 1)
        atomic_store(&met, 1);
    for (int i = 0; i < 2000 && !atomic_load(&met); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    atomic_fetch_sub(&compiling, 1);
}

Test(prepare, compiles_side_by_side)
{
    Guest guest = guest_start(true, NULL);
    Layer layer = layer_of(&guest, VKL_CELL_GRU, 1);
    VklExec *execs[2] = {NULL};
    spy.before = meet;
    TEST_OK(guest.context, prepare_both(&layer, execs));
    spy.before = NULL;
    cr_assert(atomic_load(&met), "no two threads compiled at once");
    cr_assert_eq(spy_calls("vkCreateComputePipelines"), vkl_device_pipelines(guest.device));
    destroy_both(execs);
    layer_finish(&layer);
    guest_stop(&guest);
}

Test(prepare, one_thread_compiles_where_the_program_gives_no_others)
{
    Guest guest = guest_start(false, NULL);
    Layer layer = layer_of(&guest, VKL_CELL_GRU, 1);
    VklExec *execs[2] = {NULL};
    TEST_OK(guest.context, prepare_both(&layer, execs));
    cr_assert_gt(spy_calls("vkCreateComputePipelines"), 2u);
    destroy_both(execs);
    /* what is there is not made again */
    const unsigned compiled = spy_calls("vkCreateComputePipelines"), modules = spy_calls("vkCreateShaderModule");
    TEST_OK(guest.context, prepare_both(&layer, execs));
    cr_assert_eq(spy_calls("vkCreateComputePipelines"), compiled);
    cr_assert_eq(spy_calls("vkCreateShaderModule"), modules);
    destroy_both(execs);
    layer_finish(&layer);
    guest_stop(&guest);
}

typedef struct Preparer {
    const Layer *layer;
    VklExec *execs[2];
    VklStatus status;
} Preparer;

static void *prepare_in_thread(void *data)
{
    Preparer *preparer = data;
    preparer->status = prepare_both(preparer->layer, preparer->execs);
    return NULL;
}

Test(prepare, threads_that_want_the_same_compile_it_once)
{
    for (int parallel = 0; parallel < 2; parallel++) {
        Guest guest = guest_start(parallel, NULL);
        Layer layer = layer_of(&guest, VKL_CELL_LSTM, 2);
        Preparer preparers[THREADS];
        pthread_t threads[THREADS];
        const unsigned before = spy_calls("vkCreateComputePipelines");
        atomic_store(&met, 0);
        spy.before = meet;
        for (int i = 0; i < THREADS; i++) {
            preparers[i] = (Preparer){.layer = &layer};
            cr_assert_eq(pthread_create(&threads[i], NULL, prepare_in_thread, &preparers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        spy.before = NULL;
        for (int i = 0; i < THREADS; i++) {
            TEST_OK(guest.context, preparers[i].status);
            destroy_both(preparers[i].execs);
        }
        cr_assert(atomic_load(&met), "they waited for each other");
        cr_assert_eq(spy_calls("vkCreateComputePipelines") - before, vkl_device_pipelines(guest.device));
        layer_finish(&layer);
        guest_stop(&guest);
    }
}

Test(prepare, progress_is_told_once_for_each_pipeline)
{
    for (int parallel = 0; parallel < 2; parallel++) {
        Progress progress = {0};
        Guest guest = guest_start(parallel, &progress);
        Layer layer = layer_of(&guest, VKL_CELL_RNN_TANH, 1);
        VklExec *exec = NULL;
        TEST_OK(guest.context, vkl_rnn_prepare_backward(layer.rnn, &layer.backward, &exec));
        const unsigned total = atomic_load(&progress.total);
        cr_assert_eq(total, vkl_device_pipelines(guest.device));
        cr_assert_gt(total, 1u);
        for (unsigned done = 0; done < 256; done++)
            cr_assert_eq(atomic_load(&progress.seen[done]), done <= total, "%u of %u was told %u times", done, total,
                         atomic_load(&progress.seen[done]));
        vkl_exec_destroy(exec);
        TEST_OK(guest.context, vkl_rnn_prepare_backward(layer.rnn, &layer.backward, &exec));
        cr_assert_eq(atomic_load(&progress.calls), total + 1, "nothing was left to compile");
        vkl_exec_destroy(exec);
        layer_finish(&layer);
        guest_stop(&guest);
    }
}

/* Each pipeline in turn is refused once, on several threads: the call fails, names the function, leaks nothing, and works when repeated. */
Test(prepare, a_pipeline_that_fails_is_reported_and_tried_again)
{
    static const char *const functions[] = {"vkCreateComputePipelines", "vkCreateShaderModule"};
    for (int function = 0; function < 2; function++) {
        bool all = false;
        int call = 1;
        for (; !all; call++) {
            Guest guest = guest_start(call % 2, NULL);
            Layer layer = layer_of(&guest, VKL_CELL_GRU, 1);
            VklExec *execs[2] = {NULL};
            spy.only = functions[function];
            spy.failure = VK_ERROR_OUT_OF_DEVICE_MEMORY;
            spy.until_failure = call;
            VklStatus status = prepare_both(&layer, execs);
            all = spy.until_failure > 0;
            spy.until_failure = 0;
            if (!all) {
                cr_assert_eq(status, VKL_ERROR_DEVICE_MEMORY, "call %d: %d", call, (int)status);
                cr_assert_not_null(strstr(vkl_rnn_error(layer.rnn), functions[function]), "%s", vkl_rnn_error(layer.rnn));
                destroy_both(execs);
                TEST_OK(guest.context, prepare_both(&layer, execs));
            }
            destroy_both(execs);
            layer_finish(&layer);
            guest_stop(&guest);
        }
        cr_assert_gt(call, 4, "nothing failed");
    }
}

/* ---- The cache ---- */

static unsigned char *take_cache(VklContext *context, VklDevice *device, size_t *size)
{
    *size = 0;
    TEST_OK(context, vkl_device_cache_get(device, NULL, size));
    unsigned char *data = malloc(*size);
    cr_assert_not_null(data);
    size_t written = *size;
    TEST_OK(context, vkl_device_cache_get(device, data, &written));
    cr_assert_eq(written, *size);
    return data;
}

Test(cache, goes_from_one_device_to_the_next)
{
    Guest guest = guest_start(false, NULL);
    Layer layer = layer_of(&guest, VKL_CELL_LSTM, 1);
    VklExec *execs[2] = {NULL};
    TEST_OK(guest.context, prepare_both(&layer, execs));
    size_t size;
    unsigned char *data = take_cache(guest.context, guest.device, &size);
    destroy_both(execs);
    layer_finish(&layer);
    guest_stop(&guest);

    guest = guest_start(true, NULL);
    TEST_OK(guest.context, vkl_device_cache_put(guest.device, data, size));
    cr_assert_geq(spy.cache_size, 32u, "the driver was given %zu bytes", spy.cache_size);
    cr_assert_eq(spy.cache_size + 96, size);
    cr_assert_eq(spy_calls("vkMergePipelineCaches"), 1u);
    layer = layer_of(&guest, VKL_CELL_LSTM, 1);
    TEST_OK(guest.context, prepare_both(&layer, execs));
    TEST_OK(guest.context, vkl_device_cache_put(guest.device, data, size)); /* also later, and again */
    size_t later;
    unsigned char *again = take_cache(guest.context, guest.device, &later);
    cr_assert_geq(later, size);
    free(again);
    free(data);
    destroy_both(execs);
    layer_finish(&layer);
    guest_stop(&guest);
}

Test(cache, what_is_damaged_never_reaches_the_driver)
{
    Guest guest = guest_start(false, NULL);
    size_t size;
    unsigned char *data = take_cache(guest.context, guest.device, &size);
    const unsigned made = spy_calls("vkCreatePipelineCache");
    for (size_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit += 7) {
            data[at] ^= (unsigned char)(1 << bit);
            cr_assert_eq(vkl_device_cache_put(guest.device, data, size), VKL_ERROR_FORMAT, "byte %zu, bit %d", at, bit);
            data[at] ^= (unsigned char)(1 << bit);
        }
        /* cut short, on memory that ends there */
        unsigned char *cut = malloc(at ? at : 1);
        memcpy(cut, data, at);
        cr_assert_eq(vkl_device_cache_put(guest.device, cut, at), at ? VKL_ERROR_FORMAT : VKL_OK, "%zu bytes", at);
        free(cut);
    }
    unsigned char *longer = calloc(1, size + 1);
    memcpy(longer, data, size);
    cr_assert_eq(vkl_device_cache_put(guest.device, longer, size + 1), VKL_ERROR_FORMAT);
    cr_assert_not_null(strstr(vkl_device_error(guest.device), "damaged"), "%s", vkl_device_error(guest.device));
    cr_assert_eq(spy_calls("vkCreatePipelineCache"), made);
    TEST_OK(guest.context, vkl_device_cache_put(guest.device, data, size));
    free(longer);
    free(data);
    guest_stop(&guest);
}

/* The same bytes with another device's name on them, and a right checksum. */
Test(cache, of_another_device_is_refused)
{
    Guest guest = guest_start(false, NULL);
    size_t size;
    unsigned char *data = take_cache(guest.context, guest.device, &size);
    const unsigned made = spy_calls("vkCreatePipelineCache");
    for (size_t at = 12; at < 72; at += 4) {
        data[at] ^= 1;
        uint64_t sum = UINT64_C(14695981039346656037); /* FNV-1a */
        for (size_t i = 0; i < size; i++)
            if (i < 80 || i >= 88)
                sum = (sum ^ data[i]) * UINT64_C(1099511628211);
        for (int i = 0; i < 8; i++)
            data[80 + i] = (unsigned char)(sum >> (8 * i));
        cr_assert_eq(vkl_device_cache_put(guest.device, data, size), VKL_ERROR_FORMAT, "byte %zu", at);
        cr_assert_not_null(strstr(vkl_device_error(guest.device), "another d"), "%s", vkl_device_error(guest.device));
        data[at] ^= 1;
    }
    cr_assert_eq(spy_calls("vkCreatePipelineCache"), made);
    free(data);
    guest_stop(&guest);
}

Test(cache, wrong_arguments_are_refused)
{
    Guest guest = guest_start(false, NULL);
    size_t size = 0;
    char data[8] = {0};
    cr_assert_eq(vkl_device_cache_get(NULL, NULL, &size), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_cache_get(guest.device, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_cache_put(NULL, data, 8), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_cache_put(guest.device, NULL, 8), VKL_ERROR_INVALID);
    TEST_OK(guest.context, vkl_device_cache_put(guest.device, NULL, 0));
    size = sizeof(data);
    cr_assert_eq(vkl_device_cache_get(guest.device, data, &size), VKL_ERROR_LIMIT);
    cr_assert_gt(size, sizeof(data));
    static const char *const functions[] = {"vkGetPipelineCacheData", "vkCreatePipelineCache", "vkMergePipelineCaches"};
    unsigned char *good = take_cache(guest.context, guest.device, &size);
    for (int i = 0; i < 3; i++) {
        spy.only = functions[i];
        spy.failure = VK_ERROR_OUT_OF_HOST_MEMORY;
        spy.until_failure = 1;
        VklStatus status = i ? vkl_device_cache_put(guest.device, good, size) : vkl_device_cache_get(guest.device, good, &size);
        cr_assert_eq(status, VKL_ERROR_HOST_MEMORY);
        cr_assert_not_null(strstr(vkl_device_error(guest.device), functions[i]), "%s", vkl_device_error(guest.device));
    }
    free(good);
    VklDevice *cpu = test_device_cpu(guest.context);
    TEST_OK(guest.context, vkl_device_cache_get(cpu, NULL, &size));
    cr_assert_eq(size, 0u);
    TEST_OK(guest.context, vkl_device_cache_put(cpu, NULL, 0));
    cr_assert_eq(vkl_device_cache_put(cpu, data, 8), VKL_ERROR_FORMAT);
    vkl_device_destroy(cpu);
    guest_stop(&guest);
}

/* ---- Frames ---- */

/* What is recorded in one frame. */
typedef VklStatus (*Frame)(void *data, VklStream *stream);

/* Records it into the program's command buffer, again and again: the stream is wrapped once. Nothing but recording happens,
 * from the frame number `warm` on; before, the library may still prepare. */
static void check_frames(Guest *guest, const char *title, Frame frame, void *data, int warm)
{
    VklStream *stream = NULL;
    TEST_OK(guest->context, vkl_stream_wrap_vulkan(guest->device, guest->app.commands, &stream));
    for (int i = 0; i < warm + 3; i++) {
        app_begin(guest->app.commands);
        const SpyCounts then = spy_counts();
        const unsigned long allocated = atomic_load(&heap.calls), live = atomic_load(&heap.live);
        VklStatus status = frame(data, stream);
        const unsigned long allocations = atomic_load(&heap.calls) - allocated;
        const char *other;
        const unsigned others = spy_others_since(&then, &other), all = spy_calls_since(&then, "vk");
        cr_assert_eq(status, VKL_OK, "%s: %s", title, vkl_stream_error(stream));
        if (i >= warm) {
            cr_assert_eq(others, 0u, "%s, frame %d: %u calls that record nothing, %s the first", title, i, others, other);
            cr_assert_eq(allocations, 0ul, "%s, frame %d: %lu allocations", title, i, allocations);
            cr_assert_eq(atomic_load(&heap.live), live);
            cr_assert_gt(all, 0u, "%s recorded nothing", title);
        }
        if (i == warm)
            cr_log_info("| %s | %u | %u | %u | %lu |\n", title, spy_calls_since(&then, "vkCmdDispatch"), all - others, others,
                        allocations);
        app_run(&guest->app, guest->app.commands);
    }
    vkl_stream_destroy(stream);
}

static VklStatus record_exec(void *data, VklStream *stream)
{
    return vkl_exec_record(data, stream);
}

typedef struct Copy {
    VklSlice to, from;
} Copy;

static VklStatus record_copies(void *data, VklStream *stream)
{
    const Copy *copy = data;
    VklStatus status = vkl_stream_fill(stream, copy->from, 7, 16);
    return status ? status : vkl_stream_copy(stream, copy->to, copy->from, 16);
}

/* Without a prepared exec: what such a call has prepared is found again. */
static VklStatus record_forward(void *data, VklStream *stream)
{
    const Layer *layer = data;
    return vkl_rnn_forward(layer->rnn, stream, &layer->forward);
}

Test(frame, of_a_layer_only_records)
{
    for (VklCell cell = VKL_CELL_LSTM; cell <= VKL_CELL_RNN_TANH; cell++) {
        static const char *const titles[3][2] = {
            {"forward, LSTM", "backward, LSTM"}, {"forward, GRU", "backward, GRU"}, {"forward, RNN", "backward, RNN"}};
        Guest guest = guest_start(false, NULL);
        Layer layer = layer_of(&guest, cell, 2);
        VklExec *execs[2] = {NULL};
        TEST_OK(guest.context, prepare_both(&layer, execs));
        for (int i = 0; i < 2; i++)
            check_frames(&guest, titles[cell][i], record_exec, execs[i], 0);
        destroy_both(execs);
        check_frames(&guest, "vkl_rnn_forward() again", record_forward, &layer, 1);
        layer_finish(&layer);
        guest_stop(&guest);
    }
}

Test(frame, of_an_optimizer_and_copies_only_records)
{
    Guest guest = guest_start(false, NULL);
    VklBuffer *params = test_buffer(guest.device, NULL, 100), *grads = test_buffer(guest.device, NULL, 100);
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    desc.clip_norm = 1;
    VklOptimizer *optimizer = NULL;
    VklExec *exec = NULL;
    TEST_OK(guest.context, vkl_optimizer_create(guest.device, &desc, 100, &optimizer));
    TEST_OK(guest.context, vkl_optimizer_prepare(optimizer, vkl_slice(params, 0), vkl_slice(grads, 0), &exec));
    check_frames(&guest, "optimizer, Adam with clipping", record_exec, exec, 0);
    check_frames(&guest, "a fill and a copy", record_copies, &(Copy){vkl_slice(params, 0), vkl_slice(grads, 0)}, 0);
    vkl_exec_destroy(exec);
    vkl_optimizer_destroy(optimizer);
    vkl_buffer_destroy(params);
    vkl_buffer_destroy(grads);
    guest_stop(&guest);
}

enum { AGENTS = 300, WINDOWS = 20, STEPS = 4 };

typedef struct Training {
    VklFit *fit;
    uint32_t recorded;
} Training;

static VklStatus record_training(void *data, VklStream *stream)
{
    Training *training = data;
    return vkl_fit_record(training->fit, stream, 2, &training->recorded);
}

Test(frame, of_a_model_only_records)
{
    Guest guest = guest_start(false, NULL);
    const VklLayerDesc layers[] = {vkl_layer_lstm(8), vkl_layer_gru(5), vkl_layer_dense(2, VKL_ACTIVATION_TANH)};
    VklModel *model = NULL;
    TEST_OK(guest.context, vkl_model_create(guest.device, 3, layers, 3, 1, &model));

    VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
    TEST_OK(guest.context, vkl_model_step_sizes(model, AGENTS, &sizes));
    const uint64_t bytes[] = {sizes.params, sizes.x, sizes.y, sizes.state, AGENTS * 4, 4, sizes.workspace};
    AppBuffer own[7];
    VklBuffer *wrapped[7];
    for (int i = 0; i < 7; i++) {
        own[i] = app_buffer(&guest.app, bytes[i]);
        TEST_OK(guest.context, vkl_buffer_wrap_vulkan(guest.device, own[i].handle, bytes[i], &wrapped[i]));
    }
    VklModelStep step = vkl_model_step_args(AGENTS);
    VklSlice *const slices[] = {&step.params, &step.x, &step.y, &step.state, &step.reset, &step.count, &step.workspace};
    for (int i = 0; i < 7; i++)
        *slices[i] = vkl_slice(wrapped[i], 0);
    *(uint32_t *)own[5].host = 17;
    VklExec *exec = NULL;
    TEST_OK(guest.context, vkl_model_prepare_step(model, &step, &exec));
    check_frames(&guest, "a step of a model, count on the device", record_exec, exec, 0);

    float series[(WINDOWS + STEPS) * 3], targets[WINDOWS * 2];
    uint32_t starts[WINDOWS];
    test_random(series, (WINDOWS + STEPS) * 3, 1, 1);
    test_random(targets, WINDOWS * 2, 2, 1);
    for (uint32_t i = 0; i < WINDOWS; i++)
        starts[i] = i;
    VklWindows windows = {.struct_size = sizeof(windows),
                          .count = WINDOWS,
                          .steps = STEPS,
                          .features = 3,
                          .outputs = 2,
                          .rows = WINDOWS + STEPS,
                          .series = series,
                          .starts = starts,
                          .targets = targets};
    VklFitDesc desc = vkl_fit_desc();
    desc.epochs = 2;
    desc.batch_size = 2; /* ten steps, more than are recorded */
    Training training = {NULL, 0};
    TEST_OK(guest.context, vkl_fit_create(model, &windows, NULL, &desc, &training.fit));
    check_frames(&guest, "two training steps", record_training, &training, 0);
    cr_assert_eq(training.recorded, 2u);
    TEST_OK(guest.context, vkl_fit_collect(training.fit));
    vkl_fit_destroy(training.fit);

    vkl_exec_destroy(exec);
    for (int i = 0; i < 7; i++) {
        vkl_buffer_destroy(wrapped[i]);
        app_buffer_destroy(&guest.app, &own[i]);
    }
    vkl_model_destroy(model);
    guest_stop(&guest);
}

/* A wrapped stream keeps what it has seen, once. */
enum { MANY = 20 };

static VklStatus record_many(void *data, VklStream *stream)
{
    VklExec *const *execs = data;
    VklStatus status = VKL_OK;
    for (int i = 0; i < 10 * MANY && !status; i++)
        status = vkl_exec_record(execs[i % MANY], stream);
    return status;
}

Test(frame, of_many_prepared_pieces_only_records)
{
    Guest guest = guest_start(false, NULL);
    Layer layer = layer_of(&guest, VKL_CELL_RNN_TANH, 1);
    VklExec *execs[MANY];
    for (int i = 0; i < MANY; i++)
        TEST_OK(guest.context, vkl_rnn_prepare_forward(layer.rnn, &layer.forward, &execs[i]));
    check_frames(&guest, "twenty pieces, ten times", record_many, execs, 0);
    for (int i = 0; i < MANY; i++)
        vkl_exec_destroy(execs[i]);
    layer_finish(&layer);
    guest_stop(&guest);
}

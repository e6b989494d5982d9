/* SPDX-License-Identifier: MIT
 *
 * Training in pieces: whatever the pieces, the bits are those of vkl_model_fit(). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "trainee.h"
#ifdef VKL_WITH_VULKAN
#include "spy.h"
#include "vk/vk.h"
#endif

#define OPEN                              \
    VklContext *context = test_context(); \
    VklDevice *device = test_device(context)
#define CLOSE                   \
    vkl_device_destroy(device); \
    vkl_context_destroy(context)

/* ---- Pieces of our own ---- */

typedef struct Runs {
    uint64_t pieces, timeouts, submits;
} Runs;

static Runs run_to_the_end(Trainee *rig, VklFit *fit, double microseconds)
{
    Runs runs = {0};
    VklStatus status = VKL_OK;
    for (; status != VKL_STOPPED; runs.pieces += status == VKL_OK, runs.timeouts += status == VKL_TIMEOUT) {
        status = vkl_fit_run(fit, microseconds);
        cr_assert_geq(status, VKL_OK, "%s", vkl_fit_error(fit));
    }
    cr_assert_eq(vkl_fit_run(fit, microseconds), VKL_STOPPED, "training has ended");
    VklFitResult result;
    TEST_OK(rig->context, vkl_fit_finish(fit, &result));
    cr_assert_eq(result.epochs, TRAINEE_EPOCHS);
    cr_assert_eq(result.steps, TRAINEE_EPOCHS * ((TRAINEE_WINDOWS + TRAINEE_BATCH - 1) / TRAINEE_BATCH));
    runs.submits = result.stats.submits;
    return runs;
}

Test(fit, pieces_of_any_length_give_the_same_bits)
{
    static const double budgets[] = {0, 30, 1000, 1e9}; /* microseconds; 0: a kernel each */
    enum { BUDGETS = sizeof(budgets) / sizeof(*budgets) };
    OPEN;
    Trainee want;
    VklFitResult result;
    Runs runs[BUDGETS];
    trainee_at_once(&want, context, device, &result);
    for (int i = 0; i < BUDGETS; i++) {
        Trainee rig;
        trainee_start(&rig, context, device);
        VklFit *fit = trainee_fit(&rig);
        runs[i] = run_to_the_end(&rig, fit, budgets[i]);
        vkl_fit_destroy(fit);
        trainee_check_same("pieces", &rig, &want);
        vkl_model_destroy(rig.model);
    }
    /* kernels one by one; and after a few steps that are measured, epochs as a whole */
    cr_assert_geq(runs[0].pieces, result.steps * 2 * TRAINEE_STEPS);
    cr_assert_leq(runs[BUDGETS - 1].pieces, 8 + TRAINEE_EPOCHS);
    cr_assert_leq(runs[BUDGETS - 1].pieces, runs[1].pieces);
    if (test_is_vulkan()) {
        cr_assert_geq(runs[0].submits, runs[0].pieces);
        cr_assert_leq(runs[BUDGETS - 1].submits, 16 + TRAINEE_EPOCHS);
    }
    vkl_model_destroy(want.model);
    CLOSE;
}

/* The weights between two pieces are those of a whole step: they change as often as there are steps. */
Test(fit, weights_between_pieces_are_those_of_whole_steps)
{
    OPEN;
    Trainee rig;
    trainee_start(&rig, context, device);
    VklFit *fit = trainee_fit(&rig);
    size_t bytes;
    float *before = trainee_weights(rig.model, &bytes);
    uint64_t changes = 0;
    VklFitProgress progress;
    for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
        status = vkl_fit_run(fit, 0);
        cr_assert_geq(status, VKL_OK);
        float *after = trainee_weights(rig.model, &bytes);
        changes += memcmp(before, after, bytes) != 0;
        free(before);
        before = after;
    }
    vkl_fit_progress(fit, &progress);
    cr_assert_eq(changes, progress.all_steps);
    cr_assert_eq(progress.all_steps, TRAINEE_EPOCHS * progress.steps);
    cr_assert(progress.ended && progress.step_microseconds > 0);
    free(before);
    vkl_fit_destroy(fit);
    vkl_model_destroy(rig.model);
    CLOSE;
}

static bool stop_after_two(void *user, const VklEpoch *epoch)
{
    trainee_keep_epoch(user, epoch);
    return epoch->epoch < 2;
}

/* Where training ends, and with which weights, does not depend on who ends it. */
Test(fit, an_early_end_is_a_stop)
{
    OPEN;
    VklFitResult result;
    Trainee rig, want;
    trainee_start(&want, context, device);
    want.desc.on_epoch = stop_after_two;
    cr_assert_eq(vkl_model_fit(want.model, &want.train, &want.check, &want.desc, &result), VKL_STOPPED);
    trainee_start(&rig, context, device);
    VklFit *fit = trainee_fit(&rig);
    while (rig.epochs.count < 2) /* without a budget: on a fast device the whole third epoch would fit into one, and count */
        cr_assert_geq(vkl_fit_run(fit, 0), VKL_OK);
    cr_assert_eq(vkl_fit_finish(fit, &result), VKL_STOPPED);
    cr_assert_eq(vkl_fit_finish(fit, NULL), VKL_STOPPED, "again");
    cr_assert_eq(vkl_fit_run(fit, 50), VKL_STOPPED);
    vkl_fit_destroy(fit);
    cr_assert(result.epochs == 2 && (result.best_epoch == 1 || result.best_epoch == 2));
    trainee_check_same("stopped", &rig, &want);
    vkl_model_destroy(rig.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

/* ---- Weights for somebody else ---- */

enum { AGENTS = 3 };

/* Steps agents by a model's weights, or by a copy of them. */
static void step_agents(VklModel *model, VklSlice params, float y[AGENTS])
{
    static const float x[AGENTS] = {0.25f, -0.5f, 1};
    VklDevice *device = vkl_model_device(model);
    VklContext *context = vkl_device_context(device);
    VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
    VklStream *stream;
    TEST_OK(context, vkl_model_step_sizes(model, AGENTS, &sizes));
    VklBuffer *inputs = test_buffer(device, x, AGENTS), *outputs = test_buffer(device, NULL, AGENTS);
    VklBuffer *state = test_buffer(device, NULL, sizes.state / 4),
              *workspace = test_buffer(device, NULL, sizes.workspace / 4 + 1);
    VklModelStep args = vkl_model_step_args(AGENTS);
    args.params = params;
    args.x = vkl_slice(inputs, 0);
    args.y = vkl_slice(outputs, 0);
    args.state = vkl_slice(state, 0);
    args.workspace = vkl_slice(workspace, 0);
    TEST_OK(context, vkl_stream_create(device, &stream));
    for (int i = 0; i < 3; i++)
        TEST_OK(context, vkl_model_step(model, stream, &args));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, outputs, y, AGENTS);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(inputs);
    vkl_buffer_destroy(outputs);
    vkl_buffer_destroy(state);
    vkl_buffer_destroy(workspace);
}

/* A copy made between two pieces is a checkpoint of that moment, whatever training does afterwards. */
Test(fit, weights_are_swapped_between_pieces)
{
    OPEN;
    Trainee trainee;
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    VklSlice params;
    uint64_t size;
    VklStream *stream;
    VklBuffer *copy = NULL;
    float before[AGENTS] = {0};
    TEST_OK(context, vkl_model_params(trainee.model, &params, &size));
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, size, &copy));
    TEST_OK(context, vkl_stream_create(device, &stream));
    for (int swap = 0; swap < 4; swap++) {
        for (int i = 0; i < 40; i++)
            cr_assert_geq(vkl_fit_run(fit, 0), VKL_OK);
        VklModel *loaded = NULL;
        void *file;
        size_t file_size;
        TEST_OK(context, vkl_fit_checkpoint_memory(fit, NULL, &file, &file_size));
        TEST_OK(context, vkl_stream_copy(stream, vkl_slice(copy, 0), params, size));
        TEST_OK(context, vkl_stream_wait(stream));
        for (int i = 0; i < 10; i++)
            cr_assert_geq(vkl_fit_run(fit, 0), VKL_OK);
        float with_copy[AGENTS], with_file[AGENTS];
        step_agents(trainee.model, vkl_slice(copy, 0), with_copy);
        TEST_OK(context, vkl_model_load_memory(device, file, file_size, &loaded, NULL));
        step_agents(loaded, vkl_slice(NULL, 0), with_file);
        cr_assert(!memcmp(with_copy, with_file, sizeof(with_copy)), "swap %d", swap);
        cr_assert(memcmp(with_copy, before, sizeof(before)), "swap %d: training has moved them", swap);
        memcpy(before, with_copy, sizeof(before));
        vkl_model_destroy(loaded);
        vkl_free(file);
    }
    vkl_fit_destroy(fit);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(copy);
    vkl_model_destroy(trainee.model);
    CLOSE;
}

/* ---- Steps in somebody's stream ---- */

Test(fit, recorded_steps_give_the_same_bits)
{
    static const uint32_t counts[] = {1, 3, 1000};
    OPEN;
    Trainee want;
    trainee_at_once(&want, context, device, NULL);
    for (int i = 0; i < 3; i++) {
        Trainee rig;
        VklStream *stream;
        trainee_start(&rig, context, device);
        TEST_OK(context, vkl_stream_create(device, &stream));
        VklFit *fit = trainee_fit(&rig);
        uint64_t batches = 0;
        for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
            uint32_t recorded = 77, more = 77;
            TEST_OK(context, vkl_fit_record(fit, stream, counts[i], &recorded));
            cr_assert(recorded >= 1 && recorded <= counts[i]);
            if (recorded < counts[i]) {
                TEST_OK(context, vkl_fit_record(fit, stream, counts[i], &more));
                cr_assert_eq(more, 0u, "the host has not seen the epoch's losses");
            }
            batches += recorded;
            cr_assert_eq(vkl_fit_run(fit, 100), VKL_ERROR_INVALID);
            cr_assert(strstr(vkl_fit_error(fit), "vkl_fit_collect"), "%s", vkl_fit_error(fit));
            TEST_OK(context, vkl_stream_wait(stream));
            status = vkl_fit_collect(fit);
            cr_assert_geq(status, VKL_OK, "%s", vkl_fit_error(fit));
        }
        cr_assert_eq(batches, TRAINEE_EPOCHS * ((TRAINEE_WINDOWS + TRAINEE_BATCH - 1) / TRAINEE_BATCH + 1));
        uint32_t none;
        cr_assert_eq(vkl_fit_record(fit, stream, 1, &none), VKL_STOPPED);
        TEST_OK(context, vkl_fit_finish(fit, NULL));
        vkl_fit_destroy(fit);
        trainee_check_same("recorded", &rig, &want);
        vkl_stream_destroy(stream);
        vkl_model_destroy(rig.model);
    }
    vkl_model_destroy(want.model);
    CLOSE;
}

/* Now a piece of our own, of some kernels alone, then a step in a stream of the caller's, and so on. */
Test(fit, runs_and_records_may_take_turns)
{
    OPEN;
    Trainee rig, want;
    VklStream *stream;
    trainee_at_once(&want, context, device, NULL);
    trainee_start(&rig, context, device);
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklFit *fit = trainee_fit(&rig);
    for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
        uint32_t recorded = 0;
        status = vkl_fit_run(fit, 0);
        cr_assert_geq(status, VKL_OK);
        do
            status = vkl_fit_record(fit, stream, 2, &recorded);
        while (status == VKL_TIMEOUT);
        cr_assert_geq(status, VKL_OK);
        TEST_OK(context, vkl_stream_wait(stream));
        if (status == VKL_OK)
            status = vkl_fit_collect(fit);
    }
    TEST_OK(context, vkl_fit_finish(fit, NULL));
    vkl_fit_destroy(fit);
    trainee_check_same("by turns", &rig, &want);
    vkl_stream_destroy(stream);
    vkl_model_destroy(rig.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

Test(fit, wrong_calls_are_refused_by_name)
{
    OPEN;
    Trainee rig;
    trainee_start(&rig, context, device);
    VklFit *fit = trainee_fit(&rig), *second = NULL;
    VklStream *stream = NULL, *other = NULL;
    VklDevice *cpu = test_device_cpu(context);
    uint32_t recorded = 77;
    cr_assert_eq(vkl_fit_create(rig.model, &rig.train, NULL, &rig.desc, &second), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_model_error(rig.model), "another VklFit"), "%s", vkl_model_error(rig.model));
    cr_assert_eq(vkl_model_fit(rig.model, &rig.train, NULL, &rig.desc, NULL), VKL_ERROR_INVALID);
    cr_assert_null(second);
    cr_assert_eq(vkl_fit_run(fit, NAN), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "microseconds is nan"), "%s", vkl_fit_error(fit));
    cr_assert_eq(vkl_fit_run(fit, -1), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_fit_record(fit, NULL, 1, &recorded), VKL_ERROR_INVALID);
    TEST_OK(context, vkl_stream_create(device, &stream));
    cr_assert_eq(vkl_fit_record(fit, stream, 1, NULL), VKL_ERROR_INVALID);
    TEST_OK(context, vkl_stream_create(cpu, &other));
    cr_assert_eq(vkl_fit_record(fit, other, 1, &recorded), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "another device"), "%s", vkl_fit_error(fit));
    cr_assert_eq(recorded, 77u);
    TEST_OK(context, vkl_fit_record(fit, stream, 1, &recorded));
    cr_assert_eq(vkl_fit_finish(fit, NULL), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "not collected"), "%s", vkl_fit_error(fit));
    TEST_OK(context, vkl_stream_wait(stream));
    TEST_OK(context, vkl_fit_collect(fit));
    vkl_fit_destroy(fit);
    vkl_fit_destroy(NULL);
    vkl_stream_destroy(stream);
    vkl_stream_destroy(other);
    vkl_model_destroy(rig.model);
    vkl_device_destroy(cpu);
    CLOSE;
}

/* ---- What a piece calls ---- */

#ifdef VKL_WITH_VULKAN

/* A rig on a device of a program's own, seen by the spy. */
typedef struct Guest {
    App app;
    Trainee rig;
    VklFit *fit;
} Guest;

static void guest_start(Guest *guest)
{
    guest->app = app_start();
    VklContext *context = test_context();
    VklVulkanImport import = spy_import(&guest->app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    trainee_start(&guest->rig, context, device);
    guest->fit = trainee_fit(&guest->rig);
}

static void guest_finish(Guest *guest)
{
    vkl_fit_destroy(guest->fit);
    vkl_model_destroy(guest->rig.model);
    vkl_device_destroy(guest->rig.device);
    vkl_context_destroy(guest->rig.context);
    app_stop(&guest->app);
}

/* The GPU is as slow as the spy says: the fence is not signaled yet. */
Test(fit, while_a_piece_runs_nothing_is_submitted)
{
    if (!test_is_vulkan())
        return;
    Guest guest;
    guest_start(&guest);
    TEST_OK(guest.rig.context, vkl_fit_run(guest.fit, 100));
    SpyCounts then = spy_counts();
    for (int i = 0; i < 3; i++) {
        spy.only = "vkGetFenceStatus";
        spy.failure = VK_NOT_READY;
        spy.until_failure = 1;
        cr_assert_eq(vkl_fit_run(guest.fit, 100), VKL_TIMEOUT);
    }
    const char *first;
    cr_assert_eq(spy_others_since(&then, &first), 3u, "%s", first ? first : "");
    spy.until_failure = 0;
    guest_finish(&guest);
}

Test(fit, a_piece_neither_waits_nor_creates)
{
    if (!test_is_vulkan())
        return;
    Guest guest;
    guest_start(&guest);
    VklStatus status = VKL_OK;
    while (guest.rig.epochs.count < 2) /* each kind of piece once */
        cr_assert_geq(vkl_fit_run(guest.fit, 300), VKL_OK);
    unsigned waits = spy_calls("vkWait") + spy_calls("vkQueueWait"), created = spy_calls("vkCreate") + spy_calls("vkAllocate");
    while (status != VKL_STOPPED) {
        status = vkl_fit_run(guest.fit, 300);
        cr_assert_geq(status, VKL_OK);
    }
    cr_assert_eq(spy_calls("vkWait") + spy_calls("vkQueueWait"), waits);
    cr_assert_eq(spy_calls("vkCreate") + spy_calls("vkAllocate"), created);
    guest_finish(&guest);
}

/* A queue without timestamps: the clock of the host, between two looks. */
Test(fit, pieces_need_no_timestamps)
{
    if (!test_is_vulkan())
        return;
    OPEN;
    Trainee trainee, want;
    trainee_at_once(&want, context, device, NULL);
    vkl_vk(device)->timestamp_bits = 0;
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    run_to_the_end(&trainee, fit, 1000);
    vkl_fit_destroy(fit);
    trainee_check_same("by the host's clock", &trainee, &want);
    vkl_model_destroy(trainee.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

Test(fit, recording_steps_only_records)
{
    if (!test_is_vulkan())
        return;
    Guest guest;
    Trainee *rig = &guest.rig, want;
    guest_start(&guest);
    trainee_at_once(&want, rig->context, rig->device, NULL);
    for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
        VklStream *stream;
        uint32_t recorded;
        const char *first;
        app_begin(guest.app.commands);
        TEST_OK(rig->context, vkl_stream_wrap_vulkan(rig->device, guest.app.commands, &stream));
        SpyCounts then = spy_counts();
        TEST_OK(rig->context, vkl_fit_record(guest.fit, stream, 4, &recorded));
        cr_assert_eq(spy_others_since(&then, &first), 0u, "%s", first ? first : "");
        CHECK_VK(vk.vkEndCommandBuffer(guest.app.commands));
        VkSubmitInfo info = {
            .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &guest.app.commands};
        CHECK_VK(vk.vkQueueSubmit(guest.app.queue, 1, &info, VK_NULL_HANDLE));
        CHECK_VK(vk.vkQueueWaitIdle(guest.app.queue));
        vkl_stream_destroy(stream);
        status = vkl_fit_collect(guest.fit);
        cr_assert_geq(status, VKL_OK);
    }
    TEST_OK(rig->context, vkl_fit_finish(guest.fit, NULL));
    trainee_check_same("in a frame", rig, &want);
    vkl_model_destroy(want.model);
    guest_finish(&guest);
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * Training in pieces: whatever the pieces, the bits are those of vkl_model_fit(). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#ifdef VKL_WITH_VULKAN
#include "spy.h"
#endif

enum { ROWS = 120, STEPS = 5, TRAIN = 65, CHECK = 17, BATCH = 7, EPOCHS = 4 };

/* One feature, which is to be foretold; windows to train on, and later ones to check by. */
typedef struct Series {
    float values[ROWS], targets[ROWS];
    uint32_t starts[ROWS];
    VklWindows train, check;
} Series;

static void make_series(Series *series)
{
    for (int row = 0; row < ROWS; row++)
        series->values[row] = sinf(0.3f * (float)row) * cosf(0.02f * (float)row);
    for (uint32_t i = 0; i < ROWS - STEPS; i++) {
        series->starts[i] = i;
        series->targets[i] = series->values[i + STEPS];
    }
    series->train = (VklWindows){.struct_size = sizeof(VklWindows),
                                 .count = TRAIN,
                                 .steps = STEPS,
                                 .features = 1,
                                 .outputs = 1,
                                 .rows = ROWS,
                                 .series = series->values,
                                 .starts = series->starts,
                                 .targets = series->targets};
    series->check = series->train;
    series->check.count = CHECK;
    series->check.starts += TRAIN;
    series->check.targets += TRAIN;
}

typedef struct Epochs {
    double loss[64], validation[64];
    uint64_t count;
} Epochs;

static bool keep_epoch(void *user, const VklEpoch *epoch)
{
    Epochs *epochs = user;
    epochs->loss[epochs->count] = epoch->loss;
    epochs->validation[epochs->count++] = epoch->validation_loss;
    return true;
}

/* A model that is trained, and what it is trained with. */
typedef struct Rig {
    VklContext *context;
    VklDevice *device;
    VklModel *model;
    Series series;
    VklFitDesc desc;
    Epochs epochs;
} Rig;

static VklModel *make_model(VklDevice *device, const char *text)
{
    VklLayerDesc layers[4];
    uint32_t count = 4;
    VklModel *model = NULL;
    VklContext *context = vkl_device_context(device);
    TEST_OK(context, vkl_layers_parse(context, text, layers, &count));
    TEST_OK(context, vkl_model_create(device, 1, layers, count, 3, &model));
    return model;
}

static void rig_start(Rig *rig, VklContext *context, VklDevice *device)
{
    *rig = (Rig){.context = context, .device = device};
    rig->model = make_model(device, "lstm:9,dropout:0.2,dense:1");
    make_series(&rig->series);
    rig->desc = vkl_fit_desc();
    rig->desc.epochs = EPOCHS;
    rig->desc.batch_size = BATCH;
    rig->desc.optimizer.learning_rate = 0.01;
    rig->desc.on_epoch = keep_epoch;
    rig->desc.user = &rig->epochs;
}

static VklFit *rig_fit(Rig *rig)
{
    VklFit *fit = NULL;
    TEST_OK(rig->context, vkl_fit_create(rig->model, &rig->series.train, &rig->series.check, &rig->desc, &fit));
    return fit;
}

#define OPEN                              \
    VklContext *context = test_context(); \
    VklDevice *device = test_device(context)
#define CLOSE                   \
    vkl_device_destroy(device); \
    vkl_context_destroy(context)

/* All weights, one tensor after the other; freed by the caller. */
static float *weights_of(VklModel *model, size_t *bytes)
{
    *bytes = (size_t)vkl_model_parameters(model) * sizeof(float);
    float *weights = malloc(*bytes), *at = weights;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        cr_assert_eq(vkl_model_tensor_info(model, i, &info), VKL_OK);
        cr_assert_eq(vkl_model_get_tensor(model, i, at), VKL_OK);
        at += info.shape[0] * info.shape[1];
    }
    return weights;
}

/* Whether a model and the losses on the way to it are those of a rig, bit for bit. */
static void check_same(const char *what, Rig *rig, Rig *want)
{
    size_t bytes, same_bytes;
    float *got = weights_of(rig->model, &bytes), *wanted = weights_of(want->model, &same_bytes);
    cr_assert_eq(rig->epochs.count, want->epochs.count, "%s: %llu epochs, not %llu", what, (unsigned long long)rig->epochs.count,
                 (unsigned long long)want->epochs.count);
    for (uint64_t i = 0; i < want->epochs.count; i++)
        cr_assert(rig->epochs.loss[i] == want->epochs.loss[i] && rig->epochs.validation[i] == want->epochs.validation[i],
                  "%s: epoch %llu: %.9g and %.9g, not %.9g and %.9g", what, (unsigned long long)i + 1, rig->epochs.loss[i],
                  rig->epochs.validation[i], want->epochs.loss[i], want->epochs.validation[i]);
    cr_assert(bytes == same_bytes && !memcmp(got, wanted, bytes), "%s: other weights", what);
    free(got);
    free(wanted);
}

/* Steps of several epochs, dropout and moments of Adam among them, as vkl_model_fit() does them. */
static void fit_at_once(Rig *rig, VklContext *context, VklDevice *device, VklFitResult *result)
{
    rig_start(rig, context, device);
    TEST_OK(context, vkl_model_fit(rig->model, &rig->series.train, &rig->series.check, &rig->desc, result));
}

/* ---- Pieces of our own ---- */

typedef struct Runs {
    uint64_t pieces, timeouts, submits;
} Runs;

static Runs run_to_the_end(Rig *rig, VklFit *fit, double microseconds)
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
    cr_assert_eq(result.epochs, EPOCHS);
    cr_assert_eq(result.steps, EPOCHS * ((TRAIN + BATCH - 1) / BATCH));
    runs.submits = result.stats.submits;
    return runs;
}

Test(fit, pieces_of_any_length_give_the_same_bits)
{
    static const double budgets[] = {0, 30, 1000, 1e9}; /* microseconds; 0: a kernel each */
    enum { BUDGETS = sizeof(budgets) / sizeof(*budgets) };
    OPEN;
    Rig want;
    VklFitResult result;
    Runs runs[BUDGETS];
    fit_at_once(&want, context, device, &result);
    for (int i = 0; i < BUDGETS; i++) {
        Rig rig;
        rig_start(&rig, context, device);
        VklFit *fit = rig_fit(&rig);
        runs[i] = run_to_the_end(&rig, fit, budgets[i]);
        vkl_fit_destroy(fit);
        check_same("pieces", &rig, &want);
        vkl_model_destroy(rig.model);
    }
    /* kernels one by one; and after a few steps that are measured, epochs as a whole */
    cr_assert_geq(runs[0].pieces, result.steps * 2 * STEPS);
    cr_assert_leq(runs[BUDGETS - 1].pieces, 8 + EPOCHS);
    cr_assert_leq(runs[BUDGETS - 1].pieces, runs[1].pieces);
    if (test_is_vulkan()) {
        cr_assert_geq(runs[0].submits, runs[0].pieces);
        cr_assert_leq(runs[BUDGETS - 1].submits, 16 + EPOCHS);
    }
    vkl_model_destroy(want.model);
    CLOSE;
}

/* The weights between two pieces are those of a whole step: they change as often as there are steps. */
Test(fit, weights_between_pieces_are_those_of_whole_steps)
{
    OPEN;
    Rig rig;
    rig_start(&rig, context, device);
    VklFit *fit = rig_fit(&rig);
    size_t bytes;
    float *before = weights_of(rig.model, &bytes);
    uint64_t changes = 0;
    VklFitProgress progress;
    for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
        status = vkl_fit_run(fit, 0);
        cr_assert_geq(status, VKL_OK);
        float *after = weights_of(rig.model, &bytes);
        changes += memcmp(before, after, bytes) != 0;
        free(before);
        before = after;
    }
    vkl_fit_progress(fit, &progress);
    cr_assert_eq(changes, progress.all_steps);
    cr_assert_eq(progress.all_steps, EPOCHS * progress.steps);
    cr_assert(progress.ended && progress.step_microseconds > 0);
    free(before);
    vkl_fit_destroy(fit);
    vkl_model_destroy(rig.model);
    CLOSE;
}

static bool stop_after_two(void *user, const VklEpoch *epoch)
{
    keep_epoch(user, epoch);
    return epoch->epoch < 2;
}

/* Where training ends, and with which weights, does not depend on who ends it. */
Test(fit, an_early_end_is_a_stop)
{
    OPEN;
    VklFitResult result;
    Rig rig, want;
    rig_start(&want, context, device);
    want.desc.on_epoch = stop_after_two;
    cr_assert_eq(vkl_model_fit(want.model, &want.series.train, &want.series.check, &want.desc, &result), VKL_STOPPED);
    rig_start(&rig, context, device);
    VklFit *fit = rig_fit(&rig);
    while (rig.epochs.count < 2)
        cr_assert_geq(vkl_fit_run(fit, 50), VKL_OK);
    cr_assert_eq(vkl_fit_finish(fit, &result), VKL_STOPPED);
    cr_assert_eq(vkl_fit_finish(fit, NULL), VKL_STOPPED, "again");
    cr_assert_eq(vkl_fit_run(fit, 50), VKL_STOPPED);
    vkl_fit_destroy(fit);
    cr_assert(result.epochs == 2 && (result.best_epoch == 1 || result.best_epoch == 2));
    check_same("stopped", &rig, &want);
    vkl_model_destroy(rig.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

/* ---- Steps in somebody's stream ---- */

Test(fit, recorded_steps_give_the_same_bits)
{
    static const uint32_t counts[] = {1, 3, 1000};
    OPEN;
    Rig want;
    fit_at_once(&want, context, device, NULL);
    for (int i = 0; i < 3; i++) {
        Rig rig;
        VklStream *stream;
        rig_start(&rig, context, device);
        TEST_OK(context, vkl_stream_create(device, &stream));
        VklFit *fit = rig_fit(&rig);
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
        cr_assert_eq(batches, EPOCHS * ((TRAIN + BATCH - 1) / BATCH + 1));
        uint32_t none;
        cr_assert_eq(vkl_fit_record(fit, stream, 1, &none), VKL_STOPPED);
        TEST_OK(context, vkl_fit_finish(fit, NULL));
        vkl_fit_destroy(fit);
        check_same("recorded", &rig, &want);
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
    Rig rig, want;
    VklStream *stream;
    fit_at_once(&want, context, device, NULL);
    rig_start(&rig, context, device);
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklFit *fit = rig_fit(&rig);
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
    check_same("by turns", &rig, &want);
    vkl_stream_destroy(stream);
    vkl_model_destroy(rig.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

Test(fit, wrong_calls_are_refused_by_name)
{
    OPEN;
    Rig rig;
    rig_start(&rig, context, device);
    VklFit *fit = rig_fit(&rig), *second = NULL;
    VklStream *stream = NULL, *other = NULL;
    VklDevice *cpu = test_device_cpu(context);
    uint32_t recorded = 77;
    cr_assert_eq(vkl_fit_create(rig.model, &rig.series.train, NULL, &rig.desc, &second), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_model_error(rig.model), "another VklFit"), "%s", vkl_model_error(rig.model));
    cr_assert_eq(vkl_model_fit(rig.model, &rig.series.train, NULL, &rig.desc, NULL), VKL_ERROR_INVALID);
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
    Rig rig;
    VklFit *fit;
} Guest;

static void guest_start(Guest *guest)
{
    guest->app = app_start();
    VklContext *context = test_context();
    VklVulkanImport import = spy_import(&guest->app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    rig_start(&guest->rig, context, device);
    guest->fit = rig_fit(&guest->rig);
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

Test(fit, recording_steps_only_records)
{
    if (!test_is_vulkan())
        return;
    Guest guest;
    Rig *rig = &guest.rig, want;
    guest_start(&guest);
    fit_at_once(&want, rig->context, rig->device, NULL);
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
    check_same("in a frame", rig, &want);
    vkl_model_destroy(want.model);
    guest_finish(&guest);
}

#endif

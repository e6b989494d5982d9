/* SPDX-License-Identifier: MIT
 *
 * Training that is interrupted goes on with the same bits, wherever it was; and only where everything is the same. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "heap.h"
#include "internal.h"
#include "trainee.h"
#ifdef VKL_WITH_VULKAN
#include "spy.h"
#endif

#define OPEN                              \
    VklContext *context = test_context(); \
    VklDevice *device = test_device(context)
#define CLOSE                   \
    vkl_device_destroy(device); \
    vkl_context_destroy(context)

typedef struct Bytes {
    void *data;
    size_t size;
} Bytes;

static Bytes checkpoint_of(VklFit *fit)
{
    Bytes bytes = {NULL, 0};
    cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, &bytes.data, &bytes.size), VKL_OK, "%s", vkl_fit_error(fit));
    return bytes;
}

/* Exactly so many batches, of training and of validation. VKL_STOPPED: training has ended before. */
static VklStatus do_batches(Trainee *trainee, VklFit *fit, uint64_t count)
{
    VklStream *stream;
    VklStatus status = VKL_OK;
    TEST_OK(trainee->context, vkl_stream_create(trainee->device, &stream));
    while (count && status == VKL_OK) {
        uint32_t recorded = 0;
        status = vkl_fit_record(fit, stream, (uint32_t)count, &recorded);
        TEST_OK(trainee->context, vkl_stream_wait(stream));
        if (status == VKL_OK)
            status = vkl_fit_collect(fit);
        count -= recorded;
    }
    vkl_stream_destroy(stream);
    return status;
}

static void run_to_the_end(Trainee *trainee, VklFit *fit, VklFitResult *result)
{
    VklStatus status = VKL_OK;
    while (status == VKL_OK || status == VKL_TIMEOUT)
        status = vkl_fit_run(fit, 1000);
    cr_assert_eq(status, VKL_STOPPED, "%s", vkl_fit_error(fit));
    TEST_OK(trainee->context, vkl_fit_finish(fit, result));
}

/* ---- The same bits ---- */

typedef struct Case {
    const char *what;
    bool shuffle, validated, worsens; /* validation loss rises from the second epoch on, or so */
    uint64_t patience;
    VklOptimizerKind optimizer;
} Case;

static void trainee_start_case(Trainee *trainee, VklContext *context, VklDevice *device, const Case *row)
{
    trainee_start(trainee, context, device);
    trainee->desc.shuffle = row->shuffle;
    trainee->desc.patience = row->patience;
    trainee->desc.optimizer = vkl_optimizer_desc(row->optimizer);
    trainee->desc.optimizer.learning_rate = row->optimizer == VKL_OPTIMIZER_SGD ? 0.1 : 0.02;
    trainee->desc.optimizer.momentum = row->optimizer == VKL_OPTIMIZER_SGD ? 0.9 : 0;
    trainee->desc.optimizer.clip_norm = 0.5;
    if (!row->validated)
        trainee->check.count = 0;
    for (int i = 0; row->worsens && i < TRAINEE_CHECKS; i++)
        trainee->targets[TRAINEE_WINDOWS + i] *= -1;
}

Test(checkpoint, training_goes_on_with_the_same_bits)
{
    static const Case cases[] = {
        {"Adam", true, true, false, 0, VKL_OPTIMIZER_ADAM},
        {"no shuffle, no validation", false, false, false, 0, VKL_OPTIMIZER_SGD},
        {"patience", true, true, true, 2, VKL_OPTIMIZER_ADAMW},
        {"RMSprop, best weights", false, true, true, 3, VKL_OPTIMIZER_RMSPROP},
    };
    enum { EPOCH = TRAINEE_BATCHES + 1 };
    static const uint64_t places[] = {0, 3, TRAINEE_BATCHES - 1, TRAINEE_BATCHES, EPOCH, 2 * EPOCH + 5, 3 * EPOCH - 1, 4 * EPOCH};
    OPEN;
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        VklFitResult wanted, result;
        Trainee want;
        trainee_start_case(&want, context, device, &cases[c]);
        TEST_OK(context, vkl_model_fit(want.model, &want.train, want.check.count ? &want.check : NULL, &want.desc, &wanted));
        for (size_t p = c; p < sizeof(places) / sizeof(*places); p += c ? 3 : 1) { /* each place once, then some of each case */
            char what[96];
            Trainee first, second;
            snprintf(what, sizeof(what), "%s, after %llu batches", cases[c].what, (unsigned long long)places[p]);
            trainee_start_case(&first, context, device, &cases[c]);
            VklFit *fit = trainee_fit(&first);
            VklStatus status = do_batches(&first, fit, places[p]);
            cr_assert(status == VKL_OK || status == VKL_STOPPED, "%s: %s", what, vkl_fit_error(fit));
            Bytes kept = checkpoint_of(fit);
            vkl_fit_destroy(fit);
            vkl_model_destroy(first.model);

            /* another context and device, and another model, whose weights do not matter */
            VklContext *later = test_context();
            VklDevice *other = test_device(later);
            trainee_start_case(&second, later, other, &cases[c]);
            float noise[4 * 9];
            test_random(noise, 4 * 9, 5, 1);
            TEST_OK(later, vkl_model_set_tensor(second.model, 0, noise));
            fit = trainee_fit(&second);
            TEST_OK(later, vkl_fit_resume_memory(fit, kept.data, kept.size));
            second.epochs = first.epochs;
            run_to_the_end(&second, fit, &result);
            vkl_fit_destroy(fit);
            trainee_check_same(what, &second, &want);
            cr_assert(result.epochs == wanted.epochs && result.best_epoch == wanted.best_epoch && result.steps == wanted.steps,
                      "%s", what);
            cr_assert(result.loss == wanted.loss && (!cases[c].validated || result.validation_loss == wanted.validation_loss),
                      "%s", what);
            vkl_model_destroy(second.model);
            vkl_device_destroy(other);
            vkl_context_destroy(later);
            vkl_free(kept.data);
        }
        vkl_model_destroy(want.model);
    }
    CLOSE;
}

/* Written now and then, and each time gone on from: as if nothing had happened. */
Test(checkpoint, of_a_step_that_was_cut_has_the_whole_step)
{
    OPEN;
    Trainee want, trainee;
    trainee_at_once(&want, context, device, NULL);
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    VklFitProgress progress;
    for (int i = 0; i < 12; i++) {
        for (int n = 0; n < 7; n++)
            cr_assert_geq(vkl_fit_run(fit, 0), VKL_OK);
        Bytes kept = checkpoint_of(fit);
        vkl_fit_destroy(fit);
        fit = trainee_fit(&trainee);
        TEST_OK(context, vkl_fit_resume_memory(fit, kept.data, kept.size));
        vkl_free(kept.data);
    }
    vkl_fit_progress(fit, &progress);
    cr_assert_geq(progress.all_steps, 11u, "each time at least a step, or a batch of validation");
    run_to_the_end(&trainee, fit, NULL);
    vkl_fit_destroy(fit);
    trainee_check_same("interrupted twelve times", &trainee, &want);
    vkl_model_destroy(trainee.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

/* How long training lasts is no part of what it depends on. */
Test(checkpoint, of_finished_training_goes_on_where_more_epochs_are_asked_for)
{
    OPEN;
    Trainee want, trainee;
    trainee_at_once(&want, context, device, NULL);
    trainee_start(&trainee, context, device);
    trainee.desc.epochs = 2;
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 1000), VKL_STOPPED);
    Bytes kept = checkpoint_of(fit);
    vkl_fit_destroy(fit);
    fit = trainee_fit(&trainee);
    TEST_OK(context, vkl_fit_resume_memory(fit, kept.data, kept.size));
    cr_assert_eq(vkl_fit_run(fit, 1000), VKL_STOPPED, "it had ended, and has");
    vkl_fit_destroy(fit);
    trainee.desc.epochs = TRAINEE_EPOCHS;
    fit = trainee_fit(&trainee);
    TEST_OK(context, vkl_fit_resume_memory(fit, kept.data, kept.size));
    run_to_the_end(&trainee, fit, NULL);
    vkl_fit_destroy(fit);
    trainee_check_same("two epochs more", &trainee, &want);
    vkl_free(kept.data);
    vkl_model_destroy(trainee.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

/* Numbers in it are written and compared with a point. */
Test(checkpoint, goes_on_under_another_locale)
{
    OPEN;
    Trainee trainee;
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 5), VKL_OK);
    Bytes kept = checkpoint_of(fit);
    vkl_fit_destroy(fit);
    test_comma_locale();
    fit = trainee_fit(&trainee);
    cr_assert_eq(vkl_fit_resume_memory(fit, kept.data, kept.size), VKL_OK, "%s", vkl_fit_error(fit));
    vkl_fit_destroy(fit);
    vkl_free(kept.data);
    vkl_model_destroy(trainee.model);
    CLOSE;
}

/* ---- Files ---- */

Test(checkpoint, is_a_model_file_too)
{
    OPEN;
    Trainee trainee;
    char path[] = "/tmp/vklstm-checkpoint-XXXXXX";
    int file = mkstemp(path);
    cr_assert_geq(file, 0);
    close(file);
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 14), VKL_OK);
    TEST_OK(context, vkl_fit_checkpoint(fit, NULL, path));
    cr_assert_eq(vkl_fit_checkpoint(fit, NULL, "/no such folder/file"), VKL_ERROR_IO);
    cr_assert(strstr(vkl_fit_error(fit), "/no such folder/file"), "%s", vkl_fit_error(fit));
    cr_assert_eq(vkl_fit_resume(fit, path), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "training has begun"), "%s", vkl_fit_error(fit));
    VklModel *loaded = NULL;
    VklPrep *prep = NULL;
    TEST_OK(context, vkl_model_load(device, path, &loaded, &prep));
    cr_assert_null(prep);
    size_t bytes;
    float *want = trainee_weights(trainee.model, &bytes), *got = trainee_weights(loaded, &bytes);
    cr_assert(!memcmp(want, got, bytes), "the weights of the latest step");
    free(want);
    free(got);

    /* but a model is no checkpoint */
    vkl_fit_destroy(fit);
    fit = trainee_fit(&trainee);
    Bytes plain;
    TEST_OK(context, vkl_model_save_memory(loaded, NULL, &plain.data, &plain.size));
    cr_assert_eq(vkl_fit_resume_memory(fit, plain.data, plain.size), VKL_ERROR_FORMAT);
    cr_assert(strstr(vkl_fit_error(fit), "no checkpoint"), "%s", vkl_fit_error(fit));
    cr_assert_eq(vkl_fit_resume(fit, "/no such file"), VKL_ERROR_IO);
    TEST_OK(context, vkl_fit_resume(fit, path));
    vkl_free(plain.data);
    vkl_fit_destroy(fit);
    vkl_model_destroy(loaded);
    vkl_model_destroy(trainee.model);
    unlink(path);
    CLOSE;
}

/* A text of the file in the place of another of the same length. */
static void put(Bytes bytes, const char *old, const char *new)
{
    size_t length = strlen(old);
    bool found = false;
    for (size_t i = 0; i + length <= bytes.size && !found; i++)
        if (!memcmp((char *)bytes.data + i, old, length)) {
            memcpy((char *)bytes.data + i, new, length);
            found = true;
        }
    cr_assert(found, "%s", old);
}

Test(checkpoint, what_is_in_it_is_checked)
{
    static const struct {
        const char *old, *new, *says;
        bool model; /* a model cannot be read either */
    } cases[] = {
        {"fit.first.", "fit.worst.", "belongs to none", true},
        {"\"fit.losses\"", "\"fit.lasses\"", "belongs to none", true},
        {"\"fit\":", "\"fat\":", "belongs to none", true},
        {"\\\"batch\\\":3", "\\\"batch\\\":-", "fit, character", false},
        {"\\\"batch\\\":3", "\\\"butch\\\":3", "'batch'", false},
        {"\\\"epoch\\\":2", "\\\"epoch\\\":0", "'epoch'", false},
        {"\\\"best_epoch\\\":1", "\\\"best_epoch\\\":2", "'best_epoch'", false},
        {"\\\"state\\\":[", "\\\"stale\\\":[", "'state'", false},
        {"\\\"seconds\\\":", "\\\"secunds\\\":", "'seconds'", false},
        {"\\\"batch_size\\\":", "\\\"batch-size\\\":", "batch_size", false},
    };
    OPEN;
    Trainee want, trainee;
    trainee_at_once(&want, context, device, NULL);
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, TRAINEE_BATCHES + 1 + 3), VKL_OK);
    Bytes kept = checkpoint_of(fit), spoiled = {malloc(kept.size), kept.size};
    vkl_fit_destroy(fit);
    fit = trainee_fit(&trainee);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklModel *loaded = NULL;
        memcpy(spoiled.data, kept.data, kept.size);
        put(spoiled, cases[i].old, cases[i].new);
        VklStatus status = vkl_fit_resume_memory(fit, spoiled.data, spoiled.size);
        cr_assert(status == VKL_ERROR_FORMAT || status == VKL_ERROR_INVALID, "%s: status %d", cases[i].new, (int)status);
        if (!cases[i].model)
            cr_assert(strstr(vkl_fit_error(fit), cases[i].says), "%s: %s", cases[i].new, vkl_fit_error(fit));
        status = vkl_model_load_memory(device, spoiled.data, spoiled.size, &loaded, NULL);
        cr_assert_eq(status, cases[i].model ? VKL_ERROR_FORMAT : VKL_OK, "%s", cases[i].new);
        if (cases[i].model)
            cr_assert(strstr(vkl_device_error(device), cases[i].says), "%s: %s", cases[i].new, vkl_device_error(device));
        vkl_model_destroy(loaded);
    }
    /* cut off anywhere, or one bit another: refused or read, and nothing else */
    for (size_t size = 0; size < kept.size; size += 1 + kept.size / 61)
        cr_assert_eq(vkl_fit_resume_memory(fit, kept.data, size), VKL_ERROR_FORMAT);
    vkl_fit_destroy(fit);
    for (size_t i = 0; i < 96; i++) {
        fit = trainee_fit(&trainee);
        memcpy(spoiled.data, kept.data, kept.size);
        ((unsigned char *)spoiled.data)[i * 41 % (kept.size < 6000 ? kept.size : 6000)] ^= (unsigned char)(1u << i % 8);
        VklStatus status = vkl_fit_resume_memory(fit, spoiled.data, spoiled.size);
        cr_assert(status == VKL_OK || status == VKL_ERROR_FORMAT || status == VKL_ERROR_INVALID, "status %d", (int)status);
        vkl_fit_destroy(fit);
    }
    /* refused calls have left no trace */
    fit = trainee_fit(&trainee);
    cr_assert_lt(vkl_fit_resume_memory(fit, kept.data, 100), 0);
    TEST_OK(context, vkl_fit_resume_memory(fit, kept.data, kept.size));
    run_to_the_end(&trainee, fit, NULL);
    vkl_fit_destroy(fit);
    trainee_check_same("after refusals", &trainee, &want);
    free(spoiled.data);
    vkl_free(kept.data);
    vkl_model_destroy(trainee.model);
    vkl_model_destroy(want.model);
    CLOSE;
}

/* ---- Something else ---- */

static void other_batch(Trainee *t)
{
    t->desc.batch_size = 8;
}
static void other_seed(Trainee *t)
{
    t->desc.seed = 2;
}
static void other_shuffle(Trainee *t)
{
    t->desc.shuffle = false;
}
static void other_rate(Trainee *t)
{
    t->desc.optimizer.learning_rate = nextafter(0.01, 1);
}
static void other_optimizer(Trainee *t)
{
    t->desc.optimizer.kind = VKL_OPTIMIZER_ADAMW;
}
static void other_loss(Trainee *t)
{
    t->desc.loss = VKL_LOSS_MAE;
}
static void other_count(Trainee *t)
{
    t->train.count--;
}
static void other_number(Trainee *t)
{
    t->values[40] = nextafterf(t->values[40], 1);
}
static void other_target(Trainee *t)
{
    t->targets[TRAINEE_WINDOWS + 3] += 1;
}
static void other_steps(Trainee *t)
{
    t->train.steps--;
    t->check.steps--;
}
static void no_validation(Trainee *t)
{
    t->check.count = 0;
}
static void other_layers(Trainee *t)
{
    VklLayerDesc layers[] = {vkl_layer_lstm(9), vkl_layer_dropout(0.25), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    vkl_model_destroy(t->model);
    t->model = NULL;
    TEST_OK(t->context, vkl_model_create(t->device, 1, layers, 3, 3, &t->model));
}

Test(checkpoint, of_other_training_is_refused_by_name)
{
    static const struct {
        void (*change)(Trainee *);
        const char *says;
    } cases[] = {{other_batch, "batch_size"},
                 {other_seed, "seed: the checkpoint has 1, this training 2"},
                 {other_shuffle, "shuffle"},
                 {other_rate, "learning_rate"},
                 {other_optimizer, "optimizer"},
                 {other_loss, "loss"},
                 {other_count, "training windows: the checkpoint has 65, this training 64"},
                 {other_number, "contents of the training windows"},
                 {other_target, "contents of the validation windows"},
                 {other_steps, "steps of a window"},
                 {no_validation, "validation windows: the checkpoint has 17, this training 0"},
                 {other_layers, "of the layers"}};
    OPEN;
    Trainee trainee;
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 5), VKL_OK);
    Bytes kept = checkpoint_of(fit);
    vkl_fit_destroy(fit);
    vkl_model_destroy(trainee.model);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        Trainee other;
        trainee_start(&other, context, device);
        cases[i].change(&other);
        fit = trainee_fit(&other);
        cr_assert_eq(vkl_fit_resume_memory(fit, kept.data, kept.size), VKL_ERROR_INVALID, "%s", cases[i].says);
        cr_assert(strstr(vkl_fit_error(fit), cases[i].says), "wanted '%s': %s", cases[i].says, vkl_fit_error(fit));
        vkl_fit_destroy(fit);
        vkl_model_destroy(other.model);
    }
    vkl_free(kept.data);
    CLOSE;
}

Test(checkpoint, wrong_calls_are_refused_by_name)
{
    OPEN;
    Trainee trainee;
    Bytes bytes = {NULL, 0};
    VklStream *stream;
    uint32_t recorded;
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(vkl_fit_checkpoint(fit, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_fit_checkpoint(fit, NULL, ""), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, NULL, &bytes.size), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_fit_resume(fit, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_fit_resume_memory(fit, NULL, 5), VKL_ERROR_INVALID);
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_fit_record(fit, stream, 1, &recorded));
    cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, &bytes.data, &bytes.size), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "not collected"), "%s", vkl_fit_error(fit));
    TEST_OK(context, vkl_stream_wait(stream));
    TEST_OK(context, vkl_fit_collect(fit));
    cr_assert_eq(vkl_fit_finish(fit, NULL), VKL_STOPPED);
    cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, &bytes.data, &bytes.size), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_fit_error(fit), "vkl_fit_finish() has chosen"), "%s", vkl_fit_error(fit));
    cr_assert_null(bytes.data);
    vkl_fit_destroy(fit);
    vkl_stream_destroy(stream);
    vkl_model_destroy(trainee.model);

    trainee_start(&trainee, context, device);
    trainee.targets[20] = NAN;
    fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 1000), VKL_ERROR_NUMERIC);
    cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, &bytes.data, &bytes.size), VKL_ERROR_NUMERIC);
    vkl_fit_destroy(fit);
    vkl_model_destroy(trainee.model);
    CLOSE;
}

/* ---- Refused memory ---- */

/* Each allocation of a checkpoint is refused once, and each of reading it; the call is then made again, or the VklFit, and training goes on as if
 * nothing had happened. */
Test(checkpoint, memory_that_is_refused_is_told_and_costs_nothing_else)
{
    Heap heap = {0};
    VklContext *context = test_context_with(heap_memory(&heap));
    VklDevice *device = test_device(context);
    Trainee want, trainee;
    unsigned long written = 0, read = 0;
    trainee_at_once(&want, context, device, NULL);
    trainee_start(&trainee, context, device);
    VklFit *fit = trainee_fit(&trainee);
    cr_assert_eq(do_batches(&trainee, fit, 15), VKL_OK);
    Bytes kept = checkpoint_of(fit);
    for (bool met = true; met; written++) {
        Bytes again = {NULL, 0};
        atomic_store(&heap.refuse, written + 1);
        VklStatus status = vkl_fit_checkpoint_memory(fit, NULL, &again.data, &again.size);
        met = atomic_exchange(&heap.refuse, 0) == 0;
        cr_assert_eq(status, met ? VKL_ERROR_HOST_MEMORY : VKL_OK, "allocation %lu: status %d", written + 1, (int)status);
        cr_assert(met || again.size > 0);
        vkl_free(again.data);
    }
    vkl_fit_destroy(fit);
    fit = trainee_fit(&trainee);
    for (bool met = true; met; read++) {
        atomic_store(&heap.refuse, read + 1);
        VklStatus status = vkl_fit_resume_memory(fit, kept.data, kept.size);
        met = atomic_exchange(&heap.refuse, 0) == 0;
        cr_assert_eq(status, met ? VKL_ERROR_HOST_MEMORY : VKL_OK, "allocation %lu: status %d", read + 1, (int)status);
        if (met) {
            vkl_fit_destroy(fit);
            fit = trainee_fit(&trainee);
        }
    }
    cr_assert(written > 20 && read > 20, "%lu and %lu allocations", written, read);
    run_to_the_end(&trainee, fit, NULL);
    vkl_fit_destroy(fit);
    trainee_check_same("after refusals", &trainee, &want);
    vkl_free(kept.data);
    vkl_model_destroy(trainee.model);
    vkl_model_destroy(want.model);
    CLOSE;
    cr_assert_eq(atomic_load(&heap.live), 0, "%lu blocks", atomic_load(&heap.live));
}

/* ---- A lost device ---- */

#ifdef VKL_WITH_VULKAN

Test(checkpoint, training_survives_a_lost_device)
{
    static const char *const calls[] = {"vkQueueSubmit", "vkGetFenceStatus"};
    if (!test_is_vulkan())
        return;
    OPEN;
    Trainee want;
    trainee_at_once(&want, context, device, NULL);
    for (int i = 0; i < 2; i++) {
        Trainee first, second;
        App app = app_start();
        VklContext *guest = test_context();
        VklVulkanImport import = spy_import(&app);
        VklDevice *lost = NULL;
        TEST_OK(guest, vkl_device_import_vulkan(guest, &import, &lost));
        trainee_start(&first, guest, lost);
        VklFit *fit = trainee_fit(&first);
        cr_assert_eq(do_batches(&first, fit, 17), VKL_OK);
        Bytes kept = checkpoint_of(fit);
        VklStatus status = VKL_OK;
        spy.only = calls[i];
        spy.failure = VK_ERROR_DEVICE_LOST;
        spy.until_failure = 3;
        while (status == VKL_OK || status == VKL_TIMEOUT)
            status = vkl_fit_run(fit, 100);
        spy.until_failure = 0;
        cr_assert_eq(status, VKL_ERROR_DEVICE_LOST, "%s: status %d", calls[i], (int)status);
        cr_assert_eq(vkl_fit_run(fit, 100), VKL_ERROR_DEVICE_LOST, "it stays lost");
        cr_assert(strstr(vkl_fit_error(fit), "lost"), "%s", vkl_fit_error(fit));
        cr_assert_eq(vkl_fit_finish(fit, NULL), VKL_ERROR_DEVICE_LOST);
        Bytes none = {NULL, 0};
        cr_assert_eq(vkl_fit_checkpoint_memory(fit, NULL, &none.data, &none.size), VKL_ERROR_DEVICE_LOST);
        vkl_fit_destroy(fit);
        vkl_model_destroy(first.model);
        vkl_device_destroy(lost);
        vkl_context_destroy(guest);
        app_stop(&app);

        trainee_start(&second, context, device);
        second.epochs = first.epochs;
        fit = trainee_fit(&second);
        TEST_OK(context, vkl_fit_resume_memory(fit, kept.data, kept.size));
        run_to_the_end(&second, fit, NULL);
        vkl_fit_destroy(fit);
        if (second.epochs.count > TRAINEE_EPOCHS) /* epochs that the lost device had ended after the checkpoint are there twice */
            second.epochs = want.epochs;
        trainee_check_same(calls[i], &second, &want);
        vkl_model_destroy(second.model);
        vkl_free(kept.data);
    }
    vkl_model_destroy(want.model);
    CLOSE;
}

#endif

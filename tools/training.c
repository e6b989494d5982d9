/* SPDX-License-Identifier: MIT */
#include "training.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "interrupt.h"
#include "message.h"
#include "output.h"

/* Cuts "A,B" into names. The array and the text that it points into are one allocation. NULL: out of memory. */
static char **split_names(const char *text, uint32_t *count)
{
    size_t length = strlen(text), pieces = 1;
    for (const char *at = text; *at; at++)
        pieces += *at == ',';
    char **names = malloc(pieces * sizeof *names + length + 1);
    if (!names)
        return NULL;
    char *copy = memcpy((char *)(names + pieces), text, length + 1);
    for (size_t i = 0; i < pieces; i++) {
        names[i] = copy;
        copy += strcspn(copy, ",");
        *copy++ = '\0';
    }
    *count = (uint32_t)pieces;
    return names;
}

static int make_prep(Training *training, double validation_split, VklPrep **prep)
{
    const TrainArgs *args = training->args;
    VklPrepDesc desc = vkl_prep_desc(args->target);
    char **names = NULL;
    if (args->features) {
        names = split_names(args->features, &desc.feature_count);
        if (!names)
            return fail("out of memory");
        desc.features = (const char *const *)names;
    }
    desc.window = args->window;
    desc.horizon = args->horizon;
    desc.fill = args->fill.method;
    if (desc.fill == VKL_FILL_MOVING_AVERAGE)
        desc.fill_window = args->fill.window;
    desc.scale = args->scale;
    desc.log = args->log;
    desc.difference = args->difference;
    desc.test_split = args->test_split;
    desc.validation_split = validation_split;
    VklStatus status = vkl_prep_create(training->session.context, training->table, &desc, prep);
    free(names);
    return status == VKL_OK ? EXIT_OK : fail_library(training->session.context, status);
}

static int parse_layers(Training *training)
{
    const char *text = training->args->layers;
    training->layer_count = LAYERS_MAX;
    VklStatus status = vkl_layers_parse(training->session.context, text, training->layers, &training->layer_count);
    if (status != VKL_OK)
        return fail_usage("--layers: %s", vkl_context_error(training->session.context));
    bool recurrent = false;
    uint64_t outputs = 1;
    for (uint32_t i = 0; i < training->layer_count; i++) {
        const VklLayerDesc *layer = &training->layers[i];
        if (layer->kind == VKL_LAYER_DROPOUT)
            continue; /* hands on what it gets */
        recurrent = recurrent || layer->kind != VKL_LAYER_DENSE;
        outputs = (layer->projection ? layer->projection : layer->units) * (layer->both ? 2 : 1);
    }
    if (!recurrent)
        return fail_usage("--layers: %s has no recurrent layer, such as lstm:50", text);
    if (outputs != 1)
        return fail_usage("--layers: the last layer of %s has %llu outputs; a forecast is 1 value", text,
                          (unsigned long long)outputs);
    return EXIT_OK;
}

static int make_model(Training *training, VklPrep *prep, VklModel **model)
{
    VklStatus status = vkl_model_create(training->session.device, vkl_prep_features(prep), training->layers,
                                        training->layer_count, training->args->seed, model);
    if (status != VKL_ERROR_LIMIT && status != VKL_ERROR_HOST_MEMORY && status != VKL_ERROR_DEVICE_MEMORY)
        return status == VKL_OK ? EXIT_OK : fail_library(training->session.context, status);
    const char *sentence = vkl_context_error(training->session.context), *colon = strstr(sentence, ": ");
    if (strncmp(sentence, "vkl_", 4) == 0 && colon) /* the user knows the option, not the call */
        sentence = colon + 2;
    return fail("--layers: %s is too large: %s", training->args->layers, sentence[0] ? sentence : vkl_status_string(status));
}

int training_load(Training *training)
{
    int status = session_open(&training->session);
    if (status == EXIT_OK)
        status = parse_layers(training);
    if (status != EXIT_OK)
        return status;
    VklStatus read = vkl_table_read_csv(training->session.context, training->args->data, &training->table);
    if (read != VKL_OK)
        return fail_library(training->session.context, read);
    status = make_prep(training, training->args->validation_split, &training->prep);
    if (status == EXIT_OK)
        status = session_open_device(&training->session, training->args->device);
    if (status == EXIT_OK)
        status = make_model(training, training->prep, &training->model);
    return status;
}

/* A file that cannot be written is told, and keeps nobody from training. */
static void keep_checkpoint(Training *training)
{
    char *path = output_resolve(training->args->checkpoint); /* the file behind a link is to be replaced */
    VklStatus status = vkl_fit_checkpoint(training->fitting, training->prep, path ? path : training->args->checkpoint);
    free(path);
    training->unkept = status != VKL_OK;
    if (status != VKL_OK)
        fail_library(training->session.context, status);
}

static bool on_progress(void *user, const VklProgress *now)
{
    Training *training = user;
    progress_step(&training->progress, now);
    return interrupt_signal() == 0;
}

static bool on_epoch(void *user, const VklEpoch *epoch)
{
    Training *training = user;
    progress_epoch(&training->progress, epoch, training->fit.epochs);
    if (training->args->history && training->result.epochs == 0) /* a refit is not part of it */
        history_add(&training->history, epoch);
    bool asked = interrupt_signal() != 0;
    if (training->fitting && !asked && epoch->epoch < training->fit.epochs &&
        epoch->epoch % training->args->checkpoint_every == 0)
        keep_checkpoint(training);
    return !asked;
}

static void describe_fit(Training *training)
{
    const TrainArgs *args = training->args;
    VklFitDesc *fit = &training->fit;
    *fit = vkl_fit_desc();
    fit->epochs = args->epochs;
    fit->batch_size = args->batch_size;
    fit->loss = args->loss;
    fit->optimizer = vkl_optimizer_desc(args->optimizer);
    if (!isnan(args->learning_rate))
        fit->optimizer.learning_rate = args->learning_rate;
    if (!isnan(args->weight_decay))
        fit->optimizer.weight_decay = args->weight_decay;
    fit->optimizer.momentum = args->momentum;
    fit->optimizer.clip_norm = args->clip_norm;
    fit->patience = args->patience;
    fit->seed = args->seed;
    fit->on_progress = on_progress;
    fit->on_epoch = on_epoch;
    fit->user = training;
}

static VklStatus go_on(Training *training, VklFit *fit)
{
    VklFitProgress progress;
    VklStatus status = vkl_fit_resume(fit, training->args->resume);
    if (status != VKL_OK || training->args->quiet)
        return status;
    vkl_fit_progress(fit, &progress);
    if (progress.ended)
        note("%s: this training has ended; --epochs takes more", training->args->resume);
    else
        note("going on from %s: epoch %llu of %llu, step %llu of %llu", training->args->resume,
             (unsigned long long)progress.epoch, (unsigned long long)progress.epochs, (unsigned long long)progress.step,
             (unsigned long long)progress.steps);
    return status;
}

/* The first fit, from its beginning or from a checkpoint, with checkpoints on the way and at its end. */
static VklStatus fit_with_checkpoints(Training *training, const VklWindows *train, const VklWindows *validation,
                                      VklFitResult *result)
{
    VklFit *fit = NULL;
    VklStatus status = vkl_fit_create(training->model, train, validation, &training->fit, &fit);
    if (status == VKL_OK && training->args->resume)
        status = go_on(training, fit);
    training->fitting = training->args->checkpoint ? fit : NULL;
    while (status == VKL_OK) {
        status = vkl_fit_run(fit, 50000);
        if (status == VKL_OK)
            status = vkl_fit_wait(fit);
    }
    if (status == VKL_STOPPED && training->fitting)
        keep_checkpoint(training);
    training->fitting = NULL;
    if (fit && status != VKL_ERROR_DEVICE_LOST) {
        VklStatus finished = vkl_fit_finish(fit, result);
        status = status < 0 ? status : finished;
    }
    vkl_fit_destroy(fit);
    return status;
}

/* Trains on the training part. A callback stops it only for a signal, so that VKL_STOPPED needs no look of its own. */
static int run_fit(Training *training, VklPrep *prep, VklModel *model, VklFitResult *result)
{
    bool first = model == training->model;
    const VklWindows *validation = NULL;
    VklWindowSet *train_set = NULL, *validation_set = NULL;
    VklStatus status = vkl_prep_windows(prep, training->table, VKL_PART_TRAIN, &train_set);
    if (status == VKL_OK && vkl_prep_get_desc(prep)->validation_split > 0) {
        status = vkl_prep_windows(prep, training->table, VKL_PART_VALIDATION, &validation_set);
        if (status == VKL_OK && validation_set->windows.count > 0)
            validation = &validation_set->windows;
    }
    if (status == VKL_OK) {
        VklFitResult fitted;
        progress_begin(&training->progress, training->args->quiet);
        if (first && (training->args->checkpoint || training->args->resume))
            status = fit_with_checkpoints(training, &train_set->windows, validation, &fitted);
        else
            status = vkl_model_fit(model, &train_set->windows, validation, &training->fit, &fitted);
        progress_end(&training->progress);
        if (status == VKL_OK || status == VKL_STOPPED)
            *result = fitted;
    }
    vkl_window_set_destroy(train_set);
    vkl_window_set_destroy(validation_set);
    if (status != VKL_OK && status != VKL_STOPPED)
        return fail_library(training->session.context, status);
    training->seconds += result->seconds;
    return EXIT_OK;
}

int training_fit(Training *training)
{
    const TrainArgs *args = training->args;
    const VklFitResult *result = &training->result;
    if (args->window == 1 && !args->quiet)
        note("a window of 1 has no memory: the network sees one row and nothing before it; --window N gives it a past");
    describe_fit(training);
    int status = run_fit(training, training->prep, training->model, &training->result);
    if (status == EXIT_OK && !args->quiet && interrupt_signal() == 0 && args->patience > 0 && result->epochs < args->epochs)
        note("stopped after epoch %llu: no lower validation loss since epoch %llu, whose weights were taken",
             (unsigned long long)result->epochs, (unsigned long long)result->best_epoch);
    return status;
}

int training_refit(Training *training)
{
    VklPrep *prep = NULL;
    VklModel *model = NULL;
    VklFitResult result;
    VklStatus predicted =
        part_predict(training->prep, training->table, training->model, VKL_PART_VALIDATION, &training->validation);
    int status = predicted == VKL_OK ? EXIT_OK : fail_library(training->session.context, predicted);
    if (status == EXIT_OK)
        status = make_prep(training, 0, &prep);
    if (status == EXIT_OK)
        status = make_model(training, prep, &model);
    if (status == EXIT_OK) {
        training->fit.epochs = training->result.best_epoch;
        training->fit.patience = 0;
        if (!training->args->quiet)
            note("training anew on training and validation part for %llu epoch%s", (unsigned long long)training->fit.epochs,
                 training->fit.epochs == 1 ? "" : "s");
        status = run_fit(training, prep, model, &result);
    }
    if (status != EXIT_OK || interrupt_signal() != 0) {
        vkl_model_destroy(model);
        vkl_prep_destroy(prep);
        return status;
    }
    vkl_model_destroy(training->model);
    vkl_prep_destroy(training->prep);
    training->model = model;
    training->prep = prep;
    training->refit_epochs = result.epochs;
    training->result.loss = result.loss;
    return EXIT_OK;
}

void training_clear(Training *training)
{
    parts_clear(&training->parts);
    part_clear(&training->validation);
    history_clear(&training->history);
    vkl_model_destroy(training->model);
    vkl_prep_destroy(training->prep);
    vkl_table_destroy(training->table);
    session_close(&training->session);
}

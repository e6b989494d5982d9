/* SPDX-License-Identifier: MIT
 *
 * Training, evaluation and prediction of a model: a step is planned once, bound once and replayed. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "init.h"
#include "model.h"
#include "optimizer.h"

VklFitDesc vkl_fit_desc(void)
{
    return (VklFitDesc){.struct_size = sizeof(VklFitDesc),
                        .epochs = 100,
                        .batch_size = 1,
                        .loss = VKL_LOSS_MSE,
                        .huber_delta = 1,
                        .optimizer = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM),
                        .seed = 1,
                        .shuffle = true};
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static VklStatus fail(VklModel *model, VklStatus status, const char *call, const char *what, uint64_t value, uint64_t limit)
{
    return vkl_fail(model->device->context, &model->error, status, "%s: %s is %llu; it must be %llu", call, what,
                    (unsigned long long)value, (unsigned long long)limit);
}

static VklStatus check_windows(VklModel *model, const char *call, const VklWindows *windows, bool targets)
{
    VklContext *context = model->device->context;
    if (!windows || windows->struct_size != sizeof(*windows))
        return fail(model, VKL_ERROR_INVALID, call, "the windows' struct_size", windows ? windows->struct_size : 0,
                    sizeof(*windows));
    if (windows->features != model->network.features)
        return fail(model, VKL_ERROR_INVALID, call, "the windows' features", windows->features, model->network.features);
    if (windows->outputs != model->network.outputs)
        return fail(model, VKL_ERROR_INVALID, call, "the windows' outputs", windows->outputs, model->network.outputs);
    if (!windows->count || windows->count > UINT32_MAX || !windows->steps)
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID,
                        "%s: there are %llu windows of %llu steps; from 1 to %u windows of at least 1 step are needed", call,
                        (unsigned long long)windows->count, (unsigned long long)windows->steps, UINT32_MAX);
    if (!windows->series || !windows->starts || (targets && !windows->targets))
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: the windows have no %s", call,
                        !windows->series   ? "series"
                        : !windows->starts ? "starts"
                                           : "targets");
    for (uint64_t i = 0; i < windows->count; i++)
        if (windows->steps > windows->rows || windows->starts[i] > windows->rows - windows->steps)
            return vkl_fail(context, &model->error, VKL_ERROR_INVALID,
                            "%s: window %llu begins at row %u and has %llu steps; the series has %llu rows", call,
                            (unsigned long long)i, windows->starts[i], (unsigned long long)windows->steps,
                            (unsigned long long)windows->rows);
    return VKL_OK;
}

/* ---- A set of windows on the device, and batches of it ---- */

typedef struct Batch {
    uint64_t rows;
    VklExec *exec; /* NULL: no batch of this size */
    VklBuffer *reserve, *workspace;
    VklArray predictions; /* in reserve */
} Batch;

typedef struct Job {
    VklModel *model;
    const char *call;
    const VklWindows *windows;
    uint64_t batch_size;
    VklWindowPlaces places;
    VklBuffer *data, *state;
    VklBuffer *grads, *moments; /* training */
    Batch full, rest;
    uint32_t *order; /* host, [count] */
    float *losses;   /* host, [batches] */
} Job;

static void job_finish(Job *job)
{
    if (job->model)
        vkl_stream_wait(job->model->stream); /* after a failure recorded work may still name what is destroyed here */
    Batch *batches[] = {&job->full, &job->rest};
    for (int i = 0; i < 2; i++) {
        vkl_exec_destroy(batches[i]->exec);
        vkl_buffer_destroy(batches[i]->reserve);
        vkl_buffer_destroy(batches[i]->workspace);
    }
    vkl_buffer_destroy(job->data);
    vkl_buffer_destroy(job->state);
    vkl_buffer_destroy(job->grads);
    vkl_buffer_destroy(job->moments);
    vkl_release(job->order);
    vkl_release(job->losses);
}

static VklStatus again(VklModel *model, VklStatus status)
{
    return status < 0 ? vkl_fail_again(&model->error, status) : status;
}

static VklStatus create_batch(Job *job, Batch *batch, uint64_t rows, const VklFitDesc *fit, VklModelPlan model_plan)
{
    VklModel *model = job->model;
    VklDevice *device = model->device;
    if (!rows)
        return VKL_OK;
    VklPlan plan;
    vkl_plan_init(&plan, &device->caps);
    model_plan.network = &model->network;
    model_plan.T = job->windows->steps;
    model_plan.N = rows;
    model_plan.places = &job->places;
    model_plan.has_targets = job->windows->targets != NULL;
    model_plan.loss = fit->loss;
    model_plan.huber_delta = fit->huber_delta;
    model_plan.optimizer = model_plan.training ? &fit->optimizer : NULL;
    model_plan.seed = fit->seed;
    if (!vkl_plan_model(&plan, &model_plan)) {
        vkl_plan_finish(&plan);
        return vkl_fail(device->context, &model->error, VKL_ERROR_LIMIT,
                        "%s: a batch of %llu windows of %llu steps needs memory that does not fit 63 bits", job->call,
                        (unsigned long long)rows, (unsigned long long)job->windows->steps);
    }
    VklStatus status = VKL_OK;
    if (!plan.status) {
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * (model_plan.reserve + 1), &batch->reserve);
        if (!status)
            status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * (model_plan.workspace + 1), &batch->workspace);
    }
    if (status) {
        vkl_plan_finish(&plan);
        return again(model, status);
    }
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    slots[VKL_SLOT_PARAMS] = vkl_slice(model->params, 0);
    slots[VKL_SLOT_GRADS] = vkl_slice(job->grads, 0);
    slots[VKL_SLOT_MOMENTS] = vkl_slice(job->moments, 0);
    slots[VKL_SLOT_STATE] = vkl_slice(job->state, 0);
    slots[VKL_SLOT_DATA] = vkl_slice(job->data, 0);
    slots[VKL_SLOT_RESERVE] = vkl_slice(batch->reserve, 0);
    slots[VKL_SLOT_WORKSPACE] = vkl_slice(batch->workspace, 0);
    batch->rows = rows;
    batch->predictions = model_plan.predictions;
    return vkl_exec_create(device, &plan, slots, job->call, &model->error, &batch->exec);
}

static VklStatus upload_windows(Job *job, const VklFitDesc *fit)
{
    VklStream *stream = job->model->stream;
    const VklWindows *windows = job->windows;
    uint32_t header[VKL_STATE_LOSS];
    vkl_optimizer_state(&fit->optimizer, header);
    VklStatus status = vkl_stream_write(stream, vkl_slice(job->data, 4 * job->places.series), windows->series,
                                        4 * windows->rows * windows->features);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(job->data, 4 * job->places.starts), windows->starts, 4 * windows->count);
    if (!status && windows->targets)
        status = vkl_stream_write(stream, vkl_slice(job->data, 4 * job->places.targets), windows->targets,
                                  4 * windows->count * windows->outputs);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(job->state, 0), header, sizeof(header));
    for (uint32_t i = 0; i < windows->count; i++)
        job->order[i] = i;
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(job->state, 4 * job->places.order), job->order, 4 * windows->count);
    return again(job->model, status);
}

/* `fit` gives loss and optimizer. On failure too job_finish() is to be called. */
static VklStatus job_start(Job *job, VklModel *model, const char *call, const VklWindows *windows, uint64_t batch_size,
                           const VklFitDesc *fit, VklModelPlan model_plan)
{
    VklDevice *device = model->device;
    *job = (Job){.model = model, .call = call, .windows = windows};
    job->batch_size = batch_size < windows->count ? batch_size : windows->count;
    if (!vkl_window_places(windows, job->batch_size, &job->places))
        return vkl_fail(device->context, &model->error, VKL_ERROR_LIMIT,
                        "%s: a series of %llu rows of %llu numbers does not fit 63 bits", call, (unsigned long long)windows->rows,
                        (unsigned long long)windows->features);
    job->order = vkl_allocate(device->caps.memory, windows->count, sizeof(*job->order));
    job->losses = vkl_allocate(device->caps.memory, job->places.batches, sizeof(*job->losses));
    if (!job->order || !job->losses)
        return vkl_fail(device->context, &model->error, VKL_ERROR_HOST_MEMORY, "%s: the host refused memory for %llu windows",
                        call, (unsigned long long)windows->count);
    VklStatus status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * job->places.data, &job->data);
    if (!status)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * job->places.state, &job->state);
    if (!status && model_plan.training)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * model->network.params, &job->grads);
    if (!status && model_plan.training)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 8 * model->network.params, &job->moments);
    if (status)
        return again(model, status);
    status = create_batch(job, &job->full, job->batch_size, fit, model_plan);
    if (!status)
        status = create_batch(job, &job->rest, windows->count % job->batch_size, fit, model_plan);
    if (!status)
        status = vkl_model_sync(model);
    return status ? status : upload_windows(job, fit);
}

/* The next pass over the windows begins: counters to zero, in a new order if asked for. */
static VklStatus job_rewind(Job *job, const VklFitDesc *shuffled, uint64_t epoch)
{
    VklStream *stream = job->model->stream;
    VklStatus status = vkl_stream_fill(stream, vkl_slice(job->state, 4 * VKL_STATE_BATCH), 0, 4);
    if (!status)
        status = vkl_stream_fill(stream, vkl_slice(job->state, 4 * VKL_STATE_WINDOW), 0, 4);
    if (!status && shuffled) {
        vkl_shuffle(job->order, (uint32_t)job->windows->count, shuffled->seed, epoch);
        status = vkl_stream_write(stream, vkl_slice(job->state, 4 * job->places.order), job->order, 4 * job->windows->count);
    }
    return again(job->model, status);
}

/* Reads the losses of a whole pass: their mean over windows and outputs, and the first batch that is not finite, or UINT64_MAX. */
static VklStatus job_losses(Job *job, double *mean, uint64_t *broken)
{
    VklStatus status =
        vkl_download(job->model->stream, vkl_slice(job->state, 4 * VKL_STATE_LOSS), job->losses, 4 * job->places.batches);
    double sum = 0;
    *broken = UINT64_MAX;
    for (uint64_t i = 0; i < job->places.batches && !status; i++) {
        sum += (double)job->losses[i];
        if (!isfinite(job->losses[i]) && *broken == UINT64_MAX)
            *broken = i;
    }
    *mean = sum / ((double)job->windows->count * (double)job->windows->outputs);
    return again(job->model, status);
}

/* All batches of a pass without a word to the host in between. */
static VklStatus job_pass(Job *job)
{
    VklStatus status = job_rewind(job, NULL, 0);
    if (!status)
        status = again(job->model,
                       vkl_stream_replay(job->model->stream, job->full.exec, (uint32_t)(job->windows->count / job->batch_size)));
    if (!status && job->rest.exec)
        status = again(job->model, vkl_stream_replay(job->model->stream, job->rest.exec, 1));
    return status;
}

/* ---- Training ---- */

typedef struct Training {
    VklModel *model;
    const VklFitDesc *desc;
    Job train, validation;
    bool validated;
    VklBuffer *best;     /* weights of the lowest validation loss; made with validation */
    VklBuffer *finished; /* weights at the end of the last finished epoch */
    double best_loss, start, reported;
    uint64_t best_epoch, epoch;
    uint32_t chunk; /* steps of one submission, so that a callback can stop training soon */
    VklFitResult result;
} Training;

static VklStatus copy_params(Training *training, VklBuffer *dst, VklBuffer *src)
{
    return again(training->model, vkl_stream_copy(training->model->stream, vkl_slice(dst, 0), vkl_slice(src, 0),
                                                  4 * training->model->network.params));
}

/* `count` steps of one batch, in submissions of about a twentieth of a second. VKL_STOPPED when the callback says so. */
static VklStatus train_steps(Training *training, const Batch *batch, uint64_t count, uint64_t *done)
{
    VklModel *model = training->model;
    const VklFitDesc *desc = training->desc;
    while (count) {
        double begun = now();
        uint32_t part = count < training->chunk ? (uint32_t)count : training->chunk;
        VklStatus status = vkl_stream_replay(model->stream, batch->exec, part);
        if (!status)
            status = vkl_stream_wait(model->stream);
        if (status)
            return again(model, status);
        double end = now(), took = end - begun;
        count -= part;
        *done += part;
        training->result.steps += part;
        if (part == training->chunk) {
            double wanted = took > 0 ? 0.05 / took * part : 2.0 * part;
            training->chunk = wanted < 1 ? 1 : wanted > 2.0 * part ? 2 * part : (uint32_t)wanted;
            training->chunk = training->chunk > 65536 ? 65536 : training->chunk;
        }
        if (desc->on_progress && end - training->reported >= 0.1) {
            training->reported = end;
            VklProgress progress = {.epoch = training->epoch,
                                    .epochs = desc->epochs,
                                    .step = *done,
                                    .steps = training->train.places.batches,
                                    .seconds = end - training->start};
            if (!desc->on_progress(desc->user, &progress))
                return VKL_STOPPED;
        }
    }
    return VKL_OK;
}

static VklStatus broken_loss(Training *training, const char *part, uint64_t step, double loss)
{
    return vkl_fail(
        training->model->device->context, &training->model->error, VKL_ERROR_NUMERIC,
        "vkl_model_fit: the %s loss of epoch %llu, step %llu is %g; training has stopped (a smaller learning rate or clip_norm "
        "may help, or the data hold values that are not finite)",
        part, (unsigned long long)training->epoch, (unsigned long long)(step + 1), loss);
}

/* One epoch of training and validation. */
static VklStatus train_epoch(Training *training, VklEpoch *epoch)
{
    Job *job = &training->train;
    uint64_t done = 0, broken;
    VklStatus status = job_rewind(job, training->desc->shuffle ? training->desc : NULL, training->epoch);
    if (!status)
        status = train_steps(training, &job->full, job->windows->count / job->batch_size, &done);
    if (!status && job->rest.exec)
        status = train_steps(training, &job->rest, 1, &done);
    if (!status)
        status = job_losses(job, &epoch->loss, &broken);
    if (!status && broken != UINT64_MAX)
        status = broken_loss(training, "training", broken, (double)job->losses[broken]);
    if (status || !training->validated)
        return status;

    status = job_pass(&training->validation);
    if (!status)
        status = job_losses(&training->validation, &epoch->validation_loss, &broken);
    if (!status && broken != UINT64_MAX)
        status = broken_loss(training, "validation", broken, (double)training->validation.losses[broken]);
    if (!status && (!training->best_epoch || epoch->validation_loss < training->best_loss)) {
        epoch->best = true;
        training->best_loss = epoch->validation_loss;
        training->best_epoch = epoch->epoch;
        status = copy_params(training, training->best, training->model->params);
    }
    return status;
}

static VklStatus train_epochs(Training *training)
{
    const VklFitDesc *desc = training->desc;
    for (training->epoch = 1; training->epoch <= desc->epochs; training->epoch++) {
        VklEpoch epoch = {.epoch = training->epoch, .validation_loss = NAN};
        VklStatus status = train_epoch(training, &epoch);
        if (!status)
            status = copy_params(training, training->finished, training->model->params);
        if (status)
            return status;
        epoch.seconds = now() - training->start;
        training->result.epochs = training->epoch;
        training->result.loss = epoch.loss;
        training->result.validation_loss = epoch.validation_loss;
        if (desc->on_epoch && !desc->on_epoch(desc->user, &epoch))
            return VKL_STOPPED;
        if (desc->patience && training->epoch - training->best_epoch >= desc->patience)
            return VKL_OK;
    }
    return VKL_OK;
}

static VklStatus check_fit(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc)
{
    static const char call[] = "vkl_model_fit";
    VklContext *context = model->device->context;
    if (!desc)
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: desc is NULL", call);
    if (desc->struct_size != sizeof(*desc))
        return fail(model, VKL_ERROR_INVALID, call, "struct_size", desc->struct_size, sizeof(*desc));
    VklStatus status = check_windows(model, call, train, true);
    if (!status && validation)
        status = check_windows(model, call, validation, true);
    if (!status && validation && validation->steps != train->steps)
        status = fail(model, VKL_ERROR_INVALID, call, "the validation windows' steps", validation->steps, train->steps);
    if (!status && (!desc->epochs || !desc->batch_size))
        status =
            vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: epochs is %llu, batch_size %llu; each must be at least 1",
                     call, (unsigned long long)desc->epochs, (unsigned long long)desc->batch_size);
    if (!status && (desc->loss < VKL_LOSS_MSE || desc->loss > VKL_LOSS_HUBER))
        status = vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: loss %d is none of VklLoss", call, (int)desc->loss);
    if (!status && desc->loss == VKL_LOSS_HUBER && !(desc->huber_delta > 0))
        status = vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: huber_delta is %g; it must be above 0", call,
                          desc->huber_delta);
    if (!status && desc->patience && !validation)
        status = vkl_fail(context, &model->error, VKL_ERROR_INVALID,
                          "%s: patience is %llu, but there are no validation windows to stop by", call,
                          (unsigned long long)desc->patience);
    return status ? status : vkl_optimizer_check(context, &model->error, call, &desc->optimizer);
}

/* Which weights the model ends with. */
static VklStatus settle(Training *training, VklStatus ended)
{
    bool failed = ended < 0, stopped = ended == VKL_STOPPED;
    uint64_t epoch = training->result.epochs;
    VklBuffer *weights = NULL;
    if (training->best_epoch && (failed || stopped || training->desc->patience)) {
        weights = training->best;
        epoch = training->best_epoch;
        training->result.validation_loss = training->best_loss;
    } else if (failed) {
        weights = training->finished; /* before the first epoch has ended: the weights from before training */
    }
    training->result.best_epoch = epoch;
    return weights ? copy_params(training, training->model->params, weights) : VKL_OK;
}

static uint64_t inference_batch(const VklModel *model, uint64_t steps);

VklStatus vkl_model_fit(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc,
                        VklFitResult *result)
{
    VklStatus status = check_fit(model, train, validation, desc);
    if (status)
        return status;
    Training training = {.model = model,
                         .desc = desc,
                         .validated = validation != NULL,
                         .start = now(),
                         .chunk = 1,
                         .result = {.loss = NAN, .validation_loss = NAN}};
    training.reported = training.start;
    VklStreamStats before = model->stream->stats;
    status = job_start(&training.train, model, "vkl_model_fit", train, desc->batch_size, desc, (VklModelPlan){.training = true});
    if (!status && validation)
        status = job_start(&training.validation, model, "vkl_model_fit", validation, inference_batch(model, validation->steps),
                           desc, (VklModelPlan){.with_loss = true});
    uint64_t bytes = 4 * model->network.params;
    if (!status)
        status = again(model, vkl_buffer_create(model->device, VKL_BUFFER_DEVICE, bytes, &training.finished));
    if (!status && validation)
        status = again(model, vkl_buffer_create(model->device, VKL_BUFFER_DEVICE, bytes, &training.best));
    if (!status)
        status = copy_params(&training, training.finished, model->params);
    if (!status) {
        model->mirror_valid = false;
        status = train_epochs(&training);
        if (status != VKL_ERROR_DEVICE_LOST) {
            VklStatus settled = settle(&training, status);
            if (!settled)
                settled = again(model, vkl_stream_wait(model->stream));
            status = settled && status >= 0 ? settled : status;
        }
    }
    if (status >= 0 && result) {
        *result = training.result;
        result->seconds = now() - training.start;
        result->stats.dispatches = model->stream->stats.dispatches - before.dispatches;
        result->stats.barriers = model->stream->stats.barriers - before.barriers;
        result->stats.submits = model->stream->stats.submits - before.submits;
    }
    job_finish(&training.train);
    job_finish(&training.validation);
    vkl_buffer_destroy(training.best);
    vkl_buffer_destroy(training.finished);
    return status;
}

/* ---- Prediction ---- */

/* Windows of one batch of inference: many, but within some 64 MiB of gates. */
static uint64_t inference_batch(const VklModel *model, uint64_t steps)
{
    uint64_t widest = 1, rows = VKL_LOSS_MOST / model->network.outputs;
    rows = rows < 1 ? 1 : rows < 256 ? rows : 256;
    for (uint32_t i = 0; i < model->network.count; i++)
        if (model->network.layers[i].desc.units > widest)
            widest = model->network.layers[i].desc.units;
    uint64_t most = (UINT64_C(1) << 24) / 4 / widest / (steps < UINT64_C(1) << 24 ? steps : UINT64_C(1) << 24);
    return most < 1 ? 1 : most < rows ? most : rows;
}

VklStatus vkl_model_predict(VklModel *model, const VklWindows *windows, float *predictions)
{
    static const char call[] = "vkl_model_predict";
    VklFitDesc fit = vkl_fit_desc();
    VklStatus status = check_windows(model, call, windows, false);
    if (!status && !predictions)
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: predictions is NULL", call);
    if (status)
        return status;
    VklWindows inputs = *windows;
    inputs.targets = NULL;
    Job job;
    status = job_start(&job, model, call, &inputs, inference_batch(model, windows->steps), &fit, (VklModelPlan){0});
    for (uint64_t done = 0; done < windows->count && !status;) {
        /* without the loss kernel nothing on the device moves on to the next windows */
        const Batch *batch = windows->count - done >= job.full.rows ? &job.full : &job.rest;
        uint64_t numbers = batch->rows * windows->outputs;
        status = vkl_stream_fill(model->stream, vkl_slice(job.state, 4 * VKL_STATE_WINDOW), (uint32_t)done, 4);
        if (!status)
            status = vkl_exec_record(batch->exec, model->stream);
        if (!status)
            status = vkl_stream_read(model->stream, vkl_slice(batch->reserve, 4 * batch->predictions.at),
                                     predictions + done * windows->outputs, 4 * numbers);
        status = again(model, status);
        done += batch->rows;
    }
    if (!status)
        status = again(model, vkl_stream_wait(model->stream));
    job_finish(&job);
    return status;
}

VklStatus vkl_model_evaluate(VklModel *model, const VklWindows *windows, VklLoss loss, double huber_delta, double *mean)
{
    static const char call[] = "vkl_model_evaluate";
    VklFitDesc fit = vkl_fit_desc();
    fit.loss = loss;
    fit.huber_delta = huber_delta;
    VklStatus status = check_windows(model, call, windows, true);
    if (!status && (loss < VKL_LOSS_MSE || loss > VKL_LOSS_HUBER))
        status =
            vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: loss %d is none of VklLoss", call, (int)loss);
    if (!status && loss == VKL_LOSS_HUBER && !(huber_delta > 0))
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: huber_delta is %g; it must be above 0",
                          call, huber_delta);
    if (!status && !mean)
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: mean is NULL", call);
    if (status)
        return status;
    Job job;
    double made;
    uint64_t broken;
    status =
        job_start(&job, model, call, windows, inference_batch(model, windows->steps), &fit, (VklModelPlan){.with_loss = true});
    if (!status)
        status = job_pass(&job);
    if (!status)
        status = job_losses(&job, &made, &broken);
    if (!status)
        *mean = made;
    job_finish(&job);
    return status;
}

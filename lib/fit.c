/* SPDX-License-Identifier: MIT
 *
 * Training in pieces. An epoch is a row of batches, first those that are trained on, then those of validation; `Place` says how far it is
 * submitted or recorded. Between epochs the host looks at the losses, which the device has copied to where the host can read
 * them, and decides what the next epoch begins with. */
#include <math.h>

#include "fit.h"
#include "init.h"
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
    return 1e-9 * vkl_nanoseconds();
}

static VklStatus again(VklFit *fit, VklStatus status)
{
    return status < 0 ? vkl_fail_again(&fit->error, status) : status;
}

/* ---- Creation ---- */

static VklStatus check_fit(VklModel *model, const char *call, const VklWindows *train, const VklWindows *validation,
                           const VklFitDesc *desc)
{
    VklContext *context = model->device->context;
    VklStatus status = vkl_check_struct(context, &model->error, call, "desc", desc, sizeof(*desc));
    if (status)
        return status;
    if (model->fit)
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: the model is being trained by another VklFit", call);
    status = vkl_windows_check(model, call, train, true);
    if (!status && validation)
        status = vkl_windows_check(model, call, validation, true);
    if (!status && validation && validation->steps != train->steps)
        status = vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: the validation windows' steps is %llu; it must be %llu",
                          call, (unsigned long long)validation->steps, (unsigned long long)train->steps);
    if (!status && (!desc->epochs || !desc->batch_size))
        status =
            vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: epochs is %llu, batch_size %llu; each must be at least 1",
                     call, (unsigned long long)desc->epochs, (unsigned long long)desc->batch_size);
    if (!status)
        status = vkl_loss_check(model, call, desc->loss, desc->huber_delta);
    if (!status && desc->patience && !validation)
        status = vkl_fail(context, &model->error, VKL_ERROR_INVALID,
                          "%s: patience is %llu, but there are no validation windows to stop by", call,
                          (unsigned long long)desc->patience);
    return status ? status : vkl_optimizer_check(context, &model->error, call, &desc->optimizer);
}

VklStatus vkl_fit_prepare_order(VklFit *fit, uint64_t epoch)
{
    if (!fit->order)
        return VKL_OK;
    vkl_shuffle(vkl_buffer_data(fit->order), (uint32_t)fit->train.count, fit->desc.seed, epoch);
    return vkl_buffer_flush(fit->order, 0, 4 * fit->train.count);
}

static uint64_t all_batches(const VklFit *fit)
{
    return fit->train.places.batches + (fit->validated ? fit->validation.places.batches : 0);
}

/* Where the optimizer begins: from there on a step is not cut, so that the weights between two pieces are those of whole steps. */
static size_t first_writer(const VklExec *exec, VklSlot slot)
{
    for (size_t i = 0; i < exec->plan.count; i++)
        for (int b = 0; b < exec->plan.ops[i].bindings; b++)
            if (exec->plan.ops[i].bind[b].slot == slot && exec->plan.ops[i].bind[b].access & VKL_WRITE)
                return i;
    return exec->plan.count;
}

static void prepare_batch(VklPaced *paced, const VklBatch *batch, bool training)
{
    *paced = vkl_paced(batch->exec);
    if (batch->exec && training)
        paced->tail = first_writer(batch->exec, VKL_SLOT_PARAMS);
}

static VklStatus start(VklFit *fit, const char *call, const VklWindows *train, const VklWindows *validation)
{
    VklModel *model = fit->model;
    VklDevice *device = model->device;
    const VklFitDesc *desc = &fit->desc;
    uint64_t bytes = 4 * model->network.params;
    VklStatus status =
        vkl_batches_start(&fit->train, model, call, train, desc->batch_size, desc, (VklModelPlan){.training = true});
    if (!status && validation)
        status = vkl_batches_start(&fit->validation, model, call, validation, vkl_inference_batch(model, validation->steps), desc,
                                   (VklModelPlan){.with_loss = true});
    if (status)
        return status;
    status = vkl_pace_init(&fit->pace, model->stream);
    if (!status)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, bytes, &fit->finished);
    if (!status && validation)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, bytes, &fit->best);
    if (!status && desc->shuffle)
        status = vkl_buffer_create(device, VKL_BUFFER_UPLOAD, 4 * train->count, &fit->order);
    if (!status)
        status = vkl_buffer_create(device, VKL_BUFFER_READBACK, 4 * all_batches(fit), &fit->losses);
    if (!status)
        status = vkl_fit_prepare_order(fit, fit->epoch);
    if (!status)
        status = vkl_stream_wait(model->stream); /* the windows are on the device */
    if (status)
        return vkl_fail_again(&model->error, status);
    const VklBatch *batches[] = {&fit->train.full, &fit->train.rest, &fit->validation.full, &fit->validation.rest};
    for (int i = 0; i < VKL_FIT_PARTS; i++)
        prepare_batch(&fit->paced[i], batches[i], i < VKL_FIT_CHECK);
    return VKL_OK;
}

/* `call`: whose sentences these are. */
static VklStatus create(const char *call, VklModel *model, const VklWindows *train, const VklWindows *validation,
                        const VklFitDesc *desc, VklFit **fit)
{
    VklStatus status = check_fit(model, call, train, validation, desc);
    if (status)
        return status;
    VklFit *made = vkl_allocate(model->device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_HOST_MEMORY, "%s: the host refused %zu bytes", call,
                        sizeof(*made));
    made->model = model;
    made->desc = *desc;
    made->validated = validation != NULL;
    made->epoch = 1;
    made->sources[0] = vkl_fit_source(train);
    made->sources[1] = vkl_fit_source(validation);
    made->at.keep_finished = true;
    made->began = made->reported = now();
    made->before = model->stream->stats;
    made->result.loss = made->result.validation_loss = NAN;
    model->fit = made;
    status = start(made, call, train, validation);
    if (status)
        vkl_fit_destroy(made);
    else
        *fit = made;
    return status;
}

VklStatus vkl_fit_create(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc,
                         VklFit **fit)
{
    static const char call[] = "vkl_fit_create";
    if (!fit)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: fit is NULL", call);
    return create(call, model, train, validation, desc, fit);
}

const char *vkl_fit_error(const VklFit *fit)
{
    return fit->error.message;
}

/* ---- What an epoch consists of ---- */

/* The part of the epoch that a place is in, and how many batches of it are left. */
static VklFitPart part_of(const VklFit *fit, uint64_t batch, uint64_t *left)
{
    const uint64_t counts[VKL_FIT_PARTS] = {
        fit->train.full_count,
        fit->train.places.batches - fit->train.full_count,
        fit->validation.full_count,
        fit->validation.places.batches - fit->validation.full_count,
    };
    int part = 0;
    for (; part < VKL_FIT_PARTS - 1 && batch >= counts[part]; part++)
        batch -= counts[part];
    *left = counts[part] - batch;
    return (VklFitPart)part;
}

static VklStatus copy_params(VklFit *fit, VklStream *stream, VklBuffer *dst, VklBuffer *src)
{
    return vkl_stream_copy(stream, vkl_slice(dst, 0), vkl_slice(src, 0), 4 * fit->model->network.params);
}

/* In front of an epoch's first batch. */
static VklStatus begin_epoch(VklFit *fit, VklStream *stream)
{
    VklBuffer *params = fit->model->params;
    VklStatus status = fit->at.keep_finished ? copy_params(fit, stream, fit->finished, params) : VKL_OK;
    if (!status && fit->at.keep_best)
        status = copy_params(fit, stream, fit->best, params);
    if (!status)
        status = vkl_batches_rewind(&fit->train, stream);
    if (!status && fit->order)
        status = vkl_stream_copy(stream, vkl_slice(fit->train.state, 4 * fit->train.places.order), vkl_slice(fit->order, 0),
                                 4 * fit->train.count);
    fit->at.keep_finished = fit->at.keep_best = false;
    return status;
}

static VklStatus copy_losses(VklFit *fit, VklStream *stream, const VklBatches *batches, uint64_t at)
{
    return vkl_stream_copy(stream, vkl_slice(fit->losses, 4 * at), vkl_slice(batches->state, 4 * VKL_STATE_LOSS),
                           4 * batches->places.batches);
}

/* Behind batches, `count` of which have been submitted or recorded. */
static VklStatus move_on(VklFit *fit, VklStream *stream, uint64_t count)
{
    uint64_t trained = fit->train.places.batches;
    VklStatus status = VKL_OK;
    fit->at.batch += count;
    if (!count)
        return VKL_OK;
    if (fit->at.batch == trained) {
        status = copy_losses(fit, stream, &fit->train, 0);
        if (!status && fit->validated)
            status = vkl_batches_rewind(&fit->validation, stream);
    } else if (fit->at.batch == all_batches(fit)) {
        status = copy_losses(fit, stream, &fit->validation, trained);
    }
    if (!status && fit->at.batch == all_batches(fit))
        status = vkl_stream_show(stream);
    return status;
}

/* ---- What the host does when the device has done its part ---- */

static void end(VklFit *fit, VklStatus status)
{
    fit->ended = true;
    fit->end = status;
}

/* What calls return once training has ended. */
static VklStatus ended(const VklFit *fit)
{
    return fit->end < 0 ? fit->end : VKL_STOPPED;
}

static VklStatus broken_loss(VklFit *fit, const char *part, uint64_t step, double loss)
{
    return vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_NUMERIC,
                    "the %s loss of epoch %llu, step %llu is %g; training has stopped (a smaller learning rate or clip_norm "
                    "may help, or the data hold values that are not finite)",
                    part, (unsigned long long)fit->epoch, (unsigned long long)(step + 1), loss);
}

static VklStatus read_losses(VklFit *fit, VklEpoch *epoch)
{
    VklStatus status = vkl_buffer_invalidate(fit->losses, 0, 4 * all_batches(fit));
    if (status)
        return again(fit, status);
    const float *losses = vkl_buffer_data(fit->losses);
    uint64_t broken;
    epoch->loss = vkl_batches_loss(&fit->train, losses, &broken);
    if (broken != UINT64_MAX)
        return broken_loss(fit, "training", broken, (double)losses[broken]);
    if (!fit->validated)
        return VKL_OK;
    losses += fit->train.places.batches;
    epoch->validation_loss = vkl_batches_loss(&fit->validation, losses, &broken);
    return broken != UINT64_MAX ? broken_loss(fit, "validation", broken, (double)losses[broken]) : VKL_OK;
}

void vkl_fit_decide(VklFit *fit, VklStatus status)
{
    bool patient = !fit->desc.patience || fit->result.epochs - fit->best_epoch < fit->desc.patience;
    if (!fit->ended && (status || fit->epoch > fit->desc.epochs || !patient))
        end(fit, status);
}

static VklStatus end_epoch(VklFit *fit)
{
    VklEpoch epoch = {.epoch = fit->epoch, .validation_loss = NAN};
    VklStatus status = read_losses(fit, &epoch);
    if (status == VKL_ERROR_NUMERIC)
        end(fit, status);
    else if (!status)
        status = again(fit, vkl_fit_prepare_order(fit, fit->epoch + 1));
    if (status) /* what was refused may be tried again: nothing has changed yet */
        return status;
    epoch.best = fit->validated && (!fit->best_epoch || epoch.validation_loss < fit->best_loss);
    if (epoch.best) {
        fit->best_loss = epoch.validation_loss;
        fit->best_epoch = epoch.epoch;
    }
    epoch.seconds = now() - fit->began;
    fit->result.epochs = fit->epoch;
    fit->result.loss = epoch.loss;
    fit->result.validation_loss = epoch.validation_loss;
    fit->epoch++;
    fit->at = (VklFitPlace){.keep_finished = true, .keep_best = epoch.best};
    fit->seen = 0;
    if (fit->desc.on_epoch && !fit->desc.on_epoch(fit->desc.user, &epoch))
        end(fit, VKL_STOPPED);
    vkl_fit_decide(fit, VKL_OK);
    return VKL_OK;
}

/* The device has done all that was submitted or recorded. */
static VklStatus look_at_results(VklFit *fit)
{
    uint64_t trained = fit->train.places.batches;
    uint64_t then = fit->seen < trained ? fit->seen : trained;
    uint64_t step = fit->at.batch < trained ? fit->at.batch : trained;
    fit->seen = fit->at.batch;
    fit->result.steps += step - then;
    double time = now();
    bool go_on = true;
    if (fit->desc.on_progress && !fit->at.done && time - fit->reported >= 0.1) {
        fit->reported = time;
        VklProgress progress = {
            .epoch = fit->epoch, .epochs = fit->desc.epochs, .step = step, .steps = trained, .seconds = time - fit->began};
        go_on = fit->desc.on_progress(fit->desc.user, &progress);
    }
    VklStatus status = fit->at.batch == all_batches(fit) ? end_epoch(fit) : VKL_OK;
    if (!go_on && !status && !fit->ended)
        end(fit, VKL_STOPPED);
    return status;
}

/* ---- Pieces of our own ---- */

static VklStatus fill_piece(VklFit *fit)
{
    VklStream *stream = fit->model->stream;
    VklStatus status = fit->at.batch || fit->at.done ? VKL_OK : begin_epoch(fit, stream);
    while (!status && fit->at.batch < all_batches(fit)) {
        uint64_t left;
        VklPaced *paced = &fit->paced[part_of(fit, fit->at.batch, &left)];
        uint32_t repeated;
        left = left < UINT32_MAX ? left : UINT32_MAX;
        status = vkl_pace_add(&fit->pace, paced, (uint32_t)left, &fit->at.done, &repeated);
        if (!status)
            status = move_on(fit, stream, repeated);
        if (repeated < left)
            break;
    }
    return status;
}

static VklStatus submit_piece(VklFit *fit, double microseconds)
{
    VklFitPlace before = fit->at;
    fit->model->mirror_valid = false;
    VklStatus status = vkl_pace_begin(&fit->pace, microseconds);
    if (!status) {
        status = fill_piece(fit);
        if (status)
            vkl_pace_drop(&fit->pace);
        else
            status = vkl_pace_submit(&fit->pace);
    }
    if (status)
        fit->at = before;
    return again(fit, status);
}

/* VKL_TIMEOUT: the piece before still runs. */
static VklStatus look(VklFit *fit)
{
    bool running = fit->pace.running;
    VklStatus status = vkl_pace_look(&fit->pace);
    if (status)
        return again(fit, status);
    return running || fit->at.batch == all_batches(fit) ? look_at_results(fit) : VKL_OK;
}

static VklStatus check_alive(VklFit *fit, const char *call)
{
    return vkl_device_alive(fit->model->device, &fit->error, call);
}

VklStatus vkl_fit_ready(VklFit *fit, const char *call)
{
    VklStatus status = check_alive(fit, call);
    return status || !fit->recorded
               ? status
               : vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_INVALID,
                          "%s: steps that were recorded are not collected; vkl_fit_collect() comes first", call);
}

VklStatus vkl_fit_run(VklFit *fit, double microseconds)
{
    static const char call[] = "vkl_fit_run";
    VklStatus status = vkl_fit_ready(fit, call);
    if (!status && !(microseconds >= 0))
        status = vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_INVALID,
                          "%s: microseconds is %g; it must be at least 0", call, microseconds);
    if (!status && !fit->ended)
        status = look(fit);
    if (status)
        return status;
    return fit->ended ? ended(fit) : submit_piece(fit, microseconds);
}

VklStatus vkl_fit_wait(VklFit *fit)
{
    VklStatus status = check_alive(fit, "vkl_fit_wait");
    return status || !fit->pace.running ? status : again(fit, vkl_stream_wait(fit->model->stream));
}

VklStatus vkl_fit_end_step(VklFit *fit)
{
    VklStatus status = again(fit, vkl_stream_wait(fit->model->stream));
    if (!status)
        status = look(fit);
    while (!status && fit->at.done) {
        status = submit_piece(fit, 5e4);
        if (!status)
            status = again(fit, vkl_stream_wait(fit->model->stream));
        if (!status)
            status = look(fit);
    }
    return status;
}

/* ---- Command buffers of the caller's ---- */

static VklStatus record_batch(VklFit *fit, VklStream *stream)
{
    uint64_t left;
    const VklExec *exec = fit->paced[part_of(fit, fit->at.batch, &left)].exec;
    size_t done = fit->at.done;
    VklStatus status = fit->at.batch || done ? VKL_OK : begin_epoch(fit, stream);
    if (!status)
        status = done ? stream->device->backend->exec_record_part((VklExec *)exec, stream, done, exec->plan.count - done)
                      : vkl_exec_record(exec, stream);
    fit->at.done = 0;
    return status ? status : move_on(fit, stream, 1);
}

VklStatus vkl_fit_record(VklFit *fit, VklStream *stream, uint32_t steps, uint32_t *recorded)
{
    static const char call[] = "vkl_fit_record";
    VklContext *context = fit->model->device->context;
    VklStatus status = check_alive(fit, call);
    if (!status && (!stream || !recorded))
        status = vkl_fail(context, &fit->error, VKL_ERROR_INVALID, "%s: %s is NULL", call, stream ? "recorded" : "stream");
    if (!status && stream->device != fit->model->device)
        status = vkl_fail(context, &fit->error, VKL_ERROR_INVALID, "%s: the stream belongs to another device", call);
    if (!status && !fit->ended && !fit->recorded)
        status = look(fit);
    if (status)
        return status;
    if (fit->ended)
        return ended(fit);
    uint32_t count = 0;
    for (; !status && count < steps && fit->at.batch < all_batches(fit); count++) {
        fit->recorded = true;
        fit->model->mirror_valid = false;
        status = record_batch(fit, stream);
    }
    if (status) {
        end(fit, again(fit, status)); /* nobody knows what the command buffer holds */
        return status;
    }
    *recorded = count;
    return VKL_OK;
}

VklStatus vkl_fit_collect(VklFit *fit)
{
    VklStatus status = check_alive(fit, "vkl_fit_collect");
    if (status)
        return status;
    bool recorded = fit->recorded;
    fit->recorded = false;
    if ((recorded || fit->at.batch == all_batches(fit)) && !fit->ended)
        status = look_at_results(fit);
    return status ? status : fit->ended ? ended(fit) : VKL_OK;
}

/* ---- The end ---- */

void vkl_fit_progress(const VklFit *fit, VklFitProgress *progress)
{
    uint64_t trained = fit->train.places.batches;
    *progress = (VklFitProgress){.struct_size = sizeof(*progress),
                                 .epoch = fit->epoch < fit->desc.epochs ? fit->epoch : fit->desc.epochs,
                                 .epochs = fit->desc.epochs,
                                 .step = fit->seen < trained ? fit->seen : trained,
                                 .steps = trained,
                                 .all_steps = fit->result.steps,
                                 .loss = fit->result.loss,
                                 .validation_loss = fit->result.validation_loss,
                                 .step_microseconds = 1e-3 * fit->paced[0].measured,
                                 .ended = fit->ended};
}

/* Which weights the model ends with. Those that are only to be copied when the next epoch begins are still where they were made. */
static VklStatus settle(VklFit *fit)
{
    bool failed = fit->end < 0, stopped = fit->end == VKL_STOPPED;
    VklBuffer *weights = NULL;
    fit->result.best_epoch = fit->result.epochs;
    if (fit->best_epoch && (failed || stopped || fit->desc.patience)) {
        weights = fit->at.keep_best ? NULL : fit->best;
        fit->result.best_epoch = fit->best_epoch;
        fit->result.validation_loss = fit->best_loss;
    } else if (failed && !fit->at.keep_finished) {
        weights = fit->finished; /* before the first epoch has ended: the weights from before training */
    }
    VklStatus status = weights ? copy_params(fit, fit->model->stream, fit->model->params, weights) : VKL_OK;
    return again(fit, status ? status : vkl_stream_wait(fit->model->stream));
}

VklStatus vkl_fit_finish(VklFit *fit, VklFitResult *result)
{
    VklStatus status = vkl_fit_ready(fit, "vkl_fit_finish");
    if (status)
        return status;
    if (!fit->ended) {
        status = vkl_fit_end_step(fit);
        if (!fit->ended)
            end(fit, status ? status : VKL_STOPPED);
    }
    if (fit->end == VKL_ERROR_DEVICE_LOST)
        return fit->end;
    if (!fit->settled) {
        fit->model->mirror_valid = false;
        status = settle(fit);
        if (status)
            return fit->end < 0 ? fit->end : status;
        fit->settled = true;
        fit->result.seconds = now() - fit->began;
    }
    if (fit->end >= 0 && result) {
        const VklStreamStats *stats = &fit->model->stream->stats;
        *result = fit->result;
        result->stats.dispatches = stats->dispatches - fit->before.dispatches;
        result->stats.barriers = stats->barriers - fit->before.barriers;
        result->stats.submits = stats->submits - fit->before.submits;
    }
    return fit->end;
}

void vkl_fit_destroy(VklFit *fit)
{
    if (!fit)
        return;
    VklModel *model = fit->model;
    if (fit->at.done && !fit->ended && !fit->recorded && !atomic_load(&model->device->lost)) {
        fit->desc.on_progress = NULL;
        fit->desc.on_epoch = NULL;
        vkl_fit_end_step(fit);
    }
    vkl_batches_finish(&fit->train); /* waits */
    vkl_batches_finish(&fit->validation);
    vkl_pace_finish(&fit->pace);
    vkl_buffer_destroy(fit->best);
    vkl_buffer_destroy(fit->finished);
    vkl_buffer_destroy(fit->order);
    vkl_buffer_destroy(fit->losses);
    model->fit = NULL;
    vkl_release(fit);
}

VklStatus vkl_model_fit(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc,
                        VklFitResult *result)
{
    VklFit *fit;
    VklStatus status = create("vkl_model_fit", model, train, validation, desc, &fit);
    if (status)
        return status;
    /* pieces of a twentieth of a second, so that a callback can stop training soon */
    while (!status) {
        status = vkl_fit_run(fit, 5e4);
        if (!status)
            status = vkl_fit_wait(fit);
    }
    if (!fit->ended)
        end(fit, status);
    if (status != VKL_ERROR_DEVICE_LOST)
        status = vkl_fit_finish(fit, result);
    if (status < 0)
        model->error = fit->error;
    vkl_fit_destroy(fit);
    return status;
}

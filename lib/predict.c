/* SPDX-License-Identifier: MIT
 *
 * Prediction and evaluation of a model. */
#include "batches.h"

VklStatus vkl_model_predict(VklModel *model, const VklWindows *windows, float *predictions)
{
    static const char call[] = "vkl_model_predict";
    VklFitDesc fit = vkl_fit_desc();
    VklStatus status = vkl_windows_check(model, call, windows, false);
    if (!status && !predictions)
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: predictions is NULL", call);
    if (status)
        return status;
    VklWindows inputs = *windows;
    inputs.targets = NULL;
    uint64_t total;
    float *all = vkl_mul(windows->count, windows->outputs, &total) ? vkl_allocate(model->device->caps.memory, total, sizeof(*all))
                                                                   : NULL; /* a failure leaves the caller's array as it was */
    if (!all)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_HOST_MEMORY,
                        "%s: the host refused memory for the predictions of %llu windows", call,
                        (unsigned long long)windows->count);
    VklBatches batches;
    status =
        vkl_batches_start(&batches, model, call, &inputs, vkl_inference_batch(model, windows->steps), &fit, (VklModelPlan){0});
    for (uint64_t done = 0; done < windows->count && !status;) {
        /* without the loss kernel nothing on the device moves on to the next windows */
        const VklBatch *batch = windows->count - done >= batches.full.rows ? &batches.full : &batches.rest;
        uint64_t numbers = batch->rows * windows->outputs;
        status = vkl_stream_fill(model->stream, vkl_slice(batches.state, 4 * VKL_STATE_WINDOW), (uint32_t)done, 4);
        if (!status)
            status = vkl_exec_record(batch->exec, model->stream);
        if (!status)
            status = vkl_stream_read(model->stream, vkl_slice(batch->reserve, 4 * batch->predictions.at),
                                     all + done * windows->outputs, 4 * numbers);
        status = vkl_model_again(model, status);
        done += batch->rows;
    }
    if (!status)
        status = vkl_model_again(model, vkl_stream_wait(model->stream));
    vkl_batches_finish(&batches); /* waits: nothing is written to `all` any more */
    if (!status)
        memcpy(predictions, all, (size_t)total * sizeof(*all));
    vkl_release(all);
    return status;
}

/* All batches of a pass without a word to the host in between. */
static VklStatus pass(const VklBatches *batches, float *losses)
{
    VklStream *stream = batches->model->stream;
    VklStatus status = vkl_batches_rewind(batches, stream);
    if (!status)
        status = vkl_stream_replay(stream, batches->full.exec, (uint32_t)batches->full_count);
    if (!status && batches->rest.exec)
        status = vkl_stream_replay(stream, batches->rest.exec, 1);
    if (!status)
        status = vkl_download(stream, vkl_slice(batches->state, 4 * VKL_STATE_LOSS), losses, 4 * batches->places.batches);
    return vkl_model_again(batches->model, status);
}

VklStatus vkl_model_evaluate(VklModel *model, const VklWindows *windows, VklLoss loss, double huber_delta, double *mean)
{
    static const char call[] = "vkl_model_evaluate";
    VklFitDesc fit = vkl_fit_desc();
    fit.loss = loss;
    fit.huber_delta = huber_delta;
    VklStatus status = vkl_windows_check(model, call, windows, true);
    if (!status)
        status = vkl_loss_check(model, call, loss, huber_delta);
    if (!status && !mean)
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: mean is NULL", call);
    if (status)
        return status;
    VklBatches batches;
    float *losses = NULL;
    uint64_t broken;
    status = vkl_batches_start(&batches, model, call, windows, vkl_inference_batch(model, windows->steps), &fit,
                               (VklModelPlan){.with_loss = true});
    if (!status) {
        losses = vkl_allocate(model->device->caps.memory, batches.places.batches, sizeof(*losses));
        status = losses
                     ? pass(&batches, losses)
                     : vkl_fail(model->device->context, &model->error, VKL_ERROR_HOST_MEMORY,
                                "%s: the host refused memory for %llu losses", call, (unsigned long long)batches.places.batches);
    }
    if (!status)
        *mean = vkl_batches_loss(&batches, losses, &broken);
    vkl_batches_finish(&batches); /* which waits: what was recorded may still write the losses */
    vkl_release(losses);
    return status;
}

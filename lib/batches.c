/* SPDX-License-Identifier: MIT
 *
 * Windows are uploaded once; a batch of each size that occurs is planned and bound once, and replayed. */
#include "batches.h"

#include <math.h>

#include "optimizer.h"

static VklStatus fail(VklModel *model, VklStatus status, const char *call, const char *what, uint64_t value, uint64_t limit)
{
    return vkl_fail(model->device->context, &model->error, status, "%s: %s is %llu; it must be %llu", call, what,
                    (unsigned long long)value, (unsigned long long)limit);
}

VklStatus vkl_windows_check(VklModel *model, const char *call, const VklWindows *windows, bool targets)
{
    VklContext *context = model->device->context;
    if (!windows)
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: the windows are NULL", call);
    if (windows->struct_size != sizeof(*windows))
        return fail(model, VKL_ERROR_INVALID, call, "the windows' struct_size", windows->struct_size, sizeof(*windows));
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

VklStatus vkl_loss_check(VklModel *model, const char *call, VklLoss loss, double delta)
{
    VklContext *context = model->device->context;
    if (loss < VKL_LOSS_MSE || loss > VKL_LOSS_HUBER)
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: loss %d is none of VklLoss", call, (int)loss);
    if (loss == VKL_LOSS_HUBER && !(delta > 0))
        return vkl_fail(context, &model->error, VKL_ERROR_INVALID, "%s: huber_delta is %g; it must be above 0", call, delta);
    return VKL_OK;
}

/* ---- Prepared batches ---- */

void vkl_batches_finish(VklBatches *batches)
{
    if (batches->model)
        vkl_stream_wait(batches->model->stream); /* after a failure recorded work may still name what is destroyed here */
    VklBatch *both[] = {&batches->full, &batches->rest};
    for (int i = 0; i < 2; i++) {
        vkl_exec_destroy(both[i]->exec);
        vkl_buffer_destroy(both[i]->reserve);
        vkl_buffer_destroy(both[i]->workspace);
    }
    vkl_buffer_destroy(batches->data);
    vkl_buffer_destroy(batches->state);
    vkl_buffer_destroy(batches->grads);
    vkl_buffer_destroy(batches->moments);
}

static VklStatus create_batch(VklBatches *batches, VklBatch *batch, const VklWindows *windows, uint64_t rows,
                              const VklFitDesc *fit, VklModelPlan model_plan)
{
    VklModel *model = batches->model;
    VklDevice *device = model->device;
    if (!rows)
        return VKL_OK;
    VklPlan plan;
    vkl_plan_init(&plan, &device->caps);
    model_plan.network = &model->network;
    model_plan.T = windows->steps;
    model_plan.N = rows;
    model_plan.places = &batches->places;
    model_plan.has_targets = windows->targets != NULL;
    model_plan.loss = fit->loss;
    model_plan.huber_delta = fit->huber_delta;
    model_plan.optimizer = model_plan.training ? &fit->optimizer : NULL;
    model_plan.seed = fit->seed;
    if (!vkl_plan_model(&plan, &model_plan)) {
        vkl_plan_finish(&plan);
        return vkl_fail(device->context, &model->error, VKL_ERROR_LIMIT,
                        "%s: a batch of %llu windows of %llu steps needs memory that does not fit 63 bits", batches->call,
                        (unsigned long long)rows, (unsigned long long)windows->steps);
    }
    VklStatus status = VKL_OK;
    if (!plan.status) {
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * (model_plan.reserve + 1), &batch->reserve);
        if (!status)
            status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * (model_plan.workspace + 1), &batch->workspace);
    }
    if (status) {
        vkl_plan_finish(&plan);
        return vkl_model_again(model, status);
    }
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    slots[VKL_SLOT_PARAMS] = vkl_slice(model->params, 0);
    slots[VKL_SLOT_GRADS] = vkl_slice(batches->grads, 0);
    slots[VKL_SLOT_MOMENTS] = vkl_slice(batches->moments, 0);
    slots[VKL_SLOT_STATE] = vkl_slice(batches->state, 0);
    slots[VKL_SLOT_DATA] = vkl_slice(batches->data, 0);
    slots[VKL_SLOT_RESERVE] = vkl_slice(batch->reserve, 0);
    slots[VKL_SLOT_WORKSPACE] = vkl_slice(batch->workspace, 0);
    batch->rows = rows;
    batch->predictions = model_plan.predictions;
    return vkl_exec_create(device, &plan, slots, batches->call, &model->error, &batch->exec);
}

static VklStatus upload_windows(VklBatches *batches, const VklWindows *windows, const VklFitDesc *fit)
{
    VklStream *stream = batches->model->stream;
    uint32_t header[VKL_STATE_LOSS];
    vkl_optimizer_state(&fit->optimizer, header);
    VklStatus status = vkl_stream_write(stream, vkl_slice(batches->data, 4 * batches->places.series), windows->series,
                                        4 * windows->rows * windows->features);
    if (!status)
        status =
            vkl_stream_write(stream, vkl_slice(batches->data, 4 * batches->places.starts), windows->starts, 4 * windows->count);
    if (!status && windows->targets)
        status = vkl_stream_write(stream, vkl_slice(batches->data, 4 * batches->places.targets), windows->targets,
                                  4 * windows->count * windows->outputs);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(batches->state, 0), header, sizeof(header));
    if (status)
        return vkl_model_again(batches->model, status);
    uint32_t *order = vkl_allocate(batches->model->device->caps.memory, windows->count, sizeof(*order));
    if (!order)
        return vkl_fail(batches->model->device->context, &batches->model->error, VKL_ERROR_HOST_MEMORY,
                        "%s: the host refused memory for %llu windows", batches->call, (unsigned long long)windows->count);
    for (uint32_t i = 0; i < windows->count; i++)
        order[i] = i;
    status = vkl_stream_write(stream, vkl_slice(batches->state, 4 * batches->places.order), order, 4 * windows->count);
    vkl_release(order);
    return vkl_model_again(batches->model, status);
}

VklStatus vkl_batches_start(VklBatches *batches, VklModel *model, const char *call, const VklWindows *windows,
                            uint64_t batch_size, const VklFitDesc *fit, VklModelPlan model_plan)
{
    VklDevice *device = model->device;
    batch_size = batch_size < windows->count ? batch_size : windows->count;
    *batches = (VklBatches){.model = model,
                            .call = call,
                            .count = windows->count,
                            .outputs = windows->outputs,
                            .full_count = windows->count / batch_size};
    if (!vkl_window_places(windows, batch_size, &batches->places))
        return vkl_fail(device->context, &model->error, VKL_ERROR_LIMIT,
                        "%s: a series of %llu rows of %llu numbers does not fit 63 bits", call, (unsigned long long)windows->rows,
                        (unsigned long long)windows->features);
    VklStatus status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * batches->places.data, &batches->data);
    if (!status)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * batches->places.state, &batches->state);
    if (!status && model_plan.training)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * model->network.params, &batches->grads);
    if (!status && model_plan.training)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 8 * model->network.params, &batches->moments);
    if (status)
        return vkl_model_again(model, status);
    status = create_batch(batches, &batches->full, windows, batch_size, fit, model_plan);
    if (!status)
        status = create_batch(batches, &batches->rest, windows, windows->count % batch_size, fit, model_plan);
    if (!status)
        status = vkl_model_sync(model);
    return status ? status : upload_windows(batches, windows, fit);
}

VklStatus vkl_batches_rewind(const VklBatches *batches, VklStream *stream)
{
    VklStatus status = vkl_stream_fill(stream, vkl_slice(batches->state, 4 * VKL_STATE_BATCH), 0, 4);
    return status ? status : vkl_stream_fill(stream, vkl_slice(batches->state, 4 * VKL_STATE_WINDOW), 0, 4);
}

double vkl_batches_loss(const VklBatches *batches, const float *losses, uint64_t *broken)
{
    double sum = 0;
    *broken = UINT64_MAX;
    for (uint64_t i = 0; i < batches->places.batches; i++) {
        sum += (double)losses[i];
        if (!isfinite(losses[i]) && *broken == UINT64_MAX)
            *broken = i;
    }
    return sum / ((double)batches->count * (double)batches->outputs);
}

uint64_t vkl_inference_batch(const VklModel *model, uint64_t steps)
{
    uint64_t widest = 1, rows = VKL_LOSS_MOST / model->network.outputs;
    rows = rows < 1 ? 1 : rows < 256 ? rows : 256;
    for (uint32_t i = 0; i < model->network.count; i++)
        if (model->network.layers[i].desc.units > widest)
            widest = model->network.layers[i].desc.units;
    uint64_t most = (UINT64_C(1) << 24) / 4 / widest / (steps < UINT64_C(1) << 24 ? steps : UINT64_C(1) << 24);
    return most < 1 ? 1 : most < rows ? most : rows;
}

/* SPDX-License-Identifier: MIT */
#include "workload.h"

#include <stdlib.h>
#include <string.h>

#include "message.h"

static VklStatus make_buffer(Workload *workload, uint64_t bytes, VklSlice *slice)
{
    VklBuffer *buffer = NULL;
    VklStatus status = vkl_buffer_create(workload->device, VKL_BUFFER_DEVICE, bytes ? bytes : 4, &buffer);
    if (status != VKL_OK)
        return status;
    workload->buffers[workload->buffer_count++] = buffer;
    workload->bytes += bytes ? bytes : 4;
    *slice = vkl_slice(buffer, 0);
    return VKL_OK;
}

static VklStatus upload(Workload *workload, VklSlice slice, const void *data, uint64_t bytes)
{
    VklStatus status = vkl_stream_write(workload->stream, slice, data, bytes);
    return status == VKL_OK ? vkl_stream_wait(workload->stream) : status;
}

/* Numbers of either sign, of at most `scale`, the same in each run. */
static VklStatus make_numbers(Workload *workload, uint64_t bytes, float scale, VklSlice *slice)
{
    VklStatus status = make_buffer(workload, bytes, slice);
    if (status != VKL_OK)
        return status;
    float *numbers = bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
    if (!numbers)
        return VKL_ERROR_HOST_MEMORY;
    uint32_t state = 1;
    for (uint64_t i = 0; i < bytes / sizeof *numbers; i++) {
        state = state * 1664525u + 1013904223u; /* a linear congruential generator (Knuth) */
        numbers[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * scale;
    }
    status = upload(workload, *slice, numbers, bytes);
    free(numbers);
    return status;
}

/* Recurrent and dense parameters lie in one buffer, so that one optimizer step updates both. */
static VklStatus make_params(Workload *workload, uint64_t rnn_bytes, uint64_t *bytes)
{
    uint64_t dense_bytes = workload->dense ? vkl_dense_params_size(workload->dense) : 0;
    workload->dense_offset = (rnn_bytes + 15) / 16 * 16;
    *bytes = workload->dense_offset + dense_bytes;
    VklStatus status = make_buffer(workload, *bytes, &workload->params);
    if (status != VKL_OK)
        return status;
    char *packed = *bytes <= SIZE_MAX ? calloc(1, (size_t)*bytes) : NULL;
    if (!packed)
        return VKL_ERROR_HOST_MEMORY;
    status = workload->rnn ? vkl_rnn_init(workload->rnn, 1, (float *)(void *)packed) : VKL_OK;
    if (status == VKL_OK && workload->dense)
        status = vkl_dense_init(workload->dense, 1, (float *)(void *)(packed + workload->dense_offset));
    if (status == VKL_OK)
        status = upload(workload, workload->params, packed, *bytes);
    free(packed);
    if (status == VKL_OK && workload->shape->train)
        status = make_buffer(workload, *bytes, &workload->grads);
    return status;
}

static VklStatus make_layers(Workload *workload)
{
    const Shape *shape = workload->shape;
    VklRnnDesc desc = vkl_rnn_desc(shape->cell, shape->input, shape->hidden);
    desc.layers = shape->layers;
    desc.skip_input = shape->skip_input;
    desc.storage = shape->halves ? VKL_STORAGE_FLOAT16 : VKL_STORAGE_FLOAT32;
    desc.path = shape->path;
    VklStatus status = vkl_stream_create(workload->device, &workload->stream);
    if (status == VKL_OK && shape->hidden > 0)
        status = vkl_rnn_create(workload->device, &desc, &workload->rnn);
    if (status == VKL_OK && shape->output > 0) {
        uint64_t inputs = shape->hidden > 0 ? shape->hidden : shape->input;
        VklDenseDesc dense_desc = vkl_dense_desc(inputs, shape->output, VKL_ACTIVATION_NONE);
        status = vkl_dense_create(workload->device, &dense_desc, &workload->dense);
    }
    return status;
}

static VklStatus make_forward(Workload *workload, const VklRnnSizes *sizes, VklRnnForward *forward)
{
    const Shape *shape = workload->shape;
    uint64_t row = shape->batch * sizeof(float), y_bytes = shape->seq * row * shape->hidden;
    *forward = vkl_rnn_forward_args(shape->seq, shape->batch);
    forward->params = workload->params;
    VklStatus status = make_numbers(workload, shape->seq * row * shape->input, 1, &forward->x);
    if (status == VKL_OK)
        status = make_numbers(workload, sizes->state, 0.5f, &forward->h0);
    if (status == VKL_OK)
        status = sizes->cell_state ? make_numbers(workload, sizes->cell_state, 0.5f, &forward->c0) : VKL_OK;
    if (status == VKL_OK)
        status = make_buffer(workload, y_bytes, &forward->y);
    if (status == VKL_OK)
        status = make_buffer(workload, sizes->forward_workspace, &forward->workspace);
    if (status == VKL_OK && shape->train)
        status = make_buffer(workload, sizes->reserve, &forward->reserve);
    if (status != VKL_OK)
        return status;
    workload->h_last = vkl_slice(forward->y.buffer, y_bytes - row * shape->hidden);
    return vkl_rnn_prepare_forward(workload->rnn, forward, &workload->forward);
}

static VklStatus make_dense(Workload *workload)
{
    const Shape *shape = workload->shape;
    uint64_t bytes = shape->batch * shape->output * sizeof(float);
    VklStatus status = make_buffer(workload, bytes, &workload->predicted);
    if (!shape->train)
        return status;
    if (status == VKL_OK)
        status = make_numbers(workload, bytes, 1, &workload->target);
    if (status == VKL_OK)
        status = make_buffer(workload, bytes, &workload->gpredicted);
    if (status == VKL_OK)
        status = make_buffer(workload, sizeof(float), &workload->loss);
    if (status == VKL_OK)
        status = make_buffer(workload, vkl_dense_workspace_size(workload->dense, shape->batch), &workload->dense_workspace);
    return status;
}

static VklStatus make_backward(Workload *workload, const VklRnnSizes *sizes, const VklRnnForward *forward)
{
    const Shape *shape = workload->shape;
    VklRnnBackward backward = vkl_rnn_backward_args(shape->seq, shape->batch);
    uint64_t y_bytes = shape->seq * shape->batch * shape->hidden * sizeof(float);
    /* with a dense layer only the last step has a gradient, which each iteration writes */
    VklStatus status =
        workload->dense ? make_buffer(workload, y_bytes, &backward.gy) : make_numbers(workload, y_bytes, 0.1f, &backward.gy);
    if (status == VKL_OK)
        status = make_buffer(workload, sizes->backward_workspace, &backward.workspace);
    if (status != VKL_OK)
        return status;
    workload->gh_last = vkl_slice(backward.gy.buffer, workload->h_last.offset);
    backward.params = workload->params;
    backward.x = forward->x;
    backward.reserve = forward->reserve;
    backward.dparams = workload->grads;
    return vkl_rnn_prepare_backward(workload->rnn, &backward, &workload->backward);
}

/* The learning rate is 0: the arithmetic is the same, and every iteration finds the same weights. */
static VklStatus make_optimizer(Workload *workload, uint64_t params_bytes)
{
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    desc.learning_rate = 0;
    VklStatus status = vkl_optimizer_create(workload->device, &desc, params_bytes / sizeof(float), &workload->optimizer);
    if (status == VKL_OK)
        status = vkl_optimizer_prepare(workload->optimizer, workload->params, workload->grads, &workload->step);
    return status;
}

/* A dense layer alone: x takes the place of the last step's h. */
static VklStatus make_product(Workload *workload)
{
    const Shape *shape = workload->shape;
    uint64_t params_bytes = 0;
    VklStatus status = make_params(workload, 0, &params_bytes);
    if (status == VKL_OK)
        status = make_numbers(workload, shape->batch * shape->input * sizeof(float), 1, &workload->h_last);
    return status == VKL_OK ? make_dense(workload) : status;
}

static VklStatus make_all(Workload *workload)
{
    const Shape *shape = workload->shape;
    VklRnnForward forward;
    VklRnnSizes *sizes = &workload->sizes;
    uint64_t params_bytes = 0;
    VklStatus status = make_layers(workload);
    if (status == VKL_OK && !workload->rnn)
        return make_product(workload);
    if (status == VKL_OK)
        status = vkl_rnn_sizes(workload->rnn, shape->seq, shape->batch, sizes);
    if (status == VKL_OK)
        status = make_params(workload, sizes->params, &params_bytes);
    if (status == VKL_OK)
        status = make_forward(workload, sizes, &forward);
    if (status == VKL_OK && workload->dense)
        status = make_dense(workload);
    if (status == VKL_OK && shape->train)
        status = make_backward(workload, sizes, &forward);
    if (status == VKL_OK && shape->train)
        status = make_optimizer(workload, params_bytes);
    return status;
}

/* Whether a * b * c floats can be counted in bytes. */
static bool fits(uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t most = (uint64_t)INT64_MAX / sizeof(float);
    return a <= most / b && a * b <= most / c;
}

static bool sizes_fit(const Shape *shape)
{
    return fits(shape->seq, shape->batch, shape->input) && fits(shape->seq, shape->batch, shape->hidden ? shape->hidden : 1) &&
           fits(shape->batch, shape->input, shape->output ? shape->output : 1);
}

VklStatus workload_try(VklDevice *device, const Shape *shape, Workload *workload)
{
    memset(workload, 0, sizeof *workload);
    workload->device = device;
    workload->shape = shape;
    return sizes_fit(shape) ? make_all(workload) : VKL_ERROR_LIMIT;
}

int workload_create(VklDevice *device, const Shape *shape, Workload *workload)
{
    VklStatus status = workload_try(device, shape, workload);
    if (!sizes_fit(shape))
        return fail("bench: an array of %llu x %llu x %llu numbers is larger than 2^63 bytes", (unsigned long long)shape->seq,
                    (unsigned long long)shape->batch,
                    (unsigned long long)(shape->input > shape->hidden ? shape->input : shape->hidden));
    return status == VKL_OK ? EXIT_OK : fail_library(vkl_device_context(device), status);
}

void workload_destroy(Workload *workload)
{
    vkl_stream_destroy(workload->stream);
    vkl_exec_destroy(workload->forward);
    vkl_exec_destroy(workload->backward);
    vkl_exec_destroy(workload->step);
    vkl_optimizer_destroy(workload->optimizer);
    vkl_dense_destroy(workload->dense);
    vkl_rnn_destroy(workload->rnn);
    for (size_t i = 0; i < workload->buffer_count; i++)
        vkl_buffer_destroy(workload->buffers[i]);
}

static VklStatus record_dense_backward(Workload *workload)
{
    const Shape *shape = workload->shape;
    VklLossArgs loss = vkl_loss_args(VKL_LOSS_MSE, shape->batch * shape->output);
    loss.predicted = workload->predicted;
    loss.target = workload->target;
    loss.gradient = workload->gpredicted;
    loss.loss = workload->loss;
    VklStatus status = vkl_loss_record(workload->stream, &loss);
    if (status != VKL_OK)
        return status;
    VklDenseBackward backward = vkl_dense_backward_args(shape->batch);
    backward.params = vkl_slice(workload->params.buffer, workload->dense_offset);
    backward.x = workload->h_last;
    backward.y = workload->predicted;
    backward.gy = workload->gpredicted;
    backward.workspace = workload->dense_workspace;
    backward.dx = workload->gh_last;
    backward.dparams = vkl_slice(workload->grads.buffer, workload->dense_offset);
    return vkl_dense_backward(workload->dense, workload->stream, &backward);
}

VklStatus workload_record(Workload *workload)
{
    VklStatus status = workload->forward ? vkl_exec_record(workload->forward, workload->stream) : VKL_OK;
    if (status == VKL_OK && workload->dense)
        status =
            vkl_dense_forward(workload->dense, workload->stream, workload->shape->batch,
                              vkl_slice(workload->params.buffer, workload->dense_offset), workload->h_last, workload->predicted);
    if (!workload->shape->train)
        return status;
    if (status == VKL_OK && workload->dense)
        status = record_dense_backward(workload);
    if (status == VKL_OK)
        status = vkl_exec_record(workload->backward, workload->stream);
    if (status == VKL_OK)
        status = vkl_exec_record(workload->step, workload->stream);
    return status;
}

double workload_flops(const Shape *shape)
{
    double rows = (double)shape->seq * (double)shape->batch, hidden = (double)shape->hidden;
    double gates = shape->cell == VKL_CELL_LSTM ? 4 : shape->cell == VKL_CELL_GRU ? 3 : 1;
    double inputs = shape->skip_input ? 0 : (double)shape->input;
    if (!shape->hidden)
        return 2 * (double)shape->batch * (double)shape->input * (double)shape->output;
    double dx = 2 * gates * hidden * inputs * rows; /* which is not asked for */
    double flops = dx + 2 * gates * hidden * hidden * rows;
    flops += 2 * gates * hidden * (hidden + hidden) * rows * (double)(shape->layers - 1);
    flops += 2 * hidden * (double)shape->output * (double)shape->batch;
    return shape->train ? 3 * flops - dx : flops;
}

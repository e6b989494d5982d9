/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BUFFERS_MAX 20
#define NAN_BITS 0x7fc0dead

typedef struct Bench {
    VklDevice *device;
    VklStream *stream;
    VklBuffer *buffers[BUFFERS_MAX];
    size_t count;
    bool prepare;     /* nothing is recorded */
    VklStatus status; /* the first failure; after it nothing is done */
} Bench;

static VklSlice make_buffer(Bench *bench, uint64_t bytes)
{
    VklBuffer *buffer = NULL;
    if (bench->status == VKL_OK)
        bench->status = vkl_buffer_create(bench->device, VKL_BUFFER_DEVICE, bytes ? bytes : 4, &buffer);
    if (buffer)
        bench->buffers[bench->count++] = buffer;
    return vkl_slice(buffer, 0);
}

static VklSlice upload(Bench *bench, const void *data, uint64_t bytes)
{
    if (!data)
        return vkl_slice(NULL, 0);
    VklSlice slice = make_buffer(bench, bytes);
    if (bench->status == VKL_OK && !bench->prepare)
        bench->status = vkl_stream_write(bench->stream, slice, data, bytes);
    return slice;
}

static VklSlice make_room(Bench *bench, bool wanted, uint64_t bytes)
{
    if (!wanted || bytes == 0)
        return vkl_slice(NULL, 0);
    VklSlice slice = make_buffer(bench, bytes);
    if (bench->status == VKL_OK && !bench->prepare)
        bench->status = vkl_stream_fill(bench->stream, slice, NAN_BITS, vkl_buffer_size(slice.buffer));
    return slice;
}

static void download(Bench *bench, VklSlice slice, void *data, uint64_t bytes)
{
    if (data && slice.buffer && bench->status == VKL_OK && !bench->prepare)
        bench->status = vkl_stream_read(bench->stream, slice, data, bytes);
}

uint64_t trial_params(VklRnn *rnn)
{
    uint64_t count = 0;
    VklParamInfo info;
    for (uint32_t k = 0; k < vkl_rnn_param_count(rnn); k++)
        if (vkl_rnn_param_info(rnn, k, &info) == VKL_OK)
            count += info.shape[0] * info.shape[1];
    return count;
}

/* Between canonical tensors and a packed copy, in either direction. */
static VklStatus repack(VklRnn *rnn, const float *from, float *packed, float *to)
{
    VklStatus status = VKL_OK;
    VklParamInfo info;
    uint64_t at = 0;
    for (uint32_t k = 0; k < vkl_rnn_param_count(rnn) && status == VKL_OK; k++) {
        status = vkl_rnn_param_info(rnn, k, &info);
        if (status == VKL_OK)
            status = from ? vkl_rnn_pack(rnn, k, from + at, packed) : vkl_rnn_unpack(rnn, k, packed, to + at);
        at += info.shape[0] * info.shape[1];
    }
    return status;
}

static void forward_pass(Bench *bench, VklRnn *rnn, const VklRnnForward *args)
{
    VklExec *exec = NULL;
    if (bench->status != VKL_OK)
        return;
    bench->status = bench->prepare ? vkl_rnn_prepare_forward(rnn, args, &exec) : vkl_rnn_forward(rnn, bench->stream, args);
    vkl_exec_destroy(exec);
}

static void backward_pass(Bench *bench, VklRnn *rnn, const VklRnnBackward *args)
{
    VklExec *exec = NULL;
    if (bench->status != VKL_OK)
        return;
    bench->status = bench->prepare ? vkl_rnn_prepare_backward(rnn, args, &exec) : vkl_rnn_backward(rnn, bench->stream, args);
    vkl_exec_destroy(exec);
}

static void run_passes(Bench *bench, VklRnn *rnn, const Trial *trial, const VklRnnSizes *sizes, float *packed, uint64_t x_bytes)
{
    const bool backward = trial->dx || trial->dh0 || trial->dc0 || trial->dparams;
    const bool training = trial->training || backward;
    VklRnnForward forward = vkl_rnn_forward_args(trial->T, trial->N);
    forward.params = upload(bench, packed, sizes->params);
    forward.x = upload(bench, trial->x, x_bytes);
    forward.lengths = upload(bench, trial->lengths, trial->N * sizeof(uint32_t));
    forward.h0 = upload(bench, trial->h0, sizes->state);
    forward.c0 = upload(bench, trial->c0, sizes->cell_state);
    forward.y = make_room(bench, trial->y != NULL, sizes->y);
    forward.hn = make_room(bench, trial->hn != NULL, sizes->state);
    forward.cn = make_room(bench, trial->cn != NULL, sizes->cell_state);
    forward.reserve = make_room(bench, training, sizes->reserve);
    forward.workspace = make_room(bench, true, sizes->forward_workspace);
    forward.dropout = trial->dropout;
    forward_pass(bench, rnn, &forward);
    if (backward && bench->status == VKL_OK) {
        VklRnnBackward args = vkl_rnn_backward_args(trial->T, trial->N);
        args.params = forward.params;
        args.x = forward.x;
        args.lengths = forward.lengths;
        args.dropout = trial->dropout;
        args.reserve = forward.reserve;
        args.workspace = make_room(bench, true, sizes->backward_workspace);
        args.gy = upload(bench, trial->gy, sizes->y);
        args.ghn = upload(bench, trial->ghn, sizes->state);
        args.gcn = upload(bench, trial->gcn, sizes->cell_state);
        args.dx = make_room(bench, trial->dx != NULL, x_bytes);
        args.dh0 = make_room(bench, trial->dh0 != NULL, sizes->state);
        args.dc0 = make_room(bench, trial->dc0 != NULL, sizes->cell_state);
        if (trial->accumulate && trial->dparams && bench->status == VKL_OK && !bench->prepare)
            bench->status = repack(rnn, trial->dparams, packed, NULL);
        args.accumulate = trial->accumulate;
        args.dparams = trial->accumulate && trial->dparams ? upload(bench, packed, sizes->params)
                                                           : make_room(bench, trial->dparams != NULL, sizes->params);
        backward_pass(bench, rnn, &args);
        download(bench, args.dx, trial->dx, x_bytes);
        download(bench, args.dh0, trial->dh0, sizes->state);
        download(bench, args.dc0, trial->dc0, sizes->cell_state);
        download(bench, args.dparams, trial->dparams ? packed : NULL, sizes->params);
    }
    download(bench, forward.y, trial->y, sizes->y);
    download(bench, forward.hn, trial->hn, sizes->state);
    download(bench, forward.cn, trial->cn, sizes->cell_state);
    if (bench->status == VKL_OK && !bench->prepare)
        bench->status = vkl_stream_wait(bench->stream);
}

VklStatus trial_prepare(VklDevice *device, VklRnn *rnn, const Trial *trial)
{
    Bench bench = {.device = device, .prepare = true};
    VklRnnSizes sizes;
    float there = 0; /* stands for the packed parameters */
    bench.status = vkl_rnn_sizes(rnn, trial->T, trial->N, &sizes);
    if (bench.status == VKL_OK)
        run_passes(&bench, rnn, trial, &sizes, &there, trial->T * trial->N * trial->I * sizeof(float));
    for (size_t k = 0; k < bench.count; k++)
        vkl_buffer_destroy(bench.buffers[k]);
    return bench.status;
}

VklStatus trial_run(VklDevice *device, VklRnn *rnn, const Trial *trial)
{
    Bench bench = {.device = device};
    VklRnnSizes sizes;
    float *packed = NULL;
    bench.status = vkl_rnn_sizes(rnn, trial->T, trial->N, &sizes);
    if (bench.status == VKL_OK)
        bench.status = vkl_stream_create(device, &bench.stream);
    if (bench.status == VKL_OK) {
        packed = sizes.params <= SIZE_MAX ? calloc(1, (size_t)sizes.params + sizeof *packed) : NULL;
        bench.status = packed ? repack(rnn, trial->params, packed, NULL) : VKL_ERROR_HOST_MEMORY;
    }
    if (bench.status == VKL_OK)
        run_passes(&bench, rnn, trial, &sizes, packed, trial->T * trial->N * trial->I * sizeof(float));
    if (bench.status == VKL_OK && trial->dparams)
        bench.status = repack(rnn, NULL, packed, trial->dparams);
    vkl_stream_destroy(bench.stream);
    for (size_t k = 0; k < bench.count; k++)
        vkl_buffer_destroy(bench.buffers[k]);
    free(packed);
    return bench.status;
}

static double difference(double got, double want, double scale)
{
    if (got == want || (isnan(got) && isnan(want)))
        return 0;
    double error = fabs(got - want) / scale;
    return isnan(error) ? (double)INFINITY : error;
}

Difference trial_compare(const float *got, const double *want, uint64_t count)
{
    Difference worst = {0, 0};
    double scale = 0;
    for (uint64_t k = 0; k < count; k++)
        if (isfinite(want[k]) && fabs(want[k]) > scale)
            scale = fabs(want[k]);
    for (uint64_t k = 0; k < count; k++) {
        double error = difference((double)got[k], want[k], scale > 0 ? scale : 1);
        if (error > worst.error)
            worst = (Difference){error, k};
    }
    return worst;
}

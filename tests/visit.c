/* SPDX-License-Identifier: MIT */
#include "visit.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#define TRY(call)                   \
    do {                            \
        VklStatus status_ = (call); \
        if (status_ != VKL_OK)      \
            return status_;         \
    } while (0)

enum { T = 3, N = 2, I = 3, H = 5, WINDOWS = 7, STEPS = 4, ROWS = 40 };
enum { PARAMS, X, Y, GY, RESERVE, WORKSPACE, BACK, DX, DPARAMS, UPDATED, GRADS, SPARE }; /* buffers */

/* What no call may touch when it fails. */
static char untouched[8];
#define UNTOUCHED ((void *)untouched)

/* FNV-1a (Fowler, Noll, Vo) */
static uint64_t digest(uint64_t before, const void *data, size_t size)
{
    uint64_t hash = before ? before : UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(1099511628211);
    return hash;
}

static void numbers(float *out, size_t count, unsigned seed)
{
    for (size_t i = 0; i < count; i++)
        out[i] = sinf((float)(i + 1) * 0.7f + (float)seed);
}

/* ---- From the context to buffers ---- */

static void on_log(void *user, VklLogLevel level, const char *message)
{
    (void)user;
    if (level != VKL_LOG_VALIDATION)
        return;
    fprintf(stderr, "validation: %s\n", message);
    fflush(stderr);
    _Exit(VISIT_VALIDATION);
}

static VklStatus make_context(Visit *visit)
{
    VklContextDesc desc = vkl_context_desc();
    desc.log = on_log;
    desc.debug = true;
    desc.memory = heap_memory(&visit->heap);
    VklContext *context = UNTOUCHED;
    VklStatus status = vkl_context_create(&desc, &context);
    VISIT_CHECK(!status || context == UNTOUCHED, "the output was changed");
    visit->context = status ? NULL : context;
    return status;
}

static VklStatus list_devices(Visit *visit)
{
    VklDeviceInfo infos[8];
    uint32_t count = 77;
    for (int i = 0; i < 8; i++)
        infos[i].struct_size = sizeof(infos[i]);
    VklStatus status = vkl_device_list(visit->context, &count, NULL);
    VISIT_CHECK(!status || count == 77, "the count was changed");
    if (status)
        return status;
    VISIT_CHECK(count >= 1, "no device");
    count = 8;
    return vkl_device_list(visit->context, &count, infos);
}

static VklStatus make_device(Visit *visit)
{
    VklDeviceDesc desc = vkl_device_desc(visit->selector);
    VklDevice *device = UNTOUCHED;
    VklStatus status = vkl_device_create(visit->context, &desc, &device);
    VISIT_CHECK(!status || device == UNTOUCHED, "the output was changed");
    visit->device = status ? NULL : device;
    return status;
}

static VklStatus make_stream(Visit *visit)
{
    VklStream *stream = UNTOUCHED;
    VklStatus status = vkl_stream_create(visit->device, &stream);
    VISIT_CHECK(!status || stream == UNTOUCHED, "the output was changed");
    visit->stream = status ? NULL : stream;
    return status;
}

static VklStatus make_rnn(Visit *visit)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    VklRnn *rnn = UNTOUCHED;
    VklStatus status = vkl_rnn_create(visit->device, &desc, &rnn);
    VISIT_CHECK(!status || rnn == UNTOUCHED, "the output was changed");
    if (status)
        return status;
    status = vkl_rnn_sizes(rnn, T, N, &visit->sizes);
    float *packed = malloc((size_t)visit->sizes.params);
    if (!status)
        status = vkl_rnn_init(rnn, 5, packed);
    if (status) {
        free(packed);
        vkl_rnn_destroy(rnn);
        return status;
    }
    visit->digest = digest(0, packed, (size_t)visit->sizes.params);
    visit->rnn = rnn;
    visit->packed = packed;
    return VKL_OK;
}

static void destroy_buffers(Visit *visit)
{
    for (int i = 0; i < VISIT_BUFFERS; i++) {
        vkl_buffer_destroy(visit->buffers[i]);
        visit->buffers[i] = NULL;
    }
}

static VklStatus make_buffers(Visit *visit)
{
    const VklRnnSizes *sizes = &visit->sizes;
    const uint64_t bytes[VISIT_BUFFERS] = {
        sizes->params,
        sizeof(float) * T * N * I,
        sizes->y,
        sizes->y,
        sizes->reserve,
        sizes->forward_workspace,
        sizes->backward_workspace,
        sizeof(float) * T * N * I,
        sizes->params,
        64,
        64,
        64,
    };
    for (int i = 0; i < VISIT_BUFFERS; i++) {
        VklBuffer *buffer = UNTOUCHED;
        VklStatus status = vkl_buffer_create(visit->device, i == SPARE ? VKL_BUFFER_UPLOAD : VKL_BUFFER_DEVICE,
                                             bytes[i] ? bytes[i] : 4, &buffer);
        VISIT_CHECK(!status || buffer == UNTOUCHED, "the output was changed");
        if (status) {
            destroy_buffers(visit);
            return status;
        }
        visit->buffers[i] = buffer;
    }
    return VKL_OK;
}

/* ---- Streams ---- */

static VklSlice at(const Visit *visit, int buffer)
{
    return vkl_slice(visit->buffers[buffer], 0);
}

static VklStatus transfer(Visit *visit)
{
    float x[T * N * I], gy[T * N * H], back[T * N * I] = {0};
    numbers(x, T * N * I, 1);
    numbers(gy, T * N * H, 2);
    VklStream *stream = visit->stream;
    VklFence *fence = UNTOUCHED;
    TRY(vkl_stream_write(stream, at(visit, PARAMS), visit->packed, visit->sizes.params));
    TRY(vkl_stream_write(stream, at(visit, X), x, sizeof(x)));
    TRY(vkl_stream_write(stream, at(visit, GY), gy, sizeof(gy)));
    TRY(vkl_stream_fill(stream, at(visit, UPDATED), 0, 64));
    VklStatus status = vkl_stream_submit(stream, &fence);
    VISIT_CHECK(!status || fence == UNTOUCHED, "the output was changed");
    if (status)
        return status;
    status = vkl_fence_wait(fence, UINT64_MAX);
    vkl_fence_destroy(fence);
    if (status)
        return status;
    TRY(vkl_stream_copy(stream, at(visit, DX), at(visit, X), sizeof(x)));
    TRY(vkl_stream_read(stream, at(visit, DX), back, sizeof(back)));
    TRY(vkl_stream_wait(stream));
    VISIT_CHECK(!memcmp(x, back, sizeof(x)), "what came back is not what was written");
    return VKL_OK;
}

static VklRnnForward forward_args(const Visit *visit)
{
    VklRnnForward args = vkl_rnn_forward_args(T, N);
    args.params = at(visit, PARAMS);
    args.x = at(visit, X);
    args.y = at(visit, Y);
    args.reserve = at(visit, RESERVE);
    args.workspace = at(visit, WORKSPACE);
    return args;
}

static VklRnnBackward backward_args(const Visit *visit)
{
    VklRnnBackward args = vkl_rnn_backward_args(T, N);
    args.params = at(visit, PARAMS);
    args.x = at(visit, X);
    args.reserve = at(visit, RESERVE);
    args.workspace = at(visit, BACK);
    args.gy = at(visit, GY);
    args.dx = at(visit, DX);
    args.dparams = at(visit, DPARAMS);
    return args;
}

/* y and both gradients: those of recorded and of prepared work are the same. */
static VklStatus read_results(Visit *visit)
{
    float y[T * N * H], dx[T * N * I], *dparams = malloc((size_t)visit->sizes.params);
    VklStatus status = vkl_stream_read(visit->stream, at(visit, Y), y, sizeof(y));
    if (!status)
        status = vkl_stream_read(visit->stream, at(visit, DX), dx, sizeof(dx));
    if (!status)
        status = vkl_stream_read(visit->stream, at(visit, DPARAMS), dparams, visit->sizes.params);
    VklStatus waited = vkl_stream_wait(visit->stream); /* also where a read failed: the ones before it write here */
    if (!status)
        status = waited;
    if (!status)
        visit->digest = digest(digest(digest(0, y, sizeof(y)), dx, sizeof(dx)), dparams, (size_t)visit->sizes.params);
    free(dparams);
    return status;
}

static VklStatus run_layer(Visit *visit)
{
    const VklRnnForward forward = forward_args(visit);
    const VklRnnBackward backward = backward_args(visit);
    TRY(vkl_rnn_forward(visit->rnn, visit->stream, &forward));
    TRY(vkl_rnn_backward(visit->rnn, visit->stream, &backward));
    return read_results(visit);
}

static VklStatus prepare_layer(Visit *visit)
{
    const VklRnnForward forward = forward_args(visit);
    const VklRnnBackward backward = backward_args(visit);
    VklExec *first = UNTOUCHED, *second = UNTOUCHED;
    VklStatus status = vkl_rnn_prepare_forward(visit->rnn, &forward, &first);
    VISIT_CHECK(!status || first == UNTOUCHED, "the output was changed");
    if (status)
        return status;
    status = vkl_rnn_prepare_backward(visit->rnn, &backward, &second);
    VISIT_CHECK(!status || second == UNTOUCHED, "the output was changed");
    if (status) {
        vkl_exec_destroy(first);
        return status;
    }
    visit->forward = first;
    visit->backward = second;
    return VKL_OK;
}

static VklStatus run_prepared(Visit *visit)
{
    TRY(vkl_exec_record(visit->forward, visit->stream));
    TRY(vkl_exec_record(visit->backward, visit->stream));
    return read_results(visit);
}

static VklStatus replay(Visit *visit)
{
    TRY(vkl_stream_replay(visit->stream, visit->forward, 3));
    TRY(vkl_stream_replay(visit->stream, visit->backward, 1));
    return read_results(visit);
}

static VklStatus profile(Visit *visit)
{
    VklKernelTime times[16];
    uint32_t count = 16;
    VklStatus status = vkl_stream_profile(visit->stream, true);
    if (status == VKL_ERROR_UNSUPPORTED) /* the queue has no timestamps */
        return VKL_OK;
    TRY(status);
    status = run_prepared(visit);
    vkl_stream_profile(visit->stream, false);
    return status ? status : vkl_stream_kernel_times(visit->stream, &count, times);
}

static VklStatus map(Visit *visit)
{
    float *data = vkl_buffer_data(visit->buffers[SPARE]), seen[16] = {0};
    for (int i = 0; i < 16; i++)
        data[i] = (float)i;
    TRY(vkl_buffer_flush(visit->buffers[SPARE], 0, 64));
    TRY(vkl_stream_copy(visit->stream, at(visit, GRADS), at(visit, SPARE), 64));
    TRY(vkl_stream_read(visit->stream, at(visit, GRADS), seen, sizeof(seen)));
    TRY(vkl_stream_wait(visit->stream));
    TRY(vkl_buffer_invalidate(visit->buffers[SPARE], 0, 64));
    VISIT_CHECK(!memcmp(data, seen, sizeof(seen)), "what came back is not what was written");
    return VKL_OK;
}

/* Large enough for staging memory of its own. */
static VklStatus write_much(Visit *visit)
{
    const size_t count = 3 << 20;
    float *data = malloc(count * sizeof(float));
    VklBuffer *buffer = NULL;
    VklStatus status = vkl_buffer_create(visit->device, VKL_BUFFER_DEVICE, count * sizeof(float), &buffer);
    memset(data, 0x3e, count * sizeof(float));
    if (!status)
        status = vkl_stream_write(visit->stream, vkl_slice(buffer, 0), data, count * sizeof(float));
    memset(data, 0, count * sizeof(float));
    if (!status)
        status = vkl_stream_read(visit->stream, vkl_slice(buffer, 0), data, count * sizeof(float));
    VklStatus waited = vkl_stream_wait(visit->stream);
    if (!status)
        status = waited;
    if (!status)
        visit->digest = digest(0, data + count - 16, 64);
    vkl_buffer_destroy(buffer);
    free(data);
    return status;
}

/* Agents, how many of them the device knows. */
static VklStatus step_agents(Visit *visit)
{
    enum { H_STATE, C_STATE, COUNT, WORK, BUFFERS };
    VklRnnSizes sizes;
    VklBuffer *own[BUFFERS] = {NULL};
    VklExec *exec = NULL;
    float h[N * H];
    const uint32_t count = 1;
    TRY(vkl_rnn_step_sizes(visit->rnn, N, &sizes));
    const uint64_t bytes[BUFFERS] = {sizes.state, sizes.cell_state, sizeof(count), sizes.forward_workspace};
    VklRnnStep args = vkl_rnn_step_args(N);
    VklStatus status = VKL_OK;
    for (int i = 0; i < BUFFERS && !status; i++)
        status = vkl_buffer_create(visit->device, VKL_BUFFER_DEVICE, bytes[i] ? bytes[i] : 4, &own[i]);
    args.params = at(visit, PARAMS);
    args.x = at(visit, X);
    args.h = vkl_slice(own[H_STATE], 0);
    args.c = vkl_slice(own[C_STATE], 0);
    args.count = vkl_slice(own[COUNT], 0);
    args.workspace = vkl_slice(own[WORK], 0);
    if (!status)
        status = vkl_stream_write(visit->stream, args.count, &count, sizeof(count));
    if (!status)
        status = vkl_rnn_step(visit->rnn, visit->stream, &args);
    if (!status)
        status = vkl_rnn_prepare_step(visit->rnn, &args, &exec);
    if (!status)
        status = vkl_exec_record(exec, visit->stream);
    if (!status)
        status = vkl_stream_read(visit->stream, args.h, h, sizeof(h));
    VklStatus waited = vkl_stream_wait(visit->stream);
    if (!status)
        status = waited;
    if (!status)
        visit->digest = digest(0, h, sizeof(h));
    vkl_exec_destroy(exec);
    for (int i = 0; i < BUFFERS; i++)
        vkl_buffer_destroy(own[i]);
    return status;
}

static VklStatus run_job(Visit *visit)
{
    VklJob *job = UNTOUCHED;
    VklStatus status = vkl_job_create(visit->stream, visit->forward, 3, &job);
    VISIT_CHECK(!status || job == UNTOUCHED, "the output was changed");
    if (status)
        return status;
    while (status != VKL_STOPPED && status >= 0) {
        status = vkl_job_run(job, 1000);
        if (status == VKL_TIMEOUT)
            status = vkl_stream_wait(visit->stream);
    }
    vkl_job_destroy(job);
    return status < 0 ? status : replay(visit);
}

static VklStatus keep_cache(Visit *visit)
{
    size_t size = 0;
    TRY(vkl_device_cache_get(visit->device, NULL, &size));
    void *data = malloc(size ? size : 1);
    VklStatus status = vkl_device_cache_get(visit->device, data, &size);
    if (!status)
        status = vkl_device_cache_put(visit->device, data, size);
    free(data);
    return status;
}

/* ---- Optimizer ---- */

static VklStatus make_optimizer(Visit *visit)
{
    VklOptimizerDesc desc = vkl_optimizer_desc(VKL_OPTIMIZER_SGD);
    desc.clip_norm = 1;
    VklOptimizer *optimizer = UNTOUCHED;
    VklStatus status = vkl_optimizer_create(visit->device, &desc, 16, &optimizer);
    VISIT_CHECK(!status || optimizer == UNTOUCHED, "the output was changed");
    visit->optimizer = status ? NULL : optimizer;
    return status;
}

static VklStatus optimize(Visit *visit)
{
    float params[16], grads[16];
    numbers(params, 16, 3);
    numbers(grads, 16, 4);
    TRY(vkl_stream_write(visit->stream, at(visit, UPDATED), params, sizeof(params)));
    TRY(vkl_stream_write(visit->stream, at(visit, GRADS), grads, sizeof(grads)));
    TRY(vkl_optimizer_step(visit->optimizer, visit->stream, at(visit, UPDATED), at(visit, GRADS)));
    TRY(vkl_stream_read(visit->stream, at(visit, UPDATED), params, sizeof(params)));
    TRY(vkl_stream_wait(visit->stream));
    visit->digest = digest(0, params, sizeof(params)); /* without momentum a step depends on nothing before */
    return VKL_OK;
}

/* ---- Models ---- */

static VklWindows windows_of(float *series, uint32_t *starts, float *targets)
{
    numbers(series, WINDOWS + STEPS, 6);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        starts[i] = i;
        targets[i] = series[i + STEPS];
    }
    return (VklWindows){.struct_size = sizeof(VklWindows),
                        .count = WINDOWS,
                        .steps = STEPS,
                        .features = 1,
                        .outputs = 1,
                        .rows = WINDOWS + STEPS,
                        .series = series,
                        .starts = starts,
                        .targets = targets};
}

static VklStatus new_model(Visit *visit, VklModel **model)
{
    const VklLayerDesc layers[] = {vkl_layer_lstm(4), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    *model = UNTOUCHED;
    VklStatus status = vkl_model_create(visit->device, 1, layers, 2, 9, model);
    VISIT_CHECK(!status || *model == UNTOUCHED, "the output was changed");
    if (status)
        *model = NULL;
    return status;
}

static VklStatus make_model(Visit *visit)
{
    return new_model(visit, &visit->model);
}

static VklStatus train(VklModel *model, VklFitResult *result)
{
    float series[WINDOWS + STEPS], targets[WINDOWS];
    uint32_t starts[WINDOWS];
    const VklWindows windows = windows_of(series, starts, targets);
    VklFitDesc desc = vkl_fit_desc();
    desc.epochs = 2;
    desc.batch_size = 3;
    desc.patience = 5;
    return vkl_model_fit(model, &windows, &windows, &desc, result);
}

static VklStatus digest_model(VklModel *model, uint64_t *sum)
{
    *sum = 0;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        float tensor[256];
        TRY(vkl_model_tensor_info(model, i, &info));
        VISIT_CHECK(info.shape[0] * info.shape[1] <= 256, "the model is too large for the visit");
        TRY(vkl_model_get_tensor(model, i, tensor));
        *sum = digest(*sum, tensor, (size_t)(info.shape[0] * info.shape[1]) * sizeof(float));
    }
    return VKL_OK;
}

/* A new model each time, so that every try begins with the same weights; one whose training failed can be trained all the same. */
static VklStatus fit(Visit *visit)
{
    VklModel *model;
    TRY(new_model(visit, &model));
    VklFitResult result, before;
    memset(&result, 0x5a, sizeof(result));
    before = result;
    VklStatus status = train(model, &result);
    if (!status)
        status = digest_model(model, &visit->digest);
    else {
        VISIT_CHECK(!memcmp(&result, &before, sizeof(result)), "the result was changed");
        uint64_t weights;
        VklStatus again = train(model, NULL), got = digest_model(model, &weights);
        if (status == VKL_ERROR_DEVICE_LOST)
            VISIT_CHECK(again == status && (got == status || got == VKL_OK), "statuses %d and %d", (int)again, (int)got);
        else
            VISIT_CHECK(!again && !got, "a model whose training failed cannot be trained: statuses %d and %d: %s", (int)again,
                        (int)got, vkl_model_error(model));
    }
    vkl_model_destroy(model);
    return status;
}

/* To the end. What fails for want of memory may be repeated, and changes no bit: the first failure is remembered. */
static VklStatus train_on(VklFit *fit, VklStatus before)
{
    VklStatus first = before, status = VKL_OK;
    while (status != VKL_STOPPED) {
        status = vkl_fit_run(fit, 1e5);
        if (status == VKL_TIMEOUT)
            status = vkl_fit_wait(fit);
        first = status < 0 && !first ? status : first;
        if (status == VKL_ERROR_DEVICE_LOST)
            break;
    }
    status = vkl_fit_finish(fit, NULL);
    return first ? first : status;
}

static VklStatus start_fit(VklModel *model, uint64_t epochs, VklFit **fit)
{
    float series[WINDOWS + STEPS], targets[WINDOWS];
    uint32_t starts[WINDOWS];
    const VklWindows windows = windows_of(series, starts, targets);
    VklFitDesc desc = vkl_fit_desc();
    desc.epochs = epochs;
    desc.batch_size = 3;
    *fit = UNTOUCHED;
    VklStatus status = vkl_fit_create(model, &windows, &windows, &desc, fit);
    VISIT_CHECK(!status || *fit == UNTOUCHED, "the output was changed");
    return status;
}

static VklStatus fit_in_pieces(Visit *visit)
{
    VklModel *model;
    VklFit *fit;
    TRY(new_model(visit, &model));
    VklStatus status = start_fit(model, 3, &fit);
    if (status) {
        vkl_model_destroy(model);
        return status;
    }
    status = vkl_fit_run(fit, 1e5);
    if (status >= 0)
        status = vkl_fit_wait(fit);
    void *data = UNTOUCHED;
    size_t size = 77;
    VklStatus kept = vkl_fit_checkpoint_memory(fit, visit->prep, &data, &size);
    VISIT_CHECK(!kept || (data == UNTOUCHED && size == 77), "the outputs were changed");
    status = train_on(fit, status < 0 ? status : kept);
    vkl_fit_destroy(fit);
    uint64_t weights;
    VklStatus got = digest_model(model, &weights);
    vkl_model_destroy(model);
    if (status != VKL_ERROR_DEVICE_LOST && !got)
        VISIT_CHECK(!visit->expected || weights == visit->expected,
                    "training that was repeated from where it failed went another way");
    if (!kept && !status && !got) {
        vkl_free(visit->checkpoint);
        visit->checkpoint = data;
        visit->checkpoint_size = size;
        visit->trained = visit->digest = weights;
    } else if (!kept) {
        vkl_free(data);
    }
    return status ? status : got;
}

/* From the checkpoint, as in another process: the same bits as without. */
static VklStatus resume(Visit *visit)
{
    VklModel *model = NULL;
    VklFit *fit;
    uint64_t weights;
    TRY(vkl_model_load_memory(visit->device, visit->checkpoint, visit->checkpoint_size, &model, NULL));
    VklStatus status = start_fit(model, 3, &fit);
    if (!status) {
        status = vkl_fit_resume_memory(fit, visit->checkpoint, visit->checkpoint_size);
        if (!status)
            status = train_on(fit, VKL_OK);
        vkl_fit_destroy(fit);
    }
    if (!status)
        status = digest_model(model, &weights);
    vkl_model_destroy(model);
    VISIT_CHECK(status || weights == visit->trained, "training that was resumed went another way");
    return status;
}

static VklStatus predict(Visit *visit)
{
    float series[WINDOWS + STEPS], targets[WINDOWS], predictions[WINDOWS];
    uint32_t starts[WINDOWS];
    const VklWindows windows = windows_of(series, starts, targets);
    double mean = 77;
    for (int i = 0; i < WINDOWS; i++)
        predictions[i] = 77;
    VklStatus status = vkl_model_predict(visit->model, &windows, predictions);
    for (int i = 0; status && i < WINDOWS; i++)
        VISIT_CHECK(predictions[i] == 77, "prediction %d was changed", i);
    if (status)
        return status;
    status = vkl_model_evaluate(visit->model, &windows, VKL_LOSS_MSE, 1, &mean);
    VISIT_CHECK(!status || mean == 77, "the mean was changed");
    if (!status)
        visit->digest = digest(digest(0, predictions, sizeof(predictions)), &mean, sizeof(mean));
    return status;
}

/* ---- Files ---- */

static VklStatus save(Visit *visit)
{
    void *data = UNTOUCHED;
    size_t size = 77;
    VklStatus status = vkl_model_save_memory(visit->model, visit->prep, &data, &size);
    VISIT_CHECK(!status || (data == UNTOUCHED && size == 77), "the outputs were changed");
    if (status)
        return status;
    visit->digest = digest(0, data, size);
    vkl_free(visit->saved);
    visit->saved = data;
    visit->saved_size = size;
    return VKL_OK;
}

static VklStatus load(Visit *visit)
{
    VklModel *model = UNTOUCHED;
    VklPrep *prep = UNTOUCHED;
    VklStatus status = vkl_model_load_memory(visit->device, visit->saved, visit->saved_size, &model, &prep);
    VISIT_CHECK(!status || ((void *)model == UNTOUCHED && (void *)prep == UNTOUCHED), "the outputs were changed");
    if (status)
        return status;
    status = digest_model(model, &visit->digest);
    vkl_model_destroy(model);
    vkl_prep_destroy(prep);
    return status;
}

static void path_of(const Visit *visit, char *path, size_t size)
{
    snprintf(path, size, "%s/visit.safetensors", visit->folder);
}

/* A file stays what it was: after a failure it holds the model of the first step that wrote it. */
static VklStatus save_file(Visit *visit)
{
    char path[512];
    path_of(visit, path, sizeof(path));
    FILE *file = fopen(path, "wb");
    VISIT_CHECK(file && fputs("old", file) >= 0 && !fclose(file), "%s cannot be written", path);
    VklStatus status = vkl_model_save(visit->model, visit->prep, path);
    char begin[4] = "";
    file = fopen(path, "rb");
    VISIT_CHECK(file && fread(begin, 1, 3, file) == 3 && !fclose(file), "%s is gone", path);
    VISIT_CHECK(!strcmp(begin, "old") == (status != VKL_OK), "status %d, and the file begins with \"%s\"", (int)status, begin);
    return status;
}

static VklStatus load_file(Visit *visit)
{
    char path[512];
    path_of(visit, path, sizeof(path));
    VklModel *model = UNTOUCHED;
    VklStatus status = vkl_model_load(visit->device, path, &model, NULL);
    VISIT_CHECK(!status || model == UNTOUCHED, "the output was changed");
    if (status)
        return status;
    status = digest_model(model, &visit->digest);
    vkl_model_destroy(model);
    return status;
}

/* ---- Tables ---- */

static VklStatus make_table(Visit *visit)
{
    static const char *const names[] = {"value"};
    const char *labels[ROWS];
    double values[ROWS];
    for (int i = 0; i < ROWS; i++) {
        values[i] = i % 9 == 4 ? NAN : 2 + sin(0.4 * i);
        labels[i] = "row";
    }
    VklTable *table = UNTOUCHED;
    VklStatus status = vkl_table_create(visit->context, ROWS, 1, names, values, labels, &table);
    VISIT_CHECK(!status || table == UNTOUCHED, "the output was changed");
    visit->table = status ? NULL : table;
    return status;
}

/* A build without libcsv has no reader. */
static VklStatus read_table(Visit *visit)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/visit.csv", visit->folder);
    FILE *file = fopen(path, "w");
    VISIT_CHECK(file, "%s cannot be written", path);
    fputs("date,first,second\n", file);
    for (int i = 0; i < 600; i++) /* arrays grow */
        fprintf(file, "day %d,%d,%d\n", i, i, -i);
    fclose(file);
    VklTable *table = UNTOUCHED;
    VklStatus status = vkl_table_read_csv(visit->context, path, &table);
    VISIT_CHECK(!status || table == UNTOUCHED, "the output was changed");
    if (!status)
        vkl_table_destroy(table);
    return status == VKL_ERROR_UNSUPPORTED ? VKL_OK : status;
}

static VklStatus prepare_data(Visit *visit)
{
    VklPrepDesc desc = vkl_prep_desc("value");
    desc.window = STEPS;
    desc.fill = VKL_FILL_LINEAR;
    desc.difference = 1;
    desc.log = true;
    VklPrep *prep = UNTOUCHED;
    VklStatus status = vkl_prep_create(visit->context, visit->table, &desc, &prep);
    VISIT_CHECK(!status || prep == UNTOUCHED, "the output was changed");
    visit->prep = status ? NULL : prep;
    return status;
}

static VklStatus make_windows(Visit *visit)
{
    VklWindowSet *set = UNTOUCHED;
    VklStatus status = vkl_prep_windows(visit->prep, visit->table, VKL_PART_TRAIN, &set);
    VISIT_CHECK(!status || set == UNTOUCHED, "the output was changed");
    visit->windows = status ? NULL : set;
    return status;
}

static VklStatus forecast(Visit *visit)
{
    double values[3] = {77, 77, 77};
    VklBaselines baselines;
    VklScore score;
    VklStatus status = vkl_prep_forecast(visit->prep, visit->table, visit->model, 3, values);
    VISIT_CHECK(!status || (values[0] == 77 && values[1] == 77 && values[2] == 77), "the values were changed");
    if (status)
        return status;
    visit->digest = digest(0, values, sizeof(values));
    TRY(vkl_prep_baselines(visit->prep, visit->table, visit->windows, 2, &baselines));
    float predictions[ROWS] = {0};
    double restored[ROWS];
    TRY(vkl_prep_restore(visit->prep, visit->table, visit->windows, predictions, restored));
    return vkl_prep_score(visit->prep, visit->table, visit->windows, restored, &score);
}

/* ---- The end ---- */

static void destroy_work(Visit *visit)
{
    vkl_exec_destroy(visit->forward);
    vkl_exec_destroy(visit->backward);
    vkl_optimizer_destroy(visit->optimizer);
    vkl_model_destroy(visit->model);
    vkl_rnn_destroy(visit->rnn);
    visit->forward = visit->backward = NULL;
    visit->optimizer = NULL;
    visit->model = NULL;
    visit->rnn = NULL;
    destroy_buffers(visit);
}

/* With work that was recorded, with work that was submitted, and while calls fail. */
static VklStatus destroy_busy(Visit *visit)
{
    float y[T * N * H];
    vkl_exec_record(visit->forward, visit->stream);
    vkl_stream_submit(visit->stream, NULL);
    vkl_exec_record(visit->forward, visit->stream);
    vkl_stream_read(visit->stream, at(visit, Y), y, sizeof(y));
    vkl_stream_destroy(visit->stream);
    visit->stream = NULL;
    destroy_work(visit);
    return VKL_OK;
}

static VklStatus destroy_device(Visit *visit)
{
    vkl_device_destroy(visit->device);
    visit->device = NULL;
    return VKL_OK;
}

const VisitStep visit_steps[] = {
    {"create the context", make_context},
    {"list the devices", list_devices},
    {"create the device", make_device},
    {"create a stream", make_stream},
    {"create a layer", make_rnn},
    {"create buffers", make_buffers},
    {"transfer", transfer},
    {"run the layer", run_layer},
    {"prepare the layer", prepare_layer},
    {"run what is prepared", run_prepared},
    {"replay", replay},
    {"profile", profile},
    {"run a job", run_job},
    {"step agents", step_agents},
    {"keep the cache", keep_cache},
    {"map", map},
    {"write much", write_much},
    {"create an optimizer", make_optimizer},
    {"optimize", optimize},
    {"create a model", make_model},
    {"predict", predict},
    {"fit", fit},
    {"fit in pieces", fit_in_pieces},
    {"resume", resume},
    {"create a table", make_table},
    {"read a table", read_table},
    {"prepare the data", prepare_data},
    {"make windows", make_windows},
    {"forecast", forecast},
    {"save", save},
    {"load", load},
    {"save to a file", save_file},
    {"load from a file", load_file},
    {"destroy while it works", destroy_busy},
    {"destroy the device", destroy_device},
};
const size_t visit_step_count = sizeof(visit_steps) / sizeof(*visit_steps);

void visit_end(Visit *visit)
{
    vkl_stream_destroy(visit->stream);
    destroy_work(visit);
    free(visit->packed);
    vkl_window_set_destroy(visit->windows);
    vkl_prep_destroy(visit->prep);
    vkl_table_destroy(visit->table);
    vkl_free(visit->saved);
    vkl_free(visit->checkpoint);
    vkl_device_destroy(visit->device);
    vkl_context_destroy(visit->context);
    VISIT_CHECK(!atomic_load(&visit->heap.live), "%lu blocks of %lu bytes were not given back", atomic_load(&visit->heap.live),
                atomic_load(&visit->heap.bytes));
}

/* ---- A lost device ---- */

void visit_after_loss(Visit *visit)
{
    VklDevice *device = visit->device;
    VklBuffer *buffer = UNTOUCHED;
    VklStream *stream = UNTOUCHED;
    VklModel *model = UNTOUCHED;
    VklOptimizer *optimizer = UNTOUCHED;
    const VklRnnDesc rnn_desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    const VklLayerDesc layers[] = {vkl_layer_lstm(4), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    const VklOptimizerDesc adam = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    const VklRnnForward forward = forward_args(visit);
    const VklRnnBackward backward = backward_args(visit);
    VklExec *exec = UNTOUCHED;
    VklRnn *rnn = NULL;
    float number = 0;
#define LOST(call)                                                                             \
    do {                                                                                       \
        VklStatus status_ = (call);                                                            \
        VISIT_CHECK(status_ == VKL_ERROR_DEVICE_LOST, "status %d: %s", (int)status_, #call);   \
        VISIT_CHECK(strstr(vkl_device_error(device), "lost"), "%s", vkl_device_error(device)); \
    } while (0)
    LOST(vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &buffer));
    LOST(vkl_stream_create(device, &stream));
    LOST(vkl_model_create(device, 1, layers, 2, 1, &model));
    LOST(vkl_optimizer_create(device, &adam, 16, &optimizer));
    if (visit->stream && visit->buffers[GRADS]) {
        LOST(vkl_stream_write(visit->stream, at(visit, GRADS), &number, 4));
        LOST(vkl_stream_read(visit->stream, at(visit, GRADS), &number, 4));
        LOST(vkl_stream_copy(visit->stream, at(visit, GRADS), at(visit, X), 4));
        LOST(vkl_stream_fill(visit->stream, at(visit, GRADS), 0, 4));
        LOST(vkl_stream_submit(visit->stream, NULL));
        LOST(vkl_stream_wait(visit->stream));
        LOST(vkl_rnn_forward(visit->rnn, visit->stream, &forward));
        LOST(vkl_rnn_backward(visit->rnn, visit->stream, &backward));
        LOST(vkl_rnn_prepare_forward(visit->rnn, &forward, &exec));
        LOST(vkl_rnn_prepare_backward(visit->rnn, &backward, &exec));
    }
    if (visit->stream && visit->forward) {
        LOST(vkl_exec_record(visit->forward, visit->stream));
        LOST(vkl_stream_replay(visit->stream, visit->forward, 2));
    }
    if (visit->stream && visit->optimizer)
        LOST(vkl_optimizer_step(visit->optimizer, visit->stream, at(visit, UPDATED), at(visit, GRADS)));
    VISIT_CHECK((void *)buffer == UNTOUCHED && (void *)stream == UNTOUCHED && (void *)model == UNTOUCHED &&
                    (void *)optimizer == UNTOUCHED && (void *)exec == UNTOUCHED,
                "an output was changed");
    /* a layer is sizes and order alone */
    VISIT_CHECK(!vkl_rnn_create(device, &rnn_desc, &rnn), "%s", vkl_device_error(device));
    vkl_rnn_destroy(rnn);

    /* The host has the model: training goes on with another device. */
    if (visit->model) {
        LOST(train(visit->model, NULL));
        uint64_t weights;
        VISIT_CHECK(!digest_model(visit->model, &weights), "weights that the host has are lost: %s",
                    vkl_model_error(visit->model));
        VklStatus status = save(visit);
        VISIT_CHECK(!status, "a model that the host has cannot be saved: %s", vkl_model_error(visit->model));
    }
    vkl_stream_destroy(visit->stream);
    visit->stream = NULL;
    destroy_work(visit);
    vkl_device_destroy(visit->device);
    visit->device = NULL;
    VklStatus status = make_device(visit);
    VISIT_CHECK(!status, "no new device: %s", vkl_context_error(visit->context));
    if (visit->checkpoint) {
        status = resume(visit);
        VISIT_CHECK(!status, "%s", vkl_context_error(visit->context));
    }
    if (!visit->saved)
        return;
    status = vkl_model_load_memory(visit->device, visit->saved, visit->saved_size, &visit->model, NULL);
    VISIT_CHECK(!status, "%s", vkl_context_error(visit->context));
    status = train(visit->model, NULL);
    VISIT_CHECK(!status, "%s", vkl_context_error(visit->context));
#undef LOST
}

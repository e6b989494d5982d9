/* SPDX-License-Identifier: MIT
 *
 * One context and one device, used by many threads at once: each makes, uses and destroys buffers, streams, layers and prepared
 * work of its own, and all use one layer, one prepared piece of work and the pipeline cache together, while models are trained
 * and calls fail. */
#include <stdatomic.h>

#include "threads.h"

enum { THREADS = 8 };

typedef struct Shared {
    VklContext *context;
    VklDevice *device;
    VklRnn *rnn;       /* one layer for all */
    VklBuffer *buffer; /* only read */
    VklExec *exec;     /* recorded by all */
    Expected expected, exec_expected;
    Pass exec_pass;
    atomic_uint logged, prepared;
} Shared;

static void on_log(void *user, VklLogLevel level, const char *message)
{
    Shared *shared = user;
    (void)level;
    CHECK(message[0], "an empty message");
    atomic_fetch_add(&shared->logged, 1);
}

static void on_prepared(void *user, uint32_t done, uint32_t total)
{
    Shared *shared = user;
    CHECK(done <= total, "%u of %u", done, total);
    atomic_fetch_add(&shared->prepared, 1);
}

/* Everything by one's own. */
static void use_own(Shared *shared, int index)
{
    VklStream *stream = NULL;
    VklRnn *rnn = NULL;
    VklExec *exec = NULL;
    VklFence *fence = NULL;
    VklRnnDesc desc = vkl_rnn_desc(index % 2 ? VKL_CELL_GRU : VKL_CELL_LSTM, INPUTS, UNITS);
    OK(vkl_stream_create(shared->device, &stream));
    OK(vkl_rnn_create(shared->device, &desc, &rnn));
    OK(vkl_stream_profile(stream, index % 4 == 0));
    Pass pass = pass_of(shared->device, rnn, stream);
    OK(vkl_rnn_prepare_forward(rnn, &pass.forward, &exec));
    OK(vkl_exec_record(exec, stream));
    OK(vkl_stream_submit(stream, &fence));
    OK(vkl_stream_replay(stream, exec, 3));
    OK(vkl_fence_wait(fence, UINT64_MAX));
    float y[STEPS * ROWS * UNITS];
    OK(vkl_stream_read(stream, pass.forward.y, y, sizeof(y)));
    OK(vkl_stream_wait(stream));
    vkl_fence_destroy(fence);
    vkl_exec_destroy(exec);
    pass_finish(&pass);
    vkl_rnn_destroy(rnn);
    vkl_stream_destroy(stream);
}

/* One layer, by all: recorded directly, which keeps what it prepares in the layer, and prepared. */
static void use_layer(Shared *shared)
{
    VklStream *stream = NULL;
    OK(vkl_stream_create(shared->device, &stream));
    Pass pass = pass_of(shared->device, shared->rnn, stream);
    for (int i = 0; i < 3; i++) {
        VklExec *exec = NULL;
        OK(vkl_rnn_forward(shared->rnn, stream, &pass.forward));
        check_pass(&shared->expected, stream, &pass);
        OK(vkl_stream_fill(stream, pass.forward.y, 0, STEPS * ROWS * UNITS * 4));
        OK(vkl_rnn_prepare_forward(shared->rnn, &pass.forward, &exec));
        OK(vkl_exec_record(exec, stream));
        vkl_exec_destroy(exec);
        check_pass(&shared->expected, stream, &pass);
        VklRnnForward wrong = pass.forward;
        wrong.T = 0;
        CHECK(vkl_rnn_prepare_forward(shared->rnn, &wrong, &exec) == VKL_ERROR_INVALID, "T 0");
        wrong = pass.forward;
        wrong.x.offset = 1 << 20;
        CHECK(vkl_rnn_forward(shared->rnn, stream, &wrong) == VKL_ERROR_INVALID, "x beyond its buffer");
        CHECK(vkl_context_error(shared->context)[0], "no sentence");
    }
    pass_finish(&pass);
    vkl_stream_destroy(stream);
}

/* One prepared piece of work, which always computes the same; what all streams together do is in order on the device. */
static void use_exec(Shared *shared)
{
    VklStream *stream = NULL;
    float read[4];
    OK(vkl_stream_create(shared->device, &stream));
    for (int i = 0; i < 3; i++)
        OK(vkl_exec_record(shared->exec, stream));
    OK(vkl_stream_read(stream, vkl_slice(shared->buffer, 0), read, sizeof(read)));
    OK(vkl_stream_wait(stream));
    CHECK(read[0] == 0.0f, "%g", (double)read[0]);
    OK(vkl_stream_replay(stream, shared->exec, 2));
    OK(vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
}

static void use_device(Shared *shared)
{
    VklDeviceInfo info = {.struct_size = sizeof(info)};
    size_t size = 0;
    vkl_device_info(shared->device, &info);
    OK(vkl_device_cache_get(shared->device, NULL, &size));
    void *data = malloc(size + 1);
    CHECK(data, "memory");
    VklStatus status = vkl_device_cache_get(shared->device, data, &size);
    CHECK(status == VKL_OK || status == VKL_ERROR_LIMIT, "%d", (int)status); /* compiled meanwhile */
    if (!status)
        OK(vkl_device_cache_put(shared->device, data, size));
    free(data);
    VklBuffer *none = NULL;
    CHECK(vkl_buffer_create(shared->device, VKL_BUFFER_DEVICE, 3, &none) == VKL_ERROR_INVALID, "3 bytes");
    CHECK(vkl_device_error(shared->device)[0], "no sentence");
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_GRU, 0, 1);
    VklRnn *rnn = NULL;
    CHECK(vkl_rnn_create(shared->device, &desc, &rnn) == VKL_ERROR_INVALID, "no inputs");
    (void)vkl_device_pipelines(shared->device);
}

static void part(void *data, int index)
{
    Shared *shared = data;
    const int rounds = strcmp(device_selector(), "cpu") ? 5 : 50;
    for (int round = 0; round < rounds; round++) {
        switch ((index + round) % 5) {
        case 0:
            use_own(shared, index + round);
            break;
        case 1:
            use_layer(shared);
            break;
        case 2:
            use_exec(shared);
            break;
        case 3:
            use_device(shared);
            break;
        case 4:
            fit_model(shared->device, round % 2 ? "lstm:3,dense:1" : "rnn:3,dense:1", 1);
            break;
        }
    }
}

/* A model is trained while another is stepped by work that was prepared, and the pipelines of both are new to the device. */
static void fit_and_step(void *data, int index)
{
    enum { AGENTS = 9 };
    Shared *shared = data;
    if (index == 0) {
        fit_model(shared->device, "gru:7,dense:1", 3);
        return;
    }
    const VklLayerDesc layers[] = {vkl_layer_lstm(5), vkl_layer_dense(2, VKL_ACTIVATION_TANH)};
    VklModel *model = NULL;
    VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
    VklBuffer *buffers[4];
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    OK(vkl_model_create(shared->device, 3, layers, 2, 1, &model));
    OK(vkl_model_step_sizes(model, AGENTS, &sizes));
    OK(vkl_stream_create(shared->device, &stream));
    VklModelStep step = vkl_model_step_args(AGENTS);
    VklSlice *const slices[] = {&step.x, &step.y, &step.state, &step.workspace};
    const uint64_t bytes[] = {sizes.x, sizes.y, sizes.state, sizes.workspace};
    for (int i = 0; i < 4; i++) {
        OK(vkl_buffer_create(shared->device, VKL_BUFFER_DEVICE, (bytes[i] + 19) / 16 * 16, &buffers[i]));
        *slices[i] = vkl_slice(buffers[i], 0);
    }
    OK(vkl_model_prepare_step(model, &step, &exec));
    for (int frame = 0; frame < 20; frame++) {
        OK(vkl_exec_record(exec, stream));
        OK(vkl_stream_submit(stream, NULL));
    }
    OK(vkl_stream_wait(stream));
    vkl_exec_destroy(exec);
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_stream_destroy(stream);
    vkl_model_destroy(model);
}

int main(void)
{
    Shared shared = {.expected = {.mutex = PTHREAD_MUTEX_INITIALIZER}, .exec_expected = {.mutex = PTHREAD_MUTEX_INITIALIZER}};
    VklContextDesc desc = vkl_context_desc();
    VklDeviceDesc device_desc = vkl_device_desc(device_selector());
    VklRnnDesc layer = vkl_rnn_desc(VKL_CELL_LSTM, INPUTS, UNITS);
    VklStream *stream = NULL;
    desc.threads = 3;
    desc.log = on_log;
    desc.log_user = &shared;
    desc.log_level = VKL_LOG_ERROR;
    desc.prepared = on_prepared;
    desc.prepared_user = &shared;
    OK(vkl_context_create(&desc, &shared.context));
    OK(vkl_device_create(shared.context, &device_desc, &shared.device));
    run_threads(2, fit_and_step, &shared);

    OK(vkl_rnn_create(shared.device, &layer, &shared.rnn));
    OK(vkl_buffer_create(shared.device, VKL_BUFFER_DEVICE, 64, &shared.buffer));
    OK(vkl_stream_create(shared.device, &stream));
    shared.exec_pass = pass_of(shared.device, shared.rnn, stream);
    OK(vkl_rnn_prepare_forward(shared.rnn, &shared.exec_pass.forward, &shared.exec));
    run_threads(THREADS, part, &shared);
    check_pass(&shared.exec_expected, stream, &shared.exec_pass);
    check_pass(&shared.expected, stream, &shared.exec_pass);
    CHECK(atomic_load(&shared.logged) > 0, "no call has failed");
    CHECK(!vkl_device_pipelines(shared.device) || atomic_load(&shared.prepared) > 0, "no progress");

    vkl_exec_destroy(shared.exec);
    pass_finish(&shared.exec_pass);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(shared.buffer);
    vkl_rnn_destroy(shared.rnn);
    vkl_device_destroy(shared.device);
    vkl_context_destroy(shared.context);
    return 0;
}

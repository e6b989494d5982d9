/* SPDX-License-Identifier: MIT
 *
 * For programs that prove by ThreadSanitizer what headers say of threads: threads_NAME.c. Plain programs, since the sanitizer
 * does not start in the child processes that Criterion runs tests in. What goes wrong is printed and ends the process. */
#ifndef VKL_TESTS_THREADS_H
#define VKL_TESTS_THREADS_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vklstm/vklstm.h"

#define CHECK(condition, ...)                                               \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
            abort();                                                        \
        }                                                                   \
    } while (0)

#define OK(call)                                                                              \
    do {                                                                                      \
        VklStatus status_ = (call);                                                           \
        CHECK(status_ == VKL_OK, "status %d (%s)", (int)status_, vkl_status_string(status_)); \
    } while (0)

/* Runs part(data, i) for i < count, each in a thread of its own. */
typedef struct Thread {
    void (*part)(void *data, int index);
    void *data;
    int index;
} Thread;

static inline void *thread_main(void *argument)
{
    Thread *thread = argument;
    thread->part(thread->data, thread->index);
    return NULL;
}

static inline void run_threads(int count, void (*part)(void *data, int index), void *data)
{
    pthread_t handles[32];
    Thread threads[32];
    CHECK(count <= 32, "%d", count);
    for (int i = 0; i < count; i++) {
        threads[i] = (Thread){part, data, i};
        CHECK(!pthread_create(&handles[i], NULL, thread_main, &threads[i]), "thread %d", i);
    }
    for (int i = 0; i < count; i++)
        pthread_join(handles[i], NULL);
}

static inline const char *device_selector(void)
{
    const char *selector = getenv("VKL_TEST_DEVICE");
    return selector && *selector ? selector : "cpu";
}

/* Numbers that depend on the seed alone. */
static inline void fill_numbers(float *out, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        out[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

/* A layer's forward pass on a device: arrays of its own, for one thread. */
enum { STEPS = 4, ROWS = 3, INPUTS = 5, UNITS = 6 };

typedef struct Pass {
    VklBuffer *buffers[4];
    VklRnnForward forward;
} Pass;

static inline Pass pass_of(VklDevice *device, VklRnn *rnn, VklStream *stream)
{
    Pass made;
    VklRnnSizes sizes;
    OK(vkl_rnn_sizes(rnn, STEPS, ROWS, &sizes));
    const uint64_t bytes[] = {sizes.params, (uint64_t)STEPS * ROWS * INPUTS * 4, sizes.y, sizes.forward_workspace + 4};
    float *params = malloc(sizes.params), x[STEPS * ROWS * INPUTS];
    VklSlice slices[4];
    CHECK(params, "memory");
    OK(vkl_rnn_init(rnn, 3, params));
    fill_numbers(x, STEPS * ROWS * INPUTS, 7);
    for (int i = 0; i < 4; i++) {
        OK(vkl_buffer_create(device, VKL_BUFFER_DEVICE, (bytes[i] + 15) / 16 * 16, &made.buffers[i]));
        slices[i] = vkl_slice(made.buffers[i], 0);
    }
    OK(vkl_stream_write(stream, slices[0], params, sizes.params));
    OK(vkl_stream_write(stream, slices[1], x, sizeof(x)));
    OK(vkl_stream_wait(stream));
    free(params);
    made.forward = vkl_rnn_forward_args(STEPS, ROWS);
    made.forward.params = slices[0];
    made.forward.x = slices[1];
    made.forward.y = slices[2];
    made.forward.workspace = slices[3];
    return made;
}

static inline void pass_finish(Pass *pass)
{
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(pass->buffers[i]);
}

/* Submits what was recorded, reads y and compares it with what it must be; the first that is read says what that is. */
typedef struct Expected {
    pthread_mutex_t mutex;
    bool known;
    float y[STEPS * ROWS * UNITS];
} Expected;

static inline void check_pass(Expected *expected, VklStream *stream, const Pass *pass)
{
    float y[STEPS * ROWS * UNITS];
    OK(vkl_stream_read(stream, pass->forward.y, y, sizeof(y)));
    OK(vkl_stream_wait(stream));
    pthread_mutex_lock(&expected->mutex);
    if (!expected->known)
        memcpy(expected->y, y, sizeof(y));
    expected->known = true;
    CHECK(!memcmp(expected->y, y, sizeof(y)), "other numbers");
    pthread_mutex_unlock(&expected->mutex);
}

/* A small model, and windows to train it on. */
enum { WINDOWS = 24, LENGTH = 4 };

typedef struct Data {
    float series[WINDOWS + LENGTH], targets[WINDOWS];
    uint32_t starts[WINDOWS];
    VklWindows windows;
} Data;

static inline void data_init(Data *data)
{
    fill_numbers(data->series, WINDOWS + LENGTH, 1);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        data->starts[i] = i;
        data->targets[i] = data->series[i + LENGTH];
    }
    data->windows = (VklWindows){.struct_size = sizeof(VklWindows),
                                 .count = WINDOWS,
                                 .steps = LENGTH,
                                 .features = 1,
                                 .outputs = 1,
                                 .rows = WINDOWS + LENGTH,
                                 .series = data->series,
                                 .starts = data->starts,
                                 .targets = data->targets};
}

static inline void fit_model(VklDevice *device, const char *layers_text, uint32_t epochs)
{
    Data data;
    VklLayerDesc layers[4];
    uint32_t count = 4;
    VklModel *model = NULL;
    VklFitDesc desc = vkl_fit_desc();
    VklFitResult result = {0};
    float predicted[WINDOWS];
    data_init(&data);
    OK(vkl_layers_parse(vkl_device_context(device), layers_text, layers, &count));
    OK(vkl_model_create(device, 1, layers, count, 3, &model));
    desc.epochs = epochs;
    desc.batch_size = 7;
    OK(vkl_model_fit(model, &data.windows, &data.windows, &desc, &result));
    OK(vkl_model_predict(model, &data.windows, predicted));
    vkl_model_destroy(model);
}

#endif

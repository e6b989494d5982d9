/* SPDX-License-Identifier: MIT
 *
 * What a port to another system must show, without a test framework: a network trains, threads change no bit, a model goes through a file
 * whose name is not ASCII and replaces one, and sentences have their numbers.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vklstm/vklstm.h"

enum { STEPS = 12, ROWS = 200, COUNT = ROWS - STEPS - 1 };

/* ä, λ and a letter beyond 16 bits, in UTF-8 */
#define NAME "portable-\xc3\xa4\xce\xbb\xf0\x9d\x94\xa9.safetensors"

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: %s\n  %s\n", __FILE__, __LINE__, #condition, sentence(context)); \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)

static const char *sentence(const VklContext *context)
{
    return context ? vkl_context_error(context) : "";
}

static float series[ROWS];
static uint32_t starts[COUNT];

static VklWindows windows_of(uint64_t count)
{
    VklWindows windows = {
        .struct_size = sizeof(windows), .count = count, .steps = STEPS, .features = 1, .outputs = 1, .rows = ROWS};
    windows.series = series;
    windows.starts = starts;
    windows.targets = series + STEPS;
    return windows;
}

static VklContext *begin(uint32_t threads, VklDevice **device)
{
    VklContext *context = NULL;
    VklContextDesc desc = vkl_context_desc();
    desc.threads = threads;
    CHECK(vkl_context_create(&desc, &context) == VKL_OK);
    const char *selector = getenv("VKL_TEST_DEVICE");
    VklDeviceDesc device_desc = vkl_device_desc(selector && *selector ? selector : "cpu");
    CHECK(vkl_device_create(context, &device_desc, device) == VKL_OK);
    return context;
}

static void train(uint32_t threads, float *predictions)
{
    VklDevice *device = NULL;
    VklContext *context = begin(threads, &device);
    const VklLayerDesc layers[] = {vkl_layer_lstm(40), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklModel *model = NULL;
    CHECK(vkl_model_create(device, 1, layers, 2, 7, &model) == VKL_OK);

    VklWindows windows = windows_of(COUNT);
    VklFitDesc fit = vkl_fit_desc();
    VklFitResult first, last;
    fit.batch_size = 32;
    fit.epochs = 1;
    CHECK(vkl_model_fit(model, &windows, NULL, &fit, &first) == VKL_OK);
    fit.epochs = 10;
    CHECK(vkl_model_fit(model, &windows, NULL, &fit, &last) == VKL_OK);
    CHECK(last.loss < first.loss / 2);
    CHECK(vkl_model_predict(model, &windows, predictions) == VKL_OK);

    /* twice: the second takes the place of the first */
    CHECK(vkl_model_save(model, NULL, NAME) == VKL_OK);
    CHECK(vkl_model_save(model, NULL, NAME) == VKL_OK);
    VklModel *loaded = NULL;
    float again[COUNT];
    CHECK(vkl_model_load(device, NAME, &loaded, NULL) == VKL_OK);
    CHECK(vkl_model_predict(loaded, &windows, again) == VKL_OK);
    CHECK(memcmp(again, predictions, sizeof(again)) == 0);

    /* refusals: a folder, a place that is not there, a file that is not there */
    CHECK(vkl_model_save(model, NULL, ".") == VKL_ERROR_IO);
    CHECK(vkl_model_save(model, NULL, "portable-nowhere/model.safetensors") == VKL_ERROR_IO);
    CHECK(vkl_model_load(device, "portable-nowhere/model.safetensors", &loaded, NULL) == VKL_ERROR_IO);
    CHECK(strstr(vkl_context_error(context), "portable-nowhere/model.safetensors: cannot be opened: ") != NULL);

    vkl_model_destroy(loaded);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* 64 bits wide in a sentence, and what comes after it */
static void read_numbers(void)
{
    VklDevice *device = NULL;
    VklContext *context = begin(1, &device);
    VklModel *model = NULL;
    const VklLayerDesc layer = vkl_layer_lstm(1);
    CHECK(vkl_model_create(device, 1, &layer, 1, 1, &model) == VKL_OK);
    VklWindows windows = windows_of(1);
    windows.features = UINT64_C(12345678901234567);
    float prediction;
    CHECK(vkl_model_predict(model, &windows, &prediction) != VKL_OK);
    CHECK(strstr(vkl_context_error(context), "12345678901234567") != NULL);
    CHECK(strchr(vkl_context_error(context), '%') == NULL);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

int main(void)
{
    float one[COUNT], many[COUNT];
    const VklContext *context = NULL;
    for (uint32_t i = 0; i < ROWS; i++)
        series[i] = sinf(0.3f * (float)i);
    for (uint32_t i = 0; i < COUNT; i++)
        starts[i] = i;
    train(1, one);
    train(4, many);
    CHECK(memcmp(one, many, sizeof(one)) == 0);
    read_numbers();
    puts("portable: ok");
    return 0;
}

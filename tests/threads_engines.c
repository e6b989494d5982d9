/* SPDX-License-Identifier: MIT
 *
 * Two engines in one process: each thread has a context, a device and a model of its own, and nothing is shared. What they compute has the bits that
 * each has alone. (tests/meson.build, suite threads)
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vklstm/vklstm.h"

enum { ENGINES = 2, ROUNDS = 3, STEPS = 20, COUNT = 9 };

typedef struct Engine {
    uint32_t seed;
    VklStatus status;
    char sentence[512];
    float predictions[COUNT];
} Engine;

static const char *selector(void)
{
    const char *name = getenv("VKL_TEST_DEVICE");
    return name && *name ? name : "cpu";
}

static void *run(void *argument)
{
    Engine *engine = argument;
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklModel *model = NULL;
    const VklLayerDesc layers[] = {vkl_layer_lstm(33), vkl_layer_gru(17), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklContextDesc context_desc = vkl_context_desc();
    VklDeviceDesc device_desc = vkl_device_desc(selector());
    context_desc.threads = 2;
    float series[STEPS + COUNT];
    uint32_t starts[COUNT];
    for (uint32_t i = 0; i < STEPS + COUNT; i++)
        series[i] = (float)((i * 7 + engine->seed) % 11) / 11;
    for (uint32_t i = 0; i < COUNT; i++)
        starts[i] = i;
    VklWindows windows = {
        .struct_size = sizeof(windows), .count = COUNT, .steps = STEPS, .features = 1, .outputs = 1, .rows = STEPS + COUNT};
    windows.series = series;
    windows.starts = starts;

    engine->status = vkl_context_create(&context_desc, &context);
    if (engine->status == VKL_OK)
        engine->status = vkl_device_create(context, &device_desc, &device);
    if (engine->status == VKL_OK)
        engine->status = vkl_model_create(device, 1, layers, 3, engine->seed, &model);
    if (engine->status == VKL_OK)
        engine->status = vkl_model_predict(model, &windows, engine->predictions);
    snprintf(engine->sentence, sizeof(engine->sentence), "%s", context ? vkl_context_error(context) : "");
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return NULL;
}

int main(void)
{
    Engine alone[ENGINES];
    memset(alone, 0, sizeof(alone));
    for (uint32_t e = 0; e < ENGINES; e++) {
        alone[e].seed = e + 1;
        run(&alone[e]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        Engine engines[ENGINES];
        pthread_t threads[ENGINES];
        memset(engines, 0, sizeof(engines));
        for (uint32_t e = 0; e < ENGINES; e++) {
            engines[e].seed = e + 1;
            if (pthread_create(&threads[e], NULL, run, &engines[e])) {
                fputs("no thread\n", stderr);
                return 1;
            }
        }
        for (uint32_t e = 0; e < ENGINES; e++)
            pthread_join(threads[e], NULL);
        for (uint32_t e = 0; e < ENGINES; e++)
            if (alone[e].status != VKL_OK || engines[e].status != VKL_OK ||
                memcmp(engines[e].predictions, alone[e].predictions, sizeof(alone[e].predictions)) != 0) {
                fprintf(stderr, "engine %u on %s: status %d alone, %d beside another: %s %s\n", (unsigned)e, selector(),
                        (int)alone[e].status, (int)engines[e].status, alone[e].sentence, engines[e].sentence);
                return 1;
            }
    }
    return 0;
}

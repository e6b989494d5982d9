/* SPDX-License-Identifier: MIT
 *
 * The shortest: one sequence through a network. Its weights are drawn from a seed here; vkl_model_load() takes them from a file.
 * Usage: infer [DEVICE]    default: auto */
#include <math.h>
#include <stdio.h>

#include <vklstm/vklstm.h>

int main(int argc, char **argv)
{
    enum { STEPS = 24 };
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklModel *model = NULL;
    VklDeviceDesc desc = vkl_device_desc(argc > 1 ? argv[1] : "auto");
    VklLayerDesc layers[] = {vkl_layer_lstm(32), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    float sequence[STEPS], prediction = 0;
    for (int t = 0; t < STEPS; t++)
        sequence[t] = sinf(0.3f * (float)t);

    uint32_t start = 0;
    VklWindows windows = {.struct_size = sizeof(windows), .count = 1, .steps = STEPS, .features = 1, .outputs = 1, .rows = STEPS};
    windows.series = sequence;
    windows.starts = &start;

    VklStatus status = vkl_context_create(NULL, &context);
    if (!status)
        status = vkl_device_create(context, &desc, &device);
    if (!status)
        status = vkl_model_create(device, 1, layers, 2, 1, &model);
    if (!status)
        status = vkl_model_predict(model, &windows, &prediction);
    if (status)
        fprintf(stderr, "%s\n", context ? vkl_context_error(context) : "no memory");
    else
        printf("%.6f\n", (double)prediction);

    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return status != VKL_OK;
}

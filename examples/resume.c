/* SPDX-License-Identifier: MIT
 *
 * A training that is cut short goes on from a checkpoint, as if nothing had happened: twelve epochs in one piece, and twelve of
 * which the last six are run in another context, from a file. The losses are the same bits. Prints CSV: epoch, loss in one
 * piece, loss in two. Usage: resume [DEVICE [FILE]] default: auto resume.safetensors; the file is removed at the end */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <vklstm/vklstm.h>

enum { ROWS = 200, STEPS = 12, WINDOWS = ROWS - STEPS, EPOCHS = 12, CUT = 6 };

static float series[ROWS], targets[WINDOWS];
static uint32_t starts[WINDOWS];

/* The sentence about what is wrong has been printed by then. */
static void check(VklStatus status)
{
    if (status)
        exit(1);
}

static void print(void *user, VklLogLevel level, const char *message)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", message);
}

static bool on_epoch(void *user, const VklEpoch *epoch)
{
    double *losses = user;
    losses[epoch->epoch - 1] = epoch->loss;
    return true;
}

/* One life of a program: a new context, device and model; trains from epoch `first` until `last` are done. */
static void train(const char *selector, int first, int last, const char *file, double losses[EPOCHS])
{
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklModel *model = NULL;
    VklFit *fit = NULL;
    VklContextDesc context_desc = vkl_context_desc();
    context_desc.log = print;
    VklDeviceDesc device_desc = vkl_device_desc(selector);
    VklLayerDesc layers[] = {vkl_layer_lstm(16), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklWindows windows = {
        .struct_size = sizeof(windows), .count = WINDOWS, .steps = STEPS, .features = 1, .outputs = 1, .rows = ROWS};
    windows.series = series;
    windows.starts = starts;
    windows.targets = targets;
    VklFitDesc desc = vkl_fit_desc();
    desc.epochs = EPOCHS;
    desc.batch_size = 16;
    desc.optimizer.learning_rate = 0.01;
    desc.on_epoch = on_epoch;
    desc.user = losses;

    check(vkl_context_create(&context_desc, &context));
    check(vkl_device_create(context, &device_desc, &device));
    check(vkl_model_create(device, 1, layers, 2, 1, &model));
    check(vkl_fit_create(model, &windows, NULL, &desc, &fit));
    if (first > 0)
        check(vkl_fit_resume(fit, file));

    VklFitProgress progress = {.struct_size = sizeof(progress)};
    VklStatus status = VKL_OK;
    do {
        status = vkl_fit_run(fit, 1000); /* a millisecond of the device's time; a program would do something else now */
        vkl_fit_progress(fit, &progress);
    } while (status != VKL_STOPPED && progress.epoch <= (uint64_t)last);
    if (status != VKL_STOPPED)
        check(vkl_fit_checkpoint(fit, NULL, file));

    vkl_fit_destroy(fit);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

int main(int argc, char **argv)
{
    const char *selector = argc > 1 ? argv[1] : "auto", *file = argc > 2 ? argv[2] : "resume.safetensors";
    double whole[EPOCHS] = {0}, pieces[EPOCHS] = {0};
    for (int i = 0; i < ROWS; i++)
        series[i] = sinf(0.2f * (float)i) * cosf(0.03f * (float)i);
    for (int i = 0; i < WINDOWS; i++) {
        starts[i] = (uint32_t)i;
        targets[i] = series[i + STEPS];
    }
    train(selector, 0, EPOCHS, file, whole);
    train(selector, 0, CUT, file, pieces);
    train(selector, CUT, EPOCHS, file, pieces);
    remove(file);

    bool same = true;
    printf("epoch,whole,resumed\n");
    for (int i = 0; i < EPOCHS; i++) {
        printf("%d,%.9g,%.9g\n", i + 1, whole[i], pieces[i]);
        same = same && whole[i] == pieces[i];
    }
    printf("%s\n", same ? "the same bits" : "not the same");
    return !same;
}

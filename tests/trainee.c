/* SPDX-License-Identifier: MIT */
#include "trainee.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void make_windows(Trainee *trainee)
{
    for (int row = 0; row < TRAINEE_ROWS; row++)
        trainee->values[row] = sinf(0.3f * (float)row) * cosf(0.02f * (float)row);
    for (uint32_t i = 0; i < TRAINEE_ROWS - TRAINEE_STEPS; i++) {
        trainee->starts[i] = i;
        trainee->targets[i] = trainee->values[i + TRAINEE_STEPS];
    }
    trainee->train = (VklWindows){.struct_size = sizeof(VklWindows),
                                  .count = TRAINEE_WINDOWS,
                                  .steps = TRAINEE_STEPS,
                                  .features = 1,
                                  .outputs = 1,
                                  .rows = TRAINEE_ROWS,
                                  .series = trainee->values,
                                  .starts = trainee->starts,
                                  .targets = trainee->targets};
    trainee->check = trainee->train;
    trainee->check.count = TRAINEE_CHECKS;
    trainee->check.starts += TRAINEE_WINDOWS;
    trainee->check.targets += TRAINEE_WINDOWS;
}

bool trainee_keep_epoch(void *user, const VklEpoch *epoch)
{
    TraineeEpochs *epochs = user;
    epochs->loss[epochs->count] = epoch->loss;
    epochs->validation[epochs->count++] = epoch->validation_loss;
    return true;
}

void trainee_start(Trainee *trainee, VklContext *context, VklDevice *device)
{
    VklLayerDesc layers[4];
    uint32_t count = 4;
    *trainee = (Trainee){.context = context, .device = device};
    TEST_OK(context, vkl_layers_parse(context, "lstm:9,dropout:0.2,dense:1", layers, &count));
    TEST_OK(context, vkl_model_create(device, 1, layers, count, 3, &trainee->model));
    make_windows(trainee);
    trainee->desc = vkl_fit_desc();
    trainee->desc.epochs = TRAINEE_EPOCHS;
    trainee->desc.batch_size = TRAINEE_BATCH;
    trainee->desc.optimizer.learning_rate = 0.01;
    trainee->desc.on_epoch = trainee_keep_epoch;
    trainee->desc.user = &trainee->epochs;
}

VklFit *trainee_fit(Trainee *trainee)
{
    VklFit *fit = NULL;
    TEST_OK(trainee->context,
            vkl_fit_create(trainee->model, &trainee->train, trainee->check.count ? &trainee->check : NULL, &trainee->desc, &fit));
    return fit;
}

void trainee_at_once(Trainee *trainee, VklContext *context, VklDevice *device, VklFitResult *result)
{
    trainee_start(trainee, context, device);
    TEST_OK(context, vkl_model_fit(trainee->model, &trainee->train, &trainee->check, &trainee->desc, result));
}

float *trainee_weights(VklModel *model, size_t *bytes)
{
    *bytes = (size_t)vkl_model_parameters(model) * sizeof(float);
    float *weights = malloc(*bytes), *at = weights;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        cr_assert_eq(vkl_model_tensor_info(model, i, &info), VKL_OK);
        cr_assert_eq(vkl_model_get_tensor(model, i, at), VKL_OK);
        at += info.shape[0] * info.shape[1];
    }
    return weights;
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b)); /* no validation */
}

void trainee_check_same(const char *what, Trainee *trainee, Trainee *want)
{
    size_t bytes, same_bytes;
    float *got = trainee_weights(trainee->model, &bytes), *wanted = trainee_weights(want->model, &same_bytes);
    cr_assert_eq(trainee->epochs.count, want->epochs.count, "%s: %llu epochs, not %llu", what,
                 (unsigned long long)trainee->epochs.count, (unsigned long long)want->epochs.count);
    for (uint64_t i = 0; i < want->epochs.count; i++)
        cr_assert(same(trainee->epochs.loss[i], want->epochs.loss[i]) &&
                      same(trainee->epochs.validation[i], want->epochs.validation[i]),
                  "%s: epoch %llu: %.9g and %.9g, not %.9g and %.9g", what, (unsigned long long)i + 1, trainee->epochs.loss[i],
                  trainee->epochs.validation[i], want->epochs.loss[i], want->epochs.validation[i]);
    cr_assert(bytes == same_bytes && !memcmp(got, wanted, bytes), "%s: other weights", what);
    free(got);
    free(wanted);
}

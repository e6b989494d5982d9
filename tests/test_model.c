/* SPDX-License-Identifier: MIT
 *
 * The sequential model: what training computes, what it promises about order, seeds, stops and failures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

enum { ROWS = 300 };

/* A series with two features and its windows; the target is `ahead` rows after a window's end. */
typedef struct Series {
    float values[ROWS * 2];
    uint32_t starts[ROWS];
    float targets[ROWS];
    VklWindows windows;
} Series;

static Series *make_series(uint64_t features, uint64_t steps, uint64_t count)
{
    Series *series = calloc(1, sizeof(*series));
    for (int row = 0; row < ROWS; row++)
        for (uint64_t f = 0; f < features; f++)
            series->values[row * features + f] = f ? 0.5f * cosf(0.21f * (float)row) : sinf(0.3f * (float)row);
    for (uint32_t i = 0; i < count; i++) {
        series->starts[i] = i;
        series->targets[i] = series->values[(i + steps) * features];
    }
    series->windows = (VklWindows){.struct_size = sizeof(VklWindows),
                                   .count = count,
                                   .steps = steps,
                                   .features = features,
                                   .outputs = 1,
                                   .rows = ROWS,
                                   .series = series->values,
                                   .starts = series->starts,
                                   .targets = series->targets};
    return series;
}

static VklModel *make_model(VklDevice *device, uint64_t features, const char *text, uint64_t seed)
{
    VklLayerDesc layers[8];
    uint32_t count = 8;
    VklModel *model = NULL;
    VklContext *context = vkl_device_context(device);
    TEST_OK(context, vkl_layers_parse(context, text, layers, &count));
    TEST_OK(context, vkl_model_create(device, features, layers, count, seed, &model));
    return model;
}

/* All weights, one tensor after the other. */
static float *weights_of(VklModel *model, size_t *count)
{
    *count = (size_t)vkl_model_parameters(model);
    float *weights = malloc(*count * sizeof(float)), *at = weights;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        cr_assert_eq(vkl_model_tensor_info(model, i, &info), VKL_OK);
        cr_assert_eq(vkl_model_get_tensor(model, i, at), VKL_OK);
        at += info.shape[0] * info.shape[1];
    }
    return weights;
}

static void set_weights(VklModel *model, const float *weights)
{
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        cr_assert_eq(vkl_model_tensor_info(model, i, &info), VKL_OK);
        cr_assert_eq(vkl_model_set_tensor(model, i, weights), VKL_OK);
        weights += info.shape[0] * info.shape[1];
    }
}

typedef struct Losses {
    double loss[128], validation[128];
    uint64_t count, stop_at;
} Losses;

static bool keep_losses(void *user, const VklEpoch *epoch)
{
    Losses *losses = user;
    losses->loss[losses->count] = epoch->loss;
    losses->validation[losses->count] = epoch->validation_loss;
    losses->count++;
    return !losses->stop_at || losses->count < losses->stop_at;
}

#define OPEN                              \
    VklContext *context = test_context(); \
    VklDevice *device = test_device(context)
#define CLOSE                   \
    vkl_device_destroy(device); \
    vkl_context_destroy(context)

Test(model, learns_a_sine)
{
    OPEN;
    Series *series = make_series(1, 12, 250);
    VklModel *model = make_model(device, 1, "lstm:17,dense:1", 3);
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 12;
    fit.batch_size = 16;
    fit.optimizer.learning_rate = 0.01;
    double before, after;
    TEST_OK(context, vkl_model_evaluate(model, &series->windows, VKL_LOSS_MSE, 1, &before));
    TEST_OK(context, vkl_model_fit(model, &series->windows, NULL, &fit, NULL));
    TEST_OK(context, vkl_model_evaluate(model, &series->windows, VKL_LOSS_MSE, 1, &after));
    cr_assert(after < before / 50, "loss %g before, %g after", before, after); /* the trivial forecast has 0.5 */
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

/* With a learning rate of 0 an epoch's loss is that of the model as it stands, whatever the batches: 7 leaves a partial one. */
Test(model, epoch_loss_is_the_mean_over_windows)
{
    OPEN;
    Series *series = make_series(2, 3, 65);
    VklModel *model = make_model(device, 2, "lstm:5,dense:1", 3);
    for (VklLoss loss = VKL_LOSS_MSE; loss <= VKL_LOSS_HUBER; loss++) {
        Losses losses = {.count = 0};
        VklFitDesc fit = vkl_fit_desc();
        fit.epochs = 2;
        fit.batch_size = 7;
        fit.loss = loss;
        fit.huber_delta = 0.3;
        fit.optimizer.learning_rate = 0;
        fit.on_epoch = keep_losses;
        fit.user = &losses;
        double whole;
        float predictions[65];
        TEST_OK(context, vkl_model_fit(model, &series->windows, &series->windows, &fit, NULL));
        TEST_OK(context, vkl_model_evaluate(model, &series->windows, loss, 0.3, &whole));
        TEST_OK(context, vkl_model_predict(model, &series->windows, predictions));
        double own = 0;
        for (int i = 0; i < 65; i++) {
            double e = fabs((double)predictions[i] - (double)series->targets[i]);
            own += loss == VKL_LOSS_MSE ? e * e : loss == VKL_LOSS_MAE ? e : e <= 0.3 ? e * e / 2 : 0.3 * (e - 0.15);
        }
        own /= 65;
        /* float sums of 65 terms: a few units of 6e-8 */
        cr_assert(fabs(whole - own) <= 1e-6 * own, "loss %d: %.9g, from the predictions %.9g", (int)loss, whole, own);
        for (int i = 0; i < 2; i++) {
            cr_assert(fabs(losses.loss[i] - own) <= 1e-6 * own, "loss %d, epoch %d: %.9g not %.9g", (int)loss, i, losses.loss[i],
                      own);
            cr_assert(fabs(losses.validation[i] - own) <= 1e-6 * own);
        }
    }
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

/* One step of plain SGD over all windows moves each weight by the gradient: against central differences of vkl_model_evaluate(). */
Test(model, a_step_follows_the_gradient_of_every_kind_of_stack)
{
    static const char *const stacks[] = {"lstm:3",
                                         "lstm:4,dense:1",
                                         "lstm:3,lstm:5,dense:1",
                                         "dense:3:tanh,lstm:4,dense:2:sigmoid,dense:1",
                                         "lstm:3,dense:4:tanh,lstm:3,dense:1",
                                         "gru:4,dense:1",
                                         "rnn:3,dense:1",
                                         "bilstm:3,dense:1",
                                         "lstm:4:2,dense:1",
                                         "bigru:3,rnn:4,dense:1",
                                         "birnn:2,bilstm:3:2,dense:1"};
    OPEN;
    for (size_t s = 0; s < sizeof(stacks) / sizeof(*stacks); s++) {
        Series *series = make_series(2, 4, 9);
        VklModel *model = make_model(device, 2, stacks[s], 5);
        float targets[27];
        uint64_t outputs = vkl_model_outputs(model);
        test_random(targets, 9 * outputs, 4, 1);
        series->windows.outputs = outputs;
        series->windows.targets = targets;
        size_t count;
        float *before = weights_of(model, &count);
        VklFitDesc fit = vkl_fit_desc();
        fit.epochs = 1;
        fit.batch_size = 9;
        fit.optimizer = vkl_optimizer_desc(VKL_OPTIMIZER_SGD);
        fit.optimizer.learning_rate = 1;
        TEST_OK(context, vkl_model_fit(model, &series->windows, NULL, &fit, NULL));
        float *after = weights_of(model, &count), *at = before;
        set_weights(model, before);
        double worst = 0, largest = 0;
        for (uint32_t t = 0; t < vkl_model_tensor_count(model); t++) {
            VklParamInfo info;
            TEST_OK(context, vkl_model_tensor_info(model, t, &info));
            size_t numbers = (size_t)(info.shape[0] * info.shape[1]);
            for (size_t i = 0; i < numbers; i += 1 + numbers / 5) {
                const float step = 4e-3f;
                float kept = at[i];
                double up, down;
                at[i] = kept + step;
                TEST_OK(context, vkl_model_set_tensor(model, t, at));
                TEST_OK(context, vkl_model_evaluate(model, &series->windows, VKL_LOSS_MSE, 1, &up));
                at[i] = kept - step;
                TEST_OK(context, vkl_model_set_tensor(model, t, at));
                TEST_OK(context, vkl_model_evaluate(model, &series->windows, VKL_LOSS_MSE, 1, &down));
                at[i] = kept;
                double numeric = (up - down) / (2 * (double)step),
                       moved = (double)kept - (double)after[(size_t)(at - before) + i];
                worst = fmax(worst, fabs(numeric - moved));
                largest = fmax(largest, fabs(numeric));
            }
            TEST_OK(context, vkl_model_set_tensor(model, t, at));
            at += numbers;
        }
        /* float losses near 1 over a step of 0.004: some 2e-7 / 0.008 = 3e-5; the third derivative times 0.004^2 / 6 = 3e-6 */
        cr_assert(worst <= 2e-4 && largest > 1e-2, "%s: worst difference %g, largest gradient %g", stacks[s], worst, largest);
        free(before);
        free(after);
        vkl_model_destroy(model);
        free(series);
    }
    CLOSE;
}

static float *train_once(VklDevice *device, uint64_t seed, uint64_t shuffle_seed, bool shuffle, Losses *losses, size_t *count)
{
    Series *series = make_series(1, 12, 130);
    VklModel *model = make_model(device, 1, "lstm:17,dense:1", seed);
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 10;
    fit.batch_size = 16;
    fit.seed = shuffle_seed;
    fit.shuffle = shuffle;
    fit.on_epoch = keep_losses;
    fit.user = losses;
    TEST_OK(vkl_device_context(device), vkl_model_fit(model, &series->windows, NULL, &fit, NULL));
    float *weights = weights_of(model, count);
    vkl_model_destroy(model);
    free(series);
    return weights;
}

Test(model, same_seed_same_bits)
{
    OPEN;
    size_t count;
    Losses losses[4] = {{.count = 0}};
    float *first = train_once(device, 3, 1, true, &losses[0], &count),
          *again = train_once(device, 3, 1, true, &losses[1], &count);
    float *other_order = train_once(device, 3, 2, true, &losses[2], &count);
    float *no_order = train_once(device, 3, 1, false, &losses[3], &count);
    cr_assert(!memcmp(first, again, count * sizeof(float)));
    cr_assert(!memcmp(losses[0].loss, losses[1].loss, sizeof(losses[0].loss)));
    cr_assert(memcmp(first, other_order, count * sizeof(float)));
    cr_assert(memcmp(first, no_order, count * sizeof(float)));
    free(first);
    free(again);
    free(other_order);
    free(no_order);
    CLOSE;
}

Test(model, devices_agree_on_ten_epochs)
{
    OPEN;
    VklDevice *cpu = test_device_cpu(context);
    size_t count;
    Losses here = {.count = 0}, there = {.count = 0};
    free(train_once(device, 3, 1, true, &here, &count));
    free(train_once(cpu, 3, 1, true, &there, &count));
    for (int i = 0; i < 10; i++)
        cr_assert(fabs(here.loss[i] - there.loss[i]) <= 1e-4 * there.loss[i], "epoch %d: %.9g, on the CPU %.9g", i + 1,
                  here.loss[i], there.loss[i]); /* the product's promise; 1e-6 is usual */
    vkl_device_destroy(cpu);
    CLOSE;
}

Test(model, initial_weights_follow_the_rules_on_every_device)
{
    enum { H = 17, I = 2 };
    OPEN;
    VklDevice *cpu = test_device_cpu(context);
    VklModel *model = make_model(device, I, "lstm:17,dense:1", 9), *twin = make_model(cpu, I, "lstm:17,dense:1", 9);
    VklModel *other = make_model(device, I, "lstm:17,dense:1", 10);
    size_t count;
    float *weights = weights_of(model, &count), *same = weights_of(twin, &count), *different = weights_of(other, &count);
    cr_assert(!memcmp(weights, same, count * sizeof(float)));
    cr_assert(memcmp(weights, different, count * sizeof(float)));
    const float *w_ih = weights, *w_hh = w_ih + 4 * H * I, *b_ih = w_hh + 4 * H * H, *b_hh = b_ih + 4 * H;
    double bound = sqrt(6.0 / (4 * H + I)), largest = 0;
    for (int i = 0; i < 4 * H * I; i++)
        largest = fmax(largest, fabs((double)w_ih[i]));
    cr_assert(largest <= bound && largest > 0.8 * bound, "Glorot bound %g, largest %g", bound, largest);
    for (int a = 0; a < H; a++)
        for (int b = 0; b < H; b++) {
            double dot = 0;
            for (int row = 0; row < 4 * H; row++)
                dot += (double)w_hh[row * H + a] * (double)w_hh[row * H + b];
            cr_assert(fabs(dot - (a == b)) < 1e-6, "columns %d and %d of weight_hh: %g", a, b, dot); /* 68 products of floats */
        }
    for (int row = 0; row < 4 * H; row++)
        cr_assert(b_ih[row] == (row / H == 1 ? 1.0f : 0.0f) && b_hh[row] == 0);
    free(weights);
    free(same);
    free(different);
    vkl_model_destroy(model);
    vkl_model_destroy(twin);
    vkl_model_destroy(other);
    vkl_device_destroy(cpu);
    CLOSE;
}

/* Validation targets are the negative of the training targets: its loss rises while training goes on. */
Test(model, patience_stops_and_restores_the_best_weights)
{
    OPEN;
    Series *train = make_series(1, 6, 100), *validation = make_series(1, 6, 50);
    for (int i = 0; i < 50; i++)
        validation->targets[i] *= -1;
    VklModel *model = make_model(device, 1, "lstm:8,dense:1", 3);
    Losses losses = {.count = 0};
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 60;
    fit.batch_size = 8;
    fit.patience = 3;
    fit.optimizer.learning_rate = 0.01;
    fit.on_epoch = keep_losses;
    fit.user = &losses;
    VklFitResult result;
    TEST_OK(context, vkl_model_fit(model, &train->windows, &validation->windows, &fit, &result));
    double loss;
    TEST_OK(context, vkl_model_evaluate(model, &validation->windows, VKL_LOSS_MSE, 1, &loss));
    cr_assert_eq(result.epochs, result.best_epoch + 3);
    cr_assert_lt(result.epochs, 60);
    cr_assert_eq(losses.count, result.epochs);
    for (uint64_t i = 0; i < losses.count; i++)
        cr_assert(losses.validation[i] >= result.validation_loss);
    cr_assert_eq(losses.validation[result.best_epoch - 1], result.validation_loss);
    cr_assert(fabs(loss - result.validation_loss) <= 1e-6 * loss, "%.9g, promised %.9g", loss, result.validation_loss);
    vkl_model_destroy(model);
    free(train);
    free(validation);
    CLOSE;
}

static bool stop_at_once(void *user, const VklProgress *progress)
{
    VklProgress *last = user;
    *last = *progress;
    return false;
}

Test(model, a_callback_stops_training)
{
    OPEN;
    Series *series = make_series(1, 6, 100);
    VklModel *model = make_model(device, 1, "lstm:8,dense:1", 3);
    Losses losses = {.stop_at = 2};
    VklFitDesc fit = vkl_fit_desc();
    fit.on_epoch = keep_losses;
    fit.user = &losses;
    VklFitResult result;
    cr_assert_eq(vkl_model_fit(model, &series->windows, NULL, &fit, &result), VKL_STOPPED);
    cr_assert_eq(result.epochs, 2);
    cr_assert_eq(result.steps, 200);
    VklProgress last = {.step = 0};
    fit.epochs = 1000000;
    fit.on_epoch = NULL;
    fit.on_progress = stop_at_once;
    fit.user = &last;
    cr_assert_eq(vkl_model_fit(model, &series->windows, NULL, &fit, &result), VKL_STOPPED);
    cr_assert_eq(last.epochs, 1000000);
    cr_assert(last.step >= 1 && last.step <= 100 && last.steps == 100);
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

Test(model, a_loss_that_is_not_finite_ends_training_and_is_told)
{
    OPEN;
    Series *series = make_series(1, 3, 20);
    series->targets[13] = NAN;
    VklModel *model = make_model(device, 1, "lstm:4,dense:1", 3);
    size_t count;
    float *before = weights_of(model, &count);
    VklFitDesc fit = vkl_fit_desc();
    fit.shuffle = false;
    fit.batch_size = 5;
    cr_assert_eq(vkl_model_fit(model, &series->windows, NULL, &fit, NULL), VKL_ERROR_NUMERIC);
    cr_assert(strstr(vkl_model_error(model), "epoch 1, step 3"), "%s", vkl_model_error(model));
    float *after = weights_of(model, &count);
    cr_assert(!memcmp(before, after, count * sizeof(float)));
    free(before);
    free(after);
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

/* More windows than one batch of inference takes, and one by one. */
Test(model, predictions_do_not_depend_on_batches)
{
    OPEN;
    Series *series = make_series(2, 3, 290);
    VklModel *model = make_model(device, 2, "lstm:7,dense:1", 3);
    float all[290], one;
    series->windows.targets = NULL;
    TEST_OK(context, vkl_model_predict(model, &series->windows, all));
    VklWindows single = series->windows;
    single.count = 1;
    for (int i = 0; i < 290; i += 17) {
        single.starts = &series->starts[i];
        TEST_OK(context, vkl_model_predict(model, &single, &one));
        cr_assert(fabsf(one - all[i]) <= 1e-6f, "window %d: %.9g alone, %.9g among others", i, (double)one, (double)all[i]);
    }
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

Test(model, every_loss_and_optimizer_lowers_the_loss)
{
    OPEN;
    for (VklOptimizerKind kind = VKL_OPTIMIZER_SGD; kind <= VKL_OPTIMIZER_ADAMW; kind++) {
        Series *series = make_series(1, 4, 64);
        VklModel *model = make_model(device, 1, "lstm:6,dense:1", 3);
        VklFitDesc fit = vkl_fit_desc();
        fit.epochs = 5;
        fit.batch_size = 8;
        fit.loss = (VklLoss)(kind % 3);
        fit.optimizer = vkl_optimizer_desc(kind);
        fit.optimizer.learning_rate = kind == VKL_OPTIMIZER_SGD ? 0.1 : 0.01;
        fit.optimizer.clip_norm = 1;
        fit.optimizer.clip_value = 0.5;
        double before, after;
        TEST_OK(context, vkl_model_evaluate(model, &series->windows, fit.loss, 1, &before));
        TEST_OK(context, vkl_model_fit(model, &series->windows, NULL, &fit, NULL));
        TEST_OK(context, vkl_model_evaluate(model, &series->windows, fit.loss, 1, &after));
        cr_assert(after < 0.7 * before, "optimizer %d: %g before, %g after", (int)kind, before, after);
        vkl_model_destroy(model);
        free(series);
    }
    CLOSE;
}

/* The step of the reference network, and how it grows: two dispatches more for each time step, where each is one; a device may
 * choose otherwise. */
Test(model, dispatches_of_a_training_step)
{
    OPEN;
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    bool by_steps = info.limits.storage_buffers >= 5; /* else the kernels of the floor, one for a step too */
    for (uint64_t steps = 1; steps <= 9; steps += 8) {
        Series *series = make_series(1, steps, 100);
        VklModel *model = make_model(device, 1, by_steps ? "lstm:50@step,dense:1" : "lstm:50,dense:1", 3);
        VklFitDesc fit = vkl_fit_desc();
        fit.epochs = 1;
        VklFitResult result;
        TEST_OK(context, vkl_model_fit(model, &series->windows, NULL, &fit, &result));
        cr_assert_eq(result.steps, 100);
        cr_assert_eq(result.stats.dispatches, 100 * (8 + 2 * steps));
        cr_assert_lt(result.stats.submits, 60); /* many steps each */
        vkl_model_destroy(model);
        free(series);
    }
    CLOSE;
}

Test(model, tensors_have_names_and_survive_a_round_trip)
{
    static const char *const names[] = {"0.lstm.weight_ih_l0", "0.lstm.weight_hh_l0", "0.lstm.bias_ih_l0",
                                        "0.lstm.bias_hh_l0",   "1.dense.weight",      "1.dense.bias"};
    OPEN;
    VklModel *model = make_model(device, 2, "lstm:3,dense:2", 3);
    cr_assert_eq(vkl_model_tensor_count(model), 6);
    cr_assert_eq(vkl_model_parameters(model), 4 * 3 * (2 + 3 + 2) + 2 * 3 + 2);
    for (uint32_t i = 0; i < 6; i++) {
        VklParamInfo info;
        float put[64], got[64];
        TEST_OK(context, vkl_model_tensor_info(model, i, &info));
        cr_assert_str_eq(info.name, names[i]);
        size_t count = (size_t)(info.shape[0] * info.shape[1]);
        test_random(put, count, i, 1);
        TEST_OK(context, vkl_model_set_tensor(model, i, put));
        TEST_OK(context, vkl_model_get_tensor(model, i, got));
        cr_assert(!memcmp(put, got, count * sizeof(float)), "%s", names[i]);
    }
    VklParamInfo info;
    cr_assert_eq(vkl_model_tensor_info(model, 6, &info), VKL_ERROR_INVALID);
    vkl_model_destroy(model);
    CLOSE;
}

Test(model, layers_are_read_from_text)
{
    static const struct {
        const char *text;
        VklStatus status;
        const char *says;
    } cases[] = {
        {"lstm:50,dense:1", VKL_OK, ""},
        {"lstm:1,lstm:2,dense:3:relu,dense:1:none", VKL_OK, ""},
        {"", VKL_ERROR_INVALID, "empty"},
        {"lstm:50,", VKL_ERROR_INVALID, "empty"},
        {"gru5:50", VKL_ERROR_INVALID, "gru5"},
        {"lstm", VKL_ERROR_INVALID, "number of units"},
        {"lstm:0", VKL_ERROR_INVALID, "'0'"},
        {"lstm:-3", VKL_ERROR_INVALID, "'-3'"},
        {"lstm:5x", VKL_ERROR_INVALID, "'5x'"},
        {"lstm:5:tanh", VKL_ERROR_INVALID, "projection"},
        {"bilstm:5:3,bigru:4,birnn:2,dropout:0.25", VKL_OK, ""},
        {"rnn_relu:4,dropout:1,dense:1", VKL_OK, ""},
        {"bidense:5", VKL_ERROR_INVALID, "bidense"},
        {"gru:5:2", VKL_ERROR_INVALID, "alone"},
        {"lstm:5:3@step,bigru:4@pieces,lstm:2@auto,rnn:3@sequence", VKL_OK, ""},
        {"lstm:5:3@half,gru:4@step@half,birnn:2@half@pieces", VKL_OK, ""},
        {"lstm:5@half@walk", VKL_ERROR_INVALID, "'@walk'"},
        {"dense:5@half", VKL_ERROR_INVALID, "'@half'"},
        {"lstm:5@walk", VKL_ERROR_INVALID, "'@walk'"},
        {"dense:5@step", VKL_ERROR_INVALID, "'@step'"},
        {"@step", VKL_ERROR_INVALID, "none of"},
        {"dropout:1.5", VKL_ERROR_INVALID, "rate"},
        {"dropout:", VKL_ERROR_INVALID, "rate"},
        {"dense:1:swish", VKL_ERROR_INVALID, "none of none"},
        {"dense:1:", VKL_ERROR_INVALID, "none of none"},
        {"dense:1:relu:2", VKL_ERROR_INVALID, "none of none"},
        {"lstm:1,lstm:1,lstm:1,lstm:1,lstm:1", VKL_ERROR_LIMIT, "5 layers; there is room for 4"},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklLayerDesc layers[4];
        uint32_t count = 4;
        cr_assert_eq(vkl_layers_parse(context, cases[i].text, layers, &count), cases[i].status, "%s", cases[i].text);
        if (cases[i].status)
            cr_assert(strstr(vkl_context_error(context), cases[i].says), "'%s': %s", cases[i].text, vkl_context_error(context));
    }
    VklLayerDesc layers[4];
    uint32_t count = 4;
    TEST_OK(context, vkl_layers_parse(context, cases[1].text, layers, &count));
    cr_assert_eq(count, 4);
    cr_assert_eq(layers[1].units, 2);
    cr_assert_eq(layers[2].kind, VKL_LAYER_DENSE);
    cr_assert_eq(layers[2].activation, VKL_ACTIVATION_RELU);
    vkl_context_destroy(context);
}

/* Rates so near to 1 that 32 bits cannot tell them from it drop everything: the loss is that of a network that hands on zeros. */
Test(model, a_dropout_rate_next_to_one_is_one)
{
    static const double rates[] = {1 - 1e-9, 1 - 1e-11, 1};
    OPEN;
    double loss[3];
    for (int i = 0; i < 3; i++) {
        Series *series = make_series(1, 4, 30);
        VklLayerDesc layers[] = {vkl_layer_lstm(4), vkl_layer_dropout(rates[i]), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
        VklModel *model = NULL;
        Losses losses = {.count = 0};
        VklFitDesc fit = vkl_fit_desc();
        fit.epochs = 1;
        fit.batch_size = 30;
        fit.on_epoch = keep_losses;
        fit.user = &losses;
        TEST_OK(context, vkl_model_create(device, 1, layers, 3, 1, &model));
        TEST_OK(context, vkl_model_fit(model, &series->windows, NULL, &fit, NULL));
        loss[i] = losses.loss[0];
        vkl_model_destroy(model);
        free(series);
    }
    cr_assert(loss[0] == loss[2] && loss[1] == loss[2], "%g %g %g", loss[0], loss[1], loss[2]);
    CLOSE;
}

/* A projection wider than all gates: orthonormal rows then, as Keras does. */
Test(model, recurrent_weights_of_a_wide_projection_are_orthonormal)
{
    enum { H = 2, P = 11 };
    OPEN;
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, 1, H);
    desc.projection = P;
    VklRnn *rnn = NULL;
    VklRnnSizes sizes;
    float *packed, weight[4 * H * P];
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    TEST_OK(context, vkl_rnn_sizes(rnn, 1, 1, &sizes));
    packed = malloc(sizes.params);
    TEST_OK(context, vkl_rnn_init(rnn, 7, packed));
    TEST_OK(context, vkl_rnn_unpack(rnn, 1, packed, weight));
    for (int a = 0; a < 4 * H; a++)
        for (int b = 0; b < 4 * H; b++) {
            double dot = 0;
            for (int p = 0; p < P; p++)
                dot += (double)weight[a * P + p] * (double)weight[b * P + p];
            cr_assert(fabs(dot - (a == b)) < 1e-6, "rows %d and %d: %g", a, b, dot);
        }
    free(packed);
    vkl_rnn_destroy(rnn);
    CLOSE;
}

/* One loss kernel sums 2^21 numbers: inference takes so many windows at once that it never has more. */
Test(model, validation_of_wide_outputs_stays_within_the_loss_kernel)
{
    enum { WIDE = 8193 };
    OPEN;
    Series *series = make_series(1, 1, 257);
    float *targets = calloc((size_t)257 * WIDE, sizeof(*targets));
    series->windows.outputs = WIDE;
    series->windows.targets = targets;
    VklModel *model = make_model(device, 1, "lstm:1,dense:8193", 3);
    double mean;
    TEST_OK(context, vkl_model_evaluate(model, &series->windows, VKL_LOSS_MSE, 1, &mean));
    cr_assert(isfinite(mean));
    free(targets);
    free(series);
    vkl_model_destroy(model);
    CLOSE;
}

static void bad_clip(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->optimizer.clip_value = 1e-50;
}
static void bad_count(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->count = 0;
}
static void bad_features(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->features = 2;
}
static void bad_outputs(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->outputs = 3;
}
static void bad_start(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->rows = 20;
}
static void bad_targets(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->targets = NULL;
}
static void bad_size(VklWindows *w, VklFitDesc *f)
{
    (void)f;
    w->struct_size = 1;
}
static void bad_epochs(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->epochs = 0;
}
static void bad_batch(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->batch_size = 0;
}
static void bad_rate(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->optimizer.learning_rate = NAN;
}
static void bad_momentum(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->optimizer.momentum = 0.9;
}
static void bad_patience(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->patience = 5;
}
static void bad_delta(VklWindows *w, VklFitDesc *f)
{
    (void)w;
    f->loss = VKL_LOSS_HUBER;
    f->huber_delta = 0;
}

Test(model, wrong_arguments_are_refused_by_name)
{
    static const struct {
        void (*spoil)(VklWindows *, VklFitDesc *);
        const char *says;
    } cases[] = {{bad_count, "0 windows"},       {bad_features, "features is 2"}, {bad_outputs, "outputs is 3"},
                 {bad_start, "window 17"},       {bad_targets, "no targets"},     {bad_size, "struct_size is 1"},
                 {bad_epochs, "epochs is 0"},    {bad_batch, "batch_size 0"},     {bad_rate, "learning_rate is nan"},
                 {bad_momentum, "momentum is"},  {bad_clip, "clip_value 1e-50"},  {bad_patience, "patience is 5"},
                 {bad_delta, "huber_delta is 0"}};
    OPEN;
    Series *series = make_series(1, 4, 64);
    VklModel *model = make_model(device, 1, "lstm:3,dense:1", 3);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklWindows windows = series->windows;
        VklFitDesc fit = vkl_fit_desc();
        cases[i].spoil(&windows, &fit);
        cr_assert_eq(vkl_model_fit(model, &windows, NULL, &fit, NULL), VKL_ERROR_INVALID, "%s", cases[i].says);
        cr_assert(strstr(vkl_model_error(model), cases[i].says), "wanted '%s': %s", cases[i].says, vkl_model_error(model));
    }
    VklModel *none = NULL;
    VklLayerDesc dense = vkl_layer_dense(1, VKL_ACTIVATION_NONE);
    cr_assert_eq(vkl_model_create(device, 1, &dense, 1, 1, &none), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_device_error(device), "recurrent"), "%s", vkl_device_error(device));
    cr_assert_null(none);
    vkl_model_destroy(model);
    free(series);
    CLOSE;
}

/* status.h: what is needed is refused where it is NULL, with a sentence that names it. */
Test(model, what_is_needed_is_refused_by_name_where_it_is_null)
{
    OPEN;
    VklModel *model = make_model(device, 1, "lstm:3,dense:1", 1);
    VklRnnDesc rnn_desc = vkl_rnn_desc(VKL_CELL_LSTM, 2, 3);
    VklDenseDesc dense_desc = vkl_dense_desc(2, 3, VKL_ACTIVATION_NONE);
    VklOptimizerDesc adam = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    VklRnn *rnn;
    VklDense *dense;
    VklOptimizer *optimizer, *none;
    VklBuffer *buffer;
    VklStream *stream;
    TEST_OK(context, vkl_rnn_create(device, &rnn_desc, &rnn));
    TEST_OK(context, vkl_dense_create(device, &dense_desc, &dense));
    TEST_OK(context, vkl_optimizer_create(device, &adam, 4, &optimizer));
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, 1024, &buffer));
    TEST_OK(context, vkl_stream_create(device, &stream));
    const VklSlice a = vkl_slice(buffer, 0), b = vkl_slice(buffer, 256), c = vkl_slice(buffer, 512);
    float number = 0;
#define NULLS(CALL, NAME)                                                                                         \
    do {                                                                                                          \
        cr_expect_eq(CALL, VKL_ERROR_INVALID, "%s", #CALL);                                                       \
        cr_expect(strstr(vkl_context_error(context), NAME " NULL"), "%s: %s", #CALL, vkl_context_error(context)); \
    } while (0)
    NULLS(vkl_model_get_tensor(model, 0, NULL), "get_tensor: data is");
    NULLS(vkl_model_set_tensor(model, 0, NULL), "set_tensor: data is");
    NULLS(vkl_model_tensor_info(model, 0, NULL), "info is");
    NULLS(vkl_model_predict(model, NULL, &number), "windows are");
    NULLS(vkl_rnn_sizes(rnn, 1, 1, NULL), "rnn_sizes: sizes is");
    NULLS(vkl_rnn_step_sizes(rnn, 1, NULL), "step_sizes: sizes is");
    NULLS(vkl_rnn_param_info(rnn, 0, NULL), "rnn_param_info: info is");
    NULLS(vkl_rnn_pack(rnn, 0, NULL, &number), "rnn_pack: canonical is");
    NULLS(vkl_rnn_unpack(rnn, 0, NULL, &number), "rnn_unpack: packed is");
    NULLS(vkl_rnn_init(rnn, 1, NULL), "rnn_init: packed is");
    NULLS(vkl_dense_create(device, NULL, &dense), "desc is");
    NULLS(vkl_dense_create(device, &dense_desc, NULL), "dense is");
    NULLS(vkl_dense_param_info(dense, 0, NULL), "dense_param_info: info is");
    NULLS(vkl_dense_pack(dense, 0, &number, NULL), "dense_pack: packed is");
    NULLS(vkl_dense_unpack(dense, 0, &number, NULL), "dense_unpack: canonical is");
    NULLS(vkl_dense_init(dense, 1, NULL), "dense_init: packed is");
    NULLS(vkl_dense_forward(dense, NULL, 2, a, b, c), "stream is");
    NULLS(vkl_dense_backward(dense, stream, NULL), "args is");
    NULLS(vkl_loss_record(stream, NULL), "loss_record: args is");
    NULLS(vkl_optimizer_create(device, NULL, 4, &none), "desc is");
    NULLS(vkl_optimizer_create(device, &adam, 4, NULL), "optimizer is");
    NULLS(vkl_optimizer_step(optimizer, NULL, a, b), "stream is");
    NULLS(vkl_optimizer_prepare(optimizer, a, b, NULL), "exec is");
#undef NULLS
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(buffer);
    vkl_optimizer_destroy(optimizer);
    vkl_dense_destroy(dense);
    vkl_rnn_destroy(rnn);
    vkl_model_destroy(model);
    CLOSE;
}

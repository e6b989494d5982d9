/* SPDX-License-Identifier: MIT
 *
 * A small model that is trained for some epochs, with all that the next step may depend on: a smaller last batch, shuffles,
 * dropout, Adam's moments, validation. For tests of how training may be cut, interrupted and continued: the bits are to be the
 * same. */
#ifndef VKL_TESTS_TRAINEE_H
#define VKL_TESTS_TRAINEE_H

#include "harness.h"

enum {
    TRAINEE_ROWS = 120,
    TRAINEE_STEPS = 5,
    TRAINEE_WINDOWS = 65,
    TRAINEE_CHECKS = 17,
    TRAINEE_BATCH = 7,
    TRAINEE_EPOCHS = 4,
    TRAINEE_BATCHES = (TRAINEE_WINDOWS + TRAINEE_BATCH - 1) / TRAINEE_BATCH /* of an epoch; one of validation follows */
};

typedef struct TraineeEpochs {
    double loss[64], validation[64];
    uint64_t count;
} TraineeEpochs;

typedef struct Trainee {
    VklContext *context;
    VklDevice *device;
    VklModel *model;
    float values[TRAINEE_ROWS], targets[TRAINEE_ROWS];
    uint32_t starts[TRAINEE_ROWS];
    VklWindows train, check;
    VklFitDesc desc;      /* on_epoch keeps the losses */
    TraineeEpochs epochs; /* seen so far */
} Trainee;

/* Must stay where it is. The model is destroyed by the caller. */
void trainee_start(Trainee *trainee, VklContext *context, VklDevice *device);
VklFit *trainee_fit(Trainee *trainee);
bool trainee_keep_epoch(void *user, const VklEpoch *epoch);
/* As vkl_model_fit() does it. */
void trainee_at_once(Trainee *trainee, VklContext *context, VklDevice *device, VklFitResult *result);
/* All weights, one tensor after the other; freed by the caller. */
float *trainee_weights(VklModel *model, size_t *bytes);
/* Fails unless weights, and losses on the way to them, are those of another, bit for bit. */
void trainee_check_same(const char *what, Trainee *trainee, Trainee *want);

#endif

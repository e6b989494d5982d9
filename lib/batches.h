/* SPDX-License-Identifier: MIT
 *
 * A set of windows on the device, and the prepared work of its batches: what training, prediction and evaluation share. */
#ifndef VKL_BATCHES_H
#define VKL_BATCHES_H

#include "model.h"

typedef struct VklBatch {
    uint64_t rows;
    VklExec *exec; /* NULL: no batch of this size */
    VklBuffer *reserve, *workspace;
    VklArray predictions; /* in reserve */
} VklBatch;

typedef struct VklBatches {
    VklModel *model;
    const char *call;                    /* for sentences */
    uint64_t count, outputs, full_count; /* windows; numbers of a target; batches of the full size */
    VklWindowPlaces places;
    VklBuffer *data, *state;
    VklBuffer *grads, *moments; /* training */
    VklBatch full, rest;
} VklBatches;

/* Refuses windows that do not fit the model, in the model's error. */
VklStatus vkl_windows_check(VklModel *model, const char *call, const VklWindows *windows, bool targets);
/* The same of a loss. `delta` is looked at for VKL_LOSS_HUBER alone. */
VklStatus vkl_loss_check(VklModel *model, const char *call, VklLoss loss, double delta);

/* Allocates, compiles and uploads; `windows` is read during the call alone. `fit` gives loss, optimizer and the seed of
 * dropout, `plan` what kind of pass it is. On failure too, vkl_batches_finish() is to be called. */
VklStatus vkl_batches_start(VklBatches *batches, VklModel *model, const char *call, const VklWindows *windows,
                            uint64_t batch_size, const VklFitDesc *fit, VklModelPlan plan);
void vkl_batches_finish(VklBatches *batches);

/* Records on any stream: the next pass over the windows begins, counters to zero. */
VklStatus vkl_batches_rewind(const VklBatches *batches, VklStream *stream);

/* Of the losses of a whole pass: their mean over windows and outputs, and the first batch that is not finite, or UINT64_MAX. */
double vkl_batches_loss(const VklBatches *batches, const float *losses, uint64_t *broken);

/* Windows of one batch of inference: many, but within some 64 MiB of gates. */
uint64_t vkl_inference_batch(const VklModel *model, uint64_t steps);

#endif

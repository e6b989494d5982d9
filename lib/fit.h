/* SPDX-License-Identifier: MIT */
#ifndef VKL_FIT_H
#define VKL_FIT_H

#include "batches.h"
#include "pace.h"
#include "vklstm/fit.h"

/* An epoch's parts, in order: whole batches and the smaller last one, trained on, then checked by. */
typedef enum VklFitPart { VKL_FIT_TRAIN, VKL_FIT_TRAIN_REST, VKL_FIT_CHECK, VKL_FIT_CHECK_REST, VKL_FIT_PARTS } VklFitPart;

/* What is submitted or recorded of an epoch. */
typedef struct VklFitPlace {
    uint64_t batch; /* whole batches, of training and then of validation */
    size_t done;    /* ops of the next one */
    /* what is still to be copied when the epoch begins: the weights that it begins with */
    bool keep_finished, keep_best;
} VklFitPlace;

/* What windows were given: their arrays are the caller's. */
typedef struct VklFitSource {
    uint64_t count, steps;
    uint64_t contents; /* a hash of series, starts and targets */
} VklFitSource;

struct VklFit {
    VklModel *model;
    VklError error;
    VklFitDesc desc;
    VklBatches train, validation;
    VklFitSource sources[2]; /* of both; zeros without validation */
    bool validated;
    VklBuffer *best;     /* weights of the lowest validation loss; made with validation */
    VklBuffer *finished; /* weights at the end of the last finished epoch */
    VklBuffer *order;    /* mapped, of the next epoch; made with shuffle */
    VklBuffer *losses;   /* mapped: of all batches of an epoch */
    VklPace pace;
    VklPaced paced[VKL_FIT_PARTS];

    uint64_t epoch; /* the running one, from 1 */
    VklFitPlace at;
    uint64_t seen; /* batches of the epoch that the device is known to have done */
    bool recorded; /* something was recorded, and is not collected */
    bool ended, settled;
    VklStatus end; /* why, once ended: VKL_OK, VKL_STOPPED or an error */
    double best_loss;
    uint64_t best_epoch;    /* 0: none */
    double began, reported; /* the host's clock, seconds */
    VklStreamStats before;
    VklFitResult result;
};

/* checkpoint.c */
VklFitSource vkl_fit_source(const VklWindows *windows);

/* fit.c. Refused on a lost device, and while recorded steps are not collected. */
VklStatus vkl_fit_ready(VklFit *fit, const char *call);
/* Until the device is done, and with a whole step. */
VklStatus vkl_fit_end_step(VklFit *fit);
/* The order of the windows in an epoch, to where the device can copy it from. Nothing that was submitted reads the one before. */
VklStatus vkl_fit_prepare_order(VklFit *fit, uint64_t epoch);
/* Ends training by `status`, if that is no success, or where as many epochs are finished, or as many without a better one, as
 * there may be. */
void vkl_fit_decide(VklFit *fit, VklStatus status);

#endif

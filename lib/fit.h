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

struct VklFit {
    VklModel *model;
    VklError error;
    VklFitDesc desc;
    VklBatches train, validation;
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

#endif

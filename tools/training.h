/* SPDX-License-Identifier: MIT
 *
 * A training: what `train` was asked for, and the objects it makes on the way to a fitted model.
 */
#ifndef VKLSTM_TOOLS_TRAINING_H
#define VKLSTM_TOOLS_TRAINING_H

#include "history.h"
#include "options.h"
#include "parts.h"
#include "progress.h"
#include "session.h"

typedef struct TrainArgs {
    const char *data; /* path of the CSV file */
    const char *target, *features;
    uint64_t window, horizon, difference, season;
    FillOption fill;
    VklScale scale;
    bool log;
    double test_split, validation_split;
    /* network and training */
    const char *layers, *device;
    uint64_t epochs, batch_size, patience, seed;
    VklOptimizerKind optimizer;
    VklLoss loss;
    double learning_rate, weight_decay; /* NaN: the optimizer's default */
    double clip_norm, momentum;
    bool refit;
    /* results */
    const char *output, *plot, *history, *checkpoint, *resume;
    uint64_t checkpoint_every; /* epochs; 0: the default */
    bool json, quiet;
} TrainArgs;

#define LAYERS_MAX 32

typedef struct Training {
    const TrainArgs *args;
    Session session;
    VklTable *table;
    VklPrep *prep;
    VklModel *model;
    VklLayerDesc layers[LAYERS_MAX];
    uint32_t layer_count;
    VklFitDesc fit;
    VklFit *fitting;       /* the first fit while it runs, where a checkpoint was asked for */
    bool unkept;           /* a checkpoint could not be written, which was told */
    VklFitResult result;   /* of the first fit; with a refit, its loss is the refit's, whose model is kept */
    uint64_t refit_epochs; /* 0: no refit */
    double seconds;        /* of all fits */
    Part validation;       /* with a refit: what the model before it made of the validation part */
    Parts parts;           /* of the final model */
    Progress progress;
    History history; /* of the first fit */
} Training;

/* Each prints and returns an exit status. After a signal they return EXIT_OK early: see interrupt_signal(). */
int training_load(Training *training);
int training_fit(Training *training);
/* Trains a fresh model of the same seed on all rows before the test part, which stays the same: it is cut off first. The model
 * that early stopping chose is given up once the new one is whole. */
int training_refit(Training *training);
void training_clear(Training *training);

#endif

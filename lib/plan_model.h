/* SPDX-License-Identifier: MIT
 *
 * A sequential network as kernel calls: a batch is gathered from the windows, goes forward, and in training back, through the optimizer.
 *
 * Slots: PARAMS, GRADS, MOMENTS; STATE: the step state, the losses of an epoch's batches and the order of its windows; DATA: series, starts
 * and targets; RESERVE: everything of forward; WORKSPACE: everything of backward.
 */
#ifndef VKL_PLAN_MODEL_H
#define VKL_PLAN_MODEL_H

#include "plan_dense.h"
#include "plan_rnn.h"
#include "vklstm/model.h"

/* One layer with its place in the flat parameters. */
typedef struct VklNetworkLayer {
    VklLayerDesc desc;
    VklRnnDesc rnn;                 /* recurrent kinds */
    VklDenseDesc dense;             /* VKL_LAYER_DENSE */
    bool sequence_in, sequence_out; /* [T][N][.] or [N][.] */
    uint64_t inputs, outputs;
    uint64_t params; /* floats */
} VklNetworkLayer;

typedef struct VklNetwork {
    uint64_t features, outputs;
    uint32_t count;
    uint64_t params; /* floats in all, a multiple of 4 */
    VklNetworkLayer *layers;
} VklNetwork;

/* Offsets (in elements) of what DATA and STATE hold for a set of windows. */
typedef struct VklWindowPlaces {
    uint64_t series, starts, targets, data; /* `data`: elements in all */
    uint64_t order, state;                  /* `state`: elements in all */
    uint64_t batches, count;
} VklWindowPlaces;
bool vkl_window_places(const VklWindows *windows, uint64_t batch, VklWindowPlaces *places); /* false: does not fit 63 bits */

typedef struct VklModelPlan {
    const VklNetwork *network;
    uint64_t T, N;
    const VklWindowPlaces *places;
    bool has_targets;
    bool training;  /* backward and optimizer too */
    bool with_loss; /* without training: the loss alone */
    VklLoss loss;
    double huber_delta;
    const VklOptimizerDesc *optimizer; /* training */
    uint64_t seed;                     /* training: of dropout's masks */
    uint64_t reserve, workspace;       /* out: floats needed of the two slots */
    VklArray predictions;              /* out: [N][outputs] */
} VklModelPlan;

/* False: sizes do not fit 63 bits. The memory of states at time slot 0 must be zero in training. */
bool vkl_plan_model(VklPlan *plan, VklModelPlan *model);

#endif

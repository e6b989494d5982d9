/* SPDX-License-Identifier: MIT
 *
 * VklModel: a sequential network that is trained on windows of series and predicts from them.
 *
 *     VklLayerDesc layers[] = { vkl_layer_lstm(50), vkl_layer_dense(1, VKL_ACTIVATION_NONE) };
 *     vkl_model_create(device, features, layers, 2, seed, &model);
 *     vkl_model_fit(model, &train, NULL, &fit, &result);
 *     vkl_model_predict(model, &windows, predictions);
 *
 * Recurrent layers hand whole sequences to each other; the last one hands on its last time step. A dense layer before the
 * last recurrent one acts on every time step. States begin at zero in each window.
 *
 * Training runs one plan per step (gather, forward, loss, backward, clip, optimizer) that is recorded once and replayed; the
 * host reads the losses once per epoch. The same seed gives the same bits on the same device. One thread at a time,
 * different models at once; work of vkl_model_prepare_step() is recorded by any thread meanwhile (context.h).
 */
#ifndef VKLSTM_MODEL_H
#define VKLSTM_MODEL_H

#include "layers.h"
#include "optimizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklModel VklModel;

typedef enum VklLayerKind {
    VKL_LAYER_LSTM = 0,
    VKL_LAYER_DENSE = 1,
    VKL_LAYER_GRU = 2, /* reset-after */
    VKL_LAYER_RNN = 3, /* tanh */
    VKL_LAYER_RNN_RELU = 4,
    VKL_LAYER_DROPOUT = 5 /* of the numbers that the layer before hands on; in training alone */
} VklLayerKind;

typedef struct VklLayerDesc {
    VklLayerKind kind;
    VklActivation activation; /* dense only */
    uint64_t units;           /* hidden units, or outputs; 0 for dropout */
    bool both;                /* recurrent: both directions, side by side: twice as many outputs; default false */
    uint64_t projection;      /* LSTM: outputs of a direction, 0 (default): units */
    double rate;              /* dropout: probability of each number to be dropped, 0 <= rate <= 1 */
    VklRnnPath path;          /* recurrent: how its time steps are done; default VKL_RNN_PATH_AUTO. Model files do not hold it */
    VklStorage storage; /* recurrent: VKL_STORAGE_FLOAT32 (default) or VKL_STORAGE_FLOAT16, see rnn.h. Model files hold it */
} VklLayerDesc;

/* One layer of each kind, the rest of the description at its defaults: so many units, or outputs; `rate`: the share of numbers
 * that dropout zeroes. */
VKL_API VklLayerDesc vkl_layer_lstm(uint64_t units);
VKL_API VklLayerDesc vkl_layer_gru(uint64_t units);
VKL_API VklLayerDesc vkl_layer_rnn(uint64_t units);
VKL_API VklLayerDesc vkl_layer_dense(uint64_t units, VklActivation activation);
VKL_API VklLayerDesc vkl_layer_dropout(double rate);

/* Reads layers separated by commas:
 *     lstm:UNITS[:PROJECTION]  gru:UNITS  rnn:UNITS (tanh)  rnn_relu:UNITS    each also with bi before it: bilstm:UNITS ...
 *                              and with the path of its time steps behind it, @pieces, @step, @sequence, @wavefront: lstm:50@step
 *                              and with @half, whose matrices and kept gates are halves: lstm:50@half, gru:8@step@half
 *     dense:UNITS[:none|tanh|sigmoid|relu]
 *     dropout:RATE
 * as in "lstm:50,dense:1" or "bigru:32,dropout:0.2,lstm:32:16,dense:8:relu,dense:1". At most `*count` layers are written;
 * `*count` is set to how many there are.
 * Errors: VKL_ERROR_INVALID (the piece that cannot be read is in the message), VKL_ERROR_LIMIT (more than *count). */
VKL_API VklStatus vkl_layers_parse(VklContext *context, const char *text, VklLayerDesc *layers, uint32_t *count);

/* Builds a model for `features` inputs per time step; weights are initialised from `seed` (rnn.h and layers.h say how).
 * Errors: VKL_ERROR_INVALID (no layer, no recurrent layer, units of 0), VKL_ERROR_LIMIT, memory. */
VKL_API VklStatus vkl_model_create(VklDevice *device, uint64_t features, const VklLayerDesc *layers, uint32_t count,
                                   uint64_t seed, VklModel **model);
VKL_API void vkl_model_destroy(VklModel *model);
VKL_API const char *vkl_model_error(const VklModel *model);

/* The device, the features of an input row, and the outputs of a window, that the model was made for. */
VKL_API VklDevice *vkl_model_device(const VklModel *model);
VKL_API uint64_t vkl_model_features(const VklModel *model);
VKL_API uint64_t vkl_model_outputs(const VklModel *model);
/* The layers, in order; valid as long as the model. */
VKL_API const VklLayerDesc *vkl_model_layers(const VklModel *model, uint32_t *count);
/* How many trainable numbers there are, in the canonical tensors. */
VKL_API uint64_t vkl_model_parameters(const VklModel *model);

/* The tensors under PyTorch's names with the layer's index and kind before them: "0.lstm.weight_ih_l0", "1.dense.weight" ... */
VKL_API uint32_t vkl_model_tensor_count(const VklModel *model);
/* Errors: VKL_ERROR_INVALID (index). */
VKL_API VklStatus vkl_model_tensor_info(VklModel *model, uint32_t index, VklParamInfo *info);
/* Blocking copies of one tensor, canonical, row-major. Errors: VKL_ERROR_INVALID, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_model_get_tensor(VklModel *model, uint32_t index, float *data);
VKL_API VklStatus vkl_model_set_tensor(VklModel *model, uint32_t index, const float *data);

/* A set of windows: each is `steps` consecutive rows of a series, with `outputs` target values. Only a view: the arrays belong
 * to the caller and are read during the call they are passed to. */
typedef struct VklWindows {
    size_t struct_size;
    uint64_t count;         /* windows, at most 2^32 - 1 */
    uint64_t steps;         /* T: time steps of each window */
    uint64_t features;      /* numbers in a row of the series: vkl_model_features() */
    uint64_t outputs;       /* targets of a window: vkl_model_outputs() */
    uint64_t rows;          /* rows of the series */
    const float *series;    /* [rows][features] */
    const uint32_t *starts; /* [count]: first row of each window; starts[i] + steps <= rows */
    const float *targets;   /* [count][outputs]; may be NULL for vkl_model_predict() */
} VklWindows;

/* How far training is. */
typedef struct VklProgress {
    uint64_t epoch, epochs; /* running epoch, from 1, and how many are planned */
    uint64_t step, steps;   /* training steps done in this epoch, and its number of steps */
    double seconds;         /* since the start of vkl_model_fit() */
} VklProgress;

/* One finished epoch. */
typedef struct VklEpoch {
    uint64_t epoch;         /* from 1 */
    double loss;            /* mean over the epoch's windows, as they were trained on */
    double validation_loss; /* NaN without validation */
    double seconds;         /* since the start of vkl_model_fit() */
    bool best;              /* lowest validation loss so far */
} VklEpoch;

typedef struct VklFitDesc {
    size_t struct_size;
    uint64_t epochs;            /* default 100 */
    uint64_t batch_size;        /* default 1; the last batch of an epoch may be smaller */
    VklLoss loss;               /* default VKL_LOSS_MSE */
    double huber_delta;         /* default 1 */
    VklOptimizerDesc optimizer; /* default Adam */
    uint64_t patience; /* 0 (default): off. Else stop after so many epochs without a lower validation loss, and restore the
                            weights of the lowest; needs validation windows */
    uint64_t seed;     /* of the shuffles; default 1 */
    bool shuffle;      /* default true: a new order of the windows in each epoch */
    /* Called on the thread of vkl_model_fit(), each may be NULL; false ends training after the step that runs. on_progress is
     * called several times a second at most, on_epoch at the end of each epoch. */
    bool (*on_progress)(void *user, const VklProgress *progress);
    bool (*on_epoch)(void *user, const VklEpoch *epoch);
    void *user;
} VklFitDesc;

VKL_API VklFitDesc vkl_fit_desc(void);

typedef struct VklFitResult {
    uint64_t epochs;        /* epochs finished */
    uint64_t best_epoch;    /* the epoch whose weights the model has now; 0: none finished */
    double loss;            /* of the last finished epoch; NaN if none finished */
    double validation_loss; /* of best_epoch; NaN without validation */
    double seconds;         /* that it took */
    uint64_t steps;         /* training steps run */
    VklStreamStats stats;
} VklFitResult;

/* Trains. `validation` may be NULL. Starts from the weights that the model has, with a fresh optimizer. With validation, and
 * patience or a stop asked for by a callback, the model ends with the weights of the lowest validation loss; else with the
 * latest. Returns VKL_STOPPED when a callback ended it. `result` (may be NULL) is written for VKL_OK and VKL_STOPPED.
 * Errors: VKL_ERROR_INVALID (windows that do not fit the model or each other, values out of range, patience without
 * validation), VKL_ERROR_NUMERIC (the first loss that is not finite: epoch, step; the weights are those of the best epoch, or
 * of the end of the last finished one), VKL_ERROR_LIMIT, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_model_fit(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc,
                                VklFitResult *result);

/* predictions: out, [count][outputs], on the host. Errors: as vkl_model_fit. */
VKL_API VklStatus vkl_model_predict(VklModel *model, const VklWindows *windows, float *predictions);

/* The mean loss over all windows. `huber_delta` is used by VKL_LOSS_HUBER alone. Errors: as vkl_model_fit. */
VKL_API VklStatus vkl_model_evaluate(VklModel *model, const VklWindows *windows, VklLoss loss, double huber_delta, double *mean);

/* ---- One step of many agents ----
 *
 * As vkl_rnn_step() in rnn.h, through all layers of the model: dense layers act on each agent's row, dropout layers do nothing.
 * States stay on the device. For models whose recurrent layers have one direction (others: VKL_ERROR_UNSUPPORTED). Many steps
 * from states of zeros are vkl_model_predict() of windows as long, within the budget of docs/numerics.md. */
typedef struct VklModelStepSizes {
    size_t struct_size;                      /* in: sizeof(VklModelStepSizes) */
    uint64_t params, x, y, state, workspace; /* bytes of the arrays below */
} VklModelStepSizes;

typedef struct VklModelStep {
    size_t struct_size;
    uint64_t N;         /* most agents, >= 1: rows of the arrays */
    VklSlice params;    /* in,    a copy of vkl_model_params(), so that training may go on beside; absent: the model's own */
    VklSlice x;         /* in,    [N][features] */
    VklSlice y;         /* out,   [N][outputs] */
    VklSlice state;     /* inout, h and c of all layers; their layout is private. Zeros: all agents begin anew */
    VklSlice reset;     /* in,    [N] uint32, as in VklRnnStep; may be absent */
    VklSlice count;     /* in,    one uint32, as in VklRnnStep; may be absent */
    VklSlice workspace; /* scratch, as in VklRnnStep */
} VklModelStep;

VKL_API VklModelStep vkl_model_step_args(uint64_t N);
/* Errors: VKL_ERROR_INVALID (N of 0, struct_size), VKL_ERROR_UNSUPPORTED, VKL_ERROR_LIMIT, VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_model_step_sizes(VklModel *model, uint64_t N, VklModelStepSizes *sizes);
/* Records a step on any stream of the model's device. Without `params`, weights that were set on the host are brought to the
 * device first, by a submit of the model's own. Errors: as vkl_rnn_step. */
VKL_API VklStatus vkl_model_step(VklModel *model, VklStream *stream, const VklModelStep *args);
/* The same, prepared for recording many times, with the weights that lie in params when it runs. The caller destroys the
 * result, which needs the model no more if `params` is given. */
VKL_API VklStatus vkl_model_prepare_step(VklModel *model, const VklModelStep *args, VklExec **exec);

/* Where the model's weights lie on the device, packed, and how many bytes: for vkl_stream_copy() at a safe point of the
 * caller's own into what agents are stepped with. Valid as long as the model; brings weights that were set on the host to the
 * device first, and waits for that.
 * Errors: VKL_ERROR_INVALID, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_model_params(VklModel *model, VklSlice *params, uint64_t *size);

#ifdef __cplusplus
}
#endif
#endif

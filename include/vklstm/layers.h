/* SPDX-License-Identifier: MIT
 *
 * The layers and losses around a recurrent operator, as operators of their own on a stream. A model (model.h) puts them
 * together by itself; these are for programs that build their own training step.
 *
 * Dense: y = activation(x W^T + b), for R rows of I features to O outputs. Canonical tensors: weight [O][I], bias [O].
 * The packed layout is W transposed, [I][O], then b [O], rounded up to a multiple of 4 floats.
 * Threads: a VklDense as a VklRnn (context.h).
 */
#ifndef VKLSTM_LAYERS_H
#define VKLSTM_LAYERS_H

#include "rnn.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum VklActivation {
    VKL_ACTIVATION_NONE = 0,
    VKL_ACTIVATION_TANH = 1,
    VKL_ACTIVATION_SIGMOID = 2,
    VKL_ACTIVATION_RELU = 3
} VklActivation;

typedef enum VklLoss {
    VKL_LOSS_MSE = 0,  /* mean of (p - t)^2 */
    VKL_LOSS_MAE = 1,  /* mean of |p - t|; gradient 0 where p = t */
    VKL_LOSS_HUBER = 2 /* mean of (p - t)^2 / 2 where |p - t| <= delta, else delta (|p - t| - delta / 2)  (Huber 1964) */
} VklLoss;

/* "none", "tanh", "sigmoid", "relu"; "mse", "mae", "huber". Return false, and leave the result alone, for other names. */
VKL_API bool vkl_activation(const char *name, VklActivation *activation);
VKL_API bool vkl_loss(const char *name, VklLoss *loss);

typedef struct VklDense VklDense;

typedef struct VklDenseDesc {
    size_t struct_size;
    uint64_t input_size;  /* I >= 1 */
    uint64_t output_size; /* O >= 1 */
    VklActivation activation;
} VklDenseDesc;

VKL_API VklDenseDesc vkl_dense_desc(uint64_t input_size, uint64_t output_size, VklActivation activation);

/* Errors: VKL_ERROR_INVALID, VKL_ERROR_LIMIT, VKL_ERROR_HOST_MEMORY. Allocates nothing on the device. */
VKL_API VklStatus vkl_dense_create(VklDevice *device, const VklDenseDesc *desc, VklDense **dense);
VKL_API void vkl_dense_destroy(VklDense *dense);
VKL_API const char *vkl_dense_error(const VklDense *dense);

VKL_API uint64_t vkl_dense_params_size(const VklDense *dense);                   /* bytes of the packed parameters */
VKL_API uint64_t vkl_dense_workspace_size(const VklDense *dense, uint64_t rows); /* bytes of backward's scratch; may be 0 */

/* Tensor 0 is weight, 1 is bias; as in rnn.h. Errors: VKL_ERROR_INVALID (index, NULL). */
VKL_API VklStatus vkl_dense_param_info(VklDense *dense, uint32_t index, VklParamInfo *info);
VKL_API VklStatus vkl_dense_pack(VklDense *dense, uint32_t index, const float *canonical, float *packed);
VKL_API VklStatus vkl_dense_unpack(VklDense *dense, uint32_t index, const float *packed, float *canonical);
/* Glorot-uniform weights, zero bias. Errors: VKL_ERROR_INVALID (NULL). */
VKL_API VklStatus vkl_dense_init(VklDense *dense, uint64_t seed, float *packed);

/* params, x [rows][I]: in; y [rows][O]: out. No overlap. Errors: as vkl_rnn_forward. */
VKL_API VklStatus vkl_dense_forward(VklDense *dense, VklStream *stream, uint64_t rows, VklSlice params, VklSlice x, VklSlice y);

typedef struct VklDenseBackward {
    size_t struct_size;
    uint64_t rows;      /* as in forward */
    VklSlice params;    /* in */
    VklSlice x;         /* in, [rows][I] */
    VklSlice y;         /* in, [rows][O], what forward wrote */
    VklSlice gy;        /* in, [rows][O] */
    VklSlice workspace; /* scratch, vkl_dense_workspace_size() bytes */
    VklSlice dx;        /* out, [rows][I]; may be absent */
    VklSlice dparams;   /* out, or inout with `accumulate`; may be absent */
    bool accumulate;    /* default false */
} VklDenseBackward;

VKL_API VklDenseBackward vkl_dense_backward_args(uint64_t rows);
/* Errors: as vkl_dense_forward(). */
VKL_API VklStatus vkl_dense_backward(VklDense *dense, VklStream *stream, const VklDenseBackward *args);

typedef struct VklLossArgs {
    size_t struct_size;
    VklLoss kind;
    double delta;       /* of the Huber loss, > 0; default 1 */
    uint64_t count;     /* numbers in each array */
    VklSlice predicted; /* in,  [count] */
    VklSlice target;    /* in,  [count] */
    VklSlice gradient;  /* out, [count], of the mean; may be absent */
    VklSlice loss;      /* out, one float: the mean */
} VklLossArgs;

VKL_API VklLossArgs vkl_loss_args(VklLoss kind, uint64_t count);
/* Errors are also told by vkl_stream_error(). */
VKL_API VklStatus vkl_loss_record(VklStream *stream, const VklLossArgs *args);

#ifdef __cplusplus
}
#endif
#endif

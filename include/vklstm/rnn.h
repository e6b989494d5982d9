/* SPDX-License-Identifier: MIT
 *
 * VklRnn: the recurrent operator, forward and backward.
 *
 * LSTM (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000), in PyTorch's form, per layer and time step t:
 *
 *     i = sigmoid(W_ii x[t] + b_ii + W_hi h[t-1] + b_hi)      input gate
 *     f = sigmoid(W_if x[t] + b_if + W_hf h[t-1] + b_hf)      forget gate
 *     g = tanh   (W_ig x[t] + b_ig + W_hg h[t-1] + b_hg)      candidate
 *     o = sigmoid(W_io x[t] + b_io + W_ho h[t-1] + b_ho)      output gate
 *     c[t] = f * c[t-1] + i * g                               cell state
 *     h[t] = o * tanh(c[t])                                   hidden state
 *
 * A layer above the first has h of the layer below as its x. Sizes: T time steps, N rows of the batch, I features, H hidden
 * units, L layers. Arrays are row-major, time-major:
 *
 *     x, dx [T][N][I]    y, gy [T][N][H]    h0, c0, hn, cn and their gradients [L][N][H]
 *
 * Parameters are one flat packed buffer. Its layout is private (the gates of a unit lie side by side); vkl_rnn_pack() and
 * vkl_rnn_unpack() convert host copies from and to PyTorch's tensors: weight_ih_l0 [4H][I], weight_hh_l0 [4H][H],
 * bias_ih_l0 [4H], bias_hh_l0 [4H], rows i f g o. Gradients use the same packed layout.
 *
 * A NaN in x, a state or a weight reaches the outputs. A VklRnn is immutable after its creation but for its error and its
 * cache of prepared work: one thread at a time.
 */
#ifndef VKLSTM_RNN_H
#define VKLSTM_RNN_H

#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklRnn VklRnn;

typedef enum VklCell { VKL_CELL_LSTM = 0 } VklCell;

typedef struct VklRnnDesc {
    size_t struct_size;
    VklCell cell;
    uint64_t input_size;  /* I >= 1 */
    uint64_t hidden_size; /* H >= 1 */
    uint64_t layers;      /* L >= 1; default 1 */
} VklRnnDesc;

VKL_API VklRnnDesc vkl_rnn_desc(VklCell cell, uint64_t input_size, uint64_t hidden_size);

/* Errors: VKL_ERROR_INVALID (a size of 0, an unknown cell), VKL_ERROR_LIMIT (a product of sizes that does not fit 63 bits),
 * VKL_ERROR_HOST_MEMORY. Allocates nothing on the device. */
VKL_API VklStatus vkl_rnn_create(VklDevice *device, const VklRnnDesc *desc, VklRnn **rnn);
VKL_API void vkl_rnn_destroy(VklRnn *rnn);
VKL_API const char *vkl_rnn_error(const VklRnn *rnn);

typedef struct VklRnnSizes {
    uint64_t params;             /* bytes of the packed parameters, and of their gradients */
    uint64_t state;              /* bytes of one of h0, c0, hn, cn */
    uint64_t reserve;            /* bytes that a training forward leaves for backward: gates, c and h, about 24 T N H L */
    uint64_t forward_workspace;  /* bytes of scratch of a forward without reserve; 0 with one */
    uint64_t backward_workspace; /* bytes of scratch of a backward */
} VklRnnSizes;

/* Errors: VKL_ERROR_INVALID (T or N of 0), VKL_ERROR_LIMIT (a size that does not fit 63 bits). */
VKL_API VklStatus vkl_rnn_sizes(VklRnn *rnn, uint64_t T, uint64_t N, VklRnnSizes *sizes);

/* The canonical tensors, in PyTorch's order: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_ih_l1 ... */
typedef struct VklParamInfo {
    char name[64];
    uint32_t rank;     /* 1 or 2 */
    uint64_t shape[2]; /* rows, columns; shape[1] is 1 for rank 1 */
} VklParamInfo;

VKL_API uint32_t vkl_rnn_param_count(const VklRnn *rnn);
/* Errors: VKL_ERROR_INVALID (index). */
VKL_API VklStatus vkl_rnn_param_info(VklRnn *rnn, uint32_t index, VklParamInfo *info);
/* Between tensor `index` (canonical, row-major) and a host copy of the whole packed buffer (VklRnnSizes.params bytes; 16-byte
 * aligned or not). Errors: VKL_ERROR_INVALID (index). */
VKL_API VklStatus vkl_rnn_pack(VklRnn *rnn, uint32_t index, const float *canonical, float *packed);
VKL_API VklStatus vkl_rnn_unpack(VklRnn *rnn, uint32_t index, const float *packed, float *canonical);

/* Initial weights, Keras' rules: input weights Glorot-uniform over [I, 4H] (Glorot and Bengio 2010), recurrent weights
 * orthogonal as a matrix [H, 4H] (Saxe et al. 2014), biases 0 but the forget gate's b_if = 1 (Jozefowicz et al. 2015). The
 * same seed gives the same bits for every device. `packed`: out, VklRnnSizes.params bytes.
 * Errors: VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_rnn_init(VklRnn *rnn, uint64_t seed, float *packed);

typedef struct VklRnnForward {
    size_t struct_size;
    uint64_t T;         /* >= 1 */
    uint64_t N;         /* >= 1 */
    VklSlice params;    /* in */
    VklSlice x;         /* in,  [T][N][I] */
    VklSlice h0, c0;    /* in,  [L][N][H]; each may be absent: zeros */
    VklSlice y;         /* out, [T][N][H]; may be absent */
    VklSlice hn, cn;    /* out, [L][N][H]; each may be absent */
    VklSlice reserve;   /* out, VklRnnSizes.reserve bytes; absent: inference */
    VklSlice workspace; /* scratch, VklRnnSizes.forward_workspace bytes; absent when there is a reserve */
} VklRnnForward;

VKL_API VklRnnForward vkl_rnn_forward_args(uint64_t T, uint64_t N);

/* Records the forward pass. No two arrays may overlap.
 * Errors: VKL_ERROR_INVALID (absent or too small arrays, a stream of another device), VKL_ERROR_LIMIT, memory,
 * VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_rnn_forward(VklRnn *rnn, VklStream *stream, const VklRnnForward *args);

typedef struct VklRnnBackward {
    size_t struct_size;
    uint64_t T, N;      /* those of the forward pass */
    VklSlice params;    /* in, unchanged since the forward pass */
    VklSlice x;         /* in, [T][N][I], unchanged since the forward pass */
    VklSlice reserve;   /* in and scratch: consumed, so one backward for each forward */
    VklSlice workspace; /* scratch, VklRnnSizes.backward_workspace bytes */
    VklSlice gy;        /* in, [T][N][H], gradient of the loss with respect to y; may be absent: zeros */
    VklSlice ghn, gcn;  /* in, [L][N][H], to hn and cn; each may be absent: zeros */
    VklSlice dx;        /* out, [T][N][I]; may be absent: not computed */
    VklSlice dh0, dc0;  /* out, [L][N][H]; each may be absent: not computed */
    VklSlice dparams;   /* out, or inout with `accumulate`; may be absent: not computed */
    bool accumulate;    /* default false: dparams is overwritten; true: added to. dx, dh0, dc0 are always overwritten */
} VklRnnBackward;

VKL_API VklRnnBackward vkl_rnn_backward_args(uint64_t T, uint64_t N);

/* Records back-propagation through time (Werbos 1990) over the whole sequence. No two arrays may overlap. Errors: as
 * vkl_rnn_forward. */
VKL_API VklStatus vkl_rnn_backward(VklRnn *rnn, VklStream *stream, const VklRnnBackward *args);

/* The same work, prepared once for recording many times: see VklExec in stream.h. The caller destroys the result. */
VKL_API VklStatus vkl_rnn_prepare_forward(VklRnn *rnn, const VklRnnForward *args, VklExec **exec);
VKL_API VklStatus vkl_rnn_prepare_backward(VklRnn *rnn, const VklRnnBackward *args, VklExec **exec);

#ifdef __cplusplus
}
#endif
#endif

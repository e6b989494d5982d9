/* SPDX-License-Identifier: MIT
 *
 * VklRnn: the recurrent operator, forward and backward: LSTM, GRU and vanilla RNN, any number of layers, one or both directions.
 * docs/operator.md has every equation and gradient, and each option in the terms of PyTorch, Keras, ONNX and cuDNN.
 *
 * LSTM (Hochreiter and Schmidhuber 1997; forget gate of Gers et al. 2000), in PyTorch's form, per layer, direction and time
 * step t:
 *
 *     i = sigmoid(W_ii x[t] + b_ii + W_hi h[t-1] + b_hi)      input gate
 *     f = sigmoid(W_if x[t] + b_if + W_hf h[t-1] + b_hf)      forget gate
 *     g = tanh   (W_ig x[t] + b_ig + W_hg h[t-1] + b_hg)      candidate
 *     o = sigmoid(W_io x[t] + b_io + W_ho h[t-1] + b_ho)      output gate
 *     c[t] = f * c[t-1] + i * g                               cell state
 *     h[t] = o * tanh(c[t])                                   hidden state
 *
 * GRU (Cho et al. 2014), reset-after as cuDNN and PyTorch have it; with reset_after false the line in brackets:
 *
 *     r = sigmoid(W_ir x[t] + b_ir + W_hr h[t-1] + b_hr)      reset gate
 *     z = sigmoid(W_iz x[t] + b_iz + W_hz h[t-1] + b_hz)      update gate
 *     n = tanh(W_in x[t] + b_in + r * (W_hn h[t-1] + b_hn))   [ n = tanh(W_in x[t] + b_in + W_hn (r * h[t-1]) + b_hn) ]
 *     h[t] = (1 - z) * n + z * h[t-1]
 *
 * RNN (Elman 1990):  h[t] = f(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh), f tanh or relu.
 *
 * Sizes: T time steps, N rows of the batch, I features, H hidden units, P the projection (then h has P columns, else P means H
 * here), L layers, D directions (1 or 2), W the width of y: D P, or P where directions are summed. Arrays are row-major:
 *
 *     x, dx [T][N][I]    y, gy [T][N][W]    with batch_first [N][T][I], [N][T][W]    with last_only y, gy [N][W]
 *     h0, hn and gradients [L D][N][P]      c0, cn and gradients [L D][N][H] (LSTM)  index layer * D + direction
 *     lengths [N] uint32, on the device
 *
 * Lengths: row n has lengths[n] time steps, 0 to T (more count as T). Past a row's end y is padding_value, gy is ignored and dx
 * is 0. hn and cn are those of the row's own last step (h0 and c0 at length 0); the reverse direction begins at the row's own
 * end. last_only gives each direction's final state: the forward one's of step lengths[n] - 1, the reverse one's of step 0 (h0
 * at length 0).
 *
 * Parameters are one flat packed buffer. Its layout is private; vkl_rnn_pack() and vkl_rnn_unpack() convert host copies from
 * and to PyTorch's tensors: weight_ih_l0 [G H][I], weight_hh_l0 [G H][P], bias_ih_l0 [G H], bias_hh_l0 [G H], with a projection
 * weight_hr_l0 [P][H], with peepholes weight_ch_l0 [3][H] (i, f, o), each again with the suffix _reverse for the second
 * direction. Rows: LSTM i f g o, GRU r z n, G 4, 3 and 1. Gradients use the same packed layout.
 *
 * A NaN in x, a state or a weight reaches the outputs. A VklRnn is immutable after its creation but for its error and its cache
 * of prepared work, which are guarded: several threads may call into one at once (context.h).
 */
#ifndef VKLSTM_RNN_H
#define VKLSTM_RNN_H

#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklRnn VklRnn;

typedef enum VklCell { VKL_CELL_LSTM = 0, VKL_CELL_GRU = 1, VKL_CELL_RNN_TANH = 2, VKL_CELL_RNN_RELU = 3 } VklCell;

typedef enum VklDirection { VKL_DIRECTION_FORWARD = 0, VKL_DIRECTION_REVERSE = 1, VKL_DIRECTION_BOTH = 2 } VklDirection;

typedef enum VklMerge {
    VKL_MERGE_CONCAT = 0, /* y and the next layer's input are forward and reverse side by side */
    VKL_MERGE_SUM = 1     /* ... or their sum; hn and cn stay one for each direction */
} VklMerge;

typedef enum VklBias {
    VKL_BIAS_DOUBLE = 0, /* b_ih and b_hh, as PyTorch and cuDNN */
    VKL_BIAS_SINGLE = 1, /* b_ih alone; GRU's b_hn is 0 */
    VKL_BIAS_NONE = 2
} VklBias;

/* Activation functions of gates, under ONNX's names and definitions. */
typedef enum VklGateActivation {
    VKL_GATE_SIGMOID = 0,          /* 1 / (1 + e^-x) */
    VKL_GATE_TANH = 1,             /* tanh(x) */
    VKL_GATE_RELU = 2,             /* max(x, 0); derivative 0 at 0 */
    VKL_GATE_HARD_SIGMOID = 3,     /* min(max(alpha x + beta, 0), 1); alpha 0.2, beta 0.5 */
    VKL_GATE_AFFINE = 4,           /* alpha x + beta; both must be given */
    VKL_GATE_LEAKY_RELU = 5,       /* x >= 0 ? x : alpha x; alpha 0.01 */
    VKL_GATE_THRESHOLDED_RELU = 6, /* x > alpha ? x : 0; alpha 1 */
    VKL_GATE_SCALED_TANH = 7,      /* alpha tanh(beta x); both must be given */
    VKL_GATE_ELU = 8,              /* x >= 0 ? x : alpha (e^x - 1); alpha 1 */
    VKL_GATE_SOFTSIGN = 9,         /* x / (1 + |x|) */
    VKL_GATE_SOFTPLUS = 10         /* log(1 + e^x) */
} VklGateActivation;

typedef struct VklActivationDesc {
    VklGateActivation kind;
    float alpha; /* what the formula of `kind` calls so */
    float beta;  /* the same */
} VklActivationDesc;

/* The activation with its default alpha and beta (those in brackets above; 0 where it has none, or where both must be given). */
VKL_API VklActivationDesc vkl_gate_activation(VklGateActivation kind);
/* ONNX's name in any case ("Sigmoid", "HardSigmoid", "ScaledTanh" ...) -> kind. False, and *kind left alone, for other names. */
VKL_API bool vkl_gate_activation_kind(const char *name, VklGateActivation *kind);

typedef enum VklRecurrentDropout {
    VKL_RECURRENT_DROPOUT_SHARED = 0,  /* one mask for all gates (Gal and Ghahramani 2016; Semeniuta et al. 2016) */
    VKL_RECURRENT_DROPOUT_PER_GATE = 1 /* a mask of its own for each gate, as Keras draws them */
} VklRecurrentDropout;

/* How the time steps of a layer are done. Results agree within the budget of docs/numerics.md. A path that the device or the
 * layer does not allow is refused (VKL_ERROR_UNSUPPORTED) when a pass is recorded. */
typedef enum VklRnnPath {
    VKL_RNN_PATH_AUTO = 0,   /* what pays on the device at these sizes */
    VKL_RNN_PATH_PIECES = 1, /* the recurrent product and the cell as dispatches of their own, one direction after the other */
    /* one dispatch for each time step, of both directions; two with a projection and in a GRU that resets before */
    VKL_RNN_PATH_STEP = 2,
    /* all time steps in one dispatch: cells without options, no lengths, sizes that have a kernel for it */
    VKL_RNN_PATH_SEQUENCE = 3,
    /* one dispatch for a time step of each layer, each a step behind the layer that it needs: cells without options of one
     * direction, no lengths, no dropout between layers, float32 storage, no recompute. Inference takes memory for all layers.
     * AUTO does not choose it */
    VKL_RNN_PATH_WAVEFRONT = 4
} VklRnnPath;

/* "auto", "pieces", "step", "sequence", "wavefront" -> path. False, and *path left alone, for other names. */
VKL_API bool vkl_rnn_path(const char *name, VklRnnPath *path);

/* What numbers that take much memory are kept as. Sums, c, h, the parameters and all gradients are float32 either way. */
typedef enum VklStorage {
    VKL_STORAGE_FLOAT32 = 0,
    /* the matrices W_ih, W_hh and W_hr are rounded to halves (to nearest even; beyond 65,504 to infinity, which then reaches the
     * results) once in every pass, and all products of the pass, forward and backward, read those; biases and peepholes stay as
     * they are. The reserve keeps gates, operands of projections and of reset gates, and dropped inputs as halves, from which
     * backward starts; with `recompute` it keeps none of them. Products that the device does with cooperative matrices round
     * their other operand as well. docs/numerics.md has the budgets. */
    VKL_STORAGE_FLOAT16 = 1
} VklStorage;

typedef struct VklRnnDesc {
    size_t struct_size;
    VklCell cell;
    uint64_t input_size;  /* I >= 1 */
    uint64_t hidden_size; /* H >= 1 */
    uint64_t layers;      /* L >= 1; default 1 */
    VklDirection direction;
    VklMerge merge;
    VklBias bias;
    uint64_t projection; /* P >= 1: h = W_hr (o * tanh(c)), LSTM only (Sak et al. 2014); 0 (default): none */
    bool peephole;       /* LSTM only: i and f see p * c[t-1], o sees p * c[t] after its clip (Gers and Schmidhuber 2000) */
    bool input_forget;   /* LSTM only: f = 1 - i; the rows of f have no effect and a gradient of 0 (Greff et al. 2017) */
    bool reset_after;    /* GRU only: as in the equations above; default true */
    bool skip_input;     /* the first layer has no weight_ih: x is added to every gate; I must be H */
    float cell_clip;     /* LSTM only: c[t] is clipped to [-v, v]; 0 (default): off */
    float preact_clip;   /* the argument of every gate's activation is clipped to [-v, v], after peepholes; 0 (default): off */
    /* per direction (forward, reverse), in ONNX's order: LSTM f (i, f, o), g (candidate), h (of c); GRU f (r, z), g (n); RNN f.
     * Of all layers. Unused entries are ignored */
    VklActivationDesc activations[2][3];
    float input_dropout; /* p of the first layer's x, drawn for each (t, n, feature); 0 (default): off, 1: all zero */
    float dropout;       /* p between layers, drawn for each (t, n, unit) of a layer's output but the last's */
    /* p of h[t-1] as operand of the recurrent product, drawn once for each (layer, direction, row, unit) */
    float recurrent_dropout;
    VklRecurrentDropout recurrent_dropout_mode;
    float padding_value; /* of y past a row's end; default 0 */
    bool batch_first;    /* x, y, gy, dx are [N][T][...]; default false */
    bool last_only;      /* y and gy are [N][W]: the final state of each direction; default false */
    bool recompute;      /* the reserve keeps h and c alone, and backward computes the gates again; default false */
    VklRnnPath path;     /* default VKL_RNN_PATH_AUTO */
    VklStorage storage;  /* default VKL_STORAGE_FLOAT32 */
} VklRnnDesc;

VKL_API VklRnnDesc vkl_rnn_desc(VklCell cell, uint64_t input_size, uint64_t hidden_size);

/* Errors: VKL_ERROR_INVALID (a size of 0, an unknown value, an option that the cell does not have: by name and value),
 * VKL_ERROR_LIMIT (a product of sizes that does not fit 63 bits), VKL_ERROR_HOST_MEMORY. Allocates nothing on the device. */
VKL_API VklStatus vkl_rnn_create(VklDevice *device, const VklRnnDesc *desc, VklRnn **rnn);
VKL_API void vkl_rnn_destroy(VklRnn *rnn);
VKL_API const char *vkl_rnn_error(const VklRnn *rnn);

typedef struct VklRnnSizes {
    uint64_t params;             /* bytes of the packed parameters, and of their gradients */
    uint64_t state;              /* bytes of one of h0, hn and their gradients: 4 L D N P */
    uint64_t cell_state;         /* bytes of one of c0, cn and their gradients: 4 L D N H; 0 but for LSTM */
    uint64_t y;                  /* bytes of y */
    uint64_t reserve;            /* bytes that a training forward leaves for backward */
    uint64_t forward_workspace;  /* bytes of scratch of a forward */
    uint64_t backward_workspace; /* bytes of scratch of a backward */
} VklRnnSizes;

/* Errors: VKL_ERROR_INVALID (T or N of 0), VKL_ERROR_LIMIT (a size that does not fit 63 bits). */
VKL_API VklStatus vkl_rnn_sizes(VklRnn *rnn, uint64_t T, uint64_t N, VklRnnSizes *sizes);

/* The canonical tensors, in PyTorch's order: weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0, weight_ch_l0,
 * then the same with _reverse, then _l1 ...; those that the description has no use for are not there. A single direction has no
 * suffix. */
typedef struct VklParamInfo {
    char name[64];     /* as above */
    uint32_t rank;     /* 1 or 2 */
    uint64_t shape[2]; /* rows, columns; shape[1] is 1 for rank 1 */
} VklParamInfo;

/* How many tensors there are; each has an index below that. */
VKL_API uint32_t vkl_rnn_param_count(const VklRnn *rnn);
/* Errors: VKL_ERROR_INVALID (index). */
VKL_API VklStatus vkl_rnn_param_info(VklRnn *rnn, uint32_t index, VklParamInfo *info);
/* Between tensor `index` (canonical, row-major) and a host copy of the whole packed buffer (VklRnnSizes.params bytes; 16-byte
 * aligned or not). Errors: VKL_ERROR_INVALID (index). */
VKL_API VklStatus vkl_rnn_pack(VklRnn *rnn, uint32_t index, const float *canonical, float *packed);
VKL_API VklStatus vkl_rnn_unpack(VklRnn *rnn, uint32_t index, const float *packed, float *canonical);

/* Initial weights, Keras' rules: input and projection weights Glorot-uniform over [I, G H] and [P, H] (Glorot and Bengio 2010),
 * recurrent weights orthogonal as a matrix [P, G H] (Saxe et al. 2014), biases and peepholes 0 but LSTM's b_if = 1 (Jozefowicz
 * et al. 2015). The same seed gives the same bits for every device. `packed`: out, VklRnnSizes.params bytes.
 * Errors: VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_rnn_init(VklRnn *rnn, uint64_t seed, float *packed);

/* Which masks dropout draws: a pass with the same seed and offset draws the same ones, and backward must be given those of its
 * forward. An offset is one number for each pass: counting it up gives new masks. Masks are keyed by position (layer,
 * direction, t, n, unit), so `first_row` and `first_step` tell where the rows and the time steps of this call begin in a larger
 * job that is split. Dropout acts in passes with a reserve alone. The low 32 bits of offset, first_row and first_step count. */
typedef struct VklDropout {
    uint64_t seed;       /* of all masks */
    uint64_t offset;     /* of this pass */
    uint64_t first_row;  /* of the larger job */
    uint64_t first_step; /* of the larger job */
} VklDropout;

typedef struct VklRnnForward {
    size_t struct_size;
    uint64_t T;         /* >= 1 */
    uint64_t N;         /* >= 1 */
    VklSlice params;    /* in; may be absent if the description has none */
    VklSlice x;         /* in */
    VklSlice lengths;   /* in,  [N] uint32; may be absent: T for every row */
    VklSlice h0, c0;    /* in; each may be absent: zeros */
    VklSlice y;         /* out; may be absent */
    VklSlice hn, cn;    /* out; each may be absent; c0 and cn are LSTM's alone and refused elsewhere */
    VklSlice reserve;   /* out, VklRnnSizes.reserve bytes; absent: inference */
    VklSlice workspace; /* scratch, VklRnnSizes.forward_workspace bytes; may be absent for a plain LSTM with a reserve: one
                           direction, time-major, no other option, no lengths */
    VklDropout dropout;
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
    VklSlice x;         /* in, unchanged since the forward pass */
    VklSlice lengths;   /* in, those of the forward pass */
    VklSlice reserve;   /* in and scratch: consumed, so one backward for each forward */
    VklSlice workspace; /* scratch, VklRnnSizes.backward_workspace bytes */
    VklSlice gy;        /* in, gradient of the loss with respect to y; may be absent: zeros */
    VklSlice ghn, gcn;  /* in, to hn and cn; each may be absent: zeros */
    VklSlice dx;        /* out; may be absent: not computed */
    VklSlice dh0, dc0;  /* out; each may be absent: not computed */
    VklSlice dparams;   /* out, or inout with `accumulate`; may be absent: not computed */
    bool accumulate;    /* default false: dparams is overwritten; true: added to. dx, dh0, dc0 are always overwritten */
    VklDropout dropout; /* that of the forward pass */
} VklRnnBackward;

VKL_API VklRnnBackward vkl_rnn_backward_args(uint64_t T, uint64_t N);

/* Records back-propagation through time (Werbos 1990) over the whole sequence. No two arrays may overlap. Errors: as
 * vkl_rnn_forward. */
VKL_API VklStatus vkl_rnn_backward(VklRnn *rnn, VklStream *stream, const VklRnnBackward *args);

/* ---- One step of many agents ----
 *
 * What a game, a simulation or a robot asks of a network: one time step of up to N agents, again and again. Their states stay
 * on the device and are updated in place; who begins anew, and how many there are, are arrays there too, so nothing of it
 * passes through the host.
 *
 * For layers of one direction, VKL_DIRECTION_FORWARD (others: VKL_ERROR_UNSUPPORTED), with every cell and option; it is
 * inference, so dropout does nothing, and batch_first and last_only mean nothing with a single step. Results are those of
 * vkl_rnn_forward over the same steps, within the budget of docs/numerics.md. */
typedef struct VklRnnStep {
    size_t struct_size;
    uint64_t N;      /* most agents, >= 1: rows of the arrays */
    VklSlice params; /* in */
    VklSlice x;      /* in,    [N][I] */
    VklSlice h;      /* inout, [L][N][P]; rows of the last layer are the output */
    VklSlice c;      /* inout, [L][N][H]; LSTM's alone, and refused elsewhere */
    VklSlice y;      /* out,   [N][P], a copy of the last layer's rows of h; may be absent */
    /* in, [N] uint32: where it is not 0 the agent's h and c count as zeros, whatever they hold. May be absent: nobody begins
     * anew */
    VklSlice reset;
    /* in, one uint32: how many agents there are in this step, the first rows of all arrays; more than N counts as N, 0 is
     * allowed. May be absent: N */
    VklSlice count;
    VklSlice workspace; /* scratch, VklRnnSizes.forward_workspace bytes as vkl_rnn_step_sizes() says */
} VklRnnStep;

VKL_API VklRnnStep vkl_rnn_step_args(uint64_t N);

/* Sets params, state (bytes of h), cell_state (of c), y and forward_workspace; the others to 0.
 * Errors: VKL_ERROR_INVALID (N of 0), VKL_ERROR_UNSUPPORTED (a direction, a path that the device does not allow),
 * VKL_ERROR_LIMIT, VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_rnn_step_sizes(VklRnn *rnn, uint64_t N, VklRnnSizes *sizes);

/* Records a step. With `count`, work is dispatched for as many agents as it says when the device comes to it: a kernel reads
 * the number and writes the sizes of the dispatches behind it (vkCmdDispatchIndirect) into the workspace, which then must have
 * been made with VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT if it is a wrapped buffer. Rows at and past the number are not written in
 * h, c and y, and what they hold, in x and reset too, has no effect. The caller's barrier for count, reset and x is that of
 * vkl_stream_wrap_vulkan(): none, as long as compute or transfers wrote them in the same queue. No two arrays may overlap.
 * Errors: as vkl_rnn_forward. */
VKL_API VklStatus vkl_rnn_step(VklRnn *rnn, VklStream *stream, const VklRnnStep *args);
/* The same, prepared for recording many times: vkl_exec_record() then only records. The caller destroys the result. */
VKL_API VklStatus vkl_rnn_prepare_step(VklRnn *rnn, const VklRnnStep *args, VklExec **exec);

/* The same work, prepared once for recording many times: see VklExec in stream.h. The caller destroys the result. */
VKL_API VklStatus vkl_rnn_prepare_forward(VklRnn *rnn, const VklRnnForward *args, VklExec **exec);
VKL_API VklStatus vkl_rnn_prepare_backward(VklRnn *rnn, const VklRnnBackward *args, VklExec **exec);

#ifdef __cplusplus
}
#endif
#endif

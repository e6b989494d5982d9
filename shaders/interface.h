/* SPDX-License-Identifier: MIT
 *
 * What C and GLSL share: argument structs of the kernels (push constants, at most 128 bytes), specialization constant ids, and the
 * layout of the step state. Included by lib/kernels.h and by every shader.
 *
 * Every argument struct begins with four element offsets, one for each binding: element = 4 bytes, added to the index. They hold
 * what rounding a binding's base down to the device's alignment leaves over, and the recorder may add to them.
 * Only uint32_t and float members, so that both languages lay them out alike.
 */
#ifndef VKL_INTERFACE_H
#define VKL_INTERFACE_H

#ifdef VKL_GLSL
#define uint32_t uint
#endif

/* Specialization constants. Id 0 is always the workgroup's size on x; 1 selects a form of the kernel. */
#define VKL_SPEC_WORKGROUP 0
#define VKL_SPEC_FORM 1
#define VKL_SPEC_COUNT 2

/* GEMM: C[m][n] (+)= op(A) op(B) + bias, then the activation. Row-major with leading dimensions.
 * Bindings: A (read), B (read), C (write, or read and write with accumulate), bias (read).
 * Forms: NN: A [m][k], B [k][n].  NT: A [m][k], B [n][k].  TN: A^T in up to three pieces, B [k][n]: rows of C below m_first take A [k][m_first],
 * those below m - ones a second A in binding 3 [k][m - ones - m_first], the last `ones` rows 1 in place of A: they become column sums of
 * B. That makes all gradients of a layer, dW_ih, dW_hh and its biases, one product.
 * bias: the sum of `bias_rows` rows of n numbers, `n` apart, added to each row of C; 0 rows: none. k is at most VKL_GEMM_MAX_K. */
#define VKL_GEMM_NN 0
#define VKL_GEMM_NT 1
#define VKL_GEMM_TN 2
#define VKL_GEMM_TILE 32 /* rows and columns of C of one workgroup: groups = (ceil(n / 32), ceil(m / 32), 1) */
#define VKL_GEMM_MAX_K 4096
/* GEMM_DIRECT: the same, for devices that are CPUs; one invocation for each block of 4 x 4 of C, blocks of a row fastest, linearly. */
#define VKL_GEMM_DIRECT_BLOCK 4
struct VklGemmArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t m, n, k;
    uint32_t lda, ldb, ldc;
    uint32_t accumulate; /* 0, 1 */
    uint32_t bias_rows;
    uint32_t m_first, ones, lda_second; /* TN only */
    uint32_t activation;                /* VklActivation, applied last: to accumulate + product + bias */
};

/* LSTM, one time step, forward: one invocation for each (row, unit), unit fastest; groups cover rows * units linearly.
 * Bindings: gates (read and write) [rows][units][4], W_hh (read) [k][units][4] (16-byte aligned base), h (read and write), c (read and
 * write).  pre = gates + h[h_prev + row * units + j] W_hh[j][unit], j < k; i f g o = activations; c' = f c + i g; h' = o tanh(c').
 * k is units, or 0 where the recurrent product is already in gates. */
struct VklCellForwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units, k;
    uint32_t h_prev, h_next; /* elements in binding 2, of the [rows][units] before and after the step */
    uint32_t c_prev, c_next; /* in binding 3; may be equal */
    uint32_t keep;           /* 1: gates become the activated i f g o (training) */
};

/* LSTM, one time step, backward. Bindings: gates (read and write), W_hh (read) [units][units][4], dy (read), c (read and write).
 * dh = (has_dy ? dy[dy_t] : 0) + (k ? sum over j < k = 4 units of gates[gates_next][row][j] W_hh[unit][j] : 0)
 * dc = (has_dc ? c[dc_in] : 0) + dh o (1 - tanh(c[c_t])^2)
 * gates[gates_t] holds activated i f g o and becomes the gradient of their pre-activations; c[dc_out] = dc f. dc_out may equal c_t.
 * One invocation for each (row, unit), as forward. */
struct VklCellBackwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units, k;
    uint32_t gates_t, gates_next;
    uint32_t dy_t, has_dy;
    uint32_t c_t, c_prev;
    uint32_t dc_in, has_dc, dc_out;
};

/* Copies of up to three pieces between an arena and other buffers, in one dispatch. Bindings: arena (read and write), then the three
 * others. Invocations are linear over count0 + count1 + count2. */
#define VKL_COPY_LOAD 0  /* arena = other */
#define VKL_COPY_STORE 1 /* other = arena */
#define VKL_COPY_ADD 2   /* arena += other */
#define VKL_COPY_ZERO 3  /* arena = 0; no other */
struct VklCopyArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count0, count1, count2; /* elements; 0: no such piece */
    uint32_t at0, at1, at2;          /* element in the arena where the piece begins */
    uint32_t mode0, mode1, mode2;
};

/* Step state: a small uint buffer that kernels advance, so that a recorded step can be replayed. Floats are stored as bits.
 * After the header, from element VKL_STATE_LOSS on: the losses of the batches of an epoch, then what `order_at` points to. */
#define VKL_STATE_BATCH 0  /* batches done in this epoch */
#define VKL_STATE_STEP 1   /* optimizer steps done */
#define VKL_STATE_WINDOW 2 /* windows done in this epoch: where the next batch begins in the order */
#define VKL_STATE_LR 3     /* float: learning rate */
#define VKL_STATE_BIAS1 4  /* float: 1 - beta1^step */
#define VKL_STATE_BIAS2 5  /* float: 1 - beta2^step */
#define VKL_STATE_CLIP 6   /* float: factor of the gradient by the last norm */
#define VKL_STATE_NORM 7   /* float: the last norm */
#define VKL_STATE_LOSS 8

/* GATHER, one batch: bindings: data (read, uint), state (read, uint), x (write) [T][rows][features], target (write) [rows][outputs].
 * window w = state[order_at + state[WINDOW] + row]; start = data[starts_at + w];
 * x[t][row][f] = data[series_at + (start + t) * features + f]; target[row][o] = data[targets_at + w * outputs + o].
 * Invocations are linear over T * rows * features + rows * outputs. */
struct VklGatherArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t steps, rows, features, outputs;
    uint32_t series_at, starts_at, targets_at; /* elements in binding 0 */
    uint32_t order_at;                         /* element in binding 1 */
};

/* LOSS, and the end of a batch. Bindings: predicted (read), target (read), gradient (write, if has_gradient), out (read and write, uint).
 * One workgroup; invocation i takes elements i, i + workgroup, ... and the partial sums are added in a tree of fixed order.
 * gradient = d(mean)/d(predicted) = dloss * scale. With `advance` 0: out[at] = sum * scale. With 1, out is a step state: the sum (not
 * the mean) goes to state[VKL_STATE_LOSS + state[BATCH]], then BATCH += 1, WINDOW += rows. With 2, also VKL_ADVANCE_STEP. */
struct VklLossArgsGpu {
    uint32_t off0, off1, off2, off3;
    uint32_t count; /* numbers: rows * outputs */
    uint32_t kind;  /* VklLoss */
    float delta;
    float scale; /* 1 / count */
    uint32_t has_gradient;
    uint32_t advance;
    uint32_t rows;
    uint32_t at;
    float beta1, one_minus_beta1, beta2, one_minus_beta2; /* advance 2 */
};

/* ADVANCE: one invocation. Binding 0: state. STEP += 1; BIAS1 = beta1 * BIAS1 + (1 - beta1), BIAS2 alike; CLIP = 1. The loss kernel does
 * the same with advance 2. */
struct VklAdvanceArgs {
    uint32_t off0, off1, off2, off3;
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
};

/* NORM. Form 0: binding 0 gradients (read), binding 1 partial sums (write): workgroup g sums the squares of the VKL_NORM_CHUNK elements from
 * g * VKL_NORM_CHUNK on into partial[at + g]. Form 1: binding 0 partial (read), binding 1 state (read and write): one workgroup sums `count` partials;
 * NORM = sqrt(sum), CLIP = min(1, max_norm / (NORM + 1e-6)), NaN kept. */
#define VKL_NORM_CHUNK 4096
struct VklNormArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count;
    uint32_t at;
    float max_norm;
};

/* OPTIMIZER: one invocation for each four parameters of this window. Bindings: params (read and write), grads (read), moments (read and write)
 * [count][2]: m, v interleaved; state (read, uint). Form: VklOptimizerKind. clip_value 0: off. */
struct VklOptimizerArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count;
    float momentum, weight_decay;
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float alpha, one_minus_alpha;
    float epsilon;
    float clip_value;
    uint32_t use_clip_norm; /* 1: multiply by state[CLIP] */
};

/* ACTIVATION BACKWARD: dz = gy * act'(y). Bindings: gy (read), y (read), dz (write). Linear over count. */
struct VklActivationArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count;
    uint32_t activation;
};

#ifdef VKL_GLSL
#undef uint32_t
#endif
#endif

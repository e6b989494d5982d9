/* SPDX-License-Identifier: MIT
 *
 * What C and GLSL share: argument structs of the kernels (push constants, at most 128 bytes), specialization constant ids, and the
 * layout of the step state. Included by lib/kernels.h and by every shader.
 *
 * Every argument struct begins with element offsets, one for each binding and at least four: element = 4 bytes, added to the index. They hold
 * what rounding a binding's base down to the device's alignment leaves over, and the recorder may add to them.
 * Only uint32_t and float members, so that both languages lay them out alike.
 */
#ifndef VKL_INTERFACE_H
#define VKL_INTERFACE_H

#ifdef VKL_GLSL
#define uint32_t uint
#endif

/* Specialization constants. Id 0 is always the workgroup's size on x; 1 selects a form of the kernel; 2 is the size of subgroups that is
 * asked of devices that let it be chosen, 0: any; from 3 on each kernel has its own, which its contract names. */
#define VKL_SPEC_WORKGROUP 0
#define VKL_SPEC_FORM 1
#define VKL_SPEC_SUBGROUP 2
#define VKL_SPEC_OWN 3
#define VKL_SPEC_COUNT 16

/* GEMM: C[m][n] (+)= op(A) op(B) + bias, then the activation. Row-major with leading dimensions.
 * Bindings: A (read), B (read), C (write, or read and write with accumulate), bias (read).
 * Forms: NN: A [m][k], B [k][n].  NT: A [m][k], B [n][k].  TN: A^T in up to three pieces, B [k][n]: rows of C below m_first take A [k][m_first],
 * those below m - ones a second A in binding 3 [k][m - ones - m_first], the last `ones` rows 1 in place of A: they become column sums of
 * B. That makes all gradients of a layer, dW_ih, dW_hh and its biases, one product.
 * bias: the sum of `bias_rows` rows of n numbers, `n` apart, added to each row of C; 0 rows: none. k is at most VKL_GEMM_MAX_K.
 * groups = (tiles of columns, tiles of rows, 1). A tile has ROWS x COLUMNS elements of C, an invocation ROW_BLOCK x COLUMN_BLOCK of
 * them, so that there are (ROWS / ROW_BLOCK) (COLUMNS / COLUMN_BLOCK) invocations; DEPTH terms of the sum are in shared memory at a time,
 * UNROLL of which are written out in the loop. All are multiples of 4 but UNROLL, which divides DEPTH.
 * VARIANT says what the kernel may take for granted, or must take care of. */
#define VKL_GEMM_NN 0
#define VKL_GEMM_NT 1
#define VKL_GEMM_TN 2
#define VKL_GEMM_MAX_K 4096
#define VKL_GEMM_SPEC_ROWS 3
#define VKL_GEMM_SPEC_COLUMNS 4
#define VKL_GEMM_SPEC_DEPTH 5
#define VKL_GEMM_SPEC_ROW_BLOCK 6
#define VKL_GEMM_SPEC_COLUMN_BLOCK 7
#define VKL_GEMM_SPEC_UNROLL 8
#define VKL_GEMM_SPEC_VARIANT 9
#define VKL_GEMM_WIDE_A 1 /* offset, strides and lengths of A, and of its pieces, are multiples of 4: it is read by four */
#define VKL_GEMM_WIDE_B 2
#define VKL_GEMM_WIDE_C 4  /* C and bias */
#define VKL_GEMM_EDGE 8    /* m, n or the terms of a slice are no multiples of the tile's */
#define VKL_GEMM_PIECES 16 /* TN with a second A or with ones */
/* GEMM_SPLIT: the same in slices, one for each group on z: slice z sums the terms from z * slice_k on, at most slice_k of them, and its C begins
 * slice_c elements after that of the slice before. No bias, no accumulate and no activation: GEMM_REDUCE does them. */
/* GEMM_COOP: either of them, of operands that are rounded to halves on the way, with cooperative matrices of M x K and K x N; a tile of C
 * has COOP_TILE rows and columns, two by BESIDE matrices (1 or 2) for each subgroup, TILE TILE / (2 BESIDE M N) of which make a workgroup. In NN and NT B holds halves
 * already; everything else is brought into their range by powers of two for each row of A and each column of B. */
#define VKL_GEMM_COOP_TILE 64u
#define VKL_GEMM_COOP_SPEC_M 3
#define VKL_GEMM_COOP_SPEC_N 4
#define VKL_GEMM_COOP_SPEC_K 5
#define VKL_GEMM_COOP_SPEC_BESIDE 6
/* GEMM_LANES: the same, for devices that are CPUs and whose subgroups shuffle cheaply. The workgroup is one subgroup of COLUMNS / 4 lanes, at
 * least 4 of them, and does ROWS x COLUMNS elements of C; ROWS is a multiple of the lanes. ACCUMULATE and ACTIVATION are constants too. */
#define VKL_GEMM_ACCUMULATE 32
#define VKL_GEMM_SPEC_ACTIVATION 10
/* GEMM_QUAD, GEMM_QUAD_WIDE, GEMM_QUAD_TN, GEMM_QUAD_ROW_*: the same, for devices that are CPUs and whose subgroups are four lanes. The
 * workgroup is one subgroup. GEMM_QUAD, GEMM_QUAD_WIDE (both for NN and NT; the latter where rows of A and C can be read by four) and
 * GEMM_QUAD_TN do 32 columns and slice_k rows of C. The ROW kernels, one form each, do 16 columns of one row. No
 * constants but the workgroup and the form of those that have two. */
#define VKL_GEMM_QUAD_TILE 32u
/* GEMM_DIRECT: the same, for any device that is a CPU; one invocation for each block of 4 x 4 of C, blocks of a row fastest, linearly. */
#define VKL_GEMM_DIRECT_BLOCK 4
struct VklGemmArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t m, n, k;
    uint32_t lda, ldb, ldc;
    uint32_t accumulate; /* 0, 1 */
    uint32_t bias_rows;
    uint32_t m_first, ones, lda_second; /* TN only */
    uint32_t activation;                /* VklActivation, applied last: to accumulate + product + bias */
    uint32_t slice_k, slice_c;          /* GEMM: k, 0; GEMM_QUAD*: rows of a workgroup, 0 */
};

/* GEMM_REDUCE: C[m][n] (+)= the sum of `slices` partial products [m][n], slice_c elements apart, in their order, + bias, then the activation.
 * Bindings: partial (read), C (write, or read and write with accumulate), bias (read). One invocation for each element, linearly. */
struct VklGemmReduceArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t m, n, ldc;
    uint32_t slices, slice_c;
    uint32_t accumulate, bias_rows, activation;
};

/* LSTM, one time step, forward: one invocation for each (row, unit), unit fastest; groups cover rows * units linearly.
 * Bindings: gates (read and write) [rows][units][4], W_hh (read) [k][units][4] (16-byte aligned base), h (read and write), c (read and
 * write).  pre = gates + h[h_prev + row * h_ld + j] W_hh[j][unit], j < k; i f g o = activations; c' = f c + i g; h' = o tanh(c').
 * k is units, or 0 where the recurrent product is already in gates. */
struct VklCellForwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units, k;
    uint32_t h_prev, h_next; /* elements in binding 2, of the rows before and after the step */
    uint32_t h_ld;           /* from one row of h to the next; those of c are units apart */
    uint32_t c_prev, c_next; /* in binding 3; may be equal */
    uint32_t keep;           /* 1: gates become the activated i f g o (training) */
    uint32_t group_rows;     /* LSTM_QUAD_FORWARD: of a workgroup, whatever the number of workgroups */
};

/* LSTM_QUAD_FORWARD and LSTM_QUAD_ROW_FORWARD: the same, with k = units, for devices that are CPUs and whose subgroups are four lanes. The
 * workgroup is one subgroup. The former does eight units, of at most VKL_LSTM_QUAD_UNITS, of group_rows rows. The latter does four units of one
 * row. */
#define VKL_LSTM_QUAD_UNITS 64u

/* LSTM_ONCE: a layer that has a single time step, from its input to its state, for devices that are CPUs: a dispatch costs them as much as all
 * of it. Bindings: x (read) [rows][x_ld], params (read, 16-byte aligned), h before (read), c before (read), h after (write), c after (write), the
 * states all [rows][units]. pre = sum of `bias_rows` rows [units][4] of biases + x W_ih + h W_hh, the latter of k terms: units, or 0 where h
 * is all zero and not bound; the cell as above, with a c of 0 where has_c is 0. w_ih, w_hh, bias: elements in params, multiples of 4.
 * One invocation for each (row, unit). */
struct VklOnceArgs {
    uint32_t off0, off1, off2, off3, off4, off5;
    uint32_t rows, units, inputs, k;
    uint32_t x_ld;
    uint32_t w_ih, w_hh, bias, bias_rows;
    uint32_t has_c;
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
    uint32_t dy_t, has_dy, dy_ld; /* dy_ld: from one row of dy to the next */
    uint32_t c_t, c_prev;
    uint32_t dc_in, has_dc, dc_out;
};

/* ---- Many time steps in one dispatch ----
 *
 * SEQUENCE_FORWARD and SEQUENCE_BACKWARD: `steps` time steps of a layer, of one or both directions, for cells without options. A workgroup
 * owns some rows of the batch and all their units, and goes through time by itself; workgroups (x: slices of rows, y: directions) do not
 * meet. SEQUENCE_DIRECT_*: the same for devices that are CPUs. Form: the cell below.
 * Positions are elements of a binding; `step` is added to them from one time step to the next, modulo 2^32, so that it may go back. The
 * second direction has positions of its own and goes the other way: its steps are the negative ones.
 * What gates hold is what the step kernels of the cell keep there: the LSTM's activated i f g o in [units][4]; of the others raw
 * pre-activations, GRU n r z and W_hn h + b_hn, `units` apart, RNN one gate.
 * Columns of W: LSTM [units][4]; GRU r z n, RNN one, `units` apart. */
#define VKL_SEQUENCE_LSTM 0
#define VKL_SEQUENCE_GRU 1 /* reset after */
#define VKL_SEQUENCE_RNN_TANH 2
#define VKL_SEQUENCE_RNN_RELU 3

/* Constants of SEQUENCE_FORWARD and SEQUENCE_BACKWARD. A step's product has inputs (forward h, backward the gradients of the gates) and outputs
 * (forward the columns of W_hh, backward h), both in fours. An invocation sums some fours of inputs into four outputs of some rows:
 * SLICES invocations share a sum; of each slice the weights of the first HELD fours stay in registers, the rest is read again in every step,
 * READ_TURN fours at once. GROUP_LANES fours of outputs at a time: all of them if HELD is not 0. The workgroup has ROW_LANES x SLICES x
 * GROUP_LANES invocations and does ROW_LANES x LANE_ROWS rows. */
#define VKL_SEQUENCE_SPEC_UNITS 3
#define VKL_SEQUENCE_SPEC_SLICES 4
#define VKL_SEQUENCE_SPEC_HELD 5
#define VKL_SEQUENCE_SPEC_GROUP_LANES 6
#define VKL_SEQUENCE_SPEC_ROW_LANES 7
#define VKL_SEQUENCE_SPEC_LANE_ROWS 8
#define VKL_SEQUENCE_SPEC_READ_TURN 9

/* Constants of SEQUENCE_DIRECT_*: the workgroup is one subgroup of LANES invocations, a power of two from 4 on, and does ROWS rows, of as many units
 * or columns at a time as it has lanes or four for each. ROWS and LANES divide one another. With several workgroups on z they divide the units among them;
 * there is one step then. VARIANT: what can be read by four, and whether there are rows or units beyond the edge. */
#define VKL_SEQUENCE_DIRECT_SPEC_ROWS 3
#define VKL_SEQUENCE_DIRECT_SPEC_LANES 4
#define VKL_SEQUENCE_DIRECT_SPEC_VARIANT 5
#define VKL_SEQUENCE_WIDE_GATES 1
#define VKL_SEQUENCE_WIDE_STATE 2 /* forward h; backward c, dc and gy */
#define VKL_SEQUENCE_EDGE 4

/* Bindings: gates (read and write), params (read), h (read and write), c (read and write, LSTM).
 * Step s of `steps`: from h at h_before + s h_step, the gates at gates_first + s gates_step, to h at h_before + (s + 1) h_step; c alike.
 * gates, with `keep` (training): what backward needs is kept; without, they are left alone, and of c only that after the last step is
 * written. w, bias: W_hh [units][columns], a multiple of 4 from the binding's beginning with off1; b_hh of a GRU or VKL_ABSENT. */
struct VklSequenceForwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units, steps, directions;
    uint32_t gates_first, gates_step, gates_ld;
    uint32_t h_before, h_step, h_ld;
    uint32_t c_before, c_step; /* rows are units apart */
    uint32_t w, bias;
    uint32_t keep;
    uint32_t gates_second, h_second, c_second, w_second, bias_second;
};

/* Bindings: gates (read and write), params (read), gy (read), state (LSTM: c, read and write; GRU: h, read), carry (read and write).
 * Steps in the order of backward, step s at gates_first + s gates_step. dh = (gy_ld is not VKL_ABSENT ? gy : 0) + (the step done before ?
 * its gates' gradients W_hh^T : 0) + carry; at s = 0 that step lies one gates_step before and is there with VKL_SEQUENCE_NEXT, and
 * carry [rows][units] counts with VKL_SEQUENCE_CARRY; later a GRU's carry is dh z of the step before. gates become gradients.
 * LSTM: c after step s at state_first + s state_step, c before it one state_step further; dc of s = 0 at dc_in or VKL_ABSENT; what goes to
 * the c before the last step is written to dc_out, which may be c after that step. GRU: h before step s at state_first + s state_step, rows state_ld
 * apart; its carry is written in the end, and there is one always. RNN: no state. */
#define VKL_SEQUENCE_NEXT 1u
#define VKL_SEQUENCE_CARRY 2u
struct VklSequenceBackwardArgs {
    uint32_t off0, off1, off2, off3, off4;
    uint32_t rows, units, steps, directions;
    uint32_t gates_first, gates_step, gates_ld;
    uint32_t gy_first, gy_step, gy_ld;
    uint32_t state_first, state_step, state_ld;
    uint32_t dc_in, dc_out, carry;
    uint32_t w;
    uint32_t flags;
    uint32_t gates_second, gy_second, state_second, dc_in_second, dc_out_second, carry_second, w_second;
};

/* ---- The complete operator: one time step in pieces ----
 *
 * What the fused kernels above do not cover goes through these: the recurrent product is a GEMM into `rec`, and a POINT kernel does the rest
 * for one time step, one invocation for each (row, unit). Raw pre-activations are kept in the gates' row (after peepholes, before preact_clip),
 * and backward computes activations and derivatives from them again; so every activation and clip has its right gradient.
 *
 * A gate's row has `gates_ld` numbers; gate g of unit u is at u * unit_stride + g * gate_stride. LSTM: i f g o. RNN: one gate. GRU: 0 n,
 * 1 r, 2 z, and with reset_after 3: W_hn h + b_hn. The same strides hold for rec (`rec_ld` numbers a row), whose gates are LSTM i f g o; RNN
 * one; GRU after: 0 r, 1 z, 2 n.
 *
 * `side` (binding 3) is a small arena: recurrent products, lengths, peepholes, recurrent biases, carried gradients; positions in it are
 * elements from off3 on, VKL_ABSENT where there is none. Floats; lengths are uint bits.
 * A row is frozen at step t when t >= lengths[row]: forward keeps its state (h_next = h_prev, or 0 where that is VKL_ABSENT, c_next =
 * c_prev; rh = 0) and leaves its gates as they are, backward gives gates a gradient of 0 without reading them and passes carried gradients
 * through.
 * `kinds`: activations f, g, h of ONNX's order as VklGateActivation, one byte each from the lowest; alpha and beta beside. Clips: 0 is off;
 * a clip's derivative is 1 on the closed interval. NaN passes through everything. */
#define VKL_ABSENT 0xffffffffu
#define VKL_POINT_KEEP 1u    /* forward: write raw pre-activations into the gates' row */
#define VKL_POINT_COUPLED 2u /* LSTM: f = 1 - i; the gradient of f's pre-activation is 0, that of i is d(i) - d(f) */
#define VKL_POINT_FIRST 4u   /* GRU reset-before: the first of the two phases */
#define VKL_POINT_SECOND 8u  /* GRU reset-before: the second */

/* LSTM_POINT_FORWARD. Bindings: gates (read and write), c (read and write), out (read and write), side (read).
 * pre_g = gates[g] + (rec ? rec[g] : 0) + peepholes (i, f: p c_prev; o: p c_next); side[peephole + 0|1|2 * units + u] is p of i, f, o.
 * c_next = clip(f c_prev + i g); out[h_next + row * h_ld + u] = o * act_h(c_next).
 * With a projection `out` is not h but the operand of the projection's product, and h_prev is VKL_ABSENT: frozen rows are 0 there.
 *
 * GRU_POINT_FORWARD. Bindings: gates (read and write), rh (write; before, first phase), h (read and write), side (read).
 * bias: b_hh at side[bias + 0|1|2 * units + u], r z n; VKL_ABSENT: 0.
 *   after:  r, z from gates + rec + b; gate 3 := rec_n + b_n; n = act_g(clip(gates_n + r * gate3)), whose argument is kept as gate 0;
 *           h_next = (1 - z) n + z h_prev.
 *   before, FIRST:  r, z from gates + rec (0 r, 1 z); raw kept as gates 1, 2; rh[row * rh_ld + u] = r * h_op[...], h_op the (masked) operand: `hop` in h,
 *           whose rows are h_ld apart too.
 *   before, SECOND: n = act_g(clip(gates_n + rec[0]));  rec has one gate here;  h_next = (1 - z) n + z h_prev. Biases are in gates already.
 *   KEEP is always set in FIRST, since SECOND reads z from the raw value.
 *
 * RNN_POINT_FORWARD. Bindings: gates (read and write), gates again, h (read and write), side (read). h_next = act_f(clip(gates + rec)). */
struct VklPointForwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units;
    uint32_t gates_ld, gate_stride, unit_stride;
    uint32_t h_prev, h_next, h_ld; /* in binding 2 */
    uint32_t c_prev, c_next; /* LSTM: in binding 1, rows units apart. GRU before: c_prev is hop (in binding 2), c_next rh_ld */
    uint32_t rec, rec_ld;
    uint32_t rec_gate_stride; /* unit strides are 1 in rec where gates' are 1, else unit_stride */
    uint32_t lengths, t;
    uint32_t peephole; /* LSTM; GRU: bias */
    uint32_t flags, kinds;
    float preact_clip, cell_clip;
    float alpha0, beta0, alpha1, beta1, alpha2, beta2;
};

/* POINT_BACKWARD. dh = (gy ? gy[row * gy_ld + u] : 0) + (rec ? side[rec + row * rec_ld + u] : 0) + side[carry + row * units + u]; here rec is
 * the gradient that came through the recurrent product of the step after, already masked by recurrent dropout. carry is read and written in
 * place: what of dh goes to h_prev besides the product: all of it for frozen rows, dh * z for GRU, else 0. gy of frozen rows is 0 already.
 * gates: raw pre-activations in, their gradients out (0 for frozen rows).
 *
 * LSTM_POINT_BACKWARD. Bindings: gates (read and write), c (read and write), gy (read), side (read and write). dc = c[dc_in] (VKL_ABSENT: 0) + ...;
 * c[dc_out] = what goes to c_prev (all of dc for frozen rows), peepholes taken in. carry may be VKL_ABSENT (projection: frozen rows are
 * done by JOIN, and dh is gy alone).
 *
 * GRU_POINT_BACKWARD. Bindings: gates (read and write), h (read), gy (read), side (read and write); h_prev in binding 1 with h_ld.
 *   after: gates 0 1 2 := gradients of n's, r's, z's argument; gate 3 := gradient of (W_hn h + b_hn) = gate 0's * r.
 *   before, FIRST: dh as above; gates 0, 2 := gradients of n's and z's argument; carry = dh * z. gate 1 stays raw.
 *   before, SECOND: rec is drh = dn W_hn^T; gate 1 := drh * hop * act'(r), hop the (masked) operand at c_prev in binding 1;
 *           side[out + row * rec_ld + u] := drh * r (0 for frozen rows), which the caller adds to carry. dh, gy and carry are not touched.
 *
 * RNN_POINT_BACKWARD. Bindings: gates (read and write), gates again, gy (read), side (read and write). */
struct VklPointBackwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units;
    uint32_t gates_ld, gate_stride, unit_stride;
    uint32_t gy_ld; /* VKL_ABSENT: no gy */
    uint32_t c_t, c_prev, dc_in,
        dc_out; /* LSTM. GRU: c_t is h_prev, dc_in h_ld, c_prev hop (before), dc_out `out` (before, SECOND) */
    uint32_t rec, rec_ld, carry;
    uint32_t lengths, t;
    uint32_t peephole;
    uint32_t flags, kinds;
    float preact_clip, cell_clip;
    float alpha0, beta0, alpha1, beta1, alpha2, beta2;
};

/* JOIN: the total gradient of a projected h. Bindings: dh (write) [rows][units], side (read and write), gy (read).
 * v = gy + rec + carry as above; live rows: dh = v, carry = 0; frozen rows: dh = 0, carry = v. */
struct VklJoinArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units;
    uint32_t gy_ld;              /* VKL_ABSENT: no gy */
    uint32_t rec, rec_ld, carry; /* in binding 1 */
    uint32_t lengths, t;
};

/* ---- One time step in one dispatch ----
 *
 * STEP_FORWARD and STEP_BACKWARD: the recurrent product of one time step and what POINT does after it, for one or two directions of a layer
 * ("parts"). Form: the cell below. Bindings: gates (read and write), params (read), state (read and write), h or gy, side (read and write).
 * Positions are elements of a binding from its offset on; VKL_ABSENT where there is none. Those of the second part are given beside, and its
 * steps in memory (h_step, c_step, gates_step) are the negative ones; its W, bias and peepholes lie params_second further.
 * Gates' rows as POINT has them, the plain LSTM's as LSTM_FORWARD: activated. Unlike POINT's, peepholes and b_hh are read from params.
 * Recurrent dropout, n = flags >> VKL_STEP_MASKS_SHIFT masks: the masked copies of h, as wide as h, lie `masked` columns behind it, those of
 * the second part (n - 1) copies further. They are the operand of the product (of gate g, where n > 1), and are written beside h.
 * Factors of the masks: side[mask + ((part * n + g) * rows + row) * width of h + j], 0 where dropped: 0 then, also of NaN. */
#define VKL_STEP_LSTM_PLAIN 0
#define VKL_STEP_LSTM 1
#define VKL_STEP_GRU 2        /* reset after */
#define VKL_STEP_GRU_FIRST 3  /* reset before, the first phase */
#define VKL_STEP_GRU_SECOND 4 /* and the second */
#define VKL_STEP_RNN 5
#define VKL_STEP_PROJECT 6 /* forward: h = m W_hr; backward: the total gradient of a projected h, as JOIN */

/* Specialization constants of both. An invocation computes ROWS rows and, forward, one unit or with WIDE four (then units, w and w_ld are
 * multiples of 4), backward UNITS units. SLICES: so many invocations share the sums of each, which is cut among them in k. */
#define VKL_SPEC_STEP_ROWS 3
#define VKL_SPEC_STEP_UNITS 4 /* forward: 1, or 4 for WIDE */
#define VKL_SPEC_STEP_SLICES 5
#define VKL_SPEC_STEP_FLAGS 6
#define VKL_SPEC_STEP_KINDS 7 /* as VklPointForwardArgs has them, and what follows too */
#define VKL_SPEC_STEP_PREACT_CLIP 8
#define VKL_SPEC_STEP_CELL_CLIP 9
#define VKL_SPEC_STEP_ALPHA 10  /* alpha0, beta0, alpha1 ... */
#define VKL_STEP_KEEP 1u        /* as VKL_POINT_KEEP; of the plain LSTM: activated gates are written */
#define VKL_STEP_COUPLED 2u     /* as VKL_POINT_COUPLED */
#define VKL_STEP_INTERLEAVED 4u /* the gates of a unit lie side by side, in rows of gates and in W; else they are `units` apart */
#define VKL_STEP_PROJECTED 8u   /* LSTM forward: what goes out is m; backward: dh is the product of gy and W [units][k] */
#define VKL_STEP_HALVES \
    16u /* W is packed halves: w and w_ld count halves, from the binding's beginning on as if all were; multiples of 4 */
#define VKL_STEP_LONG 64u   /* sums have more than VKL_STEP_BLOCK terms */
#define VKL_STEP_ROLLED 32u /* an invocation's cells are a loop: less to compile, for devices that have no registers to index */
#define VKL_STEP_MASKS_SHIFT 8 /* n above */
#define VKL_STEP_BLOCK 4096

/* State: c of an LSTM. Beside the gates, in their binding, at `to`, rows units apart: GRU_FIRST rh, projected LSTM m; the same, rows k apart, as
 * operand of GRU_SECOND and PROJECT in place of h. W: [k][w_ld] from `w` on, columns of the gates as POINT's rec has them. h after the
 * step lies h_step from h, c alike. */
struct VklStepForwardArgs {
    uint32_t off0, off1, off2, off3, off4;
    uint32_t rows, units, k;
    uint32_t gates, gates_ld;
    uint32_t h, h_step, h_ld;
    uint32_t c, c_step, to;
    uint32_t w, w_ld;
    uint32_t option; /* LSTM: peepholes; GRU: b_hh */
    uint32_t lengths, t;
    uint32_t mask, masked;
    uint32_t gates_second, h_second, c_second, to_second, params_second, t_second;
};

/* dh = gy + product + carry, as POINT_BACKWARD has it. The product: k columns (0: there is none) from gates + next_step + view on, gradients of
 * the step done before, times those columns of W [units][w_ld], masked. VKL_ABSENT in gy_ld, carry: no gy, no carry. carry is
 * [parts][rows][units], the second part's behind the first's, aligned to 64 elements.
 * State: LSTM c after the step at `c`, before it state_step further; GRU: h before the step at `c`, rows state_step apart, and GRU_SECOND the
 * operand of r at dc_in; PROJECT: dh, written at `c`.
 * GRU_SECOND: the product is that of this step's own gate 0 and W_hn, and gives drh; carry += drh * r, masked. */
struct VklStepBackwardArgs {
    uint32_t off0, off1, off2, off3, off4;
    uint32_t rows, units, k;
    uint32_t gates, gates_ld, next_step, view;
    uint32_t gy, gy_ld;
    uint32_t c, state_step;
    uint32_t dc_in, dc_out;
    uint32_t w, w_ld;
    uint32_t option, carry;
    uint32_t lengths, t;
    uint32_t mask;
    uint32_t gates_second, gy_second, c_second, dc_in_second, dc_out_second, params_second, t_second;
};

/* ---- One time step of several layers in one dispatch ----
 *
 * WAVE_FORWARD and WAVE_BACKWARD: a time step of each layer of a stack of one direction, for cells without options, each layer a step later
 * than the one that it needs: the layer below in forward, above in backward. Form: the cell, as SEQUENCE has them. groups = (units, rows, layers): number z of
 * the dispatch is the layer z above its lowest one. Positions are those of number 0; from each number to the next they grow by `*_wave`,
 * modulo 2^32. W_hh begins at w, w_second + (z - 1) w_layer of number z (backward: also of the layer above the last one); W_ih `inputs` from
 * it, biases `bias` from it, rows of them one after the other, b_hh of a GRU `option` from it.
 * An invocation computes ROWS rows of a unit with SLICES - 1 others. Gates' rows and columns of W as SEQUENCE and POINT have them. */
#define VKL_SPEC_WAVE_ROWS 3
#define VKL_SPEC_WAVE_SLICES 4
#define VKL_SPEC_WAVE_FLAGS 5
#define VKL_WAVE_KEEP 1u /* forward: gates are kept for backward; else they hold anything after */
#define VKL_WAVE_LONG 2u /* sums have more than VKL_STEP_BLOCK terms */

/* Bindings: gates (read and write), params (read), c (read and write), h (read and write).
 * pre = (number 0 and `lowest` ? gates : h of the layer below, `below` from h, times W_ih, + biases) + h W_hh; h after the step lies h_step from
 * h, c alike. */
struct VklWaveForwardArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units;
    uint32_t gates, gates_ld, gates_wave;
    uint32_t h, h_step, h_ld, h_wave, below;
    uint32_t c, c_step, c_wave;
    uint32_t w, w_second, w_layer, inputs;
    uint32_t bias, bias_rows, option; /* option: VKL_ABSENT where there is none */
    uint32_t lowest;                  /* 1: number 0 is the first layer, whose input product is in its gates */
};

/* Bindings: gates (read and write), params (read), state (LSTM c, read and write; GRU h, read), gy (read), carry (read and write).
 * dh = (FIRST and number 0 ? 0 : gates' gradients of the step done before, next_step + view from gates, times W_hh) + (TOP and the last number
 * ? gy : those of the layer above at the same step, `above` from gates, times its W_ih) + carry [rows][units]: a GRU's always, of the others that of number 0 with
 * CARRIED. State: LSTM c after the step, before it state_step further, dc of the step done before as much the other way, there in a first
 * step only with DC; dc takes the place of c. GRU: h before the step; its carry becomes dh z. What the others leave in carry is open. */
#define VKL_WAVE_FIRST 1u   /* number 0 does its first step */
#define VKL_WAVE_CARRIED 2u /* and carry counts in it */
#define VKL_WAVE_DC 4u
#define VKL_WAVE_TOP 8u /* the last number has no layer above */
struct VklWaveBackwardArgs {
    uint32_t off0, off1, off2, off3, off4;
    uint32_t rows, units;
    uint32_t gates, gates_ld, gates_wave, next_step, view, above;
    uint32_t gy, gy_ld; /* VKL_ABSENT: no gy */
    uint32_t state, state_step, state_ld, state_wave;
    uint32_t carry, carry_wave;
    uint32_t w, w_second, w_layer, inputs;
    uint32_t flags;
};

/* MOVE: a strided copy. Bindings: dst (write, or read and write with ADD), src (read), lengths (read, uint). For i < steps, j < rows, k < columns:
 * dst[i * dst_step + j * dst_row + k] = or += src[i * src_step + j * src_row + k]; strides of 0 in src repeat it.
 * `guard` VKL_MOVE_LIVE: elements with first_step + i >= lengths[first_row + j] take `value` in place of src (ADD: stay as they are);
 * VKL_MOVE_FROZEN: only those elements are copied, others stay as they are. Invocations are linear, k fastest. */
#define VKL_MOVE_COPY 0
#define VKL_MOVE_ADD 1
#define VKL_MOVE_ALL 0
#define VKL_MOVE_LIVE 1
#define VKL_MOVE_FROZEN 2
struct VklMoveArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t steps, rows, columns;
    uint32_t dst_step, dst_row, src_step, src_row;
    uint32_t mode, guard;
    uint32_t first_step, first_row;
    float value;
};

/* DROPOUT: as MOVE without guards, each element kept with probability 1 - p and then scaled by 1 / (1 - p), else 0 (exactly, also for NaN and
 * infinities). Bindings: dst (write, or read and write with ADD), src (read), state (read, uint; where offset_at is not VKL_ABSENT its
 * element is added to `offset`). dst may be src (same strides).
 * The draw is Philox 4x32-10 with key (seed0, seed1 ^ offset), counter (q, row, step, stream), q = column / 4, word column % 4 of the
 * block; column = first_column + k, row = first_row + j, step = first_step + i * step_stride (0: one mask for all steps).
 * Kept where word >= threshold, threshold = round(p * 2^32); p = 1: `all` is 1 and nothing is kept. With ADD, dst is left alone where nothing
 * is kept. One invocation for each block of each line, linearly, blocks fastest; (first_column % 4 + columns + 3) / 4 blocks a line, never more than columns. */
struct VklDropoutArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t steps, rows, columns;
    uint32_t dst_step, dst_row, src_step, src_row;
    uint32_t mode;
    uint32_t first_step, step_stride, first_row, first_column;
    uint32_t seed0, seed1, offset, offset_at;
    uint32_t stream; /* which mask: layer, direction and use */
    uint32_t threshold, all;
    float scale;
};

/* NARROW: between floats and halves (binary16: rounded to nearest even, what is too large to infinity, NaN to NaN, subnormal halves kept).
 * Bindings: dst (write), src (read); count is that of numbers. One invocation for each two numbers.
 * PACK: two halves in each element of dst, the first in the lower bits; what is left of the last one is 0.  UNPACK: from such halves to floats.
 * ROUND: floats to floats that are halves; numbers exact_begin0 to exact_end0 and exact_begin1 to exact_end1 are copied as they are. */
#define VKL_NARROW_PACK 0
#define VKL_NARROW_UNPACK 1
#define VKL_NARROW_ROUND 2
struct VklNarrowArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count;
    uint32_t exact_begin0, exact_end0, exact_begin1, exact_end1; /* ROUND */
};

/* SPREAD. Form 0, skip input forward: gates[row * gates_ld + g * gate_stride + u * unit_stride] = x[row * x_ld + u] + sum over bias_rows of
 * bias[r * gates * units + packed(g, u)], packed with the same strides. Form 1, backward: x = the sum over gates. Bindings: gates, x, bias
 * (form 0: write, read, read; form 1: read, write, -). One invocation for each (row, unit). */
struct VklSpreadArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units, gates;
    uint32_t gates_ld, gate_stride, unit_stride;
    uint32_t x_ld;
    uint32_t bias_rows; /* form 0 */
};

/* COLUMN_DOT: out[u] (+)= sum over rows of a[row * a_ld + u * a_stride] * b[row * b_ld + u]; at most 4,096 rows. Bindings: out, a, b. One
 * invocation for each column. The gradients of peepholes. */
struct VklColumnDotArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, units;
    uint32_t a_ld, a_stride, b_ld;
    uint32_t accumulate;
};

/* ---- As many rows as a number on the device says ----
 *
 * TALLY: the workgroups, and rows, of up to four ops. Bindings: count (read, uint), arguments (write, uint), four elements for each entry: workgroups on x,
 * y and z as vkCmdDispatchIndirect reads them, then rows. An op is for `rows` rows (0: no entry) of which the first is number `first`;
 * live = min(max(count, first) - first, rows). It has workgroups = ceil(ceil(live / block) * items / group) of them, which by `way` are
 * LINEAR: at most `other` on x, as many on y as that takes; else on that axis, with `other` on the other one of x and y, and `deep` on z. One invocation. */
#define VKL_TALLY_LINEAR 0
#define VKL_TALLY_X 1
#define VKL_TALLY_Y 2
#define VKL_TALLY_ENTRIES 4
#define VKL_TALLY_STRIDE 4
#ifdef VKL_GLSL
#define VKL_STRUCT
#else
#define VKL_STRUCT struct
#endif
struct VklTallyEntry {
    uint32_t first, rows, block, items, group;
    uint32_t other;
    uint32_t way; /* and 4 deep */
};
struct VklTallyArgs {
    uint32_t off0, off1, off2, off3;
    VKL_STRUCT VklTallyEntry entry[VKL_TALLY_ENTRIES];
};
#undef VKL_STRUCT

/* ROWS: rows of up to two arrays, packed, between an arena and what belongs to the caller, as bits. Bindings: arena (read and write), first, second (read
 * and write), guard (read, uint). Form LOAD: arena = guard[first + row] is not 0 ? 0 : other. STORE: other = arena in rows whose first + row <
 * guard[0]; the rest is left alone. `guarded` 0: in all rows. One invocation for each four elements of a row, those of the first array before those of the
 * second, linearly. WIDE: all positions and columns are multiples of four. */
#define VKL_SPEC_ROWS_WIDE 3
#define VKL_ROWS_LOAD 0
#define VKL_ROWS_STORE 1
struct VklRowsArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t rows, first;
    uint32_t columns0, columns1; /* columns1 0: one array */
    uint32_t at0, at1;           /* in the arena */
    uint32_t guarded;
};

/* AGENTS_FORWARD: one time step of a layer for agents, in place: input product, recurrent product and cell in one. Form: the cell, as SEQUENCE has
 * them. Bindings: params (read), x (read) [rows][inputs], h (read and write) [rows][units], c (read and write) [rows][units], reset (read, uint) [rows], count (read,
 * uint). With RESET an agent whose number in reset is not 0 has states of zeros before the step, whatever lies there; with COUNT only rows are done and
 * touched of which first + row < count[0]. w_ih, w_hh, b_ih, b_hh: positions in params, laid out as plan_rnn.h has it; bias_rows rows from b_ih on are added;
 * b_hh is that of a GRU, or VKL_ABSENT. A workgroup does 4 FOURS rows and all their units; TERMS is inputs + units. */
#define VKL_SPEC_AGENTS_TERMS 3
#define VKL_SPEC_AGENTS_FOURS 4
#define VKL_AGENTS_RESET 1u
#define VKL_AGENTS_COUNT 2u
struct VklAgentsForwardArgs {
    uint32_t off0, off1, off2, off3, off4, off5;
    uint32_t rows, first, units, inputs;
    uint32_t w_ih, w_hh, b_ih, bias_rows, b_hh;
    uint32_t flags;
};

/* Copies of up to three pieces between an arena and other buffers, in one dispatch. Bindings: arena (read and write), then the three
 * others. Invocations are linear: one for each four elements of the first piece, then of the second, then of the third. */
#define VKL_COPY_LOAD 0  /* arena = other */
#define VKL_COPY_STORE 1 /* other = arena */
#define VKL_COPY_ADD 2   /* arena += other */
#define VKL_COPY_ZERO 3  /* arena = 0; no other */
/* COPY_STORE: the first piece alone, of that mode; four elements an invocation. */
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

/* PROBE: what the two lines of a roofline are measured with. Bindings: out (write), in (read), both 16-byte aligned. One invocation for each of
 * `count` groups of four numbers of out.
 * ARITHMETIC: x, y, z = in[0], in[1], in[2] + i % 16; twelve sums begin as a_k = z + k, k < 12. A round: for k ascending a_k += a_(k + 1) mod 12
 * f; 4 * rounds of them, with f = x, y, x, y ... in turn. out[i] = a_0..3 + a_4..7 + a_8..11. How multiply-adds are rounded is left open.
 * COPY: out[i] = in[i]. */
#define VKL_PROBE_ARITHMETIC 0
#define VKL_PROBE_COPY 1
#define VKL_PROBE_SUMS 12
#define VKL_PROBE_UNROLL 4
struct VklProbeArgs {
    uint32_t off0, off1, off2, off3;
    uint32_t count, rounds;
};

#ifdef VKL_GLSL
#undef uint32_t
#endif
#endif

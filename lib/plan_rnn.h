/* SPDX-License-Identifier: MIT
 *
 * The recurrent layers as kernel calls. Where everything lies (in floats; K inputs of a layer, G gates, P = H without a projection):
 *
 * params, per layer and direction
 *     LSTM, RNN    W_ih [K][G H] | W_hh [P][G H] | b_ih | b_hh | peepholes [3][H] | W_hr [H][P]
 *     GRU after    W_ih [K][3H] | b_ih | W_hh [P][3H] | b_hh       columns of W_ih: n r z, of W_hh: r z n
 *     GRU before   W_ih [K][3H] | b_ih | b_hh | W_hh [P][3H]       columns of both: n r z
 *     LSTM's columns are [H][4]: the gates of a unit side by side, so that one invocation of the fused kernels owns a unit; with a mask for
 *     each gate of recurrent dropout they are [4][H], so that each gate is a product of its own.
 * gates, per direction     [T][N][width]; width G H, GRU after 4 H: n r z and W_hn h + b_hn. The input product makes their first columns
 *     (X view); the gradients of W_hh come from their H view, which is the same but for GRU after, where it begins at r.
 * h, per layer             [T + 2][N][h_ld]: forward | reverse | their sum | masked copies of each, as far as they are used. Slot t + 1 holds
 *     step t of both directions, slot 0 the forward, slot T + 1 the reverse initial state: so the states before each step are a matrix [T N][.]
 *     of their own, the left side of dW_hh.
 * c, per direction (LSTM)  [T + 2][N][H], slots as h. Backward keeps the carried dc of a step in the slot of that step's c, which no later
 *     step reads; the far slot is for gcn. With peepholes, whose gradients need all of c, dc stays in the far slot.
 * rh (GRU before), m (projection)   [T][N][H] per direction: the operand of the candidate's, of the projection's product
 * drawn                    [T][N][K]: the layer's input after dropout
 *
 * The reserve holds these for every layer, with `recompute` h and c alone; the workspace what is left, once, and a small side arena per pass.
 * With storage of halves the reserve holds h and c, and the rest packed; the workspace has room for the rest of a layer, once, and a copy of
 * params whose matrices are rounded.
 */
#ifndef VKL_PLAN_RNN_H
#define VKL_PLAN_RNN_H

#include "plan.h"
#include "vklstm/rnn.h"

/* What a description comes to. */
typedef struct VklRnnForm {
    uint64_t D, P, W;       /* directions, outputs of one, outputs of a layer */
    uint64_t gates;         /* G */
    uint64_t columns;       /* G H */
    uint64_t width, h_view; /* of a row of gates; where its H view begins */
    uint64_t gate_stride, unit_stride;
    uint64_t bias_rows; /* 2, 1, 0 */
    bool gru_after, gru_before, lstm;
    bool fused; /* the fused LSTM kernels do it, if there are no lengths */
    bool usual; /* the activations are those of the cell's inventors */
    bool plain; /* no option touches the cell: `sequence` says which kernel does many steps of it, if there are no lengths */
    uint32_t sequence;
    uint64_t masks; /* masked copies of h for each direction: 0, 1, or one for each gate */
    uint64_t h_ld, sum_at, masked_at;
} VklRnnForm;

VklRnnForm vkl_rnn_form(const VklRnnDesc *desc);

/* Where a layer's tensors are in params; UINT64_MAX: it has none. */
typedef struct VklRnnPlace {
    uint64_t inputs;
    uint64_t w_ih, w_hh, b_ih, b_hh, peephole, w_hr, end;
} VklRnnPlace;

void vkl_rnn_place(const VklRnnDesc *desc, uint64_t layer, uint64_t direction, VklRnnPlace *place);
uint64_t vkl_rnn_params(const VklRnnDesc *desc); /* floats, a multiple of 4 */

/* All sizes in bytes; false when one does not fit 63 bits. T and N may be 0: then only params is set. */
bool vkl_rnn_measure(const VklRnnDesc *desc, uint64_t T, uint64_t N, VklRnnSizes *sizes);

/* Floats of scratch that a forward needs. */
uint64_t vkl_rnn_forward_scratch(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool training);
uint64_t vkl_rnn_backward_scratch(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool lengths);

/* One pass. Absent arrays as in rnn.h.
 * A step of agents: T is 1, one direction forward, inference; states come from h and c, but for rows that `reset` names, and go back there, in the
 * first rows that `count` names: plan_agents.h. */
typedef struct VklRnnPass {
    const VklRnnDesc *desc;
    uint64_t T, N;
    bool training;
    bool
        zero_states; /* the initial slots of h and c in the reserve are known to hold zeros: h0 and c0 are absent and nothing is written */
    VklArray params, x, lengths, h0, c0, y, hn, cn;
    VklArray reserve;    /* training */
    VklArray workspace;  /* of forward, of backward */
    bool agents;         /* a step of agents, see above */
    uint64_t first, all; /* of them: the first row of the pass in h, c and reset, and their rows */
    VklArray h, c, reset, count;
    VklArray gy, ghn, gcn, dx, dh0, dc0, dparams; /* backward */
    bool accumulate, padded;                      /* padded: the padding behind dparams is known to be zero */
    uint64_t seed, first_row, first_step;
    uint32_t offset;
    VklArray state; /* a step state whose STEP is added to offset; absent: none */
} VklRnnPass;

void vkl_plan_rnn_forward(VklPlan *plan, const VklRnnPass *pass);
void vkl_plan_rnn_backward(VklPlan *plan, const VklRnnPass *pass);

/* Of a step of agents: the first row of a layer in h or c, whose rows have so many numbers. */
static inline VklArray vkl_rnn_agents_at(const VklRnnPass *pass, VklArray states, uint64_t layer, uint64_t columns)
{
    return vkl_array_at(states, (layer * pass->all + pass->first) * columns);
}

/* Where y lies after a forward as it stands, in the pass's own memory, without a copy; false where it does not. */
bool vkl_rnn_output(const VklRnnPass *pass, VklArray *y);

#endif

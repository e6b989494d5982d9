/* SPDX-License-Identifier: MIT
 *
 * The recurrent layers as kernel calls. Where everything lies (in floats):
 *
 * params, per layer     W_ih [I][H][4] | W_hh [H][H][4] | b_ih [H][4] | b_hh [H][4]: the four gates of a unit side by side, so that
 *                       one invocation owns a unit. All gradients of a layer are one GEMM: x, h[t-1] and ones times the gates.
 * reserve, per layer    gates [T][N][H][4] | h [T + 1][N][H] | c [T + 2][N][H]. Slot 0 of h and c is the initial state, so that
 *                       h[0 .. T-1] is the left operand of dW_hh as it stands. Backward turns gates into their gradients, and keeps the
 *                       carried dc of step t in the slot of c[t + 1], which no later step reads; slot T + 1 is for gcn.
 * forward_workspace     the same for one layer at a time, without what backward needs: gates | h of this and of the layer below | c [N][H]
 * backward_workspace    dy of the layer below [T][N][H] | dh of one step [N][H] | last dy with ghn added [N][H]
 */
#ifndef VKL_PLAN_RNN_H
#define VKL_PLAN_RNN_H

#include "plan.h"
#include "vklstm/rnn.h"

typedef struct VklRnnPlace {
    uint64_t inputs;             /* features of the layer's x */
    uint64_t w_ih, w_hh, bias;   /* in params */
    uint64_t gates, h, c;        /* in the reserve, or in the forward workspace */
    uint64_t h_stride, c_stride; /* from one time slot to the next */
} VklRnnPlace;

void vkl_rnn_place(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool training, uint64_t layer, VklRnnPlace *place);

/* All sizes in bytes; false when one does not fit 63 bits. T and N may be 0: then only params is set. */
bool vkl_rnn_measure(const VklRnnDesc *desc, uint64_t T, uint64_t N, VklRnnSizes *sizes);

/* One pass. Absent arrays as in rnn.h. */
typedef struct VklRnnPass {
    const VklRnnDesc *desc;
    uint64_t T, N;
    bool training;
    bool zero_states; /* slot 0 of h and c in the reserve is known to hold zeros: h0 and c0 are absent and nothing is written */
    VklArray params, x, h0, c0, y, hn, cn;
    VklArray memory;                                         /* the reserve with training, else the forward workspace */
    VklArray workspace, gy, ghn, gcn, dx, dh0, dc0, dparams; /* backward */
    bool gy_last;                                            /* gy is [N][H], of the last time step alone */
    bool accumulate;
} VklRnnPass;

void vkl_plan_rnn_forward(VklPlan *plan, const VklRnnPass *pass);
void vkl_plan_rnn_backward(VklPlan *plan, const VklRnnPass *pass);

/* Where the top layer's h of the last time step is after a forward: [N][H]. */
VklArray vkl_rnn_last_h(const VklRnnPass *pass);
/* And all its time steps: [T][N][H]. */
VklArray vkl_rnn_all_h(const VklRnnPass *pass);

#endif

/* SPDX-License-Identifier: MIT
 *
 * One time step of many agents, whose states the caller keeps, as kernel calls; with a count on the device, for as many of them as there are. */
#ifndef VKL_PLAN_AGENTS_H
#define VKL_PLAN_AGENTS_H

#include "plan_model.h"

/* Of recurrent layers: a pass with `agents`. */
void vkl_plan_rnn_agents(VklPlan *plan, const VklRnnPass *pass);

/* Of a whole network. */
typedef struct VklAgents {
    const VklNetwork *network;
    uint64_t N;
    VklArray params, x, y, state, reset, count, workspace; /* reset and count may be absent */
    uint64_t state_floats;                                 /* out */
} VklAgents;
/* False: sizes do not fit 63 bits. */
bool vkl_plan_agents(VklPlan *plan, VklAgents *agents);

#endif

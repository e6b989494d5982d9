/* SPDX-License-Identifier: MIT
 *
 * vklstm bench --agents: how long one step of so many agents takes, on a device and on the CPU beside it.
 */
#ifndef VKLSTM_TOOLS_BENCH_AGENTS_H
#define VKLSTM_TOOLS_BENCH_AGENTS_H

#include "workload.h"

typedef struct BenchAgents {
    uint64_t most, repeat;
    bool json;
} BenchAgents;

/* Prints and returns an exit status. Of the shape cell, input, hidden, layers, path and halves count. */
int bench_agents(VklContext *context, VklDevice *device, const Shape *shape, const BenchAgents *desc);

#endif

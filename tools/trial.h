/* SPDX-License-Identifier: MIT
 *
 * One run of the recurrent operator on arrays of the host, and how far its results are from what they should be.
 *
 * Before the run everything that the operator must write (results, reserve, workspace) is filled with NaN: a part that it leaves out, or
 * reads before it has written it, shows.
 */
#ifndef VKLSTM_TOOLS_TRIAL_H
#define VKLSTM_TOOLS_TRIAL_H

#include "vklstm/vklstm.h"

/* Arrays have the shapes of rnn.h; NULL: absent, or not asked for. Parameters and their gradients are the canonical tensors, one after
 * another in the order of vkl_rnn_param_info(). */
typedef struct Trial {
    uint64_t T, N, I;
    VklDropout dropout;
    bool training; /* with a reserve, even if no gradient is asked for */
    const float *params, *x, *h0, *c0, *gy, *ghn, *gcn;
    const uint32_t *lengths;
    float *y, *hn, *cn, *dx, *dh0, *dc0, *dparams;
    bool accumulate; /* gradients of parameters are added to what is in dparams */
} Trial;

/* How many numbers the canonical tensors have together. */
uint64_t trial_params(VklRnn *rnn);

/* Runs and waits. The sentence of a failure is vkl_device_error()'s. */
VklStatus trial_run(VklDevice *device, VklRnn *rnn, const Trial *trial);

/* Makes what trial_run() would run: plans, buffers, pipelines; and runs nothing. Arrays are not looked at, but for whether they
 * are there. */
VklStatus trial_prepare(VklDevice *device, VklRnn *rnn, const Trial *trial);

/* How far `got` is from `want`: the largest difference relative to the largest finite magnitude in `want` (absolute where that
 * is 0), and the first place that has it. NaN and infinities are right where they are wanted, and infinitely wrong
 * elsewhere. */
typedef struct Difference {
    double error;
    uint64_t at;
} Difference;
Difference trial_compare(const float *got, const double *want, uint64_t count);

#endif

/* SPDX-License-Identifier: MIT
 *
 * The work that bench times: one forward pass, or one training step.
 *
 * h0 and c0 are not zero, so that the recurrent half of the work is done. A training step is forward, backward to the
 * parameters (not to x, h0 and c0) and Adam. With a dense layer, it takes the last time step's h, and its MSE loss gives the
 * gradient; without one the gradient with respect to y is a fixed array.
 */
#ifndef VKLSTM_TOOLS_WORKLOAD_H
#define VKLSTM_TOOLS_WORKLOAD_H

#include "vklstm/vklstm.h"

typedef struct Shape {
    VklCell cell;
    uint64_t seq, batch, input;
    uint64_t hidden; /* 0: no recurrent layer, forward of a dense layer of `input` and `output` alone, on `batch` rows */
    uint64_t layers;
    uint64_t output; /* of the dense layer; 0: none */
    bool skip_input;
    bool halves; /* storage of halves */
    VklRnnPath path;
    bool train;
} Shape;

#define WORKLOAD_BUFFERS 20

typedef struct Workload {
    const Shape *shape;
    VklDevice *device;
    VklStream *stream;
    VklRnn *rnn;
    VklDense *dense; /* NULL: none */
    VklOptimizer *optimizer;
    VklExec *forward, *backward, *step;
    VklBuffer *buffers[WORKLOAD_BUFFERS];
    size_t buffer_count;
    uint64_t bytes; /* of all buffers */
    VklRnnSizes sizes;
    uint64_t dense_offset; /* bytes, of the dense layer's parameters behind the recurrent ones */
    VklSlice params, grads, h_last, gh_last;
    VklSlice predicted, target, gpredicted, loss, dense_workspace;
} Workload;

/* Makes everything for `shape`, which must outlive it. Prints and returns an exit status; workload_destroy() is for both
 * outcomes. */
int workload_create(VklDevice *device, const Shape *shape, Workload *workload);
void workload_destroy(Workload *workload);

/* For a program that tries several shapes: no message, and what the library said is in its context. */
VklStatus workload_try(VklDevice *device, const Shape *shape, Workload *workload);

/* Records one iteration on workload->stream. */
VklStatus workload_record(Workload *workload);

/* The arithmetic of the matrix products of one iteration, a multiplication and an addition each. Backward has two products for
 * each of forward's, but the one that would give the gradient of x. */
double workload_flops(const Shape *shape);

#endif

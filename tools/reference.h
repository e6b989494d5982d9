/* SPDX-License-Identifier: MIT
 *
 * The oracle: the whole recurrent operator of vklstm/rnn.h in double precision, forward and backward, as scalar loops over one row of the
 * batch at a time, one statement for each equation. Slow on purpose, and it shares nothing with the library but the description: the
 * gradients are derived by hand here, the masks of dropout drawn here. tests/test_oracle.c holds it against finite differences.
 *
 * Arrays have the shapes and the order of the public header (batch_first and last_only taken in); parameters and their gradients are
 * the canonical tensors, each an array of its own. The caller allocates everything.
 */
#ifndef VKL_TOOLS_REFERENCE_H
#define VKL_TOOLS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vklstm/rnn.h"

/* Tensor `index` of the parameters, counted in rnn.h's order: its name there, rows and columns (1 for biases). */
typedef struct RefTensor {
    char name[64];
    size_t rows, columns;
} RefTensor;
size_t ref_rnn_tensors(const VklRnnDesc *desc);
RefTensor ref_rnn_tensor(const VklRnnDesc *desc, size_t index);

/* How many numbers x, y, a state h and a state c have; c is 0 but for LSTM. */
typedef struct RefCounts {
    size_t x, y, h, c;
} RefCounts;
RefCounts ref_rnn_counts(const VklRnnDesc *desc, size_t T, size_t N);

typedef struct RefRnn {
    VklRnnDesc desc;         /* one that vkl_rnn_create() accepts */
    size_t T, N;             /* >= 1 */
    const uint32_t *lengths; /* [N], or NULL */
    bool training;           /* dropout acts */
    VklDropout dropout;
    const double *x, *h0, *c0;    /* in; h0 and c0 may be NULL: zeros */
    const double *const *params;  /* in, one for each tensor */
    const double *gy, *ghn, *gcn; /* in, each may be NULL: zeros */
    double *y, *hn, *cn;          /* out, each may be NULL */
    double *dx, *dh0, *dc0;       /* out, each may be NULL */
    double *const *dparams;       /* out, one for each tensor; NULL: no backward pass */
    double nearest; /* out: how near a number came to a kink of its activation or to the end of its clip. Numbers that lie on one
                       exactly do not count: random ones are there only where nothing moves them (c = i * relu(-1) is 0) */
} RefRnn;

/* The forward pass, then the backward pass if `dparams` is there. False: out of memory. */
bool ref_rnn(RefRnn *run);

/* The numbers 10 rounds of Philox 4x32 (Salmon et al. 2011) make of a key and a counter. */
void ref_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* An activation and its derivative. */
double ref_activation(const VklActivationDesc *activation, double x);
double ref_activation_slope(const VklActivationDesc *activation, double x);

#endif

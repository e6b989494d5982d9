/* SPDX-License-Identifier: MIT
 *
 * The oracle of the other layers: dense layer, losses and optimizers in double precision, one scalar statement for each equation of
 * layers.h and optimizer.h; and the plain LSTM, as tools/reference.h has it. Slow on purpose. test_reference.c holds it against finite
 * differences and against PyTorch.
 *
 * Arrays have the shapes of the public headers. Parameters are PyTorch's tensors one after another in PyTorch's order:
 * weight_ih_l0 [4H][I], weight_hh_l0 [4H][H], bias_ih_l0 [4H], bias_hh_l0 [4H], weight_ih_l1 [4H][H] ..., rows i f g o.
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>

#include "vklstm/vklstm.h"

typedef struct RefLstm {
    size_t T, N, I, H, L;
} RefLstm;

/* Where the tensors of a layer are in params, counted in numbers. ref_lstm_layer(size, L) ends where the parameters end. */
typedef struct RefLayer {
    size_t inputs; /* columns of weight_ih */
    size_t w_ih, w_hh, b_ih, b_hh;
    size_t end;
} RefLayer;
RefLayer ref_lstm_layer(const RefLstm *size, size_t layer);

size_t ref_lstm_params(const RefLstm *size);
/* h0, c0, gy, ghn, gcn may be NULL: zeros. y, hn, cn may be NULL: not wanted; so may all gradients together. */
void ref_lstm(const RefLstm *size, const double *params, const double *x, const double *h0, const double *c0, const double *gy,
              const double *ghn, const double *gcn, double *y, double *hn, double *cn, double *dx, double *dh0, double *dc0,
              double *dparams);

/* params: weight [O][I], bias [O]. */
void ref_dense_forward(size_t rows, size_t I, size_t O, VklActivation activation, const double *params, const double *x,
                       double *y);
void ref_dense_backward(size_t rows, size_t I, size_t O, VklActivation activation, const double *params, const double *x,
                        const double *y, const double *gy, double *dx, double *dparams);

/* Returns the mean loss; gradient is that of the mean. */
double ref_loss(VklLoss kind, double delta, size_t count, const double *predicted, const double *target, double *gradient);

/* Step `step`, counted from 1. m and v are the moments, zeros before the first step. */
void ref_optimizer_step(const VklOptimizerDesc *desc, size_t step, size_t count, double *params, const double *grads, double *m,
                        double *v);

#endif

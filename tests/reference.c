/* SPDX-License-Identifier: MIT */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../tools/reference.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

RefLayer ref_lstm_layer(const RefLstm *size, size_t layer)
{
    const size_t rows = 4 * size->H;
    const size_t first = rows * (size->I + size->H + 2), above = rows * (2 * size->H + 2);
    RefLayer at;
    at.inputs = layer == 0 ? size->I : size->H;
    at.w_ih = layer == 0 ? 0 : first + (layer - 1) * above;
    at.w_hh = at.w_ih + rows * at.inputs;
    at.b_ih = at.w_hh + rows * size->H;
    at.b_hh = at.b_ih + rows;
    at.end = at.b_hh + rows;
    return at;
}

size_t ref_lstm_params(const RefLstm *size)
{
    return ref_lstm_layer(size, size->L - 1).end;
}

void ref_lstm(const RefLstm *size, const double *params, const double *x, const double *h0, const double *c0, const double *gy,
              const double *ghn, const double *gcn, double *y, double *hn, double *cn, double *dx, double *dh0, double *dc0,
              double *dparams)
{
    const double **tensors = calloc(4 * size->L, sizeof(*tensors));
    double **gradients = calloc(4 * size->L, sizeof(*gradients));
    if (!tensors || !gradients)
        abort();
    for (size_t l = 0; l < size->L; l++) {
        const RefLayer at = ref_lstm_layer(size, l);
        const size_t begin[] = {at.w_ih, at.w_hh, at.b_ih, at.b_hh};
        for (size_t k = 0; k < 4; k++) {
            tensors[4 * l + k] = params + begin[k];
            gradients[4 * l + k] = dparams ? dparams + begin[k] : NULL;
        }
    }
    RefRnn run = {.desc = vkl_rnn_desc(VKL_CELL_LSTM, size->I, size->H), .T = size->T, .N = size->N};
    run.desc.layers = size->L;
    run.x = x, run.h0 = h0, run.c0 = c0, run.params = tensors;
    run.gy = gy, run.ghn = ghn, run.gcn = gcn;
    run.y = y, run.hn = hn, run.cn = cn;
    run.dx = dx, run.dh0 = dh0, run.dc0 = dc0, run.dparams = dparams ? gradients : NULL;
    if (!ref_rnn(&run))
        abort();
    free(tensors);
    free(gradients);
}

void ref_dense_forward(size_t rows, size_t I, size_t O, VklActivation activation, const double *params, const double *x,
                       double *y)
{
    const double *w = params, *b = params + O * I;
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < O; o++) {
            double z = b[o];
            for (size_t k = 0; k < I; k++)
                z += w[o * I + k] * x[r * I + k];
            switch (activation) {
            case VKL_ACTIVATION_NONE:
                break;
            case VKL_ACTIVATION_TANH:
                z = tanh(z);
                break;
            case VKL_ACTIVATION_SIGMOID:
                z = sigmoid(z);
                break;
            case VKL_ACTIVATION_RELU:
                z = z < 0 ? 0 : z; /* NaN stays */
                break;
            }
            y[r * O + o] = z;
        }
    }
}

/* The gradient before the activation, from the gradient behind it and the activation's value. */
static double activation_backward(VklActivation activation, double gy, double y)
{
    switch (activation) {
    case VKL_ACTIVATION_NONE:
        return gy;
    case VKL_ACTIVATION_TANH:
        return gy * (1 - y * y);
    case VKL_ACTIVATION_SIGMOID:
        return gy * y * (1 - y);
    case VKL_ACTIVATION_RELU:
        break;
    }
    return y > 0 ? gy : y <= 0 ? 0 : y; /* PyTorch's: where y is 0 nothing passes, not even NaN */
}

void ref_dense_backward(size_t rows, size_t I, size_t O, VklActivation activation, const double *params, const double *x,
                        const double *y, const double *gy, double *dx, double *dparams)
{
    double *dw = dparams, *db = dparams + O * I;
    memset(dparams, 0, (O * I + O) * sizeof(double));
    memset(dx, 0, rows * I * sizeof(double));
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < O; o++) {
            const double dz = activation_backward(activation, gy[r * O + o], y[r * O + o]);
            db[o] += dz;
            for (size_t k = 0; k < I; k++) {
                dw[o * I + k] += dz * x[r * I + k];
                dx[r * I + k] += dz * params[o * I + k];
            }
        }
    }
}

double ref_loss(VklLoss kind, double delta, size_t count, const double *predicted, const double *target, double *gradient)
{
    double sum = 0;
    for (size_t k = 0; k < count; k++) {
        const double d = predicted[k] - target[k];
        const double sign = isnan(d) ? d : (d > 0) - (d < 0);
        double loss = 0, slope_of_loss = 0;
        switch (kind) {
        case VKL_LOSS_MSE:
            loss = d * d;
            slope_of_loss = 2 * d;
            break;
        case VKL_LOSS_MAE:
            loss = fabs(d);
            slope_of_loss = sign;
            break;
        case VKL_LOSS_HUBER:
            loss = fabs(d) <= delta ? d * d / 2 : delta * (fabs(d) - delta / 2);
            slope_of_loss = fabs(d) <= delta ? d : delta * sign;
            break;
        }
        sum += loss;
        if (gradient)
            gradient[k] = slope_of_loss / (double)count;
    }
    return sum / (double)count;
}

void ref_optimizer_step(const VklOptimizerDesc *desc, size_t step, size_t count, double *params, const double *grads, double *m,
                        double *v)
{
    const double lr = desc->learning_rate, momentum = desc->momentum, b1 = desc->beta1, b2 = desc->beta2;
    double factor = 1;
    if (desc->clip_norm > 0) {
        double squares = 0;
        for (size_t k = 0; k < count; k++)
            squares += grads[k] * grads[k];
        factor = desc->clip_norm / (sqrt(squares) + 1e-6);
        factor = factor > 1 ? 1 : factor; /* NaN stays */
    }
    for (size_t k = 0; k < count; k++) {
        double g = grads[k] * factor;
        if (desc->clip_value > 0 && g > desc->clip_value)
            g = desc->clip_value;
        if (desc->clip_value > 0 && g < -desc->clip_value)
            g = -desc->clip_value;

        if (desc->kind == VKL_OPTIMIZER_ADAMW)
            params[k] -= lr * desc->weight_decay * params[k];
        else
            g += desc->weight_decay * params[k];

        switch (desc->kind) {
        case VKL_OPTIMIZER_SGD:
            m[k] = step == 1 ? g : momentum * m[k] + g;
            params[k] -= lr * m[k];
            break;
        case VKL_OPTIMIZER_RMSPROP:
            v[k] = desc->alpha * v[k] + (1 - desc->alpha) * g * g;
            m[k] = momentum * m[k] + g / (sqrt(v[k]) + desc->epsilon);
            params[k] -= lr * m[k];
            break;
        case VKL_OPTIMIZER_ADAM:
        case VKL_OPTIMIZER_ADAMW:
            m[k] = b1 * m[k] + (1 - b1) * g;
            v[k] = b2 * v[k] + (1 - b2) * g * g;
            params[k] -= lr * (m[k] / (1 - pow(b1, (double)step))) / (sqrt(v[k] / (1 - pow(b2, (double)step))) + desc->epsilon);
            break;
        }
    }
}

/* SPDX-License-Identifier: MIT */
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* What is kept: i f g o [L][T][N][4H], then h and c [L][T + 1][N][H] with the initial state at step 0. */
typedef struct Kept {
    size_t gates, h, c, end;
} Kept;

static Kept kept_of_layer(const RefLstm *size, size_t layer)
{
    const size_t state = size->N * size->H;
    Kept at;
    at.gates = layer * (6 * size->T + 2) * state;
    at.h = at.gates + 4 * size->T * state;
    at.c = at.h + (size->T + 1) * state;
    at.end = at.c + (size->T + 1) * state;
    return at;
}

size_t ref_lstm_reserve(const RefLstm *size)
{
    return kept_of_layer(size, size->L - 1).end;
}

void ref_lstm_forward(const RefLstm *size, const double *params, const double *x, const double *h0, const double *c0, double *y,
                      double *hn, double *cn, double *reserve)
{
    const size_t T = size->T, N = size->N, H = size->H, state = N * H;
    for (size_t l = 0; l < size->L; l++) {
        const RefLayer p = ref_lstm_layer(size, l);
        const Kept at = kept_of_layer(size, l);
        double *gates = reserve + at.gates, *h = reserve + at.h, *c = reserve + at.c;
        for (size_t k = 0; k < state; k++) {
            h[k] = h0 ? h0[l * state + k] : 0;
            c[k] = c0 ? c0[l * state + k] : 0;
        }
        for (size_t t = 0; t < T; t++) {
            for (size_t n = 0; n < N; n++) {
                const double *in = x + (t * N + n) * p.inputs, *h_prev = h + t * state + n * H, *c_prev = c + t * state + n * H;
                double *gate = gates + (t * N + n) * 4 * H;
                for (size_t r = 0; r < 4 * H; r++) {
                    double sum = params[p.b_ih + r] + params[p.b_hh + r];
                    for (size_t k = 0; k < p.inputs; k++)
                        sum += params[p.w_ih + r * p.inputs + k] * in[k];
                    for (size_t k = 0; k < H; k++)
                        sum += params[p.w_hh + r * H + k] * h_prev[k];
                    gate[r] = r / H == 2 ? tanh(sum) : sigmoid(sum);
                }
                for (size_t u = 0; u < H; u++) {
                    const double i = gate[u], f = gate[H + u], g = gate[2 * H + u], o = gate[3 * H + u];
                    const double c_new = f * c_prev[u] + i * g;
                    c[(t + 1) * state + n * H + u] = c_new;
                    h[(t + 1) * state + n * H + u] = o * tanh(c_new);
                }
            }
        }
        if (hn)
            memcpy(hn + l * state, h + T * state, state * sizeof(double));
        if (cn)
            memcpy(cn + l * state, c + T * state, state * sizeof(double));
        x = h + state; /* the layer above reads h[1..T] */
    }
    if (y)
        memcpy(y, x, T * state * sizeof(double));
}

void ref_lstm_backward(const RefLstm *size, const double *params, const double *x, const double *reserve, const double *gy,
                       const double *ghn, const double *gcn, double *dx, double *dh0, double *dc0, double *dparams)
{
    const size_t T = size->T, N = size->N, H = size->H, state = N * H;
    const size_t widest = size->I > H ? size->I : H;
    /* gradient of a layer's output sequence and of its input sequence; of the state between two time steps; of four gates */
    double *dy = calloc(T * N * widest, sizeof(double)), *din = calloc(T * N * widest, sizeof(double));
    double *dh = calloc(state, sizeof(double)), *dc = calloc(state, sizeof(double)), *da = calloc(4 * H, sizeof(double));
    if (!dy || !din || !dh || !dc || !da)
        abort();

    memset(dparams, 0, ref_lstm_params(size) * sizeof(double));
    if (gy)
        memcpy(dy, gy, T * state * sizeof(double));
    for (size_t l = size->L; l-- > 0;) {
        const RefLayer p = ref_lstm_layer(size, l);
        const Kept at = kept_of_layer(size, l);
        const double *gates = reserve + at.gates, *h = reserve + at.h, *c = reserve + at.c;
        const double *in = l == 0 ? x : reserve + kept_of_layer(size, l - 1).h + state;
        for (size_t k = 0; k < state; k++) {
            dh[k] = ghn ? ghn[l * state + k] : 0;
            dc[k] = gcn ? gcn[l * state + k] : 0;
        }
        memset(din, 0, T * N * p.inputs * sizeof(double));
        for (size_t t = T; t-- > 0;) {
            for (size_t n = 0; n < N; n++) {
                const double *gate = gates + (t * N + n) * 4 * H;
                const double *c_prev = c + t * state + n * H, *h_prev = h + t * state + n * H;
                const double *c_new = c_prev + state, *in_t = in + (t * N + n) * p.inputs;
                for (size_t u = 0; u < H; u++) {
                    const double i = gate[u], f = gate[H + u], g = gate[2 * H + u], o = gate[3 * H + u];
                    const double tc = tanh(c_new[u]);
                    const double gh = dh[n * H + u] + dy[(t * N + n) * H + u];
                    const double gc = dc[n * H + u] + gh * o * (1 - tc * tc);
                    da[u] = gc * g * i * (1 - i);
                    da[H + u] = gc * c_prev[u] * f * (1 - f);
                    da[2 * H + u] = gc * i * (1 - g * g);
                    da[3 * H + u] = gh * tc * o * (1 - o);
                    dc[n * H + u] = gc * f;
                    dh[n * H + u] = 0;
                }
                for (size_t r = 0; r < 4 * H; r++) {
                    dparams[p.b_ih + r] += da[r];
                    dparams[p.b_hh + r] += da[r];
                    for (size_t k = 0; k < p.inputs; k++) {
                        dparams[p.w_ih + r * p.inputs + k] += da[r] * in_t[k];
                        din[(t * N + n) * p.inputs + k] += da[r] * params[p.w_ih + r * p.inputs + k];
                    }
                    for (size_t k = 0; k < H; k++) {
                        dparams[p.w_hh + r * H + k] += da[r] * h_prev[k];
                        dh[n * H + k] += da[r] * params[p.w_hh + r * H + k];
                    }
                }
            }
        }
        memcpy(dh0 + l * state, dh, state * sizeof(double));
        memcpy(dc0 + l * state, dc, state * sizeof(double));
        double *swap = dy;
        dy = din;
        din = swap;
    }
    memcpy(dx, dy, T * N * size->I * sizeof(double));
    free(dy);
    free(din);
    free(dh);
    free(dc);
    free(da);
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

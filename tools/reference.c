/* SPDX-License-Identifier: MIT */
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Shapes ---- */

typedef struct Sizes {
    size_t G, H, P, L, D, W; /* gates, units, columns of h, layers, directions, columns of a layer's output */
} Sizes;

static Sizes sizes_of(const VklRnnDesc *desc)
{
    Sizes s = {.H = desc->hidden_size, .L = desc->layers};
    s.G = desc->cell == VKL_CELL_LSTM ? 4 : desc->cell == VKL_CELL_GRU ? 3 : 1;
    s.P = desc->projection ? desc->projection : s.H;
    s.D = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1;
    s.W = desc->merge == VKL_MERGE_CONCAT ? s.D * s.P : s.P;
    return s;
}

static size_t inputs_of(const VklRnnDesc *desc, size_t layer)
{
    return layer ? sizes_of(desc).W : desc->input_size;
}

/* The kinds of tensors in their order. */
enum { W_IH, W_HH, B_IH, B_HH, W_HR, W_CH, KINDS };

static bool has(const VklRnnDesc *desc, size_t layer, int kind)
{
    switch (kind) {
    case W_IH:
        return layer > 0 || !desc->skip_input;
    case B_IH:
        return desc->bias != VKL_BIAS_NONE;
    case B_HH:
        return desc->bias == VKL_BIAS_DOUBLE;
    case W_HR:
        return desc->projection > 0;
    case W_CH:
        return desc->peephole;
    default:
        return true;
    }
}

/* The place of a tensor in the list; what comes before it is counted. */
static size_t place_of(const VklRnnDesc *desc, size_t layer, size_t direction, int kind)
{
    const size_t D = sizes_of(desc).D;
    size_t place = 0;
    for (size_t at = 0; at < (layer * D + direction) * KINDS + (size_t)kind; at++)
        place += has(desc, at / KINDS / D, (int)(at % KINDS));
    return place;
}

size_t ref_rnn_tensors(const VklRnnDesc *desc)
{
    return place_of(desc, desc->layers, 0, 0);
}

RefTensor ref_rnn_tensor(const VklRnnDesc *desc, size_t index)
{
    static const char *const names[KINDS] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch"};
    const Sizes s = sizes_of(desc);
    size_t at = 0;
    for (size_t left = index;; at++)
        if (has(desc, at / KINDS / s.D, (int)(at % KINDS)) && left-- == 0)
            break;
    const size_t layer = at / KINDS / s.D, rows = s.G * s.H;
    const size_t shapes[KINDS][2] = {{rows, inputs_of(desc, layer)}, {rows, s.P}, {rows, 1}, {rows, 1}, {s.P, s.H}, {3, s.H}};
    RefTensor tensor = {.rows = shapes[at % KINDS][0], .columns = shapes[at % KINDS][1]};
    snprintf(tensor.name, sizeof(tensor.name), "%s_l%zu%s", names[at % KINDS], layer, at / KINDS % s.D ? "_reverse" : "");
    return tensor;
}

RefCounts ref_rnn_counts(const VklRnnDesc *desc, size_t T, size_t N)
{
    const Sizes s = sizes_of(desc);
    return (RefCounts){T * N * desc->input_size, (desc->last_only ? 1 : T) * N * s.W, s.L * s.D * N * s.P,
                       desc->cell == VKL_CELL_LSTM ? s.L * s.D * N * s.H : 0};
}

/* ---- Activations and clips ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

double ref_activation(const VklActivationDesc *activation, double x)
{
    const double alpha = activation->alpha, beta = activation->beta;
    if (isnan(x))
        return x;
    switch (activation->kind) {
    case VKL_GATE_SIGMOID:
        return sigmoid(x);
    case VKL_GATE_TANH:
        return tanh(x);
    case VKL_GATE_RELU:
        return x > 0 ? x : 0;
    case VKL_GATE_HARD_SIGMOID:
        return fmin(fmax(alpha * x + beta, 0), 1);
    case VKL_GATE_AFFINE:
        return alpha * x + beta;
    case VKL_GATE_LEAKY_RELU:
        return x >= 0 ? x : alpha * x;
    case VKL_GATE_THRESHOLDED_RELU:
        return x > alpha ? x : 0;
    case VKL_GATE_SCALED_TANH:
        return alpha * tanh(beta * x);
    case VKL_GATE_ELU:
        return x >= 0 ? x : alpha * expm1(x);
    case VKL_GATE_SOFTSIGN:
        return x / (1 + fabs(x));
    case VKL_GATE_SOFTPLUS:
        return fmax(x, 0) + log1p(exp(-fabs(x)));
    }
    return NAN;
}

double ref_activation_slope(const VklActivationDesc *activation, double x)
{
    const double alpha = activation->alpha, beta = activation->beta;
    if (isnan(x))
        return x;
    switch (activation->kind) {
    case VKL_GATE_SIGMOID:
        return sigmoid(x) * sigmoid(-x);
    case VKL_GATE_TANH:
        return 1 - tanh(x) * tanh(x);
    case VKL_GATE_RELU:
        return x > 0 ? 1 : 0;
    case VKL_GATE_HARD_SIGMOID:
        return alpha * x + beta > 0 && alpha * x + beta < 1 ? alpha : 0;
    case VKL_GATE_AFFINE:
        return alpha;
    case VKL_GATE_LEAKY_RELU:
        return x >= 0 ? 1 : alpha;
    case VKL_GATE_THRESHOLDED_RELU:
        return x > alpha ? 1 : 0;
    case VKL_GATE_SCALED_TANH:
        return alpha * beta * (1 - tanh(beta * x) * tanh(beta * x));
    case VKL_GATE_ELU:
        return x >= 0 ? 1 : alpha * exp(x);
    case VKL_GATE_SOFTSIGN:
        return 1 / ((1 + fabs(x)) * (1 + fabs(x)));
    case VKL_GATE_SOFTPLUS:
        return sigmoid(x);
    }
    return NAN;
}

static void note(RefRnn *run, double distance)
{
    if (fabs(distance) > 0 && fabs(distance) < run->nearest)
        run->nearest = fabs(distance);
}

static void note_kinks(RefRnn *run, const VklActivationDesc *activation, double x)
{
    const double alpha = activation->alpha, beta = activation->beta;
    switch (activation->kind) {
    case VKL_GATE_RELU:
    case VKL_GATE_LEAKY_RELU:
    case VKL_GATE_ELU:
    case VKL_GATE_SOFTSIGN: /* these two have a kink in the second derivative */
        note(run, x);
        break;
    case VKL_GATE_HARD_SIGMOID:
        note(run, x + beta / alpha);
        note(run, x + (beta - 1) / alpha);
        break;
    case VKL_GATE_THRESHOLDED_RELU:
        note(run, x - alpha);
        break;
    default:
        break;
    }
}

/* A limit of 0: off. */
static double clip(double x, double limit)
{
    return limit > 0 && x > limit ? limit : limit > 0 && x < -limit ? -limit : x;
}

static bool clipped(double x, double limit)
{
    return limit > 0 && fabs(x) > limit;
}

/* ---- Dropout ---- */

void ref_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    memcpy(out, counter, 4 * sizeof(uint32_t));
    for (int round = 0; round < 10; round++) {
        const uint64_t a = UINT64_C(0xd2511f53) * out[0], b = UINT64_C(0xcd9e8d57) * out[2];
        out[0] = (uint32_t)(b >> 32) ^ out[1] ^ k0;
        out[1] = (uint32_t)b;
        out[2] = (uint32_t)(a >> 32) ^ out[3] ^ k1;
        out[3] = (uint32_t)a;
        k0 += UINT32_C(0x9e3779b9);
        k1 += UINT32_C(0xbb67ae85);
    }
}

/* The factor of the number at (stream, step, row, column): 0, or 1 / (1 - p). */
static double draw(const RefRnn *run, double p, size_t stream, size_t step, size_t row, size_t column)
{
    if (!run->training || p <= 0)
        return 1;
    if (p >= 1)
        return 0;
    const uint32_t key[2] = {(uint32_t)run->dropout.seed, (uint32_t)(run->dropout.seed >> 32) ^ (uint32_t)run->dropout.offset};
    const uint32_t counter[4] = {(uint32_t)(column / 4), (uint32_t)(run->dropout.first_row + row), (uint32_t)step,
                                 (uint32_t)stream};
    uint32_t words[4];
    ref_philox(key, counter, words);
    return (double)words[column % 4] >= round(p * 0x1p32) ? 1 / (1 - p) : 0;
}

/* What is dropped is 0, whatever it was. */
static double masked(double factor, double x)
{
    return factor == 0 ? 0 : factor * x;
}

/* ---- One direction of one layer, one row of the batch ---- */

typedef struct Cell {
    RefRnn *run;
    Sizes size;
    size_t inputs;
    bool skip;                           /* x is added to every gate */
    const VklActivationDesc *activation; /* f, g, h */
    const double *w[KINDS];              /* NULL: not there */
    double *dw[KINDS];
    double *mask; /* [G][P] recurrent dropout */
    /* What forward keeps; k counts the steps in the order in which the direction takes them, and h[0], c[0] are the initial state. */
    double *a;     /* [T][G][H] arguments of the gates' activations, before preact_clip */
    double *s;     /* [T][G][H] the gates */
    double *q;     /* [T][H] GRU: what r gates, or n's recurrent product of r * h */
    double *h, *c; /* [T + 1][P], [T + 1][H] */
    double *da, *op, *dop, *v, *dv;
} Cell;

/* Gate `which` (0: f, 1: g of ONNX's list) at argument a, and its derivative there. */
static double gate(const Cell *cell, int which, double a)
{
    const double limit = cell->run->desc.preact_clip;
    if (limit > 0)
        note(cell->run, fabs(a) - limit);
    if (!clipped(a, limit))
        note_kinks(cell->run, &cell->activation[which], a);
    return ref_activation(&cell->activation[which], clip(a, limit));
}

static double gate_slope(const Cell *cell, int which, double a)
{
    return clipped(a, cell->run->desc.preact_clip) ? 0 : ref_activation_slope(&cell->activation[which], a);
}

/* The operand of gate g's recurrent product: h with its mask, for GRU's n of reset-before also times r. */
static void operand(const Cell *cell, size_t g, const double *h, const double *r)
{
    for (size_t j = 0; j < cell->size.P; j++)
        cell->op[j] = masked(cell->mask[g * cell->size.P + j], h[j]) * (r ? r[j] : 1);
}

/* b_hh + W_hh op, at row u of gate g. */
static double recurrent(const Cell *cell, size_t g, size_t u)
{
    const size_t row = g * cell->size.H + u, P = cell->size.P;
    double sum = cell->w[B_HH] ? cell->w[B_HH][row] : 0;
    for (size_t j = 0; j < P; j++)
        sum += cell->w[W_HH][row * P + j] * cell->op[j];
    return sum;
}

/* From the gradient dq[H] of recurrent(g, .): its parameters', and dop. */
static void recurrent_backward(const Cell *cell, size_t g, const double *dq)
{
    const size_t P = cell->size.P;
    memset(cell->dop, 0, P * sizeof(double));
    for (size_t u = 0; u < cell->size.H; u++) {
        const size_t row = g * cell->size.H + u;
        if (cell->w[B_HH])
            cell->dw[B_HH][row] += dq[u];
        for (size_t j = 0; j < P; j++) {
            cell->dw[W_HH][row * P + j] += dq[u] * cell->op[j];
            cell->dop[j] += dq[u] * cell->w[W_HH][row * P + j];
        }
    }
}

/* b_ih + W_ih x for all gates. */
static void input(const Cell *cell, const double *x, double *a)
{
    for (size_t row = 0; row < cell->size.G * cell->size.H; row++) {
        a[row] = cell->w[B_IH] ? cell->w[B_IH][row] : 0;
        if (cell->skip)
            a[row] += x[row % cell->size.H];
        for (size_t j = 0; j < cell->inputs && !cell->skip; j++)
            a[row] += cell->w[W_IH][row * cell->inputs + j] * x[j];
    }
}

static void input_backward(const Cell *cell, const double *x, double *dx)
{
    for (size_t row = 0; row < cell->size.G * cell->size.H; row++) {
        if (cell->w[B_IH])
            cell->dw[B_IH][row] += cell->da[row];
        if (cell->skip)
            dx[row % cell->size.H] += cell->da[row];
        for (size_t j = 0; j < cell->inputs && !cell->skip; j++) {
            cell->dw[W_IH][row * cell->inputs + j] += cell->da[row] * x[j];
            dx[j] += cell->da[row] * cell->w[W_IH][row * cell->inputs + j];
        }
    }
}

static void lstm_forward(const Cell *cell, size_t k)
{
    const VklRnnDesc *desc = &cell->run->desc;
    const size_t H = cell->size.H, P = cell->size.P;
    const double *h = cell->h + k * P, *c = cell->c + k * H, *p = cell->w[W_CH];
    double *a = cell->a + k * 4 * H, *s = cell->s + k * 4 * H, *h_next = cell->h + (k + 1) * P, *c_next = cell->c + (k + 1) * H;
    for (size_t g = 0; g < 4; g++) {
        operand(cell, g, h, NULL);
        for (size_t u = 0; u < H; u++)
            a[g * H + u] += recurrent(cell, g, u);
    }
    for (size_t u = 0; u < H; u++) {
        double *i = &s[u], *f = &s[H + u], *g = &s[2 * H + u], *o = &s[3 * H + u];
        a[u] += p ? p[u] * c[u] : 0;
        a[H + u] += p ? p[H + u] * c[u] : 0;
        *i = gate(cell, 0, a[u]);
        *f = desc->input_forget ? 1 - *i : gate(cell, 0, a[H + u]);
        *g = gate(cell, 1, a[2 * H + u]);
        const double sum = *f * c[u] + *i * *g;
        if (desc->cell_clip > 0)
            note(cell->run, fabs(sum) - desc->cell_clip);
        c_next[u] = clip(sum, desc->cell_clip);
        a[3 * H + u] += p ? p[2 * H + u] * c_next[u] : 0;
        *o = gate(cell, 0, a[3 * H + u]);
        note_kinks(cell->run, &cell->activation[2], c_next[u]);
        cell->v[u] = *o * ref_activation(&cell->activation[2], c_next[u]);
    }
    for (size_t j = 0; j < P; j++) {
        h_next[j] = desc->projection ? 0 : cell->v[j];
        for (size_t u = 0; u < H && desc->projection; u++)
            h_next[j] += cell->w[W_HR][j * H + u] * cell->v[u];
    }
}

/* dh[P] and dc[H] are the gradients of h[k + 1] and c[k + 1] and become those of h[k] and c[k]; da those of the arguments. */
static void lstm_backward(const Cell *cell, size_t k, double *dh, double *dc)
{
    const VklRnnDesc *desc = &cell->run->desc;
    const size_t H = cell->size.H, P = cell->size.P;
    const double *h = cell->h + k * P, *c = cell->c + k * H, *c_next = cell->c + (k + 1) * H, *p = cell->w[W_CH];
    const double *a = cell->a + k * 4 * H, *s = cell->s + k * 4 * H;
    double *da = cell->da, *dp = cell->dw[W_CH];
    for (size_t u = 0; u < H; u++) {
        const double v = s[3 * H + u] * ref_activation(&cell->activation[2], c_next[u]);
        cell->dv[u] = desc->projection ? 0 : dh[u];
        for (size_t j = 0; j < P && desc->projection; j++) {
            cell->dv[u] += cell->w[W_HR][j * H + u] * dh[j];
            cell->dw[W_HR][j * H + u] += dh[j] * v;
        }
    }
    for (size_t u = 0; u < H; u++) {
        const double i = s[u], f = s[H + u], g = s[2 * H + u], o = s[3 * H + u], dv = cell->dv[u];
        const double di_of_f = desc->input_forget ? -c[u] : 0; /* f = 1 - i */
        da[3 * H + u] = dv * ref_activation(&cell->activation[2], c_next[u]) * gate_slope(cell, 0, a[3 * H + u]);
        double dsum = dc[u] + dv * o * ref_activation_slope(&cell->activation[2], c_next[u]);
        dsum += p ? da[3 * H + u] * p[2 * H + u] : 0;
        dsum = clipped(f * c[u] + i * g, desc->cell_clip) ? 0 : dsum;
        da[u] = dsum * (g + di_of_f) * gate_slope(cell, 0, a[u]);
        da[H + u] = desc->input_forget ? 0 : dsum * c[u] * gate_slope(cell, 0, a[H + u]);
        da[2 * H + u] = dsum * i * gate_slope(cell, 1, a[2 * H + u]);
        dc[u] = dsum * f;
        if (p) {
            dc[u] += da[u] * p[u] + da[H + u] * p[H + u];
            dp[u] += da[u] * c[u];
            dp[H + u] += da[H + u] * c[u];
            dp[2 * H + u] += da[3 * H + u] * c_next[u];
        }
    }
    memset(dh, 0, P * sizeof(double));
    for (size_t g = 0; g < 4; g++) {
        operand(cell, g, h, NULL);
        recurrent_backward(cell, g, da + g * H);
        for (size_t j = 0; j < P; j++)
            dh[j] += masked(cell->mask[g * P + j], cell->dop[j]);
    }
}

static void gru_forward(const Cell *cell, size_t k)
{
    const bool after = cell->run->desc.reset_after;
    const size_t H = cell->size.H;
    const double *h = cell->h + k * H;
    double *a = cell->a + k * 3 * H, *r = cell->s + k * 3 * H, *z = r + H, *n = z + H, *q = cell->q + k * H;
    for (size_t g = 0; g < 2; g++) {
        operand(cell, g, h, NULL);
        for (size_t u = 0; u < H; u++) {
            a[g * H + u] += recurrent(cell, g, u);
            r[g * H + u] = gate(cell, 0, a[g * H + u]);
        }
    }
    operand(cell, 2, h, after ? NULL : r);
    for (size_t u = 0; u < H; u++) {
        q[u] = recurrent(cell, 2, u);
        a[2 * H + u] += after ? r[u] * q[u] : q[u];
        n[u] = gate(cell, 1, a[2 * H + u]);
        cell->h[(k + 1) * H + u] = (1 - z[u]) * n[u] + z[u] * h[u];
    }
}

static void gru_backward(const Cell *cell, size_t k, double *dh)
{
    const bool after = cell->run->desc.reset_after;
    const size_t H = cell->size.H;
    const double *h = cell->h + k * H, *a = cell->a + k * 3 * H, *r = cell->s + k * 3 * H, *z = r + H, *n = z + H;
    const double *q = cell->q + k * H, *mask = cell->mask;
    double *da = cell->da, *dq = cell->dv;
    for (size_t u = 0; u < H; u++) {
        da[H + u] = dh[u] * (h[u] - n[u]) * gate_slope(cell, 0, a[H + u]);
        da[2 * H + u] = dh[u] * (1 - z[u]) * gate_slope(cell, 1, a[2 * H + u]);
        dh[u] *= z[u];
        dq[u] = after ? da[2 * H + u] * r[u] : da[2 * H + u];
    }
    operand(cell, 2, h, after ? NULL : r);
    recurrent_backward(cell, 2, dq);
    for (size_t u = 0; u < H; u++) {
        const double m = mask[2 * H + u], dr = after ? da[2 * H + u] * q[u] : cell->dop[u] * masked(m, h[u]);
        da[u] = dr * gate_slope(cell, 0, a[u]);
        dh[u] += masked(m, cell->dop[u]) * (after ? 1 : r[u]);
    }
    for (size_t g = 0; g < 2; g++) {
        operand(cell, g, h, NULL);
        recurrent_backward(cell, g, da + g * H);
        for (size_t u = 0; u < H; u++)
            dh[u] += masked(mask[g * H + u], cell->dop[u]);
    }
}

static void rnn_forward(const Cell *cell, size_t k)
{
    const size_t H = cell->size.H;
    operand(cell, 0, cell->h + k * H, NULL);
    for (size_t u = 0; u < H; u++) {
        cell->a[k * H + u] += recurrent(cell, 0, u);
        cell->h[(k + 1) * H + u] = gate(cell, 0, cell->a[k * H + u]);
    }
}

static void rnn_backward(const Cell *cell, size_t k, double *dh)
{
    const size_t H = cell->size.H;
    for (size_t u = 0; u < H; u++)
        cell->da[u] = dh[u] * gate_slope(cell, 0, cell->a[k * H + u]);
    operand(cell, 0, cell->h + k * H, NULL);
    recurrent_backward(cell, 0, cell->da);
    for (size_t u = 0; u < H; u++)
        dh[u] = masked(cell->mask[u], cell->dop[u]);
}

static void step_forward(const Cell *cell, size_t k, const double *x)
{
    input(cell, x, cell->a + k * cell->size.G * cell->size.H);
    switch (cell->run->desc.cell) {
    case VKL_CELL_LSTM:
        lstm_forward(cell, k);
        break;
    case VKL_CELL_GRU:
        gru_forward(cell, k);
        break;
    default:
        rnn_forward(cell, k);
    }
}

static void step_backward(const Cell *cell, size_t k, const double *x, double *dx, double *dh, double *dc)
{
    switch (cell->run->desc.cell) {
    case VKL_CELL_LSTM:
        lstm_backward(cell, k, dh, dc);
        break;
    case VKL_CELL_GRU:
        gru_backward(cell, k, dh);
        break;
    default:
        rnn_backward(cell, k, dh);
    }
    input_backward(cell, x, dx);
}

/* ---- All layers, one row ---- */

typedef struct Row {
    RefRnn *run;
    Sizes size;
    size_t n, length;
    Cell *cells;     /* [L D] */
    double **inputs; /* [L + 1] of [T][inputs of the layer], dropout taken in; the last is the top layer's output */
    double *dy, *din, *dh, *dc;
} Row;

static bool is_reverse(const RefRnn *run, size_t direction)
{
    return direction == 1 || run->desc.direction == VKL_DIRECTION_REVERSE;
}

/* Which time step a direction's step k is: the reverse direction begins at the row's own end. */
static size_t time_of(const Row *row, size_t direction, size_t k)
{
    return is_reverse(row->run, direction) ? row->length - 1 - k : k;
}

static size_t at(const Row *row, size_t t, size_t columns)
{
    const RefRnn *run = row->run;
    return (run->desc.batch_first ? row->n * run->T + t : t * run->N + row->n) * columns;
}

/* The factors of a layer's input: input_dropout of x, dropout between layers. */
static double input_mask(const Row *row, size_t layer, size_t t, size_t feature)
{
    const VklRnnDesc *desc = &row->run->desc;
    return draw(row->run, layer ? desc->dropout : desc->input_dropout, 3 * layer * row->size.D,
                (size_t)row->run->dropout.first_step + t, row->n, feature);
}

/* Where a direction's output column j stands in the merged output. */
static size_t merged(const Row *row, size_t direction, size_t j)
{
    return row->run->desc.merge == VKL_MERGE_CONCAT ? direction * row->size.P + j : j;
}

static void row_forward(Row *row)
{
    RefRnn *run = row->run;
    const VklRnnDesc *desc = &run->desc;
    const Sizes s = row->size;
    const size_t G = s.G, H = s.H, P = s.P, W = s.W;
    for (size_t t = 0; t < row->length; t++)
        memcpy(row->inputs[0] + t * desc->input_size, run->x + at(row, t, desc->input_size), desc->input_size * sizeof(double));
    for (size_t layer = 0; layer < s.L; layer++) {
        const size_t inputs = inputs_of(desc, layer);
        for (size_t t = 0; t < row->length; t++)
            for (size_t j = 0; j < inputs; j++) {
                double *x = &row->inputs[layer][t * inputs + j];
                *x = masked(input_mask(row, layer, t, j), *x);
            }
        double *y = row->inputs[layer + 1];
        memset(y, 0, run->T * W * sizeof(double));
        for (size_t d = 0; d < s.D; d++) {
            const size_t index = layer * s.D + d, state = index * run->N + row->n;
            const Cell *cell = &row->cells[index];
            for (size_t j = 0; j < P; j++)
                cell->h[j] = run->h0 ? run->h0[state * P + j] : 0;
            for (size_t u = 0; u < H; u++)
                cell->c[u] = run->c0 ? run->c0[state * H + u] : 0;
            for (size_t g = 0; g < G; g++)
                for (size_t j = 0; j < P; j++) {
                    const bool per_gate = desc->recurrent_dropout_mode == VKL_RECURRENT_DROPOUT_PER_GATE;
                    cell->mask[g * P + j] =
                        draw(run, desc->recurrent_dropout, 3 * index + 1, 0, row->n, (per_gate ? g * P : 0) + j);
                }
            for (size_t k = 0; k < row->length; k++) {
                const size_t t = time_of(row, d, k);
                step_forward(cell, k, row->inputs[layer] + t * inputs);
                for (size_t j = 0; j < P; j++)
                    y[t * W + merged(row, d, j)] += cell->h[(k + 1) * P + j];
            }
            if (run->hn)
                memcpy(run->hn + state * P, cell->h + row->length * P, P * sizeof(double));
            if (run->cn && desc->cell == VKL_CELL_LSTM)
                memcpy(run->cn + state * H, cell->c + row->length * H, H * sizeof(double));
        }
    }
    const double *y = row->inputs[s.L];
    for (size_t t = 0; run->y && !desc->last_only && t < run->T; t++)
        for (size_t j = 0; j < W; j++)
            run->y[at(row, t, W) + j] = t < row->length ? y[t * W + j] : desc->padding_value;
    if (run->y && desc->last_only) { /* the final state of each direction */
        memset(run->y + row->n * W, 0, W * sizeof(double));
        for (size_t d = 0; d < s.D; d++)
            for (size_t j = 0; j < P; j++)
                run->y[row->n * W + merged(row, d, j)] += row->cells[(s.L - 1) * s.D + d].h[row->length * P + j];
    }
}

static void row_backward(Row *row)
{
    RefRnn *run = row->run;
    const VklRnnDesc *desc = &run->desc;
    const Sizes s = row->size;
    const size_t H = s.H, P = s.P, W = s.W, I = desc->input_size;
    memset(row->dy, 0, run->T * W * sizeof(double));
    for (size_t t = 0; run->gy && !desc->last_only && t < row->length; t++)
        memcpy(row->dy + t * W, run->gy + at(row, t, W), W * sizeof(double));
    for (size_t layer = s.L; layer-- > 0;) {
        const size_t inputs = inputs_of(desc, layer);
        memset(row->din, 0, run->T * inputs * sizeof(double));
        for (size_t d = 0; d < s.D; d++) {
            const size_t index = layer * s.D + d, state = index * run->N + row->n;
            for (size_t j = 0; j < P; j++) {
                row->dh[j] = run->ghn ? run->ghn[state * P + j] : 0;
                if (run->gy && desc->last_only && layer == s.L - 1)
                    row->dh[j] += run->gy[row->n * W + merged(row, d, j)];
            }
            for (size_t u = 0; u < H; u++)
                row->dc[u] = run->gcn ? run->gcn[state * H + u] : 0;
            for (size_t k = row->length; k-- > 0;) {
                const size_t t = time_of(row, d, k);
                for (size_t j = 0; j < P; j++)
                    row->dh[j] += row->dy[t * W + merged(row, d, j)];
                step_backward(&row->cells[index], k, row->inputs[layer] + t * inputs, row->din + t * inputs, row->dh, row->dc);
            }
            if (run->dh0)
                memcpy(run->dh0 + state * P, row->dh, P * sizeof(double));
            if (run->dc0 && desc->cell == VKL_CELL_LSTM)
                memcpy(run->dc0 + state * H, row->dc, H * sizeof(double));
        }
        for (size_t t = 0; t < row->length; t++)
            for (size_t j = 0; j < inputs; j++)
                row->din[t * inputs + j] = masked(input_mask(row, layer, t, j), row->din[t * inputs + j]);
        double *swap = row->dy; /* the gradient of this layer's input is that of the output of the layer below */
        row->dy = row->din;
        row->din = swap;
    }
    for (size_t t = 0; run->dx && t < run->T; t++)
        memcpy(run->dx + at(row, t, I), row->dy + t * I, I * sizeof(double));
}

/* ---- All rows ---- */

/* Everything that one row needs in one allocation: first called with memory NULL, to count it. */
static size_t lay_out(Row *row, double *memory)
{
    const RefRnn *run = row->run;
    const Sizes s = row->size;
    const size_t T = run->T, widest = run->desc.input_size > s.W ? run->desc.input_size : s.W;
    size_t used = 0;
#define TAKE(pointer, count)                     \
    do {                                         \
        pointer = memory ? memory + used : NULL; \
        used += (count);                         \
    } while (0)
    for (size_t index = 0; index < s.L * s.D; index++) {
        Cell *cell = &row->cells[index];
        TAKE(cell->mask, s.G * s.P);
        TAKE(cell->a, T * s.G * s.H);
        TAKE(cell->s, T * s.G * s.H);
        TAKE(cell->q, T * s.H);
        TAKE(cell->h, (T + 1) * s.P);
        TAKE(cell->c, (T + 1) * s.H);
        TAKE(cell->da, s.G * s.H);
        TAKE(cell->op, s.P);
        TAKE(cell->dop, s.P);
        TAKE(cell->v, s.H);
        TAKE(cell->dv, s.H);
    }
    for (size_t layer = 0; layer <= s.L; layer++)
        TAKE(row->inputs[layer], T * widest);
    TAKE(row->dy, T * widest);
    TAKE(row->din, T * widest);
    TAKE(row->dh, s.P);
    TAKE(row->dc, s.H);
#undef TAKE
    return used;
}

bool ref_rnn(RefRnn *run)
{
    const VklRnnDesc *desc = &run->desc;
    Row row = {.run = run, .size = sizes_of(desc)};
    const Sizes s = row.size;
    double *memory = NULL;
    row.cells = calloc(s.L * s.D, sizeof(Cell));
    row.inputs = calloc(s.L + 1, sizeof(double *));
    if (row.cells && row.inputs)
        memory = calloc(lay_out(&row, NULL), sizeof(double));
    if (memory)
        lay_out(&row, memory);
    for (size_t index = 0; memory && index < s.L * s.D; index++) {
        Cell *cell = &row.cells[index];
        const size_t layer = index / s.D, d = index % s.D;
        cell->run = run;
        cell->size = s;
        cell->inputs = inputs_of(desc, layer);
        cell->skip = desc->skip_input && layer == 0;
        cell->activation = desc->activations[is_reverse(run, d)];
        for (int kind = 0; kind < KINDS; kind++) {
            const size_t place = place_of(desc, layer, d, kind);
            cell->w[kind] = has(desc, layer, kind) ? run->params[place] : NULL;
            cell->dw[kind] = has(desc, layer, kind) && run->dparams ? run->dparams[place] : NULL;
        }
    }
    for (size_t k = 0; run->dparams && k < ref_rnn_tensors(desc); k++) {
        const RefTensor tensor = ref_rnn_tensor(desc, k);
        memset(run->dparams[k], 0, tensor.rows * tensor.columns * sizeof(double));
    }
    run->nearest = INFINITY;
    for (row.n = 0; memory && row.n < run->N; row.n++) {
        row.length = run->lengths && run->lengths[row.n] < run->T ? run->lengths[row.n] : run->T;
        row_forward(&row);
        if (run->dparams)
            row_backward(&row);
    }
    free(row.cells);
    free(row.inputs);
    free(memory);
    return memory != NULL;
}

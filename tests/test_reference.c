/* SPDX-License-Identifier: MIT
 *
 * The oracle of the other tests against two judges: finite differences of itself, for every gradient, and PyTorch's results.
 * What stands here is in double precision; no device is used.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "harness.h"
#include "reference.h"

/* A golden number is PyTorch's float64 rounded to float32: half a unit in the last place is 2^-24 = 6e-8 of it. */
#define GOLDEN_TOLERANCE 6.1e-8

/* Central differences of step 1e-5: the cut-off of the series is about 1e-10 of the third derivative, cancellation
 * 2^-53 |f| / 1e-5, about 1e-10 for the sums here. */
#define DIFFERENCE_STEP 1e-5
#define DIFFERENCE_TOLERANCE 1e-8

static double *random_doubles(size_t count, uint32_t seed, float scale)
{
    float *narrow = malloc(count * sizeof(float));
    double *wide = malloc(count * sizeof(double));
    cr_assert(narrow && wide);
    test_random(narrow, count, seed, scale);
    for (size_t k = 0; k < count; k++)
        wide[k] = narrow[k];
    free(narrow);
    return wide;
}

static double *widen(const float *narrow, size_t count)
{
    double *wide = malloc(count * sizeof(double));
    cr_assert_not_null(wide);
    for (size_t k = 0; k < count; k++)
        wide[k] = narrow[k];
    return wide;
}

static double *zeros(size_t count)
{
    double *numbers = calloc(count, sizeof(double));
    cr_assert_not_null(numbers);
    return numbers;
}

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t k = 0; k < count; k++)
        sum += a[k] * b[k];
    return sum;
}

/* Moves each of variable[count] and compares how function(data) follows with gradient[count]. */
static void check_gradient(const char *what, double (*function)(void *data), void *data, double *variable, const double *gradient,
                           size_t count)
{
    for (size_t k = 0; k < count; k++) {
        const double kept = variable[k];
        variable[k] = kept + DIFFERENCE_STEP;
        const double above = function(data);
        variable[k] = kept - DIFFERENCE_STEP;
        const double below = function(data);
        variable[k] = kept;
        const double slope = (above - below) / (2 * DIFFERENCE_STEP);
        cr_assert(fabs(slope - gradient[k]) <= DIFFERENCE_TOLERANCE * fmax(1, fabs(slope)),
                  "%s[%zu]: gradient %.12g, slope %.12g", what, k, gradient[k], slope);
    }
}

/* ---- LSTM ---- */

typedef struct Lstm {
    RefLstm size;
    double *params, *x, *h0, *c0, *gy, *ghn, *gcn;
    double *y, *hn, *cn;
    double *dx, *dh0, *dc0, *dparams;
} Lstm;

static void lstm_outputs(Lstm *net)
{
    const size_t state = net->size.N * net->size.H, sequence = net->size.T * net->size.N;
    net->y = zeros(net->size.T * state);
    net->hn = zeros(net->size.L * state);
    net->cn = zeros(net->size.L * state);
    net->dx = zeros(sequence * net->size.I);
    net->dh0 = zeros(net->size.L * state);
    net->dc0 = zeros(net->size.L * state);
    net->dparams = zeros(ref_lstm_params(&net->size));
}

static Lstm lstm_random(RefLstm size)
{
    Lstm net = {.size = size};
    const size_t state = size.N * size.H;
    net.params = random_doubles(ref_lstm_params(&size), 1, 0.7f);
    net.x = random_doubles(size.T * size.N * size.I, 2, 1);
    net.h0 = random_doubles(size.L * state, 3, 1);
    net.c0 = random_doubles(size.L * state, 4, 1);
    net.gy = random_doubles(size.T * state, 5, 1);
    net.ghn = random_doubles(size.L * state, 6, 1);
    net.gcn = random_doubles(size.L * state, 7, 1);
    lstm_outputs(&net);
    return net;
}

static void lstm_free(Lstm *net)
{
    double *arrays[] = {net->params, net->x,  net->h0, net->c0, net->gy,  net->ghn, net->gcn,
                        net->y,      net->hn, net->cn, net->dx, net->dh0, net->dc0, net->dparams};
    for (size_t k = 0; k < sizeof(arrays) / sizeof(arrays[0]); k++)
        free(arrays[k]);
}

static void lstm_run(Lstm *net)
{
    ref_lstm(&net->size, net->params, net->x, net->h0, net->c0, net->gy, net->ghn, net->gcn, net->y, net->hn, net->cn, net->dx,
             net->dh0, net->dc0, net->dparams);
}

/* A function of every output, whose gradients to y, hn and cn are gy, ghn and gcn. */
static double lstm_function(void *data)
{
    Lstm *net = data;
    const size_t state = net->size.N * net->size.H;
    ref_lstm(&net->size, net->params, net->x, net->h0, net->c0, NULL, NULL, NULL, net->y, net->hn, net->cn, NULL, NULL, NULL,
             NULL);
    double sum = net->gy ? dot(net->gy, net->y, net->size.T * state) : 0;
    sum += net->ghn ? dot(net->ghn, net->hn, net->size.L * state) : 0;
    sum += net->gcn ? dot(net->gcn, net->cn, net->size.L * state) : 0;
    return sum;
}

static const RefLstm lstm_sizes[] = {{1, 1, 1, 1, 1}, {3, 2, 3, 4, 2}, {4, 3, 1, 3, 1}, {2, 1, 5, 2, 3}, {9, 2, 2, 3, 1}};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void lstm_check_gradients(Lstm *net)
{
    const size_t state = net->size.N * net->size.H;
    lstm_run(net);
    check_gradient("dx", lstm_function, net, net->x, net->dx, net->size.T * net->size.N * net->size.I);
    if (net->h0)
        check_gradient("dh0", lstm_function, net, net->h0, net->dh0, net->size.L * state);
    if (net->c0)
        check_gradient("dc0", lstm_function, net, net->c0, net->dc0, net->size.L * state);
    check_gradient("dparams", lstm_function, net, net->params, net->dparams, ref_lstm_params(&net->size));
}

Test(reference, lstm_gradients_are_the_slopes)
{
    for (size_t k = 0; k < COUNT(lstm_sizes); k++) {
        Lstm net = lstm_random(lstm_sizes[k]);
        lstm_check_gradients(&net);
        lstm_free(&net);
    }
}

Test(reference, lstm_gradients_are_the_slopes_of_each_output_alone)
{
    for (int only = 0; only < 3; only++) {
        Lstm net = lstm_random(lstm_sizes[1]);
        double **outputs[] = {&net.gy, &net.ghn, &net.gcn};
        for (int k = 0; k < 3; k++) {
            if (k != only) {
                free(*outputs[k]);
                *outputs[k] = NULL;
            }
        }
        lstm_check_gradients(&net);
        lstm_free(&net);
    }
}

Test(reference, lstm_absent_states_are_zeros)
{
    Lstm absent = lstm_random(lstm_sizes[1]), zero = lstm_random(lstm_sizes[1]);
    const size_t states = zero.size.L * zero.size.N * zero.size.H;
    free(absent.h0);
    free(absent.c0);
    absent.h0 = absent.c0 = NULL;
    memset(zero.h0, 0, states * sizeof(double));
    memset(zero.c0, 0, states * sizeof(double));
    lstm_check_gradients(&absent);
    lstm_run(&absent);
    lstm_run(&zero);
    cr_assert_eq(memcmp(absent.y, zero.y, zero.size.T * zero.size.N * zero.size.H * sizeof(double)), 0);
    cr_assert_eq(memcmp(absent.dparams, zero.dparams, ref_lstm_params(&zero.size) * sizeof(double)), 0);
    lstm_free(&absent);
    lstm_free(&zero);
}

Test(reference, lstm_is_pytorchs)
{
    for (size_t k = 0; golden_lstm[k]; k++) {
        Golden *golden = golden_open(golden_lstm[k]);
        Lstm net = {.size = golden_lstm_size(golden)};
        const size_t state = net.size.N * net.size.H, states = net.size.L * state, sequence = net.size.T * state;
        const size_t inputs = net.size.T * net.size.N * net.size.I, params = ref_lstm_params(&net.size);
        float *tensors = malloc(params * sizeof(float));
        cr_assert_not_null(tensors);
        golden_lstm_params(golden, "", tensors);
        net.params = widen(tensors, params);
        net.x = widen(golden_tensor(golden, "x", inputs), inputs);
        net.h0 = widen(golden_tensor(golden, "h0", states), states);
        net.c0 = widen(golden_tensor(golden, "c0", states), states);
        net.gy = widen(golden_tensor(golden, "gy", sequence), sequence);
        net.ghn = widen(golden_tensor(golden, "ghn", states), states);
        net.gcn = widen(golden_tensor(golden, "gcn", states), states);
        lstm_outputs(&net);
        lstm_run(&net);

        const struct {
            const char *name;
            const double *want;
            size_t count;
        } outputs[] = {{"y", net.y, sequence}, {"hn", net.hn, states},   {"cn", net.cn, states},
                       {"dx", net.dx, inputs}, {"dh0", net.dh0, states}, {"dc0", net.dc0, states}};
        for (size_t o = 0; o < COUNT(outputs); o++) {
            char what[128];
            snprintf(what, sizeof(what), "%s %s", golden_lstm[k], outputs[o].name);
            test_compare(what, golden_tensor(golden, outputs[o].name, outputs[o].count), outputs[o].want, outputs[o].count,
                         GOLDEN_TOLERANCE);
        }
        golden_lstm_params(golden, "d", tensors);
        test_compare(golden_lstm[k], tensors, net.dparams, params, GOLDEN_TOLERANCE);
        free(tensors);
        lstm_free(&net);
        golden_close(golden);
    }
}

/* ---- Dense ---- */

typedef struct Dense {
    size_t rows, I, O;
    VklActivation activation;
    double *params, *x, *gy, *y, *dx, *dparams;
} Dense;

static double dense_function(void *data)
{
    Dense *dense = data;
    ref_dense_forward(dense->rows, dense->I, dense->O, dense->activation, dense->params, dense->x, dense->y);
    return dot(dense->gy, dense->y, dense->rows * dense->O);
}

static void dense_free(Dense *dense)
{
    double *arrays[] = {dense->params, dense->x, dense->gy, dense->y, dense->dx, dense->dparams};
    for (size_t k = 0; k < COUNT(arrays); k++)
        free(arrays[k]);
}

Test(reference, dense_gradients_are_the_slopes)
{
    for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++) {
        Dense dense = {.rows = 3, .I = 5, .O = 4, .activation = (VklActivation)activation};
        dense.params = random_doubles(dense.O * dense.I + dense.O, 1, 1);
        dense.x = random_doubles(dense.rows * dense.I, 2, 1);
        dense.gy = random_doubles(dense.rows * dense.O, 3, 1);
        dense.y = zeros(dense.rows * dense.O);
        dense.dx = zeros(dense.rows * dense.I);
        dense.dparams = zeros(dense.O * dense.I + dense.O);
        dense_function(&dense);
        ref_dense_backward(dense.rows, dense.I, dense.O, dense.activation, dense.params, dense.x, dense.y, dense.gy, dense.dx,
                           dense.dparams);
        check_gradient("dx", dense_function, &dense, dense.x, dense.dx, dense.rows * dense.I);
        check_gradient("dparams", dense_function, &dense, dense.params, dense.dparams, dense.O * dense.I + dense.O);
        dense_free(&dense);
    }
}

Test(reference, dense_is_pytorchs)
{
    for (size_t k = 0; golden_dense[k]; k++) {
        Golden *golden = golden_open(golden_dense[k]);
        Dense dense = {golden_size(golden, "rows"),
                       golden_size(golden, "I"),
                       golden_size(golden, "O"),
                       VKL_ACTIVATION_NONE,
                       NULL,
                       NULL,
                       NULL,
                       NULL,
                       NULL,
                       NULL};
        cr_assert(vkl_activation(golden_text(golden, "activation"), &dense.activation));
        const size_t weights = dense.O * dense.I, outputs = dense.rows * dense.O, inputs = dense.rows * dense.I;
        dense.params = zeros(weights + dense.O);
        double *w = widen(golden_tensor(golden, "weight", weights), weights);
        double *b = widen(golden_tensor(golden, "bias", dense.O), dense.O);
        memcpy(dense.params, w, weights * sizeof(double));
        memcpy(dense.params + weights, b, dense.O * sizeof(double));
        free(w);
        free(b);
        dense.x = widen(golden_tensor(golden, "x", inputs), inputs);
        dense.gy = widen(golden_tensor(golden, "gy", outputs), outputs);
        dense.y = zeros(outputs);
        dense.dx = zeros(inputs);
        dense.dparams = zeros(weights + dense.O);
        ref_dense_forward(dense.rows, dense.I, dense.O, dense.activation, dense.params, dense.x, dense.y);
        ref_dense_backward(dense.rows, dense.I, dense.O, dense.activation, dense.params, dense.x, dense.y, dense.gy, dense.dx,
                           dense.dparams);
        test_compare(golden_dense[k], golden_tensor(golden, "y", outputs), dense.y, outputs, GOLDEN_TOLERANCE);
        test_compare(golden_dense[k], golden_tensor(golden, "dx", inputs), dense.dx, inputs, GOLDEN_TOLERANCE);
        test_compare(golden_dense[k], golden_tensor(golden, "dweight", weights), dense.dparams, weights, GOLDEN_TOLERANCE);
        test_compare(golden_dense[k], golden_tensor(golden, "dbias", dense.O), dense.dparams + weights, dense.O,
                     GOLDEN_TOLERANCE);
        dense_free(&dense);
        golden_close(golden);
    }
}

/* ---- Losses ---- */

typedef struct Loss {
    VklLoss kind;
    double delta;
    size_t count;
    double *predicted, *target;
} Loss;

static double loss_function(void *data)
{
    const Loss *loss = data;
    return ref_loss(loss->kind, loss->delta, loss->count, loss->predicted, loss->target, NULL);
}

Test(reference, loss_gradients_are_the_slopes)
{
    for (int kind = VKL_LOSS_MSE; kind <= VKL_LOSS_HUBER; kind++) {
        Loss loss = {(VklLoss)kind, 0.5, 29, random_doubles(29, 1, 1), random_doubles(29, 2, 1)};
        double gradient[29];
        ref_loss(loss.kind, loss.delta, loss.count, loss.predicted, loss.target, gradient);
        check_gradient("gradient", loss_function, &loss, loss.predicted, gradient, loss.count);
        free(loss.predicted);
        free(loss.target);
    }
}

Test(reference, losses_are_pytorchs)
{
    for (size_t k = 0; golden_loss[k]; k++) {
        Golden *golden = golden_open(golden_loss[k]);
        Loss loss = {.delta = golden_number(golden, "delta", 1), .count = golden_size(golden, "count")};
        cr_assert(vkl_loss(golden_text(golden, "loss"), &loss.kind));
        loss.predicted = widen(golden_tensor(golden, "predicted", loss.count), loss.count);
        loss.target = widen(golden_tensor(golden, "target", loss.count), loss.count);
        double *gradient = zeros(loss.count);
        const double value = ref_loss(loss.kind, loss.delta, loss.count, loss.predicted, loss.target, gradient);
        test_compare(golden_loss[k], golden_tensor(golden, "loss", 1), &value, 1, GOLDEN_TOLERANCE);
        test_compare(golden_loss[k], golden_tensor(golden, "gradient", loss.count), gradient, loss.count, GOLDEN_TOLERANCE);
        free(gradient);
        free(loss.predicted);
        free(loss.target);
        golden_close(golden);
    }
}

/* ---- Optimizers ---- */

Test(reference, optimizers_are_pytorchs)
{
    for (size_t k = 0; golden_optimizer[k]; k++) {
        Golden *golden = golden_open(golden_optimizer[k]);
        const VklOptimizerDesc desc = golden_optimizer_desc(golden);
        const size_t steps = golden_size(golden, "steps"), count = golden_size(golden, "count");
        double *params = widen(golden_tensor(golden, "start", count), count);
        double *grads = widen(golden_tensor(golden, "grads", steps * count), steps * count);
        const float *want = golden_tensor(golden, "params", steps * count);
        double *m = zeros(count), *v = zeros(count);
        for (size_t step = 1; step <= steps; step++) {
            ref_optimizer_step(&desc, step, count, params, grads + (step - 1) * count, m, v);
            test_compare(golden_optimizer[k], want + (step - 1) * count, params, count, GOLDEN_TOLERANCE);
        }
        free(params);
        free(grads);
        free(m);
        free(v);
        golden_close(golden);
    }
}

/* SPDX-License-Identifier: MIT */
#include "suite.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "covering.h"
#include "trial.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define ITEMS_MAX 1024
#define SATURATED 1e4

const char *const suite_group_names[SUITE_GROUPS] = {"options", "sizes", "extremes", "limits", "training"};
const char *const suite_tensor_names[SUITE_TENSORS] = {"y",     "hn",    "cn",    "dx",    "dh0",   "dc0",
                                                       "dw_ih", "dw_hh", "db_ih", "db_hh", "dw_hr", "dw_ch"};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* ---- The cases ---- */

typedef enum Extreme { PLAIN, SATURATED_BIAS, SATURATED_X, NAN_X, NAN_STATE, NAN_WEIGHT } Extreme;
typedef enum Limits { LIMITS_OWN, LIMITS_FLOOR, LIMITS_NARROW, LIMITS_COUNT } Limits;

typedef struct Item {
    SuiteGroup group;
    Limits limits;
    const CoveringRow *row; /* NULL: what follows */
    VklRnnDesc desc;
    size_t T, N;
    ProblemLengths lengths;
    Extreme extreme;
    const char *layers; /* of a training; NULL: one operator */
} Item;

typedef struct Items {
    CoveringRow rows[COVERING_CAPACITY];
    size_t count;
    Item item[ITEMS_MAX];
} Items;

static void add(Items *items, Item item)
{
    if (items->count < ITEMS_MAX)
        items->item[items->count++] = item;
}

static void add_options(Items *items)
{
    const size_t count = covering_table(items->rows, false);
    for (size_t k = 0; k < count; k++)
        add(items, (Item){.group = SUITE_OPTIONS, .row = &items->rows[k]});
}

enum { LSTM, GRU_AFTER, GRU_BEFORE, RNN_TANH, RNN_RELU, CELLS };

static VklRnnDesc cell_desc(unsigned cell, uint64_t I, uint64_t H)
{
    static const VklCell kinds[CELLS] = {VKL_CELL_LSTM, VKL_CELL_GRU, VKL_CELL_GRU, VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU};
    VklRnnDesc desc = vkl_rnn_desc(kinds[cell], I, H);
    if (cell == GRU_BEFORE)
        desc.reset_after = false;
    return desc;
}

/* Sizes of 1, those that are no multiple of anything, and N T around 2^16 and beyond two dispatches of it. relu is left out: among many
 * numbers some are at its kink. */
static void add_sizes(Items *items)
{
    static const uint64_t units[] = {1, 3, 7, 33, 65, 130, 257};
    static const size_t long_ones[][2] = {{1, 65535}, {1, 65536}, {1, 65537}, {255, 257}, {3, 43691}};
    for (unsigned cell = 0; cell < RNN_RELU; cell++) {
        for (size_t k = 0; k < COUNT(units); k++)
            add(items, (Item){.group = SUITE_SIZES, .desc = cell_desc(cell, 5, units[k]), .T = 3, .N = 2});
        Item item = {.group = SUITE_SIZES, .desc = cell_desc(cell, 3, 5), .T = 9, .N = 1};
        add(items, item); /* one row */
        item.T = 1;
        item.N = 4;
        item.desc.layers = 2;
        add(items, item); /* one step */
        item.T = 3;
        item.desc.direction = VKL_DIRECTION_BOTH;
        item.lengths = PROBLEM_EMPTY;
        add(items, item);
        item.lengths = PROBLEM_RAGGED;
        item.desc.layers = 5;
        add(items, item); /* many layers */
        add(items, (Item){.group = SUITE_SIZES, .desc = cell_desc(cell, 257, 3), .T = 2, .N = 3});
        if (cell != LSTM)
            add(items, (Item){.group = SUITE_SIZES, .desc = cell_desc(cell, 2, 3), .T = 2, .N = 33000});
    }
    for (size_t k = 0; k < COUNT(long_ones); k++)
        add(items, (Item){.group = SUITE_SIZES,
                          .desc = cell_desc(LSTM, 2, 3),
                          .T = long_ones[k][0],
                          .N = long_ones[k][1],
                          .lengths = k % 2 ? PROBLEM_RAGGED : PROBLEM_FULL});
}

static void add_extremes(Items *items)
{
    for (unsigned cell = 0; cell < CELLS; cell++)
        for (int extreme = SATURATED_BIAS; extreme <= NAN_WEIGHT; extreme++) {
            Item item = {.group = SUITE_EXTREMES, .desc = cell_desc(cell, 3, 7), .T = 3, .N = 3, .extreme = (Extreme)extreme};
            item.desc.layers = 2;
            if (cell == RNN_RELU && extreme <= SATURATED_X)
                continue; /* it does not saturate */
            add(items, item);
        }
}

/* Some of the other groups under lower limits. */
static void add_limits(Items *items)
{
    const size_t count = items->count;
    for (int limits = LIMITS_FLOOR; limits < LIMITS_COUNT; limits++)
        for (size_t k = 0; k < count; k++) {
            Item item = items->item[k];
            bool wanted = item.group == SUITE_OPTIONS
                              ? k % 10 == (size_t)limits
                              : item.group == SUITE_SIZES && item.desc.hidden_size >= 33 && item.desc.hidden_size <= 65;
            wanted = wanted || (limits == LIMITS_FLOOR && item.T * item.N > 65537);
            if (!wanted)
                continue;
            item.group = SUITE_LIMITS;
            item.limits = (Limits)limits;
            add(items, item);
        }
}

static void add_trainings(Items *items)
{
    static const char *const layers[] = {"lstm:8,dense:1", "bigru:6,dropout:0.1,lstm:6:4,dense:1", "gru:8,dense:1",
                                         "rnn:8,rnn_relu:6,dense:4:tanh,dense:1"};
    for (size_t k = 0; k < COUNT(layers); k++)
        add(items, (Item){.group = SUITE_TRAINING, .layers = layers[k]});
}

/* ---- The problem of a case ---- */

/* What is not a default. A row of the table has named its problem already. */
static void name_item(const Item *item, char *name, size_t size)
{
    static const char *const cells[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
    static const char *const extremes[] = {"",           ", biases of 1e4",  ", x of 1e4",
                                           ", NaN in x", ", NaN in a state", ", NaN in a weight"};
    static const char *const limits[] = {"", ", floor limits", ", narrow limits"};
    const VklRnnDesc *desc = &item->desc;
    size_t used = strlen(name);
    if (item->layers)
        snprintf(name, size, "%s", item->layers);
    else if (item->row)
        snprintf(name + used, size - used, "%s", limits[item->limits]);
    else
        snprintf(name, size, "%s%s L%" PRIu64 " T%zu N%zu I%" PRIu64 " H%" PRIu64 "%s%s%s%s", cells[desc->cell],
                 desc->cell == VKL_CELL_GRU && !desc->reset_after ? " reset_before" : "", desc->layers, item->T, item->N,
                 desc->input_size, desc->hidden_size, desc->direction == VKL_DIRECTION_BOTH ? " both" : "",
                 item->lengths == PROBLEM_EMPTY ? " lengths:0"
                 : item->lengths                ? " lengths"
                                                : "",
                 extremes[item->extreme], limits[item->limits]);
}

static void make_extreme(const Item *item, Problem *problem)
{
    const size_t I = item->desc.input_size;
    double *x = problem->array[PROBLEM_X] + (item->N + 1) * I; /* step 1, row 1 */
    switch (item->extreme) {
    case SATURATED_BIAS: /* of a third each: large, small, as it was: something must be left to compare */
        for (size_t k = 0; k < problem->tensors; k++)
            for (size_t n = 0; begins(ref_rnn_tensor(&item->desc, k).name, "bias_ih") && n < problem->tensor_count[k]; n++)
                if (n % 3)
                    problem->params[k][n] = n % 3 == 1 ? SATURATED : -SATURATED;
        break;
    case SATURATED_X:
        for (size_t k = 0; k < I; k++)
            x[k] *= SATURATED;
        break;
    case NAN_X:
        x[I - 1] = NAN;
        break;
    case NAN_STATE:
        problem->array[problem->array[PROBLEM_C0] ? PROBLEM_C0 : PROBLEM_H0][0] = NAN;
        break;
    case NAN_WEIGHT:
        problem->params[0][0] = NAN;
        break;
    default:
        break;
    }
}

/* Weights with which nothing explodes, and one step's rounding is not the next one's chaos. */
static float weights_of(const Item *item)
{
    const double most = 1.2 / sqrt((double)(item->desc.hidden_size ? item->desc.hidden_size : 1));
    return item->row || most > 0.5 ? 0.5f : (float)most;
}

static VklStatus make_item(const Item *item, Problem *problem)
{
    bool made =
        item->row ? covering_problem(item->row, problem) : problem_make(&item->desc, item->T, item->N, item->lengths, 0, problem);
    name_item(item, problem->label, sizeof problem->label);
    return made ? VKL_OK : VKL_ERROR_HOST_MEMORY;
}

static VklStatus solve_item(const Item *item, Problem *problem)
{
    if (make_item(item, problem) != VKL_OK)
        return VKL_ERROR_HOST_MEMORY;
    if (item->extreme) {
        problem_draw(problem, 1, weights_of(item));
        make_extreme(item, problem);
        return problem_solve(problem) ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    }
    return problem_draw_and_solve(problem, 1, weights_of(item)) ? VKL_OK : VKL_ERROR_NUMERIC;
}

/* ---- Running it ---- */

typedef struct Run {
    const Suite *suite;
    SuiteResult *result;
    VklDevice *devices[LIMITS_COUNT];
    const Item *item;
    const char *name;
    bool failed; /* the item */
} Run;

/* Only the first failure of an item is kept. */
static void record_failure(Run *run, const char *format, ...)
{
    SuiteResult *result = run->result;
    va_list arguments;
    if (run->failed)
        return;
    run->failed = true;
    result->failed[run->item->group]++;
    if (result->failure_count++ >= SUITE_FAILURES_KEPT)
        return;
    SuiteFailure *failure = &result->failures[result->failure_count - 1];
    failure->group = run->item->group;
    snprintf(failure->name, sizeof failure->name, "%s", run->name);
    va_start(arguments, format);
    vsnprintf(failure->what, sizeof failure->what, format, arguments);
    va_end(arguments);
}

static void compare(Run *run, const char *pass, SuiteTensor kind, const char *name, const float *got, const double *want,
                    size_t count)
{
    if (count == 0)
        return;
    Difference difference = trial_compare(got, want, count);
    SuiteWorst *worst = &run->result->worst[kind];
    if (worst->compared++ == 0 || difference.error > worst->error) {
        worst->error = difference.error;
        snprintf(worst->name, sizeof worst->name, "%s", run->name);
    }
    if (!(difference.error <= run->suite->tolerance))
        record_failure(run, "%s: %s: error %.3g at element %" PRIu64 " of %zu, %.9g instead of %.9g", pass, name,
                       difference.error, difference.at, count, (double)got[difference.at], want[difference.at]);
}

static SuiteTensor kind_of(const char *name)
{
    static const char *const kinds[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch"};
    for (size_t k = 0; k < COUNT(kinds); k++)
        if (begins(name, kinds[k]))
            return (SuiteTensor)(SUITE_DW_IH + k);
    return SUITE_DW_IH;
}

/* What goes to the device and comes from it. */
typedef struct Sample {
    Problem problem;
    float *in[PROBLEM_INPUTS], *params;
    float *out[2][PROBLEM_ARRAYS], *dparams[2]; /* of two runs */
    size_t params_count;
} Sample;

#define DPARAMS PROBLEM_ARRAYS
#define OUTPUTS (PROBLEM_BIT(PROBLEM_Y) | PROBLEM_BIT(PROBLEM_HN) | PROBLEM_BIT(PROBLEM_CN))
#define EVERYTHING \
    (OUTPUTS | PROBLEM_BIT(PROBLEM_DX) | PROBLEM_BIT(PROBLEM_DH0) | PROBLEM_BIT(PROBLEM_DC0) | PROBLEM_BIT(DPARAMS))
#define BEFORE 0.25f /* what the gradients of parameters are added to, where they are added */

static void sample_free(Sample *sample)
{
    for (int a = 0; a < PROBLEM_INPUTS; a++)
        free(sample->in[a]);
    for (int r = 0; r < 2; r++) {
        for (int a = 0; a < PROBLEM_ARRAYS; a++)
            free(sample->out[r][a]);
        free(sample->dparams[r]);
    }
    free(sample->params);
    problem_free(&sample->problem);
}

static float *narrow(const double *wide, size_t count, bool *complete)
{
    float *numbers = malloc((count + 1) * sizeof *numbers);
    for (size_t k = 0; numbers && wide && k < count; k++)
        numbers[k] = (float)wide[k];
    *complete = *complete && numbers;
    return numbers;
}

/* Of a problem that is solved. */
static VklStatus sample_fill(Sample *sample)
{
    const Problem *problem = &sample->problem;
    bool complete = true;
    for (int a = 0; a < PROBLEM_INPUTS; a++)
        sample->in[a] = problem->array[a] ? narrow(problem->array[a], problem->count[a], &complete) : NULL;
    for (int a = PROBLEM_INPUTS; a < PROBLEM_ARRAYS; a++)
        for (int r = 0; r < 2; r++)
            sample->out[r][a] = problem->array[a] ? narrow(NULL, problem->count[a], &complete) : NULL;
    for (size_t k = 0; k < problem->tensors; k++)
        sample->params_count += problem->tensor_count[k];
    sample->params = narrow(NULL, sample->params_count, &complete);
    for (int r = 0; r < 2; r++)
        sample->dparams[r] = narrow(NULL, sample->params_count, &complete);
    for (size_t k = 0, at = 0; complete && k < problem->tensors; k++)
        for (size_t n = 0; n < problem->tensor_count[k]; n++)
            sample->params[at++] = (float)problem->params[k][n];
    return complete ? VKL_OK : VKL_ERROR_HOST_MEMORY;
}

/* The outputs in `which` against the reference. */
static void compare_outputs(Run *run, const Sample *sample, const char *pass, int turn, unsigned which, bool added)
{
    const Problem *problem = &sample->problem;
    for (int a = PROBLEM_Y; a <= PROBLEM_DC0; a++)
        if (which & PROBLEM_BIT(a) && problem->array[a])
            compare(run, pass, (SuiteTensor)(SUITE_Y + (a - PROBLEM_Y)), problem_array_name[a], sample->out[turn][a],
                    problem->array[a], problem->count[a]);
    for (size_t k = 0, at = 0; which & PROBLEM_BIT(DPARAMS) && k < problem->tensors; k++) {
        const RefTensor tensor = ref_rnn_tensor(&problem->run.desc, k);
        char name[80];
        snprintf(name, sizeof name, "d.%s", tensor.name);
        for (size_t n = 0; n < problem->tensor_count[k] && added; n++)
            problem->dparams[k][n] += (double)BEFORE;
        compare(run, pass, kind_of(tensor.name), name, sample->dparams[turn] + at, problem->dparams[k], problem->tensor_count[k]);
        for (size_t n = 0; n < problem->tensor_count[k] && added; n++)
            problem->dparams[k][n] -= (double)BEFORE;
        at += problem->tensor_count[k];
    }
}

/* What is run, with its arrays by PROBLEM_X ...; the parameters are the caller's. */
static Trial arrays_of(const RefRnn *what, float *const *in, float *const *out)
{
    return (Trial){
        .T = what->T,
        .N = what->N,
        .I = what->desc.input_size,
        .dropout = what->dropout,
        .x = in[PROBLEM_X],
        .lengths = what->lengths,
        .h0 = in[PROBLEM_H0],
        .c0 = in[PROBLEM_C0],
        .gy = in[PROBLEM_GY],
        .ghn = in[PROBLEM_GHN],
        .gcn = in[PROBLEM_GCN],
        .y = out[PROBLEM_Y],
        .hn = out[PROBLEM_HN],
        .cn = out[PROBLEM_CN],
        .dx = out[PROBLEM_DX],
        .dh0 = out[PROBLEM_DH0],
        .dc0 = out[PROBLEM_DC0],
    };
}

/* One pass that asks for the outputs in `which`. */
static VklStatus run_pass(Run *run, VklDevice *device, VklRnn *rnn, const Sample *sample, const char *pass, int turn,
                          unsigned which, bool added)
{
    const RefRnn *what = &sample->problem.run;
    float *const *in = sample->in;
    float *out[PROBLEM_ARRAYS + 1];
    for (int a = PROBLEM_Y; a < PROBLEM_ARRAYS; a++)
        out[a] = which & PROBLEM_BIT(a) ? sample->out[turn][a] : NULL;
    out[DPARAMS] = which & PROBLEM_BIT(DPARAMS) ? sample->dparams[turn] : NULL;
    for (size_t k = 0; added && k < sample->params_count; k++)
        sample->dparams[turn][k] = BEFORE;
    Trial trial = arrays_of(what, in, out);
    trial.params = sample->params;
    trial.dparams = out[DPARAMS];
    trial.accumulate = added;
    VklStatus status = trial_run(device, rnn, &trial);
    if (status != VKL_OK)
        record_failure(run, "%s: %s", pass, vkl_device_error(device));
    return status;
}

static void check_repetition(Run *run, const char *name, const void *first, const void *second, size_t size)
{
    run->result->repeated++;
    if (memcmp(first, second, size) == 0)
        return;
    run->result->differing++;
    record_failure(run, "the same work gave other bits the second time (%s)", name);
}

/* Training twice, with the same bits; some results alone; inference. */
static VklStatus run_passes(Run *run, VklDevice *device, VklRnn *rnn, Sample *sample)
{
    static const unsigned parts[] = {PROBLEM_BIT(PROBLEM_DX), PROBLEM_BIT(DPARAMS),
                                     PROBLEM_BIT(PROBLEM_Y) | PROBLEM_BIT(PROBLEM_DH0) | PROBLEM_BIT(PROBLEM_DC0)};
    Problem *problem = &sample->problem;
    const VklRnnDesc *desc = &problem->run.desc;
    const bool added = problem->accumulate;
    VklStatus status = run_pass(run, device, rnn, sample, "training", 0, EVERYTHING, added);
    if (status == VKL_OK) {
        compare_outputs(run, sample, "training", 0, EVERYTHING, added);
        status = run_pass(run, device, rnn, sample, "training again", 1, EVERYTHING, added);
    }
    if (status == VKL_OK) {
        for (int a = PROBLEM_Y; a < PROBLEM_ARRAYS; a++)
            if (problem->array[a])
                check_repetition(run, problem_array_name[a], sample->out[0][a], sample->out[1][a],
                                 problem->count[a] * sizeof(float));
        check_repetition(run, "gradients of the weights", sample->dparams[0], sample->dparams[1],
                         sample->params_count * sizeof(float));
        const unsigned part = parts[run->result->cases[run->item->group] % COUNT(parts)];
        status = run_pass(run, device, rnn, sample, "some results alone", 1, part, false);
        if (status == VKL_OK)
            compare_outputs(run, sample, "some results alone", 1, part, false);
    }
    if (status == VKL_OK && (desc->input_dropout != 0 || desc->dropout != 0 || desc->recurrent_dropout != 0)) {
        problem->run.training = false; /* there, dropout has no effect */
        problem->run.dparams = NULL;
        status = problem_solve(problem) ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    }
    if (status == VKL_OK)
        status = run_pass(run, device, rnn, sample, "inference", 1, OUTPUTS, false);
    if (status == VKL_OK)
        compare_outputs(run, sample, "inference", 1, OUTPUTS, false);
    return status;
}

static VklStatus run_sample(Run *run, VklDevice *device, Sample *sample)
{
    VklRnn *rnn = NULL;
    VklStatus status = vkl_rnn_create(device, &sample->problem.run.desc, &rnn);
    if (status != VKL_OK) {
        record_failure(run, "%s", vkl_device_error(device));
    } else if (trial_params(rnn) != sample->params_count) {
        record_failure(run, "%" PRIu64 " parameters; the reference has %zu", trial_params(rnn), sample->params_count);
        status = VKL_ERROR_INVALID;
    }
    if (status == VKL_OK)
        status = run_passes(run, device, rnn, sample);
    vkl_rnn_destroy(rnn);
    return status;
}

/* ---- What a case needs, and nothing run ---- */

/* All results, in training and in inference. */
static void prepare_operator(Run *run, VklDevice *device, const Problem *problem)
{
    static float there; /* stands for arrays, which are not looked at */
    const RefRnn *what = &problem->run;
    VklRnn *rnn = NULL;
    VklStatus status = vkl_rnn_create(device, &what->desc, &rnn);
    for (int training = 1; training >= 0 && status == VKL_OK; training--) {
        float *in[PROBLEM_ARRAYS], *out[PROBLEM_ARRAYS];
        for (int a = 0; a < PROBLEM_ARRAYS; a++) {
            in[a] = problem->array[a] ? &there : NULL;
            out[a] = problem->array[a] && (training || OUTPUTS & PROBLEM_BIT(a)) ? &there : NULL;
        }
        Trial trial = arrays_of(what, in, out);
        trial.params = &there;
        trial.dparams = training ? &there : NULL;
        trial.accumulate = training && problem->accumulate;
        status = trial_prepare(device, rnn, &trial);
    }
    if (status != VKL_OK)
        record_failure(run, "%s", vkl_device_error(device));
    vkl_rnn_destroy(rnn);
}

/* A dense layer, a loss and every optimizer: recorded, and dropped. */
static VklStatus record_around(VklDevice *device, VklStream *stream, VklDense *dense, VklSlice slice[7])
{
    VklDenseBackward backward = vkl_dense_backward_args(4);
    VklLossArgs loss = vkl_loss_args(VKL_LOSS_MSE, 4);
    loss.predicted = backward.y = slice[2];
    loss.target = slice[3];
    loss.gradient = backward.gy = slice[4];
    loss.loss = slice[5];
    backward.params = slice[0];
    backward.x = backward.dx = slice[1];
    backward.dx = slice[5];
    backward.dparams = slice[3];
    backward.workspace = slice[6];
    VklStatus status = vkl_dense_forward(dense, stream, 4, slice[0], slice[1], slice[2]);
    if (status == VKL_OK)
        status = vkl_loss_record(stream, &loss);
    if (status == VKL_OK)
        status = vkl_dense_backward(dense, stream, &backward);
    for (int kind = VKL_OPTIMIZER_SGD; kind <= VKL_OPTIMIZER_ADAMW && status == VKL_OK; kind++) {
        VklOptimizerDesc desc = vkl_optimizer_desc((VklOptimizerKind)kind);
        VklOptimizer *optimizer = NULL;
        VklExec *exec = NULL;
        desc.clip_norm = 1;
        status = vkl_optimizer_create(device, &desc, 64, &optimizer);
        if (status == VKL_OK)
            status = vkl_optimizer_prepare(optimizer, slice[0], slice[3], &exec);
        vkl_exec_destroy(exec);
        vkl_optimizer_destroy(optimizer);
    }
    return status;
}

static void prepare_training(Run *run, VklDevice *device)
{
    enum { SLICES = 7, BYTES = 4096 };
    VklDenseDesc desc = vkl_dense_desc(8, 1, VKL_ACTIVATION_TANH);
    VklDense *dense = NULL;
    VklStream *stream = NULL;
    VklBuffer *buffers[SLICES] = {NULL};
    VklSlice slices[SLICES];
    VklStatus status = vkl_dense_create(device, &desc, &dense);
    if (status == VKL_OK)
        status = vkl_stream_create(device, &stream);
    for (int k = 0; k < SLICES && status == VKL_OK; k++) {
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, BYTES, &buffers[k]);
        slices[k] = vkl_slice(buffers[k], 0);
    }
    if (status == VKL_OK)
        status = record_around(device, stream, dense, slices);
    if (status != VKL_OK)
        record_failure(run, "%s", vkl_device_error(device));
    vkl_stream_destroy(stream);
    vkl_dense_destroy(dense);
    for (int k = 0; k < SLICES; k++)
        vkl_buffer_destroy(buffers[k]);
}

/* ---- A training ---- */

#define WINDOWS 96
#define STEPS 12
#define EPOCHS 15

typedef struct Losses {
    double first, last;
    size_t count;
} Losses;

static bool note_loss(void *user, const VklEpoch *epoch)
{
    Losses *losses = user;
    if (losses->count++ == 0)
        losses->first = epoch->loss;
    losses->last = epoch->loss;
    return true;
}

/* The next value of a sum of two sines. */
static VklStatus train(VklDevice *device, const char *text, Losses *losses, float predictions[WINDOWS])
{
    VklLayerDesc layers[8];
    uint32_t count = COUNT(layers), starts[WINDOWS];
    float series[WINDOWS + STEPS], targets[WINDOWS];
    VklModel *model = NULL;
    for (uint32_t k = 0; k < WINDOWS + STEPS; k++)
        series[k] = (float)(0.6 * sin(0.35 * k) + 0.3 * sin(1.1 * k));
    for (uint32_t k = 0; k < WINDOWS; k++) {
        starts[k] = k;
        targets[k] = series[k + STEPS];
    }
    VklWindows windows = {.struct_size = sizeof windows,
                          .count = WINDOWS,
                          .steps = STEPS,
                          .features = 1,
                          .outputs = 1,
                          .rows = WINDOWS + STEPS,
                          .series = series,
                          .starts = starts,
                          .targets = targets};
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = EPOCHS;
    fit.batch_size = 16;
    fit.optimizer.learning_rate = 0.01;
    fit.on_epoch = note_loss;
    fit.user = losses;
    VklStatus status = vkl_layers_parse(vkl_device_context(device), text, layers, &count);
    if (status == VKL_OK)
        status = vkl_model_create(device, 1, layers, count, 7, &model);
    if (status == VKL_OK)
        status = vkl_model_fit(model, &windows, NULL, &fit, NULL);
    if (status == VKL_OK)
        status = vkl_model_predict(model, &windows, predictions);
    vkl_model_destroy(model);
    return status;
}

static void run_training(Run *run, VklDevice *device)
{
    float predictions[2][WINDOWS];
    Losses losses[2] = {{0}};
    for (int k = 0; k < 2; k++)
        if (train(device, run->item->layers, &losses[k], predictions[k]) != VKL_OK) {
            record_failure(run, "%s", vkl_device_error(device));
            return;
        }
    if (!(losses[0].last < losses[0].first / 2))
        record_failure(run, "the loss went from %.4g to %.4g in %zu epochs; less than half was expected", losses[0].first,
                       losses[0].last, losses[0].count);
    run->result->repeated++;
    if (memcmp(predictions[0], predictions[1], sizeof predictions[0]) != 0 ||
        memcmp(&losses[0], &losses[1], sizeof losses[0]) != 0) {
        run->result->differing++;
        record_failure(run, "the same training gave different bits the second time");
    }
}

/* ---- Everything ---- */

/* Vulkan 1.1, "Required Limits". */
static const VklDeviceLimits floor_limits = {
    .storage_range = UINT64_C(1) << 27,
    .allocation_size = UINT64_C(1) << 30,
    .storage_buffers = 4,
    .storage_alignment = 256,
    .workgroups = {65535, 65535, 65535},
    .workgroup_size = {128, 128, 64},
    .workgroup_invocations = 128,
    .shared_memory = 16384,
    .push_constants = 128,
};

/* Less than any device has: what is split on large data there is split on small data here. */
static VklDeviceLimits narrow_limits(void)
{
    VklDeviceLimits limits = floor_limits;
    limits.storage_range = 65536;
    for (int axis = 0; axis < 3; axis++)
        limits.workgroups[axis] = 16;
    return limits;
}

static VklStatus open_device(Run *run, Limits limits)
{
    if (run->devices[limits])
        return VKL_OK;
    const VklDeviceLimits narrow = narrow_limits();
    VklDeviceDesc desc = vkl_device_desc(run->suite->selector);
    desc.limits = limits == LIMITS_FLOOR ? &floor_limits : limits == LIMITS_NARROW ? &narrow : NULL;
    return vkl_device_create(run->suite->context, &desc, &run->devices[limits]);
}

/* Solves the case, which names it, tells about it, and runs it. */
static VklStatus run_item(Run *run, uint64_t done, uint64_t all)
{
    const Suite *suite = run->suite;
    Sample sample = {.params = NULL};
    VklStatus status = VKL_OK;
    if (run->item->layers)
        name_item(run->item, sample.problem.label, sizeof sample.problem.label);
    else
        status = suite->compile_only ? make_item(run->item, &sample.problem) : solve_item(run->item, &sample.problem);
    run->name = sample.problem.label;
    if (suite->on_case)
        suite->on_case(suite->user, run->item->group, run->name, done, all);
    if (status == VKL_ERROR_NUMERIC)
        record_failure(run, "no numbers away from kinks were found");
    if (status == VKL_OK && suite->compile_only) {
        if (run->item->layers)
            prepare_training(run, run->devices[run->item->limits]);
        else
            prepare_operator(run, run->devices[run->item->limits], &sample.problem);
    } else if (status == VKL_OK && run->item->layers) {
        run_training(run, run->devices[run->item->limits]);
    } else if (status == VKL_OK) {
        status = sample_fill(&sample);
        if (status == VKL_OK)
            status = run_sample(run, run->devices[run->item->limits], &sample);
    }
    sample_free(&sample);
    /* what was recorded is a result; only without memory there is none */
    return status == VKL_ERROR_HOST_MEMORY ? status : VKL_OK;
}

VklStatus suite_run(const Suite *suite, SuiteResult *result)
{
    Run run = {.suite = suite, .result = result};
    Items *items = calloc(1, sizeof *items);
    VklStatus status = items ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    memset(result, 0, sizeof *result);
    if (items) {
        add_options(items);
        add_sizes(items);
        add_extremes(items);
        add_limits(items);
        add_trainings(items);
    }
    for (size_t k = 0; items && k < items->count && status == VKL_OK; k++) {
        run.item = &items->item[k];
        run.failed = false;
        double begin = clock_seconds();
        status = open_device(&run, run.item->limits);
        if (status == VKL_OK)
            status = run_item(&run, k, items->count);
        result->cases[run.item->group]++;
        result->seconds[run.item->group] += clock_seconds() - begin;
    }
    for (int k = 0; k < LIMITS_COUNT; k++) {
        result->pipelines += run.devices[k] ? vkl_device_pipelines(run.devices[k]) : 0;
        vkl_device_destroy(run.devices[k]);
    }
    free(items);
    return status;
}

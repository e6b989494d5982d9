/* SPDX-License-Identifier: MIT
 *
 * The complete recurrent operator through the public API, on the device of the environment, against the double-precision reference of
 * tools/reference.c: all options over the pairwise-covering table, then the edges at which others fail.
 *
 * Tolerances: docs/numerics.md, "The complete operator".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "placed.h"
#include "plan_rnn.h"

#include "../tools/covering.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define WEIGHTS 0.5f /* as in test_oracle.c */

/* ---- Budgets ---- */

static double longest_sum(const VklRnnDesc *desc)
{
    const size_t P = desc->projection ? desc->projection : desc->hidden_size, D = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1;
    const size_t inputs = desc->layers > 1 && D * P > desc->input_size ? D * P : desc->input_size;
    return (double)(inputs + desc->hidden_size);
}

static double halves_forward, halves_backward; /* of each layer: what rounding to halves adds, where a test is about that */

static double budget_forward(const RefRnn *run)
{
    return halves_forward * (double)run->desc.layers +
           0x1p-24 * (double)run->desc.layers * (32 + 2 * sqrt(longest_sum(&run->desc)));
}

static double budget_backward(const RefRnn *run)
{
    const size_t rows = run->T * run->N;
    return halves_backward * (double)run->desc.layers + 2 * budget_forward(run) +
           0x1p-24 * 2 * sqrt((double)(rows < 4096 ? rows : 4096));
}

/* ---- Jobs: a problem placed on a device ---- */

typedef struct Job {
    VklDevice *device;
    const Problem *problem;
    VklRnn *rnn;
    VklStream *stream;
    Placed arrays[PROBLEM_ARRAYS], params, dparams, lengths, reserve, forward_scratch, backward_scratch;
    float *before; /* canonical: what dparams held, where gradients add */
    VklRnnForward forward;
    VklRnnBackward backward;
} Job;

static VklContext *context;
static VklDevice *device;

static void begin(void)
{
    context = test_context();
    device = test_device(context);
}

static void end(void)
{
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

TestSuite(operator, .init = begin, .fini = end);

static float *narrow(const double *wide, size_t count)
{
    float *numbers = allocate(count, sizeof(float));
    for (size_t k = 0; k < count; k++)
        numbers[k] = (float)wide[k];
    return numbers;
}

static size_t all_params(const Problem *problem)
{
    size_t count = 0;
    for (size_t k = 0; k < problem->tensors; k++)
        count += problem->tensor_count[k];
    return count;
}

/* Between the canonical tensors one after another and the packed buffer. */
static void pack_all(Job *job, const float *canonical, float *packed)
{
    for (size_t k = 0; k < job->problem->tensors; k++) {
        TEST_OK(context, vkl_rnn_pack(job->rnn, (uint32_t)k, canonical, packed));
        canonical += job->problem->tensor_count[k];
    }
}

static Placed place_scratch(VklDevice *on, uint64_t bytes)
{
    return bytes ? placed_make(on, NULL, bytes / sizeof(float), true) : (Placed){0};
}

/* `outputs`: PROBLEM_BITs of results and gradients to ask for; PARAMS_BIT for those of parameters. */
#define PARAMS_BIT PROBLEM_BIT(PROBLEM_ARRAYS)
#define EVERYTHING UINT32_MAX

static void job_arguments(Job *job)
{
    const RefRnn *run = &job->problem->run;
    job->forward = vkl_rnn_forward_args(run->T, run->N);
    VklRnnForward *f = &job->forward;
    f->params = job->params.slice;
    f->x = job->arrays[PROBLEM_X].slice;
    f->lengths = job->lengths.slice;
    f->h0 = job->arrays[PROBLEM_H0].slice;
    f->c0 = job->arrays[PROBLEM_C0].slice;
    f->y = job->arrays[PROBLEM_Y].slice;
    f->hn = job->arrays[PROBLEM_HN].slice;
    f->cn = job->arrays[PROBLEM_CN].slice;
    f->reserve = job->reserve.slice;
    f->workspace = job->forward_scratch.slice;
    f->dropout = run->dropout;
    job->backward = vkl_rnn_backward_args(run->T, run->N);
    VklRnnBackward *b = &job->backward;
    b->params = job->params.slice;
    b->x = job->arrays[PROBLEM_X].slice;
    b->lengths = job->lengths.slice;
    b->reserve = job->reserve.slice;
    b->workspace = job->backward_scratch.slice;
    b->gy = job->arrays[PROBLEM_GY].slice;
    b->ghn = job->arrays[PROBLEM_GHN].slice;
    b->gcn = job->arrays[PROBLEM_GCN].slice;
    b->dx = job->arrays[PROBLEM_DX].slice;
    b->dh0 = job->arrays[PROBLEM_DH0].slice;
    b->dc0 = job->arrays[PROBLEM_DC0].slice;
    b->dparams = job->dparams.slice;
    b->accumulate = job->problem->accumulate;
    b->dropout = run->dropout;
}

static Job job_begin(VklDevice *on, const Problem *problem, unsigned outputs)
{
    const RefRnn *run = &problem->run;
    Job job = {.device = on, .problem = problem};
    VklRnnSizes sizes;
    const VklStatus status = vkl_rnn_create(on, &run->desc, &job.rnn);
    cr_assert_eq(status, VKL_OK, "%s: %s", problem->label, vkl_context_error(context));
    TEST_OK(context, vkl_stream_create(on, &job.stream));
    TEST_OK(context, vkl_rnn_sizes(job.rnn, run->T, run->N, &sizes));
    for (int k = 0; k < PROBLEM_ARRAYS; k++) {
        float *numbers = problem->array[k] && k < PROBLEM_INPUTS ? narrow(problem->array[k], problem->count[k]) : NULL;
        if (problem->array[k] && (k < PROBLEM_INPUTS || outputs & PROBLEM_BIT(k)))
            job.arrays[k] = placed_make(on, numbers, problem->count[k], false);
        free(numbers);
    }
    const size_t count = all_params(problem);
    float *canonical = allocate(count, sizeof(float)), *packed = allocate(sizes.params, 1);
    for (size_t k = 0, at = 0; k < problem->tensors; k++)
        for (size_t e = 0; e < problem->tensor_count[k]; e++)
            canonical[at++] = (float)problem->params[k][e];
    pack_all(&job, canonical, packed);
    job.params = placed_make(on, packed, sizes.params / sizeof(float), true);
    if (problem->accumulate) {
        job.before = canonical;
        test_random(job.before, count, 9, 1);
        pack_all(&job, job.before, packed);
    } else {
        free(canonical);
    }
    if (outputs & PARAMS_BIT)
        job.dparams = placed_make(on, problem->accumulate ? packed : NULL, sizes.params / sizeof(float), true);
    free(packed);
    if (problem->lengths) {
        float *bits = allocate(run->N, sizeof(float));
        memcpy(bits, problem->lengths, run->N * sizeof(float));
        job.lengths = placed_make(on, bits, run->N, false);
        free(bits);
    }
    job.reserve = place_scratch(on, sizes.reserve);
    job.forward_scratch = place_scratch(on, sizes.forward_workspace);
    job.backward_scratch = place_scratch(on, sizes.backward_workspace);
    job_arguments(&job);
    return job;
}

static void job_end(Job *job)
{
    for (int k = 0; k < PROBLEM_ARRAYS; k++)
        vkl_buffer_destroy(job->arrays[k].buffer);
    Placed *const others[] = {&job->params,  &job->dparams,         &job->lengths,
                              &job->reserve, &job->forward_scratch, &job->backward_scratch};
    for (size_t k = 0; k < COUNT(others); k++)
        vkl_buffer_destroy(others[k]->buffer);
    vkl_stream_destroy(job->stream);
    vkl_rnn_destroy(job->rnn);
    free(job->before);
}

/* A call that must succeed; the sentence is the operator's. */
#define RUN(job, call)                                                                                     \
    do {                                                                                                   \
        const VklStatus run_ = (call);                                                                     \
        cr_assert_eq(run_, VKL_OK, "%s: %s: %s", (job)->problem->label, #call, vkl_rnn_error((job)->rnn)); \
    } while (0)

static void job_infer(Job *job)
{
    VklRnnForward args = job->forward;
    args.reserve = vkl_slice(NULL, 0);
    RUN(job, vkl_rnn_forward(job->rnn, job->stream, &args));
    TEST_OK(context, vkl_stream_wait(job->stream));
}

static void job_train(Job *job)
{
    RUN(job, vkl_rnn_forward(job->rnn, job->stream, &job->forward));
    RUN(job, vkl_rnn_backward(job->rnn, job->stream, &job->backward));
    TEST_OK(context, vkl_stream_wait(job->stream));
}

static float *job_take(Job *job, int array)
{
    return placed_take(job->device, &job->arrays[array], problem_array_name[array]);
}

/* The gradients of the parameters, canonical, one tensor after another. */
static float *job_take_dparams(Job *job)
{
    float *packed = placed_take(job->device, &job->dparams, "dparams"),
          *canonical = allocate(all_params(job->problem), sizeof(float));
    for (size_t k = 0, at = 0; k < job->problem->tensors; at += job->problem->tensor_count[k++])
        TEST_OK(context, vkl_rnn_unpack(job->rnn, (uint32_t)k, packed, canonical + at));
    free(packed);
    return canonical;
}

/* ---- Comparisons ---- */

typedef struct Worst {
    double error;
    char what[700];
} Worst;
static Worst worst_forward, worst_backward;

static void compare(const Problem *problem, const char *name, const float *got, const double *want, size_t count,
                    double tolerance, Worst *worst)
{
    char what[700];
    double scale = 0;
    snprintf(what, sizeof(what), "%s: %s", problem->label, name);
    for (size_t k = 0; k < count; k++)
        scale = isfinite(want[k]) ? fmax(scale, fabs(want[k])) : scale;
    for (size_t k = 0; k < count; k++) {
        const double error = fabs((double)got[k] - want[k]) / (scale > 0 ? scale : 1);
        if (error > worst->error) {
            worst->error = error;
            memcpy(worst->what, what, sizeof(what));
        }
    }
    test_compare(what, got, want, count, tolerance);
}

static void check_array(Job *job, int array)
{
    const Problem *problem = job->problem;
    if (!job->arrays[array].buffer)
        return;
    float *got = job_take(job, array);
    if (array < PROBLEM_INPUTS) {
        float *kept = narrow(problem->array[array], problem->count[array]);
        cr_assert_eq(memcmp(got, kept, problem->count[array] * sizeof(float)), 0, "%s: %s was changed", problem->label,
                     problem_array_name[array]);
        free(kept);
    } else if (array <= PROBLEM_CN) {
        compare(problem, problem_array_name[array], got, problem->array[array], problem->count[array],
                budget_forward(&problem->run), &worst_forward);
    } else {
        compare(problem, problem_array_name[array], got, problem->array[array], problem->count[array],
                budget_backward(&problem->run), &worst_backward);
    }
    free(got);
}

static void check_dparams(Job *job)
{
    const Problem *problem = job->problem;
    float *got = job_take_dparams(job);
    for (size_t k = 0, at = 0; k < problem->tensors; at += problem->tensor_count[k++]) {
        const RefTensor tensor = ref_rnn_tensor(&problem->run.desc, k);
        double *want = allocate(problem->tensor_count[k], sizeof(double));
        for (size_t e = 0; e < problem->tensor_count[k]; e++)
            want[e] = problem->dparams[k][e] + (job->before ? (double)job->before[at + e] : 0);
        char name[80];
        snprintf(name, sizeof(name), "d%s", tensor.name);
        compare(problem, name, got + at, want, problem->tensor_count[k], budget_backward(&problem->run), &worst_backward);
        free(want);
    }
    free(got);
}

/* Everything that came out, and what must be as it was. */
static void job_check(Job *job)
{
    for (int k = 0; k < PROBLEM_ARRAYS; k++)
        check_array(job, k);
    if (job->dparams.buffer)
        check_dparams(job);
    Placed *const scratch[] = {&job->lengths, &job->reserve, &job->forward_scratch, &job->backward_scratch};
    for (size_t k = 0; k < COUNT(scratch); k++)
        if (scratch[k]->buffer)
            free(placed_take(job->device, scratch[k], "around scratch"));
}

/* Both have computed what `second` was asked for. */
static void same_bits(const char *how, Job *first, Job *second, int last)
{
    const Problem *problem = first->problem;
    for (int k = PROBLEM_Y; k <= last; k++) {
        if (!first->arrays[k].buffer || !second->arrays[k].buffer)
            continue;
        float *a = job_take(first, k), *b = job_take(second, k);
        cr_assert_eq(memcmp(a, b, problem->count[k] * sizeof(float)), 0, "%s: %s: other bits in %s", problem->label, how,
                     problem_array_name[k]);
        free(a);
        free(b);
    }
    if (last == PROBLEM_DC0 && first->dparams.buffer && second->dparams.buffer) {
        float *a = job_take_dparams(first), *b = job_take_dparams(second);
        cr_assert_eq(memcmp(a, b, all_params(problem) * sizeof(float)), 0, "%s: %s: other bits in dparams", problem->label, how);
        free(a);
        free(b);
    }
}

static bool has_dropout(const VklRnnDesc *desc)
{
    return desc->input_dropout > 0 || desc->recurrent_dropout > 0 || (desc->dropout > 0 && desc->layers > 1);
}

/* ---- The table ---- */

/* One row: training is right; keeping less of it changes no bit; inference is right, and has training's bits where nothing is dropped. */
static void check_problem(VklDevice *on, Problem *problem)
{
    Job job = job_begin(on, problem, EVERYTHING);
    job_train(&job);
    job_check(&job);

    if (problem->run.desc.path != VKL_RNN_PATH_WAVEFRONT) { /* that keeps all */
        problem->run.desc.recompute = !problem->run.desc.recompute;
        Job other = job_begin(on, problem, EVERYTHING);
        job_train(&other);
        same_bits("recompute", &job, &other, PROBLEM_DC0);
        job_end(&other);
        problem->run.desc.recompute = !problem->run.desc.recompute;
    }

    const unsigned results = PROBLEM_BIT(PROBLEM_Y) | PROBLEM_BIT(PROBLEM_HN) | PROBLEM_BIT(PROBLEM_CN);
    Job inference = job_begin(on, problem, results);
    job_infer(&inference);
    if (has_dropout(&problem->run.desc)) {
        problem->run.training = false;
        cr_assert(problem_solve(problem));
        job_check(&inference);
        problem->run.training = true;
        cr_assert(problem_solve(problem));
    } else {
        same_bits("inference", &job, &inference, PROBLEM_CN);
    }
    job_end(&inference);
    job_end(&job);
}

static Problem row_problem(const CoveringRow *row, uint32_t seed)
{
    Problem problem;
    cr_assert(covering_problem(row, &problem));
    cr_assert(problem_draw_and_solve(&problem, seed, WEIGHTS), "%s: never away from kinks", problem.label);
    return problem;
}

static void check_table(VklCell first, VklCell last, bool plain)
{
    static CoveringRow rows[COVERING_CAPACITY];
    const size_t count = covering_table(rows, plain);
    for (size_t r = 0; r < count; r++) {
        if (rows[r].value[COVERING_CELL] < first || rows[r].value[COVERING_CELL] > last || !test_row(r))
            continue;
        Problem problem = row_problem(&rows[r], (uint32_t)r + 1);
        check_problem(device, &problem);
        problem_free(&problem);
    }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

Test(operator, lstm_with_every_two_options)
{
    check_table(VKL_CELL_LSTM, VKL_CELL_LSTM, false);
}

Test(operator, gru_with_every_two_options)
{
    check_table(VKL_CELL_GRU, VKL_CELL_GRU, false);
}

Test(operator, rnn_with_every_two_options)
{
    check_table(VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU, false);
}

Test(operator, usual_activations_with_every_two_options)
{
    check_table(VKL_CELL_LSTM, VKL_CELL_RNN_RELU, true);
}

/* Tensors have the names and shapes, arrays the sizes, that the reference counts by itself. */
Test(operator, tensors_and_sizes_are_the_references)
{
    static CoveringRow rows[COVERING_CAPACITY];
    const size_t count = covering_table(rows, true);
    for (size_t r = 0; r < count; r++) {
        Problem problem;
        cr_assert(covering_problem(&rows[r], &problem));
        const RefRnn *run = &problem.run;
        VklRnn *rnn = NULL;
        VklRnnSizes sizes;
        TEST_OK(context, vkl_rnn_create(device, &run->desc, &rnn));
        TEST_OK(context, vkl_rnn_sizes(rnn, run->T, run->N, &sizes));
        cr_assert_eq(sizes.y, problem.count[PROBLEM_Y] * sizeof(float), "%s", problem.label);
        cr_assert_eq(sizes.state, problem.count[PROBLEM_HN] * sizeof(float), "%s", problem.label);
        cr_assert_eq(sizes.cell_state, problem.count[PROBLEM_CN] * sizeof(float), "%s", problem.label);
        cr_assert_geq(sizes.params, all_params(&problem) * sizeof(float), "%s", problem.label);
        cr_assert_eq(vkl_rnn_param_count(rnn), problem.tensors, "%s", problem.label);
        for (uint32_t k = 0; k < problem.tensors; k++) {
            const RefTensor want = ref_rnn_tensor(&run->desc, k);
            VklParamInfo info;
            TEST_OK(context, vkl_rnn_param_info(rnn, k, &info));
            cr_assert_str_eq(info.name, want.name, "%s", problem.label);
            cr_assert_eq(info.rank, strncmp(want.name, "bias", 4) ? 2u : 1u, "%s: %s", problem.label, want.name);
            cr_assert(info.shape[0] == want.rows && info.shape[1] == want.columns, "%s: %s", problem.label, want.name);
        }
        vkl_rnn_destroy(rnn);
        problem_free(&problem);
    }
}

/* ---- The same bits ---- */

static void for_some_rows(size_t every, void (*check)(Problem *problem))
{
    static CoveringRow rows[COVERING_CAPACITY];
    for (int plain = 0; plain < 2; plain++) {
        const size_t count = covering_table(rows, plain);
        for (size_t r = plain ? every / 2 : 0; r < count; r += every) {
            if (!test_row(r / every))
                continue;
            Problem problem = row_problem(&rows[r], (uint32_t)r + 1);
            check(&problem);
            problem_free(&problem);
        }
    }
}

static void check_twice(Problem *problem)
{
    VklContext *own_context = test_context();
    VklDevice *own = test_device(own_context);
    Job first = job_begin(device, problem, EVERYTHING), second = job_begin(own, problem, EVERYTHING);
    job_train(&first);
    job_train(&second);
    same_bits("second run", &first, &second, PROBLEM_DC0);
    job_end(&first);
    job_end(&second);
    vkl_device_destroy(own);
    vkl_context_destroy(own_context);
}

Test(operator, two_runs_give_the_same_bits)
{
    for_some_rows(8, check_twice);
}

static void check_requests(Problem *problem)
{
    static const unsigned requests[] = {
        0,
        PARAMS_BIT,
        PROBLEM_BIT(PROBLEM_DX),
        PROBLEM_BIT(PROBLEM_DH0),
        PROBLEM_BIT(PROBLEM_DC0),
        PROBLEM_BIT(PROBLEM_DX) | PARAMS_BIT,
        PROBLEM_BIT(PROBLEM_Y) | PROBLEM_BIT(PROBLEM_DH0) | PROBLEM_BIT(PROBLEM_DC0),
        PROBLEM_BIT(PROBLEM_HN) | PROBLEM_BIT(PROBLEM_DC0) | PARAMS_BIT,
    };
    Job whole = job_begin(device, problem, EVERYTHING);
    job_train(&whole);
    for (size_t k = 0; k < COUNT(requests); k++) {
        Job part = job_begin(device, problem, requests[k]);
        job_train(&part);
        same_bits("part of the gradients", &whole, &part, PROBLEM_DC0);
        job_end(&part);
    }
    job_end(&whole);
}

Test(operator, gradients_that_are_not_asked_for_change_no_bit)
{
    for_some_rows(8, check_requests);
}

/* An array is [outer][N][inner] for some outer and inner. */
static size_t outer_of(const Problem *problem, int array)
{
    const RefRnn *run = &problem->run;
    const VklRnnDesc *desc = &run->desc;
    if (array == PROBLEM_X || array == PROBLEM_DX)
        return desc->batch_first ? 1 : run->T;
    if (array == PROBLEM_Y || array == PROBLEM_GY)
        return desc->batch_first || desc->last_only ? 1 : run->T;
    return desc->layers * (desc->direction == VKL_DIRECTION_BOTH ? 2 : 1);
}

static void copy_rows(const Problem *problem, int array, size_t first, size_t rows, const char *from, char *to, size_t size)
{
    const size_t outer = outer_of(problem, array), N = problem->run.N, inner = problem->count[array] / outer / N * size;
    for (size_t k = 0; k < outer; k++)
        memcpy(to + k * rows * inner, from + (k * N + first) * inner, rows * inner);
}

/* A batch in two parts, each told where it begins, gives each row the bits of the whole. */
static void check_split(Problem *problem)
{
    const RefRnn *run = &problem->run;
    if (run->N == 1)
        return;
    Job whole = job_begin(device, problem, EVERYTHING);
    job_train(&whole);
    const size_t begin_of[] = {0, 2, run->N};
    for (size_t half = 0; half < 2; half++) {
        const size_t first = begin_of[half], rows = begin_of[half + 1] - first;
        unsigned absent = 0;
        for (int k = 0; k < PROBLEM_INPUTS; k++)
            absent |= problem->array[k] ? 0 : PROBLEM_BIT(k);
        Problem part;
        cr_assert(problem_make(&run->desc, run->T, rows, problem->lengths ? PROBLEM_EMPTY : PROBLEM_FULL, absent, &part));
        memcpy(part.label, problem->label, sizeof(part.label));
        part.run.dropout = run->dropout;
        part.run.dropout.first_row += first;
        for (int k = 0; k < PROBLEM_INPUTS; k++)
            if (problem->array[k])
                copy_rows(problem, k, first, rows, (const char *)problem->array[k], (char *)part.array[k], sizeof(double));
        for (size_t k = 0; k < part.tensors; k++)
            memcpy(part.params[k], problem->params[k], part.tensor_count[k] * sizeof(double));
        for (size_t n = 0; part.lengths && n < rows; n++)
            part.lengths[n] = problem->lengths[first + n];
        Job job = job_begin(device, &part, EVERYTHING);
        job_train(&job);
        for (int k = PROBLEM_Y; k < PROBLEM_ARRAYS; k++) {
            if (!job.arrays[k].buffer)
                continue;
            float *got = job_take(&job, k), *all = job_take(&whole, k), *want = allocate(part.count[k], sizeof(float));
            copy_rows(problem, k, first, rows, (const char *)all, (char *)want, sizeof(float));
            cr_assert_eq(memcmp(got, want, part.count[k] * sizeof(float)), 0, "%s: rows from %zu: other bits in %s", part.label,
                         first, problem_array_name[k]);
            free(got);
            free(all);
            free(want);
        }
        job_end(&job);
        problem_free(&part);
    }
    job_end(&whole);
}

Test(operator, a_batch_in_two_parts_gives_the_same_bits)
{
    for_some_rows(4, check_split);
}

/* ---- Edges ---- */

/* Each way that the operator goes through the kernels. */
typedef struct Way {
    const char *name;
    VklCell cell;
    VklDirection direction;
    bool general; /* what a fused kernel cannot do */
    bool before;
} Way;
static const Way ways[] = {
    {"lstm", VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, false, false},
    {"lstm, every option", VKL_CELL_LSTM, VKL_DIRECTION_BOTH, true, false},
    {"gru", VKL_CELL_GRU, VKL_DIRECTION_FORWARD, false, false},
    {"gru reset before", VKL_CELL_GRU, VKL_DIRECTION_BOTH, true, true},
    {"rnn", VKL_CELL_RNN_TANH, VKL_DIRECTION_REVERSE, true, false},
};

static VklRnnDesc way_desc(const Way *way, size_t I, size_t H)
{
    VklRnnDesc desc = vkl_rnn_desc(way->cell, I, H);
    desc.direction = way->direction;
    desc.reset_after = way->cell != VKL_CELL_GRU ? desc.reset_after : !way->before;
    if (way->general) {
        desc.preact_clip = 50;
        desc.merge = way->direction == VKL_DIRECTION_BOTH ? VKL_MERGE_SUM : VKL_MERGE_CONCAT;
        desc.recurrent_dropout = 0.25f;
    }
    if (way->general && way->cell == VKL_CELL_LSTM) {
        desc.peephole = true;
        desc.cell_clip = 50;
        desc.projection = (H + 1) / 2;
    }
    return desc;
}

static Problem edge_problem(const Way *way, size_t T, size_t N, size_t I, size_t H)
{
    Problem problem;
    const VklRnnDesc desc = way_desc(way, I, H);
    cr_assert(problem_make(&desc, T, N, way->general ? PROBLEM_RAGGED : PROBLEM_FULL, 0, &problem));
    problem_draw(&problem, 1, 0.95f / sqrtf((float)H));
    snprintf(problem.label, sizeof(problem.label), "%s T%zu N%zu I%zu H%zu", way->name, T, N, I, H);
    return problem;
}

static void check_edges(const size_t (*sizes)[4], size_t count, unsigned only)
{
    for (size_t k = 0; k < count; k++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            if (!(only & (1u << w)) || !test_row(k * COUNT(ways) + w))
                continue;
            Problem problem = edge_problem(&ways[w], sizes[k][0], sizes[k][1], sizes[k][2], sizes[k][3]);
            cr_assert(problem_solve(&problem));
            Job job = job_begin(device, &problem, EVERYTHING);
            job_train(&job);
            job_check(&job);
            job_end(&job);
            problem_free(&problem);
        }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

/* T, N, I, H. Faults hide where I == H, N == 1, T == 1, or a size is a multiple of the workgroup. */
Test(operator, awkward_sizes)
{
    static const size_t sizes[][4] = {{1, 1, 1, 1},  {3, 1, 2, 3},   {1, 3, 3, 1},   {2, 3, 5, 7},   {5, 2, 7, 33},
                                      {2, 5, 3, 65}, {2, 2, 9, 130}, {2, 3, 4, 257}, {2, 65, 33, 3}, {65, 2, 3, 5}};
    check_edges(sizes, COUNT(sizes), ~0u);
}

/* Options of a cell for the paths: none; what every cell has; what LSTM alone has. */
enum { PLAIN, OPTIONS, PER_GATE, PROJECTED, BEFORE };

static void set_options(VklRnnDesc *desc, int options)
{
    desc->reset_after = desc->cell != VKL_CELL_GRU ? desc->reset_after : options != BEFORE && options != PER_GATE;
    if (options == PLAIN)
        return;
    desc->preact_clip = 3;
    desc->recurrent_dropout = 0.25f;
    desc->recurrent_dropout_mode = options == PER_GATE ? VKL_RECURRENT_DROPOUT_PER_GATE : VKL_RECURRENT_DROPOUT_SHARED;
    if (desc->cell == VKL_CELL_LSTM) {
        desc->peephole = options != PROJECTED;
        desc->input_forget = options == PER_GATE;
        desc->cell_clip = 1;
        desc->projection = options == PROJECTED ? (desc->hidden_size + 1) / 2 : 0;
    }
}

/* Every cell by every path, whatever the device would choose by itself. What it cannot do is refused by name. */
static void check_path(VklRnnPath path)
{
    static const struct {
        VklCell cell;
        int options;
        uint64_t T, N, I, H, layers;
        VklDirection direction;
        VklMerge merge;
        VklBias bias;
        bool last_only, batch_first, recompute;
        unsigned absent;
    } cases[] = {
        {VKL_CELL_LSTM, PLAIN, 1, 1, 1, 1, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false, 0},
        {VKL_CELL_LSTM, PLAIN, 7, 3, 5, 17, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, true, false, 0},
        {VKL_CELL_LSTM, PLAIN, 5, 33, 2, 65, 1, VKL_DIRECTION_REVERSE, VKL_MERGE_CONCAT, VKL_BIAS_SINGLE, true, false, true, 0},
        {VKL_CELL_LSTM, PLAIN, 4, 9, 3, 64, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, true, false, false,
         PROBLEM_BIT(PROBLEM_GHN) | PROBLEM_BIT(PROBLEM_GCN) | PROBLEM_BIT(PROBLEM_H0) | PROBLEM_BIT(PROBLEM_C0)},
        {VKL_CELL_LSTM, PLAIN, 3, 2, 4, 257, 1, VKL_DIRECTION_BOTH, VKL_MERGE_SUM, VKL_BIAS_NONE, false, false, false,
         PROBLEM_BIT(PROBLEM_GY)},
        {VKL_CELL_LSTM, OPTIONS, 5, 17, 3, 17, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, true, 0},
        {VKL_CELL_LSTM, PER_GATE, 4, 5, 3, 65, 1, VKL_DIRECTION_BOTH, VKL_MERGE_SUM, VKL_BIAS_SINGLE, true, false, false, 0},
        {VKL_CELL_LSTM, PER_GATE, 3, 9, 3, 64, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false,
         0},
        {VKL_CELL_LSTM, PROJECTED, 5, 9, 3, 33, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, true, true, 0},
        {VKL_CELL_GRU, PLAIN, 1, 1, 1, 1, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false, 0},
        {VKL_CELL_GRU, PLAIN, 7, 3, 5, 17, 2, VKL_DIRECTION_BOTH, VKL_MERGE_SUM, VKL_BIAS_DOUBLE, true, false, true, 0},
        {VKL_CELL_GRU, PLAIN, 5, 33, 2, 65, 1, VKL_DIRECTION_REVERSE, VKL_MERGE_CONCAT, VKL_BIAS_SINGLE, false, true, false, 0},
        {VKL_CELL_GRU, PLAIN, 4, 9, 4, 64, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false,
         PROBLEM_BIT(PROBLEM_GHN) | PROBLEM_BIT(PROBLEM_H0)},
        {VKL_CELL_GRU, PLAIN, 3, 2, 4, 257, 1, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_NONE, true, false, false,
         PROBLEM_BIT(PROBLEM_GHN)},
        {VKL_CELL_GRU, OPTIONS, 5, 17, 3, 17, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false, 0},
        {VKL_CELL_GRU, BEFORE, 5, 9, 3, 65, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, true, 0},
        {VKL_CELL_GRU, PER_GATE, 4, 3, 3, 64, 1, VKL_DIRECTION_BOTH, VKL_MERGE_SUM, VKL_BIAS_SINGLE, true, true, false, 0},
        {VKL_CELL_RNN_TANH, PLAIN, 7, 3, 5, 17, 2, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, true, true, false, 0},
        {VKL_CELL_RNN_TANH, PLAIN, 5, 33, 2, 65, 1, VKL_DIRECTION_REVERSE, VKL_MERGE_CONCAT, VKL_BIAS_SINGLE, false, false, false,
         0},
        {VKL_CELL_RNN_RELU, PLAIN, 4, 9, 3, 64, 1, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, true, false, true,
         PROBLEM_BIT(PROBLEM_GHN)},
        {VKL_CELL_RNN_RELU, PLAIN, 3, 2, 4, 257, 1, VKL_DIRECTION_BOTH, VKL_MERGE_SUM, VKL_BIAS_NONE, false, false, false, 0},
        {VKL_CELL_RNN_TANH, OPTIONS, 5, 17, 3, 65, 1, VKL_DIRECTION_BOTH, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, true,
         0},
        /* stacks: fewer steps than layers, as many, more */
        {VKL_CELL_LSTM, PLAIN, 1, 3, 5, 17, 3, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false, 0},
        {VKL_CELL_LSTM, PLAIN, 7, 2, 3, 65, 3, VKL_DIRECTION_REVERSE, VKL_MERGE_CONCAT, VKL_BIAS_SINGLE, false, true, false, 0},
        {VKL_CELL_LSTM, PLAIN, 5, 9, 3, 33, 2, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_NONE, true, false, false,
         PROBLEM_BIT(PROBLEM_GHN) | PROBLEM_BIT(PROBLEM_GCN) | PROBLEM_BIT(PROBLEM_H0) | PROBLEM_BIT(PROBLEM_C0)},
        {VKL_CELL_GRU, PLAIN, 2, 3, 5, 17, 2, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, false, false,
         PROBLEM_BIT(PROBLEM_GHN)},
        {VKL_CELL_GRU, PLAIN, 7, 9, 3, 64, 4, VKL_DIRECTION_REVERSE, VKL_MERGE_CONCAT, VKL_BIAS_SINGLE, true, false, false, 0},
        {VKL_CELL_RNN_TANH, PLAIN, 2, 1, 3, 17, 3, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, true, false, false,
         0},
        {VKL_CELL_RNN_RELU, PLAIN, 7, 3, 5, 65, 2, VKL_DIRECTION_FORWARD, VKL_MERGE_CONCAT, VKL_BIAS_DOUBLE, false, true, false,
         PROBLEM_BIT(PROBLEM_GY)},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        if (!test_row(k + (path - 1) * COUNT(cases)))
            continue;
        VklRnnDesc desc = vkl_rnn_desc(cases[k].cell, cases[k].I, cases[k].H);
        desc.layers = cases[k].layers;
        desc.direction = cases[k].direction;
        desc.merge = cases[k].merge;
        desc.bias = cases[k].bias;
        desc.last_only = cases[k].last_only;
        desc.batch_first = cases[k].batch_first;
        desc.recompute = cases[k].recompute;
        desc.path = path;
        set_options(&desc, cases[k].options);
        ProblemLengths lengths = cases[k].options == PLAIN ? PROBLEM_FULL : PROBLEM_RAGGED;
        Problem problem;
        cr_assert(problem_make(&desc, cases[k].T, cases[k].N, lengths, cases[k].absent, &problem));
        cr_assert(problem_draw_and_solve(&problem, (uint32_t)k + 1, cases[k].H > 100 ? 0.2f : WEIGHTS));
        bool five = device->caps.storage_buffers >= 5; /* the floor has four */
        bool side_by_side = cases[k].direction != VKL_DIRECTION_BOTH && !cases[k].recompute;
        bool allowed = path == VKL_RNN_PATH_STEP || (cases[k].options == PLAIN && path == VKL_RNN_PATH_SEQUENCE) ||
                       (cases[k].options == PLAIN && path == VKL_RNN_PATH_WAVEFRONT && side_by_side);
        if (path == VKL_RNN_PATH_PIECES || (five && allowed)) {
            const VklArch arch = device->caps.arch;
            check_problem(device, &problem);
            if (arch == VKL_ARCH_SOFTWARE && path != VKL_RNN_PATH_PIECES &&
                path != VKL_RNN_PATH_SEQUENCE) { /* and the shapes that GPUs have */
                device->caps.arch = VKL_ARCH_GPU;
                check_problem(device, &problem);
                device->caps.arch = arch;
            }
        } else {
            Job job = job_begin(device, &problem, EVERYTHING);
            cr_assert_eq(vkl_rnn_forward(job.rnn, job.stream, &job.forward), VKL_ERROR_UNSUPPORTED, "case %zu", k);
            cr_assert_not_null(strstr(vkl_rnn_error(job.rnn), "path"));
            job_end(&job);
        }
        problem_free(&problem);
    }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

Test(operator, every_cell_in_pieces)
{
    check_path(VKL_RNN_PATH_PIECES);
}

Test(operator, every_cell_by_steps)
{
    check_path(VKL_RNN_PATH_STEP);
}

Test(operator, every_cell_by_whole_sequences)
{
    check_path(VKL_RNN_PATH_SEQUENCE);
}

Test(operator, every_cell_by_layers_side_by_side)
{
    check_path(VKL_RNN_PATH_WAVEFRONT);
}

/* More rows than one axis of a dispatch has workgroups, just as many, one less; and twice as many. */
Test(operator, batches_of_65536_rows)
{
    static const size_t sizes[][4] = {{5, 13107, 1, 2}, {4, 16384, 2, 1}, {1, 65537, 1, 1}, {2, 70000, 1, 1}};
    check_edges(sizes, COUNT(sizes), ~0u);
}

Test(operator, sequences_of_65537_steps)
{
    /* synchronization validation keeps account of every dispatch of a submission: minutes for so many */
    const size_t T = getenv("VK_INSTANCE_LAYERS") ? 2049 : 65537;
    const size_t sizes[][4] = {{T, T < 65537 ? 32 : 1, 1, 1}};
    check_edges(sizes, COUNT(sizes), 1u << 0 | 1u << 2 | 1u << 4);
}

/* What is too long for one submit is cut; the results are the same. */
Test(operator, long_passes_take_several_submits)
{
    if (!test_is_vulkan())
        return;
    const double before = device->caps.submit_cost;
    device->caps.submit_cost = 1e5; /* a few dispatches */
    for (size_t w = 0; w < COUNT(ways); w++) {
        Problem problem = edge_problem(&ways[w], 20, 3, 5, 9);
        cr_assert(problem_solve(&problem));
        Job job = job_begin(device, &problem, EVERYTHING);
        VklStreamStats stats;
        job_train(&job);
        vkl_stream_stats(job.stream, &stats);
        cr_assert_gt(stats.submits, stats.dispatches / 12);
        job_check(&job);
        job_end(&job);
        problem_free(&problem);
    }
    device->caps.submit_cost = before;
}

/* The dispatches of a training step in which every time step is one: T for forward and T for backward, and a few for each
 * layer; both directions together; twice as many where a step needs two products, one after the other. The few: moves of
 * states, products over all steps, peepholes' gradients, the masks of each gate. */
Test(operator, dispatches_of_steps)
{
    static const struct {
        VklCell cell;
        int options;
        VklDirection direction;
        uint64_t each; /* dispatches of a time step, forward and backward */
    } cases[] = {
        {VKL_CELL_LSTM, PLAIN, VKL_DIRECTION_FORWARD, 2},       {VKL_CELL_LSTM, PLAIN, VKL_DIRECTION_BOTH, 2},
        {VKL_CELL_LSTM, OPTIONS, VKL_DIRECTION_BOTH, 2},        {VKL_CELL_LSTM, PER_GATE, VKL_DIRECTION_FORWARD, 2},
        {VKL_CELL_LSTM, PROJECTED, VKL_DIRECTION_BOTH, 4},      {VKL_CELL_GRU, PLAIN, VKL_DIRECTION_BOTH, 2},
        {VKL_CELL_GRU, BEFORE, VKL_DIRECTION_BOTH, 4},          {VKL_CELL_RNN_TANH, PLAIN, VKL_DIRECTION_BOTH, 2},
        {VKL_CELL_RNN_RELU, OPTIONS, VKL_DIRECTION_REVERSE, 2},
    };
    const uint64_t T = 40, L = 2;
    if (device->caps.storage_buffers < 5)
        return;
    for (size_t k = 0; k < COUNT(cases); k++) {
        if (!test_row(k))
            continue;
        VklRnnDesc desc = vkl_rnn_desc(cases[k].cell, 3, 5);
        desc.layers = L;
        desc.direction = cases[k].direction;
        desc.path = VKL_RNN_PATH_STEP;
        set_options(&desc, cases[k].options);
        Problem problem;
        cr_assert(problem_make(&desc, T, 2, PROBLEM_FULL, 0, &problem));
        problem_draw(&problem, 1, 0.3f);
        Job job = job_begin(device, &problem, EVERYTHING);
        VklStreamStats stats;
        job_train(&job);
        vkl_stream_stats(job.stream, &stats);
        cr_assert_geq(stats.dispatches, cases[k].each * T * L);
        uint64_t D = desc.direction == VKL_DIRECTION_BOTH ? 2 : 1,
                 few = cases[k].options == PLAIN      ? 12
                       : cases[k].options == PER_GATE ? 50
                                                      : 25,
                 rest = few * L * D;
        cr_assert_leq(stats.dispatches, cases[k].each * T * L + rest, "case %zu: %llu", k, (unsigned long long)stats.dispatches);
        job_end(&job);
        problem_free(&problem);
    }
}

/* Layers side by side: T + L - 1 for forward and as many for backward, and a few for each layer, which do not grow with T. */
Test(operator, dispatches_of_layers_side_by_side)
{
    static const VklCell cells[] = {VKL_CELL_LSTM, VKL_CELL_GRU, VKL_CELL_RNN_TANH};
    const uint64_t T = 40, L = 3;
    if (device->caps.storage_buffers < 5)
        return;
    for (size_t k = 0; k < COUNT(cells); k++) {
        VklRnnDesc desc = vkl_rnn_desc(cells[k], 3, 5);
        desc.layers = L;
        desc.path = VKL_RNN_PATH_WAVEFRONT;
        Problem problem;
        cr_assert(problem_make(&desc, T, 2, PROBLEM_FULL, 0, &problem));
        problem_draw(&problem, 1, 0.3f);
        Job job = job_begin(device, &problem, EVERYTHING);
        VklStreamStats stats;
        job_train(&job);
        vkl_stream_stats(job.stream, &stats);
        cr_assert_geq(stats.dispatches, 2 * (T + L - 1));
        cr_assert_leq(stats.dispatches, 2 * (T + L - 1) + 12 * L, "case %zu: %llu", k, (unsigned long long)stats.dispatches);
        job_end(&job);
        problem_free(&problem);
    }
}

/* What only the first layer has: no W_ih, or an input after dropout. */
Test(operator, layers_side_by_side_with_a_first_of_its_own)
{
    static const VklCell cells[] = {VKL_CELL_LSTM, VKL_CELL_GRU, VKL_CELL_RNN_TANH};
    if (device->caps.storage_buffers < 5)
        return;
    for (size_t k = 0; k < COUNT(cells); k++)
        for (int skip = 0; skip < 2; skip++) {
            VklRnnDesc desc = vkl_rnn_desc(cells[k], 17, 17);
            desc.layers = skip ? 3 : 2;
            desc.skip_input = skip;
            desc.input_dropout = skip ? 0 : 0.25f;
            desc.path = VKL_RNN_PATH_WAVEFRONT;
            Problem problem;
            cr_assert(problem_make(&desc, 5, 3, PROBLEM_FULL, 0, &problem));
            cr_assert(problem_draw_and_solve(&problem, (uint32_t)k + 1, WEIGHTS));
            check_problem(device, &problem);
            problem_free(&problem);
        }
}

/* What layers side by side cannot do is refused with its path's name, and nothing is recorded. */
Test(operator, layers_side_by_side_are_refused)
{
    static const struct {
        VklDirection direction;
        VklStorage storage;
        bool recompute, reset_before;
        float dropout, cell_clip;
        ProblemLengths lengths;
    } cases[] = {
        {.direction = VKL_DIRECTION_BOTH},
        {.storage = VKL_STORAGE_FLOAT16},
        {.recompute = true},
        {.dropout = 0.5f},
        {.lengths = PROBLEM_RAGGED},
        {.cell_clip = 1},
        {.reset_before = true},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        VklRnnDesc desc = vkl_rnn_desc(cases[k].reset_before ? VKL_CELL_GRU : VKL_CELL_LSTM, 3, 5);
        desc.layers = 2;
        desc.path = VKL_RNN_PATH_WAVEFRONT;
        desc.direction = cases[k].direction;
        desc.storage = cases[k].storage;
        desc.recompute = cases[k].recompute;
        desc.reset_after = !cases[k].reset_before;
        desc.dropout = cases[k].dropout;
        desc.cell_clip = cases[k].cell_clip;
        Problem problem;
        cr_assert(problem_make(&desc, 4, 3, cases[k].lengths, 0, &problem));
        problem_draw(&problem, 1, 0.3f);
        Job job = job_begin(device, &problem, EVERYTHING);
        cr_assert_eq(vkl_rnn_forward(job.rnn, job.stream, &job.forward), VKL_ERROR_UNSUPPORTED, "case %zu", k);
        cr_assert_not_null(strstr(vkl_rnn_error(job.rnn), "side by side"));
        job_end(&job);
        problem_free(&problem);
    }
}

/* Row r of the gates' biases has the sign of bit r of a counter: every combination of open and closed gates. */
Test(operator, saturated_gates_are_exact)
{
    for (size_t w = 0; w < COUNT(ways); w++) {
        Problem problem = edge_problem(&ways[w], 4, 3, 2, 16);
        problem.run.desc.preact_clip = 0;
        for (size_t k = 0; k < problem.tensors; k++)
            for (size_t r = 0; !strncmp(ref_rnn_tensor(&problem.run.desc, k).name, "bias_ih", 7) && r < problem.tensor_count[k];
                 r++)
                problem.params[k][r] = (r % 16) >> (r / 16) & 1 ? 1e4 : -1e4;
        strncat(problem.label, ", biases of +-1e4", 100);
        cr_assert(problem_solve(&problem));
        Job job = job_begin(device, &problem, EVERYTHING);
        job_train(&job);
        job_check(&job);
        job_end(&job);
        problem_free(&problem);
    }
}

/* Where a NaN goes is the same in the reference, term by term: it must arrive, and must not leak into other rows of the batch. */
Test(operator, nan_goes_where_it_must)
{
    for (size_t w = 0; w < COUNT(ways); w++)
        for (int k = 0; k <= PROBLEM_INPUTS; k++) {
            VklRnnDesc desc = way_desc(&ways[w], 3, 4);
            desc.recurrent_dropout = 0; /* what is dropped is 0, be it NaN */
            Problem problem;
            cr_assert(problem_make(&desc, 3, 5, PROBLEM_FULL, 0, &problem));
            problem_draw(&problem, 1, WEIGHTS);
            double *array = k == PROBLEM_INPUTS ? problem.params[0] : problem.array[k];
            snprintf(problem.label, sizeof(problem.label), "%s, NaN in %s", ways[w].name,
                     k == PROBLEM_INPUTS ? "weight_ih_l0" : problem_array_name[k]);
            if (array) {
                array[1] = NAN;
                cr_assert(problem_solve(&problem));
                Job job = job_begin(device, &problem, EVERYTHING);
                job_train(&job);
                bool arrived = false;
                for (int a = PROBLEM_Y; a < PROBLEM_ARRAYS; a++) {
                    check_array(&job, a);
                    for (size_t e = 0; problem.array[a] && e < problem.count[a]; e++)
                        arrived = arrived || isnan(problem.array[a][e]);
                }
                cr_assert(arrived, "%s: none came out", problem.label);
                check_dparams(&job);
                job_end(&job);
            }
            problem_free(&problem);
        }
}

/* What x and gy hold past a row's end may be anything: it is not looked at. */
Test(operator, numbers_past_the_end_are_ignored)
{
    const size_t T = 5, N = 4;
    for (size_t w = 0; w < COUNT(ways); w++)
        for (int array = PROBLEM_X; array <= PROBLEM_GY; array += PROBLEM_GY - PROBLEM_X) {
            Problem problem = edge_problem(&ways[w], T, N, 3, 4);
            const size_t width = problem.count[array] / (T * N);
            for (size_t k = 0; problem.lengths && k < T * N; k++)
                for (size_t j = 0; k / N >= problem.lengths[k % N] && j < width; j++)
                    problem.array[array][k * width + j] = NAN;
            snprintf(problem.label, sizeof(problem.label), "%s, NaN in %s past the end", ways[w].name, problem_array_name[array]);
            cr_assert(problem_solve(&problem));
            Job job = job_begin(device, &problem, EVERYTHING);
            job_train(&job);
            for (int a = PROBLEM_Y; a < PROBLEM_ARRAYS; a++)
                check_array(&job, a);
            check_dparams(&job);
            job_end(&job);
            problem_free(&problem);
        }
}

/* Lower limits: every array is seen through several windows, and a dispatch has few workgroups on an axis. */
Test(operator, small_windows_give_the_same)
{
    static const VklDeviceLimits limits[] = {{.storage_range = 8192}, {.storage_range = 16384}, {.workgroups = {4, 0, 0}}};
    static const size_t sizes[][4] = {{5, 7, 3, 5}, {12, 3, 2, 9}, {3, 33, 5, 4}};
    for (size_t l = 0; l < COUNT(limits); l++) {
        VklDevice *narrow_device = device_within(context, limits[l]);
        for (size_t k = 0; k < COUNT(sizes); k++)
            for (size_t w = 0; w < COUNT(ways); w++) {
                if (!test_row((l * COUNT(sizes) + k) * COUNT(ways) + w))
                    continue;
                Problem problem = edge_problem(&ways[w], sizes[k][0], sizes[k][1], sizes[k][2], sizes[k][3]);
                cr_assert(problem_solve(&problem));
                check_problem(narrow_device, &problem);
                problem_free(&problem);
            }
        vkl_device_destroy(narrow_device);
    }
}

/* ---- Calls after calls ---- */

/* Prepared work reads the lengths when it runs, and can be recorded again. */
Test(operator, prepared_work_reads_the_lengths_of_the_day)
{
    for (size_t w = 0; w < COUNT(ways); w++) {
        const VklRnnDesc desc = way_desc(&ways[w], 3, 5);
        Problem problem;
        VklExec *forward = NULL, *backward = NULL;
        cr_assert(problem_make(&desc, 4, 3, PROBLEM_EMPTY, 0, &problem));
        problem_draw(&problem, 1, WEIGHTS);
        snprintf(problem.label, sizeof(problem.label), "%s prepared", ways[w].name);
        Job job = job_begin(device, &problem, EVERYTHING);
        RUN(&job, vkl_rnn_prepare_forward(job.rnn, &job.forward, &forward));
        RUN(&job, vkl_rnn_prepare_backward(job.rnn, &job.backward, &backward));
        static const uint32_t lengths[][3] = {{0, 4, 2}, {3, 0, 1}, {4, 4, 4}, {0, 4, 2}};
        for (size_t k = 0; k < COUNT(lengths); k++) {
            memcpy(problem.lengths, lengths[k], sizeof(lengths[k]));
            cr_assert(problem_solve(&problem));
            TEST_OK(context, vkl_stream_write(job.stream, job.lengths.slice, lengths[k], sizeof(lengths[k])));
            TEST_OK(context, vkl_exec_record(forward, job.stream));
            TEST_OK(context, vkl_exec_record(backward, job.stream));
            TEST_OK(context, vkl_stream_wait(job.stream));
            job_check(&job);
        }
        vkl_exec_destroy(forward);
        vkl_exec_destroy(backward);
        job_end(&job);
        problem_free(&problem);
    }
}

/* Calls that differ in what dropout draws, or in whether it acts, are not taken for each other; the first comes again as it was. */
Test(operator, each_offset_draws_masks_of_its_own)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, 3, 5);
    desc.layers = 2;
    desc.input_dropout = desc.dropout = desc.recurrent_dropout = 0.5f;
    Problem problem;
    cr_assert(problem_make(&desc, 4, 3, PROBLEM_FULL, 0, &problem));
    problem_draw(&problem, 1, WEIGHTS);
    Job job = job_begin(device, &problem, EVERYTHING);
    static const VklDropout draws[] = {
        {1, 1, 0, 0}, {1, 2, 0, 0}, {2, 1, 0, 0}, {1, 1, 7, 0}, {1, 1, 0, 3}, {UINT64_C(1) << 32 | 1, 1, 0, 0}, {1, 1, 0, 0}};
    for (size_t k = 0; k < COUNT(draws); k++) {
        problem.run.dropout = job.forward.dropout = job.backward.dropout = draws[k];
        snprintf(problem.label, sizeof(problem.label), "draw %zu", k);
        problem.run.training = true;
        cr_assert(problem_solve(&problem));
        job_train(&job);
        job_check(&job);
        problem.run.training = false;
        cr_assert(problem_solve(&problem));
        job_infer(&job);
        for (int a = PROBLEM_Y; a <= PROBLEM_CN; a++)
            check_array(&job, a);
    }
    job_end(&job);
    problem_free(&problem);
}

/* The state carried from call to call: a sequence in two parts has the bits of the whole, and the whole's gradient of h0 comes through. */
Test(operator, a_sequence_in_two_parts_gives_the_same)
{
    for (size_t w = 0; w < COUNT(ways); w++) {
        if (ways[w].direction != VKL_DIRECTION_FORWARD)
            continue;
        VklRnnDesc desc = way_desc(&ways[w], 3, 5);
        desc.layers = 1; /* the second part of the layer below is not there yet when the first part runs backward */
        Problem whole, part[2];
        cr_assert(problem_make(&desc, 6, 3, PROBLEM_FULL, 0, &whole));
        problem_draw(&whole, 1, WEIGHTS);
        snprintf(whole.label, sizeof(whole.label), "%s in two parts", ways[w].name);
        cr_assert(problem_solve(&whole));
        Job job[2];
        const size_t steps = 3, x = whole.count[PROBLEM_X] / 2, y = whole.count[PROBLEM_Y] / 2;
        for (size_t k = 0; k < 2; k++) {
            cr_assert(problem_make(&desc, steps, 3, PROBLEM_FULL, 0, &part[k]));
            problem_draw(&part[k], 1, WEIGHTS); /* the same weights and first states */
            memcpy(part[k].label, whole.label, sizeof(whole.label));
            memcpy(part[k].array[PROBLEM_X], whole.array[PROBLEM_X] + k * x, x * sizeof(double));
            memcpy(part[k].array[PROBLEM_GY], whole.array[PROBLEM_GY] + k * y, y * sizeof(double));
            job[k] = job_begin(device, &part[k], EVERYTHING);
        }
        job[1].forward.h0 = job[0].forward.hn;
        job[1].forward.c0 = job[0].forward.cn;
        job[0].backward.ghn = job[1].backward.dh0;
        job[0].backward.gcn = job[1].backward.dc0;
        RUN(&job[0], vkl_rnn_forward(job[0].rnn, job[0].stream, &job[0].forward));
        RUN(&job[0], vkl_rnn_forward(job[1].rnn, job[0].stream, &job[1].forward));
        RUN(&job[0], vkl_rnn_backward(job[1].rnn, job[0].stream, &job[1].backward));
        RUN(&job[0], vkl_rnn_backward(job[0].rnn, job[0].stream, &job[0].backward));
        TEST_OK(context, vkl_stream_wait(job[0].stream));
        for (size_t k = 0; k < 2; k++) {
            float *got_y = job_take(&job[k], PROBLEM_Y), *got_dx = job_take(&job[k], PROBLEM_DX);
            test_compare("y of a part", got_y, whole.array[PROBLEM_Y] + k * y, y, budget_forward(&whole.run));
            test_compare("dx of a part", got_dx, whole.array[PROBLEM_DX] + k * x, x, budget_backward(&whole.run));
            free(got_y);
            free(got_dx);
        }
        float *hn = job_take(&job[1], PROBLEM_HN), *dh0 = job_take(&job[0], PROBLEM_DH0);
        test_compare("hn", hn, whole.array[PROBLEM_HN], whole.count[PROBLEM_HN], budget_forward(&whole.run));
        test_compare("dh0", dh0, whole.array[PROBLEM_DH0], whole.count[PROBLEM_DH0], budget_backward(&whole.run));
        free(hn);
        free(dh0);
        for (size_t k = 0; k < 2; k++) {
            job_end(&job[k]);
            problem_free(&part[k]);
        }
        problem_free(&whole);
    }
}

/* ---- Refusals ---- */

Test(operator, descriptions_that_make_no_sense_are_refused)
{
#define REFUSED(of, change, word)                                                                                               \
    do {                                                                                                                        \
        VklRnnDesc d = vkl_rnn_desc(of, 3, 4);                                                                                  \
        VklRnn *rnn = NULL;                                                                                                     \
        change;                                                                                                                 \
        EXPECT_REFUSAL(#of " " #change, vkl_rnn_create(device, &d, &rnn), VKL_ERROR_INVALID, vkl_context_error(context), word); \
        cr_assert_null(rnn);                                                                                                    \
    } while (0)
#define REFUSED_BY_OTHERS(change, word)           \
    do {                                          \
        REFUSED(VKL_CELL_GRU, change, word);      \
        REFUSED(VKL_CELL_RNN_TANH, change, word); \
        REFUSED(VKL_CELL_RNN_RELU, change, word); \
    } while (0)
    REFUSED_BY_OTHERS(d.projection = 2, "projection");
    REFUSED_BY_OTHERS(d.peephole = true, "peephole");
    REFUSED_BY_OTHERS(d.input_forget = true, "input_forget");
    REFUSED_BY_OTHERS(d.cell_clip = 1, "cell_clip");
    REFUSED(VKL_CELL_LSTM, d.reset_after = false, "reset_after");
    REFUSED(VKL_CELL_RNN_TANH, d.reset_after = false, "reset_after");
    REFUSED(VKL_CELL_RNN_RELU, d.reset_after = false, "reset_after");
#define REFUSED_BY_ALL(change, word)              \
    do {                                          \
        REFUSED(VKL_CELL_LSTM, change, word);     \
        REFUSED(VKL_CELL_GRU, change, word);      \
        REFUSED(VKL_CELL_RNN_TANH, change, word); \
    } while (0)
    REFUSED_BY_ALL(d.skip_input = true, "skip_input");
    REFUSED_BY_ALL(d.struct_size = 5, "struct_size");
    REFUSED_BY_ALL(d.input_size = 0, "input_size");
    REFUSED_BY_ALL(d.hidden_size = 0, "hidden_size");
    REFUSED_BY_ALL(d.layers = 0, "layers");
    REFUSED_BY_ALL(d.cell = (VklCell)77, "cell is 77");
    REFUSED_BY_ALL(d.direction = (VklDirection)78, "direction is 78");
    REFUSED_BY_ALL(d.merge = (VklMerge)79, "merge is 79");
    REFUSED_BY_ALL(d.path = (VklRnnPath)76, "path is 76");
    REFUSED_BY_ALL(d.bias = (VklBias)80, "bias is 80");
    REFUSED_BY_ALL(d.recurrent_dropout_mode = (VklRecurrentDropout)81, "recurrent_dropout_mode is 81");
    REFUSED_BY_ALL(d.activations[0][0].kind = (VklGateActivation)82, "82");
    REFUSED_BY_ALL(d.activations[0][0] = vkl_gate_activation(VKL_GATE_AFFINE), "alpha");
    REFUSED_BY_ALL(d.activations[0][0] = vkl_gate_activation(VKL_GATE_SCALED_TANH), "alpha");
    REFUSED_BY_ALL(d.activations[0][0] = ((VklActivationDesc){VKL_GATE_ELU, NAN, 0}), "alpha");
    REFUSED_BY_ALL(d.preact_clip = -1, "preact_clip is -1");
    REFUSED_BY_ALL(d.preact_clip = NAN, "preact_clip is nan");
    REFUSED(VKL_CELL_LSTM, d.cell_clip = -2, "cell_clip is -2");
    REFUSED(VKL_CELL_LSTM, d.cell_clip = NAN, "cell_clip is nan");
    REFUSED(VKL_CELL_LSTM, d.activations[0][2].kind = (VklGateActivation)83, "83");
    REFUSED_BY_ALL(d.input_dropout = -0.5f, "input_dropout is -0.5");
    REFUSED_BY_ALL(d.input_dropout = 1.5f, "input_dropout is 1.5");
    REFUSED_BY_ALL(d.dropout = 1.5f, "dropout is 1.5");
    REFUSED_BY_ALL(d.dropout = NAN, "dropout is nan");
    REFUSED_BY_ALL(d.recurrent_dropout = 2, "recurrent_dropout is 2");
    REFUSED_BY_ALL(d.recurrent_dropout = NAN, "recurrent_dropout is nan");

    /* what a cell does not look at may be anything */
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_RNN_TANH, 3, 4);
    desc.activations[0][1].kind = (VklGateActivation)84;
    VklRnn *rnn = NULL;
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    vkl_rnn_destroy(rnn);
}

/* ---- Storage of halves ---- */

#define KEPT_GATES (4 * 0x1p-11)       /* gradients, of gates that were kept as halves */
#define ROUNDED_MATRICES (2 * 0x1p-11) /* results, of matrices that had more digits than a half */

static double nearest_half(double x)
{
    int exponent;
    frexp(x, &exponent);
    int place = exponent > -13 ? exponent - 11 : -24;
    return ldexp(nearbyint(ldexp(x, -place)), place);
}

/* The matrices as a pass reads them. */
static void round_matrices(Problem *problem)
{
    for (size_t k = 0; k < problem->tensors; k++) {
        const RefTensor tensor = ref_rnn_tensor(&problem->run.desc, k);
        if (strncmp(tensor.name, "weight_", 7) == 0 && strncmp(tensor.name, "weight_ch", 9) != 0)
            for (size_t e = 0; e < problem->tensor_count[k]; e++)
                problem->params[k][e] = nearest_half(problem->params[k][e]);
    }
}

static void draw_halves(Problem *problem, uint32_t seed, float weights)
{
    do {
        problem_draw(problem, seed, weights);
        round_matrices(problem);
        cr_assert(problem_solve(problem));
        seed += 1000;
    } while (problem->run.nearest < 1e-4 && seed < 1000000);
    cr_assert(problem->run.nearest >= 1e-4, "%s: never away from kinks", problem->label);
}

/* With matrices that are halves already, results are those of float32, and so are gradients where backward computes gates again. Gates
 * that were kept as halves cost gradients up to the budget of docs/numerics.md. */
static void check_halves(Problem *problem)
{
    problem->run.desc.storage = VKL_STORAGE_FLOAT16;
    problem->run.desc.recompute = true;
    Job exact = job_begin(device, problem, EVERYTHING);
    job_train(&exact);
    job_check(&exact);
    problem->run.desc.recompute = false;
    Job job = job_begin(device, problem, EVERYTHING);
    halves_backward = KEPT_GATES;
    job_train(&job);
    job_check(&job);
    halves_backward = 0;
    same_bits("storage of halves", &job, &exact, PROBLEM_CN);
    job_end(&job);
    job_end(&exact);
}

/* Within the budget of operands that are rounded and gates that are kept as halves. */
static void check_rounded(const Problem *problem)
{
    Job job = job_begin(device, problem, EVERYTHING);
    halves_forward = ROUNDED_MATRICES;
    halves_backward = KEPT_GATES;
    job_train(&job);
    job_check(&job);
    halves_forward = halves_backward = 0;
    job_end(&job);
}

/* As the device is, and as a GPU without cooperative matrices, whose steps read packed halves. */
Test(operator, halves_with_every_two_options)
{
    static CoveringRow rows[COVERING_CAPACITY];
    const size_t count = covering_table(rows, true);
    device->caps.cooperative[0] = 0;
    for (size_t r = 0; r < 2 * count; r++) {
        Problem problem;
        device->caps.arch = r < count ? device->caps.arch : VKL_ARCH_GPU;
        if (r >= count && test_is_vulkan() && r % 9) /* a software device compiles for each row anew, and for long */
            continue;
        if (!test_row(r))
            continue;
        cr_assert(covering_problem(&rows[r % count], &problem));
        draw_halves(&problem, (uint32_t)(r % count) + 1, WEIGHTS);
        check_halves(&problem);
        problem_free(&problem);
    }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

Test(operator, matrices_with_more_digits_cost_their_rounding)
{
    static const size_t sizes[][4] = {{1, 1, 1, 1}, {3, 1, 2, 3}, {5, 2, 7, 33}, {2, 3, 4, 257}, {2, 65, 33, 3}, {65, 2, 3, 5}};
    for (size_t k = 0; k < COUNT(sizes); k++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            if (!test_row(k * COUNT(ways) + w))
                continue;
            Problem problem = edge_problem(&ways[w], sizes[k][0], sizes[k][1], sizes[k][2], sizes[k][3]);
            cr_assert(problem_solve(&problem));
            problem.run.desc.storage = VKL_STORAGE_FLOAT16;
            check_rounded(&problem);
            problem_free(&problem);
        }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

/* Cooperative matrices round h, x and gradients as well, each to a half's digits whatever its size. */
Test(operator, cooperative_matrices_cost_the_rounding_of_both_operands)
{
    static const size_t sizes[][4] = {{3, 35, 40, 48}};
    bool there = device->caps.cooperative[0] && (device->caps.arch == VKL_ARCH_GPU || device->caps.subgroup_max <= 8);
    device->caps.arch = there ? VKL_ARCH_GPU : device->caps.arch; /* see test_kernels.c */
    for (size_t k = 0; there && k < COUNT(sizes); k++)
        for (size_t w = 0; w < COUNT(ways); w++) {
            Problem problem = edge_problem(&ways[w], sizes[k][0], sizes[k][1], sizes[k][2], sizes[k][3]);
            round_matrices(&problem);
            cr_assert(problem_solve(&problem));
            problem.run.desc.storage = VKL_STORAGE_FLOAT16;
            problem.run.desc.path = VKL_RNN_PATH_PIECES;
            check_rounded(&problem);
            problem_free(&problem);
        }
    cr_log_info("worst forward %.2g: %s", worst_forward.error, worst_forward.what);
    cr_log_info("worst backward %.2g: %s", worst_backward.error, worst_backward.what);
}

/* A weight of 65,520 or more is infinite as a half, and what it multiplies tells. */
Test(operator, weights_too_large_for_a_half_are_seen)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_RNN_RELU, 1, 1);
    desc.bias = VKL_BIAS_NONE;
    desc.storage = VKL_STORAGE_FLOAT16;
    for (int large = 0; large < 2; large++) {
        Problem problem;
        cr_assert(problem_make(&desc, 1, 1, PROBLEM_FULL, PROBLEM_BIT(PROBLEM_H0), &problem));
        problem_draw(&problem, 1, WEIGHTS);
        problem.array[PROBLEM_X][0] = 1;
        problem.params[0][0] = large ? 65520 : 65519;
        cr_assert(problem_solve(&problem));
        Job job = job_begin(device, &problem, PROBLEM_BIT(PROBLEM_Y));
        job_infer(&job);
        float *y = job_take(&job, PROBLEM_Y);
        cr_assert(large ? isinf(y[0]) && y[0] > 0 : y[0] == 65504, "a weight of %g gives %g", problem.params[0][0], (double)y[0]);
        free(y);
        job_end(&job);
        problem_free(&problem);
    }
}

/* Of each (t, n) of an LSTM layer the reserve keeps gates in 2 H numbers, c and h in H each; the workspace has the gates of one
 * layer, and the parameters, as numbers and packed. */
Test(operator, halves_take_less_reserve)
{
    enum { T = 64, N = 32, H = 64, LAYERS = 3 };
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, H, H);
    VklRnnSizes sizes[2];
    desc.layers = LAYERS;
    for (int halves = 0; halves < 2; halves++) {
        VklRnn *rnn;
        desc.storage = halves ? VKL_STORAGE_FLOAT16 : VKL_STORAGE_FLOAT32;
        TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
        TEST_OK(context, vkl_rnn_sizes(rnn, T, N, &sizes[halves]));
        vkl_rnn_destroy(rnn);
    }
    cr_assert_eq(sizes[1].params, sizes[0].params);
    cr_assert_eq(sizes[0].reserve - sizes[1].reserve, (uint64_t)4 * LAYERS * T * N * 2 * H);
    cr_assert_eq(sizes[1].backward_workspace - sizes[0].backward_workspace,
                 (uint64_t)4 * 4 * T * N * H + sizes[0].params / 2 * 3);
}

/* A plan for a GPU, whatever the device. */
Test(operator, steps_read_packed_halves_on_gpus)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_GRU, 5, 8);
    desc.storage = VKL_STORAGE_FLOAT16;
    desc.path = VKL_RNN_PATH_STEP;
    VklCaps caps = device->caps;
    caps.arch = VKL_ARCH_GPU;
    VklPlan plan;
    vkl_plan_init(&plan, &caps);
    const VklRnnPass pass = {.desc = &desc,
                             .T = 3,
                             .N = 2,
                             .params = vkl_array(VKL_SLOT_PARAMS, 0),
                             .x = vkl_array(VKL_SLOT_X, 0),
                             .lengths = VKL_NO_ARRAY,
                             .h0 = VKL_NO_ARRAY,
                             .c0 = VKL_NO_ARRAY,
                             .y = vkl_array(VKL_SLOT_Y, 0),
                             .hn = VKL_NO_ARRAY,
                             .cn = VKL_NO_ARRAY,
                             .reserve = VKL_NO_ARRAY,
                             .workspace = vkl_array(VKL_SLOT_WORKSPACE, 0),
                             .state = VKL_NO_ARRAY};
    size_t packed = 0, steps = 0;
    vkl_plan_rnn_forward(&plan, &pass);
    cr_assert(plan.status == VKL_OK || caps.storage_buffers < 5, "%s", plan.error);
    for (size_t i = 0; i < plan.count; i++) {
        packed += plan.ops[i].kernel == VKL_KERNEL_NARROW && plan.ops[i].spec[VKL_SPEC_FORM] == VKL_NARROW_PACK;
        steps += plan.ops[i].kernel == VKL_KERNEL_STEP_FORWARD && plan.ops[i].spec[VKL_SPEC_STEP_FLAGS] & VKL_STEP_HALVES;
    }
    cr_assert(caps.storage_buffers < 5 || (packed == 1 && steps == 3), "packed %zu times, read by %zu of 3 steps", packed, steps);
    vkl_plan_finish(&plan);
}

/* SPDX-License-Identifier: MIT
 *
 * VklRnn through the public API, on the device of the environment, against PyTorch's golden files and the double-precision reference.
 *
 * Tolerances: docs/numerics.md, "Budgets".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "harness.h"
#include "placed.h"
#include "reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Problems: inputs and what must come out ---- */

typedef enum Array { X, H0, C0, GY, GHN, GCN, PARAMS, Y, HN, CN, DX, DH0, DC0, DPARAMS, ARRAYS } Array;
#define INPUTS Y /* the arrays before Y are inputs */

static const char *const array_name[ARRAYS] = {"x", "h0", "c0", "gy", "ghn", "gcn", "params",
                                               "y", "hn", "cn", "dx", "dh0", "dc0", "dparams"};

static size_t array_count(const RefLstm *size, Array array)
{
    switch (array) {
    case X:
    case DX:
        return size->T * size->N * size->I;
    case Y:
    case GY:
        return size->T * size->N * size->H;
    case PARAMS:
    case DPARAMS:
        return ref_lstm_params(size);
    default:
        return size->L * size->N * size->H;
    }
}

typedef struct Problem {
    RefLstm size;
    char label[96];
    bool absent[ARRAYS];
    float *in[INPUTS];
    double *want[ARRAYS]; /* of the outputs */
} Problem;

static Problem problem_empty(RefLstm size)
{
    Problem problem = {.size = size};
    snprintf(problem.label, sizeof(problem.label), "T%zu N%zu I%zu H%zu L%zu", size.T, size.N, size.I, size.H, size.L);
    for (int k = 0; k < INPUTS; k++)
        problem.in[k] = allocate(array_count(&size, (Array)k), sizeof(float));
    for (int k = INPUTS; k < ARRAYS; k++)
        problem.want[k] = allocate(array_count(&size, (Array)k), sizeof(double));
    return problem;
}

/* Weights as PyTorch draws them, within 1/sqrt(H); all else within 1. */
static Problem problem_random(RefLstm size)
{
    Problem problem = problem_empty(size);
    for (int k = 0; k < INPUTS; k++)
        test_random(problem.in[k], array_count(&size, (Array)k), 100 + (uint32_t)k,
                    k == PARAMS ? 0.95f / sqrtf((float)size.H) : 1);
    return problem;
}

static void problem_free(Problem *problem)
{
    for (int k = 0; k < ARRAYS; k++) {
        if (k < INPUTS)
            free(problem->in[k]);
        free(problem->want[k]);
    }
}

/* What must come out, from the reference. */
static void problem_solve(Problem *problem)
{
    const RefLstm *size = &problem->size;
    double *in[INPUTS];
    for (int k = 0; k < INPUTS; k++) {
        const size_t count = array_count(size, (Array)k);
        in[k] = problem->absent[k] ? NULL : allocate(count, sizeof(double));
        for (size_t e = 0; in[k] && e < count; e++)
            in[k][e] = problem->in[k][e];
    }
    double **want = problem->want;
    ref_lstm(size, in[PARAMS], in[X], in[H0], in[C0], in[GY], in[GHN], in[GCN], want[Y], want[HN], want[CN], want[DX], want[DH0],
             want[DC0], want[DPARAMS]);
    for (int k = 0; k < INPUTS; k++)
        free(in[k]);
}

static Problem problem_solved(RefLstm size)
{
    Problem problem = problem_random(size);
    problem_solve(&problem);
    return problem;
}

/* ---- Budgets (docs/numerics.md): relative to the largest magnitude of each tensor ---- */

static double longest_sum(const RefLstm *size)
{
    return (double)((size->I > size->H ? size->I : size->H) + size->H);
}

static double budget_forward(const RefLstm *size)
{
    return 0x1p-24 * (double)size->L * (16 + 2 * sqrt(longest_sum(size)));
}

static double budget_backward(const RefLstm *size)
{
    return 2 * budget_forward(size) + 0x1p-24 * 2 * sqrt((double)(size->T * size->N < 4096 ? size->T * size->N : 4096));
}

static double budget(const RefLstm *size, Array array)
{
    return array <= CN ? budget_forward(size) : budget_backward(size);
}

/* ---- Jobs: a problem placed on a device ---- */

typedef struct Job {
    VklDevice *device;
    const Problem *problem;
    VklRnn *rnn;
    VklStream *stream;
    Placed arrays[ARRAYS]; /* PARAMS and DPARAMS are packed */
    Placed reserve, scratch_forward, scratch_backward;
    VklRnnForward forward;
    VklRnnBackward backward;
} Job;

static VklRnn *create_rnn(VklDevice *device, const RefLstm *size)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, size->I, size->H);
    desc.layers = size->L;
    VklRnn *rnn = NULL;
    TEST_OK(vkl_device_context(device), vkl_rnn_create(device, &desc, &rnn));
    return rnn;
}

/* Between the canonical tensors one after another and the packed buffer. */
static void pack_all(VklContext *context, VklRnn *rnn, const float *canonical, float *packed)
{
    for (uint32_t k = 0; k < vkl_rnn_param_count(rnn); k++) {
        VklParamInfo info;
        TEST_OK(context, vkl_rnn_param_info(rnn, k, &info));
        TEST_OK(context, vkl_rnn_pack(rnn, k, canonical, packed));
        canonical += info.shape[0] * info.shape[1];
    }
}

static void unpack_all(VklContext *context, VklRnn *rnn, const float *packed, float *canonical)
{
    for (uint32_t k = 0; k < vkl_rnn_param_count(rnn); k++) {
        VklParamInfo info;
        TEST_OK(context, vkl_rnn_param_info(rnn, k, &info));
        TEST_OK(context, vkl_rnn_unpack(rnn, k, packed, canonical));
        canonical += info.shape[0] * info.shape[1];
    }
}

/* The arguments of both passes, from where the arrays lie. */
static void job_arguments(Job *job)
{
    const RefLstm *size = &job->problem->size;
    job->forward = vkl_rnn_forward_args(size->T, size->N);
    job->forward.params = job->arrays[PARAMS].slice;
    job->forward.x = job->arrays[X].slice;
    job->forward.h0 = job->arrays[H0].slice;
    job->forward.c0 = job->arrays[C0].slice;
    job->forward.y = job->arrays[Y].slice;
    job->forward.hn = job->arrays[HN].slice;
    job->forward.cn = job->arrays[CN].slice;
    job->forward.reserve = job->reserve.slice;

    job->backward = vkl_rnn_backward_args(size->T, size->N);
    job->backward.params = job->arrays[PARAMS].slice;
    job->backward.x = job->arrays[X].slice;
    job->backward.reserve = job->reserve.slice;
    job->backward.workspace = job->scratch_backward.slice;
    job->backward.gy = job->arrays[GY].slice;
    job->backward.ghn = job->arrays[GHN].slice;
    job->backward.gcn = job->arrays[GCN].slice;
    job->backward.dx = job->arrays[DX].slice;
    job->backward.dh0 = job->arrays[DH0].slice;
    job->backward.dc0 = job->arrays[DC0].slice;
    job->backward.dparams = job->arrays[DPARAMS].slice;
}

static Job job_begin(VklDevice *device, const Problem *problem)
{
    VklContext *context = vkl_device_context(device);
    const RefLstm *size = &problem->size;
    Job job = {.device = device, .problem = problem, .rnn = create_rnn(device, size)};
    TEST_OK(context, vkl_stream_create(device, &job.stream));
    VklRnnSizes sizes;
    TEST_OK(context, vkl_rnn_sizes(job.rnn, size->T, size->N, &sizes));
    for (int k = 0; k < ARRAYS; k++) {
        if (problem->absent[k])
            continue;
        if (k == PARAMS) {
            float *packed = allocate(sizes.params, 1);
            pack_all(context, job.rnn, problem->in[PARAMS], packed);
            job.arrays[k] = placed_make(device, packed, sizes.params / sizeof(float), true);
            free(packed);
        } else if (k == DPARAMS) {
            job.arrays[k] = placed_make(device, NULL, sizes.params / sizeof(float), true);
        } else {
            job.arrays[k] = placed_make(device, k < INPUTS ? problem->in[k] : NULL, array_count(size, (Array)k), false);
        }
    }
    job.reserve = placed_make(device, NULL, sizes.reserve / sizeof(float), true);
    if (sizes.forward_workspace)
        job.scratch_forward = placed_make(device, NULL, sizes.forward_workspace / sizeof(float), true);
    if (sizes.backward_workspace)
        job.scratch_backward = placed_make(device, NULL, sizes.backward_workspace / sizeof(float), true);

    job_arguments(&job);
    return job;
}

static void job_infer(Job *job)
{
    job->forward.reserve = vkl_slice(NULL, 0);
    job->forward.workspace = job->scratch_forward.slice;
    VklContext *context = vkl_device_context(job->device);
    TEST_OK(context, vkl_rnn_forward(job->rnn, job->stream, &job->forward));
    TEST_OK(context, vkl_stream_wait(job->stream));
}

static void job_train(Job *job)
{
    VklContext *context = vkl_device_context(job->device);
    TEST_OK(context, vkl_rnn_forward(job->rnn, job->stream, &job->forward));
    TEST_OK(context, vkl_rnn_backward(job->rnn, job->stream, &job->backward));
    TEST_OK(context, vkl_stream_wait(job->stream));
}

/* An array as it is on the device now, parameters as the canonical tensors. The caller frees it. */
static float *job_take(Job *job, Array array)
{
    char what[128];
    snprintf(what, sizeof(what), "%s %s", job->problem->label, array_name[array]);
    float *numbers = placed_take(job->device, &job->arrays[array], what);
    if (array != PARAMS && array != DPARAMS)
        return numbers;
    float *canonical = allocate(array_count(&job->problem->size, array), sizeof(float));
    unpack_all(vkl_device_context(job->device), job->rnn, numbers, canonical);
    free(numbers);
    return canonical;
}

static void compare_tensors(const RefLstm *size, const char *label, Array array, const float *got, const double *want,
                            double tolerance)
{
    static const char *const names[] = {"dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh"};
    char what[160];
    if (array != DPARAMS) {
        snprintf(what, sizeof(what), "%s %s", label, array_name[array]);
        test_compare(what, got, want, array_count(size, array), tolerance);
        return;
    }
    for (size_t l = 0; l < size->L; l++) {
        const RefLayer at = ref_lstm_layer(size, l);
        const size_t begin[] = {at.w_ih, at.w_hh, at.b_ih, at.b_hh, at.end};
        for (size_t k = 0; k < 4; k++) {
            snprintf(what, sizeof(what), "%s %s_l%zu", label, names[k], l);
            test_compare(what, got + begin[k], want + begin[k], begin[k + 1] - begin[k], tolerance);
        }
    }
}

/* Compares every output that is there from `first` to `last`, and the inputs, which nothing may have changed. */
static void job_check(Job *job, Array first, Array last)
{
    const Problem *problem = job->problem;
    for (int k = 0; k <= (int)last; k++) {
        if (problem->absent[k] || (k >= INPUTS && k < (int)first))
            continue;
        float *got = job_take(job, (Array)k);
        if (k >= INPUTS)
            compare_tensors(&problem->size, problem->label, (Array)k, got, problem->want[k], budget(&problem->size, (Array)k));
        else
            cr_assert_eq(memcmp(got, problem->in[k], array_count(&problem->size, (Array)k) * sizeof(float)), 0,
                         "%s: %s was changed", problem->label, array_name[k]);
        free(got);
    }
    free(placed_take(job->device, &job->reserve, "reserve"));
    if (job->scratch_forward.buffer)
        free(placed_take(job->device, &job->scratch_forward, "workspace of forward"));
    if (job->scratch_backward.buffer)
        free(placed_take(job->device, &job->scratch_backward, "workspace of backward"));
}

static void job_end(Job *job)
{
    for (int k = 0; k < ARRAYS; k++)
        vkl_buffer_destroy(job->arrays[k].buffer);
    vkl_buffer_destroy(job->reserve.buffer);
    vkl_buffer_destroy(job->scratch_forward.buffer);
    vkl_buffer_destroy(job->scratch_backward.buffer);
    vkl_stream_destroy(job->stream);
    vkl_rnn_destroy(job->rnn);
}

static void train_and_check(VklDevice *device, const Problem *problem)
{
    Job job = job_begin(device, problem);
    job_train(&job);
    job_check(&job, Y, DPARAMS);
    job_end(&job);
}

/* What most tests need. */
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

TestSuite(rnn, .init = begin, .fini = end);

/* ---- Results ---- */

Test(rnn, results_and_gradients_are_pytorchs)
{
    for (size_t k = 0; golden_lstm[k]; k++) {
        Golden *golden = golden_open(golden_lstm[k]);
        Problem problem = problem_empty(golden_lstm_size(golden));
        const RefLstm *size = &problem.size;
        snprintf(problem.label, sizeof(problem.label), "%s", golden_lstm[k]);
        for (int a = 0; a < ARRAYS; a++) {
            const size_t count = array_count(size, (Array)a);
            float *numbers = allocate(count, sizeof(float));
            if (a == PARAMS || a == DPARAMS)
                golden_lstm_params(golden, a == PARAMS ? "" : "d", numbers);
            else
                memcpy(numbers, golden_tensor(golden, array_name[a], count), count * sizeof(float));
            for (size_t e = 0; e < count; e++) {
                if (a < INPUTS)
                    problem.in[a][e] = numbers[e];
                else
                    problem.want[a][e] = numbers[e];
            }
            free(numbers);
        }
        train_and_check(device, &problem);
        problem_free(&problem);
        golden_close(golden);
    }
}

/* Bugs hide where I == H, N == 1, T == 1 or L == 1: few rows here have more than one of these. */
static const RefLstm sizes[] = {
    {1, 1, 1, 1, 1},   {3, 1, 1, 3, 1},    {1, 3, 3, 1, 2},    {5, 3, 17, 3, 1},   {3, 17, 3, 17, 2},
    {4, 65, 1, 17, 1}, {2, 3, 65, 257, 1}, {3, 2, 257, 65, 2}, {17, 5, 7, 33, 3},  {65, 2, 3, 5, 2},
    {2, 257, 3, 3, 1}, {1, 2, 17, 65, 1},  {3, 3, 64, 64, 1},  {2, 33, 31, 32, 1},
};

Test(rnn, results_and_gradients_are_the_references)
{
    for (size_t k = 0; k < COUNT(sizes); k++) {
        Problem problem = problem_solved(sizes[k]);
        train_and_check(device, &problem);
        problem_free(&problem);
    }
}

/* More rows than one axis of a dispatch has workgroups, once as time steps and once as batch; sums of as many terms. */
Test(rnn, sequences_beyond_65536_rows)
{
    static const RefLstm long_ones[] = {{2100, 32, 2, 3, 1}, {2, 33000, 1, 1, 1}};
    for (size_t k = 0; k < COUNT(long_ones); k++) {
        Problem problem = problem_solved(long_ones[k]);
        train_and_check(device, &problem);
        problem_free(&problem);
    }
}

/* A binding that reaches a few kilobytes: every array is seen through several windows, products are split in rows and in sums, and
 * recurrent matrices beyond a window are multiplied apart. */
Test(rnn, small_windows_give_the_same)
{
    static const struct {
        uint64_t range;
        RefLstm size;
    } cases[] = {
        {4096, {3, 5, 3, 17, 2}},  {4096, {2, 3, 65, 33, 1}},   {4096, {6, 40, 2, 7, 1}},
        {65536, {3, 5, 3, 65, 2}}, {65536, {5, 65, 17, 33, 1}}, {65536, {3, 2, 257, 65, 1}},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        if (!test_row(k))
            continue;
        VklDevice *narrow = device_within(context, (VklDeviceLimits){.storage_range = cases[k].range});
        Problem problem = problem_solved(cases[k].size);
        snprintf(problem.label + strlen(problem.label), sizeof(problem.label) - strlen(problem.label), " in windows of %u",
                 (unsigned)cases[k].range);
        train_and_check(narrow, &problem);
        Job job = job_begin(narrow, &problem);
        job_infer(&job);
        job_check(&job, Y, CN);
        job_end(&job);
        problem_free(&problem);
        vkl_device_destroy(narrow);
    }
}

Test(rnn, few_workgroups_on_an_axis_give_the_same)
{
    VklDevice *narrow = device_within(context, (VklDeviceLimits){.workgroups = {4, 0, 0}});
    Problem problem = problem_solved((RefLstm){3, 65, 5, 17, 2});
    train_and_check(narrow, &problem);
    problem_free(&problem);
    vkl_device_destroy(narrow);
}

/* The kernels, shapes and ways that GPUs get, with enough terms in the sums of gradients for slices, on the device that there is. */
Test(rnn, what_is_chosen_for_gpus_gives_the_same)
{
    static const RefLstm some[] = {{20, 17, 5, 9, 2}, {33, 8, 12, 20, 1}, {3, 2, 17, 65, 2}};
    VklDevice *other = device_as_gpu(context);
    for (size_t k = 0; k < COUNT(some); k++) {
        Problem problem = problem_solved(some[k]);
        train_and_check(other, &problem);
        problem_free(&problem);
    }
    vkl_device_destroy(other);
}

Test(rnn, inference_has_the_bits_of_training)
{
    static const RefLstm some[] = {{5, 3, 17, 3, 1}, {3, 17, 3, 17, 2}, {9, 2, 7, 65, 3}};
    for (size_t k = 0; k < COUNT(some); k++) {
        Problem problem = problem_solved(some[k]);
        Job trained = job_begin(device, &problem), inferred = job_begin(device, &problem);
        job_train(&trained);
        job_infer(&inferred);
        job_check(&inferred, Y, CN);
        for (int a = Y; a <= CN; a++) {
            float *t = job_take(&trained, (Array)a), *i = job_take(&inferred, (Array)a);
            cr_assert_eq(memcmp(t, i, array_count(&problem.size, (Array)a) * sizeof(float)), 0, "%s %s", problem.label,
                         array_name[a]);
            free(t);
            free(i);
        }
        job_end(&trained);
        job_end(&inferred);
        problem_free(&problem);
    }
}

/* ---- What may be absent ---- */

#define BIT(array) (1u << (array))

Test(rnn, absent_arrays_are_zeros_or_not_computed)
{
    static const unsigned masks[] = {
        BIT(H0),
        BIT(C0),
        BIT(H0) | BIT(C0),
        BIT(GY),
        BIT(GHN),
        BIT(GCN),
        BIT(GY) | BIT(GHN),
        BIT(GHN) | BIT(GCN),
        BIT(GY) | BIT(GHN) | BIT(GCN),
        BIT(Y) | BIT(HN) | BIT(CN),
        BIT(Y),
        BIT(HN),
        BIT(DX),
        BIT(DH0) | BIT(DC0),
        BIT(DPARAMS),
        BIT(DX) | BIT(DH0) | BIT(DC0),
        BIT(DX) | BIT(DPARAMS),
        BIT(DX) | BIT(DH0) | BIT(DC0) | BIT(DPARAMS),
        BIT(H0) | BIT(C0) | BIT(HN) | BIT(CN) | BIT(GHN) | BIT(GCN) | BIT(DX) | BIT(DH0) | BIT(DC0),
    };
    static const RefLstm some[] = {{4, 3, 2, 5, 2}, {1, 2, 3, 4, 1}};
    for (size_t s = 0; s < COUNT(some); s++) {
        for (size_t m = 0; m < COUNT(masks); m++) {
            Problem problem = problem_random(some[s]);
            const size_t end_of_label = strlen(problem.label);
            snprintf(problem.label + end_of_label, sizeof(problem.label) - end_of_label, " absent 0x%x", masks[m]);
            for (int a = 0; a < ARRAYS; a++)
                problem.absent[a] = masks[m] & BIT(a);
            problem_solve(&problem);
            train_and_check(device, &problem);
            Job job = job_begin(device, &problem);
            job_infer(&job);
            job_check(&job, Y, CN);
            job_end(&job);
            problem_free(&problem);
        }
    }
}

Test(rnn, gradients_accumulate_when_asked)
{
    Problem problem = problem_solved((RefLstm){4, 3, 2, 5, 2});
    const size_t count = array_count(&problem.size, DPARAMS);
    float *before = allocate(count, sizeof(float));
    test_random(before, count, 9, 1);
    Job job = job_begin(device, &problem);
    float *packed = allocate(job.arrays[DPARAMS].count, sizeof(float));
    pack_all(context, job.rnn, before, packed);
    TEST_OK(context, vkl_stream_write(job.stream, job.arrays[DPARAMS].slice, packed, job.arrays[DPARAMS].count * sizeof(float)));
    job.backward.accumulate = true;
    job_train(&job);
    for (size_t k = 0; k < count; k++)
        problem.want[DPARAMS][k] += before[k];
    job_check(&job, Y, DPARAMS); /* dx, dh0 and dc0 began as NaN: they must be overwritten */
    free(packed);
    free(before);
    job_end(&job);
    problem_free(&problem);
}

/* As an engine does it: one buffer for everything, arrays a few bytes apart. */
Test(rnn, arrays_side_by_side_in_one_buffer)
{
    Problem problem = problem_solved((RefLstm){5, 3, 4, 17, 2});
    Job job = job_begin(device, &problem);
    Placed *placed[ARRAYS + 2], kept[ARRAYS + 2];
    uint64_t offset[ARRAYS + 2], end_of_all = 0;
    for (int k = 0; k < ARRAYS; k++)
        placed[k] = &job.arrays[k];
    placed[ARRAYS] = &job.reserve;
    placed[ARRAYS + 1] = &job.scratch_backward;
    for (size_t k = 0; k < COUNT(placed); k++) {
        kept[k] = *placed[k];
        offset[k] = end_of_all;
        end_of_all += (vkl_buffer_size(kept[k].buffer) + 15) / 16 * 16;
    }
    VklBuffer *all = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, end_of_all, &all));
    for (size_t k = 0; k < COUNT(placed); k++) {
        TEST_OK(context, vkl_stream_copy(job.stream, vkl_slice(all, offset[k]), vkl_slice(kept[k].buffer, 0),
                                         vkl_buffer_size(kept[k].buffer)));
        placed[k]->slice = vkl_slice(all, offset[k] + kept[k].slice.offset);
    }
    job_arguments(&job);
    job_train(&job);
    for (size_t k = 0; k < COUNT(placed); k++)
        TEST_OK(context, vkl_stream_copy(job.stream, vkl_slice(kept[k].buffer, 0), vkl_slice(all, offset[k]),
                                         vkl_buffer_size(kept[k].buffer)));
    TEST_OK(context, vkl_stream_wait(job.stream));
    job_check(&job, Y, DPARAMS);
    vkl_buffer_destroy(all);
    job_end(&job);
    problem_free(&problem);
}

/* ---- Extremes ---- */

Test(rnn, saturated_gates_are_exact)
{
    /* unit u has the signs of the bits of u on its four gates: every combination of open and closed */
    Problem bias = problem_random((RefLstm){4, 3, 2, 16, 2});
    for (size_t l = 0; l < bias.size.L; l++) {
        const RefLayer at = ref_lstm_layer(&bias.size, l);
        for (size_t r = 0; r < 64; r++)
            bias.in[PARAMS][at.b_ih + r] = (r % 16) >> (r / 16) & 1 ? 1e4f : -1e4f;
    }
    snprintf(bias.label, sizeof(bias.label), "bias of +-1e4");
    problem_solve(&bias);
    train_and_check(device, &bias);
    problem_free(&bias);

    static const float magnitudes[] = {1e4f, 1e30f};
    for (size_t m = 0; m < COUNT(magnitudes); m++) {
        /* one feature, and no weight of it near 0: nothing cancels, every gate is far from its middle */
        Problem x = problem_random((RefLstm){5, 3, 1, 7, 1});
        for (size_t k = 0; k < array_count(&x.size, X); k++)
            x.in[X][k] = x.in[X][k] < 0 ? -magnitudes[m] : magnitudes[m];
        for (size_t r = 0; r < 4 * x.size.H; r++)
            x.in[PARAMS][r] += x.in[PARAMS][r] < 0 ? -0.5f : 0.5f;
        snprintf(x.label, sizeof(x.label), "x of +-%g", (double)magnitudes[m]);
        problem_solve(&x);
        train_and_check(device, &x);
        problem_free(&x);
    }

    Problem cell = problem_random((RefLstm){3, 3, 2, 5, 1});
    for (size_t k = 0; k < array_count(&cell.size, C0); k++)
        cell.in[C0][k] *= 1e4f;
    snprintf(cell.label, sizeof(cell.label), "c0 of +-1e4");
    problem_solve(&cell);
    train_and_check(device, &cell);
    problem_free(&cell);
}

/* Where a NaN goes is the same in the reference, term by term: it must arrive, and must not leak into other rows of the batch. */
Test(rnn, nan_goes_where_it_must)
{
    for (int a = 0; a < INPUTS; a++) {
        Problem problem = problem_random((RefLstm){4, 3, 3, 5, 2});
        problem.in[a][array_count(&problem.size, (Array)a) / 2] = NAN;
        snprintf(problem.label, sizeof(problem.label), "NaN in %s:", array_name[a]);
        problem_solve(&problem);
        Job job = job_begin(device, &problem);
        job_train(&job);
        bool arrived = false;
        for (int k = Y; k < ARRAYS; k++) {
            float *got = job_take(&job, (Array)k);
            compare_tensors(&problem.size, problem.label, (Array)k, got, problem.want[k], budget(&problem.size, (Array)k));
            for (size_t e = 0; e < array_count(&problem.size, (Array)k); e++)
                arrived = arrived || isnan(got[e]);
            free(got);
        }
        cr_assert(arrived, "%s none came out", problem.label);
        job_end(&job);
        problem_free(&problem);
    }
}

/* ---- The same bits ---- */

typedef struct Bits {
    float *outputs[ARRAYS];
} Bits;

static Bits bits_of(Job *job)
{
    Bits bits = {0};
    for (int k = INPUTS; k < ARRAYS; k++)
        bits.outputs[k] = job_take(job, (Array)k);
    return bits;
}

/* Frees `second`. */
static void bits_compare(const char *what, const Problem *problem, const Bits *first, Bits *second)
{
    for (int k = INPUTS; k < ARRAYS; k++) {
        cr_assert_eq(memcmp(first->outputs[k], second->outputs[k], array_count(&problem->size, (Array)k) * sizeof(float)), 0,
                     "%s: other bits in %s of %s", what, array_name[k], problem->label);
        free(second->outputs[k]);
    }
}

static void bits_free(Bits *bits)
{
    for (int k = INPUTS; k < ARRAYS; k++)
        free(bits->outputs[k]);
}

Test(rnn, two_runs_give_the_same_bits)
{
    Problem problem = problem_solved((RefLstm){9, 17, 5, 33, 2});
    Bits first = {0};
    for (int run = 0; run < 2; run++) {
        VklContext *own_context = test_context();
        VklDevice *own = test_device(own_context);
        Job job = job_begin(own, &problem);
        job_train(&job);
        Bits bits = bits_of(&job);
        if (run == 0)
            first = bits;
        else
            bits_compare("second run", &problem, &first, &bits);
        job_end(&job);
        vkl_device_destroy(own);
        vkl_context_destroy(own_context);
    }
    bits_free(&first);
    problem_free(&problem);
}

Test(rnn, the_number_of_threads_changes_no_bit)
{
    Problem problem = problem_solved((RefLstm){3, 65, 33, 65, 1});
    static const uint32_t threads[] = {1, 2, 5};
    Bits first = {0};
    for (size_t k = 0; k < COUNT(threads); k++) {
        VklContextDesc desc = vkl_context_desc();
        desc.threads = threads[k];
        VklContext *own_context = NULL;
        cr_assert_eq(vkl_context_create(&desc, &own_context), VKL_OK);
        VklDevice *own = test_device_cpu(own_context);
        Job job = job_begin(own, &problem);
        job_train(&job);
        Bits bits = bits_of(&job);
        if (k == 0)
            first = bits;
        else
            bits_compare("threads", &problem, &first, &bits);
        job_end(&job);
        vkl_device_destroy(own);
        vkl_context_destroy(own_context);
    }
    bits_free(&first);
    problem_free(&problem);
}

Test(rnn, prepared_work_can_be_recorded_again)
{
    Problem problem = problem_solved((RefLstm){5, 3, 4, 17, 2});
    Job direct = job_begin(device, &problem), job = job_begin(device, &problem);
    job_train(&direct);
    Bits first = bits_of(&direct);

    VklExec *forward = NULL, *backward = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(job.rnn, &job.forward, &forward));
    TEST_OK(context, vkl_rnn_prepare_backward(job.rnn, &job.backward, &backward));
    for (int run = 0; run < 3; run++) {
        if (run == 2) /* several times in one submission */
            TEST_OK(context, vkl_stream_replay(job.stream, forward, 3));
        else
            TEST_OK(context, vkl_exec_record(forward, job.stream));
        TEST_OK(context, vkl_exec_record(backward, job.stream));
        TEST_OK(context, vkl_stream_wait(job.stream));
        Bits again = bits_of(&job);
        bits_compare("prepared", &problem, &first, &again);
        for (int k = INPUTS; k < ARRAYS; k++) { /* so that the next run must write them again */
            float *nothing = allocate(job.arrays[k].count, sizeof(float));
            TEST_OK(context, vkl_stream_write(job.stream, job.arrays[k].slice, nothing, job.arrays[k].count * sizeof(float)));
            free(nothing);
        }
    }
    vkl_exec_destroy(forward);
    vkl_exec_destroy(backward);
    bits_free(&first);
    job_end(&direct);
    job_end(&job);
    problem_free(&problem);
}

/* More shapes than the cache of prepared work holds, and back to the first. */
Test(rnn, many_shapes_on_one_layer)
{
    Problem problem = problem_solved((RefLstm){20, 3, 2, 5, 1});
    Job job = job_begin(device, &problem);
    for (size_t round = 0; round < 2; round++) {
        for (size_t T = 1; T <= problem.size.T; T++) {
            job.forward.T = T;
            TEST_OK(context, vkl_rnn_forward(job.rnn, job.stream, &job.forward));
            TEST_OK(context, vkl_stream_wait(job.stream));
            float *y = job_take(&job, Y), *hn = job_take(&job, HN);
            const size_t state = problem.size.N * problem.size.H;
            test_compare("y", y, problem.want[Y], T * state, budget_forward(&problem.size));
            cr_assert_eq(memcmp(hn, y + (T - 1) * state, state * sizeof(float)), 0, "hn is not y at the last of %zu steps", T);
            free(y);
            free(hn);
        }
    }
    job_end(&job);
    problem_free(&problem);
}

/* ---- Parameters ---- */

Test(rnn, parameters_have_pytorchs_names_and_shapes)
{
    const RefLstm size = {1, 1, 3, 5, 2};
    VklRnn *rnn = create_rnn(device, &size);
    static const struct {
        const char *name;
        uint32_t rank;
        uint64_t rows, columns;
    } want[] = {
        {"weight_ih_l0", 2, 20, 3}, {"weight_hh_l0", 2, 20, 5}, {"bias_ih_l0", 1, 20, 1}, {"bias_hh_l0", 1, 20, 1},
        {"weight_ih_l1", 2, 20, 5}, {"weight_hh_l1", 2, 20, 5}, {"bias_ih_l1", 1, 20, 1}, {"bias_hh_l1", 1, 20, 1},
    };
    cr_assert_eq(vkl_rnn_param_count(rnn), COUNT(want));
    for (uint32_t k = 0; k < COUNT(want); k++) {
        VklParamInfo info;
        TEST_OK(context, vkl_rnn_param_info(rnn, k, &info));
        cr_assert_str_eq(info.name, want[k].name);
        cr_assert_eq(info.rank, want[k].rank, "%s", info.name);
        cr_assert_eq(info.shape[0], want[k].rows, "%s", info.name);
        cr_assert_eq(info.shape[1], want[k].columns, "%s", info.name);
    }
    float number = 0;
    VklParamInfo info;
    cr_assert_eq(vkl_rnn_param_info(rnn, COUNT(want), &info), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_rnn_pack(rnn, COUNT(want), &number, &number), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_rnn_unpack(rnn, COUNT(want), &number, &number), VKL_ERROR_INVALID);
    vkl_rnn_destroy(rnn);
}

Test(rnn, packing_keeps_every_parameter)
{
    static const RefLstm some[] = {{1, 1, 3, 5, 3}, {1, 1, 1, 1, 1}, {1, 1, 17, 2, 2}};
    for (size_t s = 0; s < COUNT(some); s++) {
        VklRnn *rnn = create_rnn(device, &some[s]);
        VklRnnSizes sizes;
        TEST_OK(context, vkl_rnn_sizes(rnn, 1, 1, &sizes));
        const size_t count = ref_lstm_params(&some[s]);
        cr_assert_geq(sizes.params, count * sizeof(float));
        float *canonical = allocate(count, sizeof(float)), *back = allocate(count, sizeof(float));
        float *packed = allocate(sizes.params, 1);
        for (size_t k = 0; k < count; k++)
            canonical[k] = (float)(k + 1);
        pack_all(context, rnn, canonical, packed);
        unpack_all(context, rnn, packed, back);
        cr_assert_eq(memcmp(canonical, back, count * sizeof(float)), 0);
        /* each place is written once: as many numbers that are not 0 as there are parameters */
        size_t written = 0;
        for (size_t k = 0; k < sizes.params / sizeof(float); k++)
            written += packed[k] != 0;
        cr_assert_eq(written, count);
        free(canonical);
        free(back);
        free(packed);
        vkl_rnn_destroy(rnn);
    }
}

Test(rnn, initial_weights_follow_their_rules)
{
    const RefLstm size = {1, 1, 3, 17, 2};
    VklRnn *rnn = create_rnn(device, &size);
    VklRnnSizes sizes;
    TEST_OK(context, vkl_rnn_sizes(rnn, 1, 1, &sizes));
    const size_t count = ref_lstm_params(&size), rows = 4 * size.H;
    float *packed = allocate(sizes.params, 1), *again = allocate(sizes.params, 1), *other = allocate(sizes.params, 1);
    float *params = allocate(count, sizeof(float));
    TEST_OK(context, vkl_rnn_init(rnn, 7, packed));
    TEST_OK(context, vkl_rnn_init(rnn, 7, again));
    TEST_OK(context, vkl_rnn_init(rnn, 8, other));
    cr_assert_eq(memcmp(packed, again, sizes.params), 0, "the same seed gives other weights");
    cr_assert_neq(memcmp(packed, other, sizes.params), 0, "another seed gives the same weights");
    unpack_all(context, rnn, packed, params);
    for (size_t l = 0; l < size.L; l++) {
        const RefLayer at = ref_lstm_layer(&size, l);
        /* Glorot-uniform over [inputs, 4H]: within the limit, and spread over it (n numbers leave 1/n of it free at the ends) */
        const double limit = sqrt(6.0 / (double)(at.inputs + rows));
        double largest = 0, sum = 0;
        for (size_t k = at.w_ih; k < at.w_hh; k++) {
            largest = fmax(largest, fabs((double)params[k]));
            sum += params[k];
        }
        cr_assert_leq(largest, limit * (1 + 1e-6));
        cr_assert_gt(largest, limit * 0.9);
        cr_assert_lt(fabs(sum) / (double)(rows * at.inputs), limit * 0.2);
        /* orthogonal as [H, 4H]: the columns of weight_hh [4H][H] are orthonormal, to float's rounding of sums of 4H terms */
        for (size_t a = 0; a < size.H; a++) {
            for (size_t b = 0; b < size.H; b++) {
                double product = 0;
                for (size_t r = 0; r < rows; r++)
                    product += (double)params[at.w_hh + r * size.H + a] * (double)params[at.w_hh + r * size.H + b];
                cr_assert_lt(fabs(product - (a == b)), 1e-5, "layer %zu, columns %zu and %zu: %g", l, a, b, product);
            }
        }
        for (size_t r = 0; r < rows; r++) {
            cr_assert_eq(params[at.b_ih + r], r / size.H == 1 ? 1.0f : 0.0f, "bias_ih_l%zu[%zu]", l, r);
            cr_assert_eq(params[at.b_hh + r], 0.0f, "bias_hh_l%zu[%zu]", l, r);
        }
    }
    cr_assert_neq(
        memcmp(params + ref_lstm_layer(&size, 0).w_hh, params + ref_lstm_layer(&size, 1).w_hh, rows * size.H * sizeof(float)), 0,
        "two layers have the same weights");
    free(packed);
    free(again);
    free(other);
    free(params);
    vkl_rnn_destroy(rnn);
}

/* ---- Refusals ---- */

/* One row: a change to arguments that were right, the status, and a word of the sentence. */
#define REFUSES(Type, good, call, change, status, word)                      \
    do {                                                                     \
        Type bad = good;                                                     \
        change;                                                              \
        EXPECT_REFUSAL(#change, call, status, vkl_rnn_error(job.rnn), word); \
    } while (0)

Test(rnn, forward_refuses_wrong_arguments)
{
    Problem problem = problem_random((RefLstm){3, 2, 3, 4, 2});
    Job job = job_begin(device, &problem);
    VklBuffer *four = test_buffer(device, NULL, 4);
    const VklSlice small = vkl_slice(four, 0);
    VklStreamStats before, after;
    vkl_stream_stats(job.stream, &before);
#define FORWARD(change, status, word) \
    REFUSES(VklRnnForward, job.forward, vkl_rnn_forward(job.rnn, job.stream, &bad), change, status, word)
    FORWARD(bad.T = 0, VKL_ERROR_INVALID, "T");
    FORWARD(bad.N = 0, VKL_ERROR_INVALID, "N");
    FORWARD(bad.struct_size = 7, VKL_ERROR_INVALID, "struct_size");
    FORWARD(bad.struct_size = 0, VKL_ERROR_INVALID, "struct_size");
    FORWARD(bad.params.buffer = NULL, VKL_ERROR_INVALID, "params");
    FORWARD(bad.x.buffer = NULL, VKL_ERROR_INVALID, "x");
    FORWARD(bad.reserve.buffer = NULL, VKL_ERROR_INVALID, "workspace");
    FORWARD(bad.params.offset += 4, VKL_ERROR_INVALID, "params");
    FORWARD(bad.reserve.offset += 4, VKL_ERROR_INVALID, "reserve");
    FORWARD(bad.x.offset += 2, VKL_ERROR_INVALID, "x");
    FORWARD(bad.y.offset += 1, VKL_ERROR_INVALID, "y");
    FORWARD(bad.params.offset += 16, VKL_ERROR_INVALID, "params");
    FORWARD(bad.x.offset += 16, VKL_ERROR_INVALID, "x");
    FORWARD(bad.h0.offset += 16, VKL_ERROR_INVALID, "h0");
    FORWARD(bad.c0.offset += 16, VKL_ERROR_INVALID, "c0");
    FORWARD(bad.y.offset += 16, VKL_ERROR_INVALID, "y");
    FORWARD(bad.hn.offset += 16, VKL_ERROR_INVALID, "hn");
    FORWARD(bad.cn.offset += 16, VKL_ERROR_INVALID, "cn");
    FORWARD(bad.reserve = small, VKL_ERROR_INVALID, "reserve");
    FORWARD(bad.x.offset = UINT64_MAX - 3, VKL_ERROR_INVALID, "x");
    FORWARD(bad.T = 4, VKL_ERROR_INVALID, "needs");
    FORWARD(bad.y = bad.reserve, VKL_ERROR_INVALID, "overlap");
    FORWARD(bad.hn = bad.y, VKL_ERROR_INVALID, "overlap");
    FORWARD(bad.T = UINT64_C(1) << 62, VKL_ERROR_LIMIT, "T");
    FORWARD(bad.N = UINT64_C(1) << 62, VKL_ERROR_LIMIT, "N");

    VklExec *untouched = NULL;
    VklRnnForward bad = job.forward;
    bad.x.buffer = NULL;
    EXPECT_REFUSAL("prepare", vkl_rnn_prepare_forward(job.rnn, &bad, &untouched), VKL_ERROR_INVALID, vkl_rnn_error(job.rnn), "x");
    cr_assert_null(untouched);

    vkl_stream_stats(job.stream, &after);
    cr_assert_eq(before.dispatches, after.dispatches, "a refused call has recorded something");
    problem_solve(&problem);
    job_train(&job); /* and what is right still works */
    job_check(&job, Y, DPARAMS);
    vkl_buffer_destroy(four);
    job_end(&job);
    problem_free(&problem);
}

Test(rnn, backward_refuses_wrong_arguments)
{
    Problem problem = problem_random((RefLstm){3, 2, 3, 4, 2});
    Job job = job_begin(device, &problem);
    VklBuffer *four = test_buffer(device, NULL, 4);
    const VklSlice small = vkl_slice(four, 0);
    VklStreamStats before, after;
    TEST_OK(context, vkl_rnn_forward(job.rnn, job.stream, &job.forward));
    vkl_stream_stats(job.stream, &before);
#define BACKWARD(change, status, word) \
    REFUSES(VklRnnBackward, job.backward, vkl_rnn_backward(job.rnn, job.stream, &bad), change, status, word)
    BACKWARD(bad.T = 0, VKL_ERROR_INVALID, "T");
    BACKWARD(bad.N = 0, VKL_ERROR_INVALID, "N");
    BACKWARD(bad.struct_size = 7, VKL_ERROR_INVALID, "struct_size");
    BACKWARD(bad.params.buffer = NULL, VKL_ERROR_INVALID, "params");
    BACKWARD(bad.x.buffer = NULL, VKL_ERROR_INVALID, "x");
    BACKWARD(bad.reserve.buffer = NULL, VKL_ERROR_INVALID, "reserve");
    BACKWARD(bad.params.offset += 4, VKL_ERROR_INVALID, "params");
    BACKWARD(bad.dparams.offset += 4, VKL_ERROR_INVALID, "dparams");
    BACKWARD(bad.reserve.offset += 4, VKL_ERROR_INVALID, "reserve");
    BACKWARD(bad.reserve = small, VKL_ERROR_INVALID, "reserve");
    BACKWARD(bad.gy.offset += 2, VKL_ERROR_INVALID, "gy");
    BACKWARD(bad.gy.offset += 16, VKL_ERROR_INVALID, "gy");
    BACKWARD(bad.ghn.offset += 16, VKL_ERROR_INVALID, "ghn");
    BACKWARD(bad.gcn.offset += 16, VKL_ERROR_INVALID, "gcn");
    BACKWARD(bad.dx.offset += 16, VKL_ERROR_INVALID, "dx");
    BACKWARD(bad.dh0.offset += 16, VKL_ERROR_INVALID, "dh0");
    BACKWARD(bad.dc0.offset += 16, VKL_ERROR_INVALID, "dc0");
    BACKWARD(bad.dparams.offset += 16, VKL_ERROR_INVALID, "dparams");
    BACKWARD(bad.T = UINT64_C(1) << 62, VKL_ERROR_LIMIT, "T");
    BACKWARD(bad.dx = bad.reserve, VKL_ERROR_INVALID, "overlap");
    BACKWARD(bad.dh0 = bad.ghn, VKL_ERROR_INVALID, "overlap");
    if (job.scratch_backward.buffer) {
        BACKWARD(bad.workspace.buffer = NULL, VKL_ERROR_INVALID, "workspace");
        BACKWARD(bad.workspace.offset += 4, VKL_ERROR_INVALID, "workspace");
        BACKWARD(bad.workspace = small, VKL_ERROR_INVALID, "workspace");
    }
    vkl_stream_stats(job.stream, &after);
    cr_assert_eq(before.dispatches, after.dispatches, "a refused call has recorded something");
    problem_solve(&problem);
    job_train(&job);
    job_check(&job, Y, DPARAMS);
    vkl_buffer_destroy(four);
    job_end(&job);
    problem_free(&problem);
}

Test(rnn, another_devices_arrays_are_refused)
{
    Problem problem = problem_random((RefLstm){3, 2, 3, 4, 1});
    VklDevice *other = test_device(context);
    Job job = job_begin(device, &problem), foreign = job_begin(other, &problem);
    FORWARD(bad.x = foreign.forward.x, VKL_ERROR_INVALID, "x");
    job_train(&job); /* work that is kept for the next such call must not be taken for it */
    FORWARD(bad.x = foreign.forward.x, VKL_ERROR_INVALID, "x");
    EXPECT_REFUSAL("stream of another device", vkl_rnn_forward(job.rnn, foreign.stream, &job.forward), VKL_ERROR_INVALID,
                   vkl_rnn_error(job.rnn), "stream");
    job_end(&job);
    job_end(&foreign);
    vkl_device_destroy(other);
    problem_free(&problem);
}

Test(rnn, descriptions_that_make_no_sense_are_refused)
{
    static const uint64_t huge = UINT64_C(1) << 40;
    static const struct {
        size_t struct_size;
        VklCell cell;
        uint64_t input_size, hidden_size, layers;
        VklStatus status;
        const char *word;
    } cases[] = {
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 0, 4, 1, VKL_ERROR_INVALID, "input_size"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 4, 0, 1, VKL_ERROR_INVALID, "hidden_size"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 4, 4, 0, VKL_ERROR_INVALID, "layers"},
        {sizeof(VklRnnDesc), (VklCell)77, 4, 4, 1, VKL_ERROR_INVALID, "cell"},
        {3, VKL_CELL_LSTM, 4, 4, 1, VKL_ERROR_INVALID, "struct_size"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 4, huge, 1, VKL_ERROR_LIMIT, "hidden_size"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, UINT64_MAX, 4, 1, VKL_ERROR_LIMIT, "input_size"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 4, 4, UINT64_MAX / 8, VKL_ERROR_LIMIT, "layers"},
        {sizeof(VklRnnDesc), VKL_CELL_LSTM, 1, 1, UINT64_C(1) << 33, VKL_ERROR_LIMIT,
         "layers"}, /* tensors are counted in 32 bits */
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        VklRnn *rnn = NULL;
        VklRnnDesc desc = vkl_rnn_desc(cases[k].cell, cases[k].input_size, cases[k].hidden_size);
        desc.struct_size = cases[k].struct_size;
        desc.layers = cases[k].layers;
        EXPECT_REFUSAL(cases[k].word, vkl_rnn_create(device, &desc, &rnn), cases[k].status, vkl_context_error(context),
                       cases[k].word);
        cr_assert_null(rnn);
    }
}

Test(rnn, sizes_beyond_every_limit_are_refused)
{
    const RefLstm size = {1, 1, 3, 5, 2};
    VklRnn *rnn = create_rnn(device, &size);
    VklRnnSizes sizes = {.params = 77};
    EXPECT_REFUSAL("T of 0", vkl_rnn_sizes(rnn, 0, 1, &sizes), VKL_ERROR_INVALID, vkl_rnn_error(rnn), "T");
    EXPECT_REFUSAL("N of 0", vkl_rnn_sizes(rnn, 1, 0, &sizes), VKL_ERROR_INVALID, vkl_rnn_error(rnn), "N");
    EXPECT_REFUSAL("T of 2^62", vkl_rnn_sizes(rnn, UINT64_C(1) << 62, 1, &sizes), VKL_ERROR_LIMIT, vkl_rnn_error(rnn), "T");
    EXPECT_REFUSAL("N of 2^62", vkl_rnn_sizes(rnn, 1, UINT64_C(1) << 62, &sizes), VKL_ERROR_LIMIT, vkl_rnn_error(rnn), "N");
    cr_assert_eq(sizes.params, 77u, "a refused call has written its result");
    vkl_rnn_destroy(rnn);

    /* the four gates of one row are more than a binding reaches: nothing is left to split */
    VklDevice *narrow = device_within(context, (VklDeviceLimits){.storage_range = 4096});
    Problem problem = problem_random((RefLstm){2, 1, 2, 300, 1});
    Job job = job_begin(narrow, &problem);
    EXPECT_REFUSAL("a row beyond a binding", vkl_rnn_forward(job.rnn, job.stream, &job.forward), VKL_ERROR_LIMIT,
                   vkl_rnn_error(job.rnn), "binding");
    job_end(&job);
    problem_free(&problem);
    vkl_device_destroy(narrow);
}

Test(rnn, destroying_nothing_is_allowed)
{
    vkl_rnn_destroy(NULL);
    vkl_exec_destroy(NULL);
}

/* SPDX-License-Identifier: MIT
 *
 * Long pieces of work cut to a budget: whatever the budget, the bits are those of the whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#ifdef VKL_WITH_VULKAN
#include "spy.h"
#endif

#define OPEN                              \
    VklContext *context = test_context(); \
    VklDevice *device = test_device(context)
#define CLOSE                   \
    vkl_device_destroy(device); \
    vkl_context_destroy(context)

/* Runs a job to its end. How many pieces it took. */
static uint64_t run_job(VklStream *stream, VklExec *exec, uint32_t count, double microseconds)
{
    VklContext *context = vkl_device_context(stream->device);
    VklJob *job = NULL;
    uint64_t pieces = 0;
    TEST_OK(context, vkl_job_create(stream, exec, count, &job));
    for (VklStatus status = VKL_OK; status != VKL_STOPPED; pieces += status == VKL_OK) {
        VklStreamStats before = stream->stats;
        status = vkl_job_run(job, microseconds);
        cr_assert_geq(status, VKL_OK, "%s", vkl_stream_error(stream));
        cr_assert(status == VKL_OK || before.dispatches == stream->stats.dispatches);
    }
    cr_assert_eq(vkl_job_run(job, microseconds), VKL_STOPPED);
    vkl_job_destroy(job);
    return pieces;
}

/* ---- A long sequence ---- */

enum { I = 2, H = 5 };

typedef struct Sequence {
    VklRnn *rnn;
    VklBuffer *params, *x, *y, *workspace;
    VklExec *exec;
    size_t numbers; /* of y */
} Sequence;

static Sequence make_sequence(VklDevice *device, VklRnnPath path, uint64_t T)
{
    VklContext *context = vkl_device_context(device);
    Sequence made = {.numbers = (size_t)T * H};
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    VklRnnSizes sizes;
    desc.path = path;
    TEST_OK(context, vkl_rnn_create(device, &desc, &made.rnn));
    TEST_OK(context, vkl_rnn_sizes(made.rnn, T, 1, &sizes));
    float *params = calloc(1, sizes.params), *x = malloc((size_t)T * I * sizeof(*x));
    TEST_OK(context, vkl_rnn_init(made.rnn, 7, params));
    test_random(x, (size_t)T * I, 3, 1);
    made.params = test_buffer(device, params, sizes.params / 4);
    made.x = test_buffer(device, x, T * I);
    made.y = test_buffer(device, NULL, T * H);
    made.workspace = test_buffer(device, NULL, sizes.forward_workspace / 4);
    free(params);
    free(x);
    VklRnnForward args = vkl_rnn_forward_args(T, 1);
    args.params = vkl_slice(made.params, 0);
    args.x = vkl_slice(made.x, 0);
    args.y = vkl_slice(made.y, 0);
    args.workspace = vkl_slice(made.workspace, 0);
    TEST_OK(context, vkl_rnn_prepare_forward(made.rnn, &args, &made.exec));
    return made;
}

static void sequence_finish(Sequence *sequence)
{
    vkl_exec_destroy(sequence->exec);
    vkl_buffer_destroy(sequence->params);
    vkl_buffer_destroy(sequence->x);
    vkl_buffer_destroy(sequence->y);
    vkl_buffer_destroy(sequence->workspace);
    vkl_rnn_destroy(sequence->rnn);
}

static float *read_sequence(VklDevice *device, Sequence *sequence)
{
    float *y = malloc(sequence->numbers * sizeof(*y));
    test_read(device, sequence->y, y, sequence->numbers);
    return y;
}

Test(job, a_long_sequence_in_pieces_gives_the_same_bits)
{
    static const struct {
        VklRnnPath path; /* PIECES: some kernels for each time step, on every device; AUTO: perhaps many time steps in one */
        uint64_t T;
        double microseconds;
    } cases[] = {{VKL_RNN_PATH_PIECES, 65, 0},      {VKL_RNN_PATH_PIECES, 257, 20}, {VKL_RNN_PATH_PIECES, 10000, 5000},
                 {VKL_RNN_PATH_PIECES, 10000, 1e9}, {VKL_RNN_PATH_AUTO, 10000, 0},  {VKL_RNN_PATH_AUTO, 10000, 300},
                 {VKL_RNN_PATH_AUTO, 1, 0}};
    OPEN;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        Sequence sequence = make_sequence(device, cases[i].path, cases[i].T);
        VklStream *stream;
        TEST_OK(context, vkl_stream_create(device, &stream));
        TEST_OK(context, vkl_exec_record(sequence.exec, stream));
        TEST_OK(context, vkl_stream_wait(stream));
        float *want = read_sequence(device, &sequence);
        TEST_OK(context, vkl_stream_fill(stream, vkl_slice(sequence.y, 0), 0x7fc00000, 4 * sequence.numbers)); /* NaN */
        VklStreamStats before = stream->stats;
        uint64_t pieces = run_job(stream, sequence.exec, 1, cases[i].microseconds);
        float *got = read_sequence(device, &sequence);
        cr_assert(!memcmp(got, want, sequence.numbers * sizeof(*got)), "case %zu", i);
        cr_assert_eq(stream->stats.dispatches - before.dispatches, sequence.exec->plan.count);
        cr_assert_geq(sequence.exec->plan.count, cases[i].T / 512, "no kernel goes through more time steps");
        if (cases[i].microseconds == 0)
            cr_assert_eq(pieces, sequence.exec->plan.count, "a kernel each");
        if (cases[i].microseconds >= 1e9) /* however slow the machine is */
            cr_assert_leq(pieces, sequence.exec->plan.count / 100, "%llu pieces", (unsigned long long)pieces);
        if (test_is_vulkan())
            cr_assert_leq(stream->stats.submits - before.submits, pieces + 1);
        free(want);
        free(got);
        vkl_stream_destroy(stream);
        sequence_finish(&sequence);
    }
    CLOSE;
}

/* ---- Repetitions: steps of agents, whose states stay on the device ---- */

Test(job, repetitions_in_pieces_give_the_same_bits)
{
    enum { N = 17, COUNT = 65 };
    static const double budgets[] = {0, 40, 1e9};
    OPEN;
    VklRnn *rnn = NULL;
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_GRU, I, H);
    VklRnnSizes sizes;
    desc.layers = 2;
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    TEST_OK(context, vkl_rnn_step_sizes(rnn, N, &sizes));
    float *host = calloc(1, sizes.params), x[N * I], want[2 * N * H], got[2 * N * H];
    TEST_OK(context, vkl_rnn_init(rnn, 7, host));
    test_random(x, N * I, 3, 1);
    VklBuffer *params = test_buffer(device, host, sizes.params / 4), *inputs = test_buffer(device, x, N * I);
    VklBuffer *h = test_buffer(device, NULL, 2 * N * H), *workspace = test_buffer(device, NULL, sizes.forward_workspace / 4 + 1);
    VklRnnStep args = vkl_rnn_step_args(N);
    args.params = vkl_slice(params, 0);
    args.x = vkl_slice(inputs, 0);
    args.h = vkl_slice(h, 0);
    args.workspace = vkl_slice(workspace, 0);
    VklExec *exec = NULL;
    VklStream *stream;
    TEST_OK(context, vkl_rnn_prepare_step(rnn, &args, &exec));
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_stream_replay(stream, exec, COUNT));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, h, want, 2 * N * H);
    uint64_t pieces[3];
    for (int i = 0; i < 3; i++) {
        TEST_OK(context, vkl_stream_fill(stream, vkl_slice(h, 0), 0, sizeof(want)));
        pieces[i] = run_job(stream, exec, COUNT, budgets[i]);
        test_read(device, h, got, 2 * N * H);
        cr_assert(!memcmp(got, want, sizeof(want)), "%g us", budgets[i]);
    }
    cr_assert_eq(pieces[0], COUNT * exec->plan.count);
    cr_assert_leq(pieces[2], 3u, "one to measure, and the rest");
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    vkl_buffer_destroy(params);
    vkl_buffer_destroy(inputs);
    vkl_buffer_destroy(h);
    vkl_buffer_destroy(workspace);
    free(host);
    vkl_rnn_destroy(rnn);
    CLOSE;
}

Test(job, wrong_calls_are_refused_by_name)
{
    OPEN;
    VklDevice *cpu = test_device_cpu(context);
    Sequence sequence = make_sequence(device, VKL_RNN_PATH_PIECES, 17);
    VklStream *stream, *other;
    VklJob *job = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_stream_create(cpu, &other));
    cr_assert_eq(vkl_job_create(stream, NULL, 1, &job), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_job_create(stream, sequence.exec, 1, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_job_create(stream, sequence.exec, 0, &job), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_stream_error(stream), "count is 0"), "%s", vkl_stream_error(stream));
    cr_assert_eq(vkl_job_create(other, sequence.exec, 1, &job), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_stream_error(other), "another device"), "%s", vkl_stream_error(other));
    cr_assert_null(job);
    TEST_OK(context, vkl_job_create(stream, sequence.exec, 1, &job));
    cr_assert_eq(vkl_job_run(job, NAN), VKL_ERROR_INVALID);
    cr_assert(strstr(vkl_stream_error(stream), "microseconds is nan"), "%s", vkl_stream_error(stream));
    TEST_OK(context, vkl_job_run(job, 0));
    vkl_job_destroy(job); /* in the middle */
    vkl_job_destroy(NULL);
    vkl_stream_destroy(stream);
    vkl_stream_destroy(other);
    sequence_finish(&sequence);
    vkl_device_destroy(cpu);
    CLOSE;
}

#ifdef VKL_WITH_VULKAN

/* As long as the fence is not signaled, by what the spy says. */
Test(job, while_a_piece_runs_nothing_is_submitted)
{
    if (!test_is_vulkan())
        return;
    App app = app_start();
    VklContext *context = test_context();
    VklVulkanImport import = spy_import(&app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    Sequence sequence = make_sequence(device, VKL_RNN_PATH_PIECES, 17);
    VklStream *stream;
    VklJob *job = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_job_create(stream, sequence.exec, 3, &job));
    TEST_OK(context, vkl_job_run(job, 1));
    SpyCounts then = spy_counts();
    for (int i = 0; i < 3; i++) {
        const char *first;
        spy.only = "vkGetFenceStatus";
        spy.failure = VK_NOT_READY;
        spy.until_failure = 1;
        cr_assert_eq(vkl_job_run(job, 1), VKL_TIMEOUT);
        cr_assert_eq(spy_others_since(&then, &first), (unsigned)i + 1, "%s", first ? first : "");
    }
    spy.until_failure = 0;
    vkl_job_destroy(job);
    vkl_stream_destroy(stream);
    sequence_finish(&sequence);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* A refused submit loses nothing: the call is repeated. */
Test(job, a_piece_that_was_refused_is_submitted_by_the_next_call)
{
    static const char *const calls[] = {"vkQueueSubmit", "vkEndCommandBuffer", "vkBeginCommandBuffer"};
    if (!test_is_vulkan())
        return;
    App app = app_start();
    VklContext *context = test_context();
    VklVulkanImport import = spy_import(&app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    Sequence sequence = make_sequence(device, VKL_RNN_PATH_PIECES, 65);
    VklStream *stream;
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_exec_record(sequence.exec, stream));
    TEST_OK(context, vkl_stream_wait(stream));
    float *want = read_sequence(device, &sequence);
    for (size_t k = 0; k < sizeof(calls) / sizeof(*calls); k++) {
        VklJob *job = NULL;
        unsigned refused = 0;
        TEST_OK(context, vkl_stream_fill(stream, vkl_slice(sequence.y, 0), 0x7fc00000, 4 * sequence.numbers));
        TEST_OK(context, vkl_stream_wait(stream));
        TEST_OK(context, vkl_job_create(stream, sequence.exec, 1, &job));
        for (VklStatus status = VKL_OK; status != VKL_STOPPED;) {
            spy.only = calls[k];
            spy.failure = VK_ERROR_OUT_OF_HOST_MEMORY;
            spy.until_failure = refused < 8 ? 1 : 0;
            status = vkl_job_run(job, 20);
            cr_assert(status >= 0 || status == VKL_ERROR_HOST_MEMORY, "%s", vkl_stream_error(stream));
            refused += status == VKL_ERROR_HOST_MEMORY;
        }
        spy.until_failure = 0;
        cr_assert_eq(refused, 8u, "%s", calls[k]);
        float *got = read_sequence(device, &sequence);
        cr_assert(!memcmp(got, want, sequence.numbers * sizeof(*got)), "%s", calls[k]);
        free(got);
        vkl_job_destroy(job);
    }
    free(want);
    vkl_stream_destroy(stream);
    sequence_finish(&sequence);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

#endif

/* SPDX-License-Identifier: MIT
 *
 * Times of kernels: every call is counted, whichever way it was recorded, and results stay the same bits. What the times are is not looked at.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define T 7
#define N 3
#define I 5
#define H 17

typedef struct Rig {
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
    VklRnn *rnn;
    VklBuffer *buffers[4];
    VklExec *forward;
} Rig;

static void rig_begin(Rig *rig)
{
    rig->context = test_context();
    rig->device = test_device(rig->context);
    TEST_OK(rig->context, vkl_stream_create(rig->device, &rig->stream));
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_GRU, I, H); /* a GRU has products and a kernel of its own for each step */
    TEST_OK(rig->context, vkl_rnn_create(rig->device, &desc, &rig->rnn));
    VklRnnSizes sizes;
    TEST_OK(rig->context, vkl_rnn_sizes(rig->rnn, T, N, &sizes));
    uint64_t params = sizes.params / sizeof(float);
    float *numbers = malloc((size_t)(params + T * N * I) * sizeof(float));
    cr_assert_not_null(numbers);
    test_random(numbers, (size_t)params + T * N * I, 3, 0.5f);
    rig->buffers[0] = test_buffer(rig->device, numbers, params);
    rig->buffers[1] = test_buffer(rig->device, numbers + params, T * N * I);
    rig->buffers[2] = test_buffer(rig->device, NULL, T * N * H);
    rig->buffers[3] = test_buffer(rig->device, NULL, sizes.forward_workspace / sizeof(float));
    free(numbers);
    VklRnnForward args = vkl_rnn_forward_args(T, N);
    args.params = vkl_slice(rig->buffers[0], 0);
    args.x = vkl_slice(rig->buffers[1], 0);
    args.y = vkl_slice(rig->buffers[2], 0);
    args.workspace = vkl_slice(rig->buffers[3], 0);
    TEST_OK(rig->context, vkl_rnn_prepare_forward(rig->rnn, &args, &rig->forward));
}

static void rig_end(Rig *rig)
{
    vkl_stream_destroy(rig->stream);
    vkl_exec_destroy(rig->forward);
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(rig->buffers[i]);
    vkl_rnn_destroy(rig->rnn);
    vkl_device_destroy(rig->device);
    vkl_context_destroy(rig->context);
}

/* How many calls the profile has; every row of it must make sense. */
static uint64_t count_calls(Rig *rig)
{
    VklKernelTime times[64];
    uint32_t count = 64;
    uint64_t calls = 0;
    TEST_OK(rig->context, vkl_stream_kernel_times(rig->stream, &count, times));
    cr_assert_lt(count, 64u);
    for (uint32_t i = 0; i < count; i++) {
        calls += times[i].calls;
        cr_expect(times[i].name[0] && times[i].variant[0]);
        cr_expect(times[i].nanoseconds >= 0 && times[i].flops >= 0 && times[i].bytes > 0, "%s", times[i].name);
        cr_expect(i == 0 || times[i].nanoseconds <= times[i - 1].nanoseconds, "the longest comes first");
    }
    return calls;
}

static void read_y(Rig *rig, float y[T * N * H])
{
    test_read(rig->device, rig->buffers[2], y, T * N * H);
}

Test(profile, counts_every_call_and_changes_no_bit)
{
    Rig rig;
    VklStreamStats before, after;
    float plain[T * N * H], timed[T * N * H];
    rig_begin(&rig);
    TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
    TEST_OK(rig.context, vkl_stream_wait(rig.stream));
    read_y(&rig, plain);
    cr_expect_eq(count_calls(&rig), 0, "nothing is timed before it is asked for");

    TEST_OK(rig.context, vkl_stream_profile(rig.stream, true));
    vkl_stream_stats(rig.stream, &before);
    TEST_OK(rig.context, vkl_stream_fill(rig.stream, vkl_slice(rig.buffers[2], 0), 0, T * N * H * sizeof(float)));
    TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
    TEST_OK(rig.context, vkl_stream_replay(rig.stream, rig.forward, 3));
    TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
    TEST_OK(rig.context, vkl_stream_wait(rig.stream));
    vkl_stream_stats(rig.stream, &after);
    read_y(&rig, timed);
    cr_expect_eq(count_calls(&rig), after.dispatches - before.dispatches);
    cr_expect_eq(memcmp(plain, timed, sizeof(plain)), 0, "timing has changed results");

    TEST_OK(rig.context, vkl_stream_profile(rig.stream, false));
    TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
    TEST_OK(rig.context, vkl_stream_wait(rig.stream));
    cr_expect_eq(count_calls(&rig), after.dispatches - before.dispatches, "times are kept, and no more are taken");
    TEST_OK(rig.context, vkl_stream_profile(rig.stream, true));
    cr_expect_eq(count_calls(&rig), 0, "old times are forgotten");
    rig_end(&rig);
}

/* More kernels in one piece of work than a pool of timestamps holds. */
Test(profile, thousands_of_calls_are_all_counted)
{
    Rig rig;
    VklStreamStats before, after;
    rig_begin(&rig);
    TEST_OK(rig.context, vkl_stream_profile(rig.stream, true));
    vkl_stream_stats(rig.stream, &before);
    for (int i = 0; i < 400; i++)
        TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
    TEST_OK(rig.context, vkl_stream_wait(rig.stream));
    vkl_stream_stats(rig.stream, &after);
    cr_assert_gt(after.dispatches - before.dispatches, 4096u);
    cr_expect_eq(count_calls(&rig), after.dispatches - before.dispatches);
    rig_end(&rig);
}

/* SPDX-License-Identifier: MIT
 *
 * Times of kernels: every call is counted, whichever way it was recorded, and results stay the same bits. What the times are is
 * not looked at.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

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
    do {
        TEST_OK(rig.context, vkl_exec_record(rig.forward, rig.stream));
        vkl_stream_stats(rig.stream, &after);
    } while (after.dispatches - before.dispatches <= 5000);
    TEST_OK(rig.context, vkl_stream_wait(rig.stream));
    cr_expect_eq(count_calls(&rig), after.dispatches - before.dispatches);
    rig_end(&rig);
}

/* The kernel behind it. Sums hardly grow, and each of 80 multiply-adds loses at most an ulp, fused or not. */
Test(profile, probe_multiplies_adds_and_copies)
{
    enum { COUNT = 37, ROUNDS = 20 };
    const float given[4] = {0x1p-6f, -0x1p-7f, 1.5f, 0};
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklStream *stream;
    float in[4 * COUNT], out[4 * COUNT];
    double want[4 * COUNT];
    test_random(in, 4 * COUNT, 5, 1);
    TEST_OK(context, vkl_stream_create(device, &stream));
    for (uint32_t form = VKL_PROBE_ARITHMETIC; form <= VKL_PROBE_COPY; form++) {
        if (form == VKL_PROBE_ARITHMETIC)
            memcpy(in, given, sizeof(given));
        for (int i = 0; i < COUNT; i++) {
            double sums[VKL_PROBE_SUMS];
            for (int k = 0; k < VKL_PROBE_SUMS; k++)
                sums[k] = (double)given[2] + i % 16 + k;
            for (int n = 0; n < ROUNDS * VKL_PROBE_UNROLL * VKL_PROBE_SUMS; n++)
                sums[n % VKL_PROBE_SUMS] += sums[(n + 1) % VKL_PROBE_SUMS] * (double)given[n / VKL_PROBE_SUMS % 2];
            for (int k = 0; k < 4; k++)
                want[4 * i + k] = form == VKL_PROBE_COPY ? (double)in[4 * i + k] : sums[k] + sums[k + 4] + sums[k + 8];
        }
        VklSlice slots[VKL_SLOT_COUNT] = {{NULL, 0}};
        slots[VKL_SLOT_X] = vkl_slice(test_buffer(device, in, 4 * COUNT), 0);
        slots[VKL_SLOT_Y] = vkl_slice(test_buffer(device, NULL, 4 * COUNT), 0);
        VklArgs args = {.PROBE = {.count = COUNT, .rounds = ROUNDS}};
        VklOperand operands[] = {{vkl_array(VKL_SLOT_Y, 0), 4 * COUNT, VKL_WRITE},
                                 {vkl_array(VKL_SLOT_X, 0), 4 * COUNT, VKL_READ}};
        VklPlan plan;
        vkl_plan_init(&plan, &device->caps);
        vkl_plan_call(&plan, VKL_KERNEL_PROBE, form, COUNT, operands, &args, COUNT, 1);
        TEST_OK(context, vkl_exec_record_once(device, stream, &plan, slots, "probe", NULL));
        TEST_OK(context, vkl_stream_wait(stream));
        test_read(device, slots[VKL_SLOT_Y].buffer, out, 4 * COUNT);
        test_compare(form ? "copy" : "multiply-adds", out, want, 4 * COUNT, form ? 0 : 84 * 0x1p-23);
        vkl_buffer_destroy(slots[VKL_SLOT_X].buffer);
        vkl_buffer_destroy(slots[VKL_SLOT_Y].buffer);
    }
    vkl_stream_destroy(stream);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

Test(profile, a_device_tells_what_it_can_do_at_best)
{
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklDeviceSpeed speed = {0, 0};
    TEST_OK(context, vkl_device_measure(device, &speed));
    cr_expect(speed.flops > 0 && isfinite(speed.flops), "%g", speed.flops);
    cr_expect(speed.bandwidth > 0 && isfinite(speed.bandwidth), "%g", speed.bandwidth);
    cr_expect_eq(vkl_device_measure(device, NULL), VKL_ERROR_INVALID);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

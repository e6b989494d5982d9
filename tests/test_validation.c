/* SPDX-License-Identifier: MIT
 *
 * Does silence of the validation layer mean anything? Run under it alone (the Meson setup "validation"), before the other
 * tests: the same work with its barrier must be silent, and without it must end the process through the harness.
 */
#include <signal.h>

#include "harness.h"
#include "internal.h"

enum { COUNT = 1000 };

/* Two kernels, of which the second reads what the first writes. */
static void run_chain(bool barrier)
{
    VklContext *context = test_context();
    VklDevice *device = test_device(context);

    VklPlan plan;
    vkl_plan_init(&plan, &device->caps);
    VklArray gy = vkl_array(VKL_SLOT_GY, 0), y = vkl_array(VKL_SLOT_Y, 0);
    VklArray first = vkl_array(VKL_SLOT_DX, 0), second = vkl_array(VKL_SLOT_WORKSPACE, 0);
    vkl_plan_activation_backward(&plan, VKL_ACTIVATION_TANH, COUNT, gy, y, first);
    vkl_plan_activation_backward(&plan, VKL_ACTIVATION_TANH, COUNT, first, y, second);
    cr_assert_eq(plan.status, VKL_OK, "%s", plan.error);
    cr_assert_eq(plan.count, (size_t)2);
    cr_assert(plan.ops[1].barrier, "the plan itself has no barrier between a write and a read");
    plan.ops[1].barrier = barrier;

    const int used[] = {VKL_SLOT_GY, VKL_SLOT_Y, VKL_SLOT_DX, VKL_SLOT_WORKSPACE};
    VklSlice slots[VKL_SLOT_COUNT] = {{NULL, 0}};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        slots[used[i]] = vkl_slice(test_buffer(device, NULL, COUNT), 0);
    VklExec *exec = NULL;
    TEST_OK(context, vkl_exec_create(device, &plan, slots, "test", NULL, &exec));
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_exec_record(exec, stream));
    TEST_OK(context, vkl_stream_wait(stream));

    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        vkl_buffer_destroy(slots[used[i]].buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

Test(validation, is_silent_about_correct_work)
{
    run_chain(true);
}

Test(validation, sees_a_missing_barrier, .signal = SIGABRT)
{
    run_chain(false);
}

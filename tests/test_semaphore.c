/* SPDX-License-Identifier: MIT
 *
 * Submits of the library's own between submits of its host, kept in order by binary and timeline semaphores. */
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "spy.h"

enum { WORDS = 64, SHORT_WAIT = 20 * 1000 * 1000 /* ns */ };

typedef struct Guest {
    App app;
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
    PFN_vkGetSemaphoreCounterValue get_value;
    PFN_vkSignalSemaphore signal;
    PFN_vkWaitSemaphores wait;
} Guest;

static Guest guest_start(bool timeline)
{
    VkPhysicalDeviceTimelineSemaphoreFeatures features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
        .timelineSemaphore = VK_TRUE,
    };
    Guest guest = {.app = app_start_with(&features, VK_API_VERSION_1_2), .context = test_context()};
    VkPhysicalDeviceFeatures2 enabled = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &features};
    VklVulkanImport import = spy_import(&guest.app);
    import.api_version = VK_API_VERSION_1_2;
    import.limits = test_limits();
    if (timeline)
        import.features = &enabled;
    TEST_OK(guest.context, vkl_device_import_vulkan(guest.context, &import, &guest.device));
    TEST_OK(guest.context, vkl_stream_create(guest.device, &guest.stream));
#define GET(field, name) guest.field = (PFN_##name)vk.vkGetDeviceProcAddr(guest.app.device, #name)
    GET(get_value, vkGetSemaphoreCounterValue);
    GET(signal, vkSignalSemaphore);
    GET(wait, vkWaitSemaphores);
#undef GET
    return guest;
}

static void guest_stop(Guest *guest)
{
    vkl_stream_destroy(guest->stream);
    vkl_device_destroy(guest->device);
    vkl_context_destroy(guest->context);
    app_check_usable(&guest->app);
    app_stop(&guest->app);
}

static VkSemaphore semaphore_of(Guest *guest, bool timeline)
{
    VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = timeline ? &type : NULL};
    VkSemaphore made;
    CHECK_VK(vk.vkCreateSemaphore(guest->app.device, &info, NULL, &made));
    return made;
}

static void destroy_semaphore(Guest *guest, VkSemaphore semaphore)
{
    vk.vkDestroySemaphore(guest->app.device, semaphore, NULL);
}

static uint64_t value_of(Guest *guest, VkSemaphore semaphore)
{
    uint64_t value = 0;
    CHECK_VK(guest->get_value(guest->app.device, semaphore, &value));
    return value;
}

/* Waits: Mesa raises the value of a timeline a little after the fence of the same submit. */
static void check_reached(Guest *guest, VkSemaphore semaphore, uint64_t value)
{
    VkSemaphoreWaitInfo wait = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &semaphore,
        .pValues = &value,
    };
    cr_assert_eq(guest->wait(guest->app.device, &wait, UINT64_C(10000000000)), VK_SUCCESS);
    cr_assert_eq(value_of(guest, semaphore), value);
}

static void signal_from_host(Guest *guest, VkSemaphore semaphore, uint64_t value)
{
    VkSemaphoreSignalInfo signal = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
        .semaphore = semaphore,
        .value = value,
    };
    CHECK_VK(guest->signal(guest->app.device, &signal));
}

/* The host's own submit of a command buffer, which ends here. */
static void submit(Guest *guest, VkCommandBuffer commands, const VklVulkanSubmit *semaphores)
{
    const VkPipelineStageFlags stages[] = {VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT};
    VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .waitSemaphoreValueCount = semaphores->wait_count,
        .pWaitSemaphoreValues = semaphores->wait_values,
        .signalSemaphoreValueCount = semaphores->signal_count,
        .pSignalSemaphoreValues = semaphores->signal_values,
    };
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .pNext = &values,
        .waitSemaphoreCount = semaphores->wait_count,
        .pWaitSemaphores = semaphores->waits,
        .pWaitDstStageMask = stages,
        .commandBufferCount = 1,
        .pCommandBuffers = &commands,
        .signalSemaphoreCount = semaphores->signal_count,
        .pSignalSemaphores = semaphores->signals,
    };
    CHECK_VK(vk.vkEndCommandBuffer(commands));
    CHECK_VK(vk.vkQueueSubmit(guest->app.queue, 1, &info, VK_NULL_HANDLE));
}

/* The host fills a, vklstm copies a to b, the host copies b to c; a binary and a timeline semaphore lead from each to the next. */
Test(semaphore, lead_from_the_hosts_work_to_ours_and_back)
{
    Guest guest = guest_start(true);
    AppBuffer buffers[3];
    VklBuffer *wrapped[3];
    VkCommandBuffer commands[2];
    for (int i = 0; i < 3; i++) {
        buffers[i] = app_buffer(&guest.app, WORDS * 4);
        TEST_OK(guest.context, vkl_buffer_wrap_vulkan(guest.device, buffers[i].handle, WORDS * 4, &wrapped[i]));
    }
    VkSemaphore timeline = semaphore_of(&guest, true), forth = semaphore_of(&guest, false), back = semaphore_of(&guest, false);
    for (int i = 0; i < 2; i++) {
        commands[i] = app_commands(&guest.app, guest.app.pool);
        app_begin(commands[i]);
    }

    VklVulkanSubmit theirs = vkl_vulkan_submit(), ours = vkl_vulkan_submit();
    const VkSemaphore first[] = {timeline, forth}, second[] = {back, timeline};
    const uint64_t values[4][2] = {{1, 0}, {0, 2}, {3, 0}};
    vk.vkCmdFillBuffer(commands[0], buffers[0].handle, 0, VK_WHOLE_SIZE, 0xabcd);
    theirs.signal_count = 2;
    theirs.signals = first;
    theirs.signal_values = values[0];
    submit(&guest, commands[0], &theirs);

    TEST_OK(guest.context, vkl_stream_copy(guest.stream, vkl_slice(wrapped[1], 0), vkl_slice(wrapped[0], 0), WORDS * 4));
    ours.wait_count = 2;
    ours.waits = first;
    ours.wait_values = values[0];
    ours.signal_count = 2;
    ours.signals = second;
    ours.signal_values = values[1];
    VklFence *fence = NULL;
    TEST_OK(guest.context, vkl_stream_submit_vulkan(guest.stream, &ours, &fence));

    VkBufferCopy whole = {.size = WORDS * 4};
    vk.vkCmdCopyBuffer(commands[1], buffers[1].handle, buffers[2].handle, 1, &whole);
    app_barrier(commands[1], VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
                VK_ACCESS_HOST_READ_BIT);
    theirs = vkl_vulkan_submit();
    theirs.wait_count = 2;
    theirs.waits = second;
    theirs.wait_values = values[1];
    theirs.signal_count = 1;
    theirs.signals = &timeline;
    theirs.signal_values = values[2];
    submit(&guest, commands[1], &theirs);

    check_reached(&guest, timeline, 3);
    for (int i = 0; i < WORDS; i++)
        cr_assert_eq(((uint32_t *)buffers[2].host)[i], 0xabcdu, "word %d", i);
    cr_assert_eq(vkl_fence_wait(fence, 0), VKL_OK);
    vkl_fence_destroy(fence);
    CHECK_VK(vk.vkDeviceWaitIdle(guest.app.device));
    destroy_semaphore(&guest, timeline);
    destroy_semaphore(&guest, forth);
    destroy_semaphore(&guest, back);
    for (int i = 0; i < 3; i++) {
        vkl_buffer_destroy(wrapped[i]);
        app_buffer_destroy(&guest.app, &buffers[i]);
    }
    guest_stop(&guest);
}

/* Work that is worth many submits: nothing of it runs before the host signals, and the signal comes after all of it. */
Test(semaphore, long_work_waits_as_a_whole)
{
    enum { T = 12, N = 3, I = 2, H = 9 };
    Guest guest = guest_start(true);
    guest.device->caps.submit_cost = 1; /* each dispatch */
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    desc.path = VKL_RNN_PATH_STEP;
    VklRnn *rnn = NULL;
    VklRnnSizes sizes;
    TEST_OK(guest.context, vkl_rnn_create(guest.device, &desc, &rnn));
    TEST_OK(guest.context, vkl_rnn_sizes(rnn, T, N, &sizes));
    float *params = malloc(sizes.params), x[T * N * I], y[2][T * N * H];
    TEST_OK(guest.context, vkl_rnn_init(rnn, 3, params));
    test_random(x, T * N * I, 5, 1);
    VklBuffer *buffers[] = {test_buffer(guest.device, params, sizes.params / 4), test_buffer(guest.device, x, T * N * I),
                            test_buffer(guest.device, NULL, T * N * H),
                            test_buffer(guest.device, NULL, sizes.forward_workspace / 4 + 1)};
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(buffers[0], 0);
    forward.x = vkl_slice(buffers[1], 0);
    forward.y = vkl_slice(buffers[2], 0);
    forward.workspace = vkl_slice(buffers[3], 0);
    VkSemaphore timeline = semaphore_of(&guest, true);
    TEST_OK(guest.context, vkl_rnn_forward(rnn, guest.stream, &forward));
    TEST_OK(guest.context, vkl_stream_wait(guest.stream));
    test_read(guest.device, buffers[2], y[0], T * N * H);
    TEST_OK(guest.context, vkl_stream_fill(guest.stream, forward.y, 0, sizeof(y[0])));

    const unsigned before = spy_calls("vkQueueSubmit");
    TEST_OK(guest.context, vkl_rnn_forward(rnn, guest.stream, &forward));
    cr_assert_eq(spy_calls("vkQueueSubmit"), before, "nothing is submitted before it is asked for");
    TEST_OK(guest.context, vkl_stream_read(guest.stream, forward.y, y[1], sizeof(y[1])));
    VklVulkanSubmit both = vkl_vulkan_submit();
    const uint64_t values[2] = {5, 7};
    both.wait_count = both.signal_count = 1;
    both.waits = both.signals = &timeline;
    both.wait_values = &values[0];
    both.signal_values = &values[1];
    VklFence *fence = NULL;
    TEST_OK(guest.context, vkl_stream_submit_vulkan(guest.stream, &both, &fence));
    cr_assert_gt(spy_calls("vkQueueSubmit") - before, (unsigned)T, "it was not cut");
    cr_assert_eq(vkl_fence_wait(fence, SHORT_WAIT), VKL_TIMEOUT);
    cr_assert_eq(value_of(&guest, timeline), 0u);
    signal_from_host(&guest, timeline, 5);
    cr_assert_eq(vkl_fence_wait(fence, UINT64_MAX), VKL_OK);
    check_reached(&guest, timeline, 7);
    cr_assert(!memcmp(y[0], y[1], sizeof(y[0])));

    vkl_fence_destroy(fence);
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(buffers[i]);
    free(params);
    vkl_rnn_destroy(rnn);
    destroy_semaphore(&guest, timeline);
    guest_stop(&guest);
}

/* With nothing recorded, a wait holds for all that is submitted later, replays too. */
Test(semaphore, alone_hold_for_what_is_submitted_later)
{
    Guest guest = guest_start(true);
    VkSemaphore timeline = semaphore_of(&guest, true);
    VklBuffer *buffer = test_buffer(guest.device, NULL, WORDS);
    VklVulkanSubmit submit_first = vkl_vulkan_submit(), submit_last = vkl_vulkan_submit();
    const uint64_t values[2] = {1, 2};
    submit_first.wait_count = submit_last.signal_count = 1;
    submit_first.waits = submit_last.signals = &timeline;
    submit_first.wait_values = &values[0];
    submit_last.signal_values = &values[1];
    const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    submit_first.wait_stages = &stage;
    TEST_OK(guest.context, vkl_stream_submit_vulkan(guest.stream, &submit_first, NULL));
    TEST_OK(guest.context, vkl_stream_fill(guest.stream, vkl_slice(buffer, 0), 3, WORDS * 4));
    VklFence *fence = NULL;
    TEST_OK(guest.context, vkl_stream_submit(guest.stream, &fence));
    TEST_OK(guest.context, vkl_stream_submit_vulkan(guest.stream, &submit_last, NULL));
    cr_assert_eq(vkl_fence_wait(fence, SHORT_WAIT), VKL_TIMEOUT);
    signal_from_host(&guest, timeline, 1);
    TEST_OK(guest.context, vkl_stream_wait(guest.stream));
    check_reached(&guest, timeline, 2);
    vkl_fence_destroy(fence);
    vkl_buffer_destroy(buffer);
    destroy_semaphore(&guest, timeline);
    guest_stop(&guest);
}

Test(semaphore, wrong_use_is_refused_by_name)
{
    Guest guest = guest_start(false);
    VkSemaphore timeline = semaphore_of(&guest, true), binary = semaphore_of(&guest, false);
    const uint64_t value = 1;
    const VkSemaphore none = VK_NULL_HANDLE;
    const VkPipelineStageFlags no_stage = 0;
    VklStream *wrapped = NULL, *cpu_stream = NULL;
    TEST_OK(guest.context, vkl_stream_wrap_vulkan(guest.device, guest.app.commands, &wrapped));
    VklDevice *cpu = test_device_cpu(guest.context);
    TEST_OK(guest.context, vkl_stream_create(cpu, &cpu_stream));
    const unsigned before = spy_calls("vkQueueSubmit");
    const struct {
        VklStream *stream;
        VklVulkanSubmit submit;
        VklStatus status;
        const char *word;
    } cases[] = {
        {guest.stream, {.struct_size = 3}, VKL_ERROR_INVALID, "struct_size"},
        {guest.stream, {.wait_count = 1, .waits = &timeline, .wait_values = &value}, VKL_ERROR_UNSUPPORTED, "timelineSemaphore"},
        {guest.stream,
         {.signal_count = 1, .signals = &timeline, .signal_values = &value},
         VKL_ERROR_UNSUPPORTED,
         "timelineSemaphore"},
        {guest.stream, {.wait_count = 1}, VKL_ERROR_INVALID, "waits is NULL"},
        {guest.stream, {.signal_count = 2}, VKL_ERROR_INVALID, "signals is NULL"},
        {guest.stream, {.wait_count = 1, .waits = &none}, VKL_ERROR_INVALID, "waits[0]"},
        {guest.stream, {.signal_count = 17, .signals = &binary}, VKL_ERROR_LIMIT, "signal_count is 17"},
        {guest.stream, {.wait_count = 1, .waits = &binary, .wait_stages = &no_stage}, VKL_ERROR_INVALID, "wait_stages[0]"},
        {wrapped, {.signal_count = 1, .signals = &binary}, VKL_ERROR_UNSUPPORTED, "wraps"},
        {cpu_stream, {.signal_count = 1, .signals = &binary}, VKL_ERROR_UNSUPPORTED, "not a Vulkan device"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklVulkanSubmit submit_info = cases[i].submit;
        VklFence *fence = NULL;
        if (!submit_info.struct_size)
            submit_info.struct_size = sizeof(submit_info);
        VklStatus status = vkl_stream_submit_vulkan(cases[i].stream, &submit_info, &fence);
        cr_assert_eq(status, cases[i].status, "case %zu: %d", i, (int)status);
        cr_assert_not_null(strstr(vkl_stream_error(cases[i].stream), cases[i].word), "case %zu: %s", i,
                           vkl_stream_error(cases[i].stream));
        cr_assert_null(fence);
    }
    cr_assert_eq(vkl_stream_submit_vulkan(guest.stream, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_stream_submit_vulkan(NULL, &(VklVulkanSubmit){.struct_size = sizeof(VklVulkanSubmit)}, NULL),
                 VKL_ERROR_INVALID);
    cr_assert_eq(spy_calls("vkQueueSubmit"), before);
    vkl_stream_destroy(cpu_stream);
    vkl_stream_destroy(wrapped);
    vkl_device_destroy(cpu);
    destroy_semaphore(&guest, timeline);
    destroy_semaphore(&guest, binary);
    guest_stop(&guest);
}

/* A submit that fails half-way drops the rest; the stream goes on. */
Test(semaphore, a_failed_submit_drops_all_that_was_recorded)
{
    Guest guest = guest_start(true);
    VklBuffer *buffer = test_buffer(guest.device, NULL, WORDS);
    VkSemaphore timeline = semaphore_of(&guest, true);
    const uint64_t value = 4;
    VklVulkanSubmit signals = vkl_vulkan_submit();
    signals.signal_count = 1;
    signals.signals = &timeline;
    signals.signal_values = &value;
    TEST_OK(guest.context, vkl_stream_fill(guest.stream, vkl_slice(buffer, 0), 3, WORDS * 4));
    spy.only = "vkQueueSubmit";
    spy.failure = VK_ERROR_OUT_OF_HOST_MEMORY;
    spy.until_failure = 1;
    cr_assert_eq(vkl_stream_submit_vulkan(guest.stream, &signals, NULL), VKL_ERROR_HOST_MEMORY);
    cr_assert_eq(value_of(&guest, timeline), 0u);
    float got = -1;
    test_read(guest.device, buffer, &got, 1);
    cr_assert_eq(got, 0.0f);
    TEST_OK(guest.context, vkl_stream_submit_vulkan(guest.stream, &signals, NULL));
    TEST_OK(guest.context, vkl_stream_wait(guest.stream));
    check_reached(&guest, timeline, 4);
    vkl_buffer_destroy(buffer);
    destroy_semaphore(&guest, timeline);
    guest_stop(&guest);
}

/* SPDX-License-Identifier: MIT
 *
 * A guest in a program of many threads: two record different prepared work of one layer into command buffers of the program's,
 * one prepares more, one submits on a stream of vklstm's own, and one submits to the same queue by itself, under the program's
 * lock. */
#include "app.h"
#include "threads.h"

enum { THREADS = 5, FRAMES = 12 };

typedef struct Host {
    App app;
    pthread_mutex_t queue; /* the program's lock of it */
    VklDevice *device;
    VklRnn *rnn;
    Pass passes[2];
    VklExec *execs[2];
    Expected expected;
} Host;

static void lock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index;
    pthread_mutex_lock(&((Host *)user)->queue);
}

static void unlock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index;
    pthread_mutex_unlock(&((Host *)user)->queue);
}

static void submit(Host *host, VkCommandBuffer commands)
{
    app_barrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    CHECK_VK(vk.vkEndCommandBuffer(commands));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    pthread_mutex_lock(&host->queue);
    CHECK_VK(vk.vkQueueSubmit(host->app.queue, 1, &info, VK_NULL_HANDLE));
    CHECK_VK(vk.vkQueueWaitIdle(host->app.queue));
    pthread_mutex_unlock(&host->queue);
}

static void record(Host *host, int index)
{
    VkCommandPool pool = app_pool(&host->app);
    VkCommandBuffer commands = app_commands(&host->app, pool);
    VklStream *stream = NULL;
    OK(vkl_stream_wrap_vulkan(host->device, commands, &stream));
    for (int frame = 0; frame < FRAMES; frame++) {
        app_begin(commands);
        OK(vkl_exec_record(host->execs[index], stream));
        OK(vkl_stream_fill(stream, host->passes[index].forward.workspace, 0, 4));
        submit(host, commands);
    }
    vkl_stream_destroy(stream);
    vk.vkDestroyCommandPool(host->app.device, pool, NULL);
}

static void prepare(Host *host)
{
    for (int frame = 0; frame < FRAMES; frame++) {
        VklRnnDesc desc = vkl_rnn_desc(frame % 2 ? VKL_CELL_GRU : VKL_CELL_RNN_TANH, INPUTS, UNITS + (uint64_t)frame);
        VklRnn *rnn = NULL;
        VklExec *exec = NULL;
        VklStream *stream = NULL;
        OK(vkl_stream_create(host->device, &stream));
        OK(vkl_rnn_create(host->device, &desc, &rnn));
        Pass pass = pass_of(host->device, rnn, stream);
        OK(vkl_rnn_prepare_forward(rnn, &pass.forward, &exec));
        vkl_exec_destroy(exec);
        OK(vkl_rnn_prepare_forward(host->rnn, &host->passes[0].forward, &exec)); /* what others record meanwhile */
        vkl_exec_destroy(exec);
        pass_finish(&pass);
        vkl_rnn_destroy(rnn);
        vkl_stream_destroy(stream);
    }
}

static void submit_own(Host *host)
{
    VklStream *stream = NULL;
    OK(vkl_stream_create(host->device, &stream));
    Pass pass = pass_of(host->device, host->rnn, stream);
    for (int frame = 0; frame < FRAMES; frame++) {
        OK(vkl_rnn_forward(host->rnn, stream, &pass.forward));
        OK(vkl_stream_submit(stream, NULL));
        check_pass(&host->expected, stream, &pass);
    }
    pass_finish(&pass);
    vkl_stream_destroy(stream);
}

static void submit_theirs(Host *host)
{
    AppBuffer buffer = app_buffer(&host->app, 256);
    VkCommandPool pool = app_pool(&host->app);
    VkCommandBuffer commands = app_commands(&host->app, pool);
    for (uint32_t frame = 0; frame < FRAMES; frame++) {
        app_begin(commands);
        vk.vkCmdFillBuffer(commands, buffer.handle, 0, VK_WHOLE_SIZE, frame);
        submit(host, commands);
    }
    vk.vkDestroyCommandPool(host->app.device, pool, NULL);
    app_buffer_destroy(&host->app, &buffer);
}

static void part(void *data, int index)
{
    Host *host = data;
    switch (index) {
    case 0:
    case 1:
        record(host, index);
        break;
    case 2:
        prepare(host);
        break;
    case 3:
        submit_own(host);
        break;
    case 4:
        submit_theirs(host);
        break;
    }
}

int main(void)
{
    Host host = {.queue = PTHREAD_MUTEX_INITIALIZER, .expected = {.mutex = PTHREAD_MUTEX_INITIALIZER}};
    VklContextDesc desc = vkl_context_desc();
    VklContext *context = NULL;
    VklStream *stream = NULL;
    host.app = app_start();
    desc.threads = 2;
    OK(vkl_context_create(&desc, &context));
    VklVulkanImport import = vkl_vulkan_import();
    import.get_instance_proc_addr = vk.vkGetInstanceProcAddr;
    import.instance = host.app.instance;
    import.physical_device = host.app.physical;
    import.device = host.app.device;
    import.api_version = VK_API_VERSION_1_1;
    import.queue = host.app.queue;
    import.queue_family = host.app.family;
    import.lock_queue = lock;
    import.unlock_queue = unlock;
    import.lock_user = &host;
    OK(vkl_device_import_vulkan(context, &import, &host.device));
    VklRnnDesc layer = vkl_rnn_desc(VKL_CELL_LSTM, INPUTS, UNITS);
    OK(vkl_rnn_create(host.device, &layer, &host.rnn));
    OK(vkl_stream_create(host.device, &stream));
    for (int i = 0; i < 2; i++) {
        host.passes[i] = pass_of(host.device, host.rnn, stream);
        OK(vkl_rnn_prepare_forward(host.rnn, &host.passes[i].forward, &host.execs[i]));
    }
    run_threads(THREADS, part, &host);
    for (int i = 0; i < 2; i++) {
        check_pass(&host.expected, stream, &host.passes[i]);
        vkl_exec_destroy(host.execs[i]);
        pass_finish(&host.passes[i]);
    }
    vkl_stream_destroy(stream);
    vkl_rnn_destroy(host.rnn);
    vkl_device_destroy(host.device);
    vkl_context_destroy(context);
    app_check_usable(&host.app);
    app_stop(&host.app);
    return 0;
}

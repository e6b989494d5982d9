/* SPDX-License-Identifier: MIT
 *
 * A program with a Vulkan device of its own lets vklstm record an LSTM into its command buffer, between its own commands, and submits
 * that itself. vklstm is a guest: afterwards the device is as it was.
 * Usage: import_vulkan [INDEX of the physical device] */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <vklstm/vulkan.h>

enum { T = 20, N = 4, I = 3, H = 32 };

/* ---- The program's own Vulkan ---- */

typedef struct App {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family;
    VkQueue queue;
    pthread_mutex_t queue_mutex; /* whoever submits holds it */
    VkCommandPool pool;
    VkCommandBuffer commands;
} App;

typedef struct AppBuffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    float *host;
} AppBuffer;

static void check(VkResult result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: VkResult %d\n", what, (int)result);
        exit(1);
    }
}

static void check_vkl(VklStatus status, VklContext *context)
{
    if (status) {
        fprintf(stderr, "%s\n", vkl_context_error(context));
        exit(1);
    }
}

static uint32_t compute_family(VkPhysicalDevice physical)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16, family = 0;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    while (family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        family++;
    return family;
}

/* An instance, one of its physical devices, and a queue family of that. */
static void app_open(App *app, uint32_t index)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo instance = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    check(vkCreateInstance(&instance, NULL, &app->instance), "vkCreateInstance");

    VkPhysicalDevice physical[16];
    uint32_t count = 16;
    check(vkEnumeratePhysicalDevices(app->instance, &count, physical), "vkEnumeratePhysicalDevices");
    if (index >= count) {
        fprintf(stderr, "there is no physical device %u; there are %u\n", index, count);
        exit(1);
    }
    app->physical = physical[index];
    app->family = compute_family(app->physical);
}

/* A program would add the guest's wishes to its own. */
static void app_start(App *app, const VklVulkanWishes *wishes)
{
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = app->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo device = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &wishes->features,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = wishes->extension_count,
        .ppEnabledExtensionNames = wishes->extensions,
    };
    check(vkCreateDevice(app->physical, &device, NULL, &app->device), "vkCreateDevice");
    vkGetDeviceQueue(app->device, app->family, 0, &app->queue);

    VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = app->family,
    };
    check(vkCreateCommandPool(app->device, &pool, NULL, &app->pool), "vkCreateCommandPool");
    VkCommandBufferAllocateInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = app->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    check(vkAllocateCommandBuffers(app->device, &commands, &app->commands), "vkAllocateCommandBuffers");
}

static void app_stop(App *app)
{
    vkDestroyCommandPool(app->device, app->pool, NULL);
    vkDestroyDevice(app->device, NULL);
    vkDestroyInstance(app->instance, NULL);
}

/* A buffer that the host can see; Vulkan promises a memory type for that. */
static AppBuffer app_buffer(App *app, VkDeviceSize size)
{
    AppBuffer made;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    check(vkCreateBuffer(app->device, &info, NULL, &made.handle), "vkCreateBuffer");
    VkMemoryRequirements needs;
    vkGetBufferMemoryRequirements(app->device, made.handle, &needs);
    VkPhysicalDeviceMemoryProperties there;
    vkGetPhysicalDeviceMemoryProperties(app->physical, &there);
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type = 0;
    while (!(needs.memoryTypeBits >> type & 1) || (there.memoryTypes[type].propertyFlags & wanted) != wanted)
        type++;
    VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = type,
    };
    void *host;
    check(vkAllocateMemory(app->device, &memory, NULL, &made.memory), "vkAllocateMemory");
    check(vkBindBufferMemory(app->device, made.handle, made.memory, 0), "vkBindBufferMemory");
    check(vkMapMemory(app->device, made.memory, 0, VK_WHOLE_SIZE, 0, &host), "vkMapMemory");
    made.host = host;
    return made;
}

static void app_buffer_destroy(App *app, AppBuffer *buffer)
{
    vkDestroyBuffer(app->device, buffer->handle, NULL);
    vkFreeMemory(app->device, buffer->memory, NULL);
}

static void app_begin(App *app)
{
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    check(vkBeginCommandBuffer(app->commands, &begin), "vkBeginCommandBuffer");
}

/* Makes writes of `access` in `stage` visible to the host, submits and waits. */
static void app_finish(App *app, VkPipelineStageFlags stage, VkAccessFlags access)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = access,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    vkCmdPipelineBarrier(app->commands, stage, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
    check(vkEndCommandBuffer(app->commands), "vkEndCommandBuffer");
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = 1,
        .pCommandBuffers = &app->commands,
    };
    pthread_mutex_lock(&app->queue_mutex);
    check(vkQueueSubmit(app->queue, 1, &submit, VK_NULL_HANDLE), "vkQueueSubmit");
    check(vkQueueWaitIdle(app->queue), "vkQueueWaitIdle");
    pthread_mutex_unlock(&app->queue_mutex);
}

static void app_lock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index; /* there is one queue */
    pthread_mutex_lock(&((App *)user)->queue_mutex);
}

static void app_unlock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index;
    pthread_mutex_unlock(&((App *)user)->queue_mutex);
}

/* ---- The guest ---- */

int main(int argc, char **argv)
{
    App app = {.queue_mutex = PTHREAD_MUTEX_INITIALIZER};
    app_open(&app, argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0);

    /* The physical device, and what vklstm would use of it: none of that must be granted. */
    VklContext *context = NULL;
    VklDevice *device = NULL;
    if (vkl_context_create(NULL, &context))
        return 1;
    VklVulkanWishes wishes = {.struct_size = sizeof(wishes)};
    VklVulkanImport import = vkl_vulkan_import();
    import.get_instance_proc_addr = vkGetInstanceProcAddr;
    import.instance = app.instance;
    import.physical_device = app.physical;
    import.api_version = VK_API_VERSION_1_1;
    check_vkl(vkl_vulkan_wishes(context, &import, &wishes), context);
    app_start(&app, &wishes);

    /* The device, as vklstm must know it: with what was enabled, which a device cannot be asked. */
    import.device = app.device;
    import.features = &wishes.features;
    import.extensions = wishes.extensions;
    import.extension_count = wishes.extension_count;
    import.queue = app.queue;
    import.queue_family = app.family;
    import.lock_queue = app_lock; /* vklstm submits by itself when it uploads */
    import.unlock_queue = app_unlock;
    import.lock_user = &app;
    check_vkl(vkl_device_import_vulkan(context, &import, &device), context);

    /* An LSTM, and how much memory it needs. */
    VklRnn *rnn = NULL;
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    VklRnnSizes sizes;
    check_vkl(vkl_rnn_create(device, &desc, &rnn), context);
    check_vkl(vkl_rnn_sizes(rnn, T, N, &sizes), context);

    /* The program's own buffers: parameters, input, output, scratch. */
    const VkDeviceSize bytes[] = {sizes.params, T * N * I * sizeof(float), T * N * H * sizeof(float), sizes.forward_workspace};
    AppBuffer own[4];
    VklBuffer *wrapped[4];
    for (int i = 0; i < 4; i++) {
        own[i] = app_buffer(&app, bytes[i]);
        check_vkl(vkl_buffer_wrap_vulkan(device, own[i].handle, bytes[i], &wrapped[i]), context);
    }
    check_vkl(vkl_rnn_init(rnn, 1, own[0].host), context);
    for (int i = 0; i < T * N * I; i++)
        own[1].host[i] = (float)(i % 7) - 3;

    /* What takes time is done beforehand: pipelines are compiled, descriptor sets written. */
    VklExec *exec = NULL;
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(wrapped[0], 0);
    forward.x = vkl_slice(wrapped[1], 0);
    forward.y = vkl_slice(wrapped[2], 0);
    forward.workspace = vkl_slice(wrapped[3], 0);
    check_vkl(vkl_rnn_prepare_forward(rnn, &forward, &exec), context);

    /* Records into the program's command buffer, as often as it likes. Nothing is submitted, nothing waits. */
    VklStream *stream = NULL;
    check_vkl(vkl_stream_wrap_vulkan(device, app.commands, &stream), context);
    app_begin(&app);
    check_vkl(vkl_exec_record(exec, stream), context);
    app_finish(&app, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT);
    vkl_stream_destroy(stream); /* only now: the GPU is done with the command buffer */
    vkl_exec_destroy(exec);

    printf("h[%d] of row 0:", T - 1);
    for (int j = 0; j < 4; j++)
        printf(" %.6f", (double)own[2].host[(T - 1) * N * H + j]);
    printf(" ...\n");

    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(wrapped[i]);
    vkl_rnn_destroy(rnn);
    vkl_device_destroy(device);
    vkl_context_destroy(context);

    /* The guest is gone; the device is the program's as before. */
    app_begin(&app);
    vkCmdFillBuffer(app.commands, own[2].handle, 0, VK_WHOLE_SIZE, 42);
    app_finish(&app, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
    const uint32_t *filled = (const uint32_t *)own[2].host;
    printf("own fill afterwards: %u\n", filled[T * N * H - 1]);

    for (int i = 0; i < 4; i++)
        app_buffer_destroy(&app, &own[i]);
    app_stop(&app);
    return 0;
}

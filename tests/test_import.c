/* SPDX-License-Identifier: MIT
 *
 * A program with a Vulkan device of its own: imports it, wraps its command buffers and buffers, and keeps using it afterwards.
 *
 * The loader function that the program hands over may be a spy, which counts calls, makes one of them fail, or shows memory that lies
 * apart from the host as on a card: what software devices never do by themselves. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VK_NO_PROTOTYPES
#include "harness.h"
#include "internal.h"
#include "vklstm/vulkan.h"

/* ---- The program's own Vulkan, without the library's help ---- */

#define GLOBAL_FUNCTIONS(X) \
    X(vkCreateInstance)     \
    X(vkEnumerateInstanceExtensionProperties)

#define INSTANCE_FUNCTIONS(X)              \
    X(vkCreateDebugUtilsMessengerEXT)      \
    X(vkCreateDevice)                      \
    X(vkDestroyDebugUtilsMessengerEXT)     \
    X(vkDestroyInstance)                   \
    X(vkEnumeratePhysicalDevices)          \
    X(vkGetDeviceProcAddr)                 \
    X(vkGetPhysicalDeviceMemoryProperties) \
    X(vkGetPhysicalDeviceProperties)       \
    X(vkGetPhysicalDeviceQueueFamilyProperties)

#define DEVICE_FUNCTIONS(X)          \
    X(vkCmdCopyBuffer)               \
    X(vkCmdFillBuffer)               \
    X(vkCmdPipelineBarrier)          \
    X(vkDestroyBuffer)               \
    X(vkDestroyCommandPool)          \
    X(vkDestroyDevice)               \
    X(vkDeviceWaitIdle)              \
    X(vkFreeMemory)                  \
    X(vkGetBufferMemoryRequirements) \
    X(vkGetDeviceQueue)              \
    X(vkQueueWaitIdle)

/* Calls that can fail, with their parameters: what the spy can make fail. */
#define FALLIBLE_FUNCTIONS(X)                                                                                                   \
    X(vkAllocateCommandBuffers, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))              \
    X(vkAllocateDescriptorSets, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o))              \
    X(vkBeginCommandBuffer, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))                                     \
    X(vkBindBufferMemory, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize s), (d, b, m, s))                             \
    X(vkCreateBuffer, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))     \
    X(vkCreateCommandPool, (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o),    \
      (d, i, a, o))                                                                                                             \
    X(vkCreateComputePipelines,                                                                                                 \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,         \
       VkPipeline *o),                                                                                                          \
      (d, c, n, i, a, o))                                                                                                       \
    X(vkCreateDescriptorPool,                                                                                                   \
      (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *o), (d, i, a, o))     \
    X(vkCreateDescriptorSetLayout,                                                                                              \
      (VkDevice d, const VkDescriptorSetLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorSetLayout *o),         \
      (d, i, a, o))                                                                                                             \
    X(vkCreateFence, (VkDevice d, const VkFenceCreateInfo *i, const VkAllocationCallbacks *a, VkFence *o), (d, i, a, o))        \
    X(vkCreatePipelineCache,                                                                                                    \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o), (d, i, a, o))       \
    X(vkCreatePipelineLayout,                                                                                                   \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o), (d, i, a, o))     \
    X(vkCreateShaderModule, (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o), \
      (d, i, a, o))                                                                                                             \
    X(vkEndCommandBuffer, (VkCommandBuffer c), (c))                                                                             \
    X(vkFlushMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                             \
    X(vkGetFenceStatus, (VkDevice d, VkFence f), (d, f))                                                                        \
    X(vkInvalidateMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                        \
    X(vkMapMemory, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),                \
      (d, m, o, s, f, p))                                                                                                       \
    X(vkQueueSubmit, (VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f), (q, n, i, f))                                   \
    X(vkResetFences, (VkDevice d, uint32_t n, const VkFence *f), (d, n, f))                                                     \
    X(vkWaitForFences, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t), (d, n, f, all, t))

/* In a test's process there is one program, so its functions may be global. */
static PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr_;
static struct {
#define X(name) PFN_##name name;
    GLOBAL_FUNCTIONS(X)
    INSTANCE_FUNCTIONS(X)
    DEVICE_FUNCTIONS(X)
#undef X
#define X(name, parameters, arguments) PFN_##name name;
    FALLIBLE_FUNCTIONS(X)
#undef X
    PFN_vkAllocateMemory vkAllocateMemory;
    PFN_vkUpdateDescriptorSets vkUpdateDescriptorSets;
} vk;

typedef struct App {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family;
    VkQueue queue;
    VkCommandPool pool;
    VkCommandBuffer commands;
} App;

typedef struct AppBuffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    void *host;
} AppBuffer;

#define CHECK_VK(call)                                                     \
    do {                                                                   \
        VkResult result_ = (call);                                         \
        cr_assert_geq(result_, 0, "%s: VkResult %d", #call, (int)result_); \
    } while (0)

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)severity, (void)types, (void)user;
    fprintf(stderr, "validation: %s\n", data->pMessage);
    fflush(stderr);
    abort();
}

static void create_instance(App *app)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(library, "%s", dlerror());
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");
    memcpy(&vkGetInstanceProcAddr_, &symbol, sizeof(symbol)); /* a cast from void * to a function is no ISO C */
#define X(name) vk.name = (PFN_##name)vkGetInstanceProcAddr_(NULL, #name);
    GLOBAL_FUNCTIONS(X)
#undef X
    VkExtensionProperties there[64];
    uint32_t count = 64;
    CHECK_VK(vk.vkEnumerateInstanceExtensionProperties(NULL, &count, there));
    const char *debug_utils = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    uint32_t enabled = 0;
    for (uint32_t i = 0; i < count; i++)
        enabled |= !strcmp(there[i].extensionName, debug_utils);
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
    };
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = enabled ? &messenger : NULL,
        .pApplicationInfo = &application,
        .enabledExtensionCount = enabled,
        .ppEnabledExtensionNames = &debug_utils,
    };
    CHECK_VK(vk.vkCreateInstance(&info, NULL, &app->instance));
#define X(name) vk.name = (PFN_##name)vkGetInstanceProcAddr_(app->instance, #name);
    INSTANCE_FUNCTIONS(X)
#undef X
    if (enabled)
        CHECK_VK(vk.vkCreateDebugUtilsMessengerEXT(app->instance, &messenger, NULL, &app->messenger));
}

/* The physical device that VKL_TEST_DEVICE asks for. */
static VkPhysicalDevice choose(App *app)
{
    VkPhysicalDevice physical[16];
    uint32_t count = 16;
    CHECK_VK(vk.vkEnumeratePhysicalDevices(app->instance, &count, physical));
    const char *selector = getenv("VKL_TEST_DEVICE");
    const char *name = selector && !strncmp(selector, "vulkan:", 7) ? selector + 7 : "";
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties properties;
        vk.vkGetPhysicalDeviceProperties(physical[i], &properties);
        if (strstr(properties.deviceName, name))
            return physical[i];
    }
    cr_assert_fail("no physical device '%s' among %u", name, count);
    return VK_NULL_HANDLE;
}

static VkCommandBuffer allocate_commands(App *app, VkCommandPool pool)
{
    VkCommandBuffer made;
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    CHECK_VK(vk.vkAllocateCommandBuffers(app->device, &info, &made));
    return made;
}

static VkCommandPool create_pool(App *app)
{
    VkCommandPool made;
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = app->family,
    };
    CHECK_VK(vk.vkCreateCommandPool(app->device, &info, NULL, &made));
    return made;
}

static App app_start(void)
{
    App app = {0};
    create_instance(&app);
    app.physical = choose(&app);
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    vk.vkGetPhysicalDeviceQueueFamilyProperties(app.physical, &count, families);
    while (app.family < count && !(families[app.family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        app.family++;
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = app.family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
    };
    CHECK_VK(vk.vkCreateDevice(app.physical, &info, NULL, &app.device));
#define X(name) vk.name = (PFN_##name)vk.vkGetDeviceProcAddr(app.device, #name);
    DEVICE_FUNCTIONS(X)
    X(vkAllocateMemory)
    X(vkUpdateDescriptorSets)
#undef X
#define X(name, parameters, arguments) vk.name = (PFN_##name)vk.vkGetDeviceProcAddr(app.device, #name);
    FALLIBLE_FUNCTIONS(X)
#undef X
    vk.vkGetDeviceQueue(app.device, app.family, 0, &app.queue);
    app.pool = create_pool(&app);
    app.commands = allocate_commands(&app, app.pool);
    return app;
}

static void app_stop(App *app)
{
    vk.vkDestroyCommandPool(app->device, app->pool, NULL);
    vk.vkDestroyDevice(app->device, NULL);
    if (app->messenger)
        vk.vkDestroyDebugUtilsMessengerEXT(app->instance, app->messenger, NULL);
    vk.vkDestroyInstance(app->instance, NULL);
}

static uint32_t visible_type(App *app, uint32_t bits)
{
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkPhysicalDeviceMemoryProperties there;
    vk.vkGetPhysicalDeviceMemoryProperties(app->physical, &there);
    uint32_t type = 0;
    while (!(bits >> type & 1) || (there.memoryTypes[type].propertyFlags & wanted) != wanted)
        type++;
    return type;
}

static AppBuffer app_buffer(App *app, VkDeviceSize size)
{
    AppBuffer made;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    };
    CHECK_VK(vk.vkCreateBuffer(app->device, &info, NULL, &made.handle));
    VkMemoryRequirements needs;
    vk.vkGetBufferMemoryRequirements(app->device, made.handle, &needs);
    VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = visible_type(app, needs.memoryTypeBits),
    };
    CHECK_VK(vk.vkAllocateMemory(app->device, &memory, NULL, &made.memory));
    CHECK_VK(vk.vkBindBufferMemory(app->device, made.handle, made.memory, 0));
    CHECK_VK(vk.vkMapMemory(app->device, made.memory, 0, VK_WHOLE_SIZE, 0, &made.host));
    memset(made.host, 0, size);
    return made;
}

static void app_buffer_destroy(App *app, AppBuffer *buffer)
{
    vk.vkDestroyBuffer(app->device, buffer->handle, NULL);
    vk.vkFreeMemory(app->device, buffer->memory, NULL);
}

static void begin(VkCommandBuffer commands)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    CHECK_VK(vk.vkBeginCommandBuffer(commands, &info));
}

static void barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written, VkPipelineStageFlags to,
                    VkAccessFlags read)
{
    VkMemoryBarrier memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = written,
        .dstAccessMask = read,
    };
    vk.vkCmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

/* What was written becomes visible to the host; submits and waits. */
static void run(App *app, VkCommandBuffer commands)
{
    barrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    CHECK_VK(vk.vkEndCommandBuffer(commands));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    CHECK_VK(vk.vkQueueSubmit(app->queue, 1, &info, VK_NULL_HANDLE));
    CHECK_VK(vk.vkQueueWaitIdle(app->queue));
}

/* The device still works for its owner. */
static void check_usable(App *app)
{
    AppBuffer buffer = app_buffer(app, 1024);
    begin(app->commands);
    vk.vkCmdFillBuffer(app->commands, buffer.handle, 0, VK_WHOLE_SIZE, 0x600dcafe);
    run(app, app->commands);
    for (int i = 0; i < 256; i++)
        cr_assert_eq(((uint32_t *)buffer.host)[i], 0x600dcafeu, "word %d", i);
    app_buffer_destroy(app, &buffer);
}

/* ---- The spy ---- */

static struct {
    int until_failure; /* calls that may fail, up to the one that does; 0: none fails */
    VkResult failure;
    const char *only;    /* NULL, or the name of the one function that may fail */
    const char *failed;  /* the one that did */
    const char *missing; /* the function that is not given */
    bool apart;          /* memory: type 0 is the device's alone, type 1 visible and not coherent */
    unsigned created, updated, flushed, invalidated, submitted;
} spy;

static bool fails(const char *name)
{
    if (!strncmp(name, "vkCreate", 8) || !strncmp(name, "vkAllocate", 10))
        spy.created++;
    if (!strcmp(name, "vkFlushMappedMemoryRanges"))
        spy.flushed++;
    if (!strcmp(name, "vkInvalidateMappedMemoryRanges"))
        spy.invalidated++;
    if (!strcmp(name, "vkQueueSubmit"))
        spy.submitted++;
    if (!spy.until_failure || (spy.only && strcmp(spy.only, name)) || --spy.until_failure)
        return false;
    spy.failed = name;
    return true;
}

#define X(name, parameters, arguments)                          \
    static VKAPI_ATTR VkResult VKAPI_CALL spy_##name parameters \
    {                                                           \
        if (fails(#name))                                       \
            return spy.failure;                                 \
        return vk.name arguments;                               \
    }
FALLIBLE_FUNCTIONS(X)
#undef X

static uint32_t spy_real_type; /* of both types that are shown */

static VKAPI_ATTR VkResult VKAPI_CALL spy_vkAllocateMemory(VkDevice device, const VkMemoryAllocateInfo *info,
                                                           const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory)
{
    if (fails("vkAllocateMemory"))
        return spy.failure;
    VkMemoryAllocateInfo real = *info;
    if (spy.apart) {
        cr_assert_lt(info->memoryTypeIndex, 2u);
        real.memoryTypeIndex = spy_real_type;
    }
    return vk.vkAllocateMemory(device, &real, callbacks, memory);
}

static VKAPI_ATTR void VKAPI_CALL spy_vkGetBufferMemoryRequirements(VkDevice device, VkBuffer buffer,
                                                                    VkMemoryRequirements *requirements)
{
    vk.vkGetBufferMemoryRequirements(device, buffer, requirements);
    if (spy.apart)
        requirements->memoryTypeBits = 3;
}

static VKAPI_ATTR void VKAPI_CALL spy_vkGetPhysicalDeviceMemoryProperties(VkPhysicalDevice physical,
                                                                          VkPhysicalDeviceMemoryProperties *properties)
{
    vk.vkGetPhysicalDeviceMemoryProperties(physical, properties);
    if (spy.apart) {
        properties->memoryTypeCount = 2;
        properties->memoryTypes[0] = (VkMemoryType){.propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT};
        properties->memoryTypes[1] = (VkMemoryType){
            .propertyFlags = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        };
    }
}

static VKAPI_ATTR void VKAPI_CALL spy_vkUpdateDescriptorSets(VkDevice device, uint32_t writes, const VkWriteDescriptorSet *write,
                                                             uint32_t copies, const VkCopyDescriptorSet *copy)
{
    spy.updated++;
    vk.vkUpdateDescriptorSets(device, writes, write, copies, copy);
}

/* A program never waits for work that it will not see the end of: the real wait comes first, so that what follows may be destroyed. */
static VKAPI_ATTR VkResult VKAPI_CALL spy_wait(VkDevice device, uint32_t count, const VkFence *fences, VkBool32 all,
                                               uint64_t timeout)
{
    VkResult result = vk.vkWaitForFences(device, count, fences, all, spy.until_failure ? UINT64_MAX : timeout);
    return fails("vkWaitForFences") ? spy.failure : result;
}

static VKAPI_ATTR VkResult VKAPI_CALL spy_status(VkDevice device, VkFence fence)
{
    if (spy.until_failure)
        vk.vkWaitForFences(device, 1, &fence, VK_TRUE, UINT64_MAX);
    return spy_vkGetFenceStatus(device, fence);
}

static PFN_vkVoidFunction spy_lookup(const char *name)
{
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } spies[] = {
        {"vkWaitForFences", (PFN_vkVoidFunction)spy_wait},
        {"vkGetFenceStatus", (PFN_vkVoidFunction)spy_status},
#define X(name, parameters, arguments) {#name, (PFN_vkVoidFunction)spy_##name},
        FALLIBLE_FUNCTIONS(X)
#undef X
            {"vkAllocateMemory", (PFN_vkVoidFunction)spy_vkAllocateMemory},
        {"vkGetBufferMemoryRequirements", (PFN_vkVoidFunction)spy_vkGetBufferMemoryRequirements},
        {"vkGetPhysicalDeviceMemoryProperties", (PFN_vkVoidFunction)spy_vkGetPhysicalDeviceMemoryProperties},
        {"vkUpdateDescriptorSets", (PFN_vkVoidFunction)spy_vkUpdateDescriptorSets},
    };
    for (size_t i = 0; i < sizeof(spies) / sizeof(*spies); i++)
        if (!strcmp(name, spies[i].name))
            return spies[i].function;
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL spy_get_device_proc_addr(VkDevice device, const char *name)
{
    PFN_vkVoidFunction spied = spy_lookup(name);
    if (spy.missing && !strcmp(name, spy.missing))
        return NULL;
    return spied ? spied : vk.vkGetDeviceProcAddr(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL spy_get_instance_proc_addr(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction spied = spy_lookup(name);
    if (spy.missing && !strcmp(name, spy.missing))
        return NULL;
    if (!strcmp(name, "vkGetDeviceProcAddr"))
        return (PFN_vkVoidFunction)spy_get_device_proc_addr;
    return spied ? spied : vkGetInstanceProcAddr_(instance, name);
}

/* ---- The guest ---- */

static VklVulkanImport import_of(const App *app)
{
    static const char *const debug_utils[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME};
    VklVulkanImport import = vkl_vulkan_import();
    import.get_instance_proc_addr = spy_get_instance_proc_addr;
    import.instance = app->instance;
    import.physical_device = app->physical;
    import.device = app->device;
    import.api_version = VK_API_VERSION_1_1;
    import.queue = app->queue;
    import.queue_family = app->family;
    import.limits = test_limits();
    if (app->messenger) { /* so that names and labels are there */
        import.extensions = debug_utils;
        import.extension_count = 1;
    }
    return import;
}

static VklDevice *import_device(VklContext *context, const App *app)
{
    VklVulkanImport import = import_of(app);
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    return device;
}

enum { T = 5, N = 3, I = 2, H = 7, LAYERS = 2 };

typedef struct Lstm {
    VklRnn *rnn;
    VklRnnSizes sizes;
    float *params, x[T * N * I];
} Lstm;

static Lstm lstm_of(VklContext *context, VklDevice *device)
{
    Lstm made = {0};
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    desc.layers = LAYERS;
    TEST_OK(context, vkl_rnn_create(device, &desc, &made.rnn));
    TEST_OK(context, vkl_rnn_sizes(made.rnn, T, N, &made.sizes));
    made.params = malloc(made.sizes.params);
    cr_assert_not_null(made.params);
    TEST_OK(context, vkl_rnn_init(made.rnn, 7, made.params));
    test_random(made.x, T * N * I, 3, 1);
    return made;
}

static void lstm_finish(Lstm *lstm)
{
    vkl_rnn_destroy(lstm->rnn);
    free(lstm->params);
}

/* The same on the CPU backend. */
static void expected(VklContext *context, float y[T * N * H])
{
    VklDevice *device = test_device_cpu(context);
    Lstm lstm = lstm_of(context, device);
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklBuffer *params = test_buffer(device, lstm.params, lstm.sizes.params / 4);
    VklBuffer *x = test_buffer(device, lstm.x, T * N * I), *out = test_buffer(device, NULL, T * N * H);
    VklBuffer *workspace = test_buffer(device, NULL, lstm.sizes.forward_workspace / 4);
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(params, 0);
    forward.x = vkl_slice(x, 0);
    forward.y = vkl_slice(out, 0);
    forward.workspace = vkl_slice(workspace, 0);
    TEST_OK(context, vkl_rnn_forward(lstm.rnn, stream, &forward));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, out, y, T * N * H);
    VklBuffer *buffers[] = {params, x, out, workspace};
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_stream_destroy(stream);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
}

/* Two backends add in another order and have other exponentials: 24 bits of which a few are lost over T steps. */
#define TOLERANCE 1e-5

typedef struct Wrapped {
    AppBuffer own[4];
    VklBuffer *buffers[4];
    VklRnnForward forward;
} Wrapped;

static Wrapped wrap_all(App *app, VklContext *context, VklDevice *device, const Lstm *lstm)
{
    const uint64_t bytes[4] = {lstm->sizes.params, sizeof(lstm->x), T * N * H * sizeof(float), lstm->sizes.forward_workspace};
    Wrapped made;
    for (int i = 0; i < 4; i++) {
        made.own[i] = app_buffer(app, bytes[i]);
        TEST_OK(context, vkl_buffer_wrap_vulkan(device, made.own[i].handle, bytes[i], &made.buffers[i]));
        cr_assert_eq(vkl_buffer_size(made.buffers[i]), bytes[i]);
        cr_assert_null(vkl_buffer_data(made.buffers[i]));
    }
    memcpy(made.own[0].host, lstm->params, lstm->sizes.params);
    memcpy(made.own[1].host, lstm->x, sizeof(lstm->x));
    made.forward = vkl_rnn_forward_args(T, N);
    made.forward.params = vkl_slice(made.buffers[0], 0);
    made.forward.x = vkl_slice(made.buffers[1], 0);
    made.forward.y = vkl_slice(made.buffers[2], 0);
    made.forward.workspace = vkl_slice(made.buffers[3], 0);
    return made;
}

static void wrapped_finish(App *app, Wrapped *wrapped)
{
    for (int i = 0; i < 4; i++) {
        vkl_buffer_destroy(wrapped->buffers[i]);
        app_buffer_destroy(app, &wrapped->own[i]);
    }
}

Test(import, records_into_the_callers_command_buffer)
{
    App app = app_start();
    VklContext *context = test_context();
    float want[T * N * H];
    expected(context, want);
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    AppBuffer copy = app_buffer(&app, sizeof(want));

    VklStream *stream = NULL;
    begin(app.commands);
    /* earlier transfers of the caller's are waited for: x is copied in place here, from a copy */
    AppBuffer x = app_buffer(&app, sizeof(lstm.x));
    memcpy(x.host, lstm.x, sizeof(lstm.x));
    memset(wrapped.own[1].host, 0, sizeof(lstm.x));
    VkBufferCopy whole_x = {.size = sizeof(lstm.x)};
    vk.vkCmdCopyBuffer(app.commands, x.handle, wrapped.own[1].handle, 1, &whole_x);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    TEST_OK(context, vkl_rnn_forward(lstm.rnn, stream, &wrapped.forward));
    barrier(app.commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_TRANSFER_READ_BIT);
    VkBufferCopy whole = {.size = sizeof(want)};
    vk.vkCmdCopyBuffer(app.commands, wrapped.own[2].handle, copy.handle, 1, &whole);
    cr_assert_eq(spy.submitted, 0u, "recording submits nothing");
    run(&app, app.commands);
    test_compare_f("y", copy.host, want, T * N * H, TOLERANCE);

    vkl_stream_destroy(stream);
    app_buffer_destroy(&app, &x);
    app_buffer_destroy(&app, &copy);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

Test(import, copies_and_fills_in_the_callers_command_buffer)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    AppBuffer own[2] = {app_buffer(&app, 256), app_buffer(&app, 256)};
    VklBuffer *wrapped[2];
    for (int i = 0; i < 2; i++)
        TEST_OK(context, vkl_buffer_wrap_vulkan(device, own[i].handle, 256, &wrapped[i]));
    VklStream *stream = NULL;
    begin(app.commands);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(wrapped[0], 0), 3, 256));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(wrapped[0], 4), 5, 8));
    TEST_OK(context, vkl_stream_copy(stream, vkl_slice(wrapped[1], 12), vkl_slice(wrapped[0], 0), 16));
    run(&app, app.commands);
    const uint32_t want[] = {0, 0, 0, 3, 5, 5, 3, 0};
    cr_assert(!memcmp(own[1].host, want, sizeof(want)));
    vkl_stream_destroy(stream);
    for (int i = 0; i < 2; i++) {
        vkl_buffer_destroy(wrapped[i]);
        app_buffer_destroy(&app, &own[i]);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

Test(import, works_with_streams_and_buffers_of_the_librarys_own)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    const float want[3] = {1, 2, 3};
    float got[3];
    VklBuffer *buffer = test_buffer(device, want, 3);
    test_read(device, buffer, got, 3);
    cr_assert(!memcmp(got, want, sizeof(want)));

    /* and the caller reads that buffer with commands of its own */
    VkBuffer handle;
    VkDeviceSize offset;
    TEST_OK(context, vkl_buffer_vulkan(buffer, &handle, &offset));
    AppBuffer own = app_buffer(&app, sizeof(want));
    begin(app.commands);
    VkBufferCopy region = {.srcOffset = offset, .size = sizeof(want)};
    vk.vkCmdCopyBuffer(app.commands, handle, own.handle, 1, &region);
    run(&app, app.commands);
    cr_assert(!memcmp(own.host, want, sizeof(want)));

    app_buffer_destroy(&app, &own);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

Test(import, recording_prepared_work_allocates_nothing)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));
    cr_assert_gt(spy.updated, 0u);
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    begin(app.commands);
    const unsigned created = spy.created, updated = spy.updated;
    for (int i = 0; i < 100; i++)
        TEST_OK(context, vkl_exec_record(exec, stream));
    cr_assert_eq(spy.created, created);
    cr_assert_eq(spy.updated, updated);
    cr_assert_eq(spy.submitted, 0u);
    run(&app, app.commands);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

typedef struct Recorder {
    VklDevice *device;
    VklExec *exec;
    VkCommandBuffer commands;
    VklStatus status;
} Recorder;

static void *record(void *data)
{
    Recorder *recorder = data;
    VklStream *stream = NULL;
    recorder->status = vkl_stream_wrap_vulkan(recorder->device, recorder->commands, &stream);
    for (int i = 0; i < 50 && !recorder->status; i++)
        recorder->status = vkl_exec_record(recorder->exec, stream);
    vkl_stream_destroy(stream); /* the caller's own reference keeps the exec alive */
    return NULL;
}

Test(import, two_threads_record_one_exec)
{
    App app = app_start();
    VklContext *context = test_context();
    float want[T * N * H];
    expected(context, want);
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));

    Recorder recorders[2];
    VkCommandPool pools[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        pools[i] = create_pool(&app);
        recorders[i] = (Recorder){.device = device, .exec = exec, .commands = allocate_commands(&app, pools[i])};
        begin(recorders[i].commands);
    }
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, record, &recorders[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        TEST_OK(context, recorders[i].status);
        memset(wrapped.own[2].host, 0, sizeof(want));
        run(&app, recorders[i].commands);
        test_compare_f("y", wrapped.own[2].host, want, T * N * H, TOLERANCE);
        vk.vkDestroyCommandPool(app.device, pools[i], NULL);
    }
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- Locks, limits, features ---- */

typedef struct Lock {
    uint32_t family, index;
    unsigned locked, unlocked;
} Lock;

static void lock(void *user, uint32_t family, uint32_t index)
{
    Lock *state = user;
    cr_assert_eq(state->locked, state->unlocked, "locked twice");
    cr_assert_eq(family, state->family);
    cr_assert_eq(index, state->index);
    state->locked++;
}

static void unlock(void *user, uint32_t family, uint32_t index)
{
    Lock *state = user;
    (void)family, (void)index;
    state->unlocked++;
    cr_assert_eq(state->locked, state->unlocked);
}

Test(import, locks_the_queue_around_each_use)
{
    App app = app_start();
    Lock state = {.family = app.family};
    VklContext *context = test_context();
    VklVulkanImport import = import_of(&app);
    import.lock_queue = lock;
    import.unlock_queue = unlock;
    import.lock_user = &state;
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    VklBuffer *buffer = NULL;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &buffer));
    TEST_OK(context, vkl_stream_create(device, &stream));
    for (int i = 0; i < 5; i++) {
        TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64));
        TEST_OK(context, vkl_stream_submit(stream, NULL));
    }
    TEST_OK(context, vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    cr_assert_eq(spy.submitted, state.locked);
    cr_assert_eq(state.locked, state.unlocked);
    cr_assert_geq(state.locked, 5u);
    check_usable(&app);
    app_stop(&app);
}

Test(import, keeps_to_lower_limits)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDeviceLimits limits = {.storage_range = 1 << 16, .allocation_size = 1 << 20};
    VklVulkanImport import = import_of(&app);
    import.limits = &limits;
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert_eq(info.limits.storage_range, (uint64_t)1 << 16);
    VklBuffer *buffer = NULL;
    cr_assert_eq(vkl_buffer_create(device, VKL_BUFFER_DEVICE, (1 << 20) + 4, &buffer), VKL_ERROR_LIMIT);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* A device cannot be asked what was enabled: what is not named is off, whatever the driver can do. */
Test(import, takes_features_and_extensions_from_the_caller)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert(!info.features.timeline_semaphore && !info.features.shader_float16 && !info.features.storage_16bit &&
              !info.features.subgroup_size_control && !info.features.cooperative_matrix);
    vkl_device_destroy(device);

    VkPhysicalDeviceVulkan12Features vulkan12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .timelineSemaphore = VK_TRUE,
    };
    VkPhysicalDevice16BitStorageFeatures storage = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .pNext = &vulkan12,
        .storageBuffer16BitAccess = VK_TRUE,
    };
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &storage};
    const char *extensions[] = {"VK_EXT_something", "VK_KHR_cooperative_matrix"};
    VklVulkanImport import = import_of(&app);
    import.features = &features;
    import.extensions = extensions;
    import.extension_count = 2;
    TEST_OK(context, vkl_device_import_vulkan(context, &import, &device));
    vkl_device_info(device, &info);
    cr_assert(info.features.timeline_semaphore && !info.features.shader_float16 && info.features.storage_16bit &&
              !info.features.subgroup_size_control && info.features.cooperative_matrix);
    /* the extension alone allows no kernel to use it */
    cr_assert_eq(info.features.cooperative_shape[0], 0);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- Wrong use ---- */

Test(import, wrong_arguments_are_refused)
{
    App app = app_start();
    VklContext *context = test_context();
    const VklVulkanImport good = import_of(&app);
    VklVulkanImport bad[12];
    for (int i = 0; i < 12; i++)
        bad[i] = good;
    const char *extension = NULL;
    bad[0].struct_size = 8;
    bad[1].get_instance_proc_addr = NULL;
    bad[2].instance = VK_NULL_HANDLE;
    bad[3].physical_device = VK_NULL_HANDLE;
    bad[4].device = VK_NULL_HANDLE;
    bad[5].queue = VK_NULL_HANDLE;
    bad[6].lock_queue = lock;
    bad[7].queue_family = 99;
    bad[8].queue_index = 99;
    bad[9].extensions = NULL;
    bad[9].extension_count = 1;
    bad[10].extensions = &extension;
    bad[10].extension_count = 1;
    bad[11].api_version = VK_API_VERSION_1_0;
    static const char *const words[12] = {
        "struct_size",  "get_instance_proc_addr", "instance",          "physical_device", "device",        "queue",
        "unlock_queue", "queue_family is 99",     "queue_index is 99", "extensions",      "extensions[0]", "1.0",
    };
    for (int i = 0; i < 12; i++) {
        VklDevice *device = NULL;
        VklStatus status = vkl_device_import_vulkan(context, &bad[i], &device);
        cr_assert_eq(status, i == 11 ? VKL_ERROR_UNSUPPORTED : VKL_ERROR_INVALID, "case %d: %d", i, (int)status);
        cr_assert_not_null(strstr(vkl_context_error(context), words[i]), "case %d: %s", i, vkl_context_error(context));
        cr_assert_null(device);
    }
    cr_assert_eq(vkl_device_import_vulkan(context, &good, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_import_vulkan(context, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_device_import_vulkan(NULL, &good, NULL), VKL_ERROR_INVALID);
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

Test(import, a_function_that_is_not_given_is_named)
{
    static const char *const missing[] = {"vkGetPhysicalDeviceProperties2", "vkGetDeviceProcAddr", "vkCmdDispatch",
                                          "vkQueueSubmit"};
    App app = app_start();
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(missing) / sizeof(*missing); i++) {
        spy.missing = missing[i];
        VklVulkanImport import = import_of(&app);
        VklDevice *device = NULL;
        cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_UNSUPPORTED);
        cr_assert_not_null(strstr(vkl_context_error(context), missing[i]), "%s", vkl_context_error(context));
    }
    vkl_context_destroy(context);
    app_stop(&app);
}

Test(import, wrapped_streams_only_record)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    Lstm lstm = lstm_of(context, device);
    Wrapped wrapped = wrap_all(&app, context, device, &lstm);
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    VklFence *fence = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(lstm.rnn, &wrapped.forward, &exec));
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    float number = 0;
    cr_assert_eq(vkl_stream_write(stream, wrapped.forward.x, &number, 4), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_read(stream, wrapped.forward.x, &number, 4), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_submit(stream, &fence), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_wait(stream), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_replay(stream, exec, 1), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_profile(stream, true), VKL_ERROR_UNSUPPORTED);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    wrapped_finish(&app, &wrapped);
    lstm_finish(&lstm);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

Test(import, what_cannot_be_wrapped_is_refused)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app), *cpu = test_device_cpu(context);
    AppBuffer own = app_buffer(&app, 64);
    VklBuffer *buffer = NULL, *cpu_buffer = test_buffer(cpu, NULL, 4);
    VklStream *stream = NULL;
    VkBuffer handle;
    VkDeviceSize offset;
    cr_assert_eq(vkl_stream_wrap_vulkan(cpu, app.commands, &stream), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_buffer_wrap_vulkan(cpu, own.handle, 64, &buffer), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_buffer_vulkan(cpu_buffer, &handle, &offset), VKL_ERROR_UNSUPPORTED);
    cr_assert_eq(vkl_stream_wrap_vulkan(device, VK_NULL_HANDLE, &stream), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_stream_wrap_vulkan(NULL, app.commands, &stream), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, VK_NULL_HANDLE, 64, &buffer), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, own.handle, 0, &buffer), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_buffer_wrap_vulkan(device, own.handle, 62, &buffer), VKL_ERROR_INVALID);
    cr_assert_null(stream);
    cr_assert_null(buffer);
    app_buffer_destroy(&app, &own);
    vkl_buffer_destroy(cpu_buffer);
    vkl_device_destroy(cpu);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- A device unlike the software ones ---- */

Test(spy, device_memory_apart_from_the_host_works_alike)
{
    App app = app_start();
    spy.apart = true;
    spy_real_type = visible_type(&app, UINT32_MAX);
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert(info.features.unified_memory, "the heap is one"); /* both types lie in it */
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    enum { WORDS = 3000 };
    uint32_t *words = malloc(WORDS * 4), *got = malloc(WORDS * 4);
    for (uint32_t round = 0; round < 3; round++) {
        VklBuffer *buffer = NULL, *down = NULL;
        TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, WORDS * 4, &buffer));
        TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_READBACK, WORDS * 4, &down));
        TEST_OK(context, vkl_stream_read(stream, vkl_slice(buffer, 0), got, WORDS * 4));
        TEST_OK(context, vkl_stream_wait(stream));
        for (uint32_t i = 0; i < WORDS; i++) {
            cr_assert_eq(got[i], 0u, "round %u, word %u", round, i);
            words[i] = i * 7 + round;
        }
        TEST_OK(context, vkl_stream_write(stream, vkl_slice(buffer, 4), words, WORDS * 4 - 4));
        TEST_OK(context, vkl_stream_copy(stream, vkl_slice(down, 0), vkl_slice(buffer, 4), WORDS * 4 - 4));
        TEST_OK(context, vkl_stream_wait(stream));
        TEST_OK(context, vkl_buffer_invalidate(down, 4, WORDS * 4 - 4));
        cr_assert(!memcmp(vkl_buffer_data(down), words, WORDS * 4 - 4));
        vkl_buffer_destroy(buffer);
        vkl_buffer_destroy(down);
    }
    cr_assert_gt(spy.flushed, 0u);
    cr_assert_gt(spy.invalidated, 0u);
    free(words);
    free(got);
    vkl_stream_destroy(stream);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

/* Everything that a guest does, stopping at the first failure. Whatever fails, all that was made is destroyed. */
static VklStatus visit(const App *app, VklContext *context)
{
    VklVulkanImport import = import_of(app);
    VklDevice *device = NULL;
    VklRnn *rnn = NULL;
    VklStream *stream = NULL;
    VklExec *exec = NULL;
    VklFence *fence = NULL;
    VklBuffer *buffers[5] = {NULL};
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    VklRnnSizes sizes;
    float x[T * N * I] = {1, 2, 3}, y[T * N * H];

    VklStatus status = vkl_device_import_vulkan(context, &import, &device);
    if (!status)
        status = vkl_rnn_create(device, &desc, &rnn);
    if (!status)
        status = vkl_rnn_sizes(rnn, T, N, &sizes);
    const uint64_t bytes[] = {status ? 4 : sizes.params, sizeof(x), sizeof(y), status ? 4 : sizes.forward_workspace, 20};
    for (int i = 0; i < 5 && !status; i++)
        status = vkl_buffer_create(device, i == 4 ? VKL_BUFFER_UPLOAD : VKL_BUFFER_DEVICE, bytes[i], &buffers[i]);
    if (!status)
        status = vkl_stream_create(device, &stream);
    VklRnnForward forward = vkl_rnn_forward_args(T, N);
    forward.params = vkl_slice(buffers[0], 0);
    forward.x = vkl_slice(buffers[1], 0);
    forward.y = vkl_slice(buffers[2], 0);
    forward.workspace = vkl_slice(buffers[3], 0);
    for (int round = 0; round < 2 && !status; round++) {
        status = vkl_stream_write(stream, forward.x, x, sizeof(x));
        if (!status)
            status = vkl_rnn_forward(rnn, stream, &forward);
        if (!status)
            status = vkl_stream_submit(stream, round ? NULL : &fence);
        if (!status)
            status = vkl_stream_read(stream, forward.y, y, sizeof(y));
        if (!status)
            status = vkl_stream_wait(stream);
    }
    if (!status)
        status = vkl_rnn_prepare_forward(rnn, &forward, &exec);
    if (!status)
        status = vkl_stream_replay(stream, exec, 300);
    if (!status)
        status = vkl_fence_wait(fence, UINT64_MAX);
    if (!status)
        status = vkl_stream_wait(stream);

    vkl_fence_destroy(fence);
    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    vkl_rnn_destroy(rnn);
    for (int i = 0; i < 5; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_device_destroy(device);
    return status;
}

/* A buffer that finds no memory is tried again, after destroyed ones are freed, and a block in a smaller size. A wait that fails while
 * something is destroyed has nobody to tell, and is replaced by another. */
static bool is_mended(const char *call, VkResult failure)
{
    static const char *const of_buffers[] = {"vkCreateBuffer", "vkAllocateMemory", "vkMapMemory", "vkBindBufferMemory"};
    for (size_t i = 0; i < sizeof(of_buffers) / sizeof(*of_buffers); i++)
        if (failure == VK_ERROR_OUT_OF_DEVICE_MEMORY && !strcmp(call, of_buffers[i]))
            return true;
    return !strcmp(call, "vkWaitForFences");
}

/* Makes each call in turn fail. Validation reports what is leaked when the program destroys its device, AddressSanitizer the rest. */
static void sweep(bool apart, VkResult failure, VklStatus want, const char *only)
{
    App app = app_start();
    spy.apart = apart;
    spy_real_type = visible_type(&app, UINT32_MAX);
    VklContext *context = test_context();
    int call = 1;
    for (;; call++) {
        spy.until_failure = call;
        spy.failure = failure;
        spy.only = only;
        spy.failed = NULL;
        VklStatus status = visit(&app, context);
        if (spy.until_failure)
            break; /* fewer calls than that */
        if (!status) {
            cr_assert(is_mended(spy.failed, failure), "%s, call %d: nobody noticed", spy.failed, call);
            continue;
        }
        cr_assert_eq(status, want, "%s, call %d: status %d (%s)", spy.failed, call, (int)status, vkl_context_error(context));
        cr_assert_not_null(strstr(vkl_context_error(context), spy.failed), "%s, call %d: %s", spy.failed, call,
                           vkl_context_error(context));
    }
    cr_assert_gt(call, 2, "nothing failed");
    spy.until_failure = 0;
    vkl_context_destroy(context);
    check_usable(&app);
    app_stop(&app);
}

Test(spy, host_memory_may_be_refused_anywhere)
{
    sweep(false, VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, NULL);
}

Test(spy, host_memory_may_be_refused_anywhere_with_memory_apart)
{
    sweep(true, VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, NULL);
}

Test(spy, device_memory_may_be_refused_anywhere)
{
    sweep(false, VK_ERROR_OUT_OF_DEVICE_MEMORY, VKL_ERROR_DEVICE_MEMORY, NULL);
}

Test(spy, device_may_be_lost_at_a_submit)
{
    sweep(false, VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST, "vkQueueSubmit");
}

Test(spy, device_may_be_lost_at_a_wait)
{
    sweep(false, VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST, "vkWaitForFences");
}

Test(spy, a_lost_device_stays_lost)
{
    App app = app_start();
    VklContext *context = test_context();
    VklDevice *device = import_device(context, &app);
    VklBuffer *buffer = NULL, *second = NULL;
    VklStream *stream = NULL;
    VklFence *fence = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &buffer));
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64));
    TEST_OK(context, vkl_stream_submit(stream, &fence));
    TEST_OK(context, vkl_stream_fill(stream, vkl_slice(buffer, 0), 2, 64));
    spy.only = "vkQueueSubmit";
    spy.failure = VK_ERROR_DEVICE_LOST;
    spy.until_failure = 1;
    cr_assert_eq(vkl_stream_submit(stream, NULL), VKL_ERROR_DEVICE_LOST);
    cr_assert_not_null(strstr(vkl_stream_error(stream), "vkQueueSubmit"), "%s", vkl_stream_error(stream));
    const unsigned submitted = spy.submitted;
    cr_assert_eq(vkl_stream_fill(stream, vkl_slice(buffer, 0), 1, 64), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_stream_submit(stream, NULL), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_stream_wait(stream), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_fence_wait(fence, 0), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(vkl_buffer_create(device, VKL_BUFFER_DEVICE, 64, &second), VKL_ERROR_DEVICE_LOST);
    cr_assert_eq(spy.submitted, submitted);
    vkl_fence_destroy(fence);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_stop(&app);
}

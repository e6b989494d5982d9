/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "spy.h"
#include "vk/functions.h"

Spy spy;

/* Every function that the library calls, with its parameters: X can fail, Y returns nothing. */
#define SPY_FUNCTIONS(X, Y)                                                                                                      \
    X(vkAllocateCommandBuffers, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))               \
    X(vkAllocateDescriptorSets, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *o), (d, i, o))               \
    X(vkAllocateMemory, (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o),          \
      (d, i, a, o))                                                                                                              \
    X(vkBeginCommandBuffer, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))                                      \
    X(vkBindBufferMemory, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize s), (d, b, m, s))                              \
    X(vkCreateBuffer, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))      \
    X(vkCreateCommandPool, (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o),     \
      (d, i, a, o))                                                                                                              \
    X(vkCreateComputePipelines,                                                                                                  \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,          \
       VkPipeline *o),                                                                                                           \
      (d, c, n, i, a, o))                                                                                                        \
    X(vkCreateDescriptorPool,                                                                                                    \
      (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *o), (d, i, a, o))      \
    X(vkCreateDescriptorSetLayout,                                                                                               \
      (VkDevice d, const VkDescriptorSetLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorSetLayout *o),          \
      (d, i, a, o))                                                                                                              \
    X(vkCreateFence, (VkDevice d, const VkFenceCreateInfo *i, const VkAllocationCallbacks *a, VkFence *o), (d, i, a, o))         \
    X(vkCreatePipelineCache,                                                                                                     \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o), (d, i, a, o))        \
    X(vkCreatePipelineLayout,                                                                                                    \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o), (d, i, a, o))      \
    X(vkCreateQueryPool, (VkDevice d, const VkQueryPoolCreateInfo *i, const VkAllocationCallbacks *a, VkQueryPool *o),           \
      (d, i, a, o))                                                                                                              \
    X(vkCreateShaderModule, (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o),  \
      (d, i, a, o))                                                                                                              \
    X(vkEndCommandBuffer, (VkCommandBuffer c), (c))                                                                              \
    X(vkFlushMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                              \
    X(vkGetFenceStatus, (VkDevice d, VkFence f), (d, f))                                                                         \
    X(vkGetPipelineCacheData, (VkDevice d, VkPipelineCache c, size_t * n, void *o), (d, c, n, o))                                \
    X(vkGetQueryPoolResults,                                                                                                     \
      (VkDevice d, VkQueryPool p, uint32_t first, uint32_t n, size_t size, void *data, VkDeviceSize stride,                      \
       VkQueryResultFlags flags),                                                                                                \
      (d, p, first, n, size, data, stride, flags))                                                                               \
    X(vkInvalidateMappedMemoryRanges, (VkDevice d, uint32_t n, const VkMappedMemoryRange *r), (d, n, r))                         \
    X(vkMapMemory, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),                 \
      (d, m, o, s, f, p))                                                                                                        \
    X(vkMergePipelineCaches, (VkDevice d, VkPipelineCache c, uint32_t n, const VkPipelineCache *s), (d, c, n, s))                \
    X(vkQueueSubmit, (VkQueue q, uint32_t n, const VkSubmitInfo *i, VkFence f), (q, n, i, f))                                    \
    X(vkQueueWaitIdle, (VkQueue q), (q))                                                                                         \
    X(vkResetFences, (VkDevice d, uint32_t n, const VkFence *f), (d, n, f))                                                      \
    X(vkWaitForFences, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 all, uint64_t t), (d, n, f, all, t))                  \
    Y(vkCmdBeginDebugUtilsLabelEXT, (VkCommandBuffer c, const VkDebugUtilsLabelEXT *l), (c, l))                                  \
    Y(vkCmdBindDescriptorSets,                                                                                                   \
      (VkCommandBuffer c, VkPipelineBindPoint p, VkPipelineLayout l, uint32_t first, uint32_t n, const VkDescriptorSet *s,       \
       uint32_t m, const uint32_t *o),                                                                                           \
      (c, p, l, first, n, s, m, o))                                                                                              \
    Y(vkCmdBindPipeline, (VkCommandBuffer c, VkPipelineBindPoint b, VkPipeline p), (c, b, p))                                    \
    Y(vkCmdCopyBuffer, (VkCommandBuffer c, VkBuffer s, VkBuffer d, uint32_t n, const VkBufferCopy *r), (c, s, d, n, r))          \
    Y(vkCmdDispatch, (VkCommandBuffer c, uint32_t x, uint32_t y, uint32_t z), (c, x, y, z))                                      \
    Y(vkCmdDispatchIndirect, (VkCommandBuffer c, VkBuffer b, VkDeviceSize o), (c, b, o))                                         \
    Y(vkCmdEndDebugUtilsLabelEXT, (VkCommandBuffer c), (c))                                                                      \
    Y(vkCmdFillBuffer, (VkCommandBuffer c, VkBuffer b, VkDeviceSize o, VkDeviceSize s, uint32_t v), (c, b, o, s, v))             \
    Y(vkCmdPipelineBarrier,                                                                                                      \
      (VkCommandBuffer c, VkPipelineStageFlags s, VkPipelineStageFlags d, VkDependencyFlags f, uint32_t n,                       \
       const VkMemoryBarrier *m, uint32_t bn, const VkBufferMemoryBarrier *b, uint32_t in, const VkImageMemoryBarrier *i),       \
      (c, s, d, f, n, m, bn, b, in, i))                                                                                          \
    Y(vkCmdPushConstants, (VkCommandBuffer c, VkPipelineLayout l, VkShaderStageFlags s, uint32_t o, uint32_t n, const void *v),  \
      (c, l, s, o, n, v))                                                                                                        \
    Y(vkCmdResetQueryPool, (VkCommandBuffer c, VkQueryPool p, uint32_t f, uint32_t n), (c, p, f, n))                             \
    Y(vkCmdWriteTimestamp, (VkCommandBuffer c, VkPipelineStageFlagBits s, VkQueryPool p, uint32_t q), (c, s, p, q))              \
    Y(vkDestroyBuffer, (VkDevice d, VkBuffer b, const VkAllocationCallbacks *a), (d, b, a))                                      \
    Y(vkDestroyCommandPool, (VkDevice d, VkCommandPool p, const VkAllocationCallbacks *a), (d, p, a))                            \
    Y(vkDestroyDescriptorPool, (VkDevice d, VkDescriptorPool p, const VkAllocationCallbacks *a), (d, p, a))                      \
    Y(vkDestroyDescriptorSetLayout, (VkDevice d, VkDescriptorSetLayout l, const VkAllocationCallbacks *a), (d, l, a))            \
    Y(vkDestroyDevice, (VkDevice d, const VkAllocationCallbacks *a), (d, a))                                                     \
    Y(vkDestroyFence, (VkDevice d, VkFence f, const VkAllocationCallbacks *a), (d, f, a))                                        \
    Y(vkDestroyPipeline, (VkDevice d, VkPipeline p, const VkAllocationCallbacks *a), (d, p, a))                                  \
    Y(vkDestroyPipelineCache, (VkDevice d, VkPipelineCache c, const VkAllocationCallbacks *a), (d, c, a))                        \
    Y(vkDestroyPipelineLayout, (VkDevice d, VkPipelineLayout l, const VkAllocationCallbacks *a), (d, l, a))                      \
    Y(vkDestroyQueryPool, (VkDevice d, VkQueryPool p, const VkAllocationCallbacks *a), (d, p, a))                                \
    Y(vkDestroyShaderModule, (VkDevice d, VkShaderModule m, const VkAllocationCallbacks *a), (d, m, a))                          \
    Y(vkFreeMemory, (VkDevice d, VkDeviceMemory m, const VkAllocationCallbacks *a), (d, m, a))                                   \
    Y(vkGetBufferMemoryRequirements, (VkDevice d, VkBuffer b, VkMemoryRequirements * r), (d, b, r))                              \
    Y(vkGetDeviceQueue, (VkDevice d, uint32_t f, uint32_t i, VkQueue * q), (d, f, i, q))                                         \
    Y(vkGetPhysicalDeviceMemoryProperties, (VkPhysicalDevice p, VkPhysicalDeviceMemoryProperties * o), (p, o))                   \
    Y(vkUpdateDescriptorSets, (VkDevice d, uint32_t n, const VkWriteDescriptorSet *w, uint32_t m, const VkCopyDescriptorSet *c), \
      (d, n, w, m, c))

enum {
#define X(name, parameters, arguments) AT_##name,
    SPY_FUNCTIONS(X, X)
#undef X
        FUNCTIONS
};
_Static_assert((int)FUNCTIONS <= (int)SPY_MOST, "SPY_MOST is too small");

static const char *const names[FUNCTIONS] = {
#define X(name, parameters, arguments) [AT_##name] = #name,
    SPY_FUNCTIONS(X, X)
#undef X
};

static atomic_uint calls[FUNCTIONS];

static struct {
#define X(name, parameters, arguments) PFN_##name name;
    SPY_FUNCTIONS(X, X)
#undef X
} real;

static void count(int function)
{
    atomic_fetch_add_explicit(&calls[function], 1, memory_order_relaxed);
    if (spy.before)
        spy.before(names[function]);
}

static bool fails(int function)
{
    count(function);
    if (spy.only && strcmp(spy.only, names[function]))
        return false;
    int left = atomic_load(&spy.until_failure);
    while (left > 0 && !atomic_compare_exchange_weak(&spy.until_failure, &left, left - 1))
        ;
    if (left != 1)
        return false;
    spy.failed = names[function];
    return true;
}

#define X(name, parameters, arguments)                          \
    static VKAPI_ATTR VkResult VKAPI_CALL spy_##name parameters \
    {                                                           \
        if (fails(AT_##name))                                   \
            return spy.failure;                                 \
        return real.name arguments;                             \
    }
#define Y(name, parameters, arguments)                      \
    static VKAPI_ATTR void VKAPI_CALL spy_##name parameters \
    {                                                       \
        count(AT_##name);                                   \
        real.name arguments;                                \
    }
SPY_FUNCTIONS(X, Y)
#undef X
#undef Y

/* ---- Those that do more than count ---- */

static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                               const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory)
{
    VkMemoryAllocateInfo changed = *info;
    if (spy.apart) {
        APP_CHECK(info->memoryTypeIndex < 2, "memory type %u", info->memoryTypeIndex);
        changed.memoryTypeIndex = spy.real_type;
    }
    return spy_vkAllocateMemory(device, &changed, callbacks, memory);
}

static VKAPI_ATTR void VKAPI_CALL requirements_of(VkDevice device, VkBuffer buffer, VkMemoryRequirements *requirements)
{
    spy_vkGetBufferMemoryRequirements(device, buffer, requirements);
    if (spy.apart)
        requirements->memoryTypeBits = 3;
}

static VKAPI_ATTR void VKAPI_CALL memory_of(VkPhysicalDevice physical, VkPhysicalDeviceMemoryProperties *properties)
{
    spy_vkGetPhysicalDeviceMemoryProperties(physical, properties);
    if (spy.apart) {
        properties->memoryTypeCount = 2;
        properties->memoryTypes[0] = (VkMemoryType){.propertyFlags = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT};
        properties->memoryTypes[1] = (VkMemoryType){
            .propertyFlags = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        };
    }
}

/* A program never waits for work that it will not see the end of: the real wait comes first, so that what follows may be destroyed. */
static VKAPI_ATTR VkResult VKAPI_CALL wait_for(VkDevice device, uint32_t fence_count, const VkFence *fences, VkBool32 all,
                                               uint64_t timeout)
{
    VkResult result = real.vkWaitForFences(device, fence_count, fences, all, spy.until_failure ? UINT64_MAX : timeout);
    return fails(AT_vkWaitForFences) ? spy.failure : result;
}

static VKAPI_ATTR VkResult VKAPI_CALL status_of(VkDevice device, VkFence fence)
{
    if (spy.until_failure)
        real.vkWaitForFences(device, 1, &fence, VK_TRUE, UINT64_MAX);
    return spy_vkGetFenceStatus(device, fence);
}

static VKAPI_ATTR VkResult VKAPI_CALL make_cache(VkDevice device, const VkPipelineCacheCreateInfo *info,
                                                 const VkAllocationCallbacks *callbacks, VkPipelineCache *cache)
{
    spy.cache_data = info->pInitialData;
    spy.cache_size = info->initialDataSize;
    return spy_vkCreatePipelineCache(device, info, callbacks, cache);
}

/* ---- Who gets them ---- */

static const struct {
    const char *name;
    PFN_vkVoidFunction function;
    void *real;
} spies[] = {{"vkAllocateMemory", (PFN_vkVoidFunction)allocate, &real.vkAllocateMemory},
             {"vkCreatePipelineCache", (PFN_vkVoidFunction)make_cache, &real.vkCreatePipelineCache},
             {"vkGetBufferMemoryRequirements", (PFN_vkVoidFunction)requirements_of, &real.vkGetBufferMemoryRequirements},
             {"vkGetFenceStatus", (PFN_vkVoidFunction)status_of, &real.vkGetFenceStatus},
             {"vkGetPhysicalDeviceMemoryProperties", (PFN_vkVoidFunction)memory_of, &real.vkGetPhysicalDeviceMemoryProperties},
             {"vkWaitForFences", (PFN_vkVoidFunction)wait_for, &real.vkWaitForFences},
#define X(name, parameters, arguments) {#name, (PFN_vkVoidFunction)spy_##name, &real.name},
             SPY_FUNCTIONS(X, X)
#undef X
};

/* What is called in place of `found`, or NULL. */
static PFN_vkVoidFunction spy_on(const char *name, PFN_vkVoidFunction found)
{
    for (size_t i = 0; found && i < sizeof(spies) / sizeof(*spies); i++)
        if (!strcmp(name, spies[i].name)) {
            memcpy(spies[i].real, &found, sizeof(found));
            return spies[i].function;
        }
    return NULL;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc_addr(VkDevice device, const char *name)
{
    static const char *const listed[] = {
#define X(name) #name,
        VKL_DEVICE_FUNCTIONS(X)
#undef X
    };
    if (spy.missing && !strcmp(name, spy.missing))
        return NULL;
    for (size_t i = 0; i < sizeof(listed) / sizeof(*listed); i++)
        if (!strcmp(name, listed[i])) {
            PFN_vkVoidFunction found = spy_on(name, vk.vkGetDeviceProcAddr(device, name));
            APP_CHECK(found, "%s is not among the functions that the spy knows", name);
            return found;
        }
    return NULL;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL spy_get_instance_proc_addr(VkInstance instance, const char *name)
{
    if (spy.missing && !strcmp(name, spy.missing))
        return NULL;
    if (!strcmp(name, "vkGetDeviceProcAddr"))
        return (PFN_vkVoidFunction)get_device_proc_addr;
    PFN_vkVoidFunction found = vk.vkGetInstanceProcAddr(instance, name), spied = spy_on(name, found);
    return spied ? spied : found;
}

VklVulkanImport spy_import(const App *app)
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
    if (app->messenger) { /* so that names and labels are there */
        import.extensions = debug_utils;
        import.extension_count = 1;
    }
    return import;
}

/* ---- Counts ---- */

unsigned spy_calls(const char *prefix)
{
    unsigned sum = 0;
    for (int i = 0; i < FUNCTIONS; i++)
        if (!strncmp(names[i], prefix, strlen(prefix)))
            sum += atomic_load(&calls[i]);
    return sum;
}

SpyCounts spy_counts(void)
{
    SpyCounts counts = {{0}};
    for (int i = 0; i < FUNCTIONS; i++)
        counts.calls[i] = atomic_load(&calls[i]);
    return counts;
}

unsigned spy_others_since(const SpyCounts *then, const char **first)
{
    unsigned others = 0;
    *first = NULL;
    for (int i = 0; i < FUNCTIONS; i++) {
        unsigned passed = atomic_load(&calls[i]) - then->calls[i];
        if (!passed || !strncmp(names[i], "vkCmd", 5))
            continue;
        others += passed;
        *first = *first ? *first : names[i];
    }
    return others;
}

void spy_print_since(const char *title, const SpyCounts *then)
{
    fprintf(stderr, "%-24s", title);
    for (int i = 0; i < FUNCTIONS; i++) {
        unsigned passed = atomic_load(&calls[i]) - then->calls[i];
        if (passed)
            fprintf(stderr, " %s %u", names[i], passed);
    }
    fputc('\n', stderr);
}

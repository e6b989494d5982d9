/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "device_calls.h"
#include "spy.h"
#include "vk/functions.h"

Spy spy;

enum {
#define X(name, parameters, arguments) AT_##name,
    DEVICE_CALLS(X, X)
#undef X
        FUNCTIONS
};
_Static_assert((int)FUNCTIONS <= (int)SPY_MOST, "SPY_MOST is too small");

static const char *const names[FUNCTIONS] = {
#define X(name, parameters, arguments) [AT_##name] = #name,
    DEVICE_CALLS(X, X)
#undef X
};

static atomic_uint calls[FUNCTIONS];

static struct {
#define X(name, parameters, arguments) PFN_##name name;
    DEVICE_CALLS(X, X)
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

/* In a function without such a parameter, `a` is this one. */
static const VkAllocationCallbacks no_parameter;
static const VkAllocationCallbacks *const a = &no_parameter;

static void see_callbacks(const VkAllocationCallbacks *given)
{
    if (given != &no_parameter && (given ? given->pUserData : NULL) != spy.callbacks_user)
        atomic_fetch_add(&spy.other_callbacks, 1);
}

#define X(name, parameters, arguments)                          \
    static VKAPI_ATTR VkResult VKAPI_CALL spy_##name parameters \
    {                                                           \
        see_callbacks(a);                                       \
        if (fails(AT_##name))                                   \
            return spy.failure;                                 \
        return real.name arguments;                             \
    }
#define Y(name, parameters, arguments)                      \
    static VKAPI_ATTR void VKAPI_CALL spy_##name parameters \
    {                                                       \
        see_callbacks(a);                                   \
        count(AT_##name);                                   \
        real.name arguments;                                \
    }
DEVICE_CALLS(X, Y)
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

static PFN_vkGetPhysicalDeviceQueueFamilyProperties real_families_of;

static VKAPI_ATTR void VKAPI_CALL families_of(VkPhysicalDevice physical, uint32_t *family_count,
                                              VkQueueFamilyProperties *families)
{
    uint32_t room = *family_count;
    real_families_of(physical, family_count, families);
    if (!spy.two_families || (families && room < *family_count + 1))
        return;
    if (families) { /* one for compute alone beside what there is */
        families[*family_count] = families[0];
        families[*family_count].queueFlags &= ~(VkQueueFlags)VK_QUEUE_GRAPHICS_BIT;
    }
    ++*family_count;
}

static VKAPI_ATTR VkResult VKAPI_CALL make_buffer(VkDevice device, const VkBufferCreateInfo *info,
                                                  const VkAllocationCallbacks *callbacks, VkBuffer *buffer)
{
    VkBufferCreateInfo changed = *info;
    spy.sharing = info->sharingMode;
    spy.sharing_families = info->queueFamilyIndexCount;
    spy.buffer_size = info->size;
    if (spy.two_families) { /* the device has no second one */
        changed.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
        changed.queueFamilyIndexCount = 0;
    }
    return spy_vkCreateBuffer(device, &changed, callbacks, buffer);
}

static VKAPI_ATTR VkResult VKAPI_CALL flush(VkDevice device, uint32_t range_count, const VkMappedMemoryRange *ranges)
{
    spy.range = *ranges;
    return spy_vkFlushMappedMemoryRanges(device, range_count, ranges);
}

static VKAPI_ATTR VkResult VKAPI_CALL invalidate(VkDevice device, uint32_t range_count, const VkMappedMemoryRange *ranges)
{
    spy.range = *ranges;
    return spy_vkInvalidateMappedMemoryRanges(device, range_count, ranges);
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
             {"vkCreateBuffer", (PFN_vkVoidFunction)make_buffer, &real.vkCreateBuffer},
             {"vkFlushMappedMemoryRanges", (PFN_vkVoidFunction)flush, &real.vkFlushMappedMemoryRanges},
             {"vkInvalidateMappedMemoryRanges", (PFN_vkVoidFunction)invalidate, &real.vkInvalidateMappedMemoryRanges},
             {"vkGetPhysicalDeviceQueueFamilyProperties", (PFN_vkVoidFunction)families_of, &real_families_of},
             {"vkCreatePipelineCache", (PFN_vkVoidFunction)make_cache, &real.vkCreatePipelineCache},
             {"vkGetBufferMemoryRequirements", (PFN_vkVoidFunction)requirements_of, &real.vkGetBufferMemoryRequirements},
             {"vkGetFenceStatus", (PFN_vkVoidFunction)status_of, &real.vkGetFenceStatus},
             {"vkGetPhysicalDeviceMemoryProperties", (PFN_vkVoidFunction)memory_of, &real.vkGetPhysicalDeviceMemoryProperties},
             {"vkWaitForFences", (PFN_vkVoidFunction)wait_for, &real.vkWaitForFences},
#define X(name, parameters, arguments) {#name, (PFN_vkVoidFunction)spy_##name, &real.name},
             DEVICE_CALLS(X, X)
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

unsigned spy_calls_since(const SpyCounts *then, const char *prefix)
{
    unsigned sum = 0;
    for (int i = 0; i < FUNCTIONS; i++)
        if (!strncmp(names[i], prefix, strlen(prefix)))
            sum += atomic_load(&calls[i]) - then->calls[i];
    return sum;
}

unsigned spy_calls(const char *prefix)
{
    const SpyCounts none = {{0}};
    return spy_calls_since(&none, prefix);
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

/* SPDX-License-Identifier: MIT
 *
 * A Vulkan layer that makes one call fail (fault_layer.h says which), so that every path of an error can be walked on a device
 * that the library made itself. What a failed call leaves in its outputs is spoiled, as the specification allows. A device that
 * is lost has ended its work, so that whatever lies below this layer agrees to its destruction. */
#include "fault_layer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>

#include "../device_calls.h"

VK_LAYER_EXPORT FaultControl fault_control;
FaultControl fault_control = {.failure = VK_ERROR_OUT_OF_DEVICE_MEMORY};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- What lies below ---- */

/* By the first word of a dispatchable handle, which all handles of a device share. */
typedef struct Below {
    void *key; /* NULL: the place is free */
    VkDevice device;
    bool lost;
    PFN_vkGetDeviceProcAddr get;
    PFN_vkDeviceWaitIdle wait_idle;
    PFN_vkDestroyDevice destroy;
#define X(name, parameters, arguments) PFN_##name name;
#define Y(name, parameters, arguments)
    DEVICE_CALLS(X, Y)
#undef X
#undef Y
} Below;

static Below devices[16]; /* a program has few at a time */

typedef struct Instance {
    void *key; /* that of its physical devices too */
    VkInstance instance;
    PFN_vkGetInstanceProcAddr get;
    /* Asked for when the instance is made: later the loader answers with the top of the chain of layers. */
    PFN_vkCreateDevice create_device;
    PFN_vkDestroyInstance destroy;
    PFN_vkEnumeratePhysicalDevices enumerate;
    PFN_vkEnumerateDeviceExtensionProperties extensions;
} Instance;
static Instance instances[16];

static void *key_of(const void *handle)
{
    void *key;
    memcpy(&key, handle, sizeof(key));
    return key;
}

static Below *below(const void *handle)
{
    for (size_t i = 0; i < COUNT(devices); i++)
        if (devices[i].key == key_of(handle))
            return &devices[i];
    fprintf(stderr, "fault layer: a handle of no device\n");
    abort();
}

static Instance *instance_of(const void *handle)
{
    for (size_t i = 0; i < COUNT(instances); i++)
        if (instances[i].key == key_of(handle))
            return &instances[i];
    fprintf(stderr, "fault layer: a handle of no instance\n");
    abort();
}

/* ---- Failing ---- */

static void read_environment(void)
{
    static char name[64];
    const char *text = getenv("VKL_FAULT");
    unsigned call = 0;
    int result = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    if (!text || sscanf(text, "%u:%d:%63s", &call, &result, name) < 1)
        return;
    atomic_store(&fault_control.failure, result);
    fault_control.only = name[0] ? name : NULL;
    atomic_store(&fault_control.until_failure, call);
}

/* Those that tell of a lost device. */
static bool tells_of_loss(const char *name)
{
    static const char *const words[] = {"Submit", "Wait", "Status", "Results"};
    for (size_t i = 0; i < COUNT(words); i++)
        if (strstr(name, words[i]))
            return true;
    return false;
}

/* VK_SUCCESS: the call is to be passed on. */
static VkResult fault(const char *name, Below *device)
{
    VkResult failure = (VkResult)atomic_load(&fault_control.failure);
    if (device && device->lost && tells_of_loss(name))
        return VK_ERROR_DEVICE_LOST;
    if ((failure == VK_ERROR_DEVICE_LOST && (!device || !tells_of_loss(name))) ||
        (fault_control.only && !strstr(name, fault_control.only)))
        return VK_SUCCESS;
    unsigned left = atomic_load(&fault_control.until_failure);
    while (left && !atomic_compare_exchange_weak(&fault_control.until_failure, &left, left - 1)) {
    }
    if (left != 1)
        return VK_SUCCESS;
    fault_control.failed = name;
    if (failure == VK_ERROR_DEVICE_LOST) {
        device->lost = true;
        device->wait_idle(device->device);
    }
    return failure;
}

#define FIRST_OF(first, ...) first
#define FIRST(...) FIRST_OF(__VA_ARGS__, )

#define X(name, parameters, arguments)                         \
    static VKAPI_ATTR VkResult VKAPI_CALL my_##name parameters \
    {                                                          \
        Below *device = below(FIRST arguments);                \
        VkResult result = fault(#name, device);                \
        return result ? result : device->name arguments;       \
    }
#define Y(name, parameters, arguments)
DEVICE_CALLS(X, Y)
#undef X
#undef Y

/* Outputs are undefined after an error, but for these two and for pipelines, which are VK_NULL_HANDLE. */
#define OUTPUTS(Z)                                                                         \
    Z(vkAllocateMemory, VkMemoryAllocateInfo, VkDeviceMemory)                              \
    Z(vkCreateBuffer, VkBufferCreateInfo, VkBuffer)                                        \
    Z(vkCreateCommandPool, VkCommandPoolCreateInfo, VkCommandPool)                         \
    Z(vkCreateDescriptorPool, VkDescriptorPoolCreateInfo, VkDescriptorPool)                \
    Z(vkCreateDescriptorSetLayout, VkDescriptorSetLayoutCreateInfo, VkDescriptorSetLayout) \
    Z(vkCreateFence, VkFenceCreateInfo, VkFence)                                           \
    Z(vkCreatePipelineCache, VkPipelineCacheCreateInfo, VkPipelineCache)                   \
    Z(vkCreatePipelineLayout, VkPipelineLayoutCreateInfo, VkPipelineLayout)                \
    Z(vkCreateQueryPool, VkQueryPoolCreateInfo, VkQueryPool)                               \
    Z(vkCreateShaderModule, VkShaderModuleCreateInfo, VkShaderModule)

#define Z(name, Info, Handle)                                                                                  \
    static VKAPI_ATTR VkResult VKAPI_CALL spoil_##name(VkDevice device, const Info *info,                      \
                                                       const VkAllocationCallbacks *callbacks, Handle *output) \
    {                                                                                                          \
        VkResult result = my_##name(device, info, callbacks, output);                                          \
        if (result < 0)                                                                                        \
            memset(output, 0xd5, sizeof(*output));                                                             \
        return result;                                                                                         \
    }
OUTPUTS(Z)
#undef Z

/* Two that may not be spoiled: a failed call sets every element to NULL. */
static VKAPI_ATTR VkResult VKAPI_CALL null_vkCreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                                    const VkComputePipelineCreateInfo *infos,
                                                                    const VkAllocationCallbacks *callbacks, VkPipeline *output)
{
    VkResult result = my_vkCreateComputePipelines(device, cache, count, infos, callbacks, output);
    if (result < 0)
        memset(output, 0, count * sizeof(*output));
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL null_vkAllocateCommandBuffers(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                                                    VkCommandBuffer *output)
{
    VkResult result = my_vkAllocateCommandBuffers(device, info, output);
    if (result < 0)
        memset(output, 0, info->commandBufferCount * sizeof(VkCommandBuffer)); /* of pointers */
    return result;
}

/* Ends all the same: those below must not take it for one that is still recorded. */
static VKAPI_ATTR VkResult VKAPI_CALL ended_vkEndCommandBuffer(VkCommandBuffer commands)
{
    Below *device = below(commands);
    VkResult result = device->vkEndCommandBuffer(commands), failure = fault("vkEndCommandBuffer", device);
    return failure ? failure : result;
}

/* ---- Instances and devices ---- */

/* What the loader hands from layer to layer. */
static void *chain_link(const void *next, VkStructureType type)
{
    for (VkBaseOutStructure *at = (VkBaseOutStructure *)next; at; at = at->pNext)
        if (at->sType == type && ((VkLayerDeviceCreateInfo *)at)->function == VK_LAYER_LINK_INFO)
            return at;
    return NULL;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *callbacks,
                                                      VkInstance *instance)
{
    VkLayerInstanceCreateInfo *link = chain_link(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    static atomic_flag read = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&read))
        read_environment();
    VkResult result = fault("vkCreateInstance", NULL);
    if (!result)
        result = ((PFN_vkCreateInstance)get(NULL, "vkCreateInstance"))(info, callbacks, instance);
    size_t place = 0;
    while (!result && place < COUNT(instances) - 1 && instances[place].key)
        place++;
    if (result)
        return result;
    instances[place] = (Instance){
        .key = key_of(*instance),
        .instance = *instance,
        .get = get,
        .create_device = (PFN_vkCreateDevice)get(*instance, "vkCreateDevice"),
        .destroy = (PFN_vkDestroyInstance)get(*instance, "vkDestroyInstance"),
        .enumerate = (PFN_vkEnumeratePhysicalDevices)get(*instance, "vkEnumeratePhysicalDevices"),
        .extensions = (PFN_vkEnumerateDeviceExtensionProperties)get(*instance, "vkEnumerateDeviceExtensionProperties"),
    };
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_instance(VkInstance instance, const VkAllocationCallbacks *callbacks)
{
    if (!instance)
        return;
    Instance *known = instance_of(instance);
    PFN_vkDestroyInstance destroy = known->destroy;
    *known = (Instance){0};
    destroy(instance, callbacks);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *callbacks, VkDevice *device)
{
    VkLayerDeviceCreateInfo *link = chain_link(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    PFN_vkGetDeviceProcAddr get_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    VkResult result = fault("vkCreateDevice", NULL);
    if (!result)
        result = instance_of(physical)->create_device(physical, info, callbacks, device);
    if (result)
        return result;
    Below *made = devices;
    while (made < devices + COUNT(devices) - 1 && made->key)
        made++;
    *made = (Below){.key = key_of(*device), .device = *device, .get = get_device};
    made->wait_idle = (PFN_vkDeviceWaitIdle)get_device(*device, "vkDeviceWaitIdle");
    made->destroy = (PFN_vkDestroyDevice)get_device(*device, "vkDestroyDevice");
#define X(name, parameters, arguments) made->name = (PFN_##name)get_device(*device, #name);
#define Y(name, parameters, arguments)
    DEVICE_CALLS(X, Y)
#undef X
#undef Y
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_device(VkDevice device, const VkAllocationCallbacks *callbacks)
{
    if (!device)
        return;
    Below *known = below(device);
    PFN_vkDestroyDevice destroy = known->destroy;
    known->key = NULL;
    destroy(device, callbacks);
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_physical(VkInstance instance, uint32_t *count, VkPhysicalDevice *devices_out)
{
    VkResult result = fault("vkEnumeratePhysicalDevices", NULL);
    return result ? result : instance_of(instance)->enumerate(instance, count, devices_out);
}

static VKAPI_ATTR VkResult VKAPI_CALL enumerate_extensions(VkPhysicalDevice physical, const char *layer, uint32_t *count,
                                                           VkExtensionProperties *properties)
{
    if (layer && !strcmp(layer, "VK_LAYER_VKL_fault")) {
        *count = 0;
        return VK_SUCCESS;
    }
    VkResult result = fault("vkEnumerateDeviceExtensionProperties", NULL);
    return result ? result : instance_of(physical)->extensions(physical, layer, count, properties);
}

/* ---- Who gets them ---- */

typedef struct Entry {
    const char *name;
    PFN_vkVoidFunction function;
} Entry;

static PFN_vkVoidFunction find(const Entry *entries, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(name, entries[i].name))
            return entries[i].function;
    return NULL;
}

static PFN_vkVoidFunction of_device(const char *name)
{
    static const Entry entries[] = {{"vkCreateComputePipelines", (PFN_vkVoidFunction)null_vkCreateComputePipelines},
                                    {"vkAllocateCommandBuffers", (PFN_vkVoidFunction)null_vkAllocateCommandBuffers},
                                    {"vkEndCommandBuffer", (PFN_vkVoidFunction)ended_vkEndCommandBuffer},
                                    {"vkDestroyDevice", (PFN_vkVoidFunction)destroy_device},
#define Z(function, Info, Handle) {#function, (PFN_vkVoidFunction)spoil_##function},
                                    OUTPUTS(Z)
#undef Z
#define X(function, parameters, arguments) {#function, (PFN_vkVoidFunction)my_##function},
#define Y(function, parameters, arguments)
                                        DEVICE_CALLS(X, Y)
#undef X
#undef Y
    };
    return find(entries, COUNT(entries), name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc_addr(VkDevice device, const char *name)
{
    if (!strcmp(name, "vkGetDeviceProcAddr"))
        return (PFN_vkVoidFunction)get_device_proc_addr;
    PFN_vkVoidFunction next = below(device)->get(device, name), mine = of_device(name);
    return next && mine ? mine : next; /* what the driver lacks stays lacking */
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_instance_proc_addr(VkInstance instance, const char *name)
{
    static const Entry entries[] = {
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkDestroyInstance", (PFN_vkVoidFunction)destroy_instance},
        {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)enumerate_extensions},
        {"vkEnumeratePhysicalDevices", (PFN_vkVoidFunction)enumerate_physical},
        {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)get_device_proc_addr},
        {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)get_instance_proc_addr},
    };
    PFN_vkVoidFunction mine = find(entries, COUNT(entries), name);
    if (!mine)
        mine = of_device(name);
    return mine ? mine : instance ? instance_of(instance)->get(instance, name) : NULL;
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *negotiation)
{
    negotiation->loaderLayerInterfaceVersion = 2;
    negotiation->pfnGetInstanceProcAddr = get_instance_proc_addr;
    negotiation->pfnGetDeviceProcAddr = get_device_proc_addr;
    negotiation->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}

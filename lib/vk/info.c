/* SPDX-License-Identifier: MIT
 *
 * From a physical device's properties to a VklDeviceInfo, and the choice of its queue family. */
#include <stdio.h>

#include "cooperative.h"
#include "info.h"
#include "wishes.h"

VklStatus vkl_vk_extensions_get(VklContext *context, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                                VklVkExtensions *extensions)
{
    uint32_t count = 0;
    *extensions = (VklVkExtensions){0};
    VkResult result = functions->vkEnumerateDeviceExtensionProperties(physical, NULL, &count, NULL);
    if (result)
        return vkl_vk_fail(context, NULL, NULL, result, "vkEnumerateDeviceExtensionProperties", "its number");
    VkExtensionProperties *properties = vkl_allocate(&context->desc.memory, count, sizeof(*properties));
    if (!properties)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "the host refused memory for the names of %u extensions", count);
    result = functions->vkEnumerateDeviceExtensionProperties(physical, NULL, &count, properties);
    if (result < 0) {
        vkl_release(properties);
        return vkl_vk_fail(context, NULL, NULL, result, "vkEnumerateDeviceExtensionProperties", "%u of them", count);
    }
    extensions->properties = properties;
    extensions->count = count;
    return VKL_OK;
}

void vkl_vk_extensions_finish(VklVkExtensions *extensions)
{
    vkl_release(extensions->properties);
    *extensions = (VklVkExtensions){0};
}

bool vkl_vk_has_extension(const VklVkExtensions *extensions, const char *name)
{
    for (uint32_t i = 0; i < extensions->count; i++) {
        const char *there = extensions->properties ? extensions->properties[i].extensionName : extensions->names[i];
        if (!strcmp(there, name))
            return true;
    }
    return false;
}

uint32_t vkl_vk_families(const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                         VkQueueFamilyProperties properties[MOST_FAMILIES])
{
    /* asked first: SwiftShader leaves the number as it is when there is room for more */
    uint32_t count = 0;
    functions->vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, NULL);
    if (count > MOST_FAMILIES)
        count = MOST_FAMILIES;
    functions->vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, properties);
    return count;
}

bool vkl_vk_queue_family(const VklInstanceFunctions *functions, VkPhysicalDevice physical, uint32_t *family)
{
    VkQueueFamilyProperties properties[MOST_FAMILIES];
    uint32_t count = vkl_vk_families(functions, physical, properties);
    /* A family that cannot draw runs beside what the desktop draws. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            VkQueueFlags flags = properties[i].queueFlags;
            if (properties[i].queueCount && flags & VK_QUEUE_COMPUTE_BIT && (pass || !(flags & VK_QUEUE_GRAPHICS_BIT))) {
                *family = i;
                return true;
            }
        }
    }
    return false;
}

static bool has_timestamps(const VklInstanceFunctions *functions, VkPhysicalDevice physical, uint32_t family)
{
    VkQueueFamilyProperties properties[MOST_FAMILIES];
    uint32_t count = vkl_vk_families(functions, physical, properties);
    return family < count && properties[family].timestampValidBits > 0;
}

static VklDeviceType device_type(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return VKL_DEVICE_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return VKL_DEVICE_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return VKL_DEVICE_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return VKL_DEVICE_SOFTWARE;
    default:
        return VKL_DEVICE_OTHER;
    }
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void limits_from_vulkan(VklDeviceLimits *limits, const VkPhysicalDeviceLimits *vulkan)
{
    *limits = (VklDeviceLimits){
        .storage_range = vulkan->maxStorageBufferRange,
        .allocation_size = UINT64_C(1) << 30,
        .storage_buffers = smaller(smaller(vulkan->maxPerStageDescriptorStorageBuffers, vulkan->maxDescriptorSetStorageBuffers),
                                   vulkan->maxPerStageResources),
        .storage_alignment = (uint32_t)vulkan->minStorageBufferOffsetAlignment,
        .workgroup_invocations = vulkan->maxComputeWorkGroupInvocations,
        .shared_memory = vulkan->maxComputeSharedMemorySize,
        .push_constants = vulkan->maxPushConstantsSize,
    };
    for (int axis = 0; axis < 3; axis++) {
        limits->workgroups[axis] = vulkan->maxComputeWorkGroupCount[axis];
        limits->workgroup_size[axis] = vulkan->maxComputeWorkGroupSize[axis];
    }
    if (limits->storage_alignment < 4)
        limits->storage_alignment = 4;
}

static void memory_info(VklDeviceInfo *info, const VkPhysicalDeviceMemoryProperties *memory)
{
    info->features.unified_memory = true;
    for (uint32_t heap = 0; heap < memory->memoryHeapCount; heap++) {
        if (!(memory->memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT))
            continue;
        if (memory->memoryHeaps[heap].size > info->memory_bytes)
            info->memory_bytes = memory->memoryHeaps[heap].size;
        bool visible = false;
        for (uint32_t type = 0; type < memory->memoryTypeCount; type++)
            if (memory->memoryTypes[type].heapIndex == heap &&
                memory->memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
                visible = true;
        info->features.unified_memory = info->features.unified_memory && visible;
    }
}

/* Where structures of extensions are chained to. */
typedef struct Chain {
    VkBaseOutStructure *last;
} Chain;

static void add(Chain *chain, void *structure)
{
    chain->last->pNext = structure;
    chain->last = structure;
}

VklStatus vkl_vk_device_info(VklContext *context, const VklVkPhysical *from, VklDeviceInfo *info)
{
    const VklInstanceFunctions *functions = from->functions;
    VkPhysicalDeviceProperties plain;
    VkPhysicalDeviceMemoryProperties memory;
    functions->vkGetPhysicalDeviceProperties(from->handle, &plain);
    functions->vkGetPhysicalDeviceMemoryProperties(from->handle, &memory);
    VklDeviceInfo made = {
        .struct_size = sizeof(made),
        .type = device_type(plain.deviceType),
        .index = from->index,
        .api_version = plain.apiVersion,
        .vendor_id = plain.vendorID,
        .device_id = plain.deviceID,
        .features = {.subgroup_size = 1, .timestamps = has_timestamps(functions, from->handle, from->family)},
    };
    snprintf(made.name, sizeof(made.name), "%s", plain.deviceName);
    snprintf(made.driver, sizeof(made.driver), "version 0x%08x", plain.driverVersion);
    limits_from_vulkan(&made.limits, &plain.limits);
    memory_info(&made, &memory);

    /* What follows needs Vulkan 1.1, and the device is listed without it too. */
    uint32_t version = smaller(from->api_version, plain.apiVersion);
    if (version < VK_API_VERSION_1_1) {
        *info = made;
        return VKL_OK;
    }
    VklVkExtensions there;
    VklStatus status = vkl_vk_extensions_get(context, functions, from->handle, &there);
    if (status)
        return status;
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    VkPhysicalDeviceMaintenance3Properties maintenance3 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
    VkPhysicalDeviceSubgroupProperties subgroup = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
    VkPhysicalDeviceMaintenance4Properties maintenance4 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES,
        .maxBufferSize = UINT64_MAX,
    };
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceSubgroupSizeControlProperties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES,
    };
    Chain chain = {(VkBaseOutStructure *)&all};
    add(&chain, &maintenance3);
    add(&chain, &subgroup);
    if (version >= VK_API_VERSION_1_3 || vkl_vk_has_extension(&there, VK_KHR_MAINTENANCE_4_EXTENSION_NAME))
        add(&chain, &maintenance4);
    if (version >= VK_API_VERSION_1_2 || vkl_vk_has_extension(&there, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME))
        add(&chain, &driver);
    if (version >= VK_API_VERSION_1_3 || vkl_vk_has_extension(&there, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME))
        add(&chain, &sizes);
    functions->vkGetPhysicalDeviceProperties2(from->handle, &all);

    made.limits.allocation_size = maintenance3.maxMemoryAllocationSize < maintenance4.maxBufferSize
                                      ? maintenance3.maxMemoryAllocationSize
                                      : maintenance4.maxBufferSize;
    made.features.subgroup_size = subgroup.subgroupSize;
    if (driver.driverName[0])
        snprintf(made.driver, sizeof(made.driver), "%.120s %.120s", driver.driverName, driver.driverInfo);
    const uint32_t enabled = vkl_vk_features_enabled(from->features);
    made.features.timeline_semaphore = enabled >> VKL_VK_TIMELINE_SEMAPHORE & 1;
    made.features.shader_float16 = enabled >> VKL_VK_SHADER_FLOAT16 & 1;
    made.features.storage_16bit = enabled >> VKL_VK_STORAGE_16BIT & 1;
    made.features.cooperative_matrix = vkl_vk_has_extension(&from->extensions, VKL_VK_COOPERATIVE_EXTENSION);
    vkl_vk_extensions_finish(&there);
    bool choice = enabled >> VKL_VK_SUBGROUP_SIZE_CONTROL & 1 && sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    made.features.subgroup_size_control = choice;
    made.features.subgroup_size_min = choice ? sizes.minSubgroupSize : subgroup.subgroupSize;
    VkSubgroupFeatureFlags shuffles = VK_SUBGROUP_FEATURE_SHUFFLE_BIT | VK_SUBGROUP_FEATURE_QUAD_BIT;
    made.features.subgroup_shuffle =
        (subgroup.supportedOperations & shuffles) == shuffles && subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
    made.features.subgroup_size_max = choice ? sizes.maxSubgroupSize : subgroup.subgroupSize;
    if (made.features.cooperative_matrix && enabled >> VKL_VK_COOPERATIVE_MATRIX & 1 && enabled >> VKL_VK_MEMORY_MODEL & 1 &&
        made.features.shader_float16)
        vkl_vk_cooperative_shape(functions, from->handle, made.features.cooperative_shape);
    *info = made;
    return VKL_OK;
}

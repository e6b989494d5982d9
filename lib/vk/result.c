/* SPDX-License-Identifier: MIT
 *
 * From a VkResult to a status and a sentence. */
#include <stdarg.h>
#include <stdio.h>

#include "vk.h"

static const struct {
    VkResult result;
    VklStatus status;
    const char *name;
} results[] = {
    {VK_NOT_READY, VKL_ERROR_VULKAN, "VK_NOT_READY"},
    {VK_TIMEOUT, VKL_TIMEOUT, "VK_TIMEOUT"},
    {VK_INCOMPLETE, VKL_ERROR_VULKAN, "VK_INCOMPLETE"},
    {VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, "VK_ERROR_OUT_OF_HOST_MEMORY"},
    {VK_ERROR_OUT_OF_DEVICE_MEMORY, VKL_ERROR_DEVICE_MEMORY, "VK_ERROR_OUT_OF_DEVICE_MEMORY"},
    {VK_ERROR_INITIALIZATION_FAILED, VKL_ERROR_VULKAN, "VK_ERROR_INITIALIZATION_FAILED"},
    {VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST, "VK_ERROR_DEVICE_LOST"},
    {VK_ERROR_MEMORY_MAP_FAILED, VKL_ERROR_HOST_MEMORY, "VK_ERROR_MEMORY_MAP_FAILED"},
    {VK_ERROR_LAYER_NOT_PRESENT, VKL_ERROR_VULKAN, "VK_ERROR_LAYER_NOT_PRESENT"},
    {VK_ERROR_EXTENSION_NOT_PRESENT, VKL_ERROR_VULKAN, "VK_ERROR_EXTENSION_NOT_PRESENT"},
    {VK_ERROR_FEATURE_NOT_PRESENT, VKL_ERROR_VULKAN, "VK_ERROR_FEATURE_NOT_PRESENT"},
    {VK_ERROR_INCOMPATIBLE_DRIVER, VKL_ERROR_VULKAN, "VK_ERROR_INCOMPATIBLE_DRIVER"},
    {VK_ERROR_TOO_MANY_OBJECTS, VKL_ERROR_LIMIT, "VK_ERROR_TOO_MANY_OBJECTS"},
    {VK_ERROR_FRAGMENTED_POOL, VKL_ERROR_DEVICE_MEMORY, "VK_ERROR_FRAGMENTED_POOL"},
    {VK_ERROR_UNKNOWN, VKL_ERROR_VULKAN, "VK_ERROR_UNKNOWN"},
    {VK_ERROR_OUT_OF_POOL_MEMORY, VKL_ERROR_DEVICE_MEMORY, "VK_ERROR_OUT_OF_POOL_MEMORY"},
    {VK_ERROR_INVALID_SHADER_NV, VKL_ERROR_VULKAN, "VK_ERROR_INVALID_SHADER_NV"},
};

const char *vkl_vk_result_name(VkResult result)
{
    for (size_t i = 0; i < sizeof(results) / sizeof(*results); i++)
        if (results[i].result == result)
            return results[i].name;
    return "an unknown VkResult";
}

VklStatus vkl_vk_fail(VklContext *context, VklDevice *device, VklError *error, VkResult result, const char *call,
                      const char *subject, ...)
{
    VklStatus status = VKL_ERROR_VULKAN;
    for (size_t i = 0; i < sizeof(results) / sizeof(*results); i++)
        if (results[i].result == result)
            status = results[i].status;
    const bool lost = device && result == VK_ERROR_DEVICE_LOST;
    if (lost)
        atomic_store(&device->lost, true);
    char text[VKL_MESSAGE_SIZE / 2];
    va_list arguments;
    va_start(arguments, subject);
    vsnprintf(text, sizeof(text), subject, arguments);
    va_end(arguments);
    return vkl_fail(context, error, status, "%s returned %s (%d)%s%s%s: %s", call, vkl_vk_result_name(result), (int)result,
                    lost ? " on '" : "", lost ? device->info.name : "", lost ? "'" : "", text);
}

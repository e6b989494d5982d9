/* SPDX-License-Identifier: MIT */
#ifndef VKL_VK_WISHES_H
#define VKL_VK_WISHES_H

#include "info.h"

/* Features that kernels or submits can use; a set of them is a number with these bits. */
enum {
    VKL_VK_SUBGROUP_SIZE_CONTROL,
    VKL_VK_TIMELINE_SEMAPHORE,
    VKL_VK_SHADER_FLOAT16,
    VKL_VK_MEMORY_MODEL,
    VKL_VK_COOPERATIVE_MATRIX,
    VKL_VK_STORAGE_16BIT,
    VKL_VK_WISHES
};

/* Fills `wishes`, whose chain points into itself. Nothing is wished of a device below Vulkan 1.1. */
VklStatus vkl_vk_wishes_get(VklContext *context, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                            uint32_t api_version, VklVulkanWishes *wishes);
/* The set that a chain enables; NULL: none. */
uint32_t vkl_vk_features_enabled(const VkPhysicalDeviceFeatures2 *features);
/* VK_ERROR_INCOMPATIBLE_DRIVER: a loader below Vulkan 1.1. */
VkResult vkl_vk_instance_wishes_get(VklContext *context, PFN_vkGetInstanceProcAddr get, VklVulkanInstanceWishes *wishes);
/* VKL_ERROR_UNSUPPORTED: below Vulkan 1.1, or no queue for compute. */
VklStatus vkl_vk_usable(VklContext *context, const char *caller, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                        uint32_t api_version);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef VKL_VK_INFO_H
#define VKL_VK_INFO_H

#include "vk.h"

/* A set of extensions: what a device has (properties), or what an importing program says that it enabled (names). */
typedef struct VklVkExtensions {
    VkExtensionProperties *properties;
    const char *const *names;
    uint32_t count;
} VklVkExtensions;

VklStatus vkl_vk_extensions_get(VklContext *context, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                                VklVkExtensions *extensions);
void vkl_vk_extensions_finish(VklVkExtensions *extensions);
bool vkl_vk_has_extension(const VklVkExtensions *extensions, const char *name);

/* Returns how many there are. */
uint32_t vkl_vk_families(const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                         VkQueueFamilyProperties properties[MOST_FAMILIES]);

/* The queue family that work goes to; false: the device has none for compute. */
bool vkl_vk_queue_family(const VklInstanceFunctions *functions, VkPhysicalDevice physical, uint32_t *family);

typedef struct VklVkPhysical {
    const VklInstanceFunctions *functions;
    VkPhysicalDevice handle;
    uint32_t api_version; /* of the instance */
    uint32_t index, family;
    /* what is enabled, or would be if a device were made */
    const VkPhysicalDeviceFeatures2 *features;
    VklVkExtensions extensions;
} VklVkPhysical;

VklStatus vkl_vk_device_info(VklContext *context, const VklVkPhysical *from, VklDeviceInfo *info);

#endif

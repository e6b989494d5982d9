/* SPDX-License-Identifier: MIT
 *
 * VK_KHR_cooperative_matrix, which is younger than the Vulkan headers of some distributions: what the backend needs of it,
 * under names of its own.
 */
#ifndef VKL_VK_COOPERATIVE_H
#define VKL_VK_COOPERATIVE_H

#include "info.h"

#define VKL_VK_COOPERATIVE_EXTENSION "VK_KHR_cooperative_matrix"
#define VKL_VK_COOPERATIVE_FEATURES ((VkStructureType)1000506000)   /* VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_..._FEATURES_KHR */
#define VKL_VK_COOPERATIVE_PROPERTIES ((VkStructureType)1000506001) /* VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR */

typedef struct VklVkCooperativeProperties {
    VkStructureType sType;
    void *pNext;
    uint32_t m, n, k;
    int32_t a_type, b_type, c_type, result_type; /* 0: float16, 1: float32 */
    VkBool32 saturating;
    int32_t scope; /* 3: subgroup */
} VklVkCooperativeProperties;

/* The shape that the product of halves is to use, of those of the device whose sums are float32; zeros where there is none, or
 * no such kernel in this build of the library. The device's features must allow it. */
void vkl_vk_cooperative_shape(const VklInstanceFunctions *functions, VkPhysicalDevice physical, uint32_t shape[3]);

#endif

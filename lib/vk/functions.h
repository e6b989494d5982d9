/* SPDX-License-Identifier: MIT
 *
 * The Vulkan functions that the backend calls. Every call goes through one of two tables: VklInstanceFunctions, of an instance,
 * and VklDeviceFunctions, of a device. Neither a prototype of Vulkan's nor a variable for a function is anywhere else.
 */
#ifndef VKL_VK_FUNCTIONS_H
#define VKL_VK_FUNCTIONS_H

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "../internal.h"

#define VKL_INSTANCE_FUNCTIONS(X)           \
    X(vkCreateDevice)                       \
    X(vkDestroyInstance)                    \
    X(vkEnumerateDeviceExtensionProperties) \
    X(vkEnumeratePhysicalDevices)           \
    X(vkGetDeviceProcAddr)                  \
    X(vkGetPhysicalDeviceFeatures2)         \
    X(vkGetPhysicalDeviceMemoryProperties)  \
    X(vkGetPhysicalDeviceProperties)        \
    X(vkGetPhysicalDeviceProperties2)       \
    X(vkGetPhysicalDeviceQueueFamilyProperties)

/* Of VK_EXT_debug_utils: NULL where it is not enabled. */
#define VKL_DEBUG_FUNCTIONS(X)         \
    X(vkCmdBeginDebugUtilsLabelEXT)    \
    X(vkCmdEndDebugUtilsLabelEXT)      \
    X(vkCreateDebugUtilsMessengerEXT)  \
    X(vkDestroyDebugUtilsMessengerEXT) \
    X(vkSetDebugUtilsObjectNameEXT)

typedef struct VklInstanceFunctions {
#define X(name) PFN_##name name;
    VKL_INSTANCE_FUNCTIONS(X)
    VKL_DEBUG_FUNCTIONS(X)
#undef X
    PFN_vkVoidFunction cooperative_matrix_properties; /* or NULL: of an extension that the headers may not know */
} VklInstanceFunctions;

/* Of a device; all must be there. */
#define VKL_DEVICE_FUNCTIONS(X)       \
    X(vkAllocateCommandBuffers)       \
    X(vkAllocateDescriptorSets)       \
    X(vkAllocateMemory)               \
    X(vkBeginCommandBuffer)           \
    X(vkBindBufferMemory)             \
    X(vkCmdBindDescriptorSets)        \
    X(vkCmdBindPipeline)              \
    X(vkCmdCopyBuffer)                \
    X(vkCmdDispatch)                  \
    X(vkCmdDispatchIndirect)          \
    X(vkCmdFillBuffer)                \
    X(vkCmdPipelineBarrier)           \
    X(vkCmdPushConstants)             \
    X(vkCmdResetQueryPool)            \
    X(vkCmdWriteTimestamp)            \
    X(vkCreateBuffer)                 \
    X(vkCreateCommandPool)            \
    X(vkCreateComputePipelines)       \
    X(vkCreateDescriptorPool)         \
    X(vkCreateDescriptorSetLayout)    \
    X(vkCreateFence)                  \
    X(vkCreatePipelineCache)          \
    X(vkCreatePipelineLayout)         \
    X(vkCreateQueryPool)              \
    X(vkCreateShaderModule)           \
    X(vkDestroyBuffer)                \
    X(vkDestroyCommandPool)           \
    X(vkDestroyDescriptorPool)        \
    X(vkDestroyDescriptorSetLayout)   \
    X(vkDestroyDevice)                \
    X(vkDestroyFence)                 \
    X(vkDestroyPipeline)              \
    X(vkDestroyPipelineCache)         \
    X(vkDestroyPipelineLayout)        \
    X(vkDestroyQueryPool)             \
    X(vkDestroyShaderModule)          \
    X(vkEndCommandBuffer)             \
    X(vkFlushMappedMemoryRanges)      \
    X(vkFreeMemory)                   \
    X(vkGetBufferMemoryRequirements)  \
    X(vkGetDeviceQueue)               \
    X(vkGetFenceStatus)               \
    X(vkGetPipelineCacheData)         \
    X(vkGetQueryPoolResults)          \
    X(vkInvalidateMappedMemoryRanges) \
    X(vkMapMemory)                    \
    X(vkMergePipelineCaches)          \
    X(vkQueueSubmit)                  \
    X(vkQueueWaitIdle)                \
    X(vkResetFences)                  \
    X(vkUpdateDescriptorSets)         \
    X(vkWaitForFences)

typedef struct VklDeviceFunctions {
#define X(name) PFN_##name name;
    VKL_DEVICE_FUNCTIONS(X)
#undef X
} VklDeviceFunctions;

/* Opens the machine's Vulkan loader for one context. NULL: there is none. Closed when nothing of its instance is used any more. */
PFN_vkGetInstanceProcAddr vkl_vk_loader_open(void **library);
void vkl_vk_loader_close(void *library); /* accepts NULL */

/* Both return NULL, or the name of a function that is missing. */
const char *vkl_vk_instance_functions(VklInstanceFunctions *functions, PFN_vkGetInstanceProcAddr get, VkInstance instance);
const char *vkl_vk_device_functions(VklDeviceFunctions *functions, PFN_vkGetDeviceProcAddr get, VkDevice device);

#endif

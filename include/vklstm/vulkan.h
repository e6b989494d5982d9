/* SPDX-License-Identifier: MIT
 *
 * For programs that have a Vulkan device of their own. The only header that includes Vulkan's; it uses types alone, so it goes
 * with libvulkan's prototypes, with volk, or with neither.
 *
 * vklstm is a guest: it uses the handles it is given through the loader function it is given, keeps every Vulkan function in
 * tables of its own (the library exports no symbol of Vulkan's or volk's), and destroys only what it made.
 */
#ifndef VKLSTM_VULKAN_H
#define VKLSTM_VULKAN_H

#include <vulkan/vulkan_core.h>

#include "vklstm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is needed of a device: Vulkan 1.1 of instance and device, one queue with VK_QUEUE_COMPUTE_BIT. No feature and no extension
 * is required. */
typedef struct VklVulkanImport {
    size_t struct_size;
    PFN_vkGetInstanceProcAddr get_instance_proc_addr;
    VkInstance instance;
    VkPhysicalDevice physical_device;
    VkDevice device;
    uint32_t api_version; /* what the instance was created with (VkApplicationInfo.apiVersion); at least VK_API_VERSION_1_1 */
    VkQueue queue;
    uint32_t queue_family; /* where `queue` comes from */
    uint32_t queue_index;
    /* What was enabled when the device was made: a device cannot be asked. NULL and 0: nothing. Copied. With
     * VK_EXT_debug_utils, an extension of the instance, among the extensions and VklContextDesc.debug, our objects get names. */
    const VkPhysicalDeviceFeatures2 *features; /* with its pNext chain */
    const char *const *extensions;
    uint32_t extension_count;
    /* Called around every use of the queue, when another thread may use it too; both NULL: nobody else does during our calls. */
    void (*lock_queue)(void *user, uint32_t family, uint32_t index);
    void (*unlock_queue)(void *user, uint32_t family, uint32_t index);
    void *lock_user;
    const VklDeviceLimits *limits; /* as VklDeviceDesc.limits */
} VklVulkanImport;

/* All fields 0 but struct_size. */
VKL_API VklVulkanImport vkl_vulkan_import(void);

/* Makes a device of the caller's. Handles must stay valid until vkl_device_destroy(), which destroys none of them.
 * Errors: VKL_ERROR_INVALID (a handle that is missing, a family without compute, only one lock callback), VKL_ERROR_UNSUPPORTED
 * (below Vulkan 1.1; a function that the loader does not give; a build without Vulkan), memory, VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_device_import_vulkan(VklContext *context, const VklVulkanImport *import, VklDevice **device);

/* Wraps a command buffer of the caller's that is in the recording state, outside a render pass, of a pool whose family supports
 * compute. Calls on the stream record into it and do nothing else: no submit, no wait. State left behind: the compute pipeline,
 * descriptor set 0 of the compute bind point and push constants are ours. Barriers: every piece of work begins with a barrier
 * from all earlier compute, transfer and host writes in the same queue to its own reads and writes, and ends without one: before the caller's
 * commands read a result, the caller records a barrier from VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT and
 * VK_ACCESS_SHADER_WRITE_BIT (vkl_stream_copy and vkl_stream_fill: VK_PIPELINE_STAGE_TRANSFER_BIT,
 * VK_ACCESS_TRANSFER_WRITE_BIT). The stream, and the buffers used in it, must live until the GPU is done with the command buffer:
 * the caller's submits are not seen.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (not a Vulkan device), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_stream_wrap_vulkan(VklDevice *device, VkCommandBuffer commands, VklStream **stream);

/* Wraps `size` bytes (from its start) of a buffer of the caller's, made with VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, for vkl_stream_copy, fill, read
 * and write also with TRANSFER_SRC and TRANSFER_DST. The buffer must be owned by the device's queue family, or be concurrent. */
VKL_API VklStatus vkl_buffer_wrap_vulkan(VklDevice *device, VkBuffer handle, uint64_t size, VklBuffer **buffer);

/* The VkBuffer behind a buffer of ours, and where in it the buffer begins: for the caller's own shaders and copies. Usage is storage,
 * transfer source and destination, VK_SHARING_MODE_EXCLUSIVE.
 * Errors: VKL_ERROR_UNSUPPORTED (not a Vulkan device). */
VKL_API VklStatus vkl_buffer_vulkan(VklBuffer *buffer, VkBuffer *handle, VkDeviceSize *offset);

#ifdef __cplusplus
}
#endif
#endif

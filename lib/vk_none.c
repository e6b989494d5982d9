/* SPDX-License-Identifier: MIT
 *
 * In place of lib/vk in a build without Vulkan, on a machine that may not have Vulkan's headers: no devices. The functions of
 * vulkan.h are there for programs that were built against a library with Vulkan, so their types are spelled out. */
#include "internal.h"

VklStatus vkl_vk_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos)
{
    (void)context;
    (void)infos;
    *count = 0;
    return VKL_OK;
}

VklStatus vkl_vk_device_create(VklContext *context, uint32_t index, const VklDeviceLimits *limits, VklDevice **device)
{
    (void)limits;
    (void)device;
    return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                    "vkl_device_create: Vulkan device %u was asked for, and this build of vklstm has no Vulkan", index);
}

void vkl_vk_context_destroy(VklContext *context)
{
    (void)context;
}

/* ---- vulkan.h, with Vulkan's handles as what they are underneath ---- */

#if UINTPTR_MAX > UINT32_MAX
typedef struct VkBuffer_T *Handle;
#else
typedef uint64_t Handle; /* handles of objects that are not dispatched on have 64 bits everywhere */
#endif

typedef struct VklVulkanImport {
    size_t struct_size;
    void (*get_instance_proc_addr)(void);
    void *instance, *physical_device, *device;
    uint32_t api_version;
    void *queue;
    uint32_t queue_family, queue_index;
    const void *features;
    const char *const *extensions;
    uint32_t extension_count;
    void (*lock_queue)(void *user, uint32_t family, uint32_t index);
    void (*unlock_queue)(void *user, uint32_t family, uint32_t index);
    void *lock_user;
    const VklDeviceLimits *limits;
    const uint32_t *queue_families;
    uint32_t queue_family_count;
    const void *allocation;
    struct {
        void (*functions[2])(void);
        void *user;
    } memory;
} VklVulkanImport;

typedef struct VklVulkanSubmit {
    size_t struct_size;
    uint32_t wait_count;
    const Handle *waits;
    const uint64_t *wait_values;
    const uint32_t *wait_stages;
    uint32_t signal_count;
    const Handle *signals;
    const uint64_t *signal_values;
} VklVulkanSubmit;

VKL_API VklStatus vkl_vulkan_instance_wishes(VklContext *context, void (*get_instance_proc_addr)(void), void *wishes);
VKL_API VklStatus vkl_vulkan_wishes(VklContext *context, const VklVulkanImport *import, void *wishes);
VKL_API void vkl_vulkan_wishes_add(void *wishes, void *features);
VKL_API VklVulkanImport vkl_vulkan_import(void);
VKL_API VklVulkanSubmit vkl_vulkan_submit(void);
VKL_API VklStatus vkl_stream_submit_vulkan(VklStream *stream, const VklVulkanSubmit *submit, VklFence **fence);
VKL_API VklStatus vkl_device_import_vulkan(VklContext *context, const VklVulkanImport *import, VklDevice **device);
VKL_API VklStatus vkl_stream_wrap_vulkan(VklDevice *device, void *commands, VklStream **stream);
VKL_API VklStatus vkl_buffer_wrap_vulkan(VklDevice *device, Handle handle, uint64_t size, VklBuffer **buffer);
VKL_API VklStatus vkl_buffer_vulkan(VklBuffer *buffer, Handle *handle, uint64_t *offset);

VklVulkanImport vkl_vulkan_import(void)
{
    return (VklVulkanImport){.struct_size = sizeof(VklVulkanImport)};
}

static VklStatus unsupported(VklContext *context, const char *caller)
{
    return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED, "%s: this build of vklstm has no Vulkan", caller);
}

VklStatus vkl_vulkan_instance_wishes(VklContext *context, void (*get_instance_proc_addr)(void), void *wishes)
{
    (void)get_instance_proc_addr;
    (void)wishes;
    return context ? unsupported(context, "vkl_vulkan_instance_wishes") : VKL_ERROR_INVALID;
}

VklStatus vkl_vulkan_wishes(VklContext *context, const VklVulkanImport *import, void *wishes)
{
    (void)import;
    (void)wishes;
    return context ? unsupported(context, "vkl_vulkan_wishes") : VKL_ERROR_INVALID;
}

void vkl_vulkan_wishes_add(void *wishes, void *features)
{
    (void)wishes;
    (void)features;
}

VklStatus vkl_device_import_vulkan(VklContext *context, const VklVulkanImport *import, VklDevice **device)
{
    (void)import;
    (void)device;
    return context ? unsupported(context, "vkl_device_import_vulkan") : VKL_ERROR_INVALID;
}

VklStatus vkl_stream_wrap_vulkan(VklDevice *device, void *commands, VklStream **stream)
{
    (void)commands;
    (void)stream;
    return device ? unsupported(device->context, "vkl_stream_wrap_vulkan") : VKL_ERROR_INVALID;
}

VklStatus vkl_buffer_wrap_vulkan(VklDevice *device, Handle handle, uint64_t size, VklBuffer **buffer)
{
    (void)handle;
    (void)size;
    (void)buffer;
    return device ? unsupported(device->context, "vkl_buffer_wrap_vulkan") : VKL_ERROR_INVALID;
}

VklStatus vkl_buffer_vulkan(VklBuffer *buffer, Handle *handle, uint64_t *offset)
{
    (void)handle;
    (void)offset;
    return buffer ? unsupported(buffer->device->context, "vkl_buffer_vulkan") : VKL_ERROR_INVALID;
}

VklVulkanSubmit vkl_vulkan_submit(void)
{
    return (VklVulkanSubmit){.struct_size = sizeof(VklVulkanSubmit)};
}

VklStatus vkl_stream_submit_vulkan(VklStream *stream, const VklVulkanSubmit *submit, VklFence **fence)
{
    (void)submit;
    (void)fence;
    if (!stream)
        return VKL_ERROR_INVALID;
    return vkl_fail_again(&stream->error, unsupported(stream->device->context, "vkl_stream_submit_vulkan"));
}

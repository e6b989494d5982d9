/* SPDX-License-Identifier: MIT
 *
 * Command buffers and buffers of the caller's, and ours for the caller. */
#include "vk.h"

static VklStatus check_vulkan(VklDevice *device, const char *caller)
{
    if (device->backend != &vkl_vk_backend)
        return vkl_fail(device->context, NULL, VKL_ERROR_UNSUPPORTED, "%s: '%s' is not a Vulkan device", caller,
                        device->info.name);
    return VKL_OK;
}

VklStatus vkl_stream_wrap_vulkan(VklDevice *device, VkCommandBuffer commands, VklStream **stream)
{
    if (!device)
        return VKL_ERROR_INVALID;
    VklStatus status = check_vulkan(device, "vkl_stream_wrap_vulkan");
    if (status)
        return status;
    if (!commands || !stream)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_stream_wrap_vulkan: %s is NULL",
                        commands ? "stream" : "commands");
    VklStream *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_stream_wrap_vulkan: the host refused %zu bytes",
                        sizeof(*made));
    made->device = device;
    made->wrapped = true;
    status = vkl_vk_stream_wrap(made, commands);
    if (status) {
        vkl_release(made);
        return status;
    }
    *stream = made;
    return VKL_OK;
}

/* ---- Semaphores ---- */

static VklStatus check_semaphores(VklStream *stream, const char *kind, uint32_t count, const VkSemaphore *semaphores,
                                  const uint64_t *values)
{
    static const char call[] = "vkl_stream_submit_vulkan";
    VklDevice *device = stream->device;
    VklContext *context = device->context;
    if (count > VKL_VULKAN_SEMAPHORES)
        return vkl_fail(context, &stream->error, VKL_ERROR_LIMIT, "%s: %s_count is %u; at most %d", call, kind, count,
                        VKL_VULKAN_SEMAPHORES);
    if (count && !semaphores)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: %ss is NULL, and %s_count is %u", call, kind, kind,
                        count);
    for (uint32_t i = 0; i < count; i++)
        if (!semaphores[i])
            return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: %ss[%u] of %u is VK_NULL_HANDLE", call, kind, i,
                            count);
    if (count && values && !device->info.features.timeline_semaphore)
        return vkl_fail(context, &stream->error, VKL_ERROR_UNSUPPORTED,
                        "%s: %s_values is given, but timelineSemaphore is not among the features that are enabled on '%s'", call,
                        kind, device->info.name);
    return VKL_OK;
}

VklStatus vkl_stream_submit_vulkan(VklStream *stream, const VklVulkanSubmit *submit, VklFence **fence)
{
    static const char call[] = "vkl_stream_submit_vulkan";
    if (!stream)
        return VKL_ERROR_INVALID;
    VklContext *context = stream->device->context;
    VklStatus status = check_vulkan(stream->device, call);
    if (status)
        return vkl_fail_again(&stream->error, status);
    status = vkl_stream_check_own(stream, call);
    if (status)
        return status;
    if (!submit)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: submit is NULL", call);
    if (submit->struct_size != sizeof(*submit))
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: struct_size is %zu; it must be %zu", call,
                        submit->struct_size, sizeof(*submit));
    status = check_semaphores(stream, "wait", submit->wait_count, submit->waits, submit->wait_values);
    if (!status)
        status = check_semaphores(stream, "signal", submit->signal_count, submit->signals, submit->signal_values);
    for (uint32_t i = 0; !status && submit->wait_stages && i < submit->wait_count; i++)
        if (!submit->wait_stages[i])
            status = vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: wait_stages[%u] of %u is 0", call, i,
                              submit->wait_count);
    return status ? status : vkl_stream_submit_with(stream, call, submit, fence);
}

VklVulkanSubmit vkl_vulkan_submit(void)
{
    return (VklVulkanSubmit){.struct_size = sizeof(VklVulkanSubmit)};
}

/* ---- Buffers ---- */

VklStatus vkl_buffer_wrap_vulkan(VklDevice *device, VkBuffer handle, uint64_t size, VklBuffer **buffer)
{
    if (!device)
        return VKL_ERROR_INVALID;
    VklStatus status = check_vulkan(device, "vkl_buffer_wrap_vulkan");
    if (status)
        return status;
    if (!handle || !buffer)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_buffer_wrap_vulkan: %s is NULL",
                        handle ? "buffer" : "handle");
    if (size < 4 || size % 4 || size > INT64_MAX)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID,
                        "vkl_buffer_wrap_vulkan: size is %llu bytes; it must be a multiple of 4, and at least 4",
                        (unsigned long long)size);
    VklBuffer *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    VklVkBuffer *vk = vkl_allocate(device->caps.memory, 1, sizeof(*vk));
    if (!made || !vk) {
        vkl_release(made);
        vkl_release(vk);
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_buffer_wrap_vulkan: the host refused %zu bytes",
                        sizeof(*made) + sizeof(*vk));
    }
    vk->handle = handle;
    made->device = device;
    made->usage = VKL_BUFFER_DEVICE;
    made->wrapped = true;
    made->size = size;
    made->id = atomic_fetch_add(&device->next_id, 1);
    made->impl = vk;
    *buffer = made;
    return VKL_OK;
}

VklStatus vkl_buffer_vulkan(VklBuffer *buffer, VkBuffer *handle, VkDeviceSize *offset)
{
    if (!buffer)
        return VKL_ERROR_INVALID;
    VklStatus status = check_vulkan(buffer->device, "vkl_buffer_vulkan");
    if (status)
        return status;
    if (!handle || !offset)
        return vkl_fail(buffer->device->context, NULL, VKL_ERROR_INVALID, "vkl_buffer_vulkan: %s is NULL",
                        handle ? "offset" : "handle");
    *handle = ((const VklVkBuffer *)buffer->impl)->handle;
    *offset = 0; /* each has a VkBuffer of its own */
    return VKL_OK;
}

/* SPDX-License-Identifier: MIT
 *
 * Buffers: a VkBuffer each, in memory of memory.c, and what becomes of them after they are destroyed. */
#include "vk.h"

static const char *const usage_name[] = {"device", "upload", "readback"};

/* `call`: the one that failed. */
static VkResult make(VklDevice *device, VklBufferUsage usage, uint64_t size, bool shared, VklVkBuffer *buffer, const char **call)
{
    VklVkDevice *vk = vkl_vk(device);
    /* What is flushed or invalidated is rounded to atoms; in memory that is given, only the buffer's own bytes are known to be there. */
    if (vk->memory.allocate)
        size = (size + vk->heap.atom - 1) / vk->heap.atom * vk->heap.atom;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT,
        .sharingMode = VK_SHARING_MODE_EXCLUSIVE,
    };
    if (shared && vk->family_count) {
        info.sharingMode = VK_SHARING_MODE_CONCURRENT;
        info.queueFamilyIndexCount = vk->family_count;
        info.pQueueFamilyIndices = vk->families;
    }
    VklVkBuffer made = {.owned = true};
    *call = "vkCreateBuffer";
    VkResult result = vk->functions.vkCreateBuffer(vk->handle, &info, vk->allocation, &made.handle);
    if (result)
        return result;
    result = vkl_vk_memory_allocate(device, made.handle, usage, call, &made.memory);
    if (result)
        goto fail;
    *call = "vkBindBufferMemory";
    result = vk->functions.vkBindBufferMemory(vk->handle, made.handle, made.memory.handle, made.memory.offset);
    if (result)
        goto fail_memory;
    *buffer = made;
    return VK_SUCCESS;

fail_memory:
    vkl_vk_memory_free(device, &made.memory);
fail:
    vk->functions.vkDestroyBuffer(vk->handle, made.handle, vk->allocation);
    return result;
}

VklStatus vkl_vk_buffer_make(VklDevice *device, VklBufferUsage usage, uint64_t size, bool shared, VklVkBuffer *buffer)
{
    const char *call;
    VkResult result = make(device, usage, size, shared, buffer, &call);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY) {
        vkl_vk_collect(device);
        result = make(device, usage, size, shared, buffer, &call);
    }
    if (result)
        return vkl_vk_fail(device->context, device, NULL, result, call, "a buffer of %llu bytes (%s) on '%s'",
                           (unsigned long long)size, usage_name[usage], device->info.name);
    return VKL_OK;
}

void vkl_vk_buffer_free(VklDevice *device, VklVkBuffer *buffer)
{
    VklVkDevice *vk = vkl_vk(device);
    if (!buffer->handle)
        return;
    vk->functions.vkDestroyBuffer(vk->handle, buffer->handle, vk->allocation);
    vkl_vk_memory_free(device, &buffer->memory);
    buffer->handle = VK_NULL_HANDLE;
}

void vkl_vk_collect(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    uint64_t completed = atomic_load(&vk->completed);
    VklVkBuffer *done = NULL;
    pthread_mutex_lock(&vk->heap.mutex);
    for (VklVkBuffer **link = &vk->garbage; *link;) {
        VklVkBuffer *buffer = *link;
        if (buffer->serial > completed) {
            link = &buffer->next;
            continue;
        }
        *link = buffer->next;
        buffer->next = done;
        done = buffer;
    }
    pthread_mutex_unlock(&vk->heap.mutex);
    while (done) {
        VklVkBuffer *buffer = done;
        done = buffer->next;
        vkl_vk_buffer_free(device, buffer);
        vkl_release(buffer);
    }
}

/* Where the host cannot reach the memory, the device fills it. Nothing waits for that: whatever uses the buffer is submitted later to
 * the same queue, and begins with a barrier. */
static VklStatus zero_on_device(VklBuffer *buffer)
{
    VklVkDevice *vk = vkl_vk(buffer->device);
    VklTransferArgs args = {.kind = VKL_TRANSFER_FILL, .dst = vkl_slice(buffer, 0), .size = buffer->size};
    VklStatus status = VKL_OK;
    pthread_mutex_lock(&vk->zero_mutex);
    if (!vk->zero_stream.impl) {
        vk->zero_stream.device = buffer->device;
        status = vkl_vk_stream_create(&vk->zero_stream);
    }
    if (!status)
        status = vkl_vk_stream_transfer(&vk->zero_stream, &args);
    if (!status)
        status = vkl_vk_stream_submit(&vk->zero_stream, NULL, NULL);
    pthread_mutex_unlock(&vk->zero_mutex);
    return status;
}

VklStatus vkl_vk_buffer_create(VklBuffer *buffer)
{
    VklDevice *device = buffer->device;
    VklVkBuffer *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_buffer_create: the host refused %zu bytes",
                        sizeof(*made));
    vkl_vk_collect(device);
    VklStatus status = vkl_vk_buffer_make(device, buffer->usage, buffer->size, true, made);
    if (status) {
        vkl_release(made);
        return status;
    }
    buffer->impl = made;
    vkl_vk_name(device, VK_OBJECT_TYPE_BUFFER, (uint64_t)made->handle, "vklstm buffer %llu (%s)", (unsigned long long)buffer->id,
                usage_name[buffer->usage]);
    if (made->memory.host) {
        memset(made->memory.host, 0, (size_t)buffer->size);
        VkResult result = vkl_vk_memory_flush(device, &made->memory, 0, buffer->size);
        if (result)
            status = vkl_vk_fail(device->context, device, NULL, result, "vkFlushMappedMemoryRanges", "%llu zeros",
                                 (unsigned long long)buffer->size);
    } else {
        status = zero_on_device(buffer);
    }
    if (status) {
        vkl_vk_buffer_destroy(buffer);
        return status;
    }
    if (buffer->usage != VKL_BUFFER_DEVICE)
        buffer->host = made->memory.host;
    return VKL_OK;
}

void vkl_vk_buffer_destroy(VklBuffer *buffer)
{
    VklVkDevice *vk = vkl_vk(buffer->device);
    VklVkBuffer *made = buffer->impl;
    buffer->impl = NULL;
    if (!made->owned) {
        vkl_release(made);
        return;
    }
    made->serial = atomic_load(&vk->submitted);
    pthread_mutex_lock(&vk->heap.mutex);
    made->next = vk->garbage;
    vk->garbage = made;
    pthread_mutex_unlock(&vk->heap.mutex);
    vkl_vk_collect(buffer->device);
}

VklStatus vkl_vk_buffer_flush(VklBuffer *buffer, uint64_t offset, uint64_t size)
{
    const VklVkBuffer *vk = buffer->impl;
    VkResult result = vkl_vk_memory_flush(buffer->device, &vk->memory, offset, size);
    return result ? vkl_vk_fail(buffer->device->context, buffer->device, NULL, result, "vkFlushMappedMemoryRanges",
                                "%llu bytes at offset %llu", (unsigned long long)size, (unsigned long long)offset)
                  : VKL_OK;
}

VklStatus vkl_vk_buffer_invalidate(VklBuffer *buffer, uint64_t offset, uint64_t size)
{
    const VklVkBuffer *vk = buffer->impl;
    VkResult result = vkl_vk_memory_invalidate(buffer->device, &vk->memory, offset, size);
    return result ? vkl_vk_fail(buffer->device->context, buffer->device, NULL, result, "vkInvalidateMappedMemoryRanges",
                                "%llu bytes at offset %llu", (unsigned long long)size, (unsigned long long)offset)
                  : VKL_OK;
}

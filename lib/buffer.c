/* SPDX-License-Identifier: MIT */
#include "internal.h"

VklStatus vkl_buffer_create(VklDevice *device, VklBufferUsage usage, uint64_t size, VklBuffer **buffer)
{
    if (!device)
        return VKL_ERROR_INVALID;
    VklContext *context = device->context;
    if (!buffer)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_buffer_create: buffer is NULL");
    if (usage > VKL_BUFFER_READBACK || usage < VKL_BUFFER_DEVICE)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_buffer_create: usage %d is none of VklBufferUsage", (int)usage);
    if (size < 4)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_buffer_create: size is %llu bytes; it must be at least 4",
                        (unsigned long long)size);
    if (size > INT64_MAX)
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT, "vkl_buffer_create: size is %llu bytes; on '%s' it must fit 63 bits",
                        (unsigned long long)size, device->info.name);
    if (size > device->info.limits.allocation_size)
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT,
                        "vkl_buffer_create: size is %llu bytes; '%s' allows %llu in one allocation", (unsigned long long)size,
                        device->info.name, (unsigned long long)device->info.limits.allocation_size);
    VklStatus status = vkl_device_alive(device, NULL, "vkl_buffer_create");
    if (status)
        return status;
    VklBuffer *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_buffer_create: the host refused %zu bytes", sizeof(*made));
    made->device = device;
    made->usage = usage;
    made->size = (size + 3) & ~(uint64_t)3;
    made->id = atomic_fetch_add(&device->next_id, 1);
    status = device->backend->buffer_create(made);
    if (status) {
        vkl_release(made);
        return status;
    }
    *buffer = made;
    return VKL_OK;
}

void vkl_buffer_destroy(VklBuffer *buffer)
{
    if (!buffer)
        return;
    buffer->device->backend->buffer_destroy(buffer);
    vkl_release(buffer);
}

uint64_t vkl_buffer_size(const VklBuffer *buffer)
{
    return buffer->size;
}

void *vkl_buffer_data(VklBuffer *buffer)
{
    return buffer->host;
}

static VklStatus check_mapped(VklBuffer *buffer, uint64_t offset, uint64_t size, const char *call)
{
    VklContext *context = buffer->device->context;
    if (!buffer->host)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: the buffer is not mapped; its usage is VKL_BUFFER_DEVICE", call);
    if (offset > buffer->size || size > buffer->size - offset)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: bytes %llu to %llu lie beyond the buffer's %llu", call,
                        (unsigned long long)offset, (unsigned long long)(offset + size), (unsigned long long)buffer->size);
    return VKL_OK;
}

VklStatus vkl_buffer_flush(VklBuffer *buffer, uint64_t offset, uint64_t size)
{
    VklStatus status = check_mapped(buffer, offset, size, "vkl_buffer_flush");
    return status || !size ? status : buffer->device->backend->buffer_flush(buffer, offset, size);
}

VklStatus vkl_buffer_invalidate(VklBuffer *buffer, uint64_t offset, uint64_t size)
{
    VklStatus status = check_mapped(buffer, offset, size, "vkl_buffer_invalidate");
    return status || !size ? status : buffer->device->backend->buffer_invalidate(buffer, offset, size);
}

/* SPDX-License-Identifier: MIT */
#include "internal.h"

VklStatus vkl_stream_create(VklDevice *device, VklStream **stream)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!stream)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_stream_create: stream is NULL");
    VklStatus status = vkl_device_alive(device, NULL, "vkl_stream_create");
    if (status)
        return status;
    VklStream *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_stream_create: the host refused %zu bytes",
                        sizeof(*made));
    made->device = device;
    status = device->backend->stream_create(made);
    if (status) {
        vkl_release(made);
        return status;
    }
    *stream = made;
    return VKL_OK;
}

void vkl_stream_destroy(VklStream *stream)
{
    if (!stream)
        return;
    stream->device->backend->stream_destroy(stream);
    vkl_profile_destroy(stream->profile);
    vkl_release(stream);
}

const char *vkl_stream_error(const VklStream *stream)
{
    return stream->error.message;
}

static VklStatus check_alive(VklStream *stream, const char *call)
{
    return vkl_device_alive(stream->device, &stream->error, call);
}

static VklStatus check_slice(VklStream *stream, const char *call, const char *name, VklSlice slice, uint64_t size)
{
    VklContext *context = stream->device->context;
    if (!slice.buffer)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: %s has no buffer", call, name);
    if (slice.buffer->device != stream->device)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: %s belongs to another device than the stream", call,
                        name);
    if (slice.offset % 4)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID,
                        "%s: the offset of %s is %llu bytes; it must be a multiple of 4", call, name,
                        (unsigned long long)slice.offset);
    if (size % 4)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: size is %llu bytes; it must be a multiple of 4", call,
                        (unsigned long long)size);
    if (slice.offset > slice.buffer->size || size > slice.buffer->size - slice.offset)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID,
                        "%s: %llu bytes at offset %llu of %s lie beyond its buffer's %llu", call, (unsigned long long)size,
                        (unsigned long long)slice.offset, name, (unsigned long long)slice.buffer->size);
    return VKL_OK;
}

static VklStatus transfer(VklStream *stream, const VklTransferArgs *args)
{
    return args->size ? stream->device->backend->stream_transfer(stream, args) : VKL_OK;
}

VklStatus vkl_stream_check_own(VklStream *stream, const char *call)
{
    if (stream->wrapped)
        return vkl_fail(stream->device->context, &stream->error, VKL_ERROR_UNSUPPORTED,
                        "%s: the stream wraps a command buffer of the caller's, which only records", call);
    return check_alive(stream, call);
}

VklStatus vkl_stream_write(VklStream *stream, VklSlice dst, const void *data, uint64_t size)
{
    VklStatus status = vkl_stream_check_own(stream, "vkl_stream_write");
    if (!status)
        status = check_slice(stream, "vkl_stream_write", "dst", dst, size);
    if (!status && size && !data)
        status = vkl_fail(stream->device->context, &stream->error, VKL_ERROR_INVALID, "vkl_stream_write: data is NULL");
    return status ? status
                  : transfer(stream, &(VklTransferArgs){.kind = VKL_TRANSFER_WRITE, .dst = dst, .host_in = data, .size = size});
}

VklStatus vkl_stream_read(VklStream *stream, VklSlice src, void *data, uint64_t size)
{
    VklStatus status = vkl_stream_check_own(stream, "vkl_stream_read");
    if (!status)
        status = check_slice(stream, "vkl_stream_read", "src", src, size);
    if (!status && size && !data)
        status = vkl_fail(stream->device->context, &stream->error, VKL_ERROR_INVALID, "vkl_stream_read: data is NULL");
    return status ? status
                  : transfer(stream, &(VklTransferArgs){.kind = VKL_TRANSFER_READ, .src = src, .host_out = data, .size = size});
}

VklStatus vkl_stream_copy(VklStream *stream, VklSlice dst, VklSlice src, uint64_t size)
{
    VklStatus status = check_alive(stream, "vkl_stream_copy");
    if (!status)
        status = check_slice(stream, "vkl_stream_copy", "dst", dst, size);
    if (!status)
        status = check_slice(stream, "vkl_stream_copy", "src", src, size);
    if (!status && dst.buffer == src.buffer && dst.offset < src.offset + size && src.offset < dst.offset + size && size)
        status = vkl_fail(stream->device->context, &stream->error, VKL_ERROR_INVALID,
                          "vkl_stream_copy: %llu bytes at offsets %llu and %llu of one buffer overlap", (unsigned long long)size,
                          (unsigned long long)dst.offset, (unsigned long long)src.offset);
    return status ? status
                  : transfer(stream, &(VklTransferArgs){.kind = VKL_TRANSFER_COPY, .dst = dst, .src = src, .size = size});
}

VklStatus vkl_stream_fill(VklStream *stream, VklSlice dst, uint32_t value, uint64_t size)
{
    VklStatus status = check_alive(stream, "vkl_stream_fill");
    if (!status)
        status = check_slice(stream, "vkl_stream_fill", "dst", dst, size);
    return status ? status
                  : transfer(stream, &(VklTransferArgs){.kind = VKL_TRANSFER_FILL, .dst = dst, .value = value, .size = size});
}

VklStatus vkl_stream_show(VklStream *stream)
{
    VklStatus status = check_alive(stream, "vkl_stream_show");
    return status ? status : stream->device->backend->stream_transfer(stream, &(VklTransferArgs){.kind = VKL_TRANSFER_SHOW});
}

VklStatus vkl_stream_submit_with(VklStream *stream, const char *call, const struct VklVulkanSubmit *semaphores, VklFence **fence)
{
    VklFence *made = NULL;
    if (fence) {
        made = vkl_allocate(stream->device->caps.memory, 1, sizeof(*made));
        if (!made)
            return vkl_fail(stream->device->context, &stream->error, VKL_ERROR_HOST_MEMORY, "%s: the host refused %zu bytes",
                            call, sizeof(*made));
        made->stream = stream;
        made->device = stream->device;
    }
    VklStatus status = stream->device->backend->stream_submit(stream, made, semaphores);
    if (status)
        vkl_release(made);
    else if (fence)
        *fence = made;
    return status;
}

VklStatus vkl_stream_submit(VklStream *stream, VklFence **fence)
{
    VklStatus status = vkl_stream_check_own(stream, "vkl_stream_submit");
    return status ? status : vkl_stream_submit_with(stream, "vkl_stream_submit", NULL, fence);
}

VklStatus vkl_stream_wait(VklStream *stream)
{
    VklStatus status = vkl_stream_check_own(stream, "vkl_stream_wait");
    return status ? status : stream->device->backend->stream_wait(stream);
}

VklStatus vkl_fence_wait(VklFence *fence, uint64_t timeout_ns)
{
    return fence->stream->device->backend->fence_wait(fence, timeout_ns);
}

void vkl_fence_destroy(VklFence *fence)
{
    if (!fence)
        return;
    fence->device->backend->fence_destroy(fence);
    vkl_release(fence);
}

static VklStatus check_exec(VklStream *stream, const VklExec *exec, const char *call)
{
    if (!exec || exec->device != stream->device)
        return vkl_fail(stream->device->context, &stream->error, VKL_ERROR_INVALID, "%s: exec %s", call,
                        exec ? "belongs to another device than the stream" : "is NULL");
    return VKL_OK;
}

VklStatus vkl_exec_record(const VklExec *exec, VklStream *stream)
{
    if (!stream)
        return exec ? vkl_fail(exec->device->context, NULL, VKL_ERROR_INVALID, "vkl_exec_record: stream is NULL")
                    : VKL_ERROR_INVALID;
    VklStatus status = check_alive(stream, "vkl_exec_record");
    if (!status)
        status = check_exec(stream, exec, "vkl_exec_record");
    /* recording changes nothing but the count of references, which is atomic */
    return status ? status : stream->device->backend->exec_record((VklExec *)exec, stream);
}

VklStatus vkl_stream_replay(VklStream *stream, VklExec *exec, uint32_t count)
{
    VklStatus status = vkl_stream_check_own(stream, "vkl_stream_replay");
    if (!status)
        status = check_exec(stream, exec, "vkl_stream_replay");
    return status || !count ? status : stream->device->backend->exec_replay(exec, stream, count);
}

void vkl_stream_stats(const VklStream *stream, VklStreamStats *stats)
{
    *stats = stream->stats;
}

VklStatus vkl_upload(VklStream *stream, VklSlice dst, const void *data, uint64_t size)
{
    VklStatus status = vkl_stream_write(stream, dst, data, size);
    return status ? status : vkl_stream_wait(stream);
}

VklStatus vkl_download(VklStream *stream, VklSlice src, void *data, uint64_t size)
{
    VklStatus status = vkl_stream_read(stream, src, data, size);
    return status ? status : vkl_stream_wait(stream);
}

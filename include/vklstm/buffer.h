/* SPDX-License-Identifier: MIT
 *
 * VklBuffer: memory of a device. VklSlice: a place in a buffer, the form in which every array is passed.
 *
 * All arrays are float32 unless their header says otherwise; indices on the device are uint32. Offsets and sizes are bytes.
 */
#ifndef VKLSTM_BUFFER_H
#define VKLSTM_BUFFER_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklBuffer VklBuffer;

typedef enum VklBufferUsage {
    VKL_BUFFER_DEVICE = 0,  /* fast on the device; reached by vkl_stream_write() and vkl_stream_read() */
    VKL_BUFFER_UPLOAD = 1,  /* mapped; written by the host, read by kernels */
    VKL_BUFFER_READBACK = 2 /* mapped; written by kernels, read by the host */
} VklBufferUsage;

typedef struct VklSlice {
    VklBuffer *buffer; /* NULL: the array is absent, where its description allows that */
    uint64_t offset;   /* bytes, a multiple of 4 (16 for parameters, gradients, reserve and workspace) */
} VklSlice;

static inline VklSlice vkl_slice(VklBuffer *buffer, uint64_t offset)
{
    VklSlice slice;
    slice.buffer = buffer;
    slice.offset = offset;
    return slice;
}

/* Creates a buffer of `size` bytes (at least 4; rounded up to a multiple of 4), filled with zeros.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_LIMIT (beyond limits.allocation_size), VKL_ERROR_HOST_MEMORY,
 * VKL_ERROR_DEVICE_MEMORY, VKL_ERROR_DEVICE_LOST. Any thread. */
VKL_API VklStatus vkl_buffer_create(VklDevice *device, VklBufferUsage usage, uint64_t size, VklBuffer **buffer);

/* Destroys a buffer, or forgets a wrapped one. Work that was submitted may still use it: the memory is freed after that.
 * Work recorded on one of our streams but not submitted must not use it. NULL is accepted. */
VKL_API void vkl_buffer_destroy(VklBuffer *buffer);

/* In bytes. */
VKL_API uint64_t vkl_buffer_size(const VklBuffer *buffer);

/* The host's address of the first byte: for UPLOAD and READBACK buffers, and for every buffer of the CPU backend; else NULL.
 * Aligned to 64 bytes. The host must not touch what submitted work still uses. */
VKL_API void *vkl_buffer_data(VklBuffer *buffer);

/* Makes the host's writes visible to work submitted later (flush), or the device's writes, once waited for, visible to the
 * host (invalidate). Needed for UPLOAD and READBACK buffers on every device; does nothing where memory is coherent.
 * Errors: VKL_ERROR_INVALID (range beyond the buffer; not mapped), VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_buffer_flush(VklBuffer *buffer, uint64_t offset, uint64_t size);
VKL_API VklStatus vkl_buffer_invalidate(VklBuffer *buffer, uint64_t offset, uint64_t size);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT
 *
 * Host memory. Every block of the library comes from here, and through here from the context's callbacks (VklHostMemory of
 * context.h), or from the C library where there are none. A block knows where it came from: whoever lets it go needs nothing
 * but its address.
 *
 * `memory` is &context->desc.memory, or device->caps.memory, or a plan's caps->memory; NULL: the C library.
 */
#ifndef VKL_MEMORY_H
#define VKL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vklstm/context.h"

/* Of what the kernels of the CPU backend read: a line of its cache, and the widest vector. */
#define VKL_ALIGNMENT 64

/* Zero-filled, with room for `count` elements of `size` bytes, at least one byte, aligned for any object. NULL: no memory, or the product
 * does not fit. */
void *vkl_allocate(const VklHostMemory *memory, uint64_t count, size_t size);
/* The same at a multiple of VKL_ALIGNMENT, zero-filled only if it says so. Of large blocks from the C library only the pages that are
 * used become memory, either way. */
void *vkl_allocate_aligned(const VklHostMemory *memory, uint64_t count, size_t size, bool zero);
/* A block of vkl_allocate(), or NULL, made larger; what is new is undefined. NULL: the old block is as it was. */
void *vkl_reallocate(const VklHostMemory *memory, void *old, uint64_t count, size_t size);
/* NULL is accepted. */
void vkl_release(void *data);

/* A copy of a string. NULL: no memory. */
char *vkl_copy_text(const VklHostMemory *memory, const char *text);

#endif

/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* In front of every block. A copy of the callback, not the address of the context's: a context is a block too. */
typedef struct Header {
    void (*release)(void *user, void *data); /* NULL: the C library's */
    void *user;
    void *begin; /* of what was allocated */
    size_t size; /* of what is used */
} Header;

/* What the C library's functions return is aligned for any object; so is what lies a header behind it. */
#define ANY_ALIGNMENT 16
_Static_assert(sizeof(Header) % ANY_ALIGNMENT == 0 && sizeof(Header) <= VKL_ALIGNMENT, "blocks follow their headers");

static Header *header_of(void *data)
{
    return (Header *)data - 1;
}

static void *place(const VklHostMemory *memory, void *begin, size_t size, size_t alignment)
{
    uintptr_t first = (uintptr_t)begin + sizeof(Header);
    size_t gap = alignment > ANY_ALIGNMENT ? (alignment - first % alignment) % alignment : 0;
    char *data = (char *)begin + sizeof(Header) + gap;
    *header_of(data) = (Header){memory ? memory->release : NULL, memory ? memory->user : NULL, begin, size};
    return data;
}

static bool block_size(uint64_t count, size_t element, size_t alignment, size_t *size)
{
    const size_t most = PTRDIFF_MAX - sizeof(Header) - alignment;
    if (element && count > most / element)
        return false;
    *size = (size_t)count * element;
    if (!*size)
        *size = 1;
    return true;
}

static void *allocate(const VklHostMemory *memory, uint64_t count, size_t element, size_t alignment, bool zero)
{
    size_t size;
    if (!block_size(count, element, alignment, &size))
        return NULL;
    bool own = memory && memory->allocate;
    size_t front =
        sizeof(Header) > alignment ? sizeof(Header) : alignment; /* an aligned block has its header within one alignment */
    size_t total = size + (own ? front : alignment > ANY_ALIGNMENT ? front + sizeof(Header) : sizeof(Header));
    void *begin = own ? memory->allocate(memory->user, total, alignment) : calloc(1, total);
    if (!begin)
        return NULL;
    if (own && zero)
        memset(begin, 0, total);
    return place(own ? memory : NULL, begin, size, alignment);
}

void *vkl_allocate(const VklHostMemory *memory, uint64_t count, size_t size)
{
    return allocate(memory, count, size, ANY_ALIGNMENT, true);
}

void *vkl_allocate_aligned(const VklHostMemory *memory, uint64_t count, size_t size, bool zero)
{
    return allocate(memory, count, size, VKL_ALIGNMENT, zero);
}

void *vkl_reallocate(const VklHostMemory *memory, void *old, uint64_t count, size_t element)
{
    size_t size;
    if (!old)
        return vkl_allocate(memory, count, element);
    if (!block_size(count, element, ANY_ALIGNMENT, &size))
        return NULL;
    if (!header_of(old)->release) {
        void *begin = realloc(header_of(old)->begin, sizeof(Header) + size);
        return begin ? place(NULL, begin, size, ANY_ALIGNMENT) : NULL;
    }
    void *data = vkl_allocate(memory, size, 1);
    if (!data)
        return NULL;
    size_t before = header_of(old)->size;
    memcpy(data, old, before < size ? before : size);
    vkl_release(old);
    return data;
}

void vkl_release(void *data)
{
    if (!data)
        return;
    Header header = *header_of(data);
    if (header.release)
        header.release(header.user, header.begin);
    else
        free(header.begin);
}

char *vkl_copy_text(const VklHostMemory *memory, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = vkl_allocate(memory, size, 1);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

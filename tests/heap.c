/* SPDX-License-Identifier: MIT */
#include "heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x76e1571au
#define GUARD 32 /* bytes behind a block */

typedef struct Front {
    void *begin;
    size_t size;
    Heap *heap;
    size_t magic;
} Front;

static void misused(const char *what, size_t size)
{
    fprintf(stderr, "host memory: %s (%zu bytes)\n", what, size);
    abort();
}

static void *heap_allocate(void *user, size_t size, size_t alignment)
{
    Heap *heap = user;
    atomic_fetch_add(&heap->calls, 1);
    if (!size || !alignment || alignment & (alignment - 1))
        misused("no size, or an alignment that is no power of two", size);
    if (alignment > _Alignof(max_align_t))
        atomic_fetch_add(&heap->aligned, 1);
    for (size_t largest = atomic_load(&heap->largest); size > largest;)
        if (atomic_compare_exchange_weak(&heap->largest, &largest, size))
            break;
    unsigned long left = atomic_load(&heap->refuse);
    while (left && !atomic_compare_exchange_weak(&heap->refuse, &left, left - 1)) {
    }
    if (left == 1) {
        atomic_fetch_add(&heap->refused, 1);
        return NULL;
    }
    char *begin =
        size <= SIZE_MAX - 2 * alignment - sizeof(Front) - GUARD ? malloc(sizeof(Front) + 2 * alignment + size + GUARD) : NULL;
    if (!begin)
        return NULL;
    uintptr_t first = (uintptr_t)begin + sizeof(Front);
    char *data = begin + sizeof(Front) + (alignment - first % alignment) % alignment;
    if ((uintptr_t)data % (2 * alignment) == 0)
        data += alignment; /* no better than what was asked for */
    Front front = {begin, size, heap, MAGIC};
    memcpy(data - sizeof(front), &front, sizeof(front));
    memset(data, 0xa5, size);
    memset(data + size, 0xee, GUARD);
    atomic_fetch_add(&heap->live, 1);
    atomic_fetch_add(&heap->bytes, size);
    return data;
}

static void heap_release(void *user, void *data)
{
    Heap *heap = user;
    Front front;
    if (!data)
        misused("NULL is given back", 0);
    memcpy(&front, (char *)data - sizeof(front), sizeof(front));
    if (front.magic != MAGIC || front.heap != heap)
        misused("a block is given back that did not come from here, or twice", 0);
    for (size_t i = 0; i < GUARD; i++)
        if (((unsigned char *)data)[front.size + i] != 0xee)
            misused("written beyond the end of a block", front.size);
    memset((char *)data - sizeof(front), 0xdd, sizeof(front) + front.size);
    free(front.begin);
    atomic_fetch_sub(&heap->live, 1);
    atomic_fetch_sub(&heap->bytes, front.size);
}

VklHostMemory heap_memory(Heap *heap)
{
    return (VklHostMemory){.allocate = heap_allocate, .release = heap_release, .user = heap};
}

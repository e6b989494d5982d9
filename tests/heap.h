/* SPDX-License-Identifier: MIT
 *
 * Host memory for a context (VklHostMemory) that sees what the library does with it: counts, fills new blocks with rubbish,
 * guards their ends, and refuses one block when asked to. No Criterion: a block that is misused is printed and ends the
 * process. */
#ifndef VKL_TESTS_HEAP_H
#define VKL_TESTS_HEAP_H

#include <stdatomic.h>

#include "vklstm/context.h"

typedef struct Heap {
    atomic_ulong calls;    /* of allocate() */
    atomic_ulong live;     /* blocks that were not given back */
    atomic_ulong bytes;    /* in them */
    atomic_ulong refuse;   /* how many more calls until one is refused; 0: none is */
    atomic_ulong refused;  /* calls that were */
    atomic_ulong aligned;  /* calls for an alignment beyond that of malloc() */
    atomic_size_t largest; /* size asked for */
} Heap;

VklHostMemory heap_memory(Heap *heap);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Memory for packed operands, made with the device: blocks that kernels take and give back, so that no op allocates. Whoever holds
 * a block gives it back without waiting for anything but the other parts of the same op; so waiting for one ends.
 */
#ifndef VKL_CPU_SCRATCH_H
#define VKL_CPU_SCRATCH_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

#define VKL_CPU_SCRATCH_FLOATS (128 * 1024) /* of a block */

typedef struct VklCpuScratch {
    size_t threads; /* of the device */
    size_t count;
    float *blocks; /* 64-byte aligned */
    atomic_flag taken[];
} VklCpuScratch;

static inline float *scratch_take(void *scratch, size_t *index)
{
    VklCpuScratch *s = scratch;
    for (;;) {
        for (size_t i = 0; i < s->count; i++)
            if (!atomic_flag_test_and_set_explicit(&s->taken[i], memory_order_acquire)) {
                *index = i;
                return s->blocks + i * VKL_CPU_SCRATCH_FLOATS;
            }
        sched_yield();
    }
}

static inline void scratch_give(void *scratch, size_t index)
{
    VklCpuScratch *s = scratch;
    atomic_flag_clear_explicit(&s->taken[index], memory_order_release);
}

#endif

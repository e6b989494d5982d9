/* SPDX-License-Identifier: MIT
 *
 * Threads that go through time together: each has some of the rows and some of the units of a layer, and after each step those of the same
 * rows wait for each other. That is fast where each has a processor of its own, and very slow where others are in need of it: a
 * thread that is not running holds up all. So how long it takes is measured, beside the other way, and the faster one is taken.
 */
#ifndef VKL_CPU_GANG_H
#define VKL_CPU_GANG_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct VklCpuBarrier {
    atomic_uint_fast64_t arrived; /* ever */
    char padding[64 - sizeof(atomic_uint_fast64_t)];
} VklCpuBarrier;

typedef struct VklCpuGang {
    uint64_t row_groups,
        unit_groups; /* of each direction; members: row groups slower than unit groups, directions slower than both */
    atomic_uint runs;
    atomic_uint_fast64_t time[2]; /* nanoseconds lately: of threads with rows of their own, of the gang; 0: not known */
    VklCpuBarrier barriers[];     /* one for each row group and direction */
} VklCpuGang;

#define VKL_CPU_GANG_TRIES 4  /* runs that are taken in turns at first, of which the last two count: caches are cold in others */
#define VKL_CPU_GANG_PROBE 64 /* of so many runs, one is for the way that was slower */

/* Whether the next run is the gang's. Results are the same, so this may differ from run to run. */
static inline bool gang_wanted(VklCpuGang *gang)
{
    unsigned run = atomic_fetch_add_explicit(&gang->runs, 1, memory_order_relaxed);
    uint64_t rows = atomic_load_explicit(&gang->time[0], memory_order_relaxed);
    uint64_t together = atomic_load_explicit(&gang->time[1], memory_order_relaxed);
    if (run < VKL_CPU_GANG_TRIES)
        return run % 2 == 0;
    return (together <= rows) != (run % VKL_CPU_GANG_PROBE == 0);
}

static inline void gang_took(VklCpuGang *gang, bool together, double nanoseconds)
{
    uint64_t before = atomic_load_explicit(&gang->time[together], memory_order_relaxed);
    uint64_t now = nanoseconds > 1 ? (uint64_t)nanoseconds : 1;
    bool first = atomic_load_explicit(&gang->runs, memory_order_relaxed) <= VKL_CPU_GANG_TRIES;
    if (!first && now > before) /* a disturbed run is not yet a slow way */
        now = (3 * before + now + 3) / 4;
    atomic_store_explicit(&gang->time[together], now, memory_order_relaxed);
}

static inline void barrier_wait(VklCpuBarrier *barrier, uint64_t count)
{
    uint64_t ticket = atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel);
    uint64_t all = (ticket / count + 1) * count;
    for (unsigned spins = 0; atomic_load_explicit(&barrier->arrived, memory_order_acquire) < all; spins++) {
        if (spins > 2000)
            sched_yield(); /* the others may need this processor */
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
        else
            __builtin_ia32_pause();
#endif
    }
}

#endif

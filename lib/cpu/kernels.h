/* SPDX-License-Identifier: MIT
 *
 * The kernels of the CPU backend, one function for each row of the kernel list. Their contract, and what their arguments mean, stands in
 * shaders/interface.h.
 *
 * There are several sets of them, the levels. "plain" is C for any compiler: the oracle, and what is left where nothing else is. The others
 * are compiled for instruction sets: the plain files again, for the compiler to make wider vectors of, and files of their own in place of
 * those with products (vector_*.c). A device takes the best level that its machine has.
 */
#ifndef VKL_CPU_KERNELS_H
#define VKL_CPU_KERNELS_H

#include "../plan.h"

/* Does items `begin` to `end`. ptr[i] is where binding i begins; behind them the device's VklCpuScratch, memory of the exec for what the op packs,
 * and a VklCpuGang if items are its members, all begun at once, or NULL. Items may be done in any
 * order, in parts of any size, by several threads at once: the order of every sum is that of the item alone. */
typedef void (*VklCpuKernel)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);

#define VKL_CPU_SCRATCH VKL_BINDINGS
#define VKL_CPU_PACKED (VKL_BINDINGS + 1)
#define VKL_CPU_GANG (VKL_BINDINGS + 2)
#define VKL_CPU_POINTERS (VKL_BINDINGS + 3)

/* What an op packs before its items are begun. */
typedef struct VklCpuPacking {
    uint64_t floats, items, cost; /* 0: nothing; items and cost as of kernels */
    uint64_t unit_blocks;         /* a sequence's units, in what a member of a gang can take */
} VklCpuPacking;

typedef struct VklCpuLevel {
    const char *name, *title; /* title: what a device calls its driver */
    VklCpuKernel kernels[VKL_KERNEL_COUNT];
    /* How many items an op has for so many threads, and about how many multiply-adds one of them costs. NULL: as the plan says. */
    void (*items)(const VklOp *op, uint32_t threads, uint64_t *count, uint64_t *cost);
    void (*packing)(const VklOp *op, VklCpuPacking *packing);
    VklCpuKernel pack;
    uint64_t part_cost; /* multiply-adds that are worth waking a thread */
} VklCpuLevel;

/* Names of a level: VKL_CPU_LEVEL is what a file is compiled for; without it the names are those of plain C. */
#define VKL_CPU_JOIN_(level, name) vkl_cpu_##level##_##name
#define VKL_CPU_JOIN(level, name) VKL_CPU_JOIN_(level, name)
#ifdef VKL_CPU_LEVEL
#define VKL_CPU(name) VKL_CPU_JOIN(VKL_CPU_LEVEL, name)
#else
#define VKL_CPU(name) vkl_cpu_##name
#endif

#define X(name, shader, args, bindings, writable) \
    void VKL_CPU(shader)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);
VKL_KERNEL_LIST(X)
#undef X

extern const VklCpuLevel VKL_CPU(level);

/* The levels of this machine, from plain C to the best; NULL from the last on. */
const VklCpuLevel *vkl_cpu_level_at(unsigned index);

/* For tests: another level for what the device prepares from now on; false where the machine has none of that name. */
bool vkl_cpu_device_level(VklDevice *device, const char *name);

#endif

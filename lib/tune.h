/* SPDX-License-Identifier: MIT
 *
 * What plans know of a device, and the choices made from it: which kernel, in which shape, by which way through a layer. Pure functions of
 * VklCaps and sizes, so that tests/test_tune.c can have a table of them for devices that nobody here owns.
 */
#ifndef VKL_TUNE_H
#define VKL_TUNE_H

#include <stdbool.h>
#include <stdint.h>

/* Devices that want the same kernels. */
typedef enum VklArch {
    VKL_ARCH_HOST,     /* the CPU backend */
    VKL_ARCH_SOFTWARE, /* a CPU behind Vulkan: no use for shared memory, barriers cost */
    VKL_ARCH_GPU       /* any other */
} VklArch;

typedef struct VklCaps {
    VklArch arch;
    uint64_t storage_range;     /* bytes */
    uint32_t storage_alignment; /* bytes, a power of two, at least 4 */
    uint32_t storage_buffers;   /* of one kernel */
    uint32_t workgroups[3];
    uint32_t workgroup_invocations, shared_memory;
    uint32_t workgroup; /* invocations of a linear workgroup */
} VklCaps;

#endif

/* SPDX-License-Identifier: MIT
 *
 * The kernels of the CPU backend: plain C, one function for each row of the kernel list. Their contract, and what their
 * arguments mean, stands in shaders/interface.h.
 */
#ifndef VKL_CPU_KERNELS_H
#define VKL_CPU_KERNELS_H

#include "../plan.h"

/* Does items `begin` to `end` of op->work. ptr[i] is where binding i begins. Items may be done in any order, in parts of any
 * size, by several threads at once: the order of every sum is that of the item alone. */
typedef void (*VklCpuKernel)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);

#define X(name, shader, args, bindings, writable) \
    void vkl_cpu_##shader(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);
VKL_KERNEL_LIST(X)
#undef X

extern const VklCpuKernel vkl_cpu_kernels[VKL_KERNEL_COUNT];

#endif

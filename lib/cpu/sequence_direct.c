/* SPDX-License-Identifier: MIT
 *
 * What is for CPUs behind Vulkan: no plan for this backend has it, and the plain functions do. */
#include "kernels.h"

void vkl_cpu_sequence_forward(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);
void vkl_cpu_sequence_backward(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);

void VKL_CPU(sequence_direct_forward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    vkl_cpu_sequence_forward(op, ptr, begin, end);
}

void VKL_CPU(sequence_direct_backward)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    vkl_cpu_sequence_backward(op, ptr, begin, end);
}

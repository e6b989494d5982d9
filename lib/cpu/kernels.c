/* SPDX-License-Identifier: MIT */
#include "kernels.h"

const VklCpuKernel vkl_cpu_kernels[VKL_KERNEL_COUNT] = {
#define X(name, shader, args, bindings, writable) [VKL_KERNEL_##name] = vkl_cpu_##shader,
    VKL_KERNEL_LIST(X)
#undef X
};

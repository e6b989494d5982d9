/* SPDX-License-Identifier: MIT
 *
 * The kernels' SPIR-V, embedded by shaders/meson.build: entry point "main", storage buffers 0 to n - 1 in set 0, arguments as push
 * constants, specialization constants as interface.h numbers them. */
#ifndef VKL_VK_SHADERS_H
#define VKL_VK_SHADERS_H

#include <stddef.h>
#include <stdint.h>

#include "../kernels.h"

typedef struct VklShader {
    const uint32_t *code;
    size_t size; /* bytes */
} VklShader;

extern const VklShader vkl_shaders[VKL_KERNEL_COUNT];

#endif

/* SPDX-License-Identifier: MIT
 *
 * What a program tells VK_LAYER_VKL_fault (fault_layer.c), and what it learns from it. The program opens the layer's library
 * before the loader does, and finds `fault_control` in it. A program that knows nothing of it, such as the command, is told by
 * the environment:
 *     VKL_FAULT=CALL[:RESULT[:NAME]]    the CALL-th call whose name contains NAME returns RESULT (default -2) */
#ifndef VKL_RIGS_FAULT_LAYER_H
#define VKL_RIGS_FAULT_LAYER_H

#include <stdatomic.h>

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

typedef struct FaultControl {
    atomic_uint until_failure; /* calls that may fail, up to the one that does; 0: none fails */
    atomic_int
        failure;      /* the VkResult of that call. VK_ERROR_DEVICE_LOST: of submits and waits alone, and the device stays lost */
    const char *only; /* NULL, or part of the names of the functions that may fail */
    const char *failed; /* the one that did */
} FaultControl;

#endif

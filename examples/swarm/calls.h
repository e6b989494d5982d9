/* SPDX-License-Identifier: MIT
 *
 * Counts what the guest does: its calls of Vulkan and of the program's allocator. A program that trusts its guest needs none of this. */
#ifndef SWARM_CALLS_H
#define SWARM_CALLS_H

#include <vklstm/vulkan.h>

typedef struct Calls {
    unsigned recorded;    /* functions whose names begin with vkCmd */
    unsigned others;      /* all other functions of the device */
    unsigned allocations; /* of host memory, and releases */
} Calls;

/* Since the program began. */
Calls calls_so_far(void);
/* Prints by name what was called since the last time, but for what is recorded. */
void calls_print_others(void);

/* For VklVulkanImport and VklContextDesc. */
VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL calls_get_instance_proc_addr(VkInstance instance, const char *name);
VklHostMemory calls_host_memory(void);

#endif

/* SPDX-License-Identifier: MIT
 *
 * volk, compiled into the library under other names, and the tables that are filled with its help.
 *
 * volk's variables are one set for the process. They are written once, when libvulkan is opened, and hold only the functions
 * that need no instance; everything else lives in tables of a context and of a device. */
#define VK_NO_PROTOTYPES
#include "vk/volk_names.h"

#include <volk.c>

#include "functions.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static VkResult opened = VK_ERROR_INITIALIZATION_FAILED;

static void open_loader(void)
{
    opened = volkInitialize();
}

PFN_vkGetInstanceProcAddr vkl_vk_loader(void)
{
    if (pthread_once(&once, open_loader) || opened)
        return NULL;
    return vkGetInstanceProcAddr;
}

const char *vkl_vk_instance_functions(VklInstanceFunctions *functions, PFN_vkGetInstanceProcAddr get, VkInstance instance)
{
#define X(name) functions->name = (PFN_##name)get(instance, #name);
    VKL_INSTANCE_FUNCTIONS(X)
    VKL_DEBUG_FUNCTIONS(X)
#undef X
    functions->cooperative_matrix_properties = get(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
#define X(name)           \
    if (!functions->name) \
        return #name;
    VKL_INSTANCE_FUNCTIONS(X)
#undef X
    return NULL;
}

typedef struct Lookup {
    PFN_vkGetDeviceProcAddr get;
    VkDevice device;
} Lookup;

static PFN_vkVoidFunction look_up(void *context, const char *name)
{
    const Lookup *lookup = context;
    return lookup->get(lookup->device, name);
}

const char *vkl_vk_device_functions(struct VolkDeviceTable *table, PFN_vkGetDeviceProcAddr get, VkDevice device)
{
    Lookup lookup = {get, device};
    memset(table, 0, sizeof(*table)); /* volk leaves out what its header was compiled without */
    volkGenLoadDeviceTable(table, &lookup, look_up);
#define X(name)       \
    if (!table->name) \
        return #name;
    VKL_DEVICE_FUNCTIONS(X)
#undef X
    return NULL;
}

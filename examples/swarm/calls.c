/* SPDX-License-Identifier: MIT */
#include "calls.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vulkan/vulkan.h>

#include "device_calls.h" /* of the tests: all that the library calls */

enum {
#define X(name, parameters, arguments) AT_##name,
    DEVICE_CALLS(X, X)
#undef X
        FUNCTIONS
};

static const char *const names[] = {
#define X(name, parameters, arguments) #name,
    DEVICE_CALLS(X, X)
#undef X
};

/* Guests of one process are counted together. */
static atomic_uint calls[FUNCTIONS], allocations;
static struct {
#define X(name, parameters, arguments) PFN_##name name;
    DEVICE_CALLS(X, X)
#undef X
} real;

#define X(name, parameters, arguments)                            \
    static VKAPI_ATTR VkResult VKAPI_CALL count_##name parameters \
    {                                                             \
        atomic_fetch_add(&calls[AT_##name], 1);                   \
        return real.name arguments;                               \
    }
#define Y(name, parameters, arguments)                        \
    static VKAPI_ATTR void VKAPI_CALL count_##name parameters \
    {                                                         \
        atomic_fetch_add(&calls[AT_##name], 1);               \
        real.name arguments;                                  \
    }
DEVICE_CALLS(X, Y)
#undef X
#undef Y

/* What is not listed is not given, so nothing goes by uncounted: the import would say what is missing. */
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL get_device_proc_addr(VkDevice device, const char *name)
{
#define X(function, parameters, arguments)                                  \
    if (strcmp(name, #function) == 0) {                                     \
        real.function = (PFN_##function)vkGetDeviceProcAddr(device, name);  \
        return real.function ? (PFN_vkVoidFunction)count_##function : NULL; \
    }
    DEVICE_CALLS(X, X)
#undef X
    return NULL;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL calls_get_instance_proc_addr(VkInstance instance, const char *name)
{
    if (strcmp(name, "vkGetDeviceProcAddr") == 0)
        return (PFN_vkVoidFunction)get_device_proc_addr;
    return vkGetInstanceProcAddr(instance, name);
}

static void *allocate(void *user, size_t size, size_t alignment)
{
    (void)user;
    atomic_fetch_add(&allocations, 1);
    return aligned_alloc(alignment, (size + alignment - 1) & ~(alignment - 1));
}

static void release(void *user, void *data)
{
    (void)user;
    atomic_fetch_add(&allocations, 1);
    free(data);
}

VklHostMemory calls_host_memory(void)
{
    return (VklHostMemory){allocate, release, NULL};
}

static bool is_recorded(int function)
{
    return strncmp(names[function], "vkCmd", 5) == 0;
}

Calls calls_so_far(void)
{
    Calls all = {.allocations = atomic_load(&allocations)};
    for (int i = 0; i < FUNCTIONS; i++)
        *(is_recorded(i) ? &all.recorded : &all.others) += atomic_load(&calls[i]);
    return all;
}

void calls_print_others(void)
{
    static unsigned before[FUNCTIONS];
    for (int i = 0; i < FUNCTIONS; i++) {
        unsigned now = atomic_load(&calls[i]);
        if (now != before[i] && !is_recorded(i))
            printf("    %s %u\n", names[i], now - before[i]);
        before[i] = now;
    }
}

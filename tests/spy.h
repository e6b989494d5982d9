/* SPDX-License-Identifier: MIT
 *
 * Stands between the library and Vulkan: counts every call of a device's functions, makes one of them fail, or shows memory that lies
 * apart from the host as on a card. A device function that lib/vk/functions.h does not list is not given, so nothing goes by uncounted. */
#ifndef VKL_TESTS_SPY_H
#define VKL_TESTS_SPY_H

#include <stdatomic.h>

#include "app.h"

typedef struct Spy {
    atomic_int until_failure; /* calls that may fail, up to the one that does; 0: none fails */
    VkResult failure;
    const char *only;                 /* NULL, or the name of the one function that may fail */
    const char *failed;               /* the one that did */
    const char *missing;              /* the function that is not given */
    bool apart;                       /* memory: type 0 is the device's alone, type 1 visible and not coherent */
    uint32_t real_type;               /* of both types that are shown */
    void (*before)(const char *name); /* NULL, or called before each call, from its thread */
    const void *cache_data;           /* of the latest vkCreatePipelineCache */
    size_t cache_size;
    bool two_families;           /* a second queue family is shown, for compute alone */
    VkSharingMode sharing;       /* of the latest vkCreateBuffer */
    uint32_t sharing_families;   /* and how many families it names */
    VkDeviceSize buffer_size;    /* and its size */
    VkMappedMemoryRange range;   /* that was flushed or invalidated last */
    void *callbacks_user;        /* pUserData that every VkAllocationCallbacks should have; NULL: there should be none */
    atomic_uint other_callbacks; /* calls with another */
} Spy;
extern Spy spy;

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL spy_get_instance_proc_addr(VkInstance instance, const char *name);

/* Calls so far of the functions whose names begin with `prefix`. */
unsigned spy_calls(const char *prefix);

enum { SPY_MOST = 96 };
typedef struct SpyCounts {
    unsigned calls[SPY_MOST];
} SpyCounts;
SpyCounts spy_counts(void);
/* Calls since then that record nothing: names that do not begin with vkCmd. The first such name, or NULL. */
unsigned spy_others_since(const SpyCounts *then, const char **first);
/* As spy_calls(), since then. */
unsigned spy_calls_since(const SpyCounts *then, const char *prefix);

/* The import of a program's device through the spy; with a messenger, also names. */
VklVulkanImport spy_import(const App *app);

#endif

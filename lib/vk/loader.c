/* SPDX-License-Identifier: MIT
 *
 * The machine's Vulkan loader, opened and closed for each context that has a Vulkan instance of its own, and the tables of functions. For a
 * device of somebody else's nothing is opened: its functions come from what that program hands over. */
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "functions.h"

/* the names that the loader's own documentation gives, the one with a version first: the other comes with the development package */
static const char *const loader_names[] = {
#if defined(_WIN32)
    "vulkan-1.dll",
#elif defined(__APPLE__)
    "libvulkan.dylib",
    "libvulkan.1.dylib",
    "libMoltenVK.dylib",
#else
    "libvulkan.so.1",
    "libvulkan.so",
#endif
};

static void *library_open(const char *name)
{
#ifdef _WIN32
    return LoadLibraryA(name);
#else
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
#endif
}

static void library_close(void *library)
{
#ifdef _WIN32
    FreeLibrary(library);
#else
    dlclose(library);
#endif
}

static PFN_vkGetInstanceProcAddr library_function(void *library, const char *name)
{
#ifdef _WIN32
    return (PFN_vkGetInstanceProcAddr)(void (*)(void))GetProcAddress(library, name);
#else
    /* ISO C has no cast from a pointer to data to one to a function; POSIX says that both are the same */
    void *symbol = dlsym(library, name);
    PFN_vkGetInstanceProcAddr function;
    memcpy(&function, &symbol, sizeof(function));
    return function;
#endif
}

PFN_vkGetInstanceProcAddr vkl_vk_loader_open(void **library)
{
    for (size_t i = 0; i < sizeof(loader_names) / sizeof(*loader_names); i++) {
        void *opened = library_open(loader_names[i]);
        if (!opened)
            continue;
        PFN_vkGetInstanceProcAddr get = library_function(opened, "vkGetInstanceProcAddr");
        if (get) {
            *library = opened;
            return get;
        }
        library_close(opened);
    }
    return NULL;
}

void vkl_vk_loader_close(void *library)
{
    if (library)
        library_close(library);
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

const char *vkl_vk_device_functions(VklDeviceFunctions *functions, PFN_vkGetDeviceProcAddr get, VkDevice device)
{
#define X(name) functions->name = (PFN_##name)get(device, #name);
    VKL_DEVICE_FUNCTIONS(X)
#undef X
#define X(name)           \
    if (!functions->name) \
        return #name;
    VKL_DEVICE_FUNCTIONS(X)
#undef X
    return NULL;
}

/* SPDX-License-Identifier: MIT
 *
 * Vulkan devices: listed, created, imported, destroyed. */
#include <stdarg.h>
#include <stdio.h>

#include "wishes.h"

const VklBackend vkl_vk_backend = {
    .name = "vulkan",
    .device_destroy = vkl_vk_device_destroy,
    .cache_get = vkl_vk_cache_get,
    .cache_put = vkl_vk_cache_put,
    .buffer_create = vkl_vk_buffer_create,
    .buffer_destroy = vkl_vk_buffer_destroy,
    .buffer_flush = vkl_vk_buffer_flush,
    .buffer_invalidate = vkl_vk_buffer_invalidate,
    .stream_create = vkl_vk_stream_create,
    .stream_destroy = vkl_vk_stream_destroy,
    .stream_transfer = vkl_vk_stream_transfer,
    .stream_submit = vkl_vk_stream_submit,
    .stream_wait = vkl_vk_stream_wait,
    .fence_wait = vkl_vk_fence_wait,
    .fence_destroy = vkl_vk_fence_destroy,
    .exec_create = vkl_vk_exec_create,
    .exec_destroy = vkl_vk_exec_destroy,
    .exec_record = vkl_vk_exec_record,
    .exec_replay = vkl_vk_exec_replay,
    .exec_record_part = vkl_vk_exec_record_part,
    .timer_create = vkl_vk_timer_create,
    .timer_destroy = vkl_vk_timer_destroy,
    .piece_begin = vkl_vk_piece_begin,
    .piece_submit = vkl_vk_piece_submit,
    .piece_drop = vkl_vk_piece_drop,
    .piece_look = vkl_vk_piece_look,
};

/* A physical device as it would be, or is, with all that is wished of it. */
static VklVkPhysical wished(const VklVulkan *vulkan, uint32_t index, const VklVulkanWishes *wishes)
{
    return (VklVkPhysical){
        .functions = &vulkan->functions,
        .handle = vulkan->physical[index],
        .api_version = vulkan->api_version,
        .index = index,
        .family = wishes->queue_family,
        .features = &wishes->features,
        .extensions = {.names = wishes->extensions, .count = wishes->extension_count},
    };
}

VklStatus vkl_vk_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos)
{
    VklVulkan *vulkan;
    VklStatus status = vkl_vk_instance(context, &vulkan);
    if (status)
        return status;
    uint32_t there = vulkan ? vulkan->physical_count : 0;
    if (!infos) {
        *count = there;
        return VKL_OK;
    }
    uint32_t written = *count < there ? *count : there;
    for (uint32_t i = 0; i < written; i++) {
        VklVulkanWishes wishes;
        status = vkl_vk_wishes_get(context, &vulkan->functions, vulkan->physical[i], vulkan->api_version, &wishes);
        if (status)
            return status;
        VklVkPhysical physical = wished(vulkan, i, &wishes);
        status = vkl_vk_device_info(context, &physical, &infos[i]);
        if (status)
            return status;
    }
    *count = written;
    return VKL_OK;
}

void vkl_vk_name(VklDevice *device, VkObjectType type, uint64_t handle, const char *format, ...)
{
    VklVkDevice *vk = vkl_vk(device);
    if (!vk->debug)
        return;
    char name[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    VkDebugUtilsObjectNameInfoEXT info = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
        .objectType = type,
        .objectHandle = handle,
        .pObjectName = name,
    };
    vk->instance_functions.vkSetDebugUtilsObjectNameEXT(vk->handle, &info); /* a name that is refused is no loss */
}

/* ---- What create and import share ---- */

static bool init_mutexes(VklVkDevice *vk)
{
    pthread_mutex_t *mutexes[] = {&vk->queue_mutex, &vk->heap.mutex, &vk->pipelines.mutex, &vk->replay_mutex, &vk->zero_mutex};
    size_t count = sizeof(mutexes) / sizeof(*mutexes);
    for (size_t i = 0; i < count; i++) {
        if (pthread_mutex_init(mutexes[i], NULL)) {
            while (i--)
                pthread_mutex_destroy(mutexes[i]);
            return false;
        }
    }
    if (!pthread_cond_init(&vk->pipelines.compiled, NULL)) {
        if (!pthread_rwlock_init(&vk->pipelines.cache_lock, NULL))
            return true;
        pthread_cond_destroy(&vk->pipelines.compiled);
    }
    for (size_t i = 0; i < count; i++)
        pthread_mutex_destroy(mutexes[i]);
    return false;
}

static void finish_mutexes(VklVkDevice *vk)
{
    pthread_mutex_destroy(&vk->queue_mutex);
    pthread_mutex_destroy(&vk->heap.mutex);
    pthread_mutex_destroy(&vk->pipelines.mutex);
    pthread_mutex_destroy(&vk->replay_mutex);
    pthread_mutex_destroy(&vk->zero_mutex);
    pthread_cond_destroy(&vk->pipelines.compiled);
    pthread_rwlock_destroy(&vk->pipelines.cache_lock);
}

/* A device around `vk`, whose instance functions and physical device are known; its VkDevice comes later. */
static VklStatus new_device(VklContext *context, VklVkDevice *vk, const VklVkPhysical *physical, const VklDeviceLimits *limits,
                            VklDevice **device)
{
    VklDeviceInfo info;
    VklStatus status = vkl_vk_device_info(context, physical, &info);
    if (status)
        return status;
    VkPhysicalDeviceProperties properties;
    vk->instance_functions.vkGetPhysicalDeviceProperties(vk->physical, &properties);
    vk->instance_functions.vkGetPhysicalDeviceMemoryProperties(vk->physical, &vk->heap.properties);
    vk->heap.memory = &context->desc.memory;
    vk->heap.atom = properties.limits.nonCoherentAtomSize;
    vk->heap.alignment = 256;
    if (vk->heap.alignment < vk->heap.atom)
        vk->heap.alignment = vk->heap.atom;
    if (vk->heap.alignment < properties.limits.minStorageBufferOffsetAlignment)
        vk->heap.alignment = properties.limits.minStorageBufferOffsetAlignment;
    vkl_limits_lower(&info.limits, limits);
    status = vkl_device_new(context, &vkl_vk_backend, &info, device);
    if (!status) {
        vk->subgroup_size_control = info.features.subgroup_size_control;
        (*device)->impl = vk;
    }
    return status;
}

VklStatus vkl_vk_usable(VklContext *context, const char *caller, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                        uint32_t api_version)
{
    VkPhysicalDeviceProperties properties;
    functions->vkGetPhysicalDeviceProperties(physical, &properties);
    uint32_t version = api_version < properties.apiVersion ? api_version : properties.apiVersion, family;
    if (version < VK_API_VERSION_1_1)
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                        "%s: '%s' gives Vulkan %u.%u (instance %u.%u, device %u.%u); at least 1.1 is needed", caller,
                        properties.deviceName, VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version),
                        VK_API_VERSION_MAJOR(api_version), VK_API_VERSION_MINOR(api_version),
                        VK_API_VERSION_MAJOR(properties.apiVersion), VK_API_VERSION_MINOR(properties.apiVersion));
    if (!vkl_vk_queue_family(functions, physical, &family))
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED, "%s: '%s' has no queue for compute", caller, properties.deviceName);
    return VKL_OK;
}

/* The tables and objects that need the VkDevice. */
static VklStatus open_device(VklDevice *device, const char *caller)
{
    VklVkDevice *vk = vkl_vk(device);
    const char *missing = vkl_vk_device_functions(&vk->functions, vk->instance_functions.vkGetDeviceProcAddr, vk->handle);
    if (missing)
        return vkl_fail(device->context, NULL, VKL_ERROR_UNSUPPORTED, "%s: the driver of '%s' does not give %s", caller,
                        device->info.name, missing);
    VkPhysicalDeviceProperties properties;
    VkQueueFamilyProperties families[MOST_FAMILIES];
    uint32_t count = vkl_vk_families(&vk->instance_functions, vk->physical, families);
    vk->instance_functions.vkGetPhysicalDeviceProperties(vk->physical, &properties);
    vk->timestamp_bits = vk->queue_family < count ? families[vk->queue_family].timestampValidBits : 0;
    vk->timestamp_period = (double)properties.limits.timestampPeriod;
    return vkl_vk_pipelines_init(device);
}

/* ---- Create ---- */

static VkResult create_handle(VklVkDevice *vk, const VklVulkanWishes *wishes)
{
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = wishes->queue_family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &wishes->features,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = wishes->extension_count,
        .ppEnabledExtensionNames = wishes->extensions,
    };
    return vk->instance_functions.vkCreateDevice(vk->physical, &info, vk->allocation, &vk->handle);
}

VklStatus vkl_vk_device_create(VklContext *context, uint32_t index, const VklDeviceLimits *limits, VklDevice **device)
{
    VklVulkan *vulkan;
    VklStatus status = vkl_vk_instance(context, &vulkan);
    if (status)
        return status;
    uint32_t there = vulkan ? vulkan->physical_count : 0;
    if (index >= there)
        return vkl_fail(context, NULL, VKL_ERROR_NO_DEVICE, "vkl_device_create: there is no Vulkan device %u; there are %u",
                        index, there);

    status = vkl_vk_usable(context, "vkl_device_create", &vulkan->functions, vulkan->physical[index], vulkan->api_version);
    VklVulkanWishes wishes;
    if (!status)
        status = vkl_vk_wishes_get(context, &vulkan->functions, vulkan->physical[index], vulkan->api_version, &wishes);
    if (status)
        return status;

    VklVkDevice *vk = vkl_allocate(&context->desc.memory, 1, sizeof(*vk));
    if (!vk)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused %zu bytes", sizeof(*vk));
    VklDevice *made = NULL;
    if (!init_mutexes(vk)) {
        vkl_release(vk);
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused a mutex");
    }
    vk->instance_functions = vulkan->functions;
    vk->physical = vulkan->physical[index];
    vk->queue_family = wishes.queue_family;
    const VklVkPhysical physical = wished(vulkan, index, &wishes);
    status = new_device(context, vk, &physical, limits, &made);
    if (status)
        goto fail;
    VkResult result = create_handle(vk, &wishes);
    if (result) {
        status = vkl_vk_fail(context, NULL, NULL, result, "vkCreateDevice", "'%s'", made->info.name);
        goto fail_device;
    }
    vk->debug = vulkan->messenger && vk->instance_functions.vkSetDebugUtilsObjectNameEXT;
    status = open_device(made, "vkl_device_create");
    if (status)
        goto fail_handle;
    vk->functions.vkGetDeviceQueue(vk->handle, vk->queue_family, 0, &vk->queue);
    *device = made;
    return VKL_OK;

fail_handle:
    if (vk->functions.vkDestroyDevice)
        vk->functions.vkDestroyDevice(vk->handle, vk->allocation);
fail_device:
    vkl_release(made);
fail:
    finish_mutexes(vk);
    vkl_release(vk);
    return status;
}

/* ---- Import ---- */

VklVulkanImport vkl_vulkan_import(void)
{
    return (VklVulkanImport){.struct_size = sizeof(VklVulkanImport)};
}

static VklStatus check_import(VklContext *context, const VklVulkanImport *import)
{
    const struct {
        const char *name;
        bool there;
    } handles[] = {
        {"get_instance_proc_addr", import->get_instance_proc_addr != NULL},
        {"instance", import->instance != NULL},
        {"physical_device", import->physical_device != NULL},
        {"device", import->device != NULL},
        {"queue", import->queue != NULL},
    };
    for (size_t i = 0; i < sizeof(handles) / sizeof(*handles); i++)
        if (!handles[i].there)
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_import_vulkan: %s is NULL", handles[i].name);
    if (!import->lock_queue != !import->unlock_queue)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: %s is NULL; lock_queue and unlock_queue come together",
                        import->lock_queue ? "unlock_queue" : "lock_queue");
    if (!import->memory.allocate != !import->memory.release)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: memory.%s is NULL; allocate and release come together",
                        import->memory.allocate ? "release" : "allocate");
    const VkAllocationCallbacks *allocation = import->allocation;
    if (allocation && (!allocation->pfnAllocation || !allocation->pfnReallocation || !allocation->pfnFree))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: allocation->%s is NULL; a VkAllocationCallbacks has three functions at least",
                        !allocation->pfnAllocation     ? "pfnAllocation"
                        : !allocation->pfnReallocation ? "pfnReallocation"
                                                       : "pfnFree");
    if (import->queue_family_count && !import->queue_families)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: queue_families is NULL, but queue_family_count is %u",
                        import->queue_family_count);
    if (import->extension_count && !import->extensions)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: extensions is NULL, but extension_count is %u", import->extension_count);
    for (uint32_t i = 0; i < import->extension_count; i++)
        if (!import->extensions[i])
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_import_vulkan: extensions[%u] of %u is NULL", i,
                            import->extension_count);
    return VKL_OK;
}

/* The queue's family, and those that buffers are shared among. */
static VklStatus take_families(VklContext *context, VklVkDevice *vk, const VklVulkanImport *import, const char *name)
{
    VkQueueFamilyProperties families[MOST_FAMILIES];
    uint32_t count = vkl_vk_families(&vk->instance_functions, vk->physical, families);
    if (vk->queue_family >= count)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: queue_family is %u; '%s' has %u queue families", vk->queue_family, name,
                        count);
    if (!(families[vk->queue_family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: queue family %u of '%s' has no VK_QUEUE_COMPUTE_BIT", vk->queue_family, name);
    if (vk->queue_index >= families[vk->queue_family].queueCount)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_import_vulkan: queue_index is %u; family %u of '%s' has %u queues", vk->queue_index,
                        vk->queue_family, name, families[vk->queue_family].queueCount);
    /* each once, as Vulkan wants them */
    uint32_t named = UINT32_C(1) << vk->queue_family;
    for (uint32_t i = 0; i < import->queue_family_count; i++) {
        if (import->queue_families[i] >= count)
            return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                            "vkl_device_import_vulkan: queue_families[%u] is %u; '%s' has %u queue families", i,
                            import->queue_families[i], name, count);
        named |= UINT32_C(1) << import->queue_families[i];
    }
    for (uint32_t family = 0; family < count; family++)
        if (named >> family & 1)
            vk->families[vk->family_count++] = family;
    if (vk->family_count < 2)
        vk->family_count = 0;
    return VKL_OK;
}

VklStatus vkl_device_import_vulkan(VklContext *context, const VklVulkanImport *import, VklDevice **device)
{
    if (!context)
        return VKL_ERROR_INVALID;
    if (!import || !device)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_import_vulkan: %s is NULL", import ? "device" : "import");
    if (import->struct_size != sizeof(*import))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_import_vulkan: struct_size is %zu; it must be %zu",
                        import->struct_size, sizeof(*import));
    VklStatus status = check_import(context, import);
    if (status)
        return status;

    VklVkDevice *vk = vkl_allocate(&context->desc.memory, 1, sizeof(*vk));
    if (!vk)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_import_vulkan: the host refused %zu bytes",
                        sizeof(*vk));
    if (!init_mutexes(vk)) {
        vkl_release(vk);
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_import_vulkan: the host refused a mutex");
    }
    VklDevice *made = NULL;
    const char *missing = vkl_vk_instance_functions(&vk->instance_functions, import->get_instance_proc_addr, import->instance);
    if (missing) {
        status = vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                          "vkl_device_import_vulkan: get_instance_proc_addr does not give %s", missing);
        goto fail;
    }
    vk->imported = true;
    vk->physical = import->physical_device;
    vk->handle = import->device;
    vk->queue = import->queue;
    vk->queue_family = import->queue_family;
    vk->queue_index = import->queue_index;
    vk->lock_queue = import->lock_queue;
    vk->unlock_queue = import->unlock_queue;
    vk->lock_user = import->lock_user;
    vk->memory = import->memory;
    if (import->allocation) {
        vk->allocation_copy = *import->allocation;
        vk->allocation = &vk->allocation_copy;
    }
    VkPhysicalDeviceProperties properties;
    vk->instance_functions.vkGetPhysicalDeviceProperties(vk->physical, &properties);
    status = vkl_vk_usable(context, "vkl_device_import_vulkan", &vk->instance_functions, vk->physical, import->api_version);
    if (!status)
        status = take_families(context, vk, import, properties.deviceName);
    if (status)
        goto fail;
    VklVkPhysical physical = {
        .functions = &vk->instance_functions,
        .handle = vk->physical,
        .api_version = import->api_version,
        .family = vk->queue_family,
        .features = import->features,
        .extensions = {.names = import->extensions, .count = import->extension_count},
    };
    status = new_device(context, vk, &physical, import->limits, &made);
    if (status)
        goto fail;
    /* An instance's extension, so a caller who wants our names lists it with the device's; the functions may be there, and
     * illegal to call, without it. */
    vk->debug = context->desc.debug && vk->instance_functions.vkSetDebugUtilsObjectNameEXT &&
                vkl_vk_has_extension(&physical.extensions, VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    status = open_device(made, "vkl_device_import_vulkan");
    if (status)
        goto fail_device;
    *device = made;
    return VKL_OK;

fail_device:
    vkl_release(made);
fail:
    finish_mutexes(vk);
    vkl_release(vk);
    return status;
}

/* ---- Destroy ---- */

void vkl_vk_device_destroy(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    /* Every other stream is gone, and each has waited for its own work. */
    if (vk->zero_stream.impl)
        vkl_vk_stream_destroy(&vk->zero_stream);
    atomic_store(&vk->completed, atomic_load(&vk->submitted));
    vkl_vk_collect(device);
    vkl_vk_pipelines_finish(device);
    vkl_vk_memory_finish(device);
    if (!vk->imported)
        vk->functions.vkDestroyDevice(vk->handle, vk->allocation);
    finish_mutexes(vk);
    vkl_release(vk);
}

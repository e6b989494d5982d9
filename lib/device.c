/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

VklDeviceDesc vkl_device_desc(const char *selector)
{
    return (VklDeviceDesc){.struct_size = sizeof(VklDeviceDesc), .selector = selector};
}

VklStatus vkl_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos)
{
    if (!context)
        return VKL_ERROR_INVALID;
    if (!count)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_list: count is NULL");
    uint32_t room = infos ? *count : 0;
    for (uint32_t i = 0; i < room; i++)
        if (infos[i].struct_size != sizeof(VklDeviceInfo))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_list: infos[%u].struct_size is %zu; it must be %zu", i,
                            infos[i].struct_size, sizeof(VklDeviceInfo));
    uint32_t vulkan = room > 1 ? room - 1 : 0;
    VklStatus status = vkl_vk_device_list(context, &vulkan, infos && room > 1 ? infos + 1 : NULL);
    if (status)
        return status;
    if (!infos) {
        *count = vulkan + 1;
        return VKL_OK;
    }
    if (room)
        vkl_cpu_device_info(&infos[0]);
    *count = room > 1 ? vulkan + 1 : room;
    return VKL_OK;
}

/* What kernels and plans take for granted: the minima of Vulkan 1.1, where they are not lowered for tests of splitting. */
static VklStatus check_limits(VklContext *context, const VklDeviceLimits *limits)
{
    uint64_t alignment = limits->storage_alignment < 16 ? 16 : limits->storage_alignment;
    const struct {
        const char *name;
        uint64_t value, least;
    } minima[] = {
        {"storage_range", limits->storage_range, 4 * alignment}, /* a window, and two roundings of its base */
        {"storage_buffers", limits->storage_buffers, 4},
        {"workgroups[0]", limits->workgroups[0], 1},
        {"workgroups[1]", limits->workgroups[1], 1},
        {"workgroup_size[0]", limits->workgroup_size[0], 128},
        {"workgroup_invocations", limits->workgroup_invocations, 128},
        {"shared_memory", limits->shared_memory, 16384},
        {"push_constants", limits->push_constants, 128},
    };
    for (size_t i = 0; i < sizeof(minima) / sizeof(*minima); i++)
        if (minima[i].value < minima[i].least)
            return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED, "vkl_device_create: %s is %llu; at least %llu are needed",
                            minima[i].name, (unsigned long long)minima[i].value, (unsigned long long)minima[i].least);
    if (limits->storage_alignment & (limits->storage_alignment - 1))
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                        "vkl_device_create: storage_alignment is %u; it must be a power of two", limits->storage_alignment);
    return VKL_OK;
}

VklStatus vkl_device_new(VklContext *context, const VklBackend *backend, const VklDeviceInfo *info, VklDevice **device)
{
    VklStatus status = check_limits(context, &info->limits);
    if (status)
        return status;
    VklDevice *made = vkl_allocate(&context->desc.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused %zu bytes", sizeof(*made));
    made->context = context;
    made->backend = backend;
    made->info = *info;
    made->info.struct_size = sizeof(VklDeviceInfo);
    vkl_caps_from_info(&made->caps, info);
    made->caps.memory = &context->desc.memory;
    made->caps.processors = vkl_parallel_threads(context);
    atomic_init(&made->lost, false);
    atomic_init(&made->next_id, 1);
    atomic_init(&made->pipelines, 0);
    *device = made;
    return VKL_OK;
}

VklStatus vkl_device_alive(const VklDevice *device, VklError *error, const char *call)
{
    if (!atomic_load(&device->lost))
        return VKL_OK;
    return vkl_fail(device->context, error, VKL_ERROR_DEVICE_LOST, "%s: the device '%s' is lost", call, device->info.name);
}

static bool contains(const char *text, const char *part)
{
    size_t length = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < length && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == length)
            return true;
    }
    return !length;
}

/* Lower is better; -1: never taken by "auto" */
static int rank(VklDeviceType type)
{
    switch (type) {
    case VKL_DEVICE_DISCRETE:
        return 0;
    case VKL_DEVICE_INTEGRATED:
        return 1;
    case VKL_DEVICE_VIRTUAL:
        return 2;
    default:
        return -1;
    }
}

static const VklDeviceInfo *best(const VklDeviceInfo *infos, uint32_t count)
{
    const VklDeviceInfo *found = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (rank(infos[i].type) >= 0 && (!found || rank(infos[i].type) < rank(found->type)))
            found = &infos[i];
    return found;
}

/* What there is, for the message of a selector that matches nothing. */
static void describe(char *text, size_t size, const VklDeviceInfo *infos, uint32_t count)
{
    size_t used = (size_t)snprintf(text, size, "cpu");
    for (uint32_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, ", vulkan:%u (%.60s)", infos[i].index, infos[i].name);
}

static VklStatus choose_vulkan(VklContext *context, const VklDeviceDesc *desc, const VklDeviceInfo *infos, uint32_t count,
                               VklDevice **device)
{
    const char *selector = desc->selector, *wanted = selector + strlen("vulkan");
    const VklDeviceInfo *found = NULL;
    if (!*wanted) {
        found = best(infos, count);
        if (!found && count)
            found = &infos[0];
    } else {
        wanted++;
        if (!*wanted)
            return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                            "vkl_device_create: the selector 'vulkan:' needs an index or a part of a name after the colon");
        char *end;
        unsigned long index = strtoul(wanted, &end, 10);
        bool number = isdigit((unsigned char)*wanted) && !*end;
        for (uint32_t i = 0; i < count && !found; i++)
            if (number ? infos[i].index == index : contains(infos[i].name, wanted))
                found = &infos[i];
    }
    if (!found) {
        char there[384];
        describe(there, sizeof(there), infos, count);
        return vkl_fail(context, NULL, VKL_ERROR_NO_DEVICE, "no device matches '%.60s'; there is: %s", selector, there);
    }
    return vkl_vk_device_create(context, found->index, desc->limits, device);
}

VklStatus vkl_device_create(VklContext *context, const VklDeviceDesc *desc, VklDevice **device)
{
    VklDeviceDesc chosen = vkl_device_desc(NULL);
    if (!context)
        return VKL_ERROR_INVALID;
    if (desc) {
        if (desc->struct_size != sizeof(VklDeviceDesc))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_create: struct_size is %zu; it must be %zu",
                            desc->struct_size, sizeof(VklDeviceDesc));
        chosen = *desc;
    }
    if (!device)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_device_create: device is NULL");
    if (!chosen.selector)
        chosen.selector = "auto";

    if (!strcmp(chosen.selector, "cpu"))
        return vkl_cpu_device_create(context, chosen.limits, device);
    bool automatic = !strcmp(chosen.selector, "auto");
    bool vulkan = !strncmp(chosen.selector, "vulkan", 6) && (!chosen.selector[6] || chosen.selector[6] == ':');
    if (!automatic && !vulkan)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_device_create: the selector '%.60s' is none of auto, cpu, vulkan, vulkan:INDEX, vulkan:NAME",
                        chosen.selector);

#ifndef VKL_WITH_VULKAN
    if (vulkan)
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                        "no device matches '%.60s'; this build has no Vulkan backend; there is: cpu", chosen.selector);
#endif

    uint32_t count = 0;
    VklStatus status = vkl_vk_device_list(context, &count, NULL);
    if (status)
        return status;
    VklDeviceInfo *infos = vkl_allocate(&context->desc.memory, count, sizeof(*infos));
    if (!infos)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused memory for %u devices", count);
    for (uint32_t i = 0; i < count; i++)
        infos[i].struct_size = sizeof(*infos);
    if (count)
        status = vkl_vk_device_list(context, &count, infos);
    if (!status) {
        const VklDeviceInfo *gpu = automatic ? best(infos, count) : NULL;
        if (gpu)
            status = vkl_vk_device_create(context, gpu->index, chosen.limits, device);
        else if (automatic)
            status = vkl_cpu_device_create(context, chosen.limits, device);
        else
            status = choose_vulkan(context, &chosen, infos, count, device);
    }
    vkl_release(infos);
    return status;
}

void vkl_device_destroy(VklDevice *device)
{
    if (!device)
        return;
    device->backend->device_destroy(device);
    vkl_release(device);
}

void vkl_device_info(const VklDevice *device, VklDeviceInfo *info)
{
    *info = device->info;
}

VklContext *vkl_device_context(const VklDevice *device)
{
    return device->context;
}

uint64_t vkl_device_pipelines(const VklDevice *device)
{
    return atomic_load(&device->pipelines);
}

VklStatus vkl_device_cache_get(VklDevice *device, void *data, size_t *size)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!size)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_device_cache_get: size is NULL");
    if (device->backend->cache_get)
        return device->backend->cache_get(device, data, size);
    *size = 0;
    return VKL_OK;
}

VklStatus vkl_device_cache_put(VklDevice *device, const void *data, size_t size)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!size) /* what a device without pipelines gives, or a file that is not there */
        return VKL_OK;
    if (!data)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_device_cache_put: data is NULL, and size is %zu", size);
    if (device->backend->cache_put)
        return device->backend->cache_put(device, data, size);
    return vkl_fail(device->context, NULL, VKL_ERROR_FORMAT,
                    "vkl_device_cache_put: a cache of %zu bytes is refused: '%s' has no pipelines", size, device->info.name);
}

const char *vkl_device_error(const VklDevice *device)
{
    return vkl_context_error(device->context);
}

/* SPDX-License-Identifier: MIT
 *
 * The pipeline cache as bytes that a program keeps. Drivers trust what they are given: some read beyond the end of a cache that
 * was cut short, or execute what a disk has damaged. So there is a header of ours around theirs, and nothing gets to a driver
 * that is not, bit for bit, what the same driver has returned for the same device. */
#include "vk.h"

/* All numbers little-endian. */
enum {
    MAGIC_AT = 0,   /* 8 bytes */
    VERSION_AT = 8, /* of this header */
    VENDOR_AT = 12, /* vendorID, deviceID, driverVersion of VkPhysicalDeviceProperties */
    DEVICE_AT = 16,
    DRIVER_AT = 20,
    CACHE_UUID_AT = 24,  /* pipelineCacheUUID of VkPhysicalDeviceProperties */
    DRIVER_UUID_AT = 40, /* driverUUID and deviceUUID of VkPhysicalDeviceIDProperties */
    DEVICE_UUID_AT = 56,
    LENGTH_AT = 72,   /* bytes after the header */
    CHECKSUM_AT = 80, /* of all other bytes */
    HEADER_SIZE = 96, /* the driver's bytes are aligned as the caller's are */
    VERSION = 1
};

static const unsigned char magic[8] = {'V', 'K', 'L', 'C', 'A', 'C', 'H', 'E'};

static void put_number(unsigned char *at, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(number >> (8 * i));
}

static uint64_t get_number(const unsigned char *at, int bytes)
{
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number |= (uint64_t)at[i] << (8 * i);
    return number;
}

/* FNV-1a of 64 bits: a step is a bijection of the sum so far, so no change of a single byte goes unseen. */
static uint64_t checksum(const unsigned char *data, size_t size)
{
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < size; i++)
        if (i < CHECKSUM_AT || i >= CHECKSUM_AT + 8)
            sum = (sum ^ data[i]) * UINT64_C(1099511628211);
    return sum;
}

/* All of the header but length and checksum: what must be the same. */
static void make_header(VklDevice *device, unsigned char header[HEADER_SIZE])
{
    const VklVkDevice *vk = vkl_vk(device);
    VkPhysicalDeviceIDProperties ids = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &ids};
    vk->instance_functions.vkGetPhysicalDeviceProperties2(vk->physical, &all);
    memset(header, 0, HEADER_SIZE);
    memcpy(header + MAGIC_AT, magic, sizeof(magic));
    put_number(header + VERSION_AT, VERSION, 4);
    put_number(header + VENDOR_AT, all.properties.vendorID, 4);
    put_number(header + DEVICE_AT, all.properties.deviceID, 4);
    put_number(header + DRIVER_AT, all.properties.driverVersion, 4);
    memcpy(header + CACHE_UUID_AT, all.properties.pipelineCacheUUID, VK_UUID_SIZE);
    memcpy(header + DRIVER_UUID_AT, ids.driverUUID, VK_UUID_SIZE);
    memcpy(header + DEVICE_UUID_AT, ids.deviceUUID, VK_UUID_SIZE);
}

VklStatus vkl_vk_cache_get(VklDevice *device, void *data, size_t *size)
{
    static const char caller[] = "vkl_device_cache_get";
    VklVkDevice *vk = vkl_vk(device);
    VklVkPipelines *pipelines = &vk->pipelines;
    size_t length = 0;
    pthread_rwlock_rdlock(&pipelines->cache_lock);
    VkResult result = vk->functions.vkGetPipelineCacheData(vk->handle, pipelines->cache, &length, NULL);
    if (!result && data && *size >= HEADER_SIZE + length) {
        /* what has been compiled since then and does not fit is left out: VK_INCOMPLETE */
        length = *size - HEADER_SIZE;
        result = vk->functions.vkGetPipelineCacheData(vk->handle, pipelines->cache, &length, (char *)data + HEADER_SIZE);
        result = result == VK_INCOMPLETE ? VK_SUCCESS : result;
    } else if (!result && data) {
        pthread_rwlock_unlock(&pipelines->cache_lock);
        size_t given = *size;
        *size = HEADER_SIZE + length;
        return vkl_fail(device->context, NULL, VKL_ERROR_LIMIT, "%s: *size is %zu bytes; the cache of '%s' has %zu now", caller,
                        given, device->info.name, *size);
    }
    pthread_rwlock_unlock(&pipelines->cache_lock);
    if (result)
        return vkl_vk_fail(device->context, device, NULL, result, "vkGetPipelineCacheData", "%s of '%s'", caller,
                           device->info.name);
    *size = HEADER_SIZE + length;
    if (data) {
        unsigned char *bytes = data;
        make_header(device, bytes);
        put_number(bytes + LENGTH_AT, length, 8);
        put_number(bytes + CHECKSUM_AT, checksum(bytes, *size), 8);
    }
    return VKL_OK;
}

/* Why data is refused, or NULL. */
static const char *check(VklDevice *device, const unsigned char *data, size_t size)
{
    unsigned char header[HEADER_SIZE];
    make_header(device, header);
    if (size < HEADER_SIZE || memcmp(data, magic, sizeof(magic)))
        return "it is none of vkl_device_cache_get()'s";
    if (get_number(data + VERSION_AT, 4) != VERSION)
        return "another version of vklstm has written it";
    if (get_number(data + LENGTH_AT, 8) != size - HEADER_SIZE || get_number(data + CHECKSUM_AT, 8) != checksum(data, size))
        return "it is damaged, or not all of it is there";
    if (memcmp(data, header, LENGTH_AT) ||
        memcmp(data + CHECKSUM_AT + 8, header + CHECKSUM_AT + 8, HEADER_SIZE - CHECKSUM_AT - 8))
        return "it was made on another device, or with another driver";
    return NULL;
}

VklStatus vkl_vk_cache_put(VklDevice *device, const void *data, size_t size)
{
    static const char caller[] = "vkl_device_cache_put";
    VklVkDevice *vk = vkl_vk(device);
    VklVkPipelines *pipelines = &vk->pipelines;
    const char *refused = check(device, data, size);
    if (refused)
        return vkl_fail(device->context, NULL, VKL_ERROR_FORMAT, "%s: a cache of %zu bytes is refused by '%s': %s", caller, size,
                        device->info.name, refused);
    VkPipelineCacheCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
        .initialDataSize = size - HEADER_SIZE,
        .pInitialData = (const char *)data + HEADER_SIZE,
    };
    VkPipelineCache read;
    const char *call = "vkCreatePipelineCache";
    VkResult result = vk->functions.vkCreatePipelineCache(vk->handle, &info, vk->allocation, &read);
    if (!result) {
        call = "vkMergePipelineCaches";
        pthread_rwlock_wrlock(&pipelines->cache_lock);
        result = vk->functions.vkMergePipelineCaches(vk->handle, pipelines->cache, 1, &read);
        pthread_rwlock_unlock(&pipelines->cache_lock);
        vk->functions.vkDestroyPipelineCache(vk->handle, read, vk->allocation);
    }
    return result ? vkl_vk_fail(device->context, device, NULL, result, call, "%s on '%s'", caller, device->info.name) : VKL_OK;
}

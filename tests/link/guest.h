/* SPDX-License-Identifier: MIT
 *
 * What the programs here do with vklstm and with Vulkan of their own, by turns. The including file has declared Vulkan's functions in its
 * way: libvulkan's prototypes, or volk's variables. */
#ifndef VKL_TESTS_LINK_GUEST_H
#define VKL_TESTS_LINK_GUEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vklstm/vulkan.h"

/* 77, which means "skipped", is nobody's answer here: a device that is missing is a failure. */
#define REQUIRE(condition)                                                            \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

static void on_log(void *user, VklLogLevel level, const char *message)
{
    (void)user;
    fprintf(stderr, "%s\n", message);
    if (level == VKL_LOG_VALIDATION)
        exit(1);
}

/* A round trip through a Vulkan device of vklstm's own. */
static void use_vklstm(void)
{
    VklContextDesc context_desc = vkl_context_desc();
    context_desc.log = on_log;
    context_desc.debug = true;
    const char *selector = getenv("VKL_TEST_DEVICE");
    VklDeviceDesc device_desc = vkl_device_desc(selector ? selector : "vulkan");
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklStream *stream = NULL;
    VklBuffer *buffer = NULL;
    const float want[3] = {1, 2, 3};
    float got[3] = {0};
    REQUIRE(!vkl_context_create(&context_desc, &context));
    REQUIRE(!vkl_device_create(context, &device_desc, &device));
    REQUIRE(!vkl_stream_create(device, &stream));
    REQUIRE(!vkl_buffer_create(device, VKL_BUFFER_DEVICE, sizeof(want), &buffer));
    REQUIRE(!vkl_stream_write(stream, vkl_slice(buffer, 0), want, sizeof(want)));
    REQUIRE(!vkl_stream_read(stream, vkl_slice(buffer, 0), got, sizeof(got)));
    REQUIRE(!vkl_stream_wait(stream));
    REQUIRE(!memcmp(got, want, sizeof(want)));
    vkl_buffer_destroy(buffer);
    vkl_stream_destroy(stream);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

static VkInstance create_instance(void)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance = VK_NULL_HANDLE;
    REQUIRE(!vkCreateInstance(&info, NULL, &instance));
    return instance;
}

static void use_vulkan(VkInstance instance)
{
    uint32_t count = 0;
    REQUIRE(!vkEnumeratePhysicalDevices(instance, &count, NULL));
    REQUIRE(count > 0);
}

#endif

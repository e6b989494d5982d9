/* SPDX-License-Identifier: MIT
 *
 * A program with a Vulkan device of its own, without the library's help: what vklstm is a guest of. No Criterion, so that plain programs
 * can be made of it too: what goes wrong is printed and ends the process. */
#ifndef VKL_TESTS_APP_H
#define VKL_TESTS_APP_H

#define VK_NO_PROTOTYPES
#include <stdio.h>
#include <stdlib.h>

#include "vklstm/vulkan.h"

#define APP_CHECK(condition, ...)                                           \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
            fflush(stderr);                                                 \
            abort();                                                        \
        }                                                                   \
    } while (0)

#define CHECK_VK(call)                                                   \
    do {                                                                 \
        VkResult result_ = (call);                                       \
        APP_CHECK(result_ >= 0, "%s: VkResult %d", #call, (int)result_); \
    } while (0)

#define APP_GLOBAL_FUNCTIONS(X) \
    X(vkCreateInstance)         \
    X(vkEnumerateInstanceExtensionProperties)

#define APP_INSTANCE_FUNCTIONS(X)          \
    X(vkCreateDebugUtilsMessengerEXT)      \
    X(vkCreateDevice)                      \
    X(vkDestroyDebugUtilsMessengerEXT)     \
    X(vkDestroyInstance)                   \
    X(vkEnumeratePhysicalDevices)          \
    X(vkGetDeviceProcAddr)                 \
    X(vkGetPhysicalDeviceFeatures2)        \
    X(vkGetPhysicalDeviceMemoryProperties) \
    X(vkGetPhysicalDeviceProperties)       \
    X(vkGetPhysicalDeviceQueueFamilyProperties)

/* Those of a device: all that the library uses, which the spy passes on, and these. */
#define APP_DEVICE_FUNCTIONS(X)      \
    X(vkAllocateCommandBuffers)      \
    X(vkAllocateMemory)              \
    X(vkBeginCommandBuffer)          \
    X(vkBindBufferMemory)            \
    X(vkCmdCopyBuffer)               \
    X(vkCmdFillBuffer)               \
    X(vkCmdPipelineBarrier)          \
    X(vkCreateBuffer)                \
    X(vkCreateCommandPool)           \
    X(vkCreateSemaphore)             \
    X(vkDestroyBuffer)               \
    X(vkDestroyCommandPool)          \
    X(vkDestroyDevice)               \
    X(vkDestroySemaphore)            \
    X(vkDeviceWaitIdle)              \
    X(vkEndCommandBuffer)            \
    X(vkFreeMemory)                  \
    X(vkGetBufferMemoryRequirements) \
    X(vkGetDeviceQueue)              \
    X(vkMapMemory)                   \
    X(vkQueueSubmit)                 \
    X(vkQueueWaitIdle)

/* In a test's process there is one program, so its functions may be global. */
typedef struct AppVulkan {
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
#define X(name) PFN_##name name;
    APP_GLOBAL_FUNCTIONS(X)
    APP_INSTANCE_FUNCTIONS(X)
    APP_DEVICE_FUNCTIONS(X)
#undef X
} AppVulkan;
extern AppVulkan vk;

typedef struct App {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkDevice device;
    uint32_t family;
    VkQueue queue;
    VkCommandPool pool;
    VkCommandBuffer commands;
} App;

typedef struct AppBuffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    void *host;
} AppBuffer;

/* On the physical device that VKL_TEST_DEVICE asks for; with a chain of features and the Vulkan version of the instance, or
 * NULL and 0 (1.1). */
App app_start(void);
App app_start_with(void *features, uint32_t api_version);
/* `ask` completes what the device is made with, when instance and physical device are there. */
App app_start_asking(void (*ask)(App *app, VkDeviceCreateInfo *info, void *user), void *user, uint32_t api_version);
void app_stop(App *app);

VkCommandPool app_pool(App *app);
VkCommandBuffer app_commands(App *app, VkCommandPool pool);
/* A memory type of `bits` that the host sees. */
uint32_t app_visible_type(App *app, uint32_t bits);
/* Visible to the host, zeros. */
AppBuffer app_buffer(App *app, VkDeviceSize size);
void app_buffer_destroy(App *app, AppBuffer *buffer);

void app_begin(VkCommandBuffer commands);
void app_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written, VkPipelineStageFlags to,
                 VkAccessFlags read);
/* What was written becomes visible to the host; submits and waits. */
void app_run(App *app, VkCommandBuffer commands);
/* The device still works for its owner. */
void app_check_usable(App *app);

#endif

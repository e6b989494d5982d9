/* SPDX-License-Identifier: MIT */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void check(VkResult result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: VkResult %d\n", what, (int)result);
        exit(1);
    }
}

double now(void)
{
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec * 1000 + (double)time.tv_nsec / 1e6;
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)severity, (void)types;
    Gpu *gpu = user;
    gpu->messages++;
    fprintf(stderr, "validation: %s\n", data->pMessage);
    return VK_FALSE;
}

static void make_instance(Gpu *gpu, const char *const *wanted, uint32_t count)
{
    VkExtensionProperties there[64];
    uint32_t found = 64;
    check(vkEnumerateInstanceExtensionProperties(NULL, &found, there), "vkEnumerateInstanceExtensionProperties");
    const char *extensions[16];
    uint32_t used = 0;
    for (uint32_t i = 0; i < count && used < 15; i++)
        extensions[used++] = wanted[i];
    bool debug = false;
    for (uint32_t i = 0; i < found; i++)
        debug = debug || strcmp(there[i].extensionName, VK_EXT_DEBUG_UTILS_EXTENSION_NAME) == 0;
    if (debug)
        extensions[used++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;

    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = gpu,
    };
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = debug ? &messenger : NULL, /* also while the instance itself is made and destroyed */
        .pApplicationInfo = &application,
        .enabledExtensionCount = used,
        .ppEnabledExtensionNames = extensions,
    };
    check(vkCreateInstance(&info, NULL, &gpu->instance), "vkCreateInstance");
    if (debug) {
        PFN_vkCreateDebugUtilsMessengerEXT make =
            (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(gpu->instance, "vkCreateDebugUtilsMessengerEXT");
        check(make(gpu->instance, &messenger, NULL, &gpu->messenger), "vkCreateDebugUtilsMessengerEXT");
    }
}

static bool has_queue(VkPhysicalDevice physical, uint32_t *family)
{
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    const VkQueueFlags wanted = VK_QUEUE_GRAPHICS_BIT | VK_QUEUE_COMPUTE_BIT;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    for (*family = 0; *family < count; ++*family)
        if ((families[*family].queueFlags & wanted) == wanted)
            return true;
    return false;
}

static void pick_device(Gpu *gpu, const char *wanted)
{
    static const int merit[] = {[VK_PHYSICAL_DEVICE_TYPE_OTHER] = 1,
                                [VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU] = 4,
                                [VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU] = 5,
                                [VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU] = 3,
                                [VK_PHYSICAL_DEVICE_TYPE_CPU] = 2};
    VkPhysicalDevice physical[16];
    uint32_t count = 16;
    int best = 0;
    check(vkEnumeratePhysicalDevices(gpu->instance, &count, physical), "vkEnumeratePhysicalDevices");
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties properties;
        uint32_t family;
        char index[16];
        vkGetPhysicalDeviceProperties(physical[i], &properties);
        snprintf(index, sizeof(index), "%u", i);
        if (properties.apiVersion < VK_API_VERSION_1_1 || !has_queue(physical[i], &family) ||
            (wanted && strcmp(wanted, index) != 0 && !strstr(properties.deviceName, wanted)))
            continue;
        int value = (uint32_t)properties.deviceType < 5 ? merit[properties.deviceType] : 1;
        if (value > best) {
            best = value;
            gpu->physical = physical[i];
            gpu->properties = properties;
            gpu->family = family;
        }
    }
    if (!best) {
        fprintf(stderr, "there is no Vulkan 1.1 device %s%s with a queue for graphics and compute\n", wanted ? "like " : "",
                wanted ? wanted : "");
        exit(1);
    }
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &gpu->memory);
}

void gpu_open(Gpu *gpu, const char *device, const char *const *instance_extensions, uint32_t count, bool swapchain)
{
    make_instance(gpu, instance_extensions, count);
    pick_device(gpu, device);
    if (swapchain)
        gpu->extensions[gpu->extension_count++] = VK_KHR_SWAPCHAIN_EXTENSION_NAME;
    gpu->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
}

void gpu_start(Gpu *gpu)
{
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = gpu->family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &gpu->features,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = gpu->extension_count,
        .ppEnabledExtensionNames = gpu->extensions,
    };
    check(vkCreateDevice(gpu->physical, &info, NULL, &gpu->device), "vkCreateDevice");
    vkGetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = gpu->family,
    };
    check(vkCreateCommandPool(gpu->device, &pool, NULL, &gpu->pool), "vkCreateCommandPool");
}

void gpu_stop(Gpu *gpu)
{
    vkDestroyCommandPool(gpu->device, gpu->pool, NULL);
    vkDestroyDevice(gpu->device, NULL);
    if (gpu->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)vkGetInstanceProcAddr(gpu->instance, "vkDestroyDebugUtilsMessengerEXT");
        destroy(gpu->instance, gpu->messenger, NULL);
    }
    vkDestroyInstance(gpu->instance, NULL);
}

static VkDeviceMemory allocate(Gpu *gpu, const VkMemoryRequirements *requirements, VkMemoryPropertyFlags wanted)
{
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = requirements->size};
    VkDeviceMemory memory = VK_NULL_HANDLE;
    for (uint32_t i = 0; i < gpu->memory.memoryTypeCount && !memory; i++) {
        if (requirements->memoryTypeBits & 1u << i && (gpu->memory.memoryTypes[i].propertyFlags & wanted) == wanted) {
            info.memoryTypeIndex = i;
            check(vkAllocateMemory(gpu->device, &info, NULL, &memory), "vkAllocateMemory");
        }
    }
    if (!memory) {
        fprintf(stderr, "no memory type has the properties 0x%x\n", (unsigned)wanted);
        exit(1);
    }
    return memory;
}

Buffer buffer_make(Gpu *gpu, VkDeviceSize size, VkBufferUsageFlags usage, bool host)
{
    Buffer made = {.size = (size + 15) & ~(VkDeviceSize)15};
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = made.size, .usage = usage};
    VkMemoryRequirements requirements;
    check(vkCreateBuffer(gpu->device, &info, NULL, &made.handle), "vkCreateBuffer");
    vkGetBufferMemoryRequirements(gpu->device, made.handle, &requirements);
    made.memory = allocate(gpu, &requirements,
                           host ? VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
                                : VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    check(vkBindBufferMemory(gpu->device, made.handle, made.memory, 0), "vkBindBufferMemory");
    if (host)
        check(vkMapMemory(gpu->device, made.memory, 0, VK_WHOLE_SIZE, 0, &made.host), "vkMapMemory");
    return made;
}

void buffer_free(Gpu *gpu, Buffer *buffer)
{
    vkDestroyBuffer(gpu->device, buffer->handle, NULL);
    vkFreeMemory(gpu->device, buffer->memory, NULL);
}

Image image_make(Gpu *gpu, VkFormat format, uint32_t width, uint32_t height, uint32_t levels, VkImageUsageFlags usage)
{
    Image made = {.width = width, .height = height, .levels = levels};
    VkImageCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
        .imageType = VK_IMAGE_TYPE_2D,
        .format = format,
        .extent = {width, height, 1},
        .mipLevels = levels,
        .arrayLayers = 1,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .tiling = VK_IMAGE_TILING_OPTIMAL,
        .usage = usage,
    };
    VkMemoryRequirements requirements;
    check(vkCreateImage(gpu->device, &info, NULL, &made.handle), "vkCreateImage");
    vkGetImageMemoryRequirements(gpu->device, made.handle, &requirements);
    made.memory = allocate(gpu, &requirements, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    check(vkBindImageMemory(gpu->device, made.handle, made.memory, 0), "vkBindImageMemory");
    VkImageViewCreateInfo view = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_VIEW_CREATE_INFO,
        .image = made.handle,
        .viewType = VK_IMAGE_VIEW_TYPE_2D,
        .format = format,
        .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, levels, 0, 1},
    };
    check(vkCreateImageView(gpu->device, &view, NULL, &made.all), "vkCreateImageView");
    view.subresourceRange.levelCount = 1;
    check(vkCreateImageView(gpu->device, &view, NULL, &made.top), "vkCreateImageView");
    return made;
}

void image_free(Gpu *gpu, Image *image)
{
    vkDestroyImageView(gpu->device, image->all, NULL);
    vkDestroyImageView(gpu->device, image->top, NULL);
    vkDestroyImage(gpu->device, image->handle, NULL);
    vkFreeMemory(gpu->device, image->memory, NULL);
}

VkCommandBuffer commands_make(Gpu *gpu)
{
    VkCommandBuffer made;
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = gpu->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    check(vkAllocateCommandBuffers(gpu->device, &info, &made), "vkAllocateCommandBuffers");
    return made;
}

void commands_begin(VkCommandBuffer commands)
{
    VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
    };
    check(vkBeginCommandBuffer(commands, &begin), "vkBeginCommandBuffer");
}

void commands_finish(Gpu *gpu, VkCommandBuffer commands)
{
    check(vkEndCommandBuffer(commands), "vkEndCommandBuffer");
    VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    check(vkQueueSubmit(gpu->queue, 1, &submit, VK_NULL_HANDLE), "vkQueueSubmit");
    check(vkQueueWaitIdle(gpu->queue), "vkQueueWaitIdle");
}

void barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags writes, VkPipelineStageFlags to,
             VkAccessFlags reads)
{
    VkMemoryBarrier memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = writes, .dstAccessMask = reads};
    vkCmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

void image_barrier(VkCommandBuffer commands, VkImage image, uint32_t level, uint32_t levels, VkImageLayout before,
                   VkImageLayout after, VkPipelineStageFlags from, VkAccessFlags writes, VkPipelineStageFlags to,
                   VkAccessFlags reads)
{
    VkImageMemoryBarrier memory = {
        .sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER,
        .srcAccessMask = writes,
        .dstAccessMask = reads,
        .oldLayout = before,
        .newLayout = after,
        .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
        .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
        .image = image,
        .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, level, levels, 0, 1},
    };
    vkCmdPipelineBarrier(commands, from, to, 0, 0, NULL, 0, NULL, 1, &memory);
}

VkShaderModule shader_make(Gpu *gpu, const uint32_t *code, size_t bytes)
{
    VkShaderModule made;
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = bytes, .pCode = code};
    check(vkCreateShaderModule(gpu->device, &info, NULL, &made), "vkCreateShaderModule");
    return made;
}

VkPipeline compute_pipeline(Gpu *gpu, VkPipelineLayout layout, const uint32_t *code, size_t bytes)
{
    VkPipeline made;
    VkShaderModule shader = shader_make(gpu, code, bytes);
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main"},
        .layout = layout,
    };
    check(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &made), "vkCreateComputePipelines");
    vkDestroyShaderModule(gpu->device, shader, NULL);
    return made;
}

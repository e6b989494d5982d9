/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <string.h>

#include "app.h"

AppVulkan vk;

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)severity, (void)types, (void)user;
    fprintf(stderr, "validation: %s\n", data->pMessage);
    fflush(stderr);
    abort();
}

static void create_instance(App *app, uint32_t api_version)
{
    void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    APP_CHECK(library, "%s", dlerror());
    void *symbol = dlsym(library, "vkGetInstanceProcAddr");
    memcpy(&vk.vkGetInstanceProcAddr, &symbol, sizeof(symbol)); /* a cast from void * to a function is no ISO C */
#define X(name) vk.name = (PFN_##name)vk.vkGetInstanceProcAddr(NULL, #name);
    APP_GLOBAL_FUNCTIONS(X)
#undef X
    VkExtensionProperties there[64];
    uint32_t count = 64;
    CHECK_VK(vk.vkEnumerateInstanceExtensionProperties(NULL, &count, there));
    const char *debug_utils = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    uint32_t enabled = 0;
    for (uint32_t i = 0; i < count; i++)
        enabled |= !strcmp(there[i].extensionName, debug_utils);
    VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
    };
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = api_version};
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = enabled ? &messenger : NULL,
        .pApplicationInfo = &application,
        .enabledExtensionCount = enabled,
        .ppEnabledExtensionNames = &debug_utils,
    };
    CHECK_VK(vk.vkCreateInstance(&info, NULL, &app->instance));
#define X(name) vk.name = (PFN_##name)vk.vkGetInstanceProcAddr(app->instance, #name);
    APP_INSTANCE_FUNCTIONS(X)
#undef X
    if (enabled)
        CHECK_VK(vk.vkCreateDebugUtilsMessengerEXT(app->instance, &messenger, NULL, &app->messenger));
}

/* The physical device that VKL_TEST_DEVICE asks for. */
static VkPhysicalDevice choose(App *app)
{
    VkPhysicalDevice physical[16];
    uint32_t count = 16;
    CHECK_VK(vk.vkEnumeratePhysicalDevices(app->instance, &count, physical));
    const char *selector = getenv("VKL_TEST_DEVICE");
    const char *name = selector && !strncmp(selector, "vulkan:", 7) ? selector + 7 : "";
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties properties;
        vk.vkGetPhysicalDeviceProperties(physical[i], &properties);
        if (strstr(properties.deviceName, name))
            return physical[i];
    }
    APP_CHECK(false, "no physical device '%s' among %u", name, count);
    return VK_NULL_HANDLE;
}

VkCommandBuffer app_commands(App *app, VkCommandPool pool)
{
    VkCommandBuffer made;
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    CHECK_VK(vk.vkAllocateCommandBuffers(app->device, &info, &made));
    return made;
}

VkCommandPool app_pool(App *app)
{
    VkCommandPool made;
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = app->family,
    };
    CHECK_VK(vk.vkCreateCommandPool(app->device, &info, NULL, &made));
    return made;
}

App app_start_asking(void (*ask)(App *app, VkDeviceCreateInfo *info, void *user), void *user, uint32_t api_version)
{
    App app = {0};
    create_instance(&app, api_version ? api_version : VK_API_VERSION_1_1);
    app.physical = choose(&app);
    VkQueueFamilyProperties families[16];
    uint32_t count = 16;
    vk.vkGetPhysicalDeviceQueueFamilyProperties(app.physical, &count, families);
    while (app.family < count && !(families[app.family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        app.family++;
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = app.family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
    };
    if (ask)
        ask(&app, &info, user);
    CHECK_VK(vk.vkCreateDevice(app.physical, &info, NULL, &app.device));
#define X(name) vk.name = (PFN_##name)vk.vkGetDeviceProcAddr(app.device, #name);
    APP_DEVICE_FUNCTIONS(X)
#undef X
    vk.vkGetDeviceQueue(app.device, app.family, 0, &app.queue);
    app.pool = app_pool(&app);
    app.commands = app_commands(&app, app.pool);
    return app;
}

static void add_features(App *app, VkDeviceCreateInfo *info, void *features)
{
    (void)app;
    info->pNext = features;
}

App app_start_with(void *features, uint32_t api_version)
{
    return app_start_asking(add_features, features, api_version);
}

App app_start(void)
{
    return app_start_asking(NULL, NULL, 0);
}

void app_stop(App *app)
{
    vk.vkDestroyCommandPool(app->device, app->pool, NULL);
    vk.vkDestroyDevice(app->device, NULL);
    if (app->messenger)
        vk.vkDestroyDebugUtilsMessengerEXT(app->instance, app->messenger, NULL);
    vk.vkDestroyInstance(app->instance, NULL);
}

uint32_t app_visible_type(App *app, uint32_t bits)
{
    const VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkPhysicalDeviceMemoryProperties there;
    vk.vkGetPhysicalDeviceMemoryProperties(app->physical, &there);
    uint32_t type = 0;
    while (!(bits >> type & 1) || (there.memoryTypes[type].propertyFlags & wanted) != wanted)
        type++;
    return type;
}

AppBuffer app_buffer(App *app, VkDeviceSize size)
{
    AppBuffer made;
    VkBufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = size,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT,
    };
    CHECK_VK(vk.vkCreateBuffer(app->device, &info, NULL, &made.handle));
    VkMemoryRequirements needs;
    vk.vkGetBufferMemoryRequirements(app->device, made.handle, &needs);
    VkMemoryAllocateInfo memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = needs.size,
        .memoryTypeIndex = app_visible_type(app, needs.memoryTypeBits),
    };
    CHECK_VK(vk.vkAllocateMemory(app->device, &memory, NULL, &made.memory));
    CHECK_VK(vk.vkBindBufferMemory(app->device, made.handle, made.memory, 0));
    CHECK_VK(vk.vkMapMemory(app->device, made.memory, 0, VK_WHOLE_SIZE, 0, &made.host));
    memset(made.host, 0, size);
    return made;
}

void app_buffer_destroy(App *app, AppBuffer *buffer)
{
    vk.vkDestroyBuffer(app->device, buffer->handle, NULL);
    vk.vkFreeMemory(app->device, buffer->memory, NULL);
}

void app_begin(VkCommandBuffer commands)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    CHECK_VK(vk.vkBeginCommandBuffer(commands, &info));
}

void app_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written, VkPipelineStageFlags to,
                 VkAccessFlags read)
{
    VkMemoryBarrier memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = written,
        .dstAccessMask = read,
    };
    vk.vkCmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

void app_run(App *app, VkCommandBuffer commands)
{
    app_barrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    CHECK_VK(vk.vkEndCommandBuffer(commands));
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    CHECK_VK(vk.vkQueueSubmit(app->queue, 1, &info, VK_NULL_HANDLE));
    CHECK_VK(vk.vkQueueWaitIdle(app->queue));
}

void app_check_usable(App *app)
{
    AppBuffer buffer = app_buffer(app, 1024);
    app_begin(app->commands);
    vk.vkCmdFillBuffer(app->commands, buffer.handle, 0, VK_WHOLE_SIZE, 0x600dcafe);
    app_run(app, app->commands);
    for (int i = 0; i < 256; i++)
        APP_CHECK(((uint32_t *)buffer.host)[i] == 0x600dcafeu, "word %d", i);
    app_buffer_destroy(app, &buffer);
}

/* SPDX-License-Identifier: MIT
 *
 * The context's Vulkan instance, made when the first device is listed or created. */
#include <stdio.h>

#include "wishes.h"

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    (void)severity;
    (void)types;
    vkl_log(user, VKL_LOG_VALIDATION, "%s: %s", data->pMessageIdName ? data->pMessageIdName : "validation", data->pMessage);
    return VK_FALSE;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(VklContext *context)
{
    /* not the type GENERAL: the loader talks about the files it reads there */
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = context,
    };
}

static VkResult create_instance(VklContext *context, VklVulkan *vulkan)
{
    PFN_vkGetInstanceProcAddr get = vulkan->get_instance_proc_addr;
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)get(NULL, "vkCreateInstance");
    VklVulkanInstanceWishes wishes;
    VkResult result = vkl_vk_instance_wishes_get(context, get, &wishes);
    if (result)
        return result;
    if (!create)
        return VK_ERROR_INCOMPATIBLE_DRIVER;
    const VklVkExtensions enabled = {.names = wishes.extensions, .count = wishes.extension_count};
    const bool debug = vkl_vk_has_extension(&enabled, VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(context);
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pEngineName = "vklstm",
        .apiVersion = wishes.api_version_known,
    };
    VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = debug ? &messenger : NULL, /* for messages of vkCreateInstance and vkDestroyInstance: leaks are among them */
        .flags = wishes.flags,
        .pApplicationInfo = &application,
        .enabledExtensionCount = wishes.extension_count,
        .ppEnabledExtensionNames = wishes.extensions,
    };
    vulkan->api_version = wishes.api_version_known;
    result = create(&info, NULL, &vulkan->instance);
    VKL_VK_NULL_UNLESS(!result, vulkan->instance);
    if (result)
        return result;
    if (vkl_vk_instance_functions(&vulkan->functions, get, vulkan->instance))
        return VK_ERROR_INCOMPATIBLE_DRIVER;
    if (debug && vulkan->functions.vkCreateDebugUtilsMessengerEXT) {
        result = vulkan->functions.vkCreateDebugUtilsMessengerEXT(vulkan->instance, &messenger, NULL, &vulkan->messenger);
        VKL_VK_NULL_UNLESS(!result, vulkan->messenger);
    }
    return result;
}

static VkResult list_physical(const VklContext *context, VklVulkan *vulkan)
{
    uint32_t count = 0;
    VkResult result = vulkan->functions.vkEnumeratePhysicalDevices(vulkan->instance, &count, NULL);
    if (result || !count)
        return result;
    vulkan->physical = vkl_allocate(&context->desc.memory, count, sizeof(*vulkan->physical));
    if (!vulkan->physical)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    result = vulkan->functions.vkEnumeratePhysicalDevices(vulkan->instance, &count, vulkan->physical);
    vulkan->physical_count = count;
    return result < 0 ? result : VK_SUCCESS; /* VK_INCOMPLETE: a device has come between the calls */
}

static void destroy(VklVulkan *vulkan)
{
    if (!vulkan)
        return;
    if (vulkan->messenger)
        vulkan->functions.vkDestroyDebugUtilsMessengerEXT(vulkan->instance, vulkan->messenger, NULL);
    if (vulkan->instance && vulkan->functions.vkDestroyInstance)
        vulkan->functions.vkDestroyInstance(vulkan->instance, NULL);
    vkl_vk_loader_close(vulkan->library);
    vkl_release(vulkan->physical);
    vkl_release(vulkan);
}

VklStatus vkl_vk_instance(VklContext *context, VklVulkan **vulkan)
{
    pthread_mutex_lock(&context->mutex);
    *vulkan = context->vulkan;
    pthread_mutex_unlock(&context->mutex);
    if (*vulkan)
        return VKL_OK;
    VklVulkan *made = vkl_allocate(&context->desc.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "the host refused %zu bytes for Vulkan's instance", sizeof(*made));
    made->get_instance_proc_addr = vkl_vk_loader_open(&made->library);
    if (!made->get_instance_proc_addr) {
        destroy(made);
        return VKL_OK;
    }
    VkResult result = create_instance(context, made);
    if (!result)
        result = list_physical(context, made);
    if (result) {
        destroy(made);
        if (result == VK_ERROR_OUT_OF_HOST_MEMORY)
            return vkl_vk_fail(context, NULL, NULL, result, "vkCreateInstance", "while looking for Vulkan devices");
        /* what a loader without drivers answers is no reason to alarm anybody */
        bool usual = result == VK_ERROR_INCOMPATIBLE_DRIVER || result == VK_ERROR_INITIALIZATION_FAILED;
        vkl_log(context, usual ? VKL_LOG_INFO : VKL_LOG_WARNING, "no Vulkan devices: the loader returned %s (%d)",
                vkl_vk_result_name(result), (int)result);
        return VKL_OK;
    }

    /* Made without the lock, which the messages of a failure take; another thread may have been faster. */
    pthread_mutex_lock(&context->mutex);
    if (!context->vulkan) {
        context->vulkan = made;
        made = NULL;
    }
    *vulkan = context->vulkan;
    pthread_mutex_unlock(&context->mutex);
    destroy(made);
    return VKL_OK;
}

void vkl_vk_context_destroy(VklContext *context)
{
    destroy(context->vulkan);
    context->vulkan = NULL;
}

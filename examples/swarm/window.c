/* SPDX-License-Identifier: MIT */
#include "window.h"

#ifdef SWARM_WINDOW
#include <stdlib.h>

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>

enum { IMAGES = 8 };

struct Window {
    GLFWwindow *handle;
    Gpu *gpu;
    VkSurfaceKHR surface;
    VkSwapchainKHR swapchain;
    VkExtent2D extent;
    VkImage images[IMAGES];
    VkSemaphore acquired[2], drawn[IMAGES];
    uint32_t count, at;
};

static VkSemaphore semaphore(Gpu *gpu)
{
    VkSemaphore made;
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
    check(vkCreateSemaphore(gpu->device, &info, NULL, &made), "vkCreateSemaphore");
    return made;
}

Window *window_open(uint32_t width, uint32_t height)
{
    if (!glfwInit())
        return NULL;
    Window *window = calloc(1, sizeof(*window));
    glfwWindowHint(GLFW_CLIENT_API, GLFW_NO_API);
    glfwWindowHint(GLFW_RESIZABLE, GLFW_FALSE);
    if (window && glfwVulkanSupported())
        window->handle = glfwCreateWindow((int)width, (int)height, "swarm", NULL, NULL);
    if (window && window->handle)
        return window;
    free(window);
    glfwTerminate();
    return NULL;
}

const char *const *window_extensions(uint32_t *count)
{
    return (const char *const *)glfwGetRequiredInstanceExtensions(count);
}

void window_attach(Window *window, Gpu *gpu)
{
    window->gpu = gpu;
    VkBool32 supported = VK_FALSE;
    VkSurfaceCapabilitiesKHR can;
    VkSurfaceFormatKHR formats[32];
    uint32_t count = 32;
    check(glfwCreateWindowSurface(gpu->instance, window->handle, NULL, &window->surface), "glfwCreateWindowSurface");
    check(vkGetPhysicalDeviceSurfaceSupportKHR(gpu->physical, gpu->family, window->surface, &supported),
          "vkGetPhysicalDeviceSurfaceSupportKHR");
    check(vkGetPhysicalDeviceSurfaceCapabilitiesKHR(gpu->physical, window->surface, &can),
          "vkGetPhysicalDeviceSurfaceCapabilitiesKHR");
    check(vkGetPhysicalDeviceSurfaceFormatsKHR(gpu->physical, window->surface, &count, formats),
          "vkGetPhysicalDeviceSurfaceFormatsKHR");
    check(supported && can.supportedUsageFlags & VK_IMAGE_USAGE_TRANSFER_DST_BIT ? VK_SUCCESS : VK_ERROR_FEATURE_NOT_PRESENT,
          "the surface");
    VkSurfaceFormatKHR format = formats[0];
    for (uint32_t i = 0; i < count; i++) /* the picture has its gamma already */
        if (formats[i].format == VK_FORMAT_B8G8R8A8_UNORM || formats[i].format == VK_FORMAT_R8G8B8A8_UNORM)
            format = formats[i];
    window->extent = can.currentExtent;
    uint32_t images = can.minImageCount + 1;
    VkSwapchainCreateInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR,
        .surface = window->surface,
        .minImageCount = can.maxImageCount && images > can.maxImageCount ? can.maxImageCount : images,
        .imageFormat = format.format,
        .imageColorSpace = format.colorSpace,
        .imageExtent = can.currentExtent,
        .imageArrayLayers = 1,
        .imageUsage = VK_IMAGE_USAGE_TRANSFER_DST_BIT,
        .preTransform = can.currentTransform,
        .compositeAlpha = VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR,
        .presentMode = VK_PRESENT_MODE_FIFO_KHR,
        .clipped = VK_TRUE,
    };
    check(vkCreateSwapchainKHR(gpu->device, &info, NULL, &window->swapchain), "vkCreateSwapchainKHR");
    window->count = IMAGES;
    VkResult result = vkGetSwapchainImagesKHR(gpu->device, window->swapchain, &window->count, window->images);
    check(result == VK_INCOMPLETE ? VK_ERROR_OUT_OF_HOST_MEMORY : result, "vkGetSwapchainImagesKHR");
    for (int i = 0; i < 2; i++)
        window->acquired[i] = semaphore(gpu);
    for (uint32_t i = 0; i < window->count; i++)
        window->drawn[i] = semaphore(gpu);
}

bool window_poll(Window *window)
{
    glfwPollEvents();
    return !glfwWindowShouldClose(window->handle) && glfwGetKey(window->handle, GLFW_KEY_ESCAPE) != GLFW_PRESS;
}

void window_record(Window *window, uint32_t slot, VkCommandBuffer commands, const Image *picture)
{
    check(vkAcquireNextImageKHR(window->gpu->device, window->swapchain, UINT64_MAX, window->acquired[slot], VK_NULL_HANDLE,
                                &window->at),
          "vkAcquireNextImageKHR");
    VkImage image = window->images[window->at];
    VkImageBlit whole = {
        .srcSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
        .srcOffsets = {{0, 0, 0}, {(int32_t)picture->width, (int32_t)picture->height, 1}},
        .dstSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
        .dstOffsets = {{0, 0, 0}, {(int32_t)window->extent.width, (int32_t)window->extent.height, 1}},
    };
    image_barrier(commands, image, 0, 1, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                  VK_PIPELINE_STAGE_TRANSFER_BIT, 0, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
    vkCmdBlitImage(commands, picture->handle, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, image, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                   1, &whole, VK_FILTER_LINEAR);
    image_barrier(commands, image, 0, 1, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_PRESENT_SRC_KHR,
                  VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, 0);
}

VkSemaphore window_acquired(Window *window, uint32_t slot)
{
    return window->acquired[slot];
}

VkSemaphore window_drawn(Window *window)
{
    return window->drawn[window->at];
}

void window_present(Window *window)
{
    VkPresentInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
        .waitSemaphoreCount = 1,
        .pWaitSemaphores = &window->drawn[window->at],
        .swapchainCount = 1,
        .pSwapchains = &window->swapchain,
        .pImageIndices = &window->at,
    };
    check(vkQueuePresentKHR(window->gpu->queue, &info), "vkQueuePresentKHR");
}

void window_close(Window *window)
{
    for (int i = 0; i < 2; i++)
        vkDestroySemaphore(window->gpu->device, window->acquired[i], NULL);
    for (uint32_t i = 0; i < window->count; i++)
        vkDestroySemaphore(window->gpu->device, window->drawn[i], NULL);
    vkDestroySwapchainKHR(window->gpu->device, window->swapchain, NULL);
    vkDestroySurfaceKHR(window->gpu->instance, window->surface, NULL);
    glfwDestroyWindow(window->handle);
    glfwTerminate();
    free(window);
}
#else
Window *window_open(uint32_t width, uint32_t height)
{
    (void)width, (void)height;
    return NULL;
}

const char *const *window_extensions(uint32_t *count)
{
    *count = 0;
    return NULL;
}

void window_attach(Window *window, Gpu *gpu)
{
    (void)window, (void)gpu;
}

bool window_poll(Window *window)
{
    (void)window;
    return false;
}

void window_record(Window *window, uint32_t slot, VkCommandBuffer commands, const Image *picture)
{
    (void)window, (void)slot, (void)commands, (void)picture;
}

VkSemaphore window_acquired(Window *window, uint32_t slot)
{
    (void)window, (void)slot;
    return VK_NULL_HANDLE;
}

VkSemaphore window_drawn(Window *window)
{
    (void)window;
    return VK_NULL_HANDLE;
}

void window_present(Window *window)
{
    (void)window;
}

void window_close(Window *window)
{
    (void)window;
}
#endif

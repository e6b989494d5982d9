/* SPDX-License-Identifier: MIT
 *
 * The renderer's own Vulkan: an instance, a device with one graphics queue, buffers, images, pipelines. It prints what is wrong
 * and exits. */
#ifndef SWARM_GPU_H
#define SWARM_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vulkan/vulkan.h>

typedef struct Gpu {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger; /* where there is VK_EXT_debug_utils */
    unsigned messages;                  /* of validation layers that the environment has switched on */
    VkPhysicalDevice physical;
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    uint32_t family;
    VkQueue queue;
    VkCommandPool pool;
    const char *extensions[16]; /* that the device is made with */
    uint32_t extension_count;
    VkPhysicalDeviceFeatures2 features; /* and the features: the renderer itself needs none */
} Gpu;

typedef struct Buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    VkDeviceSize size;
    void *host; /* mapped, coherent; or NULL */
} Buffer;

typedef struct Image {
    VkImage handle;
    VkDeviceMemory memory;
    VkImageView all, top; /* every level; the first alone */
    uint32_t width, height, levels;
} Image;

void check(VkResult result, const char *what);
double now(void); /* milliseconds */

/* An instance and one of its physical devices. `device`: an index, a part of a name, or NULL: the best that there is.
 * Extensions are the window's. */
void gpu_open(Gpu *gpu, const char *device, const char *const *instance_extensions, uint32_t count, bool swapchain);
/* The device, with the extensions and features that are in gpu by then. */
void gpu_start(Gpu *gpu);
void gpu_stop(Gpu *gpu);

Buffer buffer_make(Gpu *gpu, VkDeviceSize size, VkBufferUsageFlags usage, bool host);
void buffer_free(Gpu *gpu, Buffer *buffer);
Image image_make(Gpu *gpu, VkFormat format, uint32_t width, uint32_t height, uint32_t levels, VkImageUsageFlags usage);
void image_free(Gpu *gpu, Image *image);

VkCommandBuffer commands_make(Gpu *gpu);
void commands_begin(VkCommandBuffer commands);
/* Ends, submits and waits: before the first frame alone. */
void commands_finish(Gpu *gpu, VkCommandBuffer commands);
void barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags writes, VkPipelineStageFlags to,
             VkAccessFlags reads);
void image_barrier(VkCommandBuffer commands, VkImage image, uint32_t level, uint32_t levels, VkImageLayout before,
                   VkImageLayout after, VkPipelineStageFlags from, VkAccessFlags writes, VkPipelineStageFlags to,
                   VkAccessFlags reads);

VkShaderModule shader_make(Gpu *gpu, const uint32_t *code, size_t bytes);
VkPipeline compute_pipeline(Gpu *gpu, VkPipelineLayout layout, const uint32_t *code, size_t bytes);

#endif

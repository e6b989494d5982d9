/* SPDX-License-Identifier: MIT
 *
 * Draws the agents: streaks are added to an image that fades from frame to frame, which then becomes the picture. */
#ifndef SWARM_DRAW_H
#define SWARM_DRAW_H

#include "gpu.h"
#include "world.h"

typedef struct Draw {
    Image gathered; /* floats, with levels for the glow; between frames all are VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL */
    Image picture;  /* RGBA8; after draw_record() VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, visible to transfers */
    VkRenderPass gather_pass, picture_pass;
    VkFramebuffer gather_target, picture_target;
    VkSampler sampler;
    VkDescriptorSetLayout texture_layout;
    VkDescriptorPool pool;
    VkDescriptorSet texture;
    VkPipelineLayout agents_layout, screen_layout;
    VkPipeline agents, fade, tone;
} Draw;

/* `layout` and `set`: the storage buffers, the agents at binding 0. */
void draw_init(Draw *draw, Gpu *gpu, uint32_t width, uint32_t height, VkDescriptorSetLayout layout);
void draw_finish(Draw *draw, Gpu *gpu);
/* Agents must be visible to the vertex shader, `control` at `offset` to indirect draws. */
void draw_record(const Draw *draw, VkCommandBuffer commands, const Frame *frame, VkDescriptorSet set, VkBuffer control,
                 VkDeviceSize offset);

#endif

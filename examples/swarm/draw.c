/* SPDX-License-Identifier: MIT */
#include "draw.h"

static const uint32_t agents_vert[] = {
#include "agents.vert.inc"
};
static const uint32_t agents_frag[] = {
#include "agents.frag.inc"
};
static const uint32_t screen_vert[] = {
#include "screen.vert.inc"
};
static const uint32_t fade_frag[] = {
#include "fade.frag.inc"
};
static const uint32_t tone_frag[] = {
#include "tone.frag.inc"
};

#define TRAIL 0.90f /* of a frame's light is left in the next */

static VkRenderPass render_pass(Gpu *gpu, VkFormat format, VkAttachmentLoadOp load, VkImageLayout before,
                                VkPipelineStageFlags users, VkAccessFlags uses)
{
    VkRenderPass made;
    VkAttachmentDescription attachment = {
        .format = format,
        .samples = VK_SAMPLE_COUNT_1_BIT,
        .loadOp = load,
        .storeOp = VK_ATTACHMENT_STORE_OP_STORE,
        .stencilLoadOp = VK_ATTACHMENT_LOAD_OP_DONT_CARE,
        .stencilStoreOp = VK_ATTACHMENT_STORE_OP_DONT_CARE,
        .initialLayout = before,
        .finalLayout = VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
    };
    VkAttachmentReference reference = {0, VK_IMAGE_LAYOUT_COLOR_ATTACHMENT_OPTIMAL};
    VkSubpassDescription subpass = {
        .pipelineBindPoint = VK_PIPELINE_BIND_POINT_GRAPHICS, .colorAttachmentCount = 1, .pColorAttachments = &reference};
    VkSubpassDependency dependencies[] = {
        {
            .srcSubpass = VK_SUBPASS_EXTERNAL,
            .srcStageMask = users,
            .srcAccessMask = uses,
            .dstStageMask = VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT,
            .dstAccessMask = VK_ACCESS_COLOR_ATTACHMENT_READ_BIT | VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
        },
        {
            .dstSubpass = VK_SUBPASS_EXTERNAL,
            .srcStageMask = VK_PIPELINE_STAGE_COLOR_ATTACHMENT_OUTPUT_BIT,
            .srcAccessMask = VK_ACCESS_COLOR_ATTACHMENT_WRITE_BIT,
            .dstStageMask = VK_PIPELINE_STAGE_TRANSFER_BIT,
            .dstAccessMask = VK_ACCESS_TRANSFER_READ_BIT,
        },
    };
    VkRenderPassCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_RENDER_PASS_CREATE_INFO,
        .attachmentCount = 1,
        .pAttachments = &attachment,
        .subpassCount = 1,
        .pSubpasses = &subpass,
        .dependencyCount = 2,
        .pDependencies = dependencies,
    };
    check(vkCreateRenderPass(gpu->device, &info, NULL, &made), "vkCreateRenderPass");
    return made;
}

static VkFramebuffer framebuffer(Gpu *gpu, VkRenderPass pass, const Image *image)
{
    VkFramebuffer made;
    VkFramebufferCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_FRAMEBUFFER_CREATE_INFO,
        .renderPass = pass,
        .attachmentCount = 1,
        .pAttachments = &image->top,
        .width = image->width,
        .height = image->height,
        .layers = 1,
    };
    check(vkCreateFramebuffer(gpu->device, &info, NULL, &made), "vkCreateFramebuffer");
    return made;
}

static VkPipelineLayout pipeline_layout(Gpu *gpu, VkDescriptorSetLayout set)
{
    VkPipelineLayout made;
    VkPushConstantRange range = {VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT, 0, sizeof(Frame)};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &set,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    check(vkCreatePipelineLayout(gpu->device, &info, NULL, &made), "vkCreatePipelineLayout");
    return made;
}

typedef struct Code {
    const uint32_t *words;
    size_t bytes;
} Code;

static VkPipeline graphics_pipeline(Gpu *gpu, VkPipelineLayout layout, VkRenderPass pass, const Image *target,
                                    VkPrimitiveTopology topology, Code vertex, Code fragment,
                                    const VkPipelineColorBlendAttachmentState *blend)
{
    VkPipeline made;
    VkShaderModule modules[] = {shader_make(gpu, vertex.words, vertex.bytes), shader_make(gpu, fragment.words, fragment.bytes)};
    VkPipelineShaderStageCreateInfo stages[] = {
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_VERTEX_BIT,
         .module = modules[0],
         .pName = "main"},
        {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
         .stage = VK_SHADER_STAGE_FRAGMENT_BIT,
         .module = modules[1],
         .pName = "main"},
    };
    VkPipelineVertexInputStateCreateInfo input = {.sType = VK_STRUCTURE_TYPE_PIPELINE_VERTEX_INPUT_STATE_CREATE_INFO};
    VkPipelineInputAssemblyStateCreateInfo assembly = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INPUT_ASSEMBLY_STATE_CREATE_INFO,
                                                       .topology = topology};
    VkViewport viewport = {0, 0, (float)target->width, (float)target->height, 0, 1};
    VkRect2D scissor = {{0, 0}, {target->width, target->height}};
    VkPipelineViewportStateCreateInfo viewports = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_VIEWPORT_STATE_CREATE_INFO,
        .viewportCount = 1,
        .pViewports = &viewport,
        .scissorCount = 1,
        .pScissors = &scissor,
    };
    VkPipelineRasterizationStateCreateInfo raster = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_RASTERIZATION_STATE_CREATE_INFO,
        .cullMode = VK_CULL_MODE_NONE,
        .lineWidth = 1,
    };
    VkPipelineMultisampleStateCreateInfo samples = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_MULTISAMPLE_STATE_CREATE_INFO,
        .rasterizationSamples = VK_SAMPLE_COUNT_1_BIT,
    };
    VkPipelineColorBlendStateCreateInfo blending = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_COLOR_BLEND_STATE_CREATE_INFO,
        .attachmentCount = 1,
        .pAttachments = blend,
        .blendConstants = {TRAIL, TRAIL, TRAIL, TRAIL},
    };
    VkGraphicsPipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_GRAPHICS_PIPELINE_CREATE_INFO,
        .stageCount = 2,
        .pStages = stages,
        .pVertexInputState = &input,
        .pInputAssemblyState = &assembly,
        .pViewportState = &viewports,
        .pRasterizationState = &raster,
        .pMultisampleState = &samples,
        .pColorBlendState = &blending,
        .layout = layout,
        .renderPass = pass,
    };
    check(vkCreateGraphicsPipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &made), "vkCreateGraphicsPipelines");
    for (int i = 0; i < 2; i++)
        vkDestroyShaderModule(gpu->device, modules[i], NULL);
    return made;
}

static void make_texture(Draw *draw, Gpu *gpu)
{
    VkSamplerCreateInfo sampler = {
        .sType = VK_STRUCTURE_TYPE_SAMPLER_CREATE_INFO,
        .magFilter = VK_FILTER_LINEAR,
        .minFilter = VK_FILTER_LINEAR,
        .mipmapMode = VK_SAMPLER_MIPMAP_MODE_LINEAR,
        .addressModeU = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
        .addressModeV = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
        .addressModeW = VK_SAMPLER_ADDRESS_MODE_CLAMP_TO_EDGE,
        .maxLod = VK_LOD_CLAMP_NONE,
    };
    check(vkCreateSampler(gpu->device, &sampler, NULL, &draw->sampler), "vkCreateSampler");
    VkDescriptorSetLayoutBinding binding = {0, VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1, VK_SHADER_STAGE_FRAGMENT_BIT, NULL};
    VkDescriptorSetLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 1,
        .pBindings = &binding,
    };
    check(vkCreateDescriptorSetLayout(gpu->device, &layout, NULL, &draw->texture_layout), "vkCreateDescriptorSetLayout");
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER, 1};
    VkDescriptorPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 1,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    check(vkCreateDescriptorPool(gpu->device, &pool, NULL, &draw->pool), "vkCreateDescriptorPool");
    VkDescriptorSetAllocateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = draw->pool,
        .descriptorSetCount = 1,
        .pSetLayouts = &draw->texture_layout,
    };
    check(vkAllocateDescriptorSets(gpu->device, &set, &draw->texture), "vkAllocateDescriptorSets");
    VkDescriptorImageInfo image = {draw->sampler, draw->gathered.all, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL};
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = draw->texture,
        .descriptorCount = 1,
        .descriptorType = VK_DESCRIPTOR_TYPE_COMBINED_IMAGE_SAMPLER,
        .pImageInfo = &image,
    };
    vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
}

/* Black, and in the layout that a frame begins with. */
static void clear(Draw *draw, Gpu *gpu)
{
    VkCommandBuffer commands = commands_make(gpu);
    VkClearColorValue black = {{0, 0, 0, 0}};
    VkImageSubresourceRange all = {VK_IMAGE_ASPECT_COLOR_BIT, 0, draw->gathered.levels, 0, 1};
    commands_begin(commands);
    image_barrier(commands, draw->gathered.handle, 0, draw->gathered.levels, VK_IMAGE_LAYOUT_UNDEFINED,
                  VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, 0, VK_PIPELINE_STAGE_TRANSFER_BIT,
                  VK_ACCESS_TRANSFER_WRITE_BIT);
    vkCmdClearColorImage(commands, draw->gathered.handle, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, &black, 1, &all);
    image_barrier(commands, draw->gathered.handle, 0, draw->gathered.levels, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                  VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                  VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
    commands_finish(gpu, commands);
    vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &commands);
}

void draw_init(Draw *draw, Gpu *gpu, uint32_t width, uint32_t height, VkDescriptorSetLayout layout)
{
    const VkFormat floats = VK_FORMAT_R16G16B16A16_SFLOAT,
                   bytes = VK_FORMAT_R8G8B8A8_UNORM; /* both with blending on any device */
    uint32_t levels = 1;
    while (levels < 6 && (width >> levels) >= 2 && (height >> levels) >= 2)
        levels++;
    draw->gathered = image_make(gpu, floats, width, height, levels,
                                VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_SAMPLED_BIT |
                                    VK_IMAGE_USAGE_TRANSFER_SRC_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT);
    draw->picture =
        image_make(gpu, bytes, width, height, 1, VK_IMAGE_USAGE_COLOR_ATTACHMENT_BIT | VK_IMAGE_USAGE_TRANSFER_SRC_BIT);
    draw->gather_pass =
        render_pass(gpu, floats, VK_ATTACHMENT_LOAD_OP_LOAD, VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL,
                    VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_SHADER_READ_BIT);
    draw->picture_pass =
        render_pass(gpu, bytes, VK_ATTACHMENT_LOAD_OP_DONT_CARE, VK_IMAGE_LAYOUT_UNDEFINED, VK_PIPELINE_STAGE_TRANSFER_BIT, 0);
    draw->gather_target = framebuffer(gpu, draw->gather_pass, &draw->gathered);
    draw->picture_target = framebuffer(gpu, draw->picture_pass, &draw->picture);
    make_texture(draw, gpu);
    draw->agents_layout = pipeline_layout(gpu, layout);
    draw->screen_layout = pipeline_layout(gpu, draw->texture_layout);

    VkPipelineColorBlendAttachmentState add = {
        .blendEnable = VK_TRUE,
        .srcColorBlendFactor = VK_BLEND_FACTOR_ONE,
        .dstColorBlendFactor = VK_BLEND_FACTOR_ONE,
        .srcAlphaBlendFactor = VK_BLEND_FACTOR_ZERO,
        .dstAlphaBlendFactor = VK_BLEND_FACTOR_ZERO,
        .colorWriteMask = 15,
    };
    VkPipelineColorBlendAttachmentState fade = add, replace = {.colorWriteMask = 15};
    fade.srcColorBlendFactor = VK_BLEND_FACTOR_ZERO;
    fade.dstColorBlendFactor = VK_BLEND_FACTOR_CONSTANT_COLOR;
    Code screen = {screen_vert, sizeof(screen_vert)};
    draw->agents =
        graphics_pipeline(gpu, draw->agents_layout, draw->gather_pass, &draw->gathered, VK_PRIMITIVE_TOPOLOGY_TRIANGLE_STRIP,
                          (Code){agents_vert, sizeof(agents_vert)}, (Code){agents_frag, sizeof(agents_frag)}, &add);
    draw->fade = graphics_pipeline(gpu, draw->screen_layout, draw->gather_pass, &draw->gathered,
                                   VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST, screen, (Code){fade_frag, sizeof(fade_frag)}, &fade);
    draw->tone = graphics_pipeline(gpu, draw->screen_layout, draw->picture_pass, &draw->picture,
                                   VK_PRIMITIVE_TOPOLOGY_TRIANGLE_LIST, screen, (Code){tone_frag, sizeof(tone_frag)}, &replace);
    clear(draw, gpu);
}

void draw_finish(Draw *draw, Gpu *gpu)
{
    const VkPipeline pipelines[] = {draw->agents, draw->fade, draw->tone};
    for (int i = 0; i < 3; i++)
        vkDestroyPipeline(gpu->device, pipelines[i], NULL);
    vkDestroyPipelineLayout(gpu->device, draw->agents_layout, NULL);
    vkDestroyPipelineLayout(gpu->device, draw->screen_layout, NULL);
    vkDestroyDescriptorPool(gpu->device, draw->pool, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, draw->texture_layout, NULL);
    vkDestroySampler(gpu->device, draw->sampler, NULL);
    vkDestroyFramebuffer(gpu->device, draw->gather_target, NULL);
    vkDestroyFramebuffer(gpu->device, draw->picture_target, NULL);
    vkDestroyRenderPass(gpu->device, draw->gather_pass, NULL);
    vkDestroyRenderPass(gpu->device, draw->picture_pass, NULL);
    image_free(gpu, &draw->gathered);
    image_free(gpu, &draw->picture);
}

static void begin_pass(VkCommandBuffer commands, VkRenderPass pass, VkFramebuffer target, const Image *image)
{
    VkRenderPassBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_RENDER_PASS_BEGIN_INFO,
        .renderPass = pass,
        .framebuffer = target,
        .renderArea = {{0, 0}, {image->width, image->height}},
    };
    vkCmdBeginRenderPass(commands, &begin, VK_SUBPASS_CONTENTS_INLINE);
}

/* Each level from the one above it. */
static void glow(const Draw *draw, VkCommandBuffer commands)
{
    const Image *image = &draw->gathered;
    int32_t width = (int32_t)image->width, height = (int32_t)image->height;
    for (uint32_t level = 1; level < image->levels; level++) {
        VkImageBlit half = {
            .srcSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, level - 1, 0, 1},
            .srcOffsets = {{0, 0, 0}, {width, height, 1}},
            .dstSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, level, 0, 1},
            .dstOffsets = {{0, 0, 0}, {width / 2, height / 2, 1}},
        };
        image_barrier(commands, image->handle, level, 1, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                      VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT, 0, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
        vkCmdBlitImage(commands, image->handle, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, image->handle,
                       VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &half, VK_FILTER_LINEAR);
        image_barrier(commands, image->handle, level, 1, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL,
                      VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT,
                      VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_READ_BIT);
        width /= 2;
        height /= 2;
    }
    image_barrier(commands, image->handle, 0, image->levels, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL,
                  VK_IMAGE_LAYOUT_SHADER_READ_ONLY_OPTIMAL, VK_PIPELINE_STAGE_TRANSFER_BIT, 0,
                  VK_PIPELINE_STAGE_FRAGMENT_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT);
}

void draw_record(const Draw *draw, VkCommandBuffer commands, const Frame *frame, VkDescriptorSet set, VkBuffer control,
                 VkDeviceSize offset)
{
    const VkShaderStageFlags stages = VK_SHADER_STAGE_VERTEX_BIT | VK_SHADER_STAGE_FRAGMENT_BIT;
    begin_pass(commands, draw->gather_pass, draw->gather_target, &draw->gathered);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->fade);
    vkCmdDraw(commands, 3, 1, 0, 0);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->agents);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->agents_layout, 0, 1, &set, 0, NULL);
    vkCmdPushConstants(commands, draw->agents_layout, stages, 0, sizeof(*frame), frame);
    vkCmdDrawIndirect(commands, control, offset, 1, 0);
    vkCmdEndRenderPass(commands);

    glow(draw, commands);

    begin_pass(commands, draw->picture_pass, draw->picture_target, &draw->picture);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->tone);
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_GRAPHICS, draw->screen_layout, 0, 1, &draw->texture, 0, NULL);
    vkCmdPushConstants(commands, draw->screen_layout, stages, 0, sizeof(*frame), frame);
    vkCmdDraw(commands, 3, 1, 0, 0);
    vkCmdEndRenderPass(commands);
}

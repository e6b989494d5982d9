/* SPDX-License-Identifier: MIT */
#include "swarm.h"

static const uint32_t population_comp[] = {
#include "population.comp.inc"
};
static const uint32_t observe_comp[] = {
#include "observe.comp.inc"
};
static const uint32_t move_comp[] = {
#include "move.comp.inc"
};

enum { BINDINGS = 4, AGENT_BYTES = 40, STORAGE = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT };

void swarm_init(Swarm *swarm, Gpu *gpu, uint32_t agents)
{
    swarm->agents = agents;
    swarm->agent = buffer_make(gpu, (VkDeviceSize)AGENT_BYTES * agents, STORAGE, false);
    swarm->control = buffer_make(gpu, CONTROL_WORDS * sizeof(uint32_t),
                                 STORAGE | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT, false);
    swarm->reset = buffer_make(gpu, sizeof(uint32_t) * (VkDeviceSize)agents, STORAGE, false);

    VkDescriptorSetLayoutBinding bindings[BINDINGS];
    for (uint32_t i = 0; i < BINDINGS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                     VK_SHADER_STAGE_COMPUTE_BIT | VK_SHADER_STAGE_VERTEX_BIT, NULL};
    VkDescriptorSetLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = BINDINGS,
        .pBindings = bindings,
    };
    check(vkCreateDescriptorSetLayout(gpu->device, &layout, NULL, &swarm->layout), "vkCreateDescriptorSetLayout");
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 2 * BINDINGS};
    VkDescriptorPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 2,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    check(vkCreateDescriptorPool(gpu->device, &pool, NULL, &swarm->pool), "vkCreateDescriptorPool");

    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(Frame)};
    VkPipelineLayoutCreateInfo pipeline_layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &swarm->layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    check(vkCreatePipelineLayout(gpu->device, &pipeline_layout, NULL, &swarm->pipeline_layout), "vkCreatePipelineLayout");
    swarm->population = compute_pipeline(gpu, swarm->pipeline_layout, population_comp, sizeof(population_comp));
    swarm->observe = compute_pipeline(gpu, swarm->pipeline_layout, observe_comp, sizeof(observe_comp));
    swarm->move = compute_pipeline(gpu, swarm->pipeline_layout, move_comp, sizeof(move_comp));

    VkCommandBuffer commands = commands_make(gpu);
    commands_begin(commands);
    vkCmdFillBuffer(commands, swarm->agent.handle, 0, VK_WHOLE_SIZE, 0);
    vkCmdFillBuffer(commands, swarm->control.handle, 0, VK_WHOLE_SIZE, 0);
    commands_finish(gpu, commands);
    vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &commands);
}

static VkDescriptorSet connect_set(Swarm *swarm, Gpu *gpu, const VkBuffer buffers[BINDINGS])
{
    VkDescriptorSet made;
    VkDescriptorSetAllocateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = swarm->pool,
        .descriptorSetCount = 1,
        .pSetLayouts = &swarm->layout,
    };
    check(vkAllocateDescriptorSets(gpu->device, &set, &made), "vkAllocateDescriptorSets");
    VkDescriptorBufferInfo infos[BINDINGS];
    for (int i = 0; i < BINDINGS; i++)
        infos[i] = (VkDescriptorBufferInfo){buffers[i], 0, VK_WHOLE_SIZE};
    VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = made,
        .descriptorCount = BINDINGS,
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = infos,
    };
    vkUpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    return made;
}

void swarm_connect(Swarm *swarm, Gpu *gpu, VkBuffer input, VkBuffer output)
{
    swarm->before =
        connect_set(swarm, gpu, (VkBuffer[BINDINGS]){swarm->agent.handle, swarm->control.handle, input, swarm->reset.handle});
    swarm->after =
        connect_set(swarm, gpu, (VkBuffer[BINDINGS]){swarm->agent.handle, swarm->control.handle, output, swarm->reset.handle});
}

void swarm_finish(Swarm *swarm, Gpu *gpu)
{
    const VkPipeline pipelines[] = {swarm->population, swarm->observe, swarm->move};
    for (int i = 0; i < 3; i++)
        vkDestroyPipeline(gpu->device, pipelines[i], NULL);
    vkDestroyPipelineLayout(gpu->device, swarm->pipeline_layout, NULL);
    vkDestroyDescriptorPool(gpu->device, swarm->pool, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, swarm->layout, NULL);
    buffer_free(gpu, &swarm->agent);
    buffer_free(gpu, &swarm->control);
    buffer_free(gpu, &swarm->reset);
}

static void bind(const Swarm *swarm, VkCommandBuffer commands, const Frame *frame, VkDescriptorSet set)
{
    vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, swarm->pipeline_layout, 0, 1, &set, 0, NULL);
    vkCmdPushConstants(commands, swarm->pipeline_layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(*frame), frame);
}

void swarm_record_before(const Swarm *swarm, VkCommandBuffer commands, const Frame *frame)
{
    const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    /* the frame before has read the agents, in the vertex shader, and the control buffer, as parameters and for a copy */
    barrier(commands,
            compute | VK_PIPELINE_STAGE_VERTEX_SHADER_BIT | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_SHADER_WRITE_BIT, compute, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    bind(swarm, commands, frame, swarm->before);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, swarm->population);
    vkCmdDispatch(commands, 1, 1, 1);
    barrier(commands, compute, VK_ACCESS_SHADER_WRITE_BIT, compute | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_INDIRECT_COMMAND_READ_BIT);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, swarm->observe);
    vkCmdDispatchIndirect(commands, swarm->control.handle, CONTROL_DISPATCH * sizeof(uint32_t));
}

void swarm_record_after(const Swarm *swarm, VkCommandBuffer commands, const Frame *frame)
{
    const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
    barrier(commands, compute, VK_ACCESS_SHADER_WRITE_BIT, compute, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    bind(swarm, commands, frame, swarm->after);
    vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, swarm->move);
    vkCmdDispatchIndirect(commands, swarm->control.handle, CONTROL_DISPATCH * sizeof(uint32_t));
    barrier(commands, compute, VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_VERTEX_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT);
}

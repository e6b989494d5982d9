/* SPDX-License-Identifier: MIT
 *
 * The agents on the GPU: their buffers, and the example's own compute shaders before and after the network. */
#ifndef SWARM_SWARM_H
#define SWARM_SWARM_H

#include "gpu.h"
#include "world.h"

/* The words of Control in swarm.glsl. */
enum {
    CONTROL_COUNT = 0,
    CONTROL_FED = 2,
    CONTROL_SPEED = 3,
    CONTROL_ASTRAY = 4,
    CONTROL_DRAW = 6,
    CONTROL_DISPATCH = 10,
    CONTROL_WORDS = 16
};

typedef struct Swarm {
    uint32_t agents; /* the most */
    Buffer agent, control, reset;
    VkDescriptorSetLayout layout; /* four storage buffers, as many as any device has */
    VkDescriptorPool pool;
    VkDescriptorSet before, after;
    VkPipelineLayout pipeline_layout;
    VkPipeline population, observe, move;
} Swarm;

void swarm_init(Swarm *swarm, Gpu *gpu, uint32_t agents);
/* The network's input and output: the example's shaders write and read them where they are. */
void swarm_connect(Swarm *swarm, Gpu *gpu, VkBuffer input, VkBuffer output);
void swarm_finish(Swarm *swarm, Gpu *gpu);

/* Counts, lets be born, looks: writes the count, the mask and the input. Ends without a barrier: what comes next begins with one. */
void swarm_record_before(const Swarm *swarm, VkCommandBuffer commands, const Frame *frame);
/* Moves. Begins with a barrier after compute, and ends with one that lets the agents be drawn, and the control buffer be copied. */
void swarm_record_after(const Swarm *swarm, VkCommandBuffer commands, const Frame *frame);

#endif

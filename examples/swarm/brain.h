/* SPDX-License-Identifier: MIT
 *
 * What a renderer does with vklstm: everything of the example that calls it is behind this header. The network is stepped for
 * all agents, and trained, in the frame's own command buffer, on the renderer's own device and in its own buffers. */
#ifndef SWARM_BRAIN_H
#define SWARM_BRAIN_H

#include <vklstm/vulkan.h>

#include "gpu.h"
#include "lesson.h"
#include "swarm.h"

enum { BRAIN_SLOTS = 2 }; /* command buffers that frames are recorded into, in turn */

typedef struct Brain {
    VklContext *context;
    VklVulkanWishes wishes;
    VklVulkanImport import;
    VklDevice *device;
    VklModel *model;
    VklFit *fit;
    VklExec *step;
    VklStream *streams[BRAIN_SLOTS];
    Lesson lesson;

    Buffer input, output, state, params, workspace; /* the renderer's own */
    VklBuffer *wrapped[8];                          /* as vklstm sees them */
    uint32_t wrapped_count;
    VklSlice agents_params, model_params; /* what agents are steered by, what is trained */
    uint64_t params_size;

    uint32_t steps_of_frame; /* of training, by the budget */
    bool waiting;            /* an epoch has ended in a frame that the device may not be done with */
    uint32_t ended;          /* that frame */
    uint64_t steps;          /* of training so far */
    double first, loss;      /* of the first and the latest epoch; NaN: none yet */
} Brain;

/* Before there is a device: adds to it what vklstm would use of it. */
void brain_wish(Brain *brain, Gpu *gpu);
/* Everything that waits, allocates or compiles. `commands`: of the frames in flight. `budget`: microseconds of training in a frame. */
void brain_init(Brain *brain, Gpu *gpu, const Swarm *swarm, const VkCommandBuffer commands[BRAIN_SLOTS], uint32_t windows,
                double budget, uint32_t seed);
void brain_finish(Brain *brain, Gpu *gpu);

/* Records the step of all agents; with `train` also training. */
void brain_record(Brain *brain, uint32_t frame, bool train);
/* The device is done with this frame, and with all before. Whether that was the end of an epoch. */
bool brain_done(Brain *brain, uint32_t frame);

#endif

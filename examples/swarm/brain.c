/* SPDX-License-Identifier: MIT */
#include "brain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "calls.h"

enum { HIDDEN = 32, BATCH = 64, SWAP = 4 }; /* units; windows of a training step; frames from one swap of weights to the next */

/* vklstm has said by then what is wrong. */
static void must(VklStatus status)
{
    if (status)
        exit(1);
}

static void print(void *user, VklLogLevel level, const char *message)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", message);
}

static bool on_epoch(void *user, const VklEpoch *epoch)
{
    Brain *brain = user;
    if (isnan(brain->first))
        brain->first = epoch->loss;
    brain->loss = epoch->loss;
    return true;
}

void brain_wish(Brain *brain, Gpu *gpu)
{
    VklContextDesc context = vkl_context_desc();
    context.log = print;
    context.memory = calls_host_memory();
    must(vkl_context_create(&context, &brain->context));

    brain->import = vkl_vulkan_import();
    brain->import.get_instance_proc_addr = calls_get_instance_proc_addr;
    brain->import.instance = gpu->instance;
    brain->import.physical_device = gpu->physical;
    brain->import.api_version = VK_API_VERSION_1_1;
    brain->wishes.struct_size = sizeof(brain->wishes);
    must(vkl_vulkan_wishes(brain->context, &brain->import, &brain->wishes));
    for (uint32_t i = 0; i < brain->wishes.extension_count; i++)
        gpu->extensions[gpu->extension_count++] = brain->wishes.extensions[i];
    vkl_vulkan_wishes_add(&brain->wishes, &gpu->features);
}

/* The renderer's device, as vklstm must know it. */
static void import_device(Brain *brain, Gpu *gpu)
{
    brain->import.device = gpu->device;
    brain->import.queue = gpu->queue;
    brain->import.queue_family = gpu->family;
    brain->import.features = &gpu->features;
    brain->import.extensions = gpu->extensions;
    brain->import.extension_count = gpu->extension_count;
    must(vkl_device_import_vulkan(brain->context, &brain->import, &brain->device));
}

/* A buffer of the renderer's, and how vklstm is told of it. */
static VklSlice share(Brain *brain, const Buffer *buffer)
{
    VklBuffer **wrapped = &brain->wrapped[brain->wrapped_count++];
    must(vkl_buffer_wrap_vulkan(brain->device, buffer->handle, buffer->size, wrapped));
    return vkl_slice(*wrapped, 0);
}

/* How many steps of training fit into a frame: what one takes is seen before the first. */
static uint32_t steps_in(Brain *brain, Gpu *gpu, double budget)
{
    double best = 0;
    for (int i = 0; i < 3; i++) {
        VklStream *stream = NULL;
        VkCommandBuffer commands = commands_make(gpu);
        uint32_t recorded = 0;
        commands_begin(commands);
        must(vkl_stream_wrap_vulkan(brain->device, commands, &stream));
        must(vkl_fit_record(brain->fit, stream, 1, &recorded));
        double begin = now();
        commands_finish(gpu, commands);
        double took = (now() - begin) * 1000;
        best = i == 0 ? took : fmin(best, took);
        brain->steps += recorded;
        must(vkl_fit_collect(brain->fit));
        vkl_stream_destroy(stream);
        vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &commands);
    }
    return budget > 0 ? (uint32_t)fmin(fmax(budget / best, 1), 64) : 0;
}

void brain_init(Brain *brain, Gpu *gpu, const Swarm *swarm, const VkCommandBuffer commands[BRAIN_SLOTS], uint32_t windows,
                double budget, uint32_t seed)
{
    const VkBufferUsageFlags storage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    const VklLayerDesc layers[] = {vkl_layer_lstm(HIDDEN), vkl_layer_dense(WORLD_OUTPUTS, VKL_ACTIVATION_NONE)};
    import_device(brain, gpu);
    must(vkl_model_create(brain->device, WORLD_FEATURES, layers, 2, seed, &brain->model));

    VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
    must(vkl_model_step_sizes(brain->model, swarm->agents, &sizes));
    brain->input = buffer_make(gpu, sizes.x, storage, false);
    brain->output = buffer_make(gpu, sizes.y, storage, false);
    brain->state = buffer_make(gpu, sizes.state, storage, false);
    brain->params = buffer_make(gpu, sizes.params, storage, false);
    brain->workspace = buffer_make(gpu, sizes.workspace, storage | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT, false);

    VklModelStep step = vkl_model_step_args(swarm->agents);
    step.params = brain->agents_params = share(brain, &brain->params);
    step.x = share(brain, &brain->input);
    step.y = share(brain, &brain->output);
    step.state = share(brain, &brain->state);
    step.reset = share(brain, &swarm->reset);
    step.count = share(brain, &swarm->control); /* its first word */
    step.workspace = share(brain, &brain->workspace);
    must(vkl_model_prepare_step(brain->model, &step, &brain->step));

    must(vkl_model_params(brain->model, &brain->model_params, &brain->params_size));
    brain->first = brain->loss = (double)NAN;
    if (!lesson_init(&brain->lesson, windows, seed)) {
        fprintf(stderr, "no memory for the lesson\n");
        exit(1);
    }
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 1000000;
    fit.batch_size = BATCH;
    fit.optimizer.learning_rate = 0.01;
    fit.optimizer.clip_norm = 1;
    fit.seed = seed;
    fit.on_epoch = on_epoch;
    fit.user = brain;
    must(vkl_fit_create(brain->model, &brain->lesson.windows, NULL, &fit, &brain->fit));

    brain->steps_of_frame = steps_in(brain, gpu, budget);

    for (int i = 0; i < BRAIN_SLOTS; i++)
        must(vkl_stream_wrap_vulkan(brain->device, commands[i], &brain->streams[i]));
}

void brain_finish(Brain *brain, Gpu *gpu)
{
    for (int i = 0; i < BRAIN_SLOTS; i++)
        vkl_stream_destroy(brain->streams[i]);
    vkl_exec_destroy(brain->step);
    vkl_fit_destroy(brain->fit);
    for (uint32_t i = 0; i < brain->wrapped_count; i++)
        vkl_buffer_destroy(brain->wrapped[i]);
    vkl_model_destroy(brain->model);
    vkl_device_destroy(brain->device);
    vkl_context_destroy(brain->context);
    lesson_finish(&brain->lesson);
    Buffer *own[] = {&brain->input, &brain->output, &brain->state, &brain->params, &brain->workspace};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        buffer_free(gpu, own[i]);
}

static void train(Brain *brain, VklStream *stream, uint32_t frame)
{
    uint32_t recorded = 0;
    must(vkl_fit_record(brain->fit, stream, brain->steps_of_frame, &recorded));
    brain->steps += recorded;
    if (recorded < brain->steps_of_frame) { /* the end of an epoch: its losses come first */
        brain->waiting = true;
        brain->ended = frame;
    }
}

void brain_record(Brain *brain, uint32_t frame, bool learn)
{
    VklStream *stream = brain->streams[frame % BRAIN_SLOTS];
    /* Weights are swapped here, where no agent is being stepped: in the first frame, and now and then. */
    if (frame % SWAP == 0)
        must(vkl_stream_copy(stream, brain->agents_params, brain->model_params, brain->params_size));
    must(vkl_exec_record(brain->step, stream));
    if (learn && brain->steps_of_frame && !brain->waiting)
        train(brain, stream, frame);
}

bool brain_done(Brain *brain, uint32_t frame)
{
    if (!brain->waiting || frame != brain->ended)
        return false;
    must(vkl_fit_collect(brain->fit));
    brain->waiting = false;
    return true;
}

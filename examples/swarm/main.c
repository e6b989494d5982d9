/* SPDX-License-Identifier: MIT
 *
 * A small renderer whose 10,000 agents are steered by one LSTM, and which trains that LSTM while it draws. Each agent has a
 * light to circle, and sees it, blurred, in one frame of six; in between it must remember. At first the network knows nothing
 * and the agents wander.
 *
 * All of it, the agents' step, the training and the swap of weights, is recorded into the frame's own command buffer: brain.c
 * is the part that deals with vklstm. The frame loop waits for nothing but the frame two frames before. Usage: swarm --help */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "brain.h"
#include "calls.h"
#include "draw.h"
#include "picture.h"
#include "swarm.h"
#include "window.h"

enum { SLOTS = BRAIN_SLOTS, STATISTICS = 5, REPORT = 60 }; /* frames in flight; words that come back of each; frames to a line */

typedef enum Mode { TEACHER, NETWORK, TRAINING, MODES } Mode;

typedef struct Options {
    uint32_t agents, frames, width, height, seed, every, windows, budget, compare;
    const char *device, *png;
    bool no_network, window, check;
} Options;

typedef struct Slot {
    VkCommandBuffer commands;
    VkFence fence;
    Buffer statistics, pixels;
    uint32_t frame; /* that it has been submitted for */
    bool busy, keeps;
} Slot;

typedef struct App {
    Options options;
    Gpu gpu;
    Swarm swarm;
    Brain brain;
    Draw draw;
    Window *window;
    Slot slots[SLOTS];
    uint32_t statistics[STATISTICS]; /* of the latest frame that is done */
    Calls recording, between;        /* of the guest: while a frame is recorded; when one is done */
    uint32_t frames, recorded;       /* so far; those with the network */
    uint32_t ends;                   /* of epochs */
} App;

static void add(Calls *sum, Calls before)
{
    Calls after = calls_so_far();
    sum->recorded += after.recorded - before.recorded;
    sum->others += after.others - before.others;
    sum->allocations += after.allocations - before.allocations;
}

static void start(App *app)
{
    const Options *options = &app->options;
    uint32_t count = 0;
    const char *const *extensions = NULL;
    if (options->window) {
        app->window = window_open(options->width, options->height);
        if (app->window)
            extensions = window_extensions(&count);
        else
            fprintf(stderr, "no window: there is no display, or this was built without GLFW\n");
    }
    gpu_open(&app->gpu, options->device, extensions, count, app->window != NULL);
    brain_wish(&app->brain, &app->gpu);
    gpu_start(&app->gpu);
    if (app->window)
        window_attach(app->window, &app->gpu);
    swarm_init(&app->swarm, &app->gpu, options->agents);
    draw_init(&app->draw, &app->gpu, options->width, options->height, app->swarm.layout);
    VkCommandBuffer commands[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        Slot *slot = &app->slots[i];
        VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
        check(vkCreateFence(app->gpu.device, &fence, NULL, &slot->fence), "vkCreateFence");
        slot->commands = commands[i] = commands_make(&app->gpu);
        slot->statistics = buffer_make(&app->gpu, STATISTICS * sizeof(uint32_t), VK_BUFFER_USAGE_TRANSFER_DST_BIT, true);
        if (options->png)
            slot->pixels = buffer_make(&app->gpu, (VkDeviceSize)4 * options->width * options->height,
                                       VK_BUFFER_USAGE_TRANSFER_DST_BIT, true);
    }
    brain_init(&app->brain, &app->gpu, &app->swarm, commands, options->windows, options->budget, options->seed);
    swarm_connect(&app->swarm, &app->gpu, app->brain.input.handle, app->brain.output.handle);
}

/* The frame that was last drawn in this slot is done, and what it left is used. The only wait of the loop. */
static void reap(App *app, Slot *slot)
{
    if (!slot->busy)
        return;
    check(vkWaitForFences(app->gpu.device, 1, &slot->fence, VK_TRUE, UINT64_MAX), "vkWaitForFences");
    check(vkResetFences(app->gpu.device, 1, &slot->fence), "vkResetFences");
    slot->busy = false;
    memcpy(app->statistics, slot->statistics.host, sizeof(app->statistics));
    Calls before = calls_so_far();
    app->ends += brain_done(&app->brain, slot->frame);
    add(&app->between, before);
    char name[32];
    snprintf(name, sizeof(name), "swarm-%05" PRIu32, slot->frame + 1);
    if (slot->keeps && !picture_write(app->options.png, name, app->options.width, app->options.height, slot->pixels.host))
        exit(1);
}

static void submit(App *app, Slot *slot, uint32_t index)
{
    VkSemaphore acquired = app->window ? window_acquired(app->window, index) : VK_NULL_HANDLE;
    VkSemaphore drawn = app->window ? window_drawn(app->window) : VK_NULL_HANDLE;
    VkPipelineStageFlags stage = VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .waitSemaphoreCount = app->window != NULL,
        .pWaitSemaphores = &acquired,
        .pWaitDstStageMask = &stage,
        .commandBufferCount = 1,
        .pCommandBuffers = &slot->commands,
        .signalSemaphoreCount = app->window != NULL,
        .pSignalSemaphores = &drawn,
    };
    check(vkQueueSubmit(app->gpu.queue, 1, &info, slot->fence), "vkQueueSubmit");
    if (app->window)
        window_present(app->window);
}

static void frame(App *app, Mode mode, bool keep)
{
    uint32_t number = app->frames++, index = number % SLOTS;
    Slot *slot = &app->slots[index];
    VkCommandBuffer commands = slot->commands;
    Frame constants = {
        .time = WORLD_STEP * (float)number,
        .frame = number,
        .seed = app->options.seed,
        .agents = app->options.agents,
        .network = mode != TEACHER,
        .width = (float)app->options.width,
        .height = (float)app->options.height,
    };
    reap(app, slot);
    commands_begin(commands);

    swarm_record_before(&app->swarm, commands, &constants);
    if (mode != TEACHER) {
        Calls before = calls_so_far();
        brain_record(&app->brain, number, mode == TRAINING);
        add(&app->recording, before);
        app->recorded++;
    }
    swarm_record_after(&app->swarm, commands, &constants);
    draw_record(&app->draw, commands, &constants, app->swarm.after, app->swarm.control.handle, CONTROL_DRAW * sizeof(uint32_t));

    VkBufferCopy statistics = {0, 0, STATISTICS * sizeof(uint32_t)};
    vkCmdCopyBuffer(commands, app->swarm.control.handle, slot->statistics.handle, 1, &statistics);
    if (keep) {
        VkBufferImageCopy all = {
            .imageSubresource = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1},
            .imageExtent = {app->options.width, app->options.height, 1},
        };
        vkCmdCopyImageToBuffer(commands, app->draw.picture.handle, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, slot->pixels.handle, 1,
                               &all);
    }
    if (app->window)
        window_record(app->window, index, commands, &app->draw.picture);
    barrier(commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT,
            VK_ACCESS_HOST_READ_BIT);

    check(vkEndCommandBuffer(commands), "vkEndCommandBuffer");
    submit(app, slot, index);
    slot->busy = true;
    slot->keeps = keep;
    slot->frame = number;
}

static double mean_of(const App *app, int word)
{
    uint32_t count = app->statistics[CONTROL_COUNT];
    return count ? app->statistics[word] / 1024.0 / count : 0;
}

static void report(const App *app, double milliseconds)
{
    char loss[16] = "-";
    if (app->brain.loss >= 0) /* an epoch has ended */
        snprintf(loss, sizeof(loss), "%.4f", app->brain.loss);
    printf("frame %5" PRIu32 "  agents %5" PRIu32 "  astray %.3f  speed %.3f  steps %5" PRIu64 "  loss %6s  %.2f ms\n",
           app->frames, app->statistics[CONTROL_COUNT], mean_of(app, CONTROL_ASTRAY), mean_of(app, CONTROL_SPEED),
           app->brain.steps, loss, milliseconds);
    fflush(stdout);
}

/* The three kinds of frames in turn, so that what else the machine does meets all of them; the best of the rounds. Time of the
 * processor is what recording takes, and on devices that are processors all of it. */
static void compare(App *app)
{
    static const char *const names[] = {"without the network", "with its step", "with its step and training"};
    double best[MODES] = {0}, processor[MODES] = {0};
    for (int round = 0; round < 4; round++) {
        for (Mode mode = TEACHER; mode < MODES; mode++) {
            for (int i = 0; i < SLOTS; i++)
                frame(app, mode, false);
            double begin = now();
            clock_t clock_begin = clock();
            for (uint32_t i = 0; i < app->options.compare; i++)
                frame(app, mode, false);
            double took = (now() - begin) / app->options.compare;
            double of_processor = 1000.0 * (double)(clock() - clock_begin) / CLOCKS_PER_SEC / app->options.compare;
            if (round == 0) /* warms up */
                continue;
            best[mode] = round == 1 || took < best[mode] ? took : best[mode];
            processor[mode] = round == 1 || of_processor < processor[mode] ? of_processor : processor[mode];
        }
    }
    for (Mode mode = TEACHER; mode < MODES; mode++)
        printf("a frame %s: %.2f ms, of the processor %.2f ms\n", names[mode], best[mode], processor[mode]);
}

static void print_calls(const App *app)
{
    double frames = app->recorded ? app->recorded : 1;
    printf("calls of vklstm in a frame: %.1f that record, %u others, %u of the allocator (%" PRIu32 " frames)\n",
           app->recording.recorded / frames, app->recording.others, app->recording.allocations, app->recorded);
    printf("calls of vklstm between frames, at the ends of %" PRIu32 " epochs: %u that record, %u others, %u of the allocator\n",
           app->ends, app->between.recorded, app->between.others, app->between.allocations);
}

/* What a test asks. */
static bool good(const App *app)
{
    bool recorded = app->recording.others == 0 && app->recording.allocations == 0;
    bool moved = mean_of(app, CONTROL_SPEED) > 0.05, learnt = app->brain.loss < app->brain.first;
    if (!recorded)
        printf("vklstm did more than to record\n");
    if (!moved)
        printf("the agents did not move\n");
    if (!learnt)
        printf("the loss did not fall: %.4f at first, %.4f at last\n", app->brain.first, app->brain.loss);
    return recorded && moved && learnt;
}

static void stop(App *app)
{
    for (int i = 0; i < SLOTS; i++)
        reap(app, &app->slots[(app->frames + (uint32_t)i) % SLOTS]);
    check(vkDeviceWaitIdle(app->gpu.device), "vkDeviceWaitIdle");
    brain_finish(&app->brain, &app->gpu);
    for (int i = 0; i < SLOTS; i++) {
        vkDestroyFence(app->gpu.device, app->slots[i].fence, NULL);
        buffer_free(&app->gpu, &app->slots[i].statistics);
        if (app->options.png)
            buffer_free(&app->gpu, &app->slots[i].pixels);
    }
    draw_finish(&app->draw, &app->gpu);
    swarm_finish(&app->swarm, &app->gpu);
    if (app->window)
        window_close(app->window);
    gpu_stop(&app->gpu);
}

static void usage(void)
{
    printf("usage: swarm [options]\n"
           "  --agents N      the most agents that there may be (10000)\n"
           "  --frames N      to draw (1200)\n"
           "  --size WxH      of the picture (1280x720)\n"
           "  --device TEXT   index or part of the name of a Vulkan device (the best that there is)\n"
           "  --windows N     of the teacher's that are learnt from (16384)\n"
           "  --budget N      microseconds of training in a frame, at least one step; 0: none (4000)\n"
           "  --no-network    the teacher steers\n"
           "  --compare N     at the end, time so many frames with and without the network; 0: do not (30)\n"
           "  --seed N        of everything that is random (1)\n"
           "  --window        show it\n"
           "  --png DIR       write pictures there\n"
           "  --every N       of one frame in so many, and of the first (120)\n"
           "  --check         exit status 1 unless the agents moved, the loss fell and vklstm did nothing but record\n");
}

static bool number(const char *text, uint32_t least, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long read = strtoul(text, &end, 10);
    if (end == text || *end || *text == '-' || errno || read < least || read > 100000000)
        return false;
    *value = (uint32_t)read;
    return true;
}

static bool size(const char *text, uint32_t *width, uint32_t *height)
{
    char more;
    return sscanf(text, "%" SCNu32 "x%" SCNu32 "%c", width, height, &more) == 2 && *width >= 16 && *height >= 16 &&
           *width <= 4096 && *height <= 4096;
}

static bool parse(Options *options, int argc, char **argv)
{
    const struct {
        const char *name;
        bool *flag;
        uint32_t *number, least;
        const char **text;
    } table[] = {
        {"--agents", NULL, &options->agents, 1, NULL},   {"--frames", NULL, &options->frames, 1, NULL},
        {"--windows", NULL, &options->windows, 1, NULL}, {"--budget", NULL, &options->budget, 0, NULL},
        {"--compare", NULL, &options->compare, 0, NULL}, {"--seed", NULL, &options->seed, 0, NULL},
        {"--every", NULL, &options->every, 1, NULL},     {"--device", NULL, NULL, 0, &options->device},
        {"--png", NULL, NULL, 0, &options->png},         {"--no-network", &options->no_network, NULL, 0, NULL},
        {"--window", &options->window, NULL, 0, NULL},   {"--check", &options->check, NULL, 0, NULL},
    };
    for (int i = 1; i < argc; i++) {
        size_t at = 0, count = sizeof(table) / sizeof(table[0]);
        while (at < count && strcmp(argv[i], table[at].name) != 0)
            at++;
        bool known = at < count, ok = known || strcmp(argv[i], "--size") == 0;
        if (known && table[at].flag)
            *table[at].flag = true;
        else if (!ok || ++i >= argc)
            ok = false;
        else if (!known)
            ok = size(argv[i], &options->width, &options->height);
        else if (table[at].text)
            *table[at].text = argv[i];
        else
            ok = number(argv[i], table[at].least, table[at].number);
        if (!ok) {
            usage();
            return false;
        }
    }
    if (options->png && !picture_available) {
        fprintf(stderr, "--png: this was built without libpng\n");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    static App app = {.options = {.agents = 10000,
                                  .frames = 1200,
                                  .width = 1280,
                                  .height = 720,
                                  .seed = 1,
                                  .every = 120,
                                  .windows = 16384,
                                  .budget = 4000,
                                  .compare = 30}};
    const Options *options = &app.options;
    if (!parse(&app.options, argc, argv))
        return 2;
    start(&app);
    printf("%s\n", app.gpu.properties.deviceName);

    const Mode mode = options->no_network ? TEACHER : options->budget ? TRAINING : NETWORK;
    double begin = now();
    bool open = true;
    for (uint32_t i = 1; i <= options->frames && open; i++) {
        frame(&app, mode, options->png && (i % options->every == 0 || i == 1));
        if (app.window)
            open = window_poll(app.window);
        if (i % REPORT == 0 || i == options->frames) {
            double at = now();
            report(&app, (at - begin) / ((i - 1) % REPORT + 1));
            begin = at;
        }
    }
    if (open && options->compare)
        compare(&app);
    print_calls(&app);
    bool ok = !options->check || good(&app);
    stop(&app);
    if (app.gpu.messages)
        fprintf(stderr, "%u messages of the validation layer\n", app.gpu.messages);
    return !ok || app.gpu.messages;
}

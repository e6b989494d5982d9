/* SPDX-License-Identifier: MIT */
#include "bench_agents.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "message.h"
#include "output.h"
#include "report.h"
#include "shapes.h"

#define REPETITION_SECONDS 0.02 /* a shorter one measures the clock and the scheduler */
#define STEPS_MAX 2000
#define ARRAYS 8
#define SIZES_MAX 64

/* Agents on a device: the arrays for the most that there can be, and a step of as many as the count says. */
typedef struct Agents {
    VklDevice *device;
    VklRnn *rnn;
    VklStream *stream;
    VklExec *step;
    VklBuffer *buffers[ARRAYS];
    size_t buffer_count;
    VklSlice count;
    uint64_t dispatches;
} Agents;

static VklStatus make(Agents *agents, uint64_t bytes, VklSlice *slice)
{
    VklStatus status = vkl_buffer_create(agents->device, VKL_BUFFER_DEVICE, bytes, &agents->buffers[agents->buffer_count]);
    if (status == VKL_OK)
        *slice = vkl_slice(agents->buffers[agents->buffer_count++], 0);
    return status;
}

static VklStatus fill(Agents *agents, VklSlice slice, uint64_t bytes, bool weights)
{
    float *numbers = calloc(1, (size_t)bytes);
    if (!numbers)
        return VKL_ERROR_HOST_MEMORY;
    VklStatus status = weights ? vkl_rnn_init(agents->rnn, 1, numbers) : VKL_OK;
    for (uint64_t i = 0; i < bytes / sizeof *numbers && !weights; i++)
        numbers[i] = (float)((i * 7919 % 2001)) / 1000 - 1;
    if (status == VKL_OK)
        status = vkl_stream_write(agents->stream, slice, numbers, bytes);
    if (status == VKL_OK)
        status = vkl_stream_wait(agents->stream);
    free(numbers);
    return status;
}

static void agents_destroy(Agents *agents)
{
    vkl_exec_destroy(agents->step);
    vkl_stream_destroy(agents->stream);
    vkl_rnn_destroy(agents->rnn);
    for (size_t i = 0; i < agents->buffer_count; i++)
        vkl_buffer_destroy(agents->buffers[i]);
}

static VklStatus agents_create(VklDevice *device, const Shape *shape, uint64_t most, Agents *agents)
{
    VklRnnSizes sizes;
    VklRnnDesc desc = vkl_rnn_desc(shape->cell, shape->input, shape->hidden);
    VklRnnStep step = vkl_rnn_step_args(most);
    desc.layers = shape->layers;
    desc.path = shape->path;
    desc.storage = shape->halves ? VKL_STORAGE_FLOAT16 : VKL_STORAGE_FLOAT32;
    *agents = (Agents){.device = device};
    VklStatus status = vkl_stream_create(device, &agents->stream);
    status = status ? status : vkl_rnn_create(device, &desc, &agents->rnn);
    status = status ? status : vkl_rnn_step_sizes(agents->rnn, most, &sizes);
    if (status)
        return status;
    const struct {
        VklSlice *slice;
        uint64_t bytes;
        bool filled;
    } arrays[] = {{&step.params, sizes.params, true},
                  {&step.x, most * shape->input * sizeof(float), true},
                  {&step.h, sizes.state, false},
                  {&step.c, sizes.cell_state, false},
                  {&step.reset, most * sizeof(uint32_t), false},
                  {&step.count, sizeof(uint32_t), false},
                  {&step.workspace, sizes.forward_workspace, false}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays && !status; i++) {
        if (!arrays[i].bytes)
            continue;
        status = make(agents, arrays[i].bytes, arrays[i].slice);
        if (!status && arrays[i].filled)
            status = fill(agents, *arrays[i].slice, arrays[i].bytes, i == 0);
    }
    agents->count = step.count;
    return status ? status : vkl_rnn_prepare_step(agents->rnn, &step, &agents->step);
}

static VklStatus set_count(Agents *agents, uint64_t count)
{
    uint32_t number = (uint32_t)count;
    VklStatus status = vkl_stream_write(agents->stream, agents->count, &number, sizeof number);
    return status ? status : vkl_stream_wait(agents->stream);
}

/* Steps, each submitted and waited for by itself: seconds of one. */
static VklStatus run_steps(Agents *agents, uint64_t steps, double *seconds)
{
    VklStatus status = VKL_OK;
    double begin = clock_seconds();
    for (uint64_t i = 0; i < steps && !status; i++) {
        status = vkl_exec_record(agents->step, agents->stream);
        status = status ? status : vkl_stream_wait(agents->stream);
    }
    *seconds = (clock_seconds() - begin) / (double)steps;
    return status;
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median_of(double *seconds, uint64_t count)
{
    qsort(seconds, (size_t)count, sizeof *seconds, compare_numbers);
    return (seconds[(count - 1) / 2] + seconds[count / 2]) / 2;
}

/* Both in turn, so that whatever else the machine does is shared. */
static VklStatus time_size(Agents *agents, size_t devices, uint64_t count, uint64_t repeat, double median[2])
{
    double *seconds[2] = {calloc((size_t)repeat, sizeof(double)), calloc((size_t)repeat, sizeof(double))};
    uint64_t steps[2];
    VklStatus status = seconds[0] && seconds[1] ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    for (size_t d = 0; d < devices && !status; d++) {
        double one = 1;
        status = set_count(&agents[d], count);
        status = status ? status : run_steps(&agents[d], 1, &one); /* the first step at this size is no measure */
        status = status ? status : run_steps(&agents[d], 3, &one);
        double wanted = ceil(REPETITION_SECONDS / fmax(one, 1e-7));
        steps[d] = (uint64_t)fmin(fmax(wanted, 1), STEPS_MAX);
    }
    for (uint64_t i = 0; i < repeat && !status; i++)
        for (size_t d = 0; d < devices && !status; d++)
            status = run_steps(&agents[d], steps[d], &seconds[d][i]);
    for (size_t d = 0; d < devices && !status; d++)
        median[d] = median_of(seconds[d], repeat);
    free(seconds[0]);
    free(seconds[1]);
    return status;
}

typedef struct Row {
    uint64_t agents;
    double median[2];
} Row;

/* The smallest size from which on the device is the faster one; 0: none. */
static uint64_t crossing(const Row *rows, size_t count)
{
    uint64_t from = 0;
    for (size_t i = count; i-- > 0 && rows[i].median[0] < rows[i].median[1];)
        from = rows[i].agents;
    return from;
}

static int print_rows(const char *name, bool beside, const Shape *shape, const BenchAgents *desc, const Row *rows, size_t count,
                      uint64_t dispatches)
{
    uint64_t from = crossing(rows, count);
    if (!desc->json) {
        printf("%s I%llu H%llu L%llu, one step of agents, %llu at most, %s, %llu dispatches\n", cell_name(shape->cell),
               (unsigned long long)shape->input, (unsigned long long)shape->hidden, (unsigned long long)shape->layers,
               (unsigned long long)desc->most, name, (unsigned long long)dispatches);
        printf(beside ? "%10s %12s %12s\n" : "%10s %12s\n", "agents", "device us", "CPU us");
        for (size_t i = 0; i < count; i++) {
            printf("%10llu %12.4g", (unsigned long long)rows[i].agents, rows[i].median[0] * 1e6);
            printf(beside ? " %12.4g\n" : "\n", rows[i].median[1] * 1e6);
        }
        if (beside && from)
            printf("the device is faster from %llu agents on\n", (unsigned long long)from);
        else if (beside)
            printf("the CPU backend is faster at all of these\n");
        return finish_output();
    }
    json_t *sizes = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(sizes, json_pack("{s:I, s:f, s:o}", "agents", (json_int_t)rows[i].agents, "median_us",
                                               rows[i].median[0] * 1e6, "cpu_median_us",
                                               json_number(beside ? rows[i].median[1] * 1e6 : NAN)));
    return print_json(json_pack("{s:s, s:{s:s, s:I, s:I, s:I, s:b}, s:I, s:I, s:I, s:o, s:o}", "device", name, "shape", "cell",
                                cell_name(shape->cell), "input", (json_int_t)shape->input, "hidden", (json_int_t)shape->hidden,
                                "layers", (json_int_t)shape->layers, "half", shape->halves, "most", (json_int_t)desc->most,
                                "dispatches", (json_int_t)dispatches, "repeat", (json_int_t)desc->repeat, "steps", sizes,
                                "device_wins_from", beside && from ? json_integer((json_int_t)from) : json_null()));
}

static size_t sizes_up_to(uint64_t most, Row rows[SIZES_MAX])
{
    size_t count = 0;
    for (uint64_t size = 1; size < most && count + 2 < SIZES_MAX; size *= 10) {
        rows[count++].agents = size;
        if (3 * size < most)
            rows[count++].agents = 3 * size;
    }
    rows[count++].agents = most;
    return count;
}

static VklStatus dispatches_of(Agents *agents, uint64_t *dispatches)
{
    VklStreamStats before, after;
    double seconds;
    vkl_stream_stats(agents->stream, &before);
    VklStatus status = run_steps(agents, 1, &seconds);
    vkl_stream_stats(agents->stream, &after);
    *dispatches = after.dispatches - before.dispatches;
    return status;
}

int bench_agents(VklContext *context, VklDevice *device, const Shape *shape, const BenchAgents *desc)
{
    Agents agents[2] = {{NULL}, {NULL}};
    Row rows[SIZES_MAX];
    size_t count = sizes_up_to(desc->most, rows);
    uint64_t dispatches = 0;
    VklDeviceInfo info;
    VklDevice *cpu = NULL;
    vkl_device_info(device, &info);
    bool beside = strcmp(info.name, "CPU") != 0;
    VklStatus status = agents_create(device, shape, desc->most, &agents[0]);
    if (!status && beside) {
        VklDeviceDesc cpu_desc = vkl_device_desc("cpu");
        status = vkl_device_create(context, &cpu_desc, &cpu);
        status = status ? status : agents_create(cpu, shape, desc->most, &agents[1]);
    }
    status = status ? status : dispatches_of(&agents[0], &dispatches);
    for (size_t i = 0; i < count && !status; i++)
        status = time_size(agents, beside ? 2 : 1, rows[i].agents, desc->repeat, rows[i].median);
    int result = status ? fail_library(context, status) : print_rows(info.name, beside, shape, desc, rows, count, dispatches);
    agents_destroy(&agents[0]);
    agents_destroy(&agents[1]);
    vkl_device_destroy(cpu);
    return result;
}

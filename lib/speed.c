/* SPDX-License-Identifier: MIT
 *
 * vkl_device_measure(): the PROBE kernel, timed. */
#include "internal.h"

#define ENOUGH_NS 4e6 /* of one run */
#define ROUNDS_FIRST 32
#define ROUNDS_MOST 8192 /* software devices end a loop after 65,535 turns */
#define RUNS 4           /* of which the fastest counts */

typedef struct Probe {
    VklDevice *device;
    VklStream *stream;
    VklBuffer *out, *in;
    bool profiled;
} Probe;

static uint64_t smaller_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static VklStatus make_plan(const Probe *probe, uint32_t form, uint64_t count, uint64_t rounds, VklPlan *plan)
{
    VklArgs args = {.PROBE = {.count = (uint32_t)count, .rounds = (uint32_t)rounds}};
    bool copy = form == VKL_PROBE_COPY;
    VklOperand operands[] = {{vkl_array(VKL_SLOT_Y, 0), 4 * count, VKL_WRITE},
                             {vkl_array(VKL_SLOT_X, 0), copy ? 4 * count : 4, VKL_READ}};
    vkl_plan_init(plan, &probe->device->caps);
    vkl_plan_call(plan, VKL_KERNEL_PROBE, form, count, operands, &args, count,
                  copy ? 1 : rounds * VKL_PROBE_UNROLL * VKL_PROBE_SUMS);
    return plan->status;
}

static VklStatus run_once(const Probe *probe, VklExec *exec, double *nanoseconds)
{
    VklStatus status = probe->profiled ? vkl_stream_profile(probe->stream, true) : VKL_OK;
    double begin = vkl_nanoseconds();
    if (!status)
        status = vkl_exec_record(exec, probe->stream);
    if (!status)
        status = vkl_stream_wait(probe->stream);
    *nanoseconds = vkl_nanoseconds() - begin;
    VklKernelTime time;
    uint32_t count = 1;
    if (!status && probe->profiled) {
        status = vkl_stream_kernel_times(probe->stream, &count, &time);
        if (!status && count && time.nanoseconds > 0)
            *nanoseconds = time.nanoseconds;
    }
    return status;
}

/* The fastest of some runs of one dispatch. */
static VklStatus run(const Probe *probe, uint32_t form, uint64_t count, uint64_t rounds, double *nanoseconds)
{
    VklPlan plan;
    VklExec *exec = NULL;
    VklSlice slots[VKL_SLOT_COUNT] = {{NULL, 0}};
    slots[VKL_SLOT_Y] = vkl_slice(probe->out, 0);
    slots[VKL_SLOT_X] = vkl_slice(probe->in, 0);
    make_plan(probe, form, count, rounds, &plan);
    VklStatus status = vkl_exec_create(probe->device, &plan, slots, "vkl_device_measure", NULL, &exec);
    double least = 0;
    for (int i = 0; i < RUNS && !status; i++) {
        double ns = 0;
        status = run_once(probe, exec, &ns);
        if (i == 0 || ns < least)
            least = ns;
    }
    vkl_exec_release(exec);
    *nanoseconds = least > 1 ? least : 1;
    return status;
}

static VklStatus measure_flops(const Probe *probe, uint64_t count, double *flops)
{
    double ns = 0, done = 0;
    VklStatus status = VKL_OK;
    for (uint64_t rounds = ROUNDS_FIRST; !status && rounds <= ROUNDS_MOST && ns < ENOUGH_NS; rounds *= 4) {
        status = run(probe, VKL_PROBE_ARITHMETIC, count, rounds, &ns);
        done = 2.0 * VKL_PROBE_SUMS * VKL_PROBE_UNROLL * (double)rounds * (double)count;
    }
    *flops = done / ns * 1e9;
    return status;
}

/* The better of a copy by a kernel and of one by the driver: kernels of software devices load element by element, and are far from what
 * memory gives. */
static VklStatus measure_bandwidth(const Probe *probe, uint64_t bytes, double *bandwidth)
{
    uint64_t count = bytes / 16;
    double least = 0, ns;
    VklStatus status = VKL_OK;
    *bandwidth = 0;
    if (probe->device->info.type != VKL_DEVICE_SOFTWARE) {
        status = run(probe, VKL_PROBE_COPY, count, 0, &ns);
        *bandwidth = 32.0 * (double)count / ns * 1e9;
    }
    for (int i = 0; i < RUNS && !status; i++) {
        double begin = vkl_nanoseconds();
        status = vkl_stream_copy(probe->stream, vkl_slice(probe->out, 0), vkl_slice(probe->in, 0), bytes);
        if (!status)
            status = vkl_stream_wait(probe->stream);
        ns = vkl_nanoseconds() - begin;
        if (i == 0 || ns < least)
            least = ns;
    }
    if (!status && 2.0 * (double)bytes / least * 1e9 > *bandwidth)
        *bandwidth = 2.0 * (double)bytes / least * 1e9;
    return status;
}

/* As much as there is memory for. */
static VklStatus make_buffers(Probe *probe, uint64_t *bytes)
{
    const VklDevice *device = probe->device;
    bool software = device->info.type == VKL_DEVICE_CPU || device->info.type == VKL_DEVICE_SOFTWARE;
    uint64_t window = device->caps.storage_range - 2 * (uint64_t)device->caps.storage_alignment;
    VklStatus status = VKL_ERROR_DEVICE_MEMORY;
    *bytes = software ? UINT64_C(1) << 26 : UINT64_C(1) << 28;
    if (*bytes > window)
        *bytes = window & ~UINT64_C(15);
    for (; *bytes >= 16; *bytes = *bytes / 4 & ~UINT64_C(15)) {
        status = vkl_buffer_create(probe->device, VKL_BUFFER_DEVICE, *bytes, &probe->out);
        if (!status)
            status = vkl_buffer_create(probe->device, VKL_BUFFER_DEVICE, *bytes, &probe->in);
        if (!status || (status != VKL_ERROR_DEVICE_MEMORY && status != VKL_ERROR_HOST_MEMORY))
            break;
        vkl_buffer_destroy(probe->out);
        probe->out = NULL;
    }
    return status;
}

VklStatus vkl_device_measure(VklDevice *device, VklDeviceSpeed *speed)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!speed)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_device_measure: speed is NULL");
    static const float numbers[4] = {0x1p-10f, -0x1p-10f, 1, 0}; /* sums stay about as they are */
    bool software = device->info.type == VKL_DEVICE_CPU || device->info.type == VKL_DEVICE_SOFTWARE;
    Probe probe = {.device = device, .profiled = device->info.type == VKL_DEVICE_CPU || device->info.features.timestamps};
    uint64_t bytes = 0;
    VklStatus status = vkl_stream_create(device, &probe.stream);
    if (!status)
        status = make_buffers(&probe, &bytes);
    if (!status)
        status = vkl_upload(probe.stream, vkl_slice(probe.in, 0), numbers, sizeof(numbers));
    /* enough invocations to fill a large card; a CPU needs few, and gets more rounds */
    uint64_t count = smaller_of(bytes / 16, software ? UINT64_C(1) << 13 : UINT64_C(1) << 20);
    VklDeviceSpeed measured = {0, 0};
    if (!status)
        status = measure_flops(&probe, count, &measured.flops);
    if (!status)
        status = measure_bandwidth(&probe, bytes, &measured.bandwidth);
    if (!status)
        *speed = measured;
    vkl_stream_destroy(probe.stream);
    vkl_buffer_destroy(probe.in);
    vkl_buffer_destroy(probe.out);
    return status;
}

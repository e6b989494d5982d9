/* SPDX-License-Identifier: MIT
 *
 * The CPU backend: buffers are plain memory, and what is recorded on a stream runs at once, so that every fence is reached and
 * every wait over before it begins.
 */
#include <stdio.h>
#ifndef _WIN32
#include <unistd.h>
#endif

#include "../internal.h"
#include "kernels.h"
#include "scratch.h"

typedef struct CpuDevice {
    uint32_t threads;
    const VklCpuLevel *level;
    VklCpuScratch *scratch;
} CpuDevice;

/* An op ready to be run. */
typedef struct CpuCall {
    VklCpuKernel kernel;
    const VklOp *op;
    uint64_t items, part; /* part: items that one thread takes at a time; all of them where threads are not worth it */
    void *pointers[VKL_CPU_POINTERS];
} CpuCall;

typedef struct CpuExec {
    uint64_t barriers;
    CpuCall calls[];
} CpuExec;

static uint64_t memory_size(void)
{
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
#else
    return 0;
#endif
}

/* The level of a device that nobody has chosen another for. */
static const VklCpuLevel *best_level(void)
{
    unsigned best = 0;
    while (vkl_cpu_level_at(best + 1))
        best++;
    return vkl_cpu_level_at(best);
}

void vkl_cpu_device_info(VklDeviceInfo *info)
{
    *info = (VklDeviceInfo){
        .struct_size = sizeof(*info),
        .type = VKL_DEVICE_CPU,
        .memory_bytes = memory_size(),
        .limits =
            {
                .storage_range = UINT64_MAX,
                .allocation_size = UINT64_MAX,
                .storage_buffers = UINT32_MAX,
                .storage_alignment = 4,
                .workgroups = {UINT32_MAX, UINT32_MAX, UINT32_MAX},
                .workgroup_size = {UINT32_MAX, UINT32_MAX, UINT32_MAX},
                .workgroup_invocations = UINT32_MAX,
                .shared_memory = UINT32_MAX,
                .push_constants = UINT32_MAX,
            },
        .features = {.subgroup_size = 1, .unified_memory = true, .subgroup_size_min = 1, .subgroup_size_max = 1},
    };
    snprintf(info->name, sizeof(info->name), "CPU");
    snprintf(info->driver, sizeof(info->driver), "%s", best_level()->title);
}

#define ALIGNMENT 64

static VklCpuScratch *scratch_create(size_t count)
{
    VklCpuScratch *scratch = NULL;
    char *memory = NULL;
    const size_t block = VKL_CPU_SCRATCH_FLOATS * sizeof(float);
    if (count <= (SIZE_MAX - ALIGNMENT) / block) {
        scratch = malloc(sizeof(*scratch) + count * sizeof(scratch->taken[0]));
        memory = malloc(count * block + ALIGNMENT); /* pages that are never used cost nothing */
    }
    if (!scratch || !memory) {
        free(scratch);
        free(memory);
        return NULL;
    }
    scratch->count = count;
    scratch->memory = memory;
    scratch->blocks = (float *)(void *)(memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT));
    for (size_t i = 0; i < count; i++)
        atomic_flag_clear(&scratch->taken[i]);
    return scratch;
}

static void scratch_destroy(VklCpuScratch *scratch)
{
    if (scratch)
        free(scratch->memory);
    free(scratch);
}

VklStatus vkl_cpu_device_create(VklContext *context, const VklDeviceLimits *limits, VklDevice **device)
{
    VklDeviceInfo info;
    VklDevice *made;
    vkl_cpu_device_info(&info);
    vkl_limits_lower(&info.limits, limits);
    CpuDevice *impl = calloc(1, sizeof(*impl));
    if (!impl)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused %zu bytes", sizeof(*impl));
    impl->threads = vkl_parallel_threads(context);
    impl->level = best_level();
    impl->scratch = scratch_create((size_t)impl->threads + 1);
    VklStatus status =
        impl->scratch ? vkl_device_new(context, &vkl_cpu_backend, &info, &made)
                      : vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused memory to work in");
    if (status) {
        scratch_destroy(impl->scratch);
        free(impl);
        return status;
    }
    made->impl = impl;
    *device = made;
    return VKL_OK;
}

static void device_destroy(VklDevice *device)
{
    CpuDevice *cpu = device->impl;
    scratch_destroy(cpu->scratch);
    free(cpu);
}

bool vkl_cpu_device_level(VklDevice *device, const char *name)
{
    CpuDevice *cpu = device->impl;
    for (unsigned i = 0; vkl_cpu_level_at(i); i++)
        if (!strcmp(vkl_cpu_level_at(i)->name, name)) {
            cpu->level = vkl_cpu_level_at(i);
            snprintf(device->info.driver, sizeof(device->info.driver), "%s", cpu->level->title);
            return true;
        }
    return false;
}

/* ---- Buffers ---- */

static VklStatus buffer_create(VklBuffer *buffer)
{
    /* calloc and not aligned_alloc: large blocks come zeroed from the system, page by page as they are used */
    char *memory = buffer->size <= SIZE_MAX - ALIGNMENT ? calloc(1, (size_t)buffer->size + ALIGNMENT) : NULL;
    if (!memory)
        return vkl_fail(buffer->device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_buffer_create: the host refused %llu bytes",
                        (unsigned long long)buffer->size);
    buffer->impl = memory;
    buffer->host = memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT);
    return VKL_OK;
}

static void buffer_destroy(VklBuffer *buffer)
{
    free(buffer->impl);
}

static VklStatus buffer_coherent(VklBuffer *buffer, uint64_t offset, uint64_t size)
{
    (void)buffer;
    (void)offset;
    (void)size;
    return VKL_OK;
}

static char *slice_data(VklSlice slice)
{
    return (char *)slice.buffer->host + slice.offset;
}

/* ---- Streams ---- */

static VklStatus stream_create(VklStream *stream)
{
    (void)stream;
    return VKL_OK;
}

static void stream_destroy(VklStream *stream)
{
    (void)stream;
}

static VklStatus stream_transfer(VklStream *stream, const VklTransferArgs *args)
{
    (void)stream;
    size_t size = (size_t)args->size;
    switch (args->kind) {
    case VKL_TRANSFER_WRITE:
        memcpy(slice_data(args->dst), args->host_in, size);
        break;
    case VKL_TRANSFER_READ:
        memcpy(args->host_out, slice_data(args->src), size);
        break;
    case VKL_TRANSFER_COPY:
        memcpy(slice_data(args->dst), slice_data(args->src), size);
        break;
    case VKL_TRANSFER_FILL: {
        uint32_t *dst = (uint32_t *)slice_data(args->dst);
        for (size_t i = 0; i < size / sizeof(*dst); i++)
            dst[i] = args->value;
        break;
    }
    }
    return VKL_OK;
}

static VklStatus stream_submit(VklStream *stream, VklFence *fence)
{
    (void)stream;
    (void)fence;
    return VKL_OK;
}

static VklStatus stream_wait(VklStream *stream)
{
    (void)stream;
    return VKL_OK;
}

static VklStatus fence_wait(VklFence *fence, uint64_t timeout_ns)
{
    (void)fence;
    (void)timeout_ns;
    return VKL_OK;
}

static void fence_destroy(VklFence *fence)
{
    (void)fence;
}

/* ---- Prepared work ---- */

static void prepare_call(const CpuDevice *cpu, CpuCall *call, const VklOp *op)
{
    uint64_t cost = op->work_cost;
    call->kernel = cpu->level->kernels[op->kernel];
    call->op = op;
    call->items = op->work;
    if (cpu->level->items)
        cpu->level->items(op, &call->items, &cost);
    call->part = call->items;
    uint64_t least = cpu->level->part_cost / (cost ? cost : 1) + 1; /* items that make a part worth a thread */
    if (cpu->threads > 1 && call->items / 2 >= least) {
        /* a few parts for each thread, so that one that starts late or is interrupted holds up little */
        uint64_t even = (call->items + 4 * (uint64_t)cpu->threads - 1) / (4 * (uint64_t)cpu->threads);
        call->part = even > least ? even : least;
    }
}

static VklStatus exec_create(VklExec *exec, VklError *error)
{
    const CpuDevice *cpu = exec->device->impl;
    size_t count = exec->plan.count;
    CpuExec *impl = count <= (SIZE_MAX - sizeof(*impl)) / sizeof(impl->calls[0])
                        ? malloc(sizeof(*impl) + count * sizeof(impl->calls[0]))
                        : NULL;
    if (!impl)
        return vkl_fail(exec->device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %zu kernel calls",
                        count);
    impl->barriers = 0;
    for (size_t i = 0; i < count; i++) {
        const VklOp *op = &exec->plan.ops[i];
        CpuCall *call = &impl->calls[i];
        impl->barriers += op->barrier;
        for (int b = 0; b < VKL_BINDINGS; b++)
            call->pointers[b] = b < op->bindings ? slice_data(exec->slots[op->bind[b].slot]) + op->bind[b].offset : NULL;
        call->pointers[VKL_CPU_SCRATCH] = cpu->scratch;
        prepare_call(cpu, call, op);
    }
    exec->impl = impl;
    return VKL_OK;
}

static void exec_destroy(VklExec *exec)
{
    free(exec->impl);
}

static void run_part(void *data, uint32_t index)
{
    const CpuCall *call = data;
    uint64_t begin = index * call->part, left = call->items - begin;
    call->kernel(call->op, call->pointers, begin, begin + (left < call->part ? left : call->part));
}

static VklStatus exec_replay(VklExec *exec, VklStream *stream, uint32_t count)
{
    CpuExec *impl = exec->impl;
    for (uint32_t n = 0; n < count; n++)
        for (size_t i = 0; i < exec->plan.count; i++) {
            CpuCall *call = &impl->calls[i];
            double begin = stream->profiling ? vkl_nanoseconds() : 0;
            if (call->part == call->items)
                call->kernel(call->op, call->pointers, 0, call->items);
            else
                vkl_parallel(exec->device->context, (uint32_t)((call->items + call->part - 1) / call->part), run_part, call);
            if (stream->profiling)
                vkl_profile_add(stream->profile, call->op, vkl_nanoseconds() - begin);
        }
    stream->stats.dispatches += (uint64_t)count * exec->plan.count;
    stream->stats.barriers += (uint64_t)count * impl->barriers;
    return VKL_OK;
}

static VklStatus exec_record(VklExec *exec, VklStream *stream)
{
    return exec_replay(exec, stream, 1);
}

const VklBackend vkl_cpu_backend = {
    .name = "cpu",
    .device_destroy = device_destroy,
    .buffer_create = buffer_create,
    .buffer_destroy = buffer_destroy,
    .buffer_flush = buffer_coherent,
    .buffer_invalidate = buffer_coherent,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_transfer = stream_transfer,
    .stream_submit = stream_submit,
    .stream_wait = stream_wait,
    .fence_wait = fence_wait,
    .fence_destroy = fence_destroy,
    .exec_create = exec_create,
    .exec_destroy = exec_destroy,
    .exec_record = exec_record,
    .exec_replay = exec_replay,
};

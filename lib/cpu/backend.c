/* SPDX-License-Identifier: MIT
 *
 * The CPU backend: buffers are plain memory, and what is recorded on a stream runs at once, so that every fence is reached and
 * every wait over before it begins.
 */
#include <stdio.h>

#include "../internal.h"
#include "../system.h"
#include "gang.h"
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
    VklCpuKernel pack;    /* or NULL; before the kernel */
    uint64_t pack_items, pack_part;
    const uint32_t *live; /* or NULL: of how many rows it is, as TALLY has left it */
    VklCpuGang *gang;     /* or NULL: threads that go through time together, if they can be had; in pointers, too */
    uint64_t members;
    void *pointers[VKL_CPU_POINTERS];
} CpuCall;

typedef struct CpuExec {
    pthread_mutex_t running; /* several threads may record it, which runs it: one after the other, as a queue would */
    uint64_t barriers;
    void *packed; /* what the ops pack, one after the other in the same place */
    size_t count;
    CpuCall calls[];
} CpuExec;

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
        .memory_bytes = vkl_system_memory(),
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

#define SCRATCH_MOST 64

static VklCpuScratch *scratch_create(const VklHostMemory *memory, size_t threads)
{
    size_t count = (threads < SCRATCH_MOST ? threads : SCRATCH_MOST) + 1; /* more threads than that wait for one */
    VklCpuScratch *scratch = vkl_allocate(memory, 1, sizeof(*scratch) + count * sizeof(scratch->taken[0]));
    float *blocks = vkl_allocate_aligned(memory, count, VKL_CPU_SCRATCH_FLOATS * sizeof(float), false);
    if (!scratch || !blocks) {
        vkl_release(scratch);
        vkl_release(blocks);
        return NULL;
    }
    scratch->threads = threads;
    scratch->count = count;
    scratch->blocks = blocks;
    for (size_t i = 0; i < count; i++)
        atomic_flag_clear(&scratch->taken[i]);
    return scratch;
}

static void scratch_destroy(VklCpuScratch *scratch)
{
    if (scratch)
        vkl_release(scratch->blocks);
    vkl_release(scratch);
}

VklStatus vkl_cpu_device_create(VklContext *context, const VklDeviceLimits *limits, VklDevice **device)
{
    VklDeviceInfo info;
    VklDevice *made;
    vkl_cpu_device_info(&info);
    vkl_limits_lower(&info.limits, limits);
    CpuDevice *impl = vkl_allocate(&context->desc.memory, 1, sizeof(*impl));
    if (!impl)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused %zu bytes", sizeof(*impl));
    impl->threads = vkl_parallel_threads(context);
    impl->level = best_level();
    impl->scratch = scratch_create(&context->desc.memory, impl->threads);
    VklStatus status =
        impl->scratch ? vkl_device_new(context, &vkl_cpu_backend, &info, &made)
                      : vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused memory to work in");
    if (status) {
        scratch_destroy(impl->scratch);
        vkl_release(impl);
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
    vkl_release(cpu);
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
    buffer->host = vkl_allocate_aligned(buffer->device->caps.memory, buffer->size, 1, true);
    if (!buffer->host)
        return vkl_fail(buffer->device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_buffer_create: the host refused %llu bytes",
                        (unsigned long long)buffer->size);
    return VKL_OK;
}

static void buffer_destroy(VklBuffer *buffer)
{
    vkl_release(buffer->host);
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
    case VKL_TRANSFER_SHOW:
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

static VklStatus stream_submit(VklStream *stream, VklFence *fence, const struct VklVulkanSubmit *semaphores)
{
    (void)semaphores;
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

/* Items that one thread takes at a time: few enough that one that starts late or is interrupted holds up little, and enough that
 * they are worth a thread. */
static uint64_t part_of(const CpuDevice *cpu, uint64_t items, uint64_t cost, uint64_t parts_of_thread)
{
    uint64_t least = cpu->level->part_cost / (cost ? cost : 1) + 1, parts = parts_of_thread * cpu->threads;
    if (cpu->threads < 2 || items / 2 < least)
        return items;
    uint64_t even = (items + parts - 1) / parts;
    return even > least ? even : least;
}

/* Rows of a sequence that keep a thread at its best: with fewer, threads share the units of the same rows. */
#define GANG_ROWS 32
#define GANG_COST 20000 /* multiply-adds of a member in a step: a barrier costs as much as some thousands */

/* Threads that go through a sequence together, if that is better than for each to have rows of its own. */
static bool prepare_gang(const VklContext *context, const CpuDevice *cpu, CpuCall *call, const VklCpuPacking *packing)
{
    const VklOp *op = call->op;
    bool forward = op->kernel == VKL_KERNEL_SEQUENCE_FORWARD;
    if (context->desc.parallel || cpu->threads < 2 || packing->unit_blocks < 2)
        return true;
    uint64_t rows = forward ? op->args.SEQUENCE_FORWARD.rows : op->args.SEQUENCE_BACKWARD.rows;
    uint64_t steps = forward ? op->args.SEQUENCE_FORWARD.steps : op->args.SEQUENCE_BACKWARD.steps;
    uint64_t directions = forward ? op->args.SEQUENCE_FORWARD.directions : op->args.SEQUENCE_BACKWARD.directions;
    uint64_t row_groups = rows / GANG_ROWS ? rows / GANG_ROWS : 1;
    if (steps < 2 || row_groups * directions >= cpu->threads)
        return true;
    uint64_t unit_groups = cpu->threads / (row_groups * directions);
    if (unit_groups > packing->unit_blocks)
        unit_groups = packing->unit_blocks;
    uint64_t most = op->work_cost / steps * (rows / row_groups) / GANG_COST;
    if (unit_groups > most)
        unit_groups = most;
    if (unit_groups < 2)
        return true;
    size_t barriers = (size_t)(row_groups * directions);
    VklCpuGang *gang = vkl_allocate(&context->desc.memory, 1, sizeof(*gang) + barriers * sizeof(gang->barriers[0]));
    if (!gang)
        return false;
    gang->row_groups = row_groups;
    gang->unit_groups = unit_groups;
    atomic_init(&gang->runs, 0);
    atomic_init(&gang->time[0], 0);
    atomic_init(&gang->time[1], 0);
    for (size_t i = 0; i < barriers; i++)
        atomic_init(&gang->barriers[i].arrived, 0);
    call->gang = gang;
    call->members = row_groups * directions * unit_groups;
    return true;
}

static bool is_sequence(const VklOp *op)
{
    return op->kernel == VKL_KERNEL_SEQUENCE_FORWARD || op->kernel == VKL_KERNEL_SEQUENCE_BACKWARD;
}

/* How the op is cut for threads, and what it packs. */
static VklCpuPacking cut_call(const CpuDevice *cpu, CpuCall *call)
{
    const VklOp *op = call->op;
    VklCpuPacking packing = {0};
    uint64_t cost = op->work_cost;
    call->items = op->work;
    if (cpu->level->items)
        cpu->level->items(op, cpu->threads, &call->items, &cost);
    /* rows of a sequence go through the weights together: no more parts than threads */
    call->part = part_of(cpu, call->items, cost, is_sequence(op) ? 1 : 4);
    if (cpu->level->packing)
        cpu->level->packing(op, &packing);
    call->pack = packing.items ? cpu->level->pack : NULL;
    call->pack_items = packing.items;
    call->pack_part = part_of(cpu, packing.items, packing.cost, 2);
    return packing;
}

static bool prepare_call(const VklExec *exec, CpuCall *call, const VklOp *op, uint64_t *packed)
{
    const CpuDevice *cpu = exec->device->impl;
    *call = (CpuCall){.kernel = cpu->level->kernels[op->kernel], .op = op};
    for (int b = 0; b < VKL_BINDINGS; b++)
        call->pointers[b] = b < op->bindings ? slice_data(exec->slots[op->bind[b].slot]) + op->bind[b].offset : NULL;
    call->pointers[VKL_CPU_SCRATCH] = cpu->scratch;
    if (op->counted.rows)
        call->live =
            (const uint32_t *)(const void *)slice_data(exec->slots[VKL_SLOT_WORKSPACE]) + op->counted.at + VKL_TALLY_STRIDE - 1;
    VklCpuPacking packing = cut_call(cpu, call);
    *packed = packing.floats > *packed ? packing.floats : *packed;
    return !is_sequence(op) || prepare_gang(exec->device->context, cpu, call, &packing);
}

static void destroy_calls(CpuExec *impl)
{
    for (size_t i = 0; i < impl->count; i++)
        vkl_release(impl->calls[i].gang);
    vkl_release(impl->packed);
    pthread_mutex_destroy(&impl->running);
    vkl_release(impl);
}

static VklStatus exec_create(VklExec *exec, VklError *error)
{
    size_t count = exec->plan.count;
    uint64_t packed = 0;
    CpuExec *impl = count <= (SIZE_MAX - sizeof(*impl)) / sizeof(impl->calls[0])
                        ? vkl_allocate(exec->device->caps.memory, 1, sizeof(*impl) + count * sizeof(impl->calls[0]))
                        : NULL;
    if (!impl || pthread_mutex_init(&impl->running, NULL)) {
        vkl_release(impl);
        impl = NULL;
        goto fail;
    }
    for (; impl->count < count; impl->count++) {
        const VklOp *op = &exec->plan.ops[impl->count];
        impl->barriers += op->barrier;
        if (!prepare_call(exec, &impl->calls[impl->count], op, &packed))
            goto fail;
    }
    if (packed) {
        impl->packed = vkl_allocate_aligned(exec->device->caps.memory, packed, sizeof(float), false);
        if (!impl->packed)
            goto fail;
        for (size_t i = 0; i < count; i++)
            impl->calls[i].pointers[VKL_CPU_PACKED] = impl->packed;
    }
    exec->impl = impl;
    return VKL_OK;
fail:
    if (impl)
        destroy_calls(impl);
    return vkl_fail(exec->device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %zu kernel calls", count);
}

static void exec_destroy(VklExec *exec)
{
    destroy_calls(exec->impl);
}

static void run_part(void *data, uint32_t index)
{
    const CpuCall *call = data;
    uint64_t begin = index * call->part, left = call->items - begin;
    call->kernel(call->op, call->pointers, begin, begin + (left < call->part ? left : call->part));
}

static void pack_part(void *data, uint32_t index)
{
    const CpuCall *call = data;
    uint64_t begin = index * call->pack_part, left = call->pack_items - begin;
    call->pack(call->op, call->pointers, begin, begin + (left < call->pack_part ? left : call->pack_part));
}

static void run_member(void *data, uint32_t index)
{
    const CpuCall *call = data;
    void *pointers[VKL_CPU_POINTERS];
    memcpy(pointers, call->pointers, sizeof(pointers));
    pointers[VKL_CPU_GANG] = call->gang;
    call->kernel(call->op, pointers, index, (uint64_t)index + 1);
}

static void run_parts(VklContext *context, CpuCall *call, uint64_t items, uint64_t part, void (*task)(void *data, uint32_t index))
{
    if (part >= items)
        task(call, 0);
    else
        vkl_parallel(context, (uint32_t)((items + part - 1) / part), task, call);
}

static void run_call(VklContext *context, CpuCall *call)
{
    if (call->pack)
        run_parts(context, call, call->pack_items, call->pack_part, pack_part);
    if (!call->gang) {
        run_parts(context, call, call->items, call->part, run_part);
        return;
    }
    double begin = vkl_nanoseconds();
    bool together = gang_wanted(call->gang) && vkl_together(context, (uint32_t)call->members, run_member, call);
    if (!together)
        run_parts(context, call, call->items, call->part, run_part);
    gang_took(call->gang, together, vkl_nanoseconds() - begin);
}

/* A counted op is that of its live rows, cut anew. */
static void run_counted(const VklDevice *device, const CpuCall *call)
{
    uint64_t live = *call->live;
    VklOp op = *call->op;
    CpuCall limited = *call;
    if (!live)
        return;
    if (live < op.counted.rows) {
        vkl_op_limit(&op, live);
        limited.op = &op;
        cut_call(device->impl, &limited);
    }
    run_call(device->context, &limited);
}

static void run_calls(VklExec *exec, VklStream *stream, size_t first, size_t end)
{
    CpuExec *impl = exec->impl;
    pthread_mutex_lock(&impl->running);
    for (size_t i = first; i < end; i++) {
        double begin = stream->profiling ? vkl_nanoseconds() : 0;
        if (impl->calls[i].live)
            run_counted(exec->device, &impl->calls[i]);
        else
            run_call(exec->device->context, &impl->calls[i]);
        if (stream->profiling)
            vkl_profile_add(stream->profile, impl->calls[i].op, vkl_nanoseconds() - begin);
    }
    pthread_mutex_unlock(&impl->running);
}

static VklStatus exec_replay(VklExec *exec, VklStream *stream, uint32_t count)
{
    const CpuExec *impl = exec->impl;
    for (uint32_t n = 0; n < count; n++)
        run_calls(exec, stream, 0, impl->count);
    stream->stats.dispatches += (uint64_t)count * exec->plan.count;
    stream->stats.barriers += (uint64_t)count * impl->barriers;
    return VKL_OK;
}

static VklStatus exec_record(VklExec *exec, VklStream *stream)
{
    return exec_replay(exec, stream, 1);
}

static VklStatus exec_record_part(VklExec *exec, VklStream *stream, size_t first, size_t count)
{
    run_calls(exec, stream, first, first + count);
    stream->stats.dispatches += count;
    for (size_t i = first; i < first + count; i++)
        stream->stats.barriers += exec->plan.ops[i].barrier;
    return VKL_OK;
}

/* ---- Pieces: they run while they are recorded ---- */

typedef struct CpuTimer {
    double begin, took;
} CpuTimer;

static VklStatus cpu_timer_create(VklTimer *timer)
{
    timer->impl = vkl_allocate(timer->stream->device->caps.memory, 1, sizeof(CpuTimer));
    return timer->impl ? VKL_OK
                       : vkl_fail(timer->stream->device->context, &timer->stream->error, VKL_ERROR_HOST_MEMORY,
                                  "the host refused memory for a timer");
}

static void cpu_timer_destroy(VklTimer *timer)
{
    vkl_release(timer->impl);
}

static VklStatus piece_begin(VklTimer *timer)
{
    CpuTimer *cpu = timer->impl;
    cpu->begin = vkl_nanoseconds();
    return VKL_OK;
}

static VklStatus piece_submit(VklTimer *timer)
{
    CpuTimer *cpu = timer->impl;
    cpu->took = vkl_nanoseconds() - cpu->begin;
    return VKL_OK;
}

static void piece_drop(VklTimer *timer)
{
    (void)timer;
}

static VklStatus piece_look(VklTimer *timer, double *nanoseconds)
{
    const CpuTimer *cpu = timer->impl;
    *nanoseconds = cpu->took;
    return VKL_OK;
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
    .exec_record_part = exec_record_part,
    .timer_create = cpu_timer_create,
    .timer_destroy = cpu_timer_destroy,
    .piece_begin = piece_begin,
    .piece_submit = piece_submit,
    .piece_drop = piece_drop,
    .piece_look = piece_look,
};

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

/* An op is cut into parts for threads only where each part has this many multiply-adds: waking a thread costs about as much as
 * 50,000 of them. */
#define PART_COST 200000

typedef struct CpuDevice {
    uint32_t threads;
} CpuDevice;

/* Where the bindings of each op lie. */
typedef struct CpuExec {
    uint64_t barriers;
    void *pointers[][VKL_BINDINGS];
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

/* What the kernels were compiled for. */
static const char *instruction_set(void)
{
#if defined(__AVX512F__)
    return "plain C for AVX-512";
#elif defined(__AVX2__)
    return "plain C for AVX2";
#elif defined(__AVX__)
    return "plain C for AVX";
#elif defined(__SSE2__) || defined(_M_X64)
    return "plain C for SSE2";
#elif defined(__ARM_NEON)
    return "plain C for NEON";
#else
    return "plain C";
#endif
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
    snprintf(info->driver, sizeof(info->driver), "%s", instruction_set());
}

VklStatus vkl_cpu_device_create(VklContext *context, const VklDeviceLimits *limits, VklDevice **device)
{
    VklDeviceInfo info;
    VklDevice *made;
    vkl_cpu_device_info(&info);
    vkl_limits_lower(&info.limits, limits);
    CpuDevice *impl = malloc(sizeof(*impl));
    if (!impl)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_device_create: the host refused %zu bytes", sizeof(*impl));
    impl->threads = vkl_parallel_threads(context);
    VklStatus status = vkl_device_new(context, &vkl_cpu_backend, &info, &made);
    if (status) {
        free(impl);
        return status;
    }
    made->impl = impl;
    *device = made;
    return VKL_OK;
}

static void device_destroy(VklDevice *device)
{
    free(device->impl);
}

/* ---- Buffers ---- */

#define ALIGNMENT 64

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

static VklStatus exec_create(VklExec *exec, VklError *error)
{
    size_t count = exec->plan.count;
    CpuExec *impl = count <= (SIZE_MAX - sizeof(*impl)) / sizeof(impl->pointers[0])
                        ? malloc(sizeof(*impl) + count * sizeof(impl->pointers[0]))
                        : NULL;
    if (!impl)
        return vkl_fail(exec->device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %zu kernel calls",
                        count);
    impl->barriers = 0;
    for (size_t i = 0; i < count; i++) {
        const VklOp *op = &exec->plan.ops[i];
        impl->barriers += op->barrier;
        for (int b = 0; b < VKL_BINDINGS; b++)
            impl->pointers[i][b] = b < op->bindings ? slice_data(exec->slots[op->bind[b].slot]) + op->bind[b].offset : NULL;
    }
    exec->impl = impl;
    return VKL_OK;
}

static void exec_destroy(VklExec *exec)
{
    free(exec->impl);
}

/* One op, cut into parts of equal size for threads. */
typedef struct Parts {
    const VklOp *op;
    void *const *pointers;
    uint64_t size; /* items of a part */
} Parts;

static void run_part(void *data, uint32_t index)
{
    const Parts *parts = data;
    uint64_t begin = index * parts->size, left = parts->op->work - begin;
    vkl_cpu_kernels[parts->op->kernel](parts->op, parts->pointers, begin, begin + (left < parts->size ? left : parts->size));
}

static void run_op(VklDevice *device, const VklOp *op, void *const pointers[VKL_BINDINGS])
{
    const CpuDevice *cpu = device->impl;
    uint64_t items = PART_COST / (op->work_cost ? op->work_cost : 1) + 1; /* that make a part worth a thread */
    if (cpu->threads > 1 && op->work / 2 >= items) {
        /* a few parts for each thread, so that one that starts late or is interrupted holds up little */
        uint64_t even = (op->work + 4 * (uint64_t)cpu->threads - 1) / (4 * (uint64_t)cpu->threads);
        Parts parts = {.op = op, .pointers = pointers, .size = even > items ? even : items};
        uint64_t count = (op->work + parts.size - 1) / parts.size;
        vkl_parallel(device->context, (uint32_t)count, run_part, &parts);
    } else {
        vkl_cpu_kernels[op->kernel](op, pointers, 0, op->work);
    }
}

static VklStatus exec_replay(VklExec *exec, VklStream *stream, uint32_t count)
{
    CpuExec *impl = exec->impl;
    for (uint32_t n = 0; n < count; n++)
        for (size_t i = 0; i < exec->plan.count; i++) {
            double begin = stream->profiling ? vkl_nanoseconds() : 0;
            run_op(exec->device, &exec->plan.ops[i], impl->pointers[i]);
            if (stream->profiling)
                vkl_profile_add(stream->profile, &exec->plan.ops[i], vkl_nanoseconds() - begin);
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

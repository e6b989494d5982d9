/* SPDX-License-Identifier: MIT
 *
 * Streams: command buffers that are recorded, submitted and used again, the staging memory and references that they hold until
 * the GPU is done, and fences.
 *
 * A piece of work is what one vkQueueSubmit takes: what was recorded, and command buffers of replays. It goes from `current`,
 * over the list of what has ended where much is recorded before a submit, to the list of submitted work, and from there, when
 * its fence is seen to be signaled, to the idle list. Nothing waits but vkl_vk_stream_wait(), vkl_vk_stream_destroy() and
 * vkl_vk_fence_wait(). */
#include "vk.h"

#define CHUNK_SIZE (UINT64_C(1) << 20) /* of staging memory; a larger transfer gets a chunk of its own, freed when it is done */
#define REPLAYS_PER_SUBMIT 256
#define QUERIES 4096        /* timestamps of a pool */
#define QUERY_POOLS_MOST 16 /* of a piece of work: what is replayed with timestamps is then submitted */
#define OWN_COMMANDS 4      /* command buffers of a piece of work, with replays between them */
#define WRAPPED_EXECS 64    /* room made when a command buffer is wrapped, so that recording into it allocates nothing */

struct VklVkChunk {
    VklVkChunk *next;
    VklVkBuffer buffer;
    VklBufferUsage usage;
    uint64_t size, used;
};

/* What is copied to the caller's memory when the work is done. */
typedef struct Read {
    const VklVkChunk *chunk;
    uint64_t offset, size;
    void *data;
} Read;

/* Ops `first` on of an exec, whose timestamps begin at query `at`. */
typedef struct Timed {
    VklExec *exec; /* held by the work */
    size_t first, count;
    uint32_t at;
} Timed;

struct VklVkQueries {
    VklVkQueries *next;
    VkQueryPool pool;
    uint32_t used;
    Timed *timed;
    size_t timed_count, timed_capacity;
    uint64_t ticks[QUERIES]; /* as they are read: not on the stack, which programs with fibers have little of */
};

struct VklVkWork {
    VklVkWork *next;
    VkCommandBuffer own[OWN_COMMANDS]; /* made when first needed; the first `used` hold something */
    uint32_t used;
    bool open; /* the last of them is being recorded; the others are in `list` */
    VkCommandBuffer
        *list; /* what is submitted, in order: own ones and those of replays; with room for one more own one and the tail */
    size_t list_count, list_capacity;
    VkFence fence;
    uint64_t serial;
    VklVkChunk *chunks;
    Read *reads;
    size_t read_count, read_capacity;
    VklExec **execs;
    size_t exec_count, exec_capacity;
    VklVkQueries *queries;
    uint32_t query_pools;
    double cost; /* of what was recorded, by vkl_vk_stream_charge() */
};

typedef struct FencePoint {
    uint64_t serial;
} FencePoint;

typedef struct Timer {
    VkQueryPool pool; /* of two timestamps, or NULL: the queue has none */
    uint64_t serial;  /* of the latest submit */
} Timer;

static VklStatus fail(VklStream *stream, VkResult result, const char *call, const char *subject)
{
    return vkl_vk_fail(stream->device->context, stream->device, &stream->error, result, call, "%s", subject);
}

static VklStatus no_memory(VklStream *stream, const char *what)
{
    return vkl_fail(stream->device->context, &stream->error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %s", what);
}

void vkl_vk_barrier(VklDevice *device, VkCommandBuffer commands, VkPipelineStageFlags stage, VkAccessFlags access)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT,
        .dstAccessMask = access,
    };
    vkl_vk(device)->functions.vkCmdPipelineBarrier(
        commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT, stage, 0, 1,
        &barrier, 0, NULL, 0, NULL);
}

/* An array with room for one more element: the same one, a larger one, or NULL (then the old one is as it was). */
static void *with_room(const VklHostMemory *memory, void *array, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity)
        return array;
    size_t wanted = *capacity ? 2 * *capacity : 8;
    void *larger = vkl_reallocate(memory, array, wanted, element);
    if (larger)
        *capacity = wanted;
    return larger;
}

/* The library's own threads are kept apart even where a caller's callbacks would not. The caller's lock comes first: a thread
 * of the caller's that holds it already, and may take it twice, then never waits for one of ours that waits for it. */
static void queue_lock(VklVkDevice *device)
{
    if (device->lock_queue)
        device->lock_queue(device->lock_user, device->queue_family, device->queue_index);
    pthread_mutex_lock(&device->queue_mutex);
}

static void queue_unlock(VklVkDevice *device)
{
    pthread_mutex_unlock(&device->queue_mutex);
    if (device->unlock_queue)
        device->unlock_queue(device->lock_user, device->queue_family, device->queue_index);
}

/* ---- Staging ---- */

static void chunk_destroy(VklDevice *device, VklVkChunk *chunk)
{
    vkl_vk_buffer_free(device, &chunk->buffer);
    vkl_release(chunk);
}

static void chunk_return(VklDevice *device, VklVkStream *vk, VklVkChunk *chunk)
{
    if (chunk->size > CHUNK_SIZE) {
        chunk_destroy(device, chunk);
        return;
    }
    chunk->used = 0;
    chunk->next = vk->chunks;
    vk->chunks = chunk;
}

/* Room in the staging memory of a piece of work. */
static VklStatus stage(VklStream *stream, VklVkWork *work, VklBufferUsage usage, uint64_t size, VklVkChunk **chunk,
                       uint64_t *offset)
{
    VklVkStream *vk = stream->impl;
    for (VklVkChunk *at = work->chunks; at; at = at->next) {
        if (at->usage == usage && at->size - at->used >= size) {
            *chunk = at;
            *offset = at->used;
            at->used += (size + 15) & ~(uint64_t)15; /* chunk sizes are multiples of 16 too */
            return VKL_OK;
        }
    }
    VklVkChunk *found = NULL;
    for (VklVkChunk **link = &vk->chunks; *link && size <= CHUNK_SIZE; link = &(*link)->next) {
        if ((*link)->usage == usage) {
            found = *link;
            *link = found->next;
            break;
        }
    }
    if (!found) {
        found = vkl_allocate(stream->device->caps.memory, 1, sizeof(*found));
        if (!found)
            return no_memory(stream, "staging");
        found->usage = usage;
        found->size = size > CHUNK_SIZE ? (size + 15) & ~(uint64_t)15 : CHUNK_SIZE;
        VklStatus status = vkl_vk_buffer_make(stream->device, usage, found->size, false, &found->buffer);
        if (status) {
            vkl_release(found);
            return vkl_fail_again(&stream->error, status);
        }
        vkl_vk_name(stream->device, VK_OBJECT_TYPE_BUFFER, (uint64_t)found->buffer.handle, "vklstm staging");
    }
    found->next = work->chunks;
    work->chunks = found;
    found->used = (size + 15) & ~(uint64_t)15;
    *chunk = found;
    *offset = 0;
    return VKL_OK;
}

/* ---- Timestamps ---- */

static VkCommandBuffer recorded(const VklVkWork *work)
{
    return work->own[work->used - 1];
}

static void queries_destroy(VklDevice *device, VklVkQueries *queries)
{
    VklVkDevice *vk = vkl_vk(device);
    if (queries->pool)
        vk->functions.vkDestroyQueryPool(vk->handle, queries->pool, vk->allocation);
    vkl_release(queries->timed);
    vkl_release(queries);
}

static VklStatus queries_create(VklStream *stream, VklVkQueries **queries)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkQueries *made = vkl_allocate(stream->device->caps.memory, 1, sizeof(*made));
    if (!made)
        return no_memory(stream, "timestamps");
    VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = QUERIES,
    };
    VkResult result = device->functions.vkCreateQueryPool(device->handle, &info, device->allocation, &made->pool);
    if (result) {
        vkl_release(made);
        return fail(stream, result, "vkCreateQueryPool", "of a profile");
    }
    *queries = made;
    return VKL_OK;
}

/* A pool with room for the timestamps of at least one kernel, reset in the work's command buffer when it is new to it. */
static VklStatus queries_get(VklStream *stream, VklVkWork *work, VklVkQueries **queries)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    VklVkQueries *found = work->queries;
    if (!found || found->used + 2 > QUERIES) {
        found = vk->queries;
        VklStatus status = VKL_OK;
        if (found)
            vk->queries = found->next;
        else
            status = queries_create(stream, &found);
        if (status)
            return status;
        found->used = 0;
        found->timed_count = 0;
        found->next = work->queries;
        work->queries = found;
        work->query_pools++;
        device->functions.vkCmdResetQueryPool(recorded(work), found->pool, 0, QUERIES);
    }
    *queries = found;
    return VKL_OK;
}

/* Adds what the timestamps of work that is done say to the stream's profile. */
static VklStatus queries_read(VklStream *stream, const VklVkWork *work)
{
    VklVkDevice *device = vkl_vk(stream->device);
    uint64_t mask = device->timestamp_bits < 64 ? (UINT64_C(1) << device->timestamp_bits) - 1 : UINT64_MAX;
    for (VklVkQueries *queries = work->queries; queries; queries = queries->next) {
        uint64_t *ticks = queries->ticks;
        if (!queries->used)
            continue;
        VkResult result =
            device->functions.vkGetQueryPoolResults(device->handle, queries->pool, 0, queries->used, sizeof(queries->ticks),
                                                    ticks, sizeof(*ticks), VK_QUERY_RESULT_64_BIT);
        if (result == VK_NOT_READY)
            continue;
        if (result)
            return fail(stream, result, "vkGetQueryPoolResults", "of a profile");
        for (size_t i = 0; i < queries->timed_count; i++) {
            const Timed *timed = &queries->timed[i];
            for (size_t op = 0; op < timed->count; op++) {
                uint64_t passed = (ticks[timed->at + op + 1] - ticks[timed->at + op]) & mask;
                vkl_profile_add(stream->profile, &timed->exec->plan.ops[timed->first + op],
                                (double)passed * device->timestamp_period);
            }
        }
    }
    return VKL_OK;
}

/* ---- Work ---- */

/* Gives back what the work held, done or dropped. */
static void work_release(VklStream *stream, VklVkWork *work)
{
    VklVkStream *vk = stream->impl;
    while (work->chunks) {
        VklVkChunk *chunk = work->chunks;
        work->chunks = chunk->next;
        chunk_return(stream->device, vk, chunk);
    }
    while (work->queries) {
        VklVkQueries *queries = work->queries;
        work->queries = queries->next;
        queries->next = vk->queries;
        vk->queries = queries;
    }
    work->query_pools = 0;
    work->cost = 0;
    work->used = 0;
    work->open = false;
    work->list_count = 0;
    for (size_t i = 0; i < work->exec_count; i++)
        vkl_exec_release(work->execs[i]);
    work->exec_count = 0;
    work->read_count = 0;
    work->next = vk->idle;
    vk->idle = work;
}

static void work_destroy(VklDevice *device, VklVkWork *work)
{
    VklVkDevice *vk = vkl_vk(device);
    if (work->fence)
        vk->functions.vkDestroyFence(vk->handle, work->fence, vk->allocation);
    vkl_release(work->reads);
    vkl_release(work->execs);
    vkl_release(work->list);
    vkl_release(work); /* its command buffers go with the pool */
}

static VklStatus commands_allocate(VklStream *stream, VkCommandBuffer *commands)
{
    VklVkDevice *device = vkl_vk(stream->device);
    const VklVkStream *vk = stream->impl;
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    VkResult result = device->functions.vkAllocateCommandBuffers(device->handle, &info, commands);
    return result ? fail(stream, result, "vkAllocateCommandBuffers", "of a stream") : VKL_OK;
}

static VklStatus work_create(VklStream *stream, VklVkWork **work)
{
    VklVkDevice *device = vkl_vk(stream->device);
    const VklHostMemory *memory = stream->device->caps.memory;
    VklVkWork *made = vkl_allocate(memory, 1, sizeof(*made));
    /* with room for what most work holds, so that one that is used again, but never held so much, allocates nothing */
    void *execs = made ? with_room(memory, NULL, 0, &made->exec_capacity, sizeof(*made->execs)) : NULL;
    void *reads = made ? with_room(memory, NULL, 0, &made->read_capacity, sizeof(*made->reads)) : NULL;
    void *list = made ? with_room(memory, NULL, 0, &made->list_capacity, sizeof(VkCommandBuffer)) : NULL;
    if (!execs || !reads || !list) {
        vkl_release(execs);
        vkl_release(reads);
        vkl_release(list);
        vkl_release(made);
        return no_memory(stream, "a command buffer");
    }
    made->execs = execs;
    made->reads = reads;
    made->list = list;
    VkFenceCreateInfo fence_info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkResult result = device->functions.vkCreateFence(device->handle, &fence_info, device->allocation, &made->fence);
    VKL_VK_NULL_UNLESS(!result, made->fence);
    VklStatus status = result ? fail(stream, result, "vkCreateFence", "of a stream") : commands_allocate(stream, &made->own[0]);
    if (status)
        work_destroy(stream->device, made);
    else
        *work = made;
    return status;
}

/* The first of what has ended. */
static VklVkWork *take_ended(VklVkStream *vk)
{
    VklVkWork *work = vk->ended;
    vk->ended = work->next;
    if (!vk->ended)
        vk->end = &vk->ended;
    return work;
}

/* A piece of work whose fence is unsignaled and whose command buffers are not begun. */
static VklStatus work_get(VklStream *stream, VklVkWork **work)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    if (!vk->idle)
        return work_create(stream, work);
    VklVkWork *found = vk->idle;
    if (found->serial) {
        VkResult result = device->functions.vkResetFences(device->handle, 1, &found->fence);
        if (result)
            return fail(stream, result, "vkResetFences", "of a stream");
        found->serial = 0;
    }
    vk->idle = found->next;
    found->next = NULL;
    *work = found;
    return VKL_OK;
}

/* The work that is next to be submitted. */
static VklStatus work_current(VklStream *stream, VklVkWork **work)
{
    VklVkStream *vk = stream->impl;
    VklStatus status = vk->current ? VKL_OK : work_get(stream, &vk->current);
    *work = vk->current;
    return status;
}

/* So that `count` command buffers can be added, and behind them one more own one and the tail. */
static bool list_room(const VklStream *stream, VklVkWork *work, size_t count)
{
    size_t wanted = work->list_count + count + 2;
    if (wanted <= work->list_capacity)
        return true;
    void *larger = vkl_reallocate(stream->device->caps.memory, work->list, 2 * wanted, sizeof(*work->list));
    if (!larger)
        return false;
    work->list = larger;
    work->list_capacity = 2 * wanted;
    return true;
}

static VklStatus end_current(VklStream *stream);

/* The work that is next to be submitted, with a command buffer that is being recorded. */
static VklStatus work_recording(VklStream *stream, VklVkWork **work)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    VklStatus status = work_current(stream, work);
    if (!status && !(*work)->open && (*work)->used == OWN_COMMANDS) {
        status = end_current(stream);
        if (!status)
            status = work_current(stream, work);
    }
    if (status || (*work)->open)
        return status;
    VklVkWork *found = *work;
    if (!list_room(stream, found, 0))
        status = no_memory(stream, "a command buffer");
    if (!status && !found->own[found->used])
        status = commands_allocate(stream, &found->own[found->used]);
    if (!status) {
        VkCommandBufferBeginInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT,
        };
        VkResult result = device->functions.vkBeginCommandBuffer(found->own[found->used], &info);
        if (result)
            status = fail(stream, result, "vkBeginCommandBuffer", "of a stream");
    }
    if (!status) {
        found->used++;
        found->open = true;
    } else if (!found->list_count) {
        work_release(stream, found);
        vk->current = NULL;
    }
    return status;
}

/* Ends what is being recorded. */
static VkResult work_close(const VklVkDevice *device, VklVkWork *work)
{
    if (!work->open)
        return VK_SUCCESS;
    work->open = false;
    work->list[work->list_count++] = recorded(work);
    VkResult result = device->functions.vkEndCommandBuffer(recorded(work));
    if (result) /* nobody knows its state: another takes its place, and it goes with the pool */
        work->own[work->used - 1] = VK_NULL_HANDLE;
    return result;
}

/* Holds a reference to an exec until the work is done. Repeated ones are found among the latest `near`. */
static bool work_hold(VklExec ***execs, size_t *count, size_t *capacity, size_t near, VklExec *exec)
{
    for (size_t i = *count; i && *count - i < near; i--)
        if ((*execs)[i - 1] == exec)
            return true;
    VklExec **larger = with_room(exec->device->caps.memory, *execs, *count, capacity, sizeof(**execs));
    if (!larger)
        return false;
    *execs = larger;
    vkl_exec_retain(exec);
    (*execs)[(*count)++] = exec;
    return true;
}

/* Submits; the work is in the list of submitted work, or dropped. `before` and `after`: NULL, or whose waits and whose signals
 * go with it. */
static VklStatus work_submit(VklStream *stream, VklVkWork *work, const VklVulkanSubmit *before, const VklVulkanSubmit *after)
{
    static const VkPipelineStageFlags ours =
        VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    VkPipelineStageFlags stages[VKL_VULKAN_SEMAPHORES];
    for (int i = 0; i < VKL_VULKAN_SEMAPHORES; i++)
        stages[i] = ours;
    VkTimelineSemaphoreSubmitInfo values = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO};
    VkSubmitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
        .commandBufferCount = (uint32_t)work->list_count,
        .pCommandBuffers = work->list,
    };
    if (before) {
        info.waitSemaphoreCount = before->wait_count;
        info.pWaitSemaphores = before->waits;
        info.pWaitDstStageMask = before->wait_stages ? before->wait_stages : stages;
        values.waitSemaphoreValueCount = before->wait_values ? before->wait_count : 0;
        values.pWaitSemaphoreValues = before->wait_values;
    }
    if (after) {
        info.signalSemaphoreCount = after->signal_count;
        info.pSignalSemaphores = after->signals;
        values.signalSemaphoreValueCount = after->signal_values ? after->signal_count : 0;
        values.pSignalSemaphoreValues = after->signal_values;
    }
    if (values.waitSemaphoreValueCount || values.signalSemaphoreValueCount)
        info.pNext = &values;
    queue_lock(device);
    VkResult result = device->functions.vkQueueSubmit(device->queue, 1, &info, work->fence);
    if (!result)
        work->serial = atomic_fetch_add(&device->submitted, 1) + 1;
    queue_unlock(device);
    if (result) {
        work_release(stream, work);
        return fail(stream, result, "vkQueueSubmit", "the recorded work is dropped");
    }
    vk->serial = work->serial;
    work->next = NULL;
    *vk->last = work;
    vk->last = &work->next;
    stream->stats.submits++;
    return VKL_OK;
}

/* The first of the submitted work is done. */
static VklStatus work_done(VklStream *stream, bool copy_reads)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    VklVkWork *work = vk->first;
    VklStatus status = VKL_OK;
    uint64_t completed = atomic_load(&device->completed);
    while (completed < work->serial && !atomic_compare_exchange_weak(&device->completed, &completed, work->serial))
        ;
    for (size_t i = 0; copy_reads && !status && i < work->read_count; i++) {
        const Read *read = &work->reads[i];
        VkResult result = vkl_vk_memory_invalidate(stream->device, &read->chunk->buffer.memory, read->offset, read->size);
        if (result)
            status = fail(stream, result, "vkInvalidateMappedMemoryRanges", "of a read");
        else
            memcpy(read->data, (const char *)read->chunk->buffer.memory.host + read->offset, (size_t)read->size);
    }
    if (copy_reads && !status)
        status = queries_read(stream, work);
    vk->first = work->next;
    if (!vk->first)
        vk->last = &vk->first;
    work_release(stream, work);
    return status;
}

/* Takes in what is done, without waiting. */
static VklStatus collect(VklStream *stream)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    while (vk->first) {
        VkResult result = vk->first->serial <= atomic_load(&device->completed)
                              ? VK_SUCCESS
                              : device->functions.vkGetFenceStatus(device->handle, vk->first->fence);
        if (result == VK_NOT_READY)
            break;
        VklStatus status = result ? fail(stream, result, "vkGetFenceStatus", "of submitted work") : work_done(stream, true);
        if (status)
            return status;
    }
    vkl_vk_collect(stream->device);
    return VKL_OK;
}

/* After a wait that failed nobody keeps the memory that reads were to go to. */
static VklStatus wait_failed(VklStream *stream, VklStatus status)
{
    VklVkStream *vk = stream->impl;
    for (VklVkWork *work = vk->first; status < 0 && work; work = work->next)
        work->read_count = 0;
    return status;
}

/* Waits for the submits of this stream up to `serial`. */
static VklStatus wait_for(VklStream *stream, uint64_t serial, uint64_t timeout_ns)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    VklVkWork *last = NULL;
    for (VklVkWork *work = vk->first; work && work->serial <= serial; work = work->next)
        last = work;
    if (!last)
        return VKL_OK;
    VkResult result = device->functions.vkWaitForFences(device->handle, 1, &last->fence, VK_TRUE, timeout_ns);
    if (result == VK_TIMEOUT)
        return VKL_TIMEOUT;
    if (result)
        return wait_failed(stream, fail(stream, result, "vkWaitForFences", "of submitted work"));
    /* a fence covers all that was submitted to its queue before it */
    while (vk->first && vk->first->serial <= serial) {
        VklStatus status = work_done(stream, true);
        if (status)
            return wait_failed(stream, status);
    }
    vkl_vk_collect(stream->device);
    return VKL_OK;
}

/* ---- Create, destroy ---- */

static VkResult record_tail(VklVkDevice *device, VklVkStream *vk, const char **call)
{
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    *call = "vkAllocateCommandBuffers";
    VkResult result = device->functions.vkAllocateCommandBuffers(device->handle, &info, &vk->tail);
    if (result)
        return result;
    VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    };
    *call = "vkBeginCommandBuffer";
    result = device->functions.vkBeginCommandBuffer(vk->tail, &begin);
    if (result)
        return result;
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_HOST_READ_BIT,
    };
    device->functions.vkCmdPipelineBarrier(vk->tail, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                                           VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
    *call = "vkEndCommandBuffer";
    return device->functions.vkEndCommandBuffer(vk->tail);
}

VklStatus vkl_vk_stream_create(VklStream *stream)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = vkl_allocate(stream->device->caps.memory, 1, sizeof(*vk));
    if (!vk)
        return no_memory(stream, "a stream");
    vk->last = &vk->first;
    vk->end = &vk->ended;
    VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT | VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
        .queueFamilyIndex = device->queue_family,
    };
    const char *call = "vkCreateCommandPool";
    VkResult result = device->functions.vkCreateCommandPool(device->handle, &info, device->allocation, &vk->pool);
    VKL_VK_NULL_UNLESS(!result, vk->pool);
    if (!result)
        result = record_tail(device, vk, &call);
    if (result) {
        if (vk->pool)
            device->functions.vkDestroyCommandPool(device->handle, vk->pool, device->allocation);
        vkl_release(vk);
        return fail(stream, result, call, "of a stream");
    }
    stream->impl = vk;
    return VKL_OK;
}

VklStatus vkl_vk_stream_wrap(VklStream *stream, VkCommandBuffer commands)
{
    VklVkStream *vk = vkl_allocate(stream->device->caps.memory, 1, sizeof(*vk));
    VklExec **execs = vkl_allocate(stream->device->caps.memory, WRAPPED_EXECS, sizeof(*execs));
    if (!vk || !execs) {
        vkl_release(vk);
        vkl_release(execs);
        return no_memory(stream, "a stream");
    }
    vk->last = &vk->first;
    vk->end = &vk->ended;
    vk->wrapped = commands;
    vk->execs = execs;
    vk->exec_capacity = WRAPPED_EXECS;
    stream->impl = vk;
    return VKL_OK;
}

/* A lost device is done with its work; any other refusal to wait is answered by another way of waiting. */
static void wait_before_destroying(VklVkDevice *device, VklVkStream *vk)
{
    VklVkWork *work = vk->first;
    while (work && work->next)
        work = work->next;
    VkResult result = work ? device->functions.vkWaitForFences(device->handle, 1, &work->fence, VK_TRUE, UINT64_MAX) : VK_SUCCESS;
    if (result && result != VK_ERROR_DEVICE_LOST) {
        queue_lock(device);
        device->functions.vkQueueWaitIdle(device->queue);
        queue_unlock(device);
    }
}

void vkl_vk_stream_destroy(VklStream *stream)
{
    VklVkDevice *device = vkl_vk(stream->device);
    VklVkStream *vk = stream->impl;
    wait_before_destroying(device, vk);
    while (vk->first)
        work_done(stream, false); /* the caller's memory is not written any more */
    if (vk->current)
        work_release(stream, vk->current);
    while (vk->ended)
        work_release(stream, take_ended(vk));
    while (vk->idle) {
        VklVkWork *work = vk->idle;
        vk->idle = work->next;
        work_destroy(stream->device, work);
    }
    while (vk->chunks) {
        VklVkChunk *chunk = vk->chunks;
        vk->chunks = chunk->next;
        chunk_destroy(stream->device, chunk);
    }
    while (vk->queries) {
        VklVkQueries *queries = vk->queries;
        vk->queries = queries->next;
        queries_destroy(stream->device, queries);
    }
    for (size_t i = 0; i < vk->exec_count; i++)
        vkl_exec_release(vk->execs[i]);
    vkl_release(vk->execs);
    if (vk->pool)
        device->functions.vkDestroyCommandPool(device->handle, vk->pool, device->allocation);
    vkl_release(vk);
    stream->impl = NULL;
    vkl_vk_collect(stream->device);
}

/* ---- Record ---- */

VklStatus vkl_vk_stream_commands(VklStream *stream, VklExec *exec, VkCommandBuffer *commands)
{
    VklVkStream *vk = stream->impl;
    if (vk->wrapped) {
        if (exec && !work_hold(&vk->execs, &vk->exec_count, &vk->exec_capacity, SIZE_MAX, exec))
            return no_memory(stream, "a reference");
        *commands = vk->wrapped;
        return VKL_OK;
    }
    VklVkWork *work;
    VklStatus status = work_recording(stream, &work);
    if (status)
        return status;
    if (exec && !work_hold(&work->execs, &work->exec_count, &work->exec_capacity, 8, exec))
        return no_memory(stream, "a reference");
    *commands = recorded(work);
    return VKL_OK;
}

VklStatus vkl_vk_stream_queries(VklStream *stream, VklExec *exec, size_t first, size_t wanted, VkQueryPool *pool, uint32_t *at,
                                size_t *count)
{
    VklVkStream *vk = stream->impl;
    VklVkQueries *queries;
    VklStatus status = queries_get(stream, vk->current, &queries); /* which vkl_vk_stream_commands() has begun */
    if (status)
        return status;
    Timed *timed =
        with_room(stream->device->caps.memory, queries->timed, queries->timed_count, &queries->timed_capacity, sizeof(*timed));
    if (!timed)
        return no_memory(stream, "timestamps");
    queries->timed = timed;
    size_t room = QUERIES - queries->used - 1;
    *pool = queries->pool;
    *at = queries->used;
    *count = wanted < room ? wanted : room;
    queries->used += (uint32_t)*count + 1;
    timed[queries->timed_count++] = (Timed){.exec = exec, .first = first, .count = *count, .at = *at};
    return VKL_OK;
}

static VkBuffer handle_of(const VklBuffer *buffer)
{
    return ((const VklVkBuffer *)buffer->impl)->handle;
}

static void record_copy(VklStream *stream, VkCommandBuffer commands, VkBuffer dst, uint64_t dst_offset, VkBuffer src,
                        uint64_t src_offset, uint64_t size)
{
    VkBufferCopy region = {.srcOffset = src_offset, .dstOffset = dst_offset, .size = size};
    vkl_vk_barrier(stream->device, commands, VK_PIPELINE_STAGE_TRANSFER_BIT,
                   VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    vkl_vk(stream->device)->functions.vkCmdCopyBuffer(commands, src, dst, 1, &region);
    stream->stats.barriers++;
}

static VklStatus transfer_write(VklStream *stream, const VklTransferArgs *args)
{
    VklVkWork *work;
    VklVkChunk *chunk;
    uint64_t offset;
    VklStatus status = work_recording(stream, &work);
    if (!status)
        status = stage(stream, work, VKL_BUFFER_UPLOAD, args->size, &chunk, &offset);
    if (status)
        return status;
    memcpy((char *)chunk->buffer.memory.host + offset, args->host_in, (size_t)args->size);
    VkResult result = vkl_vk_memory_flush(stream->device, &chunk->buffer.memory, offset, args->size);
    if (result)
        return fail(stream, result, "vkFlushMappedMemoryRanges", "of a write");
    record_copy(stream, recorded(work), handle_of(args->dst.buffer), args->dst.offset, chunk->buffer.handle, offset, args->size);
    return VKL_OK;
}

static VklStatus transfer_read(VklStream *stream, const VklTransferArgs *args)
{
    VklVkWork *work;
    VklVkChunk *chunk;
    uint64_t offset;
    VklStatus status = work_recording(stream, &work);
    if (status)
        return status;
    Read *reads = with_room(stream->device->caps.memory, work->reads, work->read_count, &work->read_capacity, sizeof(*reads));
    if (reads)
        work->reads = reads;
    else
        status = no_memory(stream, "a read");
    if (!status)
        status = stage(stream, work, VKL_BUFFER_READBACK, args->size, &chunk, &offset);
    if (status)
        return status;
    record_copy(stream, recorded(work), chunk->buffer.handle, offset, handle_of(args->src.buffer), args->src.offset, args->size);
    work->reads[work->read_count++] = (Read){.chunk = chunk, .offset = offset, .size = args->size, .data = args->host_out};
    return VKL_OK;
}

VklStatus vkl_vk_stream_transfer(VklStream *stream, const VklTransferArgs *args)
{
    VkCommandBuffer commands;
    VklStatus status;
    switch (args->kind) {
    case VKL_TRANSFER_WRITE:
        return transfer_write(stream, args);
    case VKL_TRANSFER_READ:
        return transfer_read(stream, args);
    case VKL_TRANSFER_COPY:
        status = vkl_vk_stream_commands(stream, NULL, &commands);
        if (!status)
            record_copy(stream, commands, handle_of(args->dst.buffer), args->dst.offset, handle_of(args->src.buffer),
                        args->src.offset, args->size);
        return status;
    case VKL_TRANSFER_SHOW:
        status = vkl_vk_stream_commands(stream, NULL, &commands);
        if (!status) {
            vkl_vk_barrier(stream->device, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
            stream->stats.barriers++;
        }
        return status;
    case VKL_TRANSFER_FILL:
        status = vkl_vk_stream_commands(stream, NULL, &commands);
        if (!status) {
            vkl_vk_barrier(stream->device, commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT);
            vkl_vk(stream->device)
                ->functions.vkCmdFillBuffer(commands, handle_of(args->dst.buffer), args->dst.offset, args->size, args->value);
            stream->stats.barriers++;
        }
        return status;
    }
    return VKL_OK;
}

/* ---- Submit, wait ---- */

/* Ends what was recorded, if anything was; it waits for a submit. */
static VklStatus end_current(VklStream *stream)
{
    VklVkStream *vk = stream->impl;
    VklVkWork *work = vk->current;
    if (!work)
        return VKL_OK;
    vk->current = NULL;
    VkResult result = work_close(vkl_vk(stream->device), work);
    if (result) {
        work_release(stream, work);
        return fail(stream, result, "vkEndCommandBuffer", "the recorded work is dropped");
    }
    work->list[work->list_count++] = vk->tail;
    *vk->end = work;
    vk->end = &work->next;
    return VKL_OK;
}

/* Forgets what was recorded. A command buffer that is being recorded cannot be begun again, so it is ended. */
static void drop(VklStream *stream)
{
    VklVkStream *vk = stream->impl;
    if (vk->current) {
        work_close(vkl_vk(stream->device), vk->current);
        work_release(stream, vk->current);
        vk->current = NULL;
    }
    while (vk->ended)
        work_release(stream, take_ended(vk));
}

/* Submits what was recorded, if anything was, or semaphores alone, after taking in what is done. */
static VklStatus submit_all(VklStream *stream, const VklVulkanSubmit *semaphores)
{
    VklVkStream *vk = stream->impl;
    VklStatus status = collect(stream);
    if (!status && semaphores && !vk->ended && !vk->current)
        status = work_get(stream, &vk->current);
    if (!status)
        status = end_current(stream);
    /* A wait holds for what is submitted later too, and a signal is for all that was submitted before. */
    for (const VklVulkanSubmit *before = semaphores; !status && vk->ended; before = NULL) {
        VklVkWork *work = take_ended(vk);
        status = work_submit(stream, work, before, vk->ended ? NULL : semaphores);
    }
    if (status)
        drop(stream);
    return status;
}

VklStatus vkl_vk_stream_submit(VklStream *stream, VklFence *fence, const VklVulkanSubmit *semaphores)
{
    VklVkStream *vk = stream->impl;
    FencePoint *point = NULL;
    if (fence) {
        point = vkl_allocate(stream->device->caps.memory, 1, sizeof(*point));
        if (!point)
            return no_memory(stream, "a fence");
    }
    VklStatus status = submit_all(stream, semaphores);
    if (status) {
        vkl_release(point);
        return status;
    }
    if (fence) {
        point->serial = vk->serial;
        fence->impl = point;
    }
    return VKL_OK;
}

VklStatus vkl_vk_stream_charge(VklStream *stream, double cost)
{
    VklVkStream *vk = stream->impl;
    const double most = stream->device->caps.submit_cost;
    if (vk->wrapped || vk->piece || !vk->current) /* a command buffer of the caller's is the caller's to submit */
        return VKL_OK;
    vk->current->cost += cost;
    return most > 0 && vk->current->cost >= most ? end_current(stream) : VKL_OK;
}

VklStatus vkl_vk_stream_queries_full(VklStream *stream)
{
    const VklVkStream *vk = stream->impl;
    return vk->current && vk->current->query_pools >= QUERY_POOLS_MOST ? submit_all(stream, NULL) : VKL_OK;
}

VklStatus vkl_vk_stream_wait(VklStream *stream)
{
    VklVkStream *vk = stream->impl;
    VklStatus status = submit_all(stream, NULL);
    return status ? wait_failed(stream, status) : wait_for(stream, vk->serial, UINT64_MAX);
}

VklStatus vkl_vk_stream_replay(VklStream *stream, VklExec *exec, VkCommandBuffer commands, uint32_t count)
{
    VklVkStream *vk = stream->impl;
    const VklVkExec *vk_exec = exec->impl;
    const double most = stream->device->caps.submit_cost;
    VklStatus status = VKL_OK;
    while (!status && count) {
        VklVkWork *work;
        status = work_current(stream, &work);
        if (status)
            return status;
        double left = most > 0 && vk_exec->cost > 0 ? (most - work->cost) / vk_exec->cost : REPLAYS_PER_SUBMIT; /* repetitions */
        uint32_t repeats = left < 1 ? 1 : left < REPLAYS_PER_SUBMIT ? (uint32_t)left : REPLAYS_PER_SUBMIT;
        repeats = vk->piece || count < repeats ? count : repeats;
        VkResult result = work_close(vkl_vk(stream->device), work);
        if (result) {
            drop(stream);
            return fail(stream, result, "vkEndCommandBuffer", "the recorded work is dropped");
        }
        if (!work_hold(&work->execs, &work->exec_count, &work->exec_capacity, 8, exec) || !list_room(stream, work, repeats))
            return no_memory(stream, "a replay");
        for (uint32_t i = 0; i < repeats; i++)
            work->list[work->list_count++] = commands;
        work->cost += repeats * vk_exec->cost;
        if (!vk->piece)
            status = submit_all(stream, NULL);
        if (!status) {
            stream->stats.dispatches += repeats * (uint64_t)vk_exec->count;
            stream->stats.barriers += repeats * vk_exec->barriers;
            count -= repeats;
        }
    }
    return status;
}

/* ---- Pieces ---- */

VklStatus vkl_vk_timer_create(VklTimer *timer)
{
    VklVkDevice *device = vkl_vk(timer->stream->device);
    Timer *made = vkl_allocate(timer->stream->device->caps.memory, 1, sizeof(*made));
    if (!made)
        return no_memory(timer->stream, "a timer");
    VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = 2,
    };
    VkResult result = device->timestamp_bits
                          ? device->functions.vkCreateQueryPool(device->handle, &info, device->allocation, &made->pool)
                          : VK_SUCCESS;
    if (result) {
        vkl_release(made);
        return fail(timer->stream, result, "vkCreateQueryPool", "of a timer");
    }
    timer->impl = made;
    return VKL_OK;
}

void vkl_vk_timer_destroy(VklTimer *timer)
{
    VklVkDevice *device = vkl_vk(timer->stream->device);
    VklVkStream *stream = timer->stream->impl;
    Timer *vk = timer->impl;
    if (vk->pool && stream->first && stream->first->serial <= vk->serial) /* a wait was refused */
        wait_before_destroying(device, stream);
    if (vk->pool)
        device->functions.vkDestroyQueryPool(device->handle, vk->pool, device->allocation);
    vkl_release(vk);
}

static VklStatus stamp(VklTimer *timer, uint32_t query)
{
    VklVkDevice *device = vkl_vk(timer->stream->device);
    const Timer *vk = timer->impl;
    VkCommandBuffer commands;
    if (!vk->pool)
        return VKL_OK;
    VklStatus status = vkl_vk_stream_commands(timer->stream, NULL, &commands);
    if (status)
        return status;
    if (query == 0)
        device->functions.vkCmdResetQueryPool(commands, vk->pool, 0, 2);
    device->functions.vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, vk->pool, query);
    return VKL_OK;
}

VklStatus vkl_vk_piece_begin(VklTimer *timer)
{
    VklVkStream *vk = timer->stream->impl;
    VklStatus status = stamp(timer, 0);
    vk->piece = !status;
    return status;
}

void vkl_vk_piece_drop(VklTimer *timer)
{
    VklVkStream *vk = timer->stream->impl;
    vk->piece = false;
    drop(timer->stream);
}

VklStatus vkl_vk_piece_submit(VklTimer *timer)
{
    VklVkStream *vk = timer->stream->impl;
    Timer *mine = timer->impl;
    VklStatus status = stamp(timer, 1);
    vk->piece = false;
    if (!status)
        status = submit_all(timer->stream, NULL);
    if (status)
        drop(timer->stream);
    else
        mine->serial = vk->serial;
    return status;
}

VklStatus vkl_vk_piece_look(VklTimer *timer, double *nanoseconds)
{
    VklVkDevice *device = vkl_vk(timer->stream->device);
    const VklVkStream *vk = timer->stream->impl;
    const Timer *mine = timer->impl;
    uint64_t ticks[2];
    VklStatus status = collect(timer->stream);
    if (status)
        return status;
    if (vk->first && vk->first->serial <= mine->serial)
        return VKL_TIMEOUT;
    *nanoseconds = -1;
    VkResult result = mine->pool ? device->functions.vkGetQueryPoolResults(device->handle, mine->pool, 0, 2, sizeof(ticks), ticks,
                                                                           sizeof(*ticks), VK_QUERY_RESULT_64_BIT)
                                 : VK_NOT_READY;
    if (result < 0)
        return fail(timer->stream, result, "vkGetQueryPoolResults", "of a timer");
    uint64_t mask = device->timestamp_bits < 64 ? (UINT64_C(1) << device->timestamp_bits) - 1 : UINT64_MAX;
    if (!result)
        *nanoseconds = (double)((ticks[1] - ticks[0]) & mask) * device->timestamp_period;
    return VKL_OK;
}

/* ---- Fences ---- */

VklStatus vkl_vk_fence_wait(VklFence *fence, uint64_t timeout_ns)
{
    const FencePoint *point = fence->impl;
    VklStatus status = vkl_device_alive(fence->stream->device, &fence->stream->error, "vkl_fence_wait");
    return status ? status : wait_for(fence->stream, point->serial, timeout_ns);
}

void vkl_vk_fence_destroy(VklFence *fence)
{
    vkl_release(fence->impl);
}

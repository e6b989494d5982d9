/* SPDX-License-Identifier: MIT
 *
 * A plan made ready for the device: pipelines, descriptor sets and arguments of every op. What is recorded later reads this and
 * changes nothing in it.
 *
 * Ops that see the same windows share a descriptor set, so that the steps of a long sequence need a handful. */
#include "vk.h"

typedef struct Window {
    VkBuffer buffer;
    uint64_t offset, range;
} Window;

/* What a descriptor set is made of; a key as it stands, so padding and unused windows are zero. */
typedef struct Key {
    uint32_t bindings;
    Window windows[VKL_BINDINGS];
} Key;

typedef struct Keys {
    Key *keys;
    uint32_t *slots; /* hash table: indices + 1, 0 where empty */
    uint32_t *of_op;
    VklVkPipeline **pipelines; /* by op */
    size_t count, slot_count;
} Keys;

static void keys_finish(Keys *keys)
{
    vkl_release(keys->keys);
    vkl_release(keys->slots);
    vkl_release(keys->of_op);
    vkl_release(keys->pipelines);
}

static bool keys_init(const VklHostMemory *memory, Keys *keys, size_t ops)
{
    keys->slot_count = 16;
    while (keys->slot_count < 2 * ops)
        keys->slot_count *= 2;
    keys->keys = vkl_allocate(memory, ops, sizeof(*keys->keys));
    keys->slots = vkl_allocate(memory, keys->slot_count, sizeof(*keys->slots));
    keys->of_op = vkl_allocate(memory, ops, sizeof(*keys->of_op));
    keys->pipelines = vkl_allocate(memory, ops, sizeof(VklVkPipeline *));
    return keys->keys && keys->slots && keys->of_op && keys->pipelines;
}

static uint32_t keys_add(Keys *keys, const Key *key)
{
    uint64_t hash = key->bindings;
    for (uint32_t i = 0; i < key->bindings; i++) {
        const uint64_t parts[] = {(uint64_t)key->windows[i].buffer, key->windows[i].offset, key->windows[i].range};
        for (int j = 0; j < 3; j++) {
            hash = (hash ^ parts[j]) * UINT64_C(0x9e3779b97f4a7c15);
            hash ^= hash >> 32;
        }
    }
    for (size_t slot = hash & (keys->slot_count - 1);; slot = (slot + 1) & (keys->slot_count - 1)) {
        uint32_t index = keys->slots[slot];
        if (index && !memcmp(&keys->keys[index - 1], key, sizeof(*key)))
            return index - 1;
        if (!index) {
            keys->keys[keys->count++] = *key;
            keys->slots[slot] = (uint32_t)keys->count;
            return (uint32_t)keys->count - 1;
        }
    }
}

/* Windows begin and end at multiples of VKL_WINDOW_GRID in their slot, so that steps whose arrays lie close to each other share
 * a descriptor set: a set for each step would be many (newer lavapipe maps memory for each, and a process may have 65,530
 * maps). */
#define GRID VKL_WINDOW_GRID

/* One binding: its base is rounded down to what the device allows, and the rest goes into the kernel's arguments. */
static VklStatus bind_window(const VklExec *exec, const VklOp *op, uint32_t binding, VklError *error, Window *window,
                             VklArgs *args)
{
    VklDevice *device = exec->device;
    const VklBind *bind = &op->bind[binding];
    const VklSlice *slice = &exec->slots[bind->slot];
    uint64_t alignment = device->info.limits.storage_alignment, limit = device->info.limits.storage_range;
    uint64_t begin = bind->offset & ~(GRID - 1), end = (bind->offset + bind->size + GRID - 1) & ~(GRID - 1);
    if (end > exec->plan.slot_size[bind->slot])
        end = exec->plan.slot_size[bind->slot];
    if (end - begin + alignment > limit) {
        begin = bind->offset;
        end = bind->offset + bind->size;
    }
    uint64_t offset = slice->offset + begin, rest = offset % alignment, range = end - begin + rest;
    if (range > limit)
        return vkl_fail(device->context, error, VKL_ERROR_LIMIT,
                        "%s: a window of %llu bytes at offset %llu of %s is not aligned to %llu and would need %llu bytes of "
                        "storage range; '%s' allows %llu: align the offset of %s",
                        vkl_kernel_info[op->kernel].name, (unsigned long long)bind->size, (unsigned long long)offset,
                        vkl_slot_name[bind->slot], (unsigned long long)alignment, (unsigned long long)range, device->info.name,
                        (unsigned long long)limit, vkl_slot_name[bind->slot]);
    args->offset[binding] += (uint32_t)((bind->offset - begin + rest) / 4);
    window->buffer = ((const VklVkBuffer *)slice->buffer->impl)->handle;
    window->offset = offset - rest;
    window->range = range;
    return VKL_OK;
}

static VklStatus check_op(const VklExec *exec, const VklOp *op, VklError *error)
{
    const VklDevice *device = exec->device;
    const VklDeviceLimits *limits = &device->info.limits;
    for (int axis = 0; axis < 3; axis++)
        if (!op->groups[axis] || op->groups[axis] > limits->workgroups[axis])
            return vkl_fail(device->context, error, VKL_ERROR_LIMIT, "%s: %u workgroups on axis %d; '%s' allows 1 to %u",
                            vkl_kernel_info[op->kernel].name, op->groups[axis], axis, device->info.name,
                            limits->workgroups[axis]);
    if (op->bindings != vkl_kernel_info[op->kernel].bindings)
        return vkl_fail(device->context, error, VKL_ERROR_INVALID, "%s: %u bindings; the kernel has %u",
                        vkl_kernel_info[op->kernel].name, op->bindings, vkl_kernel_info[op->kernel].bindings);
    return VKL_OK;
}

/* ---- Barriers ----
 * The plan has set its barriers by what ops do to slots, and that is not decided again. But here windows have grown by rounding, slots
 * lie in buffers, perhaps in the same one, and what a shader does not declare `readonly` counts as written, whatever a call does.
 * The bytes in question are not touched, yet neither a driver nor a validation layer can know that: where such windows meet, a
 * barrier is added. */

/* What ops since the last barrier see. */
typedef struct Touched {
    const Window *window;
    const VklBind *bind;
    bool write;
} Touched;

typedef struct Since {
    Touched *list;
    size_t count, capacity;
} Since;

static bool meet(uint64_t offset, uint64_t size, uint64_t other_offset, uint64_t other_size)
{
    return offset < other_offset + other_size && other_offset < offset + size;
}

static bool plan_knows(const VklBind *a, const VklBind *b)
{
    return a->slot == b->slot && ((a->access | b->access) & VKL_WRITE) && meet(a->offset, a->size, b->offset, b->size);
}

static bool conflicts(const Since *since, const Touched *mine)
{
    for (size_t i = 0; i < since->count; i++) {
        const Touched *other = &since->list[i];
        if ((mine->write || other->write) && mine->window->buffer == other->window->buffer &&
            meet(mine->window->offset, mine->window->range, other->window->offset, other->window->range) &&
            !plan_knows(mine->bind, other->bind))
            return true;
    }
    return false;
}

static bool touch(const VklHostMemory *memory, Since *since, Touched touched)
{
    if (since->count == since->capacity) {
        size_t capacity = since->capacity ? 2 * since->capacity : 64;
        Touched *list = vkl_reallocate(memory, since->list, capacity, sizeof(*list));
        if (!list)
            return false;
        since->list = list;
        since->capacity = capacity;
    }
    since->list[since->count++] = touched;
    return true;
}

static VklStatus set_barriers(const VklExec *exec, VklVkExec *vk, const Keys *keys, VklError *error)
{
    Since since = {0};
    VklStatus status = VKL_OK;
    for (size_t i = 0; !status && i < vk->count; i++) {
        const VklOp *op = &exec->plan.ops[i];
        Touched mine[VKL_BINDINGS];
        bool barrier = op->barrier;
        for (uint32_t binding = 0; binding < op->bindings; binding++) {
            mine[binding] = (Touched){
                .window = &keys->keys[keys->of_op[i]].windows[binding],
                .bind = &op->bind[binding],
                .write = vkl_kernel_info[op->kernel].writable >> binding & 1,
            };
            barrier = barrier || conflicts(&since, &mine[binding]);
        }
        if (barrier)
            since.count = 0;
        for (uint32_t binding = 0; !status && binding < op->bindings; binding++)
            if (!touch(exec->device->caps.memory, &since, mine[binding]))
                status = vkl_fail(exec->device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for barriers");
        vk->ops[i].barrier = barrier && i; /* in front of the first there is one anyway */
        vk->barriers += vk->ops[i].barrier;
    }
    vk->barriers++;
    vkl_release(since.list);
    return status;
}

static VklStatus fill_ops(VklExec *exec, VklVkExec *vk, Keys *keys, VklError *error)
{
    for (size_t i = 0; i < vk->count; i++) {
        const VklOp *op = &exec->plan.ops[i];
        VklVkOp *made = &vk->ops[i];
        Key key;
        memset(&key, 0, sizeof(key));
        key.bindings = op->bindings;
        made->cost = (float)vkl_op_cost(op);
        vk->cost += (double)made->cost;
        memcpy(made->groups, op->groups, sizeof(made->groups));
        if (op->counted.rows) {
            const VklSlice *slice = &exec->slots[VKL_SLOT_WORKSPACE];
            made->indirect = ((const VklVkBuffer *)slice->buffer->impl)->handle;
            made->indirect_at = slice->offset + 4 * op->counted.at;
            vk->counted = true;
        }
        made->args = op->args;
        VklStatus status = check_op(exec, op, error);
        for (uint32_t binding = 0; !status && binding < op->bindings; binding++)
            status = bind_window(exec, op, binding, error, &key.windows[binding], &made->args);
        uint32_t spec[VKL_SPEC_COUNT];
        made->kernel = vkl_op_settle(op, &made->args, spec);
        if (status)
            return status;
        keys->pipelines[i] = vkl_vk_pipeline_row(exec->device, made->kernel, spec);
        if (!keys->pipelines[i])
            return vkl_fail(exec->device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for a pipeline");
        made->layout = vkl_vk(exec->device)->pipelines.layouts[op->bindings];
        keys->of_op[i] = keys_add(keys, &key);
    }
    VklStatus status = vkl_vk_pipelines_compile(exec->device, keys->pipelines, vk->count, error);
    for (size_t i = 0; !status && i < vk->count; i++)
        vk->ops[i].pipeline = keys->pipelines[i]->handle;
    return status;
}

static VklStatus make_sets(VklExec *exec, VklVkExec *vk, const Keys *keys, VklError *error)
{
    VklDevice *device = exec->device;
    VklVkDevice *vk_device = vkl_vk(device);
    uint32_t count = (uint32_t)keys->count, descriptors = 0;
    VkDescriptorSetLayout *layouts = vkl_allocate(device->caps.memory, count, sizeof(*layouts));
    VkDescriptorSet *sets = vkl_allocate(device->caps.memory, count, sizeof(*sets));
    VkDescriptorBufferInfo *infos = vkl_allocate(device->caps.memory, count, VKL_BINDINGS * sizeof(*infos));
    VkWriteDescriptorSet *writes = vkl_allocate(device->caps.memory, count, sizeof(*writes));
    VklStatus status = VKL_OK;
    if (!layouts || !sets || !infos || !writes) {
        status = vkl_fail(device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %u descriptor sets", count);
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        layouts[i] = vk_device->pipelines.set_layouts[keys->keys[i].bindings];
        descriptors += keys->keys[i].bindings;
    }
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, descriptors};
    VkDescriptorPoolCreateInfo pool_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = count,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    VkResult result =
        vk_device->functions.vkCreateDescriptorPool(vk_device->handle, &pool_info, vk_device->allocation, &vk->descriptors);
    VKL_VK_NULL_UNLESS(!result, vk->descriptors);
    if (result) {
        status = vkl_vk_fail(device->context, device, error, result, "vkCreateDescriptorPool", "%u descriptor sets", count);
        goto out;
    }
    VkDescriptorSetAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = vk->descriptors,
        .descriptorSetCount = count,
        .pSetLayouts = layouts,
    };
    result = vk_device->functions.vkAllocateDescriptorSets(vk_device->handle, &info, sets);
    if (result) {
        status = vkl_vk_fail(device->context, device, error, result, "vkAllocateDescriptorSets", "%u descriptor sets", count);
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        const Key *key = &keys->keys[i];
        VkDescriptorBufferInfo *windows = &infos[(size_t)i * VKL_BINDINGS];
        for (uint32_t binding = 0; binding < key->bindings; binding++)
            windows[binding] = (VkDescriptorBufferInfo){
                .buffer = key->windows[binding].buffer,
                .offset = key->windows[binding].offset,
                .range = key->windows[binding].range,
            };
        /* one write goes on from binding to binding */
        writes[i] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = sets[i],
            .descriptorCount = key->bindings,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = windows,
        };
    }
    vk_device->functions.vkUpdateDescriptorSets(vk_device->handle, count, writes, 0, NULL);
    for (size_t i = 0; i < vk->count; i++)
        vk->ops[i].set = sets[keys->of_op[i]];

out:
    vkl_release(layouts);
    vkl_release(sets);
    vkl_release(infos);
    vkl_release(writes);
    return status;
}

VklStatus vkl_vk_exec_create(VklExec *exec, VklError *error)
{
    VklContext *context = exec->device->context;
    size_t count = exec->plan.count;
    VklVkExec *vk = vkl_allocate(exec->device->caps.memory, 1, sizeof(*vk));
    Keys keys = {0};
    VklStatus status = VKL_OK;
    if (count > UINT32_MAX / VKL_BINDINGS) {
        status = vkl_fail(context, error, VKL_ERROR_LIMIT, "%zu kernel calls; at most %u can be prepared", count,
                          UINT32_MAX / VKL_BINDINGS);
        goto fail;
    }
    if (vk)
        vk->ops = vkl_allocate(exec->device->caps.memory, count, sizeof(*vk->ops));
    if (!vk || !vk->ops || (count && !keys_init(exec->device->caps.memory, &keys, count))) {
        status = vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for %zu kernel calls", count);
        goto fail;
    }
    vk->count = count;
    exec->impl = vk;
    if (count) {
        status = fill_ops(exec, vk, &keys, error);
        if (!status)
            status = set_barriers(exec, vk, &keys, error);
        if (!status)
            status = make_sets(exec, vk, &keys, error);
    }
    if (status)
        goto fail;
    keys_finish(&keys);
    return VKL_OK;

fail:
    keys_finish(&keys);
    exec->impl = vk;
    vkl_vk_exec_destroy(exec);
    return status;
}

void vkl_vk_exec_destroy(VklExec *exec)
{
    VklVkDevice *device = vkl_vk(exec->device);
    VklVkExec *vk = exec->impl;
    exec->impl = NULL;
    if (!vk)
        return;
    if (vk->pool)
        device->functions.vkDestroyCommandPool(device->handle, vk->pool, device->allocation);
    if (vk->descriptors)
        device->functions.vkDestroyDescriptorPool(device->handle, vk->descriptors, device->allocation);
    vkl_release(vk->ops);
    vkl_release(vk);
}

/* The only dispatch of the library. A range of the ops, of which the first has a barrier in front of it; with `pool`, each has, and a
 * timestamp behind it, and one is in front of the first. */
static void record(VklDevice *device, const VklVkExec *exec, size_t first, size_t count, VkCommandBuffer commands,
                   VkQueryPool pool, uint32_t query)
{
    VklVkDevice *vk = vkl_vk(device);
    const VklDeviceFunctions *functions = &vk->functions;
    const VkAccessFlags access = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkDescriptorSet set = VK_NULL_HANDLE;
    if (!count)
        return;
    if (exec->counted) /* what TALLY has written before `first` counts as well */
        vkl_vk_barrier(device, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT,
                       access | VK_ACCESS_INDIRECT_COMMAND_READ_BIT);
    else
        vkl_vk_barrier(device, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, access);
    if (pool)
        functions->vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool, query);
    for (size_t i = first; i < first + count; i++) {
        const VklVkOp *op = &exec->ops[i];
        if ((op->barrier || pool) && i != first) {
            bool counted = exec->ops[i - 1].kernel == VKL_KERNEL_TALLY;
            VkMemoryBarrier barrier = {
                .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                .dstAccessMask = access | (counted ? VK_ACCESS_INDIRECT_COMMAND_READ_BIT : 0),
            };
            VkPipelineStageFlags stages =
                VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | (counted ? VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT : 0);
            functions->vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, stages, 0, 1, &barrier, 0, NULL, 0,
                                            NULL);
        }
        if (vk->debug) {
            VkDebugUtilsLabelEXT label = {
                .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_LABEL_EXT,
                .pLabelName = vkl_kernel_info[op->kernel].name,
            };
            vk->instance_functions.vkCmdBeginDebugUtilsLabelEXT(commands, &label);
        }
        if (op->pipeline != pipeline) {
            pipeline = op->pipeline;
            functions->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
        }
        if (op->set != set) {
            set = op->set;
            functions->vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, op->layout, 0, 1, &set, 0, NULL);
        }
        functions->vkCmdPushConstants(commands, op->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, vkl_kernel_info[op->kernel].args_size,
                                      &op->args);
        if (op->indirect)
            functions->vkCmdDispatchIndirect(commands, op->indirect, op->indirect_at);
        else
            functions->vkCmdDispatch(commands, op->groups[0], op->groups[1], op->groups[2]);
        if (pool)
            functions->vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool,
                                           query + 1 + (uint32_t)(i - first));
        if (vk->debug)
            vk->instance_functions.vkCmdEndDebugUtilsLabelEXT(commands);
    }
}

static VklStatus record_timed(VklExec *exec, VklStream *stream, size_t first, size_t end, VkCommandBuffer commands)
{
    const VklVkExec *vk = exec->impl;
    for (size_t count; first < end; first += count) {
        VkQueryPool pool;
        uint32_t query;
        VklStatus status = vkl_vk_stream_queries(stream, exec, first, end - first, &pool, &query, &count);
        if (status)
            return status;
        record(exec->device, vk, first, count, commands, pool, query);
    }
    return VKL_OK;
}

/* In as many submits as the work is worth. */
static VklStatus record_parts(VklExec *exec, VklStream *stream)
{
    const VklVkExec *vk = exec->impl;
    const double most = exec->device->caps.submit_cost;
    VklStatus status = VKL_OK;
    size_t count;
    for (size_t first = 0; !status && first < vk->count; first += count) {
        VkCommandBuffer commands;
        double cost = 0;
        for (count = 0; first + count < vk->count && (most <= 0 || !count || cost < most); count++)
            cost += (double)vk->ops[first + count].cost;
        status = vkl_vk_stream_commands(stream, exec, &commands);
        if (status)
            return status;
        record(exec->device, vk, first, count, commands, VK_NULL_HANDLE, 0);
        status = vkl_vk_stream_charge(stream, cost);
    }
    return status;
}

VklStatus vkl_vk_exec_record(VklExec *exec, VklStream *stream)
{
    const VklVkExec *vk = exec->impl;
    VkCommandBuffer commands;
    VklStatus status = vkl_vk_stream_commands(stream, exec, &commands);
    if (status || !vk->count)
        return status;
    status = stream->profiling ? record_timed(exec, stream, 0, vk->count, commands) : record_parts(exec, stream);
    if (status)
        return status;
    stream->stats.dispatches += vk->count;
    stream->stats.barriers += vk->barriers;
    return VKL_OK;
}

VklStatus vkl_vk_exec_record_part(VklExec *exec, VklStream *stream, size_t first, size_t count)
{
    const VklVkExec *vk = exec->impl;
    VkCommandBuffer commands;
    VklStatus status = vkl_vk_stream_commands(stream, exec, &commands);
    if (status)
        return status;
    if (stream->profiling)
        status = record_timed(exec, stream, first, first + count, commands);
    else
        record(exec->device, vk, first, count, commands, VK_NULL_HANDLE, 0);
    if (status)
        return status;
    stream->stats.dispatches += count;
    stream->stats.barriers++;
    for (size_t i = first + 1; i < first + count; i++)
        stream->stats.barriers += vk->ops[i].barrier;
    return VKL_OK;
}

/* The command buffer for replays; replay_mutex is held. */
static VkResult record_replay(VklExec *exec, const char **call)
{
    VklVkDevice *device = vkl_vk(exec->device);
    VklVkExec *vk = exec->impl;
    VkCommandBuffer commands;
    if (vk->commands)
        return VK_SUCCESS;
    VkResult result = VK_SUCCESS;
    if (!vk->pool) {
        VkCommandPoolCreateInfo info = {
            .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
            .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
            .queueFamilyIndex = device->queue_family,
        };
        *call = "vkCreateCommandPool";
        result = device->functions.vkCreateCommandPool(device->handle, &info, device->allocation, &vk->pool);
        VKL_VK_NULL_UNLESS(!result, vk->pool);
        if (result)
            return result;
    }
    VkCommandBufferAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = vk->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    *call = "vkAllocateCommandBuffers";
    result = device->functions.vkAllocateCommandBuffers(device->handle, &info, &commands);
    if (result)
        return result;
    /* it is in flight as often as it is repeated */
    VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    };
    *call = "vkBeginCommandBuffer";
    result = device->functions.vkBeginCommandBuffer(commands, &begin);
    if (result)
        return result; /* freed with its pool */
    record(exec->device, vk, 0, vk->count, commands, VK_NULL_HANDLE, 0);
    *call = "vkEndCommandBuffer";
    result = device->functions.vkEndCommandBuffer(commands);
    if (result)
        return result;
    vk->commands = commands;
    vkl_vk_name(exec->device, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)commands, "vklstm replay of %zu kernels",
                vk->count);
    return VK_SUCCESS;
}

VklStatus vkl_vk_exec_replay(VklExec *exec, VklStream *stream, uint32_t count)
{
    VklDevice *device = exec->device;
    VklVkDevice *vk_device = vkl_vk(device);
    VklVkExec *vk = exec->impl;
    const char *call = NULL;
    const VklVkStream *vk_stream = stream->impl;
    const double most = vk_stream->piece ? 0 : device->caps.submit_cost;
    if (stream->profiling ||
        (most > 0 && vk->cost > most)) { /* the command buffer for replays has no timestamps, and goes as a whole */
        VklStatus status = VKL_OK;
        for (uint32_t i = 0; i < count && !status; i++) {
            status = vkl_vk_exec_record(exec, stream);
            if (!status)
                status = stream->profiling ? vkl_vk_stream_queries_full(stream) : vkl_vk_stream_submit(stream, NULL, NULL);
        }
        return status || vk_stream->piece ? status : vkl_vk_stream_submit(stream, NULL, NULL);
    }
    pthread_mutex_lock(&vk_device->replay_mutex);
    VkResult result = record_replay(exec, &call);
    pthread_mutex_unlock(&vk_device->replay_mutex);
    if (result)
        return vkl_vk_fail(device->context, device, &stream->error, result, call, "for the replay of %zu kernels", vk->count);
    return vkl_vk_stream_replay(stream, exec, vk->commands, count);
}

/* SPDX-License-Identifier: MIT
 *
 * A plan bound to buffers, and the cache in which objects keep the last few. */
#include "internal.h"

static VklStatus check_slots(VklDevice *device, const VklPlan *plan, const VklSlice *slots, const char *caller, VklError *error)
{
    VklContext *context = device->context;
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++) {
        uint64_t need = plan->slot_size[slot];
        const VklSlice *slice = &slots[slot];
        const char *name = vkl_slot_name[slot];
        if (!need)
            continue;
        if (!slice->buffer)
            return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: %s has no buffer; %llu bytes are needed", caller, name,
                            (unsigned long long)need);
        if (slice->buffer->device != device)
            return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: %s belongs to another device", caller, name);
        bool packed = slot == VKL_SLOT_PARAMS || slot == VKL_SLOT_GRADS || slot == VKL_SLOT_STEP_GRADS ||
                      slot == VKL_SLOT_RESERVE || slot == VKL_SLOT_WORKSPACE;
        if (slice->offset % (packed ? 16 : 4))
            return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: the offset of %s is %llu bytes; it must be a multiple of %d",
                            caller, name, (unsigned long long)slice->offset, packed ? 16 : 4);
        if (slice->offset > slice->buffer->size || need > slice->buffer->size - slice->offset)
            return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: %s needs %llu bytes at offset %llu; its buffer has %llu",
                            caller, name, (unsigned long long)need, (unsigned long long)slice->offset,
                            (unsigned long long)slice->buffer->size);
    }
    return VKL_OK;
}

/* An array that the plan writes must not share memory with another. */
static VklStatus check_overlaps(VklDevice *device, const VklPlan *plan, const VklSlice *slots, const char *caller,
                                VklError *error)
{
    bool written[VKL_SLOT_COUNT] = {false};
    for (size_t i = 0; i < plan->count; i++)
        for (int j = 0; j < plan->ops[i].bindings; j++)
            if (plan->ops[i].bind[j].access & VKL_WRITE)
                written[plan->ops[i].bind[j].slot] = true;
    for (int a = 0; a < VKL_SLOT_COUNT; a++)
        for (int b = a + 1; b < VKL_SLOT_COUNT; b++)
            if (plan->slot_size[a] && plan->slot_size[b] && (written[a] || written[b]) && slots[a].buffer == slots[b].buffer &&
                slots[a].offset < slots[b].offset + plan->slot_size[b] && slots[b].offset < slots[a].offset + plan->slot_size[a])
                return vkl_fail(device->context, error, VKL_ERROR_INVALID,
                                "%s: %s (%llu bytes at offset %llu) and %s (%llu at %llu) overlap in one buffer", caller,
                                vkl_slot_name[a], (unsigned long long)plan->slot_size[a], (unsigned long long)slots[a].offset,
                                vkl_slot_name[b], (unsigned long long)plan->slot_size[b], (unsigned long long)slots[b].offset);
    return VKL_OK;
}

VklStatus vkl_exec_create(VklDevice *device, VklPlan *plan, const VklSlice slots[VKL_SLOT_COUNT], const char *caller,
                          VklError *error, VklExec **exec)
{
    VklStatus status = plan->status;
    if (status) {
        vkl_fail(device->context, error, status, "%s: %s", caller, plan->error);
    } else if (!exec) {
        status = vkl_fail(device->context, error, VKL_ERROR_INVALID, "%s: exec is NULL", caller);
    } else {
        status = vkl_device_alive(device, error, caller);
        if (!status)
            status = check_slots(device, plan, slots, caller, error);
        if (!status)
            status = check_overlaps(device, plan, slots, caller, error);
    }
    if (status) {
        vkl_plan_finish(plan);
        return status;
    }
    VklExec *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made) {
        vkl_plan_finish(plan);
        return vkl_fail(device->context, error, VKL_ERROR_HOST_MEMORY, "%s: the host refused %zu bytes", caller, sizeof(*made));
    }
    made->device = device;
    made->plan = *plan;
    made->plan.caps = &device->caps;
    memset(plan, 0, sizeof(*plan));
    memcpy(made->slots, slots, sizeof(made->slots));
    atomic_init(&made->references, 1);
    status = device->backend->exec_create(made, error);
    if (status) {
        vkl_plan_finish(&made->plan);
        vkl_release(made);
        return status;
    }
    *exec = made;
    return VKL_OK;
}

VklStatus vkl_exec_record_once(VklDevice *device, VklStream *stream, VklPlan *plan, const VklSlice slots[VKL_SLOT_COUNT],
                               const char *caller, VklError *error)
{
    VklExec *exec;
    VklStatus status = vkl_exec_create(device, plan, slots, caller, error, &exec);
    if (status)
        return status;
    status = vkl_exec_record(exec, stream);
    vkl_exec_release(exec);
    return status && (!stream || error != &stream->error) ? vkl_fail_again(error, status) : status;
}

void vkl_exec_retain(VklExec *exec)
{
    atomic_fetch_add(&exec->references, 1);
}

void vkl_exec_release(VklExec *exec)
{
    if (!exec || atomic_fetch_sub(&exec->references, 1) != 1)
        return;
    exec->device->backend->exec_destroy(exec);
    vkl_plan_finish(&exec->plan);
    vkl_release(exec);
}

void vkl_exec_destroy(VklExec *exec)
{
    vkl_exec_release(exec);
}

static uint64_t hash_bytes(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a, 64 bits */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

VklExec *vkl_exec_cache_find(VklContext *context, VklExecCache *cache, const void *key, size_t size)
{
    uint64_t hash = hash_bytes(key, size);
    VklExec *found = NULL;
    pthread_mutex_lock(&context->mutex);
    for (int i = 0; i < VKL_CACHE_SIZE && !found; i++) {
        if (cache->entries[i].exec && cache->entries[i].hash == hash && cache->entries[i].key_size == size &&
            !memcmp(cache->entries[i].key, key, size)) {
            cache->entries[i].used = ++cache->clock;
            found = cache->entries[i].exec;
            vkl_exec_retain(found); /* another thread may put something else in its place */
        }
    }
    pthread_mutex_unlock(&context->mutex);
    return found;
}

void vkl_exec_cache_add(VklContext *context, VklExecCache *cache, const void *key, size_t size, VklExec *exec)
{
    void *copy = vkl_allocate(exec->device->caps.memory, size, 1);
    if (!copy)
        return;
    memcpy(copy, key, size);
    vkl_exec_retain(exec);
    int oldest = 0;
    pthread_mutex_lock(&context->mutex);
    for (int i = 1; i < VKL_CACHE_SIZE; i++)
        if (cache->entries[i].used < cache->entries[oldest].used)
            oldest = i;
    void *old_key = cache->entries[oldest].key;
    VklExec *old_exec = cache->entries[oldest].exec;
    cache->entries[oldest].key = copy;
    cache->entries[oldest].key_size = size;
    cache->entries[oldest].hash = hash_bytes(key, size);
    cache->entries[oldest].used = ++cache->clock;
    cache->entries[oldest].exec = exec;
    pthread_mutex_unlock(&context->mutex);
    vkl_release(old_key);
    vkl_exec_release(old_exec);
}

void vkl_exec_cache_clear(VklExecCache *cache)
{
    for (int i = 0; i < VKL_CACHE_SIZE; i++) {
        vkl_release(cache->entries[i].key);
        vkl_exec_release(cache->entries[i].exec);
    }
    memset(cache, 0, sizeof(*cache));
}

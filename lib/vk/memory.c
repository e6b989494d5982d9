/* SPDX-License-Identifier: MIT
 *
 * Device memory: blocks of one VkDeviceMemory each, from which buffers take parts. A driver may allow as few as 4,096 allocations,
 * and each of its own costs a trip to the kernel.
 *
 * A program that imports its device may give the memory itself, for each buffer by a call (VklVulkanMemory): then there are no blocks.
 *
 * A block is a list of segments in the order of their offsets, used or free; neighbours are never both free. A segment is the
 * handle of its allocation, so that freeing needs no memory. */
#include "vk.h"

#define BLOCK_SMALLEST (UINT64_C(4) << 20) /* of a type's first block; each further one is twice as large, up to */
#define BLOCK_LARGEST (UINT64_C(64) << 20)

struct VklVkSegment {
    VklVkSegment *previous, *next;
    uint64_t offset, size;
    bool used;
};

struct VklVkBlock {
    VklVkBlock *next;
    VkDeviceMemory handle;
    uint32_t type;
    uint64_t size;
    void *host;
    bool alone; /* made for one large allocation */
    VklVkSegment *segments;
};

static uint64_t round_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) / alignment * alignment;
}

/* ---- Memory types ---- */

/* What no buffer of ours may or should lie in: some types need a feature that an importing program has not enabled. */
#define UNWANTED                                                                                                               \
    (VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD | \
     VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD)

/* How well a memory type suits; -1: not at all. */
static int suitability(VkMemoryPropertyFlags flags, VklBufferUsage usage)
{
    bool local = flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, visible = flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    bool coherent = flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT, cached = flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    if (flags & UNWANTED)
        return -1;
    switch (usage) {
    case VKL_BUFFER_UPLOAD: /* written through, in order: no cache is best */
        return visible ? 4 * coherent + 2 * !cached + !local : -1;
    case VKL_BUFFER_READBACK: /* without a cache, reads are some fifty times slower */
        return visible ? 4 * cached + 2 * coherent + !local : -1;
    default: /* what the host can see of a card's memory is often a small window, which others need more */
        return 4 * local + 2 * !visible;
    }
}

/* The types that `bits` allows, best first. Returns their number. */
static uint32_t rank_types(const VkPhysicalDeviceMemoryProperties *properties, uint32_t bits, VklBufferUsage usage,
                           uint32_t types[VK_MAX_MEMORY_TYPES])
{
    uint32_t count = 0;
    for (uint32_t type = 0; type < properties->memoryTypeCount; type++) {
        int mine = suitability(properties->memoryTypes[type].propertyFlags, usage);
        if (!(bits >> type & 1) || mine < 0)
            continue;
        uint32_t at = count++;
        while (at && suitability(properties->memoryTypes[types[at - 1]].propertyFlags, usage) < mine) {
            types[at] = types[at - 1];
            at--;
        }
        types[at] = type;
    }
    return count;
}

static VkMemoryPropertyFlags type_flags(const VklVkHeap *heap, uint32_t type)
{
    return heap->properties.memoryTypes[type].propertyFlags;
}

/* ---- Blocks; heap->mutex is held ---- */

static VkResult block_create(VklVkDevice *vk, uint32_t type, uint64_t size, bool alone, const char **call, VklVkBlock **block)
{
    *call = "vkAllocateMemory";
    VklVkBlock *made = vkl_allocate(vk->heap.memory, 1, sizeof(*made));
    VklVkSegment *whole = vkl_allocate(vk->heap.memory, 1, sizeof(*whole));
    if (!made || !whole) {
        vkl_release(made);
        vkl_release(whole);
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = size,
        .memoryTypeIndex = type,
    };
    VkResult result = vk->functions.vkAllocateMemory(vk->handle, &info, vk->allocation, &made->handle);
    if (result)
        goto fail;
    if (type_flags(&vk->heap, type) & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
        *call = "vkMapMemory";
        result = vk->functions.vkMapMemory(vk->handle, made->handle, 0, VK_WHOLE_SIZE, 0, &made->host);
        if (result)
            goto fail_memory;
    }
    *whole = (VklVkSegment){.size = size};
    made->type = type;
    made->size = size;
    made->alone = alone;
    made->segments = whole;
    made->next = vk->heap.blocks[type];
    vk->heap.blocks[type] = made;
    vk->heap.block_count[type]++;
    *block = made;
    return VK_SUCCESS;

fail_memory:
    vk->functions.vkFreeMemory(vk->handle, made->handle, vk->allocation);
fail:
    vkl_release(made);
    vkl_release(whole);
    return result;
}

static void block_destroy(VklVkDevice *vk, VklVkBlock *block)
{
    VklVkBlock **link = &vk->heap.blocks[block->type];
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    vk->heap.block_count[block->type]--;
    vk->functions.vkFreeMemory(vk->handle, block->handle, vk->allocation); /* unmaps */
    while (block->segments) {
        VklVkSegment *segment = block->segments;
        block->segments = segment->next;
        vkl_release(segment);
    }
    vkl_release(block);
}

static bool is_empty(const VklVkBlock *block)
{
    return !block->segments->used && !block->segments->next;
}

/* Takes `size` bytes out of the smallest free segment that has them. VK_ERROR_OUT_OF_DEVICE_MEMORY: none has. */
static VkResult block_take(const VklHostMemory *memory, VklVkBlock *block, uint64_t size, uint64_t alignment,
                           VklVkSegment **taken)
{
    VklVkSegment *best = NULL;
    for (VklVkSegment *segment = block->segments; segment; segment = segment->next) {
        uint64_t lost = round_up(segment->offset, alignment) - segment->offset;
        if (!segment->used && segment->size >= lost && segment->size - lost >= size && (!best || segment->size < best->size))
            best = segment;
    }
    if (!best)
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    /* Segments begin at multiples of the heap's alignment; an alignment beyond it leaves a free piece in front. */
    uint64_t lost = round_up(best->offset, alignment) - best->offset;
    VklVkSegment *front = lost ? vkl_allocate(memory, 1, sizeof(*front)) : NULL;
    VklVkSegment *rest = best->size - lost > size ? vkl_allocate(memory, 1, sizeof(*rest)) : NULL;
    if ((lost && !front) || (best->size - lost > size && !rest)) {
        vkl_release(front);
        vkl_release(rest);
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    }
    if (front) {
        *front = (VklVkSegment){.previous = best->previous, .next = best, .offset = best->offset, .size = lost};
        *(best->previous ? &best->previous->next : &block->segments) = front;
        best->previous = front;
        best->offset += lost;
        best->size -= lost;
    }
    if (rest) {
        *rest = (VklVkSegment){.previous = best, .next = best->next, .offset = best->offset + size, .size = best->size - size};
        if (best->next)
            best->next->previous = rest;
        best->next = rest;
        best->size = size;
    }
    best->used = true;
    *taken = best;
    return VK_SUCCESS;
}

/* Joins a free segment with the one after it. */
static void join(VklVkSegment *segment)
{
    VklVkSegment *next = segment->next;
    segment->size += next->size;
    segment->next = next->next;
    if (next->next)
        next->next->previous = segment;
    vkl_release(next);
}

/* ---- Allocations ---- */

static VkResult take_from_type(VklVkDevice *vk, uint32_t type, uint64_t size, uint64_t alignment, const char **call,
                               VklVkBlock **block, VklVkSegment **segment)
{
    VklVkHeap *heap = &vk->heap;
    uint64_t heap_size = heap->properties.memoryHeaps[heap->properties.memoryTypes[type].heapIndex].size;
    uint64_t largest = BLOCK_LARGEST < heap_size / 8 ? BLOCK_LARGEST : heap_size / 8;
    if (size > largest / 4) {
        VkResult result = block_create(vk, type, size, true, call, block);
        return result ? result : block_take(heap->memory, *block, size, 1, segment);
    }
    for (VklVkBlock *at = heap->blocks[type]; at; at = at->next) {
        VkResult result = at->alone ? VK_ERROR_OUT_OF_DEVICE_MEMORY : block_take(heap->memory, at, size, alignment, segment);
        if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY) {
            *block = at;
            return result;
        }
    }
    uint64_t wanted = BLOCK_SMALLEST;
    for (uint32_t i = 0; i < heap->block_count[type] && wanted < largest; i++)
        wanted *= 2;
    wanted = wanted < largest ? wanted : largest;
    wanted = wanted < size ? round_up(size, heap->alignment) : wanted;
    VkResult result = block_create(vk, type, wanted, false, call, block);
    if (result == VK_ERROR_OUT_OF_DEVICE_MEMORY && wanted > size) /* where a block does not fit, what is needed may */
        result = block_create(vk, type, size, true, call, block);
    return result ? result : block_take(heap->memory, *block, size, alignment, segment);
}

static VkResult take_from_heap(VklDevice *device, const VkMemoryRequirements *requirements, VklBufferUsage usage,
                               const char **call, VklVkMemory *memory)
{
    VklVkDevice *vk = vkl_vk(device);
    VklVkHeap *heap = &vk->heap;
    uint64_t alignment = requirements->alignment > heap->alignment ? requirements->alignment : heap->alignment;
    uint64_t size = round_up(requirements->size, heap->alignment);
    uint32_t types[VK_MAX_MEMORY_TYPES];
    uint32_t count = rank_types(&heap->properties, requirements->memoryTypeBits, usage, types);
    VkResult result = VK_ERROR_OUT_OF_DEVICE_MEMORY; /* also where no type will do */
    *call = "vkAllocateMemory";
    VklVkBlock *block = NULL;
    VklVkSegment *segment = NULL;
    pthread_mutex_lock(&heap->mutex);
    for (uint32_t i = 0; i < count; i++) {
        result = take_from_type(vk, types[i], size, alignment, call, &block, &segment);
        if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY)
            break;
    }
    if (!result)
        *memory = (VklVkMemory){
            .block = block,
            .segment = segment,
            .handle = block->handle,
            .offset = segment->offset,
            .end = block->size,
            .coherent = type_flags(heap, block->type) & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
            .host = block->host ? (char *)block->host + segment->offset : NULL,
        };
    pthread_mutex_unlock(&heap->mutex);
    return result;
}

/* ---- Memory that the importing program gives ---- */

/* Nobody but the host's writes and reads needs whole atoms, and those only where memory is not coherent. */
static bool has_whole_atoms(const VklVkHeap *heap, const VklVulkanAllocation *given)
{
    return type_flags(heap, given->memory_type) & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT || given->offset % heap->atom == 0;
}

/* What is wrong with an allocation, or NULL. */
static const char *fault_of(const VklVkHeap *heap, const VklVulkanRequest *request, uint64_t alignment,
                            const VklVulkanAllocation *given)
{
    bool mapped = request->required & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    if (!given->memory)
        return "VklVulkanMemory.allocate, which gave no VkDeviceMemory,";
    if (given->memory_type >= heap->properties.memoryTypeCount ||
        !(request->requirements.memoryTypeBits >> given->memory_type & 1))
        return "VklVulkanMemory.allocate, which gave memory of a type that was not allowed,";
    if ((type_flags(heap, given->memory_type) & request->required) != request->required)
        return "VklVulkanMemory.allocate, which gave memory without a property that was required,";
    if (given->offset % alignment || (mapped && !has_whole_atoms(heap, given)))
        return "VklVulkanMemory.allocate, which gave an offset that is not aligned,";
    if (mapped && !given->mapped)
        return "VklVulkanMemory.allocate, which gave no address of memory that the host must reach,";
    return NULL;
}

static VkResult ask_program(VklDevice *device, VkBuffer buffer, const VkMemoryRequirements *requirements, VklBufferUsage usage,
                            const char **call, VklVkMemory *memory)
{
    VklVkDevice *vk = vkl_vk(device);
    static const VkMemoryPropertyFlags required[] = {0, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT};
    static const VkMemoryPropertyFlags preferred[] = {VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                                      VK_MEMORY_PROPERTY_HOST_CACHED_BIT};
    VklVulkanRequest request = {
        .struct_size = sizeof(request),
        .buffer = buffer,
        .requirements = *requirements,
        .usage = usage,
        .required = required[usage],
        .preferred = preferred[usage],
    };
    for (uint32_t type = 0; type < vk->heap.properties.memoryTypeCount; type++)
        if (type_flags(&vk->heap, type) & UNWANTED)
            request.requirements.memoryTypeBits &= ~(UINT32_C(1) << type);
    if (usage != VKL_BUFFER_DEVICE && request.requirements.alignment < vk->heap.atom)
        request.requirements.alignment = vk->heap.atom;
    VklVulkanAllocation given = {0};
    *call = "VklVulkanMemory.allocate";
    VkResult result = vk->memory.allocate(vk->memory.user, &request, &given);
    if (result)
        return result < 0 ? result : VK_ERROR_UNKNOWN;
    const char *fault = fault_of(&vk->heap, &request, requirements->alignment, &given);
    if (fault) {
        vk->memory.release(vk->memory.user, &given);
        *call = fault;
        return VK_ERROR_UNKNOWN;
    }
    VkMemoryPropertyFlags flags = type_flags(&vk->heap, given.memory_type);
    bool reached = flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT && has_whole_atoms(&vk->heap, &given);
    *memory = (VklVkMemory){
        .handle = given.memory,
        .offset = given.offset,
        .end = UINT64_MAX, /* atoms fit into the buffer, whose size and offset are multiples of them */
        .coherent = flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        .host = reached ? given.mapped : NULL,
        .given = true,
        .allocation = given,
    };
    return VK_SUCCESS;
}

/* ---- Both ---- */

VkResult vkl_vk_memory_allocate(VklDevice *device, VkBuffer buffer, VklBufferUsage usage, const char **call, VklVkMemory *memory)
{
    VklVkDevice *vk = vkl_vk(device);
    VkMemoryRequirements requirements;
    vk->functions.vkGetBufferMemoryRequirements(vk->handle, buffer, &requirements);
    return vk->memory.allocate ? ask_program(device, buffer, &requirements, usage, call, memory)
                               : take_from_heap(device, &requirements, usage, call, memory);
}

void vkl_vk_memory_free(VklDevice *device, VklVkMemory *memory)
{
    VklVkDevice *vk = vkl_vk(device);
    if (memory->given)
        vk->memory.release(vk->memory.user, &memory->allocation);
    if (!memory->block) {
        *memory = (VklVkMemory){0};
        return;
    }
    VklVkBlock *block = memory->block;
    VklVkSegment *segment = memory->segment;
    pthread_mutex_lock(&vk->heap.mutex);
    segment->used = false;
    if (segment->next && !segment->next->used)
        join(segment);
    if (segment->previous && !segment->previous->used)
        join(segment->previous);
    if (is_empty(block)) {
        /* One empty block of a type is kept, so that a buffer that comes and goes does not allocate each time. */
        bool spare = false;
        for (VklVkBlock *at = vk->heap.blocks[block->type]; at; at = at->next)
            spare = spare || (at != block && !at->alone && is_empty(at));
        if (block->alone || spare)
            block_destroy(vk, block);
    }
    pthread_mutex_unlock(&vk->heap.mutex);
    *memory = (VklVkMemory){0};
}

static VkResult for_range(VklDevice *device, const VklVkMemory *memory, uint64_t offset, uint64_t size, bool flush)
{
    VklVkDevice *vk = vkl_vk(device);
    if (memory->coherent)
        return VK_SUCCESS;
    uint64_t begin = (memory->offset + offset) / vk->heap.atom * vk->heap.atom;
    uint64_t end = round_up(memory->offset + offset + size, vk->heap.atom);
    VkMappedMemoryRange range = {
        .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE,
        .memory = memory->handle,
        .offset = begin,
        .size = end < memory->end ? end - begin : VK_WHOLE_SIZE,
    };
    return flush ? vk->functions.vkFlushMappedMemoryRanges(vk->handle, 1, &range)
                 : vk->functions.vkInvalidateMappedMemoryRanges(vk->handle, 1, &range);
}

VkResult vkl_vk_memory_flush(VklDevice *device, const VklVkMemory *memory, uint64_t offset, uint64_t size)
{
    return for_range(device, memory, offset, size, true);
}

VkResult vkl_vk_memory_invalidate(VklDevice *device, const VklVkMemory *memory, uint64_t offset, uint64_t size)
{
    return for_range(device, memory, offset, size, false);
}

void vkl_vk_memory_finish(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    for (uint32_t type = 0; type < VK_MAX_MEMORY_TYPES; type++)
        while (vk->heap.blocks[type])
            block_destroy(vk, vk->heap.blocks[type]);
}

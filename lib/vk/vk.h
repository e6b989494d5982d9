/* SPDX-License-Identifier: MIT
 *
 * The inside of the Vulkan backend: one struct for each object, in the order context, device, memory, buffer, pipeline, exec,
 * stream.
 *
 * Threads. Of a device, the queue, the memory blocks and the pipeline table are shared; each has a mutex of its own. Only under
 * zero_mutex and replay_mutex are other mutexes taken. Command pools and fences belong to one stream.
 *
 * Lifetimes. Every submit on the device's queue has a serial number. A fence also covers all earlier submits of its queue, so one
 * number, `completed`, says what the GPU is done with. */
#ifndef VKL_VK_H
#define VKL_VK_H

#include "functions.h"
#include "vklstm/vulkan.h"

/* ---- Context ---- */

typedef struct VklVulkan {
    void *library; /* the loader's */
    PFN_vkGetInstanceProcAddr get_instance_proc_addr;
    VkInstance instance;
    uint32_t api_version; /* what the instance was made with */
    VklInstanceFunctions functions;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice *physical;
    uint32_t physical_count;
} VklVulkan;

/* The context's instance, made by the first call. *vulkan is NULL where the machine has no Vulkan. */
VklStatus vkl_vk_instance(VklContext *context, VklVulkan **vulkan);

/* ---- Errors ---- */

const char *vkl_vk_result_name(VkResult result);
/* The sentence and status of a Vulkan call that failed; marks a lost device, which may be NULL. `subject` says what for. */
VklStatus vkl_vk_fail(VklContext *context, VklDevice *device, VklError *error, VkResult result, const char *call,
                      const char *subject, ...) VKL_PRINTF(6, 7);

/* ---- Memory ---- */

typedef struct VklVkBlock VklVkBlock;
typedef struct VklVkSegment VklVkSegment;

typedef struct VklVkMemory {
    VklVkBlock *block; /* NULL: none of the heap's */
    VklVkSegment *segment;
    VkDeviceMemory handle;
    uint64_t offset;
    uint64_t end; /* where ranges to flush must end: of the whole VkDeviceMemory */
    void *host;   /* mapped address or NULL */
    bool coherent;
    bool given; /* by the importing program: */
    VklVulkanAllocation allocation;
} VklVkMemory;

typedef struct VklVkHeap {
    const VklHostMemory *memory; /* for what describes blocks */
    pthread_mutex_t mutex;
    VkPhysicalDeviceMemoryProperties properties;
    uint64_t alignment;                      /* of every suballocation */
    uint64_t atom;                           /* nonCoherentAtomSize */
    VklVkBlock *blocks[VK_MAX_MEMORY_TYPES]; /* by memory type */
    uint32_t block_count[VK_MAX_MEMORY_TYPES];
} VklVkHeap;

/* `call`: the name of the one that failed. */
VkResult vkl_vk_memory_allocate(VklDevice *device, VkBuffer buffer, VklBufferUsage usage, const char **call, VklVkMemory *memory);
void vkl_vk_memory_free(VklDevice *device, VklVkMemory *memory);
/* Bytes of a mapped allocation, rounded to what the device wants; nothing is called where memory is coherent. */
VkResult vkl_vk_memory_flush(VklDevice *device, const VklVkMemory *memory, uint64_t offset, uint64_t size);
VkResult vkl_vk_memory_invalidate(VklDevice *device, const VklVkMemory *memory, uint64_t offset, uint64_t size);
void vkl_vk_memory_finish(VklDevice *device);

/* ---- Buffer ---- */

typedef struct VklVkBuffer {
    VkBuffer handle;
    VklVkMemory memory;
    bool owned;
    struct VklVkBuffer *next; /* in the list of what waits for the GPU */
    uint64_t serial;          /* free when this submit is done */
} VklVkBuffer;

/* A buffer with memory, of undefined content; `shared`: among all queue families that an importing program has named. */
VklStatus vkl_vk_buffer_make(VklDevice *device, VklBufferUsage usage, uint64_t size, bool shared, VklVkBuffer *buffer);
void vkl_vk_buffer_free(VklDevice *device, VklVkBuffer *buffer);
/* Frees the destroyed buffers that the GPU is done with. */
void vkl_vk_collect(VklDevice *device);

VklStatus vkl_vk_buffer_create(VklBuffer *buffer);
void vkl_vk_buffer_destroy(VklBuffer *buffer);
VklStatus vkl_vk_buffer_flush(VklBuffer *buffer, uint64_t offset, uint64_t size);
VklStatus vkl_vk_buffer_invalidate(VklBuffer *buffer, uint64_t offset, uint64_t size);

/* What a call that failed leaves in its output is undefined: this is for outputs that somebody looks at afterwards, to destroy them. */
#define VKL_VK_NULL_UNLESS(made, handle) \
    do {                                 \
        if (!(made))                     \
            (handle) = VK_NULL_HANDLE;   \
    } while (0)

/* ---- Pipelines ---- */

typedef enum VklVkPipelineState { VKL_VK_PIPELINE_ABSENT, VKL_VK_PIPELINE_COMPILING, VKL_VK_PIPELINE_READY } VklVkPipelineState;

/* A row of the table, which stays where it is as long as the device. `state` and `handle` are guarded by the table's mutex; `handle` stays
 * what it is once the row is ready. */
typedef struct VklVkPipeline {
    uint16_t kernel;
    uint32_t spec[VKL_SPEC_COUNT];
    VklVkPipelineState state;
    VkPipeline handle;
} VklVkPipeline;

typedef struct VklVkPipelines {
    pthread_mutex_t mutex;       /* not held while something is compiled */
    pthread_cond_t compiled;     /* some row is ready, or has failed */
    pthread_rwlock_t cache_lock; /* of `cache`: read while something is compiled, written while another is merged into it */
    VkPipelineCache cache;
    VkDescriptorSetLayout set_layouts[VKL_BINDINGS + 1]; /* by number of bindings; [0] is unused */
    VkPipelineLayout layouts[VKL_BINDINGS + 1];
    VklVkPipeline **table; /* open addressing; capacity is a power of two */
    size_t count, capacity;
} VklVkPipelines;

VklStatus vkl_vk_pipelines_init(VklDevice *device);
void vkl_vk_pipelines_finish(VklDevice *device);
/* The row of a kernel with its specialization constants, made when first asked for; NULL where the host refuses memory. */
VklVkPipeline *vkl_vk_pipeline_row(VklDevice *device, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT]);
/* Compiles what is not ready of these rows, which may repeat, on the context's threads; what another thread compiles meanwhile
 * is waited for. */
VklStatus vkl_vk_pipelines_compile(VklDevice *device, VklVkPipeline *const *rows, size_t count, VklError *error);

VklStatus vkl_vk_cache_get(VklDevice *device, void *data, size_t *size);
VklStatus vkl_vk_cache_put(VklDevice *device, const void *data, size_t size);

/* ---- Device ---- */

#define MOST_FAMILIES 32 /* that are looked at; devices have some six */

typedef struct VklVkDevice {
    VklInstanceFunctions instance_functions;
    VklDeviceFunctions functions;
    VkPhysicalDevice physical;
    VkDevice handle;
    bool imported;
    const VkAllocationCallbacks *allocation; /* NULL, or the importing program's, for each object that is made and destroyed */
    VkAllocationCallbacks allocation_copy;
    VklVulkanMemory memory; /* the importing program's, where its functions are not NULL; else memory comes from the heap */
    uint32_t families[MOST_FAMILIES]; /* that buffers are shared among; family_count 0: they are exclusive */
    uint32_t family_count;
    bool debug;                 /* names and labels */
    bool subgroup_size_control; /* enabled: pipelines may ask for a size */

    VkQueue queue;
    uint32_t queue_family, queue_index;
    pthread_mutex_t queue_mutex;
    void (*lock_queue)(void *user, uint32_t family, uint32_t index);
    void (*unlock_queue)(void *user, uint32_t family, uint32_t index);
    void *lock_user;
    atomic_uint_fast64_t submitted, completed; /* serials */

    VklVkHeap heap;
    VklVkBuffer *garbage; /* guarded by heap.mutex */
    VklVkPipelines pipelines;
    pthread_mutex_t replay_mutex; /* an exec's command buffer is made once */
    uint32_t timestamp_bits;      /* of the queue's family; 0: it has no timestamps */
    double timestamp_period;      /* nanoseconds */

    /* Fills new memory that the host cannot reach. */
    pthread_mutex_t zero_mutex;
    VklStream zero_stream; /* impl NULL until needed */
} VklVkDevice;

static inline VklVkDevice *vkl_vk(const VklDevice *device)
{
    return device->impl;
}

/* Names an object for debuggers and validation messages, where the context asks for it. */
void vkl_vk_name(VklDevice *device, VkObjectType type, uint64_t handle, const char *format, ...) VKL_PRINTF(4, 5);
void vkl_vk_device_destroy(VklDevice *device);

/* ---- Exec ---- */

typedef struct VklVkOp {
    VkPipeline pipeline;
    VkPipelineLayout layout;
    VkDescriptorSet set;
    uint32_t groups[3];
    VkBuffer indirect; /* where TALLY has left the workgroups, or NULL: `groups` */
    uint64_t indirect_at;
    uint16_t kernel;
    bool barrier;
    float cost;   /* vkl_op_cost() */
    VklArgs args; /* the plan's, with what rounding the bindings' offsets left over */
} VklVkOp;

typedef struct VklVkExec {
    VklVkOp *ops;
    size_t count;
    uint64_t barriers; /* recorded by one repetition */
    bool counted;      /* some of the ops are dispatched indirectly */
    double cost;       /* of all ops */
    VkDescriptorPool descriptors;
    VkCommandPool pool; /* of the command buffer for replays; made when first needed */
    VkCommandBuffer commands;
} VklVkExec;

VklStatus vkl_vk_exec_create(VklExec *exec, VklError *error);
void vkl_vk_exec_destroy(VklExec *exec);
VklStatus vkl_vk_exec_record(VklExec *exec, VklStream *stream);
VklStatus vkl_vk_exec_record_part(VklExec *exec, VklStream *stream, size_t first, size_t count);
VklStatus vkl_vk_exec_replay(VklExec *exec, VklStream *stream, uint32_t count);

/* ---- Stream ---- */

typedef struct VklVkWork VklVkWork;
typedef struct VklVkChunk VklVkChunk;
typedef struct VklVkQueries VklVkQueries;

typedef struct VklVkStream {
    VkCommandPool pool;
    VkCommandBuffer wrapped;  /* the caller's, or NULL */
    VkCommandBuffer tail;     /* makes everything before it visible to the host; ends each submit */
    VklVkWork *current;       /* being recorded, or NULL */
    VklVkWork *ended, **end;  /* recorded, and waiting for vkl_stream_submit(), in order */
    VklVkWork *first, **last; /* submitted, in order */
    VklVkWork *idle;
    VklVkChunk *chunks;    /* staging memory that is not in use */
    VklVkQueries *queries; /* query pools that are not in use */
    uint64_t serial;       /* of the latest submit */
    bool piece;            /* what is recorded goes in one submit, see VklBackend.piece_begin */
    VklExec **execs;       /* wrapped: held until the stream is destroyed */
    size_t exec_count, exec_capacity;
} VklVkStream;

VklStatus vkl_vk_stream_create(VklStream *stream);
VklStatus vkl_vk_stream_wrap(VklStream *stream, VkCommandBuffer commands);
void vkl_vk_stream_destroy(VklStream *stream);
VklStatus vkl_vk_stream_transfer(VklStream *stream, const VklTransferArgs *args);
VklStatus vkl_vk_stream_submit(VklStream *stream, VklFence *fence, const VklVulkanSubmit *semaphores);
/* Counts what has been recorded; where that is as much as one submit should do, what follows goes into another. */
VklStatus vkl_vk_stream_charge(VklStream *stream, double cost);
VklStatus vkl_vk_stream_wait(VklStream *stream);
VklStatus vkl_vk_fence_wait(VklFence *fence, uint64_t timeout_ns);
void vkl_vk_fence_destroy(VklFence *fence);

/* The command buffer to record into, with a reference to `exec` (or NULL) kept until its work is done. */
VklStatus vkl_vk_stream_commands(VklStream *stream, VklExec *exec, VkCommandBuffer *commands);
/* Timestamps for `wanted` more kernels of an exec, the first of which is its op `first`: one before them and one after each. Sets pool and
 * index of the one before, whose pool is reset in the command buffer, and how many kernels there is room for. */
VklStatus vkl_vk_stream_queries(VklStream *stream, VklExec *exec, size_t first, size_t wanted, VkQueryPool *pool, uint32_t *at,
                                size_t *count);
/* Submits what was recorded when it holds many timestamps. */
VklStatus vkl_vk_stream_queries_full(VklStream *stream);
/* Submits what was recorded and one command buffer `count` times in a row; in a piece, adds them to it. */
VklStatus vkl_vk_stream_replay(VklStream *stream, VklExec *exec, VkCommandBuffer commands, uint32_t count);

VklStatus vkl_vk_timer_create(VklTimer *timer);
void vkl_vk_timer_destroy(VklTimer *timer);
VklStatus vkl_vk_piece_begin(VklTimer *timer);
VklStatus vkl_vk_piece_submit(VklTimer *timer);
void vkl_vk_piece_drop(VklTimer *timer);
VklStatus vkl_vk_piece_look(VklTimer *timer, double *nanoseconds);

/* ---- Barriers ---- */

/* From all earlier compute, transfer and host writes (and reads, which must be done before they are overwritten). */
void vkl_vk_barrier(VklDevice *device, VkCommandBuffer commands, VkPipelineStageFlags stage, VkAccessFlags access);

extern const VklBackend vkl_vk_backend;

#endif

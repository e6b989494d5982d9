/* SPDX-License-Identifier: MIT
 *
 * For programs that have a Vulkan device of their own. The only header that includes Vulkan's; it uses types alone, so it goes
 * with libvulkan's prototypes, with volk, or with neither.
 *
 * vklstm is a guest: it uses the handles it is given through the loader function it is given (it opens no loader for them),
 * keeps every Vulkan function in tables of its own (the library exports no symbol of Vulkan's or volk's), and destroys only
 * what it made. It has no global state, reads no environment variable, no file but one that a call names, starts no thread
 * unless VklContextDesc says so, and needs nothing of Vulkan but what 1.1 guarantees.
 *
 * What is called when, of Vulkan, on an imported device:
 *   vkl_device_import_vulkan()    asks for properties; makes a pipeline cache, descriptor set layouts and pipeline layouts
 *   vkl_buffer_create(), models   make a buffer with memory. Where the host cannot reach the memory, zeros come from a fill that
 *                                 is submitted to the queue, and not waited for. A model has a stream of its own: what writes or
 *                                 reads its weights submits and waits
 *   vkl_..._prepare_...()         pipelines that are not there yet, one descriptor pool; the first call with new sizes of
 *                                 vkl_rnn_forward() and its kind does the same. Submits nothing
 *   vkl_exec_record(), and calls on a stream that wraps a command buffer, once prepared
 *                                 vkCmd... and nothing else
 *   streams of our own            a command pool, fences, staging; vkQueueSubmit under lock_queue; only waits wait
 *   vkl_stream_destroy(), vkl_device_destroy()
 *                                 wait for what vklstm has submitted, not for what the program has
 *
 * Threads: import and the calls on a device from any thread, several at once; a stream from one at a time (context.h). Two
 * devices, or two contexts, share nothing.
 */
#ifndef VKLSTM_VULKAN_H
#define VKLSTM_VULKAN_H

#include <vulkan/vulkan_core.h>

#include "vklstm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- What is needed, and what is wished for ----
 * As data, before the program makes its instance and its device; vklstm makes its own with the very same. Nothing that is
 * wished for is required: a device with nothing enabled at all works, and VklDeviceInfo.features says what of it is used. Fill
 * in struct_size; the call fills the rest. Any thread.
 *
 *     VklVulkanWishes wishes = {.struct_size = sizeof(wishes)};
 *     VklVulkanImport import = vkl_vulkan_import();
 *     import.get_instance_proc_addr = ..., .instance, .physical_device, .api_version
 *     if (vkl_vulkan_wishes(context, &import, &wishes) != VKL_OK)
 *         the device cannot be used: vkl_context_error(context) says why
 *     vkl_vulkan_wishes_add(&wishes, &features);     the head of the program's own chain
 *     ... add wishes.extensions to the names, pick the queue, call vkCreateDevice() ...
 *     import.features = &features, .extensions = names, .device, .queue
 *     vkl_device_import_vulkan(context, &import, &device); */

typedef struct VklVulkanInstanceWishes {
    size_t struct_size;
    uint32_t api_version;       /* needed: at least VK_API_VERSION_1_1 */
    uint32_t api_version_known; /* the newest that vklstm knows: VK_API_VERSION_1_3. A newer one is welcome */
    /* wished: VK_EXT_debug_utils with VklContextDesc.debug, where present; VK_KHR_portability_enumeration with its flag, where
     * present */
    VkInstanceCreateFlags flags;
    uint32_t extension_count;
    const char *extensions[4]; /* constants of the library */
} VklVulkanInstanceWishes;

/* Errors: VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (a loader below Vulkan 1.1), VKL_ERROR_HOST_MEMORY, VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_vulkan_instance_wishes(VklContext *context, PFN_vkGetInstanceProcAddr get_instance_proc_addr,
                                             VklVulkanInstanceWishes *wishes);

/* VkPhysicalDeviceCooperativeMatrixFeaturesKHR, which is younger than the Vulkan headers of some programs. */
typedef struct VklVulkanCooperativeMatrix {
    VkStructureType sType;                        /* 1000506000 */
    void *pNext;                                  /* as in Vulkan, and so the rest */
    VkBool32 cooperativeMatrix;                   /* as in Vulkan */
    VkBool32 cooperativeMatrixRobustBufferAccess; /* as in Vulkan */
} VklVulkanCooperativeMatrix;

typedef struct VklVulkanWishes {
    size_t struct_size;
    /* needed */
    uint32_t api_version;     /* of instance and device: at least VK_API_VERSION_1_1 */
    VkQueueFlags queue_flags; /* of the queue's family: VK_QUEUE_COMPUTE_BIT */
    uint32_t queue_family;    /* the one that vklstm would take, without graphics where there is such a one */
    /* wished, of what the device has: names of device extensions, constants of the library */
    uint32_t extension_count;
    const char *extensions[8];
    /* For VkDeviceCreateInfo.pNext: a chain of those of the structures below in which something is wished for; all that is
     * wished for is VK_TRUE, all else VK_FALSE. Points into this struct, which must therefore not be copied. */
    VkPhysicalDeviceFeatures2 features;
    /* kernels get subgroups of the size that suits them */
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT subgroup_size_control;
    /* for what the program submits with, and vkl_stream_submit_vulkan() */
    VkPhysicalDeviceTimelineSemaphoreFeaturesKHR timeline_semaphore;
    /* these three together: layers of halves are multiplied with cooperative matrices; not wished for where no kernel would use
     * them */
    VkPhysicalDeviceShaderFloat16Int8FeaturesKHR shader_float16;
    VkPhysicalDeviceVulkanMemoryModelFeaturesKHR memory_model;
    VklVulkanCooperativeMatrix cooperative_matrix;
} VklVulkanWishes;

struct VklVulkanImport;

/* Of a physical device. Of `import`, struct_size, get_instance_proc_addr, instance, physical_device and api_version are used.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (the device lacks what is needed: Vulkan 1.1, a queue family with
 * VK_QUEUE_COMPUTE_BIT), VKL_ERROR_HOST_MEMORY, VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_vulkan_wishes(VklContext *context, const struct VklVulkanImport *import, VklVulkanWishes *wishes);

/* Adds the wishes to a chain that the program makes its device with: sets what has a member in one of its structures
 * (VkPhysicalDeviceVulkan12Features and its kind, too), and appends structures of `wishes` for the rest, which must live as
 * long as the chain. wishes->features is empty afterwards. */
VKL_API void vkl_vulkan_wishes_add(VklVulkanWishes *wishes, VkPhysicalDeviceFeatures2 *features);

/* ---- Memory of the program's ----
 * Three ways. (1) Buffers that the program has made, whole or as an arena of which layers use slices: vkl_buffer_wrap_vulkan(),
 * after the sizes functions (vkl_rnn_sizes(), vkl_rnn_step_sizes(), vkl_model_step_sizes()) have said how many bytes each array
 * has. Slices of one buffer should begin at multiples of limits.storage_alignment. vklstm then allocates no device memory at
 * all. (2) Buffers that vklstm makes (vkl_buffer_create(), models, staging) in memory that callbacks give: VklVulkanMemory. (3)
 * Neither: vklstm divides blocks of its own. Host memory: VklContextDesc.memory; the driver's: VklVulkanImport.allocation. */

/* What a buffer of vklstm's needs. Read only; nothing of it is kept. */
typedef struct VklVulkanRequest {
    size_t struct_size;
    VkBuffer buffer; /* made and not bound: for memory of its own (VkMemoryDedicatedAllocateInfo) */
    /* Of that buffer, without memory types of no use; for UPLOAD and READBACK aligned to nonCoherentAtomSize too. */
    VkMemoryRequirements requirements;
    VklBufferUsage usage;            /* staging of vklstm's own is asked for as UPLOAD and READBACK too */
    VkMemoryPropertyFlags required;  /* HOST_VISIBLE for UPLOAD and READBACK, else 0 */
    VkMemoryPropertyFlags preferred; /* DEVICE_LOCAL for DEVICE, HOST_COHERENT for UPLOAD, HOST_CACHED for READBACK */
} VklVulkanRequest;

typedef struct VklVulkanAllocation {
    VkDeviceMemory memory; /* of the device, of a type of the request */
    /* In `memory`; requirements.size bytes from here on are the buffer's. A multiple of the VkBuffer's alignment; of
     * nonCoherentAtomSize too where the host must reach memory that is not coherent (the Vulkan Memory Allocator sees to
     * that). */
    VkDeviceSize offset;
    /* The host's address of the byte at `offset`, as long as the allocation lives. Needed where HOST_VISIBLE is required; else
     * NULL, or the address, through which a new buffer is then filled with zeros. */
    void *mapped;
    uint32_t memory_type; /* index, from which vklstm sees whether it must flush and invalidate */
    void *handle;         /* the program's own */
} VklVulkanAllocation;

/* One allocate for each buffer that vklstm makes (vkl_buffer_create(), models, staging of streams), and one release for each
 * that succeeded. vklstm binds the buffer, and flushes and invalidates mapped memory that is not coherent, in whole atoms
 * inside of the buffer; it neither maps nor frees. With the Vulkan Memory Allocator (`user` is the VmaAllocator):
 *
 *     static VkResult allocate(void *user, const VklVulkanRequest *request, VklVulkanAllocation *allocation)
 *     {
 *         VmaAllocationCreateInfo wanted = {.requiredFlags = request->required, .preferredFlags = request->preferred};
 *         if (request->required & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT)
 *             wanted.flags = VMA_ALLOCATION_CREATE_MAPPED_BIT;
 *         VmaAllocation made;
 *         VmaAllocationInfo info;
 *         VkResult result = vmaAllocateMemoryForBuffer(user, request->buffer, &wanted, &made, &info);
 *         if (result == VK_SUCCESS)
 *             *allocation = (VklVulkanAllocation){info.deviceMemory, info.offset, info.pMappedData, info.memoryType, made};
 *         return result;
 *     }
 *     static void release(void *user, const VklVulkanAllocation *allocation)
 *     {
 *         vmaFreeMemory(user, allocation->handle);
 *     }
 *
 * Threads: called from any thread that calls into the device, from several at once if several do; not while the queue is
 * locked. They must not call back into vklstm. Errors of `allocate`: VK_ERROR_OUT_OF_DEVICE_MEMORY (asked once more after
 * buffers that wait for the device are freed; then VKL_ERROR_DEVICE_MEMORY), VK_ERROR_OUT_OF_HOST_MEMORY
 * (VKL_ERROR_HOST_MEMORY); any other is VKL_ERROR_VULKAN, as is an allocation that is not what was asked for, which is
 * released. */
typedef struct VklVulkanMemory {
    /* Fills `*allocation` for `*request`, or returns an error. */
    VkResult (*allocate)(void *user, const VklVulkanRequest *request, VklVulkanAllocation *allocation);
    void (*release)(void *user, const VklVulkanAllocation *allocation); /* the device does not use it any more */
    void *user;
} VklVulkanMemory;

/* ---- Import ---- */

typedef struct VklVulkanImport {
    size_t struct_size;
    PFN_vkGetInstanceProcAddr get_instance_proc_addr; /* of the loader that made the instance */
    VkInstance instance;                              /* the program's */
    VkPhysicalDevice physical_device;                 /* of `instance` */
    VkDevice device;                                  /* of `physical_device` */
    uint32_t api_version;  /* what the instance was created with (VkApplicationInfo.apiVersion); at least VK_API_VERSION_1_1 */
    VkQueue queue;         /* of `device`, with VK_QUEUE_COMPUTE_BIT */
    uint32_t queue_family; /* where `queue` comes from */
    uint32_t queue_index;  /* its number in the family */
    /* What was enabled when the device was made: a device cannot be asked. NULL and 0: nothing. Copied. With
     * VK_EXT_debug_utils, an extension of the instance, among the extensions and VklContextDesc.debug, our objects get names. */
    const VkPhysicalDeviceFeatures2 *features; /* with its pNext chain */
    const char *const *extensions;
    uint32_t extension_count;
    /* Called around every use of the queue, when another thread may use it too; both NULL: nobody else does during our calls.
     * From any thread that is in vklstm, from several at once; nothing else of the program's is called in between. A thread
     * that holds the lock itself may call what submits only if it can take it twice. */
    void (*lock_queue)(void *user, uint32_t family, uint32_t index);
    void (*unlock_queue)(void *user, uint32_t family, uint32_t index);
    void *lock_user;
    const VklDeviceLimits *limits; /* as VklDeviceDesc.limits */
    /* Families whose queues use buffers of vkl_buffer_create() and of models, `queue_family` included or not: buffers are then
     * made with VK_SHARING_MODE_CONCURRENT. NULL and 0 (default), or no other family than queue_family:
     * VK_SHARING_MODE_EXCLUSIVE, see "Queue families" below. Copied. */
    const uint32_t *queue_families;
    uint32_t queue_family_count;
    /* For every vkCreate..., vkAllocateMemory, vkDestroy... and vkFreeMemory on this device. NULL (default): the driver's own.
     * Copied; what it points to must stay. A device that vklstm makes itself has none. */
    const VkAllocationCallbacks *allocation;
    /* Both functions NULL (default): vklstm takes blocks of device memory, 4 to 64 MiB each, and divides them among its
     * buffers. */
    VklVulkanMemory memory;
} VklVulkanImport;

/* Queue families. A buffer with VK_SHARING_MODE_EXCLUSIVE belongs to one family at a time, ours or the program's, and nothing
 * of vklstm's transfers ownership: where vklstm's queue is of another family than the program's and buffers are exclusive, the
 * program does, before vklstm uses a buffer and after. On the side that gives: vkCmdPipelineBarrier with a
 * VkBufferMemoryBarrier from its own writes (srcAccessMask) and from its family to the other (release); on the side that takes,
 * after a semaphore: the same barrier, to its own reads and writes (dstAccessMask; acquire). vklstm's side of it is the
 * program's to record too, in a command buffer for vklstm's family: what takes goes in front of vklstm's work, with
 * VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT as destination; what gives
 * behind it, with the same stage and VK_ACCESS_SHADER_WRITE_BIT as source (vkl_stream_copy and fill: TRANSFER). Contents that
 * are not needed any more, as of scratch, need no transfer. Naming the families in queue_families spares all of this: then a
 * semaphore is enough. Buffers of the program's are as the program has made them. Staging of vklstm's own is used by its queue
 * alone, and always exclusive. */

/* All fields 0 but struct_size. */
VKL_API VklVulkanImport vkl_vulkan_import(void);

/* Makes a device of the caller's. Handles must stay valid until vkl_device_destroy(), which destroys none of them.
 * Errors: VKL_ERROR_INVALID (a handle that is missing, a family without compute or that is not there, half a pair of
 * callbacks), VKL_ERROR_UNSUPPORTED (below Vulkan 1.1; a function that the loader does not give; a build without Vulkan),
 * memory, VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_device_import_vulkan(VklContext *context, const VklVulkanImport *import, VklDevice **device);

/* Wraps a command buffer of the caller's, of a pool whose family supports compute. Calls on the stream record into it, which
 * must be in the recording state then, outside a render pass, and do nothing else: no submit, no wait. When the caller begins
 * the command buffer anew, the same stream goes on with it. State left behind: the compute pipeline, descriptor set 0 of the
 * compute bind point and push constants are ours. Barriers: every piece of work begins with a barrier from all earlier compute,
 * transfer and host writes in the same queue to its own reads and writes, and ends without one: before the caller's commands
 * read a result, the caller records a barrier from VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT and VK_ACCESS_SHADER_WRITE_BIT
 * (vkl_stream_copy and vkl_stream_fill: VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT). What other stages
 * (vertex, fragment, ray tracing) wrote for vklstm to read, or have still to read before vklstm overwrites it, is the caller's
 * barrier to VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT in front of the work. The stream, and the buffers used in it, must live until
 * the GPU is done with the command buffer: the caller's submits are not seen.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (not a Vulkan device), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_stream_wrap_vulkan(VklDevice *device, VkCommandBuffer commands, VklStream **stream);

/* ---- Semaphores ---- */

enum { VKL_VULKAN_SEMAPHORES = 16 }; /* at most so many waits, and so many signals, of one submit */

/* What a submit of a stream of vklstm's own waits for and signals. Semaphores are the caller's, of the same VkDevice, and the
 * rules of vkQueueSubmit hold for them: a binary one that is waited for has a signal that was submitted before, and so on. */
typedef struct VklVulkanSubmit {
    size_t struct_size;
    uint32_t wait_count;      /* of the arrays of waits; at most VKL_VULKAN_SEMAPHORES */
    const VkSemaphore *waits; /* [wait_count] */
    /* of timeline semaphores, [wait_count]; those of binary ones are ignored. NULL: all are binary */
    const uint64_t *wait_values;
    /* [wait_count]: which stages of our work wait. NULL: all that we use: DRAW_INDIRECT, COMPUTE_SHADER, TRANSFER */
    const VkPipelineStageFlags *wait_stages;
    uint32_t signal_count;         /* of the arrays of signals; at most VKL_VULKAN_SEMAPHORES */
    const VkSemaphore *signals;    /* [signal_count] */
    const uint64_t *signal_values; /* as wait_values */
} VklVulkanSubmit;

/* No semaphores. */
VKL_API VklVulkanSubmit vkl_vulkan_submit(void);

/* vkl_stream_submit() with semaphores. All that was recorded since the last submit of this stream, and all that is submitted to
 * the queue later, waits for `waits`; `signals` are signaled when it is done, and everything that was submitted to the queue
 * before. So with nothing recorded it is a legal call too. (vkl_stream_replay() submits by itself: let semaphores wait in a
 * call of their own before it.)
 * Memory: a semaphore that is waited for makes what was written before its signal visible to our work, and one that is signaled
 * what we wrote to the waiting commands: no barrier is needed on either side, but for queue families (above). To the host what
 * was submitted is visible after vkl_stream_wait() or vkl_fence_wait(), as always, and also after a wait of the host for a
 * signaled timeline semaphore; reads of vkl_stream_read() are complete after the former alone.
 * Allocates nothing beyond what vkl_stream_submit() does, and waits for nothing. Where it fails, nothing is signaled, and the
 * recorded work is dropped.
 * Errors: VKL_ERROR_UNSUPPORTED (a wrapped stream; not a Vulkan device; values where timelineSemaphore is not enabled, see
 * VklVulkanImport.features), VKL_ERROR_LIMIT, VKL_ERROR_INVALID, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_stream_submit_vulkan(VklStream *stream, const VklVulkanSubmit *submit, VklFence **fence);

/* Wraps `size` bytes (from its start) of a buffer of the caller's, made with VK_BUFFER_USAGE_STORAGE_BUFFER_BIT, for
 * vkl_stream_copy, fill, read and write also with TRANSFER_SRC and TRANSFER_DST, for the workspace of a step of agents with a
 * count also with INDIRECT_BUFFER. The buffer must be owned by the device's queue family, or be concurrent. It stays the
 * caller's, and must outlive the wrap: vkl_buffer_destroy() destroys the VklBuffer alone.
 * Errors: VKL_ERROR_INVALID (size no multiple of 4, NULL), VKL_ERROR_UNSUPPORTED (not a Vulkan device), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_buffer_wrap_vulkan(VklDevice *device, VkBuffer handle, uint64_t size, VklBuffer **buffer);

/* The VkBuffer behind a buffer of ours, and where in it the buffer begins: for the caller's own shaders and copies. Usage is
 * storage, indirect, transfer source and destination; VK_SHARING_MODE_CONCURRENT where VklVulkanImport.queue_families names
 * several, else EXCLUSIVE.
 * Errors: VKL_ERROR_UNSUPPORTED (not a Vulkan device). */
VKL_API VklStatus vkl_buffer_vulkan(VklBuffer *buffer, VkBuffer *handle, VkDeviceSize *offset);

#ifdef __cplusplus
}
#endif
#endif

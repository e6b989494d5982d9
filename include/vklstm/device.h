/* SPDX-License-Identifier: MIT
 *
 * VklDevice: something that runs kernels. Device 0 of no list is the CPU backend, which is always there; the others are the
 * Vulkan devices of the machine. A host program that has a VkDevice of its own imports it: see vulkan.h.
 */
#ifndef VKLSTM_DEVICE_H
#define VKLSTM_DEVICE_H

#include "context.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklDevice VklDevice;

typedef enum VklDeviceType {
    VKL_DEVICE_CPU = 0,        /* the CPU backend: plain C, no Vulkan */
    VKL_DEVICE_DISCRETE = 1,   /* a Vulkan device with memory of its own */
    VKL_DEVICE_INTEGRATED = 2, /* a Vulkan device that shares the host's memory */
    VKL_DEVICE_VIRTUAL = 3,    /* a Vulkan device inside a virtual machine */
    VKL_DEVICE_SOFTWARE = 4,   /* Vulkan on the CPU (lavapipe, SwiftShader) */
    VKL_DEVICE_OTHER = 5
} VklDeviceType;

/* What a plan of kernels must respect. For the CPU backend every limit is the largest value of its type. The numbers in
 * brackets are what Vulkan 1.1 guarantees; vklstm runs within them. */
typedef struct VklDeviceLimits {
    uint64_t storage_range;         /* bytes that one binding can reach [2^27] */
    uint64_t allocation_size;       /* bytes of one allocation [2^30] */
    uint32_t storage_buffers;       /* storage buffers of one kernel [4] */
    uint32_t storage_alignment;     /* bytes, of a binding's offset [at most 256] */
    uint32_t workgroups[3];         /* workgroups per axis of one dispatch [65535] */
    uint32_t workgroup_size[3];     /* invocations per axis of one workgroup [128, 128, 64] */
    uint32_t workgroup_invocations; /* invocations of one workgroup [128] */
    uint32_t shared_memory;         /* bytes of one workgroup [16384] */
    uint32_t push_constants;        /* bytes [128] */
} VklDeviceLimits;

/* What is enabled on the device: on an imported one, what the program said; on one of ours, and in a list of devices, what
 * vklstm asks for because it would use it. */
typedef struct VklDeviceFeatures {
    uint32_t subgroup_size;     /* 1 for the CPU backend */
    bool timestamps;            /* GPU time can be measured on the queue that is used */
    bool timeline_semaphore;    /* VkSemaphores of vkl_stream_submit_vulkan() may have values */
    bool shader_float16;        /* used with cooperative matrices */
    bool storage_16bit;         /* no kernel uses it */
    bool subgroup_size_control; /* used by every kernel that wants a size */
    bool cooperative_matrix;    /* the extension; cooperative_shape says whether it is used */
    bool unified_memory;        /* all device memory is visible to the host */
    uint32_t subgroup_size_min; /* what a kernel can ask for; subgroup_size without subgroup_size_control */
    uint32_t subgroup_size_max; /* the same */
    bool subgroup_shuffle;      /* lanes of a subgroup can read each other's values in kernels */
    /* rows, columns and depth of the cooperative matrices that layers of halves are multiplied with; 0: of none, since the
     * device, the features that were enabled, or the compiler that built the library lack something */
    uint32_t cooperative_shape[3];
} VklDeviceFeatures;

typedef struct VklDeviceInfo {
    size_t struct_size; /* set by the library */
    VklDeviceType type;
    uint32_t index;        /* N of the selector "vulkan:N"; 0 for the CPU backend */
    char name[256];        /* UTF-8 */
    char driver[256];      /* name and version of the driver, or the instruction set of the CPU backend */
    uint32_t api_version;  /* as Vulkan encodes it; 0 for the CPU backend */
    uint32_t vendor_id;    /* by PCI or as Khronos gives them; 0 for the CPU backend */
    uint32_t device_id;    /* of the vendor; 0 for the CPU backend */
    uint64_t memory_bytes; /* the largest device-local heap; physical memory for the CPU backend */
    VklDeviceLimits limits;
    VklDeviceFeatures features;
} VklDeviceInfo;

/* Lists the devices: the CPU backend first, then every Vulkan device in the loader's order. With `infos` NULL, `*count` is
 * set to their number; else at most `*count` are written and `*count` is set to how many were. Each infos[i].struct_size
 * must be sizeof(VklDeviceInfo). A machine without Vulkan, or a build without it, lists the CPU backend alone.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos);

typedef struct VklDeviceDesc {
    size_t struct_size;
    const char *selector;          /* see vkl_device_desc() */
    const VklDeviceLimits *limits; /* NULL (default), or limits to stay within: each field that is not 0 replaces the
                                      device's own where it is lower. For tests, and for a share of a device. */
} VklDeviceDesc;

/* Selectors:
 *   "auto"         the first discrete, else integrated, else virtual GPU; else the CPU backend. Software Vulkan is never
 *                  taken by itself
 *   "cpu"          the CPU backend
 *   "vulkan"       the best Vulkan device, software included
 *   "vulkan:N"     Vulkan device N of the list (VklDeviceInfo.index)
 *   "vulkan:TEXT"  the first Vulkan device whose name contains TEXT (ASCII letters in either case)
 * NULL means "auto". The string is not copied until vkl_device_create(). */
VKL_API VklDeviceDesc vkl_device_desc(const char *selector);

/* Creates a device. `desc` NULL means "auto".
 * Errors: VKL_ERROR_NO_DEVICE (the message lists what there is), VKL_ERROR_INVALID (a selector of no known form),
 * VKL_ERROR_UNSUPPORTED (Vulkan asked of a build without it; a device below Vulkan 1.1 or without a compute queue),
 * VKL_ERROR_HOST_MEMORY, VKL_ERROR_DEVICE_MEMORY, VKL_ERROR_VULKAN. */
VKL_API VklStatus vkl_device_create(VklContext *context, const VklDeviceDesc *desc, VklDevice **device);

/* Destroys a device; every object made from it must be gone before. Waits for work still running. An imported VkDevice is
 * not destroyed. NULL is accepted. */
VKL_API void vkl_device_destroy(VklDevice *device);

/* Limits are those in force, VklDeviceDesc.limits taken in. */
VKL_API void vkl_device_info(const VklDevice *device, VklDeviceInfo *info);

/* What a device can do at best, as two small kernels find it: 32-bit multiply-adds that wait for nothing, and a copy of arrays
 * larger than caches. The two lines of a roofline (Williams, Waterman and Patterson 2009). */
typedef struct VklDeviceSpeed {
    double flops;     /* multiplications and additions a second */
    double bandwidth; /* bytes read and written a second */
} VklDeviceSpeed;

/* Measures for about a tenth of a second, on a stream of its own; allocates up to 512 MiB meanwhile, less where the device has
 * less. On a busy device it finds less. Errors: memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_device_measure(VklDevice *device, VklDeviceSpeed *speed);

/* The context that the device was made with. */
VKL_API VklContext *vkl_device_context(const VklDevice *device);

/* How many pipelines the device has compiled so far; 0 for the CPU backend, which has none. */
VKL_API uint64_t vkl_device_pipelines(const VklDevice *device);

/* What the driver keeps of the pipelines compiled so far, to be put back into a device of a later run, which then compiles in
 * less time (how much less is the driver's affair: some keep nothing). The library writes no file: that is the program's.
 *
 *     size_t size;
 *     vkl_device_cache_get(device, NULL, &size);
 *     void *data = malloc(size);
 *     vkl_device_cache_get(device, data, &size);
 *
 * With `data` NULL, `*size` is set to the bytes needed; else at most `*size` bytes are written, and `*size` is set to how many
 * were. They begin with a header of the library's: device, driver, length and checksum. The CPU backend has no pipelines, and 0
 * bytes.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_LIMIT (`*size` is too small, and is set to what is needed: another thread has compiled
 * meanwhile), memory. */
VKL_API VklStatus vkl_device_cache_get(VklDevice *device, void *data, size_t *size);

/* Adds such bytes to what the device has; `data` is not needed after the call. Best before anything is prepared. 0 bytes are
 * accepted and change nothing. Bytes of another device or driver, cut short or changed in any place never reach the driver, and
 * change nothing: a program goes on without them.
 * Errors: VKL_ERROR_FORMAT (such bytes; the message says which), VKL_ERROR_INVALID, memory. */
VKL_API VklStatus vkl_device_cache_put(VklDevice *device, const void *data, size_t size);

/* vkl_context_error() of the device's context. */
VKL_API const char *vkl_device_error(const VklDevice *device);

#ifdef __cplusplus
}
#endif
#endif

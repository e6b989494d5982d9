/* SPDX-License-Identifier: MIT
 *
 * The inside of the objects, and the contract between them and the two backends.
 *
 * How a call travels: a public entry point checks its arguments, builds a VklPlan (plan.h), binds the plan's slots to buffers in
 * a VklExec, and the device's backend records that.
 */
#ifndef VKL_INTERNAL_H
#define VKL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels.h"
#include "memory.h"
#include "plan.h"
#include "vklstm/vklstm.h"

#if defined(__MINGW32__)
#define VKL_PRINTF(fmt, first) __attribute__((__format__(gnu_printf, fmt, first)))
#elif defined(__GNUC__)
#define VKL_PRINTF(fmt, first) __attribute__((__format__(__printf__, fmt, first)))
#else
#define VKL_PRINTF(fmt, first)
#endif

#define VKL_MESSAGE_SIZE 512

typedef struct VklBackend VklBackend;
typedef struct VklPool VklPool;

/* ---- Errors ----
 * An object that can fail has a VklError as a member. vkl_fail() formats the sentence into it and into the context's,
 * passes it to the log callback, and returns the status, so that a check is one line:
 *     return vkl_fail(context, &rnn->error, VKL_ERROR_INVALID, "vkl_rnn_forward: T is %llu; it must be at least 1", ...);
 * `error` may be NULL: then the context alone keeps it. */
typedef struct VklError {
    atomic_bool busy; /* is being written */
    char message[VKL_MESSAGE_SIZE];
} VklError;

VklStatus vkl_fail(VklContext *context, VklError *error, VklStatus status, const char *format, ...) VKL_PRINTF(4, 5);
/* Refuses a struct of the caller's, which begins with its struct_size, where it is NULL (`name` says what it is) or of another size. */
VklStatus vkl_check_struct(VklContext *context, VklError *error, const char *call, const char *name, const void *given,
                           size_t size);
/* Copies the latest sentence of this thread into the error of the object that was called. */
VklStatus vkl_fail_again(VklError *error, VklStatus status);
void vkl_log(VklContext *context, VklLogLevel level, const char *format, ...) VKL_PRINTF(3, 4);

/* ---- Context ---- */
struct VklContext {
    VklContextDesc desc;
    pthread_mutex_t mutex; /* guards `error`, caches of execs, the pool's creation and `vulkan` */
    char error[VKL_MESSAGE_SIZE];
    VklPool *pool; /* the CPU backend's threads, made when first needed */
    void *vulkan;  /* struct VklVulkan of lib/vk: the instance and its functions, made when first needed; NULL before */
};

/* Runs task(data, i) for i < count on the context's threads (pool.c), on the caller's alone where `threads` is 1. */
void vkl_parallel(VklContext *context, uint32_t count, void (*task)(void *data, uint32_t index), void *data);
/* The same where every task has a thread of its own from its beginning to its end, so that tasks may wait for each other;
 * false, and nothing is done, where that cannot be: the loop is the user's, the pool is in use, there are fewer threads. */
bool vkl_together(VklContext *context, uint32_t count, void (*task)(void *data, uint32_t index), void *data);
/* How many threads that is; asks the system where `threads` is 0. */
uint32_t vkl_parallel_threads(const VklContext *context);
void vkl_pool_destroy(VklPool *pool);

/* ---- Device ---- */
struct VklDevice {
    VklContext *context;
    const VklBackend *backend;
    VklDeviceInfo info;
    VklCaps caps;                   /* what plans are built for */
    atomic_bool lost;               /* sticky */
    atomic_uint_fast64_t pipelines; /* compiled so far */
    atomic_uint_fast64_t next_id;   /* for buffers and layers */
    void *impl;                     /* the backend's */
};

/* Fills caps from info (tune.c): limits, and choices by device type. */
void vkl_caps_from_info(VklCaps *caps, const VklDeviceInfo *info);
/* Lowers `info->limits` to the fields of `limits` that are not 0. */
void vkl_limits_lower(VklDeviceLimits *limits, const VklDeviceLimits *lower);
/* VKL_ERROR_DEVICE_LOST once it is; `call` begins the sentence. */
VklStatus vkl_device_alive(const VklDevice *device, VklError *error, const char *call);
/* Allocates a device of a backend with context, info and caps filled in. */
VklStatus vkl_device_new(VklContext *context, const VklBackend *backend, const VklDeviceInfo *info, VklDevice **device);
VklStatus vkl_cpu_device_create(VklContext *context, const VklDeviceLimits *limits, VklDevice **device);
void vkl_cpu_device_info(VklDeviceInfo *info);
/* Vulkan's side of device.c; lib/vk, or lib/vk_none.c in a build without Vulkan (no devices, VKL_ERROR_UNSUPPORTED). */
VklStatus vkl_vk_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos);
VklStatus vkl_vk_device_create(VklContext *context, uint32_t index, const VklDeviceLimits *limits, VklDevice **device);
void vkl_vk_context_destroy(VklContext *context);

/* ---- Buffer ---- */
struct VklBuffer {
    VklDevice *device;
    VklBufferUsage usage;
    bool wrapped;
    uint64_t size;
    uint64_t id; /* never used twice on a device: keys of prepared work hold it, not the pointer */
    void *host;  /* mapped address or NULL */
    void *impl;  /* the backend's */
};

/* ---- Stream, fence, exec ---- */
typedef struct VklProfile VklProfile;

struct VklStream {
    VklDevice *device;
    bool wrapped;
    VklError error;
    VklStreamStats stats;
    VklProfile *profile; /* NULL until it is asked for (profile.c) */
    bool profiling;      /* what is recorded is timed */
    void *impl;
};

/* Adds the time of one call to the stream's profile. An op that finds no memory is left out. */
void vkl_profile_add(VklProfile *profile, const VklOp *op, double nanoseconds);
void vkl_profile_destroy(VklProfile *profile);
/* Monotonic, from some moment on. */
double vkl_nanoseconds(void);

struct VklVulkanSubmit; /* of vulkan.h */
/* Refuses streams that wrap a command buffer, and lost devices. */
VklStatus vkl_stream_check_own(VklStream *stream, const char *call);
/* vkl_stream_submit(), by the name `call`, for which the stream has been checked. */
VklStatus vkl_stream_submit_with(VklStream *stream, const char *call, const struct VklVulkanSubmit *semaphores, VklFence **fence);

struct VklFence {
    VklDevice *device; /* outlives the stream: for destroying */
    VklStream *stream;
    void *impl;
};

/* A plan bound to buffers. Reference-counted: a cache, the caller and work in flight each hold one. */
struct VklExec {
    VklDevice *device;
    atomic_uint references;
    VklPlan plan; /* its ops are immutable from here on */
    VklSlice slots[VKL_SLOT_COUNT];
    void *impl; /* the backend's: pipelines, descriptor sets */
};

/* Takes the plan over (also on failure) and binds it. Slots that the plan uses must be bound and large enough: else
 * VKL_ERROR_INVALID naming vkl_slot_name. */
VklStatus vkl_exec_create(VklDevice *device, VklPlan *plan, const VklSlice slots[VKL_SLOT_COUNT], const char *caller,
                          VklError *error, VklExec **exec);
/* For a call that is not worth keeping: creates, records, lets go. */
VklStatus vkl_exec_record_once(VklDevice *device, VklStream *stream, VklPlan *plan, const VklSlice slots[VKL_SLOT_COUNT],
                               const char *caller, VklError *error);
void vkl_exec_retain(VklExec *exec);
void vkl_exec_release(VklExec *exec); /* = vkl_exec_destroy */

/* How a buffer stands in the key of a cache: by its id, so that a new buffer where an old one was is another. A buffer of another device
 * is none that a prepared exec can have. */
static inline uint64_t vkl_buffer_key(const VklDevice *device, const VklBuffer *buffer)
{
    return !buffer ? 0 : buffer->device == device ? buffer->id : UINT64_MAX;
}

/* The last few execs of an object, guarded by the context's mutex, found again by the bytes of the call that made them (sizes,
 * and ids and offsets of buffers). */
#define VKL_CACHE_SIZE 16
typedef struct VklExecCache {
    struct {
        uint64_t hash, used;
        void *key;
        size_t key_size;
        VklExec *exec;
    } entries[VKL_CACHE_SIZE];
    uint64_t clock;
} VklExecCache;
/* NULL, or one that the caller lets go of. */
VklExec *vkl_exec_cache_find(VklContext *context, VklExecCache *cache, const void *key, size_t size);
/* Keeps a reference. A key that cannot be allocated is no error: the exec is then not cached. */
void vkl_exec_cache_add(VklContext *context, VklExecCache *cache, const void *key, size_t size, VklExec *exec);
void vkl_exec_cache_clear(VklExecCache *cache);

/* ---- The backend contract ----
 * Arguments are checked before a backend sees them. A backend fails through vkl_fail() with `error` of the object called and
 * returns the status; a lost device sets device->lost. */
typedef enum VklTransfer {
    VKL_TRANSFER_WRITE,
    VKL_TRANSFER_READ,
    VKL_TRANSFER_COPY,
    VKL_TRANSFER_FILL,
    VKL_TRANSFER_SHOW, /* nothing is moved: what was written becomes visible to the host, as at the end of a submit of our own */
} VklTransfer;

typedef struct VklTransferArgs {
    VklTransfer kind;
    VklSlice dst, src;   /* what the kind uses */
    const void *host_in; /* WRITE */
    void *host_out;      /* READ */
    uint32_t value;      /* FILL */
    uint64_t size;       /* bytes, a multiple of 4 */
} VklTransferArgs;

/* Measures pieces of a stream's work, one after the other. */
typedef struct VklTimer {
    VklStream *stream;
    void *impl; /* the backend's */
} VklTimer;

struct VklBackend {
    const char *name;
    void (*device_destroy)(VklDevice *device);                           /* impl only */
    VklStatus (*cache_get)(VklDevice *device, void *data, size_t *size); /* both NULL: no pipelines */
    VklStatus (*cache_put)(VklDevice *device, const void *data, size_t size);
    VklStatus (*buffer_create)(VklBuffer *buffer); /* device, usage, size are set; zero-filled before it is used */
    void (*buffer_destroy)(VklBuffer *buffer);     /* impl only; deferred while submitted work may use it */
    VklStatus (*buffer_flush)(VklBuffer *buffer, uint64_t offset, uint64_t size);
    VklStatus (*buffer_invalidate)(VklBuffer *buffer, uint64_t offset, uint64_t size);
    VklStatus (*stream_create)(VklStream *stream);
    void (*stream_destroy)(VklStream *stream); /* waits, then impl */
    VklStatus (*stream_transfer)(VklStream *stream, const VklTransferArgs *args);
    /* fence NULL, or allocated with stream set; semaphores NULL, or checked (Vulkan alone) */
    VklStatus (*stream_submit)(VklStream *stream, VklFence *fence, const struct VklVulkanSubmit *semaphores);
    VklStatus (*stream_wait)(VklStream *stream);
    VklStatus (*fence_wait)(VklFence *fence, uint64_t timeout_ns);
    void (*fence_destroy)(VklFence *fence);
    VklStatus (*exec_create)(VklExec *exec, VklError *error); /* plan and slots are set */
    void (*exec_destroy)(VklExec *exec);
    VklStatus (*exec_record)(VklExec *exec, VklStream *stream); /* keeps a reference until the work is done */
    VklStatus (*exec_replay)(VklExec *exec, VklStream *stream, uint32_t count);
    /* A range of its ops, at least one. */
    VklStatus (*exec_record_part)(VklExec *exec, VklStream *stream, size_t first, size_t count);
    VklStatus (*timer_create)(VklTimer *timer); /* the stream is set */
    void (*timer_destroy)(VklTimer *timer);     /* impl only; waits for its latest piece */
    /* What is recorded and replayed on the timer's own stream from here on is submitted by piece_submit, in one submit; it
     * begins behind what was recorded before. None of these waits. Dropped work has not run, unless it was so much that it took
     * more than one submit. */
    VklStatus (*piece_begin)(VklTimer *timer);
    VklStatus (*piece_submit)(VklTimer *timer); /* on failure too the piece has ended, as if dropped */
    void (*piece_drop)(VklTimer *timer);
    /* VKL_TIMEOUT: the latest piece still runs. Else how long it took the device; negative: the device cannot tell. */
    VklStatus (*piece_look)(VklTimer *timer, double *nanoseconds);
};

extern const VklBackend vkl_cpu_backend;

/* ---- Model ---- */
/* Where io.c leaves the sentence of a vkl_model_save() that failed (model.c has it: &model->error). */
VklError *vkl_model_error_slot(VklModel *model);

/* ---- Helpers that several files need ---- */
/* products and sums of sizes; false when they do not fit 63 bits */
bool vkl_mul(uint64_t a, uint64_t b, uint64_t *product);
bool vkl_add(uint64_t a, uint64_t b, uint64_t *sum);
/* What was recorded before becomes visible to the host, also in a command buffer of the caller's. */
VklStatus vkl_stream_show(VklStream *stream);
/* Blocking transfers of the model and of tests, on a stream. */
VklStatus vkl_upload(VklStream *stream, VklSlice dst, const void *data, uint64_t size);
VklStatus vkl_download(VklStream *stream, VklSlice src, void *data, uint64_t size);

#endif

/* SPDX-License-Identifier: MIT
 *
 * VklContext: the root object. It holds what the host program decides once: where messages go and on which threads the CPU
 * backend may run. There is no global state: two contexts in one process do not know of each other.
 *
 * Threads, object by object:
 *
 *     VklContext, VklDevice   internally synchronised: any calls from any threads at once
 *     VklRnn, VklDense, VklOptimizer
 *                             internally synchronised too: one layer may be prepared from, and recorded directly, by several
 *                             threads at once, each with arrays and a stream of its own. (Steps of one optimizer change the same
 *                             moments: their order is that of the work on the device)
 *     VklExec                 never changes: recorded by any number of threads at once, each into a stream of its own, while
 *                             others prepare, submit, or train the model that it was prepared from
 *     VklBuffer               may be named in the calls of any threads; host memory of a mapped one is the caller's to guard
 *     VklStream with its fences, VklModel with its VklFit, VklJob, VklTable and VklPrep
 *                             externally synchronised: one thread at a time; different ones by different threads without a lock
 *
 * Making an object from another is a use of that other one. Destroying an object must be its last use. Callbacks come on
 * whatever thread is in the library. A sentence of vkl_..._error() is the object's latest: where several threads use the object
 * and more than one call may fail, vkl_context_error() and the log callback are what may be read at any time. What threads do
 * to the same array: on a Vulkan device work of all streams runs in the order of its submits, each piece sees what those before
 * it wrote. The CPU backend may run work where it is recorded, so there a thread that reads what another computes must know
 * that it has (a lock around both, or a fence); recordings of one VklExec run one after the other. (tests/threads_*.c do all of
 * this under ThreadSanitizer.)
 */
#ifndef VKLSTM_CONTEXT_H
#define VKLSTM_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklContext VklContext;

typedef enum VklLogLevel {
    VKL_LOG_VALIDATION = 0, /* a message of a Vulkan validation layer (only with VklContextDesc.debug) */
    VKL_LOG_ERROR = 1,      /* the sentence of a call that failed */
    VKL_LOG_WARNING = 2,    /* something that the user should know, such as a constant feature left unscaled */
    VKL_LOG_INFO = 3,
    VKL_LOG_DEBUG = 4
} VklLogLevel;

/* Receives one message without a newline. May be called from any thread that calls into the context, also from several at
 * once; it must not call back into vklstm. */
typedef void (*VklLogFn)(void *user, VklLogLevel level, const char *message);

/* Runs task(data, 0) ... task(data, count - 1), in any order, on any threads, and returns when all are done. */
typedef void (*VklParallelFn)(void *user, uint32_t count, void (*task)(void *data, uint32_t index), void *data);

/* Host memory from the caller, in place of the C library's malloc() and free(): everything that the library allocates, the
 * context itself and what stands for the memory of the CPU device included. Not through here go a thread's stack, and what
 * other libraries allocate inside their own calls: jansson and libcsv while a file is read or written, the C library for an
 * open file, a Vulkan driver. Both functions may be called from any thread that calls into the context, and from threads of the
 * library's own, several at once. They must not call back into vklstm. */
typedef struct VklHostMemory {
    /* Returns `size` bytes, at least 1, of any content, at a multiple of `alignment`, a power of two; NULL: there are none, and
     * the call fails with VKL_ERROR_HOST_MEMORY. */
    void *(*allocate)(void *user, size_t size, size_t alignment);
    /* Takes back what allocate() returned; never NULL. */
    void (*release)(void *user, void *data);
    void *user; /* handed to both */
} VklHostMemory;

/* Progress of compiling: of the `total` pipelines that one call lacks (one that prepares, or the first of its kind that
 * records), `done` are there. Called with 0 before the first, then once for each number up to `total`, unless one fails; from
 * the calling thread and from those that compile, so several at once and not in order. Calls that lack no pipeline, and the CPU
 * backend, which has none, never call it. It must not call back into vklstm. */
typedef void (*VklPreparedFn)(void *user, uint32_t done, uint32_t total);

typedef struct VklContextDesc {
    size_t struct_size; /* set by vkl_context_desc(); an unknown size is refused */
    VklLogFn log;       /* NULL: silent */
    void *log_user;
    VklLogLevel log_level;  /* messages up to this level are passed on; default VKL_LOG_WARNING */
    uint32_t threads;       /* threads of the CPU backend, and of what compiles pipelines, the caller's included. 1 (default): no
                               thread is started. 0: as many as the machine has cores. Results do not depend on it. */
    VklParallelFn parallel; /* not NULL: used in place of threads of our own; `threads` then says how many tasks the CPU backend
                               makes. Called from any thread that calls into the context, also from several at once. No task waits
                               for one that has not begun. While it waits for its tasks it must not run a job of the program's that
                               uses the same VklExec, stream or object as the call that it serves */
    void *parallel_user;
    VklPreparedFn prepared; /* NULL (default): progress is not told */
    void *prepared_user;
    bool debug; /* default false. Vulkan objects get names (VK_EXT_debug_utils, where present), and messages of validation
                   layers that the environment switched on arrive as VKL_LOG_VALIDATION. */
    /* Default: both functions NULL, the C library. One of them alone is refused. Copied; what `user` points to must outlive the
     * context and what was made from it, also what vkl_free() is for. */
    VklHostMemory memory;
} VklContextDesc;

/* The defaults named above. */
VKL_API VklContextDesc vkl_context_desc(void);

/* Creates a context. `desc` NULL means the defaults. No Vulkan call is made before the first device is listed or created.
 * Errors: VKL_ERROR_INVALID (struct_size; memory.allocate without memory.release, or the reverse), VKL_ERROR_HOST_MEMORY. There
 * is no context to ask for the sentence: it goes to desc->log, but for a struct_size that is not known, when no member can be
 * trusted. */
VKL_API VklStatus vkl_context_create(const VklContextDesc *desc, VklContext **context);

/* Destroys a context; everything made from it must be gone before. NULL is accepted. */
VKL_API void vkl_context_destroy(VklContext *context);

/* The sentence of the latest failed call on this context or on one of its devices, "" if there was none. With several threads
 * the latest may be another thread's (the log callback has each one's own). A copy for the calling thread, valid until that
 * calls this again. */
VKL_API const char *vkl_context_error(const VklContext *context);

/* "MAJOR.MINOR.PATCH" of the library. */
VKL_API const char *vkl_version(void);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: MIT
 *
 * VklContext: the root object. It holds what the host program decides once: where messages go and on which threads the CPU
 * backend may run. There is no global state: two contexts in one process do not know of each other.
 *
 * Threads. A context and a device may be used from several threads at once. Every other object (buffer, stream, layer,
 * model, table) may be used by one thread at a time; different objects by different threads without locks.
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

typedef struct VklContextDesc {
    size_t struct_size; /* set by vkl_context_desc(); an unknown size is refused */
    VklLogFn log;       /* NULL: silent */
    void *log_user;
    VklLogLevel log_level;  /* messages up to this level are passed on; default VKL_LOG_WARNING */
    uint32_t threads;       /* threads of the CPU backend, the caller's included. 1 (default): no thread is started.
                               0: as many as the machine has cores. Results do not depend on it. */
    VklParallelFn parallel; /* not NULL: used in place of threads of our own; `threads` then says how many tasks to make */
    void *parallel_user;
    bool debug; /* default false. Vulkan objects get names (VK_EXT_debug_utils, where present), and messages of validation
                   layers that the environment switched on arrive as VKL_LOG_VALIDATION. */
} VklContextDesc;

/* The defaults named above. */
VKL_API VklContextDesc vkl_context_desc(void);

/* Creates a context. `desc` NULL means the defaults. No Vulkan call is made before the first device is listed or created.
 * Errors: VKL_ERROR_INVALID (struct_size), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_context_create(const VklContextDesc *desc, VklContext **context);

/* Destroys a context; everything made from it must be gone before. NULL is accepted. */
VKL_API void vkl_context_destroy(VklContext *context);

/* The sentence of the latest failed call on this context or on one of its devices, "" if there was none. With several
 * threads the latest may be another thread's (the log callback has each one's own); the text stays valid until sixteen
 * further calls have failed. */
VKL_API const char *vkl_context_error(const VklContext *context);

/* "MAJOR.MINOR.PATCH" of the library. */
VKL_API const char *vkl_version(void);

#ifdef __cplusplus
}
#endif
#endif

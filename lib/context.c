/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

const VklKernelInfo vkl_kernel_info[VKL_KERNEL_COUNT] = {
#define X(name, shader, type, bindings, writable) [VKL_KERNEL_##name] = {#shader, sizeof(struct type), bindings, writable},
    VKL_KERNEL_LIST(X)
#undef X
};

const char *vkl_version(void)
{
    return VKL_VERSION;
}

const char *vkl_status_string(VklStatus status)
{
    switch (status) {
    case VKL_OK:
        return "Success.";
    case VKL_STOPPED:
        return "Stopped as a callback asked; what was done so far is valid.";
    case VKL_TIMEOUT:
        return "The time given to a wait ran out; the work goes on.";
    case VKL_ERROR_INVALID:
        return "An argument makes no sense.";
    case VKL_ERROR_LIMIT:
        return "A size is beyond a limit of the device or of the library.";
    case VKL_ERROR_UNSUPPORTED:
        return "This build or this device cannot do it.";
    case VKL_ERROR_HOST_MEMORY:
        return "The host refused memory.";
    case VKL_ERROR_DEVICE_MEMORY:
        return "The device refused memory.";
    case VKL_ERROR_NO_DEVICE:
        return "No device matches the selector.";
    case VKL_ERROR_DEVICE_LOST:
        return "The device is lost.";
    case VKL_ERROR_IO:
        return "A file could not be opened, read or written.";
    case VKL_ERROR_FORMAT:
        return "A file or a table is not what it should be.";
    case VKL_ERROR_NUMERIC:
        return "A loss became infinite or NaN.";
    case VKL_ERROR_VULKAN:
        return "The Vulkan driver returned an error.";
    }
    return "Unknown status.";
}

VklContextDesc vkl_context_desc(void)
{
    return (VklContextDesc){
        .struct_size = sizeof(VklContextDesc),
        .log_level = VKL_LOG_WARNING,
        .threads = 1,
    };
}

VklStatus vkl_context_create(const VklContextDesc *desc, VklContext **context)
{
    VklContextDesc defaults = vkl_context_desc();
    if (!desc)
        desc = &defaults;
    if (!context || desc->struct_size != sizeof(VklContextDesc))
        return VKL_ERROR_INVALID;
    if (!desc->memory.allocate != !desc->memory.release) {
        if (desc->log)
            desc->log(desc->log_user, VKL_LOG_ERROR,
                      desc->memory.allocate ? "vkl_context_create: memory.release is NULL, and memory.allocate is not"
                                            : "vkl_context_create: memory.allocate is NULL, and memory.release is not");
        return VKL_ERROR_INVALID;
    }
    VklContext *made = vkl_allocate(&desc->memory, 1, sizeof(*made));
    if (!made)
        return VKL_ERROR_HOST_MEMORY;
    if (pthread_mutex_init(&made->mutex, NULL)) {
        vkl_release(made);
        return VKL_ERROR_HOST_MEMORY;
    }
    made->desc = *desc;
    *context = made;
    return VKL_OK;
}

void vkl_context_destroy(VklContext *context)
{
    if (!context)
        return;
    vkl_vk_context_destroy(context);
    vkl_pool_destroy(context->pool);
    pthread_mutex_destroy(&context->mutex);
    vkl_release(context);
}

static void pass_on(VklContext *context, VklLogLevel level, const char *message)
{
    if (context->desc.log && level <= context->desc.log_level)
        context->desc.log(context->desc.log_user, level, message);
}

/* Of this thread: its latest failure, for objects that pass on the failure of another (the context's may be another thread's), and what
 * vkl_context_error() has returned. */
static _Thread_local char latest[VKL_MESSAGE_SIZE], shown[VKL_MESSAGE_SIZE];

/* Several threads may prepare work of one layer, and all fail. */
static void keep(VklError *error)
{
    while (atomic_exchange_explicit(&error->busy, true, memory_order_acquire))
        ;
    memcpy(error->message, latest, sizeof(latest));
    atomic_store_explicit(&error->busy, false, memory_order_release);
}

VklStatus vkl_fail(VklContext *context, VklError *error, VklStatus status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(latest, sizeof(latest), format, arguments);
    va_end(arguments);
    if (error)
        keep(error);
    pthread_mutex_lock(&context->mutex);
    memcpy(context->error, latest, sizeof(latest));
    pthread_mutex_unlock(&context->mutex);
    pass_on(context, VKL_LOG_ERROR, latest);
    return status;
}

VklStatus vkl_check_struct(VklContext *context, VklError *error, const char *call, const char *name, const void *given,
                           size_t size)
{
    if (!given)
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: %s is NULL", call, name);
    size_t known = *(const size_t *)given; /* the first member of each */
    if (known != size)
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: struct_size is %zu; it must be %zu", call, known, size);
    return VKL_OK;
}

VklStatus vkl_fail_again(VklError *error, VklStatus status)
{
    keep(error);
    return status;
}

const char *vkl_context_error(const VklContext *context)
{
    VklContext *shared = (VklContext *)context; /* the mutex is what makes reading it from several threads legal */
    pthread_mutex_lock(&shared->mutex);
    memcpy(shown, shared->error, sizeof(shown));
    pthread_mutex_unlock(&shared->mutex);
    return shown;
}

void vkl_log(VklContext *context, VklLogLevel level, const char *format, ...)
{
    char message[VKL_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    pass_on(context, level, message);
}

bool vkl_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    if (a && b > (uint64_t)INT64_MAX / a)
        return false;
    *product = a * b;
    return true;
}

bool vkl_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    if (a > (uint64_t)INT64_MAX || b > (uint64_t)INT64_MAX - a)
        return false;
    *sum = a + b;
    return true;
}

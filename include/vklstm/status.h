/* SPDX-License-Identifier: MIT
 *
 * Status codes: what every fallible call of vklstm returns.
 *
 * Zero is success, a positive value is a result that is neither success nor an error, a negative value is an error. The
 * numbers are part of the ABI and never change. A call that fails leaves its outputs untouched, and gives one sentence that
 * names the value and the limit: to the log callback of the context, and from `vkl_<object>_error()` of the object called.
 *
 * Pointers. An object that a call is made on must be there: NULL for it, or a destroyed one, is undefined (destroy functions
 * accept NULL). Results, arrays and descriptions that are needed are refused with VKL_ERROR_INVALID when they are NULL where
 * the header does not give NULL a meaning; small accessors without a status do not check.
 */
#ifndef VKLSTM_STATUS_H
#define VKLSTM_STATUS_H

/* What a shared library exports. On Windows a program that links the DLL defines VKL_SHARED (pkg-config and CMake do). */
#if defined(_WIN32) && defined(VKL_SHARED)
#ifdef VKL_BUILDING
#define VKL_API __declspec(dllexport)
#else
#define VKL_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define VKL_API __attribute__((visibility("default")))
#else
#define VKL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum VklStatus {
    VKL_OK = 0,
    VKL_STOPPED = 1,              /* a callback asked to stop; what was done so far is valid */
    VKL_TIMEOUT = 2,              /* the time given to a wait ran out; the work goes on */
    VKL_ERROR_INVALID = -1,       /* an argument makes no sense: its name and value are in the message */
    VKL_ERROR_LIMIT = -2,         /* a size is beyond a limit of the device or of the library */
    VKL_ERROR_UNSUPPORTED = -3,   /* this build or this device cannot do it */
    VKL_ERROR_HOST_MEMORY = -4,   /* the host refused memory */
    VKL_ERROR_DEVICE_MEMORY = -5, /* the device refused memory */
    VKL_ERROR_NO_DEVICE = -6,     /* no device matches the selector */
    VKL_ERROR_DEVICE_LOST = -7,   /* the device is gone; sticky: every later call on it says the same */
    VKL_ERROR_IO = -8,            /* a file could not be opened, read or written */
    VKL_ERROR_FORMAT = -9,        /* a file is not what it should be: the line or the tensor is in the message */
    VKL_ERROR_NUMERIC = -10,      /* a loss became infinite or NaN: the epoch and the step are in the message */
    VKL_ERROR_VULKAN = -11        /* the driver returned an error that has no place above */
} VklStatus;

/* The status as one English sentence. Never NULL; a static string; any thread. */
VKL_API const char *vkl_status_string(VklStatus status);

#ifdef __cplusplus
}
#endif
#endif

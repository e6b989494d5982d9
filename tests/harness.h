/* SPDX-License-Identifier: MIT
 *
 * What every test program shares: a context in which a validation message is fatal, the device that the environment asks for,
 * deterministic numbers and comparisons that NaN cannot pass.
 *
 * The same program runs once for each device. The environment decides:
 *     VKL_TEST_DEVICE   a selector of vkl_device_desc(): "cpu" (default), "vulkan:llvmpipe", "vulkan:SwiftShader"
 *     VKL_TEST_LIMITS   "floor": the limits that Vulkan 1.1 guarantees in place of the device's own
 *     VKL_TEST_ROWS     "5": of the long tables a Vulkan device runs one row in five (default: every row)
 *     VKL_TEST_CPU      the level of the CPU's kernels: "plain", "base", "avx2", "avx512" (default: the best of the machine)
 * A device that is not there fails the test: a skipped device would look like a tested one.
 *
 * Criterion runs each test in a child process; the functions below may be called from there only.
 */
#ifndef VKL_TESTS_HARNESS_H
#define VKL_TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <criterion/criterion.h>

#include "vklstm/vklstm.h"

/* A context with `debug` set, one thread, and a log callback: a VKL_LOG_VALIDATION message goes to standard error and ends the
 * test's process with abort(). The caller destroys it. */
VklContext *test_context(void);
/* The same with host memory of the test's own. */
VklContext *test_context_with(VklHostMemory memory);

/* The device of the environment, and the CPU backend (also under VKL_TEST_LIMITS; plain C beside a Vulkan device). The caller
 * destroys them. */
VklDevice *test_device(VklContext *context);
VklDevice *test_device_cpu(VklContext *context);

/* Whether VKL_TEST_DEVICE names a Vulkan device. */
bool test_is_vulkan(void);

/* Whether row `row` of a long table is to be run: row 0 always, others as VKL_TEST_ROWS says. Which they are depends on the row alone, and
 * on no period of the table's. */
bool test_row(size_t row);

/* Sets a locale of the machine whose numbers have a comma, as a host program may. Where none is installed there is no change. */
void test_comma_locale(void);

/* The limits that VKL_TEST_LIMITS asks for, or NULL: for tests that fill a VklDeviceDesc or VklVulkanImport themselves. */
const VklDeviceLimits *test_limits(void);

/* Fills out[n] with numbers in [-scale, scale] that depend on seed and position alone. */
void test_random(float *out, size_t n, uint32_t seed, float scale);

/* Fail unless every got[i] is within `tolerance` of want[i], relative to the largest finite |want| (absolute if that is 0). Where
 * `want` is NaN or infinite, `got` must be the same. `what` and the worst place are printed. */
void test_compare(const char *what, const float *got, const double *want, size_t n, double tolerance);
void test_compare_f(const char *what, const float *got, const float *want, size_t n, double tolerance);

/* A VKL_BUFFER_DEVICE buffer of `count` floats (at least one), holding data[count], or zeros where `data` is NULL. The caller
 * destroys it. */
VklBuffer *test_buffer(VklDevice *device, const float *data, uint64_t count);

/* Reads the first `count` floats. Waits for a stream of its own only: work on other streams must be done. */
void test_read(VklDevice *device, VklBuffer *buffer, float *out, uint64_t count);

/* Asserts that a call returned VKL_OK; prints the context's sentence if not. Evaluates `call` once. */
#define TEST_OK(context, call)                                                                                         \
    do {                                                                                                               \
        VklStatus test_status_ = (call);                                                                               \
        cr_assert_eq(test_status_, VKL_OK, "%s: status %d: %s", #call, (int)test_status_, vkl_context_error(context)); \
    } while (0)

#endif

/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "cpu/kernels.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Vulkan 1.1, chapter "Required Limits": no device has less. */
static const VklDeviceLimits floor_limits = {
    .storage_range = UINT64_C(1) << 27,
    .allocation_size = UINT64_C(1) << 30,
    .storage_buffers = 4,
    .storage_alignment = 256,
    .workgroups = {65535, 65535, 65535},
    .workgroup_size = {128, 128, 64},
    .workgroup_invocations = 128,
    .shared_memory = 16384,
    .push_constants = 128,
};

static void on_log(void *user, VklLogLevel level, const char *message)
{
    (void)user;
    if (level != VKL_LOG_VALIDATION)
        return; /* tests read errors from the objects; printing those that they provoke would bury real ones */
    /* A counter would die with the child process, and Criterion would not see it. A signal it does see. */
    fprintf(stderr, "validation: %s\n", message);
    fflush(stderr);
    abort();
}

VklContext *test_context(void)
{
    return test_context_with(vkl_context_desc().memory);
}

VklContext *test_context_with(VklHostMemory memory)
{
    VklContextDesc desc = vkl_context_desc();
    desc.memory = memory;
    desc.log = on_log;
    desc.debug = true;
    VklContext *context = NULL;
    VklStatus status = vkl_context_create(&desc, &context);
    cr_assert_eq(status, VKL_OK, "vkl_context_create: %s", vkl_status_string(status));
    return context;
}

static const char *device_selector(void)
{
    const char *selector = getenv("VKL_TEST_DEVICE");
    return selector && *selector ? selector : "cpu";
}

bool test_is_vulkan(void)
{
    return strncmp(device_selector(), "vulkan", strlen("vulkan")) == 0;
}

void test_comma_locale(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8", "de_DE", ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (setlocale(LC_ALL, names[i]) && localeconv()->decimal_point[0] == ',')
            break;
}

bool test_row(size_t row)
{
    const char *text = getenv("VKL_TEST_ROWS");
    if (row == 0 || !text || !*text || !test_is_vulkan())
        return true;
    const long one_in = strtol(text, NULL, 10);
    cr_assert_gt(one_in, 0, "VKL_TEST_ROWS is \"%s\"; it must be a number from 1 on", text);
    /* multiples of the golden ratio, which fill an interval evenly and without a period (Knuth, volume 3, 6.4) */
    return ((uint64_t)row * UINT64_C(0x9e3779b97f4a7c15) >> 32) * (uint64_t)one_in >> 32 == 0;
}

const VklDeviceLimits *test_limits(void)
{
    const char *limits = getenv("VKL_TEST_LIMITS");
    if (!limits || !*limits)
        return NULL;
    cr_assert_str_eq(limits, "floor", "VKL_TEST_LIMITS is \"%s\"; only \"floor\" is known", limits);
    return &floor_limits;
}

static VklDevice *create_device(VklContext *context, const char *selector)
{
    VklDeviceDesc desc = vkl_device_desc(selector);
    desc.limits = test_limits();
    VklDevice *device = NULL;
    VklStatus status = vkl_device_create(context, &desc, &device);
    cr_assert_eq(status, VKL_OK, "device \"%s\": %s", selector, vkl_context_error(context));
    return device;
}

/* Another level of the CPU backend's kernels than the best of the machine. */
static void choose_level(VklDevice *device, const char *name)
{
    VklDeviceInfo info = {.struct_size = sizeof info};
    vkl_device_info(device, &info);
    if (info.type == VKL_DEVICE_CPU && name && *name)
        cr_assert(vkl_cpu_device_level(device, name), "this machine has no kernels \"%s\"", name);
}

VklDevice *test_device(VklContext *context)
{
    VklDevice *device = create_device(context, device_selector());
    choose_level(device, getenv("VKL_TEST_CPU"));
    return device;
}

VklDevice *test_device_cpu(VklContext *context)
{
    VklDevice *device = create_device(context, "cpu");
    choose_level(device, test_is_vulkan() ? "plain" : getenv("VKL_TEST_CPU")); /* an oracle, or one more of what is tested */
    return device;
}

void test_random(float *out, size_t n, uint32_t seed, float scale)
{
    for (size_t i = 0; i < n; i++) {
        /* SplitMix64 (Steele, Lea, Flood 2014) of a counter: no state, so any part of an array can be made again */
        uint64_t z = ((uint64_t)seed << 32) + UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)i + 1);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        /* 24 bits, centred: exact in a float, never beyond the scale, never 0 */
        float unit = ((float)(z >> 40) + 0.5f - 8388608.0f) * (1.0f / 8388608.0f);
        out[i] = unit * scale;
    }
}

static double largest_magnitude(const double *values, size_t n)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        if (isfinite(values[i]) && fabs(values[i]) > largest)
            largest = fabs(values[i]);
    }
    return largest;
}

void test_compare(const char *what, const float *got, const double *want, size_t n, double tolerance)
{
    cr_assert_gt(n, (size_t)0, "%s: nothing to compare", what);
    double scale = largest_magnitude(want, n);
    if (scale == 0)
        scale = 1;
    double worst = 0;
    size_t worst_at = 0, wrong = 0;
    for (size_t i = 0; i < n; i++) {
        double error;
        if (isnan(want[i]))
            error = isnan(got[i]) ? 0 : (double)INFINITY;
        else if (isinf(want[i]))
            error = (double)got[i] == want[i] ? 0 : (double)INFINITY;
        else
            error = isfinite(got[i]) ? fabs((double)got[i] - want[i]) / scale : (double)INFINITY;
        if (!(error <= tolerance))
            wrong++;
        if (error > worst) {
            worst = error;
            worst_at = i;
        }
    }
    cr_assert_eq(wrong, (size_t)0,
                 "%s: %zu of %zu values are off; worst at [%zu]: got %.9g, want %.9g, error %.3g of %.3g allowed", what, wrong, n,
                 worst_at, (double)got[worst_at], want[worst_at], worst, tolerance);
}

void test_compare_f(const char *what, const float *got, const float *want, size_t n, double tolerance)
{
    cr_assert_gt(n, (size_t)0, "%s: nothing to compare", what);
    double *wide = malloc(n * sizeof *wide);
    cr_assert_not_null(wide, "%s: no memory for %zu values", what, n);
    for (size_t i = 0; i < n; i++)
        wide[i] = (double)want[i];
    test_compare(what, got, wide, n, tolerance);
    free(wide);
}

VklBuffer *test_buffer(VklDevice *device, const float *data, uint64_t count)
{
    VklContext *context = vkl_device_context(device);
    uint64_t size = (count ? count : 1) * sizeof(float);
    VklBuffer *buffer = NULL;
    TEST_OK(context, vkl_buffer_create(device, VKL_BUFFER_DEVICE, size, &buffer));
    if (data && count) {
        VklStream *stream = NULL;
        TEST_OK(context, vkl_stream_create(device, &stream));
        TEST_OK(context, vkl_stream_write(stream, vkl_slice(buffer, 0), data, size));
        TEST_OK(context, vkl_stream_wait(stream));
        vkl_stream_destroy(stream);
    }
    return buffer;
}

void test_read(VklDevice *device, VklBuffer *buffer, float *out, uint64_t count)
{
    VklContext *context = vkl_device_context(device);
    if (count == 0)
        return;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_stream_read(stream, vkl_slice(buffer, 0), out, count * sizeof(float)));
    TEST_OK(context, vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
}

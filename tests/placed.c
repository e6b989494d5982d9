/* SPDX-License-Identifier: MIT */
#include "placed.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

#define BEHIND 3

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    cr_assert_not_null(memory);
    return memory;
}

/* NaN, with bits that no arithmetic makes. */
static float poison(void)
{
    const uint32_t bits = 0x7fc0dead;
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

Placed placed_make(VklDevice *device, const float *data, size_t count, bool packed)
{
    Placed placed = {.before = packed ? 4 : 3, .count = count};
    const size_t whole = placed.before + count + BEHIND;
    float *numbers = allocate(whole, sizeof(float));
    for (size_t k = 0; k < whole; k++)
        numbers[k] = poison();
    if (data)
        memcpy(numbers + placed.before, data, count * sizeof(float));
    placed.buffer = test_buffer(device, numbers, whole);
    placed.slice = vkl_slice(placed.buffer, placed.before * sizeof(float));
    free(numbers);
    return placed;
}

float *placed_take(VklDevice *device, const Placed *placed, const char *what)
{
    const size_t whole = placed->before + placed->count + BEHIND;
    float *numbers = allocate(whole, sizeof(float));
    test_read(device, placed->buffer, numbers, whole);
    const float untouched = poison();
    for (size_t k = 0; k < whole; k++) {
        const bool inside = k >= placed->before && k < placed->before + placed->count;
        cr_assert(inside || !memcmp(&numbers[k], &untouched, sizeof(float)), "%s: %g was written at [%lld] of %zu", what,
                  (double)numbers[k], (long long)k - (long long)placed->before, placed->count);
    }
    memmove(numbers, numbers + placed->before, placed->count * sizeof(float));
    return numbers;
}

VklDevice *device_within(VklContext *context, VklDeviceLimits limits)
{
    const VklDeviceLimits *asked = test_limits();
    VklDeviceLimits both = asked ? *asked : limits;
    both.storage_range = limits.storage_range ? limits.storage_range : both.storage_range;
    for (int axis = 0; axis < 3; axis++)
        both.workgroups[axis] = limits.workgroups[axis] ? limits.workgroups[axis] : both.workgroups[axis];
    const char *selector = getenv("VKL_TEST_DEVICE");
    VklDeviceDesc desc = vkl_device_desc(selector && *selector ? selector : "cpu");
    desc.limits = &both;
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_create(context, &desc, &device));
    return device;
}

void check_refusal(const char *what, VklStatus got, VklStatus want, const char *message, const char *word)
{
    cr_assert_eq(got, want, "%s: status %d (%s), %d was expected", what, (int)got, message, (int)want);
    cr_assert_not_null(strstr(message, word), "%s: \"%s\" does not name %s", what, message, word);
}

VklDevice *device_as_gpu(VklContext *context)
{
    VklDevice *device = device_within(context, (VklDeviceLimits){0});
    device->caps.arch = VKL_ARCH_GPU;
    return device;
}

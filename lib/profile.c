/* SPDX-License-Identifier: MIT
 *
 * The times of kernels on a stream. Both backends add to it: the Vulkan one what timestamps say when work is done, the CPU one
 * the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "internal.h"

/* Calls of one pipeline with the same work. */
typedef struct Row {
    uint16_t kernel;
    uint32_t spec[VKL_SPEC_COUNT];
    uint64_t calls;
    double nanoseconds, flops, bytes;
} Row;

struct VklProfile {
    Row *rows;
    size_t count, capacity;
    const VklHostMemory *memory;
    size_t latest; /* calls of a kind come one after the other */
};

static bool is_row(const Row *row, const VklOp *op, double flops, double bytes)
{
    return row->kernel == op->kernel && row->flops == flops && row->bytes == bytes &&
           !memcmp(row->spec, op->spec, sizeof(row->spec));
}

static Row *find_row(VklProfile *profile, const VklOp *op)
{
    double flops = vkl_op_flops(op), bytes = vkl_op_bytes(op);
    for (size_t n = 0; n < profile->count; n++) {
        size_t i = (profile->latest + n) % profile->count;
        if (is_row(&profile->rows[i], op, flops, bytes)) {
            profile->latest = i;
            return &profile->rows[i];
        }
    }
    if (profile->count == profile->capacity) {
        size_t capacity = profile->capacity ? 2 * profile->capacity : 32;
        Row *rows = vkl_reallocate(profile->memory, profile->rows, capacity, sizeof(*rows));
        if (!rows)
            return NULL;
        profile->rows = rows;
        profile->capacity = capacity;
    }
    Row *row = &profile->rows[profile->count++];
    *row = (Row){.kernel = op->kernel, .flops = flops, .bytes = bytes};
    memcpy(row->spec, op->spec, sizeof(row->spec));
    return row;
}

void vkl_profile_add(VklProfile *profile, const VklOp *op, double nanoseconds)
{
    Row *row = find_row(profile, op);
    if (!row)
        return;
    row->calls++;
    row->nanoseconds += nanoseconds;
}

void vkl_profile_destroy(VklProfile *profile)
{
    if (!profile)
        return;
    vkl_release(profile->rows);
    vkl_release(profile);
}

double vkl_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

VklStatus vkl_stream_profile(VklStream *stream, bool on)
{
    VklDevice *device = stream->device;
    if (!on) {
        stream->profiling = false;
        return VKL_OK;
    }
    if (stream->wrapped)
        return vkl_fail(device->context, &stream->error, VKL_ERROR_UNSUPPORTED,
                        "vkl_stream_profile: the stream wraps a command buffer of the caller's, which is not read back");
    if (device->info.type != VKL_DEVICE_CPU && !device->info.features.timestamps)
        return vkl_fail(device->context, &stream->error, VKL_ERROR_UNSUPPORTED,
                        "vkl_stream_profile: the queue of '%s' has no timestamps", device->info.name);
    if (!stream->profile)
        stream->profile = vkl_allocate(device->caps.memory, 1, sizeof(*stream->profile));
    if (!stream->profile)
        return vkl_fail(device->context, &stream->error, VKL_ERROR_HOST_MEMORY, "vkl_stream_profile: the host refused %zu bytes",
                        sizeof(*stream->profile));
    stream->profile->memory = device->caps.memory;
    stream->profile->count = stream->profile->latest = 0;
    stream->profiling = true;
    return VKL_OK;
}

static int by_time(const void *a, const void *b)
{
    double left = ((const Row *)a)->nanoseconds, right = ((const Row *)b)->nanoseconds;
    return (left < right) - (left > right);
}

/* "form 2, 64 0 8 16": the form, then the other constants up to the last that is not 0. */
static void variant_text(const uint32_t spec[VKL_SPEC_COUNT], char *text, size_t size)
{
    int last = VKL_SPEC_COUNT - 1;
    while (last > 0 && (!spec[last] || last == VKL_SPEC_FORM))
        last--;
    int used = snprintf(text, size, "form %u,", spec[VKL_SPEC_FORM]);
    for (int i = 0; i <= last && used >= 0 && (size_t)used < size; i++)
        if (i != VKL_SPEC_FORM)
            used += snprintf(text + used, size - (size_t)used, " %u", spec[i]);
}

VklStatus vkl_stream_kernel_times(VklStream *stream, uint32_t *count, VklKernelTime *times)
{
    VklProfile *profile = stream->profile;
    if (!count)
        return vkl_fail(stream->device->context, &stream->error, VKL_ERROR_INVALID, "vkl_stream_kernel_times: count is NULL");
    uint32_t there = profile ? (uint32_t)profile->count : 0;
    if (!times) {
        *count = there;
        return VKL_OK;
    }
    uint32_t written = *count < there ? *count : there;
    if (there) {
        qsort(profile->rows, profile->count, sizeof(*profile->rows), by_time);
        profile->latest = 0;
    }
    for (uint32_t i = 0; i < written; i++) {
        const Row *row = &profile->rows[i];
        times[i] =
            (VklKernelTime){.calls = row->calls, .nanoseconds = row->nanoseconds, .flops = row->flops, .bytes = row->bytes};
        snprintf(times[i].name, sizeof(times[i].name), "%s", vkl_kernel_info[row->kernel].name);
        variant_text(row->spec, times[i].variant, sizeof(times[i].variant));
    }
    *count = written;
    return VKL_OK;
}

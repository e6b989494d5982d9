/* SPDX-License-Identifier: MIT
 *
 * From a device's properties to the choices that plans are built with. Pure functions. */
#include "internal.h"

void vkl_limits_lower(VklDeviceLimits *limits, const VklDeviceLimits *lower)
{
    if (!lower)
        return;
#define LOWER(field)                                  \
    if (lower->field && lower->field < limits->field) \
    limits->field = lower->field
    LOWER(storage_range);
    LOWER(allocation_size);
    LOWER(storage_buffers);
    for (int axis = 0; axis < 3; axis++) {
        LOWER(workgroups[axis]);
        LOWER(workgroup_size[axis]);
    }
    LOWER(workgroup_invocations);
    LOWER(shared_memory);
    LOWER(push_constants);
#undef LOWER
    /* a larger alignment is the stricter one */
    if (lower->storage_alignment > limits->storage_alignment)
        limits->storage_alignment = lower->storage_alignment;
}

void vkl_caps_from_info(VklCaps *caps, const VklDeviceInfo *info)
{
    const VklDeviceLimits *limits = &info->limits;
    *caps = (VklCaps){
        .arch = info->type == VKL_DEVICE_CPU        ? VKL_ARCH_HOST
                : info->type == VKL_DEVICE_SOFTWARE ? VKL_ARCH_SOFTWARE
                                                    : VKL_ARCH_GPU,
        .storage_range = limits->storage_range,
        .storage_alignment = limits->storage_alignment < 16 ? 16 : limits->storage_alignment,
        .storage_buffers = limits->storage_buffers,
        .workgroup_invocations = limits->workgroup_invocations,
        .shared_memory = limits->shared_memory,
        .workgroups = {limits->workgroups[0], limits->workgroups[1], limits->workgroups[2]},
        .workgroup = 64,
        .vendor = info->vendor_id,
        .subgroup_min = info->features.subgroup_size_min,
        .subgroup_max = info->features.subgroup_size_max,
        .parallel = info->type == VKL_DEVICE_DISCRETE || info->type == VKL_DEVICE_VIRTUAL ? 16384 : 4096,
    };
    /* workgroups lie along x */
    if (caps->workgroup_invocations > limits->workgroup_size[0])
        caps->workgroup_invocations = limits->workgroup_size[0];
    /* shaders index elements with 32 bits, and element offsets are added to indices */
    if (caps->storage_range > UINT64_C(0x1fffffff0))
        caps->storage_range = UINT64_C(0x1fffffff0);
    caps->storage_range &= ~(uint64_t)15;
}

/* ---- Many time steps in one dispatch ---- */

/* Bindings of SEQUENCE_BACKWARD: a device with fewer takes a dispatch for each step. */
#define SEQUENCE_BINDINGS 5

static bool sequence_host(VklSequenceShape *shape)
{
    shape->group_rows = 1;
    shape->steps = UINT32_MAX;
    return true;
}

static bool sequence_gpu(const VklCaps *caps, uint64_t units, bool backward, VklSequenceShape *shape)
{
    uint64_t columns = 4 * units;
    (void)caps;
    (void)backward;
    shape->spec[VKL_SPEC_WORKGROUP] = 128;
    shape->spec[VKL_SPEC_OWN] = 1;
    shape->group_rows = 1;
    /* software devices stop a loop after 65,535 turns, all of an invocation's together */
    uint64_t turns = (columns + 2) * ((units + 127) / 128) + 8;
    shape->steps = 60000 / turns;
    return shape->steps > 0;
}

bool vkl_tune_sequence(const VklCaps *caps, uint32_t cell, uint64_t rows, uint64_t units, bool backward, VklSequenceShape *shape,
                       bool *pays)
{
    (void)cell;
    (void)rows;
    *shape = (VklSequenceShape){.kernel = backward ? VKL_KERNEL_SEQUENCE_BACKWARD : VKL_KERNEL_SEQUENCE_FORWARD};
    *pays = false;
    if (caps->storage_buffers < SEQUENCE_BINDINGS)
        return false;
    *pays = caps->arch == VKL_ARCH_HOST;
    return caps->arch == VKL_ARCH_HOST ? sequence_host(shape) : sequence_gpu(caps, units, backward, shape);
}

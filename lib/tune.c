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
    };
    /* shaders index elements with 32 bits, and element offsets are added to indices */
    if (caps->storage_range > UINT64_C(0x1fffffff0))
        caps->storage_range = UINT64_C(0x1fffffff0);
    caps->storage_range &= ~(uint64_t)15;
}

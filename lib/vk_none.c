/* SPDX-License-Identifier: MIT
 *
 * In place of lib/vk in a build without Vulkan, on a machine that may not have Vulkan's headers: no devices. The functions of
 * vulkan.h are not there, and neither is the header when the library is installed. */
#include "internal.h"

VklStatus vkl_vk_device_list(VklContext *context, uint32_t *count, VklDeviceInfo *infos)
{
    (void)context;
    (void)infos;
    *count = 0;
    return VKL_OK;
}

VklStatus vkl_vk_device_create(VklContext *context, uint32_t index, const VklDeviceLimits *limits, VklDevice **device)
{
    (void)limits;
    (void)device;
    return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                    "vkl_device_create: Vulkan device %u was asked for, and this build of vklstm has no Vulkan", index);
}

void vkl_vk_context_destroy(VklContext *context)
{
    (void)context;
}

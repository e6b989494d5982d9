/* SPDX-License-Identifier: MIT
 *
 * What a program of somebody else's does with an installed libvklstm, or with vklstm as a Meson subproject: it is built by
 * scripts/test.sh outside the tree, with what the package exports and nothing else.
 */
#include <stdio.h>
#include <vklstm/vklstm.h>

int main(void)
{
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklStatus status = vkl_context_create(NULL, &context);
    if (status == VKL_OK) {
        VklDeviceDesc desc = vkl_device_desc("cpu");
        status = vkl_device_create(context, &desc, &device);
    }
    if (status == VKL_OK) {
        VklDeviceInfo info = {.struct_size = sizeof info};
        vkl_device_info(device, &info);
        printf("vklstm %s on %s\n", vkl_version(), info.name);
    } else {
        fprintf(stderr, "%s\n", context ? vkl_context_error(context) : vkl_status_string(status));
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return status == VKL_OK ? 0 : 1;
}

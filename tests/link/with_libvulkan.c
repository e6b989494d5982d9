/* SPDX-License-Identifier: MIT
 *
 * A program that links libvulkan and vklstm. Each has its own functions: volk's variables inside of vklstm must not take the place of
 * libvulkan's functions, nor the other way round. */
#include "guest.h"

int main(void)
{
    VkInstance before = create_instance();
    use_vulkan(before);
    use_vklstm();
    use_vulkan(before);
    VkInstance after = create_instance();
    use_vulkan(after);
    use_vklstm();
    vkDestroyInstance(after, NULL);
    vkDestroyInstance(before, NULL);
    return 0;
}

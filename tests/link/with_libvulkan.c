/* SPDX-License-Identifier: MIT
 *
 * A program that links libvulkan and vklstm. Each has its own functions: nothing inside of vklstm may take the place of
 * libvulkan's, nor the other way round. */
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

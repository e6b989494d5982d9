/* SPDX-License-Identifier: MIT
 *
 * A program that has a volk of its own, under volk's own names, beside the one inside of vklstm. */
#define VK_NO_PROTOTYPES
#include <volk.c>

#include "guest.h"

int main(void)
{
    use_vklstm(); /* its volk is not the program's */
    REQUIRE(!vkCreateInstance);
    REQUIRE(volkInitialize() == VK_SUCCESS);
    VkInstance instance = create_instance();
    volkLoadInstance(instance);
    use_vulkan(instance);
    use_vklstm();
    REQUIRE(volkGetLoadedInstance() == instance);
    use_vulkan(instance);
    vkDestroyInstance(instance, NULL);
    return 0;
}

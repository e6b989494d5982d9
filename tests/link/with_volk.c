/* SPDX-License-Identifier: MIT
 *
 * A program that has Vulkan's functions from volk. */
#define VK_NO_PROTOTYPES
#include <volk.c>

#include "guest.h"

int main(void)
{
    use_vklstm(); /* which fills none of the program's variables */
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

/* SPDX-License-Identifier: MIT */
#include "cooperative.h"
#include "shaders.h"

typedef VkResult(VKAPI_PTR *PropertiesFunction)(VkPhysicalDevice, uint32_t *, VklVkCooperativeProperties *);

#define MOST 128 /* rows of a driver's list that are looked at: of NVIDIA's and AMD's some thirty */

static bool of_halves(const VklVkCooperativeProperties *there)
{
    return there->a_type == 0 && there->b_type == 0 && there->c_type == 1 && there->result_type == 1 && !there->saturating &&
           there->scope == 3;
}

void vkl_vk_cooperative_shape(const VklInstanceFunctions *functions, VkPhysicalDevice physical, uint32_t shape[3])
{
    /* the more numbers a matrix has, the fewer times each is loaded */
    static const uint32_t wanted[][3] = {{16, 16, 16}, {8, 16, 16}, {16, 8, 16}, {8, 8, 16}, {16, 8, 8}, {8, 8, 8}};
    PropertiesFunction properties = (PropertiesFunction)functions->cooperative_matrix_properties;
    shape[0] = shape[1] = shape[2] = 0;
    if (!vkl_shaders[VKL_KERNEL_GEMM_COOP].code || !properties)
        return;
    VklVkCooperativeProperties there[MOST];
    for (int i = 0; i < MOST; i++)
        there[i] = (VklVkCooperativeProperties){.sType = VKL_VK_COOPERATIVE_PROPERTIES};
    uint32_t count = MOST;
    if (properties(physical, &count, there) < 0)
        return;
    for (size_t w = 0; w < sizeof(wanted) / sizeof(*wanted); w++)
        for (uint32_t i = 0; i < count; i++)
            if (of_halves(&there[i]) && there[i].m == wanted[w][0] && there[i].n == wanted[w][1] && there[i].k == wanted[w][2]) {
                memcpy(shape, wanted[w], sizeof(wanted[w]));
                return;
            }
}

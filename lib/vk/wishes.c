/* SPDX-License-Identifier: MIT
 *
 * What is needed and what is wished for, as data: programs make their device with it, and so do we. A feature that kernels can use is a row
 * of one table, from which all follows: what is asked of a driver, what is enabled, and what an importing program says that it has. */
#include <stddef.h>

#include "cooperative.h"
#include "wishes.h"

/* Subsets of Vulkan must be told that one knows; the macro of its name is in a header for unfinished extensions. */
#define PORTABILITY_SUBSET "VK_KHR_portability_subset"

#define NOWHERE SIZE_MAX

typedef struct Wish {
    const char *extension; /* NULL: none is needed beside Vulkan 1.1 */
    uint32_t core;         /* the version that has it without the extension; 0: none has */
    VkStructureType type;
    size_t size, member; /* of the structure, and where in it the feature is */
    size_t at;           /* where in VklVulkanWishes the structure is; NOWHERE: no kernel uses it yet, and it is not wished for */
    /* the same as a member of the structure of a whole version; 0: of none */
    VkStructureType version_type;
    size_t version_member;
} Wish;

#define MEMBER(type, name) sizeof(type), offsetof(type, name)

static const Wish wishes[VKL_VK_WISHES] = {
    [VKL_VK_SUBGROUP_SIZE_CONTROL] =
        {
            VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME,
            VK_API_VERSION_1_3,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
            MEMBER(VkPhysicalDeviceSubgroupSizeControlFeaturesEXT, subgroupSizeControl),
            offsetof(VklVulkanWishes, subgroup_size_control),
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
            offsetof(VkPhysicalDeviceVulkan13Features, subgroupSizeControl),
        },
    [VKL_VK_TIMELINE_SEMAPHORE] =
        {
            VK_KHR_TIMELINE_SEMAPHORE_EXTENSION_NAME,
            VK_API_VERSION_1_2,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES_KHR,
            MEMBER(VkPhysicalDeviceTimelineSemaphoreFeaturesKHR, timelineSemaphore),
            offsetof(VklVulkanWishes, timeline_semaphore),
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
            offsetof(VkPhysicalDeviceVulkan12Features, timelineSemaphore),
        },
    [VKL_VK_SHADER_FLOAT16] =
        {
            VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME,
            VK_API_VERSION_1_2,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES_KHR,
            MEMBER(VkPhysicalDeviceShaderFloat16Int8FeaturesKHR, shaderFloat16),
            offsetof(VklVulkanWishes, shader_float16),
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
            offsetof(VkPhysicalDeviceVulkan12Features, shaderFloat16),
        },
    [VKL_VK_MEMORY_MODEL] =
        {
            VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME,
            VK_API_VERSION_1_2,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES_KHR,
            MEMBER(VkPhysicalDeviceVulkanMemoryModelFeaturesKHR, vulkanMemoryModel),
            offsetof(VklVulkanWishes, memory_model),
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
            offsetof(VkPhysicalDeviceVulkan12Features, vulkanMemoryModel),
        },
    [VKL_VK_COOPERATIVE_MATRIX] =
        {
            VKL_VK_COOPERATIVE_EXTENSION,
            0,
            VKL_VK_COOPERATIVE_FEATURES,
            MEMBER(VklVulkanCooperativeMatrix, cooperativeMatrix),
            offsetof(VklVulkanWishes, cooperative_matrix),
            0,
            0,
        },
    [VKL_VK_STORAGE_16BIT] =
        {
            NULL,
            VK_API_VERSION_1_1,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
            MEMBER(VkPhysicalDevice16BitStorageFeatures, storageBuffer16BitAccess),
            NOWHERE,
            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
            offsetof(VkPhysicalDeviceVulkan11Features, storageBuffer16BitAccess),
        },
};

static VkBool32 *flag(void *structure, size_t member)
{
    return (VkBool32 *)((char *)structure + member);
}

/* The wish's place in a structure of a chain, or NULL: it has none there. */
static VkBool32 *place(const Wish *wish, VkBaseOutStructure *structure)
{
    if (structure->sType == wish->type)
        return flag(structure, wish->member);
    return wish->version_type && structure->sType == wish->version_type ? flag(structure, wish->version_member) : NULL;
}

uint32_t vkl_vk_features_enabled(const VkPhysicalDeviceFeatures2 *features)
{
    uint32_t enabled = 0;
    for (const VkBaseInStructure *at = (const VkBaseInStructure *)features; at; at = at->pNext)
        for (int i = 0; i < VKL_VK_WISHES; i++) {
            const VkBool32 *there = place(&wishes[i], (VkBaseOutStructure *)at);
            enabled |= (uint32_t)(there && *there) << i;
        }
    return enabled;
}

/* ---- Of a physical device ---- */

/* Links the structures of all wishes in `chosen`, zeros. */
static void link_chosen(VklVulkanWishes *made, uint32_t chosen)
{
    VkBaseOutStructure *last = (VkBaseOutStructure *)&made->features;
    made->features = (VkPhysicalDeviceFeatures2){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    for (int i = 0; i < VKL_VK_WISHES; i++) {
        if (wishes[i].at == NOWHERE)
            continue;
        VkBaseOutStructure *structure = (VkBaseOutStructure *)((char *)made + wishes[i].at);
        memset(structure, 0, wishes[i].size);
        structure->sType = wishes[i].type;
        if (!(chosen >> i & 1))
            continue;
        last->pNext = structure;
        last = structure;
    }
}

static bool subgroup_size_in_compute(const VklInstanceFunctions *functions, VkPhysicalDevice physical)
{
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT,
    };
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &sizes};
    functions->vkGetPhysicalDeviceProperties2(physical, &all);
    return sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
}

VklStatus vkl_vk_wishes_get(VklContext *context, const VklInstanceFunctions *functions, VkPhysicalDevice physical,
                            uint32_t api_version, VklVulkanWishes *made)
{
    static const uint32_t of_products = 1u << VKL_VK_COOPERATIVE_MATRIX | 1u << VKL_VK_MEMORY_MODEL | 1u << VKL_VK_SHADER_FLOAT16;
    VkPhysicalDeviceProperties properties;
    functions->vkGetPhysicalDeviceProperties(physical, &properties);
    uint32_t version = api_version < properties.apiVersion ? api_version : properties.apiVersion;
    VklVkExtensions there = {0};
    if (version >= VK_API_VERSION_1_1) {
        VklStatus status = vkl_vk_extensions_get(context, functions, physical, &there);
        if (status)
            return status;
    }
    *made = (VklVulkanWishes){
        .struct_size = sizeof(*made),
        .api_version = VK_API_VERSION_1_1,
        .queue_flags = VK_QUEUE_COMPUTE_BIT,
        .queue_family = VK_QUEUE_FAMILY_IGNORED,
    };
    link_chosen(made, 0);
    vkl_vk_queue_family(functions, physical, &made->queue_family);
    if (version < VK_API_VERSION_1_1)
        return VKL_OK;
    /* which structures the driver knows, then which features it has, then which of them are of use */
    uint32_t chosen = 0;
    for (int i = 0; i < VKL_VK_WISHES; i++)
        if (wishes[i].at != NOWHERE &&
            ((wishes[i].core && version >= wishes[i].core) || vkl_vk_has_extension(&there, wishes[i].extension)))
            chosen |= 1u << i;
    link_chosen(made, chosen);
    functions->vkGetPhysicalDeviceFeatures2(physical, &made->features);
    chosen = vkl_vk_features_enabled(&made->features);
    uint32_t shape[3] = {0};
    if ((chosen & of_products) == of_products)
        vkl_vk_cooperative_shape(functions, physical, shape);
    if (!shape[0])
        chosen &= ~of_products;
    if (chosen >> VKL_VK_SUBGROUP_SIZE_CONTROL & 1 && !subgroup_size_in_compute(functions, physical))
        chosen &= ~(1u << VKL_VK_SUBGROUP_SIZE_CONTROL);
    link_chosen(made, chosen);
    for (int i = 0; i < VKL_VK_WISHES; i++) {
        if (!(chosen >> i & 1))
            continue;
        *flag((char *)made + wishes[i].at, wishes[i].member) = VK_TRUE;
        if (!wishes[i].core || version < wishes[i].core)
            made->extensions[made->extension_count++] = wishes[i].extension;
    }
    if (vkl_vk_has_extension(&there, PORTABILITY_SUBSET))
        made->extensions[made->extension_count++] = PORTABILITY_SUBSET;
    vkl_vk_extensions_finish(&there);
    return VKL_OK;
}

VklStatus vkl_vulkan_wishes(VklContext *context, const VklVulkanImport *import, VklVulkanWishes *made)
{
    static const char caller[] = "vkl_vulkan_wishes";
    if (!context)
        return VKL_ERROR_INVALID;
    if (!import || !made)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: %s is NULL", caller, import ? "wishes" : "import");
    if (import->struct_size != sizeof(*import))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: import->struct_size is %zu; it must be %zu", caller,
                        import->struct_size, sizeof(*import));
    if (made->struct_size != sizeof(*made))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: wishes->struct_size is %zu; it must be %zu", caller,
                        made->struct_size, sizeof(*made));
    const char *absent = !import->get_instance_proc_addr ? "get_instance_proc_addr"
                         : !import->instance             ? "instance"
                         : !import->physical_device      ? "physical_device"
                                                         : NULL;
    if (absent)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "%s: %s is NULL", caller, absent);
    VklInstanceFunctions functions;
    const char *missing = vkl_vk_instance_functions(&functions, import->get_instance_proc_addr, import->instance);
    if (missing)
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED, "%s: get_instance_proc_addr does not give %s", caller, missing);
    VklStatus status = vkl_vk_usable(context, caller, &functions, import->physical_device, import->api_version);
    return status ? status : vkl_vk_wishes_get(context, &functions, import->physical_device, import->api_version, made);
}

void vkl_vulkan_wishes_add(VklVulkanWishes *made, VkPhysicalDeviceFeatures2 *features)
{
    const uint32_t wanted = vkl_vk_features_enabled(&made->features);
    VkBaseOutStructure *last = (VkBaseOutStructure *)features;
    uint32_t placed = 0;
    for (VkBaseOutStructure *at = last; at; at = at->pNext) {
        for (int i = 0; i < VKL_VK_WISHES; i++) {
            VkBool32 *there = wanted >> i & 1 ? place(&wishes[i], at) : NULL;
            if (there) {
                *there = VK_TRUE;
                placed |= 1u << i;
            }
        }
        last = at;
    }
    for (int i = 0; i < VKL_VK_WISHES; i++) {
        if (!((wanted & ~placed) >> i & 1))
            continue;
        VkBaseOutStructure *mine = (VkBaseOutStructure *)((char *)made + wishes[i].at);
        mine->pNext = NULL;
        last->pNext = mine;
        last = mine;
    }
    made->features.pNext = NULL; /* what was chained to it is in the other chain, or of no use any more */
}

/* ---- Of an instance ---- */

static bool has(const VkExtensionProperties *properties, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(properties[i].extensionName, name))
            return true;
    return false;
}

VkResult vkl_vk_instance_wishes_get(VklContext *context, PFN_vkGetInstanceProcAddr get, VklVulkanInstanceWishes *made)
{
    PFN_vkEnumerateInstanceVersion version = (PFN_vkEnumerateInstanceVersion)get(NULL, "vkEnumerateInstanceVersion");
    PFN_vkEnumerateInstanceExtensionProperties enumerate =
        (PFN_vkEnumerateInstanceExtensionProperties)get(NULL, "vkEnumerateInstanceExtensionProperties");
    uint32_t loader_version = VK_API_VERSION_1_0;
    if (!enumerate || !version || version(&loader_version) || loader_version < VK_API_VERSION_1_1)
        return VK_ERROR_INCOMPATIBLE_DRIVER;
    uint32_t count = 0;
    VkResult result = enumerate(NULL, &count, NULL);
    if (result)
        return result;
    VkExtensionProperties *there = vkl_allocate(&context->desc.memory, count, sizeof(*there));
    if (!there)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    result = enumerate(NULL, &count, there);
    if (result >= 0) {
        *made = (VklVulkanInstanceWishes){
            .struct_size = sizeof(*made),
            .api_version = VK_API_VERSION_1_1,
            .api_version_known = VK_API_VERSION_1_3,
        };
        if (context->desc.debug && has(there, count, VK_EXT_DEBUG_UTILS_EXTENSION_NAME))
            made->extensions[made->extension_count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
        /* without it the loader hides devices that are Vulkan only in part, MoltenVK's among them */
        if (has(there, count, VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME)) {
            made->extensions[made->extension_count++] = VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME;
            made->flags = VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR;
        }
    }
    vkl_release(there);
    return result < 0 ? result : VK_SUCCESS;
}

VklStatus vkl_vulkan_instance_wishes(VklContext *context, PFN_vkGetInstanceProcAddr get, VklVulkanInstanceWishes *made)
{
    if (!context)
        return VKL_ERROR_INVALID;
    if (!get || !made)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_vulkan_instance_wishes: %s is NULL",
                        get ? "wishes" : "get_instance_proc_addr");
    if (made->struct_size != sizeof(*made))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_vulkan_instance_wishes: struct_size is %zu; it must be %zu",
                        made->struct_size, sizeof(*made));
    VkResult result = vkl_vk_instance_wishes_get(context, get, made);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return vkl_fail(context, NULL, VKL_ERROR_UNSUPPORTED,
                        "vkl_vulkan_instance_wishes: the loader has no Vulkan 1.1, which is the least that is needed");
    return result ? vkl_vk_fail(context, NULL, NULL, result, "vkEnumerateInstanceExtensionProperties", "for the wishes") : VKL_OK;
}

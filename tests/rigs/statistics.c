/* SPDX-License-Identifier: MIT
 *
 * statistics FILE.spv [WORKGROUP [FORM]] : compiles a shader with the first driver that the Vulkan loader offers, as the library does, and
 * prints on one line what the driver says of the result (VK_KHR_pipeline_executable_properties). Nothing is allocated or run, so
 * a driver without its device will do: RADV with RADV_FORCE_FAMILY, or any of Mesa's under a drm-shim.
 *
 * Exit status: 0 compiled; 1 not; 2 wrong usage, or no driver with statistics. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

#include "../../shaders/interface.h"

#define BINDINGS 4 /* of any kernel, all in set 0 */
#define PUSH_CONSTANTS 128
#define MAX_EXTENSIONS 512
#define MAX_EXECUTABLES 8
#define MAX_STATISTICS 64
#define MAX_WORDS (1 << 20)

static void require(VkResult result, const char *call, int status)
{
    if (result == VK_SUCCESS)
        return;
    fprintf(stderr, "statistics: %s: %d\n", call, result);
    exit(status);
}

#define NEED(call) require(call, #call, 2)
#define COMPILE(call) require(call, #call, 1)

static VkPhysicalDevice find_device(void)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance;
    NEED(vkCreateInstance(&info, NULL, &instance));
    VkPhysicalDevice device;
    uint32_t count = 1;
    VkResult result = vkEnumeratePhysicalDevices(instance, &count, &device);
    if ((result == VK_SUCCESS || result == VK_INCOMPLETE) && count)
        return device;
    fprintf(stderr, "statistics: the loader offers no device\n");
    exit(2);
}

static bool has_extension(VkPhysicalDevice physical, const char *name)
{
    static VkExtensionProperties extensions[MAX_EXTENSIONS];
    uint32_t count = MAX_EXTENSIONS;
    NEED(vkEnumerateDeviceExtensionProperties(physical, NULL, &count, extensions));
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(extensions[i].extensionName, name))
            return true;
    return false;
}

/* no feature but the one that asks for statistics: the shaders need none */
static VkDevice open_device(VkPhysicalDevice physical)
{
    const char *extension = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    if (!has_extension(physical, extension)) {
        fprintf(stderr, "statistics: the driver has no %s\n", extension);
        exit(2);
    }
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = VK_TRUE,
    };
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &statistics,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = 1,
        .ppEnabledExtensionNames = &extension,
    };
    VkDevice device;
    NEED(vkCreateDevice(physical, &info, NULL, &device));
    return device;
}

static VkPipelineLayout make_layout(VkDevice device)
{
    VkDescriptorSetLayoutBinding bindings[BINDINGS];
    for (uint32_t i = 0; i < BINDINGS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    VkDescriptorSetLayoutCreateInfo set_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = BINDINGS,
        .pBindings = bindings,
    };
    VkDescriptorSetLayout set;
    NEED(vkCreateDescriptorSetLayout(device, &set_info, NULL, &set));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_CONSTANTS};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &set,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    VkPipelineLayout layout;
    NEED(vkCreatePipelineLayout(device, &info, NULL, &layout));
    return layout;
}

static VkShaderModule load(VkDevice device, const char *path)
{
    static uint32_t code[MAX_WORDS];
    FILE *file = fopen(path, "rb");
    size_t words = file ? fread(code, sizeof *code, MAX_WORDS, file) : 0;
    if (file)
        fclose(file);
    if (words < 5 || words == MAX_WORDS || code[0] != 0x07230203) {
        fprintf(stderr, "statistics: %s is not SPIR-V\n", path);
        exit(2);
    }
    VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = words * sizeof *code,
        .pCode = code,
    };
    VkShaderModule module;
    COMPILE(vkCreateShaderModule(device, &info, NULL, &module));
    return module;
}

static VkPipeline compile(VkDevice device, VkShaderModule module, const uint32_t spec[VKL_SPEC_COUNT])
{
    VkSpecializationMapEntry entries[VKL_SPEC_COUNT];
    for (uint32_t i = 0; i < VKL_SPEC_COUNT; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    VkSpecializationInfo constants = {VKL_SPEC_COUNT, entries, VKL_SPEC_COUNT * sizeof(uint32_t), spec};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
                .pSpecializationInfo = &constants,
            },
        .layout = make_layout(device),
    };
    VkPipeline pipeline;
    COMPILE(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline));
    return pipeline;
}

static double number(const VkPipelineExecutableStatisticKHR *statistic)
{
    switch (statistic->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
        return statistic->value.b32;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
        return (double)statistic->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
        return (double)statistic->value.u64;
    default:
        return statistic->value.f64;
    }
}

static void print_executable(VkDevice device, VkPipeline pipeline, uint32_t index)
{
    PFN_vkGetPipelineExecutableStatisticsKHR get =
        (PFN_vkGetPipelineExecutableStatisticsKHR)vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR");
    VkPipelineExecutableInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
        .pipeline = pipeline,
        .executableIndex = index,
    };
    VkPipelineExecutableStatisticKHR statistics[MAX_STATISTICS];
    for (uint32_t i = 0; i < MAX_STATISTICS; i++)
        statistics[i] = (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    uint32_t count = MAX_STATISTICS;
    NEED(get(device, &info, &count, statistics));
    for (uint32_t i = 0; i < count; i++)
        if (!strstr(statistics[i].name, "ash")) /* hashes of source and code */
            printf("; %s=%.10g", statistics[i].name, number(&statistics[i]));
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: statistics FILE.spv [WORKGROUP [FORM]]\n");
        return 2;
    }
    uint32_t spec[VKL_SPEC_COUNT] = {
        [VKL_SPEC_WORKGROUP] = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 64,
        [VKL_SPEC_FORM] = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0,
    };
    VkPhysicalDevice physical = find_device();
    VkDevice device = open_device(physical);
    VkPipeline pipeline = compile(device, load(device, argv[1]), spec);

    PFN_vkGetPipelineExecutablePropertiesKHR get =
        (PFN_vkGetPipelineExecutablePropertiesKHR)vkGetDeviceProcAddr(device, "vkGetPipelineExecutablePropertiesKHR");
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutablePropertiesKHR executables[MAX_EXECUTABLES];
    for (uint32_t i = 0; i < MAX_EXECUTABLES; i++)
        executables[i] = (VkPipelineExecutablePropertiesKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    uint32_t count = MAX_EXECUTABLES;
    NEED(get(device, &info, &count, executables));
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    printf("%s", properties.deviceName);
    for (uint32_t i = 0; i < count; i++) {
        printf("; subgroups of %u", executables[i].subgroupSize);
        print_executable(device, pipeline, i);
    }
    printf("\n");
    /* nothing is destroyed: the process ends, and the device does not exist */
    return count ? 0 : 1;
}

/* SPDX-License-Identifier: MIT
 *
 * statistics SHADERS [LISTINGS] < ROWS : compiles shaders with the first driver that the Vulkan loader offers, as the library
 * does, and prints what the driver says of the results (VK_KHR_pipeline_executable_properties). Nothing is allocated or run, so
 * a driver without its device will do: RADV with RADV_FORCE_FAMILY, or any of Mesa's under a drm-shim.
 *
 * A row, of those that `variants` prints, has the name of a file in SHADERS without .spv, how many storage buffers it has, and
 * the specialization constants ID=VALUE with commas between them; @SIZE behind them is the size of subgroups that is asked for,
 * where the driver lets it be. What follows is not looked at. A line for each row: "ok" or the error, a tab, the statistics
 * "NAME=VALUE; ...". With LISTINGS, the machine code of row N goes to LISTINGS/N.txt.
 *
 * Exit status: 0; 2 wrong usage, or no driver with statistics. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

#define MAX_BINDINGS 16
#define MAX_CONSTANTS 32
#define PUSH_CONSTANTS 128
#define MAX_EXTENSIONS 512
#define MAX_EXECUTABLES 8
#define MAX_STATISTICS 64
#define MAX_REPRESENTATIONS 32
#define MAX_ROWS 4096
#define MAX_WORDS (1 << 20)

#define FAIL(...) (fprintf(stderr, "statistics: " __VA_ARGS__), fputc('\n', stderr), exit(2))

static void require(VkResult result, const char *call)
{
    if (result != VK_SUCCESS)
        FAIL("%s: %d", call, result);
}
#define NEED(call) require(call, #call)

typedef struct Driver {
    VkPhysicalDevice physical;
    VkDevice device;
    bool subgroup_sizes; /* can be asked for */
    uint32_t smallest, largest;
    VkPipelineLayout layouts[MAX_BINDINGS + 1]; /* by number of bindings, made when needed */
    PFN_vkGetPipelineExecutablePropertiesKHR get_executables;
    PFN_vkGetPipelineExecutableStatisticsKHR get_statistics;
    PFN_vkGetPipelineExecutableInternalRepresentationsKHR get_representations;
} Driver;

typedef struct Row {
    char name[128];
    uint32_t bindings;
    uint32_t count;
    VkSpecializationMapEntry entries[MAX_CONSTANTS];
    uint32_t values[MAX_CONSTANTS];
    uint32_t subgroup;
} Row;

/* ---- The driver ---- */

static VkPhysicalDevice find_device(void)
{
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkInstance instance;
    NEED(vkCreateInstance(&info, NULL, &instance));
    VkPhysicalDevice device;
    uint32_t count = 1;
    VkResult result = vkEnumeratePhysicalDevices(instance, &count, &device);
    if ((result != VK_SUCCESS && result != VK_INCOMPLETE) || !count)
        FAIL("the loader offers no device");
    return device;
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

/* The features that the driver has of those that kernels may use, and the one that asks for statistics. */
static void open_device(Driver *driver)
{
    const char *names[4] = {VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME};
    uint32_t count = 1;
    if (!has_extension(driver->physical, names[0]))
        FAIL("the driver has no %s", names[0]);
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
    };
    VkPhysicalDeviceSubgroupSizeControlFeatures sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .pNext = &statistics,
    };
    VkPhysicalDeviceShaderFloat16Int8Features float16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES,
        .pNext = &sizes,
    };
    VkPhysicalDevice16BitStorageFeatures storage = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
        .pNext = &float16,
    };
    VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &storage};
    vkGetPhysicalDeviceFeatures2(driver->physical, &features);
    features.features = (VkPhysicalDeviceFeatures){.shaderInt16 = features.features.shaderInt16};
    statistics.pipelineExecutableInfo = VK_TRUE;
    if (has_extension(driver->physical, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME))
        names[count++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    if (has_extension(driver->physical, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME))
        names[count++] = VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME;

    VkPhysicalDeviceSubgroupSizeControlProperties limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES,
    };
    VkPhysicalDeviceProperties2 properties = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &limits};
    vkGetPhysicalDeviceProperties2(driver->physical, &properties);
    driver->subgroup_sizes = sizes.subgroupSizeControl && limits.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    driver->smallest = limits.minSubgroupSize;
    driver->largest = limits.maxSubgroupSize;

    float priority = 1;
    VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = count,
        .ppEnabledExtensionNames = names,
    };
    VkDevice device;
    NEED(vkCreateDevice(driver->physical, &info, NULL, &device));
    driver->device = device;
    driver->get_executables =
        (PFN_vkGetPipelineExecutablePropertiesKHR)vkGetDeviceProcAddr(device, "vkGetPipelineExecutablePropertiesKHR");
    driver->get_statistics =
        (PFN_vkGetPipelineExecutableStatisticsKHR)vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR");
    driver->get_representations = (PFN_vkGetPipelineExecutableInternalRepresentationsKHR)vkGetDeviceProcAddr(
        device, "vkGetPipelineExecutableInternalRepresentationsKHR");
}

/* ---- Compiling ---- */

static VkPipelineLayout layout_of(Driver *driver, uint32_t bindings)
{
    if (driver->layouts[bindings])
        return driver->layouts[bindings];
    VkDescriptorSetLayoutBinding binding[MAX_BINDINGS];
    for (uint32_t i = 0; i < bindings; i++)
        binding[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    VkDescriptorSetLayoutCreateInfo set_info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = bindings,
        .pBindings = binding,
    };
    VkDescriptorSetLayout set;
    NEED(vkCreateDescriptorSetLayout(driver->device, &set_info, NULL, &set));
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_CONSTANTS};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &set,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    NEED(vkCreatePipelineLayout(driver->device, &info, NULL, &driver->layouts[bindings]));
    return driver->layouts[bindings];
}

static VkResult load(const Driver *driver, const char *directory, const char *name, VkShaderModule *module)
{
    static uint32_t code[MAX_WORDS];
    char path[4096];
    snprintf(path, sizeof path, "%.3900s/%.127s.spv", directory, name);
    FILE *file = fopen(path, "rb");
    size_t words = file ? fread(code, sizeof *code, MAX_WORDS, file) : 0;
    if (file)
        fclose(file);
    if (words < 5 || words == MAX_WORDS || code[0] != 0x07230203)
        FAIL("%s is not SPIR-V", path);
    VkShaderModuleCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = words * sizeof *code,
        .pCode = code,
    };
    return vkCreateShaderModule(driver->device, &info, NULL, module);
}

static VkResult compile(Driver *driver, const Row *row, VkShaderModule module, bool listing, VkPipeline *pipeline)
{
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = row->subgroup,
    };
    bool ask = row->subgroup && driver->subgroup_sizes && row->subgroup >= driver->smallest && row->subgroup <= driver->largest;
    VkSpecializationInfo constants = {row->count, row->entries, row->count * sizeof *row->values, row->values};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR |
                 (listing ? (VkPipelineCreateFlags)VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR : 0),
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .pNext = ask ? &size : NULL,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
                .pSpecializationInfo = &constants,
            },
        .layout = layout_of(driver, row->bindings),
    };
    return vkCreateComputePipelines(driver->device, VK_NULL_HANDLE, 1, &info, NULL, pipeline);
}

/* ---- What the driver says ---- */

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

static void print_statistics(const Driver *driver, VkPipeline pipeline, uint32_t index)
{
    VkPipelineExecutableInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
        .pipeline = pipeline,
        .executableIndex = index,
    };
    VkPipelineExecutableStatisticKHR statistics[MAX_STATISTICS];
    for (uint32_t i = 0; i < MAX_STATISTICS; i++)
        statistics[i] = (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    uint32_t count = MAX_STATISTICS;
    NEED(driver->get_statistics(driver->device, &info, &count, statistics));
    for (uint32_t i = 0; i < count; i++)
        if (!strstr(statistics[i].name, "ash")) /* hashes of source and code */
            printf("; %s=%.10g", statistics[i].name, number(&statistics[i]));
}

/* The last of what a driver shows that is called assembly: intermediate forms come before it. */
static void write_listing(const Driver *driver, VkPipeline pipeline, uint32_t index, FILE *file)
{
    VkPipelineExecutableInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
        .pipeline = pipeline,
        .executableIndex = index,
    };
    VkPipelineExecutableInternalRepresentationKHR texts[MAX_REPRESENTATIONS];
    for (uint32_t i = 0; i < MAX_REPRESENTATIONS; i++)
        texts[i] = (VkPipelineExecutableInternalRepresentationKHR){
            .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR,
        };
    uint32_t count = MAX_REPRESENTATIONS;
    NEED(driver->get_representations(driver->device, &info, &count, texts));
    for (uint32_t i = 0; i < count; i++)
        texts[i].pData = calloc(1, texts[i].dataSize + 1);
    NEED(driver->get_representations(driver->device, &info, &count, texts));
    const char *last = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (texts[i].isText && (strstr(texts[i].name, "ssembl") || count == 1))
            last = texts[i].pData;
    if (last)
        fputs(last, file);
    for (uint32_t i = 0; i < count; i++)
        free(texts[i].pData);
}

static void print_executables(const Driver *driver, VkPipeline pipeline, FILE *listing)
{
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutablePropertiesKHR executables[MAX_EXECUTABLES];
    for (uint32_t i = 0; i < MAX_EXECUTABLES; i++)
        executables[i] = (VkPipelineExecutablePropertiesKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    uint32_t count = MAX_EXECUTABLES;
    NEED(driver->get_executables(driver->device, &info, &count, executables));
    /* of several executables, which ANV makes where it leaves the width open, the last is the widest */
    if (!count)
        FAIL("the driver says nothing of a pipeline");
    printf("ok\tSubgroup=%u", executables[count - 1].subgroupSize);
    print_statistics(driver, pipeline, count - 1);
    printf("\n");
    if (listing)
        write_listing(driver, pipeline, count - 1, listing);
}

/* ---- Rows ---- */

static bool read_row(const char *line, Row *row)
{
    char constants[1024] = "";
    *row = (Row){.count = 0};
    if (sscanf(line, "%127s %u %1023s", row->name, &row->bindings, constants) < 2 || row->bindings > MAX_BINDINGS)
        return false;
    for (char *at = constants; *at && row->count < MAX_CONSTANTS;) {
        char *value, *end;
        uint32_t id = (uint32_t)strtoul(at, &value, 10);
        if (*value != '=')
            return false;
        uint32_t i = row->count++;
        row->values[i] = (uint32_t)strtoul(value + 1, &end, 10);
        row->entries[i] = (VkSpecializationMapEntry){id, i * (uint32_t)sizeof *row->values, sizeof *row->values};
        at = *end == ',' ? end + 1 : end;
        if (*at == '@') {
            row->subgroup = (uint32_t)strtoul(at + 1, &end, 10);
            return !*end;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3)
        FAIL("usage: statistics SHADERS [LISTINGS] < ROWS");
    /* all rows first: a driver may close what it takes for its own, as Turnip does with standard input where it has no device */
    static Row rows[MAX_ROWS];
    char line[4096];
    unsigned count = 0;
    for (; fgets(line, sizeof line, stdin); count++)
        if (count == MAX_ROWS || !read_row(line, &rows[count]))
            FAIL("row %u is not \"NAME BINDINGS ID=VALUE,...\": %s", count, line);
    Driver driver = {.physical = find_device()};
    open_device(&driver);
    for (unsigned n = 0; n < count; n++) {
        const Row *row = &rows[n];
        VkShaderModule module;
        VkPipeline pipeline;
        VkResult result = load(&driver, argv[1], row->name, &module);
        if (result == VK_SUCCESS)
            result = compile(&driver, row, module, argc > 2, &pipeline);
        if (result != VK_SUCCESS) {
            printf("error %d\t\n", result);
        } else {
            FILE *listing = NULL;
            if (argc > 2) {
                char path[4096];
                snprintf(path, sizeof path, "%s/%u.txt", argv[2], n);
                listing = fopen(path, "w");
                if (!listing)
                    FAIL("%s cannot be written", path);
            }
            print_executables(&driver, pipeline, listing);
            if (listing)
                fclose(listing);
        }
        fflush(stdout); /* a compiler may crash on the next */
    }
    /* nothing is destroyed: the process ends, and the device does not exist */
    return 0;
}

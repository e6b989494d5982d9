/* SPDX-License-Identifier: MIT
 *
 * Pipelines of the kernels, and the layouts that they share. Every layout has room for the largest argument struct, so that kernels
 * with the same number of bindings have the same one. */
#include "shaders.h"
#include "vk.h"

static VkResult create_layouts(VklVkDevice *vk, uint32_t bindings, const char **call)
{
    VklVkPipelines *pipelines = &vk->pipelines;
    VkDescriptorSetLayoutBinding binding[VKL_BINDINGS];
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
    *call = "vkCreateDescriptorSetLayout";
    VkResult result =
        vk->functions.vkCreateDescriptorSetLayout(vk->handle, &set_info, vk->allocation, &pipelines->set_layouts[bindings]);
    if (result)
        return result;
    VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof(VklArgs)};
    VkPipelineLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &pipelines->set_layouts[bindings],
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &range,
    };
    *call = "vkCreatePipelineLayout";
    return vk->functions.vkCreatePipelineLayout(vk->handle, &info, vk->allocation, &pipelines->layouts[bindings]);
}

VklStatus vkl_vk_pipelines_init(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    const char *call = "vkCreatePipelineCache";
    VkResult result = vk->functions.vkCreatePipelineCache(vk->handle, &info, vk->allocation, &vk->pipelines.cache);
    for (uint32_t bindings = 1; !result && bindings <= VKL_BINDINGS && bindings <= device->info.limits.storage_buffers;
         bindings++)
        result = create_layouts(vk, bindings, &call);
    if (!result)
        return VKL_OK;
    vkl_vk_pipelines_finish(device);
    return vkl_vk_fail(device->context, device, NULL, result, call, "for the kernels on '%s'", device->info.name);
}

void vkl_vk_pipelines_finish(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    VklVkPipelines *pipelines = &vk->pipelines;
    for (size_t i = 0; i < pipelines->count; i++)
        vk->functions.vkDestroyPipeline(vk->handle, pipelines->table[i].handle, vk->allocation);
    for (uint32_t bindings = 1; bindings <= VKL_BINDINGS; bindings++) {
        vk->functions.vkDestroyPipelineLayout(vk->handle, pipelines->layouts[bindings], vk->allocation);
        vk->functions.vkDestroyDescriptorSetLayout(vk->handle, pipelines->set_layouts[bindings], vk->allocation);
        pipelines->layouts[bindings] = VK_NULL_HANDLE;
        pipelines->set_layouts[bindings] = VK_NULL_HANDLE;
    }
    vk->functions.vkDestroyPipelineCache(vk->handle, pipelines->cache, vk->allocation);
    pipelines->cache = VK_NULL_HANDLE;
    vkl_release(pipelines->table);
    pipelines->table = NULL;
    pipelines->count = pipelines->capacity = 0;
}

static VkResult create(VklVkDevice *vk, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT], VkPipeline *pipeline,
                       const char **call)
{
    const VklShader *shader = &vkl_shaders[kernel];
    VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = shader->size,
        .pCode = shader->code,
    };
    VkShaderModule module;
    *call = "vkCreateShaderModule";
    VkResult result = vk->functions.vkCreateShaderModule(vk->handle, &module_info, vk->allocation, &module);
    if (result)
        return result;
    VkSpecializationMapEntry entries[VKL_SPEC_COUNT];
    for (uint32_t i = 0; i < VKL_SPEC_COUNT; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    VkSpecializationInfo constants = {VKL_SPEC_COUNT, entries, VKL_SPEC_COUNT * sizeof(uint32_t), spec};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage =
            {
                .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main",
                .pSpecializationInfo = &constants,
            },
        .layout = vk->pipelines.layouts[vkl_kernel_info[kernel].bindings],
    };
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = spec[VKL_SPEC_SUBGROUP],
    };
    if (vk->subgroup_size_control && spec[VKL_SPEC_SUBGROUP])
        info.stage.pNext = &subgroup;
    *call = "vkCreateComputePipelines";
    result = vk->functions.vkCreateComputePipelines(vk->handle, vk->pipelines.cache, 1, &info, vk->allocation, pipeline);
    vk->functions.vkDestroyShaderModule(vk->handle, module, vk->allocation);
    return result;
}

static VkPipeline find(const VklVkPipelines *pipelines, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT])
{
    for (size_t i = 0; i < pipelines->count; i++)
        if (pipelines->table[i].kernel == kernel && !memcmp(pipelines->table[i].spec, spec, sizeof(pipelines->table[i].spec)))
            return pipelines->table[i].handle;
    return VK_NULL_HANDLE;
}

static bool reserve(const VklHostMemory *memory, VklVkPipelines *pipelines)
{
    if (pipelines->count < pipelines->capacity)
        return true;
    size_t capacity = pipelines->capacity ? 2 * pipelines->capacity : 32;
    VklVkPipeline *table = vkl_reallocate(memory, pipelines->table, capacity, sizeof(*table));
    if (!table)
        return false;
    pipelines->table = table;
    pipelines->capacity = capacity;
    return true;
}

VklStatus vkl_vk_pipeline_get(VklDevice *device, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT], VklError *error,
                              VkPipeline *pipeline)
{
    VklVkPipelines *pipelines = &vkl_vk(device)->pipelines;
    const char *call = NULL;
    VkResult result = VK_SUCCESS;
    /* Held while a kernel is compiled: two threads that want the same one should not compile it twice. */
    pthread_mutex_lock(&pipelines->mutex);
    VkPipeline found = find(pipelines, kernel, spec);
    bool made = !found;
    if (!found && !reserve(device->caps.memory, pipelines))
        result = VK_ERROR_OUT_OF_HOST_MEMORY;
    else if (!found)
        result = create(vkl_vk(device), kernel, spec, &found, &call);
    if (!result && made) {
        VklVkPipeline *row = &pipelines->table[pipelines->count++];
        row->kernel = kernel;
        memcpy(row->spec, spec, sizeof(row->spec));
        row->handle = found;
        atomic_fetch_add(&device->pipelines, 1);
    }
    pthread_mutex_unlock(&pipelines->mutex);
    if (result)
        return vkl_vk_fail(device->context, device, error, result, call ? call : "realloc", "kernel %s, workgroup %u, form %u",
                           vkl_kernel_info[kernel].name, spec[VKL_SPEC_WORKGROUP], spec[VKL_SPEC_FORM]);
    if (made)
        vkl_vk_name(device, VK_OBJECT_TYPE_PIPELINE, (uint64_t)found, "vklstm %s, workgroup %u, form %u",
                    vkl_kernel_info[kernel].name, spec[VKL_SPEC_WORKGROUP], spec[VKL_SPEC_FORM]);
    *pipeline = found;
    return VKL_OK;
}

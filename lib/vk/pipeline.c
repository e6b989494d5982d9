/* SPDX-License-Identifier: MIT
 *
 * Pipelines of the kernels, and the layouts that they share. Every layout has room for the largest argument struct, so that kernels
 * with the same number of bindings have the same one.
 *
 * A device has a table of all pipelines that were ever asked for. What a call wants is first looked up as rows of the table, and then
 * what is missing is compiled side by side, while nobody holds the table. */
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
    VKL_VK_NULL_UNLESS(!result, pipelines->set_layouts[bindings]);
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
    result = vk->functions.vkCreatePipelineLayout(vk->handle, &info, vk->allocation, &pipelines->layouts[bindings]);
    VKL_VK_NULL_UNLESS(!result, pipelines->layouts[bindings]);
    return result;
}

VklStatus vkl_vk_pipelines_init(VklDevice *device)
{
    VklVkDevice *vk = vkl_vk(device);
    VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    const char *call = "vkCreatePipelineCache";
    VkResult result = vk->functions.vkCreatePipelineCache(vk->handle, &info, vk->allocation, &vk->pipelines.cache);
    VKL_VK_NULL_UNLESS(!result, vk->pipelines.cache);
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
    for (size_t i = 0; i < pipelines->capacity; i++)
        if (pipelines->table[i]) {
            vk->functions.vkDestroyPipeline(vk->handle, pipelines->table[i]->handle, vk->allocation);
            vkl_release(pipelines->table[i]);
        }
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

/* ---- The table ---- */

static uint64_t hash_of(uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT])
{
    uint64_t hash = kernel;
    for (int i = 0; i < VKL_SPEC_COUNT; i++) {
        hash = (hash ^ spec[i]) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 32;
    }
    return hash;
}

/* Where the row is, or where it would be put. */
static VklVkPipeline **find(VklVkPipelines *pipelines, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT])
{
    size_t mask = pipelines->capacity - 1;
    for (size_t slot = hash_of(kernel, spec) & mask;; slot = (slot + 1) & mask) {
        const VklVkPipeline *row = pipelines->table[slot];
        if (!row || (row->kernel == kernel && !memcmp(row->spec, spec, sizeof(row->spec))))
            return &pipelines->table[slot];
    }
}

/* At most three quarters of the table are in use. */
static bool grow(const VklHostMemory *memory, VklVkPipelines *pipelines)
{
    if (pipelines->count < pipelines->capacity / 4 * 3)
        return true;
    VklVkPipelines larger = {.capacity = pipelines->capacity ? 2 * pipelines->capacity : 64};
    larger.table = vkl_allocate(memory, larger.capacity, sizeof(VklVkPipeline *));
    if (!larger.table)
        return false;
    for (size_t i = 0; i < pipelines->capacity; i++) {
        VklVkPipeline *row = pipelines->table[i];
        if (row)
            *find(&larger, row->kernel, row->spec) = row;
    }
    vkl_release(pipelines->table);
    pipelines->table = larger.table;
    pipelines->capacity = larger.capacity;
    return true;
}

VklVkPipeline *vkl_vk_pipeline_row(VklDevice *device, uint16_t kernel, const uint32_t spec[VKL_SPEC_COUNT])
{
    VklVkPipelines *pipelines = &vkl_vk(device)->pipelines;
    const VklHostMemory *memory = &device->context->desc.memory;
    VklVkPipeline *row = NULL;
    pthread_mutex_lock(&pipelines->mutex);
    if (grow(memory, pipelines)) {
        VklVkPipeline **slot = find(pipelines, kernel, spec);
        if (!*slot && (*slot = vkl_allocate(memory, 1, sizeof(**slot)))) {
            (*slot)->kernel = kernel;
            memcpy((*slot)->spec, spec, sizeof((*slot)->spec));
            pipelines->count++;
        }
        row = *slot;
    }
    pthread_mutex_unlock(&pipelines->mutex);
    return row;
}

/* ---- Compiling ---- */

/* What one call wants compiled, on as many threads as the context gives. */
typedef struct Batch {
    VklDevice *device;
    VklVkPipeline **rows; /* each once */
    uint32_t count;
    atomic_uint done;
    pthread_mutex_t mutex; /* guards what follows: the failure that is reported, of the first of the rows that failed */
    uint32_t failed;       /* count: none */
    const VklVkPipeline *failed_row;
    VkResult result;
    const char *call;
} Batch;

static void report(Batch *batch)
{
    const VklContextDesc *desc = &batch->device->context->desc;
    if (desc->prepared)
        desc->prepared(desc->prepared_user, atomic_fetch_add(&batch->done, 1) + 1, batch->count);
}

/* Compiles a row unless somebody else does or did. With `wait`, somebody else is waited for; a row that failed there is tried here. No
 * thread waits for a row that nobody is compiling at that moment, so a caller's loop may run tasks in any order, or on one thread. */
static void settle(Batch *batch, uint32_t index, bool wait)
{
    VklVkDevice *vk = vkl_vk(batch->device);
    VklVkPipelines *pipelines = &vk->pipelines;
    VklVkPipeline *row = batch->rows[index];
    pthread_mutex_lock(&pipelines->mutex);
    while (wait && row->state == VKL_VK_PIPELINE_COMPILING)
        pthread_cond_wait(&pipelines->compiled, &pipelines->mutex);
    bool mine = row->state == VKL_VK_PIPELINE_ABSENT;
    if (mine)
        row->state = VKL_VK_PIPELINE_COMPILING;
    pthread_mutex_unlock(&pipelines->mutex);
    if (!mine)
        return;

    const char *call;
    VkPipeline handle = VK_NULL_HANDLE;
    pthread_rwlock_rdlock(&pipelines->cache_lock);
    VkResult result = create(vk, row->kernel, row->spec, &handle, &call);
    pthread_rwlock_unlock(&pipelines->cache_lock);
    if (!result)
        vkl_vk_name(batch->device, VK_OBJECT_TYPE_PIPELINE, (uint64_t)handle, "vklstm %s, workgroup %u, form %u",
                    vkl_kernel_info[row->kernel].name, row->spec[VKL_SPEC_WORKGROUP], row->spec[VKL_SPEC_FORM]);

    pthread_mutex_lock(&pipelines->mutex);
    row->handle = result ? VK_NULL_HANDLE : handle;
    row->state = result ? VKL_VK_PIPELINE_ABSENT : VKL_VK_PIPELINE_READY;
    pthread_cond_broadcast(&pipelines->compiled);
    pthread_mutex_unlock(&pipelines->mutex);
    if (!result) {
        atomic_fetch_add(&batch->device->pipelines, 1);
        return;
    }
    pthread_mutex_lock(&batch->mutex);
    if (index < batch->failed) {
        batch->failed = index;
        batch->failed_row = row; /* which another thread may have compiled by now */
        batch->result = result;
        batch->call = call;
    }
    pthread_mutex_unlock(&batch->mutex);
}

static bool has_failed(Batch *batch)
{
    pthread_mutex_lock(&batch->mutex);
    bool failed = batch->failed < batch->count;
    pthread_mutex_unlock(&batch->mutex);
    return failed;
}

static bool is_ready(VklVkPipelines *pipelines, const VklVkPipeline *row)
{
    pthread_mutex_lock(&pipelines->mutex);
    bool ready = row->state == VKL_VK_PIPELINE_READY;
    pthread_mutex_unlock(&pipelines->mutex);
    return ready;
}

static void compile_one(void *data, uint32_t index)
{
    Batch *batch = data;
    if (has_failed(batch))
        return;
    settle(batch, index, false);
    if (is_ready(&vkl_vk(batch->device)->pipelines, batch->rows[index])) {
        report(batch);
        batch->rows[index] = NULL; /* each task its own */
    }
}

VklStatus vkl_vk_pipelines_compile(VklDevice *device, VklVkPipeline *const *rows, size_t count, VklError *error)
{
    VklVkPipelines *pipelines = &vkl_vk(device)->pipelines;
    Batch batch = {.device = device};
    size_t capacity = 0;
    VklStatus status = VKL_OK;
    pthread_mutex_lock(&pipelines->mutex);
    for (size_t i = 0; i < count; i++) {
        uint32_t at = 0;
        if (rows[i]->state == VKL_VK_PIPELINE_READY)
            continue;
        while (at < batch.count && batch.rows[at] != rows[i])
            at++;
        if (at < batch.count)
            continue;
        if (batch.count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            VklVkPipeline **larger = vkl_reallocate(&device->context->desc.memory, batch.rows, capacity, sizeof(*larger));
            if (!larger) {
                status = VKL_ERROR_HOST_MEMORY;
                break;
            }
            batch.rows = larger;
        }
        batch.rows[batch.count++] = rows[i];
    }
    pthread_mutex_unlock(&pipelines->mutex);
    if (status || pthread_mutex_init(&batch.mutex, NULL)) {
        vkl_release(batch.rows);
        return vkl_fail(device->context, error, VKL_ERROR_HOST_MEMORY, "the host refused memory for a list of pipelines");
    }
    batch.failed = batch.count;
    if (batch.count && device->context->desc.prepared)
        device->context->desc.prepared(device->context->desc.prepared_user, 0, batch.count);
    vkl_parallel(device->context, batch.count, compile_one, &batch);
    for (uint32_t i = 0; i < batch.count && batch.failed == batch.count; i++)
        if (batch.rows[i]) {
            settle(&batch, i, true);
            if (batch.failed == batch.count)
                report(&batch);
        }
    pthread_mutex_destroy(&batch.mutex);
    if (batch.failed < batch.count) {
        const VklVkPipeline *row = batch.failed_row;
        status = vkl_vk_fail(device->context, device, error, batch.result, batch.call, "kernel %s, workgroup %u, form %u",
                             vkl_kernel_info[row->kernel].name, row->spec[VKL_SPEC_WORKGROUP], row->spec[VKL_SPEC_FORM]);
    }
    vkl_release(batch.rows);
    return status;
}

/* SPDX-License-Identifier: MIT */
#include "optimizer.h"

struct VklOptimizer {
    VklDevice *device;
    VklOptimizerDesc desc;
    VklError error;
    VklExecCache cache;
    uint64_t count;
    VklBuffer *moments; /* [count][2] */
    VklBuffer *state;   /* VKL_STATE_LOSS elements, then the partial sums of the norm */
};

/* Where the partial sums begin in the state buffer; a multiple of the largest alignment. */
#define PARTIAL_AT 64

VklOptimizerDesc vkl_optimizer_desc(VklOptimizerKind kind)
{
    bool adam = kind == VKL_OPTIMIZER_ADAM || kind == VKL_OPTIMIZER_ADAMW;
    return (VklOptimizerDesc){
        .struct_size = sizeof(VklOptimizerDesc),
        .kind = kind,
        .learning_rate = adam ? 0.001 : 0.01,
        .weight_decay = kind == VKL_OPTIMIZER_ADAMW ? 0.01 : 0,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .alpha = 0.99,
        .epsilon = 1e-8,
    };
}

bool vkl_optimizer_kind(const char *name, VklOptimizerKind *kind)
{
    static const char *const names[] = {"sgd", "rmsprop", "adam", "adamw"};
    for (int i = 0; i < 4 && name; i++)
        if (!strcmp(name, names[i])) {
            *kind = (VklOptimizerKind)i;
            return true;
        }
    return false;
}

VklStatus vkl_optimizer_check(VklContext *context, VklError *error, const char *call, const VklOptimizerDesc *desc)
{
    if (desc->struct_size != sizeof(*desc))
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: the optimizer's struct_size is %zu; it must be %zu", call,
                        desc->struct_size, sizeof(*desc));
    if (desc->kind < VKL_OPTIMIZER_SGD || desc->kind > VKL_OPTIMIZER_ADAMW)
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: optimizer %d is none of VklOptimizerKind", call, (int)desc->kind);
    /* values in [least, below) */
    const struct {
        const char *name;
        double value, least, below;
    } ranges[] = {
        {"learning_rate", desc->learning_rate, 0, 1e30},
        {"momentum", desc->momentum, 0, 1},
        {"weight_decay", desc->weight_decay, 0, 1e30},
        {"beta1", desc->beta1, 0, 1},
        {"beta2", desc->beta2, 0, 1},
        {"alpha", desc->alpha, 0, 1},
        {"epsilon", desc->epsilon, 1e-37, 1e30}, /* below that it is 0 as a float */
        {"clip_norm", desc->clip_norm, 0, 1e30},
        {"clip_value", desc->clip_value, 0, 1e30},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value < ranges[i].below))
            return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: %s is %g; it must be at least %g and below %g", call,
                            ranges[i].name, ranges[i].value, ranges[i].least, ranges[i].below);
    if ((desc->clip_norm > 0 && desc->clip_norm < 1e-37) || (desc->clip_value > 0 && desc->clip_value < 1e-37))
        return vkl_fail(context, error, VKL_ERROR_INVALID,
                        "%s: clip_norm is %g, clip_value %g; each must be 0 (off) or at least 1e-37", call, desc->clip_norm,
                        desc->clip_value);
    if (desc->momentum > 0 && desc->kind >= VKL_OPTIMIZER_ADAM)
        return vkl_fail(context, error, VKL_ERROR_INVALID, "%s: momentum is %g; Adam and AdamW have none (beta1 is theirs)", call,
                        desc->momentum);
    return VKL_OK;
}

void vkl_optimizer_state(const VklOptimizerDesc *desc, uint32_t header[VKL_STATE_LOSS])
{
    float rate = (float)desc->learning_rate, one = 1;
    memset(header, 0, VKL_STATE_LOSS * sizeof(*header));
    memcpy(&header[VKL_STATE_LR], &rate, sizeof(rate));
    memcpy(&header[VKL_STATE_CLIP], &one, sizeof(one));
}

VklStatus vkl_optimizer_create(VklDevice *device, const VklOptimizerDesc *desc, uint64_t count, VklOptimizer **optimizer)
{
    static const char call[] = "vkl_optimizer_create";
    if (!device)
        return VKL_ERROR_INVALID;
    if (!optimizer || !desc)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "%s: %s is NULL", call, desc ? "optimizer" : "desc");
    VklStatus status = vkl_optimizer_check(device->context, NULL, call, desc);
    if (status)
        return status;
    if (!count || count % 4 || count > (uint64_t)INT64_MAX / 16)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "%s: count is %llu; it must be a multiple of 4 above 0", call,
                        (unsigned long long)count);
    VklOptimizer *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "%s: the host refused %zu bytes", call, sizeof(*made));
    made->device = device;
    made->desc = *desc;
    made->count = count;
    uint32_t header[VKL_STATE_LOSS];
    vkl_optimizer_state(desc, header);
    VklStream *stream = NULL;
    status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 8 * count, &made->moments);
    if (!status)
        status = vkl_buffer_create(device, VKL_BUFFER_DEVICE, 4 * (PARTIAL_AT + vkl_norm_partials(count)), &made->state);
    if (!status)
        status = vkl_stream_create(device, &stream);
    if (!status)
        status = vkl_upload(stream, vkl_slice(made->state, 0), header, sizeof(header));
    vkl_stream_destroy(stream);
    if (status)
        vkl_optimizer_destroy(made);
    else
        *optimizer = made;
    return status;
}

void vkl_optimizer_destroy(VklOptimizer *optimizer)
{
    if (!optimizer)
        return;
    vkl_exec_cache_clear(&optimizer->cache);
    vkl_buffer_destroy(optimizer->moments);
    vkl_buffer_destroy(optimizer->state);
    vkl_release(optimizer);
}

const char *vkl_optimizer_error(const VklOptimizer *optimizer)
{
    return optimizer->error.message;
}

static VklStatus prepare(VklOptimizer *optimizer, const char *call, VklSlice params, VklSlice grads, VklExec **exec)
{
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    slots[VKL_SLOT_PARAMS] = params;
    slots[VKL_SLOT_STEP_GRADS] = grads;
    slots[VKL_SLOT_MOMENTS] = vkl_slice(optimizer->moments, 0);
    slots[VKL_SLOT_STATE] = vkl_slice(optimizer->state, 0);
    VklPlan plan;
    vkl_plan_init(&plan, &optimizer->device->caps);
    vkl_plan_optimize(&plan, &(VklOptimize){.desc = &optimizer->desc,
                                            .count = optimizer->count,
                                            .params = vkl_array(VKL_SLOT_PARAMS, 0),
                                            .grads = vkl_array(VKL_SLOT_STEP_GRADS, 0),
                                            .moments = vkl_array(VKL_SLOT_MOMENTS, 0),
                                            .state = vkl_array(VKL_SLOT_STATE, 0),
                                            .partial = vkl_array(VKL_SLOT_STATE, PARTIAL_AT),
                                            .advance = true});
    return vkl_exec_create(optimizer->device, &plan, slots, call, &optimizer->error, exec);
}

VklStatus vkl_optimizer_prepare(VklOptimizer *optimizer, VklSlice params, VklSlice grads, VklExec **exec)
{
    return prepare(optimizer, "vkl_optimizer_prepare", params, grads, exec);
}

VklStatus vkl_optimizer_step(VklOptimizer *optimizer, VklStream *stream, VklSlice params, VklSlice grads)
{
    static const char call[] = "vkl_optimizer_step";
    uint64_t key[4] = {vkl_buffer_key(optimizer->device, params.buffer), params.offset,
                       vkl_buffer_key(optimizer->device, grads.buffer), grads.offset};
    VklExec *exec = vkl_exec_cache_find(optimizer->device->context, &optimizer->cache, key, sizeof(key));
    if (!exec) {
        VklStatus status = prepare(optimizer, call, params, grads, &exec);
        if (status)
            return status;
        vkl_exec_cache_add(optimizer->device->context, &optimizer->cache, key, sizeof(key), exec);
    }
    VklStatus status = vkl_exec_record(exec, stream);
    vkl_exec_release(exec);
    return status ? vkl_fail_again(&optimizer->error, status) : VKL_OK;
}

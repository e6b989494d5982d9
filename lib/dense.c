/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "init.h"
#include "internal.h"
#include "plan_dense.h"

struct VklDense {
    VklDevice *device;
    VklDenseDesc desc;
    VklError error;
};

VklDenseDesc vkl_dense_desc(uint64_t input_size, uint64_t output_size, VklActivation activation)
{
    return (VklDenseDesc){
        .struct_size = sizeof(VklDenseDesc), .input_size = input_size, .output_size = output_size, .activation = activation};
}

static bool name_in(const char *name, const char *const *names, int count, int *index)
{
    for (int i = 0; i < count && name; i++)
        if (!strcmp(name, names[i])) {
            *index = i;
            return true;
        }
    return false;
}

bool vkl_activation(const char *name, VklActivation *activation)
{
    static const char *const names[] = {"none", "tanh", "sigmoid", "relu"};
    int index;
    bool known = name_in(name, names, 4, &index);
    if (known)
        *activation = (VklActivation)index;
    return known;
}

bool vkl_loss(const char *name, VklLoss *loss)
{
    static const char *const names[] = {"mse", "mae", "huber"};
    int index;
    bool known = name_in(name, names, 3, &index);
    if (known)
        *loss = (VklLoss)index;
    return known;
}

VklStatus vkl_dense_create(VklDevice *device, const VklDenseDesc *desc, VklDense **dense)
{
    if (!device)
        return VKL_ERROR_INVALID;
    VklContext *context = device->context;
    if (!desc || !dense)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_dense_create: %s is NULL", dense ? "desc" : "dense");
    if (desc->struct_size != sizeof(*desc))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_dense_create: struct_size is %zu; it must be %zu",
                        desc->struct_size, sizeof(*desc));
    if (!desc->input_size || !desc->output_size)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_dense_create: input_size is %llu, output_size %llu; each must be at least 1",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->output_size);
    if (desc->activation < VKL_ACTIVATION_NONE || desc->activation > VKL_ACTIVATION_RELU)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_dense_create: activation %d is none of VklActivation",
                        (int)desc->activation);
    if (!vkl_dense_measure(desc, 1))
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT,
                        "vkl_dense_create: the parameters of input_size %llu, output_size %llu do not fit 63 bits",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->output_size);
    VklDense *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_dense_create: the host refused %zu bytes", sizeof(*made));
    made->device = device;
    made->desc = *desc;
    *dense = made;
    return VKL_OK;
}

void vkl_dense_destroy(VklDense *dense)
{
    vkl_release(dense);
}

const char *vkl_dense_error(const VklDense *dense)
{
    return dense->error.message;
}

uint64_t vkl_dense_params_size(const VklDense *dense)
{
    return 4 * vkl_dense_floats(&dense->desc);
}

uint64_t vkl_dense_workspace_size(const VklDense *dense, uint64_t rows)
{
    return 4 * vkl_dense_scratch(&dense->desc, rows);
}

static VklStatus is_null(VklDense *dense, const char *call, const char *what)
{
    return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_INVALID, "%s: %s is NULL", call, what);
}

static VklStatus check_index(VklDense *dense, const char *call, uint32_t index)
{
    if (index > 1)
        return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_INVALID, "%s: index is %u; there are 2 tensors", call,
                        index);
    return VKL_OK;
}

VklStatus vkl_dense_param_info(VklDense *dense, uint32_t index, VklParamInfo *info)
{
    VklStatus status = info ? check_index(dense, "vkl_dense_param_info", index) : is_null(dense, "vkl_dense_param_info", "info");
    if (!status)
        *info = index ? (VklParamInfo){.name = "bias", .rank = 1, .shape = {dense->desc.output_size, 1}}
                      : (VklParamInfo){.name = "weight", .rank = 2, .shape = {dense->desc.output_size, dense->desc.input_size}};
    return status;
}

VklStatus vkl_dense_pack(VklDense *dense, uint32_t index, const float *canonical, float *packed)
{
    VklStatus status = canonical && packed ? check_index(dense, "vkl_dense_pack", index)
                                           : is_null(dense, "vkl_dense_pack", canonical ? "packed" : "canonical");
    if (status)
        return status;
    uint64_t I = dense->desc.input_size, O = dense->desc.output_size;
    if (index)
        memcpy(packed + I * O, canonical, (size_t)O * sizeof(float));
    for (uint64_t o = 0; o < O && !index; o++)
        for (uint64_t i = 0; i < I; i++)
            packed[i * O + o] = canonical[o * I + i];
    return VKL_OK;
}

VklStatus vkl_dense_unpack(VklDense *dense, uint32_t index, const float *packed, float *canonical)
{
    VklStatus status = canonical && packed ? check_index(dense, "vkl_dense_unpack", index)
                                           : is_null(dense, "vkl_dense_unpack", canonical ? "packed" : "canonical");
    if (status)
        return status;
    uint64_t I = dense->desc.input_size, O = dense->desc.output_size;
    if (index)
        memcpy(canonical, packed + I * O, (size_t)O * sizeof(float));
    for (uint64_t o = 0; o < O && !index; o++)
        for (uint64_t i = 0; i < I; i++)
            canonical[o * I + i] = packed[i * O + o];
    return VKL_OK;
}

VklStatus vkl_dense_init(VklDense *dense, uint64_t seed, float *packed)
{
    if (!packed)
        return is_null(dense, "vkl_dense_init", "packed");
    uint64_t I = dense->desc.input_size, O = dense->desc.output_size;
    /* canonical order first, so that the draw does not depend on the packed layout */
    float *weight = vkl_allocate(dense->device->caps.memory, I * O, sizeof(float));
    if (!weight)
        return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_HOST_MEMORY,
                        "vkl_dense_init: the host refused memory for a matrix of %llu by %llu", (unsigned long long)O,
                        (unsigned long long)I);
    vkl_init_glorot(weight, O, I, seed);
    memset(packed, 0, (size_t)vkl_dense_params_size(dense));
    vkl_dense_pack(dense, 0, weight, packed);
    vkl_release(weight);
    return VKL_OK;
}

/* ---- Passes ---- */

VklDenseBackward vkl_dense_backward_args(uint64_t rows)
{
    VklDenseBackward args = {.struct_size = sizeof(args)};
    args.rows = rows;
    return args;
}

static VklArray bind(VklSlice *slots, VklSlot slot, VklSlice slice)
{
    slots[slot] = slice;
    return slice.buffer ? vkl_array(slot, 0) : VKL_NO_ARRAY;
}

static VklStatus check_rows(VklDense *dense, const char *call, uint64_t rows)
{
    if (!rows)
        return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_INVALID, "%s: rows is 0; it must be at least 1", call);
    if (!vkl_dense_measure(&dense->desc, rows))
        return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_LIMIT, "%s: the arrays of %llu rows do not fit 63 bits",
                        call, (unsigned long long)rows);
    return VKL_OK;
}

static VklStatus require(VklDense *dense, const char *call, const VklSlice *slots, const VklSlot *needed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!slots[needed[i]].buffer)
            return vkl_fail(dense->device->context, &dense->error, VKL_ERROR_INVALID, "%s: %s is absent; it is needed", call,
                            vkl_slot_name[needed[i]]);
    return VKL_OK;
}

VklStatus vkl_dense_forward(VklDense *dense, VklStream *stream, uint64_t rows, VklSlice params, VklSlice x, VklSlice y)
{
    static const VklSlot needed[] = {VKL_SLOT_PARAMS, VKL_SLOT_X, VKL_SLOT_Y};
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    VklDensePass pass = {.desc = &dense->desc, .rows = rows};
    pass.params = bind(slots, VKL_SLOT_PARAMS, params);
    pass.x = bind(slots, VKL_SLOT_X, x);
    pass.y = bind(slots, VKL_SLOT_Y, y);
    VklStatus status = check_rows(dense, "vkl_dense_forward", rows);
    status = status ? status : require(dense, "vkl_dense_forward", slots, needed, 3);
    if (status)
        return status;
    VklPlan plan;
    vkl_plan_init(&plan, &dense->device->caps);
    vkl_plan_dense_forward(&plan, &pass);
    return vkl_exec_record_once(dense->device, stream, &plan, slots, "vkl_dense_forward", &dense->error);
}

VklStatus vkl_dense_backward(VklDense *dense, VklStream *stream, const VklDenseBackward *args)
{
    static const char call[] = "vkl_dense_backward";
    static const VklSlot needed[] = {VKL_SLOT_PARAMS, VKL_SLOT_X, VKL_SLOT_Y, VKL_SLOT_GY, VKL_SLOT_WORKSPACE};
    VklStatus status = vkl_check_struct(dense->device->context, &dense->error, call, "args", args, sizeof(*args));
    if (status)
        return status;
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    VklDensePass pass = {.desc = &dense->desc, .rows = args->rows, .accumulate = args->accumulate, .padded = args->accumulate};
    pass.params = bind(slots, VKL_SLOT_PARAMS, args->params);
    pass.x = bind(slots, VKL_SLOT_X, args->x);
    pass.y = bind(slots, VKL_SLOT_Y, args->y);
    pass.gy = bind(slots, VKL_SLOT_GY, args->gy);
    pass.workspace = bind(slots, VKL_SLOT_WORKSPACE, args->workspace);
    pass.dx = bind(slots, VKL_SLOT_DX, args->dx);
    pass.dparams = bind(slots, VKL_SLOT_GRADS, args->dparams);
    status = check_rows(dense, call, args->rows);
    status = status ? status : require(dense, call, slots, needed, dense->desc.activation == VKL_ACTIVATION_NONE ? 4 : 5);
    if (status)
        return status;
    VklPlan plan;
    vkl_plan_init(&plan, &dense->device->caps);
    vkl_plan_dense_backward(&plan, &pass);
    return vkl_exec_record_once(dense->device, stream, &plan, slots, call, &dense->error);
}

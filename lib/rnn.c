/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "init.h"
#include "internal.h"
#include "plan_rnn.h"

struct VklRnn {
    VklDevice *device;
    VklRnnDesc desc;
    VklError error;
    VklExecCache cache;
};

VklRnnDesc vkl_rnn_desc(VklCell cell, uint64_t input_size, uint64_t hidden_size)
{
    return (VklRnnDesc){
        .struct_size = sizeof(VklRnnDesc), .cell = cell, .input_size = input_size, .hidden_size = hidden_size, .layers = 1};
}

static VklStatus check_desc(VklDevice *device, const VklRnnDesc *desc)
{
    VklContext *context = device->context;
    VklRnnSizes sizes;
    if (!desc || desc->struct_size != sizeof(*desc))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: struct_size is %zu; it must be %zu",
                        desc ? desc->struct_size : 0, sizeof(*desc));
    if (desc->cell != VKL_CELL_LSTM)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: cell %d is none of VklCell", (int)desc->cell);
    if (!desc->input_size || !desc->hidden_size || !desc->layers)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_rnn_create: input_size is %llu, hidden_size %llu, layers %llu; each must be at least 1",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->hidden_size,
                        (unsigned long long)desc->layers);
    if (desc->layers > UINT32_MAX / 4) /* tensors are counted in 32 bits */
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT, "vkl_rnn_create: layers is %llu; at most %u are possible",
                        (unsigned long long)desc->layers, UINT32_MAX / 4);
    if (!vkl_rnn_measure(desc, 0, 0, &sizes))
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT,
                        "vkl_rnn_create: the parameters of input_size %llu, hidden_size %llu, layers %llu do not fit 63 bits",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->hidden_size,
                        (unsigned long long)desc->layers);
    return VKL_OK;
}

VklStatus vkl_rnn_create(VklDevice *device, const VklRnnDesc *desc, VklRnn **rnn)
{
    if (!device || !rnn)
        return VKL_ERROR_INVALID;
    VklStatus status = check_desc(device, desc);
    if (status)
        return status;
    VklRnn *made = calloc(1, sizeof(*made));
    if (!made)
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_rnn_create: the host refused %zu bytes",
                        sizeof(*made));
    made->device = device;
    made->desc = *desc;
    *rnn = made;
    return VKL_OK;
}

void vkl_rnn_destroy(VklRnn *rnn)
{
    if (!rnn)
        return;
    vkl_exec_cache_clear(&rnn->cache);
    free(rnn);
}

const char *vkl_rnn_error(const VklRnn *rnn)
{
    return rnn->error.message;
}

/* T and N of a pass, and that everything they size fits. */
static VklStatus measure(VklRnn *rnn, const char *call, uint64_t T, uint64_t N, VklRnnSizes *sizes)
{
    if (!T || !N)
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: T is %llu, N is %llu; each must be at least 1",
                        call, (unsigned long long)T, (unsigned long long)N);
    if (!vkl_rnn_measure(&rnn->desc, T, N, sizes))
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_LIMIT,
                        "%s: the arrays of T %llu, N %llu, hidden_size %llu, layers %llu do not fit 63 bits", call,
                        (unsigned long long)T, (unsigned long long)N, (unsigned long long)rnn->desc.hidden_size,
                        (unsigned long long)rnn->desc.layers);
    return VKL_OK;
}

VklStatus vkl_rnn_sizes(VklRnn *rnn, uint64_t T, uint64_t N, VklRnnSizes *sizes)
{
    VklRnnSizes made;
    VklStatus status = measure(rnn, "vkl_rnn_sizes", T, N, &made);
    if (!status)
        *sizes = made;
    return status;
}

/* ---- Parameters ---- */

enum { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, TENSORS };

uint32_t vkl_rnn_param_count(const VklRnn *rnn)
{
    return (uint32_t)rnn->desc.layers * TENSORS;
}

static VklStatus check_index(VklRnn *rnn, const char *call, uint32_t index)
{
    if (index >= vkl_rnn_param_count(rnn))
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: index is %u; there are %u tensors", call,
                        index, vkl_rnn_param_count(rnn));
    return VKL_OK;
}

VklStatus vkl_rnn_param_info(VklRnn *rnn, uint32_t index, VklParamInfo *info)
{
    static const char *const names[TENSORS] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    VklStatus status = check_index(rnn, "vkl_rnn_param_info", index);
    if (status)
        return status;
    uint32_t layer = index / TENSORS, tensor = index % TENSORS;
    VklParamInfo made = {.rank = tensor < BIAS_IH ? 2 : 1, .shape = {4 * rnn->desc.hidden_size, 1}};
    if (tensor == WEIGHT_IH)
        made.shape[1] = layer ? rnn->desc.hidden_size : rnn->desc.input_size;
    if (tensor == WEIGHT_HH)
        made.shape[1] = rnn->desc.hidden_size;
    snprintf(made.name, sizeof(made.name), "%s_l%u", names[tensor], layer);
    *info = made;
    return VKL_OK;
}

/* Where a tensor begins in the packed buffer, and its canonical shape. */
static uint64_t tensor_place(const VklRnn *rnn, uint32_t index, uint64_t *columns)
{
    VklRnnPlace place;
    uint64_t H = rnn->desc.hidden_size;
    vkl_rnn_place(&rnn->desc, 0, 0, true, index / TENSORS, &place);
    switch (index % TENSORS) {
    case WEIGHT_IH:
        *columns = place.inputs;
        return place.w_ih;
    case WEIGHT_HH:
        *columns = H;
        return place.w_hh;
    case BIAS_IH:
        *columns = 1;
        return place.bias;
    default:
        *columns = 1;
        return place.bias + 4 * H;
    }
}

VklStatus vkl_rnn_pack(VklRnn *rnn, uint32_t index, const float *canonical, float *packed)
{
    VklStatus status = check_index(rnn, "vkl_rnn_pack", index);
    if (status)
        return status;
    uint64_t H = rnn->desc.hidden_size, columns;
    float *to = packed + tensor_place(rnn, index, &columns);
    for (uint64_t gate = 0; gate < 4; gate++)
        for (uint64_t unit = 0; unit < H; unit++)
            for (uint64_t k = 0; k < columns; k++)
                to[(k * H + unit) * 4 + gate] = canonical[(gate * H + unit) * columns + k];
    return VKL_OK;
}

VklStatus vkl_rnn_unpack(VklRnn *rnn, uint32_t index, const float *packed, float *canonical)
{
    VklStatus status = check_index(rnn, "vkl_rnn_unpack", index);
    if (status)
        return status;
    uint64_t H = rnn->desc.hidden_size, columns;
    const float *from = packed + tensor_place(rnn, index, &columns);
    for (uint64_t gate = 0; gate < 4; gate++)
        for (uint64_t unit = 0; unit < H; unit++)
            for (uint64_t k = 0; k < columns; k++)
                canonical[(gate * H + unit) * columns + k] = from[(k * H + unit) * 4 + gate];
    return VKL_OK;
}

VklStatus vkl_rnn_init(VklRnn *rnn, uint64_t seed, float *packed)
{
    uint64_t H = rnn->desc.hidden_size, I = rnn->desc.input_size, widest = I > H ? I : H;
    VklRnnSizes sizes;
    vkl_rnn_measure(&rnn->desc, 0, 0, &sizes);
    float *tensor = sizes.params <= SIZE_MAX ? malloc((size_t)(4 * H * widest) * sizeof(float)) : NULL;
    VklStatus status = tensor ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    for (uint32_t index = 0; index < vkl_rnn_param_count(rnn) && !status; index++) {
        uint64_t columns, part = vkl_seed_part(seed, index);
        tensor_place(rnn, index, &columns);
        switch (index % TENSORS) {
        case WEIGHT_IH:
            vkl_init_glorot(tensor, 4 * H, columns, part);
            break;
        case WEIGHT_HH:
            status = vkl_init_orthogonal(tensor, 4 * H, H, part) ? VKL_OK : VKL_ERROR_HOST_MEMORY;
            break;
        default:
            for (uint64_t row = 0; row < 4 * H; row++)
                tensor[row] = index % TENSORS == BIAS_IH && row / H == 1 ? 1 : 0; /* the forget gate's b_if */
        }
        if (!status)
            vkl_rnn_pack(rnn, index, tensor, packed);
    }
    free(tensor);
    if (status)
        vkl_fail(rnn->device->context, &rnn->error, status, "vkl_rnn_init: the host refused memory for matrices of %llu by %llu",
                 (unsigned long long)(4 * H), (unsigned long long)widest);
    return status;
}

/* ---- Passes ---- */

VklRnnForward vkl_rnn_forward_args(uint64_t T, uint64_t N)
{
    VklRnnForward args = {.struct_size = sizeof(args)};
    args.T = T;
    args.N = N;
    return args;
}

VklRnnBackward vkl_rnn_backward_args(uint64_t T, uint64_t N)
{
    VklRnnBackward args = {.struct_size = sizeof(args)};
    args.T = T;
    args.N = N;
    return args;
}

/* What a call is known by in the cache: no pointers, since a new buffer may lie where an old one was. */
typedef struct Call {
    uint64_t backward, T, N, accumulate;
    struct {
        uint64_t id, offset;
    } slots[VKL_SLOT_COUNT];
} Call;

typedef struct Bound {
    VklRnnPass pass;
    VklSlice slots[VKL_SLOT_COUNT];
} Bound;

static VklArray bind(Bound *bound, VklSlot slot, VklSlice slice)
{
    bound->slots[slot] = slice;
    return slice.buffer ? vkl_array(slot, 0) : VKL_NO_ARRAY;
}

/* An array that must be there, by name. */
static VklStatus require(VklRnn *rnn, const char *call, VklSlot slot, VklSlice slice)
{
    if (!slice.buffer)
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: %s is absent; it is needed", call,
                        vkl_slot_name[slot]);
    return VKL_OK;
}

static VklStatus bind_forward(VklRnn *rnn, const char *call, const VklRnnForward *args, Bound *bound)
{
    VklRnnSizes sizes;
    if (!args || args->struct_size != sizeof(*args))
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: struct_size is %zu; it must be %zu", call,
                        args ? args->struct_size : 0, sizeof(*args));
    VklStatus status = measure(rnn, call, args->T, args->N, &sizes);
    status = status ? status : require(rnn, call, VKL_SLOT_PARAMS, args->params);
    status = status ? status : require(rnn, call, VKL_SLOT_X, args->x);
    if (!status && !args->reserve.buffer)
        status = require(rnn, call, VKL_SLOT_WORKSPACE, args->workspace);
    if (status)
        return status;
    *bound = (Bound){.pass = {.desc = &rnn->desc, .T = args->T, .N = args->N, .training = args->reserve.buffer != NULL}};
    VklRnnPass *pass = &bound->pass;
    pass->params = bind(bound, VKL_SLOT_PARAMS, args->params);
    pass->x = bind(bound, VKL_SLOT_X, args->x);
    pass->h0 = bind(bound, VKL_SLOT_H0, args->h0);
    pass->c0 = bind(bound, VKL_SLOT_C0, args->c0);
    pass->y = bind(bound, VKL_SLOT_Y, args->y);
    pass->hn = bind(bound, VKL_SLOT_HN, args->hn);
    pass->cn = bind(bound, VKL_SLOT_CN, args->cn);
    pass->memory =
        pass->training ? bind(bound, VKL_SLOT_RESERVE, args->reserve) : bind(bound, VKL_SLOT_WORKSPACE, args->workspace);
    return VKL_OK;
}

static VklStatus bind_backward(VklRnn *rnn, const char *call, const VklRnnBackward *args, Bound *bound)
{
    VklRnnSizes sizes;
    if (!args || args->struct_size != sizeof(*args))
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: struct_size is %zu; it must be %zu", call,
                        args ? args->struct_size : 0, sizeof(*args));
    VklStatus status = measure(rnn, call, args->T, args->N, &sizes);
    status = status ? status : require(rnn, call, VKL_SLOT_PARAMS, args->params);
    status = status ? status : require(rnn, call, VKL_SLOT_X, args->x);
    status = status ? status : require(rnn, call, VKL_SLOT_RESERVE, args->reserve);
    status = status ? status : require(rnn, call, VKL_SLOT_WORKSPACE, args->workspace);
    if (status)
        return status;
    *bound = (Bound){.pass = {.desc = &rnn->desc, .T = args->T, .N = args->N, .training = true, .accumulate = args->accumulate}};
    VklRnnPass *pass = &bound->pass;
    pass->params = bind(bound, VKL_SLOT_PARAMS, args->params);
    pass->x = bind(bound, VKL_SLOT_X, args->x);
    pass->memory = bind(bound, VKL_SLOT_RESERVE, args->reserve);
    pass->workspace = bind(bound, VKL_SLOT_WORKSPACE, args->workspace);
    pass->gy = bind(bound, VKL_SLOT_GY, args->gy);
    pass->ghn = bind(bound, VKL_SLOT_GHN, args->ghn);
    pass->gcn = bind(bound, VKL_SLOT_GCN, args->gcn);
    pass->dx = bind(bound, VKL_SLOT_DX, args->dx);
    pass->dh0 = bind(bound, VKL_SLOT_DH0, args->dh0);
    pass->dc0 = bind(bound, VKL_SLOT_DC0, args->dc0);
    pass->dparams = bind(bound, VKL_SLOT_GRADS, args->dparams);
    return VKL_OK;
}

static VklStatus prepare(VklRnn *rnn, const char *call, const Bound *bound, bool backward, VklExec **exec)
{
    VklPlan plan;
    vkl_plan_init(&plan, &rnn->device->caps);
    if (backward)
        vkl_plan_rnn_backward(&plan, &bound->pass);
    else
        vkl_plan_rnn_forward(&plan, &bound->pass);
    return vkl_exec_create(rnn->device, &plan, bound->slots, call, &rnn->error, exec);
}

static VklStatus record(VklRnn *rnn, const char *call, VklStream *stream, const Bound *bound, bool backward)
{
    Call key;
    memset(&key, 0, sizeof(key));
    key.backward = backward;
    key.T = bound->pass.T;
    key.N = bound->pass.N;
    key.accumulate = bound->pass.accumulate;
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++)
        if (bound->slots[slot].buffer) {
            key.slots[slot].id = vkl_buffer_key(rnn->device, bound->slots[slot].buffer);
            key.slots[slot].offset = bound->slots[slot].offset;
        }
    VklExec *exec = vkl_exec_cache_find(&rnn->cache, &key, sizeof(key));
    bool made = !exec;
    if (made) {
        VklStatus status = prepare(rnn, call, bound, backward, &exec);
        if (status)
            return status;
        vkl_exec_cache_add(&rnn->cache, &key, sizeof(key), exec);
    }
    VklStatus status = vkl_exec_record(exec, stream);
    if (made)
        vkl_exec_release(exec);
    return status ? vkl_fail_again(rnn->device->context, &rnn->error, status) : VKL_OK;
}

VklStatus vkl_rnn_forward(VklRnn *rnn, VklStream *stream, const VklRnnForward *args)
{
    Bound bound;
    VklStatus status = bind_forward(rnn, "vkl_rnn_forward", args, &bound);
    return status ? status : record(rnn, "vkl_rnn_forward", stream, &bound, false);
}

VklStatus vkl_rnn_backward(VklRnn *rnn, VklStream *stream, const VklRnnBackward *args)
{
    Bound bound;
    VklStatus status = bind_backward(rnn, "vkl_rnn_backward", args, &bound);
    return status ? status : record(rnn, "vkl_rnn_backward", stream, &bound, true);
}

VklStatus vkl_rnn_prepare_forward(VklRnn *rnn, const VklRnnForward *args, VklExec **exec)
{
    Bound bound;
    VklStatus status = bind_forward(rnn, "vkl_rnn_prepare_forward", args, &bound);
    return status ? status : prepare(rnn, "vkl_rnn_prepare_forward", &bound, false, exec);
}

VklStatus vkl_rnn_prepare_backward(VklRnn *rnn, const VklRnnBackward *args, VklExec **exec)
{
    Bound bound;
    VklStatus status = bind_backward(rnn, "vkl_rnn_prepare_backward", args, &bound);
    return status ? status : prepare(rnn, "vkl_rnn_prepare_backward", &bound, true, exec);
}

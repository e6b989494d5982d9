/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#include "init.h"
#include "internal.h"
#include "plan_agents.h"

struct VklRnn {
    VklDevice *device;
    VklRnnDesc desc;
    VklError error;
    VklExecCache cache;
};

VklActivationDesc vkl_gate_activation(VklGateActivation kind)
{
    static const VklActivationDesc defaults[] = {
        [VKL_GATE_HARD_SIGMOID] = {.alpha = 0.2f, .beta = 0.5f},
        [VKL_GATE_LEAKY_RELU] = {.alpha = 0.01f},
        [VKL_GATE_THRESHOLDED_RELU] = {.alpha = 1},
        [VKL_GATE_ELU] = {.alpha = 1},
        [VKL_GATE_SOFTPLUS] = {.alpha = 0},
    };
    VklActivationDesc activation = {.kind = kind};
    if (kind >= 0 && kind <= VKL_GATE_SOFTPLUS) {
        activation = defaults[kind];
        activation.kind = kind;
    }
    return activation;
}

bool vkl_gate_activation_kind(const char *name, VklGateActivation *kind)
{
    static const char *const names[] = {"sigmoid",         "tanh",       "relu", "hardsigmoid", "affine",  "leakyrelu",
                                        "thresholdedrelu", "scaledtanh", "elu",  "softsign",    "softplus"};
    for (size_t i = 0; name && i < sizeof(names) / sizeof(*names); i++) {
        size_t at = 0;
        while (names[i][at] && tolower((unsigned char)name[at]) == names[i][at])
            at++;
        if (!names[i][at] && !name[at]) {
            *kind = (VklGateActivation)i;
            return true;
        }
    }
    return false;
}

VklRnnDesc vkl_rnn_desc(VklCell cell, uint64_t input_size, uint64_t hidden_size)
{
    VklRnnDesc desc = {.struct_size = sizeof(VklRnnDesc),
                       .cell = cell,
                       .input_size = input_size,
                       .hidden_size = hidden_size,
                       .layers = 1,
                       .reset_after = true};
    VklGateActivation first = cell == VKL_CELL_RNN_TANH   ? VKL_GATE_TANH
                              : cell == VKL_CELL_RNN_RELU ? VKL_GATE_RELU
                                                          : VKL_GATE_SIGMOID;
    for (int direction = 0; direction < 2; direction++) {
        desc.activations[direction][0] = vkl_gate_activation(first);
        desc.activations[direction][1] = vkl_gate_activation(VKL_GATE_TANH);
        desc.activations[direction][2] = vkl_gate_activation(VKL_GATE_TANH);
    }
    return desc;
}

static const char *const path_names[] = {
    [VKL_RNN_PATH_AUTO] = "auto",         [VKL_RNN_PATH_PIECES] = "pieces",       [VKL_RNN_PATH_STEP] = "step",
    [VKL_RNN_PATH_SEQUENCE] = "sequence", [VKL_RNN_PATH_WAVEFRONT] = "wavefront",
};
#define PATHS (sizeof(path_names) / sizeof(*path_names))

bool vkl_rnn_path(const char *name, VklRnnPath *path)
{
    for (size_t i = 0; i < PATHS; i++)
        if (!strcmp(name, path_names[i])) {
            *path = (VklRnnPath)i;
            return true;
        }
    return false;
}

/* How many activations a cell has. */
static int roles(VklCell cell)
{
    return cell == VKL_CELL_LSTM ? 3 : cell == VKL_CELL_GRU ? 2 : 1;
}

static VklStatus check_activations(VklContext *context, const VklRnnDesc *desc)
{
    for (int direction = 0; direction < 2; direction++)
        for (int role = 0; role < roles(desc->cell); role++) {
            const VklActivationDesc *activation = &desc->activations[direction][role];
            if (activation->kind < VKL_GATE_SIGMOID || activation->kind > VKL_GATE_SOFTPLUS)
                return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                                "vkl_rnn_create: activations[%d][%d] is %d, none of VklGateActivation", direction, role,
                                (int)activation->kind);
            if (!isfinite(activation->alpha) || !isfinite(activation->beta))
                return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                                "vkl_rnn_create: activations[%d][%d] has alpha %g and beta %g; both must be finite", direction,
                                role, (double)activation->alpha, (double)activation->beta);
            if ((activation->kind == VKL_GATE_AFFINE || activation->kind == VKL_GATE_SCALED_TANH) && activation->alpha == 0 &&
                activation->beta == 0)
                return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                                "vkl_rnn_create: activations[%d][%d] is %s, whose alpha and beta must be given; both are 0",
                                direction, role, activation->kind == VKL_GATE_AFFINE ? "affine" : "scaled tanh");
        }
    return VKL_OK;
}

static VklStatus check_options(VklContext *context, const VklRnnDesc *desc)
{
    static const char *const cells[] = {"LSTM", "GRU", "RNN", "RNN"};
    const struct {
        const char *name;
        int value, last;
    } kinds[] = {{"cell", (int)desc->cell, VKL_CELL_RNN_RELU},
                 {"direction", (int)desc->direction, VKL_DIRECTION_BOTH},
                 {"merge", (int)desc->merge, VKL_MERGE_SUM},
                 {"bias", (int)desc->bias, VKL_BIAS_NONE},
                 {"recurrent_dropout_mode", (int)desc->recurrent_dropout_mode, VKL_RECURRENT_DROPOUT_PER_GATE},
                 {"storage", (int)desc->storage, VKL_STORAGE_FLOAT16},
                 {"path", (int)desc->path, (int)PATHS - 1}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
        if (kinds[i].value < 0 || kinds[i].value > kinds[i].last)
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: %s is %d; it must be from 0 to %d", kinds[i].name,
                            kinds[i].value, kinds[i].last);
    const struct {
        const char *name;
        double value;
        bool of_lstm, most_one;
    } numbers[] = {{"projection", (double)desc->projection, true, false},
                   {"peephole", desc->peephole, true, false},
                   {"input_forget", desc->input_forget, true, false},
                   {"cell_clip", (double)desc->cell_clip, true, false},
                   {"preact_clip", (double)desc->preact_clip, false, false},
                   {"input_dropout", (double)desc->input_dropout, false, true},
                   {"dropout", (double)desc->dropout, false, true},
                   {"recurrent_dropout", (double)desc->recurrent_dropout, false, true}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (!(numbers[i].value >= 0) || !isfinite(numbers[i].value) || (numbers[i].most_one && numbers[i].value > 1))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: %s is %g; it must be %s", numbers[i].name,
                            numbers[i].value, numbers[i].most_one ? "from 0 to 1" : "finite and at least 0");
        if (numbers[i].of_lstm && numbers[i].value > 0 && desc->cell != VKL_CELL_LSTM)
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: %s is %g, but the cell is %s; only LSTM has it",
                            numbers[i].name, numbers[i].value, cells[desc->cell]);
    }
    if (!desc->reset_after && desc->cell != VKL_CELL_GRU)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_rnn_create: reset_after is false, but the cell is %s; only GRU has it", cells[desc->cell]);
    if (desc->skip_input && desc->input_size != desc->hidden_size)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_rnn_create: skip_input needs input_size %llu to be hidden_size %llu, to which it is added",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->hidden_size);
    return check_activations(context, desc);
}

static VklStatus check_desc(VklDevice *device, const VklRnnDesc *desc)
{
    VklContext *context = device->context;
    VklRnnSizes sizes;
    if (desc->struct_size != sizeof(*desc))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: struct_size is %zu; it must be %zu", desc->struct_size,
                        sizeof(*desc));
    if (!desc->input_size || !desc->hidden_size || !desc->layers)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_rnn_create: input_size is %llu, hidden_size %llu, layers %llu; each must be at least 1",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->hidden_size,
                        (unsigned long long)desc->layers);
    VklStatus status = check_options(context, desc);
    if (status)
        return status;
    if (desc->layers > UINT32_MAX / 16) /* tensors are counted in 32 bits */
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT, "vkl_rnn_create: layers is %llu; at most %u are possible",
                        (unsigned long long)desc->layers, UINT32_MAX / 16);
    if (!vkl_rnn_measure(desc, 0, 0, &sizes))
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT,
                        "vkl_rnn_create: the parameters of input_size %llu, hidden_size %llu, layers %llu do not fit 63 bits",
                        (unsigned long long)desc->input_size, (unsigned long long)desc->hidden_size,
                        (unsigned long long)desc->layers);
    return VKL_OK;
}

static VklStatus is_null(VklRnn *rnn, const char *call, const char *what)
{
    return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: %s is NULL", call, what);
}

VklStatus vkl_rnn_create(VklDevice *device, const VklRnnDesc *desc, VklRnn **rnn)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!rnn || !desc)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_rnn_create: %s is NULL", rnn ? "desc" : "rnn");
    VklStatus status = check_desc(device, desc);
    if (status)
        return status;
    VklRnn *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
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
    vkl_release(rnn);
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
    VklStatus status = sizes ? measure(rnn, "vkl_rnn_sizes", T, N, &made) : is_null(rnn, "vkl_rnn_sizes", "sizes");
    if (!status)
        *sizes = made;
    return status;
}

/* ---- Parameters ---- */

typedef enum Tensor { WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, WEIGHT_HR, WEIGHT_CH, TENSORS } Tensor;

/* A canonical tensor: what it is, its shape, and where it begins in the packed buffer. */
typedef struct Found {
    Tensor tensor;
    uint64_t layer, direction, rows, columns, at;
} Found;

static uint64_t place_of(const VklRnnPlace *place, Tensor tensor)
{
    const uint64_t at[TENSORS] = {place->w_ih, place->w_hh, place->b_ih, place->b_hh, place->w_hr, place->peephole};
    return at[tensor];
}

static uint32_t tensors_of(const VklRnnDesc *desc, uint64_t layer)
{
    VklRnnPlace place;
    uint32_t count = 0;
    vkl_rnn_place(desc, layer, 0, &place);
    for (int tensor = 0; tensor < TENSORS; tensor++)
        count += place_of(&place, (Tensor)tensor) != UINT64_MAX;
    return count;
}

uint32_t vkl_rnn_param_count(const VklRnn *rnn)
{
    VklRnnForm form = vkl_rnn_form(&rnn->desc);
    return (uint32_t)form.D * (tensors_of(&rnn->desc, 0) + (uint32_t)(rnn->desc.layers - 1) * tensors_of(&rnn->desc, 1));
}

static VklStatus find(VklRnn *rnn, const char *call, uint32_t index, Found *found)
{
    const VklRnnDesc *desc = &rnn->desc;
    VklRnnForm form = vkl_rnn_form(desc);
    uint64_t first = form.D * tensors_of(desc, 0), others = form.D * tensors_of(desc, 1), left = index;
    if (index >= vkl_rnn_param_count(rnn))
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: index is %u; there are %u tensors", call,
                        index, vkl_rnn_param_count(rnn));
    *found = (Found){.layer = left < first ? 0 : 1 + (left - first) / others};
    left = left < first ? left : (left - first) % others;
    uint64_t each = (found->layer ? others : first) / form.D;
    found->direction = left / each;
    left %= each;
    VklRnnPlace place;
    vkl_rnn_place(desc, found->layer, found->direction, &place);
    for (int tensor = 0; tensor < TENSORS; tensor++) {
        found->tensor = (Tensor)tensor;
        found->at = place_of(&place, found->tensor);
        if (found->at != UINT64_MAX && left-- == 0)
            break;
    }
    found->rows = found->tensor == WEIGHT_HR ? form.P : found->tensor == WEIGHT_CH ? 3 : form.columns;
    found->columns = found->tensor == WEIGHT_IH                             ? place.inputs
                     : found->tensor == WEIGHT_HH                           ? form.P
                     : found->tensor == BIAS_IH || found->tensor == BIAS_HH ? 1
                                                                            : desc->hidden_size;
    return VKL_OK;
}

VklStatus vkl_rnn_param_info(VklRnn *rnn, uint32_t index, VklParamInfo *info)
{
    static const char *const names[TENSORS] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_ch"};
    Found found;
    VklStatus status = info ? find(rnn, "vkl_rnn_param_info", index, &found) : is_null(rnn, "vkl_rnn_param_info", "info");
    if (status)
        return status;
    VklParamInfo made = {.rank = found.columns == 1 && (found.tensor == BIAS_IH || found.tensor == BIAS_HH) ? 1 : 2,
                         .shape = {found.rows, found.columns}};
    snprintf(made.name, sizeof(made.name), "%s_l%llu%s", names[found.tensor], (unsigned long long)found.layer,
             found.direction ? "_reverse" : "");
    *info = made;
    return VKL_OK;
}

/* The column of row (gate, unit) of a weight in the packed matrix, see plan_rnn.h. */
static uint64_t packed_column(const VklRnnForm *form, uint64_t H, Tensor tensor, uint64_t gate, uint64_t unit)
{
    bool x_order = tensor == WEIGHT_IH || tensor == BIAS_IH || form->gru_before;
    if (form->gates == 3) /* GRU: r z n -> n r z where the columns are those of x */
        return (x_order ? (gate + 1) % 3 : gate) * H + unit;
    return unit * form->unit_stride + gate * form->gate_stride;
}

/* Element of the packed tensor for a canonical row and column. */
static uint64_t packed_at(const VklRnn *rnn, const VklRnnForm *form, const Found *found, uint64_t row, uint64_t column)
{
    uint64_t H = rnn->desc.hidden_size;
    if (found->tensor == WEIGHT_HR)
        return column * form->P + row;
    if (found->tensor == WEIGHT_CH)
        return row * H + column;
    return column * form->columns + packed_column(form, H, found->tensor, row / H, row % H);
}

VklStatus vkl_rnn_pack(VklRnn *rnn, uint32_t index, const float *canonical, float *packed)
{
    Found found;
    VklStatus status = canonical && packed ? find(rnn, "vkl_rnn_pack", index, &found)
                                           : is_null(rnn, "vkl_rnn_pack", canonical ? "packed" : "canonical");
    if (status)
        return status;
    VklRnnForm form = vkl_rnn_form(&rnn->desc);
    for (uint64_t row = 0; row < found.rows; row++)
        for (uint64_t column = 0; column < found.columns; column++)
            packed[found.at + packed_at(rnn, &form, &found, row, column)] = canonical[row * found.columns + column];
    return VKL_OK;
}

VklStatus vkl_rnn_unpack(VklRnn *rnn, uint32_t index, const float *packed, float *canonical)
{
    Found found;
    VklStatus status = canonical && packed ? find(rnn, "vkl_rnn_unpack", index, &found)
                                           : is_null(rnn, "vkl_rnn_unpack", canonical ? "packed" : "canonical");
    if (status)
        return status;
    VklRnnForm form = vkl_rnn_form(&rnn->desc);
    for (uint64_t row = 0; row < found.rows; row++)
        for (uint64_t column = 0; column < found.columns; column++)
            canonical[row * found.columns + column] = packed[found.at + packed_at(rnn, &form, &found, row, column)];
    return VKL_OK;
}

static VklStatus init_tensor(const VklRnn *rnn, const Found *found, uint64_t seed, float *tensor)
{
    switch (found->tensor) {
    case WEIGHT_IH:
    case WEIGHT_HR:
        vkl_init_glorot(tensor, found->rows, found->columns, seed);
        return VKL_OK;
    case WEIGHT_HH:
        return vkl_init_orthogonal(rnn->device->caps.memory, tensor, found->rows, found->columns, seed) ? VKL_OK
                                                                                                        : VKL_ERROR_HOST_MEMORY;
    default:
        for (uint64_t i = 0; i < found->rows * found->columns; i++)
            tensor[i] = 0;
    }
    uint64_t H = rnn->desc.hidden_size;
    for (uint64_t unit = 0; unit < H && rnn->desc.cell == VKL_CELL_LSTM && found->tensor == BIAS_IH; unit++)
        tensor[H + unit] = 1; /* the forget gate's b_if */
    return VKL_OK;
}

VklStatus vkl_rnn_init(VklRnn *rnn, uint64_t seed, float *packed)
{
    if (!packed)
        return is_null(rnn, "vkl_rnn_init", "packed");
    VklRnnForm form = vkl_rnn_form(&rnn->desc);
    VklRnnSizes sizes;
    uint64_t largest = 0;
    Found found;
    vkl_rnn_measure(&rnn->desc, 0, 0, &sizes);
    for (uint32_t index = 0; index < vkl_rnn_param_count(rnn) && index < 2 * form.D * TENSORS; index++)
        if (!find(rnn, "vkl_rnn_init", index, &found) && found.rows * found.columns > largest)
            largest = found.rows * found.columns;
    float *tensor = sizes.params <= SIZE_MAX ? vkl_allocate(rnn->device->caps.memory, largest, sizeof(float)) : NULL;
    VklStatus status = tensor ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    if (tensor)
        memset(packed, 0, (size_t)sizes.params); /* padding */
    for (uint32_t index = 0; index < vkl_rnn_param_count(rnn) && !status; index++) {
        status = find(rnn, "vkl_rnn_init", index, &found);
        status = status ? status : init_tensor(rnn, &found, vkl_seed_part(seed, index), tensor);
        if (!status)
            vkl_rnn_pack(rnn, index, tensor, packed);
    }
    vkl_release(tensor);
    if (status)
        vkl_fail(rnn->device->context, &rnn->error, status, "vkl_rnn_init: the host refused memory for tensors of %llu numbers",
                 (unsigned long long)largest);
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
    uint64_t backward, agents, T, N, accumulate, seed, offset, first_row, first_step;
    struct {
        uint64_t id, offset;
    } slots[VKL_SLOT_COUNT];
} Call;

typedef struct Bound {
    VklRnnDesc desc; /* of a step, whose layout is plainer */
    VklRnnPass pass;
    VklSlice slots[VKL_SLOT_COUNT];
} Bound;

static VklArray bind(Bound *bound, VklSlot slot, VklSlice slice)
{
    bound->slots[slot] = slice;
    return slice.buffer ? vkl_array(slot, 0) : VKL_NO_ARRAY;
}

static void bind_dropout(VklRnnPass *pass, const VklDropout *dropout)
{
    pass->seed = dropout->seed;
    pass->offset = (uint32_t)dropout->offset;
    pass->first_row = dropout->first_row;
    pass->first_step = dropout->first_step;
    pass->state = VKL_NO_ARRAY;
}

/* Cell states belong to LSTM alone: with another cell nothing would read or write them. */
static VklStatus refuse_cell_states(VklRnn *rnn, const char *call, const char *first, VklSlice a, const char *second, VklSlice b)
{
    if (rnn->desc.cell == VKL_CELL_LSTM || (!a.buffer && !b.buffer))
        return VKL_OK;
    return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: %s is given, but only LSTM has a cell state", call,
                    a.buffer ? first : second);
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
    VklStatus status = vkl_check_struct(rnn->device->context, &rnn->error, call, "args", args, sizeof(*args));
    status = status ? status : measure(rnn, call, args->T, args->N, &sizes);
    status = status ? status : require(rnn, call, VKL_SLOT_PARAMS, args->params);
    status = status ? status : require(rnn, call, VKL_SLOT_X, args->x);
    status = status ? status : refuse_cell_states(rnn, call, "c0", args->c0, "cn", args->cn);
    if (!status && !args->reserve.buffer)
        status = require(rnn, call, VKL_SLOT_WORKSPACE, args->workspace);
    if (status)
        return status;
    *bound = (Bound){.pass = {.desc = &rnn->desc, .T = args->T, .N = args->N, .training = args->reserve.buffer != NULL}};
    VklRnnPass *pass = &bound->pass;
    bind_dropout(pass, &args->dropout);
    pass->lengths = bind(bound, VKL_SLOT_LENGTHS, args->lengths);
    pass->params = bind(bound, VKL_SLOT_PARAMS, args->params);
    pass->x = bind(bound, VKL_SLOT_X, args->x);
    pass->h0 = bind(bound, VKL_SLOT_H0, args->h0);
    pass->c0 = bind(bound, VKL_SLOT_C0, args->c0);
    pass->y = bind(bound, VKL_SLOT_Y, args->y);
    pass->hn = bind(bound, VKL_SLOT_HN, args->hn);
    pass->cn = bind(bound, VKL_SLOT_CN, args->cn);
    pass->reserve = bind(bound, VKL_SLOT_RESERVE, args->reserve);
    bound->slots[VKL_SLOT_WORKSPACE] = args->workspace; /* refused later if it is used and absent */
    pass->workspace = vkl_array(VKL_SLOT_WORKSPACE, 0);
    return VKL_OK;
}

static VklStatus bind_backward(VklRnn *rnn, const char *call, const VklRnnBackward *args, Bound *bound)
{
    VklRnnSizes sizes;
    VklStatus status = vkl_check_struct(rnn->device->context, &rnn->error, call, "args", args, sizeof(*args));
    status = status ? status : measure(rnn, call, args->T, args->N, &sizes);
    status = status ? status : require(rnn, call, VKL_SLOT_PARAMS, args->params);
    status = status ? status : require(rnn, call, VKL_SLOT_X, args->x);
    status = status ? status : refuse_cell_states(rnn, call, "gcn", args->gcn, "dc0", args->dc0);
    status = status ? status : require(rnn, call, VKL_SLOT_RESERVE, args->reserve);
    status = status ? status : require(rnn, call, VKL_SLOT_WORKSPACE, args->workspace);
    if (status)
        return status;
    *bound = (Bound){.pass = {.desc = &rnn->desc, .T = args->T, .N = args->N, .training = true, .accumulate = args->accumulate}};
    VklRnnPass *pass = &bound->pass;
    bind_dropout(pass, &args->dropout);
    pass->h0 = pass->c0 = pass->y = pass->hn = pass->cn = VKL_NO_ARRAY;
    pass->lengths = bind(bound, VKL_SLOT_LENGTHS, args->lengths);
    pass->params = bind(bound, VKL_SLOT_PARAMS, args->params);
    pass->x = bind(bound, VKL_SLOT_X, args->x);
    pass->reserve = bind(bound, VKL_SLOT_RESERVE, args->reserve);
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
    if (bound->pass.agents)
        vkl_plan_rnn_agents(&plan, &bound->pass);
    else if (backward)
        vkl_plan_rnn_backward(&plan, &bound->pass);
    else
        vkl_plan_rnn_forward(&plan, &bound->pass);
    return vkl_exec_create(rnn->device, &plan, bound->slots, call, &rnn->error, exec);
}

static VklStatus record(VklRnn *rnn, const char *call, VklStream *stream, const Bound *bound, bool backward)
{
    if (!stream || stream->device != rnn->device)
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_INVALID, "%s: stream %s", call,
                        stream ? "belongs to another device" : "is NULL");
    Call key;
    memset(&key, 0, sizeof(key));
    key.backward = backward;
    key.agents = bound->pass.agents;
    key.T = bound->pass.T;
    key.N = bound->pass.N;
    key.accumulate = bound->pass.accumulate;
    key.seed = bound->pass.seed;
    key.offset = bound->pass.offset;
    key.first_row = bound->pass.first_row;
    key.first_step = bound->pass.first_step;
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++)
        if (bound->slots[slot].buffer) {
            key.slots[slot].id = vkl_buffer_key(rnn->device, bound->slots[slot].buffer);
            key.slots[slot].offset = bound->slots[slot].offset;
        }
    VklExec *exec = vkl_exec_cache_find(rnn->device->context, &rnn->cache, &key, sizeof(key));
    if (!exec) {
        VklStatus status = prepare(rnn, call, bound, backward, &exec);
        if (status)
            return status;
        vkl_exec_cache_add(rnn->device->context, &rnn->cache, &key, sizeof(key), exec);
    }
    VklStatus status = vkl_exec_record(exec, stream);
    vkl_exec_release(exec);
    return status ? vkl_fail_again(&rnn->error, status) : VKL_OK;
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

/* ---- A step of agents ---- */

VklRnnStep vkl_rnn_step_args(uint64_t N)
{
    VklRnnStep args = {.struct_size = sizeof(args)};
    args.N = N;
    return args;
}

/* What is the same for every call: a pass over one time step without what only longer ones, or training, have. */
static VklStatus begin_step(VklRnn *rnn, const char *call, uint64_t N, Bound *bound, VklRnnSizes *sizes)
{
    static const char *const directions[] = {"forward", "reverse", "both"};
    if (rnn->desc.direction != VKL_DIRECTION_FORWARD)
        return vkl_fail(rnn->device->context, &rnn->error, VKL_ERROR_UNSUPPORTED,
                        "%s: direction is %s; a single step has no time to go back in, and needs forward", call,
                        directions[rnn->desc.direction]);
    if (!N || N > UINT32_MAX)
        return vkl_fail(rnn->device->context, &rnn->error, N ? VKL_ERROR_LIMIT : VKL_ERROR_INVALID,
                        "%s: N is %llu; it must be from 1 to %u", call, (unsigned long long)N, UINT32_MAX);
    *bound = (Bound){.desc = rnn->desc};
    bound->desc.batch_first = bound->desc.last_only = bound->desc.recompute = false;
    bound->pass = (VklRnnPass){.T = 1, .N = N, .agents = true};
    VklRnnPass *pass = &bound->pass;
    pass->desc = &bound->desc;
    pass->lengths = pass->h0 = pass->c0 = pass->hn = pass->cn = pass->reserve = pass->state = VKL_NO_ARRAY;
    return measure(rnn, call, 1, N, sizes);
}

VklStatus vkl_rnn_step_sizes(VklRnn *rnn, uint64_t N, VklRnnSizes *sizes)
{
    const char *call = "vkl_rnn_step_sizes";
    Bound bound;
    VklRnnSizes all;
    VklStatus status = sizes ? begin_step(rnn, call, N, &bound, &all) : is_null(rnn, call, "sizes");
    if (status)
        return status;
    VklRnnPass *pass = &bound.pass;
    pass->params = vkl_array(VKL_SLOT_PARAMS, 0);
    pass->x = vkl_array(VKL_SLOT_X, 0);
    pass->y = vkl_array(VKL_SLOT_Y, 0);
    pass->h = vkl_array(VKL_SLOT_H, 0);
    pass->c = vkl_array(VKL_SLOT_C, 0);
    pass->reset = vkl_array(VKL_SLOT_RESET, 0);
    pass->count = vkl_array(VKL_SLOT_AGENTS, 0);
    pass->workspace = vkl_array(VKL_SLOT_WORKSPACE, 0);
    VklPlan plan; /* how much memory its ops and their dispatches take is known once they are there */
    vkl_plan_init(&plan, &rnn->device->caps);
    vkl_plan_rnn_agents(&plan, pass);
    status = plan.status;
    if (status)
        vkl_fail(rnn->device->context, &rnn->error, status, "%s: %s", call, plan.error);
    else
        *sizes = (VklRnnSizes){.params = all.params,
                               .state = all.state,
                               .cell_state = all.cell_state,
                               .y = all.y,
                               .forward_workspace = plan.slot_size[VKL_SLOT_WORKSPACE]};
    vkl_plan_finish(&plan);
    return status;
}

static VklStatus bind_step(VklRnn *rnn, const char *call, const VklRnnStep *args, Bound *bound)
{
    VklRnnSizes sizes;
    VklStatus status = vkl_check_struct(rnn->device->context, &rnn->error, call, "args", args, sizeof(*args));
    status = status ? status : begin_step(rnn, call, args->N, bound, &sizes);
    status = status ? status : require(rnn, call, VKL_SLOT_PARAMS, args->params);
    status = status ? status : require(rnn, call, VKL_SLOT_X, args->x);
    status = status ? status : require(rnn, call, VKL_SLOT_H, args->h);
    status = status ? status : require(rnn, call, VKL_SLOT_WORKSPACE, args->workspace);
    if (!status && rnn->desc.cell == VKL_CELL_LSTM)
        status = require(rnn, call, VKL_SLOT_C, args->c);
    status = status ? status : refuse_cell_states(rnn, call, "c", args->c, "c", args->c);
    if (status)
        return status;
    VklRnnPass *pass = &bound->pass;
    pass->params = bind(bound, VKL_SLOT_PARAMS, args->params);
    pass->x = bind(bound, VKL_SLOT_X, args->x);
    pass->h = bind(bound, VKL_SLOT_H, args->h);
    pass->c = bind(bound, VKL_SLOT_C, args->c);
    pass->y = bind(bound, VKL_SLOT_Y, args->y);
    pass->reset = bind(bound, VKL_SLOT_RESET, args->reset);
    pass->count = bind(bound, VKL_SLOT_AGENTS, args->count);
    pass->workspace = bind(bound, VKL_SLOT_WORKSPACE, args->workspace);
    return VKL_OK;
}

VklStatus vkl_rnn_step(VklRnn *rnn, VklStream *stream, const VklRnnStep *args)
{
    Bound bound;
    VklStatus status = bind_step(rnn, "vkl_rnn_step", args, &bound);
    return status ? status : record(rnn, "vkl_rnn_step", stream, &bound, false);
}

VklStatus vkl_rnn_prepare_step(VklRnn *rnn, const VklRnnStep *args, VklExec **exec)
{
    Bound bound;
    VklStatus status = bind_step(rnn, "vkl_rnn_prepare_step", args, &bound);
    return status ? status : prepare(rnn, "vkl_rnn_prepare_step", &bound, false, exec);
}

/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "init.h"

VklLayerDesc vkl_layer_lstm(uint64_t units)
{
    return (VklLayerDesc){.kind = VKL_LAYER_LSTM, .units = units};
}

VklLayerDesc vkl_layer_gru(uint64_t units)
{
    return (VklLayerDesc){.kind = VKL_LAYER_GRU, .units = units};
}

VklLayerDesc vkl_layer_rnn(uint64_t units)
{
    return (VklLayerDesc){.kind = VKL_LAYER_RNN, .units = units};
}

VklLayerDesc vkl_layer_dense(uint64_t units, VklActivation activation)
{
    return (VklLayerDesc){.kind = VKL_LAYER_DENSE, .activation = activation, .units = units};
}

VklLayerDesc vkl_layer_dropout(double rate)
{
    return (VklLayerDesc){.kind = VKL_LAYER_DROPOUT, .rate = rate};
}

/* ---- Kinds ---- */

static const struct {
    const char *name;
    VklCell cell;
    bool recurrent;
} kinds[] = {
    [VKL_LAYER_LSTM] = {"lstm", VKL_CELL_LSTM, true},
    [VKL_LAYER_DENSE] = {"dense", VKL_CELL_LSTM, false},
    [VKL_LAYER_GRU] = {"gru", VKL_CELL_GRU, true},
    [VKL_LAYER_RNN] = {"rnn", VKL_CELL_RNN_TANH, true},
    [VKL_LAYER_RNN_RELU] = {"rnn_relu", VKL_CELL_RNN_RELU, true},
    [VKL_LAYER_DROPOUT] = {"dropout", VKL_CELL_LSTM, false},
};
#define KINDS (sizeof(kinds) / sizeof(*kinds))

const char *vkl_layer_name(VklLayerKind kind)
{
    return kinds[kind].name;
}

bool vkl_layer_kind(const char *name, VklLayerKind *kind)
{
    for (size_t i = 0; i < KINDS; i++)
        if (!strcmp(name, kinds[i].name)) {
            *kind = (VklLayerKind)i;
            return true;
        }
    return false;
}

static VklRnnDesc rnn_of(const VklLayerDesc *layer, uint64_t inputs)
{
    VklRnnDesc desc = vkl_rnn_desc(kinds[layer->kind].cell, inputs, layer->units);
    desc.direction = layer->both ? VKL_DIRECTION_BOTH : VKL_DIRECTION_FORWARD;
    desc.projection = layer->projection;
    desc.path = layer->path;
    desc.storage = layer->storage;
    return desc;
}

bool vkl_layer_size(const VklLayerDesc *layer, uint64_t inputs, uint64_t *numbers, uint64_t *outputs)
{
    *numbers = 0;
    *outputs = inputs;
    if (layer->kind == VKL_LAYER_DROPOUT)
        return true;
    *outputs = layer->units;
    if (layer->kind == VKL_LAYER_DENSE) {
        VklDenseDesc desc = vkl_dense_desc(inputs, layer->units, layer->activation);
        bool fits = vkl_dense_measure(&desc, 1);
        *numbers = fits ? vkl_dense_floats(&desc) : 0;
        return fits;
    }
    VklRnnDesc desc = rnn_of(layer, inputs);
    VklRnnSizes sizes;
    if (!vkl_rnn_measure(&desc, 0, 0, &sizes))
        return false;
    *numbers = sizes.params / 4;
    *outputs = vkl_rnn_form(&desc).W;
    return true;
}

/* ---- Text ---- */

/* A whole number from 1 on and nothing behind it. */
static bool read_count(const char *text, uint64_t *count)
{
    char *end;
    unsigned long long value = isdigit((unsigned char)*text) ? strtoull(text, &end, 10) : 0;
    if (!value || *end || value > INT64_MAX)
        return false;
    *count = value;
    return true;
}

/* A rate in decimal digits, whatever the locale: "0.2", "1". */
static bool read_rate(const char *text, double *rate)
{
    double value = 0, scale = 1;
    bool point = false, digits = false;
    for (; *text; text++) {
        if (*text == '.' && !point) {
            point = true;
        } else if (isdigit((unsigned char)*text)) {
            value = value * 10 + (*text - '0');
            scale *= point ? 10 : 1;
            digits = true;
        } else {
            return false;
        }
    }
    *rate = value / scale;
    return digits && *rate <= 1;
}

/* What stands behind a recurrent layer: its path, @half, or both. */
static VklStatus parse_suffixes(VklContext *context, const char *piece, char *at, VklLayerDesc *layer)
{
    while (at) {
        char *next = strchr(at, '@');
        if (next)
            *next++ = 0;
        if (kinds[layer->kind].recurrent && !strcmp(at, "half"))
            layer->storage = VKL_STORAGE_FLOAT16;
        else if (!kinds[layer->kind].recurrent || !vkl_rnn_path(at, &layer->path))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                            "layer '%.60s': '@%.20s' is no path of a recurrent layer: auto, pieces, step, sequence; nor @half",
                            piece, at);
        at = next;
    }
    return VKL_OK;
}

/* `piece` loses what stands behind it after an @. */
static VklStatus parse_layer(VklContext *context, char *piece, VklLayerDesc *layer)
{
    char name[16] = "", first[24] = "", second[24] = "", extra = 0, *at = strchr(piece, '@');
    if (at)
        *at++ = 0;
    int fields = sscanf(piece, "%15[^:]:%23[^:]:%23[^:]%c", name, first, second, &extra);
    bool both = !strncmp(name, "bi", 2), tail = !*piece || piece[strlen(piece) - 1] == ':';
    VklLayerDesc made = {.both = both};
    if (!vkl_layer_kind(both ? name + 2 : name, &made.kind) || (both && !kinds[made.kind].recurrent))
        return vkl_fail(
            context, NULL, VKL_ERROR_INVALID,
            "layer '%.60s': the kind '%s' is none of lstm, gru, rnn, rnn_relu, bilstm, bigru, birnn, birnn_relu, dense, dropout",
            piece, name);
    if (made.kind == VKL_LAYER_DROPOUT) {
        if (fields != 2 || tail || !read_rate(first, &made.rate))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "layer '%.60s': dropout takes one rate from 0 to 1", piece);
    } else if (fields < 2 || !read_count(first, &made.units)) {
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "layer '%.60s': '%s' is no number of units; one from 1 on is needed",
                        piece, first);
    } else if (made.kind == VKL_LAYER_DENSE) {
        if (fields > 3 || tail || (fields == 3 && !vkl_activation(second, &made.activation)))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                            "layer '%.60s': the activation is none of none, tanh, sigmoid, relu", piece);
    } else if (made.kind == VKL_LAYER_LSTM) {
        if (fields > 3 || tail || (fields == 3 && !read_count(second, &made.projection)))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                            "layer '%.60s': '%s' is no size of a projection; a number from 1 on, or nothing, is needed", piece,
                            second);
    } else if (fields > 2 || tail) {
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "layer '%.60s': a %s layer takes a number of units alone", piece,
                        kinds[made.kind].name);
    }
    VklStatus status = parse_suffixes(context, piece, at, &made);
    if (!status)
        *layer = made;
    return status;
}

VklStatus vkl_layers_parse(VklContext *context, const char *text, VklLayerDesc *layers, uint32_t *count)
{
    if (!context)
        return VKL_ERROR_INVALID;
    if (!text || !count || !layers)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_layers_parse: %s is NULL",
                        !text     ? "text"
                        : !layers ? "layers"
                                  : "count");
    uint32_t found = 0;
    for (const char *at = text;; at++) {
        const char *comma = strchr(at, ',');
        size_t length = comma ? (size_t)(comma - at) : strlen(at);
        char piece[64];
        VklLayerDesc layer;
        if (!length || length >= sizeof(piece))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "layers '%.100s': layer %u is %s", text, found + 1,
                            length ? "too long" : "empty");
        memcpy(piece, at, length);
        piece[length] = 0;
        VklStatus status = parse_layer(context, piece, &layer);
        if (status)
            return status;
        if (found < *count)
            layers[found] = layer;
        found++;
        if (!comma)
            break;
        at = comma;
    }
    uint32_t room = *count;
    *count = found;
    if (found > room)
        return vkl_fail(context, NULL, VKL_ERROR_LIMIT, "layers '%.100s': there are %u layers; there is room for %u", text, found,
                        room);
    return VKL_OK;
}

/* ---- Creation ---- */

static VklStatus check_layer(VklContext *context, uint32_t index, const VklLayerDesc *layer)
{
    if ((int)layer->kind < 0 || layer->kind >= KINDS)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u: kind %d is none of VklLayerKind", index,
                        (int)layer->kind);
    if (layer->kind == VKL_LAYER_DROPOUT) {
        if (!(layer->rate >= 0 && layer->rate <= 1))
            return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u: rate is %g; it must be from 0 to 1",
                            index, layer->rate);
        return VKL_OK;
    }
    if (!layer->units)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u has 0 units; at least 1 is needed", index);
    if ((int)layer->storage < 0 || layer->storage > VKL_STORAGE_FLOAT16 || (layer->storage && !kinds[layer->kind].recurrent))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u: a %s layer has no storage %d", index,
                        kinds[layer->kind].name, (int)layer->storage);
    if (layer->path && !kinds[layer->kind].recurrent)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u: a %s layer has no path", index,
                        kinds[layer->kind].name);
    if (layer->both && !kinds[layer->kind].recurrent)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layer %u: a %s layer has no second direction", index,
                        kinds[layer->kind].name);
    if (layer->projection && layer->kind != VKL_LAYER_LSTM)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_model_create: layer %u: projection is %llu, but the kind is %s; only lstm has it", index,
                        (unsigned long long)layer->projection, kinds[layer->kind].name);
    return VKL_OK;
}

static VklStatus check_layers(VklContext *context, uint64_t features, const VklLayerDesc *layers, uint32_t count,
                              uint32_t *last_recurrent)
{
    bool recurrent = false;
    if (!layers)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: layers is NULL");
    if (!features || !count)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID,
                        "vkl_model_create: features is %llu, count of layers %u; each must be at least 1",
                        (unsigned long long)features, count);
    for (uint32_t i = 0; i < count; i++) {
        VklStatus status = check_layer(context, i, &layers[i]);
        if (status)
            return status;
        if (kinds[layers[i].kind].recurrent) {
            recurrent = true;
            *last_recurrent = i;
        }
    }
    if (!recurrent)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_create: none of the %u layers is recurrent; one must be",
                        count);
    return VKL_OK;
}

static VklStatus create_layer(VklModel *model, uint32_t index, uint32_t last_recurrent, uint64_t inputs)
{
    VklNetworkLayer *layer = &model->network.layers[index];
    layer->desc = model->descs[index];
    layer->inputs = inputs;
    layer->params = model->network.params;
    layer->sequence_in = index <= last_recurrent;
    layer->sequence_out = index < last_recurrent;
    uint64_t numbers;
    VklStatus status = VKL_OK;
    if (kinds[layer->desc.kind].recurrent) {
        layer->rnn = rnn_of(&layer->desc, inputs);
        layer->rnn.last_only = index == last_recurrent;
        status = vkl_rnn_create(model->device, &layer->rnn, &model->rnns[index]);
    } else if (layer->desc.kind == VKL_LAYER_DENSE) {
        layer->dense = vkl_dense_desc(inputs, layer->desc.units, layer->desc.activation);
        status = vkl_dense_create(model->device, &layer->dense, &model->denses[index]);
    }
    if (!status && (!vkl_layer_size(&layer->desc, inputs, &numbers, &layer->outputs) ||
                    !vkl_add(model->network.params, numbers, &model->network.params)))
        status = vkl_fail(model->device->context, NULL, VKL_ERROR_LIMIT, "vkl_model_create: the parameters do not fit 63 bits");
    return status;
}

static VklStatus initialise(VklModel *model, uint64_t seed)
{
    uint64_t params = model->network.params;
    if (!(model->mirror = vkl_allocate(model->device->caps.memory, params, sizeof(float))))
        return vkl_fail(model->device->context, NULL, VKL_ERROR_HOST_MEMORY,
                        "vkl_model_create: the host refused memory for %llu parameters", (unsigned long long)params);
    VklStatus status = VKL_OK;
    for (uint32_t i = 0; i < model->network.count && !status; i++) {
        float *packed = model->mirror + model->network.layers[i].params;
        if (model->rnns[i])
            status = vkl_rnn_init(model->rnns[i], vkl_seed_part(seed, i), packed);
        else if (model->denses[i])
            status = vkl_dense_init(model->denses[i], vkl_seed_part(seed, i), packed);
    }
    if (!status)
        status = vkl_buffer_create(model->device, VKL_BUFFER_DEVICE, 4 * params, &model->params);
    if (!status)
        status = vkl_stream_create(model->device, &model->stream);
    model->mirror_valid = model->mirror_newer = true;
    return status ? status : vkl_model_sync(model);
}

VklStatus vkl_model_create(VklDevice *device, uint64_t features, const VklLayerDesc *layers, uint32_t count, uint64_t seed,
                           VklModel **model)
{
    if (!device)
        return VKL_ERROR_INVALID;
    if (!model)
        return vkl_fail(device->context, NULL, VKL_ERROR_INVALID, "vkl_model_create: model is NULL");
    uint32_t last_recurrent = 0;
    VklStatus status = check_layers(device->context, features, layers, count, &last_recurrent);
    if (status)
        return status;
    VklModel *made = vkl_allocate(device->caps.memory, 1, sizeof(*made));
    if (made) {
        made->device = device;
        made->descs = vkl_allocate(device->caps.memory, count, sizeof(*made->descs));
        made->network.layers = vkl_allocate(device->caps.memory, count, sizeof(*made->network.layers));
        made->rnns = vkl_allocate(device->caps.memory, count, sizeof(*made->rnns));
        made->denses = vkl_allocate(device->caps.memory, count, sizeof(*made->denses));
    }
    if (!made || !made->descs || !made->network.layers || !made->rnns || !made->denses) {
        vkl_model_destroy(made);
        return vkl_fail(device->context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_model_create: the host refused memory for %u layers",
                        count);
    }
    memcpy(made->descs, layers, count * sizeof(*layers));
    made->network.features = features;
    made->network.count = count;
    uint64_t inputs = features;
    for (uint32_t i = 0; i < count && !status; i++) {
        status = create_layer(made, i, last_recurrent, inputs);
        inputs = made->network.layers[i].outputs;
    }
    made->network.outputs = inputs;
    if (!status)
        status = initialise(made, seed);
    if (status)
        vkl_model_destroy(made);
    else
        *model = made;
    return status;
}

void vkl_model_destroy(VklModel *model)
{
    if (!model)
        return;
    vkl_exec_cache_clear(&model->steps);
    vkl_stream_destroy(model->stream);
    vkl_buffer_destroy(model->params);
    for (uint32_t i = 0; i < model->network.count; i++) {
        vkl_rnn_destroy(model->rnns[i]);
        vkl_dense_destroy(model->denses[i]);
    }
    vkl_release(model->rnns);
    vkl_release(model->denses);
    vkl_release(model->network.layers);
    vkl_release(model->descs);
    vkl_release(model->mirror);
    vkl_release(model);
}

/* ---- What it is ---- */

const char *vkl_model_error(const VklModel *model)
{
    return model->error.message;
}

VklError *vkl_model_error_slot(VklModel *model)
{
    return &model->error;
}

VklDevice *vkl_model_device(const VklModel *model)
{
    return model->device;
}

uint64_t vkl_model_features(const VklModel *model)
{
    return model->network.features;
}

uint64_t vkl_model_outputs(const VklModel *model)
{
    return model->network.outputs;
}

const VklLayerDesc *vkl_model_layers(const VklModel *model, uint32_t *count)
{
    *count = model->network.count;
    return model->descs;
}

uint64_t vkl_model_parameters(const VklModel *model)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        if (!vkl_model_tensor_info((VklModel *)model, i, &info))
            total += info.shape[0] * info.shape[1];
    }
    return total;
}

/* ---- Tensors ---- */

static uint32_t tensors_of(const VklModel *model, uint32_t layer)
{
    return model->rnns[layer] ? vkl_rnn_param_count(model->rnns[layer]) : model->denses[layer] ? 2 : 0;
}

uint32_t vkl_model_tensor_count(const VklModel *model)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < model->network.count; i++)
        count += tensors_of(model, i);
    return count;
}

/* The layer that a tensor belongs to, and the tensor's index in it. */
static VklStatus find_tensor(VklModel *model, const char *call, uint32_t index, uint32_t *layer, uint32_t *tensor)
{
    uint32_t left = index;
    for (uint32_t i = 0; i < model->network.count; i++) {
        uint32_t count = tensors_of(model, i);
        if (left < count) {
            *layer = i;
            *tensor = left;
            return VKL_OK;
        }
        left -= count;
    }
    return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: index is %u; there are %u tensors", call,
                    index, vkl_model_tensor_count(model));
}

VklStatus vkl_model_tensor_info(VklModel *model, uint32_t index, VklParamInfo *info)
{
    uint32_t layer = 0, tensor = 0;
    VklParamInfo made;
    VklStatus status = find_tensor(model, "vkl_model_tensor_info", index, &layer, &tensor);
    if (!status && !info)
        status = vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "vkl_model_tensor_info: info is NULL");
    if (!status)
        status = model->rnns[layer] ? vkl_rnn_param_info(model->rnns[layer], tensor, &made)
                                    : vkl_dense_param_info(model->denses[layer], tensor, &made);
    if (status)
        return status;
    *info = made;
    snprintf(info->name, sizeof(info->name), "%u.%s.%.32s", layer, kinds[model->network.layers[layer].desc.kind].name, made.name);
    return VKL_OK;
}

VklStatus vkl_model_sync(VklModel *model)
{
    if (!model->mirror_newer)
        return VKL_OK;
    VklStatus status = vkl_upload(model->stream, vkl_slice(model->params, 0), model->mirror, 4 * model->network.params);
    if (!status)
        model->mirror_newer = false;
    return vkl_model_again(model, status);
}

/* The mirror has what the device has, or newer. */
static VklStatus read_mirror(VklModel *model)
{
    if (model->mirror_valid)
        return VKL_OK;
    VklStatus status = vkl_download(model->stream, vkl_slice(model->params, 0), model->mirror, 4 * model->network.params);
    if (!status)
        model->mirror_valid = true;
    return vkl_model_again(model, status);
}

VklStatus vkl_model_packed(VklModel *model, const float **packed)
{
    VklStatus status = read_mirror(model);
    *packed = model->mirror;
    return status;
}

VklStatus vkl_model_unpack(VklModel *model, uint32_t index, const float *packed, float *data)
{
    uint32_t layer = 0, tensor = 0;
    VklStatus status = find_tensor(model, "vkl_model_get_tensor", index, &layer, &tensor);
    if (status)
        return status;
    packed += model->network.layers[layer].params;
    return model->rnns[layer] ? vkl_rnn_unpack(model->rnns[layer], tensor, packed, data)
                              : vkl_dense_unpack(model->denses[layer], tensor, packed, data);
}

VklStatus vkl_model_pack(VklModel *model, uint32_t index, const float *data, float *packed)
{
    uint32_t layer = 0, tensor = 0;
    VklStatus status = find_tensor(model, "vkl_model_set_tensor", index, &layer, &tensor);
    if (status)
        return status;
    packed += model->network.layers[layer].params;
    return model->rnns[layer] ? vkl_rnn_pack(model->rnns[layer], tensor, data, packed)
                              : vkl_dense_pack(model->denses[layer], tensor, data, packed);
}

VklStatus vkl_model_get_tensor(VklModel *model, uint32_t index, float *data)
{
    if (!data)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "vkl_model_get_tensor: data is NULL");
    VklStatus status = read_mirror(model);
    return status ? status : vkl_model_unpack(model, index, model->mirror, data);
}

VklStatus vkl_model_set_tensor(VklModel *model, uint32_t index, const float *data)
{
    if (!data)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "vkl_model_set_tensor: data is NULL");
    VklStatus status = read_mirror(model);
    if (!status)
        status = vkl_model_pack(model, index, data, model->mirror);
    if (!status)
        model->mirror_newer = true; /* uploaded before the next use, once for all tensors that are set */
    return status;
}

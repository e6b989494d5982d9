/* SPDX-License-Identifier: MIT
 *
 * Models in files: safetensors. docs/model-file.md describes the format; a loader must expect anything in a file.
 */
#include "io.h"

#include <stdio.h>

#include "file.h"
#include "prep.h"

#define FORMAT_VERSION "1"

static const char *const activation_names[] = {
    [VKL_ACTIVATION_NONE] = "none",
    [VKL_ACTIVATION_TANH] = "tanh",
    [VKL_ACTIVATION_SIGMOID] = "sigmoid",
    [VKL_ACTIVATION_RELU] = "relu",
};

void vkl_free(void *data)
{
    vkl_release(data);
}

const char *const vkl_plane_prefix[VKL_PLANES] = {
    [VKL_PLANE_WEIGHTS] = "",           [VKL_PLANE_FIRST] = "fit.first.",
    [VKL_PLANE_SECOND] = "fit.second.", [VKL_PLANE_FINISHED] = "fit.finished.",
    [VKL_PLANE_BEST] = "fit.best.",
};

/* ---- Saving ---- */

json_t *vkl_model_layers_json(const VklModel *model)
{
    uint32_t count = 0;
    const VklLayerDesc *layers = vkl_model_layers(model, &count);
    json_t *list = json_array();
    bool complete = list != NULL;
    for (uint32_t i = 0; i < count && complete; i++) {
        json_t *layer = json_pack("{s:s}", "kind", vkl_layer_name(layers[i].kind));
        complete = layer != NULL;
        if (complete && layers[i].kind == VKL_LAYER_DROPOUT)
            complete = json_object_set_new(layer, "rate", json_real(layers[i].rate)) == 0;
        else if (complete)
            complete = json_object_set_new(layer, "units", json_integer((json_int_t)layers[i].units)) == 0;
        if (complete && layers[i].kind == VKL_LAYER_DENSE)
            complete = json_object_set_new(layer, "activation", json_string(activation_names[layers[i].activation])) == 0;
        if (complete && layers[i].both)
            complete = json_object_set_new(layer, "both", json_true()) == 0;
        if (complete && layers[i].projection)
            complete = json_object_set_new(layer, "projection", json_integer((json_int_t)layers[i].projection)) == 0;
        if (complete && layers[i].storage == VKL_STORAGE_FLOAT16)
            complete = json_object_set_new(layer, "storage", json_string("float16")) == 0;
        complete = json_array_append_new(list, layer) == 0 && complete;
    }
    if (complete)
        return list;
    json_decref(list);
    return NULL;
}

/* The text of "config"; for vkl_release(). NULL: no memory. */
static char *make_config(const VklModel *model, const VklPrep *prep)
{
    json_t *list = vkl_model_layers_json(model);
    char *text = NULL;
    if (list) {
        json_t *config = json_pack("{s:I, s:O, s:o}", "features", (json_int_t)vkl_model_features(model), "layers", list,
                                   "preparation", prep ? vkl_prep_to_json(prep) : json_null());
        if (config)
            text = vkl_json_text(vkl_model_device(model)->caps.memory, config);
        json_decref(config);
    }
    json_decref(list);
    return text;
}

static VklStatus check_prep_fits(VklModel *model, VklError *error, const char *call, const VklPrep *prep)
{
    if (!prep || (vkl_prep_features(prep) == vkl_model_features(model) && vkl_model_outputs(model) == 1))
        return VKL_OK;
    return vkl_fail(vkl_device_context(vkl_model_device(model)), error, VKL_ERROR_INVALID,
                    "%s: the preparation has %llu features and 1 target, the model %llu features and %llu outputs", call,
                    (unsigned long long)vkl_prep_features(prep), (unsigned long long)vkl_model_features(model),
                    (unsigned long long)vkl_model_outputs(model));
}

static json_t *make_metadata(VklModel *model, const VklPrep *prep, const char *fit)
{
    char *config = make_config(model, prep);
    json_t *json = config ? json_pack("{s:s, s:s, s:s}", "format", "vklstm", "version", FORMAT_VERSION, "config", config) : NULL;
    vkl_release(config);
    if (json && fit && json_object_set_new(json, "fit", json_string(fit))) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

/* Names and shapes: those of all tensors under each plane's prefix, then one of losses. */
static VklStatus name_tensors(VklModel *model, const VklModelFile *file, VklTensorPlace *tensors)
{
    uint32_t count = vkl_model_tensor_count(model);
    for (size_t plane = 0; plane < file->plane_count; plane++)
        for (uint32_t i = 0; i < count; i++) {
            VklTensorPlace *tensor = &tensors[plane * count + i];
            VklParamInfo info;
            VklStatus status = vkl_model_tensor_info(model, i, &info);
            if (status)
                return status;
            snprintf(tensor->name, sizeof(tensor->name), "%s%s", vkl_plane_prefix[file->planes[plane].kind], info.name);
            tensor->rank = info.rank;
            memcpy(tensor->shape, info.shape, sizeof(tensor->shape));
        }
    if (file->loss_count)
        tensors[file->plane_count * count] = (VklTensorPlace){.name = VKL_LOSSES_NAME, .rank = 1, .shape = {file->loss_count, 1}};
    return VKL_OK;
}

static VklStatus fill_tensors(VklModel *model, VklError *error, const char *call, const VklModelFile *file,
                              const VklTensorPlace *tensors)
{
    VklContext *context = vkl_device_context(vkl_model_device(model));
    uint32_t count = vkl_model_tensor_count(model);
    for (size_t i = 0; i < file->plane_count * count; i++) {
        uint64_t numbers = tensors[i].shape[0] * tensors[i].shape[1];
        float *values = vkl_allocate(&context->desc.memory, numbers, sizeof(*values));
        if (!values)
            return vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "%s: no memory for the %llu numbers of %s", call,
                            (unsigned long long)numbers, tensors[i].name);
        VklStatus status = vkl_model_unpack(model, (uint32_t)(i % count), file->planes[i / count].packed, values);
        if (!status)
            vkl_store_floats(tensors[i].bytes, values, numbers);
        vkl_release(values);
        if (status)
            return status;
    }
    if (file->loss_count)
        vkl_store_floats(tensors[file->plane_count * count].bytes, file->losses, file->loss_count);
    return VKL_OK;
}

VklStatus vkl_model_write(VklModel *model, VklError *error, const char *call, const VklPrep *prep, const VklModelFile *file,
                          void **data, size_t *size)
{
    VklContext *context = vkl_device_context(vkl_model_device(model));
    VklStatus status = check_prep_fits(model, error, call, prep);
    if (status)
        return status;
    size_t count = file->plane_count * vkl_model_tensor_count(model) + !!file->loss_count, made_size = 0;
    unsigned char *bytes = NULL;
    VklTensorPlace *tensors = vkl_allocate(&context->desc.memory, count, sizeof(*tensors));
    if (!tensors)
        return vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "%s: no memory for the header of the file", call);
    status = name_tensors(model, file, tensors);
    if (!status)
        status =
            vkl_tensors_make(context, error, call, make_metadata(model, prep, file->fit), tensors, count, &bytes, &made_size);
    if (!status)
        status = fill_tensors(model, error, call, file, tensors);
    vkl_release(tensors);
    if (status) {
        vkl_release(bytes);
        return status;
    }
    *data = bytes;
    *size = made_size;
    return VKL_OK;
}

VklStatus vkl_model_save_memory(VklModel *model, const VklPrep *prep, void **data, size_t *size)
{
    VklError *error = vkl_model_error_slot(model);
    if (!data || !size)
        return vkl_fail(vkl_device_context(vkl_model_device(model)), error, VKL_ERROR_INVALID,
                        "vkl_model_save_memory: %s is NULL", data ? "size" : "data");
    VklPlane plane = {.kind = VKL_PLANE_WEIGHTS};
    VklStatus status = vkl_model_packed(model, &plane.packed);
    return status ? status
                  : vkl_model_write(model, error, "vkl_model_save", prep, &(VklModelFile){.planes = &plane, .plane_count = 1},
                                    data, size);
}

VklStatus vkl_model_save(VklModel *model, const VklPrep *prep, const char *path)
{
    VklContext *context = vkl_device_context(vkl_model_device(model));
    VklError *error = vkl_model_error_slot(model);
    if (!path || !path[0])
        return vkl_fail(context, error, VKL_ERROR_INVALID, "vkl_model_save: path is %s", path ? "empty" : "NULL");
    void *data = NULL;
    size_t size = 0;
    VklStatus status = vkl_model_save_memory(model, prep, &data, &size);
    if (status != VKL_OK)
        return status;
    status = vkl_file_replace(context, error, path, data, size);
    vkl_release(data);
    return status;
}

/* ---- Loading ---- */

static VklStatus read_layer(const VklTensorFile *file, uint32_t index, const json_t *json, VklLayerDesc *layer)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const json_t *units = json_object_get(json, "units"), *activation = json_object_get(json, "activation");
    const json_t *both = json_object_get(json, "both"), *projection = json_object_get(json, "projection");
    const json_t *rate = json_object_get(json, "rate");
    *layer = (VklLayerDesc){.kind = VKL_LAYER_LSTM};
    if (!kind || !vkl_layer_kind(kind, &layer->kind))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: config: layer %u is of the kind '%.32s'; lstm, gru, rnn, rnn_relu, dense and dropout are known",
                        file->name, (unsigned)index, kind ? kind : "");
    if (layer->kind == VKL_LAYER_DROPOUT) {
        if (!json_is_number(rate))
            return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config: layer %u has no 'rate'", file->name,
                            (unsigned)index);
        layer->rate = json_number_value(rate);
        return VKL_OK;
    }
    if (!vkl_json_is_index(units) || !json_integer_value(units))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config: layer %u has no 'units' of at least 1",
                        file->name, (unsigned)index);
    layer->units = (uint64_t)json_integer_value(units);
    if (layer->kind == VKL_LAYER_DENSE &&
        (!json_is_string(activation) || !vkl_activation(json_string_value(activation), &layer->activation)))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: config: layer %u has no 'activation' of none, tanh, sigmoid or relu", file->name, (unsigned)index);
    if ((both && !json_is_boolean(both)) || (projection && !vkl_json_is_index(projection)))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: config: layer %u: 'both' must be true or false, 'projection' a whole number", file->name,
                        (unsigned)index);
    const json_t *storage = json_object_get(json, "storage");
    if (storage && (!json_is_string(storage) ||
                    (strcmp(json_string_value(storage), "float16") && strcmp(json_string_value(storage), "float32"))))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: config: layer %u: 'storage' is neither 'float32' nor 'float16'", file->name, (unsigned)index);
    if (storage && !strcmp(json_string_value(storage), "float16"))
        layer->storage = VKL_STORAGE_FLOAT16;
    layer->both = json_is_true(both);
    layer->projection = projection ? (uint64_t)json_integer_value(projection) : 0;
    return VKL_OK;
}

/* Whether the layers need about as many numbers as the file holds. Their sizes are only claims: nothing is allocated for what
 * is absurd. Tensors are compared by name and shape once there is a model. */
static bool plausible(const VklTensorFile *file, uint64_t features, const VklLayerDesc *layers, uint32_t count)
{
    const uint64_t slack = 1 << 20;
    uint64_t inputs = features, total = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t numbers, outputs;
        if (!vkl_layer_size(&layers[i], inputs, &numbers, &outputs) || !vkl_add(total, numbers, &total))
            return false;
        inputs = outputs;
    }
    return total <= file->data_size / 4 * 2 + slack;
}

VklStatus vkl_model_config(const VklTensorFile *file, json_t **config)
{
    const char *format = vkl_tensors_text(file, "format"), *version = vkl_tensors_text(file, "version");
    const char *text = vkl_tensors_text(file, "config");
    if (!format || strcmp(format, "vklstm") != 0)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: it is no vklstm model: the format in its metadata is '%.32s', not 'vklstm'", file->name,
                        format ? format : "");
    if (!version || strcmp(version, FORMAT_VERSION) != 0)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: the file has version '%.32s' of the format; this library reads version " FORMAT_VERSION, file->name,
                        version ? version : "");
    json_error_t where;
    *config = text ? json_loads(text, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (!text)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: its metadata has no 'config'", file->name);
    if (!*config)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config, character %d: %s", file->name, where.position,
                        where.text);
    return VKL_OK;
}

static VklStatus make_model(VklTensorFile *file, VklDevice *device, const json_t *config, VklModel **model)
{
    const json_t *features = json_object_get(config, "features"), *list = json_object_get(config, "layers");
    size_t count = json_array_size(list);
    if (!vkl_json_is_index(features) || !json_integer_value(features))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config: 'features' is missing or not at least 1",
                        file->name);
    if (!count || count > UINT32_MAX)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config: 'layers' is missing or empty", file->name);
    VklLayerDesc *layers = vkl_allocate(&file->context->desc.memory, count, sizeof(*layers));
    if (!layers)
        return vkl_fail(file->context, file->error, VKL_ERROR_HOST_MEMORY, "%s: no memory to read the model", file->name);
    VklStatus status = VKL_OK;
    for (size_t i = 0; i < count && status == VKL_OK; i++)
        status = read_layer(file, (uint32_t)i, json_array_get(list, i), &layers[i]);
    uint64_t inputs = (uint64_t)json_integer_value(features);
    if (status == VKL_OK && !plausible(file, inputs, layers, (uint32_t)count))
        status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                          "%s: the sizes of the layers in config need more numbers than the %llu of its tensors", file->name,
                          (unsigned long long)file->data_size / 4);
    if (status == VKL_OK) {
        status = vkl_model_create(device, inputs, layers, (uint32_t)count, 0, model);
        /* layers that no model can have are the file's mistake, not the caller's */
        if (status == VKL_ERROR_INVALID) {
            char why[VKL_MESSAGE_SIZE];
            snprintf(why, sizeof(why), "%s", vkl_context_error(file->context));
            status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: config: %s", file->name, why);
        }
    }
    vkl_release(layers);
    return status;
}

static VklStatus check_shape(const VklTensorFile *file, const VklTensor *tensor, const VklParamInfo *info)
{
    if (tensor->rank == info->rank && tensor->shape[0] == info->shape[0] && tensor->shape[1] == info->shape[1])
        return VKL_OK;
    char got[48], needed[48];
    snprintf(got, sizeof(got), tensor->rank == 1 ? "[%llu]" : "[%llu, %llu]", (unsigned long long)tensor->shape[0],
             (unsigned long long)tensor->shape[1]);
    snprintf(needed, sizeof(needed), info->rank == 1 ? "[%llu]" : "[%llu, %llu]", (unsigned long long)info->shape[0],
             (unsigned long long)info->shape[1]);
    return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                    "%s: tensor '%s' has the shape %s; the layers in config need %s", file->name, info->name, got, needed);
}

VklStatus vkl_model_read_plane(const VklTensorFile *file, VklModel *model, VklPlaneKind kind, float *packed)
{
    uint32_t count = vkl_model_tensor_count(model);
    for (uint32_t i = 0; i < count; i++) {
        VklParamInfo info;
        char name[sizeof(info.name) + 16];
        VklStatus status = vkl_model_tensor_info(model, i, &info);
        if (status != VKL_OK)
            return status;
        snprintf(name, sizeof(name), "%s%s", vkl_plane_prefix[kind], info.name);
        const VklTensor *tensor = vkl_tensors_find(file, name);
        if (!tensor)
            return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%s' is missing", file->name, name);
        status = check_shape(file, tensor, &info);
        if (status != VKL_OK)
            return status;
        uint64_t values = info.shape[0] * info.shape[1];
        float *data = vkl_allocate(&file->context->desc.memory, values, sizeof(*data));
        if (!data)
            return vkl_fail(file->context, file->error, VKL_ERROR_HOST_MEMORY, "%s: no memory to read the model", file->name);
        vkl_load_floats(data, file->data + tensor->begin, values);
        status = vkl_model_pack(model, i, data, packed);
        vkl_release(data);
        if (status != VKL_OK)
            return status;
    }
    return VKL_OK;
}

/* Whether a model has a tensor of this name; in a checkpoint also behind the prefixes of its planes. */
static bool is_known(const VklTensorFile *file, VklModel *model, const char *name)
{
    int planes = vkl_tensors_text(file, "fit") ? VKL_PLANES : 1;
    for (int plane = 0; plane < planes; plane++) {
        size_t length = strlen(vkl_plane_prefix[plane]);
        for (uint32_t i = 0; !strncmp(name, vkl_plane_prefix[plane], length) && i < vkl_model_tensor_count(model); i++) {
            VklParamInfo info;
            if (vkl_model_tensor_info(model, i, &info) == VKL_OK && strcmp(info.name, name + length) == 0)
                return true;
        }
    }
    return planes > 1 && strcmp(name, VKL_LOSSES_NAME) == 0;
}

static VklStatus set_tensors(const VklTensorFile *file, VklModel *model)
{
    VklStatus status = vkl_model_read_plane(file, model, VKL_PLANE_WEIGHTS, model->mirror);
    model->mirror_newer = true;
    for (size_t t = 0; !status && t < file->count && file->count > vkl_model_tensor_count(model); t++)
        if (!is_known(file, model, file->tensors[t].name))
            status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%.64s' belongs to none of the layers",
                              file->name, file->tensors[t].name);
    return status;
}

static VklStatus read_prep(const VklTensorFile *file, const json_t *config, const VklModel *model, VklPrep **prep)
{
    const json_t *json = json_object_get(config, "preparation");
    *prep = NULL;
    if (json_is_null(json))
        return VKL_OK;
    if (!json_is_object(json))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: config: 'preparation' is missing or neither null nor an object", file->name);
    VklPrep *made = NULL;
    VklStatus status = vkl_prep_from_json(file->context, file->name, json, &made);
    if (status != VKL_OK)
        return status;
    if (vkl_prep_features(made) != vkl_model_features(model) || vkl_model_outputs(model) != 1) {
        status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                          "%s: config: the preparation has %llu features and 1 target, the layers %llu features and %llu outputs",
                          file->name, (unsigned long long)vkl_prep_features(made), (unsigned long long)vkl_model_features(model),
                          (unsigned long long)vkl_model_outputs(model));
        vkl_prep_destroy(made);
        return status;
    }
    *prep = made;
    return VKL_OK;
}

static VklStatus load(VklDevice *device, const char *name, const unsigned char *bytes, size_t size, VklModel **model,
                      VklPrep **prep)
{
    VklTensorFile file = {.context = vkl_device_context(device), .name = name};
    VklModel *made_model = NULL;
    VklPrep *made_prep = NULL;
    json_t *config = NULL;
    VklStatus status = vkl_tensors_open(&file, bytes, size);
    if (status == VKL_OK)
        status = vkl_model_config(&file, &config);
    if (status == VKL_OK)
        status = vkl_tensors_list(&file);
    if (status == VKL_OK)
        status = make_model(&file, device, config, &made_model);
    if (status == VKL_OK)
        status = set_tensors(&file, made_model);
    if (status == VKL_OK)
        status = read_prep(&file, config, made_model, &made_prep);
    json_decref(config);
    vkl_tensors_close(&file);
    if (status != VKL_OK) {
        vkl_model_destroy(made_model);
        return status;
    }
    *model = made_model;
    if (prep)
        *prep = made_prep;
    else
        vkl_prep_destroy(made_prep);
    return VKL_OK;
}

VklStatus vkl_model_load_memory(VklDevice *device, const void *data, size_t size, VklModel **model, VklPrep **prep)
{
    if (!data || !model)
        return vkl_fail(vkl_device_context(device), NULL, VKL_ERROR_INVALID, "vkl_model_load_memory: %s is NULL",
                        data ? "model" : "data");
    return load(device, "model in memory", data, size, model, prep);
}

VklStatus vkl_model_load(VklDevice *device, const char *path, VklModel **model, VklPrep **prep)
{
    VklContext *context = vkl_device_context(device);
    if (!path || !model)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_load: %s is NULL", path ? "model" : "path");
    unsigned char *bytes = NULL;
    size_t size = 0;
    VklStatus status = vkl_file_read(context, NULL, path, &bytes, &size);
    if (status != VKL_OK)
        return status;
    status = load(device, path, bytes, size, model, prep);
    vkl_release(bytes);
    return status;
}

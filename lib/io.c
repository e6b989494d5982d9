/* SPDX-License-Identifier: MIT
 *
 * Models in files: safetensors. docs/model-file.md describes the format; a loader must expect anything in a file.
 */
#define _XOPEN_SOURCE 700 /* realpath() */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "prep.h"

#define FORMAT_VERSION "1"
#define PREFIX_SIZE 8           /* the header's length, little-endian */
#define HEADER_LIMIT 100000000u /* of safetensors itself */

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

/* ---- Saving ---- */

static void store_u64(unsigned char *bytes, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

static void store_floats(unsigned char *bytes, const float *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        for (unsigned b = 0; b < 4; b++)
            bytes[4 * i + b] = (unsigned char)(bits >> (8 * b));
    }
}

/* NULL: no memory. */
static char *dump(const VklDevice *device, const json_t *json)
{
    size_t size = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *text = size ? vkl_allocate(device->caps.memory, (uint64_t)size + 1, 1) : NULL;
    if (text && json_dumpb(json, text, size, JSON_COMPACT) != size) {
        vkl_release(text);
        text = NULL;
    }
    return text;
}

/* The text of "config"; for vkl_release(). NULL: no memory. */
static char *make_config(const VklModel *model, const VklPrep *prep)
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
    char *text = NULL;
    if (complete) {
        json_t *config = json_pack("{s:I, s:O, s:o}", "features", (json_int_t)vkl_model_features(model), "layers", list,
                                   "preparation", prep ? vkl_prep_to_json(prep) : json_null());
        if (config)
            text = dump(vkl_model_device(model), config);
        json_decref(config);
    }
    json_decref(list);
    return text;
}

/* The text of the safetensors header, and the bytes of all tensors; for vkl_release(). */
static VklStatus make_header(VklModel *model, const VklPrep *prep, char **header, uint64_t *data_size)
{
    VklStatus status = VKL_OK;
    char *config = make_config(model, prep);
    json_t *json =
        config ? json_pack("{s:{s:s, s:s, s:s}}", "__metadata__", "format", "vklstm", "version", FORMAT_VERSION, "config", config)
               : NULL;
    vkl_release(config);
    bool complete = json != NULL;
    uint64_t offset = 0;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model) && complete; i++) {
        VklParamInfo info;
        status = vkl_model_tensor_info(model, i, &info);
        if (status != VKL_OK)
            break;
        uint64_t end = offset + 4 * info.shape[0] * info.shape[1]; /* the model holds it: it fits */
        json_t *shape = info.rank == 1 ? json_pack("[I]", (json_int_t)info.shape[0])
                                       : json_pack("[I, I]", (json_int_t)info.shape[0], (json_int_t)info.shape[1]);
        json_t *tensor = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)offset,
                                   (json_int_t)end);
        complete = json_object_set_new(json, info.name, tensor) == 0;
        offset = end;
    }
    if (status == VKL_OK) {
        *data_size = offset;
        *header = complete ? dump(vkl_model_device(model), json) : NULL;
        if (!*header)
            status = vkl_fail(vkl_device_context(vkl_model_device(model)), vkl_model_error_slot(model), VKL_ERROR_HOST_MEMORY,
                              "vkl_model_save: no memory for the header of the file");
    }
    json_decref(json);
    return status;
}

static VklStatus check_prep_fits(VklModel *model, const VklPrep *prep)
{
    if (!prep || (vkl_prep_features(prep) == vkl_model_features(model) && vkl_model_outputs(model) == 1))
        return VKL_OK;
    return vkl_fail(vkl_device_context(vkl_model_device(model)), vkl_model_error_slot(model), VKL_ERROR_INVALID,
                    "vkl_model_save: the preparation has %llu features and 1 target, the model %llu features and %llu outputs",
                    (unsigned long long)vkl_prep_features(prep), (unsigned long long)vkl_model_features(model),
                    (unsigned long long)vkl_model_outputs(model));
}

VklStatus vkl_model_save_memory(VklModel *model, const VklPrep *prep, void **data, size_t *size)
{
    VklContext *context = vkl_device_context(vkl_model_device(model));
    VklError *error = vkl_model_error_slot(model);
    if (!data || !size)
        return vkl_fail(context, error, VKL_ERROR_INVALID, "vkl_model_save_memory: %s is NULL", data ? "size" : "data");
    VklStatus status = check_prep_fits(model, prep);
    if (status != VKL_OK)
        return status;
    char *header = NULL;
    uint64_t data_size = 0;
    status = make_header(model, prep, &header, &data_size);
    if (status != VKL_OK)
        return status;

    size_t length = strlen(header), padded = (length + 7) / 8 * 8; /* the tensors then begin at a multiple of 8 */
    uint64_t total = 0;
    unsigned char *bytes = NULL;
    float *values = NULL;
    if (!vkl_add(PREFIX_SIZE + padded, data_size, &total) || !(bytes = vkl_allocate(&context->desc.memory, total, 1))) {
        status = vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "vkl_model_save: no memory for a file of %llu bytes",
                          (unsigned long long)total);
        goto done;
    }
    store_u64(bytes, padded);
    memcpy(bytes + PREFIX_SIZE, header, length);
    memset(bytes + PREFIX_SIZE + length, ' ', padded - length);
    unsigned char *tensor = bytes + PREFIX_SIZE + padded;
    for (uint32_t i = 0; i < vkl_model_tensor_count(model); i++) {
        VklParamInfo info;
        if ((status = vkl_model_tensor_info(model, i, &info)) != VKL_OK)
            goto done;
        uint64_t count = info.shape[0] * info.shape[1];
        vkl_release(values);
        values = vkl_allocate(&context->desc.memory, count, sizeof(*values));
        if (!values) {
            status = vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "vkl_model_save: no memory for the %llu numbers of %s",
                              (unsigned long long)count, info.name);
            goto done;
        }
        if ((status = vkl_model_get_tensor(model, i, values)) != VKL_OK)
            goto done;
        store_floats(tensor, values, count);
        tensor += 4 * count;
    }
    *data = bytes;
    *size = (size_t)total;
    bytes = NULL;
done:
    vkl_release(values);
    vkl_release(bytes);
    vkl_release(header);
    return status;
}

static bool write_all(int file, const unsigned char *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(file, bytes, size < 1u << 30 ? size : 1u << 30);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written ? errno : EIO;
            return false;
        }
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

/* Opens a file of a name that nobody has, in the folder of `path`. `temporary` has room for it. */
static int open_temporary(const char *path, char *temporary, size_t size)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path + 1) : 0;
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        snprintf(temporary, size, "%.*s.vklstm-%ld-%u.tmp", folder, path, (long)getpid(), attempt);
        int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST)
            return file;
    }
    return -1;
}

/* Makes the new name last through a power cut. Not every file system can: no failure. */
static void sync_folder(const char *path, char *folder)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        snprintf(folder, strlen(path) + 1, "%.*s", (int)(slash - path + 1), path);
    int file = open(folder, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    fsync(file);
    close(file);
}

/* Puts bytes into a file in one piece: on failure, errno, and the file is as it was. `name` is where a link led. */
static bool replace_file(const VklHostMemory *memory, const char *name, const unsigned char *bytes, size_t size)
{
    struct stat old;
    bool exists = stat(name, &old) == 0;
    /* A rename would put a file in the place of a device, and would get past a file's own protection. */
    if (exists && (S_ISDIR(old.st_mode) || !S_ISREG(old.st_mode))) {
        errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
        return false;
    }
    if (exists && access(name, W_OK) != 0)
        return false;
    size_t room = strlen(name) + 64;
    char *temporary = vkl_allocate(memory, room, 1);
    if (!temporary) {
        errno = ENOMEM;
        return false;
    }
    int file = open_temporary(name, temporary, room);
    bool good = file >= 0;
    if (good) {
        good = (!exists || fchmod(file, old.st_mode & 0777) == 0) && write_all(file, bytes, size) && fsync(file) == 0;
        int error = errno;
        if (close(file) != 0 && good) {
            good = false;
            error = errno;
        }
        if (good && rename(temporary, name) != 0) {
            good = false;
            error = errno;
        }
        if (!good)
            unlink(temporary);
        errno = error;
    }
    if (good)
        sync_folder(name, temporary);
    int error = errno;
    vkl_release(temporary);
    errno = error;
    return good;
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
    char resolved[PATH_MAX]; /* a link stays a link; where there is no file yet, the name stays as it is */
    const char *name = realpath(path, resolved) ? resolved : path;
    if (!replace_file(&context->desc.memory, name, data, size)) {
        char reason[VKL_ERRNO_SIZE];
        int number = errno;
        status = vkl_fail(context, error, number == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be written: %s",
                          path, number == EINVAL ? "it is not a regular file" : vkl_errno_text(number, reason));
    }
    vkl_release(data);
    return status;
}

/* ---- Loading ---- */

typedef struct Tensor {
    const char *name;
    uint32_t rank;
    uint64_t shape[2];
    uint64_t begin, end; /* in the data */
} Tensor;

typedef struct Loader {
    VklContext *context;
    const char *name; /* of the file, for sentences */
    const unsigned char *data;
    uint64_t data_size; /* of the tensors */
    Tensor *tensors;    /* by `begin` */
    size_t tensor_count;
} Loader;

static uint64_t load_u64(const unsigned char *bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static void load_floats(float *values, const unsigned char *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        for (unsigned b = 0; b < 4; b++)
            bits |= (uint32_t)bytes[4 * i + b] << (8 * b);
        memcpy(&values[i], &bits, sizeof(bits));
    }
}

static VklStatus no_memory(const Loader *loader)
{
    return vkl_fail(loader->context, NULL, VKL_ERROR_HOST_MEMORY, "%s: no memory to read the model", loader->name);
}

static bool is_index(const json_t *json)
{
    return json_is_integer(json) && json_integer_value(json) >= 0;
}

/* One row of the header, checked by itself. */
static VklStatus read_tensor(const Loader *loader, const char *name, const json_t *json, Tensor *tensor)
{
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    const json_t *shape = json_object_get(json, "shape"), *offsets = json_object_get(json, "data_offsets");
    *tensor = (Tensor){.name = name, .shape = {1, 1}};
    if (!dtype || strcmp(dtype, "F32") != 0)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has the type %.16s; it must be F32",
                        loader->name, name, dtype ? dtype : "(none)");
    size_t rank = json_array_size(shape);
    uint64_t count = 1;
    bool good = rank == 1 || rank == 2;
    for (size_t i = 0; i < rank && good; i++) {
        good = is_index(json_array_get(shape, i));
        if (good)
            tensor->shape[i] = (uint64_t)json_integer_value(json_array_get(shape, i));
        good = good && vkl_mul(count, tensor->shape[i], &count);
    }
    tensor->rank = (uint32_t)rank;
    if (!good || !vkl_mul(count, 4, &count))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has no shape of one or two sizes",
                        loader->name, name);
    if (json_array_size(offsets) != 2 || !is_index(json_array_get(offsets, 0)) || !is_index(json_array_get(offsets, 1)))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has no two data_offsets", loader->name,
                        name);
    tensor->begin = (uint64_t)json_integer_value(json_array_get(offsets, 0));
    tensor->end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    if (tensor->begin > tensor->end || tensor->end > loader->data_size)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: tensor '%.64s' has the bytes %llu to %llu; the file holds %llu: it is truncated or damaged",
                        loader->name, name, (unsigned long long)tensor->begin, (unsigned long long)tensor->end,
                        (unsigned long long)loader->data_size);
    if (tensor->end - tensor->begin != count)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has %llu bytes; its shape needs %llu",
                        loader->name, name, (unsigned long long)(tensor->end - tensor->begin), (unsigned long long)count);
    return VKL_OK;
}

static int compare_tensors(const void *a, const void *b)
{
    const Tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static VklStatus read_tensors(Loader *loader, json_t *header)
{
    loader->tensors = vkl_allocate(&loader->context->desc.memory, json_object_size(header), sizeof(*loader->tensors));
    if (!loader->tensors)
        return no_memory(loader);
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        VklStatus status = read_tensor(loader, name, value, &loader->tensors[loader->tensor_count]);
        if (status != VKL_OK)
            return status;
        loader->tensor_count++;
    }
    qsort(loader->tensors, loader->tensor_count, sizeof(*loader->tensors), compare_tensors);
    uint64_t end = 0;
    for (size_t i = 0; i < loader->tensor_count; i++) {
        const Tensor *tensor = &loader->tensors[i];
        if (tensor->begin != end)
            return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                            "%s: tensor '%.64s' begins at byte %llu of the data; the one before it ends at %llu", loader->name,
                            tensor->name, (unsigned long long)tensor->begin, (unsigned long long)end);
        end = tensor->end;
    }
    if (end != loader->data_size)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: the tensors have %llu bytes; the file holds %llu",
                        loader->name, (unsigned long long)end, (unsigned long long)loader->data_size);
    return VKL_OK;
}

static VklStatus read_layer(const Loader *loader, uint32_t index, const json_t *json, VklLayerDesc *layer)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const json_t *units = json_object_get(json, "units"), *activation = json_object_get(json, "activation");
    const json_t *both = json_object_get(json, "both"), *projection = json_object_get(json, "projection");
    const json_t *rate = json_object_get(json, "rate");
    *layer = (VklLayerDesc){.kind = VKL_LAYER_LSTM};
    if (!kind || !vkl_layer_kind(kind, &layer->kind))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: config: layer %u is of the kind '%.32s'; lstm, gru, rnn, rnn_relu, dense and dropout are known",
                        loader->name, (unsigned)index, kind ? kind : "");
    if (layer->kind == VKL_LAYER_DROPOUT) {
        if (!json_is_number(rate))
            return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config: layer %u has no 'rate'", loader->name,
                            (unsigned)index);
        layer->rate = json_number_value(rate);
        return VKL_OK;
    }
    if (!is_index(units) || !json_integer_value(units))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config: layer %u has no 'units' of at least 1",
                        loader->name, (unsigned)index);
    layer->units = (uint64_t)json_integer_value(units);
    if (layer->kind == VKL_LAYER_DENSE &&
        (!json_is_string(activation) || !vkl_activation(json_string_value(activation), &layer->activation)))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: config: layer %u has no 'activation' of none, tanh, sigmoid or relu", loader->name, (unsigned)index);
    if ((both && !json_is_boolean(both)) || (projection && !is_index(projection)))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: config: layer %u: 'both' must be true or false, 'projection' a whole number", loader->name,
                        (unsigned)index);
    const json_t *storage = json_object_get(json, "storage");
    if (storage && (!json_is_string(storage) ||
                    (strcmp(json_string_value(storage), "float16") && strcmp(json_string_value(storage), "float32"))))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: config: layer %u: 'storage' is neither 'float32' nor 'float16'", loader->name, (unsigned)index);
    if (storage && !strcmp(json_string_value(storage), "float16"))
        layer->storage = VKL_STORAGE_FLOAT16;
    layer->both = json_is_true(both);
    layer->projection = projection ? (uint64_t)json_integer_value(projection) : 0;
    return VKL_OK;
}

/* Whether the layers need about as many numbers as the file holds. Their sizes are only claims: nothing is allocated for what
 * is absurd. Tensors are compared by name and shape once there is a model. */
static bool plausible(const Loader *loader, uint64_t features, const VklLayerDesc *layers, uint32_t count)
{
    const uint64_t slack = 1 << 20;
    uint64_t inputs = features, total = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t numbers, outputs;
        if (!vkl_layer_size(&layers[i], inputs, &numbers, &outputs) || !vkl_add(total, numbers, &total))
            return false;
        inputs = outputs;
    }
    return total <= loader->data_size / 4 * 2 + slack;
}

static VklStatus read_config(Loader *loader, const json_t *header, json_t **config)
{
    const json_t *metadata = json_object_get(header, "__metadata__");
    const char *format = json_string_value(json_object_get(metadata, "format"));
    const char *version = json_string_value(json_object_get(metadata, "version"));
    const char *text = json_string_value(json_object_get(metadata, "config"));
    if (!format || strcmp(format, "vklstm") != 0)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: it is no vklstm model: the format in its metadata is '%.32s', not 'vklstm'", loader->name,
                        format ? format : "");
    if (!version || strcmp(version, FORMAT_VERSION) != 0)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: the file has version '%.32s' of the format; this library reads version " FORMAT_VERSION,
                        loader->name, version ? version : "");
    json_error_t where;
    *config = text ? json_loads(text, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (!text)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: its metadata has no 'config'", loader->name);
    if (!*config)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config, character %d: %s", loader->name, where.position,
                        where.text);
    return VKL_OK;
}

static VklStatus make_model(Loader *loader, VklDevice *device, const json_t *config, VklModel **model)
{
    const json_t *features = json_object_get(config, "features"), *list = json_object_get(config, "layers");
    size_t count = json_array_size(list);
    if (!is_index(features) || !json_integer_value(features))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config: 'features' is missing or not at least 1",
                        loader->name);
    if (!count || count > UINT32_MAX)
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config: 'layers' is missing or empty", loader->name);
    VklLayerDesc *layers = vkl_allocate(&loader->context->desc.memory, count, sizeof(*layers));
    if (!layers)
        return no_memory(loader);
    VklStatus status = VKL_OK;
    for (size_t i = 0; i < count && status == VKL_OK; i++)
        status = read_layer(loader, (uint32_t)i, json_array_get(list, i), &layers[i]);
    uint64_t inputs = (uint64_t)json_integer_value(features);
    if (status == VKL_OK && !plausible(loader, inputs, layers, (uint32_t)count))
        status = vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                          "%s: the sizes of the layers in config need more numbers than the %llu of its tensors", loader->name,
                          (unsigned long long)loader->data_size / 4);
    if (status == VKL_OK) {
        status = vkl_model_create(device, inputs, layers, (uint32_t)count, 0, model);
        /* layers that no model can have are the file's mistake, not the caller's */
        if (status == VKL_ERROR_INVALID) {
            char why[VKL_MESSAGE_SIZE];
            snprintf(why, sizeof(why), "%s", vkl_context_error(loader->context));
            status = vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: config: %s", loader->name, why);
        }
    }
    vkl_release(layers);
    return status;
}

static const Tensor *find_tensor(const Loader *loader, const char *name)
{
    for (size_t i = 0; i < loader->tensor_count; i++)
        if (strcmp(loader->tensors[i].name, name) == 0)
            return &loader->tensors[i];
    return NULL;
}

static VklStatus check_shape(const Loader *loader, const Tensor *tensor, const VklParamInfo *info)
{
    if (tensor->rank == info->rank && tensor->shape[0] == info->shape[0] && tensor->shape[1] == info->shape[1])
        return VKL_OK;
    char got[48], needed[48];
    snprintf(got, sizeof(got), tensor->rank == 1 ? "[%llu]" : "[%llu, %llu]", (unsigned long long)tensor->shape[0],
             (unsigned long long)tensor->shape[1]);
    snprintf(needed, sizeof(needed), info->rank == 1 ? "[%llu]" : "[%llu, %llu]", (unsigned long long)info->shape[0],
             (unsigned long long)info->shape[1]);
    return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%s' has the shape %s; the layers in config need %s",
                    loader->name, info->name, got, needed);
}

static VklStatus set_tensors(Loader *loader, VklModel *model)
{
    uint32_t count = vkl_model_tensor_count(model);
    for (uint32_t i = 0; i < count; i++) {
        VklParamInfo info;
        VklStatus status = vkl_model_tensor_info(model, i, &info);
        if (status != VKL_OK)
            return status;
        const Tensor *tensor = find_tensor(loader, info.name);
        if (!tensor)
            return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%s' is missing", loader->name, info.name);
        status = check_shape(loader, tensor, &info);
        if (status != VKL_OK)
            return status;
        uint64_t values = info.shape[0] * info.shape[1];
        float *data = vkl_allocate(&loader->context->desc.memory, values, sizeof(*data));
        if (!data)
            return no_memory(loader);
        load_floats(data, loader->data + tensor->begin, values);
        status = vkl_model_set_tensor(model, i, data);
        vkl_release(data);
        if (status != VKL_OK)
            return status;
    }
    for (size_t t = 0; t < loader->tensor_count && loader->tensor_count > count; t++) {
        bool known = false;
        for (uint32_t i = 0; i < count && !known; i++) {
            VklParamInfo info;
            known = vkl_model_tensor_info(model, i, &info) == VKL_OK && strcmp(info.name, loader->tensors[t].name) == 0;
        }
        if (!known)
            return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT, "%s: tensor '%.64s' belongs to none of the layers",
                            loader->name, loader->tensors[t].name);
    }
    return VKL_OK;
}

static VklStatus read_prep(const Loader *loader, const json_t *config, const VklModel *model, VklPrep **prep)
{
    const json_t *json = json_object_get(config, "preparation");
    *prep = NULL;
    if (json_is_null(json))
        return VKL_OK;
    if (!json_is_object(json))
        return vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                        "%s: config: 'preparation' is missing or neither null nor an object", loader->name);
    VklPrep *made = NULL;
    VklStatus status = vkl_prep_from_json(loader->context, loader->name, json, &made);
    if (status != VKL_OK)
        return status;
    if (vkl_prep_features(made) != vkl_model_features(model) || vkl_model_outputs(model) != 1) {
        status = vkl_fail(loader->context, NULL, VKL_ERROR_FORMAT,
                          "%s: config: the preparation has %llu features and 1 target, the layers %llu features and %llu outputs",
                          loader->name, (unsigned long long)vkl_prep_features(made),
                          (unsigned long long)vkl_model_features(model), (unsigned long long)vkl_model_outputs(model));
        vkl_prep_destroy(made);
        return status;
    }
    *prep = made;
    return VKL_OK;
}

static VklStatus load(VklDevice *device, const char *name, const unsigned char *bytes, size_t size, VklModel **model,
                      VklPrep **prep)
{
    Loader loader = {.context = vkl_device_context(device), .name = name};
    if (size < PREFIX_SIZE)
        return vkl_fail(loader.context, NULL, VKL_ERROR_FORMAT, "%s: the file has %zu bytes; a model has at least %d", name, size,
                        PREFIX_SIZE + 2);
    uint64_t length = load_u64(bytes);
    if (length > HEADER_LIMIT || length > size - PREFIX_SIZE)
        return vkl_fail(
            loader.context, NULL, VKL_ERROR_FORMAT,
            "%s: its first 8 bytes announce a header of %llu bytes; the file holds %zu more (at most %u are read): it is "
            "truncated or no model",
            name, (unsigned long long)length, size - PREFIX_SIZE, HEADER_LIMIT);
    loader.data = bytes + PREFIX_SIZE + length;
    loader.data_size = size - PREFIX_SIZE - length;

    VklModel *made_model = NULL;
    VklPrep *made_prep = NULL;
    json_t *config = NULL;
    json_error_t where;
    VklStatus status = VKL_OK;
    json_t *header = json_loadb((const char *)bytes + PREFIX_SIZE, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(header))
        status = vkl_fail(loader.context, NULL, VKL_ERROR_FORMAT, "%s: header, byte %d: %s", name, header ? 0 : where.position,
                          header ? "it is no JSON object" : where.text);
    if (status == VKL_OK)
        status = read_config(&loader, header, &config);
    if (status == VKL_OK)
        status = read_tensors(&loader, header);
    if (status == VKL_OK)
        status = make_model(&loader, device, config, &made_model);
    if (status == VKL_OK)
        status = set_tensors(&loader, made_model);
    if (status == VKL_OK)
        status = read_prep(&loader, config, made_model, &made_prep);
    json_decref(config);
    json_decref(header);
    vkl_release(loader.tensors);
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

/* The whole file; for vkl_release(). false: errno. */
static bool read_whole(const VklHostMemory *memory, FILE *file, unsigned char **bytes, size_t *size)
{
    size_t used = 0, room = 0;
    unsigned char *data = NULL;
    for (;;) {
        if (used == room) {
            room = room ? room * 2 : 65536;
            unsigned char *grown = room > used ? vkl_reallocate(memory, data, room, 1) : NULL;
            if (!grown) {
                vkl_release(data);
                errno = ENOMEM;
                return false;
            }
            data = grown;
        }
        size_t got = fread(data + used, 1, room - used, file);
        used += got;
        if (!got)
            break;
    }
    if (ferror(file)) {
        int error = errno;
        vkl_release(data);
        errno = error;
        return false;
    }
    *bytes = data;
    *size = used;
    return true;
}

VklStatus vkl_model_load(VklDevice *device, const char *path, VklModel **model, VklPrep **prep)
{
    VklContext *context = vkl_device_context(device);
    if (!path || !model)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_model_load: %s is NULL", path ? "model" : "path");
    char reason[VKL_ERRNO_SIZE];
    unsigned char *bytes = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return vkl_fail(context, NULL, VKL_ERROR_IO, "%s: cannot be opened: %s", path, vkl_errno_text(errno, reason));
    bool good = read_whole(&context->desc.memory, file, &bytes, &size);
    int error = errno;
    fclose(file);
    if (!good)
        return vkl_fail(context, NULL, error == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be read: %s", path,
                        vkl_errno_text(error, reason));
    VklStatus status = load(device, path, bytes, size, model, prep);
    vkl_release(bytes);
    return status;
}

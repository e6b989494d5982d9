/* SPDX-License-Identifier: MIT
 *
 * Of safetensors, what model files need: float32 tensors of one or two sizes. A reader must expect anything. */
#include "tensors.h"

#define PREFIX_SIZE 8           /* the header's length, little-endian */
#define HEADER_LIMIT 100000000u /* of safetensors itself */

/* ---- Numbers and texts ---- */

static void store_u64(unsigned char *bytes, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

void vkl_store_floats(unsigned char *bytes, const float *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        for (unsigned b = 0; b < 4; b++)
            bytes[4 * i + b] = (unsigned char)(bits >> (8 * b));
    }
}

static uint64_t load_u64(const unsigned char *bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

void vkl_load_floats(float *values, const unsigned char *bytes, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits = 0;
        for (unsigned b = 0; b < 4; b++)
            bits |= (uint32_t)bytes[4 * i + b] << (8 * b);
        memcpy(&values[i], &bits, sizeof(bits));
    }
}

/* NULL: no memory. */
char *vkl_json_text(const VklHostMemory *memory, const json_t *json)
{
    size_t size = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *text = size ? vkl_allocate(memory, (uint64_t)size + 1, 1) : NULL;
    if (text && json_dumpb(json, text, size, JSON_COMPACT) != size) {
        vkl_release(text);
        text = NULL;
    }
    return text;
}

/* ---- Writing ---- */

static json_t *describe(const VklTensorPlace *tensor, uint64_t begin, uint64_t end)
{
    json_t *shape = tensor->rank == 1 ? json_pack("[I]", (json_int_t)tensor->shape[0])
                                      : json_pack("[I, I]", (json_int_t)tensor->shape[0], (json_int_t)tensor->shape[1]);
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)begin, (json_int_t)end);
}

/* The text of the header, and the bytes of all tensors; for vkl_release(). NULL: no memory. */
static char *make_header(const VklHostMemory *memory, json_t *metadata, VklTensorPlace *tensors, size_t count, uint64_t *size)
{
    json_t *json = metadata ? json_pack("{s:o}", "__metadata__", metadata) : NULL;
    bool complete = json != NULL;
    uint64_t offset = 0;
    for (size_t i = 0; i < count && complete; i++) {
        uint64_t end = offset + 4 * tensors[i].shape[0] * tensors[i].shape[1]; /* somebody holds it: it fits */
        complete = json_object_set_new(json, tensors[i].name, describe(&tensors[i], offset, end)) == 0;
        offset = end;
    }
    char *text = complete ? vkl_json_text(memory, json) : NULL;
    json_decref(json);
    *size = offset;
    return text;
}

VklStatus vkl_tensors_make(VklContext *context, VklError *error, const char *call, json_t *metadata, VklTensorPlace *tensors,
                           size_t count, unsigned char **data, size_t *size)
{
    const VklHostMemory *memory = &context->desc.memory;
    uint64_t data_size = 0, total = 0;
    char *header = make_header(memory, metadata, tensors, count, &data_size);
    if (!header)
        return vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "%s: no memory for the header of the file", call);
    size_t length = strlen(header), padded = (length + 7) / 8 * 8; /* the tensors then begin at a multiple of 8 */
    unsigned char *bytes = vkl_add(PREFIX_SIZE + padded, data_size, &total) ? vkl_allocate(memory, total, 1) : NULL;
    if (!bytes) {
        vkl_release(header);
        return vkl_fail(context, error, VKL_ERROR_HOST_MEMORY, "%s: no memory for a file of %llu bytes", call,
                        (unsigned long long)total);
    }
    store_u64(bytes, padded);
    memcpy(bytes + PREFIX_SIZE, header, length);
    memset(bytes + PREFIX_SIZE + length, ' ', padded - length);
    unsigned char *at = bytes + PREFIX_SIZE + padded;
    for (size_t i = 0; i < count; i++) {
        tensors[i].bytes = at;
        at += 4 * tensors[i].shape[0] * tensors[i].shape[1];
    }
    vkl_release(header);
    *data = bytes;
    *size = (size_t)total;
    return VKL_OK;
}

/* ---- Reading ---- */

bool vkl_json_is_index(const json_t *json)
{
    return json_is_integer(json) && json_integer_value(json) >= 0;
}

/* One row of the header, checked by itself. */
static VklStatus read_tensor(const VklTensorFile *file, const char *name, const json_t *json, VklTensor *tensor)
{
    const char *dtype = json_string_value(json_object_get(json, "dtype"));
    const json_t *shape = json_object_get(json, "shape"), *offsets = json_object_get(json, "data_offsets");
    *tensor = (VklTensor){.name = name, .shape = {1, 1}};
    if (!dtype || strcmp(dtype, "F32") != 0)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has the type %.16s; it must be F32",
                        file->name, name, dtype ? dtype : "(none)");
    size_t rank = json_array_size(shape);
    uint64_t count = 1;
    bool good = rank == 1 || rank == 2;
    for (size_t i = 0; i < rank && good; i++) {
        good = vkl_json_is_index(json_array_get(shape, i));
        if (good)
            tensor->shape[i] = (uint64_t)json_integer_value(json_array_get(shape, i));
        good = good && vkl_mul(count, tensor->shape[i], &count);
    }
    tensor->rank = (uint32_t)rank;
    if (!good || !vkl_mul(count, 4, &count))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has no shape of one or two sizes",
                        file->name, name);
    if (json_array_size(offsets) != 2 || !vkl_json_is_index(json_array_get(offsets, 0)) ||
        !vkl_json_is_index(json_array_get(offsets, 1)))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has no two data_offsets", file->name,
                        name);
    tensor->begin = (uint64_t)json_integer_value(json_array_get(offsets, 0));
    tensor->end = (uint64_t)json_integer_value(json_array_get(offsets, 1));
    if (tensor->begin > tensor->end || tensor->end > file->data_size)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                        "%s: tensor '%.64s' has the bytes %llu to %llu; the file holds %llu: it is truncated or damaged",
                        file->name, name, (unsigned long long)tensor->begin, (unsigned long long)tensor->end,
                        (unsigned long long)file->data_size);
    if (tensor->end - tensor->begin != count)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%.64s' has %llu bytes; its shape needs %llu",
                        file->name, name, (unsigned long long)(tensor->end - tensor->begin), (unsigned long long)count);
    return VKL_OK;
}

static int compare_tensors(const void *a, const void *b)
{
    const VklTensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

VklStatus vkl_tensors_list(VklTensorFile *file)
{
    file->tensors = vkl_allocate(&file->context->desc.memory, json_object_size(file->header), sizeof(*file->tensors));
    if (!file->tensors)
        return vkl_fail(file->context, file->error, VKL_ERROR_HOST_MEMORY, "%s: no memory to read the model", file->name);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        VklStatus status = read_tensor(file, name, value, &file->tensors[file->count]);
        if (status != VKL_OK)
            return status;
        file->count++;
    }
    qsort(file->tensors, file->count, sizeof(*file->tensors), compare_tensors);
    uint64_t end = 0;
    for (size_t i = 0; i < file->count; i++) {
        const VklTensor *tensor = &file->tensors[i];
        if (tensor->begin != end)
            return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                            "%s: tensor '%.64s' begins at byte %llu of the data; the one before it ends at %llu", file->name,
                            tensor->name, (unsigned long long)tensor->begin, (unsigned long long)end);
        end = tensor->end;
    }
    if (end != file->data_size)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: the tensors have %llu bytes; the file holds %llu",
                        file->name, (unsigned long long)end, (unsigned long long)file->data_size);
    return VKL_OK;
}

VklStatus vkl_tensors_open(VklTensorFile *file, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    if (size < PREFIX_SIZE)
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: the file has %zu bytes; a model has at least %d",
                        file->name, size, PREFIX_SIZE + 2);
    uint64_t length = load_u64(bytes);
    if (length > HEADER_LIMIT || length > size - PREFIX_SIZE)
        return vkl_fail(
            file->context, file->error, VKL_ERROR_FORMAT,
            "%s: its first 8 bytes announce a header of %llu bytes; the file holds %zu more (at most %u are read): it is "
            "truncated or no model",
            file->name, (unsigned long long)length, size - PREFIX_SIZE, HEADER_LIMIT);
    file->data = bytes + PREFIX_SIZE + length;
    file->data_size = size - PREFIX_SIZE - length;
    json_error_t where;
    file->header = json_loadb((const char *)bytes + PREFIX_SIZE, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(file->header))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: header, byte %d: %s", file->name,
                        file->header ? 0 : where.position, file->header ? "it is no JSON object" : where.text);
    return VKL_OK;
}

void vkl_tensors_close(VklTensorFile *file)
{
    json_decref(file->header);
    vkl_release(file->tensors);
}

const char *vkl_tensors_text(const VklTensorFile *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

const VklTensor *vkl_tensors_find(const VklTensorFile *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

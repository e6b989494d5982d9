/* SPDX-License-Identifier: MIT */
#include "casefile.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#define PREFIX_SIZE 8           /* the header's length, little-endian */
#define HEADER_LIMIT 100000000u /* of safetensors itself */

/* ---- The description ---- */

enum { ABSENT = -1 };

typedef struct Config {
    const char *name;
    json_int_t T, B, I, H, layers, proj_size;
    int cell, direction, bidirectional, merge, bias; /* ABSENT, or a value of the library's enumeration */
    int lengths, init_state, reset_after, peephole, input_forget, skip_input, last_only, batch_first;
    double cell_clip, preact_clip, padding_value;
    const json_t *activations;
} Config;

typedef enum KeyKind { KEY_TEXT, KEY_SIZE, KEY_SWITCH, KEY_NUMBER, KEY_WORD, KEY_BIAS, KEY_LIST } KeyKind;

typedef struct Word {
    const char *text;
    int value;
} Word;

static const Word cells[] = {
    {"lstm", VKL_CELL_LSTM}, {"gru", VKL_CELL_GRU}, {"rnn_tanh", VKL_CELL_RNN_TANH}, {"rnn_relu", VKL_CELL_RNN_RELU}, {NULL, 0}};
static const Word directions[] = {
    {"forward", VKL_DIRECTION_FORWARD}, {"reverse", VKL_DIRECTION_REVERSE}, {"bidirectional", VKL_DIRECTION_BOTH}, {NULL, 0}};
static const Word merges[] = {{"concat", VKL_MERGE_CONCAT}, {"sum", VKL_MERGE_SUM}, {NULL, 0}};
static const Word biases[] = {{"double", VKL_BIAS_DOUBLE}, {"single", VKL_BIAS_SINGLE}, {"none", VKL_BIAS_NONE}, {NULL, 0}};

/* Every key there is. A size is at most what indices on the device can count. */
static const struct Key {
    const char *name;
    KeyKind kind;
    size_t offset;
    const Word *words;
    json_int_t least;
} keys[] = {
    {"name", KEY_TEXT, offsetof(Config, name), NULL, 0},
    {"cell", KEY_WORD, offsetof(Config, cell), cells, 0},
    {"T", KEY_SIZE, offsetof(Config, T), NULL, 1},
    {"B", KEY_SIZE, offsetof(Config, B), NULL, 1},
    {"I", KEY_SIZE, offsetof(Config, I), NULL, 1},
    {"H", KEY_SIZE, offsetof(Config, H), NULL, 1},
    {"layers", KEY_SIZE, offsetof(Config, layers), NULL, 1},
    {"direction", KEY_WORD, offsetof(Config, direction), directions, 0},
    {"bidirectional", KEY_SWITCH, offsetof(Config, bidirectional), NULL, 0},
    {"merge", KEY_WORD, offsetof(Config, merge), merges, 0},
    {"bias", KEY_BIAS, offsetof(Config, bias), biases, 0},
    {"proj_size", KEY_SIZE, offsetof(Config, proj_size), NULL, 0},
    {"lengths", KEY_SWITCH, offsetof(Config, lengths), NULL, 0},
    {"init_state", KEY_SWITCH, offsetof(Config, init_state), NULL, 0},
    {"reset_after", KEY_SWITCH, offsetof(Config, reset_after), NULL, 0},
    {"peephole", KEY_SWITCH, offsetof(Config, peephole), NULL, 0},
    {"input_forget", KEY_SWITCH, offsetof(Config, input_forget), NULL, 0},
    {"cell_clip", KEY_NUMBER, offsetof(Config, cell_clip), NULL, 0},
    {"preact_clip", KEY_NUMBER, offsetof(Config, preact_clip), NULL, 0},
    {"skip_input", KEY_SWITCH, offsetof(Config, skip_input), NULL, 0},
    {"last_only", KEY_SWITCH, offsetof(Config, last_only), NULL, 0},
    {"padding_value", KEY_NUMBER, offsetof(Config, padding_value), NULL, 0},
    {"activations", KEY_LIST, offsetof(Config, activations), NULL, 0},
    {"batch_first", KEY_SWITCH, offsetof(Config, batch_first), NULL, 0},
};
#define KEY_COUNT (sizeof keys / sizeof keys[0])
#define SIZE_MOST INT64_C(4294967295)

/* A JSON value as it stands in the file, cut to a line; for sentences. */
static const char *quote(const json_t *value, char text[64])
{
    char *whole = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    snprintf(text, 64, "%s", whole ? whole : "?");
    if (whole && strlen(whole) > 63)
        memcpy(text + 60, "...", 4);
    free(whole);
    return text;
}

static int refuse(const CaseFile *file, const struct Key *key, const json_t *value, const char *wanted)
{
    char text[64], list[128] = "";
    if (!wanted) {
        for (const Word *word = key->words; word->text; word++) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", !used ? "" : word[1].text ? ", " : " or ", word->text);
        }
        wanted = list;
    }
    return fail_usage("%s: config: %s is %s; it must be %s%s", file->path, key->name, quote(value, text), wanted,
                      key->kind == KEY_BIAS ? ", true or false" : "");
}

static int read_word(const CaseFile *file, const struct Key *key, const json_t *value, int *result)
{
    const char *text = json_string_value(value);
    for (const Word *word = key->words; text && word->text; word++)
        if (strcmp(word->text, text) == 0) {
            *result = word->value;
            return EXIT_OK;
        }
    return refuse(file, key, value, NULL);
}

static int read_key(const CaseFile *file, const struct Key *key, const json_t *value, Config *config)
{
    void *place = (char *)config + key->offset;
    switch (key->kind) {
    case KEY_TEXT:
        if (!json_is_string(value))
            return refuse(file, key, value, "a text");
        *(const char **)place = json_string_value(value);
        break;
    case KEY_SIZE:
        if (!json_is_integer(value) || json_integer_value(value) < key->least || json_integer_value(value) > SIZE_MOST)
            return refuse(file, key, value,
                          key->least ? "a whole number from 1 to 4294967295" : "a whole number from 0 to 4294967295");
        *(json_int_t *)place = json_integer_value(value);
        break;
    case KEY_SWITCH:
        if (!json_is_boolean(value))
            return refuse(file, key, value, "true or false");
        *(int *)place = json_is_true(value);
        break;
    case KEY_NUMBER:
        if (!json_is_number(value))
            return refuse(file, key, value, "a number");
        *(double *)place = json_number_value(value);
        break;
    case KEY_BIAS:
        if (!json_is_boolean(value))
            return read_word(file, key, value, place);
        *(int *)place = json_is_true(value) ? VKL_BIAS_DOUBLE : VKL_BIAS_NONE;
        break;
    case KEY_WORD:
        return read_word(file, key, value, place);
    case KEY_LIST:
        if (!json_is_array(value))
            return refuse(file, key, value, "a list");
        *(const json_t **)place = value;
        break;
    }
    return EXIT_OK;
}

/* {"name": ..., "alpha": ..., "beta": ...}; `where` for sentences. */
static int read_activation(const CaseFile *file, const char *where, const json_t *object, VklActivationDesc *activation)
{
    const char *key;
    json_t *value;
    char text[64];
    VklGateActivation kind;
    bool given[2] = {false, false};
    const char *name = json_string_value(json_object_get(object, "name"));
    if (!name)
        return fail_usage("%s: config: %s is %s; it must be an object with a name", file->path, where, quote(object, text));
    if (!vkl_gate_activation_kind(name, &kind))
        return fail_usage("%s: config: %s: %s is not the name of an activation", file->path, where, name);
    *activation = vkl_gate_activation(kind);
    json_object_foreach((json_t *)object, key, value)
    {
        bool alpha = strcmp(key, "alpha") == 0;
        if (strcmp(key, "name") == 0)
            continue;
        if (!alpha && strcmp(key, "beta") != 0)
            return fail_usage("%s: config: %s: '%s' is not a key of an activation", file->path, where, key);
        if (json_is_null(value))
            continue;
        if (!json_is_number(value))
            return fail_usage("%s: config: %s: %s is %s; it must be a number", file->path, where, key, quote(value, text));
        *(alpha ? &activation->alpha : &activation->beta) = (float)json_number_value(value);
        given[!alpha] = true;
    }
    if ((kind == VKL_GATE_AFFINE || kind == VKL_GATE_SCALED_TANH) && (!given[0] || !given[1]))
        return fail_usage("%s: config: %s: %s has no %s, which has no default", file->path, where, name,
                          given[0] ? "beta" : "alpha");
    return EXIT_OK;
}

/* A list for each direction; or one list for all, one direction after the other, which is how ONNX writes it. */
static int read_activations(const CaseFile *file, const json_t *list, VklRnnDesc *desc)
{
    const size_t directions_of = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1;
    const size_t count = desc->cell == VKL_CELL_LSTM ? 3 : desc->cell == VKL_CELL_GRU ? 2 : 1;
    const bool flat = json_is_object(json_array_get(list, 0));
    if (json_array_size(list) != (flat ? directions_of * count : directions_of))
        return fail_usage("%s: config: activations has %zu entries; it must have a list of %zu for each of %zu direction%s",
                          file->path, json_array_size(list), count, directions_of, directions_of == 1 ? "" : "s");
    for (size_t d = 0; d < directions_of; d++) {
        const json_t *row = flat ? list : json_array_get(list, d);
        if (!flat && json_array_size(row) != count)
            return fail_usage("%s: config: activations[%zu] has %zu entries; it must have %zu", file->path, d,
                              json_array_size(row), count);
        for (size_t k = 0; k < count; k++) {
            char where[48];
            size_t at = flat ? d * count + k : k;
            if (flat)
                snprintf(where, sizeof where, "activations[%zu]", at);
            else
                snprintf(where, sizeof where, "activations[%zu][%zu]", d, at);
            int status = read_activation(file, where, json_array_get(row, at), &desc->activations[d][k]);
            if (status != EXIT_OK)
                return status;
        }
    }
    if (directions_of == 1) /* the one direction may be the reverse one */
        memcpy(desc->activations[1], desc->activations[0], sizeof desc->activations[0]);
    return EXIT_OK;
}

static int read_direction(const CaseFile *file, const Config *config, VklDirection *direction)
{
    *direction = VKL_DIRECTION_FORWARD;
    if (config->direction != ABSENT)
        *direction = (VklDirection)config->direction;
    if (config->bidirectional == ABSENT)
        return EXIT_OK;
    if (config->direction != ABSENT && (*direction == VKL_DIRECTION_BOTH) != (config->bidirectional != 0))
        return fail_usage("%s: config: direction is %s, but bidirectional is %s", file->path, directions[config->direction].text,
                          config->bidirectional ? "true" : "false");
    if (config->bidirectional)
        *direction = VKL_DIRECTION_BOTH;
    return EXIT_OK;
}

/* A key that is not there leaves the default of the library, which is that of the format. */
static void set_switch(bool *place, int value)
{
    if (value != ABSENT)
        *place = value != 0;
}

static int make_desc(CaseFile *file, const Config *config)
{
    static const struct {
        const char *name;
        size_t offset;
    } sizes[] = {{"T", offsetof(Config, T)}, {"B", offsetof(Config, B)}, {"I", offsetof(Config, I)}, {"H", offsetof(Config, H)}};
    if (config->cell == ABSENT)
        return fail_usage("%s: config: cell is missing", file->path);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        if (*(const json_int_t *)((const char *)config + sizes[k].offset) == 0)
            return fail_usage("%s: config: %s is missing", file->path, sizes[k].name);
    VklRnnDesc *desc = &file->desc;
    *desc = vkl_rnn_desc((VklCell)config->cell, (uint64_t)config->I, (uint64_t)config->H);
    int status = read_direction(file, config, &desc->direction);
    if (status != EXIT_OK)
        return status;
    file->T = (uint64_t)config->T;
    file->B = (uint64_t)config->B;
    desc->layers = (uint64_t)config->layers;
    desc->projection = (uint64_t)config->proj_size;
    desc->merge = config->merge == ABSENT ? VKL_MERGE_CONCAT : (VklMerge)config->merge;
    desc->bias = config->bias == ABSENT ? VKL_BIAS_DOUBLE : (VklBias)config->bias;
    set_switch(&file->lengths, config->lengths);
    set_switch(&file->init_state, config->init_state);
    set_switch(&desc->reset_after, config->reset_after);
    set_switch(&desc->peephole, config->peephole);
    set_switch(&desc->input_forget, config->input_forget);
    set_switch(&desc->skip_input, config->skip_input);
    set_switch(&desc->last_only, config->last_only);
    set_switch(&desc->batch_first, config->batch_first);
    desc->cell_clip = (float)config->cell_clip;
    desc->preact_clip = (float)config->preact_clip;
    desc->padding_value = (float)config->padding_value;
    snprintf(file->name, sizeof file->name, "%s", config->name ? config->name : file->path);
    return config->activations ? read_activations(file, config->activations, desc) : EXIT_OK;
}

static int read_config(CaseFile *file, const char *text)
{
    Config config = {.layers = 1};
    json_error_t error;
    const char *name;
    json_t *value;
    for (size_t k = 0; k < KEY_COUNT; k++)
        if (keys[k].kind == KEY_SWITCH || keys[k].kind == KEY_WORD || keys[k].kind == KEY_BIAS)
            *(int *)((char *)&config + keys[k].offset) = ABSENT;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!object)
        return fail_usage("%s: config: not JSON: %s", file->path, error.text);
    int status = json_is_object(object) ? EXIT_OK : fail_usage("%s: config: not a JSON object", file->path);
    json_object_foreach(object, name, value)
    {
        size_t k = 0;
        while (k < KEY_COUNT && strcmp(keys[k].name, name) != 0)
            k++;
        status = k < KEY_COUNT ? read_key(file, &keys[k], value, &config)
                               : fail_usage("%s: config: '%s' is not a known key", file->path, name);
        if (status != EXIT_OK)
            break;
    }
    if (status == EXIT_OK)
        status = make_desc(file, &config);
    json_decref(object);
    return status;
}

/* ---- The file ---- */

static int read_bytes(CaseFile *file)
{
    FILE *stream = fopen(file->path, "rb");
    if (!stream)
        return fail_usage("%s: cannot be read: %s", file->path, strerror(errno));
    size_t room = 0, got = 1;
    while (got > 0) {
        if (room - file->size < 65536) { /* grows, so that a pipe can be read as well */
            room = room ? room * 2 : 262144;
            unsigned char *bytes = room > file->size ? realloc(file->bytes, room) : NULL;
            if (!bytes) {
                fclose(stream);
                return fail_usage("%s: no memory for the file", file->path);
            }
            file->bytes = bytes;
        }
        got = fread(file->bytes + file->size, 1, room - file->size, stream);
        file->size += got;
    }
    int error = ferror(stream) ? (errno ? errno : EIO) : 0;
    fclose(stream);
    return error ? fail_usage("%s: cannot be read: %s", file->path, strerror(error)) : EXIT_OK;
}

static uint64_t type_size(const char *type)
{
    static const struct {
        const char *name;
        uint64_t size;
    } types[] = {{"F32", 4}, {"F64", 8}, {"I32", 4}, {"I64", 8}};
    for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
        if (strcmp(types[k].name, type) == 0)
            return types[k].size;
    return 0;
}

/* A number of a header's list, or false. */
static bool read_size(const json_t *list, size_t index, uint64_t *size)
{
    const json_t *value = json_array_get(list, index);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *size = (uint64_t)json_integer_value(value);
    return true;
}

static int read_tensor(const CaseFile *file, const char *name, const json_t *entry, const unsigned char *data, uint64_t data_size,
                       CaseTensor *tensor)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin, end;
    if (!type || !json_is_array(shape) || json_array_size(offsets) != 2 || !read_size(offsets, 0, &begin) ||
        !read_size(offsets, 1, &end))
        return fail_usage("%s: tensor %s: not described by dtype, shape and data_offsets", file->path, name);
    if (begin > end || end > data_size)
        return fail_usage("%s: tensor %s: bytes %" PRIu64 " to %" PRIu64 " of %" PRIu64 "; the file is truncated or damaged",
                          file->path, name, begin, end, data_size);
    uint64_t size = type_size(type);
    tensor->name = name;
    tensor->bytes = data + begin;
    tensor->rank = (uint32_t)json_array_size(shape);
    snprintf(tensor->type, sizeof tensor->type, "%s", size ? type : "?");
    if (!size)
        return fail_usage("%s: tensor %s: its type %s is none of F32, F64, I32 and I64", file->path, name, type);
    if (json_array_size(shape) > CASE_RANK_MAX)
        return fail_usage("%s: tensor %s: %zu axes; no tensor of a case has more than %d", file->path, name,
                          json_array_size(shape), CASE_RANK_MAX);
    tensor->count = 1;
    for (uint32_t k = 0; k < tensor->rank; k++) {
        if (!read_size(shape, k, &tensor->shape[k]))
            return fail_usage("%s: tensor %s: axis %" PRIu32 " of its shape is not a size", file->path, name, k);
        /* 64 bits hold the product: the count so far is at most that of the bytes that there are */
        if (tensor->shape[k] && tensor->count > (end - begin) / size / tensor->shape[k])
            return fail_usage("%s: tensor %s: its shape does not fit its %" PRIu64 " bytes", file->path, name, end - begin);
        tensor->count *= tensor->shape[k];
    }
    if (tensor->count * size != end - begin)
        return fail_usage("%s: tensor %s: its shape does not fit its %" PRIu64 " bytes", file->path, name, end - begin);
    return EXIT_OK;
}

static int compare_places(const void *a, const void *b)
{
    const CaseTensor *left = a, *right = b;
    if (left->bytes != right->bytes)
        return left->bytes < right->bytes ? -1 : 1;
    return (left->count > right->count) - (left->count < right->count);
}

/* Safetensors has neither holes nor overlaps. */
static int check_places(const CaseFile *file, const unsigned char *data, uint64_t data_size)
{
    uint64_t at = 0;
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, compare_places);
    for (size_t k = 0; k < file->tensor_count; k++) {
        const CaseTensor *tensor = &file->tensors[k];
        if ((uint64_t)(tensor->bytes - data) != at)
            return fail_usage("%s: tensor %s: begins at byte %" PRIu64 "; the one before it ends at %" PRIu64, file->path,
                              tensor->name, (uint64_t)(tensor->bytes - data), at);
        at += tensor->count * type_size(tensor->type);
    }
    return at == data_size ? EXIT_OK
                           : fail_usage("%s: %" PRIu64 " bytes of data; its tensors have %" PRIu64, file->path, data_size, at);
}

static int read_header(CaseFile *file)
{
    uint64_t length = 0;
    json_error_t error;
    for (size_t k = 0; k < PREFIX_SIZE && file->size >= PREFIX_SIZE; k++)
        length |= (uint64_t)file->bytes[k] << (8 * k);
    if (file->size < PREFIX_SIZE || length > file->size - PREFIX_SIZE || length > HEADER_LIMIT)
        return fail_usage("%s: not a safetensors file, or truncated", file->path);
    file->header = json_loadb((const char *)file->bytes + PREFIX_SIZE, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(file->header))
        return fail_usage("%s: its header is not a JSON object%s%s", file->path, file->header ? "" : ": ",
                          file->header ? "" : error.text);
    const unsigned char *data = file->bytes + PREFIX_SIZE + length;
    const uint64_t data_size = file->size - PREFIX_SIZE - length;
    const char *name;
    json_t *entry;
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!file->tensors)
        return fail_usage("%s: no memory for the header", file->path);
    json_object_foreach(file->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        int status = read_tensor(file, name, entry, data, data_size, &file->tensors[file->tensor_count++]);
        if (status != EXIT_OK)
            return status;
    }
    return check_places(file, data, data_size);
}

int casefile_read(const char *path, CaseFile *file)
{
    memset(file, 0, sizeof *file);
    file->path = path;
    int status = read_bytes(file);
    if (status == EXIT_OK)
        status = read_header(file);
    if (status != EXIT_OK)
        return status;
    const json_t *metadata = json_object_get(file->header, "__metadata__");
    const char *config = json_string_value(json_object_get(metadata, "config"));
    const char *format = json_string_value(json_object_get(metadata, "format"));
    if (format && strcmp(format, "vklstm") == 0)
        return fail_usage("%s: it is a trained model, not a case file", path);
    return config ? read_config(file, config) : fail_usage("%s: its metadata has no config", path);
}

void casefile_close(CaseFile *file)
{
    free(file->tensors);
    json_decref(file->header);
    free(file->bytes);
    memset(file, 0, sizeof *file);
}

const CaseTensor *casefile_find(const CaseFile *file, const char *name)
{
    for (size_t k = 0; k < file->tensor_count; k++)
        if (strcmp(file->tensors[k].name, name) == 0)
            return &file->tensors[k];
    return NULL;
}

static void shape_text(uint32_t rank, const uint64_t *shape, char text[128])
{
    size_t used = (size_t)snprintf(text, 128, "[");
    for (uint32_t k = 0; k < rank; k++)
        used += (size_t)snprintf(text + used, 128 - used, "%s%" PRIu64, k ? ", " : "", shape[k]);
    snprintf(text + used, 128 - used, "]");
}

int casefile_check(const CaseFile *file, const CaseTensor *tensor, bool integers, uint32_t rank, const uint64_t *shape)
{
    if ((tensor->type[0] == 'I') != integers)
        return fail_usage("%s: tensor %s: its type is %s; it must be %s", file->path, tensor->name, tensor->type,
                          integers ? "I32 or I64" : "F32 or F64");
    bool same = tensor->rank == rank;
    for (uint32_t k = 0; k < rank && same; k++)
        same = tensor->shape[k] == shape[k];
    if (same)
        return EXIT_OK;
    char got[128], wanted[128];
    shape_text(tensor->rank, tensor->shape, got);
    shape_text(rank, shape, wanted);
    return fail_usage("%s: tensor %s: its shape is %s; it must be %s", file->path, tensor->name, got, wanted);
}

static uint64_t read_bits(const CaseTensor *tensor, uint64_t index)
{
    const unsigned size = tensor->type[1] == '3' ? 4 : 8;
    const unsigned char *bytes = tensor->bytes + index * size;
    uint64_t bits = 0;
    for (unsigned k = 0; k < size; k++)
        bits |= (uint64_t)bytes[k] << (8 * k);
    return bits;
}

double casefile_number(const CaseTensor *tensor, uint64_t index)
{
    const uint64_t bits = read_bits(tensor, index);
    double wide;
    float narrow;
    if (tensor->type[1] == '6') {
        memcpy(&wide, &bits, sizeof wide);
        return wide;
    }
    const uint32_t low = (uint32_t)bits;
    memcpy(&narrow, &low, sizeof narrow);
    return (double)narrow;
}

int64_t casefile_integer(const CaseTensor *tensor, uint64_t index)
{
    const uint64_t bits = read_bits(tensor, index);
    int64_t wide;
    int32_t narrow;
    if (tensor->type[1] == '6') {
        memcpy(&wide, &bits, sizeof wide);
        return wide;
    }
    const uint32_t low = (uint32_t)bits;
    memcpy(&narrow, &low, sizeof narrow);
    return narrow;
}

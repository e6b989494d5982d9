/* SPDX-License-Identifier: MIT
 *
 * Model files: what is written, that it comes back to the bit, what is refused and in which words, and that nothing in a file
 * can make the loader crash.
 */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "prep.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct Bytes {
    unsigned char *data;
    size_t size;
} Bytes;

/* ---- Helpers ---- */

static VklModel *make_model(VklDevice *device, uint64_t features, const char *text)
{
    VklLayerDesc layers[8];
    uint32_t count = COUNT(layers);
    VklModel *model = NULL;
    TEST_OK(vkl_device_context(device), vkl_layers_parse(vkl_device_context(device), text, layers, &count));
    TEST_OK(vkl_device_context(device), vkl_model_create(device, features, layers, count, 7, &model));
    return model;
}

/* A table of columns whose names JSON must escape, with values that need all digits of a double. */
static VklTable *make_table(VklContext *context)
{
    enum { ROWS = 20 };
    static const char *const names[] = {"y \"1\"", "\xC3\xA9t\xC3\xA9\\"};
    double values[2 * ROWS];
    for (int r = 0; r < ROWS; r++) {
        values[2 * r] = 1 / (double)(r + 3);
        values[2 * r + 1] = r % 5 == 2 ? NAN : 1e-300 * (r % 7) + 0.1;
    }
    VklTable *table = NULL;
    TEST_OK(context, vkl_table_create(context, ROWS, 2, names, values, NULL, &table));
    return table;
}

static VklPrep *make_prep(VklContext *context, const VklTable *table, uint32_t features)
{
    const char *names[] = {vkl_table_column_name(table, 1), vkl_table_column_name(table, 0)};
    VklPrepDesc desc = vkl_prep_desc(vkl_table_column_name(table, 0));
    desc.features = names;
    desc.feature_count = features;
    desc.window = 3;
    desc.horizon = 4;
    desc.fill = VKL_FILL_MOVING_AVERAGE;
    desc.fill_window = 7;
    desc.scale = VKL_SCALE_STANDARD;
    desc.log = true;
    desc.difference = 3;
    desc.test_split = 0.125;
    desc.validation_split = 1.0 / 7;
    VklPrep *prep = NULL;
    TEST_OK(context, vkl_prep_create(context, table, &desc, &prep));
    return prep;
}

static Bytes save(VklModel *model, const VklPrep *prep)
{
    Bytes bytes = {NULL, 0};
    void *data = NULL;
    VklStatus status = vkl_model_save_memory(model, prep, &data, &bytes.size);
    cr_assert_eq(status, VKL_OK, "%s", vkl_model_error(model));
    bytes.data = data;
    return bytes;
}

static uint64_t header_length(Bytes bytes)
{
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes.data[i];
    return length;
}

/* A file with the header `header` and the data of `old`. */
static Bytes with_header(Bytes old, const char *header)
{
    size_t length = strlen(header), rest = 8 + (size_t)header_length(old);
    Bytes made = {malloc(8 + length + old.size - rest), 8 + length + old.size - rest};
    cr_assert_not_null(made.data);
    for (int i = 0; i < 8; i++)
        made.data[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(made.data + 8, header, length);
    memcpy(made.data + 8 + length, old.data + rest, old.size - rest);
    return made;
}

/* A copy of the header's text. */
static char *header_of(Bytes bytes)
{
    size_t length = (size_t)header_length(bytes);
    char *text = malloc(length + 1);
    cr_assert_not_null(text);
    memcpy(text, bytes.data + 8, length);
    text[length] = '\0';
    return text;
}

/* A copy of a text with the first `from` replaced by `to`. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    cr_assert_not_null(at, "'%s' is not in %s", from, text);
    char *made = malloc(strlen(text) + strlen(to) + 1);
    cr_assert_not_null(made);
    size_t before = (size_t)(at - text);
    memcpy(made, text, before);
    strcpy(made + before, to);
    strcat(made, at + strlen(from));
    return made;
}

static void check_same_model(VklModel *got, VklModel *want)
{
    uint32_t count, wanted;
    const VklLayerDesc *layers = vkl_model_layers(got, &count), *expected = vkl_model_layers(want, &wanted);
    cr_assert_eq(count, wanted);
    cr_assert_eq(vkl_model_features(got), vkl_model_features(want));
    for (uint32_t i = 0; i < count; i++)
        cr_assert(layers[i].kind == expected[i].kind && layers[i].units == expected[i].units &&
                  layers[i].activation == expected[i].activation);
    for (uint32_t i = 0; i < vkl_model_tensor_count(want); i++) {
        VklParamInfo info;
        cr_assert_eq(vkl_model_tensor_info(want, i, &info), VKL_OK);
        size_t size = (size_t)(info.shape[0] * info.shape[1]) * sizeof(float);
        float *a = malloc(size), *b = malloc(size);
        cr_assert(a && b);
        cr_assert_eq(vkl_model_get_tensor(want, i, a), VKL_OK);
        cr_assert_eq(vkl_model_get_tensor(got, i, b), VKL_OK);
        cr_assert_arr_eq(a, b, size, "%s", info.name);
        free(a);
        free(b);
    }
}

static void check_same_prep(const VklPrep *got, const VklPrep *want)
{
    const VklPrepDesc *a = vkl_prep_get_desc(got), *b = vkl_prep_get_desc(want);
    cr_assert_str_eq(a->target, b->target);
    cr_assert_eq(a->feature_count, b->feature_count);
    for (uint32_t i = 0; i < a->feature_count; i++)
        cr_assert_str_eq(a->features[i], b->features[i]);
    cr_assert(a->struct_size == b->struct_size && a->window == b->window && a->horizon == b->horizon && a->fill == b->fill);
    cr_assert(a->fill_window == b->fill_window && a->scale == b->scale && a->log == b->log && a->difference == b->difference);
    cr_assert(a->test_split == b->test_split && a->validation_split == b->validation_split);
    cr_assert_eq(got->column_count, want->column_count);
    cr_assert_eq(got->target, want->target);
    for (uint32_t i = 0; i < got->column_count; i++) {
        const VklPrepColumn *x = &got->columns[i], *y = &want->columns[i];
        cr_assert_str_eq(x->name, y->name);
        cr_assert(x->mean == y->mean && x->median == y->median && x->mode == y->mode && x->first == y->first);
        cr_assert(x->scale.offset == y->scale.offset && x->scale.divisor == y->scale.divisor);
    }
    cr_assert(got->target_scale.offset == want->target_scale.offset && got->target_scale.divisor == want->target_scale.divisor);
}

/* ---- What is written ---- */

Test(io, models_come_back_to_the_bit)
{
    static const struct {
        const char *layers;
        uint32_t prep_features;
        uint64_t features;
    } cases[] = {
        {"lstm:5,dense:1", 2, 2},
        {"lstm:1,dense:1", 1, 1}, /* the target is no feature */
        {"lstm:4,lstm:3,dense:7:tanh,dense:2:relu,dense:1:sigmoid", 2, 2},
        {"dense:3:relu,lstm:6", 0, 3},
        {"lstm:2,dense:5", 0, 4},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklTable *table = make_table(context);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklModel *model = make_model(device, cases[i].features, cases[i].layers), *loaded = NULL;
        VklPrep *prep = cases[i].prep_features ? make_prep(context, table, cases[i].prep_features) : NULL, *loaded_prep = NULL;
        Bytes bytes = save(model, prep);
        TEST_OK(context, vkl_model_load_memory(device, bytes.data, bytes.size, &loaded, &loaded_prep));
        check_same_model(loaded, model);
        cr_assert_eq(prep != NULL, loaded_prep != NULL);
        if (prep)
            check_same_prep(loaded_prep, prep);
        Bytes again = save(loaded, loaded_prep);
        cr_assert_eq(again.size, bytes.size);
        cr_assert_arr_eq(again.data, bytes.data, bytes.size);
        vkl_model_destroy(loaded);
        vkl_prep_destroy(loaded_prep);

        TEST_OK(context, vkl_model_load_memory(device, bytes.data, bytes.size, &loaded, NULL));
        vkl_model_destroy(loaded);
        vkl_free(again.data);
        vkl_free(bytes.data);
        vkl_prep_destroy(prep);
        vkl_model_destroy(model);
    }
    vkl_free(NULL);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

static void check_loaded(VklContext *context, VklDevice *device, const char *text)
{
    VklModel *model = make_model(device, 1, text), *loaded = NULL;
    float series[40], before[36], after[36];
    uint32_t starts[36];
    test_random(series, 40, 3, 1);
    for (uint32_t i = 0; i < 36; i++)
        starts[i] = i;
    VklWindows windows = {.struct_size = sizeof(windows),
                          .count = 36,
                          .steps = 5,
                          .features = 1,
                          .outputs = 1,
                          .rows = 40,
                          .series = series,
                          .starts = starts,
                          .targets = series};
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 2;
    fit.batch_size = 4;
    TEST_OK(context, vkl_model_fit(model, &windows, NULL, &fit, NULL));
    TEST_OK(context, vkl_model_predict(model, &windows, before));
    Bytes bytes = save(model, NULL);
    TEST_OK(context, vkl_model_load_memory(device, bytes.data, bytes.size, &loaded, NULL));
    TEST_OK(context, vkl_model_predict(loaded, &windows, after));
    cr_assert_arr_eq(before, after, sizeof(before));
    vkl_free(bytes.data);
    vkl_model_destroy(loaded);
    vkl_model_destroy(model);
}

/* Also where weights are rounded before they are used: the file says so. */
Test(io, loaded_models_predict_the_same_bits)
{
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    check_loaded(context, device, "lstm:6,dense:1");
    check_loaded(context, device, "lstm:6@half,dense:1");
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* Weights that are no numbers, or hardly, are kept as they are. */
Test(io, weights_of_every_kind_are_kept)
{
    static const float values[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, FLT_MIN / 4, FLT_MAX, -1.5f};
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklModel *model = make_model(device, 1, "lstm:8,dense:1"), *loaded = NULL;
    TEST_OK(context, vkl_model_set_tensor(model, 4, values));
    Bytes bytes = save(model, NULL);
    TEST_OK(context, vkl_model_load_memory(device, bytes.data, bytes.size, &loaded, NULL));
    check_same_model(loaded, model);
    vkl_free(bytes.data);
    vkl_model_destroy(loaded);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* Doubles come back through JSON as they were. */
Test(io, statistics_come_back_to_the_bit)
{
    static const double values[] = {1.0 / 3, 0.1, -123456789.123456789, DBL_MIN, DBL_MIN / 1024, DBL_MAX,
                                    1e22,    5,   1 + DBL_EPSILON};
    VklContext *context = test_context();
    VklTable *table = make_table(context);
    VklPrep *prep = make_prep(context, table, 2);
    prep->desc.log = false; /* with it, values above zero only */
    for (size_t i = 0; i < COUNT(values); i++) {
        VklPrepColumn *column = &prep->columns[0];
        column->mean = column->median = column->mode = column->first = column->scale.offset = values[i];
        column->scale.divisor = prep->target_scale.divisor = fabs(values[i]);
        json_t *json = vkl_prep_to_json(prep);
        char *text = json_dumps(json, 0);
        json_t *read = json_loads(text, 0, NULL);
        VklPrep *again = NULL;
        TEST_OK(context, vkl_prep_from_json(context, "text", read, &again));
        check_same_prep(again, prep);
        vkl_prep_destroy(again);
        json_decref(read);
        free(text);
        json_decref(json);
    }
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* The layout, read without the library. */
Test(io, files_are_safetensors)
{
    static const struct {
        const char *name;
        int rank, shape[2];
    } tensors[] = {
        {"0.lstm.weight_ih_l0", 2, {12, 2}}, {"0.lstm.weight_hh_l0", 2, {12, 3}}, {"0.lstm.bias_ih_l0", 1, {12, 1}},
        {"0.lstm.bias_hh_l0", 1, {12, 1}},   {"1.dense.weight", 2, {1, 3}},       {"1.dense.bias", 1, {1, 1}},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1");
    Bytes bytes = save(model, NULL);
    uint64_t length = header_length(bytes);
    cr_assert_eq(length % 8, 0);
    cr_assert_eq(bytes.data[8], '{');
    char *text = header_of(bytes);
    json_t *header = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(header);
    cr_assert_eq(json_object_size(header), 1 + COUNT(tensors));
    json_t *metadata = json_object_get(header, "__metadata__");
    cr_assert_str_eq(json_string_value(json_object_get(metadata, "format")), "vklstm");
    cr_assert_str_eq(json_string_value(json_object_get(metadata, "version")), "1");
    cr_assert_str_eq(json_string_value(json_object_get(metadata, "config")),
                     "{\"features\":2,\"layers\":[{\"kind\":\"lstm\",\"units\":3},{\"kind\":\"dense\",\"units\":1,\"activation\":"
                     "\"none\"}],\"preparation\":null}");
    uint64_t offset = 0;
    for (uint32_t i = 0; i < COUNT(tensors); i++) {
        json_t *tensor = json_object_get(header, tensors[i].name);
        cr_assert_str_eq(json_string_value(json_object_get(tensor, "dtype")), "F32");
        json_t *shape = json_object_get(tensor, "shape"), *offsets = json_object_get(tensor, "data_offsets");
        cr_assert_eq((int)json_array_size(shape), tensors[i].rank);
        for (int d = 0; d < tensors[i].rank; d++)
            cr_assert_eq(json_integer_value(json_array_get(shape, (size_t)d)), tensors[i].shape[d]);
        uint64_t count = (uint64_t)(tensors[i].shape[0] * tensors[i].shape[1]);
        cr_assert_eq((uint64_t)json_integer_value(json_array_get(offsets, 0)), offset);
        cr_assert_eq((uint64_t)json_integer_value(json_array_get(offsets, 1)), offset + 4 * count);
        float values[36];
        cr_assert_eq(vkl_model_get_tensor(model, i, values), VKL_OK);
        for (uint64_t v = 0; v < count; v++) {
            const unsigned char *b = bytes.data + 8 + length + offset + 4 * v;
            uint32_t bits = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
            float value;
            memcpy(&value, &bits, sizeof(value));
            cr_assert_eq(value, values[v]);
        }
        offset += 4 * count;
    }
    cr_assert_eq(bytes.size, 8 + length + offset);
    json_decref(header);
    free(text);
    vkl_free(bytes.data);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* ---- What is refused ---- */

#define TENSOR(name, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define WEIGHT_IH TENSOR("0.lstm.weight_ih_l0", "[12,2]", "0", "96")
#define BIAS TENSOR("1.dense.bias", "[1]", "348", "352")

Test(io, refuses_headers_that_do_not_describe_the_model)
{
    static const struct {
        const char *from, *to, *sentence;
    } cases[] = {
        {"{", "[", "model in memory: header, byte "}, /* and the parser's words */
        {"{\"__metadata__\"", "{\"a\":1,\"a\":2,\"__metadata__\"", "model in memory: header, byte "},
        {"\"format\":\"vklstm\"", "\"format\":\"pt\"",
         "model in memory: it is no vklstm model: the format in its metadata is 'pt', not 'vklstm'"},
        {"\"format\":\"vklstm\",", "", "model in memory: it is no vklstm model: the format in its metadata is '', not 'vklstm'"},
        {"\"version\":\"1\"", "\"version\":\"2\"",
         "model in memory: the file has version '2' of the format; this library reads version 1"},
        {"\"version\":\"1\"", "\"version\":1",
         "model in memory: the file has version '' of the format; this library reads version 1"},
        {"\"config\"", "\"other\"", "model in memory: its metadata has no 'config'"},
        {"\"config\":\"{", "\"config\":\"", "model in memory: config, character "},
        {"\\\"features\\\":2", "\\\"features\\\":0", "model in memory: config: 'features' is missing or not at least 1"},
        {"\\\"features\\\":2", "\\\"features\\\":\\\"2\\\"", "model in memory: config: 'features' is missing or not at least 1"},
        {"\\\"layers\\\"", "\\\"players\\\"", "model in memory: config: 'layers' is missing or empty"},
        {"\\\"lstm\\\"", "\\\"cnn\\\"",
         "model in memory: config: layer 0 is of the kind 'cnn'; lstm, gru, rnn, rnn_relu, dense and dropout are known"},
        {"\\\"units\\\":3", "\\\"units\\\":0", "model in memory: config: layer 0 has no 'units' of at least 1"},
        {"\\\"units\\\":3", "\\\"units\\\":-3", "model in memory: config: layer 0 has no 'units' of at least 1"},
        {"\\\"units\\\":3", "\\\"units\\\":1e300", "model in memory: config: layer 0 has no 'units' of at least 1"},
        {"\\\"units\\\":3", "\\\"units\\\":3,\\\"storage\\\":\\\"float8\\\"",
         "model in memory: config: layer 0: 'storage' is neither 'float32' nor 'float16'"},
        {"\\\"none\\\"", "\\\"softmax\\\"",
         "model in memory: config: layer 1 has no 'activation' of none, tanh, sigmoid or relu"},
        {"\\\"units\\\":3", "\\\"units\\\":4611686018427387905",
         "model in memory: the sizes of the layers in config need more numbers than the 88 of its tensors"},
        {"\\\"features\\\":2", "\\\"features\\\":9223372036854775807",
         "model in memory: the sizes of the layers in config need more numbers than the 88 of its tensors"},
        {"\\\"features\\\":2", "\\\"features\\\":3",
         "model in memory: tensor '0.lstm.weight_ih_l0' has the shape [12, 2]; the layers in config need [12, 3]"},
        {"\\\"units\\\":3", "\\\"units\\\":4",
         "model in memory: tensor '0.lstm.weight_ih_l0' has the shape [12, 2]; the layers in config need [16, 2]"},
        {"\\\"units\\\":1,", "\\\"units\\\":2,",
         "model in memory: tensor '1.dense.weight' has the shape [1, 3]; the layers in config need [2, 3]"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[2,12]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has the shape [2, 12]; the layers in config need [12, 2]"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[24]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has the shape [24]; the layers in config need [12, 2]"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2,1]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has no shape of one or two sizes"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has no shape of one or two sizes"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[9223372036854775807,4]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has no shape of one or two sizes"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[-12,-2]", "0", "96"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has no shape of one or two sizes"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2]", "0", "100"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has 100 bytes; its shape needs 96"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2]", "4", "100"),
         "model in memory: tensor '0.lstm.weight_ih_l0' begins at byte 4 of the data; the one before it ends at 0"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2]", "96", "192"), "begins at byte "}, /* two tensors begin there */
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2]", "96", "0"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has the bytes 96 to 0; the file holds 352: it is truncated or damaged"},
        {WEIGHT_IH, TENSOR("0.lstm.weight_ih_l0", "[12,2]", "-96", "0"),
         "model in memory: tensor '0.lstm.weight_ih_l0' has no two data_offsets"},
        {"\"data_offsets\":[0,96]", "\"data_offsets\":96",
         "model in memory: tensor '0.lstm.weight_ih_l0' has no two data_offsets"},
        {BIAS, TENSOR("1.dense.bias", "[2]", "348", "356"),
         "model in memory: tensor '1.dense.bias' has the bytes 348 to 356; the file holds 352: it is truncated or damaged"},
        {"," BIAS, "", "model in memory: the tensors have 348 bytes; the file holds 352"},
        {"1.dense.bias", "1.dense.bios", "model in memory: tensor '1.dense.bias' is missing"},
        {BIAS, BIAS "," TENSOR("2.dense.bias", "[0]", "352", "352"),
         "model in memory: tensor '2.dense.bias' belongs to none of the layers"},
        {BIAS, "\"1.dense.bias\":7", "model in memory: tensor '1.dense.bias' has the type (none); it must be F32"},
        {"\"dtype\":\"F32\"", "\"dtype\":\"F16\"",
         "model in memory: tensor '0.lstm.weight_ih_l0' has the type F16; it must be F32"},
        {",\\\"preparation\\\":null", "", "model in memory: config: 'preparation' is missing or neither null nor an object"},
        {"\\\"preparation\\\":null", "\\\"preparation\\\":[]",
         "model in memory: config: 'preparation' is missing or neither null nor an object"},
        {"\\\"preparation\\\":null", "\\\"preparation\\\":{}", "model in memory: preparation: 'target' is missing or not a text"},
        {"{\\\"kind\\\":\\\"lstm\\\",\\\"units\\\":3},", "", "model in memory: config: vkl_model_create: "},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1");
    Bytes bytes = save(model, NULL);
    char *header = header_of(bytes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *changed = replaced(header, cases[i].from, cases[i].to);
        Bytes file = with_header(bytes, changed);
        VklModel *loaded = NULL;
        VklPrep *prep = NULL;
        VklStatus status = vkl_model_load_memory(device, file.data, file.size, &loaded, &prep);
        cr_assert_eq(status, VKL_ERROR_FORMAT, "case %zu: status %d: %s", i, (int)status, vkl_device_error(device));
        cr_assert_not_null(strstr(vkl_device_error(device), cases[i].sentence), "case %zu: %s", i, vkl_device_error(device));
        cr_assert(!loaded && !prep);
        free(file.data);
        free(changed);
    }
    /* other metadata, spaces and another order of the tensors are none of the loader's business */
    char *moved = replaced(header, "," BIAS, ""), *changed = replaced(moved, WEIGHT_IH, BIAS " , " WEIGHT_IH);
    char *more = replaced(changed, "\"version\"", "\"author\":\"x\",\"version\"");
    Bytes file = with_header(bytes, more);
    VklModel *loaded = NULL;
    TEST_OK(context, vkl_model_load_memory(device, file.data, file.size, &loaded, NULL));
    check_same_model(loaded, model);
    vkl_model_destroy(loaded);
    free(file.data);
    free(more);
    free(changed);
    free(moved);
    free(header);
    vkl_free(bytes.data);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

Test(io, refuses_preparations_that_make_no_sense)
{
    static const struct {
        const char *from, *to, *sentence;
    } cases[] = {
        {"\\\"window\\\":3", "\\\"window\\\":0", "preparation: window is 0; it must be at least 1"},
        {"\\\"window\\\":3", "\\\"window\\\":-3", "preparation: 'window' is missing or not a whole number"},
        {"\\\"window\\\":3", "\\\"window\\\":3.5", "preparation: 'window' is missing or not a whole number"},
        {"\\\"horizon\\\":4", "\\\"horizon\\\":0", "preparation: horizon is 0; it must be at least 1"},
        {"\\\"log\\\":true", "\\\"log\\\":1", "preparation: 'log' is missing or not true or false"},
        {"moving-average:7", "moving-average:6", "preparation: 'fill' is missing or not a fill"},
        {"\\\"standard\\\"", "\\\"robust\\\"", "preparation: 'scale' is missing or not a scale"},
        {"\\\"difference\\\":3", "\\\"difference\\\":null", "preparation: 'difference' is missing or not a whole number"},
        {"\\\"test_split\\\":0.125", "\\\"test_split\\\":1.1", "preparation: test_split is 1.1"},
        {"\\\"test_split\\\":0.125", "\\\"test_split\\\":\\\"0.1\\\"", "preparation: 'test_split' is missing or not a number"},
        {"\\\"target\\\":\\\"", "\\\"target\\\":\\\"z",
         "preparation: 'columns' is missing or not an array of the features and the target"},
        {"\\\"columns\\\":[", "\\\"columns\\\":[1,",
         "preparation: 'columns' is missing or not an array of the features and the target"},
        {"\\\"mean\\\":", "\\\"moan\\\":", "'mean' is missing or not a number"},
        {"\\\"mean\\\":", "\\\"mean\\\":1e999,\\\"moan\\\":", "config, character "},
        {"\\\"divisor\\\":", "\\\"divisor\\\":0,\\\"old\\\":", "'divisor' is missing or not above 0"},
        {"\\\"divisor\\\":", "\\\"divisor\\\":-1,\\\"old\\\":", "'divisor' is missing or not above 0"},
        {"\\\"target_scale\\\":", "\\\"target_scale\\\":1,\\\"old\\\":",
         "preparation: 'target_scale' is missing or not an object"},
        {"\\\"first\\\":", "\\\"first\\\":null,\\\"old\\\":", "'first' is missing or not a number"},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklTable *table = make_table(context);
    VklPrep *prep = make_prep(context, table, 2);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1"), *one = make_model(device, 1, "lstm:3,dense:1");
    VklModel *two_outputs = make_model(device, 2, "lstm:3,dense:2");
    Bytes bytes = save(model, prep);
    char *header = header_of(bytes);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *changed = replaced(header, cases[i].from, cases[i].to);
        Bytes file = with_header(bytes, changed);
        VklModel *loaded = NULL;
        VklPrep *loaded_prep = NULL;
        VklStatus status = vkl_model_load_memory(device, file.data, file.size, &loaded, &loaded_prep);
        cr_assert_eq(status, VKL_ERROR_FORMAT, "case %zu: status %d: %s", i, (int)status, vkl_device_error(device));
        cr_assert_not_null(strstr(vkl_device_error(device), cases[i].sentence), "case %zu: %s", i, vkl_device_error(device));
        cr_assert(!loaded && !loaded_prep);
        free(file.data);
        free(changed);
    }
    /* a logarithm of what fills a gap must exist */
    char *changed = replaced(header, "\\\"fill\\\":", "\\\"old\\\":0,\\\"fill\\\":");
    char *name = strstr(changed, "\\\"columns\\\":");
    cr_assert_not_null(name);
    char *last = NULL;
    for (char *at = name; (at = strstr(at, "\\\"median\\\":")); at++)
        last = at;
    cr_assert_not_null(last);
    last[strlen("\\\"median\\\":")] = '-';
    Bytes file = with_header(bytes, changed);
    VklModel *loaded = NULL;
    cr_assert_eq(vkl_model_load_memory(device, file.data, file.size, &loaded, NULL), VKL_ERROR_FORMAT);
    cr_assert_null(loaded);
    free(file.data);
    free(changed);
    free(header);

    void *data = NULL;
    size_t size = 0;
    cr_assert_eq(vkl_model_save_memory(one, prep, &data, &size), VKL_ERROR_INVALID);
    cr_assert_str_eq(vkl_model_error(one),
                     "vkl_model_save: the preparation has 2 features and 1 target, the model 1 features and 1 "
                     "outputs");
    cr_assert_eq(vkl_model_save_memory(two_outputs, prep, &data, &size), VKL_ERROR_INVALID);
    cr_assert_null(data);
    vkl_free(bytes.data);
    vkl_model_destroy(two_outputs);
    vkl_model_destroy(one);
    vkl_model_destroy(model);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* ---- Damage ---- */

/* A load gives a model or a sentence, never both or neither, and never touches a byte outside `size` (the copy is exact, for the
 * address sanitizer). */
static bool loads(VklDevice *device, const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size ? size : 1);
    cr_assert_not_null(copy);
    memcpy(copy, data, size);
    VklModel *model = NULL;
    VklPrep *prep = NULL;
    VklStatus status = vkl_model_load_memory(device, copy, size, &model, &prep);
    cr_assert_eq(status == VKL_OK, model != NULL);
    cr_assert(status == VKL_OK || status == VKL_ERROR_FORMAT || status == VKL_ERROR_LIMIT, "status %d: %s", (int)status,
              vkl_device_error(device));
    cr_assert(status == VKL_OK || !prep);
    vkl_model_destroy(model);
    vkl_prep_destroy(prep);
    free(copy);
    return status == VKL_OK;
}

Test(io, survives_truncated_files)
{
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklTable *table = make_table(context);
    VklPrep *prep = make_prep(context, table, 2);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1");
    Bytes bytes = save(model, prep);
    for (size_t size = 0; size < bytes.size; size++)
        cr_assert(!loads(device, bytes.data, size), "%zu of %zu bytes", size, bytes.size);
    cr_assert(loads(device, bytes.data, bytes.size));
    cr_assert_eq(vkl_model_load_memory(device, bytes.data, 7, &(VklModel *){NULL}, NULL), VKL_ERROR_FORMAT);
    cr_assert_str_eq(vkl_device_error(device), "model in memory: the file has 7 bytes; a model has at least 10");
    /* one byte too many is no model either */
    unsigned char *longer = malloc(bytes.size + 1);
    cr_assert_not_null(longer);
    memcpy(longer, bytes.data, bytes.size);
    longer[bytes.size] = 0;
    cr_assert(!loads(device, longer, bytes.size + 1));
    free(longer);
    vkl_free(bytes.data);
    vkl_model_destroy(model);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* Every byte of length and header is replaced by characters that mean something, then many at once by random ones. */
Test(io, survives_changed_bytes)
{
    static const char meaningful[] = "\"\\{}[]:,-.e09 ";
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklTable *table = make_table(context);
    VklPrep *prep = make_prep(context, table, 2);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1");
    Bytes bytes = save(model, prep);
    size_t end = 8 + (size_t)header_length(bytes);
    for (size_t at = 0; at < end; at++) {
        unsigned char was = bytes.data[at];
        for (size_t c = 0; c < sizeof(meaningful); c++) { /* with the 0 at its end */
            bytes.data[at] = (unsigned char)meaningful[c];
            loads(device, bytes.data, bytes.size);
        }
        bytes.data[at] = was ^ 0x80;
        loads(device, bytes.data, bytes.size);
        bytes.data[at] = was;
    }
    uint32_t state = 1;
    unsigned char *changed = malloc(bytes.size);
    cr_assert_not_null(changed);
    for (int i = 0; i < 3000; i++) {
        memcpy(changed, bytes.data, bytes.size);
        for (int n = 0; n < 1 + i % 8; n++) {
            state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator: any numbers will do */
            changed[(state >> 8) % end] = (unsigned char)(state >> 24 ^ state >> 3);
        }
        loads(device, changed, bytes.size);
    }
    free(changed);
    vkl_free(bytes.data);
    vkl_model_destroy(model);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* ---- Files ---- */

/* How many entries a folder has, "." and ".." not counted. */
static int entries(const char *path)
{
    DIR *folder = opendir(path);
    cr_assert_not_null(folder);
    int count = -2;
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static bool holds_text(const char *path, const char *text)
{
    char got[64] = "";
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file);
    size_t size = fread(got, 1, sizeof(got) - 1, file);
    fclose(file);
    return size == strlen(text) && memcmp(got, text, size) == 0;
}

Test(io, files_are_replaced_in_one_piece)
{
    char folder[] = "test-io-XXXXXX", path[64], link[64], missing[64];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/model", folder);
    snprintf(link, sizeof(link), "%s/link", folder);
    snprintf(missing, sizeof(missing), "%s/none/model", folder);
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1"), *loaded = NULL;

    mode_t mask = umask(022);
    cr_assert_eq(vkl_model_save(model, NULL, path), VKL_OK, "%s", vkl_model_error(model));
    umask(mask);
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    cr_assert_eq(info.st_mode & 0777, 0644);
    cr_assert_eq(entries(folder), 1);
    TEST_OK(context, vkl_model_load(device, path, &loaded, NULL));
    check_same_model(loaded, model);
    vkl_model_destroy(loaded);

    /* what is there is replaced, and keeps its permissions; a link stays one */
    write_text(path, "old");
    cr_assert_eq(chmod(path, 0600), 0);
    cr_assert_eq(symlink("model", link), 0);
    cr_assert_eq(vkl_model_save(model, NULL, link), VKL_OK, "%s", vkl_model_error(model));
    cr_assert(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    cr_assert(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    cr_assert_eq(entries(folder), 2);
    TEST_OK(context, vkl_model_load(device, path, &loaded, NULL));
    vkl_model_destroy(loaded);

    /* a name with no folder in it is of the current one */
    char *back = realpath(".", NULL);
    cr_assert(back && chdir(folder) == 0);
    cr_assert_eq(vkl_model_save(model, NULL, "here"), VKL_OK, "%s", vkl_model_error(model));
    cr_assert_eq(entries("."), 3);
    cr_assert(chdir(back) == 0);
    free(back);

    char sentence[256];
    snprintf(sentence, sizeof(sentence), "%s: cannot be written: No such file or directory", missing);
    cr_assert_eq(vkl_model_save(model, NULL, missing), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_model_error(model), sentence);
    cr_assert_str_eq(vkl_context_error(context), sentence);
    snprintf(sentence, sizeof(sentence), "%s: cannot be written: Is a directory", folder);
    cr_assert_eq(vkl_model_save(model, NULL, folder), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_model_error(model), sentence);
    cr_assert_eq(vkl_model_save(model, NULL, "/dev/null"), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_model_error(model), "/dev/null: cannot be written: it is not a regular file");
    cr_assert(stat("/dev/null", &info) == 0 && S_ISCHR(info.st_mode));
    cr_assert_eq(vkl_model_save(model, NULL, ""), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_model_save(model, NULL, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(entries(folder), 3);

    char here[64];
    snprintf(here, sizeof(here), "%s/here", folder);
    remove(here);
    remove(link);
    remove(path);
    cr_assert_eq(rmdir(folder), 0);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* A file that its owner protected is not got round by the rename. Root may write everything: nothing to see then. */
Test(io, a_failed_save_leaves_the_file_as_it_was)
{
    char folder[] = "test-io-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/model", folder);
    write_text(path, "old");
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklModel *model = make_model(device, 2, "lstm:3,dense:1");
    if (geteuid() != 0) {
        cr_assert_eq(chmod(path, 0444), 0);
        cr_assert_eq(vkl_model_save(model, NULL, path), VKL_ERROR_IO);
        cr_assert(holds_text(path, "old"));
        cr_assert_eq(chmod(path, 0644), 0);
        cr_assert_eq(chmod(folder, 0555), 0);
        cr_assert_eq(vkl_model_save(model, NULL, path), VKL_ERROR_IO);
        cr_assert_eq(chmod(folder, 0755), 0);
        cr_assert(holds_text(path, "old"));
    }
    /* a preparation that does not fit is refused before the file is touched */
    VklTable *table = make_table(context);
    VklPrep *prep = make_prep(context, table, 1);
    cr_assert_eq(vkl_model_save(model, prep, path), VKL_ERROR_INVALID);
    cr_assert(holds_text(path, "old"));
    cr_assert_eq(entries(folder), 1);
    remove(path);
    cr_assert_eq(rmdir(folder), 0);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

Test(io, refuses_files_that_cannot_be_read)
{
    char path[] = "test-io-XXXXXX", sentence[256];
    int file = mkstemp(path);
    cr_assert(file >= 0);
    close(file);
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklModel *model = NULL;
    VklPrep *prep = NULL;
    cr_assert_eq(vkl_model_load(device, "there/is/none", &model, &prep), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_device_error(device), "there/is/none: cannot be opened: No such file or directory");
    cr_assert_eq(vkl_model_load(device, VKL_SOURCE_ROOT, &model, &prep), VKL_ERROR_IO);
    cr_assert_str_eq(vkl_device_error(device), VKL_SOURCE_ROOT ": cannot be read: Is a directory");
    cr_assert_eq(vkl_model_load(device, path, &model, &prep), VKL_ERROR_FORMAT);
    snprintf(sentence, sizeof(sentence), "%s: the file has 0 bytes; a model has at least 10", path);
    cr_assert_str_eq(vkl_device_error(device), sentence);
    write_text(path, "month,passengers\n1949-01,112\n");
    cr_assert_eq(vkl_model_load(device, path, &model, &prep), VKL_ERROR_FORMAT);
    cr_assert_not_null(strstr(vkl_device_error(device), "it is truncated or no model"));
    cr_assert_eq(vkl_model_load(device, NULL, &model, &prep), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_model_load(device, path, NULL, &prep), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_model_load_memory(device, NULL, 0, &model, &prep), VKL_ERROR_INVALID);
    cr_assert(!model && !prep);
    remove(path);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* SPDX-License-Identifier: MIT
 *
 * A preparation as JSON, for model files: docs/model-file.md. Jansson writes doubles with the digits that bring them back as they were.
 */
#include <math.h>
#include <stdio.h>

#include "prep.h"

static json_t *scale_to_json(VklPrepScale scale)
{
    return json_pack("{s:f, s:f}", "offset", scale.offset, "divisor", scale.divisor);
}

json_t *vkl_prep_to_json(const VklPrep *prep)
{
    const VklPrepDesc *desc = &prep->desc;
    char fill[48];
    if (desc->fill == VKL_FILL_MOVING_AVERAGE)
        snprintf(fill, sizeof(fill), "%s:%llu", vkl_fill_name(desc->fill), (unsigned long long)desc->fill_window);
    else
        snprintf(fill, sizeof(fill), "%s", vkl_fill_name(desc->fill));
    json_t *features = json_array(), *columns = json_array();
    bool complete = features && columns;
    for (uint32_t i = 0; i < desc->feature_count && complete; i++)
        complete = json_array_append_new(features, json_string(desc->features[i])) == 0;
    for (uint32_t i = 0; i < prep->column_count && complete; i++) {
        const VklPrepColumn *column = &prep->columns[i];
        complete = json_array_append_new(columns, json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "name", column->name, "mean",
                                                            column->mean, "median", column->median, "mode", column->mode, "first",
                                                            column->first, "scale", scale_to_json(column->scale))) == 0;
    }
    json_t *json = NULL;
    if (complete)
        json = json_pack("{s:s, s:O, s:I, s:I, s:s, s:s, s:b, s:I, s:f, s:f, s:O, s:o}", "target", desc->target, "features",
                         features, "window", (json_int_t)desc->window, "horizon", (json_int_t)desc->horizon, "fill", fill,
                         "scale", vkl_scale_name(desc->scale), "log", desc->log, "difference", (json_int_t)desc->difference,
                         "test_split", desc->test_split, "validation_split", desc->validation_split, "columns", columns,
                         "target_scale", scale_to_json(prep->target_scale));
    json_decref(features);
    json_decref(columns);
    return json;
}

/* ---- Reading: a file may hold anything ---- */

typedef struct Reader {
    VklContext *context;
    const char *name; /* of the file */
    VklStatus status;
} Reader;

static void refuse(Reader *reader, const char *where, const char *key, const char *needed)
{
    if (reader->status == VKL_OK)
        reader->status = vkl_fail(reader->context, NULL, VKL_ERROR_FORMAT, "%s: %s: '%s' is missing or not %s", reader->name,
                                  where, key, needed);
}

static const char *read_text(Reader *reader, const json_t *object, const char *where, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text)
        refuse(reader, where, key, "a text");
    return text ? text : "";
}

static uint64_t read_count(Reader *reader, const json_t *object, const char *where, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        return (uint64_t)json_integer_value(value);
    refuse(reader, where, key, "a whole number");
    return 0;
}

static double read_number(Reader *reader, const json_t *object, const char *where, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_number(value) && isfinite(json_number_value(value)))
        return json_number_value(value);
    refuse(reader, where, key, "a number");
    return 0;
}

static VklPrepScale read_scale(Reader *reader, const json_t *object, const char *where, const char *key)
{
    const json_t *value = json_object_get(object, key);
    VklPrepScale scale = {.offset = 0, .divisor = 1};
    if (!json_is_object(value)) {
        refuse(reader, where, key, "an object");
        return scale;
    }
    scale.offset = read_number(reader, value, where, "offset");
    scale.divisor = read_number(reader, value, where, "divisor");
    if (!(scale.divisor > 0))
        refuse(reader, where, "divisor", "above 0");
    return scale;
}

static void read_columns(Reader *reader, const json_t *columns, VklPrep *prep)
{
    if (!json_is_array(columns) || json_array_size(columns) != prep->column_count) {
        refuse(reader, "preparation", "columns", "an array of the features and the target");
        return;
    }
    for (uint32_t i = 0; i < prep->column_count; i++) {
        VklPrepColumn *column = &prep->columns[i];
        const json_t *value = json_array_get(columns, i);
        char where[128];
        snprintf(where, sizeof(where), "preparation: column '%.64s'", column->name);
        if (strcmp(read_text(reader, value, where, "name"), column->name) != 0)
            refuse(reader, where, "name", "that of the features and the target, in their order");
        column->mean = read_number(reader, value, where, "mean");
        column->median = read_number(reader, value, where, "median");
        column->mode = read_number(reader, value, where, "mode");
        column->first = read_number(reader, value, where, "first");
        column->scale = read_scale(reader, value, where, "scale");
        if (prep->desc.log && i == prep->target &&
            !(column->mean > 0 && column->median > 0 && column->mode > 0 && column->first > 0))
            refuse(reader, where, "mean', 'median', 'mode' or 'first", "above 0, which the logarithm needs");
    }
}

VklStatus vkl_prep_from_json(VklContext *context, const char *name, const json_t *json, VklPrep **prep)
{
    Reader reader = {.context = context, .name = name, .status = VKL_OK};
    const char *where = "preparation";
    const char *target = read_text(&reader, json, where, "target");
    const char *fill = read_text(&reader, json, where, "fill");
    const char *scale = read_text(&reader, json, where, "scale");
    VklPrepDesc desc = vkl_prep_desc(target);
    desc.window = read_count(&reader, json, where, "window");
    desc.horizon = read_count(&reader, json, where, "horizon");
    desc.difference = read_count(&reader, json, where, "difference");
    desc.test_split = read_number(&reader, json, where, "test_split");
    desc.validation_split = read_number(&reader, json, where, "validation_split");
    desc.log = json_is_true(json_object_get(json, "log"));
    if (!json_is_boolean(json_object_get(json, "log")))
        refuse(&reader, where, "log", "true or false");
    if (!vkl_fill(fill, &desc.fill, &desc.fill_window))
        refuse(&reader, where, "fill", "a fill");
    if (!vkl_scale(scale, &desc.scale))
        refuse(&reader, where, "scale", "a scale");
    const json_t *features = json_object_get(json, "features");
    size_t count = json_array_size(features);
    if (!count || count >= UINT32_MAX)
        refuse(&reader, where, "features", "an array of names");
    if (reader.status != VKL_OK)
        return reader.status;

    const char **names = vkl_allocate(&context->desc.memory, count, sizeof(*names));
    VklPrep *made = NULL;
    char why[160];
    if (!names)
        goto memory;
    for (size_t i = 0; i < count; i++)
        names[i] = json_string_value(json_array_get(features, i));
    desc.features = names;
    desc.feature_count = (uint32_t)count;
    if (!vkl_prep_check(&desc, why, sizeof(why))) {
        reader.status = vkl_fail(context, NULL, VKL_ERROR_FORMAT, "%s: preparation: %s", name, why);
        goto done;
    }
    made = vkl_prep_new(context, &desc);
    if (!made)
        goto memory;
    read_columns(&reader, json_object_get(json, "columns"), made);
    made->target_scale = read_scale(&reader, json, where, "target_scale");
    goto done;
memory:
    reader.status = vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "%s: no memory for %zu features", name, count);
done:
    vkl_release(names);
    if (reader.status != VKL_OK) {
        vkl_prep_destroy(made);
        return reader.status;
    }
    *prep = made;
    return VKL_OK;
}

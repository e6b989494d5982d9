/* SPDX-License-Identifier: MIT
 *
 * VklPrep: how a column becomes numbers that a network can learn, fitted on the training part.
 */
#include <math.h>
#include <stdio.h>

#include "prep.h"

/* ---- Description ---- */

VklPrepDesc vkl_prep_desc(const char *target)
{
    return (VklPrepDesc){
        .struct_size = sizeof(VklPrepDesc),
        .target = target,
        .window = 1,
        .horizon = 1,
        .fill = VKL_FILL_FORWARD,
        .fill_window = 5,
        .scale = VKL_SCALE_MINMAX,
        .test_split = 0.2,
    };
}

bool vkl_prep_check(const VklPrepDesc *desc, char *why, size_t size)
{
    if (!desc->target || !desc->target[0])
        snprintf(why, size, "target is missing; it must name a column");
    else if ((desc->features != NULL) != (desc->feature_count > 0))
        snprintf(why, size, "features is %s and feature_count is %lu", desc->features ? "given" : "NULL",
                 (unsigned long)desc->feature_count);
    else if (!desc->window || desc->window > INT64_MAX)
        snprintf(why, size, "window is %llu; it must be %s", (unsigned long long)desc->window,
                 desc->window ? "below 2^63" : "at least 1");
    else if (!desc->horizon || desc->horizon > INT64_MAX)
        snprintf(why, size, "horizon is %llu; it must be %s", (unsigned long long)desc->horizon,
                 desc->horizon ? "below 2^63" : "at least 1");
    else if (!vkl_fill_name(desc->fill))
        snprintf(why, size, "fill is %d, which is none of VklFill", (int)desc->fill);
    else if (desc->fill == VKL_FILL_MOVING_AVERAGE &&
             (desc->fill_window < 3 || desc->fill_window % 2 == 0 || desc->fill_window > INT64_MAX))
        snprintf(why, size, "fill_window is %llu; it must be odd and at least 3", (unsigned long long)desc->fill_window);
    else if (!vkl_scale_name(desc->scale))
        snprintf(why, size, "scale is %d, which is none of VklScale", (int)desc->scale);
    else if (desc->difference > INT64_MAX)
        snprintf(why, size, "difference is %llu; it must be below 2^63", (unsigned long long)desc->difference);
    else if (!(desc->test_split >= 0 && desc->test_split < 1))
        snprintf(why, size, "test_split is %g; it must be at least 0 and below 1", desc->test_split);
    else if (!(desc->validation_split >= 0 && desc->validation_split < 1))
        snprintf(why, size, "validation_split is %g; it must be at least 0 and below 1", desc->validation_split);
    else {
        for (uint32_t i = 0; i < desc->feature_count; i++) {
            if (!desc->features[i] || !desc->features[i][0]) {
                snprintf(why, size, "feature %lu is missing; it must name a column", (unsigned long)i);
                return false;
            }
            for (uint32_t j = 0; j < i; j++) {
                if (strcmp(desc->features[i], desc->features[j]) == 0) {
                    snprintf(why, size, "feature '%.64s' is given twice", desc->features[i]);
                    return false;
                }
            }
        }
        return true;
    }
    return false;
}

VklPrep *vkl_prep_new(VklContext *context, const VklPrepDesc *desc)
{
    const char *const alone[] = {desc->target};
    const char *const *features = desc->features ? desc->features : alone;
    uint32_t count = desc->features ? desc->feature_count : 1;
    const VklHostMemory *memory = &context->desc.memory;
    VklPrep *prep = vkl_allocate(memory, 1, sizeof(*prep));
    if (!prep)
        return NULL;
    prep->context = context;
    prep->desc = *desc;
    prep->target = count;
    prep->features = vkl_allocate(memory, count, sizeof(*prep->features));
    prep->columns = vkl_allocate(memory, (uint64_t)count + 1, sizeof(*prep->columns));
    if (!prep->features || !prep->columns)
        goto memory;
    for (uint32_t i = 0; i < count; i++) {
        prep->columns[i].name = vkl_copy_text(memory, features[i]);
        if (!prep->columns[i].name)
            goto memory;
        prep->column_count++;
        prep->features[i] = prep->columns[i].name;
        if (strcmp(features[i], desc->target) == 0)
            prep->target = i;
    }
    if (prep->target == count) {
        prep->columns[count].name = vkl_copy_text(memory, desc->target);
        if (!prep->columns[count].name)
            goto memory;
        prep->column_count++;
    }
    prep->desc.features = prep->features;
    prep->desc.feature_count = count;
    prep->desc.target = prep->columns[prep->target].name;
    return prep;
memory:
    vkl_prep_destroy(prep);
    return NULL;
}

void vkl_prep_destroy(VklPrep *prep)
{
    if (!prep)
        return;
    for (uint32_t i = 0; prep->columns && i < prep->column_count; i++)
        vkl_release(prep->columns[i].name);
    vkl_release(prep->columns);
    vkl_release(prep->features);
    vkl_release(prep);
}

const char *vkl_prep_error(const VklPrep *prep)
{
    return prep->error.message;
}

const VklPrepDesc *vkl_prep_get_desc(const VklPrep *prep)
{
    return &prep->desc;
}

uint64_t vkl_prep_features(const VklPrep *prep)
{
    return prep->desc.feature_count;
}

void vkl_prep_part(const VklPrep *prep, uint64_t rows, VklPart part, uint64_t *begin, uint64_t *end)
{
    uint64_t test = (uint64_t)round(prep->desc.test_split * (double)rows);
    test = test < rows ? test : rows;
    uint64_t rest = rows - test;
    uint64_t validation = (uint64_t)round(prep->desc.validation_split * (double)rest);
    validation = validation < rest ? validation : rest;
    *begin = part == VKL_PART_TRAIN ? 0 : part == VKL_PART_VALIDATION ? rest - validation : rest;
    *end = part == VKL_PART_TRAIN ? rest - validation : part == VKL_PART_VALIDATION ? rest : rows;
}

/* ---- Fitting ---- */

static VklStatus fit_scale(VklPrep *prep, const VklTable *table, const char *what, const char *name, const double *values,
                           uint64_t count, VklPrepScale *scale)
{
    *scale = (VklPrepScale){.offset = 0, .divisor = 1};
    if (prep->desc.scale == VKL_SCALE_NONE || !count)
        return VKL_OK;
    double lowest = values[0], highest = values[0], mean = 0, variance = 0;
    for (uint64_t i = 0; i < count; i++) {
        lowest = values[i] < lowest ? values[i] : lowest;
        highest = values[i] > highest ? values[i] : highest;
        mean += values[i];
    }
    mean /= (double)count;
    for (uint64_t i = 0; i < count; i++)
        variance += (values[i] - mean) * (values[i] - mean);
    bool minmax = prep->desc.scale == VKL_SCALE_MINMAX;
    VklPrepScale fitted = {
        .offset = minmax ? lowest : mean,
        .divisor = minmax ? highest - lowest : sqrt(variance / (double)count),
    };
    if (!isfinite(fitted.offset) || !isfinite(fitted.divisor))
        return vkl_fail(prep->context, &prep->error, VKL_ERROR_FORMAT,
                        "%s: %s '%.64s' goes from %g to %g in the training part, too far to be scaled", vkl_table_name(table),
                        what, name, lowest, highest);
    if (lowest == highest || fitted.divisor == 0) {
        vkl_log(prep->context, VKL_LOG_WARNING, "%s: %s '%.64s' is constant (%g) in the training part; it is kept unscaled",
                vkl_table_name(table), what, name, lowest);
        return VKL_OK;
    }
    *scale = fitted;
    return VKL_OK;
}

/* Scales are fitted on the training part as its windows see it: filled, without rows that stay gaps or lack history. */
static VklStatus fit_scales(VklPrep *prep, const VklView *view)
{
    uint64_t K = prep->desc.difference, lag = vkl_prep_target_lag(prep);
    double *values = vkl_allocate(&prep->context->desc.memory, view->train_end, sizeof(*values));
    if (!values)
        return vkl_prep_no_memory(prep, "vkl_prep_create", view->table);
    VklStatus status = VKL_OK;
    for (uint32_t c = 0; c < prep->column_count && status == VKL_OK; c++) {
        uint64_t count = 0;
        bool is_target_column = c == prep->target;
        for (uint64_t r = is_target_column ? K : 0; r < view->train_end; r++) {
            values[count] = vkl_view_unscaled_input(view, c, r, view->train_end - 1);
            count += !isnan(values[count]);
        }
        status = fit_scale(prep, view->table, is_target_column && K ? "the difference of column" : "column",
                           prep->columns[c].name, values, count, &prep->columns[c].scale);
    }
    prep->target_scale = prep->columns[prep->target].scale;
    if (status == VKL_OK && lag != K) {
        uint64_t count = 0;
        for (uint64_t r = lag; r < view->train_end; r++) {
            values[count] = vkl_view_level(view, r, view->train_end - 1) - vkl_view_base(view, r, view->train_end - 1);
            count += !isnan(values[count]);
        }
        status = fit_scale(prep, view->table, "the difference to predict of column", prep->desc.target, values, count,
                           &prep->target_scale);
    }
    vkl_release(values);
    return status;
}

static VklStatus fit(VklPrep *prep, const VklTable *table)
{
    uint64_t needed = vkl_prep_rows_needed(prep);
    if (table->rows < needed)
        return vkl_prep_too_few_rows(prep, table, "the table", table->rows, needed);
    VklView view;
    VklStatus status = vkl_view_open(prep, table, "vkl_prep_create", &view);
    if (status != VKL_OK)
        return status;
    if (view.train_end < needed) {
        status = vkl_prep_too_few_rows(prep, table, "the training part", view.train_end, needed);
        goto done;
    }
    for (uint32_t c = 0; c < prep->column_count; c++) {
        status = vkl_fill_statistics(&prep->context->desc.memory, view.series[c].values, view.train_end, &prep->columns[c]);
        if (status == VKL_ERROR_FORMAT)
            status = vkl_fail(prep->context, &prep->error, status,
                              "%s: column '%.64s' has nothing but gaps in the training part, which are its first %llu rows",
                              vkl_table_name(table), prep->columns[c].name, (unsigned long long)view.train_end);
        else if (status != VKL_OK)
            status = vkl_prep_no_memory(prep, "vkl_prep_create", table);
        if (status != VKL_OK)
            goto done;
    }
    status = fit_scales(prep, &view);
    if (status != VKL_OK)
        goto done;
    uint64_t row = 0;
    while (row < view.train_end && !vkl_view_is_target(&view, row))
        row++;
    if (row == view.train_end)
        status = vkl_fail(
            prep->context, &prep->error, VKL_ERROR_INVALID,
            "%s: gaps leave no window of %llu rows with an observed target '%.64s' in the training part, which are its "
            "first %llu rows",
            vkl_table_name(table), (unsigned long long)prep->desc.window, prep->desc.target, (unsigned long long)view.train_end);
done:
    vkl_view_close(&view);
    return status;
}

VklStatus vkl_prep_create(VklContext *context, const VklTable *table, const VklPrepDesc *desc, VklPrep **prep)
{
    if (!table || !desc || !prep)
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_prep_create: %s is NULL",
                        !table  ? "table"
                        : !desc ? "desc"
                                : "prep");
    if (desc->struct_size != sizeof(*desc))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_prep_create: desc.struct_size is %zu; it must be %zu",
                        desc->struct_size, sizeof(*desc));
    char why[160];
    if (!vkl_prep_check(desc, why, sizeof(why)))
        return vkl_fail(context, NULL, VKL_ERROR_INVALID, "vkl_prep_create: %s", why);
    VklPrep *made = vkl_prep_new(context, desc);
    if (!made)
        return vkl_fail(context, NULL, VKL_ERROR_HOST_MEMORY, "vkl_prep_create: no memory for %lu columns",
                        (unsigned long)desc->feature_count + 1);
    VklStatus status = fit(made, table);
    if (status != VKL_OK) {
        vkl_prep_destroy(made);
        return status;
    }
    *prep = made;
    return VKL_OK;
}

/* SPDX-License-Identifier: MIT
 *
 * What one sees of a table through a preparation.
 */
#include <math.h>
#include <stdio.h>

#include "prep.h"

VklStatus vkl_prep_check_arguments(VklPrep *prep, const char *caller, const char *missing)
{
    if (!missing)
        return VKL_OK;
    return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID, "%s: %s is NULL", caller, missing);
}

/* Sizes of a description that nobody has compared with a table yet: a sum beyond 63 bits is more than any table has. */
static uint64_t sum(uint64_t a, uint64_t b)
{
    uint64_t s;
    return vkl_add(a, b, &s) ? s : INT64_MAX;
}

uint64_t vkl_prep_input_history(const VklPrep *prep)
{
    return prep->target < prep->desc.feature_count ? prep->desc.difference : 0;
}

uint64_t vkl_prep_target_lag(const VklPrep *prep)
{
    uint64_t K = prep->desc.difference;
    return K ? K * ((prep->desc.horizon + K - 1) / K) : 0; /* below h + K: no overflow */
}

uint64_t vkl_prep_target_history(const VklPrep *prep)
{
    uint64_t history = sum(sum(vkl_prep_input_history(prep), prep->desc.window - 1), prep->desc.horizon);
    uint64_t lag = vkl_prep_target_lag(prep);
    return history > lag ? history : lag;
}

uint64_t vkl_prep_rows_needed(const VklPrep *prep)
{
    return sum(vkl_prep_target_history(prep), 1);
}

uint64_t vkl_prep_rows_needed_to_forecast(const VklPrep *prep, uint64_t steps)
{
    /* With several steps, the windows that predict the h - 1 rows after the table end so many rows before it does. */
    uint64_t h = prep->desc.horizon, lag = vkl_prep_target_lag(prep);
    uint64_t earlier = steps > 1 ? h - 1 : 0;
    uint64_t for_window = sum(sum(vkl_prep_input_history(prep), prep->desc.window), earlier);
    uint64_t for_base = lag ? lag - (h - 1) + earlier : 0;
    return for_window > for_base ? for_window : for_base;
}

void vkl_view_close(VklView *view)
{
    for (uint32_t c = 0; view->series && c < view->prep->column_count; c++)
        vkl_series_finish(&view->series[c]);
    vkl_release(view->series);
    vkl_release(view->run);
}

VklStatus vkl_prep_no_memory(VklPrep *prep, const char *caller, const VklTable *table)
{
    return vkl_fail(prep->context, &prep->error, VKL_ERROR_HOST_MEMORY, "%s: no memory for %llu rows of %s", caller,
                    (unsigned long long)table->rows, vkl_table_name(table));
}

VklStatus vkl_prep_too_few_rows(VklPrep *prep, const VklTable *table, const char *what, uint64_t rows, uint64_t needed)
{
    char difference[48] = "";
    if (prep->desc.difference)
        snprintf(difference, sizeof(difference), ", a difference of %llu", (unsigned long long)prep->desc.difference);
    return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID,
                    "%s: %s has %llu %s; a window of %llu%s and a horizon of %llu need at least %llu", vkl_table_name(table),
                    what, (unsigned long long)rows, rows == 1 ? "row" : "rows", (unsigned long long)prep->desc.window, difference,
                    (unsigned long long)prep->desc.horizon, (unsigned long long)needed);
}

/* A logarithm needs values above zero wherever the column has values. */
static VklStatus check_levels(VklPrep *prep, const VklTable *table, const double *values)
{
    char place[VKL_PLACE_SIZE];
    for (uint64_t r = 0; prep->desc.log && r < table->rows; r++)
        if (values[r] <= 0)
            return vkl_fail(prep->context, &prep->error, VKL_ERROR_FORMAT,
                            "%s: column '%.64s' has the value %g; a logarithm needs values above 0",
                            vkl_table_place(table, r, place), prep->desc.target, values[r]);
    return VKL_OK;
}

static bool needs_fill(const VklView *view, uint64_t row)
{
    const VklPrep *prep = view->prep;
    for (uint32_t f = 0; f < prep->desc.feature_count; f++) {
        const double *values = view->series[f].values;
        if (isnan(values[row]) ||
            (f == prep->target && row >= prep->desc.difference && isnan(values[row - prep->desc.difference])))
            return true;
    }
    return false;
}

VklStatus vkl_view_open(VklPrep *prep, const VklTable *table, const char *caller, VklView *view)
{
    *view = (VklView){.prep = prep, .table = table, .rows = table->rows};
    uint64_t begin;
    vkl_prep_part(prep, table->rows, VKL_PART_TRAIN, &begin, &view->train_end);
    VklStatus status = VKL_OK;
    bool gaps = false;
    view->series = vkl_allocate(&prep->context->desc.memory, prep->column_count, sizeof(*view->series));
    if (!view->series)
        return vkl_prep_no_memory(prep, caller, table);
    for (uint32_t c = 0; c < prep->column_count; c++) {
        uint32_t column = 0;
        status = vkl_table_use(prep->context, &prep->error, table, prep->columns[c].name, &column);
        if (status != VKL_OK)
            goto fail;
        VklSeries *series = &view->series[c];
        if (!vkl_series_init(&prep->context->desc.memory, series, &prep->columns[c], table->column[column].values, table->rows)) {
            status = vkl_prep_no_memory(prep, caller, table);
            goto fail;
        }
        if (series->previous && series->previous[table->rows - 1] == VKL_NO_ROW) {
            status = vkl_fail(prep->context, &prep->error, VKL_ERROR_FORMAT, "%s: column '%.64s' has nothing but gaps",
                              vkl_table_name(table), prep->columns[c].name);
            goto fail;
        }
        if (c == prep->target && (status = check_levels(prep, table, series->values)) != VKL_OK)
            goto fail;
        gaps |= series->previous != NULL && c < prep->desc.feature_count;
    }
    if (gaps) {
        view->run = vkl_allocate(&prep->context->desc.memory, table->rows, sizeof(*view->run));
        if (!view->run) {
            status = vkl_prep_no_memory(prep, caller, table);
            goto fail;
        }
        for (uint64_t r = 0; r < table->rows; r++)
            view->run[r] = needs_fill(view, r) ? 0 : (r ? view->run[r - 1] : 0) + 1;
    }
    return VKL_OK;
fail:
    vkl_view_close(view);
    return status;
}

/* A gap of the table is filled from the table alone, also where the row is seen from a later one of a forecast. */
double vkl_view_level(const VklView *view, uint64_t row, uint64_t end)
{
    if (row >= view->rows)
        return view->predicted[row - view->rows];
    double value =
        vkl_series_at(&view->series[view->prep->target], &view->prep->desc, row, end < view->rows ? end : view->rows - 1);
    return view->prep->desc.log ? log(value) : value;
}

double vkl_view_unscaled_input(const VklView *view, uint32_t column, uint64_t row, uint64_t end)
{
    const VklPrepDesc *desc = &view->prep->desc;
    if (column != view->prep->target)
        return vkl_series_at(&view->series[column], desc, row, end);
    double level = vkl_view_level(view, row, end);
    return desc->difference ? level - vkl_view_level(view, row - desc->difference, end) : level;
}

double vkl_view_input(const VklView *view, uint32_t column, uint64_t row, uint64_t end)
{
    return vkl_prep_scaled(view->prep->columns[column].scale, vkl_view_unscaled_input(view, column, row, end));
}

double vkl_view_base(const VklView *view, uint64_t row, uint64_t end)
{
    uint64_t lag = vkl_prep_target_lag(view->prep);
    return lag ? vkl_view_level(view, row - lag, end) : 0;
}

/* What is learned or scored is observed; nothing is learned on a base that was filled, and under VKL_FILL_DROP nothing is filled. */
bool vkl_view_is_target(const VklView *view, uint64_t row)
{
    const VklPrep *prep = view->prep;
    const double *values = view->series[prep->target].values;
    if (row < vkl_prep_target_history(prep) || isnan(values[row]))
        return false;
    bool drop = prep->desc.fill == VKL_FILL_DROP;
    if ((drop || row < view->train_end) && isnan(values[row - vkl_prep_target_lag(prep)]))
        return false;
    return !drop || !view->run || view->run[row - prep->desc.horizon] >= prep->desc.window;
}

double vkl_view_predicted_level(const VklView *view, double prediction, uint64_t row, uint64_t end)
{
    VklPrepScale scale = view->prep->target_scale;
    return prediction * scale.divisor + scale.offset + vkl_view_base(view, row, end);
}

double vkl_prep_level_to_value(const VklPrep *prep, double level)
{
    return prep->desc.log ? exp(level) : level;
}

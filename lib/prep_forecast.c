/* SPDX-License-Identifier: MIT
 *
 * Forecasts after a table's last row.
 */
#include <math.h>

#include "prep.h"

/* Under VKL_FILL_DROP there is nothing to predict from where a window, or the base of its target, has a gap. */
static VklStatus check_forecast_gaps(VklPrep *prep, const VklView *view, uint64_t end)
{
    char place[VKL_PLACE_SIZE];
    if (prep->desc.fill != VKL_FILL_DROP)
        return VKL_OK;
    uint64_t first = end + 1 - prep->desc.window, last = end < view->rows ? end : view->rows - 1;
    uint64_t row = end + prep->desc.horizon, lag = vkl_prep_target_lag(prep);
    uint64_t gap = VKL_NO_ROW;
    for (uint64_t r = first; view->run && r <= last && gap == VKL_NO_ROW; r++)
        gap = view->run[r] ? VKL_NO_ROW : r;
    if (lag && row - lag < view->rows && isnan(view->series[prep->target].values[row - lag]))
        gap = row - lag;
    if (gap == VKL_NO_ROW)
        return VKL_OK;
    return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID,
                    "%s: what the window of %llu rows before the forecast needs has a gap here, and the fill is 'drop'",
                    vkl_table_place(view->table, gap, place), (unsigned long long)prep->desc.window);
}

/* Predicts the level of row end + horizon. `series`: scratch, [window][features]. */
static VklStatus predict_level(VklPrep *prep, const VklView *view, VklModel *model, uint64_t end, float *series, double *level)
{
    uint64_t T = prep->desc.window;
    VklStatus status = check_forecast_gaps(prep, view, end);
    /* Own predictions may have left float32: what comes of them is the caller's to see, so narrow() is not asked. */
    for (uint64_t t = 0; t < T && status == VKL_OK; t++)
        for (uint32_t f = 0; f < prep->desc.feature_count; f++)
            series[t * prep->desc.feature_count + f] = (float)vkl_view_input(view, f, end + 1 - T + t, end);
    if (status != VKL_OK)
        return status;
    const uint32_t start = 0;
    float prediction = 0;
    VklWindows windows = {
        .struct_size = sizeof(VklWindows),
        .count = 1,
        .steps = T,
        .features = prep->desc.feature_count,
        .outputs = 1,
        .rows = T,
        .series = series,
        .starts = &start,
    };
    status = vkl_model_predict(model, &windows, &prediction);
    if (status != VKL_OK)
        return vkl_device_context(vkl_model_device(model)) == prep->context
                   ? vkl_fail_again(&prep->error, status)
                   : vkl_fail(prep->context, &prep->error, status, "%s", vkl_model_error(model));
    *level = vkl_view_predicted_level(view, prediction, end + prep->desc.horizon, end);
    return VKL_OK;
}

static VklStatus check_forecast(VklPrep *prep, const VklTable *table, VklModel *model, uint64_t steps)
{
    const VklPrepDesc *desc = &prep->desc;
    if (!steps)
        return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID, "vkl_prep_forecast: steps is 0; it must be at least 1");
    if (vkl_model_features(model) != desc->feature_count || vkl_model_outputs(model) != 1)
        return vkl_fail(
            prep->context, &prep->error, VKL_ERROR_INVALID,
            "vkl_prep_forecast: the model has %llu features and %llu outputs; the preparation has %lu features and 1 target",
            (unsigned long long)vkl_model_features(model), (unsigned long long)vkl_model_outputs(model),
            (unsigned long)desc->feature_count);
    for (uint32_t f = 0; steps > 1 && f < desc->feature_count; f++)
        if (f != prep->target)
            return vkl_fail(
                prep->context, &prep->error, VKL_ERROR_INVALID,
                "vkl_prep_forecast: steps is %llu; it must be 1 where a feature is not the target, as '%.64s': its later "
                "values are not known",
                (unsigned long long)steps, desc->features[f]);
    uint64_t needed = vkl_prep_rows_needed_to_forecast(prep, steps);
    if (table->rows < needed)
        return vkl_prep_too_few_rows(prep, table, "the table", table->rows, needed);
    return VKL_OK;
}

VklStatus vkl_prep_forecast(VklPrep *prep, const VklTable *table, VklModel *model, uint64_t steps, double *values)
{
    VklStatus status = vkl_prep_check_arguments(prep, "vkl_prep_forecast",
                                                !table    ? "table"
                                                : !model  ? "model"
                                                : !values ? "values"
                                                          : NULL);
    if (status == VKL_OK)
        status = check_forecast(prep, table, model, steps);
    if (status != VKL_OK)
        return status;
    VklView view;
    status = vkl_view_open(prep, table, "vkl_prep_forecast", &view);
    if (status != VKL_OK)
        return status;

    /* levels[j] is of the j-th row after the table. Of the h - 1 before the first one asked for, those are predicted that a
     * later window reads. */
    uint64_t h = prep->desc.horizon, count, size;
    double *levels = NULL;
    float *series = NULL;
    if (vkl_add(h - 1, steps, &count))
        levels = vkl_allocate(&prep->context->desc.memory, count, sizeof(*levels));
    if (vkl_mul(prep->desc.window, prep->desc.feature_count, &size))
        series = vkl_allocate(&prep->context->desc.memory, size, sizeof(*series));
    if (!levels || !series) {
        status = vkl_fail(prep->context, &prep->error, VKL_ERROR_HOST_MEMORY, "vkl_prep_forecast: no memory for %llu steps",
                          (unsigned long long)steps);
        goto done;
    }
    view.predicted = levels;
    for (uint64_t j = 0; j < count && status == VKL_OK; j++)
        if (j >= h - 1 || j < steps - 1)
            status = predict_level(prep, &view, model, table->rows + j - h, series, &levels[j]);
    for (uint64_t i = 0; i < steps && status == VKL_OK; i++)
        values[i] = vkl_prep_level_to_value(prep, levels[h - 1 + i]);
done:
    vkl_release(levels);
    vkl_release(series);
    vkl_view_close(&view);
    return status;
}

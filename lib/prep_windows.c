/* SPDX-License-Identifier: MIT
 *
 * Windows of a part, their predictions in the table's units, and how good those are.
 */
#include <math.h>

#include "prep.h"

/* ---- Windows ---- */

typedef struct Set {
    VklWindowSet set; /* first: the caller's pointer is ours */
    uint64_t *target_rows;
    uint32_t *starts;
    float *series, *targets;
} Set;

static void set_free(Set *set)
{
    if (!set)
        return;
    vkl_release(set->target_rows);
    vkl_release(set->starts);
    vkl_release(set->series);
    vkl_release(set->targets);
    vkl_release(set);
}

void vkl_window_set_destroy(VklWindowSet *set)
{
    set_free((Set *)set);
}

/* Values beyond float32 are refused here rather than trained on as infinities. NaN is a gap that no window touches. */
static VklStatus narrow(VklPrep *prep, const VklTable *table, uint32_t column, uint64_t row, double value, float *narrowed)
{
    char place[VKL_PLACE_SIZE];
    *narrowed = (float)value;
    if (isinf(*narrowed))
        return vkl_fail(prep->context, &prep->error, VKL_ERROR_FORMAT,
                        "%s: column '%.64s' becomes %g, which is beyond float32; scale it", vkl_table_place(table, row, place),
                        prep->columns[column].name, value);
    return VKL_OK;
}

/* What is seen of `count` rows from `first` on. */
static VklStatus see_rows(VklPrep *prep, const VklView *view, uint64_t first, uint64_t count, uint64_t end, float *out)
{
    uint32_t F = prep->desc.feature_count;
    for (uint64_t r = 0; r < count; r++) {
        for (uint32_t f = 0; f < F; f++) {
            VklStatus status = narrow(prep, view->table, f, first + r, vkl_view_input(view, f, first + r, end), &out[r * F + f]);
            if (status != VKL_OK)
                return status;
        }
    }
    return VKL_OK;
}

/* The rows of a set's windows. Where what fills a gap depends on the window's end, the windows that see something else than the
 * shared rows get rows of their own behind them. */
static VklStatus make_series(VklPrep *prep, const VklView *view, bool training, Set *set)
{
    VklWindows *windows = &set->set.windows;
    uint64_t T = windows->steps, F = windows->features, count = windows->count, h = prep->desc.horizon;
    if (!count) {
        set->series = vkl_allocate(&prep->context->desc.memory, F, sizeof(float));
        return set->series ? VKL_OK : vkl_prep_no_memory(prep, "vkl_prep_windows", view->table);
    }
    uint64_t first = set->target_rows[0] - h - (T - 1);
    uint64_t last = set->target_rows[count - 1] - h;
    uint64_t rows = last - first + 1, capacity = rows, size;
    if (!vkl_mul(rows, F, &size) || !(set->series = vkl_allocate(&prep->context->desc.memory, size, sizeof(float))))
        return vkl_prep_no_memory(prep, "vkl_prep_windows", view->table);
    VklStatus status = see_rows(prep, view, first, rows, training ? view->train_end - 1 : last, set->series);
    if (status != VKL_OK)
        return status;
    bool shared = training || !view->run || !vkl_fill_looks_ahead(prep->desc.fill);
    float *own = NULL;
    if (!shared && (!vkl_mul(T, F, &size) || !(own = vkl_allocate(&prep->context->desc.memory, size, sizeof(float)))))
        return vkl_prep_no_memory(prep, "vkl_prep_windows", view->table);
    for (uint64_t i = 0; i < count && status == VKL_OK; i++) {
        uint64_t end = set->target_rows[i] - h, start = end - (T - 1) - first;
        set->starts[i] = (uint32_t)start;
        if (shared || view->run[end] >= T)
            continue;
        status = see_rows(prep, view, first + start, T, end, own);
        if (status != VKL_OK || memcmp(own, set->series + start * F, (size_t)(T * F) * sizeof(float)) == 0)
            continue;
        if (T > UINT32_MAX || rows > UINT32_MAX - T) {
            status =
                vkl_fail(prep->context, &prep->error, VKL_ERROR_LIMIT,
                         "%s: the windows that see their gaps filled differently need more than 2^32 - 1 rows; fill forward, or "
                         "take shorter windows",
                         vkl_table_name(view->table));
        } else {
            if (rows + T > capacity) {
                capacity = rows + T > capacity * 2 ? rows + T : capacity * 2;
                float *grown = NULL;
                if (vkl_mul(capacity, F, &size))
                    grown = vkl_reallocate(&prep->context->desc.memory, set->series, size, sizeof(float));
                if (!grown) {
                    status = vkl_prep_no_memory(prep, "vkl_prep_windows", view->table);
                    break;
                }
                set->series = grown;
            }
            memcpy(set->series + rows * F, own, (size_t)(T * F) * sizeof(float));
            set->starts[i] = (uint32_t)rows;
            rows += T;
        }
    }
    vkl_release(own);
    windows->rows = rows;
    return status;
}

static VklStatus make_targets(VklPrep *prep, const VklView *view, Set *set)
{
    VklStatus status = VKL_OK;
    for (uint64_t i = 0; i < set->set.windows.count && status == VKL_OK; i++) {
        uint64_t row = set->target_rows[i], end = row - prep->desc.horizon;
        /* the target itself is observed: `row` may be read, and says what it is from wherever it is seen */
        double value = vkl_view_level(view, row, row) - vkl_view_base(view, row, end);
        status = narrow(prep, view->table, prep->target, row, vkl_prep_scaled(prep->target_scale, value), &set->targets[i]);
    }
    return status;
}

VklStatus vkl_prep_windows(VklPrep *prep, const VklTable *table, VklPart part, VklWindowSet **set)
{
    VklStatus status = vkl_prep_check_arguments(prep, "vkl_prep_windows", !table ? "table" : !set ? "set" : NULL);
    if (status != VKL_OK)
        return status;
    if (part != VKL_PART_TRAIN && part != VKL_PART_VALIDATION && part != VKL_PART_TEST)
        return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID, "vkl_prep_windows: part is %d, which is none of VklPart",
                        (int)part);
    if (table->rows > UINT32_MAX)
        return vkl_fail(prep->context, &prep->error, VKL_ERROR_LIMIT, "%s: the table has %llu rows; windows reach 2^32 - 1",
                        vkl_table_name(table), (unsigned long long)table->rows);
    uint64_t needed = vkl_prep_rows_needed(prep);
    if (table->rows < needed)
        return vkl_prep_too_few_rows(prep, table, "the table", table->rows, needed);
    VklView view;
    status = vkl_view_open(prep, table, "vkl_prep_windows", &view);
    if (status != VKL_OK)
        return status;

    uint64_t begin, end, count = 0;
    vkl_prep_part(prep, table->rows, part, &begin, &end);
    for (uint64_t r = begin; r < end; r++)
        count += vkl_view_is_target(&view, r);
    Set *made = vkl_allocate(&prep->context->desc.memory, 1, sizeof(*made));
    if (made) {
        made->target_rows = vkl_allocate(&prep->context->desc.memory, count, sizeof(*made->target_rows));
        made->starts = vkl_allocate(&prep->context->desc.memory, count, sizeof(*made->starts));
        made->targets = vkl_allocate(&prep->context->desc.memory, count, sizeof(*made->targets));
    }
    if (!made || !made->target_rows || !made->starts || !made->targets) {
        status = vkl_prep_no_memory(prep, "vkl_prep_windows", table);
        goto done;
    }
    for (uint64_t r = begin, i = 0; r < end; r++)
        if (vkl_view_is_target(&view, r))
            made->target_rows[i++] = r;
    VklWindows *windows = &made->set.windows;
    *windows = (VklWindows){
        .struct_size = sizeof(VklWindows),
        .count = count,
        .steps = prep->desc.window,
        .features = prep->desc.feature_count,
        .outputs = 1,
    };
    status = make_series(prep, &view, part == VKL_PART_TRAIN, made);
    if (status == VKL_OK)
        status = make_targets(prep, &view, made);
    windows->series = made->series;
    windows->starts = made->starts;
    windows->targets = made->targets;
    made->set.target_rows = made->target_rows;
done:
    vkl_view_close(&view);
    if (status != VKL_OK) {
        set_free(made);
        return status;
    }
    *set = &made->set;
    return VKL_OK;
}

/* ---- Back to the table's units ---- */

/* A set need not be of this table: its rows are checked. */
static VklStatus check_target_rows(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const double *target,
                                   const char *caller)
{
    char place[VKL_PLACE_SIZE];
    for (uint64_t i = 0; i < set->windows.count; i++) {
        uint64_t row = set->target_rows[i];
        if (row >= table->rows)
            return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID, "%s: the set has target row %llu; %s has %llu rows",
                            caller, (unsigned long long)row, vkl_table_name(table), (unsigned long long)table->rows);
        if (isnan(target[row]))
            return vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID, "%s: %s: target '%.64s' is a gap in this table",
                            caller, vkl_table_place(table, row, place), prep->desc.target);
    }
    return VKL_OK;
}

VklStatus vkl_prep_restore(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const float *predictions,
                           double *values)
{
    VklStatus status = vkl_prep_check_arguments(prep, "vkl_prep_restore",
                                                !table                               ? "table"
                                                : !set                               ? "set"
                                                : !predictions && set->windows.count ? "predictions"
                                                : !values                            ? "values"
                                                                                     : NULL);
    if (status != VKL_OK)
        return status;
    uint64_t needed = vkl_prep_rows_needed(prep);
    if (table->rows < needed)
        return vkl_prep_too_few_rows(prep, table, "the table", table->rows, needed);
    VklView view;
    status = vkl_view_open(prep, table, "vkl_prep_restore", &view);
    if (status != VKL_OK)
        return status;
    status = check_target_rows(prep, table, set, view.series[prep->target].values, "vkl_prep_restore");
    for (uint64_t i = 0; i < set->windows.count && status == VKL_OK; i++)
        if (set->target_rows[i] < vkl_prep_target_history(prep))
            status = vkl_fail(prep->context, &prep->error, VKL_ERROR_INVALID,
                              "vkl_prep_restore: the set has target row %llu; the first with enough rows before it is %llu",
                              (unsigned long long)set->target_rows[i], (unsigned long long)vkl_prep_target_history(prep));
    for (uint64_t i = 0; i < set->windows.count && status == VKL_OK; i++) {
        uint64_t row = set->target_rows[i];
        values[i] = vkl_prep_level_to_value(prep, vkl_view_predicted_level(&view, predictions[i], row, row - prep->desc.horizon));
    }
    vkl_view_close(&view);
    return status;
}

/* ---- Scores ---- */

/* The target column of a table, and that a set's rows are observed there. */
static VklStatus observed_targets(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const char *caller,
                                  const double **target)
{
    uint32_t column = 0;
    VklStatus status = vkl_table_use(prep->context, &prep->error, table, prep->desc.target, &column);
    if (status != VKL_OK)
        return status;
    *target = table->column[column].values;
    return check_target_rows(prep, table, set, *target, caller);
}

VklStatus vkl_prep_score(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const double *values, VklScore *score)
{
    VklStatus status = vkl_prep_check_arguments(prep, "vkl_prep_score",
                                                !table                          ? "table"
                                                : !set                          ? "set"
                                                : !values && set->windows.count ? "values"
                                                : !score                        ? "score"
                                                                                : NULL);
    const double *target = NULL;
    if (status == VKL_OK)
        status = observed_targets(prep, table, set, "vkl_prep_score", &target);
    if (status != VKL_OK)
        return status;
    double squares = 0, sum = 0, shares = 0;
    uint64_t count = set->windows.count, not_zero = 0;
    for (uint64_t i = 0; i < count; i++) {
        double observed = target[set->target_rows[i]], error = values[i] - observed;
        squares += error * error;
        sum += fabs(error);
        if (observed != 0) {
            shares += fabs(error / observed);
            not_zero++;
        }
    }
    *score = (VklScore){
        .count = count,
        .rmse = count ? sqrt(squares / (double)count) : NAN,
        .mae = count ? sum / (double)count : NAN,
        .mape = not_zero ? 100 * shares / (double)not_zero : NAN,
    };
    return VKL_OK;
}

/* The last observed value at or before `row` - `back`; NaN: none. */
static double last_observed(const VklSeries *series, uint64_t row, uint64_t back)
{
    if (back > row)
        return NAN;
    uint64_t at = series->previous ? series->previous[row - back] : row - back;
    return at == VKL_NO_ROW ? NAN : series->values[at];
}

/* The mean of values[r] - values[r - lag] over the rows before `end` where both are observed; NaN: there are none. */
static double mean_difference(const double *values, uint64_t lag, uint64_t end)
{
    double sum = 0;
    uint64_t count = 0;
    for (uint64_t r = lag; r < end; r++) {
        if (!isnan(values[r]) && !isnan(values[r - lag])) {
            sum += values[r] - values[r - lag];
            count++;
        }
    }
    return count ? sum / (double)count : NAN;
}

VklStatus vkl_prep_baselines(VklPrep *prep, const VklTable *table, const VklWindowSet *set, uint64_t season,
                             VklBaselines *baselines)
{
    VklStatus status = vkl_prep_check_arguments(prep, "vkl_prep_baselines",
                                                !table       ? "table"
                                                : !set       ? "set"
                                                : !baselines ? "baselines"
                                                             : NULL);
    const double *target = NULL;
    if (status == VKL_OK)
        status = observed_targets(prep, table, set, "vkl_prep_baselines", &target);
    if (status != VKL_OK)
        return status;
    VklSeries series;
    if (!vkl_series_init(&prep->context->desc.memory, &series, &prep->columns[prep->target], target, table->rows))
        return vkl_prep_no_memory(prep, "vkl_prep_baselines", table);
    /* A season or a horizon longer than the table reaches no row: then there is nothing to compare with. */
    uint64_t h = prep->desc.horizon, S = 0;
    if (season && season <= table->rows && h <= table->rows)
        S = season * ((h + season - 1) / season);
    uint64_t count = set->windows.count;
    double step = S ? mean_difference(target, S, count ? set->target_rows[0] : 0) : NAN;
    double persistence = 0, naive = 0, drift = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = set->target_rows[i];
        double observed = target[row];
        double now = last_observed(&series, row, h), then = last_observed(&series, row, S);
        persistence += (now - observed) * (now - observed);
        naive += (then - observed) * (then - observed);
        drift += (then + step - observed) * (then + step - observed);
    }
    vkl_series_finish(&series);
    *baselines = (VklBaselines){
        .persistence_rmse = count ? sqrt(persistence / (double)count) : NAN,
        .seasonal_naive_rmse = count && S ? sqrt(naive / (double)count) : NAN,
        .seasonal_naive_drift_rmse = count && S ? sqrt(drift / (double)count) : NAN,
    };
    return VKL_OK;
}

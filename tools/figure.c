/* SPDX-License-Identifier: MIT */
#include "figure.h"

#include <math.h>
#include <stdio.h>

#include "message.h"
#include "plot.h"

/* Rows of the past that a forecast is drawn with: enough to see what it continues, and not so many that it disappears. */
#define PAST_PER_STEP 5
#define PAST_LEAST 48

static void title_training(const Training *training, char *title, size_t size)
{
    const Part *test = &training->parts.part[VKL_PART_TEST], *train = &training->parts.part[VKL_PART_TRAIN];
    bool tested = test->set && !isnan(test->score.rmse);
    char ours[32], persistence[32], ahead[48] = "";
    if (training->args->horizon > 1)
        snprintf(ahead, sizeof ahead, ", %llu rows ahead", (unsigned long long)training->args->horizon);
    plot_number(tested ? test->score.rmse : train->score.rmse, ours, sizeof ours);
    plot_number(training->parts.baselines.persistence_rmse, persistence, sizeof persistence);
    if (tested)
        snprintf(title, size, "%s%s: test RMSE %s (persistence %s)", training->args->target, ahead, ours, persistence);
    else
        snprintf(title, size, "%s%s: training RMSE %s", training->args->target, ahead, ours);
}

static void add_part(Plot *plot, const Training *training, VklPart which, const char *name, PlotColor color)
{
    const Part *part = &training->parts.part[which];
    if (part->set)
        plot_add(plot, (PlotSeries){name, color, part->set->windows.count, part->set->target_rows, 0, part->values});
}

static void mark_part(Plot *plot, const Training *training, VklPart which, const char *name)
{
    uint64_t begin, end;
    vkl_prep_part(training->prep, vkl_table_rows(training->table), which, &begin, &end);
    if (begin < end)
        plot_mark(plot, begin, name);
}

static const double *find_values(const VklTable *table, const char *target)
{
    return vkl_table_column(table, (uint32_t)vkl_table_find(table, target));
}

static const char *x_label(const VklTable *table, const Timeline *timeline)
{
    return timeline->form == TIME_NONE ? "row" : vkl_table_column_name(table, 0);
}

int figure_training(const Training *training, const char *path)
{
    const VklTable *table = training->table;
    Timeline timeline;
    char title[512];
    if (!timeline_create(table, &timeline))
        return fail("out of memory");
    title_training(training, title, sizeof title);
    Plot plot = {.timeline = &timeline, .title = title, .y_label = training->args->target, .x_label = x_label(table, &timeline)};
    plot_add(&plot,
             (PlotSeries){"observed", PLOT_OBSERVED, vkl_table_rows(table), NULL, 0, find_values(table, training->args->target)});
    add_part(&plot, training, VKL_PART_TRAIN, "training fit", PLOT_TRAIN);
    add_part(&plot, training, VKL_PART_VALIDATION, "validation fit", PLOT_VALIDATION);
    add_part(&plot, training, VKL_PART_TEST, "test forecast", PLOT_FORECAST);
    mark_part(&plot, training, VKL_PART_VALIDATION, "validation");
    mark_part(&plot, training, VKL_PART_TEST, "test");
    int status = plot_write(&plot, path);
    timeline_destroy(&timeline);
    return status;
}

int figure_forecast(const VklTable *table, const Timeline *timeline, const char *target, uint64_t first, uint64_t steps,
                    const double *values, const char *path)
{
    uint64_t rows = vkl_table_rows(table), past = steps < UINT64_MAX / PAST_PER_STEP ? steps * PAST_PER_STEP : rows;
    past = past < PAST_LEAST ? PAST_LEAST : past;
    past = past > rows ? rows : past;
    char title[512], from[LABEL_SIZE];
    timeline_label(timeline, first, from);
    snprintf(title, sizeof title, "%s: forecast of %llu %s from %s%s", target, (unsigned long long)steps,
             steps == 1 ? "value" : "values", timeline->form == TIME_NONE ? "row " : "", from);
    Plot plot = {.timeline = timeline, .title = title, .y_label = target, .x_label = x_label(table, timeline)};
    plot_add(&plot, (PlotSeries){"observed", PLOT_OBSERVED, past, NULL, rows - past, find_values(table, target) + (rows - past)});
    plot_add(&plot, (PlotSeries){"forecast", PLOT_FORECAST, steps, NULL, first, values});
    plot_mark(&plot, first, "forecast");
    return plot_write(&plot, path);
}

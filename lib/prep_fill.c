/* SPDX-License-Identifier: MIT
 *
 * What is put into gaps. Who asks says up to which row he sees (`end`): the last row of the training part for its own
 * windows, a window's last row for the others. Nothing here reads beyond it.
 */
#include <math.h>
#include <stdlib.h>

#include "prep.h"

static const char *const fill_names[] = {
    [VKL_FILL_MEAN] = "mean",
    [VKL_FILL_MEDIAN] = "median",
    [VKL_FILL_MODE] = "mode",
    [VKL_FILL_FORWARD] = "forward",
    [VKL_FILL_BACKWARD] = "backward",
    [VKL_FILL_LINEAR] = "linear",
    [VKL_FILL_MOVING_AVERAGE] = "moving-average",
    [VKL_FILL_DROP] = "drop",
};
static const char *const scale_names[] = {
    [VKL_SCALE_MINMAX] = "minmax",
    [VKL_SCALE_STANDARD] = "standard",
    [VKL_SCALE_NONE] = "none",
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *vkl_fill_name(VklFill fill)
{
    return (size_t)fill < COUNT(fill_names) ? fill_names[fill] : NULL;
}

const char *vkl_scale_name(VklScale scale)
{
    return (size_t)scale < COUNT(scale_names) ? scale_names[scale] : NULL;
}

bool vkl_fill(const char *text, VklFill *fill, uint64_t *fill_window)
{
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    size_t found = 0;
    while (found < COUNT(fill_names) && (strlen(fill_names[found]) != length || memcmp(fill_names[found], text, length) != 0))
        found++;
    if (found == COUNT(fill_names) || (found == VKL_FILL_MOVING_AVERAGE) != (colon != NULL))
        return false;
    if (colon) {
        uint64_t rows = 0;
        const char *digit = colon + 1;
        for (; *digit >= '0' && *digit <= '9'; digit++) {
            uint64_t next = (uint64_t)(*digit - '0');
            if (rows > (INT64_MAX - next) / 10)
                return false;
            rows = rows * 10 + next;
        }
        if (*digit || rows < 3 || rows % 2 == 0)
            return false;
        *fill_window = rows;
    }
    *fill = (VklFill)found;
    return true;
}

bool vkl_scale(const char *text, VklScale *scale)
{
    for (size_t i = 0; i < COUNT(scale_names); i++) {
        if (strcmp(text, scale_names[i]) == 0) {
            *scale = (VklScale)i;
            return true;
        }
    }
    return false;
}

static int compare_values(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

VklStatus vkl_fill_statistics(const VklHostMemory *memory, const double *values, uint64_t count, VklPrepColumn *column)
{
    double *sorted = vkl_allocate(memory, count, sizeof(*sorted));
    if (!sorted)
        return VKL_ERROR_HOST_MEMORY;
    size_t n = 0;
    for (uint64_t r = 0; r < count; r++)
        if (!isnan(values[r]))
            sorted[n++] = values[r];
    if (!n) {
        vkl_release(sorted);
        return VKL_ERROR_FORMAT;
    }
    column->first = sorted[0];
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += sorted[i];
    column->mean = sum / (double)n;
    if (!isfinite(column->mean)) { /* the sum went beyond double's range, the mean cannot */
        column->mean = 0;
        for (size_t i = 0; i < n; i++)
            column->mean += sorted[i] / (double)n;
    }
    qsort(sorted, n, sizeof(*sorted), compare_values);
    column->median = n % 2 ? sorted[n / 2] : sorted[n / 2 - 1] / 2 + sorted[n / 2] / 2;
    size_t longest = 0;
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && sorted[end] == sorted[begin]; end++)
            ;
        if (end - begin > longest) {
            longest = end - begin;
            column->mode = sorted[begin];
        }
    }
    vkl_release(sorted);
    return VKL_OK;
}

bool vkl_series_init(const VklHostMemory *memory, VklSeries *series, const VklPrepColumn *column, const double *values,
                     uint64_t rows)
{
    *series = (VklSeries){.column = column, .values = values, .rows = rows};
    bool gaps = false;
    for (uint64_t r = 0; r < rows && !gaps; r++)
        gaps = isnan(values[r]);
    if (!gaps)
        return true;
    series->previous = vkl_allocate(memory, rows, sizeof(*series->previous));
    series->next = vkl_allocate(memory, rows, sizeof(*series->next));
    if (!series->previous || !series->next) {
        vkl_series_finish(series);
        return false;
    }
    uint64_t seen = VKL_NO_ROW;
    for (uint64_t r = 0; r < rows; r++) {
        seen = isnan(values[r]) ? seen : r;
        series->previous[r] = seen;
    }
    seen = VKL_NO_ROW;
    for (uint64_t r = rows; r-- > 0;) {
        seen = isnan(values[r]) ? seen : r;
        series->next[r] = seen;
    }
    return true;
}

void vkl_series_finish(VklSeries *series)
{
    vkl_release(series->previous);
    vkl_release(series->next);
    series->previous = NULL;
    series->next = NULL;
}

bool vkl_fill_looks_ahead(VklFill fill)
{
    return fill == VKL_FILL_BACKWARD || fill == VKL_FILL_LINEAR || fill == VKL_FILL_MOVING_AVERAGE;
}

/* Mean of what is observed in fill_window rows around a gap, as far as `end`; there is an observed row before the gap. */
static double moving_average(const VklSeries *series, uint64_t fill_window, uint64_t row, uint64_t end)
{
    uint64_t nearest = row - series->previous[row];
    if (series->next[row] <= end && series->next[row] - row < nearest)
        nearest = series->next[row] - row;
    uint64_t half = fill_window / 2 > nearest ? fill_window / 2 : nearest;
    uint64_t first = row > half ? row - half : 0;
    uint64_t last = end - row > half ? row + half : end;
    double sum = 0;
    uint64_t n = 0;
    for (uint64_t r = first; r <= last; r++) {
        if (!isnan(series->values[r])) {
            sum += series->values[r];
            n++;
        }
    }
    return sum / (double)n;
}

double vkl_series_at(const VklSeries *series, const VklPrepDesc *desc, uint64_t row, uint64_t end)
{
    const double *values = series->values;
    if (!isnan(values[row]))
        return values[row];
    uint64_t before = series->previous[row];
    uint64_t after = series->next[row];
    bool seen_after = after != VKL_NO_ROW && after <= end;
    double forward = before == VKL_NO_ROW ? series->column->first : values[before];
    switch (desc->fill) {
    case VKL_FILL_MEAN:
        return series->column->mean;
    case VKL_FILL_MEDIAN:
        return series->column->median;
    case VKL_FILL_MODE:
        return series->column->mode;
    case VKL_FILL_FORWARD:
        return forward;
    case VKL_FILL_BACKWARD:
        return seen_after ? values[after] : forward;
    case VKL_FILL_LINEAR:
        if (before == VKL_NO_ROW || !seen_after)
            return forward;
        return values[before] + (values[after] - values[before]) * ((double)(row - before) / (double)(after - before));
    case VKL_FILL_MOVING_AVERAGE:
        return before == VKL_NO_ROW ? forward : moving_average(series, desc->fill_window, row, end);
    case VKL_FILL_DROP:
        break;
    }
    return NAN;
}

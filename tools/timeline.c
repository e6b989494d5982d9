/* SPDX-License-Identifier: MIT */
#include "timeline.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

#define DAY_SECONDS INT64_C(86400)

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days from 1970-01-01 to the first day of a month; months are counted from 0000-01 and may lie anywhere. Counting years from
 * March puts the leap day at a year's end, where it needs no special case. */
static int64_t days_to_month(int64_t months)
{
    int64_t from_march = months - 2;
    int64_t year = floor_divide(from_march, 12);
    int64_t month = from_march - 12 * year; /* 0 is March */
    int64_t leap_days = floor_divide(year, 4) - floor_divide(year, 100) + floor_divide(year, 400);
    int64_t days_before_month = (306 * month + 5) / 10; /* 31 30 31 30 31 | 31 30 31 30 31 | 31 */
    const int64_t epoch = 719468;                       /* 0000-03-01 to 1970-01-01 */
    return 365 * year + leap_days + days_before_month - epoch;
}

static int64_t month_index(const Date *date)
{
    return date->year * 12 + date->month - 1;
}

static int month_length(int64_t months)
{
    return (int)(days_to_month(months + 1) - days_to_month(months));
}

int64_t date_seconds(const Date *date)
{
    int64_t days = days_to_month(month_index(date)) + date->day - 1;
    return days * DAY_SECONDS + date->hour * 3600 + date->minute * 60 + date->second;
}

Date date_from_seconds(int64_t seconds)
{
    int64_t days = floor_divide(seconds, DAY_SECONDS);
    int64_t rest = seconds - days * DAY_SECONDS;
    int64_t months = 1970 * 12 + floor_divide(days, 31); /* near; the loops find it */
    while (days_to_month(months) > days)
        months--;
    while (days_to_month(months + 1) <= days)
        months++;
    Date date;
    date.year = floor_divide(months, 12);
    date.month = (int)(months - 12 * date.year) + 1;
    date.day = (int)(days - days_to_month(months)) + 1;
    date.hour = (int)(rest / 3600);
    date.minute = (int)(rest / 60 % 60);
    date.second = (int)(rest % 60);
    return date;
}

Date date_add_months(const Date *date, int64_t months)
{
    Date later = *date;
    int64_t index = month_index(date) + months;
    later.year = floor_divide(index, 12);
    later.month = (int)(index - 12 * later.year) + 1;
    if (later.day > month_length(index))
        later.day = month_length(index);
    return later;
}

/* Reads `text` in one of the forms; TIME_NONE if it has none of them. */
static TimeForm parse_date(const char *text, Date *date, char *separator)
{
    static const char pattern[] = "0000-00-00T00:00:00";
    static const struct {
        size_t length;
        TimeForm form;
    } forms[] = {{7, TIME_MONTH}, {10, TIME_DAY}, {16, TIME_MINUTE}, {19, TIME_SECOND}};
    size_t length = strlen(text);
    TimeForm form = TIME_NONE;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (forms[i].length == length)
            form = forms[i].form;
    if (form == TIME_NONE)
        return TIME_NONE;
    int fields[6] = {0, 1, 1, 0, 0, 0};
    size_t field = 0;
    for (size_t i = 0; i < length; i++) {
        if (pattern[i] == '0') {
            if (!isdigit((unsigned char)text[i]))
                return TIME_NONE;
            bool first = i == 0 || pattern[i - 1] != '0';
            fields[field] = (first ? 0 : fields[field] * 10) + text[i] - '0';
        } else {
            if (text[i] != pattern[i] && !(pattern[i] == 'T' && text[i] == ' '))
                return TIME_NONE;
            field++;
        }
    }
    *date = (Date){fields[0], fields[1], fields[2], fields[3], fields[4], fields[5]};
    *separator = form >= TIME_MINUTE ? text[10] : 'T';
    bool valid = date->month >= 1 && date->month <= 12 && date->day >= 1 && date->hour < 24 && date->minute < 60 &&
                 date->second < 60 && date->day <= month_length(month_index(date));
    return valid ? form : TIME_NONE;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

/* The most frequent of the numbers, which it sorts; of several, the least: a gap makes a difference larger. */
static int64_t most_frequent(int64_t *numbers, uint64_t count)
{
    int64_t found = numbers[0];
    uint64_t most = 0;
    qsort(numbers, (size_t)count, sizeof *numbers, compare_steps);
    for (uint64_t i = 0, begin = 0; i < count; i++) {
        if (numbers[i] != numbers[begin])
            begin = i;
        if (i - begin + 1 > most) {
            most = i - begin + 1;
            found = numbers[i];
        }
    }
    return found;
}

static int64_t row_months(const Timeline *timeline, uint64_t row)
{
    Date date = date_from_seconds(timeline->seconds[row]);
    return month_index(&date);
}

/* 0 is Monday. */
static int64_t weekday(int64_t seconds)
{
    int64_t days = floor_divide(seconds, DAY_SECONDS) + 3; /* 1970-01-01 was a Thursday */
    return days - 7 * floor_divide(days, 7);
}

/* So many days later, Saturdays and Sundays not counted; from a Monday to Friday. */
static int64_t add_weekdays(int64_t seconds, int64_t count)
{
    int64_t from = weekday(seconds), to = from + count;
    return seconds + (to / 5 * 7 + to % 5 - from) * DAY_SECONDS;
}

/* Whether all rows stand on one day of the month and one time, or on the last day of months that are too short for it. The anchor
 * is the last row's date with that day, which its month need not have. */
static bool find_anchor(Timeline *timeline)
{
    Date last = date_from_seconds(timeline->seconds[timeline->rows - 1]);
    int day = 0;
    for (uint64_t row = 0; row < timeline->rows; row++) {
        Date date = date_from_seconds(timeline->seconds[row]);
        day = date.day > day ? date.day : day;
    }
    for (uint64_t row = 0; row < timeline->rows; row++) {
        Date date = date_from_seconds(timeline->seconds[row]);
        int length = month_length(month_index(&date));
        if (date.day != (day < length ? day : length) || date.hour != last.hour || date.minute != last.minute ||
            date.second != last.second)
            return false;
    }
    timeline->anchor = last;
    timeline->anchor.day = day;
    return true;
}

/* Whether the rows are daily, from Monday to Friday alone, and have left a weekend out. */
static bool skips_weekends(const Timeline *timeline)
{
    const int64_t *seconds = timeline->seconds;
    if (timeline->step_seconds != DAY_SECONDS || timeline->form < TIME_DAY)
        return false;
    bool skipped = false;
    for (uint64_t row = 0; row < timeline->rows; row++) {
        if (weekday(seconds[row]) > 4)
            return false;
        skipped = skipped || (row > 0 && weekday(seconds[row]) <= weekday(seconds[row - 1]));
    }
    return skipped;
}

/* The step from one row to the next: the most frequent one, in whole months where the rows allow it (monthly, quarterly and yearly
 * series; two days of one number say too little). `steps`: scratch, [rows - 1]. */
static void find_step(Timeline *timeline, int64_t *steps)
{
    const int64_t *seconds = timeline->seconds;
    uint64_t count = timeline->rows - 1;
    bool by_months = find_anchor(timeline) && (timeline->form == TIME_MONTH || count > 1);
    for (uint64_t i = 0; i < count; i++)
        steps[i] = by_months ? row_months(timeline, i + 1) - row_months(timeline, i) : seconds[i + 1] - seconds[i];
    int64_t step = most_frequent(steps, count);
    if (by_months) {
        timeline->step_months = step;
    } else {
        timeline->step_seconds = step;
        timeline->weekdays = skips_weekends(timeline);
    }
    for (uint64_t i = 0; i < count; i++) {
        bool even = by_months            ? row_months(timeline, i + 1) - row_months(timeline, i) == step
                    : timeline->weekdays ? seconds[i + 1] == add_weekdays(seconds[i], 1)
                                         : seconds[i + 1] - seconds[i] == step;
        timeline->uneven += !even;
    }
}

/* Fills `seconds`; false: a label is of no use, and the timeline says why. */
static bool read_labels(const VklTable *table, Timeline *timeline, int64_t *seconds)
{
    TimeForm form = TIME_NONE;
    for (uint64_t row = 0; row < timeline->rows; row++) {
        const char *label = vkl_table_label(table, row);
        Date date;
        TimeForm found = label ? parse_date(label, &date, &timeline->separator) : TIME_NONE;
        timeline->bad_row = row;
        timeline->bad = found == TIME_NONE ? LABEL_NO_DATE : row > 0 && found != form ? LABEL_OTHER_FORM : LABEL_GOOD;
        if (timeline->bad != LABEL_GOOD)
            return false;
        form = found;
        seconds[row] = date_seconds(&date);
        if (row > 0 && seconds[row] <= seconds[row - 1]) {
            timeline->bad = seconds[row] == seconds[row - 1] ? LABEL_REPEATED : LABEL_BEFORE;
            return false;
        }
    }
    timeline->form = form;
    timeline->seconds = seconds;
    return true;
}

bool timeline_create(const VklTable *table, Timeline *timeline)
{
    memset(timeline, 0, sizeof *timeline);
    uint64_t rows = vkl_table_rows(table);
    timeline->rows = rows;
    if (rows < 2 || !vkl_table_label(table, 0))
        return true;
    bool fits = rows <= SIZE_MAX / sizeof(int64_t);
    int64_t *seconds = fits ? malloc((size_t)rows * sizeof *seconds) : NULL;
    int64_t *steps = fits ? malloc((size_t)rows * sizeof *steps) : NULL;
    bool ok = seconds && steps;
    if (ok && read_labels(table, timeline, seconds)) {
        find_step(timeline, steps);
        seconds = NULL; /* the timeline's now */
    }
    free(seconds);
    free(steps);
    return ok;
}

void timeline_destroy(Timeline *timeline)
{
    free(timeline->seconds);
    memset(timeline, 0, sizeof *timeline);
}

static Date row_date(const Timeline *timeline, uint64_t row)
{
    if (row < timeline->rows)
        return date_from_seconds(timeline->seconds[row]);
    int64_t steps = (int64_t)(row - (timeline->rows - 1));
    int64_t last = timeline->seconds[timeline->rows - 1];
    if (timeline->step_months > 0)
        return date_add_months(&timeline->anchor, steps * timeline->step_months);
    return date_from_seconds(timeline->weekdays ? add_weekdays(last, steps) : last + steps * timeline->step_seconds);
}

double timeline_position(const Timeline *timeline, uint64_t row)
{
    if (timeline->form == TIME_NONE)
        return (double)row + 1;
    Date date = row_date(timeline, row);
    return (double)date_seconds(&date);
}

void timeline_label(const Timeline *timeline, uint64_t row, char label[LABEL_SIZE])
{
    if (timeline->form == TIME_NONE) {
        snprintf(label, LABEL_SIZE, "%" PRIu64, row + 1);
        return;
    }
    Date date = row_date(timeline, row);
    int used = snprintf(label, LABEL_SIZE, "%04" PRId64 "-%02d", date.year, date.month);
    if (timeline->form >= TIME_DAY)
        used += snprintf(label + used, LABEL_SIZE - (size_t)used, "-%02d", date.day);
    if (timeline->form >= TIME_MINUTE)
        used += snprintf(label + used, LABEL_SIZE - (size_t)used, "%c%02d:%02d", timeline->separator, date.hour, date.minute);
    if (timeline->form >= TIME_SECOND)
        snprintf(label + used, LABEL_SIZE - (size_t)used, ":%02d", date.second);
}

void timeline_note_labels(const Timeline *timeline, const VklTable *table, const char *path)
{
    static const char *const reasons[] = {
        [LABEL_NO_DATE] = "is not a date, so that the rows have numbers alone",
        [LABEL_OTHER_FORM] = "has another form than the row above, so that the rows have numbers alone",
        [LABEL_BEFORE] = "is before the row above; rows must be in time order, oldest first",
        [LABEL_REPEATED] = "is the date of the row above, too; rows must be in time order, each with a date of its own",
    };
    if (timeline->bad == LABEL_GOOD)
        return;
    const char *label = vkl_table_label(table, timeline->bad_row);
    note("%s, row %" PRIu64 ": '%.64s' %s", path, timeline->bad_row + 1, label ? label : "", reasons[timeline->bad]);
}

void timeline_note_step(const Timeline *timeline, const char *path)
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{DAY_SECONDS, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    if (timeline->uneven == 0)
        return;
    int64_t step = timeline->step_months;
    const char *name = "month";
    if (step == 0) {
        size_t unit = 0;
        while (timeline->step_seconds % units[unit].seconds != 0)
            unit++;
        step = timeline->step_seconds / units[unit].seconds;
        name = timeline->weekdays ? "weekday" : units[unit].name;
    }
    note("%s: the rows are not equally spaced: %" PRIu64 " of %" PRIu64 " steps are not %" PRId64
         " %s%s, by which the dates go on",
         path, timeline->uneven, timeline->rows - 1, step, name, step == 1 ? "" : "s");
}

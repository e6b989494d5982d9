/* SPDX-License-Identifier: MIT */
#include "timeline.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The step from one row to the next: whole months when the last three rows stand on one day of the month, or each on its last
 * day (monthly, quarterly and yearly series); else the last difference. */
static void find_step(Timeline *timeline)
{
    Date dates[3];
    uint64_t count = timeline->rows < 3 ? timeline->rows : 3;
    bool same_day = true, month_ends = true;
    for (uint64_t i = 0; i < count; i++) {
        dates[i] = date_from_seconds(timeline->seconds[timeline->rows - count + i]);
        month_ends = month_ends && dates[i].day == month_length(month_index(&dates[i]));
        same_day = same_day && dates[i].day == dates[0].day && dates[i].hour == dates[0].hour &&
                   dates[i].minute == dates[0].minute && dates[i].second == dates[0].second;
    }
    timeline->last = dates[count - 1];
    if (count < 2)
        return;
    int64_t months = month_index(&dates[count - 1]) - month_index(&dates[count - 2]);
    timeline->month_ends = month_ends && !same_day && timeline->form == TIME_DAY;
    if (months > 0 && (timeline->form == TIME_MONTH || (count == 3 && (same_day || timeline->month_ends))))
        timeline->step_months = months;
    else
        timeline->step_seconds = timeline->seconds[timeline->rows - 1] - timeline->seconds[timeline->rows - 2];
}

bool timeline_create(const VklTable *table, Timeline *timeline)
{
    memset(timeline, 0, sizeof *timeline);
    uint64_t rows = vkl_table_rows(table);
    timeline->rows = rows;
    if (rows < 2 || !vkl_table_label(table, 0))
        return true;
    int64_t *seconds = rows <= SIZE_MAX / sizeof *seconds ? malloc((size_t)rows * sizeof *seconds) : NULL;
    if (!seconds)
        return false;
    TimeForm form = TIME_NONE;
    for (uint64_t row = 0; row < rows; row++) {
        const char *label = vkl_table_label(table, row);
        Date date;
        TimeForm found = label ? parse_date(label, &date, &timeline->separator) : TIME_NONE;
        if (found == TIME_NONE || (row > 0 && found != form)) {
            free(seconds);
            return true;
        }
        form = found;
        seconds[row] = date_seconds(&date);
        if (row > 0 && seconds[row] <= seconds[row - 1]) {
            free(seconds);
            return true;
        }
    }
    timeline->form = form;
    timeline->seconds = seconds;
    find_step(timeline);
    return true;
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
    if (timeline->step_months == 0)
        return date_from_seconds(timeline->seconds[timeline->rows - 1] + steps * timeline->step_seconds);
    Date date = date_add_months(&timeline->last, steps * timeline->step_months);
    if (timeline->month_ends)
        date.day = month_length(month_index(&date));
    return date;
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

/* SPDX-License-Identifier: MIT */
#include "ticks.h"

#include <inttypes.h>

#include "timeline.h"

#define MONTH_SECONDS 2629746.0 /* a twelfth of the mean Gregorian year */

/* The steps that an axis may have, from small to large: either months or seconds. */
static const struct TickStep {
    int64_t months, seconds;
} tick_steps[] = {
    {0, 60},        {0, 300},   {0, 900},       {0, 1800},      {0, 3600},       {0, 3 * 3600}, {0, 6 * 3600},
    {0, 12 * 3600}, {0, 86400}, {0, 2 * 86400}, {0, 7 * 86400}, {0, 14 * 86400}, {1, 0},        {2, 0},
    {3, 0},         {6, 0},     {12, 0},        {24, 0},        {60, 0},         {120, 0},      {240, 0},
    {300, 0},       {600, 0},   {1200, 0},      {2400, 0},      {6000, 0},       {12000, 0},
};

static void print_tick(FILE *file, const struct TickStep *step, int64_t at)
{
    Date date = date_from_seconds(at);
    if (step->months >= 12)
        fprintf(file, "'%04" PRId64 "'", date.year);
    else if (step->months > 0)
        fprintf(file, "'%04" PRId64 "-%02d'", date.year, date.month);
    else if (step->seconds >= 86400 || (date.hour == 0 && date.minute == 0))
        fprintf(file, "'%04" PRId64 "-%02d-%02d'", date.year, date.month, date.day);
    else
        fprintf(file, "'%02d:%02d'", date.hour, date.minute);
    fprintf(file, " %" PRId64, at);
}

void ticks_print(FILE *file, double begin, double end, int most)
{
    size_t count = sizeof tick_steps / sizeof tick_steps[0], chosen = 0;
    while (chosen + 1 < count) {
        double seconds =
            tick_steps[chosen].months ? (double)tick_steps[chosen].months * MONTH_SECONDS : (double)tick_steps[chosen].seconds;
        bool narrow = tick_steps[chosen].months >= 12; /* a year takes half the room of a date */
        if ((end - begin) / seconds <= (narrow ? most + most / 2 : most))
            break;
        chosen++;
    }
    const struct TickStep *step = &tick_steps[chosen];
    /* the first mark at or before the beginning, on a multiple of the step */
    Date date = date_from_seconds((int64_t)begin);
    int64_t months = date.year * 12 + date.month - 1, seconds = (int64_t)begin;
    if (step->months)
        months -= months % step->months;
    else
        seconds -= ((seconds % step->seconds) + step->seconds) % step->seconds;
    fputc('(', file);
    const char *comma = "";
    for (;;) {
        date = (Date){months / 12, (int)(months % 12) + 1, 1, 0, 0, 0};
        int64_t at = step->months ? date_seconds(&date) : seconds;
        if ((double)at > end)
            break;
        if ((double)at >= begin) {
            fputs(comma, file);
            print_tick(file, step, at);
            comma = ", ";
        }
        months += step->months;
        seconds += step->seconds;
    }
    fputc(')', file);
}

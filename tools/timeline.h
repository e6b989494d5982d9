/* SPDX-License-Identifier: MIT
 *
 * The dates of a table's rows: read from its labels, carried on after the last row, and placed on an axis.
 *
 * Labels are YYYY-MM, YYYY-MM-DD, YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS (a space may stand for the T), all of one form and
 * ascending. Dates are the proleptic Gregorian calendar's, without time zones.
 */
#ifndef VKLSTM_TOOLS_TIMELINE_H
#define VKLSTM_TOOLS_TIMELINE_H

#include "vklstm/vklstm.h"

typedef enum TimeForm { TIME_NONE = 0, TIME_MONTH, TIME_DAY, TIME_MINUTE, TIME_SECOND } TimeForm;

typedef struct Date {
    int64_t year;
    int month, day, hour, minute, second; /* month and day from 1 */
} Date;

typedef struct Timeline {
    TimeForm form;                     /* TIME_NONE: the rows have numbers alone */
    char separator;                    /* between day and time */
    uint64_t rows;                     /* of the table */
    int64_t *seconds;                  /* [rows], since 1970; NULL for TIME_NONE */
    Date last;                         /* of the last row */
    bool month_ends;                   /* every step ends on the last day of a month */
    int64_t step_months, step_seconds; /* from row to row after the last; one of them is 0 */
} Timeline;

/* False: out of memory. Labels that are no dates are no failure. */
bool timeline_create(const VklTable *table, Timeline *timeline);
void timeline_destroy(Timeline *timeline);

/* Where a row lies on an axis, also after the table's end: seconds since 1970, or the number of the row, from 1. */
double timeline_position(const Timeline *timeline, uint64_t row);

/* The label of a row, also after the table's end: a date in the table's form, or the number of the row, from 1. */
#define LABEL_SIZE 48
void timeline_label(const Timeline *timeline, uint64_t row, char label[LABEL_SIZE]);

int64_t date_seconds(const Date *date);
Date date_from_seconds(int64_t seconds);
/* The date so many months later; its day is cut to the length of the month. */
Date date_add_months(const Date *date, int64_t months);

#endif

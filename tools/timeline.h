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

/* Why labels are of no use as dates. */
typedef enum LabelFault { LABEL_GOOD = 0, LABEL_NO_DATE, LABEL_OTHER_FORM, LABEL_BEFORE, LABEL_REPEATED } LabelFault;

typedef struct Timeline {
    TimeForm form;                     /* TIME_NONE: the rows have numbers alone */
    char separator;                    /* between day and time */
    uint64_t rows;                     /* of the table */
    int64_t *seconds;                  /* [rows], since 1970; NULL for TIME_NONE */
    Date anchor;                       /* the last row's date, from which months are counted; its day may be beyond its month's */
    int64_t step_months, step_seconds; /* from row to row after the last; one of them is 0 */
    bool weekdays;                     /* the step is a day, and Saturdays and Sundays are left out */
    uint64_t uneven;                   /* steps from row to row that are others */
    LabelFault bad;                    /* of the first label that is of no use */
    uint64_t bad_row;
} Timeline;

/* False: out of memory. Labels that are no dates are no failure. */
bool timeline_create(const VklTable *table, Timeline *timeline);
void timeline_destroy(Timeline *timeline);

/* Where a row lies on an axis, also after the table's end: seconds since 1970, or the number of the row, from 1. */
double timeline_position(const Timeline *timeline, uint64_t row);

/* The label of a row, also after the table's end: a date in the table's form, or the number of the row, from 1. */
#define LABEL_SIZE 48
void timeline_label(const Timeline *timeline, uint64_t row, char label[LABEL_SIZE]);

/* Notes on standard error, or nothing: why the labels of the file `path` are no dates, and that the dates are not equally spaced. */
void timeline_note_labels(const Timeline *timeline, const VklTable *table, const char *path);
void timeline_note_step(const Timeline *timeline, const char *path);

int64_t date_seconds(const Date *date);
Date date_from_seconds(int64_t seconds);
/* The date so many months later; its day is cut to the length of the month. */
Date date_add_months(const Date *date, int64_t months);

#endif

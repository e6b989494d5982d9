/* SPDX-License-Identifier: MIT
 *
 * Results of train and evaluate, as a JSON object or as a table to read.
 */
#ifndef VKLSTM_TOOLS_REPORT_H
#define VKLSTM_TOOLS_REPORT_H

#include <jansson.h>

#include "parts.h"

typedef struct Report {
    const char *device; /* its name */
    const char *target; /* the column */
    uint64_t horizon;
    uint64_t parameters;
    double seconds;
    const VklFitResult *fit; /* NULL: nothing was trained */
    uint64_t refit_epochs;   /* 0: no refit */
    const Parts *parts;
} Report;

/* Each prints to standard output and returns an exit status. */
int report_json(const Report *report);
int report_text(const Report *report);

/* A number, or null where there is none. */
json_t *json_number(double value);
/* Prints one object and a newline; takes it over. NULL: it could not be built. */
int print_json(json_t *object);

#endif

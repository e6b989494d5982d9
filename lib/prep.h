/* SPDX-License-Identifier: MIT
 *
 * Private to table.c, prep.c, prep_fill.c, prep_json.c and io.c: the inside of tables and preparations.
 */
#ifndef VKL_PREP_H
#define VKL_PREP_H

#include <jansson.h>

#include "internal.h"

#define VKL_NO_ROW UINT64_MAX

/* ---- Table ---- */

/* Text and infinities are kept for as long as nobody uses their column: then the first of them is reported. */
typedef struct VklTableColumn {
    char *name;
    double *values;    /* [rows]; NaN in gaps and text cells */
    uint64_t text_row; /* the first row with text, or VKL_NO_ROW */
    uint64_t infinite_row;
    char text[48]; /* the first text, cut to what fits */
} VklTableColumn;

struct VklTable {
    char *path; /* NULL: made from arrays */
    uint64_t rows;
    uint32_t columns;
    VklTableColumn *column; /* [columns] */
    uint64_t *lines;        /* [rows], the line of the file where each row begins; NULL with path */
    char *label_text;       /* the labels one after the other; NULL: none */
    uint64_t *labels;       /* [rows], where each begins */
};

/* Writes where a row is: "FILE:LINE", or "row N", counted from 0, of a table made from arrays. Returns `place`. */
#define VKL_PLACE_SIZE 256
const char *vkl_table_place(const VklTable *table, uint64_t row, char place[VKL_PLACE_SIZE]);
/* "FILE", or "the table". */
const char *vkl_table_name(const VklTable *table);

/* Finds a column that is to be used as numbers. Errors: VKL_ERROR_INVALID (unknown), VKL_ERROR_FORMAT (text, infinities). */
VklStatus vkl_table_use(VklContext *context, VklError *error, const VklTable *table, const char *name, uint32_t *column);

/* Whether `text` is UTF-8 (RFC 3629): names go into JSON. */
bool vkl_utf8(const char *text);

/* ---- Preparation ---- */

typedef struct VklPrepScale {
    double offset, divisor; /* scaled = (value - offset) / divisor */
} VklPrepScale;

/* What is known of a column from the training part, in the table's units but for the scale. */
typedef struct VklPrepColumn {
    char *name;
    double mean, median, mode; /* of the observed values */
    double first;              /* the first observed value */
    VklPrepScale scale;        /* as a feature */
} VklPrepColumn;

struct VklPrep {
    VklContext *context;
    VklPrepDesc desc; /* its strings are the columns' names */
    const char **features;
    VklPrepColumn *columns; /* [column_count]: the features in order, then the target where it is none of them */
    uint32_t column_count;
    uint32_t target; /* its index in `columns` */
    VklPrepScale target_scale;
    VklError error;
};

/* A preparation with copies of the description's strings and no statistics. NULL: no memory. */
VklPrep *vkl_prep_new(VklContext *context, const VklPrepDesc *desc);
/* Whether a description makes sense by itself; if not, `why` says so. */
bool vkl_prep_check(const VklPrepDesc *desc, char *why, size_t size);

/* ---- Fills (prep_fill.c) ---- */

const char *vkl_fill_name(VklFill fill); /* without ":K"; NULL for a number that is no fill */
const char *vkl_scale_name(VklScale scale);

/* A column of a table, with the observed neighbours of each row at hand. */
typedef struct VklSeries {
    const VklPrepColumn *column;
    const double *values;
    uint64_t rows;
    uint64_t *previous; /* [rows], the last observed row at or before; VKL_NO_ROW: none. NULL: no gaps */
    uint64_t *next;     /* [rows], the first observed row at or after */
} VklSeries;

/* false: no memory. */
bool vkl_series_init(VklSeries *series, const VklPrepColumn *column, const double *values, uint64_t rows);
void vkl_series_finish(VklSeries *series);
/* The value of a row, filled where it is a gap, by one who sees no row after `end`; end >= row. NaN: a gap under VKL_FILL_DROP. */
double vkl_series_at(const VklSeries *series, const VklPrepDesc *desc, uint64_t row, uint64_t end);
/* Whether what vkl_series_at() gives may depend on `end`. */
bool vkl_fill_looks_ahead(VklFill fill);
/* mean, median, mode and first of the observed values among `count`. Errors: VKL_ERROR_FORMAT (there is none; no sentence
 * given), VKL_ERROR_HOST_MEMORY. */
VklStatus vkl_fill_statistics(const double *values, uint64_t count, VklPrepColumn *column);

/* ---- Model files (prep_json.c) ---- */

/* NULL: no memory. */
json_t *vkl_prep_to_json(const VklPrep *prep);
/* `name`, of the file, is for the sentences. Errors: VKL_ERROR_FORMAT, VKL_ERROR_HOST_MEMORY. */
VklStatus vkl_prep_from_json(VklContext *context, const char *name, const json_t *json, VklPrep **prep);

/* ---- Helpers ---- */

/* Zero-filled; at least one element; NULL where the product does not fit. */
static inline void *vkl_allocate(uint64_t count, size_t size)
{
    if (count > SIZE_MAX / size)
        return NULL;
    return calloc(count ? (size_t)count : 1, size);
}

char *vkl_copy_text(const char *text); /* NULL: no memory */
/* strerror() that threads can share. Returns `text`. */
#define VKL_ERRNO_SIZE 128
const char *vkl_errno_text(int number, char text[VKL_ERRNO_SIZE]);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Private to table.c, prep*.c and io.c: the inside of tables and preparations.
 *
 * Words used there. The level of a row is the target column's filled value, or its logarithm. An input is what a network sees of
 * a column at a row: for the target column the level, or its difference, scaled; for others the filled value, scaled. The base
 * of a target row is the earlier row whose level is subtracted from it. `end` is always the last row that may be read.
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
bool vkl_series_init(const VklHostMemory *memory, VklSeries *series, const VklPrepColumn *column, const double *values,
                     uint64_t rows);
void vkl_series_finish(VklSeries *series);
/* The value of a row, filled where it is a gap, by one who sees no row after `end`; end >= row. NaN: a gap under VKL_FILL_DROP. */
double vkl_series_at(const VklSeries *series, const VklPrepDesc *desc, uint64_t row, uint64_t end);
/* Whether what vkl_series_at() gives may depend on `end`. */
bool vkl_fill_looks_ahead(VklFill fill);
/* mean, median, mode and first of the observed values among `count`. Errors: VKL_ERROR_FORMAT (there is none; no sentence
 * given), VKL_ERROR_HOST_MEMORY. */
VklStatus vkl_fill_statistics(const VklHostMemory *memory, const double *values, uint64_t count, VklPrepColumn *column);

/* ---- How a preparation sees a table (prep_view.c) ---- */

typedef struct VklView {
    const VklPrep *prep;
    const VklTable *table;
    VklSeries *series;       /* [column_count] */
    uint64_t rows;           /* of the table */
    uint64_t train_end;      /* of the table's training part */
    uint64_t *run;           /* [rows], how many rows in a row, up to this one, need no fill for the inputs; NULL: all */
    const double *predicted; /* levels of the target after the table's last row; NULL: not needed */
} VklView;

/* Checks that the columns that are used can be. After VKL_OK, and only then, vkl_view_close() is needed. */
VklStatus vkl_view_open(VklPrep *prep, const VklTable *table, const char *caller, VklView *view);
void vkl_view_close(VklView *view);

double vkl_view_level(const VklView *view, uint64_t row, uint64_t end);
double vkl_view_unscaled_input(const VklView *view, uint32_t column, uint64_t row, uint64_t end);
double vkl_view_input(const VklView *view, uint32_t column, uint64_t row, uint64_t end);
/* The level of the base of a target row; 0 without a difference. */
double vkl_view_base(const VklView *view, uint64_t row, uint64_t end);
/* The level that a prediction for a target row stands for. */
double vkl_view_predicted_level(const VklView *view, double prediction, uint64_t row, uint64_t end);
/* Whether a row is a target of its part. */
bool vkl_view_is_target(const VklView *view, uint64_t row);

/* Rows before the first that can be an input; rows between a target and its base (0: no difference); rows before the first
 * that can be a target. */
uint64_t vkl_prep_input_history(const VklPrep *prep);
uint64_t vkl_prep_target_lag(const VklPrep *prep);
uint64_t vkl_prep_target_history(const VklPrep *prep);
/* The fewest rows with a window and its target, and the fewest to forecast from. */
uint64_t vkl_prep_rows_needed(const VklPrep *prep);
uint64_t vkl_prep_rows_needed_to_forecast(const VklPrep *prep, uint64_t steps);

static inline double vkl_prep_scaled(VklPrepScale scale, double value)
{
    return (value - scale.offset) / scale.divisor;
}
double vkl_prep_level_to_value(const VklPrep *prep, double level);

/* Sentences that several files have. `missing` is the name of an argument that is NULL; NULL: all are there. */
VklStatus vkl_prep_check_arguments(VklPrep *prep, const char *caller, const char *missing);
VklStatus vkl_prep_no_memory(VklPrep *prep, const char *caller, const VklTable *table);
/* `what` has `rows` rows. */
VklStatus vkl_prep_too_few_rows(VklPrep *prep, const VklTable *table, const char *what, uint64_t rows, uint64_t needed);

/* ---- Model files (prep_json.c) ---- */

/* NULL: no memory. */
json_t *vkl_prep_to_json(const VklPrep *prep);
/* `name`, of the file, is for the sentences. Errors: VKL_ERROR_FORMAT, VKL_ERROR_HOST_MEMORY. */
VklStatus vkl_prep_from_json(VklContext *context, const char *name, const json_t *json, VklPrep **prep);

/* ---- Helpers ---- */

#endif

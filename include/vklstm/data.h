/* SPDX-License-Identifier: MIT
 *
 * From a table to windows and back: VklTable (columns with gaps), VklPrep (how a column becomes numbers that a network can
 * learn, fitted on the training part), VklWindowSet (windows of one part), scores and forecasts in the table's own units.
 *
 * Parts. Rows are in time order. The last round(test_split * rows) rows are the test part, the last round(validation_split *
 * rest) of the rest the validation part, what is left the training part. A window belongs to the part of its target row, and may
 * reach back into the part before it, so every row of a part with enough history is a target. Statistics, scales and fills are
 * fitted on the training part only.
 *
 * Order. Fill the gaps; then for the target column (as target, and where it is a feature): log, difference, scale; for other
 * features: scale alone. Predictions are restored in the opposite order: in evaluation with observed values of earlier rows, in
 * a forecast of several steps with the own predictions.
 *
 * Gaps are filled for inputs only; a row whose target is a gap is neither trained on nor scored. In the training part a fill
 * reads the training part alone. For windows of the other parts it reads nothing after the window's last time step: where
 * it would have to, it falls back to VKL_FILL_FORWARD. A gap with nothing before it takes the first observed value of the
 * training part.
 */
#ifndef VKLSTM_DATA_H
#define VKLSTM_DATA_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Table ---- */

typedef struct VklTable VklTable;

/* Reads a CSV file (RFC 4180; UTF-8, with or without a byte-order mark) with a header line. A gap is an empty cell, NA, NaN or
 * null, in any case. A cell that is no number is kept as text: a column that holds any cannot be a target or feature, but the
 * first column, if it has text, labels the rows (dates).
 * Errors: VKL_ERROR_IO (no such file), VKL_ERROR_FORMAT (empty file, no data rows, ragged row, duplicate or empty column name,
 * bad quoting: file and line are named), VKL_ERROR_HOST_MEMORY, VKL_ERROR_UNSUPPORTED (built without CSV). */
VKL_API VklStatus vkl_table_read_csv(VklContext *context, const char *path, VklTable **table);

/* A table from arrays: `names` [columns], `values` [rows][columns] with NaN for gaps, `labels` [rows] or NULL. All copied.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_table_create(VklContext *context, uint64_t rows, uint32_t columns, const char *const *names,
                                   const double *values, const char *const *labels, VklTable **table);
VKL_API void vkl_table_destroy(VklTable *table);

/* How many rows and columns, and the name of a column (of the table, as long as it lives; NULL beyond the last). */
VKL_API uint64_t vkl_table_rows(const VklTable *table);
VKL_API uint32_t vkl_table_columns(const VklTable *table);
VKL_API const char *vkl_table_column_name(const VklTable *table, uint32_t column);
/* The index of a column, or -1. */
VKL_API int64_t vkl_table_find(const VklTable *table, const char *name);
/* The values of a column, [rows], NaN in gaps and text cells. */
VKL_API const double *vkl_table_column(const VklTable *table, uint32_t column);
/* The label of a row (the text of the first column), or NULL. */
VKL_API const char *vkl_table_label(const VklTable *table, uint64_t row);

/* ---- Preparation ---- */

typedef struct VklPrep VklPrep;

typedef enum VklFill {
    VKL_FILL_MEAN = 0, /* of the observed values of the training part */
    VKL_FILL_MEDIAN = 1,
    VKL_FILL_MODE = 2,           /* the most frequent value; the smallest of several */
    VKL_FILL_FORWARD = 3,        /* the last observed value */
    VKL_FILL_BACKWARD = 4,       /* the next observed value */
    VKL_FILL_LINEAR = 5,         /* on the line between the neighbours */
    VKL_FILL_MOVING_AVERAGE = 6, /* mean of the observed values among fill_window rows centred on the gap, widened by one on
                                    each side until there is one */
    VKL_FILL_DROP = 7            /* windows that touch a gap are left out */
} VklFill;

typedef enum VklScale {
    VKL_SCALE_MINMAX = 0,   /* to [0, 1] over the training part */
    VKL_SCALE_STANDARD = 1, /* mean 0, standard deviation 1 over the training part */
    VKL_SCALE_NONE = 2
} VklScale;

/* "mean", "median", "mode", "forward", "backward", "linear", "moving-average:K" (K odd, >= 3), "drop"; "minmax", "standard",
 * "none". Return false, and leave the results alone, for anything else. */
VKL_API bool vkl_fill(const char *text, VklFill *fill, uint64_t *fill_window);
VKL_API bool vkl_scale(const char *text, VklScale *scale);

typedef struct VklPrepDesc {
    size_t struct_size;
    const char *target;          /* name of a column */
    const char *const *features; /* names of columns, exactly the inputs; NULL (default): the target alone */
    uint32_t feature_count;      /* of `features` */
    uint64_t window;             /* T: time steps of a window; default 1 */
    uint64_t horizon;            /* the target is the value so many rows after the window's last; default 1 */
    VklFill fill;                /* default VKL_FILL_FORWARD */
    uint64_t fill_window;        /* of VKL_FILL_MOVING_AVERAGE; odd, >= 3; default 5 */
    VklScale scale;              /* default VKL_SCALE_MINMAX */
    bool log;                    /* natural logarithm of the target column; default false */
    uint64_t difference;     /* K: the target column becomes v[r] - v[r-K]; 0 (default): off. As a target with a horizon h > K,
                                the lag is the smallest multiple of K that is at least h, so that only known values are needed */
    double test_split;       /* share of the rows, 0 <= s < 1; default 0.2 */
    double validation_split; /* share of the rows before the test part; default 0 */
} VklPrepDesc;

VKL_API VklPrepDesc vkl_prep_desc(const char *target);

/* Checks the description against the table and fits statistics and scales on the training part. A constant column is kept
 * unscaled, with a warning through the log callback. Everything needed is copied.
 * Errors: VKL_ERROR_INVALID (unknown column: those there are, are listed; values out of range; fewer rows than a window and its
 * target; no training window left), VKL_ERROR_FORMAT (text or an infinity in a column that is used, a column with nothing but
 * gaps in the training part, a logarithm of a value at or below zero: row and value are named), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_prep_create(VklContext *context, const VklTable *table, const VklPrepDesc *desc, VklPrep **prep);
VKL_API void vkl_prep_destroy(VklPrep *prep);
VKL_API const char *vkl_prep_error(const VklPrep *prep);

/* The description; its strings belong to the prep. */
VKL_API const VklPrepDesc *vkl_prep_get_desc(const VklPrep *prep);
VKL_API uint64_t vkl_prep_features(const VklPrep *prep);

typedef enum VklPart { VKL_PART_TRAIN = 0, VKL_PART_VALIDATION = 1, VKL_PART_TEST = 2 } VklPart;

/* First row and one past the last of a part of `rows` rows. */
VKL_API void vkl_prep_part(const VklPrep *prep, uint64_t rows, VklPart part, uint64_t *begin, uint64_t *end);

typedef struct VklWindowSet {
    VklWindows windows;          /* a view of arrays that the set owns; count may be 0 */
    const uint64_t *target_rows; /* [count]: the table's row of each target, ascending */
} VklWindowSet;

/* The windows of a part. The table may be another than the one the prep was fitted on, with the same columns.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_FORMAT (as vkl_prep_create), VKL_ERROR_LIMIT (more than 2^32 - 1 rows),
 * VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_prep_windows(VklPrep *prep, const VklTable *table, VklPart part, VklWindowSet **set);
VKL_API void vkl_window_set_destroy(VklWindowSet *set);

/* Predictions of a set's windows, in the table's units. predictions: in, [count]; values: out, [count].
 * Errors: as vkl_prep_windows; VKL_ERROR_INVALID also for a set of another table. */
VKL_API VklStatus vkl_prep_restore(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const float *predictions,
                                   double *values);

typedef struct VklScore {
    uint64_t count; /* observed targets; 0: the others are NaN */
    double rmse;    /* root of the mean of squared errors */
    double mae;     /* mean of absolute errors */
    double mape;    /* percent, over targets that are not zero; NaN if there are none */
} VklScore;

/* Errors of predictions (values, in the table's units, [count]) against the observed targets. */
VKL_API VklStatus vkl_prep_score(VklPrep *prep, const VklTable *table, const VklWindowSet *set, const double *values,
                                 VklScore *score);

typedef struct VklBaselines {
    double persistence_rmse;          /* the last observed value at or before row r - horizon */
    double seasonal_naive_rmse;       /* y[r - S], S: the smallest multiple of the season >= horizon; NaN without a season */
    double seasonal_naive_drift_rmse; /* y[r - S] + the mean of y[i] - y[i - S] over the observed rows i before the set's first
                                         target; NaN without a season */
} VklBaselines;

/* The errors of three forecasts that need no training, over the same targets. A gap among the values they use takes the last
 * observed value before it. season 0: none. A figure is NaN where the table does not reach back far enough for a target.
 * Errors: as vkl_prep_restore. */
VKL_API VklStatus vkl_prep_baselines(VklPrep *prep, const VklTable *table, const VklWindowSet *set, uint64_t season,
                                     VklBaselines *baselines);

/* Forecasts after the table's last row, with horizon h. values: out, [steps], in the table's units: values[i] is for h + i rows
 * after the last. The first comes from the window that ends with the table; each later window takes the rows that the table
 * does not have from the own predictions (for h > 1 also from those of the windows before).
 * Errors: VKL_ERROR_INVALID (steps of 0; more than one step with features other than the target; a table shorter than a
 * window), as vkl_prep_windows, as vkl_model_predict. */
VKL_API VklStatus vkl_prep_forecast(VklPrep *prep, const VklTable *table, VklModel *model, uint64_t steps, double *values);

#ifdef __cplusplus
}
#endif
#endif

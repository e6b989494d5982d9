/* SPDX-License-Identifier: MIT
 *
 * Preparation: fills that see no later row, scales, differences, windows, scores, baselines, forecasts. Expected numbers are
 * worked out by hand beside the cases.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "prep.h"

#define DATA VKL_SOURCE_ROOT "/data/"
#define N NAN
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Inputs are float32: half a unit in the last place, twice for a difference of two roundings. */
#define FLOAT_TOLERANCE 1.2e-7

static const VklFill all_fills[] = {
    VKL_FILL_MEAN,     VKL_FILL_MEDIAN, VKL_FILL_MODE,           VKL_FILL_FORWARD,
    VKL_FILL_BACKWARD, VKL_FILL_LINEAR, VKL_FILL_MOVING_AVERAGE, VKL_FILL_DROP,
};

/* ---- Helpers ---- */

/* A table of one column "y", or two, "y" and "x". */
static VklTable *make_table(VklContext *context, uint64_t rows, const double *y, const double *x)
{
    static const char *const names[] = {"y", "x"};
    uint32_t columns = x ? 2 : 1;
    double *values = calloc(rows * columns, sizeof(*values));
    cr_assert_not_null(values);
    for (uint64_t r = 0; r < rows; r++) {
        values[r * columns] = y[r];
        if (x)
            values[r * columns + 1] = x[r];
    }
    VklTable *table = NULL;
    TEST_OK(context, vkl_table_create(context, rows, columns, names, values, NULL, &table));
    free(values);
    return table;
}

static VklPrep *make_prep(VklContext *context, const VklTable *table, const VklPrepDesc *desc)
{
    VklPrep *prep = NULL;
    TEST_OK(context, vkl_prep_create(context, table, desc, &prep));
    return prep;
}

static VklWindowSet *make_windows(VklContext *context, VklPrep *prep, const VklTable *table, VklPart part)
{
    VklWindowSet *set = NULL;
    TEST_OK(context, vkl_prep_windows(prep, table, part, &set));
    const VklWindows *windows = &set->windows;
    cr_assert_eq(windows->struct_size, sizeof(VklWindows));
    cr_assert_eq(windows->outputs, 1);
    for (uint64_t i = 0; i < windows->count; i++) {
        cr_assert_leq(windows->starts[i] + windows->steps, windows->rows);
        cr_assert(i == 0 || set->target_rows[i] > set->target_rows[i - 1]);
        cr_assert(isfinite(windows->targets[i]));
    }
    return set;
}

/* The inputs of a window, [steps][features]. */
static const float *window_of(const VklWindowSet *set, uint64_t i)
{
    return set->windows.series + set->windows.starts[i] * set->windows.features;
}

static uint64_t find_target(const VklWindowSet *set, uint64_t row)
{
    uint64_t i = 0;
    while (i < set->windows.count && set->target_rows[i] != row)
        i++;
    cr_assert_lt(i, set->windows.count, "there is no window for target row %lu", (unsigned long)row);
    return i;
}

static bool near(double got, double want, double tolerance)
{
    double size = fabs(want) > 1 ? fabs(want) : 1;
    return isnan(want) ? isnan(got) : fabs(got - want) <= tolerance * size;
}

/* Numbers in [1, 3] with a gap in about one row of `every` (0: none). */
static void random_series(double *out, uint64_t rows, uint32_t seed, uint32_t every)
{
    float *numbers = calloc(2 * rows, sizeof(*numbers));
    cr_assert_not_null(numbers);
    test_random(numbers, 2 * rows, seed, 1);
    for (uint64_t r = 0; r < rows; r++)
        out[r] = every && (numbers[rows + r] + 1) / 2 * (float)every < 1 ? NAN : 2 + (double)numbers[r];
    free(numbers);
}

/* ---- Names ---- */

Test(prep, reads_names_of_fills_and_scales)
{
    static const struct {
        const char *text;
        bool known;
        VklFill fill;
        uint64_t fill_window;
    } fills[] = {
        {"mean", true, VKL_FILL_MEAN, 0},
        {"median", true, VKL_FILL_MEDIAN, 0},
        {"mode", true, VKL_FILL_MODE, 0},
        {"forward", true, VKL_FILL_FORWARD, 0},
        {"backward", true, VKL_FILL_BACKWARD, 0},
        {"linear", true, VKL_FILL_LINEAR, 0},
        {"drop", true, VKL_FILL_DROP, 0},
        {"moving-average:3", true, VKL_FILL_MOVING_AVERAGE, 3},
        {"moving-average:101", true, VKL_FILL_MOVING_AVERAGE, 101},
        {"moving-average", false, 0, 0},
        {"moving-average:", false, 0, 0},
        {"moving-average:1", false, 0, 0},
        {"moving-average:4", false, 0, 0},
        {"moving-average:-3", false, 0, 0},
        {"moving-average:3x", false, 0, 0},
        {"moving-average: 3", false, 0, 0},
        {"moving-average:99999999999999999999", false, 0, 0},
        {"mean:3", false, 0, 0},
        {"Mean", false, 0, 0},
        {"mea", false, 0, 0},
        {"", false, 0, 0},
    };
    for (size_t i = 0; i < COUNT(fills); i++) {
        VklFill fill = (VklFill)77;
        uint64_t fill_window = 0;
        cr_assert_eq(vkl_fill(fills[i].text, &fill, &fill_window), fills[i].known, "%s", fills[i].text);
        cr_assert_eq(fill, fills[i].known ? fills[i].fill : (VklFill)77, "%s", fills[i].text);
        cr_assert_eq(fill_window, fills[i].fill_window, "%s", fills[i].text);
    }
    VklScale scale = (VklScale)77;
    cr_assert(!vkl_scale("max", &scale));
    cr_assert(!vkl_scale("", &scale));
    cr_assert_eq(scale, (VklScale)77);
    cr_assert(vkl_scale("minmax", &scale) && scale == VKL_SCALE_MINMAX);
    cr_assert(vkl_scale("standard", &scale) && scale == VKL_SCALE_STANDARD);
    cr_assert(vkl_scale("none", &scale) && scale == VKL_SCALE_NONE);
}

/* ---- Parts ---- */

Test(prep, splits_rows_into_parts)
{
    static const struct {
        double test, validation;
        uint64_t rows, validation_begin, test_begin;
    } cases[] = {
        {0.2, 0, 10, 8, 8},
        {0.2, 0.25, 10, 6, 8},
        {1.0 / 3, 0, 144, 96, 96},
        {1.0 / 3, 0.25, 144, 72, 96},
        {0, 0, 10, 10, 10},
        {0, 0.1, 10, 9, 10},
        {0.25, 0, 10, 7, 7}, /* 2.5 rounds away from 0 */
        {0.2, 0.2, 17520, 11213, 14016},
        {0.99, 0, 10, 0, 0},
        {0.5, 0, 0, 0, 0},
    };
    VklPrep prep = {.desc = vkl_prep_desc("y")};
    for (size_t i = 0; i < COUNT(cases); i++) {
        prep.desc.test_split = cases[i].test;
        prep.desc.validation_split = cases[i].validation;
        uint64_t begin[3], end[3];
        for (int part = 0; part < 3; part++)
            vkl_prep_part(&prep, cases[i].rows, (VklPart)part, &begin[part], &end[part]);
        cr_assert(begin[0] == 0 && end[0] == cases[i].validation_begin && begin[1] == end[0], "case %zu", i);
        cr_assert(end[1] == cases[i].test_begin && begin[2] == end[1] && end[2] == cases[i].rows, "case %zu", i);
    }
}

/* Every row of a part with enough rows before it is a target, and windows reach back into the part before. */
Test(prep, makes_a_window_of_every_row_with_enough_before_it)
{
    static const struct {
        uint64_t window, horizon, difference;
        bool of_target;
        uint64_t first; /* target row */
    } cases[] = {
        {1, 1, 0, true, 1}, {3, 1, 0, true, 3}, {3, 4, 0, true, 6},  {1, 1, 1, true, 2},  {3, 1, 2, true, 5},
        {3, 4, 2, true, 8}, {1, 5, 3, true, 8}, {1, 1, 6, false, 6}, {3, 4, 2, false, 6}, {1, 5, 4, false, 8},
    };
    VklContext *context = test_context();
    double y[40], x[40];
    random_series(y, 40, 1, 0);
    random_series(x, 40, 2, 0);
    VklTable *table = make_table(context, 40, y, x);
    static const char *const x_alone[] = {"x"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.window = cases[i].window;
        desc.horizon = cases[i].horizon;
        desc.difference = cases[i].difference;
        desc.validation_split = 0.25;
        desc.scale = VKL_SCALE_NONE;
        if (!cases[i].of_target) {
            desc.features = x_alone;
            desc.feature_count = 1;
        }
        VklPrep *prep = make_prep(context, table, &desc);
        static const uint64_t begin[] = {0, 24, 32}, end[] = {24, 32, 40};
        for (int part = 0; part < 3; part++) {
            VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
            uint64_t first = part == 0 ? cases[i].first : begin[part];
            cr_assert_eq(set->windows.count, end[part] - first, "case %zu, part %d: %lu windows", i, part,
                         (unsigned long)set->windows.count);
            cr_assert_eq(set->windows.rows, set->windows.count + cases[i].window - 1, "rows are shared");
            for (uint64_t w = 0; w < set->windows.count; w++) {
                uint64_t row = set->target_rows[w], end_row = row - cases[i].horizon, K = cases[i].difference;
                cr_assert_eq(row, first + w);
                for (uint64_t t = 0; t < cases[i].window; t++) {
                    uint64_t r = end_row + 1 - cases[i].window + t;
                    double want = !cases[i].of_target ? x[r] : K ? y[r] - y[r - K] : y[r];
                    cr_assert_eq(window_of(set, w)[t], (float)want, "case %zu, part %d, window %lu", i, part, (unsigned long)w);
                }
            }
            vkl_window_set_destroy(set);
        }
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(prep, takes_features_in_the_order_given)
{
    VklContext *context = test_context();
    static const double y[] = {1, 2, 3, 4, 5, 6}, x[] = {60, 50, 40, 30, 20, 10};
    VklTable *table = make_table(context, 6, y, x);
    static const char *const features[] = {"x", "y"};
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.features = features;
    desc.feature_count = 2;
    desc.test_split = 0;
    desc.scale = VKL_SCALE_NONE;
    desc.difference = 1; /* of the target column alone */
    VklPrep *prep = make_prep(context, table, &desc);
    cr_assert(vkl_prep_get_desc(prep)->features[0] != features[0], "strings are copied");
    cr_assert_str_eq(vkl_prep_get_desc(prep)->features[0], "x");
    cr_assert_eq(vkl_prep_features(prep), 2);
    VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TRAIN);
    cr_assert_eq(set->windows.count, 4);
    for (uint64_t i = 0; i < 4; i++) {
        cr_assert_eq(window_of(set, i)[0], (float)x[i + 1]);
        cr_assert_eq(window_of(set, i)[1], 1);
        cr_assert_eq(set->windows.targets[i], 1);
    }
    vkl_window_set_destroy(set);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* ---- Fills ---- */

/* Column x has 9 training rows and 5 test rows:
 *
 *     row    0  1  2  3  4  5  6  7  8 |  9 10 11 12 13
 *     x      -  1  -  -  4  -  2  2  - |  9  -  - 12  -
 *
 * Training windows of one row end at rows 0 to 7, test windows of three rows at rows 8 to 12. Of the training part the mean is
 * 9 / 4, median and mode are 2, the first observed value is 1. */
Test(prep, fills_gaps_and_looks_no_further_than_it_may)
{
    static const double x[] = {N, 1, N, N, 4, N, 2, 2, N, 9, N, N, 12, N};
    static const struct {
        const char *fill;
        double train[8], test[5][3];
    } cases[] = {
        {"mean",
         {2.25, 1, 2.25, 2.25, 4, 2.25, 2, 2},
         {{2, 2, 2.25}, {2, 2.25, 9}, {2.25, 9, 2.25}, {9, 2.25, 2.25}, {2.25, 2.25, 12}}},
        {"median", {2, 1, 2, 2, 4, 2, 2, 2}, {{2, 2, 2}, {2, 2, 9}, {2, 9, 2}, {9, 2, 2}, {2, 2, 12}}},
        {"mode", {2, 1, 2, 2, 4, 2, 2, 2}, {{2, 2, 2}, {2, 2, 9}, {2, 9, 2}, {9, 2, 2}, {2, 2, 12}}},
        {"forward", {1, 1, 1, 1, 4, 4, 2, 2}, {{2, 2, 2}, {2, 2, 9}, {2, 9, 9}, {9, 9, 9}, {9, 9, 12}}},
        {"backward", {1, 1, 4, 4, 4, 2, 2, 2}, {{2, 2, 2}, {2, 9, 9}, {9, 9, 9}, {9, 9, 9}, {12, 12, 12}}},
        {"linear", {1, 1, 2, 3, 4, 3, 2, 2}, {{2, 2, 2}, {2, 5.5, 9}, {5.5, 9, 9}, {9, 9, 9}, {10, 11, 12}}},
        /* row 11 seen from row 11: rows 10 to 12 of the centred three have nothing to be seen, so rows 9 to 13 are asked */
        {"moving-average:3", {1, 1, 1, 4, 4, 3, 2, 2}, {{2, 2, 2}, {2, 5.5, 9}, {5.5, 9, 9}, {9, 9, 9}, {9, 12, 12}}},
        {"moving-average:5",
         {1, 1, 2.5, 2.5, 4, 8.0 / 3, 2, 2},
         {{2, 2, 2}, {2, 13.0 / 3, 9}, {13.0 / 3, 9, 9}, {9, 9, 9}, {10.5, 10.5, 12}}},
    };
    double y[14];
    random_series(y, 14, 3, 0);
    VklContext *context = test_context();
    VklTable *table = make_table(context, 14, y, x);
    static const char *const features[] = {"x"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = 1;
        desc.test_split = 5.0 / 14;
        desc.scale = VKL_SCALE_NONE;
        cr_assert(vkl_fill(cases[i].fill, &desc.fill, &desc.fill_window));
        VklPrep *prep = make_prep(context, table, &desc);
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TRAIN);
        cr_assert_eq(set->windows.count, 8);
        for (uint64_t w = 0; w < 8; w++)
            cr_assert_eq(window_of(set, w)[0], (float)cases[i].train[w], "%s, training row %lu: %g", cases[i].fill,
                         (unsigned long)w, window_of(set, w)[0]);
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);

        desc.window = 3;
        prep = make_prep(context, table, &desc);
        set = make_windows(context, prep, table, VKL_PART_TEST);
        cr_assert_eq(set->windows.count, 5);
        for (uint64_t w = 0; w < 5; w++)
            for (uint64_t t = 0; t < 3; t++)
                cr_assert_eq(window_of(set, w)[t], (float)cases[i].test[w][t], "%s, test window %lu, step %lu: %g", cases[i].fill,
                             (unsigned long)w, (unsigned long)t, window_of(set, w)[t]);
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* The last training row is a gap whose next value is a test value: no method takes that one for a training window. */
Test(prep, training_windows_do_not_see_past_the_split)
{
    static const double y[] = {1, 2, 3, 4, 5, 6, 7, 8}, x[] = {1, 2, 3, N, N, 6, 100, 100};
    static const struct {
        const char *fill;
        double row3;
    } cases[] = {{"backward", 3}, {"linear", 3}, {"moving-average:3", 3}, {"moving-average:5", 2.5}, {"forward", 3}};
    VklContext *context = test_context();
    VklTable *table = make_table(context, 8, y, x);
    static const char *const features[] = {"x"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = 1;
        desc.test_split = 3.0 / 8;
        desc.scale = VKL_SCALE_NONE;
        cr_assert(vkl_fill(cases[i].fill, &desc.fill, &desc.fill_window));
        VklPrep *prep = make_prep(context, table, &desc);
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TRAIN);
        cr_assert_eq(window_of(set, find_target(set, 4))[0], (float)cases[i].row3, "%s: %g", cases[i].fill,
                     window_of(set, find_target(set, 4))[0]);
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* In another table than the one fitted on, a gap with nothing before it takes the first value that was observed in training. */
Test(prep, leading_gaps_take_the_first_training_value)
{
    static const double y[] = {5, 1, 2, 3, 4, 5, 6, 7, 8, 9}, other[] = {N, N, 3, 4, 5};
    static const struct {
        const char *fill;
        double rows[2][2]; /* rows 0 and 1, seen from row 1 and from row 2 */
    } cases[] = {
        {"forward", {{5, 5}, {5, 5}}},          {"backward", {{5, 5}, {3, 3}}}, {"linear", {{5, 5}, {5, 5}}},
        {"moving-average:3", {{5, 5}, {5, 5}}}, {"mean", {{5, 5}, {5, 5}}},
    };
    VklContext *context = test_context();
    VklTable *table = make_table(context, 10, y, NULL), *second = make_table(context, 5, other, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.test_split = 0;
        desc.scale = VKL_SCALE_NONE;
        cr_assert(vkl_fill(cases[i].fill, &desc.fill, &desc.fill_window));
        VklPrep *prep = make_prep(context, table, &desc);
        VklSeries series;
        cr_assert(vkl_series_init(NULL, &series, &prep->columns[0], other, 5));
        for (uint64_t end = 1; end <= 2; end++)
            for (uint64_t row = 0; row < 2; row++) {
                double got = vkl_series_at(&series, vkl_prep_get_desc(prep), row, end);
                cr_assert_eq(got, cases[i].rows[end - 1][row], "%s: row %lu seen from row %lu: %g", cases[i].fill,
                             (unsigned long)row, (unsigned long)end, got);
            }
        vkl_series_finish(&series);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(second);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(prep, drop_leaves_out_windows_that_touch_a_gap)
{
    static const double x[] = {N, 1, 2, 3, N, 5, 6, 7, 8, 9, 10, N}, y[] = {0, 1, 2, 3, 4, 5, 6, N, 8, 9, 10, 11};
    static const struct {
        bool y_is_feature;
        uint64_t window, horizon, difference, count, rows[8];
    } cases[] = {
        /* windows of two rows, x: ends 2 3 6 7 8 9 10; the target, row 7, after end 6 is a gap */
        {false, 2, 1, 0, 6, {3, 4, 8, 9, 10, 11}},
        /* the target's base at row - 2 must be there too: not for row 9 */
        {false, 2, 1, 2, 5, {3, 4, 8, 10, 11}},
        /* y as a feature as well: row 7 is a gap of it, ends 2 3 6 9 10 are left */
        {true, 2, 1, 0, 4, {3, 4, 10, 11}},
        /* its difference at row r also needs row r - 1: input rows 1 2 3 5 6 9 10, ends 2 3 6 10, row 7 is a gap */
        {true, 2, 1, 1, 3, {3, 4, 11}},
    };
    VklContext *context = test_context();
    VklTable *table = make_table(context, 12, y, x);
    static const char *const features[] = {"x", "y"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = cases[i].y_is_feature ? 2 : 1;
        desc.window = cases[i].window;
        desc.horizon = cases[i].horizon;
        desc.difference = cases[i].difference;
        desc.fill = VKL_FILL_DROP;
        desc.test_split = 0.5;
        VklPrep *prep = make_prep(context, table, &desc);
        uint64_t found = 0;
        for (int part = 0; part < 3; part++) {
            VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
            for (uint64_t w = 0; w < set->windows.count; w++, found++) {
                cr_assert(found < cases[i].count && set->target_rows[w] == cases[i].rows[found], "case %zu: target row %lu", i,
                          (unsigned long)set->target_rows[w]);
                for (uint64_t v = 0; v < desc.window * desc.feature_count; v++)
                    cr_assert(isfinite(window_of(set, w)[v]));
            }
            vkl_window_set_destroy(set);
        }
        cr_assert_eq(found, cases[i].count, "case %zu: %lu windows", i, (unsigned long)found);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* A gap is no target. With a difference, a training window is left out where the base of its target is a gap, and an evaluation
 * window takes the base that is known at its end. */
Test(prep, trains_and_scores_on_observed_values_only)
{
    static const double y[] = {1, 2, N, 4, 5, 6, 7, 8, N, 10, 11, N};
    VklContext *context = test_context();
    VklTable *table = make_table(context, 12, y, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.test_split = 0.5;
    desc.difference = 1;
    desc.fill = VKL_FILL_LINEAR;
    desc.scale = VKL_SCALE_NONE;
    VklPrep *prep = make_prep(context, table, &desc);
    VklWindowSet *train = make_windows(context, prep, table, VKL_PART_TRAIN);
    VklWindowSet *test = make_windows(context, prep, table, VKL_PART_TEST);
    cr_assert_eq(train->windows.count, 2); /* row 2 is a gap, row 3 has a gap as base */
    cr_assert_eq(train->target_rows[0], 4);
    cr_assert_eq(train->target_rows[1], 5);
    cr_assert_eq(test->windows.count, 4);
    static const uint64_t rows[] = {6, 7, 9, 10};
    static const float targets[] = {1, 1, 2, 1}; /* seen from row 8, the gap in row 8 is 8 */
    for (uint64_t i = 0; i < 4; i++) {
        cr_assert_eq(test->target_rows[i], rows[i]);
        cr_assert_eq(test->windows.targets[i], targets[i]);
    }
    vkl_window_set_destroy(train);
    vkl_window_set_destroy(test);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Changes everything after row `end` but whether the target row is observed: other values, other gaps. */
static void change_after(double *y, double *x, uint64_t rows, uint64_t end, uint64_t target)
{
    for (uint64_t r = end + 1; r < rows; r++) {
        y[r] = isnan(y[r]) || r == target ? 1.5 + (double)(r % 7) : r % 3 ? y[r] * 1.25 : NAN;
        x[r] = isnan(x[r]) ? 1.75 + (double)(r % 5) : r % 2 ? x[r] * 1.25 : NAN;
    }
}

/* The windows of all parts are computed again for every window with all later values changed. Inputs, and what a prediction
 * means, must be the same to the bit; so must all that was fitted and all windows of the training part. */
static void check_no_leak(VklContext *context, VklFill fill, bool log, uint64_t difference, uint64_t horizon)
{
    enum { ROWS = 60, TRAIN = 36 };
    static const char *const features[] = {"x", "y"};
    double y[ROWS], x[ROWS];
    random_series(y, ROWS, 11, 4);
    random_series(x, ROWS, 12, 3);
    VklTable *table = make_table(context, ROWS, y, x);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.features = features;
    desc.feature_count = 2;
    desc.window = fill == VKL_FILL_DROP ? 2 : 6;
    desc.horizon = horizon;
    desc.fill = fill;
    desc.log = log;
    desc.difference = difference;
    desc.validation_split = 0.25;
    VklPrep *prep = make_prep(context, table, &desc);
    size_t window_size = (size_t)(desc.window * desc.feature_count) * sizeof(float);
    VklWindowSet *train = make_windows(context, prep, table, VKL_PART_TRAIN);
    for (int part = VKL_PART_VALIDATION; part <= VKL_PART_TEST; part++) {
        VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
        cr_assert(set->windows.count > 0 || fill == VKL_FILL_DROP);
        for (uint64_t i = 0; i < set->windows.count; i++) {
            uint64_t row = set->target_rows[i], end = row - horizon;
            double other_y[ROWS], other_x[ROWS];
            memcpy(other_y, y, sizeof(y));
            memcpy(other_x, x, sizeof(x));
            /* rows of the training part are what is fitted on: they stay, also those after a window's end */
            change_after(other_y, other_x, ROWS, end < TRAIN ? TRAIN - 1 : end, row);
            VklTable *changed = make_table(context, ROWS, other_y, other_x);
            VklPrep *again = make_prep(context, changed, &desc);
            VklWindowSet *seen = make_windows(context, again, changed, (VklPart)part);
            uint64_t j = find_target(seen, row);
            cr_assert_arr_eq(window_of(seen, j), window_of(set, i), window_size, "fill %d, row %lu", (int)fill,
                             (unsigned long)row);
            double was = 0, is = 0;
            static const float prediction = 0.375f;
            VklWindowSet one = {.windows = {.count = 1}, .target_rows = &row};
            TEST_OK(context, vkl_prep_restore(prep, table, &one, &prediction, &was));
            TEST_OK(context, vkl_prep_restore(again, changed, &one, &prediction, &is));
            cr_assert_eq(was, is, "fill %d, row %lu", (int)fill, (unsigned long)row);
            vkl_window_set_destroy(seen);

            seen = make_windows(context, again, changed, VKL_PART_TRAIN);
            cr_assert_eq(seen->windows.count, train->windows.count);
            for (uint64_t w = 0; w < train->windows.count; w++) {
                cr_assert_eq(seen->windows.targets[w], train->windows.targets[w]);
                cr_assert_arr_eq(window_of(seen, w), window_of(train, w), window_size);
            }
            vkl_window_set_destroy(seen);
            vkl_prep_destroy(again);
            vkl_table_destroy(changed);
        }
        vkl_window_set_destroy(set);
    }
    vkl_window_set_destroy(train);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
}

Test(prep, no_window_depends_on_what_comes_after_it)
{
    VklContext *context = test_context();
    for (size_t f = 0; f < COUNT(all_fills); f++) {
        check_no_leak(context, all_fills[f], false, 0, 1);
        check_no_leak(context, all_fills[f], true, 1, 1);
        check_no_leak(context, all_fills[f], false, 2, 3);
    }
    vkl_context_destroy(context);
}

/* Inside the training part a window that ends before row TRAIN may be filled from later training rows, as the header says; a
 * validation window that begins there may not. Both see the same gap differently. */
Test(prep, the_same_gap_may_be_filled_differently_for_training_and_validation)
{
    static const double y[] = {1, 2, 3, 4, 5, 6, 7, 8}, x[] = {1, 2, 3, 4, N, 6, 7, 8};
    VklContext *context = test_context();
    VklTable *table = make_table(context, 8, y, x);
    static const char *const features[] = {"x"};
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.features = features;
    desc.feature_count = 1;
    desc.test_split = 2.0 / 8;
    desc.horizon = 2;
    desc.fill = VKL_FILL_LINEAR;
    desc.scale = VKL_SCALE_NONE;
    VklPrep *prep = make_prep(context, table, &desc);
    VklWindowSet *test = make_windows(context, prep, table, VKL_PART_TEST);
    cr_assert_eq(window_of(test, find_target(test, 6))[0], 4); /* seen from row 4 */
    vkl_window_set_destroy(test);
    vkl_prep_destroy(prep);
    desc.test_split = 0;
    prep = make_prep(context, table, &desc);
    VklWindowSet *train = make_windows(context, prep, table, VKL_PART_TRAIN);
    cr_assert_eq(window_of(train, find_target(train, 6))[0], 5);
    vkl_window_set_destroy(train);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* ---- Scales, logarithm, difference ---- */

typedef struct Warnings {
    int count;
    char last[VKL_MESSAGE_SIZE];
} Warnings;

static void on_warning(void *user, VklLogLevel level, const char *message)
{
    Warnings *warnings = user;
    if (level != VKL_LOG_WARNING)
        return;
    warnings->count++;
    snprintf(warnings->last, sizeof(warnings->last), "%s", message);
}

static VklContext *listening_context(Warnings *warnings)
{
    VklContextDesc desc = vkl_context_desc();
    desc.log = on_warning;
    desc.log_user = warnings;
    VklContext *context = NULL;
    cr_assert_eq(vkl_context_create(&desc, &context), VKL_OK);
    return context;
}

/* Six training rows 2 4 4 4 5 11: mean 5, variance (9 + 1 + 1 + 1 + 0 + 36) / 6 = 8. */
Test(prep, fits_scales_on_the_training_part)
{
    static const double y[] = {2, 4, 4, 4, 5, 11, 100, -50, 0};
    const double deviation = sqrt(8);
    static const struct {
        VklScale scale;
        bool standard;
        double offset, divisor;
    } cases[] = {{VKL_SCALE_MINMAX, false, 2, 9}, {VKL_SCALE_STANDARD, true, 5, 0}, {VKL_SCALE_NONE, false, 0, 1}};
    VklContext *context = test_context();
    VklTable *table = make_table(context, 9, y, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.test_split = 1.0 / 3;
        desc.scale = cases[i].scale;
        VklPrep *prep = make_prep(context, table, &desc);
        double divisor = cases[i].standard ? deviation : cases[i].divisor;
        for (int part = 0; part < 3; part++) {
            VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
            for (uint64_t w = 0; w < set->windows.count; w++) {
                uint64_t row = set->target_rows[w];
                cr_assert(near(window_of(set, w)[0], (y[row - 1] - cases[i].offset) / divisor, FLOAT_TOLERANCE));
                cr_assert(near(set->windows.targets[w], (y[row] - cases[i].offset) / divisor, FLOAT_TOLERANCE));
            }
            vkl_window_set_destroy(set);
        }
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(prep, keeps_a_constant_column_unscaled_and_says_so)
{
    static const double y[] = {1, 2, 3, 4, 5, 6, 7, 8}, x[] = {7, 7, N, 7, 7, 7, 9, 9};
    static const char *const features[] = {"x", "y"};
    Warnings warnings = {0, ""};
    VklContext *context = listening_context(&warnings);
    VklTable *table = make_table(context, 8, y, x);
    for (VklScale scale = VKL_SCALE_MINMAX; scale <= VKL_SCALE_STANDARD; scale++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = 2;
        desc.test_split = 0.25;
        desc.scale = scale;
        warnings.count = 0;
        VklPrep *prep = make_prep(context, table, &desc);
        cr_assert_eq(warnings.count, 1);
        cr_assert_str_eq(warnings.last, "the table: column 'x' is constant (7) in the training part; it is kept unscaled");
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
        cr_assert_eq(window_of(set, 0)[0], 7);
        cr_assert_eq(window_of(set, 1)[0], 9);
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);

        /* a straight line has constant differences: 1, and 2 for the target two rows ahead */
        desc.difference = 1;
        desc.horizon = 2;
        warnings.count = 0;
        prep = make_prep(context, table, &desc);
        cr_assert_eq(warnings.count, 3);
        cr_assert_eq(prep->target_scale.divisor, 1);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Powers of two with their logarithms; horizon 3 over a difference of 2 has the lag 4. */
Test(prep, takes_logarithm_then_difference)
{
    double y[16];
    for (int r = 0; r < 16; r++)
        y[r] = ldexp(1, r * r % 11);
    VklContext *context = test_context();
    VklTable *table = make_table(context, 16, y, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.test_split = 0.25;
    desc.scale = VKL_SCALE_NONE;
    desc.log = true;
    desc.difference = 2;
    desc.horizon = 3;
    VklPrep *prep = make_prep(context, table, &desc);
    for (int part = 0; part < 3; part++) {
        VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
        for (uint64_t w = 0; w < set->windows.count; w++) {
            int row = (int)set->target_rows[w], end = row - 3;
            double input = log(2) * ((end * end % 11) - ((end - 2) * (end - 2) % 11));
            double target = log(2) * ((row * row % 11) - ((row - 4) * (row - 4) % 11));
            cr_assert(near(window_of(set, w)[0], input, FLOAT_TOLERANCE));
            cr_assert(near(set->windows.targets[w], target, FLOAT_TOLERANCE));
        }
        vkl_window_set_destroy(set);
    }
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* What a set has as targets comes back as what was observed, whatever was done to it. */
Test(prep, restores_what_it_prepared)
{
    enum { ROWS = 80 };
    static const uint64_t differences[] = {0, 1, 3}, horizons[] = {1, 2, 5};
    double y[ROWS], values[ROWS];
    random_series(y, ROWS, 21, 6);
    VklContext *context = test_context();
    VklTable *table = make_table(context, ROWS, y, NULL);
    for (size_t f = 0; f < COUNT(all_fills); f++)
        for (VklScale scale = VKL_SCALE_MINMAX; scale <= VKL_SCALE_NONE; scale++)
            for (size_t k = 0; k < COUNT(differences); k++)
                for (size_t h = 0; h < COUNT(horizons); h++)
                    for (int log = 0; log < 2; log++) {
                        VklPrepDesc desc = vkl_prep_desc("y");
                        desc.window = 3;
                        desc.horizon = horizons[h];
                        desc.fill = all_fills[f];
                        desc.scale = scale;
                        desc.log = log;
                        desc.difference = differences[k];
                        desc.validation_split = 0.2;
                        VklPrep *prep = make_prep(context, table, &desc);
                        if (vkl_prep_target_lag(prep) == desc.difference)
                            cr_assert(prep->target_scale.offset == prep->columns[0].scale.offset &&
                                      prep->target_scale.divisor == prep->columns[0].scale.divisor);
                        for (int part = 0; part < 3; part++) {
                            VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
                            TEST_OK(context, vkl_prep_restore(prep, table, set, set->windows.targets, values));
                            /* values near 2, scaled by about 2, in float32; doubled by the sum with the base */
                            for (uint64_t w = 0; w < set->windows.count; w++)
                                cr_assert(near(values[w], y[set->target_rows[w]], 4 * FLOAT_TOLERANCE), "%g is not %g", values[w],
                                          y[set->target_rows[w]]);
                            VklScore score;
                            TEST_OK(context, vkl_prep_score(prep, table, set, values, &score));
                            cr_assert_eq(score.count, set->windows.count);
                            cr_assert(!score.count || score.rmse < 1e-6);
                            vkl_window_set_destroy(set);
                        }
                        vkl_prep_destroy(prep);
                    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* ---- Scores and baselines ---- */

Test(prep, scores_in_the_tables_units)
{
    static const double y[] = {1, 1, 1, 1, 2, 0, 4, N};
    static const struct {
        double values[3];
        VklScore score;
    } cases[] = {
        {{2, 0, 4}, {3, 0, 0, 0}},
        {{5, 4, 4}, {3, 5 / 1.7320508075688772, 7.0 / 3, 75}}, /* errors 3 4 0; 150 % and 0 % of what is not 0 */
        {{2, N, 4}, {3, N, N, 0}},
    };
    VklContext *context = test_context();
    VklTable *table = make_table(context, 8, y, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.test_split = 0.5;
    VklPrep *prep = make_prep(context, table, &desc);
    VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
    cr_assert_eq(set->windows.count, 3);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklScore score;
        TEST_OK(context, vkl_prep_score(prep, table, set, cases[i].values, &score));
        cr_assert_eq(score.count, 3);
        cr_assert(near(score.rmse, cases[i].score.rmse, 1e-15), "case %zu: rmse %g", i, score.rmse);
        cr_assert(near(score.mae, cases[i].score.mae, 1e-15), "case %zu: mae %g", i, score.mae);
        cr_assert(near(score.mape, cases[i].score.mape, 1e-15), "case %zu: mape %g", i, score.mape);
    }
    VklScore score;
    const uint64_t zero_row = 5;
    VklWindowSet zero = {.windows = {.count = 1}, .target_rows = &zero_row}, none = {.windows = {.count = 0}};
    TEST_OK(context, vkl_prep_score(prep, table, &zero, cases[0].values, &score));
    cr_assert(score.rmse == 2 && isnan(score.mape));
    TEST_OK(context, vkl_prep_score(prep, table, &none, NULL, &score));
    cr_assert(score.count == 0 && isnan(score.rmse) && isnan(score.mae) && isnan(score.mape));
    const uint64_t gap_row = 7, far_row = 8;
    VklWindowSet gap = {.windows = {.count = 1}, .target_rows = &gap_row},
                 far = {.windows = {.count = 1}, .target_rows = &far_row};
    cr_assert_eq(vkl_prep_score(prep, table, &gap, cases[0].values, &score), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_prep_score(prep, table, &far, cases[0].values, &score), VKL_ERROR_INVALID);
    cr_assert_str_eq(vkl_prep_error(prep), "vkl_prep_score: the set has target row 8; the table has 8 rows");
    vkl_window_set_destroy(set);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* row        0  1  2  3  4  5  6  7  8  9
 * y          1  2  4  -  3  5  8 10  -  9    test part from row 6: targets 6 7 9 */
Test(prep, baselines_use_the_last_observed_value_for_a_gap)
{
    static const double y[] = {1, 2, 4, N, 3, 5, 8, 10, N, 9};
    static const struct {
        uint64_t horizon, season;
        double errors[3][3]; /* of rows 6 7 9: persistence, seasonal naive, with drift */
    } cases[] = {
        /* y[r-1] = 5 8 10; y[r-3] = 4 (of row 2) 3 8; over rows 4 and 5 the mean of y[i] - y[i-3] is 1 */
        {1, 3, {{-3, -2, 1}, {-4, -7, -1}, {-3, -6, 0}}},
        /* y[r-4] = 4 4 (of row 2) 5; S = 6: y[r-6] = 1 2 4 (of row 2); no row before row 6 has one six rows earlier */
        {4, 3, {{-4, -6, -4}, {-7, -8, -5}, {N, N, N}}},
        {1, 0, {{-3, -2, 1}, {N, N, N}, {N, N, N}}},
    };
    VklContext *context = test_context();
    VklTable *table = make_table(context, 10, y, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.test_split = 0.4;
        desc.horizon = cases[i].horizon;
        VklPrep *prep = make_prep(context, table, &desc);
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
        cr_assert_eq(set->windows.count, 3);
        VklBaselines got;
        TEST_OK(context, vkl_prep_baselines(prep, table, set, cases[i].season, &got));
        double want[3];
        for (int b = 0; b < 3; b++) {
            const double *e = cases[i].errors[b];
            want[b] = sqrt((e[0] * e[0] + e[1] * e[1] + e[2] * e[2]) / 3);
        }
        cr_assert(near(got.persistence_rmse, want[0], 1e-14), "case %zu: %g, not %g", i, got.persistence_rmse, want[0]);
        cr_assert(near(got.seasonal_naive_rmse, want[1], 1e-14), "case %zu: %g, not %g", i, got.seasonal_naive_rmse, want[1]);
        cr_assert(near(got.seasonal_naive_drift_rmse, want[2], 1e-14), "case %zu: %g, not %g", i, got.seasonal_naive_drift_rmse,
                  want[2]);
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Where a target has no value so many rows before it, there is no such baseline for this set. */
Test(prep, baselines_without_a_value_are_nan)
{
    static const double y[] = {1, 2, 4, 3, 5, 8};
    VklContext *context = test_context();
    VklTable *table = make_table(context, 6, y, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.test_split = 1.0 / 3;
    VklPrep *prep = make_prep(context, table, &desc);
    VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
    static const struct {
        uint64_t season;
        bool naive, drift;
    } cases[] = {{3, true, true},   {4, true, false},     {5, false, false},
                 {6, false, false}, {1000, false, false}, {UINT64_MAX, false, false}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklBaselines got;
        TEST_OK(context, vkl_prep_baselines(prep, table, set, cases[i].season, &got));
        cr_assert(isfinite(got.persistence_rmse));
        cr_assert_eq(isfinite(got.seasonal_naive_rmse) != 0, cases[i].naive, "season %lu", (unsigned long)cases[i].season);
        cr_assert_eq(isfinite(got.seasonal_naive_drift_rmse) != 0, cases[i].drift, "season %lu", (unsigned long)cases[i].season);
    }
    vkl_window_set_destroy(set);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Figures that are known from elsewhere, to the digits given. */
Test(prep, baselines_of_real_series)
{
    static const struct {
        const char *path, *target;
        uint64_t window, horizon, difference, season, targets;
        double split, persistence, naive, drift;
    } cases[] = {
        {DATA "airpassengers.csv", "passengers", 1, 1, 0, 12, 48, 1.0 / 3, 48.04, 41.85, 21.24},
        {DATA "airpassengers.csv", "passengers", 13, 1, 12, 12, 48, 1.0 / 3, 48.04, 41.85, 21.24},
        {DATA "co2_mauna_loa_weekly.csv", "co2_ppm", 52, 1, 0, 0, 457, 0.2, 0.513, N, N},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklTable *table = NULL;
        TEST_OK(context, vkl_table_read_csv(context, cases[i].path, &table));
        VklPrepDesc desc = vkl_prep_desc(cases[i].target);
        desc.window = cases[i].window;
        desc.horizon = cases[i].horizon;
        desc.difference = cases[i].difference;
        desc.test_split = cases[i].split;
        VklPrep *prep = make_prep(context, table, &desc);
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
        cr_assert_eq(set->windows.count, cases[i].targets);
        VklBaselines got;
        TEST_OK(context, vkl_prep_baselines(prep, table, set, cases[i].season, &got));
        double unit = i == 2 ? 0.0005 : 0.005; /* half of the last digit given */
        cr_assert(fabs(got.persistence_rmse - cases[i].persistence) <= unit, "%s: %g", cases[i].path, got.persistence_rmse);
        if (cases[i].season) {
            cr_assert(fabs(got.seasonal_naive_rmse - cases[i].naive) <= unit, "%s: %g", cases[i].path, got.seasonal_naive_rmse);
            cr_assert(fabs(got.seasonal_naive_drift_rmse - cases[i].drift) <= unit, "%s: %g", cases[i].path,
                      got.seasonal_naive_drift_rmse);
        }
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);
        vkl_table_destroy(table);
    }
    vkl_context_destroy(context);
}

/* Gaps in all parts of a series of real length, each fill: windows that see the same share rows. */
Test(prep, fills_a_real_series_with_every_method)
{
    VklContext *context = test_context();
    VklTable *table = NULL;
    TEST_OK(context, vkl_table_read_csv(context, DATA "beijing_pm25_2013_2014.csv", &table));
    static const char *const features[] = {"pm25", "temp", "wind_speed"};
    const double *pm25 = vkl_table_column(table, (uint32_t)vkl_table_find(table, "pm25"));
    uint64_t observed = 0;
    for (uint64_t r = 14016; r < 17520; r++)
        observed += !isnan(pm25[r]);
    cr_assert_lt(observed, 3504, "the last fifth has gaps");
    for (size_t f = 0; f < COUNT(all_fills); f++) {
        VklPrepDesc desc = vkl_prep_desc("pm25");
        desc.features = features;
        desc.feature_count = 3;
        desc.window = 24;
        desc.horizon = 6;
        desc.validation_split = 0.2;
        desc.fill = all_fills[f];
        VklPrep *prep = make_prep(context, table, &desc);
        for (int part = 0; part < 3; part++) {
            VklWindowSet *set = make_windows(context, prep, table, (VklPart)part);
            if (part == VKL_PART_TEST)
                cr_assert(desc.fill == VKL_FILL_DROP ? set->windows.count < observed : set->windows.count == observed);
            cr_assert_lt(set->windows.rows, 3 * set->windows.count);
            for (uint64_t i = 0; i < set->windows.count; i++)
                for (uint64_t v = 0; v < 24 * 3; v++)
                    cr_assert(isfinite(window_of(set, i)[v]));
            vkl_window_set_destroy(set);
        }
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* ---- Refusals ---- */

static const double rising[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

Test(prep, refuses_a_description_that_makes_no_sense)
{
    static const char *const twice[] = {"x", "x"}, *const none[] = {"x", "z"}, *const missing[] = {"x", NULL};
    VklPrepDesc good = vkl_prep_desc("y");
    struct {
        const char *sentence; /* NULL: has a number of the machine's */
        VklPrepDesc desc;
        VklStatus status;
    } cases[32];
    size_t count = 0;
#define CASE(expected, text, change)                            \
    do {                                                        \
        VklPrepDesc desc = good;                                \
        change;                                                 \
        cases[count].sentence = text, cases[count].desc = desc; \
        cases[count++].status = expected;                       \
    } while (0)
    CASE(VKL_ERROR_INVALID, NULL, desc.struct_size = 3);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: target is missing; it must name a column", desc.target = NULL);
    CASE(VKL_ERROR_INVALID, "the table has no column 'z'; it has: y, x", desc.target = "z");
    CASE(VKL_ERROR_INVALID, "the table has no column 'z'; it has: y, x", (desc.features = none, desc.feature_count = 2));
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: feature 'x' is given twice", (desc.features = twice, desc.feature_count = 2));
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: feature 1 is missing; it must name a column",
         (desc.features = missing, desc.feature_count = 2));
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: features is NULL and feature_count is 1", desc.feature_count = 1);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: features is given and feature_count is 0", desc.features = none);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: window is 0; it must be at least 1", desc.window = 0);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: horizon is 0; it must be at least 1", desc.horizon = 0);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: fill is 8, which is none of VklFill", desc.fill = (VklFill)8);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: fill_window is 4; it must be odd and at least 3",
         (desc.fill = VKL_FILL_MOVING_AVERAGE, desc.fill_window = 4));
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: scale is 3, which is none of VklScale", desc.scale = (VklScale)3);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: test_split is 1; it must be at least 0 and below 1", desc.test_split = 1);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: test_split is nan; it must be at least 0 and below 1", desc.test_split = NAN);
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: validation_split is -0.1; it must be at least 0 and below 1",
         desc.validation_split = -0.1);
    CASE(VKL_ERROR_INVALID, "the table: the table has 20 rows; a window of 20 and a horizon of 1 need at least 21",
         desc.window = 20);
    CASE(VKL_ERROR_INVALID, "the table: the table has 20 rows; a window of 1 and a horizon of 30 need at least 31",
         desc.horizon = 30);
    CASE(VKL_ERROR_INVALID,
         "the table: the table has 20 rows; a window of 1, a difference of 19 and a horizon of 1 need at least 21",
         desc.difference = 19);
    CASE(
        VKL_ERROR_INVALID,
        "the table: the table has 20 rows; a window of 9223372036854775807, a difference of 9223372036854775807 and a horizon of "
        "9223372036854775807 need at least 9223372036854775807",
        (desc.window = INT64_MAX, desc.horizon = INT64_MAX, desc.difference = INT64_MAX));
    CASE(VKL_ERROR_INVALID, "vkl_prep_create: window is 9223372036854775808; it must be below 2^63",
         desc.window = (uint64_t)INT64_MAX + 1);
    CASE(VKL_ERROR_INVALID, "the table: the training part has 16 rows; a window of 16 and a horizon of 1 need at least 17",
         desc.window = 16);
    CASE(VKL_ERROR_INVALID, "the table: the training part has 0 rows; a window of 1 and a horizon of 1 need at least 2",
         desc.test_split = 0.99);
#undef CASE
    VklContext *context = test_context();
    VklTable *table = make_table(context, 20, rising, rising);
    for (size_t i = 0; i < count; i++) {
        VklPrep *prep = NULL;
        VklStatus status = vkl_prep_create(context, table, &cases[i].desc, &prep);
        cr_assert_eq(status, cases[i].status, "case %zu: status %d", i, (int)status);
        if (cases[i].sentence)
            cr_assert_str_eq(vkl_context_error(context), cases[i].sentence);
        cr_assert_null(prep);
    }
    cr_assert_eq(vkl_prep_create(context, NULL, &good, &(VklPrep *){NULL}), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_prep_create(context, table, NULL, &(VklPrep *){NULL}), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_prep_create(context, table, &good, NULL), VKL_ERROR_INVALID);
    vkl_prep_destroy(NULL);
    vkl_window_set_destroy(NULL);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* Columns y and x of twenty rows, of which one or two are changed. */
Test(prep, refuses_columns_that_cannot_be_used)
{
    static const struct {
        bool in_x;
        uint64_t from, to;
        double value;
        VklFill fill;
        bool log;
        uint64_t difference;
        VklScale scale;
        VklStatus status;
        const char *sentence;
    } cases[] = {
        {true, 3, 3, INFINITY, VKL_FILL_FORWARD, false, 0, 0, VKL_ERROR_FORMAT,
         "row 3: column 'x' has an infinity; values must be finite"},
        {false, 19, 19, -INFINITY, VKL_FILL_FORWARD, false, 0, 0, VKL_ERROR_FORMAT,
         "row 19: column 'y' has an infinity; values must be finite"},
        {true, 0, 15, N, VKL_FILL_FORWARD, false, 0, 0, VKL_ERROR_FORMAT,
         "the table: column 'x' has nothing but gaps in the training part, which are its first 16 rows"},
        {false, 0, 19, N, VKL_FILL_FORWARD, false, 0, 0, VKL_ERROR_FORMAT, "the table: column 'y' has nothing but gaps"},
        {false, 7, 7, 0, VKL_FILL_FORWARD, true, 0, 0, VKL_ERROR_FORMAT,
         "row 7: column 'y' has the value 0; a logarithm needs values above 0"},
        {false, 18, 18, -2.5, VKL_FILL_FORWARD, true, 0, 0, VKL_ERROR_FORMAT,
         "row 18: column 'y' has the value -2.5; a logarithm needs values above 0"},
        {true, 7, 7, 0, VKL_FILL_FORWARD, true, 0, 0, VKL_OK, NULL}, /* the logarithm is of the target alone */
        {false, 1, 15, N, VKL_FILL_FORWARD, false, 0, 0, VKL_ERROR_INVALID,
         "the table: gaps leave no window of 1 rows with an observed target 'y' in the training part, which are its first 16 "
         "rows"},
        {true, 1, 14, N, VKL_FILL_DROP, false, 0, 0, VKL_OK, NULL}, /* row 0 is a window */
        {true, 0, 14, N, VKL_FILL_DROP, false, 0, 0, VKL_ERROR_INVALID,
         "the table: gaps leave no window of 1 rows with an observed target 'y' in the training part, which are its first 16 "
         "rows"},
        {true, 3, 3, 1e308, VKL_FILL_FORWARD, false, 0, VKL_SCALE_STANDARD, VKL_ERROR_FORMAT,
         "the table: column 'x' goes from 1 to 1e+308 in the training part, too far to be scaled"},
    };
    static const char *const features[] = {"x", "y"};
    VklContext *context = test_context();
    for (size_t i = 0; i < COUNT(cases); i++) {
        double y[20], x[20];
        memcpy(y, rising, sizeof(y));
        memcpy(x, rising, sizeof(x));
        for (uint64_t r = cases[i].from; r <= cases[i].to; r++)
            (cases[i].in_x ? x : y)[r] = cases[i].value;
        VklTable *table = make_table(context, 20, y, x);
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = 2;
        desc.fill = cases[i].fill;
        desc.log = cases[i].log;
        desc.difference = cases[i].difference;
        desc.scale = cases[i].scale;
        VklPrep *prep = NULL;
        VklStatus status = vkl_prep_create(context, table, &desc, &prep);
        cr_assert_eq(status, cases[i].status, "case %zu: status %d: %s", i, (int)status, vkl_context_error(context));
        if (status != VKL_OK)
            cr_assert_str_eq(vkl_context_error(context), cases[i].sentence);
        cr_assert_eq(prep != NULL, status == VKL_OK);
        vkl_prep_destroy(prep);
        vkl_table_destroy(table);
    }
    vkl_context_destroy(context);
}

/* The table of an evaluation may be another: it is checked as the first was. */
Test(prep, refuses_another_table_that_does_not_fit)
{
    VklContext *context = test_context();
    VklTable *table = make_table(context, 20, rising, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.window = 5;
    desc.log = true;
    VklPrep *prep = make_prep(context, table, &desc);
    static const double gaps[] = {N, N, N, N, N, N, N, N}, zero[] = {1, 2, 0, 4, 5, 6, 7, 8};
    static const char *const other[] = {"z"};
    VklTable *tables[4] = {make_table(context, 5, rising, NULL), make_table(context, 8, gaps, NULL),
                           make_table(context, 8, zero, NULL), NULL};
    TEST_OK(context, vkl_table_create(context, 8, 1, other, rising, NULL, &tables[3]));
    static const struct {
        VklStatus status;
        const char *sentence;
    } cases[] = {
        {VKL_ERROR_INVALID, "the table: the table has 5 rows; a window of 5 and a horizon of 1 need at least 6"},
        {VKL_ERROR_FORMAT, "the table: column 'y' has nothing but gaps"},
        {VKL_ERROR_FORMAT, "row 2: column 'y' has the value 0; a logarithm needs values above 0"},
        {VKL_ERROR_INVALID, "the table has no column 'y'; it has: z"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklWindowSet *set = NULL;
        cr_assert_eq(vkl_prep_windows(prep, tables[i], VKL_PART_TEST, &set), cases[i].status, "case %zu", i);
        cr_assert_str_eq(vkl_prep_error(prep), cases[i].sentence);
        cr_assert_str_eq(vkl_context_error(context), cases[i].sentence);
        cr_assert_null(set);
        vkl_table_destroy(tables[i]);
    }
    VklWindowSet *set = NULL;
    cr_assert_eq(vkl_prep_windows(prep, table, (VklPart)3, &set), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_prep_windows(prep, NULL, VKL_PART_TEST, &set), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_prep_windows(prep, table, VKL_PART_TEST, NULL), VKL_ERROR_INVALID);
    /* a shorter table with enough rows for a window gives those there are */
    VklTable *shorter = make_table(context, 6, rising, NULL);
    for (int part = 0; part < 3; part++) {
        set = make_windows(context, prep, shorter, (VklPart)part);
        cr_assert_eq(set->windows.count, part == VKL_PART_TEST);
        cr_assert_not_null(set->windows.series);
        vkl_window_set_destroy(set);
    }
    vkl_table_destroy(shorter);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

Test(prep, refuses_numbers_beyond_float32)
{
    double y[20];
    memcpy(y, rising, sizeof(y));
    y[18] = 1e39;
    VklContext *context = test_context();
    VklTable *table = make_table(context, 20, y, NULL);
    VklPrepDesc desc = vkl_prep_desc("y");
    desc.scale = VKL_SCALE_NONE;
    VklPrep *prep = make_prep(context, table, &desc);
    VklWindowSet *set = NULL;
    cr_assert_eq(vkl_prep_windows(prep, table, VKL_PART_TEST, &set), VKL_ERROR_FORMAT);
    cr_assert_str_eq(vkl_prep_error(prep), "row 18: column 'y' becomes 1e+39, which is beyond float32; scale it");
    cr_assert_null(set);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_context_destroy(context);
}

/* ---- Forecasts ---- */

/* A model whose prediction is always `output`: the dense layer has no weights but its bias. */
static VklModel *constant_model(VklDevice *device, uint64_t features, float output)
{
    VklLayerDesc layers[] = {vkl_layer_lstm(3), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklModel *model = NULL;
    TEST_OK(vkl_device_context(device), vkl_model_create(device, features, layers, 2, 1, &model));
    static const float zeros[3] = {0};
    uint32_t count = vkl_model_tensor_count(model);
    cr_assert_eq(vkl_model_set_tensor(model, count - 2, zeros), VKL_OK);
    cr_assert_eq(vkl_model_set_tensor(model, count - 1, &output), VKL_OK);
    return model;
}

Test(prep, forecasts_by_feeding_predictions_back)
{
    /* the differences of the powers of two are logarithms of ratios */
    static const double powers[] = {1, 2, 1, 4, 2, 8, 4, 16, 8, 32};
    static const struct {
        uint64_t difference, horizon;
        bool log;
        double values[5];
    } cases[] = {
        {0, 1, false, {0.5, 0.5, 0.5, 0.5, 0.5}},
        {1, 1, false, {32.5, 33, 33.5, 34, 34.5}},
        {2, 1, false, {8.5, 32.5, 9, 33, 9.5}},
        {1,
         1,
         true,
         {32 * 1.6487212707001282, 32 * 2.718281828459045, 32 * 4.4816890703380645, 32 * 7.38905609893065,
          32 * 12.182493960703473}},
        /* two rows ahead over a lag of two: rows 10 (on row 8) and 11 (on row 9); values[0] is for row 11 */
        {1, 2, false, {32.5, 9, 33, 9.5, 33.5}},
        {2, 2, false, {32.5, 9, 33, 9.5, 33.5}},
        /* three rows ahead: a lag of four over a difference of two; values[0], for row 12, stands on row 8 */
        {2, 3, false, {8.5, 32.5, 4.5 + 0.5, 16.5 + 0.5, 8.5 + 0.5}},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklModel *model = constant_model(device, 1, 0.5f);
    VklTable *table = make_table(context, 10, powers, NULL);
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.test_split = 0;
        desc.scale = VKL_SCALE_NONE;
        desc.window = 2;
        desc.difference = cases[i].difference;
        desc.horizon = cases[i].horizon;
        desc.log = cases[i].log;
        VklPrep *prep = make_prep(context, table, &desc);
        double values[5];
        for (uint64_t steps = 1; steps <= 5; steps++) {
            TEST_OK(context, vkl_prep_forecast(prep, table, model, steps, values));
            for (uint64_t s = 0; s < steps; s++)
                cr_assert(near(values[s], cases[i].values[s], 1e-12), "case %zu, step %lu: %.17g, not %.17g", i, (unsigned long)s,
                          values[s], cases[i].values[s]);
        }
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* A forecast of several steps is one of one step, again and again, on a table that has the earlier predictions as rows. */
Test(prep, several_steps_are_single_steps_on_a_longer_table)
{
    enum { ROWS = 40, STEPS = 7, MOST = 3 };
    static const uint64_t differences[] = {0, 1, 2}, horizons[] = {1, 2, MOST};
    double y[ROWS + STEPS + MOST];
    random_series(y, ROWS, 31, 0);
    y[20] = NAN;
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklLayerDesc layers[] = {vkl_layer_lstm(4), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklModel *model = NULL;
    TEST_OK(context, vkl_model_create(device, 1, layers, 2, 5, &model));
    VklTable *table = make_table(context, ROWS, y, NULL);
    for (size_t k = 0; k < COUNT(differences); k++) {
        for (size_t h = 0; h < COUNT(horizons); h++) {
            VklPrepDesc desc = vkl_prep_desc("y");
            desc.window = 6;
            desc.difference = differences[k];
            desc.horizon = horizons[h];
            desc.log = true;
            desc.scale = VKL_SCALE_STANDARD;
            VklPrep *prep = make_prep(context, table, &desc);
            double values[STEPS];
            TEST_OK(context, vkl_prep_forecast(prep, table, model, STEPS, values));
            /* row n + h - 1 is predicted from the first n rows */
            for (uint64_t n = ROWS - horizons[h] + 1; n < ROWS + STEPS; n++) {
                VklTable *longer = make_table(context, n, y, NULL);
                double value;
                TEST_OK(context, vkl_prep_forecast(prep, longer, model, 1, &value));
                uint64_t row = n + horizons[h] - 1;
                y[row] = value;
                /* the same arithmetic but for exp() and log() of the predictions */
                if (n >= ROWS)
                    cr_assert(near(values[n - ROWS], value, 1e-6), "difference %lu, horizon %lu, step %lu: %.9g, not %.9g",
                              (unsigned long)differences[k], (unsigned long)horizons[h], (unsigned long)(n - ROWS),
                              values[n - ROWS], value);
                vkl_table_destroy(longer);
            }
            vkl_prep_destroy(prep);
        }
    }
    vkl_table_destroy(table);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* A one-step forecast from the first n rows is the prediction for row n of the test part. */
Test(prep, forecasts_what_evaluation_predicts)
{
    enum { ROWS = 40 };
    static const char *const features[] = {"x", "y"};
    double y[ROWS], x[ROWS];
    random_series(y, ROWS, 41, 5);
    random_series(x, ROWS, 42, 4);
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklLayerDesc layers[] = {vkl_layer_lstm(4), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklModel *model = NULL;
    TEST_OK(context, vkl_model_create(device, 2, layers, 2, 5, &model));
    VklTable *table = make_table(context, ROWS, y, x);
    for (size_t f = 0; f < COUNT(all_fills); f++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.features = features;
        desc.feature_count = 2;
        desc.window = desc.difference = 2;
        desc.horizon = 3;
        desc.fill = all_fills[f];
        desc.test_split = 0.4;
        if (desc.fill == VKL_FILL_DROP)
            desc.window = desc.difference = 1;
        VklPrep *prep = make_prep(context, table, &desc);
        VklWindowSet *set = make_windows(context, prep, table, VKL_PART_TEST);
        float predictions[ROWS];
        double values[ROWS];
        if (set->windows.count)
            TEST_OK(context, vkl_model_predict(model, &set->windows, predictions));
        TEST_OK(context, vkl_prep_restore(prep, table, set, predictions, values));
        for (uint64_t i = 0; i < set->windows.count; i++) {
            VklTable *shorter = make_table(context, set->target_rows[i] - 2, y, x);
            double value;
            TEST_OK(context, vkl_prep_forecast(prep, shorter, model, 1, &value));
            /* the batch has another size, its sums another order */
            cr_assert(near(value, values[i], 1e-5), "fill %d, row %lu: %.9g, not %.9g", (int)desc.fill,
                      (unsigned long)set->target_rows[i], value, values[i]);
            vkl_table_destroy(shorter);
        }
        vkl_window_set_destroy(set);
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(table);
    vkl_model_destroy(model);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

Test(prep, refuses_forecasts_that_cannot_be_made)
{
    double y[20], gap[20];
    memcpy(y, rising, sizeof(y));
    memcpy(gap, rising, sizeof(gap));
    gap[18] = NAN;
    static const char *const features[] = {"y", "x"}, *const x_alone[] = {"x"};
    VklContext *context = test_context();
    VklDevice *device = test_device_cpu(context);
    VklModel *one = constant_model(device, 1, 0), *two = constant_model(device, 2, 0);
    VklTable *table = make_table(context, 20, y, rising), *gaps = make_table(context, 20, gap, rising);
    VklTable *four = make_table(context, 4, y, rising), *six = make_table(context, 6, y, rising);
    const struct {
        const char *const *features;
        uint32_t feature_count;
        uint64_t horizon;
        VklFill fill;
        const VklTable *table;
        VklModel *model;
        uint64_t steps;
        VklStatus status;
        const char *sentence;
    } cases[] = {
        {NULL, 0, 1, VKL_FILL_FORWARD, table, one, 0, VKL_ERROR_INVALID, "vkl_prep_forecast: steps is 0; it must be at least 1"},
        {features, 2, 1, VKL_FILL_FORWARD, table, two, 1, VKL_OK, NULL},
        {features, 2, 1, VKL_FILL_FORWARD, table, two, 2, VKL_ERROR_INVALID,
         "vkl_prep_forecast: steps is 2; it must be 1 where a feature is not the target, as 'x': its later values are not known"},
        {x_alone, 1, 1, VKL_FILL_FORWARD, table, one, 3, VKL_ERROR_INVALID,
         "vkl_prep_forecast: steps is 3; it must be 1 where a feature is not the target, as 'x': its later values are not known"},
        {NULL, 0, 1, VKL_FILL_FORWARD, table, two, 1, VKL_ERROR_INVALID,
         "vkl_prep_forecast: the model has 2 features and 1 outputs; the preparation has 1 features and 1 target"},
        {NULL, 0, 1, VKL_FILL_FORWARD, four, one, 1, VKL_ERROR_INVALID,
         "the table: the table has 4 rows; a window of 5 and a horizon of 1 need at least 5"},
        /* one step needs a window; several, two rows ahead, also the window one row before */
        {NULL, 0, 2, VKL_FILL_FORWARD, six, one, 5, VKL_OK, NULL},
        {NULL, 0, 3, VKL_FILL_FORWARD, six, one, 1, VKL_OK, NULL},
        {NULL, 0, 3, VKL_FILL_FORWARD, six, one, 2, VKL_ERROR_INVALID,
         "the table: the table has 6 rows; a window of 5 and a horizon of 3 need at least 7"},
        {NULL, 0, 1, VKL_FILL_FORWARD, gaps, one, 3, VKL_OK, NULL},
        {NULL, 0, 1, VKL_FILL_DROP, gaps, one, 1, VKL_ERROR_INVALID,
         "row 18: what the window of 5 rows before the forecast needs has a gap here, and the fill is 'drop'"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        VklPrepDesc desc = vkl_prep_desc("y");
        desc.window = 5;
        desc.features = cases[i].features;
        desc.feature_count = cases[i].feature_count;
        desc.horizon = cases[i].horizon;
        desc.fill = cases[i].fill;
        VklPrep *prep = make_prep(context, table, &desc);
        double values[5] = {-1, -1, -1, -1, -1};
        VklStatus status = vkl_prep_forecast(prep, cases[i].table, cases[i].model, cases[i].steps, values);
        cr_assert_eq(status, cases[i].status, "case %zu: status %d: %s", i, (int)status, vkl_prep_error(prep));
        if (status != VKL_OK) {
            cr_assert_str_eq(vkl_prep_error(prep), cases[i].sentence);
            cr_assert_eq(values[0], -1);
        }
        vkl_prep_destroy(prep);
    }
    vkl_table_destroy(six);
    vkl_table_destroy(four);
    vkl_table_destroy(gaps);
    vkl_table_destroy(table);
    vkl_model_destroy(two);
    vkl_model_destroy(one);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

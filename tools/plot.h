/* SPDX-License-Identifier: MIT
 *
 * Pictures of a series and of what a model makes of it, drawn by gnuplot as SVG or PNG.
 */
#ifndef VKLSTM_TOOLS_PLOT_H
#define VKLSTM_TOOLS_PLOT_H

#include "output.h"
#include "timeline.h"

typedef enum PlotColor { PLOT_OBSERVED, PLOT_TRAIN, PLOT_VALIDATION, PLOT_FORECAST } PlotColor;

typedef struct PlotSeries {
    const char *name;
    PlotColor color;
    uint64_t count;
    const uint64_t *rows; /* [count], ascending; NULL: `first`, `first` + 1 ... */
    uint64_t first;
    const double *values; /* [count]; NaN: a gap */
} PlotSeries;

/* A dashed line before a row, with a word beside it. */
typedef struct PlotMark {
    uint64_t row;
    const char *text;
} PlotMark;

#define PLOT_SERIES_MAX 4
#define PLOT_MARKS_MAX 2

typedef struct Plot {
    const Timeline *timeline;
    const char *title, *y_label, *x_label;
    PlotSeries series[PLOT_SERIES_MAX];
    size_t series_count;
    PlotMark marks[PLOT_MARKS_MAX];
    size_t mark_count;
} Plot;

/* Says whether a plot can be made: the name ends in .svg or .png, gnuplot is there. Prints and returns an exit status. */
int plot_check(const char *path);

/* Draws into `path`, which is put in place when it is whole. Prints and returns an exit status. */
int plot_write(const Plot *plot, const char *path);

void plot_add(Plot *plot, PlotSeries series);
void plot_mark(Plot *plot, uint64_t row, const char *text);

/* Three significant digits, as a title wants them: "17.1", "48.0", "1234". */
void plot_number(double value, char *text, size_t size);

#endif

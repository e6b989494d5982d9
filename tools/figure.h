/* SPDX-License-Identifier: MIT
 *
 * The two pictures that the command draws: of a training, and of a forecast.
 */
#ifndef VKLSTM_TOOLS_FIGURE_H
#define VKLSTM_TOOLS_FIGURE_H

#include "timeline.h"
#include "training.h"

/* The series, what the model makes of each part, where the parts begin, and the error in the title.
 * Prints and returns an exit status, as does the next. */
int figure_training(const Training *training, const char *path);

/* The end of the series, and the forecast of `steps` values, the first for the row `first`. */
int figure_forecast(const VklTable *table, const Timeline *timeline, const char *target, uint64_t first, uint64_t steps,
                    const double *values, const char *path);

#endif

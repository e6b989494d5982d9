/* SPDX-License-Identifier: MIT
 *
 * Marks for an axis of dates, at the beginnings of hours, days, months or years.
 */
#ifndef VKLSTM_TOOLS_TICKS_H
#define VKLSTM_TOOLS_TICKS_H

#include <stdio.h>

/* Prints a list for gnuplot, ("1949" -662688000, "1950" ...), of about `most` marks from `begin` to `end`, in seconds since
 * 1970. */
void ticks_print(FILE *file, double begin, double end, int most);

#endif

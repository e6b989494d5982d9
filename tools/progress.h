/* SPDX-License-Identifier: MIT
 *
 * How far a job is: a bar with loss, rate and time left where standard error is a terminal, now and then a line elsewhere.
 */
#ifndef VKLSTM_TOOLS_PROGRESS_H
#define VKLSTM_TOOLS_PROGRESS_H

#include "vklstm/vklstm.h"

typedef struct Progress {
    bool quiet;
    bool terminal;
    bool drawn;          /* a bar stands on the terminal's line */
    double drawn_at;     /* seconds of the fit */
    uint64_t line_at;    /* the epoch of the next line */
    double line_seconds; /* when the last line was written */
    bool known;          /* an epoch has ended, and so: */
    double loss, validation_loss;
    VklProgress now;
    double begun; /* seconds of the clock */
    const char *part;
} Progress;

void progress_begin(Progress *progress, bool quiet);
void progress_step(Progress *progress, const VklProgress *now);
void progress_epoch(Progress *progress, const VklEpoch *epoch, uint64_t epochs);
/* For a job of other kinds than training: `done` of `all` pieces are done, the next one is of the part `part` (a line for each part where
 * there is no terminal) and is called `name`. */
void progress_piece(Progress *progress, const char *part, const char *name, uint64_t done, uint64_t all);
/* Leaves the bar as it is and goes to a new line. */
void progress_end(Progress *progress);

/* "0.8 s", "2:05 min", "1:02:05 h". */
#define DURATION_SIZE 32
void duration_text(double seconds, char text[DURATION_SIZE]);

#endif

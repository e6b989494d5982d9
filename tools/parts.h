/* SPDX-License-Identifier: MIT
 *
 * A model's predictions for each part of a table, in the table's units, and their errors.
 */
#ifndef VKLSTM_TOOLS_PARTS_H
#define VKLSTM_TOOLS_PARTS_H

#include "vklstm/vklstm.h"

typedef struct Part {
    VklWindowSet *set; /* NULL: the part has no windows, and nothing below means anything */
    double *values;    /* [set->windows.count] */
    VklScore score;
} Part;

typedef struct Parts {
    Part part[3];           /* by VklPart */
    uint64_t season;        /* 0: none */
    VklBaselines baselines; /* on the test part, if there is one */
} Parts;

/* Predicts and scores one part; leaves `part` empty where there are no windows. */
VklStatus part_predict(VklPrep *prep, const VklTable *table, VklModel *model, VklPart which, Part *part);
/* All three, and the baselines. */
VklStatus parts_predict(VklPrep *prep, const VklTable *table, VklModel *model, uint64_t season, Parts *parts);
/* A warning for each part whose predictions are not all finite; whether there was one. */
bool parts_warn(const Parts *parts);
/* A note for the validation and the test part if it has rows, but no target that can be scored. */
void parts_note_unscored(const Parts *parts, const VklPrep *prep, const VklTable *table);
void part_clear(Part *part);
void parts_clear(Parts *parts);

#endif

/* SPDX-License-Identifier: MIT
 *
 * A table of problems in which, for each family of cells (LSTM, GRU, RNN), every two values of two options that may stand together do so
 * in some row. Faults need two options more often than three, and all combinations are billions (Cohen et al. 1997).
 */
#ifndef VKL_TOOLS_COVERING_H
#define VKL_TOOLS_COVERING_H

#include "problem.h"

/* name, number of values. What they mean is in covering_problem(). */
#define COVERING_LIST(X)                 \
    X(CELL, "cell", 4)                   \
    X(LAYERS, "layers", 3)               \
    X(DIRECTION, "direction", 3)         \
    X(MERGE, "sum", 2)                   \
    X(BIAS, "bias", 3)                   \
    X(PROJECTION, "projection", 2)       \
    X(PEEPHOLE, "peephole", 2)           \
    X(COUPLED, "input_forget", 2)        \
    X(BEFORE, "reset_before", 2)         \
    X(SKIP, "skip_input", 2)             \
    X(CELL_CLIP, "cell_clip", 2)         \
    X(PREACT_CLIP, "preact_clip", 2)     \
    X(ACTIVATIONS, "activations", 11)    \
    X(TWIN, "other_reverse", 2)          \
    X(INPUT_DROPOUT, "input_dropout", 3) \
    X(DROPOUT, "dropout", 3)             \
    X(RECURRENT, "recurrent_dropout", 4) \
    X(PADDING, "padding", 2)             \
    X(BATCH_FIRST, "batch_first", 2)     \
    X(LAST_ONLY, "last_only", 2)         \
    X(RECOMPUTE, "recompute", 2)         \
    X(LENGTHS, "lengths", 3)             \
    X(STATES, "absent_states", 4)        \
    X(UPSTREAM, "upstream", 4)           \
    X(ACCUMULATE, "accumulate", 2)       \
    X(ONE_STEP, "one_step", 2)           \
    X(ONE_ROW, "one_row", 2)

typedef enum CoveringFactor {
#define X(factor, name, values) COVERING_##factor,
    COVERING_LIST(X)
#undef X
        COVERING_FACTORS
} CoveringFactor;
extern const char *const covering_name[COVERING_FACTORS];
extern const uint8_t covering_values[COVERING_FACTORS];

typedef struct CoveringRow {
    uint8_t value[COVERING_FACTORS];
} CoveringRow;

/* Whether the cell has the options, and whether they mean something together. */
bool covering_legal(const CoveringRow *row);
/* Whether two values can stand together in a row of this cell. */
bool covering_possible(uint8_t cell, CoveringFactor a, uint8_t value_a, CoveringFactor b, uint8_t value_b);

#define COVERING_CAPACITY 512
/* Writes the table, always the same; `plain`: with the usual activations alone. Returns how many rows it has. */
size_t covering_table(CoveringRow rows[COVERING_CAPACITY], bool plain);

/* The problem of a row, not yet drawn. False: out of memory. */
bool covering_problem(const CoveringRow *row, Problem *problem);

#endif

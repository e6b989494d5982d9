/* SPDX-License-Identifier: MIT
 *
 * A problem: a recurrent operator with random inputs and what must come out, solved by the reference.
 *
 * Inputs are float32 numbers held in doubles, so that a device begins with exactly the same ones. They are drawn again until no
 * argument of an activation or clip is nearer than 1e-4 to a kink: there, rounding decides, and neither finite differences nor two
 * devices agree.
 */
#ifndef VKL_TOOLS_PROBLEM_H
#define VKL_TOOLS_PROBLEM_H

#include "reference.h"

typedef enum ProblemArray {
    PROBLEM_X,
    PROBLEM_H0,
    PROBLEM_C0,
    PROBLEM_GY,
    PROBLEM_GHN,
    PROBLEM_GCN,
    PROBLEM_Y,
    PROBLEM_HN,
    PROBLEM_CN,
    PROBLEM_DX,
    PROBLEM_DH0,
    PROBLEM_DC0,
    PROBLEM_ARRAYS
} ProblemArray;
#define PROBLEM_INPUTS PROBLEM_Y /* the arrays before it are inputs */
#define PROBLEM_BIT(array) (1u << (array))
extern const char *const problem_array_name[PROBLEM_ARRAYS];

typedef enum ProblemLengths {
    PROBLEM_FULL,
    PROBLEM_RAGGED,
    PROBLEM_EMPTY
} ProblemLengths; /* ragged: unsorted, from 0 to more than T */

typedef struct Problem {
    RefRnn run; /* points into what follows */
    char label[512];
    size_t count[PROBLEM_ARRAYS];  /* 0: the cell has no such array */
    double *array[PROBLEM_ARRAYS]; /* NULL: absent */
    size_t tensors;
    size_t *tensor_count;
    double **params, **dparams;
    uint32_t *lengths; /* NULL: absent */
    bool accumulate;   /* for who runs it on a device */
} Problem;

/* `absent`: PROBLEM_BITs of inputs that are not there. False: out of memory; problem_free() is for both outcomes. */
bool problem_make(const VklRnnDesc *desc, size_t T, size_t N, ProblemLengths lengths, unsigned absent, Problem *problem);
void problem_free(Problem *problem);

/* Fills the inputs: weights within `weights`, all else within 1. */
void problem_draw(Problem *problem, uint32_t seed, float weights);

/* Runs the reference. False: out of memory. */
bool problem_solve(Problem *problem);

/* Both, from `seed` on, until every number is at least 1e-4 away from kinks. False: out of memory, or no such numbers. */
bool problem_draw_and_solve(Problem *problem, uint32_t seed, float weights);

#endif

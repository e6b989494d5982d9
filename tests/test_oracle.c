/* SPDX-License-Identifier: MIT
 *
 * The oracle of the operator, tools/reference.c, against finite differences of itself: every gradient, over a table in which every two
 * values of two options meet. And against what must be so whatever the equations are. No device is used.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#include "../tools/covering.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Weights within 0.5: with five units and five steps, activations without bounds stay near 1. */
#define WEIGHTS 0.5f

/* Central differences of step 1e-5: the cut-off of the series is about 1e-10 of the third derivative, cancellation
 * 2^-53 |f| / 1e-5, about 1e-9 for the sums here. */
#define DIFFERENCE_STEP 1e-5
#define DIFFERENCE_TOLERANCE 2e-8

/* ---- The table ---- */

static bool has_pair(const CoveringRow *rows, size_t count, uint8_t first_cell, uint8_t last_cell, int a, uint8_t va, int b,
                     uint8_t vb)
{
    for (size_t r = 0; r < count; r++) {
        const uint8_t *v = rows[r].value;
        if (v[COVERING_CELL] >= first_cell && v[COVERING_CELL] <= last_cell && v[a] == va && v[b] == vb)
            return true;
    }
    return false;
}

Test(oracle, the_table_covers_every_pair)
{
    static const uint8_t families[][2] = {{0, 0}, {1, 1}, {2, 3}};
    static CoveringRow rows[COVERING_CAPACITY];
    for (int plain = 0; plain < 2; plain++) {
        const size_t count = covering_table(rows, plain);
        size_t pairs = 0;
        cr_assert_lt(count, (size_t)COVERING_CAPACITY);
        for (size_t r = 0; r < count; r++)
            cr_assert(covering_legal(&rows[r]), "row %zu", r);
        for (size_t k = 0; k < COUNT(families); k++)
            for (int a = 0; a < COVERING_FACTORS; a++)
                for (int b = a + 1; b < COVERING_FACTORS; b++)
                    for (uint8_t va = 0; va < covering_values[a]; va++)
                        for (uint8_t vb = 0; vb < covering_values[b]; vb++) {
                            const uint8_t *cells = families[k];
                            if (plain && ((a == COVERING_ACTIVATIONS && va) || (b == COVERING_ACTIVATIONS && vb)))
                                continue;
                            if (!covering_possible(cells[0], (CoveringFactor)a, va, (CoveringFactor)b, vb) &&
                                !covering_possible(cells[1], (CoveringFactor)a, va, (CoveringFactor)b, vb))
                                continue;
                            pairs++;
                            cr_assert(has_pair(rows, count, cells[0], cells[1], a, va, b, vb),
                                      "cells %d to %d: no row has %s %d with %s %d", cells[0], cells[1], covering_name[a], va,
                                      covering_name[b], vb);
                        }
        cr_log_info("%s: %zu rows cover %zu pairs", plain ? "plain" : "all", count, pairs);
    }
}

/* ---- Finite differences ---- */

/* A function of every output, whose gradients to y, hn and cn are gy, ghn and gcn. */
static double function(Problem *problem)
{
    double sum = 0;
    cr_assert(problem_solve(problem));
    for (int k = 0; k < 3; k++)
        for (size_t e = 0; problem->array[PROBLEM_GY + k] && e < problem->count[PROBLEM_GY + k]; e++)
            sum += problem->array[PROBLEM_GY + k][e] * problem->array[PROBLEM_Y + k][e];
    return sum;
}

/* Moves each of variable[count] and compares how the function follows with gradient[count]. */
static void check_slopes(Problem *problem, const char *what, double *variable, const double *gradient, size_t count)
{
    for (size_t k = 0; variable && k < count; k++) {
        const double kept = variable[k];
        variable[k] = kept + DIFFERENCE_STEP;
        const double above = function(problem);
        variable[k] = kept - DIFFERENCE_STEP;
        const double below = function(problem);
        variable[k] = kept;
        const double slope = (above - below) / (2 * DIFFERENCE_STEP);
        cr_assert(fabs(slope - gradient[k]) <= DIFFERENCE_TOLERANCE * fmax(1, fabs(slope)),
                  "%s: d%s[%zu]: gradient %.12g, slope %.12g", problem->label, what, k, gradient[k], slope);
    }
}

static void check_all_slopes(Problem *problem)
{
    problem->run.dparams = NULL; /* forward alone from here on: the gradients stay */
    check_slopes(problem, "x", problem->array[PROBLEM_X], problem->array[PROBLEM_DX], problem->count[PROBLEM_X]);
    check_slopes(problem, "h0", problem->array[PROBLEM_H0], problem->array[PROBLEM_DH0], problem->count[PROBLEM_H0]);
    check_slopes(problem, "c0", problem->array[PROBLEM_C0], problem->array[PROBLEM_DC0], problem->count[PROBLEM_C0]);
    for (size_t k = 0; k < problem->tensors; k++)
        check_slopes(problem, ref_rnn_tensor(&problem->run.desc, k).name, problem->params[k], problem->dparams[k],
                     problem->tensor_count[k]);
}

static void check_table(VklCell first, VklCell last, bool plain)
{
    static CoveringRow rows[COVERING_CAPACITY];
    const size_t count = covering_table(rows, plain);
    for (size_t r = 0; r < count; r++) {
        Problem problem;
        if (rows[r].value[COVERING_CELL] < first || rows[r].value[COVERING_CELL] > last)
            continue;
        cr_assert(covering_problem(&rows[r], &problem));
        cr_assert(problem_draw_and_solve(&problem, (uint32_t)r + 1, WEIGHTS), "%s: never away from kinks", problem.label);
        check_all_slopes(&problem);
        problem_free(&problem);
    }
}

Test(oracle, lstm_gradients_are_the_slopes)
{
    check_table(VKL_CELL_LSTM, VKL_CELL_LSTM, false);
}

Test(oracle, gru_gradients_are_the_slopes)
{
    check_table(VKL_CELL_GRU, VKL_CELL_GRU, false);
}

Test(oracle, rnn_gradients_are_the_slopes)
{
    check_table(VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU, false);
}

Test(oracle, gradients_with_the_usual_activations_are_the_slopes)
{
    check_table(VKL_CELL_LSTM, VKL_CELL_RNN_RELU, true);
}

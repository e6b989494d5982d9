/* SPDX-License-Identifier: MIT
 *
 * The oracle of the operator, tools/reference.c, against finite differences of itself: every gradient, over a table in which every two
 * values of two options meet. Then against the results of PyTorch and ONNX Runtime, and against what must be so whatever the equations
 * are. No device is used.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#include "../tools/casefile.h"
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

/* ---- Golden cases ---- */

/* Into numbers[count], where there is somewhere to put them; fails if the file has not as many. */
static void read_tensor(const CaseFile *file, const char *name, double *numbers, size_t count)
{
    const CaseTensor *tensor = casefile_find(file, name);
    if (!numbers)
        return;
    cr_assert_not_null(tensor, "%s: no %s", file->path, name);
    cr_assert_eq(tensor->count, count, "%s: %s", file->path, name);
    for (size_t k = 0; k < count; k++)
        numbers[k] = casefile_number(tensor, k);
}

/* Returns whether the file has it. */
static bool check_tensor(const CaseFile *file, const char *name, const double *got, size_t count, double tolerance)
{
    const CaseTensor *tensor = casefile_find(file, name);
    char what[300];
    if (!tensor)
        return false;
    cr_assert_eq(tensor->count, count, "%s: %s", file->path, name);
    float *want = malloc(count * sizeof(float));
    cr_assert_not_null(want);
    for (size_t k = 0; k < count; k++)
        want[k] = (float)casefile_number(tensor, k);
    snprintf(what, sizeof(what), "%s: %s", file->path, name);
    test_compare(what, want, got, count, tolerance);
    free(want);
    return true;
}

static size_t check_case(const char *path, double tolerance)
{
    CaseFile file;
    Problem problem;
    char name[100];
    size_t checked = 0;
    unsigned absent = 0;
    cr_assert_eq(casefile_read(path, &file), 0, "%s", path);
    for (int k = PROBLEM_H0; k < PROBLEM_INPUTS; k++)
        absent |= casefile_find(&file, problem_array_name[k]) ? 0 : PROBLEM_BIT(k);
    cr_assert(problem_make(&file.desc, file.T, file.B, file.lengths ? PROBLEM_EMPTY : PROBLEM_FULL, absent, &problem));
    for (int k = 0; k < PROBLEM_INPUTS; k++)
        read_tensor(&file, problem_array_name[k], problem.array[k], problem.count[k]);
    for (size_t n = 0; problem.lengths && n < file.B; n++)
        problem.lengths[n] = (uint32_t)casefile_integer(casefile_find(&file, "lengths"), n);
    for (size_t k = 0; k < problem.tensors; k++) {
        snprintf(name, sizeof(name), "w.%s", ref_rnn_tensor(&file.desc, k).name);
        read_tensor(&file, name, problem.params[k], problem.tensor_count[k]);
    }
    cr_assert(problem_solve(&problem));
    for (int k = PROBLEM_Y; k < PROBLEM_ARRAYS; k++) {
        snprintf(name, sizeof(name), "out.%s", problem_array_name[k]);
        if (problem.array[k])
            checked += check_tensor(&file, name, problem.array[k], problem.count[k], tolerance);
    }
    for (size_t k = 0; k < problem.tensors; k++) {
        snprintf(name, sizeof(name), "out.d.%s", ref_rnn_tensor(&file.desc, k).name);
        checked += check_tensor(&file, name, problem.dparams[k], problem.tensor_count[k], tolerance);
    }
    cr_assert_gt(checked, (size_t)0, "%s", path);
    problem_free(&problem);
    casefile_close(&file);
    return checked;
}

/* PyTorch computed in float64 and the results were rounded to float32: half a unit in the last place is 2^-24 of it. ONNX Runtime computes
 * in float32. */
Test(oracle, golden_cases_are_met)
{
    static const char folder[] = VKL_SOURCE_ROOT "/tests/data/cases";
    size_t files = 0, checked = 0;
    DIR *directory = opendir(folder);
    cr_assert_not_null(directory, "%s", folder);
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char path[1000];
        if (!strstr(entry->d_name, ".safetensors"))
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        checked += check_case(path, strncmp(entry->d_name, "torch_", 6) == 0 ? 6.1e-8 : 1e-6);
        files++;
    }
    closedir(directory);
    cr_assert_gt(files, (size_t)0);
    cr_log_info("%zu tensors of %zu files", checked, files);
}

/* ---- What must be so ---- */

/* The known answers that the authors publish with their generator. */
Test(oracle, philox_is_the_authors)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t k = 0; k < COUNT(known); k++) {
        uint32_t got[4];
        ref_philox(known[k].key, known[k].counter, got);
        cr_assert_eq(memcmp(got, known[k].want, sizeof(got)), 0, "answer %zu", k);
    }
}

/* A row of length n is what the same row alone is as a sequence of n steps. */
Test(oracle, a_row_is_a_sequence_of_its_own_length)
{
    static CoveringRow rows[COVERING_CAPACITY];
    const size_t count = covering_table(rows, false);
    for (size_t r = 0; r < count; r++) {
        Problem whole, one;
        rows[r].value[COVERING_LENGTHS] = PROBLEM_RAGGED;
        rows[r].value[COVERING_ONE_ROW] = rows[r].value[COVERING_ONE_STEP] = rows[r].value[COVERING_BATCH_FIRST] = 0;
        cr_assert(covering_problem(&rows[r], &whole));
        problem_draw(&whole, (uint32_t)r + 1, WEIGHTS);
        cr_assert(problem_solve(&whole));
        const RefRnn *run = &whole.run;
        const size_t I = run->desc.input_size, n = 0, T = run->lengths[n];
        unsigned absent = 0;
        for (int k = 0; k < PROBLEM_INPUTS; k++)
            absent |= whole.array[k] ? 0 : PROBLEM_BIT(k);
        cr_assert(problem_make(&run->desc, T, 1, PROBLEM_FULL, absent, &one));
        one.run.dropout = run->dropout;
        for (size_t k = 0; k < one.tensors; k++)
            memcpy(one.params[k], whole.params[k], one.tensor_count[k] * sizeof(double));
        for (size_t t = 0; t < T; t++)
            memcpy(one.array[PROBLEM_X] + t * I, whole.array[PROBLEM_X] + (t * run->N + n) * I, I * sizeof(double));
        for (int k = PROBLEM_H0; k <= PROBLEM_C0; k++)
            for (size_t e = 0, states = one.run.desc.layers * (run->desc.direction == VKL_DIRECTION_BOTH ? 2 : 1),
                        width = one.count[k] / states;
                 one.array[k] && e < one.count[k]; e++)
                one.array[k][e] = whole.array[k][(e / width * run->N + n) * width + e % width];
        cr_assert(problem_solve(&one));
        const size_t width = one.count[PROBLEM_Y] / (run->desc.last_only ? 1 : T);
        for (size_t e = 0; e < one.count[PROBLEM_Y]; e++)
            cr_assert_eq(one.array[PROBLEM_Y][e], whole.array[PROBLEM_Y][(e / width * run->N + n) * width + e % width],
                         "%s: y[%zu]", whole.label, e);
        problem_free(&whole);
        problem_free(&one);
    }
}

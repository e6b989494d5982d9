/* SPDX-License-Identifier: MIT */
#include "problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAREST 1e-4
#define ATTEMPTS 1000

const char *const problem_array_name[PROBLEM_ARRAYS] = {"x", "h0", "c0", "gy", "ghn", "gcn", "y", "hn", "cn", "dx", "dh0", "dc0"};

/* Unsorted, every kind of row: empty, short, whole, and longer than the sequence. */
static uint32_t ragged_length(size_t T, size_t n)
{
    const size_t lengths[] = {(T + 1) / 2, T + 5, 0, T, 1, T > 1 ? T - 1 : T};
    return (uint32_t)lengths[n % (sizeof(lengths) / sizeof(lengths[0]))];
}

bool problem_make(const VklRnnDesc *desc, size_t T, size_t N, ProblemLengths lengths, unsigned absent, Problem *problem)
{
    const RefCounts counts = ref_rnn_counts(desc, T, N);
    *problem = (Problem){.run = {.desc = *desc, .T = T, .N = N, .training = true}};
    RefRnn *run = &problem->run;
    const size_t count[PROBLEM_ARRAYS] = {counts.x, counts.h, counts.c, counts.y, counts.h, counts.c,
                                          counts.y, counts.h, counts.c, counts.x, counts.h, counts.c};
    bool ok = true;
    for (int k = 0; k < PROBLEM_ARRAYS; k++) {
        problem->count[k] = count[k];
        if (count[k] && !(absent & PROBLEM_BIT(k)))
            ok = (problem->array[k] = calloc(count[k], sizeof(double))) && ok;
    }
    problem->tensors = ref_rnn_tensors(desc);
    problem->tensor_count = calloc(problem->tensors, sizeof(size_t));
    problem->params = calloc(problem->tensors, sizeof(double *));
    problem->dparams = calloc(problem->tensors, sizeof(double *));
    problem->lengths = lengths == PROBLEM_FULL ? NULL : calloc(N, sizeof(uint32_t));
    if (!problem->tensor_count || !problem->params || !problem->dparams || (lengths != PROBLEM_FULL && !problem->lengths))
        return false;
    for (size_t k = 0; k < problem->tensors; k++) {
        const RefTensor tensor = ref_rnn_tensor(desc, k);
        problem->tensor_count[k] = tensor.rows * tensor.columns;
        ok = (problem->params[k] = calloc(problem->tensor_count[k], sizeof(double))) && ok;
        ok = (problem->dparams[k] = calloc(problem->tensor_count[k], sizeof(double))) && ok;
    }
    for (size_t n = 0; lengths == PROBLEM_RAGGED && n < N; n++)
        problem->lengths[n] = ragged_length(T, n);
    double *const *a = problem->array;
    run->lengths = problem->lengths;
    run->params = (const double *const *)problem->params;
    run->dparams = problem->dparams;
    run->x = a[PROBLEM_X], run->h0 = a[PROBLEM_H0], run->c0 = a[PROBLEM_C0];
    run->gy = a[PROBLEM_GY], run->ghn = a[PROBLEM_GHN], run->gcn = a[PROBLEM_GCN];
    run->y = a[PROBLEM_Y], run->hn = a[PROBLEM_HN], run->cn = a[PROBLEM_CN];
    run->dx = a[PROBLEM_DX], run->dh0 = a[PROBLEM_DH0], run->dc0 = a[PROBLEM_DC0];
    return ok;
}

void problem_free(Problem *problem)
{
    for (int k = 0; k < PROBLEM_ARRAYS; k++)
        free(problem->array[k]);
    for (size_t k = 0; k < problem->tensors; k++) {
        if (problem->params)
            free(problem->params[k]);
        if (problem->dparams)
            free(problem->dparams[k]);
    }
    free(problem->tensor_count);
    free(problem->params);
    free(problem->dparams);
    free(problem->lengths);
    *problem = (Problem){0};
}

/* float32 numbers in [-scale, scale], never 0, from SplitMix64 (Steele, Lea, Flood 2014) of a counter. */
static void fill(double *numbers, size_t count, uint32_t seed, float scale)
{
    for (size_t k = 0; numbers && k < count; k++) {
        uint64_t z = ((uint64_t)seed << 32) + UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)k + 1);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        const float unit = ((float)(z >> 40) + 0.5f - 8388608.0f) * (1.0f / 8388608.0f);
        numbers[k] = (double)(unit * scale);
    }
}

void problem_draw(Problem *problem, uint32_t seed, float weights)
{
    seed *= 10007;
    for (int k = 0; k < PROBLEM_INPUTS; k++)
        fill(problem->array[k], problem->count[k], seed + (uint32_t)k, 1);
    for (size_t k = 0; k < problem->tensors; k++)
        fill(problem->params[k], problem->tensor_count[k], seed + 100 + (uint32_t)k, weights);
    problem->run.dropout = (VklDropout){
        .seed = UINT64_C(0x100000001) * seed + 5, .offset = seed + 11, .first_row = seed % 1000, .first_step = seed % 77};
}

bool problem_solve(Problem *problem)
{
    return ref_rnn(&problem->run);
}

bool problem_draw_and_solve(Problem *problem, uint32_t seed, float weights)
{
    for (uint32_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        problem_draw(problem, seed + attempt, weights);
        if (!problem_solve(problem))
            return false;
        if (problem->run.nearest >= NEAREST)
            return true;
    }
    return false;
}

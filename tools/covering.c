/* SPDX-License-Identifier: MIT */
#include "covering.h"

#include <stdio.h>
#include <string.h>

const char *const covering_name[COVERING_FACTORS] = {
#define X(factor, name, values) name,
    COVERING_LIST(X)
#undef X
};

const uint8_t covering_values[COVERING_FACTORS] = {
#define X(factor, name, values) values,
    COVERING_LIST(X)
#undef X
};

/* ---- What goes together ---- */

bool covering_legal(const CoveringRow *row)
{
    const uint8_t *v = row->value;
    const bool lstm = v[COVERING_CELL] == VKL_CELL_LSTM, both = v[COVERING_DIRECTION] == VKL_DIRECTION_BOTH;
    if (!lstm && (v[COVERING_PROJECTION] || v[COVERING_PEEPHOLE] || v[COVERING_COUPLED] || v[COVERING_CELL_CLIP]))
        return false;
    if (!lstm && (v[COVERING_STATES] > 1 || v[COVERING_UPSTREAM] == 3)) /* c0 and gcn */
        return false;
    if (v[COVERING_CELL] != VKL_CELL_GRU && v[COVERING_BEFORE])
        return false;
    if (v[COVERING_BIAS] == VKL_BIAS_NONE && (v[COVERING_INPUT_DROPOUT] == 2 || v[COVERING_DROPOUT] == 2))
        return false; /* nothing at all comes in: arguments of 0, where many activations have their kink */
    return both || (!v[COVERING_MERGE] && !v[COVERING_TWIN]);
}

#define OPEN 255 /* a value that is not chosen yet */

/* Whether the open values can be chosen: each rule of covering_legal() asks for the cell or the direction, and 0 is always allowed. */
static bool can_be_completed(const CoveringRow *row)
{
    for (uint8_t direction = 0; direction < covering_values[COVERING_DIRECTION]; direction++) {
        CoveringRow whole = *row;
        for (int f = 0; f < COVERING_FACTORS; f++)
            if (whole.value[f] == OPEN)
                whole.value[f] = f == COVERING_DIRECTION ? direction : 0;
        if (covering_legal(&whole))
            return true;
    }
    return false;
}

static CoveringRow open_row(uint8_t cell)
{
    CoveringRow row;
    memset(row.value, OPEN, sizeof(row.value));
    row.value[COVERING_CELL] = cell;
    return row;
}

bool covering_possible(uint8_t cell, CoveringFactor a, uint8_t value_a, CoveringFactor b, uint8_t value_b)
{
    CoveringRow row = open_row(cell);
    if ((a == COVERING_CELL && value_a != cell) || (b == COVERING_CELL && value_b != cell))
        return false;
    row.value[a] = value_a;
    row.value[b] = value_b;
    return can_be_completed(&row);
}

/* ---- The table: greedily, the row that covers most of what is not covered ---- */

#define VALUES 11
typedef struct Pairs {
    bool covered[COVERING_FACTORS][VALUES][COVERING_FACTORS][VALUES];
} Pairs;

static int gain(const Pairs *pairs, const CoveringRow *row, int factor, uint8_t value)
{
    int count = 0;
    for (int f = 0; f < COVERING_FACTORS; f++)
        count += f != factor && row->value[f] != OPEN && !pairs->covered[factor][value][f][row->value[f]];
    return count;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * UINT32_C(1664525) + UINT32_C(1013904223);
    return *state >> 16;
}

/* Completes a row, the factors in a random order, each with the value that covers most. Returns how much that is. */
static int complete(const Pairs *pairs, CoveringRow *row, bool plain, uint32_t *random)
{
    int order[COVERING_FACTORS], total = 0;
    for (int f = 0; f < COVERING_FACTORS; f++) {
        const int other = (int)(next_random(random) % (uint32_t)(f + 1));
        order[f] = order[other];
        order[other] = f;
    }
    for (int k = 0; k < COVERING_FACTORS; k++) {
        const int f = order[k];
        if (row->value[f] != OPEN)
            continue;
        const uint8_t values = plain && f == COVERING_ACTIVATIONS ? 1 : covering_values[f];
        const uint8_t first = (uint8_t)(next_random(random) % values);
        uint8_t best = OPEN;
        int most = -1;
        for (uint8_t v = 0; v < values; v++) {
            const uint8_t value = (uint8_t)((first + v) % values);
            row->value[f] = value;
            const int gained = can_be_completed(row) ? gain(pairs, row, f, value) : -1;
            if (gained > most) {
                most = gained;
                best = value;
            }
        }
        row->value[f] = best;
        total += most;
    }
    return total;
}

/* A pair of values that no row has, on a new row. False: all are covered. */
static bool first_uncovered(const Pairs *pairs, uint8_t cell, bool plain, CoveringRow *row)
{
    for (int a = 0; a < COVERING_FACTORS; a++)
        for (int b = a + 1; b < COVERING_FACTORS; b++)
            for (uint8_t va = 0; va < covering_values[a]; va++)
                for (uint8_t vb = 0; vb < covering_values[b]; vb++) {
                    if (pairs->covered[a][va][b][vb] || !covering_possible(cell, (CoveringFactor)a, va, (CoveringFactor)b, vb) ||
                        (plain && ((a == COVERING_ACTIVATIONS && va) || (b == COVERING_ACTIVATIONS && vb))))
                        continue;
                    *row = open_row(cell);
                    row->value[a] = va;
                    row->value[b] = vb;
                    return true;
                }
    return false;
}

size_t covering_table(CoveringRow rows[COVERING_CAPACITY], bool plain)
{
    static const uint8_t families[][2] = {
        {VKL_CELL_LSTM, VKL_CELL_LSTM}, {VKL_CELL_GRU, VKL_CELL_GRU}, {VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU}};
    uint32_t random = 1;
    size_t count = 0;
    for (size_t family = 0; family < 3; family++) {
        Pairs pairs = {0};
        for (uint8_t turn = 0, cell; count < COVERING_CAPACITY; turn++) {
            CoveringRow start, best = {{0}};
            cell = families[family][turn % 2];
            if (!first_uncovered(&pairs, cell, plain, &start)) {
                cell = families[family][(turn + 1) % 2];
                if (!first_uncovered(&pairs, cell, plain, &start))
                    break;
            }
            for (int attempt = 0, most = -1; attempt < 30; attempt++) {
                CoveringRow row = start;
                const int gained = complete(&pairs, &row, plain, &random);
                if (gained > most) {
                    most = gained;
                    best = row;
                }
            }
            rows[count++] = best;
            for (int a = 0; a < COVERING_FACTORS; a++)
                for (int b = 0; b < COVERING_FACTORS; b++)
                    pairs.covered[a][best.value[a]][b][best.value[b]] = true;
        }
    }
    return count;
}

/* ---- What the values mean ---- */

/* 0: what the cell has of itself; then each of ONNX's list in the place of f, with others for g and h; sigmoid and tanh last, exchanged. */
static VklActivationDesc activation_of(const VklActivationDesc usual, uint8_t value, uint8_t place)
{
    static const VklActivationDesc list[10] = {
        {VKL_GATE_RELU, 0, 0},
        {VKL_GATE_HARD_SIGMOID, 0.375f, 0.4375f},
        {VKL_GATE_AFFINE, 0.5f, 0.25f},
        {VKL_GATE_LEAKY_RELU, 0.125f, 0},
        {VKL_GATE_THRESHOLDED_RELU, 0.25f, 0},
        {VKL_GATE_SCALED_TANH, 0.75f, 1.25f},
        {VKL_GATE_ELU, 0.625f, 0},
        {VKL_GATE_SOFTSIGN, 0, 0},
        {VKL_GATE_SOFTPLUS, 0, 0},
        {VKL_GATE_TANH, 0, 0},
    };
    if (value == 0)
        return usual;
    const VklActivationDesc other = list[(value - 1 + 3 * place) % 10];
    return place > 0 && other.kind == VKL_GATE_TANH ? (VklActivationDesc){VKL_GATE_SIGMOID, 0, 0} : other;
}

bool covering_problem(const CoveringRow *row, Problem *problem)
{
    static const float part[] = {0, 0.4f, 1};
    const uint8_t *v = row->value;
    const size_t T = v[COVERING_ONE_STEP] ? 1 : 5, N = v[COVERING_ONE_ROW] ? 1 : 6, H = 5, I = v[COVERING_SKIP] ? H : 3;
    VklRnnDesc desc = vkl_rnn_desc((VklCell)v[COVERING_CELL], I, H);
    desc.layers = (const uint8_t[]){2, 3, 1}[v[COVERING_LAYERS]];
    desc.direction = (VklDirection)v[COVERING_DIRECTION];
    desc.merge = (VklMerge)v[COVERING_MERGE];
    desc.bias = (VklBias)v[COVERING_BIAS];
    desc.projection = v[COVERING_PROJECTION] ? 2 : 0;
    desc.peephole = v[COVERING_PEEPHOLE];
    desc.input_forget = v[COVERING_COUPLED];
    desc.skip_input = v[COVERING_SKIP];
    if (v[COVERING_BEFORE])
        desc.reset_after = false;
    desc.cell_clip = v[COVERING_CELL_CLIP] ? 0.375f : 0;
    desc.preact_clip = v[COVERING_PREACT_CLIP] ? 0.75f : 0;
    for (uint8_t d = desc.direction == VKL_DIRECTION_REVERSE; d < 2; d++) /* reverse alone does not look at those of forward */
        for (uint8_t place = 0; place < 3; place++) {
            uint8_t value = v[COVERING_ACTIVATIONS];
            if (d == 1 && v[COVERING_TWIN])
                value = (uint8_t)((value + 4) % VALUES);
            desc.activations[d][place] = activation_of(desc.activations[d][place], value, place);
        }
    desc.input_dropout = part[v[COVERING_INPUT_DROPOUT]];
    desc.dropout = part[v[COVERING_DROPOUT]];
    desc.recurrent_dropout = v[COVERING_RECURRENT] == 3 ? 1 : v[COVERING_RECURRENT] ? 0.4f : 0;
    desc.recurrent_dropout_mode = v[COVERING_RECURRENT] == 2 ? VKL_RECURRENT_DROPOUT_PER_GATE : VKL_RECURRENT_DROPOUT_SHARED;
    desc.padding_value = v[COVERING_PADDING] ? -2.5f : 0;
    desc.batch_first = v[COVERING_BATCH_FIRST];
    desc.last_only = v[COVERING_LAST_ONLY];
    desc.recompute = v[COVERING_RECOMPUTE];

    static const unsigned no_states[] = {0, PROBLEM_BIT(PROBLEM_H0) | PROBLEM_BIT(PROBLEM_C0), PROBLEM_BIT(PROBLEM_C0),
                                         PROBLEM_BIT(PROBLEM_H0)};
    static const unsigned no_upstream[] = {0, PROBLEM_BIT(PROBLEM_GHN) | PROBLEM_BIT(PROBLEM_GCN),
                                           PROBLEM_BIT(PROBLEM_GY) | PROBLEM_BIT(PROBLEM_GCN),
                                           PROBLEM_BIT(PROBLEM_GY) | PROBLEM_BIT(PROBLEM_GHN)};
    const unsigned absent = no_states[v[COVERING_STATES]] | no_upstream[v[COVERING_UPSTREAM]];
    bool ok = problem_make(&desc, T, N, (ProblemLengths)v[COVERING_LENGTHS], absent, problem);
    problem->accumulate = v[COVERING_ACCUMULATE];

    static const char *const cells[] = {"lstm", "gru", "rnn_tanh", "rnn_relu"};
    int used = snprintf(problem->label, sizeof(problem->label), "%s L%u %s", cells[v[COVERING_CELL]], (unsigned)desc.layers,
                        (const char *const[]){"forward", "reverse", "both"}[desc.direction]);
    for (int f = COVERING_MERGE; f < COVERING_FACTORS; f++) {
        const int room = (int)sizeof(problem->label) - used;
        if (v[f] && room > 0)
            used +=
                snprintf(problem->label + used, (size_t)room, covering_values[f] > 2 ? " %s:%u" : " %s", covering_name[f], v[f]);
    }
    return ok;
}

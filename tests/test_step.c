/* SPDX-License-Identifier: MIT
 *
 * Steps of agents on the device of the environment: against vkl_rnn_forward(), which other programs hold against the reference, whatever the
 * count is and who begins anew; what a step must leave alone; what its plan dispatches.
 *
 * Tolerance: docs/numerics.md, "The complete operator", forward: both are the same sums, which may be cut otherwise.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "placed.h"
#include "plan_agents.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static VklContext *context;
static VklDevice *device;

static void begin(void)
{
    context = test_context();
    device = test_device(context);
}

static void end(void)
{
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

TestSuite(step, .init = begin, .fini = end);

static double budget_of(const VklRnnDesc *desc)
{
    const uint64_t P = desc->projection ? desc->projection : desc->hidden_size;
    const uint64_t inputs = desc->layers > 1 && P > desc->input_size ? P : desc->input_size;
    return 0x1p-24 * (double)desc->layers * (32 + 2 * sqrt((double)(inputs + desc->hidden_size)));
}

/* ---- Agents: a network, its arrays on the device, and what their states are on the host ---- */

typedef struct Agents {
    VklDevice *device;
    VklRnnDesc desc;
    VklRnn *rnn, *oracle; /* oracle: on the device with its own limits */
    VklStream *stream, *oracle_stream;
    uint64_t N, I, H, P, L;
    Placed params, x, h, c, y, reset, count, workspace;
    float *weights, *inputs, *states, *cells, *out;
    uint32_t *resets;
    bool lstm;
    VklRnnStep args;
} Agents;

static float quiet(uint32_t payload)
{
    const uint32_t bits = 0x7fc00000u | payload;
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

static void fill_quiet(float *numbers, size_t count)
{
    for (size_t k = 0; k < count; k++)
        numbers[k] = quiet((uint32_t)k & 0xffff);
}

static Agents agents_make(VklDevice *on, const VklRnnDesc *desc, uint64_t N)
{
    Agents agents = {.device = on, .desc = *desc, .N = N, .I = desc->input_size, .H = desc->hidden_size, .L = desc->layers};
    agents.P = desc->projection ? desc->projection : agents.H;
    agents.lstm = desc->cell == VKL_CELL_LSTM;
    TEST_OK(context, vkl_rnn_create(on, desc, &agents.rnn));
    TEST_OK(context, vkl_rnn_create(device, desc, &agents.oracle));
    TEST_OK(context, vkl_stream_create(on, &agents.stream));
    TEST_OK(context, vkl_stream_create(device, &agents.oracle_stream));
    VklRnnSizes sizes;
    TEST_OK(context, vkl_rnn_step_sizes(agents.rnn, N, &sizes));
    cr_assert_eq(sizes.state, 4 * agents.L * N * agents.P);
    cr_assert_eq(sizes.cell_state, agents.lstm ? 4 * agents.L * N * agents.H : 0);
    cr_assert_eq(sizes.y, 4 * N * agents.P);
    agents.weights = allocate(sizes.params / 4, sizeof(float));
    TEST_OK(context, vkl_rnn_init(agents.rnn, 7, agents.weights));
    agents.inputs = allocate(N * agents.I, sizeof(float));
    agents.states = allocate(agents.L * N * agents.P, sizeof(float));
    agents.cells = allocate(agents.L * N * agents.H, sizeof(float));
    agents.out = allocate(N * agents.P, sizeof(float));
    agents.resets = allocate(N, sizeof(uint32_t));
    test_random(agents.states, agents.L * N * agents.P, 11, 0.5f);
    test_random(agents.cells, agents.L * N * agents.H, 12, 0.5f);
    fill_quiet(agents.out, N * agents.P);
    const uint32_t none = 0;
    float zero;
    memcpy(&zero, &none, sizeof(zero));
    agents.params = placed_make(on, agents.weights, sizes.params / 4, true);
    agents.x = placed_make(on, NULL, N * agents.I, false);
    agents.h = placed_make(on, agents.states, agents.L * N * agents.P, false);
    agents.y = placed_make(on, agents.out, N * agents.P, false);
    agents.reset = placed_make(on, NULL, N, false);
    agents.count = placed_make(on, &zero, 1, false);
    agents.workspace = placed_make(on, NULL, sizes.forward_workspace / 4, true);
    agents.args = vkl_rnn_step_args(N);
    agents.args.params = agents.params.slice;
    agents.args.x = agents.x.slice;
    agents.args.h = agents.h.slice;
    agents.args.y = agents.y.slice;
    agents.args.reset = agents.reset.slice;
    agents.args.count = agents.count.slice;
    agents.args.workspace = agents.workspace.slice;
    if (agents.lstm) {
        agents.c = placed_make(on, agents.cells, agents.L * N * agents.H, false);
        agents.args.c = agents.c.slice;
    }
    return agents;
}

static void agents_finish(Agents *agents)
{
    Placed *all[] = {&agents->params, &agents->x,     &agents->h,     &agents->c,
                     &agents->y,      &agents->reset, &agents->count, &agents->workspace};
    for (size_t i = 0; i < LENGTH(all); i++)
        vkl_buffer_destroy(all[i]->buffer);
    free(agents->weights);
    free(agents->inputs);
    free(agents->states);
    free(agents->cells);
    free(agents->out);
    free(agents->resets);
    vkl_stream_destroy(agents->stream);
    vkl_stream_destroy(agents->oracle_stream);
    vkl_rnn_destroy(agents->rnn);
    vkl_rnn_destroy(agents->oracle);
}

static void upload(const Agents *agents, const Placed *placed, const void *data)
{
    TEST_OK(context, vkl_upload(agents->stream, placed->slice, data, placed->count * 4));
}

/* The first `live` rows of each layer of an array, those that begin anew as zeros. */
static float *first_rows(const Agents *agents, const float *from, uint64_t columns, uint64_t live, bool with_reset)
{
    float *rows = allocate(agents->L * live * columns, sizeof(float));
    for (uint64_t layer = 0; layer < agents->L; layer++)
        for (uint64_t row = 0; row < live; row++)
            if (!with_reset || !agents->resets[row])
                memcpy(rows + (layer * live + row) * columns, from + (layer * agents->N + row) * columns,
                       columns * sizeof(float));
    return rows;
}

/* Rows below `live` must be `want`, the others as they were; then they are what the agents have. */
static void check_states(const Agents *agents, const char *what, float *had, const float *got, const float *want,
                         uint64_t columns, uint64_t layers, uint64_t live)
{
    for (uint64_t layer = 0; layer < layers; layer++) {
        uint64_t at = layer * agents->N * columns, rest = (agents->N - live) * columns;
        cr_assert(!memcmp(got + at + live * columns, had + at + live * columns, rest * sizeof(float)),
                  "%s, layer %llu: a row at or past %llu was written", what, (unsigned long long)layer, (unsigned long long)live);
        if (live)
            test_compare_f(what, got + at, want + layer * live * columns, live * columns, budget_of(&agents->desc));
    }
    memcpy(had, got, layers * agents->N * columns * sizeof(float));
}

/* One step with what the arrays hold, and the same by vkl_rnn_forward() over the live rows. */
static void step_and_check(Agents *agents, uint64_t live, VklExec *exec)
{
    VklDevice *on = agents->device;
    bool with_reset = agents->args.reset.buffer != NULL, with_y = agents->args.y.buffer != NULL;
    TEST_OK(context, exec ? vkl_exec_record(exec, agents->stream) : vkl_rnn_step(agents->rnn, agents->stream, &agents->args));
    TEST_OK(context, vkl_stream_submit(agents->stream, NULL));
    TEST_OK(context, vkl_stream_wait(agents->stream));
    uint64_t rows = live ? live : 1, state = agents->L * rows * agents->P, cell = agents->L * rows * agents->H;
    float *hn = allocate(state, sizeof(float)), *cn = allocate(cell, sizeof(float));
    if (live) {
        VklRnnSizes sizes;
        TEST_OK(context, vkl_rnn_sizes(agents->oracle, 1, live, &sizes));
        float *h0 = first_rows(agents, agents->states, agents->P, live, with_reset),
              *c0 = first_rows(agents, agents->cells, agents->H, live, with_reset);
        VklBuffer *buffers[] = {test_buffer(device, agents->weights, sizes.params / 4),
                                test_buffer(device, agents->inputs, live * agents->I),
                                test_buffer(device, h0, state),
                                test_buffer(device, c0, cell),
                                test_buffer(device, NULL, state),
                                test_buffer(device, NULL, cell),
                                test_buffer(device, NULL, sizes.forward_workspace / 4)};
        VklRnnForward forward = vkl_rnn_forward_args(1, live);
        forward.params = vkl_slice(buffers[0], 0);
        forward.x = vkl_slice(buffers[1], 0);
        forward.h0 = vkl_slice(buffers[2], 0);
        forward.hn = vkl_slice(buffers[4], 0);
        if (agents->lstm) {
            forward.c0 = vkl_slice(buffers[3], 0);
            forward.cn = vkl_slice(buffers[5], 0);
        }
        forward.workspace = vkl_slice(buffers[6], 0);
        TEST_OK(context, vkl_rnn_forward(agents->oracle, agents->oracle_stream, &forward));
        TEST_OK(context, vkl_stream_submit(agents->oracle_stream, NULL));
        TEST_OK(context, vkl_stream_wait(agents->oracle_stream));
        test_read(device, buffers[4], hn, state);
        test_read(device, buffers[5], cn, cell);
        for (size_t i = 0; i < LENGTH(buffers); i++)
            vkl_buffer_destroy(buffers[i]);
        free(h0);
        free(c0);
    }
    float *got = placed_take(on, &agents->h, "h");
    check_states(agents, "h", agents->states, got, hn, agents->P, agents->L, live);
    free(got);
    if (agents->lstm) {
        got = placed_take(on, &agents->c, "c");
        check_states(agents, "c", agents->cells, got, cn, agents->H, agents->L, live);
        free(got);
    }
    float *y = placed_take(on, &agents->y, "y");
    const float *top = agents->states + (agents->L - 1) * agents->N * agents->P;
    cr_assert(!with_y || !memcmp(y, top, live * agents->P * sizeof(float)), "y is no copy of h");
    uint64_t same = with_y ? live * agents->P : 0;
    cr_assert(!memcmp(y + same, agents->out + same, (agents->N * agents->P - same) * sizeof(float)),
              "y was written past %llu rows", (unsigned long long)live);
    memcpy(agents->out, y, agents->N * agents->P * sizeof(float));
    free(y);
    free(placed_take(on, &agents->workspace, "workspace"));
    free(hn);
    free(cn);
}

/* Steps with these counts, in turn; every third live agent begins anew in every second step, out of a state that is no number. */
static void run_counts(Agents *agents, const uint32_t *counts, size_t steps, VklExec *exec)
{
    for (size_t s = 0; s < steps; s++) {
        uint64_t N = agents->N, live = counts[s] < N ? counts[s] : N;
        live = agents->args.count.buffer ? live : N;
        test_random(agents->inputs, N * agents->I, (uint32_t)(20 + s), 1);
        fill_quiet(agents->inputs + live * agents->I, (N - live) * agents->I);
        for (uint64_t row = 0; row < N; row++) {
            bool dirty = row >= live || (s % 2 == 0 && row % 3 == 1);
            agents->resets[row] = dirty ? (row % 2 ? 1 : 0x80000000u) : 0;
            if (!dirty || !agents->args.reset.buffer)
                continue;
            for (uint64_t layer = 0; layer < agents->L; layer++) {
                fill_quiet(agents->states + (layer * N + row) * agents->P, agents->P);
                fill_quiet(agents->cells + (layer * N + row) * agents->H, agents->H);
            }
        }
        upload(agents, &agents->x, agents->inputs);
        upload(agents, &agents->h, agents->states);
        if (agents->lstm)
            upload(agents, &agents->c, agents->cells);
        upload(agents, &agents->reset, agents->resets);
        upload(agents, &agents->count, &counts[s]);
        step_and_check(agents, live, exec);
        for (uint64_t i = 0; i < agents->L * N * agents->P;
             i++) /* who comes into the next step must have a state, or begin anew */
            agents->states[i] = isfinite(agents->states[i]) ? agents->states[i] : 0.25f;
        for (uint64_t i = 0; i < agents->L * N * agents->H; i++)
            agents->cells[i] = isfinite(agents->cells[i]) ? agents->cells[i] : -0.25f;
    }
}

typedef enum Option { PLAIN, PEEPHOLES, PROJECTION, CLIPS, BEFORE, HALVES, SKIP, SINGLE, GATE_MASKS } Option;

static VklRnnDesc desc_of(VklCell cell, Option option, uint64_t I, uint64_t H, uint64_t layers)
{
    VklRnnDesc desc = vkl_rnn_desc(cell, option == SKIP ? H : I, H);
    desc.layers = layers;
    desc.peephole = option == PEEPHOLES;
    desc.projection = option == PROJECTION ? (H + 1) / 2 : 0;
    desc.reset_after = cell != VKL_CELL_GRU || option != BEFORE ? desc.reset_after : false;
    desc.storage = option == HALVES ? VKL_STORAGE_FLOAT16 : VKL_STORAGE_FLOAT32;
    desc.skip_input = option == SKIP;
    desc.bias = option == SINGLE ? VKL_BIAS_SINGLE : VKL_BIAS_DOUBLE;
    desc.recurrent_dropout = option == GATE_MASKS ? 0.5f : 0; /* which a step has not, but the weights are laid out for it */
    desc.recurrent_dropout_mode = VKL_RECURRENT_DROPOUT_PER_GATE;
    if (option == CLIPS) {
        desc.preact_clip = 0.6f;
        desc.cell_clip = cell == VKL_CELL_LSTM ? 0.5f : 0;
        desc.input_forget = cell == VKL_CELL_LSTM;
        desc.activations[0][0] = vkl_gate_activation(VKL_GATE_HARD_SIGMOID);
    }
    return desc;
}

static VklRnnPass pass_of(const VklRnnDesc *desc, uint64_t N)
{
    return (VklRnnPass){.desc = desc,
                        .T = 1,
                        .N = N,
                        .agents = true,
                        .params = vkl_array(VKL_SLOT_PARAMS, 0),
                        .x = vkl_array(VKL_SLOT_X, 0),
                        .lengths = VKL_NO_ARRAY,
                        .h0 = VKL_NO_ARRAY,
                        .c0 = VKL_NO_ARRAY,
                        .y = vkl_array(VKL_SLOT_Y, 0),
                        .hn = VKL_NO_ARRAY,
                        .cn = VKL_NO_ARRAY,
                        .reserve = VKL_NO_ARRAY,
                        .workspace = vkl_array(VKL_SLOT_WORKSPACE, 0),
                        .h = vkl_array(VKL_SLOT_H, 0),
                        .c = vkl_array(VKL_SLOT_C, 0),
                        .reset = vkl_array(VKL_SLOT_RESET, 0),
                        .count = vkl_array(VKL_SLOT_AGENTS, 0),
                        .state = VKL_NO_ARRAY};
}

static const struct {
    VklCell cell;
    Option option;
    uint64_t N, I, H, L;
} networks[] = {
    {VKL_CELL_LSTM, PLAIN, 1, 1, 1, 1},       {VKL_CELL_LSTM, PLAIN, 65, 5, 17, 1},
    {VKL_CELL_LSTM, PLAIN, 37, 4, 64, 2},     {VKL_CELL_LSTM, SINGLE, 19, 3, 33, 3},
    {VKL_CELL_LSTM, PEEPHOLES, 65, 5, 17, 2}, {VKL_CELL_LSTM, PROJECTION, 37, 5, 33, 2},
    {VKL_CELL_LSTM, CLIPS, 37, 3, 20, 1},     {VKL_CELL_LSTM, HALVES, 37, 8, 64, 2},
    {VKL_CELL_LSTM, SKIP, 37, 17, 17, 2},     {VKL_CELL_GRU, PLAIN, 65, 5, 17, 2},
    {VKL_CELL_GRU, PLAIN, 37, 4, 64, 1},      {VKL_CELL_GRU, BEFORE, 37, 5, 33, 2},
    {VKL_CELL_GRU, HALVES, 21, 4, 32, 1},     {VKL_CELL_RNN_TANH, PLAIN, 65, 5, 17, 2},
    {VKL_CELL_RNN_RELU, CLIPS, 37, 4, 64, 1}, {VKL_CELL_LSTM, GATE_MASKS, 21, 5, 17, 2},
};

/* 0, 1, one more and one less than there can be, more than that, and no more than fits 32 bits. */
static size_t counts_for(uint64_t N, uint32_t counts[8])
{
    const uint32_t n = (uint32_t)N, all[] = {n, 0, 1, n > 17 ? 17 : n, n - 1, n + 5, UINT32_MAX, n / 2};
    memcpy(counts, all, sizeof(all));
    return LENGTH(all);
}

Test(step, every_cell_and_every_count_as_forward)
{
    for (size_t k = 0; k < LENGTH(networks); k++) {
        VklRnnDesc desc = desc_of(networks[k].cell, networks[k].option, networks[k].I, networks[k].H, networks[k].L);
        Agents agents = agents_make(device, &desc, networks[k].N);
        uint32_t counts[8];
        size_t steps = counts_for(networks[k].N, counts);
        run_counts(&agents, counts, steps, NULL);
        agents_finish(&agents);
    }
}

/* As planned for a card: cells without options in place, a dispatch for each layer. */
Test(step, layers_in_one_dispatch_each_as_forward)
{
    VklDevice *card = device_as_gpu(context);
    static const struct {
        VklCell cell;
        Option option;
        uint64_t N, I, H, L;
        bool absent;
    } cases[] = {{VKL_CELL_LSTM, PLAIN, 1, 1, 1, 1, false},     {VKL_CELL_LSTM, PLAIN, 65, 5, 17, 2, false},
                 {VKL_CELL_LSTM, SINGLE, 19, 3, 257, 1, false}, {VKL_CELL_GRU, PLAIN, 65, 5, 17, 2, false},
                 {VKL_CELL_GRU, SINGLE, 9, 7, 64, 1, true},     {VKL_CELL_RNN_TANH, PLAIN, 33, 4, 33, 3, false},
                 {VKL_CELL_RNN_RELU, SINGLE, 3, 1, 5, 1, true}};
    for (size_t k = 0; k < LENGTH(cases); k++) {
        VklRnnDesc desc = desc_of(cases[k].cell, cases[k].option, cases[k].I, cases[k].H, cases[k].L);
        VklRnnPass pass = pass_of(&desc, cases[k].N);
        VklPlan plan;
        vkl_plan_init(&plan, &card->caps);
        vkl_plan_rnn_agents(&plan, &pass);
        cr_assert_eq(plan.status, VKL_OK, "%s", plan.error);
        if (card->caps.storage_buffers >= 6) /* TALLY, the layers, y */
            cr_assert_eq(plan.count, cases[k].L + 2, "case %zu: %zu ops", k, plan.count);
        vkl_plan_finish(&plan);
        Agents agents = agents_make(card, &desc, cases[k].N);
        if (cases[k].absent)
            agents.args.count = agents.args.reset = agents.args.y = (VklSlice){0};
        uint32_t counts[8];
        size_t steps = counts_for(cases[k].N, counts);
        run_counts(&agents, counts, steps, NULL);
        agents_finish(&agents);
    }
    vkl_device_destroy(card);
}

/* Prepared once, with and without each of the arrays that may be absent. */
Test(step, prepared_steps_follow_count_and_reset_of_the_day)
{
    for (unsigned absent = 0; absent < 8; absent++)
        for (size_t k = 0; k < LENGTH(networks); k += 4) {
            VklRnnDesc desc = desc_of(networks[k].cell, networks[k].option, networks[k].I, networks[k].H, networks[k].L);
            Agents agents = agents_make(device, &desc, networks[k].N);
            agents.args.count = absent & 1 ? (VklSlice){0} : agents.args.count;
            agents.args.reset = absent & 2 ? (VklSlice){0} : agents.args.reset;
            agents.args.y = absent & 4 ? (VklSlice){0} : agents.args.y;
            uint32_t counts[8];
            size_t steps = counts_for(networks[k].N, counts);
            VklExec *exec = NULL;
            TEST_OK(context, vkl_rnn_prepare_step(agents.rnn, &agents.args, &exec));
            run_counts(&agents, counts, steps, exec);
            vkl_exec_destroy(exec);
            agents_finish(&agents);
        }
}

/* Lower limits: every array is seen through several windows, and a dispatch has few workgroups on an axis. */
Test(step, small_windows_give_the_same)
{
    static const VklDeviceLimits limits[] = {{.storage_range = 8192}, {.storage_range = 16384}, {.workgroups = {4, 0, 0}}};
    static const struct {
        VklCell cell;
        Option option;
        uint64_t N, I, H, L;
    } cases[] = {{VKL_CELL_LSTM, PLAIN, 133, 5, 17, 2},   {VKL_CELL_LSTM, PROJECTION, 37, 5, 9, 2},
                 {VKL_CELL_LSTM, PEEPHOLES, 37, 5, 9, 1}, {VKL_CELL_GRU, PLAIN, 133, 3, 17, 1},
                 {VKL_CELL_GRU, BEFORE, 37, 3, 9, 1},     {VKL_CELL_RNN_TANH, PLAIN, 133, 3, 16, 2}};
    for (size_t l = 0; l < LENGTH(limits); l++) {
        VklDevice *narrow = device_within(context, limits[l]);
        for (size_t k = 0; k < LENGTH(cases); k++) {
            VklRnnDesc desc = desc_of(cases[k].cell, cases[k].option, cases[k].I, cases[k].H, cases[k].L);
            Agents agents = agents_make(narrow, &desc, cases[k].N);
            uint32_t counts[8];
            size_t steps = counts_for(cases[k].N, counts);
            run_counts(&agents, counts, steps, NULL);
            agents_finish(&agents);
        }
        vkl_device_destroy(narrow);
    }
}

/* ---- Many steps ---- */

enum { TIMES = 6, ROWS = 21 };

/* One forward over all time steps, and as many steps. */
static void steps_and_forward(const VklRnnDesc *desc)
{
    Agents agents = agents_make(device, desc, ROWS);
    VklRnnSizes sizes;
    TEST_OK(context, vkl_rnn_sizes(agents.rnn, TIMES, ROWS, &sizes));
    const uint64_t state = agents.L * ROWS * agents.P, cell = agents.L * ROWS * agents.H, row = ROWS * agents.I;
    float *inputs = allocate(TIMES * row, sizeof(float)), *want = allocate(cell, sizeof(float)), *got;
    test_random(inputs, TIMES * row, 5, 1);
    VklBuffer *buffers[] = {test_buffer(device, inputs, TIMES * row),
                            test_buffer(device, agents.states, state),
                            test_buffer(device, agents.cells, cell),
                            test_buffer(device, NULL, sizes.y / 4),
                            test_buffer(device, NULL, state),
                            test_buffer(device, NULL, cell),
                            test_buffer(device, NULL, sizes.forward_workspace / 4)};
    VklRnnForward forward = vkl_rnn_forward_args(TIMES, ROWS);
    forward.params = agents.params.slice;
    forward.x = vkl_slice(buffers[0], 0);
    forward.h0 = vkl_slice(buffers[1], 0);
    forward.y = vkl_slice(buffers[3], 0);
    forward.hn = vkl_slice(buffers[4], 0);
    if (agents.lstm) {
        forward.c0 = vkl_slice(buffers[2], 0);
        forward.cn = vkl_slice(buffers[5], 0);
    }
    forward.workspace = vkl_slice(buffers[6], 0);
    TEST_OK(context, vkl_rnn_forward(agents.rnn, agents.stream, &forward));
    const uint32_t all = ROWS;
    upload(&agents, &agents.count, &all);
    upload(&agents, &agents.reset, agents.resets);
    for (uint64_t t = 0; t < TIMES; t++) {
        upload(&agents, &agents.x, inputs + t * row);
        TEST_OK(context, vkl_rnn_step(agents.rnn, agents.stream, &agents.args));
    }
    TEST_OK(context, vkl_stream_wait(agents.stream));
    const double budget = TIMES * budget_of(desc); /* what a step loses goes through those that follow */
    float *y = allocate(sizes.y / 4, sizeof(float));
    test_read(device, buffers[3], y, sizes.y / 4);
    got = placed_take(device, &agents.y, "y");
    test_compare_f("y", got, y + sizes.y / 4 - ROWS * agents.P, ROWS * agents.P, budget);
    free(got);
    free(y);
    got = placed_take(device, &agents.h, "h");
    test_read(device, buffers[4], want, state);
    test_compare_f("h", got, want, state, budget);
    free(got);
    if (agents.lstm) {
        got = placed_take(device, &agents.c, "c");
        test_read(device, buffers[5], want, cell);
        test_compare_f("c", got, want, cell, budget);
        free(got);
    }
    for (size_t i = 0; i < LENGTH(buffers); i++)
        vkl_buffer_destroy(buffers[i]);
    free(inputs);
    free(want);
    agents_finish(&agents);
}

/* The device has the path for the description. */
static bool possible(const VklRnnDesc *desc)
{
    VklRnn *rnn;
    VklRnnSizes sizes;
    TEST_OK(context, vkl_rnn_create(device, desc, &rnn));
    VklStatus status = vkl_rnn_step_sizes(rnn, ROWS, &sizes);
    cr_assert(!status || (status == VKL_ERROR_UNSUPPORTED && strstr(vkl_rnn_error(rnn), "path")), "%s", vkl_rnn_error(rnn));
    vkl_rnn_destroy(rnn);
    return !status;
}

Test(step, many_steps_are_a_forward_on_every_path)
{
    size_t runs = 0;
    for (size_t k = 0; k < LENGTH(networks); k++)
        for (VklRnnPath path = VKL_RNN_PATH_AUTO; path <= VKL_RNN_PATH_WAVEFRONT; path++) {
            VklRnnDesc desc = desc_of(networks[k].cell, networks[k].option, networks[k].I, networks[k].H, networks[k].L);
            desc.path = path;
            desc.dropout = desc.input_dropout = path == VKL_RNN_PATH_PIECES ? 0.5f : 0;
            if (!possible(&desc))
                continue;
            steps_and_forward(&desc);
            runs++;
        }
    cr_assert_geq(runs, 2 * LENGTH(networks)); /* what is chosen, and in pieces */
}

/* ---- What is dispatched ---- */

/* What TALLY left for an op, read back: as many workgroups as cover the live rows of it, and no more. */
static void check_dispatch(const VklOp *op, const uint32_t arguments[VKL_TALLY_STRIDE], uint64_t count)
{
    const VklCounted *c = &op->counted;
    const char *name = vkl_kernel_info[op->kernel].name;
    uint64_t live = count < c->first ? 0 : count - c->first < c->rows ? count - c->first : c->rows;
    uint64_t items = (live + c->block - 1) / c->block * c->items, groups = (items + c->group - 1) / c->group;
    cr_assert_eq(arguments[3], live, "%s: %u rows of %llu", name, arguments[3], (unsigned long long)live);
    int axis = c->way == VKL_TALLY_Y;
    if (c->way == VKL_TALLY_LINEAR) {
        uint64_t all = (uint64_t)arguments[0] * arguments[1];
        cr_assert(all >= groups && (all < groups + op->groups[0] || all == groups), "%s: %u x %u workgroups for %llu", name,
                  arguments[0], arguments[1], (unsigned long long)groups);
    } else {
        cr_assert_eq(arguments[axis], groups, "%s: %u workgroups for %llu rows", name, arguments[axis], (unsigned long long)live);
        cr_assert_eq(arguments[!axis], op->groups[!axis]);
        cr_assert_eq(arguments[2], op->groups[2]);
    }
    for (int i = 0; i < 3 && live == c->rows; i++)
        cr_assert_eq(arguments[i], op->groups[i], "%s, all rows: %u workgroups on axis %d and not %u", name, arguments[i], i,
                     op->groups[i]);
}

Test(step, dispatches_are_for_the_rows_that_there_are)
{
    VklDevice *few = device_within(context, (VklDeviceLimits){.workgroups = {40, 0, 0}}); /* so that some go on on y */
    for (size_t k = 0; k < LENGTH(networks); k++) {
        VklDevice *on = k % 2 ? few : device;
        VklRnnDesc desc = desc_of(networks[k].cell, networks[k].option, networks[k].I, networks[k].H, networks[k].L);
        Agents agents = agents_make(on, &desc, networks[k].N);
        VklRnnPass pass = pass_of(&desc, networks[k].N);
        VklPlan plan;
        vkl_plan_init(&plan, &on->caps);
        vkl_plan_rnn_agents(&plan, &pass); /* the plan of the call below, and its places in the workspace */
        cr_assert_eq(plan.status, VKL_OK, "%s", plan.error);
        upload(&agents, &agents.x, agents.inputs);
        upload(&agents, &agents.reset, agents.resets);
        uint32_t counts[8];
        size_t steps = counts_for(networks[k].N, counts), counted = 0;
        for (size_t s = 0; s < steps; s++) {
            upload(&agents, &agents.count, &counts[s]);
            TEST_OK(context, vkl_rnn_step(agents.rnn, agents.stream, &agents.args));
            TEST_OK(context, vkl_stream_wait(agents.stream));
            float *workspace = placed_take(on, &agents.workspace, "workspace");
            counted = 0;
            for (size_t i = 0; i < plan.count; i++) {
                const VklOp *op = &plan.ops[i];
                if (!op->counted.rows)
                    continue;
                counted++;
                check_dispatch(op, (const uint32_t *)(const void *)workspace + op->counted.at, counts[s]);
            }
            free(workspace);
        }
        cr_assert_geq(counted, 1u);
        vkl_plan_finish(&plan);
        agents_finish(&agents);
    }
    vkl_device_destroy(few);
}

Test(step, an_op_that_does_not_follow_the_count_fails_the_plan)
{
    VklPlan plan;
    vkl_plan_init(&plan, &device->caps);
    plan.counting = VKL_COUNTING_ROWS;
    vkl_plan_copy(&plan, &(VklCopyPiece){.mode = VKL_COPY_ZERO, .arena = vkl_array(VKL_SLOT_WORKSPACE, 0), .count = 5}, 1);
    check_refusal("copy", plan.status, VKL_ERROR_UNSUPPORTED, plan.error, "copy");
    vkl_plan_finish(&plan);
}

/* ---- Refusals ---- */

Test(step, what_cannot_be_is_refused_by_name)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, 3, 5);
    Agents agents = agents_make(device, &desc, 4);
    const struct {
        const char *word;
        size_t offset; /* of a slice that is absent */
    } absent[] = {{"params", offsetof(VklRnnStep, params)},
                  {"x is absent", offsetof(VklRnnStep, x)},
                  {"h is absent", offsetof(VklRnnStep, h)},
                  {"c is absent", offsetof(VklRnnStep, c)},
                  {"workspace", offsetof(VklRnnStep, workspace)}};
    for (size_t i = 0; i < LENGTH(absent); i++) {
        VklRnnStep args = agents.args;
        memset((char *)&args + absent[i].offset, 0, sizeof(VklSlice));
        check_refusal("absent", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn),
                      absent[i].word);
    }
    VklExec *exec = NULL;
    VklRnnSizes sizes;
    VklRnnStep args = agents.args;
    args.struct_size--;
    check_refusal("struct", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn),
                  "struct_size");
    check_refusal("NULL", vkl_rnn_prepare_step(agents.rnn, NULL, &exec), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn), "NULL");
    check_refusal("no place for the result", vkl_rnn_prepare_step(agents.rnn, &agents.args, NULL), VKL_ERROR_INVALID,
                  vkl_rnn_error(agents.rnn), "exec is NULL");
    check_refusal("no exec", vkl_exec_record(NULL, agents.stream), VKL_ERROR_INVALID, vkl_stream_error(agents.stream),
                  "exec is NULL");
    check_refusal("no exec", vkl_stream_replay(agents.stream, NULL, 1), VKL_ERROR_INVALID, vkl_stream_error(agents.stream),
                  "exec is NULL");
    TEST_OK(context, vkl_rnn_prepare_step(agents.rnn, &agents.args, &exec));
    VklStatus status = vkl_exec_record(exec, NULL); /* before the sentence is asked for */
    check_refusal("no stream", status, VKL_ERROR_INVALID, vkl_context_error(context), "stream is NULL");
    vkl_exec_destroy(exec);
    args = agents.args;
    args.N = 0;
    check_refusal("N", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn), "N is 0");
    check_refusal("N", vkl_rnn_step_sizes(agents.rnn, UINT64_C(1) << 32, &sizes), VKL_ERROR_LIMIT, vkl_rnn_error(agents.rnn),
                  "N is 4294967296");
    args = agents.args;
    args.y = args.h;
    check_refusal("overlap", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn),
                  "overlap");
    args = agents.args;
    args.count = vkl_slice(agents.count.buffer, 4 * (agents.count.before + agents.count.count + 3));
    check_refusal("count", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn), "count");
    args = agents.args;
    args.reset = vkl_slice(agents.count.buffer, 0);
    args.N = 4;
    args.reset.offset = 4 * (agents.count.before + 1);
    check_refusal("reset", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn), "reset");
    agents_finish(&agents);

    desc.direction = VKL_DIRECTION_BOTH;
    VklRnn *rnn;
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    check_refusal("both", vkl_rnn_step_sizes(rnn, 4, &sizes), VKL_ERROR_UNSUPPORTED, vkl_rnn_error(rnn), "both");
    vkl_rnn_destroy(rnn);
    desc = vkl_rnn_desc(VKL_CELL_GRU, 3, 5);
    agents = agents_make(device, &desc, 4);
    args = agents.args;
    args.c = args.h;
    check_refusal("c of a GRU", vkl_rnn_step(agents.rnn, agents.stream, &args), VKL_ERROR_INVALID, vkl_rnn_error(agents.rnn),
                  "only LSTM");
    agents_finish(&agents);
}

/* ---- Models ---- */

enum { WINDOWS = 37, STEPS = 5, FEATURES = 3 };

static VklModel *model_make(const char *text)
{
    VklLayerDesc layers[8];
    uint32_t count = LENGTH(layers);
    VklModel *model;
    TEST_OK(context, vkl_layers_parse(context, text, layers, &count));
    TEST_OK(context, vkl_model_create(device, FEATURES, layers, count, 5, &model));
    return model;
}

/* Agents that each go through a window of a series, against vkl_model_predict() of the windows. */
Test(step, models_as_predict)
{
    static const char *const stacks[] = {"lstm:17,dense:2",
                                         "lstm:8,lstm:5:3",
                                         "dense:5:tanh,gru:17,dropout:0.5,dense:4:relu,dense:1:sigmoid",
                                         "rnn:9,dense:4,lstm:16",
                                         "rnn_relu:6,gru:5,dropout:0.2",
                                         "lstm:16@half,dense:3"};
    static float series[WINDOWS + STEPS][FEATURES];
    uint32_t starts[WINDOWS];
    for (uint32_t w = 0; w < WINDOWS; w++)
        starts[w] = w;
    test_random(series[0], (WINDOWS + STEPS) * FEATURES, 3, 1);
    for (size_t k = 0; k < LENGTH(stacks); k++) {
        VklModel *model = model_make(stacks[k]);
        uint64_t outputs = vkl_model_outputs(model);
        VklWindows windows = {.struct_size = sizeof(windows),
                              .count = WINDOWS,
                              .steps = STEPS,
                              .features = FEATURES,
                              .outputs = outputs,
                              .rows = WINDOWS + STEPS,
                              .series = series[0],
                              .starts = starts};
        float *want = allocate(WINDOWS * outputs, sizeof(float));
        TEST_OK(context, vkl_model_predict(model, &windows, want));
        VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
        TEST_OK(context, vkl_model_step_sizes(model, WINDOWS, &sizes));
        cr_assert_eq(sizes.x, sizeof(float) * WINDOWS * FEATURES);
        cr_assert_eq(sizes.y, sizeof(float) * WINDOWS * outputs);
        VklStream *stream;
        VklSlice weights;
        uint64_t bytes;
        TEST_OK(context, vkl_stream_create(device, &stream));
        TEST_OK(context, vkl_model_params(model, &weights, &bytes));
        cr_assert_eq(bytes, sizes.params);
        const uint32_t all = WINDOWS;
        float *zeros = allocate(sizes.state / 4, sizeof(float)), number;
        memcpy(&number, &all, sizeof(number));
        Placed params = placed_make(device, NULL, sizes.params / 4, true), x = placed_make(device, NULL, sizes.x / 4, false),
               y = placed_make(device, NULL, sizes.y / 4, false), state = placed_make(device, zeros, sizes.state / 4, false),
               count = placed_make(device, &number, 1, false), workspace = placed_make(device, NULL, sizes.workspace / 4, true);
        TEST_OK(context, vkl_stream_copy(stream, params.slice, weights, bytes));
        VklModelStep step = vkl_model_step_args(WINDOWS);
        step.params = k % 2 ? params.slice : (VklSlice){0};
        step.x = x.slice;
        step.y = y.slice;
        step.state = state.slice;
        step.count = k % 3 ? count.slice : (VklSlice){0};
        step.workspace = workspace.slice;
        for (uint32_t t = 0; t < STEPS; t++) {
            TEST_OK(context, vkl_upload(stream, x.slice, series[t], sizes.x)); /* window w begins at row w */
            TEST_OK(context, vkl_model_step(model, stream, &step));
        }
        TEST_OK(context, vkl_stream_submit(stream, NULL));
        TEST_OK(context, vkl_stream_wait(stream));
        float *got = placed_take(device, &y, "y");
        /* three layers at most, sums of at most 22 terms, errors of a step carried through the others */
        test_compare_f(stacks[k], got, want, WINDOWS * outputs, STEPS * 3 * 0x1p-24 * (32 + 2 * sqrt(22)));
        free(placed_take(device, &state, "state"));
        free(placed_take(device, &workspace, "workspace"));
        Placed *arrays[] = {&params, &x, &y, &state, &count, &workspace};
        for (size_t i = 0; i < LENGTH(arrays); i++)
            vkl_buffer_destroy(arrays[i]->buffer);
        free(got);
        free(want);
        free(zeros);
        vkl_stream_destroy(stream);
        vkl_model_destroy(model);
    }
}

Test(step, models_refuse_by_name)
{
    VklModel *model = model_make("bilstm:5,dense:1"), *good = model_make("lstm:5,dense:1");
    VklModelStepSizes sizes = {.struct_size = sizeof(sizes)};
    check_refusal("both", vkl_model_step_sizes(model, 4, &sizes), VKL_ERROR_UNSUPPORTED, vkl_model_error(model), "layer 0");
    sizes.struct_size++;
    check_refusal("struct", vkl_model_step_sizes(good, 4, &sizes), VKL_ERROR_INVALID, vkl_model_error(good), "struct_size");
    sizes.struct_size--;
    check_refusal("N", vkl_model_step_sizes(good, 0, &sizes), VKL_ERROR_INVALID, vkl_model_error(good), "N is 0");
    VklModelStep args = vkl_model_step_args(4);
    VklExec *exec = NULL;
    check_refusal("x", vkl_model_prepare_step(good, &args, &exec), VKL_ERROR_INVALID, vkl_model_error(good), "no buffer");
    check_refusal("stream", vkl_model_step(good, NULL, &args), VKL_ERROR_INVALID, vkl_model_error(good), "stream");
    vkl_model_destroy(model);
    vkl_model_destroy(good);
}

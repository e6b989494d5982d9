/* SPDX-License-Identifier: MIT
 *
 * variants [brief] : which kernels the planner picks for a device, with which specialization constants, as rows for `statistics`.
 *
 * Plans are built for the first Vulkan device, whose properties are read and which is not opened: a driver without its device will do. They are those of
 * the shapes that docs/performance.md names, of layers from 50 to 2,048 units with one, a few and many rows, of every row of the table of
 * options with the usual activations (tools/covering.h), of each activation once, and of what stands around layers in a training step. After a line that names the device, a row is printed once, with how many kernel calls of
 * all these plans are of it, and the first plan that has it; a kernel that no plan has stands there too, with its own constants and 0 calls:
 *     # DEVICE, DRIVER
 *     KERNEL BINDINGS ID=VALUE,...[@SUBGROUP] CALLS PLAN
 *
 * brief: without the table of options, whose kernels are much alike.
 *
 * Exit status: 0; 1 a plan failed; 2 no Vulkan device. */
#include <inttypes.h>
#include <stdio.h>

#include "../../lib/internal.h"
#include "../../lib/plan_dense.h"
#include "../../lib/plan_rnn.h"
#include "../../tools/covering.h"

#define MAX_ROWS 4096
#define MAX_DEVICES 16

typedef struct Row {
    uint16_t kernel;
    uint32_t spec[VKL_SPEC_COUNT];
    uint64_t calls;
    char plan[128];
} Row;

typedef struct Rows {
    const VklCaps *caps;
    Row row[MAX_ROWS];
    size_t count;
    bool failed;
} Rows;

static void add(Rows *rows, const VklOp *op, const char *name)
{
    for (size_t i = 0; i < rows->count; i++)
        if (rows->row[i].kernel == op->kernel && !memcmp(rows->row[i].spec, op->spec, sizeof op->spec)) {
            rows->row[i].calls++;
            return;
        }
    if (rows->count == MAX_ROWS) {
        rows->failed = true;
        return;
    }
    Row *row = &rows->row[rows->count++];
    row->kernel = op->kernel;
    memcpy(row->spec, op->spec, sizeof op->spec);
    row->calls = 1;
    snprintf(row->plan, sizeof row->plan, "%s", name);
}

/* Takes the kernel calls of a plan, and frees it. */
static void take(Rows *rows, VklPlan *plan, const char *name)
{
    if (plan->status) {
        fprintf(stderr, "variants: %s: %s\n", name, plan->error);
        rows->failed = true;
    }
    for (size_t i = 0; i < plan->count; i++)
        add(rows, &plan->ops[i], name);
    vkl_plan_finish(plan);
}

/* ---- Layers ---- */

static VklArray whole(VklSlot slot, bool there)
{
    return there ? vkl_array(slot, 0) : VKL_NO_ARRAY;
}

/* Inference, and training with every gradient. */
static void take_layer(Rows *rows, const VklRnnDesc *desc, uint64_t T, uint64_t N, bool lengths, bool states, const char *name)
{
    bool cell = desc->cell == VKL_CELL_LSTM;
    VklRnnPass pass = {.desc = desc,
                       .T = T,
                       .N = N,
                       .params = whole(VKL_SLOT_PARAMS, true),
                       .x = whole(VKL_SLOT_X, true),
                       .lengths = whole(VKL_SLOT_LENGTHS, lengths),
                       .h0 = whole(VKL_SLOT_H0, states),
                       .c0 = whole(VKL_SLOT_C0, states && cell),
                       .y = whole(VKL_SLOT_Y, true),
                       .hn = whole(VKL_SLOT_HN, states),
                       .cn = whole(VKL_SLOT_CN, states && cell),
                       .reserve = whole(VKL_SLOT_RESERVE, false),
                       .workspace = whole(VKL_SLOT_WORKSPACE, true),
                       .gy = whole(VKL_SLOT_GY, true),
                       .ghn = whole(VKL_SLOT_GHN, states),
                       .gcn = whole(VKL_SLOT_GCN, states && cell),
                       .dx = whole(VKL_SLOT_DX, true),
                       .dh0 = whole(VKL_SLOT_DH0, states),
                       .dc0 = whole(VKL_SLOT_DC0, states && cell),
                       .dparams = whole(VKL_SLOT_GRADS, true),
                       .state = VKL_NO_ARRAY};
    VklPlan plan;
    for (int training = 0; training < 2; training++) {
        char full[128];
        pass.training = training;
        pass.reserve = whole(VKL_SLOT_RESERVE, training);
        snprintf(full, sizeof full, "%.90s, %s", name, training ? "training, forward" : "inference");
        vkl_plan_init(&plan, rows->caps);
        vkl_plan_rnn_forward(&plan, &pass);
        take(rows, &plan, full);
    }
    char full[128];
    snprintf(full, sizeof full, "%.90s, training, backward", name);
    vkl_plan_init(&plan, rows->caps);
    vkl_plan_rnn_backward(&plan, &pass);
    take(rows, &plan, full);
}

typedef struct Cell {
    const char *name;
    VklCell cell;
    bool before;
} Cell;

/* As it is chosen; a dispatch for each step, which a caller can ask for; and with halves. */
static void take_paths(Rows *rows, VklRnnDesc desc, uint64_t T, uint64_t N, const char *name)
{
    char full[96];
    take_layer(rows, &desc, T, N, false, false, name);
    desc.path = VKL_RNN_PATH_STEP;
    snprintf(full, sizeof full, "%.80s by steps", name);
    take_layer(rows, &desc, T, N, false, false, full);
    desc.path = VKL_RNN_PATH_AUTO;
    desc.storage = VKL_STORAGE_FLOAT16;
    snprintf(full, sizeof full, "%.80s halves", name);
    take_layer(rows, &desc, T, N, false, false, full);
}

static void take_cells(Rows *rows, uint64_t T, uint64_t N, uint64_t I, uint64_t H)
{
    static const Cell cells[] = {
        {"LSTM", VKL_CELL_LSTM, false},
        {"GRU", VKL_CELL_GRU, false},
        {"GRU, reset before", VKL_CELL_GRU, true},
        {"RNN", VKL_CELL_RNN_TANH, false},
    };
    for (size_t k = 0; k < sizeof cells / sizeof *cells; k++) {
        VklRnnDesc desc = vkl_rnn_desc(cells[k].cell, I, H);
        char name[96];
        desc.reset_after = !cells[k].before;
        snprintf(name, sizeof name, "%s T%" PRIu64 " B%" PRIu64 " I%" PRIu64 " H%" PRIu64, cells[k].name, T, N, I, H);
        take_paths(rows, desc, T, N, name);
    }
}

static void take_sizes(Rows *rows)
{
    /* T, batch, inputs, units */
    static const uint64_t named[][4] = {
        {100, 32, 8, 64}, {64, 32, 128, 256}, {50, 64, 512, 512}, {100, 1, 128, 256}, {1, 1, 1, 50}};
    static const uint64_t units[] = {50, 64, 128, 256, 512, 1024, 2048};
    static const uint64_t batches[] = {1, 16, 64};
    for (size_t k = 0; k < sizeof named / sizeof *named; k++)
        take_cells(rows, named[k][0], named[k][1], named[k][2], named[k][3]);
    for (size_t k = 0; k < sizeof units / sizeof *units; k++)
        for (size_t n = 0; n < sizeof batches / sizeof *batches; n++)
            take_cells(rows, 25, batches[n], units[k], units[k]);
    static const VklCell stacks[] = {VKL_CELL_LSTM, VKL_CELL_GRU, VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU};
    for (size_t k = 0; k < sizeof stacks / sizeof *stacks; k++)
        for (size_t n = 0; n < sizeof batches / sizeof *batches; n++) {
            VklRnnDesc side_by_side = vkl_rnn_desc(stacks[k], 64, 256);
            char name[96];
            side_by_side.layers = 3;
            side_by_side.path = VKL_RNN_PATH_WAVEFRONT;
            snprintf(name, sizeof name, "3 layers of cell %d side by side T25 B%" PRIu64 " I64 H256", (int)stacks[k], batches[n]);
            take_layer(rows, &side_by_side, 25, batches[n], false, false, name);
        }
    VklRnnDesc deep = vkl_rnn_desc(VKL_CELL_LSTM, 64, 256);
    deep.layers = 3;
    take_layer(rows, &deep, 25, 16, false, false, "LSTM of 3 layers T25 B16 I64 H256");
    deep.direction = VKL_DIRECTION_BOTH;
    take_layer(rows, &deep, 25, 16, false, false, "LSTM of 3 layers, both directions, T25 B16 I64 H256");
}

static void take_options(Rows *rows)
{
    static CoveringRow table[COVERING_CAPACITY];
    size_t count = covering_table(table, true); /* other activations below: with every other option they would be hundreds */
    for (size_t k = 0; k < count; k++) {
        Problem problem;
        if (covering_problem(&table[k], &problem))
            take_layer(rows, &problem.run.desc, problem.run.T, problem.run.N, problem.lengths != NULL, true, problem.label);
        else
            rows->failed = true;
        problem_free(&problem);
    }
    static const VklCell cells[] = {VKL_CELL_LSTM, VKL_CELL_GRU, VKL_CELL_RNN_TANH};
    for (int kind = VKL_GATE_SIGMOID; kind <= VKL_GATE_SOFTPLUS; kind++) {
        size_t cell = (size_t)kind % (sizeof cells / sizeof *cells);
        VklRnnDesc desc = vkl_rnn_desc(cells[cell], 3, 5);
        char name[96];
        for (int role = 0; role < 3; role++)
            desc.activations[0][role] = vkl_gate_activation((VklGateActivation)kind);
        snprintf(name, sizeof name, "activation %d", kind);
        take_layer(rows, &desc, 5, 6, false, true, name);
    }
}

/* ---- What stands around layers ---- */

static void take_dense(Rows *rows, uint64_t N, uint64_t I, uint64_t O)
{
    VklDenseDesc desc = vkl_dense_desc(I, O, VKL_ACTIVATION_TANH);
    VklDensePass pass = {.desc = &desc,
                         .rows = N,
                         .params = whole(VKL_SLOT_PARAMS, true),
                         .x = whole(VKL_SLOT_X, true),
                         .y = whole(VKL_SLOT_Y, true),
                         .gy = whole(VKL_SLOT_GY, true),
                         .dx = whole(VKL_SLOT_DX, true),
                         .dparams = whole(VKL_SLOT_GRADS, true),
                         .workspace = whole(VKL_SLOT_WORKSPACE, true)};
    char name[96];
    VklPlan plan;
    snprintf(name, sizeof name, "dense B%" PRIu64 " I%" PRIu64 " O%" PRIu64, N, I, O);
    vkl_plan_init(&plan, rows->caps);
    vkl_plan_dense_forward(&plan, &pass);
    vkl_plan_dense_backward(&plan, &pass);
    take(rows, &plan, name);
}

static void take_step(Rows *rows)
{
    VklPlan plan;
    vkl_plan_init(&plan, rows->caps);
    vkl_plan_gather(&plan, &(VklGather){.steps = 24,
                                        .rows = 32,
                                        .features = 5,
                                        .outputs = 1,
                                        .data = whole(VKL_SLOT_DATA, true),
                                        .starts_at = 8192,
                                        .targets_at = 16384,
                                        .data_count = 32768,
                                        .state = whole(VKL_SLOT_STATE, true),
                                        .order_at = 64,
                                        .order_count = 1024,
                                        .x = whole(VKL_SLOT_RESERVE, true),
                                        .target = vkl_array(VKL_SLOT_RESERVE, 65536)});
    VklDraw draw = {.seed = 1, .state = VKL_NO_ARRAY, .p = 0.5};
    vkl_plan_move(&plan, &(VklMove){.dst = whole(VKL_SLOT_WORKSPACE, true),
                                    .src = whole(VKL_SLOT_RESERVE, true),
                                    .steps = 24,
                                    .rows = 32,
                                    .columns = 64,
                                    .dst_step = 2048,
                                    .dst_row = 64,
                                    .src_step = 2048,
                                    .src_row = 64,
                                    .draw = &draw});
    vkl_plan_loss(&plan, &(VklLossOp){.kind = VKL_LOSS_MSE,
                                      .rows = 32,
                                      .outputs = 1,
                                      .predicted = whole(VKL_SLOT_PREDICTED, true),
                                      .target = whole(VKL_SLOT_TARGET, true),
                                      .gradient = whole(VKL_SLOT_GRADIENT, true),
                                      .out = whole(VKL_SLOT_LOSS, true),
                                      .out_count = 1});
    take(rows, &plan, "around layers");
    for (int kind = 0; kind <= VKL_OPTIMIZER_ADAMW; kind++) {
        VklOptimizerDesc desc = vkl_optimizer_desc((VklOptimizerKind)kind);
        desc.clip_norm = 1;
        vkl_plan_init(&plan, rows->caps);
        vkl_plan_optimize(&plan, &(VklOptimize){.desc = &desc,
                                                .count = 100000,
                                                .params = whole(VKL_SLOT_PARAMS, true),
                                                .grads = whole(VKL_SLOT_STEP_GRADS, true),
                                                .moments = whole(VKL_SLOT_MOMENTS, true),
                                                .state = whole(VKL_SLOT_STATE, true),
                                                .partial = whole(VKL_SLOT_WORKSPACE, true),
                                                .advance = true});
        take(rows, &plan, "optimizer of 100000 parameters");
    }
}

/* ---- Everything ---- */

static bool find_caps(VklContext *context, VklCaps *caps, VklDeviceInfo *info)
{
    VklDeviceInfo infos[MAX_DEVICES];
    uint32_t count = MAX_DEVICES;
    for (uint32_t i = 0; i < count; i++)
        infos[i].struct_size = sizeof *infos;
    if (vkl_device_list(context, &count, infos) != VKL_OK)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (infos[i].type != VKL_DEVICE_CPU) {
            vkl_caps_from_info(caps, &infos[i]);
            *info = infos[i];
            return true;
        }
    return false;
}

static void print(const Rows *rows)
{
    bool there[VKL_KERNEL_COUNT] = {false};
    for (size_t i = 0; i < rows->count; i++) {
        const Row *row = &rows->row[i];
        there[row->kernel] = true;
        printf("%s %" PRIu32 " ", vkl_kernel_info[row->kernel].name, vkl_kernel_info[row->kernel].bindings);
        for (int id = 0; id < VKL_SPEC_COUNT; id++)
            printf("%s%d=%" PRIu32, id ? "," : "", id, row->spec[id]);
        if (row->spec[VKL_SPEC_SUBGROUP])
            printf("@%" PRIu32, row->spec[VKL_SPEC_SUBGROUP]);
        printf(" %" PRIu64 " %s\n", row->calls, row->plan);
    }
    for (int kernel = 0; kernel < VKL_KERNEL_COUNT; kernel++)
        if (!there[kernel])
            printf("%s %" PRIu32 " 0=%" PRIu32 " 0 no plan\n", vkl_kernel_info[kernel].name, vkl_kernel_info[kernel].bindings,
                   rows->caps->workgroup);
}

int main(int argc, char **argv)
{
    const bool brief = argc > 1 && !strcmp(argv[1], "brief");
    static Rows rows;
    VklCaps caps;
    VklDeviceInfo info;
    VklContext *context = NULL;
    if (vkl_context_create(NULL, &context) != VKL_OK || !find_caps(context, &caps, &info)) {
        fprintf(stderr, "variants: no Vulkan device%s%s\n", context ? ": " : "", context ? vkl_context_error(context) : "");
        vkl_context_destroy(context);
        return 2;
    }
    rows.caps = &caps;
    take_sizes(&rows);
    if (!brief)
        take_options(&rows);
    take_dense(&rows, 32, 64, 1);
    take_dense(&rows, 1600, 512, 512);
    take_step(&rows);
    printf("# %s, %s\n", info.name, info.driver);
    print(&rows);
    vkl_context_destroy(context);
    return rows.failed;
}

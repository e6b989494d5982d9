/* SPDX-License-Identifier: MIT
 *
 * The kernels of many time steps in every shape that a GPU may get, on whatever Vulkan device runs the test, against their twins of the CPU
 * backend, which tests/test_operator.c holds against the reference. Memory around each array must stay as it was, and a second run
 * must give the same bits.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PAD 8 /* elements before and after each array; odd where alignment does not matter */

static VklContext *context;
static VklDevice *device, *host;

static void begin(void)
{
    context = test_context();
    device = test_device(context);
    host = test_device_cpu(context);
}

static void end(void)
{
    vkl_device_destroy(host);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

TestSuite(sequence, .init = begin, .fini = end);

/* ---- What the kernels work on ---- */

enum { GATES, PARAMS, HIDDEN, CELL, GY, CARRY, ARRAYS };
static const VklSlot slot_of[ARRAYS] = {VKL_SLOT_WORKSPACE, VKL_SLOT_PARAMS, VKL_SLOT_Y,
                                        VKL_SLOT_C0,        VKL_SLOT_GY,     VKL_SLOT_GRADS};
static const uint64_t pad_of[ARRAYS] = {PAD - 1, PAD, PAD - 1, PAD - 1, PAD - 1, PAD - 1};

typedef struct Case {
    uint32_t cell;
    uint64_t rows, units, steps, directions;
    bool down, keep, plain_edges; /* plain_edges: backward without gy, next step, carry, dc */
    uint32_t parallel;            /* of the device: how soon an invocation gets several rows */
    uint64_t window;              /* 0: the device's */
    unsigned chips;
} Case;

/* Arrays as a pass would have them: gates [steps + 2][rows][ld] and c [steps + 2][rows][units] for each direction, h of both in a row. */
typedef struct Memory {
    float *data[ARRAYS];
    uint64_t count[ARRAYS]; /* with the padding */
    uint64_t columns, width, gates_ld, h_ld, gy_ld, block;
} Memory;

static float *floats(uint64_t count)
{
    float *made = calloc(count ? count : 1, sizeof(float));
    cr_assert_not_null(made);
    return made;
}

static uint64_t whole(const Case *t, uint64_t row)
{
    return (t->steps + 2) * t->rows * row;
}

static Memory memory_new(const Case *t)
{
    uint64_t gates = t->cell == VKL_SEQUENCE_LSTM ? 4 : t->cell == VKL_SEQUENCE_GRU ? 3 : 1;
    Memory memory = {.columns = gates * t->units, .block = t->rows * t->units};
    memory.width = (t->cell == VKL_SEQUENCE_GRU ? 4 : gates) * t->units;
    memory.gates_ld =
        memory.width + (t->cell == VKL_SEQUENCE_LSTM ? 0 : 3); /* an LSTM's rows have no gaps: its step kernels know none */
    memory.h_ld = 2 * t->units + 1;
    memory.gy_ld = 2 * t->units + 5;
    memory.count[GATES] = 2 * whole(t, memory.gates_ld);
    memory.count[PARAMS] = 2 * (memory.columns * t->units + 4) + 2 * 3 * t->units;
    memory.count[HIDDEN] = whole(t, memory.h_ld);
    memory.count[CELL] = 2 * (whole(t, t->units) + 2 * memory.block);
    memory.count[GY] = whole(t, memory.gy_ld);
    memory.count[CARRY] = 2 * memory.block;
    for (int i = 0; i < ARRAYS; i++) {
        /* weights as they are drawn for a layer, so that sums stay of the size of one */
        float scale = i == PARAMS ? 1.0f / sqrtf((float)t->units) : 1.0f;
        memory.count[i] += 2 * PAD;
        memory.data[i] = floats(memory.count[i]);
        test_random(memory.data[i], memory.count[i], (uint32_t)i + 5, scale);
    }
    return memory;
}

static Memory memory_copy(const Memory *of)
{
    Memory memory = *of;
    for (int i = 0; i < ARRAYS; i++) {
        memory.data[i] = floats(of->count[i]);
        memcpy(memory.data[i], of->data[i], of->count[i] * sizeof(float));
    }
    return memory;
}

static void memory_free(Memory *memory)
{
    for (int i = 0; i < ARRAYS; i++)
        free(memory->data[i]);
}

static VklArray array(int which, uint64_t at)
{
    return vkl_array(slot_of[which], pad_of[which] + at);
}

static uint64_t params_at(const Case *t, const Memory *memory, uint64_t d)
{
    return d * ((memory->columns * t->units + 3) / 4 * 4);
}

static VklSequence sequence_of(const Case *t, const Memory *memory, bool backward)
{
    VklSequence sequence = {
        .cell = t->cell,
        .rows = t->rows,
        .units = t->units,
        .steps = t->steps,
        .directions = t->directions,
        .down = t->down,
        .gates_step = t->rows * memory->gates_ld,
        .h_step = t->rows * memory->h_ld,
        .c_step = memory->block,
        .gy_step = t->rows * memory->gy_ld,
        .gates_ld = memory->gates_ld,
        .h_ld = memory->h_ld,
        .gy_ld = memory->gy_ld,
        .keep = t->keep,
        .carried = backward && !t->plain_edges,
    };
    for (uint64_t d = 0; d < t->directions; d++) {
        bool down = t->down != (d == 1), lstm = t->cell == VKL_SEQUENCE_LSTM, gru = t->cell == VKL_SEQUENCE_GRU;
        uint64_t first = down ? t->steps : 1, before = down ? t->steps + 1 : 0, last = down ? 1 : t->steps; /* slots */
        uint64_t gates = d * whole(t, memory->gates_ld), c = d * (whole(t, t->units) + 2 * memory->block);
        uint64_t far = whole(t, t->units);
        VklSequenceSide *side = &sequence.side[d];
        *side = (VklSequenceSide){.gates_next = VKL_NO_ARRAY,
                                  .bias = VKL_NO_ARRAY,
                                  .c = VKL_NO_ARRAY,
                                  .gy = VKL_NO_ARRAY,
                                  .dc_in = VKL_NO_ARRAY,
                                  .dc_out = VKL_NO_ARRAY,
                                  .carry = VKL_NO_ARRAY};
        side->gates = array(GATES, gates + first * sequence.gates_step);
        side->w = array(PARAMS, params_at(t, memory, d));
        if (gru && !backward && !t->plain_edges)
            side->bias = array(PARAMS, params_at(t, memory, 2) + d * 3 * t->units);
        /* h before the first step: backward it is a slot further on its way */
        side->h = array(HIDDEN, (backward ? (down ? first - 1 : first + 1) : before) * sequence.h_step + d * t->units);
        if (lstm)
            side->c = array(CELL, c + (backward ? first : before) * sequence.c_step);
        if (backward && lstm)
            side->dc_out = array(CELL, t->plain_edges ? c + last * sequence.c_step : c + far + memory->block);
        if (backward && (gru || !t->plain_edges))
            side->carry = array(CARRY, d * memory->block);
        if (backward && !t->plain_edges) {
            side->gates_next = array(GATES, gates + before * sequence.gates_step);
            side->gy = array(GY, first * sequence.gy_step + d * t->units);
            if (lstm)
                side->dc_in = array(CELL, c + far);
        }
    }
    return sequence;
}

/* Runs the sequence on `memory` in place. */
static void run(VklDevice *on, const VklCaps *caps, const VklSequence *sequence, bool backward, Memory *memory, size_t *ops)
{
    VklPlan plan;
    VklExec *exec = NULL;
    VklStream *stream;
    VklSlice slices[VKL_SLOT_COUNT] = {{0}};
    VklBuffer *buffers[ARRAYS];
    vkl_plan_init(&plan, caps);
    (backward ? vkl_plan_sequence_backward : vkl_plan_sequence_forward)(&plan, sequence);
    cr_assert_eq(plan.status, VKL_OK, "%s", plan.error);
    if (ops)
        *ops = plan.count;
    TEST_OK(context, vkl_stream_create(on, &stream));
    for (int i = 0; i < ARRAYS; i++) {
        buffers[i] = test_buffer(on, memory->data[i], memory->count[i]);
        slices[slot_of[i]] = vkl_slice(buffers[i], 0);
    }
    TEST_OK(context, vkl_exec_create(on, &plan, slices, "test", NULL, &exec));
    TEST_OK(context, vkl_exec_record(exec, stream));
    TEST_OK(context, vkl_stream_wait(stream));
    for (int i = 0; i < ARRAYS; i++) {
        test_read(on, buffers[i], memory->data[i], memory->count[i]);
        vkl_buffer_destroy(buffers[i]);
    }
    vkl_exec_release(exec);
    vkl_stream_destroy(stream);
    vkl_plan_finish(&plan);
}

/* ---- Shapes ---- */

typedef struct Chip {
    const char *name;
    uint32_t vendor, invocations, shared_memory;
} Chip;

/* Bits of a case's `chips`. */
enum { LEAST = 1, AMD = 2, INTEL = 4, ADRENO = 8, OTHER = 16 };

static const Chip chips[] = {
    {"least", 0, 128, 16384},
    {"AMD", VKL_VENDOR_AMD, 1024, 65536},
    {"Intel", VKL_VENDOR_INTEL, 1024, 49152},
    {"Adreno", VKL_VENDOR_QUALCOMM, 1024, 32768},
    {"another", 0, 1024, 32768},
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* A GPU's caps, as far as the device of the test can do what it would. */
static VklCaps caps_of(const Chip *chip, const Case *t)
{
    VklCaps caps = device->caps;
    caps.arch = VKL_ARCH_GPU;
    caps.vendor = chip->vendor;
    caps.workgroup_invocations = least(caps.workgroup_invocations, chip->invocations);
    caps.shared_memory = least(caps.shared_memory, chip->shared_memory);
    caps.parallel = t->parallel;
    if (t->window)
        caps.storage_range = 2 * (uint64_t)caps.storage_alignment + 4 * t->window;
    return caps;
}

/* More and fewer rows than a workgroup has, sizes that miss every slice and four, and of each cell one that no registers hold. */
static const Case cases[] = {
    {VKL_SEQUENCE_LSTM, 1, 1, 1, 1, false, true, true, 16384, 0, LEAST},
    {VKL_SEQUENCE_LSTM, 70, 3, 4, 1, false, true, false, 16384, 0, LEAST},
    {VKL_SEQUENCE_LSTM, 5, 17, 4, 2, false, true, false, 1, 0, AMD | OTHER},
    {VKL_SEQUENCE_LSTM, 3, 64, 3, 2, true, false, true, 16384, 0, LEAST | AMD},
    {VKL_SEQUENCE_LSTM, 7, 64, 3, 1, false, true, false, 1, 0, AMD | INTEL},
    {VKL_SEQUENCE_LSTM, 9, 65, 3, 1, true, true, false, 1, 0, AMD},
    {VKL_SEQUENCE_LSTM, 3, 128, 2, 1, false, true, false, 1, 0, AMD | ADRENO},
    {VKL_SEQUENCE_LSTM, 2, 257, 2, 2, true, true, true, 16384, 0, LEAST},
    {VKL_SEQUENCE_GRU, 1, 1, 2, 1, false, true, false, 16384, 0, LEAST},
    {VKL_SEQUENCE_GRU, 33, 3, 4, 2, false, true, false, 16384, 0, LEAST},
    {VKL_SEQUENCE_GRU, 5, 17, 4, 2, true, false, true, 1, 0, AMD},
    {VKL_SEQUENCE_GRU, 9, 64, 3, 1, false, true, false, 1, 0, AMD | OTHER},
    {VKL_SEQUENCE_GRU, 2, 130, 2, 2, true, true, false, 16384, 0, INTEL},
    {VKL_SEQUENCE_GRU, 2, 257, 2, 1, false, true, true, 16384, 0, LEAST},
    {VKL_SEQUENCE_RNN_TANH, 70, 3, 4, 1, false, true, true, 16384, 0, LEAST},
    {VKL_SEQUENCE_RNN_TANH, 5, 65, 3, 2, true, true, false, 1, 0, AMD},
    {VKL_SEQUENCE_RNN_RELU, 3, 17, 4, 2, false, true, true, 16384, 0, OTHER},
    {VKL_SEQUENCE_RNN_RELU, 2, 257, 3, 1, true, false, false, 16384, 0, AMD},
};

/* Two sums of random signs, as docs/numerics.md has it, that go through a cell in each step; those of the steps before count less. */
static double tolerance(const Memory *memory)
{
    return 4 * (1e-6 + 2e-7 * sqrt((double)memory->columns));
}

/* Of c, backward writes what goes to the c before the last step, and may leave dc of other steps where their c was. */
static void forget_between(const VklSequence *sequence, uint64_t d, Memory *memory, const Memory *initial)
{
    uint64_t kept = sequence->side[d].dc_out.at, first = sequence->side[d].c.at;
    bool down = sequence->down != (d == 1);
    for (uint64_t s = 0; s < sequence->steps; s++) {
        uint64_t at = down ? first - s * sequence->c_step : first + s * sequence->c_step;
        if (at != kept)
            memcpy(memory->data[CELL] + at, initial->data[CELL] + at, sequence->c_step * sizeof(float));
    }
}

static void compare(const Case *t, const char *what, const VklSequence *sequence, bool backward, const Memory *initial,
                    Memory *got, Memory *want)
{
    static const char *const names[ARRAYS] = {"gates", "params", "h", "c", "gy", "carry"};
    for (uint64_t d = 0; backward && t->cell == VKL_SEQUENCE_LSTM && d < t->directions; d++) {
        forget_between(sequence, d, got, initial);
        forget_between(sequence, d, want, initial);
    }
    for (int i = 0; i < ARRAYS; i++) {
        char label[200];
        snprintf(label, sizeof(label), "%s, cell %u, %llu x %llu, %s: %s", what, t->cell, (unsigned long long)t->rows,
                 (unsigned long long)t->units, backward ? "backward" : "forward", names[i]);
        test_compare_f(label, got->data[i], want->data[i], got->count[i], tolerance(got));
        /* what neither changed is there to the bit */
        for (uint64_t k = 0; k < got->count[i]; k++)
            cr_assert(memcmp(&want->data[i][k], &initial->data[i][k], sizeof(float)) ||
                          !memcmp(&got->data[i][k], &initial->data[i][k], sizeof(float)),
                      "%s: element %llu is not the kernel's", label, (unsigned long long)k);
    }
}

static void same_bits(const char *what, const Memory *a, const Memory *b)
{
    for (int i = 0; i < ARRAYS; i++)
        cr_assert(!memcmp(a->data[i], b->data[i], a->count[i] * sizeof(float)), "%s: other bits in array %d", what, i);
}

/* Which kinds of shapes have been run, so that none goes untested when the choice of them changes. */
typedef struct Seen {
    bool all_held, part_held, none_held, one_slice, slices, row_lanes, rows2, rows4, passes;
} Seen;

static void see(Seen *seen, const Case *t, const VklCaps *caps, bool backward)
{
    VklSequenceShape shape;
    bool pays;
    uint64_t columns = (t->cell == VKL_SEQUENCE_LSTM ? 4 : t->cell == VKL_SEQUENCE_GRU ? 3 : 1) * t->units;
    cr_assert(vkl_tune_sequence(caps, t->cell, t->rows, t->units, backward, &shape, &pays));
    cr_assert_eq(shape.kernel, backward ? VKL_KERNEL_SEQUENCE_BACKWARD : VKL_KERNEL_SEQUENCE_FORWARD);
    uint64_t fours = ((backward ? columns : t->units) + 3) / 4, groups = ((backward ? t->units : columns) + 3) / 4;
    uint32_t slices = shape.spec[VKL_SEQUENCE_SPEC_SLICES], held = shape.spec[VKL_SEQUENCE_SPEC_HELD];
    uint64_t slice = (fours + slices - 1) / slices;
    seen->none_held |= !held;
    seen->part_held |= held && held < slice;
    seen->all_held |= held == slice;
    seen->one_slice |= slices == 1;
    seen->slices |= slices > 1;
    seen->row_lanes |= shape.spec[VKL_SEQUENCE_SPEC_ROW_LANES] > 1;
    seen->rows2 |= shape.spec[VKL_SEQUENCE_SPEC_LANE_ROWS] == 2;
    seen->rows4 |= shape.spec[VKL_SEQUENCE_SPEC_LANE_ROWS] == 4;
    seen->passes |= shape.spec[VKL_SEQUENCE_SPEC_GROUP_LANES] < groups;
}

static void check(const char *name, const VklCaps *caps, const Case *t, bool backward)
{
    Memory initial = memory_new(t), got = memory_copy(&initial), again = memory_copy(&initial), want = memory_copy(&initial);
    VklSequence sequence = sequence_of(t, &initial, backward);
    run(host, &host->caps, &sequence, backward, &want, NULL);
    run(device, caps, &sequence, backward, &got, NULL);
    run(device, caps, &sequence, backward, &again, NULL);
    same_bits(name, &got, &again);
    compare(t, name, &sequence, backward, &initial, &got, &want);
    memory_free(&initial);
    memory_free(&got);
    memory_free(&again);
    memory_free(&want);
}

Test(sequence, every_shape_of_a_gpu_agrees_with_the_cpu)
{
    Seen seen = {0};
    for (size_t k = 0; k < COUNT(cases); k++)
        for (int backward = 0; backward < 2; backward++) {
            for (size_t c = 0; c < COUNT(chips); c++) {
                VklCaps caps = caps_of(&chips[c], &cases[k]);
                if (!(cases[k].chips & 1u << c))
                    continue;
                see(&seen, &cases[k], &caps, backward);
                check(chips[c].name, &caps, &cases[k], backward);
            }
        }
    cr_assert(seen.all_held && seen.part_held && seen.none_held, "weights held: all %d, part %d, none %d", seen.all_held,
              seen.part_held, seen.none_held);
    cr_assert(seen.one_slice && seen.slices && seen.passes, "one slice %d, several %d, passes %d", seen.one_slice, seen.slices,
              seen.passes);
    cr_assert(seen.row_lanes && seen.rows2 && seen.rows4, "rows: lanes %d, two %d, four %d", seen.row_lanes, seen.rows2,
              seen.rows4);
}

/* On devices that are CPUs subgroups do the work: those with as many rows as lanes, more and fewer, alone or with the units divided among
 * them. `parallel` counts processors here. */
Test(sequence, every_shape_of_a_software_device_agrees_with_the_cpu)
{
    static const Case software[] = {
        {VKL_SEQUENCE_LSTM, 1, 1, 1, 1, false, true, true, 1, 0, 0},
        {VKL_SEQUENCE_LSTM, 1, 50, 5, 1, false, true, false, 1, 0, 0},
        {VKL_SEQUENCE_LSTM, 1, 257, 3, 2, false, true, false, 64, 0, 0},
        {VKL_SEQUENCE_LSTM, 70, 3, 4, 1, true, true, false, 2, 0, 0},
        {VKL_SEQUENCE_LSTM, 5, 17, 4, 2, false, false, true, 1, 0, 0},
        {VKL_SEQUENCE_LSTM, 8, 64, 3, 2, true, false, false, 2, 0, 0},
        {VKL_SEQUENCE_LSTM, 33, 64, 3, 1, false, true, false, 2, 0, 0},
        {VKL_SEQUENCE_LSTM, 32, 64, 6, 1, false, true, true, 2, 0, 0},
        {VKL_SEQUENCE_LSTM, 9, 300, 3, 1, true, true, false, 64, 0, 0},
        {VKL_SEQUENCE_LSTM, 17, 160, 12, 1, false, true, false, 1, 0, 0},
    };
    uint32_t lanes = device->caps.lanes;
    bool fewer = false, more = false, divided = false;
    for (size_t k = 0; k < COUNT(software); k++)
        for (int backward = 0; backward < 2; backward++) {
            VklSequenceShape shape;
            bool pays;
            VklCaps caps = device->caps;
            caps.arch = VKL_ARCH_SOFTWARE;
            caps.processors = software[k].parallel;
            vkl_tune_sequence(&caps, software[k].cell, software[k].rows, software[k].units, backward, &shape, &pays);
            fewer |= shape.group_rows < lanes;
            more |= shape.group_rows > lanes;
            divided |= shape.unit_groups > 1;
            check("software", &caps, &software[k], backward);
        }
    if (lanes == 8) /* lavapipe as it comes */
        cr_assert(fewer && more && divided, "rows: fewer than lanes %d, more %d; units divided %d", fewer, more, divided);
}

/* Training and inference see the same h, and what training leaves in the gates changes no later step. */
Test(sequence, what_is_kept_changes_no_bit_of_h)
{
    for (uint32_t cell = VKL_SEQUENCE_LSTM; cell <= VKL_SEQUENCE_RNN_RELU; cell++) {
        Case t = {cell, 5, 33, 6, 2, false, true, false, 16384, 0, 0};
        Memory kept = memory_new(&t), not = memory_copy(&kept);
        VklCaps caps = caps_of(&chips[1], &t);
        VklSequence sequence = sequence_of(&t, &kept, false);
        run(device, &caps, &sequence, false, &kept, NULL);
        sequence.keep = false;
        run(device, &caps, &sequence, false, &not, NULL);
        cr_assert(!memcmp(kept.data[HIDDEN], not .data[HIDDEN], kept.count[HIDDEN] * sizeof(float)), "cell %u", cell);
        memory_free(&kept);
        memory_free(&not );
    }
}

/* A sequence that one binding does not reach, cut into several dispatches. */
Test(sequence, parts_give_the_bits_of_the_whole)
{
    for (uint32_t cell = VKL_SEQUENCE_LSTM; cell <= VKL_SEQUENCE_RNN_TANH; cell++)
        for (int backward = 0; backward < 2; backward++)
            for (int edges = 0; edges < 2; edges++) {
                Case t = {cell, 3, 20, 30, 2, backward, true, edges, 16384, 0, 0};
                Memory initial = memory_new(&t), once = memory_copy(&initial), parts = memory_copy(&initial);
                VklCaps caps = caps_of(&chips[1], &t);
                VklSequence sequence = sequence_of(&t, &initial, backward);
                size_t ops;
                run(device, &caps, &sequence, backward, &once, &ops);
                cr_assert_eq(ops, 1);
                t.window = 2 * initial.columns * t.units + 200;
                caps = caps_of(&chips[1], &t);
                run(device, &caps, &sequence, backward, &parts, &ops);
                cr_assert_gt(ops, 2);
                for (uint64_t d = 0; backward && cell == VKL_SEQUENCE_LSTM && d < t.directions; d++) {
                    forget_between(&sequence, d, &once, &initial);
                    forget_between(&sequence, d, &parts, &initial);
                }
                same_bits("parts", &once, &parts);
                memory_free(&initial);
                memory_free(&once);
                memory_free(&parts);
            }
}

/* A NaN in one row of what the first step reads goes on in that row, and in no other. */
Test(sequence, nan_stays_in_its_row)
{
    for (uint32_t cell = VKL_SEQUENCE_LSTM; cell <= VKL_SEQUENCE_RNN_RELU; cell++)
        for (int backward = 0; backward < 2; backward++) {
            Case t = {cell, 9, 19, 3, 1, backward, true, false, 1, 0, 0};
            Memory initial = memory_new(&t);
            VklSequence sequence = sequence_of(&t, &initial, backward);
            VklArray h = sequence.side[0].h, gy = sequence.side[0].gy;
            if (backward)
                for (uint64_t u = 0; u < t.units; u++) /* where relu is flat none goes on */
                    initial.data[GY][gy.at + 4 * initial.gy_ld + u] = NAN;
            else
                initial.data[HIDDEN][h.at + 4 * initial.h_ld + 2] = NAN;
            Memory got = memory_copy(&initial), want = memory_copy(&initial);
            VklCaps caps = caps_of(&chips[1], &t);
            run(host, &host->caps, &sequence, backward, &want, NULL);
            run(device, &caps, &sequence, backward, &got, NULL);
            uint64_t seen = 0,
                     at = pad_of[GATES] + t.rows * initial.gates_ld; /* all slots of the first direction but the outermost */
            for (uint64_t k = 0; k < t.steps * t.rows * initial.gates_ld; k++) {
                bool nan = isnan(got.data[GATES][at + k]);
                cr_assert(!nan || k / initial.gates_ld % t.rows == 4);
                seen += nan;
            }
            cr_assert_gt(seen, t.units);
            compare(&t, "NaN", &sequence, backward, &initial, &got, &want);
            memory_free(&initial);
            memory_free(&got);
            memory_free(&want);
        }
}

/* SPDX-License-Identifier: MIT
 *
 * From a device's properties to the choices that plans are built with. Pure functions. */
#include "internal.h"
#include "plan_build.h"

void vkl_limits_lower(VklDeviceLimits *limits, const VklDeviceLimits *lower)
{
    if (!lower)
        return;
#define LOWER(field)                                  \
    if (lower->field && lower->field < limits->field) \
    limits->field = lower->field
    LOWER(storage_range);
    LOWER(allocation_size);
    LOWER(storage_buffers);
    for (int axis = 0; axis < 3; axis++) {
        LOWER(workgroups[axis]);
        LOWER(workgroup_size[axis]);
    }
    LOWER(workgroup_invocations);
    LOWER(shared_memory);
    LOWER(push_constants);
#undef LOWER
    /* a larger alignment is the stricter one */
    if (lower->storage_alignment > limits->storage_alignment)
        limits->storage_alignment = lower->storage_alignment;
}

/* Systems reset a GPU that is busy with one submit for long, some after 2 seconds: half of that on a slow one. Others lose nothing by a few submits
 * more. */
#define SUBMIT_COST 1e9

/* Invocations that keep a large device busy. */
#define PARALLEL_LARGE 16384

void vkl_caps_from_info(VklCaps *caps, const VklDeviceInfo *info)
{
    const VklDeviceLimits *limits = &info->limits;
    *caps = (VklCaps){
        .arch = info->type == VKL_DEVICE_CPU        ? VKL_ARCH_HOST
                : info->type == VKL_DEVICE_SOFTWARE ? VKL_ARCH_SOFTWARE
                                                    : VKL_ARCH_GPU,
        .storage_range = limits->storage_range,
        .storage_alignment = limits->storage_alignment < 16 ? 16 : limits->storage_alignment,
        .storage_buffers = limits->storage_buffers,
        .workgroup_invocations = limits->workgroup_invocations,
        .shared_memory = limits->shared_memory,
        .workgroups = {limits->workgroups[0], limits->workgroups[1], limits->workgroups[2]},
        .workgroup = 64,
        .vendor = info->vendor_id,
        .subgroup_min = info->features.subgroup_size_min,
        .subgroup_max = info->features.subgroup_size_max,
        .lanes = info->features.subgroup_shuffle ? info->features.subgroup_size : 0,
        .cooperative = {info->features.cooperative_shape[0], info->features.cooperative_shape[1],
                        info->features.cooperative_shape[2]},
        .parallel = info->type == VKL_DEVICE_DISCRETE || info->type == VKL_DEVICE_VIRTUAL ? PARALLEL_LARGE : 4096,
    };
    caps->submit_cost = caps->arch == VKL_ARCH_GPU ? SUBMIT_COST : 0;
    /* workgroups lie along x */
    if (caps->workgroup_invocations > limits->workgroup_size[0])
        caps->workgroup_invocations = limits->workgroup_size[0];
    /* shaders index elements with 32 bits, and element offsets are added to indices */
    if (caps->storage_range > UINT64_C(0x1fffffff0))
        caps->storage_range = UINT64_C(0x1fffffff0);
    caps->storage_range &= ~(uint64_t)15;
}

/* ---- Many time steps in one dispatch ---- */

/* Bindings of SEQUENCE_BACKWARD: a device with fewer takes a dispatch for each step. */
#define SEQUENCE_BINDINGS 5

/* W_hh of H 128 of an LSTM: all registers of a compute unit, 256 KiB on most GPUs. What of it does not fit with the rest is read from the
 * caches in every step, 64 bytes a cycle as a rule: 2,000 cycles for half of it, about 1 us. Others measured 1.4 to 2.0 us for a step inside a
 * workgroup and 7.7 to 10.5 for one of two launches (FlashRNN, arXiv 2412.07752). Above, a workgroup reads longer than a dispatch takes to
 * begin, and a step of its own has the whole device to read it. */
#define SEQUENCE_WEIGHTS 65536

static bool sequence_host(VklSequenceShape *shape)
{
    shape->group_rows = 1;
    shape->steps = UINT32_MAX;
    return true;
}

/* A step's product in fours of inputs and outputs, and how a workgroup divides it: shaders/interface.h has the words. */
typedef struct SequenceGroup {
    uint64_t units, fours, groups; /* fours of inputs, of outputs */
    uint64_t slices, held, group_lanes, row_lanes, lane_rows;
    bool slices_abreast;
} SequenceGroup;

static uint64_t sequence_lanes(const SequenceGroup *group)
{
    return group->row_lanes * group->slices * group->group_lanes;
}

static uint64_t sequence_rows(const SequenceGroup *group)
{
    return group->row_lanes * group->lane_rows;
}

static uint64_t slice_fours(const SequenceGroup *group)
{
    return blocks(group->fours, group->slices);
}

/* Rows and units that an invocation does the cell of: their next gates and states are in its registers. */
static uint64_t sequence_items(const SequenceGroup *group)
{
    return blocks(sequence_rows(group) * group->units, sequence_lanes(group));
}

/* Bytes: inputs, and the parts of sums. */
static uint64_t sequence_shared(const SequenceGroup *group)
{
    uint64_t parts = group->groups * (group->slices + (group->slices_abreast ? 1 : 0));
    return 16 * sequence_rows(group) * (slice_fours(group) * group->slices + parts);
}

/* What compilers allow without a spill, by the statistics of those of AMD, Intel, NVIDIA (NVK) and Adreno at sizes from 3 to 200: invocations of a
 * workgroup, which share the registers; fours of inputs whose weights are held, 16 registers each, where that is all of a slice and where
 * the rest is read in every step; rows of an invocation; and units that it does the cell of, which take as many registers as a four. Of
 * an LSTM's W_hh, that of H 64 is held as a whole, of H 128 a half by AMD and NVIDIA. */
typedef struct SequenceRegisters {
    uint64_t lanes, held_all, held_part[2], rows, rows_part, items; /* held_part: forward, backward */
    uint32_t read_turn;                                             /* fours that are read at once */
} SequenceRegisters;

static SequenceRegisters sequence_registers(uint32_t vendor)
{
    switch (vendor) {
    case VKL_VENDOR_AMD:
    case VKL_VENDOR_NVIDIA:
        return (SequenceRegisters){512, 4, {4, 3}, 4, 2, 2, 4};
    case VKL_VENDOR_INTEL:
        return (SequenceRegisters){256, 4, {2, 2}, 2, 2, 1, 2};
    case VKL_VENDOR_QUALCOMM:
        return (SequenceRegisters){256, 4, {3, 3}, 2, 1, 1, 2};
    default: /* Mali has 64 registers for an invocation */
        return (SequenceRegisters){256, 2, {2, 2}, 1, 1, 1, 1};
    }
}

/* Whether an invocation's registers last for so many rows: with 256 invocations each may have twice the registers that it has with 512. */
static bool sequence_rows_fit(const SequenceGroup *group, const SequenceRegisters *registers)
{
    uint64_t items = sequence_items(group);
    if (group->lane_rows > 2 && (items > 1 || sequence_lanes(group) > 256))
        return false;
    return group->lane_rows <= registers->rows && items <= registers->items;
}

static uint64_t sequence_turns(const SequenceGroup *group)
{
    uint64_t passes = blocks(group->groups, group->group_lanes);
    return passes * (4 + slice_fours(group) * (1 + group->lane_rows) + 2 * group->lane_rows) +
           sequence_items(group) * (4 + 3 * group->slices) + 4;
}

static bool sequence_gpu(const VklCaps *caps, uint32_t cell, uint64_t rows, uint64_t units, bool backward,
                         VklSequenceShape *shape, bool *pays)
{
    uint64_t columns = (cell == VKL_SEQUENCE_LSTM ? 4 : cell == VKL_SEQUENCE_GRU ? 3 : 1) * units;
    SequenceRegisters registers = sequence_registers(caps->vendor);
    uint64_t most = smaller(caps->workgroup_invocations, registers.lanes);
    SequenceGroup group = {
        .units = units,
        .fours = blocks(backward ? columns : units, 4),
        .groups = blocks(backward ? units : columns, 4),
        .row_lanes = 1,
        .lane_rows = 1,
        .slices_abreast = backward,
    };
    if (columns > VKL_GEMM_MAX_K) /* a sum's blocks */
        return false;
    uint64_t passes = blocks(group.groups, most);
    group.group_lanes = blocks(group.groups, passes);
    /* slices as short as registers want them, and at least an invocation for each unit */
    group.slices = larger(blocks(group.fours, registers.held_all), smaller(blocks(units, group.group_lanes), group.fours));
    group.slices = larger(1, smaller(group.slices, most / group.group_lanes));
    group.slices = blocks(group.fours, slice_fours(&group));
    while (group.slices > 1 && sequence_shared(&group) > caps->shared_memory)
        group.slices--;
    if (sequence_shared(&group) > caps->shared_memory)
        return false;
    bool all = passes == 1 && slice_fours(&group) <= registers.held_all;
    group.held = all ? slice_fours(&group) : passes == 1 ? registers.held_part[backward] : 0;

    /* Small layers: several rows make a subgroup. Large batches: several rows of an invocation hide the time that a step waits, once
     * there are workgroups enough. */
    SequenceGroup wider = group;
    for (wider.row_lanes = 2;
         wider.row_lanes <= rows && sequence_lanes(&wider) <= smaller(most, 64) && sequence_shared(&wider) <= caps->shared_memory;
         wider.row_lanes++)
        group = wider;
    wider = group;
    if (!all)
        registers.rows = registers.rows_part;
    for (wider.lane_rows = 2; blocks(rows, sequence_rows(&wider)) * sequence_lanes(&wider) >= caps->parallel &&
                              sequence_shared(&wider) <= caps->shared_memory && sequence_rows_fit(&wider, &registers);
         wider.lane_rows *= 2)
        group = wider;

    shape->spec[VKL_SPEC_WORKGROUP] = (uint32_t)sequence_lanes(&group);
    if (caps->vendor == VKL_VENDOR_AMD && caps->subgroup_min <= 32 && caps->subgroup_max > 32)
        shape->spec[VKL_SPEC_SUBGROUP] = 32; /* as for products */
    shape->spec[VKL_SEQUENCE_SPEC_UNITS] = (uint32_t)units;
    shape->spec[VKL_SEQUENCE_SPEC_SLICES] = (uint32_t)group.slices;
    shape->spec[VKL_SEQUENCE_SPEC_HELD] = (uint32_t)group.held;
    shape->spec[VKL_SEQUENCE_SPEC_GROUP_LANES] = (uint32_t)group.group_lanes;
    shape->spec[VKL_SEQUENCE_SPEC_ROW_LANES] = (uint32_t)group.row_lanes;
    shape->spec[VKL_SEQUENCE_SPEC_LANE_ROWS] = (uint32_t)group.lane_rows;
    shape->spec[VKL_SEQUENCE_SPEC_READ_TURN] = columns % 4 ? 1 : registers.read_turn; /* else read one by one */
    shape->group_rows = sequence_rows(&group);
    if (caps->arch == VKL_ARCH_SOFTWARE) {
        /* these stop a loop after 65,535 turns, all of an invocation's together */
        shape->steps = 60000 / sequence_turns(&group);
        *pays = false;
        return shape->steps > 0;
    }
    /* A dispatch should be over before a watchdog looks: 2^34 multiply-adds are a third of a second on a GPU that does 5e10 of them a
     * second, and 2^30 in one workgroup about as much. */
    uint64_t weights = columns * units;
    shape->steps = smaller((UINT64_C(1) << 34) / (weights * rows), (UINT64_C(1) << 30) / (weights * shape->group_rows));
    shape->steps = larger(1, smaller(shape->steps, 4096));
    *pays = weights <= SEQUENCE_WEIGHTS;
    return true;
}

/* ---- Devices that are CPUs ---- */

#define DIRECT_LANES_LEAST 8 /* where a shuffle is an instruction */
#define DIRECT_LANES_MOST 32
#define DIRECT_QUAD 4         /* lanes of SwiftShader, which makes a shuffle of a dozen instructions */
#define DIRECT_ROWS_MOST 32   /* more than that, and the sums of a block leave the nearest cache */
#define DIRECT_BLOCKS_LEAST 8 /* so that every processor has some */

static bool lanes_shuffle(const VklCaps *caps)
{
    uint32_t lanes = caps->lanes;
    return lanes >= DIRECT_LANES_LEAST && lanes <= DIRECT_LANES_MOST && !(lanes & (lanes - 1));
}

bool vkl_tune_quad(const VklCaps *caps)
{
    return caps->arch == VKL_ARCH_SOFTWARE && caps->lanes == DIRECT_QUAD;
}

#define QUAD_FILL 13       /* rows that take as long as what they go past takes to be brought there */
#define QUAD_ROWS_MOST 512 /* with 64 tiles of terms, loops of fewer than 65,535 turns */

/* Rows of a workgroup, for as many as keep all processors busy. */
static uint64_t quad_rows(const VklCaps *caps, uint64_t m, uint64_t across)
{
    uint64_t processors = larger(caps->processors, 1), best = 1, least = UINT64_MAX;
    for (uint64_t down = blocks(m, QUAD_ROWS_MOST); down <= blocks(m, QUAD_ROWS_MOST) + 4 * processors && down <= m; down++) {
        uint64_t rows = blocks(m, down), time = blocks(across * blocks(m, rows), processors) * (QUAD_FILL + rows);
        if (time < least) {
            least = time;
            best = rows;
        }
    }
    return best;
}

static VklDirectShape quad_shape(const VklCaps *caps, uint32_t form, uint64_t m, uint64_t n)
{
    bool row = m == 1 && form != VKL_GEMM_TN;
    VklDirectShape shape = {.kernel = form == VKL_GEMM_TN ? VKL_KERNEL_GEMM_QUAD_TN : VKL_KERNEL_GEMM_QUAD};
    if (row)
        shape.kernel = form == VKL_GEMM_NN ? VKL_KERNEL_GEMM_QUAD_ROW_NN : VKL_KERNEL_GEMM_QUAD_ROW_NT;
    shape.spec[VKL_SPEC_WORKGROUP] = DIRECT_QUAD;
    shape.spec[VKL_GEMM_SPEC_COLUMNS] = row ? 16 : VKL_GEMM_QUAD_TILE;
    shape.spec[VKL_GEMM_SPEC_ROWS] = row ? 1 : (uint32_t)quad_rows(caps, m, blocks(n, VKL_GEMM_QUAD_TILE));
    if (blocks(m, shape.spec[VKL_GEMM_SPEC_ROWS]) > caps->workgroups[1] ||
        blocks(n, shape.spec[VKL_GEMM_SPEC_COLUMNS]) > caps->workgroups[0])
        return (VklDirectShape){.kernel = VKL_KERNEL_GEMM_DIRECT};
    return shape;
}

bool vkl_tune_quad_step(const VklCaps *caps, uint64_t rows, uint64_t units, VklDirectShape *shape)
{
    bool row = rows == 1;
    if (!vkl_tune_quad(caps) || (units > VKL_LSTM_QUAD_UNITS && !row))
        return false;
    uint32_t columns = row ? 16 : VKL_GEMM_QUAD_TILE;
    *shape = (VklDirectShape){.kernel = row ? VKL_KERNEL_LSTM_QUAD_ROW_FORWARD : VKL_KERNEL_LSTM_QUAD_FORWARD};
    shape->spec[VKL_SPEC_WORKGROUP] = DIRECT_QUAD;
    shape->spec[VKL_GEMM_SPEC_COLUMNS] = columns;
    shape->spec[VKL_GEMM_SPEC_ROWS] = row ? 1 : (uint32_t)quad_rows(caps, rows, blocks(4 * units, columns));
    return blocks(rows, shape->spec[VKL_GEMM_SPEC_ROWS]) <= caps->workgroups[1] &&
           blocks(4 * units, columns) <= caps->workgroups[0];
}

#define ONCE_BINDINGS 6
#define ONCE_TERMS 65536 /* multiply-adds of four gates: beyond that products of their own are faster than dispatches are slow */

bool vkl_tune_once(const VklCaps *caps, uint64_t rows, uint64_t units, uint64_t inputs)
{
    return caps->arch == VKL_ARCH_SOFTWARE && caps->storage_buffers >= ONCE_BINDINGS && rows <= ONCE_TERMS &&
           units <= ONCE_TERMS && inputs <= ONCE_TERMS && rows * units * (inputs + units) <= ONCE_TERMS;
}

VklDirectShape vkl_tune_direct(const VklCaps *caps, uint32_t form, uint64_t m, uint64_t n)
{
    VklDirectShape shape = {.kernel = VKL_KERNEL_GEMM_DIRECT};
    uint32_t lanes = caps->lanes, rows = lanes;
    if (vkl_tune_quad(caps))
        return quad_shape(caps, form, m, n);
    if (!lanes_shuffle(caps))
        return shape;
    /* Blocks of more rows read B less often, but what of them is beyond the edge is computed in vain. */
    uint64_t across = blocks(n, 4 * (uint64_t)lanes), least = UINT64_MAX;
    for (uint32_t wider = lanes; wider <= DIRECT_ROWS_MOST; wider *= 2) {
        uint64_t down = blocks(m, wider), time = down * (wider + 12);
        if (time <= least && (wider == lanes || down * across >= DIRECT_BLOCKS_LEAST || down == blocks(m, rows))) {
            least = time;
            rows = wider;
        }
    }
    shape.kernel = VKL_KERNEL_GEMM_LANES;
    shape.spec[VKL_SPEC_WORKGROUP] = lanes;
    shape.spec[VKL_GEMM_SPEC_ROWS] = rows;
    shape.spec[VKL_GEMM_SPEC_COLUMNS] = 4 * lanes;
    return shape;
}

#define DIRECT_TERMS 256

uint64_t vkl_tune_direct_terms(const VklCaps *caps, uint32_t form, uint64_t k)
{
    /* Blocks that run down long columns find nothing in the caches that their neighbours have read. */
    if ((!lanes_shuffle(caps) && !vkl_tune_quad(caps)) || form == VKL_GEMM_NT || k <= 2 * DIRECT_TERMS)
        return k;
    uint64_t parts = blocks(k, DIRECT_TERMS);
    return (blocks(k, parts) + 3) / 4 * 4;
}

/* Measured with lavapipe of Mesa 22.3 on one processor, in its cycles: a load in all lanes, the multiply-adds of four numbers in all lanes, the
 * cells of a row in all lanes, a dispatch. */
#define DIRECT_LOAD 45
#define DIRECT_PRODUCT 7
#define DIRECT_CELL_FORWARD 490
#define DIRECT_CELL_BACKWARD 1200
#define DIRECT_DISPATCH 72000
#define DIRECT_TURNS 60000 /* of 65,535, after which all loops of an invocation stop */

/* A pass over the time steps of an LSTM by subgroups that have `rows` rows each. */
typedef struct DirectSequence {
    uint64_t terms, groups, depth; /* of a sum; of units; terms in a turn of the loop */
    uint64_t time;                 /* of the rows and one group of units in a step */
} DirectSequence;

static DirectSequence direct_sequence(uint64_t lanes, uint64_t rows, uint64_t units, bool backward)
{
    uint64_t abreast = rows < lanes ? lanes / rows : 1, panels = rows > lanes ? rows / lanes : 1;
    DirectSequence sequence = {.terms = units, .groups = blocks(units, backward ? 4 * lanes : lanes)};
    sequence.depth = backward ? abreast : 4 * abreast;
    uint64_t turns = blocks(sequence.terms, sequence.depth);
    uint64_t loads = panels + (backward ? 4 : 1) * sequence.depth, products = (backward ? 4 : 1) * sequence.depth * rows;
    sequence.time = turns * (loads * DIRECT_LOAD + products * DIRECT_PRODUCT) +
                    rows * (backward ? DIRECT_CELL_BACKWARD : DIRECT_CELL_FORWARD);
    return sequence;
}

/* Of all loops in a step: leaving one counts as a turn too. */
static uint64_t direct_turns(const DirectSequence *sequence)
{
    return sequence->groups * (blocks(sequence->terms, sequence->depth) + 3) + 3;
}

/* The time of a step: either workgroups have rows to themselves and go through time with them, or they divide the units of one step too. */
static uint64_t direct_time(const VklCaps *caps, const DirectSequence *sequence, uint64_t row_groups, uint64_t unit_groups)
{
    uint64_t processors = larger(caps->processors, 1);
    uint64_t time = blocks(row_groups * unit_groups, processors) * blocks(sequence->groups, unit_groups) * sequence->time;
    return unit_groups > 1 ? time + DIRECT_DISPATCH : time;
}

static bool sequence_software(const VklCaps *caps, uint64_t rows, uint64_t units, bool backward, VklSequenceShape *shape,
                              bool *pays)
{
    uint64_t least = UINT64_MAX;
    if (!lanes_shuffle(caps) || (backward ? 4 : 1) * units > VKL_GEMM_MAX_K)
        return false;
    for (uint64_t wide = 1; wide <= DIRECT_ROWS_MOST / 2 && wide < 2 * rows; wide *= 2) {
        DirectSequence sequence = direct_sequence(caps->lanes, wide, units, backward);
        uint64_t turns = direct_turns(&sequence), row_groups = blocks(rows, wide);
        for (uint64_t unit_groups = 1; unit_groups <= sequence.groups && unit_groups <= caps->workgroups[2]; unit_groups *= 2) {
            uint64_t time = direct_time(caps, &sequence, row_groups, unit_groups), steps = DIRECT_TURNS / turns;
            if (time >= least || (unit_groups == 1 && !steps))
                continue;
            least = time;
            shape->group_rows = wide;
            shape->unit_groups = unit_groups;
            shape->steps = unit_groups > 1 ? 1 : steps;
        }
    }
    if (least == UINT64_MAX)
        return false;
    shape->kernel = backward ? VKL_KERNEL_SEQUENCE_DIRECT_BACKWARD : VKL_KERNEL_SEQUENCE_DIRECT_FORWARD;
    shape->spec[VKL_SPEC_WORKGROUP] = caps->lanes;
    shape->spec[VKL_SEQUENCE_DIRECT_SPEC_ROWS] = (uint32_t)shape->group_rows;
    shape->spec[VKL_SEQUENCE_DIRECT_SPEC_LANES] = caps->lanes;
    *pays = true;
    return true;
}

bool vkl_tune_sequence(const VklCaps *caps, uint32_t cell, uint64_t rows, uint64_t units, bool backward, VklSequenceShape *shape,
                       bool *pays)
{
    *shape = (VklSequenceShape){.kernel = backward ? VKL_KERNEL_SEQUENCE_BACKWARD : VKL_KERNEL_SEQUENCE_FORWARD};
    *pays = false;
    if (caps->storage_buffers < SEQUENCE_BINDINGS)
        return false;
    if (caps->arch == VKL_ARCH_SOFTWARE && cell == VKL_SEQUENCE_LSTM &&
        sequence_software(caps, rows, units, backward, shape, pays))
        return true;
    *pays = caps->arch == VKL_ARCH_HOST;
    return caps->arch == VKL_ARCH_HOST ? sequence_host(shape) : sequence_gpu(caps, cell, rows, units, backward, shape, pays);
}

/* ---- GEMM ----
 * What compilers make of each tile, with which unrolling, is in docs/performance.md. `speed` is how much of the arithmetic's speed it can
 * reach: the share of multiply-adds in its loop, which falls with the size of an invocation's block. */

typedef struct GemmTile {
    uint32_t rows, columns, row_block, column_block;
    double speed;
} GemmTile;

static const GemmTile gemm_tiles[] = {
    {128, 128, 8, 8, 0.86},
    {128, 64, 8, 4, 0.80},
    {64, 64, 8, 4, 0.79},
    {32, 32, 4, 4, 0.66},
};

#define GEMM_DEPTH 16
#define GEMM_SLICE_LEAST 128 /* terms: shorter slices are mostly their beginning and end */

static uint32_t gemm_invocations(const GemmTile *tile)
{
    return tile->rows / tile->row_block * (tile->columns / tile->column_block);
}

static uint32_t gemm_shared(const GemmTile *tile)
{
    return GEMM_DEPTH * (tile->rows + tile->columns + 4) * 4;
}

static bool gemm_fits(const VklCaps *caps, const GemmTile *tile)
{
    /* a block of 8 x 8 does not fit the registers of Intel's, whose compiler spills a hundred and more: a tile of half the columns instead */
    if ((tile->columns == 128) == (caps->vendor == VKL_VENDOR_INTEL) && tile->rows == 128)
        return false;
    return gemm_invocations(tile) <= caps->workgroup_invocations && gemm_shared(tile) <= caps->shared_memory;
}

/* How many terms of the loop are written out. All of them is best where registers last: AMD, NVIDIA, and Intel with its smaller blocks
 * but for the loads one by one of the tile of 64. Adreno 660 refuses more than four; and it is four where the compiler is not known. */
static uint32_t gemm_unroll(const VklCaps *caps, const GemmTile *tile, bool wide)
{
    switch (caps->vendor) {
    case VKL_VENDOR_AMD:
        return GEMM_DEPTH;
    case VKL_VENDOR_NVIDIA: /* NVK moves registers about in a long loop of few sums */
        return tile->rows == VKL_GEMM_TILE_LEAST ? 8 : GEMM_DEPTH;
    case VKL_VENDOR_INTEL:
        return wide || tile->rows != 64 ? GEMM_DEPTH : 2;
    default:
        return 4;
    }
}

/* As many as keep the device busy, but no shorter than worth it; and as many as the longest sum of one slice asks for. */
static uint64_t gemm_slices(const VklCaps *caps, uint64_t invocations, uint64_t m, uint64_t n, uint64_t k, uint64_t scratch)
{
    uint64_t most = scratch / (m * n) < caps->workgroups[2] ? scratch / (m * n) : caps->workgroups[2];
    uint64_t wanted = caps->parallel / invocations, worth = k / GEMM_SLICE_LEAST;
    uint64_t needed = (k + VKL_GEMM_MAX_K - 1) / VKL_GEMM_MAX_K;
    if (wanted > worth)
        wanted = worth;
    if (wanted < needed)
        wanted = needed;
    return most < 2 || wanted < 2 ? 1 : wanted < most ? wanted : most;
}

uint64_t vkl_tune_gemm_scratch(uint64_t m, uint64_t n, uint64_t k)
{
    /* slices are made until there are so many invocations, each of which has 16 numbers of C in the smallest tile */
    uint64_t most = PARALLEL_LARGE * 16, slices = k / GEMM_SLICE_LEAST;
    if (slices < 2)
        return 0;
    return m && n > most / m / slices ? most : slices * m * n;
}

VklGemmShape vkl_tune_gemm(const VklCaps *caps, uint64_t m, uint64_t n, uint64_t k, uint64_t scratch, bool wide)
{
    const GemmTile *best = NULL;
    uint64_t slices = 1;
    double least = 0;
    for (size_t i = 0; i < sizeof(gemm_tiles) / sizeof(gemm_tiles[0]); i++) {
        const GemmTile *tile = &gemm_tiles[i];
        uint64_t down = (m + tile->rows - 1) / tile->rows, across = (n + tile->columns - 1) / tile->columns;
        uint64_t invocations = down * across * gemm_invocations(tile);
        if (!gemm_fits(caps, tile))
            continue;
        uint64_t cut = gemm_slices(caps, invocations, m, n, k, scratch);
        double busy = (double)(invocations * cut) / (double)caps->parallel;
        double time = (double)(down * tile->rows) * (double)(across * tile->columns) / tile->speed / (busy < 1 ? busy : 1);
        if (best && time >= least)
            continue;
        best = tile;
        least = time;
        slices = cut;
    }
    if (!best) /* within every limit */
        best = &gemm_tiles[sizeof(gemm_tiles) / sizeof(gemm_tiles[0]) - 1];

    VklGemmShape shape = {.slices = 1, .slice_k = k};
    if (slices > 1) {
        uint64_t steps = ((k + slices - 1) / slices + GEMM_DEPTH - 1) / GEMM_DEPTH;
        shape.slice_k = steps * GEMM_DEPTH < VKL_GEMM_MAX_K ? steps * GEMM_DEPTH : VKL_GEMM_MAX_K;
        shape.slices = (k + shape.slice_k - 1) / shape.slice_k;
    }
    shape.spec[VKL_SPEC_WORKGROUP] = gemm_invocations(best);
    /* RDNA3 issues two multiply-adds at once with 32 lanes only; the older ones do as well either way */
    if (caps->vendor == VKL_VENDOR_AMD && caps->subgroup_min <= 32 && caps->subgroup_max > 32)
        shape.spec[VKL_SPEC_SUBGROUP] = 32;
    shape.spec[VKL_GEMM_SPEC_ROWS] = best->rows;
    shape.spec[VKL_GEMM_SPEC_COLUMNS] = best->columns;
    shape.spec[VKL_GEMM_SPEC_DEPTH] = GEMM_DEPTH;
    shape.spec[VKL_GEMM_SPEC_ROW_BLOCK] = best->row_block;
    shape.spec[VKL_GEMM_SPEC_COLUMN_BLOCK] = best->column_block;
    shape.spec[VKL_GEMM_SPEC_UNROLL] = gemm_unroll(caps, best, wide);
    return shape;
}

/* Subgroups of the size that the chip's matrix instructions have: 32 on AMD's and NVIDIA's, the least one on Intel's. */
static uint32_t coop_subgroup(const VklCaps *caps)
{
    if (caps->vendor == VKL_VENDOR_INTEL || caps->subgroup_min > 32)
        return caps->subgroup_min;
    return caps->subgroup_max < 32 ? caps->subgroup_max : 32;
}

/* Bytes: operands of 32 terms and 8 of padding, sums of one matrix of each subgroup, largest magnitudes. */
static uint32_t coop_shared(uint32_t beside)
{
    uint32_t tile = VKL_GEMM_COOP_TILE;
    return 2 * tile * 40 * 2 + tile * tile / (2 * beside) * 4 + 2 * tile * 4;
}

bool vkl_tune_gemm_coop(const VklCaps *caps, uint64_t m, uint64_t n, uint64_t k, uint64_t scratch, VklGemmShape *shape)
{
    const uint32_t *matrix = caps->cooperative;
    uint32_t tile = VKL_GEMM_COOP_TILE;
    /* where they are emulated they are slower than vectors; a tile that is mostly empty is not worth its beginning and end */
    if (!matrix[0] || caps->arch != VKL_ARCH_GPU || m < tile / 2 || n < tile / 2 || k < 32)
        return false;
    /* four sums spill on Intel's */
    uint32_t beside = caps->vendor == VKL_VENDOR_INTEL ? 1 : 2, subgroup = coop_subgroup(caps);
    uint32_t invocations = tile * tile / (2 * beside * matrix[0] * matrix[1]) * subgroup;
    if (invocations > caps->workgroup_invocations || coop_shared(beside) > caps->shared_memory)
        return false;
    uint64_t all = blocks(m, tile) * blocks(n, tile) * invocations;
    uint64_t slices = gemm_slices(caps, all, m, n, k, scratch);
    *shape = (VklGemmShape){.slices = 1, .slice_k = k};
    if (slices > 1) {
        shape->slice_k = smaller(blocks(blocks(k, slices), 32) * 32, VKL_GEMM_MAX_K);
        shape->slices = blocks(k, shape->slice_k);
    }
    shape->spec[VKL_SPEC_WORKGROUP] = invocations;
    shape->spec[VKL_SPEC_SUBGROUP] = subgroup;
    shape->spec[VKL_GEMM_COOP_SPEC_M] = matrix[0];
    shape->spec[VKL_GEMM_COOP_SPEC_N] = matrix[1];
    shape->spec[VKL_GEMM_COOP_SPEC_K] = matrix[2];
    shape->spec[VKL_GEMM_COOP_SPEC_BESIDE] = beside;
    return true;
}

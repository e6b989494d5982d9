/* SPDX-License-Identifier: MIT
 *
 * What is chosen for devices that nobody here owns: tables of their limits, as their drivers report them, and of sizes. No device is used. */
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "plan_rnn.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Devices ---- */

typedef struct Device {
    const char *name;
    VklDeviceType type;
    uint32_t vendor, subgroup_min, subgroup_max, invocations, shared;
} Device;

/* clang-format off */
static const Device RADEON = {"RDNA3", VKL_DEVICE_DISCRETE, VKL_VENDOR_AMD, 32, 64, 1024, 65536};
static const Device POLARIS = {"GCN", VKL_DEVICE_DISCRETE, VKL_VENDOR_AMD, 64, 64, 1024, 65536};
static const Device GEFORCE = {"NVIDIA", VKL_DEVICE_DISCRETE, VKL_VENDOR_NVIDIA, 32, 32, 1024, 49152};
static const Device ARC = {"Xe-HPG", VKL_DEVICE_DISCRETE, VKL_VENDOR_INTEL, 8, 32, 1024, 49152};
static const Device IRIS = {"Xe", VKL_DEVICE_INTEGRATED, VKL_VENDOR_INTEL, 8, 32, 1024, 49152};
static const Device ADRENO = {"Adreno", VKL_DEVICE_INTEGRATED, VKL_VENDOR_QUALCOMM, 64, 128, 1024, 32768};
static const Device FLOOR = {"the least that Vulkan 1.1 guarantees", VKL_DEVICE_DISCRETE, 0, 1, 1, 128, 16384};
static const Device *const devices[] = {&RADEON, &POLARIS, &GEFORCE, &ARC, &IRIS, &ADRENO, &FLOOR};
/* clang-format on */

static VklCaps caps_of(const Device *device)
{
    VklCaps caps;
    VklDeviceInfo info = {
        .struct_size = sizeof(info),
        .type = device->type,
        .vendor_id = device->vendor,
        .limits = {.storage_range = UINT64_C(1) << 31,
                   .storage_buffers = 16,
                   .storage_alignment = 16,
                   .workgroups = {65535, 65535, 65535},
                   .workgroup_size = {1024, 1024, 64},
                   .workgroup_invocations = device->invocations,
                   .shared_memory = device->shared,
                   .push_constants = 128},
        .features = {.subgroup_size_min = device->subgroup_min, .subgroup_size_max = device->subgroup_max},
    };
    vkl_caps_from_info(&caps, &info);
    return caps;
}

/* ---- Products ---- */

typedef struct GemmChoice {
    const Device *device;
    uint64_t m, n, k, scratch;
    bool wide;
    uint32_t rows, columns, unroll, subgroup;
    uint64_t slices;
} GemmChoice;

/* clang-format off */
static const GemmChoice gemm_choices[] = {
    /* large and square: the largest tile that the registers hold */
    {&RADEON,  4096, 4096, 1024, 0, true,  128, 128, 16, 32, 1},
    {&POLARIS, 4096, 4096, 1024, 0, true,  128, 128, 16,  0, 1},
    {&GEFORCE, 4096, 4096, 1024, 0, true,  128, 128, 16,  0, 1},
    {&ARC,     4096, 4096, 1024, 0, true,  128,  64, 16,  0, 1},
    {&ADRENO,  4096, 4096, 1024, 0, true,  128, 128,  4,  0, 1},
    {&FLOOR,   4096, 4096, 1024, 0, true,   64,  64,  4,  0, 1},
    /* read one by one, the tile of 64 rows spills with Intel unless its loop is short */
    {&IRIS,     960,  192, 1024, 0, false,  64,  64,  2,  0, 1},
    {&IRIS,     960,  192, 1024, 0, true,   64,  64, 16,  0, 1},
    {&ARC,     4096, 4096, 1024, 0, false, 128,  64, 16,  0, 1},
    /* the input product of a layer: T N rows, 4 H columns */
    {&RADEON,  3200,  256,    8, 0, true,   64,  64, 16, 32, 1},
    {&GEFORCE, 2048, 1024,  128, 0, true,  128, 128, 16,  0, 1},
    {&GEFORCE, 3200, 2048,  512, 0, true,  128, 128, 16,  0, 1},
    /* few rows: small tiles, which waste less and are more */
    {&GEFORCE,   32, 1024,  256, 0, true,   32,  32,  8,  0, 1},
    {&IRIS,       1,    1,    1, 0, false,  32,  32, 16,  0, 1},
    /* a layer's gradients: few rows and columns of many terms, in slices where there is scratch */
    {&RADEON,    74,  256, 3200, 0,       true, 32, 32, 16, 32,  1},
    {&RADEON,    74,  256, 3200, 1 << 20, true, 32, 32, 16, 32, 10},
    {&GEFORCE,   74,  256, 3200, 1 << 20, true, 32, 32,  8,  0, 10},
    {&IRIS,      74,  256, 3200, 1 << 20, true, 128, 64, 16, 0,  4},
    {&RADEON,    74,  256, 3200, 74 * 256 * 3, true, 32, 32, 16, 32, 3},
    {&GEFORCE, 2050, 4096, 3200, 1 << 24, true, 128, 128, 16, 0, 1},
    /* no slice has more terms than a dispatch sums */
    {&GEFORCE, 2050, 4096, 9000, 1 << 26, true, 128, 128, 16, 0, 3},
};
/* clang-format on */

Test(tune, gemm_takes_the_shape_that_suits_vendor_limits_and_size)
{
    for (size_t i = 0; i < COUNT(gemm_choices); i++) {
        const GemmChoice *t = &gemm_choices[i];
        VklCaps caps = caps_of(t->device);
        VklGemmShape shape = vkl_tune_gemm(&caps, t->m, t->n, t->k, t->scratch, t->wide);
        const uint32_t *spec = shape.spec;
        cr_expect(
            spec[VKL_GEMM_SPEC_ROWS] == t->rows && spec[VKL_GEMM_SPEC_COLUMNS] == t->columns &&
                spec[VKL_GEMM_SPEC_UNROLL] == t->unroll && spec[VKL_SPEC_SUBGROUP] == t->subgroup && shape.slices == t->slices,
            "row %zu, %s, %llu x %llu x %llu: %u x %u, unroll %u, subgroup %u, %llu slices", i, t->device->name,
            (unsigned long long)t->m, (unsigned long long)t->n, (unsigned long long)t->k, spec[VKL_GEMM_SPEC_ROWS],
            spec[VKL_GEMM_SPEC_COLUMNS], spec[VKL_GEMM_SPEC_UNROLL], spec[VKL_SPEC_SUBGROUP], (unsigned long long)shape.slices);
    }
}

/* Cooperative matrices: the chip's subgroups, one sum beside another where four would spill, and nothing where they do not pay or fit. */
Test(tune, cooperative_matrices_take_the_shape_of_the_chip)
{
    static const struct {
        const Device *device;
        uint32_t matrix[3];
        uint64_t m, n, k, scratch;
        uint32_t workgroup, subgroup, beside; /* workgroup 0: none */
        uint64_t slices;
    } rows[] = {
        {&RADEON, {16, 16, 16}, 2048, 1024, 128, 0, 128, 32, 2, 1},
        {&GEFORCE, {16, 16, 16}, 2048, 1024, 128, 0, 128, 32, 2, 1},
        {&ARC, {8, 8, 16}, 2048, 1024, 128, 0, 256, 8, 1, 1},
        {&ARC, {8, 16, 16}, 2048, 1024, 128, 0, 128, 8, 1, 1},
        {&GEFORCE, {16, 8, 16}, 2048, 1024, 128, 0, 256, 32, 2, 1},
        {&GEFORCE, {0, 0, 0}, 2048, 1024, 128, 0, 0, 0, 0, 0},
        {&GEFORCE, {16, 16, 16}, 31, 1024, 128, 0, 0, 0, 0, 0},
        {&GEFORCE, {16, 16, 16}, 32, 32, 31, 0, 0, 0, 0, 0},
        {&GEFORCE, {16, 16, 16}, 74, 256, 3200, 1 << 20, 128, 32, 2, 15},
        {&FLOOR, {8, 8, 8}, 2048, 1024, 128, 0, 16, 1, 2, 1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        VklCaps caps = caps_of(rows[i].device);
        VklGemmShape shape;
        memcpy(caps.cooperative, rows[i].matrix, sizeof(caps.cooperative));
        bool there = vkl_tune_gemm_coop(&caps, rows[i].m, rows[i].n, rows[i].k, rows[i].scratch, &shape);
        cr_expect_eq(there, rows[i].workgroup != 0, "row %zu", i);
        if (!there || !rows[i].workgroup)
            continue;
        const uint32_t *spec = shape.spec;
        cr_expect(spec[VKL_SPEC_WORKGROUP] == rows[i].workgroup && spec[VKL_SPEC_SUBGROUP] == rows[i].subgroup &&
                      spec[VKL_GEMM_COOP_SPEC_BESIDE] == rows[i].beside && shape.slices == rows[i].slices &&
                      (shape.slices - 1) * shape.slice_k < rows[i].k && shape.slices * shape.slice_k >= rows[i].k,
                  "row %zu: workgroup %u, subgroup %u, %u beside, %llu slices of %llu", i, spec[VKL_SPEC_WORKGROUP],
                  spec[VKL_SPEC_SUBGROUP], spec[VKL_GEMM_COOP_SPEC_BESIDE], (unsigned long long)shape.slices,
                  (unsigned long long)shape.slice_k);
    }
}

/* What the kernel takes for granted of its constants, and what a device must have, whatever the sizes. */
Test(tune, gemm_shapes_fit_the_device_and_the_kernel)
{
    static const uint64_t sizes[] = {1, 3, 17, 64, 65, 257, 1024, 5000, 100000};
    static const uint64_t scratches[] = {0, 1000, UINT64_C(1) << 22};
    for (size_t d = 0; d < COUNT(devices); d++) {
        VklCaps caps = caps_of(devices[d]);
        for (size_t i = 0; i < COUNT(sizes) * COUNT(sizes) * COUNT(sizes) * COUNT(scratches) * 2; i++) {
            uint64_t m = sizes[i % COUNT(sizes)], n = sizes[i / COUNT(sizes) % COUNT(sizes)];
            uint64_t k = sizes[i / COUNT(sizes) / COUNT(sizes) % COUNT(sizes)];
            size_t rest = i / COUNT(sizes) / COUNT(sizes) / COUNT(sizes);
            uint64_t scratch = scratches[rest % COUNT(scratches)];
            uint64_t most = VKL_GEMM_MAX_K * (scratch / (m * n) > 1 ? scratch / (m * n) : 1);
            k = k < most ? k : most; /* planners cut what is longer */
            VklGemmShape shape = vkl_tune_gemm(&caps, m, n, k, scratch, rest / COUNT(scratches));
            const uint32_t *s = shape.spec;
            uint32_t rows = s[VKL_GEMM_SPEC_ROWS], columns = s[VKL_GEMM_SPEC_COLUMNS], depth = s[VKL_GEMM_SPEC_DEPTH];
            uint32_t invocations = rows / s[VKL_GEMM_SPEC_ROW_BLOCK] * (columns / s[VKL_GEMM_SPEC_COLUMN_BLOCK]);
            cr_assert_eq(s[VKL_SPEC_WORKGROUP], invocations);
            cr_assert(invocations <= caps.workgroup_invocations);
            cr_assert((rows + columns + 4) * depth * 4 <= caps.shared_memory);
            cr_assert(rows >= VKL_GEMM_TILE_LEAST && columns >= VKL_GEMM_TILE_LEAST);
            cr_assert(depth % s[VKL_GEMM_SPEC_UNROLL] == 0);
            /* whole vectors for every invocation, at most two, and as many of each row */
            cr_assert(rows * depth <= 8 * invocations && columns * depth <= 8 * invocations);
            cr_assert(rows * depth % (4 * invocations) == 0 && columns * depth % (4 * invocations) == 0);
            cr_assert(invocations % (rows / 4) == 0 && invocations % (columns / 4) == 0 && invocations % depth == 0);
            cr_assert(invocations % rows == 0 && invocations % columns == 0);
            cr_assert(!s[VKL_SPEC_SUBGROUP] ||
                      (s[VKL_SPEC_SUBGROUP] >= caps.subgroup_min && s[VKL_SPEC_SUBGROUP] <= caps.subgroup_max));
            cr_assert(shape.slice_k <= VKL_GEMM_MAX_K && shape.slices * shape.slice_k >= k &&
                      (shape.slices - 1) * shape.slice_k < k);
            cr_assert(shape.slices == 1 || (shape.slices * m * n <= scratch && shape.slice_k % depth == 0));
        }
    }
}

static size_t calls_of(const VklPlan *plan, VklKernel kernel)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++)
        count += plan->ops[i].kernel == kernel;
    return count;
}

/* dW of 74 x 256 numbers from 3,200 terms each: on a GPU in slices, elsewhere in one. */
Test(tune, gradients_of_small_layers_are_summed_in_slices_on_gpus)
{
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, 8, 64);
    VklRnnPass pass = {.desc = &desc,
                       .T = 100,
                       .N = 32,
                       .training = true,
                       .params = vkl_array(VKL_SLOT_PARAMS, 0),
                       .x = vkl_array(VKL_SLOT_X, 0),
                       .lengths = VKL_NO_ARRAY,
                       .h0 = VKL_NO_ARRAY,
                       .c0 = VKL_NO_ARRAY,
                       .reserve = vkl_array(VKL_SLOT_RESERVE, 0),
                       .workspace = vkl_array(VKL_SLOT_WORKSPACE, 0),
                       .gy = vkl_array(VKL_SLOT_GY, 0),
                       .ghn = VKL_NO_ARRAY,
                       .gcn = VKL_NO_ARRAY,
                       .dx = VKL_NO_ARRAY,
                       .dh0 = VKL_NO_ARRAY,
                       .dc0 = VKL_NO_ARRAY,
                       .dparams = vkl_array(VKL_SLOT_GRADS, 0),
                       .state = VKL_NO_ARRAY};
    for (size_t d = 0; d < COUNT(devices); d++)
        for (int arch = VKL_ARCH_HOST; arch <= VKL_ARCH_GPU; arch++) {
            size_t split = arch == VKL_ARCH_GPU;
            VklCaps caps = caps_of(devices[d]);
            VklPlan plan;
            caps.arch = (VklArch)arch;
            vkl_plan_init(&plan, &caps);
            vkl_plan_rnn_backward(&plan, &pass);
            cr_assert_eq(plan.status, VKL_OK, "%s", plan.error);
            cr_expect_eq(calls_of(&plan, VKL_KERNEL_GEMM_SPLIT), split, "%s, %d", devices[d]->name, arch);
            cr_expect_eq(calls_of(&plan, VKL_KERNEL_GEMM_REDUCE), split, "%s, %d", devices[d]->name, arch);
            vkl_plan_finish(&plan);
        }
}

/* The offsets that a recorder arrives at may be odd where the plan's were not. */
Test(tune, gemm_reads_one_by_one_where_the_recorders_offsets_are_odd)
{
    enum { A = VKL_GEMM_WIDE_A, B = VKL_GEMM_WIDE_B, C = VKL_GEMM_WIDE_C, PIECES = VKL_GEMM_PIECES };
    static const struct {
        uint32_t variant, offsets[4], bias_rows, want;
    } cases[] = {
        {A | B | C, {4, 8, 12, 16}, 1, A | B | C}, {A | B | C, {1, 8, 12, 16}, 1, B | C},
        {A | B | C, {4, 2, 12, 16}, 1, A | C},     {A | B | C, {4, 8, 3, 16}, 1, A | B},
        {A | B | C, {4, 8, 12, 1}, 1, A | B},      {A | B | C, {4, 8, 12, 1}, 0, A | B | C},
        {A | PIECES, {4, 0, 0, 1}, 0, PIECES},     {PIECES | B, {4, 0, 0, 1}, 0, PIECES | B},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t spec[VKL_SPEC_COUNT];
        VklOp op = {.kernel = VKL_KERNEL_GEMM, .args.GEMM = {.m = 8, .m_first = 4, .ones = 2, .bias_rows = cases[i].bias_rows}};
        op.spec[VKL_GEMM_SPEC_VARIANT] = cases[i].variant;
        memcpy(op.args.offset, cases[i].offsets, sizeof(cases[i].offsets));
        vkl_op_settle(&op, &op.args, spec);
        cr_expect_eq(spec[VKL_GEMM_SPEC_VARIANT], cases[i].want, "row %zu: %u", i, spec[VKL_GEMM_SPEC_VARIANT]);
    }
}

/* ---- Many time steps in one dispatch ---- */

typedef struct SequenceChoice {
    const Device *device;
    uint32_t cell;
    uint64_t rows, units;
    bool backward;
    uint32_t workgroup, slices, held, row_lanes, lane_rows, subgroup;
    bool pays;
} SequenceChoice;

/* clang-format off */
static const SequenceChoice sequence_choices[] = {
    /* H 64: all weights in registers, forward and backward alike */
    {&RADEON,  VKL_SEQUENCE_LSTM,  32,  64, false, 256,  4, 4,  1, 1, 32, true},
    {&RADEON,  VKL_SEQUENCE_LSTM,  32,  64, true,  256, 16, 4,  1, 1, 32, true},
    {&POLARIS, VKL_SEQUENCE_LSTM,  32,  64, false, 256,  4, 4,  1, 1,  0, true},
    {&GEFORCE, VKL_SEQUENCE_GRU,   32,  64, false, 192,  4, 4,  1, 1,  0, true},
    {&GEFORCE, VKL_SEQUENCE_GRU,   32,  64, true,  192, 12, 4,  1, 1,  0, true},
    {&ARC,     VKL_SEQUENCE_LSTM,  32,  64, false, 256,  4, 4,  1, 1,  0, true},
    {&ADRENO,  VKL_SEQUENCE_LSTM,   1,  64, true,  256, 16, 4,  1, 1,  0, true},
    /* H 128: half of them, where a workgroup has 512 invocations; less elsewhere */
    {&RADEON,  VKL_SEQUENCE_LSTM,  32, 128, false, 512,  4, 4,  1, 1, 32, true},
    {&GEFORCE, VKL_SEQUENCE_LSTM,  32, 128, true,  512, 16, 3,  1, 1,  0, true},
    {&ARC,     VKL_SEQUENCE_LSTM,  32, 128, false, 256,  2, 2,  1, 1,  0, true},
    {&ADRENO,  VKL_SEQUENCE_LSTM,   8, 128, false, 256,  2, 3,  1, 1,  0, true},
    {&FLOOR,   VKL_SEQUENCE_LSTM,  32, 128, false, 128,  1, 2,  1, 1,  0, true},
    /* beyond it a step of its own reads the weights as fast; there are shapes for who asks */
    {&RADEON,  VKL_SEQUENCE_LSTM,  32, 129, false, 516 / 4 * 3, 3, 4, 1, 1, 32, false},
    {&GEFORCE, VKL_SEQUENCE_RNN_TANH, 32, 256, false, 512, 8, 4, 1, 1, 0, true},
    /* small layers: several rows make a subgroup */
    {&GEFORCE, VKL_SEQUENCE_LSTM,  32,   8, false,  64,  1, 2,  8, 1,  0, true},
    {&GEFORCE, VKL_SEQUENCE_LSTM,   3,   8, false,  24,  1, 2,  3, 1,  0, true},
    {&GEFORCE, VKL_SEQUENCE_LSTM,   1,   1, false,   1,  1, 1,  1, 1,  0, true},
    /* large batches: several rows of an invocation, as far as registers last */
    {&RADEON,  VKL_SEQUENCE_LSTM, 256,  64, false, 256,  4, 4,  1, 4, 32, true},
    {&RADEON,  VKL_SEQUENCE_LSTM, 256,  64, true,  256, 16, 4,  1, 4, 32, true},
    {&RADEON,  VKL_SEQUENCE_LSTM, 128,  64, false, 256,  4, 4,  1, 2, 32, true},
    {&RADEON,  VKL_SEQUENCE_LSTM, 256, 128, false, 512,  4, 4,  1, 2, 32, true},
    {&ARC,     VKL_SEQUENCE_LSTM, 512,  64, false, 256,  4, 4,  1, 2,  0, true},
    {&FLOOR,   VKL_SEQUENCE_LSTM, 512,  64, false, 128,  2, 2,  1, 1,  0, true},
};
/* clang-format on */

Test(tune, sequences_hold_what_registers_hold)
{
    for (size_t i = 0; i < COUNT(sequence_choices); i++) {
        const SequenceChoice *t = &sequence_choices[i];
        VklCaps caps = caps_of(t->device);
        VklSequenceShape shape;
        bool pays;
        cr_assert(vkl_tune_sequence(&caps, t->cell, t->rows, t->units, t->backward, &shape, &pays));
        const uint32_t *spec = shape.spec;
        cr_expect(spec[VKL_SPEC_WORKGROUP] == t->workgroup && spec[VKL_SEQUENCE_SPEC_SLICES] == t->slices &&
                      spec[VKL_SEQUENCE_SPEC_HELD] == t->held && spec[VKL_SEQUENCE_SPEC_ROW_LANES] == t->row_lanes &&
                      spec[VKL_SEQUENCE_SPEC_LANE_ROWS] == t->lane_rows && spec[VKL_SPEC_SUBGROUP] == t->subgroup &&
                      pays == t->pays,
                  "row %zu, %s, cell %u, %llu x %llu: workgroup %u, %u slices, %u held, %u x %u rows, subgroup %u, pays %d", i,
                  t->device->name, t->cell, (unsigned long long)t->rows, (unsigned long long)t->units, spec[VKL_SPEC_WORKGROUP],
                  spec[VKL_SEQUENCE_SPEC_SLICES], spec[VKL_SEQUENCE_SPEC_HELD], spec[VKL_SEQUENCE_SPEC_ROW_LANES],
                  spec[VKL_SEQUENCE_SPEC_LANE_ROWS], spec[VKL_SPEC_SUBGROUP], pays);
    }
}

/* What the kernels take for granted of their constants, and what a device must have, whatever the sizes. */
Test(tune, sequence_shapes_fit_the_device_and_the_kernels)
{
    static const uint64_t sizes[] = {1, 2, 3, 7, 17, 33, 50, 64, 65, 100, 127, 128, 129, 200, 257, 500, 1000, 1024, 1365, 4096};
    static const uint64_t batches[] = {1, 3, 32, 1000, 100000};
    for (size_t d = 0; d < COUNT(devices); d++) {
        VklCaps caps = caps_of(devices[d]);
        for (size_t i = 0; i < COUNT(sizes) * COUNT(batches) * 6; i++) {
            uint64_t units = sizes[i % COUNT(sizes)], rows = batches[i / COUNT(sizes) % COUNT(batches)];
            uint32_t cell = (uint32_t)(i / COUNT(sizes) / COUNT(batches) % 3);
            bool backward = i / COUNT(sizes) / COUNT(batches) / 3, pays;
            uint64_t columns = (cell == VKL_SEQUENCE_LSTM ? 4 : cell == VKL_SEQUENCE_GRU ? 3 : 1) * units;
            uint64_t fours = ((backward ? columns : units) + 3) / 4, groups = ((backward ? units : columns) + 3) / 4;
            VklSequenceShape shape;
            if (!vkl_tune_sequence(&caps, cell, rows, units, backward, &shape, &pays)) {
                cr_expect(units > 200, "%s: no shape for %llu units", devices[d]->name, (unsigned long long)units);
                continue;
            }
            const uint32_t *spec = shape.spec;
            uint64_t slices = spec[VKL_SEQUENCE_SPEC_SLICES], lanes = spec[VKL_SEQUENCE_SPEC_GROUP_LANES],
                     group_rows = spec[VKL_SEQUENCE_SPEC_ROW_LANES] * (uint64_t)spec[VKL_SEQUENCE_SPEC_LANE_ROWS];
            uint64_t slice = (fours + slices - 1) / slices, held = spec[VKL_SEQUENCE_SPEC_HELD];
            uint64_t part = backward ? groups * (slices + 1) : groups * slices;
            bool good = spec[VKL_SPEC_WORKGROUP] == spec[VKL_SEQUENCE_SPEC_ROW_LANES] * slices * lanes &&
                        spec[VKL_SPEC_WORKGROUP] <= devices[d]->invocations &&
                        16 * group_rows * (slice * slices + part) <= devices[d]->shared && held <= slice &&
                        (!held || lanes == groups) && shape.group_rows == group_rows && spec[VKL_SEQUENCE_SPEC_UNITS] == units &&
                        spec[VKL_SEQUENCE_SPEC_READ_TURN] > 0 && shape.steps > 0 && shape.steps <= 4096;
            cr_expect(good, "%s, cell %u, %llu x %llu, backward %d: workgroup %u of %llu lanes, %llu slices, %llu of %llu held",
                      devices[d]->name, cell, (unsigned long long)rows, (unsigned long long)units, backward,
                      spec[VKL_SPEC_WORKGROUP], (unsigned long long)lanes, (unsigned long long)slices, (unsigned long long)held,
                      (unsigned long long)slice);
        }
    }
}

/* ---- Steps ---- */

typedef struct StepChoice {
    const Device *device;
    VklStepSize size;
    uint32_t rows, units, slices;
} StepChoice;

/* Rows, units, terms, gates; wide, interleaved, backward, usual. */
static const StepChoice step_choices[] = {
    /* few rows: sums are cut; more: less; many: an invocation has as many rows as registers */
    {&GEFORCE, {1, 256, 256, 4, true, true, false, true}, 1, 1, 16},
    {&GEFORCE, {8, 256, 256, 4, true, true, false, true}, 8, 1, 16},
    {&GEFORCE, {32, 256, 256, 4, true, true, false, true}, 8, 1, 4},
    {&GEFORCE, {128, 256, 256, 4, true, true, false, true}, 8, 1, 1},
    {&GEFORCE, {32, 256, 256, 3, true, false, false, true}, 4, 4, 4},
    {&GEFORCE, {32, 17, 17, 3, false, false, false, true}, 8, 1, 1},
    {&ARC, {32, 256, 256, 4, true, true, false, true}, 4, 1, 4},
    {&GEFORCE, {1, 256, 1024, 1, true, true, true, true}, 1, 1, 16},
    {&RADEON, {128, 256, 1024, 1, true, true, true, true}, 8, 2, 1},
};

Test(tune, steps_share_weights_among_rows_and_sums_among_invocations)
{
    for (size_t k = 0; k < COUNT(step_choices); k++) {
        const StepChoice *choice = &step_choices[k];
        VklCaps caps = caps_of(choice->device);
        VklStepShape shape;
        bool pays;
        cr_assert(vkl_tune_step(&caps, &choice->size, &shape, &pays));
        cr_assert(pays);
        cr_assert(shape.rows == choice->rows && shape.units == choice->units && shape.slices == choice->slices,
                  "row %zu: %u rows, %u units, %u slices", k, shape.rows, shape.units, shape.slices);
        caps.storage_buffers = 4;
        cr_assert(!vkl_tune_step(&caps, &choice->size, &shape, &pays));
    }
}

/* The kernels' own bounds: their shared memory is for 128 invocations. */
Test(tune, step_shapes_fit_the_device_and_the_kernels)
{
    static const uint64_t sizes[] = {1, 3, 8, 17, 48, 65, 256, 1025};
    for (size_t d = 0; d < COUNT(devices); d++)
        for (size_t n = 0; n < COUNT(sizes); n++)
            for (size_t h = 0; h < COUNT(sizes); h++)
                for (int k = 0; k < 8; k++) {
                    VklCaps caps = caps_of(devices[d]);
                    VklStepShape shape;
                    bool pays, wide = sizes[h] % 4 == 0 && (k & 1), interleaved = k & 2, backward = k & 4;
                    VklStepSize size = {sizes[n], sizes[h], backward ? 4 * sizes[h] : sizes[h], 4, wide, interleaved,
                                        backward, true};
                    cr_assert(vkl_tune_step(&caps, &size, &shape, &pays));
                    cr_assert(shape.workgroup <= 128 && shape.workgroup <= caps.workgroup_invocations);
                    cr_assert(shape.slices >= 1 && shape.workgroup % shape.slices == 0);
                    cr_assert(backward || shape.units == (wide && !interleaved ? 4 : 1));
                    uint64_t vectors = backward ? 1 : wide && !interleaved ? 4 : 1; /* of four numbers and 128 invocations */
                    cr_assert(shape.slices == 1 || vectors * 128 * 16 <= caps.shared_memory);
                }
}

/* ---- Devices that are CPUs ---- */

static VklCaps software(uint32_t lanes, uint32_t processors)
{
    static const Device CPU = {"software", VKL_DEVICE_SOFTWARE, 0, 8, 8, 1024, 32768};
    VklCaps caps = caps_of(&CPU);
    caps.lanes = lanes;
    caps.processors = processors;
    return caps;
}

Test(tune, products_on_software_devices_take_rows_as_lanes_and_size_ask_for)
{
    static const struct {
        uint32_t lanes;
        uint64_t m, n;
        uint32_t rows; /* 0: by blocks, without shuffles */
    } choices[] = {
        {8, 256, 256, 32},  {8, 1, 1000, 8},  {8, 74, 256, 32}, {8, 33, 1, 8},     {16, 256, 256, 32}, {16, 3, 64, 16},
        {32, 256, 256, 32}, {0, 256, 256, 0}, {1, 9, 9, 0},     {12, 256, 256, 0}, {64, 256, 256, 0},
    };
    for (size_t i = 0; i < COUNT(choices); i++) {
        VklCaps caps = software(choices[i].lanes, 2);
        VklDirectShape shape = vkl_tune_direct(&caps, VKL_GEMM_NN, choices[i].m, choices[i].n);
        cr_expect_eq(shape.kernel, choices[i].rows ? VKL_KERNEL_GEMM_LANES : VKL_KERNEL_GEMM_DIRECT, "case %zu", i);
        cr_expect_eq(shape.spec[VKL_GEMM_SPEC_ROWS], choices[i].rows, "case %zu: %u rows", i, shape.spec[VKL_GEMM_SPEC_ROWS]);
    }
}

Test(tune, products_of_four_lanes_have_kernels_of_their_own)
{
    VklCaps caps = software(4, 2);
    static const struct {
        uint32_t form;
        uint64_t m, n;
        VklKernel kernel;
        uint32_t rows; /* of a workgroup: as many as keep two processors busy, and at most 512 */
    } choices[] = {
        {VKL_GEMM_NN, 256, 256, VKL_KERNEL_GEMM_QUAD, 256},  {VKL_GEMM_NN, 32, 256, VKL_KERNEL_GEMM_QUAD, 32},
        {VKL_GEMM_NT, 32, 64, VKL_KERNEL_GEMM_QUAD, 32},     {VKL_GEMM_NT, 2, 1, VKL_KERNEL_GEMM_QUAD, 1},
        {VKL_GEMM_NN, 3200, 64, VKL_KERNEL_GEMM_QUAD, 458},  {VKL_GEMM_TN, 74, 256, VKL_KERNEL_GEMM_QUAD_TN, 74},
        {VKL_GEMM_TN, 1, 256, VKL_KERNEL_GEMM_QUAD_TN, 1},   {VKL_GEMM_NN, 1, 256, VKL_KERNEL_GEMM_QUAD_ROW_NN, 1},
        {VKL_GEMM_NT, 1, 1, VKL_KERNEL_GEMM_QUAD_ROW_NT, 1},
    };
    for (size_t i = 0; i < COUNT(choices); i++) {
        VklDirectShape shape = vkl_tune_direct(&caps, choices[i].form, choices[i].m, choices[i].n);
        cr_expect_eq(shape.kernel, choices[i].kernel, "case %zu", i);
        cr_expect_eq(shape.spec[VKL_GEMM_SPEC_ROWS], choices[i].rows, "case %zu: %u rows", i, shape.spec[VKL_GEMM_SPEC_ROWS]);
    }
    static const struct {
        uint64_t rows, units;
        bool together; /* product and cell of a step */
    } steps[] = {{32, 64, true}, {2, 1, true}, {1, 64, true}, {1, 257, true}, {32, 65, false}, {5000, 50, true}};
    for (size_t i = 0; i < COUNT(steps); i++) {
        VklDirectShape shape;
        cr_expect_eq(vkl_tune_quad_step(&caps, steps[i].rows, steps[i].units, &shape), steps[i].together, "step %zu", i);
        VklCaps others = software(8, 2);
        cr_expect_not(vkl_tune_quad_step(&others, steps[i].rows, steps[i].units, &shape), "step %zu", i);
    }
}

Test(tune, a_layer_with_one_small_step_is_one_call_on_software_devices)
{
    static const struct {
        uint32_t lanes, storage_buffers;
        uint64_t rows, units, inputs;
        bool once;
    } choices[] = {{8, 16, 1, 50, 1, true},     {4, 30, 1, 50, 1, true},   {8, 16, 4, 64, 64, true},
                   {8, 16, 1, 256, 128, false}, {8, 16, 5, 64, 140, true}, {8, 4, 1, 50, 1, false}};
    for (size_t i = 0; i < COUNT(choices); i++) {
        VklCaps caps = software(choices[i].lanes, 2);
        caps.storage_buffers = choices[i].storage_buffers;
        cr_expect_eq(vkl_tune_once(&caps, choices[i].rows, choices[i].units, choices[i].inputs), choices[i].once, "case %zu", i);
        caps.arch = VKL_ARCH_GPU;
        cr_expect_not(vkl_tune_once(&caps, choices[i].rows, choices[i].units, choices[i].inputs), "case %zu", i);
    }
}

/* Devices stop all loops of an invocation together after 65,535 turns, and leaving a loop counts as one. */
Test(tune, sequences_on_software_devices_stay_below_where_loops_stop)
{
    static const uint64_t sizes[] = {1, 3, 8, 50, 64, 65, 256, 257, 1000, 1024}, batches[] = {1, 2, 7, 32, 100, 5000};
    static const uint32_t lanes[] = {8, 16, 32}, processors[] = {1, 2, 16};
    for (size_t i = 0; i < COUNT(sizes) * COUNT(batches) * COUNT(lanes) * COUNT(processors) * 2; i++) {
        bool backward = i % 2, pays;
        uint64_t units = sizes[i / 2 % COUNT(sizes)], rows = batches[i / 2 / COUNT(sizes) % COUNT(batches)];
        uint64_t rest = i / 2 / COUNT(sizes) / COUNT(batches);
        uint32_t wide = lanes[rest % COUNT(lanes)];
        VklCaps caps = software(wide, processors[rest / COUNT(lanes)]);
        VklSequenceShape shape;
        cr_assert(vkl_tune_sequence(&caps, VKL_SEQUENCE_LSTM, rows, units, backward, &shape, &pays) && pays);
        uint32_t group = shape.spec[VKL_SEQUENCE_DIRECT_SPEC_ROWS];
        uint64_t abreast = group < wide ? wide / group : 1, depth = backward ? abreast : 4 * abreast,
                 at_once = backward ? 4 * wide : wide;
        uint64_t groups = (units + at_once - 1) / at_once, turns = (units + depth - 1) / depth + 1;
        groups = (groups + shape.unit_groups - 1) / shape.unit_groups;
        cr_expect_leq(shape.steps * (groups * (turns + 1) + 2), 65535, "%llu x %llu", (unsigned long long)rows,
                      (unsigned long long)units);
        cr_expect_geq(shape.steps, 1);
        cr_expect(shape.unit_groups == 1 || shape.steps == 1);
        cr_expect_eq(shape.group_rows, group);
        cr_expect(group % wide == 0 || wide % group == 0);
    }
}

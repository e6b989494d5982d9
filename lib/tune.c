/* SPDX-License-Identifier: MIT
 *
 * From a device's properties to the choices that plans are built with. Pure functions. */
#include "internal.h"

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
        .parallel = info->type == VKL_DEVICE_DISCRETE || info->type == VKL_DEVICE_VIRTUAL ? 16384 : 4096,
    };
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

static bool sequence_host(VklSequenceShape *shape)
{
    shape->group_rows = 1;
    shape->steps = UINT32_MAX;
    return true;
}

static bool sequence_gpu(const VklCaps *caps, uint64_t units, bool backward, VklSequenceShape *shape)
{
    uint64_t columns = 4 * units;
    (void)caps;
    (void)backward;
    shape->spec[VKL_SPEC_WORKGROUP] = 128;
    shape->spec[VKL_SPEC_OWN] = 1;
    shape->group_rows = 1;
    /* software devices stop a loop after 65,535 turns, all of an invocation's together */
    uint64_t turns = (columns + 2) * ((units + 127) / 128) + 8;
    shape->steps = 60000 / turns;
    return shape->steps > 0;
}

bool vkl_tune_sequence(const VklCaps *caps, uint32_t cell, uint64_t rows, uint64_t units, bool backward, VklSequenceShape *shape,
                       bool *pays)
{
    (void)cell;
    (void)rows;
    *shape = (VklSequenceShape){.kernel = backward ? VKL_KERNEL_SEQUENCE_BACKWARD : VKL_KERNEL_SEQUENCE_FORWARD};
    *pays = false;
    if (caps->storage_buffers < SEQUENCE_BINDINGS)
        return false;
    *pays = caps->arch == VKL_ARCH_HOST;
    return caps->arch == VKL_ARCH_HOST ? sequence_host(shape) : sequence_gpu(caps, units, backward, shape);
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
    return GEMM_DEPTH * (tile->rows + 4 + tile->columns + 4) * 4;
}

static bool gemm_fits(const VklCaps *caps, const GemmTile *tile)
{
    /* a block of 8 x 8 does not fit the registers of Intel's: its compiler spills a hundred and more */
    if (caps->vendor == VKL_VENDOR_INTEL && tile->row_block * tile->column_block > 32)
        return false;
    return gemm_invocations(tile) <= caps->workgroup_invocations && gemm_shared(tile) <= caps->shared_memory;
}

/* How many terms of the loop are written out. All of them is best where registers last: AMD, NVIDIA, and Intel with its smaller blocks
 * but for the loads one by one of the tile of 64. Adreno 660 refuses more than four; and it is four where the compiler is not known. */
static uint32_t gemm_unroll(const VklCaps *caps, const GemmTile *tile, bool wide)
{
    switch (caps->vendor) {
    case VKL_VENDOR_AMD:
    case VKL_VENDOR_NVIDIA:
        return GEMM_DEPTH;
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

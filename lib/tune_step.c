/* SPDX-License-Identifier: MIT
 *
 * The shapes of step kernels. */
#include "internal.h"
#include "plan_build.h"

#define STEP_BINDINGS 5

static uint32_t power_below(uint64_t value, uint32_t most)
{
    uint32_t power = 1;
    while (2 * power <= value && 2 * power <= most)
        power *= 2;
    return power;
}

static uint32_t power_above(uint64_t value, uint32_t most)
{
    uint32_t power = 1;
    while (power < value && power < most)
        power *= 2;
    return power;
}

/* Vectors of four sums that an invocation has for each row. */
static uint64_t vectors_of(const VklStepSize *size, const VklStepShape *shape)
{
    return size->backward || size->interleaved || !size->wide ? shape->units : size->gates;
}

/* Rows share what is read of W, units what is read of the operand. */
static void shape_software(const VklStepSize *size, VklStepShape *shape)
{
    if (size->backward)
        shape->units = power_below(size->units, 4);
    else
        shape->units = size->wide && !size->interleaved ? 4 : 1;
    shape->rows = power_below(size->rows, vectors_of(size, shape) > 2 ? 4 : 8);
    shape->workgroup = 8;
    shape->slices = 1;
}

/* Few rows: W is read once, from memory, and all that counts is how many read it at a time: so sums are cut among invocations. Many: each
 * number of W is used for as many rows as registers hold sums for. */
static void shape_gpu(const VklCaps *caps, const VklStepSize *size, VklStepShape *shape)
{
    uint32_t most = (uint32_t)smaller(caps->workgroup_invocations, 128);
    bool few = size->rows <= 8, some = size->rows <= 48;
    shape->units = size->backward ? 1 : size->wide && !size->interleaved ? 4 : 1;
    if (size->backward && !few)
        shape->units = 2;
    /* as many as no compiler spills with */
    uint32_t rows = !size->backward && vectors_of(size, shape) > 1 ? 4 : 8;
    shape->rows = power_above(size->rows, caps->vendor == VKL_VENDOR_INTEL ? rows / 2 : rows);
    shape->slices = power_below(size->k / 16, few ? 16 : some ? 4 : 1);
    shape->workgroup = some ? most : (uint32_t)smaller(most, 64);
}

bool vkl_tune_step(const VklCaps *caps, const VklStepSize *size, VklStepShape *shape, bool *pays)
{
    *pays = false;
    *shape = (VklStepShape){.workgroup = 1, .rows = 1, .units = 1, .slices = 1};
    if (caps->storage_buffers < STEP_BINDINGS)
        return false;
    if (caps->arch == VKL_ARCH_HOST)
        return true;
    if (caps->arch == VKL_ARCH_SOFTWARE)
        shape_software(size, shape);
    else
        shape_gpu(caps, size, shape);
    /* software devices multiply large matrices faster with the kernels of GEMM, and a dispatch costs them little beside that */
    *pays = caps->arch == VKL_ARCH_GPU || size->rows * size->units * size->k * size->gates <= 600000;
    /* each set of activations is a pipeline of its own, which takes their compilers longer than small steps take in a long training */
    *pays = *pays && (caps->arch == VKL_ARCH_GPU || size->usual);
    /* SwiftShader, whose subgroups are of four, keeps arrays of unknown length in memory, lane by lane */
    *pays = *pays && (caps->arch == VKL_ARCH_GPU || caps->lanes > 4);
    /* software devices stop a loop after 65,535 turns, all of an invocation's together */
    return size->k <= 60000;
}

bool vkl_tune_wave(const VklCaps *caps, const VklWaveSize *size, VklStepShape *shape)
{
    uint64_t terms = size->backward ? size->gates * size->units : size->units; /* of each of two products */
    VklStepSize step = {.rows = size->rows,
                        .units = size->units,
                        .k = 2 * terms,
                        .gates = size->backward ? 1 : size->gates,
                        .interleaved = size->interleaved,
                        .backward = size->backward};
    bool pays, can = vkl_tune_step(caps, &step, shape, &pays);
    shape->units = 1;
    /* the loop over rows, with the cell in it, is one that compilers leave rolled when it is long, NVK at any length, with sums in memory */
    uint32_t most = caps->vendor == VKL_VENDOR_NVIDIA ? 1 : 4;
    if (shape->rows > most)
        shape->rows = most;
    return can;
}

#define AGENTS_BINDINGS 6

bool vkl_tune_agents(const VklCaps *caps, uint64_t rows, uint64_t units, uint64_t inputs, VklAgentsShape *shape, bool *pays)
{
    uint64_t terms = units + inputs,
             vectors = caps->shared_memory / 16 / larger(terms, 1); /* four rows of an operand are a vector */
    *pays = false;
    *shape = (VklAgentsShape){.workgroup = power_above(units, (uint32_t)smaller(caps->workgroup_invocations, 256)), .fours = 1};
    if (caps->storage_buffers < AGENTS_BINDINGS || !vectors)
        return false;
    if (caps->arch == VKL_ARCH_HOST)
        return true;
    if (rows > 4 && vectors > 1)
        shape->fours = 2;
    if (caps->arch == VKL_ARCH_SOFTWARE)
        shape->workgroup = 8;
    /* each workgroup reads all weights: many rows of a wide layer do better with products that share them. Of GPUs a guess: none was measured */
    uint64_t most = caps->arch == VKL_ARCH_GPU ? (UINT64_C(1) << 25) / (units * terms) : 4;
    *pays = units <= 512 && rows <= most;
    /* software devices stop loops after 65,535 turns, all of an invocation's together */
    return blocks(units, shape->workgroup) * (terms + 8) + blocks(terms, shape->workgroup) * shape->fours <= 60000;
}

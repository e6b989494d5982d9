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

/* Registers hold the sums of an invocation; rows share what is read of W, units what is read of the operand. */
static void shape_software(const VklStepSize *size, VklStepShape *shape)
{
    if (size->backward)
        shape->units = power_below(size->units, 4);
    else
        shape->units = size->wide && !size->interleaved ? 4 : 1;
    uint64_t vectors = size->backward ? shape->units : size->interleaved || !size->wide ? 1 : size->gates;
    shape->rows = power_below(size->rows, vectors > 2 ? 4 : 8);
    shape->workgroup = 8;
    shape->slices = 1;
}

static void shape_gpu(const VklStepSize *size, VklStepShape *shape)
{
    shape_software(size, shape);
    shape->workgroup = 64;
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
        shape_gpu(size, shape);
    *pays = true;
    /* software devices stop a loop after 65,535 turns, all of an invocation's together */
    return size->k <= 60000;
}

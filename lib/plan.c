/* SPDX-License-Identifier: MIT
 *
 * The array of kernel calls: appending, windows, barriers. What to append is decided in plan_ops.c and above. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"
#include "plan_build.h"

const char *const vkl_slot_name[VKL_SLOT_COUNT] = {
#define X(name, text) text,
    VKL_SLOT_LIST(X)
#undef X
};

void vkl_plan_init(VklPlan *plan, const VklCaps *caps)
{
    memset(plan, 0, sizeof(*plan));
    plan->caps = caps;
}

void vkl_plan_finish(VklPlan *plan)
{
    vkl_release(plan->ops);
    vkl_release(plan->touched);
    memset(plan, 0, sizeof(*plan));
}

VklStatus vkl_plan_fail(VklPlan *plan, VklStatus status, const char *format, ...)
{
    if (plan->status)
        return plan->status; /* the first failure is the one to tell */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plan->error, sizeof(plan->error), format, arguments);
    va_end(arguments);
    plan->status = status;
    return status;
}

static bool grow(VklPlan *plan, void **array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : 64;
    void *made = vkl_reallocate(plan->caps->memory, *array, wanted, size);
    if (!made) {
        vkl_plan_fail(plan, VKL_ERROR_HOST_MEMORY, "the host refused memory for %zu kernel calls", wanted);
        return false;
    }
    *array = made;
    *capacity = wanted;
    return true;
}

uint64_t vkl_plan_window(const VklPlan *plan)
{
    /* one alignment is lost to rounding the window's base down here, one to rounding the slot's own base down at binding */
    return (plan->caps->storage_range - 2 * (uint64_t)plan->caps->storage_alignment) / 4;
}

VklOp *vkl_plan_op(VklPlan *plan, VklKernel kernel)
{
    if (plan->status)
        return NULL;
    void *ops = plan->ops;
    if (!grow(plan, &ops, &plan->capacity, plan->count, sizeof(VklOp)))
        return NULL;
    plan->ops = ops;
    VklOp *op = &plan->ops[plan->count];
    memset(op, 0, sizeof(*op));
    op->kernel = (uint16_t)kernel;
    op->bindings = (uint8_t)vkl_kernel_info[kernel].bindings;
    op->spec[VKL_SPEC_WORKGROUP] = plan->caps->workgroup;
    op->work = 1;
    op->work_cost = 1;
    for (int i = 0; i < op->bindings; i++)
        op->bind[i].slot = VKL_SLOT_NONE;
    return op;
}

void vkl_plan_bind(VklPlan *plan, VklOp *op, int binding, VklArray array, uint64_t count, int access)
{
    uint64_t begin = array.at * 4, end = (array.at + count) * 4;
    uint64_t base = begin & ~(uint64_t)(plan->caps->storage_alignment - 1);
    VklBind *bind = &op->bind[binding];
    bind->slot = array.slot;
    bind->access = (uint8_t)access;
    bind->offset = base;
    bind->size = end - base;
    op->args.offset[binding] = (uint32_t)((begin - base) / 4);
    if (end > plan->slot_size[array.slot])
        plan->slot_size[array.slot] = end;
    if (count > vkl_plan_window(plan))
        vkl_plan_fail(plan, VKL_ERROR_LIMIT, "%s: %llu bytes of '%s' are needed at once; a binding of the device reaches %llu",
                      vkl_kernel_info[op->kernel].name, (unsigned long long)(count * 4), vkl_slot_name[array.slot],
                      (unsigned long long)(vkl_plan_window(plan) * 4));
}

void vkl_plan_linear(VklPlan *plan, VklOp *op, uint64_t invocations)
{
    uint64_t groups = (invocations + plan->caps->workgroup - 1) / plan->caps->workgroup;
    uint64_t x = groups < plan->caps->workgroups[0] ? groups : plan->caps->workgroups[0];
    uint64_t y = x ? (groups + x - 1) / x : 1;
    if (invocations > UINT32_MAX - (uint64_t)plan->caps->workgroup * x || y > plan->caps->workgroups[1]) {
        vkl_plan_fail(plan, VKL_ERROR_LIMIT, "%s: %llu elements are more than one dispatch of the device can reach",
                      vkl_kernel_info[op->kernel].name, (unsigned long long)invocations);
        return;
    }
    op->groups[0] = (uint32_t)x;
    op->groups[1] = (uint32_t)y;
    op->groups[2] = 1;
}

static bool conflicts(const VklPlan *plan, const VklBind *bind)
{
    for (size_t i = 0; i < plan->touched_count; i++) {
        const VklTouched *touched = &plan->touched[i];
        if (touched->slot == bind->slot && ((touched->access | bind->access) & VKL_WRITE) &&
            touched->begin < bind->offset + bind->size && bind->offset < touched->end)
            return true;
    }
    return false;
}

void vkl_plan_end(VklPlan *plan, VklOp *op)
{
    if (plan->status)
        return;
    if (plan->counting == VKL_COUNTING_ROWS && !op->counted.rows) {
        vkl_plan_fail(plan, VKL_ERROR_UNSUPPORTED, "%s: its workgroups do not follow a number of rows on the device",
                      vkl_kernel_info[op->kernel].name);
        return;
    }
    const VklBind *first = NULL;
    for (int i = 0; i < op->bindings; i++) {
        if (op->bind[i].slot == VKL_SLOT_NONE)
            continue;
        first = first ? first : &op->bind[i];
        op->barrier = op->barrier || conflicts(plan, &op->bind[i]);
    }
    if (op->barrier)
        plan->touched_count = 0;
    for (int i = 0; i < op->bindings; i++) {
        VklBind *bind = &op->bind[i];
        if (bind->slot == VKL_SLOT_NONE) {
            *bind = *first;
            bind->access = 0;
            continue;
        }
        void *touched = plan->touched;
        if (!grow(plan, &touched, &plan->touched_capacity, plan->touched_count, sizeof(VklTouched)))
            return;
        plan->touched = touched;
        plan->touched[plan->touched_count++] =
            (VklTouched){.slot = bind->slot, .access = bind->access, .begin = bind->offset, .end = bind->offset + bind->size};
    }
    plan->count++;
}

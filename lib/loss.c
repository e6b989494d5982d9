/* SPDX-License-Identifier: MIT */
#include "internal.h"

VklLossArgs vkl_loss_args(VklLoss kind, uint64_t count)
{
    VklLossArgs args = {.struct_size = sizeof(args), .delta = 1};
    args.kind = kind;
    args.count = count;
    return args;
}

VklStatus vkl_loss_record(VklStream *stream, const VklLossArgs *args)
{
    static const char call[] = "vkl_loss_record";
    VklContext *context = stream->device->context;
    VklStatus status = vkl_check_struct(context, &stream->error, call, "args", args, sizeof(*args));
    if (status)
        return status;
    if (args->kind < VKL_LOSS_MSE || args->kind > VKL_LOSS_HUBER)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: kind %d is none of VklLoss", call, (int)args->kind);
    if (!args->count)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: count is 0; it must be at least 1", call);
    if (args->kind == VKL_LOSS_HUBER && !(args->delta > 0))
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: delta is %g; it must be above 0", call, args->delta);
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    slots[VKL_SLOT_PREDICTED] = args->predicted;
    slots[VKL_SLOT_TARGET] = args->target;
    slots[VKL_SLOT_GRADIENT] = args->gradient;
    slots[VKL_SLOT_LOSS] = args->loss;
    VklPlan plan;
    vkl_plan_init(&plan, &stream->device->caps);
    vkl_plan_loss(&plan, &(VklLossOp){.kind = args->kind,
                                      .delta = args->delta,
                                      .rows = args->count,
                                      .outputs = 1,
                                      .predicted = vkl_array(VKL_SLOT_PREDICTED, 0),
                                      .target = vkl_array(VKL_SLOT_TARGET, 0),
                                      .gradient = args->gradient.buffer ? vkl_array(VKL_SLOT_GRADIENT, 0) : VKL_NO_ARRAY,
                                      .out = vkl_array(VKL_SLOT_LOSS, 0),
                                      .out_count = 1});
    return vkl_exec_record_once(stream->device, stream, &plan, slots, call, &stream->error);
}

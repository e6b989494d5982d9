/* SPDX-License-Identifier: MIT */
#include "plan_model.h"

#include "internal.h"
#include "plan_build.h"

bool vkl_window_places(const VklWindows *windows, uint64_t batch, VklWindowPlaces *places)
{
    uint64_t series, targets;
    if (!vkl_mul(windows->rows, windows->features, &series) || !vkl_mul(windows->count, windows->outputs, &targets) ||
        series > INT64_MAX / 64 || targets > INT64_MAX / 64 || windows->count > UINT32_MAX)
        return false;
    *places = (VklWindowPlaces){.count = windows->count};
    places->starts = aligned(series);
    places->targets = places->starts + aligned(windows->count);
    places->data = places->targets + (windows->targets ? targets : 0);
    places->batches = (windows->count + batch - 1) / batch;
    places->order = aligned(VKL_STATE_LOSS + places->batches);
    places->state = places->order + windows->count;
    return true;
}

/* An arena that is handed out front to back. */
typedef struct Arena {
    VklSlot slot;
    uint64_t used;
    bool fits;
} Arena;

static VklArray take(Arena *arena, uint64_t a, uint64_t b)
{
    uint64_t count, end;
    VklArray array = vkl_array(arena->slot, arena->used);
    if (!vkl_mul(a, b, &count) || !vkl_add(arena->used, count, &end) || end > INT64_MAX / 8)
        arena->fits = false;
    else
        arena->used = aligned(end);
    return array;
}

/* What forward leaves for backward of one layer. */
typedef struct Trace {
    VklArray x, y, memory;
} Trace;

/* Masks follow the optimizer's step, which the loss kernel has moved on when backward runs. */
#define OFFSET_FORWARD 0u
#define OFFSET_BACKWARD UINT32_MAX

static uint64_t rows_of(const VklModelPlan *model, bool sequence)
{
    return sequence ? model->T * model->N : model->N;
}

/* y = the numbers of x, some of them dropped: a layer of its own, with masks apart from those inside recurrent layers. */
static void drop(VklPlan *plan, const VklModelPlan *model, const VklNetworkLayer *layer, uint32_t index, uint32_t offset,
                 VklArray y, VklArray x)
{
    uint64_t steps = layer->sequence_in ? model->T : 1;
    VklDraw draw = {.seed = model->seed,
                    .offset = offset,
                    .stream = 0x10000u + index,
                    .state = vkl_array(VKL_SLOT_STATE, 0),
                    .offset_at = VKL_STATE_STEP,
                    .over_time = true,
                    .p = layer->desc.rate};
    vkl_plan_move(plan, &(VklMove){.dst = y,
                                   .src = x,
                                   .steps = steps,
                                   .rows = model->N,
                                   .columns = layer->inputs,
                                   .dst_step = model->N * layer->inputs,
                                   .dst_row = layer->inputs,
                                   .src_step = model->N * layer->inputs,
                                   .src_row = layer->inputs,
                                   .draw = &draw});
}

static VklRnnPass pass_of(const VklModelPlan *model, const VklNetworkLayer *layer, const Trace *trace, uint32_t offset)
{
    return (VklRnnPass){.desc = &layer->rnn,
                        .T = model->T,
                        .N = model->N,
                        .training = model->training,
                        .zero_states = model->training, /* initial slots stay as the arena began: zero */
                        .params = vkl_array(VKL_SLOT_PARAMS, layer->params),
                        .x = trace->x,
                        .lengths = VKL_NO_ARRAY,
                        .h0 = VKL_NO_ARRAY,
                        .c0 = VKL_NO_ARRAY,
                        .y = VKL_NO_ARRAY,
                        .hn = VKL_NO_ARRAY,
                        .cn = VKL_NO_ARRAY,
                        .reserve = trace->memory,
                        .workspace = VKL_NO_ARRAY,
                        .gy = VKL_NO_ARRAY,
                        .ghn = VKL_NO_ARRAY,
                        .gcn = VKL_NO_ARRAY,
                        .dx = VKL_NO_ARRAY,
                        .dh0 = VKL_NO_ARRAY,
                        .dc0 = VKL_NO_ARRAY,
                        .dparams = vkl_array(VKL_SLOT_GRADS, layer->params),
                        .padded = true, /* the gradients began as zeros */
                        .seed = model->seed,
                        .offset = offset,
                        .state = vkl_array(VKL_SLOT_STATE, 0)};
}

static void rnn_forward(VklPlan *plan, const VklModelPlan *model, const VklNetworkLayer *layer, Arena *arena, Trace *trace)
{
    VklRnnSizes sizes;
    if (!vkl_rnn_measure(&layer->rnn, model->T, model->N, &sizes)) {
        arena->fits = false;
        return;
    }
    trace->memory = model->training ? take(arena, sizes.reserve / 4, 1) : VKL_NO_ARRAY;
    VklRnnPass pass = pass_of(model, layer, trace, OFFSET_FORWARD);
    pass.workspace = take(arena, vkl_rnn_forward_scratch(&layer->rnn, model->T, model->N, model->training), 1);
    if (!vkl_rnn_output(&pass, &trace->y))
        pass.y = trace->y = take(arena, rows_of(model, layer->sequence_out), layer->outputs);
    if (arena->fits)
        vkl_plan_rnn_forward(plan, &pass);
}

static VklArray layer_forward(VklPlan *plan, const VklModelPlan *model, uint32_t index, Arena *arena, VklArray x, Trace *trace)
{
    const VklNetworkLayer *layer = &model->network->layers[index];
    uint64_t rows = rows_of(model, layer->sequence_in);
    trace->x = trace->y = x;
    switch (layer->desc.kind) {
    case VKL_LAYER_DENSE:
        trace->y = take(arena, rows, layer->outputs);
        if (arena->fits)
            vkl_plan_dense_forward(plan, &(VklDensePass){.desc = &layer->dense,
                                                         .rows = rows,
                                                         .params = vkl_array(VKL_SLOT_PARAMS, layer->params),
                                                         .x = x,
                                                         .y = trace->y});
        break;
    case VKL_LAYER_DROPOUT:
        if (model->training && layer->desc.rate > 0) {
            trace->y = take(arena, rows, layer->outputs);
            if (arena->fits)
                drop(plan, model, layer, index, OFFSET_FORWARD, trace->y, x);
        }
        break;
    default:
        rnn_forward(plan, model, layer, arena, trace);
    }
    return trace->y;
}

/* The gradient to the layer's input, or an absent array for the first layer. */
static VklArray layer_backward(VklPlan *plan, const VklModelPlan *model, uint32_t index, Arena *arena, const Trace *trace,
                               VklArray gy)
{
    const VklNetworkLayer *layer = &model->network->layers[index];
    uint64_t rows = rows_of(model, layer->sequence_in);
    if (layer->desc.kind == VKL_LAYER_DROPOUT) {
        if (layer->desc.rate > 0 && arena->fits)
            drop(plan, model, layer, index, OFFSET_BACKWARD, gy, gy);
        return gy;
    }
    VklArray dx = index == 0 ? VKL_NO_ARRAY : take(arena, rows, layer->inputs);
    if (layer->desc.kind == VKL_LAYER_DENSE) {
        VklArray scratch = take(arena, vkl_dense_scratch(&layer->dense, rows), 1);
        if (arena->fits)
            vkl_plan_dense_backward(plan, &(VklDensePass){.desc = &layer->dense,
                                                          .rows = rows,
                                                          .params = vkl_array(VKL_SLOT_PARAMS, layer->params),
                                                          .x = trace->x,
                                                          .y = trace->y,
                                                          .gy = gy,
                                                          .dx = dx,
                                                          .dparams = vkl_array(VKL_SLOT_GRADS, layer->params),
                                                          .workspace = scratch,
                                                          .padded = true});
        return dx;
    }
    VklRnnPass pass = pass_of(model, layer, trace, OFFSET_BACKWARD);
    pass.workspace = take(arena, vkl_rnn_backward_scratch(&layer->rnn, model->T, model->N, false), 1);
    pass.gy = gy;
    pass.dx = dx;
    if (arena->fits)
        vkl_plan_rnn_backward(plan, &pass);
    return dx;
}

bool vkl_plan_model(VklPlan *plan, VklModelPlan *model)
{
    const VklNetwork *network = model->network;
    uint64_t T = model->T, N = model->N, steps;
    Arena reserve = {.slot = VKL_SLOT_RESERVE, .fits = true}, workspace = {.slot = VKL_SLOT_WORKSPACE, .fits = true};
    if (!vkl_mul(T, N, &steps))
        return false;
    Trace *traces = vkl_allocate(plan->caps->memory, network->count, sizeof(*traces));
    if (!traces) {
        vkl_plan_fail(plan, VKL_ERROR_HOST_MEMORY, "the host refused memory for %u layers", network->count);
        return true;
    }
    VklArray x = take(&reserve, steps, network->features);
    VklArray target = model->has_targets ? take(&reserve, N, network->outputs) : VKL_NO_ARRAY;
    VklArray state = vkl_array(VKL_SLOT_STATE, 0);
    if (reserve.fits)
        vkl_plan_gather(plan, &(VklGather){.steps = T,
                                           .rows = N,
                                           .features = network->features,
                                           .outputs = network->outputs,
                                           .data = vkl_array(VKL_SLOT_DATA, 0),
                                           .series_at = model->places->series,
                                           .starts_at = model->places->starts,
                                           .targets_at = model->places->targets,
                                           .data_count = model->places->data,
                                           .state = state,
                                           .order_at = model->places->order,
                                           .order_count = model->places->count,
                                           .x = x,
                                           .target = target});
    for (uint32_t i = 0; i < network->count && reserve.fits; i++)
        x = layer_forward(plan, model, i, &reserve, x, &traces[i]);
    model->predictions = x;

    VklArray gradient = model->training ? take(&workspace, N, network->outputs) : VKL_NO_ARRAY;
    if (reserve.fits && workspace.fits && (model->training || model->with_loss))
        vkl_plan_loss(plan, &(VklLossOp){.kind = model->loss,
                                         .delta = model->huber_delta,
                                         .rows = N,
                                         .outputs = network->outputs,
                                         .predicted = model->predictions,
                                         .target = target,
                                         .gradient = gradient,
                                         .out = state,
                                         .out_count = VKL_STATE_LOSS + model->places->batches,
                                         .advance = model->training ? 2 : 1,
                                         .optimizer = model->optimizer});
    if (model->training) {
        for (uint32_t i = network->count; i-- > 0 && reserve.fits && workspace.fits;)
            gradient = layer_backward(plan, model, i, &workspace, &traces[i], gradient);
        VklArray partial = take(&workspace, vkl_norm_partials(network->params), 1);
        if (reserve.fits && workspace.fits)
            vkl_plan_optimize(plan, &(VklOptimize){.desc = model->optimizer,
                                                   .count = network->params,
                                                   .params = vkl_array(VKL_SLOT_PARAMS, 0),
                                                   .grads = vkl_array(VKL_SLOT_GRADS, 0),
                                                   .moments = vkl_array(VKL_SLOT_MOMENTS, 0),
                                                   .state = state,
                                                   .partial = partial});
    }
    vkl_release(traces);
    model->reserve = reserve.used;
    model->workspace = workspace.used;
    return reserve.fits && workspace.fits;
}

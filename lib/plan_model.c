/* SPDX-License-Identifier: MIT */
#include "plan_model.h"

#include "internal.h"

static uint64_t aligned(uint64_t floats)
{
    return (floats + 63) & ~UINT64_C(63);
}

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

static VklArray layer_forward(VklPlan *plan, const VklModelPlan *model, const VklNetworkLayer *layer, Arena *arena, VklArray x,
                              Trace *trace)
{
    VklArray params = vkl_array(VKL_SLOT_PARAMS, layer->params);
    trace->x = x;
    if (layer->desc.kind == VKL_LAYER_DENSE) {
        uint64_t rows = layer->sequence_in ? model->T * model->N : model->N;
        trace->y = take(arena, rows, layer->desc.units);
        if (arena->fits)
            vkl_plan_dense_forward(plan,
                                   &(VklDensePass){.desc = &layer->dense, .rows = rows, .params = params, .x = x, .y = trace->y});
        return trace->y;
    }
    VklRnnSizes sizes;
    if (!vkl_rnn_measure(&layer->rnn, model->T, model->N, &sizes)) {
        arena->fits = false;
        return x;
    }
    trace->memory = take(arena, (model->training ? sizes.reserve : sizes.forward_workspace) / 4, 1);
    VklRnnPass pass = {.desc = &layer->rnn,
                       .T = model->T,
                       .N = model->N,
                       .training = model->training,
                       .zero_states = model->training, /* slot 0 stays as the arena began: zero */
                       .params = params,
                       .x = x,
                       .h0 = VKL_NO_ARRAY,
                       .c0 = VKL_NO_ARRAY,
                       .y = VKL_NO_ARRAY,
                       .hn = VKL_NO_ARRAY,
                       .cn = VKL_NO_ARRAY,
                       .memory = trace->memory};
    if (arena->fits)
        vkl_plan_rnn_forward(plan, &pass);
    trace->y = layer->sequence_out ? vkl_rnn_all_h(&pass) : vkl_rnn_last_h(&pass);
    return trace->y;
}

/* The gradient to the layer's input, or an absent array for the first layer. */
static VklArray layer_backward(VklPlan *plan, const VklModelPlan *model, const VklNetworkLayer *layer, Arena *arena,
                               const Trace *trace, VklArray gy, bool first)
{
    uint64_t rows_in = layer->sequence_in ? model->T * model->N : model->N;
    VklArray dx = first ? VKL_NO_ARRAY : take(arena, rows_in, layer->inputs);
    VklArray params = vkl_array(VKL_SLOT_PARAMS, layer->params), dparams = vkl_array(VKL_SLOT_GRADS, layer->params);
    if (layer->desc.kind == VKL_LAYER_DENSE) {
        VklArray scratch = take(arena, vkl_dense_scratch(&layer->dense, rows_in), 1);
        if (arena->fits)
            vkl_plan_dense_backward(plan, &(VklDensePass){.desc = &layer->dense,
                                                          .rows = rows_in,
                                                          .params = params,
                                                          .x = trace->x,
                                                          .y = trace->y,
                                                          .gy = gy,
                                                          .dx = dx,
                                                          .dparams = dparams,
                                                          .workspace = scratch,
                                                          .padded = true});
        return dx;
    }
    VklRnnSizes sizes;
    vkl_rnn_measure(&layer->rnn, model->T, model->N, &sizes);
    VklArray workspace = take(arena, sizes.backward_workspace / 4, 1);
    if (arena->fits)
        vkl_plan_rnn_backward(plan, &(VklRnnPass){.desc = &layer->rnn,
                                                  .T = model->T,
                                                  .N = model->N,
                                                  .training = true,
                                                  .params = params,
                                                  .x = trace->x,
                                                  .memory = trace->memory,
                                                  .workspace = workspace,
                                                  .gy = gy,
                                                  .ghn = VKL_NO_ARRAY,
                                                  .gcn = VKL_NO_ARRAY,
                                                  .dx = dx,
                                                  .dh0 = VKL_NO_ARRAY,
                                                  .dc0 = VKL_NO_ARRAY,
                                                  .dparams = dparams,
                                                  .gy_last = !layer->sequence_out});
    return dx;
}

bool vkl_plan_model(VklPlan *plan, VklModelPlan *model)
{
    const VklNetwork *network = model->network;
    uint64_t T = model->T, N = model->N, steps;
    Arena reserve = {.slot = VKL_SLOT_RESERVE, .fits = true}, workspace = {.slot = VKL_SLOT_WORKSPACE, .fits = true};
    if (!vkl_mul(T, N, &steps))
        return false;
    Trace *traces = calloc(network->count, sizeof(*traces));
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
        x = layer_forward(plan, model, &network->layers[i], &reserve, x, &traces[i]);
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
            gradient = layer_backward(plan, model, &network->layers[i], &workspace, &traces[i], gradient, i == 0);
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
    free(traces);
    model->reserve = reserve.used;
    model->workspace = workspace.used;
    return reserve.fits && workspace.fits;
}

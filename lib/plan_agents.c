/* SPDX-License-Identifier: MIT */
#include "plan_agents.h"

#include "internal.h"
#include "plan_build.h"

static void begin(VklPlan *plan, VklArray count)
{
    plan->counting = vkl_has(count) ? VKL_COUNTING_ROWS : VKL_COUNTING_OFF;
}

static void end(VklPlan *plan, VklArray count)
{
    if (vkl_has(count))
        vkl_plan_count(plan, count);
}

/* The part of a pass that begins at a row. */
static VklRnnPass part_of(const VklRnnPass *whole, uint64_t first, uint64_t rows)
{
    VklRnnPass part = *whole;
    VklRnnForm form = vkl_rnn_form(whole->desc);
    part.all = whole->N;
    part.first = first;
    part.N = rows;
    part.x.at += first * whole->desc->input_size;
    part.y.at += first * form.P;
    return part;
}

/* Whether a binding reaches all that rows need at once. */
static bool reaches(const VklPlan *plan, const VklRnnPass *pass, uint64_t rows)
{
    VklPlan trial;
    vkl_plan_init(&trial, plan->caps);
    trial.counting = plan->counting;
    VklRnnPass part = part_of(pass, 0, rows);
    vkl_plan_rnn_forward(&trial, &part);
    bool limit = trial.status == VKL_ERROR_LIMIT;
    vkl_plan_finish(&trial);
    return !limit;
}

/* Agents have nothing to do with each other: as many at a time as bindings reach. */
static void steps(VklPlan *plan, const VklRnnPass *pass)
{
    uint64_t most = pass->N;
    while (most > 1 && !plan->status && !reaches(plan, pass, most))
        most = (most + 1) / 2;
    for (uint64_t first = 0; first < pass->N && !plan->status; first += most) {
        VklRnnPass part = part_of(pass, first, smaller(most, pass->N - first));
        plan->first = first;
        vkl_plan_rnn_forward(plan, &part);
    }
    plan->first = 0;
}

void vkl_plan_rnn_agents(VklPlan *plan, const VklRnnPass *pass)
{
    begin(plan, pass->count);
    steps(plan, pass);
    end(plan, pass->count);
}

static bool take(VklArray base, uint64_t *used, uint64_t rows, uint64_t columns, VklArray *array)
{
    uint64_t count, last;
    if (!vkl_mul(rows, columns, &count) || !vkl_add(*used, count, &last) || last > INT64_MAX / 8)
        return false;
    *array = vkl_array_at(base, *used);
    *used = aligned(last);
    return true;
}

static bool is_recurrent(const VklNetworkLayer *layer)
{
    return layer->desc.kind != VKL_LAYER_DENSE && layer->desc.kind != VKL_LAYER_DROPOUT;
}

/* Scratch that recurrent layers have in turn. */
static bool scratch_of(const VklAgents *agents, uint64_t *most)
{
    *most = 0;
    for (uint32_t i = 0; i < agents->network->count; i++) {
        const VklNetworkLayer *layer = &agents->network->layers[i];
        VklRnnSizes sizes;
        if (!is_recurrent(layer))
            continue;
        if (!vkl_rnn_measure(&layer->rnn, 1, agents->N, &sizes))
            return false;
        *most = larger(*most, vkl_rnn_forward_scratch(&layer->rnn, 1, agents->N, false));
    }
    return true;
}

/* x becomes what the layer hands on. */
static bool recurrent(VklPlan *plan, const VklAgents *agents, const VklNetworkLayer *layer, bool last, uint64_t *state,
                      VklArray *x)
{
    VklRnnPass pass = {.desc = &layer->rnn,
                       .T = 1,
                       .N = agents->N,
                       .agents = true,
                       .params = vkl_array_at(agents->params, layer->params),
                       .x = *x,
                       .lengths = VKL_NO_ARRAY,
                       .h0 = VKL_NO_ARRAY,
                       .c0 = VKL_NO_ARRAY,
                       .y = last ? agents->y : VKL_NO_ARRAY,
                       .hn = VKL_NO_ARRAY,
                       .cn = VKL_NO_ARRAY,
                       .reserve = VKL_NO_ARRAY,
                       .workspace = agents->workspace,
                       .c = VKL_NO_ARRAY,
                       .reset = agents->reset,
                       .count = agents->count,
                       .state = VKL_NO_ARRAY};
    if (!take(agents->state, state, agents->N, layer->outputs, &pass.h) ||
        (layer->rnn.cell == VKL_CELL_LSTM && !take(agents->state, state, agents->N, layer->rnn.hidden_size, &pass.c)))
        return false;
    steps(plan, &pass);
    *x = pass.h;
    return true;
}

static bool dense(VklPlan *plan, const VklAgents *agents, const VklNetworkLayer *layer, uint64_t *used, VklArray *x)
{
    VklDensePass pass = {
        .desc = &layer->dense, .rows = agents->N, .params = vkl_array_at(agents->params, layer->params), .x = *x};
    if (!take(agents->workspace, used, agents->N, layer->outputs, &pass.y))
        return false;
    vkl_plan_dense_forward(plan, &pass);
    *x = pass.y;
    return true;
}

bool vkl_plan_agents(VklPlan *plan, VklAgents *agents)
{
    const VklNetwork *network = agents->network;
    VklArray x = agents->x;
    uint64_t used, state = 0;
    uint32_t last = network->count - 1;
    bool fits = scratch_of(agents, &used);
    used = aligned(used);
    while (network->layers[last].desc.kind == VKL_LAYER_DROPOUT && last)
        last--;
    begin(plan, agents->count);
    for (uint32_t i = 0; i <= last && fits; i++) {
        const VklNetworkLayer *layer = &network->layers[i];
        if (is_recurrent(layer))
            fits = recurrent(plan, agents, layer, i == last, &state, &x);
        else if (layer->desc.kind == VKL_LAYER_DENSE)
            fits = dense(plan, agents, layer, &used, &x);
    }
    if (fits && !is_recurrent(&network->layers[last])) { /* a product writes whole blocks of rows: not into the caller's */
        VklRows rows = {.form = VKL_ROWS_STORE, .rows = agents->N, .count = 1, .guard = agents->count};
        rows.piece[0] = (VklRowsPiece){x, agents->y, network->outputs};
        vkl_plan_rows(plan, &rows);
    }
    end(plan, agents->count);
    agents->state_floats = state;
    return fits;
}

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

/* One layer in place, a dispatch for as many rows as bindings reach. */
static void fused_layer(VklPlan *plan, const VklRnnPass *pass, uint64_t layer, const VklAgentsShape *shape, VklArray x)
{
    VklRnnForm form = vkl_rnn_form(pass->desc);
    VklRnnPlace place;
    vkl_rnn_place(pass->desc, layer, 0, &place);
    uint64_t window = vkl_plan_window(plan), H = pass->desc->hidden_size, block = 4 * (uint64_t)shape->fours;
    uint64_t most = smaller(smaller(window / larger(H, place.inputs), pass->N), plan->caps->workgroups[0] * block);
    for (uint64_t first = 0; first < pass->N && !plan->status; first += most) {
        VklOp *op = vkl_plan_op(plan, VKL_KERNEL_AGENTS_FORWARD);
        if (!op)
            return;
        uint64_t rows = smaller(most, pass->N - first), at = (layer * pass->N + first) * H;
        bool gru = form.sequence == VKL_SEQUENCE_GRU;
        vkl_plan_bind(plan, op, 0, vkl_array_at(pass->params, place.w_ih), place.end - place.w_ih, VKL_READ);
        vkl_plan_bind(plan, op, 1, vkl_array_at(x, first * place.inputs), rows * place.inputs, VKL_READ);
        vkl_plan_bind(plan, op, 2, vkl_array_at(pass->h, at), rows * H, VKL_READ_WRITE);
        if (form.lstm)
            vkl_plan_bind(plan, op, 3, vkl_array_at(pass->c, at), rows * H, VKL_READ_WRITE);
        if (vkl_has(pass->reset))
            vkl_plan_bind(plan, op, 4, vkl_array_at(pass->reset, first), rows, VKL_READ);
        if (vkl_has(pass->count))
            vkl_plan_bind(plan, op, 5, pass->count, 1, VKL_READ);
        op->spec[VKL_SPEC_WORKGROUP] = shape->workgroup;
        op->spec[VKL_SPEC_FORM] = form.sequence;
        op->spec[VKL_SPEC_AGENTS_TERMS] = (uint32_t)(place.inputs + H);
        op->spec[VKL_SPEC_AGENTS_FOURS] = shape->fours;
        struct VklAgentsForwardArgs *args = &op->args.AGENTS_FORWARD;
        args->rows = (uint32_t)rows;
        args->first = (uint32_t)first;
        args->units = (uint32_t)H;
        args->inputs = (uint32_t)place.inputs;
        args->w_hh = (uint32_t)(place.w_hh - place.w_ih);
        args->b_ih = place.b_ih == UINT64_MAX ? 0 : (uint32_t)(place.b_ih - place.w_ih);
        args->bias_rows = gru && form.bias_rows ? 1 : (uint32_t)form.bias_rows;
        args->b_hh = gru && place.b_hh != UINT64_MAX ? (uint32_t)(place.b_hh - place.w_ih) : VKL_ABSENT;
        args->flags = (vkl_has(pass->reset) ? VKL_AGENTS_RESET : 0) | (vkl_has(pass->count) ? VKL_AGENTS_COUNT : 0);
        op->groups[0] = (uint32_t)blocks(rows, block);
        op->groups[1] = op->groups[2] = 1;
        vkl_plan_counted(plan, op, VKL_TALLY_X, first, rows, block, 1, 1);
        op->work = rows;
        op->work_cost = H * (form.columns / H * (place.inputs + H) + 64);
        vkl_plan_end(plan, op);
    }
}

/* Cells without options in one dispatch for each layer, where that pays. */
static bool fused(VklPlan *plan, const VklRnnPass *pass)
{
    const VklRnnDesc *desc = pass->desc;
    VklRnnForm form = vkl_rnn_form(desc);
    VklAgentsShape shape;
    bool pays;
    if (!form.plain || desc->path != VKL_RNN_PATH_AUTO || desc->skip_input || desc->storage != VKL_STORAGE_FLOAT32)
        return false;
    for (uint64_t layer = 0; layer < desc->layers; layer++) {
        VklRnnPlace place;
        vkl_rnn_place(desc, layer, 0, &place);
        if (!vkl_tune_agents(plan->caps, pass->N, desc->hidden_size, place.inputs, &shape, &pays) || !pays ||
            place.end - place.w_ih > vkl_plan_window(plan) || larger(desc->hidden_size, place.inputs) > vkl_plan_window(plan))
            return false;
    }
    VklArray x = pass->x;
    for (uint64_t layer = 0; layer < desc->layers; layer++) {
        VklRnnPlace place;
        vkl_rnn_place(desc, layer, 0, &place);
        vkl_tune_agents(plan->caps, pass->N, desc->hidden_size, place.inputs, &shape, &pays);
        fused_layer(plan, pass, layer, &shape, x);
        x = vkl_array_at(pass->h, layer * pass->N * desc->hidden_size);
    }
    if (vkl_has(pass->y)) {
        VklRows rows = {.form = VKL_ROWS_STORE, .rows = pass->N, .count = 1, .guard = pass->count};
        rows.piece[0] = (VklRowsPiece){x, pass->y, desc->hidden_size};
        vkl_plan_rows(plan, &rows);
    }
    return true;
}

/* Agents have nothing to do with each other: as many at a time as bindings reach. */
static void steps(VklPlan *plan, const VklRnnPass *pass)
{
    uint64_t most = pass->N;
    if (fused(plan, pass))
        return;
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

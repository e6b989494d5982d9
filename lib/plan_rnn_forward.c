/* SPDX-License-Identifier: MIT */
#include "plan_rnn_pass.h"

VklDraw vkl_rnn_draw(const Layers *layers, uint64_t layer, uint64_t d, bool recurrent, double p)
{
    return (VklDraw){.seed = layers->pass->seed,
                     .offset = layers->pass->offset,
                     .stream = (uint32_t)(3 * (layer * layers->form.D + d) + recurrent),
                     .state = layers->pass->state,
                     .offset_at = VKL_STATE_STEP,
                     .first_row = layers->pass->first_row,
                     .over_time = !recurrent,
                     .p = p};
}

/* dst [N][P] = or += mask of gate g * src [N][P] */
void vkl_rnn_mask_rows(const Layers *layers, uint64_t layer, uint64_t d, uint64_t g, VklArray dst, uint64_t dst_row, VklArray src,
                       uint64_t src_row, bool add)
{
    VklDraw draw = vkl_rnn_draw(layers, layer, d, true, (double)layers->desc->recurrent_dropout);
    draw.first_column = layers->form.masks > 1 ? g * layers->form.P : 0;
    vkl_plan_move(layers->plan, &(VklMove){.dst = dst,
                                           .src = src,
                                           .steps = 1,
                                           .rows = layers->N,
                                           .columns = layers->form.P,
                                           .dst_row = dst_row,
                                           .src_row = src_row,
                                           .add = add,
                                           .draw = &draw});
}

/* The masked copies of h in a slot. */
static void mask_slot(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t slot)
{
    const VklRnnForm *form = &layers->form;
    for (uint64_t g = 0; g < form->masks; g++)
        vkl_rnn_mask_rows(layers, layer, d, g, h_at(layers, memory, slot, operand_column(layers, d, g)), form->h_ld,
                          h_at(layers, memory, slot, d * form->P), form->h_ld, false);
}

/* What the side arena holds for a direction before its first step. */
void vkl_rnn_prepare_side(const Layers *layers, const VklRnnPlace *place)
{
    const Side *side = &layers->work.side;
    uint64_t H = layers->H;
    if (layers->fused)
        return;
    VklCounting counting = vkl_plan_whole(layers->plan);
    if (vkl_has(layers->pass->lengths))
        move(layers, side_at(layers, side->lengths), layers->N, layers->pass->lengths, layers->N, 1, layers->N, false);
    if (place->peephole != VKL_RNN_NONE)
        move(layers, side_at(layers, side->peephole), 3 * H, param(layers, place->peephole), 3 * H, 1, 3 * H, false);
    if (layers->form.gru_after && place->b_hh != VKL_RNN_NONE)
        move(layers, side_at(layers, side->bias), 3 * H, param(layers, place->b_hh), 3 * H, 1, 3 * H, false);
    layers->plan->counting = counting;
}

/* dst [N] rows of `columns` = src, or zeros */
static void load_rows(const Layers *layers, VklArray dst, uint64_t dst_row, VklArray src, uint64_t columns)
{
    if (vkl_has(src))
        move(layers, dst, dst_row, src, columns, layers->N, columns, false);
    else
        move(layers, dst, dst_row, side_at(layers, layers->work.side.zeros), 0, layers->N, columns, false);
}

static void load_states(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    uint64_t slot = first_slot(layers, d), h_count = layers->N * form->P, c_count = layers->N * layers->H;
    VklArray h0 = state_of(layers, pass->h0, layer, d, form->P), c0 = state_of(layers, pass->c0, layer, d, layers->H);
    VklCopyPiece pieces[2];
    size_t count = 0;
    if (pass->zero_states)
        return;
    if (pass->agents) {
        VklRows rows = {.form = VKL_ROWS_LOAD, .rows = layers->N, .first = pass->first, .guard = pass->reset};
        rows.piece[rows.count++] =
            (VklRowsPiece){h_at(layers, memory, slot, 0), vkl_rnn_agents_at(pass, pass->h, layer, form->P), form->P};
        if (form->lstm)
            rows.piece[rows.count++] =
                (VklRowsPiece){c_at(layers, memory, d, slot), vkl_rnn_agents_at(pass, pass->c, layer, layers->H), layers->H};
        vkl_plan_rows(layers->plan, &rows);
        return;
    }
    if (form->h_ld == form->P)
        pieces[count++] = (VklCopyPiece){.mode = vkl_has(h0) ? VKL_COPY_LOAD : VKL_COPY_ZERO,
                                         .arena = h_at(layers, memory, slot, 0),
                                         .other = h0,
                                         .count = h_count};
    else
        load_rows(layers, h_at(layers, memory, slot, d * form->P), form->h_ld, h0, form->P);
    if (form->lstm)
        pieces[count++] = (VklCopyPiece){.mode = vkl_has(c0) ? VKL_COPY_LOAD : VKL_COPY_ZERO,
                                         .arena = c_at(layers, memory, d, slot),
                                         .other = c0,
                                         .count = c_count};
    vkl_plan_copy(layers->plan, pieces, count);
    mask_slot(layers, memory, layer, d, slot);
}

static void point_forward(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, uint64_t t,
                          uint32_t flags)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnDesc *desc = layers->desc;
    const Side *side = &layers->work.side;
    uint64_t H = layers->H, N = layers->N, slot = t + 1, before = slot_before(layers, d, t);
    const VklActivationDesc *act = desc->activations[reverse_of(layers, d)];
    bool keep = layers->pass->training || form->gru_before;
    bool second = flags & VKL_POINT_SECOND, first = flags & VKL_POINT_FIRST;
    VklArray gates = gates_at(layers, memory, d, t);
    Cover one = {.begin = VKL_NO_ARRAY}, two = {.begin = VKL_NO_ARRAY};
    struct VklPointForwardArgs args = {
        .rows = (uint32_t)N,
        .units = (uint32_t)H,
        .gates_ld = (uint32_t)form->width,
        .gate_stride = (uint32_t)form->gate_stride,
        .unit_stride = (uint32_t)form->unit_stride,
        .h_prev = VKL_ABSENT,
        .c_prev = VKL_ABSENT,
        .c_next = VKL_ABSENT,
        .rec = (uint32_t)side->rec,
        .rec_ld = (uint32_t)(second ? H : form->columns),
        .rec_gate_stride = (uint32_t)form->gate_stride,
        .lengths = lengths_at(layers),
        .t = (uint32_t)t,
        .peephole = at_or_absent(place->peephole != VKL_RNN_NONE, side->peephole),
        .flags = flags | (keep ? VKL_POINT_KEEP : 0) | (desc->input_forget ? VKL_POINT_COUPLED : 0),
        .kinds = packed_kinds(act),
        .preact_clip = desc->preact_clip,
        .cell_clip = desc->cell_clip,
        .alpha0 = act[0].alpha,
        .beta0 = act[0].beta,
        .alpha1 = act[1].alpha,
        .beta1 = act[1].beta,
        .alpha2 = act[2].alpha,
        .beta2 = act[2].beta,
    };
    VklArray h_prev = h_at(layers, memory, before, d * form->P), h_next = h_at(layers, memory, slot, d * form->P);
    if (form->lstm) {
        cover_add(&one, c_at(layers, memory, d, before), N * H);
        cover_add(&one, c_at(layers, memory, d, slot), N * H);
        args.c_prev = within(&one, c_at(layers, memory, d, before));
        args.c_next = within(&one, c_at(layers, memory, d, slot));
    }
    if (desc->projection) {
        cover_add(&two, step_of(layers, memory->m[d], t, H), N * H);
        args.h_next = 0;
        args.h_ld = (uint32_t)H;
    } else {
        VklArray hop = candidate_operand(layers, memory, d, before);
        cover_add(&two, h_prev, rows_reach(layers, form->h_ld, H));
        cover_add(&two, h_next, rows_reach(layers, form->h_ld, H));
        cover_add(&two, hop, rows_reach(layers, form->h_ld, H));
        args.h_prev = within(&two, h_prev);
        args.h_next = within(&two, h_next);
        args.h_ld = (uint32_t)form->h_ld;
        if (form->gru_before) {
            if (first)
                cover_add(&one, step_of(layers, memory->rh[d], t, H), N * H);
            args.c_prev = within(&two, hop);
            args.c_next = (uint32_t)H;
        }
    }
    if (form->gru_after)
        args.peephole = at_or_absent(place->b_hh != VKL_RNN_NONE, side->bias);
    if (form->gru_before)
        args.peephole = VKL_ABSENT;
    VklOperand operands[4] = {{gates, rows_reach(layers, form->width, form->width), VKL_READ_WRITE},
                              operand_of(&one, VKL_READ_WRITE),
                              operand_of(&two, VKL_READ_WRITE),
                              {side->begin, side->count, VKL_READ}};
    VklKernel kernel = form->lstm                   ? VKL_KERNEL_LSTM_POINT_FORWARD
                       : desc->cell == VKL_CELL_GRU ? VKL_KERNEL_GRU_POINT_FORWARD
                                                    : VKL_KERNEL_RNN_POINT_FORWARD;
    VklArgs all;
    memset(&all, 0, sizeof(all));
    all.LSTM_POINT_FORWARD = args;
    vkl_plan_call_rows(layers->plan, kernel, 0, H, operands, &all, 0, N, H * 64);
}
/* ---- Forward ---- */

/* dst [N][n] = src [N][P] W, `w` [P][n] with rows of `columns` */
static void product(const Layers *layers, VklArray dst, uint64_t dst_ld, VklArray src, uint64_t src_ld, uint64_t k, VklArray w,
                    uint64_t n, uint64_t columns)
{
    vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NN,
                                           .m = layers->N,
                                           .n = n,
                                           .k = k,
                                           .a = src,
                                           .b = w,
                                           .c = dst,
                                           .lda = src_ld,
                                           .ldb = columns,
                                           .ldc = dst_ld});
}

/* rec = operands of h W_hh, gate by gate where each has an operand of its own. GRU before: r and z alone. */
static void recurrent_product(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, uint64_t t)
{
    const VklRnnForm *form = &layers->form;
    uint64_t H = layers->H, before = slot_before(layers, d, t), first = form->gru_before ? 1 : 0; /* columns n r z */
    VklArray w = param(layers, place->w_hh), rec = side_at(layers, layers->work.side.rec);
    if (form->masks <= 1) {
        product(layers, rec, form->columns, h_at(layers, memory, before, operand_column(layers, d, 0)), form->h_ld, form->P,
                vkl_array_at(w, first * H), form->columns - first * H, form->columns);
        return;
    }
    for (uint64_t g = first; g < form->gates; g++)
        product(layers, vkl_array_at(rec, (g - first) * H), form->columns,
                h_at(layers, memory, before, operand_column(layers, d, form->gru_before ? g - 1 : g)), form->h_ld, form->P,
                vkl_array_at(w, g * H), H, form->columns);
}

static void forward_step(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer, uint64_t d,
                         uint64_t t)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnDesc *desc = layers->desc;
    uint64_t H = layers->H, before = slot_before(layers, d, t), slot = t + 1;
    if (layers->fused) {
        vkl_plan_lstm_forward(layers->plan, &(VklCellForward){.rows = layers->N,
                                                              .units = H,
                                                              .h_ld = form->h_ld,
                                                              .gates = gates_at(layers, memory, d, t),
                                                              .w_hh = param(layers, place->w_hh),
                                                              .h_prev = h_at(layers, memory, before, d * H),
                                                              .h_next = h_at(layers, memory, slot, d * H),
                                                              .c_prev = c_at(layers, memory, d, before),
                                                              .c_next = c_at(layers, memory, d, slot),
                                                              .apart = desc->path == VKL_RNN_PATH_PIECES,
                                                              .keep = layers->pass->training});
        return;
    }
    recurrent_product(layers, memory, place, d, t);
    if (form->gru_before) {
        VklArray rec = side_at(layers, layers->work.side.rec);
        point_forward(layers, memory, place, d, t, VKL_POINT_FIRST);
        product(layers, rec, H, step_of(layers, memory->rh[d], t, H), H, form->P, param(layers, place->w_hh), H, form->columns);
        point_forward(layers, memory, place, d, t, VKL_POINT_SECOND);
    } else {
        point_forward(layers, memory, place, d, t, 0);
    }
    if (desc->projection) {
        product(layers, h_at(layers, memory, slot, d * form->P), form->h_ld, step_of(layers, memory->m[d], t, H), H, H,
                param(layers, place->w_hr), form->P, form->P);
        if (vkl_has(layers->pass->lengths))
            vkl_plan_move(layers->plan, &(VklMove){.dst = h_at(layers, memory, slot, d * form->P),
                                                   .src = h_at(layers, memory, before, d * form->P),
                                                   .steps = 1,
                                                   .rows = layers->N,
                                                   .columns = form->P,
                                                   .dst_row = form->h_ld,
                                                   .src_row = form->h_ld,
                                                   .guard = VKL_MOVE_FROZEN,
                                                   .lengths = layers->pass->lengths,
                                                   .first_step = t});
    }
    mask_slot(layers, memory, layer, d, slot);
}

/* What comes before the steps of a direction: initial states, and the input product of all of them. */
static void begin_direction(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, View x, bool pieces)
{
    const VklRnnForm *form = &layers->form;
    uint64_t T = layers->T, N = layers->N, H = layers->H;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    bool zeros = !layers->rebuild && !layers->pass->zero_states && form->h_ld != form->P && !vkl_has(layers->pass->h0);
    if (zeros)
        vkl_plan_copy(layers->plan,
                      &(VklCopyPiece){.mode = VKL_COPY_ZERO,
                                      .arena = side_at(layers, layers->work.side.zeros),
                                      .count = larger(form->P, layers->H)},
                      1);
    if (pieces)
        vkl_rnn_prepare_side(layers, &place);
    if (!layers->rebuild)
        load_states(layers, memory, layer, d);
    uint64_t bias_rows = form->gru_after && form->bias_rows == 2 ? 1 : form->bias_rows; /* its b_hh acts inside r */
    if (vkl_rnn_skips(layers->desc, layer)) {
        vkl_plan_spread(layers->plan, &(VklSpread){.rows = T * N,
                                                   .units = H,
                                                   .gates = form->gates,
                                                   .gates_ld = form->width,
                                                   .gate_stride = form->gate_stride,
                                                   .unit_stride = form->unit_stride,
                                                   .x_ld = x.ld,
                                                   .gate_rows = memory->gates[d],
                                                   .x = x.at,
                                                   .bias = param(layers, place.b_ih),
                                                   .bias_rows = bias_rows});
    } else {
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NN,
                                               .m = T * N,
                                               .n = form->columns,
                                               .k = place.inputs,
                                               .a = x.at,
                                               .b = param(layers, place.w_ih),
                                               .c = memory->gates[d],
                                               .lda = x.ld,
                                               .ldb = form->columns,
                                               .ldc = form->width,
                                               .bias = param(layers, place.b_ih),
                                               .bias_rows = (uint32_t)bias_rows});
    }
}

static void pieces_forward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d)
{
    uint64_t T = layers->T;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    for (uint64_t s = 0; s < T && !layers->plan->status; s++)
        forward_step(layers, memory, &place, layer, d, reverse_of(layers, d) ? T - 1 - s : s);
}

static void steps_forward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions)
{
    vkl_rnn_prepare_steps(layers, layer, d, directions);
    for (uint64_t s = 0; s < layers->T && !layers->plan->status; s++)
        vkl_rnn_step_forward(layers, memory, layer, d, directions, s);
}

/* All steps of some directions: gates, c and h of a layer from its input. */
void vkl_rnn_forward_directions(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                                View x)
{
    VklSequence sequence;
    Way way = vkl_rnn_way(layers, memory, layer, d, directions, false, &sequence);
    for (uint64_t i = d; i < d + directions; i++) {
        begin_direction(layers, memory, layer, i, x, way == WAY_PIECES);
        if (way == WAY_PIECES)
            pieces_forward(layers, memory, layer, i);
        if (way == WAY_STEPS)
            steps_forward(layers, memory, layer, i, 1);
    }
    if (way == WAY_TOGETHER)
        steps_forward(layers, memory, layer, d, directions);
    if (way == WAY_SEQUENCE)
        vkl_plan_sequence_forward(layers->plan, &sequence);
}

/* A layer's input after dropout, which is the same again in backward. */
View vkl_rnn_draw_input(const Layers *layers, const Memory *memory, uint64_t layer, View x)
{
    if (!vkl_has(memory->drawn))
        return x;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, 0, &place);
    VklDraw draw = vkl_rnn_draw(layers, layer, 0, false, (double)(layer ? layers->desc->dropout : layers->desc->input_dropout));
    vkl_plan_move(layers->plan, &(VklMove){.dst = memory->drawn,
                                           .src = x.at,
                                           .steps = layers->T,
                                           .rows = layers->N,
                                           .columns = place.inputs,
                                           .dst_step = layers->N * place.inputs,
                                           .dst_row = place.inputs,
                                           .src_step = layers->N * x.ld,
                                           .src_row = x.ld,
                                           .first_step = layers->pass->first_step,
                                           .draw = &draw});
    return (View){memory->drawn, place.inputs};
}

/* What a layer hands on. */
View vkl_rnn_output_of(const Layers *layers, const Memory *memory)
{
    bool sum = layers->form.D == 2 && layers->desc->merge == VKL_MERGE_SUM;
    return (View){h_at(layers, memory, 1, sum ? layers->form.sum_at : 0), layers->form.h_ld};
}

static void sum_directions(const Layers *layers, const Memory *memory)
{
    const VklRnnForm *form = &layers->form;
    if (form->D != 2 || layers->desc->merge != VKL_MERGE_SUM)
        return;
    for (uint64_t d = 0; d < 2; d++)
        move(layers, h_at(layers, memory, 1, form->sum_at), form->h_ld, h_at(layers, memory, 1, d * form->P), form->h_ld,
             layers->T * layers->N, form->P, d == 1);
}

static void store_y(const Layers *layers, const Memory *memory)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    View y = vkl_rnn_output_of(layers, memory);
    if (!layers->desc->last_only) {
        vkl_plan_move(layers->plan, &(VklMove){.dst = pass->y,
                                               .src = y.at,
                                               .steps = layers->T,
                                               .rows = layers->N,
                                               .columns = form->W,
                                               .dst_step = outer_step(layers, form->W),
                                               .dst_row = outer_row(layers, form->W),
                                               .src_step = layers->N * y.ld,
                                               .src_row = y.ld,
                                               .guard = vkl_has(pass->lengths) ? VKL_MOVE_LIVE : VKL_MOVE_ALL,
                                               .lengths = pass->lengths,
                                               .value = layers->desc->padding_value});
        return;
    }
    bool sum = layers->desc->merge == VKL_MERGE_SUM;
    for (uint64_t d = 0; d < form->D; d++)
        move(layers, vkl_array_at(pass->y, sum ? 0 : d * form->P), form->W,
             h_at(layers, memory, last_slot(layers, d), d * form->P), form->h_ld, layers->N, form->P, sum && d);
}

/* Back to where they came from, and y. */
static void store_agents(const Layers *layers, const Memory *memory, uint64_t layer, bool top)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    VklRows rows = {.form = VKL_ROWS_STORE, .rows = layers->N, .first = pass->first, .guard = pass->count};
    VklArray h = h_at(layers, memory, 1, 0);
    rows.piece[rows.count++] = (VklRowsPiece){h, vkl_rnn_agents_at(pass, pass->h, layer, form->P), form->P};
    if (form->lstm)
        rows.piece[rows.count++] =
            (VklRowsPiece){c_at(layers, memory, 0, 1), vkl_rnn_agents_at(pass, pass->c, layer, layers->H), layers->H};
    vkl_plan_rows(layers->plan, &rows);
    if (!top || !vkl_has(pass->y))
        return;
    rows.piece[0].other = pass->y;
    rows.count = 1;
    vkl_plan_rows(layers->plan, &rows);
}

static void store_states(const Layers *layers, const Memory *memory, uint64_t layer, bool top)
{
    if (layers->pass->agents) {
        store_agents(layers, memory, layer, top);
        return;
    }
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    uint64_t T = layers->T, N = layers->N, H = layers->H;
    VklCopyPiece stores[5];
    size_t count = 0;
    bool dense = form->h_ld == form->P; /* h is one block: it goes with c in one dispatch */
    for (uint64_t d = 0; d < form->D; d++) {
        VklArray hn = state_of(layers, pass->hn, layer, d, form->P), cn = state_of(layers, pass->cn, layer, d, H);
        VklArray h = h_at(layers, memory, last_slot(layers, d), d * form->P);
        if (vkl_has(hn) && dense)
            stores[count++] = (VklCopyPiece){.mode = VKL_COPY_STORE, .arena = h, .other = hn, .count = N * form->P};
        else if (vkl_has(hn))
            move(layers, hn, form->P, h, form->h_ld, N, form->P, false);
        if (vkl_has(cn) && form->lstm)
            stores[count++] = (VklCopyPiece){
                .mode = VKL_COPY_STORE, .arena = c_at(layers, memory, d, last_slot(layers, d)), .other = cn, .count = N * H};
    }
    if (top && vkl_has(pass->y)) {
        if (dense && !layers->desc->batch_first && !layers->desc->last_only && !vkl_has(pass->lengths))
            stores[count++] = (VklCopyPiece){
                .mode = VKL_COPY_STORE, .arena = h_at(layers, memory, 1, 0), .other = pass->y, .count = T * N * form->P};
        else
            store_y(layers, memory);
    }
    vkl_plan_copy(layers->plan, stores, count);
}

/* A layer with a single time step in one call, without copies of states, where that pays; false: it is done as any other. */
static bool once_forward(const Layers *layers, const Memory *memory, uint64_t layer, View x)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    uint64_t N = layers->N, H = layers->H;
    bool top = layer + 1 == layers->desc->layers, kept = pass->training || pass->agents;
    if (layers->T != 1 || form->D != 1 || !layers->fused || kept || layers->desc->path != VKL_RNN_PATH_AUTO ||
        layers->desc->storage != VKL_STORAGE_FLOAT32 || vkl_rnn_skips(layers->desc, layer))
        return false;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, 0, &place);
    if (!vkl_tune_once(layers->plan->caps, N, H, place.inputs))
        return false;
    VklArray hn = state_of(layers, pass->hn, layer, 0, H), cn = state_of(layers, pass->cn, layer, 0, H);
    VklArray h = h_at(layers, memory, 1, 0), y = top ? pass->y : VKL_NO_ARRAY;
    bool at_once = vkl_has(y) && !vkl_has(hn);
    if (!vkl_plan_lstm_once(layers->plan, &(VklCellOnce){.rows = N,
                                                         .units = H,
                                                         .inputs = place.inputs,
                                                         .x_ld = x.ld,
                                                         .bias_rows = form->bias_rows,
                                                         .x = x.at,
                                                         .w_ih = param(layers, place.w_ih),
                                                         .w_hh = param(layers, place.w_hh),
                                                         .bias = param(layers, place.b_ih),
                                                         .h_prev = state_of(layers, pass->h0, layer, 0, H),
                                                         .c_prev = state_of(layers, pass->c0, layer, 0, H),
                                                         .h_next = at_once ? y : h,
                                                         .c_next = vkl_has(cn) ? cn : c_at(layers, memory, 0, 1)}))
        return false;
    VklCopyPiece stores[2];
    size_t count = 0;
    if (vkl_has(hn))
        stores[count++] = (VklCopyPiece){.mode = VKL_COPY_STORE, .arena = h, .other = hn, .count = N * H};
    if (vkl_has(hn) && vkl_has(y))
        stores[count++] = (VklCopyPiece){.mode = VKL_COPY_STORE, .arena = h, .other = y, .count = N * H};
    vkl_plan_copy(layers->plan, stores, count);
    return true;
}

/* x as the pass reads it: in time-major order, in backward with zeros past the ends of rows. */
View vkl_rnn_input(const Layers *layers, bool backward)
{
    const VklRnnPass *pass = layers->pass;
    uint64_t I = layers->desc->input_size;
    bool guard = backward && vkl_has(pass->lengths);
    if (!layers->desc->batch_first && !guard)
        return (View){pass->x, I};
    vkl_plan_move(layers->plan, &(VklMove){.dst = layers->work.x,
                                           .src = pass->x,
                                           .steps = layers->T,
                                           .rows = layers->N,
                                           .columns = I,
                                           .dst_step = layers->N * I,
                                           .dst_row = I,
                                           .src_step = outer_step(layers, I),
                                           .src_row = outer_row(layers, I),
                                           .guard = guard ? VKL_MOVE_LIVE : VKL_MOVE_ALL,
                                           .lengths = pass->lengths});
    return (View){layers->work.x, I};
}

bool vkl_rnn_output(const VklRnnPass *pass, VklArray *y)
{
    Layers layers = vkl_rnn_layers(NULL, pass, false);
    bool last = pass->desc->last_only;
    if (layers.form.h_ld != layers.form.W || layers.form.D != 1 || pass->desc->batch_first || (vkl_has(pass->lengths) && !last))
        return false;
    Memory memory = vkl_rnn_memory(&layers, pass->desc->layers - 1);
    *y = h_at(&layers, &memory, last ? last_slot(&layers, 0) : 1, 0);
    return true;
}

/* All layers side by side: the input product of the first, then a step of each at a time. */
static void wave_forward(const Layers *layers, View x)
{
    uint64_t L = layers->desc->layers;
    for (uint64_t layer = 0; layer < L && !layers->plan->status; layer++) {
        Memory memory = vkl_rnn_memory(layers, layer);
        if (layer == 0)
            begin_direction(layers, &memory, 0, 0, vkl_rnn_draw_input(layers, &memory, 0, x), false);
        else
            load_states(layers, &memory, layer, 0);
    }
    vkl_rnn_wave_forward(layers);
    for (uint64_t layer = 0; layer < L && !layers->plan->status; layer++) {
        Memory memory = vkl_rnn_memory(layers, layer);
        store_states(layers, &memory, layer, layer == L - 1);
    }
}

void vkl_plan_rnn_forward(VklPlan *plan, const VklRnnPass *pass)
{
    Layers layers = vkl_rnn_layers(plan, pass, false);
    plan->halves = pass->desc->storage == VKL_STORAGE_FLOAT16;
    vkl_rnn_round_params(&layers);
    View x = vkl_rnn_input(&layers, false);
    bool wave = vkl_rnn_wave(&layers, false);
    if (wave)
        wave_forward(&layers, x);
    for (uint64_t layer = 0; layer < pass->desc->layers && !wave && !plan->status; layer++) {
        Memory memory = vkl_rnn_memory(&layers, layer);
        x = vkl_rnn_draw_input(&layers, &memory, layer, x);
        if (!once_forward(&layers, &memory, layer, x)) {
            vkl_rnn_forward_directions(&layers, &memory, layer, 0, layers.form.D, x);
            vkl_rnn_keep_halves(&layers, &memory);
            sum_directions(&layers, &memory);
            store_states(&layers, &memory, layer, layer == pass->desc->layers - 1);
        }
        x = vkl_rnn_output_of(&layers, &memory);
    }
    plan->halves = false;
}

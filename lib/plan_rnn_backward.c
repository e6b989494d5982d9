/* SPDX-License-Identifier: MIT */
#include "plan_rnn_pass.h"

/* The step that backward does before step t, or VKL_RNN_NONE. */
static uint64_t step_done(const Layers *layers, uint64_t d, uint64_t t)
{
    if (reverse_of(layers, d))
        return t ? t - 1 : VKL_RNN_NONE;
    return t + 1 < layers->T ? t + 1 : VKL_RNN_NONE;
}

/* dst [N][P] = the gradient that reaches h before step t through its recurrent product. */
static void product_back(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer, uint64_t d,
                         uint64_t t, VklArray dst)
{
    const VklRnnForm *form = &layers->form;
    uint64_t H = layers->H, first = form->gru_before ? 1 : 0, gates = form->masks > 1 ? form->gates : first + 1;
    uint64_t columns = form->masks > 1 ? H : form->columns - first * H;
    VklArray spare = side_at(layers, layers->work.side.spare);
    for (uint64_t g = first; g < gates; g++) {
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NT,
                                               .m = layers->N,
                                               .n = form->P,
                                               .k = columns,
                                               .a = vkl_array_at(gates_at(layers, memory, d, t), form->h_view + g * H),
                                               .b = vkl_array_at(param(layers, place->w_hh), g * H),
                                               .c = form->masks ? spare : dst,
                                               .lda = form->width,
                                               .ldb = form->columns,
                                               .ldc = form->P});
        if (form->masks)
            vkl_rnn_mask_rows(layers, layer, d, g - first, dst, form->P, spare, form->P, g > first);
    }
}

static void point_backward(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, uint64_t t, View gy,
                           bool recurrent, uint32_t flags)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnDesc *desc = layers->desc;
    const Side *side = &layers->work.side;
    uint64_t H = layers->H, N = layers->N, before = slot_before(layers, d, t);
    const VklActivationDesc *act = desc->activations[reverse_of(layers, d)];
    bool second = flags & VKL_POINT_SECOND, joined = desc->projection;
    Cover one = {.begin = VKL_NO_ARRAY};
    struct VklPointBackwardArgs args = {
        .rows = (uint32_t)N,
        .units = (uint32_t)H,
        .gates_ld = (uint32_t)form->width,
        .gate_stride = (uint32_t)form->gate_stride,
        .unit_stride = (uint32_t)form->unit_stride,
        .gy_ld = vkl_has(gy.at) ? (uint32_t)gy.ld : VKL_ABSENT,
        .c_t = VKL_ABSENT,
        .c_prev = VKL_ABSENT,
        .dc_in = VKL_ABSENT,
        .dc_out = VKL_ABSENT,
        .rec = at_or_absent(recurrent, side->back),
        .rec_ld = (uint32_t)H,
        .carry = at_or_absent(!joined, side->carry),
        .lengths = lengths_at(layers),
        .t = (uint32_t)t,
        .peephole = at_or_absent(place->peephole != VKL_RNN_NONE, side->peephole),
        .flags = flags | (desc->input_forget ? VKL_POINT_COUPLED : 0),
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
    if (form->lstm) {
        uint64_t done = step_done(layers, d, t);
        bool has_dc = done != VKL_RNN_NONE || vkl_has(layers->pass->gcn) || desc->peephole;
        VklArray c = c_at(layers, memory, d, t + 1), c_prev = c_at(layers, memory, d, before);
        VklArray dc_in =
            !has_dc ? VKL_NO_ARRAY
                    : c_at(layers, memory, d, done == VKL_RNN_NONE ? far_slot(layers, d) : vkl_rnn_slot_of_dc(layers, d, done));
        VklArray dc_out = c_at(layers, memory, d, vkl_rnn_slot_of_dc(layers, d, t));
        cover_add(&one, c, N * H);
        cover_add(&one, c_prev, N * H);
        cover_add(&one, dc_in, N * H);
        cover_add(&one, dc_out, N * H);
        args.c_t = within(&one, c);
        args.c_prev = within(&one, c_prev);
        args.dc_in = within(&one, dc_in);
        args.dc_out = within(&one, dc_out);
    } else if (desc->cell == VKL_CELL_GRU) {
        VklArray h = h_at(layers, memory, before, d * form->P);
        VklArray hop = candidate_operand(layers, memory, d, before);
        cover_add(&one, h, rows_reach(layers, form->h_ld, H));
        cover_add(&one, hop, rows_reach(layers, form->h_ld, H));
        args.c_t = within(&one, h);
        args.dc_in = (uint32_t)form->h_ld;
        args.c_prev = within(&one, hop);
        args.dc_out = at_or_absent(second, side->spare);
        args.peephole = VKL_ABSENT;
    }
    VklOperand operands[4] = {{gates_at(layers, memory, d, t), rows_reach(layers, form->width, form->width), VKL_READ_WRITE},
                              operand_of(&one, form->lstm ? VKL_READ_WRITE : VKL_READ),
                              {gy.at, vkl_has(gy.at) ? rows_reach(layers, gy.ld, H) : 0, vkl_has(gy.at) ? VKL_READ : 0},
                              {side->begin, side->count, VKL_READ_WRITE}};
    VklKernel kernel = form->lstm                   ? VKL_KERNEL_LSTM_POINT_BACKWARD
                       : desc->cell == VKL_CELL_GRU ? VKL_KERNEL_GRU_POINT_BACKWARD
                                                    : VKL_KERNEL_RNN_POINT_BACKWARD;
    VklArgs all;
    memset(&all, 0, sizeof(all));
    all.LSTM_POINT_BACKWARD = args;
    vkl_plan_call(layers->plan, kernel, 0, N * H, operands, &all, N, H * 128);
}

/* The total gradient of a projected h of step t, and from it that of the projection's operand, in side.back. */
static View join(const Layers *layers, const VklRnnPlace *place, uint64_t d, uint64_t t, View gy, bool recurrent)
{
    const Side *side = &layers->work.side;
    uint64_t N = layers->N, H = layers->H, P = layers->form.P;
    VklArray dh = step_of(layers, vkl_rnn_dh(layers, d), t, P), dm = side_at(layers, side->spare);
    VklArgs args = {.JOIN = {.rows = (uint32_t)N,
                             .units = (uint32_t)P,
                             .gy_ld = vkl_has(gy.at) ? (uint32_t)gy.ld : VKL_ABSENT,
                             .rec = at_or_absent(recurrent, side->back),
                             .rec_ld = (uint32_t)P,
                             .carry = (uint32_t)side->carry,
                             .lengths = lengths_at(layers),
                             .t = (uint32_t)t}};
    VklOperand operands[4] = {{dh, N * P, VKL_WRITE},
                              {side->begin, side->count, VKL_READ_WRITE},
                              {gy.at, vkl_has(gy.at) ? rows_reach(layers, gy.ld, P) : 0, vkl_has(gy.at) ? VKL_READ : 0}};
    vkl_plan_call(layers->plan, VKL_KERNEL_JOIN, 0, N * P, operands, &args, N, P * 4);
    vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NT,
                                           .m = N,
                                           .n = H,
                                           .k = P,
                                           .a = dh,
                                           .b = param(layers, place->w_hr),
                                           .c = dm,
                                           .lda = P,
                                           .ldb = P,
                                           .ldc = H});
    return (View){dm, H};
}

/* One step through the point kernels; gy is absent or [N][P]. */
static void point_step_back(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer, uint64_t d,
                            uint64_t t, View gy)
{
    const VklRnnForm *form = &layers->form;
    const Side *side = &layers->work.side;
    uint64_t done = step_done(layers, d, t), H = layers->H, N = layers->N;
    bool recurrent = done != VKL_RNN_NONE;
    if (recurrent)
        product_back(layers, memory, place, layer, d, done, side_at(layers, side->back));
    if (layers->desc->projection) {
        gy = join(layers, place, d, t, gy, recurrent);
        recurrent = false;
    }
    point_backward(layers, memory, place, d, t, gy, recurrent, form->gru_before ? VKL_POINT_FIRST : 0);
    if (!form->gru_before)
        return;
    vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NT, /* through W_hn to r * h */
                                           .m = N,
                                           .n = H,
                                           .k = H,
                                           .a = gates_at(layers, memory, d, t),
                                           .b = param(layers, place->w_hh),
                                           .c = side_at(layers, side->back),
                                           .lda = form->width,
                                           .ldb = form->columns,
                                           .ldc = H});
    point_backward(layers, memory, place, d, t, (View){VKL_NO_ARRAY, 0}, true, VKL_POINT_SECOND);
    if (form->masks)
        vkl_rnn_mask_rows(layers, layer, d, CANDIDATE, side_at(layers, side->carry), H, side_at(layers, side->spare), H, true);
    else
        move(layers, side_at(layers, side->carry), H, side_at(layers, side->spare), H, N, H, true);
}

/* The gradient of the last step's h in a fused pass: the sum of what is there. */
static View last_gradient(const Layers *layers, View gy, VklArray gy_last, VklArray ghn)
{
    uint64_t N = layers->N, P = layers->form.P;
    View sources[3];
    size_t count = 0;
    if (vkl_has(gy.at))
        sources[count++] = gy;
    if (vkl_has(gy_last))
        sources[count++] = (View){gy_last, layers->form.W};
    if (vkl_has(ghn))
        sources[count++] = (View){ghn, P};
    if (count == 0)
        return (View){VKL_NO_ARRAY, 0};
    if (count == 1)
        return sources[0];
    for (size_t i = 0; i < count; i++)
        move(layers, layers->work.last, P, sources[i].at, sources[i].ld, N, P, i > 0);
    return (View){layers->work.last, P};
}

static void fused_step_back(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, uint64_t t, View gy)
{
    uint64_t done = step_done(layers, d, t);
    VklArray far = c_at(layers, memory, d, far_slot(layers, d));
    vkl_plan_lstm_backward(
        layers->plan, &(VklCellBackward){.rows = layers->N,
                                         .units = layers->H,
                                         .dy_ld = gy.ld,
                                         .gates = gates_at(layers, memory, d, t),
                                         .gates_next = done == VKL_RNN_NONE ? VKL_NO_ARRAY : gates_at(layers, memory, d, done),
                                         .w_hh = param(layers, place->w_hh),
                                         .dy = gy.at,
                                         .dh = layers->work.dh,
                                         .c = c_at(layers, memory, d, t + 1),
                                         .c_prev = c_at(layers, memory, d, slot_before(layers, d, t)),
                                         .dc_in = done != VKL_RNN_NONE         ? c_at(layers, memory, d, done + 1)
                                                  : vkl_has(layers->pass->gcn) ? far
                                                                               : VKL_NO_ARRAY,
                                         .dc_out = c_at(layers, memory, d, t + 1),
                                         .apart = layers->desc->path == VKL_RNN_PATH_PIECES});
}

/* What a step takes from the step before besides its product: each direction's, or that of the one that is being done. */
static VklArray carry_of(const Layers *layers, Way way, uint64_t layer, uint64_t d)
{
    if (way == WAY_WAVE)
        return vkl_array_at(layers->work.carries, layer * aligned(layers->N * layers->form.P));
    return carry_at(layers, way == WAY_TOGETHER || way == WAY_SEQUENCE ? d : 0);
}

/* Whether it is there at every step. */
static bool always_carries(const Layers *layers, Way way)
{
    bool gru = layers->desc->cell == VKL_CELL_GRU;
    if (way == WAY_PIECES)
        return !layers->fused;
    return gru || (way != WAY_SEQUENCE && (layers->desc->projection || vkl_has(layers->pass->lengths)));
}

/* Brings what is carried into the first step of backward to its place; returns where the gradient of h is, absent where there is none or
 * the step kernels take it otherwise. */
static VklArray begin_back(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, VklArray gy_last, Way way)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, P = form->P;
    VklArray ghn = state_of(layers, layers->pass->ghn, layer, d, P), gcn = state_of(layers, layers->pass->gcn, layer, d, H);
    VklArray far = form->lstm ? c_at(layers, memory, d, far_slot(layers, d)) : VKL_NO_ARRAY;
    VklArray carry = carry_of(layers, way, layer, d);
    bool there = vkl_has(ghn) || vkl_has(gy_last);
    if (form->lstm && (vkl_has(gcn) || layers->desc->peephole))
        vkl_plan_copy(
            layers->plan,
            &(VklCopyPiece){.mode = vkl_has(gcn) ? VKL_COPY_LOAD : VKL_COPY_ZERO, .arena = far, .other = gcn, .count = N * H}, 1);
    if (way == WAY_SEQUENCE ? !there : way == WAY_PIECES ? layers->fused : !there && !always_carries(layers, way))
        return VKL_NO_ARRAY;
    if (way == WAY_SEQUENCE && form->sequence != VKL_SEQUENCE_GRU) { /* it is read alone: where it is will do */
        if (!vkl_has(gy_last))
            return ghn;
        if (!vkl_has(ghn) && form->W == P)
            return gy_last;
    }
    if (vkl_has(ghn) || !vkl_has(gy_last))
        vkl_plan_copy(
            layers->plan,
            &(VklCopyPiece){.mode = vkl_has(ghn) ? VKL_COPY_LOAD : VKL_COPY_ZERO, .arena = carry, .other = ghn, .count = N * P},
            1);
    if (vkl_has(gy_last))
        move(layers, carry, P, gy_last, form->W, N, P, vkl_has(ghn));
    return carry;
}

static void store_state_gradients(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer,
                                  uint64_t d, Way way)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, P = form->P, last = reverse_of(layers, d) ? layers->T - 1 : 0;
    VklArray dh0 = state_of(layers, layers->pass->dh0, layer, d, P), dc0 = state_of(layers, layers->pass->dc0, layer, d, H);
    if (vkl_has(dh0)) {
        product_back(layers, memory, place, layer, d, last, dh0);
        if (layers->desc->projection && way != WAY_PIECES ? vkl_has(layers->pass->lengths) : always_carries(layers, way))
            move(layers, dh0, P, carry_of(layers, way, layer, d), P, N, P, true);
    }
    if (vkl_has(dc0) && form->lstm)
        vkl_plan_copy(layers->plan,
                      &(VklCopyPiece){.mode = VKL_COPY_STORE,
                                      .arena = c_at(layers, memory, d, vkl_rnn_slot_of_dc(layers, d, last)),
                                      .other = dc0,
                                      .count = N * H},
                      1);
}

/* C (+)= left^T gates: the gradient of weights, `rows` of them, from T N rows of `left`, then `ones` rows of column sums. */
static void weight_gradient(const Layers *layers, VklArray c, VklArray left, uint64_t left_ld, uint64_t rows, uint64_t ones,
                            VklArray gates, uint64_t columns, uint64_t c_ld)
{
    if (rows + ones == 0)
        return;
    vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_TN,
                                           .m = rows + ones,
                                           .n = columns,
                                           .k = layers->T * layers->N,
                                           .a = left,
                                           .b = gates,
                                           .c = c,
                                           .lda = left_ld,
                                           .ldb = layers->form.width,
                                           .ldc = c_ld,
                                           .accumulate = layers->pass->accumulate,
                                           .ones = (uint32_t)ones,
                                           .scratch = layers->work.products,
                                           .scratch_count = layers->work.products_count});
}

/* The matrix of h before each step, as operand of gate g. */
static VklArray operands_of(const Layers *layers, const Memory *memory, uint64_t d, uint64_t g)
{
    return h_at(layers, memory, slot_before(layers, d, 0), operand_column(layers, d, g));
}

static void recurrent_gradient(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d)
{
    const VklRnnForm *form = &layers->form;
    uint64_t H = layers->H, first = form->gru_before ? 1 : 0;
    VklArray h_view = vkl_array_at(memory->gates[d], form->h_view), c = gradient(layers, place->w_hh);
    bool bias_apart = form->gru_after && place->b_hh != VKL_RNN_NONE;
    if (form->masks > 1) {
        for (uint64_t g = first; g < form->gates; g++)
            weight_gradient(layers, vkl_array_at(c, g * H), operands_of(layers, memory, d, g - first), form->h_ld, form->P, 0,
                            vkl_array_at(h_view, g * H), H, form->columns);
        if (bias_apart)
            weight_gradient(layers, gradient(layers, place->b_hh), VKL_NO_ARRAY, 0, 0, 1, h_view, form->columns, form->columns);
    } else {
        weight_gradient(layers, vkl_array_at(c, first * H), operands_of(layers, memory, d, 0), form->h_ld, form->P, bias_apart,
                        vkl_array_at(h_view, first * H), form->columns - first * H, form->columns);
    }
    if (form->gru_before)
        weight_gradient(layers, c, memory->rh[d], H, form->P, 0, h_view, H, form->columns);
}

static void parameter_gradients(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, View x)
{
    const VklRnnForm *form = &layers->form;
    uint64_t H = layers->H, rows = layers->T * layers->N, inputs = place->w_ih == VKL_RNN_NONE ? 0 : place->inputs;
    uint64_t ones = form->gru_after && form->bias_rows ? 1 : form->bias_rows;
    VklArray gates = memory->gates[d];
    if (!form->gru_after && !form->gru_before && form->masks <= 1) {
        /* W_ih, W_hh and the biases lie one after the other: one product with x, h before the step, and ones on its left */
        VklArray h = operands_of(layers, memory, d, 0);
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_TN,
                                               .m = inputs + form->P + ones,
                                               .n = form->columns,
                                               .k = rows,
                                               .a = inputs ? x.at : h,
                                               .b = gates,
                                               .c = gradient(layers, inputs ? place->w_ih : place->w_hh),
                                               .lda = inputs ? x.ld : form->h_ld,
                                               .ldb = form->width,
                                               .ldc = form->columns,
                                               .accumulate = layers->pass->accumulate,
                                               .a_second = h,
                                               .m_first = inputs,
                                               .lda_second = form->h_ld,
                                               .ones = (uint32_t)ones,
                                               .scratch = layers->work.products,
                                               .scratch_count = layers->work.products_count});
    } else {
        bool together = form->gru_after || form->gru_before; /* the biases follow W_ih */
        weight_gradient(layers, gradient(layers, inputs ? place->w_ih : place->b_ih), x.at, x.ld, inputs, together ? ones : 0,
                        gates, form->columns, form->columns);
        recurrent_gradient(layers, memory, place, d);
        if (!together)
            weight_gradient(layers, gradient(layers, place->b_ih), VKL_NO_ARRAY, 0, 0, ones, gates, form->columns, form->columns);
    }
    for (uint64_t i = 0; i < 3 && place->peephole != VKL_RNN_NONE; i++) {
        uint64_t gate = i < 2 ? i : 3; /* i, f see c before the step, o c after it */
        vkl_plan_column_dot(layers->plan, &(VklColumnDot){.out = gradient(layers, place->peephole + i * H),
                                                          .a = vkl_array_at(gates, gate * form->gate_stride),
                                                          .b = c_at(layers, memory, d, i < 2 ? slot_before(layers, d, 0) : 1),
                                                          .rows = rows,
                                                          .units = H,
                                                          .a_ld = form->width,
                                                          .a_stride = form->unit_stride,
                                                          .b_ld = H,
                                                          .accumulate = layers->pass->accumulate});
    }
    if (place->w_hr != VKL_RNN_NONE)
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_TN,
                                               .m = H,
                                               .n = form->P,
                                               .k = rows,
                                               .a = memory->m[d],
                                               .b = vkl_rnn_dh(layers, d),
                                               .c = gradient(layers, place->w_hr),
                                               .lda = H,
                                               .ldb = form->P,
                                               .ldc = form->P,
                                               .scratch = layers->work.products,
                                               .scratch_count = layers->work.products_count,
                                               .accumulate = layers->pass->accumulate});
    uint64_t padding = (4 - place->end % 4) % 4; /* behind the last tensor; a norm over the flat buffer reads it */
    if (padding && !layers->pass->accumulate && !layers->pass->padded)
        vkl_plan_copy(layers->plan,
                      &(VklCopyPiece){.mode = VKL_COPY_ZERO, .arena = gradient(layers, place->end), .count = padding}, 1);
}

/* dx = or += the gradient to the layer's input. */
static void input_gradient(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t d, VklArray dx,
                           bool add)
{
    const VklRnnForm *form = &layers->form;
    uint64_t rows = layers->T * layers->N, H = layers->H;
    if (place->w_ih != VKL_RNN_NONE) {
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_NT,
                                               .m = rows,
                                               .n = place->inputs,
                                               .k = form->columns,
                                               .a = memory->gates[d],
                                               .b = param(layers, place->w_ih),
                                               .c = dx,
                                               .lda = form->width,
                                               .ldb = form->columns,
                                               .ldc = place->inputs,
                                               .accumulate = add});
        return;
    }
    VklArray to = add ? layers->work.spread : dx;
    vkl_plan_spread(layers->plan, &(VklSpread){.back = true,
                                               .rows = rows,
                                               .units = H,
                                               .gates = form->gates,
                                               .gates_ld = form->width,
                                               .gate_stride = form->gate_stride,
                                               .unit_stride = form->unit_stride,
                                               .x_ld = H,
                                               .gate_rows = memory->gates[d],
                                               .x = to});
    if (add)
        move(layers, dx, H, to, H, rows, H, true);
}

static uint64_t column_of(const Layers *layers, uint64_t d)
{
    return layers->desc->merge == VKL_MERGE_SUM ? 0 : d * layers->form.P;
}

static VklArray column_from(VklArray array, uint64_t column)
{
    return vkl_has(array) ? vkl_array_at(array, column) : VKL_NO_ARRAY;
}

static void pieces_back(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer, uint64_t d, View gy,
                        VklArray gy_last)
{
    const VklRnnForm *form = &layers->form;
    uint64_t T = layers->T;
    for (uint64_t s = 0; s < T && !layers->plan->status; s++) {
        uint64_t t = reverse_of(layers, d) ? s : T - 1 - s;
        View gy_t = {step_of(layers, gy.at, t, gy.ld), gy.ld};
        if (layers->fused && s == 0)
            gy_t = last_gradient(layers, gy_t, gy_last, state_of(layers, layers->pass->ghn, layer, d, form->P));
        if (layers->fused)
            fused_step_back(layers, memory, place, d, t, gy_t);
        else
            point_step_back(layers, memory, place, layer, d, t, gy_t);
    }
}

/* A dispatch for each step of `directions` directions from d on. */
static void steps_back(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, View gy,
                       VklArray gy_last, Way way)
{
    bool carried = false;
    vkl_rnn_prepare_steps(layers, layer, d, directions);
    for (uint64_t i = d; i < d + directions; i++)
        carried = vkl_has(begin_back(layers, memory, layer, i, VKL_NO_ARRAY, way));
    for (uint64_t s = 0; s < layers->T && !layers->plan->status; s++) {
        View gy_of[2] = {{VKL_NO_ARRAY, 0}, {VKL_NO_ARRAY, 0}};
        for (uint64_t i = 0; i < directions; i++) {
            VklArray at = step_of(layers, gy.at, reverse_of(layers, d + i) ? s : layers->T - 1 - s, gy.ld);
            gy_of[i] = (View){column_from(at, column_of(layers, d + i)), gy.ld};
            if (s == 0 && vkl_has(gy_last)) /* there is no gy beside it */
                gy_of[i] = (View){column_from(gy_last, column_of(layers, d + i)), layers->form.W};
        }
        vkl_rnn_step_backward(layers, memory, layer, d, directions, s, gy_of, carried);
    }
}

/* All steps of a layer in one op, both directions of them. */
static void sequence_back(const Layers *layers, const Memory *memory, uint64_t layer, View gy, VklArray gy_last,
                          VklSequence *sequence)
{
    uint64_t T = layers->T;
    for (uint64_t d = 0; d < layers->form.D; d++) {
        VklSequenceSide *side = &sequence->side[d];
        VklArray carry = begin_back(layers, memory, layer, d, column_from(gy_last, column_of(layers, d)), WAY_SEQUENCE);
        side->gy = column_from(step_of(layers, gy.at, reverse_of(layers, d) ? 0 : T - 1, gy.ld), column_of(layers, d));
        sequence->carried = vkl_has(carry);
        if (vkl_has(carry))
            side->carry = carry;
    }
    sequence->gy_ld = gy.ld;
    sequence->gy_step = layers->N * gy.ld;
    vkl_plan_sequence_backward(layers->plan, sequence);
}

/* From the gradients of a layer's gates those of everything else. */
static void end_direction(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, View x, VklArray dx, Way way)
{
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    store_state_gradients(layers, memory, &place, layer, d, way);
    if (vkl_has(dx))
        input_gradient(layers, memory, &place, d, dx, d == 1);
    if (vkl_has(layers->pass->dparams))
        parameter_gradients(layers, memory, &place, d, x);
}

/* gy is [T][N][W] or absent, gy_last [N][W] or absent. */
static void layer_back(const Layers *layers, const Memory *memory, uint64_t layer, View x, View gy, VklArray gy_last, VklArray dx)
{
    const VklRnnDesc *desc = layers->desc;
    uint64_t D = layers->form.D;
    VklSequence sequence;
    Way way = vkl_rnn_way(layers, memory, layer, 0, D, true, &sequence);
    Layers again = *layers;
    again.rebuild = true;
    if (way == WAY_TOGETHER || way == WAY_SEQUENCE) {
        if (desc->recompute)
            vkl_rnn_forward_directions(&again, memory, layer, 0, D, x);
        if (way == WAY_TOGETHER)
            steps_back(layers, memory, layer, 0, D, gy, gy_last, way);
        else
            sequence_back(layers, memory, layer, gy, gy_last, &sequence);
        for (uint64_t d = 0; d < D; d++)
            end_direction(layers, memory, layer, d, x, dx, way);
        return;
    }
    for (uint64_t d = 0; d < D; d++) {
        VklRnnPlace place;
        vkl_rnn_place(desc, layer, d, &place);
        if (desc->recompute)
            vkl_rnn_forward_directions(&again, memory, layer, d, 1, x);
        if (way == WAY_STEPS) {
            steps_back(layers, memory, layer, d, 1, gy, gy_last, way);
        } else {
            View gy_d = {column_from(gy.at, column_of(layers, d)), gy.ld};
            VklArray last = column_from(gy_last, column_of(layers, d));
            vkl_rnn_prepare_side(layers, &place);
            begin_back(layers, memory, layer, d, last, way);
            pieces_back(layers, memory, &place, layer, d, gy_d, last);
        }
        end_direction(layers, memory, layer, d, x, dx, way);
    }
}

/* All layers side by side, up to the gradients of their gates. */
static void wave_back(const Layers *layers, View gy, VklArray gy_last)
{
    uint64_t L = layers->desc->layers;
    bool carried = false, carried_top = false;
    for (uint64_t layer = 0; layer < L; layer++) {
        Memory memory = vkl_rnn_memory(layers, layer);
        bool there = vkl_has(begin_back(layers, &memory, layer, 0, layer == L - 1 ? gy_last : VKL_NO_ARRAY, WAY_WAVE));
        *(layer == L - 1 ? &carried_top : &carried) = there;
    }
    vkl_rnn_wave_backward(layers, gy, carried, carried_top);
}

/* gy of the top layer where it can be read step by step: in time-major order, with zeros past the ends of rows. */
static View upstream(const Layers *layers, VklArray room)
{
    const VklRnnPass *pass = layers->pass;
    uint64_t W = layers->form.W;
    if (!vkl_has(pass->gy) || layers->desc->last_only)
        return (View){VKL_NO_ARRAY, 0};
    if (!layers->desc->batch_first && !vkl_has(pass->lengths))
        return (View){pass->gy, W};
    vkl_plan_move(layers->plan, &(VklMove){.dst = room,
                                           .src = pass->gy,
                                           .steps = layers->T,
                                           .rows = layers->N,
                                           .columns = W,
                                           .dst_step = layers->N * W,
                                           .dst_row = W,
                                           .src_step = outer_step(layers, W),
                                           .src_row = outer_row(layers, W),
                                           .guard = vkl_has(pass->lengths) ? VKL_MOVE_LIVE : VKL_MOVE_ALL,
                                           .lengths = pass->lengths});
    return (View){room, W};
}

void vkl_plan_rnn_backward(VklPlan *plan, const VklRnnPass *pass)
{
    const VklRnnDesc *desc = pass->desc;
    Layers layers = vkl_rnn_layers(plan, pass, true);
    uint64_t I = desc->input_size, T = pass->T, N = pass->N;
    plan->halves = desc->storage == VKL_STORAGE_FLOAT16;
    vkl_rnn_round_params(&layers);
    View x0 = vkl_rnn_input(&layers, true), gy = upstream(&layers, layers.work.dy[0]);
    VklArray gy_last = desc->last_only ? pass->gy : VKL_NO_ARRAY;
    bool wave = vkl_rnn_wave(&layers, true);
    if (wave)
        wave_back(&layers, gy, gy_last);
    for (uint64_t layer = desc->layers; layer-- > 0 && !plan->status;) {
        Memory memory = vkl_rnn_memory(&layers, layer);
        View x = x0;
        vkl_rnn_restore_halves(&layers, &memory);
        bool first_taken = vkl_has(gy.at) && gy.at.slot == layers.work.dy[0].slot && gy.at.at == layers.work.dy[0].at;
        VklArray dx = layers.work.dy[first_taken];
        if (layer) {
            Memory below = vkl_rnn_memory(&layers, layer - 1);
            x = vkl_rnn_output_of(&layers, &below);
        } else if (!vkl_has(pass->dx) || !desc->batch_first) {
            dx = pass->dx;
        }
        if (vkl_has(memory.drawn) && desc->recompute)
            vkl_rnn_draw_input(&layers, &memory, layer, x);
        View drawn = x;
        uint64_t inputs = layer ? layers.form.W : I;
        if (vkl_has(memory.drawn))
            drawn = (View){memory.drawn, inputs};
        if (wave)
            end_direction(&layers, &memory, layer, 0, drawn, layer ? VKL_NO_ARRAY : dx, WAY_WAVE);
        else
            layer_back(&layers, &memory, layer, drawn, gy, gy_last, dx);
        if (vkl_has(memory.drawn) && vkl_has(dx)) { /* what was dropped has no gradient */
            VklDraw draw = vkl_rnn_draw(&layers, layer, 0, false, (double)(layer ? desc->dropout : desc->input_dropout));
            vkl_plan_move(plan, &(VklMove){.dst = dx,
                                           .src = dx,
                                           .steps = T,
                                           .rows = N,
                                           .columns = inputs,
                                           .dst_step = N * inputs,
                                           .dst_row = inputs,
                                           .src_step = N * inputs,
                                           .src_row = inputs,
                                           .first_step = pass->first_step,
                                           .draw = &draw});
        }
        if (layer == 0 && vkl_has(dx) && desc->batch_first)
            vkl_plan_move(plan, &(VklMove){.dst = pass->dx,
                                           .src = dx,
                                           .steps = T,
                                           .rows = N,
                                           .columns = I,
                                           .dst_step = I,
                                           .dst_row = T * I,
                                           .src_step = N * I,
                                           .src_row = I});
        gy = (View){dx, inputs};
        gy_last = VKL_NO_ARRAY;
    }
    plan->halves = false;
}

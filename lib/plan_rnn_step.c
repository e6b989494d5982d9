/* SPDX-License-Identifier: MIT
 *
 * Time steps of a layer as one dispatch each, of one direction or both; projection and reset before take two. */
#include "plan_rnn_pass.h"

/* A call that is about to be made. */
typedef struct Call {
    VklKernel kernel;
    uint32_t form, flags;
    uint64_t d, directions, k, units, gates;
    bool wide; /* four columns of W lie at a multiple of four */
    Cover cover[VKL_BINDINGS];
    int access[VKL_BINDINGS];
    VklArgs args;
} Call;

static Call call_of(VklKernel kernel, uint64_t d, uint64_t directions, uint32_t form)
{
    Call call = {.kernel = kernel, .form = form, .d = d, .directions = directions, .wide = true};
    memset(&call.args, 0, sizeof(call.args));
    for (int i = 0; i < VKL_BINDINGS; i++)
        call.cover[i] = (Cover){.begin = VKL_NO_ARRAY};
    return call;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static bool shape_of(const Layers *layers, const Call *call, VklStepShape *shape, bool *pays)
{
    VklStepSize size = {.rows = layers->N,
                        .units = call->units,
                        .k = call->k,
                        .gates = call->gates,
                        .wide = call->wide && call->units % 4 == 0,
                        .interleaved = call->flags & VKL_STEP_INTERLEAVED,
                        .usual = layers->form.usual,
                        .backward = call->kernel == VKL_KERNEL_STEP_BACKWARD};
    return vkl_tune_step(layers->plan->caps, &size, shape, pays);
}

static uint64_t groups_of(const Layers *layers, const Call *call, const VklStepShape *shape, uint64_t groups[3])
{
    groups[0] = blocks(call->units, (uint64_t)(shape->workgroup / shape->slices) * shape->units);
    groups[1] = blocks(layers->N, shape->rows);
    groups[2] = call->directions;
    return groups[0] * groups[1] * groups[2];
}

static bool fits(const Layers *layers, const Call *call, bool *pays)
{
    VklStepShape shape;
    uint64_t groups[3];
    if (!shape_of(layers, call, &shape, pays))
        return false;
    groups_of(layers, call, &shape, groups);
    for (int i = 0; i < 3; i++)
        if (groups[i] > layers->plan->caps->workgroups[i])
            return false;
    for (int i = 0; i < 5; i++)
        if (vkl_has(call->cover[i].begin) && cover_count(&call->cover[i]) > vkl_plan_window(layers->plan))
            return false;
    return true;
}

static void emit(const Layers *layers, const Call *call)
{
    const VklRnnDesc *desc = layers->desc;
    const VklActivationDesc *act = desc->activations[reverse_of(layers, call->d)];
    VklStepShape shape;
    uint64_t groups[3];
    bool pays;
    VklOp *op = vkl_plan_op(layers->plan, call->kernel);
    if (!op || !shape_of(layers, call, &shape, &pays))
        return;
    groups_of(layers, call, &shape, groups);
    op->args = call->args;
    for (int i = 0; i < op->bindings; i++)
        if (vkl_has(call->cover[i].begin))
            vkl_plan_bind(layers->plan, op, i, call->cover[i].begin, cover_count(&call->cover[i]), call->access[i]);
    uint32_t *spec = op->spec;
    spec[VKL_SPEC_WORKGROUP] = shape.workgroup;
    spec[VKL_SPEC_FORM] = call->form;
    spec[VKL_SPEC_STEP_ROWS] = shape.rows;
    spec[VKL_SPEC_STEP_UNITS] = shape.units;
    spec[VKL_SPEC_STEP_SLICES] = shape.slices;
    spec[VKL_SPEC_STEP_FLAGS] = call->flags | (call->k > VKL_STEP_BLOCK ? VKL_STEP_LONG : 0) |
                                (layers->plan->caps->arch == VKL_ARCH_SOFTWARE ? VKL_STEP_ROLLED : 0);
    if (call->form != VKL_STEP_LSTM_PLAIN && call->form != VKL_STEP_PROJECT) {
        spec[VKL_SPEC_STEP_KINDS] = packed_kinds(act);
        spec[VKL_SPEC_STEP_PREACT_CLIP] = bits_of(desc->preact_clip);
        spec[VKL_SPEC_STEP_CELL_CLIP] = bits_of(desc->cell_clip);
        for (int i = 0; i < 3; i++) {
            spec[VKL_SPEC_STEP_ALPHA + 2 * i] = bits_of(act[i].alpha);
            spec[VKL_SPEC_STEP_ALPHA + 2 * i + 1] = bits_of(act[i].beta);
        }
    }
    for (int i = 0; i < 3; i++)
        op->groups[i] = (uint32_t)groups[i];
    vkl_plan_counted(layers->plan, op, VKL_TALLY_Y, 0, layers->N, shape.rows, 1, 1);
    op->work = layers->N * call->directions;
    op->work_cost = call->units * (call->gates * call->k + 64);
    op->flops = 2.0 * (double)op->work * (double)call->units * (double)call->gates * (double)call->k;
    /* windows of two directions hold all that lies between */
    double once = (double)call->units * (double)call->gates * (double)call->k * (double)call->directions;
    double cells = (double)op->work * (double)call->units;
    op->bytes = (call->flags & VKL_STEP_HALVES ? 2 : 4) * once +
                4 * ((double)op->work * (double)call->k + cells * (2.0 * (double)layers->form.gates + 4));
    vkl_plan_end(layers->plan, op);
}

/* Which way step s of a pass goes through time. */
static uint64_t time_of(const Layers *layers, uint64_t d, uint64_t s, bool backward)
{
    return reverse_of(layers, d) != backward ? layers->T - 1 - s : s;
}

static uint32_t flags_of(const Layers *layers, uint64_t masks, bool project)
{
    bool interleaved = layers->form.unit_stride == 4 && !project;
    return (layers->desc->input_forget ? VKL_STEP_COUPLED : 0) | (interleaved ? VKL_STEP_INTERLEAVED : 0) |
           (uint32_t)masks << VKL_STEP_MASKS_SHIFT;
}

/* Covers an array of each part, and gives their positions in the end. */
typedef struct Pair {
    VklArray at[2];
} Pair;

static Pair no_pair(void)
{
    return (Pair){{VKL_NO_ARRAY, VKL_NO_ARRAY}};
}

static void cover_pair(Call *call, int binding, const Pair *pair, uint64_t count)
{
    for (uint64_t i = 0; i < call->directions; i++)
        cover_add(&call->cover[binding], pair->at[i], count);
}

static uint32_t first_of(const Call *call, int binding, const Pair *pair)
{
    return within(&call->cover[binding], pair->at[0]);
}

static uint32_t second_of(const Call *call, int binding, const Pair *pair)
{
    return within(&call->cover[binding], pair->at[call->directions - 1]);
}

/* Peepholes or b_hh, by direction; where the weights of a step are. */
static Pair option_of(const Layers *layers, const VklRnnPlace place[2], uint64_t directions)
{
    Pair pair = no_pair();
    for (uint64_t i = 0; i < directions && i < 2; i++) /* 2: a compiler that unrolls would warn of a third */
        pair.at[i] = param(layers, layers->form.gru_after ? place[i].b_hh : place[i].peephole);
    return pair;
}

/* W of each part, from these numbers of params on; all of them as halves, or none. */
static Pair weights_of(const Layers *layers, Call *call, const uint64_t at[2], uint64_t directions, uint64_t w_ld)
{
    Pair w = no_pair();
    bool halves = w_ld % 4 == 0;
    for (uint64_t i = 0; i < directions; i++)
        halves = halves && reads_halves(layers, at[i]);
    for (uint64_t i = 0; i < directions && i < 2; i++) /* 2: as above */
        w.at[i] = halves ? packed_param(layers, at[i]) : param(layers, at[i]);
    call->flags |= halves ? VKL_STEP_HALVES : 0;
    call->wide = at[0] % 4 == 0 && w_ld % 4 == 0;
    return w;
}

/* Elements that a matrix takes, and its position as the kernel counts. */
static uint64_t w_elements(const Call *call, uint64_t numbers)
{
    return call->flags & VKL_STEP_HALVES ? blocks(numbers, 2) : numbers;
}

static uint32_t w_position(const Call *call, uint32_t element)
{
    return call->flags & VKL_STEP_HALVES ? 2 * element : element;
}

static Call forward_call(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, uint64_t s,
                         uint32_t form_of_call)
{
    const VklRnnForm *form = &layers->form;
    const Side *side = &layers->work.side;
    uint64_t H = layers->H, N = layers->N, P = form->P;
    Call call = call_of(VKL_KERNEL_STEP_FORWARD, d, directions, form_of_call);
    bool first = form_of_call == VKL_STEP_GRU_FIRST, second = form_of_call == VKL_STEP_GRU_SECOND;
    bool project = form_of_call == VKL_STEP_PROJECT, lstm = form_of_call <= VKL_STEP_LSTM,
         projected = lstm && layers->desc->projection;
    VklRnnPlace place[2];
    uint64_t w_at[2];
    Pair gates = no_pair(), c = no_pair(), c_next = no_pair(), to = no_pair(), h = no_pair(), h_next = no_pair();
    for (uint64_t i = 0; i < directions; i++) {
        uint64_t t = time_of(layers, d + i, s, false), before = slot_before(layers, d + i, t);
        vkl_rnn_place(layers->desc, layer, d + i, &place[i]);
        gates.at[i] = gates_at(layers, memory, d + i, t);
        w_at[i] = project ? place[i].w_hr : place[i].w_hh + (first ? H : 0);
        h.at[i] = h_at(layers, memory, before, (d + i) * P);
        h_next.at[i] = h_at(layers, memory, t + 1, (d + i) * P);
        if (lstm) {
            c.at[i] = c_at(layers, memory, d + i, before);
            c_next.at[i] = c_at(layers, memory, d + i, t + 1);
        }
        if (projected || project)
            to.at[i] = step_of(layers, memory->m[d + i], t, H);
        if (first || second)
            to.at[i] = step_of(layers, memory->rh[d + i], t, H);
    }
    call.units = project ? P : H;
    call.k = project || second ? H : P;
    call.gates = first ? 2 : second || project ? 1 : form->gates;
    uint64_t w_ld = project ? P : form->columns, row = rows_reach(layers, form->h_ld, form->h_ld - d * P);
    Pair option = option_of(layers, place, directions), w = weights_of(layers, &call, w_at, directions, w_ld);
    if (!project)
        cover_pair(&call, 0, &gates, rows_reach(layers, form->width, form->width));
    cover_pair(&call, 0, &to, N * H);
    cover_pair(&call, 1, &w, w_elements(&call, (call.k - 1) * w_ld + call.gates * call.units));
    cover_pair(&call, 1, &option, 3 * H);
    cover_pair(&call, 2, &c, N * H);
    cover_pair(&call, 2, &c_next, N * H);
    row -= directions == 2 ? P : 0; /* the second part's row ends where the first's does */
    cover_pair(&call, 3, &h, row);
    cover_pair(&call, 3, &h_next, row);
    if (form->masks || vkl_has(layers->pass->lengths))
        call.cover[4] = (Cover){side->begin, side->begin.at + side->whole};
    call.access[0] = VKL_READ_WRITE;
    call.access[1] = VKL_READ;
    call.access[2] = VKL_READ_WRITE;
    call.access[3] = VKL_READ_WRITE;
    call.access[4] = VKL_READ;
    bool keep = layers->pass->training || form->gru_before;
    call.flags |= flags_of(layers, form->masks, project) | (keep ? VKL_STEP_KEEP : 0) | (projected ? VKL_STEP_PROJECTED : 0);
    struct VklStepForwardArgs *args = &call.args.STEP_FORWARD;
    *args = (struct VklStepForwardArgs){
        .rows = (uint32_t)N,
        .units = (uint32_t)call.units,
        .k = (uint32_t)call.k,
        .gates = project ? 0 : first_of(&call, 0, &gates),
        .gates_ld = (uint32_t)form->width,
        .h = first_of(&call, 3, &h),
        .h_step = first_of(&call, 3, &h_next) - first_of(&call, 3, &h),
        .h_ld = (uint32_t)form->h_ld,
        .c = or_zero(first_of(&call, 2, &c)),
        .c_step = first_of(&call, 2, &c_next) - first_of(&call, 2, &c),
        .to = or_zero(first_of(&call, 0, &to)),
        .w = w_position(&call, first_of(&call, 1, &w)),
        .w_ld = (uint32_t)w_ld,
        .option = first_of(&call, 1, &option),
        .lengths = lengths_at(layers),
        .t = (uint32_t)time_of(layers, d, s, false),
        .mask = at_or_absent(form->masks, side->mask),
        .masked = (uint32_t)(form->masks ? operand_column(layers, d, 0) - d * P : 0),
        .gates_second = project ? 0 : second_of(&call, 0, &gates),
        .h_second = second_of(&call, 3, &h),
        .c_second = or_zero(second_of(&call, 2, &c)),
        .to_second = or_zero(second_of(&call, 0, &to)),
        .params_second = w_position(&call, second_of(&call, 1, &w) - first_of(&call, 1, &w)),
        .t_second = (uint32_t)time_of(layers, d + directions - 1, s, false),
    };
    return call;
}

static Call backward_call(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, uint64_t s,
                          uint32_t form_of_call, const View gy_of[2], bool carried)
{
    const VklRnnForm *form = &layers->form;
    const Side *side = &layers->work.side;
    uint64_t H = layers->H, N = layers->N, P = form->P;
    Call call = call_of(VKL_KERNEL_STEP_BACKWARD, d, directions, form_of_call);
    bool first = form_of_call == VKL_STEP_GRU_FIRST, second = form_of_call == VKL_STEP_GRU_SECOND;
    bool project = form_of_call == VKL_STEP_PROJECT, lstm = form_of_call <= VKL_STEP_LSTM,
         projected = lstm && layers->desc->projection;
    bool gru = first || second || form_of_call == VKL_STEP_GRU;
    VklRnnPlace place[2];
    uint64_t w_at[2];
    Pair gates = no_pair(), next = no_pair(), gy = no_pair(), c = no_pair(), c_prev = no_pair(), dc_in = no_pair(),
         dc_out = no_pair();
    uint64_t gy_ld = projected ? P : gy_of[0].ld;
    for (uint64_t i = 0; i < directions; i++) {
        uint64_t t = time_of(layers, d + i, s, true), done = reverse_of(layers, d + i) ? t - 1 : t + 1;
        uint64_t before = slot_before(layers, d + i, t);
        vkl_rnn_place(layers->desc, layer, d + i, &place[i]);
        gates.at[i] = gates_at(layers, memory, d + i, t);
        if (!second && !projected && s)
            next.at[i] = gates_at(layers, memory, d + i, done);
        w_at[i] = projected ? place[i].w_hr : place[i].w_hh + (first ? H : 0);
        gy.at[i] = projected ? step_of(layers, vkl_rnn_dh(layers, d + i), t, P) : second ? VKL_NO_ARRAY : gy_of[i].at;
        if (lstm) {
            bool has_dc = s || vkl_has(layers->pass->gcn) || layers->desc->peephole;
            c.at[i] = c_at(layers, memory, d + i, t + 1);
            c_prev.at[i] = c_at(layers, memory, d + i, before);
            if (has_dc)
                dc_in.at[i] = c_at(layers, memory, d + i, s ? vkl_rnn_slot_of_dc(layers, d + i, done) : far_slot(layers, d + i));
            dc_out.at[i] = c_at(layers, memory, d + i, vkl_rnn_slot_of_dc(layers, d + i, t));
        } else if (project) {
            c.at[i] = step_of(layers, vkl_rnn_dh(layers, d + i), t, P);
        } else if (gru) {
            c.at[i] = h_at(layers, memory, before, (d + i) * P);
            dc_in.at[i] = second ? candidate_operand(layers, memory, d + i, before) : VKL_NO_ARRAY;
        }
    }
    call.units = project ? P : H;
    call.k = projected ? P : second ? H : !s ? 0 : first ? 2 * H : form->columns;
    call.gates = 1;
    uint64_t w_ld = projected ? P : form->columns,
             view = second  ? 0
                    : first ? H
                            : form->h_view,
             h_rows = rows_reach(layers, form->h_ld, H);
    Pair option = option_of(layers, place, directions), w = weights_of(layers, &call, w_at, directions, w_ld);
    cover_pair(&call, 0, &gates, rows_reach(layers, form->width, form->width));
    cover_pair(&call, 0, &next, rows_reach(layers, form->width, form->width));
    cover_pair(&call, 1, &w, w_elements(&call, (call.units - 1) * w_ld + larger(call.k, 1)));
    cover_pair(&call, 1, &option, 3 * H);
    cover_pair(&call, 2, &c, gru ? h_rows : N * (project ? P : H));
    cover_pair(&call, 2, &c_prev, N * H);
    cover_pair(&call, 2, &dc_in, gru ? h_rows : N * H);
    cover_pair(&call, 2, &dc_out, N * H);
    cover_pair(&call, 3, &gy, vkl_has(gy.at[0]) ? rows_reach(layers, gy_ld, call.k && projected ? P : call.units) : 0);
    call.cover[4] = (Cover){side->begin, side->begin.at + side->whole};
    call.access[0] = VKL_READ_WRITE;
    call.access[1] = VKL_READ;
    call.access[2] = gru ? VKL_READ : VKL_READ_WRITE;
    call.access[3] = VKL_READ;
    bool carries = gru || project || (!projected && (vkl_has(layers->pass->lengths) || (s == 0 && carried)));
    call.access[4] = carries ? VKL_READ_WRITE : VKL_READ;
    call.flags |= flags_of(layers, projected ? 0 : form->masks, project) | (projected ? VKL_STEP_PROJECTED : 0);
    struct VklStepBackwardArgs *args = &call.args.STEP_BACKWARD;
    *args = (struct VklStepBackwardArgs){
        .rows = (uint32_t)N,
        .units = (uint32_t)call.units,
        .k = (uint32_t)call.k,
        .gates = first_of(&call, 0, &gates),
        .gates_ld = (uint32_t)form->width,
        .next_step = vkl_has(next.at[0]) ? first_of(&call, 0, &next) - first_of(&call, 0, &gates) : 0,
        .view = (uint32_t)view,
        .gy = or_zero(first_of(&call, 3, &gy)),
        .gy_ld = vkl_has(gy.at[0]) ? (uint32_t)gy_ld : VKL_ABSENT,
        .c = or_zero(first_of(&call, 2, &c)),
        .state_step = gru ? (uint32_t)form->h_ld : first_of(&call, 2, &c_prev) - first_of(&call, 2, &c),
        .dc_in = first_of(&call, 2, &dc_in),
        .dc_out = or_zero(first_of(&call, 2, &dc_out)),
        .w = w_position(&call, first_of(&call, 1, &w)),
        .w_ld = (uint32_t)w_ld,
        .option = lstm ? first_of(&call, 1, &option) : VKL_ABSENT,
        .carry = at_or_absent(carries, side->carry),
        .lengths = lengths_at(layers),
        .t = (uint32_t)time_of(layers, d, s, true),
        .mask = at_or_absent(form->masks, side->mask),
        .gates_second = second_of(&call, 0, &gates),
        .gy_second = or_zero(second_of(&call, 3, &gy)),
        .c_second = or_zero(second_of(&call, 2, &c)),
        .dc_in_second = second_of(&call, 2, &dc_in),
        .dc_out_second = or_zero(second_of(&call, 2, &dc_out)),
        .params_second = w_position(&call, second_of(&call, 1, &w) - first_of(&call, 1, &w)),
        .t_second = (uint32_t)time_of(layers, d + directions - 1, s, true),
    };
    return call;
}

/* The calls of a step, in the order of forward; returns how many. */
static int forms_of(const Layers *layers, uint32_t forms[2])
{
    const VklRnnForm *form = &layers->form;
    int count = 0;
    if (form->lstm) {
        forms[count++] = layers->fused ? VKL_STEP_LSTM_PLAIN : VKL_STEP_LSTM;
        if (layers->desc->projection)
            forms[count++] = VKL_STEP_PROJECT;
    } else if (form->gru_before) {
        forms[count++] = VKL_STEP_GRU_FIRST;
        forms[count++] = VKL_STEP_GRU_SECOND;
    } else {
        forms[count++] = form->gru_after ? VKL_STEP_GRU : VKL_STEP_RNN;
    }
    return count;
}

static bool same_activations(const VklRnnDesc *desc)
{
    for (int i = 0; i < 3; i++) {
        const VklActivationDesc *a = &desc->activations[0][i], *b = &desc->activations[1][i];
        if (a->kind != b->kind || bits_of(a->alpha) != bits_of(b->alpha) || bits_of(a->beta) != bits_of(b->beta))
            return false;
    }
    return true;
}

static const View no_gy[2] = {{{VKL_SLOT_NONE, 0}, 0}, {{VKL_SLOT_NONE, 0}, 0}};

static bool steps_fit(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, bool backward,
                      uint64_t s, bool *pays)
{
    uint32_t forms[2];
    int count = forms_of(layers, forms);
    for (int i = 0; i < count; i++) {
        Call call = backward ? backward_call(layers, memory, layer, d, directions, s, forms[i], no_gy, true)
                             : forward_call(layers, memory, layer, d, directions, s, forms[i]);
        if (!fits(layers, &call, pays))
            return false;
    }
    return true;
}

bool vkl_rnn_steps_possible(const Layers *layers, const Memory *memory, uint64_t layer, bool backward, bool *pays)
{
    for (uint64_t d = 0; d < layers->form.D; d++)
        if (!steps_fit(layers, memory, layer, d, 1, backward, layers->T - 1, pays))
            return false;
    return true;
}

bool vkl_rnn_steps_together(const Layers *layers, const Memory *memory, uint64_t layer, bool backward)
{
    bool pays; /* both directions are furthest apart at the ends */
    return layers->form.D == 2 && (layers->fused || same_activations(layers->desc)) &&
           steps_fit(layers, memory, layer, 0, 2, backward, 0, &pays) &&
           steps_fit(layers, memory, layer, 0, 2, backward, layers->T - 1, &pays);
}

void vkl_rnn_step_forward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, uint64_t s)
{
    uint32_t forms[2];
    int count = forms_of(layers, forms);
    for (int i = 0; i < count; i++) {
        Call call = forward_call(layers, memory, layer, d, directions, s, forms[i]);
        emit(layers, &call);
    }
}

void vkl_rnn_step_backward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                           uint64_t s, const View gy[2], bool carried)
{
    uint32_t forms[2];
    int count = forms_of(layers, forms);
    bool projection = layers->desc->projection;
    for (int i = 0; i < count; i++) {
        Call call = backward_call(layers, memory, layer, d, directions, s, forms[projection ? count - 1 - i : i], gy, carried);
        emit(layers, &call);
    }
}

void vkl_rnn_prepare_steps(const Layers *layers, uint64_t layer, uint64_t d, uint64_t directions)
{
    const VklRnnForm *form = &layers->form;
    const Side *side = &layers->work.side;
    uint64_t N = layers->N, P = form->P;
    for (uint64_t i = 0; i < directions; i++)
        vkl_rnn_pack_params(layers, layer, d + i);
    if (vkl_has(layers->pass->lengths))
        move(layers, side_at(layers, side->lengths), N, layers->pass->lengths, N, 1, N, false);
    if (!form->masks)
        return;
    /* the masks of ones are their factors; ones: what a guard puts in place of all elements past a length of 0 */
    VklArray zeros = side_at(layers, side->zeros), ones = side_at(layers, side->spare);
    vkl_plan_copy(layers->plan, &(VklCopyPiece){.mode = VKL_COPY_ZERO, .arena = zeros, .count = P}, 1);
    vkl_plan_move(layers->plan, &(VklMove){.dst = ones,
                                           .src = zeros,
                                           .steps = 1,
                                           .rows = 1,
                                           .columns = P,
                                           .guard = VKL_MOVE_LIVE,
                                           .lengths = zeros,
                                           .value = 1});
    for (uint64_t i = 0; i < directions; i++)
        for (uint64_t g = 0; g < form->masks; g++)
            vkl_rnn_mask_rows(layers, layer, d + i, g, side_at(layers, side->mask + (i * form->masks + g) * N * P), P, ones, 0,
                              false);
}

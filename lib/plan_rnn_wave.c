/* SPDX-License-Identifier: MIT
 *
 * The layers of a stack of one direction side by side: one dispatch does a time step of each layer, which is a step behind the layer that it
 * needs. T + L - 1 dispatches in place of T L, and no products between layers; but each step reads W_ih of its layers again. Only as a path that
 * is asked for. */
#include "plan_rnn_pass.h"

/* A call: a time step of the layers from `first` on. */
typedef struct Wave {
    uint64_t first, layers, s;
    uint32_t flags;
    VklKernel kernel;
    Cover cover[VKL_BINDINGS];
    int access[VKL_BINDINGS];
    VklArgs args;
} Wave;

static Wave wave_at(const Layers *layers, uint64_t s, bool backward)
{
    uint64_t L = layers->desc->layers, T = layers->T;
    uint64_t from = s >= T ? s - (T - 1) : 0, to = smaller(L - 1, s); /* counted in the order of the pass */
    Wave wave = {.first = backward ? L - 1 - to : from,
                 .layers = to - from + 1,
                 .s = s,
                 .kernel = backward ? VKL_KERNEL_WAVE_BACKWARD : VKL_KERNEL_WAVE_FORWARD};
    memset(&wave.args, 0, sizeof(wave.args));
    for (int i = 0; i < VKL_BINDINGS; i++)
        wave.cover[i] = (Cover){.begin = VKL_NO_ARRAY};
    return wave;
}

/* Which step of its own a layer does, and at which time. */
static uint64_t step_in(const Layers *layers, const Wave *wave, uint64_t layer)
{
    return wave->s - (wave->kernel == VKL_KERNEL_WAVE_BACKWARD ? layers->desc->layers - 1 - layer : layer);
}

static uint64_t time_in(const Layers *layers, const Wave *wave, uint64_t layer)
{
    uint64_t s = step_in(layers, wave, layer);
    return reverse_of(layers, 0) != (wave->kernel == VKL_KERNEL_WAVE_BACKWARD) ? layers->T - 1 - s : s;
}

/* Where a layer's arrays are at the step that it does. */
typedef struct At {
    VklArray gates, h, h_next, c, c_next; /* h, c: before the step, and after it */
    VklArray carry, w;
    VklRnnPlace place;
} At;

static VklArray carry_of(const Layers *layers, uint64_t layer)
{
    return vkl_array_at(layers->work.carries, layer * aligned(layers->N * layers->H));
}

static At layer_at(const Layers *layers, const Wave *wave, uint64_t layer)
{
    Memory memory = vkl_rnn_memory(layers, layer);
    uint64_t t = time_in(layers, wave, layer), before = slot_before(layers, 0, t);
    At at = {.gates = gates_at(layers, &memory, 0, t),
             .h = h_at(layers, &memory, before, 0),
             .h_next = h_at(layers, &memory, t + 1, 0),
             .c = VKL_NO_ARRAY,
             .c_next = VKL_NO_ARRAY,
             .carry = wave->kernel == VKL_KERNEL_WAVE_BACKWARD ? carry_of(layers, layer) : VKL_NO_ARRAY};
    if (layers->form.lstm) {
        at.c = c_at(layers, &memory, 0, before);
        at.c_next = c_at(layers, &memory, 0, t + 1);
    }
    vkl_rnn_place(layers->desc, layer, 0, &at.place);
    at.w = param(layers, at.place.w_hh);
    return at;
}

/* From one position to another, modulo 2^32 as kernels count. */
static uint32_t apart(VklArray from, VklArray to)
{
    return vkl_has(from) && vkl_has(to) ? (uint32_t)(to.at - from.at) : 0;
}

/* What W_hh of layers, and what else is read from it on, takes: W_ih before it in its own layer, biases behind it. */
static void cover_params(const Layers *layers, Cover *cover, uint64_t layer, bool fed, bool recurrent)
{
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, 0, &place);
    uint64_t begin = fed ? place.w_ih : place.w_hh, end = recurrent ? place.end : place.w_hh;
    cover_add(cover, param(layers, begin), end - begin);
}

static uint32_t from_w(const VklRnnPlace *place, uint64_t at)
{
    return at == VKL_RNN_NONE ? VKL_ABSENT : (uint32_t)(at - place->w_hh);
}

/* Positions of weights, for the layer `first` and those above it. */
typedef struct Weights {
    uint32_t w, w_second, w_layer, inputs, bias, option;
} Weights;

static Weights weights_of(const Layers *layers, const Wave *wave)
{
    VklRnnPlace place[3];
    uint64_t L = layers->desc->layers;
    for (uint64_t i = 0; i < 3; i++) /* all layers but the first are alike */
        vkl_rnn_place(layers->desc, L > 1 ? wave->first + i : 0, 0, &place[i]);
    Weights weights = {.w = within(&wave->cover[1], param(layers, place[0].w_hh)),
                       .inputs = from_w(&place[1], place[1].w_ih),
                       .bias = from_w(&place[1], place[1].b_ih),
                       .option = layers->form.gru_after ? from_w(&place[1], place[1].b_hh) : VKL_ABSENT};
    weights.w_second = weights.w + (uint32_t)(place[1].w_hh - place[0].w_hh);
    weights.w_layer = (uint32_t)(place[2].w_hh - place[1].w_hh);
    return weights;
}

static Wave forward_wave(const Layers *layers, uint64_t s)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, rows = rows_reach(layers, form->h_ld, H);
    Wave wave = wave_at(layers, s, false);
    At low = layer_at(layers, &wave, wave.first), next = low;
    if (wave.layers > 1)
        next = layer_at(layers, &wave, wave.first + 1);
    for (uint64_t i = 0; i<wave.layers; i += wave.layers> 1 ? wave.layers - 1 : 1) { /* the ends */
        At at = layer_at(layers, &wave, wave.first + i);
        cover_add(&wave.cover[0], at.gates, rows_reach(layers, form->width, form->width));
        cover_params(layers, &wave.cover[1], wave.first + i, wave.first + i > 0, true);
        cover_add(&wave.cover[2], at.c, N * H);
        cover_add(&wave.cover[2], at.c_next, N * H);
        cover_add(&wave.cover[3], at.h, rows);
        cover_add(&wave.cover[3], at.h_next, rows);
    }
    uint32_t below = 0;
    if (layers->desc->layers > 1) { /* of the layer below, the same step */
        uint64_t fed = larger(wave.first, 1);
        Memory memory[2] = {vkl_rnn_memory(layers, fed - 1), vkl_rnn_memory(layers, fed)};
        below = apart(low.h, low.h_next) + apart(memory[1].h, memory[0].h);
        if (wave.first > 0)
            cover_add(&wave.cover[3], h_at(layers, &memory[0], time_in(layers, &wave, wave.first) + 1, 0), rows);
    }
    wave.access[0] = wave.access[2] = wave.access[3] = VKL_READ_WRITE;
    wave.access[1] = VKL_READ;
    Weights weights = weights_of(layers, &wave);
    uint64_t bias_rows = form->gru_after && form->bias_rows == 2 ? 1 : form->bias_rows;
    wave.flags = layers->pass->training ? VKL_WAVE_KEEP : 0;
    wave.args.WAVE_FORWARD = (struct VklWaveForwardArgs){
        .rows = (uint32_t)N,
        .units = (uint32_t)H,
        .gates = within(&wave.cover[0], low.gates),
        .gates_ld = (uint32_t)form->width,
        .gates_wave = apart(low.gates, next.gates),
        .h = within(&wave.cover[3], low.h),
        .h_step = apart(low.h, low.h_next),
        .h_ld = (uint32_t)form->h_ld,
        .h_wave = apart(low.h, next.h),
        .below = below,
        .c = or_zero(within(&wave.cover[2], low.c)),
        .c_step = apart(low.c, low.c_next),
        .c_wave = apart(low.c, next.c),
        .w = weights.w,
        .w_second = weights.w_second,
        .w_layer = weights.w_layer,
        .inputs = weights.inputs,
        .bias = or_zero(weights.bias),
        .bias_rows = (uint32_t)bias_rows,
        .option = weights.option,
        .lowest = wave.first == 0,
    };
    return wave;
}

static Wave backward_wave(const Layers *layers, uint64_t s, View gy, bool carried)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, L = layers->desc->layers, gates_rows = rows_reach(layers, form->width, form->width);
    Wave wave = wave_at(layers, s, true);
    uint64_t last = wave.first + wave.layers - 1;
    bool first = step_in(layers, &wave, wave.first) == 0, top = last == L - 1, gru = form->gru_after;
    At low = layer_at(layers, &wave, wave.first), next = low;
    if (wave.layers > 1)
        next = layer_at(layers, &wave, wave.first + 1);
    uint32_t gates_step = (uint32_t)(N * form->width), next_step = reverse_of(layers, 0) ? 0 - gates_step : gates_step, above = 0;
    VklArray done = VKL_NO_ARRAY;
    for (uint64_t i = 0; i<wave.layers; i += wave.layers> 1 ? wave.layers - 1 : 1) { /* the ends */
        At at = layer_at(layers, &wave, wave.first + i);
        Memory memory = vkl_rnn_memory(layers, wave.first + i);
        uint64_t own = step_in(layers, &wave, wave.first + i), time = time_in(layers, &wave, wave.first + i);
        bool before = own > 0; /* it has done a step */
        uint64_t time_done = reverse_of(layers, 0) ? time - 1 : time + 1;
        cover_add(&wave.cover[0], at.gates, gates_rows);
        if (before)
            done = gates_at(layers, &memory, 0, time_done);
        cover_add(&wave.cover[0], before ? done : VKL_NO_ARRAY, gates_rows);
        cover_params(layers, &wave.cover[1], wave.first + i, i > 0, true);
        if (form->lstm) {
            cover_add(&wave.cover[2], at.c, N * H);
            cover_add(&wave.cover[2], at.c_next, N * H);
            if (before || vkl_has(layers->pass->gcn))
                cover_add(&wave.cover[2], c_at(layers, &memory, 0, time_done + 1), N * H);
        } else if (gru) {
            cover_add(&wave.cover[2], at.h, rows_reach(layers, form->h_ld, H));
        }
        cover_add(&wave.cover[4], at.carry, N * H);
    }
    if (L > 1) {
        uint64_t below = smaller(last, L - 2);
        Memory memory[2] = {vkl_rnn_memory(layers, below), vkl_rnn_memory(layers, below + 1)};
        above = apart(memory[0].gates[0], memory[1].gates[0]);
        if (!top) {
            cover_add(&wave.cover[0], gates_at(layers, &memory[1], 0, time_in(layers, &wave, last)), gates_rows);
            cover_params(layers, &wave.cover[1], last + 1, true, false);
        }
    }
    bool has_gy = top && vkl_has(gy.at);
    if (has_gy)
        cover_add(&wave.cover[3], step_of(layers, gy.at, time_in(layers, &wave, last), gy.ld), rows_reach(layers, gy.ld, H));
    wave.access[0] = wave.access[4] = VKL_READ_WRITE;
    wave.access[1] = wave.access[3] = VKL_READ;
    wave.access[2] = gru ? VKL_READ : VKL_READ_WRITE;
    Weights weights = weights_of(layers, &wave);
    VklArray state = gru ? low.h : low.c_next;
    wave.args.WAVE_BACKWARD = (struct VklWaveBackwardArgs){
        .rows = (uint32_t)N,
        .units = (uint32_t)H,
        .gates = within(&wave.cover[0], low.gates),
        .gates_ld = (uint32_t)form->width,
        .gates_wave = apart(low.gates, next.gates),
        .next_step = next_step,
        .view = (uint32_t)form->h_view,
        .above = above,
        .gy = 0,
        .gy_ld = has_gy ? (uint32_t)gy.ld : VKL_ABSENT,
        .state = or_zero(within(&wave.cover[2], state)),
        .state_step = apart(low.c_next, low.c),
        .state_ld = (uint32_t)form->h_ld,
        .state_wave = gru ? apart(low.h, next.h) : apart(low.c_next, next.c_next),
        .carry = within(&wave.cover[4], low.carry),
        .carry_wave = apart(low.carry, next.carry),
        .w = weights.w,
        .w_second = weights.w_second,
        .w_layer = weights.w_layer,
        .inputs = weights.inputs,
        .flags = (first ? VKL_WAVE_FIRST : 0) | (first && carried ? VKL_WAVE_CARRIED : 0) |
                 (first && vkl_has(layers->pass->gcn) ? VKL_WAVE_DC : 0) | (top ? VKL_WAVE_TOP : 0),
    };
    return wave;
}

static bool shape_of(const Layers *layers, bool backward, VklStepShape *shape)
{
    VklWaveSize size = {.rows = layers->N,
                        .units = layers->H,
                        .gates = layers->form.gates,
                        .interleaved = layers->form.lstm,
                        .backward = backward};
    return vkl_tune_wave(layers->plan->caps, &size, shape);
}

static void groups_of(const Layers *layers, const Wave *wave, const VklStepShape *shape, uint64_t groups[3])
{
    groups[0] = blocks(layers->H, shape->workgroup / shape->slices);
    groups[1] = blocks(layers->N, shape->rows);
    groups[2] = wave->layers;
}

static bool fits(const Layers *layers, const Wave *wave, const VklStepShape *shape)
{
    uint64_t groups[3];
    groups_of(layers, wave, shape, groups);
    for (int i = 0; i < 3; i++)
        if (groups[i] > layers->plan->caps->workgroups[i])
            return false;
    for (int i = 0; i < 5; i++)
        if (vkl_has(wave->cover[i].begin) && cover_count(&wave->cover[i]) > vkl_plan_window(layers->plan))
            return false;
    return true;
}

static void emit(const Layers *layers, Wave *wave)
{
    VklStepShape shape;
    uint64_t groups[3], H = layers->H, G = layers->form.columns;
    bool backward = wave->kernel == VKL_KERNEL_WAVE_BACKWARD;
    VklOp *op = vkl_plan_op(layers->plan, wave->kernel);
    if (!op || !shape_of(layers, backward, &shape))
        return;
    groups_of(layers, wave, &shape, groups);
    op->args = wave->args;
    for (int i = 0; i < op->bindings; i++)
        if (vkl_has(wave->cover[i].begin))
            vkl_plan_bind(layers->plan, op, i, wave->cover[i].begin, cover_count(&wave->cover[i]), wave->access[i]);
    uint64_t terms = backward ? G : H;
    op->spec[VKL_SPEC_WORKGROUP] = shape.workgroup;
    op->spec[VKL_SPEC_FORM] = layers->form.sequence;
    op->spec[VKL_SPEC_WAVE_ROWS] = shape.rows;
    op->spec[VKL_SPEC_WAVE_SLICES] = shape.slices;
    op->spec[VKL_SPEC_WAVE_FLAGS] = wave->flags | (terms > VKL_STEP_BLOCK ? VKL_WAVE_LONG : 0);
    for (int i = 0; i < 3; i++)
        op->groups[i] = (uint32_t)groups[i];
    vkl_plan_counted(layers->plan, op, VKL_TALLY_Y, 0, layers->N, shape.rows, 1, 1);
    op->work = layers->N * wave->layers;
    op->work_cost = 2 * H * G + 64 * H;
    double matrices = 2.0 * (double)wave->layers * (double)H * (double)G;
    op->flops = 2.0 * matrices * (double)layers->N;
    op->bytes = 4 * (matrices + (double)op->work * (double)H * (2.0 * (double)layers->form.gates + 5));
    vkl_plan_end(layers->plan, op);
}

/* Whether memory advances alike from layer to layer: dropout of the input gives the first one more. */
static bool layers_are_alike(const Layers *layers)
{
    if (layers->desc->layers < 3)
        return true;
    Memory memory[3] = {vkl_rnn_memory(layers, 0), vkl_rnn_memory(layers, 1), vkl_rnn_memory(layers, 2)};
    return apart(memory[0].gates[0], memory[1].gates[0]) == apart(memory[1].gates[0], memory[2].gates[0]) &&
           apart(memory[0].h, memory[1].h) == apart(memory[1].h, memory[2].h) &&
           apart(memory[0].c[0], memory[1].c[0]) == apart(memory[1].c[0], memory[2].c[0]);
}

static bool possible(const Layers *layers, bool backward)
{
    const VklRnnDesc *desc = layers->desc;
    const VklRnnPass *pass = layers->pass;
    VklStepShape shape;
    if (!vkl_rnn_waves(desc) || vkl_has(pass->lengths) || (pass->training && desc->dropout > 0) ||
        !shape_of(layers, backward, &shape))
        return false;
    if (!layers_are_alike(layers))
        return false;
    const uint64_t ends[2] = {smaller(desc->layers, layers->T) - 1, larger(desc->layers, layers->T) - 1};
    for (int i = 0; i < 2; i++) { /* where most layers are at work */
        Wave wave = backward ? backward_wave(layers, ends[i], (View){VKL_NO_ARRAY, 0}, false) : forward_wave(layers, ends[i]);
        if (!fits(layers, &wave, &shape))
            return false;
    }
    return true;
}

bool vkl_rnn_wave(const Layers *layers, bool backward)
{
    if (layers->desc->path != VKL_RNN_PATH_WAVEFRONT)
        return false;
    if (possible(layers, backward))
        return true;
    vkl_plan_fail(layers->plan, VKL_ERROR_UNSUPPORTED,
                  "path: layers side by side need one direction, a cell without options, no lengths, no dropout between layers, "
                  "float32 storage without recompute, and a device with kernels of five buffers that reach a step of all layers");
    return false;
}

static uint64_t wave_steps(const Layers *layers)
{
    return layers->T + layers->desc->layers - 1;
}

void vkl_rnn_wave_forward(const Layers *layers)
{
    for (uint64_t s = 0; s < wave_steps(layers) && !layers->plan->status; s++) {
        Wave wave = forward_wave(layers, s);
        emit(layers, &wave);
    }
}

void vkl_rnn_wave_backward(const Layers *layers, View gy, bool carried, bool carried_top)
{
    for (uint64_t s = 0; s < wave_steps(layers) && !layers->plan->status; s++) {
        Wave wave = backward_wave(layers, s, gy, s == 0 ? carried_top : carried);
        emit(layers, &wave);
    }
}

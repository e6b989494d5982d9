/* SPDX-License-Identifier: MIT */
#include "plan_rnn.h"

#include "internal.h"

#define NONE UINT64_MAX

/* Arrays inside the arenas begin at multiples of 256 bytes, the largest alignment that Vulkan lets a device ask for, so that windows of
 * neighbours do not overlap. */
static uint64_t aligned(uint64_t floats)
{
    return (floats + 63) & ~UINT64_C(63);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool plain_activations(const VklRnnDesc *desc)
{
    for (int direction = 0; direction < 2; direction++)
        if (desc->activations[direction][0].kind != VKL_GATE_SIGMOID || desc->activations[direction][1].kind != VKL_GATE_TANH ||
            desc->activations[direction][2].kind != VKL_GATE_TANH)
            return false;
    return true;
}

VklRnnForm vkl_rnn_form(const VklRnnDesc *desc)
{
    VklRnnForm form = {.D = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1,
                       .P = desc->projection ? desc->projection : desc->hidden_size};
    uint64_t H = desc->hidden_size;
    form.lstm = desc->cell == VKL_CELL_LSTM;
    form.gru_after = desc->cell == VKL_CELL_GRU && desc->reset_after;
    form.gru_before = desc->cell == VKL_CELL_GRU && !desc->reset_after;
    form.W = desc->merge == VKL_MERGE_SUM ? form.P : form.D * form.P;
    form.gates = form.lstm ? 4 : desc->cell == VKL_CELL_GRU ? 3 : 1;
    form.columns = form.gates * H;
    form.width = form.gru_after ? 4 * H : form.columns;
    form.h_view = form.gru_after ? H : 0;
    form.bias_rows = desc->bias == VKL_BIAS_DOUBLE ? 2 : desc->bias == VKL_BIAS_SINGLE ? 1 : 0;
    bool per_gate = desc->recurrent_dropout > 0 && desc->recurrent_dropout_mode == VKL_RECURRENT_DROPOUT_PER_GATE;
    bool interleaved = form.lstm && !per_gate;
    form.unit_stride = interleaved ? 4 : 1;
    form.gate_stride = interleaved ? 1 : H;
    form.masks = desc->recurrent_dropout > 0 ? (per_gate ? form.gates : 1) : 0;
    form.fused = form.lstm && !desc->projection && !desc->peephole && !desc->input_forget && desc->cell_clip == 0 &&
                 desc->preact_clip == 0 && !form.masks && plain_activations(desc);
    form.sum_at = form.D * form.P;
    form.masked_at = form.sum_at + (form.D == 2 && desc->merge == VKL_MERGE_SUM ? form.P : 0);
    form.h_ld = form.masked_at + form.D * form.masks * form.P;
    return form;
}

/* ---- Parameters ---- */

static uint64_t inputs_of(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t layer)
{
    return layer ? form->W : desc->input_size;
}

static bool skips(const VklRnnDesc *desc, uint64_t layer)
{
    return desc->skip_input && layer == 0;
}

static uint64_t take(uint64_t *at, uint64_t count)
{
    uint64_t begin = *at;
    *at += count;
    return count ? begin : NONE;
}

/* Fills `place` for a direction that begins at *at, and moves *at behind it. */
static void place_direction(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t layer, uint64_t *at, VklRnnPlace *place)
{
    uint64_t bias = form->columns, both = form->bias_rows == 2 ? bias : 0, first = form->bias_rows ? bias : 0;
    place->inputs = inputs_of(desc, form, layer);
    place->b_ih = place->b_hh = NONE;
    place->w_ih = take(at, skips(desc, layer) ? 0 : place->inputs * form->columns);
    if (desc->cell == VKL_CELL_GRU) {
        place->b_ih = take(at, first);
        if (form->gru_before)
            place->b_hh = take(at, both);
        place->w_hh = take(at, form->P * form->columns);
        if (form->gru_after)
            place->b_hh = take(at, both);
    } else {
        place->w_hh = take(at, form->P * form->columns);
        place->b_ih = take(at, first);
        place->b_hh = take(at, both);
    }
    place->peephole = take(at, desc->peephole ? 3 * desc->hidden_size : 0);
    place->w_hr = take(at, desc->projection ? desc->hidden_size * form->P : 0);
    place->end = *at;
    *at = (*at + 3) & ~UINT64_C(3); /* the fused kernels read W_hh in fours */
}

void vkl_rnn_place(const VklRnnDesc *desc, uint64_t layer, uint64_t direction, VklRnnPlace *place)
{
    VklRnnForm form = vkl_rnn_form(desc);
    uint64_t first = 0, second = 0;
    place_direction(desc, &form, 0, &first, place);
    place_direction(desc, &form, 1, &second, place);
    uint64_t at = layer == 0 ? direction * first : form.D * first + ((layer - 1) * form.D + direction) * second;
    place_direction(desc, &form, layer, &at, place);
}

uint64_t vkl_rnn_params(const VklRnnDesc *desc)
{
    VklRnnForm form = vkl_rnn_form(desc);
    VklRnnPlace place;
    uint64_t first = 0, second = 0;
    place_direction(desc, &form, 0, &first, &place);
    place_direction(desc, &form, 1, &second, &place);
    return form.D * (first + (desc->layers - 1) * second);
}

/* ---- Memory ---- */

/* Of one layer. */
typedef struct Memory {
    VklArray drawn, h;
    VklArray gates[2], c[2], rh[2], m[2]; /* by direction */
} Memory;

/* For one direction of one step, and for what is prepared once. All in one arena that a kernel binds whole. */
typedef struct Side {
    VklArray begin;
    uint64_t count;
    uint64_t rec, back, spare,
        carry; /* recurrent products [N][columns], their gradients [N][max(P, H)] twice, carried gradient [N][P] */
    uint64_t lengths, peephole, bias, zeros;
} Side;

typedef struct Arena {
    VklArray base;
    uint64_t used;
} Arena;

static VklArray hand_out(Arena *arena, uint64_t count)
{
    VklArray array = vkl_array_at(arena->base, arena->used);
    arena->used += aligned(count);
    return array;
}

static bool draws(const VklRnnDesc *desc, uint64_t layer)
{
    return (layer ? desc->dropout : desc->input_dropout) > 0;
}

/* A layer's memory. What backward needs comes from `kept`; what it can compute again, or nobody needs, from `other`. */
static void lay_out(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t T, uint64_t N, uint64_t layer, bool training,
                    Arena *kept, Arena *other, Memory *memory)
{
    uint64_t H = desc->hidden_size;
    Arena *gates = training && !desc->recompute ? kept : other, *states = training ? kept : other;
    *memory = (Memory){.drawn = VKL_NO_ARRAY};
    for (uint64_t d = 0; d < form->D; d++) {
        memory->gates[d] = hand_out(gates, T * N * form->width);
        memory->rh[d] = form->gru_before ? hand_out(gates, T * N * H) : VKL_NO_ARRAY;
        memory->m[d] = desc->projection ? hand_out(gates, T * N * H) : VKL_NO_ARRAY;
        memory->c[d] = form->lstm ? hand_out(states, (T + 2) * N * H) : VKL_NO_ARRAY;
    }
    memory->h = hand_out(states, (T + 2) * N * form->h_ld);
    if (training && draws(desc, layer))
        memory->drawn = hand_out(gates, T * N * inputs_of(desc, form, layer));
}

static Side lay_out_side(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t N, Arena *arena)
{
    uint64_t H = desc->hidden_size, wide = larger(form->P, H), at = 0;
    Side side = {.begin = vkl_array_at(arena->base, arena->used)};
    side.rec = take(&at, aligned(N * form->columns));
    side.back = take(&at, aligned(N * wide));
    side.spare = take(&at, aligned(N * wide));
    side.carry = take(&at, aligned(N * form->P));
    side.lengths = take(&at, aligned(N));
    side.peephole = take(&at, aligned(3 * H));
    side.bias = take(&at, aligned(3 * H));
    side.zeros = take(&at, aligned(wide));
    side.count = at;
    arena->used += at;
    return side;
}

/* The workspace of a forward or a backward pass. */
typedef struct Work {
    Side side;
    VklArray x;      /* batch_first: x in time-major order */
    VklArray dy[2];  /* gradients of layers' outputs, in turn [T][N][.] */
    VklArray dh;     /* projection: total gradients of h [T][N][P]; fused: one step */
    VklArray last;   /* fused: gradient of the last step with ghn */
    VklArray spread; /* skip input, both directions: gradient of x of the second */
    Arena rest;      /* what lay_out() takes from `other` */
} Work;

static void lay_out_work(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t T, uint64_t N, bool backward, bool lengths,
                         Arena *arena, Work *work)
{
    uint64_t widest = larger(desc->input_size, form->W);
    *work = (Work){.side = lay_out_side(desc, form, N, arena)};
    if (desc->batch_first || (backward && lengths)) /* x past the end of a row may hold anything, which no gradient is to see */
        work->x = hand_out(arena, T * N * desc->input_size);
    if (backward) {
        if (desc->layers > 1 || desc->batch_first || lengths)
            work->dy[0] = hand_out(arena, T * N * widest);
        if (desc->layers > 1 || desc->batch_first)
            work->dy[1] = hand_out(arena, T * N * widest);
        work->dh = hand_out(arena, (desc->projection ? T : 1) * N * form->P);
        work->last = hand_out(arena, N * form->P);
        if (desc->skip_input && form->D == 2)
            work->spread = hand_out(arena, T * N * desc->input_size);
    }
    work->rest = *arena;
}

/* The largest of a layer's pieces, with room for roundings: if this fits, every offset does. */
static bool fits(const VklRnnDesc *desc, uint64_t T, uint64_t N)
{
    uint64_t I = desc->input_size, H = desc->hidden_size, L = desc->layers, P = desc->projection, widest, slots, all, row;
    widest = larger(larger(I, H), P);
    /* params: at most 2 L (widest + 2 widest + 8) 4 H floats */
    if (!vkl_mul(3, widest, &row) || !vkl_add(row, 8, &row) || !vkl_mul(row, 4, &row) || !vkl_mul(row, widest, &row) ||
        !vkl_mul(row, 2 * 4, &row) || !vkl_mul(row, L, &row))
        return false;
    /* arrays: at most (T + 2) N 64 widest floats for each layer */
    return vkl_add(T, 2, &slots) && vkl_mul(slots, N, &all) && vkl_add(all, 64, &all) && vkl_mul(all, widest, &all) &&
           vkl_mul(all, 64 * 4, &all) && vkl_mul(all, L, &all);
}

/* The reserve of all layers; returns what a layer takes elsewhere, at most. */
static uint64_t lay_out_kept(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t T, uint64_t N, Arena *kept)
{
    uint64_t widest = 0;
    for (uint64_t layer = 0; layer < 2 && layer < desc->layers; layer++) { /* all but the first are alike */
        uint64_t before = kept->used;
        Arena other = {.base = VKL_NO_ARRAY};
        Memory memory;
        lay_out(desc, form, T, N, layer, true, kept, &other, &memory);
        widest = larger(widest, other.used);
        if (layer)
            kept->used += (desc->layers - 2) * (kept->used - before);
    }
    return widest;
}

uint64_t vkl_rnn_forward_scratch(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool training)
{
    VklRnnForm form = vkl_rnn_form(desc);
    Arena arena = {.base = VKL_NO_ARRAY}, other = {.base = VKL_NO_ARRAY};
    Work work;
    Memory memory;
    lay_out_work(desc, &form, T, N, false, false, &arena, &work);
    if (training)
        return arena.used + lay_out_kept(desc, &form, T, N, &other);
    lay_out(desc, &form, T, N, 0, false, &other, &other, &memory);
    return arena.used + (desc->layers > 1 ? 2 : 1) * other.used; /* a layer reads the one below: two in turn */
}

uint64_t vkl_rnn_backward_scratch(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool lengths)
{
    VklRnnForm form = vkl_rnn_form(desc);
    Arena kept = {.base = VKL_NO_ARRAY}, backward = {.base = VKL_NO_ARRAY};
    Work work;
    lay_out_work(desc, &form, T, N, true, lengths, &backward, &work);
    return backward.used + lay_out_kept(desc, &form, T, N, &kept);
}

bool vkl_rnn_measure(const VklRnnDesc *desc, uint64_t T, uint64_t N, VklRnnSizes *sizes)
{
    if (!fits(desc, T, N))
        return false;
    *sizes = (VklRnnSizes){.params = 4 * vkl_rnn_params(desc)};
    if (!T || !N)
        return true;
    VklRnnForm form = vkl_rnn_form(desc);
    Arena kept = {.base = VKL_NO_ARRAY};
    lay_out_kept(desc, &form, T, N, &kept);
    sizes->state = 4 * desc->layers * form.D * N * form.P;
    sizes->cell_state = form.lstm ? 4 * desc->layers * form.D * N * desc->hidden_size : 0;
    sizes->y = 4 * N * form.W * (desc->last_only ? 1 : T);
    sizes->reserve = 4 * kept.used;
    sizes->forward_workspace = 4 * larger(vkl_rnn_forward_scratch(desc, T, N, true), vkl_rnn_forward_scratch(desc, T, N, false));
    sizes->backward_workspace = 4 * vkl_rnn_backward_scratch(desc, T, N, true);
    return true;
}

/* ---- A pass and its pieces ---- */

typedef struct Layers {
    VklPlan *plan;
    const VklRnnPass *pass;
    const VklRnnDesc *desc;
    VklRnnForm form;
    uint64_t T, N, H;
    bool fused;
    bool rebuild; /* forward again inside backward: the initial states are in their slots */
    Work work;
} Layers;

/* A matrix [T][N][columns] in rows that are ld apart. */
typedef struct View {
    VklArray at;
    uint64_t ld;
} View;

static Layers layers_of(VklPlan *plan, const VklRnnPass *pass, bool backward)
{
    Layers layers = {.plan = plan, .pass = pass, .desc = pass->desc, .form = vkl_rnn_form(pass->desc)};
    layers.T = pass->T;
    layers.N = pass->N;
    layers.H = pass->desc->hidden_size;
    if (!pass->training) { /* dropout is training's */
        layers.form.masks = 0;
        layers.form.h_ld = layers.form.masked_at;
    }
    layers.fused = layers.form.fused && !vkl_has(pass->lengths);
    Arena arena = {.base = pass->workspace};
    lay_out_work(pass->desc, &layers.form, pass->T, pass->N, backward, vkl_has(pass->lengths), &arena, &layers.work);
    return layers;
}

static Memory memory_of(const Layers *layers, uint64_t layer)
{
    Arena kept = {.base = layers->pass->reserve}, other = layers->work.rest;
    Memory memory = {.drawn = VKL_NO_ARRAY};
    if (layers->pass->training) {
        /* all layers but the first are alike */
        uint64_t first = 0;
        for (uint64_t i = 0; i < 2 && i < layer; i++) {
            Arena none = {.base = VKL_NO_ARRAY};
            lay_out(layers->desc, &layers->form, layers->T, layers->N, i, true, &kept, &none, &memory);
            if (i == 0)
                first = kept.used;
        }
        if (layer > 1)
            kept.used += (layer - 2) * (kept.used - first);
        lay_out(layers->desc, &layers->form, layers->T, layers->N, layer, true, &kept, &other, &memory);
    } else {
        for (uint64_t i = 0; i <= layer % 2; i++) /* in turn, so that a layer can read the one below */
            lay_out(layers->desc, &layers->form, layers->T, layers->N, 0, false, &other, &other, &memory);
    }
    return memory;
}

static void move(const Layers *layers, VklArray dst, uint64_t dst_row, VklArray src, uint64_t src_row, uint64_t rows,
                 uint64_t columns, bool add)
{
    vkl_plan_move(layers->plan, &(VklMove){.dst = dst,
                                           .src = src,
                                           .steps = 1,
                                           .rows = rows,
                                           .columns = columns,
                                           .dst_row = dst_row,
                                           .src_row = src_row,
                                           .add = add});
}

static bool reverse_of(const Layers *layers, uint64_t d)
{
    return layers->desc->direction == VKL_DIRECTION_REVERSE || d == 1;
}

/* Slots of h and c: step t of both directions is t + 1. */
static uint64_t slot_before(const Layers *layers, uint64_t d, uint64_t t)
{
    return reverse_of(layers, d) ? t + 2 : t;
}

static uint64_t first_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? layers->T + 1 : 0;
}

static uint64_t last_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? 1 : layers->T;
}

static uint64_t far_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? 0 : layers->T + 1;
}

static VklArray h_at(const Layers *layers, const Memory *memory, uint64_t slot, uint64_t column)
{
    return vkl_array_at(memory->h, slot * layers->N * layers->form.h_ld + column);
}

static VklArray c_at(const Layers *layers, const Memory *memory, uint64_t d, uint64_t slot)
{
    return vkl_array_at(memory->c[d], slot * layers->N * layers->H);
}

static VklArray gates_at(const Layers *layers, const Memory *memory, uint64_t d, uint64_t t)
{
    return vkl_array_at(memory->gates[d], t * layers->N * layers->form.width);
}

static VklArray step_of(const Layers *layers, VklArray array, uint64_t t, uint64_t width)
{
    return vkl_has(array) ? vkl_array_at(array, t * layers->N * width) : VKL_NO_ARRAY;
}

static VklArray side_at(const Layers *layers, uint64_t at)
{
    return vkl_array_at(layers->work.side.begin, at);
}

static VklArray state_of(const Layers *layers, VklArray states, uint64_t layer, uint64_t d, uint64_t width)
{
    return vkl_has(states) ? vkl_array_at(states, (layer * layers->form.D + d) * layers->N * width) : VKL_NO_ARRAY;
}

static VklArray param(const Layers *layers, uint64_t at)
{
    return at == NONE ? VKL_NO_ARRAY : vkl_array_at(layers->pass->params, at);
}

static VklArray gradient(const Layers *layers, uint64_t at)
{
    return at == NONE ? VKL_NO_ARRAY : vkl_array_at(layers->pass->dparams, at);
}

/* The column of h that is operand of gate g's recurrent product: h itself, or a masked copy. */
static uint64_t operand_column(const Layers *layers, uint64_t d, uint64_t g)
{
    const VklRnnForm *form = &layers->form;
    if (!form->masks)
        return d * form->P;
    return form->masked_at + (d * form->masks + (form->masks > 1 ? g : 0)) * form->P;
}

static VklDraw draw_of(const Layers *layers, uint64_t layer, uint64_t d, bool recurrent, double p)
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
static void mask_rows(const Layers *layers, uint64_t layer, uint64_t d, uint64_t g, VklArray dst, uint64_t dst_row, VklArray src,
                      uint64_t src_row, bool add)
{
    VklDraw draw = draw_of(layers, layer, d, true, (double)layers->desc->recurrent_dropout);
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
        mask_rows(layers, layer, d, g, h_at(layers, memory, slot, operand_column(layers, d, g)), form->h_ld,
                  h_at(layers, memory, slot, d * form->P), form->h_ld, false);
}

/* What the side arena holds for a direction before its first step. */
static void prepare_side(const Layers *layers, const VklRnnPlace *place, bool zeros)
{
    const Side *side = &layers->work.side;
    uint64_t H = layers->H;
    if (zeros)
        vkl_plan_copy(
            layers->plan,
            &(VklCopyPiece){.mode = VKL_COPY_ZERO, .arena = side_at(layers, side->zeros), .count = larger(layers->form.P, H)}, 1);
    if (layers->fused)
        return;
    if (vkl_has(layers->pass->lengths))
        move(layers, side_at(layers, side->lengths), layers->N, layers->pass->lengths, layers->N, 1, layers->N, false);
    if (place->peephole != NONE)
        move(layers, side_at(layers, side->peephole), 3 * H, param(layers, place->peephole), 3 * H, 1, 3 * H, false);
    if (layers->form.gru_after && place->b_hh != NONE)
        move(layers, side_at(layers, side->bias), 3 * H, param(layers, place->b_hh), 3 * H, 1, 3 * H, false);
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

/* ---- The point kernels ---- */

static uint32_t packed_kinds(const VklActivationDesc activations[3])
{
    return (uint32_t)activations[0].kind | (uint32_t)activations[1].kind << 8 | (uint32_t)activations[2].kind << 16;
}

/* The part of an arena that covers several places of one slot. */
typedef struct Cover {
    VklArray begin;
    uint64_t end;
} Cover;

static void cover(Cover *whole, VklArray array, uint64_t count)
{
    if (!vkl_has(array))
        return;
    if (!vkl_has(whole->begin)) {
        whole->begin = array;
        whole->end = array.at + count;
    }
    whole->begin.at = array.at < whole->begin.at ? array.at : whole->begin.at;
    whole->end = larger(whole->end, array.at + count);
}

static uint32_t within(const Cover *whole, VklArray array)
{
    return vkl_has(array) ? (uint32_t)(array.at - whole->begin.at) : VKL_ABSENT;
}

static VklOperand operand_of(const Cover *whole, int access)
{
    return (VklOperand){whole->begin, vkl_has(whole->begin) ? whole->end - whole->begin.at : 0,
                        vkl_has(whole->begin) ? access : 0};
}

static uint64_t rows_reach(const Layers *layers, uint64_t ld, uint64_t columns)
{
    return (layers->N - 1) * ld + columns;
}

static uint32_t lengths_at(const Layers *layers)
{
    return vkl_has(layers->pass->lengths) ? (uint32_t)layers->work.side.lengths : VKL_ABSENT;
}

static uint32_t at_or_absent(bool there, uint64_t at)
{
    return there ? (uint32_t)at : VKL_ABSENT;
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
        .peephole = at_or_absent(place->peephole != NONE, side->peephole),
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
        cover(&one, c_at(layers, memory, d, before), N * H);
        cover(&one, c_at(layers, memory, d, slot), N * H);
        args.c_prev = within(&one, c_at(layers, memory, d, before));
        args.c_next = within(&one, c_at(layers, memory, d, slot));
    }
    if (desc->projection) {
        cover(&two, step_of(layers, memory->m[d], t, H), N * H);
        args.h_next = 0;
        args.h_ld = (uint32_t)H;
    } else {
        VklArray hop =
            form->gru_before ? h_at(layers, memory, before, operand_column(layers, d, form->masks > 1 ? 2 : 0)) : VKL_NO_ARRAY;
        cover(&two, h_prev, rows_reach(layers, form->h_ld, H));
        cover(&two, h_next, rows_reach(layers, form->h_ld, H));
        cover(&two, hop, rows_reach(layers, form->h_ld, H));
        args.h_prev = within(&two, h_prev);
        args.h_next = within(&two, h_next);
        args.h_ld = (uint32_t)form->h_ld;
        if (form->gru_before) {
            if (first)
                cover(&one, step_of(layers, memory->rh[d], t, H), N * H);
            args.c_prev = within(&two, hop);
            args.c_next = (uint32_t)H;
        }
    }
    if (form->gru_after)
        args.peephole = at_or_absent(place->b_hh != NONE, side->bias);
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
    vkl_plan_call(layers->plan, kernel, 0, N * H, operands, &all, N, H * 64);
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

/* All steps of one direction: gates, c and h of a layer from its input. */
static void forward_direction(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, View x)
{
    const VklRnnForm *form = &layers->form;
    uint64_t T = layers->T, N = layers->N, H = layers->H;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    bool zeros = !layers->rebuild && !layers->pass->zero_states && form->h_ld != form->P && !vkl_has(layers->pass->h0);
    prepare_side(layers, &place, zeros);
    if (!layers->rebuild)
        load_states(layers, memory, layer, d);
    uint64_t bias_rows = form->gru_after && form->bias_rows == 2 ? 1 : form->bias_rows; /* its b_hh acts inside r */
    if (skips(layers->desc, layer)) {
        VklArgs args = {.SPREAD = {.rows = (uint32_t)(T * N),
                                   .units = (uint32_t)H,
                                   .gates = (uint32_t)form->gates,
                                   .gates_ld = (uint32_t)form->width,
                                   .gate_stride = (uint32_t)form->gate_stride,
                                   .unit_stride = (uint32_t)form->unit_stride,
                                   .x_ld = (uint32_t)x.ld,
                                   .bias_rows = (uint32_t)bias_rows}};
        VklOperand operands[4] = {{memory->gates[d], T * N * form->width, VKL_WRITE},
                                  {x.at, (T * N - 1) * x.ld + H, VKL_READ},
                                  {param(layers, place.b_ih), bias_rows * form->columns, bias_rows ? VKL_READ : 0}};
        vkl_plan_call(layers->plan, VKL_KERNEL_SPREAD, 0, T * N * H, operands, &args, T * N, H * form->gates);
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
    for (uint64_t s = 0; s < T && !layers->plan->status; s++)
        forward_step(layers, memory, &place, layer, d, reverse_of(layers, d) ? T - 1 - s : s);
}

/* A layer's input after dropout, which is the same again in backward. */
static View draw_input(const Layers *layers, const Memory *memory, uint64_t layer, View x)
{
    if (!vkl_has(memory->drawn))
        return x;
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, 0, &place);
    VklDraw draw = draw_of(layers, layer, 0, false, (double)(layer ? layers->desc->dropout : layers->desc->input_dropout));
    vkl_plan_move(layers->plan, &(VklMove){.dst = memory->drawn,
                                           .src = x.at,
                                           .steps = layers->T,
                                           .rows = layers->N,
                                           .columns = place.inputs,
                                           .dst_step = layers->N * place.inputs,
                                           .dst_row = place.inputs,
                                           .src_step = layers->N * x.ld,
                                           .src_row = x.ld,
                                           .draw = &draw});
    return (View){memory->drawn, place.inputs};
}

/* What a layer hands on. */
static View output_of(const Layers *layers, const Memory *memory)
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

/* Time-major and the caller's order: for the strides of x, y and their gradients. */
static uint64_t outer_step(const Layers *layers, uint64_t columns)
{
    return layers->desc->batch_first ? columns : layers->N * columns;
}

static uint64_t outer_row(const Layers *layers, uint64_t columns)
{
    return layers->desc->batch_first ? layers->T * columns : columns;
}

static void store_y(const Layers *layers, const Memory *memory)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    View y = output_of(layers, memory);
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

static void store_states(const Layers *layers, const Memory *memory, uint64_t layer, bool top)
{
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

/* x as the pass reads it: in time-major order, in backward with zeros past the ends of rows. */
static View input_of(const Layers *layers, bool backward)
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
    Layers layers = layers_of(NULL, pass, false);
    bool last = pass->desc->last_only;
    if (layers.form.h_ld != layers.form.W || layers.form.D != 1 || pass->desc->batch_first || (vkl_has(pass->lengths) && !last))
        return false;
    Memory memory = memory_of(&layers, pass->desc->layers - 1);
    *y = h_at(&layers, &memory, last ? last_slot(&layers, 0) : 1, 0);
    return true;
}

void vkl_plan_rnn_forward(VklPlan *plan, const VklRnnPass *pass)
{
    Layers layers = layers_of(plan, pass, false);
    View x = input_of(&layers, false);
    for (uint64_t layer = 0; layer < pass->desc->layers && !plan->status; layer++) {
        Memory memory = memory_of(&layers, layer);
        x = draw_input(&layers, &memory, layer, x);
        for (uint64_t d = 0; d < layers.form.D; d++)
            forward_direction(&layers, &memory, layer, d, x);
        sum_directions(&layers, &memory);
        store_states(&layers, &memory, layer, layer == pass->desc->layers - 1);
        x = output_of(&layers, &memory);
    }
}

/* ---- Backward ---- */

/* The step that backward does before step t, or NONE. */
static uint64_t step_done(const Layers *layers, uint64_t d, uint64_t t)
{
    if (reverse_of(layers, d))
        return t ? t - 1 : NONE;
    return t + 1 < layers->T ? t + 1 : NONE;
}

static uint64_t slot_of_dc(const Layers *layers, uint64_t d, uint64_t t)
{
    return layers->desc->peephole ? far_slot(layers, d) : t + 1;
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
            mask_rows(layers, layer, d, g - first, dst, form->P, spare, form->P, g > first);
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
        .peephole = at_or_absent(place->peephole != NONE, side->peephole),
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
        bool has_dc = done != NONE || vkl_has(layers->pass->gcn) || desc->peephole;
        VklArray c = c_at(layers, memory, d, t + 1), c_prev = c_at(layers, memory, d, before);
        VklArray dc_in =
            !has_dc ? VKL_NO_ARRAY : c_at(layers, memory, d, done == NONE ? far_slot(layers, d) : slot_of_dc(layers, d, done));
        VklArray dc_out = c_at(layers, memory, d, slot_of_dc(layers, d, t));
        cover(&one, c, N * H);
        cover(&one, c_prev, N * H);
        cover(&one, dc_in, N * H);
        cover(&one, dc_out, N * H);
        args.c_t = within(&one, c);
        args.c_prev = within(&one, c_prev);
        args.dc_in = within(&one, dc_in);
        args.dc_out = within(&one, dc_out);
    } else if (desc->cell == VKL_CELL_GRU) {
        VklArray h = h_at(layers, memory, before, d * form->P);
        VklArray hop =
            form->gru_before ? h_at(layers, memory, before, operand_column(layers, d, form->masks > 1 ? 2 : 0)) : VKL_NO_ARRAY;
        cover(&one, h, rows_reach(layers, form->h_ld, H));
        cover(&one, hop, rows_reach(layers, form->h_ld, H));
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
static View join(const Layers *layers, const VklRnnPlace *place, uint64_t t, View gy, bool recurrent)
{
    const Side *side = &layers->work.side;
    uint64_t N = layers->N, H = layers->H, P = layers->form.P;
    VklArray dh = step_of(layers, layers->work.dh, t, P), dm = side_at(layers, side->spare);
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
    bool recurrent = done != NONE;
    if (recurrent)
        product_back(layers, memory, place, layer, d, done, side_at(layers, side->back));
    if (layers->desc->projection) {
        gy = join(layers, place, t, gy, recurrent);
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
        mask_rows(layers, layer, d, form->masks > 1 ? 2 : 0, side_at(layers, side->carry), H, side_at(layers, side->spare), H,
                  true);
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
    vkl_plan_lstm_backward(layers->plan,
                           &(VklCellBackward){.rows = layers->N,
                                              .units = layers->H,
                                              .dy_ld = gy.ld,
                                              .gates = gates_at(layers, memory, d, t),
                                              .gates_next = done == NONE ? VKL_NO_ARRAY : gates_at(layers, memory, d, done),
                                              .w_hh = param(layers, place->w_hh),
                                              .dy = gy.at,
                                              .dh = layers->work.dh,
                                              .c = c_at(layers, memory, d, t + 1),
                                              .c_prev = c_at(layers, memory, d, slot_before(layers, d, t)),
                                              .dc_in = done != NONE                 ? c_at(layers, memory, d, done + 1)
                                                       : vkl_has(layers->pass->gcn) ? far
                                                                                    : VKL_NO_ARRAY,
                                              .dc_out = c_at(layers, memory, d, t + 1)});
}

/* What the gradients carried into the first step of backward are. */
static void begin_back(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, VklArray gy_last)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, P = form->P;
    VklArray ghn = state_of(layers, layers->pass->ghn, layer, d, P), gcn = state_of(layers, layers->pass->gcn, layer, d, H);
    VklArray far = form->lstm ? c_at(layers, memory, d, far_slot(layers, d)) : VKL_NO_ARRAY;
    VklArray carry = side_at(layers, layers->work.side.carry);
    if (form->lstm && (vkl_has(gcn) || layers->desc->peephole))
        vkl_plan_copy(
            layers->plan,
            &(VklCopyPiece){.mode = vkl_has(gcn) ? VKL_COPY_LOAD : VKL_COPY_ZERO, .arena = far, .other = gcn, .count = N * H}, 1);
    if (layers->fused)
        return;
    vkl_plan_copy(
        layers->plan,
        &(VklCopyPiece){.mode = vkl_has(ghn) ? VKL_COPY_LOAD : VKL_COPY_ZERO, .arena = carry, .other = ghn, .count = N * P}, 1);
    if (vkl_has(gy_last))
        move(layers, carry, P, gy_last, form->W, N, P, true);
}

static void store_state_gradients(const Layers *layers, const Memory *memory, const VklRnnPlace *place, uint64_t layer,
                                  uint64_t d)
{
    const VklRnnForm *form = &layers->form;
    uint64_t N = layers->N, H = layers->H, P = form->P, last = reverse_of(layers, d) ? layers->T - 1 : 0;
    VklArray dh0 = state_of(layers, layers->pass->dh0, layer, d, P), dc0 = state_of(layers, layers->pass->dc0, layer, d, H);
    if (vkl_has(dh0)) {
        product_back(layers, memory, place, layer, d, last, dh0);
        if (!layers->fused)
            move(layers, dh0, P, side_at(layers, layers->work.side.carry), P, N, P, true);
    }
    if (vkl_has(dc0) && form->lstm)
        vkl_plan_copy(layers->plan,
                      &(VklCopyPiece){.mode = VKL_COPY_STORE,
                                      .arena = c_at(layers, memory, d, slot_of_dc(layers, d, last)),
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
                                           .ones = (uint32_t)ones});
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
    bool bias_apart = form->gru_after && place->b_hh != NONE;
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
    uint64_t H = layers->H, rows = layers->T * layers->N, inputs = place->w_ih == NONE ? 0 : place->inputs;
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
                                               .ones = (uint32_t)ones});
    } else {
        bool together = form->gru_after || form->gru_before; /* the biases follow W_ih */
        weight_gradient(layers, gradient(layers, inputs ? place->w_ih : place->b_ih), x.at, x.ld, inputs, together ? ones : 0,
                        gates, form->columns, form->columns);
        recurrent_gradient(layers, memory, place, d);
        if (!together)
            weight_gradient(layers, gradient(layers, place->b_ih), VKL_NO_ARRAY, 0, 0, ones, gates, form->columns, form->columns);
    }
    for (uint64_t i = 0; i < 3 && place->peephole != NONE; i++) {
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
    if (place->w_hr != NONE)
        vkl_plan_gemm(layers->plan, &(VklGemm){.form = VKL_GEMM_TN,
                                               .m = H,
                                               .n = form->P,
                                               .k = rows,
                                               .a = memory->m[d],
                                               .b = layers->work.dh,
                                               .c = gradient(layers, place->w_hr),
                                               .lda = H,
                                               .ldb = form->P,
                                               .ldc = form->P,
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
    if (place->w_ih != NONE) {
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
    VklArgs args = {.SPREAD = {.rows = (uint32_t)rows,
                               .units = (uint32_t)H,
                               .gates = (uint32_t)form->gates,
                               .gates_ld = (uint32_t)form->width,
                               .gate_stride = (uint32_t)form->gate_stride,
                               .unit_stride = (uint32_t)form->unit_stride,
                               .x_ld = (uint32_t)H}};
    VklOperand operands[4] = {{memory->gates[d], rows * form->width, VKL_READ}, {to, rows * H, VKL_WRITE}};
    vkl_plan_call(layers->plan, VKL_KERNEL_SPREAD, 1, rows * H, operands, &args, rows, H * form->gates);
    if (add)
        move(layers, dx, H, to, H, rows, H, true);
}

/* gy is [T][N][W] or absent, gy_last [N][W] or absent. */
static void direction_back(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, View x, View gy,
                           VklArray gy_last, VklArray dx)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnDesc *desc = layers->desc;
    uint64_t column = desc->merge == VKL_MERGE_SUM ? 0 : d * form->P, T = layers->T;
    VklRnnPlace place;
    vkl_rnn_place(desc, layer, d, &place);
    if (desc->recompute) {
        Layers again = *layers;
        again.rebuild = true;
        forward_direction(&again, memory, layer, d, x);
    } else {
        prepare_side(layers, &place, false);
    }
    if (vkl_has(gy.at))
        gy.at = vkl_array_at(gy.at, column);
    if (vkl_has(gy_last))
        gy_last = vkl_array_at(gy_last, column);
    begin_back(layers, memory, layer, d, gy_last);
    for (uint64_t s = 0; s < T && !layers->plan->status; s++) {
        uint64_t t = reverse_of(layers, d) ? s : T - 1 - s;
        View gy_t = {step_of(layers, gy.at, t, gy.ld), gy.ld};
        if (layers->fused && s == 0)
            gy_t = last_gradient(layers, gy_t, gy_last, state_of(layers, layers->pass->ghn, layer, d, form->P));
        if (layers->fused)
            fused_step_back(layers, memory, &place, d, t, gy_t);
        else
            point_step_back(layers, memory, &place, layer, d, t, gy_t);
    }
    store_state_gradients(layers, memory, &place, layer, d);
    if (vkl_has(dx))
        input_gradient(layers, memory, &place, d, dx, d == 1);
    if (vkl_has(layers->pass->dparams))
        parameter_gradients(layers, memory, &place, d, x);
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
    Layers layers = layers_of(plan, pass, true);
    uint64_t I = desc->input_size, T = pass->T, N = pass->N;
    View x0 = input_of(&layers, true), gy = upstream(&layers, layers.work.dy[0]);
    VklArray gy_last = desc->last_only ? pass->gy : VKL_NO_ARRAY;
    for (uint64_t layer = desc->layers; layer-- > 0 && !plan->status;) {
        Memory memory = memory_of(&layers, layer);
        View x = x0;
        bool first_taken = vkl_has(gy.at) && gy.at.slot == layers.work.dy[0].slot && gy.at.at == layers.work.dy[0].at;
        VklArray dx = layers.work.dy[first_taken];
        if (layer) {
            Memory below = memory_of(&layers, layer - 1);
            x = output_of(&layers, &below);
        } else if (!vkl_has(pass->dx) || !desc->batch_first) {
            dx = pass->dx;
        }
        if (vkl_has(memory.drawn) && desc->recompute)
            draw_input(&layers, &memory, layer, x);
        View drawn = x;
        uint64_t inputs = layer ? layers.form.W : I;
        if (vkl_has(memory.drawn))
            drawn = (View){memory.drawn, inputs};
        for (uint64_t d = 0; d < layers.form.D; d++)
            direction_back(&layers, &memory, layer, d, drawn, gy, gy_last, dx);
        if (vkl_has(memory.drawn) && vkl_has(dx)) { /* what was dropped has no gradient */
            VklDraw draw = draw_of(&layers, layer, 0, false, (double)(layer ? desc->dropout : desc->input_dropout));
            vkl_plan_move(plan, &(VklMove){.dst = dx,
                                           .src = dx,
                                           .steps = T,
                                           .rows = N,
                                           .columns = inputs,
                                           .dst_step = N * inputs,
                                           .dst_row = inputs,
                                           .src_step = N * inputs,
                                           .src_row = inputs,
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
}

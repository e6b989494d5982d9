/* SPDX-License-Identifier: MIT */
#include "plan_rnn_pass.h"

/* Whether the activations of `count` gates are these, in the directions that there are. */
static bool activations_are(const VklRnnDesc *desc, int count, const VklGateActivation *kinds)
{
    for (int d = desc->direction == VKL_DIRECTION_REVERSE; d < (desc->direction == VKL_DIRECTION_FORWARD ? 1 : 2); d++)
        for (int i = 0; i < count; i++)
            if (desc->activations[d][i].kind != kinds[i])
                return false;
    return true;
}

/* Whether the cell's activations are the usual ones; which kernel does many steps of it. */
static bool usual_cell(const VklRnnDesc *desc, uint32_t *sequence)
{
    static const VklGateActivation gates[3] = {VKL_GATE_SIGMOID, VKL_GATE_TANH, VKL_GATE_TANH}, relu[1] = {VKL_GATE_RELU};
    switch (desc->cell) {
    case VKL_CELL_LSTM:
        *sequence = VKL_SEQUENCE_LSTM;
        return activations_are(desc, 3, gates);
    case VKL_CELL_GRU:
        *sequence = VKL_SEQUENCE_GRU;
        return desc->reset_after && activations_are(desc, 2, gates);
    default:
        *sequence = activations_are(desc, 1, relu) ? VKL_SEQUENCE_RNN_RELU : VKL_SEQUENCE_RNN_TANH;
        return *sequence == VKL_SEQUENCE_RNN_RELU || activations_are(desc, 1, gates + 1);
    }
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
    form.usual = usual_cell(desc, &form.sequence);
    form.plain = form.usual && !desc->projection && !desc->peephole && !desc->input_forget && desc->cell_clip == 0 &&
                 desc->preact_clip == 0 && !form.masks;
    form.fused = form.lstm && form.plain;
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

bool vkl_rnn_skips(const VklRnnDesc *desc, uint64_t layer)
{
    return desc->skip_input && layer == 0;
}

static uint64_t take(uint64_t *at, uint64_t count)
{
    uint64_t begin = *at;
    *at += count;
    return count ? begin : VKL_RNN_NONE;
}

/* Fills `place` for a direction that begins at *at, and moves *at behind it. */
static void place_direction(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t layer, uint64_t *at, VklRnnPlace *place)
{
    uint64_t bias = form->columns, both = form->bias_rows == 2 ? bias : 0, first = form->bias_rows ? bias : 0;
    place->inputs = inputs_of(desc, form, layer);
    place->b_ih = place->b_hh = VKL_RNN_NONE;
    place->w_ih = take(at, vkl_rnn_skips(desc, layer) ? 0 : place->inputs * form->columns);
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

bool vkl_rnn_waves(const VklRnnDesc *desc)
{
    VklRnnForm form = vkl_rnn_form(desc);
    return desc->path == VKL_RNN_PATH_WAVEFRONT && form.D == 1 && form.plain && !desc->recompute &&
           desc->storage == VKL_STORAGE_FLOAT32;
}

/* A layer reads the one below: two in turn, unless all are at work at once. */
uint64_t vkl_rnn_layers_kept(const VklRnnDesc *desc)
{
    return desc->path == VKL_RNN_PATH_WAVEFRONT ? desc->layers : smaller(desc->layers, 2);
}

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
    bool halves = training && !desc->recompute && desc->storage == VKL_STORAGE_FLOAT16;
    Arena *gates = training && !desc->recompute && !halves ? kept : other, *states = training ? kept : other;
    *memory = (Memory){.drawn = VKL_NO_ARRAY, .wide = VKL_NO_ARRAY, .halves = VKL_NO_ARRAY};
    uint64_t begin = other->used;
    for (uint64_t d = 0; d < form->D; d++) {
        memory->gates[d] = hand_out(gates, T * N * form->width);
        memory->rh[d] = form->gru_before ? hand_out(gates, T * N * H) : VKL_NO_ARRAY;
        memory->m[d] = desc->projection ? hand_out(gates, T * N * H) : VKL_NO_ARRAY;
        memory->c[d] = form->lstm ? hand_out(states, (T + 2) * N * H) : VKL_NO_ARRAY;
    }
    memory->h = hand_out(states, (T + 2) * N * form->h_ld);
    if (training && draws(desc, layer))
        memory->drawn = hand_out(gates, T * N * inputs_of(desc, form, layer));
    if (halves) { /* one after the other, so that one call packs them all */
        memory->wide = vkl_array_at(other->base, begin);
        memory->wide_count = other->used - begin;
        memory->halves = hand_out(kept, blocks(memory->wide_count, 2));
    }
}

static Side lay_out_side(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t N, Arena *arena)
{
    uint64_t H = desc->hidden_size, wide = larger(form->P, H), at = 0;
    Side side = {.begin = vkl_array_at(arena->base, arena->used)};
    side.rec = take(&at, aligned(N * form->columns));
    side.back = take(&at, aligned(N * wide));
    side.spare = take(&at, aligned(N * wide));
    side.carry = take(&at, form->D * aligned(N * form->P));
    side.lengths = take(&at, aligned(N));
    side.peephole = take(&at, aligned(3 * H));
    side.bias = take(&at, aligned(3 * H));
    side.zeros = take(&at, aligned(wide));
    side.count = at;
    side.mask = take(&at, form->D * form->masks * N * form->P);
    side.whole = aligned(at);
    arena->used += side.whole;
    return side;
}

static void lay_out_work(const VklRnnDesc *desc, const VklRnnForm *form, uint64_t T, uint64_t N, bool backward, bool lengths,
                         Arena *arena, Work *work)
{
    uint64_t widest = larger(desc->input_size, form->W);
    *work = (Work){.side = lay_out_side(desc, form, N, arena)};
    if (desc->storage == VKL_STORAGE_FLOAT16) {
        work->params = hand_out(arena, vkl_rnn_params(desc));
        work->packed = hand_out(arena, vkl_rnn_params(desc) / 2);
    }
    if (desc->batch_first || (backward && lengths)) /* x past the end of a row may hold anything, which no gradient is to see */
        work->x = hand_out(arena, T * N * desc->input_size);
    if (backward) {
        if (desc->layers > 1 || desc->batch_first || lengths)
            work->dy[0] = hand_out(arena, T * N * widest);
        if (desc->layers > 1 || desc->batch_first)
            work->dy[1] = hand_out(arena, T * N * widest);
        work->dh = hand_out(arena, desc->projection ? form->D * aligned(T * N * form->P) : N * form->P);
        work->last = hand_out(arena, N * form->P);
        if (vkl_rnn_waves(desc))
            work->carries = hand_out(arena, desc->layers * aligned(N * form->P));
        if (desc->skip_input && form->D == 2)
            work->spread = hand_out(arena, T * N * desc->input_size);
        work->products_count = vkl_tune_gemm_scratch(larger(desc->input_size, form->W) + form->P + 2, form->columns, T * N);
        work->products = hand_out(arena, work->products_count);
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
    return arena.used + vkl_rnn_layers_kept(desc) * other.used;
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
/* ---- A pass ---- */

Layers vkl_rnn_layers(VklPlan *plan, const VklRnnPass *pass, bool backward)
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

Memory vkl_rnn_memory(const Layers *layers, uint64_t layer)
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
        uint64_t kept = vkl_rnn_layers_kept(layers->desc);
        for (uint64_t i = 0; i <= layer % kept; i++)
            lay_out(layers->desc, &layers->form, layers->T, layers->N, 0, false, &other, &other, &memory);
    }
    return memory;
}

/* Fills `sequence`; returns whether the device can do it. */
static bool sequence_of(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                        bool backward, VklSequence *sequence, bool *pays)
{
    const VklRnnForm *form = &layers->form;
    const VklRnnPass *pass = layers->pass;
    uint64_t N = layers->N, H = layers->H, T = layers->T;
    *sequence = (VklSequence){.cell = form->sequence,
                              .rows = N,
                              .units = H,
                              .steps = T,
                              .directions = directions,
                              .down = reverse_of(layers, d) != backward,
                              .gates_step = N * form->width,
                              .h_step = N * form->h_ld,
                              .c_step = N * H,
                              .gates_ld = form->width,
                              .h_ld = form->h_ld,
                              .keep = pass->training};
    for (uint64_t i = 0; i < directions; i++) {
        VklSequenceSide *side = &sequence->side[i];
        uint64_t t = reverse_of(layers, d + i) != backward ? T - 1 : 0; /* the first step */
        VklRnnPlace place;
        vkl_rnn_place(layers->desc, layer, d + i, &place);
        *side = (VklSequenceSide){.gates = gates_at(layers, memory, d + i, t),
                                  .w = param(layers, place.w_hh),
                                  .gates_next = VKL_NO_ARRAY,
                                  .h = h_at(layers, memory, slot_before(layers, d + i, t), (d + i) * form->P),
                                  .bias = form->gru_after ? param(layers, place.b_hh) : VKL_NO_ARRAY,
                                  .c = VKL_NO_ARRAY,
                                  .gy = VKL_NO_ARRAY,
                                  .dc_in = VKL_NO_ARRAY,
                                  .dc_out = VKL_NO_ARRAY,
                                  .carry = form->gru_after && backward ? carry_at(layers, d + i) : VKL_NO_ARRAY};
        if (form->lstm)
            side->c = c_at(layers, memory, d + i, backward ? t + 1 : slot_before(layers, d + i, t));
        if (form->lstm && backward) {
            side->dc_in = vkl_has(pass->gcn) ? c_at(layers, memory, d + i, far_slot(layers, d + i)) : VKL_NO_ARRAY;
            side->dc_out = c_at(layers, memory, d + i, (reverse_of(layers, d + i) ? T - 1 : 0) + 1);
        }
    }
    return form->plain && !vkl_has(pass->lengths) && vkl_plan_sequence_possible(layers->plan, sequence, backward, pays);
}

/* Whether a single step of forward is better done by the kernel of many: the CPU backend's is its fastest product, whatever the size; on software
 * devices it is where a dispatch of product and cell does not pay. */
static bool single_pays(const Layers *layers, const Memory *memory, uint64_t layer)
{
    bool pays = false;
    if (layers->plan->caps->arch == VKL_ARCH_HOST)
        return true;
    if (layers->plan->caps->arch == VKL_ARCH_GPU)
        return false;
    return !vkl_rnn_steps_possible(layers, memory, layer, false, &pays) || !pays;
}

Way vkl_rnn_way(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, bool backward,
                VklSequence *sequence)
{
    VklRnnPath path = layers->desc->path;
    bool pays = false;
    bool possible = sequence_of(layers, memory, layer, d, directions, backward, sequence, &pays);
    if (path == VKL_RNN_PATH_SEQUENCE && !possible)
        vkl_plan_fail(layers->plan, VKL_ERROR_UNSUPPORTED,
                      "path: all time steps in one dispatch need a cell without options, no lengths, and a device with a kernel "
                      "for %llu hidden units and %llu rows",
                      (unsigned long long)layers->H, (unsigned long long)layers->N);
    pays = pays && (layers->T > 1 || (!backward && single_pays(layers, memory, layer)));
    if (possible && (path == VKL_RNN_PATH_SEQUENCE || (path == VKL_RNN_PATH_AUTO && pays)))
        return WAY_SEQUENCE;
    possible = vkl_rnn_steps_possible(layers, memory, layer, backward, &pays);
    if (path == VKL_RNN_PATH_STEP && !possible)
        vkl_plan_fail(layers->plan, VKL_ERROR_UNSUPPORTED,
                      "path: a time step in one dispatch needs a device with kernels of five buffers that reach the weights of "
                      "%llu hidden units and the states of two steps of %llu rows",
                      (unsigned long long)layers->H, (unsigned long long)layers->N);
    if (!possible || path == VKL_RNN_PATH_PIECES || (path == VKL_RNN_PATH_AUTO && !pays))
        return WAY_PIECES;
    return directions == 2 && vkl_rnn_steps_together(layers, memory, layer, backward) ? WAY_TOGETHER : WAY_STEPS;
}

/* SPDX-License-Identifier: MIT
 *
 * Storage of halves. Parameters: a copy for the pass in which matrices are rounded and the rest is not, so that whatever reads
 * parameters reads them there. What backward needs: packed into the reserve layer by layer. */
#include "plan_rnn_pass.h"

/* Where a direction of a layer begins: absent tensors are at the largest number. */
static uint64_t begin_of(const VklRnnPlace *place)
{
    return smaller(smaller(place->w_ih, place->w_hh), place->b_ih);
}

/* One direction of a layer: its matrices, and between and behind them biases and peepholes. */
static void round_direction(const Layers *layers, uint64_t layer, uint64_t d)
{
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    uint64_t columns = layers->form.columns, none = VKL_RNN_NONE;
    uint64_t begin = begin_of(&place);
    uint64_t behind_ih = place.w_ih == none ? begin : place.w_ih + place.inputs * columns;
    uint64_t behind_hh = place.w_hh + layers->form.P * columns, hr = place.w_hr == none ? place.end : place.w_hr;
    vkl_plan_narrow(layers->plan,
                    &(VklNarrow){.form = VKL_NARROW_ROUND,
                                 .count = place.end - begin,
                                 .dst = vkl_array_at(layers->work.params, begin),
                                 .src = vkl_array_at(layers->pass->params, begin),
                                 .exact = {{behind_ih - begin, place.w_hh - begin}, {behind_hh - begin, hr - begin}}});
}

void vkl_rnn_round_params(const Layers *layers)
{
    if (layers->desc->storage != VKL_STORAGE_FLOAT16)
        return;
    VklCounting counting = vkl_plan_whole(layers->plan);
    for (uint64_t layer = 0; layer < layers->desc->layers; layer++)
        for (uint64_t d = 0; d < layers->form.D; d++)
            round_direction(layers, layer, d);
    layers->plan->counting = counting;
}

void vkl_rnn_pack_params(const Layers *layers, uint64_t layer, uint64_t d)
{
    VklRnnPlace place;
    vkl_rnn_place(layers->desc, layer, d, &place);
    uint64_t begin = begin_of(&place);
    VklCounting counting = vkl_plan_whole(layers->plan);
    if (reads_halves(layers, begin))
        vkl_plan_narrow(layers->plan, &(VklNarrow){.form = VKL_NARROW_PACK,
                                                   .count = place.end - begin,
                                                   .dst = packed_param(layers, begin),
                                                   .src = vkl_array_at(layers->pass->params, begin)});
    layers->plan->counting = counting;
}

void vkl_rnn_keep_halves(const Layers *layers, const Memory *memory)
{
    if (vkl_has(memory->halves))
        vkl_plan_narrow(
            layers->plan,
            &(VklNarrow){.form = VKL_NARROW_PACK, .count = memory->wide_count, .dst = memory->halves, .src = memory->wide});
}

void vkl_rnn_restore_halves(const Layers *layers, const Memory *memory)
{
    if (vkl_has(memory->halves))
        vkl_plan_narrow(
            layers->plan,
            &(VklNarrow){.form = VKL_NARROW_UNPACK, .count = memory->wide_count, .dst = memory->wide, .src = memory->halves});
}

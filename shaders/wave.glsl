/* SPDX-License-Identifier: MIT
 *
 * What WAVE kernels share: constants, where a layer's weights are, and the cells without options. A shader that includes this has declared
 * `args` and the buffers `gates` and `params`.
 */
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_SEQUENCE_LSTM;
layout(constant_id = VKL_SPEC_WAVE_ROWS) const uint ROWS = 1;
layout(constant_id = VKL_SPEC_WAVE_SLICES) const uint SLICES = 1;
layout(constant_id = VKL_SPEC_WAVE_FLAGS) const uint flags = 0;

const bool lstm = form == VKL_SEQUENCE_LSTM, gru = form == VKL_SEQUENCE_GRU;
const uint GATES = lstm ? 4u : gru ? 3u : 1u;

/* Terms of a sum that are added at once; all of them, where they are few. */
#define BLOCK uint(VKL_STEP_BLOCK)
const bool long_sums = (flags & VKL_WAVE_LONG) != 0u;

/* The cell's activations, and no option of it. */
#define CELL_KINDS (gru ? GATE_SIGMOID | GATE_TANH << 8 : form == VKL_SEQUENCE_RNN_RELU ? GATE_RELU : GATE_TANH)
#define CELL_ALPHA(i) 0.0
#define CELL_BETA(i) 0.0
#define CELL_PREACT_CLIP 0.0
#define CELL_CLIP 0.0
#define CELL_COUPLED false
#define CELL_KEEP ((flags & VKL_WAVE_KEEP) != 0u)

float option_at(uint position)
{
    return params[position];
}

#include "cell.glsl"

/* W_hh of the layer that is number z of the dispatch. */
uint w_at(uint z)
{
    return args.off1 + (z == 0u ? args.w : args.w_second + (z - 1u) * args.w_layer);
}

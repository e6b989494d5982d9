/* SPDX-License-Identifier: MIT
 *
 * What STEP kernels share: constants, the part that a workgroup works on, and the cells with the options of the constants. A shader that
 * includes this has declared `args` and the buffers `gates`, `params` and, as uint, `side`.
 */
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_STEP_LSTM_PLAIN;
layout(constant_id = VKL_SPEC_STEP_ROWS) const uint ROWS = 1;
layout(constant_id = VKL_SPEC_STEP_UNITS) const uint UNITS = 1;
layout(constant_id = VKL_SPEC_STEP_SLICES) const uint SLICES = 1;
layout(constant_id = VKL_SPEC_STEP_FLAGS) const uint flags = 0;
layout(constant_id = VKL_SPEC_STEP_KINDS) const uint CELL_KINDS = 0;
layout(constant_id = VKL_SPEC_STEP_PREACT_CLIP) const float CELL_PREACT_CLIP = 0.0;
layout(constant_id = VKL_SPEC_STEP_CELL_CLIP) const float CELL_CLIP = 0.0;
layout(constant_id = 10) const float alpha0 = 0.0;
layout(constant_id = 11) const float beta0 = 0.0;
layout(constant_id = 12) const float alpha1 = 0.0;
layout(constant_id = 13) const float beta1 = 0.0;
layout(constant_id = 14) const float alpha2 = 0.0;
layout(constant_id = 15) const float beta2 = 0.0;
#define CELL_ALPHA(i) alpha##i
#define CELL_BETA(i) beta##i
#define CELL_COUPLED ((flags & VKL_STEP_COUPLED) != 0u)
#define CELL_KEEP ((flags & VKL_STEP_KEEP) != 0u)

const bool interleaved = (flags & VKL_STEP_INTERLEAVED) != 0u, projected = (flags & VKL_STEP_PROJECTED) != 0u;
const uint MASKS = flags >> VKL_STEP_MASKS_SHIFT;
const uint phase = form == VKL_STEP_GRU_FIRST ? 1u : form == VKL_STEP_GRU_SECOND ? 2u : 0u; /* as cell.glsl counts them */

const bool halves = (flags & VKL_STEP_HALVES) != 0u;

/* Terms of a sum that are added at once; all of them, where they are few, so that nobody keeps registers for the sum of blocks. */
#define BLOCK uint(VKL_STEP_BLOCK)
const bool rolled = (flags & VKL_STEP_ROLLED) != 0u;
const bool long_sums = (flags & VKL_STEP_LONG) != 0u;

bool second_part()
{
    return gl_WorkGroupID.z == 1u;
}

uint params_at(uint position)
{
    return args.off1 + position + (second_part() ? args.params_second : 0u);
}

/* The first number of W, and those from a position on. */
uint w_begin()
{
    return params_at(args.w) + (halves ? args.off1 : 0u);
}

float weight_at(uint at)
{
    if (halves)
        return unpackHalf2x16(params_halves[at >> 1])[at & 1u];
    return params[at];
}

vec4 four_weights_at(uint at)
{
    if (!halves)
        return params_wide[at >> 2];
    uvec2 two = params_halves_wide[at >> 2];
    return vec4(unpackHalf2x16(two.x), unpackHalf2x16(two.y));
}

float option_at(uint position)
{
    return params[position];
}

#include "cell.glsl"

Unit unit_of(uint gates_row, uint unit)
{
    uint option = args.option != VKL_ABSENT ? params_at(args.option) + unit : VKL_ABSENT;
    return Unit(gates_row + unit * (interleaved ? 4u : 1u), interleaved ? 1u : args.units, option, args.units);
}

float side_at(uint position)
{
    return uintBitsToFloat(side[args.off4 + position]);
}

bool frozen(uint row)
{
    bool is = false;
    if (args.lengths != VKL_ABSENT)
        is = (second_part() ? args.t_second : args.t) >= side[args.off4 + args.lengths + row];
    return is;
}

/* value under mask g of recurrent dropout: exactly 0 where it is dropped. */
float masked(float value, uint g, uint row, uint column)
{
    float factor = side_at(args.mask + (((second_part() ? MASKS : 0u) + g) * args.rows + row) * args.units + column);
    return factor == 0.0 ? 0.0 : value * factor;
}

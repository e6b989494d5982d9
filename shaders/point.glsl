/* SPDX-License-Identifier: MIT
 *
 * What the POINT kernels share: the arena `side`, frozen rows, and the activations f, g, h of `kinds`. A shader that includes this has
 * declared `args` and, as uint (lengths are no floats, which might be flushed to zero), the buffer `side`.
 */
#include "gates.glsl"

float side_at(uint position)
{
    return uintBitsToFloat(side[args.off3 + position]);
}

bool frozen(uint row)
{
    bool is = false;
    if (args.lengths != VKL_ABSENT)
        is = args.t >= side[args.off3 + args.lengths + row];
    return is;
}

float gate_f(float raw, out float slope)
{
    return gate(args.kinds & 0xffu, args.alpha0, args.beta0, args.preact_clip, raw, slope);
}

float gate_g(float raw, out float slope)
{
    return gate(args.kinds >> 8 & 0xffu, args.alpha1, args.beta1, args.preact_clip, raw, slope);
}

float gate_h(float raw, out float slope)
{
    return gate(args.kinds >> 16 & 0xffu, args.alpha2, args.beta2, 0.0, raw, slope);
}

/* The cell before its clip, with the same bits forward and backward, so that both see it on the same side of the clip. */
float cell_of(float f, float c_prev, float i, float g)
{
    precise float cell = f * c_prev + i * g;
    return cell;
}

/* SPDX-License-Identifier: MIT
 *
 * What the POINT kernels share: the arena `side`, frozen rows, and the cells with the options of `args`. A shader that includes this has
 * declared `args`, the buffer `gates` and, as uint (lengths are no floats, which might be flushed to zero), the buffer `side`.
 */
#define CELL_KINDS args.kinds
#define CELL_ALPHA(i) args.alpha##i
#define CELL_BETA(i) args.beta##i
#define CELL_PREACT_CLIP args.preact_clip
#define CELL_CLIP args.cell_clip
#define CELL_COUPLED ((args.flags & VKL_POINT_COUPLED) != 0u)
#define CELL_KEEP ((args.flags & VKL_POINT_KEEP) != 0u)

float side_at(uint position)
{
    return uintBitsToFloat(side[args.off3 + position]);
}

float option_at(uint position)
{
    return side_at(position);
}

#include "cell.glsl"

Unit unit_of(uint row, uint unit)
{
    uint option = args.peephole != VKL_ABSENT ? args.peephole + unit : VKL_ABSENT;
    return Unit(args.off0 + row * args.gates_ld + unit * args.unit_stride, args.gate_stride, option, args.units);
}

bool frozen(uint row)
{
    bool is = false;
    if (args.lengths != VKL_ABSENT)
        is = args.t >= side[args.off3 + args.lengths + row];
    return is;
}

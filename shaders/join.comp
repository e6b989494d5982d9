/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) writeonly buffer Dh { float dh[]; };
layout(binding = 1) buffer Side { uint side[]; }; /* floats and lengths as bits: lengths read as floats might become 0 */
layout(binding = 2) readonly buffer Gy { float gy[]; };
layout(push_constant) uniform Push { VklJoinArgs args; };

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;

    float v = 0.0;
    if (args.gy_ld != VKL_ABSENT)
        v = gy[args.off2 + row * args.gy_ld + unit];
    if (args.rec != VKL_ABSENT)
        v += uintBitsToFloat(side[args.off1 + args.rec + row * args.rec_ld + unit]);
    if (args.carry != VKL_ABSENT)
        v += uintBitsToFloat(side[args.off1 + args.carry + index]);
    bool frozen = false;
    if (args.lengths != VKL_ABSENT)
        frozen = args.t >= side[args.off1 + args.lengths + row];
    dh[args.off0 + index] = frozen ? 0.0 : v;
    if (args.carry != VKL_ABSENT)
        side[args.off1 + args.carry + index] = frozen ? floatBitsToUint(v) : 0u;
}

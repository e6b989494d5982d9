/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 2) readonly buffer Gy { float gy[]; };
layout(binding = 3) buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklPointBackwardArgs args; };

#include "point.glsl"
#include "point_gradient.glsl"

void main()
{
    uint index = linear_index();
    if (index >= args.rows * args.units)
        return;
    uint unit = index % args.units, row = index / args.units;
    put_carry(index, rnn_backward(unit_of(row, unit), frozen(row), gradient_of_h(row, unit)));
}

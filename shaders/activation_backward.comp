/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"

layout(binding = 0) readonly buffer Gy { float gy[]; };
layout(binding = 1) readonly buffer Y { float y[]; };
layout(binding = 2) writeonly buffer Dz { float dz[]; };
layout(push_constant) uniform Push { VklActivationArgs args; };

void main()
{
    uint index = linear_index();
    if (index < args.count)
        dz[args.off2 + index] = activate_backward(args.activation, gy[args.off0 + index], y[args.off1 + index]);
}

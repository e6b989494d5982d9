/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"

layout(local_size_x_id = 0) in;

layout(binding = 0) buffer State { uint state[]; };
layout(push_constant) uniform Push { VklAdvanceArgs args; };

#include "state.glsl"

void main()
{
    if (gl_GlobalInvocationID.x == 0u)
        state_advance(args.off0, args.beta1, args.one_minus_beta1, args.beta2, args.one_minus_beta2);
}

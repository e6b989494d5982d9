/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

/* One piece from the arena, for a compiler that goes through all there is in a kernel with lanes masked: what copy.comp has for other modes
 * takes ten times as long as the copy. Neighbours of four invocations have neighbouring numbers, which are loaded at once. */
layout(binding = 0) readonly buffer Arena { float arena[]; };
layout(binding = 1) writeonly buffer Other { float other[]; };
layout(push_constant) uniform Push { VklCopyArgs args; };

void main()
{
    uint index = linear_index(), at = (index & ~3u) * 4u + (index & 3u);
    for (uint i = at; i < at + 16u; i += 4u)
        if (i < args.count0)
            other[args.off1 + i] = arena[args.off0 + args.at0 + i];
}

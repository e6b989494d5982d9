/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"

layout(local_size_x_id = 0) in;
layout(binding = 0) readonly buffer Count { uint count[]; };
layout(binding = 1) buffer Arguments { uint arguments[]; };
layout(push_constant) uniform Push { VklTallyArgs args; };

uint parts(uint all, uint size)
{
    return (all + size - 1u) / size;
}

void main()
{
    if (gl_GlobalInvocationID.x > 0u)
        return;
    uint agents = count[args.off0];
    for (uint i = 0u; i < VKL_TALLY_ENTRIES && args.entry[i].rows > 0u; i++) {
        VklTallyEntry entry = args.entry[i];
        uint live = min(max(agents, entry.first) - entry.first, entry.rows), way = entry.way & 3u;
        uint groups = parts(parts(live, entry.block) * entry.items, entry.group), at = args.off1 + i * VKL_TALLY_STRIDE;
        uint x = way == VKL_TALLY_X ? groups : way == VKL_TALLY_Y ? entry.other : min(groups, entry.other);
        uint y = way == VKL_TALLY_X ? entry.other : way == VKL_TALLY_Y ? groups : parts(groups, max(x, 1u));
        arguments[at] = x;
        arguments[at + 1u] = y;
        arguments[at + 2u] = entry.way >> 2;
        arguments[at + 3u] = live;
    }
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

/* Numbers are copied as bits. */
layout(binding = 0) readonly buffer Data { uint data[]; };
layout(binding = 1) readonly buffer State { uint state[]; };
layout(binding = 2) writeonly buffer X { uint x[]; };
layout(binding = 3) writeonly buffer Target { uint target[]; };
layout(push_constant) uniform Push { VklGatherArgs args; };

uint window(uint row)
{
    return state[args.off1 + args.order_at + state[args.off1 + VKL_STATE_WINDOW] + row];
}

void main()
{
    uint index = linear_index();
    uint inputs = args.steps * args.rows * args.features;
    if (index < inputs) {
        uint feature = index % args.features, step = index / args.features;
        uint start = data[args.off0 + args.starts_at + window(step % args.rows)];
        x[args.off2 + index] = data[args.off0 + args.series_at + (start + step / args.rows) * args.features + feature];
        return;
    }
    index -= inputs;
    if (index < args.rows * args.outputs)
        target[args.off3 + index] =
            data[args.off0 + args.targets_at + window(index / args.outputs) * args.outputs + index % args.outputs];
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_quad : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* LSTM_FORWARD for a row by subgroups of four lanes, whose compiler reads storage one lane after the other: quad_tile.glsl. Each weight is read once whatever
 * one does, so every lane reads the four gates of four units, where only the first has its place worked out, at a term of its own, and in the end
 * lanes add up what they have and do a unit each. */
layout(local_size_x_id = 0) in;

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { vec4 w_hh[]; };
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklCellForwardArgs args; };

vec4 over_lanes(vec4 sum)
{
    sum += subgroupQuadSwapHorizontal(sum);
    return sum + subgroupQuadSwapVertical(sum);
}

void main()
{
    uint lane = gl_SubgroupInvocationID, row = gl_WorkGroupID.y, unit0 = gl_WorkGroupID.x * 4u, last = args.units - 1u;
    uint w0 = args.off1 / 4u + unit0, w1 = args.off1 / 4u + min(unit0 + 1u, last), w2 = args.off1 / 4u + min(unit0 + 2u, last);
    uint w3 = args.off1 / 4u + min(unit0 + 3u, last), from = args.off2 + args.h_prev + row * args.h_ld;
    vec4 p = vec4(0.0), q = vec4(0.0), s = vec4(0.0), t = vec4(0.0);
    /* eight terms a turn: sums that go over a turn cost as much as loads, and code beyond 32 KiB does */
    for (uint k = lane; k - lane <= last; k += 8u) {
#define TERM(k) \
    { \
        uint term = min(k, last), at = term * args.units; \
        float x = mix(0.0, h[from + term], k <= last); \
        p += w_hh[w0 + at] * x; \
        q += w_hh[w1 + at] * x; \
        s += w_hh[w2 + at] * x; \
        t += w_hh[w3 + at] * x; \
    }
        TERM(k)
        TERM(k + 4u)
    }
    p = over_lanes(p);
    q = over_lanes(q);
    s = over_lanes(s);
    t = over_lanes(t);
    vec4 low = mix(p, q, bvec4(lane == 1u)), pre = mix(mix(s, t, bvec4(lane == 3u)), low, bvec4(lane < 2u));

    uint unit = unit0 + lane, index = row * args.units + unit, gate = args.off0 + index * 4u;
    if (unit > last)
        return;
    float i = cell_sigmoid(gates[gate] + pre.x), f = cell_sigmoid(gates[gate + 1u] + pre.y);
    float g = cell_tanh(gates[gate + 2u] + pre.z), o = cell_sigmoid(gates[gate + 3u] + pre.w);
    float cell = f * c[args.off3 + args.c_prev + index] + i * g;
    c[args.off3 + args.c_next + index] = cell;
    h[args.off2 + args.h_next + row * args.h_ld + unit] = o * cell_tanh(cell);
    if (args.keep != 0u) {
        gates[gate] = i;
        gates[gate + 1u] = f;
        gates[gate + 2u] = g;
        gates[gate + 3u] = o;
    }
}

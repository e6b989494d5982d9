/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "halves.glsl"
#include "linear.glsl"

layout(constant_id = 1) const uint form = VKL_NARROW_PACK;

layout(binding = 0) writeonly buffer Dst { uint dst[]; };
layout(binding = 1) readonly buffer Src { uint src[]; };
layout(push_constant) uniform Push { VklNarrowArgs args; };

void round_one(uint at)
{
    uint bits = src[args.off1 + at];
    bool exact = (at >= args.exact_begin0 && at < args.exact_end0) || (at >= args.exact_begin1 && at < args.exact_end1);
    dst[args.off0 + at] = exact ? bits : float_of(half_of(bits));
}

void main()
{
    uint index = linear_index(), at = 2u * index;
    if (at >= args.count)
        return;
    bool both = at + 1u < args.count;
    if (form == VKL_NARROW_PACK) {
        uint low = half_of(src[args.off1 + at]), high = both ? half_of(src[args.off1 + at + 1u]) : 0u;
        dst[args.off0 + index] = low | (high << 16);
    } else if (form == VKL_NARROW_UNPACK) {
        uint two = src[args.off1 + index];
        dst[args.off0 + at] = float_of(two & 0xffffu);
        if (both)
            dst[args.off0 + at + 1u] = float_of(two >> 16);
    } else {
        round_one(at);
        if (both)
            round_one(at + 1u);
    }
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "linear.glsl"

/* As bits: what is kept with a scale of 1 is kept as it is. */
layout(binding = 0) buffer Dst { uint dst[]; };
layout(binding = 1) readonly buffer Src { uint src[]; };
layout(binding = 2) readonly buffer State { uint state[]; };
layout(push_constant) uniform Push { VklDropoutArgs args; };

/* Philox 4x32-10 (Salmon et al. 2011): lib/philox.h is the same. */
uvec4 philox(uvec4 c, uvec2 key)
{
    for (int round = 0; round < 10; round++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
        key += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

void element(uint word, uint to, uint from)
{
    bool kept = args.all == 0u && word >= args.threshold;
    if (args.mode == VKL_MOVE_ADD) {
        if (kept) {
            precise float scaled = uintBitsToFloat(src[from]) * args.scale;
            precise float sum = uintBitsToFloat(dst[to]) + scaled; /* not fused: the same bits on every device */
            dst[to] = floatBitsToUint(sum);
        }
        return;
    }
    uint x = src[from];
    dst[to] = !kept ? 0u : args.scale == 1.0 ? x : floatBitsToUint(uintBitsToFloat(x) * args.scale);
}

/* One invocation for each block of the generator: up to four columns. */
void main()
{
    uint index = linear_index();
    uint skipped = args.first_column % 4u, blocks = (skipped + args.columns + 3u) / 4u;
    if (index >= args.steps * args.rows * blocks)
        return;
    uint block = index % blocks, line = index / blocks;
    uint row = line % args.rows, step = line / args.rows;

    uint offset = args.offset;
    if (args.offset_at != VKL_ABSENT)
        offset += state[args.off2 + args.offset_at];
    uvec4 words = philox(uvec4(args.first_column / 4u + block, args.first_row + row, args.first_step + step * args.step_stride,
                               args.stream),
                         uvec2(args.seed0, args.seed1 ^ offset));

    uint begin = block * 4u; /* column + skipped of the first word */
    uint to = args.off0 + step * args.dst_step + row * args.dst_row + begin - skipped;
    uint from = args.off1 + step * args.src_step + row * args.src_row + begin - skipped;
    for (uint w = 0u; w < 4u; w++)
        if (begin + w >= skipped && begin + w < skipped + args.columns)
            element(words[w], to + w, from + w);
}

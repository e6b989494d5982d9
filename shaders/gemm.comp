/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* A workgroup computes a tile of 32 x 32 of C; each of its 64 invocations 4 rows and 4 columns of it, 8 apart, so that
 * invocations beside each other read and write beside each other. */
#define TILE VKL_GEMM_TILE
#define DEPTH 16u
#define SIDE 8u   /* invocations along a side of the tile */
#define BLOCK 4u  /* rows and columns of an invocation */
#define INVOCATIONS 64u

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_GEMM_NN;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(push_constant) uniform Push { VklGemmArgs args; };

/* [k][row] and [k][column] */
shared float a_tile[DEPTH * TILE];
shared float b_tile[DEPTH * TILE];

float a_at(uint row, uint k)
{
    if (row >= args.m)
        return 0.0;
    if (form != VKL_GEMM_TN)
        return a[args.off0 + row * args.lda + k];
    if (row < args.m_first)
        return a[args.off0 + k * args.lda + row];
    return row < args.m - args.ones ? bias[args.off3 + k * args.lda_second + (row - args.m_first)] : 1.0;
}

float b_at(uint k, uint column)
{
    if (column >= args.n)
        return 0.0;
    return form == VKL_GEMM_NT ? b[args.off1 + column * args.ldb + k] : b[args.off1 + k * args.ldb + column];
}

/* Fills element `at` of both tiles, walking along what lies side by side in memory. depth is DEPTH, but at the end of k. */
void tiles_fill(uint at, uint row0, uint column0, uint k0, uint depth)
{
    uint across = at % TILE, along = at / TILE, k = at % depth, other = at / depth;
    if (form == VKL_GEMM_TN)
        a_tile[along * TILE + across] = a_at(row0 + across, k0 + along);
    else
        a_tile[k * TILE + other] = a_at(row0 + other, k0 + k);
    if (form == VKL_GEMM_NT)
        b_tile[k * TILE + other] = b_at(k0 + k, column0 + other);
    else
        b_tile[along * TILE + across] = b_at(k0 + along, column0 + across);
}

void main()
{
    uint local = gl_LocalInvocationID.x;
    uint row0 = gl_WorkGroupID.y * TILE, column0 = gl_WorkGroupID.x * TILE;
    uint row = local / SIDE, column = local % SIDE;
    /* An invocation that is outside C altogether loads, but does not compute. */
    bool inside = row0 + row < args.m && column0 + column < args.n;

    /* Loops of constant length are unrolled here and not left to drivers: sums then stay in registers, and lavapipe, which ends
     * all loops of a shader together after 65,535 turns, has few to count. */
    vec4 sum[BLOCK]; /* an array of arrays stays in memory with NVK */
    [[unroll]] for (uint i = 0u; i < BLOCK; i++)
        sum[i] = vec4(0.0);

    for (uint k0 = 0u; k0 < args.k; k0 += DEPTH) {
        uint depth = args.k - k0 < DEPTH ? args.k - k0 : DEPTH;
        if (depth == DEPTH) {
            [[unroll]] for (uint i = 0u; i < DEPTH * TILE / INVOCATIONS; i++)
                tiles_fill(i * INVOCATIONS + local, row0, column0, k0, DEPTH);
        } else {
            for (uint at = local; at < depth * TILE; at += INVOCATIONS)
                tiles_fill(at, row0, column0, k0, depth);
        }
        barrier();

        uint turns = inside ? depth : 0u;
        for (uint k = 0u; k < turns; k++) {
            float x[BLOCK], y[BLOCK];
            [[unroll]] for (uint i = 0u; i < BLOCK; i++) {
                x[i] = a_tile[k * TILE + row + i * SIDE];
                y[i] = b_tile[k * TILE + column + i * SIDE];
            }
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                    sum[i][j] += x[i] * y[j];
        }
        barrier();
    }

    if (!inside)
        return;
    uint at = args.off2 + (row0 + row) * args.ldc + column0 + column;
    uint rows = args.m - row0 - row, columns = args.n - column0 - column;
    if (args.accumulate != 0u)
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                if (i * SIDE < rows && j * SIDE < columns)
                    sum[i][j] += c[at + i * SIDE * args.ldc + j * SIDE];
    [[unroll]] for (uint j = 0u; j < BLOCK; j++) {
        float bias_sum = 0.0;
        for (uint r = 0u; r < args.bias_rows && j * SIDE < columns; r++)
            bias_sum += bias[args.off3 + r * args.n + column0 + column + j * SIDE];
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            sum[i][j] += bias_sum;
    }
    if (args.activation != ACTIVATION_NONE)
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                sum[i][j] = activate(args.activation, sum[i][j]);
    [[unroll]] for (uint i = 0u; i < BLOCK; i++)
        [[unroll]] for (uint j = 0u; j < BLOCK; j++)
            if (i * SIDE < rows && j * SIDE < columns)
                c[at + i * SIDE * args.ldc + j * SIDE] = sum[i][j];
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "linear.glsl"
#include "when.glsl"

/* GEMM for devices that are CPUs: there a barrier is a switch between coroutines and shared memory is memory like any other, so each
 * invocation computes a block of 4 x 4 of C by itself, in four numbers at a time where offsets and strides allow it. */
#define BLOCK VKL_GEMM_DIRECT_BLOCK

layout(constant_id = 1) const uint form = VKL_GEMM_NN;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 0) readonly buffer AWide { vec4 a_wide[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 1) readonly buffer BWide { vec4 b_wide[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 2) buffer CWide { vec4 c_wide[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(push_constant) uniform Push { VklGemmArgs args; };

/* Rows and columns beyond the edge repeat the last one; they are not stored. */
uint row_at(uint row)
{
    return row < args.m ? row : args.m - 1u;
}

uint column_at(uint column)
{
    return column < args.n ? column : args.n - 1u;
}

float a_at(uint row, uint k)
{
    if (form != VKL_GEMM_TN)
        return a[args.off0 + row_at(row) * args.lda + k];
    if (row < args.m_first)
        return a[args.off0 + k * args.lda + row];
    return row < args.m - args.ones ? bias[args.off3 + k * args.lda_second + (row - args.m_first)] : 1.0;
}

float b_at(uint k, uint column)
{
    return form == VKL_GEMM_NT ? b[args.off1 + column_at(column) * args.ldb + k] : b[args.off1 + k * args.ldb + column_at(column)];
}

void main()
{
    uint blocks = (args.n + BLOCK - 1u) / BLOCK, index = linear_index();
    uint row = index / blocks * BLOCK, column = index % blocks * BLOCK;
    if (row >= args.m)
        return;

    vec4 sum[BLOCK];
    [[unroll]] for (uint i = 0u; i < BLOCK; i++)
        sum[i] = vec4(0.0);

    bool b_is_wide = ((args.off1 | args.ldb) & 3u) == 0u;
    if (form == VKL_GEMM_NT && b_is_wide && ((args.off0 | args.lda | args.k) & 3u) == 0u) {
        /* both run along k */
        for (uint k = 0u; k < args.k; k += 4u) {
            vec4 x[BLOCK], y[BLOCK];
            [[unroll]] for (uint i = 0u; i < BLOCK; i++) {
                x[i] = a_wide[(args.off0 + row_at(row + i) * args.lda + k) >> 2];
                y[i] = b_wide[(args.off1 + column_at(column + i) * args.ldb + k) >> 2];
            }
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                    sum[i][j] += (x[i].x * y[j].x + x[i].y * y[j].y) + (x[i].z * y[j].z + x[i].w * y[j].w);
        }
    } else if (form == VKL_GEMM_TN && b_is_wide && (args.n & 3u) == 0u && row + BLOCK <= args.m_first) {
        for (uint k = 0u; k < args.k; k++) {
            vec4 y = b_wide[(args.off1 + k * args.ldb + column) >> 2];
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                sum[i] += a[args.off0 + k * args.lda + row + i] * y;
        }
    } else if (form == VKL_GEMM_TN && b_is_wide && (args.n & 3u) == 0u && row >= args.m_first && row + BLOCK <= args.m - args.ones) {
        for (uint k = 0u; k < args.k; k++) {
            vec4 y = b_wide[(args.off1 + k * args.ldb + column) >> 2];
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                sum[i] += bias[args.off3 + k * args.lda_second + (row - args.m_first) + i] * y;
        }
    } else if (form != VKL_GEMM_NT && b_is_wide && (args.n & 3u) == 0u) {
        for (uint k = 0u; k < args.k; k++) {
            vec4 y = b_wide[(args.off1 + k * args.ldb + column) >> 2];
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                sum[i] += a_at(row + i, k) * y;
        }
    } else {
        for (uint k = 0u; k < args.k; k++) {
            vec4 y = vec4(b_at(k, column), b_at(k, column + 1u), b_at(k, column + 2u), b_at(k, column + 3u));
            [[unroll]] for (uint i = 0u; i < BLOCK; i++)
                sum[i] += a_at(row + i, k) * y;
        }
    }

    vec4 bias_sum = vec4(0.0);
    for (uint r = 0u; r < args.bias_rows; r++)
        [[unroll]] for (uint j = 0u; j < BLOCK; j++)
            bias_sum[j] += bias[args.off3 + r * args.n + column_at(column + j)];
    bool c_is_wide = ((args.off2 | args.ldc | args.n) & 3u) == 0u;
    uint at = args.off2 + row * args.ldc + column;
    WHEN(args.accumulate != 0u)
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                if (row + i < args.m && column + j < args.n)
                    sum[i][j] += c[at + i * args.ldc + j];
    [[unroll]] for (uint i = 0u; i < BLOCK; i++)
        sum[i] += bias_sum;
    WHEN(c_is_wide)
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            if (row + i < args.m)
                c_wide[(at + i * args.ldc) >> 2] = sum[i];
    WHEN(!c_is_wide)
        [[unroll]] for (uint i = 0u; i < BLOCK; i++)
            [[unroll]] for (uint j = 0u; j < BLOCK; j++)
                if (row + i < args.m && column + j < args.n)
                    c[at + i * args.ldc + j] = sum[i][j];
    /* in a loop of its own, which is short where the block is unrolled */
    WHEN(args.activation != ACTIVATION_NONE)
        for (uint i = 0u; i < BLOCK && row + i < args.m; i++)
            for (uint j = 0u; j < BLOCK && column + j < args.n; j++)
                c[at + i * args.ldc + j] = activate(args.activation, c[at + i * args.ldc + j]);
}

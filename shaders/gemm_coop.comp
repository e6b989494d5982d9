/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* A workgroup computes a tile of 64 x 64 of C, each of its subgroups 2 x BESIDE matrices of it, in sums of float32 from halves in shared memory.
 * What is no matrix of halves already would lose its small numbers there (gradients are often below 6e-8), so rows of A, and in TN the
 * columns of B, are first brought to a largest magnitude of 2^14 or more by a power of two of their own, which C is freed from in the end. */
#define TILE VKL_GEMM_COOP_TILE
#define DEPTH 32u
#define PAD 8u /* halves between lines, so that they begin at multiples of 16 bytes in different banks */
#define LINE_DEPTH (DEPTH + PAD)
#define LINE_TILE (TILE + PAD)
#define TOP 14 /* of a scaled number's exponent: the half's largest is 15 */

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_GEMM_NN;
layout(constant_id = 3) const uint M = 16; /* of a matrix: VKL_GEMM_COOP_SPEC_M ... */
layout(constant_id = 4) const uint N = 16;
layout(constant_id = 5) const uint K = 16;
layout(constant_id = 6) const uint BESIDE = 2; /* 1 or 2 */

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(push_constant) uniform Push { VklGemmArgs args; };

shared float16_t a_tile[TILE * LINE_DEPTH]; /* [row][k]; TN: [k][row], which is less */
shared float16_t b_tile[TILE * LINE_DEPTH]; /* [k][column]; NT: [column][k] */
shared float c_tile[TILE * TILE / (2u * BESIDE)]; /* a matrix of each subgroup */
shared uint a_top[TILE], b_top[TILE];       /* bits of the largest magnitude */

const uint across = TILE / (BESIDE * N); /* subgroups beside each other */

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

/* The larger one, of finite numbers alone. */
uint larger_bits(uint top, float x)
{
    uint bits = floatBitsToUint(x) & 0x7fffffffu;
    return bits > top && bits < 0x7f800000u ? bits : top;
}

void find_tops(uint row0, uint column0, uint begin, uint end)
{
    for (uint at = gl_LocalInvocationID.x; at < TILE; at += gl_WorkGroupSize.x) {
        a_top[at] = 0u;
        b_top[at] = 0u;
    }
    barrier();
    uint line = gl_LocalInvocationID.x % TILE, top = 0u;
    for (uint k = begin + gl_LocalInvocationID.x / TILE; k < end; k += gl_WorkGroupSize.x / TILE)
        top = larger_bits(top, a_at(row0 + line, k));
    atomicMax(a_top[line], top);
    if (form == VKL_GEMM_TN) {
        top = 0u;
        for (uint k = begin + gl_LocalInvocationID.x / TILE; k < end; k += gl_WorkGroupSize.x / TILE)
            top = larger_bits(top, b_at(k, column0 + line));
        atomicMax(b_top[line], top);
    }
    barrier();
}

int shift_of(uint top)
{
    int shift = TOP + 127 - int(top >> 23);
    return shift < 126 ? shift : 126;
}

float power_of_two(int exponent)
{
    return uintBitsToFloat(uint(exponent + 127) << 23);
}

float a_scaled(uint row0, uint row, uint k, uint end)
{
    return k < end ? a_at(row0 + row, k) * power_of_two(shift_of(a_top[row])) : 0.0;
}

float b_scaled(uint column0, uint column, uint k, uint end)
{
    float x = k < end ? b_at(k, column0 + column) : 0.0;
    return form == VKL_GEMM_TN ? x * power_of_two(shift_of(b_top[column])) : x;
}

/* Walks along what lies side by side in memory. */
void fill_tiles(uint row0, uint column0, uint k0, uint end)
{
    [[dont_unroll]] for (uint at = gl_LocalInvocationID.x; at < TILE * DEPTH; at += gl_WorkGroupSize.x) {
        uint far = at / DEPTH, k = at % DEPTH, along = at / TILE, beside = at % TILE;
        if (form == VKL_GEMM_TN)
            a_tile[along * LINE_TILE + beside] = float16_t(a_scaled(row0, beside, k0 + along, end));
        else
            a_tile[far * LINE_DEPTH + k] = float16_t(a_scaled(row0, far, k0 + k, end));
        if (form == VKL_GEMM_NT)
            b_tile[far * LINE_DEPTH + k] = float16_t(b_scaled(column0, far, k0 + k, end));
        else
            b_tile[along * LINE_TILE + beside] = float16_t(b_scaled(column0, beside, k0 + along, end));
    }
}

void store(uint row0, uint column0, uint at, uint row, uint column)
{
    if (row0 + row >= args.m || column0 + column >= args.n)
        return;
    int exponent = -shift_of(a_top[row]) - (form == VKL_GEMM_TN ? shift_of(b_top[column]) : 0), half_way = exponent / 2;
    float sum = c_tile[at] * power_of_two(half_way) * power_of_two(exponent - half_way);
    uint to = args.off2 + gl_WorkGroupID.z * args.slice_c + (row0 + row) * args.ldc + column0 + column;
    if (args.accumulate != 0u)
        sum += c[to];
    float bias_sum = 0.0;
    for (uint r = 0u; r < args.bias_rows; r++)
        bias_sum += bias[args.off3 + r * args.n + column0 + column];
    sum += bias_sum;
    if (args.activation != ACTIVATION_NONE)
        sum = activate(args.activation, sum);
    c[to] = sum;
}

void main()
{
    uint row0 = gl_WorkGroupID.y * TILE, column0 = gl_WorkGroupID.x * TILE;
    uint begin = gl_WorkGroupID.z * args.slice_k, end = args.k - begin < args.slice_k ? args.k : begin + args.slice_k;
    uint my_row = gl_SubgroupID / across * 2u * M, my_column = gl_SubgroupID % across * BESIDE * N;
    find_tops(row0, column0, begin, end);

    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sum[4];
    [[unroll]] for (uint i = 0u; i < 4u; i++)
        sum[i] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    for (uint k0 = begin; k0 < end; k0 += DEPTH) {
        fill_tiles(row0, column0, k0, end);
        barrier();
        for (uint k = 0u; k < DEPTH; k += K) {
            coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> x[2];
            coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> y[2];
            [[unroll]] for (uint i = 0u; i < 2u; i++) {
                uint row = my_row + i * M, column = my_column + i % BESIDE * N;
                if (form == VKL_GEMM_TN)
                    coopMatLoad(x[i], a_tile, k * LINE_TILE + row, LINE_TILE, gl_CooperativeMatrixLayoutColumnMajor);
                else
                    coopMatLoad(x[i], a_tile, row * LINE_DEPTH + k, LINE_DEPTH, gl_CooperativeMatrixLayoutRowMajor);
                if (form == VKL_GEMM_NT)
                    coopMatLoad(y[i], b_tile, column * LINE_DEPTH + k, LINE_DEPTH, gl_CooperativeMatrixLayoutColumnMajor);
                else
                    coopMatLoad(y[i], b_tile, k * LINE_TILE + column, LINE_TILE, gl_CooperativeMatrixLayoutRowMajor);
            }
            [[unroll]] for (uint i = 0u; i < 4u; i++)
                if (i < 2u * BESIDE)
                    sum[i] = coopMatMulAdd(x[i / BESIDE], y[i % BESIDE], sum[i]);
        }
        barrier();
    }

    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        if (i >= 2u * BESIDE)
            break;
        coopMatStore(sum[i], c_tile, gl_SubgroupID * M * N, N, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
        [[dont_unroll]] for (uint at = gl_LocalInvocationID.x; at < TILE * TILE / (2u * BESIDE); at += gl_WorkGroupSize.x) {
            uint subgroup = at / (M * N), inside = at % (M * N);
            store(row0, column0, at, subgroup / across * 2u * M + i / BESIDE * M + inside / N,
                  subgroup % across * BESIDE * N + i % BESIDE * N + inside % N);
        }
        barrier();
    }
}

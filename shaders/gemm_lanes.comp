/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* GEMM for devices that are CPUs. There shared memory is memory like any other, a barrier is a switch between coroutines, and a load in a
 * loop goes through the lanes one by one; but a shuffle from a lane that is known when the kernel is compiled is one instruction. So a
 * subgroup does a block of C by itself: each lane has four columns of all its rows, in every step of four terms it loads its columns' B and
 * four numbers of A, and takes the rest of A from the other lanes. */
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_GEMM_NN;
layout(constant_id = VKL_GEMM_SPEC_ROWS) const uint rows = 32;
layout(constant_id = VKL_GEMM_SPEC_COLUMNS) const uint columns = 32;
layout(constant_id = VKL_GEMM_SPEC_ACTIVATION) const uint activation = ACTIVATION_NONE;
layout(constant_id = VKL_GEMM_SPEC_VARIANT) const uint variant = VKL_GEMM_EDGE;

const uint lanes = columns / 4u; /* of a subgroup, which is the workgroup */
const uint panels = rows / lanes;
const bool wide_a = (variant & VKL_GEMM_WIDE_A) != 0u, wide_b = (variant & VKL_GEMM_WIDE_B) != 0u;
const bool wide_c = (variant & VKL_GEMM_WIDE_C) != 0u;
const bool edge = (variant & VKL_GEMM_EDGE) != 0u, pieces = (variant & VKL_GEMM_PIECES) != 0u;
const bool accumulate = (variant & VKL_GEMM_ACCUMULATE) != 0u;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 0) readonly buffer AWide { vec4 a_wide[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 1) readonly buffer BWide { vec4 b_wide[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 2) buffer CWide { vec4 c_wide[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(binding = 3) readonly buffer BiasWide { vec4 bias_wide[]; };
layout(push_constant) uniform Push { VklGemmArgs args; };

/* What is beyond the edge repeats the last row, column or term: it is not stored, and terms are made zero. */
uint held(uint index, uint count)
{
    return edge && index >= count ? count - 1u : index;
}

bool live(uint k)
{
    return !edge || k < args.k;
}

/* Four columns are either all there or none of them, where B is wide. */
uint held_four(uint index, uint count)
{
    return edge && index >= count ? 0u : index;
}

float left_of(uint row, uint k)
{
    if (row < args.m_first || !pieces)
        return a[args.off0 + k * args.lda + row];
    return row < args.m - args.ones ? bias[args.off3 + k * args.lda_second + (row - args.m_first)] : 1.0;
}

/* Terms k to k + 3 of this lane's row of the panel that begins at `row`. */
vec4 fetch_row(uint row, uint k)
{
    uint at = args.off0 + held(row + gl_SubgroupInvocationID, args.m) * args.lda + k;
    if (wide_a)
        return a_wide[at >> 2];
    vec4 x;
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        x[j] = live(k + j) ? a[at + j] : 0.0;
    return x;
}

/* Four rows of the panel that begins at `row`, at one of the terms k to k + 3: TN. */
vec4 fetch_rows(uint row, uint k)
{
    uint fours = lanes / 4u;
    k += gl_SubgroupInvocationID / fours;
    row += gl_SubgroupInvocationID % fours * 4u;
    bool there = live(k);
    vec4 x = vec4(0.0);
    if (wide_a && !pieces) {
        x = a_wide[(args.off0 + held(k, args.k) * args.lda + held_four(row, args.m)) >> 2];
    } else if (wide_a) {
        bool first = row < args.m_first, second = !first && row < args.m - args.ones;
        x = vec4(1.0);
        if (first && there)
            x = a_wide[(args.off0 + k * args.lda + row) >> 2];
        if (second && there)
            x = bias_wide[(args.off3 + k * args.lda_second + (row - args.m_first)) >> 2];
    } else if (there) {
        [[unroll]] for (uint i = 0u; i < 4u; i++)
            x[i] = left_of(held(row + i, args.m), k);
    }
    return there ? x : vec4(0.0);
}

/* Four columns at term k. */
vec4 fetch_columns(uint column, uint k)
{
    uint at = args.off1 + held(k, args.k) * args.ldb;
    vec4 y;
    if (wide_b)
        y = b_wide[(at + held_four(column, args.n)) >> 2];
    else
        [[unroll]] for (uint j = 0u; j < 4u; j++)
            y[j] = b[at + held(column + j, args.n)];
    return live(k) ? y : vec4(0.0);
}

/* One column at terms k to k + 3: NT. */
vec4 fetch_column(uint column, uint k)
{
    uint at = args.off1 + held(column, args.n) * args.ldb + k;
    if (wide_b)
        return b_wide[at >> 2];
    vec4 y;
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        y[j] = live(k + j) ? b[at + j] : 0.0;
    return y;
}

void main()
{
    uint row = gl_WorkGroupID.y * rows, column = gl_WorkGroupID.x * columns + gl_SubgroupInvocationID * 4u;
    vec4 sum[rows];
    [[unroll]] for (uint r = 0u; r < rows; r++)
        sum[r] = vec4(0.0);

    for (uint k = 0u; k < args.k; k += 4u) {
        vec4 x[panels], y[4];
        [[unroll]] for (uint p = 0u; p < panels; p++)
            x[p] = form == VKL_GEMM_TN ? fetch_rows(row + p * lanes, k) : fetch_row(row + p * lanes, k);
        [[unroll]] for (uint j = 0u; j < 4u; j++)
            y[j] = form == VKL_GEMM_NT ? fetch_column(column + j, k) : fetch_columns(column, k + j);
        [[unroll]] for (uint j = 0u; j < 4u; j++) {
            vec4 right = form == VKL_GEMM_NT ? vec4(y[0][j], y[1][j], y[2][j], y[3][j]) : y[j];
            [[unroll]] for (uint r = 0u; r < rows; r++) {
                float left;
                if (form == VKL_GEMM_TN)
                    left = subgroupShuffle(x[r / lanes][r & 3u], j * (lanes / 4u) + r % lanes / 4u);
                else
                    left = subgroupShuffle(x[r / lanes][j], r % lanes);
                sum[r] += left * right;
            }
        }
    }

    vec4 bias_sum = vec4(0.0);
    for (uint r = 0u; r < args.bias_rows; r++)
        [[unroll]] for (uint j = 0u; j < 4u; j++)
            bias_sum[j] += bias[args.off3 + r * args.n + held(column + j, args.n)];
    uint at = args.off2 + row * args.ldc + column;
    uint down = held(row + rows, args.m + 1u) - row; /* rows of the block that are in C */
    if (wide_c) {
        [[unroll]] for (uint r = 0u; r < rows; r++)
            if (!edge || (r < down && column < args.n)) {
                uint to = (at + r * args.ldc) >> 2;
                vec4 whole = sum[r];
                if (accumulate)
                    whole += c_wide[to];
                c_wide[to] = whole + bias_sum;
            }
    } else {
        for (uint j = 0u; j < 4u && column + j < args.n; j++)
            [[unroll]] for (uint r = 0u; r < rows; r++)
                if (!edge || r < down) {
                    uint to = at + r * args.ldc + j;
                    float whole = j == 0u ? sum[r].x : j == 1u ? sum[r].y : j == 2u ? sum[r].z : sum[r].w;
                    if (accumulate)
                        whole += c[to];
                    c[to] = whole + (j == 0u ? bias_sum.x : j == 1u ? bias_sum.y : j == 2u ? bias_sum.z : bias_sum.w);
                }
    }
    /* in a loop of its own, which is short where the block is unrolled */
    if (activation != ACTIVATION_NONE)
        for (uint r = 0u; r < down; r++)
            for (uint j = 0u; j < 4u && column + j < args.n; j++)
                c[at + r * args.ldc + j] = activate(activation, c[at + r * args.ldc + j]);
}

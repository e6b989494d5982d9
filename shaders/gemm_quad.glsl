/* SPDX-License-Identifier: MIT
 *
 * GEMM for devices that are CPUs and whose subgroups are four lanes, as SwiftShader's. Its compiler leaves arrays in memory, unrolls
 * nothing and keeps branches on constants, so that a block of 8 x 16 has a name for every sum, and forms (FORM) are kernels of their own. It
 * loads four numbers in one instruction only where lanes read one behind another: neighbours have neighbouring columns. A is
 * read likewise, along its rows or columns, and taken by broadcasts. */
#include "quad.glsl"

layout(local_size_x_id = 0) in;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(push_constant) uniform Push { VklGemmArgs args; };

/* What is beyond the edge repeats the last row or column: it is not stored. */
uint held(uint index, uint count)
{
    return index < count ? index : count - 1u;
}

#if FORM == VKL_GEMM_TN
float left_of(uint row, uint k)
{
    if (row < args.m_first)
        return a[args.off0 + k * args.lda + row];
    return row < args.m - args.ones ? bias[args.off3 + k * args.lda_second + (row - args.m_first)] : 1.0;
}
#endif

void main()
{
    uint lane = gl_SubgroupInvocationID;
    uint row = gl_WorkGroupID.y * QUAD_ROWS, column = gl_WorkGroupID.x * QUAD_COLUMNS + lane;
    uint c0 = held(column, args.n), c1 = held(column + 4u, args.n), c2 = held(column + 8u, args.n), c3 = held(column + 12u, args.n);
    QUAD_ZERO

    /* of B at the term that is next */
#if FORM == VKL_GEMM_NT
    uint b0 = args.off1 + c0 * args.ldb, b1 = args.off1 + c1 * args.ldb, b2 = args.off1 + c2 * args.ldb;
    uint b3 = args.off1 + c3 * args.ldb, b_step = 1u;
#else
    uint b0 = args.off1 + c0, b1 = args.off1 + c1, b2 = args.off1 + c2, b3 = args.off1 + c3, b_step = args.ldb;
#endif
    float y0, y1, y2, y3;
#define LOAD_B \
    y0 = b[b0]; \
    y1 = b[b1]; \
    y2 = b[b2]; \
    y3 = b[b3]; \
    b0 += b_step; \
    b1 += b_step; \
    b2 += b_step; \
    b3 += b_step;

#if FORM == VKL_GEMM_TN
#define TERM(near, far) \
    float w = near, z = far; \
    LOAD_B \
    QUAD_ADD(A, subgroupBroadcast(w, 0u)) \
    QUAD_ADD(B, subgroupBroadcast(w, 1u)) \
    QUAD_ADD(C, subgroupBroadcast(w, 2u)) \
    QUAD_ADD(D, subgroupBroadcast(w, 3u)) \
    QUAD_ADD(E, subgroupBroadcast(z, 0u)) \
    QUAD_ADD(F, subgroupBroadcast(z, 1u)) \
    QUAD_ADD(G, subgroupBroadcast(z, 2u)) \
    QUAD_ADD(H, subgroupBroadcast(z, 3u))
    uint near = held(row + lane, args.m), far = held(row + 4u + lane, args.m);
    if (row + 8u <= args.m_first) {
        uint at = args.off0 + near;
        for (uint k = 0u; k < args.k; k++) {
            TERM(a[at], a[at + 4u])
            at += args.lda;
        }
    } else if (row >= args.m_first && row + 8u <= args.m - args.ones) {
        uint at = args.off3 + near - args.m_first;
        for (uint k = 0u; k < args.k; k++) {
            TERM(bias[at], bias[at + 4u])
            at += args.lda_second;
        }
    } else {
        for (uint k = 0u; k < args.k; k++) {
            TERM(left_of(near, k), left_of(far, k))
        }
    }
#else
#define BEGIN(r, number) uint a##r = args.off0 + held(row + number, args.m) * args.lda;
#define LOAD_A(r, number) float x##r = a[a##r + k + lane];
#define ADD_ONE(r, number) QUAD_ADD(r, a[a##r + k])
    QUAD_EACH_ROW(BEGIN)
    uint k = 0u, whole = args.k & ~3u;
    for (; k < whole; k += 4u) {
        QUAD_EACH_ROW(LOAD_A)
        LOAD_B
        QUAD_EACH_ROW(QUAD_TERM_0)
        LOAD_B
        QUAD_EACH_ROW(QUAD_TERM_1)
        LOAD_B
        QUAD_EACH_ROW(QUAD_TERM_2)
        LOAD_B
        QUAD_EACH_ROW(QUAD_TERM_3)
    }
    for (; k < args.k; k++) {
        LOAD_B
        QUAD_EACH_ROW(ADD_ONE)
    }
#endif

    y0 = y1 = y2 = y3 = 0.0;
    for (uint r = 0u; r < args.bias_rows; r++) {
        uint at = args.off3 + r * args.n;
        y0 += bias[at + c0];
        y1 += bias[at + c1];
        y2 += bias[at + c2];
        y3 += bias[at + c3];
    }
    uint begin = args.off2 + row * args.ldc, to = begin + column;
    if (args.accumulate != 0u) {
#define ACCUMULATE(r, number) \
    { \
        uint from = begin + (held(row + number, args.m) - row) * args.ldc; \
        p##r += c[from + c0]; \
        q##r += c[from + c1]; \
        s##r += c[from + c2]; \
        t##r += c[from + c3]; \
    }
        QUAD_EACH_ROW(ACCUMULATE)
    }
#define STORE(sum, y, by) \
    if (column + by < args.n) \
        c[to + by] = sum + y;
#define STORE_ROW(r, number) \
    if (row + number < args.m) { \
        STORE(p##r, y0, 0u) \
        STORE(q##r, y1, 4u) \
        STORE(s##r, y2, 8u) \
        STORE(t##r, y3, 12u) \
    } \
    to += args.ldc;
    QUAD_EACH_ROW(STORE_ROW)

    /* in a loop of its own, which is short where the block is unrolled */
    if (args.activation != ACTIVATION_NONE)
        for (uint r = row; r < row + QUAD_ROWS && r < args.m; r++)
            for (uint j = column; j < column + QUAD_COLUMNS && j < args.n; j += 4u) {
                uint at = args.off2 + r * args.ldc + j;
                c[at] = activate(args.activation, c[at]);
            }
}

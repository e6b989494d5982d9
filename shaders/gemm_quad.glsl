/* SPDX-License-Identifier: MIT
 *
 * GEMM by tiles of 32 columns and 64 terms in the private memory of a subgroup of four lanes: quad_tile.glsl says why. The rows of C are divided
 * evenly among the workgroups on y. Between tiles of terms sums wait in C. WIDE: rows of A and C can be read by four. */
#include "quad_tile.glsl"

layout(local_size_x_id = 0) in;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 0) readonly buffer AWide { vec4 a_wide[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 2) buffer CWide { vec4 c_wide[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; }; /* or the second A */
layout(push_constant) uniform Push { VklGemmArgs args; };

float first[8]; /* what sums begin with: biases */
float last[8];  /* sums of a tile with columns beyond the edge */

uint held(uint index, uint count)
{
    return min(index, count - 1u); /* a choice with ?: would be a branch, and the compiler's time doubles with each */
}

#define COLUMN(j) (column + 16u * (j / 4u) + j % 4u)

void main()
{
    uint lane = gl_SubgroupInvocationID, column = gl_WorkGroupID.x * TILE_COLUMNS + 4u * lane;
    uint each = args.slice_k, row_begin = gl_WorkGroupID.y * each;
    uint row_end = min(row_begin + each, args.m);
#if FORM == VKL_GEMM_TN
    uint b_column = 1u, b_term = args.ldb;
#else /* one kernel for both */
    uint b_column = form == VKL_GEMM_NT ? args.ldb : 1u, b_term = form == VKL_GEMM_NT ? 1u : args.ldb;
#endif
    for (uint k0 = 0u; k0 < args.k; k0 += TILE_TERMS) {
        uint terms = args.k - k0;
        TILE_EACH_NUMBER(TILE_EDGE)
        for (uint i = 0u; i < 64u; i++) {
            uint k = k0 + tile_term(i >> 2, lane ^ (i & 3u)), from = args.off1 + held(k, args.k) * b_term, to = 8u * i;
            bool there = k < args.k;
#define FILL(j) tile[to + j] = mix(0.0, b[from + held(COLUMN(j), args.n) * b_column], there);
            TILE_EACH_SUM(FILL)
        }
        for (uint j = 0u; j < 8u; j++) {
            float y = 0.0;
            for (uint r = 0u; r < (k0 == 0u ? args.bias_rows : 0u); r++)
                y += bias[args.off3 + r * args.n + held(column + 16u * (j >> 2) + (j & 3u), args.n)];
            first[j] = y;
        }
        bool add = k0 != 0u || args.accumulate != 0u, whole = (gl_WorkGroupID.x + 1u) * TILE_COLUMNS <= args.n;
        for (uint row = row_begin; row < row_end; row++) {
#define BEGIN(j) float s##j = 0.0;
            TILE_EACH_SUM(BEGIN)
#define TERM(m) held(k0 + 16u * (m / 4u) + 4u * lane + m % 4u, args.k)
#if FORM == VKL_GEMM_TN
#define ONE(m) float x##m = 1.0;
            TILE_EACH_NUMBER(ONE)
            if (row < args.m_first) {
                uint from = args.off0 + row;
#define FIRST(m) x##m = TILE_WITHIN(m, a[from + TERM(m) * args.lda]);
                TILE_EACH_NUMBER(FIRST)
            } else if (row < args.m - args.ones) {
                uint from = args.off3 + row - args.m_first;
#define SECOND(m) x##m = TILE_WITHIN(m, bias[from + TERM(m) * args.lda_second]);
                TILE_EACH_NUMBER(SECOND)
            }
#elif defined(WIDE)
            uint from = (args.off0 + row * args.lda) >> 2, four = (k0 >> 2) + lane, end = args.k >> 2;
            vec4 w0 = a_wide[from + held(four, end)], w4 = a_wide[from + held(four + 4u, end)];
            vec4 w8 = a_wide[from + held(four + 8u, end)], w12 = a_wide[from + held(four + 12u, end)];
#define PARTS(m, m1, m2, m3) \
    float x##m = TILE_WITHIN(m, w##m.x), x##m1 = TILE_WITHIN(m1, w##m.y), x##m2 = TILE_WITHIN(m2, w##m.z), x##m3 = TILE_WITHIN(m3, w##m.w);
            PARTS(0, 1, 2, 3) PARTS(4, 5, 6, 7) PARTS(8, 9, 10, 11) PARTS(12, 13, 14, 15)
#else
            uint from = args.off0 + row * args.lda;
#define LOAD(m) float x##m = TILE_WITHIN(m, a[from + TERM(m)]);
            TILE_EACH_NUMBER(LOAD)
#endif
            TILE_PRODUCTS(x)
#define FINISH(j) s##j += first[j];
            TILE_EACH_SUM(FINISH)
            uint to = args.off2 + row * args.ldc;
#ifdef WIDE
            vec4 sum0 = vec4(s0, s1, s2, s3), sum1 = vec4(s4, s5, s6, s7);
            uint to0 = (to + min(column, args.n - 4u)) >> 2, to1 = (to + min(column + 16u, args.n - 4u)) >> 2;
            if (add) {
                sum0 += c_wide[to0];
                sum1 += c_wide[to1];
            }
            if (column < args.n)
                c_wide[to0] = sum0;
            if (column + 16u < args.n)
                c_wide[to1] = sum1;
#else
            if (add) {
#define ACCUMULATE(j) s##j += c[to + held(COLUMN(j), args.n)];
                TILE_EACH_SUM(ACCUMULATE)
            }
            if (whole) {
#define STORE(j) c[to + COLUMN(j)] = s##j;
                TILE_EACH_SUM(STORE)
            } else {
#define KEEP(j) last[j] = s##j;
                TILE_EACH_SUM(KEEP)
                for (uint j = 0u; j < 8u; j++)
                    if (COLUMN(j) < args.n)
                        c[to + COLUMN(j)] = last[j];
            }
#endif
        }
    }
    if (args.activation != ACTIVATION_NONE)
        for (uint row = row_begin; row < row_end; row++)
            for (uint j = 0u; j < 8u; j++) {
                uint at = args.off2 + row * args.ldc + COLUMN(j);
                if (COLUMN(j) < args.n)
                    c[at] = activate(args.activation, c[at]);
            }
}

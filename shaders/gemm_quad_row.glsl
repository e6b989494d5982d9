/* SPDX-License-Identifier: MIT
 *
 * GEMM for a row on devices that are CPUs and whose subgroups are four lanes, as SwiftShader's: 16 columns of a row of C, four of each lane,
 * which are side by side. A row of A is read four terms at a time, one a lane, and taken by broadcasts. quad_tile.glsl says more of that device. */
layout(local_size_x_id = 0) in;

layout(binding = 0) readonly buffer A { float a[]; };
layout(binding = 1) readonly buffer B { float b[]; };
layout(binding = 2) buffer C { float c[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; };
layout(push_constant) uniform Push { VklGemmArgs args; };

/* What is beyond the edge repeats the last column: it is not stored. */
uint held(uint index, uint count)
{
    return index < count ? index : count - 1u;
}

void main()
{
    uint lane = gl_SubgroupInvocationID;
    uint row = gl_WorkGroupID.y, column = gl_WorkGroupID.x * 16u + lane;
    uint c0 = held(column, args.n), c1 = held(column + 4u, args.n), c2 = held(column + 8u, args.n), c3 = held(column + 12u, args.n);
    float p = 0.0, q = 0.0, s = 0.0, t = 0.0; /* sums of these columns */

    /* of B at the term that is next */
#if FORM == VKL_GEMM_NT
    uint b0 = args.off1 + c0 * args.ldb, b1 = args.off1 + c1 * args.ldb, b2 = args.off1 + c2 * args.ldb;
    uint b3 = args.off1 + c3 * args.ldb, b_step = 1u;
#else
    uint b0 = args.off1 + c0, b1 = args.off1 + c1, b2 = args.off1 + c2, b3 = args.off1 + c3, b_step = args.ldb;
#endif
#define TERM(left) \
    { \
        float x = left; \
        p += x * b[b0]; \
        q += x * b[b1]; \
        s += x * b[b2]; \
        t += x * b[b3]; \
        b0 += b_step; \
        b1 += b_step; \
        b2 += b_step; \
        b3 += b_step; \
    }
    uint from = args.off0 + row * args.lda, k = 0u, whole = args.k & ~3u;
    for (; k < whole; k += 4u) {
        float four = a[from + k + lane];
        TERM(subgroupBroadcast(four, 0u))
        TERM(subgroupBroadcast(four, 1u))
        TERM(subgroupBroadcast(four, 2u))
        TERM(subgroupBroadcast(four, 3u))
    }
    for (; k < args.k; k++)
        TERM(a[from + k])

    for (uint r = 0u; r < args.bias_rows; r++) {
        uint at = args.off3 + r * args.n;
        p += bias[at + c0];
        q += bias[at + c1];
        s += bias[at + c2];
        t += bias[at + c3];
    }
    uint to = args.off2 + row * args.ldc;
    if (args.accumulate != 0u) {
        p += c[to + c0];
        q += c[to + c1];
        s += c[to + c2];
        t += c[to + c3];
    }
#define STORE(sum, by) \
    if (column + by < args.n) \
        c[to + column + by] = sum;
    STORE(p, 0u)
    STORE(q, 4u)
    STORE(s, 8u)
    STORE(t, 12u)
    /* in a loop of its own: written out, it would be gone through in vain four times */
    if (args.activation != ACTIVATION_NONE)
        for (uint j = column; j < column + 16u && j < args.n; j += 4u)
            c[to + j] = activate(args.activation, c[to + j]);
}

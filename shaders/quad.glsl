/* SPDX-License-Identifier: MIT
 *
 * Products by subgroups of four lanes, whose compiler keeps arrays in memory: 8 rows, A to H, of four
 * sums, p, q, s and t, which are pA to tH: of columns lane, 4 + lane, 8 + lane and 12 + lane of the block. y0 to y3 are the lane's numbers
 * of the right operand at one term, xA to xH four terms of each row of the left one, one a lane.
 */
#define QUAD_COLUMNS 16u

#ifndef QUAD_ROWS
#define QUAD_ROWS 8u
#define QUAD_EACH_ROW(what) what(A, 0u) what(B, 1u) what(C, 2u) what(D, 3u) what(E, 4u) what(F, 5u) what(G, 6u) what(H, 7u)
#else /* 1 */
#define QUAD_EACH_ROW(what) what(A, 0u)
#endif

#define QUAD_ZERO_ROW(r, number) float p##r = 0.0, q##r = 0.0, s##r = 0.0, t##r = 0.0;
#define QUAD_ZERO QUAD_EACH_ROW(QUAD_ZERO_ROW)

#define QUAD_ADD(r, left) \
    { \
        float x = left; \
        p##r += x * y0; \
        q##r += x * y1; \
        s##r += x * y2; \
        t##r += x * y3; \
    }

/* The term whose numbers of the left operand a lane holds. */
#define QUAD_TERM_0(r, number) QUAD_ADD(r, subgroupBroadcast(x##r, 0u))
#define QUAD_TERM_1(r, number) QUAD_ADD(r, subgroupBroadcast(x##r, 1u))
#define QUAD_TERM_2(r, number) QUAD_ADD(r, subgroupBroadcast(x##r, 2u))
#define QUAD_TERM_3(r, number) QUAD_ADD(r, subgroupBroadcast(x##r, 3u))

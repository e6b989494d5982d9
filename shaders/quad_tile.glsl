/* SPDX-License-Identifier: MIT
 *
 * Products by subgroups of four lanes whose compiler (SwiftShader's) loads what has no constant place one lane after the other, a dozen instructions
 * for each number, keeps nothing in registers over a turn of a loop, but reads private memory at constant places in one. So 64 terms of 32
 * columns of the right operand are brought into private memory once, and all rows of the left one go past them: a row's 64 numbers come in 16
 * loads; neighbours exchange them, which is one instruction each, so that every lane meets every term; and they are multiplied eight at a time, in
 * registers. The loop over rows is written out and fits the cache of instructions: with 64 columns it did not, and took twice as long.
 *
 * A lane has columns 16 u + 4 lane + i of the tile, u 0 or 1, i from 0 to 3, as sum 4 u + i. Number m of a row, from 0 to 15, is in the lane term
 * 16 (m / 4) + 4 lane + m % 4; after exchange j, the term of lane ^ j. */
#define TILE_COLUMNS VKL_GEMM_QUAD_TILE
#define TILE_TERMS 64u

float tile[512]; /* [number m][exchange j][sum] */
uint edge[16];   /* of number m: all bits where its term is one of the product's, else none */

uint tile_term(uint number, uint lane)
{
    return 16u * (number >> 2) + 4u * lane + (number & 3u);
}

#define TILE_EACH_SUM(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7)
#define TILE_EACH_NUMBER(what) \
    TILE_EACH_SUM(what) what(8) what(9) what(10) what(11) what(12) what(13) what(14) what(15)

/* Terms beyond the edge are zeros on both sides: a zero on one would make NaN of an infinity. From private memory that is one instruction for each
 * number of a row; a comparison there makes the loop over rows too long for the cache. */
#define TILE_EDGE(m) edge[m] = mix(0u, 0xffffffffu, tile_term(m, gl_SubgroupInvocationID) < terms);
#define TILE_WITHIN(m, value) uintBitsToFloat(floatBitsToUint(value) & edge[m])

#define TILE_ADD(sum, at) \
    sum += tile[at] * v0 + tile[at + 8] * v1 + tile[at + 16] * v2 + tile[at + 24] * v3 + tile[at + 32] * v4 + tile[at + 40] * v5 + \
           tile[at + 48] * v6 + tile[at + 56] * v7;

/* Sums s0 to s7 += two numbers of the row in each lane times what the tile has for them from `at` on. */
#define TILE_PRODUCT(at, first, second) \
    { \
        float v0 = first, v1 = subgroupQuadSwapHorizontal(first), v2 = subgroupQuadSwapVertical(first), v3 = subgroupQuadSwapDiagonal(first); \
        float v4 = second, v5 = subgroupQuadSwapHorizontal(second), v6 = subgroupQuadSwapVertical(second); \
        float v7 = subgroupQuadSwapDiagonal(second); \
        TILE_ADD(s0, at) TILE_ADD(s1, at + 1) TILE_ADD(s2, at + 2) TILE_ADD(s3, at + 3) \
        TILE_ADD(s4, at + 4) TILE_ADD(s5, at + 5) TILE_ADD(s6, at + 6) TILE_ADD(s7, at + 7) \
    }

/* All of a row. */
#define TILE_PRODUCTS(x) \
    TILE_PRODUCT(0, x##0, x##1) TILE_PRODUCT(64, x##2, x##3) TILE_PRODUCT(128, x##4, x##5) TILE_PRODUCT(192, x##6, x##7) \
    TILE_PRODUCT(256, x##8, x##9) TILE_PRODUCT(320, x##10, x##11) TILE_PRODUCT(384, x##12, x##13) TILE_PRODUCT(448, x##14, x##15)

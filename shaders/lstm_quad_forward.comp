/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_quad : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#include "quad_tile.glsl"

/* LSTM_FORWARD for layers whose recurrent product is one tile of terms: quad_tile.glsl. Columns of W_hh are the gates of a unit, so that sums 0 to 3
 * are those of unit `lane` of the tile's eight, 4 to 7 those of unit 4 + lane. */
layout(local_size_x_id = 0) in;

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { float w_hh[]; };
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklCellForwardArgs args; };

float sums[8];

void main()
{
    uint lane = gl_SubgroupInvocationID, unit0 = gl_WorkGroupID.x * (TILE_COLUMNS / 4u) + lane;
    uint each = args.group_rows, row_begin = gl_WorkGroupID.y * each;
    uint row_end = min(row_begin + each, args.rows), last = args.units - 1u;
#define COLUMN(j) (4u * min(unit0 + j / 4u * 4u, last) + j % 4u)
    uint terms = args.units;
    TILE_EACH_NUMBER(TILE_EDGE)
    for (uint i = 0u; i < 64u; i++) {
        uint k = tile_term(i >> 2, lane ^ (i & 3u)), from = args.off1 + min(k, last) * args.units * 4u, to = 8u * i;
        bool there = k <= last;
#define FILL(j) tile[to + j] = mix(0.0, w_hh[from + COLUMN(j)], there);
        TILE_EACH_SUM(FILL)
    }
    for (uint row = row_begin; row < row_end; row++) {
        uint from = args.off2 + args.h_prev + row * args.h_ld;
#define LOAD(m) float x##m = TILE_WITHIN(m, h[from + min(16u * (m / 4u) + 4u * lane + m % 4u, last)]);
        TILE_EACH_NUMBER(LOAD)
#define BEGIN(j) float s##j = 0.0;
        TILE_EACH_SUM(BEGIN)
        TILE_PRODUCTS(x)
#define KEEP(j) sums[j] = s##j;
        TILE_EACH_SUM(KEEP)
        /* not written out: the loop over rows would not fit the cache */
        for (uint j = 0u; j < 8u; j += 4u) {
            uint unit = unit0 + j, index = row * args.units + unit, gate = args.off0 + index * 4u;
            if (unit <= last) {
                float i = cell_sigmoid(gates[gate] + sums[j]), f = cell_sigmoid(gates[gate + 1u] + sums[j + 1u]);
                float g = cell_tanh(gates[gate + 2u] + sums[j + 2u]), o = cell_sigmoid(gates[gate + 3u] + sums[j + 3u]);
                float cell = f * c[args.off3 + args.c_prev + index] + i * g;
                c[args.off3 + args.c_next + index] = cell;
                h[args.off2 + args.h_next + row * args.h_ld + unit] = o * cell_tanh(cell);
                if (args.keep != 0u) {
                    gates[gate] = i;
                    gates[gate + 1u] = f;
                    gates[gate + 2u] = g;
                    gates[gate + 3u] = o;
                }
            }
        }
    }
}

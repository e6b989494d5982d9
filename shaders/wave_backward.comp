/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 0) buffer GatesWide { vec4 gates_wide[]; };
layout(binding = 1) readonly buffer Params { float params[]; };
layout(binding = 1) readonly buffer ParamsWide { vec4 params_wide[]; };
layout(binding = 2) buffer State { float state[]; };
layout(binding = 3) readonly buffer Gy { float gy[]; };
layout(binding = 4) buffer Carry { float carries[]; };
layout(push_constant) uniform Push { VklWaveBackwardArgs args; };

#include "wave.glsl"

float total[ROWS];
shared float slice_sum[SLICES > 1u ? 128u : 1u];

/* The sums and, from the gates' gradients of some rows on, their products with a row of a matrix. */
void product(uint x_at, uint row0, uint w_row, uint slice)
{
    uint x_row[ROWS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x_row[r] = x_at + (row0 + r < args.rows ? row0 + r : args.rows - 1u) * args.gates_ld;
    uint k = GATES * args.units;
    bool aligned = ((x_at | args.gates_ld | w_row) & 3u) == 0u;
    for (uint begin = 0u; begin < (long_sums ? k : 1u); begin += BLOCK) {
        uint end = !long_sums || k - begin < BLOCK ? k : begin + BLOCK, fours = aligned ? end & ~3u : begin;
        vec4 sum[ROWS];
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            sum[r] = vec4(0.0);
        for (uint j = begin + 4u * slice; j < fours; j += 4u * SLICES) {
            vec4 w = params_wide[(w_row + j) >> 2];
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                sum[r] += gates_wide[(x_row[r] + j) >> 2] * w;
        }
        for (uint j = fours + slice; j < end; j += SLICES) {
            float w = params[w_row + j];
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                sum[r].x += gates[x_row[r] + j] * w;
        }
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            total[r] += (sum[r].x + sum[r].z) + (sum[r].y + sum[r].w);
    }
}

/* The sums of all slices; those of row r go to slice r % SLICES. */
void join_slices(uint slice, uint lane)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        slice_sum[gl_LocalInvocationID.x] = total[r];
        barrier();
        if (slice == r % SLICES) {
            float sum = 0.0;
            for (uint i = 0u; i < SLICES; i++)
                sum += slice_sum[lane * SLICES + i];
            total[r] = sum;
        }
        barrier();
    }
}

void lstm_cell(uint at, float dh, float c_prev, float c_t, inout float dc)
{
    float i = gates[at], f = gates[at + 1u], g = gates[at + 2u], o = gates[at + 3u];
    float t = cell_tanh(c_t);
    float d = dc + dh * o * (1.0 - t * t);
    gates[at] = d * g * (i * (1.0 - i));
    gates[at + 1u] = d * c_prev * (f * (1.0 - f));
    gates[at + 2u] = d * i * (1.0 - g * g);
    gates[at + 3u] = dh * t * (o * (1.0 - o));
    dc = d * f;
}

void main()
{
    /* slices side by side, since W runs along k */
    uint lanes = gl_WorkGroupSize.x / SLICES, lane = gl_LocalInvocationID.x / SLICES, slice = gl_LocalInvocationID.x % SLICES;
    uint unit0 = gl_WorkGroupID.x * lanes + lane, row0 = gl_WorkGroupID.y * ROWS, z = gl_WorkGroupID.z;
    bool outside = unit0 >= args.units;
    if (outside && SLICES == 1u)
        return;
    uint unit = outside ? 0u : unit0, w_row = unit * GATES * args.units;
    bool first = z == 0u && (args.flags & VKL_WAVE_FIRST) != 0u;
    bool top = z + 1u == gl_NumWorkGroups.z && (args.flags & VKL_WAVE_TOP) != 0u;
    uint gates_at = args.off0 + args.gates + z * args.gates_wave;

    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        total[r] = 0.0;
    if (!first)
        product(gates_at + args.next_step + args.view, row0, w_at(z) + w_row, slice);
    if (!top)
        product(gates_at + args.above, row0, w_at(z + 1u) + args.inputs + w_row, slice);
    if (SLICES > 1u)
        join_slices(slice, lane);
    if (outside)
        return;

    uint state_at = args.off2 + args.state + z * args.state_wave + unit;
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        uint row = row0 + r;
        if (row < args.rows && (SLICES == 1u || slice == r % SLICES)) {
            uint at = gates_at + row * args.gates_ld + unit * (lstm ? 4u : 1u);
            uint carry_at = args.off4 + args.carry + z * args.carry_wave + row * args.units + unit;
            float dh = total[r];
            if (gru || (first && (args.flags & VKL_WAVE_CARRIED) != 0u))
                dh += carries[carry_at];
            if (top && args.gy_ld != VKL_ABSENT)
                dh += gy[args.off3 + args.gy + row * args.gy_ld + unit];
            if (lstm) {
                uint c_at = state_at + row * args.units;
                float dc = 0.0;
                if (!first || (args.flags & VKL_WAVE_DC) != 0u)
                    dc = state[c_at - args.state_step];
                lstm_cell(at, dh, state[c_at + args.state_step], state[c_at], dc);
                state[c_at] = dc;
            } else {
                Unit of = Unit(at, args.units, VKL_ABSENT, args.units);
                if (gru)
                    carries[carry_at] = gru_backward(of, false, dh, state[state_at + row * args.state_ld], GRU_AFTER);
                else
                    rnn_backward(of, false, dh);
            }
        }
    }
}

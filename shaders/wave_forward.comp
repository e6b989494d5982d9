/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer Params { float params[]; };
layout(binding = 1) readonly buffer ParamsWide { vec4 params_wide[]; };
layout(binding = 2) buffer State { float state[]; };
layout(binding = 3) buffer Hidden { float h[]; };
layout(binding = 3) buffer HiddenWide { vec4 h_wide[]; };
layout(push_constant) uniform Push { VklWaveForwardArgs args; };

#include "wave.glsl"

/* Sums of the gates: LSTM i f g o; GRU the input's part of n, r, z, the recurrent part of n; RNN one. */
vec4 total[ROWS];
shared vec4 slice_sum[SLICES > 1u ? 128u : 1u];

vec4 weights_at(uint at, bool fed)
{
    if (lstm)
        return params_wide[at >> 2];
    float first = params[at];
    if (!gru)
        return vec4(first, 0.0, 0.0, 0.0);
    float second = params[at + args.units], third = params[at + 2u * args.units];
    return fed ? vec4(first, second, third, 0.0) : vec4(0.0, first, second, third);
}

/* The sums and, from h of some rows on and from a matrix on, their products; `fed`: it is W_ih. */
void product(uint x_at, uint row0, uint w_first, uint slice, bool fed)
{
    uint x_row[ROWS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x_row[r] = x_at + (row0 + r < args.rows ? row0 + r : args.rows - 1u) * args.h_ld;
    bool aligned = ((x_at | args.h_ld) & 3u) == 0u;
    uint k = args.units, w_ld = GATES * args.units;
    for (uint begin = 0u; begin < (long_sums ? k : 1u); begin += BLOCK) {
        uint end = !long_sums || k - begin < BLOCK ? k : begin + BLOCK, fours = aligned ? end & ~3u : begin;
        vec4 sum[ROWS];
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            sum[r] = vec4(0.0);
        for (uint j = begin + 4u * slice; j < fours; j += 4u * SLICES) {
            vec4 x[ROWS];
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                x[r] = h_wide[(x_row[r] + j) >> 2];
            [[unroll]] for (uint q = 0u; q < 4u; q++) {
                vec4 w = weights_at(w_first + (j + q) * w_ld, fed);
                [[unroll]] for (uint r = 0u; r < ROWS; r++)
                    sum[r] += x[r][q] * w;
            }
        }
        for (uint j = fours + slice; j < end; j += SLICES) {
            vec4 w = weights_at(w_first + j * w_ld, fed);
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                sum[r] += h[x_row[r] + j] * w;
        }
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            total[r] += sum[r];
    }
}

/* The sums of all slices; those of row r go to slice r % SLICES. */
void join_slices(uint slice, uint lane, uint lanes)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        slice_sum[gl_LocalInvocationID.x] = total[r];
        barrier();
        if (slice == r % SLICES) {
            vec4 sum = vec4(0.0);
            for (uint i = 0u; i < SLICES; i++)
                sum += slice_sum[i * lanes + lane];
            total[r] = sum;
        }
        barrier();
    }
}

/* What the rows of biases add to gate g of a unit. */
float bias_of(uint bias_at, uint g)
{
    float sum = 0.0;
    for (uint i = 0u; i < args.bias_rows; i++)
        sum += params[bias_at + i * GATES * args.units + (lstm ? g : g * args.units)];
    return sum;
}

float lstm_cell(uint at, vec4 pre, inout float c)
{
    float i = cell_sigmoid(pre.x), f = cell_sigmoid(pre.y), g = cell_tanh(pre.z), o = cell_sigmoid(pre.w);
    c = f * c + i * g;
    if (CELL_KEEP) {
        gates[at] = i;
        gates[at + 1u] = f;
        gates[at + 2u] = g;
        gates[at + 3u] = o;
    }
    return o * cell_tanh(c);
}

void main()
{
    uint lanes = gl_WorkGroupSize.x / SLICES, lane = gl_LocalInvocationID.x % lanes, slice = gl_LocalInvocationID.x / lanes;
    uint unit0 = gl_WorkGroupID.x * lanes + lane, row0 = gl_WorkGroupID.y * ROWS, z = gl_WorkGroupID.z;
    bool outside = unit0 >= args.units;
    if (outside && SLICES == 1u)
        return;
    uint unit = outside ? 0u : unit0, column = unit * (lstm ? 4u : 1u);
    bool fed = z > 0u || args.lowest == 0u; /* by the layer below, in this dispatch */
    uint w = w_at(z), h_before = args.off3 + args.h + z * args.h_wave, c_before = args.off2 + args.c + z * args.c_wave;

    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        total[r] = vec4(0.0);
    if (fed)
        product(h_before + args.below, row0, w + args.inputs + column, slice, true);
    product(h_before, row0, w + column, slice, false);
    if (SLICES > 1u)
        join_slices(slice, lane, lanes);
    if (outside)
        return;

    uint option = args.option != VKL_ABSENT ? w + args.option + unit : VKL_ABSENT;
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        uint row = row0 + r;
        if (row < args.rows && (SLICES == 1u || slice == r % SLICES)) {
            uint at = args.off0 + args.gates + z * args.gates_wave + row * args.gates_ld + column;
            uint in_h = h_before + row * args.h_ld + unit, in_c = c_before + row * args.units + unit;
            if (fed) { /* what the input product left there of a layer that is not */
                [[unroll]] for (uint g = 0u; g < GATES; g++)
                    gates[at + (lstm ? g : g * args.units)] =
                        bias_of(w + args.bias + column, g) + (gru && g == 0u ? total[r].x : 0.0);
            }
            float y;
            if (lstm) {
                float c = state[in_c];
                y = lstm_cell(at, vec4(gates[at], gates[at + 1u], gates[at + 2u], gates[at + 3u]) + total[r], c);
                state[in_c + args.c_step] = c;
            } else {
                Unit of = Unit(at, args.units, option, args.units);
                y = gru ? gru_forward(of, vec4(total[r].yzw, 0.0), h[in_h], GRU_AFTER) : rnn_forward(of, total[r]);
            }
            h[in_h + args.h_step] = y;
        }
    }
}

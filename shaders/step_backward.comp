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
layout(binding = 1) readonly buffer ParamsHalves { uint params_halves[]; };
layout(binding = 1) readonly buffer ParamsHalvesWide { uvec2 params_halves_wide[]; };
layout(binding = 2) buffer State { float state[]; };
layout(binding = 3) readonly buffer Gy { float gy[]; };
layout(binding = 3) readonly buffer GyWide { vec4 gy_wide[]; };
layout(binding = 4) buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklStepBackwardArgs args; };

#include "step.glsl"

/* Products of their own, each under a mask of its own. */
const uint GROUPS = form == VKL_STEP_GRU_SECOND || MASKS < 2u ? 1u : form == VKL_STEP_GRU_FIRST ? 2u : MASKS;

float total[ROWS * UNITS];
shared float slice_sum[SLICES > 1u ? 128u * UNITS : 1u];

uint row_at(uint row)
{
    return row < args.rows ? row : args.rows - 1u;
}

uint unit_at(uint unit)
{
    return unit < args.units ? unit : args.units - 1u;
}

void product(uint x_at, uint x_ld, uint row0, uint unit0, uint slice)
{
    uint x_row[ROWS], w_row[UNITS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x_row[r] = x_at + row_at(row0 + r) * x_ld;
    [[unroll]] for (uint u = 0u; u < UNITS; u++)
        w_row[u] = w_begin() + unit_at(unit0 + u) * args.w_ld;
    [[unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
        total[i] = 0.0;
    uint columns = args.k / GROUPS;
    bool aligned = ((x_at | x_ld | w_begin() | args.w_ld | (GROUPS > 1u ? columns : 0u)) & 3u) == 0u;
    [[unroll]] for (uint g = 0u; g < GROUPS; g++)
        for (uint begin = g * columns; begin < (long_sums ? (g + 1u) * columns : g * columns + 1u); begin += BLOCK) {
            uint end = !long_sums || (g + 1u) * columns - begin < BLOCK ? (g + 1u) * columns : begin + BLOCK;
            uint fours = aligned ? begin + ((end - begin) & ~3u) : begin;
            vec4 sum[ROWS * UNITS];
            [[unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
                sum[i] = vec4(0.0);
            for (uint j = begin + 4u * slice; j < fours; j += 4u * SLICES) {
                vec4 x[ROWS];
                [[unroll]] for (uint r = 0u; r < ROWS; r++)
                    x[r] = projected ? gy_wide[(x_row[r] + j) >> 2] : gates_wide[(x_row[r] + j) >> 2];
                [[unroll]] for (uint u = 0u; u < UNITS; u++) {
                    vec4 w = four_weights_at(w_row[u] + j);
                    [[unroll]] for (uint r = 0u; r < ROWS; r++)
                        sum[r * UNITS + u] += x[r] * w;
                }
            }
            for (uint j = fours + slice; j < end; j += SLICES)
                [[unroll]] for (uint u = 0u; u < UNITS; u++) {
                    float w = weight_at(w_row[u] + j);
                    [[unroll]] for (uint r = 0u; r < ROWS; r++)
                        sum[r * UNITS + u].x += (projected ? gy[x_row[r] + j] : gates[x_row[r] + j]) * w;
                }
            [[unroll]] for (uint i = 0u; i < ROWS * UNITS; i++) {
                float whole = (sum[i].x + sum[i].z) + (sum[i].y + sum[i].w);
                if (MASKS > 0u && form != VKL_STEP_GRU_SECOND && !projected)
                    whole = masked(whole, g, row_at(row0 + i / UNITS), unit_at(unit0 + i % UNITS));
                total[i] = long_sums || GROUPS > 1u ? total[i] + whole : whole;
            }
        }
}

/* The sums of all slices; those of row r go to slice r % SLICES. */
void join_slices(uint slice, uint lane)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        [[unroll]] for (uint u = 0u; u < UNITS; u++)
            slice_sum[u * gl_WorkGroupSize.x + gl_LocalInvocationID.x] = total[r * UNITS + u];
        barrier();
        if (slice == r % SLICES)
            [[unroll]] for (uint u = 0u; u < UNITS; u++) {
                float sum = 0.0;
                for (uint i = 0u; i < SLICES; i++)
                    sum += slice_sum[u * gl_WorkGroupSize.x + lane * SLICES + i];
                total[r * UNITS + u] = sum;
            }
        barrier();
    }
}

void plain_lstm(uint at, float dh, float c_prev, float c_t, inout float dc)
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

/* Where the workgroup's part is. */
uint gates_at, gy_at, c_at, c_step, dc_in, dc_out, carry_at;

/* Cell i of the invocation. */
void cell(uint i, uint unit0, uint row0, uint slice)
{
    uint r = i / UNITS, row = row0 + r, unit = unit0 + i % UNITS, in_rows = row * args.units + unit;
    if (row >= args.rows || unit >= args.units || (SLICES > 1u && slice != r % SLICES))
        return;
    uint gates_row = gates_at + row * args.gates_ld;
    bool is_frozen = form != VKL_STEP_LSTM_PLAIN && frozen(row);
    float dh = total[i], carry = 0.0;
    if (args.carry != VKL_ABSENT)
        carry = uintBitsToFloat(side[carry_at + in_rows]);
    if (form == VKL_STEP_GRU_SECOND) {
        float back = gru_reset_backward(unit_of(gates_row, unit), is_frozen, dh, state[args.off2 + dc_in + row * args.state_step + unit]);
        if (MASKS > 0u)
            back = masked(back, MASKS - 1u, row, unit);
        side[carry_at + in_rows] = floatBitsToUint(carry + back);
        return;
    }
    dh += carry;
    if (!projected && args.gy_ld != VKL_ABSENT)
        dh += gy[gy_at + row * args.gy_ld + unit];

    if (form <= VKL_STEP_LSTM) {
        float dc = 0.0;
        if (dc_in != VKL_ABSENT)
            dc = state[args.off2 + dc_in + in_rows];
        float c_t = state[c_at + in_rows], c_prev = state[c_at + c_step + in_rows];
        carry = 0.0;
        if (form == VKL_STEP_LSTM_PLAIN)
            plain_lstm(gates_row + 4u * unit, dh, c_prev, c_t, dc);
        else
            carry = lstm_backward(unit_of(gates_row, unit), is_frozen, dh, c_prev, c_t, dc);
        state[dc_out + in_rows] = dc;
    } else if (form == VKL_STEP_RNN) {
        carry = rnn_backward(unit_of(gates_row, unit), is_frozen, dh);
    } else if (form == VKL_STEP_PROJECT) {
        state[c_at + in_rows] = is_frozen ? 0.0 : dh;
        carry = is_frozen ? dh : 0.0;
    } else {
        float h_prev = state[c_at + row * args.state_step + unit];
        carry = gru_backward(unit_of(gates_row, unit), is_frozen, dh, h_prev, phase);
    }
    if (args.carry != VKL_ABSENT)
        side[carry_at + in_rows] = floatBitsToUint(carry);
}

void main()
{
    /* slices side by side, since W runs along k */
    uint lanes = gl_WorkGroupSize.x / SLICES, lane = gl_LocalInvocationID.x / SLICES, slice = gl_LocalInvocationID.x % SLICES;
    uint unit0 = (gl_WorkGroupID.x * lanes + lane) * UNITS, row0 = gl_WorkGroupID.y * ROWS;
    bool second = second_part();
    if (unit0 >= args.units && SLICES == 1u)
        return;
    gates_at = args.off0 + (second ? args.gates_second : args.gates);
    gy_at = args.off3 + (second ? args.gy_second : args.gy);
    c_at = args.off2 + (second ? args.c_second : args.c);
    c_step = second ? -args.state_step : args.state_step;
    dc_in = second ? args.dc_in_second : args.dc_in;
    dc_out = args.off2 + (second ? args.dc_out_second : args.dc_out);
    carry_at = args.off4 + args.carry + (second ? (args.rows * args.units + 63u) & ~63u : 0u);

    uint next = gates_at + (second ? -args.next_step : args.next_step) + args.view;
    product(projected ? gy_at : next, projected ? args.gy_ld : args.gates_ld, row0, unit0, slice);
    if (SLICES > 1u)
        join_slices(slice, lane);
    if (rolled) {
        [[dont_unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
            cell(i, unit0, row0, slice);
    } else {
        [[unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
            cell(i, unit0, row0, slice);
    }
}

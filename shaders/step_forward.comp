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
layout(binding = 3) buffer Hidden { float h[]; };
layout(binding = 3) buffer HiddenWide { vec4 h_wide[]; };
layout(binding = 4) readonly buffer Side { uint side[]; };
layout(push_constant) uniform Push { VklStepForwardArgs args; };

#include "step.glsl"

const uint GATES = form <= VKL_STEP_LSTM ? 4u : form == VKL_STEP_GRU ? 3u : form == VKL_STEP_GRU_FIRST ? 2u : 1u;
const bool wide = UNITS == 4u;              /* a vector is four units of a gate, else the gates of a unit */
const uint VECTORS = wide ? GATES : 1u;     /* of a row */
const bool beside = form == VKL_STEP_GRU_SECOND || form == VKL_STEP_PROJECT;
const bool each_its_own = MASKS > 1u && !beside; /* every gate has an operand of its own */

vec4 total[ROWS * VECTORS];
shared vec4 slice_sum[SLICES > 1u ? 128u * VECTORS : 1u];

float operand_at(uint at)
{
    return beside ? gates[at] : h[at];
}

/* Of the W row that begins at `at` where the unit's first column is. */
vec4 weights_at(uint at, uint vector)
{
    if (wide)
        return four_weights_at(at + vector * args.units);
    if (interleaved)
        return four_weights_at(at);
    vec4 w = vec4(weight_at(at), 0.0, 0.0, 0.0);
    if (GATES > 1u)
        w.y = weight_at(at + args.units);
    if (GATES > 2u)
        w.z = weight_at(at + 2u * args.units);
    if (GATES > 3u)
        w.w = weight_at(at + 3u * args.units);
    return w;
}

/* What a vector of weights is multiplied by. */
vec4 operands_at(uint at, uint vector)
{
    if (!each_its_own)
        return vec4(operand_at(at));
    if (wide)
        return vec4(operand_at(at + vector * args.k));
    vec4 x = vec4(operand_at(at));
    if (GATES > 1u)
        x.y = operand_at(at + args.k);
    if (GATES > 2u)
        x.z = operand_at(at + 2u * args.k);
    if (GATES > 3u)
        x.w = operand_at(at + 3u * args.k);
    return x;
}

void product(uint x_at, uint x_ld, uint row0, uint w_at, uint slice)
{
    uint x_row[ROWS];
    [[unroll]] for (uint r = 0u; r < ROWS; r++)
        x_row[r] = x_at + (row0 + r < args.rows ? row0 + r : args.rows - 1u) * x_ld;
    [[unroll]] for (uint i = 0u; i < ROWS * VECTORS; i++)
        total[i] = vec4(0.0);
    bool aligned = !each_its_own && ((x_at | x_ld) & 3u) == 0u;
    for (uint begin = 0u; begin < (long_sums ? args.k : 1u); begin += BLOCK) {
        uint end = !long_sums || args.k - begin < BLOCK ? args.k : begin + BLOCK, fours = aligned ? end & ~3u : begin;
        vec4 sum[ROWS * VECTORS];
        [[unroll]] for (uint i = 0u; i < ROWS * VECTORS; i++)
            sum[i] = vec4(0.0);
        for (uint j = begin + 4u * slice; j < fours; j += 4u * SLICES) {
            vec4 x[ROWS];
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                x[r] = beside ? gates_wide[(x_row[r] + j) >> 2] : h_wide[(x_row[r] + j) >> 2];
            [[unroll]] for (uint q = 0u; q < 4u; q++)
                [[unroll]] for (uint v = 0u; v < VECTORS; v++) {
                    vec4 w = weights_at(w_at + (j + q) * args.w_ld, v);
                    [[unroll]] for (uint r = 0u; r < ROWS; r++)
                        sum[r * VECTORS + v] += x[r][q] * w;
                }
        }
        for (uint j = fours + slice; j < end; j += SLICES)
            [[unroll]] for (uint v = 0u; v < VECTORS; v++) {
                vec4 w = weights_at(w_at + j * args.w_ld, v);
                [[unroll]] for (uint r = 0u; r < ROWS; r++)
                    sum[r * VECTORS + v] += operands_at(x_row[r] + j, v) * w;
            }
        [[unroll]] for (uint i = 0u; i < ROWS * VECTORS; i++)
            total[i] = long_sums ? total[i] + sum[i] : sum[i];
    }
}

/* The sums of all slices; those of row r go to slice r % SLICES. */
void join_slices(uint slice, uint lane, uint lanes)
{
    [[unroll]] for (uint r = 0u; r < ROWS; r++) {
        [[unroll]] for (uint v = 0u; v < VECTORS; v++)
            slice_sum[v * gl_WorkGroupSize.x + gl_LocalInvocationID.x] = total[r * VECTORS + v];
        barrier();
        if (slice == r % SLICES)
            [[unroll]] for (uint v = 0u; v < VECTORS; v++) {
                vec4 sum = vec4(0.0);
                for (uint i = 0u; i < SLICES; i++)
                    sum += slice_sum[v * gl_WorkGroupSize.x + i * lanes + lane];
                total[r * VECTORS + v] = sum;
            }
        barrier();
    }
}

float plain_lstm(uint at, vec4 rec, inout float c)
{
    vec4 pre = vec4(gates[at], gates[at + 1u], gates[at + 2u], gates[at + 3u]) + rec;
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

/* Where the workgroup's part is. */
uint h_before, h_step, c_before, c_step, to, copies, gates_at;

/* Cell i of the invocation. */
void cell(uint i, uint unit0, uint row0, uint slice)
{
    uint r = i / UNITS, q = i % UNITS, row = row0 + r, unit = unit0 + q;
    if (row >= args.rows || (SLICES > 1u && slice != r % SLICES))
        return;
    vec4 rec = total[r * VECTORS];
    if (wide) {
        rec = vec4(total[r * VECTORS][q], 0.0, 0.0, 0.0);
        if (GATES > 1u)
            rec.y = total[r * VECTORS + 1u % VECTORS][q];
        if (GATES > 2u)
            rec.z = total[r * VECTORS + 2u % VECTORS][q];
        if (GATES > 3u)
            rec.w = total[r * VECTORS + 3u % VECTORS][q];
    }

    uint in_h = row * args.h_ld + unit, in_state = row * args.units + unit, gates_row = gates_at + row * args.gates_ld;
    bool is_frozen = form != VKL_STEP_LSTM_PLAIN && frozen(row);
    float y = 0.0, before = 0.0;
    if (!projected && form != VKL_STEP_LSTM_PLAIN && form != VKL_STEP_GRU_FIRST)
        y = before = h[h_before + in_h];
    if (form <= VKL_STEP_LSTM) {
        float c = state[c_before + in_state];
        if (form == VKL_STEP_LSTM_PLAIN)
            y = plain_lstm(gates_row + 4u * unit, rec, c);
        else if (!is_frozen)
            y = lstm_forward(unit_of(gates_row, unit), rec, c);
        state[c_before + c_step + in_state] = c;
    } else if (form == VKL_STEP_RNN) {
        if (!is_frozen)
            y = rnn_forward(unit_of(gates_row, unit), rec);
    } else if (form == VKL_STEP_PROJECT) {
        y = is_frozen ? before : rec.x;
    } else if (!is_frozen) {
        if (form == VKL_STEP_GRU_FIRST) /* the operand of the candidate's product */
            before = h[h_before + (MASKS > 0u ? copies + (MASKS - 1u) * args.units : 0u) + in_h];
        y = gru_forward(unit_of(gates_row, unit), rec, before, phase);
    }

    if (projected || form == VKL_STEP_GRU_FIRST) {
        gates[to + in_state] = y;
    } else {
        h[h_before + h_step + in_h] = y;
        for (uint g = 0u; g < MASKS; g++)
            h[h_before + h_step + in_h + copies + g * args.units] = masked(y, g, row, unit);
    }
}

void main()
{
    uint lanes = gl_WorkGroupSize.x / SLICES, lane = gl_LocalInvocationID.x % lanes, slice = gl_LocalInvocationID.x / lanes;
    uint unit0 = (gl_WorkGroupID.x * lanes + lane) * UNITS, row0 = gl_WorkGroupID.y * ROWS;
    bool second = second_part(), outside = unit0 >= args.units;
    if (outside && SLICES == 1u)
        return;
    h_before = args.off3 + (second ? args.h_second : args.h);
    h_step = second ? -args.h_step : args.h_step;
    c_before = args.off2 + (second ? args.c_second : args.c);
    c_step = second ? -args.c_step : args.c_step;
    to = args.off0 + (second ? args.to_second : args.to);
    copies = args.masked + (second && MASKS > 1u ? (MASKS - 1u) * (beside ? args.units : args.k) : 0u);
    gates_at = args.off0 + (second ? args.gates_second : args.gates);

    uint unit = outside ? 0u : unit0;
    product(beside ? to : MASKS > 0u ? h_before + copies : h_before, beside ? args.k : args.h_ld, row0,
            w_begin() + unit * (interleaved ? 4u : 1u), slice);
    if (SLICES > 1u)
        join_slices(slice, lane, lanes);
    if (outside)
        return;
    if (rolled) {
        [[dont_unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
            cell(i, unit0, row0, slice);
    } else {
        [[unroll]] for (uint i = 0u; i < ROWS * UNITS; i++)
            cell(i, unit0, row0, slice);
    }
}

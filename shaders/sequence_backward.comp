/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { float w[]; };
layout(binding = 1) readonly buffer WFours { vec4 w_fours[]; };
layout(binding = 2) readonly buffer Gy { float gy[]; };
layout(binding = 3) buffer State { float state[]; };
layout(binding = 4) buffer Carry { float carry[]; };
layout(push_constant) uniform Push { VklSequenceBackwardArgs args; };

/* Here it is a row of W_hh that is summed over: invocations beside each other have inputs beside each other. */
#define INPUTS columns
#define OUTPUTS units
#define SLICES_ABREAST true
#include "sequence_product.glsl"

uint w_at;

/* Of four inputs to one output. Past the inputs there are zeros, past the outputs whatever there is: no one asks for their sums. */
vec4 weight_column(uint four, uint output_at)
{
    uint at = w_at + (units % 4u == 0u || output_at < units ? output_at : units - 1u) * columns;
    vec4 column;
    if (columns % 4u == 0u)
        return exact || 4u * four < columns ? w_fours[at / 4u + four] : vec4(0.0);
    [[unroll]] for (uint i = 0u; i < 4u; i++) {
        uint input_at = 4u * four + i;
        column[i] = w[at + (input_at < columns ? input_at : columns - 1u)];
        column[i] = input_at < columns ? column[i] : 0.0;
    }
    return column;
}

Weights weights_of(uint four, uint group)
{
    uint first = 4u * group;
    vec4 a = weight_column(four, first), b = weight_column(four, first + 1u), c = weight_column(four, first + 2u), d = weight_column(four, first + 3u);
    return Weights(vec4(a.x, b.x, c.x, d.x), vec4(a.y, b.y, c.y, d.y), vec4(a.z, b.z, c.z, d.z), vec4(a.w, b.w, c.w, d.w));
}

const bool lstm = cell == VKL_SEQUENCE_LSTM, gru = cell == VKL_SEQUENCE_GRU;

vec4 gates_load(uint at)
{
    if (!lstm && !gru)
        return vec4(gates[at], 0.0, 0.0, 0.0);
    uint stride = lstm ? 1u : units;
    return vec4(gates[at], gates[at + stride], gates[at + 2u * stride], gates[at + 3u * stride]);
}

float gy_load(uint at)
{
    return args.gy_ld != VKL_ABSENT ? gy[at] : 0.0;
}

void main()
{
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_step = second ? -args.gates_step : args.gates_step, gy_step = second ? -args.gy_step : args.gy_step;
    uint state_step = second ? -args.state_step : args.state_step;
    uint dc_in = second ? args.dc_in_second : args.dc_in, dc_out = args.off3 + (second ? args.dc_out_second : args.dc_out);
    uint carry_at = args.off4 + (second ? args.carry_second : args.carry);
    uint first_row = gl_WorkGroupID.x * group_rows;
    uint rows = args.rows - first_row < group_rows ? args.rows - first_row : group_rows;
    w_at = args.off1 + (second ? args.w_second : args.w);

    uint gate_at[items], gy_at[items], state_at[items];
    vec4 gates_ahead[items];
    float gy_ahead[items];
    float state_ahead[items]; /* LSTM: c before the step; GRU: h before it */
    float c_after[items];
    float through[items]; /* what reaches the step beside gy and the product; of the LSTM to c */
    float at_first[items]; /* the carry of the first step, where it is not `through` */
    source_clear();
    barrier();
    [[unroll]] for (uint i = 0u; i < items; i++) {
        uint local_row = item_row(i, rows), row = first_row + local_row, unit = item_unit(i, rows), in_rows = row * units + unit;
        gate_at[i] = args.off0 + (second ? args.gates_second : args.gates_first) + row * args.gates_ld + unit * (lstm ? 4u : 1u);
        gy_at[i] = args.off2 + (second ? args.gy_second : args.gy_first) + row * args.gy_ld + unit;
        state_at[i] = args.off3 + (second ? args.state_second : args.state_first) + row * args.state_ld + unit;
        gates_ahead[i] = gates_load(gate_at[i]);
        gy_ahead[i] = gy_load(gy_at[i]);
        at_first[i] = (args.flags & VKL_SEQUENCE_CARRY) != 0u ? carry[carry_at + in_rows] : 0.0;
        through[i] = 0.0;
        if (lstm) {
            c_after[i] = state[state_at[i]];
            state_at[i] += state_step;
            if (dc_in != VKL_ABSENT)
                through[i] = state[args.off3 + dc_in + in_rows];
        }
        state_ahead[i] = lstm || gru ? state[state_at[i]] : 0.0;
        if ((args.flags & VKL_SEQUENCE_NEXT) != 0u && item_live(i, rows)) {
            vec4 next = gates_load(gate_at[i] - gates_step);
            if (lstm)
                source[local_row * input_fours + unit] = next;
            else
                source_put(local_row, unit, gru ? next.y : next.x);
            if (gru) {
                source_put(local_row, units + unit, next.z);
                source_put(local_row, 2u * units + unit, next.w);
            }
        }
    }
    weights_hold();
    barrier();

    for (uint s = 0u; s < args.steps; s++) {
        bool last = s + 1u == args.steps, next = s > 0u || (args.flags & VKL_SEQUENCE_NEXT) != 0u;
        vec4 gates_now[items];
        float gy_now[items], state_now[items];
        [[unroll]] for (uint i = 0u; i < items; i++) {
            gates_now[i] = gates_ahead[i];
            gy_now[i] = gy_ahead[i];
            state_now[i] = state_ahead[i];
            gates_ahead[i] = gates_load(gate_at[i] + (last ? 0u : gates_step));
            gy_ahead[i] = gy_load(gy_at[i] + (last ? 0u : gy_step));
            if (lstm || gru)
                state_ahead[i] = state[state_at[i] + (last ? 0u : state_step)];
        }
        if (next)
            product();
        barrier();
        [[unroll]] for (uint i = 0u; i < items; i++) {
            uint row = item_row(i, rows), unit = item_unit(i, rows);
            bool live = item_live(i, rows);
            vec4 gate = gates_now[i];
            float dh = gy_now[i];
            if (next)
                dh += sum_of(row, unit);
            dh += at_first[i];
            at_first[i] = 0.0;
            if (lstm) {
                float t = cell_tanh(c_after[i]), dc = through[i] + dh * gate.w * (1.0 - t * t);
                through[i] = dc * gate.y;
                c_after[i] = state_now[i];
                gate = vec4(dc * gate.z * (gate.x * (1.0 - gate.x)), dc * state_now[i] * (gate.y * (1.0 - gate.y)),
                            dc * gate.x * (1.0 - gate.z * gate.z), dh * t * (gate.w * (1.0 - gate.w)));
            } else if (gru) {
                float n = cell_tanh(gate.x), r = cell_sigmoid(gate.y), z = cell_sigmoid(gate.z);
                float dn = dh * (1.0 - z) * (1.0 - n * n);
                gate = vec4(dn, dn * gate.w * (r * (1.0 - r)), dh * (state_now[i] - n) * (z * (1.0 - z)), dn * r);
                at_first[i] = dh * z;
            } else {
                uint activation = cell == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU;
                gate.x = activate_backward(activation, dh, activate(activation, gate.x));
            }
            if (live) {
                gates[gate_at[i]] = gate.x;
                if (lstm) {
                    source[row * input_fours + unit] = gate;
                } else {
                    source_put(row, unit, gru ? gate.y : gate.x);
                }
                if (gru) {
                    source_put(row, units + unit, gate.z);
                    source_put(row, 2u * units + unit, gate.w);
                }
                if (lstm || gru) {
                    uint stride = lstm ? 1u : units;
                    gates[gate_at[i] + stride] = gate.y;
                    gates[gate_at[i] + 2u * stride] = gate.z;
                    gates[gate_at[i] + 3u * stride] = gate.w;
                }
            }
            gate_at[i] += gates_step;
            gy_at[i] += gy_step;
            state_at[i] += state_step;
        }
        barrier();
    }
    [[unroll]] for (uint i = 0u; i < items; i++) {
        uint in_rows = (first_row + item_row(i, rows)) * units + item_unit(i, rows);
        if (lstm && item_live(i, rows))
            state[dc_out + in_rows] = through[i];
        if (gru && item_live(i, rows))
            carry[carry_at + in_rows] = at_first[i];
    }
}

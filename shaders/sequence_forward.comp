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
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklSequenceForwardArgs args; };

/* Invocations beside each other have outputs beside each other, as W_hh has them. */
#define INPUTS units
#define OUTPUTS columns
#define SLICES_ABREAST false
#include "sequence_product.glsl"

uint w_at;

/* Past the inputs there are zeros, past the outputs whatever there is: no one asks for their sums. */
vec4 weight_row(uint input_at, uint group)
{
    bool inside = exact || input_at < units;
    uint at = (inside ? input_at : units - 1u) * columns;
    vec4 row;
    if (columns % 4u == 0u)
        row = w_fours[w_at / 4u + at / 4u + group];
    else
        [[unroll]] for (uint i = 0u; i < 4u; i++)
            row[i] = w[w_at + at + (4u * group + i < columns ? 4u * group + i : columns - 1u)];
    return inside ? row : vec4(0.0);
}

Weights weights_of(uint four, uint group)
{
    uint first = 4u * four;
    return Weights(weight_row(first, group), weight_row(first + 1u, group), weight_row(first + 2u, group), weight_row(first + 3u, group));
}

vec4 gates_load(uint at)
{
    if (cell == VKL_SEQUENCE_LSTM)
        return vec4(gates[at], gates[at + 1u], gates[at + 2u], gates[at + 3u]);
    if (cell == VKL_SEQUENCE_GRU)
        return vec4(gates[at], gates[at + units], gates[at + 2u * units], 0.0);
    return vec4(gates[at], 0.0, 0.0, 0.0);
}

void gates_store(uint at, vec4 gate)
{
    uint stride = cell == VKL_SEQUENCE_LSTM ? 1u : units;
    gates[at] = gate.x;
    if (cell != VKL_SEQUENCE_LSTM && cell != VKL_SEQUENCE_GRU)
        return;
    gates[at + stride] = gate.y;
    gates[at + 2u * stride] = gate.z;
    gates[at + 3u * stride] = gate.w;
}

void main()
{
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_step = second ? -args.gates_step : args.gates_step, h_step = second ? -args.h_step : args.h_step;
    uint c_step = second ? -args.c_step : args.c_step, bias_at = second ? args.bias_second : args.bias;
    uint first_row = gl_WorkGroupID.x * group_rows;
    uint rows = args.rows - first_row < group_rows ? args.rows - first_row : group_rows;
    w_at = args.off1 + (second ? args.w_second : args.w);

    /* Of the LSTM c, of GRU h. */
    float state[items];
    uint gate_at[items], h_at[items], c_at[items];
    vec4 ahead[items], bias[items];
    source_clear();
    barrier();
    [[unroll]] for (uint i = 0u; i < items; i++) {
        uint local_row = item_row(i, rows), row = first_row + local_row, unit = item_unit(i, rows);
        gate_at[i] = args.off0 + (second ? args.gates_second : args.gates_first) + row * args.gates_ld + unit * (cell == VKL_SEQUENCE_LSTM ? 4u : 1u);
        h_at[i] = args.off2 + (second ? args.h_second : args.h_before) + row * args.h_ld + unit;
        c_at[i] = args.off3 + (second ? args.c_second : args.c_before) + row * units + unit;
        state[i] = h[h_at[i]];
        if (item_live(i, rows))
            source_put(local_row, unit, state[i]);
        if (cell == VKL_SEQUENCE_LSTM)
            state[i] = c[c_at[i]];
        ahead[i] = gates_load(gate_at[i]);
        bias[i] = vec4(0.0);
        if (cell == VKL_SEQUENCE_GRU && bias_at != VKL_ABSENT)
            bias[i] = vec4(w[args.off1 + bias_at + unit], w[args.off1 + bias_at + units + unit], w[args.off1 + bias_at + 2u * units + unit], 0.0);
    }
    weights_hold();
    barrier();

    for (uint s = 0u; s < args.steps; s++) {
        bool last = s + 1u == args.steps;
        /* The next step's gates are on their way while this one's product is made. */
        vec4 now[items];
        [[unroll]] for (uint i = 0u; i < items; i++) {
            now[i] = ahead[i];
            ahead[i] = gates_load(gate_at[i] + (last ? 0u : gates_step));
        }
        product();
        barrier();
        [[unroll]] for (uint i = 0u; i < items; i++) {
            uint row = item_row(i, rows), unit = item_unit(i, rows);
            bool live = item_live(i, rows);
            vec4 gate = now[i];
            float out_h;
            if (cell == VKL_SEQUENCE_LSTM) {
                gate += sums_of(row, unit);
                gate = vec4(cell_sigmoid(gate.x), cell_sigmoid(gate.y), cell_tanh(gate.z), cell_sigmoid(gate.w));
                state[i] = gate.y * state[i] + gate.x * gate.z;
                out_h = gate.w * cell_tanh(state[i]);
                c_at[i] += c_step;
                if (live && (args.keep != 0u || last))
                    c[c_at[i]] = state[i];
            } else if (cell == VKL_SEQUENCE_GRU) {
                float r_raw = gate.y + (sum_of(row, unit) + bias[i].x);
                float z_raw = gate.z + (sum_of(row, units + unit) + bias[i].y);
                float q = sum_of(row, 2u * units + unit) + bias[i].z;
                float n_raw = gate.x + cell_sigmoid(r_raw) * q, z = cell_sigmoid(z_raw);
                gate = vec4(n_raw, r_raw, z_raw, q);
                out_h = (1.0 - z) * cell_tanh(n_raw) + z * state[i];
                state[i] = out_h;
            } else {
                gate.x += sum_of(row, unit);
                out_h = activate(cell == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU, gate.x);
            }
            h_at[i] += h_step;
            if (live) {
                source_put(row, unit, out_h);
                h[h_at[i]] = out_h;
                if (args.keep != 0u)
                    gates_store(gate_at[i], gate);
            }
            gate_at[i] += gates_step;
        }
        barrier();
    }
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint cell = VKL_SEQUENCE_LSTM;
layout(constant_id = 3) const uint group_rows = 1; /* VKL_SEQUENCE_ROWS */

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { float w[]; };
layout(binding = 2) coherent buffer Hidden { float h[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklSequenceForwardArgs args; };

#define BLOCK 4096u /* terms of a sum that are added at once */

const uint columns = cell == VKL_SEQUENCE_LSTM ? 4u : cell == VKL_SEQUENCE_GRU ? 3u : 1u;

vec4 product(uint h_at, uint w_at, uint unit)
{
    vec4 total = vec4(0.0);
    uint unit_stride = cell == VKL_SEQUENCE_LSTM ? 4u : 1u, gate_stride = cell == VKL_SEQUENCE_LSTM ? 1u : args.units;
    uint at = w_at + unit * unit_stride;
    for (uint begin = 0u; begin < args.units; begin += BLOCK) {
        uint end = args.units - begin < BLOCK ? args.units : begin + BLOCK;
        vec4 sum = vec4(0.0);
        for (uint j = begin; j < end; j++)
            for (uint g = 0u; g < columns; g++)
                sum[g] += h[h_at + j] * w[at + j * columns * args.units + g * gate_stride];
        total += sum;
    }
    return total;
}

void main()
{
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_at = args.off0 + (second ? args.gates_second : args.gates_first), gates_step = second ? -args.gates_step : args.gates_step;
    uint h_at = args.off2 + (second ? args.h_second : args.h_before), h_step = second ? -args.h_step : args.h_step;
    uint c_at = args.off3 + (second ? args.c_second : args.c_before), c_step = second ? -args.c_step : args.c_step;
    uint w_at = args.off1 + (second ? args.w_second : args.w), bias = second ? args.bias_second : args.bias;
    uint first_row = gl_WorkGroupID.x * group_rows;
    uint rows = args.rows - first_row < group_rows ? args.rows - first_row : group_rows;

    uint c_prev = c_at;
    for (uint s = 0u; s < args.steps; s++) {
        bool last = s + 1u == args.steps;
        uint c_next = args.keep != 0u || last ? c_at + c_step * (s + 1u) : c_at + c_step * args.steps;
        for (uint i = gl_LocalInvocationID.x; i < rows * args.units; i += gl_WorkGroupSize.x) {
            uint row = first_row + i / args.units, unit = i % args.units;
            uint gate = gates_at + row * args.gates_ld, out_at = h_at + h_step + row * args.h_ld + unit;
            vec4 rec = product(h_at + row * args.h_ld, w_at, unit);
            if (cell == VKL_SEQUENCE_LSTM) {
                gate += 4u * unit;
                float in_gate = cell_sigmoid(gates[gate] + rec.x), f = cell_sigmoid(gates[gate + 1u] + rec.y);
                float g = cell_tanh(gates[gate + 2u] + rec.z), o = cell_sigmoid(gates[gate + 3u] + rec.w);
                uint c_row = row * args.units + unit;
                float state = f * c[c_prev + c_row] + in_gate * g;
                c[c_next + c_row] = state;
                h[out_at] = o * cell_tanh(state);
                if (args.keep != 0u) {
                    gates[gate] = in_gate;
                    gates[gate + 1u] = f;
                    gates[gate + 2u] = g;
                    gates[gate + 3u] = o;
                }
            } else if (cell == VKL_SEQUENCE_GRU) {
                gate += unit;
                if (bias != VKL_ABSENT)
                    for (uint g = 0u; g < 3u; g++)
                        rec[g] += w[args.off1 + bias + g * args.units + unit];
                float r_raw = gates[gate + args.units] + rec.x, z_raw = gates[gate + 2u * args.units] + rec.y;
                float n_raw = gates[gate] + cell_sigmoid(r_raw) * rec.z, z = cell_sigmoid(z_raw);
                h[out_at] = (1.0 - z) * cell_tanh(n_raw) + z * h[h_at + row * args.h_ld + unit];
                if (args.keep != 0u) {
                    gates[gate] = n_raw;
                    gates[gate + args.units] = r_raw;
                    gates[gate + 2u * args.units] = z_raw;
                    gates[gate + 3u * args.units] = rec.z;
                }
            } else {
                gate += unit;
                float raw = gates[gate] + rec.x;
                h[out_at] = activate(cell == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU, raw);
                if (args.keep != 0u)
                    gates[gate] = raw;
            }
        }
        memoryBarrierBuffer();
        barrier();
        gates_at += gates_step;
        h_at += h_step;
        c_prev = c_next;
    }
}

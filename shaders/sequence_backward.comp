/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint cell = VKL_SEQUENCE_LSTM;
layout(constant_id = 3) const uint group_rows = 1; /* VKL_SEQUENCE_ROWS */

layout(binding = 0) coherent buffer Gates { float gates[]; };
layout(binding = 1) readonly buffer W { float w[]; };
layout(binding = 2) readonly buffer Gy { float gy[]; };
layout(binding = 3) buffer State { float state[]; };
layout(binding = 4) buffer Carry { float carry[]; };
layout(push_constant) uniform Push { VklSequenceBackwardArgs args; };

#define BLOCK 4096u /* terms of a sum that are added at once */

const uint columns = cell == VKL_SEQUENCE_LSTM ? 4u : cell == VKL_SEQUENCE_GRU ? 3u : 1u;

float product(uint next, uint w_at, uint unit)
{
    float total = 0.0;
    uint k = columns * args.units, at = w_at + unit * k;
    for (uint begin = 0u; begin < k; begin += BLOCK) {
        uint end = k - begin < BLOCK ? k : begin + BLOCK;
        float sum = 0.0;
        for (uint j = begin; j < end; j++)
            sum += gates[next + j] * w[at + j];
        total += sum;
    }
    return total;
}

void main()
{
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_at = args.off0 + (second ? args.gates_second : args.gates_first), gates_step = second ? -args.gates_step : args.gates_step;
    uint gy_at = args.off2 + (second ? args.gy_second : args.gy_first), gy_step = second ? -args.gy_step : args.gy_step;
    uint state_at = args.off3 + (second ? args.state_second : args.state_first), state_step = second ? -args.state_step : args.state_step;
    uint dc_in = second ? args.dc_in_second : args.dc_in, dc_out = args.off3 + (second ? args.dc_out_second : args.dc_out);
    uint carry_at = args.off4 + (second ? args.carry_second : args.carry), w_at = args.off1 + (second ? args.w_second : args.w);
    uint first_row = gl_WorkGroupID.x * group_rows;
    uint rows = args.rows - first_row < group_rows ? args.rows - first_row : group_rows;
    uint h_view = cell == VKL_SEQUENCE_GRU ? args.units : 0u;

    for (uint s = 0u; s < args.steps; s++) {
        bool next = s > 0u || (args.flags & VKL_SEQUENCE_NEXT) != 0u, carried = (args.flags & VKL_SEQUENCE_CARRY) != 0u;
        for (uint i = gl_LocalInvocationID.x; i < rows * args.units; i += gl_WorkGroupSize.x) {
            uint row = first_row + i / args.units, unit = i % args.units, in_rows = row * args.units + unit;
            uint gate = gates_at + row * args.gates_ld;
            float dh = args.gy_ld != VKL_ABSENT ? gy[gy_at + row * args.gy_ld + unit] : 0.0;
            if (next)
                dh += product(gate - gates_step + h_view, w_at, unit);
            if (s == 0u ? carried : cell == VKL_SEQUENCE_GRU)
                dh += carry[carry_at + in_rows];
            if (cell == VKL_SEQUENCE_LSTM) {
                gate += 4u * unit;
                float in_gate = gates[gate], f = gates[gate + 1u], g = gates[gate + 2u], o = gates[gate + 3u];
                /* between steps dc lies where it goes in the end, unless c is there still */
                uint dc_at = s == 0u ? args.off3 + dc_in : state_at - state_step;
                float t = cell_tanh(state[state_at + in_rows]), dc = s == 0u && dc_in == VKL_ABSENT ? 0.0 : state[dc_at + in_rows];
                dc += dh * o * (1.0 - t * t);
                float c_prev = state[state_at + state_step + in_rows];
                state[(s + 1u == args.steps ? dc_out : state_at) + in_rows] = dc * f;
                gates[gate] = dc * g * (in_gate * (1.0 - in_gate));
                gates[gate + 1u] = dc * c_prev * (f * (1.0 - f));
                gates[gate + 2u] = dc * in_gate * (1.0 - g * g);
                gates[gate + 3u] = dh * t * (o * (1.0 - o));
            } else if (cell == VKL_SEQUENCE_GRU) {
                gate += unit;
                float n = cell_tanh(gates[gate]), r = cell_sigmoid(gates[gate + args.units]), z = cell_sigmoid(gates[gate + 2u * args.units]);
                float q = gates[gate + 3u * args.units];
                float dn = dh * (1.0 - z) * (1.0 - n * n);
                gates[gate] = dn;
                gates[gate + args.units] = dn * q * (r * (1.0 - r));
                gates[gate + 2u * args.units] = dh * (state[state_at + row * args.state_ld + unit] - n) * (z * (1.0 - z));
                gates[gate + 3u * args.units] = dn * r;
                carry[carry_at + in_rows] = dh * z;
            } else {
                gate += unit;
                float raw = gates[gate], y = activate(cell == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU, raw);
                gates[gate] = activate_backward(cell == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU, dh, y);
            }
        }
        memoryBarrierBuffer();
        barrier();
        gates_at += gates_step;
        gy_at += gy_step;
        state_at += state_step;
    }
}

/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint form = VKL_SEQUENCE_LSTM;
layout(constant_id = VKL_SPEC_AGENTS_TERMS) const uint TERMS = 1;
layout(constant_id = VKL_SPEC_AGENTS_FOURS) const uint FOURS = 1;

layout(binding = 0) readonly buffer Params { float params[]; };
layout(binding = 0) readonly buffer ParamsWide { vec4 params_wide[]; };
layout(binding = 1) readonly buffer Inputs { float x[]; };
layout(binding = 2) buffer Hidden { float h[]; };
layout(binding = 3) buffer Cells { float c[]; };
layout(binding = 4) readonly buffer Reset { uint reset[]; };
layout(binding = 5) readonly buffer Count { uint count[]; };
layout(push_constant) uniform Push { VklAgentsForwardArgs args; };

const uint ROWS = 4u * FOURS;
const bool lstm = form == VKL_SEQUENCE_LSTM, gru = form == VKL_SEQUENCE_GRU;

/* x and h of the workgroup's rows, four rows in a vector. So h may be written where it was read. */
shared vec4 operand[TERMS * FOURS];

uint live;

bool begins_anew(uint row)
{
    bool is = false;
    if ((args.flags & VKL_AGENTS_RESET) != 0u)
        is = reset[args.off4 + row] != 0u;
    return is;
}

void load(uint row0)
{
    for (uint i = gl_LocalInvocationID.x; i < TERMS * FOURS; i += gl_WorkGroupSize.x) {
        uint term = i / FOURS;
        vec4 four = vec4(0.0);
        [[unroll]] for (uint q = 0u; q < 4u; q++) {
            uint row = row0 + i % FOURS * 4u + q;
            if (row < live) {
                if (term < args.inputs)
                    four[q] = x[args.off1 + row * args.inputs + term];
                else if (!begins_anew(row))
                    four[q] = h[args.off2 + row * args.units + term - args.inputs];
            }
        }
        operand[i] = four;
    }
}

/* The columns of a unit in a row of W: LSTM i f g o; GRU n r z of x, of h in the place of n nothing and behind z its own. */
vec4 weights(uint at, uint unit, bool of_h)
{
    if (lstm)
        return params_wide[(at >> 2) + unit];
    vec4 w = vec4(params[at + unit], 0.0, 0.0, 0.0);
    if (gru)
        w = of_h ? vec4(0.0, w.x, params[at + args.units + unit], params[at + 2u * args.units + unit])
                 : vec4(w.x, params[at + args.units + unit], params[at + 2u * args.units + unit], 0.0);
    return w;
}

vec4 biases(uint unit)
{
    uint columns = lstm ? 4u * args.units : gru ? 3u * args.units : args.units;
    vec4 sum = vec4(0.0);
    for (uint row = 0u; row < args.bias_rows; row++)
        sum += weights(args.off0 + args.b_ih + row * columns, unit, false);
    if (gru && args.b_hh != VKL_ABSENT)
        sum += weights(args.off0 + args.b_hh, unit, true);
    return sum;
}

void cell(uint row, uint unit, vec4 pre)
{
    uint at = row * args.units + unit;
    float y;
    if (lstm) {
        float before = begins_anew(row) ? 0.0 : c[args.off3 + at];
        float after = cell_sigmoid(pre.y) * before + cell_sigmoid(pre.x) * cell_tanh(pre.z);
        c[args.off3 + at] = after;
        y = cell_sigmoid(pre.w) * cell_tanh(after);
    } else if (gru) {
        float before = begins_anew(row) ? 0.0 : h[args.off2 + at], z = cell_sigmoid(pre.z);
        y = (1.0 - z) * cell_tanh(pre.x + cell_sigmoid(pre.y) * pre.w) + z * before;
    } else {
        y = activate(form == VKL_SEQUENCE_RNN_TANH ? ACTIVATION_TANH : ACTIVATION_RELU, pre.x);
    }
    h[args.off2 + at] = y;
}

void main()
{
    uint row0 = gl_WorkGroupID.x * ROWS, columns = lstm ? 4u * args.units : gru ? 3u * args.units : args.units;
    live = args.rows;
    if ((args.flags & VKL_AGENTS_COUNT) != 0u) {
        uint all = count[args.off5];
        live = min(live, max(all, args.first) - args.first);
    }
    load(row0);
    barrier();
    for (uint unit = gl_LocalInvocationID.x; unit < args.units; unit += gl_WorkGroupSize.x) {
        vec4 input_sum[ROWS], sum[ROWS];
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            input_sum[r] = sum[r] = vec4(0.0);
        uint at = args.off0 + args.w_ih;
        for (uint k = 0u; k < args.inputs; k++, at += columns) {
            vec4 w = weights(at, unit, false);
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                input_sum[r] += operand[k * FOURS + r / 4u][r & 3u] * w;
        }
        at = args.off0 + args.w_hh;
        for (uint k = args.inputs; k < TERMS; k++, at += columns) {
            vec4 w = weights(at, unit, true);
            [[unroll]] for (uint r = 0u; r < ROWS; r++)
                sum[r] += operand[k * FOURS + r / 4u][r & 3u] * w;
        }
        vec4 bias = biases(unit);
        [[unroll]] for (uint r = 0u; r < ROWS; r++)
            if (row0 + r < live)
                cell(row0 + r, unit, (input_sum[r] + bias) + sum[r]);
    }
}

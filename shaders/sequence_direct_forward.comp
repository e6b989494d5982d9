/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* Many time steps of an LSTM on a device that is a CPU, as gemm_lanes.comp multiplies: a subgroup goes through time with some rows of the
 * batch, a lane has the four gates of one unit of all of them, then of the next. No barrier: nobody else reads what the subgroup writes. */
layout(local_size_x_id = 0) in;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_ROWS) const uint rows = 16;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_LANES) const uint lanes = 8;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_VARIANT) const uint variant = VKL_SEQUENCE_EDGE;

const bool wide_gates = (variant & VKL_SEQUENCE_WIDE_GATES) != 0u, wide_h = (variant & VKL_SEQUENCE_WIDE_STATE) != 0u;
const bool edge = (variant & VKL_SEQUENCE_EDGE) != 0u;
/* A load of h in all lanes: of `rows` rows if they are as many, else several times four terms of each. */
const uint panels = rows > lanes ? rows / lanes : 1u, abreast = rows < lanes ? lanes / rows : 1u, panel_rows = rows / panels;
const uint depth = 4u * abreast; /* terms of one turn of the loop */

layout(binding = 0) buffer Gates { float gates[]; };
layout(binding = 0) buffer GatesWide { vec4 gates_wide[]; };
layout(binding = 1) readonly buffer W { vec4 w_hh[]; };
layout(binding = 2) coherent buffer Hidden { float h[]; };
layout(binding = 2) coherent buffer HiddenWide { vec4 h_wide[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(push_constant) uniform Push { VklSequenceForwardArgs args; };

/* What is beyond the edge repeats the last one, and is not stored. */
uint held(uint index, uint count)
{
    return edge && index >= count ? count - 1u : index;
}

vec4 fetch_h(uint at, uint k)
{
    if (wide_h)
        return k < args.units ? h_wide[(at + k) >> 2] : vec4(0.0);
    vec4 x;
    [[unroll]] for (uint j = 0u; j < 4u; j++)
        x[j] = k + j < args.units ? h[at + k + j] : 0.0;
    return x;
}

void main()
{
    uint lane = gl_SubgroupInvocationID, first_row = gl_WorkGroupID.x * rows;
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_step = second ? -args.gates_step : args.gates_step, h_step = second ? -args.h_step : args.h_step;
    uint c_step = second ? -args.c_step : args.c_step;
    uint gates_at = args.off0 + (second ? args.gates_second : args.gates_first);
    uint w_at = (args.off1 + (second ? args.w_second : args.w)) >> 2;
    uint h_at = args.off2 + (second ? args.h_second : args.h_before);
    uint c_at = args.off3 + (second ? args.c_second : args.c_before), c_end = c_at + args.steps * c_step;
    uint groups = (args.units + lanes - 1u) / lanes, each = (groups + gl_NumWorkGroups.z - 1u) / gl_NumWorkGroups.z;
    uint first_unit = gl_WorkGroupID.z * each * lanes;
    uint end_unit = args.units - first_unit < each * lanes || first_unit > args.units ? args.units : first_unit + each * lanes;

    for (uint s = 0u; s < args.steps; s++) {
        /* c between the steps: in the slots that are kept, or where it will be in the end */
        uint c_next = args.keep != 0u ? c_at + c_step : c_end;
        for (uint unit = first_unit + lane; unit - lane < end_unit; unit += lanes) {
            uint mine = held(unit, args.units);
            vec4 sum[rows];
            [[unroll]] for (uint r = 0u; r < rows; r++)
            {
                uint row = held(first_row + r, args.rows);
                uint gate_at = gates_at + row * args.gates_ld + 4u * mine;
                if (wide_gates)
                    sum[r] = gates_wide[gate_at >> 2];
                else
                    sum[r] = vec4(gates[gate_at], gates[gate_at + 1u], gates[gate_at + 2u], gates[gate_at + 3u]);
            }
            for (uint k = 0u; k < args.units; k += depth) {
                vec4 x[panels];
                [[unroll]] for (uint p = 0u; p < panels; p++)
                    x[p] = fetch_h(h_at + held(first_row + p * lanes + lane % panel_rows, args.rows) * args.h_ld, k + lane / panel_rows * 4u);
                [[unroll]] for (uint j = 0u; j < depth; j++) {
                    vec4 right = w_hh[w_at + held(k + j, args.units) * args.units + mine];
                    if (edge && k + j >= args.units)
                        right = vec4(0.0);
                    [[unroll]] for (uint r = 0u; r < rows; r++)
                        sum[r] += subgroupShuffle(x[r / lanes][j & 3u], j / 4u * panel_rows + r % lanes) * right;
                }
            }
            [[unroll]] for (uint r = 0u; r < rows; r++) {
                uint row = held(first_row + r, args.rows);
                bool there = !edge || (first_row + r < args.rows && unit < args.units);
                uint gate_at = gates_at + row * args.gates_ld + 4u * mine, cell_at = row * args.units + mine;
                vec4 pre = sum[r];
                vec4 gate = vec4(cell_sigmoid(pre.x), cell_sigmoid(pre.y), cell_tanh(pre.z), cell_sigmoid(pre.w));
                float cell = gate.y * c[c_at + cell_at] + gate.x * gate.z;
                if (there) {
                    c[c_next + cell_at] = cell;
                    h[h_at + h_step + row * args.h_ld + mine] = gate.w * cell_tanh(cell);
                }
                if (there && args.keep != 0u) {
                    if (wide_gates) {
                        gates_wide[gate_at >> 2] = gate;
                    } else {
                        gates[gate_at] = gate.x;
                        gates[gate_at + 1u] = gate.y;
                        gates[gate_at + 2u] = gate.z;
                        gates[gate_at + 3u] = gate.w;
                    }
                }
            }
        }
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
        c_at = c_next;
        h_at += h_step;
        gates_at += gates_step;
    }
}

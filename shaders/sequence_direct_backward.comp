/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"

/* Many time steps of an LSTM, backward, on a device that is a CPU: as sequence_direct_forward.comp, but a lane has four units of all rows of its
 * subgroup. */
layout(local_size_x_id = 0) in;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_ROWS) const uint rows = 16;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_LANES) const uint lanes = 8;
layout(constant_id = VKL_SEQUENCE_DIRECT_SPEC_VARIANT) const uint variant = VKL_SEQUENCE_EDGE;

const bool wide_gates = (variant & VKL_SEQUENCE_WIDE_GATES) != 0u, wide_state = (variant & VKL_SEQUENCE_WIDE_STATE) != 0u;
const bool edge = (variant & VKL_SEQUENCE_EDGE) != 0u;
const uint panels = rows > lanes ? rows / lanes : 1u, abreast = rows < lanes ? lanes / rows : 1u, panel_rows = rows / panels;

layout(binding = 0) coherent buffer Gates { float gates[]; };
layout(binding = 0) coherent buffer GatesWide { vec4 gates_wide[]; };
layout(binding = 1) readonly buffer W { vec4 w_hh[]; };
layout(binding = 2) readonly buffer Dy { float gy[]; };
layout(binding = 2) readonly buffer DyWide { vec4 gy_wide[]; };
layout(binding = 3) buffer Cell { float c[]; };
layout(binding = 3) buffer CellWide { vec4 c_wide[]; };
layout(binding = 4) readonly buffer Carry { float carry[]; };
layout(push_constant) uniform Push { VklSequenceBackwardArgs args; };

/* What is beyond the edge repeats the last one, and is not stored. */
uint held(uint index, uint count)
{
    return edge && index >= count ? count - 1u : index;
}

/* Gates are four of a unit, and vectors of four units otherwise; `unit` is the first of four. */
vec4 gates_load(uint at)
{
    if (wide_gates)
        return gates_wide[at >> 2];
    return vec4(gates[at], gates[at + 1u], gates[at + 2u], gates[at + 3u]);
}

vec4 c_load(uint at, uint unit)
{
    if (wide_state)
        return c_wide[(at + held(unit, args.units - 3u)) >> 2];
    return vec4(c[at + held(unit, args.units)], c[at + held(unit + 1u, args.units)], c[at + held(unit + 2u, args.units)],
                c[at + held(unit + 3u, args.units)]);
}

vec4 gy_load(uint at, uint unit)
{
    if (wide_state)
        return gy_wide[(at + held(unit, args.units - 3u)) >> 2];
    return vec4(gy[at + held(unit, args.units)], gy[at + held(unit + 1u, args.units)], gy[at + held(unit + 2u, args.units)],
                gy[at + held(unit + 3u, args.units)]);
}

void main()
{
    uint lane = gl_SubgroupInvocationID, first_row = gl_WorkGroupID.x * rows;
    bool second = gl_WorkGroupID.y == 1u;
    uint gates_step = second ? -args.gates_step : args.gates_step, gy_step = second ? -args.gy_step : args.gy_step;
    uint c_step = second ? -args.state_step : args.state_step;
    uint gates_at = args.off0 + (second ? args.gates_second : args.gates_first);
    uint w_at = (args.off1 + (second ? args.w_second : args.w)) >> 2;
    uint gy_at = args.off2 + (second ? args.gy_second : args.gy_first);
    uint c_at = args.off3 + (second ? args.state_second : args.state_first);
    uint dc_in = second ? args.dc_in_second : args.dc_in, dc_out = args.off3 + (second ? args.dc_out_second : args.dc_out);
    uint carry_at = args.off4 + (second ? args.carry_second : args.carry);
    bool has_gy = args.gy_ld != VKL_ABSENT, has_dc = dc_in != VKL_ABSENT, has_next = (args.flags & VKL_SEQUENCE_NEXT) != 0u;
    bool has_carry = (args.flags & VKL_SEQUENCE_CARRY) != 0u;
    uint dc_at = args.off3 + (has_dc ? dc_in : 0u);
    uint groups = (args.units + 4u * lanes - 1u) / (4u * lanes), each = (groups + gl_NumWorkGroups.z - 1u) / gl_NumWorkGroups.z;
    uint first_unit = gl_WorkGroupID.z * each * 4u * lanes;
    uint end_unit = args.units - first_unit < each * 4u * lanes || first_unit > args.units ? args.units : first_unit + each * 4u * lanes;

    for (uint s = 0u; s < args.steps; s++) {
        uint next_at = gates_at - gates_step, terms = has_next ? args.units : 0u;
        uint to = s + 1u == args.steps ? dc_out : c_at; /* dc between the steps is left where c is not read any more */
        for (uint unit = first_unit + 4u * lane; unit - 4u * lane < end_unit; unit += 4u * lanes) {
            vec4 sum[rows]; /* dh of four units */
            [[unroll]] for (uint r = 0u; r < rows; r++)
                sum[r] = vec4(0.0);
            for (uint k = 0u; k < terms; k += abreast) {
                vec4 x[panels];
                [[unroll]] for (uint p = 0u; p < panels; p++) {
                    uint term = k + lane / panel_rows;
                    x[p] = gates_load(next_at + held(first_row + p * lanes + lane % panel_rows, args.rows) * args.gates_ld + 4u * held(term, args.units));
                    if (edge && term >= args.units)
                        x[p] = vec4(0.0);
                }
                [[unroll]] for (uint j = 0u; j < abreast; j++) {
                    mat4 y;
                    [[unroll]] for (uint i = 0u; i < 4u; i++) {
                        y[i] = w_hh[w_at + held(unit + i, args.units) * args.units + held(k + j, args.units)];
                        if (edge && k + j >= args.units)
                            y[i] = vec4(0.0);
                    }
                    y = transpose(y);
                    [[unroll]] for (uint g = 0u; g < 4u; g++)
                        [[unroll]] for (uint r = 0u; r < rows; r++)
                            sum[r] += subgroupShuffle(x[r / lanes][g], j * panel_rows + r % lanes) * y[g];
                }
            }
            [[unroll]] for (uint r = 0u; r < rows; r++) {
                uint row = held(first_row + r, args.rows), cell_at = row * args.units;
                uint gate_at = gates_at + row * args.gates_ld;
                bool row_there = !edge || first_row + r < args.rows;
                vec4 dh = sum[r];
                if (has_gy)
                    dh += gy_load(gy_at + row * args.gy_ld, unit);
                if (has_carry)
                    dh += vec4(carry[carry_at + cell_at + held(unit, args.units)], carry[carry_at + cell_at + held(unit + 1u, args.units)],
                               carry[carry_at + cell_at + held(unit + 2u, args.units)], carry[carry_at + cell_at + held(unit + 3u, args.units)]);
                vec4 after = c_load(c_at + cell_at, unit), before = c_load(c_at + c_step + cell_at, unit);
                vec4 dc = vec4(0.0);
                if (has_dc)
                    dc = c_load(dc_at + cell_at, unit);
                [[unroll]] for (uint i = 0u; i < 4u; i++) {
                    uint at = gate_at + 4u * held(unit + i, args.units);
                    vec4 gate = gates_load(at);
                    float t = cell_tanh(after[i]);
                    float d = dc[i] + dh[i] * gate.w * (1.0 - t * t);
                    dc[i] = d * gate.y;
                    gate = vec4(d * gate.z * (gate.x * (1.0 - gate.x)), d * before[i] * (gate.y * (1.0 - gate.y)),
                                d * gate.x * (1.0 - gate.z * gate.z), dh[i] * t * (gate.w * (1.0 - gate.w)));
                    if (row_there && (!edge || unit + i < args.units)) {
                        if (wide_gates) {
                            gates_wide[at >> 2] = gate;
                        } else {
                            gates[at] = gate.x;
                            gates[at + 1u] = gate.y;
                            gates[at + 2u] = gate.z;
                            gates[at + 3u] = gate.w;
                        }
                        if (!wide_state)
                            c[to + cell_at + unit + i] = dc[i];
                    }
                }
                if (wide_state && row_there && (!edge || unit < args.units))
                    c_wide[(to + cell_at + unit) >> 2] = dc;
            }
        }
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
        has_next = true;
        has_dc = true;
        has_carry = false;
        dc_at = c_at;
        c_at += c_step;
        gy_at += gy_step;
        gates_at += gates_step;
    }
}

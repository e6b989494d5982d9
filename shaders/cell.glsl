/* SPDX-License-Identifier: MIT
 *
 * The cells of the complete operator for one row and unit, without any product: what POINT and STEP kernels share. A shader that includes
 * this has declared the buffer `gates`, and defined the activations and clips as CELL_KINDS, CELL_ALPHA(i), CELL_BETA(i), CELL_PREACT_CLIP and
 * CELL_CLIP, CELL_COUPLED, CELL_KEEP, and option_at(position) for peepholes and b_hh.
 */
#include "gates.glsl"

/* Where a unit's gates are, and its peepholes or b_hh (VKL_ABSENT: none), `option_stride` apart. */
struct Unit {
    uint at, stride;
    uint option, option_stride;
};

/* Phases of a GRU. */
#define GRU_AFTER 0u
#define GRU_FIRST 1u
#define GRU_SECOND 2u

float gate_f(float raw, out float slope)
{
    return gate(CELL_KINDS & 0xffu, CELL_ALPHA(0), CELL_BETA(0), CELL_PREACT_CLIP, raw, slope);
}

float gate_g(float raw, out float slope)
{
    return gate(CELL_KINDS >> 8 & 0xffu, CELL_ALPHA(1), CELL_BETA(1), CELL_PREACT_CLIP, raw, slope);
}

float gate_h(float raw, out float slope)
{
    return gate(CELL_KINDS >> 16 & 0xffu, CELL_ALPHA(2), CELL_BETA(2), 0.0, raw, slope);
}

/* The cell before its clip, with the same bits forward and backward, so that both see it on the same side of the clip. */
float cell_of(float f, float c_prev, float i, float g)
{
    precise float cell = f * c_prev + i * g;
    return cell;
}

/* ---- Forward: from the gates' row and the recurrent product ---- */

float lstm_forward(Unit unit, vec4 rec, inout float c)
{
    uint at = unit.at, stride = unit.stride;
    vec4 pre = vec4(gates[at], gates[at + stride], gates[at + 2u * stride], gates[at + 3u * stride]) + rec;
    if (unit.option != VKL_ABSENT) {
        pre.x += option_at(unit.option) * c;
        pre.y += option_at(unit.option + unit.option_stride) * c;
    }
    float slope;
    float i = gate_f(pre.x, slope), f = gate_f(pre.y, slope), g = gate_g(pre.z, slope);
    f = CELL_COUPLED ? 1.0 - i : f;
    float cell = clip(cell_of(f, c, i, g), CELL_CLIP);
    if (unit.option != VKL_ABSENT)
        pre.w += option_at(unit.option + 2u * unit.option_stride) * cell;
    float o = gate_f(pre.w, slope);
    c = cell;
    if (CELL_KEEP) {
        gates[at] = pre.x;
        gates[at + stride] = pre.y;
        gates[at + 2u * stride] = pre.z;
        gates[at + 3u * stride] = pre.w;
    }
    return o * gate_h(cell, slope);
}

/* h after the step; in the first phase of reset before r * h_prev, h_prev being the operand of r. */
float gru_forward(Unit unit, vec4 rec, float h_prev, uint phase)
{
    uint at = unit.at, stride = unit.stride;
    float n_raw = gates[at], r_raw = gates[at + stride], z_raw = gates[at + 2u * stride], q = 0.0;
    if (phase == GRU_SECOND) {
        n_raw += rec.x;
    } else {
        r_raw += rec.x;
        z_raw += rec.y;
    }
    if (phase == GRU_AFTER) {
        q = rec.z;
        if (unit.option != VKL_ABSENT) {
            r_raw += option_at(unit.option);
            z_raw += option_at(unit.option + unit.option_stride);
            q += option_at(unit.option + 2u * unit.option_stride);
        }
    }

    float slope, y = 0.0;
    if (phase != GRU_SECOND) {
        float r = gate_f(r_raw, slope);
        if (phase == GRU_FIRST)
            y = r * h_prev;
        else
            n_raw += r * q;
        if (CELL_KEEP) {
            gates[at + stride] = r_raw;
            gates[at + 2u * stride] = z_raw;
        }
    }
    if (phase != GRU_FIRST) {
        float n = gate_g(n_raw, slope), z = gate_f(z_raw, slope);
        y = (1.0 - z) * n + z * h_prev;
        if (CELL_KEEP)
            gates[at] = n_raw;
        if (CELL_KEEP && phase == GRU_AFTER)
            gates[at + 3u * stride] = q;
    }
    return y;
}

float rnn_forward(Unit unit, vec4 rec)
{
    float raw = gates[unit.at] + rec.x, slope;
    float y = gate_f(raw, slope);
    if (CELL_KEEP)
        gates[unit.at] = raw;
    return y;
}

/* ---- Backward: gates become gradients; what is returned is the part of dh that goes on to h before the step ---- */

float lstm_backward(Unit unit, bool frozen_row, float dh, float c_prev, float c_t, inout float dc)
{
    uint at = unit.at, stride = unit.stride;
    vec4 d = vec4(0.0); /* of the pre-activations */
    float carry = dh;
    if (!frozen_row) {
        float p_i = 0.0, p_f = 0.0, p_o = 0.0;
        if (unit.option != VKL_ABSENT) {
            p_i = option_at(unit.option);
            p_f = option_at(unit.option + unit.option_stride);
            p_o = option_at(unit.option + 2u * unit.option_stride);
        }
        float i_slope, f_slope, g_slope, o_slope, h_slope;
        float i = gate_f(gates[at], i_slope), f = gate_f(gates[at + stride], f_slope);
        float g = gate_g(gates[at + 2u * stride], g_slope), o = gate_f(gates[at + 3u * stride], o_slope);
        float t = gate_h(c_t, h_slope);
        f = CELL_COUPLED ? 1.0 - i : f;

        d.w = dh * t * o_slope;
        dc += dh * o * h_slope + d.w * p_o;
        dc *= clip_slope(cell_of(f, c_prev, i, g), CELL_CLIP);
        d.x = dc * (CELL_COUPLED ? g - c_prev : g) * i_slope;
        d.y = CELL_COUPLED ? 0.0 : dc * c_prev * f_slope;
        d.z = dc * i * g_slope;
        dc = dc * f + d.x * p_i + d.y * p_f;
        carry = 0.0;
    }
    gates[at] = d.x;
    gates[at + stride] = d.y;
    gates[at + 2u * stride] = d.z;
    gates[at + 3u * stride] = d.w;
    return carry;
}

/* Reset after, and the first phase of reset before. */
float gru_backward(Unit unit, bool frozen_row, float dh, float h_prev, uint phase)
{
    uint at = unit.at, stride = unit.stride;
    vec4 d = vec4(0.0); /* of the arguments of n, r, z, and of W_hn h + b_hn */
    float carry = dh;
    if (!frozen_row) {
        float n_slope, n = gate_g(gates[at], n_slope);
        float z_slope, z = gate_f(gates[at + 2u * stride], z_slope);
        d.x = dh * (1.0 - z) * n_slope;
        d.z = dh * (h_prev - n) * z_slope;
        carry = dh * z;
        if (phase == GRU_AFTER) {
            float r_slope, r = gate_f(gates[at + stride], r_slope);
            d.y = d.x * gates[at + 3u * stride] * r_slope;
            d.w = d.x * r;
        }
    }
    gates[at] = d.x;
    gates[at + 2u * stride] = d.z;
    if (phase == GRU_AFTER) {
        gates[at + stride] = d.y;
        gates[at + 3u * stride] = d.w;
    }
    return carry;
}

/* The second phase of reset before: from the gradient of r * operand, that of the operand. */
float gru_reset_backward(Unit unit, bool frozen_row, float drh, float operand)
{
    float d = 0.0, back = 0.0;
    if (!frozen_row) {
        float slope, r = gate_f(gates[unit.at + unit.stride], slope);
        d = drh * operand * slope;
        back = drh * r;
    }
    gates[unit.at + unit.stride] = d;
    return back;
}

float rnn_backward(Unit unit, bool frozen_row, float dh)
{
    float carry = dh, d = 0.0;
    if (!frozen_row) {
        float slope;
        gate_f(gates[unit.at], slope);
        d = dh * slope;
        carry = 0.0;
    }
    gates[unit.at] = d;
    return carry;
}

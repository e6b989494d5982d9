/* SPDX-License-Identifier: MIT
 *
 * The product of a time step in the SEQUENCE kernels, and their work on single units. A shader that includes this has declared `args` and
 * the binding 1, defined INPUTS and OUTPUTS of the product (constants made of `units`), SLICES_ABREAST, and weights_of().
 *
 * Weights stay in the registers of the invocations that multiply them, as far as tune.c has room for them there; states and sums lie in
 * shared memory. Nothing that one step leaves to the next goes through memory.
 */
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint cell = VKL_SEQUENCE_LSTM;
layout(constant_id = VKL_SEQUENCE_SPEC_UNITS) const uint units = 32;
layout(constant_id = VKL_SEQUENCE_SPEC_SLICES) const uint slices = 2;
layout(constant_id = VKL_SEQUENCE_SPEC_HELD) const uint held = 4;
layout(constant_id = VKL_SEQUENCE_SPEC_GROUP_LANES) const uint group_lanes = 32;
layout(constant_id = VKL_SEQUENCE_SPEC_ROW_LANES) const uint row_lanes = 1;
layout(constant_id = VKL_SEQUENCE_SPEC_LANE_ROWS) const uint lane_rows = 1;
layout(constant_id = VKL_SEQUENCE_SPEC_READ_TURN) const uint read_turn = 1;

const uint lanes = row_lanes * slices * group_lanes;
const uint group_rows = row_lanes * lane_rows;
const uint gates_of_unit = cell == VKL_SEQUENCE_LSTM ? 4u : cell == VKL_SEQUENCE_GRU ? 3u : 1u;
const uint columns = gates_of_unit * units;

const uint inputs = INPUTS, outputs = OUTPUTS;
const uint groups = (outputs + 3u) / 4u;
const uint slice_fours = ((inputs + 3u) / 4u + slices - 1u) / slices;
const uint input_fours = slice_fours * slices; /* what is past the inputs is 0, and so are its weights */
const bool exact = 4u * input_fours == inputs;
const uint held_array = held == 0u ? 1u : 4u * held;
const uint passes = (groups + group_lanes - 1u) / group_lanes;

/* Parts of sums lie as they are written beside each other, with one place more in between where units would be a power of two apart. */
const uint part_group = SLICES_ABREAST ? slices + 1u : 1u;
const uint part_slice = SLICES_ABREAST ? 1u : groups;
const uint part_row = SLICES_ABREAST ? groups * (slices + 1u) : groups * slices;

shared vec4 source[group_rows * input_fours];
shared vec4 part[group_rows * part_row];

uint slice_of(uint lane)
{
    return SLICES_ABREAST ? lane % slices : lane / group_lanes % slices;
}

uint group_of(uint lane)
{
    return SLICES_ABREAST ? lane / slices % group_lanes : lane % group_lanes;
}

void source_put(uint row, uint input_at, float value)
{
    source[row * input_fours + input_at / 4u][input_at % 4u] = value;
}

void source_clear()
{
    for (uint i = gl_LocalInvocationID.x; i < group_rows * input_fours; i += lanes)
        source[i] = vec4(0.0);
}

/* The weights of four inputs to four outputs: w[i] has those of input i. */
struct Weights {
    vec4 input0, input1, input2, input3;
};

Weights weights_of(uint four, uint group);

vec4 multiply_add(vec4 sum, vec4 x, vec4 w0, vec4 w1, vec4 w2, vec4 w3)
{
    sum += x.x * w0;
    sum += x.y * w1;
    sum += x.z * w2;
    sum += x.w * w3;
    return sum;
}

vec4 held_weights[held_array];

void weights_hold()
{
    if (held == 0u)
        return;
    uint lane = gl_LocalInvocationID.x, slice = slice_of(lane), group = group_of(lane);
    [[unroll]] for (uint k = 0u; k < held; k++) {
        Weights w = weights_of(k * slices + slice, group);
        held_weights[4u * k] = w.input0;
        held_weights[4u * k + 1u] = w.input1;
        held_weights[4u * k + 2u] = w.input2;
        held_weights[4u * k + 3u] = w.input3;
    }
}

const uint read_first = (slice_fours - held) % read_turn;

vec4 sum[lane_rows];

void multiply_add_read(uint k, uint group, uint slice, uint at)
{
    Weights w = weights_of(k * slices + slice, group);
    [[unroll]] for (uint r = 0u; r < lane_rows; r++)
        sum[r] = multiply_add(sum[r], source[at + r * input_fours + k * slices], w.input0, w.input1, w.input2, w.input3);
}

/* From `source` to `part`. */
void product()
{
    uint lane = gl_LocalInvocationID.x, slice = slice_of(lane);
    uint first_row = lane / (slices * group_lanes) * lane_rows;
    for (uint pass = 0u; pass < passes; pass++) {
        uint group = pass * group_lanes + group_of(lane);
        if (passes > 1u && group >= groups)
            break;
        [[unroll]] for (uint r = 0u; r < lane_rows; r++)
            sum[r] = vec4(0.0);
        uint at = first_row * input_fours + slice;
        [[unroll]] for (uint k = 0u; k < held; k++)
            [[unroll]] for (uint r = 0u; r < lane_rows; r++)
                sum[r] = multiply_add(sum[r], source[at + r * input_fours + k * slices], held_weights[4u * k], held_weights[4u * k + 1u],
                                      held_weights[4u * k + 2u], held_weights[4u * k + 3u]);
        [[unroll]] for (uint k = held; k < held + read_first; k++)
            multiply_add_read(k, group, slice, at);
        if (held + read_first < slice_fours) { /* a loop of no turns that is not to be unrolled stays where it is */
            [[dont_unroll]] for (uint k = held + read_first; k < slice_fours; k += read_turn) {
                [[unroll]] for (uint i = 0u; i < read_turn; i++)
                    multiply_add_read(k + i, group, slice, at);
            }
        }
        [[unroll]] for (uint r = 0u; r < lane_rows; r++)
            part[(first_row + r) * part_row + group * part_group + slice * part_slice] = sum[r];
    }
}

/* Sums of four outputs, and of one. */
vec4 sums_of(uint row, uint group)
{
    uint at = row * part_row + group * part_group;
    vec4 sum = part[at];
    for (uint i = 1u; i < slices; i++)
        sum += part[at + i * part_slice];
    return sum;
}

float sum_of(uint row, uint output_at)
{
    uint at = row * part_row + output_at / 4u * part_group;
    float sum = part[at][output_at % 4u];
    for (uint i = 1u; i < slices; i++)
        sum += part[at + i * part_slice][output_at % 4u];
    return sum;
}

/* What is done for each row and unit by itself: an invocation has `items` of them, those past the end repeat the first and are not
 * `live`. */
const uint items = (group_rows * units + lanes - 1u) / lanes;

bool item_live(uint i, uint rows)
{
    uint item = gl_LocalInvocationID.x + i * lanes;
    return item < rows * units;
}

uint item_row(uint i, uint rows)
{
    return item_live(i, rows) ? (gl_LocalInvocationID.x + i * lanes) / units : 0u;
}

uint item_unit(uint i, uint rows)
{
    return item_live(i, rows) ? (gl_LocalInvocationID.x + i * lanes) % units : 0u;
}

/* SPDX-License-Identifier: MIT
 *
 * Sums over a workgroup, as a tree of fixed order. For workgroups of any size up to 128.
 */
layout(local_size_x_id = 0) in;

/* Terms that an invocation adds to its total at once: rounding errors then grow with the number of blocks. */
#define REDUCE_BLOCK 4096u

shared float reduce_lane[128];

/* The sum of all invocations' values, in invocation 0. All invocations of the workgroup must call it. */
float workgroup_sum(float value)
{
    uint lane = gl_LocalInvocationID.x;
    reduce_lane[lane] = value;
    barrier();
    for (uint n = gl_WorkGroupSize.x; n > 1u;) {
        uint part = (n + 1u) / 2u;
        if (lane + part < n)
            reduce_lane[lane] += reduce_lane[lane + part];
        barrier();
        n = part;
    }
    return reduce_lane[0];
}

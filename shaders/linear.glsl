/* SPDX-License-Identifier: MIT
 *
 * Linear kernels: one invocation for each element. A dispatch of more workgroups than one axis allows has them on y too.
 */
layout(local_size_x_id = 0) in;

uint linear_index()
{
    return (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
}

#version 450
#extension GL_GOOGLE_include_directive : require
/* SPDX-License-Identifier: MIT
 *
 * How many agents there are: the GPU alone decides. They multiply while more than a third of them are where they should be. */
#include "swarm.glsl"

layout(local_size_x = 1) in;

layout(set = 0, binding = 1) buffer ControlBuffer
{
    Control control;
};

void main()
{
    uint most = frame.agents, least = (frame.agents + 1u) / 2u, few = 1u + frame.agents / 400u;
    uint before = frame.frame == 0u ? 0u : control.count;
    uint count = control.fed * 3u > before ? before + few : before - min(few, before);
    count = clamp(count, least, most);
    control.before = before;
    control.count = count;
    control.fed = 0u;
    control.speed = 0u;
    control.astray = 0u;
    control.draw[0] = 4u;
    control.draw[1] = count;
    control.draw[2] = 0u;
    control.draw[3] = 0u;
    control.dispatch[0] = (count + WORLD_GROUP - 1u) / WORLD_GROUP;
    control.dispatch[1] = 1u;
    control.dispatch[2] = 1u;
}

#version 450
#extension GL_GOOGLE_include_directive : require
/* SPDX-License-Identifier: MIT
 *
 * Moves the agents by what the network says, which it reads where the network has left it, or by what the teacher says. */
#include "swarm.glsl"

layout(local_size_x = WORLD_GROUP) in;

layout(set = 0, binding = 0) buffer Agents
{
    Agent agents[];
};
layout(set = 0, binding = 1) buffer ControlBuffer
{
    Control control;
};
layout(set = 0, binding = 2) readonly buffer Output
{
    float y[];
};

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= control.count)
        return;
    Agent agent = agents[i];
    uint random = frame.seed + frame.frame * 0x9e3779b9u;
    Pair light = world_light(agent.light, frame.time), with = world_light_velocity(agent.light, frame.time);
    Pair away = world_pair(light.x - agent.position.x, light.y - agent.position.y);
    Pair own = world_pair(agent.velocity.x, agent.velocity.y), force;
    if (frame.network != 0u)
        force = world_limit(world_pair(y[2u * i], y[2u * i + 1u]));
    else
        force = world_teacher(away, with, own, agent.distance, agent.turn);
    own = world_move(own, force, world_normal(random, i, 9u), world_normal(random, i, 10u));
    agent.velocity = vec2(own.x, own.y);
    agent.position += WORLD_STEP * agent.velocity;
    agents[i] = agent;

    float astray = abs(length(vec2(away.x, away.y)) - agent.distance);
    atomicAdd(control.speed, uint(min(1024.0 * length(agent.velocity), 100000.0)));
    atomicAdd(control.astray, uint(min(1024.0 * astray, 100000.0)));
    if (astray < 0.05)
        atomicAdd(control.fed, 1u);
}

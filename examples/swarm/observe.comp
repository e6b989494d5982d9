#version 450
#extension GL_GOOGLE_include_directive : require
/* SPDX-License-Identifier: MIT
 *
 * Who is born or dies, and what each agent sees: the rows of the network's input, and the mask of those who begin anew. */
#include "swarm.glsl"

layout(local_size_x = WORLD_GROUP) in;

layout(set = 0, binding = 0) buffer Agents
{
    Agent agents[];
};
layout(set = 0, binding = 1) readonly buffer ControlBuffer
{
    Control control;
};
layout(set = 0, binding = 2) writeonly buffer Input
{
    float x[];
};
layout(set = 0, binding = 3) writeonly buffer Reset
{
    uint reset[];
};

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= control.count)
        return;
    Agent agent = agents[i];
    agent.life -= WORLD_STEP;
    agent.age += WORLD_STEP;
    bool born = i >= control.before || agent.life < 0.0 || abs(agent.position.x) > WORLD_ASPECT + 0.1 || abs(agent.position.y) > 1.1;
    uint random = frame.seed + frame.frame * 0x9e3779b9u;
    if (born) {
        agent.position = vec2(WORLD_ASPECT * (2.0 * world_uniform(random, i, 1u) - 1.0), 2.0 * world_uniform(random, i, 2u) - 1.0);
        agent.velocity = 0.3 * vec2(world_normal(random, i, 3u), world_normal(random, i, 4u));
        agent.life = 6.0 + 14.0 * world_uniform(random, i, 5u);
        agent.age = 0.0;
        agent.distance = mix(WORLD_NEAREST, WORLD_FARTHEST, world_uniform(random, i, 6u));
        agent.light = i % WORLD_LIGHTS;
        agent.turn = (agent.light & 1u) == 0u ? 1.0 : -1.0;
    }
    agents[i] = agent;
    reset[i] = born ? 1u : 0u;

    bool seen = born || (i + frame.frame) % WORLD_GLANCE == 0u;
    Pair light = world_light(agent.light, frame.time);
    vec2 away = vec2(light.x, light.y) - agent.position + WORLD_BLUR * vec2(world_normal(random, i, 7u), world_normal(random, i, 8u));
    uint row = i * WORLD_FEATURES;
    x[row] = agent.velocity.x;
    x[row + 1u] = agent.velocity.y;
    x[row + 2u] = seen ? away.x : 0.0;
    x[row + 3u] = seen ? away.y : 0.0;
    x[row + 4u] = seen ? 1.0 : 0.0;
    x[row + 5u] = 4.0 * agent.distance;
    x[row + 6u] = agent.turn;
}

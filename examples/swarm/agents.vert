#version 450
#extension GL_GOOGLE_include_directive : require
/* SPDX-License-Identifier: MIT
 *
 * An agent is a streak along its way, brighter where it is faster. Its hue is its light's, with a little of where it goes. */
#include "swarm.glsl"

layout(set = 0, binding = 0) readonly buffer Agents
{
    Agent agents[];
};
layout(location = 0) out vec2 place; /* along and across, -1 to 1 */
layout(location = 1) out vec3 colour;

vec3 hue(float turn)
{
    return 0.5 + 0.5 * cos(6.2831853 * (turn + vec3(0.0, 0.33, 0.67)));
}

void main()
{
    Agent agent = agents[gl_InstanceIndex];
    float speed = length(agent.velocity), pixel = 2.0 / frame.height;
    vec2 along = speed > 0.001 ? agent.velocity / speed : vec2(1.0, 0.0), across = vec2(-along.y, along.x);
    place = vec2((gl_VertexIndex & 1) == 0 ? -1.0 : 1.0, (gl_VertexIndex & 2) == 0 ? -1.0 : 1.0);
    vec2 at = agent.position + along * place.x * (1.1 * pixel + 0.010 * speed) + across * place.y * (0.9 * pixel + 0.0012);
    gl_Position = vec4(at.x / WORLD_ASPECT, at.y, 0.0, 1.0);
    float turn = 0.15 + 0.21 * float(agent.light) + 0.05 * sin(atan(along.y, along.x));
    colour = mix(hue(turn), vec3(1.0), 0.08) * (0.08 + 0.24 * min(speed, 1.6)) * smoothstep(0.0, 0.6, agent.age) *
             smoothstep(0.0, 0.6, agent.life);
}

#version 450
#extension GL_GOOGLE_include_directive : require
/* SPDX-License-Identifier: MIT
 *
 * The light that was gathered, its glow, and the lights, as a picture. */
#include "swarm.glsl"

layout(set = 0, binding = 0) uniform sampler2D gathered;
layout(location = 0) out vec4 result;

void main()
{
    vec2 at = gl_FragCoord.xy / vec2(frame.width, frame.height);
    vec3 light = textureLod(gathered, at, 0.0).rgb;
    light += 0.10 * textureLod(gathered, at, 2.0).rgb + 0.16 * textureLod(gathered, at, 3.5).rgb + 0.20 * textureLod(gathered, at, 5.0).rgb;
    vec2 here = (at * 2.0 - 1.0) * vec2(WORLD_ASPECT, 1.0);
    for (uint g = 0u; g < WORLD_LIGHTS; g++) {
        Pair l = world_light(g, frame.time);
        vec2 away = here - vec2(l.x, l.y);
        light += vec3(1.0, 0.93, 0.8) * 0.00009 / (dot(away, away) + 0.00006);
    }
    vec3 night = mix(vec3(0.0022, 0.0030, 0.0085), vec3(0.0006, 0.0008, 0.0022), smoothstep(0.2, 1.9, length(here)));
    result = vec4(pow(1.0 - exp(-1.6 * (light + night)), vec3(1.0 / 2.2)), 1.0);
}

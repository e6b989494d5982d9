#version 450
/* SPDX-License-Identifier: MIT */
layout(location = 0) in vec2 place;
layout(location = 1) in vec3 colour;
layout(location = 0) out vec4 result;

void main()
{
    float fade = max(0.0, 1.0 - dot(place, place));
    result = vec4(colour * fade * fade, 1.0);
}

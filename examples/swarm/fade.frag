#version 450
/* SPDX-License-Identifier: MIT
 *
 * Blending multiplies what is there, and so makes trails. */
layout(location = 0) out vec4 result;

void main()
{
    result = vec4(0.0);
}

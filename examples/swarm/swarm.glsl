/* SPDX-License-Identifier: MIT
 *
 * What the shaders of the example share. */
#include "world.h"

layout(push_constant) uniform Constants
{
    Frame frame;
};

struct Agent {
    vec2 position;
    vec2 velocity;
    float life; /* seconds left */
    float age;
    float distance; /* to keep from its light */
    float turn;     /* 1 or -1 */
    uint light;
};

/* count is the first word: vklstm reads it there */
struct Control {
    uint count;  /* agents in this frame */
    uint before; /* and in the one before */
    uint fed;    /* of them near where they should be */
    uint speed;  /* sum, in 1/1024 */
    uint astray; /* sum of how far from where they should be, in 1/1024 */
    uint unused;
    uint draw[4];     /* VkDrawIndirectCommand */
    uint dispatch[3]; /* VkDispatchIndirectCommand */
};

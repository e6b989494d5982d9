/* SPDX-License-Identifier: MIT
 *
 * The world, for C and GLSL alike: how the lights move, what an agent sees of its own light, and how the teacher steers, who sees all.
 * Lengths are halves of the picture's height, times are seconds. */
#ifndef SWARM_WORLD_H
#define SWARM_WORLD_H

#ifdef VULKAN
#define WORLD_FUNCTION
#define WORLD_UINT uint
#define world_float(x) float(x)
#define world_sin sin
#define world_cos cos
#define world_sqrt sqrt
#else
#include <math.h>
#include <stdint.h>
#define WORLD_FUNCTION static inline
#define WORLD_UINT uint32_t
#define world_float(x) ((float)(x))
#define world_sin sinf
#define world_cos cosf
#define world_sqrt sqrtf
#endif

#define WORLD_GROUP 64 /* invocations of a workgroup */
#define WORLD_LIGHTS 5u
#define WORLD_ASPECT (16.0f / 9.0f)
#define WORLD_STEP (1.0f / 60.0f) /* a frame */
#define WORLD_GLANCE 6u           /* an agent sees its light in one frame of so many */
#define WORLD_BLUR 0.01f          /* standard deviation of where it sees it */
#define WORLD_FEATURES 7          /* see world_features in observe.comp */
#define WORLD_OUTPUTS 2           /* acceleration, in units of WORLD_FORCE */
#define WORLD_FORCE 6.0f          /* the strongest acceleration */
#define WORLD_GUST 0.35f          /* what the wind adds to a velocity in a second, standard deviation */
#define WORLD_DRAG 0.4f
#define WORLD_NEAREST 0.05f /* distances to keep from the light */
#define WORLD_FARTHEST 0.28f
#define WORLD_SPEED 0.75f /* of the way around the light */

struct Pair {
    float x, y;
};

/* Push constants of every shader. */
struct Frame {
    float time;
    WORLD_UINT frame;
    WORLD_UINT seed;
    WORLD_UINT agents;   /* the most that there may be */
    WORLD_UINT network;  /* 0: the teacher steers */
    float width, height; /* of the picture */
};

#ifndef VULKAN
typedef struct Pair Pair;
typedef struct Frame Frame;
#endif

WORLD_FUNCTION Pair world_pair(float x, float y)
{
    Pair made;
    made.x = x;
    made.y = y;
    return made;
}

/* The finisher of MurmurHash3 (Appleby 2011), with Wellons' constants. */
WORLD_FUNCTION WORLD_UINT world_hash(WORLD_UINT x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
}

/* [0, 1) */
WORLD_FUNCTION float world_uniform(WORLD_UINT seed, WORLD_UINT a, WORLD_UINT b)
{
    return world_float(world_hash(seed + world_hash(a + world_hash(b))) >> 8) / 16777216.0f;
}

/* Nearly normal, standard deviation 1: a sum of four. */
WORLD_FUNCTION float world_normal(WORLD_UINT seed, WORLD_UINT a, WORLD_UINT b)
{
    float sum = world_uniform(seed, a, 4u * b) + world_uniform(seed, a, 4u * b + 1u) + world_uniform(seed, a, 4u * b + 2u) +
                world_uniform(seed, a, 4u * b + 3u);
    return (sum - 2.0f) * 1.7320508f;
}

/* Lights go along Lissajous' figures. */
WORLD_FUNCTION Pair world_light(WORLD_UINT light, float time)
{
    float g = world_float(light);
    return world_pair(1.25f * world_sin((0.31f + 0.045f * g) * time + 2.4f * g),
                      0.62f * world_sin((0.53f - 0.06f * g) * time + 1.3f * g + 0.6f));
}

WORLD_FUNCTION Pair world_light_velocity(WORLD_UINT light, float time)
{
    float g = world_float(light), a = 0.31f + 0.045f * g, b = 0.53f - 0.06f * g;
    return world_pair(1.25f * a * world_cos(a * time + 2.4f * g), 0.62f * b * world_cos(b * time + 1.3f * g + 0.6f));
}

/* A force of at most 1. */
WORLD_FUNCTION Pair world_limit(Pair force)
{
    float length = world_sqrt(force.x * force.x + force.y * force.y);
    float scale = length > 1.0f ? 1.0f / length : 1.0f;
    return world_pair(force.x * scale, force.y * scale);
}

/* The teacher: with the light, at its speed, around it at the agent's own distance and in its own sense of turning. `away` is
 * where the light is from the agent, `light` and `own` are velocities. Units of WORLD_FORCE. */
WORLD_FUNCTION Pair world_teacher(Pair away, Pair light, Pair own, float distance, float turn)
{
    float r = world_sqrt(away.x * away.x + away.y * away.y) + 0.001f;
    float x = away.x / r, y = away.y / r;
    float towards = 5.0f * (r - distance);
    towards = towards > 1.1f ? 1.1f : towards;
    float around = turn * WORLD_SPEED * (r > 3.0f * distance ? 0.3f : 1.0f);
    float inwards = WORLD_SPEED * WORLD_SPEED / (r > distance ? r : distance); /* what a circle takes */
    float rate = 7.0f;                                                         /* a second: how fast velocity is made good */
    float ax = rate * (light.x + towards * x - around * y - own.x) + inwards * x;
    float ay = rate * (light.y + towards * y + around * x - own.y) + inwards * y;
    return world_limit(world_pair(ax / WORLD_FORCE, ay / WORLD_FORCE));
}

/* One frame of motion. */
WORLD_FUNCTION Pair world_move(Pair own, Pair force, float gust_x, float gust_y)
{
    float wind = WORLD_GUST * 0.12909944f, keep = 1.0f - WORLD_DRAG * WORLD_STEP; /* sqrt(WORLD_STEP) */
    return world_pair(own.x * keep + WORLD_FORCE * WORLD_STEP * force.x + wind * gust_x,
                      own.y * keep + WORLD_FORCE * WORLD_STEP * force.y + wind * gust_y);
}

#endif

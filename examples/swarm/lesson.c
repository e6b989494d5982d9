/* SPDX-License-Identifier: MIT */
#include "lesson.h"

#include <stdlib.h>

#include "world.h"

enum {
    STEPS = 24,   /* of a window */
    LENGTH = 100, /* frames of a simulated life */
    EACH = 12     /* windows of a life */
};

static float uniform(uint32_t *random)
{
    return world_uniform(++*random, 1, 1);
}

static float normal(uint32_t *random)
{
    return world_normal(++*random, 1, 2);
}

/* A life, from anywhere or from where it should be. Lives that are not steered well show what to do then: the network will not
 * be steered by the teacher. series: [LENGTH][WORLD_FEATURES], forces: [LENGTH][2]. */
static void live(uint32_t *random, float *series, float *forces)
{
    uint32_t light = (uint32_t)(uniform(random) * WORLD_LIGHTS), phase = (uint32_t)(uniform(random) * WORLD_GLANCE);
    float time = 200 * uniform(random), distance = WORLD_NEAREST + (WORLD_FARTHEST - WORLD_NEAREST) * uniform(random);
    float turn = light % 2 ? -1.0f : 1.0f, angle = 6.2831853f * uniform(random);
    float clumsy = uniform(random) < 0.5f ? 0 : uniform(random);
    Pair at = world_light(light, time), own = world_pair(0.4f * normal(random), 0.4f * normal(random)), error = {0, 0};
    if (uniform(random) < 0.5f) {
        at = world_pair(WORLD_ASPECT * (2 * uniform(random) - 1), 2 * uniform(random) - 1);
    } else {
        at.x += distance * cosf(angle) + 0.05f * normal(random);
        at.y += distance * sinf(angle) + 0.05f * normal(random);
    }
    for (uint32_t step = 0; step < LENGTH; step++, time += WORLD_STEP) {
        Pair l = world_light(light, time), with = world_light_velocity(light, time), away = world_pair(l.x - at.x, l.y - at.y);
        bool seen = step == 0 || (step + phase) % WORLD_GLANCE == 0;
        float *x = series + (size_t)step * WORLD_FEATURES;
        x[0] = own.x;
        x[1] = own.y;
        x[2] = seen ? away.x + WORLD_BLUR * normal(random) : 0;
        x[3] = seen ? away.y + WORLD_BLUR * normal(random) : 0;
        x[4] = seen;
        x[5] = 4 * distance;
        x[6] = turn;
        Pair force = world_teacher(away, with, own, distance, turn);
        forces[2 * step] = force.x;
        forces[2 * step + 1] = force.y;
        error.x += 0.15f * (1.5f * normal(random) - error.x);
        error.y += 0.15f * (1.5f * normal(random) - error.y);
        own = world_move(own, world_limit(world_pair(force.x + 2 * clumsy * error.x, force.y + 2 * clumsy * error.y)),
                         normal(random), normal(random));
        at.x += WORLD_STEP * own.x;
        at.y += WORLD_STEP * own.y;
    }
}

bool lesson_init(Lesson *lesson, uint32_t windows, uint32_t seed)
{
    uint32_t lives = (windows + EACH - 1) / EACH, random = seed;
    float *forces = malloc(sizeof(float) * 2 * LENGTH);
    lesson->series = malloc(sizeof(float) * WORLD_FEATURES * LENGTH * lives);
    lesson->targets = malloc(sizeof(float) * 2 * windows);
    lesson->starts = malloc(sizeof(uint32_t) * windows);
    bool ok = forces && lesson->series && lesson->targets && lesson->starts;
    for (uint32_t i = 0; ok && i < windows; i++) {
        uint32_t first = i / EACH * LENGTH;
        if (i % EACH == 0)
            live(&random, lesson->series + (size_t)first * WORLD_FEATURES, forces);
        uint32_t start = i % EACH == 0 ? 0 : (uint32_t)(uniform(&random) * (LENGTH - STEPS + 1));
        lesson->starts[i] = first + start;
        lesson->targets[2 * i] = forces[2 * (start + STEPS - 1)];
        lesson->targets[2 * i + 1] = forces[2 * (start + STEPS - 1) + 1];
    }
    free(forces);
    lesson->windows = (VklWindows){
        .struct_size = sizeof(VklWindows),
        .count = windows,
        .steps = STEPS,
        .features = WORLD_FEATURES,
        .outputs = WORLD_OUTPUTS,
        .rows = (uint64_t)lives * LENGTH,
        .series = lesson->series,
        .starts = lesson->starts,
        .targets = lesson->targets,
    };
    return ok;
}

void lesson_finish(Lesson *lesson)
{
    free(lesson->series);
    free(lesson->targets);
    free(lesson->starts);
}

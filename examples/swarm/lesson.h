/* SPDX-License-Identifier: MIT
 *
 * What the network learns from: agents that the teacher steers, simulated on the host, as windows of what they saw and of what the teacher,
 * who sees all, did at the end of each. */
#ifndef SWARM_LESSON_H
#define SWARM_LESSON_H

#include <stdbool.h>

#include <vklstm/vklstm.h>

typedef struct Lesson {
    float *series, *targets;
    uint32_t *starts;
    VklWindows windows; /* of the above */
} Lesson;

bool lesson_init(Lesson *lesson, uint32_t windows, uint32_t seed);
void lesson_finish(Lesson *lesson);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Timing a workload. A repetition is as many iterations as take about 20 ms, recorded, submitted and waited for together; the first few find
 * out how many those are, and are not counted.
 */
#ifndef VKLSTM_TOOLS_MEASURE_H
#define VKLSTM_TOOLS_MEASURE_H

#include "workload.h"

typedef struct Measure {
    double median, least; /* seconds of one iteration */
    double gflops;
    double dispatches, submits; /* of one iteration */
    uint64_t iterations;        /* of one repetition */
    uint64_t repeat;            /* repetitions that were timed */
} Measure;

/* `repeat` repetitions, or fewer, at least three, once they have taken `most_seconds`. */
VklStatus measure_workload(Workload *workload, uint64_t repeat, double most_seconds, Measure *measure);

#endif

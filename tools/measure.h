/* SPDX-License-Identifier: MIT
 *
 * Timing a workload. A repetition is as many iterations as take about 20 ms, recorded, submitted and waited for together; the
 * first few find out how many those are, and are not counted.
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

typedef struct MeasureDesc {
    uint64_t repeat;     /* repetitions, or fewer, at least three, once they have taken */
    double most_seconds; /* so long */
    double give_up;      /* 0, or: an iteration that takes longer is not measured */
    bool latency;        /* each iteration is submitted and waited for by itself */
} MeasureDesc;

/* VKL_TIMEOUT: given up. */
VklStatus measure_workload(Workload *workload, const MeasureDesc *desc, Measure *measure);

#endif

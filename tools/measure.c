/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include <math.h>
#include <stdlib.h>

#include "clock.h"

#define REPETITION_SECONDS 0.02 /* a shorter one measures the clock and the scheduler */
#define ITERATIONS_MAX 2000
#define REPEAT_LEAST 3

/* Records, submits and waits for so many iterations. */
static VklStatus repeat_once(Workload *workload, uint64_t iterations, bool latency, double *seconds)
{
    VklStatus status = VKL_OK;
    double begin = clock_seconds();
    for (uint64_t i = 0; i < iterations && status == VKL_OK; i++) {
        status = workload_record(workload);
        if (status == VKL_OK && latency)
            status = vkl_stream_wait(workload->stream);
    }
    if (status == VKL_OK)
        status = vkl_stream_wait(workload->stream);
    *seconds = clock_seconds() - begin;
    return status;
}

/* Finds how many iterations a repetition needs; that is the warm-up, too. */
static VklStatus calibrate(Workload *workload, const MeasureDesc *desc, uint64_t *iterations)
{
    double seconds;
    VklStatus status = repeat_once(workload, 1, desc->latency, &seconds); /* compiles, allocates */
    *iterations = 1;
    for (int i = 0; i < 8 && status == VKL_OK; i++) {
        status = repeat_once(workload, *iterations, desc->latency, &seconds);
        if (status == VKL_OK && desc->give_up > 0 && seconds / (double)*iterations > desc->give_up)
            return VKL_TIMEOUT;
        if (seconds >= REPETITION_SECONDS || *iterations == ITERATIONS_MAX)
            break;
        double wanted = ceil((double)*iterations * fmin(1.2 * REPETITION_SECONDS / fmax(seconds, 1e-6), 100));
        *iterations = wanted < ITERATIONS_MAX ? (uint64_t)wanted : ITERATIONS_MAX;
    }
    return status;
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

VklStatus measure_workload(Workload *workload, const MeasureDesc *desc, Measure *measure)
{
    double *seconds = malloc((size_t)desc->repeat * sizeof *seconds), total = 0;
    VklStreamStats before, after;
    if (!seconds)
        return VKL_ERROR_HOST_MEMORY;
    VklStatus status = calibrate(workload, desc, &measure->iterations);
    vkl_stream_stats(workload->stream, &before);
    uint64_t count = 0;
    while (count < desc->repeat && status == VKL_OK && (count < REPEAT_LEAST || total < desc->most_seconds)) {
        status = repeat_once(workload, measure->iterations, desc->latency, &seconds[count]);
        total += seconds[count++];
    }
    vkl_stream_stats(workload->stream, &after);
    if (status == VKL_OK) {
        double iterations = (double)measure->iterations;
        qsort(seconds, (size_t)count, sizeof *seconds, compare_numbers);
        measure->median = (seconds[(count - 1) / 2] + seconds[count / 2]) / 2 / iterations;
        measure->least = seconds[0] / iterations;
        measure->gflops = workload_flops(workload->shape) / measure->median * 1e-9;
        measure->dispatches = (double)(after.dispatches - before.dispatches) / (iterations * (double)count);
        measure->submits = (double)(after.submits - before.submits) / (iterations * (double)count);
        measure->repeat = count;
    }
    free(seconds);
    return status;
}

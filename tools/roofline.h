/* SPDX-License-Identifier: MIT
 *
 * What a device could do at best, and how near each kernel of a workload comes to it: the time that its arithmetic takes at the
 * device's peak, or its traffic at the device's bandwidth, whichever is longer, over the time that it took.
 */
#ifndef VKLSTM_TOOLS_ROOFLINE_H
#define VKLSTM_TOOLS_ROOFLINE_H

#include <jansson.h>

#include "measure.h"

typedef struct Roofline {
    double flops, bandwidth; /* a second */
    bool flops_given, bandwidth_given;
} Roofline;

/* Takes what is given in GFLOP/s and GB/s, and measures what is 0. */
VklStatus roofline_open(VklDevice *device, double peak, double bandwidth, Roofline *roofline);
json_t *roofline_json(const Roofline *roofline);
void roofline_print(FILE *file, const Roofline *roofline);

/* The kernels of one iteration. */
typedef struct Profile {
    VklKernelTime *times; /* NULL: the device has no timestamps */
    uint32_t count;
    uint64_t iterations; /* that were timed together */
    double seconds;      /* of the kernels of one iteration */
    double best;         /* seconds that they would take at the roofline */
    double flops, bytes; /* of one iteration */
} Profile;

/* Times the kernels of a workload that was measured: of as many iterations as a repetition had, or fewer where they are many.
 * No timestamps is no error. */
VklStatus profile_workload(Workload *workload, const Measure *measure, const Roofline *roofline, Profile *profile);
void profile_finish(Profile *profile);
json_t *profile_json(const Profile *profile, const Roofline *roofline);
void profile_print(FILE *file, const Profile *profile, const Roofline *roofline);

#endif

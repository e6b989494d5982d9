/* SPDX-License-Identifier: MIT */
#include "roofline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define KERNELS_MAX 200000.0 /* to be timed */

VklStatus roofline_open(VklDevice *device, double peak, double bandwidth, Roofline *roofline)
{
    VklDeviceSpeed speed = {0, 0};
    VklStatus status = peak > 0 && bandwidth > 0 ? VKL_OK : vkl_device_measure(device, &speed);
    *roofline = (Roofline){.flops_given = peak > 0, .bandwidth_given = bandwidth > 0};
    roofline->flops = peak > 0 ? peak * 1e9 : speed.flops;
    roofline->bandwidth = bandwidth > 0 ? bandwidth * 1e9 : speed.bandwidth;
    return status;
}

json_t *roofline_json(const Roofline *roofline)
{
    return json_pack("{s:o, s:s, s:o, s:s}", "peak_gflops", json_number(roofline->flops * 1e-9), "peak",
                     roofline->flops_given ? "given" : "measured", "bandwidth_gbs", json_number(roofline->bandwidth * 1e-9),
                     "bandwidth", roofline->bandwidth_given ? "given" : "measured");
}

void roofline_print(FILE *file, const Roofline *roofline)
{
    fprintf(file, "peak %.4g GFLOP/s (%s), bandwidth %.4g GB/s (%s)\n", roofline->flops * 1e-9,
            roofline->flops_given ? "given" : "measured", roofline->bandwidth * 1e-9,
            roofline->bandwidth_given ? "given" : "measured");
}

static bool by_memory(const VklKernelTime *time, const Roofline *roofline)
{
    return time->bytes / roofline->bandwidth > time->flops / roofline->flops;
}

/* Seconds of one call at the roofline. */
static double best_of(const VklKernelTime *time, const Roofline *roofline)
{
    return fmax(time->bytes / roofline->bandwidth, time->flops / roofline->flops);
}

static VklStatus read_times(Workload *workload, const Roofline *roofline, Profile *profile)
{
    uint32_t count = 0;
    VklStatus status = vkl_stream_kernel_times(workload->stream, &count, NULL);
    if (status != VKL_OK)
        return status;
    profile->times = calloc(count ? count : 1, sizeof *profile->times);
    if (!profile->times)
        return VKL_ERROR_HOST_MEMORY;
    profile->count = count;
    status = vkl_stream_kernel_times(workload->stream, &profile->count, profile->times);
    for (uint32_t i = 0; i < profile->count; i++) {
        const VklKernelTime *time = &profile->times[i];
        double calls = (double)time->calls / (double)profile->iterations;
        profile->seconds += time->nanoseconds * 1e-9 / (double)profile->iterations;
        profile->best += calls * best_of(time, roofline);
        profile->flops += calls * time->flops;
        profile->bytes += calls * time->bytes;
    }
    return status;
}

VklStatus profile_workload(Workload *workload, const Measure *measure, const Roofline *roofline, Profile *profile)
{
    double most = KERNELS_MAX / fmax(measure->dispatches, 1);
    uint64_t iterations = (double)measure->iterations > most ? (uint64_t)most + 1 : measure->iterations;
    *profile = (Profile){.iterations = iterations};
    VklStatus status = vkl_stream_profile(workload->stream, true);
    if (status == VKL_ERROR_UNSUPPORTED)
        return VKL_OK;
    for (uint64_t i = 0; i < iterations && status == VKL_OK; i++) {
        status = workload_record(workload);
        if (status == VKL_OK && i % 16 == 15) /* timestamps take memory until they are read */
            status = vkl_stream_wait(workload->stream);
    }
    if (status == VKL_OK)
        status = vkl_stream_wait(workload->stream);
    vkl_stream_profile(workload->stream, false);
    return status == VKL_OK ? read_times(workload, roofline, profile) : status;
}

void profile_finish(Profile *profile)
{
    free(profile->times);
    profile->times = NULL;
}

json_t *profile_json(const Profile *profile, const Roofline *roofline)
{
    if (!profile->times)
        return json_null();
    json_t *kernels = json_array();
    for (uint32_t i = 0; i < profile->count; i++) {
        const VklKernelTime *time = &profile->times[i];
        double seconds = time->nanoseconds * 1e-9 / (double)time->calls;
        json_array_append_new(kernels, json_pack("{s:s, s:s, s:f, s:o, s:o, s:f, s:f, s:o, s:s}", "name", time->name, "variant",
                                                 time->variant, "calls", (double)time->calls / (double)profile->iterations, "ms",
                                                 json_number(time->nanoseconds * 1e-6 / (double)profile->iterations), "gflops",
                                                 json_number(time->flops / seconds * 1e-9), "flops", time->flops, "bytes",
                                                 time->bytes, "share", json_number(best_of(time, roofline) / seconds), "bound",
                                                 by_memory(time, roofline) ? "memory" : "arithmetic"));
    }
    return kernels;
}

void profile_print(FILE *file, const Profile *profile, const Roofline *roofline)
{
    if (!profile->times) {
        fprintf(file, "the device has no timestamps: kernels are not told apart\n");
        return;
    }
    fprintf(file, "%-26s %7s %10s %6s %9s %8s %9s  %s\n", "kernel", "calls", "ms", "time", "GFLOP/s", "GB/s", "roofline",
            "variant");
    for (uint32_t i = 0; i < profile->count; i++) {
        const VklKernelTime *time = &profile->times[i];
        double seconds = time->nanoseconds * 1e-9 / (double)time->calls;
        double all = time->nanoseconds * 1e-9 / (double)profile->iterations;
        fprintf(file, "%-26s %7.6g %10.4g %5.1f%% %9.3g %8.3g %7.1f%% %c %s\n", time->name,
                (double)time->calls / (double)profile->iterations, all * 1e3, 100 * all / profile->seconds,
                time->flops / seconds * 1e-9, time->bytes / seconds * 1e-9, 100 * best_of(time, roofline) / seconds,
                by_memory(time, roofline) ? 'M' : 'A', time->variant);
    }
    fprintf(file, "%-26s %7s %10.4g %6s %9.3g %8.3g %7.1f%%\n", "all", "", profile->seconds * 1e3, "",
            profile->flops / profile->seconds * 1e-9, profile->bytes / profile->seconds * 1e-9,
            100 * profile->best / profile->seconds);
    fprintf(file, "roofline: the least time by arithmetic (A) or memory traffic (M), of the time taken\n");
}

/* SPDX-License-Identifier: MIT */
#include "pace.h"

struct VklJob {
    VklExec *exec; /* held */
    VklPace pace;
    VklPaced paced;
    uint32_t left; /* repetitions that are not submitted as a whole */
    size_t done;   /* ops of the next one that are */
};

VklStatus vkl_job_create(VklStream *stream, VklExec *exec, uint32_t count, VklJob **job)
{
    static const char call[] = "vkl_job_create";
    VklContext *context = stream->device->context;
    if (!exec || !job)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: %s is NULL", call, exec ? "job" : "exec");
    if (exec->device != stream->device)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: exec belongs to another device than the stream", call);
    if (stream->wrapped)
        return vkl_fail(context, &stream->error, VKL_ERROR_UNSUPPORTED,
                        "%s: the stream wraps a command buffer of the caller's, which is not submitted here", call);
    if (!count)
        return vkl_fail(context, &stream->error, VKL_ERROR_INVALID, "%s: count is 0; it must be at least 1", call);
    VklJob *made = vkl_allocate(stream->device->caps.memory, 1, sizeof(*made));
    if (!made)
        return vkl_fail(context, &stream->error, VKL_ERROR_HOST_MEMORY, "%s: the host refused %zu bytes", call, sizeof(*made));
    VklStatus status = vkl_pace_init(&made->pace, stream);
    if (status) {
        vkl_release(made);
        return status;
    }
    vkl_exec_retain(exec);
    made->exec = exec;
    made->paced = vkl_paced(exec);
    made->left = exec->plan.count ? count : 0;
    *job = made;
    return VKL_OK;
}

static VklStatus submit_piece(VklJob *job, double microseconds)
{
    size_t done = job->done;
    uint32_t repeated = 0;
    VklStatus status = vkl_pace_begin(&job->pace, microseconds);
    if (status)
        return status;
    status = vkl_pace_add(&job->pace, &job->paced, job->left, &job->done, &repeated);
    if (status)
        vkl_pace_drop(&job->pace);
    else
        status = vkl_pace_submit(&job->pace);
    if (status)
        job->done = done;
    else
        job->left -= repeated;
    return status;
}

VklStatus vkl_job_run(VklJob *job, double microseconds)
{
    static const char call[] = "vkl_job_run";
    VklStream *stream = job->pace.timer.stream;
    const VklDevice *device = stream->device;
    VklStatus status = vkl_device_alive(device, &stream->error, call);
    if (status)
        return status;
    if (!(microseconds >= 0))
        return vkl_fail(device->context, &stream->error, VKL_ERROR_INVALID, "%s: microseconds is %g; it must be at least 0", call,
                        microseconds);
    status = vkl_pace_look(&job->pace);
    if (status)
        return status;
    return job->left ? submit_piece(job, microseconds) : VKL_STOPPED;
}

void vkl_job_destroy(VklJob *job)
{
    if (!job)
        return;
    if (job->pace.running)
        vkl_stream_wait(job->pace.timer.stream);
    vkl_pace_finish(&job->pace);
    vkl_exec_release(job->exec);
    vkl_release(job);
}

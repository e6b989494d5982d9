/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include <math.h>

/* However large the budget: systems reset a GPU that is busy with one submit for long. */
#define LONGEST 5e8 /* nanoseconds */
#define MOST_REPEATED 1024u

VklStatus vkl_pace_init(VklPace *pace, VklStream *stream)
{
    *pace = (VklPace){.timer = {.stream = stream}};
    for (int i = 0; i < VKL_KERNEL_COUNT; i++)
        pace->factor[i] = 1;
    VklStatus status = stream->device->backend->timer_create(&pace->timer);
    if (status)
        pace->timer.impl = NULL;
    return status;
}

void vkl_pace_finish(VklPace *pace)
{
    if (pace->timer.impl)
        pace->timer.stream->device->backend->timer_destroy(&pace->timer);
}

VklPaced vkl_paced(VklExec *exec)
{
    return (VklPaced){.exec = exec, .tail = exec ? exec->plan.count : 0};
}

static double op_time(const VklPace *pace, const VklOp *op)
{
    return vkl_op_cost(op) * (double)pace->factor[op->kernel];
}

/* About how long a range of ops takes. */
static double range_time(const VklPace *pace, const VklExec *exec, size_t first, size_t end)
{
    double time = 0;
    for (size_t i = first; i < end; i++)
        time += op_time(pace, &exec->plan.ops[i]);
    return time;
}

/* ---- What pieces took ---- */

/* Each kernel's factor moves by as much as its share of the range says: one that is alone in it gets its factor right at once. */
static void learn_factors(VklPace *pace, const VklExec *exec, size_t first, size_t end, double took)
{
    double times[VKL_KERNEL_COUNT] = {0}, all = 0;
    for (size_t i = first; i < end; i++) {
        const VklOp *op = &exec->plan.ops[i];
        double time = op_time(pace, op);
        times[op->kernel] += time;
        all += time;
    }
    for (int i = 0; i < VKL_KERNEL_COUNT; i++)
        if (times[i] > 0)
            pace->factor[i] *= (float)pow(took / all, times[i] / all);
}

/* Longer at once, shorter by and by: a budget that is exceeded costs the caller more than one that is not used up. */
static double follow(double known, double new)
{
    return known <= 0 || new > known ? new : (known + new) / 2;
}

static void learn(VklPace *pace, double took)
{
    took = took > 1 ? took : 1;
    if (pace->cut) {
        VklPaced *cut = pace->cut;
        learn_factors(pace, cut->exec, pace->first, pace->end, took);
        cut->part_time += took;
        if (pace->end == cut->exec->plan.count) {
            cut->measured = follow(cut->measured, cut->part_time);
            cut->part_time = 0;
        }
    } else if (pace->kinds == 1) {
        VklPaced *paced = pace->whole[0].paced;
        if (paced->measured <= 0)
            learn_factors(pace, paced->exec, 0, paced->exec->plan.count, took / pace->whole[0].count);
        paced->measured = follow(paced->measured, took / pace->whole[0].count);
    } else if (pace->predicted > 0) {
        for (uint32_t i = 0; i < pace->kinds; i++) {
            VklPaced *paced = pace->whole[i].paced;
            paced->measured = follow(paced->measured, paced->measured * took / pace->predicted);
        }
    }
}

VklStatus vkl_pace_look(VklPace *pace)
{
    const VklDevice *device = pace->timer.stream->device;
    if (!pace->running)
        return VKL_OK;
    double took, now;
    VklStatus status = device->backend->piece_look(&pace->timer, &took);
    now = vkl_nanoseconds();
    if (status == VKL_TIMEOUT)
        pace->seen_running = now;
    if (status)
        return status;
    pace->running = false;
    if (took < 0) { /* the host knows only between which two looks it ended */
        double least = pace->seen_running > pace->submitted ? pace->seen_running - pace->submitted : 0;
        double most = now - pace->submitted;
        took = pace->predicted < least ? least : pace->predicted > most ? most : pace->predicted;
    }
    learn(pace, took);
    return VKL_OK;
}

/* ---- What goes into a piece ---- */

VklStatus vkl_pace_begin(VklPace *pace, double microseconds)
{
    double budget = 1e3 * microseconds;
    pace->budget = budget < LONGEST ? budget : LONGEST;
    pace->predicted = 0;
    pace->kinds = 0;
    pace->cut = NULL;
    return pace->timer.stream->device->backend->piece_begin(&pace->timer);
}

static VklStatus add_whole(VklPace *pace, VklPaced *paced, uint32_t count, double time)
{
    VklStatus status = vkl_stream_replay(pace->timer.stream, paced->exec, count);
    if (status)
        return status;
    pace->whole[pace->kinds].paced = paced;
    pace->whole[pace->kinds++].count = count;
    pace->predicted += count * time;
    return VKL_OK;
}

/* As many ops as fit, but at least one, and never a part of the tail. */
static VklStatus add_part(VklPace *pace, VklPaced *paced, size_t *done)
{
    const VklExec *exec = paced->exec;
    size_t count = exec->plan.count, end = *done;
    do {
        size_t next = end < paced->tail ? end + 1 : count;
        double time = range_time(pace, exec, end, next);
        if (end > *done && pace->predicted + time > pace->budget)
            break;
        pace->predicted += time;
        end = next;
    } while (end < count);
    VklStatus status = pace->timer.stream->device->backend->exec_record_part(paced->exec, pace->timer.stream, *done, end - *done);
    if (status)
        return status;
    pace->cut = paced;
    pace->first = *done;
    pace->end = end;
    *done = end == count ? 0 : end;
    return VKL_OK;
}

VklStatus vkl_pace_add(VklPace *pace, VklPaced *paced, uint32_t most, size_t *done, uint32_t *repeated)
{
    bool empty = !pace->kinds && !pace->cut;
    *repeated = 0;
    if (!most || (!empty && (pace->cut || *done || paced->measured <= 0 || pace->kinds == VKL_PACE_KINDS)))
        return VKL_OK; /* what is measured for the first time is alone in its piece */
    double time = paced->measured > 0 ? paced->measured : range_time(pace, paced->exec, 0, paced->exec->plan.count);
    double fit = floor((pace->budget - pace->predicted) / (time > 1 ? time : 1));
    uint32_t count = fit < 1 ? 0 : fit < MOST_REPEATED ? (uint32_t)fit : MOST_REPEATED;
    count = paced->measured <= 0 && count ? 1 : count < most ? count : most;
    if (count && !*done) {
        VklStatus status = add_whole(pace, paced, count, time);
        if (!status)
            *repeated = count;
        return status;
    }
    if (!empty)
        return VKL_OK;
    VklStatus status = add_part(pace, paced, done);
    if (!status)
        *repeated = !*done;
    return status;
}

VklStatus vkl_pace_submit(VklPace *pace)
{
    pace->submitted = vkl_nanoseconds();
    pace->seen_running = 0;
    VklStatus status = pace->timer.stream->device->backend->piece_submit(&pace->timer);
    pace->running = !status;
    return status;
}

void vkl_pace_drop(VklPace *pace)
{
    pace->timer.stream->device->backend->piece_drop(&pace->timer);
}

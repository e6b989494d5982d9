/* SPDX-License-Identifier: MIT
 *
 * Work in pieces that take the device no longer than they are allowed: how much goes into the next piece follows from how long
 * earlier ones took. A piece is as many whole repetitions of execs as fit; where not even one does, some of its kernels.
 * Nothing waits.
 *
 * What is not measured yet is estimated by vkl_op_cost(), which is made for a slow GPU, times a factor for each kernel that is learned.
 */
#ifndef VKL_PACE_H
#define VKL_PACE_H

#include "internal.h"

/* An exec in a pace. */
typedef struct VklPaced {
    VklExec *exec;
    size_t tail;      /* its ops from here on stay together in one piece; plan.count: none */
    double measured;  /* nanoseconds of a repetition; 0: not known yet */
    double part_time; /* of the pieces of the repetition that is being cut */
} VklPaced;

#define VKL_PACE_KINDS 4

typedef struct VklPace {
    VklTimer timer;
    bool running; /* a piece is submitted and not yet seen to have ended */
    float factor[VKL_KERNEL_COUNT];

    /* the piece: repetitions of some execs, or a range of the ops of one */
    double budget, predicted; /* nanoseconds */
    uint32_t kinds;
    struct {
        VklPaced *paced;
        uint32_t count;
    } whole[VKL_PACE_KINDS];
    VklPaced *cut;
    size_t first, end;
    double submitted, seen_running; /* the host's clock */
} VklPace;

/* On a stream of the library's own, whose error tells why it failed. */
VklStatus vkl_pace_init(VklPace *pace, VklStream *stream);
/* The latest piece must be done. */
void vkl_pace_finish(VklPace *pace);

VklPaced vkl_paced(VklExec *exec);

/* VKL_OK: nothing runs, and what the latest piece took has been learned from. VKL_TIMEOUT: it still runs. */
VklStatus vkl_pace_look(VklPace *pace);

/* Begins a piece; what is recorded on the stream from here on belongs to it. */
VklStatus vkl_pace_begin(VklPace *pace, double microseconds);
/* Adds whole repetitions, and if there is nothing in the piece and one is too long, a part of one. `*done`: ops of the
 * repetition that were in earlier pieces; moved on. `*repeated`: repetitions that this call ended, at most `most`. Fewer than
 * that: the piece is full. */
VklStatus vkl_pace_add(VklPace *pace, VklPaced *paced, uint32_t most, size_t *done, uint32_t *repeated);
VklStatus vkl_pace_submit(VklPace *pace);
/* After a failure within a piece: it is forgotten. */
void vkl_pace_drop(VklPace *pace);

#endif

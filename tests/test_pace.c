/* SPDX-License-Identifier: MIT
 *
 * How much goes into a piece, on a device that is played: what is recorded takes as long as a table says. */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "pace.h"

enum { OPS = 40, SLOW = 7 /* the op of another kernel than the others */ };

/* What the played device has been given. */
typedef struct Played {
    double fast, slow; /* nanoseconds that a call of either kernel takes */
    bool tells;        /* how long a piece took; else the clock of the host has to do */
    double piece;      /* of the running piece */
    size_t next;       /* the op that must come next */
    uint64_t repeated, pieces, looks;
    bool open, parted; /* within a piece; it has a part of a repetition */
} Played;

static Played played;

static double op_time(size_t op)
{
    return op % OPS == SLOW ? played.slow : played.fast;
}

static VklStatus play(VklExec *exec, VklStream *stream, size_t first, size_t count)
{
    (void)stream;
    cr_assert(played.open && first == played.next && first + count <= exec->plan.count);
    for (size_t i = first; i < first + count; i++)
        played.piece += op_time(i);
    played.next = (first + count) % exec->plan.count;
    played.repeated += !played.next;
    return VKL_OK;
}

static VklStatus play_part(VklExec *exec, VklStream *stream, size_t first, size_t count)
{
    played.parted = true;
    return play(exec, stream, first, count);
}

static VklStatus play_whole(VklExec *exec, VklStream *stream, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        play(exec, stream, 0, exec->plan.count);
    return VKL_OK;
}

static VklStatus timer_made(VklTimer *timer)
{
    timer->impl = &played;
    return VKL_OK;
}

static void timer_gone(VklTimer *timer)
{
    timer->impl = NULL;
}

static VklStatus piece_begin(VklTimer *timer)
{
    (void)timer;
    played.open = true;
    played.parted = false;
    played.piece = 0;
    return VKL_OK;
}

static VklStatus piece_submit(VklTimer *timer)
{
    (void)timer;
    cr_assert_gt(played.piece, 0, "there is something in every piece");
    played.open = false;
    played.pieces++;
    return VKL_OK;
}

static VklStatus piece_look(VklTimer *timer, double *nanoseconds)
{
    (void)timer;
    if (played.looks++ % 3 == 0)
        return VKL_TIMEOUT;
    *nanoseconds = played.tells ? played.piece : -1;
    return VKL_OK;
}

static const VklBackend backend = {
    .name = "played",
    .exec_record_part = play_part,
    .exec_replay = play_whole,
    .timer_create = timer_made,
    .timer_destroy = timer_gone,
    .piece_begin = piece_begin,
    .piece_submit = piece_submit,
    .piece_look = piece_look,
};

Test(pace, pieces_keep_to_the_budget_and_use_it)
{
    /* microseconds; an op is expected to take 10 before anything is known, and the slow one 1,000 */
    static const struct {
        const char *what;
        double fast, slow, budget;
        bool tells;
    } cases[] = {
        {"a fast device", 0.1, 0.2, 500, true},
        {"about as expected", 10, 1000, 500, true},
        {"about as expected, whole steps", 10, 1000, 5000, true},
        {"slower than expected", 100, 3000, 3000, true},
        {"slow kernels, fast product", 5, 1, 100, true},
        {"a step is longer than the budget", 50, 20, 400, true},
        {"no budget at all", 10, 10, 0, true},
        {"a budget without end", 10, 10, 1e12, true},
        {"the clock of the host", 0.1, 0.1, 300, false},
    };
    enum { COUNT = 3000 };
    VklContext *context = test_context();
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        VklDevice device = {.context = context, .backend = &backend};
        VklStream stream = {.device = &device};
        VklOp ops[OPS];
        memset(ops, 0, sizeof(ops));
        for (int i = 0; i < OPS; i++) {
            ops[i].kernel = i == SLOW ? VKL_KERNEL_DROPOUT : VKL_KERNEL_MOVE;
            ops[i].bytes = i == SLOW ? 9.9e6 : 1;
        }
        VklExec exec = {.device = &device, .plan = {.ops = ops, .count = OPS}};
        played = (Played){.fast = 1e3 * cases[c].fast, .slow = 1e3 * cases[c].slow, .tells = cases[c].tells};
        double longest = played.fast > played.slow ? played.fast : played.slow, budget = 1e3 * cases[c].budget;
        VklPace pace;
        VklPaced paced = vkl_paced(&exec);
        TEST_OK(context, vkl_pace_init(&pace, &stream));
        uint32_t left = COUNT;
        size_t done = 0;
        double used = 0, late = 0;
        while (left) {
            VklStatus status = vkl_pace_look(&pace);
            uint32_t repeated;
            if (status == VKL_TIMEOUT)
                continue;
            TEST_OK(context, status);
            uint64_t before = played.repeated;
            TEST_OK(context, vkl_pace_begin(&pace, cases[c].budget));
            TEST_OK(context, vkl_pace_add(&pace, &paced, left, &done, &repeated));
            TEST_OK(context, vkl_pace_submit(&pace));
            left -= repeated;
            cr_assert_eq(played.repeated - before, repeated);
            cr_assert_eq(played.next, done);
            /* once a whole step is measured, by no more than the longest kernel, or a tenth where steps are cut by what kernels took */
            if (played.repeated > 1 && before > 1 && cases[c].tells)
                cr_assert_leq(played.piece, budget * (played.parted ? 1.1 : 1) + longest, "%s: a piece of %g us", cases[c].what,
                              played.piece / 1e3);
            if (left > COUNT / 10 && left < COUNT / 2) {
                used += played.piece;
                late += budget < 5e8 ? budget : 5e8;
            }
        }
        cr_assert_eq(played.repeated, COUNT, "%s", cases[c].what);
        if (cases[c].tells && budget >= 3 * longest && budget < 1e9)
            cr_assert_geq(used, late / 2, "%s: %g of %g us are used", cases[c].what, used / 1e3, late / 1e3);
        vkl_pace_finish(&pace);
    }
    vkl_context_destroy(context);
}

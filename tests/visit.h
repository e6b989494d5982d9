/* SPDX-License-Identifier: MIT
 *
 * One visit to all of the library, from the context to files, in steps that can be tried again: what fails on the way is not the visit's
 * business but that of faults.c. No Criterion. */
#ifndef VKL_TESTS_VISIT_H
#define VKL_TESTS_VISIT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "heap.h"
#include "vklstm/vklstm.h"

/* Statuses of a process that makes a visit: none that a sanitizer ends with. */
enum { VISIT_DONE = 0, VISIT_AGAIN = 40, VISIT_VALIDATION = 41, VISIT_WRONG = 42 };

/* A sentence, and the end of the process: what is wrong here is the library, or the visit. */
#define VISIT_CHECK(condition, ...)                                         \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                   \
            fputc('\n', stderr);                                            \
            fflush(stderr);                                                 \
            _Exit(VISIT_WRONG);                                             \
        }                                                                   \
    } while (0)

enum { VISIT_BUFFERS = 12 };

typedef struct Visit {
    Heap heap;
    const char *selector; /* of the device */
    const char *folder;   /* for files */
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
    VklBuffer *buffers[VISIT_BUFFERS];
    VklRnn *rnn;
    VklRnnSizes sizes;
    float *packed; /* the parameters of rnn */
    VklExec *forward, *backward;
    VklOptimizer *optimizer;
    VklModel *model;
    void *saved; /* what vkl_model_save_memory() gave */
    size_t saved_size;
    void *checkpoint; /* of a training that was not at its end */
    size_t checkpoint_size;
    uint64_t trained; /* digest of the weights at its end */
    VklTable *table;
    VklPrep *prep;
    VklWindowSet *windows;
    uint64_t digest;   /* of what the step computed */
    uint64_t expected; /* the digest where nothing failed; 0: not known yet */
} Visit;

/* Does all or nothing: after a failure the visit is as before, and the step can be tried again. Checks that a call that failed
 * left its outputs alone. */
typedef struct VisitStep {
    const char *name;
    VklStatus (*run)(Visit *visit);
} VisitStep;
extern const VisitStep visit_steps[];
extern const size_t visit_step_count;

/* After a step has returned VKL_ERROR_DEVICE_LOST: every call says so, what is in host memory is there, and with a new device
 * the work goes on. */
void visit_after_loss(Visit *visit);

/* Destroys what there is and checks that all memory came back. */
void visit_end(Visit *visit);

#endif

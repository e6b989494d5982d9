/* SPDX-License-Identifier: MIT
 *
 * Arrays on a device, surrounded: each lies in a buffer of its own, a few numbers from its beginning and end, and what surrounds it
 * is full of NaN, as are outputs before they are written and scratch. Reading what was not written, or outside an array,
 * spreads; writing outside is noticed.
 */
#ifndef PLACED_H
#define PLACED_H

#include <stdbool.h>
#include <stddef.h>

#include "vklstm/vklstm.h"

typedef struct Placed {
    VklBuffer *buffer;
    VklSlice slice; /* where the array begins: at 16 bytes for `packed` arrays, else at a multiple of 4 alone */
    size_t before, count;
} Placed;

/* data NULL: full of NaN. The caller destroys the buffer. */
Placed placed_make(VklDevice *device, const float *data, size_t count, bool packed);

/* The array's numbers as they are now, freed by the caller. Fails if something was written around it. */
float *placed_take(VklDevice *device, const Placed *placed, const char *what);

/* The device of the environment, with those limits lowered still more that are not 0. */
VklDevice *device_within(VklContext *context, VklDeviceLimits limits);

/* The same, for which the kernels, shapes and ways of GPUs are chosen. */
VklDevice *device_as_gpu(VklContext *context);

/* calloc() that fails the test. */
void *allocate(size_t count, size_t size);

/* Fails unless `call` returns `want` and `message`, evaluated after it, contains `word`. */
#define EXPECT_REFUSAL(what, call, want, message, word)     \
    do {                                                    \
        const VklStatus refusal_ = (call);                  \
        check_refusal(what, refusal_, want, message, word); \
    } while (0)
void check_refusal(const char *what, VklStatus got, VklStatus want, const char *message, const char *word);

#endif

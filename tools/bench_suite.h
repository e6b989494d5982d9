/* SPDX-License-Identifier: MIT
 *
 * vklstm bench --suite: the named shapes (shapes.h), one after the other, as a table and as files to send in.
 */
#ifndef VKLSTM_TOOLS_BENCH_SUITE_H
#define VKLSTM_TOOLS_BENCH_SUITE_H

#include "roofline.h"

typedef struct BenchSuite {
    const char *only;              /* shapes whose name contains it; NULL: all */
    bool quick;                    /* leaves out shapes that take more than a second or so */
    bool json;                     /* the object on standard output in place of the table */
    const char *output, *markdown; /* files; NULL: none */
    uint64_t repeat;
    bool latency;           /* each iteration is waited for */
    double peak, bandwidth; /* GFLOP/s, GB/s; 0: measured */
} BenchSuite;

/* Prints and returns an exit status. */
int bench_suite(VklDevice *device, const BenchSuite *suite);

#endif

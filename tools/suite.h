/* SPDX-License-Identifier: MIT
 *
 * The conformance suite that selftest runs: operators on a device against the double-precision reference (reference.h), each twice.
 */
#ifndef VKLSTM_TOOLS_SUITE_H
#define VKLSTM_TOOLS_SUITE_H

#include "vklstm/vklstm.h"

typedef enum SuiteGroup {
    SUITE_OPTIONS,  /* every two options together */
    SUITE_SIZES,    /* sizes where others fail */
    SUITE_EXTREMES, /* saturated gates, NaN */
    SUITE_LIMITS,   /* the smallest limits that Vulkan allows, and smaller ones */
    SUITE_TRAINING, /* a training: the loss falls */
    SUITE_GROUPS
} SuiteGroup;
extern const char *const suite_group_names[SUITE_GROUPS];

#define SUITE_NAME_SIZE 512

/* The kinds of tensors that are compared. */
typedef enum SuiteTensor {
    SUITE_Y,
    SUITE_HN,
    SUITE_CN,
    SUITE_DX,
    SUITE_DH0,
    SUITE_DC0,
    SUITE_DW_IH,
    SUITE_DW_HH,
    SUITE_DB_IH,
    SUITE_DB_HH,
    SUITE_DW_HR,
    SUITE_DW_CH,
    SUITE_TENSORS
} SuiteTensor;
extern const char *const suite_tensor_names[SUITE_TENSORS];

typedef struct SuiteWorst {
    uint64_t compared; /* tensors of this kind */
    double error;
    char name[SUITE_NAME_SIZE]; /* of the case */
} SuiteWorst;

typedef struct SuiteFailure {
    SuiteGroup group;
    char name[SUITE_NAME_SIZE];
    char what[320];
} SuiteFailure;

#define SUITE_FAILURES_KEPT 64

typedef struct SuiteResult {
    uint64_t cases[SUITE_GROUPS], failed[SUITE_GROUPS];
    double seconds[SUITE_GROUPS];
    uint64_t repeated, differing; /* tensors that were computed twice, and those that came out differently */
    SuiteWorst worst[SUITE_TENSORS];
    uint64_t pipelines;     /* compiled */
    uint64_t failure_count; /* all, also those that are not kept */
    SuiteFailure failures[SUITE_FAILURES_KEPT];
} SuiteResult;

typedef struct Suite {
    VklContext *context;
    const char *selector;
    double tolerance;
    /* Called before each case. */
    void (*on_case)(void *user, SuiteGroup group, const char *name, uint64_t done, uint64_t all);
    void *user;
    bool
        compile_only; /* what would be run is made, its pipelines with it, and nothing is run: for drivers without their device */
} Suite;

/* Runs everything. Fails only where the suite itself cannot go on: memory, a device that cannot be opened. */
VklStatus suite_run(const Suite *suite, SuiteResult *result);

#endif

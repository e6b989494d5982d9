/* SPDX-License-Identifier: MIT
 *
 * vklstm selftest: whether this machine's device and driver give the right results; a report to paste into a bug report.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "commands.h"
#include "info.h"
#include "message.h"
#include "progress.h"
#include "report.h"
#include "session.h"
#include "suite.h"

typedef struct SelftestArgs {
    const char *device;
    bool compile_only, json, quiet;
} SelftestArgs;

static const Option options[] = {
    GROUP("Options"),
    DEVICE((SelftestArgs, device)),
    FLAG("compile-only", (SelftestArgs, compile_only), "make every pipeline of the test, and run nothing"),
    FLAG("json", (SelftestArgs, json), "print the report as one JSON object"),
    FLAG("quiet", (SelftestArgs, quiet), "no progress"),
};

typedef struct Outcome {
    VklDeviceInfo device;
    double tolerance, seconds;
    SuiteResult suite;
} Outcome;

static json_t *groups_json(const SuiteResult *suite)
{
    json_t *groups = json_object();
    for (int g = 0; g < SUITE_GROUPS; g++)
        json_object_set_new(groups, suite_group_names[g],
                            json_pack("{s:I, s:I, s:f}", "cases", (json_int_t)suite->cases[g], "failed",
                                      (json_int_t)suite->failed[g], "seconds", suite->seconds[g]));
    return groups;
}

static json_t *worst_json(const SuiteResult *suite)
{
    json_t *tensors = json_object();
    for (int t = 0; t < SUITE_TENSORS; t++)
        json_object_set_new(tensors, suite_tensor_names[t],
                            json_pack("{s:o, s:I, s:s}", "error", json_number(suite->worst[t].error), "compared",
                                      (json_int_t)suite->worst[t].compared, "case", suite->worst[t].name));
    return tensors;
}

static json_t *failures_json(const SuiteResult *suite)
{
    json_t *failures = json_array();
    for (uint64_t k = 0; k < suite->failure_count && k < SUITE_FAILURES_KEPT; k++) {
        const SuiteFailure *failure = &suite->failures[k];
        json_array_append_new(failures, json_pack("{s:s, s:s, s:s}", "group", suite_group_names[failure->group], "case",
                                                  failure->name, "what", failure->what));
    }
    return failures;
}

static int print_report_json(const Outcome *outcome)
{
    const SuiteResult *suite = &outcome->suite;
    return print_json(json_pack("{s:s, s:o, s:f, s:f, s:o, s:I, s:I, s:o, s:b, s:o}", "version", vkl_version(), "device",
                                info_device_json(&outcome->device), "tolerance", outcome->tolerance, "seconds", outcome->seconds,
                                "groups", groups_json(suite), "repeated", (json_int_t)suite->repeated, "differing",
                                (json_int_t)suite->differing, "worst", worst_json(suite), "passed", suite->failure_count == 0,
                                "failures", failures_json(suite)));
}

static int print_compiled_json(const Outcome *outcome)
{
    const SuiteResult *suite = &outcome->suite;
    return print_json(json_pack("{s:s, s:o, s:f, s:o, s:I, s:b, s:o}", "version", vkl_version(), "device",
                                info_device_json(&outcome->device), "seconds", outcome->seconds, "groups", groups_json(suite),
                                "pipelines", (json_int_t)suite->pipelines, "passed", suite->failure_count == 0, "failures",
                                failures_json(suite)));
}

static uint64_t print_parts(const Outcome *outcome)
{
    const SuiteResult *suite = &outcome->suite;
    char time[DURATION_SIZE];
    uint64_t cases = 0;
    printf("vklstm %s selftest", vkl_version());
    fputc('\n', stdout);
    info_print_device(&outcome->device);
    printf("\n%-10s%8s%8s  %s\n", "part", "cases", "failed", "time");
    for (int g = 0; g < SUITE_GROUPS; g++) {
        duration_text(suite->seconds[g], time);
        cases += suite->cases[g];
        printf("%-10s%8" PRIu64 "%8" PRIu64 "  %s\n", suite_group_names[g], suite->cases[g], suite->failed[g], time);
    }
    return cases;
}

static void print_failures(const SuiteResult *suite)
{
    for (uint64_t k = 0; k < suite->failure_count && k < SUITE_FAILURES_KEPT; k++)
        printf("%s%s: %s\n    %s\n", k ? "" : "\nfailures\n", suite_group_names[suite->failures[k].group],
               suite->failures[k].name, suite->failures[k].what);
    if (suite->failure_count > SUITE_FAILURES_KEPT)
        printf("... and %" PRIu64 " more\n", suite->failure_count - SUITE_FAILURES_KEPT);
}

static int print_compiled(const Outcome *outcome)
{
    const SuiteResult *suite = &outcome->suite;
    char time[DURATION_SIZE];
    uint64_t cases = print_parts(outcome);
    print_failures(suite);
    duration_text(outcome->seconds, time);
    printf("\n%s: %" PRIu64 " cases, %" PRIu64 " failed; %" PRIu64 " pipelines made, nothing was run; %s\n",
           suite->failure_count ? "FAILED" : "passed", cases, suite->failure_count, suite->pipelines, time);
    return finish_output();
}

static int print_report(const Outcome *outcome)
{
    const SuiteResult *suite = &outcome->suite;
    char time[DURATION_SIZE];
    uint64_t cases = print_parts(outcome);
    printf("repeated  %8" PRIu64 "%8" PRIu64 "  arrays computed twice, and those with other bits\n", suite->repeated,
           suite->differing);
    printf("\nworst errors, relative to the largest magnitude of the tensor; the tolerance is %g\n", outcome->tolerance);
    for (int t = 0; t < SUITE_TENSORS; t++)
        if (suite->worst[t].compared)
            printf("  %-6s %9.2e  of %5" PRIu64 "  %s\n", suite_tensor_names[t], suite->worst[t].error, suite->worst[t].compared,
                   suite->worst[t].name);
    print_failures(suite);
    duration_text(outcome->seconds, time);
    printf("\n%s: %" PRIu64 " cases, %" PRIu64 " failed, %s\n", suite->failure_count ? "FAILED" : "passed", cases,
           suite->failure_count, time);
    return finish_output();
}

static void on_case(void *user, SuiteGroup group, const char *name, uint64_t done, uint64_t all)
{
    progress_piece(user, suite_group_names[group], name, done, all);
}

static int selftest(const SelftestArgs *args, Session *session, Outcome *outcome)
{
    Progress progress;
    int status = session_open(session);
    if (status == EXIT_OK)
        status = session_open_device(session, args->device);
    if (status != EXIT_OK)
        return status;
    vkl_device_info(session->device, &outcome->device);
    vkl_device_destroy(session->device); /* the suite opens its own; Turnip's shim has room for one */
    session->device = NULL;
    outcome->tolerance = outcome->device.type == VKL_DEVICE_CPU ? 1e-5 : 1e-4;
    progress_begin(&progress, args->quiet);
    const Suite suite = {session->context, args->device, outcome->tolerance, on_case, &progress, args->compile_only};
    double begin = clock_seconds();
    VklStatus ran = suite_run(&suite, &outcome->suite);
    outcome->seconds = clock_seconds() - begin;
    progress_end(&progress);
    if (ran != VKL_OK)
        return fail_library(session->context, ran);
    if (args->compile_only)
        status = args->json ? print_compiled_json(outcome) : print_compiled(outcome);
    else
        status = args->json ? print_report_json(outcome) : print_report(outcome);
    return status == EXIT_OK && outcome->suite.failure_count ? EXIT_FAILED : status;
}

static int run(const Command *command, int argc, char **argv)
{
    SelftestArgs args = {.device = "auto"};
    Session session = {NULL, NULL};
    Options parsed;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    Outcome *outcome = calloc(1, sizeof *outcome);
    status = outcome ? selftest(&args, &session, outcome) : fail("out of memory");
    free(outcome);
    session_close(&session);
    options_free(&parsed);
    return status;
}

const Command selftest_command = {
    .name = "selftest",
    .brief = "test a device and its driver",
    .operands = "",
    .summary =
        "Runs the recurrent operator on a device and compares it with a double-precision\nreference: every two options together, "
        "awkward sizes, extremes, small limits, the same\nbits twice, a training. Prints a report to paste into a bug report. "
        "Exit status 1 if\nanything fails. With --compile-only, everything is made as for such a test and nothing is run.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

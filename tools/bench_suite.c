/* SPDX-License-Identifier: MIT */
#include "bench_suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "info.h"
#include "measure.h"
#include "message.h"
#include "output.h"
#include "report.h"
#include "shapes.h"

#define PASS_SECONDS 3.0 /* of the repetitions of one pass */
/* With --quick: an iteration may take so long, since a pass is at least six. What would take longer at the best rate so far is
 * not begun. */
#define QUICK_ITERATION 0.5
#define QUICK_PASS_SECONDS 0.3

typedef struct Pass {
    bool done;
    Measure measure;
    double share; /* of the roofline; NaN: not known */
    uint64_t bytes, reserve;
} Pass;

typedef struct Entry {
    SuiteShape shape;
    char name[SHAPE_NAME_SIZE];
    Pass forward, train;
    bool skipped;    /* by --quick, or its training step is */
    char error[256]; /* empty: none */
} Entry;

typedef struct Results {
    const BenchSuite *suite;
    VklDeviceInfo info;
    Roofline roofline;
    double rate; /* the best flops a second so far, by which --quick judges */
    Entry *entries;
    size_t count;
} Results;

static VklStatus run_pass(Results *results, VklDevice *device, const Entry *entry, bool train, Pass *pass)
{
    Workload workload;
    Profile profile = {NULL};
    Shape shape = entry->shape.shape;
    bool quick = results->suite->quick;
    MeasureDesc desc = {.repeat = results->suite->repeat,
                        .most_seconds = quick ? QUICK_PASS_SECONDS : PASS_SECONDS,
                        .give_up = quick ? QUICK_ITERATION : 0,
                        .latency = results->suite->latency};
    shape.train = train;
    VklStatus status = workload_try(device, &shape, &workload);
    if (status == VKL_OK)
        status = measure_workload(&workload, &desc, &pass->measure);
    if (status == VKL_OK)
        status = profile_workload(&workload, &pass->measure, &results->roofline, &profile);
    if (status == VKL_OK) {
        pass->done = true;
        pass->share = profile.times ? profile.best / pass->measure.median : NAN;
        pass->bytes = workload.bytes;
        pass->reserve = train ? workload.sizes.reserve : 0;
        results->rate = fmax(results->rate, pass->measure.gflops * 1e9);
    }
    profile_finish(&profile);
    workload_destroy(&workload);
    return status;
}

static bool only_forward(const Entry *entry)
{
    return entry->shape.set == SHAPES_DEEPBENCH_SERVER || entry->shape.set == SHAPES_DEEPBENCH_DEVICE;
}

/* A shape that the device cannot run, for lack of memory, say, is told and passed over. */
static void run_entry(Results *results, VklDevice *device, Entry *entry)
{
    Shape shape = entry->shape.shape;
    shape.train = !only_forward(entry);
    if (results->suite->quick && results->rate > 0 && workload_flops(&shape) / results->rate > QUICK_ITERATION) {
        entry->skipped = true;
        return;
    }
    VklStatus status = run_pass(results, device, entry, false, &entry->forward);
    if (status == VKL_OK && shape.train)
        status = run_pass(results, device, entry, true, &entry->train);
    if (status == VKL_TIMEOUT)
        entry->skipped = true;
    else if (status != VKL_OK)
        snprintf(entry->error, sizeof entry->error, "%.250s", vkl_device_error(device));
}

static void pass_text(const Pass *pass, char *text, size_t size)
{
    char share[16] = "-";
    if (!pass->done) {
        snprintf(text, size, "%10s %8s %6s", "-", "-", "-");
        return;
    }
    if (isfinite(pass->share))
        snprintf(share, sizeof share, "%.1f%%", 100 * pass->share);
    snprintf(text, size, "%10.4g %8.4g %6s", pass->measure.median * 1e3, pass->measure.gflops, share);
}

static void print_entry(const Entry *entry)
{
    char forward[64], train[64];
    pass_text(&entry->forward, forward, sizeof forward);
    pass_text(&entry->train, train, sizeof train);
    if (entry->skipped && !entry->forward.done)
        printf("%-48s left out by --quick\n", entry->name);
    else
        printf("%-48s %s  %s%s%s\n", entry->name, forward, train, entry->error[0] ? "  " : "", entry->error);
    fflush(stdout);
}

static json_t *pass_json(const Pass *pass)
{
    const Measure *measure = &pass->measure;
    if (!pass->done)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:o, s:f, s:f, s:I, s:I, s:I}", "median_ms", measure->median * 1e3, "min_ms",
                     measure->least * 1e3, "gflops", measure->gflops, "share", json_number(pass->share), "dispatches",
                     measure->dispatches, "submits", measure->submits, "buffer_bytes", (json_int_t)pass->bytes, "reserve_bytes",
                     (json_int_t)pass->reserve, "repeat", (json_int_t)measure->repeat);
}

static json_t *entry_json(const Entry *entry)
{
    const Shape *shape = &entry->shape.shape;
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:b, s:o}", "name", entry->name, "cell",
                     cell_name(shape->cell), "seq", (json_int_t)shape->seq, "batch", (json_int_t)shape->batch, "input",
                     (json_int_t)shape->input, "hidden", (json_int_t)shape->hidden, "skip_input", shape->skip_input, "forward",
                     pass_json(&entry->forward), "train", pass_json(&entry->train), "skipped", entry->skipped, "error",
                     entry->error[0] ? json_string(entry->error) : json_null());
}

static json_t *results_json(const Results *results)
{
    json_t *shapes = json_array();
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    for (size_t i = 0; i < results->count; i++)
        json_array_append_new(shapes, entry_json(&results->entries[i]));
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "vklstm", vkl_version(), "date", date, "device",
                     info_device_json(&results->info), "roofline", roofline_json(&results->roofline), "shapes", shapes);
}

static int write_json(const Results *results)
{
    Output output = {NULL};
    json_t *object = results_json(results);
    if (!object)
        return fail("out of memory");
    int status = output_open(&output, results->suite->output);
    if (status == EXIT_OK) {
        json_dumpf(object, output.file, JSON_INDENT(1) | JSON_REAL_PRECISION(10)); /* commit sees a failed write */
        fputc('\n', output.file);
        status = output_commit(&output);
    }
    json_decref(object);
    return status;
}

static void markdown_pass(FILE *file, const Pass *pass)
{
    if (!pass->done) {
        fprintf(file, " | | | | |");
        return;
    }
    fprintf(file, " %.4g | %.4g |", pass->measure.median * 1e3, pass->measure.gflops);
    if (isfinite(pass->share))
        fprintf(file, " %.1f %% |", 100 * pass->share);
    else
        fprintf(file, " |");
    fprintf(file, " %.4g | %.1f |", pass->measure.dispatches, (double)pass->bytes / (1024.0 * 1024.0));
}

static int write_markdown(const Results *results)
{
    Output output = {NULL};
    int status = output_open(&output, results->suite->markdown);
    if (status != EXIT_OK)
        return status;
    FILE *file = output.file;
    fprintf(file, "vklstm %s on %s, driver %s\n\n", vkl_version(), results->info.name, results->info.driver);
    roofline_print(file, &results->roofline);
    fprintf(file,
            "\n| shape | forward ms | GFLOP/s | of roofline | dispatches | MiB | training step ms | GFLOP/s | of roofline | "
            "dispatches | MiB |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < results->count; i++) {
        const Entry *entry = &results->entries[i];
        if (entry->skipped && !entry->forward.done)
            continue;
        fprintf(file, "| %s |", entry->name);
        markdown_pass(file, &entry->forward);
        markdown_pass(file, &entry->train);
        fprintf(file, "\n");
    }
    return output_commit(&output);
}

static size_t choose_shapes(Results *results)
{
    size_t count = 0;
    for (size_t i = 0; i < suite_shape_count(); i++) {
        Entry *entry = &results->entries[count];
        suite_shape(i, &entry->shape);
        suite_shape_name(&entry->shape, entry->name);
        if (!results->suite->only || strstr(entry->name, results->suite->only))
            count++;
    }
    return count;
}

static int run_all(Results *results, VklDevice *device)
{
    const BenchSuite *suite = results->suite;
    bool table = !suite->json;
    VklStatus status = roofline_open(device, suite->peak, suite->bandwidth, &results->roofline);
    if (status != VKL_OK)
        return fail_library(vkl_device_context(device), status);
    if (table) {
        printf("%s, %s\n", results->info.name, results->info.driver);
        roofline_print(stdout, &results->roofline);
        printf("\n%-48s %10s %8s %6s  %10s %8s %6s\n", "shape", "forward ms", "GFLOP/s", "roof", "train ms", "GFLOP/s", "roof");
    }
    for (size_t i = 0; i < results->count; i++) {
        run_entry(results, device, &results->entries[i]);
        if (table)
            print_entry(&results->entries[i]);
    }
    int printed = suite->json ? print_json(results_json(results)) : finish_output();
    if (printed == EXIT_OK && suite->output)
        printed = write_json(results);
    if (printed == EXIT_OK && suite->markdown)
        printed = write_markdown(results);
    return printed;
}

int bench_suite(VklDevice *device, const BenchSuite *suite)
{
    const OutputName names[] = {{.option = "--output", .path = suite->output}, {.option = "--markdown", .path = suite->markdown}};
    Results results = {.suite = suite};
    int status = output_check(names, sizeof names / sizeof names[0]);
    if (status != EXIT_OK)
        return status;
    vkl_device_info(device, &results.info);
    results.entries = calloc(suite_shape_count() + 1, sizeof *results.entries);
    if (!results.entries)
        return fail("out of memory");
    results.count = choose_shapes(&results);
    status = results.count ? run_all(&results, device) : fail_usage("--only: no shape's name contains '%s'", suite->only);
    free(results.entries);
    return status;
}

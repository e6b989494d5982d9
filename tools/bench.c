/* SPDX-License-Identifier: MIT
 *
 * vklstm bench: how long a forward pass or a training step takes.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_agents.h"
#include "bench_suite.h"
#include "commands.h"
#include "measure.h"
#include "message.h"
#include "report.h"
#include "session.h"
#include "shapes.h"

typedef struct Product {
    uint64_t m, n, k; /* m 0: not asked for */
} Product;

typedef struct BenchArgs {
    Shape shape;
    Product gemm;
    bool run_suite, roofline, brief;
    BenchAgents agents; /* and whether */
    bool run_agents;
    BenchSuite suite; /* and what it shares with a single shape */
    const char *device;
} BenchArgs;

static bool parse_cell(const char *text, void *value)
{
    for (int cell = VKL_CELL_LSTM; cell <= VKL_CELL_RNN_RELU; cell++)
        if (strcmp(text, cell_name((VklCell)cell)) == 0) {
            *(VklCell *)value = (VklCell)cell;
            return true;
        }
    return false;
}

static bool parse_path(const char *text, void *value)
{
    return vkl_rnn_path(text, value);
}

static bool parse_pass(const char *text, void *value)
{
    bool train = strcmp(text, "train") == 0;
    if (!train && strcmp(text, "forward") != 0)
        return false;
    *(bool *)value = train;
    return true;
}

static bool parse_product(const char *text, void *value)
{
    unsigned long long m, n, k;
    int end = -1;
    if (!strspn(text, "0123456789") || sscanf(text, "%9llu,%9llu,%9llu%n", &m, &n, &k, &end) != 3 || text[end] != '\0' || !m ||
        !n || !k)
        return false;
    *(Product *)value = (Product){m, n, k};
    return true;
}

static const Option options[] = {
    GROUP("Shape"),
    NAME("cell", (BenchArgs, shape.cell), parse_cell, "NAME", "lstm, gru, rnn and rnn_relu",
         "lstm, gru, rnn (tanh) or rnn_relu [lstm]"),
    COUNT("seq", (BenchArgs, shape.seq), 1, COUNT_MAX, "time steps, T [100]"),
    COUNT("batch", (BenchArgs, shape.batch), 1, COUNT_MAX, "rows of the batch, N [32]"),
    COUNT("input", (BenchArgs, shape.input), 1, COUNT_MAX, "features, I [8]"),
    COUNT("hidden", (BenchArgs, shape.hidden), 1, COUNT_MAX, "hidden units, H [64]"),
    COUNT("layers", (BenchArgs, shape.layers), 1, COUNT_MAX, "layers, L [1]"),
    COUNT("output-size", (BenchArgs, shape.output), 0, COUNT_MAX, "outputs of a dense layer on the last time step [0: none]"),
    FLAG("skip-input", (BenchArgs, shape.skip_input), "x, as wide as the hidden units, is added to the gates without a product"),
    FLAG("half", (BenchArgs, shape.halves), "matrices are rounded to halves in each pass, and gates kept as halves"),
    NAME("path", (BenchArgs, shape.path), parse_path, "NAME", "auto, pieces, step, sequence and wavefront",
         "how time steps are done: auto, pieces, step, sequence or wavefront [auto]"),
    NAME("gemm", (BenchArgs, gemm), parse_product, "M,N,K", "three sizes, as M,N,K",
         "in place of all that, the product of M x K and K x N, as a dense layer's forward"),
    GROUP("Suite"),
    FLAG("suite", (BenchArgs, run_suite), "run the named shapes of time series and of DeepBench, both passes"),
    TEXT("only", (BenchArgs, suite.only), "TEXT", "those whose name contains TEXT"),
    FLAG("quick", (BenchArgs, suite.quick), "leave out those that take more than a second or so"),
    TEXT("output", (BenchArgs, suite.output), "FILE", "write the results as JSON"),
    TEXT("markdown", (BenchArgs, suite.markdown), "FILE", "write the results as a table in Markdown"),
    GROUP("Agents"),
    FLAG("agents", (BenchArgs, run_agents),
         "in place of all that, one step of 1, 3, 10 ... agents whose states stay on the device, and the same on the CPU beside "
         "it"),
    COUNT("most", (BenchArgs, agents.most), 1, COUNT_MAX, "most agents [10000]"),
    GROUP("Roofline"),
    FLAG("roofline", (BenchArgs, roofline), "time each kernel, and say how near it comes to what the device can do"),
    REAL("peak", (BenchArgs, suite.peak), 0, INFINITY, "GFLOP/s of the device [measured]"),
    REAL("bandwidth", (BenchArgs, suite.bandwidth), 0, INFINITY, "GB/s of the device's memory [measured]"),
    GROUP("Measurement"),
    NAME("pass", (BenchArgs, shape.train), parse_pass, "NAME", "forward and train", "forward or train [forward]"),
    COUNT("repeat", (BenchArgs, suite.repeat), 1, 1000000, "repetitions, of which median and minimum are told [11]"),
    FLAG("latency", (BenchArgs, suite.latency), "submit and wait for each iteration by itself"),
    DEVICE((BenchArgs, device)),
    FLAG("brief", (BenchArgs, brief), "print the median in milliseconds and the device alone"),
    FLAG("json", (BenchArgs, suite.json), "print the results as one JSON object"),
};

typedef struct Result {
    Measure measure;
    Roofline roofline;
    Profile profile;
    uint64_t bytes, reserve;
} Result;

static json_t *result_json(const char *device, const BenchArgs *args, const Result *result)
{
    const Shape *shape = &args->shape;
    const Measure *measure = &result->measure;
    json_t *sizes = shape->hidden
                        ? json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "cell", cell_name(shape->cell), "seq",
                                    (json_int_t)shape->seq, "batch", (json_int_t)shape->batch, "input", (json_int_t)shape->input,
                                    "hidden", (json_int_t)shape->hidden, "layers", (json_int_t)shape->layers, "output_size",
                                    (json_int_t)shape->output, "skip_input", shape->skip_input, "half", shape->halves)
                        : json_pack("{s:I, s:I, s:I}", "m", (json_int_t)args->gemm.m, "n", (json_int_t)args->gemm.n, "k",
                                    (json_int_t)args->gemm.k);
    json_t *object =
        json_pack("{s:s, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "device", device, "shape", sizes, "pass",
                  shape->train ? "train" : "forward", "median_ms", measure->median * 1e3, "min_ms", measure->least * 1e3,
                  "gflops", measure->gflops, "dispatches", measure->dispatches, "submits", measure->submits, "buffer_bytes",
                  (json_int_t)result->bytes, "reserve_bytes", (json_int_t)result->reserve, "repeat", (json_int_t)measure->repeat,
                  "iterations", (json_int_t)measure->iterations);
    if (object && args->roofline) {
        json_object_set_new(object, "roofline", roofline_json(&result->roofline));
        json_object_set_new(object, "kernels", profile_json(&result->profile, &result->roofline));
        json_object_set_new(object, "share", json_number(result->profile.times ? result->profile.best / measure->median : NAN));
    }
    return object;
}

static int print_result(const char *device, const BenchArgs *args, const Result *result)
{
    const Shape *shape = &args->shape;
    const Measure *measure = &result->measure;
    if (args->suite.json)
        return print_json(result_json(device, args, result));
    if (args->brief) {
        printf("%.6g %s\n", measure->median * 1e3, device);
        return finish_output();
    }
    if (shape->hidden)
        printf("%s T%llu N%llu I%llu H%llu L%llu", cell_name(shape->cell), (unsigned long long)shape->seq,
               (unsigned long long)shape->batch, (unsigned long long)shape->input, (unsigned long long)shape->hidden,
               (unsigned long long)shape->layers);
    else
        printf("product M%llu N%llu K%llu", (unsigned long long)args->gemm.m, (unsigned long long)args->gemm.n,
               (unsigned long long)args->gemm.k);
    if (shape->output && shape->hidden)
        printf(" dense %llu", (unsigned long long)shape->output);
    printf(", %s, %s\n", shape->train ? "training step" : "forward pass", device);
    printf("median %.4g ms, minimum %.4g ms, %.4g GFLOP/s, %.4g dispatches, %.3g submits\n", measure->median * 1e3,
           measure->least * 1e3, measure->gflops, measure->dispatches, measure->submits);
    printf("%.4g MiB of buffers, of which %.4g MiB reserve\n", (double)result->bytes / (1024.0 * 1024.0),
           (double)result->reserve / (1024.0 * 1024.0));
    if (args->roofline) {
        printf("\n");
        roofline_print(stdout, &result->roofline);
        profile_print(stdout, &result->profile, &result->roofline);
    }
    return finish_output();
}

static VklStatus measure_all(const BenchArgs *args, Workload *workload, Result *result)
{
    MeasureDesc desc = {.repeat = args->suite.repeat, .most_seconds = INFINITY, .latency = args->suite.latency};
    VklStatus status = measure_workload(workload, &desc, &result->measure);
    result->bytes = workload->bytes;
    result->reserve = args->shape.train ? workload->sizes.reserve : 0;
    if (status != VKL_OK || !args->roofline)
        return status;
    status = roofline_open(workload->device, args->suite.peak, args->suite.bandwidth, &result->roofline);
    return status == VKL_OK ? profile_workload(workload, &result->measure, &result->roofline, &result->profile) : status;
}

static int bench_shape(Session *session, const BenchArgs *args)
{
    Workload workload;
    Result result = {.profile = {NULL}};
    int status = workload_create(session->device, &args->shape, &workload);
    if (status == EXIT_OK) {
        VklStatus measured = measure_all(args, &workload, &result);
        status = measured == VKL_OK ? EXIT_OK : fail_library(session->context, measured);
    }
    if (status == EXIT_OK) {
        VklDeviceInfo info;
        vkl_device_info(session->device, &info);
        status = print_result(info.name, args, &result);
    }
    profile_finish(&result.profile);
    workload_destroy(&workload);
    return status;
}

/* Options that do not go together. */
static int check(BenchArgs *args)
{
    Shape *shape = &args->shape;
    const BenchSuite *suite = &args->suite;
    if (!args->run_suite && (suite->only || suite->quick || suite->output || suite->markdown))
        return fail_usage("--%s: it needs --suite", suite->only     ? "only"
                                                    : suite->quick  ? "quick"
                                                    : suite->output ? "output"
                                                                    : "markdown");
    if (args->run_suite && args->gemm.m)
        return fail_usage("--gemm: --suite has shapes of its own");
    if (args->run_agents && (args->run_suite || args->gemm.m || args->roofline || args->brief))
        return fail_usage("--agents: it goes with a layer's shape alone, and not with --%s", args->run_suite  ? "suite"
                                                                                             : args->gemm.m   ? "gemm"
                                                                                             : args->roofline ? "roofline"
                                                                                                              : "brief");
    if (!args->gemm.m)
        return EXIT_OK;
    if (shape->train)
        return fail_usage("--gemm: a product has no training step");
    *shape = (Shape){.seq = 1, .batch = args->gemm.m, .input = args->gemm.k, .output = args->gemm.n};
    return EXIT_OK;
}

static int bench(BenchArgs *args)
{
    Session session = {NULL, NULL};
    int status = check(args);
    if (status == EXIT_OK)
        status = session_open(&session);
    if (status == EXIT_OK)
        status = session_open_device(&session, args->device);
    if (status == EXIT_OK)
        status = args->run_suite    ? bench_suite(session.device, &args->suite)
                 : args->run_agents ? bench_agents(session.context, session.device, &args->shape,
                                                   &(BenchAgents){args->agents.most, args->suite.repeat, args->suite.json})
                                    : bench_shape(&session, args);
    session_close(&session);
    return status;
}

static int run(const Command *command, int argc, char **argv)
{
    BenchArgs args = {.shape = {.cell = VKL_CELL_LSTM, .seq = 100, .batch = 32, .input = 8, .hidden = 64, .layers = 1},
                      .agents = {.most = 10000},
                      .suite = {.repeat = 11},
                      .device = "auto"};
    Options parsed;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    status = bench(&args);
    options_free(&parsed);
    return status;
}

const Command bench_command = {
    .name = "bench",
    .brief = "time a forward pass or a training step",
    .operands = "",
    .summary =
        "Times the forward pass or the training step of a recurrent network. A repetition is as\nmany iterations as take about "
        "20 ms, recorded, submitted and waited for together.\nWith --suite, times many shapes, to be sent in.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

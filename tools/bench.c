/* SPDX-License-Identifier: MIT
 *
 * vklstm bench: how long a forward pass or a training step takes.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "commands.h"
#include "message.h"
#include "report.h"
#include "session.h"
#include "workload.h"

typedef struct BenchArgs {
    Shape shape;
    uint64_t repeat;
    const char *device;
    bool json;
} BenchArgs;

static const char *const cell_names[] = {"lstm", "gru", "rnn", "rnn_relu"}; /* by VklCell */

static bool parse_cell(const char *text, void *value)
{
    for (int cell = VKL_CELL_LSTM; cell <= VKL_CELL_RNN_RELU; cell++)
        if (strcmp(text, cell_names[cell]) == 0) {
            *(VklCell *)value = (VklCell)cell;
            return true;
        }
    return false;
}

static bool parse_pass(const char *text, void *value)
{
    bool train = strcmp(text, "train") == 0;
    if (!train && strcmp(text, "forward") != 0)
        return false;
    *(bool *)value = train;
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
    GROUP("Measurement"),
    NAME("pass", (BenchArgs, shape.train), parse_pass, "NAME", "forward and train", "forward or train [forward]"),
    COUNT("repeat", (BenchArgs, repeat), 1, 1000000, "repetitions, of which median and minimum are told [11]"),
    DEVICE((BenchArgs, device)),
    FLAG("json", (BenchArgs, json), "print the results as one JSON object"),
};

#define REPETITION_SECONDS 0.02 /* a shorter one measures the clock and the scheduler */
#define ITERATIONS_MAX 2000

typedef struct BenchResult {
    double median, least; /* seconds of one iteration */
    double gflops;
    double dispatches, submits; /* of one iteration */
    uint64_t iterations;        /* of one repetition */
} BenchResult;

/* Records, submits and waits for so many iterations, as one submission. */
static VklStatus repeat(Workload *workload, uint64_t iterations, double *seconds)
{
    VklStatus status = VKL_OK;
    double begin = clock_seconds();
    for (uint64_t i = 0; i < iterations && status == VKL_OK; i++)
        status = workload_record(workload);
    if (status == VKL_OK)
        status = vkl_stream_wait(workload->stream);
    *seconds = clock_seconds() - begin;
    return status;
}

/* Finds how many iterations a repetition needs; that is the warm-up, too. */
static VklStatus calibrate(Workload *workload, uint64_t *iterations)
{
    double seconds;
    VklStatus status = repeat(workload, 1, &seconds); /* compiles, allocates */
    *iterations = 1;
    for (int i = 0; i < 8 && status == VKL_OK; i++) {
        status = repeat(workload, *iterations, &seconds);
        if (seconds >= REPETITION_SECONDS || *iterations == ITERATIONS_MAX)
            break;
        double wanted = ceil((double)*iterations * fmin(1.2 * REPETITION_SECONDS / fmax(seconds, 1e-6), 100));
        *iterations = wanted < ITERATIONS_MAX ? (uint64_t)wanted : ITERATIONS_MAX;
    }
    return status;
}

static int compare_numbers(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static VklStatus measure(Workload *workload, uint64_t count, BenchResult *result)
{
    double *seconds = malloc((size_t)count * sizeof *seconds);
    VklStreamStats before, after;
    if (!seconds)
        return VKL_ERROR_HOST_MEMORY;
    VklStatus status = calibrate(workload, &result->iterations);
    vkl_stream_stats(workload->stream, &before);
    for (uint64_t i = 0; i < count && status == VKL_OK; i++)
        status = repeat(workload, result->iterations, &seconds[i]);
    vkl_stream_stats(workload->stream, &after);
    if (status == VKL_OK) {
        double iterations = (double)result->iterations;
        qsort(seconds, (size_t)count, sizeof *seconds, compare_numbers);
        result->median = (seconds[(count - 1) / 2] + seconds[count / 2]) / 2 / iterations;
        result->least = seconds[0] / iterations;
        result->gflops = workload_flops(workload->shape) / result->median * 1e-9;
        result->dispatches = (double)(after.dispatches - before.dispatches) / (iterations * (double)count);
        result->submits = (double)(after.submits - before.submits) / (iterations * (double)count);
    }
    free(seconds);
    return status;
}

static json_t *result_json(const char *device, const BenchArgs *args, const BenchResult *result)
{
    const Shape *shape = &args->shape;
    json_t *sizes =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "cell", cell_names[shape->cell], "seq", (json_int_t)shape->seq, "batch",
                  (json_int_t)shape->batch, "input", (json_int_t)shape->input, "hidden", (json_int_t)shape->hidden, "layers",
                  (json_int_t)shape->layers, "output_size", (json_int_t)shape->output);
    return json_pack("{s:s, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "device", device, "shape", sizes, "pass",
                     shape->train ? "train" : "forward", "median_ms", result->median * 1e3, "min_ms", result->least * 1e3,
                     "gflops", result->gflops, "dispatches", result->dispatches, "submits", result->submits, "repeat",
                     (json_int_t)args->repeat, "iterations", (json_int_t)result->iterations);
}

static int print_result(const char *device, const BenchArgs *args, const BenchResult *result)
{
    const Shape *shape = &args->shape;
    if (args->json)
        return print_json(result_json(device, args, result));
    printf("%s T%llu N%llu I%llu H%llu L%llu", cell_names[shape->cell], (unsigned long long)shape->seq,
           (unsigned long long)shape->batch, (unsigned long long)shape->input, (unsigned long long)shape->hidden,
           (unsigned long long)shape->layers);
    if (shape->output)
        printf(" dense %llu", (unsigned long long)shape->output);
    printf(", %s, %s\n", shape->train ? "training step" : "forward pass", device);
    printf("median %.4g ms, minimum %.4g ms, %.4g GFLOP/s, %.4g dispatches, %.3g submits\n", result->median * 1e3,
           result->least * 1e3, result->gflops, result->dispatches, result->submits);
    return finish_output();
}

static int bench(const BenchArgs *args)
{
    Session session = {NULL, NULL};
    Workload workload = {NULL};
    BenchResult result = {0};
    int status = session_open(&session);
    if (status == EXIT_OK)
        status = session_open_device(&session, args->device);
    if (status == EXIT_OK)
        status = workload_create(session.device, &args->shape, &workload);
    if (status == EXIT_OK) {
        VklStatus measured = measure(&workload, args->repeat, &result);
        status = measured == VKL_OK ? EXIT_OK : fail_library(session.context, measured);
    }
    if (status == EXIT_OK) {
        VklDeviceInfo info;
        vkl_device_info(session.device, &info);
        status = print_result(info.name, args, &result);
    }
    workload_destroy(&workload);
    session_close(&session);
    return status;
}

static int run(const Command *command, int argc, char **argv)
{
    BenchArgs args = {.shape = {.cell = VKL_CELL_LSTM, .seq = 100, .batch = 32, .input = 8, .hidden = 64, .layers = 1},
                      .repeat = 11,
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
        "20 ms, recorded, submitted and waited for together.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

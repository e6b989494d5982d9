/* SPDX-License-Identifier: MIT
 *
 * vklstm predict: what comes after the last row of a CSV file.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "figure.h"
#include "message.h"
#include "output.h"
#include "plot.h"
#include "stored.h"

typedef struct PredictArgs {
    uint64_t steps;
    const char *data, *output, *plot, *device;
    bool quiet;
} PredictArgs;

static const Option options[] = {
    COUNT("steps", (PredictArgs, steps), 1, COUNT_MAX, "how many values, each made from the ones before [1]"),
    TEXT("output", (PredictArgs, output), "FILE.csv", "write the forecast there [standard output]"),
    TEXT("plot", (PredictArgs, plot), "FILE", "draw the forecast as .svg or .png (gnuplot)"),
    DEVICE((PredictArgs, device)),
    FLAG("quiet", (PredictArgs, quiet), "no notes"),
};

/* A cell as RFC 4180 wants it. */
static void print_cell(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static void print_forecast(FILE *file, const VklTable *table, const Timeline *timeline, uint64_t first, uint64_t steps,
                           const double *values)
{
    char label[LABEL_SIZE];
    print_cell(file, timeline->form == TIME_NONE ? "row" : vkl_table_column_name(table, 0));
    fputs(",forecast\n", file);
    for (uint64_t i = 0; i < steps; i++) {
        timeline_label(timeline, first + i, label);
        fprintf(file, "%s,%.9g\n", label, values[i]);
    }
}

static int write_forecast(const PredictArgs *args, const VklTable *table, const Timeline *timeline, uint64_t first,
                          const double *values)
{
    Output output;
    if (!args->output) {
        print_forecast(stdout, table, timeline, first, args->steps, values);
        return finish_output();
    }
    int status = output_open(&output, args->output);
    if (status != EXIT_OK)
        return status;
    print_forecast(output.file, table, timeline, first, args->steps, values);
    return output_commit(&output);
}

/* Each step after the first needs values of all features, and only those of the target are forecast. */
static int check_steps(const Stored *stored, const PredictArgs *args)
{
    const VklPrepDesc *prep = vkl_prep_get_desc(stored->prep);
    for (uint32_t i = 0; i < prep->feature_count && args->steps > 1; i++)
        if (strcmp(prep->features[i], prep->target) != 0)
            return fail("--steps: %llu needs a network whose only feature is its target; later values of '%.64s' are not known",
                        (unsigned long long)args->steps, prep->features[i]);
    return EXIT_OK;
}

static int predict(const Stored *stored, const PredictArgs *args)
{
    const VklPrepDesc *prep = vkl_prep_get_desc(stored->prep);
    double *values = args->steps <= SIZE_MAX / sizeof *values ? malloc((size_t)args->steps * sizeof *values) : NULL;
    Timeline timeline;
    if (!values || !timeline_create(stored->table, &timeline)) {
        free(values);
        return fail("--steps: %llu: out of memory", (unsigned long long)args->steps);
    }
    uint64_t first = vkl_table_rows(stored->table) - 1 + prep->horizon;
    VklStatus forecast = vkl_prep_forecast(stored->prep, stored->table, stored->model, args->steps, values);
    int status = forecast == VKL_OK ? EXIT_OK : fail_library(stored->session.context, forecast);
    for (uint64_t i = 0; i < args->steps && status == EXIT_OK; i++)
        if (!isfinite(values[i]))
            status = fail("the forecast is not finite: step %llu of %llu is %g", (unsigned long long)i + 1,
                          (unsigned long long)args->steps, values[i]);
    if (status == EXIT_OK && !args->quiet) {
        timeline_note_labels(&timeline, stored->table, args->data);
        timeline_note_step(&timeline, args->data);
    }
    if (status == EXIT_OK && args->plot)
        status = figure_forecast(stored->table, &timeline, prep->target, first, args->steps, values, args->plot);
    if (status == EXIT_OK)
        status = write_forecast(args, stored->table, &timeline, first, values);
    timeline_destroy(&timeline);
    free(values);
    return status;
}

static int run(const Command *command, int argc, char **argv)
{
    PredictArgs args = {.steps = 1, .device = "auto"};
    Options parsed;
    Stored stored;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    args.data = parsed.operands[1];
    const OutputName names[] = {
        {"MODEL", parsed.operands[0], true, false},
        {"DATA.csv", args.data, true, false},
        {"--output", args.output, false, false},
        {"--plot", args.plot, false, false},
    };
    status = args.plot ? plot_check(args.plot) : EXIT_OK;
    if (status == EXIT_OK)
        status = output_check(names, sizeof names / sizeof names[0]);
    if (status == EXIT_OK) {
        status = stored_open(&stored, args.device, parsed.operands[0], args.data);
        if (status == EXIT_OK)
            status = check_steps(&stored, &args);
        if (status == EXIT_OK)
            status = predict(&stored, &args);
        stored_close(&stored);
    }
    options_free(&parsed);
    return status;
}

const Command predict_command = {
    .name = "predict",
    .brief = "forecast what comes after a CSV file",
    .operands = "MODEL DATA.csv",
    .operand_count = 2,
    .summary =
        "Forecasts the values after the last row of a CSV file, as CSV: the date (or the number\nof the row) and the forecast.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .examples = "Example:\n  vklstm predict model.safetensors passengers.csv --steps 12 --output forecast.csv\n",
    .run = run,
};

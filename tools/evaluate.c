/* SPDX-License-Identifier: MIT
 *
 * vklstm evaluate: the errors of a stored model on a CSV file, split as the model's preparation says.
 */
#include "clock.h"
#include "commands.h"
#include "message.h"
#include "report.h"
#include "stored.h"

typedef struct EvaluateArgs {
    uint64_t season;
    const char *device;
    bool json;
} EvaluateArgs;

static const Option options[] = {
    COUNT("season", (EvaluateArgs, season), 0, COUNT_MAX, "rows of a season, for two more baselines [0: none]"),
    DEVICE((EvaluateArgs, device)),
    FLAG("json", (EvaluateArgs, json), "print the results as one JSON object"),
};

static int evaluate(const Stored *stored, const EvaluateArgs *args)
{
    Parts parts;
    VklDeviceInfo info;
    const VklPrepDesc *prep = vkl_prep_get_desc(stored->prep);
    double begin = clock_seconds();
    VklStatus status = parts_predict(stored->prep, stored->table, stored->model, args->season, &parts);
    if (status != VKL_OK)
        return fail_library(stored->session.context, status);
    parts_note_unscored(&parts, stored->prep, stored->table);
    vkl_device_info(stored->session.device, &info);
    Report report = {.device = info.name,
                     .target = prep->target,
                     .horizon = prep->horizon,
                     .parameters = vkl_model_parameters(stored->model),
                     .seconds = clock_seconds() - begin,
                     .parts = &parts};
    int printed = args->json ? report_json(&report) : report_text(&report);
    bool warned = parts_warn(&parts);
    parts_clear(&parts);
    return printed == EXIT_OK && warned ? EXIT_FAILED : printed;
}

static int run(const Command *command, int argc, char **argv)
{
    EvaluateArgs args = {.device = "auto"};
    Options parsed;
    Stored stored;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    status = stored_open(&stored, args.device, parsed.operands[0], parsed.operands[1]);
    if (status == EXIT_OK)
        status = evaluate(&stored, &args);
    stored_close(&stored);
    options_free(&parsed);
    return status;
}

const Command evaluate_command = {
    .name = "evaluate",
    .brief = "the errors of a trained model on a CSV file",
    .operands = "MODEL DATA.csv",
    .operand_count = 2,
    .summary =
        "Prints the errors of a trained model on a CSV file, beside those of forecasts that\nneed no training. The rows are "
        "split as they were for training.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

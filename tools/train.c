/* SPDX-License-Identifier: MIT
 *
 * vklstm train: from a CSV file to a trained model, its errors, and pictures of both.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "figure.h"
#include "interrupt.h"
#include "message.h"
#include "options.h"
#include "output.h"
#include "plot.h"
#include "report.h"
#include "timeline.h"
#include "training.h"

static const Option options[] = {
    GROUP("Data"),
    TEXT("target", (TrainArgs, target), "COLUMN", "the column to forecast (required)"),
    TEXT("features", (TrainArgs, features), "A,B,...", "the columns that the network sees [the target alone]"),
    COUNT("window", (TrainArgs, window), 1, COUNT_MAX, "rows that the network sees for one forecast [1]"),
    COUNT("horizon", (TrainArgs, horizon), 1, COUNT_MAX, "forecast the value N rows after the window [1]"),
    NAME("fill", (TrainArgs, fill), parse_fill, "METHOD[:K]",
         "mean, median, mode, forward, backward, linear, drop, and moving-average:K with an odd K of at least 3",
         "what stands in for a gap in the inputs: mean, median,\nmode, forward, backward, linear, moving-average:K\n"
         "(K odd, at least 3), or drop: leave out windows with\ngaps [forward]"),
    NAME("scale", (TrainArgs, scale), parse_scale, "NAME", "minmax, standard and none", "minmax, standard or none [minmax]"),
    FLAG("log", (TrainArgs, log), "take the logarithm of the target column first"),
    COUNT("difference", (TrainArgs, difference), 0, COUNT_MAX, "learn the change of the target over N rows [0: off]"),
    REAL("test-split", (TrainArgs, test_split), 0, 1, "share of the rows, at the end, kept for the test [0.2]"),
    REAL("validation-split", (TrainArgs, validation_split), 0, 1, "share of the rest, at its end, for validation [0]"),
    COUNT("season", (TrainArgs, season), 0, COUNT_MAX, "rows of a season, for two more baselines [0: none]"),
    GROUP("Network and training"),
    TEXT("layers", (TrainArgs, layers), "LIST",
         "layers, comma-separated [lstm:50,dense:1]:\nlstm:UNITS[:PROJECTION], gru:UNITS, rnn:UNITS (tanh),\n"
         "rnn_relu:UNITS, each with bi before it for both\ndirections (bilstm:UNITS); dense:UNITS[:ACTIVATION], with\n"
         "none, tanh, sigmoid, relu; dropout:RATE. Behind a recurrent\nlayer @pieces, @step, @sequence, @wavefront: how its time "
         "steps are "
         "done"),
    COUNT("epochs", (TrainArgs, epochs), 1, COUNT_MAX, "how often the training part is gone through [100]"),
    COUNT("batch-size", (TrainArgs, batch_size), 1, COUNT_MAX, "windows of one training step [1]"),
    NAME("optimizer", (TrainArgs, optimizer), parse_optimizer, "NAME", "sgd, rmsprop, adam and adamw",
         "sgd, rmsprop, adam or adamw [adam]"),
    REAL("learning-rate", (TrainArgs, learning_rate), 0, INFINITY, "[0.001 for adam and adamw, 0.01 for sgd and rmsprop]"),
    NAME("loss", (TrainArgs, loss), parse_loss, "NAME", "mse, mae and huber", "mse, mae or huber [mse]"),
    REAL("clip-norm", (TrainArgs, clip_norm), 0, INFINITY, "largest norm of the gradient [0: off]"),
    REAL("weight-decay", (TrainArgs, weight_decay), 0, INFINITY, "[0.01 for adamw, else 0]"),
    REAL("momentum", (TrainArgs, momentum), 0, 1, "for sgd and rmsprop [0]"),
    COUNT("patience", (TrainArgs, patience), 0, COUNT_MAX,
          "stop after N epochs without a lower validation loss,\nand take the best weights [0: off]"),
    FLAG("refit", (TrainArgs, refit), "after that, train anew on training and validation part\nfor as many epochs as were best"),
    COUNT("seed", (TrainArgs, seed), 0, UINT64_MAX, "of first weights and shuffles [1]"),
    DEVICE((TrainArgs, device)),
    GROUP("Results"),
    TEXT("output", (TrainArgs, output), "MODEL", "write the trained model"),
    TEXT("checkpoint", (TrainArgs, checkpoint), "FILE",
         "keep the state of training, for --resume: now and then,\nat its end, and on Ctrl-C"),
    COUNT("checkpoint-every", (TrainArgs, checkpoint_every), 1, COUNT_MAX, "epochs between two writings [10]"),
    TEXT("resume", (TrainArgs, resume), "FILE",
         "go on from a checkpoint of the same data, layers and\noptions but --epochs and --patience"),
    TEXT("plot", (TrainArgs, plot), "FILE", "draw series and forecasts as .svg or .png (gnuplot)"),
    TEXT("history", (TrainArgs, history), "FILE.csv", "write epoch,loss,validation_loss,seconds"),
    FLAG("json", (TrainArgs, json), "print the results as one JSON object"),
    FLAG("quiet", (TrainArgs, quiet), "no progress, no notes"),
};

static bool has_empty_name(const char *list)
{
    return list[0] == ',' || list[strlen(list) - 1] == ',' || strstr(list, ",,");
}

static int check_usage(const TrainArgs *args)
{
    bool takes_momentum = args->optimizer == VKL_OPTIMIZER_SGD || args->optimizer == VKL_OPTIMIZER_RMSPROP;
    if (!args->target)
        return fail_usage("train: --target COLUMN is missing (see 'vklstm train --help')");
    if (args->features && has_empty_name(args->features))
        return fail_usage("--features: '%s' has an empty name", args->features);
    if (args->patience > 0 && args->validation_split == 0)
        return fail_usage("--patience: %llu needs a validation part: give --validation-split",
                          (unsigned long long)args->patience);
    if (args->checkpoint_every && !args->checkpoint)
        return fail_usage("--checkpoint-every: %llu says how often, and --checkpoint FILE where to",
                          (unsigned long long)args->checkpoint_every);
    if (args->refit && args->patience == 0)
        return fail_usage("--refit: it follows early stopping: give --patience and --validation-split");
    if (args->momentum > 0 && !takes_momentum)
        return fail_usage("--momentum: %g is for the optimizers sgd and rmsprop alone", args->momentum);
    return args->plot ? plot_check(args->plot) : EXIT_OK;
}

/* What can be known to fail is found before the work begins. */
static int check_files(const TrainArgs *args)
{
    /* training may go on in the file that it came from */
    bool same = args->checkpoint && args->resume && strcmp(args->checkpoint, args->resume) == 0;
    const OutputName names[] = {
        {"DATA.csv", args->data, true, false},
        {"--output", args->output, false, true},
        {"--checkpoint", args->checkpoint, false, true},
        {"--resume", same ? NULL : args->resume, true, false},
        {"--plot", args->plot, false, false},
        {"--history", args->history, false, false},
    };
    return output_check(names, sizeof names / sizeof names[0]);
}

static int save(const Training *training)
{
    const char *name = training->args->output;
    if (!name)
        return EXIT_OK;
    char *path = output_resolve(name); /* the file behind a link, not the link, is to be replaced */
    VklStatus status = vkl_model_save(training->model, training->prep, path ? path : name);
    free(path);
    return status == VKL_OK ? EXIT_OK : fail_library(training->session.context, status);
}

static int save_history(const Training *training)
{
    return training->args->history ? history_write(&training->history, training->args->history) : EXIT_OK;
}

/* After Ctrl-C: what there is, is kept, unless not even one epoch is behind it. */
static int end_interrupted(const Training *training)
{
    const char *output = training->args->output, *checkpoint = training->args->checkpoint;
    int status = 128 + interrupt_signal();
    bool goes_on = checkpoint && !training->unkept && training->result.steps > 0;
    if (goes_on)
        note("--resume %s goes on from where training was", checkpoint);
    if (training->result.best_epoch == 0 && goes_on) {
        fail("interrupted before the first epoch ended: no model was written");
        return status;
    }
    if (training->result.best_epoch == 0) {
        fail("interrupted before the first epoch ended: nothing was written");
        return status;
    }
    if (save(training) != EXIT_OK || save_history(training) != EXIT_OK)
        return status;
    if (output)
        fail("interrupted; the best model so far, of epoch %llu, is in %s", (unsigned long long)training->result.best_epoch,
             output);
    else
        fail("interrupted; without --output the model is lost");
    return status;
}

static int report(const Training *training)
{
    VklDeviceInfo info;
    Parts parts = training->parts;
    if (training->refit_epochs)
        parts.part[VKL_PART_VALIDATION] = training->validation;
    vkl_device_info(training->session.device, &info);
    Report report = {.device = info.name,
                     .target = training->args->target,
                     .horizon = training->args->horizon,
                     .parameters = vkl_model_parameters(training->model),
                     .seconds = training->seconds,
                     .fit = &training->result,
                     .refit_epochs = training->refit_epochs,
                     .parts = &parts};
    return training->args->json ? report_json(&report) : report_text(&report);
}

/* The model is written first: it is what took the time. A file that cannot be written does not keep the others from it. */
static int finish(Training *training)
{
    const TrainArgs *args = training->args;
    int saved = save(training), listed = save_history(training);
    VklStatus predicted = parts_predict(training->prep, training->table, training->model, args->season, &training->parts);
    if (predicted != VKL_OK)
        return fail_library(training->session.context, predicted);
    if (interrupt_signal() != 0)
        return 128 + interrupt_signal();
    parts_warn(&training->parts);
    if (!args->quiet)
        parts_note_unscored(&training->parts, training->prep, training->table);
    int drawn = args->plot ? figure_training(training, args->plot) : EXIT_OK;
    if (saved != EXIT_OK || listed != EXIT_OK || drawn != EXIT_OK || training->unkept)
        return EXIT_FAILED;
    return report(training);
}

static int note_labels(const Training *training)
{
    Timeline timeline;
    if (training->args->quiet)
        return EXIT_OK;
    if (!timeline_create(training->table, &timeline))
        return fail("out of memory");
    timeline_note_labels(&timeline, training->table, training->args->data);
    timeline_destroy(&timeline);
    return EXIT_OK;
}

static int work(Training *training)
{
    int status = training_load(training);
    if (status == EXIT_OK)
        status = note_labels(training);
    if (status != EXIT_OK)
        return status;
    interrupt_catch();
    status = training_fit(training);
    if (status == EXIT_OK && interrupt_signal() == 0 && training->args->refit)
        status = training_refit(training);
    if (status != EXIT_OK)
        return status;
    return interrupt_signal() != 0 ? end_interrupted(training) : finish(training);
}

static int run(const Command *command, int argc, char **argv)
{
    TrainArgs args = {.window = 1,
                      .horizon = 1,
                      .fill = {VKL_FILL_FORWARD, 0},
                      .scale = VKL_SCALE_MINMAX,
                      .test_split = 0.2,
                      .layers = "lstm:50,dense:1",
                      .device = "auto",
                      .epochs = 100,
                      .batch_size = 1,
                      .optimizer = VKL_OPTIMIZER_ADAM,
                      .loss = VKL_LOSS_MSE,
                      .learning_rate = NAN,
                      .weight_decay = NAN,
                      .seed = 1};
    Options parsed;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    args.data = parsed.operands[0];
    status = check_usage(&args);
    args.checkpoint_every = args.checkpoint_every ? args.checkpoint_every : 10;
    if (status == EXIT_OK)
        status = check_files(&args);
    if (status == EXIT_OK) {
        Training training = {.args = &args};
        status = work(&training);
        training_clear(&training);
    }
    options_free(&parsed);
    return status;
}

const Command train_command = {
    .name = "train",
    .brief = "train a network on a CSV file",
    .operands = "DATA.csv --target COLUMN",
    .operand_count = 1,
    .summary = "Trains a network to forecast a column of a CSV file, and prints its errors beside\nthose of forecasts that need "
               "no training.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .examples = "Example:\n"
                "  vklstm train passengers.csv --target passengers --log --difference 12 \\\n"
                "      --window 6 --batch-size 16 --season 12 --output model.safetensors --plot fit.svg\n",
    .run = run,
};

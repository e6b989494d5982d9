/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "message.h"
#include "progress.h"

/* More digits than a network of 32-bit floats gives, few enough to read. */
#define JSON_DIGITS 10

json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

int print_json(json_t *object)
{
    if (!object)
        return fail("out of memory");
    int failed = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(JSON_DIGITS));
    json_decref(object);
    if (!failed)
        putchar('\n');
    return finish_output();
}

static json_t *part_json(const Parts *parts, VklPart which)
{
    const Part *part = &parts->part[which];
    if (!part->set)
        return json_null();
    json_t *object = json_pack("{s:o, s:o, s:o, s:I}", "rmse", json_number(part->score.rmse), "mae", json_number(part->score.mae),
                               "mape", json_number(part->score.mape), "count", (json_int_t)part->score.count);
    if (!object || which != VKL_PART_TEST)
        return object;
    const VklBaselines *baselines = &parts->baselines;
    json_object_set_new(object, "persistence_rmse", json_number(baselines->persistence_rmse));
    if (parts->season > 0) {
        json_object_set_new(object, "seasonal_naive_rmse", json_number(baselines->seasonal_naive_rmse));
        json_object_set_new(object, "seasonal_naive_drift_rmse", json_number(baselines->seasonal_naive_drift_rmse));
    }
    return object;
}

int report_json(const Report *report)
{
    const VklFitResult *fit = report->fit;
    const Parts *parts = report->parts;
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "device", report->device, "parameters",
                  (json_int_t)report->parameters, "epochs", (json_int_t)(fit ? fit->epochs : 0), "best_epoch",
                  fit ? json_integer((json_int_t)fit->best_epoch) : json_null(), "refit_epochs",
                  report->refit_epochs ? json_integer((json_int_t)report->refit_epochs) : json_null(), "seconds",
                  json_number(report->seconds), "loss", fit ? json_number(fit->loss) : json_null(), "validation_loss",
                  fit ? json_number(fit->validation_loss) : json_null(), "train", part_json(parts, VKL_PART_TRAIN), "validation",
                  part_json(parts, VKL_PART_VALIDATION), "test", part_json(parts, VKL_PART_TEST));
    return print_json(object);
}

static void print_part(const char *name, const Part *part)
{
    if (!part->set)
        return;
    const VklScore *score = &part->score;
    char mape[32] = "-";
    if (!isnan(score->mape))
        snprintf(mape, sizeof mape, "%.3g %%", score->mape);
    printf("%-24s %9llu %11.5g %11.5g %10s\n", name, (unsigned long long)score->count, score->rmse, score->mae, mape);
}

static void print_baseline(const char *name, double rmse)
{
    if (isnan(rmse))
        printf("  %-32s %11s\n", name, "-");
    else
        printf("  %-32s %11.5g\n", name, rmse);
}

int report_text(const Report *report)
{
    const VklFitResult *fit = report->fit;
    const Parts *parts = report->parts;
    char time[DURATION_SIZE], ahead[64] = "";
    duration_text(report->seconds, time);
    if (report->horizon > 1)
        snprintf(ahead, sizeof ahead, ", %llu steps ahead", (unsigned long long)report->horizon);
    if (fit)
        printf("%s: %llu parameters trained in %s on %s, %llu epoch%s", report->target, (unsigned long long)report->parameters,
               time, report->device, (unsigned long long)fit->epochs, fit->epochs == 1 ? "" : "s");
    else
        printf("%s: %llu parameters evaluated in %s on %s", report->target, (unsigned long long)report->parameters, time,
               report->device);
    if (report->refit_epochs)
        printf("\ntrained anew on training and validation part for %llu epoch%s", (unsigned long long)report->refit_epochs,
               report->refit_epochs == 1 ? "" : "s");
    if (fit)
        printf(", loss %.4g", fit->loss);
    printf("\n\n%-24s %9s %11s %11s %10s\n", "errors", "targets", "RMSE", "MAE", "MAPE");
    print_part("training", &parts->part[VKL_PART_TRAIN]);
    print_part(report->refit_epochs ? "validation, before that" : "validation", &parts->part[VKL_PART_VALIDATION]);
    print_part("test", &parts->part[VKL_PART_TEST]);
    if (parts->part[VKL_PART_TEST].set) {
        char name[64];
        printf("on the test part, without training%s:\n", ahead);
        print_baseline("last observed value", parts->baselines.persistence_rmse);
        if (parts->season > 0) {
            snprintf(name, sizeof name, "same season, %llu rows back", (unsigned long long)parts->season);
            print_baseline(name, parts->baselines.seasonal_naive_rmse);
            print_baseline("same season, with drift", parts->baselines.seasonal_naive_drift_rmse);
        }
    }
    return finish_output();
}

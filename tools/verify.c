/* SPDX-License-Identifier: MIT
 *
 * vklstm verify: runs the operators of case files and compares what comes with what is expected. docs/case-files.md has the format.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "casefile.h"
#include "commands.h"
#include "message.h"
#include "session.h"
#include "trial.h"

typedef struct VerifyArgs {
    const char *device;
    double tolerance; /* NAN: the device's */
} VerifyArgs;

static const Option options[] = {
    GROUP("Options"),
    DEVICE((VerifyArgs, device)),
    REAL("tolerance", (VerifyArgs, tolerance), 0, INFINITY,
         "the largest error that passes, relative to the largest\nmagnitude of the tensor [1e-5 on the CPU, 1e-4 on Vulkan]"),
};

/* ---- Which tensors there are ---- */

typedef enum Role { INPUT, WEIGHT, EXPECTED } Role;

/* One tensor that the description has a place for. */
typedef struct Part {
    char name[80]; /* in the file */
    Role role;
    bool required, used;
    uint32_t rank;
    uint64_t shape[3];
    uint64_t count;
    const CaseTensor *tensor; /* NULL: not in the file */
    float *values;            /* what goes in, or what came out; NULL: neither */
} Part;

enum { X, LENGTHS, H0, C0, GY, GHN, GCN, Y, HN, CN, DX, DH0, DC0, FIXED_PARTS };

typedef struct Check {
    CaseFile file;
    VklRnn *rnn;
    Part *parts; /* the fixed ones, then the weights, then their gradients in the same order */
    size_t part_count;
    uint32_t weights;
    uint64_t weight_count; /* of all numbers */
    float *params, *dparams;
    uint32_t *lengths;
} Check;

/* A product of sizes, or 0 with `fits` false. Those of the library are checked by it; these are ours. */
static uint64_t multiply(uint64_t a, uint64_t b, bool *fits)
{
    if (b && a > (UINT64_MAX / 16) / b)
        *fits = false;
    return *fits ? a * b : 0;
}

static bool set_part(Part *part, const char *name, Role role, uint32_t rank, uint64_t a, uint64_t b, uint64_t c)
{
    bool fits = true;
    snprintf(part->name, sizeof part->name, "%s", name);
    part->role = role;
    part->rank = rank;
    part->shape[0] = a;
    part->shape[1] = b;
    part->shape[2] = c;
    part->used = true;
    part->count = multiply(multiply(a, rank > 1 ? b : 1, &fits), rank > 2 ? c : 1, &fits);
    return fits;
}

/* Fails where a product of sizes does not fit. */
static bool set_fixed_parts(Part *parts, const CaseFile *file)
{
    const VklRnnDesc *desc = &file->desc;
    bool fits = true;
    const uint64_t D = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1, H = desc->hidden_size;
    const uint64_t P = desc->projection ? desc->projection : H, W = desc->merge == VKL_MERGE_SUM ? P : D * P;
    const uint64_t states = multiply(desc->layers, D, &fits), T = file->T, B = file->B, I = desc->input_size;
    const uint64_t outer = desc->batch_first ? B : T, inner = desc->batch_first ? T : B;
    const bool lstm = desc->cell == VKL_CELL_LSTM;
    static const struct {
        const char *name;
        Role role;
    } ys[] = {{"gy", INPUT}, {"out.y", EXPECTED}};
    fits = set_part(&parts[X], "x", INPUT, 3, outer, inner, I) && fits;
    fits = set_part(&parts[DX], "out.dx", EXPECTED, 3, outer, inner, I) && fits;
    for (int k = 0; k < 2; k++)
        fits = (desc->last_only ? set_part(&parts[k ? Y : GY], ys[k].name, ys[k].role, 2, B, W, 0)
                                : set_part(&parts[k ? Y : GY], ys[k].name, ys[k].role, 3, outer, inner, W)) &&
               fits;
    set_part(&parts[LENGTHS], "lengths", INPUT, 1, B, 0, 0);
    fits = set_part(&parts[H0], "h0", INPUT, 3, states, B, P) && fits;
    fits = set_part(&parts[C0], "c0", INPUT, 3, states, B, H) && fits;
    fits = set_part(&parts[GHN], "ghn", INPUT, 3, states, B, P) && fits;
    fits = set_part(&parts[GCN], "gcn", INPUT, 3, states, B, H) && fits;
    fits = set_part(&parts[HN], "out.hn", EXPECTED, 3, states, B, P) && fits;
    fits = set_part(&parts[CN], "out.cn", EXPECTED, 3, states, B, H) && fits;
    fits = set_part(&parts[DH0], "out.dh0", EXPECTED, 3, states, B, P) && fits;
    fits = set_part(&parts[DC0], "out.dc0", EXPECTED, 3, states, B, H) && fits;
    parts[X].required = true;
    parts[LENGTHS].required = parts[LENGTHS].used = file->lengths;
    parts[H0].required = parts[H0].used = file->init_state;
    parts[C0].required = parts[C0].used = file->init_state && lstm;
    parts[GCN].used = parts[CN].used = parts[DC0].used = lstm;
    return fits;
}

static int make_parts(Check *check, VklDevice *device)
{
    const CaseFile *file = &check->file;
    bool fits = true;
    check->weights = vkl_rnn_param_count(check->rnn);
    check->parts = calloc(FIXED_PARTS + 2 * (size_t)check->weights, sizeof *check->parts);
    if (!check->parts)
        return fail_usage("%s: no memory for %" PRIu32 " weights", file->path, check->weights);
    check->part_count = FIXED_PARTS + 2 * (size_t)check->weights;
    fits = set_fixed_parts(check->parts, file);
    for (uint32_t k = 0; k < check->weights && fits; k++) {
        VklParamInfo info;
        char name[80];
        Part *weight = &check->parts[FIXED_PARTS + k];
        if (vkl_rnn_param_info(check->rnn, k, &info) != VKL_OK)
            return fail_usage("%s: %s", file->path, vkl_device_error(device));
        snprintf(name, sizeof name, "w.%s", info.name);
        fits = set_part(weight, name, WEIGHT, info.rank, info.shape[0], info.shape[1], 0);
        weight->required = true;
        snprintf(name, sizeof name, "out.d.%s", info.name);
        fits = set_part(weight + check->weights, name, EXPECTED, info.rank, info.shape[0], info.shape[1], 0) && fits;
        check->weight_count += weight->count;
    }
    return fits ? EXIT_OK : fail_usage("%s: a product of its sizes does not fit 60 bits", file->path);
}

/* Finds each tensor's part, and says what is wrong with it. */
static int match_tensors(Check *check)
{
    const CaseFile *file = &check->file;
    size_t expected = 0;
    for (size_t t = 0; t < file->tensor_count; t++) {
        const CaseTensor *tensor = &file->tensors[t];
        size_t k = 0;
        while (k < check->part_count && strcmp(check->parts[k].name, tensor->name) != 0)
            k++;
        Part *part = &check->parts[k];
        if (k == check->part_count || (!part->used && part->role == EXPECTED))
            return fail_usage("%s: tensor %s: such an operator has none", file->path, tensor->name);
        if (!part->used) {
            note("%s: tensor %s: not used, as the config has it", file->path, tensor->name);
            continue;
        }
        int status = casefile_check(file, tensor, k == LENGTHS, part->rank, part->shape);
        if (status != EXIT_OK)
            return status;
        part->tensor = tensor;
        expected += part->role == EXPECTED;
    }
    for (size_t k = 0; k < check->part_count; k++)
        if (check->parts[k].required && !check->parts[k].tensor)
            return fail_usage("%s: tensor %s is missing", file->path, check->parts[k].name);
    return expected ? EXIT_OK : fail_usage("%s: nothing is expected: it has no tensor out.*", file->path);
}

/* ---- Running ---- */

static float *allocate(uint64_t count)
{
    return count <= SIZE_MAX / sizeof(float) ? malloc((size_t)count * sizeof(float)) : NULL;
}

static int read_lengths(Check *check)
{
    const CaseTensor *tensor = check->parts[LENGTHS].tensor;
    check->lengths = (uint32_t *)(void *)allocate(tensor->count);
    if (!check->lengths)
        return fail_usage("%s: no memory for lengths", check->file.path);
    for (uint64_t n = 0; n < tensor->count; n++) {
        int64_t length = casefile_integer(tensor, n);
        if (length < 0 || (uint64_t)length > check->file.T)
            return fail_usage("%s: tensor lengths: row %" PRIu64 " has %" PRId64 "; it must have 0 to %" PRIu64 " (T)",
                              check->file.path, n, length, check->file.T);
        check->lengths[n] = (uint32_t)length;
    }
    return EXIT_OK;
}

/* Room for every part, and what goes in. The weights lie one after another, as do their gradients. */
static int make_arrays(Check *check)
{
    bool gradients = false;
    float *at = check->params = allocate(check->weight_count + 1), *gradient = NULL;
    bool complete = at != NULL;
    for (uint32_t k = 0; k < check->weights; k++)
        gradients |= check->parts[FIXED_PARTS + check->weights + k].tensor != NULL;
    if (gradients)
        complete = (gradient = check->dparams = allocate(check->weight_count + 1)) != NULL && complete;
    for (size_t k = 0; k < check->part_count && complete; k++) {
        Part *part = &check->parts[k];
        bool weight = k >= FIXED_PARTS;
        if (weight && part->role == WEIGHT) {
            part->values = at;
            at += part->count;
        } else if (weight && gradients) {
            part->values = gradient;
            gradient += part->count;
        } else if (!weight && part->tensor && k != LENGTHS) {
            complete = (part->values = allocate(part->count)) != NULL;
        }
        for (uint64_t n = 0; complete && part->values && part->role != EXPECTED && n < part->count; n++)
            part->values[n] = (float)casefile_number(part->tensor, n);
    }
    if (!complete)
        return fail_usage("%s: no memory for its tensors", check->file.path);
    return check->parts[LENGTHS].tensor ? read_lengths(check) : EXIT_OK;
}

static int run_case(const Check *check, VklDevice *device)
{
    const Part *parts = check->parts;
    const Trial trial = {
        .T = check->file.T,
        .N = check->file.B,
        .I = check->file.desc.input_size,
        .params = check->params,
        .x = parts[X].values,
        .lengths = check->lengths,
        .h0 = parts[H0].values,
        .c0 = parts[C0].values,
        .gy = parts[GY].values,
        .ghn = parts[GHN].values,
        .gcn = parts[GCN].values,
        .y = parts[Y].values,
        .hn = parts[HN].values,
        .cn = parts[CN].values,
        .dx = parts[DX].values,
        .dh0 = parts[DH0].values,
        .dc0 = parts[DC0].values,
        .dparams = check->dparams,
    };
    VklStatus status = trial_run(device, check->rnn, &trial);
    if (status == VKL_OK)
        return EXIT_OK;
    const char *sentence = vkl_device_error(device);
    return fail_usage("%s: %s", check->file.path, sentence[0] ? sentence : vkl_status_string(status));
}

/* ---- Comparing ---- */

typedef struct Worst {
    Difference difference;
    const Part *part; /* NULL: nothing compared yet */
    double want;
} Worst;

static int compare(const Check *check, Worst *worst)
{
    for (size_t k = 0; k < check->part_count; k++) {
        const Part *part = &check->parts[k];
        if (part->role != EXPECTED || !part->tensor)
            continue;
        double *want = part->count <= SIZE_MAX / sizeof *want ? malloc((size_t)part->count * sizeof *want) : NULL;
        if (!want)
            return fail_usage("%s: no memory for %s", check->file.path, part->name);
        for (uint64_t n = 0; n < part->count; n++)
            want[n] = casefile_number(part->tensor, n);
        Difference difference = trial_compare(part->values, want, part->count);
        if (!worst->part || difference.error > worst->difference.error)
            *worst = (Worst){difference, part, want[difference.at]};
        free(want);
    }
    return EXIT_OK;
}

/* "out.y[3,1,0]" */
static void place_text(const Part *part, uint64_t index, char text[192])
{
    uint64_t places[3] = {0};
    for (uint32_t k = part->rank; k-- > 0; index /= part->shape[k])
        places[k] = index % part->shape[k];
    size_t used = (size_t)snprintf(text, 192, "%s[", part->name);
    for (uint32_t k = 0; k < part->rank; k++)
        used += (size_t)snprintf(text + used, 192 - used, "%s%" PRIu64, k ? "," : "", places[k]);
    snprintf(text + used, 192 - used, "]");
}

static void check_free(Check *check)
{
    for (size_t k = 0; k < FIXED_PARTS && check->parts; k++)
        free(check->parts[k].values);
    free(check->parts);
    free(check->params);
    free(check->dparams);
    free(check->lengths);
    vkl_rnn_destroy(check->rnn);
    casefile_close(&check->file);
}

/* One line on standard output, or one sentence on standard error. */
static int verify_file(VklDevice *device, const char *path, double tolerance)
{
    Check check = {.rnn = NULL};
    int status = casefile_read(path, &check.file);
    if (status == EXIT_OK && vkl_rnn_create(device, &check.file.desc, &check.rnn) != VKL_OK)
        status = fail_usage("%s: %s", path, vkl_device_error(device));
    if (status == EXIT_OK)
        status = make_parts(&check, device);
    if (status == EXIT_OK)
        status = match_tensors(&check);
    if (status == EXIT_OK)
        status = make_arrays(&check);
    if (status == EXIT_OK)
        status = run_case(&check, device);
    Worst worst = {.part = NULL};
    if (status == EXIT_OK)
        status = compare(&check, &worst);
    if (status == EXIT_OK) {
        char place[192], beyond[64] = "";
        bool good = worst.difference.error <= tolerance;
        place_text(worst.part, worst.difference.at, place);
        if (!good)
            snprintf(beyond, sizeof beyond, "; the tolerance is %.3g", tolerance);
        printf("%s %s: %s: worst error %.3g at %s, %.9g instead of %.9g%s\n", good ? "ok  " : "FAIL", path, check.file.name,
               worst.difference.error, place, (double)worst.part->values[worst.difference.at], worst.want, beyond);
        fflush(stdout); /* in order with the sentences on standard error */
        status = good ? EXIT_OK : EXIT_FAILED;
    }
    check_free(&check);
    return status;
}

static int run(const Command *command, int argc, char **argv)
{
    VerifyArgs args = {.device = "auto", .tolerance = NAN};
    Session session = {NULL, NULL};
    Options parsed;
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    /* 1 says that results are wrong; whatever keeps them from being seen is 2 */
    if (session_open(&session) != EXIT_OK || session_open_device(&session, args.device) != EXIT_OK)
        status = EXIT_USAGE;
    if (status < 0) {
        VklDeviceInfo info;
        vkl_device_info(session.device, &info);
        double tolerance = isnan(args.tolerance) ? (info.type == VKL_DEVICE_CPU ? 1e-5 : 1e-4) : args.tolerance;
        status = EXIT_OK;
        for (uint32_t k = 0; k < parsed.operand_count; k++) {
            int result = verify_file(session.device, parsed.operands[k], tolerance);
            status = result > status ? result : status;
        }
        if (finish_output() != EXIT_OK)
            status = EXIT_USAGE;
    }
    session_close(&session);
    options_free(&parsed);
    return status;
}

const Command verify_command = {
    .name = "verify",
    .brief = "run the operators of case files and compare the results",
    .operands = "FILE...",
    .operand_count = 1,
    .more_operands = true,
    .summary =
        "Runs the recurrent operator of each case file on a device and compares what comes with\nwhat the file expects. Prints "
        "the "
        "worst error of each file and where it is.\nExit status: 0 all within the tolerance, 1 an error beyond it, 2 a file that "
        "cannot be\nrun, or that expects nothing.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

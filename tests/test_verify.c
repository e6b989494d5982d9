/* SPDX-License-Identifier: MIT
 *
 * vklstm verify and vklstm selftest, on the device of the environment: case files that pass, that do not, and that cannot be run
 * (docs/case-files.md); all golden cases of tests/data/cases; the conformance suite of the command.
 *
 * Files are made here: a small problem that the reference solves, under names, shapes and types that the tests then change.
 */
#define _XOPEN_SOURCE 700
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#include "../tools/problem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CASES VKL_SOURCE_ROOT "/tests/data/cases"

/* ---- A folder for each test ---- */

static char folder[] = "/tmp/vklstm-verify-XXXXXX";

static void enter_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    /* a leak is reported, but leaves the exit status alone: a driver's is not the command's */
    const char *old = getenv("LSAN_OPTIONS");
    char value[1024];
    snprintf(value, sizeof value, "%s%sexitcode=0", old ? old : "", old ? ":" : "");
    setenv("LSAN_OPTIONS", value, 1);
}

static void leave_folder(void)
{
    static const char *const names[] = {"case", "other", "out", "err"};
    for (size_t k = 0; k < COUNT(names); k++)
        unlink(names[k]);
    cr_assert_eq(chdir("/"), 0);
    rmdir(folder);
}

TestSuite(verify, .init = enter_folder, .fini = leave_folder);

/* ---- The command ---- */

typedef struct Run {
    int status;
    char *out, *err;
} Run;

static char *read_text(const char *name)
{
    FILE *file = fopen(name, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    rewind(file);
    char *text = calloc((size_t)size + 1, 1);
    cr_assert_not_null(text);
    cr_assert_eq(fread(text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    return text;
}

static void run_free(Run *run)
{
    free(run->out);
    free(run->err);
}

/* `words`: the subcommand and what follows, as a shell reads it; --device is added. */
static Run run_command(const char *words)
{
    const char *device = getenv("VKL_TEST_DEVICE");
    char line[4096];
    snprintf(line, sizeof line, "'%s' %s --device '%s' >out 2>err </dev/null", VKL_COMMAND, words,
             device && *device ? device : "cpu");
    const int status = system(line);
    cr_assert(status >= 0 && WIFEXITED(status), "%s: ended by a signal", line);
    return (Run){WEXITSTATUS(status), read_text("out"), read_text("err")};
}

static size_t count_of(const char *text, const char *piece)
{
    size_t count = 0;
    for (const char *at = strstr(text, piece); at; at = strstr(at + 1, piece))
        count++;
    return count;
}

/* ---- Writing a case ---- */

typedef struct Tensor {
    char name[80];
    const char *type; /* F32, F64, I32, I64 */
    uint32_t rank;
    uint64_t shape[3];
    double *values; /* owned */
} Tensor;

typedef struct File {
    char *config;
    Tensor tensors[64];
    size_t count;
} File;

static size_t tensor_size(const Tensor *tensor)
{
    size_t size = 1;
    for (uint32_t k = 0; k < tensor->rank; k++)
        size *= (size_t)tensor->shape[k];
    return size;
}

static void add_tensor(File *file, const char *name, uint32_t rank, uint64_t a, uint64_t b, uint64_t c, const double *values)
{
    cr_assert_lt(file->count, COUNT(file->tensors));
    Tensor *tensor = &file->tensors[file->count++];
    *tensor = (Tensor){.type = "F32", .rank = rank, .shape = {a, b, c}};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->values = calloc(tensor_size(tensor), sizeof(double));
    cr_assert_not_null(tensor->values);
    memcpy(tensor->values, values, tensor_size(tensor) * sizeof(double));
}

static Tensor *find_tensor(File *file, const char *name)
{
    for (size_t k = 0; k < file->count; k++)
        if (strcmp(file->tensors[k].name, name) == 0)
            return &file->tensors[k];
    cr_assert_fail("no tensor %s", name);
    return NULL;
}

static void drop_tensor(File *file, const char *name)
{
    Tensor *tensor = find_tensor(file, name);
    free(tensor->values);
    *tensor = file->tensors[--file->count];
}

static void file_free(File *file)
{
    for (size_t k = 0; k < file->count; k++)
        free(file->tensors[k].values);
    free(file->config);
}

static size_t put_number(unsigned char *at, const char *type, double value)
{
    uint64_t bits = 0;
    const float narrow = (float)value;
    uint32_t low;
    if (type[0] == 'I') {
        bits = (uint64_t)(int64_t)value;
    } else if (type[1] == '6') {
        memcpy(&bits, &value, sizeof bits);
    } else {
        memcpy(&low, &narrow, sizeof low);
        bits = low;
    }
    const size_t size = type[1] == '6' ? 8 : 4;
    for (size_t k = 0; k < size; k++)
        at[k] = (unsigned char)(bits >> (8 * k));
    return size;
}

/* The bytes of the file, to be freed. */
static unsigned char *file_bytes(const File *file, size_t *size)
{
    json_t *header = json_pack("{s:{s:s, s:s}}", "__metadata__", "config", file->config, "made", "by a test");
    size_t data = 0;
    for (size_t k = 0; k < file->count; k++) {
        const Tensor *tensor = &file->tensors[k];
        const size_t begin = data;
        json_t *shape = json_array();
        for (uint32_t axis = 0; axis < tensor->rank; axis++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[axis]));
        data += tensor_size(tensor) * (tensor->type[1] == '6' ? 8 : 4);
        json_object_set_new(header, tensor->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->type, "shape", shape, "data_offsets",
                                      (json_int_t)begin, (json_int_t)data));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    cr_assert_not_null(text);
    const size_t length = strlen(text);
    unsigned char *bytes = calloc(8 + length + data + 8, 1), *at = bytes + 8 + length;
    cr_assert_not_null(bytes);
    for (size_t k = 0; k < 8; k++)
        bytes[k] = (unsigned char)((uint64_t)length >> (8 * k));
    memcpy(bytes + 8, text, length);
    for (size_t k = 0; k < file->count; k++)
        for (size_t n = 0; n < tensor_size(&file->tensors[k]); n++)
            at += put_number(at, file->tensors[k].type, file->tensors[k].values[n]);
    free(text);
    json_decref(header);
    *size = (size_t)(at - bytes);
    return bytes;
}

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *stream = fopen(name, "wb");
    cr_assert_not_null(stream);
    cr_assert_eq(fwrite(bytes, 1, size, stream), size);
    cr_assert_eq(fclose(stream), 0);
}

static void write_file(const char *name, const File *file)
{
    size_t size;
    unsigned char *bytes = file_bytes(file, &size);
    write_bytes(name, bytes, size);
    free(bytes);
}

/* ---- Cases ---- */

enum { T = 4, B = 3, I = 2, H = 5 };

typedef struct Row {
    const char *config; /* what is behind the sizes */
    VklRnnDesc desc;    /* what it means; sizes are set here */
    bool lengths, states;
} Row;

/* Solved, and under the names of the format. */
static File make_file(const Row *row)
{
    static const char *const names[] = {"x",     "h0",     "c0",     "gy",     "ghn",     "gcn",
                                        "out.y", "out.hn", "out.cn", "out.dx", "out.dh0", "out.dc0"};
    Problem problem;
    File file = {.count = 0};
    char config[1024];
    const VklRnnDesc *desc = &row->desc;
    const uint64_t D = desc->direction == VKL_DIRECTION_BOTH ? 2 : 1, P = desc->projection ? desc->projection : H;
    const uint64_t W = desc->merge == VKL_MERGE_SUM ? P : D * P, states = desc->layers * D;
    const unsigned absent = row->states ? 0 : PROBLEM_BIT(PROBLEM_H0) | PROBLEM_BIT(PROBLEM_C0);
    cr_assert(problem_make(desc, T, B, row->lengths ? PROBLEM_RAGGED : PROBLEM_FULL, absent, &problem));
    for (size_t n = 0; row->lengths && n < B; n++)
        problem.lengths[n] = (uint32_t)(n == 0 ? 2 : n == 1 ? T : 0);
    cr_assert(problem_draw_and_solve(&problem, 1, 0.5f), "%s", row->config);
    snprintf(config, sizeof config, "{\"T\":%d,\"B\":%d,\"I\":%d,\"H\":%d,%s}", T, B, (int)desc->input_size, H, row->config);
    file.config = strdup(config);
    for (int a = 0; a < PROBLEM_ARRAYS; a++) {
        const bool x = a == PROBLEM_X || a == PROBLEM_DX, y = a == PROBLEM_GY || a == PROBLEM_Y;
        const bool c = a == PROBLEM_C0 || a == PROBLEM_GCN || a == PROBLEM_CN || a == PROBLEM_DC0;
        if (!problem.array[a])
            continue;
        if (y && desc->last_only)
            add_tensor(&file, names[a], 2, B, W, 1, problem.array[a]);
        else if (x || y)
            add_tensor(&file, names[a], 3, desc->batch_first ? B : T, desc->batch_first ? T : B, x ? desc->input_size : W,
                       problem.array[a]);
        else
            add_tensor(&file, names[a], 3, states, B, c ? H : P, problem.array[a]);
    }
    for (size_t k = 0; k < problem.tensors; k++) {
        const RefTensor tensor = ref_rnn_tensor(desc, k);
        const uint32_t rank = strncmp(tensor.name, "bias", 4) == 0 ? 1 : 2;
        char name[80];
        snprintf(name, sizeof name, "w.%s", tensor.name);
        add_tensor(&file, name, rank, tensor.rows, tensor.columns, 1, problem.params[k]);
        snprintf(name, sizeof name, "out.d.%s", tensor.name);
        add_tensor(&file, name, rank, tensor.rows, tensor.columns, 1, problem.dparams[k]);
    }
    if (row->lengths) {
        const double lengths[B] = {problem.lengths[0], problem.lengths[1], problem.lengths[2]};
        add_tensor(&file, "lengths", 1, B, 1, 1, lengths);
        file.tensors[file.count - 1].type = "I64";
    }
    problem_free(&problem);
    return file;
}

static VklRnnDesc plain(VklCell cell)
{
    return vkl_rnn_desc(cell, I, H);
}

static File plain_file(void)
{
    const Row row = {"\"name\":\"plain\",\"cell\":\"lstm\"", plain(VKL_CELL_LSTM), false, false};
    return make_file(&row);
}

#define GOOD_ROWS 10

/* Each config beside the description that it must become: the library's own words, set by hand. */
static void good_rows(Row rows[GOOD_ROWS])
{
    static const char *const configs[GOOD_ROWS] = {
        "\"cell\":\"lstm\"",
        "\"cell\":\"lstm\",\"layers\":2,\"bidirectional\":true,\"proj_size\":3,\"peephole\":true,\"input_forget\":true,"
        "\"cell_clip\":0.5,\"init_state\":true",
        "\"cell\":\"lstm\",\"direction\":\"bidirectional\",\"merge\":\"sum\",\"bias\":\"single\",\"lengths\":true,"
        "\"padding_value\":-1.5,\"batch_first\":true",
        "\"cell\":\"gru\",\"direction\":\"reverse\",\"bidirectional\":false,\"bias\":\"double\",\"init_state\":true",
        "\"cell\":\"gru\",\"reset_after\":false,\"preact_clip\":0.75,\"layers\":2,\"bias\":true",
        "\"cell\":\"rnn_tanh\",\"bias\":false,\"skip_input\":true,\"last_only\":true",
        "\"cell\":\"rnn_relu\",\"bias\":\"none\",\"direction\":\"forward\"",
        "\"cell\":\"lstm\",\"activations\":[[{\"name\":\"HardSigmoid\"},{\"name\":\"softsign\",\"alpha\":null},"
        "{\"name\":\"ScaledTanh\",\"alpha\":1.5,\"beta\":0.5}]]",
        "\"cell\":\"gru\",\"bidirectional\":true,\"activations\":[{\"name\":\"Sigmoid\"},{\"name\":\"Elu\",\"alpha\":0.5},"
        "{\"name\":\"Affine\",\"alpha\":0.25,\"beta\":0.5},{\"name\":\"Tanh\"}]",
        "\"cell\":\"rnn_tanh\",\"direction\":\"reverse\",\"activations\":[[{\"name\":\"LeakyRelu\",\"alpha\":0.125}]],"
        "\"lengths\":true,"
        "\"last_only\":true",
    };
    static const VklCell cells[GOOD_ROWS] = {VKL_CELL_LSTM, VKL_CELL_LSTM,     VKL_CELL_LSTM,     VKL_CELL_GRU,
                                             VKL_CELL_GRU,  VKL_CELL_RNN_TANH, VKL_CELL_RNN_RELU, VKL_CELL_LSTM,
                                             VKL_CELL_GRU,  VKL_CELL_RNN_TANH};
    for (int k = 0; k < GOOD_ROWS; k++)
        rows[k] = (Row){configs[k], plain(cells[k]), false, false};
    VklRnnDesc *d = &rows[1].desc;
    d->layers = 2, d->direction = VKL_DIRECTION_BOTH, d->projection = 3, d->peephole = d->input_forget = true,
    d->cell_clip = 0.5f;
    rows[1].states = true;
    d = &rows[2].desc;
    d->direction = VKL_DIRECTION_BOTH, d->merge = VKL_MERGE_SUM, d->bias = VKL_BIAS_SINGLE, d->padding_value = -1.5f;
    d->batch_first = rows[2].lengths = true;
    rows[3].desc.direction = VKL_DIRECTION_REVERSE;
    rows[3].states = true;
    d = &rows[4].desc;
    d->reset_after = false, d->preact_clip = 0.75f, d->layers = 2;
    d = &rows[5].desc;
    d->bias = VKL_BIAS_NONE, d->skip_input = d->last_only = true, d->input_size = H;
    rows[6].desc.bias = VKL_BIAS_NONE;
    d = &rows[7].desc;
    d->activations[0][0] = (VklActivationDesc){VKL_GATE_HARD_SIGMOID, 0.2f, 0.5f};
    d->activations[0][1] = (VklActivationDesc){VKL_GATE_SOFTSIGN, 0, 0};
    d->activations[0][2] = (VklActivationDesc){VKL_GATE_SCALED_TANH, 1.5f, 0.5f};
    d = &rows[8].desc;
    d->direction = VKL_DIRECTION_BOTH;
    d->activations[0][0] = (VklActivationDesc){VKL_GATE_SIGMOID, 0, 0};
    d->activations[0][1] = (VklActivationDesc){VKL_GATE_ELU, 0.5f, 0};
    d->activations[1][0] = (VklActivationDesc){VKL_GATE_AFFINE, 0.25f, 0.5f};
    d->activations[1][1] = (VklActivationDesc){VKL_GATE_TANH, 0, 0};
    d = &rows[9].desc;
    d->direction = VKL_DIRECTION_REVERSE, d->last_only = rows[9].lengths = true;
    d->activations[0][0] = d->activations[1][0] = (VklActivationDesc){VKL_GATE_LEAKY_RELU, 0.125f, 0};
}

static void expect(const char *what, const char *words, int status, const char *out, const char *err)
{
    Run run = run_command(words);
    cr_expect_eq(run.status, status, "%s: status %d instead of %d: %s%s", what, run.status, status, run.out, run.err);
    cr_expect(strstr(run.out, out) != NULL, "%s: '%s' is not in: %s%s", what, out, run.out, run.err);
    cr_expect(strstr(run.err, err) != NULL, "%s: '%s' is not in: %s", what, err, run.err);
    run_free(&run);
}

Test(verify, every_key_means_what_the_library_calls_by_it)
{
    Row rows[GOOD_ROWS];
    good_rows(rows);
    for (int k = 0; k < GOOD_ROWS; k++) {
        File file = make_file(&rows[k]);
        write_file("case", &file);
        expect(rows[k].config, "verify case", 0, "ok   case: case: worst error", "");
        /* the outputs of an inference alone, and one gradient alone */
        for (size_t n = file.count; n-- > 0;)
            if (strncmp(file.tensors[n].name, "out.d", 5) == 0)
                drop_tensor(&file, file.tensors[n].name);
        write_file("case", &file);
        expect(rows[k].config, "verify case", 0, "ok   case", "");
        file_free(&file);
        file = make_file(&rows[k]);
        for (size_t n = file.count; n-- > 0;)
            if (strncmp(file.tensors[n].name, "out.", 4) == 0 && strcmp(file.tensors[n].name, "out.dx") != 0)
                drop_tensor(&file, file.tensors[n].name);
        find_tensor(&file, "out.dx")->type = "F64";
        find_tensor(&file, "x")->type = "F64";
        write_file("case", &file);
        expect(rows[k].config, "verify case", 0, " at out.dx[", "");
        file_free(&file);
    }
}

Test(verify, an_error_beyond_the_tolerance_is_1_and_its_place_is_told)
{
    File file = plain_file();
    Tensor *y = find_tensor(&file, "out.y");
    y->values[(2 * B + 1) * H + 3] += 0.25;
    write_file("case", &file);
    expect("0.25 too much", "verify case", 1, "FAIL case: plain: worst error", "");
    expect("its place", "verify case", 1, " at out.y[2,1,3], ", "");
    expect("tolerated", "verify --tolerance 1 case", 0, "ok   case", "");
    y->values[(2 * B + 1) * H + 3] = NAN; /* where a number comes */
    write_file("case", &file);
    expect("NaN", "verify --tolerance 1e30 case", 1, "worst error inf at out.y[2,1,3]", "");
    file_free(&file);

    /* in a tensor of zeros, errors are absolute */
    file = plain_file();
    Tensor *gradient = find_tensor(&file, "out.d.bias_ih_l0");
    for (size_t n = 0; n < tensor_size(gradient); n++)
        gradient->values[n] = 0;
    write_file("case", &file);
    expect("zeros", "verify --tolerance 1000 case", 0, "at out.d.bias_ih_l0[", "");
    expect("zeros", "verify case", 1, "at out.d.bias_ih_l0[", "");
    file_free(&file);
}

Test(verify, nan_is_right_where_it_is_expected)
{
    File file = plain_file();
    find_tensor(&file, "x")->values[(1 * B + 2) * I] = NAN; /* step 1 of row 2: its later steps */
    for (size_t n = file.count; n-- > 0;)
        if (strncmp(file.tensors[n].name, "out.", 4) == 0 && strcmp(file.tensors[n].name, "out.y") != 0)
            drop_tensor(&file, file.tensors[n].name);
    for (size_t t = 1; t < T; t++)
        for (size_t u = 0; u < H; u++)
            find_tensor(&file, "out.y")->values[(t * B + 2) * H + u] = NAN;
    write_file("case", &file);
    expect("NaN in x", "verify case", 0, "ok   case", "");
    file_free(&file);
}

/* ---- What cannot be run ---- */

/* One sentence on standard error, nothing on standard output. */
static void expect_refusal(const char *what, const char *phrase)
{
    Run run = run_command("verify case");
    cr_expect_eq(run.status, 2, "%s: status %d: %s%s", what, run.status, run.out, run.err);
    cr_expect(strstr(run.err, phrase) != NULL, "%s: '%s' is not in: %s", what, phrase, run.err);
    cr_expect_eq(count_of(run.err, "vklstm: "), 1u, "%s: not one sentence: %s", what, run.err);
    cr_expect_str_empty(run.out, "%s: standard output has: %s", what, run.out);
    run_free(&run);
}

Test(verify, a_config_that_makes_no_sense_is_2)
{
    static const struct {
        const char *config, *phrase;
    } rows[] = {
        {"", "config: not JSON"},
        {"[1]", "config: not a JSON object"},
        {"{\"T\":4,\"T\":4}", "config: not JSON: duplicate"},
        {"{\"T\":4,\"B\":3,\"I\":2,\"H\":5}", "cell is missing"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2}", "H is missing"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"dropout\":0}", "'dropout' is not a known key"},
        {"{\"cell\":\"lstm\",\"t\":4,\"B\":3,\"I\":2,\"H\":5}", "'t' is not a known key"},
        {"{\"cell\":\"LSTM\"}", "cell is \"LSTM\"; it must be lstm, gru, rnn_tanh or rnn_relu"},
        {"{\"T\":0}", "T is 0; it must be a whole number from 1"},
        {"{\"T\":-1}", "T is -1"},
        {"{\"T\":4.0}", "T is 4.0"},
        {"{\"H\":4294967296}", "H is 4294967296"},
        {"{\"layers\":0}", "layers is 0"},
        {"{\"name\":1}", "name is 1; it must be a text"},
        {"{\"direction\":\"backward\"}", "direction is \"backward\"; it must be forward, reverse or bidirectional"},
        {"{\"bidirectional\":1}", "bidirectional is 1; it must be true or false"},
        {"{\"merge\":\"mean\"}", "merge is \"mean\"; it must be concat or sum"},
        {"{\"bias\":\"one\"}", "bias is \"one\"; it must be double, single or none, true or false"},
        {"{\"lengths\":[4,3,2]}", "lengths is [4,3,2]; it must be true or false"},
        {"{\"cell_clip\":\"3\"}", "cell_clip is \"3\"; it must be a number"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"bidirectional\":true,\"direction\":\"reverse\"}",
         "but bidirectional is true"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[]}", "activations has 0 entries"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[[{\"name\":\"Tanh\"}]]}",
         "activations[0] has 1 entries"},
        {"{\"cell\":\"rnn_tanh\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[[\"Tanh\"]]}", "activations[0][0] is \"Tanh\""},
        {"{\"cell\":\"rnn_tanh\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[[{\"name\":\"Swish\"}]]}",
         "Swish is not the name"},
        {"{\"cell\":\"rnn_tanh\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[[{\"name\":\"Tanh\",\"gamma\":1}]]}",
         "'gamma' is not a key"},
        {"{\"cell\":\"rnn_tanh\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"activations\":[[{\"name\":\"Affine\",\"alpha\":1}]]}",
         "Affine has no beta"},
        /* what the library refuses, in its words */
        {"{\"cell\":\"gru\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"peephole\":true}", "peephole"},
        {"{\"cell\":\"rnn_relu\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"proj_size\":2}", "projection"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"cell_clip\":-1}", "cell_clip"},
        {"{\"cell\":\"lstm\",\"T\":4,\"B\":3,\"I\":2,\"H\":5,\"skip_input\":true}", "skip_input"},
        {"{\"cell\":\"lstm\",\"T\":4294967295,\"B\":4294967295,\"I\":4294967295,\"H\":4294967295}", "vklstm: case: "},
    };
    for (size_t k = 0; k < COUNT(rows); k++) {
        File file = plain_file();
        free(file.config);
        file.config = strdup(rows[k].config);
        write_file("case", &file);
        expect_refusal(rows[k].config, rows[k].phrase);
        file_free(&file);
    }
}

Test(verify, tensors_that_are_not_there_or_not_right_are_2)
{
    static const struct {
        const char *name;
        const char *rename; /* NULL: dropped */
        const char *type;   /* NULL: as it was */
        uint32_t rank;      /* 0: as it was */
        uint64_t shape[3];
        const char *phrase;
    } rows[] = {
        {"x", NULL, NULL, 0, {0}, "tensor x is missing"},
        {"w.weight_hh_l0", NULL, NULL, 0, {0}, "tensor w.weight_hh_l0 is missing"},
        {"w.bias_hh_l0", "w.bias_hh_l1", NULL, 0, {0}, "tensor w.bias_hh_l1: such an operator has none"},
        {"out.y", "out.Y", NULL, 0, {0}, "tensor out.Y: such an operator has none"},
        {"out.d.weight_ih_l0", "out.weight_ih_l0", NULL, 0, {0}, "such an operator has none"},
        {"x", "x", NULL, 3, {B, T, I}, "tensor x: its shape is [3, 4, 2]; it must be [4, 3, 2]"},
        {"w.bias_ih_l0", "w.bias_ih_l0", NULL, 2, {4 * H, 1}, "tensor w.bias_ih_l0: its shape is [20, 1]; it must be [20]"},
        {"out.hn", "out.hn", NULL, 2, {B, H}, "tensor out.hn: its shape is [3, 5]; it must be [1, 3, 5]"},
        {"x", "x", "I32", 0, {0}, "tensor x: its type is I32; it must be F32 or F64"},
        {"x", "x", "F16", 0, {0}, "tensor x: its type F16 is none of F32, F64, I32 and I64"},
    };
    for (size_t k = 0; k < COUNT(rows); k++) {
        File file = plain_file();
        Tensor *tensor = find_tensor(&file, rows[k].name);
        if (rows[k].rename)
            snprintf(tensor->name, sizeof tensor->name, "%s", rows[k].rename);
        if (rows[k].type)
            tensor->type = rows[k].type;
        if (rows[k].rank) {
            tensor->rank = rows[k].rank;
            memcpy(tensor->shape, rows[k].shape, sizeof tensor->shape);
        }
        if (!rows[k].rename)
            drop_tensor(&file, rows[k].name);
        write_file("case", &file);
        expect_refusal(rows[k].phrase, rows[k].phrase);
        file_free(&file);
    }
    File file = plain_file();
    for (size_t n = file.count; n-- > 0;)
        if (strncmp(file.tensors[n].name, "out.", 4) == 0)
            drop_tensor(&file, file.tensors[n].name);
    write_file("case", &file);
    expect_refusal("nothing expected", "nothing is expected");
    file_free(&file);
}

Test(verify, states_and_lengths_that_the_config_asks_for_must_be_there)
{
    const Row row = {"\"cell\":\"lstm\",\"lengths\":true,\"init_state\":true", plain(VKL_CELL_LSTM), true, true};
    static const char *const names[] = {"lengths", "h0", "c0"};
    for (size_t k = 0; k < COUNT(names); k++) {
        File file = make_file(&row);
        char phrase[64];
        drop_tensor(&file, names[k]);
        write_file("case", &file);
        snprintf(phrase, sizeof phrase, "tensor %s is missing", names[k]);
        expect_refusal(names[k], phrase);
        file_free(&file);
    }
    static const struct {
        double length;
        const char *type, *phrase;
    } wrong[] = {{-1, "I64", "row 1 has -1; it must have 0 to 4 (T)"},
                 {T + 1, "I32", "row 1 has 5"},
                 {4294967297.0, "I64", "row 1 has 4294967297"},
                 {2, "F32", "tensor lengths: its type is F32; it must be I32 or I64"}};
    for (size_t k = 0; k < COUNT(wrong); k++) {
        File file = make_file(&row);
        find_tensor(&file, "lengths")->values[1] = wrong[k].length;
        find_tensor(&file, "lengths")->type = wrong[k].type;
        write_file("case", &file);
        expect_refusal(wrong[k].phrase, wrong[k].phrase);
        file_free(&file);
    }

    /* there, but switched off: passed over, and said */
    File file = plain_file();
    const double zeros[B * H] = {0};
    add_tensor(&file, "h0", 3, 1, B, H, zeros);
    write_file("case", &file);
    expect("h0 without init_state", "verify case", 0, "ok   case", "note: case: tensor h0: not used");
    file_free(&file);
}

Test(verify, damaged_files_are_2)
{
    size_t size;
    File file = plain_file();
    unsigned char *bytes = file_bytes(&file, &size);
    for (size_t cut = 0; cut < size; cut += cut < 12 ? 1 : size / 23) {
        char what[64];
        snprintf(what, sizeof what, "%zu of %zu bytes", cut, size);
        write_bytes("case", bytes, cut);
        expect_refusal(what, "vklstm: case: ");
    }
    write_bytes("case", bytes, size + 4); /* too long */
    expect_refusal("4 bytes more", "its tensors have");
    bytes[7] = 0x80; /* a header of 2^63 bytes */
    write_bytes("case", bytes, size);
    expect_refusal("a huge header", "not a safetensors file");
    free(bytes);
    file_free(&file);

    static const struct {
        const char *header, *phrase;
    } headers[] = {
        {"{}", "its metadata has no config"},
        {"[]", "its header is not a JSON object"},
        {"{\"__metadata__\":{\"config\":\"{}\"}}", "cell is missing"},
        {"{\"x\":1}", "not described by"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", "not described by"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "truncated or damaged"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "truncated or damaged"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", "not described by"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", "its shape does not fit"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[0,0,0,0,0],\"data_offsets\":[0,0]}}", "5 axes"},
        {"{\"x\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}", "axis 0 of its shape"},
    };
    for (size_t k = 0; k < COUNT(headers); k++) {
        char text[512] = {(char)strlen(headers[k].header)};
        memcpy(text + 8, headers[k].header, strlen(headers[k].header));
        write_bytes("case", text, 8 + strlen(headers[k].header));
        expect_refusal(headers[k].header, headers[k].phrase);
    }
    unlink("case");
    expect_refusal("no file", "cannot be read");
}

Test(verify, the_other_files_are_still_run)
{
    File file = plain_file();
    write_file("case", &file);
    file_free(&file);
    write_bytes("other", "no case", 7);
    expect("one of two", "verify other case", 2, "ok   case", "other: not a safetensors file");
    expect("no file at all", "verify", 2, "", "an argument is missing (usage: vklstm verify FILE...)");
    Run run = run_command("verify case case case");
    cr_expect_eq(run.status, 0);
    cr_expect_eq(count_of(run.out, "ok   case"), 3u, "%s", run.out);
    run_free(&run);
}

/* ---- The golden cases, and the suite of the command ---- */

Test(verify, golden_cases_of_pytorch_and_onnxruntime)
{
    glob_t found;
    cr_assert_eq(glob(CASES "/*.safetensors", 0, NULL, &found), 0);
    Run run = run_command("verify '" CASES "'/*.safetensors");
    cr_expect_eq(run.status, 0, "status %d: %s", run.status, run.err);
    cr_expect_eq(count_of(run.out, "ok   "), found.gl_pathc, "of %zu files:\n%s", found.gl_pathc, run.out);
    for (const char *line = strstr(run.out, "FAIL "); line; line = strstr(line + 1, "FAIL "))
        cr_expect_fail("%.*s", (int)strcspn(line, "\n"), line);
    run_free(&run);
    globfree(&found);
}

/* Nothing is computed, so the CPU backend and a device differ in one thing: pipelines. */
Test(verify, selftest_compiles)
{
    json_error_t error;
    Run run = run_command("selftest --compile-only --quiet --json");
    cr_expect_eq(run.status, 0, "status %d: %s", run.status, run.err);
    json_t *report = json_loads(run.out, JSON_REJECT_DUPLICATES, &error), *failures = json_object_get(report, "failures");
    cr_assert_not_null(report, "%s: %s", error.text, run.out);
    cr_expect(json_is_true(json_object_get(report, "passed")));
    for (size_t k = 0; k < json_array_size(failures); k++)
        cr_expect_fail("%s", json_string_value(json_object_get(json_array_get(failures, k), "what")));
    const char *name;
    json_t *part;
    json_object_foreach(json_object_get(report, "groups"), name, part)
        cr_expect_gt(json_integer_value(json_object_get(part, "cases")), 3, "%s", name);
    const json_int_t pipelines = json_integer_value(json_object_get(report, "pipelines"));
    const bool cpu = !strcmp(json_string_value(json_object_get(json_object_get(report, "device"), "type")), "cpu");
    cr_expect(cpu ? pipelines == 0 : pipelines >= 20, "%lld", (long long)pipelines);
    cr_expect_null(json_object_get(report, "worst"), "something was computed: %s", run.out);
    json_decref(report);
    run_free(&run);
}

Test(verify, selftest_passes)
{
    json_error_t error;
    Run run = run_command("selftest --quiet --json");
    cr_expect_eq(run.status, 0, "status %d: %s", run.status, run.err);
    cr_expect_str_empty(run.err, "%s", run.err);
    json_t *report = json_loads(run.out, JSON_REJECT_DUPLICATES, &error), *failures = json_object_get(report, "failures");
    cr_assert_not_null(report, "%s: %s", error.text, run.out);
    cr_expect(json_is_true(json_object_get(report, "passed")));
    for (size_t k = 0; k < json_array_size(failures); k++) {
        const json_t *failure = json_array_get(failures, k);
        cr_expect_fail("%s: %s", json_string_value(json_object_get(failure, "case")),
                       json_string_value(json_object_get(failure, "what")));
    }
    /* it compared something: every kind of tensor, and every part */
    const char *name;
    json_t *part;
    json_object_foreach(json_object_get(report, "worst"), name, part)
        cr_expect_gt(json_integer_value(json_object_get(part, "compared")), 50, "%s", name);
    json_object_foreach(json_object_get(report, "groups"), name, part)
        cr_expect_gt(json_integer_value(json_object_get(part, "cases")), 3, "%s", name);
    cr_expect_gt(json_integer_value(json_object_get(report, "repeated")), 1000);
    json_decref(report);
    run_free(&run);
}

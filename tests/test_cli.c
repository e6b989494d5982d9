/* SPDX-License-Identifier: MIT
 *
 * The vklstm command, end to end: each test runs the built command in a folder of its own and looks at what it leaves behind.
 *
 * Command lines are written as one text, cut at spaces. $D stands for the device of the environment (see harness.h), $A for the
 * airline passengers, and $Q for "--device $D --quiet --epochs 2 --layers lstm:4,dense:1", a training that takes no time.
 */
#define _XOPEN_SOURCE 700
#include <criterion/criterion.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vklstm/vklstm.h"

#define AIR VKL_SOURCE_ROOT "/data/airpassengers.csv"
#define TEXT_SIZE 65536
#define WORDS_MAX 64

extern char **environ;

/* ---- A folder for each test ---- */

static char folder[] = "/tmp/vklstm-test-XXXXXX";

static void append_variable(const char *name, const char *option)
{
    char value[1024];
    const char *old = getenv(name);
    snprintf(value, sizeof value, "%s%s%s", old ? old : "", old ? ":" : "", option);
    cr_assert_eq(setenv(name, value, 1), 0);
}

static void enter_folder(void)
{
    cr_assert_not_null(mkdtemp(folder), "mkdtemp: %s", strerror(errno));
    cr_assert_eq(chdir(folder), 0);
    /* a leak is reported, but leaves the exit status alone: a driver's is not the command's */
    append_variable("LSAN_OPTIONS", "exitcode=0");
}

/* Calls `visit` for each name in the folder; returns how many there are. */
static size_t list_folder(void (*visit)(const char *name))
{
    size_t count = 0;
    DIR *directory = opendir(".");
    cr_assert_not_null(directory);
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count++;
        if (visit)
            visit(entry->d_name);
    }
    closedir(directory);
    return count;
}

static void remove_file(const char *name)
{
    if (unlink(name) != 0)
        rmdir(name);
}

static void leave_folder(void)
{
    list_folder(remove_file);
    cr_assert_eq(chdir("/"), 0);
    rmdir(folder);
}

TestSuite(cli, .init = enter_folder, .fini = leave_folder);

static void write_bytes(const char *name, const void *data, size_t size)
{
    FILE *file = fopen(name, "wb");
    cr_assert_not_null(file, "%s: %s", name, strerror(errno));
    cr_assert_eq(fwrite(data, 1, size, file), size);
    cr_assert_eq(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

/* The whole of a file, with a 0 behind it; freed by the caller. */
static char *read_file(const char *name, size_t *size)
{
    struct stat info;
    FILE *file = fopen(name, "rb");
    cr_assert_not_null(file, "%s: %s", name, strerror(errno));
    cr_assert_eq(fstat(fileno(file), &info), 0);
    char *text = malloc((size_t)info.st_size + 1);
    cr_assert_not_null(text);
    cr_assert_eq(fread(text, 1, (size_t)info.st_size, file), (size_t)info.st_size);
    text[info.st_size] = '\0';
    fclose(file);
    if (size)
        *size = (size_t)info.st_size;
    return text;
}

static bool exists(const char *name)
{
    struct stat info;
    return stat(name, &info) == 0;
}

static void expect_text(const char *name, const char *text)
{
    char *found = read_file(name, NULL);
    cr_expect_str_eq(found, text, "%s has changed: %s", name, found);
    free(found);
}

/* ---- Running the command ---- */

typedef struct Words {
    char text[4096];
    char *word[WORDS_MAX];
    size_t count;
} Words;

static const char *test_selector(void)
{
    const char *device = getenv("VKL_TEST_DEVICE");
    return device && device[0] ? device : "cpu";
}

static void append(char *text, size_t size, const char *part, size_t length)
{
    size_t used = strlen(text);
    cr_assert_lt(used + length, size);
    memcpy(text + used, part, length);
    text[used + length] = '\0';
}

/* Replaces $Q, $D and $A in `line`, and cuts the result at spaces. */
static void cut_words(const char *line, Words *words)
{
    static const struct {
        const char *name, *value;
    } variables[] = {{"$Q", "--device $D --quiet --epochs 2 --layers lstm:4,dense:1"}, {"$A", AIR}, {"$D", NULL}};
    char source[sizeof words->text] = "";
    append(source, sizeof source, line, strlen(line));
    for (size_t v = 0; v < sizeof variables / sizeof variables[0]; v++) {
        const char *value = variables[v].value ? variables[v].value : test_selector(), *from = source, *at;
        words->text[0] = '\0';
        while ((at = strstr(from, variables[v].name)) != NULL) {
            append(words->text, sizeof words->text, from, (size_t)(at - from));
            append(words->text, sizeof words->text, value, strlen(value));
            from = at + strlen(variables[v].name);
        }
        append(words->text, sizeof words->text, from, strlen(from));
        memcpy(source, words->text, sizeof source);
    }
    words->count = 0;
    words->word[words->count++] = (char *)"vklstm";
    char *save = NULL;
    for (char *word = strtok_r(words->text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        cr_assert_lt(words->count + 1, (size_t)WORDS_MAX);
        words->word[words->count++] = word;
    }
    words->word[words->count] = NULL;
}

/* Starts the command with these descriptors as its output. Signals have their defaults, whatever started the tests. */
static pid_t start(const char *line, int out, int err)
{
    Words words;
    pid_t child;
    sigset_t defaults;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    cut_words(line, &words);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    cr_assert_eq(posix_spawnattr_init(&attributes), 0);
    cr_assert_eq(posix_spawnattr_setsigdefault(&attributes, &defaults), 0);
    cr_assert_eq(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF), 0);
    cr_assert_eq(posix_spawn_file_actions_init(&actions), 0);
    cr_assert_eq(posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0), 0);
    cr_assert_eq(posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO), 0);
    cr_assert_eq(posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO), 0);
    int error = posix_spawn(&child, VKL_COMMAND, &actions, &attributes, words.word, environ);
    cr_assert_eq(error, 0, "%s: %s", VKL_COMMAND, strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return child;
}

/* The exit status, or 1000 + the signal that ended it. */
static int finish(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        cr_assert_eq(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

typedef struct Run {
    int status;
    char out[TEXT_SIZE], err[TEXT_SIZE];
} Run;

static void read_all(FILE *file, char text[TEXT_SIZE])
{
    rewind(file);
    size_t size = fread(text, 1, TEXT_SIZE - 1, file);
    text[size] = '\0';
    fclose(file);
}

static void run(const char *line, Run *result)
{
    FILE *out = tmpfile(), *err = tmpfile();
    cr_assert(out && err);
    result->status = finish(start(line, fileno(out), fileno(err)));
    read_all(out, result->out);
    read_all(err, result->err);
}

/* Runs what must succeed. */
static void run_ok(const char *line, Run *result)
{
    run(line, result);
    cr_assert_eq(result->status, 0, "vklstm %s: status %d: %s", line, result->status, result->err);
}

/* Runs with --json what must succeed; the object is all there is on standard output. The caller drops the reference. */
static json_t *run_json(const char *line)
{
    static Run result;
    json_error_t error;
    run_ok(line, &result);
    json_t *object = json_loads(result.out, JSON_REJECT_DUPLICATES, &error); /* refuses anything behind it */
    cr_assert(json_is_object(object), "vklstm %s: %s: %s", line, error.text, result.out);
    return object;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    cr_assert(json_is_number(value), "%s is missing or no number", key);
    return json_number_value(value);
}

/* How many of our sentences there are, the warnings aside. */
static int count_sentences(const char *text)
{
    int count = 0;
    for (const char *at = strstr(text, "vklstm: "); at; at = strstr(at + 1, "vklstm: "))
        count += (at == text || at[-1] == '\n') && strncmp(at, "vklstm: warning: ", 17) != 0;
    return count;
}

/* A failed job: status, one sentence with `phrase` in it, nothing on standard output. */
static void expect_failure(const char *line, int status, const char *phrase)
{
    static Run result;
    run(line, &result);
    cr_expect_eq(result.status, status, "vklstm %s: status %d instead of %d: %s", line, result.status, status, result.err);
    cr_expect(strstr(result.err, phrase) != NULL, "vklstm %s: '%s' is not in: %s", line, phrase, result.err);
    cr_expect_eq(count_sentences(result.err), 1, "vklstm %s: not one sentence: %s", line, result.err);
    cr_expect_str_eq(result.out, "", "vklstm %s: standard output has: %s", line, result.out);
}

/* ---- Usage ---- */

Test(cli, wrong_usage_exits_with_2_and_names_option_and_value)
{
    static const struct {
        const char *line, *phrase;
    } rows[] = {
        {"", "command is missing"},
        {"teach", "teach: no such command"},
        {"train", "an argument is missing"},
        {"train $A", "--target"},
        {"train $A more.csv --target passengers", "more.csv: unexpected argument"},
        {"train $A --target", "--target: its value is missing"},
        {"train $A --target passengers --windows 3", "--windows: unknown option"},
        {"train $A --target passengers -w 3", "-w: unknown option"},
        {"train $A --target passengers --json=yes", "--json"},
        {"train $A --target passengers --window x", "--window: 'x' is not a whole number"},
        {"train $A --target passengers --window 1.5", "--window: '1.5'"},
        {"train $A --target passengers --window 0", "--window: 0 is out of range (1 to 4294967295)"},
        {"train $A --target passengers --window -1", "--window: -1 is out of range"},
        {"train $A --target passengers --window 4294967296", "--window: 4294967296 is out of range"},
        {"train $A --target passengers --window=", "--window: '' is not"},
        {"train $A --target passengers --features passengers,", "--features: 'passengers,' has an empty name"},
        {"train $A --target passengers --horizon 0", "--horizon: 0 is out of range"},
        {"train $A --target passengers --epochs 0", "--epochs: 0 is out of range"},
        {"train $A --target passengers --checkpoint-every 0 --checkpoint f", "--checkpoint-every: 0 is out of range"},
        {"train $A --target passengers --checkpoint-every 5", "--checkpoint-every: 5 says how often"},
        {"train $A --target passengers --epochs 99999999999999999999999", "--epochs: 99999999999999999999999 is out of range"},
        {"train $A --target passengers --batch-size 0", "--batch-size: 0 is out of range"},
        {"train $A --target passengers --seed -1", "--seed: -1 is out of range"},
        {"train $A --target passengers --difference x", "--difference: 'x'"},
        {"train $A --target passengers --season x", "--season: 'x'"},
        {"train $A --target passengers --test-split 1", "--test-split: 1 is out of range"},
        {"train $A --target passengers --test-split -0.1", "--test-split: -0.1 is out of range"},
        {"train $A --target passengers --validation-split 20%", "--validation-split: '20%' is not a number"},
        {"train $A --target passengers --learning-rate nan", "--learning-rate: 'nan'"},
        {"train $A --target passengers --learning-rate -1", "--learning-rate: -1 is out of range"},
        {"train $A --target passengers --learning-rate 1e999", "--learning-rate: 1e999 is out of range"},
        {"train $A --target passengers --clip-norm -1", "--clip-norm: -1"},
        {"train $A --target passengers --weight-decay -1", "--weight-decay: -1"},
        {"train $A --target passengers --momentum 1 --optimizer sgd", "--momentum: 1 is out of range"},
        {"train $A --target passengers --momentum 0.9", "--momentum: 0.9 is for"},
        {"train $A --target passengers --optimizer lbfgs", "--optimizer: 'lbfgs' is none of sgd, rmsprop, adam and adamw"},
        {"train $A --target passengers --loss l1", "--loss: 'l1' is none of mse, mae and huber"},
        {"train $A --target passengers --scale robust", "--scale: 'robust' is none of"},
        {"train $A --target passengers --fill zero", "--fill: 'zero' is none of"},
        {"train $A --target passengers --fill moving-average:4", "--fill: 'moving-average:4' is none of"},
        {"train $A --target passengers --layers cnn:8,dense:1", "--layers"},
        {"train $A --target passengers --layers lstm:0,dense:1", "--layers"},
        {"train $A --target passengers --layers lstm:8,dense:2", "--layers: the last layer of lstm:8,dense:2 has 2 outputs"},
        {"train $A --target passengers --layers dense:1", "--layers: dense:1 has no recurrent layer"},
        {"train $A --target passengers --patience 3", "--patience: 3 needs a validation part"},
        {"train $A --target passengers --refit --validation-split 0.2", "--refit: it follows early stopping"},
        {"train $A --target passengers --device gpu", "--device: 'gpu' is none of auto, cpu, vulkan"},
        {"train $A --target passengers --device vulkan:", "--device: 'vulkan:' is none of"},
        {"train $A --target passengers --plot figure.pdf", "--plot: figure.pdf ends neither in .svg nor in .png"},
        {"train $A --target passengers --output m --history m", "--history: m is the file of --output, too"},
        {"train here.csv --target v --output here.csv", "--output: here.csv is the file of DATA.csv, too"},
        {"train here.csv --target v --history ./here.csv", "--history: ./here.csv is the file of DATA.csv, too"},
        {"evaluate", "an argument is missing"},
        {"evaluate model", "an argument is missing"},
        {"evaluate model $A --steps 2", "--steps: unknown option"},
        {"evaluate model $A --season -1", "--season: -1 is out of range"},
        {"predict model", "an argument is missing"},
        {"predict model $A --steps 0", "--steps: 0 is out of range"},
        {"predict here.csv $A --output here.csv", "--output: here.csv is the file of MODEL, too"},
        {"predict model $A --plot figure", "--plot: figure ends neither"},
        {"bench extra", "extra: unexpected argument (usage: vklstm bench)"},
        {"bench --cell cnn", "--cell: 'cnn' is none of lstm"},
        {"bench --pass backward", "--pass: 'backward' is none of forward and train"},
        {"bench --seq 0", "--seq: 0 is out of range"},
        {"bench --batch 0", "--batch: 0 is out of range"},
        {"bench --input 0", "--input: 0 is out of range"},
        {"bench --hidden 0", "--hidden: 0 is out of range"},
        {"bench --layers 0", "--layers: 0 is out of range"},
        {"bench --repeat 0", "--repeat: 0 is out of range"},
        {"bench --gemm 2,3", "--gemm: '2,3' is none of three sizes"},
        {"bench --gemm 2,3,4,5", "--gemm: '2,3,4,5' is none of three sizes"},
        {"bench --gemm 2,0,4", "--gemm: '2,0,4' is none of three sizes"},
        {"bench --gemm 2,3,4 --pass train", "--gemm: a product has no training step"},
        {"bench --gemm 2,3,4 --suite", "--gemm: --suite has shapes of its own"},
        {"bench --agents --suite", "--agents: it goes with a layer's shape alone, and not with --suite"},
        {"bench --most 0", "--most: 0 is out of range"},
        {"bench --quick", "--quick: it needs --suite"},
        {"bench --only lstm", "--only: it needs --suite"},
        {"bench --markdown t.md", "--markdown: it needs --suite"},
        {"bench --output t.json", "--output: it needs --suite"},
        {"bench --suite --only nosuch --peak 1 --bandwidth 1", "--only: no shape's name contains 'nosuch'"},
        {"bench --suite --output t --markdown t", "--markdown: t is the file of --output, too"},
        {"bench --peak -1", "--peak: -1 is out of range"},
        {"info extra", "extra: unexpected argument"},
        {"info --device cpu", "--device: unknown option"},
    };
    write_text("here.csv", "v\n1\n2\n3\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_failure(rows[i].line, 2, rows[i].phrase);
    expect_text("here.csv", "v\n1\n2\n3\n");
    cr_expect_eq(list_folder(NULL), 1u);
}

Test(cli, help_of_each_command_names_its_options)
{
    static const struct {
        const char *line, *begin, *options; /* space-separated */
    } rows[] = {
        {"--help", "Usage: vklstm COMMAND", "info train evaluate predict bench --version"},
        {"-h", "Usage: vklstm COMMAND", ""},
        {"info --help", "Usage: vklstm info", "--json"},
        {"train --help", "Usage: vklstm train DATA.csv --target COLUMN",
         "--features --window --horizon --layers --epochs --batch-size --optimizer --learning-rate --loss --clip-norm "
         "--weight-decay --momentum --patience --refit --fill --scale --log --difference --test-split --validation-split "
         "--season --seed --device --output --plot --history --json --quiet"},
        {"train data.csv --help", "Usage: vklstm train", ""},
        {"evaluate --help", "Usage: vklstm evaluate MODEL DATA.csv", "--season --device --json"},
        {"predict --help", "Usage: vklstm predict MODEL DATA.csv", "--steps --output --plot --device"},
        {"bench --help", "Usage: vklstm bench",
         "--cell --seq --batch --input --hidden --layers --skip-input --gemm --agents --most --suite --only --quick --output "
         "--markdown "
         "--roofline "
         "--peak --bandwidth --pass --latency --brief --device --repeat --json"},
    };
    static Run result;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char options[1024];
        run_ok(rows[i].line, &result);
        cr_expect_eq(strncmp(result.out, rows[i].begin, strlen(rows[i].begin)), 0, "%s: %s", rows[i].line, result.out);
        cr_expect_str_eq(result.err, "");
        snprintf(options, sizeof options, "%s", rows[i].options);
        char *save = NULL;
        for (char *option = strtok_r(options, " ", &save); option; option = strtok_r(NULL, " ", &save))
            cr_expect(strstr(result.out, option) != NULL, "%s does not name %s", rows[i].line, option);
    }
}

Test(cli, version_is_the_librarys)
{
    static Run result;
    run_ok("--version", &result);
    cr_expect_str_eq(result.out, "vklstm " VKL_VERSION "\n");
}

/* ---- Bad input ---- */

#define TEN_ROWS                                                                                    \
    "date,v,c,gap\n2000-01,1,4,\n2000-02,2,4,NA\n2000-03,3,4,nan\n2000-04,5,4,null\n2000-05,8,4,\n" \
    "2000-06,7,4,\n2000-07,9,4,\n2000-08,6,4,\n2000-09,4,4,\n2000-10,2,4,\n"

Test(cli, bad_data_fails_with_one_sentence_and_leaves_old_files_alone)
{
    static const struct {
        const char *text; /* of data.csv; NULL: there is no such file */
        const char *options, *phrase;
    } rows[] = {
        {NULL, "--target v", "data.csv"},
        {"", "--target v", "data.csv: the file is empty"},
        {"date,v\n", "--target v", "data.csv"},
        {"date,v\n2000-01,1\n2000-02\n2000-03,3\n", "--target v", "data.csv:3"},
        {"date,v\n2000-01,1\n2000-02,2,3\n2000-03,3\n", "--target v", "data.csv:3"},
        {"date,v\n2000-01,1\n2000-02,x7\n2000-03,3\n", "--target v", "'x7'"},
        {"v,v\n1,2\n2,3\n", "--target v", "'v'"},
        {TEN_ROWS, "--target w", "no column 'w'; it has: date, v, c, gap"},
        {TEN_ROWS, "--target v --features v,w", "no column 'w'; it has: date, v, c, gap"},
        {TEN_ROWS, "--target date", "'date'"},
        {TEN_ROWS, "--target gap", "'gap'"},
        {TEN_ROWS, "--target v --features v,gap", "'gap'"},
        {TEN_ROWS, "--target v --window 10", "10 rows"},
        {TEN_ROWS, "--target v --window 8", "8"},
        {TEN_ROWS, "--target v --window 4294967295", "4294967295"},
        {TEN_ROWS, "--target v --difference 20", "20"},
        {"v\n1\n2\ninf\n4\n5\n6\n7\n8\n", "--target v", "data.csv:4"},
        {"v\n1\n2\n3\n4\n5\n6\n7\n-inf\n", "--target v", "data.csv:9"},
        {"v\n1\n2\n1e999\n4\n5\n6\n7\n8\n", "--target v", "data.csv:4"},
        {"v\n1\n2\n3\n0\n5\n6\n7\n8\n", "--target v --log", "data.csv:5"},
        {"v\n1\n2\n3\n-4\n5\n6\n7\n8\n", "--target v --log", "-4"},
    };
    write_text("model", "old model");
    write_text("figure.svg", "old figure");
    write_text("history.csv", "old history");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[512];
        if (rows[i].text)
            write_text("data.csv", rows[i].text);
        snprintf(line, sizeof line, "train data.csv $Q %s --output model --plot figure.svg --history history.csv",
                 rows[i].options);
        expect_failure(line, 1, rows[i].phrase);
        cr_expect_eq(list_folder(NULL), rows[i].text ? 4u : 3u, "vklstm %s: a file was left behind", line);
    }
    expect_text("model", "old model");
    expect_text("figure.svg", "old figure");
    expect_text("history.csv", "old history");
}

Test(cli, a_device_that_is_not_there_is_named)
{
    write_text("model", "old model");
#ifdef VKL_WITH_VULKAN
    expect_failure("train $A --target passengers --quiet --output model --device vulkan:nosuch", 1, "nosuch");
    expect_failure("train $A --target passengers --quiet --output model --device vulkan:77", 1, "77");
    expect_failure("bench --device vulkan:nosuch", 1, "nosuch");
#else
    expect_failure("train $A --target passengers --quiet --output model --device vulkan", 1, "'vulkan'");
    expect_failure("bench --device vulkan:0", 1, "'vulkan:0'");
#endif
    expect_text("model", "old model");
}

Test(cli, an_output_that_cannot_be_written_is_told_before_training)
{
    static const struct {
        const char *options, *phrase;
    } rows[] = {
        {"--output nowhere/model", "--output: nowhere/model cannot be written: No such file or directory"},
        {"--output sub", "--output: sub cannot be written: Is a directory"},
        {"--output file/model", "--output: file/model cannot be written: Not a directory"},
        {"--output /dev/null", "--output: /dev/null cannot be written: not a regular file"},
        {"--checkpoint nowhere/kept", "--checkpoint: nowhere/kept cannot be written: No such file or directory"},
        {"--history nowhere/history.csv", "--history: nowhere/history.csv cannot be written"},
        {"--plot nowhere/figure.svg", "--plot: nowhere/figure.svg cannot be written"},
    };
    cr_assert_eq(mkdir("sub", 0700), 0);
    write_text("file", "old");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[512]; /* 4e9 epochs: were it told after the training, it would not be told */
        snprintf(line, sizeof line, "train $A --target passengers --device $D --quiet --epochs 4000000000 %s", rows[i].options);
        expect_failure(line, 1, rows[i].phrase);
    }
    if (geteuid() != 0) { /* root may write all files */
        cr_assert_eq(chmod("file", 0400), 0);
        expect_failure("train $A --target passengers $Q --output file", 1, "--output: file cannot be written: Permission denied");
        cr_assert_eq(chmod("sub", 0500), 0);
        expect_failure("train $A --target passengers $Q --output sub/model", 1, "Permission denied");
    }
    expect_text("file", "old");
    cr_expect_eq(list_folder(NULL), 2u);
}

Test(cli, a_full_standard_output_is_a_failure)
{
    int full = open("/dev/full", O_WRONLY);
    if (full < 0)
        cr_skip("there is no /dev/full");
    FILE *err = tmpfile();
    static char text[TEXT_SIZE];
    int status = finish(start("info", full, fileno(err)));
    close(full);
    read_all(err, text);
    cr_expect_eq(status, 1);
    cr_expect(strstr(text, "standard output cannot be written") != NULL, "%s", text);
}

/* Changes the first `from` in the file to `to`, which is as long. */
static void patch(const char *name, const char *from, const char *to)
{
    size_t size, length = strlen(from);
    char *data = read_file(name, &size);
    cr_assert_eq(strlen(to), length);
    for (size_t i = 0; i + length <= size; i++)
        if (memcmp(data + i, from, length) == 0) {
            memcpy(data + i, to, length);
            write_bytes(name, data, size);
            free(data);
            return;
        }
    cr_assert_fail("%s: there is no %s in it", name, from);
}

Test(cli, a_bad_model_file_is_refused)
{
    static Run result;
    static const struct {
        const char *from, *to, *phrase;
    } patches[] = {
        {"\"version\":\"1\"", "\"version\":\"9\"", "version"},
        {"\"format\":\"vklstm\"", "\"format\":\"python\"", "format"},
        {"\"shape\":[16,4]", "\"shape\":[4,16]", "weight_hh_l0"},
        {"\\\"units\\\":4", "\\\"units\\\":5", "lstm"},
        {"0.lstm.weight_hh_l0", "0.lstm.weight_hh_l9", "weight_hh_l"},
        {"{\"__meta", "[\"__meta", "header"},
    };
    run_ok("train $A --target passengers $Q --output good", &result);
    size_t size;
    char *model = read_file("good", &size);
    static const size_t cuts[] = {0, 4, 8, 100, 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        write_bytes("bad", model, cuts[i] == 1 ? size - 1 : cuts[i]);
        expect_failure("evaluate bad $A --device $D", 1, "bad");
        expect_failure("predict bad $A --device $D --output forecast.csv", 1, "bad");
    }
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        write_bytes("bad", model, size);
        char from[64], to[64]; /* padded to one length */
        snprintf(from, sizeof from, "%s", patches[i].from);
        snprintf(to, sizeof to, "%.*s", (int)strlen(from), patches[i].to);
        patch("bad", from, to);
        expect_failure("evaluate bad $A --device $D", 1, patches[i].phrase);
        expect_failure("predict bad $A --device $D --output forecast.csv", 1, patches[i].phrase);
    }
    expect_failure("evaluate none $A --device $D", 1, "none");
    expect_failure("evaluate $A $A --device $D", 1, "airpassengers.csv");
    free(model);
    cr_expect_not(exists("forecast.csv"));
}

Test(cli, a_model_is_no_case_file)
{
    static Run result;
    run_ok("train $A --target passengers $Q --output model", &result);
    expect_failure("verify model --device $D", 2, "model: it is a trained model, not a case file");
}

Test(cli, a_table_that_does_not_fit_the_model_is_refused)
{
    static Run result;
    write_text("other.csv", "date,w\n2000-01,1\n2000-02,2\n2000-03,3\n2000-04,4\n");
    write_text("short.csv", "month,passengers\n2000-01,1\n2000-02,2\n");
    write_text("pair.csv", TEN_ROWS);
    write_text("forecast.csv", "old");
    run_ok("train $A --target passengers --window 3 $Q --output model", &result);
    expect_failure("evaluate model other.csv --device $D", 1, "no column 'passengers'; it has: date, w");
    expect_failure("predict model other.csv --device $D --output forecast.csv", 1, "no column 'passengers'");
    expect_failure("evaluate model none.csv --device $D", 1, "none.csv");
    expect_failure("predict model short.csv --device $D --output forecast.csv", 1, "3");
    run_ok("train pair.csv --target v --features v,c $Q --output pair", &result);
    expect_failure("predict pair pair.csv --steps 2 --device $D --output forecast.csv", 1,
                   "vklstm: --steps: 2 needs a network whose only feature is its target; later values of 'c' are not known");
    expect_text("forecast.csv", "old");
    run_ok("predict pair pair.csv --device $D --output forecast.csv", &result);
}

Test(cli, memory_that_is_refused_is_told)
{
    /* AddressSanitizer would end the command where malloc() returns NULL, and writes a report even where it does not */
    append_variable("ASAN_OPTIONS", "allocator_may_return_null=1:log_path=stderr");
    write_text("model", "old model");
    /* 16 TB: more than a host gives, more than a device's limits */
    expect_failure("bench --hidden 1000000 --device $D", 1, "bytes");
    expect_failure("bench --seq 4294967295 --batch 4294967295 --hidden 4294967295 --device $D", 1, "bench: an array of");
    expect_failure("train $A --target passengers $Q --layers lstm:1000000,dense:1 --output model", 1,
                   "vklstm: --layers: lstm:1000000,dense:1 is too large: ");
    expect_failure("train $A --target passengers $Q --layers lstm:4000000000,dense:1 --output model", 1,
                   "vklstm: --layers: lstm:4000000000,dense:1 is too large: ");
    expect_text("model", "old model");
}

Test(cli, a_loss_that_is_not_finite_ends_training_and_leaves_the_old_model)
{
    write_text("model", "old model");
    expect_failure(
        "train $A --target passengers --scale none --optimizer sgd --learning-rate 1e20 --device $D --quiet --epochs 50 "
        "--output model",
        1, "epoch");
    expect_text("model", "old model");
    cr_expect_eq(list_folder(NULL), 1u);
}

Test(cli, a_constant_feature_is_kept_with_a_warning)
{
    static Run result;
    write_text("data.csv", TEN_ROWS);
    run_ok("train data.csv --target v --features v,c $Q", &result);
    cr_expect(strstr(result.err, "vklstm: warning: ") && strstr(result.err, "'c'"), "%s", result.err);
}

/* ---- Results ---- */

static void expect_scores(const json_t *object, const char *part, double count)
{
    const json_t *scores = json_object_get(object, part);
    cr_assert(json_is_object(scores), "%s is no object", part);
    cr_expect(number(scores, "rmse") >= number(scores, "mae"), "%s: rmse is below mae", part);
    cr_expect_gt(number(scores, "mae"), 0);
    cr_expect_gt(number(scores, "mape"), 0);
    cr_expect_eq(number(scores, "count"), count, "%s: %g targets", part, number(scores, "count"));
}

Test(cli, the_json_of_train_has_its_keys)
{
    /* 144 rows: 29 test, 23 validation, 92 training; the window takes 3 */
    json_t *object = run_json("train $A --target passengers --window 3 --validation-split 0.2 --season 12 $Q --json");
    const json_t *test = json_object_get(object, "test");
    cr_expect(json_is_string(json_object_get(object, "device")));
    cr_expect_eq(number(object, "parameters"), 4 * 4 * (1 + 4 + 2) + 5);
    cr_expect_eq(number(object, "epochs"), 2);
    cr_expect_gt(number(object, "seconds"), 0);
    cr_expect_gt(number(object, "loss"), 0);
    cr_expect_gt(number(object, "validation_loss"), 0);
    expect_scores(object, "train", 89);
    expect_scores(object, "validation", 23);
    expect_scores(object, "test", 29);
    cr_expect_gt(number(test, "persistence_rmse"), 0);
    cr_expect_gt(number(test, "seasonal_naive_rmse"), 0);
    cr_expect_gt(number(test, "seasonal_naive_drift_rmse"), 0);
    json_decref(object);
}

Test(cli, absent_parts_and_numbers_are_null)
{
    write_text("zeros.csv", "v\n0\n1\n0\n1\n0\n1\n0\n1\n0\n0\n");
    json_t *object = run_json("train zeros.csv --target v $Q --json");
    const json_t *test = json_object_get(object, "test");
    cr_expect(json_is_null(json_object_get(object, "validation")));
    cr_expect(json_is_null(json_object_get(object, "validation_loss")));
    cr_expect(json_is_null(json_object_get(object, "refit_epochs")));
    cr_expect(json_is_null(json_object_get(test, "mape")), "mape of zeros is a number");
    cr_expect_null(json_object_get(test, "seasonal_naive_rmse"), "there is no season");
    json_decref(object);
    object = run_json("train $A --target passengers --test-split 0 $Q --json");
    cr_expect(json_is_null(json_object_get(object, "test")));
    json_decref(object);
}

Test(cli, a_part_that_cannot_be_scored_is_noted)
{
    static const struct {
        const char *text, *options, *part, *phrase;
    } rows[] = {
        {"v\n1\n2\n3\n4\n5\n6\n7\n8\nNA\nNA\n", "", "test",
         "test part: no row of it (9 to 10) is scored: all its targets are gaps"},
        {"v\n1\n2\n3\n4\n5\n6\n7\nNA\n9\nNA\n", "--fill drop", "test",
         "test part: no row of it (9 to 10) is scored: what each target needs has a gap, and the fill is 'drop'"},
        {"v\n1\n2\n3\n4\n5\n6\nNA\nNA\n9\n10\n", "--validation-split 0.2", "validation",
         "validation part: no row of it (7 to 8) is scored: all its targets are gaps"},
    };
    static Run result;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[256];
        write_text("gaps.csv", rows[i].text);
        snprintf(line, sizeof line, "train gaps.csv --target v --window 2 $Q --json --output model %s", rows[i].options);
        json_t *object = run_json(line);
        cr_expect(json_is_null(json_object_get(object, rows[i].part)));
        json_decref(object);
        run_ok("evaluate model gaps.csv --device $D", &result);
        cr_expect(strstr(result.err, rows[i].phrase) != NULL, "'%s' is not in: %s", rows[i].phrase, result.err);
        cr_expect_eq(count_sentences(result.err), 1, "%s", result.err);
    }
}

Test(cli, the_same_seed_gives_the_same_numbers)
{
    const char *line = "train $A --target passengers --window 4 --validation-split 0.2 $Q --json --seed 7";
    json_t *first = run_json(line), *second = run_json(line);
    json_t *other = run_json("train $A --target passengers --window 4 --validation-split 0.2 $Q --json --seed 8");
    json_object_del(first, "seconds");
    json_object_del(second, "seconds");
    cr_expect(json_equal(first, second));
    cr_expect_neq(number(first, "loss"), number(other, "loss"));
    json_decref(first);
    json_decref(second);
    json_decref(other);
}

Test(cli, evaluate_finds_the_numbers_of_train)
{
    json_t *trained =
        run_json("train $A --target passengers --window 4 --log --difference 1 --validation-split 0.2 --season 12 $Q "
                 "--json --output model");
    json_t *evaluated = run_json("evaluate model $A --season 12 --device $D --json");
    static const char *const keys[] = {"device", "parameters", "train", "validation", "test"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        cr_expect(json_equal(json_object_get(trained, keys[i]), json_object_get(evaluated, keys[i])), "%s differs", keys[i]);
    cr_expect_eq(number(evaluated, "epochs"), 0);
    cr_expect_geq(number(evaluated, "seconds"), 0);
    json_decref(trained);
    json_decref(evaluated);
}

/* Reads the rows of a CSV file with two columns: labels and numbers. Returns how many there are. */
static size_t read_forecast(const char *text, const char *header, char labels[][32], double *values, size_t most)
{
    size_t count = 0, length = strlen(header);
    cr_assert_eq(strncmp(text, header, length), 0, "the header is not %s: %s", header, text);
    for (const char *at = text + length; *at && count < most; at = strchr(at, '\n') + 1, count++)
        cr_assert_eq(sscanf(at, "%31[^,],%lf", labels[count], &values[count]), 2, "%s", at);
    return count;
}

Test(cli, predict_agrees_with_evaluate)
{
    static Run result;
    char labels[4][32];
    double values[4], again[4];
    run_ok("train $A --target passengers --window 3 --log --difference 1 $Q --output model", &result);
    /* the test part of seven rows, a fifth, is the last row alone: its error is that of forecasting it from the six before */
    write_text("seven.csv", "month,passengers\n1960-06,535\n1960-07,622\n1960-08,606\n1960-09,508\n1960-10,461\n1960-11,390\n"
                            "1960-12,432\n");
    write_text("six.csv", "month,passengers\n1960-06,535\n1960-07,622\n1960-08,606\n1960-09,508\n1960-10,461\n1960-11,390\n");
    json_t *evaluated = run_json("evaluate model seven.csv --device $D --json");
    double error = number(json_object_get(evaluated, "test"), "rmse");
    run_ok("predict model six.csv --steps 3 --device $D", &result);
    cr_assert_eq(read_forecast(result.out, "month,forecast\n", labels, values, 4), 3u);
    cr_expect_str_eq(labels[0], "1960-12");
    cr_expect_str_eq(labels[2], "1961-02");
    /* both are printed with nine digits or more */
    cr_expect_float_eq(fabs(values[0] - 432), error, 1e-5, "forecast %.9g, error %.9g", values[0], error);
    run_ok("predict model six.csv --steps 3 --output forecast.csv --device $D", &result);
    cr_expect_str_eq(result.out, "");
    char *text = read_file("forecast.csv", NULL);
    cr_assert_eq(read_forecast(text, "month,forecast\n", labels, again, 4), 3u);
    cr_expect_arr_eq(values, again, 3 * sizeof *values);
    free(text);
    json_decref(evaluated);
}

Test(cli, a_forecast_goes_on_with_the_dates_of_the_rows)
{
    static const struct {
        const char *labels[3], *expected[2];
    } rows[] = {
        {{"1999-10", "1999-11", "1999-12"}, {"2000-01", "2000-02"}},
        {{"2023-04", "2023-07", "2023-10"}, {"2024-01", "2024-04"}},
        {{"2000-02-26", "2000-02-27", "2000-02-28"}, {"2000-02-29", "2000-03-01"}},
        {{"1969-12-28", "1969-12-29", "1969-12-30"}, {"1969-12-31", "1970-01-01"}},
        {{"1900-02-26", "1900-02-27", "1900-02-28"}, {"1900-03-01", "1900-03-02"}},
        {{"2001-12-15", "2001-12-22", "2001-12-29"}, {"2002-01-05", "2002-01-12"}},
        {{"2023-11-01", "2023-12-01", "2024-01-01"}, {"2024-02-01", "2024-03-01"}},
        {{"2023-11-30", "2023-12-31", "2024-01-31"}, {"2024-02-29", "2024-03-31"}},
        {{"2020-05-17", "2021-05-17", "2022-05-17"}, {"2023-05-17", "2024-05-17"}},
        {{"2014-12-31T21:00", "2014-12-31T22:00", "2014-12-31T23:00"}, {"2015-01-01T00:00", "2015-01-01T01:00"}},
        {{"2014-12-31 23:58:59", "2014-12-31 23:59:29", "2014-12-31 23:59:59"}, {"2015-01-01 00:00:29", "2015-01-01 00:00:59"}},
        {{"2023-02-27", "2023-02-28", "2023-02-29"}, {"4", "5"}}, /* no such day */
        {{"2023-02-02", "2023-02-01", "2023-02-03"}, {"4", "5"}}, /* not in order */
        {{"2023-02-01", "2023-02-02", "2023-02"}, {"4", "5"}},    /* not of one form */
        {{"a", "b", "c"}, {"4", "5"}},
        {{"1", "2", "3"}, {"4", "5"}},
    };
    static Run result;
    run_ok("train $A --target passengers $Q --output model", &result);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[256], labels[2][32];
        double values[2];
        bool dates = strlen(rows[i].expected[0]) > 1;
        snprintf(text, sizeof text, "when,passengers\n%s,101\n%s,102\n%s,103\n", rows[i].labels[0], rows[i].labels[1],
                 rows[i].labels[2]);
        write_text("dated.csv", text);
        run_ok("predict model dated.csv --steps 2 --device $D", &result);
        cr_assert_eq(read_forecast(result.out, dates ? "when,forecast\n" : "row,forecast\n", labels, values, 2), 2u);
        for (int k = 0; k < 2; k++)
            cr_expect_str_eq(labels[k], rows[i].expected[k], "after %s: %s instead of %s", rows[i].labels[2], labels[k],
                             rows[i].expected[k]);
    }
}

static void write_dated(const char *labels)
{
    char text[1024] = "when,passengers\n", copy[512], *save = NULL;
    snprintf(copy, sizeof copy, "%s", labels);
    for (char *label = strtok_r(copy, ",", &save); label; label = strtok_r(NULL, ",", &save)) {
        append(text, sizeof text, label, strlen(label));
        append(text, sizeof text, ",100\n", 5);
    }
    write_text("dated.csv", text);
}

Test(cli, the_most_frequent_step_goes_on_and_uneven_rows_are_noted)
{
    static const struct {
        const char *labels, *expected[2], *phrase; /* NULL: no note */
    } rows[] = {
        /* a week of work days and the next Monday; then with a holiday */
        {"2024-03-04,2024-03-05,2024-03-06,2024-03-07,2024-03-08,2024-03-11", {"2024-03-12", "2024-03-13"}, NULL},
        {"2024-03-06,2024-03-07,2024-03-08,2024-03-11,2024-03-12,2024-03-13,2024-03-14", {"2024-03-15", "2024-03-18"}, NULL},
        {"2024-03-04,2024-03-05,2024-03-07,2024-03-08,2024-03-11,2024-03-12,2024-03-15",
         {"2024-03-18", "2024-03-19"},
         "2 of 6 steps are not 1 weekday, by"},
        {"2024-03-04 00:00:00,2024-03-05 00:00:00,2024-03-06 00:00:00,2024-03-07 00:00:00,2024-03-08 00:00:00,2024-03-11 "
         "00:00:00",
         {"2024-03-12 00:00:00", "2024-03-13 00:00:00"},
         NULL},
        {"2024-03-07,2024-03-08,2024-03-09,2024-03-10,2024-03-13",
         {"2024-03-14", "2024-03-15"},
         "1 of 4 steps are not 1 day, by"},
        {"2024-03-04,2024-03-11,2024-03-18,2024-04-01", {"2024-04-08", "2024-04-15"}, "1 of 3 steps are not 7 days, by"},
        {"2023-08,2023-09,2023-10,2024-01", {"2024-02", "2024-03"}, "1 of 3 steps are not 1 month, by"},
        {"2023-08-31,2023-09-30,2023-10-31,2024-01-31", {"2024-02-29", "2024-03-31"}, "1 of 3 steps are not 1 month, by"},
        {"2023-10-30,2023-11-30,2023-12-30,2024-01-30", {"2024-02-29", "2024-03-30"}, NULL},
        {"2024-03-04T10:00,2024-03-04T11:00,2024-03-04T12:00,2024-03-04T15:00",
         {"2024-03-04T16:00", "2024-03-04T17:00"},
         "1 of 3 steps are not 1 hour, by"},
    };
    static Run result;
    run_ok("train $A --target passengers $Q --output model", &result);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char labels[2][32];
        double values[2];
        write_dated(rows[i].labels);
        run_ok("predict model dated.csv --steps 2 --device $D", &result);
        cr_expect_eq(count_sentences(result.err), rows[i].phrase ? 1 : 0, "after %s: %s", rows[i].labels, result.err);
        if (rows[i].phrase)
            cr_expect(strstr(result.err, rows[i].phrase) != NULL, "'%s' is not in: %s", rows[i].phrase, result.err);
        cr_assert_eq(read_forecast(result.out, "when,forecast\n", labels, values, 2), 2u);
        for (int k = 0; k < 2; k++)
            cr_expect_str_eq(labels[k], rows[i].expected[k], "after %s: %s instead of %s", rows[i].labels, labels[k],
                             rows[i].expected[k]);
        run_ok("predict model dated.csv --steps 2 --device $D --quiet", &result);
        cr_expect_eq(count_sentences(result.err), 0, "--quiet, but: %s", result.err);
    }
}

Test(cli, labels_that_are_no_dates_in_order_are_noted)
{
    static const struct {
        const char *labels, *phrase; /* NULL: no note */
    } rows[] = {
        {"2023-02-06,2023-02-05,2023-02-04,2023-02-03,2023-02-02,2023-02-01",
         "row 2: '2023-02-05' is before the row above; rows must be in time order"},
        {"2023-02-01,2023-02-02,2023-02-02,2023-02-03,2023-02-04,2023-02-05", "row 3: '2023-02-02' is the date of the row above"},
        {"2023-02-01,2023-02-02,02/03/2023,2023-02-04,2023-02-05,2023-02-06", "row 3: '02/03/2023' is not a date"},
        {"2023-02-01,2023-02-02,2023-02,2023-02-04,2023-02-05,2023-02-06", "row 3: '2023-02' has another form"},
        {"a,b,c,d,e,f", "row 1: 'a' is not a date"},
        {"1,2,3,4,5,6", NULL},
        {"2023-02-01,2023-02-02,2023-02-03,2023-02-04,2023-02-05,2023-02-06", NULL},
    };
    static Run result;
    static const char *const lines[] = {
        "train dated.csv --target passengers --window 2 --epochs 1 --layers lstm:4,dense:1 --device $D",
        "predict model dated.csv --device $D"};
    run_ok("train $A --target passengers $Q --output model", &result);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_dated(rows[i].labels);
        for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
            char quiet[256];
            run_ok(lines[k], &result);
            cr_expect_eq(count_sentences(result.err), rows[i].phrase ? 1 : 0, "%s: %s", lines[k], result.err);
            if (rows[i].phrase)
                cr_expect(strstr(result.err, rows[i].phrase) != NULL, "'%s' is not in: %s", rows[i].phrase, result.err);
            snprintf(quiet, sizeof quiet, "%s --quiet", lines[k]);
            run_ok(quiet, &result);
            cr_expect_eq(count_sentences(result.err), 0, "%s: %s", quiet, result.err);
        }
    }
}

/* Makes every number behind the header of a stored model NaN. */
static void spoil(const char *name)
{
    size_t size;
    char *data = read_file(name, &size);
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--)
        header = header << 8 | (unsigned char)data[i];
    cr_assert_lt(8 + header, size);
    memset(data + 8 + header, 0xFF, size - 8 - (size_t)header);
    write_bytes(name, data, size);
    free(data);
}

Test(cli, predictions_that_are_not_finite_are_told)
{
    static Run result;
    write_text("forecast.csv", "old");
    run_ok("train $A --target passengers $Q --output model", &result);
    spoil("model");
    expect_failure("predict model $A --steps 3 --device $D", 1, "the forecast is not finite: step 1 of 3 is");
    expect_failure("predict model $A --steps 3 --device $D --output forecast.csv", 1, "step 1 of 3");
    expect_text("forecast.csv", "old");
    run("evaluate model $A --device $D", &result);
    cr_expect_eq(result.status, 1);
    cr_expect(strstr(result.err, "vklstm: warning: training part: 114 of 114 predictions are not finite\n") != NULL, "%s",
              result.err);
    cr_expect(strstr(result.err, "vklstm: warning: test part: 29 of 29 predictions are not finite\n") != NULL, "%s", result.err);
}

Test(cli, a_forecast_with_a_horizon_starts_that_far_ahead)
{
    static Run result;
    char labels[2][32];
    double values[2];
    run_ok("train $A --target passengers --window 3 --horizon 6 $Q --output model", &result);
    run_ok("predict model $A --steps 2 --device $D", &result);
    cr_assert_eq(read_forecast(result.out, "month,forecast\n", labels, values, 2), 2u);
    cr_expect_str_eq(labels[0], "1961-06"); /* the table ends with 1960-12 */
    cr_expect_str_eq(labels[1], "1961-07");
}

Test(cli, the_history_has_a_line_for_each_epoch)
{
    static Run result;
    for (int validation = 0; validation < 2; validation++) {
        char line[256], header[64];
        snprintf(line, sizeof line, "train $A --target passengers $Q --epochs 3 --history history.csv%s",
                 validation ? " --validation-split 0.2" : "");
        run_ok(line, &result);
        char *text = read_file("history.csv", NULL);
        const char *at = text;
        cr_assert_eq(sscanf(at, "%63s", header), 1);
        cr_expect_str_eq(header, "epoch,loss,validation_loss,seconds");
        for (int epoch = 1; epoch <= 3; epoch++) {
            int found;
            double loss, validation_loss, seconds;
            at = strchr(at, '\n') + 1;
            if (validation)
                cr_assert_eq(sscanf(at, "%d,%lf,%lf,%lf\n", &found, &loss, &validation_loss, &seconds), 4, "%s", text);
            else
                cr_assert_eq(sscanf(at, "%d,%lf,,%lf\n", &found, &loss, &seconds), 3, "%s", text);
            cr_expect_eq(found, epoch);
            cr_expect(loss > 0 && seconds >= 0);
        }
        cr_expect_str_eq(strchr(at, '\n') + 1, "");
        free(text);
    }
}

Test(cli, refit_trains_on_both_parts_for_the_best_number_of_epochs)
{
    /* a large learning rate: the validation loss soon rises, and early stopping has something to do */
    json_t *trained =
        run_json("train $A --target passengers --window 3 --validation-split 0.2 --patience 2 --refit $Q --epochs 40 "
                 "--learning-rate 0.05 --json --output model");
    json_t *evaluated = run_json("evaluate model $A --device $D --json");
    cr_expect_eq(number(trained, "refit_epochs"), number(trained, "best_epoch"));
    char line[256]; /* the refit is this training */
    snprintf(line, sizeof line, "train $A --target passengers --window 3 $Q --epochs %.0f --learning-rate 0.05 --json",
             number(trained, "refit_epochs"));
    json_t *anew = run_json(line);
    cr_expect_eq(number(trained, "loss"), number(anew, "loss"));
    json_decref(anew);
    expect_scores(trained, "train", 112); /* 89 and 23 */
    expect_scores(trained, "validation", 23);
    expect_scores(trained, "test", 29);
    cr_expect(json_equal(json_object_get(trained, "train"), json_object_get(evaluated, "train")));
    cr_expect(json_equal(json_object_get(trained, "test"), json_object_get(evaluated, "test")));
    cr_expect(json_is_null(json_object_get(evaluated, "validation")));
    json_decref(trained);
    json_decref(evaluated);
}

Test(cli, a_table_for_people_names_parts_and_baselines)
{
    static Run result;
    static const char *const words[] = {"passengers", "training", "validation", "test", "last observed value", "with drift"};
    run_ok("train $A --target passengers --window 3 --validation-split 0.2 --season 12 $Q --output model", &result);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        cr_expect(strstr(result.out, words[i]) != NULL, "'%s' is not in: %s", words[i], result.out);
    cr_expect_eq(count_sentences(result.err), 0, "--quiet, but: %s", result.err);
    run_ok("evaluate model $A --device $D", &result);
    cr_expect(strstr(result.out, "test") != NULL);
}

Test(cli, a_window_of_one_is_noted)
{
    static Run result;
    run_ok("train $A --target passengers --epochs 2 --layers lstm:4,dense:1 --device $D", &result);
    cr_expect(strstr(result.err, "note: a window of 1 has no memory") != NULL, "%s", result.err);
    cr_expect_eq(count_sentences(result.err), 1);
    run_ok("train $A --target passengers --epochs 2 --layers lstm:4,dense:1 --device $D --window 2", &result);
    cr_expect_eq(count_sentences(result.err), 0, "%s", result.err);
    cr_expect(strstr(result.err, "epoch 2/2: loss ") != NULL, "%s", result.err);
    cr_expect_null(strchr(result.err, '\r'), "a bar without a terminal");
}

/* ---- Plots ---- */

Test(cli, plots_are_drawn_as_svg_and_png)
{
    static Run result;
    static const char *const words[] = {"test RMSE",     "persistence", "observed", "training fit",    "validation fit",
                                        "test forecast", "1950",        "1960",     "stroke-dasharray"};
    run_ok("train $A --target passengers --window 3 --validation-split 0.2 $Q --plot figure.svg --output model", &result);
    char *svg = read_file("figure.svg", NULL);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        cr_expect(strstr(svg, words[i]) != NULL, "'%s' is not in the figure", words[i]);
    cr_expect(strstr(svg, "</svg>") != NULL);
    free(svg);
    run_ok("predict model $A --steps 12 --plot figure.png --output forecast.csv --device $D", &result);
    size_t size;
    char *png = read_file("figure.png", &size);
    cr_expect(size > 1000 && memcmp(png, "\x89PNG\r\n\x1a\n", 8) == 0);
    free(png);
    cr_expect_eq(list_folder(NULL), 4u);
}

Test(cli, names_are_no_commands_to_gnuplot)
{
    static Run result;
    write_text("data.csv", "day,\"x'`touch${IFS}oops`_<e>&\"\n1,1\n2,2\n3,1\n4,2\n5,1\n6,3\n7,1\n8,2\n");
    run_ok("train data.csv --target x'`touch${IFS}oops`_<e>& $Q --plot figure.svg", &result);
    char *svg = read_file("figure.svg", NULL);
    cr_expect(strstr(svg, "x'`touch${IFS}oops`_&lt;e") != NULL);
    free(svg);
    cr_expect_not(exists("oops"));
}

Test(cli, without_gnuplot_a_plot_is_refused_before_training)
{
    write_text("figure.svg", "old");
    setenv("PATH", folder, 1);
    expect_failure("train $A --target passengers --device $D --quiet --epochs 4000000000 --plot figure.svg", 1, "gnuplot");
    expect_failure("predict model $A --plot figure.svg", 1, "gnuplot");
    expect_text("figure.svg", "old");
}

Test(cli, a_gnuplot_that_fails_leaves_the_old_plot)
{
    write_text("figure.svg", "old");
    write_text("gnuplot", "#!/bin/sh\necho 'something is wrong' >&2\nexit 3\n");
    cr_assert_eq(chmod("gnuplot", 0700), 0);
    setenv("PATH", folder, 1);
    expect_failure("train $A --target passengers $Q --plot figure.svg --output model", 1, "something is wrong");
    expect_text("figure.svg", "old");
    cr_expect(exists("model"), "a model was trained, and was not kept");
    cr_expect_eq(list_folder(NULL), 3u);
}

/* ---- Ctrl-C and the terminal ---- */

/* Reads until `phrase` has come, or the end, or a minute has passed. */
static void read_until(int file, const char *phrase, char text[TEXT_SIZE])
{
    size_t used = strlen(text);
    time_t end = time(NULL) + 60;
    while (!strstr(text, phrase) && used < TEXT_SIZE - 1 && time(NULL) < end) {
        ssize_t got = read(file, text + used, TEXT_SIZE - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
        text[used] = '\0';
    }
}

static void interrupt_training(const char *options, int number, int expected)
{
    static char err[TEXT_SIZE], out[TEXT_SIZE];
    char line[512];
    int ends[2];
    FILE *output = tmpfile();
    cr_assert_eq(pipe(ends), 0);
    cr_assert_eq(fcntl(ends[0], F_SETFD, FD_CLOEXEC), 0);
    cr_assert_eq(fcntl(ends[1], F_SETFD, FD_CLOEXEC), 0);
    snprintf(line, sizeof line,
             "train $A --target passengers --window 3 --epochs 4000000000 --layers lstm:4,dense:1 --device $D --json "
             "--output model --history history.csv %s",
             options);
    pid_t child = start(line, fileno(output), ends[1]);
    close(ends[1]);
    err[0] = '\0';
    read_until(ends[0], "epoch 1/", err);
    cr_assert_eq(kill(child, number), 0);
    read_until(ends[0], "there is no such text", err); /* to the end */
    int status = finish(child);
    close(ends[0]);
    read_all(output, out);
    cr_expect_eq(status, expected, "status %d: %s", status, err);
    cr_expect_str_eq(out, "");
    cr_expect(strstr(err, "vklstm: interrupted") != NULL, "%s", err);
}

Test(cli, ctrl_c_keeps_the_model_and_exits_with_130)
{
    interrupt_training("", SIGINT, 130);
    json_t *evaluated = run_json("evaluate model $A --device $D --json");
    expect_scores(evaluated, "test", 29);
    json_decref(evaluated);
    char *history = read_file("history.csv", NULL);
    cr_expect(strstr(history, "\n1,") != NULL, "%s", history);
    free(history);
    cr_expect_eq(list_folder(NULL), 2u);
}

Test(cli, ctrl_c_keeps_the_best_model_of_a_validation)
{
    interrupt_training("--validation-split 0.2 --patience 4000000000", SIGINT, 130);
    cr_expect(exists("model"));
}

/* The state of training is kept too, and goes on: here it had lasted longer than is now asked for. */
Test(cli, ctrl_c_keeps_a_checkpoint_that_goes_on)
{
    Run result;
    interrupt_training("--checkpoint kept", SIGINT, 130);
    run_ok("train $A --target passengers --window 3 --epochs 1 --layers lstm:4,dense:1 --device $D --json --resume kept",
           &result);
    cr_expect(strstr(result.err, "this training has ended") != NULL, "%s", result.err);
    json_t *evaluated = run_json("evaluate kept $A --device $D --json"); /* a model file */
    expect_scores(evaluated, "test", 29);
    json_decref(evaluated);
}

/* Four epochs in a row; and two, then two more from the checkpoint: the same model. */
Test(cli, resumed_training_gives_the_same_model)
{
#define TRAIN "train $A --target passengers --window 3 --layers lstm:4,dense:1 --validation-split 0.2 --device $D --json "
    Run result;
    run_ok(TRAIN "--batch-size 7 --epochs 4 --output straight", &result);
    run_ok(TRAIN "--batch-size 7 --epochs 2 --checkpoint kept --checkpoint-every 1", &result);
    run_ok(TRAIN "--batch-size 7 --epochs 4 --checkpoint kept --resume kept --output resumed", &result);
    cr_expect(strstr(result.err, "going on from kept: epoch 3 of 4, step 0 of") != NULL, "%s", result.err);
    size_t size, resumed_size;
    char *straight = read_file("straight", &size), *resumed = read_file("resumed", &resumed_size);
    cr_expect(size == resumed_size && !memcmp(straight, resumed, size), "other models");
    free(straight);
    free(resumed);
    cr_expect_eq(list_folder(NULL), 3u);
    expect_failure(TRAIN "--batch-size 8 --resume kept", 1, "kept: batch_size: the checkpoint has 7, this training 8");
    expect_failure(TRAIN "--batch-size 7 --resume straight", 1, "straight: it is a model, but no checkpoint");
    expect_failure(TRAIN "--batch-size 7 --resume nothing", 1, "nothing: cannot be");
#undef TRAIN
}

Test(cli, sigterm_keeps_the_model_and_exits_with_143)
{
    interrupt_training("", SIGTERM, 143);
    cr_expect(exists("model"));
}

Test(cli, a_terminal_gets_a_bar)
{
    static char text[TEXT_SIZE];
    FILE *out = tmpfile();
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert_geq(terminal, 0);
    cr_assert_eq(grantpt(terminal), 0);
    cr_assert_eq(unlockpt(terminal), 0);
    int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    cr_assert_geq(end, 0);
    setenv("TERM", "xterm", 1);
    pid_t child =
        start("train $A --target passengers --window 3 --epochs 20 --layers lstm:4,dense:1 --device $D", fileno(out), end);
    close(end);
    text[0] = '\0';
    read_until(terminal, "there is no such text", text); /* to the end */
    const char *last = strstr(text, "\repoch 20/20 [#####");
    cr_assert_not_null(last, "%s", text);
    cr_expect(strstr(last, "] loss ") && strstr(last, " steps/s, ") && strstr(last, " left"), "%s", text);
    cr_expect_eq(finish(child), 0);
    close(terminal);
    fclose(out);
}

/* ---- info and bench ---- */

Test(cli, info_lists_the_cpu_first)
{
    static Run result;
    json_t *object = run_json("info --json");
    const json_t *first = json_array_get(json_object_get(object, "devices"), 0);
    static const char *const keys[] = {"selector", "name", "type", "driver", "api_version", "memory_bytes", "limits", "features"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        cr_expect_not_null(json_object_get(first, keys[i]), "%s is missing", keys[i]);
    cr_expect_str_eq(json_string_value(json_object_get(first, "selector")), "cpu");
    cr_expect_str_eq(json_string_value(json_object_get(object, "version")), VKL_VERSION);
#ifdef VKL_WITH_VULKAN
    cr_expect(json_is_true(json_object_get(object, "vulkan")));
    const json_t *second = json_array_get(json_object_get(object, "devices"), 1);
    if (second)
        cr_expect_geq(number(json_object_get(second, "limits"), "storage_range"), 134217728.0);
#else
    cr_expect(json_is_false(json_object_get(object, "vulkan")));
    cr_expect_eq(json_array_size(json_object_get(object, "devices")), 1u);
#endif
    json_decref(object);
    run_ok("info", &result);
    cr_expect(strstr(result.out, "cpu: ") != NULL);
}

Test(cli, bench_measures_each_pass)
{
    static const char *const lines[] = {
        "bench --seq 3 --batch 2 --input 3 --hidden 5 --layers 2 --repeat 3 --device $D --json",
        "bench --seq 3 --batch 2 --input 3 --hidden 5 --layers 2 --repeat 3 --device $D --json --pass train",
        "bench --seq 3 --batch 2 --input 3 --hidden 5 --repeat 2 --device $D --json --pass train --output-size 2",
        "bench --seq 1 --batch 1 --input 1 --hidden 5 --repeat 1 --device $D --json --output-size 1",
        "bench --seq 2 --batch 1 --input 1 --hidden 5 --repeat 1 --device $D --json --latency",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        json_t *object = run_json(lines[i]);
        const json_t *shape = json_object_get(object, "shape");
        cr_expect(json_is_string(json_object_get(object, "device")));
        cr_expect_str_eq(json_string_value(json_object_get(object, "pass")), strstr(lines[i], "train") ? "train" : "forward");
        cr_expect_eq(number(shape, "hidden"), 5);
        cr_expect(number(object, "min_ms") > 0 && number(object, "median_ms") >= number(object, "min_ms"));
        cr_expect_gt(number(object, "gflops"), 0);
        cr_expect_geq(number(object, "dispatches"), 1);
        cr_expect_geq(number(object, "submits"), 0);
        cr_expect_gt(number(object, "buffer_bytes"), 4 * 5 * 5);
        cr_expect_eq(number(object, "reserve_bytes") > 0, strstr(lines[i], "train") != NULL);
        json_decref(object);
    }
}

Test(cli, bench_steps_agents)
{
    json_t *object =
        run_json("bench --agents --most 40 --cell gru --input 3 --hidden 5 --layers 2 --repeat 1 --device $D --json");
    const json_t *steps = json_object_get(object, "steps");
    static const double sizes[] = {1, 3, 10, 30, 40};
    cr_assert_eq(json_array_size(steps), sizeof sizes / sizeof sizes[0]);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const json_t *row = json_array_get(steps, i);
        cr_expect_eq(number(row, "agents"), sizes[i]);
        cr_expect_gt(number(row, "median_us"), 0);
    }
    cr_expect_geq(number(object, "dispatches"), 2);
    json_decref(object);
}

Test(cli, bench_multiplies_matrices)
{
    json_t *object = run_json("bench --gemm 7,5,9 --repeat 1 --device $D --json");
    const json_t *shape = json_object_get(object, "shape");
    cr_expect_eq(number(shape, "m"), 7);
    cr_expect_eq(number(shape, "n"), 5);
    cr_expect_eq(number(shape, "k"), 9);
    cr_expect_gt(number(object, "gflops"), 0);
    json_decref(object);
    static Run result;
    char *end;
    run_ok("bench --gemm 7,5,9 --repeat 1 --device $D --brief", &result);
    cr_expect(strtod(result.out, &end) > 0 && *end == ' ' && strchr(end, '\n') == strrchr(end, '\n'), "%s", result.out);
}

/* The kernels together do what the products of the pass need, and their calls are its dispatches. */
Test(cli, bench_tells_kernels_apart)
{
    static Run result;
    static const char *const line = "bench --cell gru --seq 3 --batch 2 --input 3 --hidden 5 --repeat 1 --device $D --roofline "
                                    "--peak 100 --bandwidth 10";
    char json_line[256];
    snprintf(json_line, sizeof json_line, "%s --json", line);
    json_t *object = run_json(json_line);
    const json_t *roofline = json_object_get(object, "roofline"), *kernels = json_object_get(object, "kernels"), *kernel;
    double calls = 0, flops = 0;
    size_t i;
    cr_expect_eq(number(roofline, "peak_gflops"), 100);
    cr_expect_eq(number(roofline, "bandwidth_gbs"), 10);
    cr_expect_str_eq(json_string_value(json_object_get(roofline, "peak")), "given");
    json_array_foreach(kernels, i, kernel)
    {
        calls += number(kernel, "calls");
        flops += number(kernel, "calls") * number(kernel, "flops");
        cr_expect(json_is_string(json_object_get(kernel, "name")) && json_is_string(json_object_get(kernel, "bound")));
        cr_expect_gt(number(kernel, "bytes"), 0);
    }
    cr_expect_eq(calls, number(object, "dispatches"));
    cr_expect_geq(flops, 2.0 * 3 * 5 * (3 + 5) * 3 * 2, "%g", flops);
    json_decref(object);

    run_ok(line, &result);
    cr_expect(strstr(result.out, "peak 100 GFLOP/s (given), bandwidth 10 GB/s (given)") != NULL, "%s", result.out);
}

Test(cli, bench_runs_a_suite_and_writes_its_files)
{
    static Run result;
    json_error_t error;
    run_ok("bench --suite --only H50 --quick --repeat 1 --device $D --peak 100 --bandwidth 10 --output s.json --markdown s.md",
           &result);
    cr_expect(strstr(result.out, "series lstm T1 B1 I1 H50 ") != NULL, "%s", result.out);
    json_t *object = json_load_file("s.json", 0, &error);
    cr_assert_not_null(object, "%s", error.text);
    const json_t *shapes = json_object_get(object, "shapes"), *shape = json_array_get(shapes, 0);
    cr_assert_eq(json_array_size(shapes), 1u);
    cr_expect_str_eq(json_string_value(json_object_get(object, "vklstm")), VKL_VERSION);
    cr_expect(json_is_string(json_object_get(json_object_get(object, "device"), "driver")));
    static const char *const passes[] = {"forward", "train"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *pass = json_object_get(shape, passes[i]);
        cr_expect(number(pass, "median_ms") > 0 && number(pass, "gflops") > 0 && number(pass, "dispatches") >= 1);
    }
    json_decref(object);
    char *table = read_file("s.md", NULL);
    cr_expect(strstr(table, "| series lstm T1 B1 I1 H50 |") != NULL, "%s", table);
    free(table);
    cr_expect_eq(list_folder(NULL), 2u);
}

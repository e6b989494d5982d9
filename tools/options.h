/* SPDX-License-Identifier: MIT
 *
 * Options of a subcommand: one table of rows, from which the command line is read (popt cuts it into options and values) and
 * the text of --help is printed.
 */
#ifndef VKLSTM_TOOLS_OPTIONS_H
#define VKLSTM_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vklstm/vklstm.h"

typedef enum OptionKind {
    OPTION_GROUP, /* a heading in the help */
    OPTION_FLAG,  /* bool */
    OPTION_TEXT,  /* const char * */
    OPTION_COUNT, /* uint64_t, from `low` to `high` */
    OPTION_REAL,  /* double, at least `least` and below `below` */
    OPTION_NAME   /* what `parse` makes of the text */
} OptionKind;

typedef struct Option {
    OptionKind kind;
    const char *name;     /* without the dashes; the text of a group */
    size_t offset;        /* of the value in the arguments' struct */
    const char *argument; /* its name in the help */
    const char *help;     /* may have several lines */
    uint64_t low, high;   /* OPTION_COUNT */
    double least, below;  /* OPTION_REAL; INFINITY: no end */
    bool (*parse)(const char *text, void *value);
    const char *choices; /* what `parse` takes, for the sentence that refuses a value */
} Option;

/* Rows of a table. `place` is the struct and the member: (TrainArgs, epochs). */
#define GROUP(text)                        \
    {                                      \
        .kind = OPTION_GROUP, .name = text \
    }
#define FLAG(text, place, about)                                                   \
    {                                                                              \
        .kind = OPTION_FLAG, .name = text, .offset = offsetof place, .help = about \
    }
#define TEXT(text, place, value, about)                                                               \
    {                                                                                                 \
        .kind = OPTION_TEXT, .name = text, .offset = offsetof place, .argument = value, .help = about \
    }
#define COUNT(text, place, from, to, about)                                                                                   \
    {                                                                                                                         \
        .kind = OPTION_COUNT, .name = text, .offset = offsetof place, .argument = "N", .help = about, .low = from, .high = to \
    }
#define REAL(text, place, from, end, about)                                                                                      \
    {                                                                                                                            \
        .kind = OPTION_REAL, .name = text, .offset = offsetof place, .argument = "X", .help = about, .least = from, .below = end \
    }
#define NAME(text, place, function, value, list, about)                                                                   \
    {                                                                                                                     \
        .kind = OPTION_NAME, .name = text, .offset = offsetof place, .argument = value, .help = about, .parse = function, \
        .choices = list                                                                                                   \
    }
#define DEVICE(place)                                                                                                 \
    {                                                                                                                 \
        .kind = OPTION_TEXT, .name = "device", .offset = offsetof place, .argument = "DEVICE", .parse = parse_device, \
        .help = "auto, cpu, vulkan, vulkan:INDEX or vulkan:NAME\n[auto: a hardware GPU, else the CPU]",               \
        .choices = "auto, cpu, vulkan, vulkan:INDEX and vulkan:NAME"                                                  \
    }

/* The largest size that an option takes: indices on the device have 32 bits. */
#define COUNT_MAX UINT64_C(4294967295)

typedef struct Command {
    const char *name;
    const char *brief;    /* one line of the list of commands */
    const char *operands; /* as the usage line shows them, required options included */
    uint32_t operand_count;
    bool more_operands; /* the last may be repeated */
    const char *summary;
    const Option *options;
    size_t option_count;
    const char *examples; /* shown under the options; may be NULL */
    int (*run)(const struct Command *command, int argc, char **argv);
} Command;

/* What was read: the operands, and the texts that values point to. */
typedef struct Options {
    char **operands;
    uint32_t operand_count;
    char **texts;
    size_t text_count;
} Options;

/* Reads the command line into `values`, the struct that the table's offsets refer to; options that are not there leave their
 * value alone. Returns -1 to go on, else the exit status (help was asked for, or a sentence was printed). */
int options_parse(const Command *command, int argc, char **argv, void *values, Options *options);
void options_free(Options *options);

/* Parsers for OPTION_NAME. */
bool parse_optimizer(const char *text, void *value); /* VklOptimizerKind */
bool parse_loss(const char *text, void *value);      /* VklLoss */
bool parse_scale(const char *text, void *value);     /* VklScale */
typedef struct FillOption {
    VklFill method;
    uint64_t window;
} FillOption;
bool parse_fill(const char *text, void *value);   /* FillOption */
bool parse_device(const char *text, void *value); /* checks the form alone */

#endif

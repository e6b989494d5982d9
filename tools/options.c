/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

/* What poptGetNextOpt() returns: HELP, or ROW and the row's index. popt's own numbers are negative. */
enum { HELP = 1, ROW = 2 };
#define HELP_COLUMN 28

static void print_help(const Command *command)
{
    printf("Usage: vklstm %s%s%s [OPTION]...\n\n%s\n", command->name, command->operands[0] ? " " : "", command->operands,
           command->summary);
    for (size_t i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_GROUP) {
            printf("\n%s:\n", option->name);
            continue;
        }
        int width = printf("  --%s%s%s", option->name, option->argument ? " " : "", option->argument ? option->argument : "");
        const char *line = option->help;
        while (line) {
            const char *end = strchr(line, '\n');
            int length = end ? (int)(end - line) : (int)strlen(line);
            if (width >= HELP_COLUMN) {
                putchar('\n');
                width = 0;
            }
            printf("%*s%.*s\n", HELP_COLUMN - width, "", length, line);
            width = 0;
            line = end ? end + 1 : NULL;
        }
    }
    printf("  --help%*s%s\n", HELP_COLUMN - 8, "", "print this text");
    if (command->examples)
        printf("\n%s", command->examples);
}

static int parse_count(const Option *option, const char *text, uint64_t *value)
{
    size_t digits = strspn(text, "0123456789");
    bool negative = text[0] == '-' && text[1] && strspn(text + 1, "0123456789") == strlen(text + 1);
    if (!negative && (!digits || text[digits]))
        return fail_usage("--%s: '%s' is not a whole number", option->name, text);
    errno = 0;
    uint64_t number = strtoull(text, NULL, 10);
    if (negative || errno || number < option->low || number > option->high)
        return fail_usage("--%s: %s is out of range (%llu to %llu)", option->name, text, (unsigned long long)option->low,
                          (unsigned long long)option->high);
    *value = number;
    return -1;
}

static int parse_real(const Option *option, const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    /* strtod also reads words and hexadecimal, which are more likely slips than meant */
    if (end == text || *end || text[strspn(text, "0123456789+-.eE")])
        return fail_usage("--%s: '%s' is not a number", option->name, text);
    if (!isfinite(number) || number < option->least || number >= option->below) {
        if (isfinite(option->below))
            return fail_usage("--%s: %s is out of range (at least %g and below %g)", option->name, text, option->least,
                              option->below);
        return fail_usage("--%s: %s is out of range (at least %g)", option->name, text, option->least);
    }
    *value = number;
    return -1;
}

/* Stores the value of one option. `text` is NULL for a flag; else it lives as long as the options. */
static int store(const Option *option, char *text, void *values)
{
    void *value = (char *)values + option->offset;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)value = true;
        return -1;
    case OPTION_COUNT:
        return parse_count(option, text, value);
    case OPTION_REAL:
        return parse_real(option, text, value);
    case OPTION_TEXT:
        if (!text[0])
            return fail_usage("--%s: the value is empty", option->name);
        *(const char **)value = text;
        if (!option->parse || option->parse(text, value))
            return -1;
        break;
    default:
        if (option->parse(text, value))
            return -1;
        break;
    }
    return fail_usage("--%s: '%s' is none of %s", option->name, text, option->choices);
}

static int keep_text(Options *options, char *text)
{
    char **texts = text ? realloc(options->texts, (options->text_count + 1) * sizeof *texts) : NULL;
    if (!texts) {
        free(text);
        return fail("out of memory");
    }
    options->texts = texts;
    texts[options->text_count++] = text;
    return -1;
}

static int parse_options(const Command *command, poptContext popt, void *values, Options *options)
{
    int code;
    while ((code = poptGetNextOpt(popt)) > 0) {
        if (code == HELP) {
            print_help(command);
            return finish_output();
        }
        const Option *option = &command->options[code - ROW];
        char *text = NULL;
        int status = -1;
        if (option->kind != OPTION_FLAG) {
            text = poptGetOptArg(popt);
            status = keep_text(options, text);
        }
        if (status < 0)
            status = store(option, text, values);
        if (status >= 0)
            return status;
    }
    const char *bad = poptBadOption(popt, POPT_BADOPTION_NOALIAS);
    if (code == POPT_ERROR_BADOPT)
        return fail_usage("%s: unknown option (see 'vklstm %s --help')", bad, command->name);
    if (code == POPT_ERROR_NOARG)
        return fail_usage("%s: its value is missing (see 'vklstm %s --help')", bad, command->name);
    if (code == POPT_ERROR_UNWANTEDARG)
        return fail_usage("%s: it takes no value", bad);
    if (code < -1)
        return fail_usage("%s: %s", bad, poptStrerror(code));
    return -1;
}

static int parse_operands(const Command *command, poptContext popt, Options *options)
{
    const char **arguments = poptGetArgs(popt);
    size_t count = 0;
    while (arguments && arguments[count])
        count++;
    if (count > command->operand_count && !command->more_operands)
        return fail_usage("%s: unexpected argument (usage: vklstm %s%s%s)", arguments[command->operand_count], command->name,
                          command->operands[0] ? " " : "", command->operands);
    options->operands = calloc(count + 1, sizeof *options->operands);
    if (!options->operands)
        return fail("out of memory");
    for (size_t i = 0; i < count; i++) {
        char *text = strdup(arguments[i]);
        int status = keep_text(options, text);
        if (status >= 0)
            return status;
        options->operands[options->operand_count++] = text;
    }
    if (count < command->operand_count)
        return fail_usage("%s: an argument is missing (usage: vklstm %s %s)", command->name, command->name, command->operands);
    return -1;
}

int options_parse(const Command *command, int argc, char **argv, void *values, Options *options)
{
    struct poptOption *table = calloc(command->option_count + 2, sizeof *table);
    if (!table)
        return fail("out of memory");
    size_t rows = 0;
    for (size_t i = 0; i < command->option_count; i++) {
        const Option *option = &command->options[i];
        if (option->kind == OPTION_GROUP)
            continue;
        table[rows].longName = option->name;
        table[rows].argInfo = option->kind == OPTION_FLAG ? POPT_ARG_NONE : POPT_ARG_STRING;
        table[rows++].val = ROW + (int)i;
    }
    table[rows].longName = "help";
    table[rows].shortName = 'h';
    table[rows].argInfo = POPT_ARG_NONE;
    table[rows].val = HELP;

    memset(options, 0, sizeof *options);
    int status;
    poptContext popt = poptGetContext(NULL, argc, (const char **)argv, table, 0);
    if (!popt) {
        status = fail("out of memory");
    } else {
        status = parse_options(command, popt, values, options);
        if (status < 0)
            status = parse_operands(command, popt, options);
        poptFreeContext(popt);
    }
    free(table);
    if (status >= 0)
        options_free(options);
    return status;
}

void options_free(Options *options)
{
    for (size_t i = 0; i < options->text_count; i++)
        free(options->texts[i]);
    free(options->texts);
    free(options->operands);
    memset(options, 0, sizeof *options);
}

bool parse_optimizer(const char *text, void *value)
{
    return vkl_optimizer_kind(text, value);
}

bool parse_loss(const char *text, void *value)
{
    return vkl_loss(text, value);
}

bool parse_scale(const char *text, void *value)
{
    return vkl_scale(text, value);
}

bool parse_fill(const char *text, void *value)
{
    FillOption *option = value;
    return vkl_fill(text, &option->method, &option->window);
}

bool parse_device(const char *text, void *value)
{
    (void)value;
    if (strncmp(text, "vulkan:", 7) == 0)
        return text[7] != '\0';
    return strcmp(text, "auto") == 0 || strcmp(text, "cpu") == 0 || strcmp(text, "vulkan") == 0;
}

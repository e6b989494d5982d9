/* SPDX-License-Identifier: MIT
 *
 * vklstm SUBCOMMAND ...: finds the subcommand and runs it.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "message.h"

static const Command *const commands[] = {&info_command,  &train_command,  &evaluate_command, &predict_command,
                                          &bench_command, &verify_command, &selftest_command};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void)
{
    printf("Usage: vklstm COMMAND [ARGUMENT]... [OPTION]...\n\n"
           "Trains LSTM networks on time series and forecasts with them, on a GPU by Vulkan or on\nthe CPU.\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s%s\n", commands[i]->name, commands[i]->brief);
    printf("\n'vklstm COMMAND --help' describes a command. 'vklstm --version' prints the version.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return fail_usage(
            "a command is missing (info, train, evaluate, predict, bench, verify or selftest; see 'vklstm --help')");
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help();
        return finish_output();
    }
    if (strcmp(name, "--version") == 0) {
        printf("vklstm %s\n", vkl_version());
        return finish_output();
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 1, argv + 1);
    return fail_usage("%s: no such command (info, train, evaluate, predict, bench, verify or selftest; see 'vklstm --help')",
                      name);
}

/* SPDX-License-Identifier: MIT
 *
 * The subcommands, one a file.
 */
#ifndef VKLSTM_TOOLS_COMMANDS_H
#define VKLSTM_TOOLS_COMMANDS_H

#include "options.h"

extern const Command info_command, train_command, evaluate_command, predict_command, bench_command, verify_command,
    selftest_command;

#endif

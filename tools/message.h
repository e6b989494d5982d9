/* SPDX-License-Identifier: MIT
 *
 * What the command says on standard error: one sentence each, beginning with "vklstm: ".
 */
#ifndef VKLSTM_TOOLS_MESSAGE_H
#define VKLSTM_TOOLS_MESSAGE_H

#include "vklstm/vklstm.h"

#if defined(__GNUC__)
#define MESSAGE_FORMAT(format, first) __attribute__((__format__(__printf__, format, first)))
#else
#define MESSAGE_FORMAT(format, first)
#endif

/* Exit statuses. A job that a signal ended exits with 128 + its number, as shells report it. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Each prints its sentence and returns the exit status, so that a check is one line. */
int fail(const char *format, ...) MESSAGE_FORMAT(1, 2);
int fail_usage(const char *format, ...) MESSAGE_FORMAT(1, 2);
/* The library's own sentence for its latest failure. */
int fail_library(const VklContext *context, VklStatus status);

void warn(const char *format, ...) MESSAGE_FORMAT(1, 2);
void note(const char *format, ...) MESSAGE_FORMAT(1, 2);

/* Takes the library's messages; its errors are left to fail_library(), so that they appear once. */
void message_log(void *user, VklLogLevel level, const char *text);

/* Says whether all that was printed to standard output arrived. Prints and returns an exit status. */
int finish_output(void);

#endif

/* SPDX-License-Identifier: MIT */
#include "message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void print(const char *kind, const char *format, va_list arguments)
{
    fprintf(stderr, "vklstm: %s", kind);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

int fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("", format, arguments);
    va_end(arguments);
    return EXIT_FAILED;
}

int fail_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("", format, arguments);
    va_end(arguments);
    return EXIT_USAGE;
}

int fail_library(const VklContext *context, VklStatus status)
{
    const char *text = context ? vkl_context_error(context) : "";
    return fail("%s", text[0] ? text : vkl_status_string(status));
}

void warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("warning: ", format, arguments);
    va_end(arguments);
}

void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print("note: ", format, arguments);
    va_end(arguments);
}

void message_log(void *user, VklLogLevel level, const char *text)
{
    (void)user;
    if (level == VKL_LOG_WARNING)
        fprintf(stderr, "vklstm: warning: %s\n", text);
    else if (level == VKL_LOG_VALIDATION)
        fprintf(stderr, "vklstm: validation: %s\n", text);
}

int finish_output(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail("standard output cannot be written: %s", strerror(errno ? errno : EIO));
    return EXIT_OK;
}

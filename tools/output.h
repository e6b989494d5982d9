/* SPDX-License-Identifier: MIT
 *
 * Files that the command writes. Each is written under a temporary name beside its place and renamed when it is whole, so that
 * a failure leaves an older file as it was. Devices and pipes (/dev/stdout) are written directly.
 */
#ifndef VKLSTM_TOOLS_OUTPUT_H
#define VKLSTM_TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A file named on the command line. */
typedef struct OutputName {
    const char *option;   /* "--plot", or "DATA.csv" for what is read */
    const char *path;     /* NULL: not asked for */
    bool input;           /* read, not written */
    bool must_be_regular; /* a model, which the library puts in place by a rename */
} OutputName;

/* Checks, before work begins, that what is to be written can be, and that no two names mean one file.
 * Prints and returns an exit status, or EXIT_OK. */
int output_check(const OutputName *names, size_t count);

typedef struct Output {
    char *path;      /* where the file belongs, links followed */
    char *temporary; /* NULL: written directly */
    FILE *file;
} Output;

/* Each prints and returns an exit status, or EXIT_OK. A failed commit has discarded the output. */
int output_open(Output *output, const char *path);
int output_commit(Output *output);
/* Removes the temporary file. Does nothing for an output that is not open. */
void output_discard(Output *output);

/* The path with symbolic links followed, as far as it exists; to be freed. NULL: errno says why (a folder that is not there). */
char *output_resolve(const char *path);

#endif

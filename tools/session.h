/* SPDX-License-Identifier: MIT
 *
 * The library's context and device, as every subcommand opens them.
 */
#ifndef VKLSTM_TOOLS_SESSION_H
#define VKLSTM_TOOLS_SESSION_H

#include "vklstm/vklstm.h"

typedef struct Session {
    VklContext *context;
    VklDevice *device;
} Session;

/* A context that uses all cores and reports warnings. Prints and returns EXIT_FAILED, or EXIT_OK. */
int session_open(Session *session);
int session_open_device(Session *session, const char *selector);
void session_close(Session *session);

#endif

/* SPDX-License-Identifier: MIT
 *
 * A stored model, its preparation, and the table it is to be used on.
 */
#ifndef VKLSTM_TOOLS_STORED_H
#define VKLSTM_TOOLS_STORED_H

#include "session.h"

typedef struct Stored {
    Session session;
    VklTable *table;
    VklModel *model;
    VklPrep *prep;
} Stored;

/* Prints and returns an exit status. stored_close() is for both outcomes. */
int stored_open(Stored *stored, const char *device, const char *model, const char *data);
void stored_close(Stored *stored);

#endif

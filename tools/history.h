/* SPDX-License-Identifier: MIT
 *
 * The epochs of a training, and the CSV file of them.
 */
#ifndef VKLSTM_TOOLS_HISTORY_H
#define VKLSTM_TOOLS_HISTORY_H

#include <stddef.h>

#include "vklstm/vklstm.h"

typedef struct History {
    VklEpoch *epochs;
    size_t count, room;
    bool lost; /* memory was refused: history_write() says so */
} History;

void history_add(History *history, const VklEpoch *epoch);
/* Prints and returns an exit status. */
int history_write(const History *history, const char *path);
void history_clear(History *history);

#endif

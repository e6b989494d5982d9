/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "output.h"

void history_add(History *history, const VklEpoch *epoch)
{
    if (history->count == history->room) {
        size_t room = history->room ? history->room * 2 : 128;
        VklEpoch *epochs = realloc(history->epochs, room * sizeof *epochs);
        if (!epochs) {
            history->lost = true;
            return;
        }
        history->epochs = epochs;
        history->room = room;
    }
    history->epochs[history->count++] = *epoch;
}

int history_write(const History *history, const char *path)
{
    Output output;
    if (history->lost)
        return fail("--history: %s was not written: out of memory", path);
    int status = output_open(&output, path);
    if (status != EXIT_OK)
        return status;
    fputs("epoch,loss,validation_loss,seconds\n", output.file);
    for (size_t i = 0; i < history->count; i++) {
        const VklEpoch *epoch = &history->epochs[i];
        fprintf(output.file, "%llu,%.9g,", (unsigned long long)epoch->epoch, epoch->loss);
        if (!isnan(epoch->validation_loss)) /* without validation the cell is empty */
            fprintf(output.file, "%.9g", epoch->validation_loss);
        fprintf(output.file, ",%.3f\n", epoch->seconds);
    }
    return output_commit(&output);
}

void history_clear(History *history)
{
    free(history->epochs);
    memset(history, 0, sizeof *history);
}

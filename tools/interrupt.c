/* SPDX-License-Identifier: MIT */
#include "interrupt.h"

#include <signal.h>
#include <string.h>

/* A handler has no argument for its data: the one variable of the command that is not on a stack. */
static volatile sig_atomic_t caught;

static void take_note(int number)
{
    caught = number;
}

void interrupt_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction action, old;
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = take_note;
        action.sa_flags = SA_RESTART | SA_RESETHAND;
        sigemptyset(&action.sa_mask);
        sigaction(numbers[i], &action, NULL);
    }
}

int interrupt_signal(void)
{
    return caught;
}

/* SPDX-License-Identifier: MIT
 *
 * Ctrl-C: the first one asks the running job to end, a second one ends the process at once.
 */
#ifndef VKLSTM_TOOLS_INTERRUPT_H
#define VKLSTM_TOOLS_INTERRUPT_H

/* From here on SIGINT and SIGTERM are taken note of, unless the parent had them ignored. */
void interrupt_catch(void);

/* The signal that came, or 0. */
int interrupt_signal(void);

#endif

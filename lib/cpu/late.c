/* SPDX-License-Identifier: MIT
 *
 * Temporary: kernels that are being written, so that the library links. Goes away with the last of them. */
#include <stdlib.h>

#include "kernels.h"

#define LATE(name)                                                                                               \
    __attribute__((weak)) void vkl_cpu_##name(const VklOp *op, void *const ptr[4], uint64_t begin, uint64_t end) \
    {                                                                                                            \
        (void)op, (void)ptr, (void)begin, (void)end;                                                             \
        abort();                                                                                                 \
    }

LATE(lstm_point_forward)
LATE(lstm_point_backward)
LATE(gru_point_forward)
LATE(gru_point_backward)
LATE(rnn_point_forward)
LATE(rnn_point_backward)

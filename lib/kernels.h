/* SPDX-License-Identifier: MIT
 *
 * The kernel list: what plans are made of, and what both backends have. A kernel is a name, an argument struct and up to VKL_BINDINGS
 * buffers; its contract stands in shaders/interface.h. Adding one: a row here, a shader, a C twin in lib/cpu, a row in the kernel tests.
 */
#ifndef VKL_KERNELS_H
#define VKL_KERNELS_H

#include <stdint.h>

#include "../shaders/interface.h"

/* X(enum suffix, shader name, argument struct, bindings, which of them the shader may write, as bits) */
#define VKL_KERNEL_LIST(X)                                                                 \
    X(GEMM, gemm, VklGemmArgs, 4, 0x4)                                                     \
    X(GEMM_DIRECT, gemm_direct, VklGemmArgs, 4, 0x4)                                       \
    X(GEMM_LANES, gemm_lanes, VklGemmArgs, 4, 0x4)                                         \
    X(GEMM_QUAD, gemm_quad, VklGemmArgs, 4, 0x4)                                           \
    X(GEMM_QUAD_WIDE, gemm_quad_wide, VklGemmArgs, 4, 0x4)                                 \
    X(GEMM_QUAD_TN, gemm_quad_tn, VklGemmArgs, 4, 0x4)                                     \
    X(GEMM_QUAD_ROW_NN, gemm_quad_row_nn, VklGemmArgs, 4, 0x4)                             \
    X(GEMM_QUAD_ROW_NT, gemm_quad_row_nt, VklGemmArgs, 4, 0x4)                             \
    X(GEMM_SPLIT, gemm_split, VklGemmArgs, 4, 0x4)                                         \
    X(GEMM_COOP, gemm_coop, VklGemmArgs, 4, 0x4)                                           \
    X(GEMM_REDUCE, gemm_reduce, VklGemmReduceArgs, 3, 0x2)                                 \
    X(LSTM_FORWARD, lstm_forward, VklCellForwardArgs, 4, 0xd)                              \
    X(LSTM_QUAD_FORWARD, lstm_quad_forward, VklCellForwardArgs, 4, 0xd)                    \
    X(LSTM_QUAD_ROW_FORWARD, lstm_quad_row_forward, VklCellForwardArgs, 4, 0xd)            \
    X(LSTM_ONCE, lstm_once, VklOnceArgs, 6, 0x30)                                          \
    X(LSTM_BACKWARD, lstm_backward, VklCellBackwardArgs, 4, 0x9)                           \
    X(SEQUENCE_FORWARD, sequence_forward, VklSequenceForwardArgs, 4, 0xd)                  \
    X(SEQUENCE_BACKWARD, sequence_backward, VklSequenceBackwardArgs, 5, 0x19)              \
    X(SEQUENCE_DIRECT_FORWARD, sequence_direct_forward, VklSequenceForwardArgs, 4, 0xd)    \
    X(SEQUENCE_DIRECT_BACKWARD, sequence_direct_backward, VklSequenceBackwardArgs, 5, 0x9) \
    X(COPY, copy, VklCopyArgs, 4, 0xf)                                                     \
    X(COPY_STORE, copy_store, VklCopyArgs, 2, 0x2)                                         \
    X(GATHER, gather, VklGatherArgs, 4, 0xc)                                               \
    X(LOSS, loss, VklLossArgsGpu, 4, 0xc)                                                  \
    X(ADVANCE, advance, VklAdvanceArgs, 1, 0x1)                                            \
    X(NORM, norm, VklNormArgs, 2, 0x2)                                                     \
    X(OPTIMIZER, optimizer, VklOptimizerArgs, 4, 0x5)                                      \
    X(ACTIVATION_BACKWARD, activation_backward, VklActivationArgs, 3, 0x4)                 \
    X(LSTM_POINT_FORWARD, lstm_point_forward, VklPointForwardArgs, 4, 0x7)                 \
    X(LSTM_POINT_BACKWARD, lstm_point_backward, VklPointBackwardArgs, 4, 0xb)              \
    X(GRU_POINT_FORWARD, gru_point_forward, VklPointForwardArgs, 4, 0x7)                   \
    X(GRU_POINT_BACKWARD, gru_point_backward, VklPointBackwardArgs, 4, 0x9)                \
    X(RNN_POINT_FORWARD, rnn_point_forward, VklPointForwardArgs, 4, 0x5)                   \
    X(RNN_POINT_BACKWARD, rnn_point_backward, VklPointBackwardArgs, 4, 0x9)                \
    X(STEP_FORWARD, step_forward, VklStepForwardArgs, 5, 0xd)                              \
    X(STEP_BACKWARD, step_backward, VklStepBackwardArgs, 5, 0x15)                          \
    X(WAVE_FORWARD, wave_forward, VklWaveForwardArgs, 4, 0xd)                              \
    X(WAVE_BACKWARD, wave_backward, VklWaveBackwardArgs, 5, 0x15)                          \
    X(JOIN, join, VklJoinArgs, 3, 0x3)                                                     \
    X(MOVE, move, VklMoveArgs, 3, 0x1)                                                     \
    X(DROPOUT, dropout, VklDropoutArgs, 3, 0x1)                                            \
    X(NARROW, narrow, VklNarrowArgs, 2, 0x1)                                               \
    X(SPREAD, spread, VklSpreadArgs, 3, 0x3)                                               \
    X(COLUMN_DOT, column_dot, VklColumnDotArgs, 3, 0x1)                                    \
    X(TALLY, tally, VklTallyArgs, 2, 0x2)                                                  \
    X(AGENTS_FORWARD, agents_forward, VklAgentsForwardArgs, 6, 0xc)                        \
    X(ROWS, rows, VklRowsArgs, 4, 0x7)                                                     \
    X(PROBE, probe, VklProbeArgs, 2, 0x1)

typedef enum VklKernel {
#define X(name, shader, args, bindings, writable) VKL_KERNEL_##name,
    VKL_KERNEL_LIST(X)
#undef X
        VKL_KERNEL_COUNT
} VklKernel;

/* Ways to do a whole product on devices that are CPUs: X(enum suffix, shader name). What they compute, and all that they have to do, is GEMM's. */
#define VKL_GEMM_LIKE_LIST(X)             \
    X(GEMM_DIRECT, gemm_direct)           \
    X(GEMM_LANES, gemm_lanes)             \
    X(GEMM_QUAD, gemm_quad)               \
    X(GEMM_QUAD_WIDE, gemm_quad_wide)     \
    X(GEMM_QUAD_TN, gemm_quad_tn)         \
    X(GEMM_QUAD_ROW_NN, gemm_quad_row_nn) \
    X(GEMM_QUAD_ROW_NT, gemm_quad_row_nt)

/* Labels of a switch: GEMM and those like it. */
#define VKL_GEMM_LIKE_LABEL(name, shader) case VKL_KERNEL_##name:
#define VKL_GEMM_LIKE_LABELS \
    case VKL_KERNEL_GEMM:    \
        VKL_GEMM_LIKE_LIST(VKL_GEMM_LIKE_LABEL)

#define VKL_BINDINGS 6 /* most of a kernel; those with more than four are used where the device allows so many */

typedef union VklArgs {
    uint32_t offset[VKL_BINDINGS];
#define X(name, shader, type, bindings, writable) struct type name;
    VKL_KERNEL_LIST(X)
#undef X
} VklArgs;

_Static_assert(sizeof(VklArgs) <= 128, "arguments are push constants, of which Vulkan guarantees 128 bytes");

typedef struct VklKernelInfo {
    const char *name;
    uint32_t args_size;
    uint32_t bindings;
    uint32_t writable; /* bit for each binding that the shader does not declare readonly */
} VklKernelInfo;

extern const VklKernelInfo vkl_kernel_info[VKL_KERNEL_COUNT];

#endif

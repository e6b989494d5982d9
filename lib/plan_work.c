/* SPDX-License-Identifier: MIT
 *
 * How much an op has to do, from its arguments: what a roofline holds against the time it took. Arithmetic is that of its sums of
 * products; activations are not counted. Traffic is each number once, as if caches were perfect. */
#include <math.h>

#include "internal.h"

static double product(double m, double n, double k)
{
    return 2 * m * n * k;
}

/* op->work: rows of all directions. */
static double sequence(const VklOp *op, double steps, double units)
{
    uint32_t cell = op->spec[VKL_SPEC_FORM];
    double gates = cell == VKL_SEQUENCE_LSTM ? 4 : cell == VKL_SEQUENCE_GRU ? 3 : 1;
    return product((double)op->work * steps, gates * units, units);
}

double vkl_op_flops(const VklOp *op)
{
    const VklArgs *args = &op->args;
    if (op->flops > 0)
        return op->flops;
    switch (op->kernel) {
        VKL_GEMM_LIKE_LABELS
    case VKL_KERNEL_GEMM_SPLIT:
    case VKL_KERNEL_GEMM_COOP:
        return product(args->GEMM.m - args->GEMM.ones, args->GEMM.n, args->GEMM.k);
    case VKL_KERNEL_LSTM_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_ROW_FORWARD:
        return product(args->LSTM_FORWARD.rows, 4.0 * args->LSTM_FORWARD.units, args->LSTM_FORWARD.k);
    case VKL_KERNEL_LSTM_BACKWARD:
        return product(args->LSTM_BACKWARD.rows, args->LSTM_BACKWARD.units, args->LSTM_BACKWARD.k);
    case VKL_KERNEL_SEQUENCE_FORWARD:
    case VKL_KERNEL_SEQUENCE_DIRECT_FORWARD:
        return sequence(op, args->SEQUENCE_FORWARD.steps, args->SEQUENCE_FORWARD.units);
    case VKL_KERNEL_SEQUENCE_BACKWARD:
    case VKL_KERNEL_SEQUENCE_DIRECT_BACKWARD:
        return sequence(op, args->SEQUENCE_BACKWARD.steps, args->SEQUENCE_BACKWARD.units);
    case VKL_KERNEL_COLUMN_DOT:
        return product(args->COLUMN_DOT.rows, args->COLUMN_DOT.units, 1);
    case VKL_KERNEL_NORM:
        return 2.0 * args->NORM.count;
    case VKL_KERNEL_COPY:
    case VKL_KERNEL_COPY_STORE:
    case VKL_KERNEL_GATHER:
    case VKL_KERNEL_ADVANCE:
    case VKL_KERNEL_MOVE:
    case VKL_KERNEL_NARROW:
    case VKL_KERNEL_DROPOUT:
    case VKL_KERNEL_GEMM_REDUCE:
        return 0;
    case VKL_KERNEL_PROBE:
        return op->spec[VKL_SPEC_FORM] == VKL_PROBE_COPY ? 0 : 2.0 * (double)op->work * (double)op->work_cost;
    default:
        return 2.0 * (double)op->work * (double)op->work_cost;
    }
}

static double gemm_numbers(const VklOp *op)
{
    const struct VklGemmArgs *args = &op->args.GEMM;
    double m = args->m, n = args->n, k = args->k, written = args->accumulate ? 2 : 1;
    if (op->kernel == VKL_KERNEL_GEMM_SPLIT)
        written = ceil(k / args->slice_k);
    return (m - args->ones) * k + k * n + m * n * written + (double)args->bias_rows * n;
}

/* Windows hold what lies between a step's arrays as well, and are counted where nothing better is known. */
static double window_bytes(const VklOp *op)
{
    double bytes = 0;
    for (int i = 0; i < op->bindings; i++)
        bytes += (double)op->bind[i].size * (double)(!!(op->bind[i].access & VKL_READ) + !!(op->bind[i].access & VKL_WRITE));
    return bytes;
}

double vkl_op_bytes(const VklOp *op)
{
    const VklArgs *args = &op->args;
    if (op->bytes > 0)
        return op->bytes;
    switch (op->kernel) {
        VKL_GEMM_LIKE_LABELS
        return 4 * gemm_numbers(op);
    case VKL_KERNEL_GEMM_SPLIT:
    case VKL_KERNEL_GEMM_COOP:
        return 4 * (gemm_numbers(op) + (op->groups[2] - 1.0) * args->GEMM_SPLIT.m * args->GEMM_SPLIT.n);
    case VKL_KERNEL_LSTM_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_FORWARD:
    case VKL_KERNEL_LSTM_QUAD_ROW_FORWARD: {
        double cells = (double)args->LSTM_FORWARD.rows * args->LSTM_FORWARD.units;
        double gates = args->LSTM_FORWARD.keep ? 8 : 4; /* read, and written where they are kept */
        return 4 * (cells * (gates + 4) + 4.0 * args->LSTM_FORWARD.k * args->LSTM_FORWARD.units);
    }
    case VKL_KERNEL_LSTM_BACKWARD: {
        double cells = (double)args->LSTM_BACKWARD.rows * args->LSTM_BACKWARD.units;
        double next = args->LSTM_BACKWARD.k ? 4 : 0;
        return 4 * (cells * (8 + next + args->LSTM_BACKWARD.has_dy + 3 + args->LSTM_BACKWARD.has_dc) +
                    (double)args->LSTM_BACKWARD.k * args->LSTM_BACKWARD.units);
    }
    case VKL_KERNEL_GATHER:
        return 8.0 * (double)op->work;
    default:
        return window_bytes(op);
    }
}

double vkl_op_cost(const VklOp *op)
{
    return 1e4 + vkl_op_flops(op) / 20 + vkl_op_bytes(op) / 10; /* 20 GFLOP/s, 10 GB/s */
}

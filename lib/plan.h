/* SPDX-License-Identifier: MIT
 *
 * VklPlan: a plain array of kernel calls, built from sizes and a VklCaps. No call of Vulkan, no allocation on a device.
 *
 * An op names its buffers by slot: what a slot is bound to is settled when a VklExec is made. Everything else is settled here:
 * windows (what part of a slot a binding sees, never larger than caps->storage_range, its base a multiple of
 * caps->storage_alignment), splits of rows and of sums, dispatch sizes, and barriers, which the builder derives from what the ops
 * read and write.
 *
 * Errors stick: once an emitter has failed, the plan keeps status and sentence, later emitters do nothing.
 */
#ifndef VKL_PLAN_H
#define VKL_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"
#include "tune.h"
#include "vklstm/layers.h"
#include "vklstm/optimizer.h"

/* Slots are named after their role, so that a message can name them. */
#define VKL_SLOT_LIST(X)      \
    X(PARAMS, "params")       \
    X(GRADS, "dparams")       \
    X(STEP_GRADS, "grads")    \
    X(X, "x")                 \
    X(LENGTHS, "lengths")     \
    X(Y, "y")                 \
    X(H0, "h0")               \
    X(C0, "c0")               \
    X(HN, "hn")               \
    X(CN, "cn")               \
    X(RESERVE, "reserve")     \
    X(WORKSPACE, "workspace") \
    X(GY, "gy")               \
    X(GHN, "ghn")             \
    X(GCN, "gcn")             \
    X(DX, "dx")               \
    X(DH0, "dh0")             \
    X(DC0, "dc0")             \
    X(PREDICTED, "predicted") \
    X(TARGET, "target")       \
    X(GRADIENT, "gradient")   \
    X(LOSS, "loss")           \
    X(MOMENTS, "moments")     \
    X(STATE, "state")         \
    X(DATA, "data")           \
    X(H, "h")                 \
    X(C, "c")                 \
    X(RESET, "reset")         \
    X(AGENTS, "count")

typedef enum VklSlot {
#define X(name, text) VKL_SLOT_##name,
    VKL_SLOT_LIST(X)
#undef X
        VKL_SLOT_COUNT,
    VKL_SLOT_NONE = 255
} VklSlot;

extern const char *const vkl_slot_name[VKL_SLOT_COUNT];

enum { VKL_READ = 1, VKL_WRITE = 2, VKL_READ_WRITE = 3 };

/* A recorder may let a binding see more of its slot, to the next multiples of so many bytes. */
#define VKL_WINDOW_GRID (UINT64_C(1) << 16)

/* What one binding of an op sees. A binding that a kernel has but an op does not need (no bias, say) repeats another
 * binding's window, read-only, so that every descriptor is valid. */
typedef struct VklBind {
    uint8_t slot;
    uint8_t access;        /* VKL_READ, VKL_WRITE, both; 0 for a repeated window */
    uint64_t offset, size; /* bytes in the slot; offset is a multiple of the alignment */
} VklBind;

/* How an op's workgroups follow from the number of rows, as TALLY computes them; rows 0: they do not. */
typedef struct VklCounted {
    uint32_t way;
    uint64_t first, rows, block, items, group;
    uint64_t at; /* element of the workspace where TALLY leaves them */
} VklCounted;

typedef struct VklOp {
    uint16_t kernel;
    uint8_t bindings;
    bool barrier; /* before this op: earlier writes become visible, earlier reads are done */
    uint32_t spec[VKL_SPEC_COUNT];
    uint32_t groups[3];
    VklBind bind[VKL_BINDINGS];
    VklArgs args;
    VklCounted counted;
    uint64_t work;       /* CPU backend: independent items, rows or elements, that may be run in parts */
    uint64_t work_cost;  /* about how many multiply-adds an item costs, for choosing the size of the parts */
    double flops, bytes; /* for profiles; where an emitter leaves them 0, vkl_op_flops() and vkl_op_bytes() derive them */
} VklOp;

/* An array in a slot: an offset in elements (4 bytes). slot VKL_SLOT_NONE: absent. */
typedef struct VklArray {
    uint8_t slot;
    uint64_t at;
} VklArray;

static inline VklArray vkl_array(VklSlot slot, uint64_t at)
{
    VklArray array = {(uint8_t)slot, at};
    return array;
}
static const VklArray VKL_NO_ARRAY = {VKL_SLOT_NONE, 0};
static inline bool vkl_has(VklArray array)
{
    return array.slot != VKL_SLOT_NONE;
}
static inline VklArray vkl_array_at(VklArray array, uint64_t elements)
{
    array.at += elements;
    return array;
}

typedef struct VklTouched {
    uint8_t slot, access;
    uint64_t begin, end;
} VklTouched;

/* Whether ops are for as many rows as a number on the device says: of OFF none, of ROWS each must be, or the plan fails; WHOLE: what does
 * not depend on rows is done as a whole. */
typedef enum VklCounting { VKL_COUNTING_OFF, VKL_COUNTING_ROWS, VKL_COUNTING_WHOLE } VklCounting;

typedef struct VklPlan {
    const VklCaps *caps;
    VklOp *ops;
    size_t count, capacity;
    uint64_t slot_size[VKL_SLOT_COUNT]; /* bytes that the ops use of each slot: a bound buffer must be as large */
    VklCounting counting;
    uint64_t first;      /* rows that come before those that emitters count from */
    bool halves;         /* products may round operands to halves: set by who plans a layer of halves */
    VklTouched *touched; /* since the last barrier */
    size_t touched_count, touched_capacity;
    VklStatus status;
    char error[256];
} VklPlan;

void vkl_plan_init(VklPlan *plan, const VklCaps *caps);
void vkl_plan_finish(VklPlan *plan); /* frees */
VklStatus vkl_plan_fail(VklPlan *plan, VklStatus status, const char *format, ...);

/* What one call has to do (plan_work.c): multiplications and additions of its sums, 0 where it only moves numbers, and the
 * bytes that it must read and write, each once. */
double vkl_op_flops(const VklOp *op);
double vkl_op_bytes(const VklOp *op);
/* About how many nanoseconds it takes a slow GPU. */
double vkl_op_cost(const VklOp *op);

/* What a binding of a plain call sees; access 0: not bound. */
typedef struct VklOperand {
    VklArray array;
    uint64_t count; /* elements from the array's beginning on; positions in the arguments are relative to that */
    int access;
} VklOperand;

/* A call of any kernel with arguments as they are (offsets are filled in), for `invocations` in a row. What a binding cannot
 * reach is refused. */
void vkl_plan_call(VklPlan *plan, VklKernel kernel, uint32_t form, uint64_t invocations, const VklOperand *operands,
                   const VklArgs *args, uint64_t work, uint64_t work_cost);

/* The same for rows: `per_row` invocations of each of `rows` rows, the first of which is number `first` of all; work is rows. */
void vkl_plan_call_rows(VklPlan *plan, VklKernel kernel, uint32_t form, uint64_t per_row, const VklOperand *operands,
                        const VklArgs *args, uint64_t first, uint64_t rows, uint64_t row_cost);

/* ---- Counted ops (plan_count.c) ---- */

/* Ends a plan of VKL_COUNTING_ROWS: puts in front of it what computes its ops' workgroups from `count`, and their place behind all else in
 * the workspace. */
void vkl_plan_count(VklPlan *plan, VklArray count);
/* The op for the first `live` of its rows alone: backends without indirect dispatches. */
void vkl_op_limit(VklOp *op, uint64_t live);

/* ---- Emitters: one for each kernel; they split what is too large for the device and refuse what cannot be split ---- */

typedef struct VklGemm {
    uint32_t form; /* VKL_GEMM_NN ... */
    uint64_t m, n, k;
    VklArray a, b, c;
    uint64_t lda, ldb, ldc;
    bool accumulate;
    VklArray bias; /* rows of n, packed */
    uint32_t bias_rows;
    VklArray a_second; /* TN: [k][m - ones - m_first], for the rows of C from m_first on */
    uint64_t m_first;  /* 0: there is no second A */
    uint64_t lda_second;
    uint32_t ones;
    VklActivation activation;
    VklArray scratch; /* for partial products: few rows and columns with many terms are then summed in slices side by side */
    uint64_t scratch_count; /* 0: none */
} VklGemm;
/* While plan->halves is set operands may be rounded to halves; then B of NN and NT holds halves already. */
void vkl_plan_gemm(VklPlan *plan, const VklGemm *gemm);

/* The kernel and the constants of an op's pipeline, given the arguments that a recorder has arrived at: its offsets may forbid
 * what a plan took for granted, that arrays can be read by four. */
VklKernel vkl_op_settle(const VklOp *op, const VklArgs *args, uint32_t spec[VKL_SPEC_COUNT]);

typedef struct VklCellForward {
    uint64_t rows, units, h_ld;                           /* h_ld: from one row of h to the next */
    VklArray gates, w_hh, h_prev, h_next, c_prev, c_next; /* h_prev and h_next in one slot, c_prev and c_next too */
    bool apart;                                           /* the product as a call of its own */
    bool keep;
} VklCellForward;
void vkl_plan_lstm_forward(VklPlan *plan, const VklCellForward *step);

/* A layer with a single time step, in one call where vkl_tune_once() says so. */
typedef struct VklCellOnce {
    uint64_t rows, units, inputs, x_ld, bias_rows;
    VklArray x, w_ih, w_hh, bias;            /* bias: absent where there are none */
    VklArray h_prev, c_prev, h_next, c_next; /* those before may be absent */
} VklCellOnce;
/* False, and nothing is done: the arrays are beyond what bindings reach. */
bool vkl_plan_lstm_once(VklPlan *plan, const VklCellOnce *step);

typedef struct VklCellBackward {
    uint64_t rows, units, dy_ld; /* dy_ld: from one row of dy to the next */
    VklArray gates, gates_next;  /* one slot; gates_next absent at the last time step */
    VklArray w_hh;
    VklArray dy;                       /* may be absent */
    VklArray dh;                       /* scratch [rows][units], for recurrent matrices beyond a binding's range */
    VklArray c, c_prev, dc_in, dc_out; /* one slot; dc_in may be absent */
    bool apart;                        /* the product as a call of its own */
} VklCellBackward;
void vkl_plan_lstm_backward(VklPlan *plan, const VklCellBackward *step);

/* Many time steps of a layer, in one direction or both; the first step of each is the first in its own order. */
typedef struct VklSequenceSide {
    VklArray gates, w, gates_next; /* gates_next: backward; of the step done before, absent: none */
    VklArray h, bias; /* h: forward, the slot before the first step; backward, GRU, the same. bias: GRU, may be absent */
    VklArray c;       /* LSTM: forward, the slot before; backward, that after the first step */
    VklArray gy, dc_in, dc_out; /* backward; absent: none (dc_out must be there) */
    VklArray carry;             /* backward: GRU always, others where it holds something */
} VklSequenceSide;

typedef struct VklSequence {
    uint32_t cell; /* VKL_SEQUENCE_LSTM ... */
    uint64_t rows, units, steps, directions;
    bool down; /* the first side goes to lower slots from step to step; the second goes the other way */
    uint64_t gates_step, h_step, c_step, gy_step; /* from one slot to the next in memory */
    uint64_t gates_ld, h_ld, gy_ld;
    bool keep;    /* forward */
    bool carried; /* backward: carry holds something at the first step */
    VklSequenceSide side[2];
} VklSequence;
/* Whether the device can, and with `pays` whether it should. */
bool vkl_plan_sequence_possible(const VklPlan *plan, const VklSequence *sequence, bool backward, bool *pays);
void vkl_plan_sequence_forward(VklPlan *plan, const VklSequence *sequence);
void vkl_plan_sequence_backward(VklPlan *plan, const VklSequence *sequence);

typedef struct VklCopyPiece {
    uint32_t mode; /* VKL_COPY_LOAD ... */
    VklArray arena, other;
    uint64_t count;
} VklCopyPiece;
/* Any number of pieces, taken together in dispatches where they share an arena slot and its window. Pieces do not overlap. */
void vkl_plan_copy(VklPlan *plan, const VklCopyPiece *pieces, size_t count);

/* A strided copy in three dimensions, cut where a binding does not reach; with `draw`, dropout on the way. */
typedef struct VklDraw {
    uint64_t seed;
    uint32_t offset, stream;
    VklArray state; /* whose element `offset_at` is added to offset; absent: none */
    uint32_t offset_at;
    uint64_t first_row, first_column;
    bool over_time; /* a draw of its own for each step */
    double p;
} VklDraw;

typedef struct VklMove {
    VklArray dst, src;
    uint64_t steps, rows, columns;
    uint64_t dst_step, dst_row, src_step, src_row;
    bool add;
    uint32_t guard;      /* VKL_MOVE_ALL ... */
    VklArray lengths;    /* with a guard */
    uint64_t first_step; /* of the time steps that lengths and draws count */
    float value;
    const VklDraw *draw;
} VklMove;
void vkl_plan_move(VklPlan *plan, const VklMove *move);

/* ROWS, cut where a binding or a dispatch does not reach. */
typedef struct VklRowsPiece {
    VklArray arena, other;
    uint64_t columns;
} VklRowsPiece;

typedef struct VklRows {
    uint32_t form;        /* VKL_ROWS_LOAD ... */
    uint64_t rows, first; /* first: the number of the first row, as the guard has them */
    VklRowsPiece piece[2];
    size_t count;
    VklArray guard; /* LOAD: [rows]; STORE: one number; may be absent */
} VklRows;
void vkl_plan_rows(VklPlan *plan, const VklRows *rows);

/* Between floats and halves, in windows. PACK: dst has (count + 1) / 2 elements; UNPACK: src has them. ROUND leaves the numbers of the two
 * ranges `exact` as they are, begin and end each. */
typedef struct VklNarrow {
    uint32_t form; /* VKL_NARROW_PACK ... */
    uint64_t count;
    VklArray dst, src;
    uint64_t exact[2][2];
} VklNarrow;
void vkl_plan_narrow(VklPlan *plan, const VklNarrow *narrow);

/* Skip input: gates of each row = x + bias rows, or back, x = the sum over gates; cut into rows where a binding does not reach. */
typedef struct VklSpread {
    bool back;
    uint64_t rows, units, gates, gates_ld, gate_stride, unit_stride, x_ld;
    VklArray gate_rows, x, bias;
    uint64_t bias_rows;
} VklSpread;
void vkl_plan_spread(VklPlan *plan, const VklSpread *spread);

/* out [units] (+)= column sums of a * b over `rows` rows, in blocks of at most 4,096. */
typedef struct VklColumnDot {
    VklArray out, a, b;
    uint64_t rows, units, a_ld, a_stride, b_ld;
    bool accumulate;
} VklColumnDot;
void vkl_plan_column_dot(VklPlan *plan, const VklColumnDot *dot);

typedef struct VklGather {
    uint64_t steps, rows, features, outputs;
    VklArray data; /* DATA slot, series_at and so on relative to it */
    uint64_t series_at, starts_at, targets_at, data_count;
    VklArray state;
    uint64_t order_at, order_count;
    VklArray x, target;
} VklGather;
void vkl_plan_gather(VklPlan *plan, const VklGather *gather);

typedef struct VklLossOp {
    VklLoss kind;
    double delta;
    uint64_t rows, outputs;
    VklArray predicted, target, gradient; /* gradient may be absent */
    VklArray out;                         /* one float, or the step state */
    uint64_t out_count;                   /* elements of it */
    uint32_t advance;                     /* 0, 1, 2 as interface.h has it */
    const VklOptimizerDesc *optimizer;    /* advance 2 */
} VklLossOp;
#define VKL_LOSS_MOST \
    (UINT64_C(1) << 21) /* numbers: one workgroup sums them all, and software devices stop a loop after 65,535 turns */
void vkl_plan_loss(VklPlan *plan, const VklLossOp *loss);

/* ADVANCE where `advance` asks for it, NORM in two stages where clip_norm does, then OPTIMIZER, by windows. */
typedef struct VklOptimize {
    const VklOptimizerDesc *desc;
    uint64_t count;
    VklArray params, grads, moments, state;
    VklArray partial; /* scratch, vkl_norm_partials(count) floats; used with clip_norm */
    bool advance;
} VklOptimize;
void vkl_plan_optimize(VklPlan *plan, const VklOptimize *optimize);
uint64_t vkl_norm_partials(uint64_t count);

void vkl_plan_activation_backward(VklPlan *plan, VklActivation activation, uint64_t count, VklArray gy, VklArray y, VklArray dz);

#endif

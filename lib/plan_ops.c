/* SPDX-License-Identifier: MIT
 *
 * One emitter for each kernel of shaders/interface.h: splits what a binding or a dispatch cannot reach, fills the arguments. */
#include "internal.h"
#include "plan_build.h"

/* ---- LSTM steps ---- */

/* Rows of a step that one dispatch takes: a window must hold `fixed` elements and `per_row` for each row. */
static uint64_t rows_of_step(uint64_t window, uint64_t rows, uint64_t fixed, uint64_t per_row)
{
    return window > fixed + per_row ? smaller(rows, (window - fixed) / per_row) : 1;
}

void vkl_plan_lstm_forward(VklPlan *plan, const VklCellForward *step)
{
    if (plan->status)
        return;
    uint64_t window = vkl_plan_window(plan), units = step->units;
    /* the recurrent matrix is beyond a binding, or a product does better than the kernel */
    VklDirectShape quad;
    bool product_apart = step->apart || units > window / 4 / units;
    bool with_quads = !product_apart && vkl_tune_quad_step(plan->caps, step->rows, units, &quad);
    product_apart = product_apart || (vkl_tune_quad(plan->caps) && !with_quads);
    if (product_apart)
        vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_NN,
                                       .m = step->rows,
                                       .n = 4 * units,
                                       .k = units,
                                       .a = step->h_prev,
                                       .b = step->w_hh,
                                       .c = step->gates,
                                       .lda = step->h_ld,
                                       .ldb = 4 * units,
                                       .ldc = 4 * units,
                                       .accumulate = true});
    uint64_t h_apart = larger(step->h_next.at, step->h_prev.at) - smaller(step->h_next.at, step->h_prev.at);
    uint64_t c_apart = larger(step->c_next.at, step->c_prev.at) - smaller(step->c_next.at, step->c_prev.at);
    uint64_t chunk = smaller(rows_of_step(window, step->rows, 0, 4 * units), rows_of_step(window, step->rows, c_apart, units));
    chunk = smaller(chunk, rows_of_step(window, step->rows, h_apart, step->h_ld));
    for (uint64_t row = 0; row < step->rows; row += chunk) {
        uint64_t rows = smaller(chunk, step->rows - row), count = rows * units, h_count = (rows - 1) * step->h_ld + units;
        VklArray h_prev = vkl_array_at(step->h_prev, row * step->h_ld), h_next = vkl_array_at(step->h_next, row * step->h_ld);
        VklArray c_prev = vkl_array_at(step->c_prev, row * units), c_next = vkl_array_at(step->c_next, row * units);
        Cover h = {.begin = VKL_NO_ARRAY}, c = {.begin = VKL_NO_ARRAY};
        cover_add(&h, h_prev, h_count);
        cover_add(&h, h_next, h_count);
        cover_add(&c, c_prev, count);
        cover_add(&c, c_next, count);
        VklOp *op = vkl_plan_op(plan, with_quads ? quad.kernel : VKL_KERNEL_LSTM_FORWARD);
        if (!op)
            return;
        vkl_plan_bind(plan, op, 0, vkl_array_at(step->gates, row * units * 4), count * 4, step->keep ? VKL_READ_WRITE : VKL_READ);
        if (!product_apart)
            vkl_plan_bind(plan, op, 1, step->w_hh, units * units * 4, VKL_READ);
        vkl_plan_bind(plan, op, 2, h.begin, cover_count(&h), VKL_READ_WRITE);
        vkl_plan_bind(plan, op, 3, c.begin, cover_count(&c), VKL_READ_WRITE);
        struct VklCellForwardArgs *args = &op->args.LSTM_FORWARD;
        args->rows = (uint32_t)rows;
        args->units = (uint32_t)units;
        args->k = product_apart ? 0 : (uint32_t)units;
        args->h_prev = within(&h, h_prev);
        args->h_next = within(&h, h_next);
        args->h_ld = (uint32_t)step->h_ld;
        args->c_prev = within(&c, c_prev);
        args->c_next = within(&c, c_next);
        args->keep = step->keep;
        if (with_quads) {
            uint32_t group_rows = vkl_plan_group_rows(plan, rows, quad.spec[VKL_GEMM_SPEC_ROWS]);
            op->spec[VKL_SPEC_WORKGROUP] = quad.spec[VKL_SPEC_WORKGROUP];
            op->groups[0] = (uint32_t)blocks(4 * units, quad.spec[VKL_GEMM_SPEC_COLUMNS]);
            op->groups[1] = (uint32_t)blocks(rows, group_rows);
            op->groups[2] = 1;
            args->group_rows = (uint32_t)blocks(rows, op->groups[1]); /* divided evenly */
            vkl_plan_counted(plan, op, VKL_TALLY_Y, row, rows, args->group_rows, 1, 1);
        } else {
            vkl_plan_linear(plan, op, count);
            vkl_plan_counted(plan, op, VKL_TALLY_LINEAR, row, rows, 1, units, plan->caps->workgroup);
        }
        op->work = rows;
        op->work_cost = units * (args->k * 4 + 64);
        vkl_plan_end(plan, op);
    }
}

bool vkl_plan_lstm_once(VklPlan *plan, const VklCellOnce *step)
{
    uint64_t window = vkl_plan_window(plan), units = step->units, count = step->rows * units,
             inputs = span(step->rows, step->x_ld, step->inputs);
    Cover params = {.begin = VKL_NO_ARRAY};
    cover_add(&params, step->w_ih, step->inputs * units * 4);
    cover_add(&params, step->w_hh, units * units * 4);
    cover_add(&params, step->bias, step->bias_rows * units * 4);
    if (cover_count(&params) > window || count > window || inputs > window)
        return false;
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_LSTM_ONCE);
    if (!op)
        return true;
    bool has_h = vkl_has(step->h_prev), has_c = vkl_has(step->c_prev);
    vkl_plan_bind(plan, op, 0, step->x, inputs, VKL_READ);
    vkl_plan_bind(plan, op, 1, params.begin, cover_count(&params), VKL_READ);
    if (has_h)
        vkl_plan_bind(plan, op, 2, step->h_prev, count, VKL_READ);
    if (has_c)
        vkl_plan_bind(plan, op, 3, step->c_prev, count, VKL_READ);
    vkl_plan_bind(plan, op, 4, step->h_next, count, VKL_WRITE);
    vkl_plan_bind(plan, op, 5, step->c_next, count, VKL_WRITE);
    struct VklOnceArgs *args = &op->args.LSTM_ONCE;
    args->rows = (uint32_t)step->rows;
    args->units = (uint32_t)units;
    args->inputs = (uint32_t)step->inputs;
    args->k = has_h ? (uint32_t)units : 0;
    args->x_ld = (uint32_t)step->x_ld;
    args->w_ih = within(&params, step->w_ih);
    args->w_hh = within(&params, step->w_hh);
    args->bias = step->bias_rows ? within(&params, step->bias) : 0;
    args->bias_rows = (uint32_t)step->bias_rows;
    args->has_c = has_c;
    vkl_plan_linear(plan, op, count);
    op->work = step->rows;
    op->work_cost = units * (4 * (step->inputs + args->k) + 64);
    op->flops = 8.0 * (double)count * (double)(step->inputs + args->k);
    vkl_plan_end(plan, op);
    return true;
}

void vkl_plan_lstm_backward(VklPlan *plan, const VklCellBackward *step)
{
    if (plan->status)
        return;
    uint64_t window = vkl_plan_window(plan), units = step->units;
    bool recurrent = vkl_has(step->gates_next);
    uint64_t gates_apart =
        !recurrent ? 0 : larger(step->gates_next.at, step->gates.at) - smaller(step->gates_next.at, step->gates.at);
    bool product_apart =
        recurrent && (step->apart || units > window / 4 / units || gates_apart + 4 * units > window || vkl_tune_quad(plan->caps));
    VklArray dy = step->dy;
    uint64_t dy_ld = step->dy_ld;
    if (product_apart) {
        if (vkl_has(dy))
            vkl_plan_move(plan, &(VklMove){.dst = step->dh,
                                           .src = dy,
                                           .steps = 1,
                                           .rows = step->rows,
                                           .columns = units,
                                           .dst_row = units,
                                           .src_row = dy_ld});
        vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_NT,
                                       .m = step->rows,
                                       .n = units,
                                       .k = 4 * units,
                                       .a = step->gates_next,
                                       .b = step->w_hh,
                                       .c = step->dh,
                                       .lda = 4 * units,
                                       .ldb = 4 * units,
                                       .ldc = units,
                                       .accumulate = vkl_has(dy)});
        dy = step->dh;
        dy_ld = units;
        recurrent = false;
        gates_apart = 0;
    }
    Cover whole_c = {.begin = VKL_NO_ARRAY};
    cover_add(&whole_c, step->c, 0);
    cover_add(&whole_c, step->c_prev, 0);
    cover_add(&whole_c, step->dc_in, 0);
    cover_add(&whole_c, step->dc_out, 0);
    uint64_t chunk = smaller(rows_of_step(window, step->rows, gates_apart, 4 * units),
                             rows_of_step(window, step->rows, cover_count(&whole_c), units));
    if (vkl_has(dy))
        chunk = smaller(chunk, rows_of_step(window, step->rows, 0, dy_ld));
    for (uint64_t row = 0; row < step->rows; row += chunk) {
        uint64_t rows = smaller(chunk, step->rows - row), count = rows * units, at = row * units;
        VklArray gates_t = vkl_array_at(step->gates, at * 4);
        VklArray gates_next = recurrent ? vkl_array_at(step->gates_next, at * 4) : VKL_NO_ARRAY;
        VklArray c_t = vkl_array_at(step->c, at), c_prev = vkl_array_at(step->c_prev, at);
        VklArray dc_in = vkl_has(step->dc_in) ? vkl_array_at(step->dc_in, at) : VKL_NO_ARRAY;
        VklArray dc_out = vkl_array_at(step->dc_out, at);
        Cover gates = {.begin = VKL_NO_ARRAY}, c = {.begin = VKL_NO_ARRAY};
        cover_add(&gates, gates_t, count * 4);
        cover_add(&gates, gates_next, count * 4);
        cover_add(&c, c_t, count);
        cover_add(&c, c_prev, count);
        cover_add(&c, dc_in, count);
        cover_add(&c, dc_out, count);
        VklOp *op = vkl_plan_op(plan, VKL_KERNEL_LSTM_BACKWARD);
        if (!op)
            return;
        vkl_plan_bind(plan, op, 0, gates.begin, cover_count(&gates), VKL_READ_WRITE);
        if (recurrent)
            vkl_plan_bind(plan, op, 1, step->w_hh, units * units * 4, VKL_READ);
        if (vkl_has(dy))
            vkl_plan_bind(plan, op, 2, vkl_array_at(dy, row * dy_ld), (rows - 1) * dy_ld + units, VKL_READ);
        vkl_plan_bind(plan, op, 3, c.begin, cover_count(&c), VKL_READ_WRITE);
        struct VklCellBackwardArgs *args = &op->args.LSTM_BACKWARD;
        args->rows = (uint32_t)rows;
        args->units = (uint32_t)units;
        args->k = recurrent ? (uint32_t)(4 * units) : 0;
        args->gates_t = within(&gates, gates_t);
        args->gates_next = within(&gates, gates_next);
        args->has_dy = vkl_has(dy);
        args->dy_ld = (uint32_t)dy_ld;
        args->c_t = within(&c, c_t);
        args->c_prev = within(&c, c_prev);
        args->dc_in = within(&c, dc_in);
        args->has_dc = vkl_has(dc_in);
        args->dc_out = within(&c, dc_out);
        vkl_plan_linear(plan, op, count);
        op->work = rows;
        op->work_cost = units * (args->k + 64);
        vkl_plan_end(plan, op);
    }
}

/* ---- Any kernel ---- */

/* NULL: the plan has failed. */
static VklOp *begin_call(VklPlan *plan, VklKernel kernel, uint32_t form, uint64_t invocations, const VklOperand *operands,
                         const VklArgs *args)
{
    VklOp *op = vkl_plan_op(plan, kernel);
    if (!op)
        return NULL;
    op->args = *args;
    for (int i = 0; i < op->bindings; i++) {
        op->args.offset[i] = 0;
        if (operands[i].access)
            vkl_plan_bind(plan, op, i, operands[i].array, operands[i].count, operands[i].access);
    }
    op->spec[VKL_SPEC_FORM] = form;
    vkl_plan_linear(plan, op, invocations);
    return op;
}

void vkl_plan_call(VklPlan *plan, VklKernel kernel, uint32_t form, uint64_t invocations, const VklOperand *operands,
                   const VklArgs *args, uint64_t work, uint64_t work_cost)
{
    VklOp *op = begin_call(plan, kernel, form, invocations, operands, args);
    if (!op)
        return;
    op->work = work;
    op->work_cost = work_cost;
    vkl_plan_end(plan, op);
}

void vkl_plan_call_rows(VklPlan *plan, VklKernel kernel, uint32_t form, uint64_t per_row, const VklOperand *operands,
                        const VklArgs *args, uint64_t first, uint64_t rows, uint64_t row_cost)
{
    VklOp *op = begin_call(plan, kernel, form, rows * per_row, operands, args);
    if (!op)
        return;
    vkl_plan_counted(plan, op, VKL_TALLY_LINEAR, first, rows, 1, per_row, plan->caps->workgroup);
    op->work = rows;
    op->work_cost = row_cost;
    vkl_plan_end(plan, op);
}

/* ---- Copies ---- */

static int arena_access(uint32_t mode)
{
    return mode == VKL_COPY_STORE ? VKL_READ : mode == VKL_COPY_ADD ? VKL_READ_WRITE : VKL_WRITE;
}

/* Up to three pieces whose arena fits one window. */
static void copy_op(VklPlan *plan, const VklCopyPiece *pieces, size_t count, const Cover *arena)
{
    bool store = count == 1 && pieces[0].mode == VKL_COPY_STORE && vkl_tune_quad(plan->caps);
    VklOp *op = vkl_plan_op(plan, store ? VKL_KERNEL_COPY_STORE : VKL_KERNEL_COPY);
    if (!op)
        return;
    struct VklCopyArgs *args = &op->args.COPY;
    uint32_t *counts[] = {&args->count0, &args->count1, &args->count2}, *at[] = {&args->at0, &args->at1, &args->at2};
    uint32_t *modes[] = {&args->mode0, &args->mode1, &args->mode2};
    uint64_t total = 0, invocations = 0;
    int access = 0;
    for (size_t i = 0; i < count; i++)
        access |= arena_access(pieces[i].mode);
    vkl_plan_bind(plan, op, 0, arena->begin, cover_count(arena), access);
    for (size_t i = 0; i < count; i++) {
        const VklCopyPiece *piece = &pieces[i];
        if (piece->mode != VKL_COPY_ZERO)
            vkl_plan_bind(plan, op, (int)i + 1, piece->other, piece->count, piece->mode == VKL_COPY_STORE ? VKL_WRITE : VKL_READ);
        *counts[i] = (uint32_t)piece->count;
        *at[i] = within(arena, piece->arena);
        *modes[i] = piece->mode;
        total += piece->count;
        invocations += blocks(piece->count, 4);
    }
    vkl_plan_linear(plan, op, invocations);
    op->work = total;
    vkl_plan_end(plan, op);
}

void vkl_plan_copy(VklPlan *plan, const VklCopyPiece *pieces, size_t count)
{
    uint64_t window = vkl_plan_window(plan);
    VklCopyPiece together[3];
    size_t taken = 0;
    Cover arena = {.begin = VKL_NO_ARRAY};
    for (size_t i = 0; i < count; i++) {
        for (uint64_t done = 0; done < pieces[i].count;) {
            VklCopyPiece piece = pieces[i];
            piece.count = smaller(window, piece.count - done);
            piece.arena.at += done;
            piece.other.at += done;
            done += piece.count;
            Cover wider = arena;
            cover_add(&wider, piece.arena, piece.count);
            if (taken && (taken == 3 || arena.begin.slot != piece.arena.slot || cover_count(&wider) > window)) {
                copy_op(plan, together, taken, &arena);
                taken = 0;
                arena.begin = VKL_NO_ARRAY;
            }
            cover_add(&arena, piece.arena, piece.count);
            together[taken++] = piece;
        }
    }
    if (taken)
        copy_op(plan, together, taken, &arena);
}

/* ---- Rows ---- */

static void rows_op(VklPlan *plan, const VklRows *rows, uint64_t first, uint64_t count)
{
    bool load = rows->form == VKL_ROWS_LOAD, two = rows->count == 2;
    const VklRowsPiece *one = &rows->piece[0], *other = &rows->piece[1];
    uint64_t fours = blocks(one->columns, 4) + (two ? blocks(other->columns, 4) : 0);
    VklArray at[2] = {vkl_array_at(one->arena, first * one->columns), VKL_NO_ARRAY};
    Cover arena = {.begin = VKL_NO_ARRAY};
    cover_add(&arena, at[0], count * one->columns);
    if (two) {
        at[1] = vkl_array_at(other->arena, first * other->columns);
        cover_add(&arena, at[1], count * other->columns);
    }
    VklArgs args = {.ROWS = {.rows = (uint32_t)count,
                             .first = (uint32_t)(rows->first + first),
                             .columns0 = (uint32_t)one->columns,
                             .columns1 = two ? (uint32_t)other->columns : 0,
                             .at0 = within(&arena, at[0]),
                             .at1 = two ? within(&arena, at[1]) : 0,
                             .guarded = vkl_has(rows->guard)}};
    int access = load ? VKL_READ : VKL_WRITE;
    VklOperand operands[VKL_BINDINGS] = {
        {arena.begin, cover_count(&arena), load ? VKL_WRITE : VKL_READ},
        {vkl_array_at(one->other, first * one->columns), count * one->columns, access},
        {two ? vkl_array_at(other->other, first * other->columns) : VKL_NO_ARRAY, two ? count * other->columns : 0,
         two ? access : 0},
        {rows->guard, load ? rows->first + first + count : 1, vkl_has(rows->guard) ? VKL_READ : 0}};
    VklOp *op = begin_call(plan, VKL_KERNEL_ROWS, rows->form, count * fours, operands, &args);
    if (!op)
        return;
    op->spec[VKL_SPEC_ROWS_WIDE] = !((one->columns | args.ROWS.columns1 | args.ROWS.at0 | args.ROWS.at1) & 3);
    vkl_plan_counted(plan, op, VKL_TALLY_LINEAR, first, count, 1, fours, plan->caps->workgroup);
    op->work = count;
    op->work_cost = 4 * fours;
    vkl_plan_end(plan, op);
}

void vkl_plan_rows(VklPlan *plan, const VklRows *rows)
{
    uint64_t window = vkl_plan_window(plan), columns = 0;
    Cover arena = {.begin = VKL_NO_ARRAY};
    for (size_t i = 0; i < rows->count; i++) {
        columns += rows->piece[i].columns;
        cover_add(&arena, rows->piece[i].arena, rows->rows * rows->piece[i].columns);
    }
    uint64_t invocations = (uint64_t)plan->caps->workgroup * plan->caps->workgroups[0] * plan->caps->workgroups[1];
    uint64_t most = smaller(larger(smaller(invocations, UINT32_MAX / 2) / columns, 1), rows->rows);
    if (rows->count == 2 && (cover_count(&arena) > window || most < rows->rows)) {
        for (size_t i = 0; i < 2; i++) {
            VklRows one = *rows;
            one.piece[0] = rows->piece[i];
            one.count = 1;
            vkl_plan_rows(plan, &one);
        }
        return;
    }
    most = rows->count == 1 ? smaller(most, larger(window / columns, 1)) : most;
    for (uint64_t first = 0; first < rows->rows && !plan->status; first += most)
        rows_op(plan, rows, first, smaller(most, rows->rows - first));
}

/* ---- Strided copies, dropout ---- */

static uint64_t reach(uint64_t steps, uint64_t step, uint64_t rows, uint64_t row, uint64_t columns)
{
    return (steps - 1) * step + (rows - 1) * row + columns;
}

static void dropout_op(VklPlan *plan, const VklMove *move, uint64_t t, uint64_t n)
{
    const VklDraw *draw = move->draw;
    double threshold = draw->p * 4294967296.0 + 0.5;
    bool all = !(threshold < 4294967296.0); /* p of 1, and what is as near to it as 32 bits can tell */
    VklArgs args = {.DROPOUT = {.steps = (uint32_t)move->steps,
                                .rows = (uint32_t)move->rows,
                                .columns = (uint32_t)move->columns,
                                .dst_step = (uint32_t)move->dst_step,
                                .dst_row = (uint32_t)move->dst_row,
                                .src_step = (uint32_t)move->src_step,
                                .src_row = (uint32_t)move->src_row,
                                .mode = move->add ? VKL_MOVE_ADD : VKL_MOVE_COPY,
                                .first_step = draw->over_time ? (uint32_t)t : 0,
                                .step_stride = draw->over_time,
                                .first_row = (uint32_t)(draw->first_row + n),
                                .first_column = (uint32_t)draw->first_column,
                                .seed0 = (uint32_t)draw->seed,
                                .seed1 = (uint32_t)(draw->seed >> 32),
                                .offset = draw->offset,
                                .offset_at = vkl_has(draw->state) ? draw->offset_at : VKL_ABSENT,
                                .stream = draw->stream,
                                .threshold = all ? 0 : (uint32_t)threshold,
                                .all = all,
                                .scale = all ? 0 : (float)(1 / (1 - draw->p))}};
    VklOperand operands[4] = {{move->dst, reach(move->steps, move->dst_step, move->rows, move->dst_row, move->columns),
                               move->add ? VKL_READ_WRITE : VKL_WRITE},
                              {move->src, reach(move->steps, move->src_step, move->rows, move->src_row, move->columns), VKL_READ},
                              {draw->state, draw->offset_at + 1, vkl_has(draw->state) ? VKL_READ : 0}};
    uint64_t words = (draw->first_column % 4 + move->columns + 3) / 4; /* a block of random numbers serves four columns */
    vkl_plan_call(plan, VKL_KERNEL_DROPOUT, 0, move->steps * move->rows * words, operands, &args, move->steps * move->rows,
                  move->columns * 8);
}

static void move_op(VklPlan *plan, const VklMove *move, uint64_t t, uint64_t n)
{
    if (move->draw) {
        dropout_op(plan, move, t, n);
        return;
    }
    VklArgs args = {.MOVE = {.steps = (uint32_t)move->steps,
                             .rows = (uint32_t)move->rows,
                             .columns = (uint32_t)move->columns,
                             .dst_step = (uint32_t)move->dst_step,
                             .dst_row = (uint32_t)move->dst_row,
                             .src_step = (uint32_t)move->src_step,
                             .src_row = (uint32_t)move->src_row,
                             .mode = move->add ? VKL_MOVE_ADD : VKL_MOVE_COPY,
                             .guard = move->guard,
                             .first_step = (uint32_t)t,
                             .first_row = (uint32_t)n,
                             .value = move->value}};
    VklOperand operands[4] = {{move->dst, reach(move->steps, move->dst_step, move->rows, move->dst_row, move->columns),
                               move->add || move->guard == VKL_MOVE_FROZEN ? VKL_READ_WRITE : VKL_WRITE},
                              {move->src, reach(move->steps, move->src_step, move->rows, move->src_row, move->columns), VKL_READ},
                              {move->lengths, n + move->rows, move->guard ? VKL_READ : 0}};
    vkl_plan_call(plan, VKL_KERNEL_MOVE, 0, move->steps * move->rows * move->columns, operands, &args, move->steps * move->rows,
                  move->columns);
}

/* Halves the dimension that reaches furthest until both sides fit a window. */
static void move_part(VklPlan *plan, const VklMove *move, uint64_t t, uint64_t n)
{
    uint64_t window = vkl_plan_window(plan);
    uint64_t dst = reach(move->steps, move->dst_step, move->rows, move->dst_row, move->columns);
    uint64_t src = reach(move->steps, move->src_step, move->rows, move->src_row, move->columns);
    if (plan->status)
        return;
    if ((dst <= window && src <= window) || (move->steps == 1 && move->rows == 1)) {
        move_op(plan, move, t, n);
        return;
    }
    uint64_t by_step = larger((move->steps - 1) * move->dst_step, (move->steps - 1) * move->src_step);
    uint64_t by_row = larger((move->rows - 1) * move->dst_row, (move->rows - 1) * move->src_row);
    VklMove low = *move, high = *move;
    if (by_step >= by_row) {
        low.steps = move->steps / 2;
        high.steps = move->steps - low.steps;
        high.dst.at += low.steps * move->dst_step;
        high.src.at += low.steps * move->src_step;
        move_part(plan, &low, t, n);
        move_part(plan, &high, t + low.steps, n);
    } else {
        low.rows = move->rows / 2;
        high.rows = move->rows - low.rows;
        high.dst.at += low.rows * move->dst_row;
        high.src.at += low.rows * move->src_row;
        move_part(plan, &low, t, n);
        move_part(plan, &high, t, n + low.rows);
    }
}

void vkl_plan_move(VklPlan *plan, const VklMove *move)
{
    move_part(plan, move, move->first_step, 0);
}

void vkl_plan_spread(VklPlan *plan, const VklSpread *spread)
{
    uint64_t window = vkl_plan_window(plan), bias = spread->bias_rows * spread->gates * spread->units;
    uint64_t most = smaller(rows_in(window, spread->gates_ld, spread->gates_ld), rows_in(window, spread->x_ld, spread->units));
    for (uint64_t row = 0; row < spread->rows && !plan->status; row += most) {
        uint64_t rows = smaller(most, spread->rows - row);
        VklArgs args = {.SPREAD = {.rows = (uint32_t)rows,
                                   .units = (uint32_t)spread->units,
                                   .gates = (uint32_t)spread->gates,
                                   .gates_ld = (uint32_t)spread->gates_ld,
                                   .gate_stride = (uint32_t)spread->gate_stride,
                                   .unit_stride = (uint32_t)spread->unit_stride,
                                   .x_ld = (uint32_t)spread->x_ld,
                                   .bias_rows = (uint32_t)spread->bias_rows}};
        VklOperand operands[4] = {{vkl_array_at(spread->gate_rows, row * spread->gates_ld), rows * spread->gates_ld,
                                   spread->back ? VKL_READ : VKL_WRITE},
                                  {vkl_array_at(spread->x, row * spread->x_ld), span(rows, spread->x_ld, spread->units),
                                   spread->back ? VKL_WRITE : VKL_READ},
                                  {spread->bias, bias, bias ? VKL_READ : 0}};
        vkl_plan_call_rows(plan, VKL_KERNEL_SPREAD, spread->back, spread->units, operands, &args, row, rows,
                           spread->units * spread->gates);
    }
}

void vkl_plan_column_dot(VklPlan *plan, const VklColumnDot *dot)
{
    uint64_t window = vkl_plan_window(plan);
    uint64_t most = smaller(
        VKL_GEMM_MAX_K, smaller(rows_in(window, dot->a_ld, dot->units * dot->a_stride), rows_in(window, dot->b_ld, dot->units)));
    for (uint64_t row = 0; row < dot->rows && !plan->status; row += most) {
        uint64_t rows = smaller(most, dot->rows - row);
        bool accumulate = dot->accumulate || row;
        VklArgs args = {.COLUMN_DOT = {.rows = (uint32_t)rows,
                                       .units = (uint32_t)dot->units,
                                       .a_ld = (uint32_t)dot->a_ld,
                                       .a_stride = (uint32_t)dot->a_stride,
                                       .b_ld = (uint32_t)dot->b_ld,
                                       .accumulate = accumulate}};
        VklOperand operands[4] = {
            {dot->out, dot->units, accumulate ? VKL_READ_WRITE : VKL_WRITE},
            {vkl_array_at(dot->a, row * dot->a_ld), span(rows, dot->a_ld, (dot->units - 1) * dot->a_stride + 1), VKL_READ},
            {vkl_array_at(dot->b, row * dot->b_ld), span(rows, dot->b_ld, dot->units), VKL_READ}};
        vkl_plan_call(plan, VKL_KERNEL_COLUMN_DOT, 0, dot->units, operands, &args, dot->units, rows);
    }
}

/* ---- Training step ---- */

void vkl_plan_gather(VklPlan *plan, const VklGather *gather)
{
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_GATHER);
    if (!op)
        return;
    uint64_t x = gather->steps * gather->rows * gather->features, target = gather->rows * gather->outputs;
    vkl_plan_bind(plan, op, 0, gather->data, gather->data_count, VKL_READ);
    vkl_plan_bind(plan, op, 1, gather->state, gather->order_at + gather->order_count, VKL_READ);
    vkl_plan_bind(plan, op, 2, gather->x, x, VKL_WRITE);
    if (vkl_has(gather->target))
        vkl_plan_bind(plan, op, 3, gather->target, target, VKL_WRITE);
    struct VklGatherArgs *args = &op->args.GATHER;
    args->steps = (uint32_t)gather->steps;
    args->rows = (uint32_t)gather->rows;
    args->features = (uint32_t)gather->features;
    args->outputs = vkl_has(gather->target) ? (uint32_t)gather->outputs : 0;
    args->series_at = (uint32_t)gather->series_at;
    args->starts_at = (uint32_t)gather->starts_at;
    args->targets_at = (uint32_t)gather->targets_at;
    args->order_at = (uint32_t)gather->order_at;
    op->work = x + (vkl_has(gather->target) ? target : 0);
    vkl_plan_linear(plan, op, op->work);
    vkl_plan_end(plan, op);
}

void vkl_plan_loss(VklPlan *plan, const VklLossOp *loss)
{
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_LOSS);
    if (!op)
        return;
    uint64_t count = loss->rows * loss->outputs;
    if (count > VKL_LOSS_MOST)
        vkl_plan_fail(plan, VKL_ERROR_LIMIT, "a loss over %llu numbers at once; at most %llu are possible",
                      (unsigned long long)count, (unsigned long long)VKL_LOSS_MOST);
    vkl_plan_bind(plan, op, 0, loss->predicted, count, VKL_READ);
    vkl_plan_bind(plan, op, 1, loss->target, count, VKL_READ);
    if (vkl_has(loss->gradient))
        vkl_plan_bind(plan, op, 2, loss->gradient, count, VKL_WRITE);
    vkl_plan_bind(plan, op, 3, loss->out, loss->out_count, VKL_READ_WRITE);
    struct VklLossArgsGpu *args = &op->args.LOSS;
    args->count = (uint32_t)count;
    args->kind = (uint32_t)loss->kind;
    args->delta = (float)loss->delta;
    args->scale = (float)(1.0 / (double)count);
    args->has_gradient = vkl_has(loss->gradient);
    args->advance = loss->advance;
    args->rows = (uint32_t)loss->rows;
    if (loss->optimizer) {
        args->beta1 = (float)loss->optimizer->beta1;
        args->one_minus_beta1 = (float)(1 - loss->optimizer->beta1);
        args->beta2 = (float)loss->optimizer->beta2;
        args->one_minus_beta2 = (float)(1 - loss->optimizer->beta2);
    }
    op->groups[0] = op->groups[1] = op->groups[2] = 1;
    vkl_plan_end(plan, op);
}

uint64_t vkl_norm_partials(uint64_t count)
{
    return (count + VKL_NORM_CHUNK - 1) / VKL_NORM_CHUNK;
}

static void advance(VklPlan *plan, const VklOptimize *optimize)
{
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_ADVANCE);
    if (!op)
        return;
    vkl_plan_bind(plan, op, 0, optimize->state, VKL_STATE_LOSS, VKL_READ_WRITE);
    struct VklAdvanceArgs *args = &op->args.ADVANCE;
    args->beta1 = (float)optimize->desc->beta1;
    args->one_minus_beta1 = (float)(1 - optimize->desc->beta1);
    args->beta2 = (float)optimize->desc->beta2;
    args->one_minus_beta2 = (float)(1 - optimize->desc->beta2);
    op->groups[0] = op->groups[1] = op->groups[2] = 1;
    vkl_plan_end(plan, op);
}

static void norm(VklPlan *plan, const VklOptimize *optimize)
{
    uint64_t partials = vkl_norm_partials(optimize->count);
    uint64_t chunks = smaller(vkl_plan_window(plan) / VKL_NORM_CHUNK, plan->caps->workgroups[0]);
    chunks = chunks ? chunks : 1;
    for (uint64_t chunk = 0; chunk < partials; chunk += chunks) {
        VklOp *op = vkl_plan_op(plan, VKL_KERNEL_NORM);
        if (!op)
            return;
        uint64_t first = chunk * VKL_NORM_CHUNK, count = smaller(chunks * VKL_NORM_CHUNK, optimize->count - first);
        uint64_t groups = vkl_norm_partials(count);
        vkl_plan_bind(plan, op, 0, vkl_array_at(optimize->grads, first), count, VKL_READ);
        vkl_plan_bind(plan, op, 1, vkl_array_at(optimize->partial, chunk), groups, VKL_WRITE);
        op->args.NORM.count = (uint32_t)count;
        op->spec[VKL_SPEC_FORM] = 0;
        op->groups[0] = (uint32_t)groups;
        op->groups[1] = op->groups[2] = 1;
        op->work = groups;
        op->work_cost = VKL_NORM_CHUNK;
        vkl_plan_end(plan, op);
    }
    VklOp *op = vkl_plan_op(plan, VKL_KERNEL_NORM);
    if (!op)
        return;
    vkl_plan_bind(plan, op, 0, optimize->partial, partials, VKL_READ);
    vkl_plan_bind(plan, op, 1, optimize->state, VKL_STATE_LOSS, VKL_READ_WRITE);
    op->args.NORM.count = (uint32_t)partials;
    op->args.NORM.max_norm = (float)optimize->desc->clip_norm;
    op->spec[VKL_SPEC_FORM] = 1;
    op->groups[0] = op->groups[1] = op->groups[2] = 1;
    vkl_plan_end(plan, op);
}

void vkl_plan_optimize(VklPlan *plan, const VklOptimize *optimize)
{
    const VklOptimizerDesc *desc = optimize->desc;
    if (optimize->advance)
        advance(plan, optimize);
    if (desc->clip_norm > 0)
        norm(plan, optimize);
    uint64_t chunk = vkl_plan_window(plan) / 2 & ~UINT64_C(3); /* two moments for each parameter */
    for (uint64_t first = 0; first < optimize->count; first += chunk) {
        VklOp *op = vkl_plan_op(plan, VKL_KERNEL_OPTIMIZER);
        if (!op)
            return;
        uint64_t count = smaller(chunk, optimize->count - first);
        vkl_plan_bind(plan, op, 0, vkl_array_at(optimize->params, first), count, VKL_READ_WRITE);
        vkl_plan_bind(plan, op, 1, vkl_array_at(optimize->grads, first), count, VKL_READ);
        vkl_plan_bind(plan, op, 2, vkl_array_at(optimize->moments, 2 * first), 2 * count, VKL_READ_WRITE);
        vkl_plan_bind(plan, op, 3, optimize->state, VKL_STATE_LOSS, VKL_READ);
        struct VklOptimizerArgs *args = &op->args.OPTIMIZER;
        args->count = (uint32_t)count;
        args->momentum = (float)desc->momentum;
        args->weight_decay = (float)desc->weight_decay;
        args->beta1 = (float)desc->beta1;
        args->one_minus_beta1 = (float)(1 - desc->beta1);
        args->beta2 = (float)desc->beta2;
        args->one_minus_beta2 = (float)(1 - desc->beta2);
        args->alpha = (float)desc->alpha;
        args->one_minus_alpha = (float)(1 - desc->alpha);
        args->epsilon = (float)desc->epsilon;
        args->clip_value = (float)desc->clip_value;
        args->use_clip_norm = desc->clip_norm > 0;
        op->spec[VKL_SPEC_FORM] = (uint32_t)desc->kind;
        vkl_plan_linear(plan, op, blocks(count, 4));
        op->work = count;
        op->work_cost = 16;
        vkl_plan_end(plan, op);
    }
}

void vkl_plan_activation_backward(VklPlan *plan, VklActivation activation, uint64_t count, VklArray gy, VklArray y, VklArray dz)
{
    uint64_t chunk = vkl_plan_window(plan);
    for (uint64_t first = 0; first < count; first += chunk) {
        VklOp *op = vkl_plan_op(plan, VKL_KERNEL_ACTIVATION_BACKWARD);
        if (!op)
            return;
        uint64_t part = smaller(chunk, count - first);
        vkl_plan_bind(plan, op, 0, vkl_array_at(gy, first), part, VKL_READ);
        vkl_plan_bind(plan, op, 1, vkl_array_at(y, first), part, VKL_READ);
        vkl_plan_bind(plan, op, 2, vkl_array_at(dz, first), part, VKL_WRITE);
        op->args.ACTIVATION_BACKWARD.count = (uint32_t)part;
        op->args.ACTIVATION_BACKWARD.activation = (uint32_t)activation;
        vkl_plan_linear(plan, op, part);
        op->work = part;
        vkl_plan_end(plan, op);
    }
}

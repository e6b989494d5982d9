/* SPDX-License-Identifier: MIT */
#include "plan_rnn.h"

#include "internal.h"

/* Arrays inside the arenas begin at multiples of 256 bytes, the largest alignment that Vulkan lets a device ask for, so that windows of
 * neighbours do not overlap. */
static uint64_t aligned(uint64_t floats)
{
    return (floats + 63) & ~UINT64_C(63);
}

static uint64_t layer_params(uint64_t inputs, uint64_t units)
{
    return 4 * units * (inputs + units + 2);
}

void vkl_rnn_place(const VklRnnDesc *desc, uint64_t T, uint64_t N, bool training, uint64_t layer, VklRnnPlace *place)
{
    uint64_t H = desc->hidden_size;
    place->inputs = layer ? H : desc->input_size;
    place->w_ih = layer ? layer_params(desc->input_size, H) + (layer - 1) * layer_params(H, H) : 0;
    place->w_hh = place->w_ih + place->inputs * 4 * H;
    place->bias = place->w_hh + H * 4 * H;

    uint64_t gates = aligned(T * N * 4 * H), h = aligned((T + 1) * N * H), c = aligned((T + 2) * N * H);
    place->h_stride = N * H;
    if (training) {
        place->gates = layer * (gates + h + c);
        place->h = place->gates + gates;
        place->c = place->h + h;
        place->c_stride = N * H;
    } else {
        place->gates = 0;
        place->h = gates + (layer % 2) * h;
        place->c = gates + (desc->layers > 1 ? 2 : 1) * h;
        place->c_stride = 0;
    }
}

bool vkl_rnn_measure(const VklRnnDesc *desc, uint64_t T, uint64_t N, VklRnnSizes *sizes)
{
    uint64_t I = desc->input_size, H = desc->hidden_size, L = desc->layers;
    uint64_t widest = I > H ? I : H, row, slots, all;
    /* The largest of each kind, in bytes, with room for the roundings; if these fit, every offset above does. */
    if (!vkl_add(widest, H, &row) || !vkl_add(row, 2, &row) || !vkl_mul(row, 4, &row) || !vkl_mul(row, H, &row) ||
        !vkl_mul(row, L, &row) || !vkl_mul(row, 4, &row))
        return false;
    if (!vkl_add(T, 2, &slots) || !vkl_mul(slots, N, &all) || !vkl_add(all, 64, &all) || !vkl_mul(all, widest, &all) ||
        !vkl_mul(all, 6 * 4, &all) || !vkl_mul(all, L, &all))
        return false;
    *sizes = (VklRnnSizes){.params = 4 * (layer_params(I, H) + (L - 1) * layer_params(H, H))};
    if (!T || !N)
        return true;
    uint64_t gates = aligned(T * N * 4 * H), h = aligned((T + 1) * N * H), c = aligned((T + 2) * N * H), step = aligned(N * H);
    sizes->state = 4 * L * N * H;
    sizes->reserve = 4 * L * (gates + h + c);
    sizes->forward_workspace = 4 * (gates + (L > 1 ? 2 : 1) * h + step);
    sizes->backward_workspace = 4 * ((L > 1 ? aligned(T * N * H) : 0) + 2 * step);
    return true;
}

static VklArray state_of(VklArray states, const VklRnnPass *pass, uint64_t layer)
{
    return vkl_has(states) ? vkl_array_at(states, layer * pass->N * pass->desc->hidden_size) : VKL_NO_ARRAY;
}

VklArray vkl_rnn_all_h(const VklRnnPass *pass)
{
    VklRnnPlace top;
    vkl_rnn_place(pass->desc, pass->T, pass->N, pass->training, pass->desc->layers - 1, &top);
    return vkl_array_at(pass->memory, top.h + top.h_stride);
}

VklArray vkl_rnn_last_h(const VklRnnPass *pass)
{
    return vkl_array_at(vkl_rnn_all_h(pass), (pass->T - 1) * pass->N * pass->desc->hidden_size);
}

static VklCopyPiece load_or_zero(VklArray arena, VklArray other, uint64_t count)
{
    return (VklCopyPiece){.mode = vkl_has(other) ? VKL_COPY_LOAD : VKL_COPY_ZERO, .arena = arena, .other = other, .count = count};
}

static VklCopyPiece store(VklArray other, VklArray arena, uint64_t count)
{
    return (VklCopyPiece){.mode = VKL_COPY_STORE, .arena = arena, .other = other, .count = count};
}

/* Appends to `pieces` what is there to store. */
static size_t add_store(VklCopyPiece *pieces, size_t count, VklArray other, VklArray arena, uint64_t elements)
{
    if (vkl_has(other))
        pieces[count++] = store(other, arena, elements);
    return count;
}

void vkl_plan_rnn_forward(VklPlan *plan, const VklRnnPass *pass)
{
    const VklRnnDesc *desc = pass->desc;
    uint64_t H = desc->hidden_size, T = pass->T, N = pass->N, step = N * H;
    VklArray x = pass->x;
    for (uint64_t layer = 0; layer < desc->layers && !plan->status; layer++) {
        VklRnnPlace place;
        vkl_rnn_place(desc, T, N, pass->training, layer, &place);
        VklArray gates = vkl_array_at(pass->memory, place.gates), h = vkl_array_at(pass->memory, place.h);
        VklArray c = vkl_array_at(pass->memory, place.c);
        if (!pass->zero_states)
            vkl_plan_copy(plan,
                          (VklCopyPiece[]){load_or_zero(h, state_of(pass->h0, pass, layer), step),
                                           load_or_zero(c, state_of(pass->c0, pass, layer), step)},
                          2);
        vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_NN,
                                       .m = T * N,
                                       .n = 4 * H,
                                       .k = place.inputs,
                                       .a = x,
                                       .b = vkl_array_at(pass->params, place.w_ih),
                                       .c = gates,
                                       .lda = place.inputs,
                                       .ldb = 4 * H,
                                       .ldc = 4 * H,
                                       .bias = vkl_array_at(pass->params, place.bias),
                                       .bias_rows = 2});
        for (uint64_t t = 0; t < T && !plan->status; t++)
            vkl_plan_lstm_forward(plan, &(VklCellForward){.rows = N,
                                                          .units = H,
                                                          .gates = vkl_array_at(gates, t * step * 4),
                                                          .w_hh = vkl_array_at(pass->params, place.w_hh),
                                                          .h_prev = vkl_array_at(h, t * place.h_stride),
                                                          .h_next = vkl_array_at(h, (t + 1) * place.h_stride),
                                                          .c_prev = vkl_array_at(c, t * place.c_stride),
                                                          .c_next = vkl_array_at(c, (t + 1) * place.c_stride),
                                                          .keep = pass->training});
        VklCopyPiece stores[3];
        size_t count = add_store(stores, 0, state_of(pass->hn, pass, layer), vkl_array_at(h, T * place.h_stride), step);
        count = add_store(stores, count, state_of(pass->cn, pass, layer), vkl_array_at(c, T * place.c_stride), step);
        if (layer == desc->layers - 1)
            count = add_store(stores, count, pass->y, vkl_array_at(h, place.h_stride), T * step);
        vkl_plan_copy(plan, stores, count);
        x = vkl_array_at(h, place.h_stride);
    }
}

/* Backward of one layer. `dy` is [T][N][H], or [N][H] of the last step with `dy_last`, or absent; the gradient to the layer's input goes to
 * `dx`, which may be absent. */
static void layer_backward(VklPlan *plan, const VklRnnPass *pass, uint64_t layer, VklArray x, VklArray dy, bool dy_last,
                           VklArray dx)
{
    const VklRnnDesc *desc = pass->desc;
    uint64_t H = desc->hidden_size, T = pass->T, N = pass->N, step = N * H;
    VklRnnPlace place;
    vkl_rnn_place(desc, T, N, true, layer, &place);
    VklArray gates = vkl_array_at(pass->memory, place.gates), h = vkl_array_at(pass->memory, place.h);
    VklArray c = vkl_array_at(pass->memory, place.c);
    VklArray w_ih = vkl_array_at(pass->params, place.w_ih), w_hh = vkl_array_at(pass->params, place.w_hh);
    VklArray dh = vkl_array_at(pass->workspace, desc->layers > 1 ? aligned(T * step) : 0);
    VklArray last = vkl_array_at(dh, aligned(step));

    VklArray ghn = state_of(pass->ghn, pass, layer), gcn = state_of(pass->gcn, pass, layer);
    VklArray dy_end = vkl_has(dy) ? vkl_array_at(dy, dy_last ? 0 : (T - 1) * step) : VKL_NO_ARRAY;
    if (vkl_has(ghn) && vkl_has(dy)) { /* dy is not ours to change */
        vkl_plan_copy(plan, &(VklCopyPiece){.mode = VKL_COPY_LOAD, .arena = last, .other = dy_end, .count = step}, 1);
        vkl_plan_copy(plan, &(VklCopyPiece){.mode = VKL_COPY_ADD, .arena = last, .other = ghn, .count = step}, 1);
        dy_end = last;
    } else if (vkl_has(ghn)) {
        dy_end = ghn;
    }
    if (vkl_has(gcn))
        vkl_plan_copy(
            plan, &(VklCopyPiece){.mode = VKL_COPY_LOAD, .arena = vkl_array_at(c, (T + 1) * step), .other = gcn, .count = step},
            1);

    for (uint64_t t = T; t-- > 0 && !plan->status;) {
        bool end = t == T - 1;
        VklArray dy_t = end ? dy_end : vkl_has(dy) && !dy_last ? vkl_array_at(dy, t * step) : VKL_NO_ARRAY;
        vkl_plan_lstm_backward(plan,
                               &(VklCellBackward){.rows = N,
                                                  .units = H,
                                                  .gates = vkl_array_at(gates, t * step * 4),
                                                  .gates_next = end ? VKL_NO_ARRAY : vkl_array_at(gates, (t + 1) * step * 4),
                                                  .w_hh = w_hh,
                                                  .dy = dy_t,
                                                  .dh = dh,
                                                  .c = vkl_array_at(c, (t + 1) * step),
                                                  .c_prev = vkl_array_at(c, t * step),
                                                  .dc_in = end && !vkl_has(gcn) ? VKL_NO_ARRAY : vkl_array_at(c, (t + 2) * step),
                                                  .dc_out = vkl_array_at(c, (t + 1) * step)});
    }

    /* From here on `gates` are gradients, and products over all time steps are one GEMM each. */
    VklGemm product = {.lda = 4 * H, .ldb = 4 * H, .a = gates};
    product.form = VKL_GEMM_NT;
    product.k = 4 * H;
    if (vkl_has(dx)) {
        product.m = T * N;
        product.n = product.ldc = place.inputs;
        product.b = w_ih;
        product.c = dx;
        vkl_plan_gemm(plan, &product);
    }
    if (vkl_has(pass->dh0)) {
        product.m = N;
        product.n = product.ldc = H;
        product.b = w_hh;
        product.c = state_of(pass->dh0, pass, layer);
        vkl_plan_gemm(plan, &product);
    }
    if (vkl_has(pass->dc0))
        vkl_plan_copy(plan, (VklCopyPiece[]){store(state_of(pass->dc0, pass, layer), vkl_array_at(c, step), step)}, 1);
    if (vkl_has(pass->dparams)) {
        /* dW_ih, dW_hh and both biases lie one after the other: one product with x, h[t-1] and ones on its left */
        vkl_plan_gemm(plan, &(VklGemm){.form = VKL_GEMM_TN,
                                       .m = place.inputs + H + 2,
                                       .n = 4 * H,
                                       .k = T * N,
                                       .a = x,
                                       .b = gates,
                                       .c = vkl_array_at(pass->dparams, place.w_ih),
                                       .lda = place.inputs,
                                       .ldb = 4 * H,
                                       .ldc = 4 * H,
                                       .accumulate = pass->accumulate,
                                       .a_second = h,
                                       .m_first = place.inputs,
                                       .lda_second = H,
                                       .ones = 2});
    }
}

void vkl_plan_rnn_backward(VklPlan *plan, const VklRnnPass *pass)
{
    const VklRnnDesc *desc = pass->desc;
    VklArray dy = pass->gy;
    bool dy_last = pass->gy_last;
    for (uint64_t layer = desc->layers; layer-- > 0 && !plan->status;) {
        VklArray x = pass->x, dx = pass->dx;
        if (layer) {
            VklRnnPlace below;
            vkl_rnn_place(desc, pass->T, pass->N, true, layer - 1, &below);
            x = vkl_array_at(pass->memory, below.h + below.h_stride);
            dx = pass->workspace; /* dy of the layer below */
        }
        layer_backward(plan, pass, layer, x, dy, dy_last, dx);
        dy = dx;
        dy_last = false;
    }
}

/* SPDX-License-Identifier: MIT
 *
 * What the forward and the backward planner of recurrent layers share: a pass with its memory, and where things are in it. */
#ifndef VKL_PLAN_RNN_PASS_H
#define VKL_PLAN_RNN_PASS_H

#include "internal.h"
#include "plan_build.h"
#include "plan_rnn.h"

#define VKL_RNN_NONE UINT64_MAX /* in VklRnnPlace: there is no such tensor */

/* Of one layer. */
typedef struct Memory {
    VklArray drawn, h;
    VklArray gates[2], c[2], rh[2], m[2]; /* by direction */
    VklArray wide, halves; /* storage of halves: where those lie that are kept so, and where they are kept; else absent */
    uint64_t wide_count;
} Memory;

/* For one direction of one step, and for what is prepared once. All in one arena that a kernel binds whole. */
typedef struct Side {
    VklArray begin;
    uint64_t count, whole; /* whole: with what steps of one dispatch have there besides */
    uint64_t rec, back, spare,
        carry; /* recurrent products [N][columns], their gradients [N][max(P, H)] twice, carried gradients, for each direction [N][P] */
    uint64_t lengths, peephole, bias, zeros;
    uint64_t mask; /* factors of recurrent dropout [D][masks][N][P] */
} Side;

typedef struct Arena {
    VklArray base;
    uint64_t used;
} Arena;

/* The workspace of a forward or a backward pass. */
typedef struct Work {
    Side side;
    VklArray params;   /* storage of halves: the parameters with rounded matrices */
    VklArray packed;   /* and all of them as halves, two and two, for kernels that read W so */
    VklArray x;        /* batch_first: x in time-major order */
    VklArray dy[2];    /* gradients of layers' outputs, in turn [T][N][.] */
    VklArray dh;       /* projection: total gradients of h for each direction [T][N][P]; fused: one step */
    VklArray last;     /* fused: gradient of the last step with ghn */
    VklArray carries;  /* layers side by side: what each carries to its next step [L][N][H] */
    VklArray spread;   /* skip input, both directions: gradient of x of the second */
    VklArray products; /* for partial sums of the weights' gradients */
    uint64_t products_count;
    Arena rest; /* what lay_out() takes from `other` */
} Work;

typedef struct Layers {
    VklPlan *plan;
    const VklRnnPass *pass;
    const VklRnnDesc *desc;
    VklRnnForm form;
    uint64_t T, N, H;
    bool fused;
    bool rebuild; /* forward again inside backward: the initial states are in their slots */
    Work work;
} Layers;

/* A matrix [T][N][columns] in rows that are ld apart. */
typedef struct View {
    VklArray at;
    uint64_t ld;
} View;

/* Everything about a pass but the calls. */
Layers vkl_rnn_layers(VklPlan *plan, const VklRnnPass *pass, bool backward);
Memory vkl_rnn_memory(const Layers *layers, uint64_t layer);
bool vkl_rnn_skips(const VklRnnDesc *desc, uint64_t layer);

/* The draw of a layer's masks: of its input, or of h as operand of the recurrent product. */
VklDraw vkl_rnn_draw(const Layers *layers, uint64_t layer, uint64_t d, bool recurrent, double p);
/* dst [N][P] = or += mask of gate g * src [N][P] */
void vkl_rnn_mask_rows(const Layers *layers, uint64_t layer, uint64_t d, uint64_t g, VklArray dst, uint64_t dst_row, VklArray src,
                       uint64_t src_row, bool add);
/* What the side arena holds for a direction before its first step. */
void vkl_rnn_prepare_side(const Layers *layers, const VklRnnPlace *place);

/* Storage of halves (else nothing): the parameters that a pass reads, before all else; what a layer's backward needs into the reserve after
 * its forward, and out of it before its backward. */
void vkl_rnn_round_params(const Layers *layers);
void vkl_rnn_pack_params(const Layers *layers, uint64_t layer, uint64_t d); /* for steps that read them */
void vkl_rnn_keep_halves(const Layers *layers, const Memory *memory);
void vkl_rnn_restore_halves(const Layers *layers, const Memory *memory);

/* x as the pass reads it: in time-major order, in backward with zeros past the ends of rows. */
View vkl_rnn_input(const Layers *layers, bool backward);
/* A layer's input after dropout, which is the same again in backward. */
View vkl_rnn_draw_input(const Layers *layers, const Memory *memory, uint64_t layer, View x);
/* What a layer hands on. */
View vkl_rnn_output_of(const Layers *layers, const Memory *memory);
/* All steps of some directions: gates, c and h of a layer from its input. */
void vkl_rnn_forward_directions(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                                View x);

static inline void move(const Layers *layers, VklArray dst, uint64_t dst_row, VklArray src, uint64_t src_row, uint64_t rows,
                        uint64_t columns, bool add)
{
    vkl_plan_move(layers->plan, &(VklMove){.dst = dst,
                                           .src = src,
                                           .steps = 1,
                                           .rows = rows,
                                           .columns = columns,
                                           .dst_row = dst_row,
                                           .src_row = src_row,
                                           .add = add});
}

static inline bool reverse_of(const Layers *layers, uint64_t d)
{
    return layers->desc->direction == VKL_DIRECTION_REVERSE || d == 1;
}

/* Slots of h and c: step t of both directions is t + 1. */
static inline uint64_t slot_before(const Layers *layers, uint64_t d, uint64_t t)
{
    return reverse_of(layers, d) ? t + 2 : t;
}

static inline uint64_t first_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? layers->T + 1 : 0;
}

static inline uint64_t last_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? 1 : layers->T;
}

static inline uint64_t far_slot(const Layers *layers, uint64_t d)
{
    return reverse_of(layers, d) ? 0 : layers->T + 1;
}

static inline VklArray h_at(const Layers *layers, const Memory *memory, uint64_t slot, uint64_t column)
{
    return vkl_array_at(memory->h, slot * layers->N * layers->form.h_ld + column);
}

static inline VklArray c_at(const Layers *layers, const Memory *memory, uint64_t d, uint64_t slot)
{
    return vkl_array_at(memory->c[d], slot * layers->N * layers->H);
}

static inline VklArray gates_at(const Layers *layers, const Memory *memory, uint64_t d, uint64_t t)
{
    return vkl_array_at(memory->gates[d], t * layers->N * layers->form.width);
}

static inline VklArray step_of(const Layers *layers, VklArray array, uint64_t t, uint64_t width)
{
    return vkl_has(array) ? vkl_array_at(array, t * layers->N * width) : VKL_NO_ARRAY;
}

static inline VklArray side_at(const Layers *layers, uint64_t at)
{
    return vkl_array_at(layers->work.side.begin, at);
}

static inline VklArray state_of(const Layers *layers, VklArray states, uint64_t layer, uint64_t d, uint64_t width)
{
    return vkl_has(states) ? vkl_array_at(states, (layer * layers->form.D + d) * layers->N * width) : VKL_NO_ARRAY;
}

/* A tensor as the pass reads it. */
static inline VklArray param(const Layers *layers, uint64_t at)
{
    bool halves = layers->desc->storage == VKL_STORAGE_FLOAT16;
    return at == VKL_RNN_NONE ? VKL_NO_ARRAY : vkl_array_at(halves ? layers->work.params : layers->pass->params, at);
}

/* Whether steps of one dispatch read a matrix that begins there as packed halves, and where it is then. */
static inline bool reads_halves(const Layers *layers, uint64_t at)
{
    return layers->desc->storage == VKL_STORAGE_FLOAT16 && layers->plan->caps->arch == VKL_ARCH_GPU && at % 4 == 0;
}

static inline VklArray packed_param(const Layers *layers, uint64_t at)
{
    return vkl_array_at(layers->work.packed, at / 2);
}

static inline VklArray gradient(const Layers *layers, uint64_t at)
{
    return at == VKL_RNN_NONE ? VKL_NO_ARRAY : vkl_array_at(layers->pass->dparams, at);
}

/* The column of h that is operand of gate g's recurrent product: h itself, or a masked copy. */
static inline uint64_t operand_column(const Layers *layers, uint64_t d, uint64_t g)
{
    const VklRnnForm *form = &layers->form;
    if (!form->masks)
        return d * form->P;
    return form->masked_at + (d * form->masks + (form->masks > 1 ? g : 0)) * form->P;
}

/* GRU's gates r z n, as masks count them: where all gates share a mask, any of them is that one. */
#define CANDIDATE 2

/* GRU before: what r multiplies in a slot, the operand of the candidate's product. */
static inline VklArray candidate_operand(const Layers *layers, const Memory *memory, uint64_t d, uint64_t slot)
{
    return layers->form.gru_before ? h_at(layers, memory, slot, operand_column(layers, d, CANDIDATE)) : VKL_NO_ARRAY;
}

static inline uint32_t packed_kinds(const VklActivationDesc activations[3])
{
    return (uint32_t)activations[0].kind | (uint32_t)activations[1].kind << 8 | (uint32_t)activations[2].kind << 16;
}

static inline VklOperand operand_of(const Cover *whole, int access)
{
    return (VklOperand){whole->begin, vkl_has(whole->begin) ? whole->end - whole->begin.at : 0,
                        vkl_has(whole->begin) ? access : 0};
}

static inline uint64_t rows_reach(const Layers *layers, uint64_t ld, uint64_t columns)
{
    return (layers->N - 1) * ld + columns;
}

static inline VklArray carry_at(const Layers *layers, uint64_t d)
{
    return side_at(layers, layers->work.side.carry + d * aligned(layers->N * layers->form.P));
}

/* How the time steps of a layer's pass are done. */
typedef enum Way {
    WAY_PIECES,   /* product and cell apart, a direction after the other; a plain LSTM's by its own kernels */
    WAY_STEPS,    /* a dispatch for each step and direction */
    WAY_TOGETHER, /* a dispatch for each step of both directions */
    WAY_SEQUENCE, /* all of them in one op, which `sequence` then holds */
    WAY_WAVE      /* a dispatch for a step of each layer: not a layer's own way, but the pass's */
} Way;
Way vkl_rnn_way(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions, bool backward,
                VklSequence *sequence);

/* Steps in one dispatch. Possible: for each direction by itself; together: for both in one. */
bool vkl_rnn_steps_possible(const Layers *layers, const Memory *memory, uint64_t layer, bool backward, bool *pays);
bool vkl_rnn_steps_together(const Layers *layers, const Memory *memory, uint64_t layer, bool backward);
void vkl_rnn_prepare_steps(const Layers *layers, uint64_t layer, uint64_t d, uint64_t directions);
/* Step s in the order of the pass. gy: of each part at that step; carried: there is something in the carry before the first. */
void vkl_rnn_step_forward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                          uint64_t s);
void vkl_rnn_step_backward(const Layers *layers, const Memory *memory, uint64_t layer, uint64_t d, uint64_t directions,
                           uint64_t s, const View gy[2], bool carried);

/* Layers side by side, where the path asks for it. Whether a description allows it; whether a pass takes it, which fails where it cannot; how many
 * layers an inference has memory for at once. */
bool vkl_rnn_waves(const VklRnnDesc *desc);
bool vkl_rnn_wave(const Layers *layers, bool backward);
uint64_t vkl_rnn_layers_kept(const VklRnnDesc *desc);
/* All steps of all layers. carried: there is something in the carry before the first step, of the top layer and of the others. */
void vkl_rnn_wave_forward(const Layers *layers);
void vkl_rnn_wave_backward(const Layers *layers, View gy, bool carried, bool carried_top);

/* Backward keeps the gradient of c before step t in this slot of c. */
static inline uint64_t vkl_rnn_slot_of_dc(const Layers *layers, uint64_t d, uint64_t t)
{
    return layers->desc->peephole ? far_slot(layers, d) : t + 1;
}

/* Projection: total gradients of h of a direction [T][N][P]. */
static inline VklArray vkl_rnn_dh(const Layers *layers, uint64_t d)
{
    return vkl_array_at(layers->work.dh, d * aligned(layers->T * layers->N * layers->form.P));
}

static inline uint32_t lengths_at(const Layers *layers)
{
    return vkl_has(layers->pass->lengths) ? (uint32_t)layers->work.side.lengths : VKL_ABSENT;
}

static inline uint32_t at_or_absent(bool there, uint64_t at)
{
    return there ? (uint32_t)at : VKL_ABSENT;
}

static inline uint32_t or_zero(uint32_t position)
{
    return position == VKL_ABSENT ? 0 : position;
}

/* Time-major or the caller's order: the strides of x, y and their gradients. */
static inline uint64_t outer_step(const Layers *layers, uint64_t columns)
{
    return layers->desc->batch_first ? columns : layers->N * columns;
}

static inline uint64_t outer_row(const Layers *layers, uint64_t columns)
{
    return layers->desc->batch_first ? layers->T * columns : columns;
}

#endif

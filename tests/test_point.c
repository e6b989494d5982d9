/* SPDX-License-Identifier: MIT
 *
 * The POINT kernels, each alone on the device of the environment, against the equations of shaders/interface.h in double precision.
 * What must come out of backward are finite differences of the double forward, so that no derivative is written down twice. Each case
 * runs twice and must give the same bits; what is not the kernel's must stay as it was, also between the rows of its arrays.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KINDS (VKL_GATE_SOFTPLUS + 1)

typedef enum Cell { LSTM, GRU_AFTER, GRU_BEFORE, RNN } Cell;

typedef struct Case {
    Cell cell;
    uint32_t rows, units;
    bool interleaved; /* gates of a unit side by side, else gate by gate */
    uint32_t f, g, h; /* VklGateActivation */
    float preact_clip, cell_clip;
    bool coupled, peephole, lengths, in_place; /* peephole: GRU's bias */
    bool bare;                                 /* without rec, gy, dc_in and, forward, KEEP */
    bool projected;                            /* LSTM: without h_prev and carry */
    bool extreme;
    const float *fixed; /* x of four gates and c_prev of every unit, which lie on the ends of a clip: */
    uint32_t zero;      /* those, as bits, whose derivative is 0; the others have what they have without clips */
} Case;

/* alpha and beta; default values where they matter least, odd ones where a mistake would show; beta x of scaled tanh is exact */
static const float parameters[KINDS][2] = {
    [VKL_GATE_HARD_SIGMOID] = {0.2f, 0.5f},  [VKL_GATE_AFFINE] = {0.7f, -0.3f},     [VKL_GATE_LEAKY_RELU] = {0.1f, 0},
    [VKL_GATE_THRESHOLDED_RELU] = {0.6f, 0}, [VKL_GATE_SCALED_TANH] = {1.3f, 0.5f}, [VKL_GATE_ELU] = {0.9f, 0},
};

/* ---- Equations ---- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double activation(uint32_t kind, double x)
{
    double alpha = parameters[kind][0], beta = parameters[kind][1];
    switch (kind) {
    case VKL_GATE_SIGMOID:
        return sigmoid(x);
    case VKL_GATE_TANH:
        return tanh(x);
    case VKL_GATE_RELU:
        return x <= 0 ? 0 : x;
    case VKL_GATE_HARD_SIGMOID:
        x = alpha * x + beta;
        return x < 0 ? 0 : x > 1 ? 1 : x;
    case VKL_GATE_AFFINE:
        return alpha * x + beta;
    case VKL_GATE_LEAKY_RELU:
        return x < 0 ? alpha * x : x;
    case VKL_GATE_THRESHOLDED_RELU:
        return x <= alpha ? 0 : x;
    case VKL_GATE_SCALED_TANH:
        return alpha * tanh(beta * x);
    case VKL_GATE_ELU:
        return x < 0 ? alpha * expm1(x) : x;
    case VKL_GATE_SOFTSIGN:
        return x / (1 + fabs(x));
    default:
        return log1p(exp(-fabs(x))) + (x < 0 ? 0 : x);
    }
}

static double derivative(uint32_t kind, double x)
{
    double alpha = parameters[kind][0], beta = parameters[kind][1], y;
    switch (kind) {
    case VKL_GATE_SIGMOID:
        return sigmoid(x) * sigmoid(-x);
    case VKL_GATE_TANH:
        return 1 / (cosh(x) * cosh(x));
    case VKL_GATE_RELU:
        return x > 0;
    case VKL_GATE_HARD_SIGMOID:
        y = alpha * x + beta;
        return y > 0 && y < 1 ? alpha : 0;
    case VKL_GATE_AFFINE:
        return alpha;
    case VKL_GATE_LEAKY_RELU:
        return x < 0 ? alpha : 1;
    case VKL_GATE_THRESHOLDED_RELU:
        return x > alpha;
    case VKL_GATE_SCALED_TANH:
        return alpha * beta / (cosh(beta * x) * cosh(beta * x));
    case VKL_GATE_ELU:
        return x < 0 ? alpha * exp(x) : 1;
    case VKL_GATE_SOFTSIGN:
        return 1 / ((1 + fabs(x)) * (1 + fabs(x)));
    default:
        return sigmoid(x);
    }
}

static double clipped(double x, double limit)
{
    return limit == 0 ? x : x > limit ? limit : x < -limit ? -limit : x;
}

/* What one unit of one row sees. x: the gates' row with the recurrent product (and GRU's bias) in it; GRU n's without r q, r, z, q. */
enum { X = 0, C_PREV = 4, H_PREV = 5, OPERAND = 6, VARIABLES = 7 };

typedef struct Unit {
    double v[VARIABLES];
    double p[3];
    double dh, dc, drh; /* gradients of h, of c and of r times the operand */
    bool frozen;
} Unit;

typedef struct Result {
    double raw[4], h, c, rh;
} Result;

static Result step(const Case *t, const Unit *u)
{
    const double *v = u->v;
    double a[3];
    Result r = {.raw = {v[0], v[1], v[2], v[3]}, .h = v[H_PREV], .c = v[C_PREV]};
    if (u->frozen)
        return r;
#define GATE(kind, x) activation(kind, clipped(x, t->preact_clip))
    switch (t->cell) {
    case LSTM:
        if (t->peephole) {
            r.raw[0] += u->p[0] * v[C_PREV];
            r.raw[1] += u->p[1] * v[C_PREV];
        }
        a[0] = GATE(t->f, r.raw[0]);
        a[1] = t->coupled ? 1 - a[0] : GATE(t->f, r.raw[1]);
        a[2] = GATE(t->g, r.raw[2]);
        r.c = clipped(a[1] * v[C_PREV] + a[0] * a[2], t->cell_clip);
        if (t->peephole)
            r.raw[3] += u->p[2] * r.c;
        r.h = GATE(t->f, r.raw[3]) * activation(t->h, r.c);
        break;
    case GRU_AFTER:
    case GRU_BEFORE:
        a[0] = GATE(t->f, v[1]);
        a[1] = GATE(t->f, v[2]);
        if (t->cell == GRU_AFTER)
            r.raw[0] += a[0] * v[3];
        r.rh = a[0] * v[OPERAND];
        r.h = (1 - a[1]) * GATE(t->g, r.raw[0]) + a[1] * v[H_PREV];
        break;
    case RNN:
        r.h = GATE(t->f, v[0]);
    }
#undef GATE
    return r;
}

/* d(dh h + dc c + drh rh) / dv[which] by a central difference, whose error is about 1e-10. */
static double slope(const Case *t, const Unit *u, int which)
{
    Unit more = *u, less = *u;
    more.v[which] += 1e-5;
    less.v[which] -= 1e-5;
    Result a = step(t, &more), b = step(t, &less);
    double difference = u->dh * (a.h - b.h);
    if (t->cell == LSTM)
        difference += u->dc * (a.c - b.c);
    if (t->cell == GRU_BEFORE)
        difference += u->drh * (a.rh - b.rh);
    return difference / (more.v[which] - less.v[which]);
}

/* ---- Four arrays and a call ---- */

#define PAD 7    /* elements around an array */
#define SLICE 20 /* bytes before the slice */
#define FIRST (SLICE / 4 + PAD)

/* Elements are left alone unless somebody says what the kernel is to do with them. */
enum { UNTOUCHED = 0, WRITTEN = 1, ANY = 2 };

typedef struct Array {
    uint64_t count;
    float *initial, *got, *again;
    double *want;
    uint8_t *state;
    VklBuffer *buffer;
    int access;
} Array;

typedef struct Rig {
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
    VklCaps caps;
    Array arrays[4];
} Rig;

static const VklSlot slots[4] = {VKL_SLOT_X, VKL_SLOT_CN, VKL_SLOT_Y, VKL_SLOT_STATE};

static void rig_begin(Rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    rig->context = test_context();
    rig->device = test_device(rig->context);
    rig->caps = rig->device->caps;
    TEST_OK(rig->context, vkl_stream_create(rig->device, &rig->stream));
}

static void rig_clear(Rig *rig)
{
    for (int i = 0; i < 4; i++) {
        Array *array = &rig->arrays[i];
        free(array->initial);
        free(array->got);
        free(array->again);
        free(array->want);
        free(array->state);
        vkl_buffer_destroy(array->buffer);
    }
    memset(rig->arrays, 0, sizeof(rig->arrays));
}

static void rig_end(Rig *rig)
{
    rig_clear(rig);
    vkl_stream_destroy(rig->stream);
    vkl_device_destroy(rig->device);
    vkl_context_destroy(rig->context);
}

/* `count` random numbers surrounded by NaN; returns them, to be changed at will. */
static float *rig_array(Rig *rig, int binding, uint64_t count, int access)
{
    Array *array = &rig->arrays[binding];
    uint64_t elements = count + 2 * PAD + SLICE / 4;
    *array = (Array){.count = count, .access = access};
    array->initial = malloc(elements * sizeof(float));
    array->got = malloc(elements * sizeof(float));
    array->again = malloc(elements * sizeof(float));
    array->want = calloc(count, sizeof(double));
    array->state = calloc(count, 1);
    cr_assert(array->initial && array->got && array->again && array->want && array->state);
    for (uint64_t i = 0; i < elements; i++)
        array->initial[i] = NAN;
    test_random(array->initial + FIRST, count, 3 + (uint32_t)binding, 1);
    TEST_OK(rig->context, vkl_buffer_create(rig->device, VKL_BUFFER_DEVICE, elements * sizeof(float), &array->buffer));
    return array->initial + FIRST;
}

static void expect(Rig *rig, int binding, uint64_t at, double want)
{
    cr_assert_lt(at, rig->arrays[binding].count);
    rig->arrays[binding].want[at] = want;
    rig->arrays[binding].state[at] = WRITTEN;
}

static void rig_run(Rig *rig, VklKernel kernel, const VklArgs *args, uint64_t rows, uint64_t units)
{
    VklPlan plan;
    VklOperand operands[4] = {0};
    VklSlice slices[VKL_SLOT_COUNT] = {{0}};
    VklExec *exec = NULL;
    vkl_plan_init(&plan, &rig->caps);
    for (int i = 0; i < 4; i++)
        if (rig->arrays[i].buffer) {
            operands[i] = (VklOperand){vkl_array(slots[i], PAD), rig->arrays[i].count, rig->arrays[i].access};
            slices[slots[i]] = vkl_slice(rig->arrays[i].buffer, SLICE);
        }
    vkl_plan_call(&plan, kernel, 0, rows * units, operands, args, rows, units * 200);
    TEST_OK(rig->context, vkl_exec_create(rig->device, &plan, slices, "test", NULL, &exec));
    for (int time = 0; time < 2; time++) {
        for (int i = 0; i < 4; i++)
            if (rig->arrays[i].buffer)
                TEST_OK(rig->context, vkl_stream_write(rig->stream, vkl_slice(rig->arrays[i].buffer, 0), rig->arrays[i].initial,
                                                       vkl_buffer_size(rig->arrays[i].buffer)));
        TEST_OK(rig->context, vkl_exec_record(exec, rig->stream));
        for (int i = 0; i < 4; i++)
            if (rig->arrays[i].buffer)
                TEST_OK(rig->context, vkl_stream_read(rig->stream, vkl_slice(rig->arrays[i].buffer, 0),
                                                      time ? rig->arrays[i].again : rig->arrays[i].got,
                                                      vkl_buffer_size(rig->arrays[i].buffer)));
        TEST_OK(rig->context, vkl_stream_wait(rig->stream));
    }
    vkl_exec_release(exec);
}

/* About twenty roundings of half a unit in the last place each, a few of them in a gate, whose formulas are good to 2 units. */
#define TOLERANCE 2e-6
/* With extreme gates c may be some tens, whose last place, 2e-6, is multiplied by 2 in tanh'(c) = 4 e^-2c, which may be what counts. */
#define EXTREME_TOLERANCE 2e-5

static void rig_check(Rig *rig, const char *what, double tolerance)
{
    static const char *const names[4] = {"gates", "c or rh", "h", "side"};
    for (int i = 0; i < 4; i++) {
        Array *array = &rig->arrays[i];
        if (!array->buffer)
            continue;
        uint64_t elements = vkl_buffer_size(array->buffer) / sizeof(float);
        size_t n = 0;
        float *got = malloc(elements * sizeof(float));
        double *want = malloc(elements * sizeof(double));
        char name[256];
        cr_assert(got && want);
        snprintf(name, sizeof(name), "%s: %s", what, names[i]);
        cr_assert(!memcmp(array->got, array->again, elements * sizeof(float)), "%s: other bits in the second run", name);
        for (uint64_t e = 0; e < elements; e++) {
            int state = e >= FIRST && e < FIRST + array->count ? array->state[e - FIRST] : UNTOUCHED;
            cr_assert(state != UNTOUCHED || !memcmp(&array->got[e], &array->initial[e], sizeof(float)),
                      "%s: element %lld of %llu was changed; it is not the kernel's", name, (long long)e - FIRST,
                      (unsigned long long)array->count);
            if (state == WRITTEN) {
                got[n] = array->got[e];
                want[n++] = array->want[e - FIRST];
            }
        }
        if (n)
            test_compare(name, got, want, n, tolerance);
        free(got);
        free(want);
    }
}

/* ---- Cases: where everything lies ---- */

static int gates_of(const Case *t)
{
    return t->cell == RNN ? 1 : t->cell == GRU_BEFORE ? 3 : 4;
}

typedef struct Layout {
    uint32_t gates, gates_ld, unit_stride, gate_stride;
    uint32_t rec, rec_ld, rec_gate_stride;
    uint32_t lengths, peephole, carry, out, side; /* positions in side, and its elements */
    uint32_t ld, n;                               /* of h and gy; elements of one time step of these */
} Layout;

static Layout layout_of(const Case *t)
{
    uint32_t gates = (uint32_t)gates_of(t);
    Layout l = {
        .gates = gates,
        .gates_ld = gates * t->units + 3,
        .unit_stride = t->interleaved ? gates : 1,
        .gate_stride = t->interleaved ? 1 : t->units,
        .rec = 2,
        .rec_ld = gates * t->units + 2,
        .rec_gate_stride = t->interleaved ? 1 : t->units,
        .ld = t->units + 2,
        .n = t->rows * (t->units + 2),
    };
    l.lengths = l.rec + t->rows * l.rec_ld + 1;
    l.peephole = l.lengths + t->rows + 1;
    l.carry = l.peephole + 3 * t->units + 1;
    l.out = l.carry + t->rows * t->units + 1;
    l.side = l.out + t->rows * l.rec_ld;
    return l;
}

static uint64_t gate_at(const Layout *l, uint32_t row, uint32_t unit, uint32_t gate)
{
    return (uint64_t)row * l->gates_ld + (uint64_t)unit * l->unit_stride + (uint64_t)gate * l->gate_stride;
}

static const float extremes[] = {1e4f, -1e4f, 0.25f, -1e4f, -88.5f, 1e4f, -0.75f, 1e4f, 95.0f, -300.0f, 3e4f};

/* Numbers of a size at which activations bend, or extreme ones. */
static void fill_gates(const Case *t, float *gates, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        gates[i] = t->extreme ? extremes[i * 7 % COUNT(extremes)] : 2 * gates[i];
}

/* Lengths around the step, 0 included. */
#define STEP 3u
static void fill_lengths(const Case *t, const Layout *l, float *side)
{
    static const uint32_t lengths[] = {STEP + 1, STEP, 100, 0, STEP - 1, STEP + 2};
    for (uint32_t row = 0; row < t->rows; row++)
        memcpy(&side[l->lengths + row], &lengths[row % COUNT(lengths)], sizeof(float));
}

static bool frozen(const Case *t, const Layout *l, const float *side, uint32_t row)
{
    uint32_t length;
    memcpy(&length, &side[l->lengths + row], sizeof(length));
    return t->lengths && STEP >= length;
}

static const char *describe(const Case *t, const char *what)
{
    static char text[200];
    static const char *const cells[] = {"LSTM", "GRU", "GRU before", "RNN"};
    snprintf(text, sizeof(text), "%s %s, %u x %u, activations %u %u %u, clips %g %g%s%s%s", what, cells[t->cell], t->rows,
             t->units, t->f, t->g, t->h, (double)t->preact_clip, (double)t->cell_clip, t->coupled ? ", coupled" : "",
             t->peephole ? ", peephole" : "", t->lengths ? ", lengths" : "");
    return text;
}

#define NOWHERE UINT32_MAX

/* One element to be NaN: gate `gate` of a unit of a row. */
typedef struct Place {
    uint32_t row, unit, gate;
} Place;

#define FILL_ACTIVATIONS(a, t)                                                                          \
    do {                                                                                                \
        (a)->kinds = (t)->f | (t)->g << 8 | (t)->h << 16;                                               \
        (a)->alpha0 = parameters[(t)->f][0], (a)->beta0 = parameters[(t)->f][1];                        \
        (a)->alpha1 = parameters[(t)->g][0], (a)->beta1 = parameters[(t)->g][1];                        \
        (a)->alpha2 = parameters[(t)->h][0], (a)->beta2 = parameters[(t)->h][1];                        \
        (a)->preact_clip = (t)->preact_clip, (a)->cell_clip = (t)->cell_clip;                           \
        (a)->lengths = (t)->lengths ? l.lengths : VKL_ABSENT;                                           \
        (a)->peephole = (t)->peephole ? l.peephole : VKL_ABSENT;                                        \
        (a)->rows = (t)->rows, (a)->units = (t)->units, (a)->t = STEP;                                  \
        (a)->gates_ld = l.gates_ld, (a)->gate_stride = l.gate_stride, (a)->unit_stride = l.unit_stride; \
    } while (0)

/* ---- Forward ---- */

/* `phase`: of GRU before, VKL_POINT_FIRST or VKL_POINT_SECOND, else 0. */
static void forward_check(Rig *rig, const Case *t, uint32_t phase, const Place *nan, const char *what)
{
    static const VklKernel kernels[] = {VKL_KERNEL_LSTM_POINT_FORWARD, VKL_KERNEL_GRU_POINT_FORWARD, VKL_KERNEL_GRU_POINT_FORWARD,
                                        VKL_KERNEL_RNN_POINT_FORWARD};
    const bool lstm = t->cell == LSTM, first = phase == VKL_POINT_FIRST, second = phase == VKL_POINT_SECOND;
    const bool keep = first || !t->bare;
    const Layout l = layout_of(t);
    const uint32_t cells = t->rows * t->units;
    const uint32_t h_next = t->in_place ? 0 : l.n, c_next = t->in_place ? 0 : cells;
    float *gates = rig_array(rig, 0, (uint64_t)t->rows * l.gates_ld, keep ? VKL_READ_WRITE : VKL_READ);
    float *c = lstm    ? rig_array(rig, 1, 2 * (uint64_t)cells, VKL_READ_WRITE)
               : first ? rig_array(rig, 1, (uint64_t)t->rows * (t->units + 1), VKL_WRITE)
                       : NULL;
    float *h = rig_array(rig, 2, 3 * (uint64_t)l.n, first ? VKL_READ : VKL_READ_WRITE);
    float *side = rig_array(rig, 3, l.side, VKL_READ);
    fill_gates(t, gates, (uint64_t)t->rows * l.gates_ld);
    fill_lengths(t, &l, side);
    if (nan)
        gates[gate_at(&l, nan->row, nan->unit, nan->gate)] = NAN;

    VklArgs args = {{0}};
    struct VklPointForwardArgs *a = &args.LSTM_POINT_FORWARD;
    FILL_ACTIVATIONS(a, t);
    a->h_prev = t->projected ? VKL_ABSENT : 0;
    a->h_next = h_next;
    a->h_ld = l.ld;
    a->c_next = lstm ? c_next : t->units + 1;
    a->c_prev = lstm ? 0 : 2 * l.n;
    a->rec = t->bare || t->extreme ? VKL_ABSENT : l.rec; /* a sum with an extreme number is rounded coarsely */
    a->rec_ld = l.rec_ld;
    a->rec_gate_stride = l.rec_gate_stride;
    a->flags = (keep ? VKL_POINT_KEEP : 0) | (t->coupled ? VKL_POINT_COUPLED : 0) | phase;
    rig_run(rig, kernels[t->cell], &args, t->rows, t->units);

    /* which gate the first product goes to */
    const uint32_t products = second || t->cell == RNN ? 1 : first ? 2 : t->cell == GRU_AFTER ? 3 : 4;
    const uint32_t begin = t->cell == GRU_AFTER || first ? 1 : 0;
    for (uint32_t row = 0; row < t->rows; row++)
        for (uint32_t unit = 0; unit < t->units; unit++) {
            uint64_t at = (uint64_t)row * t->units + unit, h_at = (uint64_t)row * l.ld + unit;
            Unit u = {.frozen = frozen(t, &l, side, row)};
            for (uint32_t k = 0; k < l.gates; k++)
                u.v[k] = gates[gate_at(&l, row, unit, k)];
            if (t->cell == GRU_AFTER)
                u.v[3] = 0; /* written, not read */
            for (uint32_t k = 0; k < products && a->rec != VKL_ABSENT; k++)
                u.v[begin + k] += side[l.rec + (uint64_t)row * l.rec_ld + unit * l.unit_stride + k * l.rec_gate_stride];
            for (uint32_t k = 0; k < 3 && t->peephole; k++) {
                if (lstm)
                    u.p[k] = side[l.peephole + k * t->units + unit];
                if (t->cell == GRU_AFTER)
                    u.v[1 + k] += side[l.peephole + k * t->units + unit];
            }
            u.v[H_PREV] = t->projected ? 0 : h[h_at];
            u.v[OPERAND] = h[2 * l.n + h_at];
            u.v[C_PREV] = lstm ? c[at] : 0;
            Result r = step(t, &u);
            if (first)
                expect(rig, 1, (uint64_t)row * (t->units + 1) + unit, u.frozen ? 0 : r.rh);
            else
                expect(rig, 2, h_next + h_at, r.h);
            if (lstm)
                expect(rig, 1, c_next + at, r.c);
            for (uint32_t k = 0; k < l.gates && keep && !u.frozen; k++)
                if (first ? k > 0 : second ? k == 0 : true)
                    expect(rig, 0, gate_at(&l, row, unit, k), r.raw[k]);
        }
    rig_check(rig, describe(t, what), t->extreme ? EXTREME_TOLERANCE : TOLERANCE);
    rig_clear(rig);
}

/* ---- Backward ---- */

static void backward_check(Rig *rig, const Case *t, uint32_t phase, const Place *nan, const char *what)
{
    static const VklKernel kernels[] = {VKL_KERNEL_LSTM_POINT_BACKWARD, VKL_KERNEL_GRU_POINT_BACKWARD,
                                        VKL_KERNEL_GRU_POINT_BACKWARD, VKL_KERNEL_RNN_POINT_BACKWARD};
    const bool lstm = t->cell == LSTM, first = phase == VKL_POINT_FIRST, second = phase == VKL_POINT_SECOND;
    const Layout l = layout_of(t);
    const uint32_t cells = t->rows * t->units;
    const uint32_t c_t = 0, c_prev = cells, dc_in = 2 * cells, dc_out = (!t->in_place ? 3 : t->bare ? 0 : 2) * cells;
    float *gates = rig_array(rig, 0, (uint64_t)t->rows * l.gates_ld, VKL_READ_WRITE);
    float *c = lstm             ? rig_array(rig, 1, 4 * (uint64_t)cells, VKL_READ_WRITE)
               : t->cell == RNN ? NULL
                                : rig_array(rig, 1, 2 * (uint64_t)l.n, VKL_READ);
    float *gy = t->bare || second ? NULL : rig_array(rig, 2, l.n, VKL_READ);
    float *side = rig_array(rig, 3, l.side, VKL_READ_WRITE);
    fill_gates(t, gates, (uint64_t)t->rows * l.gates_ld);
    fill_lengths(t, &l, side);

    VklArgs args = {{0}};
    struct VklPointBackwardArgs *a = &args.LSTM_POINT_BACKWARD;
    FILL_ACTIVATIONS(a, t);
    a->gy_ld = gy ? l.ld : VKL_ABSENT;
    a->c_t = lstm ? c_t : 0;
    a->c_prev = lstm ? c_prev : l.n;
    a->dc_in = !lstm ? l.ld : t->bare ? VKL_ABSENT : dc_in;
    a->dc_out = lstm ? dc_out : l.out;
    a->rec = t->bare && !second ? VKL_ABSENT : l.rec;
    a->rec_ld = l.rec_ld;
    a->carry = t->projected ? VKL_ABSENT : l.carry;
    a->flags = (t->coupled ? VKL_POINT_COUPLED : 0) | phase;

    /* what is without clips, where the derivatives at the end of one are asked for */
    Case open = *t;
    if (t->fixed)
        open.preact_clip = open.cell_clip = 0;
    for (uint32_t row = 0; row < t->rows; row++)
        for (uint32_t unit = 0; unit < t->units; unit++) {
            uint64_t at = (uint64_t)row * t->units + unit, h_at = (uint64_t)row * l.ld + unit;
            bool victim = nan && nan->row == row && nan->unit == unit;
            Unit u = {.frozen = frozen(t, &l, side, row)};
            for (uint32_t k = 0; k < l.gates; k++)
                u.v[k] = t->fixed ? t->fixed[k] : gates[gate_at(&l, row, unit, k)];
            if (lstm) {
                if (t->fixed)
                    c[c_prev + at] = t->fixed[C_PREV];
                u.v[C_PREV] = c[c_prev + at];
                u.dc = t->bare ? 0 : c[dc_in + at];
            } else if (c) {
                u.v[H_PREV] = c[h_at];
                u.v[OPERAND] = c[l.n + h_at];
            }
            for (uint32_t k = 0; k < 3 && t->peephole && lstm; k++)
                u.p[k] = side[l.peephole + k * t->units + unit];
            double product = side[l.rec + (uint64_t)row * l.rec_ld + unit];
            if (second)
                u.drh = product;
            else
                u.dh = (gy ? gy[h_at] : 0) + (t->bare ? 0 : product) + (t->projected ? 0 : side[l.carry + at]);

            Unit kept = u;
            if (victim)
                kept.v[nan->gate] = NAN;
            Result r = step(t, &kept);
            for (uint32_t k = 0; k < l.gates; k++) /* gates of frozen rows must not be read */
                gates[gate_at(&l, row, unit, k)] = u.frozen ? NAN : (float)r.raw[k];
            if (lstm)
                c[c_t + at] = (float)r.c;

            for (int k = 0; k < VARIABLES; k++) {
                bool zero = t->zero >> k & 1;
                double want = zero ? 0 : victim ? NAN : slope(&open, &u, k);
                if (k < (int)l.gates && (first ? k != 1 : second ? k == 1 : true))
                    expect(rig, 0, gate_at(&l, row, unit, (uint32_t)k), want);
                if (k == C_PREV && lstm)
                    expect(rig, 1, dc_out + at, want);
                if (k == H_PREV && !second && !t->projected)
                    expect(rig, 3, l.carry + at, want);
                if (k == OPERAND && second)
                    expect(rig, 3, l.out + (uint64_t)row * l.rec_ld + unit, want);
                /* dh z may be a number, and what RNN and LSTM carry is 0 */
                if (k == H_PREV && victim && !second)
                    rig->arrays[3].state[l.carry + at] = ANY;
            }
        }
    rig_run(rig, kernels[t->cell], &args, t->rows, t->units);
    rig_check(rig, describe(t, what), t->extreme ? EXTREME_TOLERANCE : TOLERANCE);
    rig_clear(rig);
}

/* Forward and backward, and both phases where there are two. */
static void both_check(Rig *rig, const Case *t)
{
    static const uint32_t phases[] = {VKL_POINT_FIRST, VKL_POINT_SECOND};
    for (int i = 0; i < (t->cell == GRU_BEFORE ? 2 : 1); i++) {
        uint32_t phase = t->cell == GRU_BEFORE ? phases[i] : 0;
        forward_check(rig, t, phase, NULL, i ? "second forward" : "forward");
        backward_check(rig, t, phase, NULL, i ? "second backward" : "backward");
    }
}

/* ---- Tests ---- */

#define F .f = VKL_GATE_SIGMOID, .g = VKL_GATE_TANH, .h = VKL_GATE_TANH

static const struct {
    uint32_t rows, units;
} sizes[] = {{1, 1}, {1, 50}, {3, 17}, {17, 3}, {7, 65}, {2, 130}, {64, 7}};

Test(point, every_cell_steps_at_any_number_of_rows_and_units)
{
    Rig rig;
    rig_begin(&rig);
    for (int cell = LSTM; cell <= RNN; cell++)
        for (size_t s = 0; s < COUNT(sizes); s++)
            for (int way = 0; way < 4; way++) {
                Case t = {(Cell)cell, sizes[s].rows, sizes[s].units, way & 1, F};
                t.lengths = way & 2;
                t.in_place = (way + s) % 3 == 0;
                t.bare = (way + s) % 4 == 1;
                both_check(&rig, &t);
            }
    rig_end(&rig);
}

Test(point, dispatches_go_on_where_an_axis_ends)
{
    Rig rig;
    rig_begin(&rig);
    rig.caps.workgroups[0] = 2;
    for (int cell = LSTM; cell <= RNN; cell++)
        both_check(&rig, &(Case){(Cell)cell, 13, 37, true, F, .lengths = true});
    rig_end(&rig);
}

Test(point, options_of_cells_combine)
{
    Rig rig;
    rig_begin(&rig);
    for (int cell = LSTM; cell <= RNN; cell++)
        for (int options = 0; options < 64; options++) {
            Case t = {(Cell)cell, 4, 19, options & 1, F};
            if (cell != LSTM && options >= 16)
                continue;
            t.preact_clip = options & 2 ? 0.8f : 0;
            t.peephole = options & 4;
            t.lengths = options & 8;
            t.bare = options % 5 == 4;
            t.in_place = options % 3 == 2;
            t.cell_clip = options & 16 ? 0.4f : 0;
            t.coupled = options & 32;
            both_check(&rig, &t);
        }
    rig_end(&rig);
}

Test(point, a_projected_cell_has_neither_h_before_nor_a_carried_gradient)
{
    Rig rig;
    rig_begin(&rig);
    for (int options = 0; options < 4; options++)
        both_check(&rig, &(Case){LSTM, 7, 33, options & 1, F, .lengths = options & 2, .projected = true});
    rig_end(&rig);
}

Test(point, every_activation_does_in_every_place)
{
    Rig rig;
    rig_begin(&rig);
    for (int cell = LSTM; cell <= RNN; cell++)
        for (uint32_t kind = 0; kind < KINDS; kind++)
            for (int place = 0; place < (cell == LSTM ? 3 : cell == RNN ? 1 : 2); place++)
                for (int clip = 0; clip <= 1; clip++) {
                    Case t = {(Cell)cell, 3, 21, true, F, .peephole = clip};
                    *(place == 0 ? &t.f : place == 1 ? &t.g : &t.h) = kind;
                    t.preact_clip = clip ? 0.9f : 0;
                    both_check(&rig, &t);
                }
    rig_end(&rig);
}

Test(point, extreme_gates_do_no_harm)
{
    Rig rig;
    rig_begin(&rig);
    for (int cell = LSTM; cell <= RNN; cell++)
        for (uint32_t kind = 0; kind < KINDS; kind++)
            for (int place = 0; place < 3; place++) { /* several at once would drown in the differences' rounding */
                Case t = {(Cell)cell, 5, 22, false, F, .extreme = true};
                *(place == 0 ? &t.f : place == 1 ? &t.g : &t.h) = kind;
                both_check(&rig, &t);
            }
    rig_end(&rig);
}

/* Forward, NaN goes where the equations take it; backward, to all gradients of that unit of that row; nowhere else. */
Test(point, nan_goes_through_and_stays_in_its_row_and_unit)
{
    Rig rig;
    rig_begin(&rig);
    for (int cell = LSTM; cell <= RNN; cell++)
        for (uint32_t kind = 0; kind < KINDS; kind++)
            for (uint32_t gate = 0; gate < 4; gate++) {
                Case t = {
                    (Cell)cell, 3, 21, true, kind, kind, kind, .preact_clip = kind % 2 ? 0.5f : 0, .peephole = kind % 3 == 0};
                t.cell_clip = kind % 4 == 1 ? 0.3f : 0;
                Place nan = {1, 13, gate};
                if (gate >= (uint32_t)gates_of(&t))
                    continue;
                if (cell == GRU_BEFORE) {
                    uint32_t phase = gate == 1 ? VKL_POINT_FIRST : VKL_POINT_SECOND;
                    forward_check(&rig, &t, phase, &nan, "NaN forward");
                    backward_check(&rig, &t, phase ^ VKL_POINT_FIRST ^ VKL_POINT_SECOND, &nan, "NaN backward");
                } else {
                    if (cell != GRU_AFTER || gate < 3)
                        forward_check(&rig, &t, 0, &nan, "NaN forward");
                    backward_check(&rig, &t, 0, &nan, "NaN backward");
                }
            }
    rig_end(&rig);
}

/* On the closed interval gradients are those without a clip, beyond it they are 0. */
Test(point, clips_end_exactly_where_they_say)
{
    static const struct {
        Cell cell;
        uint32_t kind;
    } cells[] = {{LSTM, VKL_GATE_SIGMOID}, {LSTM, VKL_GATE_SOFTSIGN}, {GRU_AFTER, VKL_GATE_TANH}, {RNN, VKL_GATE_ELU}};
    Rig rig;
    rig_begin(&rig);
    for (size_t i = 0; i < COUNT(cells); i++)
        for (uint32_t gate = 0; gate < (uint32_t)(cells[i].cell == RNN ? 1 : cells[i].cell == LSTM ? 4 : 3); gate++)
            for (int end = 0; end < 4; end++) {
                const float limit = 0.7f;
                float fixed[5] = {0.1f, 0.2f, 0.3f, cells[i].cell == LSTM ? 0.4f : 0, 0.5f};
                fixed[gate] = end < 2 ? limit : nextafterf(limit, 1);
                fixed[gate] = end % 2 ? -fixed[gate] : fixed[gate];
                Case t = {cells[i].cell, 2, 3, true, cells[i].kind, cells[i].kind, cells[i].kind, .preact_clip = limit};
                t.fixed = fixed;
                t.zero = end < 2 ? 0 : 1u << gate | (gate == 0 && t.cell == GRU_AFTER ? 1u << 3 : 0);
                backward_check(&rig, &t, 0, NULL, "clip of an argument");
            }
    for (int end = 0; end < 6; end++) {
        static const float up[5] = {0.5f, 0.5f, 1, 0.5f, 1}, down[5] = {0.5f, 0.5f, 1, 0.5f, -3}; /* cells of 1 and -1 */
        const float limits[] = {1, nextafterf(1, 0), nextafterf(1, 2)};
        Case t = {LSTM, 2, 3, false, VKL_GATE_RELU, VKL_GATE_RELU, VKL_GATE_LEAKY_RELU, .cell_clip = limits[end % 3]};
        t.fixed = end < 3 ? up : down;
        t.zero = end % 3 == 1 ? 7u | 1u << C_PREV : 0;
        backward_check(&rig, &t, 0, NULL, "clip of the cell");
    }
    rig_end(&rig);
}

/* Each value and each derivative relative to itself: formulas are good to 2 to 4 units in the last place, divisions on a GPU to 2.5. */
Test(point, activations_are_accurate_everywhere)
{
    static const float awkward[] = {
        0.0f,   -0.0f,   1e-30f, -1e-30f, 1e-10f, -1e-10f, 1e-4f, -1e-4f, 0.17f,  -0.17f, 0.3465f, 0.3467f, 1.0f,   -1.0f,
        3.0f,   -3.0f,   10.0f,  -10.0f,  -16.7f, 20.0f,   44.0f, -44.0f, -86.9f, -87.2f, 88.0f,   -88.0f,  89.0f,  -89.0f,
        104.0f, -104.0f, 128.0f, 1e3f,    -1e3f,  1e4f,    -1e4f, 1e9f,   -1e9f,  3e37f,  -3e37f,  2e38f,   -2e38f,
    };
    Rig rig;
    rig_begin(&rig);
    for (uint32_t kind = 0; kind < KINDS; kind++)
        for (int backward = 0; backward <= 1; backward++) {
            const uint32_t count = 3000;
            float *x = rig_array(&rig, 0, count, backward ? VKL_READ_WRITE : VKL_READ);
            float *y = rig_array(&rig, 2, count, backward ? VKL_READ : VKL_WRITE);
            rig_array(&rig, 3, 1, backward ? VKL_READ_WRITE : VKL_READ);
            for (uint32_t i = 0; i < count; i++) {
                x[i] = i < COUNT(awkward) ? awkward[i] : 12 * x[i];
                y[i] = backward ? 1 : y[i];
            }
            VklArgs args = {{0}};
            if (backward)
                args.RNN_POINT_BACKWARD = (struct VklPointBackwardArgs){.rows = count,
                                                                        .units = 1,
                                                                        .gates_ld = 1,
                                                                        .unit_stride = 1,
                                                                        .gy_ld = 1,
                                                                        .rec = VKL_ABSENT,
                                                                        .carry = VKL_ABSENT,
                                                                        .lengths = VKL_ABSENT,
                                                                        .kinds = kind,
                                                                        .alpha0 = parameters[kind][0],
                                                                        .beta0 = parameters[kind][1]};
            else
                args.RNN_POINT_FORWARD = (struct VklPointForwardArgs){.rows = count,
                                                                      .units = 1,
                                                                      .gates_ld = 1,
                                                                      .unit_stride = 1,
                                                                      .h_ld = 1,
                                                                      .rec = VKL_ABSENT,
                                                                      .lengths = VKL_ABSENT,
                                                                      .kinds = kind,
                                                                      .alpha0 = parameters[kind][0],
                                                                      .beta0 = parameters[kind][1]};
            rig_run(&rig, backward ? VKL_KERNEL_RNN_POINT_BACKWARD : VKL_KERNEL_RNN_POINT_FORWARD, &args, count, 1);
            const float *got = rig.arrays[backward ? 0 : 2].got + FIRST;
            bool sums = kind == VKL_GATE_AFFINE || kind == VKL_GATE_HARD_SIGMOID; /* which may be near 0 */
            for (uint32_t i = 0; i < count; i++) {
                double want = backward ? derivative(kind, x[i]) : activation(kind, x[i]);
                double allowed = 1e-6 * (sums && !backward ? fabs(want) + 1 : fabs(want)) + (backward ? 2e-17 : 2e-38);
                cr_assert(fabs(got[i] - want) <= allowed, "%s %u of %.9g: %.9g, want %.9g",
                          backward ? "derivative" : "activation", kind, (double)x[i], (double)got[i], want);
            }
            rig_clear(&rig);
        }
    rig_end(&rig);
}

/* SPDX-License-Identifier: MIT
 *
 * Dense layers and losses through the public API, on the device of the environment, against PyTorch's golden files and the
 * double-precision reference. Tolerances: docs/numerics.md, "Budgets".
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "harness.h"
#include "placed.h"
#include "reference.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static VklContext *context;
static VklDevice *device;

static void begin(void)
{
    context = test_context();
    device = test_device(context);
}

static void end(void)
{
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

TestSuite(dense, .init = begin, .fini = end);
TestSuite(loss, .init = begin, .fini = end);

static double *widen(const float *narrow, size_t count)
{
    double *wide = allocate(count, sizeof(double));
    for (size_t k = 0; k < count; k++)
        wide[k] = narrow[k];
    return wide;
}

/* ---- Dense ---- */

/* Sums are added up in blocks of at most 4096 terms. */
static double budget(size_t terms)
{
    return 0x1p-24 * (8 + 4 * sqrt((double)(terms < 4096 ? terms : 4096)));
}

typedef struct Size {
    size_t rows, I, O;
} Size;

typedef struct Layer {
    VklDevice *device;
    Size size;
    VklActivation activation;
    char label[96];
    float *x, *params, *gy; /* params: canonical weight, then bias */
    VklDense *dense;
    VklStream *stream;
    Placed at_x, at_params, at_y, at_gy, at_dx, at_dparams, at_workspace;
    VklDenseBackward backward;
} Layer;

static size_t layer_params(const Size *size)
{
    return (size->I + 1) * size->O;
}

/* Places the layer's x, params and gy, which it takes over. */
static void layer_place(Layer *layer)
{
    const Size *size = &layer->size;
    VklDevice *on = layer->device;
    snprintf(layer->label, sizeof(layer->label), "rows %zu I %zu O %zu activation %d", size->rows, size->I, size->O,
             (int)layer->activation);
    const VklDenseDesc desc = vkl_dense_desc(size->I, size->O, layer->activation);
    TEST_OK(context, vkl_dense_create(on, &desc, &layer->dense));
    TEST_OK(context, vkl_stream_create(on, &layer->stream));
    const size_t packed_size = vkl_dense_params_size(layer->dense);
    cr_assert_eq(packed_size % 16, 0u);
    float *packed = allocate(packed_size, 1);
    TEST_OK(context, vkl_dense_pack(layer->dense, 0, layer->params, packed));
    TEST_OK(context, vkl_dense_pack(layer->dense, 1, layer->params + size->I * size->O, packed));
    layer->at_x = placed_make(on, layer->x, size->rows * size->I, false);
    layer->at_params = placed_make(on, packed, packed_size / sizeof(float), true);
    layer->at_gy = placed_make(on, layer->gy, size->rows * size->O, false);
    layer->at_y = placed_make(on, NULL, size->rows * size->O, false);
    layer->at_dx = placed_make(on, NULL, size->rows * size->I, false);
    layer->at_dparams = placed_make(on, NULL, packed_size / sizeof(float), true);
    const size_t workspace = vkl_dense_workspace_size(layer->dense, size->rows);
    if (workspace)
        layer->at_workspace = placed_make(on, NULL, workspace / sizeof(float), true);
    free(packed);

    layer->backward = vkl_dense_backward_args(size->rows);
    layer->backward.params = layer->at_params.slice;
    layer->backward.x = layer->at_x.slice;
    layer->backward.y = layer->at_y.slice;
    layer->backward.gy = layer->at_gy.slice;
    layer->backward.workspace = layer->at_workspace.slice;
    layer->backward.dx = layer->at_dx.slice;
    layer->backward.dparams = layer->at_dparams.slice;
}

static Layer layer_random(VklDevice *on, Size size, VklActivation activation)
{
    Layer layer = {.device = on, .size = size, .activation = activation};
    layer.x = allocate(size.rows * size.I, sizeof(float));
    layer.params = allocate(layer_params(&size), sizeof(float));
    layer.gy = allocate(size.rows * size.O, sizeof(float));
    test_random(layer.x, size.rows * size.I, 1, 1);
    test_random(layer.params, layer_params(&size), 2, 1 / sqrtf((float)size.I));
    test_random(layer.gy, size.rows * size.O, 3, 1);
    return layer;
}

static void layer_run(Layer *layer)
{
    TEST_OK(context, vkl_dense_forward(layer->dense, layer->stream, layer->size.rows, layer->at_params.slice, layer->at_x.slice,
                                       layer->at_y.slice));
    TEST_OK(context, vkl_dense_backward(layer->dense, layer->stream, &layer->backward));
    TEST_OK(context, vkl_stream_wait(layer->stream));
}

static float *layer_take(const Layer *layer, const char *name, const Placed *placed)
{
    char what[128];
    snprintf(what, sizeof(what), "%s: %s", layer->label, name);
    return placed_take(layer->device, placed, what);
}

/* The canonical gradients; the caller frees them. */
static float *layer_take_dparams(const Layer *layer)
{
    float *packed = layer_take(layer, "dparams", &layer->at_dparams);
    float *canonical = allocate(layer_params(&layer->size), sizeof(float));
    TEST_OK(context, vkl_dense_unpack(layer->dense, 0, packed, canonical));
    TEST_OK(context, vkl_dense_unpack(layer->dense, 1, packed, canonical + layer->size.I * layer->size.O));
    free(packed);
    return canonical;
}

static void layer_compare(const Layer *layer, const char *name, const float *got, const double *want, size_t count, size_t terms)
{
    char what[128];
    snprintf(what, sizeof(what), "%s: %s", layer->label, name);
    test_compare(what, got, want, count, budget(terms));
}

/* Against the reference. Its backward pass is given the y that the device made, as the device's is: at relu's kink the two would
 * else be on different sides. `before`: what the gradients were added to, or NULL. */
static void layer_check(const Layer *layer, const float *before)
{
    const size_t rows = layer->size.rows, I = layer->size.I, O = layer->size.O, params_count = layer_params(&layer->size);
    double *x = widen(layer->x, rows * I), *params = widen(layer->params, params_count), *gy = widen(layer->gy, rows * O);
    double *want_y = allocate(rows * O, sizeof(double)), *want_dx = allocate(rows * I, sizeof(double));
    double *want_dparams = allocate(params_count, sizeof(double));
    float *y = layer_take(layer, "y", &layer->at_y);
    double *y_made = widen(y, rows * O);
    ref_dense_forward(rows, I, O, layer->activation, params, x, want_y);
    ref_dense_backward(rows, I, O, layer->activation, params, x, y_made, gy, want_dx, want_dparams);
    for (size_t k = 0; before && k < params_count; k++)
        want_dparams[k] += before[k];

    layer_compare(layer, "y", y, want_y, rows * O, I + 1);
    if (layer->backward.dx.buffer) {
        float *dx = layer_take(layer, "dx", &layer->at_dx);
        layer_compare(layer, "dx", dx, want_dx, rows * I, O);
        free(dx);
    }
    if (layer->backward.dparams.buffer) {
        float *dparams = layer_take_dparams(layer);
        layer_compare(layer, "dweight", dparams, want_dparams, I * O, rows);
        layer_compare(layer, "dbias", dparams + I * O, want_dparams + I * O, O, rows);
        free(dparams);
    }
    const struct {
        const char *name;
        const Placed *placed;
        const float *kept;
        size_t count;
    } inputs[] = {{"x", &layer->at_x, layer->x, rows * I}, {"gy", &layer->at_gy, layer->gy, rows * O}};
    for (size_t k = 0; k < COUNT(inputs); k++) {
        float *now = layer_take(layer, inputs[k].name, inputs[k].placed);
        cr_assert_eq(memcmp(now, inputs[k].kept, inputs[k].count * sizeof(float)), 0, "%s: %s was changed", layer->label,
                     inputs[k].name);
        free(now);
    }
    if (layer->at_workspace.buffer)
        free(layer_take(layer, "workspace", &layer->at_workspace));
    free(x);
    free(params);
    free(gy);
    free(want_y);
    free(want_dx);
    free(want_dparams);
    free(y);
    free(y_made);
}

static void layer_end(Layer *layer)
{
    const Placed placed[] = {layer->at_x,  layer->at_params,  layer->at_y,        layer->at_gy,
                             layer->at_dx, layer->at_dparams, layer->at_workspace};
    for (size_t k = 0; k < COUNT(placed); k++)
        vkl_buffer_destroy(placed[k].buffer);
    vkl_stream_destroy(layer->stream);
    vkl_dense_destroy(layer->dense);
    free(layer->x);
    free(layer->params);
    free(layer->gy);
}

Test(dense, results_and_gradients_are_pytorchs)
{
    for (size_t k = 0; golden_dense[k]; k++) {
        Golden *golden = golden_open(golden_dense[k]);
        Layer layer = {.device = device,
                       .size = {golden_size(golden, "rows"), golden_size(golden, "I"), golden_size(golden, "O")}};
        cr_assert(vkl_activation(golden_text(golden, "activation"), &layer.activation));
        const size_t weights = layer.size.I * layer.size.O, O = layer.size.O;
        const size_t inputs = layer.size.rows * layer.size.I, outputs = layer.size.rows * O;
        layer.x = allocate(inputs, sizeof(float));
        layer.gy = allocate(outputs, sizeof(float));
        layer.params = allocate(weights + O, sizeof(float));
        memcpy(layer.x, golden_tensor(golden, "x", inputs), inputs * sizeof(float));
        memcpy(layer.gy, golden_tensor(golden, "gy", outputs), outputs * sizeof(float));
        memcpy(layer.params, golden_tensor(golden, "weight", weights), weights * sizeof(float));
        memcpy(layer.params + weights, golden_tensor(golden, "bias", O), O * sizeof(float));
        layer_place(&layer);
        layer_run(&layer);
        float *y = layer_take(&layer, "y", &layer.at_y), *dx = layer_take(&layer, "dx", &layer.at_dx);
        float *dparams = layer_take_dparams(&layer);
        test_compare_f(golden_dense[k], y, golden_tensor(golden, "y", outputs), outputs, budget(layer.size.I + 1));
        test_compare_f(golden_dense[k], dx, golden_tensor(golden, "dx", inputs), inputs, budget(O));
        test_compare_f(golden_dense[k], dparams, golden_tensor(golden, "dweight", weights), weights, budget(layer.size.rows));
        test_compare_f(golden_dense[k], dparams + weights, golden_tensor(golden, "dbias", O), O, budget(layer.size.rows));
        free(y);
        free(dx);
        free(dparams);
        layer_end(&layer);
        golden_close(golden);
    }
}

static void layer_test(VklDevice *on, Size size, VklActivation activation)
{
    Layer layer = layer_random(on, size, activation);
    layer_place(&layer);
    layer_run(&layer);
    layer_check(&layer, NULL);
    layer_end(&layer);
}

Test(dense, results_and_gradients_are_the_references)
{
    /* the last three: sums of more than 4096 terms over I and over rows, and more rows than an axis has workgroups */
    static const Size sizes[] = {{1, 1, 1},    {1, 50, 1},   {5, 17, 33},  {65, 3, 1},   {3, 257, 65},
                                 {33, 32, 31}, {2, 5000, 3}, {9000, 3, 5}, {70000, 1, 2}};
    for (size_t k = 0; k < COUNT(sizes); k++)
        for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++)
            layer_test(device, sizes[k], (VklActivation)activation);
}

Test(dense, small_windows_give_the_same)
{
    static const struct {
        uint64_t range;
        Size size;
    } cases[] = {{4096, {65, 17, 33}}, {4096, {3, 257, 5}}, {4096, {700, 3, 2}}, {65536, {2, 5000, 5}}, {65536, {300, 65, 257}}};
    for (size_t k = 0; k < COUNT(cases); k++) {
        if (!test_row(k))
            continue;
        VklDevice *narrow = device_within(context, (VklDeviceLimits){.storage_range = cases[k].range});
        layer_test(narrow, cases[k].size, VKL_ACTIVATION_NONE);
        layer_test(narrow, cases[k].size, VKL_ACTIVATION_TANH);
        vkl_device_destroy(narrow);
    }
}

/* Many rows: sums of dW in slices. */
Test(dense, what_is_chosen_for_gpus_gives_the_same)
{
    static const Size sizes[] = {{300, 5, 1}, {900, 17, 33}, {9000, 3, 5}, {65, 64, 64}};
    VklDevice *other = device_as_gpu(context);
    for (size_t k = 0; k < COUNT(sizes); k++) {
        if (!test_row(k))
            continue;
        layer_test(other, sizes[k], VKL_ACTIVATION_NONE);
        layer_test(other, sizes[k], VKL_ACTIVATION_TANH);
    }
    vkl_device_destroy(other);
}

Test(dense, absent_gradients_are_not_computed)
{
    for (int which = 1; which < 4; which++) {
        Layer layer = layer_random(device, (Size){5, 7, 3}, VKL_ACTIVATION_SIGMOID);
        layer_place(&layer);
        if (which & 1)
            layer.backward.dx.buffer = NULL;
        if (which & 2)
            layer.backward.dparams.buffer = NULL;
        layer_run(&layer);
        layer_check(&layer, NULL);
        layer_end(&layer);
    }
}

Test(dense, gradients_accumulate_when_asked)
{
    Layer layer = layer_random(device, (Size){5, 7, 3}, VKL_ACTIVATION_TANH);
    layer_place(&layer);
    float before[8 * 3], packed[8 * 3] = {0};
    test_random(before, COUNT(before), 9, 1);
    TEST_OK(context, vkl_dense_pack(layer.dense, 0, before, packed));
    TEST_OK(context, vkl_dense_pack(layer.dense, 1, before + 7 * 3, packed));
    TEST_OK(context, vkl_stream_write(layer.stream, layer.at_dparams.slice, packed, sizeof(packed)));
    layer.backward.accumulate = true;
    layer_run(&layer);
    layer_check(&layer, before);
    layer_end(&layer);
}

Test(dense, nan_goes_where_it_must)
{
    for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++) {
        for (int input = 0; input < 3; input++) {
            Layer layer = layer_random(device, (Size){5, 7, 3}, (VklActivation)activation);
            float *inputs[] = {layer.x, layer.params, layer.gy};
            inputs[input][4] = NAN;
            layer_place(&layer);
            snprintf(layer.label, sizeof(layer.label), "activation %d, NaN in input %d", activation, input);
            layer_run(&layer);
            layer_check(&layer, NULL);
            layer_end(&layer);
        }
    }
}

Test(dense, activations_saturate)
{
    for (int activation = VKL_ACTIVATION_NONE; activation <= VKL_ACTIVATION_RELU; activation++) {
        Layer layer = layer_random(device, (Size){6, 1, 3}, (VklActivation)activation);
        static const float extremes[] = {1e4f, -1e4f, 89, -89, 20, -20}; /* -20 keeps the largest gradient above denormals */
        memcpy(layer.x, extremes, sizeof(extremes));
        for (size_t k = 0; k < 3; k++)
            layer.params[k] = 1 - 0.25f * (float)k;
        layer_place(&layer);
        layer_run(&layer);
        layer_check(&layer, NULL);
        layer_end(&layer);
    }
}

Test(dense, two_runs_give_the_same_bits)
{
    float *first = NULL;
    for (int run = 0; run < 2; run++) {
        Layer layer = layer_random(device, (Size){9000, 3, 5}, VKL_ACTIVATION_TANH);
        layer_place(&layer);
        layer_run(&layer);
        float *dparams = layer_take_dparams(&layer);
        if (first)
            cr_assert_eq(memcmp(first, dparams, 4 * 5 * sizeof(float)), 0);
        free(first);
        first = dparams;
        layer_end(&layer);
    }
    free(first);
}

Test(dense, parameters_have_pytorchs_names_and_shapes)
{
    const VklDenseDesc desc = vkl_dense_desc(5, 3, VKL_ACTIVATION_NONE);
    VklDense *dense = NULL;
    TEST_OK(context, vkl_dense_create(device, &desc, &dense));
    VklParamInfo weight, bias;
    TEST_OK(context, vkl_dense_param_info(dense, 0, &weight));
    TEST_OK(context, vkl_dense_param_info(dense, 1, &bias));
    cr_assert_str_eq(weight.name, "weight");
    cr_assert(weight.rank == 2 && weight.shape[0] == 3 && weight.shape[1] == 5);
    cr_assert_str_eq(bias.name, "bias");
    cr_assert(bias.rank == 1 && bias.shape[0] == 3 && bias.shape[1] == 1);
    EXPECT_REFUSAL("tensor 2", vkl_dense_param_info(dense, 2, &weight), VKL_ERROR_INVALID, vkl_dense_error(dense), "index");

    float canonical[18], packed[20] = {0}, back[18] = {0};
    cr_assert_eq(vkl_dense_params_size(dense), sizeof(packed));
    for (size_t k = 0; k < COUNT(canonical); k++)
        canonical[k] = (float)(k + 1);
    TEST_OK(context, vkl_dense_pack(dense, 0, canonical, packed));
    TEST_OK(context, vkl_dense_pack(dense, 1, canonical + 15, packed));
    TEST_OK(context, vkl_dense_unpack(dense, 0, packed, back));
    TEST_OK(context, vkl_dense_unpack(dense, 1, packed, back + 15));
    cr_assert_eq(memcmp(canonical, back, sizeof(back)), 0);

    float made[20], again[20];
    TEST_OK(context, vkl_dense_init(dense, 3, made));
    TEST_OK(context, vkl_dense_init(dense, 3, again));
    cr_assert_eq(memcmp(made, again, sizeof(made)), 0, "the same seed gives other weights");
    TEST_OK(context, vkl_dense_unpack(dense, 0, made, back));
    TEST_OK(context, vkl_dense_unpack(dense, 1, made, back + 15));
    for (size_t k = 0; k < 15; k++) /* Glorot's limit */
        cr_assert(back[k] != 0 && fabs((double)back[k]) <= sqrt(6.0 / 8) * (1 + 1e-6));
    for (size_t k = 15; k < 18; k++)
        cr_assert_eq(back[k], 0);
    vkl_dense_destroy(dense);
    vkl_dense_destroy(NULL);
}

Test(dense, wrong_arguments_are_refused)
{
    static const struct {
        VklDenseDesc desc;
        VklStatus status;
        const char *word;
    } cases[] = {
        {{sizeof(VklDenseDesc), 0, 1, VKL_ACTIVATION_NONE}, VKL_ERROR_INVALID, "input_size"},
        {{sizeof(VklDenseDesc), 1, 0, VKL_ACTIVATION_NONE}, VKL_ERROR_INVALID, "output_size"},
        {{sizeof(VklDenseDesc), 1, 1, (VklActivation)9}, VKL_ERROR_INVALID, "activation"},
        {{1, 1, 1, VKL_ACTIVATION_NONE}, VKL_ERROR_INVALID, "struct_size"},
        {{sizeof(VklDenseDesc), UINT64_C(1) << 40, UINT64_C(1) << 40, VKL_ACTIVATION_NONE}, VKL_ERROR_LIMIT, "input_size"},
    };
    for (size_t k = 0; k < COUNT(cases); k++) {
        VklDense *dense = NULL;
        EXPECT_REFUSAL(cases[k].word, vkl_dense_create(device, &cases[k].desc, &dense), cases[k].status,
                       vkl_context_error(context), cases[k].word);
        cr_assert_null(dense);
    }

    Layer layer = layer_random(device, (Size){5, 7, 3}, VKL_ACTIVATION_TANH);
    layer_place(&layer);
    const VklSlice params = layer.at_params.slice, x = layer.at_x.slice, y = layer.at_y.slice, none = {NULL, 0};
    const struct {
        uint64_t rows;
        VklSlice params, x, y;
        VklStatus status;
        const char *word;
    } calls[] = {
        {0, params, x, y, VKL_ERROR_INVALID, "rows"},
        {6, params, x, y, VKL_ERROR_INVALID, "needs"},
        {UINT64_C(1) << 62, params, x, y, VKL_ERROR_LIMIT, "rows"},
        {5, none, x, y, VKL_ERROR_INVALID, "params"},
        {5, params, none, y, VKL_ERROR_INVALID, "x"},
        {5, params, x, none, VKL_ERROR_INVALID, "y"},
        {5, vkl_slice(params.buffer, params.offset + 4), x, y, VKL_ERROR_INVALID, "params"},
        {5, params, vkl_slice(x.buffer, x.offset + 2), y, VKL_ERROR_INVALID, "x"},
        {5, params, x, vkl_slice(y.buffer, y.offset + 16), VKL_ERROR_INVALID, "y"},
    };
    for (size_t k = 0; k < COUNT(calls); k++)
        EXPECT_REFUSAL(calls[k].word,
                       vkl_dense_forward(layer.dense, layer.stream, calls[k].rows, calls[k].params, calls[k].x, calls[k].y),
                       calls[k].status, vkl_dense_error(layer.dense), calls[k].word);

#define BACKWARD(change, status, word)                                                                                     \
    do {                                                                                                                   \
        VklDenseBackward bad = layer.backward;                                                                             \
        change;                                                                                                            \
        EXPECT_REFUSAL(#change, vkl_dense_backward(layer.dense, layer.stream, &bad), status, vkl_dense_error(layer.dense), \
                       word);                                                                                              \
    } while (0)
    BACKWARD(bad.struct_size = 1, VKL_ERROR_INVALID, "struct_size");
    BACKWARD(bad.rows = 0, VKL_ERROR_INVALID, "rows");
    BACKWARD(bad.params = none, VKL_ERROR_INVALID, "params");
    BACKWARD(bad.x = none, VKL_ERROR_INVALID, "x");
    BACKWARD(bad.y = none, VKL_ERROR_INVALID, "y");
    BACKWARD(bad.gy = none, VKL_ERROR_INVALID, "gy");
    BACKWARD(bad.workspace = none, VKL_ERROR_INVALID, "workspace");
    BACKWARD(bad.workspace.offset += 4, VKL_ERROR_INVALID, "workspace");
    BACKWARD(bad.dx.offset += 16, VKL_ERROR_INVALID, "dx");
    BACKWARD(bad.dparams.offset += 4, VKL_ERROR_INVALID, "dparams");
    BACKWARD(bad.dparams.offset += 32, VKL_ERROR_INVALID, "dparams");
    layer_run(&layer); /* and what is right still works */
    layer_check(&layer, NULL);
    layer_end(&layer);
}

/* ---- Losses ---- */

/* The mean of `count` losses: pairwise partial sums, each of at most 4096 terms of one sign. */
#define LOSS_TOLERANCE 2e-6
/* One subtraction and at most two products. */
#define LOSS_GRADIENT_TOLERANCE 4e-7

static void loss_check(const char *label, VklLoss kind, double delta, size_t count, const float *predicted, const float *target)
{
    Placed p = placed_make(device, predicted, count, false), t = placed_make(device, target, count, false);
    Placed g = placed_make(device, NULL, count, false), l = placed_make(device, NULL, 1, false);
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklLossArgs args = vkl_loss_args(kind, count);
    args.delta = delta;
    args.predicted = p.slice;
    args.target = t.slice;
    args.loss = l.slice;
    TEST_OK(context, vkl_loss_record(stream, &args)); /* without a gradient */
    TEST_OK(context, vkl_stream_wait(stream));
    float *alone = placed_take(device, &l, label);
    args.gradient = g.slice;
    TEST_OK(context, vkl_loss_record(stream, &args));
    TEST_OK(context, vkl_stream_wait(stream));
    float *loss = placed_take(device, &l, label), *gradient = placed_take(device, &g, label);

    double *wide_p = widen(predicted, count), *wide_t = widen(target, count), *want = allocate(count, sizeof(double));
    const double want_loss = ref_loss(kind, delta, count, wide_p, wide_t, want);
    test_compare(label, loss, &want_loss, 1, LOSS_TOLERANCE);
    test_compare(label, gradient, want, count, LOSS_GRADIENT_TOLERANCE);
    cr_assert(!memcmp(alone, loss, sizeof(float)) || isnan(*loss), "%s: another loss without a gradient", label);

    free(alone);
    free(loss);
    free(gradient);
    free(wide_p);
    free(wide_t);
    free(want);
    vkl_buffer_destroy(p.buffer);
    vkl_buffer_destroy(t.buffer);
    vkl_buffer_destroy(g.buffer);
    vkl_buffer_destroy(l.buffer);
    vkl_stream_destroy(stream);
}

Test(loss, losses_and_gradients_are_the_references)
{
    static const size_t counts[] = {1, 2, 63, 64, 65, 4097, 270000};
    for (size_t k = 0; k < COUNT(counts); k++) {
        float *predicted = allocate(counts[k], sizeof(float)), *target = allocate(counts[k], sizeof(float));
        test_random(predicted, counts[k], 1, 2);
        test_random(target, counts[k], 2, 2);
        target[counts[k] / 2] = predicted[counts[k] / 2]; /* no difference: gradient 0 */
        for (int kind = VKL_LOSS_MSE; kind <= VKL_LOSS_HUBER; kind++) {
            char label[64];
            snprintf(label, sizeof(label), "loss %d of %zu", kind, counts[k]);
            loss_check(label, (VklLoss)kind, 0.5, counts[k], predicted, target);
        }
        free(predicted);
        free(target);
    }
}

/* The reference is PyTorch's by test_reference.c; here the files' numbers go through the device. */
Test(loss, losses_and_gradients_are_pytorchs)
{
    for (size_t k = 0; golden_loss[k]; k++) {
        Golden *golden = golden_open(golden_loss[k]);
        VklLoss kind = VKL_LOSS_MSE;
        cr_assert(vkl_loss(golden_text(golden, "loss"), &kind));
        const size_t count = golden_size(golden, "count");
        loss_check(golden_loss[k], kind, golden_number(golden, "delta", 1), count, golden_tensor(golden, "predicted", count),
                   golden_tensor(golden, "target", count));
        golden_close(golden);
    }
}

Test(loss, nan_reaches_the_loss)
{
    float predicted[70], target[70];
    for (int kind = VKL_LOSS_MSE; kind <= VKL_LOSS_HUBER; kind++) {
        test_random(predicted, COUNT(predicted), 1, 2);
        test_random(target, COUNT(target), 2, 2);
        predicted[66] = NAN;
        loss_check("NaN predicted", (VklLoss)kind, 1, COUNT(predicted), predicted, target);
        predicted[66] = 0;
        target[3] = NAN;
        loss_check("NaN target", (VklLoss)kind, 1, COUNT(predicted), predicted, target);
    }
}

Test(loss, wrong_arguments_are_refused)
{
    Placed numbers = placed_make(device, NULL, 8, false), loss = placed_make(device, NULL, 1, false);
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklLossArgs good = vkl_loss_args(VKL_LOSS_HUBER, 8);
    good.predicted = good.target = numbers.slice;
    good.loss = loss.slice;
#define LOSS(change, status, word)                                                                      \
    do {                                                                                                \
        VklLossArgs bad = good;                                                                         \
        change;                                                                                         \
        EXPECT_REFUSAL(#change, vkl_loss_record(stream, &bad), status, vkl_stream_error(stream), word); \
    } while (0)
    LOSS(bad.struct_size = 0, VKL_ERROR_INVALID, "struct_size");
    LOSS(bad.kind = (VklLoss)5, VKL_ERROR_INVALID, "kind");
    LOSS(bad.count = 0, VKL_ERROR_INVALID, "count");
    LOSS(bad.delta = 0, VKL_ERROR_INVALID, "delta");
    LOSS(bad.delta = NAN, VKL_ERROR_INVALID, "delta");
    LOSS(bad.predicted.buffer = NULL, VKL_ERROR_INVALID, "predicted");
    LOSS(bad.target.buffer = NULL, VKL_ERROR_INVALID, "target");
    LOSS(bad.loss.buffer = NULL, VKL_ERROR_INVALID, "loss");
    LOSS(bad.count = 16, VKL_ERROR_INVALID, "predicted");
    LOSS(bad.loss.offset += 2, VKL_ERROR_INVALID, "loss");
    LOSS(bad.count = UINT64_C(1) << 40, VKL_ERROR_LIMIT, "numbers");
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(numbers.buffer);
    vkl_buffer_destroy(loss.buffer);
}

Test(loss, names)
{
    VklLoss loss = VKL_LOSS_MAE;
    VklActivation activation = VKL_ACTIVATION_TANH;
    cr_assert(vkl_loss("huber", &loss) && loss == VKL_LOSS_HUBER);
    cr_assert(!vkl_loss("Huber", &loss) && !vkl_loss("", &loss) && loss == VKL_LOSS_HUBER);
    cr_assert(vkl_activation("relu", &activation) && activation == VKL_ACTIVATION_RELU);
    cr_assert(!vkl_activation("gelu", &activation) && activation == VKL_ACTIVATION_RELU);
}

/* SPDX-License-Identifier: MIT
 *
 * Every level of kernels that this machine has, against plain C: products in every form, whole training passes, and the same bits
 * whatever the threads, the rows beside a row, and the way that threads share the work.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/kernels.h"
#include "harness.h"
#include "internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Against sums in another order, relative to the largest: 16 + 2 sqrt(k) roundings as docs/numerics.md has it, k to 1,025. */
#define TOLERANCE 5e-6

static VklDevice *device_of(VklContext *context, const char *level)
{
    VklDeviceDesc desc = vkl_device_desc("cpu");
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_create(context, &desc, &device));
    cr_assert(vkl_cpu_device_level(device, level));
    return device;
}

static VklContext *context_of(uint32_t threads)
{
    VklContextDesc desc = vkl_context_desc();
    VklContext *context = NULL;
    desc.threads = threads;
    cr_assert_eq(vkl_context_create(&desc, &context), VKL_OK);
    return context;
}

static float *numbers(size_t count)
{
    float *array = calloc(count ? count : 1, sizeof(*array));
    cr_assert_not_null(array);
    return array;
}

/* ---- Products ---- */

typedef struct Product {
    uint32_t form;
    uint64_t m, n, k, first, ones; /* first: rows of C that the first A gives, 0: all but the ones */
    bool accumulate;
    uint32_t bias_rows;
    VklActivation activation;
} Product;

static const Product products[] = {
    {VKL_GEMM_NN, 1, 1, 1, 0, 0, false, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_NN, 1, 257, 300, 0, 0, false, 2, VKL_ACTIVATION_TANH},
    {VKL_GEMM_NN, 3, 200, 17, 0, 0, true, 1, VKL_ACTIVATION_SIGMOID},
    {VKL_GEMM_NN, 4, 33, 257, 0, 0, true, 0, VKL_ACTIVATION_RELU},
    {VKL_GEMM_NN, 57, 65, 513, 0, 0, false, 2, VKL_ACTIVATION_NONE},
    {VKL_GEMM_NN, 113, 300, 9, 0, 0, false, 1, VKL_ACTIVATION_NONE},
    {VKL_GEMM_NT, 1, 3, 1025, 0, 0, false, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_NT, 17, 65, 257, 0, 0, true, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_NT, 61, 259, 7, 0, 0, false, 1, VKL_ACTIVATION_TANH},
    {VKL_GEMM_TN, 1, 17, 3, 0, 0, false, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_TN, 69, 65, 300, 3, 2, true, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_TN, 74, 256, 1000, 8, 2, false, 0, VKL_ACTIVATION_NONE},
    {VKL_GEMM_TN, 30, 17, 257, 0, 1, true, 0, VKL_ACTIVATION_NONE},
};

/* C [m][n] of rows row to row + rows. Everything but C is the same in each call. */
static void multiply(VklDevice *device, const Product *product, uint64_t row, uint64_t rows, float *c)
{
    const Product *p = product;
    VklContext *context = vkl_device_context(device);
    bool columns = p->form == VKL_GEMM_TN;
    uint64_t first = p->first ? p->first : p->m - p->ones, second = p->m - p->ones - first;
    uint64_t a_count = columns ? p->k * first : p->m * p->k, b_count = p->k * p->n;
    uint64_t at_second = a_count, at_b = at_second + p->k * second, at_bias = at_b + b_count;
    uint64_t total = at_bias + p->bias_rows * p->n + 1;
    float *in = numbers(total);
    test_random(in, total, 7, 1);
    test_random(c, p->m * p->n, 8, 1);
    VklBuffer *inputs = test_buffer(device, in, total), *output = test_buffer(device, c, p->m * p->n);
    VklStream *stream = NULL;
    VklPlan plan;
    VklExec *exec = NULL;
    VklSlice slots[VKL_SLOT_COUNT] = {{0}};
    VklError error;
    VklGemm gemm = {
        .form = p->form,
        .m = rows,
        .n = p->n,
        .k = p->k,
        .a = vkl_array(VKL_SLOT_X, columns ? 0 : row * p->k),
        .b = vkl_array(VKL_SLOT_X, at_b),
        .c = vkl_array(VKL_SLOT_Y, row * p->n),
        .lda = columns ? first : p->k,
        .ldb = p->form == VKL_GEMM_NT ? p->k : p->n,
        .ldc = p->n,
        .accumulate = p->accumulate,
        .bias = p->bias_rows ? vkl_array(VKL_SLOT_X, at_bias) : VKL_NO_ARRAY,
        .bias_rows = p->bias_rows,
        .a_second = second ? vkl_array(VKL_SLOT_X, at_second) : VKL_NO_ARRAY,
        .m_first = second ? first : 0,
        .lda_second = second,
        .ones = (uint32_t)p->ones,
        .activation = p->activation,
    };
    vkl_plan_init(&plan, &device->caps);
    vkl_plan_gemm(&plan, &gemm);
    slots[VKL_SLOT_X] = vkl_slice(inputs, 0);
    slots[VKL_SLOT_Y] = vkl_slice(output, 0);
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_exec_create(device, &plan, slots, "test", &error, &exec));
    TEST_OK(context, vkl_exec_record(exec, stream));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, output, c, p->m * p->n);
    vkl_exec_release(exec);
    vkl_stream_destroy(stream);
    vkl_buffer_destroy(inputs);
    vkl_buffer_destroy(output);
    free(in);
}

Test(cpu, products_of_every_level_agree_with_plain_c)
{
    VklContext *context = context_of(1);
    VklDevice *plain = device_of(context, "plain");
    for (unsigned l = 1; vkl_cpu_level_at(l); l++) {
        VklDevice *device = device_of(context, vkl_cpu_level_at(l)->name);
        for (size_t i = 0; i < COUNT(products); i++) {
            const Product *p = &products[i];
            char what[96];
            float *want = numbers(p->m * p->n), *got = numbers(p->m * p->n), *part = numbers(p->m * p->n);
            snprintf(what, sizeof what, "%s: product %zu", vkl_cpu_level_at(l)->name, i);
            multiply(plain, p, 0, p->m, want);
            multiply(device, p, 0, p->m, got);
            test_compare_f(what, got, want, p->m * p->n, TOLERANCE);
            if (p->form != VKL_GEMM_TN) { /* a row alone has the bits that it has among others */
                uint64_t row = p->m / 2;
                multiply(device, p, row, 1, part);
                cr_assert(!memcmp(part + row * p->n, got + row * p->n, p->n * sizeof(float)), "%s: row %d alone", what, (int)row);
            }
            free(want);
            free(got);
            free(part);
        }
        vkl_device_destroy(device);
    }
    vkl_device_destroy(plain);
    vkl_context_destroy(context);
}

/* ---- Sequences ---- */

typedef struct Shape {
    VklCell cell;
    VklDirection direction;
    uint64_t T, N, I, H;
} Shape;

/* Few rows, for threads that share units; rows and units beside every tile; one step. */
static const Shape shapes[] = {
    {VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, 5, 1, 3, 70},    {VKL_CELL_LSTM, VKL_DIRECTION_BOTH, 4, 3, 5, 33},
    {VKL_CELL_LSTM, VKL_DIRECTION_REVERSE, 3, 17, 2, 50},   {VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, 1, 2, 3, 7},
    {VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, 6, 65, 3, 16},   {VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, 9, 2, 4, 257},
    {VKL_CELL_GRU, VKL_DIRECTION_FORWARD, 6, 1, 3, 130},    {VKL_CELL_GRU, VKL_DIRECTION_BOTH, 3, 17, 2, 37},
    {VKL_CELL_RNN_TANH, VKL_DIRECTION_BOTH, 5, 5, 3, 65},   {VKL_CELL_RNN_RELU, VKL_DIRECTION_FORWARD, 4, 3, 3, 257},
    {VKL_CELL_RNN_TANH, VKL_DIRECTION_FORWARD, 7, 1, 3, 3}, {VKL_CELL_LSTM, VKL_DIRECTION_FORWARD, 40, 1, 2, 130},
    {VKL_CELL_GRU, VKL_DIRECTION_REVERSE, 17, 2, 2, 50},
};

/* y, gradients of x, h0 and the parameters, one after the other. */
static float *train(VklDevice *device, const Shape *s, int runs, size_t *count)
{
    VklContext *context = vkl_device_context(device);
    VklRnnDesc desc = vkl_rnn_desc(s->cell, s->I, s->H);
    VklRnn *rnn = NULL;
    VklRnnSizes sizes;
    VklStream *stream = NULL;
    VklExec *forward_exec = NULL, *backward_exec = NULL;
    desc.direction = s->direction;
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    TEST_OK(context, vkl_rnn_sizes(rnn, s->T, s->N, &sizes));
    TEST_OK(context, vkl_stream_create(device, &stream));
    uint64_t D = s->direction == VKL_DIRECTION_BOTH ? 2 : 1, x = s->T * s->N * s->I, y = s->T * s->N * s->H * D;
    uint64_t state = sizes.state / sizeof(float), params = sizes.params / sizeof(float);
    uint64_t most = x + y + state + params;
    float *random = numbers(most);
    test_random(random, most, 3, 0.2f); /* larger recurrent weights blow rounding up from step to step */

    VklRnnForward forward = vkl_rnn_forward_args(s->T, s->N);
    VklRnnBackward backward = vkl_rnn_backward_args(s->T, s->N);
    VklBuffer *buffers[] = {
        test_buffer(device, random, params),
        test_buffer(device, random + params, x),
        test_buffer(device, random, state),
        test_buffer(device, random + 1, state),
        test_buffer(device, NULL, y),
        test_buffer(device, NULL, sizes.reserve / 4),
        test_buffer(device, NULL, sizes.forward_workspace / 4),
        test_buffer(device, random + params, y),
        test_buffer(device, NULL, sizes.backward_workspace / 4),
        test_buffer(device, NULL, x),
        test_buffer(device, NULL, state),
        test_buffer(device, NULL, params),
    };
    forward.params = backward.params = vkl_slice(buffers[0], 0);
    forward.x = backward.x = vkl_slice(buffers[1], 0);
    forward.h0 = vkl_slice(buffers[2], 0);
    if (s->cell == VKL_CELL_LSTM)
        forward.c0 = vkl_slice(buffers[3], 0);
    forward.y = vkl_slice(buffers[4], 0);
    forward.reserve = backward.reserve = vkl_slice(buffers[5], 0);
    forward.workspace = vkl_slice(buffers[6], 0);
    backward.gy = vkl_slice(buffers[7], 0);
    backward.workspace = vkl_slice(buffers[8], 0);
    backward.dx = vkl_slice(buffers[9], 0);
    backward.dh0 = vkl_slice(buffers[10], 0);
    backward.dparams = vkl_slice(buffers[11], 0);
    TEST_OK(context, vkl_rnn_prepare_forward(rnn, &forward, &forward_exec));
    TEST_OK(context, vkl_rnn_prepare_backward(rnn, &backward, &backward_exec));
    for (int run = 0; run < runs; run++) {
        TEST_OK(context, vkl_exec_record(forward_exec, stream));
        TEST_OK(context, vkl_exec_record(backward_exec, stream));
    }
    TEST_OK(context, vkl_stream_wait(stream));

    *count = (size_t)(y + x + state + params);
    float *results = numbers(*count);
    test_read(device, buffers[4], results, y);
    test_read(device, buffers[9], results + y, x);
    test_read(device, buffers[10], results + y + x, state);
    test_read(device, buffers[11], results + y + x + state, params);
    vkl_exec_destroy(forward_exec);
    vkl_exec_destroy(backward_exec);
    for (size_t i = 0; i < COUNT(buffers); i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_stream_destroy(stream);
    vkl_rnn_destroy(rnn);
    free(random);
    return results;
}

Test(cpu, sequences_of_every_level_agree_with_plain_c)
{
    VklContext *context = context_of(1);
    VklDevice *plain = device_of(context, "plain");
    for (size_t i = 0; i < COUNT(shapes); i++) {
        size_t count, same;
        float *want = train(plain, &shapes[i], 1, &count);
        for (unsigned l = 1; vkl_cpu_level_at(l); l++) {
            VklDevice *device = device_of(context, vkl_cpu_level_at(l)->name);
            float *got = train(device, &shapes[i], 1, &same);
            char what[96];
            snprintf(what, sizeof what, "%s: sequence %zu", vkl_cpu_level_at(l)->name, i);
            test_compare_f(what, got, want, count, TOLERANCE);
            free(got);
            vkl_device_destroy(device);
        }
        free(want);
    }
    vkl_device_destroy(plain);
    vkl_context_destroy(context);
}

/* Run several times: threads that share the units of a row are tried, and the other way, which is the same to the bit. */
Test(cpu, threads_change_no_bit_at_any_level)
{
    static const uint32_t threads[] = {2, 5};
    for (unsigned l = 0; vkl_cpu_level_at(l); l++)
        for (size_t i = 0; i < COUNT(shapes); i++) {
            size_t count;
            VklContext *one = context_of(1);
            VklDevice *alone = device_of(one, vkl_cpu_level_at(l)->name);
            float *want = train(alone, &shapes[i], 1, &count);
            for (size_t t = 0; t < COUNT(threads); t++) {
                VklContext *context = context_of(threads[t]);
                VklDevice *device = device_of(context, vkl_cpu_level_at(l)->name);
                for (int runs = 1; runs <= 2; runs++) {
                    float *got = train(device, &shapes[i], runs, &count);
                    cr_assert(!memcmp(got, want, count * sizeof(float)), "%s: sequence %zu, %u threads, run %d",
                              vkl_cpu_level_at(l)->name, i, threads[t], runs);
                    free(got);
                }
                vkl_device_destroy(device);
                vkl_context_destroy(context);
            }
            free(want);
            vkl_device_destroy(alone);
            vkl_context_destroy(one);
        }
}

/* SPDX-License-Identifier: MIT
 *
 * What gates are for: the adding problem (Hochreiter and Schmidhuber 1997). A sequence has 100 random numbers from [0, 1), of which two are
 * marked; after its end the network must give the sum of those two. Who always says 1 has an error of 1/6 = 0.167. A tanh RNN does no
 * better, because what it saw fifty steps ago is gone; LSTM and GRU keep it.
 *
 * This is a training step by hand: batches are drawn as it goes, a recurrent layer, a dense layer on its final state, loss,
 * optimizer. Prints CSV: cell, seed, step, mean squared error on sequences that are never trained on. A run ends once that is below 0.002.
 * Usage: long_memory [DEVICE [STEPS [lstm|gru|rnn_tanh]]]    default: auto 4000, all three
 * Exit status 1 if an LSTM or a GRU has not come below 0.01. docs/operator.md has the picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vklstm/vklstm.h>

enum { T = 100, I = 2, H = 32, BATCH = 32, HELD_OUT = 1000, SEEDS = 3, EVERY = 100 };

static const struct {
    const char *name;
    VklCell cell;
} cells[] = {{"lstm", VKL_CELL_LSTM}, {"gru", VKL_CELL_GRU}, {"rnn_tanh", VKL_CELL_RNN_TANH}};

static void print(void *user, VklLogLevel level, const char *message)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", message);
}

/* The sentence about what is wrong has been printed by then. */
static void check(VklStatus status)
{
    if (status)
        exit(2);
}

/* Steele, Lea and Flood 2014 (splitmix64): [0, 1). */
static float uniform(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (float)((z ^ z >> 31) >> 40) / 16777216.0f;
}

/* x [T][rows][2]: a number and its mark. One mark is in each half. target [rows]. */
static void draw(uint64_t *random, int rows, float *x, float *target)
{
    for (int row = 0; row < rows; row++) {
        int first = (int)(uniform(random) * (T / 2)), second = T / 2 + (int)(uniform(random) * (T / 2));
        target[row] = 0;
        for (int t = 0; t < T; t++) {
            float *at = x + (t * rows + row) * I;
            at[0] = uniform(random);
            at[1] = t == first || t == second;
            target[row] += at[0] * at[1];
        }
    }
}

typedef struct Network {
    VklStream *stream;
    VklRnn *rnn;
    VklDense *dense;
    VklOptimizer *optimizer;
    VklRnnSizes train, test; /* bytes at the two sizes of a batch */
    VklBuffer *params, *grads, *reserve, *workspace;
    VklBuffer *x, *target, *state, *output, *gradient, *gradient_of_state, *loss;
} Network;

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static VklBuffer *buffer(VklDevice *device, uint64_t bytes)
{
    VklBuffer *made = NULL;
    check(vkl_buffer_create(device, VKL_BUFFER_DEVICE, larger(bytes, 4), &made));
    return made;
}

/* The parameters of both layers lie in one buffer, the dense layer's behind: so one optimizer, and one norm to clip. */
static void network_init(Network *net, VklDevice *device, VklCell cell, uint64_t seed)
{
    VklRnnDesc rnn = vkl_rnn_desc(cell, I, H);
    VklDenseDesc dense = vkl_dense_desc(H, 1, VKL_ACTIVATION_NONE);
    check(vkl_stream_create(device, &net->stream));
    check(vkl_rnn_create(device, &rnn, &net->rnn));
    check(vkl_dense_create(device, &dense, &net->dense));
    check(vkl_rnn_sizes(net->rnn, T, BATCH, &net->train));
    check(vkl_rnn_sizes(net->rnn, T, HELD_OUT, &net->test));

    uint64_t size = net->train.params + vkl_dense_params_size(net->dense);
    VklOptimizerDesc adam = vkl_optimizer_desc(VKL_OPTIMIZER_ADAM);
    adam.learning_rate = 0.01;
    adam.clip_norm = 1;
    check(vkl_optimizer_create(device, &adam, size / sizeof(float), &net->optimizer));

    net->params = buffer(device, size);
    net->grads = buffer(device, size);
    net->reserve = buffer(device, net->train.reserve);
    net->workspace = buffer(device, larger(net->test.forward_workspace,
                                           larger(net->train.backward_workspace, vkl_dense_workspace_size(net->dense, BATCH))));
    net->x = buffer(device, sizeof(float) * T * HELD_OUT * I);
    net->target = buffer(device, sizeof(float) * HELD_OUT);
    net->state = buffer(device, net->test.state);
    net->output = buffer(device, sizeof(float) * HELD_OUT);
    net->gradient = buffer(device, sizeof(float) * BATCH);
    net->gradient_of_state = buffer(device, net->train.state);
    net->loss = buffer(device, sizeof(float));

    float *packed = malloc(size);
    if (!packed)
        exit(2);
    check(vkl_rnn_init(net->rnn, seed, packed));
    check(vkl_dense_init(net->dense, seed, packed + net->train.params / sizeof(float)));
    check(vkl_stream_write(net->stream, vkl_slice(net->params, 0), packed, size));
    free(packed);
}

static void network_finish(Network *net)
{
    VklBuffer *all[] = {net->params, net->grads,  net->reserve,  net->workspace,         net->x,   net->target,
                        net->state,  net->output, net->gradient, net->gradient_of_state, net->loss};
    vkl_stream_destroy(net->stream); /* waits: nothing is in use any more */
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        vkl_buffer_destroy(all[i]);
    vkl_optimizer_destroy(net->optimizer);
    vkl_dense_destroy(net->dense);
    vkl_rnn_destroy(net->rnn);
}

/* Records: rows of x to outputs and their loss. With `learn` also what backward needs. */
static void forward(Network *net, int rows, const float *x, const float *target, bool learn)
{
    check(vkl_stream_write(net->stream, vkl_slice(net->x, 0), x, sizeof(float) * T * (size_t)rows * I));
    check(vkl_stream_write(net->stream, vkl_slice(net->target, 0), target, sizeof(float) * (size_t)rows));

    VklRnnForward rnn = vkl_rnn_forward_args(T, (uint64_t)rows);
    rnn.params = vkl_slice(net->params, 0);
    rnn.x = vkl_slice(net->x, 0);
    rnn.hn = vkl_slice(net->state, 0); /* y, the states of all time steps, is not asked for */
    rnn.workspace = vkl_slice(net->workspace, 0);
    if (learn)
        rnn.reserve = vkl_slice(net->reserve, 0);
    check(vkl_rnn_forward(net->rnn, net->stream, &rnn));
    check(vkl_dense_forward(net->dense, net->stream, (uint64_t)rows, vkl_slice(net->params, net->train.params),
                            vkl_slice(net->state, 0), vkl_slice(net->output, 0)));

    VklLossArgs loss = vkl_loss_args(VKL_LOSS_MSE, (uint64_t)rows);
    loss.predicted = vkl_slice(net->output, 0);
    loss.target = vkl_slice(net->target, 0);
    loss.loss = vkl_slice(net->loss, 0);
    if (learn)
        loss.gradient = vkl_slice(net->gradient, 0);
    check(vkl_loss_record(net->stream, &loss));
}

static void learn(Network *net, const float *x, const float *target)
{
    forward(net, BATCH, x, target, true);

    VklDenseBackward dense = vkl_dense_backward_args(BATCH);
    dense.params = vkl_slice(net->params, net->train.params);
    dense.x = vkl_slice(net->state, 0);
    dense.y = vkl_slice(net->output, 0);
    dense.gy = vkl_slice(net->gradient, 0);
    dense.workspace = vkl_slice(net->workspace, 0);
    dense.dx = vkl_slice(net->gradient_of_state, 0);
    dense.dparams = vkl_slice(net->grads, net->train.params);
    check(vkl_dense_backward(net->dense, net->stream, &dense));

    VklRnnBackward rnn = vkl_rnn_backward_args(T, BATCH);
    rnn.params = vkl_slice(net->params, 0);
    rnn.x = vkl_slice(net->x, 0);
    rnn.reserve = vkl_slice(net->reserve, 0);
    rnn.workspace = vkl_slice(net->workspace, 0);
    rnn.ghn = vkl_slice(net->gradient_of_state, 0);
    rnn.dparams = vkl_slice(net->grads, 0);
    check(vkl_rnn_backward(net->rnn, net->stream, &rnn));

    check(vkl_optimizer_step(net->optimizer, net->stream, vkl_slice(net->params, 0), vkl_slice(net->grads, 0)));
    check(vkl_stream_submit(net->stream, NULL));
}

static float held_out_error(Network *net, const float *x, const float *target)
{
    float error = 0;
    forward(net, HELD_OUT, x, target, false);
    check(vkl_stream_read(net->stream, vkl_slice(net->loss, 0), &error, sizeof error));
    check(vkl_stream_wait(net->stream));
    return error;
}

/* Returns the last error. */
static float run(VklDevice *device, const char *name, VklCell cell, uint64_t seed, int steps)
{
    static float x[T * BATCH * I], target[BATCH], test_x[T * HELD_OUT * I], test_target[HELD_OUT];
    uint64_t random = seed, test_random = 1000000; /* the same held-out sequences for all */
    Network net = {0};
    float error = 1;
    network_init(&net, device, cell, seed);
    draw(&test_random, HELD_OUT, test_x, test_target);
    for (int step = 0; step <= steps; step++) {
        if (step % EVERY == 0 || step == steps) {
            error = held_out_error(&net, test_x, test_target);
            printf("%s,%llu,%d,%.6f\n", name, (unsigned long long)seed, step, (double)error);
            fflush(stdout);
        }
        if (error < 0.002f || step == steps)
            break;
        draw(&random, BATCH, x, target);
        learn(&net, x, target);
    }
    network_finish(&net);
    return error;
}

int main(int argc, char **argv)
{
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklContextDesc context_desc = vkl_context_desc();
    context_desc.log = print;
    VklDeviceDesc device_desc = vkl_device_desc(argc > 1 ? argv[1] : "auto");
    int steps = argc > 2 ? atoi(argv[2]) : 4000;
    bool learnt = true;

    check(vkl_context_create(&context_desc, &context));
    check(vkl_device_create(context, &device_desc, &device));
    printf("cell,seed,step,error\n");
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        if (argc <= 3 || strcmp(argv[3], cells[i].name) == 0)
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                float error = run(device, cells[i].name, cells[i].cell, seed, steps);
                learnt = learnt && (error < 0.01f || cells[i].cell == VKL_CELL_RNN_TANH);
            }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return !learnt;
}

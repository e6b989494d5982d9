/* SPDX-License-Identifier: MIT */
#include "shapes.h"

#include <stdio.h>

static const Shape series[] = {
    {.cell = VKL_CELL_LSTM, .seq = 1, .batch = 1, .input = 1, .hidden = 50, .layers = 1},
    {.cell = VKL_CELL_LSTM, .seq = 100, .batch = 32, .input = 8, .hidden = 64, .layers = 1},
    {.cell = VKL_CELL_LSTM, .seq = 64, .batch = 32, .input = 128, .hidden = 256, .layers = 1},
    {.cell = VKL_CELL_LSTM, .seq = 50, .batch = 64, .input = 512, .hidden = 512, .layers = 1},
    {.cell = VKL_CELL_LSTM, .seq = 100, .batch = 1, .input = 128, .hidden = 256, .layers = 1},
};
#define SERIES_COUNT (sizeof series / sizeof series[0])

#define EACH_MAX 4

/* Every batch size with every number of time steps; 0: none. */
static const struct Row {
    ShapeSet set;
    VklCell cell;
    uint64_t hidden, batch[EACH_MAX], seq[EACH_MAX];
} deepbench[] = {
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_RNN_RELU, 1760, {16, 32, 64, 128}, {50}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_RNN_RELU, 2048, {16, 32, 64, 128}, {50}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_RNN_RELU, 2560, {16, 32, 64, 128}, {50}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 512, {16, 32, 64, 128}, {25}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 1024, {16, 32, 64, 128}, {25}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 2048, {16, 32, 64, 128}, {25}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 4096, {16, 32, 64, 128}, {25}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 1536, {8, 16, 32}, {50}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_LSTM, 256, {16, 32, 64}, {150}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 2816, {32}, {750, 375, 187}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 2048, {32}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 1536, {32}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 2560, {32}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 512, {32}, {1}},
    {SHAPES_DEEPBENCH_TRAINING, VKL_CELL_GRU, 1024, {32, 64}, {1500}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_LSTM, 512, {1, 2, 4}, {25}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_LSTM, 1024, {1, 2, 4}, {25}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_LSTM, 2048, {1, 2, 4}, {25}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_LSTM, 1536, {1, 2, 4}, {50}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_LSTM, 256, {1, 2, 4}, {150}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 2816, {1, 2, 4}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 2048, {1, 2, 4}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 1536, {1, 2, 4}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 2560, {1, 2, 4}, {1500, 750, 375, 187}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 512, {1, 2, 4}, {1}},
    {SHAPES_DEEPBENCH_SERVER, VKL_CELL_GRU, 1024, {1, 2, 4}, {1500}},
    {SHAPES_DEEPBENCH_DEVICE, VKL_CELL_RNN_RELU, 32, {1}, {672}},
    {SHAPES_DEEPBENCH_DEVICE, VKL_CELL_RNN_RELU, 64, {1}, {96}},
    {SHAPES_DEEPBENCH_DEVICE, VKL_CELL_LSTM, 256, {1}, {150}},
};
#define ROW_COUNT (sizeof deepbench / sizeof deepbench[0])

static size_t count_of(const uint64_t values[EACH_MAX])
{
    size_t count = 0;
    while (count < EACH_MAX && values[count])
        count++;
    return count;
}

size_t suite_shape_count(void)
{
    size_t count = SERIES_COUNT;
    for (size_t i = 0; i < ROW_COUNT; i++)
        count += count_of(deepbench[i].batch) * count_of(deepbench[i].seq);
    return count;
}

void suite_shape(size_t index, SuiteShape *shape)
{
    if (index < SERIES_COUNT) {
        *shape = (SuiteShape){.set = SHAPES_SERIES, .shape = series[index]};
        return;
    }
    index -= SERIES_COUNT;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct Row *row = &deepbench[i];
        size_t batches = count_of(row->batch), count = batches * count_of(row->seq);
        if (index < count) {
            *shape = (SuiteShape){.set = row->set,
                                  .shape = {.cell = row->cell,
                                            .seq = row->seq[index / batches],
                                            .batch = row->batch[index % batches],
                                            .input = row->hidden,
                                            .hidden = row->hidden,
                                            .layers = 1,
                                            .skip_input = true}};
            return;
        }
        index -= count;
    }
}

const char *cell_name(VklCell cell)
{
    static const char *const names[] = {"lstm", "gru", "rnn", "rnn_relu"}; /* by VklCell */
    return names[cell];
}

void suite_shape_name(const SuiteShape *shape, char name[SHAPE_NAME_SIZE])
{
    static const char *const sets[] = {"series", "deepbench-training", "deepbench-server", "deepbench-device"};
    const Shape *sizes = &shape->shape;
    snprintf(name, SHAPE_NAME_SIZE, "%s %s T%llu B%llu I%llu H%llu", sets[shape->set], cell_name(sizes->cell),
             (unsigned long long)sizes->seq, (unsigned long long)sizes->batch, (unsigned long long)sizes->input,
             (unsigned long long)sizes->hidden);
}

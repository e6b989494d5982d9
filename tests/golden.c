/* SPDX-License-Identifier: MIT */
#include "golden.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "harness.h"

const char *const golden_lstm[] = {"lstm_t1_n1_i1_h50_l1", "lstm_t5_n3_i2_h7_l2",  "lstm_t3_n2_i5_h1_l3",
                                   "lstm_t7_n1_i3_h17_l1", "lstm_t2_n4_i1_h65_l1", "lstm_t4_n2_i3_h33_l2",
                                   "lstm_t64_n2_i2_h5_l1", "lstm_t2_n3_i67_h3_l1", NULL};
const char *const golden_dense[] = {"dense_none", "dense_tanh", "dense_sigmoid", "dense_relu", NULL};
const char *const golden_loss[] = {"loss_mse", "loss_mae", "loss_huber", NULL};
const char *const golden_optimizer[] = {"optimizer_sgd",
                                        "optimizer_sgd_momentum_decay",
                                        "optimizer_sgd_clip_value",
                                        "optimizer_rmsprop",
                                        "optimizer_rmsprop_momentum_decay",
                                        "optimizer_adam",
                                        "optimizer_adam_decay_clip_norm",
                                        "optimizer_adamw",
                                        "optimizer_adamw_both_clips",
                                        NULL};

struct Golden {
    const char *name;
    json_t *header;
    unsigned char *file;
    const unsigned char *data;
    size_t data_size;
    float *tensors[64]; /* decoded so far */
    size_t tensor_count;
};

Golden *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof(path), VKL_SOURCE_ROOT "/tests/data/%s.safetensors", name);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s: cannot be opened", path);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    const long size = ftell(file);
    rewind(file);
    cr_assert_gt(size, 8, "%s: %ld bytes", path, size);

    Golden *golden = calloc(1, sizeof(*golden));
    cr_assert_not_null(golden);
    golden->name = name;
    golden->file = malloc((size_t)size);
    cr_assert_not_null(golden->file);
    cr_assert_eq(fread(golden->file, 1, (size_t)size, file), (size_t)size, "%s: cannot be read", path);
    fclose(file);

    uint64_t header_size = 0;
    for (int k = 0; k < 8; k++)
        header_size |= (uint64_t)golden->file[k] << 8 * k;
    cr_assert_lt(header_size, (uint64_t)size - 8, "%s: a header of %" PRIu64 " bytes", path, header_size);
    json_error_t error;
    golden->header = json_loadb((const char *)golden->file + 8, (size_t)header_size, 0, &error);
    cr_assert_not_null(golden->header, "%s: %s", path, error.text);
    golden->data = golden->file + 8 + header_size;
    golden->data_size = (size_t)size - 8 - (size_t)header_size;
    return golden;
}

void golden_close(Golden *golden)
{
    for (size_t k = 0; k < golden->tensor_count; k++)
        free(golden->tensors[k]);
    json_decref(golden->header);
    free(golden->file);
    free(golden);
}

const float *golden_tensor(const Golden *golden, const char *name, size_t count)
{
    const json_t *offsets = json_object_get(json_object_get(golden->header, name), "data_offsets");
    cr_assert_eq(json_array_size(offsets), 2u, "%s: no tensor %s", golden->name, name);
    const size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    const size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    cr_assert(begin <= end && end <= golden->data_size && end - begin == 4 * count,
              "%s: tensor %s has bytes %zu to %zu; %zu numbers were expected", golden->name, name, begin, end, count);

    Golden *cache = (Golden *)golden;
    cr_assert_lt(cache->tensor_count, sizeof(cache->tensors) / sizeof(cache->tensors[0]));
    float *tensor = malloc(4 * count);
    cr_assert_not_null(tensor);
    for (size_t k = 0; k < count; k++) {
        const unsigned char *byte = golden->data + begin + 4 * k;
        const uint32_t bits = byte[0] | (uint32_t)byte[1] << 8 | (uint32_t)byte[2] << 16 | (uint32_t)byte[3] << 24;
        memcpy(&tensor[k], &bits, 4);
    }
    cache->tensors[cache->tensor_count++] = tensor;
    return tensor;
}

static const char *find_text(const Golden *golden, const char *key)
{
    return json_string_value(json_object_get(json_object_get(golden->header, "__metadata__"), key));
}

const char *golden_text(const Golden *golden, const char *key)
{
    const char *text = find_text(golden, key);
    cr_assert_not_null(text, "%s: no %s in the metadata", golden->name, key);
    return text;
}

double golden_number(const Golden *golden, const char *key, double missing)
{
    const char *text = find_text(golden, key);
    return text ? strtod(text, NULL) : missing;
}

size_t golden_size(const Golden *golden, const char *key)
{
    return (size_t)strtoull(golden_text(golden, key), NULL, 10);
}

RefLstm golden_lstm_size(const Golden *golden)
{
    RefLstm size = {golden_size(golden, "T"), golden_size(golden, "N"), golden_size(golden, "I"), golden_size(golden, "H"),
                    golden_size(golden, "L")};
    return size;
}

void golden_lstm_params(const Golden *golden, const char *prefix, float *params)
{
    static const char *const names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const RefLstm size = golden_lstm_size(golden);
    for (size_t l = 0; l < size.L; l++) {
        const RefLayer at = ref_lstm_layer(&size, l);
        const size_t begin[] = {at.w_ih, at.w_hh, at.b_ih, at.b_hh, at.end};
        for (size_t k = 0; k < 4; k++) {
            char name[64];
            snprintf(name, sizeof(name), "%s%s_l%zu", prefix, names[k], l);
            const size_t count = begin[k + 1] - begin[k];
            memcpy(params + begin[k], golden_tensor(golden, name, count), count * sizeof(float));
        }
    }
}

VklOptimizerDesc golden_optimizer_desc(const Golden *golden)
{
    VklOptimizerKind kind = VKL_OPTIMIZER_SGD;
    cr_assert(vkl_optimizer_kind(golden_text(golden, "kind"), &kind));
    VklOptimizerDesc desc = vkl_optimizer_desc(kind); /* PyTorch's defaults where the file says nothing */
    desc.learning_rate = golden_number(golden, "lr", desc.learning_rate);
    desc.momentum = golden_number(golden, "momentum", desc.momentum);
    desc.weight_decay = golden_number(golden, "weight_decay", desc.weight_decay);
    desc.beta1 = golden_number(golden, "beta1", desc.beta1);
    desc.beta2 = golden_number(golden, "beta2", desc.beta2);
    desc.alpha = golden_number(golden, "alpha", desc.alpha);
    desc.epsilon = golden_number(golden, "eps", desc.epsilon);
    desc.clip_norm = golden_number(golden, "clip_norm", 0);
    desc.clip_value = golden_number(golden, "clip_value", 0);
    return desc;
}

/* SPDX-License-Identifier: MIT
 *
 * Reads the golden files of tests/data: safetensors with float32 tensors, and a case's sizes and settings as strings in its
 * metadata. tests/data/generate.py makes them. Whatever is missing fails the test.
 */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdbool.h>
#include <stddef.h>

#include "reference.h"

typedef struct Golden Golden;

/* The names of the files, without ".safetensors"; NULL ends each list. */
extern const char *const golden_lstm[], *const golden_dense[], *const golden_loss[], *const golden_optimizer[];

Golden *golden_open(const char *name);
void golden_close(Golden *golden);

/* A tensor of exactly `count` numbers; valid until golden_close(). */
const float *golden_tensor(const Golden *golden, const char *name, size_t count);
const char *golden_text(const Golden *golden, const char *key);
/* `missing` is returned where the metadata has no such key. */
double golden_number(const Golden *golden, const char *key, double missing);
size_t golden_size(const Golden *golden, const char *key);

RefLstm golden_lstm_size(const Golden *golden);
/* The parameters (prefix "") or their gradients (prefix "d") one after another, as reference.h has them. */
void golden_lstm_params(const Golden *golden, const char *prefix, float *params);
VklOptimizerDesc golden_optimizer_desc(const Golden *golden);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Random numbers and initial weights. Counter-based (Philox 4x32-10 of Salmon et al. 2011): number i of stream s under a seed is a pure
 * function of the three, so that every device and every number of threads sees the same bits.
 */
#ifndef VKL_INIT_H
#define VKL_INIT_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

typedef struct VklRandom {
    uint64_t seed, stream, next;
    uint32_t block[4];
} VklRandom;

VklRandom vkl_random(uint64_t seed, uint64_t stream);
uint32_t vkl_random_u32(VklRandom *random);
double vkl_random_uniform(VklRandom *random); /* [0, 1), 53 bits */
double vkl_random_normal(VklRandom *random);

/* A seed for part `index` of something seeded. */
uint64_t vkl_seed_part(uint64_t seed, uint64_t index);

/* The numbers 0 ... count - 1 in an order of its own for each (seed, epoch). */
void vkl_shuffle(uint32_t *order, uint32_t count, uint64_t seed, uint64_t epoch);

/* weight [rows][columns] uniform in +-sqrt(6 / (rows + columns)) */
void vkl_init_glorot(float *weight, uint64_t rows, uint64_t columns, uint64_t seed);

/* weight [rows][columns] with orthonormal columns or, where there are more columns than rows, orthonormal rows. False: out of memory. */
bool vkl_init_orthogonal(const VklHostMemory *memory, float *weight, uint64_t rows, uint64_t columns, uint64_t seed);

#endif

/* SPDX-License-Identifier: MIT
 *
 * How the vector kernels cut their work for threads: products into blocks of rows and columns; sequences into rows or, in a gang, into its
 * members.
 */
#ifndef VKL_CPU_VECTOR_ITEMS_H
#define VKL_CPU_VECTOR_ITEMS_H

#include "kernels.h"

#define BLOCK_COLUMNS 256
#define BLOCK_ROWS 56 /* whole tiles of 14, and nearly so of 6 and 4 */

void VKL_CPU(items)(const VklOp *op, uint32_t threads, uint64_t *count, uint64_t *cost);
void VKL_CPU(packing)(const VklOp *op, VklCpuPacking *packing);
void VKL_CPU(pack)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end);

#endif

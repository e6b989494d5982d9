/* SPDX-License-Identifier: MIT
 *
 * How the vector kernels cut their work for threads: products into blocks of rows and columns, blocks of rows fastest.
 */
#ifndef VKL_CPU_VECTOR_ITEMS_H
#define VKL_CPU_VECTOR_ITEMS_H

#include "kernels.h"

#define BLOCK_COLUMNS 256
#define BLOCK_ROWS 56 /* a multiple of a tile's, or nearly */
#define BLOCK_ROWS_MAX 56

void VKL_CPU(items)(const VklOp *op, uint64_t *count, uint64_t *cost);

#endif

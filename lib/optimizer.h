/* SPDX-License-Identifier: MIT
 *
 * What the optimizer object and a model's training step share. */
#ifndef VKL_OPTIMIZER_H
#define VKL_OPTIMIZER_H

#include "internal.h"

/* Refuses values out of range by name. */
VklStatus vkl_optimizer_check(VklContext *context, VklError *error, const char *call, const VklOptimizerDesc *desc);

/* The header of a fresh step state. */
void vkl_optimizer_state(const VklOptimizerDesc *desc, uint32_t header[VKL_STATE_LOSS]);

#endif

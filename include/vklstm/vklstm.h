/* SPDX-License-Identifier: MIT
 *
 * vklstm: recurrent networks on every GPU. This header includes all others but vulkan.h.
 *
 *     VklContext > VklDevice > VklBuffer, VklStream, VklRnn, VklDense, VklOptimizer, VklModel
 *     VklContext > VklTable, VklPrep > VklWindowSet
 *
 * Conventions: vkl_noun_verb, VklNoun, VKL_CONSTANT. Results come last, through pointers, and stay untouched on failure. Input
 * structures begin with struct_size and come with their defaults from a function; small values that are passed in arrays or
 * inside others (VklSlice, VklLayerDesc, VklActivationDesc, VklDropout) do not. destroy functions accept NULL.
 */
#ifndef VKLSTM_VKLSTM_H
#define VKLSTM_VKLSTM_H

#include "buffer.h"
#include "context.h"
#include "data.h"
#include "device.h"
#include "fit.h"
#include "io.h"
#include "layers.h"
#include "model.h"
#include "optimizer.h"
#include "rnn.h"
#include "status.h"
#include "stream.h"

#endif

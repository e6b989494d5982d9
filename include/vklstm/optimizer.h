/* SPDX-License-Identifier: MIT
 *
 * VklOptimizer: updates one flat buffer of parameters from one flat buffer of gradients, on the device.
 *
 * Formulas and defaults are PyTorch's (torch.optim; t counts steps from 1, g is the clipped gradient, p the parameter):
 *
 *     SGD      g += wd p;  m = t == 1 ? g : momentum m + g;  p -= lr m
 *     RMSprop  g += wd p;  v = alpha v + (1 - alpha) g^2;  u = g / (sqrt(v) + eps);
 *              momentum > 0 ? (m = momentum m + u, p -= lr m) : (p -= lr u)                (Tieleman and Hinton 2012)
 *     Adam     g += wd p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
 *              p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)                       (Kingma and Ba 2015)
 *     AdamW    p -= lr wd p first, then Adam without wd                                  (Loshchilov and Hutter 2019)
 *
 * Gradient clipping comes first: by norm over the whole buffer, g *= min(1, clip_norm / (|g| + 1e-6)), then by value,
 * g = clamp(g, -clip_value, clip_value). A NaN gradient stays NaN. Threads: as VklRnn (context.h).
 */
#ifndef VKLSTM_OPTIMIZER_H
#define VKLSTM_OPTIMIZER_H

#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklOptimizer VklOptimizer;

typedef enum VklOptimizerKind {
    VKL_OPTIMIZER_SGD = 0,
    VKL_OPTIMIZER_RMSPROP = 1,
    VKL_OPTIMIZER_ADAM = 2,
    VKL_OPTIMIZER_ADAMW = 3
} VklOptimizerKind;

typedef struct VklOptimizerDesc {
    size_t struct_size;
    VklOptimizerKind kind;
    double learning_rate; /* lr >= 0; default 0.01 for SGD and RMSprop, 0.001 for Adam and AdamW */
    double momentum;      /* 0 <= momentum < 1; default 0; SGD and RMSprop only, must be 0 elsewhere */
    double weight_decay;  /* wd >= 0; default 0, AdamW 0.01 */
    double beta1, beta2;  /* 0 <= b < 1; defaults 0.9 and 0.999 (Adam, AdamW) */
    double alpha;         /* 0 <= alpha < 1; default 0.99 (RMSprop) */
    double epsilon;       /* > 0; default 1e-8 */
    double clip_norm;     /* 0: off (default) */
    double clip_value;    /* 0: off (default) */
} VklOptimizerDesc;

VKL_API VklOptimizerDesc vkl_optimizer_desc(VklOptimizerKind kind);

/* "sgd", "rmsprop", "adam", "adamw" -> kind. Returns false, and leaves *kind alone, for any other name. */
VKL_API bool vkl_optimizer_kind(const char *name, VklOptimizerKind *kind);

/* An optimizer for `count` parameters (floats; a multiple of 4). Allocates two floats for each on the device.
 * Errors: VKL_ERROR_INVALID (a value outside its range above, by name), memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_optimizer_create(VklDevice *device, const VklOptimizerDesc *desc, uint64_t count, VklOptimizer **optimizer);
VKL_API void vkl_optimizer_destroy(VklOptimizer *optimizer);
VKL_API const char *vkl_optimizer_error(const VklOptimizer *optimizer);

/* Records one step. The optimizer must outlive what is recorded or prepared from it until the device is done: the moments are
 * its own. `params`: inout, `count` floats. `grads`: in, `count` floats; no overlap.
 * Errors: VKL_ERROR_INVALID, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_optimizer_step(VklOptimizer *optimizer, VklStream *stream, VklSlice params, VklSlice grads);
VKL_API VklStatus vkl_optimizer_prepare(VklOptimizer *optimizer, VklSlice params, VklSlice grads, VklExec **exec);

#ifdef __cplusplus
}
#endif
#endif

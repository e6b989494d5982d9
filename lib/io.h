/* SPDX-License-Identifier: MIT
 *
 * Model files, and checkpoints, which are model files that hold more. */
#ifndef VKL_IO_H
#define VKL_IO_H

#include "model.h"
#include "tensors.h"

/* Arrays as large as the weights, each under the names of the tensors with a prefix of its own. */
typedef enum VklPlaneKind {
    VKL_PLANE_WEIGHTS,
    VKL_PLANE_FIRST, /* moments of the optimizer */
    VKL_PLANE_SECOND,
    VKL_PLANE_FINISHED, /* weights at the end of the last finished epoch */
    VKL_PLANE_BEST,     /* of the epoch with the lowest validation loss */
    VKL_PLANES
} VklPlaneKind;
extern const char *const vkl_plane_prefix[VKL_PLANES];

#define VKL_LOSSES_NAME "fit.losses"

typedef struct VklPlane {
    VklPlaneKind kind;
    const float *packed;
} VklPlane;

/* What is written. */
typedef struct VklModelFile {
    const VklPlane *planes;
    size_t plane_count;
    const char *fit; /* the text of a checkpoint, or NULL */
    const float *losses;
    uint64_t loss_count; /* 0: none */
} VklModelFile;

/* `*data` is for vkl_release(). */
VklStatus vkl_model_write(VklModel *model, VklError *error, const char *call, const VklPrep *prep, const VklModelFile *file,
                          void **data, size_t *size);

/* The text "config" of an open file, as JSON; checks format and version. */
VklStatus vkl_model_config(const VklTensorFile *file, json_t **config);
/* The layers as in "config". NULL: no memory. */
json_t *vkl_model_layers_json(const VklModel *model);
/* Reads all tensors of a plane into `packed`. */
VklStatus vkl_model_read_plane(const VklTensorFile *file, VklModel *model, VklPlaneKind kind, float *packed);

#endif

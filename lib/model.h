/* SPDX-License-Identifier: MIT */
#ifndef VKL_MODEL_H
#define VKL_MODEL_H

#include "internal.h"
#include "plan_model.h"

struct VklModel {
    VklDevice *device;
    VklError error;
    VklStream *stream;
    VklNetwork network;
    VklLayerDesc *descs; /* the layers as they were asked for */
    VklRnn **rnns;       /* [layers], NULL where the layer is dense; for names, packing and initial weights */
    VklDense **denses;   /* [layers] */
    VklBuffer *params;   /* [network.params] */
    VklExecCache steps;  /* of agents */
    float *mirror;       /* host copy of params */
    bool mirror_valid;   /* the mirror has what the device has */
    bool mirror_newer;   /* the mirror was written and is still to be uploaded */
    struct VklFit *fit;  /* that trains it, or NULL */
};

/* What failed on the model's stream or buffers is told by the model's error as well. */
static inline VklStatus vkl_model_again(VklModel *model, VklStatus status)
{
    return status < 0 ? vkl_fail_again(&model->error, status) : status;
}

/* "lstm", "dense" ...: the kinds of layers in texts, tensor names and files. */
const char *vkl_layer_name(VklLayerKind kind);
bool vkl_layer_kind(const char *name, VklLayerKind *kind);

/* How many parameters a layer has, padding included, and how many outputs; false: they do not fit 63 bits. */
bool vkl_layer_size(const VklLayerDesc *layer, uint64_t inputs, uint64_t *numbers, uint64_t *outputs);

/* The weights as they lie on the device, padding included; valid until the model is trained or set. */
VklStatus vkl_model_packed(VklModel *model, const float **packed);
/* One tensor out of such an array, or into it. */
VklStatus vkl_model_unpack(VklModel *model, uint32_t index, const float *packed, float *data);
VklStatus vkl_model_pack(VklModel *model, uint32_t index, const float *data, float *packed);

/* The device has the latest parameters. */
VklStatus vkl_model_sync(VklModel *model);

#endif

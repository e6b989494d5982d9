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
    float *mirror;       /* host copy of params */
    bool mirror_valid;   /* the mirror has what the device has */
    bool mirror_newer;   /* the mirror was written and is still to be uploaded */
};

/* The device has the latest parameters. */
VklStatus vkl_model_sync(VklModel *model);

#endif

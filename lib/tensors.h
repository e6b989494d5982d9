/* SPDX-License-Identifier: MIT
 *
 * Named float32 tensors in one block of bytes, with texts beside them: safetensors. What they mean is for io.c and checkpoint.c. */
#ifndef VKL_TENSORS_H
#define VKL_TENSORS_H

#include <jansson.h>

#include "internal.h"

/* Little-endian, whatever the machine. */
void vkl_store_floats(unsigned char *bytes, const float *values, uint64_t count);
void vkl_load_floats(float *values, const unsigned char *bytes, uint64_t count);

/* Compact; for vkl_release(). NULL: no memory, or json is NULL. */
char *vkl_json_text(const VklHostMemory *memory, const json_t *json);
/* A whole number from 0 on. */
bool vkl_json_is_index(const json_t *json);

/* ---- Writing ---- */

typedef struct VklTensorPlace {
    char name[96];
    uint32_t rank;
    uint64_t shape[2];
    unsigned char *bytes; /* out: where its numbers belong */
} VklTensorPlace;

/* The block with everything but the numbers; for vkl_release(). `metadata`: an object of texts, taken over; NULL: there was no
 * memory for it. */
VklStatus vkl_tensors_make(VklContext *context, VklError *error, const char *call, json_t *metadata, VklTensorPlace *tensors,
                           size_t count, unsigned char **data, size_t *size);

/* ---- Reading ---- */

typedef struct VklTensor {
    const char *name;
    uint32_t rank;
    uint64_t shape[2];
    uint64_t begin, end; /* in the data */
} VklTensor;

typedef struct VklTensorFile {
    VklContext *context; /* set by the caller, as are the next two */
    VklError *error;     /* where sentences go, or NULL */
    const char *name;    /* of the file, for sentences */
    const unsigned char *data;
    uint64_t data_size; /* of the tensors */
    json_t *header;
    VklTensor *tensors; /* by `begin` */
    size_t count;
} VklTensorFile;

/* Reads the header, and then the list of tensors; `data` must outlive the file. After both, and after a failure too,
 * vkl_tensors_close(). */
VklStatus vkl_tensors_open(VklTensorFile *file, const void *data, size_t size);
VklStatus vkl_tensors_list(VklTensorFile *file);
void vkl_tensors_close(VklTensorFile *file);

/* A text of the metadata, or NULL. */
const char *vkl_tensors_text(const VklTensorFile *file, const char *key);
const VklTensor *vkl_tensors_find(const VklTensorFile *file, const char *name);

#endif

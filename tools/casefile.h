/* SPDX-License-Identifier: MIT
 *
 * A case: one recurrent operator with its inputs and what it must give, in a safetensors file. docs/case-files.md has the format. A reader
 * must expect anything in a file.
 */
#ifndef VKLSTM_TOOLS_CASEFILE_H
#define VKLSTM_TOOLS_CASEFILE_H

#include <jansson.h>

#include "vklstm/vklstm.h"

#define CASE_RANK_MAX 4

typedef struct CaseTensor {
    const char *name;
    char type[4]; /* F32, F64, I32, I64; another: not read by us, and refused where it is asked for */
    uint32_t rank;
    uint64_t shape[CASE_RANK_MAX];
    uint64_t count;
    const unsigned char *bytes;
} CaseTensor;

typedef struct CaseFile {
    const char *path;
    char name[128]; /* of the config; the path without one */
    VklRnnDesc desc;
    uint64_t T, B;
    bool lengths, init_state;
    CaseTensor *tensors;
    size_t tensor_count;
    json_t *header;
    unsigned char *bytes;
    size_t size;
} CaseFile;

/* Reads and checks a file but for what its tensors mean. Prints and returns EXIT_USAGE, or EXIT_OK; casefile_close() is for both
 * outcomes. `path` must outlive the result. */
int casefile_read(const char *path, CaseFile *file);
void casefile_close(CaseFile *file);

/* NULL: not there. */
const CaseTensor *casefile_find(const CaseFile *file, const char *name);

/* Whether the tensor has this shape and numbers of this kind: F32 or F64, or I32 or I64. Prints and returns EXIT_USAGE, or EXIT_OK. */
int casefile_check(const CaseFile *file, const CaseTensor *tensor, bool integers, uint32_t rank, const uint64_t *shape);

/* Element `index` of a tensor that casefile_check() was content with. */
double casefile_number(const CaseTensor *tensor, uint64_t index);
int64_t casefile_integer(const CaseTensor *tensor, uint64_t index);

#endif

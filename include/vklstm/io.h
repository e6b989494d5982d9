/* SPDX-License-Identifier: MIT
 *
 * Models in files: safetensors (an 8-byte length, a JSON header, raw little-endian float32), weights under the names that
 * vkl_model_tensor_info() gives, in PyTorch's shapes. The header's __metadata__ has "format": "vklstm", "version": "1" and
 * "config", a JSON text with the layers and, where there is one, the preparation with its statistics. docs/model-file.md has it
 * all.
 */
#ifndef VKLSTM_IO_H
#define VKLSTM_IO_H

#include "data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a model, and the preparation it was trained with (may be NULL). The file is written under a temporary name beside
 * `path`, synchronised and renamed: an existing file stays whole until then, and after any failure.
 * Errors (told by vkl_model_error()): VKL_ERROR_IO, VKL_ERROR_HOST_MEMORY, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_model_save(VklModel *model, const VklPrep *prep, const char *path);

/* Reads a model. `prep` may be NULL: not wanted. Without one in the file *prep is set to NULL.
 * Errors (told by vkl_device_error()): VKL_ERROR_IO, VKL_ERROR_FORMAT (truncated, of another format or version, tensors missing,
 * superfluous or of another shape: by name), memory, VKL_ERROR_LIMIT. */
VKL_API VklStatus vkl_model_load(VklDevice *device, const char *path, VklModel **model, VklPrep **prep);

/* The same in memory, with the same errors but VKL_ERROR_IO. `*data` is freed with vkl_free(). */
VKL_API VklStatus vkl_model_save_memory(VklModel *model, const VklPrep *prep, void **data, size_t *size);
VKL_API VklStatus vkl_model_load_memory(VklDevice *device, const void *data, size_t size, VklModel **model, VklPrep **prep);
VKL_API void vkl_free(void *data);

#ifdef __cplusplus
}
#endif
#endif

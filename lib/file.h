/* SPDX-License-Identifier: MIT
 *
 * Whole files: read at once, and replaced so that at any moment either the old or the new one is there. */
#ifndef VKL_FILE_H
#define VKL_FILE_H

#include "internal.h"

/* Writes under a temporary name beside `path`, synchronises and renames. On failure the file is as it was. */
VklStatus vkl_file_replace(VklContext *context, VklError *error, const char *path, const void *bytes, size_t size);
/* `*bytes` is for vkl_release(). */
VklStatus vkl_file_read(VklContext *context, VklError *error, const char *path, unsigned char **bytes, size_t *size);

#endif

/* SPDX-License-Identifier: MIT
 *
 * What systems have in different ways: system_posix.c, system_windows.c. Threads are POSIX's everywhere, which MinGW has.
 */
#ifndef VKL_SYSTEM_H
#define VKL_SYSTEM_H

#include <stdint.h>
#include <stdio.h>

#include "memory.h"

/* Processors that threads can run on, at least 1; bytes of memory of the machine, 0: unknown. */
uint32_t vkl_system_processors(void);
uint64_t vkl_system_memory(void);

/* strerror() that threads can share. Returns `text`. */
#define VKL_ERRNO_SIZE 128
const char *vkl_errno_text(int number, char text[VKL_ERRNO_SIZE]);

/* Paths are UTF-8 on Windows, and bytes elsewhere. `memory` is for what lasts as long as the call. */

/* A file to read bytes from, or NULL: errno. */
FILE *vkl_system_open(const VklHostMemory *memory, const char *path);
/* Puts bytes into a file in one piece. A link stays a link. false: errno, and the file is as it was; EINVAL: it is not a regular file. */
bool vkl_system_replace(const VklHostMemory *memory, const char *path, const unsigned char *bytes, size_t size);

#endif

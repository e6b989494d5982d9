/* SPDX-License-Identifier: MIT */
#include "file.h"

#include <errno.h>
#include <stdio.h>

#include "system.h"

VklStatus vkl_file_replace(VklContext *context, VklError *error, const char *path, const void *bytes, size_t size)
{
    if (vkl_system_replace(&context->desc.memory, path, bytes, size))
        return VKL_OK;
    char reason[VKL_ERRNO_SIZE];
    int number = errno;
    return vkl_fail(context, error, number == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be written: %s", path,
                    number == EINVAL ? "it is not a regular file" : vkl_errno_text(number, reason));
}

/* The whole file; for vkl_release(). false: errno. */
static bool read_whole(const VklHostMemory *memory, FILE *file, unsigned char **bytes, size_t *size)
{
    size_t used = 0, room = 0;
    unsigned char *data = NULL;
    for (;;) {
        if (used == room) {
            room = room ? room * 2 : 65536;
            unsigned char *grown = room > used ? vkl_reallocate(memory, data, room, 1) : NULL;
            if (!grown) {
                vkl_release(data);
                errno = ENOMEM;
                return false;
            }
            data = grown;
        }
        size_t got = fread(data + used, 1, room - used, file);
        used += got;
        if (!got)
            break;
    }
    if (ferror(file)) {
        int error = errno;
        vkl_release(data);
        errno = error;
        return false;
    }
    *bytes = data;
    *size = used;
    return true;
}

VklStatus vkl_file_read(VklContext *context, VklError *error, const char *path, unsigned char **bytes, size_t *size)
{
    char reason[VKL_ERRNO_SIZE];
    FILE *file = vkl_system_open(&context->desc.memory, path);
    if (!file)
        return vkl_fail(context, error, VKL_ERROR_IO, "%s: cannot be opened: %s", path, vkl_errno_text(errno, reason));
    bool good = read_whole(&context->desc.memory, file, bytes, size);
    int number = errno;
    fclose(file);
    return good ? VKL_OK
                : vkl_fail(context, error, number == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be read: %s",
                           path, vkl_errno_text(number, reason));
}

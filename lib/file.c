/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* realpath() */

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prep.h"

/* ---- Writing ---- */

static bool write_all(int file, const unsigned char *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(file, bytes, size < 1u << 30 ? size : 1u << 30);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written ? errno : EIO;
            return false;
        }
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

/* Opens a file of a name that nobody has, in the folder of `path`. `temporary` has room for it. */
static int open_temporary(const char *path, char *temporary, size_t size)
{
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path + 1) : 0;
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        snprintf(temporary, size, "%.*s.vklstm-%ld-%u.tmp", folder, path, (long)getpid(), attempt);
        int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file >= 0 || errno != EEXIST)
            return file;
    }
    return -1;
}

/* Makes the new name last through a power cut. Not every file system can: no failure. */
static void sync_folder(const char *path, char *folder)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        snprintf(folder, strlen(path) + 1, "%.*s", (int)(slash - path + 1), path);
    int file = open(folder, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    fsync(file);
    close(file);
}

/* Puts bytes into a file in one piece: on failure, errno, and the file is as it was. `name` is where a link led. */
static bool replace_file(const VklHostMemory *memory, const char *name, const unsigned char *bytes, size_t size)
{
    struct stat old;
    bool exists = stat(name, &old) == 0;
    /* A rename would put a file in the place of a device, and would get past a file's own protection. */
    if (exists && (S_ISDIR(old.st_mode) || !S_ISREG(old.st_mode))) {
        errno = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
        return false;
    }
    if (exists && access(name, W_OK) != 0)
        return false;
    size_t room = strlen(name) + 64;
    char *temporary = vkl_allocate(memory, room, 1);
    if (!temporary) {
        errno = ENOMEM;
        return false;
    }
    int file = open_temporary(name, temporary, room);
    bool good = file >= 0;
    if (good) {
        good = (!exists || fchmod(file, old.st_mode & 0777) == 0) && write_all(file, bytes, size) && fsync(file) == 0;
        int error = errno;
        if (close(file) != 0 && good) {
            good = false;
            error = errno;
        }
        if (good && rename(temporary, name) != 0) {
            good = false;
            error = errno;
        }
        if (!good)
            unlink(temporary);
        errno = error;
    }
    if (good)
        sync_folder(name, temporary);
    int error = errno;
    vkl_release(temporary);
    errno = error;
    return good;
}

VklStatus vkl_file_replace(VklContext *context, VklError *error, const char *path, const void *bytes, size_t size)
{
    char resolved[PATH_MAX]; /* a link stays a link; where there is no file yet, the name stays as it is */
    const char *name = realpath(path, resolved) ? resolved : path;
    if (replace_file(&context->desc.memory, name, bytes, size))
        return VKL_OK;
    char reason[VKL_ERRNO_SIZE];
    int number = errno;
    return vkl_fail(context, error, number == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be written: %s", path,
                    number == EINVAL ? "it is not a regular file" : vkl_errno_text(number, reason));
}

/* ---- Reading ---- */

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
    FILE *file = fopen(path, "rb");
    if (!file)
        return vkl_fail(context, error, VKL_ERROR_IO, "%s: cannot be opened: %s", path, vkl_errno_text(errno, reason));
    bool good = read_whole(&context->desc.memory, file, bytes, size);
    int number = errno;
    fclose(file);
    return good ? VKL_OK
                : vkl_fail(context, error, number == ENOMEM ? VKL_ERROR_HOST_MEMORY : VKL_ERROR_IO, "%s: cannot be read: %s",
                           path, vkl_errno_text(number, reason));
}

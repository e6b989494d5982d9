/* SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* realpath() */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system.h"

uint32_t vkl_system_processors(void)
{
#ifdef _SC_NPROCESSORS_ONLN
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
#else
    return 1;
#endif
}

uint64_t vkl_system_memory(void)
{
#if defined(_SC_PHYS_PAGES) && defined(_SC_PAGESIZE)
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
#else
    return 0;
#endif
}

const char *vkl_errno_text(int number, char text[VKL_ERRNO_SIZE])
{
    if (strerror_r(number, text, VKL_ERRNO_SIZE) != 0)
        snprintf(text, VKL_ERRNO_SIZE, "error %d", number);
    return text;
}

FILE *vkl_system_open(const VklHostMemory *memory, const char *path)
{
    (void)memory;
    return fopen(path, "rb");
}

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

bool vkl_system_replace(const VklHostMemory *memory, const char *path, const unsigned char *bytes, size_t size)
{
    char resolved[PATH_MAX]; /* where there is no file yet, the name stays as it is */
    const char *name = realpath(path, resolved) ? resolved : path;
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

/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"

static char *join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s%s%s", folder, strcmp(folder, "/") == 0 ? "" : "/", name);
    return path;
}

char *output_resolve(const char *path)
{
    char *real = realpath(path, NULL);
    if (real || errno != ENOENT)
        return real;
    /* the file is new: its folder must be there */
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    real = folder ? realpath(folder, NULL) : NULL;
    free(folder);
    if (!real)
        return NULL;
    char *whole = NULL;
    if (name[0])
        whole = join(real, name);
    else
        errno = EISDIR;
    free(real);
    return whole;
}

/* A name beside `path` that nobody else uses. */
static char *temporary_name(const char *path)
{
    size_t size = strlen(path) + 32;
    char *name = malloc(size);
    if (name)
        snprintf(name, size, "%s.%ld.tmp", path, (long)getpid());
    return name;
}

static int open_temporary(const char *name, mode_t mode)
{
    int file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (file < 0 && errno == EEXIST && unlink(name) == 0) /* left by a process of the same number that was killed */
        file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    return file;
}

/* 0, or the errno of why `path` (resolved) could not be written. */
static int probe(const char *path, bool must_be_regular)
{
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode))
            return EISDIR;
        if (access(path, W_OK) != 0)
            return errno;
        if (!S_ISREG(info.st_mode))
            return must_be_regular ? EINVAL : 0;
    }
    char *name = temporary_name(path);
    int error = ENOMEM;
    if (name) {
        int file = open_temporary(name, 0600);
        error = file < 0 ? errno : 0;
        if (file >= 0) {
            close(file);
            unlink(name);
        }
    }
    free(name);
    return error;
}

static bool same_file(const OutputName *a, const OutputName *b)
{
    struct stat first, second;
    char *left = output_resolve(a->path), *right = output_resolve(b->path);
    bool same = left && right && strcmp(left, right) == 0;
    if (!same && stat(a->path, &first) == 0 && stat(b->path, &second) == 0)
        same = S_ISREG(first.st_mode) && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
    free(left);
    free(right);
    return same;
}

int output_check(const OutputName *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const OutputName *name = &names[i];
        if (!name->path || name->input)
            continue;
        for (size_t j = 0; j < count; j++)
            if (j != i && names[j].path && (names[j].input || j < i) && same_file(name, &names[j]))
                return fail_usage("%s: %s is the file of %s, too", name->option, name->path, names[j].option);
        char *path = output_resolve(name->path);
        int error = path ? probe(path, name->must_be_regular) : errno;
        free(path);
        if (error)
            return fail("%s: %s cannot be written: %s", name->option, name->path,
                        error == EINVAL ? "not a regular file" : strerror(error));
    }
    return EXIT_OK;
}

static int cannot_write(const char *path, int error)
{
    return fail("%s cannot be written: %s", path, strerror(error));
}

int output_open(Output *output, const char *path)
{
    struct stat info;
    memset(output, 0, sizeof *output);
    output->path = output_resolve(path);
    if (!output->path)
        return cannot_write(path, errno);
    bool exists = stat(output->path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode)) {
        output->file = fopen(output->path, "w");
    } else {
        output->temporary = temporary_name(output->path);
        int file = output->temporary ? open_temporary(output->temporary, 0666) : -1;
        if (file >= 0 && exists)
            fchmod(file, info.st_mode & 0777); /* a new file would lose what the user had set; if not allowed, so be it */
        output->file = file >= 0 ? fdopen(file, "w") : NULL;
        if (file >= 0 && !output->file)
            close(file);
    }
    if (output->file)
        return EXIT_OK;
    int status = cannot_write(path, errno);
    output_discard(output);
    return status;
}

int output_commit(Output *output)
{
    bool failed = ferror(output->file) != 0;
    int error = failed ? EIO : 0;
    if (fflush(output->file) != 0 && !error)
        error = errno;
    if (output->temporary && fsync(fileno(output->file)) != 0 && !error)
        error = errno;
    if (fclose(output->file) != 0 && !error)
        error = errno;
    output->file = NULL;
    if (!error && output->temporary && rename(output->temporary, output->path) != 0)
        error = errno;
    int status = error ? cannot_write(output->path, error) : EXIT_OK;
    if (!error) {
        free(output->temporary);
        output->temporary = NULL;
    }
    output_discard(output);
    return status;
}

void output_discard(Output *output)
{
    if (output->file)
        fclose(output->file);
    if (output->temporary)
        unlink(output->temporary);
    free(output->temporary);
    free(output->path);
    memset(output, 0, sizeof *output);
}

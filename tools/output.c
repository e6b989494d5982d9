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

/* The descriptor that a name such as /dev/stdout stands for, or -1. Opening the name would truncate a file that the shell writes
 * to, or write over it from its beginning; a duplicate shares its place. */
static int named_descriptor(const char *path)
{
    if (strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0)
        return STDERR_FILENO;
    if (strncmp(path, "/dev/fd/", 8) == 0 && path[8] && path[8 + strspn(path + 8, "0123456789")] == '\0')
        return (int)strtol(path + 8, NULL, 10);
    return -1;
}

/* Whether a name is a descriptor, a device, a pipe or the like, which cannot be replaced. */
static bool is_special(const char *path)
{
    struct stat info;
    return named_descriptor(path) >= 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode));
}

/* Tries what output_open() will do: 0, or the errno of why not. */
static int probe(const char *name)
{
    struct stat info;
    if (named_descriptor(name) >= 0)
        return fcntl(named_descriptor(name), F_GETFL) < 0 ? errno : 0;
    char *path = output_resolve(name);
    int error = path ? 0 : errno;
    if (path && stat(path, &info) == 0)
        error = S_ISDIR(info.st_mode) ? EISDIR : access(path, W_OK) != 0 ? errno : 0;
    char *temporary = path && !error && !is_special(name) ? temporary_name(path) : NULL;
    if (temporary) {
        int file = open_temporary(temporary, 0600);
        error = file < 0 ? errno : 0;
        if (file >= 0) {
            close(file);
            unlink(temporary);
        }
    }
    free(temporary);
    free(path);
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
        bool special = is_special(name->path);
        for (size_t j = 0; j < count; j++)
            if (j != i && names[j].path && (names[j].input ? !special : j < i) && same_file(name, &names[j]))
                return fail_usage("%s: %s is the file of %s, too", name->option, name->path, names[j].option);
        if (special && name->must_be_regular)
            return fail("%s: %s cannot be written: not a regular file", name->option, name->path);
        int error = probe(name->path);
        if (error)
            return fail("%s: %s cannot be written: %s", name->option, name->path, strerror(error));
    }
    return EXIT_OK;
}

static int cannot_write(const char *path, int error)
{
    return fail("%s cannot be written: %s", path, strerror(error));
}

/* Opens for writing what the caller has checked; returns a file descriptor, or -1 with errno. */
static int open_output(Output *output)
{
    struct stat info;
    if (named_descriptor(output->path) >= 0)
        return dup(named_descriptor(output->path));
    if (!output->temporary)
        return open(output->path, O_WRONLY | O_CLOEXEC);
    int file = open_temporary(output->temporary, 0666);
    if (file >= 0 && stat(output->path, &info) == 0)
        fchmod(file, info.st_mode & 0777); /* a new file would lose what the user had set */
    return file;
}

int output_open(Output *output, const char *path)
{
    bool special = is_special(path);
    memset(output, 0, sizeof *output);
    output->path = special ? strdup(path) : output_resolve(path);
    output->temporary = special || !output->path ? NULL : temporary_name(output->path);
    int file = output->path && (special || output->temporary) ? open_output(output) : -1;
    if (file >= 0) {
        output->file = fdopen(file, "w");
        if (output->file)
            return EXIT_OK;
    }
    int status = cannot_write(path, errno);
    if (file >= 0)
        close(file);
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

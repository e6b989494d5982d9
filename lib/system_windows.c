/* SPDX-License-Identifier: MIT */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <errno.h>
#include <string.h>
#include <wchar.h>

#include "system.h"

uint32_t vkl_system_processors(void)
{
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors > 0 ? (uint32_t)info.dwNumberOfProcessors : 1;
}

uint64_t vkl_system_memory(void)
{
    MEMORYSTATUSEX status = {.dwLength = sizeof(status)};
    return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : 0;
}

const char *vkl_errno_text(int number, char text[VKL_ERRNO_SIZE])
{
    if (strerror_s(text, VKL_ERRNO_SIZE, number) != 0)
        snprintf(text, VKL_ERRNO_SIZE, "error %d", number);
    return text;
}

/* errno for what the last call of Windows says. */
static int errno_of(DWORD error)
{
    switch (error) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_DRIVE:
    case ERROR_BAD_NETPATH:
        return ENOENT;
    case ERROR_ACCESS_DENIED:
    case ERROR_SHARING_VIOLATION:
    case ERROR_LOCK_VIOLATION:
    case ERROR_WRITE_PROTECT:
        return EACCES;
    case ERROR_FILE_EXISTS:
    case ERROR_ALREADY_EXISTS:
        return EEXIST;
    case ERROR_DISK_FULL:
    case ERROR_HANDLE_DISK_FULL:
        return ENOSPC;
    case ERROR_NOT_ENOUGH_MEMORY:
    case ERROR_OUTOFMEMORY:
        return ENOMEM;
    case ERROR_INVALID_NAME:
    case ERROR_FILENAME_EXCED_RANGE:
        return ENAMETOOLONG;
    default:
        return EIO;
    }
}

/* NULL: errno. */
static wchar_t *wide(const VklHostMemory *memory, const char *text)
{
    int count = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, NULL, 0);
    if (count <= 0) {
        errno = EILSEQ;
        return NULL;
    }
    wchar_t *made = vkl_allocate(memory, (uint64_t)count, sizeof(*made));
    if (made)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, made, count);
    else
        errno = ENOMEM;
    return made;
}

FILE *vkl_system_open(const VklHostMemory *memory, const char *path)
{
    wchar_t *name = wide(memory, path);
    FILE *file = name ? _wfopen(name, L"rb") : NULL;
    int error = errno;
    vkl_release(name);
    errno = error;
    return file;
}

/* Where links lead; `name` itself where there is no file yet. NULL: no memory. */
static wchar_t *resolve(const VklHostMemory *memory, const wchar_t *name)
{
    HANDLE file = CreateFileW(name, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                              FILE_FLAG_BACKUP_SEMANTICS, NULL);
    DWORD size = file == INVALID_HANDLE_VALUE ? 0 : GetFinalPathNameByHandleW(file, NULL, 0, FILE_NAME_NORMALIZED);
    size_t length = size ? size : wcslen(name) + 1;
    wchar_t *made = vkl_allocate(memory, length, sizeof(*made));
    if (made && (!size || GetFinalPathNameByHandleW(file, made, size, FILE_NAME_NORMALIZED) >= size)) {
        vkl_release(made);
        made = vkl_allocate(memory, wcslen(name) + 1, sizeof(*made));
        if (made)
            wcscpy(made, name);
    }
    if (file != INVALID_HANDLE_VALUE)
        CloseHandle(file);
    return made;
}

static bool write_all(HANDLE file, const unsigned char *bytes, size_t size)
{
    while (size) {
        DWORD written = 0, part = size < 1u << 30 ? (DWORD)size : 1u << 30;
        if (!WriteFile(file, bytes, part, &written, NULL))
            return false;
        if (!written) {
            SetLastError(ERROR_WRITE_FAULT);
            return false;
        }
        bytes += written;
        size -= written;
    }
    return true;
}

/* Puts bytes beside `name` and moves them there. false: GetLastError(). */
static bool put(const wchar_t *name, wchar_t *temporary, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    HANDLE file = INVALID_HANDLE_VALUE;
    size_t length = wcslen(name);
    wmemcpy(temporary, name, length);
    for (unsigned attempt = 0; attempt < 1000 && file == INVALID_HANDLE_VALUE; attempt++) {
        wchar_t *end = temporary + length;
        uint64_t number = (uint64_t)GetCurrentProcessId() << 12 | attempt;
        *end++ = L'.';
        for (int shift = 44; shift >= 0; shift -= 4)
            *end++ = (wchar_t)digits[number >> shift & 15];
        wcscpy(end, L".tmp");
        file = CreateFileW(temporary, GENERIC_WRITE, 0, NULL, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, NULL);
        if (file == INVALID_HANDLE_VALUE && GetLastError() != ERROR_FILE_EXISTS)
            return false;
    }
    if (file == INVALID_HANDLE_VALUE)
        return false;
    bool good = write_all(file, bytes, size) && FlushFileBuffers(file);
    DWORD error = GetLastError();
    if (!CloseHandle(file) && good) {
        good = false;
        error = GetLastError();
    }
    if (good && !MoveFileExW(temporary, name, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)) {
        good = false;
        error = GetLastError();
    }
    if (!good) {
        DeleteFileW(temporary);
        SetLastError(error);
    }
    return good;
}

#define TEMPORARY_MORE 32 /* characters of put() */

bool vkl_system_replace(const VklHostMemory *memory, const char *path, const unsigned char *bytes, size_t size)
{
    wchar_t *given = wide(memory, path), *name = NULL, *temporary = NULL;
    bool good = false;
    int error = errno;
    if (!given)
        goto done;
    name = resolve(memory, given);
    temporary = name ? vkl_allocate(memory, wcslen(name) + TEMPORARY_MORE, sizeof(*temporary)) : NULL;
    error = ENOMEM;
    if (!temporary)
        goto done;
    DWORD attributes = GetFileAttributesW(name);
    if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DIRECTORY) {
        error = EISDIR;
    } else if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_DEVICE) {
        error = EINVAL;
    } else if (attributes != INVALID_FILE_ATTRIBUTES && attributes & FILE_ATTRIBUTE_READONLY) {
        error = EACCES;
    } else {
        good = put(name, temporary, bytes, size);
        error = good ? 0 : errno_of(GetLastError());
    }
done:
    vkl_release(temporary);
    vkl_release(name);
    vkl_release(given);
    errno = error;
    return good;
}

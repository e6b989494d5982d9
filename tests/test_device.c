/* SPDX-License-Identifier: MIT
 *
 * Devices, buffers, streams, fences and prepared work: what every backend must do alike. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"

static void *memory(size_t size)
{
    void *made = calloc(1, size);
    cr_assert_not_null(made);
    return made;
}

/* Bytes that depend on their place and on `seed`. */
static void fill_pattern(uint32_t *words, size_t count, uint32_t seed)
{
    for (size_t i = 0; i < count; i++)
        words[i] = (uint32_t)(i * 2654435761u) ^ (seed * 40503u + 1);
}

typedef struct Fixture {
    VklContext *context;
    VklDevice *device;
    VklStream *stream;
} Fixture;

static Fixture fixture(void)
{
    Fixture made = {.context = test_context()};
    made.device = test_device(made.context);
    TEST_OK(made.context, vkl_stream_create(made.device, &made.stream));
    return made;
}

static void finish(Fixture *fixture)
{
    vkl_stream_destroy(fixture->stream);
    vkl_device_destroy(fixture->device);
    vkl_context_destroy(fixture->context);
}

static VklBuffer *buffer_of(Fixture *fixture, VklBufferUsage usage, uint64_t size)
{
    VklBuffer *made = NULL;
    TEST_OK(fixture->context, vkl_buffer_create(fixture->device, usage, size, &made));
    return made;
}

/* The call first: its arguments would be evaluated in any order. */
#define CHECK_REFUSED(what, call, want, message, word)  \
    do {                                                \
        VklStatus got_ = (call);                        \
        check_message(what, got_, want, message, word); \
    } while (0)

static void check_message(const char *what, VklStatus got, VklStatus want, const char *message, const char *word)
{
    cr_assert_eq(got, want, "%s: status %d (%s), %d was expected", what, (int)got, message, (int)want);
    cr_assert_not_null(strstr(message, word), "%s: \"%s\" does not name %s", what, message, word);
}

/* ---- Devices ---- */

static VklDeviceInfo *list(VklContext *context, uint32_t *count)
{
    TEST_OK(context, vkl_device_list(context, count, NULL));
    VklDeviceInfo *infos = memory(*count * sizeof(*infos));
    for (uint32_t i = 0; i < *count; i++)
        infos[i].struct_size = sizeof(*infos);
    TEST_OK(context, vkl_device_list(context, count, infos));
    return infos;
}

Test(device, list_begins_with_the_cpu)
{
    VklContext *context = test_context();
    uint32_t count = 0;
    VklDeviceInfo *infos = list(context, &count);
    cr_assert_geq(count, 1u);
    cr_assert_eq(infos[0].type, VKL_DEVICE_CPU);
    cr_assert_eq(infos[0].api_version, 0u);
    cr_assert_neq(infos[0].name[0], '\0');
    for (uint32_t i = 1; i < count; i++) {
        cr_assert_neq(infos[i].type, VKL_DEVICE_CPU);
        cr_assert_eq(infos[i].index, i - 1);
        cr_assert_neq(infos[i].name[0], '\0');
        cr_assert_neq(infos[i].driver[0], '\0');
    }
    free(infos);
    vkl_context_destroy(context);
}

Test(device, list_writes_no_more_than_asked)
{
    VklContext *context = test_context();
    uint32_t all = 0;
    free(list(context, &all));
    for (uint32_t room = 0; room <= all + 1; room++) {
        VklDeviceInfo *infos = memory((all + 2) * sizeof(*infos));
        for (uint32_t i = 0; i < all + 2; i++)
            infos[i].struct_size = sizeof(*infos);
        uint32_t count = room;
        TEST_OK(context, vkl_device_list(context, &count, infos));
        cr_assert_eq(count, room < all ? room : all);
        cr_assert_eq(infos[count].name[0], '\0', "entry %u was written, %u were asked for", count, room);
        free(infos);
    }
    vkl_context_destroy(context);
}

Test(device, list_refuses_another_struct_size)
{
    VklContext *context = test_context();
    VklDeviceInfo info = {.struct_size = sizeof(info) - 8};
    uint32_t count = 1;
    CHECK_REFUSED("list", vkl_device_list(context, &count, &info), VKL_ERROR_INVALID, vkl_context_error(context), "struct_size");
    vkl_context_destroy(context);
}

Test(device, vulkan_devices_have_what_vulkan_guarantees)
{
    VklContext *context = test_context();
    uint32_t count = 0;
    VklDeviceInfo *infos = list(context, &count);
    for (uint32_t i = 1; i < count; i++) {
        const VklDeviceLimits *limits = &infos[i].limits;
        cr_assert_geq(limits->storage_range, UINT64_C(1) << 27);
        cr_assert_geq(limits->allocation_size, UINT64_C(1) << 30);
        cr_assert_geq(limits->storage_buffers, 4u);
        cr_assert_leq(limits->storage_alignment, 256u);
        cr_assert_geq(limits->workgroup_invocations, 128u);
        cr_assert_geq(limits->shared_memory, 16384u);
        cr_assert_geq(limits->push_constants, 128u);
        for (int axis = 0; axis < 3; axis++) {
            cr_assert_geq(limits->workgroups[axis], 65535u);
            cr_assert_geq(limits->workgroup_size[axis], axis < 2 ? 128u : 64u);
        }
        cr_assert_geq(infos[i].features.subgroup_size, 1u);
        cr_assert_gt(infos[i].memory_bytes, (uint64_t)0);
    }
    free(infos);
    vkl_context_destroy(context);
}

Test(device, selectors_that_match_nothing_are_refused)
{
    static const struct {
        const char *selector;
        VklStatus status;
        const char *word;
    } cases[] = {
        {"vulkan:999", VKL_ERROR_NO_DEVICE, "there is: cpu"},
        {"vulkan:no such card", VKL_ERROR_NO_DEVICE, "there is: cpu"},
        {"vulkan:", VKL_ERROR_INVALID, "after the colon"},
        {"gpu", VKL_ERROR_INVALID, "'gpu'"},
        {"", VKL_ERROR_INVALID, "''"},
        {"cpu:0", VKL_ERROR_INVALID, "'cpu:0'"},
        {"vulkanized", VKL_ERROR_INVALID, "'vulkanized'"},
        {"VULKAN", VKL_ERROR_INVALID, "'VULKAN'"},
    };
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklDevice *device = NULL;
        VklDeviceDesc desc = vkl_device_desc(cases[i].selector);
        VklStatus status = vkl_device_create(context, &desc, &device);
        if (!test_is_vulkan() && status == VKL_ERROR_UNSUPPORTED)
            continue; /* a build without Vulkan says so first */
        check_message(cases[i].selector, status, cases[i].status, vkl_context_error(context), cases[i].word);
        cr_assert_null(device);
    }
    vkl_context_destroy(context);
}

Test(device, a_failed_selector_lists_what_there_is)
{
    if (!test_is_vulkan())
        return;
    VklContext *context = test_context();
    uint32_t count = 0;
    VklDeviceInfo *infos = list(context, &count);
    VklDevice *device = NULL;
    VklDeviceDesc desc = vkl_device_desc("vulkan:no such card");
    cr_assert_eq(vkl_device_create(context, &desc, &device), VKL_ERROR_NO_DEVICE);
    for (uint32_t i = 1; i < count; i++)
        cr_assert_not_null(strstr(vkl_context_error(context), infos[i].name));
    free(infos);
    vkl_context_destroy(context);
}

Test(device, auto_takes_no_software_vulkan)
{
    VklContext *context = test_context();
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_create(context, NULL, &device));
    VklDeviceInfo info;
    vkl_device_info(device, &info);
    cr_assert_neq(info.type, VKL_DEVICE_SOFTWARE);
    cr_assert_neq(info.type, VKL_DEVICE_OTHER);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

static void lower_case(char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text - 'A' + 'a');
}

Test(device, is_found_by_index_and_by_name)
{
    if (!test_is_vulkan())
        return;
    VklContext *context = test_context();
    uint32_t count = 0;
    VklDeviceInfo *infos = list(context, &count);
    for (uint32_t i = 1; i < count; i++) {
        char selectors[2][300];
        snprintf(selectors[0], sizeof(selectors[0]), "vulkan:%u", infos[i].index);
        snprintf(selectors[1], sizeof(selectors[1]), "vulkan:%s", infos[i].name);
        lower_case(selectors[1]);
        for (int j = 0; j < 2; j++) {
            VklDevice *device = NULL;
            VklDeviceDesc desc = vkl_device_desc(selectors[j]);
            TEST_OK(context, vkl_device_create(context, &desc, &device));
            VklDeviceInfo info;
            vkl_device_info(device, &info);
            cr_assert_str_eq(info.name, infos[i].name);
            cr_assert_eq(vkl_device_context(device), context);
            vkl_device_destroy(device);
        }
    }
    free(infos);
    vkl_context_destroy(context);
}

Test(device, limits_can_only_be_lowered)
{
    VklContext *context = test_context();
    VklDevice *whole = test_device(context), *lowered = NULL;
    VklDeviceInfo before, after;
    vkl_device_info(whole, &before);
    VklDeviceLimits limits = {.storage_range = 1 << 20, .workgroup_invocations = UINT32_MAX, .storage_alignment = 256};
    const char *selector = getenv("VKL_TEST_DEVICE");
    VklDeviceDesc desc = vkl_device_desc(selector && *selector ? selector : "cpu");
    desc.limits = &limits;
    TEST_OK(context, vkl_device_create(context, &desc, &lowered));
    vkl_device_info(lowered, &after);
    cr_assert_eq(after.limits.storage_range, (uint64_t)1 << 20);
    cr_assert_eq(after.limits.workgroup_invocations, before.limits.workgroup_invocations);
    cr_assert_geq(after.limits.storage_alignment, 256u);
    cr_assert_eq(after.limits.allocation_size, before.limits.allocation_size);
    vkl_device_destroy(lowered);
    vkl_device_destroy(whole);
    vkl_context_destroy(context);
}

Test(device, contexts_and_devices_do_not_know_of_each_other)
{
    VklContext *contexts[2];
    VklDevice *devices[2];
    for (int i = 0; i < 2; i++) {
        contexts[i] = test_context();
        devices[i] = test_device(contexts[i]);
    }
    vkl_device_destroy(devices[0]);
    vkl_context_destroy(contexts[0]);
    const float want[3] = {1, 2, 3};
    float got[3];
    VklBuffer *buffer = test_buffer(devices[1], want, 3);
    test_read(devices[1], buffer, got, 3);
    cr_assert(!memcmp(got, want, sizeof(want)));
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(devices[1]);
    vkl_context_destroy(contexts[1]);
}

Test(device, destroy_accepts_null)
{
    vkl_device_destroy(NULL);
    vkl_buffer_destroy(NULL);
    vkl_stream_destroy(NULL);
    vkl_fence_destroy(NULL);
    vkl_exec_destroy(NULL);
    vkl_context_destroy(NULL);
}

/* ---- Buffers ---- */

/* Small, not a multiple of any alignment, larger than staging memory. */
static const uint64_t sizes[] = {4, 12, 252, 4100, (1 << 20) + 12, 5 << 20};
enum { SIZES = sizeof(sizes) / sizeof(*sizes) };

Test(buffer, comes_back_as_written)
{
    Fixture f = fixture();
    for (int i = 0; i < SIZES; i++) {
        /* in the middle of a larger buffer, whose other bytes stay as they are: zero */
        const uint64_t before = 4 * (uint64_t)(i + 1), whole = before + sizes[i] + 20;
        VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, whole);
        uint32_t *words = memory(sizes[i]), *got = memory(whole);
        fill_pattern(words, sizes[i] / 4, (uint32_t)i);
        memset(got, 0xff, whole);
        TEST_OK(f.context, vkl_stream_write(f.stream, vkl_slice(buffer, before), words, sizes[i]));
        TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 0), got, whole));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
        cr_assert(!memcmp(&got[before / 4], words, sizes[i]), "%" PRIu64 " bytes at %" PRIu64, sizes[i], before);
        for (uint64_t j = 0; j < whole / 4; j++)
            cr_assert(got[j] == 0 || (j >= before / 4 && j < (before + sizes[i]) / 4), "word %" PRIu64 " is %08x", j, got[j]);
        free(words);
        free(got);
        vkl_buffer_destroy(buffer);
    }
    finish(&f);
}

Test(buffer, data_is_copied_before_write_returns)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 400);
    uint32_t words[100], got[100];
    fill_pattern(words, 100, 1);
    TEST_OK(f.context, vkl_stream_write(f.stream, vkl_slice(buffer, 0), words, sizeof(words)));
    memset(words, 0, sizeof(words));
    TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 0), got, sizeof(got)));
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    fill_pattern(words, 100, 1);
    cr_assert(!memcmp(got, words, sizeof(words)));
    vkl_buffer_destroy(buffer);
    finish(&f);
}

/* Memory of a destroyed buffer is given out again. */
Test(buffer, begins_with_zeros_also_in_used_memory)
{
    Fixture f = fixture();
    for (int usage = VKL_BUFFER_DEVICE; usage <= VKL_BUFFER_READBACK; usage++) {
        for (int round = 0; round < 3; round++) {
            VklBuffer *buffer = buffer_of(&f, (VklBufferUsage)usage, 70004);
            uint32_t *got = memory(70004);
            memset(got, 0xff, 70004);
            TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 0), got, 70004));
            TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), 0xdeadbeef, 70004));
            TEST_OK(f.context, vkl_stream_wait(f.stream));
            for (int j = 0; j < 70004 / 4; j++)
                cr_assert_eq(got[j], 0u, "usage %d, round %d, word %d", usage, round, j);
            free(got);
            vkl_buffer_destroy(buffer);
        }
    }
    finish(&f);
}

Test(buffer, size_is_rounded_up_to_words)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 13);
    cr_assert_eq(vkl_buffer_size(buffer), (uint64_t)16);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(buffer, copies_and_fills_touch_what_they_should)
{
    static const struct {
        uint64_t dst, src, size;
    } cases[] = {{0, 0, 4}, {4, 12, 20}, {252, 4, 260}, {1020, 508, 12}, {12, 2048, 1028}};
    Fixture f = fixture();
    enum { WORDS = 1024 };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint32_t src[WORDS], want[WORDS], got[WORDS];
        fill_pattern(src, WORDS, 3);
        for (int j = 0; j < WORDS; j++)
            want[j] = 0x01020304;
        memcpy(&want[cases[i].dst / 4], &src[cases[i].src / 4], cases[i].size);
        VklBuffer *from = buffer_of(&f, VKL_BUFFER_DEVICE, sizeof(src)), *to = buffer_of(&f, VKL_BUFFER_DEVICE, sizeof(want));
        TEST_OK(f.context, vkl_stream_write(f.stream, vkl_slice(from, 0), src, sizeof(src)));
        TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(to, 0), 0x01020304, sizeof(want)));
        TEST_OK(f.context, vkl_stream_copy(f.stream, vkl_slice(to, cases[i].dst), vkl_slice(from, cases[i].src), cases[i].size));
        TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(to, 0), got, sizeof(got)));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
        cr_assert(!memcmp(got, want, sizeof(want)), "case %zu", i);
        vkl_buffer_destroy(from);
        vkl_buffer_destroy(to);
    }
    finish(&f);
}

Test(buffer, copies_within_a_buffer)
{
    Fixture f = fixture();
    uint32_t words[64], got[64];
    fill_pattern(words, 64, 5);
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, sizeof(words));
    TEST_OK(f.context, vkl_stream_write(f.stream, vkl_slice(buffer, 0), words, sizeof(words)));
    TEST_OK(f.context, vkl_stream_copy(f.stream, vkl_slice(buffer, 0), vkl_slice(buffer, 128), 128));
    TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 0), got, sizeof(got)));
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    cr_assert(!memcmp(got, &words[32], 128) && !memcmp(&got[32], &words[32], 128));
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(buffer, mapped_memory_is_shared_with_the_device)
{
    Fixture f = fixture();
    for (int i = 0; i < SIZES; i++) {
        VklBuffer *up = buffer_of(&f, VKL_BUFFER_UPLOAD, sizes[i]), *down = buffer_of(&f, VKL_BUFFER_READBACK, sizes[i]);
        cr_assert_not_null(vkl_buffer_data(up));
        cr_assert_not_null(vkl_buffer_data(down));
        cr_assert_eq((uintptr_t)vkl_buffer_data(up) % 64, (uintptr_t)0);
        cr_assert_eq((uintptr_t)vkl_buffer_data(down) % 64, (uintptr_t)0);
        fill_pattern(vkl_buffer_data(up), sizes[i] / 4, (uint32_t)i);
        TEST_OK(f.context, vkl_buffer_flush(up, 0, sizes[i]));
        TEST_OK(f.context, vkl_stream_copy(f.stream, vkl_slice(down, 0), vkl_slice(up, 0), sizes[i]));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
        TEST_OK(f.context, vkl_buffer_invalidate(down, 0, sizes[i]));
        cr_assert(!memcmp(vkl_buffer_data(down), vkl_buffer_data(up), sizes[i]));
        vkl_buffer_destroy(up);
        vkl_buffer_destroy(down);
    }
    finish(&f);
}

Test(buffer, device_memory_is_not_mapped_on_vulkan)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 64);
    if (test_is_vulkan()) {
        cr_assert_null(vkl_buffer_data(buffer));
        CHECK_REFUSED("flush", vkl_buffer_flush(buffer, 0, 4), VKL_ERROR_INVALID, vkl_context_error(f.context), "not mapped");
    } else {
        cr_assert_not_null(vkl_buffer_data(buffer));
    }
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(buffer, wrong_arguments_are_refused)
{
    Fixture f = fixture();
    VklDeviceInfo info;
    vkl_device_info(f.device, &info);
    VklBuffer *made = NULL;
    CHECK_REFUSED("size 0", vkl_buffer_create(f.device, VKL_BUFFER_DEVICE, 0, &made), VKL_ERROR_INVALID,
                  vkl_context_error(f.context), "size is 0");
    CHECK_REFUSED("usage", vkl_buffer_create(f.device, (VklBufferUsage)7, 4, &made), VKL_ERROR_INVALID,
                  vkl_context_error(f.context), "7");
    CHECK_REFUSED("too large", vkl_buffer_create(f.device, VKL_BUFFER_DEVICE, UINT64_MAX, &made), VKL_ERROR_LIMIT,
                  vkl_context_error(f.context), info.name);
    cr_assert_null(made);

    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_READBACK, 64);
    VklDevice *other = test_device(f.context);
    VklBuffer *foreign = NULL;
    TEST_OK(f.context, vkl_buffer_create(other, VKL_BUFFER_DEVICE, 64, &foreign));
    uint32_t words[16] = {0};
    const struct {
        const char *what;
        VklStatus status;
        const char *word;
    } cases[] = {
        {"no buffer", vkl_stream_write(f.stream, vkl_slice(NULL, 0), words, 4), "dst"},
        {"offset", vkl_stream_write(f.stream, vkl_slice(buffer, 2), words, 4), "2 bytes"},
        {"size", vkl_stream_read(f.stream, vkl_slice(buffer, 0), words, 6), "6 bytes"},
        {"beyond", vkl_stream_read(f.stream, vkl_slice(buffer, 60), words, 8), "64"},
        {"far beyond", vkl_stream_fill(f.stream, vkl_slice(buffer, UINT64_MAX - 3), 0, 8), "64"},
        {"NULL", vkl_stream_read(f.stream, vkl_slice(buffer, 0), NULL, 8), "data is NULL"},
        {"overlap", vkl_stream_copy(f.stream, vkl_slice(buffer, 0), vkl_slice(buffer, 4), 8), "overlap"},
        {"foreign", vkl_stream_copy(f.stream, vkl_slice(buffer, 0), vkl_slice(foreign, 0), 8), "another device"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        cr_assert_eq(cases[i].status, VKL_ERROR_INVALID, "%s: status %d", cases[i].what, (int)cases[i].status);
    /* the sentence of the stream is that of the last call */
    cr_assert_not_null(strstr(vkl_stream_error(f.stream), "another device"), "%s", vkl_stream_error(f.stream));
    CHECK_REFUSED("flush", vkl_buffer_flush(buffer, 60, 8), VKL_ERROR_INVALID, vkl_context_error(f.context), "64");
    CHECK_REFUSED("invalidate", vkl_buffer_invalidate(buffer, UINT64_MAX, 8), VKL_ERROR_INVALID, vkl_context_error(f.context),
                  "64");

    /* none of that has recorded anything */
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    vkl_buffer_destroy(foreign);
    vkl_device_destroy(other);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(buffer, many_come_and_go_and_keep_their_content)
{
    enum { COUNT = 60, STEPS = 400 };
    Fixture f = fixture();
    VklBuffer *buffers[COUNT] = {NULL};
    uint32_t words[COUNT], random = 1;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        const int at = (int)(random >> 8) % COUNT;
        if (buffers[at]) {
            uint32_t got[2] = {0};
            const uint64_t last = vkl_buffer_size(buffers[at]) - 4;
            TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffers[at], 0), &got[0], 4));
            TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffers[at], last), &got[1], 4));
            TEST_OK(f.context, vkl_stream_wait(f.stream));
            cr_assert(got[0] == words[at] && got[1] == words[at], "step %d", step);
            vkl_buffer_destroy(buffers[at]);
            buffers[at] = NULL;
        } else {
            /* from 4 bytes to 2 MiB */
            const uint64_t size = UINT64_C(4) << (random >> 16) % 20;
            buffers[at] = buffer_of(&f, (VklBufferUsage)(random >> 5) % 3, size + 4 * (random >> 28));
            words[at] = random;
            TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffers[at], 0), random, vkl_buffer_size(buffers[at])));
            TEST_OK(f.context, vkl_stream_submit(f.stream, NULL));
        }
    }
    for (int at = 0; at < COUNT; at++)
        vkl_buffer_destroy(buffers[at]);
    finish(&f);
}

/* ---- Streams and fences ---- */

Test(stream, work_runs_in_order)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 4096);
    uint32_t got[50];
    for (uint32_t i = 0; i < 50; i++) {
        TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), i, 4096));
        TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 4092), &got[i], 4));
        if (i % 7 == 0)
            TEST_OK(f.context, vkl_stream_submit(f.stream, NULL));
    }
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    for (uint32_t i = 0; i < 50; i++)
        cr_assert_eq(got[i], i);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(stream, waits_without_work)
{
    Fixture f = fixture();
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    TEST_OK(f.context, vkl_stream_submit(f.stream, NULL));
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    VklFence *fence = NULL;
    TEST_OK(f.context, vkl_stream_submit(f.stream, &fence));
    TEST_OK(f.context, vkl_fence_wait(fence, 0));
    vkl_fence_destroy(fence);
    finish(&f);
}

Test(stream, transfers_of_nothing_are_accepted)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 8);
    TEST_OK(f.context, vkl_stream_write(f.stream, vkl_slice(buffer, 8), NULL, 0));
    TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 8), NULL, 0));
    TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), 1, 0));
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(stream, unsubmitted_work_is_dropped)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 4096);
    VklStream *other = NULL;
    TEST_OK(f.context, vkl_stream_create(f.device, &other));
    TEST_OK(f.context, vkl_stream_fill(other, vkl_slice(buffer, 0), 1, 4096));
    vkl_stream_destroy(other);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(stream, a_buffer_may_go_while_its_work_runs)
{
    Fixture f = fixture();
    for (int i = 0; i < 20; i++) {
        VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 1 << 20);
        TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), (uint32_t)i, 1 << 20));
        TEST_OK(f.context, vkl_stream_submit(f.stream, NULL));
        vkl_buffer_destroy(buffer);
    }
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    finish(&f);
}

Test(stream, sees_what_another_stream_has_finished)
{
    Fixture f = fixture();
    VklStream *other = NULL;
    TEST_OK(f.context, vkl_stream_create(f.device, &other));
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 64);
    uint32_t got[16];
    TEST_OK(f.context, vkl_stream_fill(other, vkl_slice(buffer, 0), 7, 64));
    TEST_OK(f.context, vkl_stream_wait(other));
    TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 0), got, 64));
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    for (int i = 0; i < 16; i++)
        cr_assert_eq(got[i], 7u);
    vkl_buffer_destroy(buffer);
    vkl_stream_destroy(other);
    finish(&f);
}

Test(stream, counts_what_it_did)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 64);
    for (int i = 0; i < 3; i++) {
        TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), 7, 64));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
    }
    VklStreamStats stats;
    vkl_stream_stats(f.stream, &stats);
    cr_assert_eq(stats.submits, (uint64_t)(test_is_vulkan() ? 3 : 0));
    cr_assert_eq(stats.dispatches, (uint64_t)0);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

Test(fence, completes_the_reads_before_it)
{
    Fixture f = fixture();
    VklBuffer *buffer = buffer_of(&f, VKL_BUFFER_DEVICE, 4096);
    VklFence *fences[4];
    uint32_t got[4] = {0};
    for (uint32_t i = 0; i < 4; i++) {
        TEST_OK(f.context, vkl_stream_fill(f.stream, vkl_slice(buffer, 0), i + 1, 4096));
        TEST_OK(f.context, vkl_stream_read(f.stream, vkl_slice(buffer, 4), &got[i], 4));
        TEST_OK(f.context, vkl_stream_submit(f.stream, &fences[i]));
    }
    TEST_OK(f.context, vkl_fence_wait(fences[2], UINT64_MAX));
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(got[i], i + 1);
    TEST_OK(f.context, vkl_fence_wait(fences[0], 0)); /* passed before */
    VklStatus status;
    while ((status = vkl_fence_wait(fences[3], 1000)) == VKL_TIMEOUT)
        ;
    TEST_OK(f.context, status);
    cr_assert_eq(got[3], 4u);
    for (int i = 0; i < 4; i++)
        vkl_fence_destroy(fences[i]);
    vkl_buffer_destroy(buffer);
    finish(&f);
}

/* ---- Prepared work ---- */

enum { COUNT = 1000 };

/* sum += addend, as a plan of one kernel; `gap` is what both arrays lie behind in their buffers. */
static VklExec *adding_exec(Fixture *fixture, VklBuffer *sum, VklBuffer *addend, uint64_t gap)
{
    VklPlan plan;
    vkl_plan_init(&plan, &fixture->device->caps);
    vkl_plan_copy(
        &plan,
        &(VklCopyPiece){
            .mode = VKL_COPY_ADD, .arena = vkl_array(VKL_SLOT_DATA, 0), .other = vkl_array(VKL_SLOT_X, 0), .count = COUNT},
        1);
    VklSlice slots[VKL_SLOT_COUNT] = {{NULL, 0}};
    slots[VKL_SLOT_DATA] = vkl_slice(sum, gap);
    slots[VKL_SLOT_X] = vkl_slice(addend, gap);
    VklExec *exec = NULL;
    TEST_OK(fixture->context, vkl_exec_create(fixture->device, &plan, slots, "test", NULL, &exec));
    return exec;
}

static VklBuffer *counting_buffer(Fixture *fixture, float scale, uint64_t gap)
{
    float *numbers = memory((COUNT + gap / 4) * sizeof(float));
    for (size_t i = 0; i < COUNT; i++)
        numbers[gap / 4 + i] = scale * (float)i;
    VklBuffer *made = test_buffer(fixture->device, numbers, COUNT + gap / 4);
    free(numbers);
    return made;
}

static void check_counts(Fixture *fixture, VklBuffer *buffer, float scale, uint64_t gap)
{
    float *got = memory((COUNT + gap / 4) * sizeof(float));
    test_read(fixture->device, buffer, got, COUNT + gap / 4);
    for (size_t i = 0; i < gap / 4; i++)
        cr_assert_eq(got[i], 0.0f, "[%zu] in front of the array was written", i);
    for (size_t i = 0; i < COUNT; i++)
        cr_assert_eq(got[gap / 4 + i], scale * (float)i, "[%zu]: %g, not %g", i, (double)got[gap / 4 + i],
                     (double)(scale * (float)i));
    free(got);
}

Test(exec, runs_on_arrays_at_any_offset)
{
    static const uint64_t gaps[] = {0, 4, 12, 16, 60, 252, 256, 260};
    Fixture f = fixture();
    for (size_t i = 0; i < sizeof(gaps) / sizeof(*gaps); i++) {
        VklBuffer *sum = counting_buffer(&f, 1, gaps[i]), *addend = counting_buffer(&f, 2, gaps[i]);
        VklExec *exec = adding_exec(&f, sum, addend, gaps[i]);
        TEST_OK(f.context, vkl_exec_record(exec, f.stream));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
        check_counts(&f, sum, 3, gaps[i]);
        vkl_exec_destroy(exec);
        vkl_buffer_destroy(sum);
        vkl_buffer_destroy(addend);
    }
    finish(&f);
}

Test(exec, replays_as_often_as_asked)
{
    static const uint32_t counts[] = {1, 2, 255, 256, 257, 1000};
    Fixture f = fixture();
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
        VklBuffer *sum = counting_buffer(&f, 0, 0), *addend = counting_buffer(&f, 1, 0);
        VklExec *exec = adding_exec(&f, sum, addend, 0);
        VklStreamStats before, after;
        vkl_stream_stats(f.stream, &before);
        /* what was recorded comes first */
        TEST_OK(f.context, vkl_exec_record(exec, f.stream));
        TEST_OK(f.context, vkl_stream_replay(f.stream, exec, counts[i]));
        TEST_OK(f.context, vkl_stream_wait(f.stream));
        vkl_stream_stats(f.stream, &after);
        cr_assert_eq(after.dispatches - before.dispatches, (uint64_t)counts[i] + 1);
        if (test_is_vulkan())
            cr_assert_leq(after.submits - before.submits, (uint64_t)counts[i] / 256 + 2);
        check_counts(&f, sum, (float)counts[i] + 1, 0);
        vkl_exec_destroy(exec);
        vkl_buffer_destroy(sum);
        vkl_buffer_destroy(addend);
    }
    finish(&f);
}

Test(exec, may_be_destroyed_while_it_runs)
{
    Fixture f = fixture();
    VklBuffer *sum = counting_buffer(&f, 0, 0), *addend = counting_buffer(&f, 1, 0);
    VklExec *exec = adding_exec(&f, sum, addend, 0);
    TEST_OK(f.context, vkl_exec_record(exec, f.stream));
    TEST_OK(f.context, vkl_stream_replay(f.stream, exec, 300));
    vkl_exec_destroy(exec);
    TEST_OK(f.context, vkl_stream_wait(f.stream));
    check_counts(&f, sum, 301, 0);
    vkl_buffer_destroy(sum);
    vkl_buffer_destroy(addend);
    finish(&f);
}

Test(exec, of_another_device_is_refused)
{
    Fixture f = fixture(), other = fixture();
    VklBuffer *sum = counting_buffer(&other, 0, 0), *addend = counting_buffer(&other, 1, 0);
    VklExec *exec = adding_exec(&other, sum, addend, 0);
    CHECK_REFUSED("record", vkl_exec_record(exec, f.stream), VKL_ERROR_INVALID, vkl_stream_error(f.stream), "another device");
    CHECK_REFUSED("replay", vkl_stream_replay(f.stream, exec, 1), VKL_ERROR_INVALID, vkl_stream_error(f.stream),
                  "another device");
    vkl_exec_destroy(exec);
    vkl_buffer_destroy(sum);
    vkl_buffer_destroy(addend);
    finish(&other);
    finish(&f);
}

/* ---- Threads ---- */

enum { THREADS = 4, ROUNDS = 25 };

typedef struct Worker {
    Fixture fixture; /* a stream of its own on the common device */
    VklExec *exec;   /* the common one, or NULL */
    uint32_t seed;
    bool good;
} Worker;

static void *work_with_buffers(void *data)
{
    Worker *worker = data;
    uint32_t words[500], got[500];
    worker->good = true;
    for (uint32_t round = 0; worker->good && round < ROUNDS; round++) {
        VklBuffer *buffer = NULL;
        fill_pattern(words, 500, worker->seed + round);
        worker->good = !vkl_buffer_create(worker->fixture.device, VKL_BUFFER_DEVICE, sizeof(words), &buffer) &&
                       !vkl_stream_write(worker->fixture.stream, vkl_slice(buffer, 0), words, sizeof(words)) &&
                       !vkl_stream_read(worker->fixture.stream, vkl_slice(buffer, 0), got, sizeof(got)) &&
                       !vkl_stream_wait(worker->fixture.stream) && !memcmp(words, got, sizeof(words));
        vkl_buffer_destroy(buffer);
    }
    return NULL;
}

static void *work_with_exec(void *data)
{
    Worker *worker = data;
    worker->good = true;
    for (uint32_t round = 0; worker->good && round < ROUNDS; round++)
        worker->good = !vkl_exec_record(worker->exec, worker->fixture.stream) &&
                       !vkl_stream_replay(worker->fixture.stream, worker->exec, 3) && !vkl_stream_wait(worker->fixture.stream);
    return NULL;
}

static void run_workers(Fixture *fixture, void *(*work)(void *), VklExec *exec)
{
    Worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (Worker){.fixture = *fixture, .exec = exec, .seed = (uint32_t)i * 1000};
        TEST_OK(fixture->context, vkl_stream_create(fixture->device, &workers[i].fixture.stream));
        cr_assert_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(workers[i].good, "thread %d: %s", i, vkl_context_error(fixture->context));
        vkl_stream_destroy(workers[i].fixture.stream);
    }
}

Test(threads, use_one_device_at_once)
{
    Fixture f = fixture();
    run_workers(&f, work_with_buffers, NULL);
    finish(&f);
}

/* What the threads write is the same, and so is what they read: a buffer that stays 0. */
Test(threads, record_and_replay_one_exec_at_once)
{
    Fixture f = fixture();
    VklBuffer *sum = counting_buffer(&f, 5, 0), *addend = counting_buffer(&f, 0, 0);
    VklExec *exec = adding_exec(&f, sum, addend, 0);
    run_workers(&f, work_with_exec, exec);
    check_counts(&f, sum, 5, 0);
    vkl_exec_destroy(exec);
    vkl_buffer_destroy(sum);
    vkl_buffer_destroy(addend);
    finish(&f);
}

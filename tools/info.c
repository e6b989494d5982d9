/* SPDX-License-Identifier: MIT
 *
 * vklstm info: the devices of this machine, and what this build can do.
 */
#include "info.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "message.h"
#include "report.h"
#include "session.h"

typedef struct InfoArgs {
    bool json;
} InfoArgs;

static const Option options[] = {
    FLAG("json", (InfoArgs, json), "print one JSON object"),
};

static const char *type_name(VklDeviceType type)
{
    static const char *const names[] = {
        [VKL_DEVICE_CPU] = "cpu",         [VKL_DEVICE_DISCRETE] = "discrete", [VKL_DEVICE_INTEGRATED] = "integrated",
        [VKL_DEVICE_VIRTUAL] = "virtual", [VKL_DEVICE_SOFTWARE] = "software", [VKL_DEVICE_OTHER] = "other",
    };
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "other";
}

static void selector_text(const VklDeviceInfo *info, char text[32])
{
    if (info->type == VKL_DEVICE_CPU)
        snprintf(text, 32, "cpu");
    else
        snprintf(text, 32, "vulkan:%" PRIu32, info->index);
}

/* Vulkan's packing of a version: 7 bits major, 10 bits minor, 12 bits patch. */
static void version_text(uint32_t version, char text[32])
{
    snprintf(text, 32, "%" PRIu32 ".%" PRIu32 ".%" PRIu32, version >> 22 & 0x7f, version >> 12 & 0x3ff, version & 0xfff);
}

static const struct Feature {
    const char *name;
    size_t offset;
} features[] = {
    {"timestamps", offsetof(VklDeviceFeatures, timestamps)},
    {"timeline_semaphore", offsetof(VklDeviceFeatures, timeline_semaphore)},
    {"shader_float16", offsetof(VklDeviceFeatures, shader_float16)},
    {"storage_16bit", offsetof(VklDeviceFeatures, storage_16bit)},
    {"subgroup_size_control", offsetof(VklDeviceFeatures, subgroup_size_control)},
    {"cooperative_matrix", offsetof(VklDeviceFeatures, cooperative_matrix)},
    {"unified_memory", offsetof(VklDeviceFeatures, unified_memory)},
};
#define FEATURE_COUNT (sizeof features / sizeof features[0])

static bool has_feature(const VklDeviceInfo *info, size_t index)
{
    return *(const bool *)((const char *)&info->features + features[index].offset);
}

/* Limits of the CPU backend are the largest values of their types, which says nothing: they are null. */
static json_t *limits_json(const VklDeviceInfo *info)
{
    const VklDeviceLimits *limits = &info->limits;
    if (info->type == VKL_DEVICE_CPU)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:[I,I,I], s:[I,I,I], s:I, s:I, s:I}", "storage_range",
                     (json_int_t)limits->storage_range, "allocation_size", (json_int_t)limits->allocation_size, "storage_buffers",
                     (json_int_t)limits->storage_buffers, "storage_alignment", (json_int_t)limits->storage_alignment,
                     "workgroups", (json_int_t)limits->workgroups[0], (json_int_t)limits->workgroups[1],
                     (json_int_t)limits->workgroups[2], "workgroup_size", (json_int_t)limits->workgroup_size[0],
                     (json_int_t)limits->workgroup_size[1], (json_int_t)limits->workgroup_size[2], "workgroup_invocations",
                     (json_int_t)limits->workgroup_invocations, "shared_memory", (json_int_t)limits->shared_memory,
                     "push_constants", (json_int_t)limits->push_constants);
}

json_t *info_device_json(const VklDeviceInfo *info)
{
    char selector[32], version[32];
    selector_text(info, selector);
    version_text(info->api_version, version);
    json_t *flags = json_object();
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        json_object_set_new(flags, features[i].name, json_boolean(has_feature(info, i)));
    json_object_set_new(flags, "subgroup_size", json_integer((json_int_t)info->features.subgroup_size));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:I, s:o, s:o}", "selector", selector, "name", info->name, "type",
                     type_name(info->type), "driver", info->driver, "api_version",
                     info->type == VKL_DEVICE_CPU ? json_null() : json_string(version), "vendor_id", (json_int_t)info->vendor_id,
                     "device_id", (json_int_t)info->device_id, "memory_bytes", (json_int_t)info->memory_bytes, "limits",
                     limits_json(info), "features", flags);
}

static int print_info_json(const VklDeviceInfo *infos, uint32_t count)
{
    json_t *devices = json_array();
    for (uint32_t i = 0; i < count; i++)
        if (json_array_append_new(devices, info_device_json(&infos[i])) != 0) {
            json_decref(devices);
            return fail("out of memory");
        }
    return print_json(json_pack("{s:s, s:b, s:b, s:o}", "version", vkl_version(), "vulkan", VKL_BUILT_WITH_VULKAN, "csv",
                                VKL_BUILT_WITH_CSV, "devices", devices));
}

void info_print_device(const VklDeviceInfo *info)
{
    char selector[32], version[32];
    selector_text(info, selector);
    version_text(info->api_version, version);
    printf("\n%s: %s\n", selector, info->name);
    printf("  type       %s\n", type_name(info->type));
    printf("  driver     %s\n", info->driver);
    printf("  memory     %.1f GiB\n", (double)info->memory_bytes / (1024.0 * 1024.0 * 1024.0));
    if (info->type == VKL_DEVICE_CPU)
        return;
    const VklDeviceLimits *limits = &info->limits;
    printf("  Vulkan     %s, vendor 0x%04" PRIx32 ", device 0x%04" PRIx32 "\n", version, info->vendor_id, info->device_id);
    printf("  limits     %" PRIu64 " MiB a binding, %" PRIu64 " MiB an allocation, %" PRIu32
           " storage buffers, alignment %" PRIu32 "\n             %" PRIu32 " invocations a workgroup, %" PRIu32
           " KiB shared memory, %" PRIu32 " bytes of push constants\n             %" PRIu32 " x %" PRIu32 " x %" PRIu32
           " workgroups\n",
           limits->storage_range >> 20, limits->allocation_size >> 20, limits->storage_buffers, limits->storage_alignment,
           limits->workgroup_invocations, limits->shared_memory >> 10, limits->push_constants, limits->workgroups[0],
           limits->workgroups[1], limits->workgroups[2]);
    printf("  features   subgroups of %" PRIu32, info->features.subgroup_size);
    for (size_t i = 0; i < FEATURE_COUNT; i++)
        if (has_feature(info, i))
            printf(", %s", features[i].name);
    printf("\n");
}

static int print_info_text(const VklDeviceInfo *infos, uint32_t count)
{
    printf("vklstm %s, built %s Vulkan, %s CSV\n", vkl_version(), VKL_BUILT_WITH_VULKAN ? "with" : "without",
           VKL_BUILT_WITH_CSV ? "with" : "without");
    for (uint32_t i = 0; i < count; i++)
        info_print_device(&infos[i]);
    return finish_output();
}

static int list_devices(const Session *session, bool json)
{
    uint32_t count = 0;
    VklStatus status = vkl_device_list(session->context, &count, NULL);
    VklDeviceInfo *infos = status == VKL_OK ? calloc(count ? count : 1, sizeof *infos) : NULL;
    if (status == VKL_OK && !infos)
        return fail("out of memory");
    for (uint32_t i = 0; infos && i < count; i++)
        infos[i].struct_size = sizeof infos[i];
    if (status == VKL_OK)
        status = vkl_device_list(session->context, &count, infos);
    int printed = EXIT_FAILED;
    if (status == VKL_OK)
        printed = json ? print_info_json(infos, count) : print_info_text(infos, count);
    else
        fail_library(session->context, status);
    free(infos);
    return printed;
}

static int run(const Command *command, int argc, char **argv)
{
    InfoArgs args = {.json = false};
    Options parsed;
    Session session = {NULL, NULL};
    int status = options_parse(command, argc, argv, &args, &parsed);
    if (status >= 0)
        return status;
    status = session_open(&session);
    if (status == EXIT_OK)
        status = list_devices(&session, args.json);
    session_close(&session);
    options_free(&parsed);
    return status;
}

const Command info_command = {
    .name = "info",
    .brief = "list the devices of this machine",
    .operands = "",
    .summary = "Lists the devices of this machine, with their limits and features, and says what this\nbuild can do.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};

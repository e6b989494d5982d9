/* SPDX-License-Identifier: MIT
 *
 * What a program decides about a guest on its device: what it enables, which queue families share its buffers, where device
 * memory comes from, who allocates for the driver; and two such programs, with a device of the library's own beside them, in
 * one process. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "spy.h"

static VklVulkanImport import_of(const App *app)
{
    VklVulkanImport import = spy_import(app);
    import.limits = test_limits();
    return import;
}

static VklDevice *import_device(VklContext *context, const VklVulkanImport *import)
{
    VklDevice *device = NULL;
    TEST_OK(context, vkl_device_import_vulkan(context, import, &device));
    return device;
}

/* ---- A layer ---- */

enum { T = 5, N = 3, I = 2, H = 7, Y = T * N * H };

/* Two backends add in another order and have other exponentials: 24 bits of which a few are lost over T steps. */
#define TOLERANCE 1e-5

static VklRnn *layer_of(VklContext *context, VklDevice *device, VklRnnSizes *sizes)
{
    VklRnn *rnn = NULL;
    VklRnnDesc desc = vkl_rnn_desc(VKL_CELL_LSTM, I, H);
    TEST_OK(context, vkl_rnn_create(device, &desc, &rnn));
    TEST_OK(context, vkl_rnn_sizes(rnn, T, N, sizes));
    return rnn;
}

static void fill(VklContext *context, VklRnn *rnn, float *params, float x[T * N * I])
{
    TEST_OK(context, vkl_rnn_init(rnn, 7, params));
    test_random(x, T * N * I, 3, 1);
}

/* Forward with buffers and a stream of the library's own. */
static void forward(VklContext *context, VklDevice *device, float y[Y])
{
    VklRnnSizes sizes;
    VklRnn *rnn = layer_of(context, device, &sizes);
    float *params = malloc(sizes.params), x[T * N * I];
    cr_assert_not_null(params);
    fill(context, rnn, params, x);
    VklBuffer *buffers[] = {test_buffer(device, params, sizes.params / 4), test_buffer(device, x, T * N * I),
                            test_buffer(device, NULL, Y), test_buffer(device, NULL, sizes.forward_workspace / 4)};
    VklStream *stream = NULL;
    TEST_OK(context, vkl_stream_create(device, &stream));
    VklRnnForward args = vkl_rnn_forward_args(T, N);
    args.params = vkl_slice(buffers[0], 0);
    args.x = vkl_slice(buffers[1], 0);
    args.y = vkl_slice(buffers[2], 0);
    args.workspace = vkl_slice(buffers[3], 0);
    TEST_OK(context, vkl_rnn_forward(rnn, stream, &args));
    TEST_OK(context, vkl_stream_wait(stream));
    test_read(device, buffers[2], y, Y);
    for (int i = 0; i < 4; i++)
        vkl_buffer_destroy(buffers[i]);
    vkl_stream_destroy(stream);
    vkl_rnn_destroy(rnn);
    free(params);
}

static void expected(VklContext *context, float y[Y])
{
    VklDevice *device = test_device_cpu(context);
    forward(context, device, y);
    vkl_device_destroy(device);
}

static void check_forward(VklContext *context, VklDevice *device, const float want[Y])
{
    float got[Y];
    forward(context, device, got);
    test_compare_f("y", got, want, Y, TOLERANCE);
}

/* ---- Wishes ---- */

typedef struct Asking {
    VklContext *context;
    uint32_t api_version;
    void *chain; /* the program's own structures, or NULL: the wishes' chain is used as it is */
    VklVulkanWishes wishes;
    VkPhysicalDeviceFeatures2 features;
    const char *names[8];
} Asking;

static void ask(App *app, VkDeviceCreateInfo *info, void *user)
{
    Asking *asking = user;
    VklVulkanImport import = spy_import(app);
    import.api_version = asking->api_version;
    asking->wishes.struct_size = sizeof(asking->wishes);
    TEST_OK(asking->context, vkl_vulkan_wishes(asking->context, &import, &asking->wishes));
    cr_assert_eq(asking->wishes.api_version, VK_API_VERSION_1_1);
    cr_assert_eq(asking->wishes.queue_flags, (VkQueueFlags)VK_QUEUE_COMPUTE_BIT);
    cr_assert_eq(asking->wishes.queue_family, app->family); /* there is no other */
    if (asking->chain) {
        asking->features = (VkPhysicalDeviceFeatures2){
            .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
            .pNext = asking->chain,
        };
        vkl_vulkan_wishes_add(&asking->wishes, &asking->features);
        cr_assert_null(asking->wishes.features.pNext);
    }
    info->pNext = asking->chain ? &asking->features : &asking->wishes.features;
    info->enabledExtensionCount = asking->wishes.extension_count;
    info->ppEnabledExtensionNames = asking->wishes.extensions;
}

/* A program that grants every wish has the features that a device of our own has. */
static void grants_wishes(uint32_t api_version, void *chain)
{
    VklContext *context = test_context();
    float want[Y];
    expected(context, want);
    VklDevice *own = test_device(context);
    VklDeviceInfo ours, theirs;
    vkl_device_info(own, &ours);
    vkl_device_destroy(own);

    Asking asking = {.context = context, .api_version = api_version, .chain = chain};
    App app = app_start_asking(ask, &asking, api_version);
    VklVulkanImport import = import_of(&app);
    uint32_t count = import.extension_count; /* the messenger's */
    for (uint32_t i = 0; i < count; i++)
        asking.names[i] = import.extensions[i];
    for (uint32_t i = 0; i < asking.wishes.extension_count; i++)
        asking.names[count++] = asking.wishes.extensions[i];
    import.api_version = api_version;
    import.features = chain ? &asking.features : &asking.wishes.features;
    import.extensions = asking.names;
    import.extension_count = count;
    for (const VkBaseInStructure *at = import.features->pNext; at; at = at->pNext)
        for (const VkBaseInStructure *after = at->pNext; after; after = after->pNext)
            cr_assert_neq(at->sType, after->sType, "structure %d is there twice", (int)at->sType);
    VklDevice *device = import_device(context, &import);
    vkl_device_info(device, &theirs);
    const struct {
        const char *name;
        uint64_t ours, theirs;
    } features[] = {
        {"timeline_semaphore", ours.features.timeline_semaphore, theirs.features.timeline_semaphore},
        {"shader_float16", ours.features.shader_float16, theirs.features.shader_float16},
        {"subgroup_size_control", ours.features.subgroup_size_control, theirs.features.subgroup_size_control},
        {"subgroup_size_min", ours.features.subgroup_size_min, theirs.features.subgroup_size_min},
        {"subgroup_size_max", ours.features.subgroup_size_max, theirs.features.subgroup_size_max},
        {"cooperative_matrix", ours.features.cooperative_matrix, theirs.features.cooperative_matrix},
        {"cooperative_shape", ours.features.cooperative_shape[0], theirs.features.cooperative_shape[0]},
    };
    for (size_t i = 0; i < sizeof(features) / sizeof(*features); i++)
        cr_assert_eq(features[i].ours, features[i].theirs, "%s: %d, not %d", features[i].name, (int)features[i].theirs,
                     (int)features[i].ours);
    check_forward(context, device, want);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

Test(guest, wishes_make_a_device_of_vulkan_1_1_as_good_as_our_own)
{
    grants_wishes(VK_API_VERSION_1_1, NULL);
}

Test(guest, wishes_make_a_device_of_vulkan_1_3_as_good_as_our_own)
{
    grants_wishes(VK_API_VERSION_1_3, NULL);
}

/* No structure may stand in a chain beside the one of its whole version: validation says so. */
Test(guest, wishes_are_added_to_structures_of_whole_versions)
{
    VkPhysicalDeviceVulkan13Features vulkan13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
    VkPhysicalDeviceVulkan12Features vulkan12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = &vulkan13,
    };
    grants_wishes(VK_API_VERSION_1_3, &vulkan12);
    cr_assert_null(vulkan13.pNext); /* nothing is left that has no place in them, but on a device with cooperative matrices */
}

Test(guest, wishes_are_appended_to_structures_of_other_features)
{
    VkPhysicalDevice16BitStorageFeatures other = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES};
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES,
        .pNext = &other,
    };
    grants_wishes(VK_API_VERSION_1_3, &timeline);
    cr_assert(!other.storageBuffer16BitAccess);
}

Test(guest, an_instance_has_wishes_too)
{
    App app = app_start();
    VklContextDesc silent = vkl_context_desc();
    VklContext *contexts[2] = {NULL, test_context()};
    TEST_OK(contexts[1], vkl_context_create(&silent, &contexts[0]));
    for (int debug = 0; debug < 2; debug++) {
        VklVulkanInstanceWishes wishes = {.struct_size = sizeof(wishes)};
        TEST_OK(contexts[debug], vkl_vulkan_instance_wishes(contexts[debug], vk.vkGetInstanceProcAddr, &wishes));
        cr_assert_eq(wishes.api_version, VK_API_VERSION_1_1);
        cr_assert_geq(wishes.api_version_known, VK_API_VERSION_1_3);
        bool named = false, portability = false;
        for (uint32_t i = 0; i < wishes.extension_count; i++) {
            named |= !strcmp(wishes.extensions[i], VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
            portability |= !strcmp(wishes.extensions[i], VK_KHR_PORTABILITY_ENUMERATION_EXTENSION_NAME);
        }
        cr_assert_eq(named, debug && app.messenger);
        cr_assert_eq(portability, wishes.flags != 0);
        wishes.struct_size--;
        cr_assert_eq(vkl_vulkan_instance_wishes(contexts[debug], vk.vkGetInstanceProcAddr, &wishes), VKL_ERROR_INVALID);
    }
    vkl_context_destroy(contexts[0]);
    vkl_context_destroy(contexts[1]);
    app_stop(&app);
}

Test(guest, wishes_of_what_cannot_be_used_are_refused)
{
    App app = app_start();
    VklContext *context = test_context();
    const VklVulkanImport good = import_of(&app);
    VklVulkanImport bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = good;
    bad[0].struct_size = 8;
    bad[1].get_instance_proc_addr = NULL;
    bad[2].instance = VK_NULL_HANDLE;
    bad[3].physical_device = VK_NULL_HANDLE;
    bad[4].api_version = VK_API_VERSION_1_0;
    bad[5].api_version = 0;
    static const char *const words[] = {"struct_size", "get_instance_proc_addr", "instance", "physical_device", "1.0", "0.0"};
    for (int i = 0; i < 6; i++) {
        VklVulkanWishes wishes = {.struct_size = sizeof(wishes), .api_version = 7};
        VklStatus status = vkl_vulkan_wishes(context, &bad[i], &wishes);
        cr_assert_eq(status, i < 4 ? VKL_ERROR_INVALID : VKL_ERROR_UNSUPPORTED, "case %d: %d", i, (int)status);
        cr_assert_not_null(strstr(vkl_context_error(context), words[i]), "case %d: %s", i, vkl_context_error(context));
        cr_assert_eq(wishes.api_version, 7u);
    }
    VklVulkanWishes wishes = {.struct_size = 8};
    cr_assert_eq(vkl_vulkan_wishes(context, &good, &wishes), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_vulkan_wishes(context, NULL, &wishes), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_vulkan_wishes(context, &good, NULL), VKL_ERROR_INVALID);
    cr_assert_eq(vkl_vulkan_wishes(NULL, &good, &wishes), VKL_ERROR_INVALID);
    vkl_context_destroy(context);
    app_stop(&app);
}

/* ---- Queue families ---- */

Test(guest, buffers_are_shared_among_the_queue_families_that_are_named)
{
    static const struct {
        uint32_t families[3], count, shared; /* shared 0: exclusive */
    } cases[] = {{{0}, 0, 0}, {{0}, 1, 0}, {{0, 0}, 2, 0}, {{1}, 1, 2}, {{0, 1}, 2, 2}, {{1, 0, 1}, 3, 2}};
    App app = app_start();
    spy.two_families = true;
    VklContext *context = test_context();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklVulkanImport import = import_of(&app);
        import.queue_families = cases[i].families;
        import.queue_family_count = cases[i].count;
        VklDevice *device = import_device(context, &import);
        for (VklBufferUsage usage = VKL_BUFFER_DEVICE; usage <= VKL_BUFFER_READBACK; usage++) {
            VklBuffer *buffer = NULL;
            TEST_OK(context, vkl_buffer_create(device, usage, 64, &buffer));
            cr_assert_eq(spy.sharing, cases[i].shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE, "case %zu", i);
            cr_assert_eq(spy.sharing_families, cases[i].shared, "case %zu", i);
            vkl_buffer_destroy(buffer);
        }
        /* staging is nobody else's */
        VklBuffer *buffer = test_buffer(device, (const float[]){1}, 1);
        cr_assert_eq(spy.sharing, VK_SHARING_MODE_EXCLUSIVE, "case %zu", i);
        vkl_buffer_destroy(buffer);
        vkl_device_destroy(device);
    }
    VklVulkanImport import = import_of(&app);
    VklDevice *device = NULL;
    import.queue_families = (const uint32_t[]){0, 2};
    import.queue_family_count = 2;
    cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_INVALID);
    cr_assert_not_null(strstr(vkl_context_error(context), "queue_families[1] is 2"), "%s", vkl_context_error(context));
    import.queue_families = NULL;
    cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_INVALID);
    vkl_context_destroy(context);
    app_check_usable(&app);
    app_stop(&app);
}

/* ---- The queue's lock ---- */

static void lock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index;
    pthread_mutex_lock(user);
}

static void unlock(void *user, uint32_t family, uint32_t index)
{
    (void)family, (void)index;
    pthread_mutex_unlock(user);
}

typedef struct Submitter {
    VklDevice *device;
    VklBuffer *buffer;
    pthread_mutex_t *held; /* NULL, or what is locked around each submit */
    VklStatus status;
} Submitter;

static void *submit(void *data)
{
    Submitter *mine = data;
    VklStream *stream = NULL;
    mine->status = vkl_stream_create(mine->device, &stream);
    for (int i = 0; i < 300 && !mine->status; i++) {
        mine->status = vkl_stream_fill(stream, vkl_slice(mine->buffer, 0), 1, 4);
        if (mine->held)
            pthread_mutex_lock(mine->held);
        if (!mine->status)
            mine->status = vkl_stream_submit(stream, NULL);
        if (mine->held)
            pthread_mutex_unlock(mine->held);
    }
    vkl_stream_destroy(stream);
    return NULL;
}

Test(guest, a_thread_that_holds_the_queues_lock_may_submit_beside_another)
{
    App app = app_start();
    pthread_mutex_t mutex;
    pthread_mutexattr_t twice;
    pthread_mutexattr_init(&twice);
    pthread_mutexattr_settype(&twice, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &twice);
    VklContext *context = test_context();
    VklVulkanImport import = import_of(&app);
    import.lock_queue = lock;
    import.unlock_queue = unlock;
    import.lock_user = &mutex;
    VklDevice *device = import_device(context, &import);
    Submitter submitters[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        submitters[i] = (Submitter){.device = device, .buffer = test_buffer(device, NULL, 1), .held = i ? &mutex : NULL};
        cr_assert_eq(pthread_create(&threads[i], NULL, submit, &submitters[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        TEST_OK(context, submitters[i].status);
        vkl_buffer_destroy(submitters[i].buffer);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    pthread_mutex_destroy(&mutex);
    pthread_mutexattr_destroy(&twice);
    app_check_usable(&app);
    app_stop(&app);
}

/* ---- Memory from the program ---- */

/* A plain allocator: one VkDeviceMemory, mapped as a whole, from which parts are taken one after the other, none at its beginning. */
typedef struct Pool {
    App *app;
    VkDeviceMemory memory;
    char *mapped;
    VkDeviceSize used;
    unsigned asked, allocated, released;
    enum { GOOD, NO_MEMORY, OTHER_TYPE, NO_ADDRESS, MISALIGNED, REFUSED } fault;
    VkResult refusal;
    VklVulkanRequest request; /* the latest */
    VklVulkanAllocation given;
} Pool;

enum { POOL_SIZE = 16 << 20 };

static VkResult pool_allocate(void *user, const VklVulkanRequest *request, VklVulkanAllocation *allocation)
{
    Pool *pool = user;
    pool->asked++;
    pool->request = *request;
    if (pool->fault == REFUSED)
        return pool->refusal;
    VkDeviceSize alignment = request->requirements.alignment;
    VkDeviceSize offset = (pool->used + 1 + alignment - 1) / alignment * alignment;
    cr_assert_leq(offset + request->requirements.size, (VkDeviceSize)POOL_SIZE);
    pool->used = offset + request->requirements.size;
    bool visible = request->required & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
    *allocation = (VklVulkanAllocation){
        .memory = pool->fault == NO_MEMORY ? VK_NULL_HANDLE : pool->memory,
        .offset = offset + (pool->fault == MISALIGNED),
        .mapped = pool->fault != NO_ADDRESS && (visible || !spy.apart) ? pool->mapped + offset : NULL,
        .memory_type = pool->fault == OTHER_TYPE ? 31
                       : spy.apart               ? visible
                                                 : spy.real_type,
        .handle = pool,
    };
    pool->given = *allocation;
    pool->allocated++;
    return VK_SUCCESS;
}

static void pool_release(void *user, const VklVulkanAllocation *allocation)
{
    Pool *pool = user;
    cr_assert_eq(allocation->handle, pool);
    pool->released++;
}

static void pool_start(Pool *pool, App *app)
{
    spy.real_type = app_visible_type(app, UINT32_MAX);
    *pool = (Pool){.app = app};
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = POOL_SIZE,
        .memoryTypeIndex = spy.real_type,
    };
    CHECK_VK(vk.vkAllocateMemory(app->device, &info, NULL, &pool->memory));
    void *mapped;
    CHECK_VK(vk.vkMapMemory(app->device, pool->memory, 0, VK_WHOLE_SIZE, 0, &mapped));
    pool->mapped = mapped;
    memset(mapped, 0xff, POOL_SIZE); /* new buffers are zeros nevertheless */
}

static VklDevice *import_with_pool(VklContext *context, App *app, Pool *pool)
{
    VklVulkanImport import = import_of(app);
    import.memory = (VklVulkanMemory){pool_allocate, pool_release, pool};
    return import_device(context, &import);
}

static void works_with_memory_of_the_program(bool apart)
{
    App app = app_start();
    spy.apart = apart;
    Pool pool;
    pool_start(&pool, &app);
    VklContext *context = test_context();
    float want[Y];
    expected(context, want);
    VklDevice *device = import_with_pool(context, &app, &pool);
    check_forward(context, device, want);
    for (VklBufferUsage usage = VKL_BUFFER_DEVICE; usage <= VKL_BUFFER_READBACK; usage++) {
        VklBuffer *buffer = NULL;
        TEST_OK(context, vkl_buffer_create(device, usage, 17 * 4, &buffer));
        cr_assert_eq(pool.request.usage, apart && usage == VKL_BUFFER_DEVICE ? VKL_BUFFER_DEVICE : usage);
        cr_assert_eq(pool.request.struct_size, sizeof(VklVulkanRequest));
        float got[17];
        test_read(device, buffer, got, 17);
        for (int i = 0; i < 17; i++)
            cr_assert_eq(got[i], 0.f, "usage %d, number %d", (int)usage, i);
        vkl_buffer_destroy(buffer);
    }
    cr_assert_eq(spy_calls("vkAllocateMemory"), 0u);
    cr_assert_eq(spy_calls("vkMapMemory"), 0u);
    cr_assert_gt(pool.allocated, 5u);
    vkl_device_destroy(device);
    cr_assert_eq(pool.released, pool.allocated);
    cr_assert_eq(spy_calls("vkFreeMemory"), 0u);
    vkl_context_destroy(context);
    vk.vkFreeMemory(app.device, pool.memory, NULL);
    app_check_usable(&app);
    app_stop(&app);
}

Test(guest, device_memory_comes_from_the_program)
{
    works_with_memory_of_the_program(false);
}

Test(guest, device_memory_apart_from_the_host_comes_from_the_program)
{
    works_with_memory_of_the_program(true);
}

Test(guest, flushes_whole_atoms_inside_of_the_buffer)
{
    App app = app_start();
    spy.apart = true; /* memory that the host sees is not coherent */
    Pool pool;
    pool_start(&pool, &app);
    VklContext *context = test_context();
    VklDevice *device = import_with_pool(context, &app, &pool);
    VkPhysicalDeviceProperties properties;
    vk.vkGetPhysicalDeviceProperties(app.physical, &properties);
    const VkDeviceSize atom = properties.limits.nonCoherentAtomSize;
    static const uint64_t sizes[] = {4, 68, 252, 256, 260, 1028};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        VklBuffer *buffer = NULL;
        TEST_OK(context, vkl_buffer_create(device, i % 2 ? VKL_BUFFER_UPLOAD : VKL_BUFFER_READBACK, sizes[i], &buffer));
        const VkDeviceSize begin = pool.given.offset, end = begin + spy.buffer_size;
        for (uint64_t at = 0; at < sizes[i]; at += 60) {
            uint64_t size = sizes[i] - at < 8 ? sizes[i] - at : 8;
            TEST_OK(context, i % 2 ? vkl_buffer_flush(buffer, at, size) : vkl_buffer_invalidate(buffer, at, size));
            cr_assert_eq(spy.range.memory, pool.memory);
            cr_assert_eq(spy.range.offset % atom, 0u);
            cr_assert_eq(spy.range.size % atom, 0u);
            cr_assert_geq(spy.range.offset, begin);
            cr_assert_leq(spy.range.offset, begin + at);
            cr_assert_leq(spy.range.offset + spy.range.size, end);
            cr_assert_geq(spy.range.offset + spy.range.size, begin + at + size);
        }
        vkl_buffer_destroy(buffer);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    vk.vkFreeMemory(app.device, pool.memory, NULL);
    app_stop(&app);
}

Test(guest, memory_that_was_not_asked_for_is_given_back)
{
    static const struct {
        int fault;
        VkResult refusal;
        VklStatus status;
        unsigned asked;
        const char *word;
    } cases[] = {
        {NO_MEMORY, 0, VKL_ERROR_VULKAN, 1, "no VkDeviceMemory"},
        {OTHER_TYPE, 0, VKL_ERROR_VULKAN, 1, "a type"},
        {NO_ADDRESS, 0, VKL_ERROR_VULKAN, 1, "no address"},
        {MISALIGNED, 0, VKL_ERROR_VULKAN, 1, "not aligned"},
        {REFUSED, VK_ERROR_OUT_OF_DEVICE_MEMORY, VKL_ERROR_DEVICE_MEMORY, 2, "VklVulkanMemory.allocate"},
        {REFUSED, VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY, 1, "VklVulkanMemory.allocate"},
        {REFUSED, VK_INCOMPLETE, VKL_ERROR_VULKAN, 1, "VklVulkanMemory.allocate"},
    };
    App app = app_start();
    Pool pool;
    pool_start(&pool, &app);
    VklContext *context = test_context();
    VklDevice *device = import_with_pool(context, &app, &pool);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        VklBuffer *buffer = NULL;
        pool.fault = cases[i].fault;
        pool.refusal = cases[i].refusal;
        pool.asked = 0;
        cr_assert_eq(vkl_buffer_create(device, VKL_BUFFER_UPLOAD, 64, &buffer), cases[i].status, "case %zu", i);
        cr_assert_not_null(strstr(vkl_context_error(context), cases[i].word), "case %zu: %s", i, vkl_context_error(context));
        cr_assert_eq(pool.asked, cases[i].asked, "case %zu", i);
        cr_assert_eq(pool.released, pool.allocated, "case %zu", i);
        cr_assert_null(buffer);
    }
    pool.fault = GOOD;
    VklBuffer *buffer = test_buffer(device, NULL, 16);
    vkl_buffer_destroy(buffer);
    vkl_device_destroy(device);
    cr_assert_eq(pool.released, pool.allocated);
    vkl_context_destroy(context);
    vk.vkFreeMemory(app.device, pool.memory, NULL);
    app_stop(&app);
}

/* ---- One arena of the program's, whose size it asked for ---- */

Test(guest, a_layer_lives_in_one_buffer_of_the_program)
{
    App app = app_start();
    VklContext *context = test_context();
    float want[Y];
    expected(context, want);
    VklVulkanImport import = import_of(&app);
    VklDevice *device = import_device(context, &import);
    VklRnnSizes sizes;
    VklRnn *rnn = layer_of(context, device, &sizes);

    enum { PARAMS, X, H0, C0, HN, CN, OUT, WORKSPACE, PARTS };
    const uint64_t bytes[PARTS] = {sizes.params, T * N * I * 4,    sizes.state, sizes.cell_state,
                                   sizes.state,  sizes.cell_state, Y * 4,       sizes.forward_workspace};
    uint64_t at[PARTS], end = 0;
    for (int i = 0; i < PARTS; i++) {
        at[i] = end;
        end = (end + bytes[i] + 255) & ~(uint64_t)255;
    }
    AppBuffer own = app_buffer(&app, end);
    VklBuffer *arena = NULL;
    TEST_OK(context, vkl_buffer_wrap_vulkan(device, own.handle, end, &arena));
    fill(context, rnn, (float *)((char *)own.host + at[PARAMS]), (float *)((char *)own.host + at[X]));
    VklRnnForward args = vkl_rnn_forward_args(T, N);
    args.params = vkl_slice(arena, at[PARAMS]);
    args.x = vkl_slice(arena, at[X]);
    args.h0 = vkl_slice(arena, at[H0]);
    args.c0 = vkl_slice(arena, at[C0]);
    args.hn = vkl_slice(arena, at[HN]);
    args.cn = vkl_slice(arena, at[CN]);
    args.y = vkl_slice(arena, at[OUT]);
    args.workspace = vkl_slice(arena, at[WORKSPACE]);
    VklExec *exec = NULL;
    VklStream *stream = NULL;
    TEST_OK(context, vkl_rnn_prepare_forward(rnn, &args, &exec));
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    app_begin(app.commands);
    TEST_OK(context, vkl_exec_record(exec, stream));
    app_run(&app, app.commands);
    test_compare_f("y", (const float *)((const char *)own.host + at[OUT]), want, Y, TOLERANCE);
    test_compare_f("hN", (const float *)((const char *)own.host + at[HN]), &want[(T - 1) * N * H], N * H, TOLERANCE);
    cr_assert_eq(spy_calls("vkAllocateMemory"), 0u);
    cr_assert_eq(spy_calls("vkCreateBuffer"), 0u);

    vkl_stream_destroy(stream);
    vkl_exec_destroy(exec);
    vkl_buffer_destroy(arena);
    vkl_rnn_destroy(rnn);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_buffer_destroy(&app, &own);
    app_stop(&app);
}

/* Steps of agents in the program's command buffer, with the program's buffer for all, of two of three agents. */
Test(guest, agents_step_in_one_buffer_of_the_program)
{
    enum { LIVE = 2 };
    App app = app_start();
    VklContext *context = test_context();
    float want[Y];
    expected(context, want);
    VklVulkanImport import = import_of(&app);
    VklDevice *device = import_device(context, &import);
    VklRnnSizes sizes;
    VklRnn *rnn = layer_of(context, device, &sizes);
    TEST_OK(context, vkl_rnn_step_sizes(rnn, N, &sizes));

    enum { PARAMS, X, H_STATE, C_STATE, RESET, COUNT, WORKSPACE, PARTS };
    const uint64_t bytes[PARTS] = {sizes.params, T * N * I * 4, sizes.state, sizes.cell_state, N * 4, 4, sizes.forward_workspace};
    uint64_t at[PARTS], end = 0;
    for (int i = 0; i < PARTS; i++) {
        at[i] = end;
        end = (end + bytes[i] + 255) & ~(uint64_t)255;
    }
    AppBuffer own = app_buffer(&app, end);
    VklBuffer *arena = NULL;
    TEST_OK(context, vkl_buffer_wrap_vulkan(device, own.handle, end, &arena));
    fill(context, rnn, (float *)((char *)own.host + at[PARAMS]), (float *)((char *)own.host + at[X]));
    *(uint32_t *)((char *)own.host + at[COUNT]) = LIVE;
    float *h = (float *)((char *)own.host + at[H_STATE]);
    for (int i = LIVE * H; i < N * H; i++)
        h[i] = 7;
    VklExec *execs[T] = {NULL};
    VklStream *stream = NULL;
    for (int t = 0; t < T; t++) {
        VklRnnStep args = vkl_rnn_step_args(N);
        args.params = vkl_slice(arena, at[PARAMS]);
        args.x = vkl_slice(arena, at[X] + (uint64_t)t * N * I * 4);
        args.h = vkl_slice(arena, at[H_STATE]);
        args.c = vkl_slice(arena, at[C_STATE]);
        args.reset = vkl_slice(arena, at[RESET]);
        args.count = vkl_slice(arena, at[COUNT]);
        args.workspace = vkl_slice(arena, at[WORKSPACE]);
        TEST_OK(context, vkl_rnn_prepare_step(rnn, &args, &execs[t]));
    }
    TEST_OK(context, vkl_stream_wrap_vulkan(device, app.commands, &stream));
    app_begin(app.commands);
    for (int t = 0; t < T; t++)
        TEST_OK(context, vkl_exec_record(execs[t], stream));
    app_run(&app, app.commands);
    test_compare_f("h", h, &want[(T - 1) * N * H], LIVE * H, TOLERANCE);
    for (int i = LIVE * H; i < N * H; i++)
        cr_assert_eq(h[i], 7.f, "number %d of an agent that is not there", i);

    vkl_stream_destroy(stream);
    for (int t = 0; t < T; t++)
        vkl_exec_destroy(execs[t]);
    vkl_buffer_destroy(arena);
    vkl_rnn_destroy(rnn);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    app_buffer_destroy(&app, &own);
    app_stop(&app);
}

/* ---- The driver's host memory ---- */

typedef struct Count {
    atomic_int calls, live;
} Count;

typedef struct Head {
    void *block;
    size_t size;
    uint64_t magic;
} Head;

#define MAGIC UINT64_C(0x766b6c73746d2121)

static Head *head_of(void *memory)
{
    Head *head = (Head *)((char *)memory - sizeof(Head));
    cr_assert_eq(head->magic, MAGIC, "memory of another allocator");
    return head;
}

static VKAPI_ATTR void *VKAPI_CALL host_allocate(void *user, size_t size, size_t alignment, VkSystemAllocationScope scope)
{
    Count *state = user;
    (void)scope;
    char *block = malloc(size + alignment + sizeof(Head));
    if (!block)
        return NULL;
    uintptr_t memory = ((uintptr_t)block + sizeof(Head) + alignment - 1) / alignment * alignment;
    Head *head = (Head *)(memory - sizeof(Head));
    *head = (Head){block, size, MAGIC};
    atomic_fetch_add(&state->calls, 1);
    atomic_fetch_add(&state->live, 1);
    return (void *)memory;
}

static VKAPI_ATTR void VKAPI_CALL host_free(void *user, void *memory)
{
    Count *state = user;
    if (!memory)
        return;
    Head *head = head_of(memory);
    head->magic = 0;
    atomic_fetch_sub(&state->live, 1);
    free(head->block);
}

static VKAPI_ATTR void *VKAPI_CALL host_reallocate(void *user, void *old, size_t size, size_t alignment,
                                                   VkSystemAllocationScope scope)
{
    void *made = size ? host_allocate(user, size, alignment, scope) : NULL;
    if (made && old) {
        size_t had = head_of(old)->size;
        memcpy(made, old, had < size ? had : size);
    }
    if (made || !size)
        host_free(user, old);
    return made;
}

Test(guest, every_object_is_made_and_destroyed_with_the_callbacks_of_the_program)
{
    App app = app_start();
    Count state = {0};
    VkAllocationCallbacks callbacks = {
        .pUserData = &state,
        .pfnAllocation = host_allocate,
        .pfnReallocation = host_reallocate,
        .pfnFree = host_free,
    };
    spy.callbacks_user = &state;
    VklContext *context = test_context();
    float want[Y];
    expected(context, want);
    VklVulkanImport import = import_of(&app);
    import.allocation = &callbacks;
    VklDevice *device = import_device(context, &import);
    memset(&callbacks, 0, sizeof(callbacks)); /* it was copied */
    check_forward(context, device, want);
    vkl_device_destroy(device);
    cr_assert_eq(spy.other_callbacks, 0u);
    cr_assert_gt(state.calls, 0);
    cr_assert_eq(state.live, 0);

    callbacks.pfnAllocation = host_allocate;
    callbacks.pfnFree = host_free;
    cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_INVALID);
    cr_assert_not_null(strstr(vkl_context_error(context), "pfnReallocation"), "%s", vkl_context_error(context));
    import = import_of(&app);
    import.memory.allocate = pool_allocate;
    cr_assert_eq(vkl_device_import_vulkan(context, &import, &device), VKL_ERROR_INVALID);
    cr_assert_not_null(strstr(vkl_context_error(context), "release"), "%s", vkl_context_error(context));
    vkl_context_destroy(context);
    app_stop(&app);
}

/* A model allocates by itself: parameters, gradients, moments, windows, workspace; all of it where the program says. */
Test(guest, a_model_is_trained_in_what_the_program_gives)
{
    enum { ROWS = 40, STEPS = 6, WINDOWS = ROWS - STEPS };
    App app = app_start();
    spy.two_families = true;
    Pool pool;
    pool_start(&pool, &app);
    Count state = {0};
    VkAllocationCallbacks callbacks = {
        .pUserData = &state,
        .pfnAllocation = host_allocate,
        .pfnReallocation = host_reallocate,
        .pfnFree = host_free,
    };
    spy.callbacks_user = &state;
    VklContext *context = test_context();
    VklVulkanImport import = import_of(&app);
    import.allocation = &callbacks;
    import.memory = (VklVulkanMemory){pool_allocate, pool_release, &pool};
    import.queue_families = (const uint32_t[]){0, 1};
    import.queue_family_count = 2;
    VklDevice *devices[] = {import_device(context, &import), test_device_cpu(context)};
    float series[ROWS], targets[WINDOWS], got[2][WINDOWS];
    uint32_t starts[WINDOWS];
    test_random(series, ROWS, 5, 1);
    for (uint32_t i = 0; i < WINDOWS; i++) {
        starts[i] = i;
        targets[i] = series[i + STEPS];
    }
    const VklWindows windows = {sizeof(windows), WINDOWS, STEPS, 1, 1, ROWS, series, starts, targets};
    const VklLayerDesc layers[] = {vkl_layer_lstm(9), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklFitDesc fit = vkl_fit_desc();
    fit.epochs = 2;
    fit.batch_size = 7;
    for (int i = 0; i < 2; i++) {
        VklModel *model = NULL;
        TEST_OK(context, vkl_model_create(devices[i], 1, layers, 2, 3, &model));
        TEST_OK(context, vkl_model_fit(model, &windows, NULL, &fit, NULL));
        TEST_OK(context, vkl_model_predict(model, &windows, got[i]));
        vkl_model_destroy(model);
        vkl_device_destroy(devices[i]);
    }
    test_compare_f("predictions", got[0], got[1], WINDOWS,
                   1e-4); /* ten steps of Adam, which divides small numbers by small ones */
    cr_assert_eq(spy_calls("vkAllocateMemory"), 0u);
    cr_assert_gt(pool.allocated, 0u);
    cr_assert_eq(pool.released, pool.allocated);
    cr_assert_eq(spy.other_callbacks, 0u);
    cr_assert_eq(state.live, 0);
    vkl_context_destroy(context);
    vk.vkFreeMemory(app.device, pool.memory, NULL);
    app_check_usable(&app);
    app_stop(&app);
}

/* ---- Several in one process ---- */

Test(guest, two_programs_and_a_device_of_its_own_do_not_know_of_each_other)
{
    float want[Y];
    VklContext *contexts[3];
    VklDevice *devices[3];
    App apps[2];
    AppVulkan functions[2];
    for (int i = 0; i < 2; i++) {
        apps[i] = app_start();
        functions[i] = vk;
        VklVulkanImport import = import_of(&apps[i]);
        import.get_instance_proc_addr = vk.vkGetInstanceProcAddr; /* there is one spy */
        contexts[i] = test_context();
        devices[i] = import_device(contexts[i], &import);
    }
    contexts[2] = test_context();
    devices[2] = test_device(contexts[2]);
    expected(contexts[2], want);
    /* the one of its own in the middle, so that its loader is closed while another works */
    static const int order[] = {0, 2, 1};
    for (int gone = 0; gone < 3; gone++) {
        for (int i = gone; i < 3; i++)
            check_forward(contexts[order[i]], devices[order[i]], want);
        const int end = order[gone];
        vkl_device_destroy(devices[end]);
        vkl_context_destroy(contexts[end]);
        if (end < 2) {
            vk = functions[end];
            app_check_usable(&apps[end]);
            app_stop(&apps[end]);
        }
    }
}

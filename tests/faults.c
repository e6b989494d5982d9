/* SPDX-License-Identifier: MIT
 *
 *     faults memory [EVERY [STEP CALL]]     every allocation of host memory is refused in turn, on the device of VKL_TEST_DEVICE
 *     faults vulkan [EVERY [STEP CALL]]     every Vulkan call that may fail does so in turn: no host memory, no device memory, the device lost
 *
 * With EVERY, every so many of them; with STEP and CALL, from there on, after a crash. A visit (visit.c) goes through the whole
 * library in steps. A step is tried with its first allocation or call failing, then with its second, until it does all it has
 * to without meeting the one that would fail: so that what failed is shown to be as usable as before. Each visit is a process
 * of its own; one that ends by a signal is counted, and the next begins behind what ended it. What the steps compute is
 * compared, bit for bit, with what they computed where nothing failed. The last line is the count; the status is 0 if nothing
 * was wrong, 1 otherwise. */
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "visit.h"

#ifdef VKL_FAULT_LAYER
#include "rigs/fault_layer.h"
#endif

enum { MOST_STEPS = 64 };

/* What the processes share. */
typedef struct Shared {
    unsigned long failed, mended, lost; /* statuses returned, failures that the library made up for, devices lost */
    size_t step;                        /* that is tried */
    unsigned long at;                   /* its allocation or call that fails */
    char what[128];                     /* for the report of a crash */
    bool known[MOST_STEPS];
    uint64_t digest[MOST_STEPS];
} Shared;

typedef struct Fault {
    const char *name;
    int result; /* a VkResult; 0: an allocation */
    VklStatus status;
} Fault;

static const Fault memory_faults[] = {{"host memory refused", 0, VKL_ERROR_HOST_MEMORY}};
#ifdef VKL_FAULT_LAYER
static const Fault vulkan_faults[] = {
    {"VK_ERROR_OUT_OF_HOST_MEMORY", VK_ERROR_OUT_OF_HOST_MEMORY, VKL_ERROR_HOST_MEMORY},
    {"VK_ERROR_OUT_OF_DEVICE_MEMORY", VK_ERROR_OUT_OF_DEVICE_MEMORY, VKL_ERROR_DEVICE_MEMORY},
    {"VK_ERROR_DEVICE_LOST", VK_ERROR_DEVICE_LOST, VKL_ERROR_DEVICE_LOST},
};
static FaultControl *layer;
#endif

static Shared *shared;
static bool verbose;

/* ---- Failing ---- */

static void arm(Visit *visit, const Fault *fault, unsigned long at)
{
    if (!fault->result) {
        atomic_store(&visit->heap.refuse, at);
        return;
    }
#ifdef VKL_FAULT_LAYER
    atomic_store(&layer->failure, fault->result);
    layer->failed = NULL;
    atomic_store(&layer->until_failure, (unsigned)at);
#endif
}

/* Whether it has happened; nothing fails from here on. */
static bool disarm(Visit *visit, const Fault *fault, const char **what)
{
    *what = "an allocation";
    if (!fault->result)
        return atomic_exchange(&visit->heap.refuse, 0) == 0;
#ifdef VKL_FAULT_LAYER
    *what = layer->failed;
    return atomic_exchange(&layer->until_failure, 0) == 0;
#else
    return false;
#endif
}

/* ---- One process ---- */

static void compare(size_t step, uint64_t digest)
{
    if (!shared->known[step]) {
        shared->known[step] = true;
        shared->digest[step] = digest;
    }
    VISIT_CHECK(shared->digest[step] == digest, "\"%s\" computed something else than it did where nothing failed",
                visit_steps[step].name);
}

/* From step `first`, whose call `at` fails; NULL: nothing fails. The status that the process ends with. */
static int visit_all(const char *folder, const Fault *fault, unsigned long every)
{
    static Visit visit;
    const char *selector = getenv("VKL_TEST_DEVICE");
    visit.selector = selector ? selector : "cpu";
    visit.folder = folder;
    const size_t first = shared->step;
    bool again = false;
    for (size_t step = 0; step < visit_step_count; step++) {
        bool sweep = fault && step >= first && !again;
        visit.digest = 0;
        visit.expected = shared->known[step] ? shared->digest[step] : 0;
        if (!sweep) {
            VklStatus status = visit_steps[step].run(&visit);
            VISIT_CHECK(!status, "\"%s\" failed without a reason: %s", visit_steps[step].name, vkl_context_error(visit.context));
            compare(step, visit.digest);
            continue;
        }
        if (step > first) {
            shared->step = step;
            shared->at = 1;
        }
        for (;; shared->at += every) {
            const char *what;
            snprintf(shared->what, sizeof(shared->what), "\"%s\", %lu", visit_steps[step].name, shared->at);
            arm(&visit, fault, shared->at);
            VklStatus status = visit_steps[step].run(&visit);
            bool failed = disarm(&visit, fault, &what);
            if (verbose && failed)
                fprintf(stderr, "%s, %s, %lu: %s: status %d: %s\n", fault->name, visit_steps[step].name, shared->at, what,
                        (int)status, visit.context && status ? vkl_context_error(visit.context) : "");
            if (!failed) {
                VISIT_CHECK(!status, "\"%s\" failed without a reason: %s", visit_steps[step].name,
                            vkl_context_error(visit.context));
                compare(step, visit.digest);
                break;
            }
            if (!status) {
                shared->mended++;
                compare(step, visit.digest);
                again = true; /* the step is done: its next call is for the next process */
                break;
            }
            shared->failed++;
            VISIT_CHECK(status == fault->status, "\"%s\" with %s failing (%lu): status %d: %s", visit_steps[step].name, what,
                        shared->at, (int)status, visit.context ? vkl_context_error(visit.context) : "");
            VISIT_CHECK(!visit.context || vkl_context_error(visit.context)[0], "\"%s\" failed without a sentence",
                        visit_steps[step].name);
            if (status == VKL_ERROR_DEVICE_LOST) {
                shared->lost++;
                visit_after_loss(&visit);
                visit_end(&visit);
                shared->at += every;
                return VISIT_AGAIN;
            }
        }
    }
    visit_end(&visit);
    if (again)
        shared->at += every;
    return again ? VISIT_AGAIN : VISIT_DONE;
}

/* ---- All of them ---- */

static int in_a_process(const char *folder, const Fault *fault, unsigned long every)
{
    fflush(NULL);
    pid_t child = fork();
    if (!child)
        exit(visit_all(folder, fault, every));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return VISIT_WRONG;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool sweep(const char *folder, const Fault *fault, unsigned long every, size_t step, unsigned long at)
{
    memset(shared, 0, sizeof(*shared));
    unsigned long crashed = 0, wrong = 0, processes = 1;
    int status = in_a_process(folder, NULL, 1);
    if (status != VISIT_DONE) {
        printf("%s: the visit ends with status %d where nothing fails\n", fault->name, status);
        return false;
    }
    shared->step = step;
    shared->at = at;
    while ((status = in_a_process(folder, fault, every)) != VISIT_DONE && crashed + wrong < 50) {
        processes++;
        if (status == VISIT_AGAIN)
            continue;
        printf("%s: %s: %s %d\n", fault->name, shared->what, status < 0 ? "signal" : "status", status < 0 ? -status : status);
        *(status < 0 ? &crashed : &wrong) += 1;
        shared->at += every;
    }
    printf("%s: %lu failed in turn, in %lu processes: %lu were reported, %lu made up for; %lu wrong, %lu crashed\n", fault->name,
           shared->failed + shared->mended, processes, shared->failed, shared->mended, wrong, crashed);
    if (fault->status == VKL_ERROR_DEVICE_LOST)
        printf("%s: %lu devices lost, and training went on with another\n", fault->name, shared->lost);
    return !crashed && !wrong && shared->failed > 0;
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"visit.safetensors", "visit.csv"};
    char path[512];
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

#ifdef VKL_FAULT_LAYER
static void prepend(const char *variable, const char *text)
{
    char value[4096];
    const char *old = getenv(variable);
    snprintf(value, sizeof(value), "%s%s%s", text, old && *old ? ":" : "", old ? old : "");
    setenv(variable, value, 1);
}

/* The loader opens the same library again, and so finds the same control. */
static bool open_layer(void)
{
    void *library = dlopen(VKL_FAULT_LAYER, RTLD_NOW);
    layer = library ? dlsym(library, "fault_control") : NULL;
    if (!layer)
        fprintf(stderr, "%s\n", dlerror());
    /* Between the program and the validation layer, which must not see what is refused: one of 1.4 takes a submit for pending before it
     * passes it on, and one that is refused below it for pending ever after. Loaders go by the order of the names, or, like 1.3.239, by
     * that in which they find the manifests. */
    prepend(getenv("VK_LAYER_PATH") ? "VK_LAYER_PATH" : "VK_ADD_LAYER_PATH", VKL_FAULT_FOLDER);
    prepend("VK_INSTANCE_LAYERS", "VK_LAYER_VKL_fault");
    setenv("NODEVICE_SELECT", "1", 1); /* Mesa's layer, which ignores an error of vkEnumeratePhysicalDevices and crashes */
    return layer;
}
#endif

int main(int argc, char **argv)
{
    const Fault *faults = memory_faults;
    size_t count = 1;
    unsigned long every = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    size_t step = 0;
    unsigned long at = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
    while (argc > 3 && step < visit_step_count && strcmp(argv[3], visit_steps[step].name))
        step++;
    verbose = getenv("VKL_TEST_VERBOSE") != NULL;
    if (argc < 2 || !every || !at || step == visit_step_count || (strcmp(argv[1], "memory") && strcmp(argv[1], "vulkan"))) {
        fprintf(stderr, "usage: faults memory|vulkan [EVERY [STEP CALL]]\n");
        return 2;
    }
    if (!strcmp(argv[1], "vulkan")) {
#ifdef VKL_FAULT_LAYER
        if (!open_layer())
            return 1;
        faults = vulkan_faults;
        count = sizeof(vulkan_faults) / sizeof(*vulkan_faults);
#else
        fprintf(stderr, "this build has no Vulkan\n");
        return 2;
#endif
    }
    char folder[] = "/tmp/vklstm-faults-XXXXXX";
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || visit_step_count > MOST_STEPS || !mkdtemp(folder))
        return 1;
    bool good = true;
    for (size_t i = 0; i < count; i++)
        good = sweep(folder, &faults[i], every, step, at) && good;
    remove_folder(folder);
    return good ? 0 : 1;
}

/* SPDX-License-Identifier: MIT
 *
 * Runs the tasks of a parallel loop on a few threads. Which thread takes which task is left to chance; that is safe because every
 * task's result depends on its index alone.
 */
#include <signal.h>

#include "internal.h"
#include "system.h"

typedef void (*Task)(void *data, uint32_t index);

/* How often a thread looks for work before it sleeps: loops come one after the other, and waking takes longer than many of them. */
#define SPINS 1000

struct VklPool {
    atomic_flag busy; /* one loop at a time; others, and loops inside a task, run on their own thread */
    pthread_mutex_t mutex;
    pthread_cond_t begin; /* to the threads: a loop has begun, or the pool ends */
    pthread_cond_t end;   /* to the caller: the last thread has left the loop */
    /* guarded by mutex */
    Task task; /* NULL: no loop to join */
    void *data;
    uint32_t count;
    uint64_t loop; /* counts the loops, so that a thread joins each once */
    uint32_t inside;
    bool quit;
    atomic_uint_fast64_t posted; /* the loop that has begun last */
    atomic_uint_fast32_t left;   /* threads inside, for the caller to look at without the mutex */
    /* the next index that nobody has taken; only grows past count, never back while a thread is inside */
    atomic_uint_fast64_t next;
    uint32_t thread_count;
    pthread_t threads[];
};

static void run(VklPool *pool, Task task, void *data, uint32_t count)
{
    for (;;) {
        uint64_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= count)
            return;
        task(data, (uint32_t)index);
    }
}

static void pause_briefly(void)
{
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void *thread_main(void *argument)
{
    VklPool *pool = argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        if (!pool->quit && (!pool->task || pool->loop == seen)) {
            uint64_t last = pool->loop;
            pthread_mutex_unlock(&pool->mutex);
            for (int i = 0; i < SPINS && atomic_load_explicit(&pool->posted, memory_order_relaxed) == last; i++)
                pause_briefly();
            pthread_mutex_lock(&pool->mutex);
        }
        while (!pool->quit && (!pool->task || pool->loop == seen))
            pthread_cond_wait(&pool->begin, &pool->mutex);
        if (pool->quit)
            break;
        seen = pool->loop;
        Task task = pool->task;
        void *data = pool->data;
        uint32_t count = pool->count;
        pool->inside++;
        atomic_fetch_add_explicit(&pool->left, 1, memory_order_relaxed);
        pthread_mutex_unlock(&pool->mutex);
        run(pool, task, data, count);
        atomic_fetch_sub_explicit(&pool->left, 1, memory_order_relaxed);
        pthread_mutex_lock(&pool->mutex);
        if (--pool->inside == 0)
            pthread_cond_signal(&pool->end);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

uint32_t vkl_parallel_threads(const VklContext *context)
{
    return context->desc.threads ? context->desc.threads : vkl_system_processors();
}

/* NULL when the host refuses memory; a pool of fewer threads, possibly none, when it refuses threads. */
static VklPool *pool_create(const VklHostMemory *memory, uint32_t threads)
{
    uint32_t helpers = threads - 1; /* the caller works too */
    VklPool *pool = vkl_allocate(memory, 1, sizeof(*pool) + helpers * sizeof(pool->threads[0]));
    if (!pool)
        return NULL;
    atomic_flag_clear(&pool->busy);
    atomic_init(&pool->next, 0);
    atomic_init(&pool->posted, 0);
    atomic_init(&pool->left, 0);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->begin, NULL);
    pthread_cond_init(&pool->end, NULL);

#ifndef _WIN32
    /* Signals are for the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
#endif
    while (pool->thread_count < helpers && !pthread_create(&pool->threads[pool->thread_count], NULL, thread_main, pool))
        pool->thread_count++;
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#endif
    return pool;
}

void vkl_pool_destroy(VklPool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->quit = true;
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->end);
    pthread_cond_destroy(&pool->begin);
    pthread_mutex_destroy(&pool->mutex);
    vkl_release(pool);
}

static void pool_run(VklPool *pool, uint32_t count, Task task, void *data)
{
    pthread_mutex_lock(&pool->mutex);
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->task = task;
    pool->data = data;
    pool->count = count;
    pool->loop++;
    atomic_store_explicit(&pool->posted, pool->loop, memory_order_relaxed);
    pthread_cond_broadcast(&pool->begin);
    pthread_mutex_unlock(&pool->mutex);

    run(pool, task, data, count);
    for (int i = 0; i < SPINS && atomic_load_explicit(&pool->left, memory_order_relaxed); i++)
        pause_briefly();

    /* Threads that have not woken up by now need not join. */
    pthread_mutex_lock(&pool->mutex);
    pool->task = NULL;
    while (pool->inside)
        pthread_cond_wait(&pool->end, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

/* The pool of a loop that has more than one task, taken; NULL where the caller does it all. */
static VklPool *pool_take(VklContext *context, uint32_t count)
{
    VklPool *pool = NULL;
    if (count > 1 && context->desc.threads != 1) {
        pthread_mutex_lock(&context->mutex);
        if (!context->pool)
            context->pool = pool_create(&context->desc.memory, vkl_parallel_threads(context));
        pool = context->pool;
        pthread_mutex_unlock(&context->mutex);
    }
    bool taken = pool && pool->thread_count && !atomic_flag_test_and_set_explicit(&pool->busy, memory_order_acquire);
    return taken ? pool : NULL;
}

static void pool_give(VklPool *pool)
{
    atomic_flag_clear_explicit(&pool->busy, memory_order_release);
}

void vkl_parallel(VklContext *context, uint32_t count, void (*task)(void *data, uint32_t index), void *data)
{
    if (count > 1 && context->desc.parallel) {
        context->desc.parallel(context->desc.parallel_user, count, task, data);
        return;
    }
    VklPool *pool = pool_take(context, count);
    if (pool) {
        pool_run(pool, count, task, data);
        pool_give(pool);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        task(data, i);
}

/* A thread keeps its task until that ends, and every thread of the pool joins a loop whose caller is still in it. So as many tasks as
 * there are threads, each of which waits for all, are all begun. */
bool vkl_together(VklContext *context, uint32_t count, void (*task)(void *data, uint32_t index), void *data)
{
    VklPool *pool = context->desc.parallel ? NULL : pool_take(context, count);
    if (!pool)
        return false;
    bool enough = pool->thread_count >= count - 1;
    if (enough)
        pool_run(pool, count, task, data);
    pool_give(pool);
    return enough;
}

#define _GNU_SOURCE
#include "core/base/pool.h"

#include "core/base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SPINS = 4000, MAX_THREADS = 256 };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint_fast64_t job; /* number of the current job; a change is the start signal */
    atomic_size_t next;       /* next task to hand out */
    atomic_int working;       /* helpers that have not finished the current job */
    atomic_bool stop;
    size_t n_tasks;
    pool_task *task;
    void *arg;
    int n_threads;
    struct helper {
        pthread_t thread;
        struct pool *pool;
        int worker;
    } * helpers;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void work(struct pool *pool, int worker)
{
    for (;;) {
        size_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= pool->n_tasks)
            return;
        pool->task(pool->arg, i, worker);
    }
}

static void *helper_main(void *arg)
{
    struct helper *self = arg;
    struct pool *pool = self->pool;
    uint_fast64_t seen = 0;
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load_explicit(&pool->job, memory_order_acquire) == seen; spin++)
            relax();
        if (atomic_load_explicit(&pool->job, memory_order_acquire) == seen) {
            pthread_mutex_lock(&pool->lock);
            while (atomic_load(&pool->job) == seen)
                pthread_cond_wait(&pool->wake, &pool->lock);
            pthread_mutex_unlock(&pool->lock);
        }
        seen = atomic_load(&pool->job);
        if (atomic_load(&pool->stop))
            return NULL;
        work(pool, self->worker);
        if (atomic_fetch_sub(&pool->working, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void start_job(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->job, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

int pool_create(struct pool **out, int n_threads, struct err *err)
{
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return err_set(err, ERR_ARG, "threads must be from 1 to %d, not %d", MAX_THREADS, n_threads);
    struct pool *pool = mem_zeroed(1, sizeof *pool);
    if (!pool)
        return err_nomem(err, "the thread pool");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->n_threads = 1;
    pool->helpers = mem_zeroed((size_t)n_threads, sizeof *pool->helpers);
    if (!pool->helpers) {
        pool_free(pool);
        return err_nomem(err, "the thread pool");
    }
    /* Signals belong to the main thread. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = 0;
    for (int w = 1; w < n_threads && !failed; w++) {
        struct helper *h = &pool->helpers[w];
        *h = (struct helper){ .pool = pool, .worker = w };
        failed = pthread_create(&h->thread, NULL, helper_main, h);
        if (!failed)
            pool->n_threads++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) {
        pool_free(pool);
        return err_set(err, ERR_NOMEM, "cannot start %d threads: %s: use fewer with --threads", n_threads,
                       strerror(failed));
    }
    *out = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stop, true);
    start_job(pool);
    for (int w = 1; w < pool->n_threads; w++)
        pthread_join(pool->helpers[w].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->helpers);
    free(pool);
}

int pool_threads(const struct pool *pool)
{
    return pool->n_threads;
}

void pool_run(struct pool *pool, size_t n_tasks, pool_task *task, void *arg)
{
    if (pool->n_threads == 1 || n_tasks <= 1) {
        for (size_t i = 0; i < n_tasks; i++)
            task(arg, i, 0);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    pool->n_tasks = n_tasks;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->working, pool->n_threads - 1);
    start_job(pool);
    work(pool, 0);
    for (int spin = 0; spin < SPINS && atomic_load_explicit(&pool->working, memory_order_acquire); spin++)
        relax();
    if (!atomic_load(&pool->working))
        return;
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->working))
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

int pool_default_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

#define _GNU_SOURCE
#include "core/base/pool.h"

#include "core/base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SPINS = 4000, MAX_THREADS = 256 };

#define OPEN ((uint_fast64_t)1 << 31)
#define INSIDE(gate) ((gate) & (OPEN - 1))
#define NUMBER(gate) ((gate) >> 32)

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    /*
     * The job's number in the upper half (a change is the start signal), the OPEN bit while helpers may still join,
     * and the number of helpers inside. Only those are waited for: on a busy machine a helper may come too late.
     */
    atomic_uint_fast64_t gate;
    atomic_size_t next; /* next task to hand out */
    atomic_bool ending;
    size_t n_tasks;
    pool_task *task;
    void *arg;
    int n_threads;
    pid_t owner; /* a child made by fork has the memory, but no helpers */
    pool_stop *stop_wanted;
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

static void wait_for_job(struct pool *pool, uint_fast64_t seen)
{
    for (int spin = 0; spin < SPINS; spin++) {
        if (NUMBER(atomic_load_explicit(&pool->gate, memory_order_acquire)) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (NUMBER(atomic_load(&pool->gate)) == seen)
        pthread_cond_wait(&pool->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

/* Enters the job unless it is over. *number is the job's in any case. */
static bool join_job(struct pool *pool, uint_fast64_t *number)
{
    uint_fast64_t gate = atomic_load(&pool->gate);
    do {
        *number = NUMBER(gate);
        if (!(gate & OPEN))
            return false;
    } while (!atomic_compare_exchange_weak(&pool->gate, &gate, gate + 1));
    return true;
}

static void leave_job(struct pool *pool)
{
    uint_fast64_t gate = atomic_fetch_sub(&pool->gate, 1) - 1;
    if ((gate & OPEN) || INSIDE(gate))
        return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_signal(&pool->done);
    pthread_mutex_unlock(&pool->lock);
}

static void *helper_main(void *arg)
{
    struct helper *self = arg;
    struct pool *pool = self->pool;
    uint_fast64_t seen = 0;
    while (!atomic_load(&pool->ending)) {
        if (join_job(pool, &seen)) {
            work(pool, self->worker);
            leave_job(pool);
        }
        wait_for_job(pool, seen);
    }
    return NULL;
}

/* Nobody is inside. */
static void open_job(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->gate, (NUMBER(atomic_load(&pool->gate)) + 1) << 32 | OPEN);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void close_job(struct pool *pool)
{
    atomic_fetch_and(&pool->gate, ~OPEN);
    for (int spin = 0; spin < SPINS && INSIDE(atomic_load_explicit(&pool->gate, memory_order_acquire)); spin++)
        relax();
    if (!INSIDE(atomic_load(&pool->gate)))
        return;
    pthread_mutex_lock(&pool->lock);
    while (INSIDE(atomic_load(&pool->gate)))
        pthread_cond_wait(&pool->done, &pool->lock);
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
    pool->owner = getpid();
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

static bool is_forked_copy(const struct pool *pool)
{
    return getpid() != pool->owner;
}

static void end_helpers(struct pool *pool)
{
    atomic_store(&pool->ending, true);
    atomic_store(&pool->next, 0);
    pool->n_tasks = 0;
    open_job(pool);
    for (int w = 1; w < pool->n_threads; w++)
        pthread_join(pool->helpers[w].thread, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    /* In a copy, locks are in whatever state the fork met them in. */
    if (!is_forked_copy(pool))
        end_helpers(pool);
    free(pool->helpers);
    free(pool);
}

int pool_threads(const struct pool *pool)
{
    return pool->n_threads;
}

void pool_run(struct pool *pool, size_t n_tasks, pool_task *task, void *arg)
{
    if (pool->n_threads == 1 || n_tasks <= 1 || is_forked_copy(pool)) {
        for (size_t i = 0; i < n_tasks; i++)
            task(arg, i, 0);
        return;
    }
    pool->task = task;
    pool->arg = arg;
    pool->n_tasks = n_tasks;
    atomic_store(&pool->next, 0);
    open_job(pool);
    work(pool, 0);
    close_job(pool);
}

void pool_stop_when(struct pool *pool, pool_stop *wanted)
{
    pool->stop_wanted = wanted;
}

int pool_stopped(const struct pool *pool, struct err *err)
{
    return pool->stop_wanted && pool->stop_wanted() ? err_set(err, ERR_INTERRUPTED, "interrupted") : 0;
}

struct attempt {
    const struct pool *pool;
    pool_attempt *task;
    void *arg;
    atomic_size_t first;  /* lowest index that failed; SIZE_MAX: none */
    pthread_mutex_t lock; /* of a change of `first` and its error */
    struct err err;
};

static void note_failure(struct attempt *a, size_t index, const struct err *err)
{
    pthread_mutex_lock(&a->lock);
    if (index < atomic_load(&a->first)) {
        atomic_store(&a->first, index);
        a->err = *err;
    }
    pthread_mutex_unlock(&a->lock);
}

static void attempt_task(void *arg, size_t index, int worker)
{
    struct attempt *a = arg;
    struct err err = { 0 };
    /* Those before a failed one run whatever happens, so that the lowest that fails is always found. */
    if (index > atomic_load(&a->first))
        return;
    err.code = pool_stopped(a->pool, &err);
    if (!err.code)
        err.code = a->task(a->arg, index, worker, &err);
    if (err.code)
        note_failure(a, index, &err);
}

int pool_try(struct pool *pool, size_t n_tasks, pool_attempt *task, void *arg, struct err *err)
{
    struct attempt a = { .pool = pool, .task = task, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER };
    atomic_init(&a.first, SIZE_MAX);
    pool_run(pool, n_tasks, attempt_task, &a);
    pthread_mutex_destroy(&a.lock);
    if (a.err.code && err)
        *err = a.err;
    return a.err.code;
}

int pool_default_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

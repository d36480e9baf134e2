/*
 * A pool of worker threads that all run one job at a time.
 *
 *     static void square(void *arg, size_t i, int worker) { ((float *)arg)[i] *= ((float *)arg)[i]; }
 *     struct pool *pool;
 *     if (pool_create(&pool, 2, &err)) ...
 *     pool_run(pool, n, square, x);        // returns when every task is done
 *     pool_free(pool);
 *
 * The caller is worker 0; tasks are handed out in order, one by one. Only one
 * thread at a time may call pool_run, and tasks must not call it again.
 * Workers spin briefly between jobs (about 50 us), then sleep.
 *
 * A process made by fork may use and free the pool as it is, also when the fork
 * met it in the middle of a job: there are no helpers there, so that the caller
 * runs every task. (OpenBLAS promises less: after a fork that met another
 * thread inside a product, one in 50 children waited for ever in its first.)
 */
#ifndef STRATA_BASE_POOL_H
#define STRATA_BASE_POOL_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct pool;

/* n_threads 1..256, the caller's included. *out is the caller's. */
int pool_create(struct pool **out, int n_threads, struct err *err);
void pool_free(struct pool *pool); /* NULL is fine */
int pool_threads(const struct pool *pool);
typedef void pool_task(void *arg, size_t index, int worker);
void pool_run(struct pool *pool, size_t n_tasks, pool_task *task, void *arg);

/*
 * The same for tasks that may fail, or that are long enough to be worth stopping: after a failure, and once a stop is
 * wanted, no more are begun; those that are running end. The error is that of the lowest task that failed, whatever
 * the number of threads; the pool is as good as new.
 */
typedef int pool_attempt(void *arg, size_t index, int worker, struct err *err);
int pool_try(struct pool *pool, size_t n_tasks, pool_attempt *task, void *arg, struct err *err);

/* `wanted` is asked by all threads, and once it has said yes it must not say no again. NULL: never. */
typedef bool pool_stop(void);
void pool_stop_when(struct pool *pool, pool_stop *wanted);
/* ERR_INTERRUPTED once a stop is wanted: for whoever works long on one thing. */
int pool_stopped(const struct pool *pool, struct err *err);

/* Cores this process may use. */
int pool_default_threads(void);

#endif

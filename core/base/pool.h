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
 */
#ifndef STRATA_BASE_POOL_H
#define STRATA_BASE_POOL_H

#include "core/base/err.h"

#include <stddef.h>

struct pool;

/* n_threads 1..256, the caller's included. *out is the caller's. */
int pool_create(struct pool **out, int n_threads, struct err *err);
void pool_free(struct pool *pool); /* NULL is fine */
int pool_threads(const struct pool *pool);
typedef void pool_task(void *arg, size_t index, int worker);
void pool_run(struct pool *pool, size_t n_tasks, pool_task *task, void *arg);
/* Cores this process may use. */
int pool_default_threads(void);

#endif

/*
 * Two threads for all tests of a program, as its group's set-up and tear-down.
 *
 *     return cmocka_run_group_tests(tests, open_pool, close_pool);
 */
#ifndef STRATA_TESTS_SHARED_POOL_H
#define STRATA_TESTS_SHARED_POOL_H

#include "core/base/pool.h"

static struct pool *pool;

static inline int open_pool(void **state)
{
    struct err err;
    (void)state;
    return pool_create(&pool, 2, &err);
}

static inline int close_pool(void **state)
{
    (void)state;
    pool_free(pool);
    return 0;
}

#endif

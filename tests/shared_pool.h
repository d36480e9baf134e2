/*
 * Two threads for all tests of a program, or as many as $TEST_THREADS says
 * (tests/stress.sh), as its group's set-up and tear-down.
 *
 *     return cmocka_run_group_tests(tests, open_pool, close_pool);
 */
#ifndef STRATA_TESTS_SHARED_POOL_H
#define STRATA_TESTS_SHARED_POOL_H

#include "core/base/pool.h"

#include <stdlib.h>

static struct pool *pool;

static inline int test_threads(void)
{
    const char *n = getenv("TEST_THREADS");
    return n ? atoi(n) : 2;
}

static inline int open_pool(void **state)
{
    struct err err;
    (void)state;
    return pool_create(&pool, test_threads(), &err);
}

static inline int close_pool(void **state)
{
    (void)state;
    pool_free(pool);
    return 0;
}

#endif

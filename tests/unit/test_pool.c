/* The thread pool: every task once, worker numbers, reuse, limits. */
#include "core/base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 5000 };

struct tally {
    atomic_int seen[MOST];
    atomic_int bad_workers;
    int n_threads;
};

static void mark(void *arg, size_t index, int worker)
{
    struct tally *t = arg;
    atomic_fetch_add(&t->seen[index], 1);
    if (worker < 0 || worker >= t->n_threads)
        atomic_fetch_add(&t->bad_workers, 1);
}

static void every_task_runs_once(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 2, 3, 17, 1000, MOST };
    static struct tally t;
    for (int threads = 1; threads <= 8; threads++) {
        struct pool *pool;
        assert_int_equal(pool_create(&pool, threads, NULL), 0);
        assert_int_equal(pool_threads(pool), threads);
        for (int round = 0; round < 20; round++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                memset(&t, 0, sizeof t);
                t.n_threads = threads;
                pool_run(pool, sizes[s], mark, &t);
                assert_int_equal(t.bad_workers, 0);
                for (size_t i = 0; i < MOST; i++)
                    assert_int_equal(t.seen[i], i < sizes[s]);
            }
        pool_free(pool);
    }
}

/* Plain numbers, no atomics: what tasks wrote must be visible when pool_run returns, also right after the next start.
 */
static void add_one(void *arg, size_t index, int worker)
{
    uint64_t *x = arg;
    (void)worker;
    x[index]++;
}

static void results_are_visible_after_the_run(void **state)
{
    (void)state;
    static uint64_t x[64];
    struct pool *pool;
    assert_int_equal(pool_create(&pool, 3, NULL), 0);
    memset(x, 0, sizeof x);
    for (uint64_t round = 1; round <= 3000; round++) {
        pool_run(pool, 64, add_one, x);
        for (size_t i = 0; i < 64; i++)
            assert_true(x[i] == round);
    }
    pool_free(pool);
}

static void thread_counts_out_of_range_are_refused(void **state)
{
    (void)state;
    struct pool *pool = NULL;
    struct err err = { 0 };
    assert_int_equal(pool_create(&pool, 0, &err), ERR_ARG);
    assert_string_equal(err.msg, "threads must be from 1 to 256, not 0");
    assert_int_equal(pool_create(&pool, 257, &err), ERR_ARG);
    assert_int_equal(pool_create(&pool, -1, &err), ERR_ARG);
    assert_null(pool);
    pool_free(NULL);
    assert_in_range(pool_default_threads(), 1, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(results_are_visible_after_the_run),
        cmocka_unit_test(thread_counts_out_of_range_are_refused),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}

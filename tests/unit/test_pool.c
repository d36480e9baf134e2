/* The thread pool: every task once, worker numbers, reuse, limits; fork, tasks that fail, threads that cannot be had.
 */
#include "core/base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* --- fork --- */

/* What a child made by fork does with its copy; the exit status says what went wrong. A deadlock ends by the alarm. */
static void use_copy(struct pool *pool)
{
    static struct tally t;
    alarm(20);
    memset(&t, 0, sizeof t);
    t.n_threads = pool_threads(pool);
    for (int round = 0; round < 3; round++)
        pool_run(pool, 1000, mark, &t);
    for (size_t i = 0; i < 1000; i++)
        if (t.seen[i] != 3)
            _exit(1);
    pool_free(pool);
    _exit(t.bad_workers ? 2 : 0);
}

static void assert_copy_works(struct pool *pool)
{
    int status;
    pid_t child = fork();
    if (!child)
        use_copy(pool);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status)
        fail_msg("the child ended with status %#x", (unsigned)status);
}

static void a_forked_child_runs_its_tasks_itself(void **state)
{
    (void)state;
    static struct tally t;
    struct pool *pool;
    assert_int_equal(pool_create(&pool, 4, NULL), 0);
    assert_copy_works(pool);
    memset(&t, 0, sizeof t);
    t.n_threads = 4;
    pool_run(pool, MOST, mark, &t);
    for (size_t i = 0; i < MOST; i++)
        assert_int_equal(t.seen[i], 1);
    assert_copy_works(pool);
    pool_free(pool);
}

struct busy {
    struct pool *pool;
    atomic_bool stop;
    uint64_t jobs, x[64];
};

static void *keep_running(void *arg)
{
    struct busy *b = arg;
    for (; !b->stop; b->jobs++)
        pool_run(b->pool, 64, add_one, b->x);
    return NULL;
}

static void a_fork_may_meet_a_job(void **state)
{
    (void)state;
    static struct busy b;
    pthread_t thread;
    assert_int_equal(pool_create(&b.pool, 3, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, keep_running, &b), 0);
    for (int i = 0; i < 100; i++) {
        const struct timespec pause = { .tv_nsec = 20000 * (i % 7) };
        nanosleep(&pause, NULL);
        assert_copy_works(b.pool);
    }
    b.stop = true;
    pthread_join(thread, NULL);
    assert_true(b.jobs > 0);
    for (size_t i = 0; i < 64; i++)
        assert_true(b.x[i] == b.jobs);
    pool_free(b.pool);
}

/* --- tasks that fail --- */

struct trouble {
    atomic_int ran[MOST];
    size_t lowest, every; /* tasks lowest, lowest + every, ... fail */
};

static int may_fail(void *arg, size_t index, int worker, struct err *err)
{
    struct trouble *t = arg;
    (void)worker;
    atomic_fetch_add(&t->ran[index], 1);
    if (index < t->lowest || (index - t->lowest) % t->every)
        return 0;
    return err_set(err, ERR_NOMEM, "out of memory for task %zu", index);
}

static void the_lowest_task_that_fails_is_the_error(void **state)
{
    (void)state;
    static struct trouble t;
    static const size_t lowest[] = { 0, 1, 2, 7, 100, 999, 1000 };
    for (int threads = 1; threads <= 8; threads++) {
        struct pool *pool;
        assert_int_equal(pool_create(&pool, threads, NULL), 0);
        for (int round = 0; round < 60; round++) {
            struct err err = { 0 };
            char text[64];
            memset(&t, 0, sizeof t);
            t.lowest = lowest[(size_t)round % (sizeof lowest / sizeof *lowest)];
            t.every = 1 + (size_t)round % 3;
            snprintf(text, sizeof text, "out of memory for task %zu", t.lowest);
            int rc = pool_try(pool, 1000, may_fail, &t, &err);
            assert_int_equal(rc, t.lowest < 1000 ? ERR_NOMEM : 0);
            assert_int_equal(err.code, rc);
            assert_string_equal(err.msg, rc ? text : "");
            for (size_t i = 0; i < 1000; i++)
                assert_in_range(t.ran[i], i <= t.lowest ? 1 : 0, 1);
            assert_int_equal(pool_try(pool, 1000, may_fail, &t, NULL), rc);
            /* As good as new. */
            static struct tally all;
            memset(&all, 0, sizeof all);
            all.n_threads = threads;
            pool_run(pool, 100, mark, &all);
            for (size_t i = 0; i < 100; i++)
                assert_int_equal(all.seen[i], 1);
        }
        pool_free(pool);
    }
}

static void after_a_failure_no_task_is_begun(void **state)
{
    (void)state;
    static struct trouble t;
    struct pool *pool;
    int n_ran = 0;
    assert_int_equal(pool_create(&pool, 1, NULL), 0);
    t = (struct trouble){ .lowest = 10, .every = 1 };
    assert_int_equal(pool_try(pool, MOST, may_fail, &t, NULL), ERR_NOMEM);
    for (size_t i = 0; i < MOST; i++)
        n_ran += t.ran[i];
    assert_int_equal(n_ran, 11);
    pool_free(pool);
}

/* --- stopping --- */

static atomic_int asked;
static int stop_after;

static bool stop_now(void)
{
    return atomic_fetch_add(&asked, 1) >= stop_after;
}

static void a_stop_ends_a_job_and_is_told(void **state)
{
    (void)state;
    static struct trouble t;
    for (int threads = 1; threads <= 4; threads++) {
        struct err err = { 0 };
        struct pool *pool;
        assert_int_equal(pool_create(&pool, threads, NULL), 0);
        assert_int_equal(pool_stopped(pool, &err), 0);
        pool_stop_when(pool, stop_now);
        memset(&t, 0, sizeof t);
        t.lowest = t.every = MOST;
        asked = 0;
        stop_after = 50;
        assert_int_equal(pool_try(pool, 1000, may_fail, &t, &err), ERR_INTERRUPTED);
        assert_string_equal(err.msg, "interrupted");
        int n_ran = 0;
        for (size_t i = 0; i < 1000; i++)
            n_ran += t.ran[i];
        assert_int_equal(n_ran, 50);
        assert_int_equal(pool_stopped(pool, &err), ERR_INTERRUPTED);
        pool_stop_when(pool, NULL);
        assert_int_equal(pool_try(pool, 1000, may_fail, &t, &err), 0);
        pool_free(pool);
    }
}

/* --- threads that cannot be had --- */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
static int until_failure = -1; /* threads still to be had; -1: all */

/* The linker puts it in the place of pthread_create (Makefile). */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    if (!until_failure)
        return EAGAIN;
    until_failure -= until_failure > 0;
    return __real_pthread_create(thread, attr, run, arg);
}

static void threads_that_cannot_be_had_are_one_line(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct pool *pool = NULL;
    for (int n = 0; n < 7; n++) {
        until_failure = n;
        assert_int_equal(pool_create(&pool, 8, &err), ERR_NOMEM);
        assert_string_equal(err.msg,
                            "cannot start 8 threads: Resource temporarily unavailable: use fewer with --threads");
        assert_null(pool);
    }
    until_failure = 0;
    assert_int_equal(pool_create(&pool, 1, &err), 0); /* needs none */
    pool_free(pool);
    until_failure = -1;
    assert_int_equal(pool_create(&pool, 8, &err), 0);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(results_are_visible_after_the_run),
        cmocka_unit_test(thread_counts_out_of_range_are_refused),
        cmocka_unit_test(a_forked_child_runs_its_tasks_itself),
        cmocka_unit_test(a_fork_may_meet_a_job),
        cmocka_unit_test(the_lowest_task_that_fails_is_the_error),
        cmocka_unit_test(after_a_failure_no_task_is_begun),
        cmocka_unit_test(a_stop_ends_a_job_and_is_told),
        cmocka_unit_test(threads_that_cannot_be_had_are_one_line),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}

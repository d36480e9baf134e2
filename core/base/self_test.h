/*
 * Self-tests of what is computed with: run once a process, on numbers that are
 * the same in every run.
 *
 *     static int check_kernels(struct err *err);
 *     static struct self_test test = SELF_TEST(check_kernels);
 *     int kernel_check(struct err *err) { return self_test(&test, err); }
 */
#ifndef STRATA_BASE_SELF_TEST_H
#define STRATA_BASE_SELF_TEST_H

#include "core/base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct self_test {
    int (*check)(struct err *err);
    pthread_mutex_t lock;
    bool known;
    struct err result;
};
#define SELF_TEST(check)                                                                                               \
    {                                                                                                                  \
        check, PTHREAD_MUTEX_INITIALIZER, false,                                                                       \
        {                                                                                                              \
            0                                                                                                          \
        }                                                                                                              \
    }

/* The result of the first call, which runs the check; thread-safe. */
int self_test(struct self_test *t, struct err *err);

/* Uniform in [-1, 1), of a state that any number may begin. */
float self_test_number(uint64_t *state);

#endif

/*
 * The distribution over the next token against a naive one: sort everything,
 * sum everything. Logits are multiples of 1/8 where ties matter, so that
 * equality is exact.
 */
#include "probes/next_token.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { N = 500 };

static double logits[N];

static double random_step(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1;
    return (double)(*state >> 33) * 0x1p-31;
}

/* Values 0, 1/8, ... below 8: about eight tokens share each. */
static void fill_tied(uint64_t seed)
{
    for (int i = 0; i < N; i++)
        logits[i] = floor(random_step(&seed) * 64) / 8;
}

static int by_logit_then_id(const void *a, const void *b)
{
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (logits[i] != logits[j])
        return logits[i] > logits[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static size_t naive_rank(int32_t id)
{
    size_t rank = 1;
    for (int i = 0; i < N; i++)
        rank += logits[i] > logits[id];
    return rank;
}

static void list_and_ranks_equal_a_full_sort(void **state)
{
    (void)state;
    const size_t most[] = { 1, 2, 7, 50, N - 1, N };
    int32_t order[N];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fill_tied(seed);
        for (int i = 0; i < N; i++)
            order[i] = i;
        qsort(order, N, sizeof *order, by_logit_then_id);
        for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
            struct next_token next;
            assert_int_equal(next_token_init(&next, most[m], NULL), 0);
            next_token_measure(&next, logits, N, order[3 * m]);
            assert_int_equal(next.n_top, most[m]);
            for (size_t i = 0; i < next.n_top; i++) {
                assert_int_equal(next.top[i].id, order[i]);
                assert_int_equal(next.top[i].rank, naive_rank(order[i]));
            }
            assert_int_equal(next.answer.rank, naive_rank(order[3 * m]));
            next_token_release(&next);
        }
    }
}

static void logprobs_sum_to_one_whatever_the_offset(void **state)
{
    (void)state;
    const double offsets[] = { 0, -1000, 1000, 1e6 };
    for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
        struct next_token next;
        double sum = 0;
        fill_tied(5);
        for (int i = 0; i < N; i++)
            logits[i] += offsets[o];
        assert_int_equal(next_token_init(&next, N, NULL), 0);
        next_token_measure(&next, logits, N, 17);
        for (size_t i = 0; i < N; i++)
            sum += exp(next.top[i].logprob);
        /* log(sum) beside an offset of 1e6 keeps 1e6 * 2^-52 = 2e-10. */
        assert_true(fabs(sum - 1) < 1e-9);
        assert_true(next.answer.logprob < 0);
        next_token_release(&next);
    }
}

static void ties_are_counted_without_the_answer(void **state)
{
    (void)state;
    struct next_token next;
    for (int i = 0; i < N; i++)
        logits[i] = 1;
    logits[4] = 2;
    logits[9] = -INFINITY;
    assert_int_equal(next_token_init(&next, 3, NULL), 0);
    next_token_measure(&next, logits, N, 7);
    assert_int_equal(next.answer.rank, 2);
    assert_int_equal(next.answer_ties, N - 3);
    assert_int_equal(next.top[0].id, 4);
    assert_int_equal(next.top[1].id, 0);
    assert_int_equal(next.top[2].id, 1);
    assert_int_equal(next.top[2].rank, 2);
    /* A logit that is a hair greater must move the rank: the comparison is exact. */
    logits[400] = nextafter(1, 2);
    next_token_measure(&next, logits, N, 7);
    assert_int_equal(next.answer.rank, 3);
    next_token_measure(&next, logits, N, 9);
    assert_int_equal(next.answer.rank, N);
    assert_true(isinf(next.answer.logprob));
    next_token_release(&next);
}

static void without_an_answer_there_is_none(void **state)
{
    (void)state;
    struct next_token next;
    fill_tied(9);
    assert_int_equal(next_token_init(&next, 2, NULL), 0);
    next_token_measure(&next, logits, N, 3);
    next_token_measure(&next, logits, N, -1);
    assert_int_equal(next.answer.id, -1);
    assert_int_equal(next.answer.rank, 0);
    next_token_release(&next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_and_ranks_equal_a_full_sort),
        cmocka_unit_test(logprobs_sum_to_one_whatever_the_offset),
        cmocka_unit_test(ties_are_counted_without_the_answer),
        cmocka_unit_test(without_an_answer_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

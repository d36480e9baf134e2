/*
 * Curves over depth: a small case worked by hand, and what is refused. Inputs
 * are float32, so 1e-6 relative covers their rounding.
 */
#include "probes/lens_curves.h"
#include "probes/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) <= 1e-6 * fmax(1, fabs(b)))

enum { N = 4, S = 3, K = 2 };

/* Facts 0, 1: relation 0, answers 10, 11, one subject. Fact 2: relation 1, answer 20. Fact 3: relation 0, answer 10. */
static const int32_t rank[N * S] = { 100, 1, 2, 50, 5, 1, 7, 1, 1, 1000, 500, 3 };
static const float entropy[N * S] = { 3, 2, 1, 3, 1, 0, 3, 2, 1, 3, 4, 2 };
static const float kl[N * S] = { 2, 1, 0, 4, 1, 0, 2, 1, 0, 4, 1, 0 };
static const int32_t top_token[N * S * K] = { 5,  6, 10, 11, 11, 10, 5, 6,  11, 5, 11, 10,
                                              11, 5, 20, 6,  20, 10, 5, 11, 7,  5, 7,  5 };
static const int32_t answer_token[N] = { 10, 11, 20, 10 };
static const uint32_t subject[N] = { 0, 0, 1, 2 }, relation[N] = { 0, 0, 1, 0 };

struct inputs {
    float logprob[N * S], top_logprob[N * S * K];
    struct lens_facts facts;
};

static void make_inputs(struct inputs *in)
{
    for (size_t i = 0; i < N * S; i++) {
        in->logprob[i] = -logf((float)rank[i] + 1);
        in->top_logprob[i * K] = logf(0.5f);
        in->top_logprob[i * K + 1] = logf(0.25f);
    }
    in->facts = (struct lens_facts){ .n_facts = N,
                                     .n_states = S,
                                     .top_k = K,
                                     .rank = rank,
                                     .logprob = in->logprob,
                                     .entropy = entropy,
                                     .kl_final = kl,
                                     .top_token = top_token,
                                     .top_logprob = in->top_logprob,
                                     .answer_token = answer_token,
                                     .subject = subject,
                                     .n_subjects = 3,
                                     .relation = relation,
                                     .n_relations = 2 };
}

static void worked_example(void **state)
{
    (void)state;
    struct inputs in;
    struct lens_curves c;
    struct err err;
    make_inputs(&in);
    assert_int_equal(lens_curves_compute(&in.facts, &(struct lens_curves_options){ .seed = 1 }, &c, &err), 0);
    assert_int_equal(c.n_facts, 4);
    assert_int_equal(c.n_subjects, 3);

    NEAR(c.value[CURVE_RANK_MEDIAN][0], 75.0); /* 7 50 100 1000 */
    NEAR(c.value[CURVE_RANK_Q1][0], 7 + 0.75 * 43);
    NEAR(c.value[CURVE_RANK_Q3][0], 100 + 0.25 * 900);
    NEAR(c.value[CURVE_RANK_MEAN][0], 1157 / 4.0);
    NEAR(c.value[CURVE_MRR][1], (1 + 0.2 + 1 + 0.002) / 4);
    NEAR(c.value[CURVE_HIT1][1], 0.5);
    NEAR(c.value[CURVE_HIT10][1], 0.75);
    NEAR(c.value[CURVE_PROB_MEAN][2], (1 / 3.0 + 0.5 + 0.5 + 0.25) / 4);
    NEAR(c.value[CURVE_LOGPROB_MEAN][2], -(log(3) + log(2) + log(2) + log(4)) / 4);
    NEAR(c.value[CURVE_ENTROPY_MEDIAN][1], 2.0);
    NEAR(c.value[CURVE_CANDIDATES_MEDIAN][2], exp(1));
    NEAR(c.value[CURVE_CANDIDATES_Q3][1], exp(2) + 0.25 * (exp(4) - exp(2)));
    NEAR(c.value[CURVE_KL_MEAN][0], 3.0);
    NEAR(c.value[CURVE_FIRST_RANK1][1], 0.5);
    NEAR(c.value[CURVE_FIRST_RANK1][2], 0.25);

    /* State 0: 0, 0, 0 (11 answers relation 0, not 1), 0.25 (11). State 2: 0.5 (11), 0.25 (10), 0 (10), 0. */
    assert_true(c.has_competitors);
    NEAR(c.value[CURVE_COMPETITORS_MEAN][0], 0.25 / 4);
    NEAR(c.value[CURVE_COMPETITORS_MEAN][2], 0.75 / 4);

    assert_int_equal(c.never_rank1, 1); /* fact 3 */
    assert_int_equal(c.final_rank1, 2); /* facts 1, 2 */
    assert_int_equal(c.lost, 1);        /* fact 0 */
    assert_int_equal(c.first_rank1.n, 3);
    NEAR(c.first_rank1.median, 1.0); /* states 1, 2, 1 */
    assert_int_equal(c.depth.n, 4);  /* top-1: 5 10 11 -> 2; 5 11 11 -> 1; 11 20 20 -> 1; 5 7 7 -> 1 */
    NEAR(c.depth.median, 1.0);
    NEAR(c.value[CURVE_SETTLED][1], 0.75);
    NEAR(c.value[CURVE_SETTLED][2], 0.25);
    assert_int_equal(c.steepest, 1); /* medians 75, 3, 1.5 */
    for (size_t s = 0; s < S; s++) {
        assert_true(c.value[CURVE_HIT1_LOW][s] <= c.value[CURVE_HIT1][s]);
        assert_true(c.value[CURVE_HIT1_HIGH][s] >= c.value[CURVE_HIT1][s]);
        assert_true(c.value[CURVE_PROB_LOW][s] < c.value[CURVE_PROB_HIGH][s]);
    }
    lens_curves_release(&c);
}

/* Bands must move with the clusters: the same facts, each its own subject, give others. */
static void bands_are_over_subjects(void **state)
{
    (void)state;
    struct inputs in;
    struct lens_curves together, apart, again;
    struct err err;
    const struct lens_curves_options o = { .seed = 3 };
    make_inputs(&in);
    assert_int_equal(lens_curves_compute(&in.facts, &o, &together, &err), 0);
    assert_int_equal(lens_curves_compute(&in.facts, &o, &again, &err), 0);
    in.facts.subject = NULL;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &apart, &err), 0);
    assert_memory_equal(together.value[0], again.value[0], S * LENS_CURVE_COUNT * sizeof(double));
    assert_true(together.value[CURVE_PROB_LOW][0] != apart.value[CURVE_PROB_LOW][0]);
    assert_int_equal(apart.n_subjects, N);
    lens_curves_release(&together);
    lens_curves_release(&again);
    lens_curves_release(&apart);
}

static void only_the_same_relation_competes(void **state)
{
    (void)state;
    static const uint32_t other[N] = { 0, 1, 1, 0 }; /* answer 11 now belongs to relation 1 */
    struct inputs in;
    struct lens_curves c;
    struct err err;
    make_inputs(&in);
    in.facts.relation = other;
    assert_int_equal(lens_curves_compute(&in.facts, &(struct lens_curves_options){ .seed = 1 }, &c, &err), 0);
    NEAR(c.value[CURVE_COMPETITORS_MEAN][0], 0.5 / 4); /* fact 2 has 11 on top */
    NEAR(c.value[CURVE_COMPETITORS_MEAN][2], 0.0);
    lens_curves_release(&c);
}

static void unknown_relations_or_no_top_tokens_leave_blanks(void **state)
{
    (void)state;
    struct inputs in;
    struct lens_curves c;
    struct err err;
    const struct lens_curves_options o = { .seed = 1 };
    make_inputs(&in);
    in.facts.relation = NULL;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), 0);
    assert_false(c.has_competitors);
    assert_true(isnan(c.value[CURVE_COMPETITORS_MEAN][0]));
    lens_curves_release(&c);
    in.facts.relation = relation;
    in.facts.top_k = 0;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), 0);
    assert_false(c.has_competitors);
    assert_true(isnan(c.value[CURVE_SETTLED][0]) && isnan(c.depth.median));
    lens_curves_release(&c);
}

static void impossible_numbers_are_refused_by_place(void **state)
{
    (void)state;
    struct inputs in;
    struct lens_curves c;
    struct err err;
    const struct lens_curves_options o = { .seed = 1 };
    int32_t bad_rank[N * S];
    float bad[N * S];
    memcpy(bad_rank, rank, sizeof rank);
    memcpy(bad, entropy, sizeof entropy);

    make_inputs(&in);
    bad_rank[7] = 0;
    in.facts.rank = bad_rank;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_NUMERIC);
    assert_non_null(strstr(err.msg, "fact 2, state 1"));

    make_inputs(&in);
    bad[0] = NAN;
    in.facts.entropy = bad;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_NUMERIC);
    bad[0] = 1e30f;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_NUMERIC);

    make_inputs(&in);
    in.logprob[3] = 1;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_NUMERIC);

    make_inputs(&in);
    in.top_logprob[3] = NAN; /* token 11 of fact 0: a competitor */
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_NUMERIC);

    make_inputs(&in);
    in.facts.n_facts = 0;
    assert_int_equal(lens_curves_compute(&in.facts, &o, &c, &err), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_example),
        cmocka_unit_test(bands_are_over_subjects),
        cmocka_unit_test(only_the_same_relation_competes),
        cmocka_unit_test(unknown_relations_or_no_top_tokens_leave_blanks),
        cmocka_unit_test(impossible_numbers_are_refused_by_place),
    };
    return cmocka_run_group_tests_name("lens_curves", tests, NULL, NULL);
}

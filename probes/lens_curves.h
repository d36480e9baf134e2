/*
 * What many facts say together, depth by depth: median rank, hits, probability
 * of the answer, number of candidates, competitors of the same relation. Input
 * is one lens row a fact (core/store/lens_file.h, lens convention).
 *
 *     struct lens_curves c;
 *     if (lens_curves_compute(&facts, &(struct lens_curves_options){ .seed = 1 }, &c, &err)) ...
 *     double median = c.value[CURVE_RANK_MEDIAN][s];           // after state s, 0..n_states-1
 *     lens_curves_release(&c);
 *
 * Medians and quartiles are type 7 quantiles; bands are 95 % percentile
 * bootstrap over subjects (statistics.h), the same draws for every curve. Ranks
 * count from 1 = top. Ranks rise on average, not at every depth and not for
 * every fact: read the quartiles with the median.
 */
#ifndef STRATA_PROBES_LENS_CURVES_H
#define STRATA_PROBES_LENS_CURVES_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All borrowed. Facts without an answer are left out by the caller. */
struct lens_facts {
    size_t n_facts, n_states, top_k;
    const int32_t *rank;         /* [n_facts, n_states] 1 = top */
    const float *logprob;        /* same shape, of the answer's first token, natural log */
    const float *entropy;        /* nats */
    const float *kl_final;       /* nats */
    const int32_t *top_token;    /* [n_facts, n_states, top_k] */
    const float *top_logprob;    /* same shape */
    const int32_t *answer_token; /* [n_facts] */
    const uint32_t *subject;     /* [n_facts] cluster numbers, statistics_clusters; NULL: each fact its own */
    size_t n_subjects;
    const uint32_t *relation; /* [n_facts] relation numbers; NULL: unknown, no competitors */
    size_t n_relations;
};

struct lens_curves_options {
    size_t n_draws; /* of the bootstrap; 0: BOOTSTRAP_DRAWS */
    uint64_t seed;
};

/*
 * id, column name, meaning. `competitors` is the probability of top_k tokens that answer other facts of the same
 * relation: a lower bound, since a lens file keeps no more than top_k tokens.
 */
#define LENS_CURVES(X)                                                                                                 \
    X(RANK_MEDIAN, "rank_median", "median rank of the answer, 1 = top")                                                \
    X(RANK_Q1, "rank_q1", "lower quartile of the rank")                                                                \
    X(RANK_Q3, "rank_q3", "upper quartile of the rank")                                                                \
    X(RANK_MEAN, "rank_mean", "mean rank")                                                                             \
    X(MRR, "mrr", "mean of 1 / rank")                                                                                  \
    X(HIT1, "hit1", "share of facts with the answer on rank 1")                                                        \
    X(HIT1_LOW, "hit1_low", "95 % band of hit1")                                                                       \
    X(HIT1_HIGH, "hit1_high", "95 % band of hit1")                                                                     \
    X(HIT10, "hit10", "share of facts with the answer in the top 10")                                                  \
    X(HIT10_LOW, "hit10_low", "95 % band of hit10")                                                                    \
    X(HIT10_HIGH, "hit10_high", "95 % band of hit10")                                                                  \
    X(PROB_MEAN, "prob_mean", "mean probability of the answer")                                                        \
    X(PROB_LOW, "prob_low", "95 % band of prob_mean")                                                                  \
    X(PROB_HIGH, "prob_high", "95 % band of prob_mean")                                                                \
    X(LOGPROB_MEAN, "logprob_mean", "mean log probability, nats")                                                      \
    X(ENTROPY_MEDIAN, "entropy_median", "median entropy of the prediction, nats")                                      \
    X(CANDIDATES_MEDIAN, "candidates_median", "median effective number of candidates, exp(entropy)")                   \
    X(CANDIDATES_Q1, "candidates_q1", "its lower quartile")                                                            \
    X(CANDIDATES_Q3, "candidates_q3", "its upper quartile")                                                            \
    X(KL_MEAN, "kl_mean", "mean KL(final || this depth), nats")                                                        \
    X(COMPETITORS_MEAN, "competitors_mean", "mean probability of same-relation answers in the top k, a lower bound")   \
    X(COMPETITORS_LOW, "competitors_low", "95 % band of competitors_mean")                                             \
    X(COMPETITORS_HIGH, "competitors_high", "95 % band of competitors_mean")                                           \
    X(FIRST_RANK1, "first_rank1", "share of facts whose answer is on rank 1 here for the first time")                  \
    X(SETTLED, "settled", "share of facts whose top token no longer changes from here on")
enum lens_curve {
#define X(id, name, meaning) CURVE_##id,
    LENS_CURVES(X)
#undef X
        LENS_CURVE_COUNT
};
const char *lens_curve_name(enum lens_curve curve);

/* Depths are states; the quantiles are NaN where n is 0. */
struct depth_summary {
    size_t n;
    double median, q1, q3;
};

struct lens_curves {
    size_t n_facts, n_subjects, n_states;
    double *value[LENS_CURVE_COUNT];  /* [n_states] each, into one owned block; NaN where unknown */
    bool has_competitors;             /* relations known and top_k > 0 */
    struct depth_summary first_rank1; /* first depth with rank 1, over the n facts that have one */
    struct depth_summary depth;       /* prediction depth: first state whose top token stays to the end; top_k > 0 */
    size_t never_rank1, final_rank1;  /* facts never on rank 1; facts on rank 1 in the end */
    size_t lost;                      /* facts on rank 1 somewhere, but not in the end */
    size_t steepest;                  /* state before which the median rank falls by the largest factor; 0: never */
};

/* ERR_NUMERIC names the first fact and state with a number that cannot be (rank < 1, NaN, entropy < 0). */
int lens_curves_compute(const struct lens_facts *f, const struct lens_curves_options *o, struct lens_curves *out,
                        struct err *err);
void lens_curves_release(struct lens_curves *c);

#endif

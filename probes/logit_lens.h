/*
 * Logit lens: what the model would answer if its last layers were cut off.
 * Each state goes through the model's own final norm, its scale recomputed on
 * that state (the `lens` convention; never the cached scale of `attribution`),
 * then the unembedding with its bias (nostalgebraist 2020, "interpreting GPT:
 * the logit lens").
 *
 *     struct lens_input in = { .states = states, .n_rows = 2, .n_states = 31, .answers = answers, .top_k = 5 };
 *     struct lens_result r;
 *     if (lens_result_create(&r, 2, 31, 5, &err) || logit_lens(rt, &in, &r, &err)) ...
 *     printf("rank of the answer after block 3: %d\n", r.rank[0 * 31 + 4]);
 *     lens_result_release(&r);
 *
 * The vocabulary is streamed in blocks while logits are in cache; an
 * [n, d_vocab] array never exists. Sums are in double.
 */
#ifndef STRATA_PROBES_LOGIT_LENS_H
#define STRATA_PROBES_LOGIT_LENS_H

#include "core/runtime/runtime.h"

struct lens_input {
    /* [n_rows, n_states, d_model] in the runtime's precision; the last state of a row is its final residual,
     * the reference of kl_final. Overwritten by their norms unless `normed`. */
    void *states;
    size_t n_rows, n_states;
    const int32_t *answers; /* [n_rows] token ids, -1: none */
    size_t top_k;           /* 0 .. LENS_MAX_TOP */
    bool same_states;       /* every row has the same ones: [n_states, d_model] */
    bool normed;            /* the states go to the unembedding as they are: no norm, nothing overwritten */
};

enum { LENS_MAX_TOP = 1000 };

/* All [n_rows, n_states] (top_*: times top_k); owned. Without an answer: rank 0, ties 0, logprob and answer_logit NaN.
 */
struct lens_result {
    int32_t *rank;  /* 1 + number of tokens with a strictly greater logit */
    int32_t *ties;  /* other tokens with an equal logit */
    float *logprob; /* of the answer, natural log */
    float *answer_logit;
    float *entropy;     /* nats */
    float *kl_final;    /* KL(final || this state), nats */
    int32_t *top_token; /* by falling logit, equal logits by rising id */
    float *top_logprob;
};

int lens_result_create(struct lens_result *r, size_t n_rows, size_t n_states, size_t top_k, struct err *err);
void lens_result_release(struct lens_result *r);

int logit_lens(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err);

#endif

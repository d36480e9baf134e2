/*
 * The distribution over the next token: the top of it, and where one token
 * stands.
 *
 *     struct next_token next;
 *     if (next_token_init(&next, 10, &err)) ...
 *     next_token_measure(&next, logits, d_vocab, answer);       // logits: doubles
 *     printf("token %d, probability %g\n", next.top[0].id, exp(next.top[0].logprob));
 *     next_token_release(&next);
 *
 * Rank: 1 + the number of tokens with a strictly greater logit, so that equal
 * logits share a rank; the list has them by rising id. Log-probabilities are
 * natural, from sums in double.
 */
#ifndef STRATA_PROBES_NEXT_TOKEN_H
#define STRATA_PROBES_NEXT_TOKEN_H

#include "core/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct ranked_token {
    int32_t id; /* -1: none */
    size_t rank;
    double logit, logprob;
};

struct next_token {
    struct ranked_token *top; /* [n_top], owned */
    size_t n_top, most;       /* n_top <= most: the vocabulary may be smaller */
    struct ranked_token answer;
    size_t answer_ties; /* other tokens with the answer's logit */
};

int next_token_init(struct next_token *next, size_t most, struct err *err);
void next_token_release(struct next_token *next);
/* answer: a token below n, or -1. The logits must be finite or -inf, one of them finite. */
void next_token_measure(struct next_token *next, const double *logits, size_t n, int32_t answer);

#endif

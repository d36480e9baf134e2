/*
 * Log probability of a whole answer, all of its tokens one after another: the
 * sum over its tokens of log p(token | prompt, tokens before it).
 *
 *     struct answer_chain chain;
 *     answer_chain_init(&chain, rt, &err);
 *     answer_chain_run(&chain, &(struct answer_chain_input){ prompts, answers, n_answer_tokens, n }, logprob, &err);
 *     answer_chain_release(&chain);
 *
 * One pass over prompt + answer without its last token; memory is bounded by
 * the batch and reused.
 */
#ifndef STRATA_PROBES_ANSWER_CHAIN_H
#define STRATA_PROBES_ANSWER_CHAIN_H

#include "core/runtime/collect.h"
#include "probes/logit_lens.h"

struct answer_chain {
    struct runtime *rt;
    struct site_set reads;
    struct collector collector;
    struct prompt *prompts;    /* with their answers */
    int32_t *tokens, *answers; /* of these prompts; of the kept rows */
    unsigned char *keep;
    size_t prompts_capacity, tokens_capacity, answers_capacity, keep_capacity;
};

struct answer_chain_input {
    const struct prompt *prompts;  /* [n] */
    const int32_t *const *answers; /* [n] token ids */
    const size_t *n_answer_tokens; /* [n]; 0: no answer */
    size_t n;
};

int answer_chain_init(struct answer_chain *c, struct runtime *rt, struct err *err);
/* logprob: [n], NaN where there is no answer. */
int answer_chain_run(struct answer_chain *c, const struct answer_chain_input *in, float *logprob, struct err *err);
void answer_chain_release(struct answer_chain *c);

#endif

/*
 * One fact, layer by layer, from one forward pass: the lens at every token and
 * depth, what each head, attention and MLP layer adds to the answer's logit,
 * and where the heads of the last token look.
 *
 *     struct fact_trace t;
 *     if (fact_trace_run(&t, rt, &prompt, answer_token, 5, NULL, &err)) ...
 *     size_t last = t.n_tokens - 1;
 *     printf("p(answer) after all layers: %.3f\n", exp(t.lens.logprob[last * t.n_states + t.n_states - 1]));
 *     fact_trace_release(&t);
 *
 * Two norm conventions, never mixed: `lens` is the lens's (norm recomputed at
 * each depth), `attribution` holds the final norm fixed (direct_attribution.h).
 */
#ifndef STRATA_PROBES_FACT_TRACE_H
#define STRATA_PROBES_FACT_TRACE_H

#include "probes/direct_attribution.h"
#include "probes/logit_lens.h"

struct fact_trace {
    size_t n_tokens, n_states; /* n_states = n_layers + 1 */
    int32_t answer;
    struct lens_result lens;        /* [n_tokens, n_states], top_k as asked */
    struct attribution attribution; /* of the last token */
    float *pattern;                 /* [n_layers, n_heads, n_tokens] attention of the last token */
};

/* edits may be NULL. */
int fact_trace_run(struct fact_trace *t, struct runtime *rt, const struct prompt *prompt, int32_t answer, size_t top_k,
                   const struct edit_list *edits, struct err *err);
void fact_trace_release(struct fact_trace *t);

#endif

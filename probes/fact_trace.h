/*
 * One fact, layer by layer, from one forward pass: the lens at every depth,
 * what each head, attention and MLP layer adds to the answer's logit, and where
 * the heads of the last token look.
 *
 *     struct fact_trace t;
 *     const struct fact_trace_options o = { .answer = -1, .top_k = 5, .all_tokens = true, .n_rivals = 4 };
 *     if (fact_trace_run(&t, rt, &prompt, &o, &err)) ...
 *     size_t last = t.n_rows - 1;
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

struct fact_trace_options {
    int32_t answer;                /* -1: the token that the model itself puts first */
    size_t top_k;                  /* of the lens */
    bool all_tokens;               /* the lens at every token; false: at the last one only */
    size_t n_rivals;               /* at most so many other tokens are followed through the depths; needs top_k > 0 */
    const struct edit_list *edits; /* NULL: none */
};

struct fact_trace {
    size_t n_tokens, n_rows, n_states; /* n_rows: n_tokens or 1; n_states = n_layers + 1 */
    int32_t answer;
    double logit;                   /* the model's own, of the answer */
    size_t read_row;                /* of the lens: the token that is read */
    struct lens_result lens;        /* [n_rows, n_states] */
    struct attribution attribution; /* of the token that is read */
    const char *not_attributed;     /* why its numbers are all NaN, else NULL */
    float *pattern;                 /* [n_layers, n_heads, n_tokens] attention of the last token */
    /* Tokens that lead in the end, then those that led latest before: at the last token. */
    size_t n_rivals;
    int32_t *rivals;
    struct lens_result rival_lens; /* [n_rivals, n_states] rank and logprob of each rival */
};

int fact_trace_run(struct fact_trace *t, struct runtime *rt, const struct prompt *prompt,
                   const struct fact_trace_options *o, struct err *err);
void fact_trace_release(struct fact_trace *t);

#endif

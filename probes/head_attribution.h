/*
 * What each head writes into the answers of many facts, at the last token: its
 * direct logit attribution (norm convention `attribution`: the final norm of
 * the finished residual is held fixed), split by the token that it reads, and
 * how much it looks at the subject.
 *
 *     struct head_attribution a;
 *     const struct head_attribution_options o = { .by_source = true };
 *     if (head_attribution_run(&a, rt, prompts, contrasts, n, &o, NULL, &err)) ...
 *     printf("L3H7 adds %.3f logits\n", a.logit[i * a.n_heads + 3 * config->n_heads + 7]);
 *     head_attribution_release(&a);
 *
 * A head's z is the sum over the tokens it sees of pattern * v, so its share of
 * the logit splits into shares of source tokens that sum to it exactly
 * (Chughtai, Cooney and Nanda 2024; TransformerLens's stack_head_results for
 * the whole). The output bias b_O belongs to no head. Sums are in double.
 *
 * Heads are numbered layer * config.n_heads + head.
 */
#ifndef STRATA_PROBES_HEAD_ATTRIBUTION_H
#define STRATA_PROBES_HEAD_ATTRIBUTION_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"
#include "probes/logit_direction.h"

struct head_attribution_options {
    bool by_source; /* keep every source token's share, not only the subject's */
};

/* All owned. */
struct head_attribution {
    size_t n_facts, n_heads; /* n_heads: of all layers */
    double *logit;           /* [n_facts, n_heads] added to the answer's logit, or to the contrast */
    double *from_subject;    /* [n_facts, n_heads] of that, what was read from the subject's tokens; NaN: no subject */
    double *to_subject;      /* [n_facts, n_heads] attention of the last token on the subject's tokens; NaN likewise */
    size_t *source_offset;   /* [n_facts + 1] in source, or NULL */
    double *source;          /* fact i: [n_heads, n_tokens of i] from source_offset[i] on; NULL unless by_source */
};

/* Runs the prompts in batches. progress counts facts and may be NULL. */
int head_attribution_run(struct head_attribution *a, struct runtime *rt, const struct prompt *prompts,
                         const struct logit_contrast *contrasts, size_t n_facts,
                         const struct head_attribution_options *o, struct progress *progress, struct err *err);
void head_attribution_release(struct head_attribution *a); /* also of a zeroed struct */

/*
 * Mean of values[n_facts, n_heads] over facts into mean[n_heads]; NaN (no subject) is left out, and NaN where nothing
 * is left.
 */
void head_means(const double *values, size_t n_facts, size_t n_heads, double *mean);
/* Numbers 0..n-1 by falling score; equal scores by rising number, NaN last. */
int head_order(const double *score, size_t n, size_t *order, struct err *err);

#endif

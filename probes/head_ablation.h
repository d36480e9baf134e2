/*
 * Taking heads out: every single one, or the first of a ranking against random
 * ones. Always z of the head (what it writes, before W_O), set to zero or to its
 * mean, at the last token or at every token; then the model's own answer
 * (probes/outcomes.h).
 *
 *     struct ablation_run r;                     // every head on its own, n facts
 *     if (head_ablation_singles(&r, rt, prompts, answers, n, &o, NULL, &err)) ...
 *     double drop = r.logprob[i * r.n_variants + head] - r.base_logprob[i];
 *     ablation_run_release(&r);
 *
 *     struct head_ranking ranking = { .order = order, .n_heads = 270, .counts = counts, .n_counts = 6 };
 *     head_ablation_ranked(&r, rt, prompts, answers, n, &ranking, &o, NULL, &err);
 *     r.logprob[i * r.n_variants + c]                               // without the first counts[c] of the ranking
 *     r.logprob[i * r.n_variants + (1 + draw) * 6 + c]              // without counts[c] random ones
 *
 * The control: ABLATION_DRAWS draws of random heads from those that are not
 * among the ranking's first counts[n_counts - 1]; within a draw larger counts
 * contain smaller ones, as they do in the ranking.
 *
 * Zero is far from what a head ever writes; mean (over the facts' last tokens,
 * or all their tokens where all are ablated) takes out only what tells facts
 * apart. Later heads may make up for what is missing ("backup heads", Wang et
 * al. 2023): an effect is a lower bound on what a head does.
 *
 * Heads are numbered layer * config.n_heads + head.
 */
#ifndef STRATA_PROBES_HEAD_ABLATION_H
#define STRATA_PROBES_HEAD_ABLATION_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"

enum { ABLATION_DRAWS = 5 };

enum ablation_mode { ABLATION_ZERO, ABLATION_MEAN };

struct head_ablation_options {
    enum ablation_mode mode;
    bool everywhere; /* at every token; else at the last one */
    size_t n_draws;  /* of the control; 0: ABLATION_DRAWS */
    uint64_t seed;   /* of the control */
};

/* Owned. Ranks 1 = top; logprob natural, of the answer's token. */
struct ablation_run {
    size_t n_facts, n_variants;
    float *logprob;           /* [n_facts, n_variants] */
    int32_t *rank;            /* [n_facts, n_variants] */
    float *base_logprob;      /* [n_facts] */
    int32_t *base_rank;       /* [n_facts] */
    size_t row_layers;        /* computed by the variants; a full run of a prompt has n_tokens * n_layers */
    size_t n_draws, n_counts; /* 0 for singles */
};

struct head_ranking {
    const size_t *order; /* [n_heads] head numbers, the first is taken out first; all different */
    size_t n_heads;
    const size_t *counts; /* [n_counts] rising; the last is at most half of the model's heads and n_heads */
    size_t n_counts;
};

/* n_variants: heads of all layers. progress counts facts and may be NULL, here and below. */
int head_ablation_singles(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                          const int32_t *answers, size_t n_facts, const struct head_ablation_options *o,
                          struct progress *progress, struct err *err);
/* n_variants: (1 + n_draws) * n_counts. */
int head_ablation_ranked(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                         const int32_t *answers, size_t n_facts, const struct head_ranking *ranking,
                         const struct head_ablation_options *o, struct progress *progress, struct err *err);
void ablation_run_release(struct ablation_run *r); /* also of a zeroed struct */

/* Mean probability of the answer, and share of facts with it on rank 1, of one variant; p / base is the ratio. */
struct ablation_effect {
    double probability, accuracy;
};
struct ablation_effect ablation_effect(const struct ablation_run *r, size_t variant);
struct ablation_effect ablation_base(const struct ablation_run *r);
/* Of the draws at one count: mean, and their standard deviation (n - 1; 0 for one draw). */
void ablation_control(const struct ablation_run *r, size_t count, struct ablation_effect *mean,
                      struct ablation_effect *spread);

#endif

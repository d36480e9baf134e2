/*
 * What every variant of an experiment answers at its last token: rank, log
 * probability and logit of the answer. The common end of all interventions
 * (knockout, tracing, patching, ablation).
 *
 *     struct outcomes o;
 *     outcomes_create(&o, rt, prompts, n_prompts, answers, NULL, &err);       // the base runs
 *     struct lens_result r;
 *     outcomes_run(&o, variants, n_variants, &r, progress, &err);             // r.logprob[v], r.rank[v]
 *     printf("%+.1f %%\n", 100 * (exp(r.logprob[v]) / exp(o.base.logprob[p]) - 1));
 *     lens_result_release(&r);
 *     outcomes_release(&o);
 *
 * Results have one state a row: variant v is row v; base prompt p is row p of
 * `base`. Norm convention: the model's own final norm of each variant's own
 * final residual, so `logprob` is the model's log probability, in nats.
 */
#ifndef STRATA_PROBES_OUTCOMES_H
#define STRATA_PROBES_OUTCOMES_H

#include "core/runtime/replay.h"
#include "probes/logit_lens.h"

struct outcomes {
    struct runtime *rt;
    struct site_set reads; /* the final residual */
    struct replay_plan plan;
    struct replay *replay;
    int32_t *answers;        /* [n_prompts] */
    struct lens_result base; /* [n_prompts, 1], no top tokens */
};

/*
 * answers: token ids; -1: what the model itself puts first in the base run, which o->answers then holds. edits: of the
 * base runs, each may be NULL, or NULL; sources: sites that variants take values from, or NULL. Borrows prompts, edits
 * and sources.
 */
int outcomes_create(struct outcomes *o, struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                    const int32_t *answers, const struct edit_list *const *edits, const struct site_set *sources,
                    struct err *err);
/* *out is the caller's (lens_result_release): [n_variants, 1]. */
int outcomes_run(struct outcomes *o, const struct variant *variants, size_t n_variants, struct lens_result *out,
                 struct progress *progress, struct err *err);
void outcomes_release(struct outcomes *o); /* also of a zeroed struct */

#endif

/* What enrichment.c and enrichment_knockout.c share. */
#ifndef STRATA_PROBES_ENRICHMENT_INTERNAL_H
#define STRATA_PROBES_ENRICHMENT_INTERNAL_H

#include "probes/enrichment.h"
#include "probes/logit_lens.h"

/* Top tokens (and the answer's rank) of states [n, n_states, d_model], which it may overwrite. */
int enrichment_project(struct runtime *rt, void *states, size_t n, size_t n_states, const int32_t *answers,
                       enum enrichment_norm norm, struct lens_result *out, struct err *err);
/* NULL for SIZE_MAX. */
const struct attribute_set *enrichment_set(const struct attribute_sets *sets, size_t number);
/* 1 for tokens that say something: [d_vocab]; the caller frees. */
unsigned char *enrichment_filter(const struct model *model);
/* Rate and recall of one state's n_top tokens, in percent; NaN without a set. */
void enrichment_score(const struct attribute_set *set, const unsigned char *filter, const int32_t *top, size_t n_top,
                      double *rate, double *recall);
/* Tokens of one state that are looked at: ENRICHMENT_TOP, or the vocabulary. */
size_t enrichment_top(const struct runtime *rt);
int enrichment_check(const struct enrichment_input *in, struct err *err);

#endif

/*
 * Values for edits that set a site to its mean over a data set (mean ablation):
 * of all the tokens that the edit's own positions choose in the data set's
 * prompts, each token counting once.
 *
 *     struct site_means *means;
 *     site_means_create(&means, rt, &edits, &err);
 *     site_means_add(means, prompts, n_prompts, &err);    // batch by batch
 *     site_means_fill(means, &edits, &err);               // EDIT_FROM_MEAN becomes EDIT_FROM_VECTOR
 *     site_means_free(means);
 *
 * One vector for each layer of an edit's span; sums in double.
 */
#ifndef STRATA_PROBES_SITE_MEANS_H
#define STRATA_PROBES_SITE_MEANS_H

#include "core/runtime/runtime.h"

struct site_means;
/* The edits stay where they are until site_means_fill. */
int site_means_create(struct site_means **out, struct runtime *rt, const struct edit_list *edits, struct err *err);
/* Edits of means in the list; 0: there is nothing to do. */
size_t site_means_count(const struct edit_list *edits);
/* A prompt without what an edit's positions choose (a subject, a position) is an error. */
int site_means_add(struct site_means *m, const struct prompt *prompts, size_t n_prompts, struct err *err);
/* ERR_ARG where no token was seen. */
int site_means_fill(struct site_means *m, struct edit_list *edits, struct err *err);
void site_means_free(struct site_means *m); /* NULL is fine */

#endif

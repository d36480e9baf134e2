/*
 * What head_ablation.c and neurons.c share: variants of many facts in chunks.
 *
 *     struct ablation_plan p = { .rt = rt, .prompts = prompts, .answers = answers, .n_variants = 270,
 *                                .edits = edits };
 *     int rc = ablation_run(&run, &p, n_facts, progress, &err);
 */
#ifndef STRATA_PROBES_ABLATION_RUN_H
#define STRATA_PROBES_ABLATION_RUN_H

#include "probes/head_ablation.h"

struct ablation_plan {
    struct runtime *rt;
    const struct prompt *prompts;
    const int32_t *answers;
    size_t n_variants;             /* of each fact */
    const struct edit_list *edits; /* [n_variants], the same for every fact; or NULL: */
    /* Fills the n_variants empty lists of a fact; called for each fact once, in order, and released with its chunk. */
    int (*make)(void *arg, size_t fact, struct edit_list *edits, struct err *err);
    void *arg;
};

/* Allocates and fills r but for n_draws and n_counts. */
int ablation_run(struct ablation_run *r, const struct ablation_plan *p, size_t n_facts, struct progress *progress,
                 struct err *err);
/* Appends "these units of `site` at a layer are `op`" with a sorted copy of units[n]. The edit's own fields are set. */
int ablation_add_units(struct edit_list *list, enum site site, size_t layer, const size_t *units, size_t n,
                       bool everywhere, struct err *err);
void ablation_free_edits(struct edit_list *lists, size_t n);

#endif

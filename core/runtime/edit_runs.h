/*
 * The runs that edits of a plain pass take values from (`patch`, `freeze`): each
 * prompt of the pass without edits, and one more prompt, where there is one.
 *
 *     struct edit_runs runs;
 *     edit_runs_init(&runs, rt, &edits, other, &err);      // other: run 0, NULL: none
 *     struct forward f = { .prompts = prompts, ..., .edits = &edits };
 *     edit_runs_make(&runs, rt, &f, &err);                 // fills f's source; nothing where no edit needs it
 *     runtime_forward(rt, &f, &err);
 *     edit_runs_release(&runs);
 *
 * Memory: the sites that the edits name, of all tokens of a batch.
 */
#ifndef STRATA_RUNTIME_EDIT_RUNS_H
#define STRATA_RUNTIME_EDIT_RUNS_H

#include "core/runtime/collect.h"

struct edit_runs {
    const struct prompt *other; /* borrowed */
    struct site_set sites;
    struct collector collector;
    struct prompt *prompts; /* [1 + n] the other one, then those of the pass */
    size_t capacity;
    bool needed;
};

int edit_runs_init(struct edit_runs *r, const struct runtime *rt, const struct edit_list *edits,
                   const struct prompt *other, struct err *err);
int edit_runs_make(struct edit_runs *r, struct runtime *rt, struct forward *f, struct err *err);
void edit_runs_release(struct edit_runs *r); /* also of a zeroed struct */

#endif

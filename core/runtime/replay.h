/*
 * Replay: many variants of a few prompts, each variant a list of edits, by
 * computing only what the edits can change and the reads still need. A base
 * run of each prompt keeps residuals, keys and values. A variant then runs
 * positions from its first edited one on, layers from its first edited one on,
 * the last query alone where nothing before it changes, and nothing at all
 * where its edits change nothing. Variants whose edits begin alike are one
 * until they differ. Variants of the same and of other prompts that stand at
 * the same layer share their matrix products. The result is that of a full run
 * with the same edits (tests/unit/test_replay.c).
 *
 *     struct replay_plan plan = { .prompts = prompts, .n_prompts = 2, .reads = &reads,
 *                                 .wanted = { .kind = POSITIONS_LAST } };
 *     struct replay *r;
 *     replay_create(&r, rt, &plan, &err);                               // the base runs
 *     struct variant variants[] = { { .run = 0, .edits = &a }, { .run = 1, .edits = &b } };
 *     replay_run(r, variants, 2, sink, progress, &err);
 *     replay_free(r);
 *
 * Sinks count rows as if every variant were a prompt of the batch, one after
 * another, and receive the wanted rows of each: computed ones as they arise,
 * the others, which are the base run's, before them. Attention squares
 * (hook_attn_scores, hook_pattern) can be edited but not read.
 *
 * Memory: replay_memory for the base runs, and a working set of about a
 * thousand rows; larger experiments are run in slices.
 */
#ifndef STRATA_RUNTIME_REPLAY_H
#define STRATA_RUNTIME_REPLAY_H

#include "core/base/progress.h"
#include "core/runtime/collect.h"

struct replay;

/* All borrowed; must live as long as the replay. */
struct replay_plan {
    const struct prompt *prompts; /* base runs; edits of variants may take values from any of them */
    size_t n_prompts;
    const struct edit_list *const *edits; /* [n_prompts] edits of the base runs themselves (noise), or NULL */
    const struct site_set *sources;       /* sites that edits take values from (EDIT_FROM_RUN), or NULL */
    const struct site_set *reads;         /* what the sink receives */
    struct positions wanted;              /* of which tokens */
};

struct variant {
    size_t run;                    /* its prompt */
    const struct edit_list *edits; /* on top of those of the base run; may be empty */
};

int replay_create(struct replay **out, struct runtime *rt, const struct replay_plan *plan, struct err *err);
void replay_free(struct replay *r); /* NULL is fine */

/* ERR_INTERRUPTED when progress asks for it; the variants that were finished have reached the sink. progress may be
 * NULL. */
int replay_run(struct replay *r, const struct variant *variants, size_t n_variants, struct sink *sink,
               struct progress *progress, struct err *err);
/*
 * The same into a collector (collector_init with the plan's reads): row k is the k-th wanted row, counted through the
 * variants in order.
 */
int replay_collect(struct replay *r, const struct variant *variants, size_t n_variants, struct collector *c,
                   struct progress *progress, struct err *err);

/* What the base runs gave at the reads (wanted rows of every prompt), and at every kept site (all rows). */
const struct collector *replay_base_reads(const struct replay *r);
const struct collector *replay_base(const struct replay *r);

/* Row-layers that the last replay_run computed: a full run of a prompt has n_tokens * n_layers. For tests and plans. */
size_t replay_row_layers(const struct replay *r);

/* Bytes that the base runs of n_rows tokens keep. */
size_t replay_memory(const struct model_config *config, enum precision precision, size_t n_rows,
                     const struct site_set *sources);

#endif

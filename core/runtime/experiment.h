/*
 * Experiments as files: prompts, and variants of them, each a list of edits.
 *
 *     {"format": "strata-experiment", "version": 1,
 *      "prompts": [
 *        {"name": "france", "prompt": "The capital of France is", "subject": "France", "answer": "Paris"},
 *        {"name": "italy", "prompt": "The capital of Italy is", "subject": "Italy", "answer": "Rome"},
 *        {"name": "noisy", "prompt": "The capital of France is", "subject": "France", "answer": "Paris",
 *         "edits": ["hook_embed@subject add noise:0.4"]}],
 *      "variants": [
 *        {"name": "swap", "prompt": "france",
 *         "edits": [{"site": "resid_post:5", "at": "subject-last", "op": "patch", "from": "italy"}]},
 *        {"name": "restore", "prompt": "noisy", "edits": ["resid_post:5@subject-last patch from france"]}],
 *      "mean_over": "facts.jsonl", "seed": 1, "description": "..."}
 *
 * prompts: name (unique; not "base") and the keys of a fact (core/formats/facts.h): prompt or tokens, subject,
 * subject_occurrence, answer or answer_token (without: the model's own top token); edits: of the base run itself, which
 * then is what variants change, freeze to, and take values from; they may not patch. variants: name (unique), prompt
 * (the first one where it is left out), edits as core/runtime/edit.h has them; `patch` takes from the prompt that
 * `from` names. mean_over: the facts over which `mean` takes its values; paths are as on a command line. seed: of noise
 * that gives none. description: for people. Unknown keys are errors, with near matches.
 *
 *     struct experiment e;
 *     if (experiment_read(&e, "swap.json", model, SPECIALS_AUTO, 1, &err)) ...
 *     experiment_check(&e, &err);                       // every edit against its prompt, before anything runs
 *     experiment_release(&e);
 *
 * At most 65536 prompts and 2^20 variants.
 */
#ifndef STRATA_RUNTIME_EXPERIMENT_H
#define STRATA_RUNTIME_EXPERIMENT_H

#include "core/runtime/prepare.h"

struct experiment_prompt {
    char *name; /* owned */
    struct prepared fact;
    struct edit_list edits; /* of the base run; its number is the prompt's */
};

struct experiment_variant {
    char *name; /* owned */
    size_t prompt;
    struct edit_list edits;
};

struct experiment {
    struct experiment_prompt *prompts; /* [n_prompts] */
    struct experiment_variant *variants;
    size_t n_prompts, n_variants;
    char *mean_over; /* NULL: none */
    uint64_t seed;
};

/* seed: where the file has none. */
int experiment_read(struct experiment *out, const char *path, const struct model *model, enum specials specials,
                    uint64_t seed, struct err *err);
int experiment_check(const struct experiment *e, struct err *err);
void experiment_release(struct experiment *e); /* also of a zeroed struct */

#endif

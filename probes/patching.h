/*
 * Activation patching between two prompts: what one run has at one place is put
 * into the other run, and the answers' logits are compared (Vig et al. 2020;
 * Wang et al. 2022, "Interpretability in the wild"; the metric is that of
 * TransformerLens's demos).
 *
 *     const struct patching_input in = { .clean = { prompt, paris }, .corrupted = { other, rome },
 *                                        .site = SITE_RESID_PRE, .by = PATCH_BY_POSITION };
 *     struct patching p;
 *     if (patching_run(&p, rt, &in, progress, &err)) ...
 *     p.normalised[layer * p.n_columns + position];       // 0 = as the corrupted run, 1 = as the clean one
 *     patching_release(&p);
 *
 * Logit difference: logit(clean answer) - logit(corrupted answer) at the last token, each run's own final norm;
 * normalised: (d - d corrupted) / (d clean - d corrupted). Direction: `denoise` puts clean values into the corrupted
 * run (what is sufficient), `noise` corrupted ones into the clean run (what is necessary). Edits of one place, later
 * layers computed anew.
 */
#ifndef STRATA_PROBES_PATCHING_H
#define STRATA_PROBES_PATCHING_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"

/* Columns: each token of its own (all heads), or each head (all chosen positions). */
enum patch_by { PATCH_BY_POSITION, PATCH_BY_HEAD };
enum patch_direction { PATCH_DENOISE, PATCH_NOISE };

struct patch_side {
    struct prompt prompt;
    int32_t answer; /* -1: the model's own top token of this prompt */
};

struct patching_input {
    struct patch_side clean, corrupted;
    enum site site; /* per layer */
    enum patch_by by;
    enum patch_direction direction;
    /*
     * Tokens that correspond: by number (the prompts must have as many), or around the subjects: what stands before
     * counts from the first token, the subject from its last, what follows from the end of the subject. Tokens without
     * a counterpart are not patched (NaN by position). With align_subject the two may not differ in what follows.
     */
    bool align_subject;
    struct positions at; /* by head: which tokens of the patched run; zeroed: all */
};

struct patching {
    size_t n_layers, n_columns;             /* columns: tokens of the patched run, or heads (KV heads for k and v) */
    int32_t answers[2];                     /* clean, corrupted */
    double clean, corrupted;                /* logit differences */
    double clean_prob, corrupted_prob;      /* p(clean answer) */
    double *difference, *normalised, *prob; /* [n_layers, n_columns]; NaN where nothing corresponds */
};

/*
 * ERR_ARG: prompts that do not correspond, answers that are one token, logit differences that are equal, a site that
 * cannot be patched this way.
 */
int patching_run(struct patching *p, struct runtime *rt, const struct patching_input *in, struct progress *progress,
                 struct err *err);
void patching_release(struct patching *p); /* also of a zeroed struct */

#endif

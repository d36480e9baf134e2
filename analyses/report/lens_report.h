/*
 * Lens results (probes/lens_batch.h) as CSV, JSON and a table for terminals,
 * prompt by prompt, so that any number of them can be streamed.
 *
 *     const struct lens_report r = { .model = m, .lens = &lens, .labels = labels, ... };
 *     lens_report_csv_head(&r, &out);
 *     lens_report_csv(&r, &(struct lens_report_prompt){ .fact = &batch->items[i], ... }, &out);
 *
 * All borrowed. Check strbuf_failed after the text functions.
 */
#ifndef STRATA_ANALYSES_REPORT_LENS_REPORT_H
#define STRATA_ANALYSES_REPORT_LENS_REPORT_H

#include "core/base/strbuf.h"
#include "core/runtime/prepare.h"
#include "probes/lens_batch.h"

struct lens_report {
    const struct model *model;
    const struct lens_batch *lens; /* its result holds the rows of the prompts at hand */
    const char *const *labels;     /* [lens->n_states] */
    const char *positions;         /* as the user gave them */
    const char *edits;             /* in words: "none" */
    bool chain;                    /* the answers' chain log probabilities are known */
};

struct lens_report_prompt {
    const struct prepared *fact;
    size_t number;            /* in the input, from 0 */
    size_t first_row, n_rows; /* in the lens's result */
    const int32_t *positions; /* [n_rows] */
    float chain_logprob;      /* of all tokens of the answer; NaN: none */
};

/* prompt,id,position,layer,label,answer,rank,ties,logprob,prob,entropy,kl_final,top1,top1_prob[,chain_logprob] */
void lens_report_csv_head(const struct lens_report *r, struct strbuf *out);
/* One record a row and layer. What is unknown (no answer, no top-k) is empty. */
void lens_report_csv(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out);
/* Everything before the prompts, one object a prompt (with a comma before it unless number is 0), the end. */
void lens_report_json_head(const struct lens_report *r, struct strbuf *out);
void lens_report_json(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out);
void lens_report_json_end(struct strbuf *out);
/* For a terminal, within 100 columns where tokens are short. */
void lens_report_text(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out);

#endif

/*
 * Results of causal tracing as text, CSV, JSON, HDF5 and figures.
 *
 *     struct causal_report r = { .model = m, .facts = facts, .n = n, .options = &o, ... };
 *     causal_report_text(&r, &text);
 *
 * HDF5, format "strata-causal", version 1; T tokens of all N facts one after another (token_offset), S draws, L layers:
 *
 *     /prompts/id, text, subject, answer, relation            strings [N]
 *     /prompts/answer_token                                   int32 [N]      the answer's first token
 *     /prompts/subject_begin, subject_end                     int32 [N]      tokens of the subject
 *     /prompts/token_offset                                   int64 [N+1]
 *     /tokens/id, /tokens/text                                int32, strings [T]
 *     /clean/prob, /clean/rank                                float64, int32 [N]
 *     /corrupted/prob, /corrupted/samples                     float64 [N], [N,S]
 *     /restored/state, /restored/mlp, /restored/attn          float64 [T,L]  p(answer), mean over draws
 *     /restored/severed_mlp, /restored/severed_attn           float64 [N,L]   at the subject's last token
 *
 * Attributes beside those of provenance.h: noise (all digits, as text), noise_rule, samples, window, norm, selection,
 * facts_read, facts_unknown.
 */
#ifndef STRATA_ANALYSES_REPORT_CAUSAL_REPORT_H
#define STRATA_ANALYSES_REPORT_CAUSAL_REPORT_H

#include "analyses/report/result.h"
#include "core/runtime/prepare.h"
#include "probes/causal_summary.h"

struct causal_fact {
    struct prepared fact; /* owned */
    int32_t answer;       /* the one measured: given, or the model's own */
    struct causal_trace trace;
};

/* Everything is borrowed. */
struct causal_report {
    const struct model *model;
    const struct causal_options *options;
    const char *noise_rule;          /* "3 x 0.0831, the spread of subject embeddings", "given" */
    const struct causal_fact *facts; /* [n] */
    size_t n, n_read, n_unknown;     /* n_unknown: answer not on rank 1 */
    bool all;                        /* those are traced too */
    const struct causal_summary *summary;
};

/*
 * report: struct causal_report. CSV, one line a restoration: prompt,id,kind,position,token,role,layer,p,ie,p_clean,
 * p_corrupted; summary, one line a kind, role and layer: kind,role,layer,n,aie,low,high.
 */
extern const struct result_kind causal_result;
result_add causal_report_text, causal_report_csv, causal_report_summary_csv, causal_report_json;

/*
 * The file, written fact by fact; interrupted runs resume.
 *
 *     causal_file_open(&w, path, resume, &report, &provenance, &err);   // facts are known, their traces not yet
 *     for (size_t i = causal_file_done(w); i < n; i++)
 *         causal_file_append(w, &facts[i], &err);
 *     causal_file_finish(w, &err);
 *     causal_file_close(w);
 *     causal_file_load(path, &report, done, facts, &err);               // traces of facts that an earlier run did
 */
struct causal_file;
int causal_file_open(struct causal_file **out, const char *path, bool resume, const struct causal_report *r,
                     const struct provenance *p, struct err *err);
size_t causal_file_done(const struct causal_file *w);
int causal_file_append(struct causal_file *w, const struct causal_fact *fact, struct err *err);
int causal_file_finish(struct causal_file *w, struct err *err);
void causal_file_close(struct causal_file *w); /* NULL is fine */
/* Fills the traces of facts[0 .. n), which are the caller's. */
int causal_file_load(const char *path, const struct causal_report *r, size_t n, struct causal_fact *facts,
                     struct err *err);

#endif

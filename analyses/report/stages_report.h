/*
 * The three stages (probes/stages.h) of one fact or of many, as text, JSON, CSV,
 * HDF5, figures and parts of a page.
 *
 *     struct stages_report r = { .model = model, .window = 5, .seed = 1, .single = true, .rank = 1, .prob = 0.7 };
 *     ... stages_measure_one (analyses/stages.h) ...
 *     stages_report_one_text(&r, &text);
 *     stages_report_release(&r);
 *
 * Check strbuf_failed after the text functions. Norm conventions: ranks and
 * probabilities are `lens`, what heads add to the logit is `attribution`.
 */
#ifndef STRATA_ANALYSES_REPORT_STAGES_REPORT_H
#define STRATA_ANALYSES_REPORT_STAGES_REPORT_H

#include "analyses/cli/known_facts.h"
#include "analyses/plot/plot.h"
#include "analyses/report/page.h"
#include "analyses/report/result.h"
#include "probes/causal_trace.h"
#include "probes/head_ablation.h"
#include "probes/stages.h"

struct stages_relation {
    const char *name; /* borrowed from the facts */
    size_t n_given;   /* with an answer and a subject */
    size_t *facts, n; /* numbers of those that were measured; owned */
    struct stages_summary summary;
};

struct stages_report {
    /* Set by the caller; borrowed. */
    const struct model *model;
    size_t window;
    uint64_t seed;
    const char *attributes; /* file that attributes of subjects are from; NULL: none */
    size_t n_attributes;    /* of the single fact's subject */

    /* Of a single fact. */
    bool single;
    const char *skipped; /* why nothing was measured; NULL: it was */
    int32_t rank, answer;
    double prob;
    struct stages_subjects random;
    bool has_causal;
    struct causal_options causal_options;
    struct causal_trace causal;
    const struct prepared *fact; /* borrowed */

    /* Of many. */
    const struct known_facts *facts;
    const char **subjects;    /* [stages.n_facts] borrowed from the facts; array owned */
    size_t n_without_subject; /* known facts that were left out for that */
    bool interrupted;
    struct stages_summary all;
    struct stages_relation *relations; /* [n_relations] by name */
    size_t n_relations;
    double *head_mean, *head_low, *head_high, *head_subject; /* [n_heads]; the first owns all of them */

    /* Of both. */
    struct stages stages;
    struct stage stage[N_STAGES];
    size_t *order; /* [n_heads] by what they add */
    size_t counts[4], n_counts;
    struct ablation_run ranked; /* n_variants 0: not measured */
};
void stages_report_release(struct stages_report *r);

/* "layers 10-14", "layer 3": the window around a layer. */
enum { STAGES_WINDOW_TEXT = 64 };
const char *stages_window_text(const struct stages_report *r, size_t layer, char text[STAGES_WINDOW_TEXT]);
/* One sentence each: what carries the verdict, and its control. */
void stages_report_number(const struct stages_report *r, int stage, struct strbuf *out);
void stages_report_control(const struct stages_report *r, int stage, struct strbuf *out);
/* Of many facts: what FFN sublayers below do for recall, against attention; nothing where it was not measured. */
void stages_report_removed(const struct stages_report *r, struct strbuf *out);
/* What was not measured, and how it would be. */
void stages_report_left_out(const struct stages_report *r, struct strbuf *out);
/* "answer on rank 1, p 0.70: the model knows it" */
void stages_report_known(const struct stages_report *r, struct strbuf *out);
/* "L23H4" */
enum { STAGES_HEAD_NAME = 48 };
const char *stages_head_name(const struct stages_report *r, size_t head, char name[STAGES_HEAD_NAME]);
/* Where a part first has the answer on top, n_layers where nowhere; 0 attention, 1 FFN. Of one fact. */
size_t stages_first_event(const struct stages_report *r, int part);

/* --- one fact: beside what the trace shows --- */

void stages_report_one_text(const struct stages_report *r, struct strbuf *out);
/* {"known":true,...}: the value of "stages". */
void stages_report_one_json(const struct stages_report *r, struct strbuf *out);
/* /stages/NAME and attributes of that group's verdicts. */
int stages_report_one_h5(const struct stages_report *r, const struct h5_file *f, struct err *err);
/* One line a curve and point. */
void stages_report_one_csv(const struct stages_report *r, struct strbuf *out);

/* --- many facts --- */

/* report: struct stages_report. Tables: curves, relations, facts, heads. */
extern const struct result_kind stages_result;
result_add stages_report_text, stages_report_json;
/* trace.html's parts are those of both; report.html of many facts. */
int stages_report_page(const struct stages_report *r, const char *command, const char *folder, bool figures,
                       struct err *err);

/* --- both --- */

/* `to` has folder, subtitle and plots; what is drawn depends on what was measured. */
int stages_report_figures(const struct stages_report *r, const struct plot_target *to, struct err *err);
/* Verdicts, figures, tables of heads. */
void stages_report_add_page(const struct stages_report *r, struct page *page, const char *folder, bool figures);

#endif

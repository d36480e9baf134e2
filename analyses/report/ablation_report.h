/*
 * Answers without the first heads or neurons of a ranking against random ones
 * (probes/head_ablation.h), as lines of a table, CSV, JSON and a figure.
 *
 *     const struct ablation_report a = { .run = &run, .counts = counts, .n_counts = 6, .what = "heads" };
 *     ablation_report_text(&a, &out);
 */
#ifndef STRATA_ANALYSES_REPORT_ABLATION_REPORT_H
#define STRATA_ANALYSES_REPORT_ABLATION_REPORT_H

#include "analyses/plot/plot.h"
#include "core/base/strbuf.h"
#include "probes/head_ablation.h"

/* All borrowed. */
struct ablation_report {
    const struct ablation_run *run;
    const size_t *counts; /* [n_counts] */
    size_t n_counts;
    const char *what;    /* "heads", "neurons" */
    const char *ranking; /* "heads that add most": the line's name in the figure */
};

/* A line without anything taken out, and a line a count. */
void ablation_report_text(const struct ablation_report *a, struct strbuf *out);
void ablation_report_csv(const struct ablation_report *a, struct strbuf *out);
/* "base_prob":0.5,"base_rank1":1,"counts":[{...}] without braces around. */
void ablation_report_json(const struct ablation_report *a, struct strbuf *out);
/* As plot_finish. */
int ablation_report_figure(const struct ablation_report *a, const struct plot_target *to, struct err *err);

#endif

/*
 * Lens curves (probes/lens_curves.h) as CSV, JSON, a text table and figures.
 *
 *     const struct curves_report r = { .curves = &curves, .labels = labels, .source = "x.h5", .site = "resid", ... };
 *     struct strbuf csv = STRBUF_INIT;
 *     curves_report_csv(&r, &csv);
 *     int rc = curves_report_figures(&r, "out", &err);      // rank, probability, hits, candidates, ... in out/
 *
 * All borrowed. Check strbuf_failed after the text functions.
 */
#ifndef STRATA_ANALYSES_REPORT_CURVES_REPORT_H
#define STRATA_ANALYSES_REPORT_CURVES_REPORT_H

#include "core/base/strbuf.h"
#include "probes/lens_curves.h"

struct curves_report {
    const struct lens_curves *curves;
    const char *const *labels; /* [n_states] */
    const char *source;        /* the lens file */
    const char *model, *site;  /* "" where unknown */
    size_t top_k;              /* tokens per state in the file */
    size_t n_without_answer;   /* prompts left out because they have no answer */
    size_t n_other_positions;  /* rows left out because a later row of the same prompt is used */
    bool has_subjects;         /* false: each fact is its own cluster */
    size_t n_draws;
    uint64_t seed;
};

/* One line per state: layer, label, n, then every column of LENS_CURVES; empty where unknown. */
void curves_report_csv(const struct curves_report *r, struct strbuf *out);
/* One object: where from, what was left out, the summaries, "layers": [{...}]; null where unknown. */
void curves_report_json(const struct curves_report *r, struct strbuf *out);
/* For a terminal. */
void curves_report_text(const struct curves_report *r, struct strbuf *out);
/*
 * rank, probability, hits, candidates, depth (of residual states), heads (of heads), and competitors where relations
 * are known, in a folder that exists.
 * 0, PLOT_NOT_DRAWN (all .dat and .gp are there, *err tells why there are no pictures), or negative.
 */
int curves_report_figures(const struct curves_report *r, const char *folder, struct err *err);
/* index.html with the figures that are in the folder, and the table. */
int curves_report_page(const struct curves_report *r, const char *folder, struct err *err);

#endif

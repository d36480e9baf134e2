/*
 * One traced fact (probes/fact_trace.h) as a terminal picture, JSON, HDF5 and
 * figures.
 *
 *     const struct trace_report r = { .model = m, .fact = &fact, .trace = &trace, .labels = labels, .edits = "none" };
 *     struct strbuf text = STRBUF_INIT;
 *     trace_report_text(&r, false, true, &text);
 *     int rc = trace_report_h5(&r, &provenance, "out/trace.h5", &err);
 *     rc = rc ? rc : trace_report_figures(&r, "out", &err);      // needs the lens at all tokens
 *
 * All borrowed. Check strbuf_failed after the text functions. Two norm
 * conventions: ranks and probabilities are the lens's (the final norm recomputed
 * at each depth), contributions to the logit are `attribution` (the final norm's
 * scale held fixed), and each place says which.
 */
#ifndef STRATA_ANALYSES_REPORT_TRACE_REPORT_H
#define STRATA_ANALYSES_REPORT_TRACE_REPORT_H

#include "core/base/strbuf.h"
#include "core/runtime/prepare.h"
#include "core/store/provenance.h"
#include "probes/fact_trace.h"

struct stages_report;

struct trace_report {
    const struct model *model;
    const struct prepared *fact;
    const struct fact_trace *trace;
    size_t top_k;                       /* of the trace's lens, at least 1 */
    const char *const *labels;          /* [n_states] */
    bool own_answer;                    /* the model's own top token, since none was given */
    const char *edits;                  /* in words: "none" */
    const struct stages_report *stages; /* NULL: not asked for */
    const char *command;                /* that made it; for the page */
};

/* Of the text on a terminal: columns, and lines at most. */
enum { TRACE_TEXT_WIDTH = 100, TRACE_TEXT_LINES = 59 };

/* What the head with the largest share (by size) of a layer is, and the token that it looks at most. */
struct trace_head {
    size_t head, key;
    double logit, weight; /* its share; its attention on key */
};
struct trace_head trace_strongest_head(const struct fact_trace *t, const struct model_config *c, size_t layer);
/* Sum of the sizes of all parts of the logit: what the residue is measured by. */
double trace_absolute_sum(const struct fact_trace *t, const struct model_config *c);

/*
 * One line a layer, at most TRACE_TEXT_WIDTH columns wide. full: every layer and token, however many; else those that
 * TRACE_TEXT_LINES have room for, and how many are left out. colour: ANSI escapes for the answer.
 */
void trace_report_text(const struct trace_report *r, bool colour, bool full, struct strbuf *out);
/* The same numbers as one object. */
void trace_report_json(const struct trace_report *r, struct strbuf *out);
/* Format "strata-trace", version 1: everything. Replaces path when it is complete. */
int trace_report_h5(const struct trace_report *r, const struct provenance *p, const char *path, struct err *err);
/*
 * rank, grid, heads, contributions in a folder that exists. As plot_finish: 0, PLOT_NOT_DRAWN, or negative.
 */
int trace_report_figures(const struct trace_report *r, const char *folder, struct err *err);
/* report.html: the stages, the table, and the figures that are in the folder (figures false: none were asked for). */
int trace_report_page(const struct trace_report *r, const char *folder, bool figures, struct err *err);

#endif

/*
 * The three stages as part of `strata trace`: of the one fact that was traced,
 * or of every fact of a file that the model knows.
 *
 *     struct stages_report r;
 *     int rc = stages_one(&r, &session, &fact, answer, rank, prob, &options, err);
 *     ...
 *     stages_report_release(&r);
 */
#ifndef STRATA_ANALYSES_STAGES_H
#define STRATA_ANALYSES_STAGES_H

#include "analyses/report/stages_report.h"

struct stages_options {
    const char *attributes; /* fact file that attributes of subjects are from; NULL: a data set's own answers */
    size_t window;          /* 0: knockout_window */
    bool causal;            /* single fact */
    bool edited;            /* the trace was of an edited model, which the stages are not */
    bool no_plots;
};

/* Fills *out also where nothing is measured (r->skipped says why). The caller releases it, also after a failure. */
int stages_one(struct stages_report *out, const struct cli *cli, const struct session *session,
               const struct prepared *fact, int32_t answer, int32_t rank, double prob, const struct stages_options *o,
               struct err *err);
/*
 * All of `trace -i`: reads, measures, writes what -o asks for. After an interruption what was measured so far is
 * written, and said to be part.
 */
int stages_many(struct cli *cli, struct session *session, const struct stages_options *o, const struct result *result,
                struct err *err);

#endif

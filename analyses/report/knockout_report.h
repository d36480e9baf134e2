/*
 * Knockouts of one fact or many (probes/knockout.h): averages with bands over
 * subjects, and all of it as a table, CSV, JSON, HDF5 and figures.
 *
 *     struct knockout_report r = { .model = model, .n_layers = 30, .window = 5, ... };
 *     knockout_report_add(&r, &knockout, items, &err);         // batch by batch
 *     knockout_report_average(&r, seed, &err);
 *     knockout_report_text(&r, &out);
 *     knockout_report_release(&r);
 *
 * Facts that were left out because the model does not know them are counted.
 * Check strbuf_failed after the text functions.
 */
#ifndef STRATA_ANALYSES_REPORT_KNOCKOUT_REPORT_H
#define STRATA_ANALYSES_REPORT_KNOCKOUT_REPORT_H

#include "analyses/report/result.h"
#include "core/runtime/prepare.h"
#include "probes/knockout.h"

/* One fact that was measured; strings are owned. */
struct knockout_fact {
    char *id, *prompt, *subject, *relation, *answer;
    int32_t answer_token, base_rank;
    double base_prob;
};

struct knockout_band {
    double *mean, *low, *high; /* [n_series] */
};

struct knockout_report {
    /* Set by the caller; borrowed. */
    const struct model *model;
    size_t n_layers, window;
    bool default_window, own_answer, known_only, spare_first;

    /* Owned. Of the facts that were measured: [n_facts, ...]. */
    struct knockout_fact *facts;
    double *prob, *change; /* [n_facts, KNOCKOUT_SETS, n_layers] */
    size_t n_facts, n_given, n_known, n_without_answer;
    size_t n_empty[KNOCKOUT_SETS], n_first; /* as in struct knockout */
    struct knockout_band curves;            /* [KNOCKOUT_SETS, n_layers] of change, in percent */
    struct knockout_band thirds;            /* [KNOCKOUT_SETS, KNOCKOUT_THIRDS] */
    size_t n_subjects;
    /* Of a single fact whose tokens were blocked one by one. */
    double *token_prob; /* [n_tokens, n_layers] or NULL */
    char **tokens;      /* [n_tokens] */
    size_t n_tokens;
    size_t facts_capacity, prob_capacity, change_capacity;
};

/* Takes the facts of a batch that were measured; items[i] is fact i of k. */
int knockout_report_add(struct knockout_report *r, const struct knockout *k, const struct prepared *const *items,
                        struct err *err);
/* Means and 95 % bands over subjects; of at least one fact. */
int knockout_report_average(struct knockout_report *r, uint64_t seed, struct err *err);
void knockout_report_release(struct knockout_report *r);

/*
 * report: struct knockout_report. CSV, a line a fact, key set and layer ("token 3" is a key set of one token); curves,
 * a line a key set and layer: the means. Figures: `knockout`, and `tokens` where tokens were blocked.
 */
extern const struct result_kind knockout_result;
result_add knockout_report_text, knockout_report_csv, knockout_report_curves_csv, knockout_report_json;
result_put knockout_report_put;

/* "5 layers (3/16 of 30)" */
void knockout_report_window(const struct knockout_report *r, struct strbuf *out);

#endif

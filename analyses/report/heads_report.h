/*
 * What the heads of a model do for facts (probes/head_attribution.h,
 * head_map.h, head_patterns.h, head_ablation.h), averaged, as a table, CSV,
 * JSON, HDF5 and figures.
 *
 *     struct heads_report r = { .model = model, .facts = &facts, ... };   // and the probes' results
 *     int rc = heads_report_average(&r, seed, &err);
 *     heads_report_text(&r, &out);
 *     heads_report_release(&r);
 *
 * Check strbuf_failed after the text functions. Shares of the logit are in the
 * `attribution` convention, probabilities are the model's own.
 */
#ifndef STRATA_ANALYSES_REPORT_HEADS_REPORT_H
#define STRATA_ANALYSES_REPORT_HEADS_REPORT_H

#include "analyses/cli/known_facts.h"
#include "analyses/report/result.h"
#include "probes/head_ablation.h"
#include "probes/head_attribution.h"
#include "probes/head_map.h"
#include "probes/head_patterns.h"

/* id, name, which heads are taken out first, in words */
#define HEADS_RANKINGS(X)                                                                                              \
    X(ATTRIBUTION, "attribution", "heads that add most")                                                               \
    X(MAP, "map", "heads that hold most pairs")                                                                        \
    X(EFFECT, "effect", "heads whose own loss costs most")
enum heads_ranking {
#define X(id, name, words) RANK_BY_##id,
    HEADS_RANKINGS(X)
#undef X
};
const char *heads_ranking_name(enum heads_ranking ranking);
const char *heads_ranking_words(enum heads_ranking ranking);

struct heads_relation {
    char *name; /* owned */
    struct token_pair *pairs;
    size_t n_pairs, n_skipped, capacity; /* skipped: subject or answer is not a single token */
    bool copying;                        /* not a relation of the facts: every subject to itself */
};

struct heads_report {
    /* Set by the caller. */
    const struct model *model;
    const struct known_facts *facts;
    const char *against; /* in words: "nothing", "' London'", "the other answers of the relation" */
    size_t top;          /* heads to list */
    uint64_t seed;
    enum heads_ranking ranking; /* the ablation's */
    struct head_ablation_options ablation;

    /* Results of the probes; owned. */
    struct head_attribution attribution;
    struct head_patterns patterns;    /* n_heads 0: not measured, here and below */
    struct ablation_run singles;      /* n_variants 0 */
    struct ablation_run ranked;       /* n_variants 0 */
    size_t *order;                    /* [n_heads] ranking of the ablation */
    size_t *counts, n_counts;         /* of ranked; counts owned */
    struct heads_relation *relations; /* [n_relations], those of map */
    size_t n_relations;
    struct head_map map; /* n_relations 0 */

    /* Made by heads_report_average; owned, [n_heads]. */
    double *mean, *low, *high;                       /* of attribution.logit, 95 % bands over subjects */
    double *from_subject, *to_subject, *single_drop; /* single_drop: mean change of p(answer) in percent */
    double *hub;                                     /* share of all relations' pairs that the head promotes */
    size_t *by_mean;                                 /* order of `mean` */
    size_t n_subjects;
};

int heads_report_average(struct heads_report *r, uint64_t seed, struct err *err);
/* Mean change of p(answer), in percent, without each head: drop[n_heads] of r->singles; NaN where not measured. */
void heads_report_drops(const struct heads_report *r, double *drop);
/* Share of pairs of all relations (copying apart) that each head promotes: hub[n_heads]. */
void heads_report_hubs(const struct heads_report *r, double *hub);
void heads_report_release(struct heads_report *r);

/* "L3H7" */
enum { HEAD_NAME_MAX = 48 };
const char *heads_report_name(const struct heads_report *r, size_t head, char name[HEAD_NAME_MAX]);

/*
 * report: struct heads_report. CSV, a line a head: what was measured of it; map, a line a relation and head; ablation,
 * a line a number of heads taken out. The last two add nothing where that was not measured.
 */
extern const struct result_kind heads_result;
result_add heads_report_text, heads_report_csv, heads_report_map_csv, heads_report_ablation_csv, heads_report_json;
result_put heads_report_put;

#endif

/*
 * FFN neurons of facts (probes/neurons.h) as a table, CSV, JSON, HDF5 and
 * figures.
 *
 *     struct neurons_report r = { .model = model, .facts = &facts, ... };   // and the activity
 *     int rc = neurons_report_list(&r, rt, &err);
 *     neurons_report_text(&r, &out);
 *     neurons_report_release(&r);
 *
 * Check strbuf_failed after the text functions.
 */
#ifndef STRATA_ANALYSES_REPORT_NEURONS_REPORT_H
#define STRATA_ANALYSES_REPORT_NEURONS_REPORT_H

#include "analyses/cli/known_facts.h"
#include "analyses/report/result.h"
#include "probes/neurons.h"

enum { NEURONS_TOKENS = 10, NEURONS_FIRST = 10 };

/* A neuron that is among the first NEURONS_FIRST of at least one fact by what it adds. */
struct listed_neuron {
    struct neuron neuron;              /* means over those facts */
    size_t n_facts;                    /* how many those are */
    int32_t most_answer, answer_token; /* most_answer: facts of one answer among them; that answer */
};

/* Facts with the same subject, relation and answer: paraphrases. */
struct paraphrases {
    size_t first, n; /* first fact; how many */
    size_t n_core;   /* neurons among the first NEURONS_FIRST by |m| ||v|| of every one of them */
    struct neuron core[NEURONS_FIRST];
};

struct neurons_report {
    /* Set by the caller. */
    const struct model *model;
    const struct known_facts *facts;
    const char *against; /* in words */
    size_t top;          /* neurons to list */
    uint64_t seed;
    enum neuron_tokens_norm norm;

    /* Results of the probes; owned. */
    struct neuron_activity activity;
    struct ablation_run ablation; /* n_variants 0: not measured */
    size_t *counts, n_counts;

    /* Made by neurons_report_list; owned. */
    struct listed_neuron *listed; /* [n_listed] by the sum of what they add over all facts, largest first */
    size_t n_listed;
    struct neuron_tokens tokens; /* of the listed ones; rank: of the answer that most of its facts have */
    uint32_t *group;             /* [n facts] number of its paraphrases */
    struct paraphrases *groups;  /* [n_groups] of at least one fact */
    size_t n_groups, n_repeated; /* n_repeated: groups of at least two */
    size_t n_pairs;              /* of paraphrases */
    double *same, *other;        /* [n_layers] overlap of paraphrases, and of other pairs of facts */
    double *entropy, *logit;     /* [n_layers] means over facts */
};

int neurons_report_list(struct neurons_report *r, struct runtime *rt, struct err *err);
void neurons_report_release(struct neurons_report *r);

/*
 * report: struct neurons_report. CSV, a line a listed neuron; layers, a line a layer; ablation, a line a number of
 * neurons taken out, nothing where that was not measured.
 */
extern const struct result_kind neurons_result;
result_add neurons_report_text, neurons_report_csv, neurons_report_layers_csv, neurons_report_ablation_csv,
    neurons_report_json;
result_put neurons_report_put;

#endif

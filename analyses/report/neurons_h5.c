/* Neurons as HDF5, format "strata-neurons", version 1. */
#include "analyses/report/known_facts_h5.h"
#include "analyses/report/neurons_report.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static int put_attributes(const struct neurons_report *r, const struct h5_file *f, struct err *err)
{
    const struct h5_setting settings[] = { { "tokens_norm", r->norm == NEURON_TOKENS_GEVA ? "geva" : "gain", 0 },
                                           { "position", "last", 0 },
                                           { "against", r->against, 0 },
                                           { "paraphrase_pairs", NULL, (int64_t)r->n_pairs },
                                           { "ablation_draws", NULL, (int64_t)r->ablation.n_draws } };
    int rc = h5_put_settings(f, settings, sizeof settings / sizeof *settings, err);
    return rc ? rc : known_facts_put_counts(r->facts, f, err);
}

static int put_facts(const struct neurons_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t n[] = { r->facts->n };
    int32_t *group = mem_array(r->facts->n, sizeof *group);
    int rc = group ? known_facts_put(r->facts, f, err) : err_nomem(err, "the facts");
    for (size_t i = 0; group && i < r->facts->n; i++)
        group[i] = (int32_t)r->group[i];
    rc = rc ? rc : h5_put_array(f, "/facts/paraphrase_group", STORE_I32, 1, n, group, err);
    free(group);
    return rc;
}

/* NAME/layer, neuron, coefficient, size, logit of neurons[n], shaped dims. */
static int put_neurons(const struct h5_file *f, const char *group, const struct neuron *neurons, size_t n, int rank,
                       const hsize_t *dims, struct err *err)
{
    int32_t *place = mem_array(2 * n, sizeof *place);
    double *numbers = mem_array(3 * n, sizeof *numbers);
    static const char *const number_names[] = { "coefficient", "size", "logit" };
    char name[64];
    int rc = place && numbers ? 0 : err_nomem(err, "neurons");
    for (size_t i = 0; !rc && i < n; i++) {
        place[i] = (int32_t)neurons[i].layer;
        place[n + i] = (int32_t)neurons[i].unit;
        numbers[i] = neurons[i].coefficient;
        numbers[n + i] = neurons[i].size;
        numbers[2 * n + i] = neurons[i].logit;
    }
    for (size_t p = 0; !rc && p < 2; p++) {
        snprintf(name, sizeof name, "/%s/%s", group, p ? "neuron" : "layer");
        rc = h5_put_array(f, name, STORE_I32, rank, dims, place + p * n, err);
    }
    for (size_t p = 0; !rc && p < 3; p++) {
        snprintf(name, sizeof name, "/%s/%s", group, number_names[p]);
        rc = h5_put_array(f, name, STORE_F64, rank, dims, numbers + p * n, err);
    }
    free(place);
    free(numbers);
    return rc;
}

static int put_activity(const struct neurons_report *r, const struct h5_file *f, struct err *err)
{
    const struct neuron_activity *a = &r->activity;
    const hsize_t lists[] = { a->n_facts, a->top }, layers[] = { a->n_facts, a->n_layers, NEURON_FIRED };
    int rc = put_neurons(f, "by_logit", a->by_logit, a->n_facts * a->top, 2, lists, err);
    rc = rc ? rc : put_neurons(f, "by_size", a->by_size, a->n_facts * a->top, 2, lists, err);
    rc = rc ? rc : h5_put_array(f, "/layers/largest_coefficients", STORE_I32, 3, layers, a->fired, err);
    rc = rc ? rc : h5_put_array(f, "/layers/entropy", STORE_F64, 2, layers, a->entropy, err);
    rc = rc ? rc : h5_put_array(f, "/layers/logit", STORE_F64, 2, layers, a->logit, err);
    rc = rc ? rc : h5_put_array(f, "/mean/entropy", STORE_F64, 1, layers + 1, r->entropy, err);
    rc = rc ? rc : h5_put_array(f, "/mean/logit", STORE_F64, 1, layers + 1, r->logit, err);
    rc = rc ? rc : h5_put_array(f, "/mean/overlap_paraphrases", STORE_F64, 1, layers + 1, r->same, err);
    return rc ? rc : h5_put_array(f, "/mean/overlap_others", STORE_F64, 1, layers + 1, r->other, err);
}

static int put_listed(const struct neurons_report *r, const struct h5_file *f, struct err *err)
{
    const hsize_t dims[] = { r->n_listed, r->tokens.k };
    struct neuron *neurons = mem_array(r->n_listed, sizeof *neurons);
    int32_t *counts = mem_array(r->n_listed, sizeof *counts);
    int rc = neurons && counts ? 0 : err_nomem(err, "neurons");
    for (size_t i = 0; !rc && i < r->n_listed; i++) {
        neurons[i] = r->listed[i].neuron;
        counts[i] = (int32_t)r->listed[i].n_facts;
    }
    rc = rc ? rc : put_neurons(f, "listed", neurons, r->n_listed, 1, dims, err);
    rc = rc ? rc : h5_put_array(f, "/listed/facts", STORE_I32, 1, dims, counts, err);
    rc = rc ? rc : h5_put_array(f, "/listed/answer_rank", STORE_I32, 1, dims, r->tokens.rank, err);
    rc = rc ? rc : h5_put_array(f, "/listed/up", STORE_I32, 2, dims, r->tokens.up, err);
    rc = rc ? rc : h5_put_array(f, "/listed/up_score", STORE_F32, 2, dims, r->tokens.up_score, err);
    rc = rc ? rc : h5_put_array(f, "/listed/down", STORE_I32, 2, dims, r->tokens.down, err);
    rc = rc ? rc : h5_put_array(f, "/listed/down_score", STORE_F32, 2, dims, r->tokens.down_score, err);
    free(neurons);
    free(counts);
    return rc;
}

static int put_ablation(const struct neurons_report *r, const struct h5_file *f, struct err *err)
{
    const struct ablation_run *a = &r->ablation;
    const hsize_t dims[] = { a->n_facts, a->n_variants }, counts[] = { r->n_counts };
    if (!a->n_variants)
        return 0;
    int64_t *numbers = mem_array(r->n_counts, sizeof *numbers);
    for (size_t i = 0; numbers && i < r->n_counts; i++)
        numbers[i] = (int64_t)r->counts[i];
    int rc = numbers ? h5_put_array(f, "/ablation/counts", STORE_I64, 1, counts, numbers, err)
                     : err_nomem(err, "numbers of neurons");
    free(numbers);
    rc = rc ? rc : h5_put_array(f, "/ablation/base_logprob", STORE_F32, 1, dims, a->base_logprob, err);
    /* Columns: the counts of the fact's own neurons, then those of every draw. */
    rc = rc ? rc : h5_put_array(f, "/ablation/logprob", STORE_F32, 2, dims, a->logprob, err);
    return rc ? rc : h5_put_array(f, "/ablation/rank", STORE_I32, 2, dims, a->rank, err);
}

int neurons_report_put(const void *report, const struct h5_file *f, struct err *err)
{
    const struct neurons_report *r = report;
    int rc = put_attributes(r, f, err);
    rc = rc ? rc : put_facts(r, f, err);
    rc = rc ? rc : put_activity(r, f, err);
    rc = rc ? rc : put_listed(r, f, err);
    return rc ? rc : put_ablation(r, f, err);
}

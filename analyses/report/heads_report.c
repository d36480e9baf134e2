#include "analyses/report/heads_report.h"

#include "core/base/mem.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *heads_report_name(const struct heads_report *r, size_t head, char name[HEAD_NAME_MAX])
{
    size_t per_layer = r->model->config.n_heads;
    snprintf(name, HEAD_NAME_MAX, "L%zuH%zu", head / per_layer, head % per_layer);
    return name;
}

/* Cluster of each fact: its subject; facts without one stand for themselves. */
static int subjects_of(struct heads_report *r, uint32_t *cluster, struct err *err)
{
    const struct known_facts *k = r->facts;
    const char **labels = mem_array(k->n, sizeof *labels);
    if (!labels)
        return err_nomem(err, "the facts");
    for (size_t i = 0; i < k->n; i++)
        labels[i] = *k->facts[i]->subject ? k->facts[i]->subject : NULL;
    int rc = statistics_clusters(labels, k->n, cluster, &r->n_subjects, err);
    free(labels);
    return rc;
}

static int add_bands(struct heads_report *r, uint64_t seed, struct err *err)
{
    uint32_t *cluster = mem_array(r->facts->n, sizeof *cluster);
    int rc = cluster ? subjects_of(r, cluster, err) : err_nomem(err, "the facts");
    if (!rc) {
        const struct bootstrap b = { .values = r->attribution.logit,
                                     .n_rows = r->facts->n,
                                     .n_series = r->attribution.n_heads,
                                     .cluster = cluster,
                                     .n_clusters = r->n_subjects,
                                     .seed = seed };
        rc = bootstrap_means(&b, r->mean, r->low, r->high, err);
    }
    free(cluster);
    return rc;
}

const char *heads_ranking_name(enum heads_ranking ranking)
{
    static const char *const names[] = {
#define X(id, name, words) name,
        HEADS_RANKINGS(X)
#undef X
    };
    return names[ranking];
}

const char *heads_ranking_words(enum heads_ranking ranking)
{
    static const char *const words_of[] = {
#define X(id, name, words) words,
        HEADS_RANKINGS(X)
#undef X
    };
    return words_of[ranking];
}

void heads_report_drops(const struct heads_report *r, double *drop)
{
    const struct ablation_run *s = &r->singles;
    for (size_t h = 0; h < r->attribution.n_heads; h++) {
        double sum = 0;
        for (size_t i = 0; i < s->n_facts && s->n_variants; i++)
            sum += 100 * expm1((double)s->logprob[i * s->n_variants + h] - (double)s->base_logprob[i]);
        drop[h] = s->n_variants ? sum / (double)s->n_facts : NAN;
    }
}

void heads_report_hubs(const struct heads_report *r, double *hub)
{
    size_t n_pairs = 0, n_heads = r->model->config.n_layers * r->model->config.n_heads;
    for (size_t h = 0; h < n_heads; h++)
        hub[h] = 0;
    for (size_t i = 0; i < r->map.n_relations; i++) {
        if (r->relations[i].copying)
            continue;
        n_pairs += r->relations[i].n_pairs;
        for (size_t h = 0; h < n_heads; h++)
            hub[h] += (double)r->map.hits[i * n_heads + h];
    }
    for (size_t h = 0; h < n_heads; h++)
        hub[h] = n_pairs ? hub[h] / (double)n_pairs : NAN;
}

int heads_report_average(struct heads_report *r, uint64_t seed, struct err *err)
{
    size_t n = r->attribution.n_heads, n_facts = r->facts->n;
    double **arrays[] = { &r->mean, &r->low, &r->high, &r->from_subject, &r->to_subject, &r->single_drop, &r->hub };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (!(*arrays[i] = mem_array(n, sizeof **arrays[i])))
            return err_nomem(err, "the means of heads");
    r->by_mean = mem_array(n, sizeof *r->by_mean);
    if (!r->by_mean)
        return err_nomem(err, "the means of heads");
    int rc = add_bands(r, seed, err);
    rc = rc ? rc : head_order(r->mean, n, r->by_mean, err);
    if (rc)
        return rc;
    head_means(r->attribution.from_subject, n_facts, n, r->from_subject);
    head_means(r->attribution.to_subject, n_facts, n, r->to_subject);
    heads_report_drops(r, r->single_drop);
    heads_report_hubs(r, r->hub);
    return 0;
}

void heads_report_release(struct heads_report *r)
{
    for (size_t i = 0; i < r->n_relations; i++) {
        free(r->relations[i].name);
        free(r->relations[i].pairs);
    }
    free(r->relations);
    head_attribution_release(&r->attribution);
    head_patterns_release(&r->patterns);
    ablation_run_release(&r->singles);
    ablation_run_release(&r->ranked);
    head_map_release(&r->map);
    free(r->order);
    free(r->counts);
    free(r->mean);
    free(r->low);
    free(r->high);
    free(r->from_subject);
    free(r->to_subject);
    free(r->single_drop);
    free(r->hub);
    free(r->by_mean);
}

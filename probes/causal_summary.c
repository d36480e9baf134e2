#include "probes/causal_summary.h"

#include "core/base/mem.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdlib.h>

struct maker {
    const struct causal_summary_input *in;
    size_t n_layers;
    double *values;        /* [n, n_layers] of the series at hand */
    const char **subjects; /* [n] of its rows */
    uint32_t *cluster;     /* [n] */
};

/* The fact's indirect effects of a kind, averaged over its tokens of the role, to row[n_layers]. False: it has none. */
static bool add_row(const struct maker *m, size_t fact, enum causal_kind kind, enum causal_role role, double *row)
{
    const struct causal_trace *t = m->in->traces[fact];
    const struct causal_span *span = &m->in->spans[fact];
    size_t n = 0;
    for (size_t l = 0; l < m->n_layers; l++)
        row[l] = 0;
    for (size_t token = 0; token < t->n_tokens; token++) {
        if (causal_role_of(token, span->n_read, span->subject_begin, span->subject_end) != role)
            continue;
        const double *p = t->p[kind] + (causal_is_grid(kind) ? token * m->n_layers : 0);
        for (size_t l = 0; l < m->n_layers; l++)
            row[l] += p[l] - t->corrupted;
        n++;
    }
    for (size_t l = 0; n && l < m->n_layers; l++)
        row[l] /= (double)n;
    return n > 0;
}

/* Mean and band of n rows of values, n_series each. */
static int estimate(struct maker *m, size_t n, size_t n_series, double *mean, double *low, double *high,
                    size_t *n_clusters, struct err *err)
{
    int rc = statistics_clusters(m->subjects, n, m->cluster, n_clusters, err);
    const struct bootstrap b = { .values = m->values,
                                 .n_rows = n,
                                 .n_series = n_series,
                                 .cluster = m->cluster,
                                 .n_clusters = *n_clusters,
                                 .seed = m->in->seed };
    return rc ? rc : bootstrap_means(&b, mean, low, high, err);
}

static int add_series(struct maker *m, struct causal_summary *out, enum causal_kind kind, enum causal_role role,
                      struct err *err)
{
    struct causal_series *s = &out->series[out->n_series];
    double *memory = out->memory + 3 * m->n_layers * out->n_series;
    size_t n_clusters = 0;
    *s = (struct causal_series){
        .kind = kind, .role = role, .mean = memory, .low = memory + m->n_layers, .high = memory + 2 * m->n_layers
    };
    for (size_t i = 0; i < m->in->n; i++)
        if (add_row(m, i, kind, role, m->values + s->n * m->n_layers))
            m->subjects[s->n++] = m->in->subjects ? m->in->subjects[i] : NULL;
    if (!s->n)
        return 0;
    out->n_series++;
    return estimate(m, s->n, m->n_layers, s->mean, s->low, s->high, &n_clusters, err);
}

static bool has_series(const struct causal_summary_input *in, enum causal_kind kind, enum causal_role role)
{
    if (!(in->kinds >> kind & 1) || role == CAUSAL_ROLE_BEFORE)
        return false;
    return causal_is_grid(kind) || role == CAUSAL_ROLE_SUBJECT_LAST;
}

static int add_totals(struct maker *m, struct causal_summary *out, struct err *err)
{
    enum { CLEAN, CORRUPTED, TOTAL, N_TOTALS };
    double mean[N_TOTALS], low[N_TOTALS], high[N_TOTALS];
    for (size_t i = 0; i < m->in->n; i++) {
        const struct causal_trace *t = m->in->traces[i];
        double *row = m->values + i * N_TOTALS;
        row[CLEAN] = t->clean;
        row[CORRUPTED] = t->corrupted;
        row[TOTAL] = t->clean - t->corrupted;
        m->subjects[i] = m->in->subjects ? m->in->subjects[i] : NULL;
    }
    int rc = estimate(m, m->in->n, N_TOTALS, mean, low, high, &out->n_subjects, err);
    if (rc)
        return rc;
    out->clean = (struct causal_estimate){ mean[CLEAN], low[CLEAN], high[CLEAN] };
    out->corrupted = (struct causal_estimate){ mean[CORRUPTED], low[CORRUPTED], high[CORRUPTED] };
    out->total = (struct causal_estimate){ mean[TOTAL], low[TOTAL], high[TOTAL] };
    return 0;
}

int causal_summary_make(struct causal_summary *out, const struct causal_summary_input *in, struct err *err)
{
    enum { MOST_SERIES = N_CAUSAL_KINDS * N_CAUSAL_ROLES };
    *out = (struct causal_summary){ .n = in->n };
    if (!in->n)
        return err_set(err, ERR_ARG, "a summary of no facts");
    size_t n_layers = out->n_layers = in->traces[0]->n_layers, width = n_layers < 3 ? 3 : n_layers, n_values;
    if (!size_mul(in->n, width, &n_values))
        return err_nomem(err, "the summary");
    struct maker m = { .in = in, .n_layers = n_layers };
    m.values = mem_array(n_values, sizeof *m.values);
    m.subjects = mem_array(in->n, sizeof *m.subjects);
    m.cluster = mem_array(in->n, sizeof *m.cluster);
    out->series = mem_array(MOST_SERIES, sizeof *out->series);
    out->memory = mem_array(MOST_SERIES * 3 * n_layers, sizeof *out->memory);
    int rc = m.values && m.subjects && m.cluster && out->series && out->memory ? add_totals(&m, out, err)
                                                                               : err_nomem(err, "the summary");
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        for (enum causal_role r = 0; !rc && r < N_CAUSAL_ROLES; r++)
            if (has_series(in, k, r))
                rc = add_series(&m, out, k, r, err);
    free(m.values);
    free(m.subjects);
    free(m.cluster);
    if (rc)
        causal_summary_release(out);
    return rc;
}

void causal_summary_release(struct causal_summary *s)
{
    free(s->series);
    free(s->memory);
    *s = (struct causal_summary){ 0 };
}

size_t causal_series_peak(const struct causal_series *s, size_t n_layers)
{
    size_t peak = 0;
    for (size_t l = 1; l < n_layers; l++)
        peak = s->mean[l] > s->mean[peak] ? l : peak;
    return peak;
}

const struct causal_series *causal_series_find(const struct causal_summary *s, enum causal_kind kind,
                                               enum causal_role role)
{
    for (size_t i = 0; i < s->n_series; i++)
        if (s->series[i].kind == kind && s->series[i].role == role)
            return &s->series[i];
    return NULL;
}

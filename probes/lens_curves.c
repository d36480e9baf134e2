#include "probes/lens_curves.h"
#include "core/base/mem.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *lens_curve_name(enum lens_curve curve)
{
    static const char *const names[] = {
#define X(id, name, meaning) name,
        LENS_CURVES(X)
#undef X
    };
    return names[curve];
}

static int check_numbers(const struct lens_facts *f, struct err *err)
{
    for (size_t i = 0; i < f->n_facts * f->n_states; i++) {
        const char *wrong = f->rank[i] < 1                                         ? "rank below 1"
                            : !(f->logprob[i] <= 1e-3f) || isinf(f->logprob[i])    ? "log probability"
                            : !(f->entropy[i] >= -1e-3f) || f->entropy[i] > 100.0f ? "entropy"
                            : !isfinite(f->kl_final[i])                            ? "KL divergence"
                                                                                   : NULL;
        if (wrong)
            return err_set(err, ERR_NUMERIC, "fact %zu, state %zu: impossible %s: make the lens file again",
                           i / f->n_states, i % f->n_states, wrong);
    }
    return 0;
}

/* Working memory of one computation. */
struct work {
    const struct lens_facts *f;
    struct lens_curves *out;
    double *column; /* [n_facts] */
    double *rows;   /* [n_facts, n_states] */
};

static void quartiles(struct work *w, double *q1, double *median, double *q3)
{
    size_t n = w->f->n_facts;
    statistics_sort(w->column, n);
    *q1 = statistics_quantile(w->column, n, 0.25);
    *median = statistics_quantile(w->column, n, 0.5);
    *q3 = statistics_quantile(w->column, n, 0.75);
}

static void describe_state(struct work *w, size_t s)
{
    const struct lens_facts *f = w->f;
    double *const *value = w->out->value;
    double rank = 0, reciprocal = 0, logprob = 0, kl = 0, n = (double)f->n_facts;

    for (size_t i = 0; i < f->n_facts; i++) {
        size_t at = i * f->n_states + s;
        w->column[i] = f->rank[at];
        rank += f->rank[at];
        reciprocal += 1.0 / f->rank[at];
        logprob += (double)f->logprob[at];
        kl += (double)f->kl_final[at];
    }
    quartiles(w, &value[CURVE_RANK_Q1][s], &value[CURVE_RANK_MEDIAN][s], &value[CURVE_RANK_Q3][s]);
    value[CURVE_RANK_MEAN][s] = rank / n;
    value[CURVE_MRR][s] = reciprocal / n;
    value[CURVE_LOGPROB_MEAN][s] = logprob / n;
    value[CURVE_KL_MEAN][s] = kl / n;

    double q1, q3;
    for (size_t i = 0; i < f->n_facts; i++)
        w->column[i] = (double)f->entropy[i * f->n_states + s];
    quartiles(w, &q1, &value[CURVE_ENTROPY_MEDIAN][s], &q3);
    /* Of the exponentials, not the exponential of quantiles: between order statistics they differ. */
    for (size_t i = 0; i < f->n_facts; i++)
        w->column[i] = exp(w->column[i]);
    quartiles(w, &value[CURVE_CANDIDATES_Q1][s], &value[CURVE_CANDIDATES_MEDIAN][s], &value[CURVE_CANDIDATES_Q3][s]);
}

static int band(struct work *w, const struct lens_curves_options *o, enum lens_curve mean, enum lens_curve low,
                enum lens_curve high, struct err *err)
{
    const struct bootstrap b = { .values = w->rows,
                                 .n_rows = w->f->n_facts,
                                 .n_series = w->f->n_states,
                                 .cluster = w->f->subject,
                                 .n_clusters = w->f->n_subjects,
                                 .n_draws = o->n_draws,
                                 .seed = o->seed };
    return bootstrap_means(&b, w->out->value[mean], w->out->value[low], w->out->value[high], err);
}

static int bands(struct work *w, const struct lens_curves_options *o, struct err *err)
{
    const struct lens_facts *f = w->f;
    size_t n = f->n_facts * f->n_states;
    for (size_t i = 0; i < n; i++)
        w->rows[i] = f->rank[i] <= 1;
    int rc = band(w, o, CURVE_HIT1, CURVE_HIT1_LOW, CURVE_HIT1_HIGH, err);
    for (size_t i = 0; i < n; i++)
        w->rows[i] = f->rank[i] <= 10;
    rc = rc ? rc : band(w, o, CURVE_HIT10, CURVE_HIT10_LOW, CURVE_HIT10_HIGH, err);
    for (size_t i = 0; i < n; i++)
        w->rows[i] = exp((double)f->logprob[i]);
    return rc ? rc : band(w, o, CURVE_PROB_MEAN, CURVE_PROB_LOW, CURVE_PROB_HIGH, err);
}

/* (relation, token) pairs of all facts in rising order: whether a token answers a relation is one search. */
struct pair {
    uint32_t relation;
    int32_t token;
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->relation != y->relation)
        return x->relation < y->relation ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

static int competitors(struct work *w, const struct lens_curves_options *o, struct err *err)
{
    const struct lens_facts *f = w->f;
    struct pair *pairs = mem_array(f->n_facts, sizeof *pairs);
    if (!pairs)
        return err_nomem(err, "competitors");
    for (size_t i = 0; i < f->n_facts; i++)
        pairs[i] = (struct pair){ f->relation[i], f->answer_token[i] };
    qsort(pairs, f->n_facts, sizeof *pairs, compare_pairs);

    for (size_t i = 0; i < f->n_facts * f->n_states; i++) {
        size_t fact = i / f->n_states;
        double mass = 0;
        for (size_t k = 0; k < f->top_k; k++) {
            const struct pair want = { f->relation[fact], f->top_token[i * f->top_k + k] };
            if (want.token != f->answer_token[fact] && bsearch(&want, pairs, f->n_facts, sizeof *pairs, compare_pairs))
                mass += exp((double)f->top_logprob[i * f->top_k + k]);
        }
        if (!(mass <= 1.01)) { /* rounding of a hundred float32 logarithms is far below */
            free(pairs);
            return err_set(err, ERR_NUMERIC,
                           "fact %zu, state %zu: impossible top-k probabilities: make the lens file again", fact,
                           i % f->n_states);
        }
        w->rows[i] = mass;
    }
    free(pairs);
    return band(w, o, CURVE_COMPETITORS_MEAN, CURVE_COMPETITORS_LOW, CURVE_COMPETITORS_HIGH, err);
}

static struct depth_summary summarize(struct work *w, size_t n)
{
    struct depth_summary d = { .n = n };
    statistics_sort(w->column, n);
    d.q1 = statistics_quantile(w->column, n, 0.25);
    d.median = statistics_quantile(w->column, n, 0.5);
    d.q3 = statistics_quantile(w->column, n, 0.75);
    return d;
}

static void first_hits(struct work *w)
{
    const struct lens_facts *f = w->f;
    struct lens_curves *out = w->out;
    size_t reached = 0, last = f->n_states - 1;
    for (size_t i = 0; i < f->n_facts; i++) {
        const int32_t *rank = f->rank + i * f->n_states;
        size_t s = 0;
        while (s < f->n_states && rank[s] != 1)
            s++;
        out->final_rank1 += rank[last] == 1;
        if (s == f->n_states) {
            out->never_rank1++;
            continue;
        }
        out->lost += rank[last] != 1;
        out->value[CURVE_FIRST_RANK1][s] += 1 / (double)f->n_facts;
        w->column[reached++] = (double)s;
    }
    out->first_rank1 = summarize(w, reached);
}

static void prediction_depths(struct work *w)
{
    const struct lens_facts *f = w->f;
    for (size_t i = 0; i < f->n_facts; i++) {
        const int32_t *top = f->top_token + i * f->n_states * f->top_k;
        size_t s = f->n_states - 1;
        while (s > 0 && top[(s - 1) * f->top_k] == top[(f->n_states - 1) * f->top_k])
            s--;
        w->out->value[CURVE_SETTLED][s] += 1 / (double)f->n_facts;
        w->column[i] = (double)s;
    }
    w->out->depth = summarize(w, f->n_facts);
}

static void find_steepest(struct lens_curves *out)
{
    const double *rank = out->value[CURVE_RANK_MEDIAN];
    double most = 1;
    for (size_t s = 1; s < out->n_states; s++)
        if (rank[s - 1] / rank[s] > most) {
            most = rank[s - 1] / rank[s];
            out->steepest = s;
        }
}

static int create(const struct lens_facts *f, struct lens_curves *out, struct work *w, struct err *err)
{
    size_t n_rows, n_values;
    if (f->n_facts == 0 || f->n_states == 0)
        return err_set(err, ERR_ARG, "no fact with an answer: curves need at least one");
    if (!size_mul(f->n_facts, f->n_states, &n_rows) || !size_mul(f->n_states, LENS_CURVE_COUNT, &n_values))
        return err_nomem(err, "curves");
    w->column = mem_array(f->n_facts, sizeof *w->column);
    w->rows = mem_array(n_rows, sizeof *w->rows);
    out->value[0] = mem_array(n_values, sizeof *out->value[0]);
    if (!w->column || !w->rows || !out->value[0])
        return err_nomem(err, "curves");
    for (size_t c = 0; c < LENS_CURVE_COUNT; c++)
        out->value[c] = out->value[0] + c * f->n_states;
    for (size_t i = 0; i < n_values; i++)
        out->value[0][i] = NAN;
    memset(out->value[CURVE_FIRST_RANK1], 0, f->n_states * sizeof(double));
    return 0;
}

int lens_curves_compute(const struct lens_facts *f, const struct lens_curves_options *o, struct lens_curves *out,
                        struct err *err)
{
    struct work w = { .f = f, .out = out };
    *out = (struct lens_curves){ .n_facts = f->n_facts, .n_states = f->n_states };
    out->n_subjects = f->subject ? f->n_subjects : f->n_facts;
    out->has_competitors = f->relation && f->top_k > 0;
    out->depth = (struct depth_summary){ 0, NAN, NAN, NAN };

    int rc = create(f, out, &w, err);
    rc = rc ? rc : check_numbers(f, err);
    if (rc == 0) {
        for (size_t s = 0; s < f->n_states; s++)
            describe_state(&w, s);
        first_hits(&w);
        find_steepest(out);
        if (f->top_k) {
            memset(out->value[CURVE_SETTLED], 0, f->n_states * sizeof(double));
            prediction_depths(&w);
        }
        rc = bands(&w, o, err);
    }
    if (rc == 0 && out->has_competitors)
        rc = competitors(&w, o, err);
    free(w.column);
    free(w.rows);
    if (rc)
        lens_curves_release(out);
    return rc;
}

void lens_curves_release(struct lens_curves *c)
{
    free(c->value[0]);
    *c = (struct lens_curves){ .n_facts = 0 };
}

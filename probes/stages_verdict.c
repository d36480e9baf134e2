/* Averages over facts, and what they say of each stage. */
#include "core/base/mem.h"
#include "probes/extraction.h"
#include "probes/stages.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHANCE_DRAWS = 20 };

const char *stage_name(int stage)
{
    static const char *const names[N_STAGES] = { "enrichment", "propagation", "extraction" };
    return names[stage];
}

const char *stage_finding_name(enum stage_finding finding)
{
    static const char *const names[] = { "not measured", "not found", "found" };
    return names[finding];
}

size_t stages_deepest(const double *curve, size_t n)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        if (!isnan(curve[i]) && (best == SIZE_MAX || curve[i] < curve[best]))
            best = i;
    return best;
}

static size_t highest(const double *curve, size_t n)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        if (!isnan(curve[i]) && (best == SIZE_MAX || curve[i] > curve[best]))
            best = i;
    return best;
}

static const struct stages_estimate no_estimate = { (double)NAN, (double)NAN, (double)NAN };

static struct stage not_measured(const char *reason)
{
    return (struct stage){ .reason = reason,
                           .number = no_estimate,
                           .control = no_estimate,
                           .difference = no_estimate,
                           .late = NAN,
                           .p = NAN };
}

/* --- averages --- */

/* Rows and clusters of the facts that have a curve. */
struct rows {
    double *values;
    const char **labels;
    uint32_t *clusters;
    size_t n, n_clusters;
};

static int make_rows(struct rows *r, size_t n, size_t width, struct err *err)
{
    size_t cells;
    *r = (struct rows){ 0 };
    if (!size_mul(n, width, &cells))
        return err_nomem(err, "averages");
    r->values = mem_array(cells, sizeof *r->values);
    r->labels = mem_array(n, sizeof *r->labels);
    r->clusters = mem_array(n, sizeof *r->clusters);
    return r->values && r->labels && r->clusters ? 0 : err_nomem(err, "averages");
}

static void release_rows(struct rows *r)
{
    free(r->values);
    free(r->labels);
    free(r->clusters);
}

static int average(struct rows *r, size_t width, uint64_t seed, double *mean, double *low, double *high,
                   struct err *err)
{
    int rc = statistics_clusters(r->labels, r->n, r->clusters, &r->n_clusters, err);
    const struct bootstrap b = { .values = r->values,
                                 .n_rows = r->n,
                                 .n_series = width,
                                 .cluster = r->clusters,
                                 .n_clusters = r->n_clusters,
                                 .seed = seed };
    return rc ? rc : bootstrap_means(&b, mean, low, high, err);
}

static bool all_finite(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

struct subset {
    const struct stages *s;
    const size_t *facts;
    size_t n;
    const char *const *subjects;
    uint64_t seed;
};

static size_t fact_at(const struct subset *of, size_t i)
{
    return of->facts ? of->facts[i] : i;
}

static int average_curve(struct stages_band *out, const struct subset *of, enum stages_curve curve, struct err *err)
{
    size_t width = stages_n_points(of->s, curve);
    struct rows rows;
    out->mean = mem_array(width, 3 * sizeof *out->mean);
    int rc = make_rows(&rows, of->n, width, err);
    if (!rc && !out->mean)
        rc = err_nomem(err, "averages");
    if (!rc) {
        out->low = out->mean + width;
        out->high = out->low + width;
        for (size_t i = 0; i < 3 * width; i++)
            out->mean[i] = NAN;
        for (size_t i = 0; i < of->n; i++) {
            const double *values = of->s->curves[curve] + fact_at(of, i) * width;
            if (!all_finite(values, width))
                continue;
            memcpy(rows.values + rows.n * width, values, width * sizeof *values);
            rows.labels[rows.n++] = of->subjects[fact_at(of, i)];
        }
    }
    if (!rc && rows.n && width)
        rc = average(&rows, width, of->seed, out->mean, out->low, out->high, err);
    out->n = rc ? 0 : rows.n;
    out->n_subjects = rows.n_clusters;
    release_rows(&rows);
    return rc;
}

/* Share of facts with an event of this part in any layer, and the same with answers of other facts. */
static int average_events(struct stages_summary *out, const struct subset *of, int part, struct err *err)
{
    const struct stages *s = of->s;
    struct rows rows;
    int32_t *tops = mem_array(of->n, s->n_layers * sizeof *tops), *answers = mem_array(of->n, sizeof *answers);
    int rc = make_rows(&rows, of->n, 1, err);
    if (!rc && (!tops || !answers))
        rc = err_nomem(err, "averages");
    for (size_t i = 0; !rc && i < of->n; i++) {
        size_t fact = fact_at(of, i);
        const int32_t *own = s->tops + (2 * fact + (size_t)part) * s->n_layers;
        memcpy(tops + i * s->n_layers, own, s->n_layers * sizeof *own);
        answers[i] = s->answers[fact];
        rows.values[i] = extraction_events(own, answers[i], s->n_layers, NULL) ? 100 : 0;
        rows.labels[rows.n++] = of->subjects[fact];
    }
    struct stages_estimate *e = &out->events[part];
    rc = rc ? rc : average(&rows, 1, of->seed, &e->mean, &e->low, &e->high, err);
    if (!rc)
        out->events_chance[part] = 100 * extraction_chance(tops, answers, of->n, s->n_layers, CHANCE_DRAWS, of->seed);
    out->n_subjects = rows.n_clusters;
    release_rows(&rows);
    free(tops);
    free(answers);
    return rc;
}

static struct stages_estimate at(const struct stages_band *b, size_t point)
{
    return (struct stages_estimate){ b->mean[point], b->low[point], b->high[point] };
}

/* --- verdicts over facts --- */

static struct stage judge_enrichment(const struct stages_summary *a, size_t n_states)
{
    const struct stages_band *gain = &a->curves[STAGES_RECALL_GAIN];
    struct stage out = not_measured("no fact has attributes of its subject and of another one");
    size_t peak = gain->n ? highest(gain->mean + 1, n_states - 1) : SIZE_MAX;
    if (peak == SIZE_MAX)
        return out;
    peak++;
    out.n = gain->n;
    out.layer = peak - 1;
    out.number = at(&a->curves[STAGES_RECALL], peak);
    out.control = at(&a->curves[STAGES_RECALL_CONTROL], peak);
    out.difference = at(gain, peak);
    out.finding = STAGE_NOT_FOUND;
    if (gain->n_subjects < 2)
        out.reason = "one subject has no band";
    else if (!(out.difference.mean >= STAGES_MEAN_GAIN && out.difference.low > 0))
        out.reason = "the subject's attributes come up no more than another subject's";
    else if (!(out.difference.mean - gain->mean[0] >= STAGES_MEAN_GAIN))
        out.reason = "no more than the embedding has already";
    else {
        out.finding = STAGE_FOUND;
        out.reason = "";
    }
    return out;
}

static struct stage judge_propagation(const struct stages_summary *a, size_t n_layers)
{
    const struct stages_band *rest = &a->curves[STAGES_REST], *subject = &a->curves[STAGES_SUBJECT];
    const struct stages_band *difference = &a->curves[STAGES_REST_LESS_SUBJECT];
    struct stage out = not_measured("no fact has tokens to block on both sides");
    if (!difference->n)
        return out;
    size_t early = stages_deepest(rest->mean, n_layers), late = stages_deepest(subject->mean, n_layers);
    out.n = difference->n;
    out.layer = early;
    out.number = at(rest, early);
    out.control = at(subject, early);
    out.difference = at(difference, early);
    out.late = rest->mean[late];
    out.finding = STAGE_NOT_FOUND;
    if (difference->n_subjects < 2)
        out.reason = "one subject has no band";
    else if (!(out.number.mean <= -STAGES_MEAN_DROP && out.number.high < 0))
        out.reason = "the answer hardly needs the rest of the prompt";
    else if (!(out.difference.high < 0))
        out.reason = "the subject counts as much there";
    else if (early >= late)
        out.reason = "not before the subject counts";
    else {
        out.finding = STAGE_FOUND;
        out.reason = "";
    }
    return out;
}

static struct stage judge_extraction(const struct stages_summary *a, size_t n_layers)
{
    const struct stages_band *subject = &a->curves[STAGES_SUBJECT];
    const struct stages_band *difference = &a->curves[STAGES_SUBJECT_LESS_RANDOM];
    struct stage out = not_measured("no fact has tokens to block on both sides");
    if (!difference->n)
        return out;
    size_t deepest = stages_deepest(subject->mean, n_layers);
    out.n = difference->n;
    out.layer = deepest;
    out.number = at(subject, deepest);
    out.control = at(&a->curves[STAGES_RANDOM], deepest);
    out.difference = at(difference, deepest);
    out.finding = STAGE_NOT_FOUND;
    if (difference->n_subjects < 2)
        out.reason = "one subject has no band";
    else if (!(out.number.mean <= -STAGES_MEAN_DROP && out.number.high < 0))
        out.reason = "the answer hardly needs the subject's tokens";
    else if (!(out.difference.mean <= -STAGES_MEAN_DROP && out.difference.high < 0))
        out.reason = "random tokens count as much there";
    else {
        out.finding = STAGE_FOUND;
        out.reason = "";
    }
    return out;
}

int stages_summarise(struct stages_summary *out, const struct stages *s, const size_t *facts, size_t n,
                     const char *const *subjects, uint64_t seed, struct err *err)
{
    const struct subset of = { .s = s, .facts = facts, .n = n, .subjects = subjects, .seed = seed };
    *out = (struct stages_summary){ .n_facts = n };
    int rc = n ? 0 : err_set(err, ERR_ARG, "no facts to average");
    for (size_t c = 0; !rc && c < STAGES_N_CURVES; c++)
        rc = average_curve(&out->curves[c], &of, (enum stages_curve)c, err);
    for (int part = 0; !rc && part < EXTRACTION_SUBLAYERS; part++)
        rc = average_events(out, &of, part, err);
    if (rc) {
        stages_summary_release(out);
        return rc;
    }
    out->stage[STAGE_ENRICHMENT] = judge_enrichment(out, stages_enrichment_states(s));
    out->stage[STAGE_PROPAGATION] = judge_propagation(out, s->n_layers);
    out->stage[STAGE_EXTRACTION] = judge_extraction(out, s->n_layers);
    return 0;
}

void stages_summary_release(struct stages_summary *s)
{
    for (size_t c = 0; c < STAGES_N_CURVES; c++)
        free(s->curves[c].mean);
    *s = (struct stages_summary){ 0 };
}

/* --- verdicts of one fact --- */

static struct stages_estimate alone(double x)
{
    return (struct stages_estimate){ x, (double)NAN, (double)NAN };
}

static struct stage judge_one_enrichment(const struct stages *s, const struct stages_subjects *random)
{
    const double *log_rank = s->curves[STAGES_SUBJECT_RANK];
    size_t best = stages_deepest(log_rank, stages_enrichment_states(s)), as_good = 0;
    double sorted[STAGES_SUBJECT_DRAWS];
    if (best == SIZE_MAX)
        return not_measured("the prompt ends with its subject");
    if (!random)
        return not_measured("without random subjects");
    struct stage out = not_measured("");
    double rank = pow(10, log_rank[best]);
    for (size_t d = 0; d < random->n_draws; d++)
        as_good += random->best[d] <= rank * (1 + 1e-9);
    memcpy(sorted, random->best, random->n_draws * sizeof *sorted);
    statistics_sort(sorted, random->n_draws);
    out.n = 1;
    out.layer = best ? best - 1 : SIZE_MAX;
    out.number = alone(rank);
    out.control = alone(statistics_quantile(sorted, random->n_draws, 0.5));
    out.n_control = random->n_draws;
    out.p = (double)(1 + as_good) / (double)(1 + random->n_draws);
    out.finding = STAGE_NOT_FOUND;
    if (!(out.p <= STAGES_LEVEL && STAGES_ONE_RATIO * rank <= sorted[0]))
        out.reason = "random words as subject bring the answer about as far";
    else if (!best)
        out.reason = "no layer brings the answer further than the embedding";
    else
        out.finding = STAGE_FOUND;
    return out;
}

/* How much less likely the answer is, in nats; of a change in percent. */
static double nats(double change)
{
    return -log1p(fmax(fmin(change, 0) / 100, -1 + 1e-12));
}

static bool outweighs(double change, double control)
{
    return nats(change) >= STAGES_ONE_RATIO * nats(control);
}

/* In every window up to its own the rest outweighs the subject; from the subject's on, the subject the rest. */
static struct stage judge_one_propagation(const struct stages *s)
{
    const double *rest = s->curves[STAGES_REST], *subject = s->curves[STAGES_SUBJECT];
    size_t early = stages_deepest(rest, s->n_layers), late = stages_deepest(subject, s->n_layers);
    if (early == SIZE_MAX)
        return not_measured("there is no rest of the prompt to block");
    if (late == SIZE_MAX)
        return not_measured("the subject is token 0 alone, which is never blocked");
    struct stage out = not_measured("");
    out.n = 1;
    out.layer = early;
    out.number = alone(rest[early]);
    out.control = alone(subject[stages_deepest(subject, early + 1)]);
    out.difference = alone(out.number.mean - out.control.mean);
    out.late = rest[late + stages_deepest(rest + late, s->n_layers - late)];
    out.finding = STAGE_NOT_FOUND;
    if (!(rest[early] <= -STAGES_ONE_DROP))
        out.reason = "the answer hardly needs the rest of the prompt";
    else if (!outweighs(out.number.mean, out.control.mean))
        out.reason = "the subject counts by then as well";
    else if (early >= late || !(subject[late] <= -STAGES_ONE_DROP))
        out.reason = "not before the subject counts";
    else if (!outweighs(subject[late], out.late))
        out.reason = "the rest still counts where the subject does";
    else
        out.finding = STAGE_FOUND;
    return out;
}

static struct stage judge_one_extraction(const struct stages *s)
{
    const double *subject = s->curves[STAGES_SUBJECT];
    size_t deepest = stages_deepest(subject, s->n_layers);
    if (deepest == SIZE_MAX)
        return not_measured("the subject is token 0 alone, which is never blocked");
    size_t n = 0, as_deep = 0;
    for (; n < STAGES_KEY_DRAWS && !isnan(s->random_deepest[n]); n++)
        as_deep += s->random_deepest[n] <= subject[deepest];
    bool counts = subject[deepest] <= -STAGES_ONE_DROP;
    if (counts && n < STAGES_LEAST_KEY_DRAWS)
        return not_measured("the prompt has too few other tokens to block as a control");
    struct stage out = not_measured("");
    out.n = 1;
    out.layer = deepest;
    out.number = alone(subject[deepest]);
    out.finding = STAGE_NOT_FOUND;
    if (!counts)
        out.reason = "the answer hardly needs the subject's tokens";
    if (!n)
        return out;
    double least = s->random_deepest[stages_deepest(s->random_deepest, n)];
    out.control = (struct stages_estimate){ statistics_mean(s->random_deepest, n), least,
                                            s->random_deepest[highest(s->random_deepest, n)] };
    out.difference = alone(subject[deepest] - out.control.mean);
    out.n_control = n;
    out.p = (double)(1 + as_deep) / (double)(1 + n);
    if (counts && !outweighs(subject[deepest], least))
        out.reason = "other tokens count about as much";
    else if (counts)
        out.finding = STAGE_FOUND;
    return out;
}

void stages_judge_one(const struct stages *s, const struct stages_subjects *random, struct stage out[N_STAGES])
{
    out[STAGE_ENRICHMENT] = judge_one_enrichment(s, random);
    out[STAGE_PROPAGATION] = judge_one_propagation(s);
    out[STAGE_EXTRACTION] = judge_one_extraction(s);
}

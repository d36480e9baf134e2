/* Facts without their first neurons, against others of the same layers. */
#include "core/base/mem.h"
#include "core/base/random.h"
#include "probes/ablation_run.h"
#include "probes/neurons.h"

#include <stdlib.h>

/* The first `count` neurons of a list, one edit a layer. */
static int take_out(const struct neuron *list, size_t count, size_t n_layers, size_t *units, struct edit_list *out,
                    struct err *err)
{
    int rc = 0;
    for (size_t l = 0; !rc && l < n_layers; l++) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if (list[i].layer == l)
                units[n++] = list[i].unit;
        if (n)
            rc = ablation_add_units(out, SITE_MLP_POST, l, units, n, false, err);
    }
    return rc;
}

static bool is_in(const struct neuron *list, size_t n, size_t layer, size_t unit)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].layer == layer && list[i].unit == unit)
            return true;
    return false;
}

/* For each neuron another one of its layer, in neither list. */
static void draw(const struct neuron *list, size_t n, size_t d_mlp, struct random_source *random, struct neuron *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = list[i];
        do
            out[i].unit = (size_t)random_below(random, d_mlp);
        while (is_in(list, n, out[i].layer, out[i].unit) || is_in(out, i, out[i].layer, out[i].unit));
    }
}

static int check_counts(const struct neuron_activity *a, const size_t *counts, size_t n_counts, size_t d_mlp,
                        struct err *err)
{
    size_t most = 0;
    for (size_t i = 0; i < n_counts; i++) {
        if (counts[i] <= most)
            return err_set(err, ERR_ARG, "numbers of neurons must rise from 1 on");
        most = counts[i];
    }
    if (!n_counts || most > a->top || 2 * most > d_mlp)
        return err_set(
            err, ERR_ARG,
            "%zu neurons are too many to take out: at most %zu are ranked, and half of a layer's %zu must be "
            "left to draw others from",
            most, a->top, d_mlp);
    return 0;
}

struct maker {
    const struct neuron_activity *a;
    const size_t *counts;
    size_t n_counts, n_draws, d_mlp;
    struct random_source random;
    struct neuron *other; /* [the largest count] */
    size_t *units;        /* [the largest count] */
};

static int open_maker(struct maker *m, uint64_t seed, struct err *err)
{
    size_t most = m->counts[m->n_counts - 1];
    m->other = mem_array(most, sizeof *m->other);
    m->units = mem_array(most, sizeof *m->units);
    random_seed(&m->random, seed);
    return m->other && m->units ? 0 : err_nomem(err, "random neurons");
}

/* Variants of a fact: its own neurons, then the draws. */
static int make_edits(void *arg, size_t fact, struct edit_list *edits, struct err *err)
{
    struct maker *m = arg;
    int rc = 0;
    for (size_t d = 0; !rc && d <= m->n_draws; d++) {
        const struct neuron *list = m->a->by_logit + fact * m->a->top;
        if (d) {
            draw(list, m->counts[m->n_counts - 1], m->d_mlp, &m->random, m->other);
            list = m->other;
        }
        for (size_t c = 0; !rc && c < m->n_counts; c++)
            rc = take_out(list, m->counts[c], m->a->n_layers, m->units, edits++, err);
    }
    return rc;
}

int neuron_ablation_run(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                        const int32_t *answers, const struct neuron_activity *a, const size_t *counts, size_t n_counts,
                        size_t n_draws, uint64_t seed, struct progress *progress, struct err *err)
{
    struct maker m = { .a = a,
                       .counts = counts,
                       .n_counts = n_counts,
                       .n_draws = n_draws ? n_draws : ABLATION_DRAWS,
                       .d_mlp = runtime_model(rt)->config.d_mlp };
    struct ablation_plan plan = { .rt = rt, .prompts = prompts, .answers = answers, .make = make_edits, .arg = &m };
    *r = (struct ablation_run){ 0 };
    int rc = check_counts(a, counts, n_counts, m.d_mlp, err);
    if (!rc && !size_mul(1 + m.n_draws, n_counts, &plan.n_variants))
        rc = err_nomem(err, "edits");
    rc = rc ? rc : open_maker(&m, seed, err);
    rc = rc ? rc : ablation_run(r, &plan, a->n_facts, progress, err);
    if (!rc) {
        r->n_draws = m.n_draws;
        r->n_counts = n_counts;
    }
    free(m.other);
    free(m.units);
    return rc;
}

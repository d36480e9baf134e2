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

/* Variants of all facts: each fact's own neurons, then the draws. */
static int make_edits(const struct neuron_activity *a, const size_t *counts, size_t n_counts, size_t n_draws,
                      uint64_t seed, size_t d_mlp, struct edit_list *edits, struct err *err)
{
    size_t most = counts[n_counts - 1];
    struct neuron *other = mem_array(most, sizeof *other);
    size_t *units = mem_array(most, sizeof *units);
    struct random_source random;
    int rc = other && units ? 0 : err_nomem(err, "random neurons");
    random_seed(&random, seed);
    for (size_t i = 0; !rc && i < a->n_facts; i++)
        for (size_t d = 0; !rc && d <= n_draws; d++) {
            const struct neuron *list = a->by_logit + i * a->top;
            if (d) {
                draw(list, most, d_mlp, &random, other);
                list = other;
            }
            for (size_t c = 0; !rc && c < n_counts; c++)
                rc = take_out(list, counts[c], a->n_layers, units, edits++, err);
        }
    free(other);
    free(units);
    return rc;
}

int neuron_ablation_run(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                        const int32_t *answers, const struct neuron_activity *a, const size_t *counts, size_t n_counts,
                        size_t n_draws, uint64_t seed, struct progress *progress, struct err *err)
{
    size_t d_mlp = runtime_model(rt)->config.d_mlp, n_variants, n;
    *r = (struct ablation_run){ 0 };
    n_draws = n_draws ? n_draws : ABLATION_DRAWS;
    int rc = check_counts(a, counts, n_counts, d_mlp, err);
    if (rc)
        return rc;
    if (!size_mul(1 + n_draws, n_counts, &n_variants) || !size_mul(n_variants, a->n_facts, &n))
        return err_nomem(err, "edits");
    struct edit_list *edits = mem_zeroed(n, sizeof *edits);
    rc = edits ? make_edits(a, counts, n_counts, n_draws, seed, d_mlp, edits, err) : err_nomem(err, "edits");
    const struct ablation_plan plan = {
        .rt = rt, .prompts = prompts, .answers = answers, .n_variants = n_variants, .edits = edits, .by_fact = true
    };
    rc = rc ? rc : ablation_run(r, &plan, a->n_facts, progress, err);
    if (!rc) {
        r->n_draws = n_draws;
        r->n_counts = n_counts;
    }
    ablation_free_edits(edits, n);
    return rc;
}

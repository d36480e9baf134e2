#include "analyses/report/knockout_report.h"

#include "analyses/plot/figures.h"
#include "analyses/report/token_text.h"
#include "core/base/mem.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- facts --- */

static void release_fact(struct knockout_fact *f)
{
    free(f->id);
    free(f->prompt);
    free(f->subject);
    free(f->relation);
    free(f->answer);
}

/* The answer as the fact has it, or the token that stands for it. */
static int answer_text(const struct model *m, const struct prepared *p, int32_t token, bool own, char **out,
                       struct err *err)
{
    if (own || !*p->answer)
        return token_text_copy(m, token, out, err);
    *out = mem_strdup(p->answer);
    return *out ? 0 : err_nomem(err, "an answer");
}

static int copy_fact(struct knockout_report *r, const struct knockout *k, const struct prepared *p, size_t i,
                     struct err *err)
{
    struct knockout_fact *f = &r->facts[r->n_facts];
    *f = (struct knockout_fact){ .id = mem_strdup(p->id),
                                 .prompt = mem_strdup(p->text),
                                 .subject = mem_strdup(p->subject),
                                 .relation = mem_strdup(p->relation),
                                 .answer_token = k->answer[i],
                                 .base_rank = k->base_rank[i],
                                 .base_prob = k->base_prob[i] };
    int rc = answer_text(r->model, p, k->answer[i], r->own_answer || p->answer_token < 0, &f->answer, err);
    if (!rc && (!f->id || !f->prompt || !f->subject || !f->relation))
        rc = err_nomem(err, "a fact");
    if (rc) {
        release_fact(f);
        return rc;
    }
    size_t n = KNOCKOUT_SETS * r->n_layers;
    memcpy(r->prob + r->n_facts * n, k->prob + i * n, n * sizeof *r->prob);
    memcpy(r->change + r->n_facts * n, k->change + i * n, n * sizeof *r->change);
    r->n_facts++;
    return 0;
}

static int copy_tokens(struct knockout_report *r, const struct knockout *k, const struct prepared *p, struct err *err)
{
    size_t n = p->tokens.n;
    r->token_prob = mem_array(n * r->n_layers, sizeof *r->token_prob);
    r->tokens = mem_zeroed(n, sizeof *r->tokens);
    if (!r->token_prob || !r->tokens)
        return err_nomem(err, "the tokens of a fact");
    memcpy(r->token_prob, k->token_prob, n * r->n_layers * sizeof *r->token_prob);
    r->n_tokens = n;
    int rc = 0;
    for (size_t t = 0; !rc && t < n; t++)
        rc = token_text_copy(r->model, p->tokens.id[t], &r->tokens[t], err);
    return rc;
}

int knockout_report_add(struct knockout_report *r, const struct knockout *k, const struct prepared *const *items,
                        struct err *err)
{
    size_t n = KNOCKOUT_SETS * r->n_layers;
    int rc = 0;
    if (!mem_grow(&r->facts, &r->facts_capacity, r->n_facts + k->n_facts, sizeof *r->facts) ||
        !mem_grow(&r->prob, &r->prob_capacity, (r->n_facts + k->n_facts) * n, sizeof *r->prob) ||
        !mem_grow(&r->change, &r->change_capacity, (r->n_facts + k->n_facts) * n, sizeof *r->change))
        return err_nomem(err, "the results of facts");
    for (size_t i = 0; !rc && i < k->n_facts; i++)
        if (!r->known_only || k->base_rank[i] == 1)
            rc = copy_fact(r, k, items[i], i, err);
    if (!rc && k->token_prob && k->n_facts == 1)
        rc = copy_tokens(r, k, items[0], err);
    r->n_given += k->n_facts;
    r->n_known += k->n_known;
    r->n_first += k->n_first;
    for (size_t s = 0; s < KNOCKOUT_SETS; s++)
        r->n_empty[s] += k->n_empty[s];
    return rc;
}

void knockout_report_release(struct knockout_report *r)
{
    for (size_t i = 0; i < r->n_facts; i++)
        release_fact(&r->facts[i]);
    for (size_t t = 0; t < r->n_tokens; t++)
        free(r->tokens[t]);
    free(r->facts);
    free(r->prob);
    free(r->change);
    free(r->curves.mean);
    free(r->thirds.mean);
    free(r->token_prob);
    free(r->tokens);
    *r = (struct knockout_report){ 0 };
}

/* --- averages --- */

static int average(const double *values, size_t n_facts, size_t n_series, const uint32_t *subjects, size_t n_subjects,
                   uint64_t seed, struct knockout_band *out, struct err *err)
{
    const struct bootstrap b = { .values = values,
                                 .n_rows = n_facts,
                                 .n_series = n_series,
                                 .cluster = subjects,
                                 .n_clusters = n_subjects,
                                 .seed = seed };
    out->mean = mem_array(n_series, 3 * sizeof *out->mean);
    if (!out->mean)
        return err_nomem(err, "averages");
    out->low = out->mean + n_series;
    out->high = out->low + n_series;
    return bootstrap_means(&b, out->mean, out->low, out->high, err);
}

int knockout_report_average(struct knockout_report *r, uint64_t seed, struct err *err)
{
    size_t n = r->n_facts, sets = n * KNOCKOUT_SETS;
    const char **labels = mem_array(n, sizeof *labels);
    uint32_t *subjects = mem_array(n, sizeof *subjects);
    double *thirds = mem_array(sets, KNOCKOUT_THIRDS * sizeof *thirds);
    int rc = labels && subjects && thirds ? 0 : err_nomem(err, "averages");
    for (size_t i = 0; !rc && i < n; i++)
        labels[i] = r->facts[i].subject;
    for (size_t i = 0; !rc && i < sets; i++)
        knockout_thirds(r->change + i * r->n_layers, r->n_layers, thirds + i * KNOCKOUT_THIRDS);
    rc = rc ? rc : statistics_clusters(labels, n, subjects, &r->n_subjects, err);
    rc = rc ? rc : average(r->change, n, KNOCKOUT_SETS * r->n_layers, subjects, r->n_subjects, seed, &r->curves, err);
    rc = rc ? rc
            : average(thirds, n, (size_t)KNOCKOUT_SETS * KNOCKOUT_THIRDS, subjects, r->n_subjects, seed, &r->thirds,
                      err);
    free(labels);
    free(subjects);
    free(thirds);
    return rc;
}

/* --- figures --- */

void knockout_report_window(const struct knockout_report *r, struct strbuf *out)
{
    strbuf_addf(out, "%zu layer%s", r->window, r->window == 1 ? "" : "s");
    if (r->default_window)
        strbuf_addf(out, " (3/16 of %zu)", r->n_layers);
}

static int draw_curves(const struct knockout_report *r, const struct plot_target *target, struct err *err)
{
    struct curve_line lines[KNOCKOUT_SETS];
    bool bands = r->n_subjects > 1;
    for (size_t s = 0; s < KNOCKOUT_SETS; s++) {
        size_t at = s * r->n_layers;
        lines[s] = (struct curve_line){ .name = knockout_keys_name((enum knockout_keys)s),
                                        .middle = r->curves.mean + at,
                                        .low = bands ? r->curves.low + at : NULL,
                                        .high = bands ? r->curves.high + at : NULL };
    }
    const struct curve_figure f = { .n_layers = r->n_layers,
                                    .n_lines = KNOCKOUT_SETS,
                                    .lines = lines,
                                    .x_name = "layer in the middle of the blocked window",
                                    .y_name = "change of p(answer), %",
                                    .band_name = bands ? "95 % bootstrap over subjects" : NULL,
                                    .y_low = NAN,
                                    .y_high = NAN };
    struct plot_target to = *target;
    to.name = "knockout";
    to.title = "The answer when the last token may not attend to these tokens";
    return plot_curves(&to, &f, err);
}

static int draw_tokens(const struct knockout_report *r, const struct plot_target *target, struct err *err)
{
    const struct heat_figure f = { .n_rows = r->n_tokens,
                                   .n_columns = r->n_layers,
                                   .values = r->token_prob,
                                   .row_labels = (const char *const *)r->tokens,
                                   .row_name = "blocked token",
                                   .column_name = "layer in the middle of the blocked window",
                                   .value_name = "p(answer)",
                                   .rows_down = true };
    struct plot_target to = *target;
    to.name = "tokens";
    to.title = "The answer when the last token may not attend to one token";
    return plot_heat(&to, &f, err);
}

static void add_caption(const struct knockout_report *r, struct strbuf *out)
{
    if (r->n_facts == 1)
        strbuf_addf(out, "%s ... %s, p = %.3g", r->facts->prompt, r->facts->answer, r->facts->base_prob);
    else
        strbuf_addf(out, "n = %zu facts, %zu subjects", r->n_facts, r->n_subjects);
    strbuf_adds(out, "; window: ");
    knockout_report_window(r, out);
    strbuf_addf(out, "%s; norm convention: lens", r->spare_first ? "; token 0 never blocked" : "");
}

static int draw_all(const void *report, const char *folder, struct err *err)
{
    const struct knockout_report *r = report;
    struct plots plots = { 0 };
    struct err ignored;
    struct strbuf caption = STRBUF_INIT;
    add_caption(r, &caption);
    if (strbuf_failed(&caption)) {
        strbuf_release(&caption);
        return err_nomem(err, "captions");
    }
    const struct plot_target target = { .folder = folder, .subtitle = strbuf_text(&caption), .plots = &plots };
    int rc = draw_curves(r, &target, err);
    if (rc >= 0 && r->token_prob)
        rc = draw_tokens(r, &target, err);
    int drawn = plots_wait(&plots, rc < 0 ? &ignored : err);
    strbuf_release(&caption);
    return rc < 0 ? rc : drawn;
}

const struct result_kind knockout_result = {
    .name = "knockout",
    .format = "strata-knockout",
    .norm = "lens",
    .text = knockout_report_text,
    .json = knockout_report_json,
    .csv = { { "knockout", knockout_report_csv }, { "curves", knockout_report_curves_csv } },
    .h5 = knockout_report_put,
    .figures = draw_all,
    .json_wins = true,
};

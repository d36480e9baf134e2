#include "analyses/report/curves_report.h"
#include "analyses/plot/figures.h"
#include "analyses/report/page.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void curves_report_csv(const struct curves_report *r, struct strbuf *out)
{
    const struct lens_curves *c = r->curves;
    strbuf_adds(out, "layer,label,n");
    for (int k = 0; k < LENS_CURVE_COUNT; k++)
        strbuf_addf(out, ",%s", lens_curve_name((enum lens_curve)k));
    strbuf_addc(out, '\n');
    for (size_t s = 0; s < c->n_states; s++) {
        strbuf_addf(out, "%zu,", s);
        strbuf_add_csv(out, r->labels[s], strlen(r->labels[s]));
        strbuf_addf(out, ",%zu", c->n_facts);
        for (int k = 0; k < LENS_CURVE_COUNT; k++) {
            strbuf_addc(out, ',');
            if (isfinite(c->value[k][s]))
                strbuf_addf(out, "%.9g", c->value[k][s]);
        }
        strbuf_addc(out, '\n');
    }
}

static void add_key(struct strbuf *out, const char *key)
{
    strbuf_addf(out, ",\"%s\":", key);
}

static void add_text(struct strbuf *out, const char *key, const char *text)
{
    add_key(out, key);
    strbuf_add_json(out, text, strlen(text));
}

static void add_number(struct strbuf *out, const char *key, double x)
{
    add_key(out, key);
    if (isfinite(x))
        strbuf_addf(out, "%.9g", x);
    else
        strbuf_adds(out, "null");
}

static void add_count(struct strbuf *out, const char *key, uint64_t n)
{
    strbuf_addf(out, ",\"%s\":%" PRIu64, key, n);
}

static void add_summary(struct strbuf *out, const char *key, const struct depth_summary *d)
{
    strbuf_addf(out, ",\"%s\":{\"n\":%zu", key, d->n);
    add_number(out, "median", d->median);
    add_number(out, "q1", d->q1);
    add_number(out, "q3", d->q3);
    strbuf_addc(out, '}');
}

void curves_report_json(const struct curves_report *r, struct strbuf *out)
{
    const struct lens_curves *c = r->curves;
    strbuf_adds(out, "{\"format\":\"strata-curves\",\"version\":1,\"norm\":\"lens\"");
    add_text(out, "source", r->source);
    add_text(out, "model", r->model);
    add_text(out, "site", r->site);
    add_count(out, "n_facts", c->n_facts);
    add_count(out, "n_subjects", c->n_subjects);
    strbuf_addf(out, ",\"band_over\":\"%s\"", r->has_subjects ? "subjects" : "facts");
    add_count(out, "draws", r->n_draws);
    add_count(out, "seed", r->seed);
    strbuf_addf(out, ",\"left_out\":{\"prompts_without_answer\":%zu,\"rows_at_other_positions\":%zu}",
                r->n_without_answer, r->n_other_positions);
    add_summary(out, "first_rank1", &c->first_rank1);
    add_summary(out, "prediction_depth", &c->depth);
    add_count(out, "never_rank1", c->never_rank1);
    add_count(out, "final_rank1", c->final_rank1);
    add_count(out, "lost", c->lost);
    add_count(out, "steepest", c->steepest);
    strbuf_adds(out, ",\"layers\":[");
    for (size_t s = 0; s < c->n_states; s++) {
        strbuf_addf(out, "%s{\"layer\":%zu", s ? "," : "", s);
        add_text(out, "label", r->labels[s]);
        for (int k = 0; k < LENS_CURVE_COUNT; k++)
            add_number(out, lens_curve_name((enum lens_curve)k), c->value[k][s]);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "]}\n");
}

/* A name of at least `width` columns: labels are stranger's text, so they are shown, not copied. */
static void add_padded(struct strbuf *out, const char *text, size_t width)
{
    struct strbuf shown = STRBUF_INIT;
    plot_show(&shown, text, 16);
    size_t used = plot_width(strbuf_text(&shown));
    strbuf_addf(out, "%s%*s", strbuf_text(&shown), used < width ? (int)(width - used) : 0, "");
    out->failed |= strbuf_failed(&shown);
    strbuf_release(&shown);
}

static void add_text_summary(struct strbuf *out, const char *what, const struct depth_summary *d, size_t n_facts)
{
    if (d->n)
        strbuf_addf(out, "%s: depth %.3g (median; quartiles %.3g and %.3g; %zu of %zu facts)\n", what, d->median, d->q1,
                    d->q3, d->n, n_facts);
}

static void add_steepest(const struct curves_report *r, struct strbuf *out)
{
    const struct lens_curves *c = r->curves;
    const double *median = c->value[CURVE_RANK_MEDIAN];
    strbuf_adds(out, "median rank improves most from ");
    add_padded(out, r->labels[c->steepest - 1], 0);
    strbuf_adds(out, " to ");
    add_padded(out, r->labels[c->steepest], 0);
    strbuf_addf(out, ": from %.6g to %.6g\n", median[c->steepest - 1], median[c->steepest]);
}

/* Residual states build on each other; what sublayers and heads write does not, so nothing settles there. */
static bool is_residual(const struct curves_report *r)
{
    return strstr(r->labels[0], "_pre") != NULL;
}

void curves_report_text(const struct curves_report *r, struct strbuf *out)
{
    const struct lens_curves *c = r->curves;
    double *const *v = c->value;
    strbuf_addf(out, "n = %zu facts, %zu subjects; norm convention: lens\n", c->n_facts, c->n_subjects);
    if (r->n_without_answer || r->n_other_positions)
        strbuf_addf(out, "left out: %zu prompts without an answer, %zu rows at other positions than the last\n",
                    r->n_without_answer, r->n_other_positions);
    strbuf_addf(out, "\n%5s  %-16s %12s %21s %7s %7s %8s %11s %8s%s\n", "layer", "label", "median rank", "quartiles",
                "hit@1", "hit@10", "p", "candidates", "KL", c->has_competitors ? "   rivals >=" : "");
    for (size_t s = 0; s < c->n_states; s++) {
        char quartiles[64];
        snprintf(quartiles, sizeof quartiles, "%.6g - %.6g", v[CURVE_RANK_Q1][s], v[CURVE_RANK_Q3][s]);
        strbuf_addf(out, "%5zu  ", s);
        add_padded(out, r->labels[s], 16);
        strbuf_addf(out, " %12.6g %21s %6.1f%% %6.1f%% %8.4f %11.5g %8.4f", v[CURVE_RANK_MEDIAN][s], quartiles,
                    100 * v[CURVE_HIT1][s], 100 * v[CURVE_HIT10][s], v[CURVE_PROB_MEAN][s],
                    v[CURVE_CANDIDATES_MEDIAN][s], v[CURVE_KL_MEAN][s]);
        if (c->has_competitors)
            strbuf_addf(out, " %11.4f", v[CURVE_COMPETITORS_MEAN][s]);
        strbuf_addc(out, '\n');
    }
    if (!is_residual(r))
        return;
    strbuf_addc(out, '\n');
    add_text_summary(out, "answer first on rank 1", &c->first_rank1, c->n_facts);
    add_text_summary(out, "top token settled", &c->depth, c->n_facts);
    strbuf_addf(out, "on rank 1 in the end: %zu; on rank 1 before but not in the end: %zu; never: %zu\n",
                c->final_rank1, c->lost, c->never_rank1);
    if (c->steepest)
        add_steepest(r, out);
}

/* One figure of the set: title, file name, and the curves with everything that differs. */
struct sheet {
    const char *name, *title;
    struct curve_figure figure;
};

static int draw_sheet(const struct curves_report *r, const struct plot_target *target, const struct sheet *sheet,
                      struct err *err)
{
    struct plot_target to = *target;
    to.name = sheet->name;
    to.title = sheet->title;
    struct curve_figure f = sheet->figure;
    f.n_layers = r->curves->n_states;
    f.labels = r->labels;
    /* Sublayers and heads have labels of their own; only residual states are "what enters block L". */
    f.x_name = is_residual(r) ? NULL : "site, in the order of the model";
    return plot_curves(&to, &f, err);
}

static int draw_depth(const struct curves_report *r, const struct plot_target *target, struct err *err)
{
    const struct lens_curves *c = r->curves;
    const struct bar_series series[] = { { "answer on rank 1 for the first time", c->value[CURVE_FIRST_RANK1] },
                                         { "top token settled (prediction depth)", c->value[CURVE_SETTLED] } };
    const struct bar_figure f = { .n_groups = c->n_states,
                                  .n_series = c->depth.n ? 2 : 1,
                                  .labels = r->labels,
                                  .series = series,
                                  .x_name = PLOT_DEPTH_NAME,
                                  .y_name = "share of facts" };
    struct plot_target to = *target;
    to.name = "depth";
    to.title = "Where the answer first wins, and where the prediction settles";
    return plot_bars(&to, &f, err);
}

/* Heads of a layer where the states are L0H0, L0H1, ... and a last one; else 0. */
static size_t heads_per_layer(const struct curves_report *r)
{
    size_t n = r->curves->n_states - 1, n_heads = 0;
    char label[64];
    while (n_heads < n && !strncmp(r->labels[n_heads], "L0H", 3))
        n_heads++;
    if (!n_heads || n % n_heads)
        return 0;
    for (size_t s = 0; s < n; s++) {
        snprintf(label, sizeof label, "L%zuH%zu", s / n_heads, s % n_heads);
        if (strcmp(label, r->labels[s]))
            return 0;
    }
    return n_heads;
}

static int draw_heads(const struct curves_report *r, const struct plot_target *target, size_t n_heads, struct err *err)
{
    const struct heat_figure f = { .n_rows = (r->curves->n_states - 1) / n_heads,
                                   .n_columns = n_heads,
                                   .values = r->curves->value[CURVE_MRR],
                                   .row_name = "layer",
                                   .column_name = "head",
                                   .value_name = "mean of 1 / rank of the answer",
                                   .row_prefix = "L",
                                   .column_prefix = "H",
                                   .n_marked = 5 };
    struct plot_target to = *target;
    to.name = "heads";
    to.title = "Heads whose output alone puts the answer near the top";
    return plot_heat(&to, &f, err);
}

/* All side by side; a missing gnuplot does not stop the text files of the others. */
static int draw_all(const struct curves_report *r, const char *folder, const char *caption, const struct sheet *sheets,
                    size_t n, struct err *err)
{
    struct plots plots = { 0 };
    struct err ignored;
    const struct plot_target target = { .folder = folder, .subtitle = caption, .plots = &plots };
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < n; i++)
        rc = draw_sheet(r, &target, &sheets[i], err);
    size_t n_heads = heads_per_layer(r);
    if (rc >= 0 && is_residual(r))
        rc = draw_depth(r, &target, err);
    if (rc >= 0 && n_heads)
        rc = draw_heads(r, &target, n_heads, err);
    int drawn = plots_wait(&plots, rc < 0 ? &ignored : err);
    return rc < 0 ? rc : drawn;
}

int curves_report_figures(const struct curves_report *r, const char *folder, struct err *err)
{
    const struct lens_curves *c = r->curves;
    double *const *v = c->value;
    struct strbuf caption = STRBUF_INIT, rivals = STRBUF_INIT;
    strbuf_addf(&caption, "n = %zu facts, %zu subjects; norm convention: lens", c->n_facts, c->n_subjects);
    if (*r->site)
        strbuf_addf(&caption, "; site: %s", r->site);
    if (*r->model)
        strbuf_addf(&caption, "; %s", r->model);
    strbuf_addf(&rivals, "rivals in the top %zu (a lower bound)", r->top_k);
    const char *band = r->has_subjects ? "95 % bootstrap over subjects" : "95 % bootstrap over facts";

    const struct curve_line rank[] = { { "median", v[CURVE_RANK_MEDIAN], v[CURVE_RANK_Q1], v[CURVE_RANK_Q3] } };
    const struct curve_line prob[] = { { "mean", v[CURVE_PROB_MEAN], v[CURVE_PROB_LOW], v[CURVE_PROB_HIGH] } };
    const struct curve_line hits[] = { { "hit@1", v[CURVE_HIT1], v[CURVE_HIT1_LOW], v[CURVE_HIT1_HIGH] },
                                       { "hit@10", v[CURVE_HIT10], v[CURVE_HIT10_LOW], v[CURVE_HIT10_HIGH] } };
    const struct curve_line candidates[] = { { "median", v[CURVE_CANDIDATES_MEDIAN], v[CURVE_CANDIDATES_Q1],
                                               v[CURVE_CANDIDATES_Q3] } };
    const struct curve_line mass[] = { { "answer", v[CURVE_PROB_MEAN], v[CURVE_PROB_LOW], v[CURVE_PROB_HIGH] },
                                       { strbuf_text(&rivals), v[CURVE_COMPETITORS_MEAN], v[CURVE_COMPETITORS_LOW],
                                         v[CURVE_COMPETITORS_HIGH] } };
    const struct sheet sheets[] = {
        { "rank",
          "Rank of the answer against depth",
          { .lines = rank,
            .n_lines = 1,
            .y_name = "rank of the answer (1 = top)",
            .band_name = "quartiles",
            .log = true,
            .reversed = true,
            .y_low = NAN,
            .y_high = NAN } },
        { "probability",
          "Probability of the answer against depth",
          { .lines = prob, .n_lines = 1, .y_name = "mean probability", .band_name = band, .y_low = 0, .y_high = NAN } },
        { "hits",
          "Facts whose answer is on top",
          { .lines = hits, .n_lines = 2, .y_name = "share of facts", .band_name = band, .y_low = 0, .y_high = NAN } },
        { "candidates",
          "How many candidates are left",
          { .lines = candidates,
            .n_lines = 1,
            .y_name = "effective number of candidates, exp(entropy)",
            .band_name = "quartiles",
            .log = true,
            .y_low = NAN,
            .y_high = NAN } },
        { "competitors",
          "The answer against other answers of its relation",
          { .lines = mass, .n_lines = 2, .y_name = "mean probability", .band_name = band, .y_low = 0, .y_high = NAN } },
    };
    int rc = strbuf_failed(&caption) || strbuf_failed(&rivals)
                 ? err_nomem(err, "captions")
                 : draw_all(r, folder, strbuf_text(&caption), sheets, c->has_competitors ? 5 : 4, err);
    strbuf_release(&caption);
    strbuf_release(&rivals);
    return rc;
}

int curves_report_page(const struct curves_report *r, const char *folder, struct err *err)
{
    static const char *const files[][2] = { { "curves.csv", "every curve, one line a depth" },
                                            { "curves.json", "the same with what was left out" },
                                            { NULL, NULL } };
    struct page page;
    struct strbuf about = STRBUF_INIT, text = STRBUF_INIT;
    strbuf_addf(&about, "n = %zu facts, %zu subjects; norm convention: lens; site: ", r->curves->n_facts,
                r->curves->n_subjects);
    plot_show(&about, r->site, 40);
    strbuf_adds(&about, "; model: ");
    plot_show(&about, r->model, 80);
    strbuf_adds(&about, "; from ");
    plot_show(&about, r->source, 120);
    curves_report_text(r, &text);
    page_begin(&page, "Answers against depth", strbuf_text(&about));
    page_figure(&page, folder, "rank", "Median rank of the answer (log scale, 1 on top) with quartiles.");
    page_figure(&page, folder, "probability", "Mean probability of the answer.");
    page_figure(&page, folder, "hits", "Share of facts whose answer is the top token, and among the top 10.");
    page_figure(&page, folder, "candidates", "exp(entropy): between how many tokens the prediction hesitates.");
    if (is_residual(r))
        page_figure(&page, folder, "depth", "Where the answer first wins, and from where on the top token stays.");
    if (heads_per_layer(r))
        page_figure(&page, folder, "heads", "Mean of 1 / rank of the answer in what each head writes, by itself.");
    if (r->curves->has_competitors)
        page_figure(&page, folder, "competitors",
                    "Probability of the answer, and of other answers of its relation among the top tokens.");
    page_text(&page, "In numbers", strbuf_text(&text));
    page_files(&page, files);
    page.html.failed |= strbuf_failed(&about) || strbuf_failed(&text);
    strbuf_release(&about);
    strbuf_release(&text);
    return page_finish(&page, folder, "index.html", err);
}

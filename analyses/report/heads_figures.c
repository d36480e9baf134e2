/* Figures of heads. */
#include "analyses/plot/figures.h"
#include "analyses/plot/plot.h"
#include "analyses/report/ablation_report.h"
#include "analyses/report/heads_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct figures {
    const struct heads_report *r;
    const char *folder;
    struct plots plots;
    struct strbuf subtitle;
};

/* What n counts. */
enum counted { FACTS, PAIRS, PROMPTS };

static struct plot_target target(struct figures *f, const char *name, const char *title, const char *about,
                                 enum counted counted)
{
    const struct known_facts *k = f->r->facts;
    strbuf_reset(&f->subtitle);
    strbuf_addf(&f->subtitle, "%s; ", about);
    if (counted == PROMPTS) {
        strbuf_addf(&f->subtitle, "n = %zu prompts of twice %zu tokens", f->r->patterns.n_prompts,
                    f->r->patterns.n_tokens);
    } else if (counted == PAIRS) {
        size_t n_pairs = 0;
        for (size_t i = 0; i < f->r->map.n_relations; i++)
            n_pairs += f->r->relations[i].copying ? 0 : f->r->relations[i].n_pairs;
        strbuf_addf(&f->subtitle, "n = %zu pairs", n_pairs);
    } else if (k->n == 1) {
        plot_show(&f->subtitle, k->facts[0]->text, 50);
        strbuf_adds(&f->subtitle, " \xe2\x86\x92 ");
        token_text_padded(&f->subtitle, f->r->model, k->answers[0], 0);
    } else {
        strbuf_addf(&f->subtitle, "n = %zu facts", k->n);
    }
    strbuf_adds(&f->subtitle, "; ");
    plot_show(&f->subtitle, file_base_name(f->r->model->path), 36);
    f->plots.failed |= strbuf_failed(&f->subtitle);
    return (struct plot_target){
        .folder = f->folder, .name = name, .title = title, .subtitle = strbuf_text(&f->subtitle), .plots = &f->plots
    };
}

struct layer_map {
    const char *name, *title, *about, *value_name;
    const double *values;
    bool diverging;
    enum counted counted;
};

static int draw_map(struct figures *f, const struct layer_map *m, struct err *err)
{
    const struct model_config *c = &f->r->model->config;
    const struct heat_figure figure = { .n_rows = c->n_layers,
                                        .n_columns = c->n_heads,
                                        .values = m->values,
                                        .row_name = "layer",
                                        .column_name = "head",
                                        .value_name = m->value_name,
                                        .row_prefix = "L",
                                        .column_prefix = "H",
                                        .n_marked = 5,
                                        .diverging = m->diverging };
    const struct plot_target to = target(f, m->name, m->title, m->about, m->counted);
    return plot_heat(&to, &figure, err);
}

static bool any_finite(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isfinite(values[i]))
            return true;
    return false;
}

static int draw_maps(struct figures *f, struct err *err)
{
    const struct heads_report *r = f->r;
    const char *norm = "norm convention: attribution";
    const struct layer_map maps[] = {
        { "logit", "What each head adds to the answer's logit", norm, "mean logits", r->mean, true, FACTS },
        { "from_subject", "Of that, what was read from the subject's tokens", norm, "mean logits", r->from_subject,
          true, FACTS },
        { "to_subject", "Attention of the last token on the subject", "last token", "mean attention weight",
          r->to_subject, false, FACTS },
        { "without", "p(answer) without each head", "z of one head replaced at the last token",
          "mean change of p(answer), %", r->single_drop, true, FACTS },
        { "previous", "Previous-token heads", "random tokens, repeated", "mean attention weight",
          r->patterns.score[PATTERN_PREVIOUS], false, PROMPTS },
        { "duplicate", "Duplicate-token heads", "random tokens, repeated", "mean attention weight",
          r->patterns.score[PATTERN_DUPLICATE], false, PROMPTS },
        { "induction", "Induction heads", "random tokens, repeated", "mean attention weight",
          r->patterns.score[PATTERN_INDUCTION], false, PROMPTS },
        { "hubs", "Pairs <entity, attribute> in each head's weights",
          "object in the top 10 of MLP0(ln2(E_s)) W_V W_O W_U", "share of all relations' pairs",
          r->map.n_relations ? r->hub : NULL, false, PAIRS },
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof maps / sizeof *maps; i++)
        if (maps[i].values && any_finite(maps[i].values, r->attribution.n_heads))
            rc = draw_map(f, &maps[i], err);
    return rc;
}

/* --- heads by source token, of one fact --- */

static int draw_sources(struct figures *f, struct err *err)
{
    enum { ROWS = 16 };
    const struct heads_report *r = f->r;
    const struct head_attribution *a = &r->attribution;
    if (!a->source || r->facts->n != 1)
        return 0;
    const struct prepared *fact = r->facts->facts[0];
    size_t n = fact->tokens.n, rows = a->n_heads < ROWS ? a->n_heads : ROWS;
    char names[ROWS][HEAD_NAME_MAX];
    const char *labels[ROWS];
    double *values = mem_array(rows * n, sizeof *values);
    char **tokens = mem_zeroed(n, sizeof *tokens);
    int rc = values && tokens ? 0 : err_nomem(err, "a figure");
    for (size_t k = 0; !rc && k < n; k++)
        rc = token_text_label(r->model, fact->tokens.id[k], &tokens[k], err);
    for (size_t i = 0; !rc && i < rows; i++) {
        labels[i] = heads_report_name(r, r->by_mean[i], names[i]);
        for (size_t k = 0; k < n; k++)
            values[i * n + k] = a->source[r->by_mean[i] * n + k];
    }
    const struct heat_figure figure = { .n_rows = rows,
                                        .n_columns = n,
                                        .values = values,
                                        .row_labels = labels,
                                        .column_labels = (const char *const *)tokens,
                                        .row_name = "head, by what it adds",
                                        .column_name = "token that is read",
                                        .value_name = "logits",
                                        .diverging = true,
                                        .rows_down = true };
    if (!rc) {
        const struct plot_target to = target(f, "sources", "Where the heads read what they add to the answer's logit",
                                             "norm convention: attribution", FACTS);
        rc = plot_heat(&to, &figure, err);
    }
    for (size_t k = 0; tokens && k < n; k++)
        free(tokens[k]);
    free(tokens);
    free(values);
    return rc;
}

/* --- ablation --- */

static int draw_ablation(struct figures *f, struct err *err)
{
    const struct heads_report *r = f->r;
    const struct ablation_report a = { .run = &r->ranked,
                                       .counts = r->counts,
                                       .n_counts = r->n_counts,
                                       .what = "heads",
                                       .ranking = heads_ranking_words(r->ranking) };
    if (!r->ranked.n_variants)
        return 0;
    const struct plot_target to =
        target(f, "ablation", "The answer without heads",
               r->ablation.everywhere ? "taken out at every token" : "taken out at the last token", FACTS);
    return ablation_report_figure(&a, &to, err);
}

/* --- weights --- */

static int draw_relations(struct figures *f, struct err *err)
{
    const struct heads_report *r = f->r;
    size_t n = r->map.n_relations;
    if (!n)
        return 0;
    const char **names = mem_array(n, sizeof *names);
    if (!names)
        return err_nomem(err, "a figure");
    for (size_t i = 0; i < n; i++)
        names[i] = r->relations[i].name;
    const struct maps_figure figure = { .n_maps = n,
                                        .n_rows = r->model->config.n_layers,
                                        .n_columns = r->model->config.n_heads,
                                        .values = r->map.promote,
                                        .names = names,
                                        .row_name = "layer",
                                        .column_name = "head",
                                        .row_prefix = "L",
                                        .column_prefix = "H",
                                        .value_name = "share of the relation's pairs" };
    struct plot_target to = target(f, "relations", "Relations in the weights of each head",
                                   "object in the top 10 of MLP0(ln2(E_s)) W_V W_O W_U (copying: top 1)", PAIRS);
    int rc = plot_maps(&to, &figure, err);
    free(names);
    return rc;
}

static int draw_all(const void *report, const char *folder, struct err *err)
{
    const struct heads_report *r = report;
    struct figures f = { .r = r, .folder = folder };
    struct err ignored;
    int rc = draw_maps(&f, err);
    rc = rc ? rc : draw_sources(&f, err);
    rc = rc ? rc : draw_ablation(&f, err);
    rc = rc ? rc : draw_relations(&f, err);
    int drawn = plots_wait(&f.plots, rc < 0 ? &ignored : err);
    strbuf_release(&f.subtitle);
    return rc < 0 ? rc : drawn;
}

const struct result_kind heads_result = {
    .name = "heads",
    .format = "strata-heads",
    .norm = "attribution",
    .text = heads_report_text,
    .json = heads_report_json,
    .csv = { { "heads", heads_report_csv },
             { "relations", heads_report_map_csv },
             { "ablation", heads_report_ablation_csv } },
    .csv_norms = { [2] = "lens" },
    .h5 = heads_report_put,
    .figures = draw_all,
    .json_wins = true,
};

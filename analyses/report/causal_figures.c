/* Figures of causal tracing: heat maps of one fact or of the averages, and curves of the averages. */
#include "analyses/plot/figures.h"
#include "analyses/plot/plot.h"
#include "analyses/report/causal_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in the paper: what is restored, its colours. */
static const struct look {
    const char *what, *label;
    enum heat_colours colours;
} looks[N_CAUSAL_KINDS] = {
    [CAUSAL_STATE] = { "one state", "state", HEAT_PURPLES },
    [CAUSAL_MLP] = { "a window of FFN outputs", "FFN window", HEAT_GREENS },
    [CAUSAL_ATTN] = { "a window of attention outputs", "attention window", HEAT_REDS },
    [CAUSAL_SEVERED_MLP] = { "one state", "state, later FFN frozen", HEAT_PURPLES },
    [CAUSAL_SEVERED_ATTN] = { "one state", "state, later attention frozen", HEAT_PURPLES },
};

struct figures {
    const struct causal_report *r;
    const char *folder;
    struct plots plots;
    struct strbuf subtitle;
    char **layers; /* [n_layers] "0", "1", ... */
};

static struct plot_target target(struct figures *f, const char *name, const char *title, bool windows)
{
    const struct causal_report *r = f->r;
    const struct causal_options *o = r->options;
    strbuf_reset(&f->subtitle);
    if (r->n == 1) {
        plot_show(&f->subtitle, r->facts[0].fact.text, 52);
        strbuf_adds(&f->subtitle, " \xe2\x86\x92 ");
        token_text_padded(&f->subtitle, r->model, r->facts[0].answer, 0);
        strbuf_adds(&f->subtitle, "; ");
    } else
        strbuf_addf(&f->subtitle, "n = %zu facts, %zu subjects; ", r->n, r->summary->n_subjects);
    if (windows)
        strbuf_addf(&f->subtitle, "window %zu layers; ", o->window);
    strbuf_addf(&f->subtitle, "noise %.3g, %zu draws; ", o->noise, o->n_samples);
    plot_show(&f->subtitle, file_base_name(r->model->path), 32);
    f->plots.failed |= strbuf_failed(&f->subtitle);
    return (struct plot_target){
        .folder = f->folder, .name = name, .title = title, .subtitle = strbuf_text(&f->subtitle), .plots = &f->plots
    };
}

/* --- one fact: tokens x layers --- */

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; texts && i < n; i++)
        free(texts[i]);
    free(texts);
}

/* Subject tokens carry a star, as in the paper. */
static int token_labels(const struct causal_report *r, const struct causal_fact *fact, char ***out, struct err *err)
{
    size_t n = fact->fact.tokens.n;
    char **labels = *out = mem_zeroed(n, sizeof *labels);
    for (size_t i = 0; labels && i < n; i++) {
        struct strbuf text = STRBUF_INIT;
        token_text_padded(&text, r->model, fact->fact.tokens.id[i], 0);
        strbuf_adds(&text, i >= fact->fact.subject_begin && i < fact->fact.subject_end ? "*" : "");
        labels[i] = text.data;
        if (strbuf_failed(&text))
            return err_nomem(err, "a figure");
    }
    return labels ? 0 : err_nomem(err, "a figure");
}

static int draw_fact(struct figures *f, enum causal_kind kind, char **labels, struct err *err)
{
    const struct causal_trace *t = &f->r->facts[0].trace;
    char title[96];
    const struct heat_figure figure = { .n_rows = t->n_tokens,
                                        .n_columns = t->n_layers,
                                        .values = t->p[kind],
                                        .row_labels = (const char *const *)labels,
                                        .row_name = "token (* subject, corrupted)",
                                        .column_name = causal_is_grid(kind) && kind != CAUSAL_STATE
                                                           ? "centre of the restored window (layer)"
                                                           : "layer",
                                        .value_name = "p(answer); palest: as corrupted",
                                        .row_prefix = "token ",
                                        .column_prefix = " L",
                                        .n_marked = 3,
                                        .colours = looks[kind].colours,
                                        .least = &t->corrupted,
                                        .rows_down = true };
    snprintf(title, sizeof title, "p(answer) after restoring %s in the corrupted run", looks[kind].what);
    struct plot_target to = target(f, causal_kind_name(kind), title, kind != CAUSAL_STATE);
    return plot_heat(&to, &figure, err);
}

/* --- averages: roles x layers, and curves --- */

static int draw_average(struct figures *f, enum causal_kind kind, struct err *err)
{
    const struct causal_summary *s = f->r->summary;
    const char *labels[N_CAUSAL_ROLES];
    static const enum causal_role order[] = { CAUSAL_ROLE_SUBJECT_FIRST, CAUSAL_ROLE_SUBJECT_MIDDLE,
                                              CAUSAL_ROLE_SUBJECT_LAST,  CAUSAL_ROLE_AFTER,
                                              CAUSAL_ROLE_FURTHER,       CAUSAL_ROLE_LAST };
    static const double zero = 0;
    size_t n = 0;
    char title[96];
    double *values = mem_array(N_CAUSAL_ROLES * s->n_layers, sizeof *values);
    if (!values)
        return err_nomem(err, "a figure");
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct causal_series *series = causal_series_find(s, kind, order[i]);
        if (!series)
            continue;
        memcpy(values + n * s->n_layers, series->mean, s->n_layers * sizeof *values);
        labels[n++] = causal_role_name(order[i]);
    }
    const struct heat_figure figure = { .n_rows = n,
                                        .n_columns = s->n_layers,
                                        .values = values,
                                        .row_labels = labels,
                                        .row_name = "",
                                        .column_name =
                                            kind == CAUSAL_STATE ? "layer" : "centre of the restored window (layer)",
                                        .value_name = "average indirect effect",
                                        .colours = looks[kind].colours,
                                        .least = &zero,
                                        .rows_down = true };
    snprintf(title, sizeof title, "Average indirect effect of %s", looks[kind].what);
    struct plot_target to = target(f, causal_kind_name(kind), title, kind != CAUSAL_STATE);
    int rc = plot_heat(&to, &figure, err);
    free(values);
    return rc;
}

static int draw_lines(struct figures *f, const char *name, const char *title, const struct curve_line *lines, size_t n,
                      bool windows, struct err *err)
{
    const struct curve_figure figure = { .n_layers = f->r->summary->n_layers,
                                         .n_lines = n,
                                         .labels = (const char *const *)f->layers,
                                         .lines = lines,
                                         .x_name = windows ? "layer (of a window: its centre)" : "layer",
                                         .y_name = f->r->n == 1 ? "indirect effect on p(answer)"
                                                                : "average indirect effect on p(answer)",
                                         .band_name = lines[0].low ? "95 %, bootstrap over subjects" : NULL,
                                         .y_low = NAN,
                                         .y_high = NAN };
    struct plot_target to = target(f, name, title, windows);
    return plot_curves(&to, &figure, err);
}

static struct curve_line line_of(const struct causal_series *s, const char *name)
{
    bool band = isfinite(s->low[0]);
    return (struct curve_line){
        .name = name, .middle = s->mean, .low = band ? s->low : NULL, .high = band ? s->high : NULL
    };
}

/* One role: every kind of restoration; or the severed paths. */
static int draw_role(struct figures *f, enum causal_role role, const char *name, const enum causal_kind *kinds,
                     size_t n_kinds, struct err *err)
{
    struct curve_line lines[N_CAUSAL_KINDS];
    size_t n = 0;
    char title[96];
    for (size_t i = 0; i < n_kinds; i++) {
        const struct causal_series *s = causal_series_find(f->r->summary, kinds[i], role);
        if (s)
            lines[n++] = line_of(s, looks[kinds[i]].label);
    }
    snprintf(title, sizeof title, "Restoring the %s", causal_role_name(role));
    return n ? draw_lines(f, name, title, lines, n, kinds[1] == CAUSAL_MLP, err) : 0;
}

static int draw_curves(struct figures *f, struct err *err)
{
    static const enum causal_kind grids[] = { CAUSAL_STATE, CAUSAL_MLP, CAUSAL_ATTN };
    static const enum causal_kind severed[] = { CAUSAL_STATE, CAUSAL_SEVERED_MLP, CAUSAL_SEVERED_ATTN };
    int rc = draw_role(f, CAUSAL_ROLE_SUBJECT_LAST, "subject_last", grids, 3, err);
    rc = rc < 0 ? rc : draw_role(f, CAUSAL_ROLE_LAST, "last", grids, 3, err);
    bool has = causal_series_find(f->r->summary, CAUSAL_SEVERED_MLP, CAUSAL_ROLE_SUBJECT_LAST);
    return rc < 0 || !has ? rc : draw_role(f, CAUSAL_ROLE_SUBJECT_LAST, "severed", severed, 3, err);
}

static int layer_labels(struct figures *f, struct err *err)
{
    size_t n = f->r->summary->n_layers;
    f->layers = mem_zeroed(n, sizeof *f->layers);
    for (size_t l = 0; f->layers && l < n; l++) {
        char text[32];
        snprintf(text, sizeof text, "%zu", l);
        f->layers[l] = mem_strdup(text);
        if (!f->layers[l])
            return err_nomem(err, "a figure");
    }
    return f->layers ? 0 : err_nomem(err, "a figure");
}

static int draw_all(const void *report, const char *folder, struct err *err)
{
    const struct causal_report *r = report;
    struct figures f = { .r = r, .folder = folder };
    struct err ignored;
    char **labels = NULL;
    int rc = layer_labels(&f, err);
    if (!rc && r->n == 1)
        rc = token_labels(r, &r->facts[0], &labels, err);
    for (enum causal_kind k = 0; rc >= 0 && causal_is_grid(k); k++)
        if (r->options->kinds >> k & 1)
            rc = r->n == 1 ? draw_fact(&f, k, labels, err) : draw_average(&f, k, err);
    rc = rc < 0 ? rc : draw_curves(&f, err);
    int drawn = plots_wait(&f.plots, rc < 0 ? &ignored : err);
    if (labels)
        free_texts(labels, r->facts[0].fact.tokens.n);
    free_texts(f.layers, r->summary->n_layers);
    strbuf_release(&f.subtitle);
    return rc < 0 ? rc : drawn;
}

const struct result_kind causal_result = {
    .name = "causal",
    .format = "strata-causal",
    .norm = "lens",
    .text = causal_report_text,
    .json = causal_report_json,
    .csv = { { "causal", causal_report_csv }, { "summary", causal_report_summary_csv } },
    .figures = draw_all,
};

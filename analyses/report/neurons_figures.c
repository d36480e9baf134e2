/* Figures of neurons. */
#include "analyses/plot/figures.h"
#include "analyses/report/ablation_report.h"
#include "analyses/report/neurons_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct figures {
    const struct neurons_report *r;
    const char *folder;
    struct plots plots;
    struct strbuf subtitle;
};

static struct plot_target target(struct figures *f, const char *name, const char *title, const char *about)
{
    const struct known_facts *k = f->r->facts;
    strbuf_reset(&f->subtitle);
    strbuf_addf(&f->subtitle, "%s; ", about);
    if (k->n == 1) {
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

static int draw_layers(struct figures *f, struct err *err)
{
    const struct bar_series series = { .name = "neurons of the layer", .values = f->r->logit };
    const struct bar_figure figure = {
        .n_groups = f->r->activity.n_layers, .n_series = 1, .series = &series, .x_name = "layer", .y_name = "logits"
    };
    const struct plot_target to = target(f, "layers", "What the FFN neurons of each layer add to the answer's logit",
                                         "norm convention: attribution");
    return plot_bars(&to, &figure, err);
}

static int draw_listed(struct figures *f, struct err *err)
{
    const struct neurons_report *r = f->r;
    size_t n = r->n_listed < 12 ? r->n_listed : 12;
    double *values = mem_array(n, sizeof *values);
    char(*names)[48] = mem_array(n, sizeof *names);
    const char **labels = mem_array(n, sizeof *labels);
    int rc = values && names && labels ? 0 : err_nomem(err, "a figure");
    for (size_t i = 0; !rc && i < n; i++) {
        const struct neuron *x = &r->listed[i].neuron;
        values[i] = x->logit;
        snprintf(names[i], sizeof *names, "L%zuN%zu", x->layer, x->unit);
        labels[i] = names[i];
    }
    if (!rc) {
        const struct bar_series series = { .name = "mean over its facts", .values = values };
        const struct bar_figure figure = { .n_groups = n,
                                           .n_series = 1,
                                           .labels = labels,
                                           .series = &series,
                                           .x_name = "neuron, by the sum over all facts",
                                           .y_name = "logits" };
        const struct plot_target to =
            target(f, "neurons", "The neurons that add most to the answer's logit", "norm convention: attribution");
        rc = plot_bars(&to, &figure, err);
    }
    free(names);
    free(labels);
    free(values);
    return rc;
}

static int draw_overlap(struct figures *f, struct err *err)
{
    const struct neurons_report *r = f->r;
    if (!r->n_pairs)
        return 0;
    const struct curve_line lines[] = { { .name = "paraphrases", .middle = r->same },
                                        { .name = "other facts", .middle = r->other } };
    const struct curve_figure figure = { .n_layers = r->activity.n_layers,
                                         .n_lines = isfinite(r->other[0]) ? 2 : 1,
                                         .lines = lines,
                                         .x_name = "layer",
                                         .y_name = "share in common, mean over pairs",
                                         .y_low = 0,
                                         .y_high = 1 };
    char about[80];
    snprintf(about, sizeof about, "the 10 largest |m| of each layer; %zu pairs", r->n_pairs);
    const struct plot_target to = target(f, "overlap", "Neurons that fire for paraphrases of a fact", about);
    return plot_curves(&to, &figure, err);
}

static int draw_entropy(struct figures *f, struct err *err)
{
    const struct neurons_report *r = f->r;
    const struct curve_line line = { .name = "entropy", .middle = r->entropy };
    const struct curve_figure figure = { .n_layers = r->activity.n_layers,
                                         .n_lines = 1,
                                         .lines = &line,
                                         .x_name = "layer",
                                         .y_name = "nats, mean over facts",
                                         .y_low = NAN,
                                         .y_high = NAN };
    const struct plot_target to =
        target(f, "entropy", "How many neurons share the work: entropy of |m| ||v||", "last token");
    return plot_curves(&to, &figure, err);
}

static int draw_ablation(struct figures *f, struct err *err)
{
    const struct neurons_report *r = f->r;
    const struct ablation_report a = { .run = &r->ablation,
                                       .counts = r->counts,
                                       .n_counts = r->n_counts,
                                       .what = "neurons",
                                       .ranking = "neurons that add most" };
    if (!r->ablation.n_variants)
        return 0;
    const struct plot_target to =
        target(f, "ablation", "The answer without FFN neurons", "zero at the last token; random: of the same layers");
    return ablation_report_figure(&a, &to, err);
}

static int draw_all(const void *report, const char *folder, struct err *err)
{
    const struct neurons_report *r = report;
    struct figures f = { .r = r, .folder = folder };
    struct err ignored;
    int rc = draw_layers(&f, err);
    rc = rc ? rc : draw_listed(&f, err);
    rc = rc ? rc : draw_overlap(&f, err);
    rc = rc ? rc : draw_entropy(&f, err);
    rc = rc ? rc : draw_ablation(&f, err);
    int drawn = plots_wait(&f.plots, rc < 0 ? &ignored : err);
    strbuf_release(&f.subtitle);
    return rc < 0 ? rc : drawn;
}

const struct result_kind neurons_result = {
    .name = "neurons",
    .format = "strata-neurons",
    .norm = "attribution",
    .text = neurons_report_text,
    .json = neurons_report_json,
    .csv = { { "neurons", neurons_report_csv },
             { "layers", neurons_report_layers_csv },
             { "ablation", neurons_report_ablation_csv } },
    .csv_norms = { [2] = "lens" },
    .h5 = neurons_report_put,
    .figures = draw_all,
    .json_wins = true,
};

/* Patching sweeps as HDF5 and as figures. */
#include "analyses/plot/figures.h"
#include "analyses/plot/plot.h"
#include "analyses/report/patch_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct prepared *patched(const struct patch_report *r)
{
    return r->direction == PATCH_DENOISE ? r->corrupted : r->clean;
}

/* Tokens of the patched prompt, or H0, H1, ...; NULL when memory is out. For people or for files. */
static char **column_names(const struct patch_report *r, const struct patch_sweep *s, bool shown)
{
    size_t n = s->result.n_columns;
    char **names = mem_zeroed(n, sizeof *names);
    for (size_t c = 0; names && c < n; c++) {
        struct strbuf name = STRBUF_INIT;
        strbuf_adds(&name, "");
        if (s->by == PATCH_BY_HEAD)
            strbuf_addf(&name, "H%zu", c);
        else if (shown)
            token_text_padded(&name, r->model, patched(r)->tokens.id[c], 0);
        else
            token_text(&name, r->model, patched(r)->tokens.id[c]);
        names[c] = name.data;
        if (strbuf_failed(&name)) {
            h5_free_text(names, n);
            return NULL;
        }
    }
    return names;
}

/* --- HDF5 --- */

static int put_sweep(const struct patch_report *r, const struct patch_sweep *s, const struct h5_file *f,
                     struct err *err)
{
    const struct {
        const char *name;
        const double *values;
    } arrays[] = { { "normalised", s->result.normalised },
                   { "logit_difference", s->result.difference },
                   { "prob", s->result.prob } };
    const hsize_t dims[] = { s->result.n_layers, s->result.n_columns };
    char name[96];
    char **columns = column_names(r, s, false);
    int rc = columns ? 0 : err_nomem(err, "columns");
    for (size_t i = 0; !rc && i < sizeof arrays / sizeof *arrays; i++) {
        snprintf(name, sizeof name, "/%s/%s", s->name, arrays[i].name);
        rc = h5_put_array(f, name, STORE_F64, 2, dims, arrays[i].values, err);
    }
    snprintf(name, sizeof name, "/%s/column", s->name);
    rc = rc ? rc : h5_put_array(f, name, STORE_TEXT, 1, &dims[1], columns, err);
    snprintf(name, sizeof name, "by_%s", s->name);
    rc = rc ? rc : h5_put_text(f, f->id, name, s->by == PATCH_BY_HEAD ? "head" : "position", err);
    h5_free_text(columns, s->result.n_columns);
    return rc;
}

static int put_side(const char *side, const struct prepared *p, int32_t answer, double difference, double prob,
                    const struct h5_file *f, struct err *err)
{
    const hsize_t one = 1, n = p->tokens.n;
    const char *texts[] = { p->text, p->subject };
    static const char *const text_names[] = { "text", "subject" };
    char name[64];
    int rc = 0;
    for (size_t i = 0; !rc && i < 2; i++) {
        snprintf(name, sizeof name, "/%s/%s", side, text_names[i]);
        rc = h5_put_array(f, name, STORE_TEXT, 1, &one, &texts[i], err);
    }
    const struct {
        const char *name;
        enum store_type type;
        const hsize_t *n;
        const void *data;
    } arrays[] = { { "token_id", STORE_I32, &n, p->tokens.id },
                   { "answer_token", STORE_I32, &one, &answer },
                   { "logit_difference", STORE_F64, &one, &difference },
                   { "prob", STORE_F64, &one, &prob } };
    for (size_t i = 0; !rc && i < sizeof arrays / sizeof *arrays; i++) {
        snprintf(name, sizeof name, "/%s/%s", side, arrays[i].name);
        rc = h5_put_array(f, name, arrays[i].type, 1, arrays[i].n, arrays[i].data, err);
    }
    return rc;
}

static int put_all(const void *report, const struct h5_file *f, struct err *err)
{
    const struct patch_report *r = report;
    const struct patching *p = &r->sweeps[0].result;
    int rc = h5_put_text(f, f->id, "direction", patch_direction_name(r->direction), err);
    rc = rc ? rc : h5_put_text(f, f->id, "positions", r->positions, err);
    rc = rc ? rc : h5_put_text(f, f->id, "metric", "normalised logit difference: 0 = corrupted, 1 = clean", err);
    rc = rc ? rc : put_side("clean", r->clean, p->answers[0], p->clean, p->clean_prob, f, err);
    rc = rc ? rc : put_side("corrupted", r->corrupted, p->answers[1], p->corrupted, p->corrupted_prob, f, err);
    for (size_t i = 0; !rc && i < r->n; i++)
        rc = put_sweep(r, &r->sweeps[i], f, err);
    return rc;
}

/* --- figures --- */

static int draw(const struct patch_report *r, const struct patch_sweep *s, const char *folder, struct err *err)
{
    struct strbuf title = STRBUF_INIT, subtitle = STRBUF_INIT;
    bool by_head = s->by == PATCH_BY_HEAD;
    char **columns = column_names(r, s, true);
    strbuf_addf(&title, "Patching %s: %s", s->name,
                r->direction == PATCH_DENOISE ? "clean values put into the corrupted run"
                                              : "corrupted values put into the clean run");
    plot_show(&subtitle, r->clean->text, 44);
    strbuf_adds(&subtitle, " | ");
    plot_show(&subtitle, r->corrupted->text, 44);
    if (by_head) {
        strbuf_adds(&subtitle, "; positions ");
        plot_show(&subtitle, r->positions, 16);
    }
    strbuf_adds(&subtitle, "; ");
    plot_show(&subtitle, file_base_name(r->model->path), 36);
    const struct heat_figure figure = { .n_rows = s->result.n_layers,
                                        .n_columns = s->result.n_columns,
                                        .values = s->result.normalised,
                                        .column_labels = by_head ? NULL : (const char *const *)columns,
                                        .row_name = "layer",
                                        .column_name = by_head ? "head" : "token of the patched prompt",
                                        .value_name = "normalised logit difference (0 = corrupted, 1 = clean)",
                                        .row_prefix = "L",
                                        .column_prefix = by_head ? "H" : " token ",
                                        .n_marked = by_head ? 5 : 0,
                                        .diverging = true };
    const struct plot_target to = {
        .folder = folder, .name = s->name, .title = strbuf_text(&title), .subtitle = strbuf_text(&subtitle)
    };
    int rc = !columns || strbuf_failed(&title) || strbuf_failed(&subtitle) ? err_nomem(err, "a figure")
                                                                           : plot_heat(&to, &figure, err);
    h5_free_text(columns, s->result.n_columns);
    strbuf_release(&title);
    strbuf_release(&subtitle);
    return rc;
}

static int draw_all(const void *report, const char *folder, struct err *err)
{
    const struct patch_report *r = report;
    int rc = 0;
    for (size_t i = 0; rc >= 0 && i < r->n; i++) {
        int drawn = draw(r, &r->sweeps[i], folder, err);
        rc = drawn ? drawn : rc;
    }
    return rc;
}

const struct result_kind patch_result = {
    .name = "patch",
    .format = "strata-patch",
    .norm = "lens",
    .text = patch_report_text,
    .json = patch_report_json,
    .csv = { { "patch", patch_report_csv } },
    .h5 = put_all,
    .figures = draw_all,
};

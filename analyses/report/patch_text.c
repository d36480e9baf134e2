/* Patching sweeps as text, CSV and JSON. */
#include "analyses/plot/plot.h"
#include "analyses/report/fields.h"
#include "analyses/report/patch_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"

#include <math.h>
#include <string.h>

enum { MOST_COLUMNS = 11, MOST_CELLS = 12 };

const char *patch_direction_name(enum patch_direction direction)
{
    return direction == PATCH_DENOISE ? "denoise" : "noise";
}

/* The run that values are put into. */
static const struct prepared *patched(const struct patch_report *r)
{
    return r->direction == PATCH_DENOISE ? r->corrupted : r->clean;
}

static void add_column(const struct patch_report *r, const struct patch_sweep *s, size_t column, struct strbuf *out)
{
    if (s->by == PATCH_BY_POSITION)
        token_text_padded(out, r->model, patched(r)->tokens.id[column], 0);
    else
        strbuf_addf(out, "H%zu", column);
}

static void add_prompt(const struct patch_report *r, const char *name, const struct prepared *p, int32_t answer,
                       double difference, double prob, struct strbuf *out)
{
    strbuf_addf(out, "%-10s", name);
    plot_show(out, p->text, 88);
    strbuf_adds(out, "\n          answer ");
    token_text_padded(out, r->model, answer, 0);
    strbuf_addf(out, "; logit difference %+.3f, p(clean answer) %.4f\n", difference, prob);
}

/* Largest |normalised| first. */
static void add_largest(const struct patch_report *r, const struct patch_sweep *s, struct strbuf *out)
{
    size_t n = s->result.n_layers * s->result.n_columns, shown[MOST_CELLS] = { 0 }, n_shown = 0;
    for (; n_shown < MOST_CELLS; n_shown++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++) {
            bool seen = false;
            for (size_t k = 0; k < n_shown; k++)
                seen = seen || shown[k] == i;
            double x = fabs(s->result.normalised[i]);
            if (!seen && isfinite(x) && (best == n || x > fabs(s->result.normalised[best])))
                best = i;
        }
        if (best == n)
            break;
        shown[n_shown] = best;
        size_t layer = best / s->result.n_columns, column = best % s->result.n_columns;
        strbuf_addf(out, "  L%-3zu %+7.3f  p %.4f  ", layer, s->result.normalised[best], s->result.prob[best]);
        if (s->by == PATCH_BY_POSITION)
            strbuf_addf(out, "token %zu ", column);
        add_column(r, s, column, out);
        strbuf_addc(out, '\n');
    }
}

static void add_table(const struct patch_report *r, const struct patch_sweep *s, struct strbuf *out)
{
    strbuf_adds(out, "layer");
    for (size_t c = 0; c < s->result.n_columns; c++) {
        struct strbuf name = STRBUF_INIT, shown = STRBUF_INIT;
        add_column(r, s, c, &name);
        plot_show(&shown, strbuf_text(&name), 7);
        strbuf_addf(out, "%*s%s", 8 - (int)plot_width(strbuf_text(&shown)), "", strbuf_text(&shown));
        out->failed |= name.failed || shown.failed;
        strbuf_release(&name);
        strbuf_release(&shown);
    }
    for (size_t l = 0; l < s->result.n_layers; l++) {
        strbuf_addf(out, "\n%5zu", l);
        for (size_t c = 0; c < s->result.n_columns; c++) {
            double x = s->result.normalised[l * s->result.n_columns + c];
            if (isfinite(x) && fabs(x) >= 0.0005)
                strbuf_addf(out, "%+8.3f", x);
            else
                strbuf_addf(out, "%8s", isfinite(x) ? "0" : "-");
        }
    }
    strbuf_addc(out, '\n');
}

void patch_report_text(const void *report, struct strbuf *out)
{
    const struct patch_report *r = report;
    const struct patching *p = &r->sweeps[0].result;
    strbuf_addf(out, "model     %s\n", file_base_name(r->model->path));
    add_prompt(r, "clean", r->clean, p->answers[0], p->clean, p->clean_prob, out);
    add_prompt(r, "corrupted", r->corrupted, p->answers[1], p->corrupted, p->corrupted_prob, out);
    strbuf_addf(out, "direction %s: %s\n", patch_direction_name(r->direction),
                r->direction == PATCH_DENOISE ? "clean values are put into the corrupted run"
                                              : "corrupted values are put into the clean run");
    for (size_t i = 0; i < r->n; i++) {
        const struct patch_sweep *s = &r->sweeps[i];
        bool narrow = s->result.n_columns <= MOST_COLUMNS;
        strbuf_addf(out, "\n%s by %s%s%s: normalised logit difference (0 = corrupted, 1 = clean)%s\n", s->name,
                    s->by == PATCH_BY_POSITION ? "position" : "head", s->by == PATCH_BY_HEAD ? ", positions " : "",
                    s->by == PATCH_BY_HEAD ? r->positions : "", narrow ? "" : ", largest");
        if (narrow)
            add_table(r, s, out);
        else
            add_largest(r, s, out);
    }
}

void patch_report_csv(const void *report, struct strbuf *out)
{
    const struct patch_report *r = report;
    strbuf_adds(out, "site,by,layer,column,token,normalised,logit_difference,p\n");
    for (size_t i = 0; i < r->n; i++) {
        const struct patch_sweep *s = &r->sweeps[i];
        for (size_t cell = 0; cell < s->result.n_layers * s->result.n_columns; cell++) {
            size_t column = cell % s->result.n_columns;
            struct strbuf token = STRBUF_INIT;
            if (!isfinite(s->result.normalised[cell]))
                continue;
            if (s->by == PATCH_BY_POSITION)
                token_text(&token, r->model, patched(r)->tokens.id[column]);
            strbuf_addf(out, "%s,%s,%zu,%zu,", s->name, s->by == PATCH_BY_POSITION ? "position" : "head",
                        cell / s->result.n_columns, column);
            strbuf_add_csv(out, strbuf_text(&token), token.len);
            strbuf_addf(out, ",%.9g,%.9g,%.9g\n", s->result.normalised[cell], s->result.difference[cell],
                        s->result.prob[cell]);
            out->failed |= token.failed;
            strbuf_release(&token);
        }
    }
}

/* --- JSON --- */

static void add_json_side(const struct patch_report *r, const char *key, const struct prepared *p, int32_t answer,
                          double difference, double prob, struct strbuf *out)
{
    strbuf_addf(out, ",\"%s\":{\"prompt\":", key);
    strbuf_add_json(out, p->text, strlen(p->text));
    strbuf_adds(out, ",\"tokens\":[");
    for (size_t i = 0; i < p->tokens.n; i++) {
        strbuf_adds(out, i ? "," : "");
        token_text_json(out, r->model, p->tokens.id[i]);
    }
    strbuf_adds(out, "],\"answer\":");
    token_text_json(out, r->model, answer);
    strbuf_addf(out, ",\"logit_difference\":%.9g,\"prob\":%.9g}", difference, prob);
}

void patch_report_json(const void *report, struct strbuf *out)
{
    const struct patch_report *r = report;
    const struct patching *p = &r->sweeps[0].result;
    strbuf_adds(out, "{\"format\":\"strata-patch\",\"version\":1,\"model\":");
    strbuf_add_json(out, r->model->path, strlen(r->model->path));
    strbuf_addf(out, ",\"direction\":\"%s\",\"norm\":\"lens\"", patch_direction_name(r->direction));
    add_json_side(r, "clean", r->clean, p->answers[0], p->clean, p->clean_prob, out);
    add_json_side(r, "corrupted", r->corrupted, p->answers[1], p->corrupted, p->corrupted_prob, out);
    strbuf_adds(out, ",\"sweeps\":[");
    for (size_t i = 0; i < r->n; i++) {
        const struct patch_sweep *s = &r->sweeps[i];
        size_t rows = s->result.n_layers, columns = s->result.n_columns;
        strbuf_addf(out, "%s\n{\"site\":\"%s\",\"by\":\"%s\"", i ? "," : "", s->name,
                    s->by == PATCH_BY_POSITION ? "position" : "head");
        if (s->by == PATCH_BY_HEAD) {
            strbuf_adds(out, ",\"positions\":");
            strbuf_add_json(out, r->positions, strlen(r->positions));
        }
        json_matrix(out, "normalised", s->result.normalised, rows, columns);
        json_matrix(out, "logit_difference", s->result.difference, rows, columns);
        json_matrix(out, "prob", s->result.prob, rows, columns);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "\n]}\n");
}

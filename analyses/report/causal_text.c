/* Causal tracing as text, CSV and JSON. */
#include "analyses/plot/plot.h"
#include "analyses/report/causal_report.h"
#include "analyses/report/fields.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_FACTS = 8 }; /* the terminal shows these one by one, more of them as an average only */

static bool wants(const struct causal_report *r, enum causal_kind kind)
{
    return r->options->kinds >> kind & 1;
}

static enum causal_role role_of(const struct causal_fact *f, size_t token)
{
    return causal_role_of(token, f->fact.tokens.n - f->fact.n_after, f->fact.subject_begin, f->fact.subject_end);
}

static size_t peak_of(const double *values, size_t n)
{
    size_t peak = 0;
    for (size_t i = 1; i < n; i++)
        peak = values[i] > values[peak] ? i : peak;
    return peak;
}

/* --- the terminal --- */

static void add_settings(const struct causal_report *r, struct strbuf *out)
{
    const struct causal_options *o = r->options;
    strbuf_addf(out, "model     %s\n", file_base_name(r->model->path));
    strbuf_addf(out, "noise     %.4g (%s)\n", o->noise, r->noise_rule);
    strbuf_addf(out, "samples   %zu draws, seed %llu\n", o->n_samples, (unsigned long long)o->seed);
    strbuf_addf(out, "windows   mlp and attn are restored over %zu layers around each\n", o->window);
}

static void add_column_heads(const struct causal_report *r, struct strbuf *out)
{
    for (enum causal_kind k = 0; causal_is_grid(k); k++)
        if (wants(r, k))
            strbuf_addf(out, "  %12s", causal_kind_name(k));
    strbuf_addc(out, '\n');
}

/* Of each token and kind: the largest indirect effect over layers, and where. */
static void add_token_rows(const struct causal_report *r, const struct causal_fact *f, struct strbuf *out)
{
    const struct causal_trace *t = &f->trace;
    strbuf_addf(out, "  pos  %-16s", "token");
    add_column_heads(r, out);
    for (size_t i = 0; i < t->n_tokens; i++) {
        bool subject = i >= f->fact.subject_begin && i < f->fact.subject_end;
        strbuf_addf(out, "  %3zu%c ", i, subject ? '*' : ' ');
        token_text_padded(out, r->model, f->fact.tokens.id[i], 16);
        for (enum causal_kind k = 0; causal_is_grid(k); k++) {
            if (!wants(r, k))
                continue;
            const double *p = t->p[k] + i * t->n_layers;
            size_t peak = peak_of(p, t->n_layers);
            if (i < f->fact.subject_begin)
                strbuf_addf(out, "  %12s", "0");
            else
                strbuf_addf(out, "  L%-2zu %+8.4f", peak, p[peak] - t->corrupted);
        }
        strbuf_addc(out, '\n');
    }
}

static void add_severed(const struct causal_report *r, const struct causal_fact *f, struct strbuf *out)
{
    const struct causal_trace *t = &f->trace;
    if (!wants(r, CAUSAL_STATE) || !wants(r, CAUSAL_SEVERED_MLP) || !wants(r, CAUSAL_SEVERED_ATTN))
        return;
    const double *state = t->p[CAUSAL_STATE] + (f->fact.subject_end - 1) * t->n_layers;
    size_t peak = peak_of(state, t->n_layers);
    strbuf_addf(out,
                "  severed at the last subject token, L%zu: state %+.4f, FFN frozen %+.4f, attention frozen %+.4f\n",
                peak, state[peak] - t->corrupted, t->p[CAUSAL_SEVERED_MLP][peak] - t->corrupted,
                t->p[CAUSAL_SEVERED_ATTN][peak] - t->corrupted);
}

static void add_fact(const struct causal_report *r, const struct causal_fact *f, struct strbuf *out)
{
    const struct causal_trace *t = &f->trace;
    strbuf_adds(out, "\nprompt    ");
    plot_show(out, f->fact.text, 88);
    strbuf_addf(out, "\nsubject   ");
    plot_show(out, f->fact.subject, 60);
    strbuf_addf(out, " (tokens %zu-%zu, marked *)\nanswer    ", f->fact.subject_begin, f->fact.subject_end - 1);
    token_text_padded(out, r->model, f->answer, 0);
    strbuf_addf(out, "%s: p %.4f (rank %d), corrupted %.4f, total effect %+.4f\n",
                f->fact.answer_token < 0 ? " (the model's own top token)" : "", t->clean, (int)t->clean_rank,
                t->corrupted, t->clean - t->corrupted);
    strbuf_adds(out, "largest indirect effect (p restored - p corrupted) of each token\n");
    add_token_rows(r, f, out);
    add_severed(r, f, out);
}

static void add_estimate(struct strbuf *out, const struct causal_estimate *e)
{
    strbuf_addf(out, "%+.4f", e->mean);
    if (isfinite(e->low))
        strbuf_addf(out, " [%+.4f, %+.4f]", e->low, e->high);
}

static void add_average(const struct causal_report *r, struct strbuf *out)
{
    const struct causal_summary *s = r->summary;
    strbuf_addf(out, "\n%zu facts of %zu subjects, means with 95 %% bootstrap bands over subjects\np clean     ", s->n,
                s->n_subjects);
    add_estimate(out, &s->clean);
    strbuf_adds(out, "\np corrupted ");
    add_estimate(out, &s->corrupted);
    strbuf_adds(out, "\nATE         ");
    add_estimate(out, &s->total);
    strbuf_adds(out, "\n\naverage indirect effect, largest over layers\n");
    for (size_t i = 0; i < s->n_series; i++) {
        const struct causal_series *series = &s->series[i];
        size_t peak = causal_series_peak(series, s->n_layers);
        const struct causal_estimate e = { series->mean[peak], series->low[peak], series->high[peak] };
        strbuf_addf(out, "  %-13s %-22s L%-3zu ", causal_kind_name(series->kind), causal_role_name(series->role), peak);
        add_estimate(out, &e);
        strbuf_addf(out, "  n %zu\n", series->n);
    }
}

static void add_counts(const struct causal_report *r, struct strbuf *out)
{
    if (r->n_read == 1 && r->n == 1)
        return;
    strbuf_addf(out, "facts     %zu read, %zu known (answer on rank 1), %zu not: %s\n", r->n_read,
                r->n_read - r->n_unknown, r->n_unknown, r->all ? "traced too (--all)" : "left out");
}

void causal_report_text(const void *report, struct strbuf *out)
{
    const struct causal_report *r = report;
    add_settings(r, out);
    add_counts(r, out);
    for (size_t i = 0; r->n <= MOST_FACTS && i < r->n; i++)
        add_fact(r, &r->facts[i], out);
    if (r->n > 1)
        add_average(r, out);
}

/* --- CSV --- */

static void add_cells(const struct causal_report *r, size_t i, enum causal_kind kind, size_t token, struct strbuf *out)
{
    const struct causal_fact *f = &r->facts[i];
    const struct causal_trace *t = &f->trace;
    struct strbuf text = STRBUF_INIT;
    token_text(&text, r->model, f->fact.tokens.id[token]);
    for (size_t l = 0; l < t->n_layers; l++) {
        double p = t->p[kind][causal_is_grid(kind) ? token * t->n_layers + l : l];
        strbuf_addf(out, "%zu,", i);
        strbuf_add_csv(out, f->fact.id, strlen(f->fact.id));
        strbuf_addf(out, ",%s,%zu,", causal_kind_name(kind), token);
        strbuf_add_csv(out, strbuf_text(&text), text.len);
        strbuf_addf(out, ",%s,%zu,%.9g,%.9g,%.9g,%.9g\n", causal_role_name(role_of(f, token)), l, p, p - t->corrupted,
                    t->clean, t->corrupted);
    }
    out->failed |= text.failed;
    strbuf_release(&text);
}

void causal_report_csv(const void *report, struct strbuf *out)
{
    const struct causal_report *r = report;
    strbuf_adds(out, "prompt,id,kind,position,token,role,layer,p,ie,p_clean,p_corrupted\n");
    for (size_t i = 0; i < r->n; i++)
        for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++) {
            if (wants(r, k) && !causal_is_grid(k))
                add_cells(r, i, k, r->facts[i].fact.subject_end - 1, out);
            for (size_t t = 0; wants(r, k) && causal_is_grid(k) && t < r->facts[i].fact.tokens.n; t++)
                add_cells(r, i, k, t, out);
        }
}

void causal_report_summary_csv(const void *report, struct strbuf *out)
{
    const struct causal_report *r = report;
    const struct causal_summary *s = r->summary;
    strbuf_adds(out, "kind,role,layer,n,aie,low,high\n");
    for (size_t i = 0; i < s->n_series; i++)
        for (size_t l = 0; l < s->n_layers; l++) {
            const struct causal_series *series = &s->series[i];
            strbuf_addf(out, "%s,%s,%zu,%zu", causal_kind_name(series->kind), causal_role_name(series->role), l,
                        series->n);
            csv_number(out, series->mean[l]);
            csv_number(out, series->low[l]);
            csv_number(out, series->high[l]);
            strbuf_addc(out, '\n');
        }
}

/* --- JSON --- */

static void add_json_fact(const struct causal_report *r, const struct causal_fact *f, struct strbuf *out)
{
    const struct causal_trace *t = &f->trace;
    strbuf_addc(out, '{');
    json_text(out, "id", f->fact.id);
    json_text(out, "prompt", f->fact.text);
    json_text(out, "subject", f->fact.subject);
    strbuf_addf(out, ",\"subject_tokens\":[%zu,%zu],\"answer\":", f->fact.subject_begin, f->fact.subject_end);
    token_text_json(out, r->model, f->answer);
    strbuf_addf(out, ",\"own_answer\":%s,\"tokens\":[", f->fact.answer_token < 0 ? "true" : "false");
    for (size_t i = 0; i < t->n_tokens; i++) {
        strbuf_adds(out, i ? "," : "");
        token_text_json(out, r->model, f->fact.tokens.id[i]);
    }
    strbuf_addf(out, "],\"clean\":{\"prob\":%.9g,\"rank\":%d},\"corrupted\":{\"prob\":%.9g", t->clean,
                (int)t->clean_rank, t->corrupted);
    json_numbers(out, "samples", t->samples, r->options->n_samples);
    strbuf_adds(out, "},\"restored\":{");
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        if (wants(r, k) && causal_is_grid(k))
            json_matrix(out, causal_kind_name(k), t->p[k], t->n_tokens, t->n_layers);
        else if (wants(r, k))
            json_numbers(out, causal_kind_name(k), t->p[k], t->n_layers);
    strbuf_adds(out, "}}");
}

static void add_json_estimate(struct strbuf *out, const char *key, const struct causal_estimate *e)
{
    json_numbers(out, key, (const double[]){ e->mean, e->low, e->high }, 3);
}

static void add_json_summary(const struct causal_report *r, struct strbuf *out)
{
    const struct causal_summary *s = r->summary;
    strbuf_addf(out, "{\"n\":%zu,\"n_subjects\":%zu", s->n, s->n_subjects);
    add_json_estimate(out, "clean", &s->clean);
    add_json_estimate(out, "corrupted", &s->corrupted);
    add_json_estimate(out, "total_effect", &s->total);
    strbuf_adds(out, ",\"series\":[");
    for (size_t i = 0; i < s->n_series; i++) {
        const struct causal_series *series = &s->series[i];
        strbuf_addf(out, "%s{\"kind\":\"%s\",\"role\":\"%s\",\"n\":%zu", i ? "," : "", causal_kind_name(series->kind),
                    causal_role_name(series->role), series->n);
        json_numbers(out, "aie", series->mean, s->n_layers);
        json_numbers(out, "low", series->low, s->n_layers);
        json_numbers(out, "high", series->high, s->n_layers);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "]}");
}

void causal_report_json(const void *report, struct strbuf *out)
{
    const struct causal_report *r = report;
    const struct causal_options *o = r->options;
    strbuf_adds(out, "{\"format\":\"strata-causal\",\"version\":1,");
    json_text(out, "model", r->model->path);
    strbuf_addf(out, ",\"noise\":%.9g,", o->noise);
    json_text(out, "noise_rule", r->noise_rule);
    strbuf_addf(
        out,
        ",\"samples\":%zu,\"seed\":%llu,\"window\":%zu,\"norm\":\"lens\",\"selection\":\"%s\",\"facts_read\":%zu,"
        "\"facts_unknown\":%zu,\"facts\":[",
        o->n_samples, (unsigned long long)o->seed, o->window, r->all ? "all" : "known", r->n_read, r->n_unknown);
    for (size_t i = 0; i < r->n; i++) {
        strbuf_adds(out, i ? ",\n" : "\n");
        add_json_fact(r, &r->facts[i], out);
    }
    strbuf_adds(out, "\n],\"summary\":");
    add_json_summary(r, out);
    strbuf_adds(out, "}\n");
}

/* Knockouts as a table for terminals, CSV and JSON. */
#include "analyses/plot/plot.h"
#include "analyses/report/fields.h"
#include "analyses/report/knockout_report.h"

#include <stdio.h>
#include <string.h>

static const char *const third_names[KNOCKOUT_THIRDS] = { "early", "middle", "late" };

static struct layer_window layers_of(const struct knockout_report *r, size_t layer)
{
    return window_around(layer, r->window, r->n_layers);
}

/* --- terminal --- */

static void add_shown(struct strbuf *out, const char *text, size_t width)
{
    struct strbuf shown = STRBUF_INIT;
    plot_show(&shown, text, width);
    strbuf_adds(out, strbuf_text(&shown));
    out->failed |= strbuf_failed(&shown);
    strbuf_release(&shown);
}

static void add_head(const struct knockout_report *r, struct strbuf *out)
{
    if (r->n_given == 1) {
        const struct knockout_fact *f = r->facts;
        strbuf_adds(out, "prompt    ");
        add_shown(out, f->prompt, 80);
        strbuf_adds(out, "\nanswer    ");
        add_shown(out, f->answer, 40);
        strbuf_addf(out, " (token %d%s), p = %.4g, rank %d%s\n", (int)f->answer_token,
                    r->own_answer ? ", the model's own" : "", f->base_prob, (int)f->base_rank,
                    f->base_rank == 1 ? "" : ": the model does not know this fact, so there is little to explain");
    } else {
        strbuf_addf(out, "n = %zu facts, %zu subjects; on rank 1: %zu of %zu", r->n_facts, r->n_subjects, r->n_known,
                    r->n_given);
        strbuf_addf(out, "%s\n", r->known_only ? "; the others are left out (--all takes them)" : "");
    }
    strbuf_adds(out, "blocked   the last token's edges to each key set, in all heads, before the softmax\nwindow    ");
    knockout_report_window(r, out);
    strbuf_adds(out, r->spare_first ? "; token 0 never blocked" : "");
    if (!r->spare_first && r->n_facts > 1)
        strbuf_addf(out,
                    "\nnote      token 0, an attention sink, is subject in %zu facts, non-subject in %zu: see "
                    "--spare-first",
                    r->n_first, r->n_facts - r->n_first);
    for (size_t s = 0; s < KNOCKOUT_SETS; s++)
        if (r->n_empty[s])
            strbuf_addf(out, "\nnote      %zu facts have no %s token to block: their change is 0", r->n_empty[s],
                        knockout_keys_name((enum knockout_keys)s));
    strbuf_addf(out, "\nnumbers   change of p(answer) in percent%s; norm convention: lens\n",
                r->n_subjects > 1 ? ", 95 % bootstrap over subjects" : "");
}

static void add_cells(const struct knockout_report *r, const struct knockout_band *band, size_t n_series, size_t at,
                      struct strbuf *out)
{
    for (size_t s = 0; s < KNOCKOUT_SETS; s++) {
        size_t i = s * n_series + at;
        char interval[48];
        strbuf_addf(out, " %+11.1f", band->mean[i]);
        if (r->n_subjects < 2)
            continue;
        snprintf(interval, sizeof interval, "[%.1f, %.1f]", band->low[i], band->high[i]);
        strbuf_addf(out, " %*s", s + 1 < KNOCKOUT_SETS ? -16 : 0, interval);
    }
    strbuf_addc(out, '\n');
}

void knockout_report_text(const void *report, struct strbuf *out)
{
    const struct knockout_report *r = report;
    add_head(r, out);
    strbuf_addf(out, "\n%5s  %-9s", "layer", "blocked");
    for (size_t s = 0; s < KNOCKOUT_SETS; s++)
        strbuf_addf(out, " %11s%*s", knockout_keys_name((enum knockout_keys)s),
                    r->n_subjects > 1 && s + 1 < KNOCKOUT_SETS ? 17 : 0, "");
    strbuf_addc(out, '\n');
    for (size_t l = 0; l < r->n_layers; l++) {
        struct layer_window w = layers_of(r, l);
        char blocked[64] = "none";
        if (w.begin < w.end)
            snprintf(blocked, sizeof blocked, "%zu-%zu", w.begin, w.end - 1);
        strbuf_addf(out, "%5zu  %-9s", l, blocked);
        add_cells(r, &r->curves, r->n_layers, l, out);
    }
    strbuf_adds(out, "\nmean over windows around a third of the layers\n");
    for (size_t third = 0; third < KNOCKOUT_THIRDS; third++) {
        size_t begin = r->n_layers * third / KNOCKOUT_THIRDS, end = r->n_layers * (third + 1) / KNOCKOUT_THIRDS;
        char layers[64];
        snprintf(layers, sizeof layers, "%zu-%zu", begin, end > begin ? end - 1 : begin);
        strbuf_addf(out, "%6s %-9s", third_names[third], layers);
        add_cells(r, &r->thirds, KNOCKOUT_THIRDS, third, out);
    }
}

/* --- CSV --- */

static void add_window(const struct knockout_report *r, size_t layer, struct strbuf *out)
{
    struct layer_window w = layers_of(r, layer);
    if (w.begin < w.end)
        strbuf_addf(out, ",%zu,%zu,%zu", layer, w.begin, w.end - 1);
    else
        strbuf_addf(out, ",%zu,,", layer);
}

static void add_csv_fact(const struct knockout_fact *f, struct strbuf *out)
{
    csv_text(out, f->id);
    strbuf_addc(out, ',');
    csv_text(out, f->relation);
    strbuf_addc(out, ',');
    csv_text(out, f->subject);
    strbuf_addc(out, ',');
    csv_text(out, f->answer);
    strbuf_addf(out, ",%d,%.9g,", (int)f->base_rank, f->base_prob);
}

void knockout_report_csv(const void *report, struct strbuf *out)
{
    const struct knockout_report *r = report;
    strbuf_adds(out, "fact,relation,subject,answer,base_rank,base_prob,keys,layer,first_blocked,last_blocked,prob,"
                     "change_percent\n");
    for (size_t i = 0; i < r->n_facts; i++)
        for (size_t s = 0; s < KNOCKOUT_SETS; s++)
            for (size_t l = 0; l < r->n_layers; l++) {
                size_t at = (i * KNOCKOUT_SETS + s) * r->n_layers + l;
                add_csv_fact(&r->facts[i], out);
                strbuf_adds(out, knockout_keys_name((enum knockout_keys)s));
                add_window(r, l, out);
                csv_number(out, r->prob[at]);
                csv_number(out, r->change[at]);
                strbuf_addc(out, '\n');
            }
    for (size_t t = 0; t < r->n_tokens; t++)
        for (size_t l = 0; l < r->n_layers; l++) {
            double prob = r->token_prob[t * r->n_layers + l];
            add_csv_fact(r->facts, out);
            strbuf_addf(out, "token %zu", t);
            add_window(r, l, out);
            csv_number(out, prob);
            csv_number(out, 100 * (prob / r->facts->base_prob - 1));
            strbuf_addc(out, '\n');
        }
}

void knockout_report_curves_csv(const void *report, struct strbuf *out)
{
    const struct knockout_report *r = report;
    strbuf_adds(out, "keys,layer,first_blocked,last_blocked,n_facts,n_subjects,change_percent,low,high\n");
    for (size_t s = 0; s < KNOCKOUT_SETS; s++)
        for (size_t l = 0; l < r->n_layers; l++) {
            size_t at = s * r->n_layers + l;
            strbuf_adds(out, knockout_keys_name((enum knockout_keys)s));
            add_window(r, l, out);
            strbuf_addf(out, ",%zu,%zu", r->n_facts, r->n_subjects);
            csv_number(out, r->curves.mean[at]);
            csv_number(out, r->curves.low[at]);
            csv_number(out, r->curves.high[at]);
            strbuf_addc(out, '\n');
        }
}

/* --- JSON --- */

static void add_band(struct strbuf *out, const char *key, const struct knockout_band *band, size_t n_series)
{
    strbuf_addf(out, ",\"%s\":{", key);
    for (size_t s = 0; s < KNOCKOUT_SETS; s++) {
        strbuf_addf(out, "%s\"%s\":{", s ? "," : "", knockout_keys_name((enum knockout_keys)s));
        json_numbers(out, "mean", band->mean + s * n_series, n_series);
        json_numbers(out, "low", band->low + s * n_series, n_series);
        json_numbers(out, "high", band->high + s * n_series, n_series);
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, '}');
}

static void add_windows(const struct knockout_report *r, struct strbuf *out)
{
    strbuf_adds(out, ",\"blocked_layers\":[");
    for (size_t l = 0; l < r->n_layers; l++) {
        struct layer_window w = layers_of(r, l);
        strbuf_adds(out, l ? "," : "");
        if (w.begin < w.end)
            strbuf_addf(out, "[%zu,%zu]", w.begin, w.end - 1);
        else
            strbuf_adds(out, "null");
    }
    strbuf_addc(out, ']');
}

static void add_fact(const struct knockout_report *r, size_t i, struct strbuf *out)
{
    const struct knockout_fact *f = &r->facts[i];
    strbuf_adds(out, i ? ",\n{\"id\":" : "\n{\"id\":");
    strbuf_add_json(out, f->id, strlen(f->id));
    json_text(out, "prompt", f->prompt);
    json_text(out, "subject", f->subject);
    json_text(out, "relation", f->relation);
    json_text(out, "answer", f->answer);
    strbuf_addf(out, ",\"answer_token\":%d,\"base_rank\":%d,\"base_prob\":%.9g,\"prob\":{", (int)f->answer_token,
                (int)f->base_rank, f->base_prob);
    for (size_t s = 0; s < KNOCKOUT_SETS; s++) {
        strbuf_adds(out, s ? "," : "");
        json_numbers(out, knockout_keys_name((enum knockout_keys)s), r->prob + (i * KNOCKOUT_SETS + s) * r->n_layers,
                     r->n_layers);
    }
    strbuf_addc(out, '}');
    if (r->token_prob) {
        strbuf_adds(out, ",\"tokens\":[");
        for (size_t t = 0; t < r->n_tokens; t++) {
            strbuf_adds(out, t ? ",{\"text\":" : "{\"text\":");
            strbuf_add_json(out, r->tokens[t], strlen(r->tokens[t]));
            json_numbers(out, "prob", r->token_prob + t * r->n_layers, r->n_layers);
            strbuf_addc(out, '}');
        }
        strbuf_addc(out, ']');
    }
    strbuf_addc(out, '}');
}

void knockout_report_json(const void *report, struct strbuf *out)
{
    const struct knockout_report *r = report;
    strbuf_adds(out, "{\"format\":\"strata-knockout\",\"version\":1,\"norm\":\"lens\"");
    json_text(out, "model", r->model->path);
    strbuf_addf(out,
                ",\"window\":%zu,\"spare_first\":%s,\"answer\":\"%s\",\"facts_given\":%zu,\"facts_known\":%zu,\"facts_"
                "measured\":%zu,"
                "\"prompts_without_answer\":%zu,\"n_subjects\":%zu,\"subject_at_0\":%zu",
                r->window, r->spare_first ? "true" : "false", r->own_answer ? "own" : "fact", r->n_given, r->n_known,
                r->n_facts, r->n_without_answer, r->n_subjects, r->n_first);
    add_windows(r, out);
    add_band(out, "change_percent", &r->curves, r->n_layers);
    add_band(out, "thirds", &r->thirds, KNOCKOUT_THIRDS);
    strbuf_adds(out, ",\"facts\":[");
    for (size_t i = 0; i < r->n_facts; i++)
        add_fact(r, i, out);
    strbuf_adds(out, "]}\n");
}

/* Neurons as a table, CSV and JSON. */
#include "analyses/plot/plot.h"
#include "analyses/report/ablation_report.h"
#include "analyses/report/fields.h"
#include "analyses/report/neurons_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"

#include <stdio.h>
#include <string.h>

static struct ablation_report ablation_of(const struct neurons_report *r)
{
    return (
        struct ablation_report){ .run = &r->ablation, .counts = r->counts, .n_counts = r->n_counts, .what = "neurons" };
}

static const char *norm_name(const struct neurons_report *r)
{
    return r->norm == NEURON_TOKENS_GEVA ? "geva: W_U v, no norm" : "gain: W_U v under the final norm's gain";
}

/* --- table --- */

/* As many of ids[n] as fit in `width` columns, at least one. */
static void add_tokens(const struct neurons_report *r, const int32_t *ids, size_t n, size_t width, bool pad,
                       struct strbuf *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        struct strbuf token = STRBUF_INIT;
        token_text_padded(&token, r->model, ids[i], 0);
        struct strbuf shown = STRBUF_INIT;
        plot_show(&shown, strbuf_text(&token), width);
        size_t w = plot_width(strbuf_text(&shown)) + (i > 0);
        bool fits = !i || used + w <= width;
        if (fits)
            strbuf_addf(out, "%s%s", i ? " " : "", strbuf_text(&shown));
        used += fits ? w : 0;
        out->failed = out->failed || strbuf_failed(&token) || strbuf_failed(&shown);
        strbuf_release(&token);
        strbuf_release(&shown);
        if (!fits)
            break;
    }
    while (pad && used++ < width)
        strbuf_addc(out, ' ');
}

static void add_listed(const struct neurons_report *r, struct strbuf *out)
{
    bool single = r->facts->n == 1;
    strbuf_addf(out, "\nneurons that add most to the answer%s;\ntokens: %s\n",
                single ? "" : " (means over facts with it in their first 10)", norm_name(r));
    strbuf_addf(out, "%-10s%6s%8s%8s%7s%7s  %-27s %s\n", "neuron", single ? "" : "facts", "m", "|m||v|", "logit",
                "rank", "promotes", "suppresses");
    for (size_t i = 0; i < r->n_listed; i++) {
        const struct listed_neuron *n = &r->listed[i];
        char name[48], facts[24] = "";
        snprintf(name, sizeof name, "L%zuN%zu", n->neuron.layer, n->neuron.unit);
        if (!single)
            snprintf(facts, sizeof facts, "%zu", n->n_facts);
        /* A negative coefficient turns the value vector round. */
        bool turned = n->neuron.coefficient < 0;
        int32_t rank = turned ? (int32_t)r->model->config.d_vocab + 1 - r->tokens.rank[i] : r->tokens.rank[i];
        strbuf_addf(out, "%-10s%6s%8.2f%8.2f%+7.2f%7d  ", name, facts, n->neuron.coefficient, n->neuron.size,
                    n->neuron.logit, (int)rank);
        const int32_t *up = r->tokens.up + i * r->tokens.k, *down = r->tokens.down + i * r->tokens.k;
        add_tokens(r, turned ? down : up, r->tokens.k, 27, true, out);
        strbuf_addc(out, ' ');
        add_tokens(r, turned ? up : down, r->tokens.k, 18, false, out);
        strbuf_addc(out, '\n');
    }
    strbuf_addf(out, "rank: of the answer%s in the same order; m < 0 turns v round\n",
                single ? "" : " that most of its facts have,");
}

static double mean_of(const double *x, size_t first, size_t last)
{
    double sum = 0;
    for (size_t l = first; l < last; l++)
        sum += x[l] / (double)(last - first);
    return sum;
}

static void add_layers(const struct neurons_report *r, struct strbuf *out)
{
    static const char *const names[] = { "early", "middle", "late" };
    size_t n = r->activity.n_layers, parts = n < 3 ? n : 3;
    strbuf_addf(out, "\n%-8s%9s%14s%12s", "layers", "", "logits added", "entropy");
    strbuf_adds(out, r->n_pairs ? "  overlap of the 10 largest |m|: paraphrases, other facts\n" : "\n");
    for (size_t p = 0; p < parts; p++) {
        size_t first = n * p / parts, last = n * (p + 1) / parts;
        char range[48];
        snprintf(range, sizeof range, "%zu-%zu", first, last - 1);
        strbuf_addf(out, "%-8s%9s%+14.2f%12.2f", names[p], range,
                    mean_of(r->logit, first, last) * (double)(last - first), mean_of(r->entropy, first, last));
        if (r->n_pairs)
            strbuf_addf(out, "%22.2f%19.2f", mean_of(r->same, first, last), mean_of(r->other, first, last));
        strbuf_addc(out, '\n');
    }
    if (!r->n_pairs)
        return;
    size_t n_core = 0, with_core = 0;
    for (size_t g = 0; g < r->n_groups; g++) {
        n_core += r->groups[g].n_core;
        with_core += r->groups[g].n_core > 0;
    }
    strbuf_addf(out,
                "%zu facts have paraphrases (%zu pairs): %.1f of the first 10 neurons by |m||v| are in all of them; "
                "%zu have one\n",
                r->n_repeated, r->n_pairs, (double)n_core / (double)r->n_repeated, with_core);
}

static void add_ablation(const struct neurons_report *r, struct strbuf *out)
{
    const struct ablation_report a = ablation_of(r);
    if (!r->ablation.n_variants)
        return;
    strbuf_addf(out,
                "\nwithout each fact's own first neurons (zero at the last token), against random ones of the same\n"
                "layers (mean and sd of %zu draws):\n",
                r->ablation.n_draws);
    ablation_report_text(&a, out);
}

void neurons_report_text(const void *report, struct strbuf *out)
{
    const struct neurons_report *r = report;
    const struct model_config *c = &r->model->config;
    strbuf_addf(out, "model     %s, %zu layers of %zu neurons\nfacts     ", file_base_name(r->model->path), c->n_layers,
                c->d_mlp);
    known_facts_describe(r->facts, out);
    if (r->facts->n == 1) {
        strbuf_adds(out, "\nanswer    ");
        token_text_padded(out, r->model, r->facts->answers[0], 0);
    }
    strbuf_addf(out, "\nlogit     of the answer, less %s;\n          norm convention: attribution; last token\n",
                r->against);
    add_listed(r, out);
    add_layers(r, out);
    add_ablation(r, out);
}

/* --- CSV --- */

static void add_csv_tokens(const struct neurons_report *r, const int32_t *ids, struct strbuf *out)
{
    struct strbuf text = STRBUF_INIT;
    for (size_t i = 0; i < r->tokens.k; i++) {
        strbuf_adds(&text, i ? "|" : "");
        token_text(&text, r->model, ids[i]);
    }
    strbuf_addc(out, ',');
    strbuf_add_csv(out, strbuf_text(&text), text.len);
    out->failed = out->failed || strbuf_failed(&text);
    strbuf_release(&text);
}

void neurons_report_csv(const void *report, struct strbuf *out)
{
    const struct neurons_report *r = report;
    strbuf_adds(out, "layer,neuron,facts,coefficient,size,logit,answer_rank,up,down\n");
    for (size_t i = 0; i < r->n_listed; i++) {
        const struct listed_neuron *n = &r->listed[i];
        strbuf_addf(out, "%zu,%zu,%zu,%.9g,%.9g,%.9g,%d", n->neuron.layer, n->neuron.unit, n->n_facts,
                    n->neuron.coefficient, n->neuron.size, n->neuron.logit, (int)r->tokens.rank[i]);
        add_csv_tokens(r, r->tokens.up + i * r->tokens.k, out);
        add_csv_tokens(r, r->tokens.down + i * r->tokens.k, out);
        strbuf_addc(out, '\n');
    }
}

void neurons_report_layers_csv(const void *report, struct strbuf *out)
{
    const struct neurons_report *r = report;
    strbuf_adds(out, "layer,logit,entropy,overlap_paraphrases,overlap_others\n");
    for (size_t l = 0; l < r->activity.n_layers; l++) {
        strbuf_addf(out, "%zu", l);
        csv_number(out, r->logit[l]);
        csv_number(out, r->entropy[l]);
        csv_number(out, r->same[l]);
        csv_number(out, r->other[l]);
        strbuf_addc(out, '\n');
    }
}

void neurons_report_ablation_csv(const void *report, struct strbuf *out)
{
    const struct neurons_report *r = report;
    const struct ablation_report a = ablation_of(r);
    if (r->ablation.n_variants)
        ablation_report_csv(&a, out);
}

/* --- JSON --- */

static void add_json_tokens(const struct neurons_report *r, const char *key, const int32_t *ids, const float *scores,
                            struct strbuf *out)
{
    strbuf_addf(out, ",\"%s\":[", key);
    for (size_t i = 0; i < r->tokens.k; i++) {
        struct strbuf text = STRBUF_INIT;
        token_text(&text, r->model, ids[i]);
        strbuf_addf(out, "%s{\"id\":%d,\"text\":", i ? "," : "", (int)ids[i]);
        strbuf_add_json(out, strbuf_text(&text), text.len);
        strbuf_addf(out, ",\"score\":%.6g}", (double)scores[i]);
        out->failed = out->failed || strbuf_failed(&text);
        strbuf_release(&text);
    }
    strbuf_addc(out, ']');
}

static void add_neuron(const struct neuron *n, struct strbuf *out)
{
    strbuf_addf(out,
                "{\"name\":\"L%zuN%zu\",\"layer\":%zu,\"neuron\":%zu,\"coefficient\":%.9g,\"size\":%.9g,\"logit\":%.9g",
                n->layer, n->unit, n->layer, n->unit, n->coefficient, n->size, n->logit);
}

static void add_json_listed(const struct neurons_report *r, struct strbuf *out)
{
    strbuf_adds(out, ",\n\"neurons\":[");
    for (size_t i = 0; i < r->n_listed; i++) {
        strbuf_adds(out, i ? ",\n" : "\n");
        add_neuron(&r->listed[i].neuron, out);
        strbuf_addf(out, ",\"facts\":%zu,\"answer_rank\":%d", r->listed[i].n_facts, (int)r->tokens.rank[i]);
        add_json_tokens(r, "up", r->tokens.up + i * r->tokens.k, r->tokens.up_score + i * r->tokens.k, out);
        add_json_tokens(r, "down", r->tokens.down + i * r->tokens.k, r->tokens.down_score + i * r->tokens.k, out);
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, ']');
}

static void add_json_paraphrases(const struct neurons_report *r, struct strbuf *out)
{
    bool first = true;
    strbuf_adds(out, ",\n\"paraphrases\":[");
    for (size_t g = 0; g < r->n_groups; g++) {
        const struct paraphrases *p = &r->groups[g];
        const struct prepared *fact = r->facts->facts[p->first];
        if (p->n < 2)
            continue;
        strbuf_adds(out, first ? "\n{\"subject\":" : ",\n{\"subject\":");
        first = false;
        strbuf_add_json(out, fact->subject, strlen(fact->subject));
        json_text(out, "relation", fact->relation);
        json_text(out, "answer", fact->answer);
        strbuf_addf(out, ",\"prompts\":%zu,\"in_all\":[", p->n);
        for (size_t i = 0; i < p->n_core; i++) {
            strbuf_adds(out, i ? "," : "");
            add_neuron(&p->core[i], out);
            strbuf_addc(out, '}');
        }
        strbuf_adds(out, "]}");
    }
    strbuf_addc(out, ']');
}

void neurons_report_json(const void *report, struct strbuf *out)
{
    const struct neurons_report *r = report;
    const struct known_facts *k = r->facts;
    const struct ablation_report a = ablation_of(r);
    size_t n_layers = r->activity.n_layers;
    strbuf_adds(out, "{\"format\":\"strata-neurons\",\"version\":1,\"norm\":\"attribution\"");
    strbuf_addf(out, ",\"tokens_norm\":\"%s\"", r->norm == NEURON_TOKENS_GEVA ? "geva" : "gain");
    json_text(out, "model", r->model->path);
    json_text(out, "against", r->against);
    strbuf_addf(out,
                ",\"facts_given\":%zu,\"facts_known\":%zu,\"facts_unknown\":%zu,\"facts_without_answer\":%zu,"
                "\"facts_measured\":%zu,\"own_answer\":%s,\"paraphrased\":%zu,\"paraphrase_pairs\":%zu,\"seed\":%llu",
                k->n_given, k->n_known, k->n_unknown, k->n_without_answer, k->n, k->own_answer ? "true" : "false",
                r->n_repeated, r->n_pairs, (unsigned long long)r->seed);
    json_numbers(out, "layer_logit", r->logit, n_layers);
    json_numbers(out, "layer_entropy", r->entropy, n_layers);
    json_numbers(out, "overlap_paraphrases", r->same, n_layers);
    json_numbers(out, "overlap_others", r->other, n_layers);
    add_json_listed(r, out);
    add_json_paraphrases(r, out);
    if (r->ablation.n_variants) {
        strbuf_adds(out, ",\n\"ablation\":{\"mode\":\"zero\",\"at\":\"last\",");
        ablation_report_json(&a, out);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "}\n");
}

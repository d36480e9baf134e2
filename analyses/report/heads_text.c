/* Heads as a table, CSV and JSON. */
#include "analyses/report/ablation_report.h"
#include "analyses/report/fields.h"
#include "analyses/report/heads_report.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- table --- */

/* A number right-aligned in `width` columns, "-" where there is none. */
static void add_cell(struct strbuf *out, const char *format, int width, double x)
{
    char text[64];
    snprintf(text, sizeof text, format, x);
    strbuf_addf(out, "%*s", width, isnan(x) ? "-" : text);
}

static double pattern_score(const struct heads_report *r, enum head_pattern pattern, size_t head)
{
    return r->patterns.n_heads ? r->patterns.score[pattern][head] : NAN;
}

static void add_head_line(const struct heads_report *r, size_t head, struct strbuf *out)
{
    char name[HEAD_NAME_MAX];
    strbuf_addf(out, "%-7s", heads_report_name(r, head, name));
    add_cell(out, "%+.3f", 8, r->mean[head]);
    if (isfinite(r->low[head]))
        strbuf_addf(out, " [%+6.2f,%+6.2f]", r->low[head], r->high[head]);
    else
        strbuf_addf(out, " %-15s", "");
    add_cell(out, "%+.3f", 9, r->from_subject[head]);
    add_cell(out, "%.2f", 8, r->to_subject[head]);
    add_cell(out, "%+.1f%%", 10, r->single_drop[head]);
    add_cell(out, "%.2f", 9, pattern_score(r, PATTERN_PREVIOUS, head));
    add_cell(out, "%.2f", 7, pattern_score(r, PATTERN_DUPLICATE, head));
    add_cell(out, "%.2f", 7, pattern_score(r, PATTERN_INDUCTION, head));
    if (r->map.n_relations)
        add_cell(out, "%.1f%%", 8, 100 * r->hub[head]);
    strbuf_addc(out, '\n');
}

static void add_heads(const struct heads_report *r, struct strbuf *out)
{
    size_t n = r->attribution.n_heads, top = r->top < n ? r->top : n, least = n - top < 3 ? n - top : 3;
    strbuf_addf(out, "\n%-7s%8s %-15s%9s%8s%10s%9s%7s%7s%s\n", "", "adds to", "", "of that", "looks", "p(answer)",
                "previous", "dupli-", "induc-", r->map.n_relations ? "   pairs" : "");
    strbuf_addf(out, "%-7s%8s %-15s%9s%8s%10s%9s%7s%7s%s\n", "head", "logit", r->n_subjects > 1 ? " 95 % band" : "",
                "subject", "at it", "without", "token", "cate", "tion", r->map.n_relations ? "    held" : "");
    for (size_t i = 0; i < top; i++)
        add_head_line(r, r->by_mean[i], out);
    if (least)
        strbuf_adds(out, "against the answer:\n");
    for (size_t i = 0; i < least; i++)
        add_head_line(r, r->by_mean[n - 1 - i], out);
}

/* Heads that add little may still matter: they move what others read. */
static void add_costly(const struct heads_report *r, struct strbuf *out)
{
    size_t n = r->attribution.n_heads, *order = mem_array(n, sizeof *order);
    char name[HEAD_NAME_MAX];
    struct err ignored;
    if (r->singles.n_variants && order && !head_order(r->single_drop, n, order, &ignored)) {
        strbuf_adds(out, "loss of one head costs most:");
        for (size_t i = 0; i < 5 && i < n; i++)
            strbuf_addf(out, "  %s %+.1f%%", heads_report_name(r, order[n - 1 - i], name),
                        r->single_drop[order[n - 1 - i]]);
        strbuf_addc(out, '\n');
    }
    free(order);
}

static void add_sources(const struct heads_report *r, struct strbuf *out)
{
    const struct head_attribution *a = &r->attribution;
    if (!a->source || r->facts->n != 1)
        return;
    const struct prepared *fact = r->facts->facts[0];
    size_t n = fact->tokens.n, shown = r->top < 5 ? r->top : 5;
    strbuf_adds(out, "\nread from these tokens (logits):\n");
    for (size_t i = 0; i < shown && i < a->n_heads; i++) {
        char name[HEAD_NAME_MAX];
        const double *source = a->source + r->by_mean[i] * n;
        size_t best[3] = { SIZE_MAX, SIZE_MAX, SIZE_MAX };
        strbuf_addf(out, "%-7s", heads_report_name(r, r->by_mean[i], name));
        for (size_t b = 0; b < 3; b++)
            for (size_t k = 0; k < n; k++)
                if (k != best[0] && k != best[1] && (best[b] == SIZE_MAX || fabs(source[k]) > fabs(source[best[b]])))
                    best[b] = k;
        for (size_t b = 0; b < 3 && b < n; b++) {
            strbuf_addf(out, "%+8.3f ", source[best[b]]);
            token_text_padded(out, r->model, fact->tokens.id[best[b]], 16);
        }
        while (out->len && out->data[out->len - 1] == ' ')
            out->data[--out->len] = '\0';
        strbuf_addc(out, '\n');
    }
}

static void describe_ablation(const struct heads_report *r, struct strbuf *out)
{
    strbuf_addf(out, "z %s at %s", r->ablation.mode == ABLATION_MEAN ? "set to its mean" : "zero",
                r->ablation.everywhere ? "every token" : "the last token");
}

static struct ablation_report ranked_report(const struct heads_report *r)
{
    return (struct ablation_report){ .run = &r->ranked, .counts = r->counts, .n_counts = r->n_counts, .what = "heads" };
}

static void add_ranked(const struct heads_report *r, struct strbuf *out)
{
    const struct ablation_report a = ranked_report(r);
    if (!r->ranked.n_variants)
        return;
    strbuf_addf(out, "\nwithout the %s, against random heads (", heads_ranking_words(r->ranking));
    describe_ablation(r, out);
    strbuf_addf(out, ";\nrandom: mean and sd of %zu draws):\n", r->ranked.n_draws);
    ablation_report_text(&a, out);
}

static size_t best_head(const double *score, size_t n)
{
    size_t best = 0;
    for (size_t h = 1; h < n; h++)
        if (score[h] > score[best])
            best = h;
    return best;
}

static void add_map(const struct heads_report *r, struct strbuf *out)
{
    size_t n = r->map.n_heads, *order = mem_array(n, sizeof *order);
    char name[HEAD_NAME_MAX];
    struct err ignored;
    if (!r->map.n_relations || !order) {
        free(order);
        return;
    }
    strbuf_addf(out,
                "\nin the weights: pairs whose object is in a head's top %d of MLP0(ln2(E_s)) W_V W_O W_U (control: "
                "other\nobjects of the relation; relations under %d pairs are marked *)\n",
                HEAD_MAP_K, HEAD_MAP_PAIRS);
    strbuf_addf(out, "%-20s%7s%9s  %-8s%7s%9s%9s%9s%9s\n", "relation", "pairs", "skipped", "head", "score", "control",
                "suppress", "any head", "control");
    for (size_t i = 0; i < r->map.n_relations; i++) {
        const struct heads_relation *relation = &r->relations[i];
        const double *score = r->map.promote + i * n;
        size_t best = best_head(score, n), against = best_head(r->map.suppress + i * n, n);
        strbuf_addf(out, "%-19.19s%s%7zu%9zu  %-8s%7.2f", relation->name,
                    relation->n_pairs < HEAD_MAP_PAIRS ? "*" : " ", relation->n_pairs, relation->n_skipped,
                    score[best] > 0 ? heads_report_name(r, best, name) : "none", score[best]);
        add_cell(out, "%.2f", 9, r->map.control[i * n + best]);
        strbuf_addf(out, "%9.2f%9.2f", r->map.suppress[i * n + against], r->map.covered[i]);
        add_cell(out, "%.2f", 9, r->map.covered_control[i]);
        strbuf_addc(out, '\n');
    }
    strbuf_adds(out, "hub heads (share of all pairs):");
    for (size_t i = 0; !head_order(r->hub, n, order, &ignored) && i < 6 && i < n; i++)
        strbuf_addf(out, "  %s %.1f%%", heads_report_name(r, order[i], name), 100 * r->hub[order[i]]);
    strbuf_addc(out, '\n');
    free(order);
}

void heads_report_text(const void *report, struct strbuf *out)
{
    const struct heads_report *r = report;
    const struct model_config *c = &r->model->config;
    strbuf_addf(out, "model     %s, %zu layers of %zu heads\nfacts     ", file_base_name(r->model->path), c->n_layers,
                c->n_heads);
    known_facts_describe(r->facts, out);
    if (r->facts->n == 1) {
        const struct prepared *fact = r->facts->facts[0];
        strbuf_adds(out, "\nanswer    ");
        token_text_padded(out, r->model, r->facts->answers[0], 0);
        strbuf_addf(out, "%s%.60s", *fact->subject ? "; subject " : "; no subject", fact->subject);
    }
    strbuf_addf(out, "\nlogit     of the answer, less %s;\n          norm convention: attribution; last token",
                r->against);
    strbuf_addc(out, '\n');
    add_heads(r, out);
    add_costly(r, out);
    add_sources(r, out);
    add_ranked(r, out);
    add_map(r, out);
}

/* --- CSV --- */

void heads_report_csv(const void *report, struct strbuf *out)
{
    const struct heads_report *r = report;
    strbuf_adds(out, "layer,head,logit,logit_low,logit_high,from_subject,to_subject,without_percent,previous,duplicate,"
                     "induction,pairs_held\n");
    for (size_t h = 0; h < r->attribution.n_heads; h++) {
        strbuf_addf(out, "%zu,%zu", h / r->model->config.n_heads, h % r->model->config.n_heads);
        csv_number(out, r->mean[h]);
        csv_number(out, r->low[h]);
        csv_number(out, r->high[h]);
        csv_number(out, r->from_subject[h]);
        csv_number(out, r->to_subject[h]);
        csv_number(out, r->single_drop[h]);
        for (enum head_pattern p = 0; p < N_HEAD_PATTERNS; p++)
            csv_number(out, pattern_score(r, p, h));
        csv_number(out, r->hub[h]);
        strbuf_addc(out, '\n');
    }
}

void heads_report_map_csv(const void *report, struct strbuf *out)
{
    const struct heads_report *r = report;
    size_t n = r->map.n_heads;
    if (r->map.n_relations)
        strbuf_adds(out, "relation,pairs,skipped,layer,head,promote,suppress,control\n");
    for (size_t i = 0; i < r->map.n_relations * n; i++) {
        const struct heads_relation *relation = &r->relations[i / n];
        size_t h = i % n;
        strbuf_add_csv(out, relation->name, strlen(relation->name));
        strbuf_addf(out, ",%zu,%zu,%zu,%zu", relation->n_pairs, relation->n_skipped, h / r->model->config.n_heads,
                    h % r->model->config.n_heads);
        csv_number(out, r->map.promote[i]);
        csv_number(out, r->map.suppress[i]);
        csv_number(out, r->map.control[i]);
        strbuf_addc(out, '\n');
    }
}

void heads_report_ablation_csv(const void *report, struct strbuf *out)
{
    const struct heads_report *r = report;
    const struct ablation_report a = ranked_report(r);
    if (r->ranked.n_variants)
        ablation_report_csv(&a, out);
}

/* --- JSON --- */

static void add_json_heads(const struct heads_report *r, struct strbuf *out)
{
    char name[HEAD_NAME_MAX];
    strbuf_adds(out, ",\n\"heads\":[");
    for (size_t h = 0; h < r->attribution.n_heads; h++) {
        strbuf_addf(out, "%s\n{\"name\":\"%s\",\"layer\":%zu,\"head\":%zu", h ? "," : "", heads_report_name(r, h, name),
                    h / r->model->config.n_heads, h % r->model->config.n_heads);
        json_number(out, "logit", r->mean[h]);
        json_number(out, "logit_low", r->low[h]);
        json_number(out, "logit_high", r->high[h]);
        json_number(out, "from_subject", r->from_subject[h]);
        json_number(out, "to_subject", r->to_subject[h]);
        json_number(out, "without_percent", r->single_drop[h]);
        for (enum head_pattern p = 0; p < N_HEAD_PATTERNS; p++)
            json_number(out, head_pattern_name(p), pattern_score(r, p, h));
        json_number(out, "pairs_held", r->hub[h]);
        if (r->attribution.source && r->facts->n == 1) {
            size_t n = r->facts->facts[0]->tokens.n;
            strbuf_adds(out, ",\"source\":[");
            for (size_t k = 0; k < n; k++)
                strbuf_addf(out, "%s%.9g", k ? "," : "", r->attribution.source[h * n + k]);
            strbuf_addc(out, ']');
        }
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, ']');
}

static void add_json_ablation(const struct heads_report *r, struct strbuf *out)
{
    const struct ablation_report a = ranked_report(r);
    char name[HEAD_NAME_MAX];
    if (!r->ranked.n_variants)
        return;
    strbuf_addf(out, ",\n\"ablation\":{\"mode\":\"%s\",\"at\":\"%s\",\"ranked_by\":\"%s\",\"seed\":%llu,\"order\":[",
                r->ablation.mode == ABLATION_MEAN ? "mean" : "zero", r->ablation.everywhere ? "all" : "last",
                heads_ranking_name(r->ranking), (unsigned long long)r->ablation.seed);
    for (size_t i = 0; i < r->counts[r->n_counts - 1]; i++)
        strbuf_addf(out, "%s\"%s\"", i ? "," : "", heads_report_name(r, r->order[i], name));
    strbuf_adds(out, "],");
    ablation_report_json(&a, out);
    strbuf_addc(out, '}');
}

static void add_json_map(const struct heads_report *r, struct strbuf *out)
{
    size_t n = r->map.n_heads;
    if (!r->map.n_relations)
        return;
    strbuf_addf(out, ",\n\"map\":[");
    for (size_t i = 0; i < r->map.n_relations; i++) {
        const struct heads_relation *relation = &r->relations[i];
        strbuf_adds(out, i ? ",\n{\"relation\":" : "\n{\"relation\":");
        strbuf_add_json(out, relation->name, strlen(relation->name));
        strbuf_addf(out, ",\"copying\":%s,\"k\":%d,\"pairs\":%zu,\"skipped\":%zu", relation->copying ? "true" : "false",
                    relation->copying ? HEAD_MAP_COPYING_K : HEAD_MAP_K, relation->n_pairs, relation->n_skipped);
        json_number(out, "any_head", r->map.covered[i]);
        json_number(out, "any_head_control", r->map.covered_control[i]);
        strbuf_adds(out, ",\"promote\":[");
        for (size_t h = 0; h < n; h++)
            strbuf_addf(out, "%s%.6g", h ? "," : "", r->map.promote[i * n + h]);
        strbuf_adds(out, "],\"suppress\":[");
        for (size_t h = 0; h < n; h++)
            strbuf_addf(out, "%s%.6g", h ? "," : "", r->map.suppress[i * n + h]);
        strbuf_adds(out, "]}");
    }
    strbuf_addc(out, ']');
}

void heads_report_json(const void *report, struct strbuf *out)
{
    const struct heads_report *r = report;
    const struct known_facts *k = r->facts;
    strbuf_adds(out, "{\"format\":\"strata-heads\",\"version\":1,\"norm\":\"attribution\"");
    json_text(out, "model", r->model->path);
    json_text(out, "against", r->against);
    strbuf_addf(out,
                ",\"facts_given\":%zu,\"facts_known\":%zu,\"facts_unknown\":%zu,\"facts_without_answer\":%zu,"
                "\"facts_measured\":%zu,\"n_subjects\":%zu,\"own_answer\":%s",
                k->n_given, k->n_known, k->n_unknown, k->n_without_answer, k->n, r->n_subjects,
                k->own_answer ? "true" : "false");
    if (k->n == 1) {
        json_text(out, "prompt", k->facts[0]->text);
        strbuf_addf(out, ",\"answer_token\":%d,\"answer_prob\":%.9g,\"answer_rank\":%d", (int)k->answers[0], k->prob[0],
                    (int)k->rank[0]);
    }
    if (r->patterns.n_heads)
        strbuf_addf(out, ",\"patterns\":{\"tokens\":%zu,\"prompts\":%zu,\"first_id\":%d,\"last_id\":%d,\"seed\":%llu}",
                    r->patterns.n_tokens, r->patterns.n_prompts, (int)r->patterns.first_id, (int)r->patterns.last_id,
                    (unsigned long long)r->seed);
    add_json_heads(r, out);
    add_json_ablation(r, out);
    add_json_map(r, out);
    strbuf_adds(out, "}\n");
}

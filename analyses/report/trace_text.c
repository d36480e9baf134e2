/* A traced fact for terminals and as JSON. */
#include "analyses/cli/text.h"
#include "analyses/plot/plot.h"
#include "analyses/report/stages_report.h"
#include "analyses/report/token_text.h"
#include "analyses/report/trace_report.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct trace_head trace_strongest_head(const struct fact_trace *t, const struct model_config *c, size_t layer)
{
    const double *heads = t->attribution.heads + layer * c->n_heads;
    struct trace_head best = { 0 };
    for (size_t h = 1; h < c->n_heads; h++)
        if (fabs(heads[h]) > fabs(heads[best.head]))
            best.head = h;
    const float *pattern = t->pattern + (layer * c->n_heads + best.head) * t->n_tokens;
    for (size_t key = 1; key < t->n_tokens; key++)
        if (pattern[key] > pattern[best.key])
            best.key = key;
    best.logit = heads[best.head];
    best.weight = (double)pattern[best.key];
    return best;
}

double trace_absolute_sum(const struct fact_trace *t, const struct model_config *c)
{
    const struct attribution *a = &t->attribution;
    double sum = fabs(a->embed) + fabs(a->pos_embed) + fabs(a->bias);
    for (size_t l = 0; l < c->n_layers; l++)
        sum += fabs(a->attention[l]) + fabs(a->mlp[l]);
    return sum;
}

/* The last token's state s in the lens's arrays. */
static size_t last_state(const struct fact_trace *t, size_t s)
{
    return t->read_row * t->n_states + s;
}

static int32_t top_token(const struct trace_report *r, size_t s)
{
    return r->trace->lens.top_token[last_state(r->trace, s) * r->top_k];
}

/* --- terminal --- */

enum { TOKEN_WIDTH = 13, BAR_WIDTH = 14, HEAD_TOKEN_WIDTH = 13 };

/* Blocks of eighths: full at rank 1, empty at the last rank of the vocabulary, logarithmic between. */
static void add_bar(struct strbuf *out, double rank, double n_vocab)
{
    static const char *const eighths[] = { "",
                                           "\xe2\x96\x8f",
                                           "\xe2\x96\x8e",
                                           "\xe2\x96\x8d",
                                           "\xe2\x96\x8c",
                                           "\xe2\x96\x8b",
                                           "\xe2\x96\x8a",
                                           "\xe2\x96\x89" };
    double share = n_vocab > 1 ? 1 - log(rank) / log(n_vocab) : 1;
    size_t n = (size_t)(share * BAR_WIDTH * 8 + 0.5), width = 0;
    for (; width < n / 8; width++)
        strbuf_adds(out, "\xe2\x96\x88");
    if (n % 8) {
        strbuf_adds(out, eighths[n % 8]);
        width++;
    }
    for (; width < BAR_WIDTH; width++)
        strbuf_addc(out, ' ');
}

/* "0.0123", "3.2e-08": seven columns. */
static void add_probability(struct strbuf *out, double p)
{
    strbuf_addf(out, p >= 0.0001 ? "%7.4f" : "%7.1e", p);
}

/* 1234567 ranks fit in six columns: "1234k" beyond. */
static void add_rank(struct strbuf *out, int32_t rank)
{
    if (rank < 1000000)
        strbuf_addf(out, "%6d", (int)rank);
    else
        strbuf_addf(out, "%5dk", (int)(rank / 1000));
}

/* Seven columns; what would show as 0.00 is left blank so that the eye finds the rest. */
static void add_share(struct strbuf *out, double logit)
{
    if (isnan(logit))
        strbuf_adds(out, "      -");
    else if (fabs(logit) < 0.005)
        strbuf_adds(out, "      \xc2\xb7");
    else
        strbuf_addf(out, fabs(logit) < 1000 ? "%+7.2f" : "%+7.0f", logit);
}

static void add_state(const struct trace_report *r, size_t s, bool colour, struct strbuf *out)
{
    const struct lens_result *lens = &r->trace->lens;
    size_t i = last_state(r->trace, s);
    bool hit = lens->rank[i] == 1;
    strbuf_addc(out, ' ');
    if (colour && hit)
        strbuf_adds(out, "\x1b[1;32m");
    token_text_padded(out, r->model, top_token(r, s), TOKEN_WIDTH);
    if (colour && hit)
        strbuf_adds(out, "\x1b[0m");
    strbuf_addc(out, ' ');
    add_probability(out, exp((double)lens->logprob[i]));
    strbuf_addc(out, ' ');
    add_rank(out, lens->rank[i]);
    strbuf_addc(out, ' ');
    add_bar(out, lens->rank[i], (double)r->model->config.d_vocab);
}

static void add_layer(const struct trace_report *r, size_t layer, bool colour, struct strbuf *out)
{
    const struct fact_trace *t = r->trace;
    struct trace_head head = trace_strongest_head(t, &r->model->config, layer);
    strbuf_addf(out, "%5zu", layer);
    add_state(r, layer + 1, colour, out);
    strbuf_addc(out, ' ');
    add_share(out, t->attribution.attention[layer]);
    strbuf_addc(out, ' ');
    add_share(out, t->attribution.mlp[layer]);
    if (t->not_attributed) {
        strbuf_addc(out, '\n');
        return;
    }
    strbuf_addf(out, "  H%-3zu", head.head);
    add_share(out, head.logit);
    strbuf_adds(out, " ");
    token_text_padded(out, r->model, r->fact->tokens.id[head.key], HEAD_TOKEN_WIDTH);
    strbuf_addf(out, " %3.0f%%\n", 100 * head.weight);
}

static void add_shown(struct strbuf *out, const char *text, size_t width)
{
    struct strbuf shown = STRBUF_INIT;
    plot_show(&shown, text, width);
    strbuf_adds(out, strbuf_text(&shown));
    out->failed |= strbuf_failed(&shown);
    strbuf_release(&shown);
}

/* One token as it stands in the prompt's line: with a bracket where the subject begins or ends. */
static void add_prompt_token(const struct trace_report *r, size_t i, struct strbuf *out)
{
    const struct prepared *f = r->fact;
    struct strbuf token = STRBUF_INIT, shown = STRBUF_INIT;
    bool subject = f->subject_begin < f->subject_end;
    token_text(&token, r->model, f->tokens.id[i]);
    plot_show(&shown, strbuf_text(&token), 40);
    strbuf_addf(out, "%s%s%s",
                subject && i == f->subject_begin ? "["
                : i                              ? "|"
                                                 : "",
                strbuf_text(&shown), subject && i + 1 == f->subject_end ? "]" : "");
    out->failed |= strbuf_failed(&token) || strbuf_failed(&shown);
    strbuf_release(&token);
    strbuf_release(&shown);
}

/* The tokens of the prompt; of a long one the first and the last, and those of the subject that have room. */
static void add_prompt(const struct trace_report *r, bool full, struct strbuf *out)
{
    enum { FIRST = 40, LAST = 20 };
    const struct prepared *f = r->fact;
    size_t used = 10;
    bool left_out = false;
    strbuf_adds(out, "prompt    ");
    for (size_t i = 0; i < f->tokens.n; i++) {
        struct strbuf token = STRBUF_INIT;
        bool near_subject = i + 4 > f->subject_begin && i < f->subject_begin + 8 && f->subject_begin < f->subject_end;
        if (!full && i >= FIRST && i + LAST < f->tokens.n && !near_subject) {
            strbuf_adds(&token, left_out ? "" : " ...");
            left_out = true;
        } else {
            add_prompt_token(r, i, &token);
            left_out = false;
        }
        size_t width = plot_width(strbuf_text(&token));
        if (used + width > TRACE_TEXT_WIDTH) {
            strbuf_adds(out, "\n          ");
            used = 10;
        }
        strbuf_adds(out, strbuf_text(&token));
        used += width;
        out->failed |= strbuf_failed(&token);
        strbuf_release(&token);
    }
    strbuf_addc(out, '\n');
}

static void add_head(const struct trace_report *r, bool full, struct strbuf *out)
{
    const struct prepared *f = r->fact;
    strbuf_adds(out, "model     ");
    add_shown(out, r->model->path, TRACE_TEXT_WIDTH - 10);
    strbuf_addc(out, '\n');
    add_prompt(r, full, out);
    strbuf_adds(out, "answer    ");
    token_text_padded(out, r->model, r->trace->answer, 0);
    strbuf_addf(out, " (token %d", (int)r->trace->answer);
    if (r->own_answer)
        strbuf_adds(out, ": no --answer given, so the model's own top token");
    else if (f->n_answer_tokens > 1)
        strbuf_addf(out, ", the first of %zu", f->n_answer_tokens);
    strbuf_adds(out, ")\n");
    if (strcmp(r->edits, "none")) {
        strbuf_adds(out, "edits     ");
        add_shown(out, r->edits, TRACE_TEXT_WIDTH - 10);
        strbuf_addc(out, '\n');
    }
    strbuf_adds(out, "\n"
                     "      after the layer (norm: lens)                       adds to its logit (norm: attribution)\n"
                     "layer top token     p(answer)  rank 1 = full bar      attn     FFN  strongest head, looks at\n");
}

/* First layer from which the answer stays on rank 1; n_states where it never does. */
static size_t settled_state(const struct fact_trace *t)
{
    size_t s = t->n_states;
    while (s > 0 && t->lens.rank[last_state(t, s - 1)] == 1)
        s--;
    return s;
}

static void add_settled(const struct fact_trace *t, struct strbuf *out)
{
    size_t s = settled_state(t);
    if (s == t->n_states)
        strbuf_addf(out, "the answer is on rank %d in the end\n", (int)t->lens.rank[last_state(t, t->n_states - 1)]);
    else if (s == 0)
        strbuf_adds(out, "the answer is on rank 1 from the embedding on\n");
    else
        strbuf_addf(out, "the answer is on rank 1 from layer %zu on\n", s - 1);
}

static void add_sums(const struct trace_report *r, struct strbuf *out)
{
    const struct fact_trace *t = r->trace;
    const struct attribution *a = &t->attribution;
    double attention = 0, mlp = 0;
    for (size_t l = 0; l < r->model->config.n_layers; l++) {
        attention += a->attention[l];
        mlp += a->mlp[l];
    }
    if (t->not_attributed) {
        strbuf_addf(out, "\nlogit %.4f; its parts, and the three stages, are not available: %s\n", t->logit,
                    t->not_attributed);
        add_settled(t, out);
        return;
    }
    strbuf_addf(out, "\nlogit %.4f", t->logit);
    if (r->model->config.logit_softcap > 0)
        strbuf_addf(out, " (%.4f before the soft-cap)", a->sum);
    strbuf_addf(out, " = embedding %+.4f", a->embed + a->pos_embed);
    if (a->bias != 0)
        strbuf_addf(out, ", biases %+.4f", a->bias);
    strbuf_addf(out, ", attention %+.4f, FFN %+.4f", attention, mlp);
    strbuf_addf(out, strcmp(r->edits, "none") ? "\nthe rest, %.1e, is what the edits add\n" : "\nresidue %.1e\n",
                -a->residue);
    add_settled(t, out);
}

/* --- layers, all or those that have room --- */

static size_t count_lines(const struct strbuf *text)
{
    size_t n = 0;
    for (const char *at = strbuf_text(text); (at = strchr(at, '\n')); at++)
        n++;
    return n;
}

/*
 * Marks at most `room` layers: half of them evenly spaced with the last one, the one where the answer settles, and
 * those that add most. Returns how many.
 */
static size_t choose_layers(const struct trace_report *r, size_t room, unsigned char *shown)
{
    const struct attribution *a = &r->trace->attribution;
    size_t n = r->model->config.n_layers, spaced = room > 1 ? room / 2 : 1, step = (n + spaced - 1) / spaced;
    size_t n_shown = 0;
    size_t settled = settled_state(r->trace);
    for (size_t l = 0; l < n; l++) {
        shown[l] = room >= n || (n - 1 - l) % step == 0 || l + 1 == settled;
        n_shown += shown[l];
    }
    while (n_shown < room && n_shown < n) {
        size_t best = n;
        double most = -1;
        for (size_t l = 0; l < n; l++) {
            double added = fabs(a->attention[l]) + fabs(a->mlp[l]);
            if (!shown[l] && !(added <= most)) {
                best = l;
                most = added;
            }
        }
        shown[best] = 1;
        n_shown++;
    }
    return n_shown;
}

static void add_layers(const struct trace_report *r, size_t room, bool colour, struct strbuf *out)
{
    size_t n = r->model->config.n_layers;
    unsigned char *shown = mem_zeroed(n, 1);
    if (!shown) {
        out->failed = true;
        return;
    }
    size_t n_shown = choose_layers(r, room, shown);
    for (size_t l = 0; l < n; l++)
        if (shown[l])
            add_layer(r, l, colour, out);
    if (n_shown < n)
        strbuf_addf(out, "      %zu of %zu layers left out, which add least: -o FOLDER or --json has them\n",
                    n - n_shown, n);
    free(shown);
}

void trace_report_text(const struct trace_report *r, bool colour, bool full, struct strbuf *out)
{
    enum { LEAST_LAYERS = 8 };
    struct strbuf below = STRBUF_INIT;
    add_head(r, full, out);
    strbuf_adds(out, "   in");
    add_state(r, 0, colour, out);
    strbuf_addc(out, ' ');
    add_share(out, r->trace->attribution.embed + r->trace->attribution.pos_embed);
    strbuf_adds(out, " (embedding)\n");
    add_sums(r, &below);
    if (r->stages)
        stages_report_one_text(r->stages, &below);
    size_t used = count_lines(out) + count_lines(&below) + 1, room = r->model->config.n_layers;
    if (!full && used + room > TRACE_TEXT_LINES)
        room = used + LEAST_LAYERS < TRACE_TEXT_LINES ? TRACE_TEXT_LINES - used : LEAST_LAYERS;
    add_layers(r, room, colour, out);
    strbuf_adds(out, strbuf_text(&below));
    out->failed |= strbuf_failed(&below);
    strbuf_release(&below);
}

/* --- JSON --- */

static void add_json_text(struct strbuf *out, const char *key, const char *text)
{
    strbuf_addf(out, "\"%s\":", key);
    strbuf_add_json(out, text, strlen(text));
}

static void add_number(struct strbuf *out, const char *key, double x)
{
    strbuf_addf(out, ",\"%s\":", key);
    if (isfinite(x))
        strbuf_addf(out, "%.9g", x);
    else
        strbuf_adds(out, "null");
}

static void add_token(const struct trace_report *r, const char *key, int32_t id, struct strbuf *out)
{
    strbuf_addf(out, ",\"%s\":{", key);
    add_token_keys(out, r->model->tokenizer, id);
    strbuf_addc(out, '}');
}

static void add_json_state(const struct trace_report *r, size_t s, struct strbuf *out)
{
    const struct lens_result *lens = &r->trace->lens;
    size_t i = last_state(r->trace, s);
    strbuf_addf(out, "\"label\":\"%s\",\"rank\":%d,\"ties\":%d", r->labels[s], (int)lens->rank[i], (int)lens->ties[i]);
    add_number(out, "logprob", (double)lens->logprob[i]);
    add_number(out, "prob", exp((double)lens->logprob[i]));
    add_number(out, "entropy", (double)lens->entropy[i]);
    add_number(out, "kl_final", (double)lens->kl_final[i]);
    strbuf_adds(out, ",\"top\":[");
    for (size_t k = 0; k < r->top_k; k++) {
        strbuf_adds(out, k ? ",{" : "{");
        add_token_keys(out, r->model->tokenizer, lens->top_token[i * r->top_k + k]);
        add_number(out, "logprob", (double)lens->top_logprob[i * r->top_k + k]);
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, ']');
}

static void add_json_layer(const struct trace_report *r, size_t layer, struct strbuf *out)
{
    const struct model_config *c = &r->model->config;
    const struct attribution *a = &r->trace->attribution;
    struct trace_head head = trace_strongest_head(r->trace, c, layer);
    strbuf_addf(out, ",{\"layer\":%zu,", layer);
    add_json_state(r, layer + 1, out);
    add_number(out, "attention", a->attention[layer]);
    add_number(out, "mlp", a->mlp[layer]);
    strbuf_adds(out, ",\"heads\":[");
    for (size_t h = 0; h < c->n_heads && !r->trace->not_attributed; h++)
        strbuf_addf(out, "%s%.9g", h ? "," : "", a->heads[layer * c->n_heads + h]);
    if (r->trace->not_attributed) {
        strbuf_adds(out, "]}");
        return;
    }
    strbuf_addf(out, "],\"strongest_head\":{\"head\":%zu", head.head);
    add_number(out, "logit", head.logit);
    strbuf_addf(out, ",\"looks_at\":{\"position\":%zu,", head.key);
    add_token_keys(out, r->model->tokenizer, r->fact->tokens.id[head.key]);
    add_number(out, "attention", head.weight);
    strbuf_adds(out, "}}}");
}

void trace_report_json(const struct trace_report *r, struct strbuf *out)
{
    const struct prepared *f = r->fact;
    const struct attribution *a = &r->trace->attribution;
    strbuf_adds(out, "{\"format\":\"strata-trace\",\"version\":1,");
    add_json_text(out, "model", r->model->path);
    strbuf_addc(out, ',');
    add_json_text(out, "id", f->id);
    strbuf_addc(out, ',');
    add_json_text(out, "prompt", f->text);
    strbuf_addc(out, ',');
    add_json_text(out, "subject", f->subject);
    strbuf_addf(out, ",\"subject_tokens\":[%zu,%zu],\"tokens\":[", f->subject_begin, f->subject_end);
    for (size_t i = 0; i < f->tokens.n; i++) {
        strbuf_adds(out, i ? ",{" : "{");
        add_token_keys(out, r->model->tokenizer, f->tokens.id[i]);
        strbuf_addf(out, ",\"begin\":%d,\"end\":%d}", (int)f->tokens.begin[i], (int)f->tokens.end[i]);
    }
    strbuf_addc(out, ']');
    add_token(r, "answer", r->trace->answer, out);
    strbuf_addf(out, ",\"own_answer\":%s,", r->own_answer ? "true" : "false");
    add_json_text(out, "edits", r->edits);
    strbuf_adds(out, ",\"norms\":{\"rank\":\"lens\",\"attention\":\"attribution\"}");
    add_number(out, "logit", r->trace->logit);
    add_number(out, "embed", a->embed);
    add_number(out, "pos_embed", a->pos_embed);
    add_number(out, "bias", a->bias);
    add_number(out, "residue", a->residue);
    strbuf_adds(out, ",\"layers\":[{\"layer\":null,");
    add_json_state(r, 0, out);
    strbuf_addc(out, '}');
    for (size_t l = 0; l < r->model->config.n_layers; l++)
        add_json_layer(r, l, out);
    strbuf_addc(out, ']');
    if (r->stages) {
        strbuf_adds(out, ",\"stages\":");
        stages_report_one_json(r->stages, out);
    }
    strbuf_adds(out, "}\n");
}

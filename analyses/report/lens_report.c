#include "analyses/report/lens_report.h"
#include "analyses/report/fields.h"

#include "analyses/cli/text.h"
#include "analyses/plot/plot.h"
#include "analyses/report/token_text.h"

#include <math.h>

/* The answer as the facts give it; where they give a token only, its text. */
static void add_answer(struct strbuf *out, const struct lens_report *r, const struct prepared *fact)
{
    if (*fact->answer)
        strbuf_adds(out, fact->answer);
    else if (fact->answer_token >= 0)
        token_text(out, r->model, fact->answer_token);
}

/* --- CSV --- */

void lens_report_csv_head(const struct lens_report *r, struct strbuf *out)
{
    strbuf_adds(out, "prompt,id,position,layer,label,answer,rank,ties,logprob,prob,entropy,kl_final,top1,top1_prob");
    strbuf_adds(out, r->chain ? ",chain_logprob\n" : "\n");
}

static void add_field(struct strbuf *out, const struct strbuf *text)
{
    strbuf_addc(out, ',');
    strbuf_add_csv(out, strbuf_text(text), text->len);
    out->failed |= strbuf_failed(text);
}

void lens_report_csv(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out)
{
    const struct lens_result *lens = &r->lens->result;
    size_t n_states = r->lens->n_states, k = r->lens->top_k;
    struct strbuf answer = STRBUF_INIT, id = STRBUF_INIT, top = STRBUF_INIT;
    add_answer(&answer, r, p->fact);
    strbuf_adds(&id, p->fact->id);
    for (size_t row = 0; row < p->n_rows; row++)
        for (size_t s = 0; s < n_states; s++) {
            size_t i = (p->first_row + row) * n_states + s;
            strbuf_addf(out, "%zu", p->number);
            add_field(out, &id);
            strbuf_addf(out, ",%d,%zu,%s", (int)p->positions[row], s, r->labels[s]);
            add_field(out, &answer);
            if (p->fact->answer_token >= 0)
                strbuf_addf(out, ",%d,%d", (int)lens->rank[i], (int)lens->ties[i]);
            else
                strbuf_adds(out, ",,");
            csv_number(out, (double)lens->logprob[i]);
            csv_number(out, exp((double)lens->logprob[i]));
            csv_number(out, (double)lens->entropy[i]);
            csv_number(out, (double)lens->kl_final[i]);
            strbuf_reset(&top);
            if (k)
                token_text(&top, r->model, lens->top_token[i * k]);
            add_field(out, &top);
            csv_number(out, k ? exp((double)lens->top_logprob[i * k]) : (double)NAN);
            if (r->chain)
                csv_number(out, (double)p->chain_logprob);
            strbuf_addc(out, '\n');
        }
    strbuf_release(&answer);
    strbuf_release(&id);
    strbuf_release(&top);
}

/* --- JSON --- */

void lens_report_json_head(const struct lens_report *r, struct strbuf *out)
{
    strbuf_adds(out, "{\"format\":\"strata-lens\",\"version\":1,\"lens\":\"lens\",");
    json_text(out, "model", r->model->path);
    strbuf_addf(out, ",\"site\":\"%s\",", lens_source_name(r->lens->source));
    json_text(out, "positions", r->positions);
    json_text(out, "edits", r->edits);
    strbuf_adds(out, ",\"labels\":[");
    for (size_t s = 0; s < r->lens->n_states; s++)
        strbuf_addf(out, "%s\"%s\"", s ? "," : "", r->labels[s]);
    strbuf_adds(out, "],\"prompts\":[\n");
}

void lens_report_json_end(struct strbuf *out)
{
    strbuf_adds(out, "\n]}\n");
}

static void add_json_state(const struct lens_report *r, const struct prepared *fact, size_t i, struct strbuf *out)
{
    const struct lens_result *lens = &r->lens->result;
    size_t k = r->lens->top_k;
    strbuf_addf(out, "{\"label\":\"%s\"", r->labels[i % r->lens->n_states]);
    if (fact->answer_token >= 0) {
        strbuf_addf(out, ",\"rank\":%d,\"ties\":%d", (int)lens->rank[i], (int)lens->ties[i]);
        json_number(out, "logprob", (double)lens->logprob[i]);
        json_number(out, "prob", exp((double)lens->logprob[i]));
    }
    json_number(out, "entropy", (double)lens->entropy[i]);
    json_number(out, "kl_final", (double)lens->kl_final[i]);
    strbuf_adds(out, ",\"top\":[");
    for (size_t t = 0; t < k; t++) {
        strbuf_adds(out, t ? ",{" : "{");
        add_token_keys(out, r->model->tokenizer, lens->top_token[i * k + t]);
        json_number(out, "logprob", (double)lens->top_logprob[i * k + t]);
        strbuf_addc(out, '}');
    }
    strbuf_adds(out, "]}");
}

void lens_report_json(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out)
{
    const struct prepared *fact = p->fact;
    size_t n_states = r->lens->n_states;
    strbuf_adds(out, p->number ? ",\n{" : "{");
    json_text(out, "id", fact->id);
    json_text(out, "text", fact->text);
    if (fact->answer_token >= 0) {
        struct strbuf answer = STRBUF_INIT;
        add_answer(&answer, r, fact);
        json_text(out, "answer", strbuf_text(&answer));
        out->failed |= strbuf_failed(&answer);
        strbuf_release(&answer);
        strbuf_addf(out, ",\"answer_token\":%d,\"n_answer_tokens\":%zu", (int)fact->answer_token,
                    fact->n_answer_tokens);
        if (r->chain)
            json_number(out, "chain_logprob", (double)p->chain_logprob);
    }
    strbuf_adds(out, ",\"rows\":[");
    for (size_t row = 0; row < p->n_rows; row++) {
        size_t at = (size_t)p->positions[row];
        strbuf_addf(out, "%s{\"position\":%zu,\"token\":{", row ? "," : "", at);
        add_token_keys(out, r->model->tokenizer, fact->tokens.id[at]);
        strbuf_adds(out, "},\"layers\":[");
        for (size_t s = 0; s < n_states; s++) {
            strbuf_adds(out, s ? "," : "");
            add_json_state(r, fact, (p->first_row + row) * n_states + s, out);
        }
        strbuf_adds(out, "]}");
    }
    strbuf_adds(out, "]}");
}

/* --- text --- */

enum { TOP_SHOWN = 3, TOP_WIDTH = 12 };

static void add_text_state(const struct lens_report *r, const struct prepared *fact, size_t i, struct strbuf *out)
{
    const struct lens_result *lens = &r->lens->result;
    size_t k = r->lens->top_k;
    strbuf_addf(out, "%-12s", r->labels[i % r->lens->n_states]);
    if (fact->answer_token >= 0)
        strbuf_addf(out, " %7d %9.3g", (int)lens->rank[i], exp((double)lens->logprob[i]));
    strbuf_addf(out, " %8.3f %9.3f ", (double)lens->entropy[i], (double)lens->kl_final[i]);
    for (size_t t = 0; t < k && t < TOP_SHOWN; t++) {
        strbuf_addc(out, ' ');
        token_text_padded(out, r->model, lens->top_token[i * k + t], TOP_WIDTH);
        strbuf_addf(out, " %4.2f", exp((double)lens->top_logprob[i * k + t]));
    }
    strbuf_addc(out, '\n');
}

void lens_report_text(const struct lens_report *r, const struct lens_report_prompt *p, struct strbuf *out)
{
    const struct prepared *fact = p->fact;
    bool answered = fact->answer_token >= 0;
    if (answered) {
        strbuf_adds(out, "answer ");
        token_text_padded(out, r->model, fact->answer_token, 0);
        strbuf_addf(out, " (token %d%s)", (int)fact->answer_token, fact->n_answer_tokens > 1 ? ", the first of " : "");
        if (fact->n_answer_tokens > 1)
            strbuf_addf(out, "%zu", fact->n_answer_tokens);
        if (r->chain)
            strbuf_addf(out, ", logprob of all its tokens %.4f", (double)p->chain_logprob);
        strbuf_addc(out, '\n');
    }
    for (size_t row = 0; row < p->n_rows; row++) {
        strbuf_addf(out, "%sposition %d ", row || answered ? "\n" : "", (int)p->positions[row]);
        token_text_padded(out, r->model, fact->tokens.id[p->positions[row]], 0);
        strbuf_addf(out, ", site %s, norm convention: lens; entropy and KL(final || layer) in nats\n%-12s",
                    lens_source_name(r->lens->source), "label");
        if (answered)
            strbuf_addf(out, " %7s %9s", "rank", "p");
        strbuf_addf(out, " %8s %9s  %s\n", "entropy", "KL", r->lens->top_k ? "top tokens, p" : "");
        for (size_t s = 0; s < r->lens->n_states; s++)
            add_text_state(r, fact, (p->first_row + row) * r->lens->n_states + s, out);
    }
}

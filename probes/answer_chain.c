#include "probes/answer_chain.h"

#include "core/base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int answer_chain_init(struct answer_chain *c, struct runtime *rt, struct err *err)
{
    const struct model_config *config = &runtime_model(rt)->config;
    *c = (struct answer_chain){ .rt = rt };
    int rc = site_set_init(&c->reads, config, err);
    if (rc)
        return rc;
    site_set_add_one(&c->reads, (struct site_ref){ site_leaving_block(config), config->n_layers - 1 });
    rc = collector_init(&c->collector, &c->reads, runtime_precision(rt), err);
    if (rc)
        answer_chain_release(c);
    return rc;
}

void answer_chain_release(struct answer_chain *c)
{
    if (c->collector.reads)
        collector_release(&c->collector);
    site_set_release(&c->reads);
    free(c->prompts);
    free(c->tokens);
    free(c->answers);
    free(c->keep);
    *c = (struct answer_chain){ 0 };
}

/* Tokens of an answer that are measured: none of several where a mask holds one. */
static size_t measured(const struct answer_chain *c, const struct answer_chain_input *in, size_t i)
{
    return in->n_answer_tokens[i] > 1 && runtime_model(c->rt)->config.bidirectional ? 0 : in->n_answer_tokens[i];
}

static int make_room(struct answer_chain *c, const struct answer_chain_input *in, struct err *err)
{
    size_t n_tokens = 0, n_answers = 0;
    for (size_t i = 0; i < in->n; i++)
        if (measured(c, in, i) && (!size_add(n_tokens, in->prompts[i].n_tokens, &n_tokens) ||
                                   !size_add(n_tokens, measured(c, in, i) - 1, &n_tokens) ||
                                   !size_add(n_answers, measured(c, in, i), &n_answers)))
            return err_nomem(err, "prompts with answers");
    if (mem_grow(&c->prompts, &c->prompts_capacity, in->n, sizeof *c->prompts) &&
        mem_grow(&c->tokens, &c->tokens_capacity, n_tokens, sizeof *c->tokens) &&
        mem_grow(&c->answers, &c->answers_capacity, n_answers, sizeof *c->answers) &&
        mem_grow(&c->keep, &c->keep_capacity, n_tokens, 1))
        return 0;
    return err_nomem(err, "prompts with answers");
}

/* Prompts that have an answer, each followed by all of it but the last token; the rows that predict it are kept. */
static size_t join(struct answer_chain *c, const struct answer_chain_input *in)
{
    size_t n = 0, row = 0, kept = 0;
    for (size_t i = 0; i < in->n; i++) {
        size_t n_prompt = in->prompts[i].n_tokens, n_answer = measured(c, in, i);
        if (!n_answer)
            continue;
        c->prompts[n] = in->prompts[i];
        c->prompts[n].tokens = c->tokens + row;
        c->prompts[n++].n_tokens = n_prompt + n_answer - 1;
        memcpy(c->tokens + row, in->prompts[i].tokens, n_prompt * sizeof *c->tokens);
        memcpy(c->tokens + row + n_prompt, in->answers[i], (n_answer - 1) * sizeof *c->tokens);
        memset(c->keep + row, 0, n_prompt);
        memset(c->keep + row + prompt_read_at(&in->prompts[i]), 1, n_answer);
        row += n_prompt + n_answer - 1;
        memcpy(c->answers + kept, in->answers[i], n_answer * sizeof *c->answers);
        kept += n_answer;
    }
    return n;
}

static void add_up(const struct answer_chain *c, const struct answer_chain_input *in, const float *each, float *logprob)
{
    for (size_t i = 0; i < in->n; i++) {
        double sum = 0;
        for (size_t t = 0; t < measured(c, in, i); t++)
            sum += (double)*each++;
        logprob[i] = measured(c, in, i) ? (float)sum : NAN;
    }
}

int answer_chain_run(struct answer_chain *c, const struct answer_chain_input *in, float *logprob, struct err *err)
{
    struct lens_result r = { 0 };
    int rc = make_room(c, in, err);
    if (rc)
        return rc;
    size_t n = join(c, in);
    if (!n) {
        add_up(c, in, NULL, logprob);
        return 0;
    }
    rc = collector_begin(&c->collector, c->prompts, n, c->keep, err);
    struct forward f = { .prompts = c->prompts, .n_prompts = n, .reads = &c->reads, .sink = &c->collector.sink };
    rc = rc ? rc : runtime_forward(c->rt, &f, err);
    rc = rc ? rc : lens_result_create(&r, c->collector.n_kept, 1, 0, err);
    const struct model_config *config = &runtime_model(c->rt)->config;
    struct lens_input states = {
        .states = collector_rows(&c->collector, site_leaving_block(config), config->n_layers - 1),
        .n_rows = c->collector.n_kept,
        .n_states = 1,
        .answers = c->answers,
    };
    rc = rc ? rc : logit_lens(c->rt, &states, &r, err);
    if (!rc)
        add_up(c, in, r.logprob, logprob);
    lens_result_release(&r);
    return rc;
}

#include "analyses/cli/known_facts.h"

#include "analyses/cli/input.h"
#include "analyses/cli/progress_bar.h"
#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "core/store/journal.h"
#include "probes/logit_lens.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int read_file(struct known_facts *k, const struct cli *cli, const struct model *m, struct err *err)
{
    struct facts *facts;
    struct fact fact;
    int rc = facts_open(&facts, cli->input, err);
    if (rc)
        return rc;
    while (k->n_given < cli->limit && (rc = facts_next(facts, &fact, err)) > 0) {
        char where[512];
        snprintf(where, sizeof where, "%.400s: line %zu", facts_name(facts), fact.line);
        if (!mem_grow(&k->items, &k->capacity, k->n_given + 1, sizeof *k->items))
            rc = err_nomem(err, "the facts");
        else if (cli_interrupted())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts");
        else
            rc = prepare_fact(m, &fact, cli->specials, where, &k->items[k->n_given], err);
        if (rc)
            break;
        k->n_given++;
    }
    facts_close(facts);
    return rc;
}

static int read_argument(struct known_facts *k, const struct cli *cli, const struct fact_options *given,
                         const struct model *m, struct err *err)
{
    if (!mem_grow(&k->items, &k->capacity, 1, sizeof *k->items))
        return err_nomem(err, "the fact");
    int rc = fact_options_prepare(given, cli, m, k->items, err);
    k->n_given = !rc;
    k->single = true;
    k->own_answer = !rc && k->items->answer_token < 0;
    return rc;
}

/* Every fact with an answer; a single one in any case. */
static int choose_answered(struct known_facts *k, struct err *err)
{
    k->facts = mem_array(k->n_given, sizeof *k->facts);
    k->prompts = mem_array(k->n_given, sizeof *k->prompts);
    k->answers = mem_array(k->n_given, sizeof *k->answers);
    k->prob = mem_array(k->n_given, sizeof *k->prob);
    k->rank = mem_array(k->n_given, sizeof *k->rank);
    if (!k->facts || !k->prompts || !k->answers || !k->prob || !k->rank)
        return err_nomem(err, "the facts");
    for (size_t i = 0; i < k->n_given; i++) {
        const struct prepared *p = &k->items[i];
        if (p->answer_token < 0 && !k->single) {
            k->n_without_answer++;
            continue;
        }
        k->facts[k->n] = p;
        k->prompts[k->n] = prepared_prompt(p);
        k->answers[k->n++] = p->answer_token;
    }
    return 0;
}

/* Ranks of facts [first, first + n) from their last residuals, which are overwritten. */
static int rank_states(struct known_facts *k, struct runtime *rt, void *states, size_t first, size_t n, struct err *err)
{
    const struct lens_input in = {
        .states = states, .n_rows = n, .n_states = 1, .answers = k->answers + first, .top_k = 1
    };
    struct lens_result r;
    int rc = lens_result_create(&r, n, 1, 1, err);
    if (rc)
        return rc;
    rc = logit_lens(rt, &in, &r, err);
    for (size_t i = 0; !rc && i < n; i++) {
        bool own = k->answers[first + i] < 0;
        k->rank[first + i] = own ? 1 : r.rank[i];
        k->prob[first + i] = exp((double)(own ? r.top_logprob[i] : r.logprob[i]));
        k->answers[first + i] = own ? r.top_token[i] : k->answers[first + i];
    }
    lens_result_release(&r);
    return rc;
}

static int rank_batch(struct known_facts *k, struct runtime *rt, struct collector *c, size_t first, size_t n,
                      struct err *err)
{
    size_t n_rows = 0, row = 0;
    for (size_t i = 0; i < n; i++)
        n_rows += k->prompts[first + i].n_tokens;
    unsigned char *last = mem_zeroed(n_rows, 1);
    if (!last)
        return err_nomem(err, "a batch of facts");
    for (size_t i = 0; i < n; i++) {
        last[row + prompt_read_at(&k->prompts[first + i])] = 1;
        row += k->prompts[first + i].n_tokens;
    }
    const struct forward f = { .prompts = k->prompts + first,
                               .n_prompts = n,
                               .reads = c->reads,
                               .sink = &c->sink,
                               .final_rows = last,
                               .read_rows = last };
    int rc = collector_begin(c, k->prompts + first, n, last, err);
    rc = rc ? rc : runtime_forward(rt, &f, err);
    free(last);
    const struct model_config *config = &runtime_model(rt)->config;
    void *states = collector_rows(c, site_leaving_block(config), config->n_layers - 1);
    return rc ? rc : rank_states(k, rt, states, first, n, err);
}

/* From the journal, or ranked. */
static int take_batch(struct known_facts *k, struct runtime *rt, struct collector *c, size_t first, size_t n,
                      struct progress *progress, struct err *err)
{
    const struct journal_part parts[] = { { k->rank + first, n * sizeof *k->rank },
                                          { k->prob + first, n * sizeof *k->prob },
                                          { k->answers + first, n * sizeof *k->answers } };
    if (journal_load(progress_journal(progress), parts, 3))
        return 0;
    int rc = rank_batch(k, rt, c, first, n, err);
    return rc ? rc : journal_save(progress_journal(progress), parts, 3, err);
}

static int rank_all(struct known_facts *k, const struct cli *cli, struct runtime *rt, struct err *err)
{
    const struct model_config *config = &runtime_model(rt)->config;
    struct site_set reads;
    struct collector c;
    struct progress_bar bar;
    int rc = site_set_init(&reads, config, err);
    if (rc)
        return rc;
    site_set_add_one(&reads, (struct site_ref){ site_leaving_block(config), config->n_layers - 1 });
    rc = collector_init(&c, &reads, runtime_precision(rt), err);
    if (!rc) {
        struct progress *progress = progress_bar_start(&bar, cli, "what is known", "facts");
        for (size_t first = 0, n; !rc && first < k->n; first += n) {
            size_t rows = k->prompts[first].n_tokens;
            for (n = 1; first + n < k->n; n++) {
                rows += k->prompts[first + n].n_tokens;
                if (rows > runtime_batch_rows())
                    break;
            }
            rc = take_batch(k, rt, &c, first, n, progress, err);
            if (!rc && progress_step(progress, first + n, k->n))
                rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu facts", first + n, k->n);
        }
        progress_bar_end(&bar);
        collector_release(&c);
    }
    site_set_release(&reads);
    return rc;
}

void known_facts_move(struct known_facts *k, size_t from, size_t to)
{
    k->facts[to] = k->facts[from];
    k->prompts[to] = k->prompts[from];
    k->answers[to] = k->answers[from];
    k->prob[to] = k->prob[from];
    k->rank[to] = k->rank[from];
}

static void leave_out_unknown(struct known_facts *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < k->n; i++) {
        bool known = k->rank[i] == 1;
        k->n_known += known;
        k->n_unknown += !known;
        if (!known && !k->all && !k->single)
            continue;
        known_facts_move(k, i, kept++);
    }
    k->n = kept;
}

int known_facts_read(struct known_facts *k, const struct cli *cli, const struct fact_options *given, struct runtime *rt,
                     bool all, struct err *err)
{
    const struct model *m = runtime_model(rt);
    *k = (struct known_facts){ .all = all };
    int rc = cli->input ? read_file(k, cli, m, err) : read_argument(k, cli, given, m, err);
    rc = rc ? rc : choose_answered(k, err);
    rc = rc ? rc : rank_all(k, cli, rt, err);
    if (rc)
        return rc;
    leave_out_unknown(k);
    if (k->n)
        return 0;
    if (!k->n_given)
        return err_set(err, ERR_FORMAT, "%.300s: holds no prompts", input_name(cli));
    return err_set(
        err, ERR_FORMAT,
        "%.300s: no fact to measure: of %zu, %zu have no answer and %zu have one that the model does not put "
        "on rank 1%s",
        cli->input, k->n_given, k->n_without_answer, k->n_unknown, k->n_unknown ? ": --all measures those anyway" : "");
}

void known_facts_release(struct known_facts *k)
{
    for (size_t i = 0; i < k->n_given; i++)
        prepared_release(&k->items[i]);
    free(k->items);
    free(k->facts);
    free(k->prompts);
    free(k->answers);
    free(k->prob);
    free(k->rank);
    *k = (struct known_facts){ 0 };
}

void known_facts_describe(const struct known_facts *k, struct strbuf *out)
{
    if (k->single) {
        strbuf_addf(out, "one prompt; p(answer) %.3g, rank %d%s", k->prob[0], (int)k->rank[0],
                    k->own_answer ? " (no --answer given: the model's own top token)" : "");
        return;
    }
    strbuf_addf(out, "n = %zu of %zu facts: answer on rank 1 in %zu; ", k->n, k->n_given, k->n_known);
    if (k->all)
        strbuf_addf(out, "%zu others measured too; ", k->n_unknown);
    else
        strbuf_addf(out, "%zu others left out; ", k->n_unknown);
    strbuf_addf(out, "%zu without an answer", k->n_without_answer);
    if (k->n_left_out)
        strbuf_addf(out, "; %zu left out whose relation has one answer only", k->n_left_out);
}

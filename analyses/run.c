/* strata run: the next token after a prompt or after every prompt of a file, with edits, and greedy generation. */
#include "analyses/cli/edit_setup.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/text.h"
#include "analyses/experiment.h"
#include "core/base/mem.h"
#include "core/runtime/prepare.h"
#include "probes/answer_chain.h"
#include "probes/next_token.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t top = 10, generate;
static struct edit_options given;
static const char *subject, *answer, *experiment;

static const struct option options[] = {
    { .name = "top", .kind = OPTION_SIZE, .value = &top, .argument = "K", .least = 1, .help = "tokens to list (10)" },
    { .name = "generate",
      .kind = OPTION_SIZE,
      .value = &generate,
      .argument = "N",
      .least = 1,
      .help = "go on with the likeliest token, N times or up to the end-of-text token" },
    { .name = "subject",
      .kind = OPTION_TEXT,
      .value = &subject,
      .argument = "TEXT",
      .help = "the prompt's subject, for edits at subject positions" },
    { .name = "answer",
      .kind = OPTION_TEXT,
      .value = &answer,
      .argument = "TEXT",
      .help = "the expected answer: its rank and probability" },
    EDIT_SETUP_OPTIONS(given),
    { .name = "experiment",
      .kind = OPTION_TEXT,
      .value = &experiment,
      .argument = "FILE.json",
      .help = "prompts and variants from a file: see `strata help experiment`" },
    OPTIONS_END,
};

/* What one run works with; `sink` first, so that the runtime's pointer is the job's. */
struct job {
    struct sink sink;
    struct cli *cli;
    struct session session;
    struct edit_setup setup;
    struct site_set reads;               /* the logits */
    struct next_token next;              /* of the row that the sink saw last */
    double *logits;                      /* [d_vocab] */
    const struct prepared *items, *item; /* the batch; prompt of the next row: rows come in the order of prompts */
    struct answer_chain chain;
    float *chain_logprob;  /* [batch]: of whole answers of several tokens, else NaN; NULL: not computed */
    bool json, generating; /* generating: the sink only measures */
    struct strbuf text;
    int32_t *generated; /* [generate] */
    size_t n_generated;
    bool ended; /* by the end-of-text token */
};

/* --- output --- */

/* Floats have nine digits, doubles seventeen: enough to read the same number back. */
static void add_number(const struct job *job, struct strbuf *out, double x)
{
    if (!isfinite(x))
        strbuf_adds(out, "null");
    else if (job->cli->precision == PRECISION_F64)
        strbuf_addf(out, "%.17g", x);
    else
        strbuf_addf(out, "%.9g", x);
}

static void add_probability(const struct job *job, struct strbuf *out, const struct ranked_token *t)
{
    strbuf_adds(out, ",\"prob\":");
    add_number(job, out, exp(t->logprob));
    strbuf_adds(out, ",\"logprob\":");
    add_number(job, out, t->logprob);
}

static void add_generated_text(const struct job *job, struct strbuf *out)
{
    struct strbuf bytes = STRBUF_INIT;
    const struct tokenizer *tok = job->session.model->tokenizer;
    for (size_t i = 0; i < job->n_generated; i++) {
        size_t n = 0;
        const char *text = tok ? tokenizer_bytes(tok, job->generated[i], &n) : NULL;
        if (text)
            strbuf_add(&bytes, text, n);
    }
    strbuf_add_json(out, strbuf_text(&bytes), bytes.len);
    out->failed |= bytes.failed;
    strbuf_release(&bytes);
}

static void add_json_tokens(const struct job *job, const struct prepared *p, struct strbuf *out)
{
    strbuf_adds(out, "\"tokens\":[");
    for (size_t i = 0; i < p->tokens.n; i++) {
        strbuf_adds(out, i ? ",{" : "{");
        add_token_keys(out, job->session.model->tokenizer, p->tokens.id[i]);
        strbuf_addf(out, ",\"begin\":%d,\"end\":%d}", (int)p->tokens.begin[i], (int)p->tokens.end[i]);
    }
    strbuf_addc(out, ']');
}

static double chain_logprob(const struct job *job, const struct prepared *p)
{
    return job->chain_logprob ? (double)job->chain_logprob[p - job->items] : (double)NAN;
}

static void add_json_answer(const struct job *job, const struct prepared *p, struct strbuf *out)
{
    const struct ranked_token *a = &job->next.answer;
    strbuf_addf(out, ",\"answer\":{\"token_id\":%d,\"text\":", (int)a->id);
    add_token_text(out, job->session.model->tokenizer, a->id);
    strbuf_addf(out, ",\"rank\":%zu,\"ties\":%zu", a->rank, job->next.answer_ties);
    add_probability(job, out, a);
    strbuf_addf(out, ",\"n_tokens\":%zu,\"retokenized\":%s", p->n_answer_tokens,
                p->answer_retokenized ? "true" : "false");
    if (isfinite(chain_logprob(job, p))) {
        strbuf_adds(out, ",\"chain_logprob\":");
        add_number(job, out, chain_logprob(job, p));
    }
    strbuf_addc(out, '}');
}

static void add_json(const struct job *job, const struct prepared *p, struct strbuf *out)
{
    strbuf_addc(out, '{');
    if (job->cli->input) {
        strbuf_adds(out, "\"id\":");
        strbuf_add_json(out, p->id, strlen(p->id));
        strbuf_addc(out, ',');
    }
    strbuf_adds(out, "\"prompt\":");
    strbuf_add_json(out, p->text, strlen(p->text));
    strbuf_addc(out, ',');
    add_json_tokens(job, p, out);
    strbuf_adds(out, ",\"top\":[");
    for (size_t i = 0; i < job->next.n_top; i++) {
        const struct ranked_token *t = &job->next.top[i];
        strbuf_addf(out, "%s{\"rank\":%zu,\"id\":%d,\"token\":", i ? "," : "", t->rank, (int)t->id);
        add_token_text(out, job->session.model->tokenizer, t->id);
        add_probability(job, out, t);
        strbuf_addc(out, '}');
    }
    strbuf_addc(out, ']');
    if (p->answer_token >= 0)
        add_json_answer(job, p, out);
}

/* After add_json, once the generated tokens are known. */
static void add_json_end(const struct job *job, struct strbuf *out)
{
    if (generate) {
        strbuf_adds(out, ",\"generated\":{\"text\":");
        add_generated_text(job, out);
        strbuf_adds(out, ",\"tokens\":[");
        for (size_t i = 0; i < job->n_generated; i++) {
            strbuf_adds(out, i ? ",{" : "{");
            add_token_keys(out, job->session.model->tokenizer, job->generated[i]);
            strbuf_addc(out, '}');
        }
        strbuf_addf(out, "],\"stopped\":\"%s\"}", job->ended ? "end-of-text" : "length");
    }
    strbuf_adds(out, "}\n");
}

static void add_table(const struct job *job, const struct prepared *p, struct strbuf *out)
{
    const struct tokenizer *tok = job->session.model->tokenizer;
    const struct ranked_token *a = &job->next.answer;
    strbuf_adds(out, "rank\tid\ttoken\tprob\tlogprob\n");
    for (size_t i = 0; i < job->next.n_top; i++) {
        const struct ranked_token *t = &job->next.top[i];
        strbuf_addf(out, "%zu\t%d\t", t->rank, (int)t->id);
        add_token_text(out, tok, t->id);
        strbuf_addf(out, "\t%.6g\t%.6g\n", exp(t->logprob), t->logprob);
    }
    if (a->id < 0)
        return;
    strbuf_addf(out, "\nanswer: rank %zu, id %d, ", a->rank, (int)a->id);
    add_token_text(out, tok, a->id);
    strbuf_addf(out, ", probability %.6g, logprob %.6g", exp(a->logprob), a->logprob);
    if (p->n_answer_tokens > 1)
        strbuf_addf(out, " (the first of %zu tokens)", p->n_answer_tokens);
    if (isfinite(chain_logprob(job, p)))
        strbuf_addf(out, ", logprob of all %.6g", chain_logprob(job, p));
    if (p->answer_retokenized)
        strbuf_adds(out, " (tokenized apart: it would change the prompt's own tokens)");
    strbuf_addc(out, '\n');
}

static void add_table_end(const struct job *job, struct strbuf *out)
{
    if (!generate)
        return;
    strbuf_adds(out, "\ngenerated: ");
    add_generated_text(job, out);
    strbuf_addf(out, "%s\n", job->ended ? " (end of text)" : "");
}

/* --- running --- */

static int take(struct sink *self, const struct site_view *view, struct err *err)
{
    struct job *job = (struct job *)self;
    (void)err;
    for (size_t r = 0; r < view->n_rows; r++) {
        for (size_t v = 0; v < view->row_size; v++)
            job->logits[v] = site_view_at(view, r * view->row_size + v);
        next_token_measure(&job->next, job->logits, view->row_size, job->generating ? -1 : job->item->answer_token);
        if (job->generating)
            continue;
        if (job->json)
            add_json(job, job->item, &job->text);
        else
            add_table(job, job->item, &job->text);
        if (job->json && !generate)
            add_json_end(job, &job->text);
        job->item++;
    }
    return 0;
}

/* Logits of the rows that are read only. */
static int forward_last(struct job *job, const struct prompt *prompts, size_t n, size_t n_rows,
                        const struct edit_list *edits, struct kv_cache *cache, struct err *err)
{
    unsigned char *final_rows = mem_zeroed(n_rows, 1);
    if (!final_rows)
        return err_nomem(err, "a batch");
    for (size_t i = 0, row = 0; i < n; i++) {
        final_rows[row + prompt_read_at(&prompts[i])] = 1;
        row += prompts[i].n_tokens;
    }
    struct forward f = {
        .prompts = prompts,
        .n_prompts = n,
        .reads = &job->reads,
        .edits = edits,
        .sink = &job->sink,
        .final_rows = final_rows,
        .cache = cache,
    };
    int rc = edits ? edit_runs_make(&job->setup.runs, job->session.runtime, &f, err) : 0;
    rc = rc ? rc : runtime_forward(job->session.runtime, &f, err);
    free(final_rows);
    return rc;
}

static int go_on(struct job *job, const char *name, struct kv_cache *cache, struct err *err)
{
    const struct tokenizer *tok = job->session.model->tokenizer;
    int32_t eos = tok ? tokenizer_eos(tok) : -1;
    int rc = 0;
    while (!rc) {
        int32_t id = job->next.top[0].id;
        job->ended = id == eos;
        if (job->ended)
            break;
        job->generated[job->n_generated++] = id;
        if (job->n_generated == generate)
            break;
        struct prompt prompt = { .tokens = &id, .n_tokens = 1, .name = name };
        rc = forward_last(job, &prompt, 1, 1, NULL, cache, err);
    }
    if (rc == ERR_INTERRUPTED)
        err_set(err, rc, "interrupted after %zu generated tokens", job->n_generated);
    return rc;
}

/* One prompt through a cache of its own. Edits act on the prompt's pass; what they did to keys and values stays. */
static int generate_one(struct job *job, const struct prompt *prompt, struct err *err)
{
    struct kv_cache *cache;
    size_t n_ctx = job->session.model->config.n_ctx, room = n_ctx - prompt->n_tokens + 1;
    if (generate > room)
        return err_set(err, ERR_ARG,
                       "prompt %s: %zu tokens and --generate %zu pass the model's context of %zu: generate at most %zu",
                       prompt->name, prompt->n_tokens, generate, n_ctx, room);
    int rc = kv_cache_create(&cache, job->session.runtime, prompt->n_tokens + generate, err);
    if (rc)
        return rc;
    job->n_generated = 0;
    job->ended = job->generating = false;
    rc = forward_last(job, prompt, 1, prompt->n_tokens, &job->setup.edits, cache, err);
    job->generating = true;
    rc = rc ? rc : go_on(job, prompt->name, cache, err);
    kv_cache_free(cache);
    if (!rc && job->json)
        add_json_end(job, &job->text);
    else if (!rc)
        add_table_end(job, &job->text);
    return rc;
}

/* Whole answers of several tokens; under edits only their first tokens are measured. */
static int measure_chains(struct job *job, const struct prompt *prompts, size_t n, struct err *err)
{
    size_t longest = 0;
    free(job->chain_logprob);
    job->chain_logprob = NULL;
    for (size_t i = 0; i < n; i++)
        longest = job->items[i].n_answer_tokens > longest ? job->items[i].n_answer_tokens : longest;
    if (longest < 2 || job->setup.edits.n)
        return 0;
    const int32_t **answers = mem_array(n, sizeof *answers);
    size_t *n_tokens = mem_array(n, sizeof *n_tokens);
    job->chain_logprob = mem_array(n, sizeof *job->chain_logprob);
    int rc = answers && n_tokens && job->chain_logprob ? 0 : err_nomem(err, "answers");
    for (size_t i = 0; !rc && i < n; i++) {
        answers[i] = job->items[i].answer_tokens;
        n_tokens[i] = job->items[i].n_answer_tokens > 1 ? job->items[i].n_answer_tokens : 0;
    }
    struct answer_chain_input in = { prompts, answers, n_tokens, n };
    rc = rc ? rc : answer_chain_run(&job->chain, &in, job->chain_logprob, err);
    free(answers);
    free(n_tokens);
    return rc;
}

static int run_batch(struct job *job, const struct prepared *items, const struct prompt *prompts, size_t n,
                     size_t n_rows, struct err *err)
{
    job->items = job->item = items;
    int rc = measure_chains(job, prompts, n, err);
    if (rc)
        return rc;
    if (!generate)
        return forward_last(job, prompts, n, n_rows, &job->setup.edits, NULL, err);
    for (size_t i = 0; !rc && i < n; i++)
        rc = generate_one(job, &prompts[i], err);
    return rc;
}

static int run_argument(struct job *job, struct err *err)
{
    struct prepared item;
    struct fact fact = { .id = "given", .subject = subject, .answer = answer, .answer_token = -1, .line = 1 };
    char *text;
    int rc = cli_text_argument(job->cli, &text, err);
    if (rc)
        return rc;
    fact.prompt = text;
    rc = prepare_fact(job->session.model, &fact, job->cli->specials, "the prompt", &item, err);
    free(text);
    if (rc)
        return rc;
    struct prompt prompt = prepared_prompt(&item);
    job->json = job->cli->json;
    rc = run_batch(job, &item, &prompt, 1, prompt.n_tokens, err);
    prepared_release(&item);
    return output_text(job->cli, &job->text, rc, err);
}

static int run_batches(struct job *job, struct batcher *batcher, struct output *output, struct err *err)
{
    struct progress_bar bar;
    struct batch *batch;
    uint64_t total = progress_bar_facts(job->cli);
    size_t done = 0;
    int rc;
    struct progress *progress = progress_bar_start(&bar, job->cli, "run", "prompts");
    while ((rc = batcher_next(batcher, &batch, err)) > 0) {
        rc = run_batch(job, batch->items, batch->prompts, batch->n, batch->n_rows, err);
        rc = rc ? rc : output_add(output, &job->text, err);
        done += rc ? 0 : batch->n;
        if (!rc && progress_step(progress, done, total))
            rc = ERR_INTERRUPTED;
        if (rc)
            break;
    }
    if (rc == ERR_INTERRUPTED)
        err_set(err, rc, "interrupted after %zu prompts", done);
    progress_bar_end(&bar);
    return rc;
}

static int run_input(struct job *job, struct err *err)
{
    struct facts *facts;
    struct batcher *batcher;
    struct output output;
    job->json = true;
    int rc = facts_open(&facts, job->cli->input, err);
    if (rc)
        return rc;
    rc = batcher_open(&batcher, job->session.model, facts, job->cli->specials, job->cli->limit, runtime_batch_rows(),
                      err);
    if (!rc) {
        rc = output_open(&output, job->cli, err);
        rc = rc ? rc : run_batches(job, batcher, &output, err);
        rc = output_close(&output, rc, err);
        cli_note_dropped(job->cli, batcher_dropped(batcher));
        batcher_close(batcher);
    }
    facts_close(facts);
    return rc;
}

/* --- set-up --- */

static int open_job(struct job *job, struct cli *cli, struct err *err)
{
    *job = (struct job){ .sink = { take }, .cli = cli };
    int rc = session_open_answers(&job->session, cli, err);
    if (rc)
        return rc;
    const struct model_config *config = &job->session.model->config;
    if (top > config->d_vocab)
        return err_set(err, ERR_ARG, "--top %zu: the vocabulary has %zu tokens", top, config->d_vocab);
    rc = edit_setup_open(&job->setup, &given, cli, &job->session, err);
    rc = rc ? rc : site_set_init(&job->reads, config, err);
    rc = rc ? rc : site_set_add(&job->reads, "logits", err);
    rc = rc ? rc : next_token_init(&job->next, top, err);
    rc = rc ? rc : answer_chain_init(&job->chain, job->session.runtime, err);
    if (rc)
        return rc;
    job->logits = mem_array(config->d_vocab, sizeof *job->logits);
    job->generated = mem_array(generate < config->n_ctx ? generate : config->n_ctx, sizeof *job->generated);
    return job->logits && job->generated ? 0 : err_nomem(err, "the logits");
}

static void close_job(struct job *job)
{
    edit_setup_close(&job->setup);
    if (job->reads.config)
        site_set_release(&job->reads);
    next_token_release(&job->next);
    if (job->chain.rt)
        answer_chain_release(&job->chain);
    free(job->chain_logprob);
    free(job->logits);
    free(job->generated);
    strbuf_release(&job->text);
    session_close(&job->session);
}

static int run(struct cli *cli, struct err *err)
{
    struct job job;
    if (experiment && (cli->n_arguments || cli->input || subject || answer || given.edits.n || given.path || generate))
        return cli_usage(cli, err, "--experiment brings its own prompts and edits: give nothing else");
    if (experiment)
        return experiment_run(cli, experiment, err);
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : output_format(cli, err);
    if (!rc && cli->input && (subject || answer))
        rc = cli_usage(cli, err, "--%s goes with one prompt: the facts of -i have their own",
                       subject ? "subject" : "answer");
    if (rc)
        return rc;
    rc = open_job(&job, cli, err);
    if (!rc && generate && job.setup.edits.n)
        cli_note(cli, "edits act on the prompt; the generated tokens are computed without edits of their own");
    rc = rc ? rc : cli->input ? run_input(&job, err) : run_argument(&job, err);
    close_job(&job);
    text_list_release(&given.edits);
    return rc;
}

const struct command command_run = {
    .name = "run",
    .arguments = "[-m MODEL] \"PROMPT\" | - | -i FILE",
    .summary = "the next token after a prompt, with edits; greedy generation",
    .details =
        "Prints a tab-separated table: rank, id, token as a JSON string, probability, logprob (natural). Equal\n"
        "logits share a rank. `-` reads the prompt from standard input (one newline at its end is not part of it).\n"
        "\n"
        "  strata run \"The Eiffel Tower is in the city of\" --answer Paris\n"
        "  strata run \"The Eiffel Tower is in the city of\" --subject \"Eiffel Tower\" --answer Paris \\\n"
        "      --edit 'blocks.*.attn.hook_attn_scores@last<-subject block'\n"
        "\n"
        "  strata run \"The capital of France is\" --subject France --edit 'resid_post:5@subject-last patch' \\\n"
        "      --from \"The capital of Italy is\"\n"
        "\n" EDIT_HELP "\n"
        "With --generate, edits act on the prompt's pass only; through its keys and values\n"
        "they still reach later tokens.\n"
        "\n"
        "JSON keys: prompt; tokens, each with id, text, begin, end; top, each with rank, id, token, prob, logprob;\n"
        "answer (where asked for) with token_id, text, rank, ties, prob, logprob of its first token, n_tokens,\n"
        "retokenized, and of several tokens without edits chain_logprob, that of all; generated (where asked for)\n"
        "with text, tokens, stopped. A token that is part of a character also has its bytes in hexadecimal. With -i\n"
        "one such object a line, with the fact's id.\n",
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

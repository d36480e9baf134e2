/* strata lens: the logit lens over all layers, of one prompt or of every fact of a file. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/input.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/text.h"
#include "analyses/report/lens_report.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/lens_file.h"
#include "core/store/stream_file.h"
#include "probes/answer_chain.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct fact_options given;
static const char *positions_text = "last";
static int site;
static size_t top = 5;
static bool with_chain;

static const char *const site_names[] = {
#define X(id, name) name,
    LENS_SOURCES(X)
#undef X
        NULL
};

static const struct option options[] = {
    { .name = "positions",
      .kind = OPTION_TEXT,
      .value = &positions_text,
      .argument = "WHICH",
      .help = "last (default), all, subject, subject-first, subject-last, non-subject, 0,3-5" },
    { .name = "site",
      .kind = OPTION_CHOICE,
      .value = &site,
      .choices = site_names,
      .help = "what is read: the residual stream (resid), or what is written to it" },
    { .name = "top",
      .kind = OPTION_SIZE,
      .value = &top,
      .argument = "K",
      .most = LENS_MAX_TOP,
      .help = "top tokens to keep of each state (5)" },
    { .name = "chain",
      .kind = OPTION_FLAG,
      .value = &with_chain,
      .help = "also the log probability of all tokens of each answer" },
    FACT_OPTIONS(given),
    EDIT_OPTIONS(given),
    OPTIONS_END,
};

enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON, FORMAT_H5 };

struct job {
    struct cli *cli;
    struct session session;
    struct positions at;
    struct edit_list edits;
    struct strbuf edits_text;
    struct lens_batch lens;
    struct answer_chain chain;
    char (*label_texts)[LENS_LABEL_MAX];
    const char **labels; /* [n_states] */

    /* Where facts come from: a file through the batcher, or one prompt. */
    struct facts *facts;
    struct batcher *batcher;
    struct prepared fact;
    struct prompt prompt;
    struct batch one;
    size_t one_rows[2];
    bool one_taken;

    /* Of the batch at hand. */
    unsigned char *keep;           /* [rows] */
    int32_t *answers, *positions;  /* [kept rows] */
    size_t *first_kept;            /* [prompts + 1] */
    float *chains;                 /* [prompts] */
    const int32_t **chain_answers; /* [prompts] */
    size_t *chain_lengths;
    size_t keep_capacity, answers_capacity, positions_capacity, first_capacity;
    size_t chains_capacity, chain_answers_capacity, chain_lengths_capacity;

    size_t n_prompts, n_rows, n_unanswered, n_several, n_retokenized, n_dropped;
};

/* --- facts --- */

/* About 256 MiB of states at most; of few-position selections at most a quarter of a batch's rows are kept. */
static size_t batch_rows(const struct job *job)
{
    size_t per_row = lens_batch_memory(job->lens.source, &job->session.model->config, job->cli->precision, 1);
    size_t share = job->at.kind == POSITIONS_ALL || job->at.kind == POSITIONS_NON_SUBJECT ? 1 : 4;
    size_t fit = ((size_t)256 << 20) / per_row * share, most = runtime_batch_rows();
    return fit < 1 ? 1 : fit < most ? fit : most;
}

static int open_source(struct job *job, struct err *err)
{
    const struct cli *cli = job->cli;
    job->one_taken = false;
    if (cli->input) {
        int rc = input_open(cli, &job->facts, err);
        rc = rc ? rc
                : batcher_open(&job->batcher, job->session.model, job->facts, cli->specials, cli->limit,
                               batch_rows(job), err);
        if (!rc && job->at.kind != POSITIONS_LAST)
            batcher_allow_no_mask(job->batcher);
        return rc;
    }
    int rc = fact_options_prepare(&given, cli, job->session.model, &job->fact, err);
    if (rc)
        return rc;
    job->prompt = prepared_prompt(&job->fact);
    job->one_rows[0] = 0;
    job->one_rows[1] = job->prompt.n_tokens;
    job->one = (struct batch){ .items = &job->fact,
                               .prompts = &job->prompt,
                               .row_offset = job->one_rows,
                               .n = 1,
                               .n_rows = job->prompt.n_tokens };
    return 0;
}

/* As batcher_next. */
static int next_batch(struct job *job, struct batch **batch, struct err *err)
{
    if (job->batcher)
        return batcher_next(job->batcher, batch, err);
    *batch = &job->one;
    if (job->one_taken)
        return 0;
    job->one_taken = true;
    return 1;
}

static void close_source(struct job *job)
{
    if (job->batcher)
        job->n_dropped = batcher_dropped(job->batcher);
    batcher_close(job->batcher);
    facts_close(job->facts);
    prepared_release(&job->fact);
    job->batcher = NULL;
    job->facts = NULL;
}

/* --- rows --- */

static int rows_of_prompt(struct job *job, const struct batch *batch, size_t i, struct err *err)
{
    const struct prepared *p = &batch->items[i];
    unsigned char *keep = job->keep + batch->row_offset[i];
    size_t n;
    int rc = positions_resolve(&job->at, &batch->prompts[i], keep, &n, err);
    if (rc)
        return err_prefix(err, "prompt %s: ", p->id);
    size_t first = job->first_kept[i];
    job->first_kept[i + 1] = first + n;
    if (!mem_grow(&job->answers, &job->answers_capacity, first + n, sizeof *job->answers) ||
        !mem_grow(&job->positions, &job->positions_capacity, first + n, sizeof *job->positions))
        return err_nomem(err, "the rows of a batch");
    for (size_t t = 0; t < p->tokens.n; t++)
        if (keep[t]) {
            job->answers[first] = p->answer_token;
            job->positions[first++] = (int32_t)t;
        }
    return 0;
}

/* Fills keep, answers, positions, first_kept. */
static int choose_rows(struct job *job, const struct batch *batch, struct err *err)
{
    if (!mem_grow(&job->keep, &job->keep_capacity, batch->n_rows, 1) ||
        !mem_grow(&job->first_kept, &job->first_capacity, batch->n + 1, sizeof *job->first_kept) ||
        !mem_grow(&job->chains, &job->chains_capacity, batch->n, sizeof *job->chains) ||
        !mem_grow(&job->chain_answers, &job->chain_answers_capacity, batch->n, sizeof *job->chain_answers) ||
        !mem_grow(&job->chain_lengths, &job->chain_lengths_capacity, batch->n, sizeof *job->chain_lengths))
        return err_nomem(err, "the rows of a batch");
    int rc = 0;
    job->first_kept[0] = 0;
    for (size_t i = 0; !rc && i < batch->n; i++)
        rc = rows_of_prompt(job, batch, i, err);
    return rc;
}

static void count(struct job *job, const struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        const struct prepared *p = &batch->items[i];
        job->n_unanswered += p->answer_token < 0;
        job->n_several += p->n_answer_tokens > 1;
        job->n_retokenized += p->answer_retokenized;
    }
    job->n_prompts += batch->n;
    job->n_rows += job->first_kept[batch->n];
}

static int measure_chains(struct job *job, const struct batch *batch, struct err *err)
{
    for (size_t i = 0; i < batch->n; i++) {
        job->chain_answers[i] = batch->items[i].answer_tokens;
        job->chain_lengths[i] = batch->items[i].n_answer_tokens;
    }
    const struct answer_chain_input in = {
        .prompts = batch->prompts, .answers = job->chain_answers, .n_answer_tokens = job->chain_lengths, .n = batch->n
    };
    return answer_chain_run(&job->chain, &in, job->chains, err);
}

static int measure(struct job *job, const struct batch *batch, struct err *err)
{
    int rc = choose_rows(job, batch, err);
    rc = rc ? rc
            : lens_batch_run(&job->lens, batch->prompts, batch->n, job->keep, job->answers,
                             job->edits.n ? &job->edits : NULL, err);
    rc = rc || !with_chain ? rc : measure_chains(job, batch, err);
    if (!rc)
        count(job, batch);
    return rc;
}

static int step(struct job *job, struct progress *progress, uint64_t total, struct err *err)
{
    return progress_step(progress, job->n_prompts, total) ? err_set(err, ERR_INTERRUPTED, "interrupted") : 0;
}

static int check_any(const struct job *job, size_t n_prompts, struct err *err)
{
    return n_prompts ? 0 : err_set(err, ERR_FORMAT, "%s: holds no prompts", input_name(job->cli));
}

/* --- text results --- */

static void add_prompts(const struct job *job, const struct lens_report *r, const struct batch *batch,
                        enum format format, struct strbuf *out)
{
    for (size_t i = 0; i < batch->n; i++) {
        const struct lens_report_prompt p = {
            .fact = &batch->items[i],
            .number = batch->first_prompt + i,
            .first_row = job->first_kept[i],
            .n_rows = job->first_kept[i + 1] - job->first_kept[i],
            .positions = job->positions + job->first_kept[i],
            .chain_logprob = with_chain ? job->chains[i] : NAN,
        };
        if (format == FORMAT_CSV)
            lens_report_csv(r, &p, out);
        else if (format == FORMAT_JSON)
            lens_report_json(r, &p, out);
        else
            lens_report_text(r, &p, out);
    }
}

static int stream_text(struct job *job, enum format format, struct output *output, struct err *err)
{
    const struct lens_report report = { .model = job->session.model,
                                        .lens = &job->lens,
                                        .labels = job->labels,
                                        .positions = positions_text,
                                        .edits = strbuf_text(&job->edits_text),
                                        .chain = with_chain };
    struct strbuf text = STRBUF_INIT;
    struct progress_bar bar;
    struct batch *batch;
    int rc;
    uint64_t total = progress_bar_facts(job->cli);
    struct progress *progress = progress_bar_start(&bar, job->cli, "lens", "prompts");
    if (format == FORMAT_CSV)
        lens_report_csv_head(&report, &text);
    else if (format == FORMAT_JSON)
        lens_report_json_head(&report, &text);
    while ((rc = next_batch(job, &batch, err)) > 0) {
        rc = measure(job, batch, err);
        if (!rc)
            add_prompts(job, &report, batch, format, &text);
        rc = rc ? rc : output_add(output, &text, err);
        rc = rc ? rc : step(job, progress, total, err);
        if (rc)
            break;
    }
    progress_bar_end(&bar);
    if (rc == ERR_INTERRUPTED)
        err_set(err, rc, "interrupted after %zu prompts", job->n_prompts);
    if (format == FORMAT_JSON)
        lens_report_json_end(&text);
    rc = rc ? rc : check_any(job, job->n_prompts, err);
    rc = rc ? rc : output_add(output, &text, err);
    strbuf_release(&text);
    return rc;
}

static int run_text(struct job *job, enum format format, struct err *err)
{
    struct output output;
    int rc = open_source(job, err);
    if (rc)
        return rc;
    rc = output_open(&output, job->cli, err);
    rc = rc ? rc : stream_text(job, format, &output, err);
    return output_close(&output, rc, err);
}

/* --- HDF5 --- */

/* First pass: every prompt and its rows, so that the file knows its size; nothing runs yet. */
static int announce(struct job *job, struct lens_writer *w, size_t *n_prompts, struct err *err)
{
    struct batch *batch;
    int rc = open_source(job, err);
    while (!rc && (rc = next_batch(job, &batch, err)) > 0) {
        rc = choose_rows(job, batch, err);
        for (size_t i = 0; !rc && i < batch->n; i++) {
            const struct prepared *p = &batch->items[i];
            const struct lens_prompt prompt = { .id = p->id,
                                                .text = p->text,
                                                .answer = p->answer,
                                                .subject = p->subject,
                                                .relation = p->relation,
                                                .answer_token = p->answer_token,
                                                .positions = job->positions + job->first_kept[i],
                                                .n_rows = job->first_kept[i + 1] - job->first_kept[i] };
            rc = lens_writer_prompt(w, &prompt, err);
        }
        *n_prompts += batch->n;
        if (!rc && cli_interrupted())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts");
    }
    close_source(job);
    return rc ? rc : check_any(job, *n_prompts, err);
}

static int start_file(struct job *job, struct lens_writer *w, struct err *err)
{
    const struct cli *cli = job->cli;
    const struct provenance provenance = { .command = cli->command_line,
                                           .model = job->session.model,
                                           .specials = cli->specials,
                                           .precision = cli->precision,
                                           .dtype = STORE_F32,
                                           .threads = cli->threads,
                                           .seed = cli->seed,
                                           .edits = strbuf_text(&job->edits_text) };
    const struct lens_plan plan = { .provenance = &provenance,
                                    .site = lens_source_name(job->lens.source),
                                    .positions = positions_text,
                                    .labels = job->labels,
                                    .n_states = job->lens.n_states,
                                    .top_k = top,
                                    .has_answer_logprob = with_chain,
                                    .flush_seconds = 2 };
    return lens_writer_start(w, &plan, err);
}

static int append(struct job *job, struct lens_writer *w, const struct batch *batch, struct err *err)
{
    const struct lens_result *r = &job->lens.result;
    const struct lens_rows rows = { .n_rows = job->lens.n_rows,
                                    .rank = r->rank,
                                    .ties = r->ties,
                                    .logprob = r->logprob,
                                    .entropy = r->entropy,
                                    .kl_final = r->kl_final,
                                    .top_token = r->top_token,
                                    .top_logprob = r->top_logprob,
                                    .answer_logprob = with_chain ? job->chains : NULL };
    return lens_writer_append(w, batch->n, &rows, err);
}

static int stream_h5(struct job *job, struct lens_writer *w, size_t n_prompts, struct err *err)
{
    struct progress_bar bar;
    struct batch *batch;
    size_t done = lens_writer_done(w), kept = done;
    int rc = open_source(job, err);
    if (rc)
        return rc;
    if (job->batcher)
        rc = batcher_skip(job->batcher, done, err);
    else
        job->one_taken = done > 0;
    if (done)
        cli_note(job->cli, "resuming after %zu of %zu prompts", done, n_prompts);
    struct progress *progress = progress_bar_start(&bar, job->cli, "lens", "prompts");
    while (!rc && (rc = next_batch(job, &batch, err)) > 0) {
        rc = measure(job, batch, err);
        rc = rc ? rc : append(job, w, batch, err);
        kept += rc ? 0 : batch->n;
        rc = rc ? rc : step(job, progress, n_prompts - done, err);
    }
    progress_bar_end(&bar);
    return cli_stopped_at(rc, job->cli->output, kept, n_prompts, err);
}

static int run_h5(struct job *job, struct err *err)
{
    struct lens_writer *w;
    size_t n_prompts = 0;
    int rc = job->cli->input ? input_keep(job->cli, err) : 0;
    rc = rc ? rc : lens_writer_open(&w, job->cli->output, job->cli->resume, err);
    if (rc)
        return rc;
    rc = announce(job, w, &n_prompts, err);
    rc = rc ? rc : start_file(job, w, err);
    rc = rc ? rc : stream_h5(job, w, n_prompts, err);
    rc = rc ? rc : lens_writer_finish(w, err);
    lens_writer_close(w);
    return rc;
}

/* --- set-up --- */

static int choose_format(struct cli *cli, enum format *format, struct err *err)
{
    const char *extension = cli->output ? file_extension(cli->output) : "";
    *format = cli->json ? FORMAT_JSON : cli->input || cli->output ? FORMAT_CSV : FORMAT_TABLE;
    if (!strcmp(extension, "json"))
        *format = FORMAT_JSON;
    else if (!strcmp(extension, "h5") || !strcmp(extension, "hdf5"))
        *format = FORMAT_H5;
    else if (*extension && strcmp(extension, "csv") && !cli->json)
        return cli_usage(cli, err, "-o %.200s: the lens writes .h5, .csv or .json", cli->output);
    if (*format == FORMAT_H5 && cli->json)
        return cli_usage(cli, err, "--json and -o %.200s: choose one format", cli->output);
    if (cli->resume && *format != FORMAT_H5)
        return cli_usage(cli, err, "--resume: only a .h5 file can be resumed");
    return 0;
}

static int check(struct cli *cli, struct positions *at, enum format *format, struct err *err)
{
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    rc = rc ? rc : choose_format(cli, format, err);
    if (!rc && with_chain && (given.edits.n || given.edits_path))
        rc = cli_usage(cli, err,
                       "--chain goes with no edits: `last` would mean another token in the prompt with its answer");
    if (!rc && positions_parse(positions_text, strlen(positions_text), at, err))
        rc = cli_usage(cli, err, "--positions: %s", err->msg);
    return rc;
}

static int open_job(struct job *job, struct err *err)
{
    int rc = session_open_answers(&job->session, job->cli, err);
    if (rc)
        return rc;
    const struct model_config *config = &job->session.model->config;
    rc = fact_options_edits(&given, config, &job->edits, err);
    rc = rc ? rc : lens_batch_init(&job->lens, job->session.runtime, (enum lens_source)site, top, err);
    rc = rc || !with_chain ? rc : answer_chain_init(&job->chain, job->session.runtime, err);
    if (rc)
        return rc;
    edits_describe(&job->edits, &job->edits_text);
    job->labels = mem_array(job->lens.n_states, sizeof *job->labels);
    job->label_texts = mem_array(job->lens.n_states, sizeof *job->label_texts);
    if (!job->labels || !job->label_texts || strbuf_failed(&job->edits_text))
        return err_nomem(err, "labels");
    for (size_t s = 0; s < job->lens.n_states; s++)
        job->labels[s] = lens_label(job->lens.source, config, s, job->label_texts[s]);
    return 0;
}

static void close_job(struct job *job)
{
    close_source(job);
    lens_batch_release(&job->lens);
    answer_chain_release(&job->chain);
    edit_list_release(&job->edits);
    strbuf_release(&job->edits_text);
    positions_release(&job->at);
    free(job->labels);
    free(job->label_texts);
    free(job->keep);
    free(job->answers);
    free(job->positions);
    free(job->first_kept);
    free(job->chains);
    free(job->chain_answers);
    free(job->chain_lengths);
    session_close(&job->session);
}

static void report(const struct job *job, double seconds)
{
    const struct cli *cli = job->cli;
    if (!cli->input)
        return;
    cli_note(cli, "%zu prompts, %zu rows of %zu states in %.1f s (%.0f prompts/s)", job->n_prompts, job->n_rows,
             job->lens.n_states, seconds, (double)job->n_prompts / (seconds > 0 ? seconds : 1));
    if (job->n_unanswered)
        cli_note(cli, "%zu prompts without an answer have no rank", job->n_unanswered);
    if (job->n_several)
        cli_note(cli, "%zu answers have several tokens: ranks are of the first one", job->n_several);
    if (job->n_retokenized)
        cli_note(cli, "%zu answers were tokenised alone: with them the prompt's own tokens would change",
                 job->n_retokenized);
    cli_note_dropped(cli, job->n_dropped);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli };
    enum format format;
    int rc = check(cli, &job.at, &format, err);
    rc = rc ? rc : output_claim(cli, false, err);
    if (!rc && format == FORMAT_H5)
        rc = stream_look(cli->output, cli->resume, err);
    rc = rc ? rc : open_job(&job, err);
    double start = now();
    if (!rc)
        rc = format == FORMAT_H5 ? run_h5(&job, err) : run_text(&job, format, err);
    if (!rc)
        report(&job, now() - start);
    close_job(&job);
    return rc;
}

const struct command command_lens = {
    .name = "lens",
    .arguments = "[-m MODEL] \"PROMPT\" [--answer TEXT] | -i FACTS [-o OUT.h5|.csv|.json]",
    .summary = "logit lens: the answer's rank after every layer",
    .details =
        "What the model would answer if its last layers were cut off: each state goes through the model's own final\n"
        "norm, recomputed on that state, and the unembedding (norm convention `lens`).\n"
        "\n"
        "  strata lens -m gpt2 \"The Eiffel Tower is in\" --answer Paris\n"
        "  strata lens -i data/facts/country_capital.jsonl -o capitals.h5\n"
        "  strata lens -i facts.jsonl --site mlp_out --positions subject-last -o facts.csv\n"
        "\n"
        "Ranks count from 1: one more than the tokens with a strictly greater logit; ties: other tokens with an equal\n"
        "one. Of an answer of several tokens the first is ranked; --chain adds the log probability of all of them\n"
        "(/prompts/answer_logprob, chain_logprob). Prompts without an answer are kept, with rank 0 (empty in CSV).\n"
        "\n"
        "CSV: one line per row and layer: prompt,id,position,layer,label,answer,rank,ties,logprob,prob,entropy,\n"
        "kl_final,top1,top1_prob. Logs are natural, entropy and KL(final || layer) in nats. HDF5: format strata-lens;\n"
        "an interrupted .h5 run goes on with --resume. Without -o: a table for a prompt, CSV for a file.\n",
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

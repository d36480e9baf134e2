/* strata experiment: what every variant of an experiment file answers. */
#include "analyses/experiment.h"

#include "analyses/cli/edit_setup.h"
#include "analyses/cli/fact_options.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/sweep.h"
#include "analyses/report/fields.h"
#include "analyses/report/result.h"
#include "analyses/report/token_text.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/runtime/experiment.h"
#include "core/store/journal.h"
#include "probes/outcomes.h"
#include "probes/site_means.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1024 };                /* variants whose final states are held; one piece of the journal */
#define MOST_MEMORY ((size_t)8 << 30) /* of base runs */

/* One line of the result: a base run, or a variant. */
struct row {
    const char *name; /* "base" */
    size_t prompt;
    const struct edit_list *edits;
    int32_t rank;
    double logprob;
};

struct job {
    struct cli *cli;
    struct session session;
    struct experiment e;
    struct prompt *prompts;         /* [n_prompts] */
    int32_t *answers;               /* [n_prompts] */
    const struct edit_list **edits; /* [n_prompts] of base runs */
    struct site_set sources;
    struct outcomes outcomes;
    struct row *rows; /* [n_prompts + n_variants] */
    size_t n_rows;
};

/* --- running --- */

/* Means of all variants in one pass over their data set. */
static int fill_means(struct job *job, struct err *err)
{
    struct edit_list all = { NULL, 0, 0 };
    int rc = 0;
    for (size_t i = 0; !rc && i < job->e.n_variants; i++)
        for (size_t k = 0; !rc && k < job->e.variants[i].edits.n; k++) {
            const struct edit *e = &job->e.variants[i].edits.edits[k];
            if (e->source != EDIT_FROM_MEAN)
                continue;
            if (!mem_grow(&all.edits, &all.capacity, all.n + 1, sizeof *all.edits))
                rc = err_nomem(err, "means");
            else
                all.edits[all.n++] = *e;
        }
    if (!rc && all.n && !job->e.mean_over)
        rc = err_set(err, ERR_ARG, "edit '%.100s' sets a mean: name the data set as \"mean_over\"", all.edits[0].text);
    if (!rc && all.n)
        rc = edits_fill_means(&all, job->e.mean_over, job->cli, &job->session, err);
    /* In the same order, also what a failure left half done: vectors have one owner. */
    for (size_t i = 0, n = 0; i < job->e.n_variants; i++)
        for (size_t k = 0; n < all.n && k < job->e.variants[i].edits.n; k++)
            if (job->e.variants[i].edits.edits[k].source == EDIT_FROM_MEAN)
                job->e.variants[i].edits.edits[k] = all.edits[n++];
    free(all.edits);
    return rc;
}

static int plan(struct job *job, struct err *err)
{
    const struct experiment *e = &job->e;
    const struct model_config *config = &job->session.model->config;
    size_t n_tokens = 0;
    job->prompts = mem_array(e->n_prompts, sizeof *job->prompts);
    job->answers = mem_array(e->n_prompts, sizeof *job->answers);
    job->edits = mem_array(e->n_prompts, sizeof *job->edits);
    job->rows = mem_array(e->n_prompts + e->n_variants, sizeof *job->rows);
    if (!job->prompts || !job->answers || !job->edits || !job->rows)
        return err_nomem(err, "an experiment");
    for (size_t i = 0; i < e->n_prompts; i++) {
        job->prompts[i] = prepared_prompt(&e->prompts[i].fact);
        job->prompts[i].name = e->prompts[i].name;
        job->answers[i] = e->prompts[i].fact.answer_token;
        job->edits[i] = &e->prompts[i].edits;
        n_tokens += job->prompts[i].n_tokens;
    }
    int rc = site_set_init(&job->sources, config, err);
    for (size_t i = 0; !rc && i < e->n_variants; i++)
        edit_list_sources(&e->variants[i].edits, &job->sources);
    size_t memory = rc ? 0 : replay_memory(config, job->cli->precision, n_tokens, &job->sources);
    if (memory > MOST_MEMORY)
        return err_set(err, ERR_NOMEM, "the base runs of %zu prompts take %zu MiB: split the experiment", e->n_prompts,
                       memory >> 20);
    return rc;
}

static void add_row(struct job *job, const char *name, size_t prompt, const struct edit_list *edits, float logprob,
                    int32_t rank)
{
    job->rows[job->n_rows++] =
        (struct row){ .name = name, .prompt = prompt, .edits = edits, .rank = rank, .logprob = (double)logprob };
}

struct piece {
    struct variant variants[PIECE];
    float logprob[PIECE];
    int32_t rank[PIECE];
};

static int measure_piece(struct job *job, struct piece *p, size_t n, struct progress *progress, struct err *err)
{
    struct lens_result r;
    int rc = outcomes_run(&job->outcomes, p->variants, n, &r, progress, err);
    if (rc)
        return rc;
    memcpy(p->logprob, r.logprob, n * sizeof *p->logprob);
    memcpy(p->rank, r.rank, n * sizeof *p->rank);
    lens_result_release(&r);
    return 0;
}

/* Variants [first, first + n): from the journal, or measured. */
static int take_piece(struct job *job, struct piece *p, size_t first, size_t n, struct progress *progress,
                      struct err *err)
{
    struct journal *j = progress_journal(progress);
    struct progress_part part = progress_part(progress, first, job->e.n_variants);
    const struct journal_part parts[] = { { p->logprob, n * sizeof *p->logprob }, { p->rank, n * sizeof *p->rank } };
    for (size_t i = 0; i < n; i++)
        p->variants[i] =
            (struct variant){ .run = job->e.variants[first + i].prompt, .edits = &job->e.variants[first + i].edits };
    int rc = 0;
    if (!journal_load(j, parts, 2)) {
        rc = measure_piece(job, p, n, &part.progress, err);
        rc = rc ? rc : journal_save(j, parts, 2, err);
    }
    for (size_t i = 0; !rc && i < n; i++)
        add_row(job, job->e.variants[first + i].name, p->variants[i].run, p->variants[i].edits, p->logprob[i],
                p->rank[i]);
    return rc;
}

static int run_variants(struct job *job, struct progress *progress, struct err *err)
{
    size_t n_variants = job->e.n_variants;
    struct piece *piece = mem_array(1, sizeof *piece);
    int rc = piece ? 0 : err_nomem(err, "an experiment");
    for (size_t first = 0, n; !rc && first < n_variants; first += n) {
        n = n_variants - first < PIECE ? n_variants - first : PIECE;
        rc = take_piece(job, piece, first, n, progress, err);
        if (!rc && progress_step(progress, first + n, n_variants) && first + n < n_variants)
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu variants", first + n, n_variants);
    }
    free(piece);
    return rc;
}

static int run_all(struct job *job, struct err *err)
{
    struct progress_bar bar;
    int rc = outcomes_create(&job->outcomes, job->session.runtime, job->prompts, job->e.n_prompts, job->answers,
                             job->edits, &job->sources, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < job->e.n_prompts; i++)
        add_row(job, "base", i, &job->e.prompts[i].edits, job->outcomes.base.logprob[i], job->outcomes.base.rank[i]);
    rc = run_variants(job, progress_bar_start(&bar, job->cli, "experiment", "variants"), err);
    progress_bar_end(&bar);
    return rc;
}

/* --- output --- */

static double change_of(const struct job *job, const struct row *r)
{
    return 100 * (exp(r->logprob - job->rows[r->prompt].logprob) - 1);
}

static void add_text(const void *arg, struct strbuf *out)
{
    const struct job *job = arg;
    strbuf_adds(out, "variant\tprompt\tanswer\trank\tprob\tlogprob\tchange\n");
    for (size_t i = 0; i < job->n_rows; i++) {
        const struct row *r = &job->rows[i];
        strbuf_addf(out, "%s\t%s\t", r->name, job->e.prompts[r->prompt].name);
        token_text_padded(out, job->session.model, job->outcomes.answers[r->prompt], 0);
        strbuf_addf(out, "\t%d\t%.6g\t%.6g\t", (int)r->rank, exp(r->logprob), r->logprob);
        if (i < job->e.n_prompts)
            strbuf_adds(out, "\n");
        else
            strbuf_addf(out, "%+.4g %%\n", change_of(job, r));
    }
}

static void add_csv(const void *arg, struct strbuf *out)
{
    const struct job *job = arg;
    strbuf_adds(out, "variant,prompt,answer,answer_token,rank,prob,logprob,change_percent,edits\n");
    for (size_t i = 0; i < job->n_rows; i++) {
        const struct row *r = &job->rows[i];
        const char *prompt = job->e.prompts[r->prompt].name;
        struct strbuf answer = STRBUF_INIT, edits = STRBUF_INIT;
        token_text(&answer, job->session.model, job->outcomes.answers[r->prompt]);
        edits_describe(r->edits, &edits);
        strbuf_add_csv(out, r->name, strlen(r->name));
        strbuf_addc(out, ',');
        strbuf_add_csv(out, prompt, strlen(prompt));
        strbuf_addc(out, ',');
        strbuf_add_csv(out, strbuf_text(&answer), answer.len);
        strbuf_addf(out, ",%d,%d,%.9g,%.9g,%.9g,", (int)job->outcomes.answers[r->prompt], (int)r->rank, exp(r->logprob),
                    r->logprob, change_of(job, r));
        strbuf_add_csv(out, strbuf_text(&edits), edits.len);
        strbuf_addc(out, '\n');
        out->failed |= answer.failed || edits.failed;
        strbuf_release(&answer);
        strbuf_release(&edits);
    }
}

static void add_json(const void *arg, struct strbuf *out)
{
    const struct job *job = arg;
    strbuf_adds(out, "{\"format\":\"strata-experiment-result\",\"version\":1,\"norm\":\"lens\",");
    json_text(out, "model", job->session.model->path);
    strbuf_adds(out, ",\"rows\":[");
    for (size_t i = 0; i < job->n_rows; i++) {
        const struct row *r = &job->rows[i];
        struct strbuf answer = STRBUF_INIT;
        token_text(&answer, job->session.model, job->outcomes.answers[r->prompt]);
        strbuf_adds(out, i ? ",\n{" : "\n{");
        json_text(out, "variant", r->name);
        json_text(out, "prompt", job->e.prompts[r->prompt].name);
        strbuf_addf(out, ",\"answer\":{\"token_id\":%d,", (int)job->outcomes.answers[r->prompt]);
        json_text(out, "text", strbuf_text(&answer));
        strbuf_addf(out, "},\"rank\":%d,\"prob\":%.9g,\"logprob\":%.9g,\"change_percent\":%.9g,\"edits\":[",
                    (int)r->rank, exp(r->logprob), r->logprob, change_of(job, r));
        for (size_t k = 0; k < r->edits->n; k++) {
            strbuf_adds(out, k ? "," : "");
            strbuf_add_json(out, r->edits->edits[k].text, strlen(r->edits->edits[k].text));
        }
        strbuf_adds(out, "]}");
        out->failed |= answer.failed;
        strbuf_release(&answer);
    }
    strbuf_adds(out, "\n]}\n");
}

/* --- HDF5 --- */

static int put_rows(const struct job *job, const struct h5_file *f, struct err *err)
{
    const hsize_t n = job->n_rows;
    const char **names = mem_array(job->n_rows, sizeof *names), **prompts = mem_array(job->n_rows, sizeof *prompts);
    double *logprob = mem_array(job->n_rows, sizeof *logprob);
    int32_t *rank = mem_array(job->n_rows, sizeof *rank), *answer = mem_array(job->n_rows, sizeof *answer);
    int rc = names && prompts && logprob && rank && answer ? 0 : err_nomem(err, "the result");
    for (size_t i = 0; !rc && i < job->n_rows; i++) {
        names[i] = job->rows[i].name;
        prompts[i] = job->e.prompts[job->rows[i].prompt].name;
        logprob[i] = job->rows[i].logprob;
        rank[i] = job->rows[i].rank;
        answer[i] = job->outcomes.answers[job->rows[i].prompt];
    }
    rc = rc ? rc : h5_put_array(f, "/rows/variant", STORE_TEXT, 1, &n, names, err);
    rc = rc ? rc : h5_put_array(f, "/rows/prompt", STORE_TEXT, 1, &n, prompts, err);
    rc = rc ? rc : h5_put_array(f, "/rows/answer_token", STORE_I32, 1, &n, answer, err);
    rc = rc ? rc : h5_put_array(f, "/rows/rank", STORE_I32, 1, &n, rank, err);
    rc = rc ? rc : h5_put_array(f, "/rows/logprob", STORE_F64, 1, &n, logprob, err);
    free(names);
    free(prompts);
    free(logprob);
    free(rank);
    free(answer);
    return rc;
}

static int put_edits(const struct job *job, const struct h5_file *f, struct err *err)
{
    const hsize_t n = job->n_rows;
    char **texts = mem_zeroed(job->n_rows, sizeof *texts);
    int rc = texts ? 0 : err_nomem(err, "the result");
    for (size_t i = 0; !rc && i < job->n_rows; i++) {
        struct strbuf text = STRBUF_INIT;
        edits_describe(job->rows[i].edits, &text);
        texts[i] = text.data;
        rc = strbuf_failed(&text) ? err_nomem(err, "the result") : 0;
    }
    rc = rc ? rc : h5_put_array(f, "/rows/edits", STORE_TEXT, 1, &n, texts, err);
    h5_free_text(texts, job->n_rows);
    return rc;
}

static int put_all(const void *arg, const struct h5_file *f, struct err *err)
{
    const struct job *job = arg;
    int rc = put_rows(job, f, err);
    return rc ? rc : put_edits(job, f, err);
}

static const struct result_kind experiment_result = {
    .name = "experiment",
    .format = "strata-experiment-result",
    .norm = "lens",
    .text = add_text,
    .json = add_json,
    .csv = { { "experiment", add_csv } },
    .h5 = put_all,
    .tab_separated = true,
};

static int write_result(const struct job *job, const struct result *result, struct err *err)
{
    struct provenance p = result_provenance(job->cli, job->session.model);
    p.seed = job->e.seed;
    return result_write(result, job, &p, err);
}

/* --- set-up --- */

static void close_job(struct job *job)
{
    outcomes_release(&job->outcomes);
    if (job->sources.config)
        site_set_release(&job->sources);
    experiment_release(&job->e);
    free(job->prompts);
    free(job->answers);
    free(job->edits);
    free(job->rows);
    session_close(&job->session);
}

/* What vectors of files and means hold is no part of the command's text. */
static void add_vectors(const struct edit_list *list, const struct model_config *config, struct strbuf *out)
{
    char hex[65];
    for (size_t i = 0; i < list->n; i++) {
        const struct edit *e = &list->edits[i];
        if (!e->vector)
            continue;
        out->failed |= !file_sha256(e->vector, e->n_vectors * site_row_size(e->site, config) * sizeof *e->vector, hex);
        strbuf_addf(out, "vector: %s\n", hex);
    }
}

static int begin_sweep(struct job *job, const char *path, struct err *err)
{
    const struct model *m = job->session.model;
    const struct provenance p = result_provenance(job->cli, m);
    struct strbuf vectors = STRBUF_INIT;
    for (size_t i = 0; i < job->e.n_prompts; i++)
        add_vectors(&job->e.prompts[i].edits, &m->config, &vectors);
    for (size_t i = 0; i < job->e.n_variants; i++)
        add_vectors(&job->e.variants[i].edits, &m->config, &vectors);
    int rc = strbuf_failed(&vectors) ? err_nomem(err, "a journal")
                                     : sweep_begin(job->cli, path, &p, strbuf_text(&vectors), err);
    strbuf_release(&vectors);
    return rc;
}

int experiment_run(struct cli *cli, const char *path, struct err *err)
{
    struct job job = { .cli = cli };
    struct result result;
    int rc = sweep_check(cli, err);
    rc = rc ? rc : result_choose(&result, &experiment_result, cli, false, err);
    rc = rc ? rc : session_open(&job.session, cli, err);
    rc = rc ? rc : experiment_read(&job.e, path, job.session.model, cli->specials, cli->seed, err);
    rc = rc ? rc : experiment_check(&job.e, err);
    rc = rc ? rc : fill_means(&job, err);
    rc = rc ? rc : plan(&job, err);
    rc = rc ? rc : begin_sweep(&job, path, err);
    rc = rc ? rc : run_all(&job, err);
    rc = rc ? rc : write_result(&job, &result, err);
    rc = sweep_end(cli, rc, err);
    close_job(&job);
    return rc;
}

static int run(struct cli *cli, struct err *err)
{
    return experiment_run(cli, cli->arguments[0], err);
}

const struct command command_experiment = {
    .name = "experiment",
    .arguments = "[-m MODEL] FILE.json [-o PATH]",
    .summary = "many variants of prompts, each a list of edits, from one JSON file",
    .details =
        "Prints what each base run and each variant gives its prompt's answer: rank, probability, logprob, and the\n"
        "change of the probability against the base run. Variants are replayed: only what an edit can change is "
        "computed.\n"
        "\n"
        "  {\"format\": \"strata-experiment\", \"version\": 1,\n"
        "   \"prompts\": [\n"
        "     {\"name\": \"france\", \"prompt\": \"The capital of France is\", \"subject\": \"France\", \"answer\": "
        "\"Paris\"},\n"
        "     {\"name\": \"italy\", \"prompt\": \"The capital of Italy is\", \"subject\": \"Italy\"}],\n"
        "   \"variants\": [\n"
        "     {\"name\": \"swap\", \"prompt\": \"france\", \"edits\": [\"resid_post:5@subject-last patch from "
        "italy\"]},\n"
        "     {\"name\": \"no head\", \"prompt\": \"france\", \"edits\": [{\"site\": \"z:23\", \"at\": \"last\", "
        "\"units\": [4],\n"
        "                                                     \"op\": \"zero\"}]}]}\n"
        "\n"
        "prompts: name; prompt or tokens; subject, subject_occurrence, answer, answer_token (without an answer: the "
        "model's\n"
        "own top token); edits of the base run itself, e.g. \"hook_embed@subject add noise:0.4\". variants: name, "
        "prompt\n"
        "(the first), edits. Also mean_over (facts for `mean`), seed, description. Paths are as on the command line.\n"
        "\n" EDIT_HELP "In a file, `from` names a prompt: \"patch from italy\", or {\"op\": \"patch\", \"from\": "
        "{\"prompt\": \"italy\", \"site\":\n"
        "\"attn_out\", \"layer\": 3, \"at\": \"last\"}}; `base` is the variant's own base run.\n"
        "\n" SWEEP_HELP,
    .common = COMMON_MODEL | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .least_arguments = 1,
    .most_arguments = 1,
    .run = run,
};

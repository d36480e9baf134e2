/* strata causal: causal tracing of one fact or of every known fact of a file. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/input.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/text.h"
#include "analyses/report/causal_report.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/stream_file.h"
#include "probes/outcomes.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fact_options given;
static const char *restore_text, *noise_text = "s3";
static size_t window = 10, n_samples = 10;
static bool all, no_plots;

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "restore",
      .kind = OPTION_TEXT,
      .value = &restore_text,
      .argument = "WHAT,...",
      .help = "state, mlp, attn, severed (all of them)" },
    { .name = "noise",
      .kind = OPTION_TEXT,
      .value = &noise_text,
      .argument = "s3|NUMBER",
      .help = "standard deviation, or sN: N times the spread of the subjects' embeddings (s3)" },
    { .name = "samples",
      .kind = OPTION_SIZE,
      .value = &n_samples,
      .argument = "N",
      .least = 1,
      .most = 1000,
      .help = "draws of the noise (10)" },
    { .name = "window",
      .kind = OPTION_SIZE,
      .value = &window,
      .argument = "LAYERS",
      .least = 1,
      .most = 1000,
      .help = "layers in which mlp and attn are restored: 10 is l-5..l+4 (10)" },
    { .name = "all", .kind = OPTION_FLAG, .value = &all, .help = "also facts whose answer is not on rank 1" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o FOLDER" },
    OPTIONS_END,
};

/* Rows of a batch whose base runs are held to find out what the model knows. */
enum { BATCH_ROWS = 256 };

struct job {
    struct cli *cli;
    struct session session;
    struct result result;
    struct causal_options options;
    struct subject_spread spread;
    double noise_factor; /* 0: a number was given */
    char noise_rule[128];
    struct causal_fact *facts; /* [n] those to trace */
    size_t n, capacity, n_read, n_unknown;
    struct causal_summary summary;
    struct causal_report report;
    struct strbuf h5_path;
};

/* --- the facts --- */

/* Takes a fact out of the batch. */
static int add_fact(struct job *job, struct prepared *fact, int32_t answer, struct err *err)
{
    if (!mem_grow(&job->facts, &job->capacity, job->n + 1, sizeof *job->facts))
        return err_nomem(err, "facts");
    job->facts[job->n++] = (struct causal_fact){ .fact = *fact, .answer = answer };
    *fact = (struct prepared){ .answer_token = -1 };
    return 0;
}

static int need_subjects(const struct prompt *prompts, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (prompts[i].subject_begin == prompts[i].subject_end)
            return err_set(err, ERR_ARG, "prompt %s: causal tracing corrupts the subject, and none is given: %s",
                           prompts[i].name, "add --subject, or \"subject\" to the fact");
    return 0;
}

/* Keeps what the model knows, and the spread of those subjects. */
static int sort_facts(struct job *job, struct prepared *items, const struct prompt *prompts, size_t n, struct err *err)
{
    struct runtime *rt = job->session.runtime;
    struct outcomes o = { 0 };
    int32_t *answers = mem_array(n, sizeof *answers);
    if (!answers)
        return err_nomem(err, "answers");
    for (size_t i = 0; i < n; i++)
        answers[i] = items[i].answer_token;
    int rc = need_subjects(prompts, n, err);
    rc = rc ? rc : outcomes_create(&o, rt, prompts, n, answers, NULL, NULL, err);
    for (size_t i = 0; !rc && i < n; i++) {
        bool known = o.base.rank[i] == 1;
        job->n_read++;
        job->n_unknown += !known;
        /* A single prompt is traced whatever its answer's rank, which is shown. */
        if (!known && !all && job->cli->input)
            continue;
        rc = subject_spread_add(&job->spread, rt, &prompts[i], 1, err);
        rc = rc ? rc : add_fact(job, &items[i], o.answers[i], err);
    }
    outcomes_release(&o);
    free(answers);
    return rc;
}

static int read_batch(void *arg, struct batch *batch, struct err *err)
{
    int rc = sort_facts(arg, batch->items, batch->prompts, batch->n, err);
    return rc || !cli_interrupted() ? rc : err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts");
}

static int read_argument(struct job *job, struct err *err)
{
    struct prepared fact;
    int rc = fact_options_prepare(&given, job->cli, job->session.model, &fact, err);
    if (rc)
        return rc;
    const struct prompt prompt = prepared_prompt(&fact);
    rc = sort_facts(job, &fact, &prompt, 1, err);
    prepared_release(&fact);
    return rc;
}

/* --- tracing --- */

static uint64_t variants_of(const struct job *job, size_t first)
{
    uint64_t n = 0;
    for (size_t i = first; i < job->n; i++)
        n += causal_trace_variants(&job->options, job->facts[i].fact.tokens.n, job->session.model->config.n_layers);
    return n;
}

static int trace_one(struct job *job, struct causal_fact *f, struct progress *progress, struct err *err)
{
    const struct prompt prompt = prepared_prompt(&f->fact);
    int rc = causal_trace_run(&f->trace, job->session.runtime, &prompt, f->answer, &job->options, progress, err);
    if (!rc && cli_interrupted())
        rc = err_set(err, ERR_INTERRUPTED, "interrupted");
    return rc;
}

static int trace_facts(struct job *job, size_t first, struct causal_file *file, struct err *err)
{
    struct progress_bar bar;
    int rc = 0;
    size_t i = first;
    struct progress_part progress =
        progress_part(progress_bar_start(&bar, job->cli, "causal", "restorations"), 0, variants_of(job, first));
    for (; !rc && i < job->n; i++) {
        struct causal_fact *f = &job->facts[i];
        rc = trace_one(job, f, &progress.progress, err);
        progress.before += causal_trace_variants(&job->options, f->fact.tokens.n, f->trace.n_layers);
        rc = rc || !file ? rc : causal_file_append(file, f, err);
    }
    progress_bar_end(&bar);
    if (rc == ERR_INTERRUPTED)
        err_set(err, rc, "interrupted after %zu of %zu facts%s", i - 1, job->n,
                file && i > 1 ? ": --resume goes on" : "");
    return rc;
}

static int trace_to_file(struct job *job, struct err *err)
{
    const struct cli *cli = job->cli;
    const char *path = strbuf_text(&job->h5_path);
    const struct provenance provenance = result_provenance(cli, job->session.model);
    struct causal_file *file;
    int rc = job->result.format == RESULT_FOLDER ? file_make_folder(cli->output, err) : 0;
    rc = rc ? rc : causal_file_open(&file, path, cli->resume, &job->report, &provenance, err);
    if (rc)
        return rc;
    size_t done = causal_file_done(file);
    if (done)
        cli_note(cli, "resuming after %zu of %zu facts", done, job->n);
    rc = trace_facts(job, done, file, err);
    rc = rc ? rc : causal_file_finish(file, err);
    causal_file_close(file);
    return rc || !done ? rc : causal_file_load(path, &job->report, done, job->facts, err);
}

static int summarise(struct job *job, struct err *err)
{
    const struct causal_trace **traces = mem_array(job->n, sizeof(const struct causal_trace *));
    struct causal_span *spans = mem_array(job->n, sizeof *spans);
    const char **subjects = mem_array(job->n, sizeof *subjects);
    int rc = traces && spans && subjects ? 0 : err_nomem(err, "the summary");
    for (size_t i = 0; !rc && i < job->n; i++) {
        const struct causal_fact *f = &job->facts[i];
        traces[i] = &f->trace;
        spans[i] =
            (struct causal_span){ f->fact.subject_begin, f->fact.subject_end, f->fact.tokens.n - f->fact.n_after };
        subjects[i] = f->fact.subject;
    }
    const struct causal_summary_input in = { .traces = traces,
                                             .spans = spans,
                                             .subjects = subjects,
                                             .n = job->n,
                                             .kinds = job->options.kinds,
                                             .seed = job->options.seed };
    rc = rc ? rc : causal_summary_make(&job->summary, &in, err);
    job->report.summary = &job->summary;
    free(traces);
    free(spans);
    free(subjects);
    return rc;
}

/* --- set-up --- */

/* "state,mlp" to a set of kinds. */
static int read_kinds(struct job *job, struct err *err)
{
    static const struct {
        const char *name;
        unsigned kinds;
    } names[] = { { "state", 1u << CAUSAL_STATE },
                  { "mlp", 1u << CAUSAL_MLP },
                  { "attn", 1u << CAUSAL_ATTN },
                  { "severed", 1u << CAUSAL_STATE | 1u << CAUSAL_SEVERED_MLP | 1u << CAUSAL_SEVERED_ATTN } };
    job->options.kinds = restore_text ? 0 : CAUSAL_ALL;
    for (const char *at = restore_text; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t len = strcspn(at, ","), i = 0;
        while (i < sizeof names / sizeof *names && (strlen(names[i].name) != len || memcmp(names[i].name, at, len)))
            i++;
        if (i == sizeof names / sizeof *names)
            return cli_usage(job->cli, err, "--restore '%.*s': write state, mlp, attn or severed",
                             len < 60 ? (int)len : 60, at);
        job->options.kinds |= names[i].kinds;
    }
    return 0;
}

static int read_noise(struct job *job, struct err *err)
{
    char *end;
    const char *number = noise_text + (*noise_text == 's');
    double x = strtod(number, &end);
    if (end == number || *end || !(x > 0 && x < 1e6))
        return cli_usage(job->cli, err, "--noise '%.60s': write a standard deviation above 0, or s3", noise_text);
    job->noise_factor = *noise_text == 's' ? x : 0;
    job->options.noise = x;
    return 0;
}

static int check(struct job *job, struct err *err)
{
    int rc = cli_text_or_input(job->cli, "a prompt", err);
    rc = rc ? rc : fact_options_check(&given, job->cli, err);
    if (!rc && !job->cli->input && !given.subject)
        rc = cli_usage(job->cli, err, "--subject TEXT is missing: causal tracing corrupts the subject");
    rc = rc ? rc : result_choose(&job->result, &causal_result, job->cli, no_plots, err);
    rc = rc ? rc : read_kinds(job, err);
    return rc ? rc : read_noise(job, err);
}

static void set_noise(struct job *job)
{
    double spread = subject_spread(&job->spread);
    if (job->noise_factor > 0) {
        job->options.noise = job->noise_factor * spread;
        snprintf(job->noise_rule, sizeof job->noise_rule, "s%g: %g x %.4g, the spread of the subjects' embeddings",
                 job->noise_factor, job->noise_factor, spread);
    } else
        snprintf(job->noise_rule, sizeof job->noise_rule, "given");
}

/* The path of its file; what is in the way is said before long work. */
static int prepare_output(struct job *job, struct err *err)
{
    const struct cli *cli = job->cli;
    if (job->result.format != RESULT_H5 && job->result.format != RESULT_FOLDER)
        return 0;
    strbuf_adds(&job->h5_path, cli->output);
    if (job->result.format == RESULT_FOLDER)
        strbuf_adds(&job->h5_path, "/causal.h5");
    if (strbuf_failed(&job->h5_path))
        return err_nomem(err, "a path");
    return stream_look(strbuf_text(&job->h5_path), cli->resume, err);
}

static int read_input(struct job *job, struct err *err)
{
    int rc = input_keep(job->cli, err);
    return rc ? rc : input_each_batch(job->cli, job->session.model, BATCH_ROWS, read_batch, job, err);
}

static int read_all(struct job *job, struct err *err)
{
    int rc = job->cli->input ? read_input(job, err) : read_argument(job, err);
    if (!rc && !job->n_read)
        rc = err_set(err, ERR_FORMAT, "%s: holds no prompts", input_name(job->cli));
    if (!rc && !job->n)
        rc = err_set(err, ERR_NOTFOUND, "%.200s: the model answers none of its %zu facts on rank 1: --all traces them",
                     job->cli->input, job->n_read);
    if (rc)
        return rc;
    set_noise(job);
    job->report = (struct causal_report){ .model = job->session.model,
                                          .options = &job->options,
                                          .noise_rule = job->noise_rule,
                                          .facts = job->facts,
                                          .n = job->n,
                                          .n_read = job->n_read,
                                          .n_unknown = job->n_unknown,
                                          .all = all };
    return 0;
}

static void close_job(struct job *job)
{
    for (size_t i = 0; i < job->n; i++) {
        prepared_release(&job->facts[i].fact);
        causal_trace_release(&job->facts[i].trace);
    }
    free(job->facts);
    causal_summary_release(&job->summary);
    strbuf_release(&job->h5_path);
    session_close(&job->session);
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli, .options = { .n_samples = n_samples, .seed = cli->seed, .window = window } };
    int rc = check(&job, err);
    rc = rc ? rc : prepare_output(&job, err);
    rc = rc ? rc : session_open_answers(&job.session, cli, err);
    rc = rc ? rc : read_all(&job, err);
    if (!rc)
        rc = job.h5_path.len ? trace_to_file(&job, err) : trace_facts(&job, 0, NULL, err);
    rc = rc ? rc : summarise(&job, err);
    rc = rc ? rc : result_write(&job.result, &job.report, NULL, err);
    close_job(&job);
    return rc;
}

const struct command command_causal = {
    .name = "causal",
    .arguments = "[-m MODEL] \"PROMPT\" --subject TEXT [--answer TEXT] | -i FACTS [-o PATH]",
    .summary = "causal tracing: which restored states bring back an answer that noise on the subject has destroyed",
    .details =
        "Noise is added to the subject's token embeddings (before positions), then what the clean run had at one "
        "token\n"
        "is put back, and the answer's probability is measured again (Meng et al. 2022): the state after one layer,\n"
        "FFN outputs or attention outputs of a window of layers around it. severed: the state at the subject's last\n"
        "token, while later FFN (attention) outputs of that token stay corrupted. Means over --samples draws.\n"
        "\n"
        "  strata causal \"The Eiffel Tower is located in the city of\" --subject \"Eiffel Tower\" --answer Paris\n"
        "  strata causal -i facts.jsonl --limit 50 -o causal            # resumes with --resume\n"
        "  strata causal -i facts.jsonl --restore state -o states.h5\n"
        "\n"
        "Total effect: p clean - p corrupted. Indirect effect: p restored - p corrupted. With -i: facts whose answer "
        "is\n"
        "on rank 1 (--all: every fact), averaged by the role of the token, with 95 % bootstrap bands over subjects.\n"
        "--noise s3 is 3 times the standard deviation of all components of the token embeddings of the traced facts'\n"
        "subjects (of a single prompt: of its own subject).\n"
        "Tokens have the first role that holds: last token, last, first, middle of the subject, first after it,\n"
        "further. A folder gets causal.h5 (format strata-causal), causal.csv, summary.csv and figures. Without\n"
        "--answer: the model's own top token. Norm convention: lens (the model's own final norm).\n",
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

/* strata trace: one fact layer by layer and in three stages, or the stages of a file of facts. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/input.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/sweep.h"
#include "analyses/cli/text.h"
#include "analyses/plot/plot.h"
#include "analyses/report/trace_report.h"
#include "analyses/stages.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/journal.h"
#include "probes/lens_batch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fact_options given;
static size_t top = 5;
static bool no_plots, no_stages, causal, each;
static size_t window;
static const char *attributes;

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "top",
      .kind = OPTION_SIZE,
      .value = &top,
      .argument = "K",
      .least = 1,
      .most = LENS_MAX_TOP,
      .help = "top tokens to keep of each token and layer (5)" },
    { .name = "no-stages", .kind = OPTION_FLAG, .value = &no_stages, .help = "layer by layer only, which is quick" },
    { .name = "causal",
      .kind = OPTION_FLAG,
      .value = &causal,
      .help = "causal tracing as well, which takes some ten seconds" },
    { .name = "attributes",
      .kind = OPTION_TEXT,
      .value = &attributes,
      .argument = "FACTS",
      .help = "facts whose answers are the attributes of subjects (those of -i; one prompt: none)" },
    { .name = "window",
      .kind = OPTION_SIZE,
      .value = &window,
      .argument = "W",
      .least = 1,
      .most = 1000000,
      .help = "layers blocked around each layer (3/16 of the layers, odd: 5 of 30)" },
    { .name = "each", .kind = OPTION_FLAG, .value = &each, .help = "with -i: every fact by itself, a folder each" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o" },
    EDIT_OPTIONS(given),
    OPTIONS_END,
};

/* Off by more than this, relative to the sizes of the parts: something is wrong, not rounded. */
static const double residue_limit[] = { [PRECISION_F32] = 1e-4, [PRECISION_F64] = 1e-10 };

enum { N_RIVALS = 4 };

struct job {
    struct cli *cli;
    struct session session;
    struct edit_list edits;
    struct strbuf edits_text;
    char (*label_texts)[LENS_LABEL_MAX];
    const char **labels; /* [n_layers + 1] */
    bool colour;
    bool not_drawn; /* and said so */
};

/* --- results of one fact --- */

static int write_json(const struct trace_report *r, const char *folder, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    char *path = file_join(folder, "trace.json");
    trace_report_json(r, &text);
    int rc = !path || strbuf_failed(&text) ? err_nomem(err, "trace.json") : file_write(path, text.data, text.len, err);
    free(path);
    strbuf_release(&text);
    return rc;
}

static int write_csv(const struct trace_report *r, const char *folder, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    if (!r->stages || r->stages->skipped)
        return 0;
    char *path = file_join(folder, "stages.csv");
    stages_report_one_csv(r->stages, &text);
    int rc = !path || strbuf_failed(&text) ? err_nomem(err, "stages.csv") : file_write(path, text.data, text.len, err);
    free(path);
    strbuf_release(&text);
    return rc;
}

static int write_h5(const struct job *job, const struct trace_report *r, const char *folder, struct err *err)
{
    const struct cli *cli = job->cli;
    const struct provenance provenance = { .command = cli->command_line,
                                           .model = r->model,
                                           .specials = cli->specials,
                                           .precision = cli->precision,
                                           .dtype = STORE_F32,
                                           .threads = cli->threads,
                                           .seed = cli->seed,
                                           .edits = strbuf_text(&job->edits_text) };
    char *path = file_join(folder, "trace.h5");
    int rc = path ? trace_report_h5(r, &provenance, path, err) : err_nomem(err, "trace.h5");
    free(path);
    return rc;
}

static int write_folder(struct job *job, const struct trace_report *r, const char *folder, struct err *err)
{
    int rc = file_make_folder(folder, err);
    rc = rc ? rc : write_h5(job, r, folder, err);
    rc = rc ? rc : write_json(r, folder, err);
    rc = rc ? rc : write_csv(r, folder, err);
    if (!rc && !no_plots)
        rc = trace_report_figures(r, folder, err);
    if (rc == PLOT_NOT_DRAWN && !job->not_drawn) {
        job->not_drawn = true;
        cli_note(job->cli, "strata: %s", err->msg);
    }
    return rc < 0 ? rc : trace_report_page(r, folder, !no_plots, err);
}

static int check_sum(const struct job *job, const struct fact_trace *t, struct err *err)
{
    double size = trace_absolute_sum(t, &job->session.model->config), limit = residue_limit[job->cli->precision];
    /* Edits of the stream add to the logit and belong to no part. */
    if (t->not_attributed || job->edits.n || fabs(t->attribution.residue) <= limit * size)
        return 0;
    return err_set(err, ERR_NUMERIC,
                   "%.300s: the parts of the logit sum to %.6g, the logit is %.6g: off by more than %.0e of the parts: "
                   "`strata verify` tells where the model goes wrong",
                   job->session.model->path, t->attribution.sum, t->logit, limit);
}

static struct stages_options stages_options(const struct job *job)
{
    return (struct stages_options){
        .attributes = attributes, .window = window, .causal = causal, .edited = job->edits.n > 0
    };
}

static int run_stages(struct job *job, const struct prepared *fact, const struct fact_trace *t,
                      struct stages_report *out, struct err *err)
{
    const struct stages_options o = stages_options(job);
    size_t last = (t->read_row + 1) * t->n_states - 1;
    return stages_one(out, job->cli, &job->session, fact, t->answer, t->lens.rank[last],
                      exp((double)t->lens.logprob[last]), &o, err);
}

static int show(const struct job *job, const struct trace_report *r, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    if (job->cli->json)
        trace_report_json(r, &text);
    else
        trace_report_text(r, job->colour, false, &text);
    int rc = cli_print(&text, err);
    strbuf_release(&text);
    return rc;
}

/* Traces one fact, prints it, and writes the folder where there is one. */
static int trace_fact(struct job *job, const struct prepared *fact, const char *folder, struct err *err)
{
    struct fact_trace trace;
    struct stages_report stages = { 0 };
    const struct prompt prompt = prepared_prompt(fact);
    const struct fact_trace_options o = { .answer = fact->answer_token,
                                          .top_k = top,
                                          .all_tokens = folder != NULL,
                                          .n_rivals = folder ? N_RIVALS : 0,
                                          .edits = job->edits.n ? &job->edits : NULL };
    int rc = fact_trace_run(&trace, job->session.runtime, &prompt, &o, err);
    if (rc)
        return err_prefix(err, "prompt %s: ", fact->id);
    const struct trace_report r = { .model = job->session.model,
                                    .fact = fact,
                                    .trace = &trace,
                                    .top_k = top,
                                    .labels = job->labels,
                                    .own_answer = fact->answer_token < 0,
                                    .edits = strbuf_text(&job->edits_text),
                                    .stages = no_stages || trace.not_attributed ? NULL : &stages,
                                    .command = job->cli->command_line };
    rc = check_sum(job, &trace, err);
    if (!rc && r.stages)
        rc = run_stages(job, fact, &trace, &stages, err);
    rc = rc ? rc : show(job, &r, err);
    if (!rc && folder)
        rc = write_folder(job, &r, folder, err);
    stages_report_release(&stages);
    fact_trace_release(&trace);
    return rc;
}

/* --- where facts come from --- */

static int trace_argument(struct job *job, struct err *err)
{
    struct prepared fact;
    int rc = fact_options_prepare(&given, job->cli, job->session.model, &fact, err);
    if (rc)
        return rc;
    rc = trace_fact(job, &fact, job->cli->output, err);
    prepared_release(&fact);
    return rc;
}

/* The page comes last. */
static bool is_whole(const char *folder)
{
    char *page = file_join(folder, "report.html");
    bool whole = page && file_exists(page);
    free(page);
    return whole;
}

/* FOLDER/00012 for fact number 12 of the input; the journal says which are finished. */
static int trace_numbered(struct job *job, const struct prepared *fact, size_t number, struct err *err)
{
    char name[32];
    uint64_t finished = 0;
    const struct journal_part part = { &finished, sizeof finished };
    if (!job->cli->output)
        return trace_fact(job, fact, NULL, err);
    snprintf(name, sizeof name, "%05zu", number);
    char *folder = file_join(job->cli->output, name);
    if (!folder)
        return err_nomem(err, "a path");
    bool loaded = journal_load(job->cli->journal, &part, 1);
    int rc = loaded && is_whole(folder) ? 0 : trace_fact(job, fact, folder, err);
    free(folder);
    finished = number + 1;
    return rc || loaded ? rc : journal_save(job->cli->journal, &part, 1, err);
}

/* Of --each. */
struct sweep {
    struct job *job;
    struct progress *progress;
    size_t done, total;
};

/* All facts are good before anything runs. */
static int count_batch(void *arg, struct batch *batch, struct err *err)
{
    struct sweep *sweep = arg;
    sweep->total += batch->n;
    return cli_interrupted() ? err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts") : 0;
}

static int trace_batch(void *arg, struct batch *batch, struct err *err)
{
    struct sweep *sweep = arg;
    const struct strbuf line = { .data = (char[]){ "\n" }, .len = 1 };
    int rc = 0;
    for (size_t i = 0; !rc && i < batch->n; i++) {
        rc = sweep->done && !sweep->job->cli->json ? cli_print(&line, err) : 0;
        rc = rc ? rc : trace_numbered(sweep->job, &batch->items[i], batch->first_prompt + i, err);
        if (!rc && progress_step(sweep->progress, ++sweep->done, sweep->total) && sweep->done < sweep->total)
            rc = ERR_INTERRUPTED;
    }
    if (rc == ERR_INTERRUPTED)
        err_set(err, rc, "interrupted after %zu of %zu prompts", sweep->done, sweep->total);
    return rc;
}

static int trace_input(struct job *job, struct err *err)
{
    struct sweep sweep = { .job = job };
    struct progress_bar bar;
    const struct cli *cli = job->cli;
    const struct model *m = job->session.model;
    int rc = input_keep(cli, err);
    rc = rc ? rc : input_each_batch(cli, m, runtime_batch_rows(), count_batch, &sweep, err);
    if (!rc && !sweep.total)
        rc = err_set(err, ERR_FORMAT, "%s: holds no prompts", input_name(cli));
    if (rc)
        return rc;
    sweep.progress = progress_bar_start(&bar, cli, "trace", "prompts");
    rc = input_each_batch(cli, m, runtime_batch_rows(), trace_batch, &sweep, err);
    progress_bar_end(&bar);
    return rc;
}

/* --- set-up --- */

/* A file of facts as a whole. */
static bool is_summary(const struct cli *cli)
{
    return cli->input && !each;
}

static int check_summary(struct cli *cli, struct result *result, struct err *err)
{
    if (no_stages || causal)
        return cli_usage(cli, err, "--%s goes with one prompt, or with --each%s", no_stages ? "no-stages" : "causal",
                         causal ? ": `strata causal -i` averages causal tracing over facts" : "");
    if (given.edits.n || given.edits_path)
        return cli_usage(cli, err, "edits go with one prompt, or with --each");
    return result_choose(result, &stages_result, cli, no_plots, err);
}

static int check_one(struct cli *cli, struct err *err)
{
    static const char *const files[] = { "h5", "hdf5", "csv", "json", "jsonl", "png", "svg", "pdf", "txt" };
    int rc = 0;
    if (no_stages && (causal || attributes || window))
        return cli_usage(cli, err, "--no-stages: --causal, --attributes and --window are about the stages");
    for (size_t i = 0; !rc && cli->output && i < sizeof files / sizeof *files; i++)
        if (!strcmp(file_extension(cli->output), files[i]))
            rc = cli_usage(cli, err, "-o %.200s: give a folder; it gets trace.h5, trace.json and figures", cli->output);
    if (!rc && no_plots && !cli->output)
        rc = cli_usage(cli, err, "--no-plots: there are no plots without -o FOLDER");
    return rc ? rc : output_claim(cli, true, err);
}

static int check(struct cli *cli, struct result *result, struct err *err)
{
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : sweep_check(cli, err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    if (!rc && each && !cli->input)
        rc = cli_usage(cli, err, "--each goes with -i");
    if (rc)
        return rc;
    return is_summary(cli) ? check_summary(cli, result, err) : check_one(cli, err);
}

static int begin_sweep(struct cli *cli, const struct model *m, struct err *err)
{
    const struct provenance p = result_provenance(cli, m);
    struct strbuf more = STRBUF_INIT;
    bool again = !attributes || sweep_is_file(attributes);
    int rc = attributes && again ? sweep_add_file("attributes", attributes, &more, err) : 0;
    rc = rc ? rc : sweep_begin(cli, again ? cli->input : NULL, &p, strbuf_text(&more), err);
    strbuf_release(&more);
    return rc;
}

/* All facts of -i together. */
static int trace_summary(struct cli *cli, const struct result *result, struct err *err)
{
    const struct stages_options o = { .attributes = attributes, .window = window };
    struct session session = { 0 };
    int rc = session_open_linear(&session, cli, err);
    rc = rc ? rc : begin_sweep(cli, session.model, err);
    rc = rc ? rc : stages_many(cli, &session, &o, result, err);
    rc = sweep_end(cli, rc, err);
    session_close(&session);
    return rc;
}

static int open_job(struct job *job, struct err *err)
{
    const char *no_colour = getenv("NO_COLOR");
    int rc = session_open_answers(&job->session, job->cli, err);
    if (rc)
        return rc;
    const struct model_config *config = &job->session.model->config;
    size_t n_states = lens_states(LENS_RESID, config);
    rc = fact_options_edits(&given, config, &job->edits, err);
    if (rc)
        return rc;
    job->colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour);
    edits_describe(&job->edits, &job->edits_text);
    job->labels = mem_array(n_states, sizeof *job->labels);
    job->label_texts = mem_array(n_states, sizeof *job->label_texts);
    if (!job->labels || !job->label_texts || strbuf_failed(&job->edits_text))
        return err_nomem(err, "labels");
    for (size_t s = 0; s < n_states; s++)
        job->labels[s] = lens_label(LENS_RESID, config, s, job->label_texts[s]);
    return 0;
}

static void close_job(struct job *job)
{
    edit_list_release(&job->edits);
    strbuf_release(&job->edits_text);
    free(job->labels);
    free(job->label_texts);
    session_close(&job->session);
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli };
    struct result result;
    int rc = check(cli, &result, err);
    if (!rc && is_summary(cli))
        return trace_summary(cli, &result, err);
    rc = rc ? rc : open_job(&job, err);
    rc = rc ? rc : begin_sweep(cli, job.session.model, err);
    if (!rc)
        rc = cli->input ? trace_input(&job, err) : trace_argument(&job, err);
    rc = sweep_end(cli, rc, err);
    close_job(&job);
    return rc;
}

const struct command command_trace = {
    .name = "trace",
    .arguments = "[-m MODEL] \"PROMPT\" [--subject TEXT] [--answer TEXT] [-o FOLDER] | -i FACTS [-o FOLDER|FILE]",
    .summary = "how a fact is recalled: layer by layer, and in three stages with controls",
    .details =
        "One line a layer, at the last token: the token that the lens puts first after the layer, the answer's\n"
        "probability and rank, what attention and FFN add to the answer's logit, the head with the largest share and\n"
        "the token it looks at most. Ranks: norm convention `lens` (the final norm recomputed at each depth). Shares:\n"
        "norm convention `attribution` (the final norm's scale held fixed, so that all shares sum to the logit; the\n"
        "residue is printed, and one above 1e-4 of the parts (1e-10 with --precision f64) is an error).\n"
        "\n"
        "With --subject, three stages, each with a verdict, its number and its control (Geva et al. 2023):\n"
        "  1 enrichment   the answer at the subject's last token, against random words as subject (found: p <= 0.05);\n"
        "                 with -i: attributes of the subject there, against another subject's (5 points and more)\n"
        "  2 propagation  the last token may not look at the rest of the prompt in a window of layers, before the\n"
        "                 subject counts; control: the subject blocked there (one fact: in any window up to there)\n"
        "  3 extraction   it may not look at the subject; control: as many random tokens of the rest (one fact: up to\n"
        "                 19 distinct sets, each in its own deepest window; fewer than 5: not measured)\n"
        "Found are drops of p(answer) of 20 % and more whose log p is twice that of the control (mean over facts:\n"
        "10 %, with 95 % bands over subjects that exclude the control's). A fact that the model does not know (rank "
        "1)\n"
        "gets no stages.\n"
        "\n"
        "  strata trace \"The Eiffel Tower is located in the city of\" --subject \"Eiffel Tower\" --answer Paris\n"
        "  strata trace -m gpt2 \"The Eiffel Tower is in\" --subject \"Eiffel Tower\" --answer Paris --causal -o "
        "eiffel\n"
        "  strata trace -i facts.jsonl -o stages\n"
        "\n"
        "Without --answer: the model's own top token. With -i the facts that the model knows are averaged, by "
        "relation\n"
        "too; --each traces every fact by itself into FOLDER/00000 and so on. A folder gets report.html (open it\n"
        "first), trace.h5 (format strata-trace: everything), CSV tables, one fact trace.json, and the figures, each "
        "as\n"
        ".svg, .png, .dat and .gp. Files of an earlier run are replaced. Where gnuplot is missing the pictures are\n"
        "missing too, a note says so, and the exit status is still 0; characters that no installed font has are drawn\n"
        "as boxes.\n"
        "\n" SWEEP_HELP,
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

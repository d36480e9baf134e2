/* strata neurons: which FFN neurons fire for a fact, what they say, what happens without them. */
#include "analyses/cli/contrasts.h"
#include "analyses/cli/fact_options.h"
#include "analyses/cli/known_facts.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/text.h"
#include "analyses/plot/plot.h"
#include "analyses/report/neurons_report.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

static struct fact_options given;
static const char *against;
static bool all_facts, no_ablation, no_plots;
static int tokens_norm;
static size_t top = 10, draws = ABLATION_DRAWS;

static const char *const norm_names[] = { "geva", "gain", NULL };

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "all",
      .kind = OPTION_FLAG,
      .value = &all_facts,
      .help = "with -i: also facts whose answer is not on rank 1; they are left out otherwise" },
    AGAINST_OPTION(against),
    { .name = "top", .kind = OPTION_SIZE, .value = &top, .argument = "K", .least = 1, .help = "neurons to list (10)" },
    { .name = "tokens",
      .kind = OPTION_CHOICE,
      .value = &tokens_norm,
      .choices = norm_names,
      .help = "what value vectors say: W_U v without a norm (geva), or under the final norm's gain" },
    { .name = "draws",
      .kind = OPTION_SIZE,
      .value = &draws,
      .argument = "N",
      .least = 1,
      .most = 1000,
      .help = "draws of random neurons, the control (5)" },
    { .name = "no-ablation", .kind = OPTION_FLAG, .value = &no_ablation, .help = "switch no neurons off" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o FOLDER" },
    OPTIONS_END,
};

enum format { FORMAT_TEXT, FORMAT_CSV, FORMAT_JSON, FORMAT_H5, FORMAT_FOLDER };
enum { MOST_OUT = 50 }; /* neurons that are ranked and taken out */

struct job {
    struct cli *cli;
    struct session session;
    struct known_facts facts;
    struct contrasts contrasts;
    struct neurons_report report;
    enum format format;
};

/* --- measuring --- */

static int run_activity(struct job *job, struct err *err)
{
    const struct model_config *c = &job->session.model->config;
    size_t all = c->n_layers * c->d_mlp;
    struct progress_bar bar;
    int rc = neuron_activity_run(&job->report.activity, job->session.runtime, job->facts.prompts, job->contrasts.each,
                                 job->facts.n, all < MOST_OUT ? all : MOST_OUT,
                                 progress_bar_start(&bar, job->cli, "neurons", "facts"), err);
    progress_bar_end(&bar);
    return rc;
}

/* 1, 2, 5, ... as far as half of a layer is left to draw others from. */
static int run_ablation(struct job *job, struct err *err)
{
    static const size_t usual[] = { 1, 2, 5, 10, 20, 50 };
    struct neurons_report *r = &job->report;
    struct progress_bar bar;
    size_t n = 0;
    while (n < sizeof usual / sizeof *usual && usual[n] <= r->activity.top &&
           2 * usual[n] <= job->session.model->config.d_mlp)
        n++;
    r->counts = mem_array(n, sizeof *r->counts);
    if (!r->counts)
        return err_nomem(err, "numbers of neurons");
    memcpy(r->counts, usual, n * sizeof *usual);
    r->n_counts = n;
    if (!n)
        return 0;
    int rc = neuron_ablation_run(&r->ablation, job->session.runtime, job->facts.prompts, job->facts.answers,
                                 &r->activity, r->counts, n, draws, job->cli->seed,
                                 progress_bar_start(&bar, job->cli, "ablation", "facts"), err);
    progress_bar_end(&bar);
    return rc;
}

static int measure(struct job *job, struct err *err)
{
    int rc = run_activity(job, err);
    rc = rc ? rc : neurons_report_list(&job->report, job->session.runtime, err);
    return rc || no_ablation ? rc : run_ablation(job, err);
}

/* --- results --- */

static int write_text(const char *folder, const char *name, void (*add)(const struct neurons_report *, struct strbuf *),
                      const struct neurons_report *r, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    char *path = file_join(folder, name);
    add(r, &text);
    int rc = !path || strbuf_failed(&text) ? err_nomem(err, "a table") : file_write(path, text.data, text.len, err);
    free(path);
    strbuf_release(&text);
    return rc;
}

static int write_h5(const struct job *job, const char *path, struct err *err)
{
    const struct cli *cli = job->cli;
    const struct provenance provenance = { .command = cli->command_line,
                                           .model = job->session.model,
                                           .specials = cli->specials,
                                           .precision = cli->precision,
                                           .dtype = STORE_F64,
                                           .threads = cli->threads,
                                           .seed = cli->seed };
    return neurons_report_h5(&job->report, &provenance, path, err);
}

static int write_folder(const struct job *job, struct err *err)
{
    const struct neurons_report *r = &job->report;
    const char *folder = job->cli->output;
    int rc = file_make_folder(folder, err);
    char *path = file_join(folder, "neurons.h5");
    if (!rc)
        rc = path ? write_h5(job, path, err) : err_nomem(err, "a path");
    free(path);
    rc = rc ? rc : write_text(folder, "neurons.csv", neurons_report_csv, r, err);
    rc = rc ? rc : write_text(folder, "layers.csv", neurons_report_layers_csv, r, err);
    if (!rc && r->ablation.n_variants)
        rc = write_text(folder, "ablation.csv", neurons_report_ablation_csv, r, err);
    if (rc || no_plots)
        return rc;
    rc = neurons_report_figures(r, folder, err);
    if (rc == PLOT_NOT_DRAWN)
        cli_note(job->cli, "strata: %s", err->msg);
    return rc < 0 ? rc : 0;
}

static int write_results(struct job *job, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    if (job->format == FORMAT_H5)
        return write_h5(job, job->cli->output, err);
    if (job->format == FORMAT_CSV)
        neurons_report_csv(&job->report, &text);
    else if (job->format == FORMAT_JSON)
        neurons_report_json(&job->report, &text);
    else
        neurons_report_text(&job->report, &text);
    if (job->format != FORMAT_FOLDER)
        return output_text(job->cli, &text, 0, err);
    int rc = cli_print(&text, err);
    strbuf_release(&text);
    return rc ? rc : write_folder(job, err);
}

/* --- set-up --- */

static int choose_format(struct job *job, struct err *err)
{
    static const char *const wrong[] = { "png", "svg", "pdf", "txt", "tsv", "jsonl" };
    struct cli *cli = job->cli;
    const char *extension = cli->output ? file_extension(cli->output) : "";
    bool to_stdout = !cli->output || !strcmp(cli->output, "-");
    job->format = cli->json ? FORMAT_JSON : to_stdout ? FORMAT_TEXT : FORMAT_FOLDER;
    if (!strcmp(extension, "csv") && !cli->json)
        job->format = FORMAT_CSV;
    if (!strcmp(extension, "json"))
        job->format = FORMAT_JSON;
    if ((!strcmp(extension, "h5") || !strcmp(extension, "hdf5")) && !cli->json)
        job->format = FORMAT_H5;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!strcmp(extension, wrong[i]))
            return cli_usage(cli, err, "-o %.200s: give a folder (numbers and figures), or a .h5, .csv or .json file",
                             cli->output);
    return no_plots && job->format != FORMAT_FOLDER
               ? cli_usage(cli, err, "--no-plots: there are no plots without -o FOLDER")
               : 0;
}

static int check(struct job *job, struct err *err)
{
    struct cli *cli = job->cli;
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    rc = rc ? rc : choose_format(job, err);
    if (!rc && !cli->input && all_facts)
        rc = cli_usage(cli, err, "--all goes with -i: a single fact is measured in any case");
    return rc;
}

static int open_job(struct job *job, struct err *err)
{
    int rc = session_open(&job->session, job->cli, err);
    rc = rc ? rc : known_facts_read(&job->facts, job->cli, &given, job->session.runtime, all_facts, err);
    rc = rc ? rc : contrasts_choose(&job->contrasts, &job->facts, job->cli, job->session.model, against, err);
    if (rc)
        return rc;
    job->report.model = job->session.model;
    job->report.facts = &job->facts;
    job->report.against = strbuf_text(&job->contrasts.text);
    job->report.top = top;
    job->report.seed = job->cli->seed;
    job->report.norm = tokens_norm ? NEURON_TOKENS_GAIN : NEURON_TOKENS_GEVA;
    return 0;
}

static void close_job(struct job *job)
{
    neurons_report_release(&job->report);
    contrasts_release(&job->contrasts);
    known_facts_release(&job->facts);
    session_close(&job->session);
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli };
    int rc = check(&job, err);
    rc = rc ? rc : open_job(&job, err);
    rc = rc ? rc : measure(&job, err);
    rc = rc ? rc : write_results(&job, err);
    close_job(&job);
    return rc;
}

const struct command command_neurons = {
    .name = "neurons",
    .arguments = "[-m MODEL] \"PROMPT\" [--subject TEXT] [--answer TEXT] | -i FACTS [-o FOLDER|.h5|.csv|.json]",
    .summary = "which FFN neurons write the answer, what they promote, and the answer without them",
    .details =
        "An FFN adds to the stream the sum over its neurons of a coefficient m (mlp.hook_post) times a value vector v\n"
        "(Geva et al. 2022). At the last token: the neurons with the largest share of the answer's logit (norm\n"
        "convention: attribution), their m and |m| ||v||, the tokens that v promotes and suppresses, the answer's "
        "rank\n"
        "among them, and p(answer) with the fact's first neurons at zero against random ones of the same layers.\n"
        "With -i: over the facts whose answer the model has on rank 1. Prompts of the same subject, relation and "
        "answer\n"
        "are paraphrases: how many of the 10 largest coefficients they share, per layer, against other facts.\n"
        "\n"
        "  strata neurons \"The Colosseum is located in the city of\" --subject Colosseum --answer Rome\n"
        "  strata neurons -m gpt2 -i facts.jsonl --against relation -o neurons\n"
        "\n"
        "A folder gets neurons.h5 (format strata-neurons), neurons.csv, layers.csv, ablation.csv and figures.\n",
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

/* strata neurons: which FFN neurons fire for a fact, what they say, what happens without them. */
#include "analyses/cli/contrasts.h"
#include "analyses/cli/fact_options.h"
#include "analyses/cli/known_facts.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/sweep.h"
#include "analyses/cli/text.h"
#include "analyses/report/neurons_report.h"
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

enum { MOST_OUT = 50 }; /* neurons that are ranked and taken out */

struct job {
    struct cli *cli;
    struct session session;
    struct known_facts facts;
    struct contrasts contrasts;
    struct neurons_report report;
    struct result result;
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

/* --- set-up --- */

static int check(struct job *job, struct err *err)
{
    struct cli *cli = job->cli;
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : sweep_check(cli, err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    rc = rc ? rc : result_choose(&job->result, &neurons_result, cli, no_plots, err);
    if (!rc && !cli->input && all_facts)
        rc = cli_usage(cli, err, "--all goes with -i: a single fact is measured in any case");
    return rc;
}

static int open_job(struct job *job, struct err *err)
{
    int rc = session_open_linear(&job->session, job->cli, err);
    if (!rc) {
        const struct provenance p = result_provenance(job->cli, job->session.model);
        rc = sweep_begin(job->cli, job->cli->input, &p, NULL, err);
    }
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
    if (!rc) {
        const struct provenance p = result_provenance(cli, job.session.model);
        rc = result_write(&job.result, &job.report, &p, err);
    }
    rc = sweep_end(cli, rc, err);
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
        "A folder gets neurons.h5 (format strata-neurons), neurons.csv, layers.csv, ablation.csv and figures.\n"
        "\n" SWEEP_HELP,
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

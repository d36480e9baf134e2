/* strata knockout: what happens to the answer when the last token may not attend to the subject, the rest, itself. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/input.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/sweep.h"
#include "analyses/cli/text.h"
#include "analyses/report/knockout_report.h"
#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

static struct fact_options given;
static size_t window = SIZE_MAX;
static bool all_facts, own_answer, spare_first, no_plots;

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "window",
      .kind = OPTION_SIZE,
      .value = &window,
      .argument = "W",
      .most = 1000000,
      .help = "layers blocked around each layer (3/16 of the layers, odd: 9 of 48)" },
    { .name = "all",
      .kind = OPTION_FLAG,
      .value = &all_facts,
      .help = "with -i: also facts whose answer is not on rank 1; they are left out otherwise" },
    { .name = "own",
      .kind = OPTION_FLAG,
      .value = &own_answer,
      .help = "measure the model's own top token (as in the paper), not the fact's answer" },
    { .name = "spare-first",
      .kind = OPTION_FLAG,
      .value = &spare_first,
      .help = "never block token 0, which draws attention whatever it is (an attention sink)" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o FOLDER" },
    OPTIONS_END,
};

struct job {
    struct cli *cli;
    struct session session;
    struct knockout_report report;
    struct result result;
    size_t n_prompts; /* of the input */
    struct progress *progress;
    /* Of the batch at hand: facts that have an answer. */
    const struct prepared **items;
    struct prompt *prompts;
    int32_t *answers;
    size_t items_capacity, prompts_capacity, answers_capacity;
};

/* --- measuring --- */

/* Variants of a batch are not drawn: between them only the question whether to stop. */
static int only_ask(struct progress *self, uint64_t done, uint64_t total)
{
    (void)self, (void)done, (void)total;
    return cli_interrupted();
}

static int measure(struct job *job, size_t n, bool tokens, struct progress *progress, struct err *err)
{
    struct knockout k;
    const struct knockout_input in = { .prompts = job->prompts,
                                       .answers = job->answers,
                                       .n_facts = n,
                                       .window = job->report.window,
                                       .known_only = job->report.known_only,
                                       .tokens = tokens,
                                       .spare_first = spare_first };
    int rc = knockout_run(&k, job->session.runtime, &in, progress, err);
    if (rc)
        return rc;
    rc = knockout_report_add(&job->report, &k, job->items, err);
    knockout_release(&k);
    return rc;
}

static int make_room(struct job *job, size_t n, struct err *err)
{
    if (mem_grow(&job->items, &job->items_capacity, n, sizeof *job->items) &&
        mem_grow(&job->prompts, &job->prompts_capacity, n, sizeof *job->prompts) &&
        mem_grow(&job->answers, &job->answers_capacity, n, sizeof *job->answers))
        return 0;
    return err_nomem(err, "a batch of facts");
}

static int measure_batch(struct job *job, const struct batch *batch, struct err *err)
{
    size_t n = 0;
    int rc = make_room(job, batch->n, err);
    for (size_t i = 0; !rc && i < batch->n; i++) {
        if (batch->items[i].answer_token < 0 && !own_answer) {
            job->report.n_without_answer++;
            continue;
        }
        job->items[n] = &batch->items[i];
        job->prompts[n] = batch->prompts[i];
        job->answers[n++] = own_answer ? -1 : batch->items[i].answer_token;
    }
    struct progress inner = { .step = only_ask, .journal = job->cli->journal };
    return rc || !n ? rc : measure(job, n, false, &inner, err);
}

static int measure_argument(struct job *job, struct err *err)
{
    struct prepared fact;
    struct progress_bar bar;
    int rc = fact_options_prepare(&given, job->cli, job->session.model, &fact, err);
    if (rc)
        return rc;
    rc = make_room(job, 1, err);
    if (!rc) {
        job->items[0] = &fact;
        job->prompts[0] = prepared_prompt(&fact);
        job->answers[0] = own_answer ? -1 : fact.answer_token;
        rc = measure(job, 1, true, progress_bar_start(&bar, job->cli, "knockout", "variants"), err);
        progress_bar_end(&bar);
    }
    prepared_release(&fact);
    return rc;
}

/* --- facts of a file, read twice: all of them are good before anything runs --- */

static int check_batch(const struct batch *batch, struct err *err)
{
    for (size_t i = 0; i < batch->n; i++)
        if (batch->items[i].subject_begin == batch->items[i].subject_end)
            return err_set(err, ERR_FORMAT, "prompt %s: it has no subject, which a knockout needs", batch->items[i].id);
    return 0;
}

static int check_facts(void *arg, struct batch *batch, struct err *err)
{
    struct job *job = arg;
    job->n_prompts += batch->n;
    if (cli_interrupted())
        return err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts");
    return check_batch(batch, err);
}

static int measure_facts(void *arg, struct batch *batch, struct err *err)
{
    struct job *job = arg;
    int rc = measure_batch(job, batch, err);
    size_t done = batch->first_prompt + batch->n;
    if (!rc && progress_step(job->progress, done, job->n_prompts))
        rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu prompts", done, job->n_prompts);
    return rc;
}

static int measure_input(struct job *job, struct err *err)
{
    struct progress_bar bar;
    int rc = input_keep(job->cli, err);
    rc = rc ? rc : input_each_batch(job->cli, job->session.model, runtime_batch_rows(), check_facts, job, err);
    if (rc)
        return rc;
    job->progress = progress_bar_start(&bar, job->cli, "knockout", "prompts");
    rc = input_each_batch(job->cli, job->session.model, runtime_batch_rows(), measure_facts, job, err);
    progress_bar_end(&bar);
    if (!rc && !job->n_prompts)
        rc = err_set(err, ERR_FORMAT, "%s: holds no prompts", input_name(job->cli));
    if (!rc && !job->report.n_facts)
        rc = err_set(err, ERR_FORMAT,
                     "%s: nothing to measure: of %zu prompts %zu have no answer, and the model puts none of the other "
                     "answers on rank 1: --all measures them anyway",
                     job->cli->input, job->n_prompts, job->report.n_without_answer);
    return rc;
}

/* --- set-up --- */

static int check(struct job *job, struct err *err)
{
    struct cli *cli = job->cli;
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : sweep_check(cli, err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    rc = rc ? rc : result_choose(&job->result, &knockout_result, cli, no_plots, err);
    if (!rc && !cli->input && !given.subject)
        rc = cli_usage(cli, err, "--subject is missing: which part of the prompt shall not be attended to?");
    if (!rc && own_answer && given.answer)
        rc = cli_usage(cli, err, "--own measures the model's own answer: give either that or --answer");
    if (!rc && all_facts && !cli->input)
        rc = cli_usage(cli, err, "--all goes with -i: a single fact is measured in any case");
    return rc;
}

static int open_job(struct job *job, struct err *err)
{
    int rc = session_open_answers(&job->session, job->cli, err);
    if (rc)
        return rc;
    const struct model *m = job->session.model;
    job->report = (struct knockout_report){
        .model = m,
        .n_layers = m->config.n_layers,
        .default_window = window == SIZE_MAX,
        .window = window == SIZE_MAX ? knockout_window(m->config.n_layers) : window,
        .own_answer = own_answer || (!job->cli->input && !given.answer),
        .known_only = job->cli->input && !all_facts,
        .spare_first = spare_first,
    };
    const struct provenance p = result_provenance(job->cli, m);
    return sweep_begin(job->cli, job->cli->input, &p, NULL, err);
}

static void close_job(struct job *job)
{
    knockout_report_release(&job->report);
    free(job->items);
    free(job->prompts);
    free(job->answers);
    session_close(&job->session);
}

static int run(struct cli *cli, struct err *err)
{
    struct job job = { .cli = cli };
    int rc = check(&job, err);
    rc = rc ? rc : open_job(&job, err);
    if (!rc)
        rc = cli->input ? measure_input(&job, err) : measure_argument(&job, err);
    rc = rc ? rc : knockout_report_average(&job.report, cli->seed, err);
    if (!rc) {
        const struct provenance p = result_provenance(cli, job.session.model);
        rc = result_write(&job.result, &job.report, &p, err);
    }
    rc = sweep_end(cli, rc, err);
    close_job(&job);
    return rc;
}

const struct command command_knockout = {
    .name = "knockout",
    .arguments = "[-m MODEL] \"PROMPT\" --subject TEXT [--answer TEXT] | -i FACTS [-o FOLDER|.h5|.csv|.json]",
    .summary = "attention knockout: the answer when the last token may not attend to subject, rest, itself",
    .details =
        "Blocks the last token's attention edges, in all heads of a window of layers around each layer, to the\n"
        "subject's tokens, to all others but the last, and to the last itself (-inf before the softmax, so the rest\n"
        "renormalises), and tells how p(answer) changes, in percent of what it was (Geva et al. 2023). With -i: means\n"
        "over the facts whose answer the model has on rank 1, with 95 % bootstrap bands over subjects (--seed chooses\n"
        "the draws); the numbers of known and other facts are in every result. Norm convention: lens.\n"
        "\n"
        "  strata knockout \"The Colosseum is located in the city of\" --subject Colosseum --answer Rome\n"
        "  strata knockout -m gpt2 -i facts.jsonl --window 3 -o knockout\n"
        "\n"
        "Without --answer: the model's own top token. A folder gets knockout.h5 (format strata-knockout), "
        "knockout.csv\n"
        "(every fact), curves.csv (the means) and the figure knockout; for a single fact also the figure tokens, "
        "where\n"
        "each token alone is blocked. Where gnuplot is missing the pictures are missing too, a note says so, and the\n"
        "exit status is still 0.\n"
        "\n" SWEEP_HELP,
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

/* strata heads: what each head writes into the answer, what its weights hold, what happens without it. */
#include "analyses/cli/contrasts.h"
#include "analyses/cli/fact_options.h"
#include "analyses/cli/known_facts.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/cli/sweep.h"
#include "analyses/cli/text.h"
#include "analyses/report/heads_report.h"
#include "core/base/mem.h"
#include "core/base/ranges.h"

#include <stdlib.h>
#include <string.h>

static struct fact_options given;
static const char *against, *counts_text;
static bool all_facts, relation_map, every_head, no_ablation, no_patterns, no_plots;
static int rank_by, mode, at;
static size_t top = 10, draws = ABLATION_DRAWS;

static const char *const rank_names[] = {
#define X(id, name, words) name,
    HEADS_RANKINGS(X)
#undef X
        NULL
};
static const char *const mode_names[] = { "zero", "mean", NULL };
static const char *const at_names[] = { "last", "all", NULL };

static const struct option options[] = {
    FACT_OPTIONS(given),
    { .name = "all",
      .kind = OPTION_FLAG,
      .value = &all_facts,
      .help = "with -i: also facts whose answer is not on rank 1; they are left out otherwise" },
    AGAINST_OPTION(against),
    { .name = "top", .kind = OPTION_SIZE, .value = &top, .argument = "K", .least = 1, .help = "heads to list (10)" },
    { .name = "relation-map",
      .kind = OPTION_FLAG,
      .value = &relation_map,
      .help = "with -i: which relations' pairs are in the weights of which head" },
    { .name = "every-head",
      .kind = OPTION_FLAG,
      .value = &every_head,
      .help = "with -i: take out every head by itself (always done for a single prompt)" },
    { .name = "rank-by",
      .kind = OPTION_CHOICE,
      .value = &rank_by,
      .choices = rank_names,
      .help = "heads taken out first: those that add most, that hold most pairs, whose own loss costs most" },
    { .name = "counts",
      .kind = OPTION_TEXT,
      .value = &counts_text,
      .argument = "N,...",
      .help = "numbers of heads to take out (1,2,5,10,20,50 as far as half of the heads)" },
    { .name = "mode",
      .kind = OPTION_CHOICE,
      .value = &mode,
      .choices = mode_names,
      .help = "what a head's z becomes: zero, or its mean over the facts" },
    { .name = "at",
      .kind = OPTION_CHOICE,
      .value = &at,
      .choices = at_names,
      .help = "where heads are taken out: at the last token, or at all" },
    { .name = "draws",
      .kind = OPTION_SIZE,
      .value = &draws,
      .argument = "N",
      .least = 1,
      .most = 1000,
      .help = "draws of random heads, the control (5)" },
    { .name = "no-ablation", .kind = OPTION_FLAG, .value = &no_ablation, .help = "take no heads out" },
    { .name = "no-patterns", .kind = OPTION_FLAG, .value = &no_patterns, .help = "no scores on random tokens" },
    { .name = "no-plots", .kind = OPTION_FLAG, .value = &no_plots, .help = "numbers only: no figures in -o FOLDER" },
    OPTIONS_END,
};

struct job {
    struct cli *cli;
    struct session session;
    struct known_facts facts;
    struct heads_report report;
    struct contrasts contrasts;
    struct result result;
};

/* --- pairs of relations, of all facts that were given --- */

static struct heads_relation *relation_of(struct heads_report *r, size_t *capacity, const char *name)
{
    size_t *n = &r->n_relations;
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(r->relations[i].name, name))
            return &r->relations[i];
    char *copy = mem_strdup(name);
    if (!copy || !mem_grow(&r->relations, capacity, *n + 1, sizeof *r->relations)) {
        free(copy);
        return NULL;
    }
    r->relations[*n] = (struct heads_relation){ .name = copy };
    return &r->relations[(*n)++];
}

static bool add_pair(struct heads_relation *relation, struct token_pair pair)
{
    for (size_t i = 0; i < relation->n_pairs; i++)
        if (relation->pairs[i].subject == pair.subject && relation->pairs[i].object == pair.object)
            return true;
    if (!mem_grow(&relation->pairs, &relation->capacity, relation->n_pairs + 1, sizeof *relation->pairs))
        return false;
    relation->pairs[relation->n_pairs++] = pair;
    return true;
}

/* Every subject of the others to itself. */
static bool add_copying(struct heads_report *r, size_t *capacity)
{
    struct heads_relation *copying = relation_of(r, capacity, "(copying)");
    if (!copying)
        return false;
    copying->copying = true;
    for (size_t i = 0; i + 1 < r->n_relations; i++)
        for (size_t p = 0; p < r->relations[i].n_pairs; p++) {
            int32_t subject = r->relations[i].pairs[p].subject;
            if (!add_pair(copying, (struct token_pair){ subject, subject }))
                return false;
        }
    return true;
}

/* Relations without a single pair are left out and told. */
static void leave_out_empty(const struct job *job, struct heads_report *r)
{
    size_t kept = 0, n = r->n_relations;
    for (size_t i = 0; i < n; i++) {
        struct heads_relation relation = r->relations[i];
        if (!relation.n_pairs) {
            if (!relation.copying)
                cli_note(job->cli,
                         "relation %s: left out of the map: none of its %zu facts has a subject and an answer of "
                         "one token",
                         relation.name, relation.n_skipped);
            free(relation.name);
            continue;
        }
        r->relations[kept++] = relation;
    }
    r->n_relations = kept;
}

static int collect_pairs(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    size_t capacity = 0;
    bool room = true;
    for (size_t i = 0; room && i < job->facts.n_given; i++) {
        const struct prepared *p = &job->facts.items[i];
        struct token_pair pair;
        if (!*p->answer)
            continue;
        struct heads_relation *relation = relation_of(r, &capacity, *p->relation ? p->relation : "(none)");
        room = relation != NULL;
        if (room && head_map_pair(job->session.model, p->subject, p->answer, &pair))
            room = add_pair(relation, pair);
        else if (room)
            relation->n_skipped++;
    }
    if (room)
        room = add_copying(r, &capacity);
    leave_out_empty(job, r);
    return room ? 0 : err_nomem(err, "relations");
}

static int run_map(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    struct progress_bar bar;
    int rc = collect_pairs(job, err);
    size_t n = r->n_relations;
    if (rc)
        return rc;
    if (!n)
        return err_set(err, ERR_FORMAT, "%.300s: --relation-map: no fact has a subject and an answer of one token each",
                       job->cli->input);
    struct head_map_relation *relations = mem_array(n, sizeof *relations);
    if (!relations)
        return err_nomem(err, "relations");
    for (size_t i = 0; i < n; i++)
        relations[i] = (struct head_map_relation){ .name = r->relations[i].name,
                                                   .pairs = r->relations[i].pairs,
                                                   .n_pairs = r->relations[i].n_pairs,
                                                   .k = r->relations[i].copying ? HEAD_MAP_COPYING_K : HEAD_MAP_K };
    const struct head_map_options o = { .norms = HEAD_MAP_GAINS, .seed = job->cli->seed };
    rc = head_map_run(&r->map, job->session.runtime, relations, n, &o,
                      progress_bar_start(&bar, job->cli, "weights", "layers"), err);
    progress_bar_end(&bar);
    free(relations);
    return rc;
}

/* --- taking heads out --- */

static int choose_counts(struct job *job, struct err *err)
{
    static const size_t usual[] = { 1, 2, 5, 10, 20, 50 };
    struct heads_report *r = &job->report;
    size_t most = r->attribution.n_heads / 2, n = 0;
    struct range *ranges = NULL;
    if (counts_text) {
        int rc = ranges_parse(counts_text, strlen(counts_text), &ranges, &n, err);
        if (rc)
            return err_prefix(err, "--counts: ");
        for (size_t i = 0; !rc && i < n; i++)
            if (ranges[i].first != ranges[i].last || !ranges[i].first || ranges[i].first > most ||
                (i && ranges[i].first <= ranges[i - 1].first))
                rc = err_set(err, ERR_ARG,
                             "--counts %.100s: give rising numbers from 1 to %zu, half of the model's heads",
                             counts_text, most);
        if (rc) {
            free(ranges);
            return rc;
        }
    } else {
        while (n < sizeof usual / sizeof *usual && usual[n] <= most)
            n++;
    }
    r->counts = mem_array(n, sizeof *r->counts);
    for (size_t i = 0; r->counts && i < n; i++)
        r->counts[i] = ranges ? ranges[i].first : usual[i];
    r->n_counts = n;
    free(ranges);
    return r->counts ? 0 : err_nomem(err, "numbers of heads");
}

/* The ranking: heads by their mean share, by the pairs that they hold, or by what their own loss costs. */
static int choose_order(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    size_t n = r->attribution.n_heads;
    double *score = mem_array(n, sizeof *score);
    r->order = mem_array(n, sizeof *r->order);
    if (score && r->order && r->ranking == RANK_BY_MAP)
        heads_report_hubs(r, score);
    else if (score && r->order && r->ranking == RANK_BY_ATTRIBUTION)
        head_means(r->attribution.logit, job->facts.n, n, score);
    else if (score && r->order)
        heads_report_drops(r, score);
    for (size_t h = 0; score && r->order && h < n && r->ranking == RANK_BY_EFFECT; h++)
        score[h] = -score[h];
    int rc = score && r->order ? head_order(score, n, r->order, err) : err_nomem(err, "a ranking of heads");
    free(score);
    return rc;
}

static int run_ranked(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    struct progress_bar bar;
    int rc = choose_order(job, err);
    if (rc || !r->n_counts)
        return rc;
    const struct head_ranking ranking = {
        .order = r->order, .n_heads = r->attribution.n_heads, .counts = r->counts, .n_counts = r->n_counts
    };
    rc = head_ablation_ranked(&r->ranked, job->session.runtime, job->facts.prompts, job->facts.answers, job->facts.n,
                              &ranking, &r->ablation, progress_bar_start(&bar, job->cli, "ablation", "facts"), err);
    progress_bar_end(&bar);
    return rc;
}

static int run_singles(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    struct head_ablation_options o = r->ablation;
    struct progress_bar bar;
    o.everywhere = false;
    int rc = head_ablation_singles(&r->singles, job->session.runtime, job->facts.prompts, job->facts.answers,
                                   job->facts.n, &o, progress_bar_start(&bar, job->cli, "every head", "facts"), err);
    progress_bar_end(&bar);
    return rc;
}

/* --- all of it --- */

static int measure(struct job *job, struct err *err)
{
    struct heads_report *r = &job->report;
    struct progress_bar bar;
    const struct head_attribution_options o = { .by_source = job->facts.single };
    const struct head_patterns_options patterns = { .seed = job->cli->seed };
    int rc = head_attribution_run(&r->attribution, job->session.runtime, job->facts.prompts, job->contrasts.each,
                                  job->facts.n, &o, progress_bar_start(&bar, job->cli, "attribution", "facts"), err);
    progress_bar_end(&bar);
    if (!rc && !no_ablation)
        rc = choose_counts(job, err);
    if (!rc && !no_patterns)
        rc = head_patterns_run(&r->patterns, job->session.runtime, &patterns, err);
    if (!rc && relation_map)
        rc = run_map(job, err);
    if (!rc && !no_ablation && (every_head || job->facts.single || r->ranking == RANK_BY_EFFECT))
        rc = run_singles(job, err);
    if (!rc && !no_ablation)
        rc = run_ranked(job, err);
    return rc ? rc : heads_report_average(r, job->cli->seed, err);
}

/* --- set-up --- */

static int check(struct job *job, struct err *err)
{
    struct cli *cli = job->cli;
    int rc = cli_text_or_input(cli, "a prompt", err);
    rc = rc ? rc : sweep_check(cli, err);
    rc = rc ? rc : fact_options_check(&given, cli, err);
    rc = rc ? rc : result_choose(&job->result, &heads_result, cli, no_plots, err);
    if (!rc && !cli->input && (all_facts || relation_map || every_head))
        rc = cli_usage(cli, err, "--%s goes with -i: %s",
                       all_facts      ? "all"
                       : relation_map ? "relation-map"
                                      : "every-head",
                       all_facts      ? "a single fact is measured in any case"
                       : relation_map ? "a relation is many facts"
                                      : "of a single prompt every head is taken out in any case");
    if (!rc && rank_by == RANK_BY_MAP && !relation_map)
        rc = cli_usage(cli, err, "--rank-by map needs --relation-map");
    if (!rc && no_ablation && (every_head || counts_text || rank_by || mode || at))
        rc = cli_usage(cli, err, "--no-ablation: the other options are about taking heads out");
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
    job->report.ranking = (enum heads_ranking)rank_by;
    job->report.ablation = (struct head_ablation_options){
        .mode = mode ? ABLATION_MEAN : ABLATION_ZERO, .everywhere = at == 1, .n_draws = draws, .seed = job->cli->seed
    };
    if (mode && job->facts.n < 2)
        return err_set(err, ERR_ARG, "--mode mean: the mean of one fact is the fact itself: give more of them");
    return 0;
}

static void close_job(struct job *job)
{
    heads_report_release(&job->report);
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

const struct command command_heads = {
    .name = "heads",
    .arguments = "[-m MODEL] \"PROMPT\" [--subject TEXT] [--answer TEXT] | -i FACTS [-o FOLDER|.h5|.csv|.json]",
    .summary = "which heads write the answer, what their weights hold, and the answer without them",
    .details =
        "For each head, at the last token: what it adds to the answer's logit and how much of that it read from the\n"
        "subject (norm convention: attribution), how much it looks at the subject, what becomes of p(answer) without "
        "it,\n"
        "and its previous-token, duplicate-token and induction scores on random tokens that are repeated (4 prompts "
        "of\n"
        "100, --seed). With -i: means over the facts whose answer the model has on rank 1, with 95 % bootstrap bands\n"
        "over subjects. Then the first heads are taken out together, against as many random ones (5 draws).\n"
        "\n"
        "  strata heads \"The Colosseum is located in the city of\" --subject Colosseum --answer Rome\n"
        "  strata heads -i facts.jsonl --relation-map --rank-by map --against relation -o heads\n"
        "\n"
        "--relation-map reads weights only (MAPS; Elhelo and Geva 2024): for each relation of the file the share of\n"
        "pairs (subject, answer), each one token with its leading space, whose answer is among the 10 tokens that the\n"
        "head writes for MLP0(ln2(E_subject)), through ln1's and the final norm's gain; `suppress` is the same with "
        "the\n"
        "sign flipped, `control` with the relation's answers dealt out anew, `(copying)` the subject itself as top 1.\n"
        "A folder gets heads.h5 (format strata-heads), heads.csv, ablation.csv, relations.csv and figures.\n"
        "\n" SWEEP_HELP,
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_SEED | COMMON_RESUME,
    .options = options,
    .most_arguments = 1,
    .run = run,
};

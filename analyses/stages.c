#include "analyses/stages.h"

#include "analyses/cli/progress_bar.h"
#include "core/base/mem.h"
#include "probes/enrichment.h"
#include "probes/head_attribution.h"
#include "probes/knockout.h"
#include "probes/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a group: a few seconds of work, so that an interruption is soon heard. */
enum { GROUP_ROWS = 128 };
/* Of the published experiment, for the window and the draws of causal tracing. */
enum { CAUSAL_WINDOW = 10, CAUSAL_SAMPLES = 10, CAUSAL_SIGMAS = 3 };

/* --- attributes of subjects --- */

/* Answers and aliases of a fact file. */
static int read_attributes(struct attribute_sets *sets, const char *path, struct err *err)
{
    struct facts *facts;
    struct fact fact;
    int rc = facts_open(&facts, path, err);
    if (rc)
        return rc;
    while ((rc = facts_next(facts, &fact, err)) > 0) {
        rc = fact.subject && fact.answer ? attribute_sets_add(sets, fact.subject, fact.answer, err) : 0;
        for (size_t i = 0; !rc && fact.subject && i < fact.n_aliases; i++)
            rc = attribute_sets_add(sets, fact.subject, fact.aliases[i], err);
        if (rc)
            break;
    }
    facts_close(facts);
    return rc;
}

static size_t other_set(const struct attribute_sets *sets, size_t own, uint64_t seed, size_t fact)
{
    struct random_source random;
    random_seed(&random, seed * 0x2545f4914f6cdd1du + fact);
    return attribute_sets_other(sets, own, &random);
}

/* --- heads --- */

static int choose_heads(struct stages_report *r, const double *score, struct err *err)
{
    static const size_t usual[] = { 1, 5, 10, 20 };
    size_t n = r->stages.n_heads;
    r->order = mem_array(n, sizeof *r->order);
    if (!r->order)
        return err_nomem(err, "a ranking of heads");
    for (size_t i = 0; i < sizeof usual / sizeof *usual && usual[i] <= n / 4; i++)
        r->counts[r->n_counts++] = usual[i];
    return head_order(score, n, r->order, err);
}

/* The first heads of the ranking set to zero at the last token, against random ones. */
static int take_heads_out(struct stages_report *r, struct runtime *rt, const struct prompt *prompts,
                          struct progress *progress, struct err *err)
{
    const struct head_ranking ranking = {
        .order = r->order, .n_heads = r->stages.n_heads, .counts = r->counts, .n_counts = r->n_counts
    };
    const struct head_ablation_options o = { .mode = ABLATION_ZERO, .seed = r->seed };
    if (!r->n_counts)
        return 0;
    return head_ablation_ranked(&r->ranked, rt, prompts, r->stages.answers, r->stages.n_facts, &ranking, &o, progress,
                                err);
}

/* --- one fact --- */

static int skip(struct stages_report *r, enum stage_finding finding, const char *reason)
{
    r->skipped = reason;
    for (int i = 0; i < N_STAGES; i++)
        r->stage[i] = (struct stage){ .finding = finding, .reason = reason };
    return 0;
}

static int measure_one(struct stages_report *r, struct runtime *rt, const struct prompt *prompt,
                       const struct attribute_sets *sets, const char *subject, struct err *err)
{
    size_t own = sets ? attribute_sets_find(sets, subject) : SIZE_MAX, control = SIZE_MAX;
    if (sets)
        control = other_set(sets, own, r->seed, 0);
    const struct stages_input in = { .prompts = prompt,
                                     .answers = &r->answer,
                                     .n_facts = 1,
                                     .window = r->window,
                                     .sets = sets,
                                     .own = &own,
                                     .control = &control,
                                     .key_draws = STAGES_KEY_DRAWS,
                                     .seed = r->seed };
    r->n_attributes = own == SIZE_MAX ? 0 : sets->sets[own].n;
    int rc = stages_add(&r->stages, rt, &in, NULL, err);
    rc = rc ? rc : stages_random_subjects(&r->random, rt, prompt, r->answer, r->seed, err);
    if (rc)
        return rc;
    stages_judge_one(&r->stages, &r->random, r->stage);
    rc = choose_heads(r, r->stages.head_logit, err);
    return rc ? rc : take_heads_out(r, rt, prompt, NULL, err);
}

static int trace_causes(struct stages_report *r, const struct cli *cli, struct runtime *rt, const struct prompt *prompt,
                        struct err *err)
{
    struct subject_spread spread = { 0 };
    struct progress_bar bar;
    int rc = subject_spread_add(&spread, rt, prompt, 1, err);
    if (rc)
        return rc;
    r->causal_options = (struct causal_options){ .kinds = CAUSAL_ALL,
                                                 .n_samples = CAUSAL_SAMPLES,
                                                 .noise = CAUSAL_SIGMAS * subject_spread(&spread),
                                                 .seed = r->seed,
                                                 .window = CAUSAL_WINDOW };
    rc = causal_trace_run(&r->causal, rt, prompt, r->answer, &r->causal_options,
                          progress_bar_start(&bar, cli, "causal tracing", "runs"), err);
    progress_bar_end(&bar);
    r->has_causal = !rc;
    return rc;
}

int stages_one(struct stages_report *out, const struct cli *cli, const struct session *session,
               const struct prepared *fact, int32_t answer, int32_t rank, double prob, const struct stages_options *o,
               struct err *err)
{
    const struct prompt prompt = prepared_prompt(fact);
    struct attribute_sets sets = { 0 };
    *out = (struct stages_report){ .model = session->model,
                                   .window = o->window ? o->window : knockout_window(session->model->config.n_layers),
                                   .seed = cli->seed,
                                   .attributes = o->attributes,
                                   .single = true,
                                   .rank = rank,
                                   .answer = answer,
                                   .prob = prob,
                                   .fact = fact };
    stages_init(&out->stages, session->runtime);
    if (o->edited)
        return skip(out, STAGE_NOT_MEASURED, "the model is edited, and the stages are of the model as it is");
    if (rank != 1)
        return skip(out, STAGE_NOT_FOUND, "the model does not know this fact");
    if (fact->subject_begin == fact->subject_end)
        return skip(out, STAGE_NOT_MEASURED, "no --subject is given");
    int rc = 0;
    if (o->attributes) {
        rc = attribute_sets_init(&sets, session->model, err);
        rc = rc ? rc : read_attributes(&sets, o->attributes, err);
        if (!rc && *fact->answer)
            rc = attribute_sets_add(&sets, fact->subject, fact->answer, err);
    }
    rc = rc ? rc : measure_one(out, session->runtime, &prompt, o->attributes ? &sets : NULL, fact->subject, err);
    if (!rc && o->causal)
        rc = trace_causes(out, cli, session->runtime, &prompt, err);
    attribute_sets_release(&sets);
    return rc;
}

/* --- many facts --- */

struct job {
    struct cli *cli;
    struct runtime *rt;
    struct known_facts facts;
    struct attribute_sets sets;
    bool has_sets;
    size_t *own, *control; /* [facts.n] */
    struct stages_report report;
};

/* Those that the model knows and that have a subject stay. */
static void choose_facts(struct job *job)
{
    struct known_facts *k = &job->facts;
    size_t kept = 0;
    for (size_t i = 0; i < k->n; i++) {
        if (k->rank[i] != 1)
            continue;
        if (k->facts[i]->subject_begin == k->facts[i]->subject_end)
            job->report.n_without_subject++;
        else
            known_facts_move(k, i, kept++);
    }
    k->n = kept;
    k->all = false;
}

static int collect_attributes(struct job *job, const char *path, struct err *err)
{
    const struct known_facts *k = &job->facts;
    int rc = 0;
    job->own = mem_array(k->n, sizeof *job->own);
    job->control = mem_array(k->n, sizeof *job->control);
    if (!job->own || !job->control)
        return err_nomem(err, "attributes of subjects");
    job->has_sets = runtime_model(job->rt)->tokenizer != NULL;
    if (!job->has_sets)
        return 0;
    rc = attribute_sets_init(&job->sets, runtime_model(job->rt), err);
    if (!rc && path)
        rc = read_attributes(&job->sets, path, err);
    for (size_t i = 0; !rc && !path && i < k->n_given; i++)
        if (*k->items[i].subject && *k->items[i].answer)
            rc = attribute_sets_add(&job->sets, k->items[i].subject, k->items[i].answer, err);
    for (size_t i = 0; !rc && i < k->n; i++) {
        job->own[i] = attribute_sets_find(&job->sets, k->facts[i]->subject);
        job->control[i] = other_set(&job->sets, job->own[i], job->report.seed, i);
    }
    return rc;
}

/* Says nothing, but hears an interruption. */
static int listen(struct progress *self, uint64_t done, uint64_t total)
{
    (void)self, (void)done, (void)total;
    return cli_interrupted();
}

static int measure_groups(struct job *job, struct err *err)
{
    struct known_facts *k = &job->facts;
    struct progress_bar bar;
    struct progress *progress = progress_bar_start(&bar, job->cli, "stages", "facts");
    int rc = 0;
    for (size_t first = 0, n; !rc && !job->report.interrupted && first < k->n; first += n) {
        size_t rows = k->prompts[first].n_tokens;
        for (n = 1; first + n < k->n && rows + k->prompts[first + n].n_tokens <= GROUP_ROWS; n++)
            rows += k->prompts[first + n].n_tokens;
        const struct stages_input in = { .prompts = k->prompts + first,
                                         .answers = k->answers + first,
                                         .n_facts = n,
                                         .window = job->report.window,
                                         .sets = job->has_sets ? &job->sets : NULL,
                                         .own = job->own + first,
                                         .control = job->control + first,
                                         .seed = job->report.seed };
        struct progress listener = { .step = listen, .journal = job->cli->journal };
        rc = stages_add(&job->report.stages, job->rt, &in, &listener, err);
        if (!rc && progress_step(progress, first + n, k->n))
            job->report.interrupted = first + n < k->n;
        if (rc == ERR_INTERRUPTED && job->report.stages.n_facts) {
            job->report.interrupted = true;
            rc = 0;
        }
    }
    progress_bar_end(&bar);
    return rc;
}

static int average_heads(struct job *job, struct err *err)
{
    struct stages_report *r = &job->report;
    size_t n = r->stages.n_heads, n_clusters;
    uint32_t *clusters = mem_array(r->stages.n_facts, sizeof *clusters);
    r->head_mean = mem_array(n, 4 * sizeof *r->head_mean);
    int rc = clusters && r->head_mean ? 0 : err_nomem(err, "averages of heads");
    if (!rc) {
        r->head_low = r->head_mean + n;
        r->head_high = r->head_low + n;
        r->head_subject = r->head_high + n;
        head_means(r->stages.head_subject, r->stages.n_facts, n, r->head_subject);
        rc = statistics_clusters(r->subjects, r->stages.n_facts, clusters, &n_clusters, err);
    }
    if (!rc) {
        const struct bootstrap b = { .values = r->stages.head_logit,
                                     .n_rows = r->stages.n_facts,
                                     .n_series = n,
                                     .cluster = clusters,
                                     .n_clusters = n_clusters,
                                     .seed = r->seed };
        rc = bootstrap_means(&b, r->head_mean, r->head_low, r->head_high, err);
    }
    free(clusters);
    rc = rc ? rc : choose_heads(r, r->head_mean, err);
    return rc;
}

static int ablate_heads(struct job *job, struct err *err)
{
    struct progress_bar bar;
    if (job->report.interrupted)
        return 0;
    int rc = take_heads_out(&job->report, job->rt, job->facts.prompts,
                            progress_bar_start(&bar, job->cli, "heads taken out", "facts"), err);
    progress_bar_end(&bar);
    if (rc != ERR_INTERRUPTED)
        return rc;
    ablation_run_release(&job->report.ranked);
    job->report.interrupted = true;
    return 0;
}

/* --- by relation --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct stages_relation *)a)->name, ((const struct stages_relation *)b)->name);
}

static struct stages_relation *find_relation(struct stages_report *r, const char *name)
{
    struct stages_relation key = { .name = name };
    return bsearch(&key, r->relations, r->n_relations, sizeof key, by_name);
}

/* Every name once, in order. */
static int name_relations(struct job *job, struct err *err)
{
    struct stages_report *r = &job->report;
    const struct known_facts *k = &job->facts;
    size_t n = 0;
    r->relations = mem_zeroed(k->n_given, sizeof *r->relations);
    if (!r->relations)
        return err_nomem(err, "relations");
    for (size_t i = 0; i < k->n_given; i++)
        r->relations[i].name = k->items[i].relation;
    qsort(r->relations, k->n_given, sizeof *r->relations, by_name);
    for (size_t i = 0; i < k->n_given; i++)
        if (!n || strcmp(r->relations[n - 1].name, r->relations[i].name))
            r->relations[n++].name = r->relations[i].name;
    r->n_relations = n;
    return 0;
}

static int split_relations(struct job *job, struct err *err)
{
    struct stages_report *r = &job->report;
    const struct known_facts *k = &job->facts;
    int rc = name_relations(job, err);
    for (size_t i = 0; !rc && i < k->n_given; i++)
        find_relation(r, k->items[i].relation)->n_given +=
            k->items[i].answer_token >= 0 && k->items[i].subject_begin < k->items[i].subject_end;
    for (size_t i = 0; !rc && i < r->n_relations; i++)
        if (!(r->relations[i].facts = mem_array(r->relations[i].n_given, sizeof(size_t))))
            rc = err_nomem(err, "relations");
    for (size_t i = 0; !rc && i < r->stages.n_facts; i++) {
        struct stages_relation *relation = find_relation(r, k->facts[i]->relation);
        relation->facts[relation->n++] = i;
    }
    for (size_t i = 0; !rc && i < r->n_relations; i++) {
        struct stages_relation *relation = &r->relations[i];
        if (relation->n)
            rc = stages_summarise(&relation->summary, &r->stages, relation->facts, relation->n, r->subjects, r->seed,
                                  err);
    }
    return rc;
}

static int summarise(struct job *job, struct err *err)
{
    struct stages_report *r = &job->report;
    r->subjects = mem_array(r->stages.n_facts, sizeof *r->subjects);
    if (!r->subjects)
        return err_nomem(err, "subjects");
    for (size_t i = 0; i < r->stages.n_facts; i++)
        r->subjects[i] = job->facts.facts[i]->subject;
    int rc = stages_summarise(&r->all, &r->stages, NULL, r->stages.n_facts, r->subjects, r->seed, err);
    if (rc)
        return rc;
    memcpy(r->stage, r->all.stage, sizeof r->stage);
    rc = split_relations(job, err);
    rc = rc ? rc : average_heads(job, err);
    return rc ? rc : ablate_heads(job, err);
}

static int measure(struct job *job, const struct stages_options *o, struct err *err)
{
    const struct fact_options none = { 0 };
    struct known_facts *k = &job->facts;
    int rc = known_facts_read(k, job->cli, &none, job->rt, true, err);
    if (rc)
        return rc;
    choose_facts(job);
    if (!k->n)
        return skip(&job->report, job->report.n_without_subject ? STAGE_NOT_MEASURED : STAGE_NOT_FOUND,
                    job->report.n_without_subject ? "no known fact has a subject"
                                                  : "the model knows none of these facts");
    rc = collect_attributes(job, o->attributes, err);
    rc = rc ? rc : measure_groups(job, err);
    return rc ? rc : summarise(job, err);
}

static int write_all(struct job *job, const struct session *session, const struct result *result, struct err *err)
{
    const struct stages_report *r = &job->report;
    const struct provenance p = result_provenance(job->cli, session->model);
    int rc = result_write(result, r, &p, err);
    if (!rc && result->format == RESULT_FOLDER)
        rc = stages_report_page(r, job->cli->command_line, job->cli->output, !result->no_plots, err);
    return rc;
}

int stages_many(struct cli *cli, struct session *session, const struct stages_options *o, const struct result *result,
                struct err *err)
{
    struct job job = { .cli = cli, .rt = session->runtime };
    size_t n_layers = session->model->config.n_layers;
    job.report = (struct stages_report){ .model = session->model,
                                         .window = o->window ? o->window : knockout_window(n_layers),
                                         .seed = cli->seed,
                                         .attributes = o->attributes ? o->attributes : "the facts' own answers",
                                         .facts = &job.facts };
    stages_init(&job.report.stages, session->runtime);
    int rc = measure(&job, o, err);
    rc = rc ? rc : write_all(&job, session, result, err);
    if (!rc && job.report.interrupted)
        rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu facts: what was measured is written",
                     job.report.stages.n_facts, job.facts.n);
    stages_report_release(&job.report);
    attribute_sets_release(&job.sets);
    free(job.own);
    free(job.control);
    known_facts_release(&job.facts);
    return rc;
}

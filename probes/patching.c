#include "probes/patching.h"

#include "core/base/mem.h"
#include "core/runtime/replay.h"
#include "probes/logit_lens.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLEAN, CORRUPTED, N_RUNS };

struct work {
    struct runtime *rt;
    const struct patching_input *in;
    const struct model_config *config;
    struct prompt prompts[N_RUNS];
    size_t to, from;          /* runs: patched, and where the values are from */
    struct range *at, *taken; /* [tokens of the patched run] tokens that correspond to others, and those */
    size_t n_pairs, n_columns;
    struct range *heads; /* [n_columns] each by itself */
    struct edit *edits;  /* [n_layers, n_columns] */
    struct edit_list *lists;
    struct variant *variants; /* [n_variants]: cells that have something to patch */
    size_t *cells;            /* [n_variants] */
    size_t n_variants;
    struct site_set reads, sources;
    struct replay_plan plan;
    struct replay *replay;
};

/* --- which token corresponds to which --- */

static int wrong_length(const struct work *w, struct err *err)
{
    return err_set(err, ERR_ARG,
                   "the clean prompt has %zu tokens, the corrupted one %zu: positions do not correspond: make them "
                   "equally long, or align them at their subjects",
                   w->prompts[CLEAN].n_tokens, w->prompts[CORRUPTED].n_tokens);
}

static int check_alignment(const struct work *w, struct err *err)
{
    size_t after[N_RUNS];
    for (size_t i = 0; i < N_RUNS; i++) {
        const struct prompt *p = &w->prompts[i];
        if (p->subject_begin >= p->subject_end)
            return err_set(err, ERR_ARG, "prompts are aligned at their subjects, and the %s one has none",
                           i == CLEAN ? "clean" : "corrupted");
        after[i] = p->n_tokens - p->subject_end;
    }
    if (after[CLEAN] != after[CORRUPTED])
        return err_set(err, ERR_ARG,
                       "%zu tokens follow the clean subject, %zu the corrupted one: prompts must go on alike",
                       after[CLEAN], after[CORRUPTED]);
    return 0;
}

/* Token of the source run that corresponds, SIZE_MAX: none. */
static size_t counterpart(const struct work *w, size_t token)
{
    const struct prompt *to = &w->prompts[w->to], *from = &w->prompts[w->from];
    if (!w->in->align_subject)
        return token;
    if (token >= to->subject_end)
        return token - to->subject_end + from->subject_end;
    if (token < to->subject_begin)
        return token < from->subject_begin ? token : SIZE_MAX;
    size_t from_last = to->subject_end - token;
    return from_last <= from->subject_end - from->subject_begin ? from->subject_end - from_last : SIZE_MAX;
}

static int pair_tokens(struct work *w, struct err *err)
{
    const struct prompt *to = &w->prompts[w->to];
    size_t n = to->n_tokens;
    bool edges = site_row(w->in->site)->axes == AXES_EDGES;
    unsigned char *chosen = mem_array(n, 1);
    w->at = mem_array(n, sizeof *w->at);
    w->taken = mem_array(n, sizeof *w->taken);
    int rc = chosen && w->at && w->taken ? 0 : err_nomem(err, "patching");
    if (!rc && (edges || !w->in->align_subject) && w->prompts[CLEAN].n_tokens != w->prompts[CORRUPTED].n_tokens)
        rc = wrong_length(w, err);
    if (!rc && w->in->align_subject)
        rc = check_alignment(w, err);
    if (!rc && w->in->by == PATCH_BY_HEAD)
        rc = positions_resolve(&w->in->at, to, chosen, NULL, err);
    else if (!rc)
        memset(chosen, 1, n);
    for (size_t t = 0; !rc && t < n; t++) {
        size_t other = chosen[t] ? counterpart(w, t) : SIZE_MAX;
        if (other == SIZE_MAX)
            continue;
        w->at[w->n_pairs] = (struct range){ t, t };
        w->taken[w->n_pairs++] = (struct range){ other, other };
    }
    free(chosen);
    return rc;
}

/* --- variants --- */

static struct edit patch_of(struct work *w, size_t layer, size_t first_pair, size_t n_pairs)
{
    struct edit e = { .site = w->in->site,
                      .first_layer = layer,
                      .last_layer = layer,
                      .at = { .kind = POSITIONS_NUMBERS, .ranges = w->at + first_pair, .n_ranges = n_pairs },
                      .op = EDIT_SET,
                      .source = EDIT_FROM_RUN,
                      .run = w->from,
                      .from_site = w->in->site,
                      .from_layer = EDIT_SAME_LAYER,
                      .from_at = { .kind = POSITIONS_NUMBERS, .ranges = w->taken + first_pair, .n_ranges = n_pairs } };
    return e;
}

static void add_cell(struct work *w, size_t layer, size_t column, struct edit edit)
{
    size_t n = w->n_variants++;
    w->edits[n] = edit;
    w->lists[n] = (struct edit_list){ .edits = &w->edits[n], .n = 1 };
    w->variants[n] = (struct variant){ .run = w->to, .edits = &w->lists[n] };
    w->cells[n] = layer * w->n_columns + column;
}

static void plan_layer(struct work *w, size_t layer)
{
    if (w->in->by == PATCH_BY_POSITION) {
        for (size_t i = 0; i < w->n_pairs; i++)
            add_cell(w, layer, w->at[i].first, patch_of(w, layer, i, 1));
        return;
    }
    for (size_t h = 0; w->n_pairs && h < w->n_columns; h++) {
        struct edit e = patch_of(w, layer, 0, w->n_pairs);
        w->heads[h] = (struct range){ h, h };
        e.units = &w->heads[h];
        e.n_units = 1;
        add_cell(w, layer, h, e);
    }
}

static int plan_variants(struct work *w, struct err *err)
{
    const char *what;
    size_t units = site_units(w->in->site, w->config, &what), n_cells;
    const char *missing = site_missing(w->in->site, w->config);
    if (!site_row(w->in->site)->per_layer || !site_row(w->in->site)->editable || missing)
        return err_set(err, ERR_ARG, "%s cannot be patched layer by layer%s%s", site_row(w->in->site)->name,
                       missing ? ": " : "", missing ? missing : "");
    if (w->in->by == PATCH_BY_HEAD && (!units || !strstr(what, "head")))
        return err_set(err, ERR_ARG, "%s has no heads: patch it by position", site_row(w->in->site)->name);
    int rc = pair_tokens(w, err);
    if (rc)
        return rc;
    w->n_columns = w->in->by == PATCH_BY_HEAD ? units : w->prompts[w->to].n_tokens;
    if (!size_mul(w->n_columns, w->config->n_layers, &n_cells))
        return err_nomem(err, "patching");
    w->heads = mem_array(w->n_columns, sizeof *w->heads);
    w->edits = mem_array(n_cells, sizeof *w->edits);
    w->lists = mem_array(n_cells, sizeof *w->lists);
    w->variants = mem_array(n_cells, sizeof *w->variants);
    w->cells = mem_array(n_cells, sizeof *w->cells);
    if (!w->heads || !w->edits || !w->lists || !w->variants || !w->cells)
        return err_nomem(err, "patching");
    for (size_t l = 0; l < w->config->n_layers; l++)
        plan_layer(w, l);
    return 0;
}

static int open_replay(struct work *w, struct err *err)
{
    int rc = site_set_init(&w->reads, w->config, err);
    rc = rc ? rc : site_set_init(&w->sources, w->config, err);
    if (rc)
        return rc;
    site_set_add_one(&w->reads, (struct site_ref){ site_leaving_block(w->config), w->config->n_layers - 1 });
    for (size_t l = 0; l < w->config->n_layers; l++)
        site_set_add_one(&w->sources, (struct site_ref){ w->in->site, l });
    w->plan = (struct replay_plan){ .prompts = w->prompts,
                                    .n_prompts = N_RUNS,
                                    .sources = &w->sources,
                                    .reads = &w->reads,
                                    .wanted = { .kind = POSITIONS_LAST } };
    return replay_create(&w->replay, w->rt, &w->plan, err);
}

/* --- answers --- */

/* The lens of n final states, which it leaves alone. answer -1: none, top_k 1. */
static int lens_of(struct work *w, const void *states, size_t n, int32_t answer, struct lens_result *out,
                   struct err *err)
{
    size_t real = runtime_precision(w->rt) == PRECISION_F64 ? sizeof(double) : sizeof(float);
    size_t bytes = w->config->d_model * real, top_k = answer < 0;
    void *copy = mem_aligned(n, bytes);
    int32_t *answers = mem_array(n, sizeof *answers);
    int rc = copy && answers ? lens_result_create(out, n, 1, top_k, err) : err_nomem(err, "patching");
    if (!rc) {
        memcpy(copy, states, n * bytes);
        for (size_t i = 0; i < n; i++)
            answers[i] = answer;
        const struct lens_input in = { .states = copy, .n_rows = n, .n_states = 1, .answers = answers, .top_k = top_k };
        rc = logit_lens(w->rt, &in, out, err);
        if (rc)
            lens_result_release(out);
    }
    free(copy);
    free(answers);
    return rc;
}

static void *final_states(const struct work *w, const struct collector *rows)
{
    return collector_rows(rows, site_leaving_block(w->config), w->config->n_layers - 1);
}

/* Logit differences of n states, and p of the clean answer. */
static int measure(struct work *w, const struct patching *p, const void *states, size_t n, double *difference,
                   double *prob, struct err *err)
{
    struct lens_result clean, corrupted;
    int rc = lens_of(w, states, n, p->answers[CLEAN], &clean, err);
    if (rc)
        return rc;
    rc = lens_of(w, states, n, p->answers[CORRUPTED], &corrupted, err);
    for (size_t i = 0; !rc && i < n; i++) {
        difference[i] = (double)clean.answer_logit[i] - (double)corrupted.answer_logit[i];
        prob[i] = exp((double)clean.logprob[i]);
    }
    if (!rc)
        lens_result_release(&corrupted);
    lens_result_release(&clean);
    return rc;
}

static int find_answers(struct work *w, struct patching *p, struct err *err)
{
    const struct patch_side *sides[N_RUNS] = { &w->in->clean, &w->in->corrupted };
    struct lens_result top;
    int rc = lens_of(w, final_states(w, replay_base_reads(w->replay)), N_RUNS, -1, &top, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < N_RUNS; i++)
        p->answers[i] = sides[i]->answer < 0 ? top.top_token[i] : sides[i]->answer;
    lens_result_release(&top);
    if (p->answers[CLEAN] == p->answers[CORRUPTED])
        return err_set(err, ERR_ARG, "both answers are token %d: there is no logit difference: give two",
                       (int)p->answers[CLEAN]);
    return 0;
}

static int measure_base(struct work *w, struct patching *p, struct err *err)
{
    double difference[N_RUNS], prob[N_RUNS];
    int rc = find_answers(w, p, err);
    rc = rc ? rc : measure(w, p, final_states(w, replay_base_reads(w->replay)), N_RUNS, difference, prob, err);
    if (rc)
        return rc;
    p->clean = difference[CLEAN];
    p->corrupted = difference[CORRUPTED];
    p->clean_prob = prob[CLEAN];
    p->corrupted_prob = prob[CORRUPTED];
    if (!(fabs(p->clean - p->corrupted) > 1e-4))
        return err_set(err, ERR_ARG, "both prompts give the logit difference %.4g: there is nothing to normalise by",
                       p->clean);
    return 0;
}

/* Final states of all variants to difference and prob [n_variants]. */
static int replay_variants(struct work *w, const struct patching *p, double *difference, double *prob,
                           struct progress *progress, struct err *err)
{
    struct collector rows;
    int rc = collector_init(&rows, &w->reads, runtime_precision(w->rt), err);
    if (rc)
        return rc;
    rc = replay_collect(w->replay, w->variants, w->n_variants, &rows, progress, err);
    rc = rc ? rc : measure(w, p, final_states(w, &rows), w->n_variants, difference, prob, err);
    collector_release(&rows);
    return rc;
}

static int run_variants(struct work *w, struct patching *p, struct progress *progress, struct err *err)
{
    double *difference = mem_array(w->n_variants, sizeof *difference), *prob = mem_array(w->n_variants, sizeof *prob);
    int rc = difference && prob ? 0 : err_nomem(err, "patching");
    if (!rc && w->n_variants)
        rc = replay_variants(w, p, difference, prob, progress, err);
    for (size_t i = 0; !rc && i < w->n_variants; i++) {
        size_t cell = w->cells[i];
        p->difference[cell] = difference[i];
        p->prob[cell] = prob[i];
        p->normalised[cell] = (difference[i] - p->corrupted) / (p->clean - p->corrupted);
    }
    free(difference);
    free(prob);
    return rc;
}

static int make_result(const struct work *w, struct patching *p, struct err *err)
{
    size_t n = w->config->n_layers * w->n_columns;
    p->n_layers = w->config->n_layers;
    p->n_columns = w->n_columns;
    p->difference = mem_array(n, sizeof *p->difference);
    p->normalised = mem_array(n, sizeof *p->normalised);
    p->prob = mem_array(n, sizeof *p->prob);
    if (!p->difference || !p->normalised || !p->prob)
        return err_nomem(err, "patching");
    for (size_t i = 0; i < n; i++)
        p->difference[i] = p->normalised[i] = p->prob[i] = NAN;
    return 0;
}

static void release_work(struct work *w)
{
    replay_free(w->replay);
    site_set_release(&w->reads);
    site_set_release(&w->sources);
    free(w->at);
    free(w->taken);
    free(w->heads);
    free(w->edits);
    free(w->lists);
    free(w->variants);
    free(w->cells);
}

int patching_run(struct patching *p, struct runtime *rt, const struct patching_input *in, struct progress *progress,
                 struct err *err)
{
    bool denoise = in->direction == PATCH_DENOISE;
    struct work w = { .rt = rt,
                      .in = in,
                      .config = &runtime_model(rt)->config,
                      .prompts = { in->clean.prompt, in->corrupted.prompt },
                      .to = denoise ? CORRUPTED : CLEAN,
                      .from = denoise ? CLEAN : CORRUPTED };
    *p = (struct patching){ 0 };
    int rc = plan_variants(&w, err);
    rc = rc ? rc : open_replay(&w, err);
    rc = rc ? rc : make_result(&w, p, err);
    rc = rc ? rc : measure_base(&w, p, err);
    rc = rc ? rc : run_variants(&w, p, progress, err);
    release_work(&w);
    if (rc)
        patching_release(p);
    return rc;
}

void patching_release(struct patching *p)
{
    free(p->difference);
    free(p->normalised);
    free(p->prob);
    *p = (struct patching){ 0 };
}

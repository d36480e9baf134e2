#include "probes/causal_trace.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "probes/outcomes.h"
#include "probes/windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct kind {
    const char *name;
    enum site restored, frozen; /* frozen: N_SITES, none */
} kinds[N_CAUSAL_KINDS] = {
    [CAUSAL_STATE] = { "state", SITE_RESID_POST, N_SITES },
    [CAUSAL_MLP] = { "mlp", SITE_MLP_OUT, N_SITES },
    [CAUSAL_ATTN] = { "attn", SITE_ATTN_OUT, N_SITES },
    [CAUSAL_SEVERED_MLP] = { "severed_mlp", SITE_RESID_POST, SITE_MLP_OUT },
    [CAUSAL_SEVERED_ATTN] = { "severed_attn", SITE_RESID_POST, SITE_ATTN_OUT },
};

/* Run 0 of the replay is the clean one, the others are the corrupted ones of a group of draws. */
enum { CLEAN_RUN = 0, FIRST_CORRUPTED = 1 };
/* Variants whose final states are held at a time. */
enum { MOST_VARIANTS = 32768 };
#define MEMORY ((size_t)1 << 30) /* of base runs */

const char *causal_kind_name(enum causal_kind kind)
{
    return kinds[kind].name;
}

const char *causal_role_name(enum causal_role role)
{
    static const char *const names[] = {
#define X(id, name) name,
        CAUSAL_ROLES(X)
#undef X
    };
    return names[role];
}

enum causal_role causal_role_of(size_t token, size_t n_read, size_t begin, size_t end)
{
    if (token + 1 == n_read)
        return CAUSAL_ROLE_LAST;
    if (token + 1 == end)
        return CAUSAL_ROLE_SUBJECT_LAST;
    if (token == begin)
        return CAUSAL_ROLE_SUBJECT_FIRST;
    if (token < begin)
        return CAUSAL_ROLE_BEFORE;
    return token < end ? CAUSAL_ROLE_SUBJECT_MIDDLE : token == end ? CAUSAL_ROLE_AFTER : CAUSAL_ROLE_FURTHER;
}

static bool wants(const struct causal_options *o, enum causal_kind kind)
{
    return o->kinds >> kind & 1;
}

static size_t n_cells(const struct causal_options *o, enum causal_kind kind, size_t n_tokens, size_t n_layers)
{
    return !wants(o, kind) ? 0 : causal_is_grid(kind) ? n_tokens * n_layers : n_layers;
}

static size_t n_all_cells(const struct causal_options *o, size_t n_tokens, size_t n_layers)
{
    size_t n = 0;
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        n += n_cells(o, k, n_tokens, n_layers);
    return n;
}

size_t causal_trace_variants(const struct causal_options *o, size_t n_tokens, size_t n_layers)
{
    return n_all_cells(o, n_tokens, n_layers) * o->n_samples;
}

/* --- what one fact needs; lists and edits point into blocks of it --- */

struct work {
    const struct causal_options *o;
    const struct prompt *prompt;
    size_t n_tokens, n_layers, n_cells;
    size_t first_draw, n_draws; /* of the group at hand; n_draws: at first the most */
    struct site_set sources;
    struct prompt *prompts;        /* [1 + n_draws] the same one */
    int32_t *answers;              /* [1 + n_draws] */
    struct edit *noise;            /* [n_draws] */
    struct edit_list *noise_lists; /* [n_draws] */
    const struct edit_list **base; /* [1 + n_draws] */
    struct range *tokens;          /* [n_tokens] each token by itself */
    struct edit *edits;            /* [2 * n_cells] */
    struct edit_list *lists;       /* [n_cells] what restores one cell, the same in every corrupted run */
    double **targets;              /* [n_cells] where its p goes */
    struct variant *variants;      /* [at most MOST_VARIANTS + n_draws] */
    struct outcomes outcomes;
};

static int choose_sources(struct work *w, const struct model_config *c, struct err *err)
{
    int rc = site_set_init(&w->sources, c, err);
    for (enum causal_kind k = 0; !rc && k < N_CAUSAL_KINDS; k++)
        for (size_t l = 0; wants(w->o, k) && l < c->n_layers; l++) {
            site_set_add_one(&w->sources, (struct site_ref){ kinds[k].restored, l });
            if (kinds[k].frozen != N_SITES)
                site_set_add_one(&w->sources, (struct site_ref){ kinds[k].frozen, l });
        }
    return rc;
}

/* Draws whose base runs are held at a time. */
static size_t most_draws(const struct work *w, const struct runtime *rt)
{
    size_t one = replay_memory(&runtime_model(rt)->config, runtime_precision(rt), w->n_tokens, &w->sources);
    size_t runs = (w->o->memory ? w->o->memory : MEMORY) / one, most = runs > 1 ? runs - 1 : 1;
    return most < w->o->n_samples ? most : w->o->n_samples;
}

static int make_room(struct work *w, struct err *err)
{
    size_t n_runs = FIRST_CORRUPTED + w->n_draws;
    w->prompts = mem_array(n_runs, sizeof *w->prompts);
    w->answers = mem_array(n_runs, sizeof *w->answers);
    w->noise = mem_zeroed(w->n_draws, sizeof *w->noise);
    w->noise_lists = mem_array(w->n_draws, sizeof *w->noise_lists);
    w->base = mem_zeroed(n_runs, sizeof *w->base);
    w->tokens = mem_array(w->n_tokens, sizeof *w->tokens);
    w->edits = mem_zeroed(w->n_cells, 2 * sizeof *w->edits);
    w->lists = mem_array(w->n_cells, sizeof *w->lists);
    w->targets = mem_array(w->n_cells, sizeof *w->targets);
    w->variants = mem_array(MOST_VARIANTS + w->n_draws, sizeof *w->variants);
    bool room = w->prompts && w->answers && w->noise && w->noise_lists && w->base && w->tokens && w->edits &&
                w->lists && w->targets && w->variants;
    return room ? 0 : err_nomem(err, "causal tracing");
}

static void release_work(struct work *w)
{
    outcomes_release(&w->outcomes);
    site_set_release(&w->sources);
    free(w->prompts);
    free(w->answers);
    free(w->noise);
    free(w->noise_lists);
    free(w->base);
    free(w->tokens);
    free(w->edits);
    free(w->lists);
    free(w->targets);
    free(w->variants);
}

static void plan_runs(struct work *w, int32_t answer)
{
    for (size_t i = 0; i < FIRST_CORRUPTED + w->n_draws; i++) {
        w->prompts[i] = *w->prompt;
        w->answers[i] = answer;
    }
    for (size_t s = 0; s < w->n_draws; s++) {
        w->noise[s] = (struct edit){ .site = SITE_EMBED,
                                     .at = { .kind = POSITIONS_SUBJECT },
                                     .op = EDIT_ADD,
                                     .source = EDIT_FROM_NOISE,
                                     .value = w->o->noise,
                                     .seed = w->o->seed * 1000003u + w->first_draw + s };
        w->noise_lists[s] = (struct edit_list){ .edits = &w->noise[s], .n = 1 };
        w->base[FIRST_CORRUPTED + s] = &w->noise_lists[s];
    }
    for (size_t t = 0; t < w->n_tokens; t++)
        w->tokens[t] = (struct range){ t, t };
}

/* A site of one token in layers first..last becomes what it was in a run; EDIT_OWN_RUN: in the corrupted one. */
static struct edit restoration(struct work *w, enum site site, size_t first, size_t last, size_t token, size_t run)
{
    return (struct edit){ .site = site,
                          .first_layer = first,
                          .last_layer = last,
                          .at = { .kind = POSITIONS_NUMBERS, .ranges = &w->tokens[token], .n_ranges = 1 },
                          .op = EDIT_SET,
                          .source = EDIT_FROM_RUN,
                          .run = run,
                          .from_site = site,
                          .from_layer = EDIT_SAME_LAYER,
                          .from_same = true };
}

static void plan_cell(struct work *w, enum causal_kind kind, size_t layer, size_t token, double *target)
{
    size_t n = w->n_cells++, window = kinds[kind].restored == SITE_RESID_POST ? 1 : w->o->window;
    struct layer_window layers = window_around(layer, window, w->n_layers);
    struct edit *edits = &w->edits[2 * n];
    bool freezes = kinds[kind].frozen != N_SITES && layer + 1 < w->n_layers;
    edits[0] = restoration(w, kinds[kind].restored, layers.begin, layers.end - 1, token, CLEAN_RUN);
    if (freezes)
        edits[1] = restoration(w, kinds[kind].frozen, layer + 1, w->n_layers - 1, token, EDIT_OWN_RUN);
    w->lists[n] = (struct edit_list){ .edits = edits, .n = freezes ? 2 : 1 };
    w->targets[n] = target;
}

/* Layer by layer, so that variants that begin at the same depth stand beside each other and fill their products. */
static void plan_cells(struct work *w, struct causal_trace *out)
{
    w->n_cells = 0;
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++)
        for (size_t l = 0; wants(w->o, k) && l < w->n_layers; l++) {
            if (!causal_is_grid(k))
                plan_cell(w, k, l, w->prompt->subject_end - 1, &out->p[k][l]);
            for (size_t t = 0; causal_is_grid(k) && t < w->n_tokens; t++)
                plan_cell(w, k, l, t, &out->p[k][t * w->n_layers + l]);
        }
}

/* --- running --- */

/* Cells [first, first + n) over the draws of the group, added to their targets. */
static int run_cells(struct work *w, size_t first, size_t n, struct progress *progress, struct err *err)
{
    size_t draws = w->n_draws;
    struct lens_result r;
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < draws; s++)
            w->variants[i * draws + s] = (struct variant){ .run = FIRST_CORRUPTED + s, .edits = &w->lists[first + i] };
    int rc = outcomes_run(&w->outcomes, w->variants, n * draws, &r, progress, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n * draws; i++)
        *w->targets[first + i / draws] += exp((double)r.logprob[i]);
    lens_result_release(&r);
    return 0;
}

static void take_base(const struct work *w, struct causal_trace *out)
{
    const struct lens_result *base = &w->outcomes.base;
    out->clean = exp((double)base->logprob[CLEAN_RUN]);
    out->clean_rank = base->rank[CLEAN_RUN];
    for (size_t s = 0; s < w->n_draws; s++)
        out->samples[w->first_draw + s] = exp((double)base->logprob[FIRST_CORRUPTED + s]);
}

static int run_group(struct work *w, struct runtime *rt, struct causal_trace *out, struct progress *progress,
                     struct err *err)
{
    int rc = outcomes_create(&w->outcomes, rt, w->prompts, FIRST_CORRUPTED + w->n_draws, w->answers, w->base,
                             &w->sources, err);
    if (rc)
        return rc;
    take_base(w, out);
    size_t most = MOST_VARIANTS / w->n_draws + 1;
    struct progress_part part = progress_part(progress, 0, w->n_cells * w->o->n_samples);
    for (size_t first = 0, n; !rc && first < w->n_cells; first += n) {
        n = w->n_cells - first < most ? w->n_cells - first : most;
        part.before = w->n_cells * w->first_draw + first * w->n_draws;
        rc = run_cells(w, first, n, &part.progress, err);
        out->row_layers += replay_row_layers(w->outcomes.replay);
    }
    outcomes_release(&w->outcomes);
    return rc;
}

/* Sums over draws, in their order, become means. */
static void average(const struct work *w, struct causal_trace *out)
{
    double n = (double)w->o->n_samples;
    for (size_t s = 0; s < w->o->n_samples; s++)
        out->corrupted += out->samples[s];
    out->corrupted /= n;
    for (size_t i = 0; i < w->n_cells; i++)
        *w->targets[i] /= n;
}

static int run_all(struct work *w, struct runtime *rt, int32_t answer, struct causal_trace *out,
                   struct progress *progress, struct err *err)
{
    size_t most = w->n_draws, n = w->o->n_samples;
    int rc = 0;
    for (w->first_draw = 0; !rc && w->first_draw < n; w->first_draw += w->n_draws) {
        w->n_draws = n - w->first_draw < most ? n - w->first_draw : most;
        plan_runs(w, answer);
        rc = run_group(w, rt, out, progress, err);
    }
    if (!rc)
        average(w, out);
    return rc;
}

int causal_trace_make(struct causal_trace *out, const struct causal_options *o, size_t n_tokens, size_t n_layers,
                      struct err *err)
{
    size_t n = n_all_cells(o, n_tokens, n_layers);
    *out = (struct causal_trace){ .n_tokens = n_tokens, .n_layers = n_layers };
    out->memory = mem_zeroed(n + o->n_samples, sizeof *out->memory);
    if (!out->memory)
        return err_nomem(err, "causal tracing");
    out->samples = out->memory;
    double *at = out->samples + o->n_samples;
    for (enum causal_kind k = 0; k < N_CAUSAL_KINDS; k++) {
        out->p[k] = wants(o, k) ? at : NULL;
        at += n_cells(o, k, n_tokens, n_layers);
    }
    return 0;
}

static int check(const struct prompt *prompt, int32_t answer, const struct causal_options *o, struct err *err)
{
    const char *name = prompt->name ? prompt->name : "?";
    if (prompt->subject_begin >= prompt->subject_end || prompt->subject_end > prompt->n_tokens)
        return err_set(err, ERR_ARG, "prompt %s: causal tracing corrupts the subject, and none is given", name);
    if (answer < 0)
        return err_set(err, ERR_ARG, "prompt %s: causal tracing needs an answer", name);
    if (!o->n_samples || !o->window || !(o->noise >= 0 && isfinite(o->noise)))
        return err_set(err, ERR_ARG, "causal tracing needs a sample, a window of a layer and a noise of at least 0");
    return 0;
}

int causal_trace_run(struct causal_trace *out, struct runtime *rt, const struct prompt *prompt, int32_t answer,
                     const struct causal_options *o, struct progress *progress, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct work w = { .o = o, .prompt = prompt, .n_tokens = prompt->n_tokens, .n_layers = c->n_layers };
    *out = (struct causal_trace){ 0 };
    int rc = check(prompt, answer, o, err);
    rc = rc ? rc : causal_trace_make(out, o, prompt->n_tokens, c->n_layers, err);
    if (rc)
        return rc;
    w.n_cells = n_all_cells(o, w.n_tokens, w.n_layers);
    rc = choose_sources(&w, c, err);
    if (!rc) {
        w.n_draws = most_draws(&w, rt);
        rc = make_room(&w, err);
    }
    if (!rc) {
        plan_cells(&w, out);
        rc = run_all(&w, rt, answer, out, progress, err);
    }
    release_work(&w);
    if (rc)
        causal_trace_release(out);
    return rc;
}

void causal_trace_release(struct causal_trace *t)
{
    free(t->memory);
    *t = (struct causal_trace){ 0 };
}

/* --- spread of subject embeddings --- */

struct spread_sink {
    struct sink sink; /* first */
    struct subject_spread *spread;
    const unsigned char *subject; /* [rows] */
};

static int take_embeddings(struct sink *self, const struct site_view *v, struct err *err)
{
    struct spread_sink *s = (struct spread_sink *)(void *)self;
    (void)err;
    for (size_t r = 0; r < v->n_rows; r++)
        for (size_t i = 0; s->subject[v->rows ? v->rows[r] : v->first_row + r] && i < v->row_size; i++) {
            double x = site_view_at(v, r * v->row_size + i), from_mean = x - s->spread->mean;
            s->spread->mean += from_mean / (double)++s->spread->n;
            s->spread->squares += from_mean * (x - s->spread->mean);
        }
    return 0;
}

int subject_spread_add(struct subject_spread *s, struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                       struct err *err)
{
    struct site_set reads;
    size_t n_rows = 0;
    for (size_t i = 0; i < n_prompts; i++)
        n_rows += prompts[i].n_tokens;
    unsigned char *subject = mem_zeroed(n_rows, 1);
    int rc = site_set_init(&reads, &runtime_model(rt)->config, err);
    if (!rc && !subject)
        rc = err_nomem(err, "subjects");
    if (!rc) {
        for (size_t i = 0, row = 0; i < n_prompts; row += prompts[i++].n_tokens)
            memset(subject + row + prompts[i].subject_begin, 1, prompts[i].subject_end - prompts[i].subject_begin);
        site_set_add_one(&reads, (struct site_ref){ SITE_EMBED, 0 });
        struct spread_sink sink = { .sink = { take_embeddings }, .spread = s, .subject = subject };
        const struct forward f = { .prompts = prompts, .n_prompts = n_prompts, .reads = &reads, .sink = &sink.sink };
        rc = runtime_forward(rt, &f, err);
    }
    site_set_release(&reads);
    free(subject);
    return rc;
}

double subject_spread(const struct subject_spread *s)
{
    return s->n > 1 ? sqrt(s->squares / (double)(s->n - 1)) : NAN;
}

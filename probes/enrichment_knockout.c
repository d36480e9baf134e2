/* What removing sublayers does to the attributes rate; and the mean outputs of sublayers. */
#include "core/base/mem.h"
#include "core/runtime/replay.h"
#include "probes/enrichment_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *enrichment_mode_name(enum enrichment_mode mode)
{
    static const char *const names[] = {
#define X(id, name) name,
        ENRICHMENT_MODES(X)
#undef X
    };
    return names[mode];
}

size_t enrichment_measured_layer(size_t n_layers)
{
    return n_layers * 40 / 48;
}

size_t enrichment_window(size_t n_layers)
{
    size_t nearest = (n_layers * 11 + 24) / 48;
    return nearest ? nearest : 1;
}

/* --- variants: the base run of each fact, then both sublayers of every window --- */

struct plan {
    struct variant *variants;
    struct edit_list *lists;
    struct edit *edits;
    size_t n, per_fact;
};

static void release_plan(struct plan *p)
{
    free(p->variants);
    free(p->lists);
    free(p->edits);
}

static struct edit remove_sublayer(const struct enrichment_knockout_input *in, enum enrichment_sublayer part,
                                   struct layer_window w, size_t d)
{
    struct edit e = { .first_layer = w.begin,
                      .last_layer = w.end - 1,
                      .at = { .kind = in->subject_only ? POSITIONS_SUBJECT : POSITIONS_ALL },
                      .site = part == ENRICHMENT_ATTN ? SITE_ATTN_OUT : SITE_MLP_OUT,
                      .op = EDIT_ZERO };
    if (in->mode == ENRICHMENT_UNIFORM) {
        e.site = part == ENRICHMENT_ATTN ? SITE_SCORES : SITE_MLP_POST;
        e.op = part == ENRICHMENT_ATTN ? EDIT_UNIFORM : EDIT_ZERO;
    } else if (in->mode == ENRICHMENT_MEAN) {
        e.op = EDIT_SET;
        e.source = EDIT_FROM_VECTOR;
        e.vector = (float *)in->means[part] + w.begin * d; /* borrowed: these lists are never released as such */
        e.n_vectors = w.end - w.begin;
    }
    return e;
}

static void add_variant(struct plan *p, size_t fact, const struct edit *edit)
{
    struct edit_list *list = &p->lists[p->n];
    *list = (struct edit_list){ .edits = &p->edits[p->n], .n = edit != NULL, .capacity = 1 };
    if (edit)
        p->edits[p->n] = *edit;
    p->variants[p->n++] = (struct variant){ .run = fact, .edits = list };
}

static int make_plan(struct plan *p, const struct enrichment_knockout *k, const struct enrichment_knockout_input *in,
                     size_t d, struct err *err)
{
    size_t n;
    *p = (struct plan){ .per_fact = 1 + ENRICHMENT_SUBLAYERS * k->n_layers };
    if (!size_mul(k->n_facts, p->per_fact, &n))
        return err_nomem(err, "variants");
    p->variants = mem_array(n, sizeof *p->variants);
    p->lists = mem_array(n, sizeof *p->lists);
    p->edits = mem_array(n, sizeof *p->edits);
    if (!p->variants || !p->lists || !p->edits)
        return err_nomem(err, "variants");
    for (size_t i = 0; i < k->n_facts; i++) {
        add_variant(p, i, NULL);
        for (size_t part = 0; part < ENRICHMENT_SUBLAYERS; part++)
            for (size_t l = 0; l < k->n_layers; l++) {
                struct layer_window w = window_above(l, k->window, k->measured);
                struct edit e = remove_sublayer(in, (enum enrichment_sublayer)part, w, d);
                add_variant(p, i, w.begin < w.end ? &e : NULL);
            }
    }
    return 0;
}

/* --- the run --- */

/* Fact by fact, so that the top tokens of all variants are never held at once. */
static int score_rows(struct enrichment_knockout *k, struct runtime *rt, const struct enrichment_knockout_input *in,
                      const struct plan *p, char *states, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    size_t bytes = c->d_model * (runtime_precision(rt) == PRECISION_F64 ? sizeof(double) : sizeof(float));
    size_t n_top = enrichment_top(rt), per_fact = p->per_fact;
    unsigned char *filter = enrichment_filter(runtime_model(rt));
    int rc = filter ? 0 : err_nomem(err, "enrichment");
    for (size_t i = 0; !rc && i < k->n_facts; i++) {
        const struct attribute_set *set = enrichment_set(in->facts.sets, in->facts.own[i]);
        struct lens_result r;
        rc = enrichment_project(rt, states + i * per_fact * bytes, 1, per_fact, NULL, in->facts.norm, &r, err);
        if (rc)
            break;
        enrichment_score(set, filter, r.top_token, n_top, &k->base_rate[i], &k->base_recall[i]);
        for (size_t v = 1; v < per_fact; v++) {
            size_t at = i * (per_fact - 1) + v - 1;
            enrichment_score(set, filter, r.top_token + v * n_top, n_top, &k->rate[at], &k->recall[at]);
        }
        lens_result_release(&r);
    }
    free(filter);
    return rc;
}

static int run_variants(struct enrichment_knockout *k, struct runtime *rt, const struct enrichment_knockout_input *in,
                        const struct plan *p, struct progress *progress, struct err *err)
{
    struct site_set reads;
    struct replay *replay;
    struct collector rows = { 0 };
    const struct model_config *c = &runtime_model(rt)->config;
    int rc = site_set_init(&reads, c, err);
    if (rc)
        return rc;
    site_set_add_one(&reads, (struct site_ref){ site_leaving_block(c), k->measured });
    const struct replay_plan plan = { .prompts = in->facts.prompts,
                                      .n_prompts = k->n_facts,
                                      .reads = &reads,
                                      .wanted = { .kind = POSITIONS_SUBJECT_LAST } };
    rc = collector_init(&rows, &reads, runtime_precision(rt), err);
    if (!rc && !(rc = replay_create(&replay, rt, &plan, err))) {
        rc = replay_collect(replay, p->variants, p->n, &rows, progress, err);
        k->row_layers = replay_row_layers(replay);
        rc = rc ? rc : score_rows(k, rt, in, p, collector_rows(&rows, site_leaving_block(c), k->measured), err);
        replay_free(replay);
    }
    if (rows.reads)
        collector_release(&rows);
    site_set_release(&reads);
    return rc;
}

static int make_room(struct enrichment_knockout *k, struct err *err)
{
    size_t n;
    if (!size_mul(k->n_facts, ENRICHMENT_SUBLAYERS * k->n_layers, &n))
        return err_nomem(err, "enrichment");
    k->base_rate = mem_array(k->n_facts, sizeof *k->base_rate);
    k->base_recall = mem_array(k->n_facts, sizeof *k->base_recall);
    k->rate = mem_array(n, sizeof *k->rate);
    k->recall = mem_array(n, sizeof *k->recall);
    return k->base_rate && k->base_recall && k->rate && k->recall ? 0 : err_nomem(err, "enrichment");
}

int enrichment_knockout_run(struct enrichment_knockout *k, struct runtime *rt,
                            const struct enrichment_knockout_input *in, struct progress *progress, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct plan plan = { 0 };
    *k = (struct enrichment_knockout){
        .n_facts = in->facts.n_facts, .n_layers = in->measured, .measured = in->measured, .window = in->window
    };
    if (in->measured >= c->n_layers)
        return err_set(err, ERR_ARG, "enrichment after layer %zu: the model has layers 0 to %zu", in->measured,
                       c->n_layers - 1);
    if (in->mode == ENRICHMENT_MEAN && (!in->means[ENRICHMENT_ATTN] || !in->means[ENRICHMENT_MLP]))
        return err_set(err, ERR_ARG, "enrichment with mode mean: the mean outputs are missing");
    int rc = enrichment_check(&in->facts, err);
    rc = rc ? rc : make_room(k, err);
    rc = rc ? rc : make_plan(&plan, k, in, c->d_model, err);
    rc = rc ? rc : run_variants(k, rt, in, &plan, progress, err);
    release_plan(&plan);
    if (rc)
        enrichment_knockout_release(k);
    return rc;
}

void enrichment_knockout_release(struct enrichment_knockout *k)
{
    free(k->base_rate);
    free(k->base_recall);
    free(k->rate);
    free(k->recall);
    *k = (struct enrichment_knockout){ 0 };
}

/* --- means --- */

struct adder {
    struct sink sink; /* first */
    double *const *sums;
};

static int add_rows(struct sink *self, const struct site_view *v, struct err *err)
{
    const struct adder *a = (const struct adder *)(const void *)self;
    double *sum = a->sums[v->site == SITE_ATTN_OUT ? ENRICHMENT_ATTN : ENRICHMENT_MLP] + v->layer * v->row_size;
    (void)err;
    for (size_t i = 0; i < v->n_rows * v->row_size; i++)
        sum[i % v->row_size] += site_view_at(v, i);
    return 0;
}

int enrichment_means(struct runtime *rt, const struct prompt *prompts, size_t n_prompts,
                     double *const sums[ENRICHMENT_SUBLAYERS], size_t *n, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct adder adder = { .sink = { add_rows }, .sums = sums };
    struct site_set reads;
    int rc = site_set_init(&reads, c, err);
    if (rc)
        return rc;
    for (size_t l = 0; l < c->n_layers; l++) {
        site_set_add_one(&reads, (struct site_ref){ SITE_ATTN_OUT, l });
        site_set_add_one(&reads, (struct site_ref){ SITE_MLP_OUT, l });
    }
    const struct forward f = { .prompts = prompts, .n_prompts = n_prompts, .reads = &reads, .sink = &adder.sink };
    rc = runtime_forward(rt, &f, err);
    for (size_t i = 0; !rc && i < n_prompts; i++)
        *n += prompts[i].n_tokens;
    site_set_release(&reads);
    return rc;
}

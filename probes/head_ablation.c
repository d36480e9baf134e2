#include "probes/head_ablation.h"

#include "core/base/mem.h"
#include "core/base/random.h"
#include "core/runtime/collect.h"
#include "probes/ablation_run.h"

#include <stdlib.h>
#include <string.h>

/* --- mean z --- */

/* Sums z of the last token, or of all tokens, of every prompt. */
struct summer {
    struct sink sink; /* first */
    const unsigned char *keep;
    size_t width;
    double *sum; /* [n_layers, width] */
};

static int add_rows(struct sink *self, const struct site_view *v, struct err *err)
{
    const struct summer *s = (struct summer *)(void *)self;
    (void)err;
    for (size_t r = 0; r < v->n_rows; r++)
        if (s->keep[v->rows ? v->rows[r] : v->first_row + r])
            for (size_t i = 0; i < s->width; i++)
                s->sum[v->layer * s->width + i] += site_view_at(v, r * s->width + i);
    return 0;
}

static int sum_batch(struct summer *s, struct runtime *rt, const struct prompt *prompts, size_t n, bool everywhere,
                     const struct site_set *reads, size_t *n_kept, struct err *err)
{
    size_t n_rows = 0, row = 0;
    for (size_t i = 0; i < n; i++)
        n_rows += prompts[i].n_tokens;
    unsigned char *keep = mem_zeroed(n_rows, 1);
    if (!keep)
        return err_nomem(err, "the mean of heads");
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < prompts[i].n_tokens; k++, row++)
            keep[row] = everywhere || k + 1 == prompts[i].n_tokens;
        *n_kept += everywhere ? prompts[i].n_tokens : 1;
    }
    s->keep = keep;
    const struct forward f = {
        .prompts = prompts, .n_prompts = n, .reads = reads, .sink = &s->sink, .read_rows = keep
    };
    int rc = runtime_forward(rt, &f, err);
    free(keep);
    return rc;
}

/* mean[n_layers, n_heads * d_head] of z over all facts. */
static int mean_z(struct runtime *rt, const struct prompt *prompts, size_t n_facts, bool everywhere, float *mean,
                  struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    struct summer s = { .sink = { add_rows }, .width = c->n_heads * c->d_head };
    struct site_set reads;
    size_t n_kept = 0;
    s.sum = mem_zeroed(c->n_layers * s.width, sizeof *s.sum);
    int rc = site_set_init(&reads, c, err);
    rc = rc ? rc : s.sum ? site_set_add(&reads, "blocks.*.attn.hook_z", err) : err_nomem(err, "the mean of heads");
    for (size_t first = 0, n; !rc && first < n_facts; first += n) {
        size_t rows = prompts[first].n_tokens;
        for (n = 1; first + n < n_facts; n++) {
            rows += prompts[first + n].n_tokens;
            if (rows > runtime_batch_rows())
                break;
        }
        rc = sum_batch(&s, rt, prompts + first, n, everywhere, &reads, &n_kept, err);
    }
    for (size_t i = 0; !rc && i < c->n_layers * s.width; i++)
        mean[i] = (float)(s.sum[i] / (double)n_kept);
    free(s.sum);
    site_set_release(&reads);
    return rc;
}

/* --- edits --- */

struct maker {
    const struct model_config *config;
    const struct head_ablation_options *o;
    float *mean;   /* [n_layers, n_heads * d_head]; NULL: zero */
    size_t *units; /* [n_heads] scratch */
};

/* Zero becomes the mean. */
static int set_to_mean(const struct maker *m, struct edit *e, struct err *err)
{
    size_t width = m->config->n_heads * m->config->d_head;
    e->op = EDIT_SET;
    e->source = EDIT_FROM_VECTOR;
    e->vector = mem_array(width, sizeof *e->vector);
    if (!e->vector)
        return err_nomem(err, "edits");
    memcpy(e->vector, m->mean + e->first_layer * width, width * sizeof *e->vector);
    e->n_vectors = 1;
    return 0;
}

/* These heads of all layers, one edit a layer. */
static int take_out(const struct maker *m, const size_t *heads, size_t n, struct edit_list *out, struct err *err)
{
    size_t per_layer = m->config->n_heads;
    int rc = 0;
    for (size_t l = 0; !rc && l < m->config->n_layers; l++) {
        size_t n_units = 0;
        for (size_t i = 0; i < n; i++)
            if (heads[i] / per_layer == l)
                m->units[n_units++] = heads[i] % per_layer;
        if (!n_units)
            continue;
        rc = ablation_add_units(out, SITE_Z, l, m->units, n_units, m->o->everywhere, err);
        rc = rc || !m->mean ? rc : set_to_mean(m, &out->edits[out->n - 1], err);
    }
    return rc;
}

static int create_maker(struct maker *m, struct runtime *rt, const struct prompt *prompts, size_t n_facts,
                        const struct head_ablation_options *o, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    *m = (struct maker){ .config = c, .o = o, .units = mem_array(c->n_heads, sizeof(size_t)) };
    if (!m->units)
        return err_nomem(err, "edits");
    if (o->mode == ABLATION_ZERO)
        return 0;
    m->mean = mem_array(c->n_layers * c->n_heads, c->d_head * sizeof *m->mean);
    return m->mean ? mean_z(rt, prompts, n_facts, o->everywhere, m->mean, err) : err_nomem(err, "the mean of heads");
}

static void release_maker(struct maker *m)
{
    free(m->mean);
    free(m->units);
}

int head_ablation_singles(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                          const int32_t *answers, size_t n_facts, const struct head_ablation_options *o,
                          struct progress *progress, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    size_t n_heads = c->n_layers * c->n_heads;
    struct maker m;
    struct edit_list *edits = mem_zeroed(n_heads, sizeof *edits);
    *r = (struct ablation_run){ 0 };
    int rc = create_maker(&m, rt, prompts, n_facts, o, err);
    rc = rc || edits ? rc : err_nomem(err, "edits");
    for (size_t h = 0; !rc && h < n_heads; h++)
        rc = take_out(&m, &h, 1, &edits[h], err);
    const struct ablation_plan plan = {
        .rt = rt, .prompts = prompts, .answers = answers, .n_variants = n_heads, .edits = edits
    };
    rc = rc ? rc : ablation_run(r, &plan, n_facts, progress, err);
    ablation_free_edits(edits, n_heads);
    release_maker(&m);
    return rc;
}

/* --- ranking against random heads --- */

static int check_ranking(const struct head_ranking *k, size_t n_heads, size_t *most, struct err *err)
{
    *most = 0;
    for (size_t i = 0; i < k->n_counts; i++) {
        if (k->counts[i] <= *most)
            return err_set(err, ERR_ARG, "numbers of heads must rise from 1 on");
        *most = k->counts[i];
    }
    if (!k->n_counts || *most > k->n_heads || *most > n_heads / 2)
        return err_set(err, ERR_ARG,
                       "%zu heads are too many to take out: at most half of the model's %zu, so that as many random "
                       "ones are left, and at most the %zu that are ranked",
                       *most, n_heads, k->n_heads);
    for (size_t i = 0; i < k->n_heads; i++)
        if (k->order[i] >= n_heads)
            return err_set(err, ERR_ARG, "head number %zu does not exist: the model has %zu", k->order[i], n_heads);
    return 0;
}

/* Shuffles the numbers of all heads but the ranking's first `most` (Fisher and Yates). Returns how many. */
static size_t draw_heads(const struct head_ranking *k, size_t most, size_t n_heads, struct random_source *random,
                         size_t *heads)
{
    size_t n = 0;
    for (size_t h = 0; h < n_heads; h++) {
        bool ranked = false;
        for (size_t i = 0; i < most; i++)
            ranked = ranked || k->order[i] == h;
        if (!ranked)
            heads[n++] = h;
    }
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)random_below(random, i), h = heads[i - 1];
        heads[i - 1] = heads[j];
        heads[j] = h;
    }
    return n;
}

static int make_ranked(const struct maker *m, const struct head_ranking *k, size_t most, size_t n_draws,
                       struct edit_list *edits, struct err *err)
{
    size_t n_heads = m->config->n_layers * m->config->n_heads;
    size_t *heads = mem_array(n_heads, sizeof *heads);
    struct random_source random;
    int rc = heads ? 0 : err_nomem(err, "random heads");
    random_seed(&random, m->o->seed);
    for (size_t d = 0; !rc && d <= n_draws; d++) {
        if (d)
            draw_heads(k, most, n_heads, &random, heads);
        for (size_t i = 0; !rc && i < k->n_counts; i++)
            rc = take_out(m, d ? heads : k->order, k->counts[i], &edits[d * k->n_counts + i], err);
    }
    free(heads);
    return rc;
}

int head_ablation_ranked(struct ablation_run *r, struct runtime *rt, const struct prompt *prompts,
                         const int32_t *answers, size_t n_facts, const struct head_ranking *ranking,
                         const struct head_ablation_options *o, struct progress *progress, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    size_t n_draws = o->n_draws ? o->n_draws : ABLATION_DRAWS, most, n_variants;
    struct maker m;
    *r = (struct ablation_run){ 0 };
    int rc = check_ranking(ranking, c->n_layers * c->n_heads, &most, err);
    if (rc)
        return rc;
    if (!size_mul(1 + n_draws, ranking->n_counts, &n_variants))
        return err_nomem(err, "edits");
    struct edit_list *edits = mem_zeroed(n_variants, sizeof *edits);
    rc = create_maker(&m, rt, prompts, n_facts, o, err);
    rc = rc || edits ? rc : err_nomem(err, "edits");
    rc = rc ? rc : make_ranked(&m, ranking, most, n_draws, edits, err);
    const struct ablation_plan plan = {
        .rt = rt, .prompts = prompts, .answers = answers, .n_variants = n_variants, .edits = edits
    };
    rc = rc ? rc : ablation_run(r, &plan, n_facts, progress, err);
    if (!rc) {
        r->n_draws = n_draws;
        r->n_counts = ranking->n_counts;
    }
    ablation_free_edits(edits, n_variants);
    release_maker(&m);
    return rc;
}

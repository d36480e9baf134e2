/*
 * Attention of packed, ragged sequences. A task is one sequence for a range of
 * heads, a block of queries at a time; scores live in the worker's scratch.
 * Where the scores or pattern sites are read, a prompt's edges are laid out
 * whole and the same steps run one after another over them, with the same
 * arithmetic on the same values.
 */
#include "core/runtime/internal_real.h"

#include "core/base/half.h"

#include <math.h>
#include <string.h>

struct attention {
    struct pass *p;
    size_t layer;
    bool edit_scores, edit_pattern;
    size_t heads_per_task, tasks_per_sequence;
    const struct sequence *observed; /* observed path */
    enum { SCORES, SOFTMAX, MIX } step;
};

/* Keys and values of one KV head; row j is key `first` + j. */
struct head_keys {
    const real *k, *v;
    size_t stride, first;
};

/* Keys that the queries at positions first .. last of a sequence can see between them, half open. */
static struct range visible(const struct attention *a, const struct sequence *s, size_t first_query, size_t last_query)
{
    size_t n = a->p->past + s->prompt->n_tokens;
    struct range first = visible_keys(a->p->model, a->layer, first_query, n);
    return (struct range){ first.first, visible_keys(a->p->model, a->layer, last_query, n).last };
}

static size_t position(const struct attention *a, size_t active_row)
{
    return a->p->past + a->p->b.token[active_row];
}

/* Replay: the base run's keys and values, and over them those that were computed anew. room[2, keys, d_head]. */
static struct head_keys put_together(const struct attention *a, const struct sequence *s, size_t group,
                                     struct range keys, real *room)
{
    const struct pass *p = a->p;
    const struct model_config *c = &p->model->config;
    size_t d = c->d_head, width = c->n_kv_heads * d, n = keys.last - keys.first;
    const struct collector *base = p->schedule->base;
    size_t row = (base->first_row[s->run] + keys.first) * width + group * d;
    enum site key_site = c->position == POSITION_ROTARY ? SITE_ROT_K : SITE_K;
    const real *base_k = (const real *)collector_rows(base, key_site, a->layer) + row;
    const real *base_v = (const real *)collector_rows(base, SITE_V, a->layer) + row;
    real *k = room, *v = room + n * d;
    for (size_t j = 0; j < n; j++) {
        memcpy(k + j * d, base_k + j * width, d * sizeof *k);
        memcpy(v + j * d, base_v + j * width, d * sizeof *v);
    }
    for (size_t i = s->key_begin; i < s->key_end; i++) {
        size_t j = p->b.key_token[i];
        if (j < keys.first || j >= keys.last)
            continue;
        memcpy(k + (j - keys.first) * d, (const real *)p->b.k + i * width + group * d, d * sizeof *k);
        memcpy(v + (j - keys.first) * d, (const real *)p->b.v + i * width + group * d, d * sizeof *v);
    }
    return (struct head_keys){ k, v, d, keys.first };
}

static struct head_keys keys_of(const struct attention *a, const struct sequence *s, size_t group, struct range keys,
                                real *room)
{
    const struct pass *p = a->p;
    const struct model_config *c = &p->model->config;
    size_t width = c->n_kv_heads * c->d_head;
    if (p->schedule)
        return put_together(a, s, group, keys, room);
    const real *k = p->b.k, *v = p->b.v;
    size_t row = s->key_begin;
    if (p->cache) {
        k = (const real *)p->cache->k + a->layer * p->cache->capacity * width;
        v = (const real *)p->cache->v + a->layer * p->cache->capacity * width;
        row = 0;
    }
    size_t at = (row + keys.first) * width + group * c->d_head;
    return (struct head_keys){ k + at, v + at, width, keys.first };
}

static double rounded_to_bf16(double x)
{
    return (double)bf16_to_f32_one(bf16_from_f32_one((float)x));
}

/* What is done to one query's scores of the keys that it sees: the cap (Gemma 2), ALiBi (Press et al. 2022). */
static void adjust_scores(const struct attention *a, size_t head, size_t query, struct range keys, real *s)
{
    const struct model *m = a->p->model;
    double cap = m->config.attn_softcap;
    size_t n = keys.last - keys.first;
    for (size_t j = 0; cap > 0 && j < n; j++)
        s[j] = (real)(cap * tanh((double)s[j] / cap));
    if (!m->alibi)
        return;
    double slope = m->alibi[head];
    for (size_t j = 0; j < n; j++) {
        size_t key = keys.first + j;
        double bias = slope * ((double)key - (double)query);
        if (m->alibi_bf16) /* Falcon rounds the product with the key's own position */
            bias = m->alibi_factor * (rounded_to_bf16(slope * rounded_to_bf16((double)key)) -
                                      rounded_to_bf16(slope * rounded_to_bf16((double)query)));
        s[j] += (real)bias;
    }
}

/* s[n, keys] = scaled q.k of one head for active rows first.., hidden edges -inf; column 0 is key keys.first. */
static void scores(const struct attention *a, const struct sequence *sequence, const struct head_keys *h, size_t head,
                   size_t first, size_t n, struct range keys, real *s, size_t stride)
{
    const struct model_config *c = &a->p->model->config;
    size_t q_stride = c->n_heads * c->d_head;
    const real *q = (const real *)a->p->b.q + first * q_stride + head * c->d_head;
    REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)(keys.last - keys.first), (int)c->d_head,
              (real)a->p->model->layers[a->layer].attn_scale, q, (int)q_stride,
              h->k + (keys.first - h->first) * h->stride, (int)h->stride, 0, s, (int)stride);
    for (size_t i = 0; i < n; i++) {
        size_t query = position(a, first + i);
        struct range own = visible(a, sequence, query, query);
        if (c->position == POSITION_RELATIVE)
            add_distances(a->p, a->layer, head, query, q + i * q_stride, h->k + (own.first - h->first) * h->stride,
                          h->stride, own, s + i * stride + own.first - keys.first);
        adjust_scores(a, head, query, own, s + i * stride + own.first - keys.first);
        for (size_t j = keys.first; j < own.first; j++)
            s[i * stride + j - keys.first] = -(real)INFINITY;
        for (size_t j = own.last; j < keys.last; j++)
            s[i * stride + j - keys.first] = -(real)INFINITY;
    }
}

static void softmax_rows(const struct attention *a, size_t n, struct range keys, real *s, size_t stride)
{
    for (size_t i = 0; i < n; i++)
        kernels_of(a->p->rt)->softmax(s + i * stride, keys.last - keys.first);
}

static void mix(const struct attention *a, const struct head_keys *h, size_t head, size_t first, size_t n,
                struct range keys, const real *s, size_t stride)
{
    const struct model_config *c = &a->p->model->config;
    size_t z_stride = c->n_heads * c->d_head;
    real *z = (real *)a->p->b.z + first * z_stride + head * c->d_head;
    REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)c->d_head, (int)(keys.last - keys.first), 1, s,
              (int)stride, h->v + (keys.first - h->first) * h->stride, (int)h->stride, 0, z, (int)z_stride);
}

/* Queries of the block that begins at active row `first`. */
static size_t block_rows(const struct sequence *s, size_t first)
{
    return s->end - first < QUERY_BLOCK ? s->end - first : QUERY_BLOCK;
}

/* Nobody looks: scores, softmax and mix of a block while they are in cache. Task = (sequence, heads). */
static void fused_task(void *arg, size_t index, int worker)
{
    const struct attention *a = arg;
    const struct pass *p = a->p;
    const struct sequence *sequence = &p->sequences[index / a->tasks_per_sequence];
    size_t part = index % a->tasks_per_sequence, per_group = p->model->config.n_heads / p->model->config.n_kv_heads;
    size_t first_head = part * a->heads_per_task, last_head = first_head + a->heads_per_task;
    if (sequence->begin == sequence->end)
        return;
    last_head = last_head > p->model->config.n_heads ? p->model->config.n_heads : last_head;
    real *s = (real *)(void *)(p->b.scratch + (size_t)worker * p->b.scratch_bytes);
    struct range all = visible(a, sequence, position(a, sequence->begin), position(a, sequence->end - 1));
    struct head_keys h = { 0 };
    for (size_t head = first_head; head < last_head; head++) {
        if (head == first_head || head % per_group == 0)
            h = keys_of(a, sequence, head / per_group, all, s + QUERY_BLOCK * p->longest);
        for (size_t row = sequence->begin, n; row < sequence->end; row += n) {
            n = block_rows(sequence, row);
            struct range keys = visible(a, sequence, position(a, row), position(a, row + n - 1));
            size_t stride = keys.last - keys.first;
            scores(a, sequence, &h, head, row, n, keys, s, stride);
            if (a->edit_scores)
                edit_edges(p, SITE_SCORES, a->layer, sequence, head, row, n, keys.first, s, stride);
            softmax_rows(a, n, keys, s, stride);
            if (a->edit_pattern)
                edit_edges(p, SITE_PATTERN, a->layer, sequence, head, row, n, keys.first, s, stride);
            mix(a, &h, head, row, n, keys, s, stride);
        }
    }
}

/* Somebody looks: one step for one head of one prompt on the whole [n_tokens, n_tokens] square. */
static void observed_task(void *arg, size_t head, int worker)
{
    const struct attention *a = arg;
    const struct pass *p = a->p;
    const struct sequence *sequence = a->observed;
    (void)worker;
    size_t n_tokens = sequence->prompt->n_tokens,
           group = head / (p->model->config.n_heads / p->model->config.n_kv_heads);
    real *square = (real *)p->b.edges + head * n_tokens * n_tokens;
    struct head_keys h = keys_of(a, sequence, group, (struct range){ 0, n_tokens }, NULL);
    for (size_t row = sequence->begin, n; row < sequence->end; row += n) {
        n = block_rows(sequence, row);
        struct range keys = visible(a, sequence, position(a, row), position(a, row + n - 1));
        real *lines = square + p->b.token[row] * n_tokens, *s = lines + keys.first;
        switch (a->step) {
        case SCORES:
            for (size_t i = 0; i < n * n_tokens; i++)
                lines[i] = -(real)INFINITY;
            scores(a, sequence, &h, head, row, n, keys, s, n_tokens);
            break;
        case SOFTMAX:
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n_tokens; j++)
                    if (j < keys.first || j >= keys.last)
                        lines[i * n_tokens + j] = 0;
            softmax_rows(a, n, keys, s, n_tokens);
            break;
        case MIX:
            mix(a, &h, head, row, n, keys, s, n_tokens);
            break;
        }
    }
}

static int attend_observed(struct attention *a, struct err *err)
{
    struct pass *p = a->p;
    size_t n_heads = p->model->config.n_heads;
    for (size_t i = 0; i < p->n_sequences; i++) {
        int rc = 0;
        a->observed = &p->sequences[i];
        a->step = SCORES;
        pool_run(p->rt->pool, n_heads, observed_task, a);
        if ((rc = visit_edges(p, SITE_SCORES, a->layer, p->b.edges, i, err)))
            return rc;
        a->step = SOFTMAX;
        pool_run(p->rt->pool, n_heads, observed_task, a);
        if ((rc = visit_edges(p, SITE_PATTERN, a->layer, p->b.edges, i, err)))
            return rc;
        a->step = MIX;
        pool_run(p->rt->pool, n_heads, observed_task, a);
    }
    return 0;
}

int attend(struct pass *p, size_t layer, struct err *err)
{
    const struct model_config *c = &p->model->config;
    unsigned scores_touch = touched(p, SITE_SCORES, layer), pattern_touch = touched(p, SITE_PATTERN, layer);
    struct attention a = {
        .p = p,
        .layer = layer,
        .edit_scores = scores_touch & TOUCH_EDIT,
        .edit_pattern = pattern_touch & TOUCH_EDIT,
        .heads_per_task = c->n_heads,
    };
    if ((scores_touch | pattern_touch) & TOUCH_READ)
        return attend_observed(&a, err);
    /* Few sequences: share out heads as well, so that no thread idles. */
    if (p->n_sequences < 4 * (size_t)pool_threads(p->rt->pool))
        a.heads_per_task = 1;
    a.tasks_per_sequence = (c->n_heads + a.heads_per_task - 1) / a.heads_per_task;
    pool_run(p->rt->pool, p->n_sequences * a.tasks_per_sequence, fused_task, &a);
    return 0;
}

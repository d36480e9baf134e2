/*
 * Attention of packed, ragged prompts. A task is a block of queries of one
 * prompt for a range of heads; scores live in the worker's scratch. Where the
 * scores or pattern sites are read or edited, a prompt's edges are laid out
 * whole and the same three steps run one after another over them, with the
 * same arithmetic on the same values.
 */
#include "core/runtime/internal_real.h"

#include <math.h>

struct attention {
    struct pass *p;
    size_t layer, window;
    const real *k, *v; /* keys and values of the prompt at hand or of the whole batch, row stride `width` */
    size_t width;      /* n_kv_heads * d_head */
    size_t heads_per_task, tasks_per_prompt;
    size_t prompt; /* observed path */
    enum { SCORES, SOFTMAX, MIX } step;
};

/* Keys [begin, end) that the queries at positions first .. first + n - 1 can see between them. */
static struct range visible(const struct attention *a, size_t first, size_t n)
{
    size_t begin = a->window && first + 1 > a->window ? first + 1 - a->window : 0;
    return (struct range){ begin, first + n };
}

static const real *keys_of(const struct attention *a, const real *base, size_t prompt, size_t head)
{
    const struct model_config *c = &a->p->model->config;
    size_t group = head / (c->n_heads / c->n_kv_heads);
    size_t row = a->p->f->cache ? 0 : a->p->b.row_offset[prompt];
    return base + row * a->width + group * c->d_head;
}

/* s[n, keys] = scaled q.k of one head, hidden edges -inf; row stride `stride`, column 0 is key `keys.first`. */
static void scores(const struct attention *a, size_t prompt, size_t head, size_t query, size_t n, struct range keys,
                   real *s, size_t stride)
{
    const struct pass *p = a->p;
    const struct model_config *c = &p->model->config;
    size_t q_stride = c->n_heads * c->d_head;
    const real *q = (const real *)p->b.q + (p->b.row_offset[prompt] + query) * q_stride + head * c->d_head;
    const real *k = keys_of(a, a->k, prompt, head) + keys.first * a->width;
    REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)(keys.last - keys.first), (int)c->d_head,
              (real)c->attn_scale, q, (int)q_stride, k, (int)a->width, 0, s, (int)stride);
    for (size_t i = 0; i < n; i++) {
        size_t position = p->past + query + i;
        struct range own = visible(a, position, 1);
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

static void mix(const struct attention *a, size_t prompt, size_t head, size_t query, size_t n, struct range keys,
                const real *s, size_t stride)
{
    const struct pass *p = a->p;
    const struct model_config *c = &p->model->config;
    size_t z_stride = c->n_heads * c->d_head;
    real *z = (real *)p->b.z + (p->b.row_offset[prompt] + query) * z_stride + head * c->d_head;
    const real *v = keys_of(a, a->v, prompt, head) + keys.first * a->width;
    REAL_GEMM(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)c->d_head, (int)(keys.last - keys.first), 1, s,
              (int)stride, v, (int)a->width, 0, z, (int)z_stride);
}

/* Block number `block` of a prompt: QUERY_BLOCK queries, the last one fewer. */
static size_t block_queries(const struct pass *p, size_t prompt, size_t block)
{
    size_t left = p->f->prompts[prompt].n_tokens - block * QUERY_BLOCK;
    return left < QUERY_BLOCK ? left : QUERY_BLOCK;
}

static size_t blocks_of(const struct pass *p, size_t prompt)
{
    return (p->f->prompts[prompt].n_tokens + QUERY_BLOCK - 1) / QUERY_BLOCK;
}

/* Nobody looks: scores, softmax and mix of a block while they are in cache. Task = (prompt, heads). */
static void fused_task(void *arg, size_t index, int worker)
{
    const struct attention *a = arg;
    const struct pass *p = a->p;
    size_t prompt = index / a->tasks_per_prompt, part = index % a->tasks_per_prompt;
    size_t first = part * a->heads_per_task, last = first + a->heads_per_task;
    last = last > p->model->config.n_heads ? p->model->config.n_heads : last;
    real *s = (real *)(void *)(p->b.scratch + (size_t)worker * p->b.scratch_bytes);
    for (size_t block = 0; block < blocks_of(p, prompt); block++) {
        size_t query = block * QUERY_BLOCK, n = block_queries(p, prompt, block);
        struct range keys = visible(a, p->past + query, n);
        for (size_t head = first; head < last; head++) {
            scores(a, prompt, head, query, n, keys, s, keys.last - keys.first);
            softmax_rows(a, n, keys, s, keys.last - keys.first);
            mix(a, prompt, head, query, n, keys, s, keys.last - keys.first);
        }
    }
}

/* Somebody looks: one step for one head of one prompt on the whole [n_tokens, n_tokens] square. */
static void observed_task(void *arg, size_t head, int worker)
{
    const struct attention *a = arg;
    const struct pass *p = a->p;
    (void)worker;
    size_t n_tokens = p->f->prompts[a->prompt].n_tokens;
    real *square = (real *)p->b.edges + head * n_tokens * n_tokens;
    for (size_t block = 0; block < blocks_of(p, a->prompt); block++) {
        size_t query = block * QUERY_BLOCK, n = block_queries(p, a->prompt, block);
        struct range keys = visible(a, query, n);
        real *s = square + query * n_tokens + keys.first;
        switch (a->step) {
        case SCORES:
            for (size_t i = 0; i < n * n_tokens; i++)
                square[query * n_tokens + i] = -(real)INFINITY;
            scores(a, a->prompt, head, query, n, keys, s, n_tokens);
            break;
        case SOFTMAX:
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n_tokens; j++)
                    if (j < keys.first || j >= keys.last)
                        square[(query + i) * n_tokens + j] = 0;
            softmax_rows(a, n, keys, s, n_tokens);
            break;
        case MIX:
            mix(a, a->prompt, head, query, n, keys, s, n_tokens);
            break;
        }
    }
}

static int attend_observed(struct attention *a, struct err *err)
{
    struct pass *p = a->p;
    size_t n_heads = p->model->config.n_heads;
    for (a->prompt = 0; a->prompt < p->f->n_prompts; a->prompt++) {
        int rc = 0;
        a->step = SCORES;
        pool_run(p->rt->pool, n_heads, observed_task, a);
        if ((rc = visit_edges(p, SITE_SCORES, a->layer, p->b.edges, a->prompt, err)))
            return rc;
        a->step = SOFTMAX;
        pool_run(p->rt->pool, n_heads, observed_task, a);
        if ((rc = visit_edges(p, SITE_PATTERN, a->layer, p->b.edges, a->prompt, err)))
            return rc;
        a->step = MIX;
        pool_run(p->rt->pool, n_heads, observed_task, a);
    }
    return 0;
}

int attend(struct pass *p, size_t layer, struct err *err)
{
    const struct model_config *c = &p->model->config;
    const struct kv_cache *cache = p->f->cache;
    struct attention a = {
        .p = p,
        .layer = layer,
        .window = p->model->layers[layer].window,
        .k = p->b.k,
        .v = p->b.v,
        .width = c->n_kv_heads * c->d_head,
        .heads_per_task = c->n_heads,
    };
    if (cache) {
        a.k = (const real *)cache->k + layer * cache->capacity * cache->width;
        a.v = (const real *)cache->v + layer * cache->capacity * cache->width;
    }
    if (touched(p, SITE_SCORES, layer) || touched(p, SITE_PATTERN, layer))
        return attend_observed(&a, err);
    /* Few prompts: share out heads as well, so that no thread idles. */
    if (p->f->n_prompts < 4 * (size_t)pool_threads(p->rt->pool))
        a.heads_per_task = 1;
    a.tasks_per_prompt = (c->n_heads + a.heads_per_task - 1) / a.heads_per_task;
    pool_run(p->rt->pool, p->f->n_prompts * a.tasks_per_prompt, fused_task, &a);
    return 0;
}

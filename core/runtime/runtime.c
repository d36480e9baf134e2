#include "core/runtime/runtime.h"

#include "core/base/mem.h"
#include "core/runtime/blas_check.h"
#include "core/runtime/internal.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t real_bytes(enum precision precision)
{
    return precision == PRECISION_F64 ? sizeof(double) : sizeof(float);
}

int runtime_create(struct runtime **out, const struct model *model, struct pool *pool, enum precision precision,
                   struct err *err)
{
    /* The pool owns the threads; BLAS calls are one-threaded each (notes: twice as fast at middle sizes). */
    openblas_set_num_threads(1);
    int rc = blas_check(err);
    if (rc)
        return rc;
    struct runtime *rt = mem_zeroed(1, sizeof *rt);
    if (!rt)
        return err_nomem(err, "the runtime");
    rt->model = model;
    rt->pool = pool;
    rt->precision = precision;
    rt->k32 = kernels_f32();
    rt->k64 = kernels_f64();
    if (precision == PRECISION_F64) {
        rt->unembed_scratch =
            mem_aligned((size_t)pool_threads(pool), WIDEN_ROWS * model->config.d_model * sizeof(double));
        if (!rt->unembed_scratch) {
            runtime_free(rt);
            return err_nomem(err, "the runtime");
        }
    }
    *out = rt;
    return 0;
}

void runtime_free(struct runtime *rt)
{
    if (!rt)
        return;
    free(rt->memory);
    free(rt->cosine);
    free(rt->sine);
    free(rt->unembed_scratch);
    free(rt);
}

const struct model *runtime_model(const struct runtime *rt)
{
    return rt->model;
}

struct pool *runtime_pool(const struct runtime *rt)
{
    return rt->pool;
}

enum precision runtime_precision(const struct runtime *rt)
{
    return rt->precision;
}

size_t runtime_batch_rows(void)
{
    return 512;
}

int kv_cache_create(struct kv_cache **out, const struct runtime *rt, size_t capacity, struct err *err)
{
    const struct model_config *c = &rt->model->config;
    struct kv_cache *cache = mem_zeroed(1, sizeof *cache);
    size_t n;
    if (!cache || !size_mul(c->n_kv_heads * c->d_head, capacity, &n) || !size_mul(n, c->n_layers, &n)) {
        free(cache);
        return err_nomem(err, "keys and values");
    }
    cache->precision = rt->precision;
    cache->capacity = capacity;
    cache->width = c->n_kv_heads * c->d_head;
    cache->k = mem_aligned(n, real_bytes(rt->precision));
    cache->v = mem_aligned(n, real_bytes(rt->precision));
    if (!cache->k || !cache->v) {
        kv_cache_free(cache);
        return err_nomem(err, "keys and values");
    }
    *out = cache;
    return 0;
}

void kv_cache_free(struct kv_cache *cache)
{
    if (!cache)
        return;
    free(cache->k);
    free(cache->v);
    free(cache);
}

size_t kv_cache_tokens(const struct kv_cache *cache)
{
    return cache->n_tokens;
}

/* --- memory: one block, measured and carved by the same function --- */

struct shape {
    size_t rows, final_rows, longest, n_prompts, n_edits;
    bool edges, result, logits;
};

/* Hands out 64-byte aligned pieces; with base NULL it only measures. Sizes were bounded by check_prompts. */
static void *carve(char *base, size_t *used, size_t n, size_t size)
{
    char *piece = base ? base + *used : NULL;
    *used += (n * size + 63) & ~(size_t)63;
    return piece;
}

static size_t lay_out(struct buffers *b, const struct model_config *c, enum precision precision, int n_threads,
                      const struct shape *s, char *base)
{
    size_t used = 0, real = real_bytes(precision);
    size_t query = c->n_heads * c->d_head, key = c->n_kv_heads * c->d_head;
    b->resid = carve(base, &used, s->rows * c->d_model, real);
    b->normed = carve(base, &used, s->rows * c->d_model, real);
    b->delta = carve(base, &used, s->rows * c->d_model, real);
    b->mean = carve(base, &used, s->rows, real);
    b->scale = carve(base, &used, s->rows, real);
    b->q = carve(base, &used, s->rows * query, real);
    b->z = carve(base, &used, s->rows * query, real);
    b->k = carve(base, &used, s->rows * key, real);
    b->v = carve(base, &used, s->rows * key, real);
    b->pre = carve(base, &used, s->rows * c->d_mlp, real);
    b->linear = carve(base, &used, c->gated_mlp ? s->rows * c->d_mlp : 0, real);
    b->edges = carve(base, &used, s->edges ? c->n_heads * s->longest * s->longest : 0, real);
    b->result = carve(base, &used, s->result ? CHUNK_ROWS * c->n_heads * c->d_model : 0, real);
    b->final = carve(base, &used, s->final_rows * c->d_model, real);
    b->logits = carve(base, &used, s->logits ? CHUNK_ROWS * c->d_vocab : 0, real);

    size_t widest = query > c->d_mlp ? query : c->d_mlp;
    widest = widest > c->d_model ? widest : c->d_model;
    size_t scores = QUERY_BLOCK * s->longest * real;
    size_t widened = precision == PRECISION_F64 ? WIDEN_ROWS * widest * sizeof(double) : 0;
    b->scratch_bytes = ((scores > widened ? scores : widened) + 63) & ~(size_t)63;
    b->scratch = carve(base, &used, (size_t)n_threads, b->scratch_bytes);

    b->touched = carve(base, &used, N_SITES * c->n_layers, 1);
    b->row_offset = carve(base, &used, s->n_prompts + 1, sizeof(size_t));
    b->position = carve(base, &used, s->rows, sizeof(size_t));
    b->final_rows = carve(base, &used, s->final_rows, sizeof(size_t));
    b->edits = carve(base, &used, s->n_edits, sizeof *b->edits);
    b->masks = carve(base, &used, 2 * s->n_edits * s->rows, 1);
    return used;
}

static bool reads_any(const struct site_set *reads, enum site site, size_t n_layers)
{
    for (size_t l = 0; reads && l < n_layers; l++)
        if (site_set_has(reads, site, l))
            return true;
    return false;
}

static bool edits_any(const struct edit_list *edits, enum site site)
{
    for (size_t i = 0; edits && i < edits->n; i++)
        if (edits->edits[i].site == site)
            return true;
    return false;
}

static bool touches(const struct site_set *reads, const struct edit_list *edits, enum site site, size_t n_layers)
{
    return reads_any(reads, site, n_layers) || edits_any(edits, site);
}

static void shape_flags(struct shape *s, const struct model_config *c, const struct site_set *reads,
                        const struct edit_list *edits)
{
    s->edges = touches(reads, edits, SITE_SCORES, c->n_layers) || touches(reads, edits, SITE_PATTERN, c->n_layers);
    s->result = touches(reads, edits, SITE_RESULT, c->n_layers);
    s->logits = touches(reads, edits, SITE_LOGITS, c->n_layers);
    s->n_edits = edits ? edits->n : 0;
}

size_t runtime_memory(const struct model *model, enum precision precision, int n_threads, size_t n_rows,
                      size_t n_tokens, const struct site_set *reads)
{
    struct buffers b;
    struct shape s = { .rows = n_rows, .final_rows = n_rows, .longest = n_tokens, .n_prompts = n_rows };
    shape_flags(&s, &model->config, reads, NULL);
    size_t rope = 2 * model->config.n_ctx * model->config.rotary_dims / 2 * real_bytes(precision);
    return lay_out(&b, &model->config, precision, n_threads, &s, NULL) + rope;
}

/* --- one pass: checks, plan, edits --- */

static int check_prompts(const struct pass *p, struct shape *s, struct err *err)
{
    const struct forward *f = p->f;
    const struct model_config *c = &p->model->config;
    if (f->cache && f->n_prompts != 1)
        return err_set(err, ERR_ARG, "a cached run takes one prompt, not %zu", f->n_prompts);
    for (size_t i = 0; i < f->n_prompts; i++) {
        const struct prompt *prompt = &f->prompts[i];
        const char *name = prompt->name ? prompt->name : "?";
        if (!prompt->n_tokens)
            return err_set(err, ERR_ARG, "prompt %s has no tokens", name);
        size_t length = prompt->n_tokens + p->past;
        if (length > c->n_ctx)
            return err_set(err, ERR_ARG, "prompt %s has %zu tokens, the model's context is %zu", name, length,
                           c->n_ctx);
        if (f->cache && length > f->cache->capacity)
            return err_set(err, ERR_ARG, "prompt %s has %zu tokens, the cache holds %zu", name, length,
                           f->cache->capacity);
        for (size_t t = 0; t < prompt->n_tokens; t++)
            if (prompt->tokens[t] < 0 || (size_t)prompt->tokens[t] >= c->d_vocab)
                return err_set(err, ERR_ARG, "prompt %s: token id %d is outside the vocabulary of %zu", name,
                               (int)prompt->tokens[t], c->d_vocab);
        if (!size_add(s->rows, prompt->n_tokens, &s->rows))
            return err_nomem(err, "the batch");
        s->longest = length > s->longest ? length : s->longest;
    }
    /* A bound on every product in lay_out: 2^60 bytes cannot be had anyway. */
    double widest = (double)(c->n_heads * c->d_head + c->d_mlp + c->d_model);
    double edges = s->edges ? (double)c->n_heads * (double)s->longest * (double)s->longest : 0;
    if (16 * ((double)s->rows * widest + edges + (double)s->n_edits * (double)s->rows) > 0x1p60)
        return err_nomem(err, "the batch");
    return 0;
}

static int make_room(struct runtime *rt, size_t bytes, struct err *err)
{
    if (bytes <= rt->memory_bytes)
        return 0;
    free(rt->memory);
    rt->memory_bytes = 0;
    rt->memory = mem_aligned(bytes, 1);
    if (!rt->memory)
        return err_set(err, ERR_NOMEM, "out of memory: the batch needs %zu MiB of working memory", bytes >> 20);
    rt->memory_bytes = bytes;
    return 0;
}

static void plan_sites(struct pass *p)
{
    const struct model_config *c = &p->model->config;
    const struct forward *f = p->f;
    memset(p->b.touched, 0, N_SITES * c->n_layers);
    p->stop = 0;
    struct site_ref ref;
    for (size_t cursor = 0; f->reads && site_set_next(f->reads, &cursor, &ref);) {
        p->b.touched[ref.site * c->n_layers + ref.layer] |= TOUCH_READ;
        size_t order = site_order(ref.site, ref.layer, c->n_layers);
        p->stop = order > p->stop ? order : p->stop;
    }
    for (size_t i = 0; i < p->n_edits; i++) {
        const struct edit *e = &f->edits->edits[i];
        for (size_t l = e->first_layer; l <= e->last_layer; l++)
            p->b.touched[e->site * c->n_layers + l] |= TOUCH_EDIT;
    }
    /* The cache must hold every layer, also those that nothing reads. */
    size_t last_block = site_order(SITE_RESID_POST, c->n_layers - 1, c->n_layers);
    if (f->cache && p->stop < last_block)
        p->stop = last_block;
}

static int resolve_edits(struct pass *p, struct err *err)
{
    const struct forward *f = p->f;
    for (size_t e = 0; e < p->n_edits; e++) {
        struct row_edit *row = &p->b.edits[e];
        row->edit = &f->edits->edits[e];
        row->at = p->b.masks + 2 * e * p->n_rows;
        row->keys = row->at + p->n_rows;
        bool edges = site_row(row->edit->site)->axes == AXES_EDGES;
        for (size_t i = 0; i < f->n_prompts; i++) {
            const struct prompt *prompt = &f->prompts[i];
            size_t first = p->b.row_offset[i];
            int rc = positions_resolve(&row->edit->at, prompt->n_tokens, prompt->subject_begin, prompt->subject_end,
                                       row->at + first, NULL, err);
            if (!rc && edges)
                rc = positions_resolve(&row->edit->keys, prompt->n_tokens, prompt->subject_begin, prompt->subject_end,
                                       row->keys + first, NULL, err);
            if (rc)
                return err_prefix(err, "edit '%s' on prompt %s: ", row->edit->text, prompt->name ? prompt->name : "?");
        }
    }
    return 0;
}

static void index_rows(struct pass *p)
{
    const struct forward *f = p->f;
    size_t row = 0;
    for (size_t i = 0; i < f->n_prompts; i++) {
        p->b.row_offset[i] = row;
        for (size_t t = 0; t < f->prompts[i].n_tokens; t++)
            p->b.position[row++] = p->past + t;
    }
    p->b.row_offset[f->n_prompts] = row;
    size_t n = 0;
    for (row = 0; row < p->n_rows; row++)
        if (!f->final_rows || f->final_rows[row])
            p->b.final_rows[n++] = row;
    p->n_final = n;
}

/*
 * Cosines and sines for positions below n. The angle is rounded to float32
 * like the frequency: models were trained, and reference implementations run,
 * with float32 angles, which far into a context differ from exact ones by more
 * than 1e-5.
 */
static int make_rope(struct runtime *rt, size_t n, struct err *err)
{
    size_t half = rt->model->config.rotary_dims / 2, count;
    if (!half || n <= rt->rope_positions)
        return 0;
    n = n < 256 ? 256 : n;
    if (!size_mul(n, half, &count))
        return err_nomem(err, "the rotary table");
    free(rt->cosine);
    free(rt->sine);
    rt->rope_positions = 0;
    rt->cosine = mem_aligned(count, real_bytes(rt->precision));
    rt->sine = mem_aligned(count, real_bytes(rt->precision));
    if (!rt->cosine || !rt->sine)
        return err_nomem(err, "the rotary table");
    for (size_t i = 0; i < count; i++) {
        float angle = (float)(i / half) * (float)rt->model->rope_frequency[i % half];
        double cosine = cos((double)angle), sine = sin((double)angle);
        if (rt->precision == PRECISION_F64) {
            ((double *)rt->cosine)[i] = cosine;
            ((double *)rt->sine)[i] = sine;
        } else {
            ((float *)rt->cosine)[i] = (float)cosine;
            ((float *)rt->sine)[i] = (float)sine;
        }
    }
    rt->rope_positions = n;
    return 0;
}

int runtime_forward(struct runtime *rt, const struct forward *f, struct err *err)
{
    struct pass p = { .rt = rt, .model = rt->model, .f = f, .past = f->cache ? f->cache->n_tokens : 0 };
    const struct model_config *c = &rt->model->config;
    struct shape s = { .n_prompts = f->n_prompts };
    shape_flags(&s, c, f->reads, f->edits);
    if (p.past && s.edges)
        return err_set(err, ERR_UNSUPPORTED, "attention scores and patterns cannot be read or edited in a cached run");
    int rc = check_prompts(&p, &s, err);
    if (rc || !f->n_prompts)
        return rc;
    p.n_rows = s.rows;
    p.longest = s.longest;
    p.n_edits = s.n_edits;
    for (size_t row = 0; row < s.rows; row++)
        s.final_rows += !f->final_rows || f->final_rows[row];
    rc = make_room(rt, lay_out(&p.b, c, rt->precision, pool_threads(rt->pool), &s, NULL), err);
    if (rc || (rc = make_rope(rt, p.longest, err)))
        return rc;
    lay_out(&p.b, c, rt->precision, pool_threads(rt->pool), &s, rt->memory);
    index_rows(&p);
    plan_sites(&p);
    if ((rc = resolve_edits(&p, err)))
        return rc;
    rc = rt->precision == PRECISION_F64 ? forward_f64(&p, err) : forward_f32(&p, err);
    if (!rc && f->cache)
        f->cache->n_tokens += p.n_rows;
    return rc;
}

void runtime_final_norm(struct runtime *rt, const void *states, size_t n, void *out)
{
    if (rt->precision == PRECISION_F64)
        final_norm_f64(rt, states, n, out);
    else
        final_norm_f32(rt, states, n, out);
}

void runtime_unembed(struct runtime *rt, const void *normed, size_t n, size_t first, size_t n_vocab, void *logits,
                     int worker)
{
    char *scratch = rt->unembed_scratch;
    if (scratch)
        scratch += (size_t)worker * WIDEN_ROWS * rt->model->config.d_model * sizeof(double);
    if (rt->precision == PRECISION_F64)
        unembed_f64(rt, normed, n, first, n_vocab, logits, scratch);
    else
        unembed_f32(rt, normed, n, first, n_vocab, logits, scratch);
}

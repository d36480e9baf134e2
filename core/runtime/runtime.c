#include "core/runtime/runtime.h"

#include "core/base/mem.h"
#include "core/runtime/blas_check.h"
#include "core/runtime/gemm.h"
#include "core/runtime/internal.h"
#include "core/runtime/kernel_check.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int runtime_create(struct runtime **out, const struct model *model, struct pool *pool, enum precision precision,
                   struct err *err)
{
    /* The pool owns the threads; BLAS calls are one-threaded each (notes: twice as fast at middle sizes). */
    openblas_set_num_threads(1);
    int rc = blas_check(err);
    rc = rc ? rc : kernel_check(err);
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
    size_t d_model = model->config.d_model, d_embed = model->config.d_embed,
           widest = d_model > d_embed ? d_model : d_embed;
    size_t states = d_model + d_embed, f32 = (states + gemm_scratch(GEMM_ROWS, widest)) * sizeof(float);
    size_t f64 = (states + WIDEN_ROWS * widest) * sizeof(double);
    rt->head_scratch_bytes = (precision == PRECISION_F64 ? f64 : f32) / 64 * 64 + 64; /* aligned for each worker */
    rt->head_scratch = mem_aligned((size_t)pool_threads(pool), rt->head_scratch_bytes);
    if (!rt->head_scratch) {
        runtime_free(rt);
        return err_nomem(err, "the runtime");
    }
    *out = rt;
    return 0;
}

void runtime_free(struct runtime *rt)
{
    if (!rt)
        return;
    free(rt->memory);
    for (size_t i = 0; i < MAX_ROPES; i++) {
        free(rt->cosine[i]);
        free(rt->sine[i]);
    }
    free(rt->head_scratch);
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
    if (c->bidirectional)
        return err_set(err, ERR_UNSUPPORTED,
                       "%s is an encoder: every token sees all others, so that nothing can be generated after a prompt",
                       rt->model->architecture);
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

/* The batch's rows in order: every token of every prompt is active. */
static void index_rows(struct pass *p)
{
    size_t row = 0;
    for (size_t i = 0; i < p->n_sequences; i++) {
        struct sequence *s = &p->sequences[i];
        s->begin = s->first_row = row;
        for (size_t t = 0; t < s->prompt->n_tokens; t++, row++) {
            p->b.sequence[row] = i;
            p->b.token[row] = t;
        }
        s->end = row;
    }
}

/* Longrope rotates by one set of angles up to so many tokens and by another beyond; what is cached stays as it is. */
static int check_angles(const struct model *m, size_t past, size_t length, struct err *err)
{
    for (size_t i = 0; past && i < m->n_ropes; i++)
        if (past <= m->ropes[i].n_short && length > m->ropes[i].n_short)
            return err_set(
                err, ERR_UNSUPPORTED,
                "prompts of more than %zu tokens are rotated otherwise than the %zu in the cache: begin with "
                "a longer prompt, or go on no further than that",
                m->ropes[i].n_short, past);
    return 0;
}

static int check_prompts(struct pass *p, const struct forward *f, struct shape *s, struct err *err)
{
    if (f->cache && f->n_prompts != 1)
        return err_set(err, ERR_ARG, "a cached run takes one prompt, not %zu", f->n_prompts);
    for (size_t i = 0; i < f->n_prompts; i++) {
        const struct prompt *prompt = &f->prompts[i];
        int rc = pass_check_prompt(&p->model->config, prompt, p->past, err);
        if (rc)
            return rc;
        size_t length = prompt->n_tokens + p->past;
        if (f->cache && length > f->cache->capacity)
            return err_set(err, ERR_ARG, "prompt %s has %zu tokens, the cache holds %zu",
                           prompt->name ? prompt->name : "?", length, f->cache->capacity);
        if ((rc = check_angles(p->model, p->past, length, err)))
            return rc;
        if (!size_add(s->rows, prompt->n_tokens, &s->rows))
            return err_nomem(err, "the batch");
        p->longest = s->longest = length > s->longest ? length : s->longest;
    }
    return 0;
}

static int run_pass(struct pass *p, struct err *err)
{
    int rc = 0;
    index_rows(p);
    pass_plan_reads(p);
    for (size_t i = 0; !rc && i < p->n_sequences; i++)
        rc = pass_resolve_sequence(p, &p->sequences[i], err);
    if (!rc) {
        pass_mark_edits(p);
        rc = p->rt->precision == PRECISION_F64 ? forward_f64(p, err) : forward_f32(p, err);
    }
    for (size_t i = 0; i < p->n_sequences; i++)
        free(p->sequences[i].resolved);
    return rc;
}

static const struct edit_list *edits_of(const struct forward *f, size_t prompt)
{
    return f->prompt_edits ? f->prompt_edits[prompt] : f->edits;
}

int runtime_forward(struct runtime *rt, const struct forward *f, struct err *err)
{
    struct pass p = {
        .rt = rt,
        .model = rt->model,
        .reads = f->reads,
        .sink = f->sink,
        .cache = f->cache,
        .read_rows = f->read_rows,
        .final_rows = f->final_rows,
        .source = f->source,
        .source_prompts = f->source_prompts,
        .past = f->cache ? f->cache->n_tokens : 0,
        .n_sequences = f->n_prompts,
        .whole = true,
    };
    struct shape s = { 0 };
    pass_shape_flags(&s, &rt->model->config, f->reads);
    bool edits_edges = false;
    for (size_t i = 0; i < f->n_prompts; i++) {
        pass_shape_edits(&s, edits_of(f, i));
        edits_edges = edits_edges || pass_edits_edges(edits_of(f, i));
    }
    if (p.past && (s.edges || edits_edges))
        return err_set(err, ERR_UNSUPPORTED, "attention scores and patterns cannot be read or edited in a cached run");
    int rc = check_prompts(&p, f, &s, err);
    if (rc || !f->n_prompts)
        return rc;
    p.n_rows = s.rows;
    for (size_t row = 0; row < s.rows; row++)
        s.final_rows += !f->final_rows || f->final_rows[row];
    p.sequences = mem_zeroed(f->n_prompts, sizeof *p.sequences);
    if (!p.sequences)
        return err_nomem(err, "the batch");
    for (size_t i = 0; i < f->n_prompts; i++)
        p.sequences[i] =
            (struct sequence){ .prompt = &f->prompts[i], .edits = edits_of(f, i), .run = f->first_run + i };
    rc = pass_make_room(&p, &s, err);
    rc = rc ? rc : run_pass(&p, err);
    if (!rc && f->cache)
        f->cache->n_tokens += s.rows;
    free(p.sequences);
    return rc;
}

static void *head_scratch(const struct runtime *rt, int worker)
{
    return rt->head_scratch + (size_t)worker * rt->head_scratch_bytes;
}

void runtime_head_input(struct runtime *rt, const void *states, size_t n, void *out, int worker)
{
    if (rt->precision == PRECISION_F64)
        head_input_f64(rt, states, n, out, head_scratch(rt, worker));
    else
        head_input_f32(rt, states, n, out, head_scratch(rt, worker));
}

void runtime_unembed(struct runtime *rt, const void *inputs, size_t n, size_t first, size_t n_vocab, void *logits,
                     int worker)
{
    if (rt->precision == PRECISION_F64)
        unembed_f64(rt, inputs, n, first, n_vocab, logits, head_scratch(rt, worker));
    else
        unembed_f32(rt, inputs, n, first, n_vocab, logits, head_scratch(rt, worker));
}

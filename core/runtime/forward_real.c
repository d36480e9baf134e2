/*
 * The forward pass: one function for every architecture, which reads the
 * model's properties and never its name. Compiled for float and double.
 * Sites are visited in the order of SITES (sites.h).
 */
#include "core/runtime/internal_real.h"

#include <stdatomic.h>
#include <string.h>

/* Rows are shared among threads in chunks of this size for norms, activations and the like. */
enum { ROW_CHUNK = 16 };

struct row_job {
    struct pass *p;
    void (*step)(struct row_job *job, size_t row);
    size_t n_rows, layer;
    const struct norm_weights *norm;
    const real *in;
    real *out;
    atomic_bool *odd; /* set when a row holds NaN or Inf */
};

static void row_task(void *arg, size_t index, int worker)
{
    struct row_job *job = arg;
    (void)worker;
    size_t end = (index + 1) * ROW_CHUNK;
    for (size_t row = index * ROW_CHUNK; row < end && row < job->n_rows; row++)
        job->step(job, row);
}

static void for_rows(struct row_job job, void (*step)(struct row_job *job, size_t row))
{
    job.step = step;
    pool_run(job.p->rt->pool, (job.n_rows + ROW_CHUNK - 1) / ROW_CHUNK, row_task, &job);
}

/* --- norms --- */

static void stats_step(struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    const struct model_config *c = &p->model->config;
    kernels_of(p->rt)->norm_stats(job->in + row * c->d_model, c->d_model, c->norm, c->norm_eps, (real *)p->b.mean + row,
                                  (real *)p->b.scale + row);
}

static void normalize_step(struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    size_t d = p->model->config.d_model;
    kernels_of(p->rt)->normalize(job->in + row * d, d, ((real *)p->b.mean)[row], ((real *)p->b.scale)[row],
                                 job->out + row * d);
}

static void gain_step(struct row_job *job, size_t row)
{
    size_t d = job->p->model->config.d_model;
    real *x = job->out + row * d;
    kernels_of(job->p->rt)->gain_bias(x, job->norm->gain, job->norm->bias, d, x);
}

/* All three while the row is in cache. */
static void norm_step(struct row_job *job, size_t row)
{
    stats_step(job, row);
    normalize_step(job, row);
    gain_step(job, row);
}

/* out = norm(in) through the sites scale, normalized and out, which are consecutive in SITES. */
static int norm(struct pass *p, const struct norm_weights *w, enum site scale_site, size_t layer, const real *in,
                real *out, size_t n_rows, const size_t *rows, struct err *err)
{
    struct row_job job = { .p = p, .n_rows = n_rows, .norm = w, .in = in, .out = out };
    enum site normalized_site = scale_site + 1, out_site = scale_site + 2;
    if (!touched(p, scale_site, layer) && !touched(p, normalized_site, layer)) {
        for_rows(job, norm_step);
        return visit_rows(p, out_site, layer, out, 0, n_rows, rows, err);
    }
    for_rows(job, stats_step);
    int rc = visit_rows(p, scale_site, layer, p->b.scale, 0, n_rows, rows, err);
    if (rc)
        return rc;
    for_rows(job, normalize_step);
    if ((rc = visit_rows(p, normalized_site, layer, out, 0, n_rows, rows, err)))
        return rc;
    for_rows(job, gain_step);
    return visit_rows(p, out_site, layer, out, 0, n_rows, rows, err);
}

/* --- embedding --- */

static int embed(struct pass *p, struct err *err)
{
    const struct model *m = p->model;
    size_t d = m->config.d_model;
    real *x = p->b.resid, *positions = p->b.normed;
    for (size_t row = 0; row < p->n_rows; row++) {
        const struct prompt *prompt = p->sequences[p->b.sequence[row]].prompt;
        const float *e = m->embed + (size_t)prompt->tokens[p->b.token[row]] * d;
        for (size_t j = 0; j < d; j++)
            x[row * d + j] = (real)e[j];
    }
    int rc = visit_rows(p, SITE_EMBED, 0, x, 0, p->n_rows, NULL, err);
    if (rc || p->finished || !m->pos_embed)
        return rc;
    for (size_t row = 0; row < p->n_rows; row++)
        for (size_t j = 0; j < d; j++)
            positions[row * d + j] = (real)m->pos_embed[(p->past + p->b.token[row]) * d + j];
    if ((rc = visit_rows(p, SITE_POS_EMBED, 0, positions, 0, p->n_rows, NULL, err)))
        return rc;
    kernels_of(p->rt)->add(x, positions, p->n_rows * d, x);
    return 0;
}

/* --- the two sublayers --- */

static void rotate_heads(const struct pass *p, real *x, size_t n_heads, size_t row)
{
    const struct model_config *c = &p->model->config;
    size_t half = c->rotary_dims / 2, at = (p->past + p->b.token[row]) * half;
    for (size_t h = 0; h < n_heads; h++)
        kernels_of(p->rt)->rotate(x + (row * n_heads + h) * c->d_head, (real *)p->rt->cosine + at,
                                  (real *)p->rt->sine + at, half);
}

static void rotate_step(struct row_job *job, size_t row)
{
    const struct model_config *c = &job->p->model->config;
    rotate_heads(job->p, job->p->b.q, c->n_heads, row);
    rotate_heads(job->p, job->p->b.k, c->n_kv_heads, row);
}

static int project(struct pass *p, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    size_t d = c->d_model, query = c->n_heads * c->d_head, key = c->n_kv_heads * c->d_head, n = p->n_rows;
    const struct product qkv[] = {
        { &w->q, w->q_bias, p->b.q, query },
        { &w->k, w->k_bias, p->b.k, key },
        { &w->v, w->v_bias, p->b.v, key },
    };
    matmuls(p, qkv, 3, p->b.normed, d, n);
    int rc = visit_rows(p, SITE_Q, l, p->b.q, 0, n, NULL, err);
    if (rc || (rc = visit_rows(p, SITE_K, l, p->b.k, 0, n, NULL, err)) ||
        (rc = visit_rows(p, SITE_V, l, p->b.v, 0, n, NULL, err)))
        return rc;
    if (c->position == POSITION_ROTARY) {
        for_rows((struct row_job){ .p = p, .n_rows = n }, rotate_step);
        if ((rc = visit_rows(p, SITE_ROT_Q, l, p->b.q, 0, n, NULL, err)) ||
            (rc = visit_rows(p, SITE_ROT_K, l, p->b.k, 0, n, NULL, err)))
            return rc;
    }
    struct kv_cache *cache = p->cache;
    if (cache) {
        size_t at = (l * cache->capacity + p->past) * key;
        memcpy((real *)cache->k + at, p->b.k, n * key * sizeof(real));
        memcpy((real *)cache->v + at, p->b.v, n * key * sizeof(real));
    }
    return 0;
}

/* b.result[rows, heads, d_model] = z W_O head by head, for at most CHUNK_ROWS rows from `first`. */
static void head_results(struct pass *p, size_t l, size_t first, size_t n)
{
    const struct model_config *c = &p->model->config;
    const struct matrix *o = &p->model->layers[l].o;
    for (size_t h = 0; h < c->n_heads; h++) {
        struct matrix head = *o;
        head.n_in = c->d_head;
        head.data += h * c->d_head * (o->in_major ? o->stride : 1);
        matmul(p, &head, NULL, (real *)p->b.z + (first * c->n_heads + h) * c->d_head, c->n_heads * c->d_head, n,
               (real *)p->b.result + h * c->d_model, c->n_heads * c->d_model);
    }
}

/* attn_out of the rows at hand as the sum of (edited) head results, plus the output bias. */
static void sum_results(struct pass *p, size_t l, size_t first, size_t n)
{
    const struct model_config *c = &p->model->config;
    const float *bias = p->model->layers[l].o_bias;
    size_t d = c->d_model;
    for (size_t r = 0; r < n; r++) {
        real *out = (real *)p->b.delta + (first + r) * d;
        const real *heads = (const real *)p->b.result + r * c->n_heads * d;
        memcpy(out, heads, d * sizeof *out);
        for (size_t h = 1; h < c->n_heads; h++)
            kernels_of(p->rt)->add(out, heads + h * d, d, out);
        if (bias)
            kernels_of(p->rt)->add_bias(out, bias, d);
    }
}

static int attention_output(struct pass *p, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    unsigned result = touched(p, SITE_RESULT, l);
    int rc = 0;
    matmul(p, &w->o, w->o_bias, p->b.z, c->n_heads * c->d_head, p->n_rows, p->b.delta, c->d_model);
    for (size_t first = 0; result && first < p->n_rows; first += CHUNK_ROWS) {
        size_t n = p->n_rows - first < CHUNK_ROWS ? p->n_rows - first : CHUNK_ROWS;
        head_results(p, l, first, n);
        if ((rc = visit_rows(p, SITE_RESULT, l, p->b.result, first, n, NULL, err)))
            return rc;
        if (result & TOUCH_EDIT)
            sum_results(p, l, first, n);
    }
    return visit_rows(p, SITE_ATTN_OUT, l, p->b.delta, 0, p->n_rows, NULL, err);
}

static void activate_step(struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    const struct model_config *c = &p->model->config;
    real *pre = (real *)p->b.pre + row * c->d_mlp;
    kernels_of(p->rt)->activate(c->activation, pre, c->gated_mlp ? (real *)p->b.linear + row * c->d_mlp : NULL,
                                c->d_mlp, pre);
}

static int mlp(struct pass *p, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    size_t d = c->d_model, m = c->d_mlp, n = p->n_rows;
    int rc;
    const struct product gate_up[] = {
        { &w->gate, w->gate_bias, p->b.pre, m },
        { &w->up, w->up_bias, c->gated_mlp ? p->b.linear : p->b.pre, m },
    };
    matmuls(p, c->gated_mlp ? gate_up : gate_up + 1, c->gated_mlp ? 2 : 1, p->b.normed, d, n);
    if ((rc = visit_rows(p, SITE_MLP_PRE, l, p->b.pre, 0, n, NULL, err)))
        return rc;
    if (c->gated_mlp && (rc = visit_rows(p, SITE_MLP_PRE_LINEAR, l, p->b.linear, 0, n, NULL, err)))
        return rc;
    for_rows((struct row_job){ .p = p, .n_rows = n }, activate_step);
    if ((rc = visit_rows(p, SITE_MLP_POST, l, p->b.pre, 0, n, NULL, err)) || p->finished)
        return rc;
    matmul(p, &w->down, w->down_bias, p->b.pre, m, n, p->b.delta, d);
    return visit_rows(p, SITE_MLP_OUT, l, p->b.delta, 0, n, NULL, err);
}

static void add_step(struct row_job *job, size_t row)
{
    const struct REAL_NAME(kernels) *k = kernels_of(job->p->rt);
    size_t d = job->p->model->config.d_model;
    if (!k->all_finite(job->in + row * d, d))
        atomic_store_explicit(job->odd, true, memory_order_relaxed);
    k->add(job->out + row * d, job->in + row * d, d, job->out + row * d);
}

/* resid += delta, which the sublayer's output site holds and which must be finite. */
static int add_to_stream(struct pass *p, enum site site, size_t layer, struct err *err)
{
    atomic_bool odd = false;
    for_rows((struct row_job){ .p = p, .n_rows = p->n_rows, .in = p->b.delta, .out = p->b.resid, .odd = &odd },
             add_step);
    return odd ? check_finite(p, site, layer, p->b.delta, p->model->config.d_model, 0, p->n_rows, NULL, err) : 0;
}

static int block(struct pass *p, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    size_t n = p->n_rows;
    real *x = p->b.resid;
    int rc = visit_rows(p, SITE_RESID_PRE, l, x, 0, n, NULL, err);
    if (rc || p->finished)
        return rc;
    if ((rc = norm(p, &w->ln1, SITE_LN1_SCALE, l, x, p->b.normed, n, NULL, err)) || p->finished)
        return rc;
    if ((rc = project(p, l, err)) || p->finished)
        return rc;
    keep_key_rows(p);
    if (l == p->last_layer)
        narrow_rows(p);
    n = p->n_rows;
    if ((rc = attend(p, l, err)))
        return rc;
    if ((rc = visit_rows(p, SITE_Z, l, p->b.z, 0, n, NULL, err)) || p->finished)
        return rc;
    if ((rc = attention_output(p, l, err)) || p->finished || (rc = add_to_stream(p, SITE_ATTN_OUT, l, err)))
        return rc;
    if ((rc = visit_rows(p, SITE_RESID_MID, l, x, 0, n, NULL, err)) || p->finished)
        return rc;
    if ((rc = norm(p, &w->ln2, SITE_LN2_SCALE, l, x, p->b.normed, n, NULL, err)) || p->finished)
        return rc;
    if ((rc = mlp(p, l, err)) || p->finished || (rc = add_to_stream(p, SITE_MLP_OUT, l, err)))
        return rc;
    return visit_rows(p, SITE_RESID_POST, l, x, 0, n, NULL, err);
}

/* Final norm and logits of the rows that are wanted, logits a chunk of rows at a time. */
static int finish(struct pass *p, struct err *err)
{
    const struct model *m = p->model;
    size_t d = m->config.d_model, n_vocab = m->config.d_vocab;
    const size_t *rows = p->b.final_rows;
    real *x = p->b.final;
    int rc;
    p->n_final = 0;
    for (size_t row = 0; row < p->n_rows; row++)
        if (!p->final_rows || p->final_rows[batch_row(p, row)])
            p->b.final_rows[p->n_final++] = row;
    for (size_t r = 0; r < p->n_final; r++)
        memcpy(x + r * d, (real *)p->b.resid + rows[r] * d, d * sizeof *x);
    if ((rc = norm(p, &m->ln_final, SITE_LN_FINAL_SCALE, 0, x, x, p->n_final, rows, err)) || p->finished)
        return rc;
    for (size_t first = 0; first < p->n_final; first += CHUNK_ROWS) {
        size_t n = p->n_final - first < CHUNK_ROWS ? p->n_final - first : CHUNK_ROWS;
        matmul(p, &m->unembed, m->unembed_bias, x + first * d, d, n, p->b.logits, n_vocab);
        if ((rc = visit_rows(p, SITE_LOGITS, 0, p->b.logits, first, n, rows + first, err)))
            return rc;
    }
    return 0;
}

int REAL_NAME(forward)(struct pass *p, struct err *err)
{
    int rc = p->n_rows ? embed(p, err) : 0;
    for (size_t l = 0; !rc && !p->finished && l < p->model->config.n_layers; l++) {
        activate_rows(p, l);
        if (p->n_rows)
            rc = block(p, l, err);
    }
    return rc || p->finished || !p->n_rows ? rc : finish(p, err);
}

void REAL_NAME(final_norm)(struct runtime *rt, const real *states, size_t n, real *out)
{
    const struct model *m = rt->model;
    const struct model_config *c = &m->config;
    const struct REAL_NAME(kernels) *k = kernels_of(rt);
    for (size_t i = 0; i < n; i++) {
        real mean, scale, *y = out + i * c->d_model;
        k->norm_stats(states + i * c->d_model, c->d_model, c->norm, c->norm_eps, &mean, &scale);
        k->normalize(states + i * c->d_model, c->d_model, mean, scale, y);
        k->gain_bias(y, m->ln_final.gain, m->ln_final.bias, c->d_model, y);
    }
}

/*
 * The forward pass: one function for every architecture, which reads the
 * model's properties and never its name. Compiled for float and double.
 * Sites are visited in the order of SITES (sites.h).
 */
#include "core/runtime/internal_real.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

static void scale_step(const struct row_job *job, size_t row)
{
    real *x = job->out + row * job->width;
    for (size_t i = 0; i < job->width; i++)
        x[i] *= job->factor;
}

static void scale_rows(struct pass *p, real *x, size_t width, double factor)
{
    if (factor != 1)
        for_rows((struct row_job){ .p = p, .n_rows = p->n_rows, .width = width, .out = x, .factor = (real)factor },
                 scale_step);
}

/* --- embedding --- */

/* out[rows, width] = a row of the table for each active row: its token's, its position's, or row 0. */
enum table { TOKENS, POSITIONS, TYPES };
static void look_up(struct pass *p, enum table which, const float *table, size_t width, real *out)
{
    for (size_t row = 0; row < p->n_rows; row++) {
        const struct prompt *prompt = p->sequences[p->b.sequence[row]].prompt;
        size_t token = p->b.token[row], at = 0;
        if (which == TOKENS)
            at = (size_t)prompt->tokens[token];
        else if (which == POSITIONS)
            at = p->past + token + p->model->config.position_offset;
        for (size_t j = 0; j < width; j++)
            out[row * width + j] = (real)table[at * width + j];
    }
}

static int add_table(struct pass *p, enum table which, const float *table, enum site site, size_t width,
                     struct err *err)
{
    real *x = p->b.resid, *more = p->b.normed;
    if (!table || p->finished)
        return 0;
    look_up(p, which, table, width, more);
    int rc = visit_rows(p, site, 0, more, 0, p->n_rows, NULL, err);
    if (!rc)
        kernels_of(p->rt)->add(x, more, p->n_rows * width, x);
    return rc;
}

static void project_in(struct pass *p, const real *x)
{
    const struct model *m = p->model;
    matmul(p, &m->project_in, m->project_in_bias, x, m->config.d_embed, p->n_rows, p->b.resid, m->config.d_model);
}

static int embed(struct pass *p, struct err *err)
{
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    size_t width = model_embed_width(c);
    bool sum = model_embeds_a_sum(c), projected = m->project_in.data, last = projected && c->embed_norm;
    real *x = p->b.resid;
    if (projected && !last) {
        look_up(p, TOKENS, m->embed, c->d_embed, p->b.normed);
        project_in(p, p->b.normed);
    } else
        look_up(p, TOKENS, m->embed, width, x);
    scale_rows(p, x, width, c->embed_scale);
    if (c->embed_norm && !sum)
        norm_rows(p, &m->embed_norm, x, x, width, p->n_rows);
    int rc = visit_rows(p, SITE_EMBED, 0, x, 0, p->n_rows, NULL, err);
    rc = rc ? rc : add_table(p, POSITIONS, m->pos_embed, SITE_POS_EMBED, width, err);
    rc = rc ? rc : add_table(p, TYPES, m->type_embed, SITE_TYPE_EMBED, width, err);
    if (rc || p->finished)
        return rc;
    if (c->embed_norm && sum)
        norm_rows(p, &m->embed_norm, x, x, width, p->n_rows);
    if (last) {
        memcpy(p->b.normed, x, p->n_rows * width * sizeof *x);
        project_in(p, p->b.normed);
    }
    return c->embed_norm && sum ? visit_rows(p, SITE_FULL_EMBED, 0, x, 0, p->n_rows, NULL, err) : 0;
}

/* --- attention --- */

static void clip_step(const struct row_job *job, size_t row)
{
    real *x = job->out + row * job->width;
    for (size_t i = 0; i < job->width; i++)
        x[i] = x[i] > job->factor ? job->factor : x[i] < -job->factor ? -job->factor : x[i];
}

/* The norm of a row's queries or keys: head by head, or of all heads at once. */
static void norm_heads_step(const struct row_job *job, size_t row)
{
    const struct pass *p = job->p;
    const struct model_config *c = &p->model->config;
    const struct REAL_NAME(kernels) *k = kernels_of(p->rt);
    size_t n = c->qk_norm_whole ? job->width : c->d_head;
    for (size_t at = 0; at < job->width; at += n) {
        real mean, scale, *x = job->out + row * job->width + at;
        size_t gain = c->qk_gain_shared ? 0 : at;
        k->norm_stats(x, n, c->norm, c->norm_eps, &mean, &scale);
        k->normalize(x, n, mean, scale, x);
        k->gain_bias(x, job->norm->gain + gain, job->norm->bias ? job->norm->bias + gain : NULL, n, x);
    }
}

static void rotate_heads(const struct pass *p, size_t rope, real *x, size_t n_heads, size_t row)
{
    const struct model_config *c = &p->model->config;
    const struct rope *r = &p->model->ropes[rope];
    size_t half = c->rotary_dims / 2, at = (p->past + p->b.token[row]) * half;
    if (p->past + p->sequences[p->b.sequence[row]].prompt->n_tokens > r->n_short)
        rope = r->longer;
    const real *cosine = (const real *)p->rt->cosine[rope] + at, *sine = (const real *)p->rt->sine[rope] + at;
    for (size_t h = 0; h < n_heads; h++) {
        real *head = x + (row * n_heads + h) * c->d_head;
        if (c->rotary_pairs)
            kernels_of(p->rt)->rotate_pairs(head, cosine, sine, half);
        else
            kernels_of(p->rt)->rotate(head, cosine, sine, half);
    }
}

static void rotate_step(const struct row_job *job, size_t row)
{
    const struct model_config *c = &job->p->model->config;
    rotate_heads(job->p, job->rope, job->p->b.q, c->n_heads, row);
    rotate_heads(job->p, job->rope, job->p->b.k, c->n_kv_heads, row);
}

static void clip(struct pass *p, real *x, size_t width)
{
    double limit = p->model->config.qkv_clip;
    if (limit > 0)
        for_rows((struct row_job){ .p = p, .n_rows = p->n_rows, .width = width, .out = x, .factor = (real)limit },
                 clip_step);
}

/* Norms and rotary angles of queries and keys. */
static int turn(struct pass *p, size_t l, size_t query, size_t key, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    struct row_job job = { .p = p, .n_rows = p->n_rows };
    if (c->qk_norm) {
        struct row_job q = job, k = job;
        q.width = query, q.out = p->b.q, q.norm = &w->q_norm;
        k.width = key, k.out = p->b.k, k.norm = &w->k_norm;
        for_rows(q, norm_heads_step);
        for_rows(k, norm_heads_step);
    }
    if (c->position != POSITION_ROTARY)
        return 0;
    job.rope = w->rope;
    if (w->rope != NO_ROPE)
        for_rows(job, rotate_step);
    int rc = visit_rows(p, SITE_ROT_Q, l, p->b.q, 0, p->n_rows, NULL, err);
    return rc ? rc : visit_rows(p, SITE_ROT_K, l, p->b.k, 0, p->n_rows, NULL, err);
}

static int project(struct pass *p, const real *x, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    const struct model_config *c = &p->model->config;
    size_t query = c->n_heads * c->d_head, key = c->n_kv_heads * c->d_head, n = p->n_rows;
    const struct product qkv[] = {
        { &w->q, w->q_bias, p->b.q, query },
        { &w->k, w->k_bias, p->b.k, key },
        { &w->v, w->v_bias, p->b.v, key },
    };
    matmuls(p, qkv, 3, x, c->d_model, n);
    clip(p, p->b.q, query);
    clip(p, p->b.k, key);
    clip(p, p->b.v, key);
    int rc = visit_rows(p, SITE_Q, l, p->b.q, 0, n, NULL, err);
    if (rc || (rc = visit_rows(p, SITE_K, l, p->b.k, 0, n, NULL, err)) ||
        (rc = visit_rows(p, SITE_V, l, p->b.v, 0, n, NULL, err)) || (rc = turn(p, l, query, key, err)))
        return rc;
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
    return sublayer_output(p, l, &attention_out, err);
}

/* --- blocks --- */

const struct sublayer attention_out = { SITE_ATTN_RAW, SITE_LN1_POST_SCALE, SITE_ATTN_OUT };
const struct sublayer mlp_output = { SITE_MLP_RAW, SITE_LN2_POST_SCALE, SITE_MLP_OUT };

int sublayer_output(struct pass *p, size_t l, const struct sublayer *s, struct err *err)
{
    const struct model_config *c = &p->model->config;
    const struct layer *w = &p->model->layers[l];
    real *delta = p->b.delta;
    if (!c->sublayer_norms) {
        scale_rows(p, delta, c->d_model, c->residual_scale);
        return visit_rows(p, s->out, l, delta, 0, p->n_rows, NULL, err);
    }
    int rc = visit_rows(p, s->raw, l, delta, 0, p->n_rows, NULL, err);
    const struct norm_weights *norm_after = s->out == SITE_ATTN_OUT ? &w->ln1_post : &w->ln2_post;
    return rc || p->finished
               ? rc
               : hooked_norm(p, norm_after, s->post_scale, l, delta, delta, c->d_model, p->n_rows, NULL, err);
}

static void add_step(const struct row_job *job, size_t row)
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

static int attention(struct pass *p, size_t l, struct err *err)
{
    const struct model_config *c = &p->model->config;
    const struct layer *w = &p->model->layers[l];
    const real *x = p->b.resid;
    int rc;
    if (c->block != BLOCK_POST && c->ln1) {
        x = p->b.normed;
        if ((rc = hooked_norm(p, &w->ln1, SITE_LN1_SCALE, l, p->b.resid, p->b.normed, c->d_model, p->n_rows, NULL,
                              err)) ||
            p->finished)
            return rc;
    }
    if ((rc = project(p, x, l, err)) || p->finished)
        return rc;
    keep_key_rows(p);
    if (l == p->last_layer)
        narrow_rows(p);
    if (c->position == POSITION_RELATIVE)
        project_distances(p, l);
    if ((rc = attend(p, l, err)))
        return rc;
    if ((rc = visit_rows(p, SITE_Z, l, p->b.z, 0, p->n_rows, NULL, err)) || p->finished)
        return rc;
    return attention_output(p, l, err);
}

/* x += attn(ln1 x), then x += hooked_mlp(ln2 x); in a parallel block both read the same x. */
static int pre_norm_block(struct pass *p, size_t l, struct err *err)
{
    const struct model_config *c = &p->model->config;
    const struct layer *w = &p->model->layers[l];
    real *x = p->b.resid, *in = c->ln2 ? p->b.normed : c->block == BLOCK_PARALLEL && c->ln1 ? p->b.normed : x;
    bool parallel = c->block == BLOCK_PARALLEL;
    int rc;
    if (!parallel && ((rc = add_to_stream(p, SITE_ATTN_OUT, l, err)) ||
                      (rc = visit_rows(p, SITE_RESID_MID, l, x, 0, p->n_rows, NULL, err)) || p->finished))
        return rc;
    if (c->ln2 &&
        ((rc = hooked_norm(p, &w->ln2, SITE_LN2_SCALE, l, x, in, c->d_model, p->n_rows, NULL, err)) || p->finished))
        return rc;
    if (parallel && (rc = add_to_stream(p, SITE_ATTN_OUT, l, err)))
        return rc;
    if ((rc = hooked_mlp(p, in, l, err)) || p->finished || (rc = add_to_stream(p, SITE_MLP_OUT, l, err)))
        return rc;
    return visit_rows(p, SITE_RESID_POST, l, x, 0, p->n_rows, NULL, err);
}

/* x = ln1(x + attn x), then x = ln2(x + mlp x). */
static int post_norm_block(struct pass *p, size_t l, struct err *err)
{
    const struct layer *w = &p->model->layers[l];
    size_t d = p->model->config.d_model, n = p->n_rows;
    real *x = p->b.resid;
    int rc;
    if ((rc = add_to_stream(p, SITE_ATTN_OUT, l, err)) || (rc = visit_rows(p, SITE_RESID_MID, l, x, 0, n, NULL, err)) ||
        p->finished || (rc = hooked_norm(p, &w->ln1, SITE_POST_LN1_SCALE, l, x, x, d, n, NULL, err)) || p->finished)
        return rc;
    if ((rc = hooked_mlp(p, x, l, err)) || p->finished || (rc = add_to_stream(p, SITE_MLP_OUT, l, err)) ||
        (rc = visit_rows(p, SITE_RESID_POST, l, x, 0, n, NULL, err)) || p->finished)
        return rc;
    return hooked_norm(p, &w->ln2, SITE_POST_LN2_SCALE, l, x, x, d, n, NULL, err);
}

static int block(struct pass *p, size_t l, struct err *err)
{
    int rc = visit_rows(p, SITE_RESID_PRE, l, p->b.resid, 0, p->n_rows, NULL, err);
    if (rc || p->finished || (rc = attention(p, l, err)) || p->finished)
        return rc;
    return p->model->config.block == BLOCK_POST ? post_norm_block(p, l, err) : pre_norm_block(p, l, err);
}

/* --- head --- */

static void activate_head_step(const struct row_job *job, size_t row)
{
    real *x = job->out + row * job->width;
    kernels_of(job->p->rt)->activate(job->p->model->config.head_activation, x, NULL, job->width, x);
}

/* Masked-LM head, or a projection to the embedding's width. *x moves to what the unembedding reads. */
static int transform_head(struct pass *p, real **x, const size_t *rows, struct err *err)
{
    const struct model *m = p->model;
    size_t width = m->config.d_embed;
    real *out = p->b.head;
    if (!m->head.dense.data)
        return 0;
    matmul(p, &m->head.dense, m->head.bias, *x, m->config.d_model, p->n_final, out, width);
    *x = out;
    if (!m->config.head_transform)
        return 0;
    for_rows((struct row_job){ .p = p, .n_rows = p->n_final, .width = width, .out = out }, activate_head_step);
    return hooked_norm(p, &m->head.norm, SITE_MLM_SCALE, 0, out, out, width, p->n_final, rows, err);
}

static void finish_logits_step(const struct row_job *job, size_t row)
{
    finish_logits(&job->p->model->config, job->out + row * job->width, job->width);
}

/* Final norm and logits of the rows that are wanted, logits a chunk of rows at a time. */
static int finish(struct pass *p, struct err *err)
{
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    size_t d = c->d_model, n_vocab = c->d_vocab;
    const size_t *rows = p->b.final_rows;
    real *x = p->b.final;
    int rc;
    p->n_final = 0;
    for (size_t row = 0; row < p->n_rows; row++)
        if (!p->final_rows || p->final_rows[batch_row(p, row)])
            p->b.final_rows[p->n_final++] = row;
    for (size_t r = 0; r < p->n_final; r++)
        memcpy(x + r * d, (real *)p->b.resid + rows[r] * d, d * sizeof *x);
    if (c->final_norm &&
        ((rc = hooked_norm(p, &m->ln_final, SITE_LN_FINAL_SCALE, 0, x, x, d, p->n_final, rows, err)) || p->finished))
        return rc;
    if (!c->unembedding || (rc = transform_head(p, &x, rows, err)) || p->finished)
        return c->unembedding ? rc : 0;
    for (size_t first = 0; first < p->n_final; first += CHUNK_ROWS) {
        size_t n = p->n_final - first < CHUNK_ROWS ? p->n_final - first : CHUNK_ROWS;
        matmul(p, &m->unembed, m->unembed_bias, x + first * c->d_embed, c->d_embed, n, p->b.logits, n_vocab);
        if (has_finishing(c))
            for_rows((struct row_job){ .p = p, .n_rows = n, .width = n_vocab, .out = p->b.logits }, finish_logits_step);
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
        if (p->n_rows && !(rc = model_use_layer(p->model, l, err)))
            rc = block(p, l, err);
    }
    return rc || p->finished || !p->n_rows ? rc : finish(p, err);
}

/* One state after another, since threads of their own call this. */
void REAL_NAME(head_input)(struct runtime *rt, const real *states, size_t n, real *out, void *scratch)
{
    const struct model *m = rt->model;
    const struct model_config *c = &m->config;
    const struct REAL_NAME(kernels) *k = kernels_of(rt);
    real mean, scale, *x = scratch, *y = x + c->d_model;
    for (size_t i = 0; i < n; i++, out += c->d_embed) {
        memcpy(x, states + i * c->d_model, c->d_model * sizeof *x);
        if (c->final_norm) {
            k->norm_stats(x, c->d_model, c->norm, c->norm_eps, &mean, &scale);
            k->normalize(x, c->d_model, mean, scale, x);
            if (m->ln_final.gain)
                k->gain_bias(x, m->ln_final.gain, m->ln_final.bias, c->d_model, x);
        }
        if (!m->head.dense.data) {
            memcpy(out, x, c->d_model * sizeof *x);
            continue;
        }
        matmul_part(&m->head.dense, m->head.bias, x, c->d_model, 1, 0, c->d_embed, y, c->d_embed, y + c->d_embed);
        if (c->head_transform) {
            k->activate(c->head_activation, y, NULL, c->d_embed, y);
            k->norm_stats(y, c->d_embed, c->norm, c->norm_eps, &mean, &scale);
            k->normalize(y, c->d_embed, mean, scale, y);
            k->gain_bias(y, m->head.norm.gain, m->head.norm.bias, c->d_embed, y);
        }
        memcpy(out, y, c->d_embed * sizeof *y);
    }
}

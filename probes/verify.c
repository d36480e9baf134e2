#include "probes/verify.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "core/runtime/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* fp32 against fp64 (design section 7), and identities that involve a product with weights. */
static const double limit_products = 1e-5;
/* Identities that are one addition or copy: a rounding of fp32, 6e-8, with room for fused rounding. */
static const double limit_sums = 1e-6;

struct check {
    const struct model *m;
    struct collector f32, f64;
    size_t n_rows;
    const struct prompt *prompts;
    size_t n_prompts;
    struct verify_report *report;
};

/* Accumulates ||a - b||^2 and ||b||^2. */
struct error {
    double difference, size;
};

static void error_add(struct error *e, double a, double b)
{
    if (a == b)
        b = isfinite(b) ? b : 0; /* two -inf of a masked edge are equal */
    else
        e->difference += (a - b) * (a - b);
    e->size += b * b;
}

static double error_relative(const struct error *e)
{
    if (e->difference == 0)
        return 0;
    return isnan(e->difference) ? INFINITY : sqrt(e->difference / (e->size > 0 ? e->size : 1));
}

static int add_row(struct verify_report *r, const char *name, bool identity, double limit, double worst, size_t layer,
                   struct err *err)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->rows[i].name, name)) {
            if (worst > r->rows[i].worst)
                r->rows[i].worst = worst, r->rows[i].layer = layer;
            return 0;
        }
    if (!mem_grow(&r->rows, &r->capacity, r->n + 1, sizeof *r->rows))
        return err_nomem(err, "the report");
    struct verify_row *row = &r->rows[r->n++];
    *row = (struct verify_row){ .identity = identity, .worst = worst, .limit = limit, .layer = layer };
    snprintf(row->name, sizeof row->name, "%s", name);
    return 0;
}

static const float *rows_of(const struct check *c, enum site site, size_t layer)
{
    return collector_rows(&c->f32, site, layer);
}

/* --- identities --- */

/* The n terms add up to sum; of one, it is a copy. */
static int check_sum(struct check *c, const char *name, const float *const *terms, size_t n, const float *sum,
                     size_t layer, struct err *err)
{
    struct error e = { 0, 0 };
    for (size_t i = 0; i < c->n_rows * c->m->config.d_model; i++) {
        double own = 0;
        for (size_t t = 0; t < n; t++)
            own += (double)terms[t][i];
        error_add(&e, own, (double)sum[i]);
    }
    return add_row(c->report, name, true, limit_sums, error_relative(&e), layer, err);
}

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

/* factor (x W^T + bias) = y by the naive double loop. */
static double product_error(const struct matrix *w, const float *bias, double factor, const float *x, const float *y,
                            size_t n_rows)
{
    struct error e = { 0, 0 };
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < w->n_out; o++) {
            double sum = bias ? (double)bias[o] : 0;
            for (size_t i = 0; i < w->n_in; i++)
                sum += weight(w, o, i) * (double)x[r * w->n_in + i];
            error_add(&e, (double)y[r * w->n_out + o], factor * sum);
        }
    return error_relative(&e);
}

/* Row r of x[n, d_model] normalised in double, with gain and bias. */
static void normalise(const struct check *c, const struct norm_weights *w, const float *x, size_t r, double *out)
{
    const struct model_config *config = &c->m->config;
    size_t d = config->d_model;
    double mean, scale;
    collector_widen(x, PRECISION_F32, r * d, d, out);
    kernels_f64()->norm_stats(out, d, config->norm, config->norm_eps, &mean, &scale);
    kernels_f64()->normalize(out, d, mean, scale, out);
    if (w->gain)
        kernels_f64()->gain_bias(out, w->gain, w->bias, d, out);
}

/* norm(x) = y, where a sublayer's output is normalised before it is added. */
static int check_norm(struct check *c, const char *name, const struct norm_weights *w, enum site x, enum site y,
                      size_t layer, struct err *err)
{
    size_t d = c->m->config.d_model;
    double *own = mem_array(d, sizeof *own);
    if (!own)
        return err_nomem(err, "the check of a norm");
    struct error e = { 0, 0 };
    for (size_t r = 0; r < c->n_rows; r++) {
        normalise(c, w, rows_of(c, x, layer), r, own);
        for (size_t i = 0; i < d; i++)
            error_add(&e, (double)rows_of(c, y, layer)[r * d + i], own[i]);
    }
    free(own);
    return add_row(c->report, name, true, limit_products, error_relative(&e), layer, err);
}

/* Keys that a query sees: half open. */
static void seen_by(const struct check *c, size_t layer, size_t query, size_t n, size_t *first, size_t *end)
{
    size_t window = c->m->layers[layer].window;
    *first = window && query + 1 > window ? query + 1 - window : 0;
    *end = !c->m->config.bidirectional ? query + 1 : window && query + window < n ? query + window : n;
}

static int check_pattern(struct check *c, size_t layer, struct err *err)
{
    size_t n_heads = c->m->config.n_heads, first, end;
    double off = 0;
    for (size_t p = 0; p < c->n_prompts; p++) {
        size_t n = c->prompts[p].n_tokens;
        const float *pattern = collector_edges(&c->f32, SITE_PATTERN, layer, p);
        for (size_t row = 0; row < n_heads * n; row++) {
            double sum = 0;
            seen_by(c, layer, row % n, n, &first, &end);
            for (size_t key = 0; key < n; key++) {
                double x = (double)pattern[row * n + key];
                sum += x;
                if ((key < first || key >= end) && x != 0)
                    off = INFINITY;
            }
            off = fmax(off, fabs(sum - 1));
        }
    }
    return add_row(c->report, "pattern rows sum to 1, masked edges are 0", true, limit_sums, off, layer, err);
}

/* z = pattern v, with grouped heads */
static int check_mix(struct check *c, size_t layer, struct err *err)
{
    const struct model_config *config = &c->m->config;
    size_t d = config->d_head, per_group = config->n_heads / config->n_kv_heads;
    struct error e = { 0, 0 };
    for (size_t p = 0, first = 0; p < c->n_prompts; first += c->prompts[p++].n_tokens) {
        size_t n = c->prompts[p].n_tokens;
        const float *pattern = collector_edges(&c->f32, SITE_PATTERN, layer, p);
        const float *z = rows_of(c, SITE_Z, layer), *v = rows_of(c, SITE_V, layer);
        for (size_t row = 0; row < config->n_heads * n; row++) {
            size_t h = row / n, query = row % n;
            for (size_t i = 0; i < d; i++) {
                double sum = 0;
                for (size_t key = 0; key < n; key++)
                    sum += (double)pattern[row * n + key] *
                           (double)v[((first + key) * config->n_kv_heads + h / per_group) * d + i];
                error_add(&e, (double)z[((first + query) * config->n_heads + h) * d + i], sum);
            }
        }
    }
    return add_row(c->report, "pattern v = z", true, limit_products, error_relative(&e), layer, err);
}

/* A sublayer's identities end at what it returns: what is added, or what is normalised before that. */
static int add_output_row(struct check *c, const char *left, enum site out, double worst, size_t layer, struct err *err)
{
    bool scaled = !c->m->config.sublayer_norms && c->m->config.residual_scale != 1, attn = out == SITE_ATTN_OUT;
    char name[sizeof c->report->rows->name];
    snprintf(name, sizeof name, scaled ? "residual scale * (%s) = %s" : "%s = %s", left,
             !c->m->config.sublayer_norms ? (attn ? "attn_out" : "mlp_out")
             : attn                       ? "attn.hook_out"
                                          : "mlp.hook_out");
    return add_row(c->report, name, true, limit_products, worst, layer, err);
}

static enum site returned(const struct check *c, enum site out)
{
    if (!c->m->config.sublayer_norms)
        return out;
    return out == SITE_ATTN_OUT ? SITE_ATTN_RAW : SITE_MLP_RAW;
}

static double factor_of(const struct check *c)
{
    return c->m->config.sublayer_norms ? 1 : c->m->config.residual_scale;
}

/* out[row] = factor (sum over its n parts[row][part] + bias + more[row]); bias and more may be NULL. */
static double parts_error(const struct check *c, const float *parts, size_t n, const float *bias, const double *more,
                          const float *out)
{
    size_t d = c->m->config.d_model;
    struct error e = { 0, 0 };
    for (size_t r = 0; r < c->n_rows; r++)
        for (size_t i = 0; i < d; i++) {
            double sum = (bias ? (double)bias[i] : 0) + (more ? more[r * d + i] : 0);
            for (size_t part = 0; part < n; part++)
                sum += (double)parts[(r * n + part) * d + i];
            error_add(&e, (double)out[r * d + i], factor_of(c) * sum);
        }
    return error_relative(&e);
}

static int check_attention(struct check *c, size_t l, struct err *err)
{
    const struct layer *w = &c->m->layers[l];
    const float *out = rows_of(c, returned(c, SITE_ATTN_OUT), l);
    int rc = check_pattern(c, l, err);
    rc = rc ? rc : check_mix(c, l, err);
    rc = rc ? rc
            : add_output_row(c, "z W_O + b_O", SITE_ATTN_OUT,
                             product_error(&w->o, w->o_bias, factor_of(c), rows_of(c, SITE_Z, l), out, c->n_rows), l,
                             err);
    rc = rc ? rc
            : add_output_row(c, "sum of hook_result + b_O", SITE_ATTN_OUT,
                             parts_error(c, rows_of(c, SITE_RESULT, l), c->m->config.n_heads, w->o_bias, NULL, out), l,
                             err);
    if (!rc && c->m->config.sublayer_norms)
        rc = check_norm(c, "norm of attn.hook_out = attn_out", &w->ln1_post, SITE_ATTN_RAW, SITE_ATTN_OUT, l, err);
    return rc;
}

static double dot(const struct matrix *w, size_t o, const double *x)
{
    double sum = 0;
    for (size_t i = 0; i < w->n_in; i++)
        sum += weight(w, o, i) * x[i];
    return sum;
}

/* out[d_model] = the expert that every row uses, of the MLP's input x[d_model]. */
static void shared_expert(const struct model *m, const struct layer *w, const double *x, double *out)
{
    double share = w->shared_gate.n_out ? 1 / (1 + exp(-dot(&w->shared_gate, 0, x))) : 1;
    memset(out, 0, m->config.d_model * sizeof *out);
    for (size_t j = 0; j < w->mlp.up.n_out; j++) {
        double gate = dot(&w->mlp.gate, j, x), up = dot(&w->mlp.up, j, x), post;
        kernels_f64()->activate(m->config.activation, &gate, &up, 1, &post);
        for (size_t o = 0; o < m->config.d_model; o++)
            out[o] += share * post * weight(&w->mlp.down, o, j);
    }
}

static int check_experts(struct check *c, size_t l, struct err *err)
{
    const struct model_config *config = &c->m->config;
    const struct layer *w = &c->m->layers[l];
    size_t d = config->d_model;
    double *shared = config->d_shared ? mem_array(c->n_rows * d + d, sizeof *shared) : NULL;
    if (config->d_shared && !shared)
        return err_nomem(err, "the check of the experts");
    for (size_t r = 0; shared && r < c->n_rows; r++) {
        double *x = shared + c->n_rows * d;
        collector_widen(rows_of(c, config->ln2 ? SITE_LN2_OUT : SITE_RESID_MID, l), PRECISION_F32, r * d, d, x);
        shared_expert(c->m, w, x, shared + r * d);
    }
    double worst = parts_error(c, rows_of(c, SITE_EXPERT_RESULT, l), config->n_experts, NULL, shared,
                               rows_of(c, returned(c, SITE_MLP_OUT), l));
    free(shared);
    return add_output_row(c, config->d_shared ? "sum of expert_result + shared expert" : "sum of expert_result",
                          SITE_MLP_OUT, worst, l, err);
}

static int check_mlp(struct check *c, size_t l, struct err *err)
{
    const struct layer *w = &c->m->layers[l];
    int rc;
    if (c->m->config.n_experts)
        rc = check_experts(c, l, err);
    else
        rc = add_output_row(c, "post W_out + b_out", SITE_MLP_OUT,
                            product_error(&w->mlp.down, w->mlp.down_bias, factor_of(c), rows_of(c, SITE_MLP_POST, l),
                                          rows_of(c, returned(c, SITE_MLP_OUT), l), c->n_rows),
                            l, err);
    if (!rc && c->m->config.sublayer_norms)
        rc = check_norm(c, "norm of mlp.hook_out = mlp_out", &w->ln2_post, SITE_MLP_RAW, SITE_MLP_OUT, l, err);
    return rc;
}

/* What the stream is made of, for each kind of block. */
static int check_stream(struct check *c, size_t l, struct err *err)
{
    const float *attn_out = rows_of(c, SITE_ATTN_OUT, l), *mlp_out = rows_of(c, SITE_MLP_OUT, l);
    const float *pre = rows_of(c, SITE_RESID_PRE, l), *post = rows_of(c, SITE_RESID_POST, l);
    bool post_norm = c->m->config.block == BLOCK_POST;
    int rc = 0;
    if (c->m->config.block == BLOCK_PARALLEL)
        rc = check_sum(c, "resid_pre + attn_out + mlp_out = resid_post", (const float *[]){ pre, attn_out, mlp_out }, 3,
                       post, l, err);
    else {
        const float *mid = rows_of(c, SITE_RESID_MID, l);
        rc = check_sum(c, "resid_pre + attn_out = resid_mid", (const float *[]){ pre, attn_out }, 2, mid, l, err);
        if (!rc && post_norm)
            rc = check_sum(c, "ln1.hook_out + mlp_out = resid_post",
                           (const float *[]){ rows_of(c, SITE_POST_LN1_OUT, l), mlp_out }, 2, post, l, err);
        else if (!rc)
            rc = check_sum(c, "resid_mid + mlp_out = resid_post", (const float *[]){ mid, mlp_out }, 2, post, l, err);
    }
    if (rc || !l)
        return rc;
    const float *left = rows_of(c, site_leaving_block(&c->m->config), l - 1);
    return check_sum(c, post_norm ? "normalized_resid_post = next resid_pre" : "resid_post = next resid_pre", &left, 1,
                     pre, l, err);
}

static int check_layer(struct check *c, size_t l, struct err *err)
{
    int rc = model_use_layer(c->m, l, err);
    rc = rc ? rc : check_stream(c, l, err);
    rc = rc ? rc : check_attention(c, l, err);
    return rc ? rc : check_mlp(c, l, err);
}

static int check_embedding(struct check *c, struct err *err)
{
    static const struct {
        enum site site;
        const char *name;
    } terms[] = { { SITE_EMBED, "embed" }, { SITE_POS_EMBED, "pos_embed" }, { SITE_TYPE_EMBED, "token_type_embed" } };
    const struct model_config *config = &c->m->config;
    const float *pre = rows_of(c, SITE_RESID_PRE, 0), *added[3];
    char name[96] = "";
    size_t n = 0;
    if (!site_missing(SITE_FULL_EMBED, config)) {
        added[0] = rows_of(c, SITE_FULL_EMBED, 0);
        return check_sum(c, "full_embed = first resid_pre", added, 1, pre, 0, err);
    }
    if (model_embed_width(config) != config->d_model) /* projected afterwards */
        return 0;
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
        if (!site_missing(terms[i].site, config)) {
            size_t used = strlen(name);
            snprintf(name + used, sizeof name - used, "%s%s", n ? " + " : "", terms[i].name);
            added[n++] = rows_of(c, terms[i].site, 0);
        }
    size_t used = strlen(name);
    snprintf(name + used, sizeof name - used, " = first resid_pre");
    return check_sum(c, name, added, n, pre, 0, err);
}

/* What the unembedding reads, of one state that has left the last block and the final norm: x to out, [d_embed]. */
static void transform(const struct model *m, const double *x, double *out)
{
    const struct model_config *config = &m->config;
    size_t n = config->d_embed;
    double mean, scale;
    for (size_t o = 0; o < n; o++)
        out[o] = m->head.dense.data ? dot(&m->head.dense, o, x) + (m->head.bias ? (double)m->head.bias[o] : 0) : x[o];
    if (!config->head_transform)
        return;
    kernels_f64()->activate(config->head_activation, out, NULL, n, out);
    kernels_f64()->norm_stats(out, n, config->norm, config->norm_eps, &mean, &scale);
    kernels_f64()->normalize(out, n, mean, scale, out);
    kernels_f64()->gain_bias(out, m->head.norm.gain, m->head.norm.bias, n, out);
}

/* The last state through norm, head and unembedding, in naive double, against the logits. */
static int check_logits(struct check *c, struct err *err)
{
    const struct model *m = c->m;
    const struct model_config *config = &m->config;
    bool post_norm = config->block == BLOCK_POST;
    size_t d = config->d_model, last = config->n_layers - 1;
    if (!config->unembedding)
        return 0;
    const float *state = rows_of(c, site_leaving_block(config), last);
    const float *logits = rows_of(c, SITE_LOGITS, 0);
    double *x = mem_array(d + config->d_embed, sizeof *x);
    if (!x)
        return err_nomem(err, "the check of the logits");
    struct error e = { 0, 0 };
    for (size_t r = 0; r < c->n_rows; r++) {
        if (config->final_norm)
            normalise(c, &m->ln_final, state, r, x);
        else
            collector_widen(state, PRECISION_F32, r * d, d, x);
        transform(m, x, x + d);
        for (size_t v = 0; v < config->d_vocab; v++) {
            double cap = config->logit_softcap, logit = dot(&m->unembed, v, x + d);
            logit = (logit + (m->unembed_bias ? (double)m->unembed_bias[v] : 0)) * config->logit_scale;
            error_add(&e, (double)logits[r * config->d_vocab + v], cap > 0 ? cap * tanh(logit / cap) : logit);
        }
    }
    free(x);
    return add_row(c->report,
                   post_norm            ? "head and unembedding of the last normalized_resid_post = logits"
                   : config->final_norm ? "final norm and unembedding of the last resid_post = logits"
                                        : "unembedding of the last resid_post = logits",
                   true, limit_products, error_relative(&e), last, err);
}

/* --- fp32 against fp64 --- */

static int compare_precisions(struct check *c, const struct site_set *all, struct err *err)
{
    struct site_ref ref;
    for (size_t cursor = 0; site_set_next(all, &cursor, &ref);) {
        const struct site_row *row = site_row(ref.site);
        char name[96];
        size_t slot_n = c->n_rows * site_row_size(ref.site, &c->m->config);
        if (row->axes == AXES_EDGES)
            slot_n = c->f32.edge_offset[c->n_prompts];
        const float *a = collector_rows(&c->f32, ref.site, ref.layer);
        const double *b = collector_rows(&c->f64, ref.site, ref.layer);
        struct error e = { 0, 0 };
        for (size_t i = 0; i < slot_n; i++)
            error_add(&e, (double)a[i], b[i]);
        snprintf(name, sizeof name, "%s%s", row->per_layer ? "blocks.L." : "", row->name);
        int rc = add_row(c->report, name, false, limit_products, error_relative(&e), ref.layer, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int run(struct check *c, struct pool *pool, const struct site_set *all, struct collector *into,
               enum precision precision, struct err *err)
{
    struct runtime *rt;
    int rc = runtime_create(&rt, c->m, pool, precision, err);
    if (rc)
        return rc;
    struct forward f = {
        .prompts = c->prompts,
        .n_prompts = c->n_prompts,
        .reads = all,
        .sink = &into->sink,
    };
    rc = collector_begin(into, c->prompts, c->n_prompts, NULL, err);
    rc = rc ? rc : runtime_forward(rt, &f, err);
    runtime_free(rt);
    return rc;
}

int verify_model(const struct model *model, struct pool *pool, const struct prompt *prompts, size_t n_prompts,
                 struct verify_report *report, struct err *err)
{
    struct check c = { .m = model, .prompts = prompts, .n_prompts = n_prompts, .report = report };
    struct site_set all;
    *report = (struct verify_report){ 0 };
    for (size_t i = 0; i < n_prompts; i++)
        c.n_rows += prompts[i].n_tokens;
    report->n_tokens = c.n_rows;
    int rc = site_set_init(&all, &model->config, err);
    if (rc)
        return rc;
    rc = site_set_add(&all, "*", err);
    rc = rc ? rc : collector_init(&c.f32, &all, PRECISION_F32, err);
    rc = rc ? rc : collector_init(&c.f64, &all, PRECISION_F64, err);
    rc = rc ? rc : run(&c, pool, &all, &c.f32, PRECISION_F32, err);
    rc = rc ? rc : run(&c, pool, &all, &c.f64, PRECISION_F64, err);
    rc = rc ? rc : check_embedding(&c, err);
    for (size_t l = 0; !rc && l < model->config.n_layers; l++)
        rc = check_layer(&c, l, err);
    rc = rc ? rc : check_logits(&c, err);
    rc = rc ? rc : compare_precisions(&c, &all, err);
    report->ok = true;
    for (size_t i = 0; i < report->n; i++)
        report->ok &= report->rows[i].worst <= report->rows[i].limit;
    if (c.f32.reads)
        collector_release(&c.f32);
    if (c.f64.reads)
        collector_release(&c.f64);
    site_set_release(&all);
    if (rc)
        verify_report_release(report);
    return rc;
}

void verify_report_release(struct verify_report *report)
{
    free(report->rows);
    *report = (struct verify_report){ 0 };
}

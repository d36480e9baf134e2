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

/* a + b = sum, where b may be NULL: then a = sum. */
static int check_sum(struct check *c, const char *name, const float *a, const float *b, const float *sum, size_t layer,
                     struct err *err)
{
    struct error e = { 0, 0 };
    for (size_t i = 0; i < c->n_rows * c->m->config.d_model; i++)
        error_add(&e, (double)a[i] + (b ? (double)b[i] : 0), (double)sum[i]);
    return add_row(c->report, name, true, limit_sums, error_relative(&e), layer, err);
}

static double weight(const struct matrix *w, size_t o, size_t i)
{
    return (double)(w->in_major ? w->data[i * w->stride + o] : w->data[o * w->stride + i]);
}

/* x W^T + bias = y by the naive double loop. */
static double product_error(const struct matrix *w, const float *bias, const float *x, const float *y, size_t n_rows)
{
    struct error e = { 0, 0 };
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < w->n_out; o++) {
            double sum = bias ? (double)bias[o] : 0;
            for (size_t i = 0; i < w->n_in; i++)
                sum += weight(w, o, i) * (double)x[r * w->n_in + i];
            error_add(&e, (double)y[r * w->n_out + o], sum);
        }
    return error_relative(&e);
}

static int check_pattern(struct check *c, size_t layer, struct err *err)
{
    size_t n_heads = c->m->config.n_heads, window = c->m->layers[layer].window;
    double off = 0;
    for (size_t p = 0; p < c->n_prompts; p++) {
        size_t n = c->prompts[p].n_tokens;
        const float *pattern = collector_edges(&c->f32, SITE_PATTERN, layer, p);
        for (size_t row = 0; row < n_heads * n; row++) {
            size_t query = row % n, first = window && query + 1 > window ? query + 1 - window : 0;
            double sum = 0;
            for (size_t key = 0; key < n; key++) {
                double x = (double)pattern[row * n + key];
                sum += x;
                if ((key < first || key > query) && x != 0)
                    off = INFINITY;
            }
            off = fmax(off, fabs(sum - 1));
        }
    }
    return add_row(c->report, "pattern rows sum to 1, masked edges are 0", true, limit_sums, off, layer, err);
}

/* sum over heads of hook_result + b_O = attn_out */
static int check_results(struct check *c, size_t layer, struct err *err)
{
    const struct model_config *config = &c->m->config;
    const float *result = rows_of(c, SITE_RESULT, layer), *out = rows_of(c, SITE_ATTN_OUT, layer);
    const float *bias = c->m->layers[layer].o_bias;
    struct error e = { 0, 0 };
    for (size_t r = 0; r < c->n_rows; r++)
        for (size_t i = 0; i < config->d_model; i++) {
            double sum = bias ? (double)bias[i] : 0;
            for (size_t h = 0; h < config->n_heads; h++)
                sum += (double)result[(r * config->n_heads + h) * config->d_model + i];
            error_add(&e, (double)out[r * config->d_model + i], sum);
        }
    return add_row(c->report, "sum of hook_result + b_O = attn_out", true, limit_products, error_relative(&e), layer,
                   err);
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
                for (size_t key = 0; key <= query; key++)
                    sum += (double)pattern[row * n + key] *
                           (double)v[((first + key) * config->n_kv_heads + h / per_group) * d + i];
                error_add(&e, (double)z[((first + query) * config->n_heads + h) * d + i], sum);
            }
        }
    }
    return add_row(c->report, "pattern v = z", true, limit_products, error_relative(&e), layer, err);
}

static int check_layer(struct check *c, size_t l, struct err *err)
{
    int rc = model_use_layer(c->m, l, err);
    if (rc)
        return rc;
    const struct layer *w = &c->m->layers[l];
    const float *attn_out = rows_of(c, SITE_ATTN_OUT, l), *mlp_out = rows_of(c, SITE_MLP_OUT, l);
    const float *pre = rows_of(c, SITE_RESID_PRE, l), *mid = rows_of(c, SITE_RESID_MID, l);
    const float *post = rows_of(c, SITE_RESID_POST, l);
    rc = check_sum(c, "resid_pre + attn_out = resid_mid", pre, attn_out, mid, l, err);
    rc = rc ? rc : check_sum(c, "resid_mid + mlp_out = resid_post", mid, mlp_out, post, l, err);
    if (!rc && l)
        rc = check_sum(c, "resid_post = next resid_pre", rows_of(c, SITE_RESID_POST, l - 1), NULL, pre, l, err);
    rc = rc ? rc : check_pattern(c, l, err);
    rc = rc ? rc : check_mix(c, l, err);
    rc = rc ? rc
            : add_row(c->report, "z W_O + b_O = attn_out", true, limit_products,
                      product_error(&w->o, w->o_bias, rows_of(c, SITE_Z, l), attn_out, c->n_rows), l, err);
    rc = rc ? rc : check_results(c, l, err);
    rc = rc ? rc
            : add_row(c->report, "post W_out + b_out = mlp_out", true, limit_products,
                      product_error(&w->mlp.down, w->mlp.down_bias, rows_of(c, SITE_MLP_POST, l), mlp_out, c->n_rows),
                      l, err);
    return rc;
}

static int check_embedding(struct check *c, struct err *err)
{
    const float *pos = c->m->pos_embed ? rows_of(c, SITE_POS_EMBED, 0) : NULL;
    return check_sum(c, pos ? "embed + pos_embed = first resid_pre" : "embed = first resid_pre",
                     rows_of(c, SITE_EMBED, 0), pos, rows_of(c, SITE_RESID_PRE, 0), 0, err);
}

/* The last residual through norm and unembedding, in naive double, against the logits. */
static int check_logits(struct check *c, struct err *err)
{
    const struct model *m = c->m;
    const struct model_config *config = &m->config;
    size_t d = config->d_model;
    const float *post = rows_of(c, SITE_RESID_POST, config->n_layers - 1), *logits = rows_of(c, SITE_LOGITS, 0);
    double *x = mem_array(d, sizeof *x);
    if (!x)
        return err_nomem(err, "the check of the logits");
    struct error e = { 0, 0 };
    for (size_t r = 0; r < c->n_rows; r++) {
        double mean, scale;
        collector_widen(post, PRECISION_F32, r * d, d, x);
        kernels_f64()->norm_stats(x, d, config->norm, config->norm_eps, &mean, &scale);
        kernels_f64()->normalize(x, d, mean, scale, x);
        kernels_f64()->gain_bias(x, m->ln_final.gain, m->ln_final.bias, d, x);
        for (size_t v = 0; v < config->d_vocab; v++) {
            double sum = m->unembed_bias ? (double)m->unembed_bias[v] : 0;
            for (size_t i = 0; i < d; i++)
                sum += weight(&m->unembed, v, i) * x[i];
            error_add(&e, (double)logits[r * config->d_vocab + v], sum);
        }
    }
    free(x);
    return add_row(c->report, "final norm and unembedding of the last resid_post = logits", true, limit_products,
                   error_relative(&e), config->n_layers - 1, err);
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

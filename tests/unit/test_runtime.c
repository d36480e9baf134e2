/*
 * The forward pass with edits, against a naive one in plain double loops over the same weights: every editable site,
 * every operation, selectors, units, windows, prompts of a batch. Then what is not computed, and what is refused.
 */
#include "core/base/mem.h"
#include "core/runtime/collect.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"

#define MODELS "tests/golden/models/"
/* Grouped heads with biases; a window of 16; GPT-2's layout; one key head. */
static const char *const models[] = { MODELS "llama_a", MODELS "mistral", MODELS "gpt2", MODELS "qwen2" };
enum { N_MODELS = sizeof models / sizeof *models, N_PROMPTS = 3, MOST_TOKENS = 18, MOST_EDITS = 8 };

static struct pool *pool;

static uint64_t random_state = 20240917;

static size_t below(size_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

static struct model *open_model(const char *path)
{
    struct err err = { 0 };
    struct model *m = NULL;
    must(model_open(&m, path, pool, &err), &err);
    return m;
}

/* Three prompts of different lengths and subjects. */
static void make_prompts(const struct model *m, struct prompt prompts[N_PROMPTS],
                         int32_t tokens[N_PROMPTS][MOST_TOKENS])
{
    static const size_t lengths[N_PROMPTS] = { 5, MOST_TOKENS, 2 }, begin[N_PROMPTS] = { 1, 7, 0 },
                        end[N_PROMPTS] = { 3, 11, 1 };
    static const char *const names[N_PROMPTS] = { "a", "b", "c" };
    for (size_t i = 0; i < N_PROMPTS; i++) {
        for (size_t t = 0; t < lengths[i]; t++)
            tokens[i][t] = (int32_t)below(m->config.d_vocab);
        prompts[i] = (struct prompt){ .tokens = tokens[i],
                                      .n_tokens = lengths[i],
                                      .subject_begin = begin[i],
                                      .subject_end = end[i],
                                      .name = names[i] };
    }
}

/* --- the naive model: one prompt, every site kept --- */

struct naive {
    const struct model *m;
    const struct prompt *prompt;
    const struct edit_list *edits;
    size_t n;                   /* tokens */
    double *sites[N_SITES * 8]; /* [site * n_layers + layer], NULL until visited */
};

static double *numbers(size_t n)
{
    double *x = calloc(n ? n : 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static bool chosen(const struct naive *o, const struct positions *p, size_t t)
{
    bool subject = t >= o->prompt->subject_begin && t < o->prompt->subject_end;
    switch (p->kind) {
    case POSITIONS_ALL:
        return true;
    case POSITIONS_LAST:
        return t == o->n - 1;
    case POSITIONS_SUBJECT:
        return subject;
    case POSITIONS_SUBJECT_FIRST:
        return t == o->prompt->subject_begin;
    case POSITIONS_SUBJECT_LAST:
        return t + 1 == o->prompt->subject_end;
    case POSITIONS_NON_SUBJECT:
        return !subject;
    case POSITIONS_NUMBERS:
        break;
    }
    for (size_t i = 0; i < p->n_ranges; i++)
        if (t >= p->ranges[i].first && t <= p->ranges[i].last)
            return true;
    return false;
}

static bool has_unit(const struct edit *e, size_t unit)
{
    for (size_t i = 0; i < e->n_units; i++)
        if (unit >= e->units[i].first && unit <= e->units[i].last)
            return true;
    return !e->n_units;
}

static double changed(const struct edit *e, double x)
{
    switch (e->op) {
    case EDIT_SET:
        return e->value;
    case EDIT_ADD:
        return x + e->value;
    case EDIT_SCALE:
        return x * e->value;
    case EDIT_ZERO:
    case EDIT_UNIFORM:
        return 0;
    case EDIT_BLOCK:
        break;
    }
    return -INFINITY;
}

static void keep(struct naive *o, enum site site, size_t layer, const double *x, size_t n)
{
    double *copy = numbers(n);
    memcpy(copy, x, n * sizeof *x);
    o->sites[site * o->m->config.n_layers + layer] = copy;
}

/* x[tokens, units, width] */
static void visit(struct naive *o, enum site site, size_t layer, double *x, size_t units, size_t width)
{
    for (size_t i = 0; i < o->edits->n; i++) {
        const struct edit *e = &o->edits->edits[i];
        for (size_t t = 0; e->site == site && layer >= e->first_layer && layer <= e->last_layer && t < o->n; t++)
            for (size_t u = 0; chosen(o, &e->at, t) && u < units; u++)
                for (size_t j = t * units * width + u * width, n = has_unit(e, u) ? width : 0; n--; j++)
                    x[j] = changed(e, x[j]);
    }
    keep(o, site, layer, x, o->n * units * width);
}

static bool sees(const struct naive *o, size_t layer, size_t query, size_t key)
{
    size_t window = o->m->layers[layer].window;
    return key <= query && (!window || query - key < window);
}

/* x[heads, tokens, tokens] */
static void visit_edges(struct naive *o, enum site site, size_t layer, double *x)
{
    for (size_t i = 0; i < o->edits->n; i++) {
        const struct edit *e = &o->edits->edits[i];
        if (e->site != site || layer < e->first_layer || layer > e->last_layer)
            continue;
        for (size_t h = 0; h < o->m->config.n_heads; h++)
            for (size_t q = 0; q < o->n; q++)
                for (size_t k = 0; k < o->n; k++)
                    if (has_unit(e, h) && chosen(o, &e->at, q) && chosen(o, &e->keys, k) && sees(o, layer, q, k))
                        x[(h * o->n + q) * o->n + k] = changed(e, x[(h * o->n + q) * o->n + k]);
    }
    keep(o, site, layer, x, o->m->config.n_heads * o->n * o->n);
}

static double weight(const struct matrix *w, size_t out, size_t in)
{
    return (double)(w->in_major ? w->data[in * w->stride + out] : w->data[out * w->stride + in]);
}

/* [tokens, n_out], caller frees */
static double *multiply(const struct naive *o, const struct matrix *w, const float *bias, const double *x)
{
    double *y = numbers(o->n * w->n_out);
    for (size_t t = 0; t < o->n; t++)
        for (size_t i = 0; i < w->n_out; i++) {
            double sum = bias ? (double)bias[i] : 0;
            for (size_t j = 0; j < w->n_in; j++)
                sum += weight(w, i, j) * x[t * w->n_in + j];
            y[t * w->n_out + i] = sum;
        }
    return y;
}

/* Through three consecutive sites; [tokens, d_model], caller frees */
static double *norm(struct naive *o, const struct norm_weights *w, enum site site, size_t layer, const double *x)
{
    size_t d = o->m->config.d_model;
    bool centred = o->m->config.norm == NORM_LAYER;
    double *y = numbers(o->n * d), *scale = numbers(o->n);
    for (size_t t = 0; t < o->n; t++) {
        double mean = 0, square = 0;
        for (size_t j = 0; centred && j < d; j++)
            mean += x[t * d + j] / (double)d;
        for (size_t j = 0; j < d; j++) {
            y[t * d + j] = x[t * d + j] - mean;
            square += y[t * d + j] * y[t * d + j] / (double)d;
        }
        scale[t] = sqrt(square + o->m->config.norm_eps);
    }
    visit(o, site, layer, scale, 1, 1);
    for (size_t i = 0; i < o->n * d; i++)
        y[i] /= scale[i / d];
    visit(o, site + 1, layer, y, 1, d);
    for (size_t i = 0; i < o->n * d; i++)
        y[i] = y[i] * (double)w->gain[i % d] + (w->bias ? (double)w->bias[i % d] : 0);
    visit(o, site + 2, layer, y, 1, d);
    free(scale);
    return y;
}

static void rotate(const struct naive *o, double *x, size_t heads)
{
    size_t d = o->m->config.d_head;
    for (size_t t = 0; t < o->n; t++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < d / 2; i++) {
                double angle = (double)((float)t * (float)o->m->ropes[0].frequency[i]);
                double *a = x + (t * heads + h) * d + i, *b = a + d / 2, was = *a;
                *a = was * cos(angle) - *b * sin(angle);
                *b = *b * cos(angle) + was * sin(angle);
            }
}

/* z[tokens, heads, d_head] from q, k, v; caller frees */
static double *mix(struct naive *o, size_t layer, const double *q, const double *k, const double *v)
{
    const struct model_config *c = &o->m->config;
    size_t n = o->n, d = c->d_head, group = c->n_heads / c->n_kv_heads;
    double *edges = numbers(c->n_heads * n * n), *z = numbers(n * c->n_heads * d);
    for (size_t h = 0; h < c->n_heads; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double *s = &edges[(h * n + i) * n + j];
                *s = sees(o, layer, i, j) ? 0 : -INFINITY;
                for (size_t e = 0; e < d; e++)
                    *s += c->attn_scale * q[(i * c->n_heads + h) * d + e] * k[(j * c->n_kv_heads + h / group) * d + e];
            }
    visit_edges(o, SITE_SCORES, layer, edges);
    for (double *row = edges; row < edges + c->n_heads * n * n; row += n) {
        double top = -INFINITY, sum = 0;
        for (size_t j = 0; j < n; j++)
            top = fmax(top, row[j]);
        for (size_t j = 0; j < n; j++)
            sum += row[j] = top > -INFINITY ? exp(row[j] - top) : 0;
        for (size_t j = 0; j < n && sum > 0; j++)
            row[j] /= sum;
    }
    visit_edges(o, SITE_PATTERN, layer, edges);
    for (size_t h = 0; h < c->n_heads; h++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                for (size_t e = 0; e < d; e++)
                    z[(i * c->n_heads + h) * d + e] +=
                        edges[(h * n + i) * n + j] * v[(j * c->n_kv_heads + h / group) * d + e];
    free(edges);
    return z;
}

static void add_attention(struct naive *o, size_t layer, double *x)
{
    const struct model_config *c = &o->m->config;
    const struct layer *w = &o->m->layers[layer];
    size_t d = c->d_model, dh = c->d_head;
    double *normed = norm(o, &w->ln1, SITE_LN1_SCALE, layer, x);
    double *q = multiply(o, &w->q, w->q_bias, normed), *k = multiply(o, &w->k, w->k_bias, normed),
           *v = multiply(o, &w->v, w->v_bias, normed);
    visit(o, SITE_Q, layer, q, c->n_heads, dh);
    visit(o, SITE_K, layer, k, c->n_kv_heads, dh);
    visit(o, SITE_V, layer, v, c->n_kv_heads, dh);
    if (c->position == POSITION_ROTARY) {
        rotate(o, q, c->n_heads);
        rotate(o, k, c->n_kv_heads);
        visit(o, SITE_ROT_Q, layer, q, c->n_heads, dh);
        visit(o, SITE_ROT_K, layer, k, c->n_kv_heads, dh);
    }
    double *z = mix(o, layer, q, k, v), *result = numbers(o->n * c->n_heads * d), *out = numbers(o->n * d);
    visit(o, SITE_Z, layer, z, c->n_heads, dh);
    for (size_t t = 0; t < o->n; t++)
        for (size_t h = 0; h < c->n_heads; h++)
            for (size_t i = 0; i < d; i++)
                for (size_t e = 0; e < dh; e++)
                    result[(t * c->n_heads + h) * d + i] +=
                        z[(t * c->n_heads + h) * dh + e] * weight(&w->o, i, h * dh + e);
    visit(o, SITE_RESULT, layer, result, c->n_heads, d);
    for (size_t t = 0; t < o->n; t++)
        for (size_t i = 0; i < d; i++) {
            out[t * d + i] = w->o_bias ? (double)w->o_bias[i] : 0;
            for (size_t h = 0; h < c->n_heads; h++)
                out[t * d + i] += result[(t * c->n_heads + h) * d + i];
        }
    visit(o, SITE_ATTN_OUT, layer, out, 1, d);
    for (size_t i = 0; i < o->n * d; i++)
        x[i] += out[i];
    double *used[] = { normed, q, k, v, z, result, out };
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        free(used[i]);
}

static double activate(enum activation kind, double x)
{
    switch (kind) {
    case ACTIVATION_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case ACTIVATION_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_RELU:
        break;
    }
    return x > 0 ? x : 0;
}

static void add_mlp(struct naive *o, size_t layer, double *x)
{
    const struct model_config *c = &o->m->config;
    const struct layer *w = &o->m->layers[layer];
    double *normed = norm(o, &w->ln2, SITE_LN2_SCALE, layer, x), *linear = NULL;
    double *pre = c->gated_mlp ? multiply(o, &w->mlp.gate, w->mlp.gate_bias, normed)
                               : multiply(o, &w->mlp.up, w->mlp.up_bias, normed);
    visit(o, SITE_MLP_PRE, layer, pre, c->d_mlp, 1);
    if (c->gated_mlp) {
        linear = multiply(o, &w->mlp.up, w->mlp.up_bias, normed);
        visit(o, SITE_MLP_PRE_LINEAR, layer, linear, c->d_mlp, 1);
    }
    for (size_t i = 0; i < o->n * c->d_mlp; i++)
        pre[i] = activate(c->activation, pre[i]) * (linear ? linear[i] : 1);
    visit(o, SITE_MLP_POST, layer, pre, c->d_mlp, 1);
    double *out = multiply(o, &w->mlp.down, w->mlp.down_bias, pre);
    visit(o, SITE_MLP_OUT, layer, out, 1, c->d_model);
    for (size_t i = 0; i < o->n * c->d_model; i++)
        x[i] += out[i];
    free(normed);
    free(linear);
    free(pre);
    free(out);
}

static void naive_run(struct naive *o, const struct model *m, const struct prompt *prompt,
                      const struct edit_list *edits)
{
    size_t d = m->config.d_model;
    memset(o, 0, sizeof *o);
    o->m = m;
    o->prompt = prompt;
    o->edits = edits;
    o->n = prompt->n_tokens;
    double *x = numbers(o->n * d), *positions = numbers(o->n * d);
    for (size_t i = 0; i < o->n * d; i++)
        x[i] = (double)m->embed[(size_t)prompt->tokens[i / d] * d + i % d];
    visit(o, SITE_EMBED, 0, x, 1, d);
    if (m->pos_embed) {
        for (size_t i = 0; i < o->n * d; i++)
            positions[i] = (double)m->pos_embed[i];
        visit(o, SITE_POS_EMBED, 0, positions, 1, d);
    }
    for (size_t i = 0; i < o->n * d; i++)
        x[i] += positions[i];
    for (size_t l = 0; l < m->config.n_layers; l++) {
        visit(o, SITE_RESID_PRE, l, x, 1, d);
        add_attention(o, l, x);
        visit(o, SITE_RESID_MID, l, x, 1, d);
        add_mlp(o, l, x);
        visit(o, SITE_RESID_POST, l, x, 1, d);
    }
    double *normed = norm(o, &m->ln_final, SITE_LN_FINAL_SCALE, 0, x);
    double *logits = multiply(o, &m->unembed, m->unembed_bias, normed);
    visit(o, SITE_LOGITS, 0, logits, 1, m->config.d_vocab);
    free(x);
    free(positions);
    free(normed);
    free(logits);
}

static void naive_free(struct naive *o)
{
    for (size_t i = 0; i < sizeof o->sites / sizeof *o->sites; i++)
        free(o->sites[i]);
}

/* --- comparison --- */

struct setting {
    struct model *m;
    struct runtime *rt;
    struct site_set reads;
    struct collector sites;
    struct prompt prompts[N_PROMPTS];
    int32_t tokens[N_PROMPTS][MOST_TOKENS];
};

static void set_up(struct setting *s, const char *path, enum precision precision, const char *reads)
{
    struct err err = { 0 };
    s->m = open_model(path);
    must(runtime_create(&s->rt, s->m, pool, precision, &err), &err);
    must(site_set_init(&s->reads, &s->m->config, &err), &err);
    must(site_set_add(&s->reads, reads, &err), &err);
    must(collector_init(&s->sites, &s->reads, precision, &err), &err);
    make_prompts(s->m, s->prompts, s->tokens);
}

static void tear_down(struct setting *s)
{
    collector_release(&s->sites);
    site_set_release(&s->reads);
    runtime_free(s->rt);
    model_free(s->m);
}

static int run(struct setting *s, const struct edit_list *edits, struct err *err)
{
    must(collector_begin(&s->sites, s->prompts, N_PROMPTS, NULL, err), err);
    return runtime_forward(
        s->rt,
        &(struct forward){
            .prompts = s->prompts, .n_prompts = N_PROMPTS, .reads = &s->reads, .edits = edits, .sink = &s->sites.sink },
        err);
}

/* Largest ||a - b|| / ||b|| (almost) of any site that is read, over all prompts. */
static double compare(const struct setting *s, const struct edit_list *edits, struct site_ref *where)
{
    double worst = 0;
    for (size_t i = 0, first = 0; i < N_PROMPTS; first += s->prompts[i++].n_tokens) {
        struct naive o;
        struct site_ref site;
        naive_run(&o, s->m, &s->prompts[i], edits);
        for (size_t cursor = 0; site_set_next(&s->reads, &cursor, &site);) {
            const double *b = o.sites[site.site * s->m->config.n_layers + site.layer];
            bool edges = site_row(site.site)->axes == AXES_EDGES;
            size_t size = site_row_size(site.site, &s->m->config), n = edges ? size * o.n * o.n : size * o.n;
            const void *a = edges ? collector_edges(&s->sites, site.site, site.layer, i)
                                  : collector_rows(&s->sites, site.site, site.layer);
            double difference = 0, total = 0, x;
            assert_non_null(b);
            for (size_t j = 0; j < n; j++) {
                collector_widen(a, s->sites.precision, (edges ? 0 : first * size) + j, 1, &x);
                if (x == b[j]) /* also -inf */
                    continue;
                difference += (x - b[j]) * (x - b[j]);
                total += b[j] * b[j];
            }
            /* `set` makes constants, whose centred values are nothing but rounding: a floor of 1e-3 a number. */
            double error = sqrt(difference / (total + 1e-6 * (double)n));
            if (!(error <= worst)) {
                worst = error;
                *where = site;
            }
        }
        naive_free(&o);
    }
    return worst;
}

/* A random edit that keeps numbers of ordinary size. */
static void write_edit(const struct model *m, enum site site, char *text, size_t size)
{
    static const char *const at[] = {
        "", "@last", "@all", "@subject", "@subject-first", "@subject-last", "@non-subject", "@0", "@1", "@0-1"
    };
    static const char *const keys[] = { "", "<-subject", "<-0", "<-last", "<-non-subject", "<-subject-last" };
    static const char *const ops[] = { "scale 0.5", "add 0.25", "scale -1.5", "set 0.75", "zero", "block" };
    const struct site_row *row = site_row(site);
    const char *what;
    size_t units = site_units(site, &m->config, &what), layer = below(m->config.n_layers);
    char name[SITE_NAME_MAX];
    int n;
    if (row->per_layer && !below(4))
        n = snprintf(text, size, "blocks.%zu-%zu.%s", below(layer + 1), layer, row->name);
    else
        n = snprintf(text, size, "%s", site_name((struct site_ref){ site, row->per_layer ? layer : 0 }, name));
    n += snprintf(text + n, size - (size_t)n, "%s", at[below(sizeof at / sizeof *at)]);
    if (row->axes == AXES_EDGES) {
        if (strchr(text, '@'))
            n += snprintf(text + n, size - (size_t)n, "%s", keys[below(sizeof keys / sizeof *keys)]);
    }
    if (units && below(3)) {
        size_t a = below(units), b = a + below(units - a);
        n += snprintf(text + n, size - (size_t)n, a && below(2) ? "#0,%zu-%zu" : "#%zu-%zu", a, b);
    }
    bool scale = row->axes == AXES_SCALE; /* must not become zero */
    size_t op = site == SITE_SCORES ? below(6) : scale ? below(2) : below(5);
    snprintf(text + n, size - (size_t)n, " %s", ops[op]);
}

static void edits_equal_the_naive_model(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct setting s;
        set_up(&s, models[m], PRECISION_F64, "*");
        /* Every site twice on its own, then in company. */
        for (size_t trial = 0; trial < 3 * N_SITES; trial++) {
            struct edit_list edits = { 0 };
            struct err err = { 0 };
            struct site_ref where = { 0 };
            char text[MOST_EDITS][128] = { "" };
            size_t n = trial < 2 * N_SITES ? 1 : 2 + below(MOST_EDITS - 2);
            for (size_t i = 0; i < n; i++) {
                enum site site = i || n > 1 ? (enum site)below(N_SITES) : (enum site)(trial % N_SITES);
                if (site_missing(site, &s.m->config))
                    continue;
                write_edit(s.m, site, text[i], sizeof text[i]);
                if (edit_parse(&edits, text[i], &s.m->config, &err))
                    fail_msg("%s: %s", text[i], err.msg);
            }
            if (run(&s, &edits, &err))
                fail_msg("%s: %s: %s", models[m], text[0], err.msg);
            double worst = compare(&s, &edits, &where);
            if (!(worst < 1e-11))
                fail_msg("%s: edits '%s' '%s' '%s' ...: %s of layer %zu differs by %.2e", models[m], text[0], text[1],
                         text[2], site_row(where.site)->name, where.layer, worst);
            edit_list_release(&edits);
        }
        tear_down(&s);
    }
}

/* The naive model with one edit against the runtime with another one, or none: the comparison must see it. */
static void a_missed_edit_is_seen(void **state)
{
    (void)state;
    static const char *const texts[] = { "z:1@last#0 scale 0.999", "pattern:0@last<-0#1 scale 0.999",
                                         "post:1@subject#3 add 0.001" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct setting s;
        struct edit_list edits = { 0 };
        struct err err = { 0 };
        struct site_ref where = { 0 };
        set_up(&s, models[0], PRECISION_F64, "*");
        must(edit_parse(&edits, texts[i], &s.m->config, &err), &err);
        must(run(&s, NULL, &err), &err);
        assert_true(compare(&s, &edits, &where) > 1e-9);
        edit_list_release(&edits);
        tear_down(&s);
    }
}

/* Sites that nobody reads or edits take other ways through the code: fused attention, fused norms. */
static void what_is_read_changes_no_number(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++)
        for (enum precision precision = PRECISION_F32; precision <= PRECISION_F64; precision++) {
            struct setting s;
            struct err err = { 0 };
            struct site_ref where = { 0 };
            struct edit_list none = { 0 };
            set_up(&s, models[m], precision, "resid_post,logits");
            must(run(&s, NULL, &err), &err);
            double worst = compare(&s, &none, &where);
            if (!(worst < (precision == PRECISION_F64 ? 1e-12 : 1e-5)))
                fail_msg("%s: %s differs by %.2e", models[m], site_row(where.site)->name, worst);
            tear_down(&s);
        }
}

static void thread_counts_agree(void **state)
{
    (void)state;
    struct pool *kept = pool;
    for (int threads = 1; threads <= 5; threads += 2) {
        struct setting s;
        struct err err = { 0 };
        struct site_ref where = { 0 };
        struct edit_list none = { 0 };
        must(pool_create(&pool, threads, &err), &err);
        set_up(&s, models[0], PRECISION_F64, "*");
        must(run(&s, NULL, &err), &err);
        assert_true(compare(&s, &none, &where) < 1e-12);
        tear_down(&s);
        pool_free(pool);
    }
    pool = kept;
}

/* --- what is not computed --- */

static float poison[1 << 14];

/* Reads `reads` where the weights of one place are NaN: fine if it lies behind, an error if it lies before. */
static void poison_one(const char *reads, size_t layer, void plant(struct layer *w), const char *message)
{
    struct setting s;
    struct err err = { 0 };
    set_up(&s, models[0], PRECISION_F32, reads);
    for (size_t i = 0; i < sizeof poison / sizeof *poison; i++)
        poison[i] = NAN;
    plant(&s.m->layers[layer]);
    int rc = run(&s, NULL, &err);
    if (!message && rc)
        fail_msg("reading %s used weights behind it: %s", reads, err.msg);
    if (message) {
        assert_int_equal(rc, ERR_NUMERIC);
        if (!strstr(err.msg, message))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    }
    tear_down(&s);
}

static void bad_q(struct layer *w)
{
    w->q.data = poison;
}

static void bad_o(struct layer *w)
{
    w->o.data = poison;
}

static void bad_down(struct layer *w)
{
    w->mlp.down.data = poison;
}

static void bad_up(struct layer *w)
{
    w->mlp.up.data = poison;
}

static void bad_ln1(struct layer *w)
{
    w->ln1.gain = poison;
}

static void nothing_behind_the_last_read_is_computed(void **state)
{
    (void)state;
    poison_one("resid_post:1", 2, bad_ln1, NULL);
    poison_one("resid_pre:2", 2, bad_ln1, NULL);
    poison_one("normalized_ln1:2", 2, bad_q, NULL);
    poison_one("ln1_out:2", 2, bad_q, NULL);
    poison_one("attn_scores:1", 1, bad_o, NULL);
    poison_one("pattern:1", 1, bad_o, NULL);
    poison_one("z:1", 1, bad_o, NULL);
    poison_one("attn_out:1", 1, bad_up, NULL);
    poison_one("resid_mid:1", 1, bad_up, NULL);
    poison_one("post:1", 1, bad_down, NULL);
    poison_one("embed", 0, bad_ln1, NULL);
    /* And what lies before is used: the test can fail. */
    poison_one("resid_post:2", 2, bad_ln1, "blocks.2.hook_attn_out");
    poison_one("ln1_out:2", 2, bad_ln1, "blocks.2.ln1.hook_out");
    poison_one("q:1", 1, bad_q, "blocks.1.attn.hook_q");
    poison_one("attn_scores:1", 1, bad_q, "blocks.1.attn.hook_attn_scores");
    poison_one("pattern:1", 1, bad_q, "blocks.1.attn.hook_pattern");
    poison_one("attn_out:1", 1, bad_o, "blocks.1.hook_attn_out");
    poison_one("logits", 0, bad_down, "blocks.0.hook_mlp_out: NaN or infinite at token 0 of prompt a");
}

struct counter {
    struct sink sink;
    size_t views, rows;
    int answer;
};

static int count(struct sink *self, const struct site_view *v, struct err *err)
{
    struct counter *c = (struct counter *)(void *)self;
    c->views++;
    c->rows += v->n_rows;
    return c->answer ? err_set(err, ERR_INTERRUPTED, "enough") : 0;
}

static void only_wanted_rows_reach_the_final_norm_and_logits(void **state)
{
    (void)state;
    struct setting s;
    struct err err = { 0 };
    unsigned char wanted[64] = { 0 };
    wanted[4] = wanted[4 + MOST_TOKENS] = 1; /* the last tokens of the first two prompts */
    set_up(&s, models[2], PRECISION_F64, "logits,ln_final_out");
    must(collector_begin(&s.sites, s.prompts, N_PROMPTS, wanted, &err), &err);
    struct counter counter = { .sink = { count } };
    struct forward f = { .prompts = s.prompts, .n_prompts = N_PROMPTS, .reads = &s.reads, .final_rows = wanted };
    f.sink = &counter.sink;
    must(runtime_forward(s.rt, &f, &err), &err);
    assert_int_equal(counter.rows, 2 * 2);
    f.sink = &s.sites.sink;
    must(runtime_forward(s.rt, &f, &err), &err);
    struct edit_list none = { 0 };
    for (size_t i = 0; i < 2; i++) {
        struct naive o;
        naive_run(&o, s.m, &s.prompts[i], &none);
        const double *b = o.sites[SITE_LOGITS * s.m->config.n_layers] + (o.n - 1) * s.m->config.d_vocab;
        const double *a = (double *)collector_rows(&s.sites, SITE_LOGITS, 0) + i * s.m->config.d_vocab;
        for (size_t v = 0; v < s.m->config.d_vocab; v++)
            assert_true(fabs(a[v] - b[v]) < 1e-10);
        naive_free(&o);
    }
    tear_down(&s);
}

/* The lens's two halves, from residuals that were read: the model's own logits, in blocks of the vocabulary. */
static void final_norm_and_unembedding_give_the_logits(void **state)
{
    (void)state;
    for (size_t m = 0; m < N_MODELS; m++) {
        struct setting s;
        struct err err = { 0 };
        set_up(&s, models[m], PRECISION_F64, "resid_post,logits");
        must(run(&s, NULL, &err), &err);
        const struct model_config *c = &s.m->config;
        size_t n = s.sites.n_kept;
        const double *logits = collector_rows(&s.sites, SITE_LOGITS, 0);
        double *normed = numbers(n * c->d_model), *part = numbers(n * c->d_vocab);
        runtime_head_input(s.rt, collector_rows(&s.sites, SITE_RESID_POST, c->n_layers - 1), n, normed, 0);
        for (size_t first = 0, size; first < c->d_vocab; first += size) {
            size = c->d_vocab - first < 23 ? c->d_vocab - first : 23;
            runtime_unembed(s.rt, normed, n, first, size, part, 1);
            for (size_t r = 0; r < n; r++)
                for (size_t v = 0; v < size; v++)
                    assert_true(fabs(part[r * size + v] - logits[r * c->d_vocab + first + v]) < 1e-11);
        }
        free(normed);
        free(part);
        tear_down(&s);
    }
}

/* --- refusals --- */

static void assert_refused(struct setting *s, const struct forward *f, int code, const char *message)
{
    struct err err = { 0 };
    int rc = runtime_forward(s->rt, f, &err);
    assert_int_equal(rc, code);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
}

static void bad_prompts_are_refused(void **state)
{
    (void)state;
    struct setting s;
    int32_t tokens[70] = { 0 };
    set_up(&s, models[2], PRECISION_F32, "logits");
    struct prompt p = { .tokens = tokens, .n_tokens = 0, .name = "fact-7" };
    struct forward f = { .prompts = &p, .n_prompts = 1, .reads = &s.reads, .sink = &s.sites.sink };
    assert_refused(&s, &f, ERR_ARG, "prompt fact-7 has no tokens");
    p.n_tokens = 69;
    assert_refused(&s, &f, ERR_ARG, "prompt fact-7 has 69 tokens, the model's context is 68");
    p.n_tokens = 3;
    tokens[2] = (int32_t)s.m->config.d_vocab;
    assert_refused(&s, &f, ERR_ARG, "prompt fact-7: token id 59 is outside the vocabulary of 59");
    tokens[2] = -1;
    assert_refused(&s, &f, ERR_ARG, "token id -1");
    f.n_prompts = 0;
    must(runtime_forward(s.rt, &f, NULL), NULL);
    tear_down(&s);
}

static void edits_that_do_not_fit_the_prompt_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *edit, *message;
    } cases[] = {
        { "z:0@subject zero", "edit 'z:0@subject zero' on prompt x: position 'subject': the prompt has no subject" },
        { "z:0@3 zero", "there is no position 3: the prompt has 3 tokens" },
        { "attn_scores:0@last<-subject block", "no subject" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct setting s;
        struct err err = { 0 };
        struct edit_list edits = { 0 };
        int32_t tokens[3] = { 1, 2, 3 };
        set_up(&s, models[0], PRECISION_F32, "logits");
        must(edit_parse(&edits, cases[i].edit, &s.m->config, &err), &err);
        struct prompt p = { .tokens = tokens, .n_tokens = 3, .name = "x" };
        struct forward f = { .prompts = &p, .n_prompts = 1, .reads = &s.reads, .sink = &s.sites.sink, .edits = &edits };
        assert_refused(&s, &f, ERR_ARG, cases[i].message);
        edit_list_release(&edits);
        tear_down(&s);
    }
}

/* Whatever overflows is named where it shows first, in both ways through attention. */
static void overflow_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *reads, *edit, *message;
    } cases[] = {
        { "logits", "q:0 scale 1e38", "blocks.0.hook_attn_out: NaN or infinite at token 0 of prompt a" },
        { "attn_scores:0", "q:0 scale 1e38", "blocks.0.attn.hook_attn_scores: NaN or infinite at head 0, query " },
        { "pattern:0", "q:0 scale 1e38", "blocks.0.attn.hook_pattern: NaN or infinite at head 0, query " },
        { "z:0", "q:0 scale 1e38", "blocks.0.attn.hook_z" },
        { "post:1", "pre:1 scale 1e38", "blocks.1.mlp.hook_post: NaN or infinite" },
        { "logits", "scale_ln1:1@1 zero", "blocks.1.hook_attn_out: NaN or infinite" },
        { "resid_post", "resid_post:1@last add 3e38", NULL },
        { "logits", "ln_final_out scale 3e38", "logits: NaN or infinite" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct setting s;
        struct err err = { 0 };
        struct edit_list edits = { 0 };
        set_up(&s, models[0], PRECISION_F32, cases[i].reads);
        must(edit_parse(&edits, cases[i].edit, &s.m->config, &err), &err);
        if (strstr(cases[i].edit, "q:0"))
            must(edit_parse(&edits, "k:0 scale 1e38", &s.m->config, &err), &err);
        int rc = run(&s, &edits, &err);
        if (rc != (cases[i].message ? ERR_NUMERIC : 0))
            fail_msg("%s with '%s': %d %s", cases[i].reads, cases[i].edit, rc, rc ? err.msg : "accepted");
        if (cases[i].message && !strstr(err.msg, cases[i].message))
            fail_msg("\"%s\" does not say \"%s\"", err.msg, cases[i].message);
        edit_list_release(&edits);
        tear_down(&s);
    }
}

static void a_sink_can_stop_the_run(void **state)
{
    (void)state;
    struct setting s;
    struct counter counter = { .sink = { count }, .answer = 1 };
    set_up(&s, models[0], PRECISION_F32, "*");
    struct forward f = { .prompts = s.prompts, .n_prompts = N_PROMPTS, .reads = &s.reads, .sink = &counter.sink };
    assert_refused(&s, &f, ERR_INTERRUPTED, "enough");
    assert_int_equal(counter.views, 1);
    tear_down(&s);
}

static void caches_are_checked(void **state)
{
    (void)state;
    struct setting s;
    struct err err = { 0 };
    struct kv_cache *cache;
    set_up(&s, models[0], PRECISION_F32, "logits");
    must(kv_cache_create(&cache, s.rt, 8, &err), &err);
    struct counter counter = { .sink = { count } };
    struct forward f = {
        .prompts = s.prompts, .n_prompts = 2, .reads = &s.reads, .sink = &counter.sink, .cache = cache
    };
    assert_refused(&s, &f, ERR_ARG, "a cached run takes one prompt, not 2");
    f.n_prompts = 1;
    must(runtime_forward(s.rt, &f, &err), &err);
    assert_int_equal(kv_cache_tokens(cache), 5);
    assert_refused(&s, &f, ERR_ARG, "prompt a has 10 tokens, the cache holds 8");
    assert_int_equal(kv_cache_tokens(cache), 5);
    struct site_set edges;
    must(site_set_init(&edges, &s.m->config, &err), &err);
    must(site_set_add(&edges, "pattern:0", &err), &err);
    s.prompts[0].n_tokens = 2;
    f.reads = &edges;
    assert_refused(&s, &f, ERR_UNSUPPORTED, "cannot be read or edited in a cached run");
    site_set_release(&edges);
    kv_cache_free(cache);
    tear_down(&s);
}

static int make_pool(void **state)
{
    (void)state;
    return pool_create(&pool, 2, NULL);
}

static int free_pool(void **state)
{
    (void)state;
    pool_free(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_equal_the_naive_model),
        cmocka_unit_test(a_missed_edit_is_seen),
        cmocka_unit_test(what_is_read_changes_no_number),
        cmocka_unit_test(thread_counts_agree),
        cmocka_unit_test(nothing_behind_the_last_read_is_computed),
        cmocka_unit_test(only_wanted_rows_reach_the_final_norm_and_logits),
        cmocka_unit_test(final_norm_and_unembedding_give_the_logits),
        cmocka_unit_test(bad_prompts_are_refused),
        cmocka_unit_test(edits_that_do_not_fit_the_prompt_are_refused),
        cmocka_unit_test(overflow_is_named),
        cmocka_unit_test(a_sink_can_stop_the_run),
        cmocka_unit_test(caches_are_checked),
    };
    return cmocka_run_group_tests_name("runtime", tests, make_pool, free_pool);
}

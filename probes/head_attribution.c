#include "probes/head_attribution.h"

#include "core/base/mem.h"
#include "core/runtime/collect.h"
#include "core/store/journal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_FACTS = 64 }; /* in a batch: bounds what is kept of them */

/* What a batch keeps of the model's run. */
struct taker {
    struct sink sink; /* first */
    const struct model *model;
    const struct prompt *prompts;
    size_t n_prompts, n_rows;
    size_t *prompt_of, *first_row;    /* [n_rows], [n_prompts] */
    size_t *pattern_offset;           /* [n_prompts] */
    double *z, *v, *resid, *pattern;  /* [n_prompts, layers, heads * d_head], [n_rows, layers, kv heads * d_head],
                                         [n_prompts, d_model], each [layers, heads, tokens] */
    double *scale;                    /* [n_prompts, layers] of the norm after attention, where there is one */
    double *directions, *columns, *w; /* 2 [n_prompts, d_model], [n_prompts, heads * d_head], scratch */
    unsigned char *final_rows;        /* [n_rows] none: the final norm is not needed */
    size_t pattern_size;
};

static size_t head_width(const struct model_config *c)
{
    return c->n_heads * c->d_head;
}

static size_t value_width(const struct model_config *c)
{
    return c->n_kv_heads * c->d_head;
}

static void take_row(const struct taker *t, const struct site_view *v, size_t r)
{
    const struct model_config *c = &t->model->config;
    size_t row = v->rows ? v->rows[r] : v->first_row + r, prompt = t->prompt_of[row];
    bool last = row + 1 == t->first_row[prompt] + t->prompts[prompt].n_tokens;
    double *out = v->site == SITE_V            ? t->v + (row * c->n_layers + v->layer) * value_width(c)
                  : !last                      ? NULL
                  : v->site == SITE_Z          ? t->z + (prompt * c->n_layers + v->layer) * head_width(c)
                  : v->site == SITE_RESID_POST ? t->resid + prompt * c->d_model
                                               : t->scale + prompt * c->n_layers + v->layer;
    if (out)
        collector_widen(v->data, v->precision, r * v->row_size, v->row_size, out);
}

static void take_pattern(const struct taker *t, const struct site_view *v)
{
    size_t n = t->prompts[v->prompt].n_tokens, n_heads = t->model->config.n_heads;
    double *out = t->pattern + t->pattern_offset[v->prompt] + v->layer * n_heads * n;
    for (size_t h = 0; h < n_heads; h++)
        collector_widen(v->data, v->precision, (h * n + n - 1) * n, n, out + h * n);
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    const struct taker *t = (struct taker *)(void *)self;
    (void)err;
    if (v->site == SITE_PATTERN)
        take_pattern(t, v);
    else
        for (size_t r = 0; r < v->n_rows; r++)
            take_row(t, v, r);
    return 0;
}

static void release_taker(struct taker *t)
{
    free(t->prompt_of);
    free(t->first_row);
    free(t->pattern_offset);
    free(t->z);
    free(t->v);
    free(t->resid);
    free(t->pattern);
    free(t->scale);
    free(t->directions);
    free(t->columns);
    free(t->w);
    free(t->final_rows);
}

static int make_room(struct taker *t, struct err *err)
{
    const struct model_config *c = &t->model->config;
    size_t v_row = c->n_layers * value_width(c), row = 0;
    t->first_row = mem_array(t->n_prompts, sizeof *t->first_row);
    t->pattern_offset = mem_array(t->n_prompts, sizeof *t->pattern_offset);
    for (size_t i = 0; i < t->n_prompts; i++)
        t->n_rows += t->prompts[i].n_tokens;
    t->pattern_size = t->n_rows * c->n_layers * c->n_heads;
    t->prompt_of = mem_array(t->n_rows, sizeof *t->prompt_of);
    t->final_rows = mem_zeroed(t->n_rows, 1);
    t->z = mem_array(t->n_prompts * c->n_layers, head_width(c) * sizeof *t->z);
    t->v = mem_array(t->n_rows, v_row * sizeof *t->v);
    t->resid = mem_array(t->n_prompts, c->d_model * sizeof *t->resid);
    t->pattern = mem_array(t->pattern_size, sizeof *t->pattern);
    t->scale = mem_array(t->n_prompts, c->n_layers * sizeof *t->scale);
    t->directions = mem_array(t->n_prompts, 2 * c->d_model * sizeof *t->directions);
    t->columns = mem_array(t->n_prompts, head_width(c) * sizeof *t->columns);
    t->w = mem_array(c->d_model, head_width(c) * sizeof *t->w);
    if (!t->first_row || !t->pattern_offset || !t->prompt_of || !t->final_rows || !t->z || !t->v || !t->resid ||
        !t->pattern || !t->scale || !t->directions || !t->columns || !t->w)
        return err_nomem(err, "the heads of a batch");
    for (size_t i = 0; i < t->n_prompts; i++) {
        t->first_row[i] = row;
        t->pattern_offset[i] = row * c->n_layers * c->n_heads;
        for (size_t k = 0; k < t->prompts[i].n_tokens; k++)
            t->prompt_of[row++] = i;
    }
    return 0;
}

static int run_model(struct taker *t, struct runtime *rt, struct err *err)
{
    const struct model_config *c = &t->model->config;
    struct site_set reads;
    int rc = site_set_init(&reads, c, err);
    rc = rc ? rc : site_set_add(&reads, "blocks.*.attn.hook_z,blocks.*.attn.hook_v,blocks.*.attn.hook_pattern", err);
    if (!rc) {
        site_set_add_one(&reads, (struct site_ref){ SITE_RESID_POST, c->n_layers - 1 });
        for (size_t l = 0; c->sublayer_norms && l < c->n_layers; l++)
            site_set_add_one(&reads, (struct site_ref){ SITE_LN1_POST_SCALE, l });
        const struct forward f = { .prompts = t->prompts,
                                   .n_prompts = t->n_prompts,
                                   .reads = &reads,
                                   .sink = &t->sink,
                                   .final_rows = t->final_rows };
        rc = runtime_forward(rt, &f, err);
    }
    site_set_release(&reads);
    return rc;
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One head of one fact: column[d_head] is what each number of z adds. source: [n_tokens] or NULL. */
static void attribute_head(struct head_attribution *a, const struct taker *t, size_t fact, size_t i, size_t layer,
                           size_t head, const double *column, double *source)
{
    const struct model_config *c = &t->model->config;
    const struct prompt *p = &t->prompts[i];
    size_t at = fact * a->n_heads + layer * c->n_heads + head, group = c->n_heads / c->n_kv_heads;
    const double *pattern = t->pattern + t->pattern_offset[i] + (layer * c->n_heads + head) * p->n_tokens;
    bool subject = p->subject_end > p->subject_begin;
    a->logit[at] = dot(column, t->z + (i * c->n_layers + layer) * head_width(c) + head * c->d_head, c->d_head);
    a->from_subject[at] = a->to_subject[at] = subject ? 0 : NAN;
    for (size_t k = 0; k < p->n_tokens; k++) {
        bool inside = k >= p->subject_begin && k < p->subject_end;
        if (!source && !inside)
            continue;
        const double *v = t->v + ((t->first_row[i] + k) * c->n_layers + layer) * value_width(c);
        double share = pattern[k] * dot(column, v + head / group * c->d_head, c->d_head);
        if (source)
            source[k] = share;
        a->from_subject[at] += inside ? share : 0;
        a->to_subject[at] += inside ? pattern[k] : 0;
    }
}

static int attribute(struct head_attribution *a, const struct taker *t, const struct logit_contrast *contrasts,
                     size_t first, struct err *err)
{
    const struct model_config *c = &t->model->config;
    for (size_t i = 0; i < t->n_prompts; i++) {
        double constant;
        logit_direction(t->model, &contrasts[first + i], t->resid + i * c->d_model, t->directions + i * c->d_model,
                        &constant);
    }
    double *own = t->directions + t->n_prompts * c->d_model;
    int rc = 0;
    for (size_t l = 0; l < c->n_layers && !(rc = model_use_layer(t->model, l, err)); l++) {
        for (size_t i = 0; i < t->n_prompts; i++)
            sublayer_direction(t->model, &t->model->layers[l].ln1_post, t->scale[i * c->n_layers + l],
                               t->directions + i * c->d_model, own + i * c->d_model);
        direction_columns(&t->model->layers[l].o, own, t->n_prompts, t->columns, t->w);
        for (size_t i = 0; i < t->n_prompts; i++)
            for (size_t h = 0; h < c->n_heads; h++) {
                size_t fact = first + i, n = t->prompts[i].n_tokens;
                double *source = a->source ? a->source + a->source_offset[fact] + (l * c->n_heads + h) * n : NULL;
                attribute_head(a, t, fact, i, l, h, t->columns + i * head_width(c) + h * c->d_head, source);
            }
    }
    return rc;
}

static int run_batch(struct head_attribution *a, struct runtime *rt, const struct prompt *prompts,
                     const struct logit_contrast *contrasts, size_t first, size_t n, struct err *err)
{
    struct taker t = { .sink = { take }, .model = runtime_model(rt), .prompts = prompts + first, .n_prompts = n };
    int rc = make_room(&t, err);
    rc = rc ? rc : run_model(&t, rt, err);
    rc = rc ? rc : attribute(a, &t, contrasts, first, err);
    release_taker(&t);
    return rc;
}

static int check(const struct model *m, const struct prompt *prompts, const struct logit_contrast *contrasts, size_t n,
                 struct err *err)
{
    size_t d_vocab = m->config.d_vocab;
    int rc = logit_direction_check(m, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < n; i++) {
        const char *name = prompts[i].name ? prompts[i].name : "?";
        if (!prompts[i].n_tokens)
            return err_set(err, ERR_ARG, "prompt %s: it has no tokens", name);
        if (contrasts[i].answer < 0 || (size_t)contrasts[i].answer >= d_vocab)
            return err_set(err, ERR_ARG, "prompt %s: answer token %d is outside the vocabulary of %zu", name,
                           (int)contrasts[i].answer, d_vocab);
        for (size_t k = 0; k < contrasts[i].n_rivals; k++)
            if (contrasts[i].rivals[k] < 0 || (size_t)contrasts[i].rivals[k] >= d_vocab)
                return err_set(err, ERR_ARG, "prompt %s: rival token %d is outside the vocabulary of %zu", name,
                               (int)contrasts[i].rivals[k], d_vocab);
    }
    return 0;
}

static int create(struct head_attribution *a, const struct prompt *prompts, bool by_source, struct err *err)
{
    size_t size = 0;
    a->logit = mem_array(a->n_facts, a->n_heads * sizeof *a->logit);
    a->from_subject = mem_array(a->n_facts, a->n_heads * sizeof *a->from_subject);
    a->to_subject = mem_array(a->n_facts, a->n_heads * sizeof *a->to_subject);
    if (!a->logit || !a->from_subject || !a->to_subject)
        return err_nomem(err, "the attribution of heads");
    if (!by_source)
        return 0;
    a->source_offset = mem_array(a->n_facts + 1, sizeof *a->source_offset);
    for (size_t i = 0; a->source_offset && i <= a->n_facts; i++) {
        size_t n = 0;
        a->source_offset[i] = size;
        if (i < a->n_facts && (!size_mul(prompts[i].n_tokens, a->n_heads, &n) || !size_add(size, n, &size)))
            return err_nomem(err, "the attribution of heads");
    }
    a->source = mem_array(size, sizeof *a->source);
    return a->source_offset && a->source ? 0 : err_nomem(err, "the attribution of heads");
}

/* From the journal, or measured. */
static int take_batch(struct head_attribution *a, struct runtime *rt, const struct prompt *prompts,
                      const struct logit_contrast *contrasts, size_t first, size_t n, struct progress *progress,
                      struct err *err)
{
    struct journal *j = a->source ? NULL : progress_journal(progress); /* by source is for single facts */
    size_t at = first * a->n_heads, bytes = n * a->n_heads * sizeof(double);
    const struct journal_part parts[] = { { a->logit + at, bytes },
                                          { a->from_subject + at, bytes },
                                          { a->to_subject + at, bytes } };
    if (journal_load(j, parts, 3))
        return 0;
    int rc = run_batch(a, rt, prompts, contrasts, first, n, err);
    return rc ? rc : journal_save(j, parts, 3, err);
}

int head_attribution_run(struct head_attribution *a, struct runtime *rt, const struct prompt *prompts,
                         const struct logit_contrast *contrasts, size_t n_facts,
                         const struct head_attribution_options *o, struct progress *progress, struct err *err)
{
    const struct model *m = runtime_model(rt);
    *a = (struct head_attribution){ .n_facts = n_facts, .n_heads = m->config.n_layers * m->config.n_heads };
    int rc = check(m, prompts, contrasts, n_facts, err);
    rc = rc ? rc : create(a, prompts, o && o->by_source, err);
    for (size_t first = 0, n; !rc && first < n_facts; first += n) {
        size_t rows = prompts[first].n_tokens;
        for (n = 1; first + n < n_facts && n < MOST_FACTS; n++) {
            rows += prompts[first + n].n_tokens;
            if (rows > runtime_batch_rows())
                break;
        }
        rc = take_batch(a, rt, prompts, contrasts, first, n, progress, err);
        if (!rc && progress_step(progress, first + n, n_facts))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu facts", first + n, n_facts);
    }
    if (rc)
        head_attribution_release(a);
    return rc;
}

void head_attribution_release(struct head_attribution *a)
{
    free(a->logit);
    free(a->from_subject);
    free(a->to_subject);
    free(a->source_offset);
    free(a->source);
    *a = (struct head_attribution){ 0 };
}

void head_means(const double *values, size_t n_facts, size_t n_heads, double *mean)
{
    for (size_t h = 0; h < n_heads; h++) {
        size_t n = 0;
        double sum = 0;
        for (size_t i = 0; i < n_facts; i++)
            if (!isnan(values[i * n_heads + h])) {
                sum += values[i * n_heads + h];
                n++;
            }
        mean[h] = n ? sum / (double)n : NAN;
    }
}

struct scored {
    double score;
    size_t number;
};

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

int head_order(const double *score, size_t n, size_t *order, struct err *err)
{
    struct scored *s = mem_array(n, sizeof *s);
    if (!s)
        return err_nomem(err, "an order of heads");
    for (size_t i = 0; i < n; i++)
        s[i] = (struct scored){ isnan(score[i]) ? -INFINITY : score[i], i };
    qsort(s, n, sizeof *s, compare_scored);
    for (size_t i = 0; i < n; i++)
        order[i] = s[i].number;
    free(s);
    return 0;
}

/* Which rows are active in a layer: replays begin with few, and only rows that are read leave the last layer. */
#include "core/runtime/internal_real.h"

#include <string.h>

static bool before(const struct pass *p, size_t row, size_t sequence, size_t token)
{
    size_t own = p->b.sequence[row];
    return own < sequence || (own == sequence && p->b.token[row] < token);
}

static const real *base_resid(const struct pass *p, size_t layer, const struct sequence *s, size_t token)
{
    const struct collector *base = p->schedule->base;
    const real *resid = collector_rows(base, SITE_RESID_PRE, layer);
    return resid + (base->first_row[s->run] + token) * p->model->config.d_model;
}

static bool is_row(const struct pass *p, size_t row, size_t sequence, size_t token)
{
    return row < p->n_rows && p->b.sequence[row] == sequence && p->b.token[row] == token;
}

/* Where a sequence's token is, or would be, among the rows of the layer before. */
static size_t find_row(const struct pass *p, size_t sequence, size_t token)
{
    size_t low = 0, high = p->n_rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (before(p, middle, sequence, token))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void activate_rows(struct pass *p, size_t layer)
{
    if (!p->schedule)
        return;
    const unsigned char *active = p->schedule->active + layer * p->schedule->n_rows;
    size_t d = p->model->config.d_model, old = 0, n = 0;
    const real *resid = p->b.resid;
    real *next = p->b.delta;
    size_t *next_sequence = p->b.view_rows, *next_token = p->b.key_token;
    for (size_t i = 0; i < p->n_sequences; i++) {
        struct sequence *s = &p->sequences[i];
        s->begin = n;
        for (size_t t = 0; t < s->prompt->n_tokens; t++) {
            if (!active[s->first_row + t])
                continue;
            while (old < p->n_rows && before(p, old, i, t))
                old++;
            bool joins = s->split && s->split == layer; /* its rows are the parent's until now */
            size_t from = joins ? find_row(p, s->parent, t) : old;
            bool there = is_row(p, from, joins ? s->parent : i, t);
            memcpy(next + n * d, there ? resid + from * d : base_resid(p, layer, s, t), d * sizeof *next);
            next_sequence[n] = i;
            next_token[n++] = t;
        }
        s->end = n;
    }
    memcpy(p->b.sequence, next_sequence, n * sizeof *next_sequence);
    memcpy(p->b.token, next_token, n * sizeof *next_token);
    p->b.delta = p->b.resid;
    p->b.resid = next;
    p->n_rows = n;
}

void keep_key_rows(struct pass *p)
{
    for (size_t i = 0; i < p->n_sequences; i++) {
        p->sequences[i].key_begin = p->sequences[i].begin;
        p->sequences[i].key_end = p->sequences[i].end;
    }
    if (p->schedule)
        memcpy(p->b.key_token, p->b.token, p->n_rows * sizeof *p->b.token);
}

void narrow_rows(struct pass *p)
{
    const unsigned char *wanted = p->schedule ? p->schedule->wanted : p->read_rows;
    size_t d = p->model->config.d_model, query = p->model->config.n_heads * p->model->config.d_head, n = 0;
    if (!wanted || (touched(p, SITE_SCORES, p->last_layer) & TOUCH_READ) ||
        (touched(p, SITE_PATTERN, p->last_layer) & TOUCH_READ))
        return;
    real *resid = p->b.resid, *q = p->b.q, *normed = p->b.normed;
    bool parallel = p->model->config.block == BLOCK_PARALLEL; /* the MLP reads the norm that attention has read */
    for (size_t i = 0; i < p->n_sequences; i++) {
        struct sequence *s = &p->sequences[i];
        size_t begin = n;
        for (size_t row = s->begin; row < s->end; row++) {
            if (!wanted[s->first_row + p->b.token[row]])
                continue;
            if (n != row) {
                memcpy(resid + n * d, resid + row * d, d * sizeof *resid);
                memcpy(q + n * query, q + row * query, query * sizeof *q);
                if (parallel)
                    memcpy(normed + n * d, normed + row * d, d * sizeof *normed);
                p->b.sequence[n] = i;
                p->b.token[n] = p->b.token[row];
            }
            n++;
        }
        s->begin = begin;
        s->end = n;
    }
    p->whole = p->whole && n == p->n_rows;
    p->n_rows = n;
}

/* Attention between contents and distances (DeBERTa, He et al. 2021, section 3.1). */
#include "core/runtime/internal_real.h"

#include <math.h>
#include <string.h>

/* Distances beyond half of the buckets share logarithmic ones; in float, as models are trained. */
static ptrdiff_t bucket(const struct relative_positions *r, ptrdiff_t distance)
{
    ptrdiff_t middle = (ptrdiff_t)r->buckets / 2, size = distance < 0 ? -distance : distance;
    if (!r->buckets || size <= middle)
        return distance;
    float of = logf((float)size / (float)middle), whole = logf((float)(r->longest - 1) / (float)middle);
    ptrdiff_t log_size = (ptrdiff_t)ceilf(of / whole * (float)(middle - 1)) + middle;
    return distance < 0 ? -log_size : log_size;
}

/* Row of the table for query - key. */
static size_t table_row(const struct relative_positions *r, ptrdiff_t distance)
{
    ptrdiff_t row = bucket(r, distance) + (ptrdiff_t)r->span, last = 2 * (ptrdiff_t)r->span - 1;
    return (size_t)(row < 0 ? 0 : row > last ? last : row);
}

/* Rows that the pass's longest prompt needs. */
static struct range table_rows(const struct pass *p)
{
    const struct relative_positions *r = &p->model->config.relative;
    ptrdiff_t most = (ptrdiff_t)p->longest - 1;
    return (struct range){ table_row(r, -most), table_row(r, most) + 1 };
}

void project_distances(struct pass *p, size_t l)
{
    const struct model *m = p->model;
    const struct model_config *c = &m->config;
    const struct layer *w = &m->layers[l];
    const struct REAL_NAME(kernels) *k = kernels_of(p->rt);
    struct range rows = table_rows(p);
    size_t n = rows.last - rows.first, d = c->d_model, width = c->n_heads * c->d_head;
    real *x = p->b.distances;
    for (size_t i = 0; i < n; i++) {
        real mean, scale, *row = x + i * d;
        for (size_t j = 0; j < d; j++)
            row[j] = (real)m->relative[(rows.first + i) * d + j];
        if (!c->relative.normalised)
            continue;
        k->norm_stats(row, d, c->norm, c->norm_eps, &mean, &scale);
        k->normalize(row, d, mean, scale, row);
        k->gain_bias(row, m->relative_norm.gain, m->relative_norm.bias, d, row);
    }
    bool shared = c->relative.shared;
    if (c->relative.from_position)
        matmul(p, shared ? &w->q : &w->position_q, shared ? w->q_bias : w->position_q_bias, x, d, n, p->b.distance_q,
               width);
    if (c->relative.to_position)
        matmul(p, shared ? &w->k : &w->position_k, shared ? w->k_bias : w->position_k_bias, x, d, n, p->b.distance_k,
               width);
}

static real dot(const real *a, const real *b, size_t n)
{
    real sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

void add_distances(const struct pass *p, size_t l, size_t head, size_t query, const real *q, const real *k,
                   size_t k_stride, struct range keys, real *s)
{
    const struct model_config *c = &p->model->config;
    const struct relative_positions *r = &c->relative;
    size_t d = c->d_head, width = c->n_heads * d, first = table_rows(p).first;
    real scale = (real)p->model->layers[l].attn_scale;
    const real *to = (const real *)p->b.distance_k + head * d, *from = (const real *)p->b.distance_q + head * d;
    for (size_t j = keys.first; j < keys.last; j++, k += k_stride) {
        size_t row = (table_row(r, (ptrdiff_t)query - (ptrdiff_t)j) - first) * width;
        real sum = r->to_position ? dot(q, to + row, d) : 0;
        sum += r->from_position ? dot(k, from + row, d) : 0;
        s[j - keys.first] += scale * sum;
    }
}

/* Hooks: what happens when the forward pass reaches a site that somebody reads or edits. */
#include "core/runtime/internal_real.h"

#include "core/base/random.h"

#include <math.h>

/* x[n] changed by the edit; `values` are n numbers, NULL: its number. */
static void apply(const struct edit *e, const real *values, real *x, size_t n)
{
    real number = (real)e->value;
    for (size_t i = 0; i < n; i++)
        switch (e->op) {
        case EDIT_SET:
            x[i] = values ? values[i] : number;
            break;
        case EDIT_ADD:
            x[i] += values ? values[i] : number;
            break;
        case EDIT_SCALE:
            x[i] *= number;
            break;
        case EDIT_ZERO:
        case EDIT_UNIFORM: /* equal scores */
            x[i] = 0;
            break;
        case EDIT_BLOCK:
            x[i] = -(real)INFINITY;
            break;
        }
}

static bool applies(const struct edit *e, enum site site, size_t layer)
{
    return e->site == site && layer >= e->first_layer && layer <= e->last_layer;
}

/* Calls for each chosen unit range [first, last]; without a list that is everything. */
static struct range unit_range(const struct edit *e, size_t i, size_t n_units)
{
    return e->n_units ? e->units[i] : (struct range){ 0, n_units - 1 };
}

/* A run's numbers at the edit's source, of that run's first token. */
static const real *source_of(const struct pass *p, const struct sequence *s, const struct edit *e, size_t layer)
{
    size_t run = e->run == EDIT_OWN_RUN ? s->run : e->run;
    size_t from = e->from_layer == EDIT_SAME_LAYER ? layer : e->from_layer;
    if (site_row(e->site)->axes == AXES_EDGES)
        return collector_edges(p->source, e->from_site, from, run);
    const real *rows = collector_rows(p->source, e->from_site, from);
    return rows + p->source->first_row[run] * site_row_size(e->from_site, &p->model->config);
}

/* The numbers that one row's edit puts in or adds; in `room` where they must be made. NULL: the edit's one number. */
static const real *values_of(const struct pass *p, const struct sequence *s, const struct row_edit *row, size_t layer,
                             size_t token, size_t row_size, real *room)
{
    const struct edit *e = row->edit;
    const float *vector;
    struct random_source random;
    switch (e->source) {
    case EDIT_FROM_NUMBER:
    case EDIT_FROM_MEAN: /* refused before the run */
        return NULL;
    case EDIT_FROM_RUN:
        return source_of(p, s, e, layer) + row->from[token] * row_size;
    case EDIT_FROM_VECTOR:
        vector = e->vector + (e->n_vectors > 1 ? (layer - e->first_layer) * row_size : 0);
        for (size_t i = 0; i < row_size; i++)
            room[i] = (real)vector[i];
        return room;
    case EDIT_FROM_NOISE:
        /* Drawn by seed, site and position alone, so that every variant and thread count sees the same. */
        random_seed(&random, e->seed + 0x9E3779B97F4A7C15u * (1 + token) + ((uint64_t)layer << 40) + (uint64_t)e->site);
        for (size_t i = 0; i < row_size; i++)
            room[i] = (real)(e->value * random_normal(&random));
        return room;
    }
    return NULL;
}

static void edit_row(const struct pass *p, enum site site, size_t layer, size_t active_row, real *x, size_t row_size)
{
    const struct sequence *s = &p->sequences[p->b.sequence[active_row]];
    const char *what;
    size_t parts = site_units(site, &p->model->config, &what), n_units = parts ? parts : 1;
    size_t token = p->b.token[active_row], width = row_size / n_units;
    for (size_t i = 0; i < s->n_edits; i++) {
        const struct row_edit *row = &s->resolved[i];
        const struct edit *e = row->edit;
        if (!applies(e, site, layer) || !row->at[token])
            continue;
        const real *values = values_of(p, s, row, layer, token, row_size, p->b.value);
        for (size_t u = 0; u < (e->n_units ? e->n_units : 1); u++) {
            struct range units = unit_range(e, u, n_units);
            size_t first = units.first * width, n = (units.last - units.first + 1) * width;
            apply(e, values ? values + first : NULL, x + first, n);
        }
    }
}

int check_finite(const struct pass *p, enum site site, size_t layer, const real *x, size_t row_size, size_t first_row,
                 size_t n_rows, const size_t *index, struct err *err)
{
    char name[SITE_NAME_MAX];
    if (kernels_of(p->rt)->all_finite(x, n_rows * row_size))
        return 0;
    size_t r = 0;
    while (r + 1 < n_rows && kernels_of(p->rt)->all_finite(x + r * row_size, row_size))
        r++;
    size_t row = index ? index[r] : first_row + r;
    const char *id = p->sequences[p->b.sequence[row]].prompt->name;
    return err_set(err, ERR_NUMERIC, "%s: NaN or infinite at token %zu of prompt %s",
                   site_name((struct site_ref){ site, layer }, name), p->b.token[row], id ? id : "?");
}

static int show(struct pass *p, struct site_view view, const real *data, struct err *err)
{
    view.precision = p->rt->precision;
    view.data = data;
    return p->sink ? p->sink->take(p->sink, &view, err) : 0;
}

static int show_rows(struct pass *p, enum site site, size_t layer, const real *data, size_t row_size, size_t first_row,
                     size_t n_rows, const size_t *index, struct err *err)
{
    struct site_view view = {
        .site = site,
        .layer = layer,
        .first_row = first_row,
        .n_rows = n_rows,
        .row_size = row_size,
    };
    if (!p->whole || index) {
        for (size_t r = 0; r < n_rows; r++)
            p->b.view_rows[r] = p->first_view_row + batch_row(p, index ? index[r] : first_row + r);
        view.first_row = 0;
        view.rows = p->b.view_rows;
    }
    return show(p, view, data, err);
}

int visit_rows(struct pass *p, enum site site, size_t layer, real *data, size_t first_row, size_t n_rows,
               const size_t *index, struct err *err)
{
    unsigned touch = touched(p, site, layer);
    const struct model_config *c = &p->model->config;
    int rc = pool_stopped(p->rt->pool, err);
    if (!rc && touch && n_rows) {
        size_t row_size = site_row_size(site, c);
        for (size_t r = 0; (touch & TOUCH_EDIT) && r < n_rows; r++)
            edit_row(p, site, layer, index ? index[r] : first_row + r, data + r * row_size, row_size);
        if ((touch & TOUCH_READ) && !(rc = check_finite(p, site, layer, data, row_size, first_row, n_rows, index, err)))
            rc = show_rows(p, site, layer, data, row_size, first_row, n_rows, index, err);
    }
    if (site_order(site, layer, c->n_layers) >= p->stop)
        p->finished = true;
    return rc;
}

/* One query's edges. Only those that the mask lets through: an edit never opens the future. */
static void edit_query(const struct pass *p, const struct row_edit *row, size_t layer, const struct sequence *s,
                       size_t head, size_t token, size_t first_key, real *x)
{
    size_t n_tokens = s->prompt->n_tokens;
    struct range visible = visible_keys(p->model, layer, token, n_tokens);
    const real *values = NULL;
    if (row->edit->source == EDIT_FROM_RUN)
        values = source_of(p, s, row->edit, layer) + (head * n_tokens + row->from[token]) * n_tokens;
    for (size_t key = visible.first; key < visible.last; key++)
        if (row->keys[key])
            apply(row->edit, values ? values + key : NULL, x + (key - first_key), 1);
}

void edit_edges(const struct pass *p, enum site site, size_t layer, const struct sequence *s, size_t head, size_t first,
                size_t n, size_t first_key, real *data, size_t stride)
{
    for (size_t i = 0; i < s->n_edits; i++) {
        const struct row_edit *row = &s->resolved[i];
        if (!applies(row->edit, site, layer))
            continue;
        for (size_t u = 0; u < (row->edit->n_units ? row->edit->n_units : 1); u++) {
            struct range heads = unit_range(row->edit, u, p->model->config.n_heads);
            for (size_t r = 0; head >= heads.first && head <= heads.last && r < n; r++)
                if (row->at[p->b.token[first + r]])
                    edit_query(p, row, layer, s, head, p->b.token[first + r], first_key, data + r * stride);
        }
    }
}

/* Masked and blocked edges are -inf in the scores. */
static int check_edges(const struct pass *p, enum site site, size_t layer, const real *x, const struct sequence *s,
                       struct err *err)
{
    char name[SITE_NAME_MAX];
    size_t n = s->prompt->n_tokens;
    for (size_t i = 0; i < p->model->config.n_heads * n * n; i++)
        if (!(x[i] < (real)INFINITY))
            return err_set(err, ERR_NUMERIC, "%s: NaN or infinite at head %zu, query %zu, key %zu of prompt %s",
                           site_name((struct site_ref){ site, layer }, name), i / (n * n), i / n % n, i % n,
                           s->prompt->name ? s->prompt->name : "?");
    return 0;
}

int visit_edges(struct pass *p, enum site site, size_t layer, real *data, size_t prompt, struct err *err)
{
    unsigned touch = touched(p, site, layer);
    const struct sequence *s = &p->sequences[prompt];
    size_t n = s->prompt->n_tokens, n_heads = p->model->config.n_heads;
    int rc = pool_stopped(p->rt->pool, err);
    if (rc)
        return rc;
    for (size_t h = 0; (touch & TOUCH_EDIT) && h < n_heads; h++)
        edit_edges(p, site, layer, s, h, s->begin, n, 0, data + h * n * n, n);
    if (!(touch & TOUCH_READ))
        return 0;
    struct site_view view = {
        .site = site,
        .layer = layer,
        .first_row = s->first_row,
        .n_rows = n,
        .row_size = n_heads * n,
        .prompt = prompt,
    };
    rc = check_edges(p, site, layer, data, s, err);
    return rc ? rc : show(p, view, data, err);
}

/* Hooks: what happens when the forward pass reaches a site that somebody reads or edits. */
#include "core/runtime/internal_real.h"

#include <math.h>

static real edited(const struct edit *e, real x)
{
    switch (e->op) {
    case EDIT_SET:
        return (real)e->value;
    case EDIT_ADD:
        return x + (real)e->value;
    case EDIT_SCALE:
        return x * (real)e->value;
    case EDIT_ZERO:
        return 0;
    case EDIT_BLOCK:
        return -(real)INFINITY;
    }
    return x;
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

static void edit_rows(const struct row_edit *row, real *data, size_t row_size, size_t n_units, size_t first_row,
                      size_t n_rows, const size_t *rows)
{
    const struct edit *e = row->edit;
    size_t width = row_size / n_units;
    for (size_t r = 0; r < n_rows; r++) {
        if (!row->at[rows ? rows[r] : first_row + r])
            continue;
        for (size_t u = 0; u < (e->n_units ? e->n_units : 1); u++) {
            struct range units = unit_range(e, u, n_units);
            real *x = data + r * row_size + units.first * width;
            for (size_t i = 0; i < (units.last - units.first + 1) * width; i++)
                x[i] = edited(e, x[i]);
        }
    }
}

/* Heads or neurons of a site's row; sites without such an axis are one unit. */
static size_t units_of(enum site site, const struct model_config *c)
{
    switch (site_row(site)->axes) {
    case AXES_QUERY:
    case AXES_RESULT:
    case AXES_EDGES:
        return c->n_heads;
    case AXES_KEY:
        return c->n_kv_heads;
    case AXES_NEURONS:
        return c->d_mlp;
    default:
        return 1;
    }
}

int check_finite(const struct pass *p, enum site site, size_t layer, const real *x, size_t row_size, size_t first_row,
                 size_t n_rows, const size_t *rows, struct err *err)
{
    char name[SITE_NAME_MAX];
    if (kernels_of(p->rt)->all_finite(x, n_rows * row_size))
        return 0;
    size_t r = 0;
    while (r + 1 < n_rows && kernels_of(p->rt)->all_finite(x + r * row_size, row_size))
        r++;
    size_t row = rows ? rows[r] : first_row + r, prompt = 0;
    while (p->b.row_offset[prompt + 1] <= row)
        prompt++;
    const char *id = p->f->prompts[prompt].name;
    return err_set(err, ERR_NUMERIC, "%s: NaN or infinite at token %zu of prompt %s",
                   site_name((struct site_ref){ site, layer }, name), row - p->b.row_offset[prompt], id ? id : "?");
}

static int show(struct pass *p, enum site site, size_t layer, const real *data, size_t prompt, size_t first_row,
                size_t n_rows, size_t row_size, const size_t *rows, struct err *err)
{
    struct site_view view = {
        .site = site,
        .layer = layer,
        .precision = p->rt->precision,
        .data = data,
        .first_row = first_row,
        .n_rows = n_rows,
        .row_size = row_size,
        .rows = rows,
        .prompt = prompt,
    };
    return p->f->sink ? p->f->sink->take(p->f->sink, &view, err) : 0;
}

int visit_rows(struct pass *p, enum site site, size_t layer, real *data, size_t first_row, size_t n_rows,
               const size_t *rows, struct err *err)
{
    unsigned touch = touched(p, site, layer);
    const struct model_config *c = &p->model->config;
    int rc = 0;
    if (touch) {
        size_t row_size = site_row_size(site, c);
        for (size_t e = 0; (touch & TOUCH_EDIT) && e < p->n_edits; e++)
            if (applies(p->b.edits[e].edit, site, layer))
                edit_rows(&p->b.edits[e], data, row_size, units_of(site, c), first_row, n_rows, rows);
        if ((touch & TOUCH_READ) && !(rc = check_finite(p, site, layer, data, row_size, first_row, n_rows, rows, err)))
            rc = show(p, site, layer, data, 0, first_row, n_rows, row_size, rows, err);
    }
    if (site_order(site, layer, c->n_layers) >= p->stop)
        p->finished = true;
    return rc;
}

static void edit_edges(const struct pass *p, const struct row_edit *row, size_t layer, real *data, size_t prompt)
{
    const struct edit *e = row->edit;
    size_t n = p->f->prompts[prompt].n_tokens, first_row = p->b.row_offset[prompt];
    size_t window = p->model->layers[layer].window;
    for (size_t u = 0; u < (e->n_units ? e->n_units : 1); u++) {
        struct range heads = unit_range(e, u, p->model->config.n_heads);
        for (size_t h = heads.first; h <= heads.last; h++)
            for (size_t query = 0; query < n; query++) {
                if (!row->at[first_row + query])
                    continue;
                /* Only edges that the mask lets through: an edit never opens the future. */
                real *x = data + (h * n + query) * n;
                for (size_t key = window && query + 1 > window ? query + 1 - window : 0; key <= query; key++)
                    if (row->keys[first_row + key])
                        x[key] = edited(e, x[key]);
            }
    }
}

/* Masked and blocked edges are -inf in the scores. */
static int check_edges(const struct pass *p, enum site site, size_t layer, const real *x, size_t prompt, size_t n,
                       struct err *err)
{
    char name[SITE_NAME_MAX];
    const char *id = p->f->prompts[prompt].name;
    for (size_t i = 0; i < p->model->config.n_heads * n * n; i++)
        if (!(x[i] < (real)INFINITY))
            return err_set(err, ERR_NUMERIC, "%s: NaN or infinite at head %zu, query %zu, key %zu of prompt %s",
                           site_name((struct site_ref){ site, layer }, name), i / (n * n), i / n % n, i % n,
                           id ? id : "?");
    return 0;
}

int visit_edges(struct pass *p, enum site site, size_t layer, real *data, size_t prompt, struct err *err)
{
    unsigned touch = touched(p, site, layer);
    for (size_t e = 0; (touch & TOUCH_EDIT) && e < p->n_edits; e++)
        if (applies(p->b.edits[e].edit, site, layer))
            edit_edges(p, &p->b.edits[e], layer, data, prompt);
    if (!(touch & TOUCH_READ))
        return 0;
    size_t n = p->f->prompts[prompt].n_tokens;
    int rc = check_edges(p, site, layer, data, prompt, n, err);
    return rc ? rc
              : show(p, site, layer, data, prompt, p->b.row_offset[prompt], n, p->model->config.n_heads * n, NULL, err);
}

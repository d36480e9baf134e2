#include "core/runtime/collect.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

static size_t real_bytes(enum precision precision)
{
    return precision == PRECISION_F64 ? sizeof(double) : sizeof(float);
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct collector *c = (struct collector *)(void *)self;
    (void)err;
    size_t slot = v->site * c->reads->config->n_layers + v->layer, size = v->row_size * real_bytes(c->precision);
    char *data = c->data[slot];
    if (site_row(v->site)->axes == AXES_EDGES) {
        memcpy(data + c->edge_offset[v->prompt] * real_bytes(c->precision), v->data, v->n_rows * size);
        return 0;
    }
    for (size_t r = 0; r < v->n_rows; r++) {
        size_t to = c->kept[v->rows ? v->rows[r] : v->first_row + r];
        if (to != SIZE_MAX)
            memcpy(data + to * size, site_view_row(v, r), size);
    }
    return 0;
}

int collector_init(struct collector *c, const struct site_set *reads, enum precision precision, struct err *err)
{
    *c = (struct collector){ .sink = { take }, .reads = reads, .precision = precision };
    c->data = mem_zeroed(N_SITES * reads->config->n_layers, sizeof *c->data);
    c->bytes = mem_zeroed(N_SITES * reads->config->n_layers, sizeof *c->bytes);
    if (c->data && c->bytes)
        return 0;
    collector_release(c);
    return err_nomem(err, "collected sites");
}

static int index_rows(struct collector *c, const struct prompt *prompts, const unsigned char *keep, struct err *err)
{
    size_t n_rows = 0, edges = 0;
    for (size_t i = 0; i < c->n_prompts; i++)
        n_rows += prompts[i].n_tokens;
    if (n_rows > c->kept_capacity) {
        free(c->kept);
        c->kept = mem_array(n_rows, sizeof *c->kept);
        c->kept_capacity = c->kept ? n_rows : 0;
    }
    if (c->n_prompts > c->prompts_capacity) {
        free(c->edge_offset);
        free(c->tokens);
        free(c->first_row);
        c->edge_offset = mem_array(c->n_prompts + 1, sizeof *c->edge_offset);
        c->tokens = mem_array(c->n_prompts, sizeof *c->tokens);
        c->first_row = mem_array(c->n_prompts, sizeof *c->first_row);
        c->prompts_capacity = c->edge_offset && c->tokens && c->first_row ? c->n_prompts : 0;
    }
    if ((n_rows && !c->kept) || (c->n_prompts && !c->prompts_capacity))
        return err_nomem(err, "collected rows");
    c->n_kept = 0;
    for (size_t row = 0; row < n_rows; row++)
        c->kept[row] = !keep || keep[row] ? c->n_kept++ : SIZE_MAX;
    n_rows = 0;
    for (size_t i = 0; i < c->n_prompts; i++) {
        size_t square;
        c->tokens[i] = prompts[i].n_tokens;
        c->first_row[i] = n_rows;
        n_rows += prompts[i].n_tokens;
        c->edge_offset[i] = edges;
        if (!size_mul(prompts[i].n_tokens, prompts[i].n_tokens, &square) ||
            !size_mul(square, c->reads->config->n_heads, &square) || !size_add(edges, square, &edges))
            return err_nomem(err, "collected attention");
    }
    if (c->edge_offset)
        c->edge_offset[c->n_prompts] = edges;
    return 0;
}

int collector_begin(struct collector *c, const struct prompt *prompts, size_t n_prompts, const unsigned char *keep,
                    struct err *err)
{
    c->n_prompts = n_prompts;
    int rc = index_rows(c, prompts, keep, err);
    struct site_ref ref;
    for (size_t cursor = 0; !rc && n_prompts && site_set_next(c->reads, &cursor, &ref);) {
        size_t slot = ref.site * c->reads->config->n_layers + ref.layer, n = c->edge_offset[n_prompts], bytes;
        if (site_row(ref.site)->axes != AXES_EDGES &&
            !size_mul(c->n_kept, site_row_size(ref.site, c->reads->config), &n))
            return err_nomem(err, "collected sites");
        if (!size_mul(n, real_bytes(c->precision), &bytes))
            return err_nomem(err, "collected sites");
        if (bytes <= c->bytes[slot] && c->data[slot])
            continue;
        free(c->data[slot]);
        c->data[slot] = mem_aligned(bytes, 1);
        c->bytes[slot] = c->data[slot] ? bytes : 0;
        if (!c->data[slot])
            rc = err_nomem(err, "collected sites");
    }
    return rc;
}

void *collector_rows(const struct collector *c, enum site site, size_t layer)
{
    return c->data[site * c->reads->config->n_layers + layer];
}

void *collector_edges(const struct collector *c, enum site site, size_t layer, size_t prompt)
{
    char *data = c->data[site * c->reads->config->n_layers + layer];
    return data ? data + c->edge_offset[prompt] * real_bytes(c->precision) : NULL;
}

void collector_release(struct collector *c)
{
    size_t n = c->data ? N_SITES * c->reads->config->n_layers : 0;
    for (size_t i = 0; i < n; i++)
        free(c->data[i]);
    free(c->data);
    free(c->bytes);
    free(c->kept);
    free(c->edge_offset);
    free(c->tokens);
    free(c->first_row);
    memset(c, 0, sizeof *c);
}

void collector_widen(const void *data, enum precision precision, size_t first, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] =
            precision == PRECISION_F64 ? ((const double *)data)[first + i] : (double)((const float *)data)[first + i];
}

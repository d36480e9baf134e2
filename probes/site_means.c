#include "probes/site_means.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

struct sum {
    const struct edit *edit;
    size_t number, row_size; /* number: in the list */
    size_t n_rows;           /* seen, in each layer */
    double *values;          /* [layers of the span, row_size] */
    unsigned char *chosen;   /* [rows] of the batch at hand; points into the block */
};

struct site_means {
    struct sink sink; /* first */
    struct runtime *rt;
    struct site_set reads;
    struct sum *sums; /* [n] */
    size_t n;
};

size_t site_means_count(const struct edit_list *edits)
{
    size_t n = 0;
    for (size_t i = 0; i < edits->n; i++)
        n += edits->edits[i].source == EDIT_FROM_MEAN;
    return n;
}

static void add_view(struct sum *s, const struct site_view *v)
{
    double *values = s->values + (v->layer - s->edit->first_layer) * s->row_size;
    for (size_t r = 0; r < v->n_rows; r++)
        for (size_t i = 0; s->chosen[v->rows ? v->rows[r] : v->first_row + r] && i < s->row_size; i++)
            values[i] += site_view_at(v, r * v->row_size + i);
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct site_means *m = (struct site_means *)(void *)self;
    (void)err;
    for (size_t i = 0; i < m->n; i++) {
        const struct edit *e = m->sums[i].edit;
        if (e->site == v->site && v->layer >= e->first_layer && v->layer <= e->last_layer)
            add_view(&m->sums[i], v);
    }
    return 0;
}

static int add_sum(struct site_means *m, const struct edit_list *edits, size_t number, struct err *err)
{
    const struct edit *e = &edits->edits[number];
    struct sum *s = &m->sums[m->n++];
    size_t n_layers = e->last_layer - e->first_layer + 1;
    *s = (struct sum){ .edit = e, .number = number };
    s->row_size = site_row_size(e->site, &runtime_model(m->rt)->config);
    s->values = mem_zeroed(n_layers, s->row_size * sizeof *s->values);
    if (!s->values)
        return err_nomem(err, "means");
    for (size_t l = e->first_layer; l <= e->last_layer; l++)
        site_set_add_one(&m->reads, (struct site_ref){ e->site, l });
    return 0;
}

int site_means_create(struct site_means **out, struct runtime *rt, const struct edit_list *edits, struct err *err)
{
    struct site_means *m = mem_zeroed(1, sizeof *m);
    if (!m)
        return err_nomem(err, "means");
    m->sink.take = take;
    m->rt = rt;
    m->sums = mem_array(site_means_count(edits), sizeof *m->sums);
    int rc = site_set_init(&m->reads, &runtime_model(rt)->config, err);
    if (!rc && !m->sums)
        rc = err_nomem(err, "means");
    for (size_t i = 0; !rc && i < edits->n; i++)
        if (edits->edits[i].source == EDIT_FROM_MEAN)
            rc = add_sum(m, edits, i, err);
    if (rc)
        site_means_free(m);
    else
        *out = m;
    return rc;
}

static int choose(struct sum *s, const struct prompt *prompts, size_t n_prompts, struct err *err)
{
    for (size_t i = 0, row = 0; i < n_prompts; row += prompts[i++].n_tokens) {
        const struct prompt *p = &prompts[i];
        size_t n;
        int rc = positions_resolve(&s->edit->at, p, s->chosen + row, &n, err);
        if (rc)
            return err_prefix(err, "edit '%s' on prompt %s of the data set: ", s->edit->text ? s->edit->text : "mean",
                              p->name ? p->name : "?");
        s->n_rows += n;
    }
    return 0;
}

int site_means_add(struct site_means *m, const struct prompt *prompts, size_t n_prompts, struct err *err)
{
    size_t n_rows = 0;
    for (size_t i = 0; i < n_prompts; i++)
        n_rows += prompts[i].n_tokens;
    unsigned char *chosen = mem_zeroed(m->n, n_rows);
    if (!chosen)
        return err_nomem(err, "means");
    int rc = 0;
    for (size_t i = 0; !rc && i < m->n; i++) {
        m->sums[i].chosen = chosen + i * n_rows;
        rc = choose(&m->sums[i], prompts, n_prompts, err);
    }
    const struct forward f = { .prompts = prompts, .n_prompts = n_prompts, .reads = &m->reads, .sink = &m->sink };
    rc = rc ? rc : runtime_forward(m->rt, &f, err);
    free(chosen);
    return rc;
}

int site_means_fill(struct site_means *m, struct edit_list *edits, struct err *err)
{
    for (size_t i = 0; i < m->n; i++) {
        struct sum *s = &m->sums[i];
        struct edit *e = &edits->edits[s->number];
        size_t n_layers = e->last_layer - e->first_layer + 1, n = n_layers * s->row_size;
        if (!s->n_rows)
            return err_set(err, ERR_ARG, "edit '%s': the data set has no such token", e->text ? e->text : "mean");
        e->vector = mem_array(n, sizeof *e->vector);
        if (!e->vector)
            return err_nomem(err, "means");
        for (size_t k = 0; k < n; k++)
            e->vector[k] = (float)(s->values[k] / (double)s->n_rows);
        e->n_vectors = n_layers;
        e->source = EDIT_FROM_VECTOR;
    }
    return 0;
}

void site_means_free(struct site_means *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        free(m->sums[i].values);
    free(m->sums);
    site_set_release(&m->reads);
    free(m);
}

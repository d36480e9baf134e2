#include "probes/dump_diff.h"

#include "core/base/mem.h"
#include "core/base/strmap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows (or numbers) [a, a + n) of one file are [b, b + n) of the other. */
struct stretch {
    uint64_t a, b, n;
};

struct stretches {
    struct stretch *items;
    size_t n, capacity;
};

struct matching {
    const struct dump_data *a, *b;
    size_t *in_b; /* [a->n_prompts] the same prompt in b, or SIZE_MAX */
    struct stretches rows, edges;
    bool same_edges; /* squares of all compared prompts have the same size */
};

static int add_stretch(struct stretches *s, uint64_t a, uint64_t b, uint64_t n, struct err *err)
{
    struct stretch *last = s->n ? &s->items[s->n - 1] : NULL;
    if (last && last->a + last->n == a && last->b + last->n == b) {
        last->n += n;
        return 0;
    }
    if (!mem_grow(&s->items, &s->capacity, s->n + 1, sizeof *s->items))
        return err_nomem(err, "rows to compare");
    s->items[s->n++] = (struct stretch){ a, b, n };
    return 0;
}

/* --- prompts --- */

static bool same_prompt(const struct dump_data *a, size_t p, const struct dump_data *b, size_t q)
{
    if (strcmp(a->text[p], b->text[q]))
        return false;
    if (!a->token || !b->token)
        return true;
    size_t n = (size_t)(a->token_offset[p + 1] - a->token_offset[p]);
    return n == (size_t)(b->token_offset[q + 1] - b->token_offset[q]) &&
           !memcmp(a->token + a->token_offset[p], b->token + b->token_offset[q], n * sizeof *a->token);
}

/* Prompts of b by id: `map` gives the number of a list, head its next unused prompt, next the one after. */
struct by_id {
    struct strmap map;
    uint32_t *head, *next;
    uint32_t n_lists;
};

static int index_prompts(const struct dump_data *b, struct by_id *x, struct err *err)
{
    *x = (struct by_id){ 0 };
    x->head = mem_array(b->n_prompts, sizeof *x->head);
    x->next = mem_array(b->n_prompts, sizeof *x->next);
    if (!x->head || !x->next || strmap_init(&x->map, b->n_prompts))
        return err_nomem(err, "prompts to compare");
    /* From the end, so that lists are in order. */
    for (size_t q = b->n_prompts; q-- > 0;) {
        uint32_t list;
        if (strmap_put(&x->map, b->id[q], strlen(b->id[q]), x->n_lists, &list))
            return err_nomem(err, "prompts to compare");
        x->next[q] = list == x->n_lists ? UINT32_MAX : x->head[list];
        x->n_lists += list == x->n_lists;
        x->head[list] = (uint32_t)q;
    }
    return 0;
}

static void match_prompts(struct matching *m, struct by_id *x, struct dump_diff *out)
{
    size_t n_used = 0, first_unused = SIZE_MAX;
    for (size_t p = 0; p < m->a->n_prompts; p++) {
        uint32_t list;
        const char *id = m->a->id[p];
        m->in_b[p] = SIZE_MAX;
        if (!strmap_get(&x->map, id, strlen(id), &list) || x->head[list] == UINT32_MAX) {
            out->only_a = out->n_only_a++ ? out->only_a : id;
            continue;
        }
        size_t q = x->head[list];
        x->head[list] = x->next[q];
        n_used++;
        if (same_prompt(m->a, p, m->b, q)) {
            m->in_b[p] = q;
            out->n_prompts++;
        } else
            out->other = out->n_other++ ? out->other : id;
    }
    out->n_only_b = m->b->n_prompts - n_used;
    for (uint32_t list = 0; list < x->n_lists; list++)
        if (x->head[list] < first_unused && x->head[list] != UINT32_MAX)
            first_unused = x->head[list];
    out->only_b = first_unused == SIZE_MAX ? NULL : m->b->id[first_unused];
}

static int match_rows(struct matching *m, size_t p, size_t q, struct dump_diff *out, struct err *err)
{
    const struct dump_data *a = m->a, *b = m->b;
    size_t r = a->first_row[p], s = b->first_row[q];
    int rc = 0;
    while (!rc && r < a->first_row[p + 1] && s < b->first_row[q + 1]) {
        if (a->row_position[r] == b->row_position[s]) {
            out->n_rows++;
            rc = add_stretch(&m->rows, r++, s++, 1, err);
        } else if (a->row_position[r] < b->row_position[s]) {
            out->n_rows_only_a++;
            r++;
        } else {
            out->n_rows_only_b++;
            s++;
        }
    }
    out->n_rows_only_a += a->first_row[p + 1] - r;
    out->n_rows_only_b += b->first_row[q + 1] - s;
    return rc;
}

static int match_edges(struct matching *m, size_t p, size_t q, struct err *err)
{
    const int64_t *a = m->a->pattern_offset, *b = m->b->pattern_offset;
    if (!a || !b)
        return 0;
    if (a[p + 1] - a[p] != b[q + 1] - b[q]) {
        m->same_edges = false;
        return 0;
    }
    return add_stretch(&m->edges, (uint64_t)a[p], (uint64_t)b[q], (uint64_t)(a[p + 1] - a[p]), err);
}

static int match(struct matching *m, struct dump_diff *out, struct err *err)
{
    struct by_id x;
    m->same_edges = true;
    m->in_b = mem_array(m->a->n_prompts, sizeof *m->in_b);
    int rc = m->in_b ? index_prompts(m->b, &x, err) : err_nomem(err, "prompts to compare");
    if (!m->in_b)
        return rc;
    if (!rc)
        match_prompts(m, &x, out);
    strmap_release(&x.map);
    free(x.head);
    free(x.next);
    for (size_t p = 0; !rc && p < m->a->n_prompts; p++) {
        if (m->in_b[p] == SIZE_MAX)
            continue;
        rc = match_rows(m, p, m->in_b[p], out, err);
        rc = rc ? rc : match_edges(m, p, m->in_b[p], err);
    }
    return rc;
}

/* --- numbers --- */

enum { PIECE_BYTES = 2 << 20 };

struct sums {
    double aa, bb, ab, dd, max_abs;
    uint64_t n, at; /* item of max_abs in a */
};

static double number(const void *data, enum store_type type, size_t i)
{
    return type == STORE_F64   ? ((const double *)data)[i]
           : type == STORE_I64 ? (double)((const int64_t *)data)[i]
                               : (double)((const float *)data)[i];
}

/* first: item of a. */
static void add_numbers(struct sums *s, const void *a, const void *b, enum store_type type, size_t n, uint64_t first)
{
    for (size_t i = 0; i < n; i++) {
        double x = number(a, type, i), y = number(b, type, i), d = x - y;
        if (!isfinite(d)) {
            if (x == y || (isnan(x) && isnan(y)))
                continue;
            d = INFINITY;
        } else {
            s->aa += x * x;
            s->bb += y * y;
            s->ab += x * y;
        }
        s->dd += d * d;
        if (fabs(d) > s->max_abs) {
            s->max_abs = fabs(d);
            s->at = first + i;
        }
    }
    s->n += n;
}

struct pair {
    struct h5_dataset a, b;
    enum store_type as;
    void *numbers_a, *numbers_b;
};

static int compare_stretch(struct pair *p, const struct stretch *t, struct sums *sums, struct err *err)
{
    size_t row_bytes = p->a.row_items * store_type_size(p->as);
    uint64_t step = row_bytes && row_bytes < PIECE_BYTES ? PIECE_BYTES / row_bytes : 1;
    int rc = 0;
    for (uint64_t at = 0; !rc && at < t->n; at += step) {
        uint64_t n = t->n - at < step ? t->n - at : step;
        rc = h5_dataset_read(&p->a, t->a + at, n, p->as, p->numbers_a, err);
        rc = rc ? rc : h5_dataset_read(&p->b, t->b + at, n, p->as, p->numbers_b, err);
        if (!rc)
            add_numbers(sums, p->numbers_a, p->numbers_b, p->as, (size_t)n * p->a.row_items,
                        (t->a + at) * p->a.row_items);
    }
    return rc;
}

static bool is_integer(enum store_type type)
{
    return type == STORE_I32 || type == STORE_I64;
}

static bool same_heads(const struct h5_dataset *a, const struct h5_dataset *b)
{
    enum { MOST = 4096 };
    int64_t x[MOST], y[MOST];
    size_t n = 0, m = 0;
    bool has_a = h5_has_attribute(a->id, "heads"), has_b = h5_has_attribute(b->id, "heads");
    if (has_a != has_b)
        return false;
    return !has_a ||
           (!h5_get_ints(a->file, a->id, "heads", x, MOST, &n, NULL) &&
            !h5_get_ints(b->file, b->id, "heads", y, MOST, &m, NULL) && n == m && !memcmp(x, y, n * sizeof *x));
}

static bool same_shape(const struct matching *m, const struct pair *p, bool edges)
{
    bool same = p->a.rank == p->b.rank && p->a.rank >= 1 && same_heads(&p->a, &p->b);
    for (int i = 1; same && i < p->a.rank; i++)
        same = p->a.dims[i] == p->b.dims[i];
    return same && (!edges || (m->same_edges && p->a.rank == 1));
}

static void place(const struct dump_data *a, const struct sums *sums, size_t row_items, bool edges,
                  struct site_diff *out)
{
    out->prompt = SIZE_MAX;
    out->position = -1;
    if (!(sums->max_abs > 0))
        return;
    if (edges) {
        for (out->prompt = 0; (uint64_t)a->pattern_offset[out->prompt + 1] <= sums->at; out->prompt++)
            ;
        return;
    }
    size_t row = (size_t)(sums->at / row_items);
    out->prompt = (size_t)a->row_prompt[row];
    out->position = a->row_position[row];
}

static void summarize(const struct sums *s, struct site_diff *out)
{
    out->n = s->n;
    out->max_abs = s->max_abs;
    out->relative = !(s->dd > 0) ? 0 : s->bb > 0 ? sqrt(s->dd / s->bb) : INFINITY;
    bool a = s->aa > 0, b = s->bb > 0;
    out->cosine = a && b ? s->ab / (sqrt(s->aa) * sqrt(s->bb)) : a == b ? 1 : 0;
}

static int compare_opened(const struct matching *m, struct pair *p, bool edges, struct site_diff *out, struct err *err)
{
    if (p->a.type == STORE_TEXT || p->b.type == STORE_TEXT || is_integer(p->a.type) != is_integer(p->b.type)) {
        out->kind = SITE_DIFF_TYPE;
        return 0;
    }
    if (!same_shape(m, p, edges)) {
        out->kind = SITE_DIFF_SHAPE;
        return 0;
    }
    p->as = is_integer(p->a.type)                              ? STORE_I64
            : p->a.type == STORE_F64 || p->b.type == STORE_F64 ? STORE_F64
                                                               : STORE_F32;
    size_t row_bytes, bytes = PIECE_BYTES;
    if (!size_mul(p->a.row_items, store_type_size(p->as), &row_bytes))
        return err_nomem(err, out->name);
    bytes = row_bytes > bytes ? row_bytes : bytes;
    p->numbers_a = mem_array(bytes, 1);
    p->numbers_b = mem_array(bytes, 1);
    if (!p->numbers_a || !p->numbers_b)
        return err_nomem(err, out->name);
    const struct stretches *all = edges ? &m->edges : &m->rows;
    struct sums sums = { 0 };
    int rc = 0;
    for (size_t i = 0; !rc && i < all->n; i++)
        rc = compare_stretch(p, &all->items[i], &sums, err);
    summarize(&sums, out);
    place(m->a, &sums, p->a.row_items, edges, out);
    return rc;
}

static int compare_site(const struct matching *m, const struct dump_data_site *a, const struct dump_data_site *b,
                        struct site_diff *out, struct err *err)
{
    struct pair p = { .as = STORE_F32 };
    int rc = h5_dataset_open(&p.a, &m->a->file, a->path, err);
    if (rc)
        return rc;
    rc = h5_dataset_open(&p.b, &m->b->file, b->path, err);
    rc = rc ? rc : compare_opened(m, &p, a->edges, out, err);
    free(p.numbers_a);
    free(p.numbers_b);
    h5_dataset_close(&p.a);
    h5_dataset_close(&p.b);
    return rc;
}

/* --- sites --- */

static const struct dump_data_site *find_site(const struct dump_data *d, const char *name)
{
    for (size_t i = 0; i < d->n_sites; i++)
        if (!strcmp(d->sites[i].name, name))
            return &d->sites[i];
    return NULL;
}

static int add_site(struct dump_diff *out, const char *name, enum site_diff_kind kind, struct err *err)
{
    struct site_diff *s = &out->sites[out->n_sites];
    *s = (struct site_diff){ .name = mem_strdup(name), .kind = kind, .prompt = SIZE_MAX, .position = -1 };
    if (!s->name)
        return err_nomem(err, "names of sites");
    out->n_sites++;
    return 0;
}

static int compare_sites(const struct matching *m, struct progress *progress, struct dump_diff *out, struct err *err)
{
    const struct dump_data *a = m->a, *b = m->b;
    out->sites = mem_zeroed(a->n_sites + b->n_sites, sizeof *out->sites);
    if (!out->sites)
        return err_nomem(err, "sites to compare");
    int rc = 0;
    for (size_t i = 0; !rc && i < a->n_sites; i++) {
        const struct dump_data_site *other = find_site(b, a->sites[i].name);
        rc = add_site(out, a->sites[i].name, other ? SITE_DIFF_BOTH : SITE_DIFF_ONLY_A, err);
        if (!rc && other)
            rc = compare_site(m, &a->sites[i], other, &out->sites[out->n_sites - 1], err);
        if (!rc && progress_step(progress, i + 1, a->n_sites))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu sites", i + 1, a->n_sites);
    }
    for (size_t i = 0; !rc && i < b->n_sites; i++)
        if (!find_site(a, b->sites[i].name))
            rc = add_site(out, b->sites[i].name, SITE_DIFF_ONLY_B, err);
    return rc;
}

int dump_diff_compute(const struct dump_data *a, const struct dump_data *b, struct progress *progress,
                      struct dump_diff *out, struct err *err)
{
    struct matching m = { .a = a, .b = b };
    *out = (struct dump_diff){ 0 };
    int rc;
    if (a->kind != b->kind)
        rc = err_set(err, ERR_ARG, "%s and %s: one is a dump, the other a lens file", a->path, b->path);
    else
        rc = match(&m, out, err);
    rc = rc ? rc : compare_sites(&m, progress, out, err);
    free(m.in_b);
    free(m.rows.items);
    free(m.edges.items);
    if (rc)
        dump_diff_release(out);
    return rc;
}

void dump_diff_release(struct dump_diff *d)
{
    for (size_t i = 0; i < d->n_sites; i++)
        free(d->sites[i].name);
    free(d->sites);
    *d = (struct dump_diff){ 0 };
}

bool site_diff_is_within(const struct site_diff *s, double tolerance)
{
    return s->kind == SITE_DIFF_BOTH && (tolerance > 0 ? s->relative <= tolerance : !(s->max_abs > 0));
}

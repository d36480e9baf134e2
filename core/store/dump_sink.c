/* Sites into the write queue: rows that are kept, converted to the stored type while they are hot. */
#include "core/base/half.h"
#include "core/store/dump_internal.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* --- conversion --- */

enum { DOUBLES = 512 };

/* Index of the first finite value that is too large for the type, or n. All are converted. */
static size_t convert_floats(enum store_type type, void *out, const float *in, size_t n)
{
    switch (type) {
    case STORE_F16:
        return half_from_f32(out, in, n);
    case STORE_BF16:
        return bf16_from_f32(out, in, n);
    case STORE_F64:
        for (size_t i = 0; i < n; i++)
            ((double *)out)[i] = (double)in[i];
        return n;
    default:
        memcpy(out, in, n * sizeof *in);
        return n;
    }
}

static size_t convert_doubles(enum store_type type, void *out, const double *in, size_t n)
{
    float narrow[DOUBLES];
    if (type == STORE_F64) {
        memcpy(out, in, n * sizeof *in);
        return n;
    }
    for (size_t at = 0; at < n; at += DOUBLES) {
        size_t m = n - at < DOUBLES ? n - at : DOUBLES;
        for (size_t i = 0; i < m; i++) {
            narrow[i] = (float)in[at + i];
            if (isinf(narrow[i]) && isfinite(in[at + i]))
                return at + i;
        }
        size_t bad = convert_floats(type, (char *)out + at * store_type_size(type), narrow, m);
        if (bad < m)
            return at + bad;
    }
    return n;
}

static size_t convert(enum store_type type, void *out, const void *in, enum precision precision, size_t n)
{
    return precision == PRECISION_F64 ? convert_doubles(type, out, in, n) : convert_floats(type, out, in, n);
}

/* --- pieces: consecutive stored rows, in the queue's memory --- */

struct piece {
    const struct dump_writer *w;
    const struct dump_site *site;
    const struct site_view *view;
    char *out;
    size_t first, n;   /* rows of the view: kept ones from `first` on, n of them; or numbers, of EDGES sites */
    size_t *rows;      /* [n] view rows, NULL: consecutive */
    size_t share;      /* rows (numbers) a task */
    atomic_size_t bad; /* view row with an overflow, SIZE_MAX: none */
};

static void note_bad(struct piece *p, size_t row)
{
    size_t seen = atomic_load(&p->bad);
    while (row < seen && !atomic_compare_exchange_weak(&p->bad, &seen, row))
        ;
}

static size_t real_bytes(const struct site_view *v)
{
    return v->precision == PRECISION_F64 ? sizeof(double) : sizeof(float);
}

static void convert_row(struct piece *p, size_t i)
{
    const struct dump_site *site = p->site;
    enum store_type type = p->w->plan.provenance->dtype;
    size_t row = p->rows ? p->rows[i] : p->first + i;
    char *out = p->out + i * site->row_items * p->w->item;
    const char *in = site_view_row(p->view, row);
    size_t n_pieces = site->heads ? site->dims[0] : 1, n = site->row_items / n_pieces;
    for (size_t k = 0; k < n_pieces; k++) {
        const char *from = site->heads ? in + site->heads[k] * n * real_bytes(p->view) : in;
        if (convert(type, out + k * n * p->w->item, from, p->view->precision, n) < n)
            note_bad(p, row);
    }
}

static void convert_share(void *arg, size_t task, int worker)
{
    struct piece *p = arg;
    size_t begin = task * p->share, end = begin + p->share < p->n ? begin + p->share : p->n;
    (void)worker;
    if (p->view->row_size == p->site->row_items && !p->rows) {
        size_t n = (end - begin) * p->site->row_items;
        const char *in = site_view_row(p->view, p->first + begin);
        size_t bad = convert(p->w->plan.provenance->dtype, p->out + begin * p->site->row_items * p->w->item, in,
                             p->view->precision, n);
        if (bad < n)
            note_bad(p, p->first + begin + bad / p->site->row_items);
        return;
    }
    for (size_t i = begin; i < end; i++)
        convert_row(p, i);
}

/* Numbers that make a task worth its hand-over (a few us). */
enum { SHARE_NUMBERS = 1 << 15 };

static void convert_piece(struct piece *p)
{
    size_t least = SHARE_NUMBERS / p->site->row_items;
    p->share = least ? least : 1;
    size_t n_tasks = (p->n + p->share - 1) / p->share;
    if (p->w->plan.pool && n_tasks > 1)
        pool_run(p->w->plan.pool, n_tasks, convert_share, p);
    else
        for (size_t task = 0; task < n_tasks; task++)
            convert_share(p, task, 0);
}

/* at: row of the view; of EDGES sites the number in [n_heads, n_tokens, n_tokens]. */
static int overflow(const struct piece *p, size_t at, struct err *err)
{
    const struct site_view *v = p->view;
    const struct batch *batch = p->w->batch;
    char name[SITE_NAME_MAX];
    size_t row = v->rows ? v->rows[at] : v->first_row + at, prompt = 0;
    if (site_row(v->site)->axes == AXES_EDGES) {
        size_t n_tokens = batch->prompts[v->prompt].n_tokens;
        row = v->first_row + at / n_tokens % n_tokens;
    }
    while (prompt + 1 < batch->n && row >= batch->row_offset[prompt + 1])
        prompt++;
    return err_set(err, ERR_NUMERIC, "%s of prompt %zu (%.100s), row of position %zu, overflows %s: use --dtype %s",
                   site_name(p->site->ref, name), batch->first_prompt + prompt, batch->items[prompt].id,
                   row - batch->row_offset[prompt], store_type_name(p->w->plan.provenance->dtype),
                   v->precision == PRECISION_F64 ? "f64" : "f32 or bf16");
}

/* Converts p->n rows into the queue and sends them as stored rows [stored, stored + n), counted over the whole file. */
static int send(struct dump_writer *w, struct piece *p, uint64_t stored, struct err *err)
{
    size_t bytes = p->n * p->site->row_items * w->item;
    p->out = stream_reserve(w->stream, &bytes, err);
    if (!p->out)
        return err ? err->code : ERR_IO;
    atomic_store(&p->bad, SIZE_MAX);
    convert_piece(p);
    size_t bad = atomic_load(&p->bad);
    if (bad != SIZE_MAX)
        return overflow(p, bad, err);
    stream_send(w->stream, p->site->dataset, stored * p->site->row_items * w->item, bytes);
    return 0;
}

/* Rows that surely fit one reservation. */
static size_t rows_a_piece(const struct dump_writer *w, const struct dump_site *site)
{
    size_t n = WRITE_QUEUE_PIECE / (site->row_items * w->item);
    return n ? n : 1;
}

static int take_rows(struct dump_writer *w, struct dump_site *site, const struct site_view *v, struct err *err)
{
    enum { MOST = 1024 };
    size_t rows[MOST], most = rows_a_piece(w, site) < MOST ? rows_a_piece(w, site) : MOST;
    struct piece piece = { .w = w, .site = site, .view = v };
    int rc = 0;
    for (size_t r = 0; !rc && r < v->n_rows;) {
        size_t n = 0, first_kept = 0;
        bool consecutive = true;
        for (; r < v->n_rows && n < most; r++) {
            size_t kept = w->kept[v->rows ? v->rows[r] : v->first_row + r];
            if (kept == SIZE_MAX)
                continue;
            first_kept = n ? first_kept : kept;
            consecutive = consecutive && (!n || r == rows[n - 1] + 1);
            rows[n++] = r;
        }
        if (!n)
            break;
        piece.first = rows[0];
        piece.n = n;
        piece.rows = consecutive ? NULL : rows;
        rc = send(w, &piece, w->counts_done.rows + first_kept, err);
        site->arrived += n * site->row_items;
    }
    return rc;
}

/* The whole square of a prompt as flat numbers. */
static int take_edges(struct dump_writer *w, struct dump_site *site, const struct site_view *v, struct err *err)
{
    size_t all = v->n_rows * v->row_size;
    uint64_t stored = w->counts_done.edges + w->edge_offset[v->prompt];
    struct site_view flat = *v;
    struct piece piece = { .w = w, .site = site, .view = &flat };
    int rc = 0;
    flat.n_rows = all;
    flat.row_size = 1;
    for (size_t at = 0; !rc && at < all; at += piece.n) {
        size_t most = rows_a_piece(w, site);
        piece.first = at;
        piece.n = all - at < most ? all - at : most;
        rc = send(w, &piece, stored + at, err);
    }
    site->arrived += all;
    return rc;
}

int dump_sink_take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct dump_writer *w = (struct dump_writer *)(void *)self;
    size_t slot = w->slots[v->site * w->plan.sites->config->n_layers + v->layer];
    if (!slot)
        return 0;
    struct dump_site *site = &w->sites[slot - 1];
    return site_row(v->site)->axes == AXES_EDGES ? take_edges(w, site, v, err) : take_rows(w, site, v, err);
}

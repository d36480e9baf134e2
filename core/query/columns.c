#include "core/query/columns.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/suggest.h"
#include "core/query/resolve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 20, BLOCK_TEXTS = 1024, MOST_ROW_BYTES = 1 << 28, MOST_VECTOR = 1 << 24 };

/* --- indices --- */

struct axis {
    const struct expression *e;
    const struct expression_node *node;
    const struct query_file *file;
    const struct query_field *field;
    size_t number; /* which axis */
    struct err *err;
};

static int pick_label(const struct axis *a, const struct expression_index *index, struct query_pick *out)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    char **labels = a->number ? NULL : a->field->labels;
    if (!labels)
        return expression_fail(a->e, index->begin, a->err, ERR_ARG, "this axis of %s has no labels: give a number",
                               a->field->name);
    suggest_init(&s, index->label, strlen(index->label));
    for (size_t i = 0; i < a->field->axes[0]; i++) {
        if (!strcmp(labels[i], index->label)) {
            *out = (struct query_pick){ PICK_ONE, (int64_t)i, 1 };
            return 0;
        }
        suggest_consider(&s, labels[i]);
    }
    return expression_fail(a->e, index->begin, a->err, ERR_NOTFOUND, "no '%.100s' on this axis of %s%s", index->label,
                           a->field->name, suggest_text(&s, "", hint));
}

/* A dump of single heads: head 5 stands where it was stored. */
static int pick_member(const struct axis *a, const struct expression_index *index, struct query_pick *out)
{
    struct strbuf stored = STRBUF_INIT;
    for (size_t i = 0; i < a->field->axes[0]; i++) {
        if (a->field->members[i] == index->from) {
            *out = (struct query_pick){ PICK_ONE, (int64_t)i, 1 };
            strbuf_release(&stored);
            return 0;
        }
        if (stored.len < 200)
            strbuf_addf(&stored, "%s%lld", i ? ", " : "", (long long)a->field->members[i]);
    }
    int rc = expression_fail(a->e, index->begin, a->err, ERR_NOTFOUND, "head %lld of %s is not stored, only %s",
                             (long long)index->from, a->field->leaf, strbuf_text(&stored));
    strbuf_release(&stored);
    return rc;
}

static int pick_number(const struct axis *a, const struct expression_index *index, struct query_pick *out)
{
    size_t n = a->field->axes[a->number];
    int64_t at = n && index->from < 0 ? index->from + (int64_t)n : index->from;
    if (!a->number && a->field->members)
        return pick_member(a, index, out);
    if (n && (at < 0 || (uint64_t)at >= n))
        return expression_fail(a->e, index->begin, a->err, ERR_ARG,
                               "%lld is past the end of axis %zu of %s, which has %zu", (long long)index->from,
                               a->number + 1, a->field->name, n);
    *out = (struct query_pick){ PICK_ONE, at, 1 };
    return 0;
}

static int pick_range(const struct axis *a, const struct expression_index *index, struct query_pick *out)
{
    size_t n = a->field->axes[a->number];
    *out = (struct query_pick){ PICK_SEVERAL, 0, n };
    if (!a->number && a->field->members && (index->has_from || index->has_to))
        return expression_fail(a->e, index->begin, a->err, ERR_ARG,
                               "%s has only some of the heads: take one, or all that there are (:)", a->field->leaf);
    if (!n && (index->has_from || index->has_to))
        return expression_fail(a->e, index->begin, a->err, ERR_ARG,
                               "prompts differ in length: of tokens take one, all of them (:) or subject");
    int64_t from = index->has_from ? index->from : 0, to = index->has_to ? index->to : (int64_t)n;
    from += from < 0 ? (int64_t)n : 0;
    to += to < 0 ? (int64_t)n : 0;
    if (n && (from < 0 || to > (int64_t)n || from >= to))
        return expression_fail(a->e, index->begin, a->err, ERR_ARG,
                               "the range must lie in axis %zu of %s, which has %zu, and hold something", a->number + 1,
                               a->field->name, n);
    if (n)
        *out = (struct query_pick){ PICK_SEVERAL, from, (size_t)(to - from) };
    return 0;
}

static int pick(const struct axis *a, const struct expression_index *index, struct query_pick *out)
{
    switch (index->kind) {
    case INDEX_LABEL:
        return pick_label(a, index, out);
    case INDEX_RANGE:
        return pick_range(a, index, out);
    case INDEX_SUBJECT:
        if (a->field->axes[a->number])
            return expression_fail(a->e, index->begin, a->err, ERR_ARG, "axis %zu of %s does not count tokens",
                                   a->number + 1, a->field->name);
        if (!a->file->subject_begin)
            return expression_fail(a->e, index->begin, a->err, ERR_NOTFOUND, "%s does not say where the subjects are",
                                   a->file->path);
        *out = (struct query_pick){ PICK_SUBJECT, 0, 0 };
        return 0;
    default:
        return pick_number(a, index, out);
    }
}

/* L3H2 on an axis with such a label (lens --site heads) is one index, not two. */
static bool is_unit_label(const struct axis *a, const struct expression_index *index)
{
    bool found = false;
    for (size_t i = 0; index->kind == INDEX_UNIT && !a->number && a->field->labels && i < a->field->axes[0]; i++)
        found |= !strcmp(a->field->labels[i], index->label);
    return found;
}

static int too_many(const struct axis *a, const struct expression_index *index, size_t taken)
{
    return expression_fail(a->e, index->begin, a->err, ERR_ARG, "too many indices: %s has %d", a->field->name,
                           a->field->n_axes + (int)taken);
}

/* indices from `taken` on become picks, what is left of the axes is kept whole. */
static int pick_all(struct axis *a, size_t taken, struct query_view *view)
{
    size_t at = a->node->index + taken, end = a->node->index + a->node->n_indices;
    for (int i = 0; i < a->field->n_axes; i++) {
        view->picks[i] = (struct query_pick){ PICK_SEVERAL, 0, a->field->axes[i] };
        if (at == end)
            continue;
        const struct expression_index *index = &a->e->indices[at];
        a->number = (size_t)i;
        int rc =
            is_unit_label(a, index) ? (at++, pick_label(a, index, &view->picks[i])) : pick(a, index, &view->picks[i]);
        if (rc)
            return rc;
        at++;
    }
    return at < end ? too_many(a, &a->e->indices[at], taken) : 0;
}

/* --- binding --- */

static int set_type(const struct axis *a, struct query_view *view)
{
    int kept = 0;
    view->type = (struct query_type){ .kind = a->field->type == STORE_TEXT ? QUERY_TEXT : QUERY_NUMBER };
    for (int i = 0; i < a->field->n_axes; i++) {
        const struct query_pick *p = &view->picks[i];
        if (p->kind == PICK_ONE)
            continue;
        bool tokens = !a->field->axes[i];
        kept++;
        view->type = (struct query_type){ QUERY_VECTOR,
                                          p->kind == PICK_SUBJECT ? QUERY_LENGTH_SUBJECT
                                          : tokens                ? QUERY_LENGTH_TOKENS
                                                                  : QUERY_LENGTH_FIXED,
                                          view->file, tokens ? a->file->most_tokens : p->n };
    }
    if (kept > 1)
        return expression_fail(a->e, a->node->end, a->err, ERR_ARG,
                               "%d axes of %s are left, at most one can be: give more indices", kept, a->field->name);
    if (view->type.n > MOST_VECTOR)
        return expression_fail(a->e, a->node->place, a->err, ERR_ARG, "%s: vectors of more than %d numbers",
                               a->field->name, MOST_VECTOR);
    return 0;
}

/* Where the picks of axes that are stored in a row lie in it. */
static void set_strides(struct query_view *view)
{
    const struct query_field *field = view->field;
    size_t step = 1;
    view->count = 1;
    int first = field->layout == QUERY_TOKENS || field->layout == QUERY_EDGES;
    for (int i = field->n_axes - 1; i >= first && field->layout != QUERY_EDGES; i--) {
        view->base += (size_t)view->picks[i].first * step;
        if (view->picks[i].kind == PICK_SEVERAL) {
            view->stride = step;
            view->count = view->picks[i].n;
        }
        step *= field->axes[i];
    }
}

static int add_column(struct query_columns *c, size_t file, const struct query_field *field, size_t *out,
                      struct err *err)
{
    for (*out = 0; *out < c->n; ++*out)
        if (c->columns[*out].file == file && !strcmp(c->columns[*out].set.name, field->path))
            return 0;
    if (!mem_grow(&c->columns, &c->capacity, c->n + 1, sizeof *c->columns))
        return err_nomem(err, "columns");
    struct query_column *column = &c->columns[c->n];
    *column = (struct query_column){ .file = file, .ahead = 1 };
    int rc = h5_dataset_open(&column->set, &c->files->files[file].h5, field->path, err);
    if (rc)
        return rc;
    c->n++;
    enum store_type type = column->set.type;
    column->as = type == STORE_TEXT                       ? STORE_TEXT
                 : type == STORE_I32 || type == STORE_I64 ? STORE_I64
                 : type == STORE_F64                      ? STORE_F64
                                                          : STORE_F32;
    if (!size_mul(column->set.row_items, store_type_size(column->as), &column->row_bytes) ||
        column->row_bytes > MOST_ROW_BYTES)
        return err_set(err, ERR_UNSUPPORTED, "%s: rows of '%s' are larger than %d MiB", c->files->files[file].path,
                       field->path, MOST_ROW_BYTES >> 20);
    column->most = column->as == STORE_TEXT ? BLOCK_TEXTS : BLOCK_BYTES / column->row_bytes;
    column->most = column->most ? column->most : 1;
    return 0;
}

int query_columns_bind(struct query_columns *c, const struct expression *e, const struct expression_node *node,
                       struct query_view *out, struct err *err)
{
    size_t taken = 0;
    *out = (struct query_view){ 0 };
    int rc = query_resolve(c->files, e, node, &out->file, &out->field, &taken, err);
    if (rc)
        return rc;
    struct axis axis = { e, node, &c->files->files[out->file], out->field, 0, err };
    rc = pick_all(&axis, taken, out);
    rc = rc ? rc : set_type(&axis, out);
    if (rc)
        return rc;
    set_strides(out);
    out->zero_is_missing = axis.file->is_lens && !strcmp(out->field->path, "/lens/rank");
    return add_column(c, out->file, out->field, &out->column, err);
}

void query_columns_init(struct query_columns *c, const struct query_files *files)
{
    *c = (struct query_columns){ .files = files };
}

static void drop_texts(struct query_column *column)
{
    for (uint64_t i = 0; column->as == STORE_TEXT && i < column->n; i++)
        free(((char **)column->block)[i]);
    column->n = 0;
}

void query_columns_release(struct query_columns *c)
{
    for (size_t i = 0; i < c->n; i++) {
        drop_texts(&c->columns[i]);
        free(c->columns[i].block);
        h5_dataset_close(&c->columns[i].set);
    }
    free(c->columns);
    *c = (struct query_columns){ 0 };
}

/* --- reading --- */

static int fill(struct query_column *column, uint64_t first, uint64_t n, struct err *err)
{
    if (n > column->capacity) {
        size_t bytes;
        drop_texts(column);
        free(column->block);
        column->capacity = 0;
        column->block = size_mul((size_t)n, column->row_bytes, &bytes) ? mem_array(bytes, 1) : NULL;
        if (!column->block)
            return err_nomem(err, "a block of rows");
        column->capacity = (size_t)n;
    }
    drop_texts(column);
    int rc = column->as == STORE_TEXT ? h5_dataset_read_text(&column->set, first, n, column->block, err)
                                      : h5_dataset_read(&column->set, first, n, column->as, column->block, err);
    column->first = first;
    column->n = rc ? 0 : n;
    return rc;
}

/* Rows [first, first + n) of the dataset; *out is borrowed until the next call for this column. */
static int get_rows(struct query_column *column, uint64_t first, uint64_t n, const char **out, struct err *err)
{
    uint64_t end = column->first + column->n;
    if (first < column->first || first + n > end) {
        bool onwards = first >= column->first && first - column->first <= column->n + column->most;
        column->ahead = !onwards ? 1 : column->ahead * 2 < column->most ? column->ahead * 2 : column->most;
        uint64_t rows = n > column->ahead ? n : column->ahead;
        if (first < column->set.dims[0] && rows > column->set.dims[0] - first)
            rows = column->set.dims[0] - first;
        int rc = fill(column, first, rows < n ? n : rows, err);
        if (rc)
            return rc;
    }
    *out = (const char *)column->block + (size_t)(first - column->first) * column->row_bytes;
    return 0;
}

static double item(const struct query_column *column, const char *row, size_t i)
{
    switch (column->as) {
    case STORE_F32:
        return (double)((const float *)(const void *)row)[i];
    case STORE_F64:
        return ((const double *)(const void *)row)[i];
    default:
        return (double)((const int64_t *)(const void *)row)[i];
    }
}

/* What the fixed axes pick in one row. */
static void take_items(const struct query_view *view, const struct query_column *column, const char *row, double *out)
{
    if (column->as == STORE_F32 && view->stride == 1) { /* a state: what most of the time goes to */
        const float *from = (const float *)(const void *)row + view->base;
        for (size_t i = 0; i < view->count; i++)
            out[i] = (double)from[i];
        return;
    }
    for (size_t i = 0; i < view->count; i++) {
        out[i] = item(column, row, view->base + i * view->stride);
        if (view->zero_is_missing && out[i] == 0)
            out[i] = NAN;
    }
}

struct tokens {
    size_t first, n, all;
    bool none; /* a single token that the prompt does not have */
};

static struct tokens picked_tokens(const struct query_file *file, const struct query_pick *pick, size_t prompt)
{
    struct tokens t = { .all = (size_t)(file->token_offset[prompt + 1] - file->token_offset[prompt]) };
    if (pick->kind == PICK_SUBJECT) {
        t.first = (size_t)file->subject_begin[prompt];
        t.n = (size_t)(file->subject_end[prompt] - file->subject_begin[prompt]);
    } else if (pick->kind == PICK_SEVERAL)
        t.n = t.all;
    else {
        int64_t at = pick->first < 0 ? pick->first + (int64_t)t.all : pick->first;
        t.none = at < 0 || (uint64_t)at >= t.all;
        t.first = t.none ? 0 : (size_t)at;
        t.n = 1;
    }
    return t;
}

static int take_tokens(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                       double *out, size_t *n, struct err *err)
{
    const struct query_file *file = &c->files->files[view->file];
    struct query_column *column = &c->columns[view->column];
    const struct tokens t = picked_tokens(file, &view->picks[0], place->prompt);
    const char *rows = NULL;
    *n = t.n * view->count;
    if (t.none || !*n) {
        for (size_t i = 0; i < *n; i++)
            out[i] = NAN;
        return 0;
    }
    int rc = get_rows(column, (uint64_t)file->token_offset[place->prompt] + t.first, t.n, &rows, err);
    for (size_t i = 0; !rc && i < t.n; i++)
        take_items(view, column, rows + i * column->row_bytes, out + i * view->count);
    return rc;
}

/* From this row's position (its prompt's last where the file has no rows) to the picked keys. */
static int take_edges(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                      double *out, size_t *n, struct err *err)
{
    const struct query_file *file = &c->files->files[view->file];
    struct query_column *column = &c->columns[view->column];
    const struct tokens t = picked_tokens(file, &view->picks[1], place->prompt);
    size_t query = file->has_rows ? (size_t)file->row_position[place->row] : t.all - 1;
    *n = 0;
    for (size_t h = 0; h < view->picks[0].n; h++) {
        size_t head = (size_t)view->picks[0].first + h;
        uint64_t at = (uint64_t)file->pattern_offset[place->prompt] + (head * t.all + query) * t.all + t.first;
        const char *edges = NULL;
        int rc = t.none || !t.n ? 0 : get_rows(column, at, t.n, &edges, err);
        if (rc)
            return rc;
        for (size_t k = 0; k < t.n; k++)
            out[(*n)++] = t.none ? NAN : item(column, edges, k);
    }
    return 0;
}

int query_view_numbers(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                       double *out, size_t *n, struct err *err)
{
    struct query_column *column = &c->columns[view->column];
    const char *row = NULL;
    if (view->field->layout == QUERY_TOKENS)
        return take_tokens(c, view, place, out, n, err);
    if (view->field->layout == QUERY_EDGES)
        return take_edges(c, view, place, out, n, err);
    int rc = get_rows(column, view->field->layout == QUERY_ROWS ? place->row : place->prompt, 1, &row, err);
    if (rc)
        return rc;
    take_items(view, column, row, out);
    *n = view->count;
    return 0;
}

int query_view_text(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                    const char **out, struct err *err)
{
    const char *row = NULL;
    int rc = get_rows(&c->columns[view->column], view->field->layout == QUERY_ROWS ? place->row : place->prompt, 1,
                      &row, err);
    if (!rc)
        *out = *(char *const *)(const void *)row;
    return rc;
}

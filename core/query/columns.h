/*
 * Fields as an expression names them, read in blocks: `rank["final_post"]`,
 * `z[17,5]`, `pattern[L17H5, subject]`.
 *
 *     struct query_columns c;
 *     query_columns_init(&c, &files);
 *     struct query_view view;
 *     if (query_columns_bind(&c, &e, node, &view, &err)) ...        // "column 9: no field 'rnak' ..."
 *     if (query_view_numbers(&c, &view, &places[view.file], out, &n, &err)) ...
 *     query_columns_release(&c);
 *
 * A dataset is read once however often it is named, in blocks of about 1 MiB
 * that grow while units come in order, or of single rows where they do not.
 */
#ifndef STRATA_QUERY_COLUMNS_H
#define STRATA_QUERY_COLUMNS_H

#include "core/query/files.h"

enum query_kind { QUERY_NUMBER, QUERY_VECTOR, QUERY_TEXT };
/* Lengths of vectors that differ from unit to unit fit each other if they count the same things of the same file. */
enum query_length { QUERY_LENGTH_FIXED, QUERY_LENGTH_TOKENS, QUERY_LENGTH_SUBJECT };

struct query_type {
    enum query_kind kind;
    enum query_length length; /* VECTOR */
    size_t file;              /* whose tokens */
    size_t n;                 /* VECTOR: how many, or how many at most */
};

/* Which of an axis' items. */
struct query_pick {
    enum { PICK_ONE, PICK_SEVERAL, PICK_SUBJECT } kind;
    int64_t first; /* negative, of tokens only: from the end */
    size_t n;
};

struct query_view {
    struct query_type type;
    size_t file, column;
    const struct query_field *field; /* borrowed from the files */
    struct query_pick picks[H5_MAX_RANK];
    size_t base, stride, count; /* in a row of the dataset: what the fixed axes pick */
    bool zero_is_missing;       /* ranks of lens files: 0 where there is no answer */
};

struct query_column {
    struct h5_dataset set;
    size_t file;
    enum store_type as; /* of the block: F32, F64, I64, TEXT */
    size_t row_bytes;
    uint64_t first, n, ahead, most; /* rows in the block; how many the next read takes, at most */
    void *block;
    size_t capacity; /* rows */
};

struct query_columns {
    const struct query_files *files; /* borrowed */
    struct query_column *columns;
    size_t n, capacity;
};

void query_columns_init(struct query_columns *c, const struct query_files *files);
void query_columns_release(struct query_columns *c);
/* node: a FIELD. ERR_NOTFOUND, ERR_ARG with the place; file errors as they are. */
int query_columns_bind(struct query_columns *c, const struct expression *e, const struct expression_node *node,
                       struct query_view *out, struct err *err);
/* NUMBER, VECTOR: out[type.n], *n of them. What is not there (a token past the end, a rank of 0) is NaN. */
int query_view_numbers(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                       double *out, size_t *n, struct err *err);
/* TEXT: *out is borrowed until the next call for the same dataset. */
int query_view_text(struct query_columns *c, const struct query_view *view, const struct query_place *place,
                    const char **out, struct err *err);

#endif

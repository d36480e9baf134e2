/*
 * Expressions over the fields of files: types are checked once, values are
 * computed unit by unit.
 *
 *     struct query_columns columns;
 *     struct query *query;
 *     query_columns_init(&columns, &files);
 *     if (query_bind(&query, &columns, &expression, &err)) ...        // "column 9: no field 'rnak' in l.h5: ..."
 *     for (uint64_t u = 0; u < query_files_units(&files); u++)
 *         if (query_files_find(&files, u, places) && !query_evaluate(query, places, &err))
 *             if (query_is_true(query_value(query, 0).number)) ...
 *     query_free(query);
 *     query_columns_release(&columns);
 *
 * Operators work on vectors item by item, against a number with that number each
 * time. Comparisons and logic give 1 or 0; every comparison with a missing number
 * (NaN), != too, gives 0. Texts compare by bytes; `~` is a glob (glob.h).
 */
#ifndef STRATA_QUERY_EVALUATE_H
#define STRATA_QUERY_EVALUATE_H

#include "core/query/columns.h"

struct query;

struct query_value {
    enum query_kind kind;
    double number;
    const double *items; /* [n] VECTOR; borrowed until the next evaluation, as is the text */
    size_t n;
    const char *text;
};

/* columns, which several queries can share, and e are borrowed and must outlive the query. */
int query_bind(struct query **out, struct query_columns *columns, const struct expression *e, struct err *err);
void query_free(struct query *q); /* NULL is fine */
struct query_type query_root_type(const struct query *q, size_t root);
struct query_type query_node_type(const struct query *q, size_t node);
/* ERR_ARG with the place unless the root is a number: a condition must say yes or no. */
int query_check_condition(const struct query *q, size_t root, struct err *err);
/* Values of all roots for the unit at these places (query_files_find). */
int query_evaluate(struct query *q, const struct query_place *places, struct err *err);
struct query_value query_value(const struct query *q, size_t root);

#endif

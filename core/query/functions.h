/*
 * The functions of query expressions, one row of a table each.
 *
 *     const struct query_function *f = query_function_find("norm");
 *     double x = f->reduce(v, n);
 *
 * Truth is "not 0 and not missing". Missing is NaN: sum, mean, min, max, argmin,
 * argmax and norm leave it out, in the others it makes a result missing. Indices
 * count from 0.
 */
#ifndef STRATA_QUERY_FUNCTIONS_H
#define STRATA_QUERY_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum query_function_kind {
    FUNCTION_REDUCE,  /* a vector -> a number */
    FUNCTION_PAIR,    /* two vectors of one length -> a number */
    FUNCTION_MAP,     /* a number -> a number, a vector item by item */
    FUNCTION_MISSING, /* MAP that takes a text as well */
};

struct query_function {
    const char *name;
    enum query_function_kind kind;
    double (*reduce)(const double *v, size_t n);
    double (*pair)(const double *a, const double *b, size_t n);
    double (*map)(double x);
};

bool query_is_true(double x);
/* NULL where there is none; the i-th, NULL past the end. */
const struct query_function *query_function_find(const char *name);
const struct query_function *query_function_at(size_t i);

#endif
